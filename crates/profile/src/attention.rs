//! How the time of attention divides, by microbenchmarks of its parts.

use foretoken_spec::{AttentionSplit, KernelOp};

/// The parts in the order in which they run.
const PARTS: [KernelOp; 4] = [
    KernelOp::KvConcat,
    KernelOp::AttentionScores,
    KernelOp::AttentionSoftmax,
    KernelOp::AttentionValues,
];

/// Shares of the parts of attention in a pass, in the order in which they run; they sum to 1.
///
/// Only splits of the same kind of pass count: one token, or many. Times are interpolated
/// linearly in `kv_len`, as each part grows, and then divided by their sum; beyond the ends the
/// nearest split holds. `None` without a split of the kind.
pub(crate) fn shares(
    splits: &[AttentionSplit],
    n_tokens: u32,
    kv_len: u32,
) -> Option<[(KernelOp, f64); 4]> {
    let usable = || {
        splits.iter().filter(|s| (s.n_tokens == 1) == (n_tokens == 1)).filter(|s| {
            let ns = parts_ns(s);
            ns.iter().all(|ns| ns.is_finite() && *ns >= 0.0) && ns.iter().sum::<f64>() > 0.0
        })
    };
    let below = usable().filter(|s| s.kv_len <= kv_len).max_by_key(|s| s.kv_len);
    let above = usable().filter(|s| s.kv_len >= kv_len).min_by_key(|s| s.kv_len);
    let ns = match (below, above) {
        (Some(below), Some(above)) if above.kv_len > below.kv_len => {
            let weight = f64::from(kv_len - below.kv_len) / f64::from(above.kv_len - below.kv_len);
            let (low, high) = (parts_ns(below), parts_ns(above));
            std::array::from_fn(|i| low[i] * (1.0 - weight) + high[i] * weight)
        }
        (Some(only), _) | (None, Some(only)) => parts_ns(only),
        (None, None) => return None,
    };
    let sum: f64 = ns.iter().sum();
    Some(std::array::from_fn(|i| (PARTS[i], ns[i] / sum)))
}

fn parts_ns(split: &AttentionSplit) -> [f64; 4] {
    [split.kv_concat_ns, split.scores_ns, split.softmax_ns, split.values_ns]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(n_tokens: u32, kv_len: u32, ns: [f64; 4]) -> AttentionSplit {
        let [kv_concat_ns, scores_ns, softmax_ns, values_ns] = ns;
        AttentionSplit { n_tokens, kv_len, kv_concat_ns, scores_ns, softmax_ns, values_ns }
    }

    fn fractions(splits: &[AttentionSplit], n_tokens: u32, kv_len: u32) -> [f64; 4] {
        shares(splits, n_tokens, kv_len).unwrap().map(|(_, share)| share)
    }

    #[test]
    fn times_are_interpolated_and_then_shared() {
        let splits = [
            split(1, 300, [60.0, 90.0, 30.0, 20.0]),
            split(512, 0, [1.0, 1.0, 1.0, 1.0]),
            split(1, 100, [20.0, 30.0, 10.0, 40.0]),
        ];
        // Half way: 40, 60, 20, 30 of 150.
        let expected = [40.0 / 150.0, 60.0 / 150.0, 20.0 / 150.0, 30.0 / 150.0];
        for (found, expected) in fractions(&splits, 1, 200).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert_eq!(fractions(&splits, 1, 100), [0.2, 0.3, 0.1, 0.4]);
        let ops = shares(&splits, 1, 200).unwrap().map(|(op, _)| op);
        assert_eq!(ops, PARTS);
    }

    #[test]
    fn beyond_the_ends_the_nearest_split_holds() {
        let splits = [split(1, 100, [2.0, 3.0, 1.0, 4.0]), split(1, 200, [5.0, 5.0, 0.0, 0.0])];
        assert_eq!(fractions(&splits, 1, 7), [0.2, 0.3, 0.1, 0.4]);
        assert_eq!(fractions(&splits, 1, 9999), [0.5, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn a_pass_over_many_tokens_has_splits_of_its_own() {
        let splits = [split(1, 64, [1.0, 0.0, 0.0, 0.0]), split(512, 0, [0.0, 0.0, 0.0, 8.0])];
        assert_eq!(fractions(&splits, 64, 0), [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(shares(&splits[..1], 512, 0), None);
        assert_eq!(shares(&[], 1, 1), None);
    }

    #[test]
    fn splits_without_usable_times_do_not_count() {
        let splits = [
            split(1, 10, [0.0; 4]),
            split(1, 10, [f64::NAN, 1.0, 1.0, 1.0]),
            split(1, 90, [1.0, 1.0, 1.0, 1.0]),
        ];
        assert_eq!(fractions(&splits, 1, 10), [0.25; 4]);
        assert_eq!(shares(&splits[..2], 1, 10), None);
    }
}
