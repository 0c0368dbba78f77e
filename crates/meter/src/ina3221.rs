//! INA3221 power monitors: the rails of NVIDIA's Jetson boards.
//!
//! Two drivers tell them. NVIDIA's own of older kernels (up to JetPack 4) in
//! `/sys/bus/i2c/drivers/ina3221x/*/iio:device*`: `rail_name_N` and `in_powerN_input` in mW. The
//! kernel's (JetPack 5 and later) in `/sys/class/hwmon/hwmonN` with `name` `ina3221`: `inN_label`,
//! `inN_input` in mV and `currN_input` in mA.
//!
//! The board's input is the total where it is monitored (`VDD_IN`, `POM_5V_IN`): the other rails
//! are parts of it. AGX boards have no such rail, there the rails beside each other are summed.
//! `VDDQ_VDD2_1V8AO` of AGX Orin is fed from `VIN_SYS_5V0` and counts in that
//! (NVIDIA, *Jetson Linux Developer Guide*, Software-Based Power Consumption Modeling).

use std::sync::Arc;
use std::time::Duration;

use crate::tree::{count, text};
use crate::{Meter, MeterError, Reading, Source, Tree, Value};

const OLD_DRIVER: &str = "/sys/bus/i2c/drivers/ina3221x";
const HWMON: &str = "/sys/class/hwmon";
/// Rails that are the input of the whole module or board.
const TOTALS: [&str; 4] = ["VDD_IN", "POM_5V_IN", "5V_IN", "VIN"];
/// Rails that are fed from another monitored one.
const WITHIN_OTHERS: [&str; 1] = ["VDDQ_VDD2_1V8AO"];
/// Channels of a chip.
const CHANNELS: u32 = 3;
/// How often a channel is converted anew; longer where the driver averages many conversions.
const RESOLUTION: Duration = Duration::from_millis(25);

/// The rails that together are the board.
#[derive(Debug)]
pub(crate) struct Ina3221 {
    tree: Arc<dyn Tree>,
    rails: Vec<Rail>,
    name: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Rail {
    name: String,
    power: RailPower,
}

/// Where a rail's power is read.
#[derive(Debug, Clone, PartialEq)]
enum RailPower {
    /// A file in mW.
    Milliwatts(String),
    /// Files in mV and mA.
    Product { millivolts: String, milliamperes: String },
}

impl Rail {
    fn watts(&self, tree: &dyn Tree) -> Result<f64, MeterError> {
        Ok(match &self.power {
            RailPower::Milliwatts(path) => count(tree, path)? as f64 * 1e-3,
            RailPower::Product { millivolts, milliamperes } => {
                count(tree, millivolts)? as f64 * count(tree, milliamperes)? as f64 * 1e-6
            }
        })
    }
}

impl Ina3221 {
    /// # Errors
    /// No monitor, or one that cannot be read.
    pub(crate) fn open(tree: &Arc<dyn Tree>) -> Result<Self, MeterError> {
        let mut rails = old_rails(tree.as_ref());
        rails.extend(new_rails(tree.as_ref()));
        let rails = chosen(rails);
        if rails.is_empty() {
            return Err(MeterError::Absent("no INA3221 power monitor"));
        }
        for rail in &rails {
            rail.watts(tree.as_ref())?;
        }
        let names: Vec<&str> = rails.iter().map(|rail| rail.name.as_str()).collect();
        let name = names.join(" + ");
        Ok(Self { tree: Arc::clone(tree), rails, name })
    }
}

/// The rails that hold every joule once.
fn chosen(rails: Vec<Rail>) -> Vec<Rail> {
    let is = |rail: &Rail, names: &[&str]| names.contains(&rail.name.as_str());
    if let Some(total) = rails.iter().find(|rail| is(rail, &TOTALS)) {
        return vec![total.clone()];
    }
    rails.into_iter().filter(|rail| !is(rail, &WITHIN_OTHERS)).collect()
}

fn old_rails(tree: &dyn Tree) -> Vec<Rail> {
    let mut rails = Vec::new();
    for chip in tree.list(OLD_DRIVER) {
        for device in tree.list(&format!("{OLD_DRIVER}/{chip}")) {
            if !device.starts_with("iio:device") {
                continue;
            }
            let file = |name: String| format!("{OLD_DRIVER}/{chip}/{device}/{name}");
            for channel in 0..CHANNELS {
                if let Ok(name) = text(tree, &file(format!("rail_name_{channel}"))) {
                    let power = RailPower::Milliwatts(file(format!("in_power{channel}_input")));
                    rails.extend(named(name, power));
                }
            }
        }
    }
    rails
}

fn new_rails(tree: &dyn Tree) -> Vec<Rail> {
    let mut rails = Vec::new();
    for folder in tree.list(HWMON) {
        let file = |name: String| format!("{HWMON}/{folder}/{name}");
        if text(tree, &file("name".into())).is_ok_and(|name| name == "ina3221") {
            // Channels 4 to 7 are voltages over the shunts and their sum: no rails.
            for channel in 1..=CHANNELS {
                if let Ok(name) = text(tree, &file(format!("in{channel}_label"))) {
                    let millivolts = file(format!("in{channel}_input"));
                    let milliamperes = file(format!("curr{channel}_input"));
                    rails.extend(named(name, RailPower::Product { millivolts, milliamperes }));
                }
            }
        }
    }
    rails
}

/// A rail, where the channel is connected to one.
fn named(name: String, power: RailPower) -> Option<Rail> {
    (!name.is_empty() && name != "NC").then_some(Rail { name, power })
}

impl Meter for Ina3221 {
    fn source(&self) -> Source {
        Source::Ina3221
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn read(&mut self) -> Result<Reading, MeterError> {
        let tree = self.tree.as_ref();
        let watts = self.rails.iter().map(|rail| rail.watts(tree)).sum::<Result<f64, _>>()?;
        Ok(Reading::now(Value::Watts(watts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Recorded, watts};

    fn open(text: &str) -> Ina3221 {
        Ina3221::open(&Recorded::of(text).as_tree()).unwrap()
    }

    #[test]
    fn the_input_of_an_orin_nano_is_its_total() {
        let mut ina = open(include_str!("../fixtures/orin-nano-jetpack6.tree"));
        assert_eq!(ina.name(), "VDD_IN");
        // 5,024 mV · 968 mA = 4.863 W; the sum of the rails would be 6.5 W.
        assert!((watts(&mut ina) - 4.863_232).abs() < 1e-9);
    }

    #[test]
    fn the_input_of_a_jetson_nano_is_its_total() {
        let mut ina = open(include_str!("../fixtures/jetson-nano-jetpack4.tree"));
        assert_eq!(ina.name(), "POM_5V_IN");
        assert!((watts(&mut ina) - 2.418).abs() < 1e-9);
    }

    #[test]
    fn the_rails_of_an_agx_orin_are_summed_once() {
        let mut ina = open(include_str!("../fixtures/agx-orin-jetpack5.tree"));
        assert_eq!(ina.name(), "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0");
        // 19.144 V · 0.168 A + 19.136 V · 0.056 A + 5.024 V · 0.808 A
        let expected = 19.144 * 0.168 + 19.136 * 0.056 + 5.024 * 0.808;
        assert!((watts(&mut ina) - expected).abs() < 1e-9);
    }

    #[test]
    fn a_rail_that_ends_is_an_error_and_not_zero() {
        let tree = Recorded::of(include_str!("../fixtures/orin-nano-jetpack6.tree"));
        let mut ina = Ina3221::open(&tree.as_tree()).unwrap();
        tree.remove("/sys/class/hwmon/hwmon3/curr1_input");
        let error = ina.read().unwrap_err();
        assert_eq!(error.to_string(), "cannot read /sys/class/hwmon/hwmon3/curr1_input");
    }

    #[test]
    fn other_sensors_are_no_power_monitors() {
        let tree = Recorded::of(include_str!("../fixtures/raspberry-pi-5.tree"));
        assert!(Ina3221::open(&tree.as_tree()).unwrap_err().is_absent());
    }
}
