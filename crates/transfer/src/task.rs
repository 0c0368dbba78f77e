//! One question to the model: what runs on what, the time that physics allows for it, and its
//! coordinates among the others.

use foretoken_spec::{DeviceBackend, Phase};
use serde::{Deserialize, Serialize};

use crate::facts::{ModelFacts, plain, quant_family};
use crate::machine::{Dots, Machine, Processor};

/// When a build was made that nobody dates, in rows that are known; predictions resolve theirs by
/// [`crate::dates`] first. The middle of the dates that are known.
const UNDATED: f64 = 2025.5;
/// Tokens of a pass where the engine is not told otherwise (llama.cpp's `-ub`).
pub(crate) const MICRO_BATCH: u32 = 512;

/// How a model is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Engine.
    pub engine: String,
    /// Backend.
    pub backend: DeviceBackend,
    /// Threads; those of all fast cores where not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Whether attention was fused; `None` where it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flash_attention: Option<bool>,
    /// When the build was made, as a year with its fraction; where not told, what is usual among
    /// the rows of engine and backend ([`crate::BuildDates`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub year: Option<f64>,
    /// Tokens that are computed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<u32>,
}

impl Setup {
    /// An engine on a backend, all else as usual.
    pub fn new(engine: impl Into<String>, backend: DeviceBackend) -> Self {
        Self {
            engine: engine.into(),
            backend,
            threads: None,
            flash_attention: None,
            year: None,
            micro_batch: None,
        }
    }
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Phase.
    pub phase: Phase,
    /// Tokens of the prompt (prefill); 1 of a decode step.
    pub n_tokens: f64,
    /// Tokens in the cache before; for decode the middle of the steps.
    pub depth: f64,
}

impl Work {
    /// A prompt of `n_tokens` behind `depth` tokens.
    pub fn prefill(n_tokens: u32, depth: u32) -> Self {
        let (n_tokens, depth) = (f64::from(n_tokens.max(1)), f64::from(depth));
        Self { phase: Phase::Prefill, n_tokens, depth }
    }

    /// A step of one token behind `kv_len` tokens.
    pub fn decode(kv_len: f64) -> Self {
        Self { phase: Phase::Decode, n_tokens: 1.0, depth: kv_len.max(0.0) }
    }
}

/// Names of the coordinates of a machine, by processor; the covariance falls with the distance.
pub(crate) fn machine_names(processor: Processor) -> &'static [&'static str] {
    match processor {
        Processor::Gpu => &[
            "ln_bandwidth",
            "ln_flop_per_byte",
            "ln_matrix_over_fp32",
            "year",
            "stacked_memory",
            "shared_memory",
        ],
        Processor::Cpu => &[
            "ln_cores",
            "ln_bandwidth",
            "rented",
            "system_on_chip",
            "wide_vectors",
            "int8_dots",
            "year",
        ],
    }
}

/// A row of the covariance: coordinates and what must be equal to count as the same.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    /// Coordinates of the machine, in units of their usual effect.
    pub machine: Vec<f64>,
    /// Coordinates of the work.
    pub work: Vec<f64>,
    /// Equalities.
    pub tags: Tags,
    /// Seconds per token that physics allows.
    pub floor: f64,
    /// Variance of the logarithm of what was observed, from its rounding.
    pub rounding: f64,
}

/// Hashes of names; equal hashes are equal names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tags {
    pub device: u64,
    pub backend: u64,
    pub engine: u64,
    pub family: u64,
    pub quant: u64,
    pub generation: u64,
    pub maker: u64,
    pub source: u64,
}

/// FNV-1a: the same on every machine and in every version.
pub(crate) fn tag(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Point {
    /// The point of a task; `source` names who measured it.
    pub fn new(
        machine: &Machine,
        setup: &Setup,
        model: &ModelFacts,
        work: &Work,
        source: &str,
    ) -> Self {
        let task = Task { machine, setup, model, work };
        let (floor, ratio) = match machine.processor {
            Processor::Gpu => (task.gpu_floor(), 0.0),
            Processor::Cpu => task.cpu_floor(),
        };
        Self {
            machine: task.machine_coordinates(),
            work: task.work_coordinates(ratio),
            tags: Tags {
                device: tag(&machine.id),
                backend: tag(setup.backend.name()),
                engine: tag(&setup.engine),
                family: tag(quant_family(&model.quant)),
                quant: tag(&plain(&model.quant)),
                generation: tag(&machine.generation),
                maker: tag(&machine.maker),
                source: tag(source),
            },
            floor,
            rounding: 0.0,
        }
    }
}

struct Task<'a> {
    machine: &'a Machine,
    setup: &'a Setup,
    model: &'a ModelFacts,
    work: &'a Work,
}

impl Task<'_> {
    fn is_decode(&self) -> bool {
        self.work.phase == Phase::Decode
    }

    /// Tokens of one pass.
    fn pass_tokens(&self) -> f64 {
        let micro = f64::from(self.setup.micro_batch.unwrap_or(MICRO_BATCH).max(1));
        if self.is_decode() { 1.0 } else { self.work.n_tokens.min(micro).max(1.0) }
    }

    /// Bytes of the cache that a decode step reads.
    fn cache_bytes(&self) -> f64 {
        self.model.kv_bytes_per_token * self.work.depth
    }

    /// FLOP of a token in matrix products, one multiply-accumulate counted as 2.
    fn flop(&self) -> f64 {
        2.0 * self.model.active_params
    }

    /// FLOP of a prompt's token in attention: scores and their weighted sum, over half of the
    /// prompt on average and all that is cached.
    fn attention_flop(&self) -> f64 {
        let context = self.work.n_tokens / 2.0 + self.work.depth;
        4.0 * self.model.attention_width * self.model.n_layers * context
    }

    /// Bytes of weights that a pass reads, per token of it; the tokens of a pass meet different
    /// experts, at most all.
    fn pass_bytes_per_token(&self) -> f64 {
        let n = self.pass_tokens();
        (self.model.step_bytes * n).min(self.model.total_bytes).max(self.model.step_bytes) / n
    }

    /// Seconds per token on a graphics processor: bytes over bandwidth, arithmetic over peak, and
    /// the launches of a layer's kernels (some 10 of 0.6 µs on what was measured).
    fn gpu_floor(&self) -> f64 {
        let bandwidth = self.machine.bandwidth_gbps.unwrap_or(100.0) * 1e9;
        let fp32 = self.machine.fp32_tflops * 1e12;
        if self.is_decode() {
            let bytes = self.model.step_bytes + self.cache_bytes();
            return bytes / bandwidth + 0.1 * self.flop() / fp32 + 6e-6 * self.model.n_layers;
        }
        // Kernels reach between the vector and the matrix peak: their geometric mean.
        let rate = (fp32 * self.machine.matrix_tflops * 1e12).sqrt();
        self.flop() / rate
            + self.pass_bytes_per_token() / bandwidth
            + 0.5 * self.attention_flop() / fp32
    }

    /// Fast cores that work, and whether more threads than cores run.
    fn used_cores(&self) -> (f64, bool) {
        let cores = self.machine.cores;
        let threads = self.setup.threads.map_or(cores, f64::from).max(1.0);
        (threads.min(cores), threads > 1.01 * cores)
    }

    /// Seconds per token on processor cores, and the logarithm of what the arithmetic of a step
    /// takes over what its bytes take.
    ///
    /// A core moves about as many bytes and unpacks about as many weights in a cycle as a quarter
    /// of its f32 operations (32 in AVX2 and Apple's cores: 8; 16 in a Cortex-A76: 4): wider cores
    /// have more loads in flight. AVX-512 adds nothing to either.
    fn cpu_floor(&self) -> (f64, f64) {
        let machine = self.machine;
        let (used, _) = self.used_cores();
        let width = match machine.maker.as_str() {
            "apple" => 10.0,
            _ => machine.per_cycle().min(32.0) / 4.0,
        };
        let cycles = used * machine.clock_ghz * 1e9;
        let (per_core, shared) = (cycles * width, machine.bandwidth_gbps.map(|b| b * 1e9));
        let bandwidth = match shared {
            Some(shared) => (per_core.powi(-2) + shared.powi(-2)).powf(-0.5),
            None => per_core,
        };
        // Without dot products 32 weights take some 14 instructions instead of 8. With no vectors
        // at all some ten instructions unpack and add one weight.
        let weights_per_cycle = match machine.dots {
            Dots::Scalar => 0.1,
            Dots::None => 0.5 * width,
            _ => width,
        };
        if self.is_decode() {
            let by_bytes = (self.model.step_bytes + self.cache_bytes()) / (0.8 * bandwidth);
            let codebook = if quant_family(&self.model.quant) == "iq" { 2.0 } else { 1.0 };
            // A cached number is converted, multiplied and summed: three times a weight.
            let numbers = self.model.active_params * codebook + 1.5 * self.cache_bytes();
            let by_weights = numbers / (cycles * weights_per_cycle);
            let floor = (by_bytes.powi(3) + by_weights.powi(3)).cbrt();
            return (floor, (by_weights / by_bytes).ln());
        }
        let is_float = quant_family(&self.model.quant) == "float";
        let faster = match machine.dots {
            Dots::Scalar => 0.4 / machine.per_cycle(),
            _ if is_float => 1.0,
            Dots::None => 0.5,
            Dots::Avx2 => 1.0,
            Dots::Dot => 1.5,
            Dots::Matrix => 2.0,
            Dots::Tiles => 3.0,
        };
        let peak = cycles * machine.per_cycle().min(48.0);
        let floor = self.flop() / (0.5 * peak * faster)
            + self.pass_bytes_per_token() / bandwidth
            + self.attention_flop() / (0.15 * peak);
        (floor, (peak / bandwidth).ln() - 3.0)
    }

    fn machine_coordinates(&self) -> Vec<f64> {
        let m = self.machine;
        let is = |condition: bool| if condition { 1.0 } else { 0.0 };
        let bandwidth = m.bandwidth_gbps;
        match m.processor {
            Processor::Gpu => {
                let bandwidth = bandwidth.unwrap_or(100.0);
                vec![
                    bandwidth.ln(),
                    (1e3 * m.fp32_tflops / bandwidth).ln(),
                    (m.matrix_tflops / m.fp32_tflops).ln(),
                    (m.year - 2021.0) / 3.0,
                    is(m.stacked_memory),
                    is(m.kind != foretoken_spec::DeviceKind::Gpu),
                ]
            }
            Processor::Cpu => vec![
                0.4 * m.cores.ln(),
                0.3 * bandwidth.unwrap_or(200.0).ln(),
                0.7 * is(m.is_rented),
                0.4 * is(m.kind == foretoken_spec::DeviceKind::Soc),
                0.5 * is(m.per_cycle() > 40.0),
                0.2 * dots_step(m.dots),
                (m.year - 2021.0) / 8.0,
            ],
        }
    }

    fn work_coordinates(&self, ratio: f64) -> Vec<f64> {
        let model = self.model;
        let is = |condition: bool| if condition { 1.0 } else { 0.0 };
        let sparse = is(model.active_share() < 0.6);
        let size = (model.step_bytes / 1e9).ln();
        let bits = model.bits_per_weight().ln();
        let waiting = -model.active_share().ln();
        let age = self.setup.year.unwrap_or(UNDATED).clamp(2023.3, 2026.8) - 2025.0;
        let fused = self.setup.flash_attention.map_or(0.0, |on| if on { 0.5 } else { -0.5 });
        let cached = (10.0 * self.cache_bytes() / model.step_bytes).ln_1p();
        let depth = (self.work.depth / 1e3).ln_1p();
        let passes = (self.work.n_tokens / self.pass_tokens()).ln();
        let tokens = self.pass_tokens().ln();
        match (self.machine.processor, self.is_decode()) {
            (Processor::Gpu, is_decode) => {
                let mut all = vec![size / 1.2, bits / 0.7, sparse, 0.6 * waiting, age, fused];
                match is_decode {
                    true => all.push(cached),
                    false => all.extend([tokens / 1.5, 0.7 * depth, 0.3 * passes]),
                }
                all
            }
            (Processor::Cpu, is_decode) => {
                let (used, is_crowded) = self.used_cores();
                let mut all = vec![
                    0.8 * ratio.clamp(-2.0, 2.0),
                    0.3 * size,
                    0.7 * bits,
                    0.7 * sparse,
                    0.4 * age,
                    0.4 * (used / self.machine.cores).ln(),
                    is(is_crowded),
                ];
                match is_decode {
                    true => all.push(0.6 * cached),
                    false => all.extend([0.4 * tokens, 0.5 * depth]),
                }
                all
            }
        }
    }
}

fn dots_step(dots: Dots) -> f64 {
    match dots {
        Dots::Scalar => -6.0,
        Dots::None => 0.0,
        Dots::Avx2 => 1.0,
        Dots::Dot => 2.0,
        Dots::Matrix => 3.0,
        Dots::Tiles => 4.0,
    }
}
