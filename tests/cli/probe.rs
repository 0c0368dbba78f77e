//! What this machine is and achieves. Nothing here asserts on a speed.

use crate::util::{Sandbox, has_fields};

#[test]
fn a_probe_writes_a_device_file_that_can_be_read() {
    let sandbox = Sandbox::new();
    let args = ["probe", "--threads", "1", "--out", "here/device.toml", "--format", "json"];
    let report = sandbox.good(&args).json();
    has_fields(&report, &["schema_version", "machine", "device", "catalogue", "warnings"]);
    assert_eq!(report["file"], "here/device.toml");
    assert!(report["machine"]["logical_cores"].as_u64().unwrap() >= 1);
    let probe = &report["device"]["probe"];
    let levels: Vec<&str> = probe["bandwidth"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["level"].as_str().unwrap())
        .collect();
    assert!(levels.contains(&"DRAM"), "{levels:?}");
    assert!(probe["arithmetic"].as_array().unwrap().iter().any(|p| p["type"] == "f32"));
    assert!(probe["storage"]["read_mbps"].as_f64().unwrap() > 0.0);
    assert!(report["device"]["mem_bandwidth_gbps"].as_f64().unwrap() > 0.0);
    let shown = ["devices", "--show", "here/device.toml", "--format", "json"];
    assert_eq!(sandbox.good(&shown).json()[0], report["device"]);
    // The file that was read is gone.
    assert_eq!(std::fs::read_dir(sandbox.path("")).unwrap().count(), 1);
}

#[test]
fn a_table_shows_every_part() {
    let sandbox = Sandbox::new();
    let text = sandbox.good(&["probe", "--threads", "1", "--no-storage", "--quiet"]).stdout;
    for words in ["reading, GB/s", "DRAM", "arithmetic", "f32", "wake a thread"] {
        assert!(text.contains(words), "no `{words}` in {text}");
    }
}

#[test]
fn places_that_cannot_be_written_are_told_before_measuring() {
    let sandbox = Sandbox::new();
    sandbox.file("folder/x", "");
    sandbox.error_says(&["probe", "--out", "folder"], &["folder", "give a file name"]);
    sandbox.error_says(&["probe", "--threads", "0"], &["--threads"]);
    // A name that no other command reads, and a file that would be lost.
    sandbox.error_says(&["probe", "--out", "device.txt"], &["device.txt", ".toml"]);
    sandbox.file("mine.toml", "id = \"x\"\n");
    sandbox.error_says(&["probe", "--out", "mine.toml"], &["exists already", "--force"]);
}
