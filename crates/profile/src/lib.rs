//! From the raw timeline of one run to its profile, its trace and comparisons with older ones.
//!
//! Pure: timelines come from the runner, files and terminals belong to the program.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attention;
mod compare;
mod trace;

pub use compare::{CompareError, compare};
pub use trace::{PredictForwardMs, write_trace};
