//! What candle's llama reader cannot honour, found before anything is loaded.

use std::collections::HashSet;

use foretoken_spec::{ModelSpec, TensorRole, TensorType, Workload};

use crate::RunError;

/// Longest context of candle's llama reader, tokens: its rotary tables end there
/// (`quantized_llama.rs`, `MAX_SEQ_LEN`).
pub const MAX_SEQ_LEN: u32 = candle_transformers::models::quantized_llama::MAX_SEQ_LEN as u32;

/// The tensor types that candle can load (`qtensor_from_ggml`).
const LOADABLE: &[TensorType] = &[
    TensorType::F32,
    TensorType::F16,
    TensorType::BF16,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::Q2_K,
    TensorType::Q3_K,
    TensorType::Q4_K,
    TensorType::Q5_K,
    TensorType::Q6_K,
];

/// Refuses a model that candle would not load, or would load and compute wrongly.
///
/// # Errors
/// Architecture, shape, absent tensors, and tensor types.
pub fn check_model(model: &ModelSpec) -> Result<(), RunError> {
    let shape = &model.shape;
    if shape.architecture != "llama" {
        return Err(RunError::Architecture {
            model: model.name.clone(),
            found: shape.architecture.clone(),
        });
    }
    let wrong = |field, found: u32, needed: String| {
        Err(RunError::Shape { model: model.name.clone(), field, found: found.into(), needed })
    };
    if shape.n_heads == 0 || !shape.hidden_size.is_multiple_of(shape.n_heads) {
        return wrong("n_heads", shape.n_heads, format!("a divisor of {}", shape.hidden_size));
    }
    if shape.head_dim != shape.hidden_size / shape.n_heads {
        let needed = format!("hidden_size / n_heads = {}", shape.hidden_size / shape.n_heads);
        return wrong("head_dim", shape.head_dim, needed);
    }
    if !shape.head_dim.is_multiple_of(2) {
        return wrong("head_dim", shape.head_dim, "an even number".to_owned());
    }
    if shape.n_kv_heads == 0 || !shape.n_heads.is_multiple_of(shape.n_kv_heads) {
        return wrong("n_kv_heads", shape.n_kv_heads, format!("a divisor of {}", shape.n_heads));
    }
    check_tensors(model)
}

fn check_tensors(model: &ModelSpec) -> Result<(), RunError> {
    let present: HashSet<_> = model.tensors.iter().map(|t| (t.role, t.layer)).collect();
    for (role, layer) in model.shape.tensor_slots() {
        let optional = matches!(role, TensorRole::RopeFreqs | TensorRole::Output);
        if !optional && !present.contains(&(role, layer)) {
            return Err(RunError::Tensor {
                model: model.name.clone(),
                tensor: role.gguf_name(layer),
                problem: "is missing",
            });
        }
    }
    // Candle reads only the tensors of known roles, and ignores the factors of the rotary
    // embedding; the types of others do not matter.
    let ignored = [TensorRole::RopeFreqs, TensorRole::Other];
    for tensor in model.tensors.iter().filter(|t| !ignored.contains(&t.role)) {
        if !LOADABLE.contains(&tensor.tensor_type) {
            return Err(RunError::TensorType {
                model: model.name.clone(),
                tensor: tensor.name.clone(),
                found: tensor.tensor_type.name(),
            });
        }
    }
    Ok(())
}

/// Refuses a workload that does not fit into the reader's tables.
///
/// # Errors
/// More than [`MAX_SEQ_LEN`] tokens in all.
pub fn check_workload(workload: &Workload) -> Result<(), RunError> {
    let Workload { prompt_tokens, generated_tokens, depth } = *workload;
    let total = u64::from(depth) + u64::from(prompt_tokens) + u64::from(generated_tokens);
    if total <= u64::from(MAX_SEQ_LEN) {
        return Ok(());
    }
    Err(RunError::TooLong {
        depth,
        prompt: prompt_tokens,
        generated: generated_tokens,
        total,
        limit: MAX_SEQ_LEN,
    })
}
