//! The main job: measure a designed set of mini-models, fit the cost model, predict a catalogue
//! model that was not run, run it, and hold the two beside each other.
//!
//! Works on any [`Engine`](foretoken_runner::Engine), or through a benchmark program of the engine's
//! own ([`Bencher`]): the tests drive both with a planted cost model, the former on a fake clock.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod bench;
mod bench_design;
mod design;
mod expect;
mod proof;
#[cfg(test)]
mod tests;

pub use bench::{BenchFailure, BenchLoad, Bencher, FileBencher, run_bench_load};
pub use bench_design::{measure_bench_design, run_bench_proof};
pub use design::{DesignSettings, DesignSummary, default_schemes, design_loads, measure_design};
pub use expect::ExpectedTimes;
pub use proof::{ProofPlan, ProofSettings, ProofTiming, choose_proof, run_proof};

/// Where measurements go and who is told about them.
pub trait Keeper {
    /// Keeps a line before anything else runs.
    ///
    /// # Errors
    /// Whatever stands in the way of keeping it; the session ends.
    fn keep(&mut self, measurement: &foretoken_spec::Measurement) -> std::io::Result<()>;

    /// A workload begins: load `index` of `n_loads`.
    fn progress(&mut self, _progress: &foretoken_runner::Progress<'_>) {}
}
