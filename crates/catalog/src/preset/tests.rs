use std::collections::{HashMap, HashSet};

use foretoken_gguf::synth;

use super::*;

#[test]
fn every_preset_has_the_published_number_of_parameters() {
    assert!(presets().len() >= 15);
    for preset in presets() {
        let spec = preset.spec(QuantScheme::F16);
        assert_eq!(spec.n_parameters(), preset.parameters, "{}", preset.id);
    }
}

#[test]
fn names_are_unique_and_shapes_consistent() {
    let mut seen = HashSet::new();
    for preset in presets() {
        let names: HashSet<String> = preset.names().map(str::to_lowercase).collect();
        for name in names {
            assert!(seen.insert(name.clone()), "{name} names two presets");
        }
        let shape = &preset.shape;
        assert!(shape.n_heads.is_multiple_of(shape.n_kv_heads), "{}", preset.id);
        assert!(preset.source.starts_with("https://"), "{}", preset.id);
        assert_eq!(preset.id, preset.id.to_lowercase());
    }
}

#[test]
fn presets_are_found_by_id_alias_and_hugging_face_name_in_any_case() {
    for name in ["tinyllama-1.1b", " TinyLlama ", "tinyllama/TINYLLAMA-1.1B-chat-v1.0"] {
        assert_eq!(find(name).unwrap().id, "tinyllama-1.1b");
    }
    assert_eq!(find("Llama-2-7b-hf").unwrap().id, "llama-2-7b");
    assert_eq!(find("deepseek-r1-distill-llama-8b").unwrap().id, "llama-3.1-8b");
}

#[test]
fn an_unknown_name_suggests_the_nearest() {
    let error = find("lama-3.2-1b").unwrap_err().to_string();
    assert!(error.contains("unknown model `lama-3.2-1b`"), "{error}");
    assert!(error.contains("`llama-3.2-1b`"), "{error}");
    assert_eq!(nearest(loaded().as_ref().unwrap(), "smolm2-360").first(), Some(&"smollm2-360m"));
    let nothing = find("###").unwrap_err().to_string();
    assert!(nothing.contains("foretoken models"), "{nothing}");
}

/// Sizes of published files. Each has a vocabulary, which a synthetic file has not; files of one
/// tokenizer have the same one.
struct Published {
    id: &'static str,
    scheme: QuantScheme,
    file_bytes: u64,
    tokenizer: &'static str,
}

fn published() -> Vec<Published> {
    let file = |id, scheme, file_bytes, tokenizer| Published { id, scheme, file_bytes, tokenizer };
    vec![
        // huggingface.co/TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF; this one has merges as well.
        file("tinyllama-1.1b", QuantScheme::Q4_K_M, 668_788_096, "tinyllama"),
        // huggingface.co/TheBloke/Llama-2-7B-Chat-GGUF
        file("llama-2-7b", QuantScheme::Q4_K_M, 4_081_004_224, "llama-2"),
        file("llama-2-7b", QuantScheme::Q5_K_M, 4_783_156_928, "llama-2"),
        file("llama-2-7b", QuantScheme::Q8_0, 7_161_089_728, "llama-2"),
        // huggingface.co/TheBloke/CodeLlama-7B-Instruct-GGUF
        file("codellama-7b", QuantScheme::Q4_K_M, 4_081_095_360, "llama-2"),
        file("codellama-7b", QuantScheme::Q5_K_M, 4_783_256_256, "llama-2"),
        // huggingface.co/TheBloke/Mistral-7B-Instruct-v0.1-GGUF
        file("mistral-7b", QuantScheme::Q4_K_M, 4_368_438_944, "llama-2"),
        file("mistral-7b", QuantScheme::Q5_K_M, 5_131_409_056, "llama-2"),
        // huggingface.co/bartowski/SmolLM2-135M-Instruct-GGUF and SmolLM2-360M-Instruct-GGUF
        file("smollm2-135m", QuantScheme::Q4_K_M, 105_454_432, "smollm2"),
        file("smollm2-360m", QuantScheme::Q4_K_M, 270_590_880, "smollm2"),
        // huggingface.co/bartowski/Llama-3.2-1B-Instruct-GGUF and Llama-3.2-3B-Instruct-GGUF
        file("llama-3.2-1b", QuantScheme::Q4_K_M, 807_694_464, "llama-3"),
        file("llama-3.2-3b", QuantScheme::Q4_K_M, 2_019_377_696, "llama-3"),
    ]
}

#[test]
fn files_are_published_ones_without_the_vocabulary() {
    let mut vocabularies: HashMap<&str, u64> = HashMap::new();
    for Published { id, scheme, file_bytes, tokenizer } in published() {
        let ours = synth::file_bytes(&find(id).unwrap().spec(scheme));
        let vocabulary = file_bytes.checked_sub(ours).unwrap();
        // Descriptions and chat templates differ by some kilobytes between files.
        let first = *vocabularies.entry(tokenizer).or_insert(vocabulary);
        assert!(first.abs_diff(vocabulary) < 20_000, "{id} {scheme}: {vocabulary}, not {first}");
        // A large vocabulary is more than that of a small model.
        if !["smollm2", "llama-3"].contains(&tokenizer) {
            assert!(vocabulary * 1000 < file_bytes * 5, "{id} {scheme}: off by {vocabulary}");
        }
    }
}

#[test]
fn tensor_bytes_are_those_that_llama_bench_prints() {
    // `model_size` of llama-bench's JSON: all tensors, exactly.
    for (id, scheme, model_size) in [
        ("llama-3.2-1b", QuantScheme::Q4_K_M, 799_862_912),
        ("llama-2-7b", QuantScheme::Q4_0, 3_825_065_984),
    ] {
        assert_eq!(find(id).unwrap().spec(scheme).weight_bytes(), model_size, "{id} {scheme}");
    }
}

#[test]
fn files_have_their_published_sizes() {
    use QuantScheme::{Q4_K_M, Q5_K_M, Q8_0};
    // (preset, scheme, bytes of the file on Hugging Face)
    let published: [(&str, QuantScheme, u64); 9] = [
        ("tinyllama-1.1b", Q4_K_M, 668_788_096),
        ("llama-2-7b", Q4_K_M, 4_081_004_224),
        ("llama-2-7b", Q5_K_M, 4_783_156_928),
        ("llama-2-7b", Q8_0, 7_161_089_728),
        ("mistral-7b", Q4_K_M, 4_368_438_944),
        ("mistral-7b", Q5_K_M, 5_131_409_056),
        ("smollm2-135m", Q4_K_M, 105_454_432),
        ("llama-3.2-1b", Q4_K_M, 807_694_464),
        ("llama-3.2-3b", Q4_K_M, 2_019_377_696),
    ];
    for (id, scheme, bytes) in published {
        let ours = find(id).unwrap().spec(scheme).file_bytes.unwrap();
        let error = (ours as f64 / bytes as f64 - 1.0).abs();
        assert!(error < 1e-4, "{id} {scheme}: {ours} for {bytes}");
    }
}
