//! One fresh load of a model and the workloads measured on it.

use std::time::Duration;

use foretoken_spec::{
    ColdLoad, DeviceMemorySample, EnergySpan, Measurement, MemorySample, ModelSpec,
    ReferenceSample, SCHEMA_VERSION, ToolInfo, WarmupPass, Workload,
};

use crate::energy;
use crate::environment::{environment_between, warnings_of};
use crate::workload_run::{Samples, WorkloadRun, warm_up};
use crate::{Engine, LoadedModel, MachineState, RunError, rfc3339_utc};

/// One fresh load of a model, and what to measure on it.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadPlan {
    /// What to load.
    pub model: ModelSpec,
    /// Which fresh load of this configuration, from 0.
    pub load: u32,
    /// What to measure, in this order.
    pub workloads: Vec<WorkloadPlan>,
}

/// One workload and how often its passes are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkloadPlan {
    /// What.
    pub workload: Workload,
    /// Timed passes over the prompt, at most; long ones are repeated less.
    pub prefill_repeats: u32,
    /// Timed decode steps, at most the generated tokens; they are centred on the midpoint of the
    /// generated span.
    pub decode_steps: u32,
}

/// What a measurement says about where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionIds {
    /// The interleaved run.
    pub session: String,
    /// Position of the load in it, from 0.
    pub sequence: u32,
    /// Who measures.
    pub tool: ToolInfo,
}

/// Measures the workloads of one fresh load, with the reference workload before and after.
///
/// `stop` is asked between passes; once it says so, the workloads finished until then are
/// returned.
///
/// # Errors
/// Whatever the engine refuses or fails at.
pub fn run_load(
    engine: &mut dyn Engine,
    plan: &LoadPlan,
    ids: &SessionIds,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<Measurement>, RunError> {
    let mut finished = Vec::new();
    let block = LoadBlock { plan, ids, stop };
    block.measure(engine, &mut |_, _| {}, &mut finished)?;
    Ok(finished)
}

/// A load about to be measured.
pub(crate) struct LoadBlock<'a> {
    pub(crate) plan: &'a LoadPlan,
    pub(crate) ids: &'a SessionIds,
    pub(crate) stop: &'a dyn Fn() -> bool,
}

/// What every line of a load shares.
struct Loaded {
    model: Box<dyn LoadedModel>,
    warmup: Vec<WarmupPass>,
    before: MachineState,
    after: MachineState,
    cold: Option<ColdLoad>,
    energy: Option<EnergySpan>,
}

impl LoadBlock<'_> {
    /// Puts each finished workload into `finished`, also where a later one fails. `begin` hears
    /// the index of each workload before it runs, and the time on the engine's clock.
    pub(crate) fn measure(
        &self,
        engine: &mut dyn Engine,
        begin: &mut dyn FnMut(usize, Duration),
        finished: &mut Vec<Measurement>,
    ) -> Result<(), RunError> {
        self.check(engine)?;
        let already = finished.len();
        let before = engine.reference();
        let outcome = self.measure_workloads(engine, before, begin, finished);
        let after = engine.reference();
        for measurement in &mut finished[already..] {
            measurement.reference.push(after);
        }
        outcome
    }

    fn check(&self, engine: &dyn Engine) -> Result<(), RunError> {
        for WorkloadPlan { workload, decode_steps, .. } in &self.plan.workloads {
            engine.check(&self.plan.model, workload)?;
            if *decode_steps > workload.generated_tokens {
                return Err(RunError::TooManySteps {
                    steps: *decode_steps,
                    generated: workload.generated_tokens,
                });
            }
        }
        Ok(())
    }

    fn measure_workloads(
        &self,
        engine: &mut dyn Engine,
        reference: ReferenceSample,
        begin: &mut dyn FnMut(usize, Duration),
        finished: &mut Vec<Measurement>,
    ) -> Result<(), RunError> {
        let Some(mut loaded) = self.load(engine)? else { return Ok(()) };
        let vocabulary = self.plan.model.shape.vocab_size;
        for (index, plan) in self.plan.workloads.iter().enumerate() {
            begin(index, engine.elapsed());
            let engine: &dyn Engine = &*engine;
            let mark = || energy::mark(engine);
            let run = WorkloadRun { plan, vocabulary, stop: self.stop, energy: &mark };
            if !run.fill_depth(loaded.model.as_mut())? {
                return Ok(());
            }
            // The filling was the tool's; from here on it is the workload.
            engine.reset_peak_memory();
            let before = engine.machine_state();
            let Some(samples) = run.measure(loaded.model.as_mut())? else { return Ok(()) };
            let after = engine.machine_state();
            let mut measurement =
                self.measurement(engine, &loaded, plan.workload, samples, (&before, &after));
            measurement.reference.push(reference);
            finished.push(measurement);
        }
        Ok(())
    }

    /// Loads and warms up; `None` where the stop came first.
    fn load(&self, engine: &mut dyn Engine) -> Result<Option<Loaded>, RunError> {
        if (self.stop)() {
            return Ok(None);
        }
        // A file is loaded twice: from storage, and then from what the system has kept of it.
        let cold = engine.load_cold(&self.plan.model)?;
        engine.prepare_load();
        let before = engine.machine_state();
        let mark = energy::mark(engine);
        let mut model = engine.load(&self.plan.model)?;
        let energy = energy::load_span(mark, energy::mark(engine));
        let prompts = self.plan.workloads.iter().map(|w| w.workload.prompt_tokens);
        let longest = prompts.max().unwrap_or(0);
        let vocabulary = self.plan.model.shape.vocab_size;
        let Some(warmup) = warm_up(model.as_mut(), vocabulary, longest, self.stop)? else {
            return Ok(None);
        };
        let after = engine.machine_state();
        Ok(Some(Loaded { model, warmup, before, after, cold, energy }))
    }

    fn measurement(
        &self,
        engine: &dyn Engine,
        loaded: &Loaded,
        workload: Workload,
        samples: Samples,
        (before, after): (&MachineState, &MachineState),
    ) -> Measurement {
        let environment = environment_between(before, after);
        // A saved cache is the tool's, and is alive when a prefill at a depth is at its peak.
        let peak = after.peak_rss_bytes.map(|b| b.saturating_sub(samples.snapshot_bytes));
        let energy =
            energy::sample(engine, loaded.energy, &samples.prefill_energy, &samples.decode_energy);
        let mut warnings = warnings_of(&environment);
        warnings.extend(energy::warning(engine, energy.as_ref()));
        Measurement {
            schema_version: SCHEMA_VERSION,
            tool: self.ids.tool.clone(),
            time: rfc3339_utc(loaded.before.unix_seconds),
            session: self.ids.session.clone(),
            sequence: self.ids.sequence,
            load: self.plan.load,
            device: engine.device().clone(),
            engine: engine.info(),
            threads: engine.threads(),
            allocator: engine.allocator(),
            sampling: engine.sampling(),
            model: self.plan.model.record(),
            workload,
            load_ns: loaded.model.load_ns(),
            cold_load: loaded.cold.clone(),
            warmup: [loaded.warmup.as_slice(), &samples.warmup].concat(),
            prefill: samples.prefill,
            decode: samples.decode,
            kernels: samples.kernels,
            span_clock: engine.span_clock(),
            memory: MemorySample {
                rss_before_bytes: loaded.before.rss_bytes,
                rss_loaded_bytes: loaded.after.rss_bytes,
                peak_rss_bytes: loaded.after.peak_rss_bytes.max(peak),
                available_bytes: loaded.before.available_bytes,
                device: device_memory(loaded, after, samples.snapshot_bytes),
            },
            energy,
            warnings,
            environment,
            reference: Vec::with_capacity(2),
        }
    }
}

/// Memory of a graphics device around a load; `None` of a model that ran on the processor.
fn device_memory(
    loaded: &Loaded,
    after: &MachineState,
    snapshot_bytes: u64,
) -> Option<DeviceMemorySample> {
    let (before, warm, end) =
        (loaded.before.device_memory?, loaded.after.device_memory?, after.device_memory?);
    let peak = end.peak_bytes.map(|bytes| bytes.saturating_sub(snapshot_bytes));
    Some(DeviceMemorySample {
        before_bytes: before.used_bytes,
        loaded_bytes: warm.used_bytes,
        peak_bytes: warm.peak_bytes.max(peak),
        available_bytes: before.free_bytes,
    })
}

#[cfg(test)]
mod tests;
