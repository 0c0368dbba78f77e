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
    // Errors are relative, which nothing below 0 has: how many are left out stands beside the fit.
    let n_first = first.len();
    first.retain(|load| load.seconds > 0.0);
    let n_not_above_zero = (n_first - first.len()) as u32;
    Some(LoadFit {
        warm: term(&warm, seed)?,
        first_pass: term(&first, seed).map(|term| LoadTerm { n_not_above_zero, ..term }),
        storage_bytes_per_second: median(&rates).filter(|rate| rate.is_finite()),
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

/// What the first pass took more than the fastest later one of as many tokens, less than 0 where
/// noise hides it; `None` where the engine repacks nothing.
fn first_pass(
    load: &Measurement,
    model: &ModelSpec,
    engine: &EngineProfile,
    group: &str,
) -> Option<Observed> {
    let features = first_pass_cost(model, engine);
    let first = load.warmup.first().filter(|_| !features.is_empty())?;
    let later = load.warmup.iter().skip(1).filter(|pass| pass.n_tokens == first.n_tokens);
    let seconds = (first.ns as f64 - later.map(|pass| pass.ns).min()? as f64) * SECONDS_PER_NS;
    Some(Observed { group: group.to_owned(), features, seconds })
}

/// Rate at which a cold load got its file, beyond what the same load takes from memory; infinite
/// where it took no longer, so that a median over loads is not one of the slow ones.
fn storage_rate(load: &Measurement) -> Option<f64> {
    let cold = load.cold_load.as_ref().filter(|cold| cold.doubt.is_none())?;
    let beyond = cold.ns.saturating_sub(load.load_ns);
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
    let n_not_above_zero = 0;
    Some(LoadTerm {
        features,
        n_observations,
        n_not_above_zero,
        held_out_mdape,
        half_width,
        level,
        n_groups,
    })
}

#[cfg(test)]
mod tests {
    use foretoken_spec::ColdLoad;

    use super::*;
    use crate::testing::fixture;

    /// One line of each of the first loads.
    fn lines() -> (Vec<Measurement>, EngineProfile) {
        let all = fixture();
        let engine = EngineProfile::candle(&all[0].device);
        let lines = loads(&all).into_iter().take(3).cloned().collect();
        (lines, engine)
    }

    #[test]
    fn first_passes_that_were_no_slower_are_counted_beside_the_fit() {
        let (mut lines, engine) = lines();
        let fit = fit_loading(&lines, &engine, 1).unwrap().first_pass.unwrap();
        assert_eq!((fit.n_observations, fit.n_not_above_zero), (3, 0));
        lines[0].warmup[0].ns = lines[0].warmup[1].ns / 2;
        let fit = fit_loading(&lines, &engine, 1).unwrap().first_pass.unwrap();
        assert_eq!((fit.n_observations, fit.n_not_above_zero), (2, 1));
    }

    #[test]
    fn cold_loads_that_took_no_longer_count_as_fast_ones() {
        let (mut lines, engine) = lines();
        // 1, 2 and 0 s beyond the warm load for 10⁹ bytes: 1 GB/s, 0.5 GB/s and no telling.
        for (line, seconds) in lines.iter_mut().zip([1, 2, 0]) {
            line.cold_load = Some(ColdLoad {
                ns: line.load_ns + seconds * 1_000_000_000,
                file_bytes: 1_000_000_000,
                storage_bytes: None,
                doubt: None,
            });
        }
        let rate = |lines: &[Measurement]| {
            fit_loading(lines, &engine, 1).unwrap().storage_bytes_per_second
        };
        assert_eq!(rate(&lines), Some(1e9), "the one in the middle");
        assert_eq!(rate(&lines[2..]), None);
    }
}
