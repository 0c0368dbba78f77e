//! What the model uses of a model: bytes and arithmetic of a token.

use std::collections::BTreeMap;

use foretoken_spec::{ModelSpec, RoleKind, SpeedRow, TensorRole, TensorType};
use serde::{Deserialize, Serialize};

use crate::error::TransferError;

/// Bytes in a GiB.
const GIB: f64 = 1_073_741_824.0;
/// Bytes of a number in the cache: f16, the default of the engines in the store.
const CACHE_BYTES: f64 = 2.0;

/// What a step of a model reads and computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Name.
    pub name: String,
    /// Quantization, by our name or the source's.
    pub quant: String,
    /// Bytes of all weights.
    pub total_bytes: f64,
    /// Bytes of weights that a step of one token reads: without a gathered embedding and without
    /// the experts that wait.
    pub step_bytes: f64,
    /// Weights that a token is multiplied by.
    pub active_params: f64,
    /// Layers.
    pub n_layers: f64,
    /// Query heads × their width.
    pub attention_width: f64,
    /// Bytes of keys and values that a token leaves in the cache.
    pub kv_bytes_per_token: f64,
    /// Width of the residual stream and of the feed-forward layer, and words; where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widths: Option<Widths>,
}

/// The dimensions that only a baseline asks for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Widths {
    /// Residual stream.
    pub hidden: f64,
    /// Feed-forward layer.
    pub feed_forward: f64,
    /// Rows of the embedding.
    pub vocabulary: f64,
}

impl ModelFacts {
    /// Of a model whose tensors are known.
    pub fn of(model: &ModelSpec) -> Self {
        let shape = &model.shape;
        let share = |role: TensorRole| match &shape.details.experts {
            Some(experts) if role.kind() == RoleKind::Experts => {
                f64::from(experts.used) / f64::from(experts.count.max(1))
            }
            _ if role == TensorRole::TokenEmbedding && !shape.tied_embeddings => 0.0,
            _ => 1.0,
        };
        let sum = |value: fn(&foretoken_spec::TensorSpec) -> u64| -> f64 {
            model.tensors.iter().map(|t| share(t.role) * value(t) as f64).sum()
        };
        Self {
            name: model.name.clone(),
            quant: model.quant.clone(),
            total_bytes: model.weight_bytes() as f64,
            step_bytes: sum(foretoken_spec::TensorSpec::bytes),
            active_params: sum(foretoken_spec::TensorSpec::n_elements),
            n_layers: f64::from(shape.n_layers),
            attention_width: f64::from(shape.n_heads) * f64::from(shape.head_dim),
            kv_bytes_per_token: shape.kv_bytes_per_token(CACHE_BYTES as u64) as f64,
            widths: Some(Widths {
                hidden: f64::from(shape.hidden_size),
                feed_forward: f64::from(shape.intermediate_size),
                vocabulary: f64::from(shape.vocab_size),
            }),
        }
    }

    /// The same model with keys and values in a type of so many bytes a number.
    #[must_use]
    pub fn with_cache_of(self, bytes_per_number: f64) -> Self {
        let kv_bytes_per_token = self.kv_bytes_per_token * bytes_per_number / CACHE_BYTES;
        Self { kv_bytes_per_token, ..self }
    }

    /// Share of the weights that a token meets, of those that are stored.
    pub fn active_share(&self) -> f64 {
        (self.step_bytes / self.total_bytes).clamp(1e-3, 1.0)
    }

    /// Stored bits of a weight.
    pub fn bits_per_weight(&self) -> f64 {
        8.0 * self.step_bytes / self.active_params
    }
}

/// Families of number formats whose kernels resemble each other.
pub fn quant_family(quant: &str) -> &'static str {
    let name = plain(quant);
    let is = |prefix: &str| name.starts_with(prefix);
    if quant.to_lowercase().ends_with("_r4") || quant.to_lowercase().ends_with("_r8") {
        "interleaved"
    } else if ["iq1_bn", "iq2_bn", "i2_s", "q1_0", "tq"].iter().any(|ternary| is(ternary)) {
        "ternary"
    } else if is("f16") || is("bf16") || is("f32") {
        "float"
    } else if is("iq4_nl") || is("iq4_xs") {
        "iq4"
    } else if is("iq") {
        "iq"
    } else if is("mxfp") || is("nvfp") {
        "fp4"
    } else if is("q8") {
        "q8"
    } else if is("q") && name.contains("_k") {
        "k"
    } else if is("q") && name.get(2..3) == Some("_") {
        "legacy"
    } else {
        "other"
    }
}

/// The name without what the packager or the layout adds.
pub(crate) fn plain(quant: &str) -> String {
    let lower = quant.to_lowercase();
    let name = lower.strip_prefix("ud_").or(lower.strip_prefix("ud-")).unwrap_or(&lower);
    let name = ["_r4", "_r8", "_x4"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    name.to_owned()
}

/// Usual bits of a weight under a name, for rows that do not tell the size of the file: llama.cpp's
/// own listing of a Llama-3.1-8B (`llama-quantize --help`), other packagers' from their files'
/// sizes in the store.
fn usual_bits(quant: &str) -> Option<f64> {
    let name = plain(quant);
    let bits = match name.as_str() {
        "q2_k_s" => 2.97,
        "q2_k" => 3.16,
        "q3_k_s" => 3.64,
        "q3_k_m" => 4.0,
        "q3_k_l" => 4.3,
        "q4_k_s" => 4.67,
        "q4_k_m" | "q4_k" => 4.89,
        "q5_k_s" => 5.57,
        "q5_k_m" | "q5_k" => 5.7,
        "q6_k" => 6.56,
        "iq3_xs" => 3.5,
        "iq3_m" => 3.76,
        "iq2_m" => 2.93,
        "mxfp4_moe" | "mxfp4" => 4.5,
        "nvfp4" => 4.6,
        "int4" | "4bit" | "q4f16_ft" | "mlx-4bit" => 4.5,
        "mlx-8bit" => 8.5,
        "q2_k_xl" => 3.2,
        "q3_k_xl" => 4.2,
        "q4_k_xl" => 4.95,
        "q6_k_xl" => 7.0,
        "q8_k_xl" => 10.0,
        _ => TensorType::from_name(&name.to_uppercase())?.bits_per_weight(),
    };
    Some(bits)
}

/// Shapes of the models of a store, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelShapes(BTreeMap<String, Shape>);

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Shape {
    n_layers: Option<f64>,
    hidden: Option<f64>,
    feed_forward: Option<f64>,
    n_heads: Option<f64>,
    n_kv_heads: Option<f64>,
    head_dim: Option<f64>,
    vocabulary: Option<f64>,
    is_tied: bool,
    active_params: Option<f64>,
    is_sparse: bool,
    /// The number of weights in the lists is not what is stored.
    is_effective: bool,
    /// Layers with a cache that grows, of all layers.
    cached_share: f64,
}

impl ModelShapes {
    /// From the text of a `models.csv`: columns `model`, `n_layers`, `hidden`, `ffn`, `n_heads`,
    /// `n_kv_heads`, `head_dim`, `vocab`, `tied_embeddings`, `params_b`, and `streamed_params_b`,
    /// `active_params_b` or a note such as `3.6B active`.
    ///
    /// # Errors
    /// Text that is no such table, with its line.
    pub fn read(text: &str, file: &str) -> Result<Self, TransferError> {
        let bad = |line: usize, reason: String| TransferError::Table {
            file: file.to_owned(),
            line,
            reason,
        };
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        let header = reader.headers().map_err(|e| bad(1, e.to_string()))?.clone();
        let column = |name: &str| header.iter().position(|h| h.trim() == name);
        let name = column("model").ok_or_else(|| bad(1, "no column `model`".into()))?;
        let mut shapes = BTreeMap::new();
        for (i, record) in reader.records().enumerate() {
            let record = record.map_err(|e| bad(i + 2, e.to_string()))?;
            let cell = |name: &str| column(name).and_then(|c| record.get(c)).unwrap_or("").trim();
            let number = |name: &str| cell(name).parse().ok().filter(|v: &f64| *v > 0.0);
            let model = record.get(name).unwrap_or("").trim().to_owned();
            let notes = [cell("notes"), cell("source")].join(" ");
            let named = active_of_name(&model);
            let stored = number("params_b");
            let listed = number("streamed_params_b").or(number("active_params_b"));
            let listed = listed.filter(|active| stored.is_none_or(|stored| *active < stored));
            let active = listed.or_else(|| active_of_note(&notes)).or(named);
            let shape = Shape {
                n_layers: number("n_layers"),
                hidden: number("hidden"),
                feed_forward: number("ffn"),
                n_heads: number("n_heads"),
                n_kv_heads: number("n_kv_heads"),
                head_dim: number("head_dim"),
                vocabulary: number("vocab"),
                is_tied: number("tied_embeddings").is_some(),
                active_params: active.map(|b| b * 1e9),
                is_sparse: active.is_some() || notes.contains("MoE"),
                is_effective: notes.contains("effective size"),
                cached_share: cached_share(cell("arch")),
            };
            shapes.insert(model, shape);
        }
        Ok(Self(shapes))
    }

    /// Takes over the shapes of another table; where both have a model, those of the other.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The shape of a model whose tensors are known, under the name that rows give it; a shape that
    /// the table has already stays.
    pub fn add(&mut self, name: &str, model: &ModelSpec) {
        let (shape, facts) = (&model.shape, ModelFacts::of(model));
        let is_sparse = shape.details.experts.is_some();
        let per_layer = 2.0 * f64::from(shape.n_kv_heads) * f64::from(shape.head_dim);
        let whole = CACHE_BYTES * per_layer * f64::from(shape.n_layers);
        self.0.entry(name.to_owned()).or_insert(Shape {
            n_layers: Some(f64::from(shape.n_layers)),
            hidden: Some(f64::from(shape.hidden_size)),
            feed_forward: Some(f64::from(shape.intermediate_size)),
            n_heads: Some(f64::from(shape.n_heads)),
            n_kv_heads: Some(f64::from(shape.n_kv_heads)),
            head_dim: Some(f64::from(shape.head_dim)),
            vocabulary: Some(f64::from(shape.vocab_size)),
            is_tied: shape.tied_embeddings,
            active_params: is_sparse.then_some(facts.active_params),
            is_sparse,
            is_effective: false,
            cached_share: if whole > 0.0 { facts.kv_bytes_per_token / whole } else { 1.0 },
        });
    }

    /// What a row's model reads and computes.
    ///
    /// # Errors
    /// Why it cannot be told, as a reason to leave the row out.
    pub fn facts(&self, row: &SpeedRow) -> Result<ModelFacts, String> {
        let unlisted = Shape {
            cached_share: cached_share(row.arch.as_deref().unwrap_or_default()),
            ..Shape::default()
        };
        let shape = self.0.get(&row.model).copied().unwrap_or(unlisted);
        if shape.is_effective {
            return Err("its weights are counted by effect, not as they are stored".into());
        }
        if quant_family(&row.quant) == "ternary" {
            return Err("ternary weights: kernels of their own, on too few devices".into());
        }
        let exact = row.model_params.map(|n| n as f64);
        let params = exact.or(row.params_b.map(|b| b * 1e9)).filter(|p| *p > 0.0);
        let params = params.ok_or(
            "the number of weights is not known: fill in `params_b` (in 10⁹), or name a model of \
             `foretoken models`",
        )?;
        let total_bytes = row
            .model_bytes
            .map(|b| b as f64)
            .or(row.model_file_gib.map(|g| g * GIB))
            .or_else(|| usual_bits(&row.quant).map(|bits| params * bits / 8.0))
            .filter(|b| *b > 0.0)
            .ok_or("neither the size of the file nor the bits of its quantization are known")?;
        let named = active_of_name(&row.model).map(|b| b * 1e9);
        let active = shape.active_params.or(named).filter(|a| *a < params);
        let embedding = match (shape.vocabulary, shape.hidden) {
            (Some(words), Some(width)) if !shape.is_tied && active.is_none() => words * width,
            _ => 0.0,
        };
        let active_params = match active {
            Some(active) => active,
            None if shape.is_sparse => return Err("its active weights are not known".into()),
            None => params - embedding.min(0.5 * params),
        };
        let n_layers = shape.n_layers.unwrap_or_else(|| usual_layers(active_params));
        let heads = shape.n_heads.zip(shape.head_dim).map(|(n, d)| n * d);
        let kv = shape.n_kv_heads.zip(shape.head_dim).map(|(n, d)| 2.0 * n * d);
        Ok(ModelFacts {
            name: row.model.clone(),
            quant: row.quant.clone(),
            total_bytes,
            step_bytes: total_bytes * active_params / params,
            active_params,
            n_layers,
            attention_width: heads.or(shape.hidden).unwrap_or(4096.0),
            // Models whose dimensions are not published widely are new: they have few key heads
            // or windows; half of the usual 8 heads of 128.
            kv_bytes_per_token: n_layers
                * shape.cached_share
                * kv.unwrap_or(1024.0)
                * cache_bytes(row),
            widths: match (shape.hidden, shape.feed_forward, shape.vocabulary) {
                (Some(hidden), Some(feed_forward), Some(vocabulary)) => {
                    Some(Widths { hidden, feed_forward, vocabulary })
                }
                _ => None,
            },
        })
    }
}

/// Layers whose cache grows with the context: hybrids keep it in one of four (Qwen3-Next and its
/// successors) or six of sixteen (LFM2); from memory.
fn cached_share(architecture: &str) -> f64 {
    let name = architecture.to_lowercase();
    let is = |prefix: &str| name.starts_with(prefix);
    if is("qwen3.5") || is("qwen3.6") || is("qwen35") || is("qwen36") || is("qwen3next") {
        0.25
    } else if is("lfm2") {
        0.375
    } else {
        1.0
    }
}

/// Bytes of a number in the cache: half where the row says that it was quantized.
fn cache_bytes(row: &SpeedRow) -> f64 {
    let is_quantized = row.flags.iter().any(|flag| flag == "kv_quantized");
    if is_quantized { 0.53 * CACHE_BYTES } else { CACHE_BYTES }
}

/// Layers of a dense model of so many weights: 22 of 1 × 10⁹, 32 of 7, 80 of 70.
fn usual_layers(params: f64) -> f64 {
    (20.0 * (params / 1e9).powf(0.3)).clamp(8.0, 128.0).round()
}

/// 10⁹ active weights that a name tells: `qwen3-30b-a3b`.
fn active_of_name(name: &str) -> Option<f64> {
    let part = name.to_lowercase();
    part.split('-').find_map(|part| part.strip_prefix('a')?.strip_suffix('b')?.parse().ok())
}

/// 10⁹ active weights that a note tells: `MoE 32 experts/4 active (3.6B active)`.
fn active_of_note(note: &str) -> Option<f64> {
    note.match_indices("active").find_map(|(at, _)| {
        let before = note[..at].trim_end().strip_suffix('B')?;
        let start = before.rfind(|c: char| !(c.is_ascii_digit() || c == '.'));
        before[start.map_or(0, |i| i + 1)..].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use foretoken_spec::{SpeedKey, SpeedPhase};

    use super::*;

    const TABLE: &str = "model,n_layers,hidden,ffn,n_heads,n_kv_heads,head_dim,vocab,\
                         tied_embeddings,notes\n\
                         llama3-8b,32,4096,14336,32,8,128,128256,0,\n\
                         gpt-oss-20b,24,2880,2880,64,8,64,201088,0,MoE 32/4 (3.6B active)\n\
                         odd-moe,,,,,,,,,MoE of unknown width\n";

    fn row(model: &str, params_b: f64, quant: &str, gib: Option<f64>) -> SpeedRow {
        let key = SpeedKey { runtime: "llama.cpp", device_id: "d", backend: "cpu", model, quant };
        SpeedRow {
            params_b: Some(params_b),
            model_file_gib: gib,
            ..SpeedRow::new(key, SpeedPhase::Decode, 10.0)
        }
    }

    #[test]
    fn a_gathered_embedding_is_not_read() {
        let shapes = ModelShapes::read(TABLE, "models.csv").unwrap();
        let facts = shapes.facts(&row("llama3-8b", 8.03, "Q4_K_M", Some(4.58))).unwrap();
        // 8.03e9 − 128256 × 4096 weights; their share of 4.58 GiB.
        assert!((facts.active_params - (8.03e9 - 525_336_576.0)).abs() < 1.0);
        assert!(
            (facts.step_bytes / (4.58 * GIB * facts.active_params / 8.03e9) - 1.0).abs() < 1e-12
        );
        assert_eq!(facts.kv_bytes_per_token, 32.0 * 2.0 * 8.0 * 128.0 * 2.0);
    }

    #[test]
    fn experts_that_wait_are_not_read() {
        let shapes = ModelShapes::read(TABLE, "models.csv").unwrap();
        let facts = shapes.facts(&row("gpt-oss-20b", 20.91, "MXFP4_MOE", None)).unwrap();
        assert_eq!(facts.active_params, 3.6e9);
        assert!((facts.bits_per_weight() - 4.5).abs() < 1e-9);
        let named = shapes.facts(&row("qwen3-30b-a3b", 30.5, "Q2_K", Some(10.48))).unwrap();
        assert_eq!(named.active_params, 3e9);
        let error = shapes.facts(&row("odd-moe", 100.0, "Q4_0", None)).unwrap_err();
        assert!(error.contains("active"), "{error}");
        let error = shapes.facts(&row("x", 1.0, "secret", None)).unwrap_err();
        assert!(error.contains("quantization"), "{error}");
    }

    #[test]
    fn families_of_quantizations() {
        let pairs = [
            ("Q4_K_M", "k"),
            ("ud_q4_k_xl", "k"),
            ("q4_k_r4", "interleaved"),
            ("Q4_0", "legacy"),
            ("Q8_0", "q8"),
            ("IQ4_XS", "iq4"),
            ("IQ2_XXS", "iq"),
            ("iq2_bn", "ternary"),
            ("BF16", "float"),
            ("MXFP4_MOE", "fp4"),
            ("mlx-4bit", "other"),
        ];
        for (quant, family) in pairs {
            assert_eq!(quant_family(quant), family, "{quant}");
        }
        assert_eq!(usual_bits("q8_0"), Some(8.5));
    }
}
