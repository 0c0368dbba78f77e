//! From the events of one pass to what ran when, and to self times by operation.
//!
//! Every nanosecond between the start and the end of the pass belongs to exactly one operation:
//! the innermost open span, and within `attn`, `attn-mlp` and `model` the place between the
//! spans inside, because the reader's source fixes what runs there. So the times sum to the pass
//! by construction.

use std::time::Instant;

use foretoken_spec::{KernelOp, ModelSpec, OpKind, Slice, TensorRole, TensorType};

use crate::KernelPass;
use crate::probe::{Edge, SpanEvent, SpanKind};

/// The matmuls inside `attn`, in the order of `LayerWeights::forward_attn`.
const ATTN_ROLES: [TensorRole; 4] =
    [TensorRole::AttnQ, TensorRole::AttnK, TensorRole::AttnV, TensorRole::AttnOutput];

/// The matmuls inside `attn-mlp`, in the order of `Mlp::forward`: w1, w3, w2.
const MLP_ROLES: [TensorRole; 3] = [TensorRole::FfnGate, TensorRole::FfnUp, TensorRole::FfnDown];

/// Rotary embeddings of a layer: queries and keys.
const ROPES: usize = 2;

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

    fn of(&self, slice: &Slice) -> Option<TensorType> {
        if slice.op == KernelOp::LmHead {
            return self.lm_head.map(|(_, tensor_type)| tensor_type);
        }
        let layer = self.layers.get(slice.layer? as usize)?;
        layer.iter().find(|(role, _)| Some(*role) == slice.role).map(|(_, t)| *t)
    }
}

/// What the probes saw of one pass.
#[derive(Debug, Clone)]
pub(crate) struct PassEvents {
    pub(crate) events: Vec<SpanEvent>,
    pub(crate) start: Instant,
    /// Where the copy of the logits begins.
    pub(crate) copy_start: Instant,
    pub(crate) end: Instant,
}

impl PassEvents {
    /// What ran when. Slices follow each other without a gap.
    pub(crate) fn slices(&self, types: &TypeTable) -> Vec<Slice> {
        let mut slices: Vec<Slice> = Vec::new();
        for Leaf { slice, .. } in leaves(self, types) {
            match slices.last_mut() {
                Some(last) if is_same(last, &slice) => last.ns += slice.ns,
                _ if slice.ns == 0 => {}
                _ => slices.push(slice),
            }
        }
        slices
    }

    /// Self times by operation, matrices by role and type.
    pub(crate) fn self_times(&self, types: &TypeTable) -> Vec<KernelPass> {
        let mut totals: Vec<KernelPass> = Vec::new();
        for Leaf { slice, kind, is_call } in leaves(self, types) {
            let is_matmul = matches!(kind, OpKind::Matmul | OpKind::LmHead);
            let role = slice.role.filter(|_| is_matmul);
            let tensor_type = if is_matmul { types.of(&slice) } else { None };
            let found = totals
                .iter()
                .position(|t| t.op == kind && t.role == role && t.tensor_type == tensor_type);
            let index = found.unwrap_or_else(|| {
                totals.push(KernelPass { op: kind, role, tensor_type, calls: 0, ns: 0 });
                totals.len() - 1
            });
            totals[index].ns += slice.ns;
            totals[index].calls += u32::from(is_call);
        }
        totals
    }
}

fn is_same(a: &Slice, b: &Slice) -> bool {
    a.op == b.op && a.role == b.role && a.layer == b.layer
}

/// A slice with the coarser operation that the cost model books it under.
struct Leaf {
    slice: Slice,
    kind: OpKind,
    /// Whether it stands for a call of that operation, and is not a rest of one.
    is_call: bool,
}

/// An open span.
struct Frame {
    kind: SpanKind,
    /// Matmuls entered so far inside it.
    n_matmuls: usize,
    /// Rotary embeddings entered so far inside it.
    n_ropes: usize,
    /// The span that closed last inside it.
    last_child: Option<SpanKind>,
    /// What its own time is, for a span that has no spans of interest inside.
    own: Option<(KernelOp, Option<TensorRole>)>,
}

fn leaves(pass: &PassEvents, types: &TypeTable) -> Vec<Leaf> {
    let mut walk = Walk {
        types,
        start: pass.start,
        stack: Vec::new(),
        leaves: Vec::with_capacity(2 * pass.events.len() + 2),
        next_attn: 0,
        seen_norm: false,
        seen_model: false,
    };
    let mut last = pass.start;
    for event in &pass.events {
        if event.kind == SpanKind::Unknown {
            continue;
        }
        walk.book(last, event.at);
        last = event.at;
        match event.edge {
            Edge::Enter => walk.enter(event.kind),
            Edge::Exit => walk.exit(),
        }
    }
    walk.book(last, pass.copy_start);
    let copy = KernelOp::LogitsCopy;
    walk.push((copy, None, None), OpKind::Host, false, (pass.copy_start.max(last), pass.end));
    walk.leaves
}

struct Walk<'a> {
    types: &'a TypeTable,
    start: Instant,
    stack: Vec<Frame>,
    leaves: Vec<Leaf>,
    /// Layers whose attention has begun.
    next_attn: u32,
    seen_norm: bool,
    seen_model: bool,
}

impl Walk<'_> {
    /// Books the time between two events under what ran there.
    fn book(&mut self, from: Instant, to: Instant) {
        let layer = self.next_attn.checked_sub(1);
        let Some(frame) = self.stack.last() else {
            let op = if self.seen_model { KernelOp::Uncovered } else { KernelOp::Input };
            self.push((op, None, None), OpKind::Host, !self.seen_model, (from, to));
            return;
        };
        let (what, kind, is_call) = match frame.kind {
            SpanKind::Model => self.in_model(frame.last_child, layer),
            SpanKind::Attn => {
                let op = in_attn(frame);
                ((op, None, layer), OpKind::Attention, op == KernelOp::Attention)
            }
            SpanKind::AttnMlp => {
                let op = in_mlp(frame);
                ((op, None, layer), OpKind::MlpElementwise, op == KernelOp::Activation)
            }
            SpanKind::AttnRot => ((KernelOp::Rope, None, layer), OpKind::Rope, true),
            SpanKind::RmsNorm => {
                let role = frame.own.and_then(|(_, role)| role);
                let layer = match role {
                    Some(TensorRole::AttnNorm) => Some(self.next_attn),
                    Some(TensorRole::OutputNorm) => None,
                    _ => layer,
                };
                ((KernelOp::RmsNorm, role, layer), OpKind::RmsNorm, true)
            }
            SpanKind::Output | SpanKind::QMatMul => {
                let (op, role) = frame.own.unwrap_or((KernelOp::Matmul, None));
                let is_head = op == KernelOp::LmHead;
                let kind = if is_head { OpKind::LmHead } else { OpKind::Matmul };
                let layer = if is_head { None } else { layer };
                // The head is a span around its matmul: one call, entered where the span is.
                let is_call =
                    !is_head || (frame.kind == SpanKind::Output && frame.last_child.is_none());
                ((op, role, layer), kind, is_call)
            }
            SpanKind::Unknown => ((KernelOp::Uncovered, None, None), OpKind::Host, false),
        };
        self.push(what, kind, is_call, (from, to));
    }

    /// The model's own time is the embedding until the first norm, and a residual sum after each
    /// attention.
    fn in_model(
        &self,
        last_child: Option<SpanKind>,
        layer: Option<u32>,
    ) -> ((KernelOp, Option<TensorRole>, Option<u32>), OpKind, bool) {
        if !self.seen_norm {
            return ((KernelOp::Embedding, None, None), OpKind::Embedding, true);
        }
        if last_child == Some(SpanKind::Attn) {
            return ((KernelOp::Residual, None, layer), OpKind::Residual, true);
        }
        ((KernelOp::Uncovered, None, None), OpKind::Residual, false)
    }

    fn push(
        &mut self,
        (op, role, layer): (KernelOp, Option<TensorRole>, Option<u32>),
        kind: OpKind,
        is_call: bool,
        (from, to): (Instant, Instant),
    ) {
        let start_ns = nanos(self.start, from);
        let slice = Slice { op, role, layer, start_ns, ns: nanos(from, to) };
        self.leaves.push(Leaf { slice, kind, is_call });
    }

    fn enter(&mut self, kind: SpanKind) {
        let own = match kind {
            SpanKind::Model => {
                self.seen_model = true;
                None
            }
            SpanKind::Attn => {
                self.next_attn += 1;
                None
            }
            SpanKind::RmsNorm => {
                self.seen_norm = true;
                Some((KernelOp::RmsNorm, Some(self.norm_role())))
            }
            SpanKind::Output => Some(self.lm_head()),
            SpanKind::QMatMul => Some(self.matmul()),
            SpanKind::AttnRot => {
                if let Some(parent) = self.stack.last_mut() {
                    parent.n_ropes += 1;
                }
                None
            }
            SpanKind::AttnMlp | SpanKind::Unknown => None,
        };
        self.stack.push(Frame { kind, n_matmuls: 0, n_ropes: 0, last_child: None, own });
    }

    fn exit(&mut self) {
        let closed = self.stack.pop();
        if let (Some(closed), Some(parent)) = (closed, self.stack.last_mut()) {
            parent.last_child = Some(closed.kind);
        }
    }

    /// Which norm opens now: inside `attn-mlp` the block's, outside the next layer's or the last.
    fn norm_role(&self) -> TensorRole {
        match self.stack.last().map(|frame| frame.kind) {
            Some(SpanKind::AttnMlp) => TensorRole::FfnNorm,
            _ if (self.next_attn as usize) < self.types.layers.len() => TensorRole::AttnNorm,
            _ => TensorRole::OutputNorm,
        }
    }

    fn lm_head(&self) -> (KernelOp, Option<TensorRole>) {
        (KernelOp::LmHead, self.types.lm_head.map(|(role, _)| role))
    }

    /// Which matrix a matmul multiplies by follows from its parent and its order in it.
    fn matmul(&mut self) -> (KernelOp, Option<TensorRole>) {
        let head = self.lm_head();
        let Some(parent) = self.stack.last_mut() else { return (KernelOp::Matmul, None) };
        let index = parent.n_matmuls;
        parent.n_matmuls += 1;
        let roles: &[TensorRole] = match parent.kind {
            SpanKind::Attn => &ATTN_ROLES,
            SpanKind::AttnMlp => &MLP_ROLES,
            SpanKind::Output => return head,
            _ => &[],
        };
        (KernelOp::Matmul, roles.get(index).copied())
    }
}

/// What runs between the spans of `attn`: after q, k and v their layout by head, after both
/// rotary embeddings everything up to the output projection.
fn in_attn(frame: &Frame) -> KernelOp {
    let before_output = frame.n_matmuls + 1 == ATTN_ROLES.len();
    match frame.n_ropes {
        0 if before_output => KernelOp::AttentionLayout,
        ROPES if before_output => KernelOp::Attention,
        _ => KernelOp::Uncovered,
    }
}

/// What runs between the spans of `attn-mlp`: after gate and up the activation and their product,
/// after down the residual sum.
fn in_mlp(frame: &Frame) -> KernelOp {
    const GATE_AND_UP: usize = MLP_ROLES.len() - 1;
    const ALL: usize = MLP_ROLES.len();
    match frame.n_matmuls {
        GATE_AND_UP => KernelOp::Activation,
        ALL => KernelOp::Residual,
        _ => KernelOp::Uncovered,
    }
}

fn nanos(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
