//! What can be wrong with the data of a fit.

use foretoken_predict::PredictError;

/// Why nothing could be fitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// No lines at all.
    #[error("no measurements to fit; run `foretoken calibrate` or `foretoken measure --out FILE`")]
    Empty,
    /// Lines of several devices, engines or thread counts.
    #[error("measurements of `{first}` and of `{other}` cannot be fitted together; split the file")]
    Mixed {
        /// Device, engine and threads of the first line.
        first: String,
        /// Those of another line.
        other: String,
    },
    /// No line has in-place kernel times.
    #[error(
        "the measurements hold no kernel times, so no coefficient can be fitted; measure again"
    )]
    NoKernels,
    /// Fewer models than cross-validation needs.
    #[error("only {found} models were measured; holding out whole models needs at least {needed}")]
    TooFewModels {
        /// Models in the data.
        found: usize,
        /// Models needed.
        needed: usize,
    },
    /// No case was left to hold out.
    #[error("nothing to hold out by {0}: the data has a single value of it")]
    NothingToHoldOut(&'static str),
    /// A prediction was refused.
    #[error(transparent)]
    Predict(#[from] PredictError),
}
