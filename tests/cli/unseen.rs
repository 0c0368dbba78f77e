//! Devices that nobody calibrated: the model of all devices, and its error on devices left out.

use serde_json::Value;

use crate::util::{Sandbox, has_fields};

const HEADER: &str = "runtime,device_id,backend,threads,model,params_b,quant,model_file_gib,phase,\
                      n_prompt,n_gen,n_depth,tokens_per_second\n";

/// Speeds of a card that no list has, and of one that the shipped model knows.
fn data() -> String {
    let mut text = HEADER.to_owned();
    for (device, speed) in [("my-card", 1.0), ("rtx-3090", 1.1)] {
        for (model, params, gib, tokens) in
            [("llama2-7b", 6.74, 3.56, 120.0), ("llama3.1-8b", 8.03, 4.58, 95.0)]
        {
            for depth in [0, 2048, 4096] {
                let speed = speed * tokens / (1.0 + f64::from(depth) / 20_000.0);
                text.push_str(&format!(
                    "llama.cpp,{device},cuda,,{model},{params},q4_0,{gib},decode,0,128,{depth},\
                     {speed:.2}\n"
                ));
            }
        }
    }
    text
}

const DEVICES: &str = "device_id,name,kind,peak_fp16_tflops,peak_fp32_tflops,mem_bandwidth_gbps,\
                       mem_gb,cores,isa,release_year\n\
                       my-card,A card,gpu,120,30,800,24,70 SM,sm_86,2021\n";

fn hold_out(sandbox: &Sandbox, more: &[&str]) -> Value {
    let data = sandbox.file("data.csv", data());
    let devices = sandbox.file("devices.csv", DEVICES);
    let args = ["validate", "--hold-out", "device", "--data", &data, "--devices", &devices];
    sandbox.good(&[&args[..], &["--format", "json"], more].concat()).json()
}

#[test]
fn devices_are_predicted_from_their_data_sheets_and_some_rows() {
    let report = hold_out(&Sandbox::new(), &[]);
    let groups = report["groups"].as_array().unwrap();
    let of = |group: &str, rows: u64| {
        groups.iter().find(|g| g["group"] == group && g["rows"] == rows).unwrap()
    };
    let blind = of("gpu/cuda", 0);
    has_fields(
        blind,
        &[
            "hold_out",
            "group",
            "rows",
            "phase",
            "n",
            "devices",
            "mdape",
            "mdape_by_device",
            "mape",
            "p90_ape",
            "max_ape",
            "bias",
            "within_10pct",
            "coverage",
            "interval_level",
            "noise_floor",
            "baselines",
        ],
    );
    assert_eq!((&blind["hold_out"], &blind["n"]), (&"device".into(), &12.into()));
    for name in ["roofline", "bytes_over_bandwidth", "edgeprofiler", "nearest_device_scaled"] {
        assert!(blind["baselines"][name]["mdape"].as_f64().is_some(), "{name}");
    }
    assert!(blind["mdape"].as_f64().unwrap() < 0.5, "{blind}");
    let (one, three) = (of("gpu/cuda", 1), of("gpu/cuda", 3));
    assert_eq!((&one["n"], &three["n"]), (&10.into(), &6.into()));
    assert!(three["mdape"].as_f64() < blind["mdape"].as_f64(), "{three}");
    let cases = report["cases"].as_array().unwrap();
    assert!(cases.iter().all(|case| case["hold_out"] == "device"));
    let first = &cases[0];
    has_fields(first, &["held_out", "rows", "observed_ms", "predicted_ms", "lower_ms", "upper_ms"]);
}

#[test]
fn an_unknown_device_is_never_predicted_by_its_neighbours_in_the_file() {
    let sandbox = Sandbox::new();
    let of_mine = |report: &Value| -> Vec<f64> {
        let cases = report["cases"].as_array().unwrap().iter();
        let mine = cases.filter(|case| case["held_out"] == "my-card" && case["rows"] == 0);
        mine.map(|case| case["predicted_ms"].as_f64().unwrap()).collect()
    };
    let both = of_mine(&hold_out(&sandbox, &[]));
    let alone: String = data()
        .lines()
        .filter(|l| !l.contains("rtx-3090"))
        .fold(String::new(), |text, line| text + line + "\n");
    let data = sandbox.file("alone.csv", alone);
    let args = ["validate", "--hold-out", "device", "--data", &data, "--devices", "devices.csv"];
    let report = sandbox.good(&[&args[..], &["--format", "json"]].concat()).json();
    assert_eq!(both, of_mine(&report));
}

#[test]
fn thresholds_and_tables_are_those_of_validate() {
    let sandbox = Sandbox::new();
    hold_out(&sandbox, &["--fail-above", "90%"]);
    let args = ["validate", "--hold-out", "device", "--data", "data.csv", "--devices"];
    let missed = sandbox.run(&[&args[..], &["devices.csv", "--fail-above", "0.01%"]].concat());
    assert_eq!(missed.code, 1, "{}", missed.stderr);
    for words in ["all devices, 1 row", "gpu/cuda, 3 rows", "EdgeProfiler"] {
        assert!(missed.stdout.contains(words), "no `{words}` in {}", missed.stdout);
    }
}

#[test]
fn each_error_states_kind_backend_engine_and_rows() {
    let report = hold_out(&Sandbox::new(), &[]);
    for list in ["groups", "engines"] {
        let group = report[list].as_array().unwrap().iter().find(|g| g["rows"] == 3).unwrap();
        let stated = ["kind", "backend", "engine"].map(|name| group[name].as_str().unwrap());
        assert_eq!(stated, ["gpu", "cuda", "llama.cpp"], "{list}");
    }
    let devices = report["devices"].as_array().unwrap();
    let mine = devices.iter().find(|device| device["device"] == "my-card").unwrap();
    assert_eq!(
        (&mine["n"], &mine["measured_rows"], &mine["sources"]),
        (&6.into(), &6.into(), &1.into())
    );
    assert_eq!(mine["spread"], Value::Null);
    assert!(mine["nearest"].is_string() && mine["distance"].as_f64().unwrap() >= 0.0, "{mine}");
    let case = &report["cases"][0];
    assert_eq!((&case["engine"], &case["threads"]), (&"llama.cpp".into(), &Value::Null));
}

#[test]
fn held_out_devices_have_a_page() {
    let sandbox = Sandbox::new();
    let report = hold_out(&sandbox, &["--report", "devices.html"]);
    let page = std::fs::read_to_string(sandbox.path("devices.html")).unwrap();
    for id in ["held-out", "by-kind", "by-rows", "device-scatter", "device-coverage", "data"] {
        assert!(page.contains(&format!("<section id=\"{id}\"")), "no section {id}");
    }
    for words in ["my-card", "gpu/cuda llama.cpp", "data.csv", "Every row was judged"] {
        assert!(page.contains(words), "no `{words}`");
    }
    assert!(!page.contains("<script") && !page.contains("id=\"machine\""));
    assert!(page.contains("On 2 devices that the model had never seen"));
    let mine = report["cases"].as_array().unwrap().iter().filter(|c| c["held_out"] == "my-card");
    assert!(mine.count() > 0);
}

#[test]
fn what_cannot_be_judged_is_said() {
    let sandbox = Sandbox::new();
    let device = ["validate", "--hold-out", "device"];
    let with = |more: &[&'static str]| [&device[..], more].concat();
    sandbox.error_says(&device, &["no measurements", "hint: give --data"]);
    let both = ["validate", "--hold-out", "device,model", "--data", "data.csv"];
    sandbox.error_says(&both, &["other files", "--hold-out device alone"]);
    sandbox.error_says(&["validate", "--devices", "x.csv"], &["--devices", "hold out devices"]);
    sandbox.file("notes.txt", "not a page");
    sandbox.error_says(&with(&["--report", "notes.txt"]), &["notes.txt", "no HTML page"]);
    sandbox
        .file("strange.csv", format!("{HEADER}llama.cpp,nobody,cuda,,m,7,q4_0,,decode,0,8,0,9\n"));
    sandbox.error_says(&with(&["--data", "strange.csv"]), &["`nobody` has no data sheet"]);
    sandbox
        .file("bad.csv", format!("{HEADER}llama.cpp,rtx-3090,cuda,,m,7,q4_0,,decode,0,8,0,-1\n"));
    sandbox.error_says(&with(&["--data", "bad.csv"]), &["bad.csv, line 2"]);
    sandbox.file("zero.csv", DEVICES.replace(",800,", ",0,"));
    let zero = with(&["--data", "strange.csv", "--devices", "zero.csv"]);
    sandbox.error_says(&zero, &["zero.csv", "mem_bandwidth_gbps"]);
    sandbox.file("calibration/cross-device.json", "{\"version\": 7}");
    sandbox.file("data.csv", data());
    sandbox.error_says(&with(&["--data", "data.csv"]), &["version 7", "fit-devices"]);
}

#[test]
fn a_model_is_fitted_by_one_command_and_used_from_then_on() {
    let sandbox = Sandbox::new();
    sandbox.file("calibration/.keep", "");
    let mut text = HEADER.to_owned();
    for (device, speed) in [("rtx-3090", 110.0), ("rtx-4090", 130.0), ("rtx-3070", 60.0)] {
        for (params, gib) in [(6.74, 3.56), (8.03, 4.58)] {
            let speed = speed * 4.0 / gib;
            text.push_str(&format!(
                "llama.cpp,{device},cuda,,m-{params},{params},q4_0,{gib},decode,0,128,0,{speed:.2}\n"
            ));
        }
    }
    sandbox.file("few.csv", text);
    let report = sandbox.good(&["fit-devices", "--data", "few.csv", "--format", "json"]).json();
    has_fields(&report, &["file", "rows_read", "rows_usable", "configurations", "domains"]);
    assert_eq!((&report["rows_usable"], &report["domains"][0]["devices"]), (&6.into(), &3.into()));
    let args = ["validate", "--hold-out", "device", "--data", "few.csv", "--format", "json"];
    let judged = sandbox.good(&args).json();
    let group = &judged["groups"][0];
    assert_eq!((&group["n"], &group["devices"]), (&6.into(), &3.into()));
    // Calibrations of single devices are looked for beside it.
    let predict = sandbox.run(&["predict", "llama-3.2-1b", "--quiet"]);
    assert!(!predict.stderr.contains("cross-device"), "{}", predict.stderr);
}

#[test]
fn devices_that_predict_refuses_are_not_judged() {
    let sandbox = Sandbox::new();
    sandbox.file("data.csv", data());
    sandbox.file("devices.csv", DEVICES.replace(",120,30,", ",,,"));
    let args =
        ["validate", "--hold-out", "device", "--data", "data.csv", "--devices", "devices.csv"];
    let report = sandbox.good(&[&args[..], &["--format", "json"]].concat()).json();
    let cases = report["cases"].as_array().unwrap();
    assert!(cases.iter().all(|case| case["held_out"] != "my-card"), "{cases:?}");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("`my-card` has too few figures"), "{warnings}");
    let predict = ["predict", "tinyllama-1.1b", "--device-spec", "devices.csv"];
    sandbox.error_says(&predict, &["`my-card` has too few figures"]);
}

#[test]
fn the_error_without_a_date_stands_beside() {
    let sandbox = Sandbox::new();
    let report = hold_out(&sandbox, &[]);
    let undated = report["undated"].as_array().unwrap();
    let of = |group: Option<&str>| {
        undated.iter().find(|e| e["group"].as_str() == group).unwrap()["mdape"].as_f64().unwrap()
    };
    assert!(of(None) > 0.0 && of(Some("gpu/cuda")) > 0.0);
    let args = ["validate", "--hold-out", "device", "--data", "data.csv", "--devices"];
    let text = sandbox.good(&[&args[..], &["devices.csv"]].concat()).stdout;
    assert!(text.contains("the date of the build not told"), "{text}");
}

#[test]
fn a_model_of_few_devices_is_told_and_replaces_none_of_many() {
    let sandbox = Sandbox::new();
    sandbox.file("calibration/.keep", "");
    sandbox.file("data.csv", data());
    sandbox.file("devices.csv", DEVICES);
    let args = ["fit-devices", "--data", "data.csv", "--devices", "devices.csv"];
    let run = sandbox.good(&args);
    assert!(run.stderr.contains("2 machines alone"), "{}", run.stderr);
    let one: String = data()
        .lines()
        .filter(|line| !line.contains("my-card"))
        .fold(String::new(), |text, line| text + line + "\n");
    sandbox.file("data.csv", one);
    sandbox.error_says(&args, &["is of 2 machines", "--force"]);
}
