//! What the files do not tell and the person who imports them does.

/// What is told beside the files; it fills what they leave open, and never contradicts them
/// silently.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Device.
    pub device_id: Option<String>,
    /// `cpu`, `gpu`, `igpu` or `soc`.
    pub device_kind: Option<String>,
    /// Engine.
    pub runtime: Option<String>,
    /// Backend that was used, where the file names several.
    pub backend: Option<String>,
    /// Model id.
    pub model: Option<String>,
    /// Where the numbers were published.
    pub source_url: Option<String>,
    /// When.
    pub source_date: Option<String>,
}

impl Origin {
    /// What is told for a column.
    pub(crate) fn cell(&self, column: &str) -> Option<&str> {
        match column {
            "device_id" => self.device_id.as_deref(),
            "device_kind" => self.device_kind.as_deref(),
            "runtime" => self.runtime.as_deref(),
            "backend" => self.backend.as_deref(),
            "model" => self.model.as_deref(),
            "source_url" => self.source_url.as_deref(),
            "source_date" => self.source_date.as_deref(),
            _ => None,
        }
    }
}
