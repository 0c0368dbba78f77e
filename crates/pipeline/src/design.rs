//! Measuring the design of a calibration within a budget.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use foretoken_cost::{EngineProfile, KernelClass, OpCost};
use foretoken_fit::fit_kernels;
use foretoken_plan::{Candidate, Choice, Design, MiniPlan, State, mini_models};
use foretoken_predict::Predictor;
use foretoken_runner::{
    Engine, LoadPlan, Progress, RunError, SessionObserver, SessionPlan, SessionSummary,
    WorkloadPlan, run_session,
};
use foretoken_spec::{Calibration, DesignStep, Measurement, QuantScheme, ToolInfo, Workload};
use foretoken_stats::{SplitMix64, median};

use crate::{ExpectedTimes, Keeper};

/// What to measure and for how long.
#[derive(Debug, Clone)]
pub struct DesignSettings {
    /// Time for measuring.
    pub budget: Duration,
    /// Name of the session on every line.
    pub session: String,
    /// Who measures.
    pub tool: ToolInfo,
    /// Seed of the choice among loads that promise about the same.
    pub seed: u64,
}

/// How a design went, and what each load of it bought.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DesignSummary {
    /// Loads, lines and time.
    pub session: SessionSummary,
    /// One for each load, in order.
    pub steps: Vec<DesignStep>,
}

/// Timed decode steps of each workload, half of them probed.
const DECODE_STEPS: u32 = 12;
/// Kernel times of a fit are believed down to this share of the first guess; below it a
/// coefficient is missing rather than the kernel fast.
const LEAST_SHARE_OF_GUESS: f64 = 0.02;

/// Budgets that the first load may take.
const FIRST_LOAD: f64 = 2.0;

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

/// Every mini-model of a design with all of its workloads, once: for a run that measures them
/// between other models.
pub fn design_loads(engine: &dyn Engine, schemes: &[QuantScheme], load: u32) -> Vec<LoadPlan> {
    let profile = EngineProfile::candle(engine.device());
    let minis = mini_models(schemes, &profile, engine.device().l3_bytes);
    minis.iter().map(|mini| load_plan(mini, load)).collect()
}

/// Repeats of a prompt: short ones are cheap.
fn prefill_repeats(workload: &Workload) -> u32 {
    match workload.prompt_tokens {
        0..=64 => 3,
        65..=256 => 2,
        _ => 1,
    }
}

/// Measures mini-models, each a fresh load, until the budget is spent. Before each load everything
/// measured so far is fitted, and the load that promises most per second is taken. Lines that
/// `already` holds (an interrupted run's) count as measured.
///
/// # Errors
/// The engine's failures, or the keeper's.
pub fn measure_design(
    engine: &mut dyn Engine,
    design: &Design,
    settings: &DesignSettings,
    already: &[Measurement],
    keeper: &mut dyn Keeper,
    stop: &dyn Fn() -> bool,
) -> Result<DesignSummary, RunError> {
    let begun = engine.elapsed();
    let expected = ExpectedTimes::new(EngineProfile::candle(engine.device()), engine.reference());
    let mut run = Run { expected, lines: already.to_vec(), took: BTreeMap::new() };
    let mut draw = SplitMix64::new(settings.seed);
    let mut summary = DesignSummary::default();
    let mut sequence = already.iter().map(|m| m.sequence + 1).max().unwrap_or(0);
    loop {
        let spent = engine.elapsed().saturating_sub(begun);
        summary.session.elapsed = spent;
        summary.session.stopped = stop();
        let left = settings.budget.saturating_sub(spent);
        if summary.session.stopped || (left.is_zero() && !run.lines.is_empty()) {
            return Ok(summary);
        }
        let Some(choice) = run.choose(design, left, &mut draw) else { return Ok(summary) };
        let plan = load_plan(&choice.candidate.mini, run.loads_of(&choice.candidate.mini.model));
        let mut observer = DesignObserver { keeper: &mut *keeper, offset: spent, kept: Vec::new() };
        let session = SessionPlan {
            session: settings.session.clone(),
            first_sequence: sequence,
            tool: settings.tool.clone(),
            loads: vec![plan],
            budget: None,
        };
        let done = run_session(engine, &session, &mut observer, stop)?;
        let kept = observer.kept;
        summary.session.loads_done += done.loads_done;
        summary.session.measurements += done.measurements;
        let seconds = engine.elapsed().saturating_sub(begun + spent).as_secs_f64();
        if done.measurements > 0 {
            summary.steps.push(step(&choice, sequence, seconds));
        }
        run.learn(&choice.candidate, seconds, kept);
        sequence += 1;
    }
}

fn step(choice: &Choice, sequence: u32, seconds: f64) -> DesignStep {
    let workload = |w: &Workload| format!("{}@{}", w.prompt_tokens, w.depth);
    let mini = &choice.candidate.mini;
    DesignStep {
        sequence,
        model: mini.model.name.clone(),
        workloads: mini.workloads.iter().map(workload).collect(),
        seconds,
        expected_error_before: choice.error_before,
        expected_error_after: choice.error_after,
        class: choice.class.key(),
    }
}

/// What is known while a design runs.
struct Run {
    expected: ExpectedTimes,
    lines: Vec<Measurement>,
    /// Wall time over expected wall time of the loads of each kind.
    took: BTreeMap<&'static str, Vec<f64>>,
}

impl Run {
    fn choose(&self, design: &Design, left: Duration, draw: &mut SplitMix64) -> Option<Choice> {
        // Nothing measured, or an engine that cannot be fitted: the guesses serve.
        let fitted = fit_kernels(&self.lines).ok();
        let predictor = fitted.as_ref().and_then(|fitted| Predictor::new(fitted).ok());
        let seconds = |op: &OpCost| {
            let guess = self.expected.operation(op).max(f64::MIN_POSITIVE);
            let known = predictor.as_ref().and_then(|predictor| predictor.operation(op));
            known.filter(|s| *s > LEAST_SHARE_OF_GUESS * guess).unwrap_or(guess)
        };
        let mut loads = BTreeMap::new();
        for line in &self.lines {
            *loads.entry((line.model.name.clone(), line.workload)).or_insert(0) += 1;
        }
        let residuals = fitted.as_ref().map(residuals).unwrap_or_default();
        let state = State {
            loads: &loads,
            seconds: &seconds,
            residuals: &residuals,
            cost: &|candidate| self.cost(candidate),
            left: self.affordable(design, left.as_secs_f64()),
        };
        design.choose(&state, draw)
    }

    /// Seconds that a load may take. The first may take longer than the budget, and the cheapest
    /// one always may: without it there is nothing to fit, and first guesses are rough.
    fn affordable(&self, design: &Design, left: f64) -> f64 {
        if !self.lines.is_empty() {
            return left;
        }
        let costs = design.candidates().iter().map(|candidate| self.cost(candidate));
        costs.fold(f64::INFINITY, f64::min).max(FIRST_LOAD * left)
    }

    /// Expected wall seconds of a candidate: the first guess, times what such loads took.
    fn cost(&self, candidate: &Candidate) -> f64 {
        let guess = self.expected.load(&load_plan(&candidate.mini, 0)).as_secs_f64();
        let ratio = self.took.get(candidate.mini.kind).and_then(|ratios| median(ratios));
        guess * ratio.unwrap_or(1.0)
    }

    fn learn(&mut self, candidate: &Candidate, seconds: f64, lines: Vec<Measurement>) {
        let guess = self.expected.load(&load_plan(&candidate.mini, 0)).as_secs_f64();
        if guess > 0.0 && lines.len() == candidate.mini.workloads.len() {
            self.took.entry(candidate.mini.kind).or_default().push(seconds / guess);
        }
        self.lines.extend(lines);
    }

    /// Loads that a model had.
    fn loads_of(&self, model: &foretoken_spec::ModelSpec) -> u32 {
        let of_model = self.lines.iter().filter(|line| line.model.name == model.name);
        of_model.map(|line| line.load + 1).max().unwrap_or(0)
    }
}

fn residuals(calibration: &Calibration) -> BTreeMap<KernelClass, f64> {
    let of = |term: &foretoken_spec::TermFit| {
        Some((KernelClass::from_key(&term.class)?, term.residual_mdape))
    };
    // A class with hardly more rows than coefficients fits them whatever they are.
    let is_told =
        |term: &&foretoken_spec::TermFit| term.n_observations as usize >= 2 * term.features.len();
    calibration.terms.iter().filter(is_told).filter_map(of).collect()
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

/// Hands lines to a [`Keeper`] and keeps them for the next choice.
pub(crate) struct DesignObserver<'a> {
    pub keeper: &'a mut dyn Keeper,
    /// Time before the session began.
    pub offset: Duration,
    pub kept: Vec<Measurement>,
}

impl SessionObserver for DesignObserver<'_> {
    fn on_measurement(&mut self, measurement: &Measurement) -> io::Result<()> {
        self.kept.push(measurement.clone());
        self.keeper.keep(measurement)
    }

    fn on_progress(&mut self, progress: &Progress<'_>) {
        self.keeper.progress(&Progress { elapsed: self.offset + progress.elapsed, ..*progress });
    }
}
