//! From a header to a [`ModelSpec`]: the shape from the metadata, the bytes from the tensor table.

use std::fs::File;
use std::path::Path;

use foretoken_spec::{
    InvalidShape, ModelShape, ModelSource, ModelSpec, QuantScheme, TensorRole, TensorSpec,
    TensorType,
};

use crate::{GgufError, GgufHeader, mix, read_header};

/// Values of `general.architecture` that this tool can describe.
pub const SUPPORTED_ARCHITECTURES: &[&str] = &["llama"];

/// Base of the rotary embedding where a file states none (llama.cpp's default).
const DEFAULT_ROPE_FREQ_BASE: f32 = 10_000.0;

/// Reads the header of a GGUF file and describes its model.
///
/// # Errors
/// Everything that [`read_header`] and [`model_of_header`] refuse, with the path in front.
pub fn read_model(path: &Path) -> Result<ModelSpec, GgufError> {
    read_unnamed(path)
        .map_err(|reason| GgufError::InFile { path: path.to_owned(), reason: Box::new(reason) })
}

fn read_unnamed(path: &Path) -> Result<ModelSpec, GgufError> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => GgufError::NotFound,
        _ => GgufError::Io(error),
    })?;
    if file.metadata().map_err(GgufError::Io)?.is_dir() {
        return Err(GgufError::Directory);
    }
    model_of_header(&read_header(&mut file)?, path)
}

/// Describes the model of a header; `path` gives the name where the header has none.
///
/// # Errors
/// An architecture that is not supported; a file without tensors or with a part of them; metadata
/// missing, of the wrong type, or in contradiction with each other or with the tensor table.
pub fn model_of_header(header: &GgufHeader, path: &Path) -> Result<ModelSpec, GgufError> {
    check_kind(header)?;
    let shape = shape_of(header)?;
    let tensors: Vec<TensorSpec> = header
        .tensors
        .iter()
        .map(|info| {
            let (role, layer) = TensorRole::from_gguf_name(&info.name);
            TensorSpec {
                name: info.name.clone(),
                role,
                layer,
                shape: info.dims.clone(),
                tensor_type: info.tensor_type,
            }
        })
        .collect();
    check_table(&shape, &tensors)?;
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
    })
}

fn check_kind(header: &GgufHeader) -> Result<(), GgufError> {
    const ARCHITECTURE: &str = "general.architecture";
    let missing = || GgufError::MissingKey { key: ARCHITECTURE.to_owned() };
    let architecture = header.string(ARCHITECTURE)?.ok_or_else(missing)?;
    if !SUPPORTED_ARCHITECTURES.contains(&architecture) {
        return Err(GgufError::Architecture { architecture: architecture.to_owned() });
    }
    match header.integer("split.count")? {
        Some(count) if count > 1 => return Err(GgufError::Split { count: count.into() }),
        _ => {}
    }
    if header.tensors.is_empty() {
        return Err(GgufError::VocabularyOnly);
    }
    let key = format!("{architecture}.expert_count");
    match header.integer(&key)? {
        Some(experts) if experts > 0 => {
            Err(GgufError::MixtureOfExperts { key, experts: experts.into() })
        }
        _ => Ok(()),
    }
}

fn shape_of(header: &GgufHeader) -> Result<ModelShape, GgufError> {
    let architecture = header.string("general.architecture")?.unwrap_or("llama").to_owned();
    let key = |suffix: &str| format!("{architecture}.{suffix}");
    let uniform = |suffix: &str| {
        let key = key(suffix);
        header.get(&key)?;
        positive(&key, header.uniform_integer(&key)?.unwrap_or(0))
    };
    let hidden_size = uniform("embedding_length")?;
    let n_heads = uniform("attention.head_count")?;
    let kv_key = key("attention.head_count_kv");
    let n_kv_heads = match header.uniform_integer(&kv_key)? {
        Some(n) => positive(&kv_key, n)?,
        None => n_heads,
    };
    if n_heads % n_kv_heads != 0 {
        return Err(GgufError::BadValue {
            key: kv_key,
            value: n_kv_heads.to_string(),
            expected: "a divisor of the head count",
        });
    }
    let rope_key = key("rope.freq_base");
    let eps_key = key("attention.layer_norm_rms_epsilon");
    header.get(&eps_key)?;
    let shape = ModelShape {
        n_layers: uniform("block_count")?,
        hidden_size,
        n_heads,
        n_kv_heads,
        head_dim: head_dim(header, &architecture, hidden_size, n_heads)?,
        intermediate_size: uniform("feed_forward_length")?,
        vocab_size: vocab_size(header, &architecture)?,
        context_length: uniform("context_length")?,
        tied_embeddings: header.tensor("output.weight").is_none(),
        rope_freqs: header.tensor("rope_freqs.weight").is_some(),
        rope_freq_base: header.positive_float(&rope_key)?.unwrap_or(DEFAULT_ROPE_FREQ_BASE),
        rms_norm_eps: header.positive_float(&eps_key)?.unwrap_or(1e-5),
        architecture,
    };
    match shape.check() {
        Ok(()) => Ok(shape),
        Err(invalid) => Err(bad_value(&shape.architecture, &invalid)),
    }
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
        "intermediate_size" => "feed_forward_length",
        other => other,
    };
    GgufError::BadValue {
        key: format!("{architecture}.{suffix}"),
        value: invalid.value.to_string(),
        expected: invalid.expected,
    }
}

fn positive(key: &str, value: u32) -> Result<u32, GgufError> {
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

fn head_dim(
    header: &GgufHeader,
    architecture: &str,
    hidden_size: u32,
    n_heads: u32,
) -> Result<u32, GgufError> {
    let key_key = format!("{architecture}.attention.key_length");
    let value_key = format!("{architecture}.attention.value_length");
    let key_length = header.uniform_integer(&key_key)?;
    let value_length = header.uniform_integer(&value_key)?;
    match (key_length, value_length) {
        (Some(k), Some(v)) if k != v => Err(GgufError::Conflict {
            left: format!("metadata key `{key_key}`"),
            left_value: k.into(),
            right: format!("metadata key `{value_key}`"),
            right_value: v.into(),
        }),
        (Some(k), _) => positive(&key_key, k),
        (None, Some(v)) => positive(&value_key, v),
        (None, None) if hidden_size.is_multiple_of(n_heads) => Ok(hidden_size / n_heads),
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

fn check_table(shape: &ModelShape, tensors: &[TensorSpec]) -> Result<(), GgufError> {
    let layers = tensors.iter().filter_map(|t| t.layer).max().map_or(0, |last| u64::from(last) + 1);
    if layers != u64::from(shape.n_layers) {
        return Err(GgufError::Conflict {
            left: format!("metadata key `{}.block_count`", shape.architecture),
            left_value: shape.n_layers.into(),
            right: "the number of layers in the tensor table".to_owned(),
            right_value: layers,
        });
    }
    let present: std::collections::HashMap<&str, &TensorSpec> =
        tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    for (role, layer) in shape.tensor_slots() {
        let name = role.gguf_name(layer);
        let Some(tensor) = present.get(name.as_str()) else {
            return Err(GgufError::MissingTensor { name });
        };
        // The factors of the rotary embedding may cover a part of the head only.
        let expected = shape.tensor_shape(role).filter(|_| role != TensorRole::RopeFreqs);
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
        ("smollm2", "smollm2"),
        ("smollm", "smollm"),
        ("deepseek-r1-distill-llama", "llama-3"),
        ("deepseek-llm", "deepseek-llm"),
        ("mixtral", "mixtral"),
        ("mistral", "mistral"),
        ("vicuna", "llama-2"),
        ("llama-2", "llama-2"),
        ("llama2", "llama-2"),
        ("llama-v2", "llama-2"),
        ("llama-3", "llama-3"),
        ("llama3", "llama-3"),
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
