//! What can go wrong when a model is run.

use std::path::PathBuf;

/// Why a model was refused, did not load, or did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The model is of an architecture that the engine's reader does not know.
    #[error("architecture `{found}` of {model} does not run here; use a model of `llama`")]
    Architecture {
        /// Name of the model.
        model: String,
        /// What it says it is.
        found: String,
    },
    /// A number of the shape that the engine cannot honour.
    #[error(
        "{field} is {found} in {model}, but candle's llama reader needs {needed}; use another model"
    )]
    Shape {
        /// Name of the model.
        model: String,
        /// The number.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What the reader needs.
        needed: String,
    },
    /// A tensor that the reader needs is absent, or is one of a kind that it would misread.
    #[error("tensor `{tensor}` of {model} {problem}; use another file")]
    Tensor {
        /// Name of the model.
        model: String,
        /// Name of the tensor.
        tensor: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A tensor type that the engine cannot load.
    #[error(
        "tensor `{tensor}` of {model} has type {found}, which candle cannot load; re-quantize it (Q8_0, Q4_K_M, …)"
    )]
    TensorType {
        /// Name of the model.
        model: String,
        /// Name of the tensor.
        tensor: String,
        /// Its type.
        found: &'static str,
    },
    /// More tokens than the engine's tables hold.
    #[error(
        "depth {depth} + prompt {prompt} + gen {generated} is {total} tokens, but candle's llama reader holds {limit}; shorten --depth, --prompt or --gen"
    )]
    TooLong {
        /// Tokens cached before.
        depth: u32,
        /// Tokens of the prompt.
        prompt: u32,
        /// Tokens generated.
        generated: u32,
        /// Their sum.
        total: u64,
        /// The most that fits.
        limit: u32,
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
