//! Calibrations that cannot be used: each a clear error that names the file, exit code 2.

use serde_json::{Value, json};

use crate::util::{Sandbox, read_fixture};

fn check(pointer: &str, value: Option<Value>, words: &[&str]) {
    let sandbox = Sandbox::new();
    let file = sandbox.changed("calibration.json", pointer, value);
    // A path of one part would be an id.
    let path = format!("./{file}");
    let args = ["predict", "tinyllama-1.1b", "--quant", "Q8_0", "--calibration", &path];
    sandbox.error_says(&args, &[&["calibration.json"][..], words].concat());
}

#[test]
fn of_another_version() {
    check("/schema_version", Some(json!(9)), &["field `schema_version` is 9", "hint: "]);
}

#[test]
fn with_a_field_missing() {
    for field in ["schema_version", "device", "terms", "ceilings", "threads"] {
        let missing = format!("missing field `{field}`");
        check(&format!("/{field}"), None, &[&missing]);
    }
}

#[test]
fn with_what_is_no_number() {
    // JSON has no NaN: serialisers write `null`.
    for (pointer, field) in [
        ("/terms/0/features/0/coefficient", "terms[0].features[0].coefficient"),
        ("/corrections/0/scale", "corrections[0].scale"),
        ("/ceilings/stream_bytes_per_second", "ceilings.stream_bytes_per_second"),
    ] {
        check(pointer, Some(json!(null)), &[field]);
        check(pointer, Some(json!(-1.0)), &[field]);
    }
    let sandbox = Sandbox::new();
    let text =
        read_fixture("calibration.json").replacen("\"scale\": ", "\"scale\": NaN, \"x\": ", 1);
    let file = sandbox.file("nan.json", text);
    sandbox.error_says(&["predict", "tinyllama-1.1b", "--calibration", &file], &["nan.json"]);
}

#[test]
fn whose_numbers_no_machine_has() {
    check("/intervals/0/level", Some(json!(90)), &["intervals[0].level", "between 0 and 1"]);
    check("/intervals/1/half_width", Some(json!(1e300)), &["gives no finite time", "hint: "]);
    check("/corrections/1/scale", Some(json!(1e308)), &["gives no finite time"]);
}

#[test]
fn that_nothing_was_held_out_from_are_told_apart() {
    let sandbox = Sandbox::new();
    let file = sandbox.changed("calibration.json", "/held_out/n_groups", Some(json!(0)));
    let path = format!("./{file}");
    let run =
        sandbox.good(&["predict", "tinyllama-1.1b", "--quant", "Q8_0", "--calibration", &path]);
    assert!(run.stderr.contains("not checked on held-out models"), "{}", run.stderr);
}

#[test]
fn of_another_backend() {
    let sandbox = Sandbox::new();
    let file = sandbox.changed("calibration.json", "/device/backend", Some(json!("cuda")));
    let path = format!("./{file}");
    let args = ["predict", "tinyllama-1.1b", "--quant", "Q8_0", "--backend", "cpu"];
    let words = ["calibration.json", "is cuda, but cpu", "hint: ask for --backend cuda"];
    sandbox.error_says(&[&args[..], &["--calibration", &path]].concat(), &words);
}

#[test]
fn of_kernels_that_this_version_does_not_know() {
    check("/terms/0/class", Some(json!("matmul.q1_z.magic.one_row")), &["q1_z"]);
}

#[test]
fn unknown_id_suggests_the_nearest() {
    let sandbox = Sandbox::new();
    let predict = |id| ["predict", "tinyllama-1.1b", "--calibration", id];
    sandbox.error_says(&predict("fixture"), &["no calibration `fixture`", "foretoken calibrate"]);
    sandbox.file("home/calibration/fixture.json", read_fixture("calibration.json"));
    sandbox.error_says(&predict("fixtrue"), &["no calibration `fixtrue`", "`fixture`"]);
    sandbox.error_says(&predict("absent/x.json"), &["absent/x.json"]);
}
