//! The parts of attention, timed alone on tensors of a run's shapes.
//!
//! candle's readers have no span between the rotary embedding and the output projection. The same
//! calls as in `LayerWeights::forward_attn` (`quantized_llama.rs`; `quantized_phi.rs` is alike,
//! `quantized_phi3.rs` writes into room that was set aside), on as many copies of the cache as the
//! model has layers (so that they come from memory as they do in the run), say how the time between
//! divides.

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::{Device, Result, Tensor};
use candle_nn::kv_cache::KvCache;
use candle_transformers::utils::{build_causal_mask, repeat_kv};
use foretoken_cost::readers::{self, KvLayout, Reader};
use foretoken_spec::{AttentionSplit, ModelShape, Pass};

use crate::OpenDevice;

/// Time for one pass's bench; at least one layer is timed, after one that is not.
const BUDGET: Duration = Duration::from_millis(400);
/// Most rounds over all layers.
const MOST_ROUNDS: usize = 8;
/// Most memory for copies of the cache, bytes.
const CACHE_BYTES: u64 = 256 << 20;

/// Times the four parts for this pass; `None` where candle refuses the shapes, or the reader has no
/// span around these parts alone.
pub(crate) fn attention_split(
    shape: &ModelShape,
    pass: Pass,
    device: &OpenDevice,
) -> Option<AttentionSplit> {
    match readers::of_architecture(&shape.architecture)?.reader {
        Reader::Llama | Reader::Phi2 | Reader::Phi3 => run(shape, pass, device).ok(),
        _ => None,
    }
}

/// What keys and values are joined to.
enum Cache {
    Empty,
    /// Copied whenever tokens are added.
    Joined(Tensor, Tensor),
    /// Written behind the others. A copy writes to the same place again.
    Reserved(KvCache),
}

struct Layer {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cache: Cache,
}

fn run(shape: &ModelShape, pass: Pass, device: &OpenDevice) -> Result<AttentionSplit> {
    let layers = layers(shape, pass, &device.tensors)?;
    let mask = mask(pass, &device.tensors)?;
    let neg_inf = Tensor::new(f32::NEG_INFINITY, &device.tensors)?;
    // A part is done when the device has done it; the processor always has.
    let now = || -> Result<Instant> {
        device.synchronise().map_err(candle_core::Error::msg)?;
        Ok(Instant::now())
    };
    let groups = (shape.n_heads / shape.n_kv_heads.max(1)) as usize;
    let scale = f64::from(shape.head_dim).sqrt();
    let mut sums = [Duration::ZERO; 4];
    let mut timed = 0_u32;
    let started = Instant::now();
    'rounds: for round in 0..=MOST_ROUNDS {
        for Layer { q, k, v, cache } in &layers {
            let t0 = now()?;
            let (k, v) = match cache {
                Cache::Joined(old_k, old_v) => {
                    (Tensor::cat(&[old_k, k], 2)?, Tensor::cat(&[old_v, v], 2)?)
                }
                Cache::Reserved(cache) => cache.clone().append(k, v)?,
                Cache::Empty => (k.clone(), v.clone()),
            };
            let t1 = now()?;
            let k = repeat_kv(k, groups)?;
            let t2 = now()?;
            let v = repeat_kv(v, groups)?;
            let t3 = now()?;
            let scores = (q.matmul(&k.t()?)? / scale)?;
            let scores = match &mask {
                Some(mask) => mask
                    .broadcast_as(scores.shape())?
                    .where_cond(&neg_inf.broadcast_as(scores.shape())?, &scores)?,
                None => scores,
            };
            let t4 = now()?;
            let weights = candle_nn::ops::softmax_last_dim(&scores)?;
            let t5 = now()?;
            let out = weights.matmul(&v.contiguous()?)?;
            let (batch, heads, n, d) = out.dims4()?;
            let out = out.transpose(1, 2)?.reshape((batch, n, heads * d))?;
            let t6 = now()?;
            black_box(out);
            // The first round warms caches and allocator.
            if round > 0 {
                sums[0] += t1 - t0;
                sums[1] += (t2 - t1) + (t4 - t3);
                sums[2] += t5 - t4;
                sums[3] += (t3 - t2) + (t6 - t5);
                timed += 1;
            }
            if started.elapsed() > BUDGET {
                if round > 0 {
                    break 'rounds;
                }
                break;
            }
        }
    }
    if pass.kv_len == 0 {
        // There is nothing to join; what was timed is the clock.
        sums[0] = Duration::ZERO;
    }
    // Of one layer: splits of unequal numbers of rounds are interpolated.
    let [kv_concat_ns, scores_ns, softmax_ns, values_ns] =
        sums.map(|sum| sum.as_nanos() as f64 / f64::from(timed.max(1)));
    let Pass { n_tokens, kv_len } = pass;
    Ok(AttentionSplit { n_tokens, kv_len, kv_concat_ns, scores_ns, softmax_ns, values_ns })
}

fn layers(shape: &ModelShape, pass: Pass, device: &Device) -> Result<Vec<Layer>> {
    let n = pass.n_tokens as usize;
    let (heads, kv_heads) = (shape.n_heads as usize, shape.n_kv_heads as usize);
    let d = shape.head_dim as usize;
    let cached = pass.kv_len as usize;
    let bytes = u64::from(pass.kv_len + pass.n_tokens)
        * u64::from(shape.n_kv_heads)
        * u64::from(shape.head_dim)
        * 8;
    let copies = (CACHE_BYTES / bytes.max(1)).clamp(1, u64::from(shape.n_layers.max(1)));
    let is_reserved = readers::of_architecture(&shape.architecture)
        .is_some_and(|info| info.kv_layout == KvLayout::Preallocated);
    let random = |rows, heads| Tensor::randn(0f32, 1., (1, heads, rows, d), device);
    (0..copies)
        .map(|_| {
            let cache = match (cached, is_reserved) {
                (0, _) => Cache::Empty,
                (_, false) => Cache::Joined(random(cached, kv_heads)?, random(cached, kv_heads)?),
                (_, true) => {
                    let mut cache = KvCache::new(2, cached + n);
                    cache.append(&random(cached, kv_heads)?, &random(cached, kv_heads)?)?;
                    Cache::Reserved(cache)
                }
            };
            Ok(Layer {
                q: random(n, heads)?,
                k: random(n, kv_heads)?,
                v: random(n, kv_heads)?,
                cache,
            })
        })
        .collect()
}

/// The causal mask of several tokens; a single one sees every key.
fn mask(pass: Pass, device: &Device) -> Result<Option<Tensor>> {
    if pass.n_tokens == 1 {
        return Ok(None);
    }
    build_causal_mask(pass.n_tokens as usize, pass.kv_len as usize, device).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::tests::tiny_shape;

    fn split(shape: &ModelShape, pass: Pass) -> Option<AttentionSplit> {
        attention_split(shape, pass, &OpenDevice::processor())
    }

    #[test]
    fn every_part_takes_time_and_only_a_filled_cache_is_joined() {
        let prompt = split(&tiny_shape(), Pass { n_tokens: 16, kv_len: 0 }).unwrap();
        let step = split(&tiny_shape(), Pass { n_tokens: 1, kv_len: 300 }).unwrap();
        for part in [prompt.scores_ns, prompt.softmax_ns, prompt.values_ns] {
            assert!(part > 0.0);
        }
        assert!(step.kv_concat_ns > 5.0 * prompt.kv_concat_ns);
    }

    #[test]
    fn only_readers_with_spans_around_attention_alone_are_divided() {
        let of = |architecture: &str| {
            let shape = ModelShape { architecture: architecture.into(), ..tiny_shape() };
            split(&shape, Pass { n_tokens: 1, kv_len: 30 })
        };
        assert!(of("phi2").is_some_and(|split| split.kv_concat_ns > 0.0));
        assert!(of("phi3").is_some_and(|split| split.kv_concat_ns > 0.0));
        for architecture in ["qwen2", "qwen3", "gemma3", "glm4", "lfm2", "unheard-of"] {
            assert_eq!(of(architecture), None, "{architecture}");
        }
    }
}
