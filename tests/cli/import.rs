//! `import`: every format and age of other people's measurements, and what is no measurement.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::util::{Run, Sandbox, fixture, has_fields, read_fixture};

/// Imports a fixture into `out.jsonl`; answers the summary and the rows.
fn import(sandbox: &Sandbox, name: &str, more: &[&str]) -> (Value, Vec<Value>) {
    let file = fixture(&format!("import/{name}"));
    let args = ["import", "llama-bench", &file, "--device-id", "box", "--out", "out.jsonl"];
    let args = [&args[..], &["--format", "json", "--force"], more].concat();
    let report = sandbox.good(&args).json();
    (report, lines(sandbox, "out.jsonl"))
}

fn lines(sandbox: &Sandbox, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(sandbox.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn rows_of_2025_become_times_with_everything_in_the_key() {
    let sandbox = Sandbox::new();
    let (report, rows) = import(&sandbox, "2025-04.json", &["--device-kind", "gpu"]);
    has_fields(&report, &["schema_version", "rows", "usable", "files", "groups", "problems"]);
    assert_eq!((&report["rows"], &report["usable"]), (&json!(4), &json!(3)));
    let prefill = &rows[0];
    for (field, value) in [
        ("runtime", json!("llama.cpp")),
        ("runtime_version", json!("b5163 (2f3b1d4a)")),
        ("device_id", json!("box")),
        ("device_kind", json!("gpu")),
        ("backend", json!("cuda")),
        ("threads", json!(16)),
        ("model", json!("qwen2.5-7b-instruct")),
        ("arch", json!("qwen2")),
        ("quant", json!("Q4_K_M")),
        ("model_bytes", json!(4_677_120_000u64)),
        ("model_params", json!(7_615_616_512u64)),
        ("phase", json!("prefill")),
        ("flash_attn", json!(0)),
        ("tokens_per_second", json!(12949.2)),
        // The median of the repetitions.
        ("ms", json!(39.54)),
        ("source_date", json!("2025-04-24")),
    ] {
        assert_eq!(prefill[field], value, "{field}");
    }
    assert_eq!(prefill["llama_bench"]["other"]["use_mmap"], 1);
    assert_eq!(prefill["llama_bench"]["samples_ns"].as_array().unwrap().len(), 3);
    // Half of the 128 tokens behind the depth.
    assert_eq!((&rows[1]["kv_len"], &rows[2]["kv_len"]), (&json!(64.0), &json!(4160.0)));
    assert_eq!((&rows[1]["ms"], &rows[2]["ms"]), (&json!(7.8125), &json!(10.0)));
    let mixed = &rows[3];
    assert_eq!(mixed["phase"], "mixed");
    assert!(mixed["excluded"].as_str().unwrap().contains("pp512+tg128"));
    assert_eq!(mixed["ms"], Value::Null);
}

#[test]
fn rows_of_2024_tell_the_backend_by_truths() {
    let (_, rows) = import(&Sandbox::new(), "2024.jsonl", &[]);
    let told = |row: &Value| (row["backend"].clone(), row["quant"].clone(), row["n_depth"].clone());
    assert_eq!(told(&rows[0]), (json!("metal"), json!("Q4_0"), json!(0)));
    assert_eq!(rows[1]["phase"], "decode");
    assert_eq!(rows[0]["llama_bench"]["other"]["blas"], 1);
}

#[test]
fn three_formats_of_the_same_run_are_the_same_rows() {
    let sandbox = Sandbox::new();
    let without_samples = |mut rows: Vec<Value>| {
        for row in &mut rows {
            let details = row["llama_bench"].as_object_mut().unwrap();
            details.remove("samples_ns");
            details.remove("samples_ts");
            // From the samples' median, or from their mean.
            row.as_object_mut().unwrap().remove("ms");
        }
        rows
    };
    let (report, jsonl) = import(&sandbox, "2026.jsonl", &[]);
    assert_eq!(report["files"][0]["formats"], json!(["json"]));
    let jsonl = without_samples(jsonl);
    for (name, format) in [("2026.csv", "csv"), ("2026.sql", "sql")] {
        let (report, rows) = import(&sandbox, name, &[]);
        assert_eq!(report["files"][0]["formats"], json!([format]));
        assert_eq!(report["problems"], json!([]));
        assert_eq!(without_samples(rows), jsonl, "{name}");
    }
    assert_eq!((&jsonl[0]["quant"], &jsonl[0]["flash_attn"]), (&json!("ud_q4_k_xl"), &json!(-1)));
    assert_eq!(jsonl[0]["model"], "qwen3-30b-a3b");
    assert!(jsonl[3]["excluded"].as_str().unwrap().contains("experts of 24 layers"));
}

#[test]
fn the_fork_keeps_its_name_its_fields_and_its_tests() {
    let (report, rows) = import(&Sandbox::new(), "ik_llama.json", &[]);
    assert_eq!(report["groups"][0]["runtime"], "ik_llama.cpp");
    assert_eq!((&rows[0]["quant"], &rows[0]["backend"]), (&json!("iq4_k"), &json!("cuda")));
    assert_eq!(rows[0]["llama_bench"]["other"]["mla_attn"], 3);
    let behind = &rows[2];
    assert_eq!((&behind["n_prompt"], &behind["n_depth"]), (&json!(0), &json!(4096)));
    assert_eq!(behind["kv_len"], 4112.0);
}

#[test]
fn a_pasted_session_gives_its_rows_and_tells_the_rest_by_line() {
    let sandbox = Sandbox::new();
    let (report, rows) = import(&sandbox, "pasted.md", &[]);
    assert_eq!(rows.len(), 4);
    assert_eq!(
        (&rows[0]["runtime_version"], &rows[0]["params_b"]),
        (&json!("b5163 (2f3b1d4a)"), &json!(8.03))
    );
    assert_eq!((&rows[0]["model_file_gib"], &rows[0]["stddev"]), (&json!(4.58), &json!(68.5)));
    assert_eq!((&rows[1]["n_depth"], &rows[3]["backend"]), (&json!(4096), &json!("cpu")));
    let problems: Vec<(u64, &str)> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["line"].as_u64().unwrap(), p["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(problems[0], (10, "`t/s` is `OOM`, no speed"));
    assert_eq!(problems[1], (16, "`t/s` is `1,050.00 ± 1.00`, no speed"));
    assert_eq!(report["files"][0]["other_lines"], 4);
    let file = fixture("import/pasted.md");
    let table = sandbox.good(&["import", "llama-bench", &file, "--device-id", "box"]).stdout;
    for words in ["pasted.md:10", "not understood and left out", "nothing was written", "cuda"] {
        assert!(table.contains(words), "{words}: {table}");
    }
}

#[test]
fn several_files_and_standard_input() {
    let sandbox = Sandbox::new();
    let mut child = sandbox
        .command()
        .args(["import", "llama-bench", "-", &fixture("import/2024.jsonl"), "--device-id", "m2"])
        .args(["--format", "json", "--out", "new/deep/a.csv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = read_fixture("import/2024.jsonl");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let run = Run::of(child.wait_with_output().unwrap(), &["import"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    // Both hold the same rows, which count once.
    assert_eq!((&run.json()["rows"], &run.json()["repeated"]), (&json!(2), &json!(2)));
    assert_eq!(run.json()["files"][0]["file"], "-");
    assert!(run.stderr.contains("made the folder new/deep"), "{}", run.stderr);
    // Our own CSV is read again, with all that llama-bench told.
    let args = ["import", "csv", "new/deep/a.csv", "--out", "b.jsonl", "--quiet"];
    sandbox.good(&args);
    let (_, direct) = import(&sandbox, "2024.jsonl", &[]);
    let mut again = lines(&sandbox, "b.jsonl");
    again.iter_mut().for_each(|row| row["device_id"] = json!("box"));
    assert_eq!(again, direct);
}

#[test]
fn a_run_that_was_cut_off_keeps_what_is_whole() {
    let sandbox = Sandbox::new();
    let text = read_fixture("import/2025-04.json");
    let end = text.rfind("\"avg_ts\"").unwrap();
    let file = sandbox.file("cut.json", &text[..end]);
    let args = ["import", "llama-bench", &file, "--device-id", "box", "--format", "json"];
    let report = sandbox.good(&args).json();
    assert_eq!(report["rows"], 3);
    assert!(report["problems"][0]["reason"].as_str().unwrap().contains("cut off"));
    // In the encoding of a Windows shell.
    let utf16: Vec<u8> = std::iter::once(0xfeff)
        .chain(read_fixture("import/2025-04.json").encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let file = sandbox.file("windows.json", utf16);
    let args = ["import", "llama-bench", &file, "--device-id", "box", "--format", "json"];
    assert_eq!(sandbox.good(&args).json()["rows"], 4);
}

#[test]
fn kernels_of_test_backend_ops() {
    let sandbox = Sandbox::new();
    let file = fixture("import/backend-ops.sql");
    let args = ["import", "test-backend-ops", &file, "--device-id", "rtx", "--out", "k.jsonl"];
    let report = sandbox.good(&[&args[..], &["--format", "json"]].concat()).json();
    assert_eq!((&report["rows"], &report["groups"][0]["phase"]), (&json!(2), &json!("MUL_MAT")));
    assert!(report["warnings"][0].as_str().unwrap().contains("1 operations were left out"));
    let rows = lines(&sandbox, "k.jsonl");
    assert_eq!((&rows[0]["backend"], &rows[0]["time_us"]), (&json!("cuda"), &json!(40.25)));
    assert_eq!(rows[0]["params"]["per"], "[0,1,2,3]");
    assert_eq!(rows[1]["bandwidth_gib_per_second"], 7.629395);
    let wrong = ["import", "test-backend-ops", &file, "--device-id", "x", "--out", "k.csv"];
    sandbox.error_says(&wrong, &["k.csv", "JSON Lines"]);
    sandbox.error_says(
        &["import", "llama-bench", &file, "--device-id", "x"],
        &["test-backend-ops", "hint: "],
    );
}

#[test]
fn our_own_measurements_join_the_store() {
    let sandbox = Sandbox::new();
    let file = fixture("measurements.jsonl");
    let args = ["import", "measurements", &file, "--out", "ours.csv", "--format", "json"];
    let report = sandbox.good(&args).json();
    assert_eq!(report["groups"][0]["runtime"], "candle");
    // Mini-models of a calibration are listed and not used.
    assert_eq!(report["usable"], 0);
    assert!(report["excluded"][0]["reason"].as_str().unwrap().contains("mini-model"));
    let args = ["import", "csv", "ours.csv", "--format", "json"];
    assert_eq!(sandbox.good(&args).json()["groups"], report["groups"]);
    let other = fixture("import/2024.jsonl");
    sandbox.error_says(&["import", "measurements", &other], &["2024.jsonl, line 1"]);
}

#[test]
fn rules_mark_rows_and_tell_when_they_meet_none() {
    let sandbox = Sandbox::new();
    let data = sandbox.file(
        "a.csv",
        "runtime,device_id,backend,model,quant,phase,tokens_per_second\n\
         x,pi,cpu,m,q4_0,decode,8\nx,npu,npu,m,w8a8,decode,9\n",
    );
    let rules = sandbox.file(
        "rules.toml",
        "[[rule]]\nid = 'npu'\nwhere = { backend = 'npu' }\nexclude = 'another world'\n\
         [[rule]]\nid = 'none'\nwhere = { model = 'z' }\nflag = 'f'\n",
    );
    let args = ["import", "csv", &data, "--rules", &rules, "--out", "b.csv", "--format", "json"];
    let report = sandbox.good(&args).json();
    assert_eq!(report["excluded"], json!([{"reason": "another world", "rows": 1}]));
    assert_eq!(report["warnings"], json!(["rule `none` meets no row"]));
    let broken =
        sandbox.file("broken.toml", "[[rule]]\nid = 'a'\nwhere = { colour = 'x' }\nflag = 'f'");
    sandbox.error_says(&["import", "csv", &data, "--rules", &broken], &["broken.toml", "`colour`"]);
}

#[test]
fn the_public_store_is_what_its_rules_make_of_it() {
    let sandbox = Sandbox::new();
    let root = env!("CARGO_MANIFEST_DIR");
    let data = format!("{root}/datasets/public/measurements.csv");
    let rules = format!("{root}/datasets/public/rules.toml");
    let args =
        ["import", "csv", &data, "--rules", &rules, "--out", "again.csv", "--format", "json"];
    let report = sandbox.good(&args).json();
    assert_eq!((&report["problems"], &report["warnings"]), (&json!([]), &json!([])));
    let again = std::fs::read_to_string(sandbox.path("again.csv")).unwrap();
    assert!(again == std::fs::read_to_string(&data).unwrap(), "run the command of its README");
    assert!(report["usable"].as_u64().unwrap() > 3300, "{}", report["usable"]);
}

#[test]
fn models_of_the_store_have_the_shapes_of_the_catalogue() {
    let path = format!("{}/datasets/public/models.csv", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let models = Sandbox::new().good(&["models", "--format", "json"]).json();
    let header: Vec<&str> = text.lines().next().unwrap().split(',').collect();
    let mut n_checked = 0;
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |name: &str| cells[header.iter().position(|h| *h == name).unwrap()];
        // Notes with commas come after all that is looked at here.
        let id = cell("catalogue_id");
        if id.is_empty() || id.starts_with('"') {
            continue;
        }
        let known = models.as_array().unwrap().iter().find(|m| m["id"] == id);
        let known = known.unwrap_or_else(|| panic!("{line}: no {id} in the catalogue"));
        for (ours, theirs) in [
            ("n_layers", "n_layers"),
            ("hidden", "hidden_size"),
            ("n_heads", "n_heads"),
            ("n_kv_heads", "n_kv_heads"),
            ("head_dim", "head_dim"),
            ("vocab", "vocab_size"),
        ] {
            assert_eq!(cell(ours), known[theirs].to_string(), "{ours} of {line}");
        }
        let active = known["active_parameters"].as_f64().unwrap() / 1e9;
        let ours: f64 = cell("active_params_b").parse().unwrap();
        assert!((ours / active - 1.0).abs() < 1e-3, "{line}");
        n_checked += 1;
    }
    assert!(n_checked > 45, "{n_checked}");
}

/// Texts that hold nothing to import, with what is said of them.
#[test]
fn what_holds_no_measurement_is_refused_with_the_reason() {
    let sandbox = Sandbox::new();
    for (name, text, words) in [
        ("empty.json", "", &["nothing could be read from empty.json", "hint: "][..]),
        ("log.txt", "ggml_init\nmain: done\n", &["nothing could be read"]),
        ("array.json", "[]", &["nothing could be read"]),
        ("other.json", "{\"a\": 1}", &["other.json:1", "without a measurement"]),
        ("cut.json", "[\n{\"avg_ts\": 1", &["cut.json:2", "cut off"]),
        ("nan.jsonl", "{\"avg_ts\": nan}", &["nan.jsonl:1", "broken JSON"]),
        ("header.csv", "n_prompt,n_gen,avg_ts\n", &["nothing could be read"]),
        ("short.csv", "n_prompt,n_gen,avg_ts\n\"1\",\"2\"\n", &["short.csv:2", "2 cells"]),
        ("insert.sql", "INSERT INTO t (a, b) VALUES ('1');\n", &["insert.sql:1", "1 values"]),
        (
            "compare.md",
            "| model | test | t/s a | t/s b |\n| --- | --- | --- | --- |\n| m | pp1 | 1 | 2 |\n",
            &["compare.md:1", "a comparison"],
        ),
        ("db.sqlite", "SQLite format 3\0", &["db.sqlite", "sqlite3 FILE .dump"]),
        ("model.gguf", "GGUF\u{3}\0\0\0", &["model.gguf", "not a text file"]),
        (
            "no-backend.jsonl",
            "{\"n_prompt\": 512, \"n_gen\": 0, \"avg_ts\": 1, \"model_type\": \"llama 7B Q4_0\"}",
            &["--backend"],
        ),
        (
            "speeds.csv",
            "runtime,device_id,backend,model,quant,phase,tokens_per_second\nx,d,cpu,m,q4_0,pp,1\n",
            &["speeds.csv holds speeds", "import csv"],
        ),
    ] {
        sandbox.file(name, text);
        let args = ["import", "llama-bench", name, "--device-id", "box", "--out", "o.jsonl"];
        sandbox.error_says(&args, words);
        assert!(!sandbox.path("o.jsonl").exists(), "{name}");
    }
    sandbox.error_says(
        &["import", "llama-bench", "absent.json", "--device-id", "x"],
        &["cannot read absent.json"],
    );
    sandbox.error_says(&["import", "llama-bench", ".", "--device-id", "x"], &["cannot read ."]);
}

#[test]
fn plain_csv_that_is_wrong() {
    let sandbox = Sandbox::new();
    let check = |text: &str, words: &[&str]| {
        let file = sandbox.file("bad.csv", text);
        sandbox.error_says(&["import", "csv", &file], words);
    };
    check("a,b\n1,2\n", &["bad.csv is neither", "docs/importing.md"]);
    check("phase,tokens_per_second\ndecode,1\n", &["bad.csv", "no column `runtime`"]);
    let header = "runtime,device_id,backend,model,quant,phase,tokens_per_second";
    check(&format!("{header}\nx,d,cpu,m,q4_0,decode,fast\n"), &["bad.csv:2", "`fast`"]);
    check(&format!("{header}\nx,d,cpu,m,q4_0\n"), &["bad.csv:2", "5 cells"]);
    check(&format!("{header},phase\n"), &["`phase` is there twice"]);
    check(header, &["nothing could be read"]);
    check(&read_fixture("import/2026.csv"), &["import llama-bench"]);
}

#[test]
fn wrong_requests() {
    let sandbox = Sandbox::new();
    let file = fixture("import/2024.jsonl");
    sandbox.error_says(&["import", "llama-bench", &file], &["--device-id"]);
    let args = ["import", "llama-bench", &file, "--device-id"];
    sandbox.error_says(&[&args[..], &[" "]].concat(), &["a name of one line"]);
    let more = |more: &[&'static str]| [&args[..], &["box"], more].concat();
    sandbox
        .error_says(&more(&["--backend", "abacus"]), &["unknown backend `abacus`", "known: cpu"]);
    sandbox.error_says(&more(&["--backend", "cuda"]), &["metal, where cuda was told"]);
    sandbox.file("precious.jsonl", "mine");
    let out = more(&["--out", "precious.jsonl"]);
    sandbox.error_says(&out, &["precious.jsonl exists", "--force"]);
    assert_eq!(std::fs::read(sandbox.path("precious.jsonl")).unwrap(), b"mine");
    sandbox.good(&[&out[..], &["--force"]].concat());
    sandbox.error_says(&["import", "vllm", &file], &["vllm"]);
    sandbox.error_says(
        &["import", "test-backend-ops", &file, "--device-id", "x", "--rules", "r.toml"],
        &["--rules"],
    );
}
