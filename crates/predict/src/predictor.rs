//! The predictor: coefficients of a calibration applied to the operations of a pass.

use std::collections::BTreeMap;

use foretoken_cost::{
    AttentionForm, Engine, EngineProfile, Feature, KernelClass, OpCost, UnknownKvType,
    attention_cost, batch_cost, sampling_cost,
};
use foretoken_spec::{Calibration, Estimate, ModelSpec, OpKind, Pass, Phase, Tier};

use crate::anchor::Anchor;
use crate::tally::{Borrowing, NOTABLE_SHARE, Tally, distance, is_notable};

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
    pub(crate) anchor: Anchor,
}

/// Time of one pass.
#[derive(Debug, Clone, PartialEq)]
pub struct PassPrediction {
    /// The pass.
    pub pass: Pass,
    /// Its time in seconds, after the phase correction.
    pub seconds: f64,
    /// Time by operation; the sum is `seconds`.
    pub ops: Vec<OpSeconds>,
    /// Worst tier of the operations.
    pub tier: Tier,
    /// Its time with the interval, in seconds.
    pub estimate: Estimate,
    /// How far it lies outside the measured ranges: the log-distance of each operation, weighted
    /// by its share of the time.
    pub stretch: f64,
    /// What lies outside the measured ranges, as sentences.
    pub extrapolation: Vec<String>,
}

/// A calibration ready to answer.
#[derive(Debug, Clone)]
pub struct Predictor<'a> {
    calibration: &'a Calibration,
    engine: EngineProfile,
    pub(crate) terms: BTreeMap<KernelClass, Vec<Coefficient>>,
    /// The processor that gives a GPU its work, where it is not the calibrated one.
    pub(crate) other_host: Option<String>,
}

/// One coefficient as a prediction needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coefficient {
    pub feature: Feature,
    pub seconds_per_unit: f64,
    /// Smallest and largest value per call that was measured.
    range: [f64; 2],
}

/// Values this much outside the measured range still count as inside.
const RANGE_TOLERANCE: f64 = 1.25;
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
                    let range = f.range;
                    Ok(Coefficient { feature, seconds_per_unit: f.coefficient, range })
                })
                .collect::<Result<Vec<_>, PredictError>>()?;
            terms.insert(class, coefficients);
        }
        let engine = EngineProfile::of(&calibration.engine, &calibration.device);
        Ok(Self { calibration, engine, terms, other_host: None })
    }

    /// The same with keys and values in the type of this name.
    ///
    /// # Errors
    /// The calibrated engine has no such cache.
    pub fn with_kv_type(self, name: &str) -> Result<Self, UnknownKvType> {
        Ok(Self { engine: self.engine.with_kv_type(name)?, ..self })
    }

    /// The calibration behind it.
    pub fn calibration(&self) -> &Calibration {
        self.calibration
    }

    /// How the calibrated engine stores and executes.
    pub fn engine(&self) -> &EngineProfile {
        &self.engine
    }

    /// Time of one operation, all its calls together, by its own kernel class; `None` where that
    /// was not measured.
    pub fn operation(&self, op: &OpCost) -> Option<f64> {
        self.terms.contains_key(&op.class).then(|| evaluate(self.coefficients(&op.class), op).0)
    }

    /// Time of one operation by its own kernel class or the relative that stands in for it, and
    /// that class; `None` where nothing does.
    pub fn operation_or_relative(&self, op: &OpCost) -> Option<(f64, KernelClass)> {
        let anchor = self.anchor(&op.class)?;
        let seconds = evaluate(self.coefficients(&anchor.class), &anchor.stand_in(op)).0;
        Some((seconds, anchor.class))
    }

    /// Whether a class that was not measured is predicted by an alike kernel (the same code for
    /// another tensor type) or by another; `None` where nothing stands in.
    pub fn has_alike(&self, class: &KernelClass) -> Option<bool> {
        Some(self.anchor(class)?.borrowing != Borrowing::Far)
    }

    /// Time of one forward pass.
    ///
    /// # Errors
    /// [`PredictError::NoAnchor`] where a kernel has neither a measurement nor a relative.
    pub fn pass(&self, model: &ModelSpec, pass: Pass) -> Result<PassPrediction, PredictError> {
        self.batch_pass(model, pass, 1)
    }

    /// Time of one forward pass over several sequences of the same length at once.
    ///
    /// # Errors
    /// As [`Predictor::pass`].
    pub fn batch_pass(
        &self,
        model: &ModelSpec,
        pass: Pass,
        batch: u32,
    ) -> Result<PassPrediction, PredictError> {
        let phase = pass.phase();
        let scale = self.correction(phase);
        let mut cost = batch_cost(model, &self.engine, pass, batch);
        let assumed = self.assume_measured_attention(model, pass, batch, &mut cost.ops);
        let ops = self.time_ops(cost.ops, &model.quant, scale)?;
        let mut tally = Tally::default();
        for op in &ops {
            let stand_in = op.anchor.stand_in(&op.cost);
            let farthest = farthest(self.coefficients(&op.class), &stand_in);
            tally.add(op.seconds, op.anchor.borrowing, farthest.map(|(_, ratio)| ratio));
        }
        let extrapolation = self.extrapolation(&ops, tally.seconds).into_iter();
        Ok(self.on_host(PassPrediction {
            pass,
            seconds: tally.seconds,
            tier: tally.tier,
            ops,
            estimate: self.interval(phase, tally.seconds, tally.stretch(), tally.borrowed()),
            stretch: tally.stretch(),
            extrapolation: extrapolation.chain(assumed).collect(),
        }))
    }

    /// Where attention of the model's form was not measured, puts that of llama's form in its
    /// place, and says so.
    fn assume_measured_attention(
        &self,
        model: &ModelSpec,
        pass: Pass,
        batch: u32,
        ops: &mut [OpCost],
    ) -> Option<String> {
        let op = ops.iter_mut().find(|op| op.op == OpKind::Attention)?;
        let form = self.measured_attention(&op.class);
        if form == op.class.attention {
            return None;
        }
        *op = attention_cost(model, &self.engine, pass, batch, form);
        let architecture = &model.shape.architecture;
        Some(format!("attention of `{architecture}` was not measured: llama's form is assumed"))
    }

    /// The form of attention that stands for this class: its own where that was measured, else
    /// llama's.
    pub(crate) fn measured_attention(&self, class: &KernelClass) -> AttentionForm {
        let wanted = (class.op, class.attention, class.regime);
        let mut known = self.terms.keys().map(|known| (known.op, known.attention, known.regime));
        if known.any(|known| known == wanted) {
            class.attention
        } else {
            AttentionForm::Materialised
        }
    }

    /// Time of softmax and sampling of one token; nothing of an engine that was timed by a
    /// program which draws none (llama-bench).
    ///
    /// # Errors
    /// [`PredictError::NoAnchor`] where the calibration lacks either.
    pub fn sampling(&self, model: &ModelSpec) -> Result<Vec<OpSeconds>, PredictError> {
        let ops = sampling_cost(model);
        let is_known = |op: &OpCost| self.terms.contains_key(&op.class);
        if self.engine.engine == Engine::LlamaCpp && !ops.iter().any(is_known) {
            return Ok(Vec::new());
        }
        self.time_ops(ops, &model.quant, 1.0)
    }

    /// The interval around a pass of this time: how far it lies outside what was measured
    /// ([`Tally::stretch`]) and the shares of borrowed kernels widen it.
    pub(crate) fn interval(
        &self,
        phase: Phase,
        seconds: f64,
        stretch: f64,
        borrowed: [f64; 2],
    ) -> Estimate {
        let fit = self.calibration.intervals.iter().find(|fit| fit.phase == phase);
        let Some(fit) = fit else {
            return Estimate::log_interval(seconds, stretched(UNKNOWN_HALF_WIDTH, stretch), 0.9);
        };
        let [near, far] = borrowed;
        let widened = stretched(fit.half_width, stretch)
            + near * fit.near_half_width
            + far * fit.far_half_width;
        Estimate::log_interval(seconds, widened, fit.level)
    }

    /// What lies far outside the measured ranges, as a sentence.
    fn extrapolation(&self, ops: &[OpSeconds], total: f64) -> Option<String> {
        let mut notable: Vec<(&OpSeconds, Feature, f64)> = Vec::new();
        for op in ops {
            let stand_in = op.anchor.stand_in(&op.cost);
            let farthest = farthest(self.coefficients(&op.class), &stand_in);
            let Some((feature, ratio)) = farthest else { continue };
            if op.seconds / total >= NOTABLE_SHARE && is_notable(ratio) {
                notable.push((op, feature, ratio));
            }
        }
        // One sentence for the most distant operation: the others follow from the same shape.
        notable.sort_by(|a, b| distance(b.2).total_cmp(&distance(a.2)));
        notable.first().map(|(op, feature, ratio)| {
            let (times, side) = if *ratio > 1.0 {
                (format!("{ratio:.1} times"), "largest")
            } else {
                (format!("1/{:.1} of", 1.0 / ratio), "smallest")
            };
            let others = match notable.len() - 1 {
                0 => String::new(),
                n => format!(" (and so on for {n} more)"),
            };
            let (op, feature) = (op.cost.name(), feature.name().replace('_', " "));
            format!("{op}: {feature} per call is {times} the {side} measured{others}")
        })
    }

    /// Factor of a phase on the sum of its operations.
    pub(crate) fn correction(&self, phase: Phase) -> f64 {
        self.calibration.corrections.iter().find(|c| c.phase == phase).map_or(1.0, |c| c.scale)
    }

    fn time_ops(
        &self,
        ops: Vec<OpCost>,
        quant: &str,
        scale: f64,
    ) -> Result<Vec<OpSeconds>, PredictError> {
        ops.into_iter()
            .map(|cost| {
                let anchor =
                    self.anchor(&cost.class).ok_or_else(|| self.no_anchor(&cost.class, quant))?;
                let (seconds, overhead_seconds) =
                    evaluate(self.coefficients(&anchor.class), &anchor.stand_in(&cost));
                Ok(OpSeconds {
                    cost,
                    seconds: scale * seconds,
                    overhead_seconds: scale * overhead_seconds,
                    class: anchor.class,
                    tier: anchor.borrowing.tier(),
                    anchor,
                })
            })
            .collect()
    }

    /// The refusal where nothing stands in for a class.
    pub(crate) fn no_anchor(&self, class: &KernelClass, quant: &str) -> PredictError {
        PredictError::NoAnchor {
            calibration: self.calibration.id.clone(),
            class: class.key(),
            quant: quant.to_owned(),
        }
    }

    /// The coefficients of a measured class.
    pub(crate) fn coefficients(&self, class: &KernelClass) -> &[Coefficient] {
        self.terms.get(class).map_or(&[][..], Vec::as_slice)
    }
}

/// A half-width in log space, stretched by how far a pass lies outside the measured ranges: every
/// factor of e outside adds an error of the same size, independent of the one inside, so that
/// their squares add.
pub fn stretched(half_width: f64, stretch: f64) -> f64 {
    half_width * 1.0_f64.hypot(stretch)
}

/// Time of an operation, and the part of it that is fixed per call.
pub(crate) fn evaluate(coefficients: &[Coefficient], cost: &OpCost) -> (f64, f64) {
    let mut seconds = 0.0;
    let mut overhead = 0.0;
    for (index, (feature, value)) in cost.features.iter().enumerate() {
        let known = coefficient(coefficients, index, *feature);
        let time = known.map_or(0.0, |c| c.seconds_per_unit * value);
        seconds += time;
        if matches!(
            feature,
            Feature::Calls | Feature::Launches | Feature::HeadCalls | Feature::ParallelCalls
        ) {
            overhead += time;
        }
    }
    (seconds, overhead)
}

/// The coefficient of a feature: as a rule in the place that the operation has it in.
pub(crate) fn coefficient(
    coefficients: &[Coefficient],
    index: usize,
    feature: Feature,
) -> Option<&Coefficient> {
    let in_place = coefficients.get(index).filter(|c| c.feature == feature);
    in_place.or_else(|| coefficients.iter().find(|c| c.feature == feature))
}

/// The feature of an operation that lies farthest outside what was measured, and its ratio to the
/// nearest end of the range.
pub(crate) fn farthest(coefficients: &[Coefficient], cost: &OpCost) -> Option<(Feature, f64)> {
    let calls = f64::from(cost.calls.max(1));
    cost.features
        .iter()
        .enumerate()
        .filter_map(|(index, (feature, value))| {
            let known = coefficient(coefficients, index, *feature)?;
            let per_call = value / calls;
            let [low, high] = known.range;
            let ratio = match per_call {
                v if v > high * RANGE_TOLERANCE && high > 0.0 => v / high,
                v if v < low / RANGE_TOLERANCE && v > 0.0 => v / low,
                _ => return None,
            };
            (known.seconds_per_unit > 0.0).then_some((*feature, ratio))
        })
        .max_by(|a, b| distance(a.1).total_cmp(&distance(b.1)))
}
