//! Small files of every architecture that candle reads, written by another program than this one.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use foretoken_cost::{EngineProfile, Isa, candle_reader, pass_cost};
use foretoken_gguf::read_model;
use foretoken_spec::Pass;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "gguf")).collect();
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    files
}

#[test]
fn every_file_is_described_and_has_its_reader() {
    for path in files() {
        let model = read_model(&path).unwrap_or_else(|error| panic!("{error}"));
        let architecture = model.shape.architecture.as_str();
        let found = candle_reader(&model);
        match architecture {
            "qwen3moe" => assert!(found.is_err_and(|e| e.to_string().contains("CUDA only"))),
            _ => {
                let info = found.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                assert_eq!(info.architectures, [architecture]);
            }
        }
        let expected: Vec<&str> = match architecture {
            // phi3 files state a window that no engine applies.
            "phi3" if !model.approximations.is_empty() => vec!["window"],
            _ => vec![],
        };
        assert_eq!(model.approximations.len(), expected.len(), "{:?}", model.approximations);
    }
}

#[test]
fn matmul_flop_of_a_token_are_twice_the_weights_that_it_meets() {
    let engine = EngineProfile::candle_on(Isa::Other);
    for path in files() {
        let model = read_model(&path).unwrap();
        let cost = pass_cost(&model, &engine, Pass { n_tokens: 1, kv_len: 1 });
        let flop: u64 = cost.ops.iter().filter(|op| op.role.is_some()).map(|op| op.flop).sum();
        let experts = model.shape.details.experts.as_ref();
        let met: u64 = model
            .tensors
            .iter()
            .filter(|t| t.layer.is_some() && t.shape.len() > 1)
            .filter(|t| !t.name.contains("shortconv.conv"))
            .map(|t| match experts.filter(|_| t.name.contains("ffn_") && !t.name.contains("inp")) {
                Some(it) => t.n_elements() * u64::from(it.used) / u64::from(it.count),
                None => t.n_elements(),
            })
            .sum();
        let head = model.lm_head().unwrap().n_elements();
        assert_eq!(flop, 2 * (met + head), "{}", path.display());
    }
}
