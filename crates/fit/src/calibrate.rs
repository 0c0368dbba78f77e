//! From measurements to a calibration.

use std::collections::BTreeSet;

use foretoken_cost::{EngineProfile, OpCost};
use foretoken_observe::{Observation, noise_floor, observations};
use foretoken_predict::Predictor;
use foretoken_spec::{
    Allocator, Calibration, Ceilings, DatasetRef, HeldOutError, Measurement, Phase, SCHEMA_VERSION,
    TermFit, Tier, ToolInfo,
};
use foretoken_stats::{bootstrap_std_error, median};

use crate::FitError;
use crate::energy::fit_energy;
use crate::intervals::{Residual, borrowed_half_widths, interval};
use crate::loading::fit_loading;
use crate::rows::{Case, Row, cases};
use crate::terms::{Term, anchors, fit_terms};
use crate::totals::{add_std_errors, fit_totals, shows_passes_only};

/// Bootstrap draws behind each standard error.
const N_RESAMPLES: usize = 100;

/// What a calibration says of itself beside the numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FitInput {
    /// Id of the calibration.
    pub id: String,
    /// Who fits.
    pub tool: ToolInfo,
    /// When, RFC 3339.
    pub time: String,
    /// The measurements' file.
    pub dataset: DatasetRef,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl FitInput {
    /// Of a fit that is never written to a file.
    pub(crate) fn unsaved(tool: ToolInfo) -> Self {
        let dataset = DatasetRef { file: String::new(), hash: String::new(), measurements: 0 };
        Self { id: "unsaved".into(), tool, time: String::new(), dataset, seed: 0 }
    }
}

/// Fits every kernel class, corrects the phases, and holds out each model in turn for the error
/// and the intervals.
///
/// # Errors
/// No measurements, measurements of several devices or of another engine, none with kernel times.
pub fn fit(measurements: &[Measurement], input: FitInput) -> Result<Calibration, FitError> {
    let first = one_setup(measurements)?;
    let engine = EngineProfile::of(&first.engine, &first.device);
    let cases = cases(observations(measurements), &engine);
    let all: Vec<&Case> = cases.iter().collect();
    let mut calibration = empty(first, input, ceilings(measurements, &cases));
    calibration.noise_floor = noise_floor(cases.iter().map(|case| &case.observation));
    fit_cases(&mut calibration, &all, &|_| true)?;
    describe_terms(&mut calibration, &all);
    calibration.energy = fit_energy(measurements, &engine, calibration.seed);
    calibration.loading = fit_loading(measurements, &engine, calibration.seed);
    calibration.warnings.extend(disturbance(measurements));
    calibration.warnings.extend(few_models(calibration.held_out.n_groups));
    Ok(calibration)
}

/// Fits the kernel classes only, quickly: what a design needs to choose what to measure next. No
/// errors, no intervals.
///
/// # Errors
/// As [`fit`].
pub fn fit_kernels(measurements: &[Measurement]) -> Result<Calibration, FitError> {
    let first = one_setup(measurements)?;
    let engine = EngineProfile::of(&first.engine, &first.device);
    let cases = cases(observations(measurements), &engine);
    let all: Vec<&Case> = cases.iter().collect();
    let mut calibration =
        empty(first, FitInput::unsaved(first.tool.clone()), ceilings(measurements, &cases));
    fit_without_intervals(&mut calibration, &all, &|_| true)?;
    Ok(calibration)
}

/// Share of disturbed samples from which a calibration says so.
const MANY_DISTURBED: f64 = 0.25;

/// The warning about a machine that other programs used while it was measured.
fn disturbance(measurements: &[Measurement]) -> Option<String> {
    let samples = || measurements.iter().flat_map(|m| m.prefill.iter().chain(&m.decode));
    let n_disturbed = samples().filter(|s| s.preempted).count();
    let share = n_disturbed as f64 / samples().count().max(1) as f64;
    (share > MANY_DISTURBED).then(|| {
        format!(
            "{:.0} % of the samples were disturbed by other programs, so the coefficients may be \
             several times too slow; close them and calibrate again",
            100.0 * share
        )
    })
}

/// Models below which intervals say little.
const FEW_MODELS: u32 = 4;

fn few_models(n_held_out: u32) -> Option<String> {
    (n_held_out < FEW_MODELS).then(|| {
        format!(
            "only {n_held_out} models could be held out in turn: errors and intervals say little; \
             measure more models, or calibrate with a longer --budget"
        )
    })
}

/// The first line; all must be of its device, engine and build, which must be known.
pub(crate) fn one_setup(measurements: &[Measurement]) -> Result<&Measurement, FitError> {
    let first = measurements.first().ok_or(FitError::Empty)?;
    if let Some(other) = measurements.iter().find(|m| setup(m) != setup(first)) {
        return Err(FitError::Mixed { first: setup(first), other: setup(other) });
    }
    require_known_engine(first)?;
    Ok(first)
}

/// Refuses lines whose engine or backend this version has no profile of.
pub(crate) fn require_known_engine(m: &Measurement) -> Result<(), FitError> {
    if m.engine.known().is_some() {
        return Ok(());
    }
    Err(FitError::UnknownEngine { engine: m.engine.name.clone(), backend: m.device.backend })
}

/// Fits terms, corrections and intervals to the cases; operations that `keep` refuses are not seen.
pub(crate) fn fit_cases(
    calibration: &mut Calibration,
    cases: &[&Case],
    keep: &dyn Fn(&OpCost) -> bool,
) -> Result<(), FitError> {
    fit_without_intervals(calibration, cases, keep)?;
    let residuals = held_out_residuals(calibration, cases, keep)?;
    calibration.intervals = [Phase::Prefill, Phase::Decode]
        .into_iter()
        .filter_map(|phase| {
            interval(phase, &residuals, borrowed_half_widths(calibration, cases, phase))
        })
        .collect();
    let mdape = |phase| {
        let of_phase = residuals.iter().filter(|r| r.phase == phase);
        median(&of_phase.map(|r| (r.log.exp() - 1.0).abs()).collect::<Vec<_>>())
    };
    calibration.held_out = HeldOutError {
        prefill_mdape: mdape(Phase::Prefill),
        decode_mdape: mdape(Phase::Decode),
        n_groups: residuals.iter().map(|r| r.group).collect::<BTreeSet<_>>().len() as u32,
    };
    Ok(())
}

/// Holds out each group in turn and predicts it; cases that would borrow a kernel are left out.
fn held_out_residuals<'a>(
    calibration: &Calibration,
    cases: &[&'a Case],
    keep: &dyn Fn(&OpCost) -> bool,
) -> Result<Vec<Residual<'a>>, FitError> {
    let groups: BTreeSet<&str> = cases.iter().map(|case| case.group()).collect();
    let mut residuals = Vec::new();
    let mut fold = calibration.clone();
    for held_out in groups {
        let (test, train): (Vec<&'a Case>, Vec<&'a Case>) =
            cases.iter().copied().partition(|case| case.group() == held_out);
        if fit_without_intervals(&mut fold, &train, keep).is_err() {
            continue;
        }
        let predictor = Predictor::new(&fold)?;
        for case in test {
            let Ok(predicted) = predictor.pass(&case.model, case.observation.pass) else {
                continue;
            };
            if predicted.tier <= Tier::SameQuantization {
                residuals.push(Residual {
                    phase: case.observation.phase,
                    group: held_out,
                    log: (predicted.seconds / case.observation.seconds).ln(),
                    of_measures: of_measures(&case.observation, predicted.seconds),
                    stretch: predicted.stretch,
                });
            }
        }
    }
    Ok(residuals)
}

/// Fresh loads of one `measure`, unless asked otherwise.
const LOADS_OF_A_MEASURE: usize = 3;

/// `ln(predicted / median)` of every few loads, in the order of measuring.
fn of_measures(observation: &Observation, predicted: f64) -> Vec<f64> {
    let medians = observation.load_medians.chunks(LOADS_OF_A_MEASURE).filter_map(median);
    medians.map(|seconds| (predicted / seconds).ln()).collect()
}

fn fit_without_intervals(
    calibration: &mut Calibration,
    cases: &[&Case],
    keep: &dyn Fn(&OpCost) -> bool,
) -> Result<(), FitError> {
    if shows_passes_only(cases) {
        calibration.terms = fit_totals(cases, keep).ok_or(FitError::NoPasses)?;
        return Ok(());
    }
    let rows = || cases.iter().flat_map(|case| &case.rows).filter(|row| keep(&row.cost));
    let terms = fit_terms(rows());
    if !terms.iter().any(|term| term.class.matmul.is_some()) {
        return Err(FitError::NoKernels);
    }
    calibration.terms = terms.iter().map(|term| term.describe(rows(), None)).collect();
    Ok(())
}

/// Adds to the terms standard errors, by a bootstrap over models, and anchors.
fn describe_terms(calibration: &mut Calibration, cases: &[&Case]) {
    if shows_passes_only(cases) {
        add_std_errors(&mut calibration.terms, cases, (N_RESAMPLES, calibration.seed));
        return;
    }
    let models: Vec<&str> = {
        let set: BTreeSet<&str> = cases.iter().map(|case| case.group()).collect();
        set.into_iter().collect()
    };
    let rows_of = |model: &str| {
        let of_model = cases.iter().filter(move |case| case.group() == model);
        of_model.flat_map(|case| &case.rows).collect::<Vec<&Row>>()
    };
    let by_model: Vec<Vec<&Row>> = models.iter().map(|model| rows_of(model)).collect();
    let all = || by_model.iter().flatten().copied();
    let terms: Vec<Term> = fit_terms(all());
    let mut described = Vec::new();
    let mut n_inseparable = 0;
    for term in &terms {
        let of_class = |row: &&&Row| row.cost.class == term.class;
        let groups: Vec<Vec<&Row>> = by_model
            .iter()
            .map(|rows| rows.iter().filter(of_class).copied().collect::<Vec<_>>())
            .filter(|rows| !rows.is_empty())
            .collect();
        let errors = bootstrap_std_error(groups.len(), N_RESAMPLES, calibration.seed, |drawn| {
            let rows = drawn.iter().flat_map(|group| &groups[*group]).copied();
            fit_terms(rows).pop().map(|term| term.coefficients)
        });
        let of_class: Vec<&Row> = all().filter(|row| row.cost.class == term.class).collect();
        let term_fit = term.describe(all(), errors.as_ref());
        described.push(TermFit { anchors: anchors(&of_class), ..term_fit });
        n_inseparable += term.collinear.len();
    }
    if n_inseparable > 0 {
        calibration.warnings.push(format!(
            "{n_inseparable} features could not be told apart from others and were left at 0; \
             more shapes, a longer budget, would separate them"
        ));
    }
    calibration.terms = described;
}

/// A calibration with its header only.
pub(crate) fn empty(first: &Measurement, input: FitInput, ceilings: Ceilings) -> Calibration {
    Calibration {
        schema_version: SCHEMA_VERSION,
        id: input.id,
        tool: input.tool,
        time: input.time,
        device: first.device.clone(),
        engine: first.engine.clone(),
        threads: first.threads,
        dataset: input.dataset,
        seed: input.seed,
        terms: Vec::new(),
        corrections: Vec::new(),
        intervals: Vec::new(),
        held_out: HeldOutError { prefill_mdape: None, decode_mdape: None, n_groups: 0 },
        ceilings,
        energy: None,
        loading: None,
        noise_floor: None,
        warnings: Vec::new(),
    }
}

/// Device, engine and threads as one key.
pub(crate) fn setup(m: &Measurement) -> String {
    format!(
        "{} {}, {} {}, {} thread{}, memory {}, {} build ({})",
        m.device.id,
        m.device.backend,
        m.engine.name,
        m.engine.version,
        m.threads,
        if m.threads == 1 { "" } else { "s" },
        if m.allocator == Allocator::Kept { "kept" } else { "as the system does" },
        m.tool.profile,
        m.tool.target_features
    )
}

/// Highest streaming rate of the reference, highest arithmetic rate of any matmul.
pub(crate) fn ceilings(measurements: &[Measurement], cases: &[Case]) -> Ceilings {
    let references = || measurements.iter().flat_map(|m| &m.reference);
    let stream = references().map(|r| r.stream_bytes_per_second).fold(0.0, f64::max);
    let reference = references().map(|r| r.matmul_flop_per_second).fold(0.0, f64::max);
    let flop_rate = |row: &Row| {
        let flop = row.cost.features.iter().find(|(f, _)| *f == foretoken_cost::Feature::Flop);
        flop.filter(|_| row.cost.class.matmul.is_some()).map_or(0.0, |(_, flop)| flop / row.seconds)
    };
    let in_place = cases.iter().flat_map(|case| &case.rows).map(flop_rate).fold(0.0, f64::max);
    Ceilings {
        stream_bytes_per_second: stream.max(1.0),
        matmul_flop_per_second: reference.max(in_place).max(1.0),
    }
}
