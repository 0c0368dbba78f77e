//! `calibrate`: what is refused before measuring, and one short real run.

use std::fs;

use serde_json::{Value, json};

use crate::util::{Sandbox, has_fields, line_of_this_machine};

#[test]
fn arguments_that_cannot_be_met() {
    let sandbox = Sandbox::new();
    sandbox.error_says(&["calibrate", "--budget", "1s"], &["--budget", "too short"]);
    sandbox.error_says(&["calibrate", "--budget", "soon"], &["soon", "90s"]);
    sandbox.error_says(&["calibrate", "--engine", "llama.cpp"], &["llama.cpp", "hint: "]);
    sandbox.error_says(&["calibrate", "--name", "a/b"], &["--name", "a/b"]);
    sandbox.error_says(&["calibrate", "--resume"], &["nothing to resume", "--resume"]);
}

#[test]
fn a_file_of_something_else_is_not_written_over() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("thesis.json", "{\"years\": 4}");
    let args = ["calibrate", "--budget", "10h", "--name", "x", "--out", &file];
    sandbox.error_says(&args, &["thesis.json exists and is no calibration", "hint: "]);
    assert_eq!(std::fs::read_to_string(sandbox.path("thesis.json")).unwrap(), "{\"years\": 4}");
}

#[test]
fn an_unwritable_output_is_noticed_before_measuring() {
    let sandbox = Sandbox::new();
    // A measurement of this length would not end within the test.
    let refused = |out: &str, words: &[&str]| {
        let args = ["calibrate", "--budget", "10h", "--name", "x", "--out", out];
        sandbox.error_says(&args, &[&["cannot write"][..], words].concat());
    };
    fs::create_dir(sandbox.path("folder")).unwrap();
    refused("folder", &["folder"]);
    sandbox.file("blocked/x.partial.jsonl/file", "");
    refused("blocked/out.json", &["x.partial.jsonl"]);
    if cfg!(target_os = "linux") {
        refused("/proc/absent/x.json", &["/proc/absent"]);
        refused("/dev/full", &["/dev/full", "No space left"]);
    }
}

#[test]
fn lines_of_another_setup_are_not_gone_on_from() {
    let sandbox = Sandbox::new();
    let here = line_of_this_machine(&sandbox);
    let refused = |pointer: &str, value: Value, word: &str| {
        let mut line = here.clone();
        *line.pointer_mut(pointer).unwrap() = value;
        let partial = sandbox.file("x.partial.jsonl", format!("{line}\n"));
        let args = ["calibrate", "--name", "x", "--out", "./x.json", "--resume"];
        sandbox.error_says(&args, &["cannot resume", word, "hint: "]);
        assert_eq!(fs::read_to_string(sandbox.path(&partial)).unwrap(), format!("{line}\n"));
    };
    refused("/threads", json!(77), "`threads` is 77");
    refused("/allocator", json!("system"), "`allocator` is system");
    refused("/sampling", json!("greedy"), "`sampling` is greedy");
    refused("/device/isa", json!(["abacus"]), "`device`");
    refused("/engine/version", json!("0.1"), "`engine` is candle 0.1");
    refused("/tool/profile", json!("other"), "`tool.profile` is other");
}

/// As short as it can be: what it finds is not judged, only that all of it is there.
#[test]
fn a_short_real_run_keeps_the_contract_and_what_was_there() {
    let sandbox = Sandbox::new();
    sandbox.file("out/x.partial.jsonl", "what an interrupted run left");
    sandbox.file("out/x.jsonl", "an earlier run");
    let args = ["calibrate", "--budget", "6s", "--quant", "Q8_0", "--name", "x"];
    let more = ["--out", "out/x.json", "--format", "json", "--report", "x.html"];
    let run = sandbox.good(&[&args[..], &more].concat());
    let page = fs::read_to_string(sandbox.path("x.html")).unwrap();
    for id in ["machine", "drift", "proof", "terms", "roofline", "made-of", "data"] {
        assert!(page.contains(&format!("<section id=\"{id}\"")), "{id}");
    }
    assert!(run.stderr.contains("x.partial.old.jsonl"), "{}", run.stderr);
    let kept = fs::read_to_string(sandbox.path("out/x.partial.old.jsonl")).unwrap();
    assert_eq!(kept, "what an interrupted run left");
    assert!(!sandbox.path("out/x.partial.jsonl").exists());

    let answer = run.json();
    has_fields(&answer, &["noise_floor", "seconds", "warnings"]);
    has_fields(&answer["calibration"], &["id", "file", "device", "engine", "threads"]);
    has_fields(&answer["fit"], &["observations", "forms"]);
    has_fields(&answer["fit"]["held_out"], &["prefill_mdape", "decode_mdape"]);
    if let Some(case) = answer["proof"].pointer("/cases/0") {
        has_fields(&answer["proof"], &["model", "quant"]);
        let names = ["phase", "prompt_tokens", "kv_len", "observed_ms", "predicted_ms"];
        has_fields(case, &names);
        has_fields(case, &["lower_ms", "upper_ms", "error"]);
    } else {
        assert!(answer["warnings"].to_string().contains("proof"), "{answer}");
    }

    let predict = ["predict", "tinyllama-1.1b", "--quant", "Q8_0", "--format", "json"];
    let answer = sandbox.good(&[&predict[..], &["--calibration", "out/x.json"]].concat()).json();
    assert_eq!(answer["basis"]["calibration"], "x");
    let lines = fs::read_to_string(sandbox.path("out/x.jsonl")).unwrap();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["sampling"], &line["schema_version"]),
            (&json!("temperature"), &json!(1))
        );
    }
}
