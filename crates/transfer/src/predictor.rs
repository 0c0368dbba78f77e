//! Predictions of one device, known or new, by the [`CrossDevice`] model.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_spec::{Estimate, Phase, Tier};
use ndarray::Array1;
use serde::{Deserialize, Serialize};

use crate::dates::{BuildDate, BuildDates};
use crate::domain::{INTERVAL_LEVEL, NORMAL_90, kin};
use crate::error::TransferError;
use crate::facts::ModelFacts;
use crate::machine::Machine;
use crate::model::{CrossDevice, Domain, Fitted, Row};
use crate::process::Posterior;
use crate::rows::Observation;
use crate::task::{Point, Setup, Work};

/// Known devices that a prediction names.
const N_NEAREST: usize = 3;
/// Factor on the width of the intervals for each thing that the data sheet does not tell: a guess.
const WIDER_BY_ASSUMPTION: f64 = 1.3;

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
    pub(crate) fitted: Fitted,
    /// Rows of the device itself among the points.
    own: u32,
}

impl<'a> DevicePredictor<'a> {
    /// A predictor for a machine with all that the model knows.
    pub(crate) fn new(model: &'a CrossDevice, machine: Machine, assumed: Vec<String>) -> Self {
        Self { model, machine, observed: Vec::new(), assumed, is_held_out: false }
    }

    /// One that has never seen the device nor its twins, if they are known.
    pub(crate) fn held_out(self) -> Self {
        Self { is_held_out: true, ..self }
    }

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
