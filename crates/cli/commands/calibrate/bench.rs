//! `calibrate --engine llama.cpp`: the user's own llama-bench on synthetic files.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, bail};
use foretoken_cost::{EngineProfile, pass_cost};
use foretoken_llama_bench::LlamaBench;
use foretoken_pipeline::{
    Bencher, FileBencher, Keeper, ProofPlan, ProofSettings, ProofTiming, measure_bench_design,
    run_bench_proof,
};
use foretoken_plan::{MiniPlan, single_type_minis};
use foretoken_runner::{CandleEngine, Engine, Progress as SessionProgress, available_memory};
use foretoken_spec::{Backend, DeviceInfo, EngineInfo, Measurement, Workload};

use super::job::{Job, schemes};
use super::{Measured, RunPlan, finish, fit_and_save, measure, prove};
use crate::Outcome;
use crate::args::{CalibrateArgs, EngineArg, EngineArgs, MeterArg, RunArgs};
use crate::files::require_space;
use crate::output::{Hinted, Output};
use crate::progress::stop_on_interrupt;

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
    let has_name = args.name.is_some() || args.out.is_some();
    let is_stopped = || stop.load(Ordering::SeqCst);
    measure(&job, output, |settings, keeper| {
        let already = &job.already;
        let first = already.first().map(|line| (line.engine.clone(), line.device.clone()));
        let mut keeper = OneSetup { keeper, first, has_name };
        let summary = measure_bench_design(
            &mut bencher,
            host,
            &minis,
            settings,
            already,
            &mut keeper,
            &is_stopped,
        )?;
        Ok(Measured { answer: (), stopped: summary.stopped })
    })?;
    let calibration = fit_and_save(&job, &kernels(&minis, host))?;
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
    LlamaBench::open(args.llama_bench.as_deref().unwrap_or(Path::new("llama-bench")))
        .context(Hinted::new("--engine llama.cpp needs llama-bench", "give --llama-bench PATH"))
}

/// llama-bench runs on what it was built for, and candle without it.
pub fn require_own_device(engine: &EngineArgs, run: &RunArgs) -> anyhow::Result<()> {
    if engine.engine == EngineArg::Candle {
        if engine.llama_bench.is_some() {
            bail!("--llama-bench is for --engine llama.cpp; give both or neither");
        }
        return Ok(());
    }
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

/// Refuses lines of another build or device than the first, and those of a GPU under the name of the
/// processor.
struct OneSetup<'a> {
    keeper: &'a mut dyn Keeper,
    first: Option<(EngineInfo, DeviceInfo)>,
    has_name: bool,
}

impl Keeper for OneSetup<'_> {
    fn keep(&mut self, measurement: &Measurement) -> io::Result<()> {
        let now = (&measurement.engine, &measurement.device);
        if let Some((engine, device)) = &self.first
            && (engine != now.0 || device.id != now.1.id)
        {
            return Err(io::Error::other(format!(
                "it is of {} {} on {}, those before are of {} {} on {}; calibrate anew, without \
                 --resume",
                now.0.name, now.0.version, now.1.id, engine.name, engine.version, device.id
            )));
        }
        if now.1.backend != Backend::Cpu && !self.has_name {
            return Err(io::Error::other(format!(
                "this llama-bench computes on {} ({}); name the calibration with --name",
                now.1.name, now.1.backend
            )));
        }
        self.first.get_or_insert_with(|| (now.0.clone(), now.1.clone()));
        self.keeper.keep(measurement)
    }

    fn progress(&mut self, progress: &SessionProgress<'_>) {
        self.keeper.progress(progress);
    }
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
