use super::*;
use crate::testing::tiny_shape;

/// (layers, hidden, heads, key-value heads, feed-forward, vocabulary, tied, rope_freqs)
fn shape(
    [n_layers, hidden_size, n_heads, n_kv_heads, intermediate_size, vocab_size]: [u32; 6],
    tied_embeddings: bool,
    rope_freqs: bool,
) -> ModelShape {
    ModelShape {
        n_layers,
        hidden_size,
        n_heads,
        n_kv_heads,
        head_dim: hidden_size / n_heads,
        intermediate_size,
        vocab_size,
        tied_embeddings,
        rope_freqs,
        ..tiny_shape()
    }
}

fn bytes(shape: &ModelShape, scheme: QuantScheme) -> (u64, u64) {
    let spec = quantized_spec("m", "f", ModelSource::Mini, shape.clone(), scheme);
    (spec.weight_bytes(), crate::synth::file_bytes(&spec))
}

fn tinyllama() -> ModelShape {
    shape([22, 2048, 32, 4, 5632, 32_000], false, false)
}

fn llama_2_7b() -> ModelShape {
    shape([32, 4096, 32, 32, 11_008, 32_000], false, false)
}

fn llama_3_2_1b() -> ModelShape {
    shape([16, 2048, 32, 8, 8192, 128_256], true, true)
}

#[test]
fn tensor_bytes_are_those_that_llama_bench_prints() {
    // llama-bench's `model_size` is the bytes of all tensors of Llama-3.2-1B-Instruct-Q4_K_M.gguf.
    assert_eq!(bytes(&llama_3_2_1b(), QuantScheme::Q4_K_M).0, 799_862_912);
}

#[test]
fn layers_with_more_bits_are_the_outer_eighths_and_every_third() {
    let chosen: Vec<u32> = (0..22).filter(|&layer| use_more_bits(layer, 22)).collect();
    assert_eq!(chosen, [0, 1, 4, 7, 10, 13, 16, 19, 20, 21]);
    assert!((0..3).all(|layer| use_more_bits(layer, 3) == (layer >= 2)));
}

#[test]
fn the_head_takes_q6_k_whether_tied_or_not() {
    let role = TensorRole::TokenEmbedding;
    for scheme in [QuantScheme::Q4_K_M, QuantScheme::Q5_K_S, QuantScheme::Q4_0] {
        assert_eq!(tensor_type(scheme, &llama_3_2_1b(), role, None), TensorType::Q6_K);
        assert_eq!(tensor_type(scheme, &tinyllama(), role, None), base_type(scheme));
        let output = tensor_type(scheme, &tinyllama(), TensorRole::Output, None);
        assert_eq!(output, TensorType::Q6_K);
    }
    let q8 = tensor_type(QuantScheme::Q8_0, &tinyllama(), TensorRole::Output, None);
    assert_eq!(q8, TensorType::Q8_0);
}

#[test]
fn small_schemes_have_rules_of_their_own() {
    let of = |role, layer| tensor_type(QuantScheme::Q4_K_S, &llama_2_7b(), role, Some(layer));
    let v: Vec<_> = (0..6).map(|layer| of(TensorRole::AttnV, layer)).collect();
    assert_eq!(v[..4], [TensorType::Q5_K; 4]);
    assert_eq!(v[4..], [TensorType::Q4_K; 2]);
    assert_eq!(of(TensorRole::FfnDown, 3), TensorType::Q5_K);
    assert_eq!(of(TensorRole::FfnDown, 4), TensorType::Q4_K);
}

#[test]
fn a_70b_model_keeps_more_of_attn_v() {
    let model = shape([80, 8192, 64, 8, 28_672, 32_000], false, false);
    let of = |layer| tensor_type(QuantScheme::Q4_K_M, &model, TensorRole::AttnV, Some(layer));
    assert_eq!((of(0), of(10)), (TensorType::Q6_K, TensorType::Q5_K));
    let down = tensor_type(QuantScheme::Q4_K_M, &model, TensorRole::FfnDown, Some(10));
    assert_eq!(down, TensorType::Q4_K);
}

#[test]
fn low_bit_schemes_follow_llama_cpp() {
    let model = shape([32, 4096, 32, 8, 14_336, 128_256], false, false);
    let of = |scheme, role, layer| tensor_type(scheme, &model, role, Some(layer));
    let embedding = |scheme| tensor_type(scheme, &model, TensorRole::TokenEmbedding, None);
    let head = |scheme| tensor_type(scheme, &model, TensorRole::Output, None);
    use QuantScheme as S;
    use TensorRole as R;
    use TensorType as T;
    for scheme in [S::IQ1_S, S::IQ1_M, S::IQ2_XXS, S::IQ2_XS] {
        assert_eq!((embedding(scheme), head(scheme)), (T::Q2_K, T::Q5_K), "{scheme}");
        assert_eq!(of(scheme, R::AttnV, 9), T::Q4_K, "{scheme}");
        assert_eq!(of(scheme, R::FfnDown, 3), T::Q2_K, "{scheme}");
        assert_eq!(of(scheme, R::FfnDown, 4), base_type(scheme), "{scheme}");
    }
    assert_eq!(of(S::IQ1_M, R::AttnOutput, 0), T::IQ2_XXS);
    assert_eq!((embedding(S::IQ2_M), of(S::IQ2_M, R::AttnOutput, 0)), (T::IQ3_S, T::IQ3_S));
    assert_eq!((of(S::IQ2_S, R::AttnQ, 0), of(S::IQ2_M, R::AttnQ, 0)), (T::IQ2_XS, T::IQ2_S));
    assert_eq!((embedding(S::IQ3_XXS), head(S::IQ3_XXS)), (T::IQ3_S, T::Q5_K));
    assert_eq!(
        (of(S::IQ3_XXS, R::AttnK, 0), of(S::IQ3_XXS, R::AttnOutput, 0)),
        (T::IQ2_S, T::IQ3_S)
    );
    let gates = [0, 3, 4, 27, 28].map(|layer| of(S::IQ3_XS, R::FfnGate, layer));
    assert_eq!(gates, [T::IQ3_S, T::IQ3_S, T::IQ3_XXS, T::IQ3_XXS, T::IQ3_S]);
    assert_eq!((of(S::IQ3_M, R::FfnDown, 3), of(S::IQ3_M, R::FfnDown, 4)), (T::Q4_K, T::IQ3_S));
    assert_eq!((embedding(S::TQ1_0), head(S::TQ1_0)), (T::Q4_K, T::Q6_K));
    assert_eq!(of(S::TQ2_0, R::FfnDown, 0), T::TQ2_0);
    let odd = shape([30, 576, 9, 3, 1536, 49_152], true, false);
    assert_eq!(tensor_type(S::IQ2_XS, &odd, R::AttnQ, Some(0)), T::IQ4_NL);
    assert_eq!(tensor_type(S::TQ1_0, &odd, R::AttnQ, Some(0)), T::Q4_0);
    assert_eq!(tensor_type(S::IQ2_XS, &odd, R::TokenEmbedding, None), T::Q8_0);
}

#[test]
fn what_falls_back_is_named() {
    let note = |shape: &ModelShape, scheme| {
        let spec = quantized_spec("m", "f", ModelSource::Mini, shape.clone(), scheme);
        fallback_note(&spec)
    };
    let odd = shape([30, 576, 9, 3, 1536, 49_152], true, false);
    let said = note(&odd, QuantScheme::IQ4_XS).unwrap();
    assert!(said.contains("IQ4_NL") && said.contains("instead of IQ4_XS"), "{said}");
    assert_eq!(note(&odd, QuantScheme::Q8_0), None);
    assert_eq!(note(&tinyllama(), QuantScheme::IQ4_XS), None);
}

#[test]
fn experts_of_gpt_oss_stay_mxfp4() {
    let mut model = shape([24, 2880, 64, 8, 2880, 201_088], false, false);
    model.architecture = "gpt-oss".into();
    for &scheme in QuantScheme::ALL {
        let of = |role| tensor_type(scheme, &model, role, Some(0));
        assert_eq!(of(TensorRole::FfnGateExps), TensorType::MXFP4, "{scheme}");
        assert_eq!(of(TensorRole::FfnDownExps), TensorType::MXFP4, "{scheme}");
        assert_ne!(of(TensorRole::AttnQ), TensorType::MXFP4, "{scheme}");
    }
}

#[test]
fn rows_that_are_not_whole_blocks_fall_back() {
    let model = shape([30, 576, 9, 3, 1536, 49_152], true, false);
    let of = |scheme, role, layer| tensor_type(scheme, &model, role, Some(layer));
    assert_eq!(of(QuantScheme::Q4_K_M, TensorRole::AttnQ, 0), TensorType::Q5_0);
    assert_eq!(of(QuantScheme::Q4_K_M, TensorRole::AttnV, 0), TensorType::Q8_0);
    assert_eq!(of(QuantScheme::Q4_K_M, TensorRole::FfnDown, 0), TensorType::Q6_K);
    assert_eq!(of(QuantScheme::Q5_K_M, TensorRole::FfnUp, 0), TensorType::Q5_1);
    assert_eq!(of(QuantScheme::Q4_0, TensorRole::FfnUp, 0), TensorType::Q4_0);
    let embedding = tensor_type(QuantScheme::Q4_K_M, &model, TensorRole::TokenEmbedding, None);
    assert_eq!(embedding, TensorType::Q8_0);
    let odd = shape([26, 3200, 32, 32, 8650, 32_000], false, false);
    let down = tensor_type(QuantScheme::Q4_K_M, &odd, TensorRole::FfnDown, Some(0));
    assert_eq!(down, TensorType::F16);
}
