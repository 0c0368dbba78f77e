//! What a command answers, as a table, JSON, CSV or Markdown.
//!
//! Every answer is a [`Report`]: it says once how it reads ([`Report::sheets`]) and once what a
//! spreadsheet gets ([`Report::records`]); JSON is the type itself. Nothing here prints.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod calibrate;
mod devices;
mod energy;
mod fit_devices;
#[cfg(test)]
mod golden;
mod here;
mod import;
mod inspect;
mod live;
mod measure;
mod models;
mod predict;
mod probe;
mod profile;
pub mod schema;
mod sheet;
mod summary;
#[cfg(test)]
mod testing;
pub mod units;
mod validate;

pub use calibrate::Calibrated;
pub use devices::Devices;
pub use here::DevicesHere;
pub use live::{LiveState, live_line, sparkline};
pub use measure::Measured;
pub use models::Models;
pub use predict::Predictions;
pub use profile::Profiled;
pub use schema::schemas;
pub use sheet::{Align, Column, Records, Sheet};
pub use summary::summarise;

use serde::Serialize;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// The promised names; see `docs/schema`.
    Json,
    /// One table with full precision, for spreadsheets.
    Csv,
    /// Tables for an issue or a README.
    Markdown,
}

/// An answer that can be written in every [`Format`].
pub trait Report: Serialize {
    /// The answer for people: tables with units and footnotes, in reading order.
    fn sheets(&self) -> Vec<Sheet>;

    /// The answer for spreadsheets: one row per item, JSON's names, no rounding.
    fn records(&self) -> Records;
}

/// An answer that could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// A value that JSON cannot hold.
    #[error("cannot write the answer as JSON")]
    Json(#[from] serde_json::Error),
    /// A row that CSV cannot hold.
    #[error("cannot write the answer as CSV")]
    Csv(#[from] csv::Error),
}

/// Writes `report` in `format`, with a newline at the end.
///
/// # Errors
/// Values that the format cannot hold.
pub fn render(report: &impl Report, format: Format) -> Result<String, RenderError> {
    Ok(match format {
        Format::Table => join(&report.sheets(), Sheet::to_table),
        Format::Markdown => join(&report.sheets(), Sheet::to_markdown),
        Format::Json => serde_json::to_string_pretty(report)? + "\n",
        Format::Csv => report.records().to_csv()?,
    })
}

fn join(sheets: &[Sheet], write: impl Fn(&Sheet) -> String) -> String {
    sheets.iter().map(write).collect::<Vec<_>>().join("\n")
}
