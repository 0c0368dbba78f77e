use std::cell::Cell;

use foretoken_spec::Pass;

use super::*;
use crate::mock::tests::tiny;
use crate::{MockEngine, MockPass, WorkloadPlan, interleave};

const SECOND: u64 = 1_000_000_000;

/// Keeps lines; knows how long loads take; fails to save from some line on.
#[derive(Default)]
struct Keeper {
    lines: Vec<Measurement>,
    progress: Vec<(usize, usize)>,
    expected: Option<Duration>,
    disk_lines: Option<usize>,
}

impl SessionObserver for Keeper {
    fn on_measurement(&mut self, measurement: &Measurement) -> io::Result<()> {
        if self.disk_lines == Some(self.lines.len()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.lines.push(measurement.clone());
        Ok(())
    }

    fn on_progress(&mut self, progress: &Progress<'_>) {
        self.progress.push((progress.load_index, progress.workload_index));
    }

    fn expected(&self, _: &LoadPlan) -> Option<Duration> {
        self.expected
    }
}

/// Every pass takes a second.
fn second_per_pass() -> MockEngine {
    MockEngine::new(|_, _: Pass| MockPass { forward_ns: SECOND, ..MockPass::default() })
}

/// Each load: 4 warm-up passes and 2 × (1 + 1) prefills, a second each.
fn plan(n_models: u32, n_loads: u32) -> SessionPlan {
    let one = WorkloadPlan {
        workload: Workload { prompt_tokens: 8, generated_tokens: 0, depth: 0 },
        prefill_repeats: 1,
        decode_steps: 0,
    };
    let loads = (0..n_loads)
        .flat_map(|load| {
            (0..n_models).map(move |model| LoadPlan {
                model: tiny(&format!("m{model}")),
                load,
                workloads: vec![one, one],
            })
        })
        .collect();
    let tool = crate::tool_info("0");
    SessionPlan {
        session: "s".into(),
        first_sequence: 10,
        tool,
        loads: interleave(loads, 5),
        budget: None,
    }
}

#[test]
fn every_line_is_delivered_in_the_order_of_the_plan() {
    let plan = plan(3, 2);
    let mut keeper = Keeper::default();
    let summary = run_session(&mut second_per_pass(), &plan, &mut keeper, &|| false).unwrap();
    assert_eq!(summary.loads_done, 6);
    assert_eq!(summary.measurements, 12);
    assert!(!summary.stopped);
    assert_eq!(keeper.progress.len(), 12);
    let measured: Vec<_> =
        keeper.lines.iter().step_by(2).map(|m| (m.model.name.clone(), m.load)).collect();
    let planned: Vec<_> = plan.loads.iter().map(|l| (l.model.name.clone(), l.load)).collect();
    assert_eq!(measured, planned);
    let sequence: Vec<u32> = keeper.lines.iter().map(|m| m.sequence).collect();
    assert_eq!(sequence, [10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15]);
}

#[test]
fn a_stop_between_passes_ends_the_session_and_keeps_what_is_finished() {
    let asked = Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 20
    };
    let mut keeper = Keeper::default();
    let summary = run_session(&mut second_per_pass(), &plan(3, 2), &mut keeper, &stop).unwrap();
    assert!(summary.stopped);
    assert!(summary.loads_done < 6);
    assert_eq!(summary.measurements, keeper.lines.len());
    assert!(!keeper.lines.is_empty());
}

#[test]
fn loads_that_outlast_the_budget_are_not_begun() {
    // A load takes 8 s of passes, a little loading and two references.
    let budget = Some(Duration::from_secs(20));
    let mut keeper = Keeper { expected: Some(Duration::from_secs(8)), ..Keeper::default() };
    let timed = SessionPlan { budget, ..plan(3, 2) };
    let summary = run_session(&mut second_per_pass(), &timed, &mut keeper, &|| false).unwrap();
    assert_eq!((summary.loads_done, summary.loads_skipped), (2, 4));
    assert!(summary.elapsed <= Duration::from_secs(20));
}

#[test]
fn a_session_learns_how_long_a_configuration_takes() {
    let mut keeper = Keeper::default();
    let timed = SessionPlan { budget: Some(Duration::from_secs(12)), ..plan(1, 5) };
    let summary = run_session(&mut second_per_pass(), &timed, &mut keeper, &|| false).unwrap();
    assert_eq!((summary.loads_done, summary.loads_skipped), (1, 4));
}

#[test]
fn models_of_one_name_are_known_apart() {
    let plan = plan(2, 1);
    let mut other = plan.loads[0].clone();
    assert_eq!(configuration(&other), configuration(&plan.loads[0]));
    other.model.source = foretoken_spec::ModelSource::Gguf { path: "m.gguf".into() };
    assert_ne!(configuration(&other), configuration(&plan.loads[0]));
}

#[test]
fn a_full_disk_ends_the_session() {
    let mut keeper = Keeper { disk_lines: Some(3), ..Keeper::default() };
    let error =
        run_session(&mut second_per_pass(), &plan(3, 1), &mut keeper, &|| false).unwrap_err();
    assert!(matches!(error, RunError::Save(_)));
    assert_eq!(keeper.lines.len(), 3);
}
