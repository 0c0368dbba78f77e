//! Reading of Linux's `/proc` and `/sys`: pure functions on text, and the few that open a file.
//! On other systems the files are absent and everything is `None`.

use std::fs;
use std::path::{Path, PathBuf};

/// Processor time since boot, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuTicks {
    /// All time, idle included.
    pub(crate) total: u64,
    /// Time that the hypervisor gave to others.
    pub(crate) steal: u64,
}

/// Text of a file without surrounding white space; `None` where it cannot be read.
pub(crate) fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Entries of a folder, sorted; empty where it cannot be read.
pub(crate) fn entries(folder: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    paths
}

/// A `kB` field of `/proc/meminfo` or `/proc/self/status`, in bytes.
pub(crate) fn kib_field(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.split(':').next() == Some(field))?;
    let number: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(number * 1024)
}

/// First line of `/proc/stat`: user nice system idle iowait irq softirq steal (guest time is
/// part of user time).
pub(crate) fn cpu_ticks(stat: &str) -> Option<CpuTicks> {
    let line = stat.lines().find(|l| l.starts_with("cpu "))?;
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).take(8).map_while(|t| t.parse().ok()).collect();
    (ticks.len() == 8).then(|| CpuTicks { total: ticks.iter().sum(), steal: ticks[7] })
}

/// One-minute average of `/proc/loadavg`.
pub(crate) fn load_average(loadavg: &str) -> Option<f64> {
    loadavg.split_whitespace().next()?.parse().ok()
}

/// Mean of the `cpu MHz` lines of `/proc/cpuinfo`.
pub(crate) fn cpuinfo_mhz(cpuinfo: &str) -> Option<f64> {
    let clocks: Vec<f64> = cpuinfo
        .lines()
        .filter(|l| l.starts_with("cpu MHz"))
        .filter_map(|l| l.split(':').nth(1)?.trim().parse().ok())
        .collect();
    mean(&clocks)
}

/// A field of the first processor of `/proc/cpuinfo`.
pub(crate) fn cpuinfo_field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(field, _)| field.trim() == name).map(|(_, value)| value.trim())
}

/// Whether the `flags` of `/proc/cpuinfo` hold a word; `None` without such a line.
pub(crate) fn cpuinfo_flag(cpuinfo: &str, flag: &str) -> Option<bool> {
    let line = cpuinfo.lines().find(|l| l.starts_with("flags"))?;
    Some(line.split_whitespace().any(|word| word == flag))
}

/// A cache size as `/sys` writes it: `32768K`, `32M`.
pub(crate) fn cache_bytes(size: &str) -> Option<u64> {
    let size = size.trim();
    let (digits, unit) = match size.as_bytes().last()? {
        b'K' => (&size[..size.len() - 1], 1 << 10),
        b'M' => (&size[..size.len() - 1], 1 << 20),
        _ => (size, 1),
    };
    digits.parse::<u64>().ok().map(|n| n * unit)
}

/// Temperature in °C of the text of a thermal zone (thousandths of a degree), where plausible.
pub(crate) fn zone_celsius(text: &str) -> Option<f64> {
    let celsius = text.trim().parse::<f64>().ok()? / 1000.0;
    (-40.0..=150.0).contains(&celsius).then_some(celsius)
}

/// Whether a thermal zone or sensor of this type sits at a processor.
pub(crate) fn is_processor_zone(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    ["cpu", "pkg", "soc", "core", "k10temp"].iter().any(|part| kind.contains(part))
}

/// Arithmetic mean; `None` of nothing.
pub(crate) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  4705 150 1120 16250 520 10 45 800 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
    const STATUS: &str = "Name:\tforetoken\nVmPeak:\t  300000 kB\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\nThreads:\t2\n";
    const MEMINFO: &str =
        "MemTotal:       24576000 kB\nMemFree:         1000000 kB\nMemAvailable:   20480000 kB\n";
    const CPUINFO: &str = "processor\t: 0\nmodel name\t: AMD EPYC\ncpu MHz\t\t: 2596.000\nflags\t\t: fpu hypervisor avx2\nprocessor\t: 1\ncpu MHz\t\t: 2604.000\n";

    #[test]
    fn proc_stat() {
        let ticks = cpu_ticks(STAT).unwrap();
        assert_eq!(ticks, CpuTicks { total: 23_600, steal: 800 });
        assert_eq!(cpu_ticks("cpu  1 2 3\n"), None);
    }

    #[test]
    fn proc_self_status_and_meminfo() {
        assert_eq!(kib_field(STATUS, "VmHWM"), Some(204_800 * 1024));
        assert_eq!(kib_field(STATUS, "VmRSS"), Some(102_400 * 1024));
        assert_eq!(kib_field(MEMINFO, "MemAvailable"), Some(20_480_000 * 1024));
        assert_eq!(kib_field(MEMINFO, "Mem"), None);
    }

    #[test]
    fn proc_cpuinfo() {
        assert_eq!(cpuinfo_mhz(CPUINFO), Some(2600.0));
        assert_eq!(cpuinfo_flag(CPUINFO, "hypervisor"), Some(true));
        assert_eq!(cpuinfo_flag(CPUINFO, "avx"), Some(false));
        assert_eq!(cpuinfo_flag("processor: 0", "avx"), None);
        assert_eq!(cpuinfo_mhz("processor: 0"), None);
    }

    #[test]
    fn proc_loadavg() {
        assert_eq!(load_average("1.25 0.50 0.10 2/345 6789"), Some(1.25));
    }

    #[test]
    fn sizes_of_caches() {
        assert_eq!(cache_bytes("32768K\n"), Some(32 << 20));
        assert_eq!(cache_bytes("32M"), Some(32 << 20));
        assert_eq!(cache_bytes(""), None);
        assert_eq!(cache_bytes("K"), None);
    }

    #[test]
    fn temperatures() {
        assert_eq!(zone_celsius("45500\n"), Some(45.5));
        assert_eq!(zone_celsius("-274000"), None);
        assert!(is_processor_zone("x86_pkg_temp"));
        assert!(is_processor_zone("cpu-thermal"));
        assert!(!is_processor_zone("iwlwifi_1"));
    }
}
