//! What the time, the interval and the tier of a pass follow from: sums over its operations.

use foretoken_spec::Tier;

/// Share of a pass from which an operation outside its range is worth a sentence.
pub(crate) const NOTABLE_SHARE: f64 = 0.02;
/// Ratio to the measured range from which it is worth one.
pub(crate) const NOTABLE_RATIO: f64 = 2.5;
/// Largest factor on the half-width by extrapolation is one more than this.
const MOST_STRETCH: f64 = 3.0;

/// Sums over the operations of a pass, or of a part of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tally {
    /// Time of the operations.
    pub seconds: f64,
    /// Worst tier of any.
    pub tier: Tier,
    /// Part of `seconds` that stands on kernels borrowed from another quantization.
    borrowed_seconds: f64,
    /// Log-distance of each operation outside what was measured, times its seconds.
    distance: f64,
    /// The longest operation that is notably far outside.
    far_seconds: f64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            seconds: 0.0,
            tier: Tier::SameQuantization,
            borrowed_seconds: 0.0,
            distance: 0.0,
            far_seconds: 0.0,
        }
    }
}

impl Tally {
    /// Counts an operation; `ratio` is how far outside its measured range it lies.
    pub fn add(&mut self, seconds: f64, tier: Tier, ratio: Option<f64>) {
        self.seconds += seconds;
        self.tier = self.tier.max(tier);
        if tier >= Tier::SiblingQuantization {
            self.borrowed_seconds += seconds;
        }
        if let Some(ratio) = ratio {
            self.distance += seconds * distance(ratio).ln();
            if is_notable(ratio) {
                self.far_seconds = self.far_seconds.max(seconds);
            }
        }
    }

    /// How far outside the measured ranges the whole is: the log-distance of each operation,
    /// weighted by its share of the time.
    pub fn stretch(&self) -> f64 {
        self.share(self.distance).min(MOST_STRETCH)
    }

    /// Share of the time that stands on borrowed kernels.
    pub fn borrowed(&self) -> f64 {
        self.share(self.borrowed_seconds)
    }

    /// Whether any operation is worth a sentence.
    pub fn extrapolates(&self) -> bool {
        self.far_seconds > 0.0 && self.share(self.far_seconds) >= NOTABLE_SHARE
    }

    fn share(&self, seconds: f64) -> f64 {
        if self.seconds > 0.0 { seconds / self.seconds } else { 0.0 }
    }
}

/// Whether a ratio to the measured range is worth a sentence.
pub(crate) fn is_notable(ratio: f64) -> bool {
    distance(ratio) >= NOTABLE_RATIO
}

/// How far a ratio is from 1, up or down: itself or its inverse, whichever is larger.
pub(crate) fn distance(ratio: f64) -> f64 {
    ratio.max(1.0 / ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_distances_by_hand() {
        let mut tally = Tally::default();
        assert_eq!((tally.stretch(), tally.borrowed(), tally.extrapolates()), (0.0, 0.0, false));
        tally.add(6.0, Tier::SameQuantization, None);
        tally.add(2.0, Tier::SiblingQuantization, Some(std::f64::consts::E));
        // As far below as the other above; twice the distance for the same time.
        tally.add(2.0, Tier::SameQuantization, Some((-2f64).exp()));
        assert_eq!(tally.seconds, 10.0);
        assert_eq!(tally.tier, Tier::SiblingQuantization);
        assert!((tally.borrowed() - 0.2).abs() < 1e-12);
        assert!((tally.stretch() - (0.2 + 0.4)).abs() < 1e-12);
        assert!(tally.extrapolates());
    }

    #[test]
    fn what_is_short_or_near_is_not_worth_a_sentence() {
        let mut tally = Tally::default();
        tally.add(99.0, Tier::SameQuantization, Some(2.4));
        tally.add(1.0, Tier::SameQuantization, Some(1e9));
        assert!(!tally.extrapolates());
        tally.add(9.0, Tier::SameQuantization, Some(0.39));
        assert!(tally.extrapolates());
    }
}
