//! Attention: what an engine does between the projections of queries, keys and values and that of
//! the output.

use std::collections::BTreeMap;

use foretoken_spec::{LatentAttention, LayerKind, LayerView, ModelShape, OpKind, Pass};

use crate::launches;
use crate::ops::product;
use crate::{
    AttentionForm, EngineProfile, Feature, Features, KernelClass, KvLayout, OpCost, Regime,
};

const F32_BYTES: u64 = 4;

/// Work (`m · k · n`) from which candle's dense multiplication takes several threads: the default
/// of the `gemm` crate (`DEFAULT_THREADING_THRESHOLD`).
const PARALLEL_GEMM_WORK: u64 = 48 * 48 * 256;

/// Tokens that llama.cpp takes through the layers at once (`n_ubatch`).
pub(crate) const LLAMA_CPP_UBATCH: u64 = 512;

/// The layers that attend, and how the engine keeps what they attend to.
#[derive(Debug, Clone)]
pub(crate) struct AttentionLayers {
    /// Heads, window and number of alike layers.
    layers: Vec<(Heads, Option<u32>, u32)>,
    layout: KvLayout,
}

impl AttentionLayers {
    /// Those of this shape.
    pub(crate) fn of(shape: &ModelShape, engine: &EngineProfile) -> Self {
        let latent = shape.details.latent.as_ref();
        let layers = attention_layers(shape)
            .into_iter()
            .map(|(layer, count)| (Heads::of(&layer, latent), layer.window, count))
            .collect();
        Self { layers, layout: engine.kv_layout(shape) }
    }

    /// Everything inside attention but its projections and the rotary embedding, over all layers.
    ///
    /// With `n` new tokens, `t = kv_len + n` keys, `H` heads, `G` key-value heads, keys of width `d`
    /// and values of width `e`, per layer and sequence:
    /// - scores and values: `2 · n · t · H · (d + e)` FLOP, two multiplications per head, each by one
    ///   thread or by all of them (at a price per call) as its `n · t · d` says;
    /// - materialised: the score matrices have `H · n · t` elements; they are written, scaled, masked
    ///   (prefill only), soft-maxed and read; keys and values, `t · G · (d + e)` elements, are
    ///   concatenated when the cache is not empty and copied as a whole ([`KvLayout::Concatenated`]),
    ///   materialised for every head when `H > G`, and `t · H · (d + e)` are read and packed;
    /// - flash: no scores are kept, `t · G · (d + e)` elements of keys and values are read;
    /// - the queries and the output, `n · H · (d + e)` elements, change layout.
    ///
    /// On a graphics device a multiplication takes all heads at once, and what grows with the number of
    /// kernels is [`Feature::Launches`].
    ///
    /// In an engine that caps the cache of a windowed layer, `t` is at most the window and the tokens
    /// that go in at once. Attention on a latent has one key-value head of the latent's width.
    pub(crate) fn cost(
        &self,
        engine: &EngineProfile,
        pass: Pass,
        batch: u32,
        class: KernelClass,
    ) -> OpCost {
        let form = class.attention;
        let mut sum = Sum::default();
        for (heads, window, count) in &self.layers {
            let t = keys(engine, pass, *window);
            let layers = u64::from(*count) * u64::from(batch);
            sum.add(heads, pass, t, layers, (form, self.layout));
        }
        let features = match (form, class.regime) {
            // One multiplication takes all heads.
            (AttentionForm::Materialised, _) if engine.is_candle_on_gpu() => Features::from([
                (Feature::Launches, sum.launches as f64),
                (Feature::Flop, sum.flop as f64),
                (Feature::KvElements, sum.concatenated as f64),
                (Feature::RepeatedElements, sum.repeated as f64),
                (Feature::ScoreElements, sum.scores as f64),
            ]),
            (AttentionForm::Flash, _) => Features::from([
                (Feature::Calls, sum.layers as f64),
                (Feature::Elements, sum.relaid as f64),
                (Feature::Flop, sum.flop as f64),
                (Feature::KvElements, sum.cached as f64),
            ]),
            (AttentionForm::Materialised, Regime::OneRow) => Features::from([
                (Feature::Calls, sum.layers as f64),
                (Feature::HeadCalls, sum.head_calls as f64),
                (Feature::Flop, sum.flop as f64),
                (Feature::KvElements, sum.concatenated as f64),
                (Feature::RepeatedElements, sum.repeated as f64),
                (Feature::ScoreElements, sum.scores as f64),
            ]),
            (AttentionForm::Materialised, Regime::ManyRows) => Features::from([
                (Feature::Calls, sum.layers as f64),
                (Feature::Flop, (sum.flop - sum.parallel_flop) as f64),
                (Feature::ParallelFlop, sum.parallel_flop as f64),
                (Feature::ParallelCalls, sum.parallel_calls as f64),
                (Feature::ScoreElements, sum.scores as f64),
                (Feature::KvElements, sum.read as f64),
            ]),
        };
        OpCost {
            op: OpKind::Attention,
            role: None,
            tensor_type: None,
            class,
            calls: u32::try_from(sum.layers).unwrap_or(u32::MAX),
            flop: sum.flop,
            bytes: sum.bytes(form, engine),
            features,
        }
    }
}

/// The layers that attend, alike ones counted together.
pub(crate) fn attention_layers(shape: &ModelShape) -> BTreeMap<LayerView, u32> {
    let mut layers = BTreeMap::new();
    for layer in shape.layers().filter(|l| l.kind == LayerKind::Attention && l.n_kv_heads > 0) {
        // What the feed-forward layer is like does not matter here.
        let key = LayerView { intermediate_size: 0, has_experts: false, rope_dim: 0, ..layer };
        *layers.entry(key).or_insert(0) += 1;
    }
    layers
}

/// Keys that the rows of a pass meet: all of them, or those near the window in an engine that
/// drops the others.
fn keys(engine: &EngineProfile, pass: Pass, window: Option<u32>) -> u64 {
    let n = u64::from(pass.n_tokens);
    let t = u64::from(pass.kv_len) + n;
    match window.filter(|_| engine.caps_windows()) {
        Some(window) => t.min(u64::from(window) + n.min(LLAMA_CPP_UBATCH).saturating_sub(1)),
        None => t,
    }
}

/// The heads of a layer as the scores see them.
#[derive(Debug, Clone)]
struct Heads {
    query: u64,
    kv: u64,
    key_width: u64,
    value_width: u64,
}

impl Heads {
    fn of(layer: &LayerView, latent: Option<&LatentAttention>) -> Self {
        match latent {
            Some(latent) if latent.absorbed => Self {
                query: layer.n_heads.into(),
                kv: 1,
                key_width: u64::from(latent.kv_rank) + u64::from(latent.rope_dim),
                value_width: latent.kv_rank.into(),
            },
            _ => Self {
                query: layer.n_heads.into(),
                kv: layer.n_kv_heads.into(),
                key_width: layer.head_dim.into(),
                value_width: layer.value_dim.into(),
            },
        }
    }
}

/// Sums over layers.
#[derive(Debug, Default)]
struct Sum {
    layers: u64,
    launches: u64,
    flop: u64,
    head_calls: u64,
    parallel_flop: u64,
    parallel_calls: u64,
    scores: u64,
    cached: u64,
    concatenated: u64,
    repeated: u64,
    read: u64,
    relaid: u64,
}

impl Sum {
    fn add(
        &mut self,
        heads: &Heads,
        pass: Pass,
        t: u64,
        layers: u64,
        (form, layout): (AttentionForm, KvLayout),
    ) {
        let n = u64::from(pass.n_tokens);
        let Heads { query, kv, key_width, value_width } = *heads;
        let width = key_width + value_width;
        let flop = product(&[layers, 2, n, t, query, width]);
        let cached = product(&[layers, t, kv, width]);
        let add = |to: &mut u64, more: u64| *to = to.saturating_add(more);
        add(&mut self.layers, layers);
        add(&mut self.flop, flop);
        add(&mut self.cached, cached);
        add(&mut self.relaid, product(&[layers, n, query, width]));
        if form == AttentionForm::Flash {
            return;
        }
        let head_calls = product(&[layers, 2, query]);
        add(&mut self.head_calls, head_calls);
        if product(&[n, t, key_width]) >= PARALLEL_GEMM_WORK {
            add(&mut self.parallel_flop, flop);
            add(&mut self.parallel_calls, head_calls);
        }
        let joins = pass.kv_len > 0 && layout == KvLayout::Concatenated;
        let launches = launches::attention(query, kv, Regime::of(pass.n_tokens), joins);
        add(&mut self.launches, product(&[layers, launches]));
        add(&mut self.scores, product(&[layers, query, n, t]));
        add(&mut self.read, product(&[layers, t, query, width]));
        if joins {
            add(&mut self.concatenated, cached);
        }
        if query > kv {
            add(&mut self.repeated, product(&[layers, t, query, width]));
        }
    }

    /// Memory traffic: scores are written and read by several operations in turn; keys and values
    /// come from the cache in its own type.
    fn bytes(&self, form: AttentionForm, engine: &EngineProfile) -> u64 {
        match form {
            AttentionForm::Materialised => {
                let copies = self.concatenated.saturating_add(self.repeated).saturating_mul(2);
                let moved = product(&[6, self.scores])
                    .saturating_add(copies)
                    .saturating_add(self.read)
                    .saturating_add(self.relaid);
                product(&[F32_BYTES, moved])
            }
            AttentionForm::Flash => {
                engine.kv_bytes(self.cached).saturating_add(product(&[F32_BYTES, self.relaid]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::ZEN5;
    use foretoken_spec::{ShapeDetails, SlidingWindow};

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
            details: ShapeDetails::default(),
        }
    }

    fn attention_op(
        shape: &ModelShape,
        engine: &EngineProfile,
        pass: Pass,
        batch: u32,
        class: KernelClass,
    ) -> OpCost {
        AttentionLayers::of(shape, engine).cost(engine, pass, batch, class)
    }

    fn value(op: &OpCost, feature: Feature) -> f64 {
        op.features.iter().find(|(f, _)| *f == feature).unwrap().1
    }

    fn attention(n_tokens: u32, kv_len: u32) -> OpCost {
        let class = KernelClass::plain(OpKind::Attention, n_tokens, false);
        attention_op(&tinyllama(), &ZEN5, Pass { n_tokens, kv_len }, 1, class)
    }

    #[test]
    fn a_decode_step_of_tinyllama_by_hand() {
        let op = attention(1, 1023);
        assert_eq!(op.flop, 22 * 4 * 1024 * 32 * 64);
        assert_eq!(value(&op, Feature::HeadCalls), f64::from(22 * 2 * 32));
        assert_eq!(value(&op, Feature::KvElements), f64::from(22 * 2 * 1024 * 4 * 64));
        assert_eq!(value(&op, Feature::RepeatedElements), f64::from(22 * 2 * 1024 * 32 * 64));
        assert_eq!(value(&op, Feature::ScoreElements), f64::from(22 * 32 * 1024));
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

    /// Gemma-3-1B: 26 layers, of which 22 see a window of 512 tokens; 4 heads of 256, one of them
    /// for keys and values.
    fn gemma_3_1b() -> ModelShape {
        ModelShape {
            architecture: "gemma3".into(),
            n_layers: 26,
            n_heads: 4,
            n_kv_heads: 1,
            head_dim: 256,
            details: ShapeDetails {
                window: Some(SlidingWindow { tokens: 512, full_every: 6, layers: vec![] }),
                ..ShapeDetails::default()
            },
            ..tinyllama()
        }
    }

    #[test]
    fn windows_are_capped_in_llama_cpp_and_not_in_candle() {
        let pass = Pass { n_tokens: 1, kv_len: 4095 };
        let flop = |engine: &EngineProfile| {
            let class = KernelClass::attention(engine.attention(&gemma_3_1b()), 1, false);
            attention_op(&gemma_3_1b(), engine, pass, 1, class).flop
        };
        // 4 · t · H · d in each layer: all 26 see 4096 keys, or 4 of them and 22 see 512.
        assert_eq!(flop(&ZEN5), 26 * 4 * 4096 * 4 * 256);
        let llama_cpp = EngineProfile::llama_cpp(ZEN5.isa);
        assert_eq!(flop(&llama_cpp), 4 * (4 * 4096 + 22 * 512) * 4 * 256);
    }

    #[test]
    fn a_batch_multiplies_attention() {
        let pass = Pass { n_tokens: 1, kv_len: 99 };
        let class = KernelClass::plain(OpKind::Attention, 1, false);
        let of = |batch| attention_op(&tinyllama(), &ZEN5, pass, batch, class);
        assert_eq!(of(3).flop, 3 * of(1).flop);
        assert_eq!(of(3).bytes, 3 * of(1).bytes);
    }

    #[test]
    fn attention_on_a_latent_by_hand() {
        // DeepSeek-V2-Lite: 27 layers, 16 heads, latent of 512 and 64 rotated elements.
        let mut shape = ModelShape { n_layers: 27, n_heads: 16, n_kv_heads: 16, ..tinyllama() };
        shape.head_dim = 192;
        shape.details.value_dim = Some(128);
        shape.details.latent =
            Some(LatentAttention { kv_rank: 512, q_rank: 0, rope_dim: 64, absorbed: true });
        let class = KernelClass::plain(OpKind::Attention, 1, false);
        let op = attention_op(&shape, &ZEN5, Pass { n_tokens: 1, kv_len: 999 }, 1, class);
        assert_eq!(op.flop, 27 * 2 * 1000 * 16 * (576 + 512));
        assert_eq!(shape.kv_elements_per_token(), 27 * 576);
        shape.details.latent.as_mut().unwrap().absorbed = false;
        assert_eq!(shape.kv_elements_per_token(), 27 * 16 * (192 + 128));
    }
}
