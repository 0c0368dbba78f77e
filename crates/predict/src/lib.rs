//! From a calibration and a model to a prediction with its interval, basis and extrapolations.
//!
//! Predicting takes dot products only: no regression library is linked, no file is opened.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod anchor;
mod answer;
mod explain;
mod memory;
mod predictor;
mod prepared;
mod tally;
#[cfg(test)]
mod tests;

pub use answer::{Asked, predict};
pub use memory::memory;
pub use predictor::{OpSeconds, PassPrediction, PredictError, Predictor, stretched};
pub use prepared::{PassEstimate, PreparedModel, PreparedTokens, RequestEstimate};
