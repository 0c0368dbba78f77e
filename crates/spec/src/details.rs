//! What sets a model's shape apart from the plain llama form. All of it is absent there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What sets a model apart from the plain llama form; equal to the default where nothing does.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ShapeDetails {
    /// Width of one value head, where it is not that of a key head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_dim: Option<u32>,
    /// Elements of a head that are rotated, where not all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_dim: Option<u32>,
    /// Every n-th layer has no rotary embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_skips_every: Option<u32>,
    /// Whether files carry factors for long and short contexts (Phi-3).
    #[serde(skip_serializing_if = "is_false")]
    pub rope_factors: bool,
    /// Whether queries, keys and values have biases, where the architecture leaves it open.
    #[serde(skip_serializing_if = "is_false")]
    pub qkv_bias: bool,
    /// Whether the output projection of attention has a bias, where the architecture leaves it
    /// open.
    #[serde(skip_serializing_if = "is_false")]
    pub output_bias: bool,
    /// The mixture of experts, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<Experts>,
    /// The window that some layers see only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<SlidingWindow>,
    /// Latent attention (DeepSeek-V2 and later).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentAttention>,
    /// State-space or recurrent layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recurrent: Option<Recurrent>,
    /// Positions that a short convolution sees (LFM2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conv_length: Option<u32>,
    /// One entry per layer, where layers differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerShape>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl ShapeDetails {
    /// Whether nothing sets the model apart.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Whether not every layer has the same tensors.
    pub fn layers_differ(&self) -> bool {
        let sparse = |e: &Experts| e.leading_dense > 0 || e.every > 1;
        !self.layers.is_empty() || self.experts.as_ref().is_some_and(sparse)
    }
}

/// A mixture of experts in the feed-forward layers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Experts {
    /// Experts of a layer.
    pub count: u32,
    /// Experts that a token passes through.
    pub used: u32,
    /// Width of one expert.
    pub intermediate_size: u32,
    /// Width of all shared experts together; every token passes through them.
    #[serde(skip_serializing_if = "is_zero")]
    pub shared_intermediate_size: u32,
    /// Layers at the start that are dense.
    #[serde(skip_serializing_if = "is_zero")]
    pub leading_dense: u32,
    /// Every n-th layer has experts; 0 and 1 mean every one.
    #[serde(skip_serializing_if = "is_zero")]
    pub every: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Experts {
    /// Whether this layer has experts.
    pub fn has(&self, layer: u32) -> bool {
        layer >= self.leading_dense && (layer + 1).is_multiple_of(self.every.max(1))
    }

    /// Experts that `n_tokens` tokens pass through between them, where each takes its own at
    /// random: `count · (1 − (1 − used/count)^n)`, the expectation.
    pub fn active(&self, n_tokens: u32) -> f64 {
        let count = f64::from(self.count);
        let missed = 1.0 - f64::from(self.used.min(self.count)) / count.max(1.0);
        count * (1.0 - missed.powf(f64::from(n_tokens)))
    }
}

/// A window of the nearest tokens, which some layers see only.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SlidingWindow {
    /// Tokens in the window.
    pub tokens: u32,
    /// Every n-th layer sees everything; 0: none does.
    pub full_every: u32,
    /// Whether each layer has the window, where there is no such rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<bool>,
}

impl SlidingWindow {
    /// Whether this layer sees the window only.
    pub fn has(&self, layer: u32) -> bool {
        match self.layers.get(layer as usize) {
            Some(windowed) => *windowed,
            None => self.full_every == 0 || !(layer + 1).is_multiple_of(self.full_every),
        }
    }
}

/// Keys and values from one small latent (multi-head latent attention).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LatentAttention {
    /// Width of the latent that is cached.
    pub kv_rank: u32,
    /// Width of the latent of the queries; 0 where they have none.
    #[serde(skip_serializing_if = "is_zero")]
    pub q_rank: u32,
    /// Rotated elements of a key, cached once for all heads.
    pub rope_dim: u32,
    /// Whether scores are taken on the latent itself (files with `attn_k_b`): the cache then
    /// holds the latent instead of the keys and values of every head.
    pub absorbed: bool,
}

/// State-space and recurrent layers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Recurrent {
    /// Channels of the state.
    pub inner_size: u32,
    /// Numbers of state per channel.
    pub state_size: u32,
    /// Positions of the convolution in front.
    pub conv_length: u32,
}

/// What a layer is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// Attention over the cache.
    #[default]
    Attention,
    /// A convolution over a few positions.
    ShortConvolution,
    /// A state-space or recurrent layer.
    Recurrent,
    /// A feed-forward layer alone.
    FeedForwardOnly,
}

/// A layer of a model whose layers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LayerShape {
    /// What it is.
    #[serde(default)]
    pub kind: LayerKind,
    /// Query heads; 0 without attention.
    pub n_heads: u32,
    /// Key and value heads; 0 without attention.
    pub n_kv_heads: u32,
    /// Width of the dense feed-forward layer; 0 without one.
    pub intermediate_size: u32,
}

/// One layer with everything that its operations need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayerView {
    /// What it is.
    pub kind: LayerKind,
    /// Query heads.
    pub n_heads: u32,
    /// Key and value heads.
    pub n_kv_heads: u32,
    /// Width of a query or key head.
    pub head_dim: u32,
    /// Width of a value head.
    pub value_dim: u32,
    /// Elements of a head that are rotated; 0 without a rotary embedding.
    pub rope_dim: u32,
    /// Width of the dense feed-forward layer.
    pub intermediate_size: u32,
    /// Whether it has experts instead.
    pub has_experts: bool,
    /// The window that it sees only.
    pub window: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_of_six_layers_of_gemma_3_1b_see_a_window() {
        let window = SlidingWindow { tokens: 512, full_every: 6, layers: vec![] };
        let full: Vec<u32> = (0..26).filter(|&layer| !window.has(layer)).collect();
        assert_eq!(full, [5, 11, 17, 23]);
        let listed = SlidingWindow { layers: vec![true, false], ..window };
        assert!(listed.has(0) && !listed.has(1));
    }

    #[test]
    fn experts_of_a_prompt_are_soon_all_active() {
        let qwen = Experts { count: 128, used: 8, ..Experts::default() };
        assert!((qwen.active(1) - 8.0).abs() < 1e-9);
        // 128 · (1 − (15/16)²) = 15.5
        assert!((qwen.active(2) - 15.5).abs() < 1e-9);
        assert!(qwen.active(512) > 127.99);
    }

    #[test]
    fn experts_may_begin_late_or_skip_layers() {
        let late = Experts { leading_dense: 1, ..Experts::default() };
        assert!(!late.has(0) && late.has(1) && late.has(2));
        let every = Experts { every: 2, ..Experts::default() };
        assert!(!every.has(0) && every.has(1) && !every.has(2));
    }

    #[test]
    fn absent_details_read_as_the_plain_form() {
        let details: ShapeDetails = serde_json::from_str("{}").unwrap();
        assert!(details.is_plain());
        assert_eq!(serde_json::to_string(&details).unwrap(), "{}");
    }
}
