//! How this binary was built, for every file that it writes.

use foretoken_spec::ToolInfo;

/// The tool as measurements record it; `version` is the caller's.
pub fn tool_info(version: &str) -> ToolInfo {
    ToolInfo {
        version: version.to_owned(),
        profile: env!("FORETOKEN_PROFILE").to_owned(),
        target: env!("FORETOKEN_TARGET").to_owned(),
        target_features: env!("FORETOKEN_TARGET_FEATURES").to_owned(),
    }
}
