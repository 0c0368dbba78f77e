//! What a model is: its shape, and the table of its tensors with their exact bytes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::TensorType;

/// What a tensor does in a model. The name in a GGUF file follows from role and layer.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TensorRole {
    /// `token_embd.weight`: gathered by token, not streamed, unless tied to the LM head.
    TokenEmbedding,
    /// `output.weight`: the LM head. Absent where the embedding is tied.
    Output,
    /// `output_norm.weight`
    OutputNorm,
    /// `rope_freqs.weight`: per-dimension factors of Llama 3.x; candle ignores them.
    RopeFreqs,
    /// `blk.N.attn_norm.weight`
    AttnNorm,
    /// `blk.N.attn_q.weight`
    AttnQ,
    /// `blk.N.attn_k.weight`
    AttnK,
    /// `blk.N.attn_v.weight`
    AttnV,
    /// `blk.N.attn_output.weight`
    AttnOutput,
    /// `blk.N.ffn_norm.weight`
    FfnNorm,
    /// `blk.N.ffn_gate.weight`
    FfnGate,
    /// `blk.N.ffn_up.weight`
    FfnUp,
    /// `blk.N.ffn_down.weight`
    FfnDown,
    /// Any other tensor: counted in bytes, in no operation.
    Other,
}

impl TensorRole {
    /// The roles of one transformer layer, in the order of llama.cpp's files.
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

    /// The middle of the tensor's GGUF name (`attn_q` of `blk.3.attn_q.weight`).
    pub fn gguf_stem(self) -> &'static str {
        match self {
            Self::TokenEmbedding => "token_embd",
            Self::Output => "output",
            Self::OutputNorm => "output_norm",
            Self::RopeFreqs => "rope_freqs",
            Self::AttnNorm => "attn_norm",
            Self::AttnQ => "attn_q",
            Self::AttnK => "attn_k",
            Self::AttnV => "attn_v",
            Self::AttnOutput => "attn_output",
            Self::FfnNorm => "ffn_norm",
            Self::FfnGate => "ffn_gate",
            Self::FfnUp => "ffn_up",
            Self::FfnDown => "ffn_down",
            Self::Other => "other",
        }
    }

    /// The GGUF name of the tensor with this role.
    pub fn gguf_name(self, layer: Option<u32>) -> String {
        match layer {
            Some(layer) => format!("blk.{layer}.{}.weight", self.gguf_stem()),
            None => format!("{}.weight", self.gguf_stem()),
        }
    }

    /// Role and layer of a GGUF tensor name; [`TensorRole::Other`] where the name is not known.
    pub fn from_gguf_name(name: &str) -> (Self, Option<u32>) {
        const GLOBAL: &[TensorRole] = &[
            TensorRole::TokenEmbedding,
            TensorRole::Output,
            TensorRole::OutputNorm,
            TensorRole::RopeFreqs,
        ];
        let Some(stem) = name.strip_suffix(".weight") else { return (Self::Other, None) };
        if let Some(rest) = stem.strip_prefix("blk.") {
            let Some((layer, stem)) = rest.split_once('.') else { return (Self::Other, None) };
            let layer = layer.parse().ok();
            let role = Self::LAYER.iter().copied().find(|r| r.gguf_stem() == stem);
            return match (role, layer) {
                (Some(role), Some(layer)) => (role, Some(layer)),
                (_, layer) => (Self::Other, layer),
            };
        }
        (GLOBAL.iter().copied().find(|r| r.gguf_stem() == stem).unwrap_or(Self::Other), None)
    }

    /// Whether the tensor is a vector kept in F32 by every scheme.
    pub fn is_vector(self) -> bool {
        matches!(self, Self::AttnNorm | Self::FfnNorm | Self::OutputNorm | Self::RopeFreqs)
    }
}

/// One tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TensorSpec {
    /// Name in a GGUF file.
    pub name: String,
    /// What it does.
    pub role: TensorRole,
    /// Its layer, counted from 0.
    pub layer: Option<u32>,
    /// Dimensions as in GGUF: innermost first, `[in_features, out_features]` of a matrix.
    pub shape: Vec<u64>,
    /// How it is stored.
    #[serde(rename = "quant")]
    pub tensor_type: TensorType,
}

impl TensorSpec {
    /// Number of weights.
    pub fn n_elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Bytes in a file, without padding.
    pub fn bytes(&self) -> u64 {
        let row = self.shape.first().copied().unwrap_or(1);
        let n_rows: u64 = self.shape.iter().skip(1).product();
        self.tensor_type.bytes(row).saturating_mul(n_rows)
    }
}

/// The numbers that fix every tensor shape and operation of a decoder model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelShape {
    /// GGUF's `general.architecture`: `llama`.
    pub architecture: String,
    /// Transformer layers.
    pub n_layers: u32,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Query heads.
    pub n_heads: u32,
    /// Key and value heads; equal to `n_heads` without grouped-query attention.
    pub n_kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// Width of the gated feed-forward layer.
    pub intermediate_size: u32,
    /// Rows of the embedding and of the LM head.
    pub vocab_size: u32,
    /// Longest context that the model was made for, in tokens.
    pub context_length: u32,
    /// Whether the LM head is the embedding matrix.
    pub tied_embeddings: bool,
    /// Whether files carry `rope_freqs.weight` (Llama 3.x).
    #[serde(default)]
    pub rope_freqs: bool,
    /// Base of the rotary embedding.
    pub rope_freq_base: f32,
    /// Epsilon of the RMS norm.
    pub rms_norm_eps: f32,
}

/// A number of a shape that no model has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, must be {expected}")]
pub struct InvalidShape {
    /// Field of [`ModelShape`].
    pub field: &'static str,
    /// Its value.
    pub value: u64,
    /// What it must be.
    pub expected: &'static str,
}

impl ModelShape {
    /// Refuses what no model has, before tables are built from it: sizes of matrices, sums over
    /// layers and their bytes then fit 64 bits.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self) -> Result<(), InvalidShape> {
        const WIDTH: (u64, &str) = (1 << 20, "between 1 and 1048576");
        let heads = u64::from(self.n_heads) * u64::from(self.head_dim);
        for (field, value, (most, expected)) in [
            ("n_layers", self.n_layers.into(), (4096, "between 1 and 4096")),
            ("hidden_size", self.hidden_size.into(), WIDTH),
            ("n_heads", self.n_heads.into(), WIDTH),
            ("n_kv_heads", self.n_kv_heads.into(), WIDTH),
            ("head_dim", self.head_dim.into(), WIDTH),
            ("n_heads * head_dim", heads, WIDTH),
            ("intermediate_size", self.intermediate_size.into(), WIDTH),
            ("vocab_size", self.vocab_size.into(), (1 << 22, "between 1 and 4194304")),
            ("context_length", self.context_length.into(), (1 << 30, "between 1 and 1073741824")),
        ] {
            if !(1..=most).contains(&value) {
                return Err(InvalidShape { field, value, expected });
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let value = self.n_kv_heads.into();
            return Err(InvalidShape {
                field: "n_kv_heads",
                value,
                expected: "a divisor of n_heads",
            });
        }
        Ok(())
    }

    /// Dimensions of the tensor of a role, innermost first; `None` for [`TensorRole::Other`].
    pub fn tensor_shape(&self, role: TensorRole) -> Option<Vec<u64>> {
        let hidden = u64::from(self.hidden_size);
        let q = u64::from(self.n_heads) * u64::from(self.head_dim);
        let kv = u64::from(self.n_kv_heads) * u64::from(self.head_dim);
        let ffn = u64::from(self.intermediate_size);
        let vocab = u64::from(self.vocab_size);
        Some(match role {
            TensorRole::TokenEmbedding | TensorRole::Output => vec![hidden, vocab],
            TensorRole::OutputNorm | TensorRole::AttnNorm | TensorRole::FfnNorm => vec![hidden],
            TensorRole::RopeFreqs => vec![u64::from(self.head_dim) / 2],
            TensorRole::AttnQ => vec![hidden, q],
            TensorRole::AttnK | TensorRole::AttnV => vec![hidden, kv],
            TensorRole::AttnOutput => vec![q, hidden],
            TensorRole::FfnGate | TensorRole::FfnUp => vec![hidden, ffn],
            TensorRole::FfnDown => vec![ffn, hidden],
            TensorRole::Other => return None,
        })
    }

    /// Every (role, layer) of the model, in the order of llama.cpp's files.
    pub fn tensor_slots(&self) -> Vec<(TensorRole, Option<u32>)> {
        let mut slots = Vec::new();
        if self.rope_freqs {
            slots.push((TensorRole::RopeFreqs, None));
        }
        slots.push((TensorRole::TokenEmbedding, None));
        for layer in 0..self.n_layers {
            slots.extend(TensorRole::LAYER.iter().map(|&role| (role, Some(layer))));
        }
        slots.push((TensorRole::OutputNorm, None));
        if !self.tied_embeddings {
            slots.push((TensorRole::Output, None));
        }
        slots
    }

    /// Bytes of keys and values that one cached token takes, all layers:
    /// `2 · n_layers · n_kv_heads · head_dim · bytes_per_element`.
    ///
    /// Llama-3-8B: 2·32·8·128·2 = 131,072 bytes at f16, 262,144 at f32.
    pub fn kv_bytes_per_token(&self, bytes_per_element: u64) -> u64 {
        2 * u64::from(self.n_layers)
            * u64::from(self.n_kv_heads)
            * u64::from(self.head_dim)
            * bytes_per_element
    }
}

/// Where a model's description came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ModelSource {
    /// A preset of the catalogue; weights are synthetic where it is run.
    Preset {
        /// Id of the preset.
        id: String,
    },
    /// A Hugging Face `config.json`; weights are synthetic where it is run.
    Config {
        /// The file.
        path: String,
    },
    /// A GGUF file.
    Gguf {
        /// The file.
        path: String,
    },
    /// A small synthetic model of a calibration's design.
    Mini,
}

/// A model with the exact table of its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelSpec {
    /// Name to print: preset id, `general.name`, or the file's stem.
    pub name: String,
    /// Family for grouped validation (`llama-3`, `smollm2`); the name where unknown.
    pub family: String,
    /// Name of the quantization scheme (`Q4_K_M`), or what is known of the mix.
    pub quant: String,
    /// Where the description came from.
    pub source: ModelSource,
    /// The shape.
    pub shape: ModelShape,
    /// All tensors, in file order.
    pub tensors: Vec<TensorSpec>,
    /// Size of the file, where there is one.
    pub file_bytes: Option<u64>,
}

impl ModelSpec {
    /// A model of this shape whose tensor types are chosen by `choose(role, layer)`.
    pub fn from_shape(
        name: impl Into<String>,
        family: impl Into<String>,
        quant: impl Into<String>,
        source: ModelSource,
        shape: ModelShape,
        choose: impl Fn(TensorRole, Option<u32>) -> TensorType,
    ) -> Self {
        let tensors = shape
            .tensor_slots()
            .into_iter()
            .filter_map(|(role, layer)| {
                Some(TensorSpec {
                    name: role.gguf_name(layer),
                    role,
                    layer,
                    shape: shape.tensor_shape(role)?,
                    tensor_type: choose(role, layer),
                })
            })
            .collect();
        Self {
            name: name.into(),
            family: family.into(),
            quant: quant.into(),
            source,
            shape,
            tensors,
            file_bytes: None,
        }
    }

    /// Number of weights, tied ones once. The factors of the rotary embedding are a table of the
    /// file, no weights of the model.
    pub fn n_parameters(&self) -> u64 {
        let is_weight = |t: &&TensorSpec| t.role != TensorRole::RopeFreqs;
        self.tensors.iter().filter(is_weight).map(TensorSpec::n_elements).sum()
    }

    /// Bytes of all tensors as stored, without header and padding.
    pub fn weight_bytes(&self) -> u64 {
        self.tensors.iter().map(TensorSpec::bytes).sum()
    }

    /// The tensor that the LM head multiplies by: `output.weight`, or the tied embedding.
    pub fn lm_head(&self) -> Option<&TensorSpec> {
        let find = |role| self.tensors.iter().find(|t| t.role == role);
        find(TensorRole::Output).or_else(|| find(TensorRole::TokenEmbedding))
    }

    /// The compact form that a measurement carries.
    pub fn record(&self) -> ModelRecord {
        let mut types: BTreeMap<TensorRole, Vec<TypeRun>> = BTreeMap::new();
        for tensor in &self.tensors {
            let runs = types.entry(tensor.role).or_default();
            match runs.last_mut() {
                Some(run) if run.0 == tensor.tensor_type => run.1 += 1,
                _ => runs.push(TypeRun(tensor.tensor_type, 1)),
            }
        }
        types.remove(&TensorRole::Other);
        ModelRecord {
            name: self.name.clone(),
            family: self.family.clone(),
            quant: self.quant.clone(),
            source: self.source.clone(),
            parameters: self.n_parameters(),
            weight_bytes: self.weight_bytes(),
            shape: self.shape.clone(),
            types,
        }
    }
}

/// `(type, n)`: `n` consecutive layers store a role as `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TypeRun(pub TensorType, pub u32);

/// A model as a measurement carries it: enough to rebuild the tensor table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelRecord {
    /// See [`ModelSpec::name`].
    pub name: String,
    /// See [`ModelSpec::family`].
    pub family: String,
    /// See [`ModelSpec::quant`].
    pub quant: String,
    /// See [`ModelSpec::source`].
    pub source: ModelSource,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of all tensors as stored.
    pub weight_bytes: u64,
    /// The shape.
    pub shape: ModelShape,
    /// Tensor types by role, run-length encoded over layers.
    pub types: BTreeMap<TensorRole, Vec<TypeRun>>,
}

impl ModelRecord {
    /// Rebuilds the tensor table. A role without a type is F32.
    pub fn to_spec(&self) -> ModelSpec {
        let choose = |role: TensorRole, layer: Option<u32>| {
            let mut index = layer.unwrap_or(0);
            for TypeRun(tensor_type, n) in self.types.get(&role).into_iter().flatten() {
                if index < *n {
                    return *tensor_type;
                }
                index -= n;
            }
            TensorType::F32
        };
        ModelSpec::from_shape(
            &self.name,
            &self.family,
            &self.quant,
            self.source.clone(),
            self.shape.clone(),
            choose,
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn llama_3_8b() -> ModelShape {
        ModelShape {
            architecture: "llama".into(),
            n_layers: 32,
            hidden_size: 4096,
            n_heads: 32,
            n_kv_heads: 8,
            head_dim: 128,
            intermediate_size: 14336,
            vocab_size: 128_256,
            context_length: 8192,
            tied_embeddings: false,
            rope_freqs: false,
            rope_freq_base: 500_000.0,
            rms_norm_eps: 1e-5,
        }
    }

    #[test]
    fn kv_cache_of_llama_3_8b() {
        assert_eq!(llama_3_8b().kv_bytes_per_token(2), 131_072);
        assert_eq!(llama_3_8b().kv_bytes_per_token(4), 262_144);
    }

    #[test]
    fn shapes_that_no_model_has_are_refused() {
        assert_eq!(llama_3_8b().check(), Ok(()));
        let refused = |change: fn(&mut ModelShape)| {
            let mut shape = llama_3_8b();
            change(&mut shape);
            shape.check().unwrap_err().field
        };
        assert_eq!(refused(|s| s.n_layers = u32::MAX), "n_layers");
        assert_eq!(refused(|s| s.n_layers = 0), "n_layers");
        assert_eq!(refused(|s| s.hidden_size = 1 << 21), "hidden_size");
        assert_eq!(refused(|s| s.n_heads = 1 << 20), "n_heads * head_dim");
        assert_eq!(refused(|s| s.n_kv_heads = 0), "n_kv_heads");
        assert_eq!(refused(|s| s.n_kv_heads = 5), "n_kv_heads");
        assert_eq!(refused(|s| s.vocab_size = u32::MAX), "vocab_size");
        assert_eq!(refused(|s| s.context_length = 0), "context_length");
    }

    #[test]
    fn parameters_of_llama_3_8b() {
        let spec =
            ModelSpec::from_shape("m", "f", "F16", ModelSource::Mini, llama_3_8b(), |_, _| {
                TensorType::F16
            });
        // 2·128256·4096 + 32·(2·4096·4096 + 2·4096·1024 + 3·4096·14336 + 2·4096) + 4096
        assert_eq!(spec.n_parameters(), 8_030_261_248);
        assert_eq!(spec.weight_bytes(), 2 * 8_030_261_248);
    }

    #[test]
    fn names_of_roles_read_back() {
        for &role in TensorRole::LAYER {
            assert_eq!(TensorRole::from_gguf_name(&role.gguf_name(Some(7))), (role, Some(7)));
        }
        assert_eq!(TensorRole::from_gguf_name("output.weight"), (TensorRole::Output, None));
        assert_eq!(
            TensorRole::from_gguf_name("blk.2.ffn_gate_exps.weight"),
            (TensorRole::Other, Some(2))
        );
    }

    #[test]
    fn a_record_rebuilds_the_tensor_table() {
        let spec = ModelSpec::from_shape(
            "m",
            "f",
            "mix",
            ModelSource::Mini,
            llama_3_8b(),
            |role, layer| match (role, layer) {
                (TensorRole::AttnV, Some(layer)) if layer % 3 == 0 => TensorType::Q6_K,
                (role, _) if role.is_vector() => TensorType::F32,
                _ => TensorType::Q4_K,
            },
        );
        assert_eq!(spec.record().to_spec(), spec);
    }
}
