//! `predict`: the contract of the answer, and which calibration it rests on.

use serde_json::{Value, json};

use crate::util::{Sandbox, change, fixture, has_fields, line_of_this_machine, read_fixture};

/// A prediction in the fixture's quantization, as JSON.
fn with_fixture<'a>(calibration: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args =
        ["predict", "--calibration", calibration, "--quant", "Q8_0", "--format", "json", "--quiet"];
    [&args[..], more].concat()
}

#[test]
fn one_prediction_is_an_object_that_keeps_the_contract() {
    let calibration = fixture("calibration.json");
    let answer = Sandbox::new().good(&with_fixture(&calibration, &["tinyllama-1.1b"])).json();
    has_fields(&answer, &["schema_version", "energy_j", "ops", "warnings", "verify"]);
    has_fields(&answer["model"], &["name", "architecture", "parameters", "weight_bytes"]);
    has_fields(&answer["device"], &["id", "backend", "threads"]);
    assert_eq!(answer["quant"], "Q8_0");
    assert_eq!(
        answer["workload"],
        json!({"prompt_tokens": 512, "generated_tokens": 128, "kv_len": 0, "batch_size": 1})
    );
    for name in ["prefill_ms", "decode_ms", "ttft_ms", "tpot_ms", "e2e_ms"] {
        let value = |part: &str| answer[name][part].as_f64().unwrap();
        assert!(0.0 < value("lower") && value("lower") <= value("point"), "{name}");
        assert!(value("point") <= value("upper") && value("level") > 0.0, "{name}");
    }
    for name in ["prefill_tokens_per_second", "decode_tokens_per_second"] {
        assert!(answer[name].as_f64() > Some(0.0), "{name}");
    }
    let memory = ["weights_bytes", "kv_cache_bytes", "activation_bytes", "peak_bytes"];
    has_fields(&answer["memory"], &[&memory[..], &["available_bytes", "fits"]].concat());
    has_fields(&answer["flop"], &["prefill", "decode_per_token"]);
    has_fields(&answer["basis"], &["tier", "calibration", "extrapolation"]);
    has_fields(&answer["ops"][0], &["op", "phase", "ms", "bound", "arithmetic_intensity"]);
}

#[test]
fn several_predictions_are_an_array() {
    let calibration = fixture("calibration.json");
    let args = with_fixture(&calibration, &["tinyllama-1.1b", "smollm2-1.7b", "--gen", "0"]);
    let answer = Sandbox::new().good(&args).json();
    let names: Vec<_> = answer.as_array().unwrap().iter().map(|p| &p["model"]["name"]).collect();
    assert_eq!(names, ["tinyllama-1.1b", "smollm2-1.7b"]);
    assert_eq!(answer[0]["decode_ms"], json!(null));
    assert_eq!(answer[0]["e2e_ms"], json!(null));
}

#[test]
fn no_work_and_absurd_lengths() {
    let calibration = fixture("calibration.json");
    let sandbox = Sandbox::new();
    let refused = |more: &[&str], words: &[&str]| {
        let args = with_fixture(&calibration, &[&["tinyllama-1.1b"][..], more].concat());
        sandbox.error_says(&args, words);
    };
    refused(&["--prompt", "0", "--gen", "0"], &["nothing to do"]);
    for flag in ["--prompt", "--gen", "--depth"] {
        refused(&[flag, "4000000000"], &[flag, "absurd"]);
        refused(&[flag, "-1"], &["-1"]);
    }
    refused(&["--batch", "0"], &["--batch", "0"]);
    refused(&["--kv-type", "q8_0"], &["--kv-type q8_0"]);
}

#[test]
fn what_cannot_run_is_answered_with_a_warning() {
    let calibration = fixture("calibration.json");
    let sandbox = Sandbox::new();
    let warnings = |depth: &str| {
        let args = with_fixture(&calibration, &["tinyllama-1.1b", "--depth", depth]);
        let answer = sandbox.good(&args).json();
        assert!(answer["decode_ms"]["point"].as_f64() > Some(0.0));
        answer["warnings"].to_string()
    };
    assert_eq!(warnings("0"), "[]");
    let long = warnings("3000");
    assert!(long.contains("2048") && !long.contains("cannot run"), "{long}");
    let longer = warnings("5000");
    assert!(longer.contains("it cannot run") && longer.contains("4096"), "{longer}");
}

#[test]
fn what_cannot_run_is_said_first_and_not_verified() {
    let calibration = fixture("calibration.json");
    let sandbox = Sandbox::new();
    let args = |more: &[&'static str]| {
        let args = ["predict", "--calibration", &calibration, "--quant", "Q8_0", "--quiet"];
        [&args[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |more: &[&'static str]| {
        let args = args(more);
        sandbox.good(&args.iter().map(String::as_str).collect::<Vec<_>>()).stdout
    };
    let card = run(&["gemma-2-2b"]);
    assert!(card.starts_with("cannot run: candle has no GGUF reader"), "{card}");
    assert!(!card.contains("verify:") && !card.contains("Fits"), "{card}");
    let good = run(&["tinyllama-1.1b"]);
    assert!(good.contains("verify: foretoken") && !good.contains("cannot run"), "{good}");
    let both = run(&["tinyllama-1.1b", "gemma-2-2b"]);
    assert!(both.starts_with("cannot run: gemma-2-2b Q8_0: "), "{both}");
    let csv = run(&["tinyllama-1.1b", "gemma-2-2b", "--format", "csv"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].contains(",cannot_run,extrapolation,"), "{csv}");
    assert!(!lines[1].contains("no GGUF reader") && lines[2].contains("no GGUF reader"), "{csv}");
}

#[test]
fn several_sequences_cost_more_and_cannot_run() {
    let calibration = fixture("calibration.json");
    let sandbox = Sandbox::new();
    let of = |batch: &str| {
        let args = with_fixture(&calibration, &["tinyllama-1.1b", "--batch", batch]);
        sandbox.good(&args).json()
    };
    let (one, four) = (of("1"), of("4"));
    assert_eq!((&one["cannot_run"], &four["workload"]["batch_size"]), (&json!(null), &json!(4)));
    assert!(four["cannot_run"].as_str().unwrap().contains("one sequence at a time, not 4"));
    let number = |answer: &serde_json::Value, pointer: &str| {
        answer.pointer(pointer).unwrap().as_f64().unwrap()
    };
    for pointer in ["/flop/prefill", "/memory/kv_cache_bytes", "/memory/activation_bytes"] {
        assert_eq!(number(&four, pointer), 4.0 * number(&one, pointer), "{pointer}");
    }
    for pointer in ["/flop/decode_per_token", "/memory/weights_bytes"] {
        assert_eq!(number(&four, pointer), number(&one, pointer), "{pointer}");
    }
    let bytes = |answer: &serde_json::Value| -> f64 {
        answer["ops"].as_array().unwrap().iter().map(|op| op["bytes"].as_f64().unwrap()).sum()
    };
    assert!(bytes(&one) < bytes(&four) && bytes(&four) < 4.0 * bytes(&one));
}

#[test]
fn few_bits_are_predicted_with_a_word_that_candle_cannot_load_them() {
    let calibration = fixture("calibration.json");
    let sandbox = Sandbox::new();
    for quant in ["IQ1_S", "IQ2_XXS", "IQ3_M", "TQ2_0"] {
        let args = ["predict", "--calibration", &calibration, "--quant", quant, "--format", "json"];
        let answer = sandbox.good(&[&args[..], &["--quiet", "tinyllama-1.1b"]].concat()).json();
        assert_eq!(answer["quant"], quant);
        assert!(answer["cannot_run"].as_str().unwrap().contains("candle cannot load"), "{quant}");
        assert!(answer["decode_ms"]["point"].as_f64() > Some(0.0), "{quant}");
    }
}

#[test]
fn the_command_that_verifies_names_the_model_again() {
    let calibration = fixture("calibration.json");
    let sandbox = Sandbox::new();
    let path = sandbox.file("my models/config.json", read_fixture("config.json"));
    let args = with_fixture(&calibration, &[&path, "TinyLlama-1.1B"]);
    let answer = sandbox.good(&args).json();
    let verify = |index: usize| answer[index]["verify"].as_str().unwrap().to_owned();
    assert!(verify(0).starts_with("foretoken measure 'my models/config.json' "), "{}", verify(0));
    assert!(verify(1).starts_with("foretoken measure tinyllama-1.1b "), "{}", verify(1));
}

#[test]
fn without_a_calibration_named_that_of_this_machine_and_its_threads_is_taken() {
    let sandbox = Sandbox::new();
    let args = ["predict", "tinyllama-1.1b", "--quant", "Q8_0", "--format", "json"];
    sandbox.error_says(&args, &["no calibration of this machine", "foretoken calibrate"]);

    let here = line_of_this_machine(&sandbox);
    let threads = here["threads"].as_u64().unwrap();
    let store = |id: &str, time: &str, threads: u64, isa: Option<&str>| {
        let mut calibration = serde_json::from_str(&read_fixture("calibration.json")).unwrap();
        let mut device = here["device"].clone();
        if let Some(isa) = isa {
            device["isa"] = json!([isa]);
        }
        for (pointer, value) in [
            ("/id", json!(id)),
            ("/time", json!(time)),
            ("/threads", json!(threads)),
            ("/device", device),
        ] {
            change(&mut calibration, pointer, Some(value));
        }
        sandbox.file(&format!("home/calibration/{id}.json"), calibration.to_string());
    };
    store("other-isa", "2030-01-01T00:00:00Z", threads, Some("abacus"));
    sandbox.error_says(&args, &["no calibration of this machine"]);
    store("other-threads", "2029-01-01T00:00:00Z", threads + 7, None);
    let wanted = format!("not {threads}");
    sandbox.error_says(&args, &["other-threads", &wanted, "foretoken calibrate --threads"]);
    store("older", "2026-01-01T00:00:00Z", threads, None);
    store("newer", "2027-01-01T00:00:00Z", threads, None);
    sandbox.file("home/calibration/broken.json", "{}");

    let run = sandbox.good(&args);
    assert_eq!(run.json()["basis"]["calibration"], "newer");
    assert!(run.stderr.contains("warning: left out") && run.stderr.contains("broken.json"));
    let more = (threads + 7).to_string();
    let run = sandbox.good(&[&args[..], &["--threads", &more]].concat());
    assert_eq!(run.json()["basis"]["calibration"], "other-threads");
    let none = (threads + 8).to_string();
    let words = [format!("not {none}"), format!("foretoken calibrate --threads {none}")];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    sandbox.error_says(&[&args[..], &["--threads", &none]].concat(), &words);
}

/// Memory of a prediction by the fixture's calibration on another machine with so many bytes.
fn memory_with(bytes: u64, asked: &[&str]) -> Value {
    let sandbox = Sandbox::new();
    let mut calibration: Value = serde_json::from_str(&read_fixture("calibration.json")).unwrap();
    // Not this machine: what counts is the memory that the calibration states.
    change(&mut calibration, "/device/name", Some(json!("abacus")));
    change(&mut calibration, "/device/memory_bytes", Some(json!(bytes)));
    let calibration = sandbox.file("calibration.json", calibration.to_string());
    sandbox.good(&with_fixture(&calibration, asked)).json()["memory"].clone()
}

#[test]
fn what_does_not_fit_comes_with_what_would() {
    let memory = memory_with(12 << 30, &["qwen2.5-14b"]);
    assert_eq!((&memory["fits"], &memory["verdict"]), (&json!(false), &json!("does_not_fit")));
    assert_eq!(memory["largest_context"], 0);
    let would = memory["fitting_quants"].as_array().unwrap();
    assert!(!would.contains(&json!("Q8_0")), "{would:?}");
    let memory = memory_with(64 << 30, &["qwen2.5-14b"]);
    assert_eq!((&memory["fits"], &memory["verdict"]), (&json!(true), &json!("fits")));
    assert_eq!(memory.get("fitting_quants"), None);
}

#[test]
fn the_longest_context_fills_the_memory() {
    let peak = memory_with(64 << 30, &["tinyllama-1.1b", "--depth", "300"])["peak_bytes"].clone();
    let peak = peak.as_u64().unwrap();
    // 300 behind a prompt of 512 and 128 generated tokens.
    let memory = memory_with(peak, &["tinyllama-1.1b"]);
    assert_eq!(memory["largest_context"], 940);
    assert_eq!(memory["verdict"], "swap_risk");
    assert_eq!(memory_with(64 << 30, &["tinyllama-1.1b"])["largest_context"], 2048);
}
