//! The catalogue of devices and files of a user's own.

use crate::util::{Sandbox, has_fields};

#[test]
fn devices_are_listed_as_json() {
    let devices = Sandbox::new().good(&["devices", "--format", "json"]).json();
    let devices = devices.as_array().unwrap();
    assert!(devices.len() >= 60);
    let ids: Vec<&str> = devices.iter().map(|d| d["id"].as_str().unwrap()).collect();
    for id in [
        "raspberry-pi-4-8gb",
        "raspberry-pi-5-8gb",
        "jetson-orin-nano-super-8gb",
        "pixel-8-tensor-g3",
        "apple-m2-max-gpu38",
        "rtx-4090",
        "rx-7900-xtx",
        "arc-a770-16gb",
        "ryzen-9-7950x",
    ] {
        assert!(ids.contains(&id), "{id} is not there");
    }
    for device in devices {
        has_fields(device, &["id", "name", "kind", "mem_bandwidth_gbps"]);
        // Machines that nobody named have no figures, and so no sources.
        let has_figure = device["mem_bandwidth_gbps"].is_number();
        assert!(!has_figure || device["sources"]["mem_bandwidth_gbps"].is_object(), "{device}");
    }
}

#[test]
fn devices_are_filtered() {
    let sandbox = Sandbox::new();
    let ids = |args: &[&str]| -> Vec<String> {
        let args = [&["devices", "--format", "json"][..], args].concat();
        let json = sandbox.good(&args).json();
        json.as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&["--filter", "raspberry"]), ids(&["raspberry"]));
    assert!(ids(&["raspberry", "16gb"]).contains(&"raspberry-pi-5-16gb".to_owned()));
    assert!(ids(&["raspberry", "16gb"]).iter().all(|id| id.starts_with("raspberry")));
    assert!(ids(&["--kind", "phone"]).iter().any(|id| id.contains("sd8gen2")));
    assert!(ids(&["--kind", "igpu"]).contains(&"radeon-780m".to_owned()));
    assert!(
        ids(&["--backend", "metal"]).iter().all(|id| id.contains("apple") || id.contains("iphone"))
    );
    let both = ids(&["--backend", "cuda", "--kind", "board"]);
    assert!(both.iter().all(|id| id.starts_with("jetson")), "{both:?}");
}

#[test]
fn a_table_fits_a_terminal_and_one_device_is_a_card() {
    let sandbox = Sandbox::new();
    let list = sandbox.good(&["devices"]).stdout;
    let widest = list.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 100, "{widest} columns");
    let card = sandbox.good(&["devices", "--show", "pi5"]).stdout;
    for words in ["raspberry-pi-5-8gb", "17.07", "MT/s × 32 bits", "derived", "from memory", "HPL"]
    {
        assert!(card.contains(words), "no `{words}` in {card}");
    }
}

#[test]
fn the_lists_can_be_read_back() {
    let sandbox = Sandbox::new();
    let json = sandbox.good(&["devices", "--format", "json"]);
    sandbox.file("all.json", &json.stdout);
    assert!(
        sandbox.good(&["devices", "--show", "all.json", "--format", "json"]).json() == json.json()
    );
    let csv = sandbox.good(&["devices", "--format", "csv"]).stdout;
    sandbox.file("all.csv", &csv);
    assert!(sandbox.good(&["devices", "--show", "all.csv", "--format", "csv"]).stdout == csv);
}

#[test]
fn a_file_of_ones_own_is_checked_and_completed() {
    let sandbox = Sandbox::new();
    let board = "id = \"my-board\"\nkind = \"soc\"\nmem_rate_mtps = 6400\nmem_bus_bits = 64\n\
                 clusters = [{ core = \"cortex-a76\", count = 4, clock_ghz = 2.4 }]\n";
    let file = sandbox.file("board.toml", board);
    let json = sandbox.good(&["devices", "--show", &file, "--format", "json"]).json();
    assert_eq!(json[0]["mem_bandwidth_gbps"], 51.2);
    assert_eq!(json[0]["peak_fp32_tflops"], 0.1536);
    assert_eq!(json[0]["sources"]["peak_fp32_tflops"]["basis"], "derived");
}

#[test]
fn impossible_files_say_line_field_and_remedy() {
    let sandbox = Sandbox::new();
    let says = |name: &str, text: &str, words: &[&str]| {
        sandbox.file(name, text);
        sandbox.error_says(&["devices", "--show", name], &[&[name][..], words].concat());
    };
    let base = "id = \"x\"\nkind = \"soc\"\n";
    let with = |line: &str| format!("{base}{line}\n");
    says("a.toml", &with("mem_bandwidth_gbps = 0"), &["line 3", "mem_bandwidth_gbps", "above 0"]);
    says("b.toml", &with("tdp_w = -5"), &["line 3", "tdp_w", "negative", "hint: "]);
    says(
        "c.toml",
        &with("mem_bandwidth_gbps = 51200"),
        &["line 3", "looks like MB/s", "hint: write mem_bandwidth_gbps = 51.2"],
    );
    says("d.toml", &with("mem_bandwith = 3"), &["mem_bandwith", "hint: did you mean `mem_band"]);
    says("e.json", "{\"id\": \"x\"}", &["`kind` is missing", "hint: write kind"]);
    says("f.csv", "device_id,kind,mem_gb\nx,cpu,lots\n", &["line 2", "mem_gb", "`lots`"]);
    sandbox.error_says(&["devices", "--show", "absent.toml"], &["absent.toml", "No such file"]);
}

#[test]
fn a_misspelt_device_suggests_the_nearest() {
    let sandbox = Sandbox::new();
    sandbox.error_says(&["devices", "--show", "rtx-409"], &["unknown device", "did you mean `r"]);
    sandbox.error_says(
        &["devices", "rasberry-pi-5-8gb"],
        &["no device of the catalogue matches `rasberry-pi-5-8gb`", "did you mean `r"],
    );
    sandbox.error_says(&["devices", "zzz"], &["matches `zzz`", "lists the catalogue"]);
    sandbox.error_says(&["devices", "--kind", "toaster"], &["toaster", "--kind", "phone"]);
    sandbox.error_says(&["devices", "pi", "--kind", "gpu"], &["no device", "hint: "]);
}
