//! From the slices of probed passes to kernel rows of the whole run.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_cost::{EngineProfile, roofline};
use foretoken_spec::{
    KernelOp, KernelRow, KernelSource, Pass, Phase, ProfilePhase, Slice, TensorRole, TimedPass,
    Timeline,
};

use crate::costs::{Work, matrix_of, work};
use crate::division::{self, Share};
use crate::ms;

/// What a row stands for within a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) op: KernelOp,
    pub(crate) role: Option<TensorRole>,
    pub(crate) layer: Option<u32>,
}

/// Times of a probed pass by kernel, in ns, the copy of the logits included.
#[derive(Debug, Clone)]
pub(crate) struct PassTimes {
    /// Index of the pass.
    pub(crate) index: usize,
    pub(crate) phase: Phase,
    pub(crate) times: BTreeMap<Key, f64>,
    calls: BTreeMap<Key, u32>,
    /// Kernels of which some or all of the time is a share of a block's.
    divided: BTreeSet<Key>,
}

/// The probed passes of the run, blocks divided where microbenchmarks say how.
pub(crate) fn pass_times(timeline: &Timeline) -> Vec<PassTimes> {
    timeline
        .passes
        .iter()
        .enumerate()
        .filter(|(_, pass)| !pass.slices.is_empty())
        .map(|(index, pass)| times_of(timeline, index, pass))
        .collect()
}

fn times_of(timeline: &Timeline, index: usize, pass: &TimedPass) -> PassTimes {
    let sample = &pass.sample;
    let shape = Pass { n_tokens: sample.n_tokens, kv_len: sample.kv_len };
    let mut times = BTreeMap::new();
    let mut calls = BTreeMap::new();
    let mut divided = BTreeSet::new();
    let mut add = |key, ns| {
        *times.entry(key).or_insert(0.0) += ns;
        *calls.entry(key).or_insert(0) += 1;
    };
    for slice in &pass.slices {
        let Slice { op, role, layer, ns, .. } = *slice;
        let Some(shares) = division::shares(&timeline.splits, slice, shape) else {
            add(Key { op, role, layer }, ns as f64);
            continue;
        };
        // A part that took no time did not run: without a cache there is nothing to join.
        for Share { op, role, share } in shares.into_iter().filter(|part| part.share > 0.0) {
            let key = Key { op, role, layer };
            add(key, share * ns as f64);
            divided.insert(key);
        }
    }
    PassTimes { index, phase: pass.phase, times, calls, divided }
}

/// The times of every pass by kernel: measured where it was probed, else the pass's own time
/// divided as in the probed passes before and after it.
fn all_times(
    timeline: &Timeline,
    probed: &[PassTimes],
) -> Vec<(BTreeMap<Key, f64>, BTreeMap<Key, u32>)> {
    (0..timeline.passes.len())
        .map(|index| {
            let pass = &timeline.passes[index];
            match probed.binary_search_by_key(&index, |times| times.index) {
                Ok(at) => (probed[at].times.clone(), probed[at].calls.clone()),
                Err(at) => {
                    let is_same = |times: &&PassTimes| times.phase == pass.phase;
                    let before = at.checked_sub(1).and_then(|at| probed.get(at)).filter(is_same);
                    let after = probed.get(at).filter(is_same);
                    divided(pass, before, after)
                }
            }
        })
        .collect()
}

/// Divides an unprobed pass. The copy of the logits is timed in every pass.
fn divided(
    pass: &TimedPass,
    before: Option<&PassTimes>,
    after: Option<&PassTimes>,
) -> (BTreeMap<Key, f64>, BTreeMap<Key, u32>) {
    let copy = Key { op: KernelOp::LogitsCopy, role: None, layer: None };
    let whole = Key { op: KernelOp::Uncovered, role: None, layer: None };
    let copy_ns = pass.sample.logits_copy_ns as f64;
    let rest = pass.sample.forward_ns as f64 - copy_ns;
    let mut shares: BTreeMap<Key, f64> = BTreeMap::new();
    for neighbour in [before, after].into_iter().flatten() {
        for (key, ns) in neighbour.times.iter().filter(|(key, _)| **key != copy) {
            *shares.entry(*key).or_insert(0.0) += ns;
        }
    }
    let sum: f64 = shares.values().sum();
    let calls = before.or(after).map(|times| times.calls.clone());
    if sum > 0.0 {
        shares.values_mut().for_each(|share| *share *= rest / sum);
    } else {
        shares = BTreeMap::from([(whole, rest)]);
    }
    shares.insert(copy, copy_ns);
    let calls = calls.unwrap_or_else(|| shares.keys().map(|key| (*key, 1)).collect());
    (shares, calls)
}

/// A row of the whole run as it grows.
#[derive(Debug, Clone, Default)]
struct Total {
    ns: f64,
    calls: u32,
    work: Option<Work>,
    samples_ms: Vec<f64>,
}

/// Rows of the forward passes, by phase in the order of the run, then by kernel.
pub(crate) fn kernel_rows(timeline: &Timeline, probed: &[PassTimes]) -> Vec<KernelRow> {
    let engine = EngineProfile::candle(&timeline.device);
    let mut totals: BTreeMap<(ProfilePhase, Key), Total> = BTreeMap::new();
    for (pass, (times, calls)) in timeline.passes.iter().zip(all_times(timeline, probed)) {
        let phase = profile_phase(pass.phase);
        let shape = Pass { n_tokens: pass.sample.n_tokens, kv_len: pass.sample.kv_len };
        for (key, ns) in times {
            let total = totals.entry((phase, key)).or_default();
            total.ns += ns;
            total.calls += calls.get(&key).copied().unwrap_or(1);
            let of = work(&timeline.model, &engine, (key.op, key.role, key.layer), shape);
            total.work = sum(total.work, of);
            if pass.sample.probed {
                total.samples_ms.push(ns / 1e6);
            }
        }
    }
    let is_divided = |phase, key| {
        probed.iter().any(|p| profile_phase(p.phase) == phase && p.divided.contains(&key))
    };
    let source = |phase, key| match is_divided(phase, key) {
        true => KernelSource::Microbenchmark,
        false => KernelSource::InPlace,
    };
    totals
        .into_iter()
        .map(|((phase, key), total)| row(timeline, (phase, key), total, source(phase, key)))
        .collect()
}

fn sum(a: Option<Work>, b: Option<Work>) -> Option<Work> {
    match (a, b) {
        (Some(a), Some(b)) => Some(Work { flop: a.flop + b.flop, bytes: a.bytes + b.bytes }),
        (a, b) => a.or(b),
    }
}

fn row(
    timeline: &Timeline,
    (phase, key): (ProfilePhase, Key),
    total: Total,
    source: KernelSource,
) -> KernelRow {
    let Key { op, role, layer } = key;
    let matrix = matrix_of(&timeline.model, op, role, layer);
    let seconds = total.ns / 1e9;
    let rate = |amount: u64| (amount > 0 && seconds > 0.0).then(|| amount as f64 / seconds);
    let work = total.work.filter(|work| work.flop + work.bytes > 0);
    let bounded = work.map(|work| roofline(work.flop, work.bytes, &timeline.ceilings));
    KernelRow {
        phase,
        op,
        role,
        layer,
        tensor_type: matrix.map(|t| t.tensor_type),
        shape: matrix.and_then(|t| <[u64; 2]>::try_from(t.shape.clone()).ok()),
        calls: total.calls,
        ms: total.ns / 1e6,
        share: total.ns / timeline.end_ns.max(1) as f64,
        flop: work.map(|work| work.flop),
        bytes: work.map(|work| work.bytes),
        flop_per_second: work.and_then(|work| rate(work.flop)),
        bytes_per_second: work.and_then(|work| rate(work.bytes)),
        roofline_share: bounded.filter(|_| seconds > 0.0).map(|b| b.seconds / seconds),
        bound: bounded.map(|b| b.bound),
        source,
        samples_ms: total.samples_ms,
    }
}

/// Rows of what lies before, between and after the forward passes.
pub(crate) fn rows_around(timeline: &Timeline) -> Vec<KernelRow> {
    let engine = EngineProfile::candle(&timeline.device);
    let mut rows = Vec::new();
    let mut push = |phase, op, samples: Vec<u64>| {
        if samples.is_empty() {
            return;
        }
        let one = work(&timeline.model, &engine, (op, None, None), Pass { n_tokens: 1, kv_len: 0 });
        let times = samples.len() as u64;
        let total = Total {
            ns: samples.iter().sum::<u64>() as f64,
            calls: u32::try_from(times).unwrap_or(u32::MAX),
            work: one.map(|w| Work { flop: w.flop * times, bytes: w.bytes * times }),
            samples_ms: samples.iter().map(|ns| ms(*ns)).collect(),
        };
        let key = Key { op, role: None, layer: None };
        rows.push(row(timeline, (phase, key), total, KernelSource::InPlace));
    };
    for (phase, op) in [
        (ProfilePhase::Load, KernelOp::Load),
        (ProfilePhase::Warmup, KernelOp::Warmup),
        (ProfilePhase::Tokenize, KernelOp::Tokenize),
    ] {
        // Tokenizer and model are opened apart; that is one load.
        let of = timeline.stretches.iter().filter(|stretch| stretch.op == op);
        push(phase, op, of.map(|stretch| stretch.ns).reduce(|a, b| a + b).into_iter().collect());
    }
    let passes = &timeline.passes;
    let times = |of: fn(&TimedPass) -> u64| -> Vec<u64> {
        let times: Vec<u64> = passes.iter().map(of).collect();
        if times.iter().all(|ns| *ns == 0) { Vec::new() } else { times }
    };
    push(ProfilePhase::Softmax, KernelOp::Softmax, times(|p| p.sample.softmax_ns));
    push(ProfilePhase::Sampling, KernelOp::Sampling, times(|p| p.sample.sampling_ns));
    push(ProfilePhase::Detokenize, KernelOp::Detokenize, times(|p| p.detokenize_ns));
    rows
}

pub(crate) fn profile_phase(phase: Phase) -> ProfilePhase {
    match phase {
        Phase::Prefill => ProfilePhase::Prefill,
        Phase::Decode => ProfilePhase::Decode,
    }
}
