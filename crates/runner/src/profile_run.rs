//! One real run under the probes: load, tokenization, warm-up, prompt, decode steps, text.
//!
//! While the run goes on nothing is computed from what the probes record; the passes that say
//! what the probes cost, and the microbenchmarks that divide blocks, come after its end.

use std::time::Duration;

use foretoken_spec::{
    BlockSplit, Ceilings, CounterSample, KernelOp, ModelSpec, OverheadPair, OverheadPairs, Pass,
    PassSample, Phase, PhasePairs, ReferenceSample, Stretch, TimedPass, Timeline, ToolInfo,
    Workload,
};
use foretoken_stats::{SplitMix64, mad, median};

use crate::environment::{environment_between, warnings_of};
use crate::workload_run::{tokens, warm_up};
use crate::{Engine, LoadedModel, Recording, RunError, rfc3339_utc};

/// What to run.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfilePlan<'a> {
    /// The model.
    pub model: &'a ModelSpec,
    /// The prompt.
    pub prompt: ProfilePrompt,
    /// Tokens to generate, the first included.
    pub generated_tokens: u32,
    /// Largest share of the run's time that the probes may cost; above it they skip steps.
    pub overhead_budget: f64,
    /// Most time for the pairs of passes that measure the probes' cost, for each phase.
    pub pair_budget: Duration,
    /// Who measures.
    pub tool: ToolInfo,
}

/// A prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfilePrompt {
    /// So many arbitrary tokens.
    Tokens(u32),
    /// A text, for a model that has a tokenizer.
    Text(String),
}

/// Text to tokens and back.
pub trait TextCodec {
    /// The tokens of a text.
    fn encode(&mut self, text: &str) -> Vec<u32>;

    /// The text that this token adds to those before.
    fn next_text(&mut self, token: u32) -> String;

    /// Whether the model says with this token that it has finished.
    fn is_end(&self, token: u32) -> bool;
}

/// Opens the tokenizer of the model; `None` where it has none. The time counts as load.
pub type OpenCodec<'a> = dyn FnMut() -> Result<Option<Box<dyn TextCodec + 'a>>, String> + 'a;

/// What a run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfileStage {
    /// The speed of the machine is looked at.
    Machine,
    /// The model is read.
    Load,
    /// First passes, not counted.
    Warmup,
    /// The prompt.
    Prefill,
    /// The decode steps.
    Decode,
    /// After the run: pairs of passes that say what the probes cost.
    Pairs,
    /// After the run: the parts of blocks that no span divides, alone.
    Parts,
}

/// Where a run is.
#[derive(Debug, Clone, Copy)]
pub struct ProfileProgress<'a> {
    /// The stage.
    pub stage: ProfileStage,
    /// Tokens generated; of pairs, those so far.
    pub done: u32,
    /// Tokens to generate; 0 where the end is not known.
    pub total: u32,
    /// Passes so far, without their slices.
    pub passes: &'a [TimedPass],
    /// The recording of the last probed pass.
    pub recording: Option<&'a Recording>,
}

impl ProfileProgress<'_> {
    /// A stage that has nothing to show of the run.
    fn of(stage: ProfileStage) -> Self {
        Self { stage, done: 0, total: 0, passes: &[], recording: None }
    }
}

/// Pairs that say enough.
const ENOUGH_PAIRS: usize = 16;
/// Most pairs of a phase.
const MOST_PAIRS: usize = 400;
/// The half-width of the interval at which more pairs say nothing new.
const NARROW: f64 = 0.001_5;
/// Longest pass of a prefill pair: longer prompts are cut.
const PAIR_PASS: Duration = Duration::from_millis(100);
/// Fewest decode steps for each that is probed: the other one is what it is paired with.
const FEWEST_STEPS: u32 = 2;
/// Probed steps after which the measured cost is looked at again.
const CHECK_EVERY: usize = 8;
/// Most further passes over the prompt after the run.
const PROMPT_REPEATS: usize = 6;
/// Runs of the reference workload before the run, and after it.
const REFERENCE_RUNS: usize = 4;
/// Least time between two looks at the machine.
const COUNTER_INTERVAL_NS: u64 = 250_000_000;

/// Runs the model once under the probes and returns the raw timeline.
///
/// `observe` is called between passes, where its time counts as unaccounted: it should be quick.
/// Once `stop` says so the run ends, and the timeline holds what was measured until then.
///
/// # Errors
/// Whatever the engine or the tokenizer refuses or fails at.
pub fn run_profile(
    engine: &mut dyn Engine,
    plan: &ProfilePlan<'_>,
    open_codec: &mut OpenCodec<'_>,
    observe: &mut dyn FnMut(&ProfileProgress<'_>),
    stop: &dyn Fn() -> bool,
) -> Result<Timeline, RunError> {
    if let ProfilePrompt::Tokens(n) = plan.prompt {
        check(engine, plan, n)?;
    }
    observe(&ProfileProgress::of(ProfileStage::Machine));
    let reference_before = best_reference(engine, stop);
    engine.prepare_load();
    let before = engine.machine_state();
    let mut run = Run {
        plan,
        stop,
        zero: engine.elapsed(),
        ns_per_event: engine.ns_per_event(),
        stretches: Vec::new(),
        passes: Vec::new(),
        recordings: Vec::new(),
        counters: Vec::new(),
        pairs: OverheadPairs::default(),
        text: None,
        sampled_every: FEWEST_STEPS,
        interrupted: false,
    };
    // Reading the cost of an event took time of its own.
    run.zero = engine.elapsed();
    let mut codec =
        run.stretch(engine, KernelOp::Load, |_| open_codec().map_err(RunError::Tokenizer))?;
    if codec.is_none() {
        // A file without a tokenizer has nothing to open.
        run.stretches.clear();
    }
    let prompt = run.prompt(engine, codec.as_deref_mut())?;
    observe(&run.progress(ProfileStage::Load));
    let mut model = run.stretch(engine, KernelOp::Load, |engine| engine.load(plan.model))?;
    observe(&run.progress(ProfileStage::Warmup));
    run.warm_up(engine, model.as_mut(), &prompt)?;
    run.generate(engine, model.as_mut(), &prompt, codec.as_deref_mut(), observe)?;
    let end_ns = run.now(engine);

    run.read_recordings();
    let after = engine.machine_state();
    let mut pairs = std::mem::take(&mut run.pairs);
    if !run.interrupted && !stop() {
        run.more_pairs(model.as_mut(), &prompt, &mut pairs, observe)?;
    }
    let prompt_repeats_ns = run.repeat_prompt(model.as_mut(), &prompt)?;
    drop(model);
    observe(&ProfileProgress::of(ProfileStage::Parts));
    let splits = if run.interrupted { Vec::new() } else { run.splits(engine) };
    let reference_after = best_reference(engine, stop);
    let mut warnings = warnings_of(&environment_between(&before, &after));
    let preempted = run.passes.iter().filter(|pass| pass.sample.preempted).count();
    if 4 * preempted > run.passes.len() {
        warnings.push(format!(
            "other programs took the processor in {preempted} of {} passes; close them and profile again",
            run.passes.len()
        ));
    }
    Ok(Timeline {
        tool: plan.tool.clone(),
        time: rfc3339_utc(before.unix_seconds),
        model: plan.model.clone(),
        device: engine.device().clone(),
        engine: engine.info(),
        threads: engine.threads(),
        allocator: engine.allocator(),
        sampling: engine.sampling(),
        ceilings: best_of(reference_before, reference_after),
        stretches: run.stretches,
        passes: run.passes,
        end_ns,
        counters: run.counters,
        splits,
        pairs,
        prompt_repeats_ns,
        span_clock: engine.span_clock(),
        ns_per_event: run.ns_per_event,
        sampled_every: run.sampled_every,
        prompt_text: match &plan.prompt {
            ProfilePrompt::Text(text) => Some(text.clone()),
            ProfilePrompt::Tokens(_) => None,
        },
        generated_text: run.text,
        interrupted: run.interrupted,
        warnings,
    })
}

fn check(engine: &dyn Engine, plan: &ProfilePlan<'_>, prompt_tokens: u32) -> Result<(), RunError> {
    if prompt_tokens == 0 {
        return Err(RunError::EmptyPrompt);
    }
    let limit = plan.model.shape.context_length;
    if prompt_tokens > limit {
        let model = plan.model.name.clone();
        return Err(RunError::BeyondContext { model, prompt: prompt_tokens, limit });
    }
    let generated_tokens = plan.generated_tokens;
    engine.check(plan.model, &Workload { prompt_tokens, generated_tokens, depth: 0 })
}

/// The best of several runs of the reference workload: a ceiling is what the machine can do, not
/// what it did while something else ran.
fn best_reference(engine: &mut dyn Engine, stop: &dyn Fn() -> bool) -> Ceilings {
    let first = ceilings(engine.reference());
    (1..REFERENCE_RUNS)
        .take_while(|_| !stop())
        .fold(first, |best, _| best_of(best, ceilings(engine.reference())))
}

fn ceilings(sample: ReferenceSample) -> Ceilings {
    Ceilings {
        stream_bytes_per_second: sample.stream_bytes_per_second,
        matmul_flop_per_second: sample.matmul_flop_per_second,
    }
}

fn best_of(a: Ceilings, b: Ceilings) -> Ceilings {
    Ceilings {
        stream_bytes_per_second: a.stream_bytes_per_second.max(b.stream_bytes_per_second),
        matmul_flop_per_second: a.matmul_flop_per_second.max(b.matmul_flop_per_second),
    }
}

/// A run as far as it has come.
struct Run<'a> {
    plan: &'a ProfilePlan<'a>,
    stop: &'a dyn Fn() -> bool,
    zero: Duration,
    ns_per_event: f64,
    stretches: Vec<Stretch>,
    passes: Vec<TimedPass>,
    /// Recordings of probed passes, by index of the pass.
    recordings: Vec<(usize, Recording)>,
    counters: Vec<CounterSample>,
    pairs: OverheadPairs,
    text: Option<String>,
    sampled_every: u32,
    interrupted: bool,
}

impl Run<'_> {
    fn now(&self, engine: &dyn Engine) -> u64 {
        nanos(engine.elapsed().saturating_sub(self.zero))
    }

    /// Does something before the first pass, and keeps its time.
    fn stretch<T>(
        &mut self,
        engine: &mut dyn Engine,
        op: KernelOp,
        work: impl FnOnce(&mut dyn Engine) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let start_ns = self.now(engine);
        let result = work(engine)?;
        let ns = self.now(engine) - start_ns;
        if ns > 0 {
            self.stretches.push(Stretch { op, start_ns, ns });
        }
        Ok(result)
    }

    fn prompt(
        &mut self,
        engine: &mut dyn Engine,
        codec: Option<&mut (dyn TextCodec + '_)>,
    ) -> Result<Vec<u32>, RunError> {
        let vocabulary = self.plan.model.shape.vocab_size;
        let text = match &self.plan.prompt {
            ProfilePrompt::Tokens(n) => return Ok(tokens(0, *n, vocabulary)),
            ProfilePrompt::Text(text) => text,
        };
        let Some(codec) = codec else {
            return Err(RunError::Tokenizer(format!(
                "{} has no tokenizer; give --prompt N instead of a text",
                self.plan.model.name
            )));
        };
        let prompt = self.stretch(engine, KernelOp::Tokenize, |_| Ok(codec.encode(text)))?;
        check(engine, self.plan, u32::try_from(prompt.len()).unwrap_or(u32::MAX))?;
        match prompt.iter().find(|token| **token >= vocabulary) {
            Some(token) => Err(RunError::Tokenizer(format!(
                "the tokenizer of {} gives token {token}, but its vocabulary ends at {vocabulary}",
                self.plan.model.name
            ))),
            None => Ok(prompt),
        }
    }

    /// Repacks the weights, and makes the allocator grow to the prompt.
    fn warm_up(
        &mut self,
        engine: &mut dyn Engine,
        model: &mut dyn LoadedModel,
        prompt: &[u32],
    ) -> Result<(), RunError> {
        let vocabulary = self.plan.model.shape.vocab_size;
        let rows = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let stop = self.stop;
        let done = self.stretch(engine, KernelOp::Warmup, |_| {
            let Some(_) = warm_up(model, vocabulary, rows, stop)? else { return Ok(false) };
            if stop() {
                return Ok(false);
            }
            model.forward(prompt, 0, false)?;
            model.reset();
            Ok(true)
        })?;
        self.interrupted = !done;
        Ok(())
    }

    fn generate(
        &mut self,
        engine: &mut dyn Engine,
        model: &mut dyn LoadedModel,
        prompt: &[u32],
        mut codec: Option<&mut (dyn TextCodec + '_)>,
        observe: &mut dyn FnMut(&ProfileProgress<'_>),
    ) -> Result<(), RunError> {
        let is_text = matches!(self.plan.prompt, ProfilePrompt::Text(_));
        let mut kv_len = 0;
        let mut input = prompt.to_vec();
        // Without tokens to generate the prompt's pass still draws one.
        for index in 0..self.plan.generated_tokens.max(1) {
            if self.interrupted || (self.stop)() {
                self.interrupted = true;
                break;
            }
            let phase = if index == 0 { Phase::Prefill } else { Phase::Decode };
            observe(&self.progress(match phase {
                Phase::Prefill => ProfileStage::Prefill,
                Phase::Decode => ProfileStage::Decode,
            }));
            self.look_at_machine(engine);
            let probe = match index.checked_sub(1) {
                Some(step) => is_probed(step, self.sampled_every),
                None => true,
            };
            let start_ns = self.now(engine);
            let sample = model.forward(&input, kv_len, probe)?;
            let token = model.last_token();
            let detokenize_ns = self.detokenize(engine, token, codec.as_deref_mut());
            kv_len += sample.n_tokens;
            self.keep(
                TimedPass { phase, start_ns, sample, detokenize_ns, token, slices: Vec::new() },
                model.take_recording(),
            );
            if index > 0 {
                self.pair(index - 1);
            }
            if is_text && codec.as_deref().is_some_and(|codec| codec.is_end(token)) {
                break;
            }
            input.clear();
            input.push(token);
        }
        observe(&self.progress(ProfileStage::Decode));
        Ok(())
    }

    fn read_recordings(&mut self) {
        for (index, recording) in std::mem::take(&mut self.recordings) {
            let pass = &mut self.passes[index];
            pass.slices = recording.slices();
            let pairs = match pass.phase {
                Phase::Prefill => &mut self.pairs.prefill,
                Phase::Decode => &mut self.pairs.decode,
            };
            pairs.events = u32::try_from(recording.n_events()).unwrap_or(u32::MAX);
        }
    }

    fn detokenize(
        &mut self,
        engine: &dyn Engine,
        token: u32,
        codec: Option<&mut (dyn TextCodec + '_)>,
    ) -> u64 {
        let Some(codec) = codec else { return 0 };
        // After a pass the clock and the tokenizer are out of the caches, and to fetch them takes
        // about as long as a token's text.
        codec.is_end(token);
        self.now(engine);
        let start = self.now(engine);
        let text = codec.next_text(token);
        let ns = self.now(engine) - start;
        // What follows arbitrary tokens is timed too, but nobody wants to read it.
        if matches!(self.plan.prompt, ProfilePrompt::Text(_)) {
            self.text.get_or_insert_default().push_str(&text);
        }
        ns
    }

    fn keep(&mut self, pass: TimedPass, recording: Option<Recording>) {
        let index = self.passes.len();
        self.passes.push(pass);
        if let Some(recording) = recording {
            self.recordings.push((index, recording));
            if index > 0 {
                self.adapt(index);
            }
        }
    }

    /// Probes fewer steps where probing them would cost more than the budget.
    fn adapt(&mut self, index: usize) {
        let budget = self.plan.overhead_budget;
        let events = self.recordings.last().map_or(0, |(_, recording)| recording.n_events());
        let step_ns = self.passes[index].sample.forward_ns.max(1) as f64;
        let computed = events as f64 * self.ns_per_event / step_ns;
        let measured = if self.recordings.len().is_multiple_of(CHECK_EVERY) {
            self.measured_lower_bound()
        } else {
            0.0
        };
        let cost = computed.max(measured);
        if cost > budget * f64::from(self.sampled_every) {
            let steps = (cost / budget).ceil().clamp(2.0, f64::from(u32::MAX));
            self.sampled_every = steps as u32;
        }
    }

    /// Keeps a decode step and the one before it as a pair, where one of them was probed.
    fn pair(&mut self, step: u32) {
        let [.., a, b] = self.passes.as_slice() else { return };
        let is_second = step % self.sampled_every == 1;
        if !is_second || a.sample.probed == b.sample.probed {
            return;
        }
        if a.sample.preempted || b.sample.preempted {
            return;
        }
        let (probed, unprobed) = if a.sample.probed { (a, b) } else { (b, a) };
        self.pairs.decode.n_tokens = probed.sample.n_tokens;
        self.pairs.decode.pairs.push(OverheadPair {
            probed_ns: probed.sample.forward_ns as f64,
            unprobed_ns: unprobed.sample.forward_ns as f64,
        });
    }

    /// What the run's own pairs say that the probes cost at least.
    fn measured_lower_bound(&self) -> f64 {
        let pairs = &self.pairs.decode.pairs;
        if pairs.len() < ENOUGH_PAIRS {
            return 0.0;
        }
        let (fraction, half_width) = estimate(pairs);
        fraction - half_width
    }

    fn look_at_machine(&mut self, engine: &dyn Engine) {
        let now = self.now(engine);
        let is_due =
            self.counters.last().is_none_or(|last| now - last.at_ns >= COUNTER_INTERVAL_NS);
        if is_due {
            self.counters.push(engine.counters(now));
        }
    }

    fn progress(&self, stage: ProfileStage) -> ProfileProgress<'_> {
        ProfileProgress {
            stage,
            done: u32::try_from(self.passes.len()).unwrap_or(u32::MAX),
            total: self.plan.generated_tokens.max(1),
            passes: &self.passes,
            recording: self.recordings.last().map(|(_, recording)| recording),
        }
    }

    /// Passes over the same tokens with the probes on and off, in turns, until their difference
    /// is known well.
    fn more_pairs(
        &self,
        model: &mut dyn LoadedModel,
        prompt: &[u32],
        pairs: &mut OverheadPairs,
        observe: &mut dyn FnMut(&ProfileProgress<'_>),
    ) -> Result<(), RunError> {
        let Some(prefill) = self.passes.first() else { return Ok(()) };
        if let Some(last) = self.passes.last().filter(|pass| pass.phase == Phase::Decode) {
            // The cache as it is, for every step of the pairs; its token is the last drawn.
            let kv_len = last.sample.kv_len + 1;
            pairs.decode.n_tokens = 1;
            let go_on = model.replays();
            if !go_on {
                model.snapshot();
            }
            self.pairs_of(model, &[last.token], (kv_len, go_on), &mut pairs.decode, observe)?;
            model.forget_snapshot();
        }
        model.reset();
        model.snapshot();
        let share = PAIR_PASS.as_nanos() as f64 / prefill.sample.forward_ns.max(1) as f64;
        let n_tokens =
            ((prompt.len() as f64 * share) as usize).clamp(2.min(prompt.len()), prompt.len());
        pairs.prefill.n_tokens = u32::try_from(n_tokens).unwrap_or(u32::MAX);
        self.pairs_of(model, &prompt[..n_tokens], (0, false), &mut pairs.prefill, observe)?;
        model.forget_snapshot();
        Ok(())
    }

    /// The whole prompt again, a few times and as long as there is time.
    fn repeat_prompt(
        &self,
        model: &mut dyn LoadedModel,
        prompt: &[u32],
    ) -> Result<Vec<u64>, RunError> {
        let mut times = Vec::new();
        let budget = nanos(self.plan.pair_budget);
        while !self.interrupted
            && !(self.stop)()
            && times.len() < PROMPT_REPEATS
            && times.iter().sum::<u64>() < budget
        {
            model.reset();
            times.push(model.forward(prompt, 0, false)?.forward_ns);
        }
        Ok(times)
    }

    /// Pairs of passes at one cache length or, where going back would take as long as the run
    /// (`go_on`), at one after the other.
    fn pairs_of(
        &self,
        model: &mut dyn LoadedModel,
        input: &[u32],
        (first, go_on): (u32, bool),
        phase: &mut PhasePairs,
        observe: &mut dyn FnMut(&ProfileProgress<'_>),
    ) -> Result<(), RunError> {
        let mut spent = Duration::ZERO;
        let mut kv_len = first;
        let mut pass = |probe| -> Result<PassSample, RunError> {
            if !go_on {
                model.restore()?;
            }
            let sample = model.forward(input, kv_len, probe)?;
            kv_len += u32::from(go_on);
            if let Some(recording) = model.take_recording() {
                phase.events = u32::try_from(recording.n_events()).unwrap_or(u32::MAX);
            }
            Ok(sample)
        };
        pass(false)?;
        // As many as the rotary tables are sure to hold.
        let room = self.plan.model.shape.context_length.saturating_sub(first + 3) / 2;
        let most = if go_on { MOST_PAIRS.min(room as usize) } else { MOST_PAIRS };
        while !(self.stop)() && phase.pairs.len() < most {
            let is_enough = phase.pairs.len() >= ENOUGH_PAIRS
                && (estimate(&phase.pairs).1 < NARROW || spent >= self.plan.pair_budget);
            if is_enough || spent >= 3 * self.plan.pair_budget {
                break;
            }
            let done = u32::try_from(phase.pairs.len()).unwrap_or(u32::MAX);
            observe(&ProfileProgress { done, ..ProfileProgress::of(ProfileStage::Pairs) });
            let probed_first = phase.pairs.len().is_multiple_of(2);
            let (first, second) = (pass(probed_first)?, pass(!probed_first)?);
            spent += Duration::from_nanos(first.total_ns() + second.total_ns());
            let (probed, unprobed) = if probed_first { (first, second) } else { (second, first) };
            phase.pairs.push(OverheadPair {
                probed_ns: probed.forward_ns as f64,
                unprobed_ns: unprobed.forward_ns as f64,
            });
        }
        Ok(())
    }

    /// Times the parts of undivided blocks at the prompt, the first and the last step.
    fn splits(&self, engine: &mut dyn Engine) -> Vec<BlockSplit> {
        let mut passes: Vec<Pass> = Vec::new();
        let of =
            |pass: &TimedPass| Pass { n_tokens: pass.sample.n_tokens, kv_len: pass.sample.kv_len };
        for pass in [self.passes.first(), self.passes.get(1), self.passes.last()] {
            let Some(pass) = pass.map(of) else { continue };
            if !passes.contains(&pass) {
                passes.push(pass);
            }
        }
        engine.block_splits(self.plan.model, &passes, self.stop)
    }
}

/// Whether a decode step is probed where one in `sampled_every` is: the first or the second of
/// them, by chance, and the other one is its pair. Steps have rhythms of their own, such as those
/// of the allocator, that a fixed order would take for a cost. The first step of all is probed.
fn is_probed(step: u32, sampled_every: u32) -> bool {
    let (block, place) = (step / sampled_every, step % sampled_every);
    let probed = if block == 0 { 0 } else { SplitMix64::new(u64::from(block)).below(2) };
    place as usize == probed
}

/// Median of probed / unprobed − 1, and half of its 95 % interval if the ratios were normal:
/// 1.96 · √(π/2) · 1.4826 · MAD / √n.
fn estimate(pairs: &[OverheadPair]) -> (f64, f64) {
    let ratios: Vec<f64> = pairs.iter().map(|pair| pair.probed_ns / pair.unprobed_ns).collect();
    let spread = 1.4826 * mad(&ratios).unwrap_or(f64::INFINITY);
    let half_width = 1.96 * 1.2533 * spread / (ratios.len() as f64).sqrt();
    (median(&ratios).unwrap_or(1.0) - 1.0, half_width)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
