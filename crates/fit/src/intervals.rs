//! Half-widths of prediction intervals, from residuals of held-out groups.
//!
//! Normalised split conformal prediction (Papadopoulos, Gammerman and Vovk, 2008): a residual
//! counts divided by the factor by which its own interval would be stretched, so that cases far
//! outside what was measured do not widen the interval of those inside. Each held-out group
//! weighs the same, however many cases it has, and each case, however many loads: the interval is
//! for what `measure` will print, not for the median of a long session.
//!
//! Coverage is not guaranteed by this, as cases of a group are not exchangeable with those of
//! others: `validate` counts it. Were the groups exchangeable, the quantile at level `p` of `k`
//! groups that weigh the same would cover a case of a new group with probability `p·k/(k+1)` at
//! least (Dunn, Wasserman and Ramdas, 2023, pooled distributions; from memory): 0.9 of 11 groups
//! promises 82 %, of 6 groups 77 %. A promise of 90 % takes the level `0.9·(k+1)/k`, which is the
//! largest residual of all where `k` is 9 or less. The correction is therefore that for the number
//! of cases, which is next to none.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_cost::{KernelClass, Regime};
use foretoken_predict::{Predictor, stretched};
use foretoken_spec::{Calibration, IntervalFit, Phase};
use foretoken_stats::median;

use crate::rows::{Case, Row};

/// Nominal coverage of the prediction intervals.
pub const INTERVAL_LEVEL: f64 = 0.9;
/// Narrowest interval (log half-width): no held-out residual is trusted below this.
const LEAST_HALF_WIDTH: f64 = 0.02;
/// Half-widths of kernels borrowed from alike and from other ones, where no type of the
/// calibration could be held out: other kernels differ by up to an order of magnitude.
const UNKNOWN_BORROWED: [f64; 2] = [0.4, 1.5];
/// A borrowed kernel is never trusted more than this.
const LEAST_BORROWED: f64 = 0.1;

/// The residual of a held-out case.
pub(crate) struct Residual<'a> {
    pub phase: Phase,
    pub group: &'a str,
    /// `ln(predicted / observed)`, where the median over all loads was observed.
    pub log: f64,
    /// The same for the median of every few loads: what somebody meets who runs `measure`.
    pub of_measures: Vec<f64>,
    /// Log-distance outside the measured ranges, weighted by time.
    pub stretch: f64,
}

/// The interval of a phase; `None` without residuals.
pub(crate) fn interval(
    phase: Phase,
    residuals: &[Residual<'_>],
    [near_half_width, far_half_width]: [f64; 2],
) -> Option<IntervalFit> {
    let of_phase: Vec<&Residual<'_>> = residuals.iter().filter(|r| r.phase == phase).collect();
    let groups: BTreeSet<&str> = of_phase.iter().map(|r| r.group).collect();
    let weight = |group: &str| 1.0 / of_phase.iter().filter(|r| r.group == group).count() as f64;
    let scores: Vec<(f64, f64)> = of_phase
        .iter()
        .flat_map(|r| {
            let weight = weight(r.group) / r.of_measures.len() as f64;
            let score = move |log: &f64| (log.abs() / stretched(1.0, r.stretch), weight);
            r.of_measures.iter().map(score)
        })
        .collect();
    // The finite-sample correction of split conformal prediction, by cases and not by groups: see
    // above.
    let n = scores.len() as f64;
    let level = (INTERVAL_LEVEL * (n + 1.0) / n).min(1.0);
    let score = weighted_quantile(scores, level)?;
    Some(IntervalFit {
        phase,
        level: INTERVAL_LEVEL,
        half_width: score.max(LEAST_HALF_WIDTH),
        near_half_width,
        far_half_width,
        n_groups: groups.len() as u32,
    })
}

/// Smallest value at or below which lies at least `level` of the weight.
pub(crate) fn weighted_quantile(mut values: Vec<(f64, f64)>, level: f64) -> Option<f64> {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = values.iter().map(|(_, weight)| weight).sum();
    let mut below = 0.0;
    for (value, weight) in &values {
        below += weight;
        // Sums of thirds fall short of what they should be.
        if below >= level * total * (1.0 - 1e-9) {
            return Some(*value);
        }
    }
    values.last().map(|(value, _)| *value)
}

/// Half-widths of a matmul kernel of a type that was not measured, borrowed from an alike kernel
/// and from another: every type of the calibration is left out in turn, and its kernels are
/// predicted by the others. The largest typical error counts, as there are never many types.
pub(crate) fn borrowed_half_widths(
    calibration: &Calibration,
    cases: &[&Case],
    phase: Phase,
) -> [f64; 2] {
    let regime = match phase {
        Phase::Prefill => Regime::ManyRows,
        Phase::Decode => Regime::OneRow,
    };
    let mut rows: BTreeMap<KernelClass, Vec<&Row>> = BTreeMap::new();
    for row in cases.iter().flat_map(|case| &case.rows) {
        if row.cost.class.regime == regime && row.cost.class.matmul.is_some() {
            rows.entry(row.cost.class).or_default().push(row);
        }
    }
    let mut largest = [f64::NAN; 2];
    for (class, rows) in &rows {
        let Some((is_near, typical)) = borrowed_error(calibration, class, rows) else { continue };
        let slot = &mut largest[usize::from(!is_near)];
        *slot = slot.max(typical);
    }
    let or_unknown = |index: usize| match largest[index] {
        value if value.is_nan() => UNKNOWN_BORROWED[index],
        value => value.max(LEAST_BORROWED),
    };
    // What is borrowed from afar is no better than what is borrowed from near.
    [or_unknown(0), or_unknown(1).max(or_unknown(0))]
}

/// Whether the relative of a class is an alike kernel, and the median absolute log error of the
/// class's rows when they are predicted by it.
fn borrowed_error(
    calibration: &Calibration,
    class: &KernelClass,
    rows: &[&Row],
) -> Option<(bool, f64)> {
    let (wanted, _) = class.matmul?;
    let mut without = calibration.clone();
    without.terms.retain(|term| {
        let class = KernelClass::from_key(&term.class);
        class.and_then(|class| class.matmul).is_none_or(|(t, _)| t != wanted)
    });
    let predictor = Predictor::new(&without).ok()?;
    let error = |row: &&Row| {
        let (seconds, _) = predictor.operation_or_relative(&row.cost)?;
        Some((seconds / row.seconds).ln().abs())
    };
    let typical = median(&rows.iter().filter_map(error).collect::<Vec<_>>())?;
    Some((predictor.has_alike(class)?, typical))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn residual(group: &str, log: f64, stretch: f64) -> Residual<'_> {
        Residual { phase: Phase::Decode, group, log, of_measures: vec![log], stretch }
    }

    #[test]
    fn each_group_weighs_the_same() {
        // Nine small residuals of one model, one large of another: half of the weight each.
        let mut residuals: Vec<Residual<'_>> = (0..9).map(|_| residual("a", 0.05, 0.0)).collect();
        residuals.push(residual("b", -0.3, 0.0));
        let fit = interval(Phase::Decode, &residuals, [0.4, 1.5]).unwrap();
        assert_eq!((fit.half_width, fit.n_groups), (0.3, 2));
        assert!(interval(Phase::Prefill, &residuals, [0.4, 1.5]).is_none());
    }

    #[test]
    fn the_measures_of_a_case_share_its_weight() {
        // The median of all is met; of four measures one is far off. Weights: 1 and 4 × 0.25.
        let of_measures = vec![0.5, 0.03, 0.03, 0.03];
        let noisy = Residual { of_measures, ..residual("a", 0.0, 0.0) };
        let others: Vec<Residual<'_>> = (0..39).map(|_| residual("b", 0.01, 0.0)).collect();
        // 0.9 · 41/40 of the weight of two: 1 below 0.01, 1.75 below 0.03.
        let all: Vec<Residual<'_>> = others.into_iter().chain([noisy]).collect();
        assert_eq!(interval(Phase::Decode, &all, [0.4, 1.5]).unwrap().half_width, 0.5);
        assert_eq!(
            weighted_quantile(vec![(0.01, 1.0), (0.03, 0.75), (0.5, 0.25)], 0.85),
            Some(0.03)
        );
    }

    #[test]
    fn nine_of_ten_lie_inside() {
        let values = (1..=20).map(|i| (f64::from(i), 1.0)).collect();
        assert_eq!(weighted_quantile(values, 0.9), Some(18.0));
        assert_eq!(weighted_quantile(vec![], 0.9), None);
    }

    #[test]
    fn residuals_far_outside_count_by_their_own_stretch() {
        // √(1² + 0.75²) = 1.25
        let residuals: Vec<Residual<'_>> = (0..10).map(|_| residual("a", 0.5, 0.75)).collect();
        let fit = interval(Phase::Decode, &residuals, [0.4, 1.5]).unwrap();
        assert!((fit.half_width - 0.4).abs() < 1e-12);
    }

    #[test]
    fn intervals_are_never_narrower_than_two_percent() {
        let residuals: Vec<Residual<'_>> = (0..30).map(|_| residual("a", 1e-6, 0.0)).collect();
        assert_eq!(interval(Phase::Decode, &residuals, [0.4, 1.5]).unwrap().half_width, 0.02);
    }
}
