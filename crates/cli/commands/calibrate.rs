//! `calibrate`: the main job. Measures the design, fits it, and proves it on an unseen model.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use foretoken_fit::{FitInput, fit};
use foretoken_pipeline::{
    DesignSettings, Keeper, ProofSettings, choose_proof, default_schemes, measure_design, run_proof,
};
use foretoken_runner::{
    CandleEngine, Progress as SessionProgress, SamplingMode, available_memory, device_info,
    rfc3339_utc, threads_in_effect, tool_info,
};
use foretoken_spec::{
    CalibrateReport, Calibration, CalibrationRef, DatasetRef, FitSummary, Measurement, Proof,
    QuantScheme, SCHEMA_VERSION, ToolInfo,
};

use crate::Outcome;
use crate::args::CalibrateArgs;
use crate::commands::run_here;
use crate::files::{
    AtomicFile, JsonLines, calibration_folder, datasets_folder, read_measurements, write_atomic,
};
use crate::output::{Hinted, Output};
use crate::progress::{Progress, stop_on_interrupt};

/// Seed of the sampler, of the order of loads and of the bootstrap.
const SEED: u64 = 0x5eed;
/// Time for the proof.
const PROOF_LIMIT: Duration = Duration::from_secs(45);
/// Shortest budget that measures anything useful.
const LEAST_BUDGET: Duration = Duration::from_secs(5);

/// Everything that is settled before the first measurement.
struct Job {
    id: String,
    schemes: Vec<QuantScheme>,
    budget: Duration,
    tool: ToolInfo,
    time: String,
    calibration_file: PathBuf,
    dataset_file: PathBuf,
    partial_file: PathBuf,
    proof_file: PathBuf,
    already: Vec<Measurement>,
}

/// Measures, fits, proves and writes a calibration.
pub fn run(args: &CalibrateArgs, output: &Output) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    require_candle(&args.engine)?;
    if args.budget < LEAST_BUDGET {
        bail!("--budget {:?} is too short; give at least {LEAST_BUDGET:?}", args.budget);
    }
    run_here(&args.run)?;
    let job = settle(args)?;
    let stop = stop_on_interrupt()?;
    let mut engine = CandleEngine::new(SamplingMode::Temperature { seed: SEED }).keeping_memory();
    measure(&job, &mut engine, &stop, output)?;
    let calibration = fit_and_save(&job)?;
    let proof = prove(&job, &calibration, &mut engine, &stop, output)?;
    let mut warnings = calibration.warnings.clone();
    if proof.is_none() {
        warnings.push("no proof: no catalogue model fits into its time and memory".to_owned());
    }
    output.print(&CalibrateReport {
        schema_version: SCHEMA_VERSION,
        calibration: CalibrationRef {
            id: calibration.id.clone(),
            file: job.calibration_file.display().to_string(),
            device: calibration.device.id.clone(),
            engine: format!("{} {}", calibration.engine.name, calibration.engine.version),
            threads: calibration.threads,
        },
        fit: FitSummary {
            observations: calibration.terms.iter().map(|term| term.n_observations).sum(),
            forms: calibration.terms.clone(),
            held_out: calibration.held_out,
        },
        proof,
        noise_floor: calibration.noise_floor,
        seconds: begun.elapsed().as_secs_f64(),
        dataset: job.dataset_file.display().to_string(),
        warnings,
    })?;
    Ok(Outcome::Good)
}

/// Refuses engines that this version cannot run.
pub fn require_candle(engine: &str) -> anyhow::Result<()> {
    if engine == "candle" {
        return Ok(());
    }
    Err(Hinted::new(format!("engine `{engine}` is not built in"), "use --engine candle").into())
}

/// Names, files and earlier lines; every file is checked to be writable before anything runs.
fn settle(args: &CalibrateArgs) -> anyhow::Result<Job> {
    let device = device_info();
    let id = args
        .name
        .clone()
        .unwrap_or_else(|| format!("{}-candle-{}t", device.id, threads_in_effect()));
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        bail!("--name `{id}` is no file name; use letters, digits, dashes and dots");
    }
    let calibration_file =
        args.out.clone().unwrap_or_else(|| calibration_folder().join(format!("{id}.json")));
    let datasets = match (&args.out, calibration_file.parent()) {
        (Some(_), Some(folder)) => folder.to_owned(),
        _ => datasets_folder(),
    };
    let partial_file = datasets.join(format!("{id}.partial.jsonl"));
    let already = match (args.resume, partial_file.exists()) {
        (true, true) => read_measurements(&partial_file)?.measurements,
        (true, false) => {
            let message = format!("nothing to resume: {} does not exist", partial_file.display());
            return Err(Hinted::new(message, "run without --resume").into());
        }
        (false, true) => {
            fs::remove_file(&partial_file)
                .with_context(|| format!("cannot replace {}", partial_file.display()))?;
            Vec::new()
        }
        (false, false) => Vec::new(),
    };
    // Opened and thrown away: a place that cannot be written is told before measuring.
    drop(AtomicFile::create(&calibration_file)?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(Job {
        schemes: if args.quant.is_empty() { default_schemes() } else { args.quant.clone() },
        budget: args.budget.saturating_sub(measured_time(&already)),
        tool: tool_info(env!("CARGO_PKG_VERSION")),
        time: rfc3339_utc(now),
        dataset_file: datasets.join(format!("{id}.jsonl")),
        proof_file: datasets.join(format!("{id}.proof.jsonl")),
        calibration_file,
        partial_file,
        already,
        id,
    })
}

/// Time that went into earlier lines.
fn measured_time(lines: &[Measurement]) -> Duration {
    let passes = |m: &Measurement| {
        let samples = m.prefill.iter().chain(&m.decode).map(|s| s.total_ns());
        samples.sum::<u64>() + m.warmup.iter().map(|w| w.ns).sum::<u64>()
    };
    Duration::from_nanos(lines.iter().map(passes).sum())
}

fn measure(
    job: &Job,
    engine: &mut CandleEngine,
    stop: &Arc<AtomicBool>,
    output: &Output,
) -> anyhow::Result<()> {
    let progress = Progress::steps(output, job.budget.as_secs().max(1));
    let lines = JsonLines::append(&job.partial_file)?;
    let mut keeper = FileKeeper { lines, progress: &progress, title: "measuring" };
    let settings = DesignSettings {
        budget: job.budget,
        schemes: job.schemes.clone(),
        session: format!("calibrate-{}", job.time),
        tool: job.tool.clone(),
        seed: SEED,
    };
    let is_stopped = || stop.load(Ordering::SeqCst);
    let summary = measure_design(engine, &settings, &job.already, &mut keeper, &is_stopped)?;
    progress.finish();
    if summary.stopped {
        let message = format!("stopped; what was measured is in {}", job.partial_file.display());
        return Err(Hinted::new(message, "go on with --resume").into());
    }
    fs::rename(&job.partial_file, &job.dataset_file)
        .with_context(|| format!("cannot write {}", job.dataset_file.display()))
}

fn fit_and_save(job: &Job) -> anyhow::Result<Calibration> {
    let dataset = read_measurements(&job.dataset_file)?;
    let input = FitInput {
        id: job.id.clone(),
        tool: job.tool.clone(),
        time: job.time.clone(),
        dataset: DatasetRef {
            file: file_name(&job.dataset_file),
            hash: dataset.hash,
            measurements: dataset.measurements.len() as u32,
        },
        seed: SEED,
    };
    let calibration = fit(&dataset.measurements, input)
        .with_context(|| format!("cannot fit {}", job.dataset_file.display()))?;
    let text = serde_json::to_string_pretty(&calibration)? + "\n";
    write_atomic(&job.calibration_file, text.as_bytes())?;
    Ok(calibration)
}

fn prove(
    job: &Job,
    calibration: &Calibration,
    engine: &mut CandleEngine,
    stop: &Arc<AtomicBool>,
    output: &Output,
) -> anyhow::Result<Option<Proof>> {
    let settings = ProofSettings {
        limit: PROOF_LIMIT,
        available_bytes: available_memory(),
        schemes: job.schemes.clone(),
        session: format!("proof-{}", job.time),
        tool: job.tool.clone(),
    };
    let Some(plan) = choose_proof(calibration, &settings)? else { return Ok(None) };
    let progress = Progress::steps(output, PROOF_LIMIT.as_secs());
    if job.proof_file.exists() {
        fs::remove_file(&job.proof_file)
            .with_context(|| format!("cannot replace {}", job.proof_file.display()))?;
    }
    let lines = JsonLines::append(&job.proof_file)?;
    let mut keeper = FileKeeper { lines, progress: &progress, title: "proof on an unseen model" };
    let is_stopped = || stop.load(Ordering::SeqCst);
    let proof = run_proof(engine, &plan, &settings, &mut keeper, &is_stopped)?;
    progress.finish();
    Ok(proof)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Appends lines to a file and moves the bar by the seconds gone.
struct FileKeeper<'a> {
    lines: JsonLines,
    progress: &'a Progress,
    title: &'static str,
}

impl Keeper for FileKeeper<'_> {
    fn keep(&mut self, measurement: &Measurement) -> io::Result<()> {
        self.lines.push(measurement).map_err(|error| io::Error::other(format!("{error:#}")))
    }

    fn progress(&mut self, now: &SessionProgress<'_>) {
        self.progress.set(now.elapsed.as_secs());
        self.progress.message(format!(
            "{} · {} {} · load {} · prompt {}, depth {}",
            self.title,
            now.plan.model.name,
            now.plan.model.quant,
            now.plan.load + 1,
            now.workload.prompt_tokens,
            now.workload.depth
        ));
    }
}
