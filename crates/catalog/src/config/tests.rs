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
fn classes_and_types_must_agree() {
    let qwen = with("model_type", json!("qwen2"));
    check(&qwen, &["`architectures` names `LlamaForCausalLM`", "`model_type` is `qwen2`"]);
    // Both are of the llama form; a name of one's own says nothing.
    for model_type in ["mistral", "my_llama"] {
        assert!(parse(&with("model_type", json!(model_type))).is_ok(), "{model_type}");
    }
}

#[test]
fn the_number_of_layers_has_one_bound() {
    for wrong in [json!(0), json!(4097), json!(99_999_999), json!(-1), json!(2.5), json!("2")] {
        let config = with("num_hidden_layers", wrong);
        check(&config, &["`num_hidden_layers` must be an integer between 1 and 4096"]);
    }
    check(&without("num_hidden_layers"), &["num_hidden_layers", "missing"]);
}

#[test]
fn a_byte_order_mark_is_no_harm() {
    let text = format!("\u{feff}{}", tinyllama());
    assert_eq!(parse_config(&text, "folder").unwrap(), parse(&tinyllama()).unwrap());
}

#[test]
fn a_configuration_takes_the_scheme_that_its_model_was_published_in() {
    let quant = |config: &Value, scheme| {
        parse(config).unwrap().spec(ModelSource::Mini, scheme).map(|spec| spec.quant)
    };
    assert_eq!(quant(&tinyllama(), None).unwrap(), "Q4_K_M");
    let mxfp4 = Some(QuantScheme::MXFP4_MOE);
    assert!(quant(&tinyllama(), mxfp4).unwrap_err().to_string().contains("experts"));
    let gpt_oss = published().into_iter().find(|(id, _)| *id == "gpt-oss-20b").unwrap().1;
    assert_eq!(quant(&gpt_oss, None).unwrap(), "MXFP4_MOE");
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
    check(&with("text_config", json!(2)), &["text_config", "an object"]);
    check(&with("num_attention_heads", json!(33)), &["num_attention_heads", "33", "2048"]);
    check(&with("num_key_value_heads", json!(5)), &["num_key_value_heads", "(5)", "(32)"]);
}

/// The published configuration of a preset, in the fields that matter, as JSON text.
fn published() -> Vec<(&'static str, Value)> {
    vec![
        (
            "qwen2.5-0.5b",
            json!({"architectures": ["Qwen2ForCausalLM"], "hidden_size": 896,
                "intermediate_size": 4864, "max_position_embeddings": 32768,
                "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24,
                "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
                "sliding_window": 32768, "tie_word_embeddings": true,
                "use_sliding_window": false, "vocab_size": 151936}),
        ),
        (
            "qwen3-30b-a3b",
            json!({"architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false,
                "decoder_sparse_step": 1, "head_dim": 128, "hidden_size": 2048,
                "intermediate_size": 6144, "max_position_embeddings": 40960,
                "mlp_only_layers": [], "model_type": "qwen3_moe",
                "moe_intermediate_size": 768, "num_attention_heads": 32, "num_experts": 128,
                "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4,
                "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "sliding_window": null,
                "tie_word_embeddings": false, "vocab_size": 151936}),
        ),
        (
            "gemma-3-1b",
            json!({"architectures": ["Gemma3ForCausalLM"], "head_dim": 256,
                "hidden_size": 1152, "intermediate_size": 6912,
                "max_position_embeddings": 32768, "model_type": "gemma3_text",
                "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1,
                "rms_norm_eps": 1e-6, "rope_theta": 1000000, "sliding_window": 512,
                "sliding_window_pattern": 6, "vocab_size": 262144}),
        ),
        (
            "gemma-3-4b",
            // The text part leaves out what is its class's default.
            json!({"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
                "text_config": {"hidden_size": 2560, "intermediate_size": 10240,
                    "model_type": "gemma3_text", "num_hidden_layers": 34,
                    "rope_theta": 1000000.0, "sliding_window": 1024},
                "vision_config": {"hidden_size": 1152}}),
        ),
        (
            "phi-4-mini",
            json!({"architectures": ["Phi3ForCausalLM"], "hidden_size": 3072,
                "intermediate_size": 8192, "max_position_embeddings": 131072,
                "model_type": "phi3", "num_attention_heads": 24, "num_hidden_layers": 32,
                "num_key_value_heads": 8, "partial_rotary_factor": 0.75,
                "rms_norm_eps": 1e-5, "rope_scaling": {"type": "longrope"},
                "rope_theta": 10000.0, "sliding_window": 262144,
                "tie_word_embeddings": true, "vocab_size": 200064}),
        ),
        (
            "mixtral-8x7b",
            json!({"architectures": ["MixtralForCausalLM"], "hidden_size": 4096,
                "intermediate_size": 14336, "max_position_embeddings": 32768,
                "model_type": "mixtral", "num_attention_heads": 32, "num_experts_per_tok": 2,
                "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8,
                "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": null,
                "tie_word_embeddings": false, "vocab_size": 32000}),
        ),
        (
            "gpt-oss-20b",
            json!({"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss",
                "num_hidden_layers": 24, "hidden_size": 2880, "intermediate_size": 2880,
                "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
                "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128,
                "attention_bias": true, "max_position_embeddings": 131072,
                "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn"},
                "layer_types": vec![["sliding_attention", "full_attention"]; 12].concat(),
                "rms_norm_eps": 1e-5, "vocab_size": 201088, "tie_word_embeddings": false,
                "quantization_config": {"quant_method": "mxfp4"}}),
        ),
        (
            "lfm2-1.2b",
            json!({"architectures": ["Lfm2ForCausalLM"], "model_type": "lfm2",
                "block_auto_adjust_ff_dim": true, "block_ff_dim": 12288,
                "block_ffn_dim_multiplier": 1.0, "block_multiple_of": 256,
                "conv_L_cache": 3, "full_attn_idxs": [2, 5, 8, 10, 12, 14],
                "hidden_size": 2048, "max_position_embeddings": 128000, "norm_eps": 1e-5,
                "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
                "rope_theta": 1000000.0, "tie_embedding": true, "vocab_size": 65536}),
        ),
        (
            "glm-4-9b",
            json!({"architectures": ["Glm4ForCausalLM"], "model_type": "glm4",
                "attention_bias": true, "head_dim": 128, "hidden_size": 4096,
                "intermediate_size": 13696, "max_position_embeddings": 32768,
                "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 2,
                "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
                "tie_word_embeddings": false, "vocab_size": 151552}),
        ),
        (
            "stablelm-2-1.6b",
            json!({"architectures": ["StableLmForCausalLM"], "model_type": "stablelm",
                "hidden_size": 2048, "intermediate_size": 5632, "layer_norm_eps": 1e-5,
                "max_position_embeddings": 4096, "num_attention_heads": 32,
                "num_hidden_layers": 24, "num_key_value_heads": 32,
                "partial_rotary_factor": 0.25, "rope_theta": 10000, "use_qkv_bias": true,
                "tie_word_embeddings": false, "vocab_size": 100352}),
        ),
        (
            "smollm3-3b",
            json!({"architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3",
                "attention_bias": false, "hidden_size": 2048, "intermediate_size": 11008,
                "max_position_embeddings": 65536, "no_rope_layer_interval": 4,
                "num_attention_heads": 16, "num_hidden_layers": 36, "num_key_value_heads": 4,
                "rms_norm_eps": 1e-6, "rope_theta": 5000000.0, "sliding_window": null,
                "use_sliding_window": false, "vocab_size": 128256}),
        ),
    ]
}

#[test]
fn configurations_of_every_kind_give_the_shapes_of_their_presets() {
    for (id, config) in published() {
        let read = parse(&config).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(read.shape, crate::find(id).unwrap().shape, "{id}");
    }
}

#[test]
fn what_no_engine_does_is_said() {
    let mut mistral = with("architectures", json!(["MistralForCausalLM"]));
    mistral["max_position_embeddings"] = json!(32768);
    mistral["sliding_window"] = json!(4096);
    let notes = parse(&mistral).unwrap().notes;
    assert!(notes.join(";").contains("the window of 4096 tokens is not applied"), "{notes:?}");
    mistral["use_sliding_window"] = json!(false);
    assert!(parse(&mistral).unwrap().notes.is_empty());
    let quantized = with("quantization_config", json!({"quant_method": "awq"}));
    assert!(parse(&quantized).unwrap().notes.join(";").contains("--quant"));
}

#[test]
fn features_that_are_not_known_are_refused_not_ignored() {
    check(&with("mlp_bias", json!(true)), &["mlp_bias", "false"]);
    check(&with("num_local_experts", json!(8)), &["num_local_experts", "no experts"]);
    let biased = with("attention_bias", json!(true));
    let shape = parse(&biased).unwrap().shape;
    assert!(shape.details.qkv_bias && shape.details.output_bias);
    let find = |id: &str| published().into_iter().find(|(name, _)| *name == id).unwrap().1;
    let mut qwen = find("qwen3-30b-a3b");
    qwen["mlp_only_layers"] = json!([3]);
    check(&qwen, &["mlp_only_layers", "an empty list"]);
    qwen["mlp_only_layers"] = json!([]);
    qwen["num_experts_per_tok"] = json!(129);
    check(&qwen, &["num_experts_per_tok", "between 1 and the number of experts"]);
    qwen["num_experts"] = json!(null);
    check(&qwen, &["num_experts", "missing"]);
    let mut oss = find("gpt-oss-20b");
    oss["layer_types"] = json!(["full_attention"]);
    check(&oss, &["layer_types", "one name per layer"]);
    let mut lfm = find("lfm2-1.2b");
    lfm["full_attn_idxs"] = json!([99]);
    check(&lfm, &["full_attn_idxs", "a list of layers"]);
    let mut phi = find("phi-4-mini");
    phi["partial_rotary_factor"] = json!(1.5);
    check(&phi, &["partial_rotary_factor", "at most 1"]);
}

proptest::proptest! {
    #[test]
    fn no_value_of_any_field_panics(
        model in 0usize..11,
        field in proptest::prelude::any::<proptest::prelude::prop::sample::Index>(),
        value in 0usize..10,
    ) {
        let values = [
            json!(null), json!(0), json!(1), json!(-3), json!(4_294_967_296u64), json!(1e308),
            json!("x"), json!([]), json!({}), json!(7),
        ];
        let (_, mut config) = published().swap_remove(model);
        let object = config.as_object_mut().unwrap();
        let keys: Vec<String> = object.keys().cloned().collect();
        object.insert(keys[field.index(keys.len())].clone(), values[value].clone());
        match parse(&config) {
            Ok(read) => {
                foretoken_gguf::mix::quantized_spec(
                    "m", "f", foretoken_spec::ModelSource::Mini, read.shape,
                    foretoken_spec::QuantScheme::Q4_K_M,
                );
            }
            Err(error) => proptest::prop_assert!(!error.to_string().contains('\n')),
        }
    }

    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = parse_config(&text, "x");
    }
}
