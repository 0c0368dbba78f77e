//! From what a user wrote to a model.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use foretoken_gguf::read_model;
use foretoken_spec::{ModelShape, ModelSource, ModelSpec, QuantScheme};

use crate::{CatalogError, find, read_config};

/// The scheme of presets and configurations where none is asked for, and the model has none of its
/// own.
pub const DEFAULT_SCHEME: QuantScheme = QuantScheme::Q4_K_M;

/// The model that an argument names: the path of a GGUF file, the path of a `config.json` or of
/// a folder that holds one, or a preset.
///
/// A file brings its own quantization; presets and configurations take `scheme`, or that in which
/// the model was published, or [`DEFAULT_SCHEME`]. A preset wins over a folder of the same name: write `./name` for the folder.
///
/// # Errors
/// An unknown preset; a path that leads nowhere; a file that cannot be read as a model; a scheme
/// that is not the file's; a model of a hub, which is not supported yet.
pub fn resolve(argument: &str, scheme: Option<QuantScheme>) -> Result<ModelSpec, CatalogError> {
    let argument = argument.trim();
    if argument.starts_with("hf:") {
        return Err(CatalogError::Hub(argument.to_owned()));
    }
    let unknown = match find(argument) {
        Ok(preset) => {
            let scheme = scheme.unwrap_or(preset.default_scheme);
            check_scheme(&preset.shape, &preset.id, scheme)?;
            return Ok(preset.spec(scheme));
        }
        Err(error) => error,
    };
    let path = Path::new(argument);
    if is_gguf(argument) {
        return of_gguf(path, scheme);
    }
    if argument.is_empty() || !path.exists() {
        return Err(if looks_like_path(path) {
            CatalogError::NotFound(path.into())
        } else {
            unknown
        });
    }
    of_config(&config_path(path)?, scheme)
}

/// Whether an argument is a GGUF file: by its name, or where that is another (downloads of Ollama
/// have none), by its first bytes.
pub fn is_gguf(argument: &str) -> bool {
    const MAGIC: &[u8; 4] = b"GGUF";
    let path = Path::new(argument.trim());
    let begins_so = || {
        let mut found = [0; MAGIC.len()];
        // Opening a pipe would wait for its writer.
        let file = path.is_file().then(|| File::open(path).ok()).flatten();
        file.is_some_and(|mut file| file.read_exact(&mut found).is_ok()) && found == *MAGIC
    };
    has_extension(path, "gguf") || begins_so()
}

/// Refuses a scheme that a model of this shape has no tensors for.
///
/// # Errors
/// MXFP4 without experts: every matrix would be Q8_0 under another name.
pub fn check_scheme(
    shape: &ModelShape,
    name: &str,
    scheme: QuantScheme,
) -> Result<(), CatalogError> {
    if scheme == QuantScheme::MXFP4_MOE && shape.details.experts.is_none() {
        return Err(CatalogError::NoExperts { name: name.to_owned() });
    }
    Ok(())
}

fn of_gguf(path: &Path, scheme: Option<QuantScheme>) -> Result<ModelSpec, CatalogError> {
    let spec = read_model(path)?;
    match scheme {
        Some(wanted) if !wanted.name().eq_ignore_ascii_case(&spec.quant) => {
            Err(CatalogError::QuantOfFile { path: path.to_owned(), wanted, found: spec.quant })
        }
        _ => Ok(spec),
    }
}

fn of_config(path: &Path, scheme: Option<QuantScheme>) -> Result<ModelSpec, CatalogError> {
    let config = read_config(path)?;
    let source = ModelSource::Config { path: path.display().to_string() };
    config.spec(source, scheme)
}

fn config_path(path: &Path) -> Result<PathBuf, CatalogError> {
    if path.is_dir() {
        let inside = path.join("config.json");
        return if inside.is_file() {
            Ok(inside)
        } else {
            Err(CatalogError::NoConfig(path.into()))
        };
    }
    if has_extension(path, "json") {
        Ok(path.into())
    } else {
        Err(CatalogError::UnknownFile(path.into()))
    }
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

/// Whether a name that is neither a preset nor a file was meant as a path: it begins like one, or
/// ends like a file. `org/name` is more likely a model of a hub.
fn looks_like_path(path: &Path) -> bool {
    let text = path.to_string_lossy();
    path.is_absolute()
        || text.starts_with('.')
        || text.starts_with('~')
        || text.ends_with(std::path::MAIN_SEPARATOR)
        || path.components().count() > 2
        || has_extension(path, "json")
}

#[cfg(test)]
mod tests;
