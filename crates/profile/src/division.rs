//! How the time of a block that no span divides does divide, by microbenchmarks of its parts.

use foretoken_spec::{BlockPart, BlockSplit, KernelOp, Pass, Slice, TensorRole};

/// What a part of a block takes of its time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share {
    pub(crate) op: KernelOp,
    pub(crate) role: Option<TensorRole>,
    /// Of 1.
    pub(crate) share: f64,
}

/// Shares of the parts of a slice's block in a pass, in the order in which they run; they sum to 1.
///
/// Only splits of the same block and layer count, and of the same kind of pass: one token, or many.
/// Times are interpolated linearly in `kv_len`, as each part grows, and then divided by their sum;
/// beyond the ends the nearest split holds. `None` without such a split.
pub(crate) fn shares(splits: &[BlockSplit], slice: &Slice, pass: Pass) -> Option<Vec<Share>> {
    let layer = slice.layer?;
    let usable = || {
        splits
            .iter()
            .filter(|s| s.block == slice.op && s.layers.contains(&layer))
            .filter(|s| (s.n_tokens == 1) == (pass.n_tokens == 1))
            .filter(|s| is_usable(&s.parts))
    };
    let below = usable().filter(|s| s.kv_len <= pass.kv_len).max_by_key(|s| s.kv_len);
    let above = usable().filter(|s| s.kv_len >= pass.kv_len).min_by_key(|s| s.kv_len);
    let parts = match (below, above) {
        (Some(below), Some(above)) if above.kv_len > below.kv_len => {
            let steps = f64::from(above.kv_len - below.kv_len);
            let weight = f64::from(pass.kv_len - below.kv_len) / steps;
            between(&below.parts, &above.parts, weight)
        }
        (Some(only), _) | (None, Some(only)) => only.parts.clone(),
        (None, None) => return None,
    };
    let sum: f64 = parts.iter().map(|part| part.ns).sum();
    let share = |BlockPart { op, role, ns }| Share { op, role, share: ns / sum };
    Some(parts.into_iter().map(share).collect())
}

fn is_usable(parts: &[BlockPart]) -> bool {
    parts.iter().all(|part| part.ns.is_finite() && part.ns >= 0.0)
        && parts.iter().map(|part| part.ns).sum::<f64>() > 0.0
}

/// Times between two splits; a part that one of them lacks takes none there.
fn between(low: &[BlockPart], high: &[BlockPart], weight: f64) -> Vec<BlockPart> {
    let of = |parts: &[BlockPart], part: &BlockPart| {
        let same = parts.iter().find(|p| (p.op, p.role) == (part.op, part.role));
        same.map_or(0.0, |part| part.ns)
    };
    let is_new = |part: &&BlockPart| {
        !high.iter().any(|other| (other.op, other.role) == (part.op, part.role))
    };
    high.iter()
        .chain(low.iter().filter(is_new))
        .map(|part| BlockPart {
            ns: of(low, part) * (1.0 - weight) + of(high, part) * weight,
            ..*part
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::attention_split as split;

    fn slice(op: KernelOp, layer: u32) -> Slice {
        Slice { op, role: None, layer: Some(layer), start_ns: 0, ns: 1 }
    }

    fn attention(splits: &[BlockSplit], n_tokens: u32, kv_len: u32) -> Option<Vec<Share>> {
        shares(splits, &slice(KernelOp::Attention, 0), Pass { n_tokens, kv_len })
    }

    fn fractions(splits: &[BlockSplit], n_tokens: u32, kv_len: u32) -> Vec<f64> {
        attention(splits, n_tokens, kv_len).unwrap().iter().map(|part| part.share).collect()
    }

    #[test]
    fn times_between_two_steps_are_interpolated() {
        let splits = [
            split(1, 300, [60.0, 90.0, 30.0, 20.0]),
            split(512, 0, [1.0, 1.0, 1.0, 1.0]),
            split(1, 100, [20.0, 30.0, 10.0, 40.0]),
        ];
        // Half way: 40, 60, 20 and 30 of 150.
        let expected = [40.0 / 150.0, 60.0 / 150.0, 20.0 / 150.0, 30.0 / 150.0];
        for (found, expected) in fractions(&splits, 1, 200).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        }
        assert_eq!(fractions(&splits, 1, 100), [0.2, 0.3, 0.1, 0.4]);
        let ops: Vec<KernelOp> =
            attention(&splits, 1, 200).unwrap().iter().map(|part| part.op).collect();
        assert_eq!((ops[0], ops[3]), (KernelOp::KvConcat, KernelOp::AttentionValues));
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
        assert_eq!(attention(&splits[..1], 512, 0), None);
    }

    #[test]
    fn a_split_is_for_its_block_and_its_layers_alone() {
        let splits = [split(1, 64, [1.0, 1.0, 1.0, 1.0])];
        let pass = Pass { n_tokens: 1, kv_len: 64 };
        assert!(shares(&splits, &slice(KernelOp::Attention, 0), pass).is_some());
        assert_eq!(shares(&splits, &slice(KernelOp::Attention, 32), pass), None);
        assert_eq!(shares(&splits, &slice(KernelOp::AttentionBlock, 0), pass), None);
        let of_no_layer = Slice { layer: None, ..slice(KernelOp::Attention, 0) };
        assert_eq!(shares(&splits, &of_no_layer, pass), None);
    }

    #[test]
    fn a_part_that_one_split_lacks_grows_from_nothing() {
        // A prompt of one token: nothing to join the cache to.
        let mut first = split(1, 0, [0.0, 3.0, 1.0, 4.0]);
        first.parts.remove(0);
        let splits = [first, split(1, 2, [8.0, 3.0, 1.0, 4.0])];
        // At 1: 4, 3, 1 and 4 of 12.
        let expected = [4.0 / 12.0, 3.0 / 12.0, 1.0 / 12.0, 4.0 / 12.0];
        for (found, expected) in fractions(&splits, 1, 1).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        }
        assert_eq!(fractions(&splits, 1, 0), [3.0 / 8.0, 1.0 / 8.0, 0.5]);
    }

    #[test]
    fn splits_without_usable_times_do_not_count() {
        let splits = [
            split(1, 10, [0.0; 4]),
            split(1, 10, [f64::NAN, 1.0, 1.0, 1.0]),
            split(1, 90, [1.0, 1.0, 1.0, 1.0]),
        ];
        assert_eq!(fractions(&splits, 1, 10), [0.25; 4]);
        assert_eq!(attention(&splits[..2], 1, 10), None);
    }
}
