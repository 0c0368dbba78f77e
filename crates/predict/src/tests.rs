//! Predictions from a calibration with planted coefficients, by hand.

use foretoken_cost::{EngineProfile, pass_cost, sampling_cost};
use foretoken_spec::{
    Backend, Calibration, Ceilings, DatasetRef, DeviceInfo, EngineInfo, FeatureCoefficient,
    HeldOutError, IntervalFit, MeasuredKernel, ModelShape, ModelSource, ModelSpec, Pass, Phase,
    PhaseCorrection, Prediction, SCHEMA_VERSION, TensorType, TermFit, Tier, ToolInfo, Workload,
};
use proptest::prelude::*;

use crate::{Asked, PredictError, Predictor, predict};

fn model(tensor_type: TensorType) -> ModelSpec {
    let shape = ModelShape {
        architecture: "llama".into(),
        n_layers: 2,
        hidden_size: 512,
        n_heads: 8,
        n_kv_heads: 2,
        head_dim: 64,
        intermediate_size: 1024,
        vocab_size: 1000,
        context_length: 2048,
        tied_embeddings: false,
        rope_freqs: false,
        rope_freq_base: 10_000.0,
        rms_norm_eps: 1e-5,
        details: foretoken_spec::ShapeDetails::default(),
    };
    ModelSpec::from_shape("m", "f", tensor_type.name(), ModelSource::Mini, shape, |role, _| {
        if role.is_vector() { TensorType::F32 } else { tensor_type }
    })
}

/// A calibration on a machine without tiles, where every coefficient is 1e-9 s per unit and
/// everything up to `most` per call was measured.
fn calibration(tensor_type: TensorType, most: f64) -> Calibration {
    let device = DeviceInfo {
        id: "d".into(),
        backend: Backend::Cpu,
        name: "d".into(),
        arch: "other".into(),
        isa: vec![],
        physical_cores: 2,
        logical_cores: 2,
        l3_bytes: None,
        memory_bytes: 1 << 30,
        os: "os".into(),
        hypervisor: None,
        host: None,
    };
    let engine = EngineProfile::candle(&device);
    let spec = model(tensor_type);
    let mut ops = sampling_cost(&spec);
    for pass in [Pass { n_tokens: 1, kv_len: 9 }, Pass { n_tokens: 9, kv_len: 0 }] {
        ops.extend(pass_cost(&spec, &engine, pass).ops);
    }
    let mut terms: Vec<TermFit> = Vec::new();
    for op in ops {
        if terms.iter().all(|term| term.class != op.class.key()) {
            let coefficient = |feature: &foretoken_cost::Feature| FeatureCoefficient {
                feature: feature.name().into(),
                unit: feature.coefficient_unit().into(),
                coefficient: 1e-9,
                std_error: None,
                range: [0.0, most],
            };
            terms.push(TermFit {
                class: op.class.key(),
                features: op.features.iter().map(|(f, _)| coefficient(f)).collect(),
                n_observations: 9,
                residual_mdape: 0.0,
                anchors: vec![MeasuredKernel {
                    model: "mini".into(),
                    op: op.name(),
                    pass: Pass { n_tokens: 1, kv_len: 1 },
                    features: op
                        .features
                        .iter()
                        .map(|(_, value)| 2.0 * value / f64::from(op.calls))
                        .collect(),
                    seconds: 1.0,
                }],
            });
        }
    }
    let interval = |phase| IntervalFit {
        phase,
        level: 0.9,
        half_width: 0.1,
        near_half_width: 0.7,
        far_half_width: 0.7,
        n_groups: 9,
    };
    Calibration {
        schema_version: SCHEMA_VERSION,
        id: "c".into(),
        tool: ToolInfo {
            version: "0".into(),
            profile: "test".into(),
            target: "t".into(),
            target_features: String::new(),
        },
        time: String::new(),
        device,
        engine: EngineInfo { name: "candle".into(), version: "0".into() },
        threads: 2,
        dataset: DatasetRef { file: String::new(), hash: String::new(), measurements: 0 },
        seed: 0,
        terms,
        corrections: vec![PhaseCorrection { phase: Phase::Decode, scale: 2.0 }],
        intervals: vec![interval(Phase::Prefill), interval(Phase::Decode)],
        held_out: HeldOutError { prefill_mdape: None, decode_mdape: None, n_groups: 0 },
        energy: None,
        loading: None,
        ceilings: Ceilings { stream_bytes_per_second: 1e10, matmul_flop_per_second: 1e11 },
        noise_floor: None,
        warnings: vec![],
    }
}

fn asked() -> Asked {
    Asked {
        batch_size: 1,
        available_bytes: Some(1 << 30),
        process_bytes: 0,
        model_argument: "m".into(),
    }
}

#[test]
fn a_pass_is_the_sum_of_its_features_times_the_scale() {
    let calibration = calibration(TensorType::Q4_0, 1e18);
    let predictor = Predictor::new(&calibration).unwrap();
    let spec = model(TensorType::Q4_0);
    let sum = |pass| -> f64 {
        let cost = pass_cost(&spec, predictor.engine(), pass);
        cost.ops.iter().flat_map(|op| &op.features).map(|(_, value)| 1e-9 * value).sum()
    };
    let decode = Pass { n_tokens: 1, kv_len: 100 };
    let prefill = Pass { n_tokens: 32, kv_len: 0 };
    assert!(
        (predictor.pass(&spec, decode).unwrap().seconds / (2.0 * sum(decode)) - 1.0).abs() < 1e-9
    );
    assert!((predictor.pass(&spec, prefill).unwrap().seconds / sum(prefill) - 1.0).abs() < 1e-9);
}

#[test]
fn ttft_tpot_and_end_to_end_follow_their_definitions() {
    let calibration = calibration(TensorType::Q4_0, 1e18);
    let predictor = Predictor::new(&calibration).unwrap();
    let workload = Workload::new(32, 17, 5).unwrap();
    let p = predict(&predictor, &model(TensorType::Q4_0), &workload, &asked()).unwrap();
    let point = |e: Option<foretoken_spec::Estimate>| e.unwrap().point;
    // Softmax and sampling of 1000 logits: 2 calls and 2000 elements at 1e-9 s each, in ms.
    let sampling = 2002.0 * 1e-9 * 1e3;
    assert!((point(p.ttft_ms) - point(p.prefill_ms) - sampling).abs() < 1e-9);
    assert!((point(p.tpot_ms) - point(p.decode_ms) - sampling).abs() < 1e-9);
    let end_to_end = point(p.ttft_ms) + 16.0 * point(p.tpot_ms);
    assert!((point(p.e2e_ms) - end_to_end).abs() < 1e-9);
    assert_eq!(p.basis.tier, Tier::SameQuantization);
    assert!(p.basis.extrapolation.is_empty());
    assert!(p.memory.fits.unwrap());
}

#[test]
fn what_is_not_asked_for_is_null() {
    let calibration = calibration(TensorType::Q4_0, 1e18);
    let predictor = Predictor::new(&calibration).unwrap();
    let workload = Workload::new(0, 4, 7).unwrap();
    let p = predict(&predictor, &model(TensorType::Q4_0), &workload, &asked()).unwrap();
    assert!(p.prefill_ms.is_none() && p.ttft_ms.is_none() && p.e2e_ms.is_none());
    assert!(p.decode_ms.is_some() && p.tpot_ms.is_some());
}

#[test]
fn extrapolation_is_told_and_widens_the_interval() {
    let spec = model(TensorType::Q4_0);
    let pass = Pass { n_tokens: 64, kv_len: 0 };
    let inside = calibration(TensorType::Q4_0, 1e18);
    let outside = calibration(TensorType::Q4_0, 1e5);
    let inside = Predictor::new(&inside).unwrap().pass(&spec, pass).unwrap();
    let outside = Predictor::new(&outside).unwrap().pass(&spec, pass).unwrap();
    assert!(inside.extrapolation.is_empty() && !outside.extrapolation.is_empty());
    assert_eq!(inside.seconds, outside.seconds);
    assert!(outside.estimate.upper > inside.estimate.upper);
    assert!((inside.estimate.upper / inside.seconds - 0.1f64.exp()).abs() < 1e-9);
}

#[test]
fn a_borrowed_kernel_is_told_and_widens_the_interval() {
    let calibration = calibration(TensorType::Q4_0, 1e18);
    let predictor = Predictor::new(&calibration).unwrap();
    let pass = Pass { n_tokens: 1, kv_len: 8 };
    let own = predictor.pass(&model(TensorType::Q4_0), pass).unwrap();
    let borrowed = predictor.pass(&model(TensorType::Q5_0), pass).unwrap();
    assert_eq!(borrowed.tier, Tier::SiblingQuantization);
    let width = |p: &crate::PassPrediction| p.estimate.upper / p.seconds;
    assert!(width(&borrowed) > width(&own));
}

/// Time of one matrix of a decode step in a model of this type, by the kernel of Q4_0.
fn borrowed_ms(tensor_type: TensorType, stream_bytes_per_second: f64) -> f64 {
    let mut calibration = calibration(TensorType::Q4_0, 1e18);
    calibration.ceilings.stream_bytes_per_second = stream_bytes_per_second;
    let predictor = Predictor::new(&calibration).unwrap();
    let pass = predictor.pass(&model(tensor_type), Pass { n_tokens: 1, kv_len: 8 }).unwrap();
    let op = pass.ops.iter().find(|op| op.cost.name() == "matmul.ffn_up").unwrap();
    // Without calls and input elements: 2 layers, 512 inputs each, twice by the correction.
    1e3 * op.seconds - 2.0 * 1e-6 * (2.0 + 2.0 * 512.0)
}

#[test]
fn a_borrowed_kernel_takes_as_long_for_each_weight_unless_memory_holds_it_up() {
    // The coefficient is 1 GB/s: at peaks of 10 GB/s it is arithmetic that takes the time.
    let own = borrowed_ms(TensorType::Q4_0, 1e10);
    assert!((borrowed_ms(TensorType::Q8_0, 1e10) / own - 1.0).abs() < 1e-9);
    // Of 1.2 GB/s it uses most: 34 bytes take longer than 18.
    assert!((borrowed_ms(TensorType::Q8_0, 1.2e9) / own - 34.0 / 18.0).abs() < 1e-9);
    // Never faster than memory: at 1.6 GB/s 34 bytes take at least 34 / 1.6 / 18 times as long.
    assert!((borrowed_ms(TensorType::Q8_0, 1.6e9) / own - 34.0 / 1.6 / 18.0).abs() < 1e-9);
}

#[test]
fn every_time_is_the_sum_of_its_terms_and_names_what_was_measured_near() {
    let calibration = calibration(TensorType::Q4_0, 1e18);
    let predictor = Predictor::new(&calibration).unwrap();
    let workload = Workload::new(9, 4, 0).unwrap();
    let p = predict(&predictor, &model(TensorType::Q4_0), &workload, &asked()).unwrap();
    for op in &p.ops {
        let sum: f64 = op.terms.iter().map(|term| term.ms).sum();
        assert!((sum / op.ms - 1.0).abs() < 1e-9, "{op:?}");
        assert!(op.nearest.is_some());
    }
    // What was measured had twice the features of the same pass.
    let rope = p.ops.iter().find(|op| op.op == "rope" && op.phase == Phase::Prefill).unwrap();
    assert!((rope.nearest.as_ref().unwrap().ratio - 2.0).abs() < 1e-9);
}

#[test]
fn attention_of_another_form_is_assumed_and_told() {
    let calibration = calibration(TensorType::Q4_0, 1e18);
    let predictor = Predictor::new(&calibration).unwrap();
    let llama = model(TensorType::Q4_0);
    let mut qwen = llama.clone();
    qwen.shape.architecture = "qwen3".into();
    let pass = Pass { n_tokens: 1, kv_len: 100 };
    let said = |model| predictor.pass(model, pass).unwrap().extrapolation.join("; ");
    assert_eq!(said(&llama), "");
    let sentence = "attention of `qwen3` was not measured: llama's form is assumed";
    assert_eq!(said(&qwen), sentence);
    let workload = Workload::new(32, 17, 5).unwrap();
    let p = predict(&predictor, &qwen, &workload, &asked()).unwrap();
    assert!(p.basis.extrapolation.contains(&format!("decode: {sentence}")));
}

#[test]
fn architectures_without_a_reader_and_experts_are_told() {
    let calibration = calibration(TensorType::Q4_0, 1e18);
    let predictor = Predictor::new(&calibration).unwrap();
    let workload = Workload::new(32, 17, 5).unwrap();
    let mut other = model(TensorType::Q4_0);
    other.shape.architecture = "gemma2".into();
    other.approximations.push("of the file".into());
    let warnings = predict(&predictor, &other, &workload, &asked()).unwrap().warnings;
    assert_eq!(warnings[0], "of the file");
    assert!(warnings[1].contains("no reader for `gemma2`"), "{warnings:?}");
}

#[test]
fn the_cache_type_is_that_of_the_engine() {
    let mut calibration = calibration(TensorType::Q4_0, 1e18);
    let refused = Predictor::new(&calibration).unwrap().with_kv_type("q8_0").unwrap_err();
    assert!(refused.to_string().contains("candle keeps its KV cache in f32"));
    calibration.engine.name = "llama.cpp".into();
    let predictor = Predictor::new(&calibration).unwrap().with_kv_type("q8_0").unwrap();
    // 2 layers of 2 heads of 64, keys and values: 512 numbers, 544 bytes of Q8_0 each token.
    let model = model(TensorType::Q4_0);
    let bytes = foretoken_cost::kv_cache_bytes(&model.shape, predictor.engine(), 10);
    assert_eq!(bytes, 10 * 544);
}

#[test]
fn a_batch_takes_longer_in_all_and_less_for_each() {
    let calibration = calibration(TensorType::Q4_0, 1e18);
    let predictor = Predictor::new(&calibration).unwrap();
    let workload = Workload::new(0, 4, 7).unwrap();
    let of = |batch_size| {
        let asked = Asked { batch_size, ..asked() };
        predict(&predictor, &model(TensorType::Q4_0), &workload, &asked).unwrap()
    };
    let (one, four) = (of(1), of(4));
    assert!(four.decode_ms.unwrap().point > one.decode_ms.unwrap().point);
    assert!(four.memory.kv_cache_bytes == 4 * one.memory.kv_cache_bytes);
    let flop = |answer: &Prediction| answer.ops.iter().map(|op| op.flop).sum::<u64>();
    assert!(flop(&four) > flop(&one));
    assert_eq!(four.flop.decode_per_token, one.flop.decode_per_token);
}

#[test]
fn without_any_matmul_the_answer_is_refused_with_the_remedy() {
    let mut calibration = calibration(TensorType::Q4_0, 1e18);
    calibration.terms.retain(|term| !term.class.starts_with("matmul"));
    let predictor = Predictor::new(&calibration).unwrap();
    let error = predictor.pass(&model(TensorType::Q4_0), Pass { n_tokens: 1, kv_len: 1 });
    assert!(matches!(error, Err(PredictError::NoAnchor { .. })));
}

#[test]
fn a_term_of_another_version_is_refused() {
    let mut calibration = calibration(TensorType::Q4_0, 1e18);
    calibration.terms[0].class = "teleport.one_row".into();
    assert!(matches!(Predictor::new(&calibration), Err(PredictError::UnknownTerm { .. })));
}

proptest! {
    #[test]
    fn decode_never_gets_faster_with_depth(kv in 1u32..4000, more in 1u32..2000) {
        let calibration = calibration(TensorType::Q4_0, 1e18);
        let predictor = Predictor::new(&calibration).unwrap();
        let spec = model(TensorType::Q4_0);
        let at = |kv_len| predictor.pass(&spec, Pass { n_tokens: 1, kv_len }).unwrap().seconds;
        prop_assert!(at(kv + more) >= at(kv));
    }
}
