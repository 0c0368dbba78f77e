use std::collections::HashSet;

use foretoken_spec::{Confidence, DeviceBackend, DeviceClass, DeviceKind, FigureBasis};

use super::*;
use crate::derive;
use crate::read::{FileFormat, read_devices, write_toml};

#[test]
fn the_catalogue_loads() {
    let devices = loaded().as_ref().unwrap();
    assert!(devices.len() >= 300, "{}", devices.len());
}

#[test]
fn names_are_unique_and_ids_are_plain() {
    let mut seen = HashSet::new();
    for device in catalogue() {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(device.id.chars().all(is_plain), "{}", device.id);
        assert!(seen.insert(device.id.to_lowercase()), "{}", device.id);
        for alias in &device.aliases {
            assert!(seen.insert(alias.to_lowercase()), "{alias}");
        }
    }
}

#[test]
fn every_figure_has_a_source() {
    for device in catalogue() {
        for (figure, value) in device.figures() {
            let source = device.sources.get(figure);
            assert!(value.is_none() || source.is_some(), "{}: {figure}", device.id);
            assert!(source.is_none_or(|s| !s.source.is_empty()), "{}: {figure}", device.id);
            assert!(value.is_some() || source.is_none(), "{}: {figure} is absent", device.id);
        }
        assert!(device.clusters.is_empty() || device.sources.contains_key("clusters"));
        assert!(device.gpu.is_none() || device.sources.contains_key("gpu"), "{}", device.id);
        assert!(device.modes.is_empty() || device.sources.contains_key("modes"), "{}", device.id);
        assert!(!device.backends.is_empty(), "{}", device.id);
    }
}

#[test]
fn sources_of_figures_name_figures() {
    let figures = foretoken_spec::DeviceSpec::named("x", "x", DeviceKind::Cpu).figures();
    for device in catalogue() {
        for name in device.sources.keys() {
            let is_part = ["clusters", "gpu", "modes"].contains(&name.as_str());
            assert!(is_part || figures.iter().any(|(figure, _)| figure == name), "{name}");
        }
    }
}

/// A stated peak is what units and clock give, but where the notes say why not.
#[test]
fn stated_peaks_agree_with_what_follows_from_the_units() {
    for device in catalogue() {
        let derived = derive::peaks(device);
        let pairs = [
            (device.peak_fp16_tflops, derived.fp16),
            (device.peak_fp32_tflops, derived.fp32),
            (device.peak_int8_tops, derived.int8),
        ];
        for (stated, derived) in pairs {
            let (Some(stated), Some(derived)) = (stated, derived) else { continue };
            let error = (derived.value / stated - 1.0).abs();
            let says_why = device.notes.is_some();
            assert!(error < 0.04 || says_why, "{}: {stated} and {}", device.id, derived.value);
        }
    }
}

#[test]
fn every_architecture_is_in_the_table_of_rates() {
    let cores = derive::known_cores();
    let gpus = derive::known_gpus();
    for device in catalogue() {
        for cluster in &device.clusters {
            let is_known = cores.contains(&cluster.core.as_str());
            assert!(is_known || cluster.fp32_per_cycle.is_some(), "{}", device.id);
        }
        if let Some(gpu) = &device.gpu {
            assert!(gpus.contains(&gpu.architecture.as_str()), "{}", device.id);
        }
    }
}

#[test]
fn published_bandwidths_are_met() {
    // Raspberry Pi product briefs, NVIDIA Jetson data sheets, Apple's and NVIDIA's pages.
    for (id, gbps) in [
        ("raspberry-pi-4-8gb", 12.8),
        ("raspberry-pi-5-8gb", 17.1),
        ("jetson-orin-nano-8gb", 68.0),
        ("jetson-orin-nano-super-8gb", 102.0),
        ("jetson-agx-orin-64gb", 204.8),
        ("jetson-nano-4gb", 25.6),
        ("rk3588-rock-5b", 34.1),
        ("apple-m4-gpu10", 120.0),
        ("apple-m2-ultra-gpu76", 800.0),
        ("rtx-4090", 1008.0),
        ("ryzen-9-7950x", 83.2),
    ] {
        let found = find(id).unwrap().mem_bandwidth_gbps.unwrap();
        assert!((found / gbps - 1.0).abs() < 0.01, "{id}: {found}, not {gbps}");
    }
}

#[test]
fn what_was_promised_is_there() {
    for name in [
        "raspberry-pi-4-2gb",
        "raspberry-pi-5-16gb",
        "rock-5b",
        "orange-pi-5",
        "jetson-nano",
        "orin-nano",
        "orin-nano-super",
        "agx-orin",
        "snapdragon-8-gen-2",
        "snapdragon-8-gen-3",
        "dimensity-9300",
        "tensor-g3",
        "apple-a17-pro",
        "m1",
        "m2-max",
        "m3-pro",
        "m4-max",
        "rtx-3060",
        "rx-7900-xtx",
        "arc-a770",
        "mi300x",
        "graviton3",
        "epyc-9654",
        "Raspberry PI 5",
    ] {
        let name = name.replace(' ', "-");
        assert!(find(&name).is_ok(), "{name}");
    }
    for class in [DeviceClass::Board, DeviceClass::Phone, DeviceClass::Server] {
        assert!(catalogue().iter().filter(|d| d.class == Some(class)).count() >= 15, "{class}");
    }
}

#[test]
fn a_misspelt_name_brings_the_nearest() {
    let error = find("rasberry-pi-5").unwrap_err();
    assert!(error.hint().unwrap().contains("`raspberry-pi-5-"), "{:?}", error.hint());
    assert!(find("zzzzzz").unwrap_err().hint().unwrap().contains("foretoken devices"));
    assert!(find("rtx-409").unwrap_err().hint().unwrap().contains("`rtx-4090`"));
}

#[test]
fn phones_have_batteries_and_boards_power() {
    let has = |class, test: fn(&foretoken_spec::DeviceSpec) -> bool| {
        catalogue().iter().filter(|d| d.class == Some(class) && test(d)).count()
    };
    assert!(has(DeviceClass::Phone, |d| d.battery_wh.is_some()) >= 15);
    assert!(has(DeviceClass::Board, |d| d.load_power_w.is_some()) >= 15);
}

#[test]
fn figures_of_a_board_know_where_they_come_from() {
    let board = find("raspberry-pi-5-8gb").unwrap();
    let source = &board.sources["peak_fp32_tflops"];
    assert_eq!(source.basis, FigureBasis::Derived);
    assert!(
        source.source.starts_with("4 × 2.4 GHz × 16 operations per cycle (cortex-a76: two 128")
    );
    assert_eq!(board.peak_fp32_tflops, Some(0.1536));
    assert_eq!(board.sources["load_power_w"].basis, FigureBasis::Published);
    assert_eq!(board.sources["idle_power_w"].confidence, Confidence::Medium);
}

#[test]
fn devices_survive_every_file_format() {
    for device in catalogue() {
        let back = |text: &str, format| read_devices(text, format, "f").unwrap().devices.remove(0);
        let json = serde_json::to_string(device).unwrap();
        assert_eq!(&back(&json, FileFormat::Json), device);
        let toml = write_toml(device).unwrap();
        assert_eq!(&back(&toml, FileFormat::Toml), device, "{toml}");
    }
}

#[test]
fn a_backend_is_what_the_device_runs() {
    let runs = |id: &str| find(id).unwrap().backends.clone();
    assert_eq!(runs("raspberry-pi-5-4gb"), [DeviceBackend::Cpu]);
    assert_eq!(runs("apple-m1")[0], DeviceBackend::Metal);
    assert_eq!(runs("rtx-4090")[0], DeviceBackend::Cuda);
}

#[test]
fn one_device_of_a_file_of_several_is_named_behind_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("two.csv");
    std::fs::write(&path, "device_id,kind,mem_gb\na,cpu,8\nb,cpu,16\n").unwrap();
    let file = path.display().to_string();
    assert_eq!(resolve(&format!("{file}#b")).unwrap().mem_gb, Some(16.0));
    let error = resolve(&file).unwrap_err();
    assert!(error.to_string().ends_with("holds 2 devices where one is needed"), "{error}");
    assert!(error.hint().unwrap().contains(&format!("{file}#a or {file}#b")));
    let error = resolve(&format!("{file}#c")).unwrap_err();
    assert!(error.to_string().ends_with("holds no device `c`"), "{error}");
}
