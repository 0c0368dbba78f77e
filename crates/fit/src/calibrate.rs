//! From measurements to a calibration.

use std::collections::BTreeSet;

use foretoken_cost::EngineProfile;
use foretoken_observe::{Observation, noise_floor, observations};
use foretoken_predict::Predictor;
use foretoken_spec::{
    Calibration, Ceilings, DatasetRef, FeatureRange, HeldOutError, IntervalFit, Measurement, Phase,
    PhaseCorrection, SCHEMA_VERSION, Tier, ToolInfo,
};
use foretoken_stats::{bootstrap_std_error, median, quantile};

use crate::FitError;
use crate::rows::{Case, Row, cases};
use crate::terms::{Term, fit_terms};

/// Nominal coverage of the prediction intervals.
pub const INTERVAL_LEVEL: f64 = 0.9;
/// Bootstrap draws behind each standard error.
const N_RESAMPLES: usize = 100;
/// Narrowest interval (log half-width): no held-out residual is trusted below this.
const LEAST_HALF_WIDTH: f64 = 0.02;

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

/// Fits every kernel class, corrects the phases, and holds out each model in turn for the error
/// and the intervals.
///
/// # Errors
/// No measurements, measurements of several devices, or none with kernel times.
pub fn fit(measurements: &[Measurement], input: FitInput) -> Result<Calibration, FitError> {
    let first = measurements.first().ok_or(FitError::Empty)?;
    if let Some(other) = measurements.iter().find(|m| setup(m) != setup(first)) {
        return Err(FitError::Mixed { first: setup(first), other: setup(other) });
    }
    let engine = EngineProfile::candle(&first.device);
    let cases = cases(observations(measurements), &engine);
    let all: Vec<&Case> = cases.iter().collect();
    let mut calibration = empty(first, input, ceilings(measurements, &cases));
    calibration.noise_floor = noise_floor(cases.iter().map(|case| &case.observation));
    fit_cases(&mut calibration, &all, &|_| true)?;
    describe_terms(&mut calibration, &all);
    calibration.ranges = ranges(&cases);
    Ok(calibration)
}

/// Fits terms, corrections and intervals to the cases; rows that `keep_row` refuses are not seen.
pub(crate) fn fit_cases(
    calibration: &mut Calibration,
    cases: &[&Case],
    keep_row: &dyn Fn(&Row) -> bool,
) -> Result<(), FitError> {
    fit_without_intervals(calibration, cases, keep_row)?;
    let models: BTreeSet<&str> = cases.iter().map(|case| case.model.name.as_str()).collect();
    let mut residuals: Vec<(Phase, f64)> = Vec::new();
    let mut fold = calibration.clone();
    for held_out in &models {
        let (test, train): (Vec<&Case>, Vec<&Case>) =
            cases.iter().partition(|case| case.model.name == **held_out);
        if fit_without_intervals(&mut fold, &train, keep_row).is_err() {
            continue;
        }
        let predictor = Predictor::new(&fold)?;
        for case in test {
            let Ok(predicted) = predictor.pass(&case.model, case.observation.pass) else {
                continue;
            };
            if predicted.tier <= Tier::SameQuantization {
                let phase = case.observation.phase;
                residuals.push((phase, (predicted.seconds / case.observation.seconds).ln()));
            }
        }
    }
    let n_groups = models.len() as u32;
    calibration.intervals = [Phase::Prefill, Phase::Decode]
        .into_iter()
        .filter_map(|phase| interval(phase, &residuals, n_groups))
        .collect();
    let mdape = |phase| {
        let of_phase = residuals.iter().filter(|(p, _)| *p == phase);
        median(&of_phase.map(|(_, log)| (log.exp() - 1.0).abs()).collect::<Vec<_>>())
    };
    calibration.held_out = HeldOutError {
        prefill_mdape: mdape(Phase::Prefill),
        decode_mdape: mdape(Phase::Decode),
        n_groups,
    };
    Ok(())
}

fn fit_without_intervals(
    calibration: &mut Calibration,
    cases: &[&Case],
    keep_row: &dyn Fn(&Row) -> bool,
) -> Result<(), FitError> {
    let rows = || cases.iter().flat_map(|case| &case.rows).filter(|row| keep_row(row));
    let terms = fit_terms(rows());
    if !terms.iter().any(|term| term.class.matmul.is_some()) {
        return Err(FitError::NoKernels);
    }
    calibration.terms = terms.iter().map(|term| term.describe(rows(), None)).collect();
    calibration.corrections = Vec::new();
    let predictor = Predictor::new(calibration)?;
    let mut corrections = Vec::new();
    for phase in [Phase::Prefill, Phase::Decode] {
        let ratios: Vec<f64> = cases
            .iter()
            .filter(|case| case.observation.phase == phase)
            .filter(|case| case.rows.iter().all(keep_row))
            .filter_map(|case| {
                let predicted = predictor.pass(&case.model, case.observation.pass).ok()?;
                Some((case.observation.seconds / predicted.seconds).ln())
            })
            .collect();
        if let Some(scale) = median(&ratios) {
            corrections.push(PhaseCorrection { phase, scale: scale.exp(), overhead_s: 0.0 });
        }
    }
    calibration.corrections = corrections;
    Ok(())
}

/// Split-conformal half-width: the quantile of absolute log residuals of held-out models, with
/// the finite-sample correction for the number of models.
fn interval(phase: Phase, residuals: &[(Phase, f64)], n_groups: u32) -> Option<IntervalFit> {
    let absolute: Vec<f64> =
        residuals.iter().filter(|(p, _)| *p == phase).map(|(_, log)| log.abs()).collect();
    let level = (INTERVAL_LEVEL * (1.0 + 1.0 / f64::from(n_groups.max(1)))).min(1.0);
    let half_width = quantile(&absolute, level)?.max(LEAST_HALF_WIDTH);
    Some(IntervalFit { phase, level: INTERVAL_LEVEL, half_width, n_groups })
}

/// Adds standard errors to the terms, by a bootstrap over models.
fn describe_terms(calibration: &mut Calibration, cases: &[&Case]) {
    let models: Vec<&str> = {
        let set: BTreeSet<&str> = cases.iter().map(|case| case.model.name.as_str()).collect();
        set.into_iter().collect()
    };
    let rows_of = |model: &str| {
        let of_model = cases.iter().filter(move |case| case.model.name == model);
        of_model.flat_map(|case| &case.rows).collect::<Vec<&Row>>()
    };
    let by_model: Vec<Vec<&Row>> = models.iter().map(|model| rows_of(model)).collect();
    let all = || by_model.iter().flatten().copied();
    let terms: Vec<Term> = fit_terms(all());
    let mut described = Vec::new();
    for term in &terms {
        let of_class = |row: &&&Row| row.class == term.class;
        let groups: Vec<Vec<&Row>> = by_model
            .iter()
            .map(|rows| rows.iter().filter(of_class).copied().collect::<Vec<_>>())
            .filter(|rows| !rows.is_empty())
            .collect();
        let errors = bootstrap_std_error(groups.len(), N_RESAMPLES, calibration.seed, |drawn| {
            let rows = drawn.iter().flat_map(|group| &groups[*group]).copied();
            fit_terms(rows).pop().map(|term| term.coefficients)
        });
        described.push(term.describe(all(), errors.as_ref()));
        for feature in &term.collinear {
            calibration.warnings.push(format!(
                "{}: `{}` cannot be told apart from the other features and was left at 0",
                term.class.key(),
                feature.name()
            ));
        }
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
        ranges: Vec::new(),
        noise_floor: None,
        warnings: Vec::new(),
    }
}

/// Device, engine and threads as one key.
pub(crate) fn setup(m: &Measurement) -> String {
    format!(
        "{} {} {} {} threads {} allocator {:?}",
        m.device.id, m.device.backend, m.engine.name, m.engine.version, m.threads, m.allocator
    )
}

/// Highest streaming rate of the reference, highest arithmetic rate of any matmul.
pub(crate) fn ceilings(measurements: &[Measurement], cases: &[Case]) -> Ceilings {
    let references = || measurements.iter().flat_map(|m| &m.reference);
    let stream = references().map(|r| r.stream_bytes_per_second).fold(0.0, f64::max);
    let reference = references().map(|r| r.matmul_flop_per_second).fold(0.0, f64::max);
    let flop_rate = |row: &Row| {
        let flop = row.features.iter().find(|(f, _)| *f == foretoken_cost::Feature::Flop);
        flop.filter(|_| row.class.matmul.is_some()).map_or(0.0, |(_, flop)| flop / row.seconds)
    };
    let in_place = cases.iter().flat_map(|case| &case.rows).map(flop_rate).fold(0.0, f64::max);
    Ceilings {
        stream_bytes_per_second: stream.max(1.0),
        matmul_flop_per_second: reference.max(in_place).max(1.0),
    }
}

fn ranges(cases: &[Case]) -> Vec<FeatureRange> {
    type Value = fn(&Observation) -> Option<f64>;
    let values: [(&str, Value); 4] = [
        ("prompt_tokens", |o| (o.phase == Phase::Prefill).then_some(f64::from(o.pass.n_tokens))),
        ("decode_kv_len", |o| (o.phase == Phase::Decode).then_some(f64::from(o.pass.kv_len))),
        ("hidden_size", |o| Some(f64::from(o.model.shape.hidden_size))),
        ("intermediate_size", |o| Some(f64::from(o.model.shape.intermediate_size))),
    ];
    values
        .into_iter()
        .filter_map(|(feature, value)| {
            let seen: Vec<f64> = cases.iter().filter_map(|case| value(&case.observation)).collect();
            Some(FeatureRange {
                feature: feature.to_owned(),
                min: quantile(&seen, 0.0)?,
                max: quantile(&seen, 1.0)?,
            })
        })
        .collect()
}
