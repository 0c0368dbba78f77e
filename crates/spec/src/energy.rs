//! Energy: what a meter said while a workload ran, and what a calibration makes of it.
//!
//! Joules of a measurement are those of the meter, idle power included; answers of commands are
//! above idle, and say beside it what they are with it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Estimate, FeatureCoefficient};

/// Joules of the phases of one measurement, raw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnergySample {
    /// The interface: `rapl`, `ina3221`, `nvml`, `powermetrics` or `battery`.
    pub source: String,
    /// What is counted, as the machine names it (`package-0 + dram`).
    pub meter: String,
    /// Shortest time over which its joules mean something.
    pub shortest_span_ns: u64,
    /// Power of the machine before, while nothing ran.
    pub idle_w: Option<f64>,
    /// The load, from open to usable.
    pub load: Option<EnergySpan>,
    /// The timed passes over the prompt.
    pub prefill: Option<EnergySpan>,
    /// The timed decode steps.
    pub decode: Option<EnergySpan>,
}

/// Energy of some passes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnergySpan {
    /// Joules, idle power included.
    pub joules: f64,
    /// Time in which they were spent.
    pub ns: u64,
    /// Passes in it; 1 for a load.
    pub passes: u32,
    /// Pairs of readings of the meter between which they were spent; each has an error of its own.
    #[serde(default = "one")]
    pub spans: u32,
}

fn one() -> u32 {
    1
}

impl EnergySpan {
    /// Joules of one pass above idle; `None` without passes.
    pub fn above_idle(&self, idle_w: f64) -> Option<f64> {
        let above = self.joules - idle_w * self.ns as f64 * 1e-9;
        (self.passes > 0).then(|| above / f64::from(self.passes))
    }

    /// Joules of one pass, idle power included; `None` without passes.
    pub fn with_idle(&self) -> Option<f64> {
        (self.passes > 0).then(|| self.joules / f64::from(self.passes))
    }

    /// Mean time between a pair of readings.
    pub fn ns_each(&self) -> u64 {
        self.ns / u64::from(self.spans.max(1))
    }
}

impl EnergySample {
    /// A span that the meter could resolve. Both ends of every pair of readings are off by up to a
    /// renewal of the meter, so many short pairs are no better than one of them.
    pub fn resolved(&self, span: Option<EnergySpan>) -> Option<EnergySpan> {
        span.filter(|span| span.ns_each() >= self.shortest_span_ns)
    }
}

/// Energy as `measure` answers it, in joules above idle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeasuredEnergy {
    /// One load.
    pub load: Option<f64>,
    /// One pass over the prompt.
    pub prefill: Option<f64>,
    /// One generated token.
    pub per_token: Option<f64>,
    /// The same with the power that the machine takes anyway.
    pub with_idle: EnergyWithIdle,
    /// The meter: `rapl`, `ina3221`, `nvml`, `powermetrics` or `battery`.
    pub source: String,
    /// What it counts.
    pub meter: String,
    /// Power before, while nothing ran.
    pub idle_w: f64,
}

/// Joules with the power that the machine takes anyway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnergyWithIdle {
    /// One load.
    pub load: Option<f64>,
    /// One pass over the prompt.
    pub prefill: Option<f64>,
    /// One generated token.
    pub per_token: Option<f64>,
}

/// Energy of a pass above idle, fitted: `power · seconds + Σ joules per unit · units`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnergyFit {
    /// The meter: `rapl`, `ina3221`, `nvml`, `powermetrics` or `battery`.
    pub source: String,
    /// What it counts.
    pub meter: String,
    /// Power of the machine while nothing runs, the median over the measurements.
    pub idle_w: f64,
    /// Coefficients: of `seconds` in W, of `flop` in J/flop, of `bytes` in J/byte; none negative.
    pub features: Vec<FeatureCoefficient>,
    /// Rows of the regression.
    pub n_observations: u32,
    /// Spans that took no more than idle power and are no rows: noise left the other ones in.
    #[serde(default)]
    pub n_not_above_idle: u32,
    /// Median absolute error of held-out models, with their observed times; a fraction.
    pub held_out_mdape: Option<f64>,
    /// Half-width of the interval in log space, where the times are known.
    pub half_width: f64,
    /// Its nominal coverage.
    pub level: f64,
    /// Held-out groups behind both.
    pub n_groups: u32,
}

/// Energy of a request, in joules above idle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnergyPrediction {
    /// The whole request: prefill, and a decode step for each further token.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// `measured: ` and the meter behind the fit, or `estimated from catalogue power`.
    pub source: String,
    /// One pass over the prompt.
    #[serde(default)]
    pub prefill: Option<Estimate>,
    /// One generated token.
    #[serde(default)]
    pub per_token: Option<Estimate>,
    /// The whole request with the power that the machine takes anyway.
    #[serde(default)]
    pub with_idle: Option<Estimate>,
    /// That power.
    #[serde(default)]
    pub idle_w: Option<f64>,
    /// Whether that power is a guess from devices of its kind: no data sheet tells it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle_guessed: bool,
    /// Share of a full battery that the request takes, idle power included, where the device has
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub battery_share: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joules_of_a_pass() {
        // 4 passes, 2 s, 50 J; 10 W idle take 20 J of them.
        let span = EnergySpan { joules: 50.0, ns: 2_000_000_000, passes: 4, spans: 1 };
        assert_eq!(span.above_idle(10.0), Some(7.5));
        assert_eq!(span.with_idle(), Some(12.5));
        assert_eq!(EnergySpan { passes: 0, ..span }.above_idle(10.0), None);
    }

    #[test]
    fn short_spans_do_not_add_up_to_a_long_one() {
        // Ten prompts of 200 ms, each read on its own, with a counter that is renewed every 100 ms.
        let span = EnergySpan { joules: 50.0, ns: 2_000_000_000, passes: 10, spans: 10 };
        let sample = EnergySample {
            source: "nvml".into(),
            meter: "gpu".into(),
            shortest_span_ns: 2_000_000_000,
            idle_w: Some(4.0),
            load: None,
            prefill: Some(span),
            decode: None,
        };
        assert_eq!(sample.resolved(sample.prefill), None);
        let together = EnergySpan { spans: 1, ..span };
        assert_eq!(sample.resolved(Some(together)), Some(together));
        // Lines of earlier versions do not tell.
        let old: EnergySpan = serde_json::from_str(r#"{"joules":1.0,"ns":5,"passes":2}"#).unwrap();
        assert_eq!(old.spans, 1);
    }
}
