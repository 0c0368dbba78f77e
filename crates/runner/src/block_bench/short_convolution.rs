//! The short convolution of `quantized_lfm2.rs` with its two products and the residual sum.

use candle_core::{Result, Tensor};
use candle_nn::{Conv1d, Conv1dConfig, Module};
use foretoken_spec::{KernelOp, TensorRole};

use super::laps::Laps;
use super::weights::LayerTensors;

/// What the convolution keeps of the tokens before, of each layer.
pub(super) struct State {
    /// `[1, hidden_size, conv_length]`
    caches: Vec<Tensor>,
    conv_length: usize,
}

impl State {
    /// `x`: `[1, n_tokens, hidden_size]`.
    pub(super) fn new(layers: &[LayerTensors], x: &Tensor) -> Result<Self> {
        let hidden = x.dim(2)?;
        let conv = layers.first().and_then(|layer| layer.other(TensorRole::ShortconvConv));
        let Some(conv) = conv else { candle_core::bail!("the layer has no convolution") };
        let conv_length = conv.elem_count() / hidden.max(1);
        let cache = || Tensor::randn(0_f32, 1., (1, hidden, conv_length), x.device());
        let caches = layers.iter().map(|_| cache()).collect::<Result<_>>()?;
        Ok(Self { caches, conv_length })
    }

    pub(super) fn run(
        &self,
        layers: &[LayerTensors],
        x: &Tensor,
        laps: &mut Laps<'_>,
    ) -> Result<()> {
        let projected = laps.matmul(layers, TensorRole::ShortconvIn, x)?;
        let convolved = laps.part(KernelOp::Convolution, None, |layer| {
            let Some(weight) = layers[layer].other(TensorRole::ShortconvConv) else {
                candle_core::bail!("the layer has no convolution")
            };
            self.convolve(&projected, weight, &self.caches[layer])
        })?;
        let out = laps.matmul(layers, TensorRole::ShortconvOut, &convolved)?;
        laps.part(KernelOp::Residual, None, |_| &out + x).map(drop)
    }

    /// `ShortConvLayer::forward` between its two products.
    fn convolve(&self, projected: &Tensor, weight: &Tensor, cache: &Tensor) -> Result<Tensor> {
        let (batch, n_tokens, hidden) = projected.dims3()?;
        let hidden = hidden / 3;
        let length = self.conv_length;
        let bcx = projected.transpose(1, 2)?;
        let b = bcx.narrow(1, 0, hidden)?;
        let c = bcx.narrow(1, hidden, hidden)?;
        let x = bcx.narrow(1, 2 * hidden, hidden)?;
        let bx = (b * &x)?.contiguous()?;
        let weight = weight.reshape((hidden, length))?.contiguous()?;
        let out = if n_tokens == 1 {
            let state = if length > 1 {
                Tensor::cat(&[&cache.narrow(2, 1, length - 1)?, &bx], 2)?
            } else {
                bx
            };
            (state * &weight.unsqueeze(0)?)?.sum_keepdim(2)?.contiguous()?
        } else {
            let padding = length.saturating_sub(1);
            let config = Conv1dConfig { padding, groups: hidden, ..Default::default() };
            let conv = Conv1d::new(weight.reshape((hidden, 1, length))?, None, config);
            let out = conv.forward(&bx.contiguous()?)?.narrow(2, 0, n_tokens)?;
            // The last tokens are kept; fewer than the convolution is long are filled up.
            let kept = bx.narrow(2, n_tokens.saturating_sub(length), n_tokens.min(length))?;
            if n_tokens < length {
                let zeros =
                    Tensor::zeros((batch, hidden, length - n_tokens), bx.dtype(), bx.device())?;
                Tensor::cat(&[&zeros, &kept], 2)?;
            }
            out
        };
        (c * &out)?.transpose(1, 2)?.contiguous()
    }
}
