//! Classes of transformers: which architecture of GGUF they are, and their defaults.

use serde_json::Value;

use super::Fields;
use crate::CatalogError;

/// A class of transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class {
    /// An entry of `architectures`.
    pub(crate) name: &'static str,
    /// `model_type`.
    pub(crate) model_type: &'static str,
    /// `general.architecture` of GGUF.
    pub(crate) architecture: &'static str,
    /// Default of `tie_word_embeddings`.
    pub(crate) tied: bool,
    /// Defaults of fields that published files leave out.
    pub(crate) n_heads: Option<u32>,
    pub(crate) n_kv_heads: Option<u32>,
    pub(crate) head_dim: Option<u32>,
    pub(crate) vocab_size: Option<u32>,
    pub(crate) context_length: Option<u32>,
    /// Default of `sliding_window`.
    pub(crate) window: Option<u32>,
    /// Default of `partial_rotary_factor`, in hundredths.
    pub(crate) rotary_percent: u32,
}

const fn class(
    name: &'static str,
    model_type: &'static str,
    architecture: &'static str,
    tied: bool,
) -> Class {
    Class {
        name,
        model_type,
        architecture,
        tied,
        n_heads: None,
        n_kv_heads: None,
        head_dim: None,
        vocab_size: None,
        context_length: None,
        window: None,
        rotary_percent: 100,
    }
}

/// What the text part of Gemma 3 leaves out (transformers, `configuration_gemma3.py`).
const fn gemma_3(name: &'static str, model_type: &'static str) -> Class {
    Class {
        n_heads: Some(8),
        n_kv_heads: Some(4),
        head_dim: Some(256),
        vocab_size: Some(super::GEMMA_3_ROWS),
        context_length: Some(131_072),
        window: Some(4096),
        ..class(name, model_type, "gemma3", true)
    }
}

/// Every class that is read, with the defaults of its configuration in transformers.
pub(crate) const CLASSES: &[Class] = &[
    class("LlamaForCausalLM", "llama", "llama", false),
    class("MistralForCausalLM", "mistral", "llama", false),
    class("MixtralForCausalLM", "mixtral", "llama", false),
    class("Qwen2ForCausalLM", "qwen2", "qwen2", false),
    class("Qwen2MoeForCausalLM", "qwen2_moe", "qwen2moe", false),
    class("Qwen3ForCausalLM", "qwen3", "qwen3", false),
    class("Qwen3MoeForCausalLM", "qwen3_moe", "qwen3moe", false),
    Class { head_dim: Some(256), ..class("GemmaForCausalLM", "gemma", "gemma", true) },
    Class {
        head_dim: Some(256),
        window: Some(4096),
        ..class("Gemma2ForCausalLM", "gemma2", "gemma2", true)
    },
    gemma_3("Gemma3ForCausalLM", "gemma3_text"),
    gemma_3("Gemma3ForConditionalGeneration", "gemma3"),
    Class { rotary_percent: 50, ..class("PhiForCausalLM", "phi", "phi2", false) },
    class("Phi3ForCausalLM", "phi3", "phi3", false),
    Class {
        head_dim: Some(128),
        rotary_percent: 50,
        ..class("Glm4ForCausalLM", "glm4", "glm4", false)
    },
    class("Lfm2ForCausalLM", "lfm2", "lfm2", true),
    Class {
        head_dim: Some(64),
        window: Some(128),
        ..class("GptOssForCausalLM", "gpt_oss", "gpt-oss", false)
    },
    class("Olmo2ForCausalLM", "olmo2", "olmo2", false),
    class("GraniteForCausalLM", "granite", "granite", false),
    class("GraniteMoeForCausalLM", "granitemoe", "granitemoe", false),
    Class { rotary_percent: 25, ..class("StableLmForCausalLM", "stablelm", "stablelm", false) },
    class("SmolLM3ForCausalLM", "smollm3", "smollm3", true),
    class("Starcoder2ForCausalLM", "starcoder2", "starcoder2", true),
];

impl Class {
    /// The class of a configuration, by `architectures`, else by `model_type`; of the language
    /// model where that is a part of a larger one.
    pub(super) fn of(
        outer: &Fields,
        inner: Option<&Fields>,
    ) -> Result<&'static Self, CatalogError> {
        let named = named(outer)?;
        let by_type = model_type(outer)?;
        let known = |class: &&Class| match (named, by_type) {
            (Some(name), _) => class.name == name,
            (None, Some(model_type)) => class.model_type == model_type,
            (None, None) => false,
        };
        if let Some(class) = CLASSES.iter().find(known) {
            return class.checked(by_type);
        }
        // A larger model around a language model that is known by itself.
        let part = inner.map(model_type).transpose()?.flatten();
        if let Some(class) = CLASSES.iter().find(|class| Some(class.model_type) == part) {
            return Ok(class);
        }
        match named.or(by_type) {
            Some(name) => Err(CatalogError::Architecture(name.to_owned())),
            None => Err(CatalogError::NotAModel),
        }
    }
}

impl Class {
    /// Itself, unless `model_type` is that of a class of another form. A type that is not known is
    /// no contradiction: many a derived model has a name of its own there.
    fn checked(&'static self, by_type: Option<&str>) -> Result<&'static Self, CatalogError> {
        let other = CLASSES.iter().find(|class| Some(class.model_type) == by_type);
        match other {
            Some(other) if other.architecture != self.architecture => {
                Err(CatalogError::Contradiction {
                    class: self.name.to_owned(),
                    model_type: other.model_type.to_owned(),
                })
            }
            _ => Ok(self),
        }
    }
}

fn named<'a>(fields: &Fields<'a>) -> Result<Option<&'a str>, CatalogError> {
    match fields.get("architectures") {
        None => Ok(None),
        Some(Value::Array(classes)) => match classes.as_slice() {
            [] => Ok(None),
            [Value::String(class), ..] => Ok(Some(class.as_str())),
            _ => Err(fields.wrong("architectures", "a list of class names")),
        },
        Some(_) => Err(fields.wrong("architectures", "a list of class names")),
    }
}

fn model_type<'a>(fields: &Fields<'a>) -> Result<Option<&'a str>, CatalogError> {
    match fields.get("model_type") {
        None => Ok(None),
        Some(Value::String(model_type)) => Ok(Some(model_type.as_str())),
        Some(_) => Err(fields.wrong("model_type", "a string")),
    }
}
