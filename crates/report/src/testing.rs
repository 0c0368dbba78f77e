//! Hand-made answers for the golden tests.

use std::collections::BTreeMap;

use foretoken_spec::*;

pub fn shape() -> ModelShape {
    ModelShape {
        architecture: "llama".into(),
        n_layers: 22,
        hidden_size: 2048,
        n_heads: 32,
        n_kv_heads: 4,
        head_dim: 64,
        intermediate_size: 5632,
        vocab_size: 32000,
        context_length: 2048,
        tied_embeddings: false,
        rope_freqs: false,
        rope_freq_base: 10_000.0,
        rms_norm_eps: 1e-5,
    }
}

pub fn spec() -> ModelSpec {
    let source = ModelSource::Preset { id: "tinyllama-1.1b".into() };
    ModelSpec::from_shape("tinyllama-1.1b", "tinyllama", "Q8_0", source, shape(), |role, _| {
        if role.is_vector() { TensorType::F32 } else { TensorType::Q8_0 }
    })
}

/// One load: a prefill of 100 ms, then decode steps of these ms.
pub fn measurement(load: u32, decode_ms: &[f64]) -> Measurement {
    let sample = |n_tokens, kv_len, ms: f64| PassSample {
        n_tokens,
        kv_len,
        forward_ns: (ms * 1e6) as u64,
        logits_copy_ns: 2_000_000,
        softmax_ns: 500_000,
        sampling_ns: 250_000,
        probed: false,
        preempted: false,
    };
    let none = MemorySample {
        rss_before_bytes: None,
        rss_loaded_bytes: None,
        peak_rss_bytes: Some(1 << 30),
        available_bytes: None,
    };
    Measurement {
        schema_version: SCHEMA_VERSION,
        tool: ToolInfo {
            version: "0.1.0".into(),
            profile: "release".into(),
            target: "x86_64-unknown-linux-gnu".into(),
            target_features: String::new(),
        },
        time: "2026-01-01T00:00:00Z".into(),
        session: "s".into(),
        sequence: load,
        load,
        device: DeviceInfo {
            id: "test-cpu-2c".into(),
            backend: Backend::Cpu,
            name: "Test CPU".into(),
            arch: "x86_64".into(),
            isa: vec![],
            physical_cores: 2,
            logical_cores: 2,
            l3_bytes: None,
            memory_bytes: 8 << 30,
            os: "Linux".into(),
            hypervisor: None,
        },
        engine: EngineInfo { name: "candle".into(), version: "0.11.1".into() },
        threads: 2,
        allocator: Allocator::Kept,
        sampling: Sampling::Temperature,
        model: spec().record(),
        workload: Workload {
            prompt_tokens: 128,
            generated_tokens: decode_ms.len() as u32,
            depth: 0,
        },
        load_ns: 250_000_000,
        warmup: vec![],
        prefill: vec![sample(128, 0, 100.0)],
        decode: decode_ms.iter().zip(128..).map(|(ms, kv)| sample(1, kv, *ms)).collect(),
        kernels: vec![],
        memory: none,
        environment: Environment::default(),
        reference: vec![],
        warnings: vec![],
    }
}

fn estimate(point: f64) -> Option<Estimate> {
    Some(Estimate { point, lower: point * 0.9, upper: point * 1.1, level: 0.9 })
}

pub fn prediction() -> Prediction {
    let op = |op: &str, kind, phase, ms, bound| OpPrediction {
        op: op.into(),
        kind,
        phase,
        ms,
        bound,
        arithmetic_intensity: 2.67,
        flop: 2_000_000,
        bytes: 750_000,
        class: "matmul.q4_k.tiled.one_row".into(),
    };
    Prediction {
        schema_version: SCHEMA_VERSION,
        model: PredictedModel {
            name: "tinyllama-1.1b".into(),
            architecture: "llama".into(),
            parameters: 1_100_048_384,
            weight_bytes: 667_081_728,
        },
        quant: "Q4_K_M".into(),
        device: PredictedDevice {
            id: "test-cpu-2c".into(),
            backend: Backend::Cpu,
            threads: 2,
            engine: "candle 0.11.1".into(),
        },
        workload: PredictedWorkload {
            prompt_tokens: 512,
            generated_tokens: 128,
            kv_len: 0,
            batch_size: 1,
        },
        prefill_ms: estimate(8000.0),
        decode_ms: estimate(40.0),
        ttft_ms: estimate(8000.5),
        tpot_ms: estimate(40.5),
        e2e_ms: estimate(13_144.0),
        prefill_tokens_per_second: Some(64.0),
        decode_tokens_per_second: Some(25.0),
        memory: MemoryPrediction {
            weights_bytes: 1_300_000_000,
            kv_cache_bytes: 28_835_840,
            activation_bytes: 40_000_000,
            peak_bytes: 1_368_835_840,
            available_bytes: Some(4 << 30),
            fits: Some(true),
        },
        flop: FlopCount { prefill: 1_000_000_000_000, decode_per_token: 2_100_000_000 },
        energy_j: None,
        ops: vec![
            op("matmul.ffn_down", OpKind::Matmul, Phase::Prefill, 6000.0, Bound::Compute),
            op("attention", OpKind::Attention, Phase::Prefill, 2000.0, Bound::Memory),
            op("lm_head", OpKind::LmHead, Phase::Decode, 30.0, Bound::Memory),
            op("rope", OpKind::Rope, Phase::Decode, 10.0, Bound::Overhead),
        ],
        basis: Basis {
            interval_groups: 8,
            tier: Tier::SameQuantization,
            calibration: Some("test-cpu-2c-candle".into()),
            extrapolation: vec!["prompt_tokens 512 is above the measured 256".into()],
        },
        verify: "foretoken measure tinyllama-1.1b --quant Q4_K_M --prompt 512 --gen 128".into(),
        warnings: vec![],
    }
}

fn coefficient(feature: &str, unit: &str, coefficient: f64) -> FeatureCoefficient {
    let std_error = (coefficient > 0.0).then_some(coefficient * 0.02);
    FeatureCoefficient {
        feature: feature.into(),
        unit: unit.into(),
        coefficient,
        std_error,
        range: [1e5, 1e8],
    }
}

pub fn calibrate() -> CalibrateReport {
    let case = |phase, prompt_tokens, kv_len, observed_ms: f64, predicted_ms: f64| ProofCase {
        phase,
        prompt_tokens,
        kv_len,
        observed_ms,
        predicted_ms,
        lower_ms: predicted_ms * 0.9,
        upper_ms: predicted_ms * 1.1,
        error: predicted_ms / observed_ms - 1.0,
    };
    CalibrateReport {
        schema_version: SCHEMA_VERSION,
        calibration: CalibrationRef {
            id: "test-cpu-2c-candle".into(),
            file: "calibration/test-cpu-2c-candle.json".into(),
            device: "test-cpu-2c".into(),
            engine: "candle 0.11.1".into(),
            threads: 2,
        },
        fit: FitSummary {
            observations: 240,
            forms: vec![TermFit {
                class: "matmul.q4_k.tiled.one_row".into(),
                features: vec![
                    coefficient("bytes", "s/byte", 1.0 / 2.1e10),
                    coefficient("flop", "s/flop", 0.0),
                    coefficient("calls", "s/call", 4e-6),
                ],
                n_observations: 60,
                residual_mdape: 0.021,
            }],
            held_out: HeldOutError {
                prefill_mdape: Some(0.05),
                decode_mdape: Some(0.03),
                n_groups: 8,
            },
        },
        proof: Some(Proof {
            model: "tinyllama-1.1b".into(),
            quant: "Q4_K_M".into(),
            loads: 2,
            cases: vec![
                case(Phase::Prefill, 128, 0, 2000.0, 1900.0),
                case(Phase::Decode, 0, 144, 40.0, 46.0),
            ],
        }),
        noise_floor: Some(0.017),
        seconds: 141.2,
        dataset: "datasets/test-cpu-2c/calibrate.jsonl".into(),
        warnings: vec!["the machine was busy".into()],
    }
}

pub fn validation() -> ValidationReport {
    let baseline = |n, mdape| BaselineError { n, mdape, mape: mdape, p90_ape: 0.9, bias: -mdape };
    let group = |phase, mdape| GroupError {
        hold_out: HoldOut::Model,
        group: None,
        rows: 0,
        phase,
        n: 90,
        mdape,
        mape: 0.07,
        p90_ape: 0.15,
        max_ape: 0.31,
        bias: -0.012,
        within_10pct: 0.8,
        coverage: 0.91,
        interval_level: 0.9,
        noise_floor: Some(0.02),
        baselines: BTreeMap::from([
            ("roofline".into(), baseline(90, 0.55)),
            ("nearest".into(), baseline(80, 0.22)),
        ]),
    };
    ValidationReport {
        schema_version: SCHEMA_VERSION,
        data: vec!["datasets/first.jsonl".into()],
        device: "test-cpu-2c, 2 threads, candle 0.11.1".into(),
        groups: vec![group(Phase::Prefill, 0.062), group(Phase::Decode, 0.048)],
        cases: vec![ValidationCase {
            hold_out: HoldOut::Model,
            held_out: "smollm2-360m".into(),
            model: "smollm2-360m".into(),
            quant: "Q4_0".into(),
            phase: Phase::Decode,
            n_tokens: 1,
            kv_len: 144,
            loads: 3,
            observed_ms: 20.0,
            predicted_ms: 13.8,
            lower_ms: 12.0,
            upper_ms: 16.0,
            error: -0.31,
            noise: Some(0.02),
            baselines: BTreeMap::from([("roofline".into(), 9.0)]),
        }],
        warnings: vec![],
    }
}

pub fn inspection() -> InspectReport {
    let spec = spec();
    let tensors: Vec<InspectedTensor> = spec
        .tensors
        .iter()
        .map(|tensor| InspectedTensor { tensor: tensor.clone(), bytes: tensor.bytes() })
        .collect();
    InspectReport {
        schema_version: SCHEMA_VERSION,
        model: InspectedModel {
            name: spec.name.clone(),
            family: spec.family.clone(),
            quant: spec.quant.clone(),
            shape: spec.shape.clone(),
        },
        parameters: spec.n_parameters(),
        weight_bytes: spec.weight_bytes(),
        file_bytes: spec.weight_bytes() + 20_000,
        tensors,
        ops: vec![InspectedOp {
            op: "matmul.ffn_down".into(),
            kind: OpKind::Matmul,
            role: Some(TensorRole::FfnDown),
            phase: Phase::Decode,
            calls: 22,
            flop: 507_510_784,
            bytes: 270_000_000,
        }],
    }
}

pub fn models() -> Vec<CatalogueModel> {
    vec![CatalogueModel {
        id: "tinyllama-1.1b".into(),
        hf_name: "TinyLlama/TinyLlama-1.1B-Chat-v1.0".into(),
        family: "tinyllama".into(),
        parameters: 1_100_048_384,
        shape: shape(),
        source: "config.json".into(),
    }]
}
