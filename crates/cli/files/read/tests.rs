use super::*;
use serde_json::{Value, json};

fn line() -> Value {
    json!({
        "schema_version": 1,
        "tool": {"version": "0.1.0", "profile": "release", "target": "t", "target_features": ""},
        "time": "2026-01-01T00:00:00Z", "session": "s", "sequence": 0, "load": 0,
        "device": {"id": "d", "backend": "cpu", "name": "n", "arch": "x86_64", "isa": [],
            "physical_cores": 2, "logical_cores": 2, "l3_bytes": null, "memory_bytes": 1,
            "os": "Linux", "hypervisor": null},
        "engine": {"name": "candle", "version": "0.11.1"}, "threads": 2,
        "model": {"name": "m", "family": "f", "quant": "Q4_0", "source": {"kind": "mini"},
            "parameters": 1, "weight_bytes": 1,
            "shape": {"architecture": "llama", "n_layers": 1, "hidden_size": 64, "n_heads": 1,
                "n_kv_heads": 1, "head_dim": 64, "intermediate_size": 64, "vocab_size": 64,
                "context_length": 64, "tied_embeddings": false, "rope_freq_base": 1.0,
                "rms_norm_eps": 1e-5},
            "types": {}},
        "workload": {"prompt_tokens": 8, "generated_tokens": 0, "depth": 0},
        "load_ns": 1, "warmup": [],
        "prefill": [{"n_tokens": 8, "kv_len": 0, "forward_ns": 5, "logits_copy_ns": 1,
            "softmax_ns": 1, "sampling_ns": 1, "probed": false, "preempted": false}],
        "decode": [], "kernels": [],
        "memory": {"rss_before_bytes": null, "rss_loaded_bytes": null, "peak_rss_bytes": null,
            "available_bytes": null},
        "environment": {},
        "reference": [{"stream_bytes_per_second": 1e9, "matmul_flop_per_second": 1e9}],
        "warnings": []
    })
}

fn read(text: &str) -> anyhow::Result<Dataset> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    fs::write(&path, text).unwrap();
    read_measurements(&path)
}

/// The message for a second line with `pointer` replaced.
fn problem(pointer: &str, value: Value) -> String {
    let mut bad = line();
    *bad.pointer_mut(pointer).unwrap() = value;
    let error = read(&format!("{}\n{bad}\n", line())).unwrap_err();
    let message = format!("{error:#}");
    assert!(message.contains("data.jsonl, line 2"), "{message}");
    message
}

#[test]
fn a_good_file_is_read() {
    let dataset = read(&format!("{}\n\n{}\n", line(), line())).unwrap();
    assert_eq!(dataset.measurements.len(), 2);
    assert!(dataset.warnings.is_empty());
}

#[test]
fn errors_name_file_line_and_field() {
    let cases = [
        ("/schema_version", json!(7), "field `schema_version` is 7"),
        ("/workload/depth", json!(-1), "field `workload.depth`"),
        ("/prefill/0/forward_ns", json!(-5), "field `prefill[0].forward_ns`"),
        ("/prefill/0/forward_ns", json!(0), "field `prefill[0]`"),
        ("/prefill/0/forward_ns", json!(null), "field `prefill[0].forward_ns`"),
        ("/reference/0/stream_bytes_per_second", json!(-1.0), "stream_bytes_per_second"),
        ("/reference/0/stream_bytes_per_second", json!(null), "stream_bytes_per_second"),
        ("/device/backend", json!("tpu"), "field `device.backend`"),
        ("/engine/name", json!("ollama"), "field `engine.name` is \"ollama\""),
        ("/threads", json!(0), "field `threads`"),
        ("/workload/depth", json!(u32::MAX), "absurd"),
        ("/model/shape/n_layers", json!(u32::MAX), "field `model.shape.n_layers`"),
        ("/model/shape/n_layers", json!(0), "between 1 and 4096"),
        ("/model/shape/n_kv_heads", json!(0), "field `model.shape.n_kv_heads`"),
    ];
    for (pointer, value, expected) in cases {
        let message = problem(pointer, value);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_missing_field_is_named() {
    for field in ["schema_version", "model", "prefill"] {
        let mut bad = line();
        bad.as_object_mut().unwrap().remove(field);
        let message = format!("{:#}", read(&format!("{bad}\n")).unwrap_err());
        assert!(message.contains(&format!("missing field `{field}`")), "{message}");
    }
}

#[test]
fn nan_and_infinity_are_refused() {
    for literal in ["NaN", "inf", "1e999", "-Infinity"] {
        let text = line().to_string().replacen("1000000000.0", literal, 1);
        assert!(text.contains(literal));
        let message = format!("{:#}", read(&format!("{text}\n")).unwrap_err());
        assert!(message.contains("line 1"), "{message}");
    }
}

#[test]
fn an_unfinished_last_line_is_left_out() {
    let dataset = read(&format!("{}\n{{\"schema_ver", line())).unwrap();
    assert_eq!(dataset.measurements.len(), 1);
    assert_eq!(dataset.warnings.len(), 1);
}

#[test]
fn nothing_to_read_is_an_error() {
    assert!(read("").is_err());
    let empty = tempfile::NamedTempFile::new().unwrap();
    assert!(read_lines(empty.path()).unwrap().measurements.is_empty());
    assert!(read_measurements(Path::new("absent.jsonl")).is_err());
}

#[test]
fn another_backend_is_refused_with_both_names() {
    let error =
        require_backend(Path::new("c.json"), Backend::Cuda, Some(DeviceBackend::Cpu)).unwrap_err();
    assert!(error.to_string().contains("is cuda, but cpu"), "{error}");
}

#[test]
fn the_hash_is_fnv1a() {
    // http://www.isthe.com/chongo/tech/comp/fnv: the offset basis, and "a".
    assert_eq!(fnv1a(b""), "cbf29ce484222325");
    assert_eq!(fnv1a(b"a"), "af63dc4c8601ec8c");
}
