//! What a model is: its shape, and the table of its tensors with their exact bytes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Architecture, FeedForward, LayerKind, LayerView, QkNorm, RoleKind, ShapeDetails, TensorRole,
    TensorType,
};

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
    /// GGUF's `general.architecture`: `llama`, `qwen3`, …
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
    /// Width of the feed-forward layer; 0 where every layer has experts instead.
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
    /// What sets the model apart from the plain llama form; absent where nothing does.
    #[serde(default, skip_serializing_if = "ShapeDetails::is_plain")]
    pub details: ShapeDetails,
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
        // Without a dense layer the width may be 0.
        let dense = u64::from(self.intermediate_size).max(u64::from(!self.details.is_plain()));
        for (field, value, (most, expected)) in [
            ("n_layers", self.n_layers.into(), (4096, "between 1 and 4096")),
            ("hidden_size", self.hidden_size.into(), WIDTH),
            ("n_heads", self.n_heads.into(), WIDTH),
            ("n_kv_heads", self.n_kv_heads.into(), WIDTH),
            ("head_dim", self.head_dim.into(), WIDTH),
            ("n_heads * head_dim", heads, WIDTH),
            ("intermediate_size", dense, WIDTH),
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
        self.check_details()
    }

    fn check_details(&self) -> Result<(), InvalidShape> {
        const WIDTH: (u64, &str) = (1 << 20, "at most 1048576");
        let refuse = |field, value: u64, expected| Err(InvalidShape { field, value, expected });
        let details = &self.details;
        if let Some(experts) = &details.experts {
            if !(1..=1 << 16).contains(&experts.count) {
                return refuse("experts.count", experts.count.into(), "between 1 and 65536");
            }
            if experts.used == 0 || experts.used > experts.count {
                let expected = "between 1 and the number of experts";
                return refuse("experts.used", experts.used.into(), expected);
            }
        }
        let experts = details.experts.as_ref();
        let latent = details.latent.as_ref();
        let recurrent = details.recurrent.as_ref();
        let value_dim = u64::from(self.n_heads) * u64::from(details.value_dim.unwrap_or(1));
        for (field, value) in [
            ("n_heads * value_dim", value_dim),
            ("rope_dim", details.rope_dim.unwrap_or(0).into()),
            ("experts.intermediate_size", experts.map_or(0, |e| e.intermediate_size).into()),
            ("experts.shared_intermediate_size", {
                experts.map_or(0, |e| e.shared_intermediate_size).into()
            }),
            ("latent.kv_rank", latent.map_or(0, |l| l.kv_rank).into()),
            ("latent.q_rank", latent.map_or(0, |l| l.q_rank).into()),
            ("latent.rope_dim", latent.map_or(0, |l| l.rope_dim).into()),
            ("recurrent.inner_size", recurrent.map_or(0, |r| r.inner_size).into()),
            ("recurrent.state_size", recurrent.map_or(0, |r| r.state_size).into()),
            ("recurrent.conv_length", recurrent.map_or(0, |r| r.conv_length).into()),
            ("conv_length", details.conv_length.unwrap_or(0).into()),
        ] {
            if value > WIDTH.0 {
                return refuse(field, value, WIDTH.1);
            }
        }
        if !details.layers.is_empty() && details.layers.len() != self.n_layers as usize {
            return refuse("layers", details.layers.len() as u64, "one entry per layer");
        }
        for layer in &details.layers {
            let heads = u64::from(layer.n_heads) * u64::from(self.head_dim);
            let divides = layer.n_kv_heads == 0 || layer.n_heads.is_multiple_of(layer.n_kv_heads);
            if heads > WIDTH.0 || layer.n_kv_heads > layer.n_heads || !divides {
                let expected = "a divisor of n_heads in every layer";
                return refuse("n_kv_heads", layer.n_kv_heads.into(), expected);
            }
            if u64::from(layer.intermediate_size) > WIDTH.0 {
                return refuse("intermediate_size", layer.intermediate_size.into(), WIDTH.1);
            }
        }
        Ok(())
    }

    /// Everything that the operations of a layer need to know of it.
    pub fn layer(&self, layer: u32) -> LayerView {
        let own = self.details.layers.get(layer as usize);
        let details = &self.details;
        let rotated = details.rope_skips_every.is_none_or(|n| !(layer + 1).is_multiple_of(n));
        LayerView {
            kind: own.map_or(LayerKind::Attention, |it| it.kind),
            n_heads: own.map_or(self.n_heads, |it| it.n_heads),
            n_kv_heads: own.map_or(self.n_kv_heads, |it| it.n_kv_heads),
            head_dim: self.head_dim,
            value_dim: details.value_dim.unwrap_or(self.head_dim),
            rope_dim: if rotated { details.rope_dim.unwrap_or(self.head_dim) } else { 0 },
            intermediate_size: own.map_or(self.intermediate_size, |it| it.intermediate_size),
            has_experts: details.experts.as_ref().is_some_and(|experts| experts.has(layer)),
            window: details.window.as_ref().filter(|w| w.has(layer)).map(|w| w.tokens),
        }
    }

    /// All layers with what their operations need.
    pub fn layers(&self) -> impl Iterator<Item = LayerView> {
        (0..self.n_layers).map(|layer| self.layer(layer))
    }

    /// Dimensions of the tensor of a role in the first layer, innermost first; `None` of a role
    /// that does not follow from the shape.
    pub fn tensor_shape(&self, role: TensorRole) -> Option<Vec<u64>> {
        self.tensor_shape_in(role, 0)
    }

    /// Dimensions of the tensor of a role in a layer, innermost first; `None` of a role that does
    /// not follow from the shape.
    pub fn tensor_shape_in(&self, role: TensorRole, layer: u32) -> Option<Vec<u64>> {
        use TensorRole as R;
        let it = self.layer(layer);
        let form = Architecture::find(&self.architecture);
        let wide = |n: u32| u64::from(n);
        let hidden = wide(self.hidden_size);
        let q = wide(it.n_heads) * wide(it.head_dim);
        let k = wide(it.n_kv_heads) * wide(it.head_dim);
        let v = wide(it.n_kv_heads) * wide(it.value_dim);
        let out = wide(it.n_heads) * wide(it.value_dim);
        let fused = form.is_some_and(|form| form.feed_forward == FeedForward::FusedGateUp);
        let ffn = wide(it.intermediate_size);
        let up = if fused { 2 * ffn } else { ffn };
        let vocab = wide(self.vocab_size);
        let over_heads = form.is_some_and(|form| form.qk_norm == QkNorm::AllHeads);
        let experts = self.details.experts.as_ref();
        let n_experts = experts.map_or(0, |e| wide(e.count));
        let expert = experts.map_or(0, |e| wide(e.intermediate_size));
        let shared = experts.map_or(0, |e| wide(e.shared_intermediate_size));
        Some(match role {
            R::TokenEmbedding | R::Output => vec![hidden, vocab],
            R::OutputBias => vec![vocab],
            R::OutputNorm
            | R::OutputNormBias
            | R::TokenEmbeddingNorm
            | R::TokenEmbeddingNormBias
            | R::AttnNorm
            | R::AttnNormBias
            | R::PostAttentionNorm
            | R::FfnNorm
            | R::FfnNormBias
            | R::PostFfwNorm
            | R::AttnOutputBias
            | R::FfnDownBias
            | R::FfnGateInpShexp => vec![hidden],
            R::RopeFreqs => vec![wide(self.head_dim) / 2],
            R::RopeFactorsLong | R::RopeFactorsShort => {
                vec![wide(self.details.rope_dim.unwrap_or(self.head_dim)) / 2]
            }
            R::AttnQkv => vec![hidden, q + k + v],
            R::AttnQkvBias => vec![q + k + v],
            R::AttnQ => vec![hidden, q],
            R::AttnQBias => vec![q],
            R::AttnK => vec![hidden, k],
            R::AttnKBias => vec![k],
            R::AttnV => vec![hidden, v],
            R::AttnVBias => vec![v],
            R::AttnQNorm => vec![if over_heads { q } else { wide(it.head_dim) }],
            R::AttnKNorm => vec![if over_heads { k } else { wide(it.head_dim) }],
            R::AttnSinks => vec![wide(it.n_heads)],
            R::AttnOutput => vec![out, hidden],
            R::ShortconvConv => vec![wide(self.details.conv_length?), hidden],
            R::ShortconvIn => vec![hidden, 3 * hidden],
            R::ShortconvOut => vec![hidden, hidden],
            R::FfnGateInp => vec![hidden, n_experts],
            R::FfnGateInpBias => vec![n_experts],
            R::FfnGateExps | R::FfnUpExps => vec![hidden, expert, n_experts],
            R::FfnGateExpsBias | R::FfnUpExpsBias => vec![expert, n_experts],
            R::FfnDownExps => vec![expert, hidden, n_experts],
            R::FfnDownExpsBias => vec![hidden, n_experts],
            R::FfnGateShexp | R::FfnUpShexp => vec![hidden, shared],
            R::FfnDownShexp => vec![shared, hidden],
            R::FfnGate => vec![hidden, ffn],
            R::FfnGateBias => vec![ffn],
            R::FfnUp => vec![hidden, up],
            R::FfnUpBias => vec![up],
            R::FfnDown => vec![ffn, hidden],
            _ => return None,
        })
    }

    /// Every (role, layer) of the model, in the order of llama.cpp's files. An architecture whose
    /// form is not known is taken to have that of llama.
    pub fn tensor_slots(&self) -> Vec<(TensorRole, Option<u32>)> {
        let form = Architecture::find(&self.architecture).or_else(|| Architecture::find("llama"));
        let Some(form) = form else { return Vec::new() };
        let [before, after] = form.global_roles(self);
        let mut slots: Vec<_> = before.into_iter().map(|role| (role, None)).collect();
        for layer in 0..self.n_layers {
            let roles = form.layer_roles(self, layer);
            slots.extend(roles.into_iter().map(|role| (role, Some(layer))));
        }
        slots.extend(after.into_iter().map(|role| (role, None)));
        slots
    }

    /// Numbers of key and value that one cached token takes, all layers:
    /// `Σ n_kv_heads · (head_dim + value_dim)`, or the latent where attention is taken on it.
    pub fn kv_elements_per_token(&self) -> u64 {
        self.layers().map(|layer| self.layer_kv_elements(&layer)).sum()
    }

    /// Numbers of key and value that one cached token takes in a layer.
    pub fn layer_kv_elements(&self, layer: &LayerView) -> u64 {
        if layer.kind != LayerKind::Attention {
            return 0;
        }
        match &self.details.latent {
            Some(latent) if latent.absorbed => {
                u64::from(latent.kv_rank) + u64::from(latent.rope_dim)
            }
            _ => {
                u64::from(layer.n_kv_heads)
                    * (u64::from(layer.head_dim) + u64::from(layer.value_dim))
            }
        }
    }

    /// Bytes of keys and values that one cached token takes, all layers; without windows and
    /// per-layer differences `2 · n_layers · n_kv_heads · head_dim · bytes_per_element`.
    ///
    /// Llama-3-8B: 2·32·8·128·2 = 131,072 bytes at f16, 262,144 at f32.
    pub fn kv_bytes_per_token(&self, bytes_per_element: u64) -> u64 {
        self.kv_elements_per_token() * bytes_per_element
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
    /// Where the description is approximate, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approximations: Vec<String>,
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
                    shape: shape.tensor_shape_in(role, layer.unwrap_or(0))?,
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
            approximations: Vec::new(),
        }
    }

    /// Number of weights, tied ones once. The factors of the rotary embedding are a table of the
    /// file, no weights of the model.
    pub fn n_parameters(&self) -> u64 {
        let is_weight = |t: &&TensorSpec| t.role.kind() != RoleKind::Factors;
        self.tensors.iter().filter(is_weight).map(TensorSpec::n_elements).sum()
    }

    /// Number of weights that take part in the pass of one token: of the experts those that it is
    /// sent to.
    pub fn n_active_parameters(&self) -> u64 {
        let inactive = |t: &TensorSpec| match &self.shape.details.experts {
            Some(experts) if t.role.kind() == RoleKind::Experts => {
                let idle = u64::from(experts.count.saturating_sub(experts.used));
                t.n_elements() / u64::from(experts.count.max(1)) * idle
            }
            _ => 0,
        };
        self.n_parameters() - self.tensors.iter().map(inactive).sum::<u64>()
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
        let form = Architecture::find(&self.shape.architecture);
        let choose = |role: TensorRole, layer: Option<u32>| {
            // Runs count the layers that have the role: all of them, unless layers differ.
            let has = |layer: &u32| {
                form.is_none_or(|form| form.layer_roles(&self.shape, *layer).contains(&role))
            };
            let mut index = match layer {
                Some(layer) if self.shape.details.layers_differ() => {
                    (0..layer).filter(has).count() as u32
                }
                layer => layer.unwrap_or(0),
            };
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
            details: ShapeDetails::default(),
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
