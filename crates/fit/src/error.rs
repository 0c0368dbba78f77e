//! What can be wrong with the data of a fit.

use foretoken_predict::PredictError;
use foretoken_spec::Backend;

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
    /// No whole pass that could be fitted.
    #[error("the measurements hold too few passes to fit; measure more models")]
    NoPasses,
    /// An engine or backend without a profile.
    #[error(
        "no cost model of engine `{engine}` on {backend}; this version knows candle on cpu, and \
         llama.cpp"
    )]
    UnknownEngine {
        /// The engine of the line.
        engine: String,
        /// Its backend.
        backend: Backend,
    },
    /// A kind of hold-out that needs several devices.
    #[error("holding out devices is not built in; hold out model, family, quant, length or depth")]
    HoldOutDevice,
    /// No case was left to hold out.
    #[error(
        "nothing to hold out by {}: no judged model has another value of it; give more --data",
        .0.replace('_', "-")
    )]
    NothingToHoldOut(&'static str),
    /// A learning curve without a calibration to cut short.
    #[error(
        "no calibration in the data: give the measurements of one, which `foretoken calibrate` \
         keeps in the datasets folder, with those of other models"
    )]
    NoCalibration,
    /// A prediction was refused.
    #[error(transparent)]
    Predict(#[from] PredictError),
}
