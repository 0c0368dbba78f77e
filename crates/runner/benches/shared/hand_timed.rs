//! A second reader of llama models with a clock around every call, to hold the profile against.
//!
//! It makes the calls of `quantized_llama.rs` in the same order on weights of its own, without
//! spans, without a subscriber, and without anything of the profiler.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, IndexOp, Module, Result, Tensor};
use candle_nn::Embedding;
use candle_transformers::utils::{build_causal_mask, repeat_kv};
use foretoken_gguf::synth::SyntheticGguf;
use foretoken_spec::{KernelOp, ModelSpec, TensorRole};

/// What a time is booked under: all layers together.
pub type Key = (KernelOp, Option<TensorRole>);

/// Times of one pass, in ns.
pub type Times = BTreeMap<Key, f64>;

struct Layer {
    wq: QMatMul,
    wk: QMatMul,
    wv: QMatMul,
    wo: QMatMul,
    gate: QMatMul,
    up: QMatMul,
    down: QMatMul,
    attn_norm: Tensor,
    ffn_norm: Tensor,
    cache: Option<(Tensor, Tensor)>,
}

/// The model.
pub struct HandTimed {
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: Tensor,
    output: QMatMul,
    cos: Tensor,
    sin: Tensor,
    neg_inf: Tensor,
    heads: (usize, usize, usize),
    eps: f32,
}

impl HandTimed {
    /// Loads synthetic weights of these shapes.
    pub fn load(model: &ModelSpec) -> Result<Self> {
        let mut source = SyntheticGguf::new(model);
        let content = Content::read(&mut source)?;
        let mut tensor = |name: &str| content.tensor(&mut source, name, &Device::Cpu);
        let shape = &model.shape;
        let dense = |t: QTensor| t.dequantize(&Device::Cpu);
        let embedding = dense(tensor("token_embd.weight")?)?;
        let output = if shape.tied_embeddings { "token_embd.weight" } else { "output.weight" };
        let output = QMatMul::from_qtensor(tensor(output)?)?;
        let norm = dense(tensor("output_norm.weight")?)?;
        let mut layers = Vec::new();
        for i in 0..shape.n_layers {
            let mut matrix =
                |name: &str| QMatMul::from_qtensor(tensor(&format!("blk.{i}.{name}.weight"))?);
            let (wq, wk) = (matrix("attn_q")?, matrix("attn_k")?);
            let (wv, wo) = (matrix("attn_v")?, matrix("attn_output")?);
            let (gate, up, down) = (matrix("ffn_gate")?, matrix("ffn_up")?, matrix("ffn_down")?);
            let attn_norm = dense(tensor(&format!("blk.{i}.attn_norm.weight"))?)?;
            let ffn_norm = dense(tensor(&format!("blk.{i}.ffn_norm.weight"))?)?;
            layers.push(Layer { wq, wk, wv, wo, gate, up, down, attn_norm, ffn_norm, cache: None });
        }
        let d = shape.head_dim as usize;
        let theta: Vec<f32> =
            (0..d).step_by(2).map(|i| 1.0 / 10_000f32.powf(i as f32 / d as f32)).collect();
        let theta = Tensor::new(theta, &Device::Cpu)?.reshape((1, d / 2))?;
        let positions = Tensor::arange(0f32, 4096.0, &Device::Cpu)?.reshape((4096, 1))?;
        let angles = positions.matmul(&theta)?;
        Ok(Self {
            embedding: Embedding::new(embedding, shape.hidden_size as usize),
            layers,
            norm,
            output,
            cos: angles.cos()?,
            sin: angles.sin()?,
            neg_inf: Tensor::new(f32::NEG_INFINITY, &Device::Cpu)?,
            heads: (shape.n_heads as usize, shape.n_kv_heads as usize, d),
            eps: shape.rms_norm_eps,
        })
    }

    /// The caches, to go back to.
    pub fn caches(&self) -> Vec<Option<(Tensor, Tensor)>> {
        self.layers.iter().map(|layer| layer.cache.clone()).collect()
    }

    /// Goes back to these caches.
    pub fn restore(&mut self, caches: &[Option<(Tensor, Tensor)>]) {
        for (layer, cache) in self.layers.iter_mut().zip(caches) {
            layer.cache = cache.clone();
        }
    }

    /// One pass, with the time of every call; returns the logits and the whole time.
    pub fn forward(
        &mut self,
        tokens: &[u32],
        kv_len: usize,
        times: &mut Times,
    ) -> Result<(Tensor, f64)> {
        use KernelOp as Op;
        let whole = Instant::now();
        let mut clock = Clock { times, last: whole };
        let n = tokens.len();

        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let mask = match n {
            1 => None,
            // The reader keeps masks, but a fresh prompt finds none.
            _ => Some(build_causal_mask(n, kv_len, &Device::Cpu)?),
        };
        clock.book(Op::Input, None);
        let mut x = self.embedding.forward(&input)?;
        clock.book(Op::Embedding, None);
        let turn = Turn {
            cos: self.cos.narrow(0, kv_len, n)?,
            sin: self.sin.narrow(0, kv_len, n)?,
            mask,
            neg_inf: self.neg_inf.clone(),
            heads: self.heads,
            eps: self.eps,
            n,
            kv_len,
        };
        for layer in &mut self.layers {
            let sum = layer.attention(x, &turn, &mut clock)?;
            x = layer.feed_forward(sum, &turn, &mut clock)?;
        }
        let x = candle_nn::ops::rms_norm(&x, &self.norm, self.eps)?;
        clock.book(Op::RmsNorm, Some(TensorRole::OutputNorm));
        let x = x.i((.., n - 1, ..))?;
        clock.book(Op::Uncovered, None);
        let logits = self.output.forward(&x)?.squeeze(0)?;
        clock.book(Op::LmHead, None);
        let on_host = logits.to_vec1::<f32>()?;
        clock.book(Op::LogitsCopy, None);
        let total = clock.last.duration_since(whole).as_nanos() as f64;
        drop(std::hint::black_box(on_host));
        Ok((logits, total))
    }
}

/// What all layers share in a pass.
struct Turn {
    cos: Tensor,
    sin: Tensor,
    mask: Option<Tensor>,
    neg_inf: Tensor,
    heads: (usize, usize, usize),
    eps: f32,
    n: usize,
    kv_len: usize,
}

impl Layer {
    fn attention(
        &mut self,
        residual: Tensor,
        turn: &Turn,
        clock: &mut Clock<'_>,
    ) -> Result<Tensor> {
        use KernelOp as Op;
        let normed = candle_nn::ops::rms_norm(&residual, &self.attn_norm, turn.eps)?;
        clock.book(Op::RmsNorm, Some(TensorRole::AttnNorm));
        let y = self.heads(&normed, turn, clock)?;
        clock.book(Op::Uncovered, None);
        let y = self.wo.forward(&y)?;
        clock.book(Op::Matmul, Some(TensorRole::AttnOutput));
        let sum = (y + &residual)?;
        clock.book(Op::Residual, None);
        Ok(sum)
    }

    fn heads(&mut self, normed: &Tensor, turn: &Turn, clock: &mut Clock<'_>) -> Result<Tensor> {
        use KernelOp as Op;
        let (n_heads, n_kv_heads, d) = turn.heads;
        let n = turn.n;
        let q = self.wq.forward(normed)?;
        clock.book(Op::Matmul, Some(TensorRole::AttnQ));
        let k = self.wk.forward(normed)?;
        clock.book(Op::Matmul, Some(TensorRole::AttnK));
        let v = self.wv.forward(normed)?;
        clock.book(Op::Matmul, Some(TensorRole::AttnV));
        let q = q.reshape((1, n, n_heads, d))?.transpose(1, 2)?;
        let k = k.reshape((1, n, n_kv_heads, d))?.transpose(1, 2)?;
        let v = v.reshape((1, n, n_kv_heads, d))?.transpose(1, 2)?.contiguous()?;
        clock.book(Op::AttentionLayout, None);
        let q = candle_nn::rotary_emb::rope_i(&q.contiguous()?, &turn.cos, &turn.sin)?;
        let k = candle_nn::rotary_emb::rope_i(&k.contiguous()?, &turn.cos, &turn.sin)?;
        clock.book(Op::Rope, None);
        let (k, v) = match &self.cache {
            Some((old_k, old_v)) if turn.kv_len > 0 => {
                (Tensor::cat(&[old_k, &k], 2)?, Tensor::cat(&[old_v, &v], 2)?)
            }
            _ => (k, v),
        };
        self.cache = Some((k.clone(), v.clone()));
        let y = {
            let k = repeat_kv(k, n_heads / n_kv_heads)?;
            let v = repeat_kv(v, n_heads / n_kv_heads)?;
            let scores = (q.matmul(&k.t()?)? / (d as f64).sqrt())?;
            let scores = match &turn.mask {
                Some(mask) => mask
                    .broadcast_as(scores.shape())?
                    .where_cond(&turn.neg_inf.broadcast_as(scores.shape())?, &scores)?,
                None => scores,
            };
            let weights = candle_nn::ops::softmax_last_dim(&scores)?;
            weights.matmul(&v.contiguous()?)?
        };
        let y = y.transpose(1, 2)?.reshape((1, n, n_heads * d))?;
        clock.book(Op::Attention, None);
        Ok(y)
    }

    fn feed_forward(&self, sum: Tensor, turn: &Turn, clock: &mut Clock<'_>) -> Result<Tensor> {
        use KernelOp as Op;
        // The sum before attention is freed here.
        clock.book(Op::Uncovered, None);
        let normed = candle_nn::ops::rms_norm(&sum, &self.ffn_norm, turn.eps)?;
        clock.book(Op::RmsNorm, Some(TensorRole::FfnNorm));
        let gate = self.gate.forward(&normed)?;
        clock.book(Op::Matmul, Some(TensorRole::FfnGate));
        let up = self.up.forward(&normed)?;
        clock.book(Op::Matmul, Some(TensorRole::FfnUp));
        let product = (candle_nn::ops::silu(&gate)? * up)?;
        clock.book(Op::Activation, None);
        let down = self.down.forward(&product)?;
        clock.book(Op::Matmul, Some(TensorRole::FfnDown));
        let x = (down + &sum)?;
        clock.book(Op::Residual, None);
        drop((sum, normed, gate, product));
        clock.book(Op::Uncovered, None);
        Ok(x)
    }
}

struct Clock<'a> {
    times: &'a mut Times,
    last: Instant,
}

impl Clock<'_> {
    fn book(&mut self, op: KernelOp, role: Option<TensorRole>) {
        let now = Instant::now();
        let ns = now.duration_since(self.last).as_nanos() as f64;
        *self.times.entry((op, role)).or_insert(0.0) += ns;
        self.last = now;
    }
}
