//! What candle gives to a graphics device: the host's part of a pass.
//!
//! A call of the host puts one kernel or copy into the device's queue, and takes microseconds
//! whatever it does. With one token, a pass is hundreds of them that each run for less than that, so
//! that their number, not their work, is what takes the time. The counts are those of
//! `quantized_llama` on CUDA in candle 0.11.1, counted in the running program (`tests/check_cuda.py`);
//! Metal is counted as CUDA; other
//! readers are counted as if they were alike, which some are ([`is_counted`]). What does not depend
//! on the shape is a constant per call here, what does is a sum over layers ([`attention`]).

use foretoken_spec::{ModelShape, OpKind};

use crate::{Feature, Features, KernelPath, OpCost, Regime};

/// Whether the launches of an architecture's reader are within a tenth of what was counted.
pub(crate) fn is_counted(shape: &ModelShape) -> bool {
    let is_known = matches!(shape.architecture.as_str(), "llama" | "qwen2" | "qwen3" | "gemma3");
    is_known && shape.details.experts.is_none()
}

/// Launches of one call of an operation that is no attention.
///
/// - quantized matmul: the activations are quantized, then multiplied (`fast_mmvq.rs`); tiles of
///   many rows are summed by a third kernel (`fast_mmq.rs`), but where they divide evenly among the
///   multiprocessors, which is not asked here; a dense one is one call of cuBLAS;
/// - rotary embedding: several rows are made contiguous before, by a kernel whose description of the
///   strides is a copy to the device of its own;
/// - feed-forward block: activation, product, residual sum;
/// - embedding: the token ids, the description of the gather, the gather; of a prompt also the mask;
/// - the copy of the logits, which waits for the device.
fn per_call(op: OpKind, path: Option<KernelPath>, regime: Regime) -> f64 {
    match (op, path, regime) {
        (OpKind::Matmul | OpKind::LmHead, Some(KernelPath::Gemm), _) => 1.0,
        (OpKind::Matmul, Some(KernelPath::GpuTiled), _) => 3.0,
        (OpKind::Matmul | OpKind::LmHead, _, _) => 2.0,
        (OpKind::Rope, _, Regime::ManyRows) => 3.0,
        (OpKind::MlpElementwise, _, _) | (OpKind::Embedding, _, Regime::OneRow) => 3.0,
        (OpKind::Embedding, _, Regime::ManyRows) => 4.0,
        _ => 1.0,
    }
}

/// Launches of attention in one layer: `query` heads share those of `kv`; `joins` where there is a
/// cache to join the new keys and values to.
///
/// Scores, scaling, softmax and the sum of values are one each. Several rows add the copy of the
/// values, the mask, and the copy of the output, each with a description of its strides. A joined
/// cache is two copies (`Tensor::cat` of two) of keys and of values; `repeat_kv` copies both once for
/// each head that shares them.
pub(crate) fn attention(query: u64, kv: u64, regime: Regime, joins: bool) -> u64 {
    let rows = if regime == Regime::ManyRows { 6 } else { 0 };
    let joined = if joins { 4 } else { 0 };
    let shared = query.checked_div(kv).unwrap_or(1);
    let repeated = if shared > 1 { 2 * shared } else { 0 };
    4 + rows + joined + repeated
}

/// The operation with its kernels in the place of its calls.
pub(crate) fn in_place_of_calls(op: OpCost) -> OpCost {
    let path = op.class.matmul.map(|(_, path)| path);
    let launches = f64::from(op.calls) * per_call(op.op, path, op.class.regime);
    let features: Features = op.features.replaced(Feature::Calls, (Feature::Launches, launches));
    OpCost { features, ..op }
}

#[cfg(test)]
mod tests {
    use foretoken_spec::{Pass, TensorType};

    use super::*;
    use crate::engine::tests::{CUDA, ZEN5};
    use crate::ops::tests::llama_2_7b;
    use crate::pass_cost;

    fn launches(n_tokens: u32, kv_len: u32, tensor_type: TensorType) -> f64 {
        let cost = pass_cost(&llama_2_7b(tensor_type), &CUDA, Pass { n_tokens, kv_len });
        let features = cost.ops.iter().flat_map(|op| op.features.to_vec());
        features.filter(|(feature, _)| *feature == Feature::Launches).map(|(_, n)| n).sum()
    }

    #[test]
    fn a_step_of_llama_2_7b_by_hand() {
        // Each of 32 layers: 7 matmuls of 2, 2 norms, 2 rotations, attention of 4 + 4 (every head
        // has keys of its own), a sum, 3 of the feed-forward block: 30. Beside them the embedding
        // of 3, the last norm, the head of 2 and the copy of the logits.
        assert_eq!(launches(1, 100, TensorType::Q4_K), f64::from(32 * 30 + 7));
        // Dense weights are multiplied at once.
        assert_eq!(launches(1, 100, TensorType::F16), f64::from(32 * 23 + 6));
        // A prompt multiplies in tiles, copies and masks, and joins nothing.
        assert_eq!(
            launches(512, 0, TensorType::Q4_K),
            f64::from(32 * (21 + 2 + 6 + 10 + 1 + 3) + 8)
        );
    }

    #[test]
    fn heads_that_share_keys_are_copied_one_by_one() {
        // TinyLlama: 32 heads share 4.
        assert_eq!(attention(32, 4, Regime::OneRow, true), 4 + 4 + 16);
        assert_eq!(attention(32, 32, Regime::OneRow, false), 4);
        assert_eq!(attention(0, 0, Regime::OneRow, false), 4);
    }

    #[test]
    fn a_processor_is_given_calls() {
        let cost = pass_cost(&llama_2_7b(TensorType::Q4_K), &ZEN5, Pass { n_tokens: 1, kv_len: 1 });
        let has =
            |feature| cost.ops.iter().flat_map(|op| op.features.to_vec()).any(|f| f.0 == feature);
        assert!(has(Feature::Calls) && !has(Feature::Launches));
    }
}
