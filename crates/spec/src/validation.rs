//! A validation: predictions of held-out groups beside what was observed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Phase, Tier};

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
    /// All models but the mini-models of a calibration, at once: what a calibration meets.
    AllModels,
    /// The largest quarter of the models, and the mini-models of their width and more.
    Frontier,
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
            Self::AllModels => "all_models",
            Self::Frontier => "frontier",
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
    /// One row per hold-out and quantity that is not a phase.
    pub metrics: Vec<MetricError>,
    /// The groups of held-out devices again, those with several engines apart by engine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<GroupError>,
    /// Held-out devices from their data sheets alone, one row per device, backend, engine and
    /// phase, with what an error may come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceError>,
    /// Held-out devices from their data sheets alone, as a user asks who tells no date of the build:
    /// one row per kind and backend, and phase; all of them first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undated: Vec<UndatedError>,
    /// Every case.
    pub cases: Vec<ValidationCase>,
    /// Rows of the data that were not judged, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOutRows>,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

/// Rows that were not judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOutRows {
    /// Why.
    pub reason: String,
    /// How many.
    pub rows: u32,
}

/// Error on one held-out device from its data sheet alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceError {
    /// Id.
    pub device: String,
    /// `cpu`, `gpu`, `igpu` or `soc`.
    pub kind: String,
    /// Backend.
    pub backend: String,
    /// Engine.
    pub engine: String,
    /// Phase.
    pub phase: Phase,
    /// Cases: configurations that were judged.
    pub n: u32,
    /// Measured rows behind them.
    pub measured_rows: u32,
    /// Places that the rows were published in.
    pub sources: u32,
    /// Median absolute percentage error, as a fraction.
    pub mdape: f64,
    /// Median signed error: positive where the prediction is too slow.
    pub bias: f64,
    /// Share of the cases inside their interval.
    pub coverage: f64,
    /// Median relative difference between repeats of one configuration by one source, at least half
    /// a step of their rounding.
    pub noise_floor: Option<f64>,
    /// Slowest over fastest measurement of the same model, length and threads, whoever measured,
    /// where they differ most; `null` without repeats.
    pub spread: Option<f64>,
    /// The known device that is most like it.
    pub nearest: Option<String>,
    /// How far that is: 0 the same as far as a data sheet tells, 1 nothing in common but physics.
    pub distance: Option<f64>,
}

/// Error on held-out devices where the date of the engine's build is assumed, not told. The cases
/// are those of [`GroupError`] without rows, where the date is told as far as the row has one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UndatedError {
    /// Kind and backend; `null` for all.
    pub group: Option<String>,
    /// Phase.
    pub phase: Phase,
    /// Cases.
    pub n: u32,
    /// Median absolute percentage error, as a fraction.
    pub mdape: f64,
    /// Median signed error: negative where the prediction is too fast.
    pub bias: f64,
    /// Share of the cases inside their interval.
    pub coverage: f64,
    /// `mdape` where the date is told.
    pub mdape_dated: f64,
    /// `bias` where the date is told.
    pub bias_dated: f64,
}

/// Error of one kind of hold-out in one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupError {
    /// What was held out.
    pub hold_out: HoldOut,
    /// Kind and backend of the held-out device; `null` for other hold-outs.
    pub group: Option<String>,
    /// Kind of the held-out device (`cpu`, `gpu`, `igpu`, `soc`), where all are of one.
    #[serde(default)]
    pub kind: Option<String>,
    /// Backend of the held-out device, where all cases have one.
    #[serde(default)]
    pub backend: Option<String>,
    /// Engine of the held-out device, where all cases have one.
    #[serde(default)]
    pub engine: Option<String>,
    /// Rows of the held-out device that were given; 0 is the spec alone.
    pub rows: u32,
    /// Phase.
    pub phase: Phase,
    /// Cases.
    pub n: u32,
    /// Devices behind the cases; `null` for other hold-outs.
    #[serde(default)]
    pub devices: Option<u32>,
    /// Median absolute percentage error, as a fraction.
    pub mdape: f64,
    /// Where the median error lies with other devices of the kind: 90 % interval by bootstrap over
    /// devices; `null` for other hold-outs and with fewer than 3 devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mdape_interval: Option<[f64; 2]>,
    /// Where rows were given: the median error of the same cases from the data sheet alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mdape_spec_only: Option<f64>,
    /// Median over devices of the median of each, so that one device with many cases counts as
    /// much as one with few; `null` for other hold-outs.
    #[serde(default)]
    pub mdape_by_device: Option<f64>,
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
    /// Median of half the width of the intervals, as a share of the prediction.
    pub interval_half_width: f64,
    /// Median relative difference between the two halves of the same run; of held-out devices
    /// between repeats of one configuration by one source.
    pub noise_floor: Option<f64>,
    /// Median relative difference between two sources that measured the same device, engine,
    /// threads, model and length; their builds and settings differ. `null` for other hold-outs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between_posters: Option<f64>,
    /// The same errors of the naive methods on the same cases.
    pub baselines: BTreeMap<String, BaselineError>,
}

/// What is judged beside the phases.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Time to first token: prefill, softmax and draw.
    Ttft,
    /// Time per output token: step, softmax and draw.
    Tpot,
    /// `ttft + (generated − 1) · tpot`.
    E2e,
    /// Single kernels that take at least 1 % of their pass.
    Kernel,
    /// Peak memory of a load; nothing of it is fitted.
    PeakMemory,
}

impl Metric {
    /// The serialised name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ttft => "ttft",
            Self::Tpot => "tpot",
            Self::E2e => "e2e",
            Self::Kernel => "kernel",
            Self::PeakMemory => "peak_memory",
        }
    }
}

/// Error of one quantity over the cases of one kind of hold-out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricError {
    /// What was held out; `null` where nothing is fitted.
    pub hold_out: Option<HoldOut>,
    /// Device, engine and threads, where the data has several; else `null`.
    pub group: Option<String>,
    /// What is judged.
    pub metric: Metric,
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
    /// Median signed error: positive where the prediction is too large.
    pub bias: f64,
    /// Share of the cases within ±10 %.
    pub within_10pct: f64,
    /// Median relative difference between the two halves of the same run, where there are halves.
    pub noise_floor: Option<f64>,
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
    /// Device, engine and threads, where the data has several; else `null`.
    #[serde(default)]
    pub group: Option<String>,
    /// Name of the held-out group (a model, a quantization, …).
    pub held_out: String,
    /// Rows of the held-out device that were given.
    #[serde(default)]
    pub rows: u32,
    /// Engine of the held-out device; `null` for other hold-outs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Threads of the held-out device, where they are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
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
    /// Where rows of the device were given: the time predicted from its data sheet alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_only_ms: Option<f64>,
    /// Lower end of the interval.
    pub lower_ms: f64,
    /// Upper end of the interval.
    pub upper_ms: f64,
    /// `predicted / observed − 1`.
    pub error: f64,
    /// Relative difference between the two halves of the loads.
    pub noise: Option<f64>,
    /// Worst tier of the kernels that the prediction stands on.
    pub tier: Tier,
    /// What lies outside the measured ranges.
    pub extrapolation: Vec<String>,
    /// Where the error likely comes from, from the observed kernels of the case.
    pub reason: String,
    /// What the naive methods predict, in ms.
    pub baselines: BTreeMap<String, f64>,
}

/// Answer of `validate --compare-forms`: forms of the cost model on held-out models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FormComparison {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Files that were read.
    pub data: Vec<String>,
    /// Device, engine and threads of the data.
    pub device: String,
    /// One row per form and phase, simplest form first; `nested` is the choice among them, made
    /// without the held-out model.
    pub forms: Vec<FormError>,
    /// The form that calibrations have.
    pub used: String,
}

/// Error of one form in one phase on held-out models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FormError {
    /// Name of the form.
    pub form: String,
    /// What it is.
    pub description: String,
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
    /// Median signed error.
    pub bias: f64,
}

/// Answer of `validate --learning-curve`: what longer measuring buys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LearningCurve {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Files that were read.
    pub data: Vec<String>,
    /// Device, engine and threads of the data.
    pub device: String,
    /// Errors by how much of a calibration was fitted, one row per length and phase.
    pub budgets: Vec<BudgetError>,
    /// Errors and noise floor by the loads behind each observation, one row per number and phase.
    pub loads: Vec<LoadsError>,
}

/// Error on whole models, none of which is fitted, after part of a calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetError {
    /// Session of the calibration.
    pub session: String,
    /// Seconds of loads and timed passes that were fitted.
    pub seconds: f64,
    /// Loads that were fitted.
    pub loads: u32,
    /// Phase.
    pub phase: Phase,
    /// Cases that could be predicted.
    pub n: u32,
    /// Cases that were measured.
    pub judged: u32,
    /// Median absolute percentage error, as a fraction.
    pub mdape: f64,
    /// 90th percentile of the absolute percentage error.
    pub p90_ape: f64,
    /// Median signed error.
    pub bias: f64,
    /// Share of observations within their interval.
    pub coverage: f64,
    /// Median half-width of the intervals, relative to the prediction.
    pub interval_half_width: f64,
}

/// Error on whole models, none of which is fitted, when each observation has so many loads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadsError {
    /// Loads behind each observation: the first ones of every configuration.
    pub loads: u32,
    /// Phase.
    pub phase: Phase,
    /// Configurations: the same ones in every row.
    pub n: u32,
    /// Median absolute percentage error, as a fraction.
    pub mdape: f64,
    /// Median signed error.
    pub bias: f64,
    /// Median relative difference between the halves of the loads.
    pub noise_floor: f64,
}
