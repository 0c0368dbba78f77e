//! GGUF files: headers of real ones as model descriptions, and synthetic ones of any shape.
//!
//! Only headers are read, never weights, and no byte of a file can make the reader panic or
//! allocate more than the file holds. [`mix`] knows how llama.cpp's quantizer mixes tensor types
//! in a file; [`synth`] makes files of true shapes and true bytes with random weights.
//!
//! Any architecture is described; `foretoken_spec::ARCHITECTURES` lists those whose form is known.
//! The keys of every architecture (`llama` stands for its name):
//!
//! | GGUF key | Hugging Face | here |
//! | --- | --- | --- |
//! | `llama.block_count` | `num_hidden_layers` | `n_layers` |
//! | `llama.embedding_length` | `hidden_size` | `hidden_size` |
//! | `llama.feed_forward_length` | `intermediate_size` | `intermediate_size` |
//! | `llama.attention.head_count` | `num_attention_heads` | `n_heads` |
//! | `llama.attention.head_count_kv` | `num_key_value_heads` | `n_kv_heads` |
//! | `llama.attention.key_length` | `head_dim` | `head_dim` |
//! | `llama.context_length` | `max_position_embeddings` | `context_length` |
//! | `llama.vocab_size` | `vocab_size` | `vocab_size` |
//! | `llama.rope.freq_base` | `rope_theta` | `rope_freq_base` |
//! | `llama.attention.layer_norm_rms_epsilon` | `rms_norm_eps` | `rms_norm_eps` |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod arrays;
mod details;
mod error;
mod header;
mod model;
mod read;
mod shards;
mod value;

pub mod mix;
pub mod synth;

pub use arrays::{FullArray, read_arrays};
pub use error::GgufError;
pub use header::{GgufHeader, TensorInfo};
pub use model::{family_of, model_of_header, read_model};
pub use read::read_header;
pub use shards::join_parts;
pub use value::{Value, ValueType};

#[cfg(test)]
mod testing;
