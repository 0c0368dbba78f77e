//! What is asked of a model: depth, prompt, generated tokens, and the passes that follow from it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Phase;

/// Longest prompt, depth or generation that makes sense (2²⁰ tokens).
pub const MAX_TOKENS: u32 = 1 << 20;

/// `depth` tokens are cached, then `prompt_tokens` are prefilled, then `generated_tokens` follow.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Workload {
    /// Tokens of the prompt; 0 asks for decode alone.
    pub prompt_tokens: u32,
    /// Tokens generated; 0 asks for prefill alone.
    pub generated_tokens: u32,
    /// Tokens in the KV cache before the prompt.
    pub depth: u32,
}

/// A workload that asks for nothing, or for more than any model can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWorkload {
    /// Both lengths are 0.
    #[error("nothing to do: --prompt and --gen are both 0; ask for at least one token")]
    Empty,
    /// A length that is out of any model's reach.
    #[error("--{name} {value} is absurd; the most is {MAX_TOKENS}")]
    TooLong {
        /// Which length.
        name: &'static str,
        /// What was asked.
        value: u32,
    },
}

impl Workload {
    /// A checked workload.
    ///
    /// # Errors
    /// No work at all, or a length above [`MAX_TOKENS`].
    pub fn new(
        prompt_tokens: u32,
        generated_tokens: u32,
        depth: u32,
    ) -> Result<Self, InvalidWorkload> {
        if prompt_tokens == 0 && generated_tokens == 0 {
            return Err(InvalidWorkload::Empty);
        }
        for (name, value) in
            [("prompt", prompt_tokens), ("gen", generated_tokens), ("depth", depth)]
        {
            if value > MAX_TOKENS {
                return Err(InvalidWorkload::TooLong { name, value });
            }
        }
        Ok(Self { prompt_tokens, generated_tokens, depth })
    }

    /// Tokens in the cache when everything is done.
    pub fn total_tokens(&self) -> u32 {
        self.depth + self.prompt_tokens + self.generated_tokens
    }

    /// The prefill pass, where one is asked for.
    pub fn prefill(&self) -> Option<Pass> {
        (self.prompt_tokens > 0)
            .then_some(Pass { n_tokens: self.prompt_tokens, kv_len: self.depth })
    }

    /// The decode step at the midpoint of the generated span, where one is asked for:
    /// `kv_len = depth + prompt + generated / 2`.
    pub fn decode_midpoint(&self) -> Option<Pass> {
        (self.generated_tokens > 0).then_some(Pass {
            n_tokens: 1,
            // A step needs a token in the cache.
            kv_len: (self.depth + self.prompt_tokens + self.generated_tokens / 2).max(1),
        })
    }
}

/// One forward pass: `n_tokens` new tokens at `kv_len` cached ones.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Pass {
    /// Tokens that go in.
    pub n_tokens: u32,
    /// Tokens in the cache before.
    pub kv_len: u32,
}

impl Pass {
    /// Decode is a pass over one token onto a cache that holds something.
    pub fn phase(&self) -> Phase {
        if self.n_tokens == 1 && self.kv_len > 0 { Phase::Decode } else { Phase::Prefill }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_midpoint_lies_in_the_generated_span() {
        let workload = Workload::new(512, 128, 1024).unwrap();
        assert_eq!(workload.prefill(), Some(Pass { n_tokens: 512, kv_len: 1024 }));
        assert_eq!(workload.decode_midpoint(), Some(Pass { n_tokens: 1, kv_len: 1600 }));
    }

    #[test]
    fn nothing_to_do_and_absurd_lengths_are_refused() {
        assert_eq!(Workload::new(0, 0, 9), Err(InvalidWorkload::Empty));
        let error = Workload::new(1, u32::MAX, 0).unwrap_err();
        assert_eq!(error, InvalidWorkload::TooLong { name: "gen", value: u32::MAX });
    }

    #[test]
    fn one_phase_alone() {
        assert_eq!(Workload::new(0, 8, 0).unwrap().prefill(), None);
        assert_eq!(Workload::new(8, 0, 0).unwrap().decode_midpoint(), None);
    }
}
