//! A measurement: one workload of one fresh load of a model. One JSON line of a dataset.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ColdLoad, DeviceInfo, EnergySample, EngineInfo, ModelRecord, OpKind, Phase, TensorRole,
    TensorType, ToolInfo, Workload,
};

/// One workload measured on one fresh load of a model, with raw samples.
///
/// Lines with the same `session` come from one interleaved run, lines with the same
/// (`session`, `sequence`) from one load. `sequence` is the order in which loads happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measurement {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who measured, with which build.
    pub tool: ToolInfo,
    /// When the load began, RFC 3339, UTC.
    pub time: String,
    /// The interleaved run that this line belongs to.
    pub session: String,
    /// Position of the load in the session, from 0.
    pub sequence: u32,
    /// Which fresh load of this configuration, from 0.
    pub load: u32,
    /// Where.
    pub device: DeviceInfo,
    /// With what.
    pub engine: EngineInfo,
    /// Threads of the engine.
    pub threads: u32,
    /// What the allocator did with freed memory.
    #[serde(default)]
    pub allocator: Allocator,
    /// How tokens were drawn.
    #[serde(default)]
    pub sampling: Sampling,
    /// What.
    pub model: ModelRecord,
    /// How much.
    pub workload: Workload,
    /// Time to load, from open to usable, without the first pass's repacking.
    pub load_ns: u64,
    /// The load of the same file just before, from storage; `None` of synthetic weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_load: Option<ColdLoad>,
    /// Warm-up passes before the samples: (tokens, ns); the first pays for repacking.
    pub warmup: Vec<WarmupPass>,
    /// Forward passes over the prompt.
    pub prefill: Vec<PassSample>,
    /// Decode steps.
    pub decode: Vec<PassSample>,
    /// In-place times of operations, from probed passes.
    pub kernels: Vec<KernelSample>,
    /// What their times were read from.
    #[serde(default, skip_serializing_if = "SpanClock::is_host")]
    pub span_clock: SpanClock,
    /// Memory of the process.
    pub memory: MemorySample,
    /// Energy of the phases, where there is a meter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<EnergySample>,
    /// State of the machine.
    pub environment: Environment,
    /// The fixed reference workload just before and just after the load's block.
    pub reference: Vec<ReferenceSample>,
    /// What the reader should know before trusting this line.
    pub warnings: Vec<String>,
}

/// What the process's allocator does with memory that is freed.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Allocator {
    /// The system's default: large temporaries may fault in page by page in every layer.
    #[default]
    System,
    /// Freed memory is kept for the next pass.
    Kept,
}

/// What the moments inside a pass are read from.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SpanClock {
    /// The host's clock: right on a processor, where a call that has returned is done.
    #[default]
    Host,
    /// Events in the device's own queue of work.
    Events,
    /// The host's clock after waiting for the device at every moment: launches that would hide
    /// behind earlier work are in these times.
    Synchronised,
}

impl SpanClock {
    /// Whether it is the host's, as of every line before there were others.
    pub fn is_host(&self) -> bool {
        *self == Self::Host
    }
}

/// How the next token is drawn from the logits.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Softmax at temperature 1.0 and a draw.
    #[default]
    Temperature,
    /// The largest logit; there is no softmax.
    Greedy,
}

/// One pass that was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WarmupPass {
    /// Tokens that went in.
    pub n_tokens: u32,
    /// Its time.
    pub ns: u64,
}

/// One timed forward pass with what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PassSample {
    /// Tokens that went in: the prompt, or 1.
    pub n_tokens: u32,
    /// Tokens in the cache before.
    pub kv_len: u32,
    /// From token ids in host memory to logits on the host.
    pub forward_ns: u64,
    /// The part of `forward_ns` that copies the logits.
    pub logits_copy_ns: u64,
    /// Temperature and softmax, with the copy that candle's sampler makes.
    pub softmax_ns: u64,
    /// Draw of the token.
    pub sampling_ns: u64,
    /// Whether the probes were recording.
    pub probed: bool,
    /// Whether the scheduler took the processor away during the pass.
    pub preempted: bool,
}

impl PassSample {
    /// Forward, softmax and sampling: the prompt's TTFT or the step's inter-token latency.
    pub fn total_ns(&self) -> u64 {
        self.forward_ns + self.softmax_ns + self.sampling_ns
    }
}

/// Self times of one kind of operation, one total per probed pass, in the order of the probed
/// samples of its phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelSample {
    /// Phase of the passes.
    pub phase: Phase,
    /// What.
    pub op: OpKind,
    /// Which matrix, for a matmul.
    pub role: Option<TensorRole>,
    /// How it is stored, for a matmul.
    pub tensor_type: Option<TensorType>,
    /// Calls in one pass.
    pub calls: u32,
    /// Total over the calls, per probed pass.
    pub ns: Vec<u64>,
}

/// Memory of the process around a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemorySample {
    /// Resident before the load.
    pub rss_before_bytes: Option<u64>,
    /// Resident after load, warm-up and repacking.
    pub rss_loaded_bytes: Option<u64>,
    /// Highest resident size from the load to the end of the workload.
    pub peak_rss_bytes: Option<u64>,
    /// Available in the system before the load.
    pub available_bytes: Option<u64>,
    /// The same of a GPU's own memory, where the model was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceMemorySample>,
}

/// Memory of a GPU around a load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceMemorySample {
    /// Bytes of this process's tensors before the load.
    pub before_bytes: Option<u64>,
    /// Bytes after load and warm-up.
    pub loaded_bytes: Option<u64>,
    /// The most from the load to the end of the workload; of a driver that keeps none, the most
    /// that was seen between passes.
    pub peak_bytes: Option<u64>,
    /// Free before the load.
    pub available_bytes: Option<u64>,
}

/// State of the machine while a workload ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// One-minute load average.
    pub load_average: Option<f64>,
    /// Involuntary context switches of this process during the workload.
    pub involuntary_switches: Option<u64>,
    /// Minor page faults of this process during the workload.
    pub minor_faults: Option<u64>,
    /// Major page faults of this process during the workload.
    pub major_faults: Option<u64>,
    /// Share of processor time stolen by the hypervisor during the workload.
    pub steal_fraction: Option<f64>,
    /// Mean clock over the processors.
    pub frequency_mhz: Option<f64>,
    /// Frequency governor.
    pub governor: Option<String>,
    /// Highest temperature of a processor sensor.
    pub temperature_c: Option<f64>,
    /// Throttle events during the workload.
    pub throttle_events: Option<u64>,
    /// Whether the machine runs on battery.
    pub on_battery: Option<bool>,
    /// Platform power profile.
    pub power_profile: Option<String>,
    /// State of the GPU that ran the workload, where its driver tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuState>,
}

/// State of a GPU at a moment. What its driver does not tell is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuState {
    /// Name of the card.
    pub name: Option<String>,
    /// Version of its driver.
    pub driver: Option<String>,
    /// Clock of its multiprocessors.
    pub clock_mhz: Option<u32>,
    /// Clock of its memory.
    pub memory_clock_mhz: Option<u32>,
    /// Temperature of the chip.
    pub temperature_c: Option<u32>,
    /// Power of the card.
    pub power_w: Option<f64>,
    /// What holds the clocks down, by NVML's names in lower case (`sw_power_cap`).
    pub throttled_by: Vec<String>,
    /// Memory in all.
    pub memory_bytes: Option<u64>,
    /// Memory that no program has taken.
    pub free_bytes: Option<u64>,
}

/// One run of the fixed reference workload.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReferenceSample {
    /// Sequential read of a buffer larger than the last-level cache, all threads.
    pub stream_bytes_per_second: f64,
    /// A small quantized matmul of the engine, all threads.
    pub matmul_flop_per_second: f64,
}
