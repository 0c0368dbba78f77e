//! Memory that an engine needs for a model and a workload.

use foretoken_spec::{
    LayerKind, ModelShape, ModelSpec, RoleKind, TensorRole, TensorSpec, TensorType, Workload,
};

use crate::attention::{LLAMA_CPP_UBATCH, attention_layers};
use crate::ops::product;
use crate::{AttentionForm, Engine, EngineProfile, KvLayout, LongestPosition, readers};

const F32_BYTES: u64 = 4;

/// Memory by part, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryParts {
    /// Weights as the engine keeps them: stored and repacked copies, the F32 embedding, tables.
    pub weights: u64,
    /// Keys and values at the end of the workload.
    pub kv_cache: u64,
    /// Largest temporaries of a pass.
    pub activations: u64,
}

impl MemoryParts {
    /// Sum of the parts.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv_cache).saturating_add(self.activations)
    }
}

/// Bytes of keys and values of `tokens` cached tokens.
///
/// An engine that caps windowed layers keeps the window and the tokens of one slice of a prompt
/// (llama.cpp, `llama_kv_cache_iswa`). Short convolutions and states are counted too: they do not
/// grow.
pub fn kv_cache_bytes(shape: &ModelShape, engine: &EngineProfile, tokens: u64) -> u64 {
    let elements: u64 = attention_layers(shape)
        .iter()
        .map(|(layer, count)| {
            let kept = match layer.window.filter(|_| engine.caps_windows()) {
                Some(window) => tokens.min(u64::from(window) + LLAMA_CPP_UBATCH),
                None => tokens,
            };
            kept * shape.layer_kv_elements(layer) * u64::from(*count)
        })
        .sum();
    engine.kv_bytes(elements) + state_bytes(shape)
}

/// Bytes of what short convolutions and recurrent layers carry from token to token, in F32.
fn state_bytes(shape: &ModelShape) -> u64 {
    let hidden = u64::from(shape.hidden_size);
    let conv = u64::from(shape.details.conv_length.unwrap_or(0).saturating_sub(1)) * hidden;
    let recurrent = shape.details.recurrent.as_ref().map_or(0, |it| {
        let kept = it.conv_length.saturating_sub(1) + it.state_size;
        u64::from(it.inner_size) * u64::from(kept)
    });
    let of_layer = |kind| match kind {
        LayerKind::ShortConvolution => conv,
        LayerKind::Recurrent => recurrent,
        LayerKind::Attention | LayerKind::FeedForwardOnly => 0,
    };
    F32_BYTES * shape.layers().map(|layer| of_layer(layer.kind)).sum::<u64>()
}

/// Memory that the engine needs to run `workload`.
pub fn memory_parts(model: &ModelSpec, engine: &EngineProfile, workload: &Workload) -> MemoryParts {
    batch_memory(model, engine, workload, 1)
}

/// Memory that the engine needs to run `workload` for `batch` sequences at once.
pub fn batch_memory(
    model: &ModelSpec,
    engine: &EngineProfile,
    workload: &Workload,
    batch: u32,
) -> MemoryParts {
    let batch = u64::from(batch.max(1));
    let tokens = u64::from(workload.total_tokens()).max(reserved_tokens(&model.shape, engine));
    let mut kv_cache = kv_cache_bytes(&model.shape, engine, tokens);
    if engine.kv_layout(&model.shape) == KvLayout::Interleaved {
        // The prompt is kept a second time, as the tensor that prefill attends to.
        let prompt = u64::from(workload.depth) + u64::from(workload.prompt_tokens);
        kv_cache += kv_cache_bytes(&model.shape, engine, prompt);
    }
    MemoryParts {
        weights: weight_bytes(model, engine),
        kv_cache: batch.saturating_mul(kv_cache),
        activations: batch.saturating_mul(activation_bytes(&model.shape, engine, workload)),
    }
}

/// What an engine keeps beside what a file stores, as sentences for whoever wonders why the memory
/// is larger than the file.
pub fn memory_notes(model: &ModelSpec, engine: &EngineProfile) -> Vec<String> {
    let mut notes = Vec::new();
    if engine.engine != Engine::Candle {
        return notes;
    }
    let is_repacked = |t: &&TensorSpec| {
        let (k, n) = (t.shape.first().copied().unwrap_or(1), t.shape.get(1).copied().unwrap_or(1));
        let is_matrix = t.shape.len() > 1 && !t.role.is_kept_f32();
        is_matrix
            && t.role != TensorRole::TokenEmbedding
            && !t.tensor_type.is_float()
            && engine.resident_bytes(t.tensor_type, k, n, t.role == TensorRole::Output)
                > t.tensor_type.bytes(k) * n
    };
    let is_dense = |t: &&TensorSpec| {
        matches!(t.tensor_type, TensorType::F16 | TensorType::BF16)
            && t.role != TensorRole::TokenEmbedding
    };
    let mut kept = vec!["the embedding as F32"];
    if model.tensors.iter().any(|t| is_repacked(&t)) {
        kept.push("a second copy of matrices, repacked into tiles for its vector kernels");
    }
    if model.tensors.iter().any(|t| is_dense(&t)) {
        kept.push("16-bit matrices as F32");
    }
    kept.push("rotary tables");
    notes.push(format!("candle keeps {}.", kept.join(", ")));
    let shape = &model.shape;
    let reader = readers::of_architecture(&shape.architecture);
    let reserved = reserved_tokens(shape, engine);
    if reserved > 0 {
        notes.push(format!(
            "The KV cache has room for {reserved} tokens from the first one on: candle's reader \
             of `{}` sets it aside.",
            shape.architecture
        ));
    }
    if reader.is_some() && engine.kv_layout(shape) == KvLayout::Interleaved {
        notes.push(format!(
            "The KV cache holds the prompt twice: candle's reader of `{}` keeps it as a tensor \
             and in a flat buffer.",
            shape.architecture
        ));
    }
    notes
}

/// Tokens that a reader sets room aside for at each prompt, whatever the workload: where freed memory
/// is kept, all of that room is filled with zeros from the second prompt on.
fn reserved_tokens(shape: &ModelShape, engine: &EngineProfile) -> u64 {
    let reader = readers::of_architecture(&shape.architecture);
    match reader.filter(|_| engine.engine == Engine::Candle) {
        Some(info) if matches!(info.longest, LongestPosition::ContextLengthUpTo(_)) => {
            info.longest_position(shape).into()
        }
        _ => 0,
    }
}

/// Weights in memory once every kernel of the workload has run.
///
/// candle dequantizes the embedding to F32; where it is tied, its stored copy stays for the LM
/// head, which only ever sees one row. Every load is warmed up with several rows, so all copies
/// exist. llama.cpp keeps what is stored.
fn weight_bytes(model: &ModelSpec, engine: &EngineProfile) -> u64 {
    if engine.engine == Engine::LlamaCpp {
        return model.weight_bytes();
    }
    let tied = model.tensors.iter().all(|t| t.role != TensorRole::Output);
    let tensors: u64 = model
        .tensors
        .iter()
        .map(|tensor| {
            let (k, n) = match tensor.shape[..] {
                [k, n] => (k, n),
                [k, n, stacked] => (k, n.saturating_mul(stacked)),
                _ => (tensor.n_elements(), 1),
            };
            let head = || engine.resident_bytes(tensor.tensor_type, k, n, true);
            match (tensor.role, tensor.role.kind()) {
                (TensorRole::TokenEmbedding, _) => {
                    F32_BYTES * k * n + if tied { head() } else { 0 }
                }
                (TensorRole::Output, _) => head(),
                (_, RoleKind::Unknown | RoleKind::Factors) => 0,
                (role, _) if role.is_kept_f32() => F32_BYTES * tensor.n_elements(),
                _ => engine.resident_bytes(tensor.tensor_type, k, n, false),
            }
        })
        .fold(0, u64::saturating_add);
    let shape = &model.shape;
    let reader = readers::of_architecture(&shape.architecture).unwrap_or(&readers::READERS[0]);
    tensors.saturating_add(reader.rope_table_bytes(shape))
}

/// Largest set of temporaries that live at once, the larger of:
/// - attention: two score matrices (three where a mask makes another), the materialised keys and
///   values, queries and outputs; without score matrices where the engine keeps none;
/// - feed-forward: gate, activation, up and product.
fn activation_bytes(shape: &ModelShape, engine: &EngineProfile, workload: &Workload) -> u64 {
    // llama.cpp takes a prompt through the layers in slices.
    let slice =
        |n: u64| if engine.engine == Engine::LlamaCpp { n.min(LLAMA_CPP_UBATCH) } else { n };
    let n = slice(u64::from(workload.prompt_tokens.max(1)));
    let t = u64::from(workload.total_tokens().max(1));
    let prompt_keys = u64::from(workload.depth) + u64::from(workload.prompt_tokens.max(1));
    let flash = engine.attention(shape) == AttentionForm::Flash;
    let attention = attention_layers(shape)
        .keys()
        .map(|layer| {
            let heads = u64::from(layer.n_heads);
            let d = u64::from(layer.head_dim.max(layer.value_dim));
            if flash {
                return 3 * n * heads * d;
            }
            let repeated = if layer.n_heads > layer.n_kv_heads { 2 * t * heads * d } else { 0 };
            let score_matrices = if n > 1 { 3 } else { 2 };
            let scores = product(&[score_matrices, heads, n, prompt_keys]);
            scores.saturating_add(repeated + 3 * n * heads * d)
        })
        .max()
        .unwrap_or(0);
    let experts = shape.details.experts.as_ref().map_or(0, |it| {
        u64::from(it.used) * u64::from(it.intermediate_size)
            + u64::from(it.shared_intermediate_size)
    });
    let widest = shape.layers().map(|layer| u64::from(layer.intermediate_size)).max();
    let feed_forward = 4 * n * widest.unwrap_or(0).max(experts);
    let residual = 3 * n * u64::from(shape.hidden_size);
    let logits = 4 * u64::from(shape.vocab_size);
    F32_BYTES * (attention.max(feed_forward).saturating_add(residual + logits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::ZEN5;
    use foretoken_spec::{LayerShape, ModelSource, ShapeDetails, SlidingWindow};

    fn tiny(tensor_type: TensorType, tied: bool) -> ModelSpec {
        let shape = ModelShape {
            architecture: "llama".into(),
            n_layers: 1,
            hidden_size: 256,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 64,
            intermediate_size: 512,
            vocab_size: 1024,
            context_length: 4096,
            tied_embeddings: tied,
            rope_freqs: false,
            rope_freq_base: 10_000.0,
            rms_norm_eps: 1e-5,
            details: ShapeDetails::default(),
        };
        ModelSpec::from_shape("tiny", "tiny", "test", ModelSource::Mini, shape, |role, _| {
            if role.is_vector() { TensorType::F32 } else { tensor_type }
        })
    }

    #[test]
    fn resident_weights_of_an_f16_file_are_f32() {
        let model = tiny(TensorType::F16, false);
        let workload = Workload::new(8, 8, 0).unwrap();
        let parts = memory_parts(&model, &ZEN5, &workload);
        let rope = 4096 * 64 * 4;
        assert_eq!(parts.weights, 4 * model.n_parameters() + rope);
        // 16 tokens · 2 · 1 layer · 2 heads · 64 · 4 bytes
        assert_eq!(parts.kv_cache, 16 * 1024);
    }

    #[test]
    fn a_tied_embedding_is_kept_twice() {
        let model = tiny(TensorType::Q8_0, true);
        let workload = Workload::new(8, 0, 0).unwrap();
        let matrices: u64 = 256 * 256 * 2 + 2 * 256 * 128 + 3 * 256 * 512;
        let q8 = |n: u64| n * 34 / 32;
        let expected = 2 * q8(matrices) // stored and tiled, the same size
            + 4 * 256 * 1024 // F32 embedding
            + 2 * q8(256 * 1024) // LM head, stored and tiled
            + 4 * 3 * 256 // norms
            + 4096 * 64 * 4;
        assert_eq!(memory_parts(&model, &ZEN5, &workload).weights, expected);
    }

    #[test]
    fn caches_follow_type_window_and_batch() {
        // Gemma-3-1B: 26 layers, 22 of them with a window of 512; 1 head of 256.
        let shape = ModelShape {
            architecture: "gemma3".into(),
            n_layers: 26,
            n_heads: 4,
            n_kv_heads: 1,
            head_dim: 256,
            details: ShapeDetails {
                window: Some(SlidingWindow { tokens: 512, full_every: 6, layers: vec![] }),
                ..ShapeDetails::default()
            },
            ..tiny(TensorType::Q8_0, true).shape
        };
        assert_eq!(kv_cache_bytes(&shape, &ZEN5, 4096), 4096 * 26 * 512 * 4);
        let llama_cpp = EngineProfile::llama_cpp(ZEN5.isa);
        // Windowed layers keep 512 tokens and a slice of 512.
        let elements = (4 * 4096 + 22 * 1024) * 512;
        assert_eq!(kv_cache_bytes(&shape, &llama_cpp, 4096), elements * 2);
        let q8_0 = llama_cpp.with_kv_type("q8_0").unwrap();
        assert_eq!(kv_cache_bytes(&shape, &q8_0, 4096), elements * 34 / 32);

        let model = tiny(TensorType::Q8_0, true);
        let workload = Workload::new(8, 8, 0).unwrap();
        let one = batch_memory(&model, &ZEN5, &workload, 1);
        let four = batch_memory(&model, &ZEN5, &workload, 4);
        assert_eq!((four.kv_cache, four.weights), (4 * one.kv_cache, one.weights));
    }

    #[test]
    fn what_is_kept_beside_the_file_is_said() {
        let says = |architecture: &str, tensor_type, words: &str| {
            let mut model = tiny(tensor_type, true);
            model.shape.architecture = architecture.into();
            let notes = memory_notes(&model, &ZEN5).join(" ");
            assert!(notes.contains(words), "{notes}");
        };
        says("llama", TensorType::Q4_K, "repacked into tiles");
        says("llama", TensorType::F16, "16-bit matrices as F32");
        says("phi3", TensorType::Q8_0, "room for 4096 tokens");
        says("qwen3", TensorType::Q8_0, "the prompt twice");
        let llama_cpp = EngineProfile::llama_cpp(ZEN5.isa);
        assert!(memory_notes(&tiny(TensorType::Q4_K, true), &llama_cpp).is_empty());
    }

    #[test]
    fn qwen3_keeps_the_prompt_twice() {
        let mut model = tiny(TensorType::Q8_0, true);
        model.shape.architecture = "qwen3".into();
        let workload = Workload::new(8, 8, 0).unwrap();
        // 16 tokens flat and 8 as a tensor, 1,024 bytes each.
        assert_eq!(memory_parts(&model, &ZEN5, &workload).kv_cache, 24 * 1024);
    }

    #[test]
    fn phi3_sets_room_aside_for_a_context() {
        let mut model = tiny(TensorType::Q8_0, true);
        let short = Workload::new(8, 8, 0).unwrap();
        assert_eq!(memory_parts(&model, &ZEN5, &short).kv_cache, 16 * 1024);
        model.shape.architecture = "phi3".into();
        model.shape.context_length = 131_072;
        assert_eq!(memory_parts(&model, &ZEN5, &short).kv_cache, 4096 * 1024);
        model.shape.context_length = 2048;
        assert_eq!(memory_parts(&model, &ZEN5, &short).kv_cache, 2048 * 1024);
    }

    #[test]
    fn short_convolutions_carry_a_few_positions() {
        let mut shape = tiny(TensorType::Q8_0, true).shape;
        shape.architecture = "lfm2".into();
        shape.details.conv_length = Some(3);
        shape.details.layers = vec![LayerShape {
            kind: LayerKind::ShortConvolution,
            n_heads: 0,
            n_kv_heads: 0,
            intermediate_size: 512,
        }];
        assert_eq!(kv_cache_bytes(&shape, &ZEN5, 1000), 2 * 256 * 4);
    }
}
