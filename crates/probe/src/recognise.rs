//! Which device of the catalogue a machine is, by the words of its names.

use std::collections::BTreeSet;

use foretoken_spec::{DetectedMachine, DeviceKind, DeviceSpec};

/// Sizes of memory that are sold, GB.
const MEMORY_SIZES: [u64; 22] =
    [1, 2, 3, 4, 6, 8, 12, 16, 18, 24, 32, 36, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024];

/// A name of one word must have this many characters to be sure of.
const LONG_ENOUGH: usize = 4;

/// The processor or board of the catalogue whose name has the most words that are all among those
/// of the machine; `None` where there is none.
///
/// The words of a machine are those of its model, chip and processor, its memory as it is sold
/// (`8gb`), `cpu`, and `vm` and its processors (`4c`) for a guest.
pub fn recognise<'a>(
    machine: &DetectedMachine,
    catalogue: &'a [DeviceSpec],
) -> Option<&'a DeviceSpec> {
    let mut found = BTreeSet::new();
    for text in machine.model.iter().chain(&machine.chip).chain(&machine.processor) {
        found.extend(words(without_revision(text)));
    }
    if found.is_empty() {
        return None;
    }
    found.insert("cpu".into());
    found.extend(machine.memory_bytes.and_then(sold_size).map(|gb| format!("{gb}gb")));
    if machine.hypervisor == Some(true) {
        found.insert("vm".into());
        found.insert(format!("{}c", machine.logical_cores));
    }
    let candidates =
        catalogue.iter().filter(|d| matches!(d.kind, DeviceKind::Cpu | DeviceKind::Soc));
    best(&found, candidates, sold_gb(machine))
}

/// The graphics processor of the catalogue with this name.
pub fn recognise_gpu<'a>(
    name: &str,
    memory_bytes: Option<u64>,
    catalogue: &'a [DeviceSpec],
) -> Option<&'a DeviceSpec> {
    let mut found = words(name);
    found.extend(memory_bytes.and_then(sold_size).map(|gb| format!("{gb}gb")));
    let candidates =
        catalogue.iter().filter(|d| matches!(d.kind, DeviceKind::Gpu | DeviceKind::Igpu));
    best(&found, candidates, memory_bytes.and_then(sold_size).map(|gb| gb as f64))
}

/// The candidate with the longest name within the words; among equals the one of that memory.
fn best<'a>(
    found: &BTreeSet<String>,
    candidates: impl Iterator<Item = &'a DeviceSpec>,
    memory_gb: Option<f64>,
) -> Option<&'a DeviceSpec> {
    let scored = candidates.filter_map(|device| {
        let names = std::iter::once(&device.id).chain(&device.aliases);
        let of_name = |name: &String| {
            let words = words(name);
            let is_sure = words.len() > 1 || name.len() >= LONG_ENOUGH;
            (is_sure && words.is_subset(found)).then_some(words.len())
        };
        let longest = names.filter_map(of_name).max()?;
        let same_memory = memory_gb.is_some() && device.mem_gb == memory_gb;
        Some((longest, same_memory, device))
    });
    // The first of the catalogue among equals.
    scored.reduce(|a, b| if (b.0, b.1) > (a.0, a.1) { b } else { a }).map(|(_, _, device)| device)
}

/// A name without its revision (`Rev 1.4`) and clock (`@ 3.00GHz`), whose numbers would be taken for
/// those of models.
fn without_revision(text: &str) -> &str {
    let text = text.split(" Rev ").next().unwrap_or(text);
    text.split('@').next().unwrap_or(text)
}

/// Words in lower case, without marks of trade.
fn words(text: &str) -> BTreeSet<String> {
    let text = text.to_lowercase().replace("(r)", " ").replace("(tm)", " ");
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn sold_gb(machine: &DetectedMachine) -> Option<f64> {
    machine.memory_bytes.and_then(sold_size).map(|gb| gb as f64)
}

/// The size that is sold, of which the kernel and the firmware keep a part: the next one above.
pub(crate) fn sold_size(bytes: u64) -> Option<u64> {
    let gib = bytes as f64 / (1u64 << 30) as f64;
    MEMORY_SIZES.into_iter().find(|size| gib <= *size as f64 && gib > 0.75 * *size as f64)
}

#[cfg(test)]
mod tests {
    use foretoken_devices::catalogue;

    use super::*;

    fn processor(name: &str, hypervisor: bool, logical_cores: u32) -> Option<&'static str> {
        let machine = DetectedMachine {
            processor: Some(name.into()),
            hypervisor: Some(hypervisor),
            logical_cores,
            memory_bytes: Some(16 << 30),
            ..DetectedMachine::default()
        };
        recognise(&machine, catalogue()).map(|device| device.id.as_str())
    }

    #[test]
    fn processors_are_known_by_their_names() {
        for (name, id) in [
            ("11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz", Some("i7-1185g7")),
            ("AMD Ryzen 9 7950X 16-Core Processor", Some("ryzen-9-7950x")),
            ("AMD Ryzen 7 5800X3D 8-Core Processor", Some("ryzen-7-5800x3d")),
            ("AMD Ryzen 7 5800X 8-Core Processor", Some("ryzen-7-5800x")),
            ("Intel(R) N100", Some("intel-n100")),
            ("Intel(R) Xeon(R) Platinum 8480+", Some("xeon-8480")),
            ("AMD EPYC 7763 64-Core Processor", Some("epyc-7763")),
            ("AMD EPYC", None),
            ("Apple M2 Max", Some("apple-m2-max-cpu")),
            ("Apple M1", Some("apple-m1-cpu")),
            ("", None),
        ] {
            assert_eq!(processor(name, false, 16), id, "{name}");
        }
    }

    #[test]
    fn revisions_are_no_models() {
        let machine = DetectedMachine {
            model: Some("Raspberry Pi 5 Model B Rev 1.4".into()),
            memory_bytes: Some(8 << 30),
            ..DetectedMachine::default()
        };
        assert_eq!(recognise(&machine, catalogue()).unwrap().id, "raspberry-pi-5-8gb");
    }

    #[test]
    fn guests_are_the_guests_of_the_catalogue() {
        let name = "AMD EPYC 7763 64-Core Processor";
        assert_eq!(processor(name, true, 4), Some("epyc-7763-vm-4c"));
        assert_eq!(processor(name, true, 8), Some("epyc-7763"));
    }

    #[test]
    fn graphics_processors_are_known_by_name_and_memory() {
        let gpu = |name, gb: u64| {
            recognise_gpu(name, Some(gb << 30), catalogue()).map(|device| device.id.as_str())
        };
        assert_eq!(gpu("NVIDIA GeForce RTX 4090", 24), Some("rtx-4090"));
        assert_eq!(gpu("NVIDIA GeForce RTX 4060 Ti", 8), Some("rtx-4060-ti-8gb"));
        assert_eq!(gpu("NVIDIA GeForce RTX 4060 Ti", 16), Some("rtx-4060-ti-16gb"));
        assert_eq!(gpu("NVIDIA GeForce RTX 4070 Ti SUPER", 16), Some("rtx-4070-ti-super"));
        assert_eq!(gpu("NVIDIA H100 80GB HBM3", 80), Some("h100-sxm-80gb"));
        assert_eq!(gpu("Unheard Of", 8), None);
    }

    #[test]
    fn memory_is_rounded_to_what_is_sold() {
        for (kib, gb) in [(8_245_000u64, Some(8)), (4_050_000, Some(4)), (64_300_000, Some(64))] {
            assert_eq!(sold_size(kib * 1024), gb);
        }
        assert_eq!(sold_size(0), None);
    }
}
