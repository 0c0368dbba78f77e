//! What a probe found and measured, beside the catalogue.

use std::collections::BTreeMap;

use foretoken_spec::{DetectedMachine, FigureBasis, ProbeReport, Probed};

use crate::devices::name_and_unit;
use crate::units::{bytes, plain, plural, significant};
use crate::{Records, Report, Sheet};

impl Report for ProbeReport {
    fn sheets(&self) -> Vec<Sheet> {
        let mut sheets = vec![machine(self)];
        if let Some(probed) = &self.device.probe {
            sheets.extend([bandwidth(probed), arithmetic(probed), rest(probed)]);
        }
        if let Some(sheet) = catalogue(self) {
            sheets.push(sheet);
        }
        sheets
    }

    fn records(&self) -> Records {
        let mut records = Records::new(&["measured", "of", "threads", "value", "unit"]);
        let Some(probed) = &self.device.probe else { return records };
        let mut row = |measured: &str, of: &str, threads: u32, value: f64, unit: &str| {
            let threads = threads.to_string();
            let cells = [measured, of, &threads, &value.to_string(), unit];
            records.rows.push(cells.map(str::to_owned).to_vec());
        };
        for point in &probed.bandwidth {
            row("read", &point.level, point.threads, point.read_gbps, "GB/s");
        }
        for point in &probed.arithmetic {
            let rate = point.giga_operations_per_second;
            row("arithmetic", &point.number_type, point.threads, rate, "10^9/s");
        }
        let overhead = &probed.overhead;
        row("spawn", "threads", overhead.threads, overhead.spawn_us, "us");
        row("wake", "threads", 2, overhead.wake_us, "us");
        if let Some(spin) = overhead.spin_us {
            row("spin", "threads", 2, spin, "us");
        }
        if let Some(storage) = &probed.storage {
            row("read", "storage", 1, storage.read_mbps, "MB/s");
        }
        records
    }
}

fn machine(report: &ProbeReport) -> Sheet {
    let DetectedMachine { model, chip, processor, arch, isa, caches, memory_bytes, .. } =
        &report.machine;
    let machine = &report.machine;
    let mut sheet = Sheet::new(format!("{} · {}", report.device.name, report.device.id), &["", ""]);
    let clusters: Vec<String> = machine
        .clusters
        .iter()
        .map(|c| format!("{} × {} at {} GHz", c.count, c.core, plain(c.clock_ghz, 3)))
        .collect();
    let caches: Vec<String> = caches
        .iter()
        .map(|c| format!("L{} {} × {} KiB", c.level, c.count, plain(c.kib, 3)))
        .collect();
    let gpus: Vec<String> = machine
        .gpus
        .iter()
        .map(|gpu| match &gpu.device {
            Some(device) => format!("{} (`{device}`)", gpu.name),
            None => gpu.name.clone(),
        })
        .collect();
    let guest = match machine.hypervisor {
        Some(true) => "a guest of a hypervisor",
        _ => "",
    };
    let threads =
        format!("{}, {} logical", plural(machine.physical_cores, "core"), machine.logical_cores);
    for (name, value) in [
        ("model", model.clone().unwrap_or_default()),
        ("chip", chip.join(", ")),
        ("processor", processor.clone().unwrap_or_default()),
        ("cores", threads),
        ("clusters", clusters.join(" + ")),
        ("ISA", format!("{arch}: {}", isa.join(" "))),
        ("caches", caches.join(", ")),
        ("memory", memory_bytes.map(bytes).unwrap_or_default()),
        ("graphics", gpus.join(", ")),
        ("virtual", guest.to_owned()),
        ("written to", report.file.clone().unwrap_or_default()),
    ] {
        if !value.is_empty() {
            sheet.row([name.to_owned(), value]);
        }
    }
    sheet
}

/// A row for each level, a column for each number of threads.
fn bandwidth(probed: &Probed) -> Sheet {
    let mut levels: Vec<&str> = Vec::new();
    let mut counts: Vec<u32> = Vec::new();
    let mut cells: BTreeMap<(&str, u32), f64> = BTreeMap::new();
    for point in &probed.bandwidth {
        if !levels.contains(&point.level.as_str()) {
            levels.push(&point.level);
        }
        if !counts.contains(&point.threads) {
            counts.push(point.threads);
        }
        cells.insert((&point.level, point.threads), point.read_gbps);
    }
    counts.sort_unstable();
    let headers: Vec<String> =
        counts.iter().map(|n| format!(">{}", plural(*n, "thread"))).collect();
    let headers: Vec<&str> = [""].into_iter().chain(headers.iter().map(String::as_str)).collect();
    let mut sheet = Sheet::new("reading, GB/s, all threads together", &headers);
    for level in levels {
        let rate = |n: &u32| cells.get(&(level, *n)).map(|rate| significant(*rate, 3));
        let rates = counts.iter().map(|n| rate(n).unwrap_or_default());
        sheet.row([level.to_owned()].into_iter().chain(rates));
    }
    sheet
}

fn arithmetic(probed: &Probed) -> Sheet {
    let mut sheet = Sheet::new(
        "arithmetic in registers, achieved",
        &["type", "instruction", ">threads", ">10⁹ operations/s"],
    );
    for point in &probed.arithmetic {
        sheet.row([
            point.number_type.clone(),
            point.instruction.clone(),
            point.threads.to_string(),
            significant(point.giga_operations_per_second, 3),
        ]);
    }
    sheet
}

fn rest(probed: &Probed) -> Sheet {
    let mut sheet = Sheet::new("threads and storage", &["", ">", ""]);
    let overhead = &probed.overhead;
    let spawn = format!("start and end of {}", plural(overhead.threads, "thread"));
    sheet.row([spawn, significant(overhead.spawn_us, 3), "µs".into()]);
    let wake = "wake a thread and be woken by it".to_owned();
    sheet.row([wake, significant(overhead.wake_us, 3), "µs".into()]);
    if let Some(spin) = overhead.spin_us {
        sheet.row(["the same, both spinning".into(), significant(spin, 3), "µs".into()]);
    }
    if let Some(storage) = &probed.storage {
        let doubt = if storage.may_be_cached { ", maybe from memory" } else { "" };
        let name = format!("read a file of {} ({}{doubt})", bytes(storage.bytes), storage.method);
        sheet.row([name, significant(storage.read_mbps, 3), "MB/s".into()]);
    }
    sheet.note(format!("Probed in {} s.", significant(probed.seconds, 2)));
    sheet
}

fn catalogue(report: &ProbeReport) -> Option<Sheet> {
    let known = report.catalogue.as_ref()?;
    let mut sheet = Sheet::new(
        format!("beside the catalogue's `{}`", known.id),
        &["figure", ">catalogue", ">here", "unit", "here is", ">here ÷ catalogue"],
    );
    for row in &known.differences {
        let (word, unit) = match row.figure.as_str() {
            "cores" => ("cores", ""),
            "clusters[].clock_ghz" => ("highest clock", "GHz"),
            figure => name_and_unit(figure).unwrap_or((figure, "")),
        };
        let basis = match row.basis {
            FigureBasis::Measured => "achieved",
            _ => "stated by the system",
        };
        sheet.row([
            word.to_owned(),
            plain(row.catalogue, 4),
            plain(row.found, 4),
            unit.to_owned(),
            basis.to_owned(),
            significant(row.ratio, 2),
        ]);
    }
    sheet.note("What is achieved stays below a data sheet's peak.");
    Some(sheet)
}
