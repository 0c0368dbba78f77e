use foretoken_spec::{Ceilings, KernelSource, OverheadReport, SCHEMA_VERSION, TokenRow, ToolInfo};

use super::*;

fn phase(phase: ProfilePhase, samples_ms: &[f64]) -> PhaseRow {
    PhaseRow {
        phase,
        calls: samples_ms.len() as u32,
        ms: samples_ms.iter().sum(),
        share: 0.0,
        prefill_ms: None,
        decode_ms: None,
        samples_ms: samples_ms.to_vec(),
    }
}

fn kernel(op: KernelOp, role: Option<TensorRole>, layer: u32, samples_ms: &[f64]) -> KernelRow {
    KernelRow {
        phase: ProfilePhase::Decode,
        op,
        role,
        layer: Some(layer),
        tensor_type: None,
        shape: None,
        calls: samples_ms.len() as u32,
        ms: samples_ms.iter().sum(),
        share: 0.0,
        flop: None,
        bytes: None,
        flop_per_second: None,
        bytes_per_second: None,
        roofline_share: None,
        bound: None,
        source: KernelSource::InPlace,
        samples_ms: samples_ms.to_vec(),
    }
}

/// `ms · (1 + 0.001 · i)`, i = 0…9: median `ms · 1.0045`, total `ms · 10.045`.
fn ten(ms: f64) -> Vec<f64> {
    (0..10).map(|i| ms * (1.0 + 0.001 * f64::from(i))).collect()
}

fn report() -> ProfileReport {
    let q = Some(TensorRole::AttnQ);
    let mut report = ProfileReport {
        schema_version: SCHEMA_VERSION,
        tool: ToolInfo {
            version: "0.1.0".into(),
            profile: "release".into(),
            target: "x86_64-unknown-linux-gnu".into(),
            target_features: String::new(),
        },
        time: "2026-01-01T00:00:00Z".into(),
        model: "tinyllama-1.1b".into(),
        quant: "Q4_K_M".into(),
        device: "test-4".into(),
        engine: "candle 0.11.1".into(),
        threads: 4,
        allocator: foretoken_spec::Allocator::Kept,
        span_clock: foretoken_spec::SpanClock::Host,
        sampling: foretoken_spec::Sampling::Temperature,
        prompt_tokens: 64,
        generated_tokens: 11,
        prompt_text: None,
        generated_text: None,
        wall_ms: 1000.0,
        unaccounted_ms: 0.0,
        ttft_ms: None,
        tpot_ms: None,
        e2e_ms: None,
        prefill_tokens_per_second: None,
        decode_tokens_per_second: None,
        prompt_repeats_ms: vec![],
        phases: vec![
            phase(ProfilePhase::Decode, &ten(50.0)),
            phase(ProfilePhase::Load, &[300.0]),
            phase(ProfilePhase::Prefill, &[100.0]),
        ],
        kernels: vec![
            kernel(KernelOp::Matmul, q, 0, &ten(2.0)),
            kernel(KernelOp::Matmul, q, 1, &ten(3.0)),
            kernel(KernelOp::Attention, None, 0, &ten(20.0)),
            kernel(KernelOp::Attention, None, 1, &ten(20.0)),
            // 0.3 of 1000 ms.
            kernel(KernelOp::Rope, None, 0, &ten(0.03)),
        ],
        overhead: OverheadReport {
            prefill: None,
            decode: None,
            budget: 0.005,
            sampled_every: 2,
            ns_per_event: 40.0,
        },
        tokens: vec![],
        inter_token_ms: None,
        slowest_tokens: vec![],
        ceilings: Ceilings { stream_bytes_per_second: 1e10, matmul_flop_per_second: 1e11 },
        comparison: None,
        interrupted: false,
        warnings: vec![],
    };
    report.kernels.push(KernelRow {
        phase: ProfilePhase::Load,
        layer: None,
        ..kernel(KernelOp::Load, None, 0, &[300.0])
    });
    report
}

fn slower(report: &mut ProfileReport, op: KernelOp, factor: f64) {
    for row in report.kernels.iter_mut().filter(|k| k.op == op) {
        row.ms *= factor;
        row.samples_ms.iter_mut().for_each(|ms| *ms *= factor);
    }
}

#[test]
fn a_run_equals_itself() {
    let comparison = compare(&report(), &report(), Some(0.0)).unwrap();
    let keys: Vec<_> = comparison.rows.iter().map(|r| name((r.phase, r.op, r.role))).collect();
    let expected = ["load", "prefill", "decode", "decode attention", "decode matmul.attn_q"];
    // Rope is too small, and the kernel `load` is the phase.
    assert_eq!(keys, expected);
    assert!(comparison.rows.iter().all(|r| r.ratio == 1.0 && !r.beyond_noise));
    assert!(!comparison.failed);
    assert!(comparison.warnings.is_empty(), "{:?}", comparison.warnings);
    assert_eq!((comparison.stream_drift, comparison.matmul_drift), (1.0, 1.0));
    assert_eq!(comparison.noise, 0.02);
    // Layers are summed before the median: (2 + 3) · 1.0045.
    assert!((comparison.rows[4].new_ms - 5.0225).abs() < 1e-9);
    let decode = &comparison.rows[2];
    assert!(decode.lower.unwrap() <= 1.0 && decode.upper.unwrap() >= 1.0);
    // A single sample has no interval.
    assert_eq!((comparison.rows[0].lower, comparison.rows[0].upper), (None, None));
}

#[test]
fn a_kernel_that_is_30_percent_slower_is_found() {
    let mut new = report();
    slower(&mut new, KernelOp::Matmul, 1.3);
    let at = |limit| compare(&report(), &new, limit).unwrap();
    let comparison = at(Some(0.1));
    let beyond: Vec<_> = comparison.rows.iter().filter(|r| r.beyond_noise).collect();
    assert_eq!(beyond.len(), 1);
    assert_eq!((beyond[0].op, beyond[0].role), (Some(KernelOp::Matmul), Some(TensorRole::AttnQ)));
    assert!((beyond[0].ratio - 1.3).abs() < 1e-9);
    // Samples reach from 1 to 1.009 times the smallest, so no ratio of medians leaves
    // 1.3 / 1.009 … 1.3 · 1.009.
    assert!(beyond[0].lower.unwrap() > 1.288 && beyond[0].upper.unwrap() < 1.312);
    assert!(comparison.failed);
    assert!(!at(Some(0.5)).failed);
    assert!(!at(None).failed);
}

#[test]
fn what_a_microbenchmark_divided_must_differ_by_more() {
    let divided = |ratio| {
        let mut new = report();
        slower(&mut new, KernelOp::Matmul, ratio);
        let matrices = new.kernels.iter_mut().filter(|k| k.op == KernelOp::Matmul);
        matrices.for_each(|kernel| kernel.source = KernelSource::Microbenchmark);
        let comparison = compare(&report(), &new, None).unwrap();
        comparison.rows.iter().any(|row| row.beyond_noise)
    };
    // In place 1.08 would count: the noise is 0.02 there, and 0.10 here.
    assert!(!divided(1.08));
    assert!(divided(1.3));
}

#[test]
fn a_faster_kernel_is_beyond_noise_and_does_not_fail() {
    let mut new = report();
    slower(&mut new, KernelOp::Attention, 0.7);
    let comparison = compare(&report(), &new, Some(0.0)).unwrap();
    assert_eq!(comparison.rows.iter().filter(|r| r.beyond_noise).count(), 1);
    assert!(!comparison.failed);
}

#[test]
fn the_drift_of_the_machine_widens_the_noise() {
    let mut new = report();
    slower(&mut new, KernelOp::Matmul, 1.3);
    // At three quarters of the speed everything takes a third longer.
    new.ceilings.stream_bytes_per_second = 0.75e10;
    let comparison = compare(&report(), &new, Some(0.1)).unwrap();
    assert!((comparison.noise - 1.0 / 3.0).abs() < 1e-12);
    assert!(comparison.rows.iter().all(|r| !r.beyond_noise));
    assert!(!comparison.failed);
    assert!(comparison.warnings[0].contains("memory: -25.0 %"), "{:?}", comparison.warnings);
    new.ceilings.stream_bytes_per_second = 0.0;
    let comparison = compare(&report(), &new, None).unwrap();
    assert_eq!((comparison.stream_drift, comparison.noise), (1.0, 0.02));
    assert!(comparison.warnings[0].contains("not known"));
}

#[test]
fn kernels_are_ordered_by_their_new_total() {
    let mut new = report();
    slower(&mut new, KernelOp::Matmul, 10.0);
    let rows = compare(&report(), &new, None).unwrap().rows;
    let ops: Vec<_> = rows.iter().filter_map(|r| r.op).collect();
    assert_eq!(ops, [KernelOp::Matmul, KernelOp::Attention]);
}

#[test]
fn a_kernel_counts_where_it_has_grown_to_a_sensible_size() {
    let mut new = report();
    slower(&mut new, KernelOp::Rope, 10.0);
    let comparison = compare(&report(), &new, Some(0.1)).unwrap();
    assert!(comparison.rows.iter().any(|r| r.op == Some(KernelOp::Rope) && r.beyond_noise));
    assert!(!comparison.failed, "below a hundredth of its pass it is shown, and fails nothing");
    slower(&mut new, KernelOp::Rope, 30.0);
    assert!(compare(&report(), &new, Some(0.1)).unwrap().failed);
}

#[test]
fn steps_in_which_others_had_the_processor_are_left_out() {
    let mut new = report();
    let step = |preempted| TokenRow {
        index: 1,
        kv_len: 8,
        ms: 1.0,
        phase: Phase::Decode,
        forward_ms: 1.0,
        logits_copy_ms: 0.0,
        softmax_ms: 0.0,
        sampling_ms: 0.0,
        detokenize_ms: 0.0,
        token: 1,
        probed: true,
        preempted,
    };
    // Of ten samples the last four are ten times as long, and were disturbed.
    new.tokens = (0..10).map(|i| step(i >= 6)).collect();
    for kernel in &mut new.kernels {
        kernel.samples_ms.iter_mut().skip(6).for_each(|ms| *ms *= 10.0);
    }
    let disturbed = compare(&report(), &new, None).unwrap();
    assert!(disturbed.rows.iter().all(|row| (row.ratio - 1.0).abs() < 0.01));
    assert!(disturbed.rows.iter().all(|row| row.upper.is_none_or(|upper| upper < 1.01)));
}

#[test]
fn other_threads_are_no_drift_of_the_machine() {
    let mut new = report();
    new.threads = 1;
    new.ceilings.matmul_flop_per_second /= 2.0;
    let comparison = compare(&report(), &new, None).unwrap();
    assert_eq!((comparison.matmul_drift, comparison.noise), (1.0, 0.02));
    assert!(comparison.warnings.iter().any(|w| w.contains("threads")));
}

#[test]
fn what_one_run_lacks_is_named() {
    let (old, mut new) = (report(), report());
    new.kernels.retain(|k| k.op != KernelOp::Attention);
    let warnings = compare(&old, &new, None).unwrap().warnings;
    let lacks =
        |which| format!("not compared, for want of times in the {which} profile: decode attention");
    assert_eq!(warnings, [lacks("newer")]);
    assert_eq!(compare(&new, &old, None).unwrap().warnings, [lacks("older")]);
    // Too few passes in one layer of a broken file: the shortest counts.
    new.kernels[1].samples_ms.truncate(2);
    let rows = compare(&new, &new, None).unwrap().rows;
    assert!((rows[3].new_ms - 5.0025).abs() < 1e-9, "{}", rows[3].new_ms);
}

#[test]
fn differences_between_the_runs_are_said() {
    let mut new = report();
    new.model = "llama-3.2-1b".into();
    new.quant = "Q8_0".into();
    new.device = "other".into();
    new.engine = "candle 0.12.0".into();
    new.threads = 8;
    new.prompt_tokens = 65;
    new.generated_tokens = 12;
    new.interrupted = true;
    new.tool.profile = "debug".into();
    let comparison = compare(&report(), &new, None).unwrap();
    assert_eq!(comparison.warnings.len(), 9, "{:#?}", comparison.warnings);
    assert!(comparison.warnings[0].starts_with("these are different models: tinyllama-1.1b and"));
    assert!(comparison.warnings[1].starts_with("these are different quantizations: Q4_K_M and"));
    assert_eq!(comparison.rows.len(), 5);
}

#[test]
fn nothing_in_common_is_an_error() {
    let mut empty = report();
    empty.phases.clear();
    empty.kernels.clear();
    let error = compare(&report(), &empty, None).unwrap_err();
    assert!(error.to_string().starts_with("the profiles of 2026-01-01T00:00:00Z and of"));
    assert!(!error.to_string().contains('\n'));
    for limit in [f64::NAN, -0.1, f64::INFINITY] {
        assert!(matches!(
            compare(&report(), &report(), Some(limit)),
            Err(CompareError::InvalidThreshold(_))
        ));
    }
}

#[test]
fn the_interval_is_that_of_the_median() {
    // Two samples a side: a drawn median is 1, 2 or 3 with chances 1/4, 1/2, 1/4, so the ratio's
    // extremes 1/3 and 3 have a chance of 1/16 each, more than 2.5 %.
    let (lower, upper) = ratio_interval(&[1.0, 3.0], &[3.0, 1.0]).unwrap();
    assert!((lower - 1.0 / 3.0).abs() < 1e-12 && (upper - 3.0).abs() < 1e-12);
    assert_eq!(ratio_interval(&[1.0], &[1.0, 2.0]), None);
    assert_eq!(ratio_interval(&[0.0, 1.0], &[1.0, 2.0]), None);
}

#[test]
fn counted_draws_have_the_median_of_the_draw() {
    let samples = [5.0, 1.0, 4.0, 2.0, 9.0, 7.0];
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut resampler = Resampler::new(&samples);
    let (mut a, mut b) = (SplitMix64::new(3), SplitMix64::new(3));
    for _ in 0..50 {
        let draw: Vec<f64> = (0..samples.len()).map(|_| sorted[b.below(samples.len())]).collect();
        assert_eq!(Some(resampler.median(&mut a)), median(&draw));
    }
}
