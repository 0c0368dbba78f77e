//! Errors of each left-out device, and how far measurements of it differ from each other.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_spec::{DeviceError, Phase};
use foretoken_stats::{half_split_difference, median};

use crate::rows::{Observation, Store};
use crate::validate::Judged;

/// Measurements of one device, engine, number of threads, model and length.
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
    /// Relative difference of their two halves, at least half a step of their rounding.
    pub floor: f64,
    /// Slowest over fastest; `None` of a single one.
    pub spread: Option<f64>,
}

/// How far measurements of the same thing differ: of those that were repeated or rounded.
pub(crate) fn repeats(store: &Store) -> Vec<Repeat> {
    let mut same: BTreeMap<String, Vec<&Observation>> = BTreeMap::new();
    for o in &store.observations {
        let what = (&o.setup.engine, o.setup.backend, o.setup.threads, &o.model.name);
        let how = (&o.model.quant, o.work.phase.name(), o.work.n_tokens, o.work.depth.round());
        same.entry(format!("{}|{what:?}|{how:?}", o.machine)).or_default().push(o);
    }
    same.into_values().filter_map(|group| repeat(store, &group)).collect()
}

fn repeat(store: &Store, group: &[&Observation]) -> Option<Repeat> {
    let first = group.first()?;
    let seconds: Vec<f64> = group.iter().map(|o| o.seconds_per_token).collect();
    let rounding = first.rounding.sqrt();
    let floor = half_split_difference(&seconds).or((rounding > 0.0).then_some(rounding))?;
    let (least, most) = seconds.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), s| {
        (least.min(*s), most.max(*s))
    });
    Some(Repeat {
        machine: first.machine,
        group: format!("{}/{}", store.machines[first.machine].kind, first.setup.backend),
        engine: first.setup.engine.clone(),
        phase: first.work.phase,
        floor: floor.max(rounding),
        spread: (group.len() > 1 && least > 0.0).then(|| most / least),
    })
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
    let floors: Vec<f64> = repeats.iter().map(|repeat| repeat.floor).collect();
    let nearest = judged
        .iter()
        .filter_map(|j| j.nearest.as_ref())
        .min_by(|a, b| a.1.total_cmp(&b.1));
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
