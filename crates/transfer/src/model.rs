//! The cross-device model: the file that ships, and what it predicts.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_spec::{DeviceBackend, DeviceSpec, Estimate, Phase, Tier};
use ndarray::Array1;
use serde::{Deserialize, Serialize};

use crate::dates::{BuildDate, BuildDates};
use crate::domain::{INTERVAL_LEVEL, N_FOLDS, NORMAL_90, Sample, belongs, interval_scale, kin};
use crate::error::TransferError;
use crate::facts::ModelFacts;
use crate::kernel::Effects;
use crate::machine::{Machine, Processor, assumptions};
use crate::process::Posterior;
use crate::rows::{Observation, Store, thin};
use crate::task::{Point, Setup, Work, machine_names};
use crate::tune::tune;

/// Version of the file.
pub const MODEL_VERSION: u32 = 1;
/// Most measurements of one device, backend, engine and phase that the model keeps.
pub const MOST_PER_DEVICE: usize = 20;
/// Known devices that a prediction names.
const N_NEAREST: usize = 3;
/// Factor on the width of the intervals for each thing that the data sheet does not tell: a guess.
const WIDER_BY_ASSUMPTION: f64 = 1.3;
/// What is fitted apart.
const DOMAINS: [(Processor, Phase); 4] = [
    (Processor::Cpu, Phase::Prefill),
    (Processor::Cpu, Phase::Decode),
    (Processor::Gpu, Phase::Prefill),
    (Processor::Gpu, Phase::Decode),
];

/// All known devices, what was measured on them, and how much they have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrossDevice {
    /// See [`MODEL_VERSION`].
    pub version: u32,
    /// Version of the program that made it.
    pub tool: String,
    /// Files that it was made from.
    pub data: Vec<String>,
    /// Rows that were read, rows that are behind the model, and the others by reason.
    pub rows: RowCount,
    /// Nominal coverage of the intervals.
    pub interval_level: f64,
    /// The machines.
    pub machines: Vec<Machine>,
    /// The models that were measured.
    pub models: Vec<ModelFacts>,
    /// Who measured.
    pub sources: Vec<String>,
    /// A mixed model for each processor and phase.
    pub domains: Vec<Domain>,
}

/// What became of the rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RowCount {
    /// Rows that were read.
    pub read: u32,
    /// Rows that the model may know, before each device was limited.
    pub usable: u32,
    /// Configurations that it keeps.
    pub kept: u32,
    /// Rows that were left out, by reason.
    pub left_out: BTreeMap<String, u32>,
}

/// A mixed model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Domain {
    /// Processor.
    pub processor: Processor,
    /// Phase.
    pub phase: Phase,
    /// Names of the coordinates of a machine.
    pub machine_coordinates: Vec<String>,
    /// Sizes of the effects, chosen on all devices.
    pub fitted: Fitted,
    /// The same, each chosen without a part of the devices; validation judges these devices by it.
    pub folds: Vec<Fold>,
    /// What was measured.
    pub rows: Vec<Row>,
}

/// Sizes of effects and what their intervals lack.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// Sizes of the effects.
    pub effects: Effects,
    /// Factor on the intervals of a prediction from the data sheet, from left-out devices.
    pub interval_scale: f64,
    /// The same where three or four rows of the device are known, from left-out devices with three
    /// given rows; in older files for every number of rows.
    pub interval_scale_observed: f64,
    /// The same of one or two rows, from left-out devices with one given row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_scale_one_row: Option<f64>,
    /// The same of five rows and more, from left-out devices with five given rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_scale_five_rows: Option<f64>,
}

impl Fitted {
    /// Factor on the intervals where so many rows of the device are known.
    fn scale(&self, known_rows: u32) -> f64 {
        let observed = self.interval_scale_observed;
        match known_rows {
            0 => self.interval_scale,
            1 | 2 => self.interval_scale_one_row.unwrap_or(observed),
            3 | 4 => observed,
            _ => self.interval_scale_five_rows.unwrap_or(observed),
        }
    }
}

/// Sizes of effects that some devices had no part in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fold {
    /// Ids of the devices that were kept out.
    pub devices: Vec<String>,
    /// What was chosen without them.
    pub fitted: Fitted,
}

/// A measurement; machine, model and source are indices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    machine: usize,
    model: usize,
    source: usize,
    setup: Setup,
    work: Work,
    seconds_per_token: f64,
    #[serde(default, skip_serializing_if = "is_zero")]
    rounding: f64,
    rows: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// A device that is known and how alike it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Id.
    pub id: String,
    /// 0: the same machine as far as its data sheet tells; 1: nothing in common but physics.
    pub distance: f64,
}

/// A prediction for a device that was not measured, or hardly.
#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    /// Time of the prompt's pass, or of a step, in ms.
    pub ms: Estimate,
    /// Tokens per second.
    pub tokens_per_second: Estimate,
    /// What it stands on.
    pub tier: Tier,
    /// The known devices that it leans on most, nearest first.
    pub nearest: Vec<Neighbour>,
    /// Measurements of this very device behind it, those that the model holds among them.
    pub observed: u32,
    /// Share of the floor: time that physics allows over the predicted time.
    pub efficiency: f64,
    /// When the build that it is of was made; `None` where no row is dated.
    pub build: Option<BuildDate>,
}

impl CrossDevice {
    /// Fits the model to a store.
    ///
    /// # Errors
    /// A store without usable measurements.
    pub fn fit(store: &Store, data: Vec<String>, tool: &str) -> Result<Self, TransferError> {
        let n_left: u32 = store.left_out.values().sum();
        let usable = u32::try_from(store.observations.len()).unwrap_or(u32::MAX);
        let kept = thin(store.medians(), MOST_PER_DEVICE);
        if kept.is_empty() {
            return Err(TransferError::Empty(reasons(&store.left_out)));
        }
        let mut this = Self {
            version: MODEL_VERSION,
            tool: tool.into(),
            data,
            rows: RowCount {
                read: usable + n_left,
                usable,
                kept: u32::try_from(kept.len()).unwrap_or(u32::MAX),
                left_out: store.left_out.clone(),
            },
            interval_level: INTERVAL_LEVEL,
            machines: store.machines.clone(),
            models: Vec::new(),
            sources: Vec::new(),
            domains: Vec::new(),
        };
        for (processor, phase) in DOMAINS {
            let of_domain: Vec<&Observation> =
                kept.iter().filter(|o| belongs(o, &store.machines, processor, phase)).collect();
            if of_domain.is_empty() {
                continue;
            }
            let rows = of_domain.iter().map(|o| this.row(o)).collect();
            let sample = Sample::new(&of_domain, &store.machines);
            let fold_of = sample.folds(&store.machines);
            let mut folds = Vec::new();
            for fold in 0..N_FOLDS {
                let without = sample.only(|g| fold_of[g] != fold);
                let out = sample.groups.iter().zip(&fold_of).filter(|(_, f)| **f == fold);
                let ids = out.flat_map(|(group, _)| {
                    group.iter().map(|&i| store.machines[sample.machines[i]].id.clone())
                });
                let devices: BTreeSet<String> = ids.collect();
                if devices.is_empty() || without.groups.len() < 2 {
                    continue;
                }
                let devices = devices.into_iter().collect();
                folds.push(Fold { devices, fitted: fitted(&without) });
            }
            this.domains.push(Domain {
                processor,
                phase,
                machine_coordinates: machine_names(processor).iter().map(|n| (*n).into()).collect(),
                fitted: fitted(&sample),
                folds,
                rows,
            });
        }
        Ok(this)
    }

    /// Reads a model's file.
    ///
    /// # Errors
    /// Another version, or a damaged file.
    pub fn from_json(text: &str) -> Result<Self, TransferError> {
        let damaged = |e: serde_json::Error| TransferError::Damaged(e.to_string());
        let value: serde_json::Value = serde_json::from_str(text).map_err(damaged)?;
        let found = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found != u64::from(MODEL_VERSION) {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(TransferError::Version { found, expected: MODEL_VERSION });
        }
        let this: Self = serde_json::from_value(value).map_err(damaged)?;
        this.check()?;
        Ok(this)
    }

    /// The text of its file.
    ///
    /// # Errors
    /// Numbers that JSON cannot hold.
    pub fn to_json(&self) -> Result<String, TransferError> {
        serde_json::to_string_pretty(self).map_err(|e| TransferError::Damaged(e.to_string()))
    }

    /// Indices must exist and numbers must be positive: a prediction panics on nothing.
    fn check(&self) -> Result<(), TransferError> {
        for row in self.domains.iter().flat_map(|domain| &domain.rows) {
            let exist = row.machine < self.machines.len()
                && row.model < self.models.len()
                && row.source < self.sources.len();
            if !exist || row.seconds_per_token <= 0.0 || !row.seconds_per_token.is_finite() {
                let message = "a row names what is not listed, or has no time";
                return Err(TransferError::Damaged(message.into()));
            }
        }
        Ok(())
    }

    fn row(&mut self, o: &Observation) -> Row {
        let model = place(&mut self.models, &o.model);
        let source = place(&mut self.sources, &o.source);
        Row {
            machine: o.machine,
            model,
            source,
            setup: o.setup.clone(),
            work: o.work,
            seconds_per_token: o.seconds_per_token,
            rounding: o.rounding,
            rows: o.rows,
        }
    }

    /// Whether a device was measured for the model.
    pub fn knows(&self, device: &str) -> bool {
        self.rows().any(|row| self.machines[row.machine].id == device)
    }

    /// The machine that a row was measured on.
    pub fn machine_of(&self, row: &Row) -> &Machine {
        &self.machines[row.machine]
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.domains.iter().flat_map(|domain| &domain.rows)
    }

    fn observation(&self, row: &Row) -> Observation {
        Observation {
            machine: row.machine,
            setup: row.setup.clone(),
            model: self.models[row.model].clone(),
            work: row.work,
            seconds_per_token: row.seconds_per_token,
            rounding: row.rounding,
            source: self.sources[row.source].clone(),
            rows: row.rows,
        }
    }

    /// Engines that were measured on a backend in a phase.
    pub fn engines(&self, backend: DeviceBackend, phase: Phase) -> BTreeSet<&str> {
        self.rows()
            .filter(|row| row.setup.backend == backend && row.work.phase == phase)
            .map(|row| row.setup.engine.as_str())
            .collect()
    }

    /// A predictor for one device, which may be known or new.
    ///
    /// # Errors
    /// A backend that is not modelled, or figures of the device that are missing.
    pub fn device(
        &self,
        spec: &DeviceSpec,
        backend: DeviceBackend,
    ) -> Result<DevicePredictor<'_>, TransferError> {
        let assumed = assumptions(spec, backend);
        Ok(DevicePredictor { assumed, ..self.predictor(Machine::new(spec, backend)?) })
    }

    /// Predicts one time from a data sheet alone.
    ///
    /// # Errors
    /// As [`CrossDevice::device`] and [`DevicePredictor::predict`].
    pub fn predict(
        &self,
        spec: &DeviceSpec,
        setup: &Setup,
        model: &ModelFacts,
        work: &Work,
    ) -> Result<Transfer, TransferError> {
        self.device(spec, setup.backend)?.predict(setup, model, work)
    }

    /// A predictor for a machine with all that is known.
    pub(crate) fn predictor(&self, machine: Machine) -> DevicePredictor<'_> {
        let (observed, assumed) = (Vec::new(), Vec::new());
        DevicePredictor { model: self, machine, observed, assumed, is_held_out: false }
    }

    /// A predictor that has never seen the device nor its twins, if they are known.
    pub(crate) fn without(&self, machine: Machine) -> DevicePredictor<'_> {
        DevicePredictor { is_held_out: true, ..self.predictor(machine) }
    }
}

fn place<T: Clone + PartialEq>(list: &mut Vec<T>, item: &T) -> usize {
    list.iter().position(|other| other == item).unwrap_or_else(|| {
        list.push(item.clone());
        list.len() - 1
    })
}

/// `1 row`, `2 rows`.
pub(crate) fn n_rows(n: u32) -> String {
    if n == 1 { "1 row".into() } else { format!("{n} rows") }
}

pub(crate) fn reasons(left_out: &BTreeMap<String, u32>) -> String {
    let all: Vec<String> =
        left_out.iter().map(|(why, n)| format!("{}: {why}", n_rows(*n))).collect();
    if all.is_empty() { "there are no rows".into() } else { all.join("; ") }
}

/// Factor on intervals where too few devices tell it.
const USUAL_SCALE: f64 = 1.5;

fn fitted(sample: &Sample) -> Fitted {
    let effects = tune(sample);
    let left_out = sample.left_out(&effects).ok();
    let scale = |given| {
        let scale = left_out.as_ref().map(|groups| interval_scale(sample, groups, given));
        scale.and_then(Result::ok).unwrap_or(USUAL_SCALE)
    };
    Fitted {
        effects,
        interval_scale: scale(0),
        interval_scale_observed: scale(3),
        interval_scale_one_row: Some(scale(1)),
        interval_scale_five_rows: Some(scale(5)),
    }
}

/// Predicts times of one device, from its data sheet and from what was observed on it.
#[derive(Debug, Clone)]
pub struct DevicePredictor<'a> {
    model: &'a CrossDevice,
    machine: Machine,
    observed: Vec<Observation>,
    /// What the data sheet does not tell.
    assumed: Vec<String>,
    /// Leave out what is known of the device and its twins.
    is_held_out: bool,
}

/// A predictor prepared for one phase.
#[derive(Debug, Clone)]
pub struct Prepared {
    points: Vec<Point>,
    posterior: Posterior,
    fitted: Fitted,
    /// Rows of the device itself among the points.
    own: u32,
}

impl DevicePredictor<'_> {
    /// What the model uses of the device.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What the data sheet does not tell and was assumed, each as a sentence; intervals are wider
    /// for it.
    pub fn assumed(&self) -> &[String] {
        &self.assumed
    }

    /// Measured rows of this very device that the model holds, of both phases.
    pub fn known_rows(&self) -> u32 {
        let is_own = |row: &&Row| {
            let other = &self.model.machines[row.machine];
            other.id == self.machine.id && other.processor == self.machine.processor
        };
        self.model.rows().filter(is_own).map(|row| row.rows).sum()
    }

    /// Takes note of a measured time on this device; 1 to 5 of them narrow the intervals a lot.
    pub fn observe(
        &mut self,
        setup: &Setup,
        model: &ModelFacts,
        work: &Work,
        seconds_per_token: f64,
    ) {
        self.observed.push(Observation {
            machine: 0,
            setup: setup.clone(),
            model: model.clone(),
            work: *work,
            seconds_per_token,
            rounding: 0.0,
            source: "observed".into(),
            rows: 1,
        });
    }

    /// Predicts one time.
    ///
    /// # Errors
    /// An engine that nobody measured on the backend, in [`TransferError::Engine`].
    pub fn predict(
        &self,
        setup: &Setup,
        model: &ModelFacts,
        work: &Work,
    ) -> Result<Transfer, TransferError> {
        self.check_engine(setup, work.phase)?;
        Ok(self.answer(&self.prepare(work.phase)?, setup, model, work))
    }

    fn is_hidden(&self, row: &Row) -> bool {
        let other = &self.model.machines[row.machine];
        self.is_held_out && (other.id == self.machine.id || other.is_twin(&self.machine))
    }

    fn domain(&self, phase: Phase) -> Result<&Domain, TransferError> {
        self.model
            .domains
            .iter()
            .find(|d| d.processor == self.machine.processor && d.phase == phase)
            .ok_or_else(|| {
                let what = format!("none of {} on this processor", phase.name());
                TransferError::Empty(what)
            })
    }

    /// Devices, twins as one, that were left out in turn to find how wide intervals of a phase are.
    pub fn interval_groups(&self, phase: Phase) -> u32 {
        let Ok(domain) = self.domain(phase) else { return 0 };
        let kin = kin(&self.model.machines);
        let groups: BTreeSet<usize> = domain.rows.iter().map(|row| kin[row.machine]).collect();
        groups.len() as u32
    }

    /// The machines of the model.
    pub(crate) fn machines(&self) -> &[Machine] {
        &self.model.machines
    }

    /// Dates of the builds that are known for a setup on a device of this kind, of both phases;
    /// engines on a backend that few devices have lean on wider groups.
    pub fn dates(&self, setup: &Setup) -> Option<BuildDates> {
        let machines = &self.model.machines;
        let processor = self.machine.processor;
        let domains = self.model.domains.iter().filter(|d| d.processor == processor);
        let rows = domains.flat_map(|d| &d.rows).filter(|row| !self.is_hidden(row));
        let dated: Vec<(&Row, f64)> = rows.filter_map(|r| Some((r, r.setup.year?))).collect();
        let of = |keep: &dyn Fn(&Row) -> bool| -> Vec<(usize, f64)> {
            dated.iter().filter(|(r, _)| keep(r)).map(|(r, year)| (r.machine, *year)).collect()
        };
        let backend = |row: &Row| row.setup.backend == setup.backend;
        let engine = |row: &Row| backend(row) && row.setup.engine == setup.engine;
        let kind = |row: &Row| engine(row) && machines[row.machine].kind == self.machine.kind;
        BuildDates::of(&[of(&kind), of(&engine), of(&backend), of(&|_| true)])
    }

    /// The setup with the date of its build resolved: nothing is extrapolated in time.
    fn dated(&self, setup: &Setup) -> (Setup, Option<BuildDate>) {
        let build = self.dates(setup).map(|dates| dates.resolve(setup.year));
        let year = build.map(|build| build.year).or(setup.year);
        (Setup { year, ..setup.clone() }, build)
    }

    /// A row of this device, its setup dated as predictions are.
    fn own_point(&self, o: &Observation) -> Point {
        let (setup, _) = self.dated(&o.setup);
        Observation { setup, ..o.clone() }.point_on(&self.machine)
    }

    /// What may be known of the others in a phase.
    pub(crate) fn known(&self, phase: Phase) -> Result<Vec<Observation>, TransferError> {
        let rows = self.domain(phase)?.rows.iter().filter(|row| !self.is_hidden(row));
        Ok(rows.map(|row| self.model.observation(row)).collect())
    }

    /// Takes note of a measured row with its source.
    pub(crate) fn observe_row(&mut self, o: &Observation) {
        self.observed.push(Observation { machine: 0, ..o.clone() });
    }

    /// Whether the engine was measured on the backend of another device, or on this one.
    ///
    /// # Errors
    /// It was not.
    pub fn check_engine(&self, setup: &Setup, phase: Phase) -> Result<(), TransferError> {
        let visible = self.domain(phase)?.rows.iter().filter(|row| !self.is_hidden(row));
        let engines: BTreeSet<&str> = visible
            .filter(|row| row.setup.backend == setup.backend)
            .map(|row| row.setup.engine.as_str())
            .chain(self.observed.iter().map(|o| o.setup.engine.as_str()))
            .collect();
        if engines.contains(setup.engine.as_str()) {
            return Ok(());
        }
        let known: Vec<&str> = engines.into_iter().collect();
        Err(TransferError::Engine {
            engine: setup.engine.clone(),
            backend: setup.backend.name().into(),
            known: if known.is_empty() { "none".into() } else { known.join(", ") },
        })
    }

    /// Conditions the model of a phase on all that may be known: worth keeping for many answers.
    ///
    /// # Errors
    /// Nothing was measured in this phase on this kind of processor, or a damaged model.
    pub fn prepare(&self, phase: Phase) -> Result<Prepared, TransferError> {
        let domain = self.domain(phase)?;
        let fitted = match self.is_held_out {
            true => self.blind(domain),
            false => domain.fitted,
        };
        let mut points = Vec::new();
        let mut values = Vec::new();
        let mut own = 0;
        let mut add = |point: Point, seconds: f64| {
            values.push((seconds / point.floor).ln());
            points.push(point);
        };
        for row in domain.rows.iter().filter(|row| !self.is_hidden(row)) {
            let o = self.model.observation(row);
            own += u32::from(self.model.machines[row.machine].id == self.machine.id);
            add(o.point(&self.model.machines), o.seconds_per_token);
        }
        for o in self.observed.iter().filter(|o| o.work.phase == phase) {
            own += 1;
            add(self.own_point(o), o.seconds_per_token);
        }
        let references: Vec<&Point> = points.iter().collect();
        let covariance = fitted.effects.matrix(&references);
        let posterior = Posterior::new(covariance, &Array1::from(values)).map_err(|row| {
            TransferError::Damaged(format!("measurement {} contradicts its effects", row.0))
        })?;
        Ok(Prepared { points, posterior, fitted, own })
    }

    /// Effects that were chosen without the device, or without a twin of it.
    fn blind(&self, domain: &Domain) -> Fitted {
        let machines = &self.model.machines;
        let kin = kin(machines);
        let is_kin = |id: &String| {
            let of = |wanted: &str| machines.iter().position(|m| m.id == wanted);
            *id == self.machine.id
                || of(id).zip(of(&self.machine.id)).is_some_and(|(a, b)| kin[a] == kin[b])
                || of(id).is_some_and(|a| machines[a].is_twin(&self.machine))
        };
        let fold = domain.folds.iter().find(|fold| fold.devices.iter().any(is_kin));
        fold.map_or(domain.fitted, |fold| fold.fitted)
    }

    /// Predicts one time with what [`DevicePredictor::prepare`] made.
    pub fn answer(
        &self,
        prepared: &Prepared,
        setup: &Setup,
        model: &ModelFacts,
        work: &Work,
    ) -> Transfer {
        let source = if self.observed.is_empty() { "" } else { "observed" };
        let (setup, build) = self.dated(setup);
        let point = Point::new(&self.machine, &setup, model, work, source);
        Transfer { build, ..self.answer_at(prepared, &point, work) }
    }

    /// Predicts the time of a row, as whoever measured it would.
    pub(crate) fn answer_row(&self, prepared: &Prepared, o: &Observation) -> Transfer {
        self.answer_at(prepared, &self.own_point(o), &o.work)
    }

    fn answer_at(&self, prepared: &Prepared, point: &Point, work: &Work) -> Transfer {
        let references: Vec<&Point> = prepared.points.iter().collect();
        let effects = &prepared.fitted.effects;
        let cross = effects.cross(point, &references);
        let (mean, variance) = prepared.posterior.at(&cross, effects.variance(point));
        let wider = WIDER_BY_ASSUMPTION.powi(self.assumed.len() as i32);
        let scale = prepared.fitted.scale(prepared.own);
        let half = NORMAL_90 * scale * wider * variance.sqrt();
        let seconds = |shift: f64| point.floor * (mean + shift).exp();
        let ms = |shift: f64| 1e3 * work.n_tokens * seconds(shift);
        Transfer {
            ms: Estimate {
                point: ms(0.0),
                lower: ms(-half),
                upper: ms(half),
                level: INTERVAL_LEVEL,
            },
            tokens_per_second: Estimate {
                point: 1.0 / seconds(0.0),
                lower: 1.0 / seconds(half),
                upper: 1.0 / seconds(-half),
                level: INTERVAL_LEVEL,
            },
            tier: if prepared.own > 0 { Tier::MeasuredRows } else { Tier::SpecSheet },
            nearest: nearest(point, prepared, self.model, &self.machine.id),
            observed: prepared.own,
            efficiency: (-mean).exp(),
            build: None,
        }
    }
}

/// The known devices whose smooth effects correlate most with the point's.
fn nearest(point: &Point, prepared: &Prepared, model: &CrossDevice, own: &str) -> Vec<Neighbour> {
    let mut likeness: BTreeMap<u64, f64> = BTreeMap::new();
    for other in &prepared.points {
        let value = prepared.fitted.effects.likeness(point, other);
        let best = likeness.entry(other.tags.device).or_insert(0.0);
        *best = best.max(value);
    }
    let names: BTreeMap<u64, &str> =
        model.machines.iter().map(|m| (crate::task::tag(&m.id), m.id.as_str())).collect();
    let mut all: Vec<Neighbour> = likeness
        .into_iter()
        .filter_map(|(tag, value)| {
            let id = names.get(&tag).filter(|id| **id != own)?;
            Some(Neighbour { id: (*id).into(), distance: (1.0 - value).clamp(0.0, 1.0) })
        })
        .collect();
    all.sort_by(|a, b| a.distance.total_cmp(&b.distance).then_with(|| a.id.cmp(&b.id)));
    all.truncate(N_NEAREST);
    all
}

#[cfg(test)]
mod tests;
