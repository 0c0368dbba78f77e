//! What sets a configuration apart from the llama form.

use foretoken_spec::{
    Architecture, Bias, Experts, LayerKind, LayerShape, ModelShape, ShapeDetails, SlidingWindow,
    Window,
};
use serde_json::Value;

use super::Fields;
use super::class::Class;
use crate::CatalogError;

/// Width of the dense feed-forward layer, or that of an expert where every layer has them.
pub(super) fn intermediate_size(class: &Class, fields: &Fields) -> Result<u32, CatalogError> {
    if class.architecture != "lfm2" {
        return fields.required_count("intermediate_size");
    }
    if let Some(width) = fields.count("block_ff_dim")? {
        let adjusts = fields.boolean("block_auto_adjust_ff_dim")?.unwrap_or(true);
        if !adjusts {
            return Ok(width);
        }
        // transformers, `modeling_lfm2.py`: two thirds, times a factor, to a multiple.
        let factor = fields.float("block_ffn_dim_multiplier")?.unwrap_or(1.0);
        let multiple = fields.count("block_multiple_of")?.unwrap_or(256);
        let scaled = f64::from(2 * width / 3) * f64::from(factor);
        return Ok((scaled.min(f64::from(1 << 24)) as u32).next_multiple_of(multiple));
    }
    fields.required_count("intermediate_size")
}

/// Everything beside the plain shape.
pub(super) fn of(
    class: &Class,
    fields: &Fields,
    shape: &ModelShape,
    scaling: Option<&str>,
) -> Result<ShapeDetails, CatalogError> {
    for field in ["mlp_bias", "use_parallel_residual", "qk_layernorm"] {
        fields.refuse_if_true(field)?;
    }
    let form = Architecture::find(class.architecture);
    let optional = form.is_some_and(|form| form.qkv_bias == Bias::Optional);
    let biased = match fields.boolean("attention_bias")? {
        Some(biased) => Some(biased),
        None => fields.boolean("use_qkv_bias")?,
    };
    if biased == Some(true) && form.is_some_and(|form| form.qkv_bias == Bias::Never) {
        return Err(fields.wrong("attention_bias", "false: models with it are not known"));
    }
    let qkv_bias = optional && biased.unwrap_or(false);
    Ok(ShapeDetails {
        rope_dim: rope_dim(class, fields, shape)?,
        rope_skips_every: match class.architecture {
            "smollm3" => Some(fields.count("no_rope_layer_interval")?.unwrap_or(4)),
            _ => None,
        },
        rope_factors: class.architecture == "phi3" && matches!(scaling, Some("longrope" | "su")),
        qkv_bias,
        // The classes of the llama form give the output projection a bias with the others.
        output_bias: qkv_bias && class.architecture == "llama",
        experts: experts(class, fields, shape)?,
        window: window(class, form, fields, shape.n_layers)?,
        conv_length: match class.architecture {
            "lfm2" => Some(fields.count("conv_L_cache")?.unwrap_or(3)),
            _ => None,
        },
        layers: layers(class, fields, shape)?,
        ..ShapeDetails::default()
    })
}

fn rope_dim(
    class: &Class,
    fields: &Fields,
    shape: &ModelShape,
) -> Result<Option<u32>, CatalogError> {
    let stated = match fields.float("partial_rotary_factor")? {
        Some(factor) => Some(factor),
        None => match fields.get("rope_parameters") {
            Some(Value::Object(inner)) => Fields(inner).float("partial_rotary_factor")?,
            _ => None,
        },
    };
    let factor = stated.map_or(f64::from(class.rotary_percent) / 100.0, f64::from);
    if factor > 1.0 {
        return Err(fields.wrong("partial_rotary_factor", "a number above 0 and at most 1"));
    }
    let dim = (f64::from(shape.head_dim) * factor).round() as u32;
    Ok(Some(dim).filter(|&dim| dim != shape.head_dim))
}

fn experts(
    class: &Class,
    fields: &Fields,
    shape: &ModelShape,
) -> Result<Option<Experts>, CatalogError> {
    const COUNT: &[&str] = &["num_experts", "num_local_experts"];
    let mixture = ["mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "granitemoe"];
    let count = fields.first_count(COUNT)?;
    if !mixture.contains(&class.model_type) {
        return match count {
            Some(count) if count > 1 => {
                let field = if fields.get("num_experts").is_some() { COUNT[0] } else { COUNT[1] };
                Err(fields.wrong(field, "absent: this class has no experts"))
            }
            _ => Ok(None),
        };
    }
    let count =
        count.ok_or(CatalogError::MissingField(if class.model_type.starts_with("qwen") {
            COUNT[0]
        } else {
            COUNT[1]
        }))?;
    let used = fields.first_count(&["num_experts_per_tok", "experts_per_token"])?;
    let used = used.ok_or(CatalogError::MissingField("num_experts_per_tok"))?;
    match fields.get("mlp_only_layers") {
        None => {}
        Some(Value::Array(layers)) if layers.is_empty() => {}
        Some(_) => return Err(fields.wrong("mlp_only_layers", "an empty list")),
    }
    let every = fields.count("decoder_sparse_step")?.unwrap_or(1);
    let shared = fields.number("shared_expert_intermediate_size")?;
    Ok(Some(Experts {
        count,
        used,
        intermediate_size: match class.model_type {
            "qwen2_moe" | "qwen3_moe" => fields.required_count("moe_intermediate_size")?,
            _ => shape.intermediate_size,
        },
        shared_intermediate_size: shared.unwrap_or(0),
        leading_dense: 0,
        every: if every > 1 { every } else { 0 },
    }))
}

fn window(
    class: &Class,
    form: Option<&Architecture>,
    fields: &Fields,
    n_layers: u32,
) -> Result<Option<SlidingWindow>, CatalogError> {
    let Some(Window::AllButEvery(native)) = form.map(|form| form.window) else { return Ok(None) };
    let Some(tokens) = fields.number("sliding_window")?.or(class.window) else { return Ok(None) };
    let stated = fields.first_count(&["sliding_window_pattern", "_sliding_window_pattern"])?;
    let full_every = stated.unwrap_or(native);
    let periodic = SlidingWindow { tokens, full_every, layers: Vec::new() };
    let Some(types) = layer_types(fields, n_layers)? else { return Ok(Some(periodic)) };
    let layers: Vec<bool> = types.iter().map(|kind| kind == "sliding_attention").collect();
    if (0..n_layers).zip(&layers).all(|(layer, windowed)| periodic.has(layer) == *windowed) {
        return Ok(Some(periodic));
    }
    Ok(Some(SlidingWindow { tokens, full_every: 0, layers }))
}

/// The kind of every layer, where the file lists them.
fn layer_types(fields: &Fields, n_layers: u32) -> Result<Option<Vec<String>>, CatalogError> {
    let wrong = || fields.wrong("layer_types", "a list of one name per layer");
    match fields.get("layer_types") {
        None => Ok(None),
        Some(Value::Array(types)) if types.len() == n_layers as usize => {
            let names: Option<Vec<String>> =
                types.iter().map(|kind| kind.as_str().map(str::to_owned)).collect();
            names.map(Some).ok_or_else(wrong)
        }
        Some(_) => Err(wrong()),
    }
}

/// The layers of LFM2: attention where they are listed, short convolutions elsewhere.
fn layers(
    class: &Class,
    fields: &Fields,
    shape: &ModelShape,
) -> Result<Vec<LayerShape>, CatalogError> {
    if class.architecture != "lfm2" {
        return Ok(Vec::new());
    }
    let attends: Vec<bool> = match layer_types(fields, shape.n_layers)? {
        Some(types) => types.iter().map(|kind| kind == "full_attention").collect(),
        None => {
            let wrong = || fields.wrong("full_attn_idxs", "a list of layers");
            let listed = match fields.get("full_attn_idxs") {
                Some(Value::Array(listed)) => listed,
                Some(_) => return Err(wrong()),
                None => return Err(CatalogError::MissingField("layer_types")),
            };
            let indices: Option<Vec<u64>> = listed.iter().map(Value::as_u64).collect();
            let indices = indices
                .filter(|indices| indices.iter().all(|&i| i < u64::from(shape.n_layers)))
                .ok_or_else(wrong)?;
            (0..shape.n_layers).map(|layer| indices.contains(&u64::from(layer))).collect()
        }
    };
    let conv = LayerShape {
        kind: LayerKind::ShortConvolution,
        n_heads: 0,
        n_kv_heads: 0,
        intermediate_size: shape.intermediate_size,
    };
    let attention = LayerShape {
        kind: LayerKind::Attention,
        n_heads: shape.n_heads,
        n_kv_heads: shape.n_kv_heads,
        ..conv
    };
    Ok(attends.into_iter().map(|attends| if attends { attention } else { conv }).collect())
}
