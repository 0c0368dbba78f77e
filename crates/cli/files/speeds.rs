//! Measured speeds of many devices, the data sheets beside them, and the model fitted to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use foretoken_devices::{find, read_device_file};
use foretoken_import::read_speed_rows;
use foretoken_spec::{DeviceBackend, DeviceSpec, Phase, QuantScheme, SpeedPhase, SpeedRow};
use foretoken_transfer::{CrossDevice, ModelShapes, Store, TransferError};

use crate::commands::device_figures::check_figures;
use crate::files::{CROSS_DEVICE, calibration_folder, datasets_folder};
use crate::output::{Hinted, Output};

/// The model that ships with the program.
const SHIPPED: &str = include_str!("../../../calibration/cross-device.json");
/// Shapes of the models of the public store.
const SHAPES: &str = include_str!("../../../datasets/public/models.csv");

/// The committed store of public measurements.
pub fn public_store() -> PathBuf {
    datasets_folder().join("public").join("measurements.csv")
}

/// The model of the project, else the one that ships with the program.
///
/// # Errors
/// A damaged file, or one of another version.
pub fn cross_device() -> anyhow::Result<CrossDevice> {
    let path = calibration_folder().join(CROSS_DEVICE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(_) => SHIPPED.to_owned(),
    };
    CrossDevice::from_json(&text)
        .map_err(|error| Hinted::new(format!("{}: {error}", path.display()), error.hint()).into())
}

/// Files of speeds and of data sheets.
#[derive(Debug, Clone, Default)]
pub struct SpeedFiles {
    /// Measurements.
    pub data: Vec<PathBuf>,
    /// Data sheets of devices that the catalogue lacks.
    pub devices: Option<PathBuf>,
}

impl SpeedFiles {
    /// Reads and joins them. A device of the file comes before one of the catalogue with its name.
    ///
    /// # Errors
    /// Names file, line and field of what is wrong.
    pub fn read(&self, output: &Output) -> anyhow::Result<Store> {
        let mut own: BTreeMap<String, DeviceSpec> = BTreeMap::new();
        if let Some(path) = &self.devices {
            let file = read_device_file(path).map_err(crate::commands::devices::hinted)?;
            for warning in &file.warnings {
                output.warn(warning);
            }
            own.extend(file.devices.into_iter().map(|device| (device.id.clone(), device)));
        }
        let mut rows = Vec::new();
        for path in &self.data {
            if !path.is_file() {
                let message = format!("no measurements at {}", path.display());
                return Err(Hinted::new(message, "give --data FILE").into());
            }
            rows.extend(read_speed_rows(path)?);
        }
        let shapes = complete_models(&mut rows.iter_mut().collect::<Vec<_>>(), &self.data)?;
        let (rows, refused) = without_figures(rows, &own);
        let lookup = |id: &str| own.get(id).or_else(|| find(id).ok()).cloned();
        let mut store = Store::join(&rows, &lookup, &shapes);
        for reason in refused {
            *store.left_out.entry(reason).or_default() += 1;
        }
        Ok(store)
    }

    /// Their names, for the report.
    pub fn names(&self) -> Vec<String> {
        let files = self.data.iter().chain(&self.devices);
        files.map(|file| file.display().to_string()).collect()
    }
}

/// Leaves out rows of devices that `predict` would refuse for missing figures, and says why of each.
/// Devices of the store are not asked: rented machines among them have no bandwidth.
fn without_figures(
    rows: Vec<SpeedRow>,
    own: &BTreeMap<String, DeviceSpec>,
) -> (Vec<SpeedRow>, Vec<String>) {
    let mut refused = Vec::new();
    let kept = rows.into_iter().filter(|row| {
        let Some(device) = own.get(&row.device_id).filter(|_| row.is_usable()) else { return true };
        let backend = DeviceBackend::ALL.into_iter().find(|b| b.name() == row.backend);
        let phase = match row.phase {
            SpeedPhase::Prefill => Phase::Prefill,
            SpeedPhase::Decode => Phase::Decode,
            SpeedPhase::Mixed => return true,
        };
        let Some(backend) = backend else { return true };
        match check_figures(device, backend, &[phase]) {
            Ok(()) => true,
            Err(error) => {
                refused.push(error.message);
                false
            }
        }
    });
    (kept.collect(), refused)
}

/// Shapes of the models of rows. Rows that name a preset and not its size get it.
///
/// # Errors
/// A damaged `models.csv` beside the measurements.
pub fn complete_models(
    rows: &mut [&mut SpeedRow],
    data: &[PathBuf],
) -> anyhow::Result<ModelShapes> {
    let mut shapes = shapes(data)?;
    for row in rows {
        let Ok(preset) = foretoken_catalog::find(&row.model) else { continue };
        let model = preset.spec(QuantScheme::F16);
        shapes.add(&row.model, &model);
        if row.params_b.is_none() && row.model_params.is_none() {
            row.model_params = Some(model.n_parameters());
        }
    }
    Ok(shapes)
}

/// Shapes of models: those beside the measurements, where there are any, over the shipped ones.
fn shapes(data: &[PathBuf]) -> anyhow::Result<ModelShapes> {
    let mut shapes = ModelShapes::read(SHAPES, "models.csv").map_err(transfer_error)?;
    for path in data.iter().map(|file| file.with_file_name("models.csv")) {
        if path.is_file() {
            let name = path.display().to_string();
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
            shapes.extend(ModelShapes::read(&text, &name).map_err(transfer_error)?);
        }
    }
    Ok(shapes)
}

/// An error of the model with its remedy.
pub fn transfer_error(error: TransferError) -> anyhow::Error {
    Hinted::new(error.to_string(), error.hint()).into()
}
