//! A tiny real model through candle.

#![allow(clippy::unwrap_used, reason = "tests")]

use foretoken_cost::Unsupported;
use foretoken_gguf::mix::quantized_spec;
use foretoken_runner::{
    CandleEngine, Engine, LoadPlan, Probing, RunError, SamplingMode, SessionIds, WorkloadPlan,
    run_load, tool_info,
};
use foretoken_spec::{
    KernelOp, LayerKind, LayerShape, Measurement, ModelShape, ModelSource, ModelSpec, OpKind,
    Phase, QuantScheme, Sampling, SlidingWindow, Workload,
};

fn tiny_shape() -> ModelShape {
    ModelShape {
        architecture: "llama".into(),
        n_layers: 2,
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
    }
}

fn tiny(scheme: QuantScheme) -> ModelSpec {
    quantized_spec("tiny", "tiny", ModelSource::Mini, tiny_shape(), scheme)
}

fn engine() -> CandleEngine {
    CandleEngine::new(SamplingMode::Temperature { seed: 1 })
}

fn plan(model: ModelSpec, workload: Workload, repeats: u32, steps: u32) -> LoadPlan {
    let one = WorkloadPlan { workload, prefill_repeats: repeats, decode_steps: steps };
    LoadPlan { model, load: 0, workloads: vec![one] }
}

fn measure(plan: &LoadPlan, sampling: SamplingMode) -> Result<Vec<Measurement>, RunError> {
    let ids = SessionIds { session: "s".into(), sequence: 0, tool: tool_info("0") };
    run_load(&mut CandleEngine::new(sampling), plan, &ids, &|| false)
}

fn workload(prompt_tokens: u32, generated_tokens: u32, depth: u32) -> Workload {
    Workload { prompt_tokens, generated_tokens, depth }
}

#[test]
fn kernel_times_add_up_to_every_probed_pass() {
    for scheme in [QuantScheme::Q8_0, QuantScheme::F16, QuantScheme::Q4_K_M] {
        let plan = plan(tiny(scheme), workload(24, 8, 40), 3, 6);
        let lines = measure(&plan, SamplingMode::Temperature { seed: 1 }).unwrap();
        let line = &lines[0];
        // A prompt that a busy machine holds up is not repeated.
        assert!((1..=3).contains(&line.prefill.len()));
        assert_eq!(line.decode.len(), 6);
        for (phase, passes) in [(Phase::Prefill, &line.prefill), (Phase::Decode, &line.decode)] {
            let probed: Vec<_> = passes.iter().filter(|p| p.probed).collect();
            for (index, pass) in probed.iter().enumerate() {
                let rows = line.kernels.iter().filter(|k| k.phase == phase);
                let sum: u64 = rows.map(|k| k.ns[index]).sum();
                assert_eq!(sum, pass.forward_ns, "{scheme:?} {phase:?}");
                assert!(pass.logits_copy_ns <= pass.forward_ns);
            }
        }
    }
}

#[test]
fn every_operation_is_seen_as_often_as_the_model_has_it() {
    let plan = plan(tiny(QuantScheme::Q8_0), workload(16, 4, 0), 1, 4);
    let line = &measure(&plan, SamplingMode::Temperature { seed: 1 }).unwrap()[0];
    for phase in [Phase::Prefill, Phase::Decode] {
        let calls = |op| {
            let rows = line.kernels.iter().filter(|k| k.phase == phase && k.op == op);
            rows.map(|k| k.calls).sum::<u32>()
        };
        assert_eq!(calls(OpKind::Matmul), 2 * 7);
        assert_eq!(calls(OpKind::LmHead), 1);
        assert_eq!(calls(OpKind::RmsNorm), 2 * 2 + 1);
        assert_eq!(calls(OpKind::Rope), 2 * 2);
        assert_eq!(calls(OpKind::Attention), 2);
        assert_eq!(calls(OpKind::MlpElementwise), 2);
        assert_eq!(calls(OpKind::Embedding), 1);
        let matmuls = line.kernels.iter().filter(|k| k.phase == phase && k.op == OpKind::Matmul);
        assert!(matmuls.into_iter().all(|k| k.role.is_some() && k.tensor_type.is_some()));
    }
}

#[test]
fn greedy_has_no_softmax_and_temperature_has_one() {
    let plan = plan(tiny(QuantScheme::Q8_0), workload(8, 4, 0), 1, 4);
    let drawn = &measure(&plan, SamplingMode::Temperature { seed: 1 }).unwrap()[0];
    assert_eq!(drawn.sampling, Sampling::Temperature);
    assert!(drawn.decode.iter().all(|p| p.softmax_ns > 0 && p.sampling_ns > 0));
    let greedy = &measure(&plan, SamplingMode::Greedy).unwrap()[0];
    assert_eq!(greedy.sampling, Sampling::Greedy);
    assert!(greedy.decode.iter().all(|p| p.softmax_ns == 0 && p.sampling_ns > 0));
}

#[test]
fn a_restored_cache_gives_the_same_token_again() {
    let mut engine = CandleEngine::new(SamplingMode::Greedy);
    let mut model = engine.load(&tiny(QuantScheme::Q8_0)).unwrap();
    let prompt: Vec<u32> = (0..20).collect();
    model.forward(&prompt, 0, false).unwrap();
    model.snapshot();
    // 20 tokens · 2 (keys, values) · 2 layers · 2 heads · 64 · 4 bytes
    assert_eq!(model.snapshot_bytes(), 20 * 2 * 2 * 2 * 64 * 4);
    model.forward(&[7], 20, false).unwrap();
    let first = model.last_token();
    model.forward(&[9], 21, false).unwrap();
    model.restore().unwrap();
    model.forward(&[7], 20, true).unwrap();
    assert_eq!(model.last_token(), first);
    model.reset();
    model.forward(&prompt, 0, false).unwrap();
    model.forward(&[7], 20, false).unwrap();
    assert_eq!(model.last_token(), first);
}

#[test]
fn probes_change_no_result_and_a_plain_model_has_none() {
    let prompt: Vec<u32> = (0..20).collect();
    let mut tokens = Vec::new();
    for probing in [Probing::Absent, Probing::Installed] {
        let mut engine = CandleEngine::new(SamplingMode::Greedy).with_probing(probing);
        let mut model = engine.load(&tiny(QuantScheme::Q4_K_M)).unwrap();
        let sample = model.forward(&prompt, 0, true).unwrap();
        assert_eq!(sample.probed, probing == Probing::Installed);
        assert_eq!(model.last_kernels().is_empty(), probing == Probing::Absent);
        tokens.push(model.last_token());
    }
    assert_eq!(tokens[0], tokens[1]);
}

#[test]
fn a_context_beyond_the_reader_is_refused_before_loading() {
    let long = plan(tiny(QuantScheme::Q8_0), workload(96, 1, 4000), 1, 1);
    let error = measure(&long, SamplingMode::Greedy).unwrap_err();
    let RunError::Unsupported { reason, .. } = &error else { panic!("{error}") };
    assert!(matches!(**reason, Unsupported::TooLong { total: 4097, longest: 4096, .. }));
    assert!(!error.to_string().contains('\n'));
}

#[test]
fn models_that_candle_would_misread_are_refused() {
    let refusal = |model: &ModelSpec| {
        let error = engine().load(model).err().unwrap();
        let RunError::Unsupported { reason, .. } = error else { panic!("{error}") };
        *reason
    };
    let mut wide = tiny_shape();
    wide.head_dim = 128;
    let wide = quantized_spec("wide", "f", ModelSource::Mini, wide, QuantScheme::Q8_0);
    assert!(matches!(refusal(&wide), Unsupported::Shape { field: "head_dim", found: 128, .. }));

    let mut other = tiny(QuantScheme::Q8_0);
    other.shape.architecture = "gemma2".into();
    assert!(matches!(refusal(&other), Unsupported::Architecture { .. }));

    let mut unknown = tiny(QuantScheme::Q8_0);
    unknown.tensors[1].tensor_type = foretoken_spec::TensorType::IQ4_NL;
    assert!(matches!(refusal(&unknown), Unsupported::TensorType { found: "IQ4_NL", .. }));

    let mut short = tiny(QuantScheme::Q8_0);
    short.tensors.retain(|t| t.name != "blk.1.ffn_up.weight");
    assert!(engine().load(&short).err().unwrap().to_string().contains("`blk.1.ffn_up.weight`"));
}

#[test]
fn a_file_runs_as_the_same_weights_in_memory() {
    let mut model = tiny(QuantScheme::Q4_K_M);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let mut synthetic = foretoken_gguf::synth::SyntheticGguf::new(&model);
    std::io::copy(&mut synthetic, &mut std::fs::File::create(&path).unwrap()).unwrap();
    let greedy = |model: &ModelSpec| {
        let mut loaded = CandleEngine::new(SamplingMode::Greedy).load(model).unwrap();
        let prompt: Vec<u32> = (0..20).collect();
        loaded.forward(&prompt, 0, false).unwrap();
        loaded.last_token()
    };
    let in_memory = greedy(&model);
    model.source = ModelSource::Gguf { path: path.to_string_lossy().into_owned() };
    assert_eq!(greedy(&model), in_memory);
}

#[test]
fn a_broken_file_is_an_error_of_one_line() {
    let mut model = tiny(QuantScheme::Q8_0);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"GGUF\x03\0\0\0").unwrap();
    model.source = ModelSource::Gguf { path: file.path().to_string_lossy().into_owned() };
    let error = engine().load(&model).err().unwrap();
    assert!(matches!(error, RunError::Load { .. }));
    assert!(!error.to_string().contains('\n'));
}

#[test]
fn a_missing_file_is_named() {
    let mut model = tiny(QuantScheme::Q8_0);
    model.source = ModelSource::Gguf { path: "/nowhere/model.gguf".into() };
    let error = engine().load(&model).err().unwrap();
    assert_eq!(error.to_string(), "cannot open /nowhere/model.gguf; check the path");
}

/// A tiny shape of every architecture that runs here, as a file of random weights.
fn tiny_shapes() -> Vec<ModelShape> {
    let of = |architecture: &str| ModelShape { architecture: architecture.into(), ..tiny_shape() };
    let mut shapes: Vec<_> = ["llama", "qwen2", "qwen3", "phi3"].map(of).into();
    // Heads wider than hidden_size / n_heads, and a tied head.
    shapes[2].head_dim = 128;
    shapes[2].tied_embeddings = true;
    let mut gemma = ModelShape { tied_embeddings: true, head_dim: 128, ..of("gemma3") };
    gemma.details.window = Some(SlidingWindow { tokens: 16, full_every: 6, layers: Vec::new() });
    let mut phi2 = ModelShape { n_kv_heads: 4, ..of("phi2") };
    phi2.details.rope_dim = Some(32);
    let mut glm = of("glm4");
    (glm.details.rope_dim, glm.details.qkv_bias) = (Some(32), true);
    let mut lfm = ModelShape { tied_embeddings: true, ..of("lfm2") };
    lfm.details.conv_length = Some(3);
    let layer = |kind, n_kv_heads| LayerShape {
        kind,
        n_heads: 4,
        n_kv_heads,
        intermediate_size: lfm.intermediate_size,
    };
    lfm.details.layers =
        vec![layer(LayerKind::ShortConvolution, 0), layer(LayerKind::Attention, 2)];
    shapes.extend([gemma, phi2, glm, lfm]);
    shapes
}

#[test]
fn synthetic_files_of_every_architecture_run_at_every_depth() {
    for shape in tiny_shapes() {
        let architecture = shape.architecture.clone();
        for scheme in [QuantScheme::Q8_0, QuantScheme::Q4_K_M] {
            let model = quantized_spec("tiny", "f", ModelSource::Mini, shape.clone(), scheme);
            let prompt_at_depth = if architecture == "gemma3" { 0 } else { 16 };
            let one = |workload| WorkloadPlan { workload, prefill_repeats: 2, decode_steps: 4 };
            let workloads = vec![one(workload(16, 8, 0)), one(workload(prompt_at_depth, 8, 150))];
            let plan = LoadPlan { model, load: 0, workloads };
            let lines = measure(&plan, SamplingMode::Temperature { seed: 1 })
                .unwrap_or_else(|error| panic!("{architecture} {scheme}: {error}"));
            assert_eq!(lines.len(), 2, "{architecture}");
            for line in &lines {
                assert_eq!(line.decode.len(), 4, "{architecture}");
                assert!(line.decode.iter().all(|pass| pass.forward_ns > 0));
                // Only complete spans may enter a fit.
                assert_eq!(line.kernels.is_empty(), architecture != "llama", "{architecture}");
            }
            assert_eq!(lines[0].prefill.len(), 2, "{architecture}");
        }
    }
}

#[test]
fn slices_cover_the_pass_of_every_architecture() {
    for shape in tiny_shapes() {
        let architecture = shape.architecture.clone();
        let model = quantized_spec("tiny", "f", ModelSource::Mini, shape, QuantScheme::Q8_0);
        let mut loaded = engine().load(&model).unwrap();
        let prompt: Vec<u32> = (0..20).collect();
        for (tokens, kv_len) in [(&prompt[..], 0), (&[7], 20)] {
            let sample = loaded.forward(tokens, kv_len, true).unwrap();
            let slices = loaded.take_recording().unwrap().slices();
            let sum: u64 = slices.iter().map(|slice| slice.ns).sum();
            assert_eq!(sum, sample.forward_ns, "{architecture}");
            let uncovered = slices.iter().filter(|slice| slice.op == KernelOp::Uncovered);
            let uncovered: u64 = uncovered.map(|slice| slice.ns).sum();
            assert!(2 * uncovered < sum, "{architecture}: {uncovered} of {sum}");
        }
    }
}

#[test]
fn prompts_behind_cached_tokens_are_refused_where_the_reader_fails() {
    let gemma = tiny_shapes().into_iter().find(|shape| shape.architecture == "gemma3").unwrap();
    let model = quantized_spec("tiny", "f", ModelSource::Mini, gemma, QuantScheme::Q8_0);
    let error = measure(&plan(model, workload(16, 4, 32), 1, 2), SamplingMode::Greedy).unwrap_err();
    assert!(error.to_string().contains("into an empty cache only"), "{error}");
}

#[test]
fn experts_of_qwen3_are_refused_before_loading() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/");
    let of = |name: &str| {
        foretoken_gguf::read_model(std::path::Path::new(&format!("{folder}{name}.gguf"))).unwrap()
    };
    let error = engine().load(&of("qwen3moe")).err().unwrap();
    assert!(error.to_string().contains("CUDA only"), "{error}");
    // Experts as tensors of their own are multiplied here.
    let mut model = engine().load(&of("llama-moe")).unwrap();
    let sample = model.forward(&[3, 17, 42], 0, true).unwrap();
    assert!(model.last_kernels().is_empty());
    let slices = model.take_recording().unwrap().slices();
    assert_eq!(slices.iter().map(|slice| slice.ns).sum::<u64>(), sample.forward_ns);
}
