//! Memory that an engine needs for a model and a workload.

use foretoken_spec::{ModelShape, ModelSpec, TensorRole, Workload};

use crate::EngineProfile;

/// Longest position of candle's llama reader; its rotary tables have this many rows.
const CANDLE_MAX_SEQ_LEN: u64 = 4096;
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
        self.weights + self.kv_cache + self.activations
    }
}

/// Bytes of keys and values of `tokens` cached tokens.
pub fn kv_cache_bytes(shape: &ModelShape, engine: &EngineProfile, tokens: u64) -> u64 {
    tokens * shape.kv_bytes_per_token(engine.kv_element_bytes())
}

/// Memory that the engine needs to run `workload`.
pub fn memory_parts(model: &ModelSpec, engine: &EngineProfile, workload: &Workload) -> MemoryParts {
    MemoryParts {
        weights: weight_bytes(model, engine),
        kv_cache: kv_cache_bytes(&model.shape, engine, u64::from(workload.total_tokens())),
        activations: activation_bytes(&model.shape, workload),
    }
}

/// Weights in memory once every kernel of the workload has run.
///
/// The embedding is dequantized to F32; where it is tied, its stored copy stays for the LM head,
/// which only ever sees one row. Every load is warmed up with several rows, so all copies exist.
fn weight_bytes(model: &ModelSpec, engine: &EngineProfile) -> u64 {
    let tied = model.shape.tied_embeddings;
    let tensors: u64 = model
        .tensors
        .iter()
        .map(|tensor| {
            let (k, n) = match tensor.shape[..] {
                [k, n] => (k, n),
                _ => (tensor.n_elements(), 1),
            };
            let head = || engine.resident_bytes(tensor.tensor_type, k, n, true);
            match tensor.role {
                TensorRole::TokenEmbedding => F32_BYTES * k * n + if tied { head() } else { 0 },
                TensorRole::Output => head(),
                TensorRole::Other | TensorRole::RopeFreqs => 0,
                role if role.is_vector() => F32_BYTES * tensor.n_elements(),
                _ => engine.resident_bytes(tensor.tensor_type, k, n, false),
            }
        })
        .sum();
    let rope_tables = CANDLE_MAX_SEQ_LEN * u64::from(model.shape.head_dim) * F32_BYTES;
    tensors + rope_tables
}

/// Largest set of temporaries that live at once, the larger of:
/// - attention: two score matrices (three where a mask makes another), the materialised keys and
///   values, queries and outputs;
/// - feed-forward: gate, activation, up and product.
fn activation_bytes(shape: &ModelShape, workload: &Workload) -> u64 {
    let n = u64::from(workload.prompt_tokens.max(1));
    let t = u64::from(workload.depth) + n + u64::from(workload.generated_tokens);
    let heads = u64::from(shape.n_heads);
    let d = u64::from(shape.head_dim);
    let hidden = u64::from(shape.hidden_size);
    let repeated = if shape.n_heads > shape.n_kv_heads { 2 * t * heads * d } else { 0 };
    let score_matrices = if n > 1 { 3 } else { 2 };
    let scores = heads * n * (u64::from(workload.depth) + n);
    let attention = score_matrices * scores + repeated + 3 * n * heads * d;
    let feed_forward = 4 * n * u64::from(shape.intermediate_size);
    let residual = 3 * n * hidden;
    let logits = 4 * u64::from(shape.vocab_size);
    F32_BYTES * (attention.max(feed_forward) + residual + logits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::ZEN5;
    use foretoken_spec::{ModelSource, TensorType};

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
}
