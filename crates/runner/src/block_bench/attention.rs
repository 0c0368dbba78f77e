//! Attention as each reader writes it: what comes before it, the rotary embedding, and its parts.

use candle_core::{DType, Device, Result, Storage, Tensor};
use candle_nn::attention::cpu_flash::causal::causal_decode_f32_interleaved;
use candle_nn::attention::{AttnMask, flash_attn};
use candle_nn::kv_cache::{InterleavedKvCache, KvCache, RawInterleavedKvCache};
use candle_transformers::utils::{build_additive_causal_mask, build_causal_mask, repeat_kv};
use foretoken_cost::readers::{KvLayout, LongestPosition, Reader, ReaderInfo};
use foretoken_spec::{KernelOp, LayerView, ModelShape, Pass, TensorRole};

use super::COPY_BYTES;
use super::laps::Laps;
use super::weights::LayerTensors;

/// First room of `quantized_glm4`'s cache, in tokens.
const GLM4_ROOM: usize = 512;

/// The tensors of one pass that attention meets, and what is in the cache.
pub(super) struct Attending<'a> {
    reader: Reader,
    heads: Heads,
    n_tokens: usize,
    kv_len: usize,
    device: &'a Device,
    /// `[1, n_heads, n_tokens, head_dim]`
    q: Tensor,
    /// `[1, n_kv_heads, n_tokens, head_dim]`
    k: Tensor,
    v: Tensor,
    /// Cosines and sines of the pass's positions, `[n_tokens, rotated / 2]`.
    rotation: (Tensor, Tensor),
    caches: Vec<Cache>,
    mask: Option<Tensor>,
    neg_inf: Tensor,
}

#[derive(Clone, Copy)]
struct Heads {
    n: usize,
    n_kv: usize,
    dim: usize,
}

/// What keys and values are joined to.
enum Cache {
    Empty,
    /// Copied whenever tokens are added.
    Joined(Tensor, Tensor),
    /// Written behind the others. A copy writes to the same place again.
    Reserved(KvCache),
    /// Keys and values side by side, with room for the pass's own: `[kv_len + 1, n_kv_heads, 2,
    /// head_dim]`.
    Interleaved(Vec<f32>),
}

impl<'a> Attending<'a> {
    pub(super) fn new(
        info: &ReaderInfo,
        shape: &ModelShape,
        view: LayerView,
        pass: Pass,
        device: &'a Device,
    ) -> Result<Self> {
        let (n_tokens, kv_len) = (pass.n_tokens as usize, pass.kv_len as usize);
        if device.is_metal() && info.reader == Reader::Llama && n_tokens == 1 {
            candle_core::bail!("one fused call there");
        }
        let heads = Heads {
            n: view.n_heads as usize,
            n_kv: view.n_kv_heads.max(1) as usize,
            dim: view.head_dim as usize,
        };
        let random = |n: usize, rows: usize| {
            // By token and then by head, as products leave them.
            Tensor::randn(0_f32, 1., (1, rows, n, heads.dim), device)?.transpose(1, 2)
        };
        let (q, k) = (random(heads.n, n_tokens)?, random(heads.n_kv, n_tokens)?);
        let v = random(heads.n_kv, n_tokens)?;
        let v = match info.reader {
            Reader::Gemma3 | Reader::Qwen3 => v,
            _ => v.contiguous()?,
        };
        // Its file does not say how much of a head the reader turns.
        let rotated = if info.reader == Reader::Glm4 { heads.dim / 2 } else { heads.dim };
        let angles = || Tensor::rand(-1_f32, 1., (n_tokens, rotated / 2), device);
        Ok(Self {
            reader: info.reader,
            heads,
            n_tokens,
            kv_len,
            device,
            q: q.contiguous()?,
            k: k.contiguous()?,
            v,
            rotation: (angles()?, angles()?),
            caches: caches(info, shape, heads, (n_tokens, kv_len), device)?,
            mask: mask(info.reader, n_tokens, kv_len, device)?,
            neg_inf: Tensor::new(f32::NEG_INFINITY, device)?,
        })
    }

    /// Caches that come from memory like those of the layers.
    pub(super) fn n_caches(&self) -> usize {
        self.caches.len()
    }

    /// Products for queries, keys and values, biases, layout by head (`qwen2`, `lfm2`; `llama` has
    /// spans around the products). `x`: `[1, n_tokens, hidden_size]`.
    pub(super) fn inputs(
        &self,
        layers: &[LayerTensors],
        x: &Tensor,
        laps: &mut Laps<'_>,
    ) -> Result<()> {
        use TensorRole as R;
        let q = laps.matmul(layers, R::AttnQ, x)?;
        let k = laps.matmul(layers, R::AttnK, x)?;
        let v = laps.matmul(layers, R::AttnV, x)?;
        let Heads { n, n_kv, dim } = self.heads;
        let by_head =
            |tensor: Tensor, n: usize| tensor.reshape((1, self.n_tokens, n, dim))?.transpose(1, 2);
        laps.part(KernelOp::AttentionLayout, None, |layer| {
            let biased = |tensor: &Tensor, role| match layers[layer].other(role) {
                Some(bias) => tensor.broadcast_add(bias),
                None => Ok(tensor.clone()),
            };
            let q = by_head(biased(&q, R::AttnQBias)?, n)?;
            let k = by_head(biased(&k, R::AttnKBias)?, n_kv)?;
            let v = by_head(biased(&v, R::AttnVBias)?, n_kv)?.contiguous()?;
            Ok(match self.reader {
                Reader::Qwen2 => (q.contiguous()?, k.contiguous()?, v),
                // Its keys are laid out behind the norm of the queries.
                Reader::Lfm2 => (q.contiguous()?, k, v),
                // In the span of the rotary embedding.
                _ => (q, k, v),
            })
        })
        .map(drop)
    }

    /// Rotary embedding and attention (`qwen3`, `gemma3`, `glm4`).
    pub(super) fn rope_attention(
        &self,
        layers: &[LayerTensors],
        laps: &mut Laps<'_>,
    ) -> Result<Tensor> {
        if self.reader == Reader::Glm4 {
            self.biases_and_layout(layers, laps)?;
        }
        let (q, k) = laps
            .part(KernelOp::Rope, None, |_| Ok((self.turned(&self.q)?, self.turned(&self.k)?)))?;
        if self.reader == Reader::Qwen3 && self.device.is_cpu() {
            return laps.part(KernelOp::Attention, None, |layer| self.fused(&q, &k, layer));
        }
        self.attend(&q, &k, laps)
    }

    /// Attention after the rotary embedding, to `[1, n_tokens, n_heads · head_dim]`.
    pub(super) fn attention(&self, laps: &mut Laps<'_>) -> Result<Tensor> {
        self.attend(&self.q, &self.k, laps)
    }

    fn biases_and_layout(&self, layers: &[LayerTensors], laps: &mut Laps<'_>) -> Result<()> {
        use TensorRole as R;
        let Heads { n, n_kv, dim } = self.heads;
        let flat = |tensor: &Tensor, n: usize| {
            tensor.transpose(1, 2)?.reshape((1, self.n_tokens, n * dim))
        };
        let (q, k, v) = (flat(&self.q, n)?, flat(&self.k, n_kv)?, flat(&self.v, n_kv)?);
        laps.part(KernelOp::AttentionLayout, None, |copy| {
            // Without biases nothing was read of the layers.
            let layer = layers.get(copy);
            let laid = |tensor: &Tensor, role, n: usize| {
                let biased = match layer.and_then(|layer| layer.other(role)) {
                    Some(bias) => tensor.broadcast_add(bias)?,
                    None => tensor.clone(),
                };
                biased.reshape((1, self.n_tokens, n, dim))?.transpose(1, 2)
            };
            let v = laid(&v, R::AttnVBias, n_kv)?.contiguous()?;
            Ok((laid(&q, R::AttnQBias, n)?, laid(&k, R::AttnKBias, n_kv)?, v))
        })
        .map(drop)
    }

    /// Queries or keys, turned by their positions.
    fn turned(&self, x: &Tensor) -> Result<Tensor> {
        let (cos, sin) = &self.rotation;
        if self.reader != Reader::Glm4 {
            return candle_nn::rotary_emb::rope(&x.contiguous()?, cos, sin);
        }
        let rotated = self.heads.dim / 2;
        let turned = x.narrow(3, 0, rotated)?.contiguous()?;
        let passed = x.narrow(3, rotated, self.heads.dim - rotated)?;
        let turned = candle_nn::rotary_emb::rope_i(&turned, cos, sin)?;
        Tensor::cat(&[&turned, &passed], 3)?.contiguous()
    }

    fn attend(&self, q: &Tensor, k: &Tensor, laps: &mut Laps<'_>) -> Result<Tensor> {
        let v = &self.v;
        let groups = self.heads.n / self.heads.n_kv;
        let is_empty = matches!(self.caches[0], Cache::Empty);
        let (k, v) = if is_empty {
            (k.clone(), v.clone())
        } else {
            laps.part(KernelOp::KvConcat, None, |layer| {
                match &self.caches[layer % self.caches.len()] {
                    Cache::Joined(old_k, old_v) => {
                        Ok((Tensor::cat(&[old_k, k], 2)?, Tensor::cat(&[old_v, v], 2)?))
                    }
                    Cache::Reserved(cache) => {
                        cache.clone().append(&k.contiguous()?, &v.contiguous()?)
                    }
                    Cache::Empty | Cache::Interleaved(_) => Ok((k.clone(), v.clone())),
                }
            })?
        };
        let k = laps.part(KernelOp::AttentionScores, None, |_| repeat_kv(k.clone(), groups))?;
        let v = laps.part(KernelOp::AttentionValues, None, |_| repeat_kv(v.clone(), groups))?;
        let scores = laps.part(KernelOp::AttentionScores, None, |_| self.scores(q, &k))?;
        let weights = laps.part(KernelOp::AttentionSoftmax, None, |_| {
            candle_nn::ops::softmax_last_dim(&scores)
        })?;
        laps.part(KernelOp::AttentionValues, None, |_| {
            let out = match self.reader {
                Reader::Gemma3 | Reader::Phi3 => weights.matmul(&v)?,
                _ => weights.matmul(&v.contiguous()?)?,
            };
            out.transpose(1, 2)?.reshape((1, self.n_tokens, self.heads.n * self.heads.dim))
        })
    }

    fn scores(&self, q: &Tensor, k: &Tensor) -> Result<Tensor> {
        let scores = (q.matmul(&k.t()?)? / (self.heads.dim as f64).sqrt())?;
        let Some(mask) = &self.mask else { return Ok(scores) };
        match self.reader {
            Reader::Glm4 | Reader::Qwen3 => scores.broadcast_add(mask),
            Reader::Gemma3 => {
                let mask = mask.broadcast_as(scores.shape())?.eq(0_u32)?;
                mask.where_cond(&self.neg_inf.broadcast_as(scores.shape())?, &scores)
            }
            _ => {
                let mask = mask.broadcast_as(scores.shape())?;
                mask.where_cond(&self.neg_inf.broadcast_as(scores.shape())?, &scores)
            }
        }
    }

    /// `quantized_qwen3` on a processor: keys and values written to the cache, then one call.
    fn fused(&self, q: &Tensor, k: &Tensor, layer: usize) -> Result<Tensor> {
        let Heads { n, n_kv, dim } = self.heads;
        let scale = 1.0 / (dim as f32).sqrt();
        let width = n * dim;
        if let (1, Cache::Interleaved(cached)) =
            (self.n_tokens, &self.caches[layer % self.caches.len()])
        {
            // Writing one token's keys and values is too little to be seen beside reading all.
            let q = q.squeeze(0)?.squeeze(1)?.contiguous()?;
            let (storage, layout) = q.storage_and_layout();
            let Storage::Cpu(values) = &*storage else { candle_core::bail!("not a processor") };
            let q = &values.as_slice::<f32>()?[layout.start_offset()..][..width];
            let out =
                causal_decode_f32_interleaved(q, cached, n, n_kv, dim, self.kv_len + 1, scale)?;
            return out.reshape((1, 1, width));
        }
        let kv = InterleavedKvCache::new(dim).append(k, &self.v)?;
        let flat = |tensor: &Tensor| -> Result<Vec<f32>> {
            tensor.squeeze(0)?.transpose(0, 1)?.contiguous()?.flatten_all()?.to_vec1()
        };
        let mut raw = RawInterleavedKvCache::new(n_kv, dim, self.n_tokens);
        raw.write_kv_batch(&flat(k)?, &flat(&self.v)?, self.n_tokens);
        let all_k = kv.narrow(2, 0, dim)?.unsqueeze(0)?.contiguous()?;
        let all_v = kv.narrow(2, dim, dim)?.unsqueeze(0)?.contiguous()?;
        let q = q.transpose(1, 2)?.contiguous()?;
        let mask = AttnMask::causal_with_offset(self.kv_len);
        let out = flash_attn::<f32>(&q, &all_k, &all_v, scale, mask, None, None)?;
        out.transpose(1, 2)?.reshape((1, self.n_tokens, width))
    }
}

/// As many caches as fit into the memory that is allowed; one where nothing is cached.
fn caches(
    info: &ReaderInfo,
    shape: &ModelShape,
    heads: Heads,
    (n_tokens, kv_len): (usize, usize),
    device: &Device,
) -> Result<Vec<Cache>> {
    let random = |rows: usize| Tensor::randn(0_f32, 1., (1, heads.n_kv, rows, heads.dim), device);
    let layout = match info.kv_layout {
        // The flat buffers are the processor's.
        KvLayout::Interleaved if !device.is_cpu() => KvLayout::Concatenated,
        layout => layout,
    };
    if kv_len == 0 {
        // The room is set aside anew for every prompt.
        let room = match info.longest {
            LongestPosition::ContextLengthUpTo(most) => shape.context_length.min(most) as usize,
            _ => GLM4_ROOM,
        };
        return Ok(vec![match layout {
            KvLayout::Preallocated => Cache::Reserved(KvCache::new(2, room.max(n_tokens))),
            KvLayout::Concatenated | KvLayout::Interleaved => Cache::Empty,
        }]);
    }
    let rows = kv_len + n_tokens;
    let bytes = (2 * rows * heads.n_kv * heads.dim * size_of::<f32>()) as u64;
    let copies = (COPY_BYTES / bytes.max(1)).clamp(1, u64::from(shape.n_layers.max(1)));
    let one = || {
        Ok(match layout {
            KvLayout::Concatenated => Cache::Joined(random(kv_len)?, random(kv_len)?),
            KvLayout::Preallocated => {
                let mut cache = KvCache::new(2, rows);
                cache.append(&random(kv_len)?, &random(kv_len)?)?;
                Cache::Reserved(cache)
            }
            KvLayout::Interleaved => {
                let both = [random(rows)?, random(rows)?];
                Cache::Interleaved(Tensor::cat(&both, 0)?.flatten_all()?.to_vec1()?)
            }
        })
    };
    (0..copies).map(|_| one()).collect()
}

/// What hides later tokens from earlier ones; a single token sees every key.
fn mask(reader: Reader, n_tokens: usize, kv_len: usize, device: &Device) -> Result<Option<Tensor>> {
    if n_tokens == 1 || (reader == Reader::Qwen3 && device.is_cpu()) {
        return Ok(None);
    }
    Ok(Some(match reader {
        Reader::Glm4 | Reader::Qwen3 => {
            build_additive_causal_mask(n_tokens, kv_len, None, device, DType::F32)?
        }
        // Ones where it may look, in the type of the tokens.
        Reader::Gemma3 => build_causal_mask(n_tokens, kv_len, device)?
            .eq(0_u8)?
            .to_dtype(DType::U32)?
            .reshape((1, 1, n_tokens, kv_len + n_tokens))?,
        _ => build_causal_mask(n_tokens, kv_len, device)?,
    }))
}
