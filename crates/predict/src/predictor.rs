//! The predictor: coefficients of a calibration applied to the operations of a pass.

use std::collections::BTreeMap;

use foretoken_cost::{
    AttentionForm, EngineProfile, Feature, KernelClass, KernelPath, OpCost, Regime, UnknownKvType,
    attention_cost, batch_cost, sampling_cost,
};
use foretoken_spec::{Calibration, Estimate, ModelSpec, OpKind, Pass, Phase, TensorType, Tier};

use crate::tally::{NOTABLE_SHARE, Tally, distance, is_notable};

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
    /// Time by operation; the sum is `seconds`.
    pub ops: Vec<OpSeconds>,
    /// Worst tier of the operations.
    pub tier: Tier,
    /// Its time with the interval, in seconds.
    pub estimate: Estimate,
    /// What lies outside the measured ranges, as sentences.
    pub extrapolation: Vec<String>,
}

/// A calibration ready to answer.
#[derive(Debug, Clone)]
pub struct Predictor<'a> {
    calibration: &'a Calibration,
    engine: EngineProfile,
    terms: BTreeMap<KernelClass, Vec<Coefficient>>,
}

/// One coefficient as a prediction needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coefficient {
    feature: Feature,
    seconds_per_unit: f64,
    /// Smallest and largest value per call that was measured.
    range: [f64; 2],
}

/// Half-width (log space) that a pass gains by its share of kernels borrowed from another
/// quantization: such kernels differ by up to an order of magnitude.
const SIBLING_HALF_WIDTH: f64 = 0.7;
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
        let device = &calibration.device;
        let engine = EngineProfile::named(&calibration.engine.name, device)
            .unwrap_or_else(|| EngineProfile::candle(device));
        Ok(Self { calibration, engine, terms })
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
            let farthest = farthest(self.coefficients(&op.class), &op.cost);
            tally.add(op.seconds, op.tier, farthest.map(|(_, ratio)| ratio));
        }
        let extrapolation = self.extrapolation(&ops, tally.seconds).into_iter();
        Ok(PassPrediction {
            pass,
            seconds: tally.seconds,
            tier: tally.tier,
            ops,
            estimate: self.interval(phase, tally.seconds, tally.stretch(), tally.borrowed()),
            extrapolation: extrapolation.chain(assumed).collect(),
        })
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

    /// Time of softmax and sampling of one token.
    ///
    /// # Errors
    /// [`PredictError::NoAnchor`] where the calibration lacks either.
    pub fn sampling(&self, model: &ModelSpec) -> Result<Vec<OpSeconds>, PredictError> {
        self.time_ops(sampling_cost(model), &model.quant, 1.0)
    }

    /// The interval around a pass of this time: how far it lies outside what was measured
    /// ([`Tally::stretch`]) and the share of borrowed kernels widen it.
    pub(crate) fn interval(
        &self,
        phase: Phase,
        seconds: f64,
        stretch: f64,
        borrowed: f64,
    ) -> Estimate {
        let fit = self.calibration.intervals.iter().find(|fit| fit.phase == phase);
        let (half_width, level) =
            fit.map_or((UNKNOWN_HALF_WIDTH, 0.9), |fit| (fit.half_width, fit.level));
        let widened = half_width * (1.0 + stretch) + borrowed * SIBLING_HALF_WIDTH;
        Estimate::log_interval(seconds, widened, level)
    }

    /// What lies far outside the measured ranges, as a sentence.
    fn extrapolation(&self, ops: &[OpSeconds], total: f64) -> Option<String> {
        let mut notable: Vec<(&OpSeconds, Feature, f64)> = Vec::new();
        for op in ops {
            let farthest = farthest(self.coefficients(&op.class), &op.cost);
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
                let (class, tier) =
                    self.anchor(&cost.class).ok_or_else(|| self.no_anchor(&cost.class, quant))?;
                let (seconds, overhead_seconds) = evaluate(self.coefficients(&class), &cost);
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

    /// The class itself, or the measured relative that stands in for it: the same operation and
    /// regime, and the nearest kernel and number of bits.
    pub(crate) fn anchor(&self, class: &KernelClass) -> Option<(KernelClass, Tier)> {
        if self.terms.contains_key(class) {
            return Some((*class, Tier::SameQuantization));
        }
        let Some(wanted) = class.matmul else {
            let other = KernelClass { beside_gemm: !class.beside_gemm, ..*class };
            let known = self.terms.contains_key(&other);
            return known.then_some((other, Tier::SiblingQuantization));
        };
        self.terms
            .keys()
            .filter(|known| known.op == class.op && known.regime == class.regime)
            .filter_map(|known| Some((*known, unlikeness(wanted, known.matmul?, class.regime))))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(known, _)| (known, Tier::SiblingQuantization))
    }
}

/// Time of an operation, and the part of it that is fixed per call.
pub(crate) fn evaluate(coefficients: &[Coefficient], cost: &OpCost) -> (f64, f64) {
    let mut seconds = 0.0;
    let mut overhead = 0.0;
    for (index, (feature, value)) in cost.features.iter().enumerate() {
        let known = coefficient(coefficients, index, *feature);
        let time = known.map_or(0.0, |c| c.seconds_per_unit * value);
        seconds += time;
        if matches!(feature, Feature::Calls | Feature::HeadCalls | Feature::ParallelCalls) {
            overhead += time;
        }
    }
    (seconds, overhead)
}

/// The coefficient of a feature: as a rule in the place that the operation has it in.
fn coefficient(
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

/// How little one matmul kernel says about another: the log-ratio of their bits, plus a penalty
/// for another family of types and for another kernel. With one row both stream weights, so that
/// tiles and stored rows are close; with many rows they are not, and scalar code never is.
fn unlikeness(
    (wanted_type, wanted_path): (TensorType, KernelPath),
    (known_type, known_path): (TensorType, KernelPath),
    regime: Regime,
) -> f64 {
    let bits = (known_type.bits_per_weight() / wanted_type.bits_per_weight()).ln().abs();
    let is_k_quant = |t: TensorType| t.block_len() == 256;
    let family = if is_k_quant(wanted_type) == is_k_quant(known_type) { 0.0 } else { 0.3 };
    let is_vector = |p| matches!(p, KernelPath::Tiled | KernelPath::Amx | KernelPath::RowDot);
    let kernel = match regime {
        _ if wanted_path == known_path => 0.0,
        Regime::OneRow if is_vector(wanted_path) && is_vector(known_path) => 0.5,
        Regime::ManyRows if is_vector(wanted_path) && is_vector(known_path) => 3.0,
        _ => 20.0,
    };
    bits + family + kernel
}
