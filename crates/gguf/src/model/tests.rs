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
    check(&tiny().set("general.architecture", text("qwen2")), &["`qwen2`", "supported: llama"]);
    check(&tiny().without("general.architecture"), &["`general.architecture` is missing"]);
    check(&tiny().set("general.architecture", Value::U32(7)), &["a string", "found u32"]);
    check(&tiny().set("llama.expert_count", Value::U32(8)), &["mixture-of-experts", "8"]);
    check(&tiny().set("split.count", Value::U16(3)), &["one of 3 parts", "merge"]);
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
    check(&per_layer(&[2, 4]), &["head_count_kv", "differs between layers"]);
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
