//! The predictor: coefficients of a calibration applied to the operations of a pass.

use std::collections::BTreeMap;

use foretoken_cost::{
    AttentionForm, EngineProfile, Feature, KernelClass, KernelPath, OpCost, Regime, UnknownKvType,
    attention_cost, batch_cost, sampling_cost,
};
use foretoken_spec::{
    Calibration, Estimate, MeasuredKernel, ModelSpec, NearestKernel, OpKind, OpTerm, Pass, Phase,
    TensorType, Tier,
};

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

/// What a kernel class stands on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Anchor {
    /// Class whose coefficients are used.
    pub class: KernelClass,
    /// Whose they are.
    pub borrowing: Borrowing,
    /// Bytes of the class for one byte of the kernel: a kernel that computes more than it reads
    /// takes as long for each weight, however small it is stored.
    pub weight_bytes_factor: f64,
}

impl Anchor {
    fn own(class: KernelClass) -> Self {
        Self { class, borrowing: Borrowing::Own, weight_bytes_factor: 1.0 }
    }

    /// The operation as the class would see it.
    pub fn stand_in(&self, op: &OpCost) -> OpCost {
        if self.weight_bytes_factor == 1.0 {
            return *op;
        }
        let features = op.features.scaled(Feature::WeightBytes, self.weight_bytes_factor);
        OpCost { features, ..*op }
    }
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
        Ok(PassPrediction {
            pass,
            seconds: tally.seconds,
            tier: tally.tier,
            ops,
            estimate: self.interval(phase, tally.seconds, tally.stretch(), tally.borrowed()),
            stretch: tally.stretch(),
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

    /// The sum that the time of an operation is.
    pub(crate) fn summands(&self, phase: Phase, op: &OpSeconds) -> Vec<OpTerm> {
        // Softmax and draw are outside the forward pass that a correction is of.
        let is_forward = !matches!(op.cost.op, OpKind::Softmax | OpKind::Sampling);
        let scale = if is_forward { self.correction(phase) } else { 1.0 };
        let stand_in = op.anchor.stand_in(&op.cost);
        let coefficients = self.coefficients(&op.class);
        stand_in
            .features
            .iter()
            .enumerate()
            .map(|(index, (feature, value))| {
                let known = coefficient(coefficients, index, *feature);
                let coefficient = scale * known.map_or(0.0, |c| c.seconds_per_unit);
                OpTerm {
                    feature: feature.name().into(),
                    value: *value,
                    coefficient,
                    unit: feature.coefficient_unit().into(),
                    ms: 1e3 * coefficient * value,
                }
            })
            .collect()
    }

    /// The kernel that was measured nearest to an operation: the one whose features per call
    /// differ least, by the largest of their ratios.
    pub(crate) fn nearest(&self, op: &OpSeconds) -> Option<NearestKernel> {
        let key = op.class.key();
        let term = self.calibration.terms.iter().find(|term| term.class == key)?;
        let stand_in = op.anchor.stand_in(&op.cost);
        let calls = f64::from(stand_in.calls.max(1));
        let ratio = |kernel: &MeasuredKernel| {
            let pairs = stand_in.features.iter().zip(&kernel.features);
            pairs
                .filter(|((_, asked), known)| *asked > 0.0 && **known > 0.0)
                .map(|((_, asked), known)| distance(asked / calls / known))
                .fold(1.0, f64::max)
        };
        let nearest = term.anchors.iter().min_by(|a, b| ratio(a).total_cmp(&ratio(b)))?;
        let fitted: f64 = term
            .features
            .iter()
            .zip(&nearest.features)
            .map(|(f, value)| f.coefficient * value)
            .sum();
        Some(NearestKernel {
            model: nearest.model.clone(),
            op: nearest.op.clone(),
            pass: nearest.pass,
            ratio: ratio(nearest),
            residual: fitted / nearest.seconds - 1.0,
        })
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

    /// The class itself, or the measured relative that stands in for it: the same operation and
    /// regime, and the nearest kernel and number of bits.
    pub(crate) fn anchor(&self, class: &KernelClass) -> Option<Anchor> {
        if self.terms.contains_key(class) {
            return Some(Anchor::own(*class));
        }
        let Some(wanted) = class.matmul else {
            let other = KernelClass { beside_gemm: !class.beside_gemm, ..*class };
            let near = Anchor { borrowing: Borrowing::Near, ..Anchor::own(other) };
            return self.terms.contains_key(&other).then_some(near);
        };
        let (_, class, known) = self
            .terms
            .keys()
            .filter(|known| known.op == class.op && known.regime == class.regime)
            .filter_map(|known| {
                let matmul = known.matmul?;
                Some((unlikeness(wanted, matmul, class.regime), *known, matmul))
            })
            .min_by(|a, b| a.0.total_cmp(&b.0))?;
        let is_near = is_alike(wanted, known);
        Some(Anchor {
            class,
            borrowing: if is_near { Borrowing::Near } else { Borrowing::Far },
            weight_bytes_factor: self.weight_bytes_factor(wanted, known, &class),
        })
    }

    /// Bytes of `known` that take as long as one byte of `wanted`, in one-row kernels: where the
    /// known kernel is held up by memory, one; where it is held up by arithmetic, as many as hold
    /// the same weights, but never faster than memory.
    fn weight_bytes_factor(
        &self,
        wanted: (TensorType, KernelPath),
        known: (TensorType, KernelPath),
        class: &KernelClass,
    ) -> f64 {
        let of = |c: &&Coefficient| c.feature == Feature::WeightBytes && c.seconds_per_unit > 0.0;
        let coefficient = self.coefficients(class).iter().find(of);
        let Some(rate) = coefficient.map(|c| 1.0 / c.seconds_per_unit) else { return 1.0 };
        let peak = self.calibration.ceilings.stream_bytes_per_second;
        if class.regime == Regime::ManyRows || rate >= MEMORY_BOUND * peak {
            return 1.0;
        }
        let bytes = |(tensor_type, path)| {
            self.engine.executed_bytes(tensor_type, path, WEIGHTS_COMPARED) as f64
        };
        (bytes(known) / bytes(wanted)).max(rate / peak)
    }
}

/// A half-width in log space, stretched by how far a pass lies outside the measured ranges.
pub fn stretched(half_width: f64, stretch: f64) -> f64 {
    half_width * (1.0 + stretch)
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

/// Share of the highest streaming rate from which a kernel is held up by memory.
const MEMORY_BOUND: f64 = 0.7;
/// Whole blocks of every tensor type, to compare how many bytes they take.
const WEIGHTS_COMPARED: u64 = 1 << 16;

/// How little one matmul kernel says about another: the log-ratio of their bits, plus a penalty
/// for other blocks, where stored rows are read one by one, and for another kernel. With one row
/// both stream weights, so that tiles and stored rows are close; with many rows they are not, and
/// scalar code never is.
fn unlikeness(
    (wanted_type, wanted_path): (TensorType, KernelPath),
    (known_type, known_path): (TensorType, KernelPath),
    regime: Regime,
) -> f64 {
    let bits = (known_type.bits_per_weight() / wanted_type.bits_per_weight()).ln().abs();
    let is_row_dot = wanted_path == KernelPath::RowDot || known_path == KernelPath::RowDot;
    let same_blocks = wanted_type.block_len() == known_type.block_len();
    let blocks = match (same_blocks, is_row_dot) {
        (true, _) => 0.0,
        (false, true) => 2.0,
        (false, false) => 0.3,
    };
    let is_vector = |p| matches!(p, KernelPath::Tiled | KernelPath::Amx | KernelPath::RowDot);
    let kernel = match regime {
        _ if wanted_path == known_path => 0.0,
        Regime::OneRow if is_vector(wanted_path) && is_vector(known_path) => 0.5,
        Regime::ManyRows if is_vector(wanted_path) && is_vector(known_path) => 3.0,
        _ => 20.0,
    };
    bits + blocks + kernel
}

/// Whether two types are multiplied by the same kind of code: the same kernel and, where stored
/// rows are read one by one, the same blocks.
fn is_alike(
    (wanted_type, wanted_path): (TensorType, KernelPath),
    (known_type, known_path): (TensorType, KernelPath),
) -> bool {
    let same_blocks = wanted_type.block_len() == known_type.block_len();
    // Codebooks and ternary weights are unpacked by code of their own.
    let is_plain =
        |t: TensorType| !["IQ", "TQ", "MXFP", "NVFP"].iter().any(|p| t.name().starts_with(p));
    wanted_path == known_path
        && is_plain(wanted_type) == is_plain(known_type)
        && (same_blocks || wanted_path == KernelPath::Tiled)
}
