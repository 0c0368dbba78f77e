//! Microarchitectures of x86 by family and model.
//!
//! Intel's numbers are those of Linux's `arch/x86/include/asm/intel-family.h`, AMD's those of its
//! *Processor Programming References*, both from memory; the names are those of the table of rates.

/// Whether a core of a hybrid processor is one of the small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CoreSize {
    /// A performance core, or the only type there is.
    Big,
    /// An efficiency core.
    Small,
}

/// The core of a vendor, family and model; `flags` tell what shares a model apart.
pub(crate) fn core_name(
    vendor: &str,
    family: u32,
    model: u32,
    flags: &str,
    size: CoreSize,
) -> Option<&'static str> {
    match vendor {
        "GenuineIntel" if family == 6 => intel(model, flags, size),
        "AuthenticAMD" => amd(family, model),
        _ => None,
    }
}

fn intel(model: u32, flags: &str, size: CoreSize) -> Option<&'static str> {
    let has = |flag| flags.split_whitespace().any(|word| word == flag);
    let hybrid = |big, small| Some(if size == CoreSize::Small { small } else { big });
    match model {
        0x3c | 0x3f | 0x45 | 0x46 | 0x3d | 0x47 | 0x4f | 0x56 => Some("haswell"),
        0x4e | 0x5e | 0x8e | 0x9e | 0xa5 | 0xa6 => Some("skylake"),
        0x55 if has("avx512_vnni") => Some("cascade-lake"),
        0x7d | 0x7e | 0x8c | 0x8d | 0xa7 => Some("ice-lake"),
        0x6a | 0x6c => Some("ice-lake-sp"),
        0x8f | 0xcf | 0xad | 0xae => Some("sapphire-rapids"),
        0x97 | 0x9a | 0xb7 | 0xba | 0xbf | 0xaa | 0xac => hybrid("golden-cove", "gracemont"),
        0xbe => Some("gracemont"),
        0xbd | 0xc5 | 0xc6 => hybrid("lion-cove", "skymont"),
        _ => None,
    }
}

fn amd(family: u32, model: u32) -> Option<&'static str> {
    match (family, model) {
        (0x17, 0x00..=0x2f) => Some("zen1"),
        (0x17, _) => Some("zen2"),
        (0x19, 0x10..=0x1f | 0x60..=0xaf) => Some("zen4"),
        (0x19, _) => Some("zen3"),
        (0x1a, 0x20..=0x2f) => Some("zen5-mobile"),
        (0x1a, _) => Some("zen5"),
        _ => None,
    }
}

/// Extensions by which kernels choose, of the `flags` of `/proc/cpuinfo`.
pub(crate) fn extensions(flags: &str) -> Vec<&'static str> {
    const NAMES: [(&str, &str); 7] = [
        ("avx2", "avx2"),
        ("fma", "fma"),
        ("avx_vnni", "avx-vnni"),
        ("avx512f", "avx512"),
        ("avx512_vnni", "vnni"),
        ("avx512_bf16", "bf16"),
        ("amx_int8", "amx"),
    ];
    let words: Vec<&str> = flags.split_whitespace().collect();
    NAMES.iter().filter(|(word, _)| words.contains(word)).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_known_by_family_and_model() {
        let amd = |family, model| core_name("AuthenticAMD", family, model, "", CoreSize::Big);
        assert_eq!(amd(25, 1), Some("zen3"));
        assert_eq!(amd(25, 0x61), Some("zen4"));
        assert_eq!(amd(26, 0x24), Some("zen5-mobile"));
        let intel = |model, flags, size| core_name("GenuineIntel", 6, model, flags, size);
        assert_eq!(intel(0x8c, "avx512f", CoreSize::Big), Some("ice-lake"));
        assert_eq!(intel(0x97, "", CoreSize::Small), Some("gracemont"));
        assert_eq!(intel(0x97, "", CoreSize::Big), Some("golden-cove"));
        assert_eq!(intel(0x55, "avx512f", CoreSize::Big), None);
        assert_eq!(core_name("GenuineIntel", 15, 4, "", CoreSize::Big), None);
    }

    #[test]
    fn flags_become_extensions() {
        assert_eq!(
            extensions("fpu avx2 fma avx512f avx512_vnni"),
            ["avx2", "fma", "avx512", "vnni"]
        );
    }
}
