//! What can go wrong with a program that is not ours.

use std::path::PathBuf;

/// Why llama-bench did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// There is no such program.
    #[error("cannot run {}; give the path of the llama-bench program of your llama.cpp", path.display())]
    Start {
        /// What was to be run.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another program.
    #[error("{} is no llama-bench: its --help names no {missing}", path.display())]
    NotLlamaBench {
        /// What was run.
        path: PathBuf,
        /// The option that every llama-bench has.
        missing: &'static str,
    },
    /// It ended with an error.
    #[error("{} failed on {model} ({status}): {said}", path.display())]
    Failed {
        /// What was run.
        path: PathBuf,
        /// The model's file.
        model: String,
        /// How it ended.
        status: String,
        /// The last words of its log.
        said: String,
    },
    /// It ended well, and a test is missing.
    #[error("{} gave no result for {test} of {model}{}", path.display(), because(.said))]
    Missing {
        /// What was run.
        path: PathBuf,
        /// The model's file.
        model: String,
        /// The test (`pp512 @ d0`).
        test: String,
        /// What could not be read, if anything.
        said: String,
    },
    /// It took longer than it may.
    #[error("{} was still busy with {model} after {seconds} s and was stopped", path.display())]
    TooLong {
        /// What was run.
        path: PathBuf,
        /// The model's file.
        model: String,
        /// Time that it had.
        seconds: u64,
    },
    /// Its output could not be read.
    #[error("cannot read what {} prints", path.display())]
    Read {
        /// What was run.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn because(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}
