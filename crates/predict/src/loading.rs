//! Time of a load: from memory, from storage, and what the first pass adds.

use foretoken_cost::{EngineProfile, LoadFeature, first_pass_cost, load_cost};
use foretoken_spec::{Estimate, LoadFit, LoadTerm, ModelSpec};

/// Half-width (log space) of the time that storage takes: a guess, as files lie differently and
/// storage is shared.
const STORAGE_HALF_WIDTH: f64 = 0.4;

/// Times of a load, in ms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LoadTimes {
    pub warm: Option<Estimate>,
    pub cold: Option<Estimate>,
    pub first_pass_extra: Option<Estimate>,
}

/// The loads of a model by a calibration's fit.
pub(crate) fn load_times(fit: &LoadFit, model: &ModelSpec, engine: &EngineProfile) -> LoadTimes {
    let warm = estimate(&fit.warm, &load_cost(model, engine));
    let storage = fit.storage_bytes_per_second;
    LoadTimes {
        warm,
        cold: warm
            .zip(storage)
            .and_then(|(warm, rate)| cold_load(warm, model.weight_bytes(), rate)),
        first_pass_extra: fit
            .first_pass
            .as_ref()
            .and_then(|term| estimate(term, &first_pass_cost(model, engine))),
    }
}

/// A load from storage: the load from memory and the reading of the file, one after the other, in
/// ms. `None` of a rate that is none.
pub fn cold_load(warm_ms: Estimate, file_bytes: u64, bytes_per_second: f64) -> Option<Estimate> {
    if !(bytes_per_second.is_finite() && bytes_per_second > 0.0) {
        return None;
    }
    let read_ms = 1e3 * file_bytes as f64 / bytes_per_second;
    let read = Estimate::log_interval(read_ms, STORAGE_HALF_WIDTH, warm_ms.level);
    Some(Estimate {
        point: warm_ms.point + read.point,
        lower: warm_ms.lower + read.lower,
        upper: warm_ms.upper + read.upper,
        level: warm_ms.level,
    })
}

/// `None` where a feature was never seen, and where nothing is to do.
fn estimate(term: &LoadTerm, features: &[(LoadFeature, f64)]) -> Option<Estimate> {
    let mut seconds = 0.0;
    for (feature, value) in features.iter().filter(|(_, value)| *value > 0.0) {
        let name = feature.name();
        let known = term.features.iter().find(|known| known.feature == name)?;
        seconds += known.coefficient * value;
    }
    let is_sound = seconds.is_finite() && seconds > 0.0 && term.half_width.is_finite();
    is_sound.then(|| Estimate::log_interval(1e3 * seconds, term.half_width, term.level))
}

#[cfg(test)]
mod tests {
    use foretoken_spec::{FeatureCoefficient, TensorType};

    use super::*;

    fn term(features: &[(&str, f64)]) -> LoadTerm {
        let features = features
            .iter()
            .map(|(feature, coefficient)| FeatureCoefficient {
                feature: (*feature).into(),
                unit: String::new(),
                coefficient: *coefficient,
                std_error: None,
                range: [0.0, 1.0],
            })
            .collect();
        LoadTerm {
            features,
            n_observations: 9,
            held_out_mdape: None,
            half_width: 2f64.ln(),
            level: 0.9,
            n_groups: 3,
        }
    }

    #[test]
    fn a_load_is_the_sum_of_its_parts() {
        // 2e8 bytes at 1 GB/s and 1e7 weights at 2 ns: 0.2 + 0.02 s.
        let term = term(&[("stored_bytes", 1e-9), ("dense_weights", 2e-9)]);
        let features = [(LoadFeature::StoredBytes, 2e8), (LoadFeature::DenseWeights, 1e7)];
        let warm = estimate(&term, &features).unwrap();
        assert!((warm.point - 220.0).abs() < 1e-9);
        assert!((warm.lower - 110.0).abs() < 1e-9 && (warm.upper - 440.0).abs() < 1e-9);
        // 2e8 bytes at 100 MB/s take 2 s more.
        let cold = cold_load(warm, 200_000_000, 1e8).unwrap();
        assert!((cold.point - 2220.0).abs() < 1e-9);
        assert!(cold.lower < 2000.0 && cold.upper > 2600.0);
        assert_eq!(cold_load(warm, 1, 0.0), None);
    }

    #[test]
    fn a_type_that_was_never_repacked_is_not_guessed() {
        let term = term(&[("repacked_q4_k_bytes", 1e-9)]);
        let q4 = LoadFeature::RepackedBytes(TensorType::Q4_K);
        let q8 = LoadFeature::RepackedBytes(TensorType::Q8_0);
        assert!(estimate(&term, &[(q4, 1e6)]).is_some());
        assert_eq!(estimate(&term, &[(q4, 1e6), (q8, 1e6)]), None);
        assert_eq!(estimate(&term, &[]), None);
    }
}
