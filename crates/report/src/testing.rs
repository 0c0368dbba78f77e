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
        details: foretoken_spec::ShapeDetails::default(),
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
        device: None,
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
            host: None,
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
        cold_load: None,
        energy: None,
        warmup: vec![],
        prefill: vec![sample(128, 0, 100.0)],
        decode: decode_ms.iter().zip(128..).map(|(ms, kv)| sample(1, kv, *ms)).collect(),
        kernels: vec![],
        span_clock: foretoken_spec::SpanClock::Host,
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
        tier: Tier::SameQuantization,
        terms: vec![
            OpTerm {
                feature: "calls".into(),
                value: 22.0,
                coefficient: 4e-6,
                unit: "s/call".into(),
                ms: 0.088,
            },
            OpTerm {
                feature: "weight_bytes".into(),
                value: 750_000.0,
                coefficient: 5e-11,
                unit: "s/byte".into(),
                ms: 0.0375,
            },
        ],
        nearest: Some(NearestKernel {
            model: "mini-1536-tiled".into(),
            op: "matmul.ffn_down".into(),
            pass: Pass { n_tokens: 1, kv_len: 40 },
            ratio: 1.3,
            residual: -0.021,
        }),
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
            backend: DeviceBackend::Cpu,
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
            available_is: Some(AvailableMemory::Free),
            weights_bytes: 1_300_000_000,
            kv_cache_bytes: 28_835_840,
            activation_bytes: 40_000_000,
            peak_bytes: 1_368_835_840,
            available_bytes: Some(4 << 30),
            fits: Some(true),
            verdict: Some(MemoryVerdict::Fits),
            largest_context: Some(2048),
            fitting_quants: Vec::new(),
        },
        flop: FlopCount { prefill: 1_000_000_000_000, decode_per_token: 2_100_000_000 },
        load_ms: None,
        load_cold_ms: None,
        first_pass_extra_ms: None,
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
            nearest_devices: Vec::new(),
            data_sheet: None,
        },
        baselines: BTreeMap::new(),
        verify: "foretoken measure tinyllama-1.1b --quant Q4_K_M --prompt 512 --gen 128".into(),
        cannot_run: None,
        memory_notes: vec!["candle keeps the embedding as F32.".into()],
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

pub fn design_step() -> DesignStep {
    DesignStep {
        sequence: 0,
        model: "mini-1536-tiled".into(),
        workloads: vec!["32@0".into(), "512@0".into()],
        seconds: 4.2,
        expected_error_before: 0.61,
        expected_error_after: 0.18,
        class: "matmul.q4_k.tiled.many_rows".into(),
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
                anchors: vec![],
            }],
            held_out: HeldOutError {
                prefill_mdape: Some(0.05),
                decode_mdape: Some(0.03),
                n_groups: 8,
            },
            energy: None,
            loading: None,
        },
        design: vec![design_step()],
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
        kind: None,
        backend: None,
        engine: None,
        rows: 0,
        phase,
        n: 90,
        devices: None,
        mdape,
        mdape_interval: None,
        mdape_spec_only: None,
        mdape_by_device: None,
        mape: 0.07,
        p90_ape: 0.15,
        max_ape: 0.31,
        bias: -0.012,
        within_10pct: 0.8,
        coverage: 0.91,
        interval_level: 0.9,
        interval_half_width: 0.071,
        noise_floor: Some(0.02),
        between_posters: None,
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
        metrics: vec![
            MetricError {
                hold_out: Some(HoldOut::Model),
                group: None,
                metric: Metric::E2e,
                n: 45,
                mdape: 0.021,
                mape: 0.03,
                p90_ape: 0.08,
                max_ape: 0.2,
                bias: 0.004,
                within_10pct: 0.95,
                noise_floor: Some(0.019),
            },
            MetricError {
                hold_out: None,
                group: None,
                metric: Metric::PeakMemory,
                n: 5,
                mdape: 0.011,
                mape: 0.02,
                p90_ape: 0.05,
                max_ape: 0.08,
                bias: -0.01,
                within_10pct: 1.0,
                noise_floor: None,
            },
        ],
        engines: vec![],
        devices: vec![],
        left_out: vec![],
        undated: Vec::new(),
        cases: vec![ValidationCase {
            hold_out: HoldOut::Model,
            group: None,
            held_out: "smollm2-360m".into(),
            rows: 0,
            engine: None,
            threads: None,
            model: "smollm2-360m".into(),
            quant: "Q4_0".into(),
            phase: Phase::Decode,
            n_tokens: 1,
            kv_len: 144,
            loads: 3,
            observed_ms: 20.0,
            predicted_ms: 13.8,
            spec_only_ms: None,
            lower_ms: 12.0,
            upper_ms: 16.0,
            error: -0.31,
            noise: Some(0.02),
            tier: Tier::SameQuantization,
            extrapolation: vec![],
            reason: "attention: 2.10 ms expected, 8.20 seen".into(),
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
        file_contents: FileContents::WithoutTokenizer,
        kv_elements_per_token: spec.shape.kv_elements_per_token(),
        kv_bytes_per_token: 4 * spec.shape.kv_elements_per_token(),
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
        approximations: vec![],
    }
}

pub fn models() -> Vec<CatalogueModel> {
    vec![CatalogueModel {
        id: "tinyllama-1.1b".into(),
        hf_name: "TinyLlama/TinyLlama-1.1B-Chat-v1.0".into(),
        family: "tinyllama".into(),
        parameters: 1_100_048_384,
        active_parameters: 1_100_048_384,
        quant: "Q4_K_M".into(),
        shape: shape(),
        source: "config.json".into(),
        checked: Some("copy of config.json".into()),
        tokenizer_bytes: Some(1_696_864),
    }]
}

/// A board of which much is known, and a GPU of which little is.
pub fn devices() -> Vec<DeviceSpec> {
    let source =
        |basis, confidence, source: &str| FigureSource { basis, confidence, source: source.into() };
    let mut board = DeviceSpec::named("pi-5", "Raspberry Pi 5", DeviceKind::Soc);
    board.class = Some(DeviceClass::Board);
    board.peak_fp32_tflops = Some(0.1536);
    board.mem_bandwidth_gbps = Some(17.07);
    board.mem_gb = Some(8.0);
    board.mem_type = Some("LPDDR4X-4267 32bit".into());
    board.cores = Some("4x cortex-a76 2.4 GHz".into());
    board.release_year = Some(2023);
    board.aliases = vec!["pi5".into(), "rpi5".into()];
    board.backends = vec![DeviceBackend::Cpu];
    board.clusters = vec![CoreCluster {
        core: "cortex-a76".into(),
        count: 4,
        clock_ghz: 2.4,
        l2_kb: Some(512.0),
        fp32_per_cycle: None,
        fp16_per_cycle: None,
        int8_per_cycle: None,
    }];
    board.idle_power_w = Some(2.7);
    board.load_power_w = Some(11.0);
    board.notes = Some("one of four sizes, says \"the maker\"".into());
    board.modes = vec![PowerMode {
        name: "stress".into(),
        limit_w: None,
        idle_power_w: None,
        load_power_w: Some(8.8),
        cpu_clock_ghz: Some(2.4),
        gpu_clock_ghz: None,
        mem_bandwidth_gbps: None,
    }];
    let memory = source(FigureBasis::FromMemory, Confidence::High, "data sheet, from memory");
    board.sources = [
        (
            "peak_fp32_tflops",
            source(FigureBasis::Derived, Confidence::High, "4 × 2.4 GHz × 16 operations per cycle"),
        ),
        ("mem_bandwidth_gbps", memory.clone()),
        ("mem_gb", memory.clone()),
        ("idle_power_w", source(FigureBasis::FromMemory, Confidence::Low, "a guess")),
        ("load_power_w", source(FigureBasis::Published, Confidence::Medium, "https://example.org")),
        ("clusters", memory.clone()),
        ("modes", memory),
    ]
    .map(|(name, source)| (name.to_owned(), source))
    .into();
    let mut gpu = DeviceSpec::named("some-gpu", "Some GPU", DeviceKind::Gpu);
    gpu.mem_bandwidth_gbps = Some(1008.0);
    vec![board, gpu]
}

/// A probe of the board of [`devices`].
pub fn probe() -> ProbeReport {
    let read = |level: &str, threads, read_gbps| ProbedBandwidth {
        level: level.into(),
        buffer_bytes: 1 << 20,
        threads,
        read_gbps,
    };
    let mut device = devices().remove(0);
    let clusters = device.clusters.clone();
    device.probe = Some(Probed {
        seconds: 6.25,
        bandwidth: vec![
            read("L1", 1, 71.25),
            read("L1", 4, 280.0),
            read("DRAM", 1, 9.5),
            read("DRAM", 4, 13.1),
        ],
        arithmetic: vec![ProbedArithmetic {
            number_type: "f32".into(),
            instruction: "fmla, 128 bits".into(),
            threads: 4,
            giga_operations_per_second: 140.5,
        }],
        overhead: ProbedOverhead { threads: 4, spawn_us: 85.0, wake_us: 12.5, spin_us: Some(0.25) },
        storage: Some(ProbedStorage {
            read_mbps: 89.1,
            bytes: 64 << 20,
            method: "O_DIRECT".into(),
            may_be_cached: false,
        }),
        contention: None,
    });
    let difference = |figure: &str, catalogue: f64, found: f64, basis| FigureDifference {
        figure: figure.into(),
        catalogue,
        found,
        basis,
        ratio: tidy(found / catalogue),
    };
    ProbeReport {
        schema_version: SCHEMA_VERSION,
        tool: ToolInfo {
            version: "0.1.0".into(),
            profile: "release".into(),
            target: "aarch64-unknown-linux-gnu".into(),
            target_features: String::new(),
        },
        time: "2026-01-01T00:00:00Z".into(),
        file: Some("board.toml".into()),
        machine: DetectedMachine {
            model: Some("Raspberry Pi 5 Model B Rev 1.0".into()),
            chip: vec!["brcm,bcm2712".into()],
            processor: None,
            arch: "aarch64".into(),
            isa: vec!["neon".into(), "dotprod".into()],
            clusters,
            physical_cores: 4,
            logical_cores: 4,
            caches: vec![DetectedCache {
                level: 1,
                kib: 64.0,
                smallest_kib: None,
                count: 4,
                total_kib: 256.0,
            }],
            memory_bytes: Some(8_256_064 << 10),
            gpus: vec![DetectedGpu {
                name: "Some GPU".into(),
                memory_bytes: None,
                clock_ghz: None,
                device: Some("some-gpu".into()),
            }],
            hypervisor: None,
        },
        device,
        catalogue: Some(CatalogueMatch {
            id: "pi-5".into(),
            name: "Raspberry Pi 5".into(),
            differences: vec![
                difference("cores", 4.0, 4.0, FigureBasis::Stated),
                difference("mem_bandwidth_gbps", 17.07, 13.1, FigureBasis::Measured),
            ],
        }),
        warnings: vec![],
    }
}

/// Without what binary fractions leave behind.
fn tidy(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

const PROFILE_PROMPT: u32 = 128;
const PROFILE_STEPS: u32 = 5;
const PROFILE_CEILINGS: Ceilings =
    Ceilings { stream_bytes_per_second: 21.3e9, matmul_flop_per_second: 85e9 };

type ProfiledOp = (KernelOp, Option<TensorRole>, Option<(TensorType, [u64; 2])>);

fn profile_kernel(
    phase: ProfilePhase,
    layer: Option<u32>,
    (op, role, matrix): ProfiledOp,
    calls: u32,
    us_per_call: f64,
) -> KernelRow {
    let ms = tidy(us_per_call * f64::from(calls) / 1e3);
    let whole_prompt = phase == ProfilePhase::Prefill && op != KernelOp::LmHead;
    let rows = if whole_prompt { u64::from(PROFILE_PROMPT) } else { 1 };
    let flop = matrix.map(|(_, [n, m])| 2 * rows * n * m * u64::from(calls));
    let bytes = matrix.map(|(t, [n, m])| t.bytes(n * m) * u64::from(calls));
    let rate = |amount: Option<u64>| amount.map(|amount| (amount as f64 * 1e3 / ms).round());
    let compute = flop.map_or(0.0, |v| v as f64 / PROFILE_CEILINGS.matmul_flop_per_second);
    let memory = bytes.map_or(0.0, |v| v as f64 / PROFILE_CEILINGS.stream_bytes_per_second);
    let divided = matches!(op, KernelOp::AttentionScores | KernelOp::AttentionValues);
    KernelRow {
        phase,
        op,
        role,
        layer,
        tensor_type: matrix.map(|(tensor_type, _)| tensor_type),
        shape: matrix.map(|(_, shape)| shape),
        calls,
        ms,
        share: 0.0,
        flop,
        bytes,
        flop_per_second: rate(flop),
        bytes_per_second: rate(bytes),
        roofline_share: matrix.map(|_| tidy(compute.max(memory) * 1e3 / ms)),
        bound: matrix.map(|_| if compute > memory { Bound::Compute } else { Bound::Memory }),
        source: if divided { KernelSource::Microbenchmark } else { KernelSource::InPlace },
        samples_ms: vec![tidy(us_per_call / 1e3)],
    }
}

/// Prefill of 128 tokens and five steps of a model with two layers, in µs per call.
fn profile_kernels() -> Vec<KernelRow> {
    use KernelOp::*;
    let q4 = |shape| Some((TensorType::Q4_K, shape));
    let q6 = |shape| Some((TensorType::Q6_K, shape));
    let down = |layer| if layer == 0 { q6([5632, 2048]) } else { q4([5632, 2048]) };
    let mut kernels = Vec::new();
    let mut add = |layer, kernel, prefill_us, decode_us| {
        for (phase, calls, us) in [
            (ProfilePhase::Prefill, 1, prefill_us),
            (ProfilePhase::Decode, PROFILE_STEPS, decode_us),
        ] {
            kernels.push(profile_kernel(phase, layer, kernel, calls, us));
        }
    };
    add(None, (Input, None, None), 12.4, 3.1);
    add(None, (Embedding, Some(TensorRole::TokenEmbedding), None), 310.6, 5.3);
    for layer in 0..2 {
        let slower = 1.0 + 0.01 * f64::from(layer);
        let mut add = |op, role, matrix, prefill_us: f64, decode_us: f64| {
            add(Some(layer), (op, role, matrix), prefill_us * slower, decode_us * slower);
        };
        add(RmsNorm, Some(TensorRole::AttnNorm), None, 618.2, 6.4);
        add(Matmul, Some(TensorRole::AttnQ), q4([2048, 2048]), 13_912.0, 131.7);
        add(AttentionScores, None, None, 2_288.5, 14.2);
        add(AttentionValues, None, None, 2_431.9, 17.9);
        add(Matmul, Some(TensorRole::AttnOutput), q4([2048, 2048]), 13_740.3, 128.4);
        add(Matmul, Some(TensorRole::FfnGate), q4([2048, 5632]), 37_104.8, 339.6);
        add(Activation, None, None, 3_097.1, 9.8);
        add(Matmul, Some(TensorRole::FfnDown), down(layer), 41_220.4, 447.5);
    }
    add(None, (LmHead, Some(TensorRole::Output), q6([2048, 32_000])), 3_106.9, 2_731.4);
    add(None, (LogitsCopy, None, None), 21.7, 19.8);
    add(None, (Uncovered, None, None), 402.3, 31.6);
    for (phase, op, calls, us) in [
        (ProfilePhase::Load, Load, 1, 412_305.0),
        (ProfilePhase::Warmup, Warmup, 1, 118_722.0),
        (ProfilePhase::Tokenize, Tokenize, 1, 306.2),
        (ProfilePhase::Softmax, Softmax, PROFILE_STEPS + 1, 212.4),
        (ProfilePhase::Sampling, Sampling, PROFILE_STEPS + 1, 31.9),
        (ProfilePhase::Detokenize, Detokenize, PROFILE_STEPS + 1, 4.3),
    ] {
        kernels.push(profile_kernel(phase, None, (op, None, None), calls, us));
    }
    kernels
}

/// Which phase, apart from the sums, a kernel is in.
fn profile_part(kernel: &KernelRow) -> ProfilePhase {
    match (kernel.phase, kernel.op) {
        (phase, _) if !phase.is_sum() => phase,
        (_, KernelOp::Input) => ProfilePhase::Input,
        (_, KernelOp::Embedding) => ProfilePhase::Embedding,
        (_, KernelOp::LmHead) => ProfilePhase::LmHead,
        (_, KernelOp::LogitsCopy) => ProfilePhase::LogitsCopy,
        _ => ProfilePhase::Layers,
    }
}

fn profile_phases(kernels: &[KernelRow]) -> Vec<PhaseRow> {
    use ProfilePhase::*;
    let sum = |wanted: &dyn Fn(&KernelRow) -> bool| {
        tidy(kernels.iter().filter(|row| wanted(row)).map(|row| row.ms).sum())
    };
    let row = |phase, calls: u32, ms: f64, prefill_ms, decode_ms| PhaseRow {
        phase,
        calls,
        ms,
        share: 0.0,
        prefill_ms,
        decode_ms,
        samples_ms: vec![tidy(ms / f64::from(calls))],
    };
    let mut phases = Vec::new();
    for (phase, calls) in [(Load, 1), (Warmup, 1), (Tokenize, 1)] {
        phases.push(row(phase, calls, sum(&|k| k.phase == phase), None, None));
    }
    for part in [Input, Embedding, Layers, LmHead, LogitsCopy] {
        let within = |phase| sum(&|k| k.phase == phase && profile_part(k) == part);
        let (prefill, decode) = (within(Prefill), within(Decode));
        let calls = PROFILE_STEPS + 1;
        phases.push(row(part, calls, tidy(prefill + decode), Some(prefill), Some(decode)));
    }
    for phase in [Softmax, Sampling, Detokenize] {
        phases.push(row(phase, PROFILE_STEPS + 1, sum(&|k| k.phase == phase), None, None));
    }
    for (phase, calls) in [(Prefill, 1), (Decode, PROFILE_STEPS)] {
        phases.push(row(phase, calls, sum(&|k| k.phase == phase), None, None));
    }
    phases
}

fn profile_tokens(prefill_ms: f64, decode_ms: f64) -> Vec<TokenRow> {
    // The parts of all decode steps together that each of them takes.
    let forward = [0.18, 0.181, 0.27, 0.184, 0.185].map(|part| tidy(decode_ms * part));
    let forward = [prefill_ms].into_iter().chain(forward);
    let token = |(index, forward_ms): (u32, f64)| TokenRow {
        index,
        kv_len: if index == 0 { 0 } else { PROFILE_PROMPT + index - 1 },
        ms: tidy(forward_ms + 0.2486),
        phase: if index == 0 { Phase::Prefill } else { Phase::Decode },
        forward_ms,
        logits_copy_ms: 0.02,
        softmax_ms: 0.2124,
        sampling_ms: 0.0319,
        detokenize_ms: 0.0043,
        token: 300 + index,
        probed: index != 2 && index != 4,
        preempted: index == 3,
    };
    (0..).zip(forward).map(token).collect()
}

/// A run that adds up: kernels to phases, phases and the rest to the wall time.
pub fn profile() -> ProfileReport {
    let mut kernels = profile_kernels();
    let mut phases = profile_phases(&kernels);
    let of = |wanted| phases.iter().find(|row| row.phase == wanted).map_or(0.0, |row| row.ms);
    let (prefill_ms, decode_ms) = (of(ProfilePhase::Prefill), of(ProfilePhase::Decode));
    let unaccounted_ms = 0.4137;
    let parts = phases.iter().filter(|row| !row.phase.is_sum());
    let wall_ms = tidy(parts.map(|row| row.ms).sum::<f64>() + unaccounted_ms);
    kernels.iter_mut().for_each(|row| row.share = tidy(row.ms / wall_ms));
    phases.iter_mut().for_each(|row| row.share = tidy(row.ms / wall_ms));

    let tokens = profile_tokens(prefill_ms, decode_ms);
    let drawn = |token: &TokenRow| token.ms - token.detokenize_ms;
    let after_first: f64 = tokens.iter().skip(1).map(drawn).sum();
    let cost = |fraction, lower, upper, n_tokens| Overhead {
        fraction,
        lower,
        upper,
        pairs: 64,
        n_tokens,
        events: 36,
        computed: 0.000_151,
        run: fraction / 2.0,
    };
    let line = measurement(0, &[]);
    ProfileReport {
        schema_version: SCHEMA_VERSION,
        tool: line.tool,
        time: line.time,
        model: "tinyllama-1.1b".into(),
        quant: "Q4_K_M".into(),
        device: line.device.id,
        engine: "candle 0.11.1".into(),
        threads: line.threads,
        allocator: Allocator::Kept,
        span_clock: foretoken_spec::SpanClock::Host,
        sampling: Sampling::Temperature,
        prompt_repeats_ms: vec![],
        prompt_tokens: PROFILE_PROMPT,
        generated_tokens: PROFILE_STEPS + 1,
        prompt_text: Some("Why is the sky blue?".into()),
        generated_text: Some(
            "The sky is blue because the air scatters short waves of light more than long ones, \
             so that blue light reaches the eye from everywhere.\nIn the evening it is red."
                .into(),
        ),
        wall_ms,
        unaccounted_ms,
        ttft_ms: Some(tidy(drawn(&tokens[0]))),
        tpot_ms: Some(tidy(after_first / f64::from(PROFILE_STEPS))),
        e2e_ms: Some(tidy(drawn(&tokens[0]) + after_first)),
        prefill_tokens_per_second: Some(tidy(f64::from(PROFILE_PROMPT) * 1e3 / prefill_ms)),
        decode_tokens_per_second: Some(tidy(f64::from(PROFILE_STEPS) * 1e3 / decode_ms)),
        phases,
        kernels,
        overhead: OverheadReport {
            prefill: Some(cost(0.0012, -0.0005, 0.002, 32)),
            decode: Some(cost(-0.0004, -0.0011, 0.0003, 1)),
            budget: 0.005,
            sampled_every: 2,
            ns_per_event: 31.4,
        },
        inter_token_ms: Some(Percentiles {
            p50: tokens[4].ms,
            p90: tokens[3].ms,
            p99: tokens[3].ms,
            max: tokens[3].ms,
        }),
        slowest_tokens: vec![SlowToken {
            index: 3,
            kv_len: 130,
            ms: tokens[3].ms,
            ratio: tidy(tokens[3].ms / tokens[4].ms),
            what: "matmul.ffn_down, layer 0: +1.9 ms".into(),
        }],
        tokens,
        ceilings: PROFILE_CEILINGS,
        comparison: None,
        interrupted: false,
        warnings: vec!["the processor ran at 71 % of its highest frequency".into()],
    }
}

pub fn profile_comparison() -> ProfileComparison {
    let row = |phase, kernel: Option<(KernelOp, Option<TensorRole>)>, old_ms: f64, ratio: f64| {
        let single = phase == ProfilePhase::Load;
        ComparisonRow {
            phase,
            op: kernel.map(|(op, _)| op),
            role: kernel.and_then(|(_, role)| role),
            old_ms,
            new_ms: tidy(old_ms * ratio),
            ratio,
            lower: (!single).then(|| tidy(ratio - 0.012)),
            upper: (!single).then(|| tidy(ratio + 0.014)),
            beyond_noise: !single && (ratio - 1.0).abs() > 0.045,
        }
    };
    let matmul = |role| Some((KernelOp::Matmul, Some(role)));
    let (prefill, decode) = (ProfilePhase::Prefill, ProfilePhase::Decode);
    ProfileComparison {
        old_time: "2025-12-24T18:00:00Z".into(),
        new_time: "2026-01-01T00:00:00Z".into(),
        stream_drift: 0.991,
        matmul_drift: 1.004,
        noise: 0.031,
        rows: vec![
            row(ProfilePhase::Load, None, 405.1, 1.018),
            row(prefill, None, 231.7, 1.006),
            row(decode, None, 4.41, 1.127),
            row(prefill, matmul(TensorRole::FfnDown), 82.4, 1.004),
            row(prefill, matmul(TensorRole::FfnGate), 74.6, 0.998),
            row(prefill, matmul(TensorRole::AttnQ), 27.9, 1.002),
            row(prefill, matmul(TensorRole::AttnOutput), 27.5, 1.001),
            row(prefill, Some((KernelOp::Activation, None)), 6.2, 0.871),
            row(decode, Some((KernelOp::LmHead, Some(TensorRole::Output))), 2.71, 1.008),
            row(decode, matmul(TensorRole::FfnDown), 0.702, 1.281),
            row(decode, matmul(TensorRole::FfnGate), 0.681, 1.011),
            row(decode, matmul(TensorRole::AttnQ), 0.262, 1.009),
        ],
        fail_above: Some(0.1),
        failed: true,
        warnings: vec!["the older run had 4 threads".into()],
    }
}

pub fn import() -> ImportReport {
    let group = |phase: &str, rows, usable| ImportedGroup {
        runtime: "llama.cpp".into(),
        backend: "cuda".into(),
        device_kind: Some("gpu".into()),
        phase: phase.into(),
        rows,
        usable,
        devices: 2,
        models: 3,
    };
    let count = |reason: &str, rows| ReasonCount { reason: reason.into(), rows };
    let file = |name: &str, rows, problems| ImportedFile {
        file: name.into(),
        formats: if rows > 0 { vec!["json".into(), "markdown".into()] } else { vec![] },
        rows,
        problems,
        other_lines: 7,
    };
    ImportReport {
        schema_version: SCHEMA_VERSION,
        out: Some("datasets/mine.jsonl".into()),
        rows: 40,
        usable: 38,
        repeated: 1,
        files: vec![file("a.json", 41, 21), file("b.md", 0, 0)],
        groups: vec![group("decode", 20, 20), group("prefill", 20, 18)],
        excluded: vec![count("prompt and generation under one clock (pp512+tg128)", 2)],
        flags: vec![count("kv_quantized", 4)],
        problems: (1..=21)
            .map(|line| ImportProblem {
                file: "a.json".into(),
                line,
                reason: "`n_gen` is `many`, no whole number that fits".into(),
            })
            .collect(),
        warnings: vec!["b.md: nothing of llama-bench was found in it".into()],
    }
}
