//! The synthetic models that a calibration may run, and their workloads.

use foretoken_cost::{EngineProfile, KernelPath};
use foretoken_gguf::mix;
use foretoken_spec::{
    ModelShape, ModelSource, ModelSpec, QuantScheme, TensorRole, TensorType, Workload,
};

/// A synthetic model with what to run on it.
#[derive(Debug, Clone, PartialEq)]
pub struct MiniPlan {
    /// The model.
    pub model: ModelSpec,
    /// Its workloads.
    pub workloads: Vec<Workload>,
    /// How its matrices are multiplied (`tiled`, `row-dot`, `float`).
    pub kind: &'static str,
}

/// `(name, hidden, heads, kv_heads, intermediate, vocab)`; the head width is hidden / heads.
type MiniShape = (&'static str, u32, u32, u32, u32, u32);

/// Shapes of the mini-models: none is a row of the catalogue. Query heads per key-value head go
/// from 1 to 11, so that copies of the cache and work per head can be told apart.
const SHAPES: &[MiniShape] = &[
    ("704", 704, 11, 11, 1792, 32000),
    ("768", 768, 12, 4, 2048, 49152),
    ("1088", 1088, 17, 17, 2816, 32000),
    ("1280", 1280, 20, 2, 3584, 32000),
    ("1344", 1344, 21, 7, 3584, 32000),
    ("1536", 1536, 12, 4, 4096, 32000),
    ("1792", 1792, 28, 28, 7168, 32000),
    ("2304", 2304, 36, 4, 6144, 32000),
    ("2560", 2560, 40, 8, 6912, 64000),
    ("2816", 2816, 22, 2, 7680, 32000),
    ("3328", 3328, 26, 26, 8960, 32000),
    ("3840", 3840, 30, 6, 10240, 48000),
];

/// Shapes of the mini-models for a graphics device: in smaller ones no kernel fills it, and all
/// that is measured is the launching. The smallest two say what that takes.
const GPU_SHAPES: &[MiniShape] = &[
    ("1088", 1088, 17, 17, 2816, 32000),
    ("1536", 1536, 12, 4, 4096, 32000),
    ("2304", 2304, 36, 4, 6144, 32000),
    ("2560", 2560, 40, 8, 6912, 64000),
    ("2816", 2816, 22, 2, 7680, 32000),
    ("3328", 3328, 26, 26, 8960, 32000),
    ("3840", 3840, 30, 6, 10240, 48000),
    ("4352", 4352, 34, 34, 11520, 32000),
    ("4608", 4608, 36, 4, 12288, 64000),
    ("5376", 5376, 42, 6, 14336, 64000),
    ("6144", 6144, 48, 8, 16384, 64000),
];

/// Shapes that also run as floating-point models: dense multiplication knows no blocks, so that
/// fewer widths say enough.
const FLOAT_SHAPES: &[&str] = &["768", "1344", "2560", "3328", "4608"];

/// Weights of a mini-model are several times the last-level cache, so that a pass streams them
/// from memory as a real model does.
const CACHES_STREAMED: u64 = 3;
/// Assumed where the last-level cache is not known.
pub(crate) const DEFAULT_CACHE_BYTES: u64 = 32 << 20;
/// A mini-model stays below this much memory, as the engine keeps it.
const MOST_RESIDENT_BYTES: u64 = 3 << 30;
/// Most layers of a mini-model.
const MOST_LAYERS: u32 = 48;

/// The mini-models for these quantization schemes on this engine and last-level cache.
pub fn mini_models(
    schemes: &[QuantScheme],
    engine: &EngineProfile,
    cache_bytes: Option<u64>,
) -> Vec<MiniPlan> {
    let streamed = CACHES_STREAMED * cache_bytes.unwrap_or(DEFAULT_CACHE_BYTES);
    let mut plans = Vec::new();
    let shapes = if engine.is_candle_on_gpu() { GPU_SHAPES } else { SHAPES };
    for shape in shapes {
        let hidden = u64::from(shape.1);
        let mut types: Vec<TensorType> =
            wanted_types(schemes).into_iter().map(|t| mix::fit_to_row(t, hidden)).collect();
        types.sort_unstable();
        types.dedup();
        for kind in KINDS {
            let of_kind: Vec<TensorType> = types
                .iter()
                .copied()
                .filter(|t| (kind.takes)(engine.kernel(*t, 512, hidden, hidden)))
                .filter(|t| !t.is_float() || FLOAT_SHAPES.contains(&shape.0))
                .collect();
            if !of_kind.is_empty() {
                plans.push(plan(shape, kind, &of_kind, engine, streamed));
            }
        }
    }
    plans
}

/// Tensor types that run together in one mini-model. Integer kernels and dense F32 use different
/// thread pools, which disturb each other; no real model mixes them.
struct Kind {
    name: &'static str,
    takes: fn(KernelPath) -> bool,
    /// `(prompt, generated, depth)`
    workloads: &'static [(u32, u32, u32)],
}

const KINDS: &[Kind] = &[
    Kind {
        name: "tiled",
        takes: |path| matches!(path, KernelPath::Tiled | KernelPath::Amx),
        workloads: &[(32, 12, 0), (128, 12, 0), (512, 12, 0), (128, 12, 1024)],
    },
    Kind {
        name: "row-dot",
        takes: |path| matches!(path, KernelPath::RowDot | KernelPath::Scalar),
        workloads: &[(8, 12, 0), (48, 12, 0)],
    },
    // A graphics device multiplies up to a few rows by other kernels than many.
    Kind {
        name: "gpu",
        takes: |path| matches!(path, KernelPath::GpuTiled | KernelPath::GpuVector),
        workloads: &[(8, 12, 0), (128, 12, 0), (512, 12, 0), (2048, 12, 0), (512, 12, 2048)],
    },
    Kind {
        name: "float",
        takes: |path| path == KernelPath::Gemm,
        workloads: &[(32, 12, 0), (256, 12, 0)],
    },
];

/// Base types of the schemes, and Q6_K, which every k-quant file has.
pub(crate) fn wanted_types(schemes: &[QuantScheme]) -> Vec<TensorType> {
    let mut types = Vec::new();
    for &scheme in schemes {
        let base = mix::base_type(scheme);
        // Floating-point weights are all dequantized to F32: one of them stands for the others.
        types.push(if base.is_float() { TensorType::F16 } else { base });
        if !base.is_float() && base != TensorType::Q8_0 {
            types.push(TensorType::Q6_K);
        }
    }
    types
}

/// `(hidden, heads, kv_heads, intermediate, vocab)`.
pub(crate) type Widths = (u32, u32, u32, u32, u32);

/// A `llama` of these widths; the head width is hidden / heads.
pub(crate) fn llama_shape(
    n_layers: u32,
    (hidden_size, n_heads, n_kv_heads, intermediate_size, vocab_size): Widths,
) -> ModelShape {
    ModelShape {
        architecture: "llama".into(),
        n_layers,
        hidden_size,
        n_heads,
        n_kv_heads,
        head_dim: hidden_size / n_heads,
        intermediate_size,
        vocab_size,
        context_length: 4096,
        tied_embeddings: false,
        rope_freqs: false,
        rope_freq_base: 10_000.0,
        rms_norm_eps: 1e-5,
        details: foretoken_spec::ShapeDetails::default(),
    }
}

fn plan(
    &(name, hidden_size, n_heads, n_kv_heads, intermediate_size, vocab_size): &MiniShape,
    kind: &Kind,
    types: &[TensorType],
    engine: &EngineProfile,
    streamed_bytes: u64,
) -> MiniPlan {
    let widths = (hidden_size, n_heads, n_kv_heads, intermediate_size, vocab_size);
    let mut shape = llama_shape(types.len() as u32, widths);
    let build = |shape: &ModelShape| {
        mixed_model(&format!("mini-{name}-{}", kind.name), &format!("mini-{name}"), shape, types)
    };
    let pattern = types.len() as u32;
    while shape.n_layers + pattern <= MOST_LAYERS
        && build(&shape).weight_bytes() < streamed_bytes
        && resident_bytes(&build(&shape), engine) < MOST_RESIDENT_BYTES / 2
    {
        shape.n_layers += pattern;
    }
    let workloads = kind
        .workloads
        .iter()
        .map(|&(prompt_tokens, generated_tokens, depth)| Workload {
            prompt_tokens,
            generated_tokens,
            depth,
        })
        .collect();
    MiniPlan { model: build(&shape), workloads, kind: kind.name }
}

/// A model whose layers take the types in turn. The LM head is Q6_K, as in every k-quant file;
/// a floating-point model has nothing else in it.
fn mixed_model(name: &str, family: &str, shape: &ModelShape, types: &[TensorType]) -> ModelSpec {
    let float = types.iter().all(|t| t.is_float());
    let head = if float { types[0] } else { TensorType::Q6_K };
    let choose = |role: TensorRole, layer: Option<u32>| {
        let row = shape.tensor_shape(role).and_then(|dims| dims.first().copied()).unwrap_or(1);
        let turn = layer.unwrap_or(0) as usize % types.len();
        match role {
            role if role.is_vector() => TensorType::F32,
            TensorRole::TokenEmbedding | TensorRole::Output => mix::fit_to_row(head, row),
            _ => mix::fit_to_row(types[turn], row),
        }
    };
    ModelSpec::from_shape(name, family, "mixed", ModelSource::Mini, shape.clone(), choose)
}

fn resident_bytes(model: &ModelSpec, engine: &EngineProfile) -> u64 {
    let workload = Workload { prompt_tokens: 512, generated_tokens: 8, depth: 0 };
    foretoken_cost::memory_parts(model, engine, &workload).total()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use foretoken_cost::{Isa, X86Level};

    const ENGINE: EngineProfile =
        EngineProfile::candle_on(Isa::X86 { level: X86Level::Avx512Vnni, amx: false });
    const SCHEMES: &[QuantScheme] =
        &[QuantScheme::Q4_K_M, QuantScheme::Q8_0, QuantScheme::Q4_0, QuantScheme::F16];

    #[test]
    fn every_kernel_of_the_schemes_occurs_in_three_shapes() {
        let plans = mini_models(SCHEMES, &ENGINE, Some(32 << 20));
        let mut shapes: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for plan in &plans {
            for pass in plan.workloads.iter().filter_map(Workload::prefill) {
                for op in foretoken_cost::pass_cost(&plan.model, &ENGINE, pass).ops {
                    shapes.entry(op.class.key()).or_default().insert(&plan.model.family);
                }
            }
        }
        for (class, families) in &shapes {
            assert!(families.len() >= 3, "{class} occurs in {families:?}");
        }
        for wanted in ["q4_k.tiled", "q6_k.tiled", "q8_0.tiled", "q4_0.row_dot", "q5_0.scalar"] {
            assert!(shapes.contains_key(&format!("matmul.{wanted}.many_rows")), "{wanted}");
        }
    }

    #[test]
    fn a_gpu_has_mini_models_that_fill_it() {
        let engine = EngineProfile::candle_on(Isa::Cuda);
        let plans = mini_models(SCHEMES, &engine, Some(50 << 20));
        let mut classes: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for plan in &plans {
            assert!(plan.workloads.iter().all(|w| w.total_tokens() <= 4096), "{}", plan.kind);
            let passes = plan.workloads.iter().flat_map(|w| [w.prefill(), w.decode_midpoint()]);
            for pass in passes.flatten() {
                for op in foretoken_cost::pass_cost(&plan.model, &engine, pass).ops {
                    classes.entry(op.class.key()).or_default().insert(&plan.model.family);
                }
            }
        }
        for wanted in
            ["q4_k.gpu_vector.one_row", "q4_k.gpu_vector.many_rows", "q4_k.gpu_tiled.many_rows"]
        {
            assert!(classes[&format!("matmul.{wanted}")].len() >= 3, "{wanted}");
        }
        assert!(classes["matmul.f32.gemm.one_row"].len() >= 3);
        let widest = plans.iter().map(|plan| plan.model.shape.hidden_size).max();
        assert!(widest >= Some(6144));
    }

    #[test]
    fn mini_models_outgrow_the_cache_and_fit_in_memory() {
        for plan in mini_models(SCHEMES, &ENGINE, Some(32 << 20)) {
            let bytes = plan.model.weight_bytes();
            assert!(bytes > 64 << 20, "{} has {bytes} bytes", plan.model.name);
            assert!(resident_bytes(&plan.model, &ENGINE) < MOST_RESIDENT_BYTES);
        }
    }

    #[test]
    fn every_row_is_a_whole_number_of_blocks() {
        for plan in mini_models(SCHEMES, &ENGINE, None) {
            for tensor in &plan.model.tensors {
                assert_eq!(tensor.shape[0] % tensor.tensor_type.block_len(), 0, "{}", tensor.name);
            }
        }
    }

    #[test]
    fn score_matrices_outgrow_a_32_mib_cache_in_one_design() {
        // 40 heads · 512² · 4 bytes are 42 MB; 28 heads stay below 32 MiB.
        let crosses = |plan: &MiniPlan| {
            plan.workloads.iter().any(|w| {
                let scores = u64::from(plan.model.shape.n_heads)
                    * u64::from(w.prompt_tokens)
                    * u64::from(w.prompt_tokens + w.depth);
                4 * scores >= 32 << 20
            })
        };
        assert!(mini_models(SCHEMES, &ENGINE, None).iter().any(crosses));
    }
}
