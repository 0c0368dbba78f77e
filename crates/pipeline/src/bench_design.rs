//! A calibration through llama-bench: its loads, within a budget, and its proof.

use std::collections::BTreeMap;
use std::time::Duration;

use foretoken_plan::MiniPlan;
use foretoken_runner::{Engine, LoadPlan, Progress, SessionIds, SessionSummary, WorkloadPlan};
use foretoken_spec::{Measurement, ModelSpec, Proof, Workload};
use foretoken_stats::median;

use crate::bench::{BenchFailure, BenchLoad, Bencher, run_bench_load};
use crate::proof::beside;
use crate::{DesignSettings, Keeper, ProofPlan, ProofSettings};

/// Timed repetitions of each test of the design; the program adds one to warm up.
const REPEATS: u32 = 2;
/// Budgets after which a load that does not end is stopped.
const PATIENCE: u32 = 2;
/// Time that a load has at least.
const LEAST_LIMIT: Duration = Duration::from_secs(30);

/// Measures mini-models in their order until the next one would not fit into the budget, the first
/// one in any case. Models whose lines `already` holds (an interrupted run's) are not run again.
///
/// # Errors
/// The program's failures, or the keeper's.
pub fn measure_bench_design(
    bencher: &mut dyn Bencher,
    host: &mut dyn Engine,
    minis: &[MiniPlan],
    settings: &DesignSettings,
    already: &[Measurement],
    keeper: &mut dyn Keeper,
    stop: &dyn Fn() -> bool,
) -> Result<SessionSummary, BenchFailure> {
    let begun = host.elapsed();
    let mut summary = SessionSummary::default();
    let mut pace = Pace::default();
    let mut sequence = already.iter().map(|m| m.sequence + 1).max().unwrap_or(0);
    let mut loads: BTreeMap<&str, u32> = BTreeMap::new();
    for (index, mini) in minis.iter().enumerate() {
        let load = loads.entry(&mini.model.name).or_insert(0);
        let this_load = *load;
        *load += 1;
        let is_known = |m: &Measurement| m.model.name == mini.model.name && m.load == this_load;
        if already.iter().any(is_known) {
            continue;
        }
        let spent = host.elapsed().saturating_sub(begun);
        summary.elapsed = spent;
        summary.stopped = stop();
        let left = settings.budget.saturating_sub(spent);
        let expected = pace.expected(mini);
        if summary.stopped
            || (summary.loads_done > 0
                && expected.is_none_or(|seconds| seconds > left.as_secs_f64()))
        {
            break;
        }
        let plan = BenchLoad {
            model: mini.model.clone(),
            load: this_load,
            workloads: mini.workloads.clone(),
            repeats: REPEATS,
        };
        tell(keeper, &plan, (index, minis.len()), spent);
        let ids =
            SessionIds { session: settings.session.clone(), sequence, tool: settings.tool.clone() };
        let limit = (PATIENCE * settings.budget).saturating_sub(spent).max(LEAST_LIMIT);
        let lines = run_bench_load(bencher, host, &plan, &ids, limit, stop)?;
        for line in &lines {
            keeper.keep(line).map_err(BenchFailure::Keep)?;
        }
        if !lines.is_empty() {
            summary.loads_done += 1;
            summary.measurements += lines.len();
            pace.learn(mini, host.elapsed().saturating_sub(begun + spent));
        }
        sequence += 1;
    }
    summary.stopped = summary.stopped || stop();
    summary.elapsed = host.elapsed().saturating_sub(begun);
    Ok(summary)
}

/// Runs the predicted model in fresh processes and puts what was observed beside the predictions;
/// `None` where it was stopped, or had no time, before a full load.
///
/// # Errors
/// The program's failures, or the keeper's.
pub fn run_bench_proof(
    bencher: &mut dyn Bencher,
    host: &mut dyn Engine,
    plan: &ProofPlan,
    settings: &ProofSettings,
    keeper: &mut dyn Keeper,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Proof>, BenchFailure> {
    let begun = host.elapsed();
    let mut kept = Vec::new();
    for load in 0..plan.loads {
        let spent = host.elapsed().saturating_sub(begun);
        // The first load takes what it takes, within reason.
        let left = settings.limit.saturating_sub(spent);
        let per_load = spent.checked_div(load).unwrap_or_default();
        if stop() || left < per_load {
            break;
        }
        let one = BenchLoad {
            model: plan.model.clone(),
            load,
            workloads: plan.workloads.clone(),
            repeats: 1,
        };
        tell(keeper, &one, (load as usize, plan.loads as usize), spent);
        let ids = SessionIds {
            session: settings.session.clone(),
            sequence: load,
            tool: settings.tool.clone(),
        };
        let limit = (PATIENCE * settings.limit).saturating_sub(spent);
        let lines = run_bench_load(bencher, host, &one, &ids, limit, stop)?;
        for line in &lines {
            keeper.keep(line).map_err(BenchFailure::Keep)?;
        }
        kept.extend(lines);
    }
    Ok(beside(plan, &kept))
}

/// Tells the keeper which load begins.
fn tell(
    keeper: &mut dyn Keeper,
    load: &BenchLoad,
    (load_index, n_loads): (usize, usize),
    elapsed: Duration,
) {
    let planned = |&workload: &Workload| WorkloadPlan {
        workload,
        prefill_repeats: load.repeats,
        decode_steps: workload.generated_tokens,
    };
    let plan = LoadPlan {
        model: load.model.clone(),
        load: load.load,
        workloads: load.workloads.iter().map(planned).collect(),
    };
    let Some(&workload) = load.workloads.first() else { return };
    let progress =
        Progress { load_index, n_loads, plan: &plan, workload_index: 0, workload, elapsed };
    keeper.progress(&progress);
}

/// Seconds per parameter and token of earlier loads.
#[derive(Default)]
struct Pace(Vec<f64>);

impl Pace {
    fn expected(&self, mini: &MiniPlan) -> Option<f64> {
        Some(median(&self.0)? * work(&mini.model, &mini.workloads))
    }

    fn learn(&mut self, mini: &MiniPlan, took: Duration) {
        self.0.push(took.as_secs_f64() / work(&mini.model, &mini.workloads).max(1.0));
    }
}

/// Parameters times tokens that go through them.
fn work(model: &ModelSpec, workloads: &[Workload]) -> f64 {
    let tokens: u32 = workloads.iter().map(Workload::total_tokens).sum();
    model.n_parameters() as f64 * f64::from(tokens)
}
