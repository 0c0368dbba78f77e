//! What makes a whole file or rule unusable; single rows are [`crate::Problem`]s instead.

use std::io;
use std::path::PathBuf;

/// A file that cannot be imported at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A database where a text is expected.
    #[error("a SQLite database, no text; write it out with `sqlite3 FILE .dump`")]
    Sqlite,
    /// Bytes that are no text in any encoding that a shell writes.
    #[error("not a text file")]
    NotText,
    /// A table without a column that every row needs.
    #[error("line {line}: no column `{column}`; a row needs {needed}")]
    MissingColumn {
        /// Line of the header, from 1.
        line: u32,
        /// The column.
        column: &'static str,
        /// All columns that are needed.
        needed: String,
    },
    /// A column twice.
    #[error("line {line}: the column `{column}` is there twice")]
    DoubleColumn {
        /// Line of the header, from 1.
        line: u32,
        /// The column.
        column: String,
    },
    /// A line of a file of ours that is wrong: such a file was not written by hand.
    #[error("{}, line {line}: {reason}", path.display())]
    BadRow {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u32,
        /// What is wrong.
        reason: String,
    },
    /// Rules that are no TOML, or not of rules.
    #[error("{0}")]
    Rules(String),
    /// A rule that cannot be applied.
    #[error("rule `{id}`: {reason}")]
    Rule {
        /// Its id.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// Values that a format cannot hold.
    #[error("cannot write the row of {model} as {format}: {reason}")]
    Unwritable {
        /// Model of the row.
        model: String,
        /// The format.
        format: &'static str,
        /// What it cannot hold.
        reason: String,
    },
}

/// A piece of a file that could not be understood and was kept out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: u32,
    /// What is wrong with it, in lower case without a full stop.
    pub reason: String,
}

impl Problem {
    /// A problem at a line.
    pub fn new(line: u32, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into() }
    }
}
