//! Energy and loading through the binary: recorded meters that move, files from storage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::util::{Sandbox, fixture};

const PACKAGE: &str = "sys/class/powercap/intel-rapl:0/energy_uj";
/// How long `measure` watches the idle machine, with some room.
const IDLE: Duration = Duration::from_millis(3300);

/// Writes a recorded tree below a folder; files for root only are left out.
fn unpack(name: &str, sandbox: &Sandbox) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/meter/fixtures").join(name);
    let text = fs::read_to_string(path).unwrap();
    for line in text.lines().filter(|line| line.starts_with('/')) {
        let (path, text) = line.split_once(" = ").unwrap();
        if text != "!denied" {
            sandbox.file(&format!("root{path}"), format!("{text}\n"));
        }
    }
    "root".to_owned()
}

/// A counter that moves for as long as this lives: 5 W while the machine should be idle, then 2 kW.
struct Moving {
    has_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Moving {
    fn new(file: PathBuf) -> Self {
        let has_ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&has_ended);
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            while !seen.load(Ordering::SeqCst) {
                let busy = begun.elapsed().saturating_sub(IDLE);
                let idle = begun.elapsed() - busy;
                let joules = 5.0 * idle.as_secs_f64() + 2000.0 * busy.as_secs_f64();
                // Renamed, so that nobody reads half a number.
                let next = file.with_extension("next");
                fs::write(&next, format!("{}\n", (joules * 1e6) as u64)).unwrap();
                fs::rename(&next, &file).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { has_ended, thread: Some(thread) }
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn joules_of_a_moving_counter_are_reported_and_kept() {
    let sandbox = Sandbox::new();
    let root = unpack("intel-desktop.tree", &sandbox);
    let model = fixture("config.json");
    let args = ["measure", &model, "--prompt", "512", "--gen", "128", "--repeat", "2"];
    let more = ["--meter-root", &root, "--out", "raw.jsonl", "--format", "json"];
    let moving = Moving::new(sandbox.path(&format!("root/{PACKAGE}")));
    let run = sandbox.good(&[&args[..], &more[..]].concat());
    drop(moving);
    assert!(run.stderr.contains("energy: rapl (package-0 + dram)"), "{}", run.stderr);
    let energy = &run.json()[0]["energy_j"];
    assert_eq!(energy["source"], "rapl");
    assert_eq!(energy["meter"], "package-0 + dram");
    let positive = |value: &Value| value.as_f64() > Some(0.0);
    assert!(positive(&energy["idle_w"]), "{energy}");
    assert!(positive(&energy["prefill"]) && positive(&energy["with_idle"]["prefill"]), "{energy}");
    let raw = fs::read_to_string(sandbox.path("raw.jsonl")).unwrap();
    for line in raw.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(positive(&line["energy"]["prefill"]["joules"]), "{}", line["energy"]);
        assert_eq!(line["energy"]["decode"]["passes"], 128);
    }
}

#[test]
fn a_counter_that_stands_still_says_why_there_is_no_energy() {
    let sandbox = Sandbox::new();
    let root = unpack("intel-desktop.tree", &sandbox);
    let model = fixture("config.json");
    let args = ["measure", &model, "--prompt", "256", "--gen", "0", "--repeat", "1"];
    let run = sandbox.good(&[&args[..], &["--meter-root", &root, "--format", "json"]].concat());
    let report = &run.json()[0];
    assert_eq!(report["energy_j"]["prefill"], Value::Null, "{report}");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("no more power") || warnings.contains("too short"), "{warnings}");
}

#[test]
fn a_machine_without_a_meter_has_no_energy_and_no_complaint() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    for tree in ["raspberry-pi-5.tree", "amd-epyc-denied.tree"] {
        let root = unpack(tree, &sandbox);
        let args = ["measure", &model, "--prompt", "8", "--gen", "2", "--repeat", "1"];
        let run = sandbox.good(&[&args[..], &["--meter-root", &root, "--format", "json"]].concat());
        assert_eq!(run.json()[0]["energy_j"], Value::Null);
        fs::remove_dir_all(sandbox.path("root")).unwrap();
    }
}

#[test]
fn a_meter_that_is_asked_for_must_be_there() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    let root = unpack("raspberry-pi-5.tree", &sandbox);
    let refused = |meter: &str, words: &[&str]| {
        let args = ["measure", &model, "--meter", meter, "--meter-root", &root];
        sandbox.error_says(&args, words);
    };
    refused("rapl", &["--meter rapl: no RAPL zones", "hint: "]);
    refused("battery", &["no battery", "hint: "]);
    sandbox.file("root/sys/class/power_supply/BAT0/type", "Battery\n");
    sandbox.file("root/sys/class/power_supply/BAT0/status", "Charging\n");
    refused("battery", &["battery BAT0 is charging", "hint: unplug"]);
    refused("candle", &["candle", "rapl"]);
}

#[test]
fn a_file_is_loaded_from_storage_and_from_memory() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    sandbox.good(&["synth", &model, "--quant", "Q8_0", "--out", "tiny.gguf"]);
    let args = ["measure", "tiny.gguf", "--prompt", "8", "--gen", "2", "--repeat", "2", "--quiet"];
    let more = ["--format", "json", "--out", "raw.jsonl"];
    let report = sandbox.good(&[&args[..], &more[..]].concat()).json()[0].clone();
    assert!(report["load_ms"]["median"].as_f64() > Some(0.0));
    let raw = fs::read_to_string(sandbox.path("raw.jsonl")).unwrap();
    let line: Value = serde_json::from_str(raw.lines().next().unwrap()).unwrap();
    let size = fs::metadata(sandbox.path("tiny.gguf")).unwrap().len();
    assert_eq!(line["cold_load"]["file_bytes"], size);
    assert!(line["cold_load"]["ns"].as_u64() > Some(0));
    // Whether a file can be forgotten depends on where it lies; where not, that is said.
    let is_cold = report["load_cold_ms"]["median"].as_f64() > Some(0.0);
    let doubts = report["warnings"].to_string().contains("from storage is left out");
    assert!(is_cold || doubts, "{report}");
}

#[test]
fn synthetic_weights_have_no_cold_load() {
    let sandbox = Sandbox::new();
    let model = fixture("config.json");
    let args = ["measure", &model, "--prompt", "8", "--gen", "2", "--repeat", "1", "--quiet"];
    let report = sandbox.good(&[&args[..], &["--format", "json"]].concat()).json()[0].clone();
    assert_eq!(report["load_cold_ms"], Value::Null);
}

/// Median load of each model and quantization in a dataset, in ms.
fn observed_loads(file: &Path) -> BTreeMap<(String, String), f64> {
    let mut loads: BTreeMap<(String, String), BTreeMap<(String, u64), f64>> = BTreeMap::new();
    for line in fs::read_to_string(file).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let load = (text(&line["session"]), line["sequence"].as_u64().unwrap());
        let key = (text(&line["model"]["name"]), text(&line["model"]["quant"]));
        loads.entry(key).or_default().insert(load, line["load_ns"].as_f64().unwrap() * 1e-6);
    }
    loads.into_iter().map(|(key, ms)| (key, median(ms.into_values().collect()))).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// The loads of a calibration's mini-models foretell those of models that were measured in other
/// sessions: within 10 % in the median, where bytes alone are off by half.
#[test]
fn loads_of_unseen_models_are_foretold() {
    let sandbox = Sandbox::new();
    let datasets = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets");
    let minis = datasets.join("amd-epyc-zen5-2c-candle-2t.jsonl");
    let args = ["calibrate", "--from", minis.to_str().unwrap(), "--out", "c.json", "--quiet"];
    let table = sandbox.good(&args).stdout;
    assert!(table.contains("loading: error on held-out models"), "{table}");
    let mut errors = Vec::new();
    for file in ["amd-epyc-zen5-2c-paired.jsonl", "amd-epyc-zen5-2c-architectures.jsonl"] {
        for ((model, quant), observed) in observed_loads(&datasets.join(file)) {
            let args = ["predict", &model, "--quant", &quant, "--calibration", "c.json"];
            let more = ["--format", "json", "--quiet"];
            let answer = sandbox.good(&[&args[..], &more[..]].concat()).json();
            let load = &answer["load_ms"];
            let part = |name: &str| load[name].as_f64().unwrap();
            assert!(part("lower") < part("point") && part("point") < part("upper"), "{load}");
            let error = part("point") / observed - 1.0;
            errors.push(error.abs());
        }
    }
    assert!(errors.len() > 20);
    let typical = median(errors);
    assert!(typical < 0.10, "median error {typical}");
}
