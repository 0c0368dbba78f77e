//! Measured speeds of any engine on any device: the rows of the public store, and what other
//! people's benchmarks become on import.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::SCHEMA_VERSION;

/// Which part of a request a speed was measured on.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SpeedPhase {
    /// Passes over a prompt (`pp` of llama-bench).
    Prefill,
    /// Steps of one token (`tg` of llama-bench).
    Decode,
    /// Prompt and generation under one clock (`pp…+tg…`): neither can be told from it.
    Mixed,
}

impl SpeedPhase {
    /// The serialised name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Mixed => "mixed",
        }
    }
}

/// One measured speed: one test of one model on one device with one engine.
///
/// The names are the columns of the public store. A field that the source does not tell is absent;
/// nothing is guessed. Engine, version, backend, threads and options are part of what identifies a
/// row: rows that differ in them are never merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpeedRow {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Where the number was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_url: Option<String>,
    /// When it was measured or published: a year, a month, a day, RFC 3339, or `from..to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_date: Option<String>,
    /// Engine: `llama.cpp`, `ik_llama.cpp`, `candle`, `ollama`, ….
    pub runtime: String,
    /// Its version, build and commit, or what the source tells of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<String>,
    /// Device, an id of the store's `devices.csv` or of one's own.
    pub device_id: String,
    /// `cpu`, `gpu`, `igpu` or `soc` (a GPU or CPU that shares the memory of a system on a chip).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_kind: Option<String>,
    /// What did the arithmetic: `cpu`, `cuda`, `metal`, `rocm`, `vulkan`, `sycl`, `opencl`, `npu`, ….
    pub backend: String,
    /// Threads of the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Model, an id of the store's `models.csv` or the name of the file.
    pub model: String,
    /// Architecture, by the engine's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Weights, in units of 10⁹; all experts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params_b: Option<f64>,
    /// Quantization: a scheme by our name (`Q4_K_M`), else the source's name in lower case.
    pub quant: String,
    /// Size of the weights in units of 2³⁰ bytes, as the engine or the file system tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_file_gib: Option<f64>,
    /// What was timed.
    pub phase: SpeedPhase,
    /// Tokens of the prompt; 0 in decode rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_prompt: Option<u32>,
    /// Tokens generated; 0 in prefill rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_gen: Option<u32>,
    /// Tokens in the cache before the test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_depth: Option<u32>,
    /// `ubN`: micro-batch of N tokens; `N`: sequences at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Flash attention: 1 on, 0 off, −1 left to the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flash_attn: Option<i8>,
    /// Mean speed.
    pub tokens_per_second: f64,
    /// Sample standard deviation of the repetitions, in tokens per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stddev: Option<f64>,
    /// What else the source says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// Step to which the speed was rounded, in tokens per second, where that is coarse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<f64>,
    /// What a reader should weigh (`small_batch`, `quant_inferred`); the row counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Why the row is listed and must not be used; absent where it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded: Option<String>,
    /// Bytes of all tensors, where they are known exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_bytes: Option<u64>,
    /// Number of weights, where it is known exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_params: Option<u64>,
    /// The rest of what llama-bench told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llama_bench: Option<Box<BenchDetails>>,
    /// Time of one pass over the prompt, or of one token; derived, see [`SpeedRow::derive`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// Tokens in the cache before the pass, or before the middle step of those that were timed;
    /// derived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_len: Option<f64>,
}

impl SpeedRow {
    /// A row of what every row must have; all else is absent.
    pub fn new(key: SpeedKey<'_>, phase: SpeedPhase, tokens_per_second: f64) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            source_url: None,
            source_date: None,
            runtime: key.runtime.to_owned(),
            runtime_version: None,
            device_id: key.device_id.to_owned(),
            device_kind: None,
            backend: key.backend.to_owned(),
            threads: None,
            model: key.model.to_owned(),
            arch: None,
            params_b: None,
            quant: key.quant.to_owned(),
            model_file_gib: None,
            phase,
            n_prompt: None,
            n_gen: None,
            n_depth: None,
            batch: None,
            flash_attn: None,
            tokens_per_second,
            stddev: None,
            notes: None,
            resolution: None,
            flags: Vec::new(),
            excluded: None,
            model_bytes: None,
            model_params: None,
            llama_bench: None,
            ms: None,
            kv_len: None,
        }
    }

    /// Fills `ms` and `kv_len` from the other fields, whatever they were.
    pub fn derive(&mut self) {
        self.ms = self.pass_ms();
        self.kv_len = self.kv_midpoint();
    }

    /// Whether the row may be fitted and judged.
    pub fn is_usable(&self) -> bool {
        self.excluded.is_none()
    }

    /// Tokens in the cache where the timed work happened.
    ///
    /// Before a prompt that is the depth `d`. Generating `n` tokens visits `d … d + n`, so the mean
    /// over its steps belongs to `d + n / 2`. `None` where the source does not tell the lengths.
    pub fn kv_midpoint(&self) -> Option<f64> {
        let depth = f64::from(self.n_depth?);
        match self.phase {
            SpeedPhase::Prefill => Some(depth),
            SpeedPhase::Decode => {
                let prompt = f64::from(self.n_prompt.unwrap_or(0));
                Some(depth + prompt + f64::from(self.n_gen?) / 2.0)
            }
            SpeedPhase::Mixed => None,
        }
    }

    /// Time of one pass over the prompt (prefill) or of one token (decode), in ms.
    ///
    /// Of the repetitions' times the median, else their mean, else tokens ÷ speed: the mean of
    /// speeds is not the speed of the mean time.
    /// `None` for mixed tests, and for a prompt of unknown length.
    pub fn pass_ms(&self) -> Option<f64> {
        let tokens = match self.phase {
            SpeedPhase::Prefill => self.n_prompt?,
            SpeedPhase::Decode => 1,
            SpeedPhase::Mixed => return None,
        };
        // A test is one pass over the prompt, or `n_gen` steps.
        let steps = match self.phase {
            SpeedPhase::Decode => self.n_gen.filter(|n| *n > 0),
            _ => Some(1),
        };
        let test_ns = self.llama_bench.as_deref().and_then(BenchDetails::test_ns);
        match (test_ns, steps) {
            (Some(ns), Some(steps)) => Some(ns / 1e6 / f64::from(steps)),
            _ => Some(1e3 * f64::from(tokens) / self.tokens_per_second),
        }
    }
}

/// What every speed must say of its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeedKey<'a> {
    /// Engine.
    pub runtime: &'a str,
    /// Device.
    pub device_id: &'a str,
    /// Backend.
    pub backend: &'a str,
    /// Model.
    pub model: &'a str,
    /// Quantization.
    pub quant: &'a str,
}

/// What llama-bench tells beside the columns of a [`SpeedRow`], by its own names and in its own
/// units; versions and forks differ in what they have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchDetails {
    /// Commit of the build, shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_commit: Option<String>,
    /// Number of the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_number: Option<u64>,
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_info: Option<String>,
    /// All GPUs that were present, used or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_info: Option<String>,
    /// Backends that were built in, as llama-bench joins them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backends: Option<String>,
    /// Path of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_filename: Option<String>,
    /// Architecture, size and quantization in one text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_type: Option<String>,
    /// Tokens that are submitted at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_batch: Option<u32>,
    /// Tokens that are computed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_ubatch: Option<u32>,
    /// Type of the keys in the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub type_k: Option<String>,
    /// Type of the values in the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub type_v: Option<String>,
    /// Layers on the GPU; −1 and 99 are all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_gpu_layers: Option<i64>,
    /// Layers whose experts stay on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_cpu_moe: Option<u32>,
    /// How several GPUs share the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_mode: Option<String>,
    /// Devices that were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<String>,
    /// When the test began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_time: Option<String>,
    /// Mean time of one repetition of the whole test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avg_ns: Option<u64>,
    /// Sample standard deviation of the repetitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stddev_ns: Option<u64>,
    /// Time of each repetition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples_ns: Vec<u64>,
    /// Speed of each repetition, in tokens per second.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples_ts: Vec<f64>,
    /// All other fields, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, Value>,
}

impl BenchDetails {
    /// Time of the whole test: the median of the repetitions, else their mean.
    pub fn test_ns(&self) -> Option<f64> {
        let mut samples = self.samples_ns.clone();
        samples.sort_unstable();
        let middle = samples.len() / 2;
        let median = match samples.len() {
            0 => None,
            n if n % 2 == 1 => Some(samples[middle] as f64),
            _ => Some(samples[middle - 1] as f64 / 2.0 + samples[middle] as f64 / 2.0),
        };
        median.or(self.avg_ns.map(|ns| ns as f64)).filter(|ns| *ns > 0.0)
    }
}

/// One kernel's speed on one device, from `test-backend-ops perf`.
///
/// ggml calls flop per second `flops`, and counts bandwidth in 2³⁰ bytes where it says GB
/// (`test-backend-ops.cpp`, `eval_perf`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KernelAnchor {
    /// See [`crate::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Engine, `llama.cpp` unless told otherwise.
    pub runtime: String,
    /// Device, as the importer was told.
    pub device_id: String,
    /// Backend by our name, from `backend_name`.
    pub backend: String,
    /// Backend and its number as ggml names it (`CUDA0`, `Vulkan1`, `CPU`).
    pub backend_name: String,
    /// ggml operation (`MUL_MAT`).
    pub op_name: String,
    /// Its parameters as ggml prints them.
    pub op_params: String,
    /// The same, taken apart at the commas outside of brackets.
    pub params: BTreeMap<String, String>,
    /// Time of one run.
    pub time_us: f64,
    /// Arithmetic per second, where ggml counts it; one multiply-accumulate is 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flop_per_second: Option<f64>,
    /// Memory traffic per second, in 2³⁰ bytes, where ggml counts it (as `bandwidth_gb_s`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_gib_per_second: Option<f64>,
    /// Memory of the operands, in 2¹⁰ bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_kib: Option<u64>,
    /// Runs that the time is the mean of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_runs: Option<u64>,
    /// Commit of the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_commit: Option<String>,
    /// When it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_time: Option<String>,
    /// All other fields, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(phase: SpeedPhase) -> SpeedRow {
        let key = SpeedKey {
            runtime: "llama.cpp",
            device_id: "d",
            backend: "cpu",
            model: "m",
            quant: "Q4_K_M",
        };
        SpeedRow { n_depth: Some(4096), ..SpeedRow::new(key, phase, 50.0) }
    }

    #[test]
    fn the_middle_of_a_generation_is_half_of_it_behind_the_depth() {
        let decode = SpeedRow { n_gen: Some(128), ..row(SpeedPhase::Decode) };
        assert_eq!(decode.kv_midpoint(), Some(4096.0 + 64.0));
        let odd = SpeedRow { n_gen: Some(1), n_depth: Some(0), ..row(SpeedPhase::Decode) };
        assert_eq!(odd.kv_midpoint(), Some(0.5));
        let prefill = SpeedRow { n_prompt: Some(512), ..row(SpeedPhase::Prefill) };
        assert_eq!(prefill.kv_midpoint(), Some(4096.0));
        assert_eq!(row(SpeedPhase::Decode).kv_midpoint(), None, "length unknown");
    }

    #[test]
    fn speeds_become_times_of_a_pass_or_a_token() {
        let prefill = SpeedRow { n_prompt: Some(512), ..row(SpeedPhase::Prefill) };
        // 512 tokens at 50 a second.
        assert_eq!(prefill.pass_ms(), Some(10_240.0));
        assert_eq!(row(SpeedPhase::Decode).pass_ms(), Some(20.0));
        assert_eq!(row(SpeedPhase::Prefill).pass_ms(), None, "length unknown");
        assert_eq!(row(SpeedPhase::Mixed).pass_ms(), None);
    }

    #[test]
    fn measured_times_go_before_the_mean_of_speeds() {
        let timed = |samples_ns: Vec<u64>, avg_ns| {
            let details = BenchDetails { samples_ns, avg_ns, ..BenchDetails::default() };
            let llama_bench = Some(Box::new(details));
            SpeedRow { n_gen: Some(10), llama_bench, ..row(SpeedPhase::Decode) }.pass_ms()
        };
        // The median of 10 steps in 100, 120 and 500 ms.
        assert_eq!(timed(vec![100_000_000, 500_000_000, 120_000_000], Some(1)), Some(12.0));
        assert_eq!(timed(vec![100_000_000, 200_000_000], None), Some(15.0));
        assert_eq!(timed(vec![], Some(240_000_000)), Some(24.0));
        assert_eq!(timed(vec![], Some(0)), Some(20.0));
    }

    #[test]
    fn a_row_survives_json() {
        let mut row = SpeedRow { n_gen: Some(128), ..row(SpeedPhase::Decode) };
        row.flags = vec!["rounded".into()];
        row.llama_bench = Some(Box::new(BenchDetails {
            build_number: Some(5163),
            other: [("no_host".to_owned(), Value::Bool(true))].into(),
            ..BenchDetails::default()
        }));
        row.derive();
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(serde_json::from_str::<SpeedRow>(&text).unwrap(), row);
        assert!(text.contains("\"kv_len\":4160.0") && text.contains("\"ms\":20.0"), "{text}");
    }
}
