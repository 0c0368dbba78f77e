//! From the events of one pass to self times by operation.
//!
//! Every nanosecond between the start and the end of the pass belongs to exactly one operation:
//! the one that the innermost open span stands for. So the times sum to the pass by construction.

use std::time::{Duration, Instant};

use foretoken_spec::{ModelSpec, OpKind, TensorRole, TensorType};

use crate::KernelPass;
use crate::probe::{Edge, SpanEvent, SpanKind};

/// The matmuls inside `attn`, in the order of `LayerWeights::forward_attn`.
const ATTN_ROLES: [TensorRole; 4] =
    [TensorRole::AttnQ, TensorRole::AttnK, TensorRole::AttnV, TensorRole::AttnOutput];

/// The matmuls inside `attn-mlp`, in the order of `Mlp::forward`: w1, w3, w2.
const MLP_ROLES: [TensorRole; 3] = [TensorRole::FfnGate, TensorRole::FfnUp, TensorRole::FfnDown];

/// Tensor types by layer and role, and those of the LM head.
#[derive(Debug, Clone)]
pub(crate) struct TypeTable {
    layers: Vec<Vec<(TensorRole, TensorType)>>,
    lm_head: Option<(TensorRole, TensorType)>,
}

impl TypeTable {
    pub(crate) fn new(model: &ModelSpec) -> Self {
        let mut layers = vec![Vec::new(); model.shape.n_layers as usize];
        for tensor in &model.tensors {
            let slot = tensor.layer.and_then(|layer| layers.get_mut(layer as usize));
            if let Some(slot) = slot {
                slot.push((tensor.role, tensor.tensor_type));
            }
        }
        Self { layers, lm_head: model.lm_head().map(|t| (t.role, t.tensor_type)) }
    }

    fn of_layer(&self, layer: usize, role: TensorRole) -> Option<TensorType> {
        self.layers.get(layer)?.iter().find(|(r, _)| *r == role).map(|(_, t)| *t)
    }
}

/// An open span.
struct Frame {
    kind: SpanKind,
    key: Key,
    /// Matmuls entered so far inside it.
    n_matmuls: usize,
}

/// What a time is booked under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    op: OpKind,
    role: Option<TensorRole>,
    tensor_type: Option<TensorType>,
}

impl Key {
    fn of(op: OpKind) -> Self {
        Self { op, role: None, tensor_type: None }
    }
}

/// Self times of a pass that lasted from `start` to `end`.
pub(crate) fn self_times(
    events: &[SpanEvent],
    start: Instant,
    end: Instant,
    types: &TypeTable,
) -> Vec<KernelPass> {
    let mut walk = Walk {
        types,
        stack: Vec::new(),
        totals: Vec::new(),
        seen_norm: false,
        next_attn: 0,
        next_mlp: 0,
    };
    walk.count_call(Key::of(OpKind::Host));
    let mut last = start;
    for event in events {
        if event.kind == SpanKind::Unknown {
            continue;
        }
        walk.book(event.at.saturating_duration_since(last));
        last = event.at;
        match event.edge {
            Edge::Enter => walk.enter(event.kind),
            Edge::Exit => walk.exit(),
        }
    }
    walk.book(end.saturating_duration_since(last));
    walk.totals.into_iter().map(|(_, pass)| pass).collect()
}

struct Walk<'a> {
    types: &'a TypeTable,
    stack: Vec<Frame>,
    totals: Vec<(Key, KernelPass)>,
    seen_norm: bool,
    next_attn: usize,
    next_mlp: usize,
}

impl Walk<'_> {
    /// Books time under the innermost open span.
    fn book(&mut self, duration: Duration) {
        let key = match self.stack.last() {
            None => Key::of(OpKind::Host),
            Some(frame) if frame.kind == SpanKind::Model => self.model_key(),
            Some(frame) => frame.key,
        };
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.total(key).ns += ns;
    }

    fn enter(&mut self, kind: SpanKind) {
        let key = self.key(kind);
        match kind {
            SpanKind::Model => self.count_call(Key::of(OpKind::Embedding)),
            SpanKind::Attn => self.next_attn += 1,
            SpanKind::AttnMlp => {
                self.next_mlp += 1;
                // One residual sum outside the feed-forward block per layer.
                self.count_call(Key::of(OpKind::Residual));
            }
            SpanKind::RmsNorm => self.seen_norm = true,
            _ => {}
        }
        let inside_lm_head = kind == SpanKind::QMatMul && key.op == OpKind::LmHead;
        if kind != SpanKind::Model && !inside_lm_head {
            self.count_call(key);
        }
        self.stack.push(Frame { kind, key, n_matmuls: 0 });
    }

    fn exit(&mut self) {
        self.stack.pop();
    }

    /// What a span that opens now stands for.
    fn key(&mut self, kind: SpanKind) -> Key {
        match kind {
            SpanKind::Model => self.model_key(),
            SpanKind::Attn => Key::of(OpKind::Attention),
            SpanKind::AttnRot => Key::of(OpKind::Rope),
            SpanKind::AttnMlp => Key::of(OpKind::MlpElementwise),
            SpanKind::RmsNorm => Key::of(OpKind::RmsNorm),
            SpanKind::Output => self.lm_head_key(),
            SpanKind::QMatMul => self.matmul_key(),
            SpanKind::Unknown => Key::of(OpKind::Host),
        }
    }

    /// The model's own time is the embedding until the first norm.
    fn model_key(&self) -> Key {
        Key::of(if self.seen_norm { OpKind::Residual } else { OpKind::Embedding })
    }

    fn lm_head_key(&self) -> Key {
        let (role, tensor_type) = self.types.lm_head.unzip();
        Key { op: OpKind::LmHead, role, tensor_type }
    }

    /// Which matrix a matmul multiplies by follows from its parent and its order in it.
    fn matmul_key(&mut self) -> Key {
        let lm_head = self.lm_head_key();
        let Some(parent) = self.stack.last_mut() else { return Key::of(OpKind::Matmul) };
        let index = parent.n_matmuls;
        parent.n_matmuls += 1;
        let (roles, next_layer): (&[TensorRole], usize) = match parent.kind {
            SpanKind::Attn => (&ATTN_ROLES, self.next_attn),
            SpanKind::AttnMlp => (&MLP_ROLES, self.next_mlp),
            SpanKind::Output => return lm_head,
            _ => return Key::of(OpKind::Matmul),
        };
        let role = roles.get(index).copied();
        let layer = next_layer.saturating_sub(1);
        let tensor_type = role.and_then(|role| self.types.of_layer(layer, role));
        Key { op: OpKind::Matmul, role, tensor_type }
    }

    fn count_call(&mut self, key: Key) {
        self.total(key).calls += 1;
    }

    /// The total under a key; there are about twenty, so a list is enough.
    fn total(&mut self, key: Key) -> &mut KernelPass {
        let found = self.totals.iter().position(|(k, _)| *k == key);
        let index = found.unwrap_or_else(|| {
            let Key { op, role, tensor_type } = key;
            self.totals.push((key, KernelPass { op, role, tensor_type, calls: 0, ns: 0 }));
            self.totals.len() - 1
        });
        &mut self.totals[index].1
    }
}

#[cfg(test)]
mod tests;
