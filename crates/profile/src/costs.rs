//! Arithmetic and memory traffic of single kernels, for achieved rates and roofline shares.
//!
//! Matrices: `flop = 2 · rows · k · n`, weights read once as the engine executes them, F32 rows in
//! and out. Elementwise operations: one FLOP per element, every operand read or written once.
//! Attention as candle's llama reader does it, see `docs/cost-model.md`.

use foretoken_cost::{AttentionForm, EngineProfile};
use foretoken_spec::{KernelOp, ModelSpec, Pass, TensorRole, TensorSpec};

const F32: u64 = 4;

/// Work of one call of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) flop: u64,
    pub(crate) bytes: u64,
}

/// The matrix that a kernel multiplies by.
pub(crate) fn matrix_of(
    model: &ModelSpec,
    op: KernelOp,
    role: Option<TensorRole>,
    layer: Option<u32>,
) -> Option<&TensorSpec> {
    match op {
        KernelOp::LmHead => model.lm_head(),
        KernelOp::Matmul => model.tensors.iter().find(|t| Some(t.role) == role && t.layer == layer),
        _ => None,
    }
}

/// Work of a kernel in one pass: of both calls where there are two (rotary embedding, residual),
/// of all parts of an undivided block.
/// `None` where none is defined.
pub(crate) fn work(
    model: &ModelSpec,
    engine: &EngineProfile,
    (op, role, layer): (KernelOp, Option<TensorRole>, Option<u32>),
    pass: Pass,
) -> Option<Work> {
    let shape = &model.shape;
    let view = shape.layer(layer.unwrap_or(0));
    let n = u64::from(pass.n_tokens);
    let t = u64::from(pass.kv_len) + n;
    let hidden = u64::from(shape.hidden_size);
    let d = u64::from(view.head_dim);
    let heads = u64::from(view.n_heads) * d;
    let kv = u64::from(view.n_kv_heads) * d;
    let scores = u64::from(view.n_heads) * n * t;
    let vocab = u64::from(shape.vocab_size);
    let elementwise =
        |elements: u64, moves: u64| Work { flop: elements, bytes: moves * F32 * elements };
    // Heads that share keys get copies of their own: written once, read once.
    let repeated = if heads > kv { 2 * t * heads } else { 0 };
    let of_layer = |op, role| work(model, engine, (op, role, layer), pass);
    Some(match op {
        KernelOp::Matmul | KernelOp::LmHead => {
            let matrix = matrix_of(model, op, role, layer)?;
            // The LM head is paid for the last position only.
            let rows = if op == KernelOp::LmHead { 1 } else { pass.n_tokens };
            return matmul(matrix, engine, rows);
        }
        KernelOp::Embedding => elementwise(n * hidden, 2),
        KernelOp::RmsNorm => {
            let width = match role {
                Some(TensorRole::AttnQNorm) => heads,
                Some(TensorRole::AttnKNorm) => kv,
                _ => hidden,
            };
            elementwise(n * width, 2)
        }
        KernelOp::Rope => {
            let turned = u64::from(view.n_heads + view.n_kv_heads) * u64::from(view.rope_dim);
            elementwise(n * turned, 4)
        }
        KernelOp::KvConcat if pass.kv_len > 0 => Work { flop: 0, bytes: 2 * F32 * 2 * t * kv },
        KernelOp::KvConcat => Work { flop: 0, bytes: 0 },
        // Product, scale, and the mask of several tokens: written, read and written again.
        KernelOp::AttentionScores => {
            let passes = if n > 1 { 5 } else { 3 };
            let moved = t * kv + repeated + n * heads + passes * scores;
            Work { flop: 2 * n * t * heads + scores, bytes: F32 * moved }
        }
        KernelOp::AttentionSoftmax => Work { flop: 4 * scores, bytes: 2 * F32 * scores },
        KernelOp::AttentionValues => {
            let moved = t * kv + repeated + scores + 3 * n * heads;
            Work { flop: 2 * n * t * heads, bytes: F32 * moved }
        }
        KernelOp::Activation => {
            let ffn = n * u64::from(view.intermediate_size);
            elementwise(2 * ffn, 3)
        }
        KernelOp::Residual => elementwise(2 * n * hidden, 3),
        KernelOp::Attention if engine.attention(shape) == AttentionForm::Flash => {
            // Keys and values are read once, and there are no scores in memory.
            let flop = 4 * n * t * heads + 5 * scores;
            Work { flop, bytes: F32 * (2 * t * kv + 2 * n * heads) }
        }
        KernelOp::Attention => sum_of(&ATTENTION.map(|op| of_layer(op, None)))?,
        KernelOp::RopeAttention => {
            sum_of(&[KernelOp::Rope, KernelOp::Attention].map(|op| of_layer(op, None)))?
        }
        KernelOp::AttentionInputs => {
            use TensorRole::{AttnK, AttnQ, AttnV};
            sum_of(&[AttnQ, AttnK, AttnV].map(|role| of_layer(KernelOp::Matmul, Some(role))))?
        }
        KernelOp::AttentionBlock => sum_of(&[
            of_layer(KernelOp::Attention, None),
            of_layer(KernelOp::Matmul, Some(TensorRole::AttnOutput)),
        ])?,
        // Two gate products, and at each position of the convolution a product and a sum. Its
        // three inputs are read, the gated one and the result written and read, the output written.
        KernelOp::Convolution => {
            let length = u64::from(shape.details.conv_length?);
            let flop = n * hidden * (2 + 2 * length);
            Work { flop, bytes: F32 * (8 * n * hidden + length * hidden) }
        }
        KernelOp::ShortConvolution => {
            use TensorRole::{ShortconvIn, ShortconvOut};
            let matrices =
                [ShortconvIn, ShortconvOut].map(|role| of_layer(KernelOp::Matmul, Some(role)));
            let sum = Some(elementwise(n * hidden, 3));
            sum_of(&[sum_of(&matrices), of_layer(KernelOp::Convolution, None), sum])?
        }
        KernelOp::FeedForwardBlock => {
            use TensorRole::{FfnDown, FfnGate, FfnUp};
            let matrices =
                [FfnGate, FfnUp, FfnDown].map(|role| of_layer(KernelOp::Matmul, Some(role)));
            let ffn = n * u64::from(view.intermediate_size);
            let between = elementwise(2 * ffn + n * hidden, 3);
            sum_of(&[sum_of(&matrices), Some(between)])?
        }
        KernelOp::LogitsCopy => Work { flop: 0, bytes: 2 * F32 * vocab },
        KernelOp::Softmax => elementwise(4 * vocab, 2),
        KernelOp::Sampling => elementwise(vocab, 1),
        _ => return None,
    })
}

/// The parts of attention, in the order in which they run.
const ATTENTION: [KernelOp; 4] = [
    KernelOp::KvConcat,
    KernelOp::AttentionScores,
    KernelOp::AttentionSoftmax,
    KernelOp::AttentionValues,
];

/// `None` where the work of a part is not known.
fn sum_of(parts: &[Option<Work>]) -> Option<Work> {
    parts.iter().try_fold(Work { flop: 0, bytes: 0 }, |sum, part| {
        let part = (*part)?;
        Some(Work { flop: sum.flop + part.flop, bytes: sum.bytes + part.bytes })
    })
}

fn matmul(matrix: &TensorSpec, engine: &EngineProfile, rows: u32) -> Option<Work> {
    let [k, n] = matrix.shape[..] else { return None };
    let path = engine.kernel(matrix.tensor_type, rows, k, n);
    let weights = engine.executed_bytes(matrix.tensor_type, path, k * n);
    let rows = u64::from(rows);
    Some(Work { flop: 2 * rows * k * n, bytes: weights + F32 * rows * (k + n) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{engine, model};

    fn of(op: KernelOp, role: Option<TensorRole>, pass: Pass) -> Work {
        work(&model(), &engine(), (op, role, Some(0)), pass).unwrap()
    }

    #[test]
    fn a_matmul_by_hand() {
        // 256 × 512, Q8_0 tiles: 544 bytes per 512 weights.
        let pass = Pass { n_tokens: 3, kv_len: 0 };
        let work = of(KernelOp::Matmul, Some(TensorRole::FfnGate), pass);
        assert_eq!(work.flop, 2 * 3 * 256 * 512);
        assert_eq!(work.bytes, 256 * 512 * 544 / 512 + 4 * 3 * (256 + 512));
    }

    #[test]
    fn attention_of_a_step_by_hand() {
        // 4 heads of 64 share 2 key-value heads; 10 keys with the new one.
        let pass = Pass { n_tokens: 1, kv_len: 9 };
        assert_eq!(of(KernelOp::KvConcat, None, pass).bytes, 2 * 4 * 2 * 10 * 128);
        let scores = of(KernelOp::AttentionScores, None, pass);
        assert_eq!(scores.flop, 2 * 10 * 256 + 40);
        assert_eq!(scores.bytes, 4 * (10 * 128 + 2 * 10 * 256 + 256 + 3 * 40));
    }

    #[test]
    fn undivided_blocks_are_the_sums_of_their_parts() {
        let pass = Pass { n_tokens: 3, kv_len: 4 };
        let flop = |op| of(op, None, pass).flop;
        let of_role = |role| of(KernelOp::Matmul, Some(role), pass).flop;
        let attention: u64 = ATTENTION.map(flop).into_iter().sum();
        assert_eq!(flop(KernelOp::Attention), attention);
        assert_eq!(flop(KernelOp::RopeAttention), attention + flop(KernelOp::Rope));
        use TensorRole::{AttnK, AttnOutput, AttnQ, AttnV, FfnDown, FfnGate, FfnUp};
        assert_eq!(flop(KernelOp::AttentionBlock), attention + of_role(AttnOutput));
        let inputs = [AttnQ, AttnK, AttnV].map(of_role).into_iter().sum::<u64>();
        assert_eq!(flop(KernelOp::AttentionInputs), inputs);
        let matrices = [FfnGate, FfnUp, FfnDown].map(of_role).into_iter().sum::<u64>();
        assert_eq!(flop(KernelOp::FeedForwardBlock), matrices + 3 * (2 * 512 + 256));
    }

    #[test]
    fn a_short_convolution_by_hand() {
        let mut model = model();
        model.shape.details.conv_length = Some(3);
        let of = |op| work(&model, &engine(), (op, None, Some(0)), Pass { n_tokens: 2, kv_len: 5 });
        // 256 channels, 3 positions: two gates and three times a product and a sum.
        let found = of(KernelOp::Convolution).unwrap();
        assert_eq!(found.flop, 2 * 256 * 8);
        assert_eq!(found.bytes, 4 * (8 * 2 * 256 + 3 * 256));
        // Its matrices are not in this model.
        assert_eq!(of(KernelOp::ShortConvolution), None);
        model.shape.details.conv_length = None;
        let pass = Pass { n_tokens: 2, kv_len: 5 };
        assert_eq!(work(&model, &engine(), (KernelOp::Convolution, None, Some(0)), pass), None);
    }

    #[test]
    fn what_has_no_definition_has_no_work() {
        let pass = Pass { n_tokens: 1, kv_len: 9 };
        assert_eq!(work(&model(), &engine(), (KernelOp::Uncovered, None, None), pass), None);
    }
}
