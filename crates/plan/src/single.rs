//! The mini-models for an engine that shows whole passes only.
//!
//! A sum tells one rate, so that each of these models stores all of its layers in one tensor type,
//! with the LM head that llama.cpp's quantizer would give it. Shapes and numbers of layers differ
//! between types and rounds: calls, heads and elements are told apart by them.

use foretoken_gguf::mix;
use foretoken_spec::{
    ModelShape, ModelSource, ModelSpec, QuantScheme, TensorRole, TensorType, Workload,
};

use crate::MiniPlan;
use crate::minis::{DEFAULT_CACHE_BYTES, Widths, llama_shape, wanted_types};

/// `(name, (hidden, heads, kv_heads, intermediate, vocab))`: widths are multiples of 256, which
/// every type's rows are whole blocks of.
const SHAPES: &[(&str, Widths)] = &[
    ("768", (768, 12, 4, 2304, 32000)),
    ("2304", (2304, 36, 4, 6144, 32000)),
    ("1280", (1280, 20, 20, 3584, 48000)),
    ("2816", (2816, 22, 2, 7680, 32000)),
    ("1792", (1792, 28, 7, 5120, 32000)),
    ("1024", (1024, 16, 16, 3328, 16000)),
];
/// Prompts and steps of each load.
const SHALLOW: &[(u32, u32, u32)] = &[(32, 0, 0), (128, 0, 0), (0, 16, 0)];
/// One long prompt, for attention.
const LONG: &[(u32, u32, u32)] = &[(512, 0, 0)];
/// Behind a history, for attention: as costly as a long prompt.
const DEEP: &[(u32, u32, u32)] = &[(128, 0, 512), (0, 16, 512)];
/// Weights of a mini-model are this many times the last-level cache. Three times are not enough:
/// layers of TinyLlama at Q8_0 (128 tokens, Zen 3 with 32 MiB) ran at 141 GFLOP/s where they took
/// 94 MB, at 96 where they took 280 MB and at 86 in the whole model (`docs/llama-cpp.md`).
const CACHES_STREAMED: u64 = 8;
/// Layers are not added beyond this size: each file is written before it is measured.
const MOST_BYTES: u64 = 768 << 20;
/// Fewest and most layers.
const LAYERS: [u32; 2] = [4, 48];

/// The loads of a calibration in the order of measuring: rounds that take every type once, each
/// round with other shapes. The third one repeats the first, so that its models have second loads
/// and the noise is known.
pub fn single_type_minis(
    schemes: &[QuantScheme],
    cache_bytes: Option<u64>,
    deep: bool,
    rounds: u32,
) -> Vec<MiniPlan> {
    let mut types: Vec<TensorType> = wanted_types(schemes);
    types.sort_unstable();
    types.dedup();
    let streamed = (CACHES_STREAMED * cache_bytes.unwrap_or(DEFAULT_CACHE_BYTES)).min(MOST_BYTES);
    let mut plans = Vec::new();
    for round in [0, 1, 0].into_iter().chain(2..).take(rounds as usize) {
        for (index, &tensor_type) in types.iter().enumerate() {
            let at = round + index;
            let shape = &SHAPES[at % SHAPES.len()];
            // Every second load goes behind a history, the others take a long prompt.
            let more = if deep && at % 2 == 1 { DEEP } else { LONG };
            let workloads = [SHALLOW, more].concat();
            plans.push(plan(shape, tensor_type, streamed, workloads));
        }
    }
    plans
}

fn plan(
    &(name, widths): &(&'static str, Widths),
    tensor_type: TensorType,
    streamed_bytes: u64,
    workloads: Vec<(u32, u32, u32)>,
) -> MiniPlan {
    let [fewest, most] = LAYERS;
    let mut shape = llama_shape(fewest, widths);
    while shape.n_layers < most && model(name, &shape, tensor_type).weight_bytes() < streamed_bytes
    {
        shape.n_layers += 1;
    }
    let workload = |(prompt_tokens, generated_tokens, depth)| Workload {
        prompt_tokens,
        generated_tokens,
        depth,
    };
    MiniPlan {
        model: model(name, &shape, tensor_type),
        workloads: workloads.into_iter().map(workload).collect(),
        kind: "single-type",
    }
}

fn model(name: &str, shape: &ModelShape, tensor_type: TensorType) -> ModelSpec {
    let head = match tensor_type {
        t if t.is_float() || t == TensorType::Q8_0 => t,
        _ => TensorType::Q6_K,
    };
    let quant = tensor_type.name().to_lowercase();
    ModelSpec::from_shape(
        format!("mini-{name}-{quant}"),
        format!("mini-{name}"),
        "mixed",
        ModelSource::Mini,
        shape.clone(),
        |role, _| match role {
            role if role.is_vector() => TensorType::F32,
            TensorRole::TokenEmbedding => tensor_type,
            TensorRole::Output => mix::fit_to_row(head, u64::from(shape.hidden_size)),
            _ => tensor_type,
        },
    )
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const SCHEMES: &[QuantScheme] = &[QuantScheme::Q4_K_M, QuantScheme::Q8_0, QuantScheme::Q4_0];

    #[test]
    fn two_rounds_show_every_type_in_two_shapes_and_at_a_depth() {
        let plans = single_type_minis(SCHEMES, Some(16 << 20), true, 2);
        let mut shapes: BTreeMap<TensorType, BTreeSet<&str>> = BTreeMap::new();
        let mut deep = BTreeSet::new();
        for plan in &plans {
            let of_layer = plan.model.tensors.iter().find(|t| t.role == TensorRole::FfnUp).unwrap();
            shapes.entry(of_layer.tensor_type).or_default().insert(&plan.model.family);
            if plan.workloads.iter().any(|w| w.depth > 0) {
                deep.insert(of_layer.tensor_type);
            }
        }
        let types: Vec<TensorType> = shapes.keys().copied().collect();
        assert_eq!(types, [TensorType::Q4_0, TensorType::Q8_0, TensorType::Q4_K, TensorType::Q6_K]);
        assert!(shapes.values().all(|found| found.len() == 2), "{shapes:?}");
        assert_eq!(deep.len(), types.len());
    }

    #[test]
    fn models_outgrow_the_cache_and_stay_small() {
        for plan in single_type_minis(SCHEMES, Some(32 << 20), true, 6) {
            let bytes = plan.model.weight_bytes();
            assert!((90 << 20..MOST_BYTES).contains(&bytes), "{} {bytes}", plan.model.name);
            for tensor in &plan.model.tensors {
                assert_eq!(tensor.shape[0] % tensor.tensor_type.block_len(), 0, "{}", tensor.name);
            }
        }
    }

    #[test]
    fn a_program_without_depths_gets_none() {
        let plans = single_type_minis(SCHEMES, None, false, 2);
        assert!(plans.iter().flat_map(|p| &p.workloads).all(|w| w.depth == 0));
    }

    #[test]
    fn every_width_is_whole_super_blocks_and_every_head_whole() {
        for (name, (hidden, heads, kv_heads, intermediate, _)) in SHAPES {
            assert_eq!((hidden % 256, intermediate % 256, hidden % heads), (0, 0, 0), "{name}");
            assert_eq!(heads % kv_heads, 0, "{name}");
        }
    }
}
