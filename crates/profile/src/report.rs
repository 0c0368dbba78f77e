//! The profile of a run: sums over its timeline that add up to the wall time.

use std::collections::BTreeMap;

use foretoken_spec::{
    KernelOp, KernelRow, Phase, PhaseRow, ProfilePhase, ProfileReport, SCHEMA_VERSION, TimedPass,
    Timeline,
};
use foretoken_stats::median;

use crate::ms;
use crate::overhead::overhead;
use crate::rows::{PassTimes, kernel_rows, pass_times, rows_around};
use crate::tokens::{inter_token, slowest, token_rows};

/// Sums a timeline up; `budget` is the share of the time that the probes were allowed to cost.
pub fn profile_of(timeline: &Timeline, budget: f64) -> ProfileReport {
    let passes = &timeline.passes;
    let probed = pass_times(timeline);
    let mut kernels = rows_around(timeline);
    kernels.extend(kernel_rows(timeline, &probed));
    let phases = phase_rows(timeline, &probed, &kernels);
    let accounted = timeline.stretches.iter().map(|stretch| stretch.ns).sum::<u64>()
        + passes.iter().map(TimedPass::total_ns).sum::<u64>();

    let prompt = passes.iter().find(|pass| pass.phase == Phase::Prefill);
    let ttft_ms = prompt.map(|pass| ms(pass.sample.total_ns()));
    let steps: Vec<&TimedPass> = passes.iter().filter(|p| p.phase == Phase::Decode).collect();
    let mean = |of: fn(&TimedPass) -> u64| {
        let sum: u64 = steps.iter().map(|pass| of(pass)).sum();
        (!steps.is_empty()).then(|| ms(sum) / steps.len() as f64)
    };
    let tpot_ms = mean(|pass| pass.sample.total_ns());
    let decode_ms = mean(|pass| pass.sample.forward_ns);
    ProfileReport {
        schema_version: SCHEMA_VERSION,
        tool: timeline.tool.clone(),
        time: timeline.time.clone(),
        model: timeline.model.name.clone(),
        quant: timeline.model.quant.clone(),
        device: timeline.device.id.clone(),
        engine: format!("{} {}", timeline.engine.name, timeline.engine.version),
        threads: timeline.threads,
        allocator: timeline.allocator,
        span_clock: timeline.span_clock,
        sampling: timeline.sampling,
        prompt_tokens: prompt.map_or(0, |pass| pass.sample.n_tokens),
        generated_tokens: u32::try_from(passes.len()).unwrap_or(u32::MAX),
        prompt_text: timeline.prompt_text.clone(),
        generated_text: timeline.generated_text.clone(),
        wall_ms: ms(timeline.end_ns),
        unaccounted_ms: ms(timeline.end_ns.saturating_sub(accounted)),
        ttft_ms,
        tpot_ms,
        e2e_ms: ttft_ms.map(|ttft| ttft + steps.len() as f64 * tpot_ms.unwrap_or(0.0)),
        prefill_tokens_per_second: prompt
            .map(|pass| f64::from(pass.sample.n_tokens) * 1e3 / ms(pass.sample.forward_ns)),
        decode_tokens_per_second: decode_ms.map(|ms| 1e3 / ms),
        phases,
        prompt_repeats_ms: timeline.prompt_repeats_ns.iter().map(|ns| ms(*ns)).collect(),
        kernels,
        overhead: overhead(timeline, budget),
        tokens: token_rows(passes),
        inter_token_ms: inter_token(passes),
        slowest_tokens: slowest(passes, &probed),
        ceilings: timeline.ceilings,
        comparison: None,
        interrupted: timeline.interrupted,
        warnings: warnings(timeline),
    }
}

/// Parts of the forward pass, in its order.
const PARTS: [ProfilePhase; 5] = [
    ProfilePhase::Input,
    ProfilePhase::Embedding,
    ProfilePhase::Layers,
    ProfilePhase::LmHead,
    ProfilePhase::LogitsCopy,
];

fn part_of(op: KernelOp) -> ProfilePhase {
    match op {
        KernelOp::Input => ProfilePhase::Input,
        KernelOp::Embedding => ProfilePhase::Embedding,
        KernelOp::LmHead => ProfilePhase::LmHead,
        KernelOp::LogitsCopy => ProfilePhase::LogitsCopy,
        _ => ProfilePhase::Layers,
    }
}

/// Rows of parts as the kernels sum up, and of the two forward passes.
fn phase_rows(timeline: &Timeline, probed: &[PassTimes], kernels: &[KernelRow]) -> Vec<PhaseRow> {
    let mut rows: Vec<PhaseRow> = kernels
        .iter()
        .filter(|row| !row.phase.is_sum())
        .map(|row| PhaseRow {
            phase: row.phase,
            calls: row.calls,
            ms: row.ms,
            share: row.share,
            prefill_ms: None,
            decode_ms: None,
            samples_ms: row.samples_ms.clone(),
        })
        .collect();
    rows.extend(forward_rows(timeline, probed, kernels));
    rows.sort_by_key(|row| row.phase);
    rows
}

fn forward_rows(timeline: &Timeline, probed: &[PassTimes], kernels: &[KernelRow]) -> Vec<PhaseRow> {
    let passes = &timeline.passes;
    if passes.is_empty() {
        return Vec::new();
    }
    let share = |value: f64| value / ms(timeline.end_ns.max(1));
    let of_phase = |phase: Phase| passes.iter().filter(move |pass| pass.phase == phase);
    let calls = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut rows = Vec::new();
    let samples = part_samples(probed);
    for part in PARTS {
        let sum = |phase| -> f64 {
            kernels.iter().filter(|k| k.phase == phase && part_of(k.op) == part).map(|k| k.ms).sum()
        };
        let (prefill, decode) = (sum(ProfilePhase::Prefill), sum(ProfilePhase::Decode));
        rows.push(PhaseRow {
            phase: part,
            calls: calls(passes.len()),
            ms: prefill + decode,
            share: share(prefill + decode),
            prefill_ms: Some(prefill),
            decode_ms: Some(decode),
            samples_ms: samples.get(&part).cloned().unwrap_or_default(),
        });
    }
    for (phase, name) in
        [(Phase::Prefill, ProfilePhase::Prefill), (Phase::Decode, ProfilePhase::Decode)]
    {
        let samples_ms: Vec<f64> = of_phase(phase).map(|p| ms(p.sample.forward_ns)).collect();
        if samples_ms.is_empty() {
            continue;
        }
        let total: f64 = samples_ms.iter().sum();
        rows.push(PhaseRow {
            phase: name,
            calls: calls(samples_ms.len()),
            ms: total,
            share: share(total),
            prefill_ms: None,
            decode_ms: None,
            samples_ms,
        });
    }
    rows
}

/// Times of the parts in each probed decode step. The prompt's pass is one sample of another thing.
fn part_samples(probed: &[PassTimes]) -> BTreeMap<ProfilePhase, Vec<f64>> {
    let mut samples: BTreeMap<ProfilePhase, Vec<f64>> = BTreeMap::new();
    for times in probed.iter().filter(|times| times.phase == Phase::Decode) {
        let mut sums: BTreeMap<ProfilePhase, f64> = BTreeMap::new();
        for (key, ns) in &times.times {
            *sums.entry(part_of(key.op)).or_insert(0.0) += ns / 1e6;
        }
        for (part, sum) in sums {
            samples.entry(part).or_default().push(sum);
        }
    }
    samples
}

fn warnings(timeline: &Timeline) -> Vec<String> {
    let mut warnings = timeline.warnings.clone();
    if timeline.sampled_every > 2 {
        warnings.push(format!(
            "the probes recorded one decode step in {} to stay within --overhead-budget",
            timeline.sampled_every
        ));
    }
    let steps: Vec<f64> = timeline
        .passes
        .iter()
        .filter(|pass| pass.phase == Phase::Decode)
        .map(|pass| pass.sample.forward_ns as f64)
        .collect();
    let (half, end) = (steps.len() / 2, steps.len());
    if let (Some(first), Some(second)) = (median(&steps[..half]), median(&steps[half..end])) {
        let ratio = second / first;
        let preempted = timeline.passes.iter().filter(|pass| pass.sample.preempted).count();
        // Where other programs ran, another warning says so already.
        if steps.len() >= 16 && 4 * preempted <= timeline.passes.len() && ratio > 1.3 {
            warnings.push(format!(
                "steps of the second half took {ratio:.1} times as long as those of the first: \
                 the cache grows, or the machine changed"
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::timeline;

    fn leaf_sum(report: &ProfileReport) -> f64 {
        report.phases.iter().filter(|row| !row.phase.is_sum()).map(|row| row.ms).sum()
    }

    #[test]
    fn phases_and_kernels_add_up_to_the_wall_time() {
        let report = profile_of(&timeline(), 0.005);
        let kernels: f64 = report.kernels.iter().map(|row| row.ms).sum();
        for sum in [leaf_sum(&report), kernels] {
            assert!((sum + report.unaccounted_ms - report.wall_ms).abs() < 1e-9, "{sum}");
        }
        assert!(report.unaccounted_ms > 0.0);
    }

    #[test]
    fn prefill_and_decode_are_the_sums_of_their_parts() {
        let report = profile_of(&timeline(), 0.005);
        let of = |phase| report.phases.iter().find(|row| row.phase == phase).unwrap();
        let parts = |pick: fn(&PhaseRow) -> Option<f64>| -> f64 {
            PARTS.iter().map(|part| pick(of(*part)).unwrap()).sum()
        };
        assert!((parts(|row| row.prefill_ms) - of(ProfilePhase::Prefill).ms).abs() < 1e-9);
        assert!((parts(|row| row.decode_ms) - of(ProfilePhase::Decode).ms).abs() < 1e-9);
    }

    #[test]
    fn unprobed_steps_count_with_the_shares_of_their_neighbours() {
        let report = profile_of(&timeline(), 0.005);
        let gate = report
            .kernels
            .iter()
            .find(|k| k.phase == ProfilePhase::Decode && k.op == KernelOp::Matmul)
            .unwrap();
        // Probed steps of 1000 µs spend 600 in the matrix and 100 in the copy of the logits. The
        // unprobed one of 1900 µs with a copy of 100 spends 600 / 900 of the rest: 1200.
        assert_eq!(gate.samples_ms, [0.6, 0.6]);
        assert!((gate.ms - (0.6 + 1.2 + 0.6)).abs() < 1e-9, "{}", gate.ms);
        assert_eq!(gate.calls, 3);
        assert_eq!(gate.flop, Some(3 * 2 * 256 * 512));
    }

    #[test]
    fn attention_is_divided_and_says_so() {
        use foretoken_spec::KernelSource;
        let report = profile_of(&timeline(), 0.005);
        let prefill = |op| {
            report.kernels.iter().find(|k| k.phase == ProfilePhase::Prefill && k.op == op).unwrap()
        };
        // 400 µs divide as 0 : 2 : 1 : 1.
        assert!((prefill(KernelOp::AttentionScores).ms - 0.2).abs() < 1e-9);
        assert!((prefill(KernelOp::AttentionValues).ms - 0.1).abs() < 1e-9);
        assert_eq!(prefill(KernelOp::AttentionScores).source, KernelSource::Microbenchmark);
        assert_eq!(prefill(KernelOp::Matmul).source, KernelSource::InPlace);
        assert!(!report.kernels.iter().any(|k| k.op == KernelOp::KvConcat));
    }

    #[test]
    fn a_feed_forward_block_is_divided_into_matrices_and_its_residual_sum_joins_the_other() {
        use foretoken_spec::{BlockPart, BlockSplit, KernelSource, Slice, TensorRole as R};
        let mut run = timeline();
        run.passes.truncate(1);
        let at = |op, start_ns, ns| Slice { op, role: None, layer: Some(0), start_ns, ns };
        // 2 ms: 0.2 of a residual sum, 1.8 of the block.
        run.passes[0].slices = vec![
            at(KernelOp::Residual, 0, 200_000),
            at(KernelOp::FeedForwardBlock, 200_000, 1_800_000),
        ];
        let part = |op, role, ns| BlockPart { op, role, ns };
        // Alone it takes half as long: 3 : 2 : 1 : 2 : 1 of 900 µs.
        let parts = vec![
            part(KernelOp::Matmul, Some(R::FfnGate), 300e3),
            part(KernelOp::Matmul, Some(R::FfnUp), 200e3),
            part(KernelOp::Activation, None, 100e3),
            part(KernelOp::Matmul, Some(R::FfnDown), 200e3),
            part(KernelOp::Residual, None, 100e3),
        ];
        let (block, layers) = (KernelOp::FeedForwardBlock, vec![0]);
        run.splits = vec![BlockSplit { block, layers, n_tokens: 16, kv_len: 0, parts }];
        let report = profile_of(&run, 0.005);
        let row = |op, role| {
            let mut rows = report.kernels.iter().filter(|k| (k.op, k.role) == (op, role));
            let row = rows.next().unwrap();
            assert!(rows.next().is_none());
            assert_eq!(row.source, KernelSource::Microbenchmark);
            (row.calls, (row.ms * 1e9).round() / 1e9)
        };
        assert_eq!(row(KernelOp::Matmul, Some(R::FfnGate)), (1, 0.6));
        assert_eq!(row(KernelOp::Matmul, Some(R::FfnUp)), (1, 0.4));
        assert_eq!(row(KernelOp::Activation, None), (1, 0.2));
        assert_eq!(row(KernelOp::Matmul, Some(R::FfnDown)), (1, 0.4));
        // 0.2 in place and 0.2 of the block: one row, marked for what is not in place.
        assert_eq!(row(KernelOp::Residual, None), (2, 0.4));
        let gate = report.kernels.iter().find(|k| k.role == Some(R::FfnGate)).unwrap();
        assert_eq!(gate.flop, Some(2 * 16 * 256 * 512));
        assert_eq!(gate.tensor_type, Some(foretoken_spec::TensorType::Q8_0));
        assert!(!report.kernels.iter().any(|k| k.op == KernelOp::FeedForwardBlock));
        let kernels: f64 = report.kernels.iter().map(|row| row.ms).sum();
        assert!((kernels + report.unaccounted_ms - report.wall_ms).abs() < 1e-9);
    }

    #[test]
    fn latencies_by_hand() {
        let report = profile_of(&timeline(), 0.005);
        // Prefill 2 ms, softmax 20 µs, draw 10 µs.
        assert!((report.ttft_ms.unwrap() - 2.03).abs() < 1e-9);
        // Steps of 1, 1.9 and 1 ms, each with 30 µs after it.
        assert!((report.tpot_ms.unwrap() - (3.9 / 3.0 + 0.03)).abs() < 1e-9);
        assert!((report.e2e_ms.unwrap() - (2.03 + 3.99)).abs() < 1e-9);
        assert_eq!(report.tokens.len(), 4);
        let inter_token = report.inter_token_ms.unwrap();
        assert!((inter_token.max - 1.935).abs() < 1e-9, "{inter_token:?}");
        assert_eq!(report.slowest_tokens[0].index, 2);
        assert!(report.slowest_tokens[0].what.starts_with("forward pass, not probed: +0.90 ms"));
    }

    #[test]
    fn a_run_that_was_stopped_at_once_still_has_a_profile() {
        let mut stopped = timeline();
        stopped.passes.clear();
        stopped.pairs = foretoken_spec::OverheadPairs::default();
        stopped.interrupted = true;
        let report = profile_of(&stopped, 0.005);
        assert!(report.interrupted);
        assert_eq!(report.overhead.decode, None);
        assert_eq!(report.ttft_ms, None);
        assert!((leaf_sum(&report) + report.unaccounted_ms - report.wall_ms).abs() < 1e-9);
    }
}
