//! What is settled before the first measurement of a calibration: names, files, earlier lines.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use foretoken_cost::EngineProfile;
use foretoken_pipeline::default_schemes;
use foretoken_plan::{Design, MiniPlan};
use foretoken_runner::{Engine, OpenDevice, rfc3339_utc, tool_info};
use foretoken_spec::{Backend, DeviceInfo, Measurement, QuantScheme, ToolInfo};

use crate::args::CalibrateArgs;
use crate::commands::check_fits;
use crate::files::{
    calibration_folder, check_writable, datasets_folder, is_same_machine, make_folder,
    read_calibration, read_lines,
};
use crate::output::{Hinted, Output};

/// A calibration that is about to be measured.
pub struct Job {
    /// Name of the calibration.
    pub id: String,
    /// Quantizations to cover.
    pub schemes: Vec<QuantScheme>,
    /// Time for measuring that is left.
    pub budget: Duration,
    /// Who measures.
    pub tool: ToolInfo,
    /// When it began, RFC 3339.
    pub time: String,
    /// The answer.
    pub calibration_file: PathBuf,
    /// The measurements behind it.
    pub dataset_file: PathBuf,
    /// The measurements until they are fitted.
    pub partial_file: PathBuf,
    /// The measurements of the proof.
    pub proof_file: PathBuf,
    /// The measurements of the proof while it runs.
    pub partial_proof_file: PathBuf,
    /// Lines of an interrupted run.
    pub already: Vec<Measurement>,
}

impl Job {
    /// Checks everything that can be refused before anything runs or any file is touched.
    pub fn settle(
        args: &CalibrateArgs,
        engine: &dyn Engine,
        output: &Output,
    ) -> anyhow::Result<Self> {
        let name = args.engine.engine.known().name();
        let default_id = || default_id(engine.device(), name, engine.threads());
        let id = args.name.clone().unwrap_or_else(default_id);
        let schemes = schemes(args);
        let calibration_file = calibration_file(args, &id)?;
        let datasets = datasets_beside(args.out.as_deref());
        let named = |suffix: &str| datasets.join(format!("{id}.{suffix}jsonl"));
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut job = Self {
            budget: args.budget,
            tool: tool_info(env!("CARGO_PKG_VERSION")),
            time: rfc3339_utc(now),
            dataset_file: named(""),
            partial_file: named("partial."),
            proof_file: named("proof."),
            partial_proof_file: named("proof.partial."),
            calibration_file,
            already: Vec::new(),
            schemes,
            id,
        };
        // The program's own folders are no news.
        if let Some(out) = &args.out {
            make_folder(out, output)?;
        }
        for file in [&job.calibration_file, &job.dataset_file, &job.partial_file, &job.proof_file] {
            check_writable(file)?;
        }
        if args.resume {
            job.already = interrupted(&job.partial_file, name, engine, &job.tool)?;
            job.budget = args.budget.saturating_sub(measured_time(&job.already));
        } else {
            set_aside(&job.partial_file, output)?;
        }
        Ok(job)
    }
}

/// The quantizations to cover.
pub fn schemes(args: &CalibrateArgs) -> Vec<QuantScheme> {
    if args.quant.is_empty() { default_schemes() } else { args.quant.clone() }
}

/// Name of a calibration of a device and engine, unless it is given one. A GPU's host does its part
/// with as many threads as it likes.
pub fn default_id(device: &DeviceInfo, engine: &str, threads: u32) -> String {
    match device.backend {
        Backend::Cpu => format!("{}-{engine}-{threads}t", device.id),
        backend => format!("{}-{engine}-{backend}", device.id),
    }
}

/// The file of a calibration of this name, which must be free or hold a calibration.
pub fn calibration_file(args: &CalibrateArgs, id: &str) -> anyhow::Result<PathBuf> {
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        bail!("--name `{id}` is no file name; use letters, digits, dashes and dots");
    }
    let in_folder = || calibration_folder().join(format!("{id}.json"));
    let file = args.out.clone().unwrap_or_else(in_folder);
    require_own(&file)?;
    Ok(file)
}

/// Refuses to write over a file that holds something else than a calibration.
fn require_own(file: &Path) -> anyhow::Result<()> {
    let is_other = fs::metadata(file).is_ok_and(|m| m.is_file() && m.len() > 0)
        && read_calibration(file).is_err();
    if is_other {
        let message = format!("{} exists and is no calibration", file.display());
        return Err(Hinted::new(message, "give --out another name").into());
    }
    Ok(())
}

/// The design for a machine: the mini-models that its memory holds.
pub fn design(schemes: &[QuantScheme], device: &OpenDevice) -> anyhow::Result<Design> {
    let refusal = RefCell::new(None);
    let fits = |mini: &MiniPlan| match check_fits(&mini.model, &mini.workloads, device) {
        Ok(()) => true,
        Err(error) => {
            refusal.borrow_mut().get_or_insert(error);
            false
        }
    };
    let info = device.info();
    let design = Design::new(schemes, &EngineProfile::candle(info), info.l3_bytes, &fits);
    match refusal.into_inner() {
        Some(error) if design.candidates().is_empty() => Err(error),
        _ => Ok(design),
    }
}

/// Measurements go beside a calibration file that was named, unless that is a device.
fn datasets_beside(out: Option<&Path>) -> PathBuf {
    let is_device = |out: &&Path| fs::metadata(out).is_ok_and(|m| !m.is_file() && !m.is_dir());
    match out.filter(|out| !is_device(out)).and_then(Path::parent) {
        Some(folder) => folder.to_owned(),
        None => datasets_folder(),
    }
}

/// Gives what an interrupted run has measured another name, so that nothing is lost.
pub fn set_aside(partial: &Path, output: &Output) -> anyhow::Result<()> {
    if !partial.exists() {
        return Ok(());
    }
    let free = (1..)
        .map(|n| if n == 1 { "old.jsonl".to_owned() } else { format!("old-{n}.jsonl") })
        .map(|extension| partial.with_extension(extension))
        .find(|path| !path.exists());
    let Some(old) = free else { return Ok(()) };
    fs::rename(partial, &old).with_context(|| format!("cannot replace {}", partial.display()))?;
    output.note(&format!(
        "kept the measurements of an interrupted run as {}; --resume would have gone on from them",
        old.display()
    ));
    Ok(())
}

/// The lines of an interrupted run, which must be those of this device, engine and build.
fn interrupted(
    partial: &Path,
    name: &str,
    engine: &dyn Engine,
    tool: &ToolInfo,
) -> anyhow::Result<Vec<Measurement>> {
    if !partial.exists() {
        let message = format!("nothing to resume: {} does not exist", partial.display());
        return Err(Hinted::new(message, "run without --resume").into());
    }
    let lines = read_lines(partial)?.measurements;
    for line in &lines {
        if let Some(difference) = difference(line, name, engine, tool) {
            let message = format!("cannot resume {}: {difference}", partial.display());
            let hint = "run as the interrupted run did, or without --resume";
            return Err(Hinted::new(message, hint).into());
        }
    }
    Ok(lines)
}

/// What would not be fitted together: the first field that differs, and both values.
fn difference(
    line: &Measurement,
    name: &str,
    engine: &dyn Engine,
    tool: &ToolInfo,
) -> Option<String> {
    let differs = |field: &str, then: String, now: String| {
        (then != now).then(|| format!("its `{field}` is {then}, now it is {now}"))
    };
    let threads = (line.threads.to_string(), engine.threads().to_string());
    // Which build of another engine it is, and on what, is known when it has run.
    if line.engine.name != name || name != engine.info().name {
        let engines = (line.engine.name.clone(), name.to_owned());
        return differs("engine", engines.0, engines.1)
            .or_else(|| differs("threads", threads.0, threads.1));
    }
    if !is_same_machine(&line.device, engine.device()) {
        let (then, now) = (&line.device.id, &engine.device().id);
        return Some(format!("its `device` is {then}, now it is {now} (or its cache or isa)"));
    }
    let version = |e: foretoken_spec::EngineInfo| format!("{} {}", e.name, e.version);
    let debug = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    differs("threads", threads.0, threads.1)
        .or_else(|| differs("engine", version(line.engine.clone()), version(engine.info())))
        .or_else(|| differs("allocator", debug(&line.allocator), debug(&engine.allocator())))
        .or_else(|| differs("sampling", debug(&line.sampling), debug(&engine.sampling())))
        .or_else(|| differs("tool.profile", line.tool.profile.clone(), tool.profile.clone()))
}

/// Time that went into earlier lines.
fn measured_time(lines: &[Measurement]) -> Duration {
    let passes = |m: &Measurement| {
        // Steps that another program timed together are lines of one step each.
        let steps = if m.engine.is_candle() { 1 } else { m.workload.generated_tokens.max(1) };
        let decode = m.decode.iter().map(|s| u64::from(steps) * s.total_ns());
        let samples = m.prefill.iter().map(|s| s.total_ns()).chain(decode);
        samples.sum::<u64>() + m.warmup.iter().map(|w| w.ns).sum::<u64>()
    };
    Duration::from_nanos(lines.iter().map(passes).sum())
}
