//! Why a model cannot be named or described.

use std::io;
use std::path::PathBuf;

use foretoken_gguf::GgufError;
use foretoken_spec::QuantScheme;

/// Why an argument names no model. Each message is one line and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// Not a preset, and not a path.
    #[error("unknown model `{}`; {}, or give the path of a .gguf or config.json file", name.escape_debug(), nearest_text(nearest))]
    UnknownPreset {
        /// What was asked for.
        name: String,
        /// The most similar preset ids, best first.
        nearest: Vec<&'static str>,
    },
    /// The embedded list of presets cannot be read: a mistake in this program.
    #[error(
        "the built-in list of models is damaged ({0}); this is a mistake in the program: report it"
    )]
    Presets(toml::de::Error),
    /// A path that leads nowhere.
    #[error("{}: no such file; check the path, or name a preset such as `llama-3.2-1b`", .0.display())]
    NotFound(PathBuf),
    /// A directory without a configuration.
    #[error("{}: the directory holds no config.json; give the path of a .gguf or config.json file", .0.display())]
    NoConfig(PathBuf),
    /// A file of another kind.
    #[error("{}: neither a GGUF file nor a .json file; give the path of a .gguf or config.json file", .0.display())]
    UnknownFile(PathBuf),
    /// A model of a hub, which only a caller with a network can resolve.
    #[error("`{}`: a model of a hub cannot be named here; download the .gguf file and give its path", .0.escape_debug())]
    Hub(String),
    /// The operating system refused.
    #[error("{}: cannot be read: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// A GGUF file that cannot be used.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A quantization was asked for that the file does not have.
    #[error("{}: the file is {found}, not {wanted}; leave --quant out, or give a file that is {wanted}", path.display())]
    QuantOfFile {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        wanted: QuantScheme,
        /// What the file is.
        found: String,
    },
    /// A scheme for experts, and a model without.
    #[error(
        "{}: MXFP4 is for the experts of a mixture, and this model has none: every matrix would be Q8_0; use --quant Q8_0 or Q4_K_M",
        name.escape_debug()
    )]
    NoExperts {
        /// The model.
        name: String,
    },
    /// The reason, with the configuration that it concerns.
    #[error("{}: {reason}", path.display())]
    InConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Box<CatalogError>,
    },
    /// Not JSON.
    #[error("not valid json: {0}; give a config.json of Hugging Face")]
    Json(serde_json::Error),
    /// Not a JSON object, or one without an architecture.
    #[error(
        "not the configuration of a language model (neither `architectures` nor `model_type`); give the config.json beside the model's weights"
    )]
    NotAModel,
    /// Another architecture.
    #[error("unsupported architecture `{}`; supported: {}", .0.escape_debug(), known_classes())]
    Architecture(String),
    /// Two fields that name different classes.
    #[error(
        "`architectures` names `{}`, but `model_type` is `{}`; correct the config.json",
        class.escape_debug(),
        model_type.escape_debug()
    )]
    Contradiction {
        /// The first of `architectures`.
        class: String,
        /// `model_type`.
        model_type: String,
    },
    /// A field that must be there is not.
    #[error("field `{0}` is missing; give the complete config.json of the model")]
    MissingField(&'static str),
    /// A field of the wrong type or out of range.
    #[error("field `{field}` must be {expected}, found {}; correct the config.json", shown(found))]
    WrongField {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is, as JSON.
        found: String,
    },
    /// One number does not divide another.
    #[error(
        "field `{divisor_field}` ({divisor}) does not divide `{field}` ({value}); correct the config.json"
    )]
    Indivisible {
        /// What should be divided.
        field: &'static str,
        /// Its value.
        value: u32,
        /// By what.
        divisor_field: &'static str,
        /// Its value.
        divisor: u32,
    },
}

fn known_classes() -> String {
    let names: Vec<_> = crate::config::class::CLASSES.iter().map(|class| class.name).collect();
    names.join(", ")
}

fn nearest_text(nearest: &[&str]) -> String {
    match nearest {
        [] => "`foretoken models` lists the presets".to_owned(),
        names => {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("the nearest presets are {}", names.join(", "))
        }
    }
}

fn shown(json: &str) -> String {
    const LONGEST: usize = 60;
    let mut text: String = json.chars().take(LONGEST).flat_map(char::escape_default).collect();
    text = text.replace("\\\"", "\"");
    if json.chars().nth(LONGEST).is_some() {
        text.push_str("...");
    }
    text
}
