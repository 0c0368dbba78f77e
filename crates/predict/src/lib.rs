//! From a calibration and a model to a prediction with its interval, basis and extrapolations.
//!
//! Predicting takes dot products only: no regression library is linked, no file is opened.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod anchor;
mod answer;
mod energy;
mod explain;
mod host;
mod loading;
mod memory;
mod predictor;
mod prepared;
mod spec_sheet;
mod tally;
#[cfg(test)]
mod tests;

pub use answer::{Asked, predict};
pub use energy::energy_from_power;
pub use loading::cold_load;
pub use memory::memory;
pub use predictor::{OpSeconds, PassPrediction, PredictError, Predictor, stretched};
pub use prepared::{PassEstimate, PreparedModel, PreparedTokens, RequestEstimate};
pub use spec_sheet::{Sheet, SheetTimes, predict_from_sheet};
