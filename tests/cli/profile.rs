//! `profile` on tiny models: the contract of the answer, the trace, comparisons, interruption,
//! and what is refused before anything runs.

use std::fs;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::util::{Run, Sandbox, change, fixture, has_fields};

/// Prompt and generated tokens of [`PROFILE`].
const PROMPT: u64 = 16;
const GENERATED: u64 = 9;
const LAYERS: u64 = 2;

/// A short run of the tiny model, with a budget that no machine exceeds.
static PROFILE: LazyLock<Value> = LazyLock::new(|| {
    let model = fixture("config.json");
    Sandbox::new().good(&short(&model, &["--overhead-budget", "100%"])).json()
});

/// One thread, for candle's pool spins: several runs at a time would disturb each other.
const ONE_THREAD: [&str; 2] = ["--threads", "1"];

fn short<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&in_table(model, more)[..], &["--format", "json"]].concat()
}

fn in_table<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["profile", model, "--prompt", "16", "--gen", "9", "--quiet"];
    [&args, &ONE_THREAD[..], more].concat()
}

/// A run of the tiny model with a vocabulary, on a text.
fn on_text<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["profile", model, "--greedy", "--quiet", "--format", "json"];
    [&args, &ONE_THREAD[..], more].concat()
}

fn text_model() -> String {
    fixture("models/text.gguf")
}

fn rows<'a>(report: &'a Value, table: &str) -> &'a [Value] {
    report[table].as_array().unwrap()
}

fn number(row: &Value, field: &str) -> f64 {
    row[field].as_f64().unwrap_or_else(|| panic!("`{field}` is no number in {row}"))
}

fn sum<'a>(rows: impl IntoIterator<Item = &'a Value>, field: &str) -> f64 {
    rows.into_iter().map(|row| number(row, field)).sum()
}

fn phase<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut found = rows(report, "phases").iter().filter(|row| row["phase"] == name);
    let phase = found.next().unwrap_or_else(|| panic!("no phase {name}"));
    assert!(found.next().is_none(), "{name} is there twice");
    phase
}

fn is_sum(row: &Value) -> bool {
    row["phase"] == "prefill" || row["phase"] == "decode"
}

fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let most = tolerance * expected.abs();
    assert!((found - expected).abs() <= most, "{what}: {found} is not {expected}");
}

/// Every row is counted once, and nothing is missing.
fn assert_adds_up(report: &Value) {
    let wall = number(report, "wall_ms");
    let unaccounted = number(report, "unaccounted_ms");
    assert!(unaccounted >= 0.0);
    let parts = rows(report, "phases").iter().filter(|row| !is_sum(row));
    assert_close(sum(parts, "ms") + unaccounted, wall, 1e-3, "phases");
    assert_close(sum(rows(report, "kernels"), "ms") + unaccounted, wall, 1e-3, "kernels");
    for row in rows(report, "phases") {
        let name = row["phase"].as_str().unwrap();
        let kernels = rows(report, "kernels").iter().filter(|kernel| kernel["phase"] == name);
        if is_sum(row) {
            assert_close(sum(kernels, "ms"), number(row, "ms"), 1e-6, name);
            let field = format!("{name}_ms");
            let parts = rows(report, "phases").iter().filter(|part| !part[&field].is_null());
            assert_close(sum(parts, &field), number(row, "ms"), 1e-6, name);
        }
        assert_close(number(row, "share"), number(row, "ms") / wall, 1e-6, name);
    }
}

#[test]
fn the_answer_keeps_the_contract() {
    let report = &*PROFILE;
    has_fields(report, &["schema_version", "wall_ms", "unaccounted_ms", "phases", "kernels"]);
    has_fields(report, &["overhead", "tokens", "ttft_ms", "tpot_ms", "e2e_ms", "warnings"]);
    assert_eq!(report["prompt_tokens"], PROMPT);
    assert_eq!(report["generated_tokens"], GENERATED);
    assert_eq!(report["interrupted"], false);
    for field in ["comparison", "prompt_text", "generated_text"] {
        assert_eq!(report[field], Value::Null, "{field}");
    }
    for row in rows(report, "phases") {
        has_fields(row, &["phase", "calls", "ms", "share", "samples_ms"]);
    }
    for row in rows(report, "kernels") {
        has_fields(row, &["phase", "op", "role", "layer", "calls", "ms", "flop", "bytes"]);
        let source = row["source"].as_str().unwrap();
        assert!(["in_place", "microbenchmark"].contains(&source), "{source}");
        assert!(row["calls"].as_u64() > Some(0), "{row}");
    }
    for name in [
        "load",
        "warmup",
        "input",
        "embedding",
        "layers",
        "lm_head",
        "logits_copy",
        "softmax",
        "sampling",
        "prefill",
        "decode",
    ] {
        assert!(number(phase(report, name), "ms") > 0.0, "{name}");
    }
    assert_eq!(phase(report, "prefill")["calls"], 1);
    assert_eq!(phase(report, "decode")["calls"], GENERATED - 1);
}

#[test]
fn the_rows_add_up_to_the_wall_time() {
    assert_adds_up(&PROFILE);
}

#[test]
fn latencies_are_those_of_the_tokens() {
    let report = &*PROFILE;
    let tokens = rows(report, "tokens");
    let own = |token: &Value| {
        number(token, "forward_ms") + number(token, "softmax_ms") + number(token, "sampling_ms")
    };
    let ttft = own(&tokens[0]);
    let tpot = tokens[1..].iter().map(own).sum::<f64>() / (GENERATED - 1) as f64;
    assert_close(number(report, "ttft_ms"), ttft, 1e-6, "ttft");
    assert_close(number(report, "tpot_ms"), tpot, 1e-6, "tpot");
    assert_close(number(report, "e2e_ms"), ttft + tpot * (GENERATED - 1) as f64, 1e-6, "e2e");
    assert_close(sum(tokens, "softmax_ms"), number(phase(report, "softmax"), "ms"), 1e-6, "sum");
}

#[test]
fn every_token_has_a_row_and_half_of_the_steps_are_probed() {
    let report = &*PROFILE;
    let tokens = rows(report, "tokens");
    assert_eq!(tokens.len() as u64, GENERATED);
    for (index, token) in (0..).zip(tokens) {
        let cached = if index == 0 { 0 } else { PROMPT + index - 1 };
        assert_eq!((&token["index"], &token["kv_len"]), (&json!(index), &json!(cached)));
        assert!(number(token, "ms") >= number(token, "forward_ms"));
    }
    assert_eq!(tokens[0]["probed"], true);
    // The first or the second of two, by chance.
    assert!(tokens[1..].chunks_exact(2).all(|two| two[0]["probed"] != two[1]["probed"]));
    assert_eq!(report["overhead"]["sampled_every"], 2);
    let probed = tokens.iter().filter(|token| token["probed"] == true).count() - 1;
    let kernels = rows(report, "kernels").iter();
    let mut of_decode = kernels.filter(|k| k["phase"] == "decode" && k["op"] == "matmul");
    assert!(of_decode.all(|k| k["samples_ms"].as_array().unwrap().len() == probed));
}

#[test]
fn every_matrix_of_every_layer_has_a_row() {
    let report = &*PROFILE;
    for (phase, rows_of_pass, passes) in [("prefill", PROMPT, 1), ("decode", 1, GENERATED - 1)] {
        for (role, [inner, outer]) in [
            ("attn_q", [256, 256]),
            ("attn_k", [256, 128]),
            ("attn_v", [256, 128]),
            ("attn_output", [256, 256]),
            ("ffn_gate", [256, 512]),
            ("ffn_up", [256, 512]),
            ("ffn_down", [512, 256]),
        ] {
            let kernels = rows(report, "kernels").iter();
            let found: Vec<&Value> =
                kernels.filter(|k| k["phase"] == phase && k["role"] == role).collect();
            let matmuls: Vec<&&Value> = found.iter().filter(|k| k["op"] == "matmul").collect();
            assert_eq!(matmuls.len() as u64, LAYERS, "{phase} {role}");
            for (layer, kernel) in (0..).zip(matmuls) {
                assert_eq!(kernel["layer"], layer);
                assert_eq!(kernel["shape"], json!([inner, outer]));
                let quant = kernel["tensor_type"].as_str().unwrap();
                assert!(["Q4_K", "Q6_K"].contains(&quant), "{quant}");
                assert_eq!(kernel["calls"], passes);
                assert_eq!(kernel["flop"], 2 * rows_of_pass * inner * outer * passes);
                assert!(kernel["bytes"].as_u64() > Some(0), "{kernel}");
                assert!(number(kernel, "roofline_share") > 0.0, "{kernel}");
                assert_eq!(kernel["source"], "in_place");
            }
        }
    }
}

#[test]
fn attention_is_divided_by_microbenchmarks() {
    let report = &*PROFILE;
    for phase in ["prefill", "decode"] {
        for op in ["attention_scores", "attention_softmax", "attention_values"] {
            let kernels = rows(report, "kernels").iter();
            let of_op: Vec<&Value> =
                kernels.filter(|k| k["phase"] == phase && k["op"] == op).collect();
            assert_eq!(of_op.len() as u64, LAYERS, "{phase} {op}");
            assert!(of_op.iter().all(|k| k["source"] == "microbenchmark"), "{phase} {op}");
        }
    }
    assert!(rows(report, "kernels").iter().all(|k| k["op"] != "attention"));
}

#[test]
fn the_cost_of_the_probes_has_an_interval() {
    let overhead = &PROFILE["overhead"];
    assert_eq!(overhead["budget"], 1.0);
    assert!(number(overhead, "ns_per_event") > 0.0);
    for phase in ["prefill", "decode"] {
        let cost = &overhead[phase];
        let [lower, fraction, upper] = ["lower", "fraction", "upper"].map(|f| number(cost, f));
        assert!(lower <= fraction && fraction <= upper, "{cost}");
        assert!(cost["pairs"].as_u64() >= Some(16), "{cost}");
        assert!(cost["events"].as_u64() > Some(0), "{cost}");
        assert!(number(cost, "computed") > 0.0, "{cost}");
    }
    let steps = &rows(&PROFILE, "tokens")[1..];
    let probed = steps.iter().filter(|step| step["probed"] == true).count() as f64;
    assert_close(
        number(&overhead["decode"], "run"),
        number(&overhead["decode"], "fraction") * probed / steps.len() as f64,
        1e-9,
        "cost over the run",
    );
}

#[test]
fn a_budget_that_probing_would_exceed_makes_it_rare() {
    let model = fixture("config.json");
    let args = short(&model, &["--overhead-budget", "0.0001%"]);
    let report = Sandbox::new().good(&args).json();
    assert!(report["overhead"]["sampled_every"].as_u64() > Some(2), "{}", report["overhead"]);
    assert!(report["warnings"].to_string().contains("--overhead-budget"));
    let probed = |token: &&Value| token["probed"] == true;
    // The prompt and the first step, from which the cost is known.
    assert_eq!(rows(&report, "tokens").iter().filter(probed).count(), 2);
    assert_adds_up(&report);
}

#[test]
fn one_token_has_no_decode_step() {
    let model = fixture("config.json");
    let args = ["profile", &model, "--prompt", "8", "--gen", "1", "--threads", "1"];
    let report = Sandbox::new().good(&[&args[..], &["--format", "json"]].concat()).json();
    assert_eq!(rows(&report, "tokens").len(), 1);
    assert_eq!(report["tpot_ms"], Value::Null);
    assert_eq!(report["overhead"]["decode"], Value::Null);
    assert!(rows(&report, "phases").iter().all(|row| row["phase"] != "decode"));
    assert_adds_up(&report);
    Sandbox::new().good(&args);
}

#[test]
fn a_text_is_tokenized_and_answered() {
    let model = text_model();
    let sandbox = Sandbox::new();
    let text = "Why is the sky blue? ☃";
    let said = sandbox.good(&on_text(&model, &["--gen", "12", "--prompt-text", text])).json();
    assert_eq!(said["prompt_text"], text);
    assert_eq!(said["generated_tokens"], 12);
    assert!(!said["generated_text"].as_str().unwrap().is_empty());
    assert_eq!(phase(&said, "tokenize")["calls"], 1);
    assert_eq!(phase(&said, "detokenize")["calls"], 12);
    assert_adds_up(&said);

    let file = sandbox.file("prompt.txt", text);
    let read = sandbox.good(&on_text(&model, &["--gen", "12", "--prompt-file", &file])).json();
    for field in ["prompt_text", "prompt_tokens", "generated_text"] {
        assert_eq!(read[field], said[field], "{field}");
    }
    let args = ["profile", &model, "--prompt-text", text, "--gen", "12", "--greedy"];
    let table = sandbox.good(&[&args, &ONE_THREAD[..]].concat());
    assert!(table.stdout.contains("generated text"), "{}", table.stdout);
}

#[test]
fn a_text_that_runs_beyond_the_context_says_so() {
    let model = text_model();
    let text = "the water ".repeat(20);
    let args = on_text(&model, &["--prompt-text", &text, "--gen", "100"]);
    let report = Sandbox::new().good(&args).json();
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("beyond the context of text (128 tokens)"), "{warnings}");
}

/// The events of a trace, checked: what begins ends, by name and on its thread, and no time goes
/// back.
fn events(sandbox: &Sandbox, name: &str) -> Vec<Value> {
    let trace: Value =
        serde_json::from_str(&fs::read_to_string(sandbox.path(name)).unwrap()).unwrap();
    assert_eq!(trace["displayTimeUnit"], "ms");
    let events = trace["traceEvents"].as_array().unwrap();
    let mut open: Vec<(u64, &str)> = Vec::new();
    let mut latest = std::collections::HashMap::new();
    for event in events {
        let name = event["name"].as_str().unwrap();
        let kind = event["ph"].as_str().unwrap();
        if kind == "M" {
            continue;
        }
        let now = number(event, "ts");
        let track = if kind == "C" { name.to_owned() } else { event["tid"].to_string() };
        let before = latest.insert(track, now).unwrap_or(0.0);
        assert!(now >= before, "{event} goes back from {before}");
        match kind {
            "B" => open.push((event["tid"].as_u64().unwrap(), name)),
            "E" => assert_eq!(open.pop(), Some((event["tid"].as_u64().unwrap(), name))),
            "C" => assert!(event["args"].as_object().unwrap().values().all(Value::is_number)),
            "i" => {}
            other => panic!("an event of kind {other}"),
        }
    }
    assert_eq!(open, []);
    events.clone()
}

fn begun(events: &[Value], thread: u64, name: &str) -> usize {
    let is = |event: &&Value| event["ph"] == "B" && event["tid"] == thread && event["name"] == name;
    events.iter().filter(is).count()
}

#[test]
fn the_trace_holds_the_run_and_what_was_predicted() {
    let sandbox = Sandbox::new();
    let model = text_model();
    let run = |more: &[&str]| {
        let args = ["profile", &model, "--prompt", "8", "--gen", "5", "--overhead-budget", "100%"];
        sandbox.good(&[&args, &ONE_THREAD[..], more].concat())
    };
    let said = run(&["--trace", "new/plain.json"]).stderr;
    assert!(said.contains("no calibration of this machine") && said.contains("plain.json"));
    let plain = events(&sandbox, "new/plain.json");
    assert_eq!((begun(&plain, 1, "prefill"), begun(&plain, 1, "decode")), (1, 4));
    for name in ["load", "warmup", "sampling", "detokenize", "layer 1", "matmul.ffn_down"] {
        assert!(begun(&plain, 1, name) > 0, "{name}");
    }
    // The prompt and every second step.
    assert_eq!(begun(&plain, 1, "matmul.attn_q"), 3 * 2);
    assert_eq!(begun(&plain, 2, "decode"), 0);

    let calibration = fixture("calibration.json");
    run(&["--trace", "predicted.json", "--calibration", &calibration]);
    let predicted = events(&sandbox, "predicted.json");
    assert_eq!((begun(&predicted, 2, "prefill"), begun(&predicted, 2, "decode")), (1, 4));
}

#[test]
fn a_profile_is_compared_with_an_older_one() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    sandbox.good(&short(&model, &["--out", "old.json"]));
    let new = sandbox.good(&short(&model, &["--against", "old.json"])).json();
    let comparison = &new["comparison"];
    has_fields(comparison, &["old_time", "new_time", "stream_drift", "matmul_drift", "noise"]);
    assert_eq!((&comparison["failed"], &comparison["fail_above"]), (&json!(false), &Value::Null));
    for row in rows(comparison, "rows") {
        let ratio = number(row, "new_ms") / number(row, "old_ms");
        assert_close(number(row, "ratio"), ratio, 1e-9, "ratio");
    }
}

/// A profile as if every sample had taken `factor` times as long: only samples are compared.
fn scaled(factor: f64) -> String {
    let mut old = PROFILE.clone();
    let scale = |samples: &mut Value| {
        for sample in samples.as_array_mut().unwrap() {
            *sample = json!(sample.as_f64().unwrap() * factor);
        }
    };
    for table in ["phases", "kernels"] {
        old[table].as_array_mut().unwrap().iter_mut().for_each(|row| scale(&mut row["samples_ms"]));
    }
    // The passes over the prompt that came after the run's own count with it.
    scale(&mut old["prompt_repeats_ms"]);
    old.to_string()
}

/// More than any two runs differ by, on any machine.
const FAR: f64 = 1e6;

#[test]
fn a_slowdown_beyond_noise_and_the_threshold_is_exit_code_1() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    let old = sandbox.file("old.json", scaled(1.0 / FAR));
    let slower = |more: &[&str]| -> Run {
        sandbox.run(&[&in_table(&model, &["--against", &old])[..], more].concat())
    };

    let run = slower(&["--fail-above", "0%", "--out", "new.json"]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("FAIL: ") && run.stdout.contains("slower"), "{}", run.stdout);
    assert_eq!(run.stderr, "");
    let saved: Value =
        serde_json::from_str(&fs::read_to_string(sandbox.path("new.json")).unwrap()).unwrap();
    assert_eq!(saved["comparison"]["failed"], true);
    let decode = |row: &&Value| row["phase"] == "decode" && row["op"].is_null();
    let row = rows(&saved["comparison"], "rows").iter().find(decode).unwrap().clone();
    assert_eq!(row["beyond_noise"], true, "{row}");

    // Without a threshold it is told, and that is all.
    assert_eq!(slower(&[]).code, 0);
}

#[test]
fn what_became_faster_passes_and_may_take_the_place_of_the_older_profile() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    let old = sandbox.file("old.json", scaled(FAR));
    let args = ["--against", &old, "--out", &old, "--fail-above", "0%"];
    let said = sandbox.good(&in_table(&model, &args)).stdout;
    assert!(said.contains("PASS: ") && said.contains("faster"), "{said}");
    let saved: Value =
        serde_json::from_str(&fs::read_to_string(sandbox.path(&old)).unwrap()).unwrap();
    assert_eq!(saved["comparison"]["failed"], false);
}

#[test]
fn what_was_compared_differently_is_said() {
    let sandbox = Sandbox::new();
    let mut old = PROFILE.clone();
    change(&mut old, "/quant", Some(json!("Q8_0")));
    change(&mut old, "/prompt_tokens", Some(json!(512)));
    let old = sandbox.file("old.json", old.to_string());
    let model = fixture("config.json");
    let new = sandbox.good(&short(&model, &["--against", &old])).json();
    let warnings = new["comparison"]["warnings"].to_string();
    assert!(warnings.contains("different quantizations") && warnings.contains("prompt tokens"));
}

#[test]
fn every_format_is_one() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    let run = |format: &str| sandbox.good(&in_table(&model, &["--format", format])).stdout;
    let csv = run("csv");
    let header = csv.lines().next().unwrap();
    assert!(header.contains("phase,op,role,layer,tensor_type"), "{header}");
    let columns = header.split(',').count();
    assert!(csv.lines().all(|line| line.split(',').count() == columns));
    assert_eq!(csv.lines().count(), 1 + rows(&PROFILE, "kernels").len());
    let markdown = run("markdown");
    assert!(markdown.contains("| phase ") && markdown.contains("| --- "), "{markdown}");
    let table = run("table");
    for words in ["phases", "kernels of prefill", "kernels of decode", "what the probes cost"] {
        assert!(table.contains(words), "{words}: {table}");
    }
}

#[test]
fn quiet_says_nothing_but_the_answer() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    let run = sandbox.good(&short(&model, &["--trace", "t.json", "--out", "o.json"]));
    assert_eq!(run.stderr, "");
    let saved: Value =
        serde_json::from_str(&fs::read_to_string(sandbox.path("o.json")).unwrap()).unwrap();
    assert_eq!(saved, run.json());
}

/// Ctrl-C in a run that would take long: what was measured until then is printed and saved.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_run_is_printed_and_saved() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    const SIGINT_MASK: u64 = 1 << 1;
    let shape = r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 512,
        "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
        "num_key_value_heads": 8, "vocab_size": 1024, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5}"#;
    let sandbox = Sandbox::new();
    let model = sandbox.file("long/config.json", shape);
    let mut command = sandbox.command();
    command.args(["profile", &model, "--prompt", "16", "--gen", "4000", "--format", "json"]);
    command.args(["--trace", "t.json", "--out", "o.json", "--quiet"]).args(ONE_THREAD);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    let status = format!("/proc/{}/status", child.id());
    let listens = || {
        let text = fs::read_to_string(&status).unwrap();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & SIGINT_MASK != 0
    };
    while !listens() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended before it was interrupted");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Some tokens, most likely; without any the same holds.
    std::thread::sleep(Duration::from_secs(2));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();

    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["interrupted"], true);
    let tokens = rows(&report, "tokens").len() as u64;
    assert!(tokens < 4000);
    assert_eq!(report["generated_tokens"], tokens);
    assert_adds_up(&report);
    let saved: Value =
        serde_json::from_str(&fs::read_to_string(sandbox.path("o.json")).unwrap()).unwrap();
    assert_eq!(saved, report);
    let trace = events(&sandbox, "t.json");
    assert_eq!(begun(&trace, 1, "run"), 1);
}

#[test]
fn lengths_that_cannot_run() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    let refused = |args: &[&str], words: &[&str]| {
        sandbox.error_says(&[&["profile", &model], args].concat(), words);
    };
    refused(&["--prompt", "0"], &["--prompt 0", "hint: "]);
    refused(&["--prompt", "8", "--gen", "0"], &["--gen 0", "hint: "]);
    refused(&["--prompt", "200"], &["prompt 200", "context", "128 tokens", "shorten --prompt"]);
    refused(&["--prompt", "120", "--gen", "9"], &["prompt 120 + gen 9", "hint: "]);
    refused(&["--prompt", "4000000000"], &["--prompt", "absurd"]);
    refused(&["--prompt", "8", "--gen", "4000000000"], &["--gen", "absurd"]);
    let long = "the water ".repeat(200);
    let model = text_model();
    sandbox.error_says(
        &["profile", &model, "--prompt-text", &long],
        &["the prompt has", "the context of text ends at 128", "shorten it"],
    );
}

#[test]
fn texts_that_cannot_be_prompts() {
    let sandbox = Sandbox::new();
    let model = text_model();
    let refused = |model: &str, args: &[&str], words: &[&str]| {
        sandbox.error_says(&[&["profile", model], args].concat(), words);
    };
    refused(&model, &["--prompt-text", ""], &["the prompt is empty"]);
    let empty = sandbox.file("empty.txt", "");
    refused(&model, &["--prompt-file", &empty], &["the prompt is empty"]);
    refused(&model, &["--prompt-file", "absent.txt"], &["absent.txt", "No such file"]);
    let bytes = sandbox.file("bytes.txt", b"sky \xff\xfe");
    refused(&model, &["--prompt-file", &bytes], &["bytes.txt", "UTF-8"]);
    for no_file in ["tinyllama-1.1b", &fixture("config.json")] {
        refused(no_file, &["--prompt-text", "why"], &["no tokenizer", "synthetic", "--prompt N"]);
    }
    let without = fixture("models/llama.gguf");
    refused(&without, &["--prompt-text", "why"], &["no tokenizer", "--prompt N"]);
    for (more, words) in [
        (["--prompt", "3", "--prompt-text", "why"], ["--prompt <N>", "--prompt-text"]),
        (["--prompt-text", "why", "--prompt-file", "x"], ["--prompt-text", "--prompt-file"]),
        (["--prompt", "3", "--prompt-file", "x"], ["--prompt <N>", "--prompt-file"]),
    ] {
        refused(&model, &more, &words);
    }
}

/// A run that nothing refuses would take minutes, so these are refused before.
const LONG: [&str; 4] = ["--prompt", "2048", "--gen", "2048"];

/// The shape of a model on which [`LONG`] takes minutes.
fn slow_model(sandbox: &Sandbox) -> String {
    let shape = r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 1024,
        "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "num_key_value_heads": 16, "vocab_size": 1024, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5}"#;
    sandbox.file("slow/config.json", shape)
}

#[test]
fn places_that_cannot_be_written_are_noticed_before_the_run() {
    let sandbox = Sandbox::new();
    let model = slow_model(&sandbox);
    sandbox.file("file", "");
    fs::create_dir(sandbox.path("folder")).unwrap();
    sandbox.file("read-only.json", "mine");
    let read_only = sandbox.path("read-only.json");
    let mut permissions = fs::metadata(&read_only).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&read_only, permissions).unwrap();
    let mut places = vec![
        ("file/trace.json", "cannot write file/trace.json"),
        ("folder", "it is a folder"),
        ("read-only.json", "it is read-only"),
    ];
    if cfg!(target_os = "linux") {
        places.push(("/proc/absent/trace.json", "cannot write /proc/absent/trace.json"));
        places.push(("/dev/full", "No space left"));
    }
    for flag in ["--trace", "--out"] {
        for (place, words) in &places {
            let args = [&["profile", &model], &LONG[..], &[flag, place]].concat();
            sandbox.error_says(&args, &[words]);
        }
    }
    assert_eq!(fs::read_to_string(&read_only).unwrap(), "mine");
}

#[test]
fn what_the_run_reads_is_not_written_over() {
    let sandbox = Sandbox::new();
    let bytes = fs::read(text_model()).unwrap();
    let model = sandbox.file("model.gguf", &bytes);
    let prompt = sandbox.file("prompt.txt", "why");
    let old = sandbox.file("old.json", PROFILE.to_string());
    for flag in ["--trace", "--out"] {
        for input in [&model, &prompt] {
            let args = ["profile", &model, "--prompt-file", &prompt, flag, input];
            sandbox.error_says(&args, &[flag, input, "write over", "hint: "]);
        }
    }
    let args = in_table(&model, &["--against", &old, "--trace", "./old.json"]);
    sandbox.error_says(&args, &["--trace", "write over"]);
    let args = in_table(&model, &["--trace", "x.json", "--out", "x.json"]);
    sandbox.error_says(&args, &["same file x.json", "hint: "]);
    assert_eq!(fs::read(sandbox.path(&model)).unwrap(), bytes);
    assert!(!sandbox.path("x.json").exists());
}

#[test]
fn older_profiles_that_are_none() {
    let sandbox = Sandbox::new();
    let model = slow_model(&sandbox);
    let refused = |text: &str, words: &[&str]| {
        let old = sandbox.file("old.json", text);
        let args = [&["profile", &model], &LONG[..], &["--against", &old]].concat();
        sandbox.error_says(&args, &[&["old.json"], words].concat());
    };
    refused("", &["EOF"]);
    refused("{\"schema_version\": 1", &["EOF"]);
    refused("{\"years\": 4}", &["schema_version"]);
    refused("{\"schema_version\": 99}", &["`schema_version` is 99", "hint: "]);
    refused("{\"schema_version\": 1, \"years\": 4}", &["missing field"]);
    let changed = |pointer: &str, value: Option<Value>| {
        let mut old = PROFILE.clone();
        change(&mut old, pointer, value);
        old.to_string()
    };
    refused(&changed("/phases/0/ms", Some(json!("long"))), &["`phases[0].ms`"]);
    refused(&changed("/wall_ms", None), &["wall_ms"]);
    let mut empty = PROFILE.clone();
    empty["phases"] = json!([]);
    empty["kernels"] = json!([]);
    refused(&empty.to_string(), &["cannot be compared"]);
    let absent = [&["profile", &model], &LONG[..], &["--against", "absent.json"]].concat();
    sandbox.error_says(&absent, &["absent.json", "No such file"]);
    let args = ["profile", &model, "--fail-above", "5%"];
    sandbox.error_says(&args, &["--against"]);
}

#[test]
fn arguments_that_cannot_be_met() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    let refused = |args: &[&str], words: &[&str]| {
        let all = [&["profile", &model, "--prompt", "8", "--gen", "2"], args].concat();
        sandbox.error_says(&all, words);
    };
    for budget in ["0", "0%", "-1%", "much"] {
        let budget = format!("--overhead-budget={budget}");
        refused(&[&budget], &["--overhead-budget", "write"]);
    }
    for device in ["cuda", "cuda:1", "metal"] {
        let name = device.split(':').next().unwrap();
        refused(&["--device", device], &[name, "--device cpu"]);
    }
    refused(&["--calibration", "x"], &["--trace"]);
    refused(&["--calibration", "absent", "--trace", "t.json"], &["absent"]);
    refused(&["--quant", "Q9_Z"], &["Q9_Z", "Q4_K_M"]);
    assert!(!sandbox.path("t.json").exists());
}

/// A tensor type that can be described but not loaded is named, with what to do.
#[test]
fn tensor_types_that_candle_cannot_load() {
    const TENSOR: &str = "blk.0.ffn_up.weight";
    // As large as the Q4_K that it stands in for.
    const IQ4_NL: u32 = 20;
    let mut bytes = fs::read(fixture("models/llama-q4k.gguf")).unwrap();
    let name = bytes.windows(TENSOR.len()).position(|w| w == TENSOR.as_bytes()).unwrap();
    // After the name: the number of dimensions, two dimensions, the type.
    let place = name + TENSOR.len() + 4 + 2 * 8;
    assert_eq!(bytes[place..place + 4], 12u32.to_le_bytes());
    bytes[place..place + 4].copy_from_slice(&IQ4_NL.to_le_bytes());
    let sandbox = Sandbox::new();
    let model = sandbox.file("iq.gguf", bytes);
    sandbox.good(&["inspect", &model]);
    sandbox.error_says(
        &["profile", &model, "--prompt", "8", "--gen", "2"],
        &[TENSOR, "IQ4_NL", "candle cannot load", "take another quantization"],
    );
}

/// The rows of every architecture add up, and what the spans of its reader leave together is divided.
#[test]
fn every_architecture_is_profiled() {
    let in_place_or_divided = [
        ("llama-moe", "activation"),
        ("qwen2", "attention_layout"),
        ("qwen3", "attention"),
        ("gemma3", "attention_softmax"),
        ("phi2", "activation"),
        ("phi3", "activation"),
        ("glm4", "attention_scores"),
        ("lfm2", "convolution"),
    ];
    let sandbox = Sandbox::new();
    for (name, op) in in_place_or_divided {
        let model = fixture(&format!("models/{name}.gguf"));
        let args = ["profile", &model, "--prompt", "16", "--gen", "8", "--quiet"];
        let format = ["--format", "json", "--trace", "trace.json", "--threads", "1"];
        let budget = ["--overhead-budget", "100%"];
        let report = sandbox.good(&[&args[..], &format, &budget].concat()).json();
        assert_adds_up(&report);
        let kernels = rows(&report, "kernels");
        assert!(kernels.iter().any(|row| row["op"] == op), "{name} has no {op}");
        let has_work = |row: &&Value| name != "llama-moe" && row["op"] != "attention_layout";
        for row in kernels.iter().filter(|row| row["op"] == op).filter(has_work) {
            assert!(row["flop"].as_u64() > Some(0), "{name}: {row}");
        }
        for block in UNDIVIDED {
            assert!(kernels.iter().all(|row| row["op"] != block), "{name}: {block}");
        }
        for part in ["input", "embedding", "layers", "lm_head", "logits_copy"] {
            assert!(number(phase(&report, part), "ms") > 0.0, "{name}: {part}");
        }
        let trace = fs::read_to_string(sandbox.path("trace.json")).unwrap();
        assert!(serde_json::from_str::<Value>(&trace).is_ok(), "{name}");
    }
}

/// What rows of blocks are called that nothing has divided.
const UNDIVIDED: [&str; 5] = [
    "attention_inputs",
    "attention_block",
    "rope_attention",
    "feed_forward_block",
    "short_convolution",
];

/// The parts of every layer of blocks without spans have rows of their own, which say where their
/// times come from.
#[test]
fn undivided_blocks_are_divided_by_microbenchmarks() {
    let both = [
        ("attention_layout", None),
        ("attention_scores", None),
        ("attention_softmax", None),
        ("attention_values", None),
        ("matmul", Some("attn_q")),
        ("matmul", Some("attn_k")),
        ("matmul", Some("attn_v")),
        ("matmul", Some("attn_output")),
        ("matmul", Some("ffn_gate")),
        ("matmul", Some("ffn_up")),
        ("matmul", Some("ffn_down")),
        ("activation", None),
        ("residual", None),
    ];
    let convolution = [
        ("matmul", Some("shortconv_in")),
        ("convolution", None),
        ("matmul", Some("shortconv_out")),
    ];
    let sandbox = Sandbox::new();
    for (name, more) in [("qwen2", &[][..]), ("lfm2", &convolution)] {
        let model = fixture(&format!("models/{name}.gguf"));
        let trace = ["--trace", "trace.json", "--out", "profile.json"];
        let report = sandbox.good(&short(&model, &trace)).json();
        assert_adds_up(&report);
        let kernels = rows(&report, "kernels");
        for phase in ["prefill", "decode"] {
            for (op, role) in both.iter().chain(more) {
                let role = role.map_or(Value::Null, |role| json!(role));
                let is_it =
                    |row: &&Value| row["phase"] == phase && row["op"] == *op && row["role"] == role;
                let found: Vec<&Value> = kernels.iter().filter(is_it).collect();
                assert!(!found.is_empty(), "{name}: no {op} {role} in {phase}");
                for row in found {
                    assert_eq!(row["source"], "microbenchmark", "{name}: {row}");
                    assert!(number(row, "ms") > 0.0, "{name}: {row}");
                    assert_eq!(row["tensor_type"].is_null(), role.is_null(), "{name}: {row}");
                }
            }
            // Norms and rotary embeddings have spans.
            let in_place = |row: &&Value| row["phase"] == phase && row["source"] == "in_place";
            let ops: Vec<&str> =
                kernels.iter().filter(in_place).map(|row| row["op"].as_str().unwrap()).collect();
            for op in ["rms_norm", "rope", "lm_head"] {
                assert!(ops.contains(&op), "{name}: {op} is not in place in {phase}");
            }
        }
        let joined = |phase: &str| {
            kernels.iter().any(|row| row["phase"] == phase && row["op"] == "kv_concat")
        };
        assert!(joined("decode") && !joined("prefill"), "{name}");
        let trace = fs::read_to_string(sandbox.path("trace.json")).unwrap();
        assert!(trace.contains(r#""name":"matmul.ffn_gate""#), "{name}");
        // The same run again is compared part by part.
        let again = sandbox.good(&short(&model, &["--against", "profile.json"])).json();
        let compared = again["comparison"]["rows"].as_array().unwrap();
        assert!(compared.iter().any(|row| row["role"] == "ffn_gate"), "{name}");
    }
}

#[test]
fn a_table_marks_what_was_divided() {
    let model = fixture("models/qwen2.gguf");
    let table = Sandbox::new().good(&in_table(&model, &[])).stdout;
    let is_marked = |name: &str| table.lines().any(|l| l.contains(name) && l.contains('†'));
    assert!(is_marked("ffn_gate"), "{table}");
    assert!(is_marked("attention_scores"), "{table}");
    assert!(!is_marked("rms_norm"), "{table}");
}
