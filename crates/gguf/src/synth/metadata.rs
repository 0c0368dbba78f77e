//! The metadata of a synthetic file: what candle's and llama.cpp's readers ask for, no vocabulary.

use foretoken_spec::{ModelSpec, QuantScheme};

use super::ALIGNMENT;
use crate::{Value, ValueType};

/// Version of the quantized block formats (ggml, `GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;

/// Keys and values, in file order.
pub(super) fn of(spec: &ModelSpec) -> Vec<(String, Value)> {
    let shape = &spec.shape;
    let general = |key: &str, value| (format!("general.{key}"), value);
    let of_model = |key: &str, value| (format!("{}.{key}", shape.architecture), value);
    let number = |key: &str, value| of_model(key, Value::U32(value));
    let mut all = vec![
        general("architecture", Value::String(shape.architecture.clone())),
        general("name", Value::String(spec.name.clone())),
        number("block_count", shape.n_layers),
        number("context_length", shape.context_length),
        number("embedding_length", shape.hidden_size),
        number("feed_forward_length", shape.intermediate_size),
        number("attention.head_count", shape.n_heads),
        number("attention.head_count_kv", shape.n_kv_heads),
        of_model("attention.layer_norm_rms_epsilon", Value::F32(shape.rms_norm_eps)),
        number("rope.dimension_count", shape.head_dim),
        of_model("rope.freq_base", Value::F32(shape.rope_freq_base)),
        number("vocab_size", shape.vocab_size),
    ];
    let implied = u64::from(shape.head_dim) * u64::from(shape.n_heads);
    if implied != u64::from(shape.hidden_size) {
        all.push(number("attention.key_length", shape.head_dim));
        all.push(number("attention.value_length", shape.head_dim));
    }
    if let Ok(scheme) = spec.quant.parse::<QuantScheme>() {
        all.push(general("file_type", Value::U32(scheme.file_type())));
    }
    all.push(general("quantization_version", Value::U32(QUANTIZATION_VERSION)));
    all.push(general("alignment", Value::U32(ALIGNMENT as u32)));
    all.push(("tokenizer.ggml.model".to_owned(), Value::String("none".to_owned())));
    all
}

/// Appends key, type and value.
pub(crate) fn write(out: &mut Vec<u8>, key: &str, value: &Value) {
    write_text(out, key);
    out.extend(value.value_type().id().to_le_bytes());
    write_value(out, value);
}

/// Appends a length and a text.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => out.extend(v.to_le_bytes()),
        Value::I8(v) => out.extend(v.to_le_bytes()),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::String(v) => write_text(out, v),
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
        Value::Array { element, len, items } => {
            debug_assert_eq!(items.len() as u64, *len, "a skipped array cannot be written");
            debug_assert!(*element != ValueType::Array, "arrays of arrays are never written");
            out.extend(element.id().to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            for item in items {
                write_value(out, item);
            }
        }
    }
}
