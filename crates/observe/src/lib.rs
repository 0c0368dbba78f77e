//! From raw measurement lines to what was observed.
//!
//! An observation is one configuration (model, quantization, pass) of one device, engine and
//! thread count: the median over fresh loads of the median within a load. Nothing here is ever
//! written back; summaries are computed when they are read.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::collections::{BTreeMap, BTreeSet};

use foretoken_spec::{
    KernelSample, Measurement, ModelRecord, OpKind, Pass, PassSample, Phase, Sampling, SpanClock,
};
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
    /// Tokens that the workload generates.
    pub generated_tokens: u32,
    /// Depth of the workload that the pass belongs to.
    pub depth: u32,
    /// Observed forward time in seconds.
    pub seconds: f64,
    /// How tokens were drawn.
    pub sampling: Sampling,
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
    /// The pass of the kernels: the median cache length of the probed samples.
    pub kernel_pass: Pass,
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
/// Share of the session's best compute reference below which a load was contended: another
/// program held a processor, and passes took several times their time.
const CONTENDED_BELOW: f64 = 0.6;

/// All observations of the lines, ordered by model, quantization, phase and workload.
///
/// Lines of other devices, engines or thread counts must not be mixed in: callers split first.
pub fn observations(measurements: &[Measurement]) -> Vec<Observation> {
    let lines: Vec<&Measurement> = measurements.iter().collect();
    let contended = contended_loads(&lines);
    let mut found: Vec<Observation> = Vec::new();
    for group in configurations(&lines) {
        let (kept, n_contended) = without_contended(&group, &contended);
        for phase in [Phase::Prefill, Phase::Decode] {
            found.extend(observe(phase, &kept, n_contended));
        }
    }
    found.sort_by(|a, b| order_of(a).cmp(&order_of(b)));
    found
}

/// The lines of each configuration (the same model, file and mix included, and workload), in the
/// order of first appearance; lines of one configuration in the order of measuring.
pub fn configurations<'a>(lines: &[&'a Measurement]) -> Vec<Vec<&'a Measurement>> {
    let mut groups: Vec<Vec<&Measurement>> = Vec::new();
    for &line in lines {
        let same = |group: &&mut Vec<&Measurement>| {
            let first = group[0];
            first.workload == line.workload
                && first.sampling == line.sampling
                && first.allocator == line.allocator
                && first.threads == line.threads
                && first.device.id == line.device.id
                && first.engine == line.engine
                && first.model == line.model
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(line),
            None => groups.push(vec![line]),
        }
    }
    for group in &mut groups {
        group.sort_by_key(|m| (&m.session, m.sequence));
    }
    groups
}

/// `(session, sequence)` of the loads around which the reference shows another program at work.
pub fn contended_loads<'a>(lines: &[&'a Measurement]) -> BTreeSet<(&'a str, u32)> {
    let mut slowest: BTreeMap<&str, BTreeMap<u32, f64>> = BTreeMap::new();
    for line in lines {
        let rates = line.reference.iter().map(|r| r.matmul_flop_per_second);
        let rate = rates.fold(f64::INFINITY, f64::min);
        if rate.is_finite() {
            slowest.entry(&line.session).or_default().insert(line.sequence, rate);
        }
    }
    let mut contended = BTreeSet::new();
    for (session, loads) in slowest {
        let rates: Vec<f64> = loads.values().copied().collect();
        // The 90th percentile over loads, so that one lucky sample does not set the bar.
        let calm = quantile(&rates, 0.9).unwrap_or(0.0);
        let low = loads.iter().filter(|(_, rate)| **rate < CONTENDED_BELOW * calm);
        contended.extend(low.map(|(sequence, _)| (session, *sequence)));
    }
    contended
}

/// The lines of a configuration without those of contended loads, where others remain, and how
/// many were left out.
pub fn without_contended<'a>(
    group: &[&'a Measurement],
    contended: &BTreeSet<(&str, u32)>,
) -> (Vec<&'a Measurement>, u32) {
    let is_quiet = |m: &&Measurement| !contended.contains(&(m.session.as_str(), m.sequence));
    let quiet: Vec<&Measurement> = group.iter().copied().filter(is_quiet).collect();
    if quiet.is_empty() {
        return (group.to_vec(), 0);
    }
    let n_left_out = (group.len() - quiet.len()) as u32;
    (quiet, n_left_out)
}

fn order_of(o: &Observation) -> (&str, &str, Phase, u32, u32, Pass) {
    (&o.model.name, &o.model.quant, o.phase, o.prompt_tokens, o.depth, o.pass)
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

fn observe(phase: Phase, lines: &[&Measurement], n_contended_loads: u32) -> Option<Observation> {
    let first = lines.first()?;
    let mut load_medians = Vec::new();
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
        generated_tokens: first.workload.generated_tokens,
        depth: first.workload.depth,
        seconds: median(&load_medians)?,
        sampling: first.sampling,
        softmax_seconds: median(&load_softmax)?,
        sampling_seconds: median(&load_sampling)?,
        noise: half_split_difference(&load_medians),
        load_medians,
        n_excluded,
        n_contended_loads,
        kernel_pass: Pass { n_tokens, kv_len: probed_kv_len(phase, lines).unwrap_or(0) },
        kernels: kernels(phase, lines),
    })
}

/// Median cache length of the probed samples.
fn probed_kv_len(phase: Phase, lines: &[&Measurement]) -> Option<u32> {
    let probed = lines.iter().flat_map(|line| samples(line, phase)).filter(|s| s.probed);
    let kv_lens: Vec<f64> = probed.map(|s| f64::from(s.kv_len)).collect();
    Some(median(&kv_lens)?.round() as u32)
}

/// Median over loads of the median over probed, unpreempted passes; of a graphics device, as they
/// add up to an unprobed pass.
fn kernels(phase: Phase, lines: &[&Measurement]) -> Vec<KernelObservation> {
    let mut loads: BTreeMap<KernelKey, (u32, Vec<f64>)> = BTreeMap::new();
    for line in lines {
        let probed: Vec<&PassSample> = samples(line, phase).iter().filter(|s| s.probed).collect();
        let distortion = distortion(line.span_clock, samples(line, phase));
        for kernel in line.kernels.iter().filter(|k| k.phase == phase) {
            if let Some(seconds) = kernel_seconds(kernel, &probed) {
                let seconds = seconds * distortion;
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

/// What times inside a probed pass are multiplied by. A mark on a graphics device costs a call of its
/// driver, or a wait, in a pass that may take no longer than its calls; unprobed passes of the same
/// load say how much. A processor's probes cost next to nothing.
fn distortion(clock: SpanClock, samples: &[PassSample]) -> f64 {
    if clock == SpanClock::Host {
        return 1.0;
    }
    let calm = |probed: bool| {
        let of = samples.iter().filter(|s| s.probed == probed && !s.preempted);
        median(&of.map(|s| s.forward_ns as f64).collect::<Vec<_>>())
    };
    match (calm(false), calm(true)) {
        (Some(unprobed), Some(probed)) if probed > 0.0 => unprobed / probed,
        _ => 1.0,
    }
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
    use foretoken_spec::{
        Allocator, Backend, DeviceInfo, EngineInfo, Environment, MemorySample, ModelShape,
        ModelSource, ModelSpec, ReferenceSample, ToolInfo, Workload,
    };

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
    fn marks_on_a_device_are_taken_out_of_its_times() {
        let samples = [
            sample(1000, true, false),
            sample(800, false, false),
            sample(1000, true, false),
            sample(9000, false, true),
        ];
        assert_eq!(distortion(SpanClock::Events, &samples), 0.8);
        assert_eq!(distortion(SpanClock::Synchronised, &samples), 0.8);
        assert_eq!(distortion(SpanClock::Host, &samples), 1.0);
        assert_eq!(distortion(SpanClock::Events, &samples[..1]), 1.0);
    }

    #[test]
    fn a_load_is_contended_by_the_best_of_its_own_session() {
        let line = |session: &str, sequence: u32, rates: &[f64]| {
            let mut m = measurement();
            (m.session, m.sequence) = (session.into(), sequence);
            m.reference = rates
                .iter()
                .map(|r| ReferenceSample {
                    stream_bytes_per_second: 1.0,
                    matmul_flop_per_second: *r,
                })
                .collect();
            m
        };
        let lines = [
            line("a", 0, &[600.0, 590.0]),
            line("a", 1, &[600.0, 100.0]),
            line("a", 2, &[580.0, 610.0]),
            line("b", 0, &[100.0, 110.0]),
            line("b", 1, &[105.0, 110.0]),
        ];
        let lines: Vec<&Measurement> = lines.iter().collect();
        assert_eq!(contended_loads(&lines), BTreeSet::from([("a", 1)]));
        let (kept, n_left_out) = without_contended(&lines[..3], &contended_loads(&lines));
        assert_eq!((kept.len(), n_left_out), (2, 1));
        let (kept, n_left_out) = without_contended(&lines[1..2], &contended_loads(&lines));
        assert_eq!((kept.len(), n_left_out), (1, 0));
    }

    #[test]
    fn models_of_one_name_but_other_shapes_are_apart() {
        let mut other = measurement();
        other.model.shape.n_layers += 1;
        assert_eq!(configurations(&[&measurement(), &other, &measurement()]).len(), 2);
    }

    /// A line as a file holds it.
    fn measurement() -> Measurement {
        Measurement {
            schema_version: foretoken_spec::SCHEMA_VERSION,
            tool: ToolInfo {
                version: String::new(),
                profile: String::new(),
                target: String::new(),
                target_features: String::new(),
            },
            time: String::new(),
            session: "s".into(),
            sequence: 0,
            load: 0,
            device: DeviceInfo {
                id: "d".into(),
                backend: Backend::Cpu,
                name: String::new(),
                arch: String::new(),
                isa: vec![],
                physical_cores: 1,
                logical_cores: 1,
                l3_bytes: None,
                memory_bytes: 1,
                os: String::new(),
                hypervisor: None,
                host: None,
            },
            engine: EngineInfo { name: "candle".into(), version: String::new() },
            threads: 1,
            allocator: Allocator::Kept,
            sampling: Sampling::Temperature,
            model: ModelSpec::from_shape("m", "f", "q", ModelSource::Mini, shape(), |_, _| {
                TensorType::F32
            })
            .record(),
            workload: Workload { prompt_tokens: 8, generated_tokens: 0, depth: 0 },
            load_ns: 1,
            cold_load: None,
            energy: None,
            warmup: vec![],
            prefill: vec![sample(10, false, false)],
            decode: vec![],
            kernels: vec![],
            span_clock: SpanClock::Host,
            memory: MemorySample {
                rss_before_bytes: None,
                rss_loaded_bytes: None,
                peak_rss_bytes: None,
                available_bytes: None,
                device: None,
            },
            environment: Environment::default(),
            reference: vec![],
            warnings: vec![],
        }
    }

    fn shape() -> ModelShape {
        ModelShape {
            architecture: "llama".into(),
            n_layers: 1,
            hidden_size: 32,
            n_heads: 1,
            n_kv_heads: 1,
            head_dim: 32,
            intermediate_size: 32,
            vocab_size: 32,
            context_length: 32,
            tied_embeddings: true,
            rope_freqs: false,
            rope_freq_base: 1.0,
            rms_norm_eps: 1.0,
            details: foretoken_spec::ShapeDetails::default(),
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
