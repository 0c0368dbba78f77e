//! What a build can run on, on the machine that it is on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Backend;

/// A device of this machine, and whether this build can run on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceHere {
    /// What `--device` takes: `cpu`, `cuda:0`, `metal`; `cuda` of cards that this build cannot
    /// number.
    pub device: String,
    /// What it computes with.
    pub backend: Backend,
    /// Whether this build has the backend.
    #[serde(rename = "built")]
    pub is_built: bool,
    /// Whether the device was opened.
    #[serde(rename = "usable")]
    pub is_usable: bool,
    /// Name in files and keys, where it was opened.
    pub id: Option<String>,
    /// Name of the processor or GPU, where it is known.
    pub name: Option<String>,
    /// Its memory.
    pub memory_bytes: Option<u64>,
    /// Memory that a model can still take.
    pub available_bytes: Option<u64>,
    /// Why it cannot be used: what the driver reported, or what the build lacks.
    pub reason: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}
