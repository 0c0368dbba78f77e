//! From the raw timeline of one run to its profile, its trace and comparisons with older ones.
//!
//! Pure: timelines come from the runner, files and terminals belong to the program.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod compare;
mod costs;
mod division;
mod overhead;
mod report;
mod rows;
#[cfg(test)]
mod testing;
mod tokens;
mod trace;

pub use compare::{CompareError, compare};
pub use report::profile_of;
pub use trace::{PredictForwardMs, write_trace};

/// Nanoseconds in ms.
pub(crate) fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}
