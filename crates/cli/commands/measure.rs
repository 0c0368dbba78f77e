//! `measure`: the honest benchmark. Fresh loads, alternated, each line kept as it happens.

mod bench;

use std::io;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use foretoken_pipeline::{default_schemes, design_loads};
use foretoken_report::{Measured, summarise};
use foretoken_runner::{
    CandleEngine, LoadPlan, OpenDevice, Progress as SessionProgress, SamplingMode, SessionObserver,
    SessionPlan, WorkloadPlan, check_model, check_workload, interleave, rfc3339_utc, run_session,
    tool_info,
};
use foretoken_spec::{Measurement, ModelSource, ModelSpec, Workload};

use crate::Outcome;
use crate::args::{AllocatorArg, EngineArg, MeasureArgs};
use crate::commands::calibrate::bench::require_own_device;
use crate::commands::{beyond_context, check_fits, resolve_models, run_here};
use crate::files::{JsonLines, make_folder};
use crate::hub::Use;
use crate::meter::open_meter;
use crate::output::Output;
use crate::progress::{Progress, stop_on_interrupt};

/// Timed passes over the prompt in each load; every other one is probed.
const PREFILL_REPEATS: u32 = 4;
/// Most timed decode steps in each load; more say nothing new.
const MOST_DECODE_STEPS: u32 = 128;
/// Seed of the sampler.
const SEED: u64 = 0x5eed;

/// Runs the models and prints what was observed.
pub fn run(args: &MeasureArgs, output: &Output) -> anyhow::Result<Outcome> {
    let workloads = workloads(args)?;
    let is_candle = args.engine.engine == EngineArg::Candle;
    require_own_device(&args.engine, &args.run)?;
    let device = run_here(&args.run)?;
    let models = resolve_models(&args.models, &args.quant, Use::Run(output))?;
    for model in &models {
        match is_candle {
            true => check(model, &workloads, &device)?,
            false => bench::check(model, &workloads, &device)?,
        }
    }
    let open = |path| {
        make_folder(path, output)?;
        JsonLines::append(path)
    };
    let out = args.out.as_deref().map(open).transpose()?;
    if let Some(lines) = out.as_ref().filter(|lines| lines.dropped_partial_line()) {
        output.warn(&format!("{}: an unfinished last line was dropped", lines.path().display()));
    }
    for model in &models {
        for warning in context_warnings(model, &workloads) {
            output.warn(&warning);
        }
    }
    let mut measurements = match is_candle {
        true => measure(args, device, (&models, &workloads), out, output)?,
        false => bench::measure(args, &models, &workloads, out, output)?,
    };
    measurements.retain(|m| m.model.source != ModelSource::Mini);
    if measurements.is_empty() {
        anyhow::bail!("stopped before the first load of these models; nothing to report");
    }
    let mut reports = summarise(&measurements);
    for report in &mut reports {
        let workload = Workload {
            prompt_tokens: report.prompt_tokens,
            generated_tokens: report.generated_tokens,
            depth: report.kv_len,
        };
        let model = models.iter().find(|m| m.name == report.model && m.quant == report.quant);
        report.warnings.extend(model.and_then(|m| beyond_context(m, &workload)));
    }
    output.print(&Measured(reports))?;
    Ok(Outcome::Good)
}

/// Every prompt at every depth, each once.
fn workloads(args: &MeasureArgs) -> anyhow::Result<Vec<WorkloadPlan>> {
    let mut plans: Vec<WorkloadPlan> = Vec::new();
    for &prompt in &args.prompt {
        for &depth in &args.depth {
            let plan = WorkloadPlan {
                workload: Workload::new(prompt, args.generate, depth)?,
                prefill_repeats: PREFILL_REPEATS,
                decode_steps: args.generate.min(MOST_DECODE_STEPS),
            };
            if !plans.contains(&plan) {
                plans.push(plan);
            }
        }
    }
    Ok(plans)
}

/// Refuses what the engine cannot run or the memory cannot hold, before anything is loaded.
fn check(model: &ModelSpec, workloads: &[WorkloadPlan], device: &OpenDevice) -> anyhow::Result<()> {
    check_model(model)?;
    for plan in workloads {
        check_workload(model, &plan.workload)?;
    }
    check_fits(model, workloads.iter().map(|plan| &plan.workload), device)
}

fn context_warnings(model: &ModelSpec, workloads: &[WorkloadPlan]) -> Vec<String> {
    workloads.iter().filter_map(|plan| beyond_context(model, &plan.workload)).collect()
}

/// The loads in the order of running: the loads of one model's quantizations alternate; paired,
/// those of all models do.
fn loads(
    args: &MeasureArgs,
    models: &[ModelSpec],
    workloads: &[WorkloadPlan],
    minis: &[LoadPlan],
    seed: u64,
) -> Vec<LoadPlan> {
    let of = |model: &ModelSpec| {
        let plan = |load| LoadPlan { model: model.clone(), load, workloads: workloads.to_vec() };
        (0..args.repeat).map(plan).collect::<Vec<_>>()
    };
    if args.paired {
        let mut loads: Vec<LoadPlan> = models.iter().flat_map(of).collect();
        loads.extend(minis.iter().cloned());
        return interleave(loads, seed);
    }
    models
        .chunk_by(|a, b| a.name == b.name)
        .flat_map(|same| interleave(same.iter().flat_map(of).collect(), seed))
        .collect()
}

/// Runs the session; what was measured before Ctrl-C is the answer then.
fn measure(
    args: &MeasureArgs,
    device: OpenDevice,
    (models, workloads): (&[ModelSpec], &[WorkloadPlan]),
    out: Option<JsonLines>,
    output: &Output,
) -> anyhow::Result<Vec<Measurement>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let sampling =
        if args.greedy { SamplingMode::Greedy } else { SamplingMode::Temperature { seed: SEED } };
    let meter = open_meter(&args.meter, device.pci_address(), output)?;
    let mut engine = CandleEngine::on(device, sampling);
    if args.allocator == AllocatorArg::Kept {
        engine = engine.keeping_memory();
    }
    engine = engine.with_meter(meter);
    let minis: Vec<LoadPlan> = match args.minis {
        true => (0..args.repeat)
            .flat_map(|load| design_loads(&engine, &default_schemes(), load))
            .collect(),
        false => Vec::new(),
    };
    let plan = SessionPlan {
        session: format!("measure-{}-{}", rfc3339_utc(now), std::process::id()),
        first_sequence: 0,
        tool: tool_info(env!("CARGO_PKG_VERSION")),
        loads: loads(args, models, workloads, &minis, now),
        budget: None,
    };
    let stop = stop_on_interrupt()?;
    let n_lines: usize = plan.loads.iter().map(|load| load.workloads.len()).sum();
    let progress = Progress::steps(output, n_lines as u64);
    let mut observer = Observer { out, kept: Vec::new(), progress: &progress };
    let summary = run_session(&mut engine, &plan, &mut observer, &|| stop.load(Ordering::SeqCst))?;
    progress.finish();
    if observer.kept.is_empty() {
        anyhow::bail!("stopped before the first load was measured; nothing to report");
    }
    if summary.stopped {
        output.warn(&format!("stopped after {} of {} loads", summary.loads_done, plan.loads.len()));
    }
    Ok(observer.kept)
}

/// Keeps every line at once, in the file and for the answer.
struct Observer<'a> {
    out: Option<JsonLines>,
    kept: Vec<Measurement>,
    progress: &'a Progress,
}

impl SessionObserver for Observer<'_> {
    fn on_measurement(&mut self, measurement: &Measurement) -> io::Result<()> {
        if let Some(out) = &mut self.out {
            out.push(measurement)?;
        }
        self.kept.push(measurement.clone());
        Ok(())
    }

    fn on_progress(&mut self, now: &SessionProgress<'_>) {
        self.say(now.plan, now.workload_index);
    }
}

impl Observer<'_> {
    /// Shows what runs now.
    fn say(&self, plan: &LoadPlan, workload_index: usize) {
        self.progress.set((self.kept.len() + workload_index) as u64);
        let workload = plan.workloads.get(workload_index).map(|planned| planned.workload);
        let lengths = workload.map_or_else(String::new, |w| {
            format!(" · prompt {}, depth {}", w.prompt_tokens, w.depth)
        });
        self.progress.message(format!(
            "{} {} · load {}{lengths}",
            plan.model.name,
            plan.model.quant,
            plan.load + 1
        ));
    }
}
