//! A prediction: what `foretoken predict` answers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bound, DeviceBackend, EnergyPrediction, OpKind, Pass, Phase};

/// A number with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// The prediction.
    pub point: f64,
    /// Lower end of the interval.
    pub lower: f64,
    /// Upper end of the interval.
    pub upper: f64,
    /// Nominal coverage of the interval.
    pub level: f64,
}

impl Estimate {
    /// `point` with a half-width in log space: `point · exp(±half_width)`.
    pub fn log_interval(point: f64, half_width: f64, level: f64) -> Self {
        Self { point, lower: point * (-half_width).exp(), upper: point * half_width.exp(), level }
    }
}

/// Answer of `predict` for one model, quantization and workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The model.
    pub model: PredictedModel,
    /// Quantization scheme.
    pub quant: String,
    /// Where it is predicted to run.
    pub device: PredictedDevice,
    /// What was asked.
    pub workload: PredictedWorkload,
    /// One pass over the prompt.
    pub prefill_ms: Option<Estimate>,
    /// One decode step at the midpoint of the generated span.
    pub decode_ms: Option<Estimate>,
    /// Prefill, softmax and sampling of the first token.
    pub ttft_ms: Option<Estimate>,
    /// Decode step, softmax and sampling.
    pub tpot_ms: Option<Estimate>,
    /// `ttft + (generated − 1) · tpot`.
    pub e2e_ms: Option<Estimate>,
    /// Prompt tokens per second of prefill.
    pub prefill_tokens_per_second: Option<f64>,
    /// Tokens per second of the decode step alone (llama-bench's `tg`).
    pub decode_tokens_per_second: Option<f64>,
    /// Memory by part.
    pub memory: MemoryPrediction,
    /// Arithmetic.
    pub flop: FlopCount,
    /// One load of a file that the system has in memory, from open to usable.
    #[serde(default)]
    pub load_ms: Option<Estimate>,
    /// One load of a file that is read from storage.
    #[serde(default)]
    pub load_cold_ms: Option<Estimate>,
    /// What the first pass after a load takes beyond a later one: weights are repacked in it.
    #[serde(default)]
    pub first_pass_extra_ms: Option<Estimate>,
    /// Energy, where the device has a meter or power figures.
    pub energy_j: Option<EnergyPrediction>,
    /// Time by operation.
    pub ops: Vec<OpPrediction>,
    /// What the numbers rest on.
    pub basis: Basis,
    /// What naive methods make of the same data sheet, by name; of a calibrated device, nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub baselines: BTreeMap<String, BaselineTimes>,
    /// The command that measures the same thing, where the engine can run it.
    pub verify: String,
    /// Why the engine cannot run it; null where it can. The numbers are those as if it could.
    #[serde(default)]
    pub cannot_run: Option<String>,
    /// What the engine keeps in memory beside what the file stores, as sentences.
    #[serde(default)]
    pub memory_notes: Vec<String>,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

/// The model of a prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PredictedModel {
    /// Name.
    pub name: String,
    /// Architecture.
    pub architecture: String,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of all tensors as stored.
    pub weight_bytes: u64,
}

/// The device of a prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PredictedDevice {
    /// Id.
    pub id: String,
    /// Backend.
    pub backend: DeviceBackend,
    /// Threads.
    pub threads: u32,
    /// Engine and version.
    pub engine: String,
}

/// The workload of a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PredictedWorkload {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub generated_tokens: u32,
    /// Tokens in the cache before the prompt.
    pub kv_len: u32,
    /// Sequences at once.
    pub batch_size: u32,
}

/// Memory by part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryPrediction {
    /// Weights as the engine keeps them, repacked copies included.
    pub weights_bytes: u64,
    /// Keys and values at the end of the workload.
    pub kv_cache_bytes: u64,
    /// Largest temporaries of a pass.
    pub activation_bytes: u64,
    /// Highest resident size.
    pub peak_bytes: u64,
    /// Memory of the device that is free, or all of it where it is not this machine.
    pub available_bytes: Option<u64>,
    /// Which of the two it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_is: Option<AvailableMemory>,
    /// Whether the peak fits.
    pub fits: Option<bool>,
    /// The same, with what little room may mean.
    #[serde(default)]
    pub verdict: Option<MemoryVerdict>,
    /// Longest context, in tokens of depth, prompt and generated ones together, that fits with
    /// this prompt and generation; never more than the model's own. 0 where none does.
    #[serde(default)]
    pub largest_context: Option<u32>,
    /// Where it does not fit: quantizations of the same model that would, largest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fitting_quants: Vec<String>,
}

/// What a number of bytes to fit into counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AvailableMemory {
    /// What other programs leave, on this machine and now.
    Free,
    /// All that a device has; nobody knows what else it runs.
    Installed,
}

/// How a peak compares with the memory that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemoryVerdict {
    /// With room to spare.
    Fits,
    /// So narrowly that other programs may push it into swap.
    SwapRisk,
    /// Not at all.
    DoesNotFit,
}

/// Arithmetic of the phases; one multiply-accumulate is 2 FLOP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlopCount {
    /// The pass over the prompt, of all sequences.
    pub prefill: u64,
    /// One decode step at the midpoint, for one of the sequences.
    pub decode_per_token: u64,
}

/// Time of one kind of operation within a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OpPrediction {
    /// Kind, with the tensor role for a matmul (`matmul.ffn_down`).
    pub op: String,
    /// Kind.
    pub kind: OpKind,
    /// Phase.
    pub phase: Phase,
    /// Time in one pass.
    pub ms: f64,
    /// What limits it.
    pub bound: Bound,
    /// FLOP per byte of memory traffic.
    pub arithmetic_intensity: f64,
    /// Arithmetic of one pass.
    pub flop: u64,
    /// Memory traffic of one pass.
    pub bytes: u64,
    /// Kernel class whose coefficients were used.
    pub class: String,
    /// Whether that class is the operation's own.
    pub tier: Tier,
    /// The sum that `ms` is: `Σ value · coefficient`, in ms.
    pub terms: Vec<OpTerm>,
    /// The measured kernel that is most like it, where the calibration keeps any.
    pub nearest: Option<NearestKernel>,
}

/// One summand of an operation's time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OpTerm {
    /// Feature.
    pub feature: String,
    /// Its value in one pass.
    pub value: f64,
    /// Seconds per unit.
    pub coefficient: f64,
    /// Unit of the coefficient.
    pub unit: String,
    /// Their product.
    pub ms: f64,
}

/// What was measured nearest to an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NearestKernel {
    /// Model.
    pub model: String,
    /// Operation.
    pub op: String,
    /// The pass.
    pub pass: Pass,
    /// Largest ratio between the features of the two, per call; 1 is the same shape.
    pub ratio: f64,
    /// What the coefficients make of it, `fitted / measured − 1`.
    pub residual: f64,
}

/// How close to a measurement a prediction is, best first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// The same model, quantization and length was measured.
    SameConfiguration,
    /// The same operation shapes were measured.
    SameShapes,
    /// The same kernels were measured on other shapes.
    SameQuantization,
    /// A kernel was borrowed from a related quantization.
    SiblingQuantization,
    /// The device was not calibrated; some rows of it were measured, by whatever benchmark.
    MeasuredRows,
    /// The device was not calibrated; one of its class was.
    SameDeviceClass,
    /// Specification sheet only.
    SpecSheet,
}

impl Tier {
    /// The serialised name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SameConfiguration => "same_configuration",
            Self::SameShapes => "same_shapes",
            Self::SameQuantization => "same_quantization",
            Self::SiblingQuantization => "sibling_quantization",
            Self::MeasuredRows => "measured_rows",
            Self::SameDeviceClass => "same_device_class",
            Self::SpecSheet => "spec_sheet",
        }
    }
}

/// What a prediction rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Basis {
    /// Worst tier of any operation in it.
    pub tier: Tier,
    /// Calibration that was used.
    pub calibration: Option<String>,
    /// Held-out models behind the intervals; with 0 they are a guess.
    pub interval_groups: u32,
    /// What lies outside the measured ranges, each as a sentence.
    pub extrapolation: Vec<String>,
    /// Of a device that nothing was run on: the known devices that are most like it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nearest_devices: Vec<String>,
    /// Of a device that nothing was run on: what is told and assumed of engine and device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_sheet: Option<DataSheetBasis>,
}

/// What a prediction from a data sheet takes the engine and the device to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataSheetBasis {
    /// Month of the engine's build that the times are of (`2025-03`); `null` where no row that they
    /// rest on is dated.
    pub engine_date: Option<String>,
    /// Whether that month is assumed: what is usual among the rows of engine and backend.
    pub engine_date_assumed: bool,
    /// Flash attention, where it was asked for; `null` averages over both.
    pub flash_attention: Option<bool>,
    /// Measured rows of this very device that were given (`--observe`).
    pub observed_rows: u32,
    /// Measured rows of this very device that the model of many devices holds.
    pub known_rows: u32,
    /// What the data sheet does not tell and was assumed, each as a sentence; intervals are wider
    /// for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<String>,
}

/// Times of a naive method.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BaselineTimes {
    /// One pass over the prompt.
    pub prefill_ms: Option<f64>,
    /// One decode step.
    pub decode_ms: Option<f64>,
}
