//! What the probes cost: pairs of probed and unprobed passes to a fraction with its interval.

use foretoken_spec::{Overhead, OverheadReport, PhasePairs, Timeline};
use foretoken_stats::{SplitMix64, median, quantile};

const RESAMPLES: usize = 2000;

/// The cost in both phases, beside the share of the run's time that was allowed.
pub(crate) fn overhead(timeline: &Timeline, budget: f64) -> OverheadReport {
    let of = |pairs: &PhasePairs, every: u32| cost(pairs, timeline.ns_per_event, every);
    OverheadReport {
        // The run's only pass over the prompt is probed.
        prefill: of(&timeline.pairs.prefill, 1),
        decode: of(&timeline.pairs.decode, timeline.sampled_every),
        budget,
        sampled_every: timeline.sampled_every,
        ns_per_event: timeline.ns_per_event,
    }
}

/// `None` with fewer than two pairs, which have no spread.
fn cost(phase: &PhasePairs, ns_per_event: f64, sampled_every: u32) -> Option<Overhead> {
    let ratios: Vec<f64> =
        phase.pairs.iter().map(|pair| pair.probed_ns / pair.unprobed_ns - 1.0).collect();
    if ratios.len() < 2 {
        return None;
    }
    let unprobed: Vec<f64> = phase.pairs.iter().map(|pair| pair.unprobed_ns).collect();
    let fraction = median(&ratios)?;
    let (lower, upper) = interval_of_median(&ratios)?;
    Some(Overhead {
        fraction,
        lower,
        upper,
        pairs: u32::try_from(ratios.len()).unwrap_or(u32::MAX),
        n_tokens: phase.n_tokens,
        events: phase.events,
        computed: f64::from(phase.events) * ns_per_event / median(&unprobed)?,
        run: fraction / f64::from(sampled_every.max(1)),
    })
}

/// 95 % percentile bootstrap of the median.
fn interval_of_median(values: &[f64]) -> Option<(f64, f64)> {
    let mut random = SplitMix64::new(1);
    let mut resample = vec![0.0; values.len()];
    let mut medians = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        resample.iter_mut().for_each(|slot| *slot = values[random.below(values.len())]);
        medians.push(median(&resample)?);
    }
    Some((quantile(&medians, 0.025)?, quantile(&medians, 0.975)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretoken_spec::OverheadPair;

    fn pairs(ratios: &[f64]) -> PhasePairs {
        let pair = |ratio: &f64| OverheadPair { probed_ns: 1e6 * ratio, unprobed_ns: 1e6 };
        PhasePairs { n_tokens: 1, events: 100, pairs: ratios.iter().map(pair).collect() }
    }

    #[test]
    fn a_cost_by_hand() {
        let cost = cost(&pairs(&[1.01, 1.01, 1.03, 0.99, 1.01]), 25.0, 4).unwrap();
        assert!((cost.fraction - 0.01).abs() < 1e-12);
        assert!((cost.run - 0.0025).abs() < 1e-12);
        // 100 events of 25 ns in a pass of 1 ms.
        assert!((cost.computed - 0.0025).abs() < 1e-12);
        assert!(cost.lower <= cost.fraction && cost.fraction <= cost.upper);
    }

    #[test]
    fn one_pair_says_nothing() {
        assert_eq!(cost(&pairs(&[1.0]), 25.0, 2), None);
    }
}
