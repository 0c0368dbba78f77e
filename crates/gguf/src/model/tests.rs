use foretoken_spec::{Experts, LayerKind, LayerShape, SlidingWindow};

use super::*;
use crate::testing::{Parts, model_of, numbers, spec, texts, tiny_shape};
use crate::{Value, ValueType};

fn check(parts: &Parts, expected: &[&str]) {
    let message = parts.refusal();
    for part in expected {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn a_synthetic_file_gives_back_its_model() {
    let written = spec(tiny_shape(), QuantScheme::Q4_K_M);
    let read = model_of(&crate::testing::bytes_of(&written)).unwrap();
    assert_eq!(read.shape, written.shape);
    assert_eq!(read.tensors, written.tensors);
    assert_eq!((read.name.as_str(), read.quant.as_str()), ("tiny", "Q4_K_M"));
    assert_eq!(read.file_bytes, Some(crate::synth::file_bytes(&written)));
    assert_eq!(read.source, ModelSource::Gguf { path: "some/file.gguf".into() });
}

#[test]
fn other_architectures_and_kinds_of_file_are_refused() {
    let text = |text: &str| Value::String(text.to_owned());
    let tiny = Parts::tiny;
    check(&tiny().set("general.architecture", text("qwen2")), &["`qwen2.block_count` is missing"]);
    check(&tiny().set("general.architecture", text("clip")), &["kind `clip`"]);
    check(&tiny().set("general.type", text("adapter")), &["kind `adapter`"]);
    check(&tiny().without("general.architecture"), &["`general.architecture` is missing"]);
    check(&tiny().set("general.architecture", Value::U32(7)), &["a string", "found u32"]);
    check(&tiny().set("llama.expert_count", Value::U32(8)), &["expert_count` is 8", "is 0"]);
    check(&tiny().set("split.count", Value::U16(3)), &["one of 3 parts", "rename"]);
    check(&Parts { rows: vec![], ..tiny() }, &["vocabulary-only"]);
    assert!(model_of(&tiny().set("llama.expert_count", Value::U32(0)).bytes()).is_ok());
}

#[test]
fn metadata_that_are_missing_or_of_the_wrong_type_are_named() {
    for key in [
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
    ] {
        check(&Parts::tiny().without(key), &[key, "is missing"]);
        let wrong = Parts::tiny().set(key, Value::String("2".into()));
        check(&wrong, &[key, "must be", "found string"]);
    }
    let zero = Parts::tiny().set("llama.attention.head_count", Value::U32(0));
    check(&zero, &["head_count` is 0"]);
    let negative = Parts::tiny().set("llama.block_count", Value::I32(-2));
    check(&negative, &["block_count` is -2"]);
    let huge = Parts::tiny().set("llama.embedding_length", Value::U64(u64::MAX));
    check(&huge, &["embedding_length", "18446744073709551615"]);
    let eps = "llama.attention.layer_norm_rms_epsilon";
    check(&Parts::tiny().set(eps, Value::F32(f32::NAN)), &[eps, "NaN", "finite"]);
}

#[test]
fn a_huge_number_of_layers_builds_no_table() {
    // One tensor of the last layer bears the number out, so only its size is wrong.
    for n_layers in [4097, 1 << 24] {
        let mut parts = Parts::tiny().set("llama.block_count", Value::U32(n_layers));
        if let Some(row) = parts.rows.iter_mut().find(|row| row.name.starts_with("blk.1.")) {
            row.name = format!("blk.{}.attn_q.weight", n_layers - 1);
        }
        check(&parts, &["`llama.block_count` is", &n_layers.to_string(), "between 1 and 4096"]);
    }
}

#[test]
fn metadata_in_conflict_are_refused_with_both_numbers() {
    let tiny = Parts::tiny;
    check(&tiny().set("llama.vocab_size", Value::U32(321)), &["vocab_size` is 321", "is 320"]);
    check(&tiny().set("llama.block_count", Value::U32(3)), &["block_count` is 3", "is 2"]);
    check(&tiny().set("llama.block_count", Value::U32(1)), &["block_count` is 1", "is 2"]);
    check(&tiny().set("llama.attention.head_count", Value::U32(6)), &["head_count", "divisor"]);
    let no_divisor = tiny().set("llama.attention.head_count_kv", Value::U32(3));
    check(&no_divisor, &["head_count_kv` is 3", "divisor"]);
    let ffn = tiny().set("llama.feed_forward_length", Value::U32(768));
    check(&ffn, &["blk.0.ffn_gate.weight", "[256, 512]", "[256, 768]"]);
    let keys = tiny()
        .set("llama.attention.key_length", Value::U32(64))
        .set("llama.attention.value_length", Value::U32(32));
    check(&keys, &["key_length` is 64", "value_length` is 32"]);
}

#[test]
fn more_tokens_than_rows_are_refused() {
    let parts = Parts::tiny()
        .set("llama.vocab_size", Value::U32(320))
        .set("tokenizer.ggml.tokens", texts(321));
    check(&parts, &["the length of metadata key `tokenizer.ggml.tokens` is 321", "is 320"]);
}

#[test]
fn impossible_rotations_are_refused() {
    let key = "llama.rope.dimension_count";
    for (dim, is_good) in [(0, false), (31, false), (66, false), (32, true), (64, true)] {
        let parts = Parts::tiny().set(key, Value::U32(dim));
        match is_good {
            true => assert!(model_of(&parts.bytes()).is_ok(), "{dim}"),
            false => check(&parts, &[key, &format!("is {dim}"), "width of a head"]),
        }
    }
}

#[test]
fn an_unknown_architecture_without_layers_is_refused_by_its_name() {
    let parts = Parts::tiny().set("general.architecture", Value::String("bert".into()));
    check(&parts, &["architecture `bert` is not known", "`bert.block_count`"]);
}

#[test]
fn a_missing_tensor_is_named() {
    for name in ["blk.1.attn_v.weight", "output_norm.weight", "token_embd.weight"] {
        check(&Parts::tiny().without_tensor(name), &[name, "is missing"]);
    }
    let tied = model_of(&Parts::tiny().without_tensor("output.weight").bytes()).unwrap();
    assert!(tied.shape.tied_embeddings);
}

#[test]
fn the_vocabulary_is_counted_where_no_key_states_it() {
    let without = Parts::tiny().without("llama.vocab_size");
    assert_eq!(model_of(&without.bytes()).unwrap().shape.vocab_size, 320);
    let tokens = without.clone().set("tokenizer.ggml.tokens", texts(320));
    assert_eq!(model_of(&tokens.bytes()).unwrap().shape.vocab_size, 320);
    let short = without.set("tokenizer.ggml.tokens", texts(319));
    check(&short, &["tokenizer.ggml.tokens` is 319", "is 320"]);
}

#[test]
fn head_counts_may_be_missing_or_one_per_layer() {
    let mut shape = tiny_shape();
    shape.n_kv_heads = shape.n_heads;
    let parts = Parts::of(&spec(shape, QuantScheme::Q8_0));
    let mha = model_of(&parts.without("llama.attention.head_count_kv").bytes()).unwrap();
    assert_eq!(mha.shape.n_kv_heads, 4);
    let per_layer =
        |values: &[u32]| Parts::tiny().set("llama.attention.head_count_kv", numbers(values));
    assert_eq!(model_of(&per_layer(&[2, 2]).bytes()).unwrap().shape.n_kv_heads, 2);
    check(&per_layer(&[2, 4]), &["blk.1.attn_k.weight", "[256, 128]", "[256, 256]"]);
    check(&per_layer(&[2, 3]), &["head_count_kv` is 3", "divisor"]);
    check(&per_layer(&[2]), &["the length of metadata key", "head_count_kv` is 1", "is 2"]);
    check(&per_layer(&[]), &["head_count_kv", "found array"]);
}

#[test]
fn a_head_dimension_of_its_own_is_read() {
    let mut shape = tiny_shape();
    shape.head_dim = 32;
    let written = spec(shape, QuantScheme::Q4_0);
    let read = model_of(&crate::testing::bytes_of(&written)).unwrap();
    assert_eq!(read.shape.head_dim, 32);
    assert_eq!(read.tensors, written.tensors);
}

#[test]
fn the_label_says_what_the_table_bears_out() {
    let label = |parts: Parts| model_of(&parts.bytes()).unwrap().quant;
    let tiny = Parts::tiny;
    assert_eq!(label(tiny()), "Q4_K_M");
    assert_eq!(label(tiny().without("general.file_type")), "mixed(Q4_K,Q6_K)");
    assert_eq!(label(tiny().set("general.file_type", Value::U32(7))), "mixed(Q4_K,Q6_K)");
    let f16 = Parts::of(&spec(tiny_shape(), QuantScheme::F16)).without("general.file_type");
    assert_eq!(label(f16), "F16");
}

#[test]
fn the_name_is_the_files_where_the_header_has_none() {
    assert_eq!(model_of(&Parts::tiny().without("general.name").bytes()).unwrap().name, "file");
    let blank = Parts::tiny().set("general.name", Value::String(" ".into()));
    assert_eq!(model_of(&blank.bytes()).unwrap().name, "file");
}

#[test]
fn families_follow_from_names() {
    for (name, family) in [
        ("TinyLlama_TinyLlama-1.1b-Chat-v1.0", "tinyllama"),
        ("Meta Llama 3.1 8B Instruct", "llama-3"),
        ("LLaMA v2", "llama-2"),
        ("meta-llama_llama-2-7b-chat", "llama-2"),
        ("Mistral 7B Instruct v0.2", "mistral"),
        ("SmolLM2 1.7B", "smollm2"),
        ("My Model", "my-model"),
    ] {
        assert_eq!(family_of(name), family, "{name}");
    }
}

#[test]
fn errors_of_files_begin_with_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let missing = read_model(&folder.path().join("no.gguf")).unwrap_err().to_string();
    assert!(missing.contains("no.gguf: no such file"), "{missing}");
    let directory = read_model(folder.path()).unwrap_err().to_string();
    assert!(directory.contains("directory"), "{directory}");
    let path = folder.path().join("empty.gguf");
    std::fs::write(&path, b"").unwrap();
    let empty = read_model(&path).unwrap_err().to_string();
    assert!(empty.contains("empty.gguf: the file is empty"), "{empty}");
    std::fs::write(&path, Parts::tiny().bytes()).unwrap();
    assert_eq!(read_model(&path).unwrap().name, "tiny");
}

#[test]
fn a_large_vocabulary_takes_no_memory() {
    let parts =
        Parts::tiny().set("tokenizer.ggml.merges", texts(128_000)).set("tokenizer.ggml.scores", {
            let items = vec![Value::F32(0.5); 128_000];
            Value::Array { element: ValueType::F32, len: 128_000, items }
        });
    let header = crate::testing::header_of(&parts.bytes()).unwrap();
    assert_eq!(header.array_len("tokenizer.ggml.merges").unwrap(), Some(128_000));
    for value in header.metadata.values() {
        assert!(!matches!(value, Value::Array { items, .. } if items.len() > 1024));
    }
}

fn shape_of(architecture: &str, details: ShapeDetails) -> ModelShape {
    ModelShape { architecture: architecture.into(), rope_freqs: false, details, ..tiny_shape() }
}

/// Shapes of every architecture whose form is known, with what is special about it.
fn every_shape() -> Vec<ModelShape> {
    let window = |tokens, full_every| Some(SlidingWindow { tokens, full_every, layers: vec![] });
    let experts = |shared_intermediate_size| {
        Some(Experts {
            count: 4,
            used: 2,
            intermediate_size: 512,
            shared_intermediate_size,
            ..Experts::default()
        })
    };
    let conv = LayerShape {
        kind: LayerKind::ShortConvolution,
        n_heads: 0,
        n_kv_heads: 0,
        intermediate_size: 512,
    };
    let attention = LayerShape { kind: LayerKind::Attention, n_heads: 4, n_kv_heads: 2, ..conv };
    foretoken_spec::ARCHITECTURES
        .iter()
        .map(|form| {
            let mut shape = shape_of(form.name, ShapeDetails::default());
            let details = &mut shape.details;
            match form.name {
                "gemma2" => details.window = window(64, 2),
                "gemma3" => details.window = window(64, 6),
                "qwen2moe" => details.experts = experts(256),
                "qwen3moe" | "granitemoe" => details.experts = experts(0),
                "gpt-oss" => {
                    details.window = window(64, 2);
                    details.experts = experts(0);
                }
                "glm4" | "phi2" | "stablelm" => details.rope_dim = Some(32),
                "phi3" => details.rope_factors = true,
                "smollm3" => details.rope_skips_every = Some(4),
                "lfm2" => {
                    details.conv_length = Some(3);
                    details.layers = vec![conv, attention];
                }
                _ => {}
            }
            if shape.details.experts.is_some() {
                shape.intermediate_size = 512;
            }
            shape
        })
        .collect()
}

#[test]
fn a_synthetic_file_of_every_architecture_gives_back_its_model() {
    for shape in every_shape() {
        let architecture = shape.architecture.clone();
        let written = spec(shape, QuantScheme::Q4_K_M);
        let read = model_of(&crate::testing::bytes_of(&written)).unwrap();
        assert_eq!(read.shape, written.shape, "{architecture}");
        assert_eq!(read.tensors, written.tensors, "{architecture}");
        assert_eq!(read.approximations, Vec::<String>::new(), "{architecture}");
        assert_eq!(written.record().to_spec().tensors, written.tensors, "{architecture}");
    }
}

#[test]
fn mixtures_of_experts_in_the_llama_form_are_read() {
    let experts = Experts { count: 8, used: 2, intermediate_size: 512, ..Experts::default() };
    let shape = shape_of("llama", ShapeDetails { experts: Some(experts), ..Default::default() });
    let parts = Parts::of(&spec(shape.clone(), QuantScheme::Q8_0));
    assert_eq!(model_of(&parts.bytes()).unwrap().shape, shape);
    let wrong = parts.clone().set("llama.expert_count", Value::U32(7));
    check(&wrong, &["expert_count` is 7", "is 8"]);
    check(&parts.clone().without("llama.expert_used_count"), &["expert_used_count", "missing"]);
    let many = parts.clone().set("llama.expert_used_count", Value::U32(9));
    check(&many, &["expert_used_count` is 9", "at most"]);
    check(&parts.without_tensor("blk.1.ffn_down_exps.weight"), &["blk.1.ffn_down_exps.weight"]);
}

#[test]
fn an_unknown_architecture_is_described_from_its_tensor_table() {
    let mut written = spec(shape_of("llama", ShapeDetails::default()), QuantScheme::Q8_0);
    written.shape.architecture = "novel".into();
    for tensor in &mut written.tensors {
        tensor.name = tensor.name.replace("ffn_gate", "mixer_gate");
    }
    let read = model_of(&crate::testing::bytes_of(&written)).unwrap();
    assert_eq!(read.weight_bytes(), written.weight_bytes());
    let unknown: Vec<_> =
        read.tensors.iter().filter(|t| t.role == TensorRole::OtherMatrix).collect();
    assert_eq!(unknown.len(), 2);
    let said = read.approximations.join("; ");
    assert!(said.contains("`novel` is not known"), "{said}");
    assert!(said.contains("mixer_gate"), "{said}");
}

#[test]
fn state_space_models_are_described() {
    use crate::testing::Row;
    let text = |text: &str| Value::String(text.to_owned());
    let mut parts = Parts::of(&spec(shape_of("llama", ShapeDetails::default()), QuantScheme::F16));
    parts.metadata.iter_mut().for_each(|(key, _)| *key = key.replace("llama.", "mamba."));
    parts = parts
        .set("general.architecture", text("mamba"))
        .set("mamba.attention.head_count", Value::U32(0))
        .set("mamba.feed_forward_length", Value::U32(0))
        .set("mamba.ssm.inner_size", Value::U32(512))
        .set("mamba.ssm.state_size", Value::U32(16))
        .set("mamba.ssm.conv_kernel", Value::U32(4))
        .without("mamba.attention.head_count_kv");
    parts.rows.retain(|row| !row.name.contains("attn_") && !row.name.contains("ffn_"));
    for layer in 0..2 {
        let offset = parts.data_bytes;
        parts.rows.push(Row {
            name: format!("blk.{layer}.ssm_in.weight"),
            dims: vec![256, 1024],
            type_id: 1,
            offset,
        });
        parts.data_bytes += 2 * 256 * 1024;
    }
    let read = model_of(&parts.bytes()).unwrap();
    assert!(read.shape.layers().all(|layer| layer.kind == LayerKind::Recurrent));
    assert_eq!(read.shape.kv_elements_per_token(), 0);
    assert_eq!(read.shape.details.recurrent.as_ref().unwrap().inner_size, 512);
}

#[test]
fn latent_attention_is_described() {
    let mut parts = Parts::tiny();
    parts.metadata.iter_mut().for_each(|(key, _)| *key = key.replace("llama.", "deepseek2."));
    let parts = parts
        .set("general.architecture", Value::String("deepseek2".into()))
        .set("deepseek2.attention.kv_lora_rank", Value::U32(32))
        .set("deepseek2.attention.key_length", Value::U32(96))
        .set("deepseek2.attention.value_length", Value::U32(64))
        .set("deepseek2.rope.dimension_count", Value::U32(16));
    let shape = model_of(&parts.bytes()).unwrap().shape;
    let latent = shape.details.latent.as_ref().unwrap();
    assert_eq!((latent.kv_rank, latent.rope_dim, latent.absorbed), (32, 16, false));
    assert_eq!((shape.head_dim, shape.details.value_dim), (96, Some(64)));
    let absorbed = parts.change("blk.0.attn_norm.weight", |row| {
        row.name = "blk.0.attn_k_b.weight".into();
    });
    let shape = model_of(&absorbed.bytes()).unwrap().shape;
    assert!(shape.details.latent.as_ref().unwrap().absorbed);
    assert_eq!(shape.kv_elements_per_token(), 2 * 48);
}

#[test]
fn windows_are_read_with_their_pattern() {
    let window = SlidingWindow { tokens: 64, full_every: 6, layers: vec![] };
    let shape = shape_of("gemma3", ShapeDetails { window: Some(window), ..Default::default() });
    let parts = Parts::of(&spec(shape, QuantScheme::Q8_0));
    let of = |parts: Parts| model_of(&parts.bytes()).unwrap().shape.details.window.unwrap();
    let pattern = "gemma3.attention.sliding_window_pattern";
    // The architecture's own pattern stands in for a missing one.
    assert_eq!(of(parts.clone().without(pattern)).full_every, 6);
    assert_eq!(of(parts.clone().set(pattern, Value::U32(2))).full_every, 2);
    let listed = of(parts.clone().set(pattern, numbers(&[1, 0])));
    assert!(listed.has(0) && !listed.has(1));
    check(
        &parts.clone().without("gemma3.attention.sliding_window"),
        &["sliding_window", "missing"],
    );
    // The window of a model in the llama form is never applied, and that is said.
    let mistral = Parts::tiny().set("llama.attention.sliding_window", Value::U32(4096));
    let model = model_of(&mistral.bytes()).unwrap();
    assert!(model.shape.details.window.is_none());
    assert!(model.approximations.join(";").contains("4096"), "{:?}", model.approximations);
}

#[test]
fn layers_that_predict_further_tokens_take_no_part() {
    let parts = Parts::tiny();
    let plain = model_of(&parts.bytes()).unwrap();
    let mut renamed = parts;
    renamed.metadata.iter_mut().for_each(|(key, _)| *key = key.replace("llama.", "glm4moe."));
    let renamed = renamed
        .set("general.architecture", Value::String("glm4moe".into()))
        .set("glm4moe.nextn_predict_layers", Value::U32(1));
    let model = model_of(&renamed.bytes()).unwrap();
    assert_eq!((model.shape.n_layers, plain.shape.n_layers), (1, 2));
    assert_eq!(model.weight_bytes(), plain.weight_bytes());
    assert!(model.tensors.iter().all(|t| t.layer != Some(1) || t.role == TensorRole::Other));
    let too_many = renamed.set("glm4moe.nextn_predict_layers", Value::U32(2));
    check(&too_many, &["nextn_predict_layers` is 2", "less than"]);
}

#[test]
fn a_large_header_is_read_within_its_time() {
    let parts = Parts::tiny()
        .set("tokenizer.ggml.merges", texts(280_000))
        .set("tokenizer.ggml.token_type", texts(128_000));
    let bytes = parts.bytes();
    let start = std::time::Instant::now();
    model_of(&bytes).unwrap();
    // 100 ms are promised of a release build; this one is not optimised.
    assert!(start.elapsed().as_millis() < 1000, "{:?}", start.elapsed());
}
