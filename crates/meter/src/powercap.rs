//! RAPL: the energy counters of x86 processors, by Linux's powercap interface.
//!
//! `/sys/class/powercap` lists every zone flat: `intel-rapl:0` is a package, `intel-rapl:0:2` a
//! part of it. AMD processors appear under the same names. `energy_uj` counts microjoules up to
//! `max_energy_range_uj` and begins again at 0; it is renewed about every millisecond
//! (<https://docs.kernel.org/power/powercap/powercap.html>; Khan et al., *RAPL in Action*, 2018).
//!
//! Each joule is counted once: packages and the `dram` beside them. `core` and `uncore` are parts
//! of their package; `intel-rapl-mmio` counts the same packages again; `psys`, the whole platform,
//! holds the packages and counts only where there are none.

use std::sync::Arc;
use std::time::Duration;

use crate::tree::{count, text};
use crate::{Meter, MeterError, Reading, Source, Tree, Value};

const FOLDER: &str = "/sys/class/powercap";
/// How often the counters are renewed.
const RESOLUTION: Duration = Duration::from_millis(1);

/// The zones that together are the machine, as one counter.
#[derive(Debug)]
pub(crate) struct Rapl {
    tree: Arc<dyn Tree>,
    zones: Vec<Zone>,
    name: String,
}

#[derive(Debug)]
struct Zone {
    name: String,
    energy_path: String,
    /// Highest value of the counter, µJ.
    range_uj: u64,
    last_uj: u64,
    /// Since the zone was opened, without wraps.
    total_uj: u64,
}

impl Zone {
    fn open(tree: &dyn Tree, folder: &str, name: String) -> Result<Self, MeterError> {
        let energy_path = format!("{FOLDER}/{folder}/energy_uj");
        let last_uj = count(tree, &energy_path)?;
        let range_uj = count(tree, &format!("{FOLDER}/{folder}/max_energy_range_uj"))?;
        Ok(Self { name, energy_path, range_uj, last_uj, total_uj: 0 })
    }

    fn advance(&mut self, now_uj: u64) {
        self.total_uj += gone_uj(self.last_uj, now_uj, self.range_uj);
        self.last_uj = now_uj;
    }
}

/// Microjoules between two values of a counter that begins again at 0 after `range_uj`.
fn gone_uj(before: u64, now: u64, range_uj: u64) -> u64 {
    if now >= before { now - before } else { range_uj.saturating_sub(before).saturating_add(now) }
}

impl Rapl {
    /// # Errors
    /// No zones, or zones that cannot be read.
    pub(crate) fn open(tree: &Arc<dyn Tree>) -> Result<Self, MeterError> {
        let chosen = chosen_zones(tree.as_ref());
        if chosen.is_empty() {
            return Err(MeterError::Absent("no RAPL zones in /sys/class/powercap"));
        }
        let mut zones = Vec::new();
        for (folder, name) in chosen {
            match Zone::open(tree.as_ref(), &folder, name) {
                Ok(zone) => zones.push(zone),
                // A memory zone that is switched off takes nothing from the package.
                Err(MeterError::Unreadable { .. }) if folder.matches(':').count() > 1 => {}
                Err(error) => return Err(error),
            }
        }
        let names: Vec<&str> = zones.iter().map(|zone| zone.name.as_str()).collect();
        let name = names.join(" + ");
        Ok(Self { tree: Arc::clone(tree), zones, name })
    }
}

/// Folder and name of the zones that hold every joule once.
fn chosen_zones(tree: &dyn Tree) -> Vec<(String, String)> {
    let zones: Vec<(String, String)> = tree
        .list(FOLDER)
        .into_iter()
        .filter(|folder| folder.starts_with("intel-rapl:"))
        .filter_map(|folder| {
            let name = text(tree, &format!("{FOLDER}/{folder}/name")).ok()?;
            Some((folder, name))
        })
        .collect();
    let of = |wanted: fn(&str) -> bool| -> Vec<(String, String)> {
        zones.iter().filter(|(_, name)| wanted(name)).cloned().collect()
    };
    let mut chosen = of(|name| name.starts_with("package"));
    if chosen.is_empty() {
        return of(|name| name == "psys");
    }
    chosen.extend(of(|name| name == "dram"));
    chosen
}

impl Meter for Rapl {
    fn source(&self) -> Source {
        Source::Rapl
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn read(&mut self) -> Result<Reading, MeterError> {
        // All are read before any moves on: half a reading would count time twice.
        let now: Vec<u64> = self
            .zones
            .iter()
            .map(|zone| count(self.tree.as_ref(), &zone.energy_path))
            .collect::<Result<_, _>>()?;
        for (zone, now_uj) in self.zones.iter_mut().zip(now) {
            zone.advance(now_uj);
        }
        let total_uj: u64 = self.zones.iter().map(|zone| zone.total_uj).sum();
        Ok(Reading::now(Value::Joules(total_uj as f64 * 1e-6)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Recorded, joules};

    const PACKAGE: &str = "/sys/class/powercap/intel-rapl:0/energy_uj";
    const DRAM: &str = "/sys/class/powercap/intel-rapl:0:2/energy_uj";

    fn desktop() -> (Arc<Recorded>, Rapl) {
        let tree = Recorded::of(include_str!("../fixtures/intel-desktop.tree"));
        let rapl = Rapl::open(&tree.as_tree()).unwrap();
        (tree, rapl)
    }

    #[test]
    fn package_and_memory_count_once() {
        let (tree, mut rapl) = desktop();
        assert_eq!(rapl.name(), "package-0 + dram");
        assert_eq!(joules(&mut rapl), 0.0);
        // 3 J of the package, 0.5 J of the memory; the cores, the platform and the second
        // interface move too.
        tree.add(PACKAGE, 3_000_000);
        tree.add(DRAM, 500_000);
        tree.add("/sys/class/powercap/intel-rapl:0:0/energy_uj", 2_000_000);
        tree.add("/sys/class/powercap/intel-rapl:1/energy_uj", 9_000_000);
        tree.add("/sys/class/powercap/intel-rapl-mmio:0/energy_uj", 3_000_000);
        assert_eq!(joules(&mut rapl), 3.5);
    }

    #[test]
    fn a_counter_that_begins_again_goes_on() {
        let (tree, mut rapl) = desktop();
        // The fixture's package stands 1 J below its range of 262,143.328850 J.
        tree.set(PACKAGE, "250000");
        assert!((joules(&mut rapl) - 1.25).abs() < 1e-9);
        tree.set(PACKAGE, "750000");
        assert!((joules(&mut rapl) - 1.75).abs() < 1e-9);
        assert_eq!(gone_uj(90, 10, 100), 20);
        assert_eq!(gone_uj(10, 90, 100), 80);
        // A range that contradicts the counter is no reason to panic.
        assert_eq!(gone_uj(90, 10, 50), 10);
    }

    #[test]
    fn the_platform_counts_where_there_is_no_package() {
        let tree = Recorded::of(
            "/sys/class/powercap/intel-rapl:0/name = psys\n\
             /sys/class/powercap/intel-rapl:0/energy_uj = 5\n\
             /sys/class/powercap/intel-rapl:0/max_energy_range_uj = 1000\n",
        );
        assert_eq!(Rapl::open(&tree.as_tree()).unwrap().name(), "psys");
    }

    #[test]
    fn counters_for_root_only_are_refused_with_the_remedy() {
        let tree = Recorded::of(include_str!("../fixtures/amd-epyc-denied.tree"));
        let error = Rapl::open(&tree.as_tree()).unwrap_err();
        let expected = "/sys/class/powercap/intel-rapl:0/energy_uj: readable by root only";
        assert_eq!(error.to_string(), expected);
        assert!(error.hint().unwrap().starts_with("sudo chmod a+r /sys/class/powercap"));
        assert!(!error.is_absent());
    }

    #[test]
    fn a_failed_reading_loses_nothing() {
        let (tree, mut rapl) = desktop();
        tree.add(PACKAGE, 100_000);
        tree.set(DRAM, "");
        let error = rapl.read().unwrap_err();
        assert_eq!(error.to_string(), format!("{DRAM}: `` is not a whole number from 0"));
        tree.set(DRAM, "41250000000");
        assert!((joules(&mut rapl) - 0.1).abs() < 1e-9);
    }

    #[test]
    fn a_board_without_zones_has_no_rapl() {
        let tree = Recorded::of(include_str!("../fixtures/raspberry-pi-5.tree"));
        assert!(Rapl::open(&tree.as_tree()).unwrap_err().is_absent());
    }

    proptest::proptest! {
        /// However the energy is spread over readings and wraps, the sum is what was added.
        #[test]
        fn wraps_never_lose_energy(steps in proptest::collection::vec(0u64..1000, 1..50)) {
            let range = 1000;
            let mut zone = Zone {
                name: String::new(), energy_path: String::new(),
                range_uj: range, last_uj: 700, total_uj: 0,
            };
            let mut counter = 700;
            for step in &steps {
                counter = (counter + step) % range;
                zone.advance(counter);
            }
            proptest::prop_assert_eq!(zone.total_uj, steps.iter().sum::<u64>());
        }
    }
}
