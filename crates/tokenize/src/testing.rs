//! Fixtures, and a builder of small GGUF files.

use std::io::Cursor;
use std::path::PathBuf;

use foretoken_gguf::{Value, ValueType};

use crate::{TokenizeError, Tokenizer};

pub(crate) const FIXTURES: [&str; 5] =
    ["spm-llama", "spm-gemma", "bpe-gpt2", "bpe-llama3", "bpe-qwen2"];

pub(crate) fn fixture_path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers").join(file)
}

pub(crate) fn fixture(name: &str) -> Tokenizer {
    Tokenizer::from_gguf(&fixture_path(&format!("{name}.gguf"))).unwrap().unwrap()
}

/// A metadata entry in a file.
pub(crate) type Entry = (&'static str, Value);

pub(crate) fn array(items: impl IntoIterator<Item = Value>) -> Value {
    let items: Vec<_> = items.into_iter().collect();
    let element = items.first().map_or(ValueType::String, Value::value_type);
    Value::Array { element, len: items.len() as u64, items }
}

pub(crate) fn texts(texts: &[&str]) -> Value {
    array(texts.iter().map(|text| Value::String((*text).to_owned())))
}

/// A small `gpt2` vocabulary.
pub(crate) fn small_bpe() -> Vec<Entry> {
    vec![
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String("gpt-2".into())),
        ("tokenizer.ggml.tokens", texts(&["a", "b", "ab", "Ġ", "<end>"])),
        ("tokenizer.ggml.token_type", array([1, 1, 1, 1, 3].map(Value::I32))),
        ("tokenizer.ggml.merges", texts(&["a b"])),
        ("tokenizer.ggml.eos_token_id", Value::U32(4)),
    ]
}

/// A small `llama` vocabulary.
pub(crate) fn small_spm() -> Vec<Entry> {
    vec![
        ("tokenizer.ggml.model", Value::String("llama".into())),
        ("tokenizer.ggml.tokens", texts(&["<unk>", "<s>", "</s>", "▁", "a", "▁a"])),
        ("tokenizer.ggml.scores", array([0.0, 0.0, 0.0, -1.0, -2.0, -3.0].map(Value::F32))),
        ("tokenizer.ggml.token_type", array([2, 3, 3, 1, 1, 1].map(Value::I32))),
    ]
}

pub(crate) fn set(mut entries: Vec<Entry>, key: &'static str, value: Value) -> Vec<Entry> {
    entries.retain(|(other, _)| *other != key);
    entries.push((key, value));
    entries
}

pub(crate) fn without(mut entries: Vec<Entry>, key: &str) -> Vec<Entry> {
    entries.retain(|(other, _)| *other != key);
    entries
}

pub(crate) fn build(entries: &[Entry]) -> Result<Option<Tokenizer>, TokenizeError> {
    Tokenizer::from_reader(&mut Cursor::new(bytes(entries)))
}

pub(crate) fn bytes(entries: &[Entry]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out.extend((entries.len() as u64).to_le_bytes());
    for (key, value) in entries {
        write_text(&mut out, key);
        out.extend(value.value_type().id().to_le_bytes());
        write_value(&mut out, value);
    }
    out
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Bool(flag) => out.push(u8::from(*flag)),
        Value::U32(number) => out.extend(number.to_le_bytes()),
        Value::I32(number) => out.extend(number.to_le_bytes()),
        Value::F32(number) => out.extend(number.to_le_bytes()),
        Value::String(text) => write_text(out, text),
        Value::Array { element, len, items } => {
            out.extend(element.id().to_le_bytes());
            out.extend(len.to_le_bytes());
            items.iter().for_each(|item| write_value(out, item));
        }
        other => panic!("not needed: {other:?}"),
    }
}
