//! Measuring through a benchmark program of the engine's own: llama-bench.
//!
//! It times whole passes of a model file: prompts and steps at a depth, each test repeated in one
//! process. One load here is one model with its workloads; tests at different depths are processes
//! of their own. What the host adds is what it adds to candle's lines: the reference workload around
//! each load and the state of the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Duration;

use foretoken_gguf::synth::write_synthetic;
use foretoken_llama_bench::{BenchError, BenchRun, BenchTests, Build, LlamaBench, TimedTest};
use foretoken_runner::{
    Engine, MachineState, SessionIds, environment_between, environment_warnings, rfc3339_utc,
};
use foretoken_spec::{
    Allocator, Backend, DeviceInfo, EngineInfo, Measurement, MemorySample, ModelSource, ModelSpec,
    PassSample, SCHEMA_VERSION, Sampling, SpanClock, Workload,
};

/// Runs tests of a model: llama-bench, or what stands for it in a test.
pub trait Bencher {
    /// Some tests of one model in a process of their own; `None` where `stop` ended it.
    ///
    /// # Errors
    /// The program fails, or its file cannot be written.
    fn run(
        &mut self,
        model: &ModelSpec,
        tests: &BenchTests,
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<BenchRun>, BenchFailure>;

    /// Whether tests can start behind cached tokens.
    fn has_depth(&self) -> bool;
}

/// Why a model could not be measured by a benchmark program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchFailure {
    /// The program.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The model's file.
    #[error("cannot write {}; free some space, or set TMPDIR to another disk", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A test behind cached tokens.
    #[error(
        "this llama-bench has no -d: it cannot time {test} behind {depth} cached tokens; take a \
         llama.cpp of April 2025 or later, or ask for one phase alone (--prompt 0, --gen 0)"
    )]
    NoDepth {
        /// What was to be timed.
        test: &'static str,
        /// Tokens in the cache before.
        depth: u32,
    },
    /// A backend that calibrations have no name for.
    #[error(
        "this llama-bench computes on `{0}`, which cannot be calibrated; known: cpu, cuda, metal, rocm, vulkan, sycl, opencl"
    )]
    Backend(String),
    /// A build for GPUs that found none.
    #[error(
        "this llama-bench is built for {0} and tells of no GPU: which processor did the work is not \
         known; use a build for processors, or look at the driver"
    )]
    NoGpu(String),
    /// The keeper of lines.
    #[error("cannot keep a measurement")]
    Keep(#[source] io::Error),
}

/// llama-bench on synthetic files that are written just before and removed after.
#[derive(Debug)]
pub struct FileBencher {
    bench: LlamaBench,
    folder: PathBuf,
    /// The file that is there, and of which model.
    written: Option<(ModelSpec, PathBuf)>,
}

impl FileBencher {
    /// Files go into `folder`, one at a time.
    pub fn new(bench: LlamaBench, folder: &Path) -> Self {
        Self { bench, folder: folder.to_owned(), written: None }
    }

    /// The file of a model: its own, or a synthetic one.
    fn file(
        &mut self,
        model: &ModelSpec,
        stop: &dyn Fn() -> bool,
    ) -> Result<PathBuf, BenchFailure> {
        if let ModelSource::Gguf { path, .. } = &model.source {
            return Ok(PathBuf::from(path));
        }
        if let Some((_, path)) = self.written.as_ref().filter(|(written, _)| written == model) {
            return Ok(path.clone());
        }
        self.remove();
        let path = self.folder.join(format!("{}-{}.gguf", model.name, model.quant));
        let failed = |source| BenchFailure::Write { path: path.clone(), source };
        let file = File::create(&path).map_err(failed)?;
        self.written = Some((model.clone(), path.clone()));
        let mut out = Until { out: BufWriter::new(file), stop };
        write_synthetic(model, &mut out, &mut |_, _| {}).map_err(failed)?;
        Ok(path)
    }

    fn remove(&mut self) {
        if let Some((_, path)) = self.written.take() {
            // The folder is temporary: it goes with what could not be removed.
            let _ = fs::remove_file(path);
        }
    }
}

/// Writes until it is told to stop.
struct Until<'a, W> {
    out: W,
    stop: &'a dyn Fn() -> bool,
}

impl<W: io::Write> io::Write for Until<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if (self.stop)() {
            return Err(io::Error::other("stopped"));
        }
        self.out.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for FileBencher {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Bencher for FileBencher {
    fn run(
        &mut self,
        model: &ModelSpec,
        tests: &BenchTests,
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<BenchRun>, BenchFailure> {
        let file = match self.file(model, stop) {
            Err(_) if stop() => return Ok(None),
            file => file?,
        };
        Ok(self.bench.run(&file, tests, limit, stop)?)
    }

    fn has_depth(&self) -> bool {
        self.bench.has_depth()
    }
}

/// One model with its workloads, measured in fresh processes.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchLoad {
    /// The model.
    pub model: ModelSpec,
    /// Which load of this configuration, from 0.
    pub load: u32,
    /// What to time.
    pub workloads: Vec<Workload>,
    /// Timed repetitions of each test.
    pub repeats: u32,
}

/// Measures a load, one line per workload; fewer where `stop` ended it.
///
/// # Errors
/// The program fails, or a workload cannot be timed by it.
pub fn run_bench_load(
    bencher: &mut dyn Bencher,
    host: &mut dyn Engine,
    plan: &BenchLoad,
    ids: &SessionIds,
    limit: Duration,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<Measurement>, BenchFailure> {
    let processes = processes(plan, host.threads());
    if let Some((depth, tests)) = processes.iter().find(|(depth, _)| *depth > 0)
        && !bencher.has_depth()
    {
        let test = if tests.generate > 0 { "steps" } else { "a prompt" };
        return Err(BenchFailure::NoDepth { test, depth: *depth });
    }
    let before = host.machine_state();
    let mut reference = vec![host.reference()];
    let begun = host.elapsed();
    let mut runs = Vec::new();
    for (_, tests) in &processes {
        let left = limit.saturating_sub(host.elapsed().saturating_sub(begun));
        match bencher.run(&plan.model, tests, left, stop)? {
            Some(run) => runs.push(run),
            None => return Ok(Vec::new()),
        }
    }
    reference.push(host.reference());
    let after = host.machine_state();
    let mut lines = Vec::new();
    for workload in &plan.workloads {
        let mut line = line(plan, *workload, &runs, host, (&before, &after), ids)?;
        line.reference.clone_from(&reference);
        lines.push(line);
    }
    Ok(lines)
}

/// The processes that time the workloads, each at one depth: a prompt behind the workload's depth,
/// steps behind its prompt.
fn processes(plan: &BenchLoad, threads: u32) -> Vec<(u32, BenchTests)> {
    let mut depths: BTreeMap<u32, (BTreeSet<u32>, BTreeSet<u32>)> = BTreeMap::new();
    for w in &plan.workloads {
        if w.prompt_tokens > 0 {
            depths.entry(w.depth).or_default().0.insert(w.prompt_tokens);
        }
        if w.generated_tokens > 0 {
            let depth = w.depth.saturating_add(w.prompt_tokens);
            depths.entry(depth).or_default().1.insert(w.generated_tokens);
        }
    }
    let mut found = Vec::new();
    for (depth, (prompts, generated)) in depths {
        let tests = |prompts: Vec<u32>, generate| BenchTests {
            prompts,
            generate,
            depth,
            repeats: plan.repeats,
            threads,
        };
        let mut generated = generated.into_iter();
        let first = generated.next().unwrap_or(0);
        found.push((depth, tests(prompts.into_iter().collect(), first)));
        found.extend(generated.map(|generate| (depth, tests(Vec::new(), generate))));
    }
    found
}

fn line(
    plan: &BenchLoad,
    workload: Workload,
    runs: &[BenchRun],
    host: &dyn Engine,
    (before, after): (&MachineState, &MachineState),
    ids: &SessionIds,
) -> Result<Measurement, BenchFailure> {
    let build = runs.first().map(|run| run.build.clone());
    let build = build.unwrap_or(Build { version: String::new(), backend: "cpu".into(), gpu: None });
    let tests = || runs.iter().flat_map(|run| &run.tests);
    let Workload { prompt_tokens, generated_tokens, depth } = workload;
    let is_prompt =
        |t: &&TimedTest| t.n_gen == 0 && (t.n_prompt, t.n_depth) == (prompt_tokens, depth);
    let is_steps = |t: &&TimedTest| {
        t.n_prompt == 0 && (t.n_gen, t.n_depth) == (generated_tokens, depth + prompt_tokens)
    };
    let prompt = tests().find(is_prompt).filter(|_| prompt_tokens > 0);
    let steps = tests().find(is_steps).filter(|_| generated_tokens > 0);
    let passes = |test: &TimedTest| {
        let n_steps = u64::from(test.n_gen.max(1));
        let n_tokens = if test.n_gen > 0 { 1 } else { test.n_prompt };
        let sample = |ns: &u64| PassSample {
            n_tokens,
            kv_len: test.n_depth + test.n_gen / 2,
            forward_ns: ns / n_steps,
            logits_copy_ns: 0,
            softmax_ns: 0,
            sampling_ns: 0,
            probed: false,
            preempted: false,
        };
        test.samples_ns.iter().map(sample).collect::<Vec<_>>()
    };
    // Of the processes that ran these tests; others of the load may have run longer ones.
    let is_used =
        |run: &&BenchRun| run.tests.iter().any(|test| is_prompt(&test) || is_steps(&test));
    let peak = runs.iter().filter(is_used).filter_map(|run| run.peak_rss_bytes).max();
    let environment = environment_between(before, after);
    Ok(Measurement {
        schema_version: SCHEMA_VERSION,
        tool: ids.tool.clone(),
        time: rfc3339_utc(before.unix_seconds),
        session: ids.session.clone(),
        sequence: ids.sequence,
        load: plan.load,
        device: device_of(&build, host.device())?,
        engine: EngineInfo {
            name: foretoken_spec::Engine::LlamaCpp.name().into(),
            version: build.version,
        },
        threads: host.threads(),
        allocator: Allocator::System,
        // No token is drawn: the next one is a random number.
        sampling: Sampling::Greedy,
        model: plan.model.record(),
        workload,
        load_ns: 0,
        cold_load: None,
        warmup: Vec::new(),
        prefill: prompt.map(passes).unwrap_or_default(),
        decode: steps.map(passes).unwrap_or_default(),
        kernels: Vec::new(),
        span_clock: SpanClock::Host,
        memory: MemorySample {
            rss_before_bytes: Some(0),
            rss_loaded_bytes: None,
            peak_rss_bytes: peak,
            available_bytes: before.available_bytes,
            device: None,
        },
        energy: None,
        warnings: environment_warnings(&environment),
        environment,
        reference: Vec::new(),
    })
}

/// The device that did the arithmetic: this machine, or its GPU by the name that llama.cpp has.
fn device_of(build: &Build, host: &DeviceInfo) -> Result<DeviceInfo, BenchFailure> {
    let backend = match build.backend.as_str() {
        "cpu" => return Ok(host.clone()),
        "cuda" => Backend::Cuda,
        "metal" => Backend::Metal,
        "rocm" => Backend::Rocm,
        "vulkan" => Backend::Vulkan,
        "sycl" => Backend::Sycl,
        "opencl" => Backend::Opencl,
        other => return Err(BenchFailure::Backend(other.to_owned())),
    };
    let Some(name) = build.gpu.clone() else {
        return Err(BenchFailure::NoGpu(build.backend.clone()));
    };
    let words: Vec<String> = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    Ok(DeviceInfo { id: words.join("-"), backend, name, l3_bytes: None, ..host.clone() })
}

#[cfg(test)]
mod tests;
