use std::collections::HashSet;

use super::*;

#[test]
fn every_preset_has_the_published_number_of_parameters() {
    assert!(presets().len() >= 15);
    for preset in presets() {
        let spec = preset.spec(QuantScheme::F16);
        // The factors of the rotary embedding are no weights of the published model.
        let factors =
            if preset.shape.rope_freqs { u64::from(preset.shape.head_dim) / 2 } else { 0 };
        assert_eq!(spec.n_parameters() - factors, preset.parameters, "{}", preset.id);
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

/// Published files: `(preset, scheme, size of the file, most difference)`.
///
/// A published file has a vocabulary and a synthetic one has none: 0.7 MB for a vocabulary of
/// 32,000 tokens, 1.7 MB for one of 49,152, 7.8 MB for one of 128,256.
fn published() -> Vec<(&'static str, QuantScheme, u64)> {
    vec![
        // huggingface.co/TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF
        ("tinyllama-1.1b", QuantScheme::Q4_K_M, 668_788_096),
        // huggingface.co/TheBloke/Llama-2-7B-GGUF
        ("llama-2-7b", QuantScheme::Q4_K_M, 4_081_004_224),
        ("llama-2-7b", QuantScheme::Q8_0, 7_161_089_728),
        // huggingface.co/TheBloke/Mistral-7B-Instruct-v0.1-GGUF
        ("mistral-7b", QuantScheme::Q4_K_M, 4_368_438_944),
    ]
}

#[test]
fn synthetic_files_have_the_size_of_published_ones() {
    for (id, scheme, published) in published() {
        let spec = find(id).unwrap().spec(scheme);
        let ours = foretoken_gguf::synth::file_bytes(&spec);
        let difference = (published as f64 - ours as f64) / published as f64;
        println!("{id} {scheme}: {ours} of {published}, {:.3} %", 100.0 * difference);
        assert!((0.0..0.005).contains(&difference), "{id} {scheme}: {ours}, not {published}");
    }
}
