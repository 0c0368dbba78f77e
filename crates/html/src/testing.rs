//! Hand-made data for the tests.

use std::collections::BTreeMap;

use foretoken_spec::{
    CalibrateReport, Calibration, DeviceError, HoldOut, Measurement, Phase, ValidationCase,
    ValidationReport,
};
use serde_json::{Value, json};

const LINES: &str = include_str!("../../../tests/fixtures/measurements.jsonl");
const CALIBRATION: &str = include_str!("../../../tests/fixtures/calibration.json");

/// The first line of the fixture as one load, with decode steps of this length.
pub(crate) fn measurement(load: u32, decode_ms: f64) -> Measurement {
    let mut line: Measurement = serde_json::from_str(LINES.lines().next().unwrap()).unwrap();
    line.load = load;
    line.sequence = load;
    for sample in &mut line.decode {
        sample.forward_ns = (decode_ms * 1e6) as u64;
        (sample.probed, sample.preempted) = (false, false);
    }
    line.reference.resize(2, line.reference[0]);
    line
}

/// A decode step of a held-out model, observed at 100 ms.
pub(crate) fn case(error: f64) -> ValidationCase {
    let predicted_ms = 100.0 * (1.0 + error);
    serde_json::from_value(json!({
        "hold_out": "model", "held_out": "tinyllama-1.1b",
        "model": "tinyllama-1.1b", "quant": "Q4_K_M", "phase": "decode",
        "n_tokens": 1, "kv_len": 144, "loads": 3,
        "observed_ms": 100.0, "predicted_ms": predicted_ms,
        "lower_ms": 0.9 * predicted_ms, "upper_ms": 1.1 * predicted_ms,
        "error": error, "noise": 0.01, "tier": "same_quantization", "extrapolation": [],
        "reason": "one kernel is slow", "baselines": { "roofline": 70.0 },
    }))
    .unwrap()
}

fn group(hold_out: HoldOut, phase: Phase) -> Value {
    json!({
        "hold_out": hold_out, "group": null, "rows": 0, "phase": phase, "n": 3,
        "mdape": 0.05, "mape": 0.06, "p90_ape": 0.2, "max_ape": 0.3, "bias": 0.01,
        "within_10pct": 0.8, "coverage": 0.9, "interval_level": 0.9,
        "interval_half_width": 0.1, "noise_floor": 0.02,
        "baselines": {
            "roofline": { "n": 3, "mdape": 0.3, "mape": 0.3, "p90_ape": 0.4, "bias": -0.3 },
            "edgeprofiler": { "n": 2, "mdape": 0.1, "mape": 0.3, "p90_ape": 0.4, "bias": -0.3 },
        },
    })
}

fn metric(hold_out: Option<HoldOut>, name: &str) -> Value {
    json!({
        "hold_out": hold_out, "group": null, "metric": name, "n": 3, "mdape": 0.05, "mape": 0.06,
        "p90_ape": 0.2, "max_ape": 0.3, "bias": 0.01, "within_10pct": 0.8, "noise_floor": 0.02,
    })
}

/// Two hold-outs of decode.
pub(crate) fn validation() -> ValidationReport {
    let hold_outs = [HoldOut::Model, HoldOut::Quant];
    let cases: Vec<ValidationCase> = hold_outs
        .into_iter()
        .flat_map(|hold_out| {
            [0.05, -0.03, 0.4].map(|error| ValidationCase { hold_out, ..case(error) })
        })
        .collect();
    serde_json::from_value(json!({
        "schema_version": 1, "data": ["datasets/a.jsonl"], "device": "cpu",
        "groups": hold_outs.map(|hold_out| group(hold_out, Phase::Decode)),
        "metrics": [
            metric(Some(HoldOut::Model), "ttft"),
            metric(Some(HoldOut::Quant), "kernel"),
            metric(None, "peak_memory"),
        ],
        "cases": cases, "warnings": ["mind the gap"],
    }))
    .unwrap()
}

/// A device that is off by 40 %, for no reason that its data tell.
pub(crate) fn device_error() -> DeviceError {
    DeviceError {
        device: "rtx-4090".into(),
        kind: "gpu".into(),
        backend: "cuda".into(),
        engine: "llama.cpp".into(),
        phase: Phase::Decode,
        n: 9,
        measured_rows: 12,
        sources: 2,
        mdape: 0.4,
        bias: 0.1,
        coverage: 0.9,
        noise_floor: Some(0.01),
        spread: None,
        nearest: Some("rtx-3090".into()),
        distance: Some(0.1),
    }
}

/// Held-out cards in decode, from the data sheet alone and with three rows.
pub(crate) fn devices() -> ValidationReport {
    let of = |group: Value, engine: Value, rows: u32, mdape: f64| {
        let mut error = self::group(HoldOut::Device, Phase::Decode);
        error["group"] = group;
        error["kind"] = json!("gpu");
        error["backend"] = json!("cuda");
        error["engine"] = engine;
        error["rows"] = json!(rows);
        error["mdape"] = json!(mdape);
        error["devices"] = json!(2);
        error
    };
    let cases = [0.2, -0.3, 0.6].map(|error| ValidationCase {
        hold_out: HoldOut::Device,
        group: Some("gpu/cuda".into()),
        held_out: "rtx-4090".into(),
        engine: Some("llama.cpp".into()),
        ..case(error)
    });
    let spread = DeviceError { spread: Some(1.7), ..device_error() };
    serde_json::from_value(json!({
        "schema_version": 1, "data": ["public.csv"], "device": "2 machines, each left out",
        "groups": [
            of(Value::Null, Value::Null, 0, 0.2), of(Value::Null, Value::Null, 3, 0.05),
            of(json!("gpu/cuda"), Value::Null, 0, 0.2), of(json!("gpu/cuda"), Value::Null, 3, 0.05),
        ],
        "metrics": [],
        "engines": [of(json!("gpu/cuda"), json!("llama.cpp"), 0, 0.2)],
        "devices": [device_error(), spread],
        "undated": [{
            "group": null, "phase": "decode", "n": 9, "mdape": 0.37, "bias": -0.17,
            "coverage": 0.8, "mdape_dated": 0.2, "bias_dated": 0.01,
        }],
        "cases": cases,
        "left_out": [{ "reason": "marked as broken", "rows": 7 }],
        "warnings": ["no prediction for abacus"],
    }))
    .unwrap()
}

/// The calibration of the fixture.
pub(crate) fn calibration() -> Calibration {
    serde_json::from_str(CALIBRATION).unwrap()
}

/// An answer of `calibrate` about the calibration of the fixture.
pub(crate) fn calibrate() -> CalibrateReport {
    let calibration = calibration();
    let proof_case = |phase: Phase, error: f64| {
        json!({
            "phase": phase, "prompt_tokens": 128, "kv_len": 0, "observed_ms": 100.0,
            "predicted_ms": 100.0 * (1.0 + error), "lower_ms": 90.0, "upper_ms": 120.0,
            "error": error,
        })
    };
    let cases = [proof_case(Phase::Prefill, 0.02), proof_case(Phase::Decode, -0.3)];
    let proof: BTreeMap<&str, Value> = BTreeMap::from([
        ("model", json!("smollm2-135m")),
        ("quant", json!("Q4_K_M")),
        ("loads", json!(2)),
        ("cases", json!(cases)),
    ]);
    serde_json::from_value(json!({
        "schema_version": 1,
        "calibration": {
            "id": calibration.id, "file": "calibration/x.json", "device": calibration.device.id,
            "engine": "candle 0.11.1", "threads": calibration.threads,
        },
        "fit": {
            "observations": 100, "forms": calibration.terms, "held_out": calibration.held_out,
        },
        "design": [{
            "sequence": 0, "model": "mini-768", "workloads": ["32@0"], "seconds": 2.0,
            "expected_error_before": 0.8, "expected_error_after": 0.2, "class": "matmul.q4_k",
        }],
        "proof": proof, "noise_floor": 0.02, "seconds": 100.0, "dataset": "datasets/x.jsonl",
        "warnings": [],
    }))
    .unwrap()
}
