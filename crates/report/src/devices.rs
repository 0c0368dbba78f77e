//! The catalogue of devices: a list, and a card of one.

use std::collections::BTreeMap;

use foretoken_spec::{Confidence, DeviceClass, DeviceSpec, FigureSource, PowerMode};
use serde::Serialize;

use crate::sheet::cell;
use crate::units::{NONE, plain, plural};
use crate::{Records, Report, Sheet};

/// Answer of `devices`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Devices(pub Vec<DeviceSpec>);

impl Report for Devices {
    fn sheets(&self) -> Vec<Sheet> {
        match self.0.as_slice() {
            [device] => card(device),
            devices => vec![list(devices)],
        }
    }

    fn records(&self) -> Records {
        let mut records = Records::new(&COLUMNS);
        records.rows = self.0.iter().map(record).collect();
        records
    }
}

/// A card of one device: what it is, and every figure with its source.
pub(crate) fn card(device: &DeviceSpec) -> Vec<Sheet> {
    let mut sheets = vec![identity(device), figures(device)];
    if !device.modes.is_empty() {
        sheets.push(modes(&device.modes));
    }
    sheets
}

/// Marks figures of low confidence in the list.
const DOUBT: &str = "?";

fn list(devices: &[DeviceSpec]) -> Sheet {
    let mut sheet = Sheet::new(
        plural(devices.len() as u32, "device"),
        &["id", "kind", "class", ">fp16", ">fp32", ">int8", ">GB/s", ">GB", ">TDP", ">year"],
    );
    for device in devices {
        let figure = |name: &str, value: Option<f64>| {
            let source = device.sources.get(name);
            let is_doubtful = source.is_some_and(|s| s.confidence == Confidence::Low);
            let mark = if is_doubtful { DOUBT } else { "" };
            value.map_or_else(String::new, |value| format!("{}{mark}", plain(value, 3)))
        };
        sheet.row([
            device.id.clone(),
            device.kind.to_string(),
            device.class.map_or("", short_class).to_owned(),
            figure("peak_fp16_tflops", device.peak_fp16_tflops),
            figure("peak_fp32_tflops", device.peak_fp32_tflops),
            figure("peak_int8_tops", device.peak_int8_tops),
            figure("mem_bandwidth_gbps", device.mem_bandwidth_gbps),
            figure("mem_gb", device.mem_gb),
            figure("tdp_w", device.tdp_w),
            device.release_year.map_or_else(String::new, |year| year.to_string()),
        ]);
    }
    sheet.wrapped_note(
        "fp16, fp32: dense peak, TFLOP/s; int8: TOPS; of the processor that the usual backend uses. \
         TDP: W.",
    );
    if sheet.rows.iter().flatten().any(|cell| cell.ends_with(DOUBT)) {
        sheet.note("?: of low confidence.");
    }
    sheet.note(
        "`foretoken devices --show ID` tells all figures of a device and where they are from.",
    );
    sheet
}

/// The class for a narrow column.
fn short_class(class: DeviceClass) -> &'static str {
    match class {
        DeviceClass::VirtualMachine => "vm",
        class => class.name(),
    }
}

fn identity(device: &DeviceSpec) -> Sheet {
    let mut sheet = Sheet::new(format!("{} · {}", device.name, device.id), &["", ""]);
    let class = device.class.map_or_else(String::new, |c| format!(", {c}").replace('_', " "));
    let backends: Vec<&str> = device.backends.iter().map(|b| b.name()).collect();
    for (name, value) in [
        ("kind", format!("{}{class}", device.kind)),
        ("cores", device.cores.clone().unwrap_or_default()),
        ("ISA", device.isa.clone().unwrap_or_default()),
        ("die", device.die.clone().unwrap_or_default()),
        ("memory", device.mem_type.clone().unwrap_or_default()),
        ("backends", backends.join(", ")),
        ("released", cell(device.release_year)),
        ("also called", device.aliases.join(", ")),
        ("read in", device.source_url.clone().unwrap_or_default()),
    ] {
        if !value.is_empty() {
            sheet.row([name.to_owned(), value]);
        }
    }
    if let Some(notes) = &device.notes {
        sheet.wrapped_note(&format!("Note: {notes}."));
    }
    sheet
}

/// Names of the figures for people, with their units.
const FIGURES: [(&str, &str, &str); 14] = [
    ("peak_fp16_tflops", "peak f16", "TFLOP/s"),
    ("peak_fp32_tflops", "peak f32", "TFLOP/s"),
    ("peak_int8_tops", "peak int8", "TOPS"),
    ("mem_bandwidth_gbps", "memory bandwidth", "GB/s"),
    ("mem_gb", "memory", "GB"),
    ("mem_rate_mtps", "memory transfers", "MT/s"),
    ("mem_bus_bits", "memory bus", "bits"),
    ("l2_kb", "L2 of all cores", "KiB"),
    ("l3_mb", "last-level cache", "MiB"),
    ("storage_bandwidth_mbps", "reading of storage", "MB/s"),
    ("tdp_w", "TDP", "W"),
    ("idle_power_w", "idle power", "W"),
    ("load_power_w", "load power", "W"),
    ("battery_wh", "battery", "Wh"),
];

/// The unit of a figure for people.
pub(crate) fn name_and_unit(figure: &str) -> Option<(&'static str, &'static str)> {
    FIGURES.iter().find(|(name, _, _)| *name == figure).map(|(_, word, unit)| (*word, *unit))
}

fn figures(device: &DeviceSpec) -> Sheet {
    let mut sheet =
        Sheet::new("figures", &["figure", ">value", "unit", "known as", "confidence", ">source"]);
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut source_cells = |name: &str| match device.sources.get(name) {
        Some(FigureSource { basis, confidence, source }) => {
            let next = numbers.len() + 1;
            let number = *numbers.entry(source).or_insert(next);
            [basis.to_string(), confidence.to_string(), format!("[{number}]")]
        }
        None => [NONE.into(), NONE.into(), String::new()],
    };
    let mut absent = Vec::new();
    for (name, value) in device.figures() {
        let Some((word, unit)) = name_and_unit(name) else { continue };
        match value {
            Some(value) => {
                let [basis, confidence, source] = source_cells(name);
                let value = plain(value, 4);
                sheet.row([word.into(), value, unit.into(), basis, confidence, source]);
            }
            None => absent.push(word),
        }
    }
    for (name, word, is_there) in [
        ("clusters", "cores and clocks", !device.clusters.is_empty()),
        ("gpu", "units and clock", device.gpu.is_some()),
        ("modes", "power modes", !device.modes.is_empty()),
    ] {
        if is_there {
            let [basis, confidence, source] = source_cells(name);
            sheet.row([word.into(), String::new(), String::new(), basis, confidence, source]);
        }
    }
    let mut by_number: Vec<(usize, &str)> = numbers.into_iter().map(|(s, n)| (n, s)).collect();
    by_number.sort_unstable();
    for (number, source) in by_number {
        sheet.note(format!("[{number}] {source}"));
    }
    if !absent.is_empty() {
        sheet.wrapped_note(&format!("Not known: {}.", absent.join(", ")));
    }
    sheet
}

fn modes(modes: &[PowerMode]) -> Sheet {
    let mut sheet = Sheet::new(
        "power modes",
        &["mode", ">limit W", ">idle W", ">load W", ">CPU GHz", ">GPU GHz", ">GB/s"],
    );
    let figure = |value: Option<f64>| value.map_or_else(String::new, |v| plain(v, 3));
    for mode in modes {
        sheet.row([
            mode.name.clone(),
            figure(mode.limit_w),
            figure(mode.idle_power_w),
            figure(mode.load_power_w),
            figure(mode.cpu_clock_ghz),
            figure(mode.gpu_clock_ghz),
            figure(mode.mem_bandwidth_gbps),
        ]);
    }
    sheet
}

/// Columns of the CSV: those of the public lists, then ours. `--format json` has the sources too.
const COLUMNS: [&str; 30] = [
    "id",
    "name",
    "kind",
    "class",
    "peak_fp16_tflops",
    "peak_fp32_tflops",
    "peak_int8_tops",
    "mem_bandwidth_gbps",
    "mem_gb",
    "mem_type",
    "tdp_w",
    "cores",
    "isa",
    "release_year",
    "source_url",
    "notes",
    "aliases",
    "backends",
    "clusters",
    "gpu",
    "die",
    "mem_rate_mtps",
    "mem_bus_bits",
    "l2_kb",
    "l3_mb",
    "storage_bandwidth_mbps",
    "idle_power_w",
    "load_power_w",
    "battery_wh",
    "modes",
];

fn record(device: &DeviceSpec) -> Vec<String> {
    // JSON has every field under its name; a cell is its value, lists of words joined, tables as
    // JSON.
    let json = serde_json::to_value(device).unwrap_or_default();
    let cell = |name: &&str| match json.get(name) {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(serde_json::Value::Array(items)) if items.iter().all(|item| item.is_string()) => {
            let words: Vec<&str> = items.iter().filter_map(|item| item.as_str()).collect();
            words.join(" ")
        }
        Some(value) => value.to_string(),
    };
    COLUMNS.iter().map(cell).collect()
}
