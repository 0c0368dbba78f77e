//! Answer of `profile`: where the time of one real run went.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Allocator, Bound, Ceilings, Phase, Sampling, SpanClock, TensorRole, TensorType, ToolInfo,
};

/// An operation as the profiler sees it: finer than [`crate::OpKind`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum KernelOp {
    /// From opening the file to a usable model.
    Load,
    /// First passes: repacking of the weights, first touch of memory.
    Warmup,
    /// Text to tokens.
    Tokenize,
    /// The input tensor and the causal mask.
    Input,
    /// Gather of the token embeddings.
    Embedding,
    /// Root-mean-square norm.
    RmsNorm,
    /// Multiplication by a weight matrix of a layer.
    Matmul,
    /// Rotary embedding of queries or keys.
    Rope,
    /// Layout of queries, keys and values by head.
    AttentionLayout,
    /// New keys and values joined to the cache.
    KvConcat,
    /// Queries times keys, scale and mask.
    AttentionScores,
    /// Softmax of the scores.
    AttentionSoftmax,
    /// Scores times values.
    AttentionValues,
    /// Attention between the rotary embedding and the output projection, undivided.
    Attention,
    /// Rotary embedding and attention up to the output projection, undivided.
    RopeAttention,
    /// Products for queries, keys and values and their layout by head, undivided.
    AttentionInputs,
    /// Attention after the rotary embedding, output projection included, undivided.
    AttentionBlock,
    /// Gates and convolution of a short convolution, between its two projections.
    Convolution,
    /// Short convolution with its two projections and the residual sum, undivided.
    ShortConvolution,
    /// Feed-forward block after its norm, undivided.
    FeedForwardBlock,
    /// Activation and gate product of the feed-forward block.
    Activation,
    /// Residual sum.
    Residual,
    /// Multiplication by the LM head.
    LmHead,
    /// Copy of the logits to the host.
    LogitsCopy,
    /// Inside a pass, under no span that has a name.
    Uncovered,
    /// Temperature and softmax of the logits, with the copy that the sampler makes.
    Softmax,
    /// Draw of the token.
    Sampling,
    /// Token to text.
    Detokenize,
}

impl KernelOp {
    /// The serialised name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Warmup => "warmup",
            Self::Tokenize => "tokenize",
            Self::Input => "input",
            Self::Embedding => "embedding",
            Self::RmsNorm => "rms_norm",
            Self::Matmul => "matmul",
            Self::Rope => "rope",
            Self::AttentionLayout => "attention_layout",
            Self::KvConcat => "kv_concat",
            Self::AttentionScores => "attention_scores",
            Self::AttentionSoftmax => "attention_softmax",
            Self::AttentionValues => "attention_values",
            Self::Attention => "attention",
            Self::RopeAttention => "rope_attention",
            Self::AttentionInputs => "attention_inputs",
            Self::AttentionBlock => "attention_block",
            Self::Convolution => "convolution",
            Self::ShortConvolution => "short_convolution",
            Self::FeedForwardBlock => "feed_forward_block",
            Self::Activation => "activation",
            Self::Residual => "residual",
            Self::LmHead => "lm_head",
            Self::LogitsCopy => "logits_copy",
            Self::Uncovered => "uncovered",
            Self::Softmax => "softmax",
            Self::Sampling => "sampling",
            Self::Detokenize => "detokenize",
        }
    }
}

/// A phase of a run. All but `prefill` and `decode` are parts; those two are sums of parts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ProfilePhase {
    /// From opening the file to a usable model.
    Load,
    /// First passes: repacking of the weights, first touch of memory.
    Warmup,
    /// Text to tokens.
    Tokenize,
    /// The input tensor and the causal mask.
    Input,
    /// Gather of the token embeddings.
    Embedding,
    /// All layers, the final norm and what no span covers.
    Layers,
    /// Multiplication by the LM head.
    LmHead,
    /// Copy of the logits to the host.
    LogitsCopy,
    /// Temperature and softmax of the logits.
    Softmax,
    /// Draw of the token.
    Sampling,
    /// Token to text.
    Detokenize,
    /// The pass over the prompt: input, embedding, layers, LM head, logits copy.
    Prefill,
    /// The decode steps: the same parts.
    Decode,
}

impl ProfilePhase {
    /// The serialised name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Warmup => "warmup",
            Self::Tokenize => "tokenize",
            Self::Input => "input",
            Self::Embedding => "embedding",
            Self::Layers => "layers",
            Self::LmHead => "lm_head",
            Self::LogitsCopy => "logits_copy",
            Self::Softmax => "softmax",
            Self::Sampling => "sampling",
            Self::Detokenize => "detokenize",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }

    /// Whether it is a sum of other phases, and so is left out when phases are added up.
    pub fn is_sum(self) -> bool {
        matches!(self, Self::Prefill | Self::Decode)
    }
}

/// Where a kernel's time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KernelSource {
    /// Timed inside the run.
    InPlace,
    /// A share of a time inside the run, divided as microbenchmarks on the same shapes divide.
    Microbenchmark,
}

/// Answer of `profile`.
///
/// `wall_ms` is the sum of all phases that are no sums, and `unaccounted_ms`; it is also the sum
/// of all kernels and `unaccounted_ms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileReport {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who measured, with which build.
    pub tool: ToolInfo,
    /// When the run began, RFC 3339, UTC.
    pub time: String,
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
    /// What the allocator did with freed memory.
    #[serde(default)]
    pub allocator: Allocator,
    /// What the moments inside the passes were read from.
    #[serde(default, skip_serializing_if = "SpanClock::is_host")]
    pub span_clock: SpanClock,
    /// How tokens were drawn.
    #[serde(default)]
    pub sampling: Sampling,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub generated_tokens: u32,
    /// Text of the prompt, where one was given.
    pub prompt_text: Option<String>,
    /// Text generated, where the prompt was a text.
    pub generated_text: Option<String>,
    /// From the start of the load to the end of the last token.
    pub wall_ms: f64,
    /// The part of `wall_ms` that lies between the phases: the profiler's own loop.
    pub unaccounted_ms: f64,
    /// Prefill, softmax and draw of the first token.
    pub ttft_ms: Option<f64>,
    /// Mean of decode step, softmax and draw of the tokens after the first.
    pub tpot_ms: Option<f64>,
    /// `ttft + (generated_tokens − 1) · tpot`.
    pub e2e_ms: Option<f64>,
    /// Tokens of the prompt per second of prefill.
    pub prefill_tokens_per_second: Option<f64>,
    /// Decode steps per second.
    pub decode_tokens_per_second: Option<f64>,
    /// Times of the phases over the whole run.
    pub phases: Vec<PhaseRow>,
    /// Further passes over the prompt after the run, without probes: a run has one, and a
    /// comparison needs several.
    #[serde(default)]
    pub prompt_repeats_ms: Vec<f64>,
    /// Times of the kernels over the whole run, by layer.
    pub kernels: Vec<KernelRow>,
    /// What the probes cost.
    pub overhead: OverheadReport,
    /// Every generated token.
    pub tokens: Vec<TokenRow>,
    /// Time between tokens after the first.
    pub inter_token_ms: Option<Percentiles>,
    /// The slowest tokens, slowest first.
    pub slowest_tokens: Vec<SlowToken>,
    /// Rates of the device, measured before and after the run, that roofline shares refer to.
    pub ceilings: Ceilings,
    /// This run over an older one, where `--against` asked for it.
    pub comparison: Option<ProfileComparison>,
    /// Whether the run was stopped before its end.
    pub interrupted: bool,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

/// One phase over the whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseRow {
    /// Which.
    pub phase: ProfilePhase,
    /// How often.
    pub calls: u32,
    /// Total.
    pub ms: f64,
    /// Share of the wall time.
    pub share: f64,
    /// The part of `ms` within prefill, for a part of a forward pass.
    pub prefill_ms: Option<f64>,
    /// The part of `ms` within the decode steps, for a part of a forward pass.
    pub decode_ms: Option<f64>,
    /// Each time that was measured, in the order of the run.
    pub samples_ms: Vec<f64>,
}

/// One kernel of one layer in one phase, over the whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KernelRow {
    /// `prefill` or `decode`, or the part that the row itself is (`load`, `softmax`, …).
    pub phase: ProfilePhase,
    /// What.
    pub op: KernelOp,
    /// Which matrix or norm.
    pub role: Option<TensorRole>,
    /// In which layer.
    pub layer: Option<u32>,
    /// How the matrix is stored.
    pub tensor_type: Option<TensorType>,
    /// Dimensions of the matrix: inner width, rows.
    pub shape: Option<[u64; 2]>,
    /// Calls in the run.
    pub calls: u32,
    /// Total over the calls. Decode steps that were not probed are counted with the shares of
    /// the probed steps beside them.
    pub ms: f64,
    /// Share of the wall time.
    pub share: f64,
    /// Arithmetic of the calls; null where none is defined.
    pub flop: Option<u64>,
    /// Memory traffic of the calls, weights as executed; null where none is defined.
    pub bytes: Option<u64>,
    /// Achieved arithmetic.
    pub flop_per_second: Option<f64>,
    /// Achieved memory traffic.
    pub bytes_per_second: Option<f64>,
    /// Shortest time by the measured roofline, over the time taken. Above 1 where caches hold
    /// what the roofline reads from memory.
    pub roofline_share: Option<f64>,
    /// What limits it by the roofline.
    pub bound: Option<Bound>,
    /// Where the time comes from.
    pub source: KernelSource,
    /// Total of the kernel in each probed pass, in the order of the run.
    pub samples_ms: Vec<f64>,
}

/// What the probes cost, by phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OverheadReport {
    /// Of the pass over the prompt; null where there was none.
    pub prefill: Option<Overhead>,
    /// Of decode steps; null where there were none.
    pub decode: Option<Overhead>,
    /// Largest fraction that was allowed.
    pub budget: f64,
    /// Decode steps for each that is probed: at 2 half of them are, which is the most. Where the
    /// budget has made probes rarer, what held at the end of the run.
    pub sampled_every: u32,
    /// Cost of recording one edge of a span, in ns.
    pub ns_per_event: f64,
}

/// Cost of probing a pass, as a fraction of the pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Overhead {
    /// Median over pairs of probed / unprobed − 1.
    pub fraction: f64,
    /// Lower end of its 95 % interval (percentile bootstrap over pairs).
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
    /// Pairs of passes.
    pub pairs: u32,
    /// Tokens of each of these passes.
    pub n_tokens: u32,
    /// Span edges recorded in a probed pass.
    pub events: u32,
    /// `events · ns_per_event` over the unprobed pass: what recording alone must cost.
    pub computed: f64,
    /// What the probes cost of the phase's time in the run: only probed passes pay, and a prompt
    /// that was cut for its pairs pays no more than what was left of it.
    pub run: f64,
}

/// One generated token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenRow {
    /// From 0; the first token comes from prefill.
    pub index: u32,
    /// Tokens in the cache before its pass.
    pub kv_len: u32,
    /// Forward pass, softmax, draw and text. Of the first token: its TTFT, and its text.
    pub ms: f64,
    /// The pass that made it.
    pub phase: Phase,
    /// Forward pass alone.
    pub forward_ms: f64,
    /// Copy of the logits, a part of the forward pass.
    pub logits_copy_ms: f64,
    /// Softmax.
    pub softmax_ms: f64,
    /// Draw.
    pub sampling_ms: f64,
    /// Text.
    pub detokenize_ms: f64,
    /// Id of the token.
    pub token: u32,
    /// Whether the probes recorded its pass.
    pub probed: bool,
    /// Whether the scheduler took the processor away during it.
    pub preempted: bool,
}

/// Percentiles in ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 90th.
    pub p90: f64,
    /// 99th.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

/// A token that took long, and what ran then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SlowToken {
    /// Index of the token.
    pub index: u32,
    /// Tokens in the cache before its pass.
    pub kv_len: u32,
    /// Its time.
    pub ms: f64,
    /// Its time over the median token's.
    pub ratio: f64,
    /// What took longest beyond its usual time (`matmul.ffn_down, layer 3: +2.1 ms`), or why that
    /// is not known.
    pub what: String,
}

/// A profile over an older one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileComparison {
    /// Time of the older run.
    pub old_time: String,
    /// Time of this run.
    pub new_time: String,
    /// New over old speed of the fixed reference workload, memory part: the machine's own drift.
    pub stream_drift: f64,
    /// New over old speed of the fixed reference workload, arithmetic part.
    pub matmul_drift: f64,
    /// Smallest relative difference that counts: drift of the machine, and what fresh loads
    /// differ by.
    pub noise: f64,
    /// Phases, then kernels, by total time.
    pub rows: Vec<ComparisonRow>,
    /// Largest slowdown that was allowed, where one was.
    pub fail_above: Option<f64>,
    /// Whether a slowdown beyond noise and `fail_above` was found.
    pub failed: bool,
    /// Differences between the two runs that make them hard to compare.
    pub warnings: Vec<String>,
}

/// One phase or kernel in both runs: medians of one call of the phase, or of one pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComparisonRow {
    /// Phase.
    pub phase: ProfilePhase,
    /// Kernel; null for a whole phase.
    pub op: Option<KernelOp>,
    /// Which matrix or norm, all layers together.
    pub role: Option<TensorRole>,
    /// Median before.
    pub old_ms: f64,
    /// Median now.
    pub new_ms: f64,
    /// New over old.
    pub ratio: f64,
    /// Lower end of the 95 % interval of the ratio (bootstrap over samples of both runs); null
    /// where one of them has a single sample.
    pub lower: Option<f64>,
    /// Upper end.
    pub upper: Option<f64>,
    /// Whether the interval lies outside 1 ± noise.
    pub beyond_noise: bool,
}
