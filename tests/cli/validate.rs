//! `validate`: the contract of the answer, the threshold, and data that cannot be used.

use serde_json::{Value, json};

use crate::util::{Sandbox, change, fixture, has_fields, read_fixture};

const ERRORS: &[&str] = &["n", "mdape", "mape", "p90_ape", "bias"];

#[test]
fn the_answer_keeps_the_contract() {
    let data = fixture("measurements.jsonl");
    let args = ["validate", "--data", &data, "--hold-out", "model", "--format", "json"];
    let answer = Sandbox::new().good(&args).json();
    has_fields(&answer, &["schema_version", "groups", "cases", "warnings"]);
    assert_eq!(answer["data"], json!([data]));
    let groups = answer["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2);
    for group in groups {
        assert_eq!(group["hold_out"], "model");
        has_fields(group, ERRORS);
        let more = ["group", "rows", "phase", "max_ape", "within_10pct", "coverage"];
        has_fields(group, &more);
        has_fields(group, &["interval_level", "noise_floor"]);
        let baselines = group["baselines"].as_object().unwrap();
        assert!(!baselines.is_empty());
        baselines.values().for_each(|baseline| has_fields(baseline, ERRORS));
    }
    for case in answer["cases"].as_array().unwrap() {
        has_fields(case, &["observed_ms", "predicted_ms", "lower_ms", "upper_ms", "baselines"]);
        let value = |name: &str| case[name].as_f64().unwrap();
        let error = value("predicted_ms") / value("observed_ms") - 1.0;
        assert!((value("error") - error).abs() < 1e-9);
    }
}

#[test]
fn a_missed_threshold_is_exit_code_1_with_the_answer() {
    let data = fixture("measurements.jsonl");
    let sandbox = Sandbox::new();
    let run = |limit| {
        let args = ["validate", "--data", &data, "--hold-out", "model", "--fail-above", limit];
        sandbox.run(&args)
    };
    let missed = run("0%");
    assert_eq!(missed.code, 1, "{}", missed.stderr);
    assert!(missed.stderr.contains("above 0 %: model prefill"), "{}", missed.stderr);
    assert!(!missed.stdout.is_empty());
    assert_eq!(run("100000%").code, 0);
    assert_eq!(run("ten").code, 2);
}

#[test]
fn a_file_given_twice_counts_once() {
    let data = fixture("measurements.jsonl");
    let sandbox = Sandbox::new();
    let run = |files: &[&str]| {
        let args = [&["validate", "--hold-out", "model", "--format", "json", "--data"], files];
        sandbox.good(&args.concat())
    };
    let (once, twice) = (run(&[&data]), run(&[&data, &data]));
    assert_eq!(once.json()["groups"], twice.json()["groups"]);
    assert!(twice.stderr.contains("repeated lines were left out"), "{}", twice.stderr);
}

/// The fixture with a change in its second line.
fn check(pointer: &str, value: Option<Value>, words: &[&str]) {
    let sandbox = Sandbox::new();
    let text = read_fixture("measurements.jsonl");
    let mut lines: Vec<Value> =
        text.lines().take(2).map(|line| serde_json::from_str(line).unwrap()).collect();
    change(&mut lines[1], pointer, value);
    let file = sandbox.file("bad.jsonl", format!("{}\n{}\n", lines[0], lines[1]));
    let args = ["validate", "--data", &file];
    sandbox.error_says(&args, &[&["bad.jsonl, line 2"][..], words].concat());
}

#[test]
fn data_of_another_version() {
    check("/schema_version", Some(json!(9)), &["field `schema_version` is 9"]);
}

#[test]
fn data_with_a_field_missing() {
    check("/device", None, &["missing field `device`"]);
    check("/workload/depth", None, &["missing field `depth`"]);
}

#[test]
fn data_with_what_is_no_number() {
    let field = "reference[0].stream_bytes_per_second";
    check("/reference/0/stream_bytes_per_second", Some(json!(null)), &[field]);
    check("/load_ns", Some(json!(null)), &["load_ns"]);
}

#[test]
fn data_of_another_engine() {
    check("/engine/name", Some(json!("ollama")), &["field `engine.name`", "ollama"]);
}

#[test]
fn data_with_a_shape_that_no_model_has() {
    check("/model/shape/n_layers", Some(json!(u32::MAX)), &["model.shape.n_layers", "4096"]);
}

#[test]
fn without_files_those_of_the_folder_are_read_but_no_proofs_and_no_interrupted_runs() {
    let sandbox = Sandbox::new();
    let args = ["validate", "--hold-out", "model", "--format", "json"];
    sandbox.error_says(&args, &["no measurements in", "foretoken calibrate"]);
    for name in ["a.partial.jsonl", "a.partial.old.jsonl", "a.proof.jsonl"] {
        sandbox.file(&format!("datasets/{name}"), "not even JSON");
    }
    sandbox.error_says(&args, &["no measurements in"]);
    sandbox.file("datasets/a.jsonl", read_fixture("measurements.jsonl"));
    assert_eq!(sandbox.good(&args).json()["data"], json!(["datasets/a.jsonl"]));
}

#[test]
fn forms_are_compared_and_the_used_one_is_named() {
    let data = fixture("measurements.jsonl");
    let args = ["validate", "--data", &data, "--compare-forms", "--format", "json"];
    let answer = Sandbox::new().good(&args).json();
    let forms = answer["forms"].as_array().unwrap();
    assert!(forms.iter().any(|form| form["form"] == answer["used"]));
    assert!(forms.iter().any(|form| form["form"] == "nested"));
    forms.iter().for_each(|form| has_fields(form, ERRORS));
}

/// The measurements with those of `model` as if it were one of the catalogue, measured apart.
fn with_another_model(model: &str) -> String {
    let lines = read_fixture("measurements.jsonl");
    let lines = lines.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        if line["model"]["name"] == model {
            change(&mut line, "/model/source", Some(json!({"kind": "preset", "id": model})));
            change(&mut line, "/session", Some(json!("measure")));
        }
        line.to_string() + "\n"
    });
    lines.collect()
}

#[test]
fn a_learning_curve_judges_every_part_of_a_calibration_by_the_same_models() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("data.jsonl", with_another_model("mini-1792-tiled"));
    let args = ["validate", "--learning-curve", "--data", &file];
    let answer = sandbox.good(&[&args[..], &["--format", "json"]].concat()).json();
    let rows = answer["budgets"].as_array().unwrap();
    let all = rows.iter().rfind(|row| row["phase"] == "decode").unwrap();
    // Seven other loads, and four workloads of the judged model.
    assert_eq!((&all["loads"], &all["judged"], &all["n"]), (&json!(7), &json!(4), &json!(4)));
    for row in rows {
        assert_eq!(row["judged"], 4);
        has_fields(row, &["session", "seconds", "mdape", "coverage", "interval_half_width"]);
    }
    assert!(sandbox.good(&args).stdout.contains("by time measured"));
}

#[test]
fn a_learning_curve_needs_a_calibration_and_another_model() {
    let sandbox = Sandbox::new();
    let refused = |data: &str| {
        let run = sandbox.run(&["validate", "--learning-curve", "--data", data]);
        assert_eq!(run.code, 2, "{}", run.stdout);
        run.stderr
    };
    assert!(refused(&fixture("measurements.jsonl")).contains("nothing to hold out by model"));
    let only = with_another_model("mini-1792-tiled");
    let only: String =
        only.split_inclusive('\n').filter(|line| line.contains("\"preset\"")).collect();
    let only = sandbox.file("only.jsonl", only);
    assert!(refused(&only).contains("no calibration in the data"));
}
