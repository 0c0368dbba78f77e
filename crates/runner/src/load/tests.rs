use std::cell::{Cell, RefCell};
use std::rc::Rc;

use foretoken_spec::{OpKind, Pass, PassSample, Phase};

use super::*;
use crate::mock::tests::tiny;
use crate::{KernelPass, MockEngine, MockPass};

fn workload(prompt_tokens: u32, generated_tokens: u32, depth: u32) -> Workload {
    Workload { prompt_tokens, generated_tokens, depth }
}

fn ids() -> SessionIds {
    let tool = ToolInfo {
        version: "0".into(),
        profile: "test".into(),
        target: "none".into(),
        target_features: String::new(),
    };
    SessionIds { session: "s".into(), sequence: 7, tool }
}

/// A pass takes 1 ms per token and 1 µs per cached token.
fn planted(_: &ModelSpec, pass: Pass) -> MockPass {
    let forward_ns = u64::from(pass.n_tokens) * 1_000_000 + u64::from(pass.kv_len) * 1000;
    let kernel = |op, ns| KernelPass { op, role: None, tensor_type: None, calls: 1, ns };
    MockPass {
        forward_ns,
        softmax_ns: 10,
        sampling_ns: 1,
        kernels: vec![kernel(OpKind::Attention, 100), kernel(OpKind::Host, forward_ns - 100)],
        ..MockPass::default()
    }
}

fn load_plan(workloads: &[(Workload, u32, u32)]) -> LoadPlan {
    LoadPlan {
        model: tiny("m"),
        load: 3,
        workloads: workloads
            .iter()
            .map(|&(workload, prefill_repeats, decode_steps)| WorkloadPlan {
                workload,
                prefill_repeats,
                decode_steps,
            })
            .collect(),
    }
}

fn measure(workloads: &[(Workload, u32, u32)]) -> Vec<Measurement> {
    run_load(&mut MockEngine::new(planted), &load_plan(workloads), &ids(), &|| false).unwrap()
}

#[test]
fn a_line_says_what_was_measured_and_where_it_comes_from() {
    let lines = measure(&[(workload(16, 8, 0), 3, 8)]);
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!((line.sequence, line.load, line.session.as_str()), (7, 3, "s"));
    assert_eq!(line.engine.name, "mock");
    assert_eq!(line.sampling, foretoken_spec::Sampling::Temperature);
    assert_eq!(line.time, "2026-01-01T00:00:00Z");
    assert_eq!(line.workload, workload(16, 8, 0));
    assert_eq!(line.model, tiny("m").record());
    assert_eq!(line.reference.len(), 2);
    assert_eq!(line.prefill.len(), 3);
    assert!(line.prefill.iter().all(|p| p.n_tokens == 16 && p.kv_len == 0));
    assert_eq!(line.prefill[0].forward_ns, 16_000_000);
    let kv_lens: Vec<u32> = line.decode.iter().map(|p| p.kv_len).collect();
    assert_eq!(kv_lens, (16..24).collect::<Vec<_>>());
}

#[test]
fn timed_steps_are_centred_on_the_midpoint_of_the_generated_span() {
    for (workload, steps) in [
        (workload(512, 128, 1024), 16),
        (workload(0, 128, 1024), 8),
        (workload(0, 128, 0), 9),
        (workload(7, 1, 0), 1),
        (workload(16, 33, 0), 4),
    ] {
        let line = &measure(&[(workload, 1, steps)])[0];
        let midpoint = workload.decode_midpoint().unwrap().kv_len;
        let kv_lens: Vec<u32> = line.decode.iter().map(|p| p.kv_len).collect();
        assert_eq!(kv_lens.len(), steps as usize);
        assert_eq!(kv_lens[steps as usize / 2], midpoint, "{workload:?}");
        assert!(kv_lens.windows(2).all(|w| w[1] == w[0] + 1));
    }
}

#[test]
fn the_first_decode_step_finds_a_token_in_the_cache() {
    let line = &measure(&[(workload(0, 4, 0), 0, 4)])[0];
    assert_eq!(line.decode[0].kv_len, 1);
    assert!(line.prefill.is_empty());
}

#[test]
fn every_other_pass_is_probed_and_has_one_number_per_kernel() {
    let line = &measure(&[(workload(16, 8, 0), 3, 5)])[0];
    let probed =
        |passes: &[foretoken_spec::PassSample]| passes.iter().map(|p| p.probed).collect::<Vec<_>>();
    assert_eq!(probed(&line.prefill), [true, false, true]);
    assert_eq!(probed(&line.decode), [true, false, true, false, true]);
    let attention = |phase| {
        let found = line.kernels.iter().find(|k| (k.phase, k.op) == (phase, OpKind::Attention));
        found.unwrap().ns.clone()
    };
    assert_eq!(attention(Phase::Prefill), [100; 2]);
    assert_eq!(attention(Phase::Decode), [100; 3]);
}

#[test]
fn passes_follow_each_other_in_the_cache() {
    // Every pass must begin where the passes before it have left the cache.
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let mut engine = MockEngine::new(move |model, pass| {
        log.borrow_mut().push(pass);
        planted(model, pass)
    });
    let plan = load_plan(&[(workload(20, 40, 300), 2, 4)]);
    run_load(&mut engine, &plan, &ids(), &|| false).unwrap();
    let passes: Vec<(u32, u32)> = seen.borrow().iter().map(|p| (p.n_tokens, p.kv_len)).collect();
    let warmup = [(20, 0), (20, 0), (1, 20), (1, 21)];
    let fill = [(128, 0), (128, 128), (44, 256)];
    let prefill = [(20, 300); 4];
    // 320 cached, midpoint 340, 4 steps from 338: a chunk to 335, three settling steps, the steps.
    let settling = [(15, 320), (1, 335), (1, 336), (1, 337)];
    let decode = [(1, 338), (1, 339), (1, 340), (1, 341)];
    assert_eq!(passes, [&warmup[..], &fill, &prefill, &settling, &decode].concat());
}

#[test]
fn warm_up_passes_of_load_and_prompt_are_kept_apart_from_samples() {
    let lines = measure(&[(workload(16, 0, 0), 1, 0), (workload(64, 0, 0), 1, 0)]);
    let tokens = |line: &Measurement| line.warmup.iter().map(|w| w.n_tokens).collect::<Vec<_>>();
    assert_eq!(tokens(&lines[0]), [32, 32, 1, 1, 16, 16]);
    assert_eq!(tokens(&lines[1]), [32, 32, 1, 1, 64, 64]);
}

#[test]
fn unsteady_warm_up_ends_after_three_passes() {
    let calls = Cell::new(0_u64);
    let mut engine = MockEngine::new(move |_, _| {
        calls.set(calls.get() + 1);
        MockPass { forward_ns: 1 << (40 - calls.get()), ..MockPass::default() }
    });
    let lines =
        run_load(&mut engine, &load_plan(&[(workload(8, 0, 0), 1, 0)]), &ids(), &|| false).unwrap();
    let tokens: Vec<u32> = lines[0].warmup.iter().map(|w| w.n_tokens).collect();
    assert_eq!(tokens, [8, 8, 8, 1, 1, 1, 8]);
}

#[test]
fn a_stop_keeps_finished_workloads_only() {
    let passes = Rc::new(Cell::new(0));
    let count = Rc::clone(&passes);
    let mut engine = MockEngine::new(move |model, pass| {
        count.set(count.get() + 1);
        planted(model, pass)
    });
    // Warm-up takes 4 passes, the first workload 1 + 2; the stop falls into the second.
    let plan = load_plan(&[(workload(16, 0, 0), 2, 0), (workload(16, 0, 0), 2, 0)]);
    let lines = run_load(&mut engine, &plan, &ids(), &|| passes.get() >= 9).unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].prefill.len(), 2);
    assert_eq!(lines[0].reference.len(), 2);
    assert_eq!(passes.get(), 9);
}

#[test]
fn more_steps_than_generated_tokens_are_refused() {
    let mut engine = MockEngine::new(planted);
    let plan = load_plan(&[(workload(16, 4, 0), 1, 5)]);
    let error = run_load(&mut engine, &plan, &ids(), &|| false).unwrap_err();
    assert!(matches!(error, RunError::TooManySteps { steps: 5, generated: 4 }));
}

#[test]
fn energy_is_that_of_the_timed_passes() {
    // 2 mJ per pass above 3 W of idling; a prompt of 16 tokens takes 16 ms, a step about 1 ms.
    let planted = |model: &ModelSpec, pass| MockPass {
        nanojoules: 2_000_000,
        kernels: Vec::new(),
        ..planted(model, pass)
    };
    let mut engine = MockEngine::new(planted).with_idle_power(3.0);
    let lines =
        run_load(&mut engine, &load_plan(&[(workload(16, 8, 32), 3, 8)]), &ids(), &|| false);
    let line = lines.unwrap().remove(0);
    let energy = line.energy.unwrap();
    assert_eq!((energy.source.as_str(), energy.meter.as_str()), ("rapl", "mock"));
    let prefill = energy.prefill.unwrap();
    let ns: u64 = line.prefill.iter().map(PassSample::total_ns).sum();
    assert_eq!((prefill.passes, prefill.ns), (3, ns));
    assert!((prefill.above_idle(3.0).unwrap() - 2e-3).abs() < 1e-9);
    let decode = energy.decode.unwrap();
    assert_eq!(decode.passes, 8);
    assert!((decode.above_idle(3.0).unwrap() - 2e-3).abs() < 1e-9);
    // The mock's load takes a millisecond and nothing above idle.
    let load = energy.load.unwrap();
    assert!((load.with_idle().unwrap() - 3e-3).abs() < 1e-9);
    assert_eq!(line.warnings, [""; 0]);
}

/// A meter that answers at first.
struct Ending {
    info: foretoken_meter::MeterInfo,
    marks_left: Cell<u32>,
}

impl crate::EnergyMeter for Ending {
    fn info(&self) -> &foretoken_meter::MeterInfo {
        &self.info
    }

    fn idle_w(&self) -> Option<f64> {
        Some(1.0)
    }

    fn mark(&self) -> Option<foretoken_meter::Mark> {
        let left = self.marks_left.get().checked_sub(1)?;
        self.marks_left.set(left);
        let at = Duration::from_secs(u64::from(100 - left));
        Some(foretoken_meter::Mark { at, joules: at.as_secs_f64(), lost: Duration::ZERO })
    }

    fn failure(&self) -> Option<String> {
        (self.marks_left.get() == 0).then(|| "gone".to_owned())
    }
}

/// The mock with that meter.
struct WithEnding(MockEngine, Ending);

impl Engine for WithEnding {
    fn info(&self) -> foretoken_spec::EngineInfo {
        self.0.info()
    }

    fn device(&self) -> &foretoken_spec::DeviceInfo {
        self.0.device()
    }

    fn threads(&self) -> u32 {
        self.0.threads()
    }

    fn load(&mut self, model: &ModelSpec) -> Result<Box<dyn LoadedModel>, RunError> {
        self.0.load(model)
    }

    fn energy(&self) -> Option<&dyn crate::EnergyMeter> {
        Some(&self.1)
    }

    fn reference(&mut self) -> ReferenceSample {
        self.0.reference()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn machine_state(&self) -> MachineState {
        self.0.machine_state()
    }
}

#[test]
fn a_meter_that_ends_takes_no_measurement_with_it() {
    let info = foretoken_meter::MeterInfo {
        source: foretoken_meter::Source::Ina3221,
        name: "VDD_IN".to_owned(),
        resolution: Duration::from_millis(1),
    };
    // The load's two marks, and those of the first pass over the prompt.
    let meter = Ending { info, marks_left: Cell::new(4) };
    let mut engine = WithEnding(MockEngine::new(planted), meter);
    let plan = load_plan(&[(workload(16, 8, 0), 3, 8)]);
    let line = run_load(&mut engine, &plan, &ids(), &|| false).unwrap().remove(0);
    assert_eq!((line.prefill.len(), line.decode.len()), (3, 8));
    let energy = line.energy.unwrap();
    assert!(energy.load.is_some());
    assert_eq!((energy.prefill, energy.decode), (None, None));
    let expected = "the energy meter `ina3221` stopped answering (gone); times stand";
    assert_eq!(line.warnings, [expected]);
}
