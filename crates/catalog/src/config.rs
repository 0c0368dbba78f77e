//! Hugging Face `config.json` files of the llama family.
//!
//! `LlamaForCausalLM` and `MistralForCausalLM` are both the architecture `llama` of GGUF.

use std::path::Path;

use foretoken_gguf::family_of;
use foretoken_spec::{InvalidShape, ModelShape};
use serde_json::{Map, Value};

use crate::CatalogError;

/// Largest configuration that is read; real ones are a few kilobytes.
const MOST_BYTES: u64 = 1 << 20;
/// Largest count or width that is believed: products of two fit 64 bits with ease.
const MOST: u64 = 1 << 24;

/// What a `config.json` says about a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The last part of `_name_or_path`, else the name given by the caller.
    pub name: String,
    /// Family for grouped validation; the name where it tells none.
    pub family: String,
    /// The shape.
    pub shape: ModelShape,
}

/// Reads a `config.json`. Where it names no model, the name is that of its folder.
///
/// # Errors
/// An unreadable file, and all that [`parse_config`] refuses, with the path in front.
pub fn read_config(path: &Path) -> Result<ModelConfig, CatalogError> {
    let text = read_text(path)?;
    let folder = path.canonicalize().ok().and_then(|full| Some(full.parent()?.to_owned()));
    let name = folder.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy());
    parse_config(&text, name.as_deref().unwrap_or("model")).map_err(|reason| {
        CatalogError::InConfig { path: path.to_owned(), reason: Box::new(reason) }
    })
}

fn read_text(path: &Path) -> Result<String, CatalogError> {
    use std::io::Read;
    let io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => CatalogError::NotFound(path.to_owned()),
        _ => CatalogError::Io { path: path.to_owned(), error },
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(MOST_BYTES).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

/// Reads the text of a `config.json`; `name` stands in where the text names no model.
///
/// # Errors
/// Not JSON; not a language model; another architecture; a field missing, of the wrong type or
/// out of range; head counts that do not divide.
pub fn parse_config(text: &str, name: &str) -> Result<ModelConfig, CatalogError> {
    let json: Value = serde_json::from_str(text).map_err(CatalogError::Json)?;
    let Value::Object(fields) = json else { return Err(CatalogError::NotAModel) };
    let fields = Fields(&fields);
    check_architecture(&fields)?;
    let shape = shape(&fields)?;
    let stated = match fields.get("_name_or_path") {
        Some(Value::String(path)) => path.trim_end_matches('/').rsplit('/').next().unwrap_or(""),
        _ => "",
    };
    let name = if stated.is_empty() || stated == "." { name } else { stated }.to_owned();
    Ok(ModelConfig { family: family_of(&name), name, shape })
}

fn check_architecture(fields: &Fields) -> Result<(), CatalogError> {
    const CLASSES: &[&str] = &["LlamaForCausalLM", "MistralForCausalLM"];
    const TYPES: &[&str] = &["llama", "mistral"];
    let class = match fields.get("architectures") {
        None => None,
        Some(Value::Array(classes)) => match classes.as_slice() {
            [] => None,
            [Value::String(class), ..] => Some(class.as_str()),
            _ => return Err(fields.wrong("architectures", "a list of class names")),
        },
        Some(_) => return Err(fields.wrong("architectures", "a list of class names")),
    };
    let model_type = match fields.get("model_type") {
        None => None,
        Some(Value::String(model_type)) => Some(model_type.as_str()),
        Some(_) => return Err(fields.wrong("model_type", "a string")),
    };
    match (class, model_type) {
        (Some(class), _) if CLASSES.contains(&class) => Ok(()),
        (Some(class), _) => Err(CatalogError::Architecture(class.to_owned())),
        (None, Some(model_type)) if TYPES.contains(&model_type) => Ok(()),
        (None, Some(model_type)) => Err(CatalogError::Architecture(model_type.to_owned())),
        (None, None) => Err(CatalogError::NotAModel),
    }
}

fn shape(fields: &Fields) -> Result<ModelShape, CatalogError> {
    let hidden_size = fields.required_count("hidden_size")?;
    let n_heads = fields.required_count("num_attention_heads")?;
    let n_kv_heads = fields.count("num_key_value_heads")?.unwrap_or(n_heads);
    let head_dim = match fields.count("head_dim")? {
        Some(head_dim) => head_dim,
        None => {
            divides(("hidden_size", hidden_size), ("num_attention_heads", n_heads))?;
            hidden_size / n_heads
        }
    };
    divides(("num_attention_heads", n_heads), ("num_key_value_heads", n_kv_heads))?;
    let shape = ModelShape {
        architecture: "llama".to_owned(),
        n_layers: fields.required_count("num_hidden_layers")?,
        hidden_size,
        n_heads,
        n_kv_heads,
        head_dim,
        intermediate_size: fields.required_count("intermediate_size")?,
        vocab_size: fields.required_count("vocab_size")?,
        context_length: fields.required_count("max_position_embeddings")?,
        tied_embeddings: fields.boolean("tie_word_embeddings")?.unwrap_or(false),
        rope_freqs: scales_frequencies(fields)?,
        rope_freq_base: rope_theta(fields)?,
        rms_norm_eps: fields.float("rms_norm_eps")?.unwrap_or(1e-6),
    };
    shape.check().map(|()| shape).map_err(wrong_shape)
}

/// An impossible number of the shape, by the field that it comes from.
fn wrong_shape(invalid: InvalidShape) -> CatalogError {
    let field = match invalid.field {
        "n_layers" => "num_hidden_layers",
        "n_heads" => "num_attention_heads",
        "n_kv_heads" => "num_key_value_heads",
        "n_heads * head_dim" => "num_attention_heads * head_dim",
        "context_length" => "max_position_embeddings",
        other => other,
    };
    let found = invalid.value.to_string();
    CatalogError::WrongField { field, expected: invalid.expected, found }
}

/// Newer files keep the rotary embedding in `rope_parameters`, older ones at the top.
fn rope_theta(fields: &Fields) -> Result<f32, CatalogError> {
    if let Some(theta) = fields.float("rope_theta")? {
        return Ok(theta);
    }
    match fields.get("rope_parameters") {
        Some(Value::Object(inner)) => Ok(Fields(inner).float("rope_theta")?.unwrap_or(10_000.0)),
        _ => Ok(10_000.0),
    }
}

/// Whether the converter of llama.cpp would write `rope_freqs.weight`: Llama 3.1 and later.
fn scales_frequencies(fields: &Fields) -> Result<bool, CatalogError> {
    for field in ["rope_scaling", "rope_parameters"] {
        match fields.get(field) {
            None => {}
            Some(Value::Object(scaling)) => {
                let kind = scaling.get("rope_type").or_else(|| scaling.get("type"));
                if kind.and_then(Value::as_str) == Some("llama3") {
                    return Ok(true);
                }
            }
            Some(_) => return Err(fields.wrong(field, "an object")),
        }
    }
    Ok(false)
}

fn divides(
    (field, value): (&'static str, u32),
    (divisor_field, divisor): (&'static str, u32),
) -> Result<(), CatalogError> {
    if value.is_multiple_of(divisor) {
        return Ok(());
    }
    Err(CatalogError::Indivisible { field, value, divisor_field, divisor })
}

/// The fields of a configuration; `null` counts as absent.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn wrong(&self, field: &'static str, expected: &'static str) -> CatalogError {
        let found = self.get(field).map_or_else(String::new, Value::to_string);
        CatalogError::WrongField { field, expected, found }
    }

    fn count(&self, field: &'static str) -> Result<Option<u32>, CatalogError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value.as_u64().filter(|n| (1..=MOST).contains(n)).map(u32::try_from) {
            Some(Ok(n)) => Ok(Some(n)),
            _ => Err(self.wrong(field, "an integer between 1 and 16777216")),
        }
    }

    fn required_count(&self, field: &'static str) -> Result<u32, CatalogError> {
        self.count(field)?.ok_or(CatalogError::MissingField(field))
    }

    fn boolean(&self, field: &'static str) -> Result<Option<bool>, CatalogError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(field, "true or false")),
        }
    }

    fn float(&self, field: &'static str) -> Result<Option<f32>, CatalogError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value.as_f64().map(|value| value as f32) {
            Some(value) if value.is_finite() && value > 0.0 => Ok(Some(value)),
            _ => Err(self.wrong(field, "a number above 0")),
        }
    }
}

#[cfg(test)]
mod tests;
