//! What longer measuring buys: the error on models that were never fitted by the part of a
//! calibration that was, and beside it the noise floor by the loads behind each observation.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_cost::EngineProfile;
use foretoken_observe::observations;
use foretoken_predict::Predictor;
use foretoken_spec::{
    BudgetError, Calibration, LearningCurve, LoadsError, Measurement, ModelSource, Phase,
    SCHEMA_VERSION,
};
use foretoken_stats::{ErrorInput, half_split_difference, median, summarise};

use crate::FitError;
use crate::calibrate::{FitInput, ceilings, empty, fit_cases, one_setup, setup};
use crate::rows::{Case, cases};

/// Seconds of measuring after which a calibration is looked at.
const BUDGETS: [f64; 8] = [15.0, 30.0, 60.0, 90.0, 180.0, 300.0, 600.0, 900.0];
/// Configurations that a number of loads is judged by, at least.
const LEAST_CONFIGURATIONS: usize = 4;

/// Fits growing parts of every calibration in the data, in the order of measuring, and predicts
/// the models that are no mini-models by each.
///
/// # Errors
/// No measurements, several setups, no calibration, or no other model.
pub fn learning_curve(
    measurements: &[Measurement],
    data: Vec<String>,
) -> Result<LearningCurve, FitError> {
    let first = one_setup(measurements)?;
    let engine = EngineProfile::of(&first.engine, &first.device);
    let (minis, others): (Vec<Measurement>, Vec<Measurement>) =
        measurements.iter().cloned().partition(|m| m.model.source == ModelSource::Mini);
    let judged = cases(observations(&others), &engine);
    if judged.is_empty() {
        return Err(FitError::NothingToHoldOut("model"));
    }
    let interleaved: BTreeSet<&str> = others.iter().map(|m| m.session.as_str()).collect();
    let mut sessions: BTreeMap<&str, Vec<Measurement>> = BTreeMap::new();
    for line in minis.iter().filter(|line| !interleaved.contains(line.session.as_str())) {
        sessions.entry(&line.session).or_default().push(line.clone());
    }
    let mut budgets = Vec::new();
    let mut largest: Option<(usize, Calibration)> = None;
    for (session, lines) in &sessions {
        for part in parts(lines) {
            let Some(calibration) = fitted(&part.lines, &engine) else { continue };
            budgets.extend(errors(session, &part, &calibration, &judged)?);
            if largest.as_ref().is_none_or(|(n, _)| part.lines.len() > *n) {
                largest = Some((part.lines.len(), calibration));
            }
        }
    }
    let (_, calibration) = largest.ok_or(FitError::NoCalibration)?;
    Ok(LearningCurve {
        schema_version: SCHEMA_VERSION,
        data,
        device: setup(first),
        budgets,
        loads: by_loads(&calibration, &judged)?,
    })
}

/// The lines of the first loads of a session.
struct Part {
    seconds: f64,
    n_loads: u32,
    lines: Vec<Measurement>,
}

/// What was measured after each budget, and in the end.
fn parts(lines: &[Measurement]) -> Vec<Part> {
    let mut loads: BTreeMap<u32, Vec<&Measurement>> = BTreeMap::new();
    for line in lines {
        loads.entry(line.sequence).or_default().push(line);
    }
    let ends: Vec<(f64, u32)> = loads
        .iter()
        .scan(0.0, |seconds, (sequence, lines)| {
            *seconds += load_seconds(lines);
            Some((*seconds, *sequence))
        })
        .collect();
    let mut parts: Vec<Part> = Vec::new();
    for budget in BUDGETS.into_iter().chain([f64::INFINITY]) {
        let done: Vec<&(f64, u32)> = ends.iter().take_while(|(end, _)| *end <= budget).collect();
        let Some(&&(seconds, last)) = done.last() else { continue };
        let n_loads = done.len() as u32;
        if parts.last().is_some_and(|part| part.n_loads == n_loads) {
            continue;
        }
        let lines = lines.iter().filter(|line| line.sequence <= last).cloned().collect();
        parts.push(Part { seconds, n_loads, lines });
    }
    parts
}

/// Seconds that a load and all of its timed passes took; its lines share the load.
fn load_seconds(lines: &[&Measurement]) -> f64 {
    let passes = |m: &Measurement| {
        let warmup: u64 = m.warmup.iter().map(|pass| pass.ns).sum();
        let timed: u64 = m.prefill.iter().chain(&m.decode).map(|pass| pass.forward_ns).sum();
        warmup + timed
    };
    let load = lines.first().map_or(0, |line| line.load_ns);
    (load + lines.iter().map(|line| passes(line)).sum::<u64>()) as f64 * 1e-9
}

/// The calibration of a part; `None` where it is too little for one.
fn fitted(lines: &[Measurement], engine: &EngineProfile) -> Option<Calibration> {
    let first = lines.first()?;
    let known = cases(observations(lines), engine);
    let all: Vec<&Case> = known.iter().collect();
    let input = FitInput::unsaved(first.tool.clone());
    let mut calibration = empty(first, input, ceilings(lines, &known));
    fit_cases(&mut calibration, &all, &|_| true).ok()?;
    Some(calibration)
}

fn errors(
    session: &str,
    part: &Part,
    calibration: &Calibration,
    judged: &[Case],
) -> Result<Vec<BudgetError>, FitError> {
    let predictor = Predictor::new(calibration)?;
    let of_phase = |phase| {
        let cases: Vec<&Case> = judged.iter().filter(|c| c.observation.phase == phase).collect();
        let mut pairs = Vec::new();
        let mut n_covered = 0;
        let mut half_widths = Vec::new();
        for case in &cases {
            let Ok(pass) = predictor.pass(&case.model, case.observation.pass) else { continue };
            let (lower, upper) = (pass.estimate.lower, pass.estimate.upper);
            let observed = case.observation.seconds;
            pairs.push(ErrorInput { observed, predicted: pass.seconds });
            n_covered += u32::from((lower..=upper).contains(&observed));
            half_widths.push((upper - lower) / (2.0 * pass.seconds));
        }
        let summary = summarise(&pairs)?;
        Some(BudgetError {
            session: session.to_owned(),
            seconds: part.seconds,
            loads: part.n_loads,
            phase,
            n: summary.n as u32,
            judged: cases.len() as u32,
            mdape: summary.mdape,
            p90_ape: summary.p90_ape,
            bias: summary.bias,
            coverage: f64::from(n_covered) / summary.n as f64,
            interval_half_width: median(&half_widths).unwrap_or(0.0),
        })
    };
    Ok([Phase::Prefill, Phase::Decode].into_iter().filter_map(of_phase).collect())
}

/// The error where each configuration has the median of its first 2, 4, 8, … loads. All rows have
/// the same configurations: those with the most loads that enough of them have.
fn by_loads(calibration: &Calibration, judged: &[Case]) -> Result<Vec<LoadsError>, FitError> {
    let predictor = Predictor::new(calibration)?;
    let mut rows = Vec::new();
    for phase in [Phase::Prefill, Phase::Decode] {
        let known: Vec<(&[f64], f64)> = judged
            .iter()
            .filter(|case| case.observation.phase == phase)
            .filter_map(|case| {
                let pass = predictor.pass(&case.model, case.observation.pass).ok()?;
                Some((case.observation.load_medians.as_slice(), pass.seconds))
            })
            .collect();
        let having = |n: usize| known.iter().filter(move |(loads, _)| loads.len() >= n);
        let numbers: Vec<usize> = (1..)
            .map(|power| 1 << power)
            .take_while(|n| having(*n).count() >= LEAST_CONFIGURATIONS)
            .collect();
        let Some(&most) = numbers.last() else { continue };
        rows.extend(numbers.iter().filter_map(|&n| row(phase, n, having(most))));
    }
    rows.sort_by_key(|row| (row.loads, row.phase));
    Ok(rows)
}

fn row<'a>(
    phase: Phase,
    n_loads: usize,
    configurations: impl Iterator<Item = &'a (&'a [f64], f64)>,
) -> Option<LoadsError> {
    let mut pairs = Vec::new();
    let mut floors = Vec::new();
    for (loads, predicted) in configurations {
        let first = &loads[..n_loads.min(loads.len())];
        pairs.push(ErrorInput { observed: median(first)?, predicted: *predicted });
        floors.extend(half_split_difference(first));
    }
    let summary = summarise(&pairs)?;
    Some(LoadsError {
        loads: n_loads as u32,
        phase,
        n: summary.n as u32,
        mdape: summary.mdape,
        bias: summary.bias,
        noise_floor: median(&floors)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_of_more_loads_by_hand() {
        // Predicted 2. Two loads: median 2.1, halves 2.0 and 2.2; four: median 2.0.
        let configurations = [([2.0, 2.2, 2.0, 2.0].as_slice(), 2.0)];
        let two = row(Phase::Decode, 2, configurations.iter()).unwrap();
        assert!((two.mdape - 0.1 / 2.1).abs() < 1e-12, "{two:?}");
        assert!((two.noise_floor - 0.2 / 2.1).abs() < 1e-12, "{two:?}");
        let four = row(Phase::Decode, 4, configurations.iter()).unwrap();
        assert_eq!((four.mdape, four.n), (0.0, 1));
        // Loads 1 and 3 against 2 and 4.
        assert!((four.noise_floor - 0.1 / 2.05).abs() < 1e-12, "{four:?}");
        assert!(row(Phase::Decode, 2, [].iter()).is_none());
    }
}
