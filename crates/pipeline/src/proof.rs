//! The proof of a calibration: a catalogue model is predicted, then run.

use std::time::Duration;

use foretoken_cost::memory_parts;
use foretoken_observe::observations;
use foretoken_predict::{PredictError, Predictor};
use foretoken_runner::{Engine, LoadPlan, RunError, SessionPlan, WorkloadPlan, run_session};
use foretoken_spec::{
    Calibration, Measurement, ModelSpec, Phase, Proof, ProofCase, QuantScheme, Tier, ToolInfo,
    Workload,
};

use crate::Keeper;
use crate::design::DesignObserver;
use crate::expect::LOAD_BYTES_PER_SECOND;

/// Catalogue models to prove a calibration with, best first: the largest that the time allows.
const CANDIDATES: &[&str] = &["tinyllama-1.1b", "smollm2-360m", "smollm2-135m"];
/// Before them on a GPU, which TinyLlama does not fill.
const GPU_CANDIDATES: &[&str] = &["llama-3.1-8b", "llama-3.2-3b"];
/// Fresh loads of a proof and the prompts that each runs.
struct Effort {
    loads: u32,
    prompts: [u32; 2],
}

/// Best first: slow machines get shorter prompts rather than no proof.
const EFFORTS: &[Effort] = &[
    Effort { loads: 3, prompts: [128, 512] },
    Effort { loads: 3, prompts: [32, 128] },
    Effort { loads: 2, prompts: [8, 32] },
];
/// Tokens that each workload of a proof generates.
const GENERATED: u32 = 16;
/// Timed decode steps of each workload.
const DECODE_STEPS: u32 = 12;

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
    /// How the engine's passes are timed.
    pub timing: ProofTiming,
}

/// What a workload of a proof costs beside its timed passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProofTiming {
    /// Passes of each prompt.
    pub prefill_passes: f64,
    /// Whether steps can start behind the prompt; else they start at an empty cache.
    pub steps_behind_prompt: bool,
}

impl ProofTiming {
    /// In this process: one timed, about one to warm up; the cache is there for the steps.
    pub const IN_PROCESS: Self = Self { prefill_passes: 2.2, steps_behind_prompt: true };

    /// By llama-bench: one to warm up and one timed; as many to fill the cache for the steps.
    pub fn of_bench(has_depth: bool) -> Self {
        let prefill_passes = if has_depth { 4.2 } else { 2.2 };
        Self { prefill_passes, steps_behind_prompt: has_depth }
    }
}

/// A model with its predictions, made before it is run.
#[derive(Debug, Clone, PartialEq)]
pub struct ProofPlan {
    /// The model.
    pub model: ModelSpec,
    /// Fresh loads.
    pub loads: u32,
    /// What to run in each.
    pub workloads: Vec<Workload>,
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
    // A proof on kernels that were measured says more than one on larger efforts that borrows.
    for may_borrow in [false, true] {
        let plan = choose(&predictor, settings, scheme, may_borrow);
        if plan.is_some() {
            return Ok(plan);
        }
    }
    Ok(None)
}

/// The first candidate that fits, with or without kernels that stand in for others.
fn choose(
    predictor: &Predictor<'_>,
    settings: &ProofSettings,
    scheme: QuantScheme,
    may_borrow: bool,
) -> Option<ProofPlan> {
    let larger: &[&str] = if predictor.engine().is_candle_on_gpu() { GPU_CANDIDATES } else { &[] };
    for Effort { loads, prompts } in EFFORTS {
        for id in larger.iter().chain(CANDIDATES) {
            let Ok(preset) = foretoken_catalog::find(id) else { continue };
            let plan = ProofPlan {
                model: preset.spec(scheme),
                loads: *loads,
                workloads: workloads(*prompts, settings.timing),
                cases: Vec::new(),
            };
            let Ok((plan, tier)) = with_predictions(plan, predictor) else { continue };
            if !may_borrow && tier > Tier::SameQuantization {
                continue;
            }
            let memory = memory(&plan, predictor);
            let fits = settings.available_bytes.is_none_or(|available| memory < available);
            if fits && seconds(&plan, memory, settings.timing) <= settings.limit.as_secs_f64() {
                return Some(plan);
            }
        }
    }
    None
}

/// Memory of the largest workload of a proof.
fn memory(plan: &ProofPlan, predictor: &Predictor<'_>) -> u64 {
    let of = |w: &Workload| memory_parts(&plan.model, predictor.engine(), w).total();
    plan.workloads.iter().map(of).max().unwrap_or(0)
}

/// Expected wall time of a proof.
fn seconds(plan: &ProofPlan, memory: u64, timing: ProofTiming) -> f64 {
    let passes = plan.cases.iter().map(|case| match case.phase {
        Phase::Prefill => timing.prefill_passes * case.predicted_ms * 1e-3,
        Phase::Decode => f64::from(DECODE_STEPS + 4) * case.predicted_ms * 1e-3,
    });
    f64::from(plan.loads) * (passes.sum::<f64>() + memory as f64 / LOAD_BYTES_PER_SECOND)
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
    let loads = (0..plan.loads).map(|load| LoadPlan {
        model: plan.model.clone(),
        load,
        workloads: plan
            .workloads
            .iter()
            .map(|&workload| WorkloadPlan {
                workload,
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
    let mut observer = DesignObserver { keeper, offset: Duration::ZERO, kept: Vec::new() };
    run_session(engine, &session, &mut observer, stop)?;
    Ok(beside(plan, &observer.kept))
}

fn workloads(prompts: [u32; 2], timing: ProofTiming) -> Vec<Workload> {
    let of =
        |prompt_tokens, generated_tokens| Workload { prompt_tokens, generated_tokens, depth: 0 };
    if timing.steps_behind_prompt {
        return prompts.map(|prompt| of(prompt, GENERATED)).to_vec();
    }
    prompts.map(|prompt| of(prompt, 0)).into_iter().chain([of(0, GENERATED)]).collect()
}

/// Fills in the predictions; also the worst basis of any of them.
fn with_predictions(
    mut plan: ProofPlan,
    predictor: &Predictor<'_>,
) -> Result<(ProofPlan, Tier), PredictError> {
    let mut worst = Tier::SameConfiguration;
    for workload in &plan.workloads {
        for pass in [workload.prefill(), workload.decode_midpoint()].into_iter().flatten() {
            let predicted = predictor.pass(&plan.model, pass)?;
            worst = worst.max(predicted.tier);
            let interval = predicted.estimate;
            plan.cases.push(ProofCase {
                phase: pass.phase(),
                prompt_tokens: workload.prompt_tokens,
                kv_len: pass.kv_len,
                observed_ms: 0.0,
                predicted_ms: 1e3 * interval.point,
                lower_ms: 1e3 * interval.lower,
                upper_ms: 1e3 * interval.upper,
                error: 0.0,
            });
        }
    }
    Ok((plan, worst))
}

pub(crate) fn beside(plan: &ProofPlan, lines: &[Measurement]) -> Option<Proof> {
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
