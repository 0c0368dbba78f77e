//! The gated feed-forward block of `quantized_qwen2.rs` and `quantized_lfm2.rs` after its norm,
//! with the residual sum.

use candle_core::{Result, Tensor};
use foretoken_spec::{KernelOp, TensorRole};

use super::laps::Laps;
use super::weights::LayerTensors;

/// `x`: `[1, n_tokens, hidden_size]`.
pub(super) fn run(layers: &[LayerTensors], x: &Tensor, laps: &mut Laps<'_>) -> Result<()> {
    let gate = laps.matmul(layers, TensorRole::FfnGate, x)?;
    let up = laps.matmul(layers, TensorRole::FfnUp, x)?;
    let gated = laps.part(KernelOp::Activation, None, |_| candle_nn::ops::silu(&gate)? * &up)?;
    let down = laps.matmul(layers, TensorRole::FfnDown, &gated)?;
    laps.part(KernelOp::Residual, None, |_| &down + x).map(drop)
}
