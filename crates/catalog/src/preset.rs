//! Published models by name.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use foretoken_gguf::{mix, synth};
use foretoken_spec::{ModelShape, ModelSource, ModelSpec, QuantScheme, ShapeDetails};
use serde::Deserialize;
use serde::de::Error as _;

use crate::{CatalogError, DEFAULT_SCHEME};

const PRESETS: &str = include_str!("../presets.toml");
/// What `checked` says of a shape that no copy of the configuration was found for.
const FROM_MEMORY: &str = "memory";
/// Least share of a name that must stay as it is written for another to be worth suggesting.
const LEAST_SIMILARITY: f64 = 0.7;
/// Fewest characters that a longer name is suggested by.
const SHORTEST_BEGINNING: usize = 3;
/// Most suggestions.
const MOST_SUGGESTIONS: usize = 3;

/// A published model: its names, its shape and what the shape was compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Preset {
    /// Short name: the Hugging Face name in lower case, shortest unambiguous form.
    pub id: String,
    /// Other names that find it.
    pub aliases: Vec<String>,
    /// Name on Hugging Face.
    pub hf_name: String,
    /// Family for grouped validation.
    pub family: String,
    /// Where the model is published.
    pub source: String,
    /// Address of the copy of its configuration that the shape was compared with; none where it is
    /// from memory.
    pub checked: Option<String>,
    /// Number of weights that was published.
    pub parameters: u64,
    /// Bytes that the tokenizer adds to a file; none where no published one was compared.
    pub tokenizer_bytes: Option<u64>,
    /// The scheme that is meant where none is asked for.
    pub default_scheme: QuantScheme,
    /// The shape.
    pub shape: ModelShape,
}

impl Preset {
    /// The model as llama.cpp's quantizer would store it, with the size of the published file where
    /// that of its tokenizer is known.
    pub fn spec(&self, scheme: QuantScheme) -> ModelSpec {
        let source = ModelSource::Preset { id: self.id.clone() };
        let mut spec =
            mix::quantized_spec(&self.id, &self.family, source, self.shape.clone(), scheme);
        spec.file_bytes = self.tokenizer_bytes.map(|bytes| synth::file_bytes(&spec) + bytes);
        spec
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let bare = self.hf_name.rsplit('/').next().unwrap_or_default();
        [self.id.as_str(), self.hf_name.as_str(), bare]
            .into_iter()
            .chain(self.aliases.iter().map(String::as_str))
    }
}

/// All presets, in the order of the file: small families first.
pub fn presets() -> &'static [Preset] {
    match loaded() {
        Ok(presets) => presets,
        Err(_) => &[],
    }
}

/// The preset of this id, alias or Hugging Face name, in any case.
///
/// # Errors
/// No preset has this name; the error names the nearest ones.
pub fn find(id: &str) -> Result<&'static Preset, CatalogError> {
    let presets = match loaded() {
        Ok(presets) => presets,
        Err(error) => return Err(CatalogError::Presets(error.clone())),
    };
    let wanted = id.trim();
    presets
        .iter()
        .find(|preset| preset.names().any(|name| name.eq_ignore_ascii_case(wanted)))
        .ok_or_else(|| CatalogError::UnknownPreset {
            name: wanted.to_owned(),
            nearest: nearest(presets, wanted),
        })
}

fn nearest(presets: &'static [Preset], wanted: &str) -> Vec<&'static str> {
    let wanted = wanted.to_lowercase();
    let mut scored: Vec<(f64, &str)> = presets
        .iter()
        .map(|preset| {
            let similarity = |name: &str| similarity(&name.to_lowercase(), &wanted);
            (preset.names().map(similarity).fold(0.0, f64::max), preset.id.as_str())
        })
        .filter(|&(similarity, _)| similarity >= LEAST_SIMILARITY)
        .collect();
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    scored.into_iter().take(MOST_SUGGESTIONS).map(|(_, id)| id).collect()
}

/// How likely a name was meant: the share that needs no correction, or the beginning of the other.
fn similarity(name: &str, wanted: &str) -> f64 {
    let is_beginning = wanted.len() >= SHORTEST_BEGINNING
        && (name.starts_with(wanted) || wanted.starts_with(name));
    let edited = strsim::normalized_damerau_levenshtein(name, wanted);
    if is_beginning { edited.max(LEAST_SIMILARITY) } else { edited }
}

fn loaded() -> &'static Result<Vec<Preset>, toml::de::Error> {
    static LOADED: OnceLock<Result<Vec<Preset>, toml::de::Error>> = OnceLock::new();
    LOADED.get_or_init(|| {
        let file: PresetFile = toml::from_str(PRESETS)?;
        file.into_presets()
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PresetFile {
    /// Addresses of copies of configurations, by the key that `checked` names.
    copies: BTreeMap<String, String>,
    /// Bytes that a tokenizer adds to a file, by the key that `tokenizer` names.
    tokenizers: BTreeMap<String, u64>,
    preset: Vec<PresetRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PresetRow {
    id: String,
    aliases: Vec<String>,
    hf_name: String,
    family: String,
    source: String,
    checked: String,
    parameters: u64,
    tokenizer: Option<String>,
    #[serde(default = "usual_scheme")]
    quant: QuantScheme,
    #[serde(default = "llama")]
    architecture: String,
    shape: ShapeRow,
    #[serde(default)]
    details: ShapeDetails,
}

impl PresetFile {
    /// # Errors
    /// A preset names a copy or a tokenizer that the file does not have.
    fn into_presets(self) -> Result<Vec<Preset>, toml::de::Error> {
        let Self { copies, tokenizers, preset } = self;
        preset
            .into_iter()
            .map(|row| {
                let unknown = |what: &str, key: &str| {
                    toml::de::Error::custom(format!("preset `{}`: no {what} `{key}`", row.id))
                };
                let checked = match row.checked.as_str() {
                    FROM_MEMORY => None,
                    key => Some(copies.get(key).cloned().ok_or_else(|| unknown("copy", key))?),
                };
                let bytes_of = |key: &String| {
                    tokenizers.get(key).copied().ok_or_else(|| unknown("tokenizer", key))
                };
                let tokenizer_bytes = row.tokenizer.as_ref().map(bytes_of).transpose()?;
                Ok(row.into_preset(checked, tokenizer_bytes))
            })
            .collect()
    }
}

fn usual_scheme() -> QuantScheme {
    DEFAULT_SCHEME
}

fn llama() -> String {
    "llama".to_owned()
}

/// The numbers of a [`ModelShape`] that every model has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShapeRow {
    n_layers: u32,
    hidden_size: u32,
    n_heads: u32,
    n_kv_heads: u32,
    head_dim: u32,
    intermediate_size: u32,
    vocab_size: u32,
    context_length: u32,
    tied_embeddings: bool,
    rope_freqs: bool,
    rope_freq_base: f32,
    rms_norm_eps: f32,
}

impl PresetRow {
    fn into_preset(self, checked: Option<String>, tokenizer_bytes: Option<u64>) -> Preset {
        let shape = self.shape;
        let shape = ModelShape {
            architecture: self.architecture,
            n_layers: shape.n_layers,
            hidden_size: shape.hidden_size,
            n_heads: shape.n_heads,
            n_kv_heads: shape.n_kv_heads,
            head_dim: shape.head_dim,
            intermediate_size: shape.intermediate_size,
            vocab_size: shape.vocab_size,
            context_length: shape.context_length,
            tied_embeddings: shape.tied_embeddings,
            rope_freqs: shape.rope_freqs,
            rope_freq_base: shape.rope_freq_base,
            rms_norm_eps: shape.rms_norm_eps,
            details: self.details,
        };
        Preset {
            id: self.id,
            aliases: self.aliases,
            hf_name: self.hf_name,
            family: self.family,
            source: self.source,
            checked,
            parameters: self.parameters,
            tokenizer_bytes,
            default_scheme: self.quant,
            shape,
        }
    }
}

#[cfg(test)]
mod tests;
