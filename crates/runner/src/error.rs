//! What can go wrong when a model is run.

use std::path::PathBuf;

use foretoken_cost::Unsupported;

/// Why a model was refused, did not load, or did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Candle cannot run the model, or not this workload on it.
    #[error("{model} does not run here: {reason} (`inspect` and `predict` do without running it)")]
    Unsupported {
        /// Name of the model.
        model: String,
        /// What the reader needs.
        reason: Box<Unsupported>,
    },
    /// More decode steps asked for than the workload generates.
    #[error(
        "decode_steps {steps} is more than the {generated} tokens that the workload generates; ask for fewer"
    )]
    TooManySteps {
        /// Steps asked for.
        steps: u32,
        /// Tokens generated.
        generated: u32,
    },
    /// The model would not fit.
    #[error("needs {:.1} GiB of memory, {:.1} GiB are available; close programs or take a smaller model or quantization", gib(.needed_bytes), gib(.available_bytes))]
    Memory {
        /// What it needs, repacking included.
        needed_bytes: u64,
        /// What is free.
        available_bytes: u64,
    },
    /// The model's file cannot be read.
    #[error("cannot open {}; check the path", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The engine could not load the model.
    #[error("candle cannot load {model}: {reason}")]
    Load {
        /// Name of the model.
        model: String,
        /// Its words, in one line.
        reason: String,
    },
    /// The engine failed during a pass.
    #[error("candle failed at kv_len {kv_len} with {n_tokens} tokens: {reason}")]
    Pass {
        /// Tokens that went in.
        n_tokens: u32,
        /// Tokens in the cache before.
        kv_len: u32,
        /// Its words, in one line.
        reason: String,
    },
    /// The model's tokenizer cannot be used.
    #[error("{0}")]
    Tokenizer(String),
    /// A prompt that the model was not made for.
    #[error(
        "the prompt has {prompt} tokens, but the context of {model} ends at {limit}; shorten it"
    )]
    BeyondContext {
        /// Name of the model.
        model: String,
        /// Tokens of the prompt.
        prompt: u32,
        /// The most that the model was made for.
        limit: u32,
    },
    /// A prompt without tokens.
    #[error("the prompt is empty; a run needs at least one token")]
    EmptyPrompt,
    /// The caller could not keep a finished measurement.
    #[error("cannot save a measurement")]
    Save(#[source] std::io::Error),
}

fn gib(bytes: &u64) -> f64 {
    *bytes as f64 / f64::from(1_u32 << 30)
}

/// The first line of a message of candle, whose errors may carry a backtrace.
pub(crate) fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_stated_in_gib() {
        let error = RunError::Memory { needed_bytes: 3 << 29, available_bytes: 1 << 30 };
        assert!(error.to_string().starts_with("needs 1.5 GiB of memory, 1.0 GiB are available"));
    }

    #[test]
    fn one_line_of_many() {
        assert_eq!(one_line(&"cannot find tensor\n  0: backtrace"), "cannot find tensor");
    }
}
