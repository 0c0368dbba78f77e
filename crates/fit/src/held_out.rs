//! One regression with its error on held-out groups: what energy and loading need.
//!
//! Rows are scaled by 1/observed, coefficients are not negative, each group is left out in turn.

use std::collections::BTreeSet;

use foretoken_spec::FeatureCoefficient;
use foretoken_stats::{bootstrap_std_error, median};

use crate::intervals::{INTERVAL_LEVEL, weighted_quantile};
use crate::solver::{non_negative_least_squares, relative};

/// Bootstrap draws behind each standard error.
const N_RESAMPLES: usize = 100;
/// Half-width (log space) where too few groups could be held out to tell.
const UNKNOWN_HALF_WIDTH: f64 = 0.7;
/// Narrowest half-width: no held-out residual is trusted below this.
const LEAST_HALF_WIDTH: f64 = 0.02;
/// What stands for an infinite half-width, which no file holds: a hundred times more or less.
const WIDEST_HALF_WIDTH: f64 = 4.6;
/// Logarithm of a prediction of nothing over what was observed.
const MISSED: f64 = f64::NEG_INFINITY;

/// What was observed of one thing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ObservedRow {
    /// What is held out together.
    pub group: String,
    /// In the order of the names given to [`regress`].
    pub features: Vec<f64>,
    /// More than 0.
    pub observed: f64,
}

/// A solved regression and how far it is off on groups that it has not seen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Regression {
    pub features: Vec<FeatureCoefficient>,
    pub n_observations: u32,
    pub held_out_mdape: Option<f64>,
    pub half_width: f64,
    pub level: f64,
    pub n_groups: u32,
}

/// Fits `observed = Σ coefficient · feature`; `None` without rows. `names` are name and unit of
/// the coefficient of each feature.
pub(crate) fn regress(
    names: &[(String, String)],
    rows: &[ObservedRow],
    seed: u64,
) -> Option<Regression> {
    let all: Vec<&ObservedRow> = rows.iter().collect();
    let coefficients = solve(&all)?;
    let groups: BTreeSet<&str> = rows.iter().map(|row| row.group.as_str()).collect();
    let by_group: Vec<Vec<&ObservedRow>> = groups
        .iter()
        .map(|group| all.iter().copied().filter(|r| r.group == *group).collect())
        .collect();
    let errors = bootstrap_std_error(by_group.len(), N_RESAMPLES, seed, |drawn| {
        solve(&drawn.iter().flat_map(|group| by_group[*group].clone()).collect::<Vec<_>>())
    });
    let features = names
        .iter()
        .enumerate()
        .map(|(index, (name, unit))| {
            let values = || rows.iter().map(|row| row.features[index]);
            FeatureCoefficient {
                feature: name.clone(),
                unit: unit.clone(),
                coefficient: coefficients[index],
                std_error: errors.as_ref().map(|errors| errors[index]),
                range: [values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max)],
            }
        })
        .collect();
    let residuals = residuals(&all, &groups);
    // A prediction of nothing is off by all that was observed: its logarithm is −∞.
    let held_out: BTreeSet<&str> = residuals.iter().map(|(group, _)| *group).collect();
    let errors: Vec<f64> = residuals.iter().map(|(_, log)| (log.exp() - 1.0).abs()).collect();
    Some(Regression {
        features,
        n_observations: rows.len() as u32,
        held_out_mdape: median(&errors),
        half_width: half_width(&residuals),
        level: INTERVAL_LEVEL,
        n_groups: held_out.len() as u32,
    })
}

/// `Σ coefficient · feature`.
pub(crate) fn evaluate(coefficients: &[f64], features: &[f64]) -> f64 {
    coefficients.iter().zip(features).map(|(coefficient, value)| coefficient * value).sum()
}

fn solve(rows: &[&ObservedRow]) -> Option<Vec<f64>> {
    if rows.is_empty() {
        return None;
    }
    let features: Vec<Vec<f64>> = rows.iter().map(|row| row.features.clone()).collect();
    let observed: Vec<f64> = rows.iter().map(|row| row.observed).collect();
    let (scaled, target) = relative(&features, &observed);
    Some(non_negative_least_squares(&scaled, &target).coefficients)
}

/// `ln(predicted / observed)` of every row, by a fit without its group; −∞ where it predicts
/// nothing.
fn residuals<'a>(rows: &[&'a ObservedRow], groups: &BTreeSet<&'a str>) -> Vec<(&'a str, f64)> {
    let mut residuals = Vec::new();
    for &group in groups {
        let (test, train): (Vec<&ObservedRow>, Vec<&ObservedRow>) =
            rows.iter().copied().partition(|row| row.group == group);
        let Some(coefficients) = solve(&train) else { continue };
        for row in test {
            let predicted = evaluate(&coefficients, &row.features);
            let log = if predicted > 0.0 { (predicted / row.observed).ln() } else { MISSED };
            residuals.push((group, log));
        }
    }
    residuals
}

/// As of a phase: each group weighs the same, with the correction of split conformal prediction for
/// as many draws as there are groups: rows of one group are no draws of their own.
fn half_width(residuals: &[(&str, f64)]) -> f64 {
    let weight = |group: &str| 1.0 / residuals.iter().filter(|(of, _)| *of == group).count() as f64;
    let scores: Vec<(f64, f64)> =
        residuals.iter().map(|(group, log)| (log.abs(), weight(group))).collect();
    let n = residuals.iter().map(|(group, _)| *group).collect::<BTreeSet<_>>().len() as f64;
    let level = (INTERVAL_LEVEL * (n + 1.0) / n.max(1.0)).min(1.0);
    let score = weighted_quantile(scores, level);
    score.map_or(UNKNOWN_HALF_WIDTH, |score| score.clamp(LEAST_HALF_WIDTH, WIDEST_HALF_WIDTH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<(String, String)> {
        [("a", "s/a"), ("b", "s/b")].map(|(n, u)| (n.to_owned(), u.to_owned())).to_vec()
    }

    fn row(group: &str, a: f64, b: f64, factor: f64) -> ObservedRow {
        let observed = factor * (2.0 * a + 3.0 * b);
        ObservedRow { group: group.into(), features: vec![a, b], observed }
    }

    #[test]
    fn planted_coefficients_come_back_with_their_range() {
        let rows = [
            row("x", 1.0, 0.0, 1.0),
            row("x", 2.0, 5.0, 1.0),
            row("y", 7.0, 1.0, 1.0),
            row("z", 1.0, 9.0, 1.0),
        ];
        let fit = regress(&names(), &rows, 1).unwrap();
        assert!((fit.features[0].coefficient - 2.0).abs() < 1e-9);
        assert!((fit.features[1].coefficient - 3.0).abs() < 1e-9);
        assert_eq!(fit.features[1].range, [0.0, 9.0]);
        assert_eq!((fit.n_groups, fit.n_observations), (3, 4));
        assert!(fit.held_out_mdape.unwrap() < 1e-9);
        assert_eq!(fit.half_width, LEAST_HALF_WIDTH);
    }

    #[test]
    fn a_group_that_is_twice_as_slow_is_seen_when_it_is_held_out() {
        let rows = [row("x", 1.0, 1.0, 1.0), row("y", 2.0, 2.0, 1.0), row("z", 4.0, 4.0, 2.0)];
        let fit = regress(&names(), &rows, 1).unwrap();
        // `z` is predicted by the other two: ln(1/2).
        assert!((fit.half_width - 2f64.ln()).abs() < 1e-9, "{fit:?}");
    }

    #[test]
    fn a_group_of_many_rows_is_one_draw() {
        // Nine groups are right, one is off by 0.5 in all of its many rows. Of ten draws nine and
        // one tenth … 0.9 · 11 / 10 of the weight … must lie inside: the tenth group too. Rows as
        // draws (0.9 · 110 / 109) would leave it out.
        let right = (0..9).map(|group| ("abcdefghi".get(group..=group).unwrap(), 0.01));
        let residuals: Vec<(&str, f64)> =
            right.chain(std::iter::repeat_n(("j", 0.5), 100)).collect();
        assert_eq!(half_width(&residuals), 0.5);
    }

    #[test]
    fn a_prediction_of_nothing_is_the_worst_miss() {
        // Without `z` nothing is known of the second feature, which is all that `z` has.
        let rows = [row("x", 1.0, 0.0, 1.0), row("y", 2.0, 0.0, 1.0), row("z", 0.0, 4.0, 1.0)];
        let fit = regress(&names(), &rows, 1).unwrap();
        assert_eq!((fit.n_groups, fit.half_width), (3, WIDEST_HALF_WIDTH));
        // Off by nothing, nothing and all.
        assert!(fit.held_out_mdape.unwrap() < 1e-9);
        let twice = [row("x", 0.0, 4.0, 1.0), row("y", 2.0, 0.0, 1.0)];
        assert_eq!(regress(&names(), &twice, 1).unwrap().held_out_mdape, Some(1.0));
    }

    #[test]
    fn one_group_cannot_be_held_out() {
        let fit = regress(&names(), &[row("x", 1.0, 1.0, 1.0)], 1).unwrap();
        assert_eq!((fit.held_out_mdape, fit.n_groups), (None, 0));
        assert_eq!(fit.half_width, UNKNOWN_HALF_WIDTH);
        assert_eq!(regress(&names(), &[], 1), None);
    }
}
