//! From raw measurement lines to what `measure` answers.
//!
//! What counts is what `foretoken-observe` says, the same that a fit sees: the median over fresh
//! loads of the median within a load, contended loads left out and counted. Only unprobed samples
//! count where there are any; samples during which the scheduler took the processor away are left
//! out and counted. Each only where others remain.

use foretoken_observe::{configurations, contended_loads, counted_samples, without_contended};
use foretoken_spec::{
    Distribution, KernelSample, MeasureReport, Measurement, OpKind, PassSample, Phase, PhaseTimes,
    SCHEMA_VERSION,
};
use foretoken_stats::{half_split_difference, median, quantile};

use crate::energy::{energy, energy_warning};

const NS_PER_MS: f64 = 1e6;

/// Share of disturbed samples from which a report warns.
const MANY_DISTURBED: f64 = 0.25;

/// One report per configuration, in the order of first appearance.
pub fn summarise(measurements: &[Measurement]) -> Vec<MeasureReport> {
    let lines: Vec<&Measurement> = measurements.iter().collect();
    let contended = contended_loads(&lines);
    let of_group = |group: Vec<&Measurement>| {
        let (quiet, n_contended) = without_contended(&group, &contended);
        report(&quiet, n_contended)
    };
    configurations(&lines).into_iter().map(of_group).collect()
}

/// The report of lines that share one configuration; there is at least one. `n_contended` more
/// were left out.
fn report(lines: &[&Measurement], n_contended: u32) -> MeasureReport {
    let first = lines[0];
    let prefill: Vec<Kept> = lines.iter().map(|line| Kept::of(&line.prefill)).collect();
    let decode: Vec<Kept> = lines.iter().map(|line| Kept::of(&line.decode)).collect();
    let forward = |s: &PassSample| s.forward_ns;
    let excluded: u32 = prefill.iter().chain(&decode).map(|kept| kept.excluded).sum();
    let kept: Vec<&PassSample> =
        prefill.iter().chain(&decode).flat_map(|kept| &kept.samples).collect();
    let noise = [noise_of(&prefill), noise_of(&decode)];
    MeasureReport {
        schema_version: SCHEMA_VERSION,
        model: first.model.name.clone(),
        quant: first.model.quant.clone(),
        device: first.device.id.clone(),
        engine: format!("{} {}", first.engine.name, first.engine.version),
        threads: first.threads,
        prompt_tokens: first.workload.prompt_tokens,
        generated_tokens: first.workload.generated_tokens,
        kv_len: first.workload.depth,
        loads: lines.len() as u32,
        prefill_ms: distribution(&prefill, forward),
        ttft_ms: distribution(&prefill, PassSample::total_ns),
        tpot_ms: distribution(&decode, PassSample::total_ns),
        decode_ms: distribution(&decode, forward),
        phases: phases(lines, &prefill, &decode),
        peak_rss_bytes: lines.iter().filter_map(|line| line.memory.peak_rss_bytes).max(),
        peak_device_bytes: lines.iter().filter_map(|line| line.memory.device?.peak_bytes).max(),
        first_pass_ms: median(
            &lines
                .iter()
                .filter_map(|m| Some(m.warmup.first()?.ns as f64 * 1e-6))
                .collect::<Vec<_>>(),
        ),
        energy_j: energy(lines),
        load_ms: load_times(lines, |line| Some(line.load_ns)),
        load_cold_ms: load_times(lines, |line| {
            line.cold_load.as_ref().filter(|cold| cold.doubt.is_none()).map(|cold| cold.ns)
        }),
        noise_floor: median(&noise.into_iter().flatten().collect::<Vec<_>>()),
        excluded_samples: excluded,
        warnings: warnings(lines, n_contended, excluded, &kept),
    }
}

/// The samples of one load that count.
struct Kept {
    samples: Vec<PassSample>,
    excluded: u32,
}

impl Kept {
    fn of(samples: &[PassSample]) -> Self {
        let (samples, excluded) = counted_samples(samples);
        Self { samples: samples.into_iter().copied().collect(), excluded }
    }

    fn median(&self, ns: impl Fn(&PassSample) -> u64) -> Option<f64> {
        median(&self.samples.iter().map(|s| ns(s) as f64 / NS_PER_MS).collect::<Vec<_>>())
    }
}

fn distribution(loads: &[Kept], ns: impl Fn(&PassSample) -> u64) -> Option<Distribution> {
    let medians: Vec<f64> = loads.iter().filter_map(|load| load.median(&ns)).collect();
    let samples: Vec<f64> =
        loads.iter().flat_map(|load| &load.samples).map(|s| ns(s) as f64 / NS_PER_MS).collect();
    Some(Distribution {
        median: median(&medians)?,
        p10: quantile(&samples, 0.1)?,
        p90: quantile(&samples, 0.9)?,
        samples,
    })
}

/// Times of the loads, in ms; `None` where none has any.
fn load_times(
    lines: &[&Measurement],
    ns: impl Fn(&Measurement) -> Option<u64>,
) -> Option<Distribution> {
    let samples: Vec<f64> =
        lines.iter().filter_map(|line| ns(line)).map(|ns| ns as f64 / NS_PER_MS).collect();
    Some(Distribution {
        median: median(&samples)?,
        p10: quantile(&samples, 0.1)?,
        p90: quantile(&samples, 0.9)?,
        samples,
    })
}

/// How far the medians of alternate loads differ.
fn noise_of(loads: &[Kept]) -> Option<f64> {
    let medians: Vec<f64> = loads.iter().filter_map(|load| load.median(|s| s.forward_ns)).collect();
    half_split_difference(&medians)
}

fn warnings(
    lines: &[&Measurement],
    n_contended: u32,
    excluded: u32,
    kept: &[&PassSample],
) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    for warning in lines.iter().flat_map(|line| &line.warnings) {
        if !warnings.contains(warning) {
            warnings.push(warning.clone());
        }
    }
    let doubt = |line: &&Measurement| line.cold_load.as_ref()?.doubt.clone();
    if let Some(doubt) = lines.iter().find_map(doubt) {
        warnings.push(format!("the load from storage is left out: {doubt}"));
    }
    warnings.extend(energy_warning(lines));
    if n_contended > 0 {
        warnings.push(format!(
            "{n_contended} of {} loads were left out: another program was busy",
            lines.len() + n_contended as usize
        ));
    }
    if lines.len() < 2 {
        warnings.push("one fresh load only: the noise is unknown; ask for --repeat 3".into());
    }
    // Disturbed samples are kept where a load has no others: they must not pass unnoticed.
    let disturbed = f64::from(excluded) + kept.iter().filter(|s| s.preempted).count() as f64;
    let share = disturbed / (f64::from(excluded) + kept.len() as f64).max(1.0);
    if share > MANY_DISTURBED {
        warnings.push(format!(
            "{:.0} % of the samples were disturbed by other programs; close them and repeat",
            share * 100.0
        ));
    }
    warnings
}

/// Parts of one pass, in ms, from its probed samples.
#[derive(Default)]
struct Parts {
    embedding: Vec<f64>,
    layers: Vec<f64>,
    lm_head: Vec<f64>,
    logits_copy: Vec<f64>,
}

impl Parts {
    /// What no span covers counts as `layers`, so that the parts add up to the pass.
    fn of(lines: &[&Measurement], phase: Phase) -> Self {
        let mut parts = Self::default();
        for line in lines {
            let passes = if phase == Phase::Prefill { &line.prefill } else { &line.decode };
            let probed: Vec<_> = passes.iter().filter(|s| s.probed).enumerate().collect();
            let any_calm = probed.iter().any(|(_, pass)| !pass.preempted);
            for (index, pass) in probed {
                if any_calm && pass.preempted {
                    continue;
                }
                let Some(lm_head) = kernel_ns(&line.kernels, phase, OpKind::LmHead, index) else {
                    continue;
                };
                let embedding =
                    kernel_ns(&line.kernels, phase, OpKind::Embedding, index).unwrap_or(0);
                let named = embedding + lm_head + pass.logits_copy_ns;
                parts.embedding.push(embedding as f64 / NS_PER_MS);
                parts.lm_head.push(lm_head as f64 / NS_PER_MS);
                parts.logits_copy.push(pass.logits_copy_ns as f64 / NS_PER_MS);
                parts.layers.push(pass.forward_ns.saturating_sub(named) as f64 / NS_PER_MS);
            }
        }
        parts
    }

    fn sum(&self) -> Option<f64> {
        [&self.embedding, &self.layers, &self.lm_head, &self.logits_copy]
            .into_iter()
            .map(|part| median(part))
            .sum()
    }
}

fn kernel_ns(kernels: &[KernelSample], phase: Phase, op: OpKind, index: usize) -> Option<u64> {
    let of_op = kernels.iter().filter(|k| k.phase == phase && k.op == op);
    of_op.map(|kernel| kernel.ns.get(index).copied()).sum::<Option<u64>>().filter(|ns| *ns > 0)
}

fn phases(lines: &[&Measurement], prefill: &[Kept], decode: &[Kept]) -> PhaseTimes {
    let has = |loads: &[Kept]| loads.iter().any(|load| !load.samples.is_empty());
    let of = match (has(prefill), has(decode)) {
        (true, _) => Some(Phase::Prefill),
        (false, true) => Some(Phase::Decode),
        (false, false) => None,
    };
    let parts = of.map(|phase| Parts::of(lines, phase)).unwrap_or_default();
    let whole = |loads: &[Kept], phase| {
        Parts::of(lines, phase)
            .sum()
            .or_else(|| distribution(loads, |s| s.forward_ns).map(|d| d.median))
    };
    let both: Vec<Kept> = lines
        .iter()
        .map(|line| Kept::of(&[line.prefill.as_slice(), line.decode.as_slice()].concat()))
        .collect();
    // Timed from outside, an engine tells neither its load nor what follows a pass.
    let is_outside = lines.iter().all(|line| !line.engine.is_candle());
    let after = |ns: fn(&PassSample) -> u64| {
        distribution(&both, ns).map(|d| d.median).filter(|ms| !is_outside || *ms > 0.0)
    };
    let loads = lines.iter().map(|line| line.load_ns as f64 / NS_PER_MS);
    let loads: Vec<f64> = loads.filter(|ms| !is_outside || *ms > 0.0).collect();
    PhaseTimes {
        of,
        load: median(&loads),
        embedding: median(&parts.embedding),
        layers: median(&parts.layers),
        lm_head: median(&parts.lm_head),
        logits_copy: median(&parts.logits_copy),
        softmax: after(|s| s.softmax_ns),
        sampling: after(|s| s.sampling_ns),
        prefill: whole(prefill, Phase::Prefill),
        decode: whole(decode, Phase::Decode),
    }
}

#[cfg(test)]
mod tests {
    use foretoken_spec::{ModelSource, ReferenceSample, Sampling};

    use super::*;
    use crate::testing::measurement;

    #[test]
    fn observed_is_the_median_over_loads_of_the_median_within_a_load() {
        // Decode medians within the loads: 10, 12 and 30 ms.
        let lines = [
            measurement(0, &[9.0, 10.0, 11.0]),
            measurement(1, &[12.0, 12.0, 12.0]),
            measurement(2, &[30.0, 30.0, 30.0]),
        ];
        let report = &summarise(&lines)[0];
        let decode = report.decode_ms.as_ref().unwrap();
        assert_eq!(decode.median, 12.0);
        assert_eq!(decode.samples.len(), 9);
        assert_eq!(report.loads, 3);
        // Softmax 0.5 ms and sampling 0.25 ms follow each step.
        assert_eq!(report.tpot_ms.as_ref().unwrap().median, 12.75);
    }

    #[test]
    fn the_noise_floor_compares_alternate_loads() {
        let lines = [measurement(0, &[10.0]), measurement(1, &[11.0])];
        let report = &summarise(&lines)[0];
        // Prefill takes 100 ms in each load: no difference; decode |10 − 11| / 10.5.
        let expected = (0.0 + 1.0 / 10.5) / 2.0;
        assert!((report.noise_floor.unwrap() - expected).abs() < 1e-12);
    }

    /// Three loads of one model, around one of which the reference was slow.
    fn with_a_contended_load() -> Vec<Measurement> {
        let mut lines: Vec<Measurement> = [10.0, 90.0, 12.0]
            .iter()
            .zip(0..)
            .map(|(ms, load)| measurement(load, &[*ms]))
            .collect();
        for line in &mut lines {
            let matmul_flop_per_second = if line.load == 1 { 2e10 } else { 1e11 };
            line.reference =
                vec![ReferenceSample { stream_bytes_per_second: 2e10, matmul_flop_per_second }];
        }
        lines
    }

    #[test]
    fn contended_loads_are_left_out_with_a_warning() {
        let report = &summarise(&with_a_contended_load())[0];
        assert_eq!(report.loads, 2);
        let decode = report.decode_ms.as_ref().unwrap();
        assert_eq!((decode.median, decode.samples.len()), (11.0, 2));
        let expected = "1 of 3 loads were left out: another program was busy";
        assert_eq!(report.warnings, [expected]);
    }

    #[test]
    fn a_report_and_a_fit_observe_the_same() {
        let lines = with_a_contended_load();
        let observed = foretoken_observe::observations(&lines);
        let decode = observed.iter().find(|o| o.phase == Phase::Decode).unwrap();
        let report = &summarise(&lines)[0];
        let median_ms = report.decode_ms.as_ref().unwrap().median;
        assert!((decode.seconds * 1e3 - median_ms).abs() < 1e-9);
    }

    #[test]
    fn preempted_samples_are_left_out_and_counted() {
        let mut line = measurement(0, &[10.0, 99.0, 10.0]);
        line.decode[1].preempted = true;
        let report = &summarise(&[line])[0];
        assert_eq!(report.excluded_samples, 1);
        assert_eq!(report.decode_ms.as_ref().unwrap().samples, [10.0, 10.0]);
    }

    #[test]
    fn samples_that_were_all_preempted_are_kept_with_a_warning() {
        let mut line = measurement(0, &[10.0, 99.0]);
        line.decode.iter_mut().for_each(|s| s.preempted = true);
        let report = &summarise(&[line])[0];
        assert_eq!(report.decode_ms.as_ref().unwrap().samples.len(), 2);
        assert!(report.warnings.iter().any(|w| w.starts_with("67 % of the samples")));
    }

    #[test]
    fn probed_samples_count_only_where_there_are_no_others() {
        let mut line = measurement(0, &[10.0, 20.0]);
        line.decode[1].probed = true;
        let report = &summarise(&[line])[0];
        assert_eq!(report.decode_ms.as_ref().unwrap().samples, [10.0]);
    }

    #[test]
    fn the_parts_of_a_pass_add_up_to_it() {
        let mut line = measurement(0, &[10.0]);
        line.prefill[0].probed = true;
        let kernel = |op, ms: u64| KernelSample {
            phase: Phase::Prefill,
            op,
            role: None,
            tensor_type: None,
            calls: 1,
            ns: vec![ms * 1_000_000],
        };
        line.kernels = vec![kernel(OpKind::Embedding, 1), kernel(OpKind::LmHead, 9)];
        let phases = &summarise(&[line])[0].phases;
        assert_eq!(phases.of, Some(Phase::Prefill));
        // 100 ms of forward, of which 1 embedding, 9 LM head and 2 copy.
        assert_eq!(phases.layers, Some(88.0));
        assert_eq!(phases.prefill, Some(100.0));
        assert_eq!(phases.decode, Some(10.0));
    }

    #[test]
    fn other_quantizations_files_and_ways_of_sampling_are_apart() {
        let other = |change: fn(&mut Measurement)| {
            let mut other = measurement(1, &[10.0]);
            change(&mut other);
            summarise(&[measurement(0, &[10.0]), other]).len()
        };
        assert_eq!(other(|_| {}), 1);
        assert_eq!(other(|m| m.model.quant = "Q4_0".into()), 2);
        assert_eq!(other(|m| m.model.source = ModelSource::Gguf { path: "m.gguf".into() }), 2);
        assert_eq!(other(|m| m.sampling = Sampling::Greedy), 2);
        assert!(summarise(&[]).is_empty());
    }
}
