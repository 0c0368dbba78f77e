//! The machine as measurements name it.

use foretoken_spec::{Backend, DeviceInfo};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::system_files::{cache_bytes, cpuinfo_field, cpuinfo_flag, entries, read};

/// The processor of this machine.
pub fn processor_info() -> DeviceInfo {
    let kind = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing().with_frequency())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(kind).ok();
    let name = system
        .as_ref()
        .and_then(|s| s.cpus().first().map(|cpu| cpu.brand().trim().to_owned()))
        .filter(|brand| !brand.is_empty())
        .unwrap_or_else(|| "unknown cpu".to_owned());
    let logical_cores =
        std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    let physical_cores = System::physical_core_count()
        .ok()
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| *n > 0)
        .unwrap_or(logical_cores);
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    DeviceInfo {
        id: device_id(&name, &microarchitecture(&name, &cpuinfo), physical_cores),
        backend: Backend::Cpu,
        name,
        arch: std::env::consts::ARCH.to_owned(),
        isa: isa(&cpuinfo),
        physical_cores,
        logical_cores,
        l3_bytes: last_level_cache(),
        memory_bytes: system.map_or(0, |s| s.total_memory()),
        os: System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_owned()),
        hypervisor: cpuinfo_flag(&cpuinfo, "hypervisor"),
        host: None,
    }
}

/// A graphics device of this name in this machine; what only its driver knows is the processor's.
#[cfg(any(feature = "cuda", feature = "metal", test))]
pub(crate) fn graphics_info(name: &str) -> DeviceInfo {
    let host = processor_info();
    let words = words_of(name);
    let id = if words.is_empty() { "gpu".to_owned() } else { words.join("-") };
    DeviceInfo { id, name: name.trim().to_owned(), host: Some(host.id.clone()), ..host }
}

/// Lower case, dashes, and without the marks and words that say nothing about speed:
/// `Intel(R) Core(TM) i7-1185G7 @ 3.00GHz` with 4 cores is `intel-core-i7-1185g7-4c`, an unnamed
/// `AMD EPYC` of a virtual machine `amd-epyc-zen3-2c`.
fn device_id(name: &str, microarchitecture: &str, physical_cores: u32) -> String {
    let mut words = words_of(name);
    words.extend(Some(microarchitecture.to_owned()).filter(|word| !word.is_empty()));
    let stem = if words.is_empty() { "cpu".to_owned() } else { words.join("-") };
    format!("{stem}-{physical_cores}c")
}

fn words_of(name: &str) -> Vec<String> {
    let name = name.to_lowercase().replace("(r)", " ").replace("(tm)", " ");
    let before_clock = name.split('@').next().unwrap_or_default();
    before_clock
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && !["cpu", "processor"].contains(word))
        .map(str::to_owned)
        .collect()
}

/// What a name without a number leaves open: hypervisors call every generation `AMD EPYC`. Empty
/// where the name says enough, or `/proc/cpuinfo` nothing.
///
/// AMD's families are those of its *Processor Programming References*: 17h Zen and Zen 2, 19h Zen 3
/// and Zen 4, 1Ah Zen 5.
fn microarchitecture(name: &str, cpuinfo: &str) -> String {
    if name.contains(|c: char| c.is_ascii_digit()) {
        return String::new();
    }
    let number = |field| cpuinfo_field(cpuinfo, field)?.parse::<u32>().ok();
    let (Some(family), Some(model)) = (number("cpu family"), number("model")) else {
        return String::new();
    };
    let is_amd = cpuinfo_field(cpuinfo, "vendor_id") == Some("AuthenticAMD");
    match (is_amd, family, model) {
        (true, 0x17, 0x00..=0x2f) => "zen".into(),
        (true, 0x17, _) => "zen2".into(),
        (true, 0x19, 0x10..=0x1f | 0x60..=0xaf) => "zen4".into(),
        (true, 0x19, _) => "zen3".into(),
        (true, 0x1a, 0x00..=0x2f | 0x40..=0x4f | 0x60..=0x7f) => "zen5".into(),
        _ => format!("family{family}-model{model}"),
    }
}

/// The vector extensions by which candle's kernels choose (`repack_x86.rs`, `repack.rs`).
#[cfg(target_arch = "x86_64")]
fn isa(cpuinfo: &str) -> Vec<String> {
    let detected = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("f16c", std::arch::is_x86_feature_detected!("f16c")),
        ("avxvnni", std::arch::is_x86_feature_detected!("avxvnni")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512bw", std::arch::is_x86_feature_detected!("avx512bw")),
        ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
        // The standard library's detection of AMX is not stable yet.
        ("amx-int8", cpuinfo_flag(cpuinfo, "amx_int8") == Some(true)),
    ];
    detected.into_iter().filter(|(_, found)| *found).map(|(name, _)| name.to_owned()).collect()
}

/// The vector extensions by which candle's kernels choose (`repack_x86.rs`, `repack.rs`).
#[cfg(target_arch = "aarch64")]
fn isa(_cpuinfo: &str) -> Vec<String> {
    let detected = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
        ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
    ];
    detected.into_iter().filter(|(_, found)| *found).map(|(name, _)| name.to_owned()).collect()
}

/// Unknown here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn isa(_cpuinfo: &str) -> Vec<String> {
    Vec::new()
}

/// Size of the highest cache of the first processor, from level 3 upwards.
fn last_level_cache() -> Option<u64> {
    entries("/sys/devices/system/cpu/cpu0/cache")
        .into_iter()
        .filter_map(|cache| {
            let level: u32 = read(cache.join("level"))?.parse().ok()?;
            Some((level, cache_bytes(&read(cache.join("size"))?)?))
        })
        .filter(|(level, _)| *level >= 3)
        .max()
        .map(|(_, bytes)| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_names() {
        assert_eq!(device_id("AMD EPYC", "zen3", 2), "amd-epyc-zen3-2c");
        assert_eq!(
            device_id("Intel(R) Core(TM) i7-1185G7 CPU @ 3.00GHz", "", 4),
            "intel-core-i7-1185g7-4c"
        );
        assert_eq!(
            device_id("AMD Ryzen 7 5800X 8-Core Processor", "", 8),
            "amd-ryzen-7-5800x-8-core-8c"
        );
        assert_eq!(device_id("", "", 1), "cpu-1c");
    }

    #[test]
    fn names_without_a_number_get_the_microarchitecture() {
        let cpuinfo = |vendor: &str, family: u32, model: u32| {
            format!("vendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n")
        };
        let amd =
            |family, model| microarchitecture("AMD EPYC", &cpuinfo("AuthenticAMD", family, model));
        assert_eq!(amd(25, 1), "zen3");
        assert_eq!(amd(25, 17), "zen4");
        assert_eq!(amd(26, 2), "zen5");
        let intel = cpuinfo("GenuineIntel", 6, 143);
        assert_eq!(microarchitecture("Intel Xeon Processor", &intel), "family6-model143");
        assert_eq!(microarchitecture("AMD EPYC 7763", &cpuinfo("AuthenticAMD", 25, 1)), "");
        assert_eq!(microarchitecture("AMD EPYC", ""), "");
    }

    #[test]
    fn a_graphics_device_knows_its_host() {
        let device = graphics_info("NVIDIA GeForce RTX 4090 ");
        assert_eq!(device.id, "nvidia-geforce-rtx-4090");
        assert_eq!(device.name, "NVIDIA GeForce RTX 4090");
        assert_eq!(device.host, Some(processor_info().id));
        assert_eq!(graphics_info("").id, "gpu");
    }

    #[test]
    fn this_machine_has_cores_and_memory() {
        let device = processor_info();
        assert!(device.physical_cores >= 1);
        assert!(device.memory_bytes > 0);
        assert_eq!(device.backend, Backend::Cpu);
    }
}
