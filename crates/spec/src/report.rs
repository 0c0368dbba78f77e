//! Answers of the commands that are not predictions or validations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    EnergyFit, HeldOutError, LoadFit, MeasuredEnergy, OpKind, Phase, TensorRole, TensorSpec,
    TermFit,
};

/// Median, spread and samples of one quantity, in ms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// Median over fresh loads of the median within a load.
    pub median: f64,
    /// 10th percentile of the samples.
    pub p10: f64,
    /// 90th percentile of the samples.
    pub p90: f64,
    /// All samples, in the order of measuring.
    pub samples: Vec<f64>,
}

/// Answer of `measure` for one configuration; the command prints an array of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeasureReport {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Model.
    pub model: String,
    /// Quantization scheme.
    pub quant: String,
    /// Device id.
    pub device: String,
    /// Engine and version.
    pub engine: String,
    /// Threads.
    pub threads: u32,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub generated_tokens: u32,
    /// Tokens in the cache before the prompt.
    pub kv_len: u32,
    /// Fresh loads.
    pub loads: u32,
    /// One pass over the prompt.
    pub prefill_ms: Option<Distribution>,
    /// Prefill, softmax and sampling of the first token.
    pub ttft_ms: Option<Distribution>,
    /// Decode step, softmax and sampling.
    pub tpot_ms: Option<Distribution>,
    /// Decode step alone.
    pub decode_ms: Option<Distribution>,
    /// Mean times of the phases, in ms.
    pub phases: PhaseTimes,
    /// Highest resident size of the process.
    pub peak_rss_bytes: Option<u64>,
    /// The most that the process's tensors took of a GPU's memory, where the model was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_device_bytes: Option<u64>,
    /// The first pass after a load, which pays for what is done once (packing of weights, loading
    /// of kernels and libraries): median over loads. In no other time here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_pass_ms: Option<f64>,
    /// Energy, where a meter exists.
    pub energy_j: Option<MeasuredEnergy>,
    /// One load of a file in memory or of synthetic weights, from open to usable.
    #[serde(default)]
    pub load_ms: Option<Distribution>,
    /// One load of a file from storage; null of synthetic weights, and where it was not cold.
    #[serde(default)]
    pub load_cold_ms: Option<Distribution>,
    /// Relative difference between the two halves of the loads.
    pub noise_floor: Option<f64>,
    /// Samples left out because the scheduler took the processor away.
    pub excluded_samples: u32,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

/// Times of the phases in ms, medians over the probed passes; `null` where not run.
///
/// `embedding`, `layers`, `lm_head` and `logits_copy` are parts of the pass that is named by
/// `of`: the prefill where there is one, else the decode step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseTimes {
    /// Which pass the parts belong to.
    pub of: Option<Phase>,
    /// From open to usable.
    pub load: Option<f64>,
    /// Gather of the embeddings.
    pub embedding: Option<f64>,
    /// All transformer layers and the last norm.
    pub layers: Option<f64>,
    /// LM head, last position.
    pub lm_head: Option<f64>,
    /// Logits to the host.
    pub logits_copy: Option<f64>,
    /// Temperature and softmax of one token.
    pub softmax: Option<f64>,
    /// Draw of one token.
    pub sampling: Option<f64>,
    /// Sum of the parts over the prompt.
    pub prefill: Option<f64>,
    /// Sum of the parts of one decode step.
    pub decode: Option<f64>,
}

/// Answer of `calibrate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalibrateReport {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The calibration that was written.
    pub calibration: CalibrationRef,
    /// The fit.
    pub fit: FitSummary,
    /// What each load of the design bought, in the order of measuring.
    pub design: Vec<DesignStep>,
    /// The prediction of a model that was not run before, beside its measurement.
    pub proof: Option<Proof>,
    /// Median relative difference between the two halves of the run.
    pub noise_floor: Option<f64>,
    /// Wall time of the whole command.
    pub seconds: f64,
    /// Where the measurements are.
    pub dataset: String,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

/// One load of a calibration's design, and why it was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DesignStep {
    /// Position of the load in the run.
    pub sequence: u32,
    /// Mini-model.
    pub model: String,
    /// Its workloads, as prompt@depth.
    pub workloads: Vec<String>,
    /// Wall time that it took.
    pub seconds: f64,
    /// Expected relative error of typical models before the load, from the covariance of the
    /// coefficients.
    pub expected_error_before: f64,
    /// And after.
    pub expected_error_after: f64,
    /// Kernel class whose uncertainty fell most.
    pub class: String,
}

/// Which calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalibrationRef {
    /// Id.
    pub id: String,
    /// File.
    pub file: String,
    /// Device id.
    pub device: String,
    /// Engine and version.
    pub engine: String,
    /// Threads.
    pub threads: u32,
}

/// A fit in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FitSummary {
    /// Rows over all regressions.
    pub observations: u32,
    /// The regressions.
    pub forms: Vec<TermFit>,
    /// Cross-validated error on whole passes.
    pub held_out: HeldOutError,
    /// Energy of a pass, where a meter exists.
    #[serde(default)]
    pub energy: Option<EnergyFit>,
    /// Times of loading.
    #[serde(default)]
    pub loading: Option<LoadFit>,
}

/// A model that was predicted first and run then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Proof {
    /// Model.
    pub model: String,
    /// Quantization scheme.
    pub quant: String,
    /// Fresh loads.
    pub loads: u32,
    /// Cases.
    pub cases: Vec<ProofCase>,
}

/// One case of the proof.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProofCase {
    /// Phase.
    pub phase: Phase,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens in the cache before the pass.
    pub kv_len: u32,
    /// Observed.
    pub observed_ms: f64,
    /// Predicted before it was observed.
    pub predicted_ms: f64,
    /// Lower end of the interval.
    pub lower_ms: f64,
    /// Upper end of the interval.
    pub upper_ms: f64,
    /// `predicted / observed − 1`.
    pub error: f64,
}

/// Answer of `inspect`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InspectReport {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The model.
    pub model: InspectedModel,
    /// All tensors.
    pub tensors: Vec<InspectedTensor>,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of all tensors as stored.
    pub weight_bytes: u64,
    /// Size of the file: see `file_contents`.
    pub file_bytes: u64,
    /// What `file_bytes` counts.
    pub file_contents: FileContents,
    /// Numbers of key and value that one cached token takes, all layers; windows are not applied.
    pub kv_elements_per_token: u64,
    /// Bytes of them as candle keeps them, in F32.
    pub kv_bytes_per_token: u64,
    /// FLOP and bytes of every operation, for the given prompt and depth.
    pub ops: Vec<InspectedOp>,
    /// Where description and operations are approximate, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approximations: Vec<String>,
}

/// What the size of a file counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileContents {
    /// All of a file that exists.
    File,
    /// Tensors, header and tokenizer, as published files have them.
    WithTokenizer,
    /// Tensors and header: what the tokenizer would add is not known.
    WithoutTokenizer,
}

/// The model of an inspection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InspectedModel {
    /// Name.
    pub name: String,
    /// Family.
    pub family: String,
    /// Quantization scheme.
    pub quant: String,
    /// The shape.
    #[serde(flatten)]
    pub shape: crate::ModelShape,
}

/// A tensor of an inspection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InspectedTensor {
    /// Name, role, layer, shape and type.
    #[serde(flatten)]
    pub tensor: TensorSpec,
    /// Bytes as stored.
    pub bytes: u64,
}

/// An operation of an inspection, summed over the layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InspectedOp {
    /// Kind, with the tensor role for a matmul (`matmul.ffn_down`).
    pub op: String,
    /// Kind.
    pub kind: OpKind,
    /// Matrix, for a matmul.
    pub role: Option<TensorRole>,
    /// Phase.
    pub phase: Phase,
    /// Calls in one pass.
    pub calls: u32,
    /// Arithmetic of one pass.
    pub flop: u64,
    /// Memory traffic of one pass, weights and activations, as the engine executes it.
    pub bytes: u64,
}

/// A preset of the catalogue, as `models` lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CatalogueModel {
    /// Id.
    pub id: String,
    /// Name on Hugging Face.
    pub hf_name: String,
    /// Family.
    pub family: String,
    /// Number of weights.
    pub parameters: u64,
    /// Number of weights that take part in the pass of one token; fewer where there are experts.
    pub active_parameters: u64,
    /// Quantization that is meant where none is asked for.
    pub quant: String,
    /// The shape.
    #[serde(flatten)]
    pub shape: crate::ModelShape,
    /// Where the model is published.
    pub source: String,
    /// Address of the copy of its configuration that the shape was compared with; null where the
    /// shape is from memory.
    #[serde(default)]
    pub checked: Option<String>,
    /// Bytes that the tokenizer adds to a GGUF file; null where no published file was compared, so
    /// that sizes of files are short by it.
    #[serde(default)]
    pub tokenizer_bytes: Option<u64>,
}
