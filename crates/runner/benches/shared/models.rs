//! The two models of the benches: large matrices, and many small kernels.

use foretoken_gguf::mix::quantized_spec;
use foretoken_spec::{ModelShape, ModelSource, ModelSpec, QuantScheme};

/// TinyLlama-1.1B, Q4_K_M.
pub fn tinyllama() -> ModelSpec {
    spec("tinyllama-1.1b", (22, 2048, 32, 4, 5632, 32_000, false), QuantScheme::Q4_K_M)
}

/// SmolLM2-135M, Q8_0: 30 layers of kernels that take microseconds.
pub fn smollm2_135m() -> ModelSpec {
    spec("smollm2-135m", (30, 576, 9, 3, 1536, 49_152, true), QuantScheme::Q8_0)
}

fn spec(
    name: &str,
    (n_layers, hidden_size, n_heads, n_kv_heads, intermediate_size, vocab_size, tied_embeddings): (
        u32,
        u32,
        u32,
        u32,
        u32,
        u32,
        bool,
    ),
    quant: QuantScheme,
) -> ModelSpec {
    let shape = ModelShape {
        architecture: "llama".into(),
        n_layers,
        hidden_size,
        n_heads,
        n_kv_heads,
        head_dim: hidden_size / n_heads,
        intermediate_size,
        vocab_size,
        context_length: 2048,
        tied_embeddings,
        rope_freqs: false,
        rope_freq_base: 10_000.0,
        rms_norm_eps: 1e-5,
        details: foretoken_spec::ShapeDetails::default(),
    };
    quantized_spec(name, name, ModelSource::Mini, shape, quant)
}
