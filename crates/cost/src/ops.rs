//! The operations of a forward pass, with their features.

use foretoken_spec::{
    Architecture, Experts, FeedForward, LayerKind, ModelShape, ModelSpec, OpKind, Pass, RoleKind,
    TensorRole, TensorSpec, TensorType,
};

use crate::{AttentionForm, EngineProfile, Features, KernelClass, PreparedCost};

/// What an operation's time is linear in. A coefficient is seconds per unit of its feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Calls of the kernel.
    Calls,
    /// Kernels that the host gives to a graphics device, in the place of [`Feature::Calls`].
    Launches,
    /// Floating-point operations; a multiply-accumulate is 2.
    Flop,
    /// Bytes of weights as the engine reads them.
    WeightBytes,
    /// Elements of the activations that a matmul quantizes or reads.
    InputElements,
    /// Elements that an elementwise operation goes through.
    Elements,
    /// Elements of keys and values that are concatenated (one row) or packed (many rows).
    KvElements,
    /// Elements of keys and values that are copied for every query head that shares them.
    RepeatedElements,
    /// Multiplications by the keys or values of one head.
    HeadCalls,
    /// Elements of the score matrices.
    ScoreElements,
    /// Floating-point operations that all threads share.
    ParallelFlop,
    /// Multiplications that all threads share, one per head: waking them has a price.
    ParallelCalls,
}

impl Feature {
    /// Every feature.
    pub const ALL: &'static [Feature] = &[
        Self::Calls,
        Self::Launches,
        Self::Flop,
        Self::WeightBytes,
        Self::InputElements,
        Self::Elements,
        Self::KvElements,
        Self::RepeatedElements,
        Self::HeadCalls,
        Self::ScoreElements,
        Self::ParallelFlop,
        Self::ParallelCalls,
    ];

    /// Name in calibrations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Launches => "launches",
            Self::Flop => "flop",
            Self::WeightBytes => "weight_bytes",
            Self::InputElements => "input_elements",
            Self::Elements => "elements",
            Self::KvElements => "kv_elements",
            Self::RepeatedElements => "repeated_elements",
            Self::HeadCalls => "head_calls",
            Self::ScoreElements => "score_elements",
            Self::ParallelFlop => "parallel_flop",
            Self::ParallelCalls => "parallel_calls",
        }
    }

    /// The feature of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|f| f.name() == name)
    }

    /// Unit of a coefficient.
    pub fn coefficient_unit(self) -> &'static str {
        match self {
            Self::Calls | Self::HeadCalls | Self::ParallelCalls => "s/call",
            Self::Launches => "s/launch",
            Self::Flop | Self::ParallelFlop => "s/flop",
            Self::WeightBytes => "s/byte",
            Self::InputElements
            | Self::Elements
            | Self::ScoreElements
            | Self::KvElements
            | Self::RepeatedElements => "s/element",
        }
    }
}

/// One kind of operation in one pass, summed over the layers that share its kernel class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpCost {
    /// Kind.
    pub op: OpKind,
    /// Which matrix, for a matmul.
    pub role: Option<TensorRole>,
    /// How it is stored, for a matmul.
    pub tensor_type: Option<TensorType>,
    /// What shares its coefficients.
    pub class: KernelClass,
    /// Calls in the pass.
    pub calls: u32,
    /// Arithmetic of the pass.
    pub flop: u64,
    /// Memory traffic of the pass: weights as executed, activations read and written.
    pub bytes: u64,
    /// What its time is linear in.
    pub features: Features,
}

impl OpCost {
    /// Name for tables: the kind, and the role of a matmul (`matmul.ffn_down`).
    pub fn name(&self) -> String {
        match (self.op, self.role) {
            (OpKind::Matmul, Some(role)) => format!("matmul.{}", role.gguf_stem()),
            (op, _) => op.name().to_owned(),
        }
    }

    /// FLOP per byte; 0 of an operation that moves nothing.
    pub fn arithmetic_intensity(&self) -> f64 {
        if self.bytes == 0 { 0.0 } else { self.flop as f64 / self.bytes as f64 }
    }
}

/// All operations of one pass.
#[derive(Debug, Clone, PartialEq)]
pub struct PassCost {
    /// The pass.
    pub pass: Pass,
    /// Its operations.
    pub ops: Vec<OpCost>,
}

impl PassCost {
    /// Arithmetic of the pass.
    pub fn flop(&self) -> u64 {
        self.ops.iter().map(|op| op.flop).sum()
    }

    /// Memory traffic of the pass.
    pub fn bytes(&self) -> u64 {
        self.ops.iter().map(|op| op.bytes).sum()
    }
}

pub(crate) const F32_BYTES: u64 = 4;

/// A product that stops at the largest number: absurd lengths times absurd widths.
pub(crate) fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product, factor| product.saturating_mul(*factor))
}

/// The operations of one forward pass of `model` on the engine, embedding to logits on the host.
///
/// The LM head is paid for the last position only, as candle's readers do.
pub fn pass_cost(model: &ModelSpec, engine: &EngineProfile, pass: Pass) -> PassCost {
    batch_cost(model, engine, pass, 1)
}

/// The operations of one forward pass over `batch` sequences of the same length at once: the
/// weights are read once for all, attention is paid by each.
pub fn batch_cost(model: &ModelSpec, engine: &EngineProfile, pass: Pass, batch: u32) -> PassCost {
    PreparedCost::new(model, engine, batch).pass(pass)
}

/// Attention of a pass in a given form, where the engine's own form was not measured.
pub fn attention_cost(
    model: &ModelSpec,
    engine: &EngineProfile,
    pass: Pass,
    batch: u32,
    form: AttentionForm,
) -> OpCost {
    PreparedCost::new(model, engine, batch).attention(pass, form)
}

/// Norms of a pass, and the elements that they go through for each token. A norm as wide as a head
/// goes over every head.
pub(crate) fn norm_elements(model: &ModelSpec) -> (u64, u64) {
    let mut norms = 0;
    let mut elements: u64 = 0;
    for tensor in model.tensors.iter().filter(|t| t.role.kind() == RoleKind::Norm) {
        let layer = model.shape.layer(tensor.layer.unwrap_or(0));
        let width = tensor.n_elements();
        let is_head = width == u64::from(layer.head_dim);
        let heads = match tensor.role {
            TensorRole::AttnQNorm if is_head => layer.n_heads,
            TensorRole::AttnKNorm if is_head => layer.n_kv_heads,
            _ => 1,
        };
        norms += 1;
        elements = elements.saturating_add(product(&[width, heads.into()]));
    }
    (norms, elements)
}

/// Elements of queries and keys that are rotated for each token, and the layers that rotate.
pub(crate) fn rotated_elements(shape: &ModelShape) -> (u64, u64) {
    let rotating = shape.layers().filter(|l| l.kind == LayerKind::Attention && l.rope_dim > 0);
    let mut sum = (0, 0);
    for layer in rotating {
        let kv_heads = if shape.details.latent.is_some() { 1 } else { layer.n_kv_heads };
        sum.0 += u64::from(layer.n_heads + kv_heads) * u64::from(layer.rope_dim);
        sum.1 += 1;
    }
    sum
}

/// Elements beside the residual sums that are added or folded in for each token: biases, and the
/// channels of convolutions and states (an approximation: their scans are not modelled).
pub(crate) fn added_elements(model: &ModelSpec) -> u64 {
    let experts = model.shape.details.experts.as_ref();
    let of_tensor = |tensor: &TensorSpec| match tensor.role.kind() {
        RoleKind::Convolution => tensor.n_elements(),
        RoleKind::Vector if tensor.layer.is_some() => match (tensor.shape.as_slice(), experts) {
            // The bias of all experts, of which a token meets some.
            ([width, _], Some(experts)) => product(&[*width, experts.used.into()]),
            _ => tensor.n_elements(),
        },
        _ => 0,
    };
    let tensors: u64 = model.tensors.iter().map(of_tensor).fold(0, u64::saturating_add);
    let states = model.shape.layers().filter(|layer| layer.kind == LayerKind::Recurrent).count();
    let state = model
        .shape
        .details
        .recurrent
        .as_ref()
        .map_or(0, |it| product(&[it.inner_size.into(), it.state_size.into()]));
    tensors.saturating_add(product(&[states as u64, state]))
}

/// Elements of activation, product with the up projection, and second residual sum for each token.
pub(crate) fn mlp_elements(model: &ModelSpec) -> u64 {
    let shape = &model.shape;
    let hidden = u64::from(shape.hidden_size);
    let gated = Architecture::find(&shape.architecture)
        .is_none_or(|form| form.feed_forward != FeedForward::Plain);
    let per_width = if gated { 2 } else { 1 };
    let experts = shape.details.experts.as_ref();
    let width = |experts: &Experts| {
        u64::from(experts.used) * u64::from(experts.intermediate_size)
            + u64::from(experts.shared_intermediate_size)
    };
    shape
        .layers()
        .map(|layer| match experts.filter(|_| layer.has_experts) {
            // Every expert's output is weighted and added.
            Some(it) => per_width * width(it) + hidden * u64::from(it.used.max(1)),
            None => per_width * u64::from(layer.intermediate_size) + hidden,
        })
        .sum()
}

/// Whether all matrices of the layers are floating-point: they are multiplied by another thread
/// pool than integer ones, which changes the times of everything between them.
pub(crate) fn is_float_model(model: &ModelSpec) -> bool {
    let mut matrices =
        model.tensors.iter().filter(|t| t.layer.is_some() && !t.role.is_vector()).peekable();
    matrices.peek().is_some() && matrices.all(|t| t.tensor_type.is_float())
}

/// Softmax and draw of one token.
pub fn sampling_cost(model: &ModelSpec) -> Vec<OpCost> {
    let vocab = u64::from(model.shape.vocab_size);
    vec![
        elementwise(KernelClass::plain(OpKind::Softmax, 1, false), 1, vocab, 4),
        elementwise(KernelClass::plain(OpKind::Sampling, 1, false), 1, vocab, 2),
    ]
}

/// An operation that goes through `elements` F32 numbers, moving each `moves` times.
pub(crate) fn elementwise(class: KernelClass, calls: u64, elements: u64, moves: u64) -> OpCost {
    OpCost {
        op: class.op,
        role: None,
        tensor_type: None,
        class,
        calls: calls as u32,
        flop: elements,
        bytes: moves * F32_BYTES * elements,
        features: Features::from([
            (Feature::Calls, calls as f64),
            (Feature::Elements, elements as f64),
        ]),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::engine::tests::ZEN5;
    use foretoken_spec::{ModelShape, ModelSource, ShapeDetails};
    use proptest::prelude::*;

    pub(crate) fn llama_2_7b(tensor_type: TensorType) -> ModelSpec {
        let shape = ModelShape {
            architecture: "llama".into(),
            n_layers: 32,
            hidden_size: 4096,
            n_heads: 32,
            n_kv_heads: 32,
            head_dim: 128,
            intermediate_size: 11008,
            vocab_size: 32000,
            context_length: 4096,
            tied_embeddings: false,
            rope_freqs: false,
            rope_freq_base: 10_000.0,
            rms_norm_eps: 1e-5,
            details: ShapeDetails::default(),
        };
        ModelSpec::from_shape(
            "llama-2-7b",
            "llama-2",
            "test",
            ModelSource::Mini,
            shape,
            |role, _| {
                if role.is_vector() { TensorType::F32 } else { tensor_type }
            },
        )
    }

    fn matmul_flop(cost: &PassCost) -> u64 {
        cost.ops
            .iter()
            .filter(|op| matches!(op.op, OpKind::Matmul | OpKind::LmHead))
            .map(|op| op.flop)
            .sum()
    }

    #[test]
    fn matmul_flop_of_llama_2_7b_by_hand() {
        let model = llama_2_7b(TensorType::Q8_0);
        let decode = pass_cost(&model, &ZEN5, Pass { n_tokens: 1, kv_len: 100 });
        // 2 · (32 · (4·4096² + 3·4096·11008) + 4096·32000)
        assert_eq!(matmul_flop(&decode), 13_214_154_752);
        let prefill = pass_cost(&model, &ZEN5, Pass { n_tokens: 512, kv_len: 0 });
        // The LM head is paid once: 512 · 2 · 32 · (…) + 2 · 4096·32000
        assert_eq!(matmul_flop(&prefill), 512 * 12_952_010_752 + 262_144_000);
    }

    #[test]
    fn weight_bytes_of_a_decode_step_by_hand() {
        let model = llama_2_7b(TensorType::Q8_0);
        let decode = pass_cost(&model, &ZEN5, Pass { n_tokens: 1, kv_len: 100 });
        let bytes: f64 = decode
            .ops
            .iter()
            .flat_map(|op| &op.features)
            .filter(|(feature, _)| *feature == Feature::WeightBytes)
            .map(|(_, value)| value)
            .sum();
        // (32 · (4·4096² + 3·4096·11008) + 4096·32000) · 34/32
        assert_eq!(bytes, 6_607_077_376.0 * 34.0 / 32.0);
    }

    #[test]
    fn a_mixture_of_types_is_one_entry_per_role_and_type() {
        let mut model = llama_2_7b(TensorType::Q4_K);
        for tensor in &mut model.tensors {
            if tensor.role == TensorRole::AttnV && tensor.layer < Some(10) {
                tensor.tensor_type = TensorType::Q6_K;
            }
        }
        let cost = pass_cost(&model, &ZEN5, Pass { n_tokens: 1, kv_len: 1 });
        let calls: Vec<u32> = cost
            .ops
            .iter()
            .filter(|op| op.role == Some(TensorRole::AttnV))
            .map(|op| op.calls)
            .collect();
        assert_eq!(calls, [22, 10]);
    }

    #[test]
    fn feature_names_read_back() {
        for &feature in Feature::ALL {
            assert_eq!(Feature::from_name(feature.name()), Some(feature));
        }
    }

    proptest! {
        #[test]
        fn no_feature_of_a_decode_step_falls_with_depth(kv in 0u32..3000, more in 1u32..500) {
            let model = llama_2_7b(TensorType::Q4_0);
            let at = |kv_len| pass_cost(&model, &ZEN5, Pass { n_tokens: 1, kv_len });
            for (a, b) in at(kv).ops.iter().zip(&at(kv + more).ops) {
                for (x, y) in a.features.iter().zip(&b.features) {
                    prop_assert_eq!(x.0, y.0);
                    prop_assert!(y.1 >= x.1, "{:?} of {:?} fell", x.0, a.op);
                }
            }
        }

        #[test]
        fn neither_flop_nor_bytes_fall_when_depth_or_prompt_grow(n in 2u32..600, kv in 0u32..3000, more in 1u32..500) {
            let model = llama_2_7b(TensorType::Q4_0);
            let base = pass_cost(&model, &ZEN5, Pass { n_tokens: n, kv_len: kv });
            for pass in [Pass { n_tokens: n, kv_len: kv + more }, Pass { n_tokens: n + more, kv_len: kv }] {
                let grown = pass_cost(&model, &ZEN5, pass);
                for (a, b) in base.ops.iter().zip(&grown.ops) {
                    prop_assert!(b.flop >= a.flop && b.bytes >= a.bytes);
                }
            }
        }

        #[test]
        fn prefill_matmul_flop_adds_up_over_any_chunking(a in 2u32..400, b in 2u32..400) {
            let model = llama_2_7b(TensorType::Q4_0);
            let layers = |n, kv| {
                let cost = pass_cost(&model, &ZEN5, Pass { n_tokens: n, kv_len: kv });
                cost.ops.iter().filter(|op| op.op == OpKind::Matmul).map(|op| op.flop).sum::<u64>()
            };
            prop_assert_eq!(layers(a + b, 0), layers(a, 0) + layers(b, a));
        }
    }

    /// Qwen3-30B-A3B: 48 layers of 128 experts, 8 of them used.
    fn qwen3_30b_a3b() -> ModelSpec {
        let shape = ModelShape {
            architecture: "qwen3moe".into(),
            n_layers: 48,
            hidden_size: 2048,
            n_heads: 32,
            n_kv_heads: 4,
            head_dim: 128,
            intermediate_size: 6144,
            vocab_size: 151_936,
            context_length: 40_960,
            details: ShapeDetails {
                experts: Some(Experts {
                    count: 128,
                    used: 8,
                    intermediate_size: 768,
                    ..Experts::default()
                }),
                ..ShapeDetails::default()
            },
            ..llama_2_7b(TensorType::Q8_0).shape
        };
        of_shape(shape)
    }

    fn of_shape(shape: ModelShape) -> ModelSpec {
        ModelSpec::from_shape("m", "f", "q", ModelSource::Mini, shape, |role, _| {
            if role.is_kept_f32() { TensorType::F32 } else { TensorType::Q8_0 }
        })
    }

    fn weight_bytes(cost: &PassCost, role: TensorRole) -> f64 {
        let ops = cost.ops.iter().filter(|op| op.role == Some(role) && op.op != OpKind::LmHead);
        let features = ops.flat_map(|op| &op.features);
        features.filter(|(f, _)| *f == Feature::WeightBytes).map(|(_, value)| value).sum()
    }

    #[test]
    fn a_decode_step_of_qwen3_30b_a3b_by_hand() {
        let model = qwen3_30b_a3b();
        let decode = pass_cost(&model, &ZEN5, Pass { n_tokens: 1, kv_len: 100 });
        // Queries and output 2048·4096, keys and values 2048·512, router 2048·128, and 8 experts
        // of 3·2048·768, in 48 layers; the LM head once.
        let layer = 2 * 2048 * 4096 + 2 * 2048 * 512 + 2048 * 128 + 8 * 3 * 2048 * 768;
        assert_eq!(matmul_flop(&decode), 2 * (48 * layer + 2048 * 151_936));
        assert_eq!(matmul_flop(&decode), 6_083_313_664);
        // 8 of 128 experts are read.
        let gates = weight_bytes(&decode, TensorRole::FfnGateExps);
        assert_eq!(gates, 48.0 * 8.0 * 2048.0 * 768.0 * 34.0 / 32.0);
        // 48 layers · 2 · 4 heads · 128: 98,304 bytes at f16.
        assert_eq!(model.shape.kv_bytes_per_token(2), 98_304);
        // Queries and keys are normed head by head: 48·(2·2048 + 36·128) + 2048.
        let norms = decode.ops.iter().find(|op| op.op == OpKind::RmsNorm).unwrap();
        assert_eq!(norms.flop, 48 * (2 * 2048 + 36 * 128) + 2048);
        // Activation and product of 8 experts, their 8 weighted sums.
        let mlp = decode.ops.iter().find(|op| op.op == OpKind::MlpElementwise).unwrap();
        assert_eq!(mlp.flop, 48 * (2 * 8 * 768 + 8 * 2048));
    }

    #[test]
    fn a_prompt_reads_all_experts_and_multiplies_by_some() {
        let model = qwen3_30b_a3b();
        let prefill = pass_cost(&model, &ZEN5, Pass { n_tokens: 512, kv_len: 0 });
        let gates = weight_bytes(&prefill, TensorRole::FfnGateExps);
        assert_eq!(gates, 48.0 * 128.0 * 2048.0 * 768.0 * 34.0 / 32.0);
        let op = prefill.ops.iter().find(|op| op.role == Some(TensorRole::FfnGateExps)).unwrap();
        assert_eq!(op.flop, 2 * 48 * 512 * 8 * 2048 * 768);
    }

    #[test]
    fn a_decode_step_of_mixtral_8x7b_by_hand() {
        let mut shape = llama_2_7b(TensorType::Q8_0).shape;
        (shape.n_kv_heads, shape.intermediate_size) = (8, 14_336);
        shape.details.experts =
            Some(Experts { count: 8, used: 2, intermediate_size: 14_336, ..Experts::default() });
        let decode = pass_cost(&of_shape(shape), &ZEN5, Pass { n_tokens: 1, kv_len: 9 });
        let layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 4096 * 8 + 2 * 3 * 4096 * 14_336;
        assert_eq!(matmul_flop(&decode), 2 * (32 * layer + 4096 * 32_000));
        assert_eq!(matmul_flop(&decode), 25_497_174_016);
    }

    #[test]
    fn fused_matrices_of_phi_3_cost_as_much_as_apart() {
        // Phi-3.5-mini: 32 layers, 3072 wide, heads of 96, 8192 in the feed-forward layer.
        let mut shape = llama_2_7b(TensorType::Q8_0).shape;
        shape.architecture = "phi3".into();
        (shape.hidden_size, shape.head_dim) = (3072, 96);
        (shape.intermediate_size, shape.vocab_size) = (8192, 32_064);
        let fused = of_shape(shape.clone());
        let decode = pass_cost(&fused, &ZEN5, Pass { n_tokens: 1, kv_len: 9 });
        let layer = 4 * 3072 * 3072 + 3 * 3072 * 8192;
        assert_eq!(matmul_flop(&decode), 2 * (32 * layer + 3072 * 32_064));
        let up = decode.ops.iter().find(|op| op.role == Some(TensorRole::FfnUp)).unwrap();
        assert_eq!((up.calls, up.flop), (32, 2 * 32 * 3072 * 2 * 8192));
        // Nothing is concatenated where room is set aside.
        let attention = decode.ops.iter().find(|op| op.op == OpKind::Attention).unwrap();
        assert!(attention.features.contains(&(Feature::KvElements, 0.0)));
    }

    #[test]
    fn flash_attention_is_a_class_of_its_own() {
        let mut shape = llama_2_7b(TensorType::Q8_0).shape;
        shape.architecture = "qwen3".into();
        let model = of_shape(shape);
        let pass = Pass { n_tokens: 1, kv_len: 99 };
        let cost = pass_cost(&model, &ZEN5, pass);
        let op = cost.ops.iter().find(|op| op.op == OpKind::Attention).unwrap();
        assert_eq!(op.class.key(), "attention.flash.one_row");
        let llama = attention_cost(&model, &ZEN5, pass, 1, AttentionForm::Materialised);
        assert_eq!(llama.class.key(), "attention.one_row");
        assert_eq!(llama.flop, op.flop);
    }

    #[test]
    fn a_batch_reads_the_weights_once() {
        let model = llama_2_7b(TensorType::Q8_0);
        let pass = Pass { n_tokens: 1, kv_len: 100 };
        let one = pass_cost(&model, &ZEN5, pass);
        let four = batch_cost(&model, &ZEN5, pass, 4);
        assert_eq!(matmul_flop(&four), 4 * matmul_flop(&one));
        let bytes = |cost| weight_bytes(cost, TensorRole::FfnDown);
        assert_eq!(bytes(&one), bytes(&four));
    }
}
