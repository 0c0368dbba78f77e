//! Fits a calibration to measurements, and validates it on groups that it has not seen.
//!
//! This is the only crate that knows linfa and ndarray. Validation refits without each held-out
//! group, form and intervals included, so it lives beside the fit; both predict through
//! [`foretoken_predict::Predictor`], the code that users call.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod baselines;
mod calibrate;
mod curve;
mod energy;
mod error;
mod forms;
mod held_out;
mod intervals;
mod judged;
mod loading;
mod rows;
mod solver;
mod terms;
#[cfg(test)]
mod testing;
mod totals;
mod validate;

pub use calibrate::{FitInput, fit, fit_kernels};
pub use curve::learning_curve;
pub use error::FitError;
pub use forms::compare_forms;
pub use intervals::INTERVAL_LEVEL;
pub use validate::validate;
