//! Errors of left-out devices by kind, backend, engine and rows given.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_spec::{BaselineError, GroupError, HoldOut, Phase, ValidationCase};
use foretoken_stats::{
    ErrorInput, ErrorSummary, bootstrap_interval, median, summarise, summarise_each,
};

use crate::by_device::Repeat;
use crate::domain::INTERVAL_LEVEL;
use crate::validate::{GIVEN, Judged};

/// Draws of devices behind the interval of a median error.
const N_RESAMPLES: usize = 500;

/// Errors by rows given, phase, and kind and backend of the device; all of them first.
pub(crate) fn groups(judged: &[Judged], noise: &[Repeat]) -> Vec<GroupError> {
    let names: BTreeSet<&str> = judged.iter().filter_map(|j| j.case.group.as_deref()).collect();
    let all = Selection { group: None, engine: None };
    let selections = names.into_iter().map(|name| Selection { group: Some(name), engine: None });
    std::iter::once(all)
        .chain(selections)
        .flat_map(|selection| errors(selection, judged, noise))
        .collect()
}

/// The same of each engine on its own, where a kind and backend has any.
pub(crate) fn engine_groups(judged: &[Judged], noise: &[Repeat]) -> Vec<GroupError> {
    let of = |j: &'_ Judged| Some((j.case.group.clone()?, j.case.engine.clone()?));
    let names: BTreeSet<(String, String)> = judged.iter().filter_map(of).collect();
    names
        .iter()
        .map(|(group, engine)| Selection { group: Some(group), engine: Some(engine) })
        .flat_map(|selection| errors(selection, judged, noise))
        .collect()
}

/// Which cases are judged together; `None` takes all.
#[derive(Clone, Copy)]
struct Selection<'a> {
    group: Option<&'a str>,
    engine: Option<&'a str>,
}

impl Selection<'_> {
    fn has(&self, group: Option<&str>, engine: Option<&str>) -> bool {
        (self.group.is_none() || self.group == group)
            && (self.engine.is_none() || self.engine == engine)
    }
}

/// Errors of a selection by rows given and phase; none where it has no case.
fn errors(selection: Selection<'_>, judged: &[Judged], noise: &[Repeat]) -> Vec<GroupError> {
    let mut errors = Vec::new();
    for given in GIVEN {
        for phase in [Phase::Prefill, Phase::Decode] {
            let cases: Vec<&ValidationCase> = judged
                .iter()
                .map(|j| &j.case)
                .filter(|case| selection.has(case.group.as_deref(), case.engine.as_deref()))
                .filter(|case| case.rows as usize == given && case.phase == phase)
                .collect();
            let repeats: Vec<&Repeat> = noise
                .iter()
                .filter(|repeat| repeat.phase == phase)
                .filter(|repeat| selection.has(Some(&repeat.group), Some(&repeat.engine)))
                .collect();
            errors.extend(group(selection.group, given, phase, &cases, &repeats));
        }
    }
    errors
}

/// What all cases agree in.
fn common<'a>(mut names: impl Iterator<Item = Option<&'a str>>) -> Option<String> {
    let first = names.next()??;
    names.all(|name| name == Some(first)).then(|| first.to_owned())
}

fn group(
    name: Option<&str>,
    given: usize,
    phase: Phase,
    cases: &[&ValidationCase],
    repeats: &[&Repeat],
) -> Option<GroupError> {
    let pair =
        |c: &&ValidationCase| ErrorInput { observed: c.observed_ms, predicted: c.predicted_ms };
    let summary = summarise(&cases.iter().map(pair).collect::<Vec<_>>())?;
    let inside = |c: &&&ValidationCase| (c.lower_ms..=c.upper_ms).contains(&c.observed_ms);
    let covered = cases.iter().filter(inside).count();
    let half = |c: &&ValidationCase| (c.upper_ms - c.lower_ms) / 2.0 / c.predicted_ms;
    let mut by_device: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for case in cases {
        by_device.entry(&case.held_out).or_default().push(case.error.abs());
    }
    let by_device_errors: Vec<&Vec<f64>> = by_device.values().collect();
    let interval = bootstrap_interval(
        by_device_errors.len(),
        N_RESAMPLES,
        INTERVAL_LEVEL,
        given as u64,
        |drawn| {
            let errors = drawn.iter().flat_map(|&device| by_device_errors[device]);
            median(&errors.copied().collect::<Vec<_>>())
        },
    );
    let alone = |c: &&ValidationCase| Some((c.spec_only_ms? / c.observed_ms - 1.0).abs());
    let floors: Vec<f64> = repeats.iter().flat_map(|repeat| &repeat.floors).copied().collect();
    let posters: Vec<f64> =
        repeats.iter().flat_map(|repeat| &repeat.between_posters).copied().collect();
    let medians: Vec<f64> = by_device.values().filter_map(|errors| median(errors)).collect();
    Some(GroupError {
        hold_out: HoldOut::Device,
        group: name.map(str::to_owned),
        kind: common(cases.iter().map(|c| Some(c.group.as_deref()?.split_once('/')?.0))),
        backend: common(cases.iter().map(|c| Some(c.group.as_deref()?.split_once('/')?.1))),
        engine: common(cases.iter().map(|c| c.engine.as_deref())),
        rows: given as u32,
        phase,
        n: summary.n as u32,
        devices: Some(by_device.len() as u32),
        mdape: summary.mdape,
        mdape_interval: interval.map(|(lower, upper)| [lower, upper]),
        mdape_spec_only: median(&cases.iter().filter_map(alone).collect::<Vec<_>>()),
        mdape_by_device: median(&medians),
        mape: summary.mape,
        p90_ape: summary.p90_ape,
        max_ape: summary.max_ape,
        bias: summary.bias,
        within_10pct: summary.within_10pct,
        coverage: covered as f64 / summary.n as f64,
        interval_level: INTERVAL_LEVEL,
        interval_half_width: median(&cases.iter().map(half).collect::<Vec<_>>()).unwrap_or(0.0),
        noise_floor: median(&floors),
        between_posters: median(&posters),
        baselines: baseline_errors(cases),
    })
}

/// The naive methods' errors over the cases that they predicted.
fn baseline_errors(cases: &[&ValidationCase]) -> BTreeMap<String, BaselineError> {
    let of_cases: Vec<_> = cases.iter().map(|c| (c.observed_ms, &c.baselines)).collect();
    let error = |s: ErrorSummary| BaselineError {
        n: s.n as u32,
        mdape: s.mdape,
        mape: s.mape,
        p90_ape: s.p90_ape,
        bias: s.bias,
    };
    summarise_each(&of_cases).into_iter().map(|(name, s)| (name, error(s))).collect()
}
