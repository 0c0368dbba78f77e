//! The order of loads: rounds of fresh loads, shuffled within each round.

use foretoken_stats::SplitMix64;

use crate::LoadPlan;

/// Puts the loads in rounds by [`LoadPlan::load`] and shuffles each round by `seed`.
///
/// A session that is cut short has then measured each configuration about equally often, and no
/// configuration always follows the same neighbour.
pub fn interleave(mut plans: Vec<LoadPlan>, seed: u64) -> Vec<LoadPlan> {
    let mut random = SplitMix64::new(seed);
    random.shuffle(&mut plans);
    plans.sort_by_key(|plan| plan.load);
    plans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::tests::tiny;

    fn names(seed: u64) -> Vec<(String, u32)> {
        let plans = (0..2)
            .flat_map(|load| {
                (0..6).map(move |i| LoadPlan {
                    model: tiny(&format!("m{i}")),
                    load,
                    workloads: Vec::new(),
                })
            })
            .collect();
        interleave(plans, seed).into_iter().map(|p| (p.model.name, p.load)).collect()
    }

    #[test]
    fn rounds_come_in_order_and_are_shuffled_by_the_seed() {
        let order = names(1);
        assert!(order[..6].iter().all(|(_, load)| *load == 0));
        assert!(order[6..].iter().all(|(_, load)| *load == 1));
        assert_eq!(order, names(1));
        assert_ne!(order, names(2));
        let mut first: Vec<_> = order[..6].iter().map(|(name, _)| name.clone()).collect();
        first.sort();
        assert_eq!(first, ["m0", "m1", "m2", "m3", "m4", "m5"]);
    }
}
