use serde_json::json;

use super::*;

/// The fields of TinyLlama's configuration that matter here.
fn tinyllama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "max_position_embeddings": 2048,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 22,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-05,
        "rope_scaling": null,
        "rope_theta": 10000.0,
        "tie_word_embeddings": false,
        "vocab_size": 32000
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut config = tinyllama();
    config[field] = value;
    config
}

fn without(field: &str) -> Value {
    let mut config = tinyllama();
    config.as_object_mut().unwrap().remove(field);
    config
}

fn parse(config: &Value) -> Result<ModelConfig, CatalogError> {
    parse_config(&config.to_string(), "folder")
}

fn check(config: &Value, expected: &[&str]) {
    let message = parse(config).unwrap_err().to_string();
    assert!(!message.contains('\n') && !message.ends_with('.'), "{message}");
    for part in expected {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn a_configuration_gives_the_shape_of_its_preset() {
    let config = parse(&tinyllama()).unwrap();
    assert_eq!(config.shape, crate::find("tinyllama-1.1b").unwrap().shape);
    assert_eq!((config.name.as_str(), config.family.as_str()), ("folder", "folder"));
    let named = parse(&with("_name_or_path", json!("TinyLlama/TinyLlama-1.1B"))).unwrap();
    assert_eq!((named.name.as_str(), named.family.as_str()), ("TinyLlama-1.1B", "tinyllama"));
}

#[test]
fn mistral_and_a_lone_model_type_are_read_too() {
    let mut mistral = with("architectures", json!(["MistralForCausalLM"]));
    mistral["model_type"] = json!("mistral");
    assert_eq!(parse(&mistral).unwrap().shape.architecture, "llama");
    assert!(parse(&without("architectures")).is_ok());
}

#[test]
fn optional_fields_have_the_defaults_of_transformers() {
    assert_eq!(parse(&without("num_key_value_heads")).unwrap().shape.n_kv_heads, 32);
    assert_eq!(parse(&with("num_key_value_heads", json!(null))).unwrap().shape.n_kv_heads, 32);
    assert!(!parse(&without("tie_word_embeddings")).unwrap().shape.tied_embeddings);
    assert_eq!(parse(&without("rope_theta")).unwrap().shape.rope_freq_base, 10_000.0);
    assert_eq!(parse(&with("head_dim", json!(128))).unwrap().shape.head_dim, 128);
}

#[test]
fn the_scaling_of_llama_3_adds_frequency_factors() {
    let scaled = with("rope_scaling", json!({"rope_type": "llama3", "factor": 32.0}));
    assert!(parse(&scaled).unwrap().shape.rope_freqs);
    let linear = with("rope_scaling", json!({"type": "linear", "factor": 2.0}));
    assert!(!parse(&linear).unwrap().shape.rope_freqs);
    let mut newer = without("rope_theta");
    newer["rope_parameters"] = json!({"rope_type": "llama3", "rope_theta": 500000.0});
    let shape = parse(&newer).unwrap().shape;
    assert!(shape.rope_freqs);
    assert_eq!(shape.rope_freq_base, 500_000.0);
}

#[test]
fn what_is_not_a_supported_language_model_is_refused() {
    check(&json!({"a": 1}), &["not the configuration of a language model"]);
    check(&json!([1, 2]), &["not the configuration of a language model"]);
    check(&with("architectures", json!(["BertModel"])), &["`BertModel`", "LlamaForCausalLM"]);
    check(&with("architectures", json!("LlamaForCausalLM")), &["`architectures`", "a list"]);
    let error = parse_config("{", "x").unwrap_err().to_string();
    assert!(error.contains("not valid json"), "{error}");
}

#[test]
fn a_huge_number_of_layers_is_refused() {
    let limit = ["num_hidden_layers", "between 1 and 4096"];
    check(&with("num_hidden_layers", json!(4097)), &limit);
    check(&with("num_hidden_layers", json!(16_777_216)), &limit);
    check(&with("vocab_size", json!(16_777_216)), &["vocab_size", "4194304"]);
}

#[test]
fn fields_that_are_missing_wrong_or_in_conflict_are_named() {
    for field in ["hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings"] {
        check(&without(field), &[field, "is missing"]);
        check(&with(field, json!("2048")), &[field, "an integer", "\"2048\""]);
        check(&with(field, json!(0)), &[field, "between 1 and", "found 0"]);
        check(&with(field, json!(1e300)), &[field]);
        check(&with(field, json!(-1)), &[field, "found -1"]);
    }
    check(&with("rms_norm_eps", json!("x\ny")), &["rms_norm_eps", "a number above 0"]);
    check(&with("tie_word_embeddings", json!(1)), &["tie_word_embeddings", "true or false"]);
    check(&with("rope_scaling", json!(2)), &["rope_scaling", "an object"]);
    check(&with("num_attention_heads", json!(33)), &["num_attention_heads", "33", "2048"]);
    check(&with("num_key_value_heads", json!(5)), &["num_key_value_heads", "(5)", "(32)"]);
}
