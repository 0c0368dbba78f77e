//! `calibrate`: the main job. Measures the design, fits it, and proves it on an unseen model.

pub mod bench;
mod job;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use foretoken_fit::{FitInput, fit};
use foretoken_html::calibration_page;
use foretoken_pipeline::{
    DesignSettings, Keeper, ProofPlan, ProofSettings, ProofTiming, choose_proof, measure_design,
    run_proof,
};
use foretoken_report::Calibrated;
use foretoken_runner::{
    CandleEngine, Engine, Progress as SessionProgress, SamplingMode, rfc3339_utc, tool_info,
};
use foretoken_spec::{
    CalibrateReport, Calibration, CalibrationRef, DatasetRef, DesignStep, FitSummary, Measurement,
    Proof, SCHEMA_VERSION, TermFit,
};

use self::job::{Job, design, schemes, set_aside};
use crate::Outcome;
use crate::args::{CalibrateArgs, EngineArg};
use crate::commands::run_here;
use crate::files::{JsonLines, check_page, read_measurements, write_atomic, write_page};
use crate::meter::open_meter;
use crate::output::{Hinted, Output};
use crate::progress::{Progress, stop_on_interrupt};

/// Seed of the sampler, of the order of loads and of the bootstrap.
const SEED: u64 = 0x5eed;
/// Time for the proof.
const PROOF_LIMIT: Duration = Duration::from_secs(45);
/// Shortest budget that measures anything useful.
const LEAST_BUDGET: Duration = Duration::from_secs(5);

/// Measures, fits, proves and writes a calibration.
pub fn run(args: &CalibrateArgs, output: &Output) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    if args.budget < LEAST_BUDGET {
        bail!("--budget {:?} is too short; give at least {LEAST_BUDGET:?}", args.budget);
    }
    if let Some(path) = &args.report {
        check_page(path)?;
    }
    if let Some(file) = &args.from {
        return refit(args, file, begun, output);
    }
    bench::require_own_device(&args.engine, &args.run)?;
    let device = run_here(&args.run)?;
    let sampling = SamplingMode::Temperature { seed: SEED };
    let mut engine = CandleEngine::on(device.clone(), sampling).keeping_memory();
    if args.engine.engine == EngineArg::LlamaCpp {
        return bench::run(args, &mut engine, begun, output);
    }
    let design = design(&schemes(args), &device)?;
    let job = Job::settle(args, &engine, output)?;
    engine = engine.with_meter(open_meter(&args.meter, device.pci_address(), output)?);
    let stop = stop_on_interrupt()?;
    let is_stopped = || stop.load(Ordering::SeqCst);
    let steps = measure(&job, output, |settings, keeper| {
        let already = &job.already;
        let summary = measure_design(&mut engine, &design, settings, already, keeper, &is_stopped)?;
        Ok(Measured { answer: summary.steps, stopped: summary.session.stopped })
    })?;
    let wanted: Vec<String> = design.classes().iter().map(|class| class.key()).collect();
    let calibration = fit_and_save(&job, &wanted)?;
    // What the design's models have left in the allocator is free for the proof.
    engine.prepare_load();
    let available = device.available_memory();
    let mut run_plan = |plan: &ProofPlan, settings: &ProofSettings, keeper: &mut dyn Keeper| {
        Ok(run_proof(&mut engine, plan, settings, keeper, &is_stopped)?)
    };
    let proof = (ProofTiming::IN_PROCESS, available, &mut run_plan as &mut RunPlan<'_>);
    let proved = prove(&job, &calibration, proof, &is_stopped, output);
    finish(args, &job, &calibration, steps, proved, begun, output)
}

/// Puts a calibration's proof beside it, and prints both.
fn finish(
    args: &CalibrateArgs,
    job: &Job,
    calibration: &Calibration,
    steps: Vec<DesignStep>,
    proved: anyhow::Result<Proved>,
    begun: Instant,
    output: &Output,
) -> anyhow::Result<Outcome> {
    let mut warnings = calibration.warnings.clone();
    // The calibration is saved by now: what goes wrong with the proof takes nothing from it.
    let proof = match proved {
        Ok(Proved { proof, warning }) => {
            warnings.extend(warning);
            proof
        }
        Err(error) => {
            warnings.push(format!("proof failed: {error:#}"));
            None
        }
    };
    let report = CalibrateReport {
        design: steps,
        proof,
        warnings,
        ..summary(calibration, &job.calibration_file, &job.dataset_file, begun)
    };
    write_report(args, &report, calibration, &job.dataset_file, output)?;
    output.print(&Calibrated { report, explain: args.explain })?;
    Ok(Outcome::Good)
}

/// Writes the page of `--report`, where one is asked for.
fn write_report(
    args: &CalibrateArgs,
    report: &CalibrateReport,
    calibration: &Calibration,
    dataset: &Path,
    output: &Output,
) -> anyhow::Result<()> {
    let Some(path) = &args.report else { return Ok(()) };
    let lines = read_measurements(dataset)?.measurements;
    let page = calibration_page(report, calibration, &lines, env!("CARGO_PKG_VERSION"))?;
    write_page(path, &page, output)
}

/// Kernels that were fitted; of an engine that shows whole passes only, the passes: each has one
/// attention.
fn n_observations(calibration: &Calibration) -> u32 {
    let is_whole = !calibration.engine.is_candle();
    let counted = |term: &&TermFit| !is_whole || term.class.starts_with("attention");
    calibration.terms.iter().filter(counted).map(|term| term.n_observations).sum()
}

/// What a calibration says of itself, without design and proof.
fn summary(
    calibration: &Calibration,
    file: &Path,
    dataset: &Path,
    begun: Instant,
) -> CalibrateReport {
    CalibrateReport {
        schema_version: SCHEMA_VERSION,
        calibration: CalibrationRef {
            id: calibration.id.clone(),
            file: file.display().to_string(),
            device: calibration.device.id.clone(),
            engine: format!("{} {}", calibration.engine.name, calibration.engine.version),
            threads: calibration.threads,
        },
        fit: FitSummary {
            observations: n_observations(calibration),
            forms: calibration.terms.clone(),
            held_out: calibration.held_out,
            energy: calibration.energy.clone(),
            loading: calibration.loading.clone(),
        },
        design: Vec::new(),
        proof: None,
        noise_floor: calibration.noise_floor,
        seconds: begun.elapsed().as_secs_f64(),
        dataset: dataset.display().to_string(),
        warnings: calibration.warnings.clone(),
    }
}

/// Fits measurements that are there, and writes the calibration.
fn refit(
    args: &CalibrateArgs,
    file: &Path,
    begun: Instant,
    output: &Output,
) -> anyhow::Result<Outcome> {
    let dataset = read_measurements(file)?;
    for warning in &dataset.warnings {
        output.warn(warning);
    }
    let first = dataset.measurements.first();
    let default_id = || first.map(|m| job::default_id(&m.device, &m.engine.name, m.threads));
    let id = args.name.clone().or_else(default_id).unwrap_or_default();
    let calibration_file = job::calibration_file(args, &id)?;
    if args.name.is_none() && args.out.is_none() && calibration_file.exists() {
        let message = format!("{} exists", calibration_file.display());
        return Err(Hinted::new(message, "say where to write with --name or --out").into());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let input = FitInput {
        id,
        tool: tool_info(env!("CARGO_PKG_VERSION")),
        time: rfc3339_utc(now),
        dataset: DatasetRef {
            file: file_name(file),
            hash: dataset.hash,
            measurements: dataset.measurements.len() as u32,
        },
        seed: SEED,
    };
    let calibration = fit(&dataset.measurements, input)
        .with_context(|| format!("cannot fit {}", file.display()))?;
    let text = serde_json::to_string_pretty(&calibration)? + "\n";
    write_atomic(&calibration_file, text.as_bytes())?;
    let report = summary(&calibration, &calibration_file, file, begun);
    write_report(args, &report, &calibration, file, output)?;
    output.print(&Calibrated { report, explain: false })?;
    Ok(Outcome::Good)
}

/// What came of a design.
struct Measured<T> {
    answer: T,
    stopped: bool,
}

/// Runs a design into the job's file, under a bar. What was measured before Ctrl-C or an error stays
/// there for `--resume`; a file without a line does not.
fn measure<T>(
    job: &Job,
    output: &Output,
    run: impl FnOnce(&DesignSettings, &mut FileKeeper<'_>) -> anyhow::Result<Measured<T>>,
) -> anyhow::Result<T> {
    let progress = Progress::steps(output, job.budget.as_secs().max(1));
    let lines = JsonLines::append(&job.partial_file)?;
    let mut keeper = FileKeeper { lines, progress: &progress, title: "measuring", n_kept: 0 };
    let settings = DesignSettings {
        budget: job.budget,
        session: format!("calibrate-{}", job.time),
        tool: job.tool.clone(),
        seed: SEED,
    };
    let outcome = run(&settings, &mut keeper);
    let is_empty = keeper.n_kept == 0 && job.already.is_empty();
    drop(keeper);
    progress.finish();
    if let Ok(Measured { answer, stopped: false }) = outcome {
        return Ok(answer);
    }
    if is_empty {
        // Nothing is lost, and there is nothing to go on from.
        let _ = fs::remove_file(&job.partial_file);
    }
    outcome?;
    if is_empty {
        bail!("stopped before the first load was measured");
    }
    let message = format!("stopped; what was measured is in {}", job.partial_file.display());
    Err(Hinted::new(message, "go on with --resume").into())
}

/// Fits what was measured; only then it takes the place of an earlier calibration's data.
///
/// `wanted` are the keys of the kernels of the asked quantizations.
fn fit_and_save(job: &Job, wanted: &[String]) -> anyhow::Result<Calibration> {
    let dataset = read_measurements(&job.partial_file)?;
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
    let mut calibration = fit(&dataset.measurements, input).with_context(|| {
        let message = format!("cannot fit {}", job.partial_file.display());
        Hinted::new(message, "measure more: --resume with a longer --budget")
    })?;
    calibration.warnings.extend(left_out(wanted, &calibration));
    let text = serde_json::to_string_pretty(&calibration)? + "\n";
    fs::rename(&job.partial_file, &job.dataset_file)
        .with_context(|| format!("cannot write {}", job.dataset_file.display()))?;
    write_atomic(&job.calibration_file, text.as_bytes())?;
    Ok(calibration)
}

/// The warning about kernels of the asked quantizations that the budget did not hold.
fn left_out(wanted: &[String], calibration: &Calibration) -> Option<String> {
    let is_known = |key: &&str| calibration.terms.iter().any(|term| term.class == **key);
    let missing: Vec<&str> =
        wanted.iter().map(String::as_str).filter(|key| !is_known(key)).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "the budget left out {} of {} kernels ({}): others stand in for them; give a longer \
             --budget",
            missing.len(),
            wanted.len(),
            missing.join(", ")
        )
    })
}

/// What came of the proof.
struct Proved {
    proof: Option<Proof>,
    warning: Option<String>,
}

/// Runs what was predicted.
type RunPlan<'a> =
    dyn FnMut(&ProofPlan, &ProofSettings, &mut dyn Keeper) -> anyhow::Result<Option<Proof>> + 'a;

fn prove(
    job: &Job,
    calibration: &Calibration,
    (timing, available_bytes, run): (ProofTiming, Option<u64>, &mut RunPlan<'_>),
    is_stopped: &dyn Fn() -> bool,
    output: &Output,
) -> anyhow::Result<Proved> {
    let settings = ProofSettings {
        limit: PROOF_LIMIT,
        available_bytes,
        schemes: job.schemes.clone(),
        session: format!("proof-{}", job.time),
        tool: job.tool.clone(),
        timing,
    };
    let plan = if is_stopped() { None } else { choose_proof(calibration, &settings)? };
    let proof = match &plan {
        Some(plan) => run_plan(job, plan, &settings, run, output)?,
        None => None,
    };
    let warning = if is_stopped() {
        Some("proof stopped".to_owned())
    } else if plan.is_none() {
        Some("no proof: no catalogue model fits into the time and memory".to_owned())
    } else if proof.is_none() {
        Some("proof failed: nothing was measured in its time".to_owned())
    } else {
        None
    };
    Ok(Proved { proof, warning })
}

/// Runs the proof; its lines take the place of an earlier proof's once there are any.
fn run_plan(
    job: &Job,
    plan: &ProofPlan,
    settings: &ProofSettings,
    run: &mut RunPlan<'_>,
    output: &Output,
) -> anyhow::Result<Option<Proof>> {
    set_aside(&job.partial_proof_file, output)?;
    let progress = Progress::steps(output, PROOF_LIMIT.as_secs());
    let lines = JsonLines::append(&job.partial_proof_file)?;
    let title = "proof on an unseen model";
    let mut keeper = FileKeeper { lines, progress: &progress, title, n_kept: 0 };
    let outcome = run(plan, settings, &mut keeper);
    let is_empty = keeper.n_kept == 0;
    drop(keeper);
    progress.finish();
    let moved = if is_empty {
        fs::remove_file(&job.partial_proof_file)
    } else {
        fs::rename(&job.partial_proof_file, &job.proof_file)
    };
    let proof = outcome?;
    moved.with_context(|| format!("cannot write {}", job.proof_file.display()))?;
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
    n_kept: usize,
}

impl Keeper for FileKeeper<'_> {
    fn keep(&mut self, measurement: &Measurement) -> io::Result<()> {
        self.lines.push(measurement).map_err(|error| io::Error::other(format!("{error:#}")))?;
        self.n_kept += 1;
        Ok(())
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
