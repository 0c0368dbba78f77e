//! The whole pipeline on a fake clock: a planted cost model must come back.

use std::cell::RefCell;
use std::time::Duration;

use foretoken_cost::{EngineProfile, Feature, KernelClass, OpCost, pass_cost, sampling_cost};
use foretoken_fit::{FitInput, fit, validate};
use foretoken_plan::Design;
use foretoken_runner::{
    Engine, KernelPass, LoadPlan, MockEngine, MockPass, SessionIds, WorkloadPlan, run_load,
};
use foretoken_spec::{
    Calibration, DatasetRef, DeviceInfo, HoldOut, Measurement, ModelSpec, OpKind, Pass, Phase,
    QuantScheme, ReferenceSample, ToolInfo, Workload,
};

use crate::{
    DesignSettings, Keeper, ProofSettings, choose_proof, default_schemes, measure_design, run_proof,
};

mod energy;
mod gpu;

/// Planted seconds per unit of a feature, different for every kernel class.
fn planted(class: &KernelClass, feature: Feature) -> f64 {
    let bits = class.matmul.map_or(8.0, |(t, _)| t.bits_per_weight());
    match feature {
        Feature::Calls => 4e-6,
        Feature::Launches => 5e-6,
        Feature::ParallelCalls => 3e-5,
        Feature::Flop | Feature::ParallelFlop => 2e-12 * (1.0 + bits / 32.0),
        Feature::WeightBytes => 3e-11,
        Feature::KvElements => 4e-10,
        Feature::RepeatedElements => 3e-10,
        Feature::HeadCalls => 6e-7,
        Feature::InputElements | Feature::Elements => 5e-10,
        Feature::ScoreElements => 1e-9,
    }
}

fn planted_ns(op: &OpCost) -> u64 {
    let seconds: f64 = op.features.iter().map(|(f, value)| planted(&op.class, *f) * value).sum();
    (seconds * 1e9).round() as u64
}

fn planted_pass(model: &ModelSpec, engine: &EngineProfile, pass: Pass) -> MockPass {
    let kernels: Vec<KernelPass> = pass_cost(model, engine, pass)
        .ops
        .iter()
        .map(|op| KernelPass {
            op: op.op,
            role: op.role,
            tensor_type: op.tensor_type,
            calls: op.calls,
            ns: planted_ns(op),
        })
        .collect();
    let after = sampling_cost(model);
    let of = |kind| after.iter().find(|op| op.op == kind).map_or(0, planted_ns);
    MockPass {
        forward_ns: kernels.iter().map(|k| k.ns).sum(),
        softmax_ns: of(OpKind::Softmax),
        sampling_ns: of(OpKind::Sampling),
        kernels,
        ..MockPass::default()
    }
}

fn mock_engine() -> MockEngine {
    let device: DeviceInfo = MockEngine::new(|_, _| MockPass::default()).device().clone();
    let profile = EngineProfile::candle(&device);
    MockEngine::new(move |model, pass| planted_pass(model, &profile, pass)).with_reference(
        ReferenceSample { stream_bytes_per_second: 33e9, matmul_flop_per_second: 500e9 },
    )
}

#[derive(Default)]
struct Memory(RefCell<Vec<Measurement>>);

impl Keeper for Memory {
    fn keep(&mut self, measurement: &Measurement) -> std::io::Result<()> {
        self.0.borrow_mut().push(measurement.clone());
        Ok(())
    }
}

fn tool() -> ToolInfo {
    ToolInfo {
        version: "0".into(),
        profile: "test".into(),
        target: "mock".into(),
        target_features: String::new(),
    }
}

fn design() -> Design {
    let engine = mock_engine();
    let profile = EngineProfile::candle(engine.device());
    Design::new(&default_schemes(), &profile, engine.device().l3_bytes, &|_| true)
}

fn measured(budget: Duration) -> Vec<Measurement> {
    let settings = DesignSettings { budget, session: "s".into(), tool: tool(), seed: 1 };
    let mut keeper = Memory::default();
    measure_design(&mut mock_engine(), &design(), &settings, &[], &mut keeper, &|| false).unwrap();
    // The planted times follow candle's profile; a fit refuses engines that it does not know.
    let mut lines = keeper.0.into_inner();
    lines.iter_mut().for_each(|line| line.engine.name = "candle".into());
    lines
}

fn calibration(lines: &[Measurement]) -> Calibration {
    let input = FitInput {
        id: "mock".into(),
        tool: tool(),
        time: "2026-01-01T00:00:00Z".into(),
        dataset: DatasetRef { file: "m.jsonl".into(), hash: "0".into(), measurements: 0 },
        seed: 1,
    };
    fit(lines, input).unwrap()
}

#[test]
fn a_planted_cost_model_predicts_an_unseen_model_to_a_thousandth() {
    let calibration = calibration(&measured(Duration::from_secs(150)));
    let settings = ProofSettings {
        limit: Duration::from_secs(150),
        available_bytes: None,
        schemes: default_schemes(),
        session: "p".into(),
        tool: tool(),
        timing: crate::ProofTiming::IN_PROCESS,
    };
    let plan = choose_proof(&calibration, &settings).unwrap().unwrap();
    assert_eq!(plan.model.name, "tinyllama-1.1b");
    let mut keeper = Memory::default();
    let proof =
        run_proof(&mut mock_engine(), &plan, &settings, &mut keeper, &|| false).unwrap().unwrap();
    assert_eq!(proof.cases.len(), 4);
    for case in &proof.cases {
        assert!(case.error.abs() < 1e-3, "{case:?}");
        assert!(case.lower_ms <= case.observed_ms && case.observed_ms <= case.upper_ms);
    }
    assert!(calibration.held_out.decode_mdape.unwrap() < 1e-3);
    assert_eq!(calibration.noise_floor, Some(0.0));
}

#[test]
fn planted_bandwidths_come_back() {
    let calibration = calibration(&measured(Duration::from_secs(150)));
    let term = calibration.terms.iter().find(|t| t.class == "matmul.q4_0.row_dot.one_row");
    let bytes = term.unwrap().features.iter().find(|f| f.feature == "weight_bytes").unwrap();
    assert!((bytes.coefficient / 3e-11 - 1.0).abs() < 0.01, "{bytes:?}");
}

#[test]
fn validation_of_a_planted_model_beats_every_baseline() {
    let lines = measured(Duration::from_secs(150));
    let report = validate(&lines, &[HoldOut::Model], vec![], &tool()).unwrap();
    assert_eq!(report.groups.len(), 2);
    for group in &report.groups {
        assert!(group.mdape < 1e-3, "{group:?}");
        for (name, baseline) in &group.baselines {
            assert!(baseline.mdape > 10.0 * group.mdape, "{name}: {baseline:?}");
        }
    }
}

/// Lines of a catalogue model on the planted engine.
fn lines_of(preset: &str, scheme: QuantScheme, sequence: u32) -> Vec<Measurement> {
    let workload = Workload { prompt_tokens: 64, generated_tokens: 8, depth: 0 };
    let plan = LoadPlan {
        model: foretoken_catalog::find(preset).unwrap().spec(scheme),
        load: 0,
        workloads: vec![WorkloadPlan { workload, prefill_repeats: 1, decode_steps: 8 }],
    };
    let ids = SessionIds { session: "real".into(), sequence, tool: tool() };
    let mut lines = run_load(&mut mock_engine(), &plan, &ids, &|| false).unwrap();
    lines.iter_mut().for_each(|line| line.engine.name = "candle".into());
    lines
}

#[test]
fn a_held_out_float_quantization_is_not_seen_through_mini_models_of_floats() {
    let mut lines = measured(Duration::from_secs(150));
    lines.extend(lines_of("smollm2-1.7b", QuantScheme::F16, 0));
    lines.extend(lines_of("smollm2-1.7b", QuantScheme::Q8_0, 1));
    let report = validate(&lines, &[HoldOut::Quant], vec![], &tool()).unwrap();
    let prefills: Vec<_> = report.cases.iter().filter(|c| c.phase == Phase::Prefill).collect();
    assert_eq!(prefills.len(), 2);
    for case in prefills {
        // Planted rates differ by bits: a kernel that was truly held out is predicted badly.
        assert!(case.error.abs() > 0.02, "{case:?}");
    }
}

#[test]
fn held_out_models_families_and_lengths_of_the_plant_are_recovered() {
    let mut lines = measured(Duration::from_secs(150));
    for (sequence, preset) in ["smollm2-1.7b", "llama-3.2-1b"].into_iter().enumerate() {
        lines.extend(lines_of(preset, QuantScheme::Q8_0, sequence as u32));
    }
    let hold_outs = [HoldOut::Model, HoldOut::Family, HoldOut::Length];
    let report = validate(&lines, &hold_outs, vec![], &tool()).unwrap();
    assert_eq!(report.groups.len(), 6);
    for case in &report.cases {
        assert!(!case.model.starts_with("mini"), "mini-models are fitted, never judged");
        assert!(case.error.abs() < 1e-3, "{case:?}");
    }
    assert!(validate(&lines, &[HoldOut::Device], vec![], &tool()).is_err());
}

#[test]
fn a_held_out_quantization_is_predicted_from_its_siblings_and_says_so() {
    let mut lines = measured(Duration::from_secs(150));
    let without_q8: Vec<Measurement> = {
        for line in &mut lines {
            line.kernels.retain(|k| k.tensor_type != Some(foretoken_spec::TensorType::Q8_0));
        }
        lines
    };
    let calibration = calibration(&without_q8);
    let predictor = foretoken_predict::Predictor::new(&calibration).unwrap();
    let model =
        foretoken_catalog::find("smollm2-1.7b").unwrap().spec(foretoken_spec::QuantScheme::Q8_0);
    let pass = predictor.pass(&model, Pass { n_tokens: 1, kv_len: 64 }).unwrap();
    assert_eq!(pass.tier, foretoken_spec::Tier::SiblingQuantization);
}

#[test]
fn a_budget_too_small_for_anything_buys_the_cheapest_load() {
    let lines = measured(Duration::from_millis(1));
    assert!(!lines.is_empty());
    assert!(lines.iter().all(|line| line.sequence == 0), "one load");
}

#[test]
fn an_interrupted_design_goes_on_where_it_stopped() {
    let all = measured(Duration::from_secs(150));
    let first: Vec<Measurement> = all[..7].to_vec();
    let settings = DesignSettings {
        budget: Duration::from_secs(150),
        session: "s".into(),
        tool: tool(),
        seed: 1,
    };
    let mut keeper = Memory::default();
    measure_design(&mut mock_engine(), &design(), &settings, &first, &mut keeper, &|| false)
        .unwrap();
    let resumed = keeper.0.into_inner();
    let key = |m: &Measurement| (m.model.name.clone(), m.load);
    for line in &first {
        assert!(!resumed.iter().any(|m| key(m) == key(line)));
    }
    assert!(resumed.iter().all(|m| m.sequence > first.last().unwrap().sequence));
}
