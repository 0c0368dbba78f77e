use foretoken_devices::{FileFormat, catalogue, read_devices, write_toml};
use foretoken_spec::{
    ProbedArithmetic, ProbedBandwidth, ProbedContention, ProbedOverhead, ProbedStorage,
};

use super::*;
use crate::detect::tests::machine;

/// 13 GB/s of memory with 4 threads, 140 GFLOP/s, storage of 89 MB/s.
fn probed() -> Probed {
    let read = |level: &str, threads, read_gbps| ProbedBandwidth {
        level: level.into(),
        buffer_bytes: 1 << 20,
        threads,
        read_gbps,
    };
    Probed {
        seconds: 5.0,
        bandwidth: vec![read("L1", 1, 70.0), read("DRAM", 1, 9.0), read("DRAM", 4, 13.0)],
        arithmetic: vec![ProbedArithmetic {
            number_type: "f32".into(),
            instruction: "fmla, 128 bits".into(),
            threads: 4,
            giga_operations_per_second: 140.0,
        }],
        overhead: ProbedOverhead::default(),
        storage: Some(ProbedStorage {
            read_mbps: 89.0,
            bytes: 64 << 20,
            method: "O_DIRECT".into(),
            may_be_cached: false,
        }),
        contention: None,
    }
}

fn difference(description: &Description, figure: &str) -> (f64, f64) {
    let rows = &description.catalogue.as_ref().unwrap().differences;
    let row = rows.iter().find(|row| row.figure == figure).unwrap();
    (row.catalogue, row.found)
}

#[test]
fn a_known_board_keeps_its_data_sheet_and_shows_what_it_achieved() {
    let found = describe(&mut machine("raspberry-pi-5"), probed(), catalogue());
    let device = &found.device;
    assert_eq!(device.id, "raspberry-pi-5-8gb");
    assert_eq!(device.mem_bandwidth_gbps, Some(17.07));
    assert_eq!(device.storage_bandwidth_mbps, Some(89.0));
    assert_eq!(device.sources["storage_bandwidth_mbps"].basis, FigureBasis::Measured);
    assert_eq!(difference(&found, "mem_bandwidth_gbps"), (17.07, 13.0));
    assert_eq!(difference(&found, "peak_fp32_tflops"), (0.1536, 0.14));
    assert_eq!(difference(&found, "cores"), (4.0, 4.0));
    assert_eq!(difference(&found, "l2_kb"), (2048.0, 2048.0));
    assert!(found.warnings.is_empty());
}

#[test]
fn an_unknown_machine_is_what_was_detected_and_measured() {
    let mut machine = machine("raspberry-pi-5");
    machine.model = Some("Unheard-of Board".into());
    machine.chip.clear();
    let found = describe(&mut machine, probed(), catalogue());
    let device = &found.device;
    assert_eq!(found.catalogue, None);
    assert_eq!((device.id.as_str(), device.kind), ("unheard-of-board-4c", DeviceKind::Soc));
    assert_eq!(device.peak_fp32_tflops, Some(0.1536));
    assert_eq!(device.sources["peak_fp32_tflops"].basis, FigureBasis::Derived);
    assert_eq!(device.mem_bandwidth_gbps, Some(13.0));
    assert_eq!(device.sources["mem_bandwidth_gbps"].basis, FigureBasis::Measured);
    assert_eq!((device.mem_gb, device.l3_mb), (Some(8.0), Some(2.0)));
}

#[test]
fn of_an_unknown_guest_of_a_known_host_the_cores_are_its_own() {
    let mut machine = machine("epyc-7763-guest");
    machine.logical_cores = 3;
    let found = describe(&mut machine, probed(), catalogue());
    assert_eq!(found.device.id, "epyc-7763-guest");
    assert_eq!(found.device.n_cores(), Some(2));
    assert!(found.warnings[0].contains("guest"), "{:?}", found.warnings);
    // 2 × 3.24 × 32.
    assert_eq!(found.device.peak_fp32_tflops, Some(0.2074));
    assert_eq!(difference(&found, "cores"), (64.0, 2.0));
}

#[test]
fn what_is_written_can_be_read() {
    for name in ["raspberry-pi-5", "jetson-orin-nano-super", "pixel-8", "i7-1260p"] {
        let found = describe(&mut machine(name), probed(), catalogue());
        let text = write_toml(&found.device).unwrap();
        let read = read_devices(&text, FileFormat::Toml, "f").unwrap().devices.remove(0);
        assert_eq!(read, found.device, "{text}");
    }
}

#[test]
fn storage_that_memory_answered_for_is_no_figure() {
    let mut probed = probed();
    probed.storage.as_mut().unwrap().may_be_cached = true;
    let found = describe(&mut machine("raspberry-pi-5"), probed, catalogue());
    assert_eq!(found.device.storage_bandwidth_mbps, Some(88.9));
}

#[test]
fn what_a_busy_machine_achieved_is_hardly_trusted() {
    let mut machine = machine("raspberry-pi-5");
    machine.model = Some("Unheard-of Board".into());
    machine.chip.clear();
    let bandwidth = |is_busy| {
        let contention = ProbedContention {
            others_share: Some(0.6),
            stolen_share: Some(0.0),
            scaling: Some(0.5),
            is_busy,
        };
        let probed = Probed { contention: Some(contention), ..probed() };
        let device = describe(&mut machine.clone(), probed, catalogue()).device;
        device.sources["mem_bandwidth_gbps"].clone()
    };
    assert_eq!(bandwidth(false).confidence, Confidence::Medium);
    let busy = bandwidth(true);
    assert_eq!(busy.confidence, Confidence::Low);
    assert!(busy.source.contains("busy"), "{busy:?}");
}

#[test]
fn tiles_are_not_compared_with_vectors() {
    let mut machine = machine("epyc-7763-guest");
    machine.logical_cores = 3;
    let known = catalogue().iter().find(|device| device.id == "epyc-7763").unwrap();
    let host = |isa: &str| DeviceSpec {
        isa: Some(isa.into()),
        peak_int8_tops: Some(20.0),
        ..known.clone()
    };
    let mut int8 = |isa: &str| {
        let mut probed = probed();
        probed.arithmetic[0].number_type = "int8".into();
        let found = describe(&mut machine, probed, &[host(isa)]);
        let rows = found.catalogue.unwrap().differences;
        let has = rows.iter().any(|row| row.figure == "peak_int8_tops");
        (has, found.warnings.iter().any(|warning| warning.contains("AMX")))
    };
    assert_eq!(int8("avx512 vnni amx"), (false, true));
    assert_eq!(int8("avx512 vnni"), (true, false));
}
