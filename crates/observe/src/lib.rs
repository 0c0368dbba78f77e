//! From raw measurement lines to what was observed.
//!
//! An observation is one configuration (model, quantization, pass) of one device, engine and
//! thread count: the median over fresh loads of the median within a load. Nothing here is ever
//! written back; summaries are computed when they are read.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::collections::BTreeMap;

use foretoken_spec::{KernelSample, Measurement, ModelRecord, OpKind, Pass, PassSample, Phase};
use foretoken_spec::{TensorRole, TensorType};
use foretoken_stats::{half_split_difference, median, quantile};

/// One configuration with what was observed of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The model.
    pub model: ModelRecord,
    /// Phase of the pass.
    pub phase: Phase,
    /// The pass; of decode steps, the median cache length.
    pub pass: Pass,
    /// Prompt of the workload that the pass belongs to.
    pub prompt_tokens: u32,
    /// Depth of the workload that the pass belongs to.
    pub depth: u32,
    /// Observed forward time in seconds.
    pub seconds: f64,
    /// Forward time with softmax and sampling, in seconds.
    pub total_seconds: f64,
    /// Temperature and softmax after the pass, in seconds.
    pub softmax_seconds: f64,
    /// Draw of the token after the pass, in seconds.
    pub sampling_seconds: f64,
    /// Median within each load, in the order of loading, in seconds.
    pub load_medians: Vec<f64>,
    /// `|a − b| / mean` of the two halves of the loads.
    pub noise: Option<f64>,
    /// Samples left out because the scheduler took the processor away.
    pub n_excluded: u32,
    /// Loads left out because the reference around them shows another program at work.
    pub n_contended_loads: u32,
    /// Self times of the operations in one pass.
    pub kernels: Vec<KernelObservation>,
}

/// Observed time of one kind of operation in one pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelObservation {
    /// What.
    pub op: OpKind,
    /// Which matrix, for a matmul.
    pub role: Option<TensorRole>,
    /// How it is stored, for a matmul.
    pub tensor_type: Option<TensorType>,
    /// Calls in one pass.
    pub calls: u32,
    /// Seconds of all calls of one pass.
    pub seconds: f64,
}

type KernelKey = (OpKind, Option<TensorRole>, Option<TensorType>);
type ConfigKey = (String, String, Phase, u32, u32, u32);

/// Share of the best compute reference of the data below which a load was contended: another
/// program held a processor, and passes took several times their time.
const CONTENDED_BELOW: f64 = 0.6;

/// Best compute reference of the lines (90th percentile over loads, so that one lucky sample does
/// not set the bar); `None` without references.
fn calm_reference(measurements: &[Measurement]) -> Option<f64> {
    let rates = measurements.iter().flat_map(|m| &m.reference).map(|r| r.matmul_flop_per_second);
    quantile(&rates.collect::<Vec<_>>(), 0.9)
}

/// Whether the reference around a load shows that another program held a processor.
fn is_contended(m: &Measurement, calm: f64) -> bool {
    m.reference.iter().any(|r| r.matmul_flop_per_second < CONTENDED_BELOW * calm)
}

/// All observations of the lines, in a stable order (by model, quantization, phase, workload).
///
/// Lines of other devices, engines or thread counts must not be mixed in: callers split first.
pub fn observations(measurements: &[Measurement]) -> Vec<Observation> {
    let mut configs: BTreeMap<ConfigKey, Vec<&Measurement>> = BTreeMap::new();
    for m in measurements {
        let w = m.workload;
        let name = (m.model.name.clone(), m.model.quant.clone());
        if !m.prefill.is_empty() {
            let key = (name.0.clone(), name.1.clone(), Phase::Prefill, w.prompt_tokens, w.depth, 0);
            configs.entry(key).or_default().push(m);
        }
        if !m.decode.is_empty() {
            let key = (name.0, name.1, Phase::Decode, w.prompt_tokens, w.depth, w.generated_tokens);
            configs.entry(key).or_default().push(m);
        }
    }
    let calm = calm_reference(measurements).unwrap_or(0.0);
    configs
        .into_iter()
        .filter_map(|((_, _, phase, ..), mut lines)| {
            lines.sort_by_key(|m| (m.session.clone(), m.sequence));
            let (contended, quiet): (Vec<&Measurement>, Vec<&Measurement>) =
                lines.into_iter().partition(|m| is_contended(m, calm));
            if quiet.is_empty() {
                return observe(phase, &contended);
            }
            let mut observation = observe(phase, &quiet)?;
            observation.n_contended_loads = contended.len() as u32;
            Some(observation)
        })
        .collect()
}

/// Median over the configurations of the difference between the halves of their loads.
pub fn noise_floor<'a>(observations: impl IntoIterator<Item = &'a Observation>) -> Option<f64> {
    median(&observations.into_iter().filter_map(|o| o.noise).collect::<Vec<_>>())
}

/// The samples of one load that count: without preempted ones where others remain, then without
/// probed ones where others remain. Also how many were left out as preempted.
pub fn counted_samples(samples: &[PassSample]) -> (Vec<&PassSample>, u32) {
    let calm: Vec<&PassSample> = samples.iter().filter(|s| !s.preempted).collect();
    let (kept, n_excluded) = if calm.is_empty() {
        (samples.iter().collect(), 0)
    } else {
        let n_excluded = (samples.len() - calm.len()) as u32;
        (calm, n_excluded)
    };
    let unprobed: Vec<&PassSample> = kept.iter().copied().filter(|s| !s.probed).collect();
    (if unprobed.is_empty() { kept } else { unprobed }, n_excluded)
}

fn samples(m: &Measurement, phase: Phase) -> &[PassSample] {
    match phase {
        Phase::Prefill => &m.prefill,
        Phase::Decode => &m.decode,
    }
}

fn observe(phase: Phase, lines: &[&Measurement]) -> Option<Observation> {
    let first = lines.first()?;
    let mut load_medians = Vec::new();
    let mut load_totals = Vec::new();
    let mut load_softmax = Vec::new();
    let mut load_sampling = Vec::new();
    let mut kv_lens = Vec::new();
    let mut n_excluded = 0;
    for line in lines {
        let (counted, excluded) = counted_samples(samples(line, phase));
        n_excluded += excluded;
        let seconds = |f: fn(&PassSample) -> u64| {
            median(&counted.iter().map(|s| f(s) as f64 * 1e-9).collect::<Vec<_>>())
        };
        load_medians.extend(seconds(|s| s.forward_ns));
        load_totals.extend(seconds(PassSample::total_ns));
        load_softmax.extend(seconds(|s| s.softmax_ns));
        load_sampling.extend(seconds(|s| s.sampling_ns));
        kv_lens.extend(counted.iter().map(|s| f64::from(s.kv_len)));
    }
    let n_tokens = samples(first, phase).first()?.n_tokens;
    Some(Observation {
        model: first.model.clone(),
        phase,
        pass: Pass { n_tokens, kv_len: median(&kv_lens)?.round() as u32 },
        prompt_tokens: first.workload.prompt_tokens,
        depth: first.workload.depth,
        seconds: median(&load_medians)?,
        total_seconds: median(&load_totals)?,
        softmax_seconds: median(&load_softmax)?,
        sampling_seconds: median(&load_sampling)?,
        noise: half_split_difference(&load_medians),
        load_medians,
        n_excluded,
        n_contended_loads: 0,
        kernels: kernels(phase, lines),
    })
}

/// Median over loads of the median over probed, unpreempted passes.
fn kernels(phase: Phase, lines: &[&Measurement]) -> Vec<KernelObservation> {
    let mut loads: BTreeMap<KernelKey, (u32, Vec<f64>)> = BTreeMap::new();
    for line in lines {
        let probed: Vec<&PassSample> = samples(line, phase).iter().filter(|s| s.probed).collect();
        for kernel in line.kernels.iter().filter(|k| k.phase == phase) {
            if let Some(seconds) = kernel_seconds(kernel, &probed) {
                let entry = loads
                    .entry((kernel.op, kernel.role, kernel.tensor_type))
                    .or_insert((kernel.calls, Vec::new()));
                entry.1.push(seconds);
            }
        }
    }
    loads
        .into_iter()
        .filter_map(|((op, role, tensor_type), (calls, seconds))| {
            Some(KernelObservation { op, role, tensor_type, calls, seconds: median(&seconds)? })
        })
        .collect()
}

fn kernel_seconds(kernel: &KernelSample, probed: &[&PassSample]) -> Option<f64> {
    let calm: Vec<f64> = kernel
        .ns
        .iter()
        .zip(probed)
        .filter(|(_, sample)| !sample.preempted)
        .map(|(ns, _)| *ns as f64 * 1e-9)
        .collect();
    median(&calm)
        .or_else(|| median(&kernel.ns.iter().map(|ns| *ns as f64 * 1e-9).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(forward_ns: u64, probed: bool, preempted: bool) -> PassSample {
        PassSample {
            n_tokens: 1,
            kv_len: 10,
            forward_ns,
            logits_copy_ns: 0,
            softmax_ns: 5,
            sampling_ns: 1,
            probed,
            preempted,
        }
    }

    #[test]
    fn probed_and_preempted_samples_are_left_out_where_others_remain() {
        let samples = [sample(10, false, false), sample(12, true, false), sample(90, false, true)];
        let (counted, n_excluded) = counted_samples(&samples);
        assert_eq!(counted.iter().map(|s| s.forward_ns).collect::<Vec<_>>(), [10]);
        assert_eq!(n_excluded, 1);
    }

    #[test]
    fn when_all_are_preempted_all_count() {
        let samples = [sample(10, true, true), sample(12, true, true)];
        let (counted, n_excluded) = counted_samples(&samples);
        assert_eq!((counted.len(), n_excluded), (2, 0));
    }
}
