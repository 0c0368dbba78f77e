//! Which tensor takes which type when llama.cpp's `llama-quantize` makes a file.
//!
//! A scheme such as `Q4_K_M` mixes types by rule. These are the rules of llama.cpp
//! (`llama_tensor_get_type` of `src/llama-quant.cpp`); the sizes of published files confirm them
//! (see the tests). K-quants and IQ4 follow the rules without an importance matrix, IQ1 to IQ3
//! those with one: llama.cpp refuses to make them without.
//!
//! * Vectors, routers and convolutions stay F32. The floating-point schemes store every matrix
//!   alike.
//! * The LM head (`output`, or the embedding where it is tied) takes Q6_K, in Q8_0 files Q8_0, in
//!   IQ1, IQ2 and IQ3_XXS files Q5_K. There an embedding of its own takes Q2_K or IQ3_S.
//! * `Q4_K_M`, `Q5_K_M`: values and `ffn_down` take Q6_K in the layers of [`use_more_bits`]. A fused
//!   `attn_qkv` takes one step more than the base in every layer, as in the files of 2024 and 2025
//!   (the newest llama.cpp treats it as values; sizes differ by 0.2 %).
//! * `Q4_K_S`: values take Q5_K in the first four layers, `ffn_down` in the first eighth.
//! * `Q3_K_*`, `Q2_K*`, `IQ*`: values, output projection and `ffn_down` take more bits; values
//!   more still where four query heads and more share them. Queries and keys take fewer in `IQ3_XS`
//!   and `IQ3_XXS`.
//! * Models of 80 layers with grouped queries (llama.cpp's "70B"): values of Q4_K and Q3_K take
//!   Q5_K. Models of eight experts: keys and values take Q8_0, the output projection Q5_K.
//! * `gpt-oss` was published in MXFP4: its experts stay so in every scheme, floats included.
//! * Rows that are not a whole number of blocks fall back: Q4_K → Q5_0, Q5_K → Q5_1, Q6_K → Q8_0,
//!   Q2_K, Q3_K and TQ → Q4_0, all IQ types → IQ4_NL; rows that are not a multiple of 32 are stored
//!   as F16.

use foretoken_spec::{
    LayerKind, ModelShape, ModelSource, ModelSpec, QuantScheme, RoleKind, TensorRole, TensorSpec,
    TensorType,
};

use QuantScheme as S;
use TensorRole as R;
use TensorType as T;

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
    if role.is_kept_f32() {
        return T::F32;
    }
    if shape.architecture == "gpt-oss" && role.kind() == RoleKind::Experts {
        return T::MXFP4;
    }
    let base = base_type(scheme);
    if base.is_float() {
        return base;
    }
    let index = layer.unwrap_or(0);
    let dims = shape.tensor_shape_in(role, index);
    let row = dims.and_then(|dims| dims.first().copied()).unwrap_or(1);
    let wanted = if role == R::Output || (role == R::TokenEmbedding && shape.tied_embeddings) {
        head_type(scheme, row)
    } else if scheme == S::MXFP4_MOE {
        // The embedding keeps the base type's fallback: only experts are MXFP4.
        if role.kind() == RoleKind::Experts { T::MXFP4 } else { T::Q8_0 }
    } else if role.kind() == RoleKind::Gathered {
        embedding_type(scheme)
    } else if is_two_bits(scheme) {
        two_bit_type(scheme, shape, role, index)
    } else {
        match role {
            R::AttnV | R::AttnKvB => values_type(scheme, shape, index),
            R::AttnQkv => fused_type(scheme),
            R::AttnK if has_eight_experts(shape) => T::Q8_0,
            R::AttnQ | R::AttnK => queries_type(scheme),
            R::AttnOutput => output_type(scheme, shape),
            R::FfnDown | R::FfnDownExps | R::FfnDownShexp => down_type(scheme, shape, index),
            _ if is_gate_or_up(role) => up_type(scheme, shape, index),
            _ => base,
        }
    };
    fit_to_row(wanted, row)
}

/// The type that most matrices of a scheme take.
pub fn base_type(scheme: QuantScheme) -> TensorType {
    match scheme {
        S::F32 => T::F32,
        S::F16 => T::F16,
        S::BF16 => T::BF16,
        S::Q8_0 => T::Q8_0,
        S::Q6_K => T::Q6_K,
        S::Q5_K_M | S::Q5_K_S => T::Q5_K,
        S::Q5_1 => T::Q5_1,
        S::Q5_0 => T::Q5_0,
        S::Q4_K_M | S::Q4_K_S => T::Q4_K,
        S::Q4_1 => T::Q4_1,
        S::Q4_0 => T::Q4_0,
        S::IQ4_NL => T::IQ4_NL,
        S::IQ4_XS => T::IQ4_XS,
        S::Q3_K_L | S::Q3_K_M | S::Q3_K_S => T::Q3_K,
        S::Q2_K | S::Q2_K_S => T::Q2_K,
        S::IQ3_M | S::IQ3_S | S::IQ3_XS => T::IQ3_S,
        S::IQ3_XXS => T::IQ3_XXS,
        S::IQ2_M => T::IQ2_S,
        S::IQ2_S | S::IQ2_XS => T::IQ2_XS,
        S::IQ2_XXS => T::IQ2_XXS,
        S::IQ1_M => T::IQ1_M,
        S::IQ1_S => T::IQ1_S,
        S::TQ2_0 => T::TQ2_0,
        S::TQ1_0 => T::TQ1_0,
        S::MXFP4_MOE => T::MXFP4,
    }
}

/// Whether a layer is among those that the `_M` schemes store with more bits: the first and the
/// last eighth, and every third between.
pub fn use_more_bits(layer: u32, n_layers: u32) -> bool {
    let eighth = n_layers / 8;
    let last_eighth = u64::from(layer) >= 7 * u64::from(n_layers) / 8;
    layer < eighth || last_eighth || (layer - eighth) % 3 == 2
}

fn head_type(scheme: QuantScheme, row: u64) -> TensorType {
    let base = base_type(scheme);
    if matches!(base, T::Q8_0 | T::MXFP4) || !row.is_multiple_of(base.block_len()) {
        T::Q8_0
    } else if is_two_bits(scheme) || scheme == S::IQ3_XXS {
        T::Q5_K
    } else {
        T::Q6_K
    }
}

/// An embedding that is not the LM head.
fn embedding_type(scheme: QuantScheme) -> TensorType {
    match scheme {
        S::IQ1_S | S::IQ1_M | S::IQ2_XXS | S::IQ2_XS => T::Q2_K,
        S::IQ2_S | S::IQ2_M | S::IQ3_XXS => T::IQ3_S,
        S::TQ1_0 | S::TQ2_0 => T::Q4_K,
        _ => base_type(scheme),
    }
}

/// The schemes that llama.cpp treats apart from all others.
fn is_two_bits(scheme: QuantScheme) -> bool {
    matches!(scheme, S::IQ1_S | S::IQ1_M | S::IQ2_XXS | S::IQ2_XS | S::IQ2_S | S::IQ2_M)
}

fn two_bit_type(
    scheme: QuantScheme,
    shape: &ModelShape,
    role: TensorRole,
    layer: u32,
) -> TensorType {
    let n_experts = shape.details.experts.as_ref().map_or(0, |experts| experts.count);
    let better = if matches!(scheme, S::IQ2_S | S::IQ2_M) { T::IQ3_S } else { T::Q2_K };
    match role {
        R::AttnV | R::AttnKvB if queries_per_value(shape) >= 4 || n_experts >= 4 => T::Q4_K,
        R::AttnV | R::AttnKvB => better,
        R::AttnK if n_experts == 8 => T::Q4_K,
        R::FfnDown | R::FfnDownExps | R::FfnDownShexp if layer < shape.n_layers / 8 => better,
        R::AttnOutput if n_experts == 8 => T::Q5_K,
        R::AttnOutput => match scheme {
            S::IQ1_S | S::IQ1_M => T::IQ2_XXS,
            S::IQ2_S | S::IQ2_M => T::IQ3_S,
            _ => base_type(scheme),
        },
        _ => base_type(scheme),
    }
}

fn queries_type(scheme: QuantScheme) -> TensorType {
    match scheme {
        S::IQ3_XS => T::IQ3_XXS,
        S::IQ3_XXS => T::IQ2_S,
        _ => base_type(scheme),
    }
}

fn is_gate_or_up(role: TensorRole) -> bool {
    matches!(
        role,
        R::FfnGate
            | R::FfnUp
            | R::FfnGateExps
            | R::FfnUpExps
            | R::FfnGateUpExps
            | R::FfnGateShexp
            | R::FfnUpShexp
    )
}

fn up_type(scheme: QuantScheme, shape: &ModelShape, layer: u32) -> TensorType {
    let n_layers = shape.n_layers;
    let is_inner = (n_layers / 8..7 * n_layers / 8).contains(&layer);
    if scheme == S::IQ3_XS && is_inner { T::IQ3_XXS } else { base_type(scheme) }
}

/// Query heads for each key and value head of the first layer, as llama.cpp asks for it: 0 where
/// that layer has none.
fn queries_per_value(shape: &ModelShape) -> u32 {
    let first = shape.layer(0);
    first.n_heads.checked_div(first.n_kv_heads).unwrap_or(0)
}

fn has_eight_experts(shape: &ModelShape) -> bool {
    shape.details.experts.as_ref().is_some_and(|experts| experts.count == 8)
}

fn values_type(scheme: QuantScheme, shape: &ModelShape, layer: u32) -> TensorType {
    let attends = |l: &u32| shape.layer(*l).kind == LayerKind::Attention;
    let n_values = (0..shape.n_layers).filter(attends).count() as u32;
    let index = (0..layer).filter(attends).count() as u32;
    let shared = queries_per_value(shape) >= 4;
    let chosen = match scheme {
        S::Q2_K => {
            if shared {
                T::Q4_K
            } else {
                T::Q3_K
            }
        }
        S::Q2_K_S | S::IQ3_XXS | S::IQ3_XS | S::IQ3_S if shared => T::Q4_K,
        S::IQ3_M => T::Q4_K,
        S::Q3_K_M if index < 2 => T::Q5_K,
        S::Q3_K_M => T::Q4_K,
        S::Q3_K_L => T::Q5_K,
        S::IQ4_NL | S::IQ4_XS if shared => T::Q5_K,
        S::Q4_K_M | S::Q5_K_M if use_more_bits(index, n_values) => T::Q6_K,
        S::Q4_K_S if index < 4 => T::Q5_K,
        _ => base_type(scheme),
    };
    if has_eight_experts(shape) {
        return T::Q8_0;
    }
    // llama.cpp's model type "70B": 80 layers, fewer key-value heads than query heads.
    let is_70b = shape.n_layers == 80 && shape.n_heads != shape.n_kv_heads;
    if is_70b && matches!(chosen, T::Q3_K | T::Q4_K) { T::Q5_K } else { chosen }
}

fn fused_type(scheme: QuantScheme) -> TensorType {
    match scheme {
        S::Q3_K_M | S::Q3_K_L | S::IQ3_M => T::Q4_K,
        S::Q4_K_M => T::Q5_K,
        S::Q5_K_M => T::Q6_K,
        _ => base_type(scheme),
    }
}

fn output_type(scheme: QuantScheme, shape: &ModelShape) -> TensorType {
    if has_eight_experts(shape) {
        return match scheme {
            S::Q2_K | S::Q3_K_S | S::Q3_K_M | S::Q4_K_S | S::Q4_K_M => T::Q5_K,
            S::IQ3_XXS | S::IQ3_XS | S::IQ3_S | S::IQ3_M | S::IQ4_NL | S::IQ4_XS => T::Q5_K,
            _ => base_type(scheme),
        };
    }
    match scheme {
        S::Q2_K => T::Q3_K,
        S::IQ3_XXS => T::IQ3_S,
        S::Q3_K_M | S::IQ3_M => T::Q4_K,
        S::Q3_K_L => T::Q5_K,
        _ => base_type(scheme),
    }
}

fn down_type(scheme: QuantScheme, shape: &ModelShape, layer: u32) -> TensorType {
    let n_layers = shape.n_layers;
    match scheme {
        S::Q2_K => T::Q3_K,
        S::Q2_K_S if layer < n_layers / 8 => T::Q4_K,
        S::Q3_K_M if layer < n_layers / 16 => T::Q5_K,
        S::Q3_K_M => T::Q4_K,
        S::IQ3_M if layer < n_layers / 8 => T::Q4_K,
        S::IQ3_M if has_eight_experts(shape) && use_more_bits(layer, n_layers) => T::Q4_K,
        S::Q3_K_L => T::Q5_K,
        S::Q4_K_M | S::Q5_K_M if use_more_bits(layer, n_layers) => T::Q6_K,
        S::Q4_K_S | S::IQ4_NL | S::IQ4_XS if layer < n_layers / 8 => T::Q5_K,
        _ => base_type(scheme),
    }
}

/// The wanted type, or what replaces it where a row is not a whole number of its blocks.
pub fn fit_to_row(wanted: TensorType, row: u64) -> TensorType {
    if row.is_multiple_of(wanted.block_len()) {
        return wanted;
    }
    let fallback = fallback(wanted);
    if row.is_multiple_of(fallback.block_len()) { fallback } else { T::F16 }
}

/// How far a model is from what the name of its scheme says, as a sentence: small models have rows
/// that are no multiple of 256.
pub fn fallback_note(spec: &ModelSpec) -> Option<String> {
    let base = base_type(spec.quant.parse().ok()?);
    if base.block_len() != 256 {
        return None;
    }
    let fell_back = |t: &&TensorSpec| {
        let row = t.shape.first().copied().unwrap_or(0);
        t.shape.len() > 1 && !t.role.is_kept_f32() && !row.is_multiple_of(256)
    };
    let tensors = || spec.tensors.iter().filter(fell_back);
    let mut types: Vec<&str> = Vec::new();
    for name in tensors().map(|t| t.tensor_type.name()) {
        if !types.contains(&name) {
            types.push(name);
        }
    }
    let weights: u64 = tensors().map(TensorSpec::n_elements).sum();
    let share = 100.0 * weights as f64 / spec.n_parameters() as f64;
    (share >= 1.0).then(|| {
        format!(
            "{share:.0} % of the weights take {} instead of {}: their rows are not a multiple of 256",
            types.join(", "),
            spec.quant
        )
    })
}

/// What replaces a type of 256-weight blocks where rows are not a multiple of 256.
pub(crate) fn fallback(wanted: TensorType) -> TensorType {
    match wanted {
        T::Q2_K | T::Q3_K | T::TQ1_0 | T::TQ2_0 => T::Q4_0,
        T::Q4_K => T::Q5_0,
        T::Q5_K => T::Q5_1,
        T::Q6_K => T::Q8_0,
        T::IQ1_S | T::IQ1_M | T::IQ2_XXS | T::IQ2_XS | T::IQ2_S => T::IQ4_NL,
        T::IQ3_XXS | T::IQ3_S | T::IQ4_XS => T::IQ4_NL,
        other => other,
    }
}

#[cfg(test)]
mod tests;
