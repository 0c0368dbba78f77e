//! What sets one architecture apart from another, as data: which tensors a layer has, which keys
//! a file must carry, and what is special about its attention.
//!
//! The names are those of llama.cpp (`general.architecture`); the forms were read in llama.cpp's
//! `src/llama-model.cpp` and `gguf-py/gguf/constants.py`. What an engine makes of an architecture
//! is the engine's affair (`foretoken_cost::readers`).

use crate::{LayerKind, ModelShape, TensorRole};

/// Which norms stand around attention and feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    /// One before attention, one before the feed-forward layer.
    Before,
    /// Before and after both (Gemma 2 and 3, GLM-4).
    Around,
    /// After both only (OLMo 2).
    After,
    /// One for both, which run side by side (Phi-2).
    Shared,
}

/// How the feed-forward layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForward {
    /// `ffn_gate`, `ffn_up`, `ffn_down`.
    Gated,
    /// Gate and up projection in one `ffn_up` of twice the width (Phi-3, GLM-4).
    FusedGateUp,
    /// `ffn_up`, `ffn_down`: no gate.
    Plain,
}

/// Norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// One weight for every head, as wide as a head.
    PerHead,
    /// One weight over all heads.
    AllHeads,
}

/// Whether a vector is in the files of an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// Never.
    Never,
    /// Always.
    Always,
    /// As the model's configuration says ([`crate::ShapeDetails::qkv_bias`]).
    Optional,
}

/// Which layers see a window only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// No layer does, whatever the configuration says: no engine of GGUF files applies it.
    Never,
    /// All but every n-th layer; the number is the architecture's own unless the file states one.
    AllButEvery(u32),
}

/// What sets an architecture apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// `general.architecture`.
    pub name: &'static str,
    /// Norms of a layer.
    pub norms: Norms,
    /// Whether the norms are layer norms with a bias, not root-mean-square norms.
    pub layer_norm: bool,
    /// Whether queries, keys and values are one matrix, `attn_qkv`.
    pub fused_qkv: bool,
    /// Biases of queries, keys and values.
    pub qkv_bias: Bias,
    /// Whether every other projection has a bias too, the LM head included (Phi-2).
    pub all_biases: bool,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// The feed-forward layer.
    pub feed_forward: FeedForward,
    /// Layers that see a window only.
    pub window: Window,
    /// Whether heads have an extra score each, and experts and router a bias (gpt-oss).
    pub sinks: bool,
    /// Keys that a file must carry beside those of every architecture.
    pub keys: &'static [&'static str],
    /// What else is special, as a sentence.
    pub special: &'static str,
}

/// The llama form; other rows say how they differ.
const LLAMA: Architecture = Architecture {
    name: "llama",
    norms: Norms::Before,
    layer_norm: false,
    fused_qkv: false,
    qkv_bias: Bias::Optional,
    all_biases: false,
    qk_norm: QkNorm::None,
    feed_forward: FeedForward::Gated,
    window: Window::Never,
    sinks: false,
    keys: &[],
    special: "also Mistral, SmolLM2, Yi and Mixtral; the window of Mistral 0.1 is never applied",
};

const KEY_LENGTHS: &[&str] = &["attention.key_length", "attention.value_length"];
const WINDOW_KEYS: &[&str] =
    &["attention.key_length", "attention.value_length", "attention.sliding_window"];
const EXPERT_KEYS: &[&str] = &["expert_count", "expert_used_count"];
const OWN_EXPERT_KEYS: &[&str] =
    &["attention.key_length", "expert_count", "expert_used_count", "expert_feed_forward_length"];

/// Every architecture whose form is known.
pub const ARCHITECTURES: &[Architecture] = &[
    LLAMA,
    Architecture {
        name: "qwen2",
        qkv_bias: Bias::Always,
        special: "biases of queries, keys and values",
        ..LLAMA
    },
    Architecture {
        name: "qwen2moe",
        qkv_bias: Bias::Always,
        keys: EXPERT_KEYS,
        special: "experts, and shared ones behind a gate",
        ..LLAMA
    },
    Architecture {
        name: "qwen3",
        qk_norm: QkNorm::PerHead,
        keys: KEY_LENGTHS,
        special: "norms of queries and keys; heads are wider than hidden_size / n_heads",
        ..LLAMA
    },
    Architecture {
        name: "qwen3moe",
        qk_norm: QkNorm::PerHead,
        keys: OWN_EXPERT_KEYS,
        special: "experts in every layer; norms of queries and keys",
        ..LLAMA
    },
    Architecture {
        name: "gemma",
        qkv_bias: Bias::Never,
        keys: KEY_LENGTHS,
        special: "tied LM head; heads of their own width; scaled embedding",
        ..LLAMA
    },
    Architecture {
        name: "gemma2",
        norms: Norms::Around,
        qkv_bias: Bias::Never,
        window: Window::AllButEvery(2),
        keys: WINDOW_KEYS,
        special: "every other layer sees a window; scores and logits are soft-capped; tied LM head",
        ..LLAMA
    },
    Architecture {
        name: "gemma3",
        norms: Norms::Around,
        qkv_bias: Bias::Never,
        qk_norm: QkNorm::PerHead,
        window: Window::AllButEvery(6),
        keys: WINDOW_KEYS,
        special: "five layers of six see a window; norms of queries and keys; tied LM head",
        ..LLAMA
    },
    Architecture {
        name: "phi2",
        norms: Norms::Shared,
        layer_norm: true,
        fused_qkv: true,
        qkv_bias: Bias::Always,
        all_biases: true,
        feed_forward: FeedForward::Plain,
        keys: &["attention.layer_norm_epsilon", "rope.dimension_count"],
        special: "attention and feed-forward side by side; biases everywhere; partial rotary \
                  embedding; no gate",
        ..LLAMA
    },
    Architecture {
        name: "phi3",
        fused_qkv: true,
        qkv_bias: Bias::Never,
        feed_forward: FeedForward::FusedGateUp,
        keys: &["rope.dimension_count"],
        special: "one matrix for queries, keys and values, one for gate and up projection; the \
                  window of the configuration is applied by no engine of GGUF files",
        ..LLAMA
    },
    Architecture {
        name: "glm4",
        norms: Norms::Around,
        feed_forward: FeedForward::FusedGateUp,
        keys: KEY_LENGTHS,
        special: "norms around; one matrix for gate and up projection; half of a head is rotated",
        ..LLAMA
    },
    Architecture {
        name: "lfm2",
        qkv_bias: Bias::Never,
        qk_norm: QkNorm::PerHead,
        keys: &["shortconv.l_cache"],
        special: "most layers are short convolutions; head_count_kv is an array, 0 for those",
        ..LLAMA
    },
    Architecture {
        name: "gpt-oss",
        norms: Norms::Before,
        qkv_bias: Bias::Always,
        window: Window::AllButEvery(2),
        sinks: true,
        keys: OWN_EXPERT_KEYS,
        special: "experts in MXFP4; every other layer sees a window; one extra score per head; \
                  biases everywhere",
        ..LLAMA
    },
    Architecture {
        name: "olmo2",
        norms: Norms::After,
        qkv_bias: Bias::Never,
        qk_norm: QkNorm::AllHeads,
        special: "norms after, none before; norms over all queries and over all keys",
        ..LLAMA
    },
    Architecture { name: "granite", special: "the llama form with constant multipliers", ..LLAMA },
    Architecture {
        name: "granitemoe",
        keys: EXPERT_KEYS,
        special: "experts in every layer; constant multipliers",
        ..LLAMA
    },
    Architecture {
        name: "stablelm",
        layer_norm: true,
        keys: &["attention.layer_norm_epsilon", "rope.dimension_count"],
        special: "layer norms with biases; a quarter of a head is rotated",
        ..LLAMA
    },
    Architecture {
        name: "smollm3",
        special: "the llama form; every fourth layer has no rotary embedding",
        ..LLAMA
    },
    Architecture {
        name: "starcoder2",
        layer_norm: true,
        qkv_bias: Bias::Always,
        all_biases: true,
        feed_forward: FeedForward::Plain,
        keys: &["attention.layer_norm_epsilon"],
        special: "layer norms, biases everywhere, no gate; the window is never applied",
        ..LLAMA
    },
];

impl Architecture {
    /// The architecture of this name; `None` where only its tensor table can be described.
    pub fn find(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|architecture| architecture.name == name)
    }

    /// The roles of a layer, in the order of llama.cpp's files.
    pub fn layer_roles(&self, shape: &ModelShape, layer: u32) -> Vec<TensorRole> {
        use TensorRole as R;
        let it = shape.layer(layer);
        let mut roles = Vec::with_capacity(16);
        let norm = |role: R, bias: R| {
            let both = [role, bias];
            both.into_iter().take(if self.layer_norm { 2 } else { 1 }).collect::<Vec<_>>()
        };
        if self.norms != Norms::After {
            roles.extend(norm(R::AttnNorm, R::AttnNormBias));
        }
        match it.kind {
            LayerKind::ShortConvolution => {
                roles.extend([R::ShortconvConv, R::ShortconvIn, R::ShortconvOut]);
            }
            LayerKind::Attention => self.attention_roles(shape, &mut roles),
            LayerKind::Recurrent | LayerKind::FeedForwardOnly => {}
        }
        if matches!(self.norms, Norms::Around | Norms::After) {
            roles.push(R::PostAttentionNorm);
        }
        if self.sinks {
            // gpt-oss names the norm before its experts as if it stood after attention.
            roles.push(R::PostAttentionNorm);
        } else if matches!(self.norms, Norms::Before | Norms::Around) {
            roles.extend(norm(R::FfnNorm, R::FfnNormBias));
        }
        match &shape.details.experts {
            Some(experts) if experts.has(layer) => self.expert_roles(shape, &mut roles),
            _ => self.dense_roles(&mut roles),
        }
        if matches!(self.norms, Norms::Around | Norms::After) {
            roles.push(R::PostFfwNorm);
        }
        roles
    }

    fn attention_roles(&self, shape: &ModelShape, roles: &mut Vec<TensorRole>) {
        use TensorRole as R;
        let biased = match self.qkv_bias {
            Bias::Always => true,
            Bias::Never => false,
            Bias::Optional => shape.details.qkv_bias,
        };
        let projections: &[(R, R)] = if self.fused_qkv {
            &[(R::AttnQkv, R::AttnQkvBias)]
        } else {
            &[(R::AttnQ, R::AttnQBias), (R::AttnK, R::AttnKBias), (R::AttnV, R::AttnVBias)]
        };
        for (weight, bias) in projections {
            roles.push(*weight);
            if biased {
                roles.push(*bias);
            }
        }
        if self.qk_norm != QkNorm::None {
            roles.extend([R::AttnQNorm, R::AttnKNorm]);
        }
        if self.sinks {
            roles.push(R::AttnSinks);
        }
        roles.push(R::AttnOutput);
        if self.all_biases || self.sinks || shape.details.output_bias {
            roles.push(R::AttnOutputBias);
        }
    }

    fn dense_roles(&self, roles: &mut Vec<TensorRole>) {
        use TensorRole as R;
        if self.feed_forward == FeedForward::Gated {
            roles.push(R::FfnGate);
        }
        for (weight, bias) in [(R::FfnUp, R::FfnUpBias), (R::FfnDown, R::FfnDownBias)] {
            roles.push(weight);
            if self.all_biases {
                roles.push(bias);
            }
        }
    }

    fn expert_roles(&self, shape: &ModelShape, roles: &mut Vec<TensorRole>) {
        use TensorRole as R;
        roles.push(R::FfnGateInp);
        if self.sinks {
            roles.push(R::FfnGateInpBias);
        }
        for (weight, bias) in [
            (R::FfnGateExps, R::FfnGateExpsBias),
            (R::FfnUpExps, R::FfnUpExpsBias),
            (R::FfnDownExps, R::FfnDownExpsBias),
        ] {
            roles.push(weight);
            if self.sinks {
                roles.push(bias);
            }
        }
        let shared = shape.details.experts.as_ref().map_or(0, |e| e.shared_intermediate_size);
        if shared > 0 {
            if self.name == "qwen2moe" {
                roles.push(R::FfnGateInpShexp);
            }
            roles.extend([R::FfnGateShexp, R::FfnUpShexp, R::FfnDownShexp]);
        }
    }

    /// The roles outside of the layers, before and after them.
    pub(crate) fn global_roles(&self, shape: &ModelShape) -> [Vec<TensorRole>; 2] {
        use TensorRole as R;
        let mut before = Vec::new();
        if shape.rope_freqs {
            before.push(R::RopeFreqs);
        }
        if shape.details.rope_factors {
            before.extend([R::RopeFactorsLong, R::RopeFactorsShort]);
        }
        before.push(R::TokenEmbedding);
        // LFM2 gives its last norm the name of one behind the embedding.
        let last_norm = if self.name == "lfm2" { R::TokenEmbeddingNorm } else { R::OutputNorm };
        let mut after = vec![last_norm];
        if self.layer_norm {
            after.push(R::OutputNormBias);
        }
        if !shape.tied_embeddings {
            after.push(R::Output);
            if self.all_biases && self.norms == Norms::Shared {
                after.push(R::OutputBias);
            }
        }
        [before, after]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::llama_3_8b;

    #[test]
    fn the_llama_form_is_that_of_every_file_so_far() {
        let shape = llama_3_8b();
        let llama = Architecture::find("llama").unwrap();
        assert_eq!(llama.layer_roles(&shape, 3), TensorRole::LAYER);
        assert!(Architecture::find("perceptron").is_none());
    }

    #[test]
    fn names_are_unique() {
        for (i, a) in ARCHITECTURES.iter().enumerate() {
            assert!(ARCHITECTURES.iter().skip(i + 1).all(|b| b.name != a.name), "{}", a.name);
        }
    }

    #[test]
    fn forms_differ_where_they_should() {
        use TensorRole as R;
        let of = |name: &str| {
            let shape = ModelShape { architecture: name.into(), ..llama_3_8b() };
            Architecture::find(name).unwrap().layer_roles(&shape, 0)
        };
        assert_eq!(
            of("phi3"),
            [R::AttnNorm, R::AttnQkv, R::AttnOutput, R::FfnNorm, R::FfnUp, R::FfnDown]
        );
        assert!(of("qwen2").contains(&R::AttnKBias) && !of("qwen3").contains(&R::AttnKBias));
        assert!(of("gemma3").contains(&R::PostFfwNorm) && of("gemma3").contains(&R::AttnQNorm));
        assert!(!of("gemma2").contains(&R::AttnQNorm));
        assert!(!of("olmo2").contains(&R::AttnNorm) && !of("phi2").contains(&R::FfnNorm));
        assert!(of("phi2").contains(&R::FfnDownBias) && !of("phi2").contains(&R::FfnGate));
    }
}
