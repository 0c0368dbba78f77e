//! Answer of `fit-devices`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Phase, ReasonCount};

/// A model of all devices that was fitted and written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FitDevicesReport {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// File that was written.
    pub file: String,
    /// Files that were read.
    pub data: Vec<String>,
    /// Rows that were read.
    pub rows_read: u32,
    /// Rows that the model may know.
    pub rows_usable: u32,
    /// Configurations that it keeps: medians of rows, at most so many of each device.
    pub configurations: u32,
    /// The parts that are fitted apart.
    pub domains: Vec<FittedDomain>,
    /// Rows that were left out, by reason.
    pub left_out: Vec<ReasonCount>,
    /// Time that it took.
    pub seconds: f64,
}

/// One phase on one kind of processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FittedDomain {
    /// `cpu` or `gpu`.
    pub processor: String,
    /// Phase.
    pub phase: Phase,
    /// Configurations behind it.
    pub configurations: u32,
    /// Devices behind it.
    pub devices: u32,
}
