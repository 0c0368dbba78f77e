//! `calibrate --engine llama.cpp`: the user's own llama-bench on synthetic files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use foretoken_cost::{EngineProfile, pass_cost};
use foretoken_llama_bench::LlamaBench;
use foretoken_pipeline::{
    Bencher, DesignSettings, FileBencher, Keeper, ProofPlan, ProofSettings, ProofTiming,
    measure_bench_design, run_bench_proof,
};
use foretoken_plan::{MiniPlan, single_type_minis};
use foretoken_runner::{CandleEngine, Engine, available_memory};
use foretoken_spec::Workload;

use super::job::{Job, schemes};
use super::{FileKeeper, RunPlan, SEED, finish, fit_and_save, prove};
use crate::Outcome;
use crate::args::{CalibrateArgs, EngineArgs, MeterArg, RunArgs};
use crate::files::{JsonLines, require_space};
use crate::output::{Hinted, Output};
use crate::progress::{Progress, stop_on_interrupt};

/// Rounds of the design; as many shapes.
const ROUNDS: u32 = 6;

/// Measures, fits and proves a calibration of llama.cpp.
pub fn run(
    args: &CalibrateArgs,
    host: &mut CandleEngine,
    begun: Instant,
    output: &Output,
) -> anyhow::Result<Outcome> {
    refuse_meter(args.meter.meter)?;
    let bench = open(&args.engine)?;
    let minis =
        single_type_minis(&schemes(args), host.device().l3_bytes, bench.has_depth(), ROUNDS);
    let job = Job::settle(args, host, output)?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder; set TMPDIR")?;
    let largest = minis.iter().map(|mini| mini.model.weight_bytes()).max().unwrap_or(0);
    require_space(&folder.path().join("mini.gguf"), largest)?;
    let mut bencher = FileBencher::new(bench, folder.path());
    let stop = stop_on_interrupt()?;
    measure(&job, &minis, &mut bencher, host, &stop, output)?;
    let calibration = fit_and_save(&job, &kernels(&minis, host))?;
    let is_stopped = || stop.load(Ordering::SeqCst);
    let timing = ProofTiming::of_bench(bencher.has_depth());
    let mut run_plan = |plan: &ProofPlan, settings: &ProofSettings, keeper: &mut dyn Keeper| {
        require_space(&folder.path().join("proof.gguf"), plan.model.weight_bytes())?;
        Ok(run_bench_proof(&mut bencher, host, plan, settings, keeper, &is_stopped)?)
    };
    let proof = (timing, available_memory(), &mut run_plan as &mut RunPlan<'_>);
    let proved = prove(&job, &calibration, proof, &is_stopped, output);
    finish(args, &job, &calibration, Vec::new(), proved, begun, output)
}

/// The program of `--llama-bench`.
pub fn open(args: &EngineArgs) -> anyhow::Result<LlamaBench> {
    LlamaBench::open(&args.llama_bench)
        .context(Hinted::new("--engine llama.cpp needs llama-bench", "give --llama-bench PATH"))
}

/// llama-bench runs on what it was built for.
pub fn require_own_device(run: &RunArgs) -> anyhow::Result<()> {
    if run.device == "cpu" {
        return Ok(());
    }
    let message = format!("--device {}: llama-bench runs on what it was built for", run.device);
    Err(Hinted::new(message, "leave --device out, and give the --llama-bench of that build").into())
}

/// A meter reads what this program does, not what another one does.
pub fn refuse_meter(meter: MeterArg) -> anyhow::Result<()> {
    if matches!(meter, MeterArg::Auto | MeterArg::None) {
        return Ok(());
    }
    let message = "energy of llama.cpp is not measured: llama-bench does not say when a test runs";
    Err(Hinted::new(message, "leave --meter out").into())
}

fn measure(
    job: &Job,
    minis: &[MiniPlan],
    bencher: &mut FileBencher,
    host: &mut CandleEngine,
    stop: &Arc<AtomicBool>,
    output: &Output,
) -> anyhow::Result<()> {
    let progress = Progress::steps(output, job.budget.as_secs().max(1));
    let lines = JsonLines::append(&job.partial_file)?;
    let mut keeper = FileKeeper { lines, progress: &progress, title: "measuring", n_kept: 0 };
    let settings = DesignSettings {
        budget: job.budget,
        session: format!("calibrate-{}", job.time),
        tool: job.tool.clone(),
        seed: SEED,
    };
    let is_stopped = || stop.load(Ordering::SeqCst);
    let (already, keeper) = (&job.already, &mut keeper);
    let summary =
        measure_bench_design(bencher, host, minis, &settings, already, keeper, &is_stopped)?;
    progress.finish();
    if summary.stopped {
        let message = format!("stopped; what was measured is in {}", job.partial_file.display());
        return Err(Hinted::new(message, "go on with --resume").into());
    }
    Ok(())
}

/// Keys of the kernels that the models of a design run.
fn kernels(minis: &[MiniPlan], host: &CandleEngine) -> Vec<String> {
    let isa = EngineProfile::candle(host.device()).isa;
    let engine = EngineProfile::llama_cpp(isa);
    let mut keys: Vec<String> = Vec::new();
    for mini in minis {
        let passes =
            mini.workloads.iter().flat_map(|w: &Workload| [w.prefill(), w.decode_midpoint()]);
        for pass in passes.flatten() {
            let ops = pass_cost(&mini.model, &engine, pass).ops;
            keys.extend(ops.iter().map(|op| op.class.key()));
        }
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}
