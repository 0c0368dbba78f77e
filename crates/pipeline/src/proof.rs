//! The proof of a calibration: a catalogue model is predicted, then run.

use std::time::Duration;

use foretoken_cost::memory_parts;
use foretoken_observe::observations;
use foretoken_predict::{PredictError, Predictor};
use foretoken_runner::{Engine, LoadPlan, RunError, SessionPlan, WorkloadPlan, run_session};
use foretoken_spec::{
    Calibration, Measurement, ModelSpec, Pass, Proof, ProofCase, QuantScheme, ToolInfo, Workload,
};

use crate::Keeper;
use crate::design::DesignObserver;
use crate::expect::LOAD_BYTES_PER_SECOND;

/// Catalogue models to prove a calibration with, best first: the largest that the time allows.
const CANDIDATES: &[&str] = &["tinyllama-1.1b", "smollm2-360m", "smollm2-135m"];
/// `(prompt, generated, depth)` of the proof.
const WORKLOADS: [(u32, u32, u32); 2] = [(128, 16, 0), (512, 16, 0)];
/// Fresh loads of the proof.
const LOADS: u32 = 3;
/// Timed decode steps of each workload.
const DECODE_STEPS: u32 = 12;
/// Passes of each prompt: one timed, about one to warm up.
const PREFILL_PASSES: f64 = 2.2;

/// What the proof may use.
#[derive(Debug, Clone)]
pub struct ProofSettings {
    /// Time for all of its loads.
    pub limit: Duration,
    /// Free memory.
    pub available_bytes: Option<u64>,
    /// Quantizations that were calibrated, the first is used.
    pub schemes: Vec<QuantScheme>,
    /// Name of the session on every line.
    pub session: String,
    /// Who measures.
    pub tool: ToolInfo,
}

/// A model with its predictions, made before it is run.
#[derive(Debug, Clone, PartialEq)]
pub struct ProofPlan {
    /// The model.
    pub model: ModelSpec,
    /// Predicted cases; `observed_ms` and `error` are still 0.
    pub cases: Vec<ProofCase>,
}

/// The largest candidate whose proof fits into the time and the memory, with its predictions.
///
/// # Errors
/// A calibration that this version cannot read.
pub fn choose_proof(
    calibration: &Calibration,
    settings: &ProofSettings,
) -> Result<Option<ProofPlan>, PredictError> {
    let predictor = Predictor::new(calibration)?;
    let scheme = if settings.schemes.contains(&QuantScheme::Q4_K_M) {
        QuantScheme::Q4_K_M
    } else {
        settings.schemes.first().copied().unwrap_or(QuantScheme::Q4_K_M)
    };
    for id in CANDIDATES {
        let Ok(preset) = foretoken_catalog::find(id) else { continue };
        let model = preset.spec(scheme);
        let Ok(cases) = predict_cases(&predictor, &model) else { continue };
        let memory = memory_parts(&model, predictor.engine(), &workload(WORKLOADS[1])).total();
        let fits = settings.available_bytes.is_none_or(|available| memory < available);
        let passes: f64 = cases
            .iter()
            .map(|case| match case.phase {
                foretoken_spec::Phase::Prefill => PREFILL_PASSES * case.predicted_ms * 1e-3,
                foretoken_spec::Phase::Decode => {
                    f64::from(DECODE_STEPS + 2) * case.predicted_ms * 1e-3
                }
            })
            .sum();
        let seconds = f64::from(LOADS) * (passes + memory as f64 / LOAD_BYTES_PER_SECOND);
        if fits && seconds <= settings.limit.as_secs_f64() {
            return Ok(Some(ProofPlan { model, cases }));
        }
    }
    Ok(None)
}

/// Runs the predicted model in fresh loads and puts what was observed beside the predictions.
/// `None` where the run was stopped before it had a full load.
///
/// # Errors
/// The engine's failures, or the keeper's.
pub fn run_proof(
    engine: &mut dyn Engine,
    plan: &ProofPlan,
    settings: &ProofSettings,
    keeper: &mut dyn Keeper,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Proof>, RunError> {
    let loads = (0..LOADS).map(|load| LoadPlan {
        model: plan.model.clone(),
        load,
        workloads: WORKLOADS
            .iter()
            .map(|&w| WorkloadPlan {
                workload: workload(w),
                prefill_repeats: 1,
                decode_steps: DECODE_STEPS,
            })
            .collect(),
    });
    let session = SessionPlan {
        session: settings.session.clone(),
        first_sequence: 0,
        tool: settings.tool.clone(),
        loads: loads.collect(),
        budget: Some(settings.limit),
    };
    let mut collected = Collector { keeper, lines: Vec::new() };
    let mut observer = DesignObserver { keeper: &mut collected, expected: None };
    run_session(engine, &session, &mut observer, stop)?;
    Ok(beside(plan, &collected.lines))
}

/// Keeps the lines for itself as well.
struct Collector<'a> {
    keeper: &'a mut dyn Keeper,
    lines: Vec<Measurement>,
}

impl Keeper for Collector<'_> {
    fn keep(&mut self, measurement: &Measurement) -> std::io::Result<()> {
        self.lines.push(measurement.clone());
        self.keeper.keep(measurement)
    }

    fn progress(&mut self, progress: &foretoken_runner::Progress<'_>) {
        self.keeper.progress(progress);
    }
}

fn workload((prompt_tokens, generated_tokens, depth): (u32, u32, u32)) -> Workload {
    Workload { prompt_tokens, generated_tokens, depth }
}

fn passes() -> impl Iterator<Item = (u32, Pass)> {
    WORKLOADS.into_iter().map(workload).flat_map(|w| {
        [w.prefill(), w.decode_midpoint()].into_iter().flatten().map(move |p| (w.prompt_tokens, p))
    })
}

fn predict_cases(
    predictor: &Predictor<'_>,
    model: &ModelSpec,
) -> Result<Vec<ProofCase>, PredictError> {
    passes()
        .map(|(prompt_tokens, pass)| {
            let predicted = predictor.pass(model, pass)?;
            let interval = predicted.estimate;
            Ok(ProofCase {
                phase: pass.phase(),
                prompt_tokens,
                kv_len: pass.kv_len,
                observed_ms: 0.0,
                predicted_ms: 1e3 * interval.point,
                lower_ms: 1e3 * interval.lower,
                upper_ms: 1e3 * interval.upper,
                error: 0.0,
            })
        })
        .collect()
}

fn beside(plan: &ProofPlan, lines: &[Measurement]) -> Option<Proof> {
    let observed = observations(lines);
    let cases: Vec<ProofCase> = plan
        .cases
        .iter()
        .filter_map(|case| {
            let found = observed
                .iter()
                .find(|o| o.phase == case.phase && o.prompt_tokens == case.prompt_tokens)?;
            let observed_ms = 1e3 * found.seconds;
            Some(ProofCase { observed_ms, error: case.predicted_ms / observed_ms - 1.0, ..*case })
        })
        .collect();
    let loads = observed.iter().map(|o| o.load_medians.len()).max()?;
    Some(Proof {
        model: plan.model.name.clone(),
        quant: plan.model.quant.clone(),
        loads: loads as u32,
        cases,
    })
}
