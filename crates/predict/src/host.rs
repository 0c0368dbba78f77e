//! A graphics device behind another processor than it was calibrated behind.
//!
//! Launching is the processor's part of a pass, and its speed was measured on one processor only.

use foretoken_spec::{Estimate, Tier};

use crate::{PassPrediction, Predictor};

/// Another processor launches in between half and twice the time: an assumption, as no pair of
/// hosts with one GPU was measured.
const LAUNCH_FACTOR: f64 = 2.0;

impl Predictor<'_> {
    /// The same GPU behind this processor: where it is not the calibrated one, predictions say so,
    /// stand on [`Tier::SameDeviceClass`], and their intervals hold launches that take half as long
    /// or twice as long; softmax and draw, which are the host's too, are not widened. Nothing changes
    /// for a calibration of a processor.
    #[must_use]
    pub fn hosted_by(mut self, host: &str) -> Self {
        let calibrated = self.calibration().device.host.as_deref();
        self.other_host = calibrated.filter(|it| *it != host).map(|_| host.to_owned());
        self
    }

    /// The prediction of a pass behind the processor that was named.
    pub(crate) fn on_host(&self, pass: PassPrediction) -> PassPrediction {
        let (Some(here), Some(there)) = (&self.other_host, &self.calibration().device.host) else {
            return pass;
        };
        let launching: f64 = pass.ops.iter().map(|op| op.overhead_seconds).sum();
        let share = if pass.seconds > 0.0 { launching / pass.seconds } else { 0.0 };
        let mut extrapolation = pass.extrapolation;
        extrapolation.push(format!(
            "launches, {:.0} % of the time, were measured with {there}, not with {here}: half or \
             twice as long is within the interval",
            100.0 * share
        ));
        PassPrediction {
            tier: pass.tier.max(Tier::SameDeviceClass),
            estimate: with_launches(&pass.estimate, share),
            extrapolation,
            ..pass
        }
    }
}

/// The interval with launches of this share of the time up to [`LAUNCH_FACTOR`] times as long. Both
/// errors are independent, so that the squares of their half-widths add (log space).
fn with_launches(estimate: &Estimate, share: f64) -> Estimate {
    let half_width = (estimate.upper / estimate.point).ln();
    let launches = (1.0 + (LAUNCH_FACTOR - 1.0) * share).ln();
    Estimate::log_interval(estimate.point, half_width.hypot(launches), estimate.level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_widen_an_interval_by_their_share() {
        let narrow = Estimate::log_interval(10.0, 0.1, 0.9);
        assert!((with_launches(&narrow, 0.0).upper - narrow.upper).abs() < 1e-9);
        // Half of the time twice as long is 1.5 times: hypot(0.1, ln 1.5) = 0.4176.
        let wide = with_launches(&narrow, 0.5);
        assert!((wide.upper / 10.0 - 0.4176_f64.exp()).abs() < 1e-3, "{wide:?}");
        assert!((wide.point - 10.0).abs() < 1e-12);
    }
}
