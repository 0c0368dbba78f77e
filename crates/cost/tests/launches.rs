//! Launches of candle's readers beside what the program was counted to launch.
//!
//! The counts are those of `tests/check_cuda.py` on the same files: a prompt of 16 tokens into an
//! empty cache, and a decode step behind it.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use foretoken_cost::{EngineProfile, Feature, Isa, pass_cost};
use foretoken_gguf::read_model;
use foretoken_spec::Pass;

/// Counted and modelled.
type Pair = (f64, f64);

/// `(file, (step counted, modelled), (prompt counted, modelled))`, as in docs/gpu.md.
const COUNTED: &[(&str, Pair, Pair)] = &[
    ("llama", (75.0, 75.0), (102.0, 102.0)),
    ("qwen3", (64.0, 64.0), (77.0, 77.0)),
    ("gemma3", (205.0, 204.0), (241.0, 241.0)),
    // Biases.
    ("qwen2", (81.0, 75.0), (113.0, 102.0)),
    // `predict` says that these are too few.
    ("phi3", (50.0, 46.0), (91.0, 67.0)),
    ("phi2", (87.0, 44.0), (96.0, 57.0)),
    ("glm4", (96.0, 54.0), (127.0, 75.0)),
    // candle's convolution launches five kernels for every channel of a prompt.
    ("lfm2", (89.0, 68.0), (1052.0, 75.0)),
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
        for ((counted, modelled), n_tokens, kv_len) in [(step, 1, 17), (prompt, 16, 0)] {
            let found = launches(name, Pass { n_tokens, kv_len });
            assert!((found - modelled).abs() < 1e-9, "{name}: {found}");
            let is_said = ["phi3", "phi2", "glm4", "lfm2"].contains(&name);
            assert!(is_said || 1.0 - found / counted < 0.1, "{name}: {found} of {counted}");
        }
    }
}
