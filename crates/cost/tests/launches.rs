//! Launches of candle's readers beside what the program was counted to launch.
//!
//! The counts are those of `tests/check_cuda.py` on the same files: a prompt of 16 tokens into an
//! empty cache, and a decode step behind it.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use foretoken_cost::{EngineProfile, Feature, Isa, pass_cost};
use foretoken_gguf::read_model;
use foretoken_spec::Pass;

/// `(file, step, prompt)`
const COUNTED: &[(&str, f64, f64)] = &[
    ("llama", 75.0, 102.0),
    ("qwen2", 81.0, 113.0),
    ("qwen3", 64.0, 77.0),
    ("gemma3", 205.0, 241.0),
    ("phi2", 87.0, 96.0),
    ("phi3", 50.0, 91.0),
    ("glm4", 96.0, 127.0),
    ("lfm2", 89.0, 1052.0),
];

fn launches(name: &str, pass: Pass) -> f64 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models");
    let model = read_model(&folder.join(format!("{name}.gguf"))).unwrap();
    let cost = pass_cost(&model, &EngineProfile::candle_on(Isa::Cuda), pass);
    let features = cost.ops.iter().flat_map(|op| op.features.to_vec());
    features.filter(|(feature, _)| *feature == Feature::Launches).map(|(_, n)| n).sum()
}

#[test]
fn launches_are_those_that_were_counted_where_the_reader_is_like_llamas() {
    for &(name, step, prompt) in COUNTED {
        let modelled = [Pass { n_tokens: 1, kv_len: 17 }, Pass { n_tokens: 16, kv_len: 0 }]
            .map(|pass| launches(name, pass));
        let missing = [1.0 - modelled[0] / step, 1.0 - modelled[1] / prompt];
        let most = match name {
            "llama" | "qwen3" => 0.0,
            "gemma3" => 0.005,
            // Biases.
            "qwen2" => 0.1,
            // `predict` says that these are too few.
            "phi2" | "phi3" | "glm4" => 0.55,
            // candle's convolution launches five kernels for every channel of a prompt.
            "lfm2" => 0.95,
            _ => unreachable!("{name}"),
        };
        for missing in missing {
            assert!((0.0..=most).contains(&missing), "{name}: {modelled:?}");
        }
    }
}
