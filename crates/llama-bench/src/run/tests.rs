use super::*;

fn bench() -> LlamaBench {
    let help = "--n-prompt --n-gen --repetitions --output jsonl --n-depth";
    LlamaBench::of_help(Path::new("llama-bench"), help).unwrap()
}

fn tests() -> BenchTests {
    BenchTests { prompts: vec![32, 128], generate: 16, depth: 0, repeats: 2, threads: 4 }
}

fn line(n_prompt: u32, n_gen: u32, samples: &str) -> String {
    format!(
        "{{\"build_commit\": \"8f0bba8e\", \"build_number\": 6123, \"backends\": \"CPU\", \
         \"cpu_info\": \"a\", \"gpu_info\": \"\", \"model_filename\": \"m.gguf\", \
         \"model_type\": \"llama ?B Q8_0\", \"model_size\": 1000, \"model_n_params\": 900, \
         \"n_threads\": 4, \"n_gpu_layers\": 99, \"flash_attn\": false, \"n_prompt\": {n_prompt}, \
         \"n_gen\": {n_gen}, \"n_depth\": 0, \"avg_ns\": 2000, \"stddev_ns\": 10, \
         \"avg_ts\": 100.0, \"stddev_ts\": 1.0, \"samples_ns\": [{samples}], \
         \"samples_ts\": [100.0]}}\n"
    )
}

#[test]
fn the_arguments_are_those_of_every_version() {
    let at_depth = BenchTests { depth: 1024, prompts: vec![], ..tests() };
    assert_eq!(
        bench().arguments(Path::new("m.gguf"), &tests()).join(" "),
        "-m m.gguf -p 32,128 -n 16 -r 2 -t 4 -o jsonl"
    );
    assert_eq!(
        bench().arguments(Path::new("m.gguf"), &at_depth).join(" "),
        "-m m.gguf -p 0 -n 16 -r 2 -t 4 -o jsonl -d 1024"
    );
}

#[test]
fn every_test_that_was_asked_for_is_found() {
    let printed = line(128, 0, "5, 6") + &line(32, 0, "2, 3") + &line(0, 16, "7");
    let run = bench().read(&printed, Path::new("m.gguf"), &tests(), Some(5)).unwrap();
    let found: Vec<(u32, u32, &[u64])> =
        run.tests.iter().map(|t| (t.n_prompt, t.n_gen, t.samples_ns.as_slice())).collect();
    assert_eq!(found, [(32, 0, &[2, 3][..]), (128, 0, &[5, 6]), (0, 16, &[7])]);
    assert_eq!(run.build.version, "b6123 (8f0bba8e)");
    assert_eq!(
        (run.build.backend.as_str(), run.build.gpu, run.peak_rss_bytes),
        ("cpu", None, Some(5))
    );
}

#[test]
fn a_test_that_is_missing_is_named() {
    let printed = line(128, 0, "5, 6") + &line(0, 16, "7");
    let error = bench().read(&printed, Path::new("m.gguf"), &tests(), None).unwrap_err();
    assert_eq!(error.to_string(), "llama-bench gave no result for pp32 @ d0 of m.gguf");
    let without_samples = printed.replace("5, 6", "");
    let error = bench().read(&without_samples, Path::new("m.gguf"), &tests(), None).unwrap_err();
    assert!(error.to_string().contains("gave no result"), "{error}");
    let error = bench().read("nonsense", Path::new("m.gguf"), &tests(), None).unwrap_err();
    assert!(error.to_string().contains("pp32"), "{error}");
}

#[test]
fn the_last_words_are_those_of_the_log() {
    assert_eq!(last_words("a\n\nb\nc\n", "d"), "b; c");
    assert_eq!(last_words(" \n", "d"), "d");
    assert_eq!(last_words("", ""), "it said nothing");
}

#[test]
fn the_peak_is_read_from_the_status_of_a_process() {
    assert_eq!(peak_of_status("Name:\tx\nVmHWM:\t    1000 kB\nVmRSS: 3 kB"), Some(1_024_000));
    assert_eq!(peak_of_status("VmHWM:\t kB"), None);
    assert_eq!(peak_of_status(""), None);
}

#[cfg(unix)]
mod processes {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    /// A program that does what a shell script says.
    fn program(folder: &tempfile::TempDir, script: &str) -> PathBuf {
        let path = folder.path().join("llama-bench");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn run(script: &str, limit: Duration, stop: bool) -> Result<Option<BenchRun>, BenchError> {
        let folder = tempfile::tempdir().unwrap();
        let path = program(&folder, script);
        let bench = LlamaBench { path, ..bench() };
        bench.run(Path::new("m.gguf"), &tests(), limit, &|| stop)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_failure_is_told_in_its_own_words() {
        let error = run("echo 'error: failed to load model' >&2; exit 3", LONG, false).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("failed on m.gguf (exit status: 3)"), "{error}");
        assert!(error.ends_with("error: failed to load model"), "{error}");
    }

    #[test]
    fn a_process_that_does_not_end_is_stopped() {
        let begun = Instant::now();
        let error = run("exec sleep 30", Duration::from_millis(50), false).unwrap_err();
        assert!(matches!(error, BenchError::TooLong { .. }), "{error}");
        assert!(run("exec sleep 30", LONG, true).unwrap().is_none());
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn much_output_does_not_block() {
        let script = "i=0; while [ $i -lt 20000 ]; do echo 'a line of a log' >&2; i=$((i+1)); done";
        let error = run(script, LONG, false).unwrap_err();
        assert!(matches!(error, BenchError::Missing { .. }), "{error}");
    }
}
