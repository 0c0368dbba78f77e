//! The naive methods that every error is printed beside.

use std::collections::BTreeMap;

use foretoken_cost::edgeprofiler::{EDGE_DEVICES, EdgeDevice, EdgeModel, bytes_per_weight};
use foretoken_cost::{EngineProfile, pass_cost, roofline};
use foretoken_spec::{Ceilings, ModelSpec, OpKind, Pass, Phase, TensorRole};
use foretoken_stats::median;

use crate::rows::Case;

/// What the naive methods learn from the training cases.
pub(crate) struct Baselines<'a> {
    engine: &'a EngineProfile,
    ceilings: Ceilings,
    train: &'a [&'a Case],
    efficiency: BTreeMap<Phase, f64>,
}

impl<'a> Baselines<'a> {
    pub fn new(engine: &'a EngineProfile, ceilings: Ceilings, train: &'a [&'a Case]) -> Self {
        let mut this = Self { engine, ceilings, train, efficiency: BTreeMap::new() };
        for phase in [Phase::Prefill, Phase::Decode] {
            let ratios: Vec<f64> = train
                .iter()
                .filter(|case| case.observation.phase == phase)
                .map(|case| {
                    this.roofline(&case.model, case.observation.pass) / case.observation.seconds
                })
                .collect();
            if let Some(efficiency) = median(&ratios) {
                this.efficiency.insert(phase, efficiency);
            }
        }
        this
    }

    /// Seconds that each method predicts for a pass.
    pub fn predict(&self, model: &ModelSpec, phase: Phase, pass: Pass) -> BTreeMap<String, f64> {
        let mut answers = BTreeMap::new();
        let mut put = |name: &str, seconds: Option<f64>| {
            if let Some(seconds) = seconds {
                answers.insert(name.to_owned(), seconds);
            }
        };
        let roofline = self.roofline(model, pass);
        put("roofline", Some(roofline));
        put("roofline_fixed_efficiency", self.efficiency.get(&phase).map(|e| roofline / e));
        put("nearest_model_scaled", self.nearest(model, phase, pass));
        if phase == Phase::Decode {
            let bandwidth = self.ceilings.stream_bytes_per_second;
            put("bytes_over_bandwidth", Some(streamed_bytes(model) / bandwidth));
            put("edgeprofiler", Some(self.edgeprofiler(model, pass)));
        }
        answers
    }

    /// Sum over the operations of their roofline bounds at the measured ceilings, with weights at
    /// their stored size.
    fn roofline(&self, model: &ModelSpec, pass: Pass) -> f64 {
        let cost = pass_cost(model, self.engine, pass);
        let weights: f64 = streamed_bytes(model) / self.ceilings.stream_bytes_per_second;
        let is_matmul = |op: OpKind| matches!(op, OpKind::Matmul | OpKind::LmHead);
        let matmul_flop: u64 =
            cost.ops.iter().filter(|op| is_matmul(op.op)).map(|op| op.flop).sum();
        let compute = matmul_flop as f64 / self.ceilings.matmul_flop_per_second;
        let others: f64 = cost
            .ops
            .iter()
            .filter(|op| !is_matmul(op.op))
            .map(|op| roofline(op.flop, op.bytes, &self.ceilings).seconds)
            .sum();
        weights.max(compute) + others
    }

    /// The nearest training case of the phase, scaled by bytes (decode) or FLOP (prefill).
    fn nearest(&self, model: &ModelSpec, phase: Phase, pass: Pass) -> Option<f64> {
        let size = |model: &ModelSpec, pass: Pass| match phase {
            Phase::Decode => streamed_bytes(model),
            Phase::Prefill => pass_cost(model, self.engine, pass).flop() as f64,
        };
        let wanted = size(model, pass);
        let distance = |case: &Case| {
            let tokens = |p: Pass| f64::from(p.n_tokens + p.kv_len);
            (size(&case.model, case.observation.pass) / wanted).ln().abs()
                + (tokens(case.observation.pass) / tokens(pass)).ln().abs()
                + if case.model.quant == model.quant { 0.0 } else { 1.0 }
        };
        let nearest = self
            .train
            .iter()
            .filter(|case| case.observation.phase == phase)
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
        let ratio = wanted / size(&nearest.model, nearest.observation.pass);
        Some(nearest.observation.seconds * ratio)
    }

    /// EdgeProfiler's own formula on the model's true shape, with this device's ceilings for
    /// compute and memory and the published figures of the Raspberry Pi 5 for the rest.
    fn edgeprofiler(&self, model: &ModelSpec, pass: Pass) -> f64 {
        let (_, raspberry_pi_5) = EDGE_DEVICES[1];
        let device = EdgeDevice {
            flop: self.ceilings.matmul_flop_per_second,
            memory: self.ceilings.stream_bytes_per_second,
            ..raspberry_pi_5
        };
        let tokens = f64::from(pass.kv_len + pass.n_tokens);
        EdgeModel::of(&model.shape, tokens).token(&device, bytes_per_weight(model)).end_to_end()
    }
}

/// Stored bytes of the weights that a pass streams: all but a gathered embedding.
fn streamed_bytes(model: &ModelSpec) -> f64 {
    let gathered = |role| role == TensorRole::TokenEmbedding && !model.shape.tied_embeddings;
    let streamed = model.tensors.iter().filter(|tensor| !gathered(tensor.role));
    streamed.map(|tensor| tensor.bytes()).sum::<u64>() as f64
}
