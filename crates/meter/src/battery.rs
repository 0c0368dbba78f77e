//! A battery that discharges: what it gives is what the whole machine takes.
//!
//! `/sys/class/power_supply/NAME` with `type` `Battery`: `power_now` in µW, or `current_now` in µA
//! times `voltage_now` in µV (<https://docs.kernel.org/power/power_supply_class.html>). On mains
//! the battery's power is not the machine's, so it is refused; `energy_now` moves too coarsely to
//! be of use.

use std::sync::Arc;
use std::time::Duration;

use crate::tree::{magnitude, text};
use crate::{Meter, MeterError, Reading, Source, Tree, Value};

const FOLDER: &str = "/sys/class/power_supply";
/// How often firmware renews the numbers, about: from memory, one to four seconds on laptops.
const RESOLUTION: Duration = Duration::from_secs(1);

/// The batteries of the machine, together.
#[derive(Debug)]
pub(crate) struct Battery {
    tree: Arc<dyn Tree>,
    batteries: Vec<String>,
    name: String,
}

impl Battery {
    /// # Errors
    /// No battery, or none that discharges.
    pub(crate) fn open(tree: &Arc<dyn Tree>) -> Result<Self, MeterError> {
        let batteries: Vec<String> =
            tree.list(FOLDER).into_iter().filter(|name| is_system(tree.as_ref(), name)).collect();
        if batteries.is_empty() {
            return Err(MeterError::Absent("no battery"));
        }
        let name = batteries.join(" + ");
        let mut battery = Self { tree: Arc::clone(tree), batteries, name };
        battery.read()?;
        Ok(battery)
    }

    /// Watts of one battery; 0 of one that rests while another works.
    fn watts(&self, name: &str) -> Result<f64, MeterError> {
        let tree = self.tree.as_ref();
        let file = |field: &str| format!("{FOLDER}/{name}/{field}");
        match magnitude(tree, &file("power_now")) {
            Ok(microwatts) => Ok(microwatts as f64 * 1e-6),
            Err(MeterError::Unreadable { .. }) => {
                let microamperes = magnitude(tree, &file("current_now"))?;
                let microvolts = magnitude(tree, &file("voltage_now"))?;
                Ok(microamperes as f64 * microvolts as f64 * 1e-12)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether this supply is a battery of the machine, and not of its mouse.
fn is_system(tree: &dyn Tree, name: &str) -> bool {
    let is = |field: &str, value: &str| {
        text(tree, &format!("{FOLDER}/{name}/{field}")).is_ok_and(|text| text == value)
    };
    is("type", "Battery") && !is("scope", "Device")
}

impl Meter for Battery {
    fn source(&self) -> Source {
        Source::Battery
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn read(&mut self) -> Result<Reading, MeterError> {
        let mut watts = 0.0;
        let mut resting = None;
        let mut discharges = false;
        for name in &self.batteries {
            let status = text(self.tree.as_ref(), &format!("{FOLDER}/{name}/status"))?;
            if status == "Discharging" {
                discharges = true;
                watts += self.watts(name)?;
            } else {
                resting = Some((name.clone(), status.to_lowercase()));
            }
        }
        match resting {
            Some((battery, status)) if !discharges => {
                Err(MeterError::NotDischarging { battery, status })
            }
            _ => Ok(Reading::now(Value::Watts(watts))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Recorded, watts};

    const STATUS: &str = "/sys/class/power_supply/BAT0/status";

    fn laptop() -> Arc<Recorded> {
        Recorded::of(include_str!("../fixtures/laptop-battery.tree"))
    }

    #[test]
    fn power_is_current_times_voltage_where_it_is_not_told() {
        let tree = laptop();
        let mut battery = Battery::open(&tree.as_tree()).unwrap();
        assert_eq!(battery.name(), "BAT0");
        // 0.742 A · 11.58 V; the negative sign is how some firmware says discharging.
        assert!((watts(&mut battery) - 8.592_36).abs() < 1e-9);
        tree.set("/sys/class/power_supply/BAT0/power_now", "9100000");
        assert!((watts(&mut battery) - 9.1).abs() < 1e-9);
    }

    #[test]
    fn a_battery_on_mains_is_no_meter() {
        let tree = laptop();
        tree.set(STATUS, "Charging");
        let error = Battery::open(&tree.as_tree()).unwrap_err();
        assert_eq!(error.to_string(), "battery BAT0 is charging, not discharging");
        assert!(error.hint().unwrap().contains("unplug"));
    }

    #[test]
    fn a_machine_that_is_plugged_in_while_it_measures_stops_answering() {
        let tree = laptop();
        let mut battery = Battery::open(&tree.as_tree()).unwrap();
        tree.set(STATUS, "Full");
        assert!(matches!(battery.read(), Err(MeterError::NotDischarging { .. })));
    }

    #[test]
    fn the_battery_of_a_mouse_is_not_the_machine() {
        let tree = Recorded::of(
            "/sys/class/power_supply/hid-1/type = Battery\n\
             /sys/class/power_supply/hid-1/scope = Device\n\
             /sys/class/power_supply/hid-1/status = Discharging\n",
        );
        assert!(Battery::open(&tree.as_tree()).unwrap_err().is_absent());
    }
}
