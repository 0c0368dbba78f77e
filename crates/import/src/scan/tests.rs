use super::*;

/// Something with the line where it stands.
type Placed<T> = (u32, T);

fn speeds(text: &str) -> (Vec<Placed<f64>>, Vec<Placed<String>>) {
    let found = scan(text);
    let rows = found
        .records
        .into_iter()
        .map(|mut record| (record.line, record.number("avg_ts").unwrap().unwrap()));
    let problems = found.problems.into_iter().map(|problem| (problem.line, problem.reason));
    (rows.collect(), problems.collect())
}

#[test]
fn objects_are_found_in_arrays_lines_and_wrappers() {
    for text in [
        "[\n  {\"avg_ts\": 1.5},\n  {\n    \"avg_ts\": 2.5\n  }\n]\n",
        "[{\"avg_ts\": 1.5},\n\n{\"avg_ts\": 2.5}]",
        "ggml: log\n{\"avg_ts\": 1.5}\n{\"avg_ts\": 2.5}",
        "{\"results\": [{\"avg_ts\": 1.5},\n  {\"avg_ts\": 2.5}]}",
        "{\"avg_ts\": 1.5}{\"avg_ts\": 2.5}",
        "[{\n\"avg_ts\": 1.5\n}, {\n\"avg_ts\": 2.5}]",
    ] {
        let (rows, problems) = speeds(text);
        assert_eq!(rows.iter().map(|(_, speed)| *speed).collect::<Vec<_>>(), [1.5, 2.5], "{text}");
        assert_eq!(problems, [], "{text}");
    }
    let (rows, _) =
        speeds("[\n  {\n    \"avg_ts\": 1\n  },\n  {\"avg_ts\": 2}\n]\nlog\n{\"avg_ts\": 3}");
    assert_eq!(rows, [(2, 1.0), (5, 2.0), (8, 3.0)]);
}

#[test]
fn an_array_without_its_end_keeps_what_is_whole() {
    let (rows, problems) = speeds("[\n{\"avg_ts\": 1},\n{\"avg_ts\": 2");
    assert_eq!(rows, [(2, 1.0)]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].0 == 3 && problems[0].1.contains("cut off"), "{problems:?}");
    let (rows, problems) = speeds("[\n{\"avg_ts\": 1},\n");
    assert_eq!((rows.len(), problems.len()), (1, 0));
}

#[test]
fn one_broken_line_costs_one_line() {
    let (rows, problems) =
        speeds("{\"avg_ts\": 1}\n{\"avg_ts\": nan}\n{\"avg_ts\" 2}\n{\"avg_ts\": 3}");
    assert_eq!(rows, [(1, 1.0), (4, 3.0)]);
    assert_eq!(problems.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3]);
    let (rows, problems) = speeds("{\n\"a\": 1,\n\"avg_ts\": nan\n}\n{\"avg_ts\": 3}");
    assert_eq!((rows, problems[0].0), (vec![(5, 3.0)], 3));
    let (_, problems) = speeds("{\"level\": \"info\"}");
    assert!(problems[0].1.contains("without a measurement"), "{problems:?}");
}

#[test]
fn logs_are_passed_over() {
    let text = "ggml_cuda_init: found 1 CUDA devices:\n[INFO] {not json\n# heading, with commas\n";
    let found = scan(text);
    assert_eq!((found.records.len(), found.problems.len(), found.other_lines), (0, 0, 3));
}

#[test]
fn csv_rows_follow_their_header() {
    let text = "log\nn_prompt,n_gen,avg_ts,model_type\n\"512\",\"0\",\"9.5\",\"say \"\"hi\"\"\"\n\
                ggml_metal_free: deallocating\n\"0\",\"128\",\"4\n512,0,7,x\n";
    let (rows, problems) = speeds(text);
    assert_eq!(rows, [(3, 9.5), (6, 7.0)]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].0 == 5 && problems[0].1.contains("cut off"), "{problems:?}");
}

#[test]
fn sql_of_llama_bench_and_of_a_dump() {
    let created =
        "CREATE TABLE IF NOT EXISTS llama_bench (\n  model_type TEXT,\n  avg_ts REAL\n);\n\n";
    let insert = "INSERT INTO llama_bench (model_type, avg_ts) VALUES ('it's, 'this', '1.5');";
    let (rows, problems) = speeds(&format!("{created}{insert}\n"));
    assert_eq!((rows, problems), (vec![(6, 1.5)], vec![]));
    let dump = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE t(model_type TEXT, avg_ts REAL);\n\
                INSERT INTO t VALUES('a, ''b''',2.5);\nINSERT INTO t VALUES(NULL,3);\nCOMMIT;\n";
    let found = scan(dump);
    assert_eq!((found.records.len(), found.other_lines), (2, 0));
    assert_eq!(found.records[0].clone().text("model_type").as_deref(), Some("a, 'b'"));
    for (text, word) in [
        ("INSERT INTO t VALUES ('1');", "no CREATE TABLE"),
        ("INSERT INTO t (a, b) VALUES ('1');", "1 values for 2 columns"),
        ("INSERT INTO t (a, b) VALUES ('1', '2", "do not end"),
        ("INSERT INTO t (a, b)", "without VALUES"),
    ] {
        let (_, problems) = speeds(text);
        assert!(problems[0].1.contains(word), "{text}: {problems:?}");
    }
}

#[test]
fn markdown_tables_and_their_footers() {
    let text = "\
| model                 |     size | params | backend | ngl |      test |            t/s |
| --------------------- | -------: | -----: | ------- | --: | --------: | -------------: |
| llama 7B mostly Q4_0  | 3.56 GiB | 6.74 B | CUDA    |  99 |    pp 512 | 1234.5 ± 6.7   |
| llama 7B mostly Q4_0  | 3.56 GiB | 6.74 B | CUDA    |  99 |    tg 128 | 99.5           |

build: 4fc4ec554 (9859)
| other | table |
| --- | --- |
| a | b |
";
    let found = scan(text);
    assert_eq!(found.records.len(), 2, "{found:?}");
    let mut first = found.records[0].clone();
    assert_eq!(first.number("avg_ts"), Ok(Some(1234.5)));
    assert_eq!(first.number("stddev_ts"), Ok(Some(6.7)));
    assert_eq!(first.number("size_gib"), Ok(Some(3.56)));
    assert_eq!(first.whole::<u32>("n_gpu_layers"), Ok(Some(99)));
    assert_eq!(first.text("build_commit").as_deref(), Some("4fc4ec554"));
    assert_eq!((found.problems.len(), found.other_lines), (0, 3));
}

#[test]
fn speeds_of_tables_are_one_number_or_two() {
    let cell = |speed: &str| {
        let text =
            format!("| model | test | t/s |\n| --- | --- | --- |\n| m | pp512 | {speed} |\n");
        let (rows, problems) = speeds(&text);
        rows.first().map(|(_, speed)| *speed).ok_or_else(|| problems[0].1.clone())
    };
    for good in [
        "72.79 ± 0.05",
        "72.79±0.05",
        "72.79 +- 0.05",
        "72.79 \u{fffd} 0.05",
        "72.79",
        "**72.79 ± 0.05**",
        "72.79 Â± 0.05",
        "72.79 (0.05)",
    ] {
        assert_eq!(cell(good), Ok(72.79), "{good}");
    }
    for bad in ["1,234.56 ± 1", "1 234.56", "OOM", "", "-1.0 ± 2", "1.2.3", "12 ± x", "7e3"] {
        assert!(cell(bad).is_err(), "{bad}");
    }
}

#[test]
fn other_tables_of_speeds_are_told() {
    let (_, problems) =
        speeds("| model | test | t/s master | t/s PR |\n| --- | --- | --- | --- |\n");
    assert!(problems[0].1.contains("a comparison, or of another tool"), "{problems:?}");
    let text = "| model | test | t/s |\n| --- | --- | --- |\n| m | 5 |\n";
    assert!(speeds(text).1[0].1.contains("2 cells where the header has 3"));
}
