//! Error metrics with named arguments: `observed` is the truth, `predicted` is the other.
//!
//! linfa's own metrics divide by the receiver in one case and by the argument in another, so
//! ours take a struct.

use std::collections::{BTreeMap, BTreeSet};

use crate::{median, quantile};

/// A pair of truth and prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorInput {
    /// What was measured; positive.
    pub observed: f64,
    /// What was predicted.
    pub predicted: f64,
}

/// Errors as fractions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorSummary {
    /// Cases.
    pub n: usize,
    /// Median absolute percentage error.
    pub mdape: f64,
    /// Mean absolute percentage error.
    pub mape: f64,
    /// 90th percentile of the absolute percentage error.
    pub p90_ape: f64,
    /// Largest absolute percentage error.
    pub max_ape: f64,
    /// Median signed error; positive where predictions are too high.
    pub bias: f64,
    /// Share of the cases within ±10 %.
    pub within_10pct: f64,
}

/// `predicted / observed − 1` of each pair.
pub fn signed_errors(pairs: &[ErrorInput]) -> Vec<f64> {
    pairs.iter().map(|p| p.predicted / p.observed - 1.0).collect()
}

/// `|predicted / observed − 1|` of each pair.
pub fn absolute_errors(pairs: &[ErrorInput]) -> Vec<f64> {
    signed_errors(pairs).into_iter().map(f64::abs).collect()
}

/// All metrics at once; `None` without cases.
pub fn summarise(pairs: &[ErrorInput]) -> Option<ErrorSummary> {
    let signed = signed_errors(pairs);
    let absolute = absolute_errors(pairs);
    let n = pairs.len();
    Some(ErrorSummary {
        n,
        mdape: median(&absolute)?,
        mape: absolute.iter().sum::<f64>() / n as f64,
        p90_ape: quantile(&absolute, 0.9)?,
        max_ape: quantile(&absolute, 1.0)?,
        bias: median(&signed)?,
        within_10pct: absolute.iter().filter(|e| **e <= 0.1).count() as f64 / n as f64,
    })
}

/// All metrics of each named method over the cases that it predicted: a case is what was observed,
/// and what each method predicts of it.
pub fn summarise_each(cases: &[(f64, &BTreeMap<String, f64>)]) -> BTreeMap<String, ErrorSummary> {
    let names: BTreeSet<&String> = cases.iter().flat_map(|(_, by_name)| by_name.keys()).collect();
    let of_name = |name: &String| {
        let pairs: Vec<ErrorInput> = cases
            .iter()
            .filter_map(|&(observed, by_name)| {
                let predicted = *by_name.get(name)?;
                Some(ErrorInput { observed, predicted })
            })
            .collect();
        Some((name.clone(), summarise(&pairs)?))
    };
    names.into_iter().filter_map(of_name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_computed_case_catches_swapped_arguments() {
        // 100 predicted as 150 is +50 %; swapped it would be −33 %.
        let pairs = [
            ErrorInput { observed: 100.0, predicted: 150.0 },
            ErrorInput { observed: 200.0, predicted: 190.0 },
            ErrorInput { observed: 10.0, predicted: 10.0 },
        ];
        let summary = summarise(&pairs).unwrap();
        assert_eq!(summary.n, 3);
        assert!((summary.mape - (0.5 + 0.05) / 3.0).abs() < 1e-12);
        assert!((summary.mdape - 0.05).abs() < 1e-12);
        assert!((summary.max_ape - 0.5).abs() < 1e-12);
        assert!((summary.bias - 0.0).abs() < 1e-12);
        assert!((summary.within_10pct - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn no_cases_have_no_error() {
        assert_eq!(summarise(&[]), None);
    }

    #[test]
    fn scaling_both_changes_nothing() {
        let pairs = [
            ErrorInput { observed: 3.0, predicted: 4.0 },
            ErrorInput { observed: 5.0, predicted: 4.0 },
        ];
        let scaled =
            pairs.map(|p| ErrorInput { observed: p.observed * 1e3, predicted: p.predicted * 1e3 });
        let (a, b) = (summarise(&pairs).unwrap(), summarise(&scaled).unwrap());
        assert!((a.mape - b.mape).abs() < 1e-12);
    }

    #[test]
    fn each_method_is_judged_on_what_it_predicted() {
        let of = |pairs: &[(&str, f64)]| -> BTreeMap<String, f64> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
        };
        let (both, one) = (of(&[("a", 12.0), ("b", 5.0)]), of(&[("a", 18.0)]));
        let found = summarise_each(&[(10.0, &both), (20.0, &one)]);
        // 12 of 10 is +20 %, 18 of 20 is −10 %; 5 of 10 is −50 %.
        assert_eq!((found["a"].n, found["b"].n), (2, 1));
        assert!((found["a"].mape - 0.15).abs() < 1e-12);
        assert!((found["b"].bias + 0.5).abs() < 1e-12);
        assert!(summarise_each(&[]).is_empty());
    }
}
