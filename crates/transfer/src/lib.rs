//! Predicts the speed of devices that were never measured, from all that were.
//!
//! A time is its physical floor (bytes over bandwidth, arithmetic over peak: [`Work`] and
//! [`Machine`]) times an efficiency; the logarithm of the efficiency is a mixed model with partial
//! pooling over devices, engines, formats and who measured them. Conditioning it is exact, so one
//! formula predicts a device from its data sheet, from its data sheet and a few measured rows
//! ([`DevicePredictor::observe`]), and judges both on devices left out ([`validate`]).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod baselines;
mod by_device;
mod by_group;
mod dates;
mod domain;
mod error;
mod facts;
mod kernel;
mod limits;
mod linalg;
mod machine;
mod model;
mod predictor;
mod process;
mod rows;
mod task;
mod tune;
mod undated;
mod validate;

pub use dates::{BuildDate, BuildDates};
pub use domain::INTERVAL_LEVEL;
pub use error::TransferError;
pub use facts::{ModelFacts, ModelShapes, Widths, quant_family};
pub use kernel::Effects;
pub use limits::{Limit, LimitedBy};
pub use machine::{Dots, Machine, Processor};
pub use model::{CrossDevice, Domain, Fitted, Fold, MODEL_VERSION, MOST_PER_DEVICE, Row, RowCount};
pub use predictor::{DevicePredictor, Neighbour, Prepared, Transfer};
pub use rows::{Observation, Store};
pub use task::{Setup, Work};
pub use validate::validate;
