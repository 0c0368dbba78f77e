//! Tiny files of every architecture through the readers of candle, against logits that a forward
//! pass in NumPy gives (`tests/make_tiny_models.py`).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{DType, Device, Result, Tensor};
use candle_transformers::models::{
    quantized_gemma3, quantized_glm4, quantized_lfm2, quantized_llama, quantized_phi,
    quantized_phi3, quantized_qwen2, quantized_qwen3, quantized_qwen3_moe,
};
use serde_json::Value as Json;

type Forward = Box<dyn FnMut(&Tensor, usize) -> Result<Tensor>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models")
}

fn expected() -> Json {
    serde_json::from_str(&std::fs::read_to_string(folder().join("expected.json")).unwrap()).unwrap()
}

/// The entry of a model.
fn entry(name: &str) -> Json {
    let all = expected();
    let found = all["models"].as_array().unwrap().iter().find(|model| model["name"] == name);
    found.unwrap().clone()
}

/// A model behind the reader of its architecture, with changes to the metadata before.
fn load(model: &Json, metadata: &[(&str, Value)]) -> Result<Forward> {
    let device = Device::Cpu;
    let mut file = File::open(folder().join(model["file"].as_str().unwrap())).unwrap();
    let mut content = Content::read(&mut file)?;
    content.metadata.extend(metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    Ok(match model["architecture"].as_str().unwrap() {
        "llama" => {
            let mut m = quantized_llama::ModelWeights::from_gguf(content, &mut file, &device)?;
            Box::new(move |x, position| m.forward(x, position))
        }
        "qwen2" => {
            let mut m = quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &device)?;
            Box::new(move |x, position| m.forward(x, position))
        }
        "qwen3" => {
            let mut m = quantized_qwen3::ModelWeights::from_gguf(content, &mut file, &device)?;
            Box::new(move |x, position| m.forward(x, position))
        }
        "qwen3moe" => {
            let (file, dtype) = (&mut file, DType::F32);
            let mut m = quantized_qwen3_moe::GGUFQWenMoE::from_gguf(content, file, &device, dtype)?;
            Box::new(move |x, position| m.forward(x, position))
        }
        "gemma3" => {
            let mut m = quantized_gemma3::ModelWeights::from_gguf(content, &mut file, &device)?;
            Box::new(move |x, position| m.forward(x, position))
        }
        "phi2" => {
            let mut m = quantized_phi::ModelWeights::from_gguf(content, &mut file, &device)?;
            Box::new(move |x, position| m.forward(x, position))
        }
        "phi3" => {
            let mut m =
                quantized_phi3::ModelWeights::from_gguf(false, content, &mut file, &device)?;
            Box::new(move |x, position| m.forward(x, position))
        }
        "glm4" => {
            let (file, dtype) = (&mut file, DType::F32);
            let mut m = quantized_glm4::ModelWeights::from_gguf(content, file, &device, dtype)?;
            Box::new(move |x, position| m.forward(x, position))
        }
        "lfm2" => {
            let mut m = quantized_lfm2::ModelWeights::from_gguf(content, &mut file, &device)?;
            Box::new(move |x, position| m.forward(x, position))
        }
        other => panic!("no reader for {other}"),
    })
}

/// Logits of the last of some tokens from a position on.
fn logits(forward: &mut Forward, tokens: &[u32], position: usize) -> Result<Vec<f32>> {
    let tokens = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
    forward(&tokens, position)?.flatten_all()?.to_vec1()
}

fn floats(row: &Json) -> Vec<f32> {
    serde_json::from_value(row.clone()).unwrap()
}

fn tokens(step: &Json) -> Vec<u32> {
    serde_json::from_value(step["tokens"].clone()).unwrap()
}

fn position(step: &Json) -> usize {
    usize::try_from(step["position"].as_u64().unwrap()).unwrap()
}

fn steps(model: &Json) -> Vec<Json> {
    let steps = model["steps"].as_array().unwrap();
    steps.iter().chain([&model["chunk"]]).cloned().collect()
}

fn difference(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let pairs = found.iter().zip(wanted);
    pairs.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}

fn tolerance(model: &Json) -> f64 {
    model["tolerance"].as_f64().unwrap()
}

/// What is wrong with one step, and how far it is from what the reader should give.
fn check_step(model: &Json, forward: &mut Forward, step: &Json) -> (Option<String>, f64) {
    let known = &step["candle"];
    let found = match (logits(forward, &tokens(step), position(step)), known["error"].as_str()) {
        (Ok(found), None) => found,
        (Ok(_), Some(words)) => return (Some(format!("no longer fails with `{words}`")), 0.0),
        (Err(error), Some(words)) if error.to_string().contains(words) => return (None, 0.0),
        (Err(error), _) => return (Some(format!("fails: {error}")), f64::INFINITY),
    };
    let tolerance = tolerance(model);
    let definition = difference(&found, &floats(&step["logits"]));
    if let Some(rounded) = step.get("rounded") {
        let most = model["rounded_tolerance"].as_f64().unwrap();
        let far = difference(&found, &floats(rounded));
        println!("    {definition:.4} from the definition, {far:.6} with rounded activations");
        let wrong = definition > tolerance || far > most;
        return (wrong.then(|| format!("{definition} from the definition, {far} rounded")), far);
    }
    if known["logits"].is_null() {
        let wrong = definition > tolerance;
        return (wrong.then(|| format!("{definition} from the definition")), definition);
    }
    if definition <= tolerance {
        let mended = "follows the definition now: known_deviation is out of date";
        return (Some(mended.to_owned()), definition);
    }
    let far = difference(&found, &floats(&known["logits"]));
    ((far > tolerance).then(|| format!("{far} from the known deviation")), far)
}

#[test]
fn readers_give_the_logits_of_the_definition_or_of_a_known_deviation() {
    let mut wrong = Vec::new();
    for model in expected()["models"].as_array().unwrap() {
        let name = model["name"].as_str().unwrap();
        let mut forward = load(model, &[]).unwrap();
        let mut most = 0.0_f64;
        for step in steps(model) {
            let (message, far) = check_step(model, &mut forward, &step);
            most = most.max(far);
            wrong.extend(message.map(|m| format!("{name} at {}: {m}", position(&step))));
        }
        println!("{name}: {most:.6} at most");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn expected_logits_tell_tokens_apart() {
    for model in expected()["models"].as_array().unwrap() {
        for step in steps(model) {
            let row = floats(&step["logits"]);
            let spread = row.iter().copied().fold(f32::MIN, f32::max)
                - row.iter().copied().fold(f32::MAX, f32::min);
            assert!(
                spread > 1.0 && f64::from(spread) > 10.0 * tolerance(model),
                "{}",
                model["name"]
            );
        }
    }
}

#[test]
fn dense_llama_files_are_described_by_our_reader() {
    for name in ["llama", "llama-f16", "llama-q4k", "llama-rope-freqs"] {
        let path = folder().join(entry(name)["file"].as_str().unwrap());
        let model = foretoken_gguf::read_model(&path).unwrap();
        assert_eq!(model.shape.vocab_size, 64);
        assert_eq!(model.shape.tied_embeddings, name == "llama-f16");
        assert_eq!(model.shape.rope_freqs, name == "llama-rope-freqs");
    }
}

#[test]
fn a_wrong_base_or_eps_is_seen() {
    let model = entry("llama-f16");
    let wrong = [("llama.rope.freq_base", 5e3), ("llama.attention.layer_norm_rms_epsilon", 1e-5)];
    for (key, value) in wrong {
        let found = one_by_one(&model, &[(key, Value::F32(value))]);
        assert!(found > 10.0 * tolerance(&model), "{key}: {found}");
    }
}

#[test]
fn every_file_has_an_entry() {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|e| e == "gguf"))
        // Of another program (`make_text_model.py`), for its tokenizer and not for its logits.
        .filter(|name| name != "text.gguf")
        .collect();
    files.sort();
    let all = expected();
    let models = all["models"].as_array().unwrap().iter();
    let mut named: Vec<_> = models.map(|m| m["file"].as_str().unwrap().to_owned()).collect();
    named.sort();
    assert_eq!(files, named);
}

/// The largest difference from the definition where the chunk is fed one token at a time.
fn one_by_one(model: &Json, metadata: &[(&str, Value)]) -> f64 {
    let mut forward = load(model, metadata).unwrap();
    let mut most = 0.0_f64;
    for step in model["steps"].as_array().unwrap() {
        let found = logits(&mut forward, &tokens(step), position(step)).unwrap();
        most = most.max(difference(&found, &floats(&step["logits"])));
    }
    let chunk = &model["chunk"];
    let mut last = Vec::new();
    for (index, token) in tokens(chunk).into_iter().enumerate() {
        last = logits(&mut forward, &[token], position(chunk) + index).unwrap();
    }
    most.max(difference(&last, &floats(&chunk["logits"])))
}

#[test]
fn qwen3_with_tables_in_single_precision_follows_the_definition() {
    let model = entry("qwen3");
    let found = one_by_one(&model, &[("general.dtype", Value::U32(0))]);
    assert!(found <= tolerance(&model), "{found}");
}

#[test]
fn lfm2_one_token_at_a_time_follows_the_definition() {
    let model = entry("lfm2");
    let found = one_by_one(&model, &[]);
    assert!(found <= tolerance(&model), "{found}");
}
