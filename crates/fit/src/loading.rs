//! Times of loading: one regression over the loads, one over what the first pass takes more.

use std::collections::BTreeSet;

use foretoken_cost::{EngineProfile, LoadFeature, first_pass_cost, load_cost};
use foretoken_observe::contended_loads;
use foretoken_spec::{LoadFit, LoadTerm, Measurement, ModelSource, ModelSpec};
use foretoken_stats::median;

use crate::held_out::{ObservedRow, Regression, regress};

const SECONDS_PER_NS: f64 = 1e-9;

/// Fits the loads of the lines; `None` without lines.
pub(crate) fn fit_loading(
    measurements: &[Measurement],
    engine: &EngineProfile,
    seed: u64,
) -> Option<LoadFit> {
    let loads = loads(measurements);
    let (mut warm, mut first) = (Vec::new(), Vec::new());
    for load in &loads {
        let model = load.model.to_spec();
        let is_mini = load.model.source == ModelSource::Mini;
        let group = if is_mini { &load.model.family } else { &load.model.name };
        warm.push(Observed {
            group: group.clone(),
            features: load_cost(&model, engine),
            seconds: load.load_ns as f64 * SECONDS_PER_NS,
        });
        first.extend(first_pass(load, &model, engine, group));
    }
    let rates = loads.iter().filter_map(|load| storage_rate(load)).collect::<Vec<_>>();
    Some(LoadFit {
        warm: term(&warm, seed)?,
        first_pass: term(&first, seed),
        storage_bytes_per_second: median(&rates),
    })
}

/// One line of each load, without those around which another program was busy.
fn loads(measurements: &[Measurement]) -> Vec<&Measurement> {
    let lines: Vec<&Measurement> = measurements.iter().collect();
    let contended = contended_loads(&lines);
    let mut seen = BTreeSet::new();
    lines
        .into_iter()
        .filter(|line| line.load_ns > 0)
        .filter(|line| {
            let key = (line.session.as_str(), line.sequence);
            !contended.contains(&key) && seen.insert(key)
        })
        .collect()
}

/// Features and seconds of one load.
struct Observed {
    group: String,
    features: Vec<(LoadFeature, f64)>,
    seconds: f64,
}

/// What the first pass took more than the fastest later one of as many tokens; `None` where the
/// engine repacks nothing, and where noise hides it.
fn first_pass(
    load: &Measurement,
    model: &ModelSpec,
    engine: &EngineProfile,
    group: &str,
) -> Option<Observed> {
    let features = first_pass_cost(model, engine);
    let first = load.warmup.first().filter(|_| !features.is_empty())?;
    let later = load.warmup.iter().skip(1).filter(|pass| pass.n_tokens == first.n_tokens);
    let extra = first.ns.checked_sub(later.map(|pass| pass.ns).min()?).filter(|ns| *ns > 0)?;
    let seconds = extra as f64 * SECONDS_PER_NS;
    Some(Observed { group: group.to_owned(), features, seconds })
}

/// Rate at which a cold load got its file, beyond what the same load takes from memory.
fn storage_rate(load: &Measurement) -> Option<f64> {
    let cold = load.cold_load.as_ref().filter(|cold| cold.doubt.is_none())?;
    let beyond = cold.ns.checked_sub(load.load_ns).filter(|ns| *ns > 0)?;
    Some(cold.file_bytes as f64 / (beyond as f64 * SECONDS_PER_NS))
}

/// The regression over all features that any load has.
fn term(observed: &[Observed], seed: u64) -> Option<LoadTerm> {
    let features: BTreeSet<LoadFeature> = observed
        .iter()
        .flat_map(|load| load.features.iter().map(|(feature, _)| *feature))
        .collect();
    let value = |load: &Observed, wanted| {
        load.features.iter().find(|(feature, _)| *feature == wanted).map_or(0.0, |(_, v)| *v)
    };
    let rows: Vec<ObservedRow> = observed
        .iter()
        .map(|load| ObservedRow {
            group: load.group.clone(),
            features: features.iter().map(|feature| value(load, *feature)).collect(),
            observed: load.seconds,
        })
        .collect();
    let names: Vec<(String, String)> =
        features.iter().map(|feature| (feature.name(), feature.unit().to_owned())).collect();
    let Regression { features, n_observations, held_out_mdape, half_width, level, n_groups } =
        regress(&names, &rows, seed)?;
    Some(LoadTerm { features, n_observations, held_out_mdape, half_width, level, n_groups })
}
