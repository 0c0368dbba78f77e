//! Energy of the phases: the meter is read before and after them, never within.

use foretoken_meter::{Mark, MeterInfo, Sampler};
use foretoken_spec::{EnergySample, EnergySpan};

use crate::Engine;

/// A running meter, as a measurement needs it.
pub trait EnergyMeter {
    /// What it is.
    fn info(&self) -> &MeterInfo;

    /// Power of the machine while nothing ran, where it was measured.
    fn idle_w(&self) -> Option<f64>;

    /// Energy until now; `None` where it does not answer.
    fn mark(&self) -> Option<Mark>;

    /// Why it first failed to answer, where it did.
    fn failure(&self) -> Option<String>;
}

impl EnergyMeter for Sampler {
    fn info(&self) -> &MeterInfo {
        self.info()
    }

    fn idle_w(&self) -> Option<f64> {
        self.idle_w()
    }

    fn mark(&self) -> Option<Mark> {
        self.mark()
    }

    fn failure(&self) -> Option<String> {
        self.failure()
    }
}

/// Reads the engine's meter; `None` without one.
pub(crate) fn mark(engine: &dyn Engine) -> Option<Mark> {
    engine.energy()?.mark()
}

/// Energy of several passes, each between two marks.
#[derive(Debug, Default)]
pub(crate) struct EnergySum {
    joules: f64,
    seconds: f64,
    passes: u32,
    spans: u32,
    /// Whether a pass had no energy: the others do not stand for it.
    has_gap: bool,
}

impl EnergySum {
    /// Adds what was spent between two marks, in so many passes.
    pub(crate) fn add(&mut self, before: Option<Mark>, after: Option<Mark>, passes: u32) {
        match before.zip(after).and_then(|(before, after)| before.until(&after)) {
            Some(span) => {
                self.joules += span.joules;
                self.seconds += span.seconds;
                self.passes += passes;
                self.spans += 1;
            }
            None => self.has_gap = true,
        }
    }

    /// The sum; `None` of nothing, and where a pass is missing in it.
    pub(crate) fn span(&self) -> Option<EnergySpan> {
        let ns = (self.seconds * 1e9).round() as u64;
        let is_whole = self.passes > 0 && !self.has_gap;
        let Self { joules, passes, spans, .. } = *self;
        is_whole.then_some(EnergySpan { joules, ns, passes, spans })
    }
}

/// Energy between two marks around one load.
pub(crate) fn load_span(before: Option<Mark>, after: Option<Mark>) -> Option<EnergySpan> {
    let mut sum = EnergySum::default();
    sum.add(before, after, 1);
    sum.span()
}

/// What a measurement says of energy; `None` without a meter.
pub(crate) fn sample(
    engine: &dyn Engine,
    load: Option<EnergySpan>,
    prefill: &EnergySum,
    decode: &EnergySum,
) -> Option<EnergySample> {
    let meter = engine.energy()?;
    let info = meter.info();
    Some(EnergySample {
        source: info.source.name().to_owned(),
        meter: info.name.clone(),
        shortest_span_ns: u64::try_from(info.shortest_span().as_nanos()).unwrap_or(u64::MAX),
        idle_w: meter.idle_w(),
        load,
        prefill: prefill.span(),
        decode: decode.span(),
    })
}

/// The warning about a meter that did not answer throughout.
pub(crate) fn warning(engine: &dyn Engine, sample: Option<&EnergySample>) -> Option<String> {
    let sample = sample?;
    let failure = engine.energy()?.failure()?;
    let is_missing = sample.load.is_none() || sample.prefill.is_none() && sample.decode.is_none();
    is_missing.then(|| {
        format!("the energy meter `{}` stopped answering ({failure}); times stand", sample.source)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn mark(seconds: u64, joules: f64) -> Option<Mark> {
        Some(Mark { at: Duration::from_secs(seconds), joules, lost: Duration::ZERO })
    }

    #[test]
    fn passes_add_up_without_what_lies_between() {
        let mut sum = EnergySum::default();
        sum.add(mark(0, 0.0), mark(2, 10.0), 1);
        // 100 J in between are not the passes'.
        sum.add(mark(5, 110.0), mark(6, 114.0), 1);
        let expected = EnergySpan { joules: 14.0, ns: 3_000_000_000, passes: 2, spans: 2 };
        assert_eq!(sum.span(), Some(expected));
    }

    #[test]
    fn a_pass_without_energy_leaves_the_phase_without() {
        let mut sum = EnergySum::default();
        sum.add(mark(0, 0.0), mark(2, 10.0), 1);
        sum.add(mark(2, 10.0), None, 1);
        assert_eq!(sum.span(), None);
        assert_eq!(EnergySum::default().span(), None);
    }
}
