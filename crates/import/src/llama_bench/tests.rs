use foretoken_spec::SpeedPhase;
use serde_json::json;

use super::*;

fn origin() -> Origin {
    Origin { device_id: Some("box".into()), ..Origin::default() }
}

fn read(text: &str) -> Speeds {
    read_llama_bench(text, &origin())
}

/// A row of 2025, with changes; `null` takes a field away.
fn row_of(changes: Value) -> Result<SpeedRow, String> {
    let mut fields = json!({
        "build_commit": "4fc4ec554", "build_number": 5163, "cpu_info": "CPU", "gpu_info": "RTX",
        "backends": "CUDA", "model_filename": "m/Qwen2.5-7B-Instruct-Q4_K_M.gguf",
        "model_type": "qwen2 7B Q4_K - Medium", "model_size": 4683073536u64,
        "model_n_params": 7615616512u64, "n_batch": 2048, "n_ubatch": 512, "n_threads": 8,
        "cpu_mask": "0x0", "cpu_strict": false, "poll": 50, "type_k": "f16", "type_v": "f16",
        "n_gpu_layers": 99, "split_mode": "layer", "main_gpu": 0, "no_kv_offload": false,
        "flash_attn": false, "tensor_split": "0.00", "use_mmap": true, "embeddings": false,
        "n_prompt": 0, "n_gen": 128, "n_depth": 4096, "test_time": "2025-04-24T11:57:09Z",
        "avg_ns": 1280000000u64, "stddev_ns": 100, "avg_ts": 100.0, "stddev_ts": 0.5,
    });
    for (name, value) in changes.as_object().unwrap() {
        fields[name] = value.clone();
    }
    let mut speeds = read(&fields.to_string());
    match speeds.rows.pop() {
        Some((_, row)) => Ok(row),
        None => Err(speeds.problems.remove(0).reason),
    }
}

#[test]
fn a_row_keeps_engine_build_backend_threads_and_options() {
    let row = row_of(json!({})).unwrap();
    assert_eq!((row.runtime.as_str(), row.backend.as_str()), ("llama.cpp", "cuda"));
    assert_eq!(row.runtime_version.as_deref(), Some("b5163 (4fc4ec554)"));
    assert_eq!((row.model.as_str(), row.quant.as_str()), ("qwen2.5-7b-instruct", "Q4_K_M"));
    assert_eq!((row.arch.as_deref(), row.threads), (Some("qwen2"), Some(8)));
    assert_eq!((row.model_bytes, row.model_params), (Some(4_683_073_536), Some(7_615_616_512)));
    assert_eq!(row.params_b, Some(7.615616512));
    assert!((row.model_file_gib.unwrap() - 4.3614).abs() < 1e-4);
    assert_eq!((row.phase, row.batch.as_deref()), (SpeedPhase::Decode, Some("ub512")));
    // d + n_gen / 2, and 1.28 s for 128 tokens.
    assert_eq!((row.kv_len, row.ms), (Some(4160.0), Some(10.0)));
    assert_eq!((row.flash_attn, row.source_date.as_deref()), (Some(0), Some("2025-04-24")));
    let details = row.llama_bench.as_deref().unwrap();
    assert_eq!(details.other["use_mmap"], json!(1));
    assert_eq!(details.other["tensor_split"], json!("0.00"));
    assert_eq!((row.excluded, row.flags), (None, vec![]));
}

#[test]
fn flash_attention_was_a_truth_and_is_a_number() {
    for (value, expected) in [
        (json!(true), Some(1)),
        (json!(false), Some(0)),
        (json!("1"), Some(1)),
        (json!(-1), Some(-1)),
        (json!("auto"), Some(-1)),
        (json!(null), None),
    ] {
        assert_eq!(row_of(json!({"flash_attn": value})).unwrap().flash_attn, expected);
    }
    assert!(row_of(json!({"flash_attn": 7})).unwrap_err().contains("`flash_attn` is `7`"));
}

#[test]
fn generations_differ_in_how_they_tell_the_backend() {
    // 2024: one truth per backend.
    let old = json!({"backends": null, "cuda": false, "metal": true, "blas": true});
    assert_eq!(row_of(old).unwrap().backend, "metal");
    let old =
        json!({"backends": null, "cuda": false, "metal": false, "blas": true, "gpu_blas": false});
    assert_eq!(row_of(old).unwrap().backend, "cpu");
    // Devices tell more than what was built in.
    let both = json!({"backends": "CUDA,Vulkan", "devices": "Vulkan0"});
    assert_eq!(row_of(both).unwrap().backend, "vulkan");
    let none = json!({"backends": "CUDA", "devices": "none"});
    assert_eq!(row_of(none).unwrap().backend, "cpu");
    let error = row_of(json!({"backends": "CUDA,Vulkan"})).unwrap_err();
    assert!(error.contains("cuda and vulkan"), "{error}");
    assert!(row_of(json!({"backends": null})).unwrap_err().contains("--backend"));
}

#[test]
fn what_the_caller_tells_fills_and_contradicts() {
    let text = json!({"backends": "CUDA,Vulkan", "model_type": "llama 7B Q4_0", "n_prompt": 512,
        "n_gen": 0, "avg_ts": 10})
    .to_string();
    let told = Origin { backend: Some("Vulkan".into()), model: Some("m".into()), ..origin() };
    let speeds = read_llama_bench(&text, &told);
    assert_eq!(
        (speeds.rows[0].1.backend.as_str(), speeds.rows[0].1.model.as_str()),
        ("vulkan", "m")
    );
    let text = text.replace("CUDA,Vulkan", "CUDA");
    let speeds = read_llama_bench(&text, &told);
    assert!(speeds.problems[0].reason.contains("cuda, where vulkan was told"));
}

#[test]
fn a_backend_that_contradicts_the_row_keeps_it_out() {
    let told = |backend: &str, changes: Value| {
        let mut fields = json!({"backends": "CUDA", "n_gpu_layers": 99, "n_prompt": 0,
            "n_gen": 128, "model_type": "llama 7B Q4_0", "avg_ts": 10});
        for (name, value) in changes.as_object().unwrap() {
            fields[name] = value.clone();
        }
        let told = Origin { backend: Some(backend.into()), model: Some("m".into()), ..origin() };
        let mut speeds = read_llama_bench(&fields.to_string(), &told);
        match speeds.rows.pop() {
            Some((_, row)) => Ok((row.backend, row.excluded)),
            None => Err(speeds.problems.remove(0).reason),
        }
    };
    let cpu = || Ok(("cpu".to_owned(), None));
    let reason = |backend, changes| told(backend, changes).unwrap_err();
    // A build for CUDA computes on the card, until no layer is there.
    assert!(reason("cpu", json!({})).contains("cuda with layers on it, where cpu was told"));
    assert!(reason("cpu", json!({"n_gpu_layers": 20})).contains("where cpu was told"));
    assert_eq!(told("cpu", json!({"n_gpu_layers": 0})), cpu());
    let prompt = json!({"n_gpu_layers": 0, "n_prompt": 512, "n_gen": 0});
    assert!(told("cpu", prompt).unwrap().1.unwrap().contains("no layer is on the GPU"));
    assert_eq!(told("cpu", json!({"devices": "none"})), cpu());
    // A build without CUDA computes on no card.
    for backends in ["CPU", "BLAS"] {
        let changes = json!({"backends": backends});
        assert!(reason("cuda", changes).contains("the backend is cpu, where cuda was told"));
    }
    assert_eq!(told("cuda", json!({"backends": "RPC"})), Ok(("cuda".to_owned(), None)));
    // Of several the caller chooses one that is there.
    let both = || json!({"backends": "CUDA,Vulkan"});
    assert_eq!(told("vulkan", both()), Ok(("vulkan".to_owned(), None)));
    assert!(reason("metal", both()).contains("cuda and vulkan, where metal was told"));
    assert!(reason("cpu", both()).contains("where cpu was told"));
    assert_eq!(told("cpu", json!({"backends": "CUDA,Vulkan", "n_gpu_layers": 0})), cpu());
    // Where nothing tells, the caller does.
    assert_eq!(told("cuda", json!({"backends": null})), Ok(("cuda".to_owned(), None)));
}

#[test]
fn tests_that_nothing_can_be_learned_from_alone_are_listed_with_the_reason() {
    let reason = |changes| row_of(changes).unwrap().excluded.unwrap();
    let row = row_of(json!({"n_prompt": 512})).unwrap();
    assert_eq!((row.phase, row.ms, row.kv_len), (SpeedPhase::Mixed, None, None));
    assert!(row.excluded.unwrap().contains("one clock (pp512+tg128)"));
    assert!(reason(json!({"n_cpu_moe": 10})).contains("experts of 10 layers"));
    assert!(reason(json!({"tensor_buft_overrides": "exps=CPU"})).contains("by hand"));
    let prefill = json!({"n_prompt": 512, "n_gen": 0, "n_gpu_layers": 0});
    assert!(reason(prefill).contains("no layer is on the GPU"));
    let decode = row_of(json!({"n_gpu_layers": 0})).unwrap();
    assert_eq!((decode.backend.as_str(), decode.flags), ("cpu", vec!["gpu_build".to_owned()]));
}

#[test]
fn doubts_are_flagged() {
    let flags = |changes| row_of(changes).unwrap().flags;
    assert_eq!(flags(json!({"n_gpu_layers": 20})), ["gpu_layers_limited"]);
    assert_eq!(flags(json!({"n_gpu_layers": -1})), Vec::<String>::new());
    assert_eq!(flags(json!({"type_k": "q8_0"})), ["kv_quantized"]);
    assert_eq!(flags(json!({"stddev_ts": 30.0})), ["noisy"]);
    assert_eq!(flags(json!({"gpu_info": "RTX 3090, RTX 3090"})), ["several_gpus"]);
    assert_eq!(flags(json!({"gpu_info": "A, B", "split_mode": "none"})), Vec::<String>::new());
    assert_eq!(flags(json!({"n_prompt": 512, "n_gen": 0, "n_ubatch": 4})), ["small_batch"]);
}

#[test]
fn a_dynamic_mix_is_named_by_its_file() {
    let file = "Qwen3-30B-A3B-UD-Q4_K_XL.gguf";
    let row = row_of(json!({"model_filename": file})).unwrap();
    assert_eq!((row.quant.as_str(), row.model.as_str()), ("ud_q4_k_xl", "qwen3-30b-a3b"));
    let row = row_of(json!({"model_type": "llama 7B unknown, may not work"})).unwrap();
    assert_eq!(
        (row.quant.as_str(), &row.flags[..]),
        ("Q4_K_M", &["quant_inferred".to_owned()][..])
    );
    let changes = json!({"model_type": "llama 7B", "model_filename": "x.gguf"});
    assert!(row_of(changes).unwrap_err().contains("names no quantization"));
    let changes = json!({"model_filename": "models/7B/ggml-model-q4_0.gguf"});
    assert_eq!(row_of(changes).unwrap().model, "qwen2-7b");
}

#[test]
fn the_fork_has_its_name_and_its_test_behind_a_prompt() {
    let fork = json!({"n_depth": null, "mla_attn": 3, "fused_moe": true, "n_prompt": 4096,
        "n_gen": 32, "test": "tg32@pp4096", "avg_ns": null});
    let row = row_of(fork).unwrap();
    assert_eq!((row.runtime.as_str(), row.phase), ("ik_llama.cpp", SpeedPhase::Decode));
    assert_eq!((row.n_prompt, row.n_depth, row.kv_len), (Some(0), Some(4096), Some(4112.0)));
    let plain = json!({"n_depth": null, "mla_attn": 0, "test": "tg128"});
    assert_eq!(row_of(plain).unwrap().n_depth, Some(0));
}

#[test]
fn speeds_come_from_times_where_they_are_not_told() {
    let row = row_of(json!({"avg_ts": null})).unwrap();
    assert_eq!(row.tokens_per_second, 100.0);
    let row = row_of(json!({"avg_ts": null, "samples_ns": [640000000u64, 1920000000u64]})).unwrap();
    assert_eq!((row.tokens_per_second, row.ms), (100.0, Some(10.0)));
    assert!(row_of(json!({"avg_ts": 0})).unwrap_err().contains("`avg_ts` is 0"));
    assert!(row_of(json!({"avg_ts": "fast"})).unwrap_err().contains("`avg_ts` is `fast`"));
    assert!(row_of(json!({"n_gen": 0})).unwrap_err().contains("neither prompt nor generation"));
    assert!(row_of(json!({"n_gen": -5})).unwrap_err().contains("`n_gen` is `-5`"));
    assert!(row_of(json!({"samples_ns": [1, "x"]})).unwrap_err().contains("`samples_ns` is `x`"));
}

#[test]
fn markdown_of_all_ages() {
    let text = "\
| model                          |       size |     params | backend    | ngl | fa |            test |                  t/s |
| ------------------------------ | ---------: | ---------: | ---------- | --: | -: | --------------: | -------------------: |
| qwen3moe 30B.A3B Q4_K - Medium |  17.28 GiB |    30.53 B | CUDA       |  99 |  1 |           pp512 |       3034.51 ± 7.01 |
| qwen3moe 30B.A3B Q4_K - Medium |  17.28 GiB |    30.53 B | CUDA       |  99 |  1 |  tg128 @ d4096  |        135.00 ± 0.10 |
| qwen3moe 30B.A3B Q4_K - Medium |  17.28 GiB |    30.53 B | CUDA       |  99 |  1 |     pp512+tg128 |        500.00 ± 0.10 |

build: 4fc4ec554 (9859)
| model | size | params | backend | threads | test | t/s |
| --- | --- | --- | --- | --- | --- | --- |
| llama 1B mostly Q8_0 | 134.52 MiB | 134.52 M | BLAS | 8 | pp 512 | 10.5 |
";
    let speeds = read(text);
    assert_eq!(speeds.problems, []);
    let rows: Vec<&SpeedRow> = speeds.rows.iter().map(|(_, row)| row).collect();
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0].runtime_version.as_deref(), Some("b9859 (4fc4ec554)"));
    assert_eq!((rows[0].model.as_str(), rows[0].flash_attn), ("qwen3moe-30b.a3b", Some(1)));
    assert_eq!((rows[0].model_file_gib, rows[0].params_b), (Some(17.28), Some(30.53)));
    assert_eq!((rows[0].model_bytes, rows[0].stddev), (None, Some(7.01)));
    assert_eq!((rows[1].n_depth, rows[1].kv_len), (Some(4096), Some(4160.0)));
    assert!(!rows[2].is_usable());
    assert_eq!((rows[3].backend.as_str(), rows[3].threads), ("cpu", Some(8)));
    assert_eq!((rows[3].params_b, rows[3].model_file_gib), (Some(0.13452), Some(134.52 / 1024.0)));
    assert_eq!((rows[3].n_prompt, rows[3].runtime_version.as_deref()), (Some(512), None));
}

#[test]
fn labels_of_tests() {
    let lengths = |label| parse_label(label).map(|t| (t.n_prompt, t.n_gen, t.n_depth));
    assert_eq!(lengths("pp512"), Ok((512, 0, 0)));
    assert_eq!(lengths("pp 512"), Ok((512, 0, 0)));
    assert_eq!(lengths("tg128 @ d4096"), Ok((0, 128, 4096)));
    assert_eq!(lengths("pp512+tg128 @ d8"), Ok((512, 128, 8)));
    assert_eq!(lengths("tg32@pp4096"), Ok((0, 32, 4096)));
    for bad in ["", "pp", "512", "pp512 @ 4096", "pp-1", "tg0", "pp99999999999", "pp512+x"] {
        assert!(lengths(bad).is_err(), "{bad}");
    }
}

#[test]
fn rows_of_the_other_tool_are_told() {
    let speeds = read("{\"op_name\": \"MUL_MAT\", \"time_us\": 1}");
    assert!(speeds.problems[0].reason.contains("import test-backend-ops"));
}

#[test]
fn an_unfinished_windows_file() {
    let text = format!(
        "[\n{}",
        json!({"backends": "CPU", "model_type": "llama 7B Q4_0",
        "n_prompt": 512, "n_gen": 0, "avg_ts": 10})
    );
    let bytes: Vec<u8> =
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(read(&crate::decode(&bytes).unwrap()).rows.len(), 1);
}
