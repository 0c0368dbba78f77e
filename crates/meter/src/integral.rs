//! Readings added up to joules.

use std::time::{Duration, Instant};

use crate::{Reading, Value};

/// Power that was not read for longer than this is not known between.
const LONGEST_GAP: Duration = Duration::from_millis(500);

/// Joules since the first reading.
///
/// Watts are integrated by trapezoids, a counter's differences are added. What could not be
/// known is counted as lost time instead of being guessed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Integral {
    last: Option<Reading>,
    pub(crate) joules: f64,
    pub(crate) lost: Duration,
}

impl Integral {
    /// When the last reading was taken.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.last.map(|reading| reading.at)
    }

    pub(crate) fn add(&mut self, reading: Reading) {
        let Some(last) = self.last.replace(reading) else { return };
        let gone = reading.at.saturating_duration_since(last.at);
        self.lost += reading.lost.saturating_sub(last.lost).min(gone);
        match (last.value, reading.value) {
            (Value::Watts(before), Value::Watts(now)) if gone <= LONGEST_GAP => {
                self.joules += 0.5 * (before + now) * gone.as_secs_f64();
            }
            // A counter catches up with whatever was not read in between.
            (Value::Joules(before), Value::Joules(now)) if now >= before => {
                self.joules += now - before;
            }
            _ => self.lost += gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(readings: &[(u64, Value)]) -> Integral {
        let begin = Instant::now();
        let mut integral = Integral::default();
        for (ms, value) in readings {
            let at = begin + Duration::from_millis(*ms);
            integral.add(Reading { at, value: *value, lost: Duration::ZERO });
        }
        integral
    }

    #[test]
    fn watts_are_integrated_by_trapezoids() {
        use Value::Watts;
        // 100 ms from 10 to 20 W, 50 ms at 20 W, uneven on purpose.
        let integral = of(&[(0, Watts(10.0)), (100, Watts(20.0)), (150, Watts(20.0))]);
        assert!((integral.joules - (1.5 + 1.0)).abs() < 1e-12);
        assert_eq!(integral.lost, Duration::ZERO);
    }

    #[test]
    fn a_dropped_sample_is_bridged_and_a_long_silence_is_lost() {
        use Value::Watts;
        let bridged = of(&[(0, Watts(10.0)), (300, Watts(10.0))]);
        assert!((bridged.joules - 3.0).abs() < 1e-12);
        let silent = of(&[(0, Watts(10.0)), (2000, Watts(10.0)), (2100, Watts(10.0))]);
        assert!((silent.joules - 1.0).abs() < 1e-12);
        assert_eq!(silent.lost, Duration::from_secs(2));
    }

    #[test]
    fn what_the_meter_itself_missed_is_lost() {
        let begin = Instant::now();
        let mut integral = Integral::default();
        for (ms, joules, lost_ms) in [(0, 0.0, 100), (1000, 9.0, 100), (2000, 18.0, 200)] {
            integral.add(Reading {
                at: begin + Duration::from_millis(ms),
                value: Value::Joules(joules),
                lost: Duration::from_millis(lost_ms),
            });
        }
        // The first 100 ms were before the first reading.
        assert_eq!((integral.joules, integral.lost), (18.0, Duration::from_millis(100)));
    }

    #[test]
    fn a_counter_catches_up_and_a_reset_one_is_lost() {
        use Value::Joules;
        let late = of(&[(0, Joules(5.0)), (60_000, Joules(605.0))]);
        assert_eq!((late.joules, late.lost), (600.0, Duration::ZERO));
        let reset = of(&[(0, Joules(5.0)), (1000, Joules(1.0)), (2000, Joules(3.0))]);
        assert_eq!((reset.joules, reset.lost), (2.0, Duration::from_secs(1)));
    }
}
