//! Which tensor takes which type when llama.cpp's `llama-quantize` makes a file.
//!
//! A scheme such as `Q4_K_M` mixes types by rule. These are the rules for the `llama` architecture
//! without an importance matrix, as `llama_tensor_get_type` of llama.cpp's `src/llama-quant.cpp`
//! has them; the sizes of published files confirm them (see the tests).
//!
//! * Vectors stay F32. The floating-point schemes store every matrix alike.
//! * The LM head (`output`, or the embedding where it is tied) takes Q6_K, in Q8_0 files Q8_0.
//! * `Q4_K_M`, `Q5_K_M`: `attn_v` and `ffn_down` take Q6_K in the layers of [`use_more_bits`].
//! * `Q4_K_S`: `attn_v` takes Q5_K in the first four layers, `ffn_down` in the first eighth.
//! * Models of 80 layers with grouped queries (llama.cpp's "70B"): `attn_v` of Q4_K takes Q5_K.
//! * Rows that are not a multiple of 256 fall back: Q4_K → Q5_0, Q5_K → Q5_1, Q6_K → Q8_0; rows
//!   that are not a multiple of 32 are stored as F16.

use foretoken_spec::{ModelShape, ModelSource, ModelSpec, QuantScheme, TensorRole, TensorType};

/// A model of this shape as `llama-quantize` would store it with this scheme.
pub fn quantized_spec(
    name: impl Into<String>,
    family: impl Into<String>,
    source: ModelSource,
    shape: ModelShape,
    scheme: QuantScheme,
) -> ModelSpec {
    let choose = shape.clone();
    ModelSpec::from_shape(name, family, scheme.name(), source, shape, |role, layer| {
        tensor_type(scheme, &choose, role, layer)
    })
}

/// The type that a tensor takes in a file of this scheme.
pub fn tensor_type(
    scheme: QuantScheme,
    shape: &ModelShape,
    role: TensorRole,
    layer: Option<u32>,
) -> TensorType {
    if role.is_vector() || role == TensorRole::Other {
        return TensorType::F32;
    }
    let base = base_type(scheme);
    if base.is_float() {
        return base;
    }
    let layer = layer.unwrap_or(0);
    let wanted = match role {
        TensorRole::Output => head_type(base),
        TensorRole::TokenEmbedding if shape.tied_embeddings => head_type(base),
        TensorRole::AttnV => attn_v_type(scheme, shape, layer),
        TensorRole::FfnDown => ffn_down_type(scheme, shape, layer),
        _ => base,
    };
    let row = shape.tensor_shape(role).and_then(|dims| dims.first().copied()).unwrap_or(1);
    fit_to_row(wanted, row)
}

/// The type that most matrices of a scheme take.
pub fn base_type(scheme: QuantScheme) -> TensorType {
    match scheme {
        QuantScheme::F32 => TensorType::F32,
        QuantScheme::F16 => TensorType::F16,
        QuantScheme::BF16 => TensorType::BF16,
        QuantScheme::Q8_0 => TensorType::Q8_0,
        QuantScheme::Q6_K => TensorType::Q6_K,
        QuantScheme::Q5_K_M | QuantScheme::Q5_K_S => TensorType::Q5_K,
        QuantScheme::Q4_K_M | QuantScheme::Q4_K_S => TensorType::Q4_K,
        QuantScheme::Q4_0 => TensorType::Q4_0,
    }
}

/// Whether a layer is among those that the `_M` schemes store with more bits: the first and the
/// last eighth, and every third between.
pub fn use_more_bits(layer: u32, n_layers: u32) -> bool {
    let eighth = n_layers / 8;
    let last_eighth = u64::from(layer) >= 7 * u64::from(n_layers) / 8;
    layer < eighth || last_eighth || (layer - eighth) % 3 == 2
}

fn head_type(base: TensorType) -> TensorType {
    if base == TensorType::Q8_0 { base } else { TensorType::Q6_K }
}

fn attn_v_type(scheme: QuantScheme, shape: &ModelShape, layer: u32) -> TensorType {
    let chosen = match scheme {
        QuantScheme::Q4_K_M | QuantScheme::Q5_K_M if use_more_bits(layer, shape.n_layers) => {
            TensorType::Q6_K
        }
        QuantScheme::Q4_K_S if layer < 4 => TensorType::Q5_K,
        _ => base_type(scheme),
    };
    // llama.cpp's model type "70B": 80 layers, fewer key-value heads than query heads.
    let is_70b = shape.n_layers == 80 && shape.n_heads != shape.n_kv_heads;
    if is_70b && chosen == TensorType::Q4_K { TensorType::Q5_K } else { chosen }
}

fn ffn_down_type(scheme: QuantScheme, shape: &ModelShape, layer: u32) -> TensorType {
    match scheme {
        QuantScheme::Q4_K_M | QuantScheme::Q5_K_M if use_more_bits(layer, shape.n_layers) => {
            TensorType::Q6_K
        }
        QuantScheme::Q4_K_S if layer < shape.n_layers / 8 => TensorType::Q5_K,
        _ => base_type(scheme),
    }
}

/// The wanted type, or what replaces it where a row is not a whole number of its blocks.
pub fn fit_to_row(wanted: TensorType, row: u64) -> TensorType {
    if row.is_multiple_of(wanted.block_len()) {
        return wanted;
    }
    let fallback = fallback(wanted);
    if row.is_multiple_of(fallback.block_len()) { fallback } else { TensorType::F16 }
}

/// What replaces a type of 256-weight blocks where rows are not a multiple of 256.
pub(crate) fn fallback(wanted: TensorType) -> TensorType {
    match wanted {
        TensorType::Q4_K => TensorType::Q5_0,
        TensorType::Q5_K => TensorType::Q5_1,
        TensorType::Q6_K => TensorType::Q8_0,
        other => other,
    }
}

#[cfg(test)]
mod tests;
