//! A hand-made timeline: one layer, a prompt and three steps, the middle one unprobed.

use foretoken_cost::EngineProfile;
use foretoken_spec::*;

pub(crate) fn device() -> DeviceInfo {
    DeviceInfo {
        id: "test-cpu-2c".into(),
        backend: Backend::Cpu,
        name: "Test CPU".into(),
        arch: "x86_64".into(),
        isa: ["avx2", "fma", "avx512f", "avx512vnni"].map(String::from).to_vec(),
        physical_cores: 2,
        logical_cores: 2,
        l3_bytes: None,
        memory_bytes: 8 << 30,
        os: "Linux".into(),
        hypervisor: None,
        host: None,
    }
}

pub(crate) fn engine() -> EngineProfile {
    EngineProfile::candle(&device())
}

/// One layer; gate is 256 × 512 in Q8_0.
pub(crate) fn model() -> ModelSpec {
    let shape = ModelShape {
        architecture: "llama".into(),
        n_layers: 1,
        hidden_size: 256,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 64,
        intermediate_size: 512,
        vocab_size: 512,
        context_length: 4096,
        tied_embeddings: false,
        rope_freqs: false,
        rope_freq_base: 10_000.0,
        rms_norm_eps: 1e-5,
        details: foretoken_spec::ShapeDetails::default(),
    };
    ModelSpec::from_shape("tiny", "tiny", "Q8_0", ModelSource::Mini, shape, |role, _| {
        if role.is_vector() { TensorType::F32 } else { TensorType::Q8_0 }
    })
}

fn slices(parts: &[(KernelOp, Option<TensorRole>, Option<u32>, u64)]) -> Vec<Slice> {
    let mut start_ns = 0;
    parts
        .iter()
        .map(|&(op, role, layer, ns)| {
            let slice = Slice { op, role, layer, start_ns, ns };
            start_ns += ns;
            slice
        })
        .collect()
}

/// A pass whose matrix, attention and the rest take these µs, and whose logits are copied in 100.
fn pass(index: u32, start_us: u64, parts_us: [u64; 3], probed: bool) -> TimedPass {
    let [matrix, attention, rest] = parts_us;
    let forward_ns = (matrix + attention + rest + 100) * 1000;
    let phase = if index == 0 { Phase::Prefill } else { Phase::Decode };
    let parts = [
        (KernelOp::Input, None, None, rest * 1000),
        (KernelOp::Matmul, Some(TensorRole::FfnGate), Some(0), matrix * 1000),
        (KernelOp::Attention, None, Some(0), attention * 1000),
        (KernelOp::LogitsCopy, None, None, 100_000),
    ];
    TimedPass {
        phase,
        start_ns: start_us * 1000,
        sample: PassSample {
            n_tokens: if index == 0 { 16 } else { 1 },
            kv_len: if index == 0 { 0 } else { 15 + index },
            forward_ns,
            logits_copy_ns: 100_000,
            softmax_ns: 20_000,
            sampling_ns: 10_000,
            probed,
            preempted: false,
        },
        detokenize_ns: 5_000,
        token: 7 + index,
        slices: if probed { slices(&parts) } else { Vec::new() },
    }
}

/// How attention of layers 0 to 31 divides, in ns: cache, scores, softmax, values.
pub(crate) fn attention_split(n_tokens: u32, kv_len: u32, ns: [f64; 4]) -> BlockSplit {
    let ops = [
        KernelOp::KvConcat,
        KernelOp::AttentionScores,
        KernelOp::AttentionSoftmax,
        KernelOp::AttentionValues,
    ];
    let parts = ops.into_iter().zip(ns).map(|(op, ns)| BlockPart { op, role: None, ns });
    BlockSplit {
        block: KernelOp::Attention,
        layers: (0..32).collect(),
        n_tokens,
        kv_len,
        parts: parts.collect(),
    }
}

/// Load 10 ms, warm-up 5 ms, prompt 2 ms, steps of 1, 1.9 and 1 ms, 1 µs between them.
pub(crate) fn timeline() -> Timeline {
    let us = 1000;
    let pair = |ratio: f64| OverheadPair { probed_ns: 1e6 * ratio, unprobed_ns: 1e6 };
    Timeline {
        tool: ToolInfo {
            version: "0.1.0".into(),
            profile: "release".into(),
            target: "x86_64-unknown-linux-gnu".into(),
            target_features: String::new(),
        },
        time: "2026-01-01T00:00:00Z".into(),
        model: model(),
        device: device(),
        engine: EngineInfo { name: "candle".into(), version: "0.11.1".into() },
        threads: 2,
        allocator: Allocator::Kept,
        sampling: Sampling::Temperature,
        ceilings: Ceilings { stream_bytes_per_second: 40e9, matmul_flop_per_second: 200e9 },
        stretches: vec![
            Stretch { op: KernelOp::Load, start_ns: 0, ns: 10_000 * us },
            Stretch { op: KernelOp::Warmup, start_ns: 10_000 * us, ns: 5_000 * us },
        ],
        passes: vec![
            pass(0, 15_001, [1000, 400, 500], true),
            pass(1, 17_037, [600, 200, 100], true),
            pass(2, 18_073, [1200, 400, 200], false),
            pass(3, 20_009, [600, 200, 100], true),
        ],
        end_ns: 21_045 * us,
        counters: vec![CounterSample {
            at_ns: 15_000 * us,
            rss_bytes: Some(1 << 28),
            frequency_mhz: Some(3000.0),
            temperature_c: None,
        }],
        splits: vec![attention_split(16, 0, [0.0, 2000.0, 1000.0, 1000.0])],
        pairs: OverheadPairs {
            prefill: PhasePairs { n_tokens: 16, events: 40, pairs: vec![pair(1.0); 4] },
            decode: PhasePairs { n_tokens: 1, events: 40, pairs: vec![pair(1.001); 4] },
        },
        prompt_repeats_ns: vec![],
        span_clock: foretoken_spec::SpanClock::Host,
        ns_per_event: 25.0,
        sampled_every: 2,
        prompt_text: None,
        generated_text: None,
        interrupted: false,
        warnings: vec![],
    }
}
