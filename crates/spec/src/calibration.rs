//! A calibration: the coefficients of the cost model for one device, engine and thread count.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DeviceInfo, EnergyFit, EngineInfo, LoadFit, Pass, Phase, ToolInfo};

/// Everything that a prediction needs to know about a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Calibration {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name of the calibration.
    pub id: String,
    /// Who fitted, with which build.
    pub tool: ToolInfo,
    /// When, RFC 3339, UTC.
    pub time: String,
    /// Where it was measured.
    pub device: DeviceInfo,
    /// With what.
    pub engine: EngineInfo,
    /// Threads of the engine.
    pub threads: u32,
    /// The measurements behind it.
    pub dataset: DatasetRef,
    /// Seed of the bootstrap and of the fold order.
    pub seed: u64,
    /// The fitted terms, one per kernel class.
    pub terms: Vec<TermFit>,
    /// What the sum of the terms misses on whole passes. Empty since held-out models showed that
    /// it helps in neither phase; calibrations of earlier versions have it.
    pub corrections: Vec<PhaseCorrection>,
    /// Half-widths of the prediction intervals.
    pub intervals: Vec<IntervalFit>,
    /// Error on held-out models, by cross-validation over the models of the dataset.
    pub held_out: HeldOutError,
    /// Measured ceilings of the device, for the roofline and the baselines.
    pub ceilings: Ceilings,
    /// Energy of a pass, where a meter was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<EnergyFit>,
    /// Times of loading; calibrations of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loading: Option<LoadFit>,
    /// Median relative difference between the two halves of the run.
    pub noise_floor: Option<f64>,
    /// What the reader should know before trusting this calibration.
    pub warnings: Vec<String>,
}

/// The dataset that a calibration was fitted to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetRef {
    /// File name.
    pub file: String,
    /// FNV-1a hash of the file's bytes, hexadecimal.
    pub hash: String,
    /// Lines read.
    pub measurements: u32,
}

/// The regression of one kernel class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TermFit {
    /// Key of the kernel class (`matmul.q4_k.tiled.one_row`).
    pub class: String,
    /// Coefficients, in seconds per unit of the feature.
    pub features: Vec<FeatureCoefficient>,
    /// Rows of the regression.
    pub n_observations: u32,
    /// Median absolute relative residual on the rows that were fitted.
    pub residual_mdape: f64,
    /// Some of the rows, from the shortest call to the longest, so that a prediction can name what
    /// was measured near it.
    #[serde(default)]
    pub anchors: Vec<MeasuredKernel>,
}

/// One kernel that was measured and fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeasuredKernel {
    /// Model.
    pub model: String,
    /// Operation, with the tensor role for a matmul.
    pub op: String,
    /// The pass.
    pub pass: Pass,
    /// Values of the term's features per call, in their order.
    pub features: Vec<f64>,
    /// Seconds per call.
    pub seconds: f64,
}

/// One coefficient of the cost model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureCoefficient {
    /// Name of the feature.
    pub feature: String,
    /// Unit of the coefficient (`s/byte`, `s/flop`, `s/call`).
    pub unit: String,
    /// The coefficient; never negative.
    pub coefficient: f64,
    /// Its standard error, by bootstrap over models; `None` with too few models.
    pub std_error: Option<f64>,
    /// Smallest and largest value of the feature per call that was measured; outside it a
    /// prediction extrapolates.
    pub range: [f64; 2],
}

/// Phase-level correction: `seconds = scale · Σ terms`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseCorrection {
    /// Phase.
    pub phase: Phase,
    /// Factor on the sum of the terms.
    pub scale: f64,
}

/// Half-width of the interval around a prediction, from held-out residuals.
///
/// The interval is `[point · exp(−half_width), point · exp(+half_width)]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IntervalFit {
    /// Phase.
    pub phase: Phase,
    /// Nominal coverage.
    pub level: f64,
    /// Half-width in log space, of a pass inside the measured ranges.
    pub half_width: f64,
    /// What a pass gains that stands on the same kernels for other tensor types alone.
    #[serde(default = "unknown_half_width")]
    pub near_half_width: f64,
    /// What a pass gains that stands on other kernels alone.
    #[serde(default = "unknown_half_width")]
    pub far_half_width: f64,
    /// Held-out groups (models; mini-models of one shape are one) behind it.
    pub n_groups: u32,
}

/// Of calibrations written before it was fitted.
fn unknown_half_width() -> f64 {
    0.7
}

/// Cross-validated error of a fit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeldOutError {
    /// Median absolute percentage error of prefill, as a fraction.
    pub prefill_mdape: Option<f64>,
    /// Median absolute percentage error of decode, as a fraction.
    pub decode_mdape: Option<f64>,
    /// Groups held out in turn.
    pub n_groups: u32,
}

/// Measured ceilings of a device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ceilings {
    /// Highest rate of reading memory that the reference workload saw.
    pub stream_bytes_per_second: f64,
    /// Highest arithmetic rate that a matmul reached.
    pub matmul_flop_per_second: f64,
}
