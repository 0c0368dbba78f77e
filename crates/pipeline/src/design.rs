//! Measuring the design of a calibration within a budget.

use std::io;
use std::time::Duration;

use foretoken_cost::EngineProfile;
use foretoken_plan::{MiniPlan, mini_models};
use foretoken_runner::{
    Engine, LoadPlan, Progress, RunError, SessionObserver, SessionPlan, SessionSummary,
    WorkloadPlan, interleave, run_session,
};
use foretoken_spec::{Measurement, QuantScheme, ToolInfo, Workload};

use crate::{ExpectedTimes, Keeper};

/// What to measure and for how long.
#[derive(Debug, Clone)]
pub struct DesignSettings {
    /// Time for measuring.
    pub budget: Duration,
    /// Quantizations to cover.
    pub schemes: Vec<QuantScheme>,
    /// Name of the session on every line.
    pub session: String,
    /// Who measures.
    pub tool: ToolInfo,
    /// Seed of the order.
    pub seed: u64,
}

/// Most rounds over the design; the budget ends it before.
const MOST_ROUNDS: u32 = 64;
/// Timed decode steps of each workload, half of them probed.
const DECODE_STEPS: u32 = 12;

/// The quantizations that a calibration covers unless asked otherwise.
pub fn default_schemes() -> Vec<QuantScheme> {
    vec![
        QuantScheme::F16,
        QuantScheme::Q8_0,
        QuantScheme::Q6_K,
        QuantScheme::Q5_K_M,
        QuantScheme::Q4_K_M,
        QuantScheme::Q4_0,
    ]
}

/// Repeats of a prompt: short ones are cheap.
fn prefill_repeats(workload: &Workload) -> u32 {
    match workload.prompt_tokens {
        0..=64 => 3,
        65..=256 => 2,
        _ => 1,
    }
}

/// Runs the mini-models in rounds of random order, each a fresh load, until the budget is spent.
/// Loads that `already` holds (an interrupted run's) are not measured again.
///
/// # Errors
/// The engine's failures, or the keeper's.
pub fn measure_design(
    engine: &mut dyn Engine,
    settings: &DesignSettings,
    already: &[Measurement],
    keeper: &mut dyn Keeper,
    stop: &dyn Fn() -> bool,
) -> Result<SessionSummary, RunError> {
    let profile = EngineProfile::candle(engine.device());
    let minis = mini_models(&settings.schemes, &profile, engine.device().l3_bytes);
    let begun = engine.elapsed();
    let expected = ExpectedTimes::new(profile, engine.reference());
    let spent = engine.elapsed().saturating_sub(begun);
    let plans = (0..MOST_ROUNDS).flat_map(|round| minis.iter().map(move |m| load_plan(m, round)));
    let remaining: Vec<LoadPlan> = interleave(plans.collect(), settings.seed)
        .into_iter()
        .filter(|plan| !already.iter().any(|m| is_line_of(m, plan)))
        .collect();
    let plan = SessionPlan {
        session: settings.session.clone(),
        first_sequence: already.iter().map(|m| m.sequence + 1).max().unwrap_or(0),
        tool: settings.tool.clone(),
        loads: remaining,
        budget: Some(settings.budget.saturating_sub(spent)),
    };
    let mut observer = DesignObserver { keeper, expected: Some(expected) };
    run_session(engine, &plan, &mut observer, stop)
}

fn load_plan(mini: &MiniPlan, load: u32) -> LoadPlan {
    let workloads = mini
        .workloads
        .iter()
        .map(|&workload| WorkloadPlan {
            workload,
            prefill_repeats: prefill_repeats(&workload),
            decode_steps: DECODE_STEPS.min(workload.generated_tokens),
        })
        .collect();
    LoadPlan { model: mini.model.clone(), load, workloads }
}

fn is_line_of(m: &Measurement, plan: &LoadPlan) -> bool {
    m.load == plan.load && m.model == plan.model.record()
}

/// Hands lines to a [`Keeper`] and guesses how long loads take.
pub(crate) struct DesignObserver<'a> {
    pub keeper: &'a mut dyn Keeper,
    pub expected: Option<ExpectedTimes>,
}

impl SessionObserver for DesignObserver<'_> {
    fn on_measurement(&mut self, measurement: &Measurement) -> io::Result<()> {
        self.keeper.keep(measurement)
    }

    fn on_progress(&mut self, progress: &Progress<'_>) {
        self.keeper.progress(progress);
    }

    fn expected(&self, plan: &LoadPlan) -> Option<Duration> {
        self.expected.as_ref().map(|expected| expected.load(plan))
    }
}
