//! Other people's measurements, read by field name and never guessed.
//!
//! | input | becomes |
//! | --- | --- |
//! | llama-bench: JSON, JSONL, CSV, SQL, Markdown, all versions and forks | [`SpeedRow`]s |
//! | `test-backend-ops perf --output sql` | [`foretoken_spec::KernelAnchor`]s |
//! | Foretoken's own measurements | [`SpeedRow`]s |
//! | CSV with the columns of the public store, JSON Lines of ours | [`SpeedRow`]s |
//!
//! What cannot be understood is a [`Problem`] with its line, and is kept out. Everything works on
//! text; only [`read_speed_rows`] opens a file.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backend_ops;
mod check;
mod columns;
mod error;
mod jsonl;
mod llama_bench;
mod names;
mod origin;
mod ours;
mod read;
mod record;
mod rules;
mod scan;
mod summary;
mod text;

pub use backend_ops::{Anchors, read_backend_ops, to_backend_ops_sql};
pub use columns::{COLUMNS, EXTRA, read_csv, to_csv};
pub use error::{ImportError, Problem};
pub use jsonl::{read_jsonl, to_jsonl};
pub use llama_bench::{BenchFormat, read_llama_bench, to_llama_bench};
pub use names::{ModelType, backend_of_list, known_backend, model_of_file, quant_name};
pub use origin::Origin;
pub use ours::speeds_of;
pub use read::{read_speed_rows, read_speeds};
pub use rules::{Pattern, Rule, Rules};
pub use summary::{Read, Summary};
pub use text::decode;

use foretoken_spec::SpeedRow;

/// What was read from one text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Speeds {
    /// Rows with their lines.
    pub rows: Vec<(u32, SpeedRow)>,
    /// What could not be understood.
    pub problems: Vec<Problem>,
    /// Formats that were found.
    pub formats: Vec<String>,
    /// Lines around the data that are none: logs, headings.
    pub other_lines: u32,
    /// What is odd but harmless.
    pub warnings: Vec<String>,
}
