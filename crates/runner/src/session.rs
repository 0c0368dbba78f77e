//! A session: many fresh loads in a given order, each kept as soon as it is measured.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use foretoken_spec::{Measurement, ToolInfo, Workload};

use crate::load::LoadBlock;
use crate::{Engine, LoadPlan, RunError, SessionIds};

/// Loads in the order in which to run them.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionPlan {
    /// Name of the session, the same on all its lines.
    pub session: String,
    /// Sequence number of the first load; more than 0 where an earlier session goes on.
    pub first_sequence: u32,
    /// Who measures.
    pub tool: ToolInfo,
    /// The loads, already shuffled (see [`crate::interleave`]).
    pub loads: Vec<LoadPlan>,
    /// Time for all loads, on the engine's clock; without it all are run.
    pub budget: Option<Duration>,
}

/// What a session tells while it runs.
pub trait SessionObserver {
    /// A finished line, to be kept before anything else runs.
    ///
    /// # Errors
    /// Whatever stands in the way of keeping it; the session ends.
    fn on_measurement(&mut self, measurement: &Measurement) -> io::Result<()>;

    /// A workload begins.
    fn on_progress(&mut self, _progress: &Progress<'_>) {}

    /// How long a load will take, where the observer knows. A load that was measured before in
    /// this session is expected to take as long again.
    fn expected(&self, _plan: &LoadPlan) -> Option<Duration> {
        None
    }
}

/// Where a session is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Loads begun before this one.
    pub load_index: usize,
    /// All loads.
    pub n_loads: usize,
    /// The load that runs.
    pub plan: &'a LoadPlan,
    /// Workloads of this load done.
    pub workload_index: usize,
    /// The workload that begins.
    pub workload: Workload,
    /// Time since the session began.
    pub elapsed: Duration,
}

/// How a session went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionSummary {
    /// Loads measured to their end.
    pub loads_done: usize,
    /// Loads left out because the budget would not have held them.
    pub loads_skipped: usize,
    /// Lines delivered.
    pub measurements: usize,
    /// Whether the stop flag ended it.
    pub stopped: bool,
    /// Time on the engine's clock.
    pub elapsed: Duration,
}

/// Measures the loads of a plan in order, with the reference workload around each.
///
/// Each line goes to the observer as soon as its load is measured. `stop` is asked between
/// passes; the workloads of the load in flight that were finished by then are still delivered.
/// With a budget, a load that is expected to outlast what is left of it is skipped.
///
/// # Errors
/// The first failure of the engine, after the lines finished before it were delivered, or of
/// the observer.
pub fn run_session(
    engine: &mut dyn Engine,
    plan: &SessionPlan,
    observer: &mut dyn SessionObserver,
    stop: &dyn Fn() -> bool,
) -> Result<SessionSummary, RunError> {
    let began = engine.elapsed();
    let mut summary = SessionSummary::default();
    let mut known = HashMap::new();
    for (index, load) in plan.loads.iter().enumerate() {
        summary.elapsed = engine.elapsed().saturating_sub(began);
        summary.stopped = stop();
        if summary.stopped {
            break;
        }
        let key = configuration(load);
        let expected = known.get(&key).copied().or_else(|| observer.expected(load));
        let left = plan.budget.map(|budget| budget.saturating_sub(summary.elapsed));
        if left.is_some_and(|left| left.is_zero() || expected.is_some_and(|e| e > left)) {
            summary.loads_skipped += 1;
            continue;
        }
        let ids = SessionIds {
            session: plan.session.clone(),
            sequence: plan.first_sequence.saturating_add(u32::try_from(index).unwrap_or(u32::MAX)),
            tool: plan.tool.clone(),
        };
        let progress = Progress {
            load_index: index,
            n_loads: plan.loads.len(),
            plan: load,
            workload_index: 0,
            workload: Workload { prompt_tokens: 0, generated_tokens: 0, depth: 0 },
            elapsed: summary.elapsed,
        };
        let block = LoadBlock { plan: load, ids: &ids, stop };
        let n_lines = run_block(engine, &block, progress, observer)?;
        summary.measurements += n_lines;
        if n_lines == load.workloads.len() {
            summary.loads_done += 1;
            let took = engine.elapsed().saturating_sub(began + summary.elapsed);
            known.insert(key, took);
        }
    }
    summary.stopped = summary.stopped || stop();
    summary.elapsed = engine.elapsed().saturating_sub(began);
    Ok(summary)
}

/// Measures one load and delivers its lines, also those before a failure.
fn run_block(
    engine: &mut dyn Engine,
    block: &LoadBlock<'_>,
    progress: Progress<'_>,
    observer: &mut dyn SessionObserver,
) -> Result<usize, RunError> {
    let mut lines = Vec::new();
    let began = engine.elapsed().saturating_sub(progress.elapsed);
    let mut begin = |workload_index: usize, now: Duration| {
        if let Some(plan) = block.plan.workloads.get(workload_index) {
            let workload = plan.workload;
            let elapsed = now.saturating_sub(began);
            observer.on_progress(&Progress { workload_index, workload, elapsed, ..progress });
        }
    };
    let outcome = block.measure(engine, &mut begin, &mut lines);
    for line in &lines {
        observer.on_measurement(line).map_err(RunError::Save)?;
    }
    outcome.map(|()| lines.len())
}

/// What makes two loads take about as long: the model as a measurement records it, source and
/// tensor types included, and the workloads. Names alone are not unique.
fn configuration(plan: &LoadPlan) -> String {
    format!("{:?} {:?}", plan.model.record(), plan.workloads)
}

#[cfg(test)]
mod tests;
