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
    assert_eq!(seen["basis"]["tier"], json!("measured_rows"));
    assert_eq!(seen["basis"]["data_sheet"]["observed_rows"], 2);
    let text = sandbox.good(&[&["predict"], &args[..], &["--observe", &file]].concat());
    assert!(text.stdout.contains("measured rows of this device (2 given"), "{}", text.stdout);
    // The rows call the device `mine`.
    assert!(text.stderr.contains("rows of `mine` are taken"), "{}", text.stderr);
}

#[test]
fn rows_of_another_engine_or_of_other_threads_are_told_by_their_lines() {
    let sandbox = Sandbox::new();
    let rows = "runtime,device_id,backend,threads,model,params_b,quant,phase,n_prompt,n_gen,tokens_per_second\n\
                llama.cpp,radxa-rock-5c,cpu,4,tinyllama-1.1b,1.1,Q4_K_M,decode,0,128,13.0\n\
                llamafile,radxa-rock-5c,cpu,4,tinyllama-1.1b,1.1,Q4_K_M,decode,0,128,12.0\n\
                llama.cpp,radxa-rock-5c,cpu,8,tinyllama-1.1b,1.1,Q4_K_M,decode,0,128,12.5\n";
    let file = sandbox.file("seen.csv", rows);
    let args = ["predict", "llama-3.2-3b", "--device-spec", "radxa-rock-5c", "--observe", &file];
    let warned = |more: &[&str]| sandbox.good(&[&args[..], more].concat()).stderr;
    let engine = "seen.csv, line 3: measured with llamafile, and llama.cpp is predicted";
    let said = warned(&[]);
    assert!(said.contains(engine) && !said.contains("threads"), "{said}");
    let said = warned(&["--threads", "8"]);
    let threads = "seen.csv, lines 2, 3: measured with 4 threads, and 8 are predicted";
    assert!(said.contains(engine) && said.contains(threads), "{said}");
    let said = warned(&["--threads", "4", "--engine", "llamafile"]);
    let engine = "seen.csv, lines 2, 4: measured with llama.cpp, and llamafile is predicted";
    assert!(said.contains(engine) && said.contains("line 4: measured with 8 threads"), "{said}");
}

/// Tokens per second of a prompt in the answer.
fn prompt_speed(answer: &Value) -> f64 {
    answer["prefill_tokens_per_second"].as_f64().unwrap()
}

#[test]
fn the_date_of_the_build_is_one_that_was_measured() {
    let sandbox = Sandbox::new();
    let args = |more: &[&'static str]| {
        let args = ["llama-2-7b", "--quant", "Q4_0", "--device-spec", "apple-m3-max-gpu40"];
        [&args[..], &["--backend", "metal"], more].concat()
    };
    let answer = predicted(&sandbox, &args(&[]));
    let sheet = &answer["basis"]["data_sheet"];
    assert_eq!(sheet["engine_date_assumed"], true);
    let month = sheet["engine_date"].as_str().unwrap();
    assert!(("2023-10"..="2026-06").contains(&month), "{month}");
    // Its own row in datasets/public: 759.7 tokens/s.
    let speed = prompt_speed(&answer);
    assert!((speed / 759.7).ln().abs() < 0.25, "{speed}");
    // Nothing newer than the newest row is faster than it.
    let far = predicted(&sandbox, &args(&["--engine-date", "2035-01"]));
    let farther = predicted(&sandbox, &args(&["--engine-date", "2050"]));
    assert_eq!(prompt_speed(&far), prompt_speed(&farther));
    let said = far["basis"]["extrapolation"].to_string();
    assert!(said.contains("2035-01") && said.contains("taken as it was in"), "{said}");
    assert_eq!(far["basis"]["data_sheet"]["engine_date_assumed"], false);
    let fused = predicted(&sandbox, &args(&["--flash-attn", "on"]));
    assert_eq!(fused["basis"]["data_sheet"]["flash_attention"], true);
    assert!(prompt_speed(&fused) != speed);
    let text = sandbox.good(&[&["predict"], &args(&[])[..]].concat()).stdout;
    assert!(text.contains(&format!("llama.cpp as it was in {month} (assumed")), "{text}");
    let wrong = args(&["--engine-date", "soon"]);
    sandbox.error_says(&[&["predict"], &wrong[..]].concat(), &["--engine-date", "2025-03"]);
}

#[test]
fn what_the_data_never_saw_is_refused_with_a_hint() {
    let sandbox = Sandbox::new();
    let refused = |more: &[&str], words: &[&str]| {
        sandbox.error_says(&[&["predict", "tinyllama-1.1b"], more].concat(), words);
    };
    refused(
        &["--device-spec", "rtx-4090", "--batch", "32"],
        &["--batch 32", "one sequence", "hint"],
    );
    refused(&["--device-spec", "pi5,"], &["a name is missing", "comma"]);
    refused(
        &["--device-spec", "raspberry-pi-5-8gb", "--backend", "npu"],
        &["NPUs cannot be predicted", "--backend cpu"],
    );
    let two = "device_id,kind,mem_bandwidth_gbps,mem_gb\na,cpu,50,8\nb,cpu,60,8\n";
    sandbox.file("two.csv", two);
    refused(&["--device-spec", "two.csv"], &["2 devices", "two.csv#a or two.csv#b"]);
    // All that is missing, at once.
    refused(&["--device-spec", "two.csv#b"], &["clusters (or cores such as"]);
    sandbox.file("bare.toml", "id = \"x\"\nkind = \"gpu\"\nisa = \"sm_89\"\n");
    for phase in ["--prompt", "--gen"] {
        let words = ["mem_bandwidth_gbps, peak_fp32_tflops or peak_fp16_tflops"];
        refused(&["--device-spec", "bare.toml", phase, "0"], &words);
    }
}

const SEEN: &str = "runtime,device_id,backend,model,params_b,quant,phase,n_prompt,n_gen,\
                    tokens_per_second\n";

#[test]
fn rows_that_cannot_be_true_are_refused_and_odd_ones_told() {
    let sandbox = Sandbox::new();
    let of = |row: &str| sandbox.file("seen.csv", format!("{SEEN}{row}\n"));
    let args = [
        "predict",
        "tinyllama-1.1b",
        "--device-spec",
        "raspberry-pi-5-8gb",
        "--observe",
        "seen.csv",
    ];
    let own = "llama.cpp,raspberry-pi-5-8gb,cpu,tinyllama-1.1b";
    of(&format!("{own},1.1,Q4_0,decode,0,128,11500"));
    sandbox.error_says(
        &args,
        &["seen.csv, line 2", "11500 decode tokens/s cannot be", "17.1 GB/s", "hint: correct"],
    );
    of(&format!("{own},1.1,Q4_0,prefill,512,0,99000"));
    sandbox.error_says(&args, &["seen.csv, line 2", "the fastest peak"]);
    of(&format!("{own},1240000000,Q4_0,decode,0,128,11"));
    sandbox.error_says(&args, &["line 2", "`params_b`", "write 1.24"]);
    of("llama.cpp,raspberry-pi-5-8gb,cuda,tinyllama-1.1b,1.1,Q4_0,decode,0,128,11");
    sandbox.error_says(&args, &["line 2 is of cuda, and cpu is predicted", "--backend"]);
    of(&format!("{own},1.1,Q4_0,decode,0,128,0.0001"));
    sandbox.error_says(&args, &["line 2", "times slower than the data sheet tells", "the unit"]);
    let eight =
        "runtime,device_id,backend,model,params_b,quant,phase,n_gen,batch,tokens_per_second";
    sandbox.file("seen.csv", format!("{eight}\n{own},1.1,Q4_0,decode,128,8,30\n"));
    sandbox.error_says(&args, &["line 2", "several sequences at once"]);
    let told = |rows: &str, words: &str| {
        of(rows);
        let run = sandbox.good(&args);
        assert!(run.stderr.contains(words), "no `{words}` in {}", run.stderr);
    };
    told(&format!("{own},1.1,Q4_0,decode,0,128,0.115"), "times slower than the data sheet tells");
    let both = format!("{own},1.1,Q4_0,decode,0,128,14\n{own},1.1,Q4_0,decode,0,256,3");
    told(&both, "lines 2 and 3 contradict each other");
}

#[test]
fn the_columns_that_a_row_needs_are_enough() {
    let sandbox = Sandbox::new();
    let header = "runtime,device_id,backend,model,quant,phase,tokens_per_second\n";
    let row = "llama.cpp,raspberry-pi-5-8gb,cpu,MODEL,Q4_K_M,decode,5.5\n";
    let args = ["tinyllama-1.1b", "--device-spec", "raspberry-pi-5-8gb", "--observe", "seen.csv"];
    sandbox.file("seen.csv", format!("{header}{}", row.replace("MODEL", "llama-3.2-3b")));
    let answer = predicted(&sandbox, &args);
    assert_eq!(answer["basis"]["data_sheet"]["observed_rows"], 1);
    let hold_out =
        ["validate", "--hold-out", "device", "--data", "seen.csv", "--format", "json", "--quiet"];
    assert_eq!(sandbox.good(&hold_out).json()["groups"][0]["n"], 1);
    sandbox.file("seen.csv", format!("{header}{}", row.replace("MODEL", "my-own-model")));
    let unknown = [&["predict"], &args[..]].concat();
    sandbox.error_says(&unknown, &["line 2", "`params_b`", "foretoken models"]);
}

#[test]
fn what_llama_bench_prints_is_observed_as_it_is() {
    let sandbox = Sandbox::new();
    let run = json!([{
        "build_commit": "2f3b1d4a", "build_number": 5163, "backends": "CPU", "n_threads": 4,
        "model_filename": "llama-3.2-3b-q4_k_m.gguf", "model_type": "llama 3B Q4_K - Medium",
        "model_size": 2_019_000_000_u64, "model_n_params": 3_210_000_000_u64,
        "n_prompt": 0, "n_gen": 64, "n_depth": 0, "avg_ts": 5.5, "stddev_ts": 0.1,
    }]);
    sandbox.file("bench.json", run.to_string());
    let args = ["tinyllama-1.1b", "--device-spec", "raspberry-pi-5-8gb", "--observe", "bench.json"];
    let answer = predicted(&sandbox, &args);
    assert_eq!(answer["basis"]["data_sheet"]["observed_rows"], 1);
}

#[test]
fn other_engines_keep_their_name_and_candle_its_limits() {
    let sandbox = Sandbox::new();
    let of = |engine: &str, more: &[&str]| {
        let args = ["tinyllama-1.1b", "--device-spec", "ryzen-9-7950x", "--engine", engine];
        predicted(&sandbox, &[&args[..], more].concat())
    };
    let fork = of("IK_llama.cpp", &[]);
    assert_eq!(fork["device"]["engine"], "ik_llama.cpp");
    assert!(fork["verify"].as_str().unwrap().starts_with("ik_llama.cpp/"), "{}", fork["verify"]);
    let other = of("mistral.rs", &[]);
    assert!(other["verify"].as_str().unwrap().starts_with("mistral.rs's own benchmark"));
    let refused = of("candle", &["--quant", "IQ2_XXS"]);
    assert!(refused["cannot_run"].is_string(), "{}", refused["cannot_run"]);
}

#[test]
fn requests_beyond_the_context_and_other_caches_are_told() {
    let sandbox = Sandbox::new();
    let args = ["tinyllama-1.1b", "--device-spec", "rtx-4090"];
    let long = [&["predict"], &args[..], &["--prompt", "100000"]].concat();
    let text = sandbox.good(&long).stdout;
    assert!(text.contains("beyond the context of tinyllama-1.1b (2048 tokens)"), "{text}");
    assert!(!text.contains("context of 0 tokens"), "{text}");
    let deep = |more: &[&str]| {
        let answer = predicted(&sandbox, &[&args[..], &["--depth", "1024"], more].concat());
        (answer["decode_ms"]["point"].as_f64().unwrap(), answer["warnings"].to_string())
    };
    let ((usual, _), (narrow, warnings)) = (deep(&[]), deep(&["--kv-type", "q8_0"]));
    assert!(narrow < usual, "{narrow} {usual}");
    assert!(warnings.contains("--kv-type q8_0"), "{warnings}");
    // No sheet tells what a card takes when idle: a guess, marked, well below a third of its limit.
    let energy = &predicted(&sandbox, &args)["energy_j"];
    assert_eq!(energy["idle_guessed"], true);
    assert!(energy["idle_w"].as_f64().unwrap() < 50.0, "{energy}");
}

#[test]
fn words_of_cores_are_as_good_as_clusters() {
    let sandbox = Sandbox::new();
    let of = |name: &str, more: &str| {
        let text = format!("id = \"x\"\nkind = \"cpu\"\nmem_bandwidth_gbps = 51.2\n{more}\n");
        let file = sandbox.file(name, text);
        predicted(&sandbox, &["tinyllama-1.1b", "--device-spec", &file])
    };
    let words = of("w.toml", "peak_fp32_tflops = 0.768\ncores = \"8x zen3 @ 3.0 GHz\"");
    let clusters = of("c.toml", "clusters = [{ core = \"zen3\", count = 8, clock_ghz = 3.0 }]");
    assert_eq!(words["decode_ms"], clusters["decode_ms"]);
    assert_eq!(words["prefill_ms"], clusters["prefill_ms"]);
    let open = of("o.toml", "cores = \"8x secret\"");
    assert_eq!(open["basis"]["data_sheet"]["assumed"].as_array().unwrap().len(), 2);
    assert!(open["warnings"].to_string().contains("intervals are wider"));
}
