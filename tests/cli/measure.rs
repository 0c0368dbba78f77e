//! `measure` on a model of two layers: the contract of the answer and of the dataset.

use serde_json::Value;

use crate::util::{Sandbox, fixture};

/// A short run of the tiny model.
fn short<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["measure", model, "--quiet", "--gen", "4", "--repeat", "2", "--format", "json"];
    [&args, more].concat()
}

#[test]
fn the_answer_keeps_the_contract() {
    let model = fixture("config.json");
    let args = short(&model, &["--prompt", "8,16", "--depth", "0,32"]);
    let answer = Sandbox::new().good(&args).json();
    let reports = answer.as_array().unwrap();
    assert_eq!(reports.len(), 4);
    for report in reports {
        assert_eq!(report["quant"], "Q4_K_M");
        assert_eq!(report["generated_tokens"], 4);
        assert!(report["threads"].as_u64() > Some(0));
        for name in ["prefill_ms", "ttft_ms", "tpot_ms", "decode_ms"] {
            for part in ["median", "p10", "p90"] {
                assert!(report[name][part].as_f64() > Some(0.0), "{name}.{part}: {report}");
            }
            assert!(!report[name]["samples"].as_array().unwrap().is_empty());
        }
        let phases = report["phases"].as_object().unwrap();
        for phase in [
            "load",
            "embedding",
            "layers",
            "lm_head",
            "logits_copy",
            "softmax",
            "sampling",
            "prefill",
            "decode",
        ] {
            assert!(phases[phase].as_f64() > Some(0.0), "{phase}: {report}");
        }
        let sum: f64 = ["embedding", "layers", "lm_head", "logits_copy"]
            .iter()
            .map(|phase| phases[*phase].as_f64().unwrap())
            .sum();
        assert!((sum / phases["prefill"].as_f64().unwrap() - 1.0).abs() < 1e-9);
        for name in ["energy_j", "noise_floor", "peak_rss_bytes", "warnings", "kv_len"] {
            assert!(report.get(name).is_some(), "{name} is missing");
        }
    }
}

#[test]
fn one_phase_alone_leaves_the_other_null() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    let decode = sandbox.good(&short(&model, &["--prompt", "0", "--depth", "16"])).json();
    assert_eq!(decode[0]["prefill_ms"], Value::Null);
    assert!(decode[0]["decode_ms"]["median"].as_f64() > Some(0.0));
    let args =
        ["measure", &model, "--prompt", "8", "--gen", "0", "--repeat", "1", "--format", "json"];
    let prefill = sandbox.good(&args).json();
    assert_eq!(prefill[0]["tpot_ms"], Value::Null);
    assert!(prefill[0]["ttft_ms"]["median"].as_f64() > Some(0.0));
}

#[test]
fn raw_lines_are_appended_whole_and_a_partial_one_is_dropped() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    let out = sandbox.file("data/runs.jsonl", "{\"schema_version\": 1, \"cut");
    let args = short(&model, &["--prompt", "8", "--quant", "Q4_0,Q8_0", "--paired", "--out", &out]);
    sandbox.good(&args);
    sandbox.good(&args);
    let text = std::fs::read_to_string(sandbox.path(&out)).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Two runs of two quantizations with two fresh loads.
    assert_eq!(lines.len(), 8);
    for line in &lines {
        assert_eq!(line["schema_version"], 1);
        assert_eq!(line["reference"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_depth_beyond_the_context_is_answered_with_a_warning() {
    let model = fixture("config.json");
    let args = short(&model, &["--prompt", "8", "--depth", "200"]);
    let answer = Sandbox::new().good(&args).json();
    let warnings = answer[0]["warnings"].to_string();
    assert!(warnings.contains("beyond the context"), "{warnings}");
}

#[test]
fn the_threads_asked_for_are_in_effect() {
    let model = fixture("config.json");
    let args = short(&model, &["--prompt", "8", "--threads", "1"]);
    assert_eq!(Sandbox::new().good(&args).json()[0]["threads"], 1);
}

#[test]
fn an_unwritable_output_is_noticed_before_measuring() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    let folder = sandbox.path("folder");
    std::fs::create_dir(&folder).unwrap();
    let other = sandbox.file("model.gguf", "GGUF, not measurements");
    for out in [folder.to_str().unwrap(), &other] {
        let args = ["measure", &model, "--prompt", "4096", "--gen", "0", "--repeat", "1000"];
        sandbox.error_says(&[&args[..], &["--out", out]].concat(), &[out]);
    }
    assert_eq!(std::fs::read(sandbox.path(&other)).unwrap(), b"GGUF, not measurements");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let model = fixture("config.json");
    Sandbox::new().error_says(
        &["measure", &model, "--prompt", "8", "--gen", "2", "--out", "/dev/full"],
        &["/dev/full", "No space left"],
    );
}

/// Tiny files of every architecture that candle reads on a processor.
const FIXTURES: [&str; 8] =
    ["llama-moe", "qwen2", "qwen3", "gemma3", "phi2", "phi3", "glm4", "lfm2"];

#[test]
fn every_architecture_is_measured_at_every_depth() {
    let sandbox = Sandbox::new();
    for name in FIXTURES {
        let model = fixture(&format!("models/{name}.gguf"));
        // Several tokens behind cached ones are an error of candle's gemma3 reader.
        let prompt = if name == "gemma3" { "1" } else { "16" };
        let run = ["--prompt", prompt, "--depth", "0,32", "--threads", "1"];
        let answer = sandbox.good(&short(&model, &run)).json();
        assert_eq!(answer.as_array().unwrap().len(), 2, "{name}");
        for report in answer.as_array().unwrap() {
            for time in ["prefill_ms", "decode_ms", "tpot_ms"] {
                assert!(report[time]["median"].as_f64() > Some(0.0), "{name}: {report}");
            }
            // The spans of these readers leave operations together.
            assert_eq!(report["phases"]["lm_head"], Value::Null, "{name}");
            assert!(report["phases"]["prefill"].as_f64() > Some(0.0), "{name}");
        }
    }
}

#[test]
fn what_a_reader_cannot_run_is_refused_with_its_reason() {
    let sandbox = Sandbox::new();
    let refused = |name: &str, more: &[&str], words: &[&str]| {
        let model = fixture(&format!("models/{name}.gguf"));
        sandbox.error_says(&[&["measure", &model], more].concat(), words);
    };
    refused("gemma3", &["--prompt", "8", "--depth", "32"], &["empty cache", "--depth 0"]);
    refused("qwen3moe", &["--prompt", "8"], &["CUDA", "predict"]);
    sandbox.good(&["inspect", &fixture("models/qwen3moe.gguf")]);
    sandbox.error_says(&["measure", "gemma-2-2b"], &["no GGUF reader", "gemma2", "predict"]);
}
