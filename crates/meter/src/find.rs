//! Which meters there are, and which of them to use.

use std::path::Path;
use std::sync::Arc;

use crate::battery::Battery;
use crate::ina3221::Ina3221;
use crate::nvml::{Card, Place};
use crate::powercap::Rapl;
use crate::{Folder, Meter, MeterError, Source, Tree};

/// Where meters are looked for.
#[derive(Debug, Clone)]
pub struct System {
    tree: Arc<dyn Tree>,
    /// Whether the machine's libraries and programs are meters too.
    has_libraries: bool,
}

impl System {
    /// This machine.
    pub fn this() -> Self {
        Self { tree: Arc::new(Folder("/".into())), has_libraries: true }
    }

    /// A recorded tree below a folder, and nothing else of this machine.
    pub fn recorded(root: &Path) -> Self {
        Self { tree: Arc::new(Folder(root.to_owned())), has_libraries: false }
    }

    /// Any tree, and nothing else of this machine.
    pub fn of_tree(tree: Arc<dyn Tree>) -> Self {
        Self { tree, has_libraries: false }
    }

    fn open(&self, source: Source) -> Result<Box<dyn Meter>, MeterError> {
        Ok(match source {
            Source::Rapl => Box::new(Rapl::open(&self.tree)?),
            Source::Ina3221 => Box::new(Ina3221::open(&self.tree)?),
            Source::Battery => Box::new(Battery::open(&self.tree)?),
            Source::Nvml if self.has_libraries => Box::new(Card::open(Place::First)?),
            Source::Nvml => return Err(MeterError::Absent("no NVIDIA driver")),
            Source::Powermetrics => return self.powermetrics(),
        })
    }

    #[cfg(target_os = "macos")]
    fn powermetrics(&self) -> Result<Box<dyn Meter>, MeterError> {
        if !self.has_libraries {
            return Err(MeterError::Absent("no powermetrics"));
        }
        Ok(Box::new(crate::powermetrics::Powermetrics::start()?))
    }

    #[cfg(not(target_os = "macos"))]
    #[expect(clippy::unused_self, reason = "as on macOS")]
    fn powermetrics(&self) -> Result<Box<dyn Meter>, MeterError> {
        Err(MeterError::Absent("powermetrics is a program of macOS"))
    }
}

/// Which meter is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The best one of the processor: counters before power, parts of the machine before all of it.
    Processor,
    /// The NVIDIA card at this PCI address, which runs the model; the machine around it is left out.
    Card(String),
    /// This one.
    Only(Source),
}

impl Wanted {
    fn sources(&self) -> Vec<Source> {
        match self {
            // A graphics card draws nothing for a model that runs on the processor.
            Self::Processor => {
                vec![Source::Rapl, Source::Ina3221, Source::Powermetrics, Source::Battery]
            }
            Self::Card(_) => vec![Source::Nvml],
            Self::Only(source) => vec![*source],
        }
    }
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// The meter to use.
    pub meter: Option<Box<dyn Meter>>,
    /// Meters that exist and cannot be used, in the order in which they were wanted.
    pub unusable: Vec<Unusable>,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let meter = self.meter.as_ref().map(|meter| meter.name());
        f.debug_struct("Found").field("meter", &meter).field("unusable", &self.unusable).finish()
    }
}

/// A meter that cannot be used.
#[derive(Debug)]
pub struct Unusable {
    /// The interface.
    pub source: Source,
    /// Why not.
    pub error: MeterError,
}

/// Looks for the wanted meter. None is no error: most machines have none that a user may read.
pub fn find(system: &System, wanted: &Wanted) -> Found {
    let mut found = Found::default();
    for source in wanted.sources() {
        let opened = match wanted {
            Wanted::Card(address) if system.has_libraries => {
                Card::open(Place::Pci(address.clone())).map(|card| Box::new(card) as Box<dyn Meter>)
            }
            _ => system.open(source),
        };
        match opened {
            Ok(meter) => {
                found.meter = Some(meter);
                break;
            }
            Err(error) if error.is_absent() && *wanted == Wanted::Processor => {}
            Err(error) => found.unusable.push(Unusable { source, error }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Recorded;

    fn found(text: &str, wanted: Wanted) -> Found {
        find(&System::of_tree(Recorded::of(text).as_tree()), &wanted)
    }

    fn check(text: &str, expected: Option<(Source, &str)>, n_unusable: usize) {
        let found = found(text, Wanted::Processor);
        let meter = found.meter.as_ref().map(|meter| (meter.source(), meter.name()));
        assert_eq!(meter, expected, "{found:?}");
        assert_eq!(found.unusable.len(), n_unusable, "{found:?}");
    }

    #[test]
    fn every_recorded_device_has_the_meter_that_it_should() {
        let rapl = Some((Source::Rapl, "package-0 + dram"));
        check(include_str!("../fixtures/intel-desktop.tree"), rapl, 0);
        check(include_str!("../fixtures/amd-epyc-denied.tree"), None, 1);
        let orin = Some((Source::Ina3221, "VDD_IN"));
        check(include_str!("../fixtures/orin-nano-jetpack6.tree"), orin, 0);
        let battery = Some((Source::Battery, "BAT0"));
        check(include_str!("../fixtures/laptop-battery.tree"), battery, 1);
        check(include_str!("../fixtures/raspberry-pi-5.tree"), None, 0);
        check("", None, 0);
    }

    #[test]
    fn a_meter_that_is_asked_for_says_why_it_is_not_there() {
        let pi = include_str!("../fixtures/raspberry-pi-5.tree");
        let found = found(pi, Wanted::Only(Source::Rapl));
        assert!(found.meter.is_none());
        assert!(found.unusable[0].error.is_absent());
    }

    #[test]
    fn a_folder_is_a_tree() {
        let folder = tempfile::tempdir().unwrap();
        let zone = folder.path().join("sys/class/powercap/intel-rapl:0");
        std::fs::create_dir_all(&zone).unwrap();
        for (file, text) in
            [("name", "package-0\n"), ("energy_uj", "7\n"), ("max_energy_range_uj", "9\n")]
        {
            std::fs::write(zone.join(file), text).unwrap();
        }
        let found = find(&System::recorded(folder.path()), &Wanted::Processor);
        assert_eq!(found.meter.unwrap().name(), "package-0");
    }

    #[test]
    fn recorded_trees_have_no_libraries() {
        for source in [Source::Nvml, Source::Powermetrics] {
            assert!(found("", Wanted::Only(source)).meter.is_none());
        }
        assert!(found("", Wanted::Card("0000:01:00.0".into())).meter.is_none());
    }
}
