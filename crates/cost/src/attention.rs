//! Attention as candle's llama reader does it: keys and values concatenated, heads materialised,
//! one F32 score matrix per head.

use foretoken_spec::{ModelShape, OpKind, Pass};

use crate::ops::product;
use crate::{Feature, KernelClass, OpCost, Regime};

const F32_BYTES: u64 = 4;

/// Work (`m · k · n`) from which candle's dense multiplication takes several threads: the default
/// of the `gemm` crate (`DEFAULT_THREADING_THRESHOLD`).
const PARALLEL_GEMM_WORK: u64 = 48 * 48 * 256;

/// Everything inside the attention span but its projections and the rotary embedding.
///
/// With `n` new tokens, `t = kv_len + n` keys, `H` heads, `G` key-value heads of width `d`, per
/// layer:
/// - scores and values: `4 · n · t · H · d` FLOP, two multiplications per head, each by one
///   thread or by all of them (at a price per call) as its `n · t · d` says;
/// - the score matrices have `H · n · t` elements; they are written, scaled, masked (prefill
///   only), soft-maxed and read;
/// - keys and values: `2 · t · G · d` elements are concatenated when the cache is not empty,
///   materialised for every head when `H > G`, and `2 · t · H · d` are read and packed;
/// - the queries and the output, `2 · n · H · d` elements, change layout.
pub(crate) fn attention_op(shape: &ModelShape, pass: Pass, class: KernelClass) -> OpCost {
    let n = u64::from(pass.n_tokens);
    let t = u64::from(pass.kv_len) + n;
    let layers = u64::from(shape.n_layers);
    let heads = u64::from(shape.n_heads);
    let kv_heads = u64::from(shape.n_kv_heads);
    let d = u64::from(shape.head_dim);

    let flop = product(&[layers, 4, n, t, heads, d]);
    let scores = product(&[layers, heads, n, t]);
    let concatenated = if pass.kv_len > 0 { layers * 2 * t * kv_heads * d } else { 0 };
    let repeated = if heads > kv_heads { layers * 2 * t * heads * d } else { 0 };
    let read = layers * 2 * t * heads * d;
    let relaid = layers * 2 * n * heads * d;
    let kv_moved = 2 * concatenated + 2 * repeated + read;
    let moved = product(&[6, scores]).saturating_add(kv_moved + relaid);

    let features = match class.regime {
        Regime::OneRow => vec![
            (Feature::Calls, layers as f64),
            (Feature::Elements, relaid as f64),
            (Feature::Flop, flop as f64),
            (Feature::KvElements, concatenated as f64),
        ],
        Regime::ManyRows => {
            let parallel = n * t * d >= PARALLEL_GEMM_WORK;
            let if_parallel = |value: u64| if parallel { value as f64 } else { 0.0 };
            vec![
                (Feature::Calls, layers as f64),
                (Feature::Flop, if parallel { 0.0 } else { flop as f64 }),
                (Feature::ParallelFlop, if_parallel(flop)),
                (Feature::ParallelCalls, if_parallel(layers * 2 * heads)),
                (Feature::ScoreElements, scores as f64),
                (Feature::KvElements, read as f64),
            ]
        }
    };
    OpCost {
        op: OpKind::Attention,
        role: None,
        tensor_type: None,
        class,
        calls: shape.n_layers,
        flop,
        bytes: product(&[F32_BYTES, moved]),
        features,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tinyllama() -> ModelShape {
        ModelShape {
            architecture: "llama".into(),
            n_layers: 22,
            hidden_size: 2048,
            n_heads: 32,
            n_kv_heads: 4,
            head_dim: 64,
            intermediate_size: 5632,
            vocab_size: 32000,
            context_length: 2048,
            tied_embeddings: false,
            rope_freqs: false,
            rope_freq_base: 10_000.0,
            rms_norm_eps: 1e-5,
        }
    }

    fn value(op: &OpCost, feature: Feature) -> f64 {
        op.features.iter().find(|(f, _)| *f == feature).unwrap().1
    }

    fn attention(n_tokens: u32, kv_len: u32) -> OpCost {
        let class = KernelClass::plain(OpKind::Attention, n_tokens, false);
        attention_op(&tinyllama(), Pass { n_tokens, kv_len }, class)
    }

    #[test]
    fn a_decode_step_of_tinyllama_by_hand() {
        let op = attention(1, 1023);
        assert_eq!(op.flop, 22 * 4 * 1024 * 32 * 64);
        assert_eq!(value(&op, Feature::Elements), f64::from(22 * 2 * 32 * 64));
        assert_eq!(value(&op, Feature::KvElements), f64::from(22 * 2 * 1024 * 4 * 64));
    }

    #[test]
    fn a_prompt_of_tinyllama_by_hand() {
        let op = attention(512, 0);
        assert_eq!(op.flop, 22 * 4 * 512 * 512 * 32 * 64);
        assert_eq!(value(&op, Feature::ScoreElements), f64::from(22 * 32 * 512 * 512));
        assert_eq!(value(&op, Feature::ParallelCalls), f64::from(22 * 2 * 32));
        assert_eq!(value(&op, Feature::Flop), 0.0);
    }

    #[test]
    fn small_score_matrices_are_multiplied_by_one_thread() {
        // 64 · 64 · 64 is below 48 · 48 · 256, 128 · 128 · 64 above.
        assert_eq!(value(&attention(64, 0), Feature::ParallelCalls), 0.0);
        assert!(value(&attention(128, 0), Feature::ParallelCalls) > 0.0);
    }
}
