//! Writing rows and reading them again answers the same rows, in every format.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use foretoken_import::{
    BenchFormat, Origin, Speeds, read_backend_ops, read_csv, read_jsonl, read_llama_bench,
    to_backend_ops_sql, to_csv, to_jsonl, to_llama_bench,
};
use foretoken_spec::{SpeedKey, SpeedPhase, SpeedRow};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn rows(speeds: Speeds) -> Vec<SpeedRow> {
    assert_eq!(speeds.problems, []);
    speeds.rows.into_iter().map(|(_, row)| row).collect()
}

/// Words, and what breaks naive writers.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z][a-zA-Z0-9 _.()/-]{0,20}[a-zA-Z0-9)]",
        "[a-z]\"[a-z], '[a-z]', ''|;[a-z]",
        "[a-z]é±[a-z]{1,3}",
    ]
}

/// A scalar as some version writes it.
fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9f64).prop_map(Value::from),
        text().prop_map(Value::from),
        Just(json!("0.00")),
        Just(json!("0x0")),
        Just(json!("3.00/1.00")),
        Just(json!("")),
    ]
}

prop_compose! {
    /// One object of llama-bench, of any version: what is needed, and any part of the rest.
    fn bench_object()(
        lengths in prop_oneof![
            (1..9000u32).prop_map(|n| (n, 0)),
            (1..9000u32).prop_map(|n| (0, n)),
            (1..9000u32, 1..9000u32),
        ],
        speed in 1e-3..1e6f64,
        model in prop::sample::select(vec![
            "qwen2 7B Q4_K - Medium", "llama 7B mostly Q4_0", "llama4 17Bx16E (Scout) Q8_0",
            "gpt-oss 20B MXFP4 MoE", "llama 8B IQ4_K - 4.5 bpw", "qwen3 ?B BF16",
        ]),
        file in prop::sample::select(vec!["a/B-Q4_0.gguf", "C:\\m\\it's-UD-Q4_K_XL.gguf", "x"]),
        backend in prop::sample::select(vec!["CUDA", "Metal,BLAS", "CPU", "Vulkan,RPC"]),
        flash in prop::sample::select(vec![json!(true), json!(0), json!(-1), json!(null)]),
        ints in prop::collection::btree_map(prop::sample::select(vec![
            "n_batch", "n_ubatch", "n_threads", "n_gpu_layers", "n_depth", "n_cpu_moe",
            "build_number", "avg_ns", "stddev_ns", "model_size", "model_n_params",
        ]), 1..1_000_000u32, 0..11),
        texts in prop::collection::btree_map(prop::sample::select(vec![
            "build_commit", "cpu_info", "gpu_info", "split_mode", "test_time",
        ]), text(), 0..5),
        other in prop::collection::btree_map("x_[a-z]{1,8}", scalar(), 0..6),
        stddev in prop::option::of(0.0..1e5f64),
    ) -> Map<String, Value> {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        other.into_iter().for_each(|(name, value)| { put(&name, value); });
        ints.into_iter().for_each(|(name, value)| { put(name, json!(value)); });
        texts.into_iter().for_each(|(name, value)| { put(name, json!(value)); });
        put("n_prompt", json!(lengths.0));
        put("n_gen", json!(lengths.1));
        put("avg_ts", json!(speed));
        put("model_type", json!(model));
        put("model_filename", json!(file));
        put("backends", json!(backend));
        put("flash_attn", flash);
        put("stddev_ts", json!(stddev));
        object
    }
}

fn origin() -> Origin {
    Origin {
        device_id: Some("box-1".into()),
        device_kind: Some("gpu".into()),
        source_url: Some("https://example.org/a".into()),
        ..Origin::default()
    }
}

prop_compose! {
    /// A row as a plain CSV has it.
    fn plain_row()(
        names in prop::collection::vec(text(), 8),
        phase in prop::sample::select(vec![SpeedPhase::Prefill, SpeedPhase::Decode]),
        lengths in prop::collection::vec(prop::option::of(1..100_000u32), 4),
        numbers in prop::collection::vec(prop::option::of(1e-6..1e9f64), 3),
        speed in 1e-6..1e9f64,
        flags in prop::collection::vec("[a-z_]{1,10}", 0..3),
        excluded in prop::option::of(text()),
        bytes in prop::option::of(any::<u64>()),
        flash in prop::option::of(-1..2i8),
        extra in prop::option::of(prop::collection::btree_map("[a-z_]{1,8}", scalar(), 0..3)),
    ) -> SpeedRow {
        let key = SpeedKey {
            runtime: &names[0],
            device_id: &names[1],
            backend: "cpu",
            model: &names[2],
            quant: "Q4_K_M",
        };
        let mut row = SpeedRow::new(key, phase, speed);
        row.source_url = Some(names[3].clone());
        row.notes = Some(names[4].clone());
        row.device_kind = Some(names[5].clone());
        row.n_prompt = lengths[0].filter(|_| phase == SpeedPhase::Prefill);
        row.n_gen = lengths[1].filter(|_| phase == SpeedPhase::Decode);
        row.n_depth = lengths[2];
        row.threads = lengths[3];
        // Weights in 10⁹: 10⁹ of them would be refused as a wrong unit.
        row.params_b = numbers[0].map(|n| n / 1e5);
        row.model_file_gib = numbers[1];
        row.stddev = numbers[2];
        row.flags = flags;
        row.excluded = excluded;
        row.model_bytes = bytes;
        row.flash_attn = flash;
        row.llama_bench = extra.map(|other| Box::new(foretoken_spec::BenchDetails {
            other: other.into_iter().collect::<BTreeMap<_, _>>(),
            ..Default::default()
        }));
        row.derive();
        row
    }
}

proptest! {
    #[test]
    fn of_json_lines(written in prop::collection::vec(plain_row(), 0..4)) {
        prop_assert_eq!(rows(read_jsonl(&to_jsonl(&written).unwrap())), written);
    }

    #[test]
    fn of_csv(written in prop::collection::vec(plain_row(), 0..4)) {
        let text = to_csv(&written).unwrap();
        prop_assert_eq!(rows(read_csv(&text, &Origin::default()).unwrap()), written);
    }

    #[test]
    fn of_llama_bench_in_all_its_formats(
        objects in prop::collection::vec(bench_object(), 1..4),
        samples in prop::collection::vec(1..u64::from(u32::MAX), 0..4),
    ) {
        let text = Value::from(objects.clone()).to_string();
        let first = rows(read_llama_bench(&text, &origin()));
        prop_assert_eq!(first.len(), objects.len());
        use BenchFormat::{Csv, Json, Jsonl, Sql};
        for format in [Json, Jsonl, Csv, Sql] {
            let text = to_llama_bench(&first, format).unwrap();
            prop_assert_eq!(&rows(read_llama_bench(&text, &origin())), &first, "{:?}", format);
        }
        // Only the formats of JSON have the samples.
        let mut sampled = first;
        for row in &mut sampled {
            if let Some(details) = &mut row.llama_bench {
                details.samples_ns.clone_from(&samples);
            }
            row.derive();
        }
        for format in [Json, Jsonl] {
            let text = to_llama_bench(&sampled, format).unwrap();
            prop_assert_eq!(&rows(read_llama_bench(&text, &origin())), &sampled, "{:?}", format);
        }
        // And what llama-bench told survives our own files.
        let lines = to_jsonl(&sampled).unwrap();
        prop_assert_eq!(&rows(read_jsonl(&lines)), &sampled);
        let csv = to_csv(&sampled).unwrap();
        prop_assert_eq!(&rows(read_csv(&csv, &Origin::default()).unwrap()), &sampled);
    }

    #[test]
    fn of_the_kernels_of_test_backend_ops(
        texts in prop::collection::vec(text(), 3),
        backend in prop::sample::select(vec!["CUDA0", "MTL0", "CPU", "Vulkan1"]),
        time_us in 1e-3..1e9f64,
        counts in prop::collection::vec(prop::option::of(1e-3..1e15f64), 2),
        wholes in prop::collection::vec(prop::option::of(1..u64::from(u32::MAX)), 2),
        other in prop::collection::btree_map("x_[a-z]{1,8}", scalar(), 0..4),
    ) {
        let mut object = Map::from_iter(other);
        for (name, value) in [
            ("op_name", json!(texts[0])),
            ("op_params", json!(format!("type_a=q4_0,ne=[1,2],x={}", texts[1]))),
            ("build_commit", json!(texts[2])),
            ("backend_name", json!(backend)),
            ("test_mode", json!("perf")),
            ("time_us", json!(time_us)),
            ("flops", json!(counts[0])),
            ("bandwidth_gb_s", json!(counts[1])),
            ("memory_kb", json!(wholes[0])),
            ("n_runs", json!(wholes[1])),
        ] {
            object.insert(name.to_owned(), value);
        }
        let read = |text: &str| {
            let anchors = read_backend_ops(text, &origin());
            assert_eq!(anchors.problems, []);
            anchors.rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>()
        };
        let first = read(&Value::from(object).to_string());
        prop_assert_eq!(first.len(), 1);
        prop_assert_eq!(&read(&to_backend_ops_sql(&first).unwrap()), &first);
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in "(\\PC|[\n|,'\"{}\\[\\]±]){0,200}") {
        let _ = read_llama_bench(&text, &origin());
        let _ = read_csv(&text, &Origin::default());
        let _ = read_jsonl(&text);
    }

    #[test]
    fn no_cut_of_a_file_makes_a_reader_panic_or_invent(
        objects in prop::collection::vec(bench_object(), 1..3),
        cut in 0.0..1.0f64,
    ) {
        // A value that ends in a quote within quotes looks whole where it is cut there.
        let text = Value::from(objects.clone()).to_string().replace("\\\"", "");
        let whole = rows(read_llama_bench(&text, &origin()));
        for format in [BenchFormat::Json, BenchFormat::Jsonl, BenchFormat::Csv, BenchFormat::Sql] {
            let text = to_llama_bench(&whole, format).unwrap();
            let mut end = (text.len() as f64 * cut) as usize;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            let found = read_llama_bench(&text[..end], &origin()).rows;
            for (_, row) in found {
                prop_assert!(whole.contains(&row), "{:?} {}", format, &text[..end]);
            }
        }
    }
}
