//! How true the profile is: alpha = 100 · (1 − |profile − truth| / truth), as lm-Meter has it.
//!
//! `cargo bench -p foretoken-runner --bench fidelity [-- smollm2 | tinyllama] [ROUNDS]`
//!
//! Two truths. Whole phases: a stopwatch outside the engine, around the very calls of the
//! profiled run. Parts and kernels: a second reader of the same shapes with a clock around every
//! call and nothing of the profiler in it, run in turns with profiled passes. Each round is a
//! process of its own, because where weights lie in memory moves a kernel by a percent or two.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench prints, and ends at the first failure"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use candle_transformers::generation::{LogitsProcessor, Sampling};
use foretoken_runner::{
    CandleEngine, Engine, KernelPass, LoadedModel, MachineState, ProfilePlan, ProfilePrompt,
    Recording, RunError, SamplingMode, TextCodec, run_profile, tool_info,
};
use foretoken_spec::{
    Allocator, CounterSample, DeviceInfo, EngineInfo, KernelOp, ModelSpec, PassSample, Phase,
    ReferenceSample, TensorRole, TimedPass, Workload,
};
use foretoken_stats::median;
use foretoken_tokenize::{DecodeStream, Tokenizer};

use hand_timed::{HandTimed, Key, Times};

#[path = "shared/hand_timed.rs"]
mod hand_timed;
#[path = "shared/models.rs"]
mod models;

const PROMPT: u32 = 128;
const STEPS: u32 = 64;
/// Passes over the prompt in each round, of each reader.
const PROMPTS_PER_ROUND: usize = 10;
/// Decode steps in each round, of each reader.
const STEPS_PER_ROUND: usize = 30;
/// Kernels above this are judged.
const JUDGED_NS: f64 = 50_000.0;

/// Tells a process which round it is to run.
const ROUND: &str = "FORETOKEN_FIDELITY_ROUND";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let rounds = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(6);
    let wants = |name: &str| {
        let names = ["smollm2", "tinyllama"];
        !arguments.iter().any(|a| names.contains(&a.as_str()))
            || arguments.iter().any(|a| a == name)
    };
    for (name, model) in [("smollm2", models::smollm2_135m()), ("tinyllama", models::tinyllama())] {
        if !wants(name) {
            continue;
        }
        if let Ok(round) = std::env::var(ROUND) {
            print_round(&model, round.parse().unwrap());
        } else {
            println!("## {} {}\n", model.name, model.quant);
            let after_pass = kernels_in_turns(name, rounds);
            phases_in_the_run(&model, after_pass);
        }
    }
}

fn engine() -> CandleEngine {
    CandleEngine::new(SamplingMode::Temperature { seed: 1 }).keeping_memory()
}

fn alpha(profile: f64, truth: f64) -> f64 {
    100.0 * (1.0 - (profile - truth).abs() / truth)
}

// ---- whole phases, against a stopwatch around the same calls

/// What the stopwatch read, in ns.
#[derive(Default)]
struct Stopwatch {
    load: f64,
    tokenize: f64,
    detokenize: f64,
    /// Forward pass, softmax and draw of each pass since the last load, warm-up and pairs too.
    passes: Vec<(u32, u32, f64)>,
}

/// `after_pass`: softmax and draw of a token, in ns, as timed by hand.
fn phases_in_the_run(model: &ModelSpec, after_pass: f64) {
    let watch = Rc::new(RefCell::new(Stopwatch::default()));
    let mut engine = Watched { inner: engine(), watch: Rc::clone(&watch) };
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tokenizers/spm-llama.gguf");
    let tokenizer: &'static Tokenizer =
        Box::leak(Box::new(Tokenizer::from_gguf(Path::new(path)).unwrap().unwrap()));
    let text = "Why is the sky blue? ".repeat(PROMPT as usize / 16);
    let plan = ProfilePlan {
        model,
        prompt: ProfilePrompt::Text(text),
        generated_tokens: STEPS,
        overhead_budget: 0.005,
        pair_budget: Duration::from_millis(1),
        tool: tool_info("bench"),
    };
    let mut open = || {
        let (watch, text) = (Rc::clone(&watch), tokenizer.decode_stream());
        Ok(Some(Box::new(Words { watch, tokenizer, text }) as Box<dyn TextCodec>))
    };
    let timeline = run_profile(&mut engine, &plan, &mut open, &mut |_| {}, &|| false).unwrap();
    let watch = watch.borrow();
    let sum =
        |op| -> f64 { timeline.stretches.iter().filter(|s| s.op == op).map(|s| s.ns as f64).sum() };
    // The run's passes are the first of their kind after the warm-up; pairs come later.
    let truth_of = |pass: &TimedPass| {
        let is_it =
            |(n, kv, _): &&(u32, u32, f64)| (*n, *kv) == (pass.sample.n_tokens, pass.sample.kv_len);
        let mut found = watch.passes.iter().filter(is_it);
        // The prompt ran once as warm-up.
        let found = if pass.phase == Phase::Prefill { found.nth(1) } else { found.next() };
        found.unwrap().2
    };
    let total = |phase: Option<Phase>| -> (f64, f64) {
        let passes = timeline.passes.iter().filter(|p| phase.is_none_or(|phase| p.phase == phase));
        passes.fold((0.0, 0.0), |(a, b), p| (a + p.sample.total_ns() as f64, b + truth_of(p)))
    };
    println!("| phase | profile ms | stopwatch ms | alpha % |\n|---|---:|---:|---:|");
    let row = |name: &str, (profile, truth): (f64, f64)| {
        println!(
            "| {name} | {:.4} | {:.4} | {:.3} |",
            profile / 1e6,
            truth / 1e6,
            alpha(profile, truth)
        );
    };
    row("load", (sum(KernelOp::Load), watch.load));
    row("tokenization", (sum(KernelOp::Tokenize), watch.tokenize));
    row("prefill with softmax and sampling (TTFT)", total(Some(Phase::Prefill)));
    row("decode with softmax and sampling (TPOT), all steps", total(Some(Phase::Decode)));
    let alone = |phase: Phase| {
        let passes: Vec<&TimedPass> = timeline.passes.iter().filter(|p| p.phase == phase).collect();
        let profile: u64 = passes.iter().map(|p| p.sample.forward_ns).sum();
        (profile as f64, total(Some(phase)).1 - passes.len() as f64 * after_pass)
    };
    row("prefill (stopwatch less softmax and sampling by hand)", alone(Phase::Prefill));
    row("decode (stopwatch less softmax and sampling by hand)", alone(Phase::Decode));
    let detokenize: f64 = timeline.passes.iter().map(|p| p.detokenize_ns as f64).sum();
    row("detokenization", (detokenize, watch.detokenize));
    row("end to end", total(None));
    let accounted = sum(KernelOp::Load)
        + sum(KernelOp::Tokenize)
        + sum(KernelOp::Warmup)
        + total(None).0
        + detokenize;
    println!(
        "\nunaccounted: {:.4} % of the wall time\n",
        100.0 * (1.0 - accounted / timeline.end_ns as f64)
    );
}

/// The candle engine with a stopwatch around its calls.
struct Watched {
    inner: CandleEngine,
    watch: Rc<RefCell<Stopwatch>>,
}

impl Engine for Watched {
    fn info(&self) -> EngineInfo {
        self.inner.info()
    }

    fn device(&self) -> &DeviceInfo {
        self.inner.device()
    }

    fn threads(&self) -> u32 {
        self.inner.threads()
    }

    fn check(&self, model: &ModelSpec, workload: &Workload) -> Result<(), RunError> {
        self.inner.check(model, workload)
    }

    fn load(&mut self, model: &ModelSpec) -> Result<Box<dyn LoadedModel>, RunError> {
        let start = Instant::now();
        let inner = self.inner.load(model)?;
        self.watch.borrow_mut().load = start.elapsed().as_nanos() as f64;
        Ok(Box::new(WatchedModel { inner, watch: Rc::clone(&self.watch) }))
    }

    fn reference(&mut self) -> ReferenceSample {
        self.inner.reference()
    }

    fn allocator(&self) -> Allocator {
        self.inner.allocator()
    }

    fn elapsed(&self) -> Duration {
        self.inner.elapsed()
    }

    fn machine_state(&self) -> MachineState {
        self.inner.machine_state()
    }

    fn counters(&self, at_ns: u64) -> CounterSample {
        self.inner.counters(at_ns)
    }

    fn ns_per_event(&self) -> f64 {
        self.inner.ns_per_event()
    }
}

struct WatchedModel {
    inner: Box<dyn LoadedModel>,
    watch: Rc<RefCell<Stopwatch>>,
}

impl LoadedModel for WatchedModel {
    fn load_ns(&self) -> u64 {
        self.inner.load_ns()
    }

    fn reset(&mut self) {
        self.inner.reset();
    }

    fn snapshot(&mut self) {
        self.inner.snapshot();
    }

    fn restore(&mut self) -> Result<(), RunError> {
        self.inner.restore()
    }

    fn forget_snapshot(&mut self) {
        self.inner.forget_snapshot();
    }

    fn snapshot_bytes(&self) -> u64 {
        self.inner.snapshot_bytes()
    }

    fn forward(
        &mut self,
        tokens: &[u32],
        kv_len: u32,
        probe: bool,
    ) -> Result<PassSample, RunError> {
        let start = Instant::now();
        let sample = self.inner.forward(tokens, kv_len, probe)?;
        let ns = start.elapsed().as_nanos() as f64;
        self.watch.borrow_mut().passes.push((sample.n_tokens, kv_len, ns));
        Ok(sample)
    }

    fn last_token(&self) -> u32 {
        self.inner.last_token()
    }

    fn last_kernels(&self) -> Vec<KernelPass> {
        self.inner.last_kernels()
    }

    fn take_recording(&mut self) -> Option<Recording> {
        self.inner.take_recording()
    }
}

/// A real tokenizer that times itself.
struct Words {
    watch: Rc<RefCell<Stopwatch>>,
    tokenizer: &'static Tokenizer,
    text: DecodeStream<'static>,
}

impl TextCodec for Words {
    fn encode(&mut self, text: &str) -> Vec<u32> {
        let start = Instant::now();
        let tokens = self.tokenizer.encode(text);
        let ns = start.elapsed().as_nanos() as f64;
        self.watch.borrow_mut().tokenize = ns;
        tokens
    }

    fn next_text(&mut self, token: u32) -> String {
        let start = Instant::now();
        let text = self.text.push(token % self.tokenizer.vocab_size() as u32);
        let ns = start.elapsed().as_nanos() as f64;
        self.watch.borrow_mut().detokenize += ns;
        text
    }

    fn is_end(&self, _: u32) -> bool {
        false
    }
}

// ---- parts and kernels, against a reader that is timed by hand

/// Times of each pass by kernel, of both readers.
#[derive(Default)]
struct Series {
    profile: BTreeMap<Key, Vec<f64>>,
    truth: BTreeMap<Key, Vec<f64>>,
}

/// Ratios of medians, one per round.
type Ratios = BTreeMap<Key, Vec<(f64, f64)>>;

/// Calls in a pass by kernel.
type Calls = BTreeMap<Key, f64>;

/// A row of a round: phase, operation, role, calls, median of the profile and by hand, in ns.
type RoundRow = (usize, KernelOp, Option<TensorRole>, f64, f64, f64);

/// Prints both tables; returns what softmax and draw of a token take by hand, in ns.
fn kernels_in_turns(name: &str, rounds: usize) -> f64 {
    let mut ratios = [Ratios::new(), Ratios::new()];
    let mut all_calls = [Calls::new(), Calls::new()];
    for round in 0..rounds {
        let exe = std::env::current_exe().unwrap();
        let output = Command::new(exe).arg(name).env(ROUND, round.to_string()).output().unwrap();
        assert!(output.status.success(), "round {round} failed");
        let rows: Vec<RoundRow> = serde_json::from_slice(&output.stdout).unwrap();
        for (phase, op, role, calls, profile, truth) in rows {
            ratios[phase].entry((op, role)).or_default().push((profile, truth));
            all_calls[phase].insert((op, role), calls);
        }
    }
    let [prefill, decode] = ratios;
    let by_hand = |op| {
        let rounds: Vec<f64> = decode[&(op, None)].iter().map(|pair| pair.1).collect();
        median(&rounds).unwrap()
    };
    let after_pass = by_hand(KernelOp::Softmax) + by_hand(KernelOp::Sampling);
    table("prefill", prefill, &all_calls[0]);
    table("decode", decode, &all_calls[1]);
    after_pass
}

/// Runs a round and prints its rows as JSON.
fn print_round(model: &ModelSpec, round: usize) {
    let mut calls = [Calls::new(), Calls::new()];
    let mut rows: Vec<RoundRow> = Vec::new();
    for (phase, series) in run_round(model, round, &mut calls).into_iter().enumerate() {
        for ((op, role), profile) in series.profile {
            let Some(truth) = series.truth.get(&(op, role)) else { continue };
            let n = calls[phase].get(&(op, role)).copied().unwrap_or(1.0);
            rows.push((phase, op, role, n, median(&profile).unwrap(), median(truth).unwrap()));
        }
    }
    println!("{}", serde_json::to_string(&rows).unwrap());
}

fn run_round(model: &ModelSpec, round: usize, calls: &mut [Calls; 2]) -> [Series; 2] {
    let mut engine = engine();
    let (mut ours, mut truth) = if round.is_multiple_of(2) {
        let ours = engine.load(model).unwrap();
        (ours, HandTimed::load(model).unwrap())
    } else {
        let truth = HandTimed::load(model).unwrap();
        (engine.load(model).unwrap(), truth)
    };
    let mut sampler = LogitsProcessor::from_sampling(1, Sampling::All { temperature: 1.0 });
    let prompt: Vec<u32> = (0..PROMPT).map(|i| i * 37 % model.shape.vocab_size).collect();
    let empty = truth.caches();

    // Repack, and let the allocator grow.
    for _ in 0..2 {
        ours.reset();
        ours.forward(&prompt, 0, false).unwrap();
        truth.restore(&empty);
        truth.forward(&prompt, 0, &mut Times::new()).unwrap();
    }
    let mut all = [Series::default(), Series::default()];
    for turn in 0..PROMPTS_PER_ROUND {
        for which in [turn % 2, (turn + 1) % 2] {
            if which == 0 {
                ours.reset();
                profiled(ours.as_mut(), &prompt, 0, &mut all[0], &mut calls[0]);
            } else {
                truth.restore(&empty);
                timed(&mut truth, &prompt, 0, &mut sampler, &mut all[0]);
            }
        }
    }
    ours.snapshot();
    let filled = truth.caches();
    for turn in 0..STEPS_PER_ROUND {
        for which in [turn % 2, (turn + 1) % 2] {
            if which == 0 {
                ours.restore().unwrap();
                profiled(ours.as_mut(), &[1], PROMPT, &mut all[1], &mut calls[1]);
            } else {
                truth.restore(&filled);
                timed(&mut truth, &[1], PROMPT as usize, &mut sampler, &mut all[1]);
            }
        }
    }
    all
}

fn profiled(
    model: &mut dyn LoadedModel,
    tokens: &[u32],
    kv_len: u32,
    series: &mut Series,
    calls: &mut Calls,
) {
    let sample = model.forward(tokens, kv_len, true).unwrap();
    let mut times = Times::new();
    calls.clear();
    for slice in model.take_recording().unwrap().slices() {
        let role = if slice.op == KernelOp::LmHead { None } else { slice.role };
        *times.entry((slice.op, role)).or_insert(0.0) += slice.ns as f64;
        *calls.entry((slice.op, role)).or_insert(0.0) += 1.0;
    }
    times.insert((KernelOp::Softmax, None), sample.softmax_ns as f64);
    times.insert((KernelOp::Sampling, None), sample.sampling_ns as f64);
    // `load` stands for the whole pass here: nothing else in a pass has that name.
    times.insert((KernelOp::Load, None), sample.forward_ns as f64);
    for (key, ns) in times {
        series.profile.entry(key).or_default().push(ns);
    }
}

fn timed(
    model: &mut HandTimed,
    tokens: &[u32],
    kv_len: usize,
    sampler: &mut LogitsProcessor,
    series: &mut Series,
) {
    let mut times = Times::new();
    let (logits, total) = model.forward(tokens, kv_len, &mut times).unwrap();
    let start = Instant::now();
    let mut drawn_from = start;
    sampler.sample_f(&logits, |_| drawn_from = Instant::now()).unwrap();
    let end = Instant::now();
    times.insert((KernelOp::Softmax, None), (drawn_from - start).as_nanos() as f64);
    times.insert((KernelOp::Sampling, None), (end - drawn_from).as_nanos() as f64);
    times.insert((KernelOp::Load, None), total);
    for (key, ns) in times {
        series.truth.entry(key).or_default().push(ns);
    }
}

/// One row per kernel: medians over the rounds, and alpha of the median ratio.
fn table(phase: &str, ratios: Ratios, calls: &Calls) {
    println!(
        "| {phase}: kernel | calls | profile µs per call | by hand µs per call | alpha % | rounds, % |"
    );
    println!("|---|---:|---:|---:|---:|---|");
    let mut rows: Vec<(Key, Vec<(f64, f64)>)> = ratios.into_iter().collect();
    rows.sort_by(|a, b| b.1[0].1.total_cmp(&a.1[0].1));
    for ((op, role), pairs) in rows {
        let n = calls.get(&(op, role)).copied().unwrap_or(1.0);
        let mid = |pick: fn(&(f64, f64)) -> f64| {
            median(&pairs.iter().map(pick).collect::<Vec<_>>()).unwrap() / n
        };
        let (profile, truth) = (mid(|p| p.0), mid(|p| p.1));
        let ratios: Vec<f64> = pairs.iter().map(|(a, b)| a / b).collect();
        let ratio = median(&ratios).unwrap();
        let name = match (op, role) {
            (KernelOp::Load, _) => "**whole pass**".to_owned(),
            (op, Some(role)) => format!("{}.{}", op.name(), role.gguf_stem()),
            (op, None) => op.name().to_owned(),
        };
        let judged = if truth >= JUDGED_NS { "" } else { " (small)" };
        let spread: Vec<String> =
            ratios.iter().map(|r| format!("{:+.1}", (r - 1.0) * 100.0)).collect();
        println!(
            "| {name}{judged} | {n:.0} | {:.2} | {:.2} | {:.2} | {} |",
            profile / 1e3,
            truth / 1e3,
            alpha(ratio, 1.0),
            spread.join(" ")
        );
    }
    println!();
}
