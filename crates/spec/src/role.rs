//! What a tensor does in a model, by its name in a GGUF file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the tensor of a role takes part in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleKind {
    /// A matrix that activations are multiplied by; quantized by every scheme.
    Matrix,
    /// The matrices of all experts of a layer: a token passes through some of them.
    Experts,
    /// A small matrix that llama.cpp keeps in F32: routers.
    Router,
    /// A convolution over a few positions, channel by channel; kept in F32.
    Convolution,
    /// The weight of a norm.
    Norm,
    /// Any other vector: biases, scales.
    Vector,
    /// A table whose rows are gathered by token.
    Gathered,
    /// A constant of the rotary embedding: a table of the file, no weight of the model.
    Factors,
    /// Not known.
    Unknown,
}

macro_rules! roles {
    ($($(#[$doc:meta])* $variant:ident = $scope:ident $kind:ident $tail:literal;)*) => {
        /// What a tensor does in a model. The name in a GGUF file follows from role and layer.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum TensorRole {
            $($(#[$doc])* #[doc = concat!("`", $tail, "`")] $variant,)*
            /// A matrix of a layer that is not known by name: taken as multiplied once.
            OtherMatrix,
            /// Any other tensor: counted in bytes, in no operation.
            Other,
        }

        /// (role, whether it is of a layer, end of the name)
        const NAMES: &[(TensorRole, bool, &str)] =
            &[$((TensorRole::$variant, roles!(@is_layer $scope), $tail),)*];

        impl TensorRole {
            /// The end of the tensor's GGUF name (`attn_q.weight` of `blk.3.attn_q.weight`).
            fn tail(self) -> &'static str {
                match self {
                    $(Self::$variant => $tail,)*
                    Self::OtherMatrix => "other_matrix",
                    Self::Other => "other",
                }
            }

            /// How it takes part in a pass.
            pub fn kind(self) -> RoleKind {
                match self {
                    $(Self::$variant => RoleKind::$kind,)*
                    Self::OtherMatrix => RoleKind::Matrix,
                    Self::Other => RoleKind::Unknown,
                }
            }
        }
    };
    (@is_layer global) => { false };
    (@is_layer layer) => { true };
}

// The order is that of the keys in measurements and of the operations of a pass: new roles may
// stand anywhere, the old ones keep their order. Names: llama.cpp, `gguf-py/gguf/constants.py`.
roles! {
    /// Gathered by token, not streamed, unless tied to the LM head.
    TokenEmbedding = global Gathered "token_embd.weight";
    /// The LM head. Absent where the embedding is tied.
    Output = global Matrix "output.weight";
    /// Bias of the LM head.
    OutputBias = global Vector "output.bias";
    /// Norm before the LM head.
    OutputNorm = global Norm "output_norm.weight";
    /// Bias of that norm.
    OutputNormBias = global Vector "output_norm.bias";
    /// Norm of the embeddings; the norm before the LM head in LFM2.
    TokenEmbeddingNorm = global Norm "token_embd_norm.weight";
    /// Bias of that norm.
    TokenEmbeddingNormBias = global Vector "token_embd_norm.bias";
    /// Learned positions, gathered.
    PositionEmbedding = global Gathered "position_embd.weight";
    /// Embeddings of every layer, gathered (Gemma 3n).
    PerLayerTokenEmbedding = global Gathered "per_layer_token_embd.weight";
    /// Per-dimension factors of Llama 3.x; candle ignores them.
    RopeFreqs = global Factors "rope_freqs.weight";
    /// Factors of long contexts (Phi-3, MiniCPM).
    RopeFactorsLong = global Factors "rope_factors_long.weight";
    /// Factors of short contexts (Phi-3, MiniCPM).
    RopeFactorsShort = global Factors "rope_factors_short.weight";
    /// Norm before attention.
    AttnNorm = layer Norm "attn_norm.weight";
    /// Bias of that norm.
    AttnNormBias = layer Vector "attn_norm.bias";
    /// Queries, keys and values at once.
    AttnQkv = layer Matrix "attn_qkv.weight";
    /// Their bias.
    AttnQkvBias = layer Vector "attn_qkv.bias";
    /// Queries.
    AttnQ = layer Matrix "attn_q.weight";
    /// Their bias.
    AttnQBias = layer Vector "attn_q.bias";
    /// Keys.
    AttnK = layer Matrix "attn_k.weight";
    /// Their bias.
    AttnKBias = layer Vector "attn_k.bias";
    /// Values.
    AttnV = layer Matrix "attn_v.weight";
    /// Their bias.
    AttnVBias = layer Vector "attn_v.bias";
    /// Norm of the queries.
    AttnQNorm = layer Norm "attn_q_norm.weight";
    /// Norm of the keys.
    AttnKNorm = layer Norm "attn_k_norm.weight";
    /// Queries, first factor (latent attention).
    AttnQA = layer Matrix "attn_q_a.weight";
    /// Norm between the factors of the queries.
    AttnQANorm = layer Norm "attn_q_a_norm.weight";
    /// Queries, second factor.
    AttnQB = layer Matrix "attn_q_b.weight";
    /// Keys and values, first factor: the latent that is cached.
    AttnKvA = layer Matrix "attn_kv_a_mqa.weight";
    /// Norm of the latent.
    AttnKvANorm = layer Norm "attn_kv_a_norm.weight";
    /// Keys and values, second factor.
    AttnKvB = layer Matrix "attn_kv_b.weight";
    /// Keys, second factor, absorbed into the queries.
    AttnKB = layer Matrix "attn_k_b.weight";
    /// Values, second factor, absorbed into the output.
    AttnVB = layer Matrix "attn_v_b.weight";
    /// One extra score per head (gpt-oss).
    AttnSinks = layer Vector "attn_sinks.weight";
    /// Gate of the attention's output.
    AttnGate = layer Matrix "attn_gate.weight";
    /// Norm before the output projection (BitNet).
    AttnSubNorm = layer Norm "attn_sub_norm.weight";
    /// Output projection.
    AttnOutput = layer Matrix "attn_output.weight";
    /// Its bias.
    AttnOutputBias = layer Vector "attn_output.bias";
    /// Norm after attention.
    PostAttentionNorm = layer Norm "post_attention_norm.weight";
    /// Input projection of a state-space layer.
    SsmIn = layer Matrix "ssm_in.weight";
    /// Convolution of a state-space layer.
    SsmConv1d = layer Convolution "ssm_conv1d.weight";
    /// Its bias.
    SsmConv1dBias = layer Vector "ssm_conv1d.bias";
    /// Projection to time step and state matrices.
    SsmX = layer Matrix "ssm_x.weight";
    /// Projection of the time step.
    SsmDt = layer Matrix "ssm_dt.weight";
    /// Its bias.
    SsmDtBias = layer Vector "ssm_dt.bias";
    /// State transition.
    SsmA = layer Vector "ssm_a";
    /// Skip connection.
    SsmD = layer Vector "ssm_d";
    /// Norm inside a state-space layer.
    SsmNorm = layer Norm "ssm_norm.weight";
    /// Output projection of a state-space layer.
    SsmOut = layer Matrix "ssm_out.weight";
    /// Input projection of a short convolution (LFM2).
    ShortconvIn = layer Matrix "shortconv.in_proj.weight";
    /// The short convolution.
    ShortconvConv = layer Convolution "shortconv.conv.weight";
    /// Output projection of a short convolution.
    ShortconvOut = layer Matrix "shortconv.out_proj.weight";
    /// Norm before the feed-forward layer.
    FfnNorm = layer Norm "ffn_norm.weight";
    /// Bias of that norm.
    FfnNormBias = layer Vector "ffn_norm.bias";
    /// Router of a mixture of experts.
    FfnGateInp = layer Router "ffn_gate_inp.weight";
    /// Its bias.
    FfnGateInpBias = layer Vector "ffn_gate_inp.bias";
    /// Bias of the experts' scores.
    ExpProbsBias = layer Vector "exp_probs_b.bias";
    /// Gate of the feed-forward layer.
    FfnGate = layer Matrix "ffn_gate.weight";
    /// Its bias.
    FfnGateBias = layer Vector "ffn_gate.bias";
    /// Up projection; with the gate in front where an architecture fuses them.
    FfnUp = layer Matrix "ffn_up.weight";
    /// Its bias.
    FfnUpBias = layer Vector "ffn_up.bias";
    /// Norm before the down projection (BitNet).
    FfnSubNorm = layer Norm "ffn_sub_norm.weight";
    /// Down projection.
    FfnDown = layer Matrix "ffn_down.weight";
    /// Its bias.
    FfnDownBias = layer Vector "ffn_down.bias";
    /// Gates of the experts.
    FfnGateExps = layer Experts "ffn_gate_exps.weight";
    /// Their biases.
    FfnGateExpsBias = layer Vector "ffn_gate_exps.bias";
    /// Up projections of the experts.
    FfnUpExps = layer Experts "ffn_up_exps.weight";
    /// Their biases.
    FfnUpExpsBias = layer Vector "ffn_up_exps.bias";
    /// Gates and up projections of the experts at once.
    FfnGateUpExps = layer Experts "ffn_gate_up_exps.weight";
    /// Down projections of the experts.
    FfnDownExps = layer Experts "ffn_down_exps.weight";
    /// Their biases.
    FfnDownExpsBias = layer Vector "ffn_down_exps.bias";
    /// Gate of the shared experts' output.
    FfnGateInpShexp = layer Router "ffn_gate_inp_shexp.weight";
    /// Gate of the shared experts.
    FfnGateShexp = layer Matrix "ffn_gate_shexp.weight";
    /// Up projection of the shared experts.
    FfnUpShexp = layer Matrix "ffn_up_shexp.weight";
    /// Down projection of the shared experts.
    FfnDownShexp = layer Matrix "ffn_down_shexp.weight";
    /// Norm after the feed-forward layer.
    PostFfwNorm = layer Norm "post_ffw_norm.weight";
}

impl TensorRole {
    /// The roles of one layer of the llama form, in the order of llama.cpp's files.
    pub const LAYER: &'static [TensorRole] = &[
        Self::AttnNorm,
        Self::AttnQ,
        Self::AttnK,
        Self::AttnV,
        Self::AttnOutput,
        Self::FfnNorm,
        Self::FfnGate,
        Self::FfnUp,
        Self::FfnDown,
    ];

    /// Every role that has a name of its own.
    pub fn named() -> impl Iterator<Item = TensorRole> {
        NAMES.iter().map(|(role, ..)| *role)
    }

    /// The middle of the tensor's GGUF name: `attn_q` of `blk.3.attn_q.weight`, `attn_q.bias` of
    /// `blk.3.attn_q.bias`.
    pub fn gguf_stem(self) -> &'static str {
        self.tail().strip_suffix(".weight").unwrap_or(self.tail())
    }

    /// The GGUF name of the tensor with this role.
    pub fn gguf_name(self, layer: Option<u32>) -> String {
        match layer {
            Some(layer) => format!("blk.{layer}.{}", self.tail()),
            None => self.tail().to_owned(),
        }
    }

    /// Role and layer of a GGUF tensor name; [`TensorRole::Other`] where the name is not known.
    pub fn from_gguf_name(name: &str) -> (Self, Option<u32>) {
        let find = |of_layer: bool, tail: &str| {
            let known = NAMES.iter().find(|(_, layer, t)| *layer == of_layer && *t == tail);
            known.map(|(role, ..)| *role)
        };
        let Some(rest) = name.strip_prefix("blk.") else {
            return (find(false, name).unwrap_or(Self::Other), None);
        };
        let Some((layer, tail)) = rest.split_once('.') else { return (Self::Other, None) };
        let Ok(layer) = layer.parse() else { return (Self::Other, None) };
        let role = find(true, tail).or_else(|| single_expert(tail)).unwrap_or(Self::Other);
        (role, Some(layer))
    }

    /// Whether the tensor is a vector kept in F32 by every scheme.
    pub fn is_vector(self) -> bool {
        matches!(self.kind(), RoleKind::Norm | RoleKind::Vector | RoleKind::Factors)
    }

    /// Whether llama.cpp's converter and quantizer leave the tensor in F32 in every scheme.
    pub fn is_kept_f32(self) -> bool {
        self.is_vector()
            || matches!(self.kind(), RoleKind::Router | RoleKind::Convolution | RoleKind::Unknown)
    }
}

/// The role of one expert's own matrix in old files: `ffn_gate.7.weight`.
fn single_expert(tail: &str) -> Option<TensorRole> {
    let (stem, rest) = tail.split_once('.')?;
    rest.strip_suffix(".weight")?.parse::<u32>().ok()?;
    match stem {
        "ffn_gate" => Some(TensorRole::FfnGateExps),
        "ffn_up" => Some(TensorRole::FfnUpExps),
        "ffn_down" => Some(TensorRole::FfnDownExps),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_roles_read_back() {
        for (role, of_layer, _) in NAMES {
            let layer = of_layer.then_some(7);
            assert_eq!(TensorRole::from_gguf_name(&role.gguf_name(layer)), (*role, layer));
        }
        assert_eq!(TensorRole::from_gguf_name("output.weight"), (TensorRole::Output, None));
        assert_eq!(TensorRole::AttnQBias.gguf_stem(), "attn_q.bias");
        assert_eq!(TensorRole::AttnQ.gguf_stem(), "attn_q");
    }

    #[test]
    fn experts_of_old_files_and_unknown_names() {
        let of = TensorRole::from_gguf_name;
        assert_eq!(of("blk.2.ffn_gate.7.weight"), (TensorRole::FfnGateExps, Some(2)));
        assert_eq!(of("blk.2.ffn_gate.x.weight"), (TensorRole::Other, Some(2)));
        assert_eq!(of("blk.2.something.weight"), (TensorRole::Other, Some(2)));
        assert_eq!(of("blk.x.attn_q.weight"), (TensorRole::Other, None));
        assert_eq!(of("blk.2"), (TensorRole::Other, None));
        assert_eq!(of("v.blk.2.attn_q.weight"), (TensorRole::Other, None));
    }

    #[test]
    fn routers_are_kept_in_f32_but_are_no_vectors() {
        assert!(TensorRole::FfnGateInp.is_kept_f32() && !TensorRole::FfnGateInp.is_vector());
        assert!(TensorRole::AttnQNorm.is_vector());
        assert!(!TensorRole::FfnGateExps.is_kept_f32());
    }
}
