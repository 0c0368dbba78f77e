//! Medians and quantiles.

/// Median; `None` of an empty sample.
pub fn median(samples: &[f64]) -> Option<f64> {
    quantile(samples, 0.5)
}

/// Quantile `q` in `[0, 1]` by linear interpolation between order statistics (type 7 of
/// Hyndman and Fan, 1996, the default of R and NumPy).
pub fn quantile(samples: &[f64], q: f64) -> Option<f64> {
    if samples.is_empty() {
        return None;
    }
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = position.ceil() as usize;
    let weight = position - below as f64;
    Some(sorted[below] * (1.0 - weight) + sorted[above] * weight)
}

/// Median absolute deviation from the median, unscaled.
pub fn mad(samples: &[f64]) -> Option<f64> {
    let centre = median(samples)?;
    median(&samples.iter().map(|x| (x - centre).abs()).collect::<Vec<_>>())
}

/// `|a − b| / ((a + b) / 2)` of the medians of the samples at even and at odd positions;
/// `None` with fewer than two samples.
pub fn half_split_difference(samples: &[f64]) -> Option<f64> {
    let even: Vec<f64> = samples.iter().copied().step_by(2).collect();
    let odd: Vec<f64> = samples.iter().copied().skip(1).step_by(2).collect();
    let (a, b) = (median(&even)?, median(&odd)?);
    let mean = (a + b) / 2.0;
    (mean > 0.0).then(|| (a - b).abs() / mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_between_order_statistics() {
        let samples = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(median(&samples), Some(2.5));
        assert_eq!(quantile(&samples, 0.0), Some(1.0));
        assert_eq!(quantile(&samples, 1.0), Some(4.0));
        assert!((quantile(&samples, 0.9).unwrap() - 3.7).abs() < 1e-12);
    }

    #[test]
    fn empty_samples_have_no_median() {
        assert_eq!(median(&[]), None);
        assert_eq!(mad(&[]), None);
        assert_eq!(half_split_difference(&[1.0]), None);
    }

    #[test]
    fn mad_ignores_one_outlier() {
        assert_eq!(mad(&[1.0, 2.0, 3.0, 4.0, 1000.0]), Some(1.0));
    }

    #[test]
    fn halves_are_alternate_loads() {
        // even: 10, 10; odd: 12, 12 → |10 − 12| / 11
        assert!(
            (half_split_difference(&[10.0, 12.0, 10.0, 12.0]).unwrap() - 2.0 / 11.0).abs() < 1e-12
        );
    }
}
