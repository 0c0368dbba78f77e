//! The cross-device model: the file that ships, and how it is fitted.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_spec::{DeviceBackend, DeviceSpec, Phase};
use serde::{Deserialize, Serialize};

use crate::domain::{INTERVAL_LEVEL, N_FOLDS, Sample, belongs, interval_scale};
use crate::error::TransferError;
use crate::facts::ModelFacts;
use crate::kernel::Effects;
use crate::machine::{Machine, Processor, assumptions};
use crate::predictor::{DevicePredictor, Transfer};
use crate::rows::{Observation, Store, thin};
use crate::task::{Setup, Work, machine_names};
use crate::tune::tune;

/// Version of the file.
pub const MODEL_VERSION: u32 = 1;
/// Most measurements of one device, backend, engine and phase that the model keeps.
pub const MOST_PER_DEVICE: usize = 20;
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
    pub(crate) fn scale(&self, known_rows: u32) -> f64 {
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
    pub(crate) machine: usize,
    model: usize,
    source: usize,
    pub(crate) setup: Setup,
    pub(crate) work: Work,
    seconds_per_token: f64,
    #[serde(default, skip_serializing_if = "is_zero")]
    rounding: f64,
    pub(crate) rows: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
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

    /// Rows of all domains.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.domains.iter().flat_map(|domain| &domain.rows)
    }

    /// A row with what its indices stand for.
    pub(crate) fn observation(&self, row: &Row) -> Observation {
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
        let machine = Machine::new(spec, backend)?;
        Ok(DevicePredictor::new(self, machine, assumptions(spec, backend)))
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
        DevicePredictor::new(self, machine, Vec::new())
    }

    /// A predictor that has never seen the device nor its twins, if they are known.
    pub(crate) fn without(&self, machine: Machine) -> DevicePredictor<'_> {
        self.predictor(machine).held_out()
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

#[cfg(test)]
mod tests;
