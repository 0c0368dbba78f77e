//! Names of Arm cores by what `/proc/cpuinfo` says: `CPU implementer` and `CPU part`.
//!
//! The numbers are those of Linux's `arch/arm64/include/asm/cputype.h` and of `lscpu`, from memory;
//! the names are those of the table of rates.

/// Implementer, part, core.
const PARTS: [(u32, u32, &str); 47] = [
    (0x41, 0xc07, "cortex-a7"),
    (0x41, 0xc0f, "cortex-a15"),
    (0x41, 0xd03, "cortex-a53"),
    (0x41, 0xd05, "cortex-a55"),
    (0x41, 0xd07, "cortex-a57"),
    (0x41, 0xd08, "cortex-a72"),
    (0x41, 0xd09, "cortex-a73"),
    (0x41, 0xd0a, "cortex-a75"),
    (0x41, 0xd0b, "cortex-a76"),
    (0x41, 0xd0c, "neoverse-n1"),
    (0x41, 0xd0d, "cortex-a77"),
    (0x41, 0xd0e, "cortex-a76"),
    (0x41, 0xd40, "neoverse-v1"),
    (0x41, 0xd41, "cortex-a78"),
    (0x41, 0xd42, "cortex-a78ae"),
    (0x41, 0xd44, "cortex-x1"),
    (0x41, 0xd46, "cortex-a510"),
    (0x41, 0xd47, "cortex-a710"),
    (0x41, 0xd48, "cortex-x2"),
    (0x41, 0xd49, "neoverse-n2"),
    (0x41, 0xd4b, "cortex-a78"),
    (0x41, 0xd4c, "cortex-x1"),
    (0x41, 0xd4d, "cortex-a715"),
    (0x41, 0xd4e, "cortex-x3"),
    (0x41, 0xd4f, "neoverse-v2"),
    (0x41, 0xd80, "cortex-a520"),
    (0x41, 0xd81, "cortex-a720"),
    (0x41, 0xd82, "cortex-x4"),
    (0x41, 0xd85, "cortex-x925"),
    (0x41, 0xd87, "cortex-a725"),
    // NVIDIA, Qualcomm, Ampere.
    (0x4e, 0x004, "carmel"),
    (0x51, 0x001, "oryon"),
    (0xc0, 0xac3, "ampereone"),
    (0xc0, 0xac4, "ampereone"),
    // Apple, under Linux: efficiency and performance cores of M1, M1 Pro and M1 Max, then of M2.
    (0x61, 0x022, "apple-m1-e"),
    (0x61, 0x023, "apple-m1-p"),
    (0x61, 0x024, "apple-m1-e"),
    (0x61, 0x025, "apple-m1-p"),
    (0x61, 0x028, "apple-m1-e"),
    (0x61, 0x029, "apple-m1-p"),
    (0x61, 0x032, "apple-m2-e"),
    (0x61, 0x033, "apple-m2-p"),
    (0x61, 0x034, "apple-m2-e"),
    (0x61, 0x035, "apple-m2-p"),
    (0x61, 0x038, "apple-m2-e"),
    (0x61, 0x039, "apple-m2-p"),
    // Huawei's server core, whose vector units are those of a Cortex-A76.
    (0x48, 0xd01, "cortex-a76"),
];

/// The core of an implementer and part, as `/proc/cpuinfo` writes them (`0x41`, `0xd0b`).
pub(crate) fn core_name(implementer: &str, part: &str) -> Option<&'static str> {
    let number = |text: &str| u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok();
    let (implementer, part) = (number(implementer)?, number(part)?);
    PARTS.iter().find(|(i, p, _)| (*i, *p) == (implementer, part)).map(|(_, _, name)| *name)
}

/// Extensions by which kernels choose, of the `Features` of `/proc/cpuinfo`.
pub(crate) fn extensions(features: &str) -> Vec<&'static str> {
    const NAMES: [(&str, &str); 8] = [
        ("asimd", "neon"),
        ("neon", "neon"),
        ("asimddp", "dotprod"),
        ("asimdhp", "fp16"),
        ("i8mm", "i8mm"),
        ("bf16", "bf16"),
        ("sve", "sve"),
        ("sve2", "sve2"),
    ];
    let words: Vec<&str> = features.split_whitespace().collect();
    NAMES.iter().filter(|(word, _)| words.contains(word)).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_known_by_their_part() {
        assert_eq!(core_name("0x41", "0xd0b"), Some("cortex-a76"));
        assert_eq!(core_name("0x61", "0x039"), Some("apple-m2-p"));
        assert_eq!(core_name("0x41", "0xfff"), None);
        assert_eq!(core_name("", ""), None);
    }

    #[test]
    fn features_become_extensions() {
        let pi5 = "fp asimd evtstrm aes atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp";
        assert_eq!(extensions(pi5), ["neon", "dotprod", "fp16"]);
        assert_eq!(extensions("half thumb vfpv4 neon"), ["neon"]);
    }
}
