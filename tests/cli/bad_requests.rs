//! Requests that cannot be answered: exit code 2 and a message that says what to do.

use crate::util::{Sandbox, fixture};

#[test]
fn nothing_to_do() {
    let model = fixture("config.json");
    Sandbox::new().error_says(
        &["measure", &model, "--prompt", "0", "--gen", "0"],
        &["nothing to do", "at least one token"],
    );
}

#[test]
fn absurd_lengths() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    for flag in ["--prompt", "--gen", "--depth"] {
        sandbox.error_says(&["measure", &model, flag, "4000000000"], &[flag, "absurd"]);
    }
    sandbox.error_says(&["measure", &model, "--prompt", "99999999999999"], &["99999999999999"]);
}

#[test]
fn longer_than_the_engine_holds() {
    let model = fixture("config.json");
    Sandbox::new().error_says(&["measure", &model, "--depth", "5000"], &["4096", "--depth"]);
}

#[test]
fn unknown_preset_suggests_the_nearest() {
    let sandbox = Sandbox::new();
    for command in ["inspect", "measure"] {
        sandbox.error_says(&[command, "tinylama-1.1b"], &["tinylama-1.1b", "`tinyllama-1.1b`"]);
    }
    sandbox.error_says(&["models", "zzz"], &["zzz", "hint: "]);
}

#[test]
fn unknown_quantization_names_the_known_ones() {
    let sandbox = Sandbox::new();
    for command in ["inspect", "measure", "predict"] {
        let args = [command, "tinyllama-1.1b", "--quant", "Q9_Z"];
        sandbox.error_says(&args, &["Q9_Z", "Q4_K_M", "--quant"]);
    }
    sandbox.error_says(&["calibrate", "--quant", "Q8_0,Q9_Z"], &["Q9_Z", "Q4_K_M"]);
}

#[test]
fn quantizations_that_a_model_has_no_use_for() {
    let sandbox = Sandbox::new();
    for args in [
        &["inspect", "llama-3.2-1b", "--quant", "MXFP4"][..],
        &["synth", "llama-3.2-1b", "--quant", "mxfp4_moe", "--out", "m.gguf"],
        &["predict", "llama-3.2-1b", "--quant", "MXFP4"],
    ] {
        sandbox.error_says(args, &["llama-3.2-1b", "experts", "--quant Q8_0"]);
    }
    sandbox.error_says(&["inspect", "llama-3.2-1b", "--quant", ""], &["no quantization"]);
    let args = ["predict", "llama-3.2-1b", "--quant", "Q4_K_M,"];
    sandbox.error_says(&args, &["--quant", "behind the last", "Q4_K_M"]);
}

#[test]
fn addresses_of_the_hub_are_told_as_names() {
    let sandbox = Sandbox::new();
    let address = "https://huggingface.co/org/repo/blob/main/m-Q4_K_M.gguf";
    for command in ["inspect", "predict", "measure"] {
        sandbox
            .error_says(&[command, address], &[address, "hint: write hf:org/repo/m-Q4_K_M.gguf"]);
    }
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_the_numbers() {
    let shape = r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 65536,
        "intermediate_size": 262144, "num_hidden_layers": 400, "num_attention_heads": 512,
        "num_key_value_heads": 512, "vocab_size": 128000, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5}"#;
    let sandbox = Sandbox::new();
    let name = sandbox.file("huge/config.json", shape);
    sandbox.error_says(&["measure", &name, "--quant", "F32"], &["needs", "GiB", "available"]);
    sandbox.error_says(
        &["synth", &name, "--quant", "F32", "--out", "huge.gguf"],
        &["huge.gguf", "needs", "left"],
    );
    assert!(!sandbox.path("huge.gguf").exists());
}

#[test]
fn usage_errors_exit_with_2() {
    let sandbox = Sandbox::new();
    for args in [&["conquer"][..], &["measure"], &["inspect", "a", "b"], &["synth", "a"]] {
        sandbox.error_says(args, &["hint: "]);
    }
    sandbox.error_says(&["calibrat"], &["'calibrat'", "'calibrate'"]);
    // Without any word the program says what it can do.
    let run = sandbox.run(&[]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    assert!(run.stderr.contains("Usage:"), "{}", run.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Sandbox::new().command().arg("models").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: cannot write to standard output: No space"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_error() {
    use std::process::Stdio;
    let sandbox = Sandbox::new();
    let mut child = sandbox
        .command()
        .args(["inspect", "llama-3.1-8b", "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
