//! `inspect`: exact bytes, and the same from a preset and from the file made of it.

use serde_json::Value;

use crate::util::{Sandbox, fixture};

#[test]
fn tinyllama_q4_k_m() {
    let report = Sandbox::new().good(&["inspect", "tinyllama-1.1b", "--format", "json"]).json();
    assert_eq!(report["parameters"], 1_100_048_384_u64);
    // The published file is 668,788,096 bytes, vocabulary included.
    let file_bytes = report["file_bytes"].as_f64().unwrap();
    assert!((file_bytes / 668_788_096.0 - 1.0).abs() < 0.005, "{file_bytes}");
    let sum: u64 = report["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tensor| tensor["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(report["weight_bytes"], sum);
    let ops = report["ops"].as_array().unwrap();
    for phase in ["prefill", "decode"] {
        assert!(ops.iter().any(|op| op["phase"] == phase && op["flop"].as_u64() > Some(0)));
    }
}

/// The operations depend on the kernels of the machine; shape and tensors do not.
#[test]
fn the_table_of_tinyllama() {
    let text = Sandbox::new().good(&["inspect", "tinyllama-1.1b"]).stdout;
    let (before_ops, _) = text.split_once("operations of one pass").unwrap();
    insta::assert_snapshot!(before_ops);
}

#[test]
fn a_depth_beyond_the_context_is_a_warning() {
    let model = fixture("config.json");
    let run = Sandbox::new().good(&["inspect", &model, "--depth", "1000"]);
    assert!(run.stderr.starts_with("warning: depth 1000"), "{}", run.stderr);
    let quiet = Sandbox::new().good(&["inspect", &model, "--depth", "1000", "--quiet"]);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_short_context_is_no_warning_where_no_length_was_asked_for() {
    // Its context is 128 tokens.
    let model = fixture("config.json");
    let run = Sandbox::new().good(&["inspect", &model]);
    assert_eq!(run.stderr, "");
}

#[test]
fn the_size_of_the_file_says_what_it_counts() {
    let sandbox = Sandbox::new();
    let of = |model: &str| sandbox.good(&["inspect", model, "--format", "json"]).json();
    assert_eq!(of("tinyllama-1.1b")["file_contents"], "with_tokenizer");
    assert_eq!(of("yi-6b")["file_contents"], "without_tokenizer");
    assert_eq!(of(&fixture("models/text.gguf"))["file_contents"], "file");
    // Llama-3-8B: 2 · 32 layers · 8 heads · 128.
    assert_eq!(of("llama-3-8b")["kv_elements_per_token"], 65_536);
    assert_eq!(of("llama-3-8b")["kv_bytes_per_token"], 262_144);
}

#[test]
fn a_file_is_known_by_its_first_bytes() {
    let sandbox = Sandbox::new();
    let bytes = std::fs::read(fixture("models/text.gguf")).unwrap();
    let blob = sandbox.file("sha256-0123abcd", bytes);
    let args = ["--format", "json"];
    let there = sandbox.good(&[&["inspect", &blob][..], &args].concat()).json();
    let here = sandbox.good(&[&["inspect", &fixture("models/text.gguf")][..], &args].concat());
    assert_eq!(there["tensors"], here.json()["tensors"]);
}

#[test]
fn more_depth_costs_more() {
    let sandbox = Sandbox::new();
    let flop = |depth: &str| -> u64 {
        let report =
            sandbox.good(&["inspect", "llama-2-7b", "--depth", depth, "--format", "json"]).json();
        report["ops"].as_array().unwrap().iter().map(|op| op["flop"].as_u64().unwrap()).sum()
    };
    assert!(flop("0") < flop("1024"));
}

/// What `inspect` says of a file that does not depend on the machine: bytes that the engine reads
/// do.
fn described(report: &Value) -> String {
    let mut text = format!(
        "{}\n{} parameters, {} bytes of weights, a file of {}\n",
        report["model"], report["parameters"], report["weight_bytes"], report["file_bytes"],
    );
    for tensor in report["tensors"].as_array().unwrap() {
        text += &format!(
            "{} {} {} {} {}\n",
            tensor["name"].as_str().unwrap(),
            tensor["role"],
            tensor["shape"],
            tensor["quant"],
            tensor["bytes"],
        );
    }
    for op in report["ops"].as_array().unwrap() {
        text += &format!("{} {} {} FLOP\n", op["phase"], op["op"], op["flop"]);
    }
    for sentence in report["approximations"].as_array().into_iter().flatten() {
        text += &format!("{sentence}\n");
    }
    text
}

#[test]
fn small_files_of_every_architecture_are_described_as_before() {
    let sandbox = Sandbox::new();
    let folder = fixture("models");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".gguf"))
        .collect();
    names.sort();
    assert!(names.len() >= 15, "{names:?}");
    for name in names {
        let path = format!("{folder}/{name}");
        let args = ["inspect", &path, "--prompt", "16", "--depth", "8", "--format", "json"];
        let text = described(&sandbox.good(&args).json());
        insta::assert_snapshot!(format!("inspect-{}", name.trim_end_matches(".gguf")), text);
    }
}
