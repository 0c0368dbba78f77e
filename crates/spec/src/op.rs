//! Operations: the same words in cost, probes, datasets and reports.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of operation inside a forward pass or around it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OpKind {
    /// Multiplication by a weight matrix of a layer.
    Matmul,
    /// Multiplication by the LM head, last position only.
    LmHead,
    /// Root-mean-square norm.
    RmsNorm,
    /// Rotary embedding of queries and keys.
    Rope,
    /// Cache update, scores, mask, softmax and values: attention without its projections.
    Attention,
    /// Activation, gate product and second residual of the feed-forward block.
    MlpElementwise,
    /// Gather of the token embeddings.
    Embedding,
    /// First residual sum and slicing: what the model does outside attention and feed-forward;
    /// biases and convolutions too.
    Residual,
    /// Copy of the logits to the host and what no span covers.
    Host,
    /// Temperature and softmax of the logits, with the copy that the sampler makes.
    Softmax,
    /// Draw of the token.
    Sampling,
}

impl OpKind {
    /// All kinds, in the order in which a pass meets them.
    pub const ALL: &'static [OpKind] = &[
        Self::Embedding,
        Self::RmsNorm,
        Self::Matmul,
        Self::Rope,
        Self::Attention,
        Self::Residual,
        Self::MlpElementwise,
        Self::LmHead,
        Self::Host,
        Self::Softmax,
        Self::Sampling,
    ];

    /// The serialised name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Matmul => "matmul",
            Self::LmHead => "lm_head",
            Self::RmsNorm => "rms_norm",
            Self::Rope => "rope",
            Self::Attention => "attention",
            Self::MlpElementwise => "mlp_elementwise",
            Self::Embedding => "embedding",
            Self::Residual => "residual",
            Self::Host => "host",
            Self::Softmax => "softmax",
            Self::Sampling => "sampling",
        }
    }
}

/// The two kinds of forward pass.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// One pass over the prompt.
    Prefill,
    /// One pass over one token.
    Decode,
}

impl Phase {
    /// The serialised name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

/// What limits an operation by the roofline (Williams et al., 2009).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Arithmetic takes longest.
    Compute,
    /// Memory traffic takes longest.
    Memory,
    /// Fixed cost per call takes longest.
    Overhead,
    /// The host's giving of work to a graphics device takes longest, not the work.
    Launch,
}
