//! Devices left out, one after the other, and predicted from their data sheets and a few of their
//! rows.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_spec::{
    BaselineError, DeviceBackend, GroupError, HoldOut, Phase, SCHEMA_VERSION, Tier, ValidationCase,
    ValidationReport,
};
use foretoken_stats::{ErrorInput, SplitMix64, half_split_difference, median, summarise};

use crate::TransferError;
use crate::baselines::Baselines;
use crate::domain::INTERVAL_LEVEL;
use crate::machine::Machine;
use crate::model::{CrossDevice, DevicePredictor, Prepared, Transfer, reasons};
use crate::rows::{Observation, Store, thin};
use crate::task::tag;

/// Rows of the held-out device that are given.
const GIVEN: [usize; 4] = [0, 1, 3, 5];
/// A nearest known device beyond this distance is no neighbour.
const FAR: f64 = 0.6;

/// A case with what its groups are made of.
struct Judged {
    case: ValidationCase,
    device: String,
}

/// Predicts every configuration of the store with its device left out of the model.
///
/// A device that the model knows is left out of it together with its twins, and judged with
/// effects that were chosen without it; one that it does not know is predicted as it is, never by
/// its neighbours in the same data. Rows of engines that no other device has on the backend cannot
/// be predicted; a warning counts them.
///
/// `most` limits the configurations of each device, backend, engine and phase that are judged, so
/// that no device decides the errors of its kind.
///
/// # Errors
/// A store without usable rows.
pub fn validate(
    model: &CrossDevice,
    store: &Store,
    most: Option<usize>,
    data: Vec<String>,
) -> Result<ValidationReport, TransferError> {
    let observations = thin(store.medians(), most.unwrap_or(usize::MAX));
    if observations.is_empty() {
        return Err(TransferError::Empty(reasons(&store.left_out)));
    }
    let noise = repeats(store);
    let mut judged = Vec::new();
    let mut refused: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut by_machine: BTreeMap<usize, Vec<&Observation>> = BTreeMap::new();
    for o in &observations {
        by_machine.entry(o.machine).or_default().push(o);
    }
    for (machine, rows) in by_machine {
        let machine = &store.machines[machine];
        let out = match model.knows(&machine.id) {
            true => model.without(machine.clone()),
            false => model.predictor(machine.clone()),
        };
        for phase in [Phase::Prefill, Phase::Decode] {
            let (rows, without_engine): (Vec<&Observation>, Vec<&Observation>) = rows
                .iter()
                .filter(|o| o.work.phase == phase)
                .partition(|o| out.check_engine(&o.setup, phase).is_ok());
            for o in without_engine {
                let what = format!("{} on {}", o.setup.engine, o.setup.backend);
                refused.entry(what).or_default().insert(&machine.id);
            }
            if !rows.is_empty() {
                judge(&out, machine, phase, &rows, &mut judged)?;
            }
        }
    }
    let mut warnings: Vec<String> = refused
        .into_iter()
        .map(|(what, devices)| {
            let names: Vec<&str> = devices.into_iter().collect();
            format!("no prediction for {what}: no other device has it ({})", names.join(", "))
        })
        .collect();
    for (reason, n) in &store.left_out {
        warnings.push(format!("{n} rows left out: {reason}"));
    }
    if judged.is_empty() {
        return Err(TransferError::Empty(warnings.join("; ")));
    }
    Ok(ValidationReport {
        schema_version: SCHEMA_VERSION,
        data,
        device: format!("{} machines, each left out", store.machines.len()),
        groups: groups(&judged, &noise),
        metrics: Vec::new(),
        cases: judged.into_iter().map(|j| j.case).collect(),
        warnings,
    })
}

/// All rows of one phase of a left-out machine, from its data sheet and from some of its rows.
fn judge(
    out: &DevicePredictor<'_>,
    machine: &Machine,
    phase: Phase,
    rows: &[&Observation],
    judged: &mut Vec<Judged>,
) -> Result<(), TransferError> {
    let known = out.known(phase)?;
    let references: Vec<&Observation> = known.iter().collect();
    let baselines = Baselines::new(references, out.machines());
    let blind = out.prepare(phase)?;
    for o in rows {
        let answer = out.answer(&blind, &o.setup, &o.model, &o.work);
        judged.push(case(machine, o, &answer, 0, &baselines));
    }
    let mut by_setup: BTreeMap<(DeviceBackend, &str), Vec<&Observation>> = BTreeMap::new();
    for &o in rows {
        by_setup.entry((o.setup.backend, &o.setup.engine)).or_default().push(o);
    }
    for ((backend, engine), mut rows) in by_setup {
        let name = format!("{}|{backend}|{engine}|{}", machine.id, phase.name());
        SplitMix64::new(tag(&name)).shuffle(&mut rows);
        for given in GIVEN.into_iter().skip(1) {
            if rows.len() <= given {
                continue;
            }
            let (seen, hidden) = rows.split_at(given);
            let mut with = out.clone();
            for o in seen {
                with.observe_row(o);
            }
            let prepared: Prepared = with.prepare(phase)?;
            for o in hidden {
                let answer = with.answer_row(&prepared, o);
                judged.push(case(machine, o, &answer, given, &baselines));
            }
        }
    }
    Ok(())
}

fn case(
    machine: &Machine,
    o: &Observation,
    answer: &Transfer,
    given: usize,
    baselines: &Baselines<'_>,
) -> Judged {
    let point = o.point_on(machine);
    let in_ms = |seconds: f64| 1e3 * seconds * o.work.n_tokens;
    let nearest = answer.nearest.first();
    let far = nearest.is_none_or(|n| n.distance > FAR);
    let named: Vec<String> =
        answer.nearest.iter().map(|n| format!("{} ({:.2})", n.id, n.distance)).collect();
    let threads = o.setup.threads.map_or(String::new(), |n| format!(", {n} threads"));
    let case = ValidationCase {
        hold_out: HoldOut::Device,
        group: Some(format!("{}/{}", machine.kind, o.setup.backend)),
        held_out: machine.id.clone(),
        rows: given as u32,
        model: o.model.name.clone(),
        quant: o.model.quant.clone(),
        phase: o.work.phase,
        n_tokens: o.work.n_tokens as u32,
        kv_len: o.work.depth.round() as u32,
        loads: o.rows,
        observed_ms: o.ms(),
        predicted_ms: answer.ms.point,
        lower_ms: answer.ms.lower,
        upper_ms: answer.ms.upper,
        error: answer.ms.point / o.ms() - 1.0,
        noise: None,
        tier: if given > 0 { Tier::SameDeviceClass } else { answer.tier },
        extrapolation: if far { vec!["no known device is near".into()] } else { Vec::new() },
        reason: format!("{}{threads}; near it: {}", o.setup.engine, named.join(", ")),
        baselines: baselines
            .predict(machine, o, &point)
            .into_iter()
            .map(|(name, seconds)| (name, in_ms(seconds)))
            .collect(),
    };
    Judged { device: machine.id.clone(), case }
}

/// Errors by rows given, phase, and kind and backend of the device; all of them first.
fn groups(judged: &[Judged], noise: &BTreeMap<(String, Phase), Vec<f64>>) -> Vec<GroupError> {
    let names: BTreeSet<Option<String>> = judged.iter().map(|j| j.case.group.clone()).collect();
    let mut groups = Vec::new();
    for name in std::iter::once(None).chain(names) {
        for given in GIVEN {
            for phase in [Phase::Prefill, Phase::Decode] {
                let of_group: Vec<&Judged> = judged
                    .iter()
                    .filter(|j| name.is_none() || j.case.group == name)
                    .filter(|j| j.case.rows as usize == given && j.case.phase == phase)
                    .collect();
                let floors: Vec<f64> = noise
                    .iter()
                    .filter(|((group, of), _)| {
                        *of == phase && name.as_ref().is_none_or(|n| n == group)
                    })
                    .flat_map(|(_, values)| values.iter().copied())
                    .collect();
                groups.extend(group(name.clone(), given, phase, &of_group, median(&floors)));
            }
        }
    }
    groups
}

fn group(
    name: Option<String>,
    given: usize,
    phase: Phase,
    judged: &[&Judged],
    noise_floor: Option<f64>,
) -> Option<GroupError> {
    let cases: Vec<&ValidationCase> = judged.iter().map(|j| &j.case).collect();
    let pair =
        |c: &&ValidationCase| ErrorInput { observed: c.observed_ms, predicted: c.predicted_ms };
    let summary = summarise(&cases.iter().map(pair).collect::<Vec<_>>())?;
    let inside = |c: &&&ValidationCase| (c.lower_ms..=c.upper_ms).contains(&c.observed_ms);
    let covered = cases.iter().filter(inside).count();
    let half = |c: &&ValidationCase| (c.upper_ms - c.lower_ms) / 2.0 / c.predicted_ms;
    let mut by_device: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for j in judged {
        by_device.entry(&j.device).or_default().push(j.case.error.abs());
    }
    let medians: Vec<f64> = by_device.values().filter_map(|errors| median(errors)).collect();
    Some(GroupError {
        hold_out: HoldOut::Device,
        group: name,
        rows: given as u32,
        phase,
        n: summary.n as u32,
        devices: Some(by_device.len() as u32),
        mdape: summary.mdape,
        mdape_by_device: median(&medians),
        mape: summary.mape,
        p90_ape: summary.p90_ape,
        max_ape: summary.max_ape,
        bias: summary.bias,
        within_10pct: summary.within_10pct,
        coverage: covered as f64 / summary.n as f64,
        interval_level: INTERVAL_LEVEL,
        interval_half_width: median(&cases.iter().map(half).collect::<Vec<_>>()).unwrap_or(0.0),
        noise_floor,
        baselines: baseline_errors(&cases),
    })
}

fn baseline_errors(cases: &[&ValidationCase]) -> BTreeMap<String, BaselineError> {
    let names: BTreeSet<&String> = cases.iter().flat_map(|c| c.baselines.keys()).collect();
    let of_name = |name: &String| {
        let pairs: Vec<ErrorInput> = cases
            .iter()
            .filter_map(|c| {
                let predicted = *c.baselines.get(name)?;
                Some(ErrorInput { observed: c.observed_ms, predicted })
            })
            .collect();
        let summary = summarise(&pairs)?;
        let error = BaselineError {
            n: summary.n as u32,
            mdape: summary.mdape,
            mape: summary.mape,
            p90_ape: summary.p90_ape,
            bias: summary.bias,
        };
        Some((name.clone(), error))
    };
    names.into_iter().filter_map(of_name).collect()
}

/// How far measurements of the same device, engine, model and length differ from each other: the
/// relative difference of two halves, with half a step of rounding where speeds were rounded.
fn repeats(store: &Store) -> BTreeMap<(String, Phase), Vec<f64>> {
    let mut same: BTreeMap<String, Vec<&Observation>> = BTreeMap::new();
    for o in &store.observations {
        let what = (&o.setup.engine, o.setup.backend, o.setup.threads, &o.model.name);
        let how = (&o.model.quant, o.work.phase.name(), o.work.n_tokens, o.work.depth.round());
        same.entry(format!("{}|{what:?}|{how:?}", o.machine)).or_default().push(o);
    }
    let mut floors: BTreeMap<(String, Phase), Vec<f64>> = BTreeMap::new();
    for group in same.into_values() {
        let seconds: Vec<f64> = group.iter().map(|o| o.seconds_per_token).collect();
        let rounding = group[0].rounding.sqrt();
        let differs = half_split_difference(&seconds);
        let Some(floor) = differs.or((rounding > 0.0).then_some(rounding)) else { continue };
        let kind = store.machines[group[0].machine].kind;
        let name = format!("{kind}/{}", group[0].setup.backend);
        floors.entry((name, group[0].work.phase)).or_default().push(floor.max(rounding));
    }
    floors
}
