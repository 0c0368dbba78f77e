//! NVML: the energy counter of an NVIDIA graphics card, or its power where it has none.
//!
//! The library is NVIDIA's and comes with its driver; it is looked for when the program runs.
//! `nvmlDeviceGetTotalEnergyConsumption` counts millijoules since the driver was loaded (Volta and
//! later); `nvmlDeviceGetPowerUsage` is milliwatts, of newer cards the mean of the last second
//! (<https://docs.nvidia.com/deploy/nvml-api/>).

use std::time::Duration;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::{Meter, MeterError, Reading, Source, Value};

/// How often the counter is renewed, about: Yang et al., *Part-time Power Measurements*, 2023, saw
/// 20 to 100 ms.
const RESOLUTION: Duration = Duration::from_millis(100);

/// One card.
#[derive(Debug)]
pub(crate) struct Card {
    nvml: Nvml,
    place: Place,
    name: String,
    has_counter: bool,
}

/// Which card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first.
    First,
    /// The one at this PCI address.
    Pci(String),
}

impl Place {
    fn of<'a>(&self, nvml: &'a Nvml) -> Result<Device<'a>, NvmlError> {
        match self {
            Self::First => nvml.device_by_index(0),
            Self::Pci(address) => nvml.device_by_pci_bus_id(address.as_str()),
        }
    }
}

impl Card {
    /// # Errors
    /// No library, no such card, or one that tells neither energy nor power.
    pub(crate) fn open(place: Place) -> Result<Self, MeterError> {
        let nvml = Nvml::init().map_err(of_start)?;
        let (name, has_counter) = {
            let device = place.of(&nvml).map_err(failed)?;
            let name = device.name().unwrap_or_else(|_| "GPU".to_owned());
            let has_counter = device.total_energy_consumption().is_ok();
            if !has_counter {
                device.power_usage().map_err(failed)?;
            }
            (name, has_counter)
        };
        Ok(Self { nvml, place, name, has_counter })
    }
}

/// A machine without the library or without a card has no such meter: nothing is wrong with it.
fn of_start(error: NvmlError) -> MeterError {
    match error {
        NvmlError::LibloadingError(_)
        | NvmlError::LibraryNotFound
        | NvmlError::DriverNotLoaded
        | NvmlError::NotFound => MeterError::Absent("no NVIDIA driver"),
        other => failed(other),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: NvmlError) -> MeterError {
    MeterError::Nvml(error.to_string())
}

impl Meter for Card {
    fn source(&self) -> Source {
        Source::Nvml
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn read(&mut self) -> Result<Reading, MeterError> {
        let device = self.place.of(&self.nvml).map_err(failed)?;
        let value = if self.has_counter {
            Value::Joules(device.total_energy_consumption().map_err(failed)? as f64 * 1e-3)
        } else {
            Value::Watts(f64::from(device.power_usage().map_err(failed)?) * 1e-3)
        };
        Ok(Reading::now(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_the_driver_has_no_card() {
        let error = of_start(NvmlError::LibraryNotFound);
        assert!(error.is_absent());
        assert!(!of_start(NvmlError::NoPermission).is_absent());
    }
}
