//! Errors of each left-out device, and how far measurements of it differ from each other.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_spec::{DeviceError, Phase};
use foretoken_stats::{half_split_difference, median};

use crate::rows::{Observation, Store, configuration};
use crate::validate::Judged;

/// Measurements of one device, engine, number of threads, model, length and micro-batch; builds and
/// posters may differ.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Repeat {
    /// Index of the machine.
    pub machine: usize,
    /// Kind and backend (`gpu/cuda`).
    pub group: String,
    /// Engine.
    pub engine: String,
    /// Phase.
    pub phase: Phase,
    /// Of each configuration that one source measured: relative difference of the two halves, at
    /// least half a step of their rounding.
    pub floors: Vec<f64>,
    /// Relative differences between the medians of each two sources.
    pub between_posters: Vec<f64>,
    /// Slowest over fastest, whoever measured; `None` of a single one.
    pub spread: Option<f64>,
}

/// How far measurements of the same thing differ: of those that were repeated or rounded.
pub(crate) fn repeats(store: &Store) -> Vec<Repeat> {
    let mut same: BTreeMap<String, Vec<Made<'_>>> = BTreeMap::new();
    for (i, o) in store.observations.iter().enumerate() {
        let making = store.makings.get(i).map_or("", String::as_str);
        let what = (&o.setup.engine, o.setup.backend, o.setup.threads, &o.model.name);
        let how = (&o.model.quant, o.work.phase.name(), o.work.n_tokens, o.work.depth.round());
        // A prompt in small micro-batches is no repeat of one in large ones.
        let micro_batch = o.setup.micro_batch;
        let key = format!("{}|{what:?}|{how:?}|{micro_batch:?}", o.machine);
        same.entry(key).or_default().push((o, making));
    }
    let repeats = same.into_values().filter_map(|group| repeat(store, &group));
    repeats.filter(|r| r.spread.is_some() || !r.floors.is_empty()).collect()
}

/// A measurement with what else is told of how it was made.
type Made<'a> = (&'a Observation, &'a str);

fn repeat(store: &Store, group: &[Made<'_>]) -> Option<Repeat> {
    let (first, _) = group.first()?;
    let seconds: Vec<f64> = group.iter().map(|(o, _)| o.seconds_per_token).collect();
    let mut alike: BTreeMap<String, Vec<&Observation>> = BTreeMap::new();
    let mut posters: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (o, making) in group {
        alike.entry(format!("{}|{making}", configuration(o))).or_default().push(o);
        posters.entry(&o.source).or_default().push(o.seconds_per_token);
    }
    let medians: Vec<f64> = posters.values().filter_map(|seconds| median(seconds)).collect();
    let (least, most) = seconds
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(least, most), s| (least.min(*s), most.max(*s)));
    Some(Repeat {
        machine: first.machine,
        group: format!("{}/{}", store.machines[first.machine].kind, first.setup.backend),
        engine: first.setup.engine.clone(),
        phase: first.work.phase,
        floors: alike.values().filter_map(|repeats| noise_floor(repeats)).collect(),
        between_posters: differences(&medians),
        spread: (group.len() > 1 && least > 0.0).then(|| most / least),
    })
}

/// Of measurements of one configuration by one source; `None` of a single one that is not rounded.
fn noise_floor(repeats: &[&Observation]) -> Option<f64> {
    let seconds: Vec<f64> = repeats.iter().map(|o| o.seconds_per_token).collect();
    let rounding = repeats.first()?.rounding.sqrt();
    let floor = half_split_difference(&seconds).or((rounding > 0.0).then_some(rounding))?;
    Some(floor.max(rounding))
}

/// Relative difference of each two values.
fn differences(values: &[f64]) -> Vec<f64> {
    let of = |(i, a): (usize, &f64)| {
        let a = *a;
        values[i + 1..].iter().map(move |b| 2.0 * (a - b).abs() / (a + b)).collect::<Vec<_>>()
    };
    values.iter().enumerate().flat_map(of).collect()
}

/// Errors from data sheets alone, the device with the largest median first.
pub(crate) fn device_errors(judged: &[Judged], noise: &[Repeat]) -> Vec<DeviceError> {
    let mut by_device: BTreeMap<(usize, &str, &str, Phase), Vec<&Judged>> = BTreeMap::new();
    for j in judged.iter().filter(|j| j.case.rows == 0) {
        let group = j.case.group.as_deref().unwrap_or_default();
        let engine = j.case.engine.as_deref().unwrap_or_default();
        by_device.entry((j.machine, group, engine, j.case.phase)).or_default().push(j);
    }
    let mut errors: Vec<DeviceError> = by_device
        .into_iter()
        .filter_map(|((machine, group, engine, phase), cases)| {
            let of_device = |repeat: &&Repeat| {
                (repeat.machine, repeat.group.as_str(), repeat.engine.as_str(), repeat.phase)
                    == (machine, group, engine, phase)
            };
            let repeats: Vec<&Repeat> = noise.iter().filter(of_device).collect();
            device_error(&cases, &repeats)
        })
        .collect();
    errors.sort_by(|a, b| b.mdape.total_cmp(&a.mdape));
    errors
}

fn device_error(judged: &[&Judged], repeats: &[&Repeat]) -> Option<DeviceError> {
    let first = judged.first()?;
    let (kind, backend) = first.case.group.as_deref()?.split_once('/')?;
    let signed: Vec<f64> = judged.iter().map(|j| j.case.error).collect();
    let absolute: Vec<f64> = signed.iter().map(|error| error.abs()).collect();
    let sources: BTreeSet<&str> = judged.iter().map(|j| j.source.as_str()).collect();
    let inside = judged
        .iter()
        .filter(|j| (j.case.lower_ms..=j.case.upper_ms).contains(&j.case.observed_ms))
        .count();
    let floors: Vec<f64> = repeats.iter().flat_map(|repeat| &repeat.floors).copied().collect();
    let nearest =
        judged.iter().filter_map(|j| j.nearest.as_ref()).min_by(|a, b| a.1.total_cmp(&b.1));
    Some(DeviceError {
        device: first.case.held_out.clone(),
        kind: kind.to_owned(),
        backend: backend.to_owned(),
        engine: first.case.engine.clone()?,
        phase: first.case.phase,
        n: judged.len() as u32,
        measured_rows: judged.iter().map(|j| j.case.loads).sum(),
        sources: sources.len() as u32,
        mdape: median(&absolute)?,
        bias: median(&signed)?,
        coverage: inside as f64 / judged.len() as f64,
        noise_floor: median(&floors),
        spread: repeats.iter().filter_map(|repeat| repeat.spread).reduce(f64::max),
        nearest: nearest.map(|(id, _)| id.clone()),
        distance: nearest.map(|(_, distance)| *distance),
    })
}

#[cfg(test)]
mod tests {
    use foretoken_spec::{DeviceBackend, DeviceKind, DeviceSpec};

    use super::*;
    use crate::machine::Machine;
    use crate::{ModelFacts, Setup, Work};

    fn store(rows: &[(&str, Option<bool>, f64)]) -> Store {
        let spec = DeviceSpec {
            mem_bandwidth_gbps: Some(500.0),
            peak_fp32_tflops: Some(20.0),
            ..DeviceSpec::named("card", "Card", DeviceKind::Gpu)
        };
        let model = ModelFacts {
            name: "m".into(),
            quant: "Q4_0".into(),
            total_bytes: 4e9,
            step_bytes: 4e9,
            active_params: 7e9,
            n_layers: 32.0,
            attention_width: 4096.0,
            kv_bytes_per_token: 1e5,
            widths: None,
        };
        let observation = |(source, flash_attention, seconds): &(&str, Option<bool>, f64)| {
            let setup = Setup::new("llama.cpp", DeviceBackend::Cuda);
            Observation {
                machine: 0,
                setup: Setup { flash_attention: *flash_attention, ..setup },
                model: model.clone(),
                work: Work::decode(64.0),
                seconds_per_token: *seconds,
                rounding: 0.0,
                source: (*source).to_owned(),
                rows: 1,
            }
        };
        Store {
            machines: vec![Machine::new(&spec, DeviceBackend::Cuda).unwrap()],
            observations: rows.iter().map(observation).collect(),
            makings: Vec::new(),
            left_out: BTreeMap::new(),
        }
    }

    #[test]
    fn other_settings_and_other_posters_are_no_noise() {
        // One poster, twice with and twice without flash attention; another one once.
        let repeats = repeats(&store(&[
            ("a", Some(true), 0.10),
            ("a", Some(false), 0.20),
            ("a", Some(true), 0.11),
            ("a", Some(false), 0.20),
            ("b", None, 0.30),
        ]));
        assert_eq!(repeats.len(), 1);
        let mut floors = repeats[0].floors.clone();
        floors.sort_by(f64::total_cmp);
        // 0.01 of 0.105, and nothing; not the factor of two between settings.
        assert_eq!(floors.len(), 2);
        assert!(floors[0] == 0.0 && (floors[1] - 0.01 / 0.105).abs() < 1e-12);
        // The median of the first poster is 0.155: 0.145 of 0.2275.
        let expected = 0.145 / 0.2275;
        assert_eq!(repeats[0].between_posters.len(), 1);
        assert!((repeats[0].between_posters[0] - expected).abs() < 1e-12);
        assert!((repeats[0].spread.unwrap() - 3.0).abs() < 1e-12);
    }

    #[test]
    fn another_build_of_the_same_poster_is_no_repeat() {
        // A pull request: before, after, after again.
        let rows = [("a", None, 0.30), ("a", None, 0.10), ("a", None, 0.10)];
        let makings = ["b100", "b101", "b101"].map(str::to_owned).to_vec();
        let repeats = repeats(&Store { makings, ..store(&rows) });
        assert_eq!(repeats[0].floors, [0.0]);
    }

    #[test]
    fn what_was_measured_once_tells_no_noise() {
        assert_eq!(repeats(&store(&[("a", None, 0.1)])), []);
        let twice = repeats(&store(&[("a", None, 0.1), ("b", None, 0.1)]));
        assert_eq!((twice[0].floors.len(), twice[0].between_posters.as_slice()), (0, &[0.0][..]));
    }
}
