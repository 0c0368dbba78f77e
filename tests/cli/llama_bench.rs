//! llama.cpp through llama-bench: a script stands for the program, and the real one where it is.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::util::{Sandbox, has_fields};

/// The script that stands for llama-bench, in the sandbox.
#[cfg(unix)]
fn planted(sandbox: &Sandbox) -> String {
    program(sandbox, &fs::read_to_string("tests/fixtures/llama-bench/planted.sh").unwrap())
}

#[cfg(unix)]
fn program(sandbox: &Sandbox, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let name = sandbox.file("llama-bench", script);
    fs::set_permissions(sandbox.path(&name), fs::Permissions::from_mode(0o755)).unwrap();
    format!("./{name}")
}

fn calibrate<'a>(bench: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["calibrate", "--engine", "llama.cpp", "--llama-bench", bench, "--quiet"];
    [&args[..], more].concat()
}

#[cfg(unix)]
#[test]
fn a_program_that_follows_a_law_is_calibrated_proved_and_predicted() {
    let sandbox = Sandbox::new();
    let bench = planted(&sandbox);
    let args = ["--quant", "Q8_0", "--budget", "60s", "--name", "x", "--format", "json"];
    let report = sandbox.good(&calibrate(&bench, &args)).json();
    has_fields(&report, &["calibration", "fit", "proof", "noise_floor", "seconds", "warnings"]);
    assert_eq!(report["calibration"]["engine"], "llama.cpp b6123 (8f0bba8e)");
    let held_out = report["fit"]["held_out"]["decode_mdape"].as_f64().unwrap();
    assert!(held_out < 0.05, "{held_out}");
    for case in report["proof"]["cases"].as_array().unwrap() {
        // The law knows the file's bytes alone: the embedding among them, which no pass reads, and
        // for each token of a prompt the head, which is read once.
        let limit = if case["phase"] == "decode" { 0.25 } else { 0.5 };
        assert!(case["error"].as_f64().unwrap().abs() < limit, "{case}");
    }
    let lines = fs::read_to_string(sandbox.path("datasets/x.jsonl"));
    let lines = lines.or_else(|_| fs::read_to_string(sandbox.path("home/datasets/x.jsonl")));
    assert!(lines.unwrap().lines().count() >= 12);

    let predict = ["predict", "llama-3.2-1b", "--quant", "Q8_0", "--format", "json"];
    let newest = sandbox.good(&[&predict[..], &["--engine", "llama.cpp"]].concat()).json();
    let named = sandbox.good(&[&predict[..], &["--calibration", "x"]].concat()).json();
    assert_eq!(newest["decode_ms"], named["decode_ms"]);
    assert_eq!(newest["ttft_ms"], newest["prefill_ms"], "no token is drawn");
    assert!(newest["verify"].as_str().unwrap().ends_with("--engine llama.cpp"));
    let other = [&predict[..], &["--calibration", "x", "--engine", "candle"]].concat();
    sandbox.error_says(&other, &["is a calibration of llama.cpp, not candle", "hint: "]);
}

#[cfg(unix)]
#[test]
fn measuring_times_prompts_and_the_steps_behind_them() {
    let sandbox = Sandbox::new();
    let bench = planted(&sandbox);
    let args = ["measure", "smollm2-135m", "--quant", "Q8_0", "--engine", "llama.cpp"];
    let lengths = ["--llama-bench", &bench, "--prompt", "64", "--gen", "16", "--repeat", "2"];
    let more = ["--out", "m.jsonl", "--format", "json"];
    let report = &sandbox.good(&[&args[..], &lengths, &more].concat()).json()[0];
    let size = fs::read_to_string(sandbox.path("m.jsonl")).unwrap();
    assert_eq!(size.lines().count(), 2);
    // A picosecond per byte and token; ten and 100 ns for each of 64 cached tokens.
    let [prefill, decode] =
        ["prefill_ms", "decode_ms"].map(|name| report[name]["median"].as_f64().unwrap());
    let bytes = prefill / 64.0 * 1e9;
    assert!((decode - (bytes * 10.0 * 1e-9 + 0.0064)).abs() < 1e-3, "{prefill} {decode}");
    assert_eq!(report["phases"]["load"], Value::Null);
    assert_eq!(report["kv_len"], 0);
}

#[cfg(unix)]
#[test]
fn programs_that_fail_are_told_in_their_own_words() {
    let sandbox = Sandbox::new();
    let temporary = sandbox.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let refused = |script: &str, words: &[&str]| {
        let bench = program(&sandbox, script);
        let args = calibrate(&bench, &["--name", "x", "--quant", "Q8_0"]);
        let run = sandbox.command().env("TMPDIR", &temporary).args(&args).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{said}");
        for word in words {
            assert!(said.contains(word), "no `{word}`: {said}");
        }
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "files are left");
        for folder in ["datasets", "home/datasets"] {
            let partial = sandbox.path(folder).join("x.partial.jsonl");
            assert!(!partial.exists(), "an empty {} is left", partial.display());
        }
    };
    let help = "#!/bin/sh\n[ \"$1\" = --help ] && echo '--n-prompt --n-gen --repetitions --output' \
                && exit 0\n";
    refused("#!/bin/sh\necho hello\n", &["is no llama-bench", "--n-prompt"]);
    refused(&format!("{help}echo 'cannot map' >&2; exit 7"), &["exit status: 7", "cannot map"]);
    refused(&format!("{help}echo '[]'"), &["gave no result for pp32 @ d0"]);
    refused(&format!("{help}kill -9 $$"), &["failed on", "signal: 9"]);
}

#[test]
fn a_program_that_is_not_there() {
    let sandbox = Sandbox::new();
    let args = calibrate("./absent", &["--name", "x"]);
    sandbox.error_says(&args, &["--engine llama.cpp needs llama-bench", "./absent", "hint: "]);
    let args = calibrate("./absent", &["--name", "x", "--meter", "rapl"]);
    sandbox.error_says(&args, &["energy of llama.cpp is not measured", "hint: "]);
    let measure = ["measure", "smollm2-135m", "--engine", "llama.cpp", "--llama-bench", "./absent"];
    sandbox.error_says(&measure, &["./absent", "hint: "]);
    let alone = ["measure", "smollm2-135m", "--llama-bench", "./absent"];
    sandbox.error_says(&alone, &["--llama-bench is for --engine llama.cpp"]);
    let error = sandbox.error(&["calibrate", "--engine", "abacus"]);
    assert!(error.contains("abacus") && error.contains("llama.cpp"), "{error}");
}

/// Runs where `LLAMA_BENCH` names a program: CI without one does without.
#[test]
fn the_real_program_measures_a_small_model() {
    let Some(bench) = std::env::var_os("LLAMA_BENCH") else { return };
    let bench = bench.to_string_lossy().into_owned();
    assert!(Path::new(&bench).is_file(), "LLAMA_BENCH is {bench}");
    let sandbox = Sandbox::new();
    let args = ["measure", "smollm2-135m", "--quant", "Q8_0", "--engine", "llama.cpp"];
    let lengths = ["--llama-bench", &bench, "--prompt", "16", "--gen", "8", "--repeat", "1"];
    let report = &sandbox.good(&[&args[..], &lengths, &["--format", "json"]].concat()).json()[0];
    let [prefill, decode] =
        ["prefill_ms", "decode_ms"].map(|name| report[name]["median"].as_f64().unwrap());
    // Sixteen tokens at once take less than sixteen steps, and more than one.
    assert!(decode < prefill && prefill < 16.0 * decode, "{prefill} {decode}");
}
