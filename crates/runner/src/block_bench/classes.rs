//! Layers whose blocks are alike: the same tensors in the same types and shapes, the same heads.

use foretoken_spec::{KernelOp, ModelSpec, TensorRole, TensorSpec};

/// One kind of block, and the layers in which it is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) block: KernelOp,
    /// In ascending order, at least one.
    pub(super) layers: Vec<u32>,
}

impl Class {
    /// The tensors of the block in a layer, biases included.
    pub(super) fn tensors<'a>(
        &self,
        model: &'a ModelSpec,
        layer: u32,
    ) -> impl Iterator<Item = &'a TensorSpec> {
        let roles = roles(self.block);
        let is_its = move |t: &&TensorSpec| t.layer == Some(layer) && roles.contains(&t.role);
        model.tensors.iter().filter(is_its)
    }

    /// Whether a layer's block is like the first one's.
    fn holds(&self, model: &ModelSpec, block: KernelOp, layer: u32) -> bool {
        let first = self.layers[0];
        let heads = |layer| {
            let view = model.shape.layer(layer);
            (view.n_heads, view.n_kv_heads, view.head_dim)
        };
        let of = |layer| self.tensors(model, layer).map(|t| (t.role, t.tensor_type, &t.shape));
        block == self.block && heads(layer) == heads(first) && of(layer).eq(of(first))
    }
}

/// What is multiplied by or added in a block.
fn roles(block: KernelOp) -> &'static [TensorRole] {
    use TensorRole as R;
    match block {
        KernelOp::AttentionInputs => {
            &[R::AttnQ, R::AttnK, R::AttnV, R::AttnQBias, R::AttnKBias, R::AttnVBias]
        }
        KernelOp::RopeAttention => &[R::AttnQBias, R::AttnKBias, R::AttnVBias],
        KernelOp::AttentionBlock => &[R::AttnOutput],
        KernelOp::FeedForwardBlock => &[R::FfnGate, R::FfnUp, R::FfnDown],
        KernelOp::ShortConvolution => &[R::ShortconvIn, R::ShortconvConv, R::ShortconvOut],
        _ => &[],
    }
}

/// Sorts blocks of layers by likeness, in the order in which they come.
pub(super) fn classes(model: &ModelSpec, blocks: &[(KernelOp, u32)]) -> Vec<Class> {
    let mut classes: Vec<Class> = Vec::new();
    for &(block, layer) in blocks {
        match classes.iter_mut().find(|class| class.holds(model, block, layer)) {
            Some(class) => class.layers.push(layer),
            None => classes.push(Class { block, layers: vec![layer] }),
        }
    }
    classes
}
