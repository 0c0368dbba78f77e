//! What a calibration should be able to predict.

use foretoken_cost::{EngineProfile, OpCost, pass_cost};
use foretoken_gguf::mix;
use foretoken_spec::{ModelSource, Pass, QuantScheme};

use crate::minis::{Widths, llama_shape};

/// One pass of a model that somebody may ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetPass {
    /// Its operations.
    pub ops: Vec<OpCost>,
    /// How often it is asked for, relative to others.
    pub weight: f64,
}

/// Models of 0.1 to 8 billion parameters: the widths, head shapes and vocabularies that people run.
const SHAPES: &[Widths] = &[
    (576, 9, 3, 1536, 49152),
    (896, 14, 2, 4864, 151_936),
    (960, 15, 5, 2560, 49152),
    (1536, 12, 2, 8960, 151_936),
    (2048, 32, 4, 5632, 32000),
    (2048, 32, 32, 8192, 49152),
    (3072, 24, 8, 8192, 128_256),
    (4096, 32, 8, 14336, 128_256),
];
/// Layers of every target: the relative weights of the operations hardly depend on it.
const LAYERS: u32 = 24;
/// Passes that are asked for: prompts at the start and behind a history, and steps.
const PASSES: &[Pass] = &[
    Pass { n_tokens: 32, kv_len: 0 },
    Pass { n_tokens: 128, kv_len: 0 },
    Pass { n_tokens: 512, kv_len: 0 },
    Pass { n_tokens: 128, kv_len: 1024 },
    Pass { n_tokens: 1, kv_len: 64 },
    Pass { n_tokens: 1, kv_len: 512 },
    Pass { n_tokens: 1, kv_len: 2048 },
];

/// Unquantized files are rarely run where quantized ones are at hand.
const FLOAT_WEIGHT: f64 = 0.1;
/// The quantizations that most people download.
const COMMON: &[QuantScheme] = &[QuantScheme::Q4_K_M, QuantScheme::Q8_0];
const COMMON_WEIGHT: f64 = 2.0;

fn weight(scheme: QuantScheme) -> f64 {
    match scheme {
        _ if mix::base_type(scheme).is_float() => FLOAT_WEIGHT,
        _ if COMMON.contains(&scheme) => COMMON_WEIGHT,
        _ => 1.0,
    }
}

/// The passes of the target shapes in these quantizations on this engine.
pub fn targets(schemes: &[QuantScheme], engine: &EngineProfile) -> Vec<TargetPass> {
    let mut found = Vec::new();
    for &widths in SHAPES {
        let shape = llama_shape(LAYERS, widths);
        for &scheme in schemes {
            let model =
                mix::quantized_spec("target", "target", ModelSource::Mini, shape.clone(), scheme);
            found.extend(PASSES.iter().map(|&pass| TargetPass {
                ops: pass_cost(&model, engine, pass).ops,
                weight: weight(scheme),
            }));
        }
    }
    found
}
