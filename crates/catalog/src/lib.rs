//! The models that can be named: presets of published models, `config.json` files, GGUF files.
//!
//! Presets are data (`presets.toml`), not code. [`resolve`] turns what a user wrote on the command
//! line into a [`foretoken_spec::ModelSpec`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod config;
mod error;
mod preset;
mod resolve;

pub use config::{ModelConfig, parse_config, read_config};
pub use error::CatalogError;
pub use preset::{Preset, find, presets};
pub use resolve::{DEFAULT_SCHEME, check_scheme, is_gguf, resolve};
