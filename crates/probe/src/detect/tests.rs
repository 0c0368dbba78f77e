use foretoken_devices::catalogue;
use foretoken_spec::Probed;

use super::*;
use crate::{describe, recognise};

/// The machine of a tree of `tests/trees`.
pub(crate) fn machine(name: &str) -> DetectedMachine {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees").join(name);
    let text = std::fs::read_to_string(path.with_extension("txt")).unwrap();
    let root = tempfile::tempdir().unwrap();
    let begin = text.find("== ").unwrap();
    for part in text[begin..].split("== ").skip(1) {
        let (path, content) = part.split_once('\n').unwrap();
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content.replace("\\0", "\0")).unwrap();
    }
    detect(&Tree::at(root.path()))
}

fn clusters(machine: &DetectedMachine) -> Vec<(&str, u32, f64, Option<f64>)> {
    let clusters = machine.clusters.iter();
    clusters.map(|c| (c.core.as_str(), c.count, c.clock_ghz, c.l2_kb)).collect()
}

#[test]
fn a_raspberry_pi_5() {
    let pi = machine("raspberry-pi-5");
    assert_eq!(pi.model.as_deref(), Some("Raspberry Pi 5 Model B Rev 1.0"));
    assert_eq!(pi.chip, ["raspberrypi,5-model-b", "brcm,bcm2712"]);
    assert_eq!((pi.arch.as_str(), pi.hypervisor), ("aarch64", None));
    assert_eq!(pi.isa, ["neon", "dotprod", "fp16"]);
    assert_eq!(clusters(&pi), [("cortex-a76", 4, 2.4, Some(512.0))]);
    assert_eq!((pi.physical_cores, pi.logical_cores), (4, 4));
    let caches: Vec<_> = pi.caches.iter().map(|c| (c.level, c.kib, c.count)).collect();
    assert_eq!(caches, [(1, 64.0, 4), (2, 512.0, 4), (3, 2048.0, 1)]);
    assert_eq!(pi.memory_bytes, Some(8_256_064 * 1024));
    assert_eq!(recognise(&pi, catalogue()).unwrap().id, "raspberry-pi-5-8gb");
}

#[test]
fn a_jetson_orin_nano_super() {
    let orin = machine("jetson-orin-nano-super");
    assert_eq!(clusters(&orin), [("cortex-a78ae", 6, 1.73, Some(256.0))]);
    let l3 = orin.caches.iter().find(|cache| cache.level == 3).unwrap();
    assert_eq!((l3.kib, l3.count, l3.total_kib), (2048.0, 2, 4096.0));
    assert_eq!(orin.gpus.len(), 1);
    assert_eq!(orin.gpus[0].clock_ghz, Some(1.02));
    assert_eq!(recognise(&orin, catalogue()).unwrap().id, "jetson-orin-nano-super-8gb");
}

#[test]
fn a_phone() {
    let pixel = machine("pixel-8");
    assert_eq!(pixel.model.as_deref(), Some("Pixel 8"));
    assert_eq!(pixel.chip, ["Google", "Tensor G3", "zuma"]);
    let expected = [
        ("cortex-x3", 1, 2.91, None),
        ("cortex-a715", 4, 2.37, None),
        ("cortex-a510", 4, 1.7, None),
    ];
    assert_eq!(clusters(&pixel), expected);
    assert!(pixel.isa.contains(&"i8mm".to_owned()) && pixel.caches.is_empty());
    assert_eq!(recognise(&pixel, catalogue()).unwrap().id, "pixel-8-tensor-g3");
}

#[test]
fn a_laptop_with_cores_of_two_sizes() {
    let laptop = machine("i7-1260p");
    assert_eq!((laptop.physical_cores, laptop.logical_cores), (12, 16));
    let expected = [("golden-cove", 4, 4.7, Some(1280.0)), ("gracemont", 8, 3.4, Some(512.0))];
    assert_eq!(clusters(&laptop), expected);
    assert_eq!(laptop.model.as_deref(), Some("LENOVO 21CB000GUS"));
    assert_eq!(laptop.isa, ["avx2", "fma", "avx-vnni"]);
    assert_eq!(recognise(&laptop, catalogue()).unwrap().id, "i7-1260p");
}

#[test]
fn a_guest_tells_its_present_clock_alone() {
    let guest = machine("epyc-7763-guest");
    assert_eq!(guest.hypervisor, Some(true));
    assert_eq!(clusters(&guest), [("zen3", 2, 3.24, Some(512.0))]);
    assert_eq!(recognise(&guest, catalogue()).unwrap().id, "epyc-7763-vm-4c");
}

#[test]
fn graphics_processors_of_drivers() {
    let mut desktop = machine("desktop-with-gpus");
    let names: Vec<&str> = desktop.gpus.iter().map(|gpu| gpu.name.as_str()).collect();
    assert_eq!(names, ["NVIDIA GeForce RTX 4090", "AMD graphics"]);
    assert_eq!(desktop.gpus[1].memory_bytes, Some(512 << 20));
    describe(&mut desktop, Probed::default(), catalogue());
    assert_eq!(desktop.gpus[0].device.as_deref(), Some("rtx-4090"));
    assert_eq!(desktop.gpus[1].device, None);
}

#[test]
fn an_empty_tree_is_an_unknown_machine() {
    let root = tempfile::tempdir().unwrap();
    let machine = detect(&Tree::at(root.path()));
    let expected =
        DetectedMachine { arch: std::env::consts::ARCH.to_owned(), ..DetectedMachine::default() };
    assert_eq!(machine, expected);
}

#[test]
fn this_machine_has_processors() {
    let here = detect_here();
    assert!(here.logical_cores >= 1 && here.physical_cores >= 1);
    assert!(here.memory_bytes.is_none_or(|bytes| bytes > 0));
}

#[test]
fn guests_without_flags_are_known_by_what_runs_them() {
    let graviton = machine("graviton2-guest");
    assert_eq!((graviton.arch.as_str(), graviton.hypervisor), ("aarch64", Some(true)));
    let qemu = machine("qemu-virt-guest");
    assert_eq!((qemu.arch.as_str(), qemu.hypervisor), ("aarch64", Some(true)));
    // A whole machine of the same maker is none, nor is a board.
    assert_eq!(machine("graviton2-metal").hypervisor, None);
    assert_eq!(machine("jetson-orin-nano-super").hypervisor, None);
}

#[test]
fn caches_that_differ_have_a_smallest() {
    let level = |machine: &DetectedMachine, level| {
        let cache = machine.caches.iter().find(|cache| cache.level == level).unwrap();
        (cache.kib, cache.smallest_kib)
    };
    assert_eq!(level(&machine("raspberry-pi-5"), 2), (512.0, None));
    assert_eq!(level(&machine("i7-1260p"), 2), (2048.0, Some(1280.0)));
}
