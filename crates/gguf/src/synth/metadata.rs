//! The metadata of a synthetic file: what candle's and llama.cpp's readers ask for, no vocabulary.

use foretoken_spec::{Architecture, LayerKind, LayerShape, ModelShape, ModelSpec, QuantScheme};

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
        of_model("feed_forward_length", feed_forward(shape)),
        number("attention.head_count", shape.n_heads),
        of_model("attention.head_count_kv", key_value_heads(shape)),
        of_model("attention.layer_norm_rms_epsilon", Value::F32(shape.rms_norm_eps)),
        number("rope.dimension_count", shape.details.rope_dim.unwrap_or(shape.head_dim)),
        of_model("rope.freq_base", Value::F32(shape.rope_freq_base)),
        number("vocab_size", shape.vocab_size),
    ];
    let form = Architecture::find(&shape.architecture);
    let needs = |key: &str| form.is_some_and(|form| form.keys.contains(&key));
    let value_dim = shape.details.value_dim.unwrap_or(shape.head_dim);
    let implied = u64::from(shape.head_dim) * u64::from(shape.n_heads);
    if implied != u64::from(shape.hidden_size)
        || value_dim != shape.head_dim
        || needs("attention.key_length")
    {
        all.push(number("attention.key_length", shape.head_dim));
        all.push(number("attention.value_length", value_dim));
    }
    if form.is_some_and(|form| form.layer_norm) {
        all.push(of_model("attention.layer_norm_epsilon", Value::F32(shape.rms_norm_eps)));
    }
    all.extend(of_details(shape).into_iter().map(|(key, value)| of_model(key, value)));
    if let Ok(scheme) = spec.quant.parse::<QuantScheme>() {
        all.push(general("file_type", Value::U32(scheme.file_type())));
    }
    all.push(general("quantization_version", Value::U32(QUANTIZATION_VERSION)));
    all.push(general("alignment", Value::U32(ALIGNMENT as u32)));
    all.push(("tokenizer.ggml.model".to_owned(), Value::String("none".to_owned())));
    all
}

/// One number, or one per layer where layers differ.
fn per_layer(shape: &ModelShape, one: u32, of: impl Fn(&LayerShape) -> u32) -> Value {
    let layers = &shape.details.layers;
    if layers.iter().all(|layer| of(layer) == one) {
        return Value::U32(one);
    }
    let items: Vec<_> = layers.iter().map(|layer| Value::U32(of(layer))).collect();
    Value::Array { element: ValueType::U32, len: items.len() as u64, items }
}

fn feed_forward(shape: &ModelShape) -> Value {
    // Readers ask for a width even where every layer has experts.
    let dense = match &shape.details.experts {
        Some(experts) if shape.intermediate_size == 0 => experts.intermediate_size,
        _ => shape.intermediate_size,
    };
    per_layer(shape, dense, |layer| layer.intermediate_size)
}

fn key_value_heads(shape: &ModelShape) -> Value {
    per_layer(shape, shape.n_kv_heads, |layer| match layer.kind {
        LayerKind::Attention => layer.n_kv_heads,
        _ => 0,
    })
}

/// The keys of experts, windows and convolutions.
fn of_details(shape: &ModelShape) -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    let mut number = |key, value: u32| all.push((key, Value::U32(value)));
    if let Some(experts) = &shape.details.experts {
        number("expert_count", experts.count);
        number("expert_used_count", experts.used);
        number("expert_feed_forward_length", experts.intermediate_size);
        if experts.shared_intermediate_size > 0 {
            number("expert_shared_feed_forward_length", experts.shared_intermediate_size);
        }
        if experts.leading_dense > 0 {
            number("leading_dense_block_count", experts.leading_dense);
        }
    }
    if let Some(window) = &shape.details.window {
        number("attention.sliding_window", window.tokens);
        if window.layers.is_empty() {
            number("attention.sliding_window_pattern", window.full_every);
        }
    }
    if let Some(length) = shape.details.conv_length {
        number("shortconv.l_cache", length);
    }
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
