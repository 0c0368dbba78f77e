//! Runs the user's own `llama-bench` on a model file, and reads what it says.
//!
//! [`LlamaBench::open`] asks the program what it can do, [`LlamaBench::run`] runs some tests of one
//! model in a process of their own: a fresh load. What it prints is read by
//! [`foretoken_import::read_llama_bench`], as other people's files are.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod binary;
mod error;
mod run;

pub use binary::LlamaBench;
pub use error::BenchError;
pub use run::{BenchRun, BenchTests, Build, TimedTest};
