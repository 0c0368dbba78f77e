use foretoken_spec::{Experts, ModelSource, ShapeDetails};

use super::*;

fn shape(architecture: &str) -> ModelShape {
    ModelShape {
        architecture: architecture.into(),
        n_layers: 2,
        hidden_size: 256,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 64,
        intermediate_size: 512,
        vocab_size: 320,
        context_length: 2048,
        tied_embeddings: false,
        rope_freqs: false,
        rope_freq_base: 10_000.0,
        rms_norm_eps: 1e-5,
        details: ShapeDetails::default(),
    }
}

fn spec(shape: ModelShape) -> ModelSpec {
    ModelSpec::from_shape("m", "f", "q", ModelSource::Mini, shape, |role, _| {
        if role.is_kept_f32() { TensorType::F32 } else { TensorType::Q8_0 }
    })
}

fn refusal(shape: ModelShape) -> String {
    candle_reader(&spec(shape)).unwrap_err().to_string()
}

#[test]
fn every_architecture_of_candle_has_one_reader_and_a_known_form() {
    for info in READERS {
        for architecture in info.architectures {
            assert_eq!(of_architecture(architecture), Some(info));
            assert!(foretoken_spec::Architecture::find(architecture).is_some(), "{architecture}");
        }
    }
}

#[test]
fn a_model_of_every_reader_loads() {
    for architecture in ["llama", "qwen2", "qwen3", "gemma3", "phi3"] {
        let info = candle_reader(&spec(shape(architecture))).unwrap();
        assert_eq!(info.architectures, [architecture]);
    }
    let mut glm = shape("glm4");
    glm.details.rope_dim = Some(32);
    assert_eq!(candle_reader(&spec(glm)).unwrap().reader, Reader::Glm4);
    let mut phi2 = shape("phi2");
    (phi2.n_kv_heads, phi2.details.rope_dim) = (4, Some(32));
    assert_eq!(candle_reader(&spec(phi2)).unwrap().reader, Reader::Phi2);
}

#[test]
fn what_a_reader_cannot_load_is_refused_with_the_reason() {
    let message = refusal(shape("gemma2"));
    assert!(message.contains("no GGUF reader for architecture `gemma2`"), "{message}");
    // Mistral-Nemo: heads of 128 where hidden_size / n_heads is 160.
    let nemo = ModelShape { hidden_size: 320, ..shape("llama") };
    let message = refusal(nemo);
    assert!(message.contains("head_dim") && message.contains("= 80"), "{message}");
    let mut mixtral = shape("llama");
    mixtral.details.experts =
        Some(Experts { count: 8, used: 2, intermediate_size: 512, ..Experts::default() });
    let message = refusal(mixtral);
    assert!(message.contains("ffn_gate_exps") && message.contains("stacked"), "{message}");
    let tied = ModelShape { tied_embeddings: true, ..shape("phi3") };
    assert!(refusal(tied).contains("LM head of its own"));
    let mut partial = shape("phi3");
    partial.details.rope_dim = Some(48);
    assert!(refusal(partial).contains("rope_dim"));
    let moe = shape("qwen3moe");
    assert!(refusal(moe).contains("CUDA only"));
}

#[test]
fn types_and_tensors_are_checked() {
    let mut model = spec(shape("qwen2"));
    model.tensors.retain(|t| t.name != "blk.1.attn_k.bias");
    let message = candle_reader(&model).unwrap_err().to_string();
    assert!(message.contains("`blk.1.attn_k.bias`"), "{message}");
    let mut model = spec(shape("llama"));
    model.tensors[2].tensor_type = TensorType::IQ4_XS;
    let message = candle_reader(&model).unwrap_err().to_string();
    assert!(message.contains("IQ4_XS"), "{message}");
}

#[test]
fn depths_beyond_the_tables_are_refused() {
    let llama = of_architecture("llama").unwrap();
    let shape = ModelShape { context_length: 131_072, ..shape("llama") };
    let of = |depth| Workload { prompt_tokens: 512, generated_tokens: 128, depth };
    assert!(check_workload(llama, &shape, &of(3456)).is_ok());
    let message = check_workload(llama, &shape, &of(3457)).unwrap_err().to_string();
    assert!(message.contains("quantized_llama ends at 4096"), "{message}");
    let qwen = of_architecture("qwen2").unwrap();
    assert_eq!(qwen.longest_position(&shape), 131_072);
    // Room for the whole context is set aside in every layer.
    assert_eq!(of_architecture("phi3").unwrap().longest_position(&shape), 4096);
}

#[test]
fn rotary_tables_of_gemma_3_1b_take_gigabytes() {
    let gemma = ModelShape { n_layers: 26, head_dim: 256, ..shape("gemma3") };
    let info = of_architecture("gemma3").unwrap();
    assert_eq!(info.rope_table_bytes(&gemma), 26 * 131_072 * 256 * 4);
    let llama = of_architecture("llama").unwrap();
    assert_eq!(llama.rope_table_bytes(&shape("llama")), 4096 * 64 * 4);
}

#[test]
fn a_prompt_behind_cached_tokens_is_refused_where_the_reader_fails() {
    let gemma = of_architecture("gemma3").unwrap();
    let of = |prompt_tokens, depth| Workload { prompt_tokens, generated_tokens: 8, depth };
    for good in [of(512, 0), of(0, 512), of(1, 512)] {
        assert!(check_workload(gemma, &shape("gemma3"), &good).is_ok());
    }
    let message = check_workload(gemma, &shape("gemma3"), &of(2, 512)).unwrap_err().to_string();
    assert!(message.contains("into an empty cache only"), "{message}");
}
