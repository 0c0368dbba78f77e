//! Answer of `import`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an import read, what it left out, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImportReport {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// File that was written, where one was asked for.
    pub out: Option<String>,
    /// Rows that were written: those that may be used and those that are excluded.
    pub rows: u32,
    /// Rows that may be used.
    pub usable: u32,
    /// Rows that repeated an earlier one in every field and were dropped.
    pub repeated: u32,
    /// The files, in the order given.
    pub files: Vec<ImportedFile>,
    /// Rows by engine, backend, kind of device and phase.
    pub groups: Vec<ImportedGroup>,
    /// Why rows are listed and not used.
    pub excluded: Vec<ReasonCount>,
    /// What readers should weigh.
    pub flags: Vec<ReasonCount>,
    /// What could not be understood and was kept out.
    pub problems: Vec<ImportProblem>,
    /// What is odd but harmless.
    pub warnings: Vec<String>,
}

/// One file of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportedFile {
    /// Its name; `-` is standard input.
    pub file: String,
    /// Formats that were found in it.
    pub formats: Vec<String>,
    /// Rows that were read.
    pub rows: u32,
    /// Pieces that could not be understood.
    pub problems: u32,
    /// Lines around the data that are none: logs, headings.
    pub other_lines: u32,
}

/// Rows that share engine, backend, kind of device and phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportedGroup {
    /// Engine.
    pub runtime: String,
    /// Backend.
    pub backend: String,
    /// Kind of device, or null where it is not told.
    pub device_kind: Option<String>,
    /// Phase, or ggml's operation.
    pub phase: String,
    /// Rows.
    pub rows: u32,
    /// Rows that may be used.
    pub usable: u32,
    /// Devices among the usable rows.
    pub devices: u32,
    /// Models among the usable rows; shapes of an operation.
    pub models: u32,
}

/// How often a reason was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReasonCount {
    /// The reason.
    pub reason: String,
    /// Rows.
    pub rows: u32,
}

/// Something that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportProblem {
    /// File.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub reason: String,
}
