//! What the probes cost: pairs of probed and unprobed passes to a fraction with its interval.

use foretoken_spec::{Overhead, OverheadReport, Phase, PhasePairs, TimedPass, Timeline};
use foretoken_stats::{median, median_interval};

const RESAMPLES: usize = 2000;
const SEED: u64 = 1;

/// The cost in both phases, beside the share of the run's time that was allowed.
pub(crate) fn overhead(timeline: &Timeline, budget: f64) -> OverheadReport {
    let of = |pairs: &PhasePairs, phase| cost(pairs, timeline, phase);
    OverheadReport {
        prefill: of(&timeline.pairs.prefill, Phase::Prefill),
        decode: of(&timeline.pairs.decode, Phase::Decode),
        budget,
        sampled_every: timeline.sampled_every,
        ns_per_event: timeline.ns_per_event,
    }
}

/// `None` with fewer than two pairs, which have no spread.
fn cost(pairs: &PhasePairs, timeline: &Timeline, phase: Phase) -> Option<Overhead> {
    let ratios: Vec<f64> =
        pairs.pairs.iter().map(|pair| pair.probed_ns / pair.unprobed_ns - 1.0).collect();
    if ratios.len() < 2 {
        return None;
    }
    let unprobed: Vec<f64> = pairs.pairs.iter().map(|pair| pair.unprobed_ns).collect();
    let unprobed_ns = median(&unprobed)?;
    let fraction = median(&ratios)?;
    let (lower, upper) = median_interval(&ratios, RESAMPLES, SEED)?;
    Some(Overhead {
        fraction,
        lower,
        upper,
        pairs: u32::try_from(ratios.len()).unwrap_or(u32::MAX),
        n_tokens: pairs.n_tokens,
        events: pairs.events,
        computed: f64::from(pairs.events) * timeline.ns_per_event / unprobed_ns,
        run: fraction * paying(&timeline.passes, phase, pairs.n_tokens, unprobed_ns),
    })
}

/// Share of the phase's time in the run that costs as much as the pairs: only probed passes do,
/// and of a prompt that was cut for its pairs only so much as was left of it.
fn paying(passes: &[TimedPass], phase: Phase, pair_tokens: u32, pair_ns: f64) -> f64 {
    let passes: Vec<&TimedPass> = passes.iter().filter(|pass| pass.phase == phase).collect();
    let probed = passes.iter().filter(|pass| pass.sample.probed);
    let like_pairs = probed.map(|pass| {
        let is_cut = pair_tokens < pass.sample.n_tokens;
        if is_cut { (pair_ns / pass.sample.forward_ns.max(1) as f64).min(1.0) } else { 1.0 }
    });
    like_pairs.sum::<f64>() / passes.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::timeline;
    use foretoken_spec::OverheadPair;

    fn pairs(ratios: &[f64]) -> PhasePairs {
        let pair = |ratio: &f64| OverheadPair { probed_ns: 1e6 * ratio, unprobed_ns: 1e6 };
        PhasePairs { n_tokens: 1, events: 100, pairs: ratios.iter().map(pair).collect() }
    }

    #[test]
    fn a_cost_by_hand() {
        let mut timeline = timeline();
        timeline.ns_per_event = 25.0;
        let pairs = pairs(&[1.01, 1.01, 1.03, 0.99, 1.01]);
        let cost = cost(&pairs, &timeline, Phase::Decode).unwrap();
        assert!((cost.fraction - 0.01).abs() < 1e-12);
        // 100 events of 25 ns in a pass of 1 ms.
        assert!((cost.computed - 0.0025).abs() < 1e-12);
        assert!(cost.lower <= cost.fraction && cost.fraction <= cost.upper);
    }

    #[test]
    fn one_pair_says_nothing() {
        assert_eq!(cost(&pairs(&[1.0]), &timeline(), Phase::Decode), None);
    }

    #[test]
    fn only_what_was_probed_pays() {
        let mut timeline = timeline();
        let steps = |timeline: &Timeline| paying(&timeline.passes, Phase::Decode, 1, 1e6);
        for (step, pass) in timeline.passes.iter_mut().skip(1).enumerate() {
            pass.sample.probed = step == 0;
        }
        let n_steps = timeline.passes.len() - 1;
        assert!((steps(&timeline) - 1.0 / n_steps as f64).abs() < 1e-12);
        assert_eq!(paying(&[], Phase::Decode, 1, 1e6), 0.0);

        let prompt = &mut timeline.passes[0].sample;
        prompt.probed = true;
        let (n_tokens, forward_ns) = (prompt.n_tokens, prompt.forward_ns as f64);
        let prefill = |n| paying(&timeline.passes, Phase::Prefill, n, forward_ns / 8.0);
        assert_eq!(prefill(n_tokens), 1.0);
        assert!((prefill(n_tokens - 1) - 0.125).abs() < 1e-12);
    }
}
