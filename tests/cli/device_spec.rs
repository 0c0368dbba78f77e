//! `predict --device-spec`: devices that nothing was run on.

use serde_json::{Value, json};

use crate::util::{Sandbox, has_fields};

fn predicted(sandbox: &Sandbox, more: &[&str]) -> Value {
    sandbox.good(&[&["predict", "--format", "json", "--quiet"], more].concat()).json()
}

#[test]
fn a_data_sheet_is_enough() {
    let sandbox = Sandbox::new();
    let answer = predicted(&sandbox, &["llama-3.2-1b", "--device-spec", "raspberry-pi-5-8gb"]);
    assert_eq!(answer["device"]["id"], "raspberry-pi-5-8gb");
    assert_eq!(answer["device"]["backend"], "cpu");
    assert_eq!(answer["device"]["threads"], 4);
    assert!(answer["device"]["engine"].as_str().unwrap().starts_with("llama.cpp"));
    for name in ["prefill_ms", "decode_ms", "ttft_ms", "tpot_ms", "e2e_ms", "load_cold_ms"] {
        let value = |part: &str| answer[name][part].as_f64().unwrap();
        assert!(0.0 < value("lower") && value("lower") < value("point"), "{name}");
        assert!(value("point") < value("upper"), "{name}");
    }
    assert_eq!(answer["memory"]["fits"], true);
    assert!(answer["energy_j"]["source"].as_str().unwrap().contains("catalogue"));
    has_fields(&answer["baselines"]["edgeprofiler"], &["decode_ms"]);
    // Time is shared out among the operations.
    let of = |phase: &str| -> f64 {
        let ops = answer["ops"].as_array().unwrap().iter();
        ops.filter(|op| op["phase"] == phase).map(|op| op["ms"].as_f64().unwrap()).sum()
    };
    assert!((of("decode") / answer["decode_ms"]["point"].as_f64().unwrap() - 1.0).abs() < 1e-9);
}

#[test]
fn models_quantizations_and_devices_make_a_table() {
    let sandbox = Sandbox::new();
    let args = [
        "tinyllama-1.1b",
        "gemma-3-1b",
        "--quant",
        "F16,Q4_K_M",
        "--device-spec",
        "raspberry-pi-4-8gb,jetson-orin-nano-super-8gb",
    ];
    let answers = predicted(&sandbox, &args);
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 8);
    assert_eq!(answers[4]["device"]["backend"], "cuda");
    let table = sandbox.good(&[&["predict"][..], &args].concat()).stdout;
    assert!(table.contains("raspberry-pi-4-8gb, 4 threads"), "{table}");
    assert!(table.contains("jetson-orin-nano-super-8gb, cuda"), "{table}");
    // Rules are as wide as their tables.
    let rules = table.lines().filter(|line| line.starts_with('─'));
    assert!(rules.map(|rule| rule.chars().count()).max() <= Some(100), "{table}");
    for device in ["raspberry-pi-4-8gb (4 threads)", "jetson-orin-nano-super-8gb (cuda)"] {
        assert!(table.contains(device), "{table}");
    }
}

#[test]
fn nobody_knows_how_much_of_a_data_sheets_memory_is_free() {
    let sandbox = Sandbox::new();
    let args = ["llama-3.2-1b", "--device-spec"];
    for (device, words) in [
        ("raspberry-pi-5-8gb", "Fits: the device has 8.00 GiB of memory, nothing else counted"),
        ("rtx-3090", "Fits: the device has 24.0 GiB of device memory, nothing else counted"),
    ] {
        let card = sandbox.good(&[&["predict"][..], &args, &[device]].concat()).stdout;
        assert!(card.contains(words) && !card.contains("are free"), "{card}");
        let answer = predicted(&sandbox, &[&args[..], &[device]].concat());
        assert_eq!(answer["memory"]["available_is"], "installed");
    }
}

#[test]
fn a_sheet_of_ones_own() {
    let sandbox = Sandbox::new();
    let sheet = |name: &str, more: &str| {
        let text = format!(
            "device_id = \"board\"\nname = \"A board\"\nkind = \"soc\"\nbackends = [\"cpu\"]\n{more}"
        );
        sandbox.file(name, text)
    };
    let good = sheet(
        "good.toml",
        "mem_bandwidth_gbps = 25.6\ncores = \"4x Cortex-A76 2.0GHz\"\npeak_fp32_tflops = 0.128\n",
    );
    let answer = predicted(&sandbox, &["tinyllama-1.1b", "--device-spec", &good]);
    assert_eq!(answer["device"]["id"], "board");
    assert_eq!(answer["memory"]["fits"], Value::Null);
    let refused = |file: &str, words: &[&str]| {
        sandbox.error_says(&["predict", "tinyllama-1.1b", "--device-spec", file], words);
    };
    refused(&sheet("few.toml", ""), &["mem_bandwidth_gbps", "hint"]);
    refused(&sheet("none.toml", "mem_bandwidth_gbps = 0\n"), &["mem_bandwidth_gbps"]);
    refused("nosuchdevice", &["nosuchdevice", "foretoken devices"]);
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let sandbox = Sandbox::new();
    let refused = |more: &[&str], words: &[&str]| {
        let args = ["predict", "tinyllama-1.1b", "--device-spec", "raspberry-pi-5-8gb"];
        sandbox.error_says(&[&args[..], more].concat(), words);
    };
    refused(&["--backend", "cuda"], &["does not run cuda", "--backend cpu"]);
    refused(&["--engine", "abacus"], &["abacus", "cpu"]);
    refused(&["--calibration", "x"], &["--calibration"]);
    refused(&["--observe", "nosuchfile.csv"], &["nosuchfile.csv"]);
    sandbox.error_says(&["predict", "tinyllama-1.1b", "--observe", "x.csv"], &["--device-spec"]);
}

#[test]
fn a_model_that_does_not_fit_is_said_not_to_run() {
    let answer =
        predicted(&Sandbox::new(), &["llama-3.1-70b", "--device-spec", "raspberry-pi-5-8gb"]);
    assert_eq!(answer["memory"]["verdict"], "does_not_fit");
    assert!(answer["cannot_run"].as_str().unwrap().contains("GiB"));
}

#[test]
fn observed_rows_narrow_the_interval() {
    let sandbox = Sandbox::new();
    let header = "runtime,device_id,backend,threads,model,params_b,quant,model_file_gib,phase,n_prompt,n_gen,n_depth,tokens_per_second";
    let file = sandbox.file(
        "seen.csv",
        format!(
            "{header}\n\
             llama.cpp,mine,cpu,4,llama3-8b,8.03,Q4_K_M,4.58,decode,0,128,0,2.0\n\
             llama.cpp,mine,cpu,4,tinyllama-1.1b,1.1,Q4_K_M,0.62,decode,0,128,0,13.0\n"
        ),
    );
    let args = ["llama-3.2-3b", "--device-spec", "radxa-rock-5c", "--prompt", "0"];
    let width = |answer: &Value| {
        let value = |part: &str| answer["decode_ms"][part].as_f64().unwrap();
        (value("upper") / value("lower")).ln()
    };
    let blind = predicted(&sandbox, &args);
    let seen = predicted(&sandbox, &[&args[..], &["--observe", &file]].concat());
    assert!(width(&seen) < 0.8 * width(&blind), "{} {}", width(&seen), width(&blind));
    assert_eq!(seen["basis"]["tier"], json!("same_device_class"));
}
