use foretoken_gguf::mix;

use super::*;

fn refusal(argument: &str, scheme: Option<QuantScheme>) -> String {
    let message = resolve(argument, scheme).unwrap_err().to_string();
    assert!(!message.contains('\n') && !message.ends_with('.'), "{message}");
    message
}

#[test]
fn a_preset_takes_the_scheme_or_the_default() {
    assert_eq!(resolve("llama-3.2-1b", None).unwrap().quant, "Q4_K_M");
    let spec = resolve("Llama-3.2-1B", Some(QuantScheme::F16)).unwrap();
    assert_eq!((spec.name.as_str(), spec.quant.as_str()), ("llama-3.2-1b", "F16"));
    assert_eq!(spec.source, ModelSource::Preset { id: "llama-3.2-1b".into() });
}

#[test]
fn mxfp4_is_for_experts() {
    assert_eq!(resolve("gpt-oss-20b", None).unwrap().quant, "MXFP4_MOE");
    let message = refusal("llama-3.2-1b", Some(QuantScheme::MXFP4_MOE));
    assert!(message.contains("llama-3.2-1b") && message.contains("--quant Q8_0"), "{message}");
    assert!(resolve("mixtral-8x7b", Some(QuantScheme::MXFP4_MOE)).is_ok());
}

#[test]
fn far_fetched_names_are_not_suggested() {
    for name in ["bert-base-uncased", "whisper", "gpt2", "my-model", "q"] {
        let message = refusal(name, None);
        assert!(message.contains("`foretoken models` lists the presets"), "{message}");
    }
    for (name, meant) in [("mistral", "`mistral-7b`"), ("qwen3-8", "`qwen3-8b`")] {
        assert!(refusal(name, None).contains(meant), "{name}");
    }
}

#[test]
fn what_names_nothing_is_refused_with_a_remedy() {
    assert!(refusal("lama-3.2-1b", None).contains("`llama-3.2-1b`"));
    assert!(refusal("org/unheard-of", None).contains("unknown model"));
    assert!(refusal("", None).contains("unknown model"));
    assert!(refusal("./nowhere/at/all", None).contains("no such file"));
    assert!(refusal("nowhere.json", None).contains("no such file"));
    assert!(refusal("nowhere.gguf", None).contains("nowhere.gguf: no such file"));
    assert!(refusal("hf:org/model", None).contains("cannot be named here; download"));
}

#[test]
fn a_file_brings_its_own_quantization() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut shape = crate::find("smollm2-135m").unwrap().shape.clone();
    (shape.n_layers, shape.vocab_size) = (1, 64);
    let spec = mix::quantized_spec("mini", "mini", ModelSource::Mini, shape, QuantScheme::Q4_K_M);
    let mut file = std::fs::File::create(&path).unwrap();
    foretoken_gguf::synth::write_synthetic(&spec, &mut file, &mut |_, _| {}).unwrap();
    let argument = path.to_str().unwrap();
    assert_eq!(resolve(argument, None).unwrap().tensors, spec.tensors);
    assert_eq!(resolve(argument, Some(QuantScheme::Q4_K_M)).unwrap().quant, "Q4_K_M");
    let message = refusal(argument, Some(QuantScheme::Q8_0));
    assert!(message.contains("the file is Q4_K_M, not Q8_0"), "{message}");
    // As Ollama names its blobs.
    let blob = folder.path().join("sha256-6a0746a1ec1a");
    std::fs::copy(&path, &blob).unwrap();
    assert!(is_gguf(blob.to_str().unwrap()) && !is_gguf(folder.path().to_str().unwrap()));
    assert_eq!(resolve(blob.to_str().unwrap(), None).unwrap().tensors, spec.tensors);
}

#[test]
fn a_configuration_is_found_by_file_and_by_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("My-Llama-3");
    std::fs::create_dir(&inside).unwrap();
    let message = refusal(inside.to_str().unwrap(), None);
    assert!(message.contains("no config.json"), "{message}");
    let text = r#"{"architectures":["LlamaForCausalLM"],"hidden_size":64,"num_attention_heads":2,
        "num_hidden_layers":1,"intermediate_size":96,"vocab_size":10,
        "max_position_embeddings":32}"#;
    let file = inside.join("config.json");
    std::fs::write(&file, text).unwrap();
    for path in [&inside, &file] {
        let spec = resolve(path.to_str().unwrap(), Some(QuantScheme::Q8_0)).unwrap();
        assert_eq!((spec.name.as_str(), spec.family.as_str()), ("My-Llama-3", "llama-3"));
        assert_eq!(spec.quant, "Q8_0");
    }
    std::fs::write(&file, "{}").unwrap();
    let message = refusal(file.to_str().unwrap(), None);
    assert!(message.contains("config.json: not the configuration"), "{message}");
    let other = inside.join("notes.txt");
    std::fs::write(&other, "x").unwrap();
    assert!(refusal(other.to_str().unwrap(), None).contains("neither a GGUF file nor a .json"));
}
