//! The sizes of the effects: those that predict devices best that the fit has not seen.

use crate::domain::Sample;
use crate::kernel::Effects;

/// Rounds over all parameters.
const N_SWEEPS: usize = 3;
/// First factor by which a parameter is changed.
const FIRST_STEP: f64 = 1.6;
/// How strongly parameters are drawn back to where they begin, per squared logarithm: chosen, like
/// the parameters themselves, on devices that were kept out.
const RESTRAINT: f64 = 0.2;
/// Misses beyond so many standard deviations count no more: rows of broken setups must not set
/// the effects of all others.
const FARTHEST: f64 = 3.0;
/// Weight of the absolute error beside the density.
const ERROR_WEIGHT: f64 = 3.0;
/// Absolute errors beyond this (in logarithm) count no more.
const LARGEST_ERROR: f64 = 0.8;
/// A group counts by the root of its rows up to so many.
const MOST_ROWS: f64 = 25.0;

/// A search along one parameter at a time, deterministic.
pub(crate) fn tune(sample: &Sample) -> Effects {
    let mut best = Effects::START;
    let mut lowest = loss(sample, &best);
    let mut steps = vec![FIRST_STEP; Effects::NAMES.len()];
    for _ in 0..N_SWEEPS {
        for (i, step) in steps.iter_mut().enumerate() {
            let value = best.values()[i];
            let better = [value * *step, value / *step].into_iter().find_map(|value| {
                let other = best.with(i, value);
                let loss = loss(sample, &other);
                (loss < lowest - 1e-6).then_some((other, loss))
            });
            match better {
                Some((other, loss)) => (best, lowest) = (other, loss),
                None => *step = step.powf(0.6),
            }
        }
    }
    best
}

/// Mean over left-out groups of a clipped negative log density and a clipped error.
fn loss(sample: &Sample, effects: &Effects) -> f64 {
    let Ok(groups) = sample.left_out(effects) else { return f64::INFINITY };
    let (mut sum, mut weights) = (0.0, 0.0);
    for group in &groups {
        let n = group.rows.len() as f64;
        let mut of_group = 0.0;
        for (i, &row) in group.rows.iter().enumerate() {
            let variance = group.covariance[[i, i]].max(1e-12);
            let miss = sample.values[row] - group.mean[i];
            let clipped = (miss * miss / variance).min(FARTHEST * FARTHEST);
            of_group += 0.5 * (clipped + variance.ln());
            of_group += ERROR_WEIGHT * miss.abs().min(LARGEST_ERROR);
        }
        let weight = n.min(MOST_ROWS).sqrt();
        sum += weight * of_group / n;
        weights += weight;
    }
    let moved = effects.values().into_iter().zip(Effects::START.values());
    let restraint: f64 = moved.map(|(a, b)| (a / b).ln().powi(2)).sum();
    sum / weights + RESTRAINT * restraint
}
