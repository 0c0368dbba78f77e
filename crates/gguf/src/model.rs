//! From a header to a [`ModelSpec`]: the shape from the metadata, the bytes from the tensor table.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use foretoken_spec::{
    Architecture, Bias, InvalidShape, ModelShape, ModelSource, ModelSpec, QuantScheme, RoleKind,
    ShapeDetails, TensorRole, TensorSpec, TensorType,
};

use crate::{GgufError, GgufHeader, details, mix, shards};

/// Base of the rotary embedding where a file states none (llama.cpp's default).
const DEFAULT_ROPE_FREQ_BASE: f32 = 10_000.0;

/// Reads the header of a GGUF file, or of all parts of a split model, and describes its model.
///
/// # Errors
/// Everything that [`crate::read_header`] and [`model_of_header`] refuse, with the path in front;
/// a part of a split model that is missing.
pub fn read_model(path: &Path) -> Result<ModelSpec, GgufError> {
    shards::read_all(path).and_then(|header| model_of_header(&header, path)).map_err(|reason| {
        match reason {
            named @ GgufError::InFile { .. } => named,
            reason => GgufError::InFile { path: path.to_owned(), reason: Box::new(reason) },
        }
    })
}

/// Describes the model of a header; `path` gives the name where the header has none.
///
/// An architecture whose form is not known is described from its tensor table, and says so.
///
/// # Errors
/// A file without a language model, without tensors or with a part of them; metadata missing, of
/// the wrong type, or in contradiction with each other or with the tensor table.
pub fn model_of_header(header: &GgufHeader, path: &Path) -> Result<ModelSpec, GgufError> {
    let architecture = check_kind(header)?;
    let form = Architecture::find(&architecture);
    // Without these numbers not even the tensor table says what a layer is.
    let unknown = |error| match error {
        GgufError::MissingKey { key } if form.is_none() => {
            GgufError::UnknownArchitecture { architecture: architecture.clone(), key }
        }
        error => error,
    };
    let n_layers = required(header, &architecture, "block_count").map_err(unknown)?;
    if n_layers > 4096 {
        let key = format!("{architecture}.block_count");
        let expected = "between 1 and 4096";
        return Err(GgufError::BadValue { key, value: n_layers.to_string(), expected });
    }
    let mut tensors = table(header, &architecture);
    let mut approximations = Vec::new();
    let hidden_layers = extra_layers(header, &architecture, n_layers)?;
    // Layers that predict further tokens take no part in a plain pass.
    for tensor in tensors.iter_mut().filter(|t| t.layer >= Some(n_layers - hidden_layers)) {
        tensor.role = TensorRole::Other;
    }
    if hidden_layers > 0 {
        approximations.push(format!(
            "{hidden_layers} layers that predict further tokens are counted in bytes only"
        ));
    }
    let shape = match form {
        Some(form) => known_shape(header, form, &tensors, n_layers - hidden_layers)?,
        None => {
            approximations.push(format!(
                "architecture `{architecture}` is not known by its form: bytes and products of \
                 matrices come from the tensor table, the rest is assumed as in `llama`"
            ));
            unknown_shape(header, &architecture, &tensors, n_layers - hidden_layers)
                .map_err(unknown)?
        }
    };
    if let Err(invalid) = shape.check() {
        return Err(bad_value(&architecture, &invalid));
    }
    check_layers(header, &architecture, n_layers)?;
    if form.is_some() {
        check_table(&shape, &tensors)?;
    }
    approximations.extend(details::notes(header, &shape, &tensors));
    let stem = || path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    let name = match header.string("general.name")?.map(str::trim) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => stem(),
    };
    let quant = quant_label(header.integer("general.file_type")?, &tensors);
    Ok(ModelSpec {
        family: family_of(&name),
        name,
        quant,
        source: ModelSource::Gguf { path: path.display().to_string() },
        shape,
        tensors,
        file_bytes: Some(header.file_bytes),
        approximations,
    })
}

/// The architecture, of a file that holds a language model as a whole.
fn check_kind(header: &GgufHeader) -> Result<String, GgufError> {
    const ARCHITECTURE: &str = "general.architecture";
    let missing = || GgufError::MissingKey { key: ARCHITECTURE.to_owned() };
    let architecture = header.string(ARCHITECTURE)?.ok_or_else(missing)?;
    let kind = header.string("general.type")?.unwrap_or("model");
    if architecture == "clip" || matches!(kind, "adapter" | "mmproj" | "imatrix" | "vocab") {
        let kind = if kind == "model" { architecture } else { kind };
        return Err(GgufError::NotALanguageModel { kind: kind.to_owned() });
    }
    match header.integer("split.count")? {
        Some(count) if count > 1 => return Err(GgufError::Split { count: count.into() }),
        _ => {}
    }
    if header.tensors.is_empty() {
        return Err(GgufError::VocabularyOnly);
    }
    Ok(architecture.to_owned())
}

fn table(header: &GgufHeader, architecture: &str) -> Vec<TensorSpec> {
    header
        .tensors
        .iter()
        .map(|info| {
            let (role, layer) = TensorRole::from_gguf_name(&info.name);
            let is_matrix = info.dims.len() > 1 && info.name.ends_with(".weight");
            // candle's and llama.cpp's readers of `llama` have no other matrices.
            let unknown = role == TensorRole::Other && layer.is_some() && architecture != "llama";
            TensorSpec {
                name: info.name.clone(),
                role: if unknown && is_matrix { TensorRole::OtherMatrix } else { role },
                layer,
                shape: info.dims.clone(),
                tensor_type: info.tensor_type,
            }
        })
        .collect()
}

/// Layers at the end that predict further tokens (`nextn_predict_layers`).
fn extra_layers(header: &GgufHeader, architecture: &str, n_layers: u32) -> Result<u32, GgufError> {
    let key = format!("{architecture}.nextn_predict_layers");
    match header.integer(&key)? {
        Some(extra) if extra >= n_layers => Err(GgufError::BadValue {
            key,
            value: extra.to_string(),
            expected: "less than the block count",
        }),
        extra => Ok(extra.unwrap_or(0)),
    }
}

/// A number that must be there, once or per layer with equal values, and above 0.
fn required(header: &GgufHeader, architecture: &str, suffix: &str) -> Result<u32, GgufError> {
    let key = format!("{architecture}.{suffix}");
    header.get(&key)?;
    positive(&key, header.uniform_integer(&key)?.unwrap_or(0))
}

fn known_shape(
    header: &GgufHeader,
    form: &Architecture,
    tensors: &[TensorSpec],
    n_layers: u32,
) -> Result<ModelShape, GgufError> {
    let architecture = form.name;
    let key = |suffix: &str| format!("{architecture}.{suffix}");
    for suffix in form.keys {
        header.get(&key(suffix))?;
    }
    let eps_key = match form.layer_norm {
        true => key("attention.layer_norm_epsilon"),
        false => key("attention.layer_norm_rms_epsilon"),
    };
    header.get(&eps_key)?;
    let hidden_size = required(header, architecture, "embedding_length")?;
    let heads = details::heads(header, architecture, n_layers)?;
    let (key_dim, value_dim) = head_dims(header, architecture, hidden_size, heads.query)?;
    let mut shape = ModelShape {
        n_layers,
        hidden_size,
        n_heads: heads.query,
        n_kv_heads: heads.kv,
        head_dim: key_dim,
        intermediate_size: 0,
        vocab_size: vocab_size(header, architecture)?,
        context_length: required(header, architecture, "context_length")?,
        tied_embeddings: header.tensor("output.weight").is_none(),
        rope_freqs: header.tensor("rope_freqs.weight").is_some(),
        rope_freq_base: header
            .positive_float(&key("rope.freq_base"))?
            .unwrap_or(DEFAULT_ROPE_FREQ_BASE),
        rms_norm_eps: header.positive_float(&eps_key)?.unwrap_or(1e-5),
        architecture: architecture.to_owned(),
        details: ShapeDetails::default(),
    };
    let has = |role| tensors.iter().any(|t| t.role == role);
    shape.details = ShapeDetails {
        value_dim: (value_dim != key_dim).then_some(value_dim),
        rope_dim: details::rope_dim(header, architecture, key_dim)?,
        rope_skips_every: (architecture == "smollm3").then_some(4),
        rope_factors: has(TensorRole::RopeFactorsLong) && has(TensorRole::RopeFactorsShort),
        qkv_bias: form.qkv_bias == Bias::Optional && has(TensorRole::AttnQBias),
        output_bias: !form.all_biases && !form.sinks && has(TensorRole::AttnOutputBias),
        experts: details::experts(header, architecture, tensors, n_layers)?,
        window: details::window(header, form)?,
        latent: None,
        recurrent: None,
        conv_length: details::optional(header, architecture, "shortconv.l_cache")?,
        layers: Vec::new(),
    };
    details::fill_layers(header, &mut shape, &heads, tensors)?;
    Ok(shape)
}

/// The shape of a model of which only the tensor table is understood: whatever the metadata leave
/// out is taken from the table, or from the llama form.
fn unknown_shape(
    header: &GgufHeader,
    architecture: &str,
    tensors: &[TensorSpec],
    n_layers: u32,
) -> Result<ModelShape, GgufError> {
    let optional = |suffix: &str| details::optional(header, architecture, suffix);
    let float = |suffix: &str| header.positive_float(&format!("{architecture}.{suffix}"));
    let hidden_size = required(header, architecture, "embedding_length")?;
    let heads = details::heads(header, architecture, n_layers)?;
    let latent = details::latent(header, architecture, tensors)?;
    let (mut key_dim, mut value_dim) = head_dims(header, architecture, hidden_size, heads.query)?;
    if latent.is_some() {
        key_dim = optional("attention.key_length_mla")?.unwrap_or(key_dim);
        value_dim = optional("attention.value_length_mla")?.unwrap_or(value_dim);
    }
    let mut shape = ModelShape {
        architecture: architecture.to_owned(),
        n_layers,
        hidden_size,
        n_heads: heads.query,
        n_kv_heads: heads.kv,
        head_dim: key_dim,
        intermediate_size: 0,
        vocab_size: vocab_size(header, architecture)?,
        context_length: optional("context_length")?.unwrap_or(2048),
        tied_embeddings: header.tensor("output.weight").is_none(),
        rope_freqs: header.tensor("rope_freqs.weight").is_some(),
        rope_freq_base: float("rope.freq_base")?.unwrap_or(DEFAULT_ROPE_FREQ_BASE),
        rms_norm_eps: float("attention.layer_norm_rms_epsilon")?
            .or(float("attention.layer_norm_epsilon")?)
            .unwrap_or(1e-5),
        details: ShapeDetails {
            value_dim: (value_dim != key_dim).then_some(value_dim),
            rope_dim: details::rope_dim(header, architecture, key_dim)?,
            experts: details::experts(header, architecture, tensors, n_layers)?,
            window: details::stated_window(header, architecture)?,
            latent,
            recurrent: details::recurrent(header, architecture)?,
            conv_length: optional("shortconv.l_cache")?,
            ..ShapeDetails::default()
        },
    };
    details::fill_layers(header, &mut shape, &heads, tensors)?;
    Ok(shape)
}

/// An impossible number of the shape, by the key that it comes from.
fn bad_value(architecture: &str, invalid: &InvalidShape) -> GgufError {
    let suffix = match invalid.field {
        "n_layers" => "block_count",
        "hidden_size" => "embedding_length",
        "n_heads" => "attention.head_count",
        "n_kv_heads" => "attention.head_count_kv",
        "head_dim" => "attention.key_length",
        "n_heads * head_dim" => "attention.head_count * attention.key_length",
        "n_heads * value_dim" => "attention.head_count * attention.value_length",
        "intermediate_size" => "feed_forward_length",
        "rope_dim" => "rope.dimension_count",
        "experts.count" => "expert_count",
        "experts.used" => "expert_used_count",
        "latent.kv_rank" => "attention.kv_lora_rank",
        "latent.q_rank" => "attention.q_lora_rank",
        "recurrent.inner_size" => "ssm.inner_size",
        "recurrent.state_size" => "ssm.state_size",
        "recurrent.conv_length" => "ssm.conv_kernel",
        "conv_length" => "shortconv.l_cache",
        other => other,
    };
    GgufError::BadValue {
        key: format!("{architecture}.{suffix}"),
        value: invalid.value.to_string(),
        expected: invalid.expected,
    }
}

pub(crate) fn positive(key: &str, value: u32) -> Result<u32, GgufError> {
    /// No dimension of a model is near this: products of two fit 64 bits with ease.
    const MOST: u32 = 1 << 24;
    if (1..=MOST).contains(&value) {
        return Ok(value);
    }
    Err(GgufError::BadValue {
        key: key.to_owned(),
        value: value.to_string(),
        expected: "between 1 and 16777216",
    })
}

/// Widths of a key head and of a value head.
fn head_dims(
    header: &GgufHeader,
    architecture: &str,
    hidden_size: u32,
    n_heads: u32,
) -> Result<(u32, u32), GgufError> {
    let key_key = format!("{architecture}.attention.key_length");
    let value_key = format!("{architecture}.attention.value_length");
    let key_length = header.uniform_integer(&key_key)?;
    let value_length = header.uniform_integer(&value_key)?;
    match (key_length, value_length) {
        (Some(k), Some(v)) if k != v && architecture == "llama" => Err(GgufError::Conflict {
            left: format!("metadata key `{key_key}`"),
            left_value: k.into(),
            right: format!("metadata key `{value_key}`"),
            right_value: v.into(),
        }),
        (Some(k), v) => Ok((positive(&key_key, k)?, positive(&value_key, v.unwrap_or(k))?)),
        (None, Some(v)) => Ok((positive(&value_key, v)?, v)),
        (None, None) if hidden_size.is_multiple_of(n_heads) => {
            Ok((hidden_size / n_heads, hidden_size / n_heads))
        }
        (None, None) => Err(GgufError::BadValue {
            key: format!("{architecture}.attention.head_count"),
            value: n_heads.to_string(),
            expected: "a divisor of the embedding length, or come with attention.key_length",
        }),
    }
}

/// From `vocab_size`, else from the tokenizer, else from the embedding, which must agree.
fn vocab_size(header: &GgufHeader, architecture: &str) -> Result<u32, GgufError> {
    const EMBEDDING: &str = "token_embd.weight";
    let vocab_key = format!("{architecture}.vocab_size");
    let tokens_key = "tokenizer.ggml.tokens";
    let rows = header.tensor(EMBEDDING).map(|t| t.dims.get(1).copied().unwrap_or(1));
    let stated = header.integer(&vocab_key)?.map(u64::from);
    let tokens = header.array_len(tokens_key)?.filter(|&n| n > 0);
    let (left, left_value) = match (stated, tokens) {
        (Some(stated), _) => (vocab_key, stated),
        (None, Some(tokens)) => (tokens_key.to_owned(), tokens),
        (None, None) => (EMBEDDING.to_owned(), rows.unwrap_or(0)),
    };
    // `vocab_size` may agree with the rows while tokens are listed that have none.
    if let (Some(rows), Some(tokens)) = (rows, tokens)
        && tokens > rows
    {
        return Err(GgufError::Conflict {
            left: format!("the length of metadata key `{tokens_key}`"),
            left_value: tokens,
            right: format!("the row count of tensor `{EMBEDDING}`"),
            right_value: rows,
        });
    }
    match rows {
        Some(rows) if rows != left_value => Err(GgufError::Conflict {
            left: format!("metadata key `{left}`"),
            left_value,
            right: format!("the row count of tensor `{EMBEDDING}`"),
            right_value: rows,
        }),
        Some(rows) => positive(&left, u32::try_from(rows).unwrap_or(u32::MAX)),
        None => Err(GgufError::MissingTensor { name: EMBEDDING.to_owned() }),
    }
}

fn check_layers(header: &GgufHeader, architecture: &str, n_layers: u32) -> Result<(), GgufError> {
    let last = header.tensors.iter().filter_map(|t| TensorRole::from_gguf_name(&t.name).1).max();
    let layers = last.map_or(0, |last| u64::from(last) + 1);
    if layers == u64::from(n_layers) {
        return Ok(());
    }
    Err(GgufError::Conflict {
        left: format!("metadata key `{architecture}.block_count`"),
        left_value: n_layers.into(),
        right: "the number of layers in the tensor table".to_owned(),
        right_value: layers,
    })
}

fn check_table(shape: &ModelShape, tensors: &[TensorSpec]) -> Result<(), GgufError> {
    let present: HashMap<&str, &TensorSpec> =
        tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let roles: HashSet<_> = tensors.iter().map(|t| (t.role, t.layer)).collect();
    for (role, layer) in shape.tensor_slots() {
        let name = role.gguf_name(layer);
        let Some(tensor) = present.get(name.as_str()) else {
            if stands_in(role).iter().any(|other| roles.contains(&(*other, layer))) {
                continue;
            }
            return Err(GgufError::MissingTensor { name });
        };
        // The factors of the rotary embedding may cover a part of the head only.
        let expected = shape
            .tensor_shape_in(role, layer.unwrap_or(0))
            .filter(|_| role.kind() != RoleKind::Factors);
        match expected {
            Some(expected) if significant(&tensor.shape) != significant(&expected) => {
                let found = tensor.shape.clone();
                return Err(GgufError::WrongShape { name, found, expected });
            }
            _ => {}
        }
    }
    Ok(())
}

/// What may stand in the table in place of a tensor of this role: another form of the same.
fn stands_in(role: TensorRole) -> &'static [TensorRole] {
    use TensorRole as R;
    match role {
        // Old files have a tensor per expert, newer ones gate and up projection in one.
        R::FfnGateExps | R::FfnUpExps => &[R::FfnGateUpExps, R::FfnGateExps],
        R::FfnDownExps => &[R::FfnDownExps],
        R::AttnQkv => &[R::AttnQ],
        R::AttnQkvBias => &[R::AttnQBias],
        // Converters have given LFM2's last norm both names.
        R::TokenEmbeddingNorm => &[R::OutputNorm],
        _ => &[],
    }
}

/// Dimensions without the trailing ones that some writers add.
fn significant(dims: &[u64]) -> &[u64] {
    let last = dims.iter().rposition(|&dim| dim != 1).unwrap_or(0);
    dims.get(..=last).unwrap_or(dims)
}

/// The scheme that the file states, where its table bears it out; else a list of its types.
fn quant_label(file_type: Option<u32>, tensors: &[TensorSpec]) -> String {
    let mut weights: Vec<(TensorType, u64)> = Vec::new();
    for tensor in tensors.iter().filter(|t| !t.role.is_vector() && t.shape.len() > 1) {
        match weights.iter_mut().find(|(t, _)| *t == tensor.tensor_type) {
            Some((_, n)) => *n += tensor.n_elements(),
            None => weights.push((tensor.tensor_type, tensor.n_elements())),
        }
    }
    weights.sort_by_key(|&(t, n)| (std::cmp::Reverse(n), t));
    let has = |wanted: TensorType| weights.iter().any(|&(t, _)| t == wanted);
    if let Some(scheme) = file_type.and_then(QuantScheme::from_file_type)
        && (has(mix::base_type(scheme)) || has(mix::fallback(mix::base_type(scheme))))
    {
        return scheme.name().to_owned();
    }
    let names: Vec<_> = weights.iter().map(|(t, _)| t.name()).collect();
    match names.as_slice() {
        [] => "unknown".to_owned(),
        [only] => (*only).to_owned(),
        _ => format!("mixed({})", names.join(",")),
    }
}

/// The family that a model's name tells, for grouped validation; the name itself where it tells
/// none.
pub fn family_of(name: &str) -> String {
    /// What a name contains, and the family; the first that fits counts.
    const KNOWN: &[(&str, &str)] = &[
        ("tinyllama", "tinyllama"),
        ("codellama", "llama-2"),
        ("openllama", "openllama"),
        ("smollm3", "smollm3"),
        ("smollm2", "smollm2"),
        ("smollm", "smollm"),
        ("deepseek-r1-distill-llama", "llama-3"),
        ("deepseek-r1-distill-qwen", "qwen2.5"),
        ("deepseek-llm", "deepseek-llm"),
        ("deepseek-v2", "deepseek-v2"),
        ("mixtral", "mixtral"),
        ("mistral", "mistral"),
        ("vicuna", "llama-2"),
        ("llama-2", "llama-2"),
        ("llama2", "llama-2"),
        ("llama-v2", "llama-2"),
        ("llama-3", "llama-3"),
        ("llama3", "llama-3"),
        ("qwen2.5", "qwen2.5"),
        ("qwen3", "qwen3"),
        ("qwen2", "qwen2"),
        ("gemma-3", "gemma-3"),
        ("gemma-2", "gemma-2"),
        ("phi-4", "phi-4"),
        ("phi-3", "phi-3"),
        ("phi-2", "phi-2"),
        ("glm-4", "glm-4"),
        ("lfm2", "lfm2"),
        ("gpt-oss", "gpt-oss"),
        ("olmo-2", "olmo-2"),
        ("granite", "granite"),
        ("stablelm", "stablelm"),
        ("yi-", "yi"),
    ];
    let plain: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_whitespace() || c == '_' || c == '/' { '-' } else { c })
        .collect();
    let joined = plain.replace("code-llama", "codellama").replace("open-llama", "openllama");
    KNOWN
        .iter()
        .find(|(part, _)| joined.contains(part))
        .map_or(plain, |(_, family)| (*family).to_owned())
}

#[cfg(test)]
mod tests;
