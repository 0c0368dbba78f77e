//! `synth`: the written file is what `inspect` says it is.

use crate::util::{Sandbox, fixture};

#[test]
fn the_file_agrees_with_the_model_that_it_was_made_of() {
    for quant in ["F32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0"] {
        let sandbox = Sandbox::new();
        let model = fixture("config.json");
        let run = sandbox.good(&["synth", &model, "--quant", quant, "--out", "tiny.gguf"]);
        assert_eq!(run.stdout, "");
        let inspect = |args: &[&str]| {
            let args = [&["inspect", "--quiet", "--format", "json"], args].concat();
            sandbox.good(&args).json()
        };
        let planned = inspect(&[&model, "--quant", quant]);
        let written = inspect(&["tiny.gguf"]);
        for field in ["tensors", "parameters", "weight_bytes", "file_bytes", "ops"] {
            assert_eq!(planned[field], written[field], "{field} of {quant}");
        }
        assert_eq!(written["model"]["quant"], quant);
        let size = std::fs::metadata(sandbox.path("tiny.gguf")).unwrap().len();
        assert_eq!(written["file_bytes"], size);
    }
}

#[test]
fn the_end_of_a_file_name_may_be_in_capitals() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    sandbox.good(&["synth", &model, "--quant", "Q8_0", "--out", "ONE.GGUF"]);
    // Of a file only the shape is taken.
    sandbox.good(&["synth", "ONE.GGUF", "--quant", "Q4_0", "--out", "TWO.GGUF"]);
    let args = ["inspect", "TWO.GGUF", "--quant", "Q4_0", "--format", "json", "--quiet"];
    assert_eq!(sandbox.good(&args).json()["model"]["quant"], "Q4_0");
}

#[test]
fn a_missing_folder_is_made_and_named() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    let synth = |out: &str| sandbox.good(&["synth", &model, "--quant", "Q4_0", "--out", out]);
    assert!(synth("new/deep/a.gguf").stderr.contains("made the folder new/deep\n"));
    assert!(!synth("new/deep/b.gguf").stderr.contains("made the folder"));
}

#[test]
fn few_bits_are_written_for_other_engines() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    for quant in ["IQ2_XS", "IQ3_M", "TQ1_0"] {
        sandbox.good(&["synth", &model, "--quant", quant, "--out", "m.gguf", "--force"]);
        let report = sandbox.good(&["inspect", "m.gguf", "--format", "json", "--quiet"]).json();
        assert_eq!(report["model"]["quant"], quant);
        sandbox.error_says(&["measure", "m.gguf"], &["candle cannot load"]);
    }
}

#[test]
fn a_file_is_replaced_only_by_force() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    let out = sandbox.file("precious.gguf", "mine");
    let args = ["synth", &model, "--quant", "Q4_0", "--out", &out];
    sandbox.error_says(&args, &["precious.gguf exists", "hint: ", "--force"]);
    assert_eq!(std::fs::read(sandbox.path(&out)).unwrap(), b"mine");
    sandbox.good(&[&args[..], &["--force"]].concat());
}

#[cfg(target_os = "linux")]
#[test]
fn unwritable_places_and_full_disks() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    for (out, word) in [("/dev/full", "No space left"), ("/proc/absent/x.gguf", "cannot write")] {
        sandbox.error_says(&["synth", &model, "--quant", "Q4_0", "--out", out], &[out, word]);
    }
}
