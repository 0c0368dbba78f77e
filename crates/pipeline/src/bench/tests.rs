//! A planted law instead of a program: what calibrates through whole passes must find it again.

use std::cell::Cell;

use foretoken_cost::{EngineProfile, Feature, Isa, OpCost, Regime, pass_cost};
use foretoken_fit::{FitInput, fit, validate};
use foretoken_plan::{MiniPlan, single_type_minis};
use foretoken_runner::{MockEngine, MockPass};
use foretoken_spec::{Calibration, DatasetRef, HoldOut, OpKind, Pass, QuantScheme, ToolInfo};

use super::*;
use crate::{
    DesignSettings, Keeper, ProofSettings, ProofTiming, choose_proof, measure_bench_design,
    run_bench_proof,
};

const ENGINE: EngineProfile = EngineProfile::llama_cpp(Isa::Other);

/// Rates by bits, a price for every call, attention by the keys and values that it reads.
fn seconds(op: &OpCost) -> f64 {
    let bits = op.class.matmul.map_or(8.0, |(t, _)| t.bits_per_weight());
    let is_attention = op.class.op == OpKind::Attention;
    let price = |feature: Feature| match feature {
        Feature::Calls => 3e-6,
        Feature::WeightBytes if op.class.regime == Regime::OneRow => 5e-11 + 1e-12 * bits,
        Feature::Flop if op.class.matmul.is_some() => 2e-12 * (1.0 + bits / 32.0),
        Feature::KvElements if is_attention => 3e-10,
        Feature::Elements if !is_attention => 2e-10,
        _ => 0.0,
    };
    op.features.iter().map(|(feature, value)| price(*feature) * value).sum()
}

struct Planted {
    has_depth: bool,
    backend: &'static str,
    runs: Cell<u32>,
}

impl Default for Planted {
    fn default() -> Self {
        Self { has_depth: true, backend: "cpu", runs: Cell::new(0) }
    }
}

impl Bencher for Planted {
    fn run(
        &mut self,
        model: &ModelSpec,
        tests: &BenchTests,
        _: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<BenchRun>, BenchFailure> {
        self.runs.set(self.runs.get() + 1);
        if stop() {
            return Ok(None);
        }
        let ns = |pass| {
            let ops = pass_cost(model, &ENGINE, pass).ops;
            (1e9 * ops.iter().map(seconds).sum::<f64>()).round() as u64
        };
        let depth = tests.depth;
        let timed = |n_prompt: u32, n_gen: u32| {
            let time = match n_gen {
                0 => ns(Pass { n_tokens: n_prompt, kv_len: depth }),
                n => u64::from(n) * ns(Pass { n_tokens: 1, kv_len: depth + n / 2 }),
            };
            let samples_ns = vec![time; tests.repeats as usize];
            TimedTest { n_prompt, n_gen, n_depth: depth, samples_ns }
        };
        let prompts = tests.prompts.iter().map(|&n| timed(n, 0));
        let steps = (tests.generate > 0).then(|| timed(0, tests.generate));
        Ok(Some(BenchRun {
            tests: prompts.chain(steps).collect(),
            build: Build {
                version: "b1 (0)".into(),
                backend: self.backend.into(),
                gpu: (self.backend != "cpu").then(|| "NVIDIA H200, 141 GB".into()),
            },
            peak_rss_bytes: Some(1 << 30),
            rows: Vec::new(),
        }))
    }

    fn has_depth(&self) -> bool {
        self.has_depth
    }
}

#[derive(Default)]
struct Kept(Vec<Measurement>);

impl Keeper for Kept {
    fn keep(&mut self, measurement: &Measurement) -> io::Result<()> {
        self.0.push(measurement.clone());
        Ok(())
    }
}

fn host() -> MockEngine {
    MockEngine::new(|_, _| MockPass::default())
}

fn tool() -> ToolInfo {
    ToolInfo {
        version: "0".into(),
        profile: "test".into(),
        target: "mock".into(),
        target_features: String::new(),
    }
}

fn settings() -> DesignSettings {
    DesignSettings { budget: Duration::MAX / 4, session: "s".into(), tool: tool(), seed: 1 }
}

const SCHEMES: [QuantScheme; 3] = [QuantScheme::Q8_0, QuantScheme::Q4_K_M, QuantScheme::Q4_0];

fn minis(deep: bool) -> Vec<MiniPlan> {
    single_type_minis(&SCHEMES, Some(8 << 20), deep, 6)
}

fn measured(bencher: &mut Planted) -> Vec<Measurement> {
    let mut kept = Kept::default();
    let minis = minis(bencher.has_depth);
    let summary =
        measure_bench_design(bencher, &mut host(), &minis, &settings(), &[], &mut kept, &|| false)
            .unwrap();
    assert_eq!(summary.loads_done, minis.len());
    kept.0
}

fn calibration(lines: &[Measurement]) -> Calibration {
    let dataset = DatasetRef { file: "m.jsonl".into(), hash: "0".into(), measurements: 0 };
    let time = "2026-01-01T00:00:00Z".into();
    fit(lines, FitInput { id: "mock".into(), tool: tool(), time, dataset, seed: 1 }).unwrap()
}

#[test]
fn a_planted_law_predicts_an_unseen_model_from_whole_passes() {
    let calibration = calibration(&measured(&mut Planted::default()));
    assert_eq!(calibration.engine.name, "llama.cpp");
    assert_eq!(calibration.engine.version, "b1 (0)");
    assert!(calibration.held_out.decode_mdape.unwrap() < 0.01);
    let settings = ProofSettings {
        limit: Duration::from_secs(1000),
        available_bytes: None,
        schemes: SCHEMES.to_vec(),
        session: "p".into(),
        tool: tool(),
        timing: ProofTiming::of_bench(true),
    };
    let plan = choose_proof(&calibration, &settings).unwrap().unwrap();
    let (mut bencher, mut kept) = (Planted::default(), Kept::default());
    let proof = run_bench_proof(&mut bencher, &mut host(), &plan, &settings, &mut kept, &|| false);
    let proof = proof.unwrap().unwrap();
    assert_eq!((proof.model.as_str(), proof.cases.len()), ("tinyllama-1.1b", 4));
    for case in &proof.cases {
        assert!(case.error.abs() < 0.03, "{case:?}");
    }
}

#[test]
fn held_out_quantizations_are_not_seen() {
    let mut bencher = Planted::default();
    let mut lines = measured(&mut bencher);
    for (sequence, scheme) in [QuantScheme::Q8_0, QuantScheme::Q4_0].into_iter().enumerate() {
        lines.extend(load("llama-3.2-1b", scheme, sequence as u32, &mut bencher).unwrap());
    }
    let report = validate(&lines, &[HoldOut::Model, HoldOut::Quant], vec![], &tool()).unwrap();
    for case in &report.cases {
        let error = case.error.abs();
        match case.hold_out {
            HoldOut::Model => assert!(error < 0.03, "{case:?}"),
            _ => assert!(error > 0.02, "its rate is that of another type: {case:?}"),
        }
    }
}

fn load(
    preset: &str,
    scheme: QuantScheme,
    sequence: u32,
    bencher: &mut Planted,
) -> Result<Vec<Measurement>, BenchFailure> {
    let plan = BenchLoad {
        model: foretoken_catalog::find(preset).unwrap().spec(scheme),
        load: 0,
        workloads: vec![
            Workload { prompt_tokens: 64, generated_tokens: 8, depth: 0 },
            Workload { prompt_tokens: 0, generated_tokens: 8, depth: 0 },
        ],
        repeats: 2,
    };
    let ids = SessionIds { session: "real".into(), sequence, tool: tool() };
    run_bench_load(bencher, &mut host(), &plan, &ids, Duration::from_secs(9), &|| false)
}

#[test]
fn steps_start_behind_the_prompt_and_are_timed_one_by_one() {
    let mut bencher = Planted::default();
    let lines = load("smollm2-135m", QuantScheme::Q8_0, 0, &mut bencher).unwrap();
    assert_eq!((lines.len(), bencher.runs.get()), (2, 2));
    let [first, second] = &lines[..] else { panic!("two lines") };
    assert_eq!((first.prefill.len(), first.decode.len()), (2, 2));
    assert_eq!((first.prefill[0].n_tokens, first.prefill[0].kv_len), (64, 0));
    assert_eq!((first.decode[0].n_tokens, first.decode[0].kv_len), (1, 68));
    assert_eq!((second.prefill.len(), second.decode[0].kv_len), (0, 4));
    assert!(first.decode[0].forward_ns > second.decode[0].forward_ns);
    assert_eq!(first.memory.peak_rss_bytes, Some(1 << 30));
    assert_eq!((first.reference.len(), first.engine.version.as_str()), (2, "b1 (0)"));
}

#[test]
fn a_program_without_depths_says_what_it_cannot_time() {
    let mut bencher = Planted { has_depth: false, ..Planted::default() };
    let error = load("smollm2-135m", QuantScheme::Q8_0, 0, &mut bencher).unwrap_err().to_string();
    assert!(error.contains("no -d: it cannot time steps behind 64"), "{error}");
    assert_eq!(bencher.runs.get(), 0);
    assert!(calibration(&measured(&mut bencher)).held_out.decode_mdape.unwrap() < 0.01);
}

#[test]
fn the_device_is_the_gpu_that_did_the_arithmetic() {
    let mut bencher = Planted { backend: "cuda", ..Planted::default() };
    let lines = load("smollm2-135m", QuantScheme::Q8_0, 0, &mut bencher).unwrap();
    assert_eq!(lines[0].device.id, "nvidia-h200-141-gb");
    assert_eq!(lines[0].device.backend, Backend::Cuda);
    bencher.backend = "abacus";
    let error = load("smollm2-135m", QuantScheme::Q8_0, 0, &mut bencher).unwrap_err().to_string();
    assert!(error.contains("computes on `abacus`"), "{error}");
}

#[test]
fn a_design_goes_on_behind_what_was_measured_and_stops_where_it_is_told() {
    let all = measured(&mut Planted::default());
    let (first, minis) = (&all[..6], minis(true));
    let mut kept = Kept::default();
    let mut bencher = Planted::default();
    measure_bench_design(&mut bencher, &mut host(), &minis, &settings(), first, &mut kept, &|| {
        false
    })
    .unwrap();
    let key = |m: &Measurement| (m.model.name.clone(), m.load);
    assert!(kept.0.iter().all(|line| first.iter().all(|known| key(known) != key(line))));
    assert!(kept.0.iter().all(|line| line.sequence > 0));
    let mut none = Kept::default();
    let summary = measure_bench_design(
        &mut bencher,
        &mut host(),
        &minis,
        &settings(),
        &[],
        &mut none,
        &|| true,
    )
    .unwrap();
    assert!(summary.stopped && none.0.is_empty());
}

#[test]
fn the_first_load_is_measured_whatever_the_budget() {
    let mut kept = Kept::default();
    let settings = DesignSettings { budget: Duration::ZERO, ..settings() };
    let mut bencher = Planted::default();
    let minis = minis(true);
    measure_bench_design(&mut bencher, &mut host(), &minis, &settings, &[], &mut kept, &|| false)
        .unwrap();
    assert_eq!(kept.0.iter().map(|m| m.sequence).max(), Some(0));
}
