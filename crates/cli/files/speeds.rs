//! Measured speeds of many devices, the data sheets beside them, and the model fitted to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use foretoken_devices::{find, read_device_file};
use foretoken_import::read_speed_rows;
use foretoken_spec::DeviceSpec;
use foretoken_transfer::{CrossDevice, ModelShapes, Store, TransferError};

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
        let lookup = |id: &str| own.get(id).or_else(|| find(id).ok()).cloned();
        Ok(Store::join(&rows, &lookup, &shapes(&self.data)?))
    }

    /// Their names, for the report.
    pub fn names(&self) -> Vec<String> {
        let files = self.data.iter().chain(&self.devices);
        files.map(|file| file.display().to_string()).collect()
    }
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
