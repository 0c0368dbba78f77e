//! Devices to run on: which there are, and what is said of those that there are not. Holds for a
//! build with a GPU backend on a machine without its driver too.

use crate::util::{Sandbox, fixture, has_fields};

/// Every command that runs something, with all that it needs but a device.
fn runs() -> [Vec<String>; 3] {
    let model = fixture("config.json");
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    [
        words(&["measure", &model, "--prompt", "8", "--gen", "2"]),
        words(&["profile", &model, "--prompt", "8", "--gen", "2"]),
        words(&["calibrate", "--budget", "5s"]),
    ]
}

fn refused(device: &str, words: &[&str]) {
    let sandbox = Sandbox::new();
    for run in runs() {
        let mut args: Vec<&str> = run.iter().map(String::as_str).collect();
        args.extend(["--device", device]);
        sandbox.error_says(&args, words);
    }
    let left: Vec<_> = std::fs::read_dir(sandbox.path("")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_processor_is_listed_and_usable() {
    let sandbox = Sandbox::new();
    let here = sandbox.good(&["devices", "--here", "--format", "json"]).json();
    let rows = here.as_array().unwrap();
    for row in rows {
        has_fields(row, &["device", "backend", "built", "usable", "reason", "hint"]);
        assert!(row["usable"] == true || row["reason"].is_string(), "{row}");
    }
    assert_eq!((&rows[0]["device"], &rows[0]["usable"]), (&"cpu".into(), &true.into()));
    assert!(rows[0]["memory_bytes"].as_u64() > Some(0));
    assert!(rows.iter().any(|row| row["backend"] == "cuda"));
    let table = sandbox.good(&["devices", "--here"]).stdout;
    assert!(table.contains("--device") && table.contains("cpu"), "{table}");
    sandbox.error_says(&["devices", "--here", "--kind", "gpu"], &["--here"]);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_cuda_says_how_to_get_it() {
    for device in ["cuda", "cuda:1"] {
        refused(device, &["built without `cuda`", "hint: ", "--features cuda", "--device cpu"]);
    }
}

#[cfg(not(feature = "metal"))]
#[test]
fn a_build_without_metal_says_how_to_get_it() {
    let how = if cfg!(target_os = "macos") { "--features metal" } else { "on macOS only" };
    refused("metal", &["built without `metal`", "hint: ", how]);
}

#[cfg(feature = "cuda")]
#[test]
fn a_card_that_is_not_there_is_told_in_the_words_of_the_driver() {
    // No machine has so many.
    let run = Sandbox::new().run(&["measure", &fixture("config.json"), "--device", "cuda:99"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.starts_with("error: --device cuda"), "{}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    assert!(run.stderr.contains("hint: "), "{}", run.stderr);
}

#[test]
fn words_that_are_no_device_are_refused() {
    refused("abacus", &["unknown device `abacus`", "known: cpu, cuda[:N], metal", "--here"]);
    refused("cuda:x", &["unknown device `cuda:x`", "hint: "]);
}

#[test]
fn a_model_is_not_split_over_devices() {
    refused("cuda:0,1", &["cuda:0,1", "one device", "hint: "]);
    refused("cuda:0,cpu", &["one device"]);
}

#[test]
fn predictions_for_a_gpu_need_its_calibration() {
    let sandbox = Sandbox::new();
    let predict = ["predict", "tinyllama-1.1b", "--backend"];
    let of = |backend| [&predict[..], &[backend]].concat();
    sandbox.error_says(&of("vulkan"), &["which calibration of it is not told", "--calibration"]);
    if cfg!(not(feature = "metal")) {
        sandbox.error_says(&of("metal"), &["built without `metal`", "--calibration"]);
    }
}
