//! A graphics device through the whole pipeline: the design, the fit and what is predicted of it.

use foretoken_cost::Isa;
use foretoken_predict::{Asked, Predictor, predict};
use foretoken_spec::{Backend, Bound, Phase, SpanClock, Tier};

use super::*;

fn mock_gpu() -> MockEngine {
    let profile = EngineProfile::candle_on(Isa::Cuda);
    MockEngine::new(move |model, pass| planted_pass(model, &profile, pass))
        .with_reference(ReferenceSample {
            stream_bytes_per_second: 1e12,
            matmul_flop_per_second: 1e13,
        })
        .on_gpu()
}

fn measured() -> Vec<Measurement> {
    let budget = Duration::from_secs(900);
    let settings = DesignSettings { budget, session: "s".into(), tool: tool(), seed: 1 };
    let engine = mock_gpu();
    let profile = EngineProfile::candle(engine.device());
    let design = Design::new(&default_schemes(), &profile, engine.device().l3_bytes, &|_| true);
    let mut keeper = Memory::default();
    measure_design(&mut mock_gpu(), &design, &settings, &[], &mut keeper, &|| false).unwrap();
    let mut lines = keeper.0.into_inner();
    lines.iter_mut().for_each(|line| line.engine.name = "candle".into());
    lines
}

#[test]
fn launches_come_back_and_unseen_models_are_predicted() {
    let lines = measured();
    assert!(lines.iter().all(|line| line.span_clock == SpanClock::Events));
    let calibration = calibration(&lines);
    assert_eq!(calibration.device.backend, Backend::Cuda);
    assert_eq!(calibration.device.host.as_deref(), Some("mock-2c"));
    let term = calibration.terms.iter().find(|t| t.class == "matmul.q4_k.gpu_vector.one_row");
    let launches = term.unwrap().features.iter().find(|f| f.feature == "launches").unwrap();
    assert!((launches.coefficient / 5e-6 - 1.0).abs() < 0.01, "{launches:?}");
    assert_eq!(launches.unit, "s/launch");

    let predictor = Predictor::new(&calibration).unwrap();
    let model = foretoken_catalog::find("tinyllama-1.1b").unwrap().spec(QuantScheme::Q4_K_M);
    for pass in [Pass { n_tokens: 512, kv_len: 0 }, Pass { n_tokens: 1, kv_len: 600 }] {
        let predicted = predictor.pass(&model, pass).unwrap().seconds;
        let truth = planted_pass(&model, predictor.engine(), pass).forward_ns as f64 * 1e-9;
        assert!((predicted / truth - 1.0).abs() < 2e-3, "{pass:?}: {predicted} {truth}");
    }
}

#[test]
fn behind_another_processor_the_launches_are_uncertain_and_it_is_said() {
    let calibration = calibration(&measured());
    let model = foretoken_catalog::find("tinyllama-1.1b").unwrap().spec(QuantScheme::Q4_K_M);
    let step = Pass { n_tokens: 1, kv_len: 600 };
    let on = |host| Predictor::new(&calibration).unwrap().hosted_by(host).pass(&model, step);
    let (same, other) = (on("mock-2c").unwrap(), on("another-8c").unwrap());
    assert_eq!((same.tier, same.extrapolation.len()), (Tier::SameQuantization, 0));
    assert_eq!(other.tier, Tier::SameDeviceClass);
    assert_eq!(other.estimate.point.to_bits(), same.estimate.point.to_bits());
    assert!(other.estimate.upper > 1.05 * same.estimate.upper, "{other:?}");
    let said = &other.extrapolation[0];
    assert!(said.contains("mock-2c") && said.contains("another-8c"), "{said}");
}

#[test]
fn what_launching_takes_is_called_so() {
    let calibration = calibration(&measured());
    let predictor = Predictor::new(&calibration).unwrap();
    let model = foretoken_catalog::find("tinyllama-1.1b").unwrap().spec(QuantScheme::Q4_K_M);
    let workload = Workload { prompt_tokens: 512, generated_tokens: 8, depth: 0 };
    let asked = Asked {
        batch_size: 1,
        available_bytes: Some(16 << 30),
        process_bytes: 0,
        model_argument: "tinyllama-1.1b".into(),
    };
    let answer = predict(&predictor, &model, &workload, &asked).unwrap();
    let bound = |name: &str| {
        let of = |op: &&foretoken_spec::OpPrediction| op.phase == Phase::Decode && op.op == name;
        answer.ops.iter().find(of).unwrap().bound
    };
    assert_eq!(bound("rms_norm"), Bound::Launch);
    assert_ne!(bound("lm_head"), Bound::Launch);
    assert!(answer.ops.iter().all(|op| op.bound != Bound::Overhead));
    assert!(answer.verify.ends_with("--device cuda"), "{}", answer.verify);
}
