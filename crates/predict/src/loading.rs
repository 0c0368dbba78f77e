//! Time of a load: from memory, from storage, and what the first pass adds.

use foretoken_cost::{EngineProfile, LoadFeature, first_pass_cost, load_cost};
use foretoken_spec::{Estimate, LoadFit, LoadTerm, ModelSpec};

use crate::stretched;

/// Half-width (log space) of the time that storage takes: a guess, as files lie differently and
/// storage is shared.
const STORAGE_HALF_WIDTH: f64 = 0.4;

/// Log-distance beyond the largest measured tables from which their fitted time says nothing: the
/// tables of most readers are a thousandth of a load, those of gemma3 most of it.
const UNKNOWN_TABLES: f64 = 1.5;
/// Dense weights that take as long as a byte of such tables: two machines took 1.7 and 2.3 times as
/// long for a byte of a table as for a byte of a dense weight, of which there are 4.
const WEIGHTS_PER_TABLE_BYTE: f64 = 0.5;
/// No interval is stretched by more than this: a hundred times the measured range.
const LONGEST_STRETCH: f64 = 4.6;

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

/// `None` where a type was never repacked, and where nothing is to do.
fn estimate(term: &LoadTerm, features: &[(LoadFeature, f64)]) -> Option<Estimate> {
    let known = |feature: LoadFeature| {
        let name = feature.name();
        term.features.iter().find(|known| known.feature == name)
    };
    // Each with its seconds and how far it lies beyond what was measured.
    let mut parts: Vec<(f64, f64)> = Vec::new();
    for &(feature, value) in features.iter().filter(|(_, value)| *value > 0.0) {
        let fitted = known(feature)?;
        let beyond = (value / fitted.range[1]).ln().max(0.0);
        let borrowed = match feature {
            LoadFeature::TableBytes if beyond > UNKNOWN_TABLES => {
                known(LoadFeature::DenseWeights)?.coefficient * WEIGHTS_PER_TABLE_BYTE
            }
            _ => 0.0,
        };
        parts.push((value * fitted.coefficient.max(borrowed), beyond));
    }
    let seconds: f64 = parts.iter().map(|(seconds, _)| seconds).sum();
    let stretch: f64 =
        parts.iter().map(|(of_part, beyond)| of_part / seconds * beyond.min(LONGEST_STRETCH)).sum();
    let half_width = stretched(term.half_width, stretch);
    let is_sound = seconds.is_finite() && seconds > 0.0 && half_width.is_finite();
    is_sound.then(|| Estimate::log_interval(1e3 * seconds, half_width, term.level))
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
                range: [0.0, 1e9],
            })
            .collect();
        LoadTerm {
            features,
            n_observations: 9,
            n_not_above_zero: 0,
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
    fn sizes_beyond_the_measured_widen_the_interval() {
        let term = term(&[("stored_bytes", 1e-9)]);
        let width = |bytes| {
            let it = estimate(&term, &[(LoadFeature::StoredBytes, bytes)]).unwrap();
            (it.upper / it.point).ln()
        };
        assert!((width(1e9) - 2f64.ln()).abs() < 1e-9);
        // e times the largest: an error of the same size, in quadrature.
        assert!((width(1e9 * 1f64.exp()) - 2f64.sqrt() * 2f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn tables_that_no_measured_model_had_borrow_the_time_of_dense_weights() {
        let mut term = term(&[("dense_weights", 2e-9), ("table_bytes", 0.0)]);
        term.features[1].range = [1e6, 1e6];
        let seconds = |bytes| {
            let features = [(LoadFeature::DenseWeights, 1e8), (LoadFeature::TableBytes, bytes)];
            estimate(&term, &features).unwrap().point * 1e-3
        };
        assert!((seconds(2e6) - 0.2).abs() < 1e-9);
        // 1e9 bytes at 0.5 · 2 ns.
        assert!((seconds(1e9) - 1.2).abs() < 1e-9);
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
