//! Text to tokens and back, from the vocabulary in a GGUF file.
//!
//! | `tokenizer.ggml.model` | models | here |
//! | --- | --- | --- |
//! | `gpt2` | Llama 3, Qwen, SmolLM, Phi-4, GPT-2 | byte-level BPE of the `tokenizers` crate |
//! | `llama` | Llama 2, TinyLlama, Mistral, Phi-3, Gemma 1 to 3 | merges by score, as SentencePiece |
//!
//! What tokens a text has follows llama.cpp, which defines what the metadata mean:
//!
//! - User-defined tokens are found in the text before anything else, the longest first. Control
//!   tokens never are: a text cannot end a generation.
//! - No Unicode normalization: the file does not say whether the model was trained with one, and
//!   without it every text comes back as it was.
//!
//! Where it differs from llama.cpp: [`Tokenizer::decode`] does not remove spaces before
//! punctuation, a `pre` that nobody knows is a warning and not an error, and byte and control
//! tokens are never merged from their spelling (SentencePiece does not either).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod bpe;
mod bytes;
mod error;
mod metadata;
mod pre;
mod special;
mod spm;
mod stream;
mod tokenizer;

pub use error::TokenizeError;
pub use stream::DecodeStream;
pub use tokenizer::Tokenizer;

#[cfg(test)]
mod testing;
