//! The operations of a forward pass, with their features.

use std::collections::BTreeMap;

use foretoken_spec::{ModelSpec, OpKind, Pass, TensorRole, TensorSpec, TensorType};

use crate::attention::attention_op;
use crate::{EngineProfile, KernelClass};

/// What an operation's time is linear in. A coefficient is seconds per unit of its feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Calls of the kernel.
    Calls,
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
        Self::Flop,
        Self::WeightBytes,
        Self::InputElements,
        Self::Elements,
        Self::KvElements,
        Self::ScoreElements,
        Self::ParallelFlop,
        Self::ParallelCalls,
    ];

    /// Name in calibrations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Flop => "flop",
            Self::WeightBytes => "weight_bytes",
            Self::InputElements => "input_elements",
            Self::Elements => "elements",
            Self::KvElements => "kv_elements",
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
            Self::Calls | Self::ParallelCalls => "s/call",
            Self::Flop | Self::ParallelFlop => "s/flop",
            Self::WeightBytes => "s/byte",
            Self::InputElements | Self::Elements | Self::ScoreElements | Self::KvElements => {
                "s/element"
            }
        }
    }
}

/// One kind of operation in one pass, summed over the layers that share its kernel class.
#[derive(Debug, Clone, PartialEq)]
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
    pub features: Vec<(Feature, f64)>,
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

const F32_BYTES: u64 = 4;

/// A product that stops at the largest number: absurd lengths times absurd widths.
pub(crate) fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product, factor| product.saturating_mul(*factor))
}

/// The operations of one forward pass of `model` on the engine, embedding to logits on the host.
///
/// The LM head is paid for the last position only, as candle's readers do.
pub fn pass_cost(model: &ModelSpec, engine: &EngineProfile, pass: Pass) -> PassCost {
    let n = u64::from(pass.n_tokens);
    let shape = &model.shape;
    let layers = u64::from(shape.n_layers);
    let hidden = u64::from(shape.hidden_size);
    let rotated = u64::from(shape.n_heads + shape.n_kv_heads) * u64::from(shape.head_dim);
    let ffn = u64::from(shape.intermediate_size);
    let vocab = u64::from(shape.vocab_size);

    let float = is_float_model(model);
    let class = |op| KernelClass::plain(op, pass.n_tokens, float);
    let plain = |op, calls, elements, moves| elementwise(class(op), calls, elements, moves);

    let mut ops = vec![plain(OpKind::Embedding, 1, n * hidden, 2)];
    ops.push(plain(OpKind::RmsNorm, 2 * layers + 1, (2 * layers + 1) * n * hidden, 2));
    ops.extend(layer_matmuls(model, engine, pass));
    ops.push(plain(OpKind::Rope, 2 * layers, layers * n * rotated, 4));
    ops.push(attention_op(shape, pass, class(OpKind::Attention)));
    ops.push(plain(OpKind::Residual, layers, layers * n * hidden, 3));
    // Activation, product with the up projection, and the second residual sum.
    ops.push(plain(OpKind::MlpElementwise, layers, layers * n * (2 * ffn + hidden), 3));
    if let Some(head) = model.lm_head() {
        let mut op = matmul(head, engine, 1, 1);
        op.op = OpKind::LmHead;
        ops.push(op);
    }
    ops.push(plain(OpKind::Host, 1, vocab, 2));
    PassCost { pass, ops }
}

/// Whether all matrices of the layers are floating-point: they are multiplied by another thread
/// pool than integer ones, which changes the times of everything between them.
fn is_float_model(model: &ModelSpec) -> bool {
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
fn elementwise(class: KernelClass, calls: u64, elements: u64, moves: u64) -> OpCost {
    OpCost {
        op: class.op,
        role: None,
        tensor_type: None,
        class,
        calls: calls as u32,
        flop: elements,
        bytes: moves * F32_BYTES * elements,
        features: vec![(Feature::Calls, calls as f64), (Feature::Elements, elements as f64)],
    }
}

/// The multiplications of all layers, one entry per role and tensor type.
fn layer_matmuls(model: &ModelSpec, engine: &EngineProfile, pass: Pass) -> Vec<OpCost> {
    let mut groups: BTreeMap<(TensorRole, TensorType), (&TensorSpec, u64)> = BTreeMap::new();
    for tensor in &model.tensors {
        let is_matrix = tensor.layer.is_some()
            && tensor.role != TensorRole::Other
            && !tensor.role.is_vector()
            && tensor.shape.len() == 2;
        if is_matrix {
            let key = (tensor.role, tensor.tensor_type);
            groups.entry(key).or_insert((tensor, 0)).1 += 1;
        }
    }
    groups
        .into_values()
        .map(|(tensor, calls)| matmul(tensor, engine, pass.n_tokens, calls))
        .collect()
}

/// `calls` multiplications of `n_rows` rows by a weight matrix:
/// `flop = 2 · n_rows · k · n` each, weights read once as the engine executes them.
fn matmul(tensor: &TensorSpec, engine: &EngineProfile, n_rows: u32, calls: u64) -> OpCost {
    let rows = u64::from(n_rows);
    let (k, n) = match tensor.shape[..] {
        [k, n] => (k, n),
        _ => (tensor.n_elements(), 1),
    };
    let path = engine.kernel(tensor.tensor_type, n_rows, k, n);
    let flop = product(&[calls, 2, rows, k, n]);
    let weight_bytes = calls * engine.executed_bytes(tensor.tensor_type, path, k * n);
    let inputs = product(&[calls, rows, k]);
    let outputs = product(&[calls, rows, n]);
    let mut features = vec![
        (Feature::Calls, calls as f64),
        (Feature::WeightBytes, weight_bytes as f64),
        (Feature::InputElements, inputs as f64),
    ];
    if n_rows > 1 {
        features.insert(1, (Feature::Flop, flop as f64));
    }
    OpCost {
        op: OpKind::Matmul,
        role: Some(tensor.role),
        tensor_type: Some(tensor.tensor_type),
        class: KernelClass::matmul(tensor.tensor_type, path, n_rows),
        calls: calls as u32,
        flop,
        bytes: weight_bytes.saturating_add(product(&[F32_BYTES, inputs.saturating_add(outputs)])),
        features,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::ZEN5;
    use foretoken_spec::{ModelShape, ModelSource};
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
}
