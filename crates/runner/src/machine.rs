//! One look at the machine: counters that only grow, and gauges.

use std::time::{SystemTime, UNIX_EPOCH};

use foretoken_spec::{CounterSample, GpuState};

use crate::memory::{available_memory, peak_resident_bytes, resident_bytes};
use crate::system_files::{
    CpuTicks, cpu_ticks, cpuinfo_mhz, entries, is_processor_zone, load_average, mean, read,
    zone_celsius,
};
use crate::usage::{Usage, process_usage};

/// The machine at a moment. What the system does not tell is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MachineState {
    /// Seconds since 1970.
    pub unix_seconds: u64,
    /// Resident size of this process, without what the engine keeps for measuring.
    pub rss_bytes: Option<u64>,
    /// Highest resident size since the last reset, without what the engine keeps for measuring.
    pub peak_rss_bytes: Option<u64>,
    /// Memory that programs can still take.
    pub available_bytes: Option<u64>,
    /// One-minute load average.
    pub load_average: Option<f64>,
    /// Mean clock over the processors.
    pub frequency_mhz: Option<f64>,
    /// Frequency governor of the first processor.
    pub governor: Option<String>,
    /// Highest temperature of a processor sensor.
    pub temperature_c: Option<f64>,
    /// Throttle events of all processors since boot.
    pub throttle_events: Option<u64>,
    /// Whether the machine runs on battery.
    pub on_battery: Option<bool>,
    /// Platform power profile.
    pub power_profile: Option<String>,
    /// The graphics card that runs the models, where its driver tells.
    pub gpu: Option<GpuState>,
    /// Memory of a graphics device that runs the models.
    pub(crate) device_memory: Option<DeviceMemoryState>,
    pub(crate) usage: Option<Usage>,
    pub(crate) ticks: Option<CpuTicks>,
}

/// Memory of a graphics device at a moment, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeviceMemoryState {
    /// Tensors of this process.
    pub(crate) used_bytes: Option<u64>,
    /// The most of them since the last reset.
    pub(crate) peak_bytes: Option<u64>,
    /// What programs can still take.
    pub(crate) free_bytes: Option<u64>,
}

impl MachineState {
    /// Looks now. `own_bytes` of memory are the measurer's and are left out.
    pub(crate) fn now(own_bytes: u64) -> Self {
        let without_own = |bytes: u64| bytes.saturating_sub(own_bytes);
        Self {
            unix_seconds: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            rss_bytes: resident_bytes().map(without_own),
            peak_rss_bytes: peak_resident_bytes().map(without_own),
            available_bytes: available_memory(),
            load_average: read("/proc/loadavg").and_then(|text| load_average(&text)),
            frequency_mhz: frequency_mhz(),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            temperature_c: temperature_c(),
            throttle_events: throttle_events(),
            on_battery: on_battery(),
            power_profile: read("/sys/firmware/acpi/platform_profile"),
            gpu: None,
            device_memory: None,
            usage: process_usage(),
            ticks: read("/proc/stat").and_then(|text| cpu_ticks(&text)),
        }
    }
}

/// Resident memory without `own_bytes`, clock and temperature now, for a moment of a trace.
pub(crate) fn gauges(at_ns: u64, own_bytes: u64) -> CounterSample {
    CounterSample {
        at_ns,
        rss_bytes: resident_bytes().map(|bytes| bytes.saturating_sub(own_bytes)),
        frequency_mhz: frequency_mhz(),
        temperature_c: temperature_c(),
    }
}

/// Folders of the processors, `/sys/devices/system/cpu/cpuN`.
fn processor_folders() -> impl Iterator<Item = std::path::PathBuf> {
    entries("/sys/devices/system/cpu").into_iter().filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix("cpu")
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn frequency_mhz() -> Option<f64> {
    let clocks: Vec<f64> = processor_folders()
        .filter_map(|cpu| read(cpu.join("cpufreq/scaling_cur_freq"))?.parse::<f64>().ok())
        .map(|kilohertz| kilohertz / 1000.0)
        .collect();
    mean(&clocks).or_else(|| cpuinfo_mhz(&read("/proc/cpuinfo")?))
}

fn temperature_c() -> Option<f64> {
    entries("/sys/class/thermal")
        .into_iter()
        .filter(|zone| read(zone.join("type")).is_some_and(|kind| is_processor_zone(&kind)))
        .filter_map(|zone| zone_celsius(&read(zone.join("temp"))?))
        .reduce(f64::max)
}

fn throttle_events() -> Option<u64> {
    processor_folders()
        .filter_map(|cpu| {
            read(cpu.join("thermal_throttle/core_throttle_count"))?.parse::<u64>().ok()
        })
        .reduce(|a, b| a + b)
}

/// On battery where a battery discharges; not where there is none but the folder exists.
fn on_battery() -> Option<bool> {
    let supplies = entries("/sys/class/power_supply");
    let discharging = supplies
        .iter()
        .filter(|supply| read(supply.join("type")).as_deref() == Some("Battery"))
        .any(|supply| read(supply.join("status")).as_deref() == Some("Discharging"));
    std::path::Path::new("/sys/class/power_supply").is_dir().then_some(discharging)
}
