use foretoken_spec::DeviceSpec;
use proptest::prelude::*;

use super::*;

const BOARD: &str = "id = \"my-board\"\nkind = \"soc\"\nmem_bandwidth_gbps = 51.2\nmem_gb = 16\n\
                     cores = 8\nclusters = [{ core = \"cortex-a76\", count = 4, clock_ghz = 2.4 }]\n";

fn toml(text: &str) -> Result<DeviceFile, DeviceError> {
    read_devices(text, FileFormat::Toml, "board.toml")
}

fn one(text: &str) -> DeviceSpec {
    toml(text).unwrap().devices.remove(0)
}

/// Message and hint of a file that is wrong.
fn refused(text: &str, format: FileFormat) -> (String, String) {
    let error = read_devices(text, format, "f").unwrap_err();
    (error.to_string(), error.hint().unwrap_or_default())
}

#[test]
fn a_small_file_is_enough_and_what_follows_is_filled() {
    let spec = one(BOARD);
    assert_eq!(spec.name, "my-board");
    assert_eq!(spec.cores.as_deref(), Some("8"));
    assert_eq!(spec.mem_gb, Some(16.0));
    assert_eq!(spec.peak_fp32_tflops, Some(0.1536));
    assert_eq!(spec.sources["mem_gb"].basis, FigureBasis::Stated);
    assert_eq!(spec.sources["mem_gb"].source, "board.toml");
}

#[test]
fn the_same_device_in_every_format() {
    let json = r#"{"device_id": "my-board", "kind": "SoC", "mem_bandwidth_gbps": 51.2,
        "mem_gb": 16, "cores": "8", "peak_fp32_tflops": null,
        "clusters": [{"core": "cortex-a76", "count": 4, "clock_ghz": 2.4}]}"#;
    let read = |text: &str, format| read_devices(text, format, "board.toml").unwrap().devices;
    let expected = vec![one(BOARD)];
    assert_eq!(read(json, FileFormat::Json), expected);
    assert_eq!(read(&format!("[{json}]"), FileFormat::Json), expected);
    assert_eq!(read(&format!("{{\"devices\": [{json}]}}"), FileFormat::Json), expected);
    let list = format!("[[device]]\n{BOARD}");
    assert_eq!(read(&list, FileFormat::Toml), expected);
    let csv = "device_id,name,kind,mem_bandwidth_gbps,mem_gb,cores,clusters\n\
               my-board,,soc,51.2,16,8,\
               \"[{\"\"core\"\":\"\"cortex-a76\"\",\"\"count\"\":4,\"\"clock_ghz\"\":2.4}]\"\n";
    assert_eq!(read(csv, FileFormat::Csv), expected);
}

#[test]
fn words_for_boards_and_phones_are_understood() {
    for (written, kind, class) in [
        ("sbc", DeviceKind::Soc, Some(DeviceClass::Board)),
        ("phone", DeviceKind::Soc, Some(DeviceClass::Phone)),
        ("GPU", DeviceKind::Gpu, None),
        ("laptop", DeviceKind::Cpu, Some(DeviceClass::Laptop)),
    ] {
        let spec = one(&format!("id = \"x\"\nkind = \"{written}\"\nmem_bandwidth_gbps = 60"));
        assert_eq!((spec.kind, spec.class), (kind, class));
    }
}

#[test]
fn unknown_fields_are_named_with_line_and_nearest() {
    let (message, hint) = refused(&format!("{BOARD}mem_bandwith = 3"), FileFormat::Toml);
    assert_eq!(message, "f, line 7: unknown field `mem_bandwith`");
    assert_eq!(hint, "did you mean `mem_bandwidth_gbps`?");
    let (message, hint) = refused(&format!("{BOARD}colour = \"red\""), FileFormat::Toml);
    assert!(message.ends_with("unknown field `colour`"), "{message}");
    assert!(hint.contains("mem_bandwidth_gbps"), "{hint}");
    let json = "{\"id\": \"x\",\n\"kind\": \"cpu\",\n\"bandwidth\": 3}";
    let (message, hint) = refused(json, FileFormat::Json);
    assert_eq!(message, "f, line 3: unknown field `bandwidth`");
    assert_eq!(hint, "did you mean `mem_bandwidth_gbps`?");
}

#[test]
fn columns_of_other_tools_are_left_out_with_a_warning() {
    let csv = "id,kind,mem_bandwidth_gbps,price_in_euro\na,cpu,50,3\nb,cpu,60,4\n";
    let file = read_devices(csv, FileFormat::Csv, "d.csv").unwrap();
    assert_eq!(file.devices.len(), 2);
    assert_eq!(file.warnings, ["d.csv: column `price_in_euro` is not read"]);
    let (message, _) = refused("id,kind,mem_bandwith_gbps\na,cpu,50\n", FileFormat::Csv);
    assert_eq!(message, "f, line 2: unknown field `mem_bandwith_gbps`");
}

#[test]
fn impossible_figures_name_line_device_and_remedy() {
    let text = BOARD.replace("51.2", "51200");
    let (message, hint) = refused(&text, FileFormat::Toml);
    assert_eq!(
        message,
        "f, line 3: field `mem_bandwidth_gbps`: 51200 GB/s is more than any soc has (at most \
         2500 GB/s); it looks like MB/s"
    );
    assert_eq!(hint, "write mem_bandwidth_gbps = 51.2");
    let csv = "id,kind,mem_bandwidth_gbps\na,cpu,50\nb,cpu,0\n";
    let (message, _) = refused(csv, FileFormat::Csv);
    assert_eq!(message, "f, line 3, device `b`: field `mem_bandwidth_gbps`: 0 must be above 0");
    let (message, hint) = refused(&BOARD.replace("2.4", "2400"), FileFormat::Toml);
    assert!(message.starts_with("f, line 6: field `clusters[0].clock_ghz`"), "{message}");
    assert!(hint.ends_with("= 2.4"), "{hint}");
}

#[test]
fn what_is_missing_is_asked_for() {
    let (message, hint) = refused("kind = \"cpu\"", FileFormat::Toml);
    assert!(message.contains("`id` is missing") && hint.contains("id ="), "{message}");
    let (message, hint) = refused("id = \"x\"", FileFormat::Toml);
    assert!(message.contains("`kind` is missing") && hint.contains("\"soc\""), "{message}");
    for (text, format) in
        [("", FileFormat::Toml), ("[]", FileFormat::Json), ("id,kind\n", FileFormat::Csv)]
    {
        assert!(refused(text, format).0.contains("holds no device"));
    }
}

#[test]
fn wrong_types_say_what_is_expected() {
    for (line, word) in [
        ("mem_bandwidth_gbps = \"51.2 GB/s\"", "a number"),
        ("release_year = 2023.5", "a whole number"),
        ("kind = \"toaster\"", "\"cpu\", \"gpu\""),
        ("backends = [\"cpu\", \"abacus\"]", "vulkan"),
        ("clusters = [{ core = \"a\" }]", "cortex-a76"),
        ("class = \"spaceship\"", "workstation"),
        ("name = [1]", "text"),
    ] {
        let kind = if line.starts_with("kind") { "" } else { "kind = \"cpu\"\n" };
        let (message, _) = refused(&format!("id = \"x\"\n{kind}{line}\n"), FileFormat::Toml);
        assert!(message.contains(word), "{line}: {message}");
        assert!(message.contains("line "), "{message}");
    }
}

#[test]
fn broken_files_name_the_line() {
    for (text, format, place) in [
        ("id = \"x\"\nkind = ", FileFormat::Toml, "line 2"),
        ("{\"id\":\n\"x\",}", FileFormat::Json, "line 2"),
        ("id,kind\na,cpu\nb\n", FileFormat::Csv, "line 3"),
        ("3", FileFormat::Json, "neither"),
    ] {
        let (message, hint) = refused(text, format);
        assert!(message.contains("not valid") && message.contains(place), "{message}");
        assert!(!message.contains('\n') && hint.contains("docs/devices.md"), "{message}");
    }
}

#[test]
fn two_devices_of_one_id_are_refused() {
    let csv = "id,kind\na,cpu\na,gpu\n";
    assert!(refused(csv, FileFormat::Csv).0.contains("a second device with the id `a`"));
}

#[test]
fn files_are_known_by_their_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Board.TOML");
    std::fs::write(&path, BOARD).unwrap();
    assert_eq!(read_device_file(&path).unwrap().devices.len(), 1);
    assert_eq!(crate::resolve(path.to_str().unwrap()).unwrap().id, "my-board");
    let other = folder.path().join("board.yaml");
    assert!(matches!(read_device_file(&other), Err(DeviceError::UnknownFormat(_))));
    let absent = folder.path().join("absent.csv");
    assert!(matches!(crate::resolve(absent.to_str().unwrap()), Err(DeviceError::Io { .. })));
    let two = folder.path().join("two.csv");
    std::fs::write(&two, "id,kind\na,cpu\nb,gpu\n").unwrap();
    let error = crate::resolve(two.to_str().unwrap()).unwrap_err();
    assert!(error.to_string().contains("holds 2 devices"), "{error}");
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        for format in [FileFormat::Toml, FileFormat::Json, FileFormat::Csv] {
            let _ = read_devices(&text, format, "f");
        }
    }

    #[test]
    fn no_figure_panics(bandwidth in any::<f64>(), peak in any::<f64>(), clock in any::<f64>()) {
        let mut spec = DeviceSpec::named("x", "x", DeviceKind::Soc);
        spec.mem_bandwidth_gbps = Some(bandwidth);
        spec.peak_fp32_tflops = Some(peak);
        spec.clusters = vec![crate::derive::testing::cluster("cortex-a76", 4, clock)];
        let _ = crate::check_spec(&spec);
    }

    #[test]
    fn what_passes_the_check_is_read_back(
        bandwidth in 1.0..2000.0_f64, gb in 0.5..512.0_f64, watts in 1.0..400.0_f64,
    ) {
        let mut spec = DeviceSpec::named("x", "x", DeviceKind::Cpu);
        spec.mem_bandwidth_gbps = Some(bandwidth);
        spec.mem_gb = Some(gb);
        spec.tdp_w = Some(watts);
        prop_assert_eq!(crate::check_spec(&spec), Ok(()));
        let text = write_toml(&spec).unwrap();
        let back = read_devices(&text, FileFormat::Toml, "f").unwrap().devices.remove(0);
        prop_assert_eq!(back.figures(), spec.figures());
    }
}

#[test]
fn words_of_cores_become_clusters_and_what_follows_from_them() {
    let text =
        "id = \"x\"\nkind = \"cpu\"\nmem_bandwidth_gbps = 51.2\ncores = \"8x zen3 @ 3.0 GHz\"\n";
    let device = read_devices(text, FileFormat::Toml, "x.toml").unwrap().devices.remove(0);
    assert_eq!((device.clusters.len(), device.clusters[0].count), (1, 8));
    assert!(device.isa.unwrap().contains("avx2"));
    // 8 × 3 GHz × 32.
    assert_eq!(device.peak_fp32_tflops, Some(0.768));
}

#[test]
fn ids_and_keys_that_lead_astray_are_refused() {
    for id in ["a b", "a/../c", "a,b", "a\tb"] {
        let text = serde_json::json!({ "id": id, "kind": "cpu" }).to_string();
        let error = read_devices(&text, FileFormat::Json, "x.json").unwrap_err();
        assert!(error.hint().unwrap().contains("without spaces"), "{error}");
    }
    let twice = "{\"id\": \"x\", \"kind\": \"cpu\",\n \"mem_gb\": 8, \"mem_gb\": 16}";
    let error = read_devices(twice, FileFormat::Json, "x.json").unwrap_err();
    assert_eq!(error.to_string(), "x.json, line 2: the field `mem_gb` is there twice");
    let quoted = "id = \"x\"\nkind = \"cpu\"\nmem_gb = \"8 GB\"\n";
    let error = read_devices(quoted, FileFormat::Toml, "x.toml").unwrap_err().to_string();
    assert!(error.ends_with("found \"8 GB\""), "{error}");
}

#[test]
fn semicolons_of_spreadsheets_are_read() {
    let text = "device_id;kind;mem_bandwidth_gbps;mem_gb\nx;soc;17.1;8\n";
    let devices = read_devices(text, FileFormat::Csv, "x.csv").unwrap().devices;
    assert_eq!(devices[0].mem_bandwidth_gbps, Some(17.1));
    let comma = text.replace("17.1", "17,1");
    let error = read_devices(&comma, FileFormat::Csv, "x.csv").unwrap_err();
    assert!(
        error.to_string().contains("line 2") && error.to_string().contains("`17,1`"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("not a comma"));
}
