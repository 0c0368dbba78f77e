//! Attention as candle's llama reader does it: keys and values concatenated, heads materialised,
//! one F32 score matrix per head.

use foretoken_spec::{ModelShape, OpKind, Pass};

use crate::{Feature, KernelClass, OpCost};

const F32_BYTES: u64 = 4;

/// Everything inside the attention span but its projections and the rotary embedding.
///
/// With `n` new tokens, `t = kv_len + n` keys, `H` heads, `G` key-value heads of width `d`, per
/// layer:
/// - scores and values: `4 · n · t · H · d` FLOP;
/// - the score matrices have `H · n · t` elements; they are written, scaled, masked (prefill
///   only), soft-maxed and read;
/// - keys and values: `2 · t · G · d` elements are concatenated when the cache is not empty,
///   `2 · t · H · d` are materialised when `H > G`, and `2 · t · H · d` are read;
/// - the queries and the output, `2 · n · H · d` elements, change layout.
pub(crate) fn attention_op(shape: &ModelShape, pass: Pass) -> OpCost {
    let n = u64::from(pass.n_tokens);
    let t = u64::from(pass.kv_len) + n;
    let layers = u64::from(shape.n_layers);
    let heads = u64::from(shape.n_heads);
    let kv_heads = u64::from(shape.n_kv_heads);
    let d = u64::from(shape.head_dim);

    let flop = layers * 4 * n * t * heads * d;
    let scores = heads * n * t;
    let concatenated = if pass.kv_len > 0 { 2 * 2 * t * kv_heads * d } else { 0 };
    let repeated = if heads > kv_heads { 2 * 2 * t * heads * d } else { 0 };
    let read = 2 * t * heads * d;
    let relaid = 2 * n * heads * d;
    let kv_bytes = layers * F32_BYTES * (concatenated + repeated + read);
    let score_passes: u64 = if n > 1 { 8 } else { 6 };
    let score_bytes = layers * F32_BYTES * scores * score_passes;
    OpCost {
        op: OpKind::Attention,
        role: None,
        tensor_type: None,
        class: KernelClass::plain(OpKind::Attention, pass.n_tokens),
        calls: shape.n_layers,
        flop,
        bytes: kv_bytes + score_bytes + layers * F32_BYTES * relaid,
        features: vec![
            (Feature::Calls, layers as f64),
            (Feature::Flop, flop as f64),
            (Feature::HeadCalls, (layers * heads) as f64),
            (Feature::ScoreElements, (layers * scores) as f64),
            (Feature::KvBytes, kv_bytes as f64),
        ],
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

    #[test]
    fn attention_of_tinyllama_by_hand() {
        let op = attention_op(&tinyllama(), Pass { n_tokens: 1, kv_len: 1023 });
        assert_eq!(op.flop, 22 * 4 * 1024 * 32 * 64);
        assert_eq!(value(&op, Feature::ScoreElements), 22.0 * 32.0 * 1024.0);
        // concat 2·2·1024·4·64, repeat 2·2·1024·32·64, read 2·1024·32·64 elements of 4 bytes
        let elements = 1_048_576 + 8_388_608 + 4_194_304;
        assert_eq!(value(&op, Feature::KvBytes), f64::from(22 * 4 * elements));
    }
}
