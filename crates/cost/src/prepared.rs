//! The operations of a model with everything worked out that no pass changes.
//!
//! [`batch_cost`](crate::batch_cost) is made of this too, so that one formula answers for one pass
//! and for a million.

use std::collections::BTreeMap;

use foretoken_spec::{
    Experts, ModelSpec, OpKind, Pass, RoleKind, TensorRole, TensorSpec, TensorType,
};

use crate::attention::AttentionLayers;
use crate::launches;
use crate::ops::{
    F32_BYTES, added_elements, elementwise, is_float_model, mlp_elements, norm_elements, product,
    rotated_elements,
};
use crate::{
    AttentionForm, Engine, EngineProfile, Feature, Features, KernelClass, OpCost, PassCost,
};

/// A model on an engine at a batch size: its passes are costed without allocation.
///
/// Nothing is rounded or approximated beside what the operations themselves say.
#[derive(Debug, Clone)]
pub struct PreparedCost {
    engine: EngineProfile,
    batch: u32,
    is_float: bool,
    before_attention: Vec<PreparedOp>,
    attention: AttentionLayers,
    form: AttentionForm,
    after_attention: Vec<PreparedOp>,
}

/// An operation that does not depend on what is cached.
#[derive(Debug, Clone)]
enum PreparedOp {
    /// Goes through `per_row` F32 numbers for each row, moving each `moves` times.
    Elementwise { op: OpKind, calls: u64, per_row: u64, moves: u64 },
    /// The same, of the last position only.
    LastPosition { op: OpKind, elements: u64, moves: u64 },
    /// Multiplies every row by matrices of the layers.
    Matmul(Matrices),
    /// Multiplies the last position.
    LmHead(Matrices),
}

impl PreparedCost {
    /// Works out what passes of `model` over `batch` sequences at once have in common.
    pub fn new(model: &ModelSpec, engine: &EngineProfile, batch: u32) -> Self {
        use PreparedOp::{Elementwise, LastPosition, LmHead, Matmul};
        let batch = batch.max(1);
        let shape = &model.shape;
        let hidden = u64::from(shape.hidden_size);
        let layers = u64::from(shape.n_layers);
        let (norms, norm_elements) = norm_elements(model);
        let (rotated, rotations) = rotated_elements(shape);
        let plain = |op, calls, per_row, moves| Elementwise { op, calls, per_row, moves };

        let mut before_attention = vec![
            plain(OpKind::Embedding, 1, hidden, 2),
            plain(OpKind::RmsNorm, norms, norm_elements, 2),
        ];
        before_attention.extend(layer_matrices(model).into_iter().map(Matmul));
        before_attention.push(plain(OpKind::Rope, 2 * rotations, rotated, 4));
        let sums = layers * hidden + added_elements(model);
        let mut after_attention = vec![
            plain(OpKind::Residual, layers, sums, 3),
            plain(OpKind::MlpElementwise, layers, mlp_elements(model), 3),
        ];
        after_attention.extend(model.lm_head().map(|head| LmHead(Matrices::of(head, 1, None))));
        let vocab = u64::from(shape.vocab_size) * u64::from(batch);
        after_attention.push(LastPosition { op: OpKind::Host, elements: vocab, moves: 2 });
        Self {
            engine: *engine,
            batch,
            // Both kinds of matmul wait in one queue on a GPU, and in one thread pool in llama.cpp.
            is_float: engine.engine == Engine::Candle
                && !engine.is_candle_on_gpu()
                && is_float_model(model),
            before_attention,
            attention: AttentionLayers::of(shape, engine),
            form: engine.attention(shape),
            after_attention,
        }
    }

    /// Calls `visit` with every operation of a pass over `n_tokens` tokens but attention: those
    /// that what is cached does not change. They are as many at any length.
    pub fn visit_all_but_attention(&self, n_tokens: u32, mut visit: impl FnMut(&OpCost)) {
        for op in self.before_attention.iter().chain(&self.after_attention) {
            visit(&self.cost(op, n_tokens));
        }
    }

    /// How the engine computes attention of this model.
    pub fn attention_form(&self) -> AttentionForm {
        self.form
    }

    /// Attention of a pass in a given form.
    pub fn attention(&self, pass: Pass, form: AttentionForm) -> OpCost {
        // A batch of single tokens attends one by one: the regime is that of a sequence.
        let class = KernelClass::attention(form, pass.n_tokens, self.is_float);
        self.attention.cost(&self.engine, pass, self.batch, class)
    }

    /// All operations of a pass.
    pub fn pass(&self, pass: Pass) -> PassCost {
        let costs = |ops: &[PreparedOp]| -> Vec<OpCost> {
            ops.iter().map(|op| self.cost(op, pass.n_tokens)).collect()
        };
        let mut ops = costs(&self.before_attention);
        ops.push(self.attention(pass, self.form));
        ops.extend(costs(&self.after_attention));
        PassCost { pass, ops }
    }

    fn cost(&self, op: &PreparedOp, n_tokens: u32) -> OpCost {
        let cost = self.cost_by_calls(op, n_tokens);
        if self.engine.is_candle_on_gpu() { launches::in_place_of_calls(cost) } else { cost }
    }

    fn cost_by_calls(&self, op: &PreparedOp, n_tokens: u32) -> OpCost {
        let rows = n_tokens.saturating_mul(self.batch);
        let class = |op| KernelClass::plain(op, rows, self.is_float);
        match op {
            PreparedOp::Elementwise { op, calls, per_row, moves } => {
                let elements = product(&[rows.into(), *per_row]);
                elementwise(class(*op), *calls, elements, *moves)
            }
            PreparedOp::LastPosition { op, elements, moves } => {
                elementwise(class(*op), 1, *elements, *moves)
            }
            PreparedOp::Matmul(matrices) => matrices.cost(&self.engine, rows),
            PreparedOp::LmHead(matrices) => {
                OpCost { op: OpKind::LmHead, ..matrices.cost(&self.engine, self.batch) }
            }
        }
    }
}

/// Weight matrices of one role, tensor type and shape.
#[derive(Debug, Clone)]
struct Matrices {
    role: TensorRole,
    tensor_type: TensorType,
    /// In- and out-features.
    k: u64,
    n: u64,
    /// How many there are, every expert's counted.
    count: u64,
    /// How rows find their experts, where each meets some of the matrices only.
    experts: Option<Experts>,
}

/// The matrices of all layers, one entry per role, tensor type and shape.
fn layer_matrices(model: &ModelSpec) -> Vec<Matrices> {
    let mut groups: BTreeMap<(TensorRole, TensorType, &[u64]), (&TensorSpec, u64)> =
        BTreeMap::new();
    for tensor in &model.tensors {
        let kind = tensor.role.kind();
        let is_matrix = tensor.layer.is_some()
            && matches!(kind, RoleKind::Matrix | RoleKind::Experts | RoleKind::Router)
            && tensor.shape.len() >= 2;
        if is_matrix {
            let key = (tensor.role, tensor.tensor_type, tensor.shape.as_slice());
            groups.entry(key).or_insert((tensor, 0)).1 += 1;
        }
    }
    let experts = model.shape.details.experts.as_ref();
    groups.into_values().map(|(tensor, calls)| Matrices::of(tensor, calls, experts)).collect()
}

impl Matrices {
    /// `calls` tensors like this one.
    fn of(tensor: &TensorSpec, calls: u64, experts: Option<&Experts>) -> Self {
        let (k, n, stacked) = match tensor.shape[..] {
            [k, n] => (k, n, 1),
            [k, n, stacked] => (k, n, stacked),
            _ => (tensor.n_elements(), 1, 1),
        };
        Self {
            role: tensor.role,
            tensor_type: tensor.tensor_type,
            k,
            n,
            count: product(&[calls, stacked]),
            experts: experts.filter(|_| tensor.role.kind() == RoleKind::Experts).cloned(),
        }
    }

    /// Multiplications of `n_rows` rows: `flop = 2 · n_rows · k · n` each, weights read once as the
    /// engine executes them.
    ///
    /// Of the matrices of experts each row meets `used` of `count`; those that any row meets are
    /// read. They are multiplied one after the other, each by its share of the rows.
    fn cost(&self, engine: &EngineProfile, n_rows: u32) -> OpCost {
        let &Self { role, tensor_type, k, n, count, .. } = self;
        // Matrices that are met, and rows that each of those met multiplies, summed over all.
        let (met, rows) = match &self.experts {
            Some(experts) => {
                let layers = count as f64 / f64::from(experts.count.max(1));
                let met = (layers * experts.active(n_rows)).round() as u64;
                let rows = layers * f64::from(experts.used) * f64::from(n_rows);
                (met.max(1), rows.round() as u64)
            }
            None => (count, product(&[count, n_rows.into()])),
        };
        let rows_each = u32::try_from(rows / met.max(1)).unwrap_or(u32::MAX).max(1);
        let path = engine.kernel(tensor_type, rows_each, k, n);
        let flop = product(&[2, rows, k, n]);
        let matrix_bytes = engine.executed_bytes(tensor_type, path, k.saturating_mul(n));
        let weight_bytes = met.saturating_mul(matrix_bytes);
        let inputs = product(&[rows, k]);
        let outputs = product(&[rows, n]);
        let calls = (Feature::Calls, met as f64);
        let weights = (Feature::WeightBytes, weight_bytes as f64);
        let input = (Feature::InputElements, inputs as f64);
        let features = if rows_each > 1 {
            Features::from([calls, (Feature::Flop, flop as f64), weights, input])
        } else {
            Features::from([calls, weights, input])
        };
        OpCost {
            op: OpKind::Matmul,
            role: Some(role),
            tensor_type: Some(tensor_type),
            class: KernelClass::matmul(tensor_type, path, rows_each),
            calls: u32::try_from(met).unwrap_or(u32::MAX),
            flop,
            bytes: weight_bytes
                .saturating_add(product(&[F32_BYTES, inputs.saturating_add(outputs)])),
            features,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::ZEN5;
    use crate::ops::tests::llama_2_7b;
    use crate::{attention_cost, batch_cost};

    #[test]
    fn what_is_visited_and_attention_are_the_pass() {
        let model = llama_2_7b(TensorType::Q4_K);
        for (batch, pass) in [
            (1, Pass { n_tokens: 1, kv_len: 100 }),
            (1, Pass { n_tokens: 512, kv_len: 0 }),
            (3, Pass { n_tokens: 7, kv_len: 2048 }),
        ] {
            let prepared = PreparedCost::new(&model, &ZEN5, batch);
            let mut visited = Vec::new();
            prepared.visit_all_but_attention(pass.n_tokens, |op| visited.push(*op));
            let (attention, others): (Vec<_>, Vec<_>) = batch_cost(&model, &ZEN5, pass, batch)
                .ops
                .into_iter()
                .partition(|op| op.op == OpKind::Attention);
            assert_eq!(visited, others);
            let form = prepared.attention_form();
            assert_eq!(attention, [prepared.attention(pass, form)]);
            assert_eq!(attention, [attention_cost(&model, &ZEN5, pass, batch, form)]);
        }
    }

    #[test]
    fn the_head_and_the_host_see_one_position_of_each_sequence() {
        let prepared = PreparedCost::new(&llama_2_7b(TensorType::Q8_0), &ZEN5, 2);
        let mut flop = (0, 0);
        prepared.visit_all_but_attention(512, |op| match op.op {
            OpKind::LmHead => flop.0 = op.flop,
            OpKind::Host => flop.1 = op.flop,
            _ => {}
        });
        assert_eq!(flop, (2 * 2 * 4096 * 32_000, 2 * 32_000));
    }
}
