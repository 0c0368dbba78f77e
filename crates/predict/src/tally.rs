//! What the time, the interval and the tier of a pass follow from: sums over its operations.

use foretoken_spec::Tier;

/// Share of a pass from which an operation outside its range is worth a sentence.
pub(crate) const NOTABLE_SHARE: f64 = 0.02;
/// Ratio to the measured range from which it is worth one.
pub(crate) const NOTABLE_RATIO: f64 = 2.5;
/// Below the measured range times stop falling, as calls have a price that the fit may not have
/// seen: a step down counts as several up.
const BELOW_WEIGHT: f64 = 3.0;

/// Whose coefficients a kernel is predicted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Borrowing {
    /// Its own.
    Own,
    /// Those of the same kernel for another tensor type.
    Near,
    /// Those of another kernel.
    Far,
}

impl Borrowing {
    /// The tier of what is predicted so.
    pub fn tier(self) -> Tier {
        match self {
            Self::Own => Tier::SameQuantization,
            Self::Near | Self::Far => Tier::SiblingQuantization,
        }
    }
}

/// Sums over the operations of a pass, or of a part of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tally {
    /// Time of the operations.
    pub seconds: f64,
    /// Worst tier of any.
    pub tier: Tier,
    /// Parts of `seconds` that stand on near and on far kernels of another quantization.
    borrowed_seconds: [f64; 2],
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
            borrowed_seconds: [0.0; 2],
            distance: 0.0,
            far_seconds: 0.0,
        }
    }
}

impl Tally {
    /// Counts an operation; `ratio` is how far outside its measured range it lies.
    pub fn add(&mut self, seconds: f64, borrowing: Borrowing, ratio: Option<f64>) {
        self.seconds += seconds;
        self.tier = self.tier.max(borrowing.tier());
        match borrowing {
            Borrowing::Own => {}
            Borrowing::Near => self.borrowed_seconds[0] += seconds,
            Borrowing::Far => self.borrowed_seconds[1] += seconds,
        }
        if let Some(ratio) = ratio {
            let weight = if ratio < 1.0 { BELOW_WEIGHT } else { 1.0 };
            self.distance += weight * seconds * distance(ratio).ln();
            if is_notable(ratio) {
                self.far_seconds = self.far_seconds.max(seconds);
            }
        }
    }

    /// How far outside the measured ranges the whole is: the log-distance of each operation,
    /// weighted by its share of the time; below the range three times.
    pub fn stretch(&self) -> f64 {
        self.share(self.distance)
    }

    /// Shares of the time that stand on near and on far kernels of another quantization.
    pub fn borrowed(&self) -> [f64; 2] {
        self.borrowed_seconds.map(|seconds| self.share(seconds))
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
        assert_eq!(
            (tally.stretch(), tally.borrowed(), tally.extrapolates()),
            (0.0, [0.0; 2], false)
        );
        tally.add(5.0, Borrowing::Own, None);
        tally.add(1.0, Borrowing::Far, None);
        tally.add(2.0, Borrowing::Near, Some(std::f64::consts::E));
        // Twice the distance for the same time, and below the range.
        tally.add(2.0, Borrowing::Own, Some((-2f64).exp()));
        assert_eq!(tally.seconds, 10.0);
        assert_eq!(tally.tier, Tier::SiblingQuantization);
        assert_eq!(tally.borrowed(), [0.2, 0.1]);
        assert!((tally.stretch() - (0.2 + 3.0 * 0.4)).abs() < 1e-12);
        assert!(tally.extrapolates());
    }

    #[test]
    fn what_is_short_or_near_is_not_worth_a_sentence() {
        let mut tally = Tally::default();
        tally.add(99.0, Borrowing::Own, Some(2.4));
        tally.add(1.0, Borrowing::Own, Some(1e9));
        assert!(!tally.extrapolates());
        tally.add(9.0, Borrowing::Own, Some(0.39));
        assert!(tally.extrapolates());
    }
}
