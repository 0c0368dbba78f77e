//! lm-Meter's table of overhead: speed without and with the profiler, under each condition that
//! this machine can be put into.
//!
//! `cargo bench -p foretoken-runner --bench overhead_table [-- smollm2 | tinyllama]`
//!
//! Conditions: every CPU governor, where the system offers any and lets us choose; all threads
//! and fewer; half of the processor time, where control groups let us limit it. Each runs in a
//! process of its own, probed and unprobed passes in turns.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench prints, and ends at the first failure"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use foretoken_runner::{CandleEngine, Engine, LoadedModel, SamplingMode, processor_info};
use foretoken_stats::{median, median_interval};

#[path = "shared/models.rs"]
mod models;

/// Tells a process that it is to measure, not to print the table.
const CHILD: &str = "FORETOKEN_OVERHEAD_CHILD";
const THREADS: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

const PROMPT: u32 = 64;
const PROMPT_PAIRS: usize = 40;
const STEP_PAIRS: usize = 150;
const RESAMPLES: usize = 2000;
/// Period of the limit on processor time: short, so that a pass sees many.
const PERIOD_US: u32 = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let name = arguments.first().map_or("smollm2", String::as_str).to_owned();
    if std::env::var(CHILD).is_ok() {
        measure(&name);
        return;
    }
    let device = processor_info();
    println!("{name}, {}\n", device.id);
    println!("| condition | phase | without, tok/s | with, tok/s | slowdown % | 95 % interval |");
    println!("|---|---|---:|---:|---:|---|");
    let cores = device.physical_cores;
    let governors = Governors::here();
    for governor in governors.names() {
        match governors.set(governor) {
            Ok(()) => run(&format!("governor {governor}"), &name, cores, None),
            Err(error) => println!("| governor {governor} | not allowed: {error} | | | | |"),
        }
    }
    governors.restore();
    if governors.names().is_empty() {
        println!("| governors | none on this machine | | | | |");
    }
    let mut threads = cores;
    while threads >= 1 {
        run(&format!("{threads} threads"), &name, threads, None);
        threads /= 2;
    }
    match Limit::half_of(cores) {
        Ok(limit) => run("half of the processor time", &name, cores, Some(&limit)),
        Err(error) => {
            println!("| half of the processor time | not allowed: {error} | | | | |");
        }
    }
}

/// Measures in a process of its own and prints its rows.
fn run(condition: &str, name: &str, threads: u32, limit: Option<&Limit>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(name).env(CHILD, "1");
    for variable in THREADS {
        command.env(variable, threads.to_string());
    }
    command.stdout(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    if let Some(limit) = limit {
        limit.put(child.id());
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the measuring process failed");
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        println!("| {condition} | {line}");
    }
}

/// Prints `phase | without | with | slowdown | interval |` for both phases.
fn measure(name: &str) {
    let model = if name == "tinyllama" { models::tinyllama() } else { models::smollm2_135m() };
    let mut engine = CandleEngine::new(SamplingMode::Temperature { seed: 1 }).keeping_memory();
    let mut loaded = engine.load(&model).unwrap();
    let prompt: Vec<u32> = (0..PROMPT).map(|i| i * 37 % model.shape.vocab_size).collect();
    for _ in 0..2 {
        loaded.reset();
        loaded.forward(&prompt, 0, false).unwrap();
    }
    loaded.reset();
    loaded.snapshot();
    row("prefill", &pairs(loaded.as_mut(), &prompt, 0, PROMPT_PAIRS), f64::from(PROMPT));
    loaded.restore().unwrap();
    loaded.forward(&prompt, 0, false).unwrap();
    loaded.snapshot();
    row("decode", &pairs(loaded.as_mut(), &[1], PROMPT, STEP_PAIRS), 1.0);
}

/// (unprobed, probed) forward times in ns, in turns.
fn pairs(model: &mut dyn LoadedModel, tokens: &[u32], kv_len: u32, n: usize) -> Vec<(f64, f64)> {
    let mut timed = |probe| {
        model.restore().unwrap();
        model.forward(tokens, kv_len, probe).unwrap().forward_ns as f64
    };
    timed(false);
    (0..n)
        .map(|i| {
            if i.is_multiple_of(2) {
                let without = timed(false);
                (without, timed(true))
            } else {
                let with = timed(true);
                (timed(false), with)
            }
        })
        .collect()
}

fn row(phase: &str, pairs: &[(f64, f64)], tokens: f64) {
    let speed = |pick: fn(&(f64, f64)) -> f64| {
        tokens * 1e9 / median(&pairs.iter().map(pick).collect::<Vec<_>>()).unwrap()
    };
    let ratios: Vec<f64> = pairs.iter().map(|(without, with)| with / without - 1.0).collect();
    let (lower, upper) = median_interval(&ratios, RESAMPLES, 1).unwrap();
    let percent = |value: f64| format!("{:+.2}", value * 100.0);
    println!(
        "{phase} | {:.3} | {:.3} | {} | {} … {} |",
        speed(|p| p.0),
        speed(|p| p.1),
        percent(median(&ratios).unwrap()),
        percent(lower),
        percent(upper),
    );
}

/// The frequency governors of Linux.
struct Governors {
    files: Vec<PathBuf>,
    names: Vec<String>,
    before: Option<String>,
}

impl Governors {
    fn here() -> Self {
        let root = Path::new("/sys/devices/system/cpu");
        let files: Vec<PathBuf> = fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("cpufreq/scaling_governor"))
            .filter(|file| file.exists())
            .collect();
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let names = text(&root.join("cpu0/cpufreq/scaling_available_governors"));
        Self {
            before: files.first().map(|file| text(file).trim().to_owned()),
            files,
            names: names.split_whitespace().map(str::to_owned).collect(),
        }
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn set(&self, name: &str) -> std::io::Result<()> {
        self.files.iter().try_for_each(|file| fs::write(file, name))
    }

    fn restore(&self) {
        if let Some(before) = &self.before {
            // What could not be changed needs no way back.
            let _ = self.set(before);
        }
    }
}

/// A control group whose processes get half of the processor time.
struct Limit {
    folder: PathBuf,
}

impl Limit {
    fn half_of(cores: u32) -> std::io::Result<Self> {
        let quota = PERIOD_US * cores / 2;
        let (v1, v2) = (Path::new("/sys/fs/cgroup/cpu"), Path::new("/sys/fs/cgroup"));
        let is_v1 = v1.join("cpu.cfs_quota_us").exists();
        let limit = Self { folder: (if is_v1 { v1 } else { v2 }).join("foretoken-overhead") };
        fs::create_dir_all(&limit.folder)?;
        if is_v1 {
            fs::write(limit.folder.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
            fs::write(limit.folder.join("cpu.cfs_quota_us"), quota.to_string())?;
        } else {
            fs::write(limit.folder.join("cpu.max"), format!("{quota} {PERIOD_US}"))?;
        }
        Ok(limit)
    }

    fn put(&self, process: u32) {
        fs::write(self.folder.join("cgroup.procs"), process.to_string()).unwrap();
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}
