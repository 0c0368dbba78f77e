//! What was measured: one row per configuration, then the phases.

use foretoken_spec::{Distribution, MeasureReport};
use serde::Serialize;

use crate::energy::energy_sheet;
use crate::sheet::cell;
use crate::{Records, Report, Sheet, units};

/// Answer of `measure`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Measured(pub Vec<MeasureReport>);

impl Report for Measured {
    fn sheets(&self) -> Vec<Sheet> {
        if self.0.is_empty() {
            return vec![Sheet::new("nothing was measured", &[])];
        }
        let mut sheets = vec![times(&self.0)];
        if self.0.iter().any(|report| report.phases.load.is_some()) {
            sheets.push(phases(&self.0));
        }
        sheets.extend(energy_sheet(&self.0, KEY, key));
        sheets
    }

    fn records(&self) -> Records {
        let mut records = Records::new(&[
            "model",
            "quant",
            "device",
            "engine",
            "threads",
            "prompt_tokens",
            "generated_tokens",
            "kv_len",
            "loads",
            "prefill_ms",
            "prefill_ms_p10",
            "prefill_ms_p90",
            "ttft_ms",
            "tpot_ms",
            "decode_ms",
            "decode_ms_p10",
            "decode_ms_p90",
            "load_ms",
            "peak_rss_bytes",
            "noise_floor",
            "excluded_samples",
            "load_cold_ms",
            "energy_prefill_j",
            "energy_per_token_j",
            "peak_device_bytes",
            "first_pass_ms",
        ]);
        records.rows.extend(self.0.iter().map(record));
        records
    }
}

fn record(report: &MeasureReport) -> Vec<String> {
    let of = |distribution: &Option<Distribution>, pick: fn(&Distribution) -> f64| {
        cell(distribution.as_ref().map(pick))
    };
    vec![
        report.model.clone(),
        report.quant.clone(),
        report.device.clone(),
        report.engine.clone(),
        report.threads.to_string(),
        report.prompt_tokens.to_string(),
        report.generated_tokens.to_string(),
        report.kv_len.to_string(),
        report.loads.to_string(),
        of(&report.prefill_ms, |d| d.median),
        of(&report.prefill_ms, |d| d.p10),
        of(&report.prefill_ms, |d| d.p90),
        of(&report.ttft_ms, |d| d.median),
        of(&report.tpot_ms, |d| d.median),
        of(&report.decode_ms, |d| d.median),
        of(&report.decode_ms, |d| d.p10),
        of(&report.decode_ms, |d| d.p90),
        cell(report.phases.load),
        cell(report.peak_rss_bytes),
        cell(report.noise_floor),
        report.excluded_samples.to_string(),
        of(&report.load_cold_ms, |d| d.median),
        cell(report.energy_j.as_ref().and_then(|energy| energy.prefill)),
        cell(report.energy_j.as_ref().and_then(|energy| energy.per_token)),
        cell(report.peak_device_bytes),
        cell(report.first_pass_ms),
    ]
}

/// Columns that say which configuration a row is; equal ones move into the title.
const KEY: &[&str] = &["model", "quant", "prompt", "gen", "depth"];

fn key(report: &MeasureReport) -> [String; 5] {
    [
        report.model.clone(),
        report.quant.clone(),
        report.prompt_tokens.to_string(),
        report.generated_tokens.to_string(),
        report.kv_len.to_string(),
    ]
}

fn times(reports: &[MeasureReport]) -> Sheet {
    let mut sheet = Sheet::new(
        "",
        &[
            "model",
            "quant",
            ">prompt",
            ">gen",
            ">depth",
            ">TTFT ms",
            ">TPOT ms",
            ">prefill ms",
            ">tok/s",
            ">decode ms",
            ">tok/s",
            ">noise",
            if reports.iter().any(|r| r.peak_device_bytes.is_some()) {
                ">peak GPU"
            } else {
                ">peak RSS"
            },
        ],
    );
    for report in reports {
        let median = |d: &Option<Distribution>| units::or_none(d.as_ref(), |d| units::ms(d.median));
        let rate = |d: &Option<Distribution>, tokens: u32| {
            units::or_none(d.as_ref(), |d| {
                units::significant(f64::from(tokens) * 1e3 / d.median, 3)
            })
        };
        sheet.row(key(report).into_iter().chain([
            median(&report.ttft_ms),
            median(&report.tpot_ms),
            units::or_none(report.prefill_ms.as_ref(), spread),
            rate(&report.prefill_ms, report.prompt_tokens),
            units::or_none(report.decode_ms.as_ref(), spread),
            rate(&report.decode_ms, 1),
            units::or_none(report.noise_floor, units::percent),
            units::or_none(report.peak_device_bytes.or(report.peak_rss_bytes), units::bytes),
        ]));
    }
    sheet.title = title(&mut sheet, &reports[0]);
    sheet.note("± is half of p10–p90; noise is how far the two halves of the fresh loads differ.");
    notes(&mut sheet, reports);
    sheet
}

/// The median with half the spread of the samples: `44.1 ±0.8`.
fn spread(distribution: &Distribution) -> String {
    let half = (distribution.p90 - distribution.p10) / 2.0;
    format!("{} ±{}", units::ms(distribution.median), units::significant(half, 2))
}

fn title(sheet: &mut Sheet, first: &MeasureReport) -> String {
    let mut parts = sheet.fold_constant(&["model", "quant"]);
    parts.push(format!("{}, {}", first.device, units::plural(first.threads, "thread")));
    parts.push(first.engine.clone());
    parts.push(units::plural(first.loads, "fresh load"));
    parts.join(" · ")
}

fn notes(sheet: &mut Sheet, reports: &[MeasureReport]) {
    let excluded: u32 = reports.iter().map(|r| r.excluded_samples).sum();
    if excluded > 0 {
        sheet.note(format!("{excluded} samples left out: the processor was taken away in them."));
    }
    let mut seen = Vec::new();
    for report in reports {
        for warning in &report.warnings {
            if !seen.contains(&warning) {
                seen.push(warning);
                sheet.note(format!("warning: {warning}"));
            }
        }
    }
}

/// From storage, where that was measured.
fn cold_load(sheet: &mut Sheet, reports: &[MeasureReport]) {
    for report in reports {
        if let Some(cold) = &report.load_cold_ms {
            sheet.note(format!("load of {} from storage: {} ms.", report.model, spread(cold)));
            return;
        }
    }
}

fn phases(reports: &[MeasureReport]) -> Sheet {
    let mut sheet = Sheet::new(
        "phases in ms",
        &[
            "model", "quant", ">prompt", ">gen", ">depth", ">load", ">embed", ">layers",
            ">LM head", ">copy", ">softmax", ">sample", "of",
        ],
    );
    for report in reports {
        let phases = &report.phases;
        let ms = |value: Option<f64>| units::or_none(value, units::ms);
        sheet.row(key(report).into_iter().chain([
            ms(phases.load),
            ms(phases.embedding),
            ms(phases.layers),
            ms(phases.lm_head),
            ms(phases.logits_copy),
            ms(phases.softmax),
            ms(phases.sampling),
            units::or_none(phases.of, |phase| phase.name().into()),
        ]));
    }
    sheet.fold_constant(KEY);
    cold_load(&mut sheet, reports);
    sheet
}
