//! A validation: predictions of held-out groups beside what was observed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Phase;

/// What is absent from every step of the fit.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum HoldOut {
    /// All rows of one model, in all its quantizations.
    Model,
    /// All rows of one family.
    Family,
    /// All rows of one quantization scheme.
    Quant,
    /// All rows of one prompt length.
    Length,
    /// All rows of one depth.
    Depth,
    /// All rows of one device.
    Device,
}

impl HoldOut {
    /// The serialised name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Family => "family",
            Self::Quant => "quant",
            Self::Length => "length",
            Self::Depth => "depth",
            Self::Device => "device",
        }
    }
}

/// Answer of `validate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValidationReport {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Files that were read.
    pub data: Vec<String>,
    /// Device, engine and threads of the data.
    pub device: String,
    /// One row per hold-out and phase.
    pub groups: Vec<GroupError>,
    /// Every case.
    pub cases: Vec<ValidationCase>,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

/// Error of one kind of hold-out in one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupError {
    /// What was held out.
    pub hold_out: HoldOut,
    /// Kind and backend of the held-out device; `null` for other hold-outs.
    pub group: Option<String>,
    /// Rows of the held-out device that were given; 0 is the spec alone.
    pub rows: u32,
    /// Phase.
    pub phase: Phase,
    /// Cases.
    pub n: u32,
    /// Median absolute percentage error, as a fraction.
    pub mdape: f64,
    /// Mean absolute percentage error.
    pub mape: f64,
    /// 90th percentile of the absolute percentage error.
    pub p90_ape: f64,
    /// Largest absolute percentage error.
    pub max_ape: f64,
    /// Median signed error: positive where the prediction is too slow.
    pub bias: f64,
    /// Share of the cases within ±10 %.
    pub within_10pct: f64,
    /// Share of the cases inside their interval.
    pub coverage: f64,
    /// Nominal coverage of the intervals.
    pub interval_level: f64,
    /// Median relative difference between the two halves of the same run.
    pub noise_floor: Option<f64>,
    /// The same errors of the naive methods on the same cases.
    pub baselines: BTreeMap<String, BaselineError>,
}

/// Error of a naive method.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BaselineError {
    /// Cases that the method could answer.
    pub n: u32,
    /// Median absolute percentage error, as a fraction.
    pub mdape: f64,
    /// Mean absolute percentage error.
    pub mape: f64,
    /// 90th percentile of the absolute percentage error.
    pub p90_ape: f64,
    /// Median signed error.
    pub bias: f64,
}

/// One held-out configuration: predicted without its group, beside what was observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValidationCase {
    /// What was held out.
    pub hold_out: HoldOut,
    /// Name of the held-out group (a model, a quantization, …).
    pub held_out: String,
    /// Model.
    pub model: String,
    /// Quantization scheme.
    pub quant: String,
    /// Phase.
    pub phase: Phase,
    /// Tokens of the pass.
    pub n_tokens: u32,
    /// Tokens in the cache before the pass.
    pub kv_len: u32,
    /// Fresh loads behind the observation.
    pub loads: u32,
    /// Observed time.
    pub observed_ms: f64,
    /// Predicted time.
    pub predicted_ms: f64,
    /// Lower end of the interval.
    pub lower_ms: f64,
    /// Upper end of the interval.
    pub upper_ms: f64,
    /// `predicted / observed − 1`.
    pub error: f64,
    /// Relative difference between the two halves of the loads.
    pub noise: Option<f64>,
    /// What the naive methods predict, in ms.
    pub baselines: BTreeMap<String, f64>,
}
