//! Hugging Face `config.json` files.
//!
//! Which class of transformers is which architecture of GGUF, and what a class takes for a field
//! that is left out, is in [`class::CLASSES`].

use std::path::Path;

use foretoken_gguf::family_of;
use foretoken_gguf::mix::quantized_spec;
use foretoken_spec::{InvalidShape, ModelShape, ModelSource, ModelSpec, QuantScheme, ShapeDetails};
use serde_json::{Map, Value};

use crate::{CatalogError, DEFAULT_SCHEME, check_scheme};
use class::Class;

pub(crate) mod class;
mod details;

/// Largest configuration that is read; real ones are a few kilobytes.
const MOST_BYTES: u64 = 1 << 20;
/// Rows of Gemma 3's embedding with an image encoder, and those that llama.cpp's converter keeps:
/// the tokens of the tokenizer.
const GEMMA_3_ROWS: u32 = 262_208;
const GEMMA_3_TOKENS: u32 = 262_144;
/// Largest count or width that is believed: products of two fit 64 bits with ease.
const MOST: u64 = 1 << 24;
/// Most layers that are believed.
const MOST_LAYERS: u64 = 4096;

/// What a `config.json` says about a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The last part of `_name_or_path`, else the name given by the caller.
    pub name: String,
    /// Family for grouped validation; the name where it tells none.
    pub family: String,
    /// The shape.
    pub shape: ModelShape,
    /// What the file states and engines of GGUF files do not do, as sentences.
    pub notes: Vec<String>,
}

impl ModelConfig {
    /// The model that a GGUF file of this scheme would hold; without one, of that in which the model
    /// was published, or of [`DEFAULT_SCHEME`].
    ///
    /// # Errors
    /// As [`check_scheme`].
    pub fn spec(
        self,
        source: ModelSource,
        scheme: Option<QuantScheme>,
    ) -> Result<ModelSpec, CatalogError> {
        let published = match self.shape.architecture.as_str() {
            "gpt-oss" => QuantScheme::MXFP4_MOE,
            _ => DEFAULT_SCHEME,
        };
        let scheme = scheme.unwrap_or(published);
        check_scheme(&self.shape, &self.name, scheme)?;
        let mut spec = quantized_spec(self.name, self.family, source, self.shape, scheme);
        spec.approximations = self.notes;
        Ok(spec)
    }
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
    // Editors of Windows put a byte order mark in front.
    let text = text.trim_start_matches('\u{feff}');
    let json: Value = serde_json::from_str(text).map_err(CatalogError::Json)?;
    let Value::Object(fields) = json else { return Err(CatalogError::NotAModel) };
    let outer = Fields(&fields);
    // Models with eyes and ears keep the language model's numbers in an object of their own.
    let inner = match outer.get("text_config") {
        None => None,
        Some(Value::Object(inner)) => Some(Fields(inner)),
        Some(_) => return Err(outer.wrong("text_config", "an object")),
    };
    let class = Class::of(&outer, inner.as_ref())?;
    let fields = inner.as_ref().unwrap_or(&outer);
    let tied = match fields.boolean("tie_word_embeddings")? {
        Some(tied) => Some(tied),
        None => outer.boolean("tie_word_embeddings")?.or(fields.boolean("tie_embedding")?),
    };
    let shape = shape(class, fields, tied.unwrap_or(class.tied))?;
    shape.check().map_err(wrong_shape)?;
    let stated = match outer.get("_name_or_path") {
        Some(Value::String(path)) => path.trim_end_matches('/').rsplit('/').next().unwrap_or(""),
        _ => "",
    };
    let name = if stated.is_empty() || stated == "." { name } else { stated }.to_owned();
    let notes = notes(class, &outer, fields, &shape)?;
    Ok(ModelConfig { family: family_of(&name), name, shape, notes })
}

fn shape(class: &Class, fields: &Fields, tied: bool) -> Result<ModelShape, CatalogError> {
    let hidden_size = fields.required_count("hidden_size")?;
    let n_heads = fields.required_or("num_attention_heads", class.n_heads)?;
    let n_kv_heads = fields.count("num_key_value_heads")?.or(class.n_kv_heads).unwrap_or(n_heads);
    let head_dim = match fields.count("head_dim")?.or(class.head_dim) {
        Some(head_dim) => head_dim,
        None => {
            divides(("hidden_size", hidden_size), ("num_attention_heads", n_heads))?;
            hidden_size / n_heads
        }
    };
    divides(("num_attention_heads", n_heads), ("num_key_value_heads", n_kv_heads))?;
    let n_layers = match fields.get("num_hidden_layers").map(Value::as_u64) {
        None => return Err(CatalogError::MissingField("num_hidden_layers")),
        Some(Some(n @ 1..=MOST_LAYERS)) => n as u32,
        Some(_) => {
            return Err(fields.wrong("num_hidden_layers", "an integer between 1 and 4096"));
        }
    };
    let mut vocab_size = fields.required_or("vocab_size", class.vocab_size)?;
    if class.architecture == "gemma3" && vocab_size == GEMMA_3_ROWS {
        vocab_size = GEMMA_3_TOKENS;
    }
    let intermediate_size = details::intermediate_size(class, fields)?;
    let scaling = scaling_kind(fields)?;
    let eps = match fields.float("rms_norm_eps")? {
        Some(eps) => eps,
        None => fields.float("layer_norm_eps")?.or(fields.float("norm_eps")?).unwrap_or(1e-6),
    };
    let mut shape = ModelShape {
        architecture: class.architecture.to_owned(),
        n_layers,
        hidden_size,
        n_heads,
        n_kv_heads,
        head_dim,
        intermediate_size,
        vocab_size,
        context_length: fields.required_or("max_position_embeddings", class.context_length)?,
        tied_embeddings: tied,
        rope_freqs: scaling.as_deref() == Some("llama3"),
        rope_freq_base: rope_theta(fields)?,
        rms_norm_eps: eps,
        details: ShapeDetails::default(),
    };
    shape.details = details::of(class, fields, &shape, scaling.as_deref())?;
    Ok(shape)
}

/// What is stated and is not done by engines of GGUF files, or not by this tool.
fn notes(
    class: &Class,
    outer: &Fields,
    fields: &Fields,
    shape: &ModelShape,
) -> Result<Vec<String>, CatalogError> {
    let mut notes = Vec::new();
    let used = fields.boolean("use_sliding_window")?.unwrap_or(true);
    if let Some(window) = fields.count("sliding_window")?
        && used
        && shape.details.window.is_none()
        && window < shape.context_length
    {
        notes.push(format!(
            "the window of {window} tokens is not applied: no engine of `{}` files applies it",
            class.architecture
        ));
    }
    if outer.get("quantization_config").is_some() && class.architecture != "gpt-oss" {
        notes.push("`quantization_config` is not that of a GGUF file: --quant decides".to_owned());
    }
    if outer.get("text_config").is_some() {
        notes.push("the language model alone: encoders of images and sound are left out".into());
    }
    Ok(notes)
}

/// An impossible number of the shape, by the field that it comes from.
fn wrong_shape(invalid: InvalidShape) -> CatalogError {
    let field = match invalid.field {
        "n_layers" => "num_hidden_layers",
        "n_heads" => "num_attention_heads",
        "n_kv_heads" => "num_key_value_heads",
        "n_heads * head_dim" => "num_attention_heads * head_dim",
        "context_length" => "max_position_embeddings",
        "experts.count" => "num_experts",
        "experts.used" => "num_experts_per_tok",
        "experts.intermediate_size" => "moe_intermediate_size",
        "experts.shared_intermediate_size" => "shared_expert_intermediate_size",
        "rope_dim" => "partial_rotary_factor",
        "conv_length" => "conv_L_cache",
        "layers" => "layer_types",
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

/// The kind of scaling of the rotary embedding. For `llama3` the converter of llama.cpp writes
/// `rope_freqs.weight`, for `longrope` two tables of factors.
fn scaling_kind(fields: &Fields) -> Result<Option<String>, CatalogError> {
    for field in ["rope_scaling", "rope_parameters"] {
        match fields.get(field) {
            None => {}
            Some(Value::Object(scaling)) => {
                let kind = scaling.get("rope_type").or_else(|| scaling.get("type"));
                if let Some(kind) = kind.and_then(Value::as_str).filter(|kind| *kind != "default") {
                    return Ok(Some(kind.to_owned()));
                }
            }
            Some(_) => return Err(fields.wrong(field, "an object")),
        }
    }
    Ok(None)
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

    fn required_or(&self, field: &'static str, default: Option<u32>) -> Result<u32, CatalogError> {
        self.count(field)?.or(default).ok_or(CatalogError::MissingField(field))
    }

    /// A number of tokens or layers that may be 0, which means none.
    fn number(&self, field: &'static str) -> Result<Option<u32>, CatalogError> {
        match self.get(field) {
            Some(value) if value.as_u64() == Some(0) => Ok(None),
            _ => self.count(field),
        }
    }

    /// The first of several names of a count.
    fn first_count(&self, names: &[&'static str]) -> Result<Option<u32>, CatalogError> {
        for name in names {
            if let Some(value) = self.number(name)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Refuses a feature that no described form has.
    fn refuse_if_true(&self, field: &'static str) -> Result<(), CatalogError> {
        match self.boolean(field)? {
            Some(true) => Err(self.wrong(field, "false: models with it are not known")),
            _ => Ok(()),
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
