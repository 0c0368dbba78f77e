//! The raw timeline of one profiled run: what happened when, before anything is summed.

use crate::{
    Allocator, Ceilings, DeviceInfo, EngineInfo, KernelOp, ModelSpec, PassSample, Phase, Sampling,
    SpanClock, TensorRole, ToolInfo,
};

/// One run of a model under the probes, on one clock: all `_ns` moments count from its start.
///
/// The run is load, tokenization, warm-up, one pass over the prompt and the decode steps, in this
/// order and without gaps but the ones that `end_ns` reveals.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// Who measured.
    pub tool: ToolInfo,
    /// When it began, RFC 3339, UTC.
    pub time: String,
    /// What ran.
    pub model: ModelSpec,
    /// Where.
    pub device: DeviceInfo,
    /// With what.
    pub engine: EngineInfo,
    /// Threads of the engine.
    pub threads: u32,
    /// What the allocator did with freed memory.
    pub allocator: Allocator,
    /// How tokens were drawn.
    pub sampling: Sampling,
    /// Best rates of the fixed reference workload, before and after the run.
    pub ceilings: Ceilings,
    /// Load, warm-up passes, tokenization.
    pub stretches: Vec<Stretch>,
    /// The pass over the prompt, then the decode steps.
    pub passes: Vec<TimedPass>,
    /// End of the run, after the last token's text.
    pub end_ns: u64,
    /// State of the machine at moments between passes.
    pub counters: Vec<CounterSample>,
    /// How blocks that no span divides do divide, by microbenchmarks on the run's shapes.
    pub splits: Vec<BlockSplit>,
    /// The pairs of passes that say what the probes cost.
    pub pairs: OverheadPairs,
    /// Forward times of further passes over the whole prompt after the run, unprobed.
    pub prompt_repeats_ns: Vec<u64>,
    /// What the moments inside probed passes were read from.
    pub span_clock: SpanClock,
    /// Cost of one recorded span edge, in ns.
    pub ns_per_event: f64,
    /// Decode steps for each that is probed, at the end of the run.
    pub sampled_every: u32,
    /// The text of the prompt, where one was given.
    pub prompt_text: Option<String>,
    /// The text that the model generated, where the prompt was a text.
    pub generated_text: Option<String>,
    /// Whether the run was stopped before its end.
    pub interrupted: bool,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

/// Time before or between passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// [`KernelOp::Load`], [`KernelOp::Warmup`] or [`KernelOp::Tokenize`].
    pub op: KernelOp,
    /// Its start.
    pub start_ns: u64,
    /// Its length.
    pub ns: u64,
}

/// One forward pass with what follows it: softmax, draw, text.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedPass {
    /// Prefill or decode.
    pub phase: Phase,
    /// Start of the forward pass. Softmax, sampling and detokenization follow it at once.
    pub start_ns: u64,
    /// Its times.
    pub sample: PassSample,
    /// Turning the drawn token into text; 0 without a tokenizer.
    pub detokenize_ns: u64,
    /// The drawn token.
    pub token: u32,
    /// What ran in it, where it was probed: slices that follow each other without a gap and sum
    /// to the forward time, the copy of the logits included.
    pub slices: Vec<Slice>,
}

impl TimedPass {
    /// Forward, softmax, draw and text.
    pub fn total_ns(&self) -> u64 {
        self.sample.total_ns() + self.detokenize_ns
    }
}

/// A stretch of a pass in which one operation ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// What.
    pub op: KernelOp,
    /// Which matrix or norm.
    pub role: Option<TensorRole>,
    /// In which layer.
    pub layer: Option<u32>,
    /// Its start, from the start of the pass.
    pub start_ns: u64,
    /// Its length.
    pub ns: u64,
}

/// Times of the parts of a block that no span divides, for one pass, measured alone.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSplit {
    /// The block, as slices name it.
    pub block: KernelOp,
    /// The layers in which it is the same: tensors of the same types and shapes.
    pub layers: Vec<u32>,
    /// Tokens of the pass.
    pub n_tokens: u32,
    /// Tokens in the cache before it.
    pub kv_len: u32,
    /// Its parts, in the order in which they end.
    pub parts: Vec<BlockPart>,
}

/// One part of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockPart {
    /// What.
    pub op: KernelOp,
    /// Which matrix.
    pub role: Option<TensorRole>,
    /// Its time in one layer.
    pub ns: f64,
}

/// State of the machine at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CounterSample {
    /// When.
    pub at_ns: u64,
    /// Resident memory.
    pub rss_bytes: Option<u64>,
    /// Mean clock over the processors.
    pub frequency_mhz: Option<f64>,
    /// Highest temperature of a processor sensor.
    pub temperature_c: Option<f64>,
}

/// What pairs of passes over the same tokens, one probed and one not, say of the probes' cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OverheadPairs {
    /// Prompt passes.
    pub prefill: PhasePairs,
    /// Decode steps.
    pub decode: PhasePairs,
}

/// The pairs of one phase.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PhasePairs {
    /// Tokens of each pass: a long prompt is cut, since the probes cost the same in a short one.
    pub n_tokens: u32,
    /// Span edges recorded in a probed pass.
    pub events: u32,
    /// The pairs.
    pub pairs: Vec<OverheadPair>,
}

/// One probed and one unprobed pass of the same work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OverheadPair {
    /// Forward time with the probes recording.
    pub probed_ns: f64,
    /// Forward time without.
    pub unprobed_ns: f64,
}
