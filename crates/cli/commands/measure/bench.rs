//! `measure --engine llama.cpp`: fresh processes of the user's own llama-bench, alternated as loads
//! of candle are.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use foretoken_cost::EngineProfile;
use foretoken_pipeline::{BenchLoad, Bencher, FileBencher, default_schemes, run_bench_load};
use foretoken_plan::single_type_minis;
use foretoken_runner::{
    CandleEngine, Engine, LoadPlan, OpenDevice, SamplingMode, SessionIds, SessionObserver,
    WorkloadPlan, rfc3339_utc, tool_info,
};
use foretoken_spec::{Measurement, ModelSpec};

use super::{Observer, SEED, loads};
use crate::args::MeasureArgs;
use crate::commands::calibrate::bench::{open, refuse_meter};
use crate::commands::{Room, check_room};
use crate::files::{JsonLines, require_space};
use crate::output::Output;
use crate::progress::{Progress, stop_on_interrupt};

/// Timed repetitions of each test in a process; the program adds one to warm up.
const REPEATS: u32 = 2;
/// Rounds of mini-models of `--minis`.
const MINI_ROUNDS: u32 = 3;
/// Longest that one load may take.
const LIMIT: Duration = Duration::from_secs(3600);

/// Runs the loads; what was measured before Ctrl-C is the answer then.
pub fn measure(
    args: &MeasureArgs,
    models: &[ModelSpec],
    workloads: &[WorkloadPlan],
    out: Option<JsonLines>,
    output: &Output,
) -> anyhow::Result<Vec<Measurement>> {
    refuse_meter(args.meter.meter)?;
    if args.greedy {
        bail!("--greedy: llama-bench draws no tokens; leave it out");
    }
    let bench = open(&args.engine)?;
    let mut host = CandleEngine::new(SamplingMode::Temperature { seed: SEED });
    let folder = tempfile::tempdir().context("cannot make a temporary folder; set TMPDIR")?;
    let largest = models.iter().map(ModelSpec::weight_bytes).max().unwrap_or(0);
    require_space(&folder.path().join("model.gguf"), largest)?;
    let mut bencher = FileBencher::new(bench, folder.path());
    let minis = if args.minis { minis(&host, bencher.has_depth()) } else { Vec::new() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let plans = loads(args, models, workloads, &minis, now);
    let n_lines: usize = plans.iter().map(|load| load.workloads.len()).sum();
    let progress = Progress::steps(output, n_lines as u64);
    let mut observer = Observer { out, kept: Vec::new(), progress: &progress };
    let stop = stop_on_interrupt()?;
    let is_stopped = || stop.load(Ordering::SeqCst);
    let session = format!("measure-{}-{}", rfc3339_utc(now), std::process::id());
    let mut n_done = 0;
    for (index, plan) in plans.iter().enumerate() {
        if is_stopped() {
            break;
        }
        observer.say(plan, 0);
        let ids = SessionIds {
            session: session.clone(),
            sequence: u32::try_from(index).unwrap_or(u32::MAX),
            tool: tool_info(env!("CARGO_PKG_VERSION")),
        };
        let load = BenchLoad {
            model: plan.model.clone(),
            load: plan.load,
            workloads: plan.workloads.iter().map(|planned| planned.workload).collect(),
            repeats: REPEATS,
        };
        let lines = run_bench_load(&mut bencher, &mut host, &load, &ids, LIMIT, &is_stopped)?;
        n_done += usize::from(!lines.is_empty());
        for line in &lines {
            observer.on_measurement(line)?;
        }
    }
    progress.finish();
    if observer.kept.is_empty() {
        bail!("stopped before the first load was measured; nothing to report");
    }
    if is_stopped() {
        output.warn(&format!("stopped after {n_done} of {} loads", plans.len()));
    }
    Ok(observer.kept)
}

/// Refuses what the memory cannot hold, before anything is written.
pub fn check(
    model: &ModelSpec,
    workloads: &[WorkloadPlan],
    device: &OpenDevice,
) -> anyhow::Result<()> {
    let room = Room {
        engine: EngineProfile::llama_cpp(EngineProfile::candle(device.info()).isa),
        device: &device.info().name,
        available_bytes: device.available_memory(),
        own_bytes: 0,
    };
    check_room(model, workloads.iter().map(|plan| &plan.workload), &room)
}

/// The mini-models of a calibration.
fn minis(host: &CandleEngine, has_depth: bool) -> Vec<LoadPlan> {
    let cache = host.device().l3_bytes;
    let planned = |workload| WorkloadPlan { workload, prefill_repeats: 1, decode_steps: 1 };
    let mut loads: BTreeMap<String, u32> = BTreeMap::new();
    single_type_minis(&default_schemes(), cache, has_depth, MINI_ROUNDS)
        .into_iter()
        .map(|mini| {
            let load = loads.entry(mini.model.name.clone()).or_insert(0);
            *load += 1;
            LoadPlan {
                workloads: mini.workloads.into_iter().map(planned).collect(),
                model: mini.model,
                load: *load - 1,
            }
        })
        .collect()
}
