//! A small seeded generator and the bootstrap of a statistic over groups.

use crate::{median, quantile};

/// SplitMix64 (Steele, Lea and Flood, 2014): deterministic, good enough to resample and shuffle.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator that always gives the same sequence for a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next_u64() % n as u64) as usize }
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// Standard deviation of `statistic` over `n_resamples` draws of groups with replacement.
///
/// `statistic` gets the indices of the drawn groups and may answer `None` for a draw that it
/// cannot use. The answer is `None` with fewer than 3 groups or 10 usable draws.
pub fn bootstrap_std_error(
    n_groups: usize,
    n_resamples: usize,
    seed: u64,
    mut statistic: impl FnMut(&[usize]) -> Option<Vec<f64>>,
) -> Option<Vec<f64>> {
    if n_groups < 3 {
        return None;
    }
    let mut random = SplitMix64::new(seed);
    let mut draws: Vec<Vec<f64>> = Vec::with_capacity(n_resamples);
    for _ in 0..n_resamples {
        let groups: Vec<usize> = (0..n_groups).map(|_| random.below(n_groups)).collect();
        draws.extend(statistic(&groups));
    }
    let n = draws.len();
    let width = draws.first()?.len();
    if n < 10 {
        return None;
    }
    Some(
        (0..width)
            .map(|i| {
                let mean = draws.iter().map(|d| d[i]).sum::<f64>() / n as f64;
                let variance =
                    draws.iter().map(|d| (d[i] - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
                variance.sqrt()
            })
            .collect(),
    )
}

/// Percentile interval that holds `level` of `statistic` over `n_resamples` draws of groups with
/// replacement: `(1 − level) / 2` of the draws lie below it, as many above.
///
/// `statistic` gets the indices of the drawn groups and may answer `None` for a draw that it
/// cannot use. The answer is `None` with fewer than 3 groups or 10 usable draws.
pub fn bootstrap_interval(
    n_groups: usize,
    n_resamples: usize,
    level: f64,
    seed: u64,
    mut statistic: impl FnMut(&[usize]) -> Option<f64>,
) -> Option<(f64, f64)> {
    if n_groups < 3 {
        return None;
    }
    let mut random = SplitMix64::new(seed);
    let draw = |_| {
        let groups: Vec<usize> = (0..n_groups).map(|_| random.below(n_groups)).collect();
        statistic(&groups)
    };
    let draws: Vec<f64> = (0..n_resamples).filter_map(draw).collect();
    if draws.len() < 10 {
        return None;
    }
    let tail = (1.0 - level) / 2.0;
    Some((quantile(&draws, tail)?, quantile(&draws, 1.0 - tail)?))
}

/// 95 % percentile interval of the median over `n_resamples` draws with replacement; `None` without
/// values.
pub fn median_interval(values: &[f64], n_resamples: usize, seed: u64) -> Option<(f64, f64)> {
    let mut random = SplitMix64::new(seed);
    let mut resample = vec![0.0; values.len()];
    let mut medians = Vec::with_capacity(n_resamples);
    for _ in 0..n_resamples {
        for slot in &mut resample {
            *slot = *values.get(random.below(values.len()))?;
        }
        medians.push(median(&resample)?);
    }
    Some((quantile(&medians, 0.025)?, quantile(&medians, 0.975)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_is_a_permutation_and_repeats_with_its_seed() {
        let shuffled = |seed| {
            let mut items: Vec<u32> = (0..50).collect();
            SplitMix64::new(seed).shuffle(&mut items);
            items
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut sorted = shuffled(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn the_standard_error_of_a_mean_is_sigma_over_root_n() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i % 10)).collect();
        let error = bootstrap_std_error(100, 2000, 7, |groups| {
            Some(vec![groups.iter().map(|&g| values[g]).sum::<f64>() / 100.0])
        })
        .unwrap()[0];
        // σ of 0..9 is 2.872, n = 100 → 0.2872; 2000 draws leave about 2 % of noise.
        assert!((error - 0.2872).abs() < 0.02, "{error}");
    }

    #[test]
    fn the_interval_of_a_median_holds_it_and_shrinks_with_more_values() {
        let width = |n: u32| {
            let values: Vec<f64> = (0..n).map(|i| f64::from(i % 11)).collect();
            let (lower, upper) = median_interval(&values, 2000, 1).unwrap();
            assert!(lower <= 5.0 && 5.0 <= upper, "{lower} … {upper}");
            upper - lower
        };
        assert!(width(11) > width(1100));
        assert_eq!(median_interval(&[3.0, 3.0], 100, 1), Some((3.0, 3.0)));
        assert_eq!(median_interval(&[], 100, 1), None);
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_a_normal_distribution() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i % 10)).collect();
        let mean = |groups: &[usize]| Some(groups.iter().map(|&g| values[g]).sum::<f64>() / 100.0);
        let (lower, upper) = bootstrap_interval(100, 4000, 0.9, 7, mean).unwrap();
        // 4.5 ± 1.645 · 0.2872.
        assert!((lower - (4.5 - 0.4725)).abs() < 0.03, "{lower}");
        assert!((upper - (4.5 + 0.4725)).abs() < 0.03, "{upper}");
        assert_eq!(bootstrap_interval(2, 100, 0.9, 1, |_| Some(1.0)), None);
        assert_eq!(bootstrap_interval(5, 100, 0.9, 1, |_| None), None);
    }

    #[test]
    fn too_few_groups_have_no_standard_error() {
        assert_eq!(bootstrap_std_error(2, 100, 1, |_| Some(vec![1.0])), None);
    }
}
