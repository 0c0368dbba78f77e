//! The predictor: coefficients of a calibration applied to the operations of a pass.

use std::collections::BTreeMap;

use foretoken_cost::{EngineProfile, Feature, KernelClass, OpCost, pass_cost, sampling_cost};
use foretoken_spec::{Calibration, Estimate, ModelSpec, Pass, Phase, Tier};

/// Why a prediction is refused: nothing anchors it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// No kernel of this kind was measured, nor one that could stand in.
    #[error(
        "calibration `{calibration}` has no measurement of kernel `{class}`; \
         run `foretoken calibrate --quant {quant}` to add it"
    )]
    NoAnchor {
        /// Id of the calibration.
        calibration: String,
        /// Key of the class.
        class: String,
        /// Quantization to calibrate.
        quant: String,
    },
    /// A class or feature of the calibration is not known to this version.
    #[error(
        "calibration `{calibration}` names `{name}`, which this version does not know; \
         calibrate again"
    )]
    UnknownTerm {
        /// Id of the calibration.
        calibration: String,
        /// What is not known.
        name: String,
    },
}

/// Time of one kind of operation in one pass.
#[derive(Debug, Clone, PartialEq)]
pub struct OpSeconds {
    /// The operation and its features.
    pub cost: OpCost,
    /// Predicted time, after the phase correction.
    pub seconds: f64,
    /// Part of `seconds` that is fixed per call.
    pub overhead_seconds: f64,
    /// Class whose coefficients were used.
    pub class: KernelClass,
    /// Whether that class is the operation's own or stands in for it.
    pub tier: Tier,
}

/// Time of one pass.
#[derive(Debug, Clone, PartialEq)]
pub struct PassPrediction {
    /// The pass.
    pub pass: Pass,
    /// Its time in seconds, after the phase correction.
    pub seconds: f64,
    /// Time by operation; the sum is `seconds` less the overhead of the correction.
    pub ops: Vec<OpSeconds>,
    /// Worst tier of the operations.
    pub tier: Tier,
}

/// A calibration ready to answer.
#[derive(Debug, Clone)]
pub struct Predictor<'a> {
    calibration: &'a Calibration,
    engine: EngineProfile,
    terms: BTreeMap<KernelClass, Vec<(Feature, f64)>>,
}

/// Factor on the interval's half-width when a kernel is borrowed from another quantization.
const SIBLING_WIDENING: f64 = 2.0;
/// Least half-width (log space) when a kernel is borrowed.
const SIBLING_HALF_WIDTH: f64 = 0.3;
/// Half-width (log space) where cross-validation had too few models to tell.
const UNKNOWN_HALF_WIDTH: f64 = 0.7;

impl<'a> Predictor<'a> {
    /// Reads the terms of a calibration.
    ///
    /// # Errors
    /// A class or feature that this version does not know.
    pub fn new(calibration: &'a Calibration) -> Result<Self, PredictError> {
        let unknown = |name: &str| PredictError::UnknownTerm {
            calibration: calibration.id.clone(),
            name: name.to_owned(),
        };
        let mut terms = BTreeMap::new();
        for term in &calibration.terms {
            let class = KernelClass::from_key(&term.class).ok_or_else(|| unknown(&term.class))?;
            let coefficients = term
                .features
                .iter()
                .map(|f| {
                    let feature =
                        Feature::from_name(&f.feature).ok_or_else(|| unknown(&f.feature))?;
                    Ok((feature, f.coefficient))
                })
                .collect::<Result<Vec<_>, PredictError>>()?;
            terms.insert(class, coefficients);
        }
        Ok(Self { calibration, engine: EngineProfile::candle(&calibration.device), terms })
    }

    /// The calibration behind it.
    pub fn calibration(&self) -> &Calibration {
        self.calibration
    }

    /// How the calibrated engine stores and executes.
    pub fn engine(&self) -> &EngineProfile {
        &self.engine
    }

    /// Time of one forward pass.
    ///
    /// # Errors
    /// [`PredictError::NoAnchor`] where a kernel has neither a measurement nor a relative.
    pub fn pass(&self, model: &ModelSpec, pass: Pass) -> Result<PassPrediction, PredictError> {
        let (scale, overhead) = self.correction(pass.phase());
        let cost = pass_cost(model, &self.engine, pass);
        let ops = self.time_ops(cost.ops, &model.quant, scale)?;
        Ok(PassPrediction {
            pass,
            seconds: overhead + ops.iter().map(|op| op.seconds).sum::<f64>(),
            tier: ops.iter().map(|op| op.tier).max().unwrap_or(Tier::SameQuantization),
            ops,
        })
    }

    /// Time of softmax and sampling of one token.
    ///
    /// # Errors
    /// [`PredictError::NoAnchor`] where the calibration lacks either.
    pub fn sampling(&self, model: &ModelSpec) -> Result<Vec<OpSeconds>, PredictError> {
        self.time_ops(sampling_cost(model), &model.quant, 1.0)
    }

    /// `seconds` with the interval of its phase, widened by tier and by extrapolation:
    /// `stretch` is the log-distance outside the measured ranges (0 inside).
    pub fn interval(&self, phase: Phase, seconds: f64, tier: Tier, stretch: f64) -> Estimate {
        let fit = self.calibration.intervals.iter().find(|fit| fit.phase == phase);
        let (mut half_width, level) =
            fit.map_or((UNKNOWN_HALF_WIDTH, 0.9), |fit| (fit.half_width, fit.level));
        if tier >= Tier::SiblingQuantization {
            half_width = (half_width * SIBLING_WIDENING).max(SIBLING_HALF_WIDTH);
        }
        Estimate::log_interval(seconds, half_width * (1.0 + stretch), level)
    }

    /// What lies outside the measured ranges, as sentences, and the largest log-distance.
    pub fn extrapolation(&self, named_values: &[(&str, f64)]) -> (Vec<String>, f64) {
        let mut sentences = Vec::new();
        let mut stretch = 0.0f64;
        for (name, value) in named_values {
            let Some(range) = self.calibration.ranges.iter().find(|r| r.feature == *name) else {
                continue;
            };
            let (side, limit) = match value {
                v if *v < range.min => ("below", range.min),
                v if *v > range.max => ("above", range.max),
                _ => continue,
            };
            sentences.push(format!("{name} {value:.0} is {side} the measured {limit:.0}"));
            stretch = stretch.max((value.max(1.0) / limit.max(1.0)).ln().abs());
        }
        (sentences, stretch)
    }

    fn correction(&self, phase: Phase) -> (f64, f64) {
        self.calibration
            .corrections
            .iter()
            .find(|c| c.phase == phase)
            .map_or((1.0, 0.0), |c| (c.scale, c.overhead_s))
    }

    fn time_ops(
        &self,
        ops: Vec<OpCost>,
        quant: &str,
        scale: f64,
    ) -> Result<Vec<OpSeconds>, PredictError> {
        ops.into_iter()
            .map(|cost| {
                let (class, tier) =
                    self.anchor(&cost.class).ok_or_else(|| PredictError::NoAnchor {
                        calibration: self.calibration.id.clone(),
                        class: cost.class.key(),
                        quant: quant.to_owned(),
                    })?;
                let (seconds, overhead_seconds) = self.evaluate(&class, &cost);
                Ok(OpSeconds {
                    cost,
                    seconds: scale * seconds,
                    overhead_seconds: scale * overhead_seconds,
                    class,
                    tier,
                })
            })
            .collect()
    }

    fn evaluate(&self, class: &KernelClass, cost: &OpCost) -> (f64, f64) {
        let coefficients = self.terms.get(class).map_or(&[][..], Vec::as_slice);
        let mut seconds = 0.0;
        let mut overhead = 0.0;
        for (feature, value) in &cost.features {
            let coefficient =
                coefficients.iter().find(|(f, _)| f == feature).map_or(0.0, |(_, c)| *c);
            seconds += coefficient * value;
            if matches!(feature, Feature::Calls | Feature::HeadCalls) {
                overhead += coefficient * value;
            }
        }
        (seconds, overhead)
    }

    /// The class itself, or the measured relative that stands in for it: the same operation and
    /// regime, the same kernel where possible, then the nearest number of bits.
    fn anchor(&self, class: &KernelClass) -> Option<(KernelClass, Tier)> {
        if self.terms.contains_key(class) {
            return Some((*class, Tier::SameQuantization));
        }
        let (tensor_type, path) = class.matmul?;
        let bits = tensor_type.bits_per_weight();
        self.terms
            .keys()
            .filter(|known| known.op == class.op && known.regime == class.regime)
            .filter_map(|known| {
                let (known_type, known_path) = known.matmul?;
                let distance = (known_type.bits_per_weight() / bits).ln().abs();
                let penalty = if known_path == path { 0.0 } else { 10.0 };
                Some((*known, distance + penalty))
            })
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(known, _)| (known, Tier::SiblingQuantization))
    }
}
