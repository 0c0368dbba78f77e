//! Passes on what cargo knows about the build: the target and the CPU features it may use.

fn main() {
    for (name, key) in [
        ("TARGET", "FORETOKEN_TARGET"),
        ("PROFILE", "FORETOKEN_PROFILE"),
        ("CARGO_CFG_TARGET_FEATURE", "FORETOKEN_TARGET_FEATURES"),
    ] {
        let value = std::env::var(name).unwrap_or_default();
        println!("cargo::rustc-env={key}={value}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
