//! What runs where in a pass: for each reader the spans in the order of its source, and what the
//! time between them is.
//!
//! A pass is a tree of spans. Its forms were read in `candle-transformers/src/models/quantized_*.rs`
//! and are those of `docs/profiler.md`.

use foretoken_cost::readers::{self, Reader, ReaderInfo};
use foretoken_spec::{KernelOp, LayerKind, ModelSpec, TensorRole, TensorType};

use crate::probe::SpanKind;

/// An operation, of which matrix or norm, in which layer.
pub(crate) type What = (KernelOp, Option<TensorRole>, Option<u32>);

/// Operations that hold several others between two spans.
const UNDIVIDED: [KernelOp; 6] = [
    KernelOp::Attention,
    KernelOp::RopeAttention,
    KernelOp::AttentionInputs,
    KernelOp::AttentionBlock,
    KernelOp::ShortConvolution,
    KernelOp::FeedForwardBlock,
];

/// A span with what its own time is: before its first child, between children, after the last.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: SpanKind,
    pub(crate) children: Vec<Node>,
    /// One more than children.
    pub(crate) gaps: Vec<What>,
    /// Where the children begin again after the last, where their number depends on the tokens.
    pub(crate) again_from: Option<usize>,
}

impl Node {
    fn leaf(kind: SpanKind, what: What) -> Self {
        Self { kind, children: Vec::new(), gaps: vec![what], again_from: None }
    }
}

/// Builds a node from what runs in it, in order.
struct Within {
    node: Node,
    layer: Option<u32>,
    /// What no child or operation was named for is this.
    rest: What,
    gap: Option<What>,
}

impl Within {
    fn new(kind: SpanKind, layer: Option<u32>) -> Self {
        let rest = (KernelOp::Uncovered, None, layer);
        let node = Node { kind, children: Vec::new(), gaps: Vec::new(), again_from: None };
        Self { node, layer, rest, gap: None }
    }

    /// What runs until the next child.
    fn then(mut self, op: KernelOp) -> Self {
        self.gap = Some((op, None, self.layer));
        self
    }

    fn child(mut self, child: Node) -> Self {
        self.node.gaps.push(self.gap.take().unwrap_or(self.rest));
        self.node.children.push(child);
        self
    }

    fn matmul(self, role: TensorRole) -> Self {
        let layer = self.layer;
        self.child(Node::leaf(SpanKind::QMatMul, (KernelOp::Matmul, Some(role), layer)))
    }

    fn norm(self, role: TensorRole) -> Self {
        let layer = self.layer;
        self.child(Node::leaf(SpanKind::RmsNorm, (KernelOp::RmsNorm, Some(role), layer)))
    }

    fn ropes(self) -> Self {
        let rope = Node::leaf(SpanKind::AttnRot, (KernelOp::Rope, None, self.layer));
        self.child(rope.clone()).child(rope)
    }

    fn end(mut self) -> Node {
        self.node.gaps.push(self.gap.take().unwrap_or(self.rest));
        self.node
    }
}

/// What the probes of a pass mean: the tree of its spans, and how matrices are stored.
#[derive(Debug, Clone)]
pub(crate) struct PassLayout {
    /// Around the span of the model.
    pub(crate) root: Node,
    /// Whether the spans tell apart every operation of the cost model.
    pub(crate) is_complete: bool,
    types: Vec<Vec<(TensorRole, TensorType)>>,
    lm_head: Option<(TensorRole, TensorType)>,
}

impl PassLayout {
    pub(crate) fn new(model: &ModelSpec) -> Self {
        let mut types = vec![Vec::new(); model.shape.n_layers as usize];
        for tensor in &model.tensors {
            let slot = tensor.layer.and_then(|layer| types.get_mut(layer as usize));
            if let Some(slot) = slot {
                slot.push((tensor.role, tensor.tensor_type));
            }
        }
        let info =
            readers::of_architecture(&model.shape.architecture).unwrap_or(&readers::READERS[0]);
        let input = Within::new(SpanKind::Unknown, None).then(KernelOp::Input);
        Self {
            root: input.child(model_node(info, model)).end(),
            // The others leave rotary embeddings, norms or matrices without a span; experts are
            // met as tokens choose.
            is_complete: info.reader == Reader::Llama && model.shape.details.experts.is_none(),
            types,
            lm_head: model.lm_head().map(|t| (t.role, t.tensor_type)),
        }
    }

    /// The blocks that no span divides, each with its layer.
    pub(crate) fn undivided(&self) -> Vec<(KernelOp, u32)> {
        fn visit(node: &Node, found: &mut Vec<(KernelOp, u32)>) {
            let blocks = node.gaps.iter().filter(|(op, ..)| UNDIVIDED.contains(op));
            found.extend(blocks.filter_map(|(op, _, layer)| Some((*op, (*layer)?))));
            node.children.iter().for_each(|child| visit(child, found));
        }
        let mut found = Vec::new();
        visit(&self.root, &mut found);
        found
    }

    /// How the matrix of an operation is stored.
    pub(crate) fn tensor_type(&self, (op, role, layer): What) -> Option<TensorType> {
        if op == KernelOp::LmHead {
            return self.lm_head.map(|(_, tensor_type)| tensor_type);
        }
        let layer = self.types.get(layer? as usize)?;
        layer.iter().find(|(of, _)| Some(*of) == role).map(|(_, tensor_type)| *tensor_type)
    }
}

fn model_node(info: &ReaderInfo, model: &ModelSpec) -> Node {
    let mut within = Within::new(SpanKind::Model, None).then(KernelOp::Embedding);
    for layer in 0..model.shape.n_layers {
        within.layer = Some(layer);
        within = match info.reader {
            Reader::Llama | Reader::Qwen3Moe => llama(within, model, layer),
            Reader::Qwen2 => qwen2(within, layer),
            Reader::Qwen3 => qwen3(within, layer),
            Reader::Gemma3 => gemma3(within, layer),
            Reader::Phi2 => phi2(within, layer),
            Reader::Phi3 => phi3(within, layer),
            Reader::Glm4 => glm4(within, layer),
            Reader::Lfm2 => lfm2(within, model, layer),
        };
    }
    within.layer = None;
    let has = |role| model.tensors.iter().any(|tensor| tensor.role == role);
    let last_norm = if has(TensorRole::OutputNorm) || !has(TensorRole::TokenEmbeddingNorm) {
        TensorRole::OutputNorm
    } else {
        TensorRole::TokenEmbeddingNorm
    };
    let role = model.lm_head().map(|tensor| tensor.role);
    let head = (KernelOp::LmHead, role, None);
    let mut output = Within::new(SpanKind::Output, None);
    output.rest = head;
    match info.reader {
        Reader::Gemma3 => output = output.norm(last_norm),
        Reader::Phi2 | Reader::Phi3 => {}
        _ => within = within.norm(last_norm),
    }
    if info.times_matmuls() {
        output = output.child(Node::leaf(SpanKind::QMatMul, head));
    }
    within.child(output.end()).end()
}

fn llama(model: Within, spec: &ModelSpec, layer: u32) -> Within {
    use TensorRole as R;
    let attn = Within::new(SpanKind::Attn, Some(layer))
        .matmul(R::AttnQ)
        .matmul(R::AttnK)
        .matmul(R::AttnV)
        .then(KernelOp::AttentionLayout)
        .ropes()
        .then(KernelOp::Attention)
        .matmul(R::AttnOutput);
    let mlp = Within::new(SpanKind::AttnMlp, Some(layer)).norm(R::FfnNorm);
    let mlp = if spec.shape.layer(layer).has_experts {
        // The experts that a token of the pass chose, one after the other.
        let mut node = mlp
            .matmul(R::FfnGateInp)
            .matmul(R::FfnGateExps)
            .matmul(R::FfnUpExps)
            .then(KernelOp::Activation)
            .matmul(R::FfnDownExps)
            .end();
        node.again_from = Some(2);
        node
    } else {
        mlp.matmul(R::FfnGate)
            .matmul(R::FfnUp)
            .then(KernelOp::Activation)
            .matmul(R::FfnDown)
            .then(KernelOp::Residual)
            .end()
    };
    model.norm(R::AttnNorm).child(attn.end()).then(KernelOp::Residual).child(mlp)
}

fn qwen2(model: Within, layer: u32) -> Within {
    let attn = Within::new(SpanKind::Attn, Some(layer))
        .then(KernelOp::AttentionInputs)
        .ropes()
        .then(KernelOp::AttentionBlock);
    let mlp = Within::new(SpanKind::AttnMlp, Some(layer))
        .norm(TensorRole::FfnNorm)
        .then(KernelOp::FeedForwardBlock);
    model.norm(TensorRole::AttnNorm).child(attn.end()).then(KernelOp::Residual).child(mlp.end())
}

fn qwen3(model: Within, layer: u32) -> Within {
    use TensorRole as R;
    let attn = Within::new(SpanKind::Attn, Some(layer))
        .matmul(R::AttnQ)
        .matmul(R::AttnK)
        .matmul(R::AttnV)
        .then(KernelOp::AttentionLayout)
        .norm(R::AttnQNorm)
        .norm(R::AttnKNorm)
        .then(KernelOp::RopeAttention)
        .matmul(R::AttnOutput);
    let mlp = Within::new(SpanKind::Mlp, Some(layer))
        .matmul(R::FfnGate)
        .then(KernelOp::Activation)
        .matmul(R::FfnUp)
        .then(KernelOp::Activation)
        .matmul(R::FfnDown);
    model
        .norm(R::AttnNorm)
        .child(attn.end())
        .then(KernelOp::Residual)
        .norm(R::FfnNorm)
        .child(mlp.end())
        .then(KernelOp::Residual)
}

fn gemma3(model: Within, layer: u32) -> Within {
    use TensorRole as R;
    let attn = Within::new(SpanKind::Attn, Some(layer))
        .matmul(R::AttnQ)
        .matmul(R::AttnK)
        .matmul(R::AttnV)
        .then(KernelOp::AttentionLayout)
        .norm(R::AttnQNorm)
        .norm(R::AttnKNorm)
        .then(KernelOp::RopeAttention)
        .matmul(R::AttnOutput);
    let mlp = Within::new(SpanKind::AttnMlp, Some(layer))
        .norm(R::FfnNorm)
        .matmul(R::FfnGate)
        .matmul(R::FfnUp)
        .then(KernelOp::Activation)
        .matmul(R::FfnDown)
        .norm(R::PostFfwNorm)
        .then(KernelOp::Residual);
    let mut model = model;
    if layer > 0 {
        // Every layer makes the mask anew.
        model.gap = Some((KernelOp::Input, None, None));
    }
    model
        .norm(R::AttnNorm)
        .child(attn.end())
        .norm(R::PostAttentionNorm)
        .then(KernelOp::Residual)
        .child(mlp.end())
}

/// Queries, keys and values in one matrix.
fn fused_attention(layer: u32) -> Node {
    Within::new(SpanKind::Attn, Some(layer))
        .matmul(TensorRole::AttnQkv)
        .then(KernelOp::AttentionLayout)
        .ropes()
        .then(KernelOp::Attention)
        .matmul(TensorRole::AttnOutput)
        .end()
}

/// Norms have no span: their time is in the residual sum before them.
fn phi2(model: Within, layer: u32) -> Within {
    model
        .child(fused_attention(layer))
        .matmul(TensorRole::FfnUp)
        .then(KernelOp::Activation)
        .matmul(TensorRole::FfnDown)
        .then(KernelOp::Residual)
}

/// Norms have no span: their time is in the residual sum before them.
fn phi3(model: Within, layer: u32) -> Within {
    model
        .child(fused_attention(layer))
        .then(KernelOp::Residual)
        .matmul(TensorRole::FfnUp)
        .then(KernelOp::Activation)
        .matmul(TensorRole::FfnDown)
        .then(KernelOp::Residual)
}

fn glm4(model: Within, layer: u32) -> Within {
    use TensorRole as R;
    let attn = Within::new(SpanKind::Attn, Some(layer))
        .matmul(R::AttnQ)
        .matmul(R::AttnK)
        .matmul(R::AttnV)
        .then(KernelOp::RopeAttention)
        .matmul(R::AttnOutput);
    model
        .norm(R::AttnNorm)
        .child(attn.end())
        .norm(R::PostAttentionNorm)
        .then(KernelOp::Residual)
        .norm(R::FfnNorm)
        .matmul(R::FfnUp)
        .then(KernelOp::Activation)
        .matmul(R::FfnDown)
        .norm(R::PostFfwNorm)
        .then(KernelOp::Residual)
}

fn lfm2(model: Within, spec: &ModelSpec, layer: u32) -> Within {
    use TensorRole as R;
    let model = model.norm(R::AttnNorm);
    let model = if spec.shape.layer(layer).kind == LayerKind::Attention {
        let attn = Within::new(SpanKind::Attn, Some(layer))
            .then(KernelOp::AttentionInputs)
            .norm(R::AttnQNorm)
            .norm(R::AttnKNorm)
            .ropes()
            .then(KernelOp::AttentionBlock);
        model.child(attn.end()).then(KernelOp::Residual)
    } else {
        model.then(KernelOp::ShortConvolution)
    };
    let ffn = Within::new(SpanKind::Ffn, Some(layer)).then(KernelOp::FeedForwardBlock);
    model.norm(R::FfnNorm).child(ffn.end())
}

#[cfg(test)]
mod tests;
