//! Predictions: a card for one, a comparison for several.

use foretoken_spec::{
    AvailableMemory, BaselineTimes, Bound, DeviceBackend, Estimate, MemoryPrediction,
    MemoryVerdict, NearestKernel, OpPrediction, OpTerm, Phase, Prediction, Tier,
};
use serde::{Serialize, Serializer};

mod comparison;

use comparison::comparison;

use crate::sheet::cell;
use crate::{Records, Report, Sheet, units};

/// Answer of `predict`: one object for one prediction, an array for several.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// The predictions, in the order asked for.
    pub predictions: Vec<Prediction>,
    /// Whether to list every operation, not the largest alone.
    pub explain: bool,
}

/// Operations of a phase that a card shows unless all are asked for.
const LARGEST_OPS: usize = 5;

impl Serialize for Predictions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.predictions.as_slice() {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl Report for Predictions {
    fn sheets(&self) -> Vec<Sheet> {
        let [one] = self.predictions.as_slice() else {
            let mut sheets: Vec<Sheet> = refusals(&self.predictions).into_iter().collect();
            sheets.extend(comparison(&self.predictions));
            if self.explain {
                let sheets_of = |p| [op_sheet(p, usize::MAX), term_sheet(p)];
                sheets.extend(self.predictions.iter().flat_map(sheets_of));
            }
            return sheets;
        };
        let most = if self.explain { usize::MAX } else { LARGEST_OPS };
        let mut sheets: Vec<Sheet> = refusals(&self.predictions).into_iter().collect();
        sheets.extend([card(one), memory_sheet(one)]);
        if !one.ops.is_empty() {
            sheets.push(op_sheet(one, most));
            if self.explain {
                sheets.push(term_sheet(one));
            }
        }
        sheets.push(basis_sheet(one));
        sheets
    }

    fn records(&self) -> Records {
        let mut records = Records::new(&[
            "model",
            "architecture",
            "parameters",
            "weight_bytes",
            "quant",
            "device",
            "backend",
            "engine",
            "threads",
            "prompt_tokens",
            "generated_tokens",
            "kv_len",
            "batch_size",
            "prefill_ms",
            "prefill_ms_lower",
            "prefill_ms_upper",
            "decode_ms",
            "decode_ms_lower",
            "decode_ms_upper",
            "ttft_ms",
            "tpot_ms",
            "e2e_ms",
            "prefill_tokens_per_second",
            "decode_tokens_per_second",
            "peak_bytes",
            "fits",
            "tier",
            "calibration",
            "cannot_run",
            "extrapolation",
            "flop_prefill",
            "flop_decode_per_token",
            "largest_context",
            "fitting_quants",
            "load_cold_ms",
            "energy_j",
            "roofline_prefill_ms",
            "roofline_decode_ms",
            "edgeprofiler_decode_ms",
        ]);
        records.rows.extend(self.predictions.iter().map(record));
        records
    }
}

fn record(p: &Prediction) -> Vec<String> {
    let (prefill, decode) = (p.prefill_ms, p.decode_ms);
    let point = |estimate: Option<Estimate>| cell(estimate.map(|e| e.point));
    let naive = |name: &str| p.baselines.get(name);
    vec![
        p.model.name.clone(),
        p.model.architecture.clone(),
        p.model.parameters.to_string(),
        p.model.weight_bytes.to_string(),
        p.quant.clone(),
        p.device.id.clone(),
        p.device.backend.to_string(),
        p.device.engine.clone(),
        p.device.threads.to_string(),
        p.workload.prompt_tokens.to_string(),
        p.workload.generated_tokens.to_string(),
        p.workload.kv_len.to_string(),
        p.workload.batch_size.to_string(),
        point(prefill),
        cell(prefill.map(|e| e.lower)),
        cell(prefill.map(|e| e.upper)),
        point(decode),
        cell(decode.map(|e| e.lower)),
        cell(decode.map(|e| e.upper)),
        point(p.ttft_ms),
        point(p.tpot_ms),
        point(p.e2e_ms),
        cell(p.prefill_tokens_per_second),
        cell(p.decode_tokens_per_second),
        p.memory.peak_bytes.to_string(),
        cell(p.memory.fits),
        tier(p.basis.tier).into(),
        cell(p.basis.calibration.as_ref()),
        cell(p.cannot_run.as_ref()),
        p.basis.extrapolation.join("; "),
        p.flop.prefill.to_string(),
        p.flop.decode_per_token.to_string(),
        cell(p.memory.largest_context),
        p.memory.fitting_quants.join(" "),
        point(p.load_cold_ms),
        cell(p.energy_j.as_ref().map(|energy| energy.estimate.point)),
        cell(naive("roofline").and_then(|times| times.prefill_ms)),
        cell(naive("roofline").and_then(|times| times.decode_ms)),
        cell(naive("edgeprofiler").and_then(|times| times.decode_ms)),
    ]
}

/// What cannot run, before all numbers.
fn refusals(predictions: &[Prediction]) -> Option<Sheet> {
    let reasons = predictions.iter().filter_map(|p| Some((p, p.cannot_run.clone()?)));
    let mut sheet = Sheet::new("", &[]);
    for (names, reason) in by_sentence(predictions, reasons) {
        let of = if predictions.len() > 1 { format!("{names}: ") } else { String::new() };
        sheet.note(format!("cannot run: {of}{reason}"));
    }
    if sheet.notes.is_empty() {
        return None;
    }
    sheet.note("The numbers below are those as if it could.");
    Some(sheet)
}

/// Sentences, each once with the models that it is about.
fn by_sentence<'a>(
    predictions: &[Prediction],
    sentences: impl Iterator<Item = (&'a Prediction, String)>,
) -> Vec<(String, String)> {
    let is_one_device = is_one_device(predictions);
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (p, sentence) in sentences {
        let name = name(p, is_one_device);
        match groups.iter_mut().find(|(known, _)| *known == sentence) {
            Some((_, names)) if names.contains(&name) => {}
            Some((_, names)) => names.push(name),
            None => groups.push((sentence, vec![name])),
        }
    }
    groups.into_iter().map(|(sentence, names)| (listed(&names), sentence)).collect()
}

/// Whether all predictions are of one device.
fn is_one_device(predictions: &[Prediction]) -> bool {
    predictions.windows(2).all(|pair| pair[0].device == pair[1].device)
}

/// `tinyllama-1.1b Q4_0`, and on what where there are several devices.
fn name(p: &Prediction, is_one_device: bool) -> String {
    match is_one_device {
        true => format!("{} {}", p.model.name, p.quant),
        false => format!("{} {} on {}", p.model.name, p.quant, p.device.id),
    }
}

/// The first few names, and how many more there are.
fn listed(names: &[String]) -> String {
    const MOST: usize = 3;
    let shown = names.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Warnings but for the one that [`refusals`] has said already.
fn warnings(p: &Prediction) -> impl Iterator<Item = &String> {
    let said = p.cannot_run.as_ref().map(|reason| format!("it cannot run: {reason}"));
    p.warnings.iter().filter(move |warning| Some(*warning) != said.as_ref())
}

/// Whether nothing was run on the device itself.
fn is_from_sheet(p: &Prediction) -> bool {
    p.basis.data_sheet.is_some()
}

/// `2 threads`, or the backend of a graphics processor.
fn runs_on(p: &Prediction) -> String {
    match p.device.backend {
        DeviceBackend::Cpu => units::plural(p.device.threads, "thread"),
        other => other.to_string(),
    }
}

/// Tokens per second of all sequences.
fn tokens_per_second(p: &Prediction) -> Option<f64> {
    p.tpot_ms.map(|e| 1e3 * f64::from(p.workload.batch_size.max(1)) / e.point)
}

fn card(p: &Prediction) -> Sheet {
    let workload = &p.workload;
    let title = format!(
        "{} · {} on {}, {}, {}\nprompt {}, gen {}, depth {}{}",
        p.model.name,
        p.quant,
        p.device.id,
        runs_on(p),
        p.device.engine,
        workload.prompt_tokens,
        workload.generated_tokens,
        workload.kv_len,
        if workload.batch_size > 1 {
            format!(", batch {}", workload.batch_size)
        } else {
            String::new()
        },
    );
    let mut sheet = Sheet::new(title, &["", ">predicted", ">interval", ">tokens/s"]);
    let mut row = |name: &str, estimate: Option<Estimate>, rate: Option<f64>| {
        let Some(estimate) = estimate else { return };
        let interval = units::interval_duration(&estimate);
        let rate = rate.map_or_else(String::new, |rate| units::significant(rate, 3));
        sheet.row([name.to_owned(), units::duration_ms(estimate.point), interval, rate]);
    };
    row("time to first token (TTFT)", p.ttft_ms, None);
    row("time per output token (TPOT)", p.tpot_ms, tokens_per_second(p));
    row("end to end", p.e2e_ms, None);
    row("prefill pass", p.prefill_ms, p.prefill_tokens_per_second);
    row("decode step", p.decode_ms, p.decode_tokens_per_second);
    row("load, file in memory", p.load_ms, None);
    row("load, from storage", p.load_cold_ms, None);
    row("first pass takes longer by", p.first_pass_extra_ms, None);
    if let Some(energy) = &p.energy_j {
        let e = energy.estimate;
        let interval =
            format!("{} – {} J", units::significant(e.lower, 3), units::significant(e.upper, 3));
        let point = format!("{} J", units::significant(e.point, 3));
        sheet.row([format!("energy ({})", energy.source), point, interval]);
        if let Some(idle_w) = energy.idle_w {
            let idle_w = units::significant(idle_w, 3);
            sheet.note(match energy.idle_guessed {
                true => format!(
                    "Energy is of the request, above idling: {idle_w} W, guessed from devices of \
                     its kind."
                ),
                false => format!("Energy is of the request, above the {idle_w} W of idling."),
            });
        }
    }
    if let Some(level) = level(p) {
        sheet.note(match p.basis.interval_groups {
            0 => "The interval is a guess: this calibration held out no model.".to_owned(),
            n => format!(
                "{} interval, from {} held out in turn.",
                units::percent(level),
                units::plural(n, if is_from_sheet(p) { "device" } else { "model" })
            ),
        });
    }
    let flop = [
        (p.prefill_ms, "prefill", p.flop.prefill),
        (p.decode_ms, "decode, per token", p.flop.decode_per_token),
    ];
    let flop: Vec<String> = flop
        .into_iter()
        .filter(|(asked, ..)| asked.is_some())
        .map(|(_, phase, flop)| format!("{phase} {}", units::flop(flop)))
        .collect();
    sheet.note(format!("arithmetic: {}", flop.join("; ")));
    sheet
}

/// Nominal coverage of the intervals.
fn level(p: &Prediction) -> Option<f64> {
    [p.ttft_ms, p.tpot_ms].into_iter().flatten().next().map(|e| e.level)
}

fn memory_sheet(p: &Prediction) -> Sheet {
    let memory: &MemoryPrediction = &p.memory;
    let mut sheet = Sheet::new("memory", &["part", ">bytes"]);
    let parts = memory.weights_bytes + memory.kv_cache_bytes + memory.activation_bytes;
    for (part, bytes) in [
        ("weights, as the engine keeps them", memory.weights_bytes),
        ("KV cache", memory.kv_cache_bytes),
        ("activations", memory.activation_bytes),
        ("program", memory.peak_bytes.saturating_sub(parts)),
        ("peak", memory.peak_bytes),
    ] {
        sheet.row([part.to_owned(), units::bytes(bytes)]);
    }
    room_notes(&mut sheet, p);
    if let Some((first, more)) = p.memory_notes.split_first() {
        sheet.note(format!("Stored: {}; {first}", units::bytes(p.model.weight_bytes)));
        more.iter().for_each(|sentence| sheet.note(sentence));
    }
    sheet
}

/// Whether the peak fits, into what, and what would.
fn room_notes(sheet: &mut Sheet, p: &Prediction) {
    let memory = &p.memory;
    let (Some(fits), Some(available)) = (memory.fits, memory.available_bytes) else { return };
    let room = room(p, available);
    // It does not run, so nothing has to fit.
    if p.cannot_run.is_some() {
        sheet.note(format!("{room}."));
        return;
    }
    if fits {
        let how = match memory.verdict {
            Some(MemoryVerdict::SwapRisk) if p.device.backend != DeviceBackend::Cpu => {
                "Fits narrowly"
            }
            Some(MemoryVerdict::SwapRisk) => "Fits narrowly, at the risk of swapping",
            _ => "Fits",
        };
        // None where the request alone is beyond the model's context, which a warning says.
        let context = memory.largest_context.filter(|tokens| *tokens > 0);
        let context = context.map_or_else(String::new, |tokens| {
            format!(", enough for a context of {tokens} tokens")
        });
        sheet.note(format!("{how}: {room}{context}."));
        return;
    }
    let missing = units::bytes(memory.peak_bytes.saturating_sub(available));
    sheet.note(format!("Does not fit: {room}, {missing} are missing."));
    if let Some(tokens) = memory.largest_context.filter(|tokens| *tokens > 0) {
        sheet.note(format!("A context of {tokens} tokens would fit."));
    }
    if !memory.fitting_quants.is_empty() {
        sheet.note(format!("Would fit: {}.", listed(&memory.fitting_quants)));
    }
}

/// What there is to fit into. Of a device elsewhere only its whole memory is known.
fn room(p: &Prediction, available: u64) -> String {
    let bytes = units::bytes(available);
    match (p.memory.available_is, p.device.backend) {
        (Some(AvailableMemory::Installed), DeviceBackend::Cpu) => {
            format!("the device has {bytes} of memory, nothing else counted")
        }
        (Some(AvailableMemory::Installed), _) => {
            format!("the device has {bytes} of device memory, nothing else counted")
        }
        _ => format!("{bytes} are free"),
    }
}

fn op_sheet(p: &Prediction, most: usize) -> Sheet {
    let mut sheet = Sheet::new(
        format!("where the time goes: {} · {}", p.model.name, p.quant),
        &["phase", "op", ">ms", ">share", "bound", ">FLOP/byte", "kernel class"],
    );
    for phase in [Phase::Prefill, Phase::Decode] {
        let mut ops: Vec<&OpPrediction> = p.ops.iter().filter(|op| op.phase == phase).collect();
        ops.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        let total: f64 = ops.iter().map(|op| op.ms).sum();
        let share = |ms: f64| units::percent(if total > 0.0 { ms / total } else { 0.0 });
        for op in ops.iter().take(most) {
            sheet.row([
                phase.name().into(),
                op.op.clone(),
                units::ms(op.ms),
                share(op.ms),
                bound(op.bound).into(),
                units::significant(op.arithmetic_intensity, 3),
                op.class.clone(),
            ]);
        }
        let rest: f64 = ops.iter().skip(most).map(|op| op.ms).sum();
        if ops.len() > most {
            let name = format!("{} others", ops.len() - most);
            sheet.row([phase.name().into(), name, units::ms(rest), share(rest)]);
        }
    }
    sheet
}

/// What each operation's time is the sum of, and what was measured near it.
fn term_sheet(p: &Prediction) -> Sheet {
    let mut sheet = Sheet::new(
        format!("how each time comes about: {} · {}", p.model.name, p.quant),
        &["phase", "op", ">ms", "is the sum of", "kernel", "nearest measured"],
    );
    for op in &p.ops {
        let terms: Vec<String> = op.terms.iter().filter(|t| t.ms > 0.0).map(summand).collect();
        let own = match op.tier {
            Tier::SiblingQuantization => format!("borrowed: {}", op.class),
            _ => "own".into(),
        };
        sheet.row([
            op.phase.name().into(),
            op.op.clone(),
            units::ms(op.ms),
            terms.join(" + "),
            own,
            units::or_none(op.nearest.as_ref(), nearest),
        ]);
    }
    sheet.note(
        "Nearest measured: the largest ratio between the two kernels' features, and what the \
         coefficients make of the measured one.",
    );
    sheet
}

/// `22 calls × 6.70 µs`, `58.1 MiB of weights ÷ 14.2 GB/s`.
fn summand(term: &OpTerm) -> String {
    let name = term.feature.replace('_', " ");
    let value = term.value as u64;
    match term.unit.as_str() {
        "s/byte" => {
            let rate = units::bytes_per_second(1.0 / term.coefficient);
            format!("{} of {} ÷ {rate}", units::bytes(value), name.replace(" bytes", "s"))
        }
        "s/flop" => {
            let rate = units::flop_per_second(1.0 / term.coefficient);
            let kind = name.trim_end_matches("flop");
            format!("{kind}{} ÷ {rate}", units::flop(value))
        }
        _ => format!("{} {name} × {}", units::count(value), units::seconds(term.coefficient)),
    }
}

fn nearest(kernel: &NearestKernel) -> String {
    format!(
        "{} {} ({} at {}): ×{}, {}",
        kernel.model,
        kernel.op.trim_start_matches("matmul."),
        kernel.pass.n_tokens,
        kernel.pass.kv_len,
        units::significant(kernel.ratio, 2),
        units::signed_percent(kernel.residual)
    )
}

fn basis_sheet(p: &Prediction) -> Sheet {
    let mut sheet = Sheet::new("", &[]);
    sheet.note(format!("basis: {}", basis(p)));
    sheet.notes.extend(build(p));
    if !p.basis.nearest_devices.is_empty() {
        sheet.note(format!("most like it: {}", listed(&p.basis.nearest_devices)));
    }
    if !p.baselines.is_empty() {
        let naive: Vec<String> = p.baselines.iter().map(naive).collect();
        sheet.note(format!("naive methods: {}", naive.join("; ")));
    }
    if !p.basis.extrapolation.is_empty() {
        sheet.note(format!("extrapolates: {}", p.basis.extrapolation.join("; ")));
    }
    for warning in warnings(p) {
        sheet.note(format!("warning: {warning}"));
    }
    if p.cannot_run.is_none() && !p.verify.is_empty() {
        sheet.note(format!("verify: {}", p.verify));
    }
    sheet
}

/// What a prediction rests on.
fn basis(p: &Prediction) -> String {
    let tier = tier(p.basis.tier);
    match &p.basis.calibration {
        Some(id) if is_from_sheet(p) => {
            let rows = own_rows(p).map_or_else(String::new, |rows| format!(" ({rows})"));
            format!("{tier}{rows} · model of many devices {id}")
        }
        Some(id) if p.basis.tier == Tier::SameDeviceClass => {
            format!("the same GPU behind another processor was measured · calibration {id}")
        }
        Some(id) => format!("{tier} · calibration {id}"),
        None => tier.to_owned(),
    }
}

/// Measured rows of the device itself: `2 given, 15 known`.
fn own_rows(p: &Prediction) -> Option<String> {
    let sheet = p.basis.data_sheet.as_ref()?;
    let parts: Vec<String> = [(sheet.observed_rows, "given"), (sheet.known_rows, "known")]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Which build of the engine the times are of, where nothing was run.
fn build(p: &Prediction) -> Option<String> {
    let sheet = p.basis.data_sheet.as_ref()?;
    let month = sheet.engine_date.as_ref()?;
    let fused = match sheet.flash_attention {
        Some(true) => ", flash attention on",
        Some(false) => ", flash attention off",
        None => "",
    };
    let how = if sheet.engine_date_assumed { " (assumed; --engine-date)" } else { "" };
    Some(format!("times are of {} as it was in {month}{fused}{how}", p.device.engine))
}

/// `roofline: prefill 812 ms, decode 47.1 ms`.
fn naive((name, times): (&String, &BaselineTimes)) -> String {
    let times: Vec<String> = [("prefill", times.prefill_ms), ("decode", times.decode_ms)]
        .into_iter()
        .filter_map(|(phase, ms)| Some(format!("{phase} {}", units::duration_ms(ms?))))
        .collect();
    format!("{name}: {}", times.join(", "))
}

fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::Compute => "compute",
        Bound::Memory => "memory",
        Bound::Overhead => "overhead",
        Bound::Launch => "launch",
    }
}

fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::SameConfiguration => "this configuration was measured",
        Tier::SameShapes => "the same operation shapes were measured",
        Tier::SameQuantization => "the same kernels were measured on other shapes",
        Tier::SiblingQuantization => "a kernel is borrowed from a related quantization",
        Tier::MeasuredRows => "measured rows of this device",
        Tier::SameDeviceClass => "another device of the same class was measured",
        Tier::SpecSheet => "specification sheet only",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::prediction;

    #[test]
    fn a_data_sheet_says_which_build_and_whose_rows() {
        let mut p = prediction();
        p.basis.tier = Tier::MeasuredRows;
        p.basis.calibration = Some("cross-device".into());
        p.basis.data_sheet = Some(foretoken_spec::DataSheetBasis {
            engine_date: Some("2025-03".into()),
            engine_date_assumed: true,
            observed_rows: 2,
            known_rows: 5,
            ..Default::default()
        });
        let notes = basis_sheet(&p).notes.join("\n");
        let rows = "basis: measured rows of this device (2 given, 5 known) · model of many devices";
        assert!(notes.starts_with(rows), "{notes}");
        assert!(notes.contains("as it was in 2025-03 (assumed; --engine-date)"), "{notes}");
    }

    #[test]
    fn an_idle_power_that_is_guessed_says_so() {
        let mut p = prediction();
        p.energy_j = Some(foretoken_spec::EnergyPrediction {
            estimate: p.ttft_ms.unwrap(),
            source: "estimated from catalogue power".into(),
            prefill: None,
            per_token: None,
            with_idle: None,
            idle_w: Some(27.0),
            idle_guessed: true,
            battery_share: None,
        });
        let notes = card(&p).notes.join("\n");
        assert!(notes.contains("27.0 W, guessed from devices of its kind"), "{notes}");
    }

    #[test]
    fn only_this_machines_memory_is_called_free() {
        let says = |is, backend, peak: u64| {
            let mut p = prediction();
            p.device.backend = backend;
            p.memory.available_bytes = Some(8 << 30);
            p.memory.available_is = Some(is);
            p.memory.peak_bytes = peak << 30;
            p.memory.fits = Some(peak <= 8);
            p.memory.largest_context = None;
            memory_sheet(&p).notes.remove(0)
        };
        let installed = AvailableMemory::Installed;
        assert_eq!(says(AvailableMemory::Free, DeviceBackend::Cpu, 2), "Fits: 8.00 GiB are free.");
        assert_eq!(
            says(installed, DeviceBackend::Cpu, 2),
            "Fits: the device has 8.00 GiB of memory, nothing else counted."
        );
        assert_eq!(
            says(installed, DeviceBackend::Cuda, 9),
            "Does not fit: the device has 8.00 GiB of device memory, nothing else counted, \
             1.00 GiB are missing."
        );
    }
}
