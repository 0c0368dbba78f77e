//! The passes of a workload on a loaded model.

use foretoken_meter::Mark;
use foretoken_spec::{KernelSample, PassSample, Phase, WarmupPass};
use foretoken_stats::SplitMix64;

use crate::energy::EnergySum;
use crate::{KernelPass, LoadedModel, RunError, WorkloadPlan};

/// Longest untimed pass when the cache is filled, tokens: short, because its score matrices
/// would raise the peak of the process.
const FILL_CHUNK: u32 = 128;

/// Longest first pass that fills the cache of a reader that takes several tokens into an empty
/// cache only; the others go in one by one.
const FILL_AT_ONCE: u32 = 1024;

/// Rows of a warm-up pass: enough for the kernels that repack for many rows, and no more.
const WARMUP_ROWS: std::ops::RangeInclusive<u32> = 8..=32;

/// Most warm-up passes of each kind.
const WARMUP_PASSES: usize = 3;

/// Timed passes over a prompt that together took this long are enough: their median is known
/// better than fresh loads agree.
const ENOUGH_PREFILL_NS: u64 = 1_500_000_000;

/// Two passes that differ by no more than this are steady.
const STEADY: f64 = 0.10;

/// Prompts that take longer than this warm up within their first pass.
const LONG_PREFILL_NS: u64 = 250_000_000;

/// Untimed steps before the first timed one, where the generated span has room for them.
const SETTLING_STEPS: u32 = 3;

/// What came out of a workload.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// Untimed passes of this workload.
    pub(crate) warmup: Vec<WarmupPass>,
    pub(crate) prefill: Vec<PassSample>,
    pub(crate) decode: Vec<PassSample>,
    pub(crate) kernels: Vec<KernelSample>,
    /// Memory that a saved cache kept alive while passes ran: the tool's, not the model's.
    pub(crate) snapshot_bytes: u64,
    /// Energy of the timed passes.
    pub(crate) prefill_energy: EnergySum,
    pub(crate) decode_energy: EnergySum,
}

/// Runs passes until they are steady; `None` where the stop came first.
///
/// The first pass repacks the weights. A few rows do that as well as a long prompt, which gets
/// an untimed pass of its own later.
pub(crate) fn warm_up(
    model: &mut dyn LoadedModel,
    vocabulary: u32,
    longest_prompt: u32,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Vec<WarmupPass>>, RunError> {
    let rows = longest_prompt.clamp(*WARMUP_ROWS.start(), *WARMUP_ROWS.end());
    let mut done = Vec::new();
    let mut kv_len = 0;
    for n_tokens in [rows, 1] {
        let mut last: Option<u64> = None;
        for _ in 0..WARMUP_PASSES {
            if stop() {
                return Ok(None);
            }
            if n_tokens == rows {
                model.reset();
                kv_len = 0;
            }
            let sample = model.forward(&tokens(kv_len, n_tokens, vocabulary), kv_len, false)?;
            kv_len += n_tokens;
            done.push(WarmupPass { n_tokens, ns: sample.total_ns() });
            if last.is_some_and(|before| is_steady(before, sample.total_ns())) {
                break;
            }
            last = Some(sample.total_ns());
        }
    }
    model.reset();
    Ok(Some(done))
}

fn is_steady(a: u64, b: u64) -> bool {
    a.abs_diff(b) as f64 <= STEADY * a.max(b) as f64
}

/// A workload about to run.
pub(crate) struct WorkloadRun<'a> {
    pub(crate) plan: &'a WorkloadPlan,
    pub(crate) vocabulary: u32,
    pub(crate) stop: &'a dyn Fn() -> bool,
    /// Reads the meter, where there is one; never within a pass.
    pub(crate) energy: &'a dyn Fn() -> Option<Mark>,
}

impl WorkloadRun<'_> {
    /// Puts the workload's depth into an empty cache; `false` where the stop came first.
    pub(crate) fn fill_depth(&self, model: &mut dyn LoadedModel) -> Result<bool, RunError> {
        model.forget_snapshot();
        model.reset();
        self.fill(model, 0, self.plan.workload.depth)
    }

    /// Runs the passes on the filled cache; `None` where the stop came before their end.
    pub(crate) fn measure(&self, model: &mut dyn LoadedModel) -> Result<Option<Samples>, RunError> {
        let mut samples = Samples::default();
        if self.plan.workload.prompt_tokens > 0 && !self.run_prefill(model, &mut samples)? {
            return Ok(None);
        }
        // The decode steps go on from the last prefill; a saved cache would only take memory.
        model.forget_snapshot();
        if self.plan.decode_steps > 0 && !self.run_decode(model, &mut samples)? {
            return Ok(None);
        }
        model.reset();
        Ok(Some(samples))
    }

    /// Prefills the prompt at the workload's depth, untimed until steady; ends with it in the cache.
    ///
    /// Untimed passes go on until two agree: the first makes the allocator grow to this prompt,
    /// and would be up to a fifth slower than the second in a small model.
    fn run_prefill(
        &self,
        model: &mut dyn LoadedModel,
        samples: &mut Samples,
    ) -> Result<bool, RunError> {
        let (depth, n_tokens) = (self.plan.workload.depth, self.plan.workload.prompt_tokens);
        if self.plan.prefill_repeats == 0 {
            return self.fill(model, depth, n_tokens);
        }
        if depth > 0 {
            model.snapshot();
            samples.snapshot_bytes = model.snapshot_bytes();
        }
        if (self.stop)() {
            return Ok(false);
        }
        let prompt = tokens(depth, n_tokens, self.vocabulary);
        let mut last: Option<u64> = None;
        for _ in 0..WARMUP_PASSES {
            if last.is_some() {
                if (self.stop)() {
                    return Ok(false);
                }
                model.restore()?;
            }
            let ns = model.forward(&prompt, depth, false)?.total_ns();
            samples.warmup.push(WarmupPass { n_tokens, ns });
            if ns > LONG_PREFILL_NS || last.is_some_and(|before| is_steady(before, ns)) {
                break;
            }
            last = Some(ns);
        }
        for repeat in 0..self.plan.prefill_repeats {
            if (self.stop)() {
                return Ok(false);
            }
            model.restore()?;
            let before = (self.energy)();
            let sample = model.forward(&prompt, depth, is_probed(repeat))?;
            samples.prefill_energy.add(before, (self.energy)(), 1);
            samples.add(Phase::Prefill, sample, &model.last_kernels());
            if samples.prefill.iter().map(|s| s.forward_ns).sum::<u64>() > ENOUGH_PREFILL_NS {
                break;
            }
        }
        Ok(true)
    }

    /// Times decode steps around the midpoint of the generated span.
    ///
    /// The tokens before them are put into the cache by untimed passes: chunks, and then a few
    /// steps, so that the timed ones follow others.
    fn run_decode(
        &self,
        model: &mut dyn LoadedModel,
        samples: &mut Samples,
    ) -> Result<bool, RunError> {
        let cached = self.plan.workload.depth + self.plan.workload.prompt_tokens;
        let first = first_step(self.plan);
        if first > cached {
            let settle = first.saturating_sub(SETTLING_STEPS).max(cached);
            if !self.fill(model, cached, settle - cached)? {
                return Ok(false);
            }
            for at in settle..first {
                if (self.stop)() {
                    return Ok(false);
                }
                model.forward(&tokens(at, 1, self.vocabulary), at, false)?;
            }
        }
        let mut token = model.last_token();
        let before = (self.energy)();
        for step in 0..self.plan.decode_steps {
            if (self.stop)() {
                return Ok(false);
            }
            let sample = model.forward(&[token], first + step, is_probed(step))?;
            token = model.last_token();
            samples.add(Phase::Decode, sample, &model.last_kernels());
        }
        // The steps are too short for most meters: they are taken together.
        samples.decode_energy.add(before, (self.energy)(), self.plan.decode_steps);
        Ok(true)
    }

    /// Puts `n_tokens` into the cache after `kv_len` by untimed passes; `false` on a stop.
    fn fill(
        &self,
        model: &mut dyn LoadedModel,
        kv_len: u32,
        n_tokens: u32,
    ) -> Result<bool, RunError> {
        let end = kv_len + n_tokens;
        let mut at = kv_len;
        while at < end {
            if (self.stop)() {
                return Ok(false);
            }
            let most = match (model.prefills_at_depth(), at) {
                (true, _) => FILL_CHUNK,
                (false, 0) => FILL_AT_ONCE,
                (false, _) => 1,
            };
            let chunk = most.min(end - at);
            model.forward(&tokens(at, chunk, self.vocabulary), at, false)?;
            at += chunk;
        }
        Ok(true)
    }
}

/// `kv_len` of the first timed step. A step needs at least one token in the cache.
fn first_step(plan: &WorkloadPlan) -> u32 {
    let midpoint =
        plan.workload.depth + plan.workload.prompt_tokens + plan.workload.generated_tokens / 2;
    (midpoint - plan.decode_steps / 2).max(1)
}

/// Every other pass is probed, beginning with the first.
fn is_probed(index: u32) -> bool {
    index.is_multiple_of(2)
}

/// Pseudo-random token ids, the same for the same position: times do not depend on them, but
/// one repeated id would read one row of the embedding over and over.
pub(crate) fn tokens(kv_len: u32, n_tokens: u32, vocabulary: u32) -> Vec<u32> {
    let mut random = SplitMix64::new(u64::from(kv_len));
    let bound = vocabulary.max(1) as usize;
    (0..n_tokens).map(|_| u32::try_from(random.below(bound)).unwrap_or(0)).collect()
}

impl Samples {
    /// Keeps a pass, and the kernels of a probed one: every row has one number per probed pass.
    fn add(&mut self, phase: Phase, sample: PassSample, kernels: &[KernelPass]) {
        let passes = match phase {
            Phase::Prefill => &mut self.prefill,
            Phase::Decode => &mut self.decode,
        };
        let n_before = passes.iter().filter(|p| p.probed).count();
        passes.push(sample);
        if !sample.probed {
            return;
        }
        for kernel in kernels {
            self.kernel_row(phase, kernel, n_before).ns.push(kernel.ns);
        }
        for row in self.kernels.iter_mut().filter(|row| row.phase == phase) {
            row.ns.resize(n_before + 1, 0);
        }
    }

    /// The row of a kernel; a new one has had no time in the passes before.
    fn kernel_row(
        &mut self,
        phase: Phase,
        kernel: &KernelPass,
        n_before: usize,
    ) -> &mut KernelSample {
        let KernelPass { op, role, tensor_type, calls, .. } = *kernel;
        let found = self.kernels.iter().position(|row| {
            (row.phase, row.op, row.role, row.tensor_type) == (phase, op, role, tensor_type)
        });
        let index = found.unwrap_or_else(|| {
            let ns = vec![0; n_before];
            self.kernels.push(KernelSample { phase, op, role, tensor_type, calls, ns });
            self.kernels.len() - 1
        });
        &mut self.kernels[index]
    }
}
