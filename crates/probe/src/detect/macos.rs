//! What `sysctl` says under macOS. It does not tell clocks; the catalogue knows them.

#[cfg(target_os = "macos")]
use std::process::Command;

use foretoken_spec::{CoreCluster, DetectedCache, DetectedMachine};

/// The running machine.
#[cfg(target_os = "macos")]
pub(super) fn detect() -> DetectedMachine {
    let names = [
        "machdep.cpu.brand_string",
        "hw.model",
        "hw.memsize",
        "hw.physicalcpu",
        "hw.logicalcpu",
        "hw.perflevel0.physicalcpu",
        "hw.perflevel0.l2cachesize",
        "hw.perflevel1.physicalcpu",
        "hw.perflevel1.l2cachesize",
        "hw.l1dcachesize",
        "hw.l2cachesize",
        "hw.l3cachesize",
        "hw.optional.arm.FEAT_DotProd",
        "hw.optional.arm.FEAT_FP16",
        "hw.optional.arm.FEAT_I8MM",
        "hw.optional.arm.FEAT_BF16",
    ];
    // One call writes `name=value`; names that the machine lacks are skipped.
    let output = Command::new("/usr/sbin/sysctl").arg("-e").args(names).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    from_sysctl(&text)
}

/// The machine of the lines `name=value`.
fn from_sysctl(text: &str) -> DetectedMachine {
    let value = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::trim)
    };
    let number = |name: &str| value(name)?.parse::<u64>().ok();
    let count = |name: &str| number(name).and_then(|n| u32::try_from(n).ok());
    let brand = value("machdep.cpu.brand_string").unwrap_or_default();
    let isa = [("DotProd", "dotprod"), ("FP16", "fp16"), ("I8MM", "i8mm"), ("BF16", "bf16")]
        .into_iter()
        .filter(|(name, _)| number(&format!("hw.optional.arm.FEAT_{name}")) == Some(1))
        .map(|(_, word)| word.to_owned())
        .collect();
    let cache = |level, name: &str| {
        let kib = number(name).filter(|n| *n > 0)? as f64 / 1024.0;
        Some(DetectedCache { level, kib, smallest_kib: None, count: 1, total_kib: kib })
    };
    let caches = [(1, "hw.l1dcachesize"), (2, "hw.perflevel0.l2cachesize"), (3, "hw.l3cachesize")]
        .into_iter()
        .filter_map(|(level, name)| cache(level, name))
        .collect();
    DetectedMachine {
        model: value("hw.model").map(str::to_owned),
        chip: Vec::new(),
        processor: Some(brand.to_owned()).filter(|name| !name.is_empty()),
        arch: std::env::consts::ARCH.to_owned(),
        isa,
        clusters: Vec::<CoreCluster>::new(),
        physical_cores: count("hw.physicalcpu").unwrap_or(1),
        logical_cores: count("hw.logicalcpu").unwrap_or(1),
        caches,
        memory_bytes: number("hw.memsize"),
        gpus: Vec::new(),
        hypervisor: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written after Apple's documentation of the names; an M2 with two kinds of cores.
    const M2: &str = "machdep.cpu.brand_string=Apple M2\nhw.model=Mac14,2\nhw.memsize=17179869184\n\
        hw.physicalcpu=8\nhw.logicalcpu=8\nhw.perflevel0.l2cachesize=16777216\n\
        hw.l1dcachesize=65536\nhw.l2cachesize=4194304\nhw.optional.arm.FEAT_DotProd=1\n\
        hw.optional.arm.FEAT_FP16=1\nhw.optional.arm.FEAT_BF16=0\n";

    #[test]
    fn the_lines_of_sysctl_are_a_machine() {
        let machine = from_sysctl(M2);
        assert_eq!(machine.processor.as_deref(), Some("Apple M2"));
        assert_eq!(machine.model.as_deref(), Some("Mac14,2"));
        assert_eq!((machine.physical_cores, machine.logical_cores), (8, 8));
        assert_eq!(machine.memory_bytes, Some(16 << 30));
        assert_eq!(machine.isa, ["dotprod", "fp16"]);
        let caches: Vec<_> = machine.caches.iter().map(|c| (c.level, c.kib)).collect();
        assert_eq!(caches, [(1, 64.0), (2, 16384.0)]);
    }

    #[test]
    fn nothing_is_known_of_a_system_that_tells_nothing() {
        let machine = from_sysctl("");
        assert_eq!((machine.processor, machine.memory_bytes), (None, None));
        assert_eq!(machine.physical_cores, 1);
        assert!(machine.caches.is_empty());
    }
}
