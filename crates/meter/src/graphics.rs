//! What NVML tells of an NVIDIA card beside its energy: clocks, temperature, memory, and what holds
//! the clocks down. A card or library that is absent is no error: there is then nothing to tell.

use foretoken_spec::GpuState;
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};

/// One card, by its PCI address.
#[derive(Debug)]
pub struct NvidiaCard {
    nvml: Nvml,
    pci_address: String,
}

impl NvidiaCard {
    /// The card at this address (`0000:65:00.0`); `None` without NVML, or where it knows no such
    /// card.
    pub fn open(pci_address: &str) -> Option<Self> {
        let nvml = Nvml::init().ok()?;
        nvml.device_by_pci_bus_id(pci_address).ok()?;
        Some(Self { nvml, pci_address: pci_address.to_owned() })
    }

    /// The card now.
    pub fn state(&self) -> GpuState {
        let driver = self.nvml.sys_driver_version().ok();
        let Ok(card) = self.nvml.device_by_pci_bus_id(self.pci_address.as_str()) else {
            return GpuState { driver, ..GpuState::default() };
        };
        let memory = card.memory_info().ok();
        GpuState {
            name: card.name().ok(),
            driver,
            clock_mhz: card.clock_info(Clock::SM).ok(),
            memory_clock_mhz: card.clock_info(Clock::Memory).ok(),
            temperature_c: card.temperature(TemperatureSensor::Gpu).ok(),
            power_w: card.power_usage().ok().map(|milliwatts| f64::from(milliwatts) * 1e-3),
            throttled_by: card.current_throttle_reasons().map_or(Vec::new(), names),
            memory_bytes: memory.as_ref().map(|memory| memory.total),
            free_bytes: memory.as_ref().map(|memory| memory.free),
        }
    }
}

/// Names of the cards that the driver tells of, in its order; none without a driver.
pub fn nvidia_cards() -> Vec<String> {
    let Ok(nvml) = Nvml::init() else { return Vec::new() };
    let count = nvml.device_count().unwrap_or(0);
    let name = |index| nvml.device_by_index(index).ok()?.name().ok();
    (0..count).map(|index| name(index).unwrap_or_else(|| format!("GPU {index}"))).collect()
}

/// The reasons by name. An idle card lowers its clocks too, which is no throttling, and a display
/// or an application may have set them.
fn names(reasons: ThrottleReasons) -> Vec<String> {
    let own = ThrottleReasons::GPU_IDLE
        | ThrottleReasons::APPLICATIONS_CLOCKS_SETTING
        | ThrottleReasons::DISPLAY_CLOCK_SETTING;
    (reasons - own).iter_names().map(|(name, _)| name.to_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_holds_the_clocks_down_is_named() {
        assert!(names(ThrottleReasons::empty()).is_empty());
        assert!(names(ThrottleReasons::GPU_IDLE).is_empty());
        let both = ThrottleReasons::SW_POWER_CAP | ThrottleReasons::HW_SLOWDOWN;
        assert_eq!(names(both | ThrottleReasons::GPU_IDLE), ["sw_power_cap", "hw_slowdown"]);
    }

    #[test]
    fn no_card_lies_at_a_made_up_address() {
        assert!(NvidiaCard::open("ffff:ff:1f.7").is_none());
    }
}
