//! A model ready for a million predictions.
//!
//! The numbers are those of [`Predictor::batch_pass`] and [`predict`](crate::predict), by the same
//! formulas; what no pass changes is worked out once, and a prediction allocates nothing.

use std::collections::BTreeSet;

use foretoken_cost::{AttentionForm, KernelClass, OpCost, PreparedCost, Regime};
use foretoken_spec::{Estimate, ModelSpec, Pass, Tier, Workload};

use crate::anchor::Anchor;
use crate::answer::{end_to_end, with_extra_ms};
use crate::predictor::{Coefficient, evaluate, farthest};
use crate::tally::Tally;
use crate::{PredictError, Predictor};

/// Token counts at which the kernels of each operation are looked up in advance, for all that
/// engines tell apart by rows. Any other kernel is looked up when a pass meets it.
const FORESEEN_TOKENS: [u32; 5] = [1, 2, 32, 512, 4096];

/// A model, quantization and batch size on a calibrated device.
///
/// For many lengths and depths, take the tokens outside and the depths inside: what a depth
/// changes is attention alone.
///
/// ```ignore
/// let prepared = PreparedModel::new(&predictor, &model, 1)?;
/// for n_tokens in lengths {
///     let prompt = prepared.tokens(n_tokens)?;
///     for depth in depths {
///         let estimate = prompt.at(depth)?.estimate;
///     }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct PreparedModel<'a> {
    predictor: &'a Predictor<'a>,
    quant: String,
    cost: PreparedCost,
    /// Kernels of the operations but attention, in the order in which these are visited.
    kernels: Vec<Kernel<'a>>,
    /// Of a pass over one token, and over several.
    attention: [PreparedAttention<'a>; 2],
    /// A pass over one token without its attention, where every kernel of it is known.
    one_token: Option<Tally>,
    sampling_s: f64,
}

/// A kernel that an operation is known to meet.
#[derive(Debug, Clone, Copy)]
struct Kernel<'a> {
    /// Which operation, by the order in which they are visited.
    index: usize,
    class: KernelClass,
    anchor: Anchored<'a>,
}

/// What a kernel class stands on, with its coefficients at hand.
#[derive(Debug, Clone, Copy)]
struct Anchored<'a> {
    coefficients: &'a [Coefficient],
    anchor: Anchor,
}

/// Attention in one regime.
#[derive(Debug, Clone, Copy)]
struct PreparedAttention<'a> {
    form: AttentionForm,
    is_assumed: bool,
    anchor: Option<Anchored<'a>>,
}

/// Time of one pass with what it rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PassEstimate {
    /// Its time with the interval, in seconds.
    pub estimate: Estimate,
    /// Worst tier of the operations.
    pub tier: Tier,
    /// Whether anything lies outside the measured ranges; [`Predictor::pass`] says what.
    pub extrapolates: bool,
}

/// Times of one request with what they rest on, as [`predict`](crate::predict) defines them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestEstimate {
    /// One pass over the prompt.
    pub prefill_ms: Option<Estimate>,
    /// One decode step at the midpoint of the generated span.
    pub decode_ms: Option<Estimate>,
    /// Prefill, softmax and sampling of the first token.
    pub ttft_ms: Option<Estimate>,
    /// Decode step, softmax and sampling.
    pub tpot_ms: Option<Estimate>,
    /// `ttft + (generated − 1) · tpot`.
    pub e2e_ms: Option<Estimate>,
    /// Worst tier of the operations.
    pub tier: Tier,
    /// Whether anything lies outside the measured ranges; [`predict`](crate::predict) says what.
    pub extrapolates: bool,
}

impl<'a> PreparedModel<'a> {
    /// Works out what predictions of `model` over `batch` sequences at once have in common.
    ///
    /// # Errors
    /// [`PredictError::NoAnchor`] where the calibration lacks softmax or sampling.
    pub fn new(
        predictor: &'a Predictor<'a>,
        model: &ModelSpec,
        batch: u32,
    ) -> Result<Self, PredictError> {
        let cost = PreparedCost::new(model, predictor.engine(), batch);
        let sampling = predictor.sampling(model)?;
        let attention = [1, 2].map(|n_tokens| PreparedAttention::new(predictor, &cost, n_tokens));
        let mut prepared = Self {
            predictor,
            quant: model.quant.clone(),
            kernels: foreseen_kernels(predictor, &cost),
            cost,
            attention,
            one_token: None,
            sampling_s: sampling.iter().map(|op| op.seconds).sum(),
        };
        prepared.one_token = prepared.tally(1).ok();
        Ok(prepared)
    }

    /// Time of one forward pass: that of [`Predictor::batch_pass`].
    ///
    /// # Errors
    /// [`PredictError::NoAnchor`] where a kernel has neither a measurement nor a relative.
    pub fn pass(&self, pass: Pass) -> Result<PassEstimate, PredictError> {
        self.tokens(pass.n_tokens)?.at(pass.kv_len)
    }

    /// Passes over this many tokens, ready for any depth.
    ///
    /// # Errors
    /// As [`PreparedModel::pass`].
    pub fn tokens(&self, n_tokens: u32) -> Result<PreparedTokens<'_, 'a>, PredictError> {
        let others = match self.one_token {
            Some(tally) if n_tokens == 1 => tally,
            _ => self.tally(n_tokens)?,
        };
        Ok(PreparedTokens { model: self, n_tokens, others })
    }

    /// Times of one request: those of [`predict`](crate::predict).
    ///
    /// # Errors
    /// As [`PreparedModel::pass`].
    pub fn request(&self, workload: &Workload) -> Result<RequestEstimate, PredictError> {
        let prefill = workload.prefill().map(|pass| self.pass(pass)).transpose()?;
        self.request_after(prefill, workload)
    }

    fn request_after(
        &self,
        prefill: Option<PassEstimate>,
        workload: &Workload,
    ) -> Result<RequestEstimate, PredictError> {
        let decode = workload.decode_midpoint().map(|pass| self.pass(pass)).transpose()?;
        let after = |pass: Option<PassEstimate>, extra_s: f64| {
            pass.map(|pass| with_extra_ms(&pass.estimate, extra_s))
        };
        let ttft_ms = after(prefill, self.sampling_s);
        let tpot_ms = after(decode, self.sampling_s);
        let passes = || [prefill, decode].into_iter().flatten();
        Ok(RequestEstimate {
            prefill_ms: after(prefill, 0.0),
            decode_ms: after(decode, 0.0),
            ttft_ms,
            tpot_ms,
            e2e_ms: end_to_end(ttft_ms, tpot_ms, workload.generated_tokens),
            tier: passes().map(|pass| pass.tier).max().unwrap_or(Tier::SameQuantization),
            extrapolates: passes().any(|pass| pass.extrapolates),
        })
    }

    /// Sums over all operations but attention.
    fn tally(&self, n_tokens: u32) -> Result<Tally, PredictError> {
        let mut tally = Tally::default();
        let mut unknown = None;
        let mut kernels = self.kernels.iter().peekable();
        let mut index = 0;
        self.cost.visit_all_but_attention(n_tokens, |op| {
            let mut anchor = None;
            while let Some(kernel) = kernels.next_if(|kernel| kernel.index == index) {
                if kernel.class == op.class {
                    anchor = Some(kernel.anchor);
                }
            }
            match anchor.or_else(|| anchor_of(self.predictor, &op.class)) {
                Some(anchor) => anchor.add(op, &mut tally),
                None => unknown = unknown.or(Some(op.class)),
            }
            index += 1;
        });
        unknown.map_or(Ok(tally), |class| Err(self.predictor.no_anchor(&class, &self.quant)))
    }
}

/// Passes over some tokens, of which only attention is left to predict.
#[derive(Debug, Clone, Copy)]
pub struct PreparedTokens<'m, 'a> {
    model: &'m PreparedModel<'a>,
    n_tokens: u32,
    others: Tally,
}

impl PreparedTokens<'_, '_> {
    /// Time of the pass onto `kv_len` cached tokens.
    ///
    /// # Errors
    /// As [`PreparedModel::pass`].
    pub fn at(&self, kv_len: u32) -> Result<PassEstimate, PredictError> {
        let pass = Pass { n_tokens: self.n_tokens, kv_len };
        let PreparedModel { predictor, cost, quant, .. } = self.model;
        let attention = match Regime::of(self.n_tokens) {
            Regime::OneRow => &self.model.attention[0],
            Regime::ManyRows => &self.model.attention[1],
        };
        let op = cost.attention(pass, attention.form);
        let anchor = attention.anchor.ok_or_else(|| predictor.no_anchor(&op.class, quant))?;
        let mut tally = self.others;
        anchor.add(&op, &mut tally);
        let phase = pass.phase();
        let seconds = predictor.correction(phase) * tally.seconds;
        Ok(PassEstimate {
            estimate: predictor.interval(phase, seconds, tally.stretch(), tally.borrowed()),
            tier: tally.tier,
            extrapolates: attention.is_assumed || tally.extrapolates(),
        })
    }

    /// Times of a request whose prompt these tokens are, behind `depth` cached ones.
    ///
    /// # Errors
    /// As [`PreparedModel::pass`].
    pub fn request(
        &self,
        generated_tokens: u32,
        depth: u32,
    ) -> Result<RequestEstimate, PredictError> {
        let workload = Workload { prompt_tokens: self.n_tokens, generated_tokens, depth };
        let prefill = workload.prefill().map(|pass| self.at(pass.kv_len)).transpose()?;
        self.model.request_after(prefill, &workload)
    }
}

impl<'a> PreparedAttention<'a> {
    fn new(predictor: &'a Predictor<'a>, cost: &PreparedCost, n_tokens: u32) -> Self {
        let pass = Pass { n_tokens, kv_len: 0 };
        let own = cost.attention(pass, cost.attention_form()).class;
        let form = predictor.measured_attention(&own);
        let class = cost.attention(pass, form).class;
        Self { form, is_assumed: form != own.attention, anchor: anchor_of(predictor, &class) }
    }
}

impl Anchored<'_> {
    fn add(&self, op: &OpCost, tally: &mut Tally) {
        let op = self.anchor.stand_in(op);
        let (seconds, _) = evaluate(self.coefficients, &op);
        let ratio = farthest(self.coefficients, &op).map(|(_, ratio)| ratio);
        tally.add(seconds, self.anchor.borrowing, ratio);
    }
}

fn anchor_of<'a>(predictor: &'a Predictor<'a>, class: &KernelClass) -> Option<Anchored<'a>> {
    let anchor = predictor.anchor(class)?;
    Some(Anchored { coefficients: predictor.coefficients(&anchor.class), anchor })
}

/// The kernels that each operation meets at [`FORESEEN_TOKENS`].
fn foreseen_kernels<'a>(predictor: &'a Predictor<'a>, cost: &PreparedCost) -> Vec<Kernel<'a>> {
    let mut met = BTreeSet::new();
    for n_tokens in FORESEEN_TOKENS {
        let mut index = 0;
        cost.visit_all_but_attention(n_tokens, |op| {
            met.insert((index, op.class));
            index += 1;
        });
    }
    let kernel = |(index, class)| {
        let anchor = anchor_of(predictor, &class)?;
        Some(Kernel { index, class, anchor })
    };
    met.into_iter().filter_map(kernel).collect()
}
