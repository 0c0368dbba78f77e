//! The passes of a workload on a loaded model.

use foretoken_spec::{KernelSample, PassSample, Phase, WarmupPass};
use foretoken_stats::SplitMix64;

use crate::{KernelPass, LoadPlan, LoadedModel, RunError, WorkloadPlan};

/// Longest untimed pass when the cache is filled, tokens.
const FILL_CHUNK: u32 = 512;

/// Rows of a warm-up pass: enough for the kernels that repack for many rows, and no more.
const WARMUP_ROWS: std::ops::RangeInclusive<u32> = 8..=64;

/// Most warm-up passes of each kind.
const WARMUP_PASSES: usize = 3;

/// Two passes that differ by no more than this are steady.
const STEADY: f64 = 0.10;

/// What came out of a workload.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) prefill: Vec<PassSample>,
    pub(crate) decode: Vec<PassSample>,
    pub(crate) kernels: Vec<KernelSample>,
    /// Memory that a saved cache kept alive while passes ran: the tool's, not the model's.
    pub(crate) snapshot_bytes: u64,
}

/// Runs passes until they are steady; `None` where the stop came first.
///
/// The first pass repacks the weights. Prompts longer than the warm-up are warmed up by fewer
/// rows: the kernels are the same and the time goes into samples.
pub(crate) fn warm_up(
    model: &mut dyn LoadedModel,
    plan: &LoadPlan,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Vec<WarmupPass>>, RunError> {
    let vocabulary = plan.model.shape.vocab_size;
    let prompts = plan.workloads.iter().map(|w| w.workload.prompt_tokens);
    let rows = prompts
        .filter(|n| *n > 0)
        .max()
        .unwrap_or(0)
        .clamp(*WARMUP_ROWS.start(), *WARMUP_ROWS.end());
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

/// Runs the passes of a workload; `None` where the stop came before its end.
pub(crate) fn run_workload(
    model: &mut dyn LoadedModel,
    plan: &WorkloadPlan,
    vocabulary: u32,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Samples>, RunError> {
    let mut samples = Samples::default();
    let workload = &plan.workload;
    model.forget_snapshot();
    model.reset();
    if !fill(model, 0, workload.depth, vocabulary, stop)? {
        return Ok(None);
    }
    if workload.prompt_tokens > 0 && !run_prefill(model, plan, vocabulary, stop, &mut samples)? {
        return Ok(None);
    }
    // The decode steps go on from the last prefill; a saved cache would only take memory.
    model.forget_snapshot();
    if plan.decode_steps > 0 && !run_decode(model, plan, vocabulary, stop, &mut samples)? {
        return Ok(None);
    }
    model.reset();
    Ok(Some(samples))
}

/// Prefills the prompt at the workload's depth; ends with the prompt in the cache.
fn run_prefill(
    model: &mut dyn LoadedModel,
    plan: &WorkloadPlan,
    vocabulary: u32,
    stop: &dyn Fn() -> bool,
    samples: &mut Samples,
) -> Result<bool, RunError> {
    let (depth, n_tokens) = (plan.workload.depth, plan.workload.prompt_tokens);
    if plan.prefill_repeats == 0 {
        return fill(model, depth, n_tokens, vocabulary, stop);
    }
    if plan.prefill_repeats > 1 && depth > 0 {
        model.snapshot();
        samples.snapshot_bytes = model.snapshot_bytes();
    }
    let prompt = tokens(depth, n_tokens, vocabulary);
    for repeat in 0..plan.prefill_repeats {
        if stop() {
            return Ok(false);
        }
        if repeat > 0 {
            model.restore();
        }
        let sample = model.forward(&prompt, depth, is_probed(repeat))?;
        add_pass(samples, Phase::Prefill, sample, &model.last_kernels());
    }
    Ok(true)
}

/// Times decode steps around the midpoint of the generated span.
///
/// The tokens before them are put into the cache by untimed passes: a chunk, and then one step,
/// so that the first timed step follows another step.
fn run_decode(
    model: &mut dyn LoadedModel,
    plan: &WorkloadPlan,
    vocabulary: u32,
    stop: &dyn Fn() -> bool,
    samples: &mut Samples,
) -> Result<bool, RunError> {
    let cached = plan.workload.depth + plan.workload.prompt_tokens;
    let first = first_step(plan);
    let gap = first - cached;
    if gap > 0 {
        if !fill(model, cached, gap - 1, vocabulary, stop)? {
            return Ok(false);
        }
        model.forward(&tokens(first - 1, 1, vocabulary), first - 1, false)?;
    }
    let mut token = if cached + gap > 0 { model.last_token() } else { 0 };
    for step in 0..plan.decode_steps {
        if stop() {
            return Ok(false);
        }
        let sample = model.forward(&[token], first + step, is_probed(step))?;
        token = model.last_token();
        add_pass(samples, Phase::Decode, sample, &model.last_kernels());
    }
    Ok(true)
}

/// `kv_len` of the first timed step. A step needs at least one token in the cache.
fn first_step(plan: &WorkloadPlan) -> u32 {
    let midpoint =
        plan.workload.depth + plan.workload.prompt_tokens + plan.workload.generated_tokens / 2;
    (midpoint - plan.decode_steps / 2).max(1)
}

/// Every other pass is probed, beginning with the first.
fn is_probed(index: u32) -> bool {
    index % 2 == 0
}

/// Puts `n_tokens` into the cache after `kv_len` by untimed passes; `false` on a stop.
fn fill(
    model: &mut dyn LoadedModel,
    kv_len: u32,
    n_tokens: u32,
    vocabulary: u32,
    stop: &dyn Fn() -> bool,
) -> Result<bool, RunError> {
    let end = kv_len + n_tokens;
    let mut at = kv_len;
    while at < end {
        if stop() {
            return Ok(false);
        }
        let chunk = FILL_CHUNK.min(end - at);
        model.forward(&tokens(at, chunk, vocabulary), at, false)?;
        at += chunk;
    }
    Ok(true)
}

/// Pseudo-random token ids, the same for the same position: times do not depend on them, but
/// one repeated id would read one row of the embedding over and over.
fn tokens(kv_len: u32, n_tokens: u32, vocabulary: u32) -> Vec<u32> {
    let mut random = SplitMix64::new(u64::from(kv_len));
    let bound = vocabulary.max(1) as usize;
    (0..n_tokens).map(|_| u32::try_from(random.below(bound)).unwrap_or(0)).collect()
}

fn add_pass(samples: &mut Samples, phase: Phase, sample: PassSample, kernels: &[KernelPass]) {
    let passes = match phase {
        Phase::Prefill => &mut samples.prefill,
        Phase::Decode => &mut samples.decode,
    };
    if sample.probed {
        let n_before = passes.iter().filter(|p| p.probed).count();
        add_kernels(&mut samples.kernels, phase, n_before, kernels);
    }
    passes.push(sample);
}

/// Appends one pass to the totals, so that every row has one number per probed pass.
fn add_kernels(
    rows: &mut Vec<KernelSample>,
    phase: Phase,
    n_before: usize,
    kernels: &[KernelPass],
) {
    for kernel in kernels {
        let KernelPass { op, role, tensor_type, calls, ns } = *kernel;
        let found = rows.iter_mut().find(|row| {
            (row.phase, row.op, row.role, row.tensor_type) == (phase, op, role, tensor_type)
        });
        match found {
            Some(row) => row.ns.push(ns),
            None => {
                let mut times = vec![0; n_before];
                times.push(ns);
                rows.push(KernelSample { phase, op, role, tensor_type, calls, ns: times });
            }
        }
    }
    for row in rows.iter_mut().filter(|row| row.phase == phase) {
        row.ns.resize(n_before + 1, 0);
    }
}
