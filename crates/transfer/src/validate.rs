//! Devices left out, one after the other, and predicted from their data sheets and a few of their
//! rows.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_spec::{
    DeviceBackend, HoldOut, LeftOutRows, Phase, SCHEMA_VERSION, Tier, ValidationCase,
    ValidationReport,
};
use foretoken_stats::SplitMix64;

use crate::TransferError;
use crate::baselines::Baselines;
use crate::by_device::{device_errors, repeats};
use crate::by_group::{engine_groups, groups};
use crate::machine::Machine;
use crate::model::{CrossDevice, n_rows, reasons};
use crate::predictor::{DevicePredictor, Prepared, Transfer};
use crate::rows::{Observation, Store, thin};
use crate::task::tag;
use crate::undated::{ask_undated, undated_errors};

/// Rows of the held-out device that are given.
pub(crate) const GIVEN: [usize; 4] = [0, 1, 3, 5];
/// A nearest known device beyond this distance is no neighbour.
const FAR: f64 = 0.6;

/// A case with what its device's row is made of.
pub(crate) struct Judged {
    /// The case; its device, engine and backend are told.
    pub case: ValidationCase,
    /// Index of the machine in the store.
    pub machine: usize,
    /// Who measured it.
    pub source: String,
    /// The known device that is most like it, and how far it is.
    pub nearest: Option<(String, f64)>,
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
    let mut undated = Vec::new();
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
                undated.extend(ask_undated(&out, machine, phase, &rows)?);
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
    let left_out: Vec<LeftOutRows> = store
        .left_out
        .iter()
        .map(|(reason, rows)| LeftOutRows { reason: reason.clone(), rows: *rows })
        .collect();
    for LeftOutRows { reason, rows } in &left_out {
        warnings.push(format!("{} left out: {reason}", n_rows(*rows)));
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
        engines: engine_groups(&judged, &noise),
        devices: device_errors(&judged, &noise),
        undated: undated_errors(&undated),
        cases: judged.into_iter().map(|j| j.case).collect(),
        left_out,
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
        judged.push(case(machine, o, &answer, None, &baselines));
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
                let alone = out.answer(&blind, &o.setup, &o.model, &o.work);
                let given = Some((given, alone.ms.point));
                judged.push(case(machine, o, &answer, given, &baselines));
            }
        }
    }
    Ok(())
}

/// `given`: rows of the device that were given, and what its data sheet alone foretells.
fn case(
    machine: &Machine,
    o: &Observation,
    answer: &Transfer,
    given: Option<(usize, f64)>,
    baselines: &Baselines<'_>,
) -> Judged {
    let point = o.point_on(machine);
    let (given, spec_only_ms) = given.map_or((0, None), |(given, ms)| (given, Some(ms)));
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
        engine: Some(o.setup.engine.clone()),
        threads: o.setup.threads,
        model: o.model.name.clone(),
        quant: o.model.quant.clone(),
        phase: o.work.phase,
        n_tokens: o.work.n_tokens as u32,
        kv_len: o.work.depth.round() as u32,
        loads: o.rows,
        observed_ms: o.ms(),
        predicted_ms: answer.ms.point,
        spec_only_ms,
        lower_ms: answer.ms.lower,
        upper_ms: answer.ms.upper,
        error: answer.ms.point / o.ms() - 1.0,
        noise: None,
        tier: if given > 0 { Tier::MeasuredRows } else { answer.tier },
        extrapolation: if far { vec!["no known device is near".into()] } else { Vec::new() },
        reason: format!("{}{threads}; near it: {}", o.setup.engine, named.join(", ")),
        baselines: baselines
            .predict(machine, o, &point)
            .into_iter()
            .map(|(name, seconds)| (name, in_ms(seconds)))
            .collect(),
    };
    let nearest = nearest.map(|n| (n.id.clone(), n.distance));
    Judged { case, machine: o.machine, source: o.source.clone(), nearest }
}
