//! Where the time of a run went: phases, kernels, tokens, what the probes cost, what changed.

use foretoken_spec::{
    Bound, ComparisonRow, KernelOp, KernelRow, KernelSource, Overhead, PhaseRow, ProfileComparison,
    ProfilePhase, ProfileReport, SpanClock, TensorRole, TensorType,
};
use serde::Serialize;

use crate::live::sparkline;
use crate::sheet::cell;
use crate::{Records, Report, Sheet, units};

/// Answer of `profile`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Profiled(pub ProfileReport);

/// Columns of a terminal that the widest table keeps within.
const WIDTH: usize = 110;
/// Columns of the longest bar.
const BAR: usize = 8;
/// Columns of the sparkline over the tokens.
const SPARKLINE: usize = 60;
/// Slow tokens that the table lists.
const SLOW_TOKENS: usize = 5;
/// Columns and lines of generated text.
const TEXT_WIDTH: usize = 90;
const TEXT_LINES: usize = 12;
/// Kernels within noise that a comparison lists.
const QUIET_KERNELS: usize = 5;
/// What a time from a microbenchmark is marked with.
const MARK: &str = "†";

impl Report for Profiled {
    fn sheets(&self) -> Vec<Sheet> {
        let report = &self.0;
        let mut sheets = Vec::new();
        if report.interrupted {
            sheets.push(Sheet::new(interruption(report), &[]));
        }
        let passes =
            [Pass::new(report, ProfilePhase::Prefill), Pass::new(report, ProfilePhase::Decode)];
        sheets.push(card(report, &passes));
        // Before the numbers that they put in doubt.
        if !report.warnings.is_empty() {
            let mut sheet = Sheet::new("", &[]);
            report.warnings.iter().for_each(|w| sheet.note(format!("warning: {w}")));
            sheets.push(sheet);
        }
        sheets.push(phase_sheet(report));
        sheets.extend(kernel_sheets(report, &passes));
        sheets.extend(latency_sheet(report));
        sheets.extend(slow_sheet(report));
        sheets.push(overhead_sheet(report));
        sheets.extend(report.generated_text.as_deref().and_then(text_sheet));
        sheets.extend(report.comparison.as_ref().map(comparison_sheet));
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
            "phase",
            "op",
            "role",
            "layer",
            "tensor_type",
            "shape",
            "calls",
            "ms",
            "share",
            "flop",
            "bytes",
            "flop_per_second",
            "bytes_per_second",
            "roofline_share",
            "bound",
            "source",
        ]);
        records.rows.extend(self.0.kernels.iter().map(|row| record(&self.0, row)));
        records
    }
}

fn record(report: &ProfileReport, row: &KernelRow) -> Vec<String> {
    vec![
        report.model.clone(),
        report.quant.clone(),
        report.device.clone(),
        report.engine.clone(),
        report.threads.to_string(),
        report.prompt_tokens.to_string(),
        report.generated_tokens.to_string(),
        row.phase.name().into(),
        row.op.name().into(),
        json_name(&row.role),
        cell(row.layer),
        cell(row.tensor_type),
        row.shape.map(|[inner, rows]| format!("{inner}x{rows}")).unwrap_or_default(),
        row.calls.to_string(),
        row.ms.to_string(),
        row.share.to_string(),
        cell(row.flop),
        cell(row.bytes),
        cell(row.flop_per_second),
        cell(row.bytes_per_second),
        cell(row.roofline_share),
        json_name(&row.bound),
        json_name(&row.source),
    ]
}

/// The name of an enum's variant in JSON; empty for null.
fn json_name(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn interruption(report: &ProfileReport) -> String {
    format!(
        "INTERRUPTED after {} generated tokens: everything below is about the part that ran.",
        report.generated_tokens
    )
}

fn card(report: &ProfileReport, passes: &[Pass]) -> Sheet {
    let run = format!(
        "{} · {} · {}, {} · {}",
        report.model,
        report.quant,
        report.device,
        units::plural(report.threads, "thread"),
        report.engine
    );
    let work = format!("prompt {} + gen {}", report.prompt_tokens, report.generated_tokens);
    let one_line = columns(&run) + columns(&work) + 3 <= WIDTH;
    let title = format!("{run}{}{work}", if one_line { " · " } else { "\n" });
    let headers = [">TTFT", ">TPOT", ">prefill tok/s", ">decode tok/s", ">end to end", ">wall"];
    let mut sheet = Sheet::new(title, &headers);
    let time = |ms: Option<f64>| units::or_none(ms, units::duration_ms);
    let rate = |rate: Option<f64>| units::or_none(rate, |rate| units::significant(rate, 3));
    sheet.row([
        time(report.ttft_ms),
        time(report.tpot_ms),
        rate(report.prefill_tokens_per_second),
        rate(report.decode_tokens_per_second),
        time(report.e2e_ms),
        time(Some(report.wall_ms)),
    ]);
    sheet.notes.extend(passes.iter().filter_map(Pass::summary));
    sheet.notes.extend(report.comparison.as_ref().map(headline));
    sheet
}

/// Decimals with which all times of a run are written, so that they can be added up.
fn decimals(wall_ms: f64) -> usize {
    match wall_ms {
        ms if ms < 1e2 => 3,
        ms if ms < 1e5 => 2,
        _ => 1,
    }
}

/// `values` rounded so that they add up to the rounded `total`: each is rounded up or down, up
/// where most is cut off. Values that do not add up to it are rounded to the nearest.
fn apportioned(values: &[f64], total: f64, decimals: usize) -> Vec<f64> {
    let scale = 10f64.powi(decimals as i32);
    let mut units: Vec<f64> = values.iter().map(|v| (v * scale).floor()).collect();
    let missing = (total * scale).round() - units.iter().sum::<f64>();
    if !adds_up(values, total, decimals) || !(0.0..=values.len() as f64).contains(&missing) {
        return values.iter().map(|v| (v * scale).round() / scale).collect();
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    let cut = |i: usize, units: &[f64]| values[i] * scale - units[i];
    order.sort_by(|a, b| cut(*b, &units).total_cmp(&cut(*a, &units)));
    order.iter().take(missing as usize).for_each(|i| units[*i] += 1.0);
    units.into_iter().map(|v| v / scale).collect()
}

/// Whether `values` make `total`, up to what rounding it to `decimals` may cut off.
fn adds_up(values: &[f64], total: f64, decimals: usize) -> bool {
    let tolerance = 10f64.powi(-(decimals as i32)) + total.abs() * 1e-9;
    (values.iter().sum::<f64>() - total).abs() <= tolerance
}

fn fixed(value: f64, decimals: usize) -> String {
    // Not `-0.00`.
    if value.is_finite() { format!("{:.decimals$}", value + 0.0) } else { units::NONE.into() }
}

/// A percentage that [`apportioned`] rounded.
fn tenths(percent: f64) -> String {
    format!("{} %", fixed(percent, 1))
}

/// Shares in percent, rounded so that they add up to `total` percent.
fn percents(values: &[f64], of: f64, total: f64) -> Vec<f64> {
    let shares: Vec<f64> = values.iter().map(|v| v / of * 100.0).collect();
    apportioned(&shares, total, 1)
}

/// A bar of at most `width` columns, full where `part` is `most`.
fn bar(part: f64, most: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let fraction = if part > 0.0 && most > 0.0 { (part / most).min(1.0) } else { 0.0 };
    let eighths = (fraction * (width * 8) as f64).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// Adds a last row under a rule in the columns whose sum it is.
fn total_row(sheet: &mut Sheet, summed: [usize; 2], cells: impl IntoIterator<Item = String>) {
    sheet.row(cells);
    let mut rule = vec![String::new(); sheet.columns.len()];
    for column in summed {
        rule[column] = "─".repeat(width_of(sheet, column));
    }
    sheet.rows.insert(sheet.rows.len() - 1, rule);
}

fn width_of(sheet: &Sheet, column: usize) -> usize {
    let cells = sheet.rows.iter().map(|row| &row[column]);
    let cells = cells.chain([&sheet.columns[column].header]);
    cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
}

/// The phases whose sum with what is unaccounted is the wall time, prefill and decode first.
fn whole_phases(report: &ProfileReport) -> Vec<&PhaseRow> {
    let is_whole = |row: &&PhaseRow| {
        row.phase.is_sum() || (row.prefill_ms.is_none() && row.decode_ms.is_none())
    };
    let mut wholes: Vec<&PhaseRow> = report.phases.iter().filter(is_whole).collect();
    wholes.sort_by_key(|row| (!row.phase.is_sum(), row.phase));
    wholes
}

/// Their times, and what is unaccounted.
fn whole_times(report: &ProfileReport, wholes: &[&PhaseRow]) -> impl Iterator<Item = f64> {
    wholes.iter().map(|row| row.ms).chain([report.unaccounted_ms])
}

/// Time of a phase as the phases' own table prints it.
fn printed_ms(report: &ProfileReport, phase: ProfilePhase) -> Option<f64> {
    let wholes = whole_phases(report);
    let times: Vec<f64> = whole_times(report, &wholes).collect();
    let printed = apportioned(&times, report.wall_ms, decimals(report.wall_ms));
    wholes.iter().position(|row| row.phase == phase).map(|i| printed[i])
}

fn phase_sheet(report: &ProfileReport) -> Sheet {
    let headers = ["phase", ">calls", ">per call", ">part ms", ">share", ">ms", ">share", ""];
    let mut sheet = Sheet::new("phases", &headers);
    let decimals = decimals(report.wall_ms);
    let wholes = whole_phases(report);
    let times: Vec<f64> = whole_times(report, &wholes).collect();
    let printed = apportioned(&times, report.wall_ms, decimals);
    let shares = percents(&times, report.wall_ms, 100.0);
    let longest = times.iter().copied().fold(0.0, f64::max);
    let end =
        |i: usize| [fixed(printed[i], decimals), tenths(shares[i]), bar(times[i], longest, BAR)];
    for (i, row) in wholes.iter().enumerate() {
        let begin = [row.phase.name().into(), row.calls.to_string(), per_call(row.ms, row.calls)];
        sheet.row(begin.into_iter().chain(["".into(), "".into()]).chain(end(i)));
        part_rows(&mut sheet, report, row, [printed[i], shares[i]]);
    }
    let blank = [const { String::new() }; 4];
    sheet.row(["unaccounted".to_owned()].into_iter().chain(blank.clone()).chain(end(wholes.len())));
    let total = [fixed(report.wall_ms, decimals), tenths(100.0)];
    total_row(&mut sheet, [5, 6], ["wall".to_owned()].into_iter().chain(blank).chain(total));

    sheet.note(
        "wall is the sum of the column above it; prefill and decode are those of their parts.",
    );
    sheet.note("unaccounted is what lies between the phases: the profiler's own loop.");
    if !adds_up(&times, report.wall_ms, decimals) {
        let sum = fixed(times.iter().sum(), decimals);
        sheet.note(format!("warning: these rows add up to {sum} ms instead."));
    }
    sheet
}

/// The parts of prefill or decode, given its printed time and share.
fn part_rows(sheet: &mut Sheet, report: &ProfileReport, whole: &PhaseRow, printed: [f64; 2]) {
    let part_ms = |row: &PhaseRow| match whole.phase {
        ProfilePhase::Prefill => row.prefill_ms,
        ProfilePhase::Decode => row.decode_ms,
        _ => None,
    };
    let parts = report.phases.iter().filter(|row| !row.phase.is_sum());
    let mut parts: Vec<(ProfilePhase, f64)> =
        parts.filter_map(|row| Some((row.phase, part_ms(row)?))).collect();
    parts.sort_by_key(|(phase, _)| *phase);

    let times: Vec<f64> = parts.iter().map(|(_, ms)| *ms).collect();
    let decimals = decimals(report.wall_ms);
    let ms = apportioned(&times, printed[0], decimals);
    let shares = percents(&times, report.wall_ms, printed[1]);
    for (i, (phase, time)) in parts.iter().enumerate() {
        let branch = if i + 1 == parts.len() { '└' } else { '├' };
        sheet.row([
            format!("{branch} {}", phase.name()),
            whole.calls.to_string(),
            per_call(*time, whole.calls),
            fixed(ms[i], decimals),
            tenths(shares[i]),
        ]);
    }
    if !times.is_empty() && !adds_up(&times, whole.ms, decimals) {
        let (name, sum) = (whole.phase.name(), fixed(times.iter().sum(), decimals));
        sheet.note(format!("warning: the parts of {name} add up to {sum} ms."));
    }
}

fn per_call(ms: f64, calls: u32) -> String {
    if calls == 0 { units::NONE.into() } else { units::duration_ms(ms / f64::from(calls)) }
}

/// A kernel over all layers that it runs in.
#[derive(Debug, Clone)]
struct Kernel {
    op: KernelOp,
    role: Option<TensorRole>,
    tensor_type: Option<TensorType>,
    /// Shapes that occur, in the order of the layers.
    shapes: Vec<[u64; 2]>,
    calls: u32,
    ms: f64,
    flop: Option<u64>,
    bytes: Option<u64>,
    /// Shortest time by the roofline.
    ideal_ms: Option<f64>,
    /// Time by what limits it.
    bounds: Vec<(Bound, f64)>,
    microbenchmark: bool,
}

impl Kernel {
    fn new(row: &KernelRow) -> Self {
        Self {
            op: row.op,
            role: row.role,
            tensor_type: row.tensor_type,
            shapes: Vec::new(),
            calls: 0,
            ms: 0.0,
            flop: Some(0),
            bytes: Some(0),
            ideal_ms: Some(0.0),
            bounds: Vec::new(),
            microbenchmark: false,
        }
    }

    fn is(&self, row: &KernelRow) -> bool {
        (self.op, self.role, self.tensor_type) == (row.op, row.role, row.tensor_type)
    }

    fn add(&mut self, row: &KernelRow) {
        self.shapes.extend(row.shape.filter(|shape| !self.shapes.contains(shape)));
        self.calls = self.calls.saturating_add(row.calls);
        self.ms += row.ms;
        self.flop = self.flop.zip(row.flop).map(|(a, b)| a.saturating_add(b));
        self.bytes = self.bytes.zip(row.bytes).map(|(a, b)| a.saturating_add(b));
        self.ideal_ms = self.ideal_ms.zip(row.roofline_share).map(|(a, b)| a + b * row.ms);
        if let Some(bound) = row.bound {
            match self.bounds.iter_mut().find(|(b, _)| *b == bound) {
                Some((_, ms)) => *ms += row.ms,
                None => self.bounds.push((bound, row.ms)),
            }
        }
        self.microbenchmark |= row.source == KernelSource::Microbenchmark;
    }

    fn bound(&self) -> Option<Bound> {
        self.bounds.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(bound, _)| *bound)
    }

    /// Type and shape of the matrix: `Q4_K 2048×5632`.
    fn matrix(&self) -> String {
        let shapes = match self.shapes.as_slice() {
            [] => String::new(),
            [one] => shape(*one),
            several => format!("{} shapes", several.len()),
        };
        let tensor_type = self.tensor_type.map(TensorType::name).unwrap_or_default();
        format!("{tensor_type:4} {shapes}").trim().to_owned()
    }
}

/// The kernels of prefill or decode, by time.
struct Pass {
    phase: ProfilePhase,
    ms: f64,
    kernels: Vec<Kernel>,
}

impl Pass {
    fn new(report: &ProfileReport, phase: ProfilePhase) -> Self {
        let mut kernels: Vec<Kernel> = Vec::new();
        for row in report.kernels.iter().filter(|row| row.phase == phase) {
            let index = kernels.iter().position(|kernel| kernel.is(row)).unwrap_or_else(|| {
                kernels.push(Kernel::new(row));
                kernels.len() - 1
            });
            kernels[index].add(row);
        }
        kernels.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        let ms = kernels.iter().map(|kernel| kernel.ms).sum();
        Self { phase, ms, kernels }
    }

    /// The largest kernels, what limits them, and how far they are from the best: one line.
    fn summary(&self) -> Option<String> {
        let mut named: Vec<(String, f64)> = Vec::new();
        for kernel in &self.kernels {
            let name = kernel_name(kernel.op, kernel.role);
            let name = name.trim_start_matches("matmul.").to_owned();
            match named.iter_mut().find(|(known, _)| *known == name) {
                Some((_, ms)) => *ms += kernel.ms,
                None => named.push((name, kernel.ms)),
            }
        }
        named.sort_by(|a, b| b.1.total_cmp(&a.1));
        if named.is_empty() || self.ms <= 0.0 {
            return None;
        }
        let share = |ms: f64| format!("{:.0} %", ms / self.ms * 100.0);
        let line = |n: usize| {
            let largest = named.iter().take(n).map(|(name, ms)| format!("{name} {}", share(*ms)));
            let mut parts = vec![largest.collect::<Vec<_>>().join(", ")];
            parts.extend(self.bound().map(|(bound, ms)| format!("{} {bound}-bound", share(ms))));
            parts.extend(self.roofline().map(|r| format!("{:.0} % of the roofline", r * 100.0)));
            format!("{:<7}  {}", self.phase.name(), parts.join(" · "))
        };
        [3, 2, 1].into_iter().map(line).find(|line| line.chars().count() <= WIDTH)
    }

    /// What limits most of the time, and how much of it.
    fn bound(&self) -> Option<(&'static str, f64)> {
        let by = |bound| self.kernels.iter().flat_map(|k| &k.bounds).filter(move |b| b.0 == bound);
        let times = [Bound::Compute, Bound::Memory, Bound::Overhead, Bound::Launch]
            .map(|bound| (bound_name(bound), by(bound).map(|b| b.1).sum::<f64>()));
        times.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, ms)| *ms > 0.0)
    }

    /// Roofline share of all kernels that have one.
    fn roofline(&self) -> Option<f64> {
        let with = self.kernels.iter().filter_map(|k| Some((k.ideal_ms?, k.ms)));
        let (ideal, ms) = with.fold((0.0, 0.0), |sum, k| (sum.0 + k.0, sum.1 + k.1));
        (ideal > 0.0 && ms > 0.0).then(|| ideal / ms)
    }

    fn sheet(&self, report: &ProfileReport) -> Sheet {
        let headers = [
            "kernel",
            "matrix",
            ">calls",
            ">ms",
            ">µs/call",
            ">share",
            "",
            ">GFLOP/s",
            ">GB/s",
            "roofline",
        ];
        let title = format!("kernels of {}, all layers together", self.phase.name());
        let mut sheet = Sheet::new(title, &headers);
        let decimals = decimals(report.wall_ms);
        let times: Vec<f64> = self.kernels.iter().map(|kernel| kernel.ms).collect();
        let whole = report.phases.iter().find(|row| row.phase == self.phase).map(|row| row.ms);
        // What the phases print, where that is the sum: both tables then show the same number.
        let is_whole = whole.is_some_and(|ms| adds_up(&times, ms, decimals));
        let total = printed_ms(report, self.phase).filter(|_| is_whole).unwrap_or(self.ms);
        let ms = apportioned(&times, total, decimals);
        let shares = percents(&times, total, 100.0);
        for (i, kernel) in self.kernels.iter().enumerate() {
            let mark = if kernel.microbenchmark { MARK } else { "" };
            sheet.row([
                format!("{}{mark}", kernel_name(kernel.op, kernel.role)),
                kernel.matrix(),
                kernel.calls.to_string(),
                fixed(ms[i], decimals),
                units::significant(kernel.ms * 1e3 / f64::from(kernel.calls), 3),
                tenths(shares[i]),
                String::new(),
                giga(kernel.flop, kernel.ms),
                giga(kernel.bytes, kernel.ms),
                roofline(kernel),
            ]);
        }
        let sum = |of: fn(&Kernel) -> Option<u64>| {
            let known = self.kernels.iter().filter_map(of);
            giga(known.reduce(u64::saturating_add), self.ms)
        };
        let mut cells = [const { String::new() }; 10];
        cells[0] = "sum".into();
        cells[3] = fixed(total, decimals);
        cells[5] = tenths(100.0);
        cells[7] = sum(|kernel| kernel.flop);
        cells[8] = sum(|kernel| kernel.bytes);
        total_row(&mut sheet, [3, 5], cells);
        self.draw_bars(&mut sheet);
        if let Some(whole) = whole.filter(|ms| !adds_up(&times, *ms, decimals)) {
            let (name, ms) = (self.phase.name(), fixed(whole, decimals));
            sheet.note(format!("warning: {name} took {ms} ms: kernels and phase differ."));
        }
        sheet
    }

    /// Fills the column beside the shares with what room the others leave.
    fn draw_bars(&self, sheet: &mut Sheet) {
        const COLUMN: usize = 6;
        let columns: usize = (0..sheet.columns.len()).map(|column| width_of(sheet, column)).sum();
        let gaps = 2 * (sheet.columns.len() - 1);
        let width = WIDTH.saturating_sub(columns + gaps).min(BAR);
        let longest = self.kernels.first().map_or(0.0, |kernel| kernel.ms);
        for (row, kernel) in sheet.rows.iter_mut().zip(&self.kernels) {
            row[COLUMN] = bar(kernel.ms, longest, width);
        }
    }
}

/// One table for each pass that ran, explained once.
fn kernel_sheets(report: &ProfileReport, passes: &[Pass]) -> Vec<Sheet> {
    let passes: Vec<&Pass> = passes.iter().filter(|pass| !pass.kernels.is_empty()).collect();
    let mut sheets: Vec<Sheet> = passes.iter().map(|pass| pass.sheet(report)).collect();
    let Some(last) = sheets.last_mut() else { return sheets };
    let ceilings = &report.ceilings;
    last.note(format!(
        "roofline: shortest time by the measured {} and {}, over the time taken; and its bound.",
        units::flop_per_second(ceilings.matmul_flop_per_second),
        units::bytes_per_second(ceilings.stream_bytes_per_second)
    ));
    if passes.iter().any(|pass| pass.kernels.iter().any(|kernel| kernel.microbenchmark)) {
        last.note(format!(
            "{MARK} timed together in the run, and divided as microbenchmarks on the same shapes \
             divide."
        ));
    }
    sheets
}

/// `matmul.ffn_down`, `rope.attn_q`; `lm_head` alone, whose matrix is no question.
fn kernel_name(op: KernelOp, role: Option<TensorRole>) -> String {
    match role {
        Some(role) if !matches!(op, KernelOp::LmHead | KernelOp::Embedding) => {
            format!("{}.{}", op.name(), role.gguf_stem())
        }
        _ => op.name().to_owned(),
    }
}

fn shape([inner, rows]: [u64; 2]) -> String {
    format!("{inner}×{rows}")
}

/// `amount` over `ms`, in 10⁹ per second.
fn giga(amount: Option<u64>, ms: f64) -> String {
    let rate = amount.map(|amount| amount as f64 / ms / 1e6);
    units::or_none(rate.filter(|rate| *rate > 0.0), |rate| fixed(rate, 1))
}

/// ` 61 % memory`.
fn roofline(kernel: &Kernel) -> String {
    let Some(ideal) = kernel.ideal_ms else { return format!("{:>5}", units::NONE) };
    let share = if kernel.ms > 0.0 { ideal / kernel.ms * 100.0 } else { f64::NAN };
    let bound = kernel.bound().map(bound_name).unwrap_or_default();
    format!("{:>3} % {bound}", fixed(share, 0)).trim_end().to_owned()
}

fn bound_name(bound: Bound) -> &'static str {
    match bound {
        Bound::Compute => "compute",
        Bound::Memory => "memory",
        Bound::Overhead => "overhead",
        Bound::Launch => "launch",
    }
}

fn latency_sheet(report: &ProfileReport) -> Option<Sheet> {
    let percentiles = report.inter_token_ms?;
    let times: Vec<f64> = report.tokens.iter().skip(1).map(|token| token.ms).collect();
    let order = format!("{} tokens after the first, in order", times.len());
    let headers = [">p50 ms", ">p90 ms", ">p99 ms", ">max ms", order.as_str()];
    let mut sheet = Sheet::new("time between tokens", &headers);
    let of = [percentiles.p50, percentiles.p90, percentiles.p99, percentiles.max];
    sheet.row(of.map(units::ms).into_iter().chain([sparkline(&times, SPARKLINE)]));
    let preempted = report.tokens.iter().filter(|token| token.preempted).count();
    if preempted > 0 {
        sheet.note(format!("The processor was taken away during {preempted} of the tokens."));
    }
    Some(sheet)
}

fn slow_sheet(report: &ProfileReport) -> Option<Sheet> {
    let headers = [">token", ">depth", ">ms", ">× median", "what took longer"];
    let mut sheet = Sheet::new("slowest tokens", &headers);
    for token in report.slowest_tokens.iter().take(SLOW_TOKENS) {
        sheet.row([
            token.index.to_string(),
            token.kv_len.to_string(),
            units::ms(token.ms),
            fixed(token.ratio, 2),
            token.what.clone(),
        ]);
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}

fn overhead_sheet(report: &ProfileReport) -> Sheet {
    let overhead = &report.overhead;
    let headers = [
        "",
        ">of a pass",
        ">95 % interval",
        ">pairs",
        ">tokens",
        ">events",
        ">recording alone",
        ">of the run",
    ];
    let mut sheet = Sheet::new("what the probes cost", &headers);
    for (name, cost) in [("prefill", overhead.prefill), ("decode", overhead.decode)] {
        let Some(cost) = cost else { continue };
        sheet.row([
            name.into(),
            hundredths(cost.fraction),
            interval(&cost),
            cost.pairs.to_string(),
            cost.n_tokens.to_string(),
            cost.events.to_string(),
            plain_hundredths(cost.computed),
            hundredths(cost.run),
        ]);
    }
    if sheet.rows.is_empty() {
        sheet.note("Not measured: no pass ran both with probes and without.");
        return sheet;
    }
    let steps = match overhead.sampled_every {
        0 | 1 => "Every decode step was probed".to_owned(),
        2 => "Half of the decode steps were probed".to_owned(),
        n => format!("One decode step in {n} was probed"),
    };
    sheet.note(format!(
        "of a pass: median over pairs, probed and unprobed. recording alone: events × {} ns.",
        units::significant(overhead.ns_per_event, 3)
    ));
    let costs = [overhead.prefill, overhead.decode];
    // The interval speaks of a pass, the budget of the run.
    let of_run = |cost: &Overhead, end: f64| {
        if cost.fraction == 0.0 { end } else { end * cost.run / cost.fraction }
    };
    let measured: Vec<Overhead> = costs.into_iter().flatten().collect();
    let verdict = if measured.iter().any(|cost| of_run(cost, cost.lower) > overhead.budget) {
        "MORE than the allowed"
    } else if measured.iter().all(|cost| of_run(cost, cost.upper) <= overhead.budget) {
        "within the allowed"
    } else {
        "too noisy to hold against the allowed"
    };
    sheet.note(format!("{steps}: {verdict} {}.", plain_hundredths(overhead.budget)));
    let clock = match report.span_clock {
        SpanClock::Host => None,
        SpanClock::Events => {
            Some("Times inside a pass are the device's own, from events in its queue.")
        }
        SpanClock::Synchronised => Some(
            "Times inside a pass are the host's, which waited for the device at each: launches that \
             would hide behind earlier work are in them.",
        ),
    };
    sheet.notes.extend(clock.map(str::to_owned));
    sheet
}

/// A small signed fraction: `+0.12 %`.
fn hundredths(fraction: f64) -> String {
    let percent = fixed(fraction.abs() * 100.0, 2);
    let sign = if fraction < 0.0 && percent != "0.00" { "−" } else { "+" };
    format!("{sign}{percent} %")
}

fn plain_hundredths(fraction: f64) -> String {
    format!("{} %", fixed(fraction * 100.0, 2))
}

fn interval(cost: &Overhead) -> String {
    let lower = hundredths(cost.lower);
    format!("{} … {}", lower.trim_end_matches(" %"), hundredths(cost.upper))
}

/// Generated text in lines that fit; control characters, which a terminal might obey, are dots.
fn text_sheet(text: &str) -> Option<Sheet> {
    let mut lines = wrapped(text.trim(), TEXT_WIDTH);
    let surplus = lines.len().saturating_sub(TEXT_LINES);
    lines.truncate(TEXT_LINES);
    let mut sheet = Sheet::new("generated text", &[""]);
    lines.into_iter().for_each(|line| sheet.row([line]));
    if surplus > 0 {
        sheet.note(format!("{surplus} more lines; JSON has all of them."));
    }
    (!sheet.rows.is_empty()).then_some(sheet)
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        let mut used = 0;
        for word in paragraph.split_whitespace() {
            let word: String = word.chars().map(|c| if c.is_control() { '·' } else { c }).collect();
            if used > 0 && used + 1 + columns(&word) > width {
                lines.push(std::mem::take(&mut line));
                used = 0;
            } else if used > 0 {
                line.push(' ');
                used += 1;
            }
            for character in word.chars() {
                if used + column(character) > width {
                    lines.push(std::mem::take(&mut line));
                    used = 0;
                }
                line.push(character);
                used += column(character);
            }
        }
        lines.push(line);
    }
    lines
}

fn columns(text: &str) -> usize {
    text.chars().map(column).sum()
}

/// Columns of a character: two for what East Asian scripts and emoji take.
fn column(character: char) -> usize {
    match u32::from(character) {
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff => 2,
        0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff => 2,
        0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

fn comparison_sheet(comparison: &ProfileComparison) -> Sheet {
    let headers =
        ["phase", "kernel", ">old ms", ">new ms", ">new/old", ">95 % interval", "verdict"];
    let title = format!("against the run of {}", comparison.old_time);
    let mut sheet = Sheet::new(title, &headers);
    let (loud, quiet): (Vec<_>, Vec<_>) = comparison.rows.iter().partition(|row| row.beyond_noise);
    let mut kernels = 0;
    for row in loud.into_iter().chain(quiet) {
        kernels += usize::from(row.op.is_some() && !row.beyond_noise);
        if row.op.is_some() && !row.beyond_noise && kernels > QUIET_KERNELS {
            continue;
        }
        let interval = row.lower.zip(row.upper);
        sheet.row([
            row.phase.name().into(),
            row.op.map(|op| kernel_name(op, row.role)).unwrap_or_else(|| "(all)".into()),
            units::ms(row.old_ms),
            units::ms(row.new_ms),
            fixed(row.ratio, 3),
            units::or_none(interval, |(l, u)| format!("{} – {}", fixed(l, 3), fixed(u, 3))),
            verdict(row).into(),
        ]);
    }
    if let Some(more) = kernels.checked_sub(QUIET_KERNELS).filter(|more| *more > 0) {
        sheet.note(format!("{more} more kernels are within noise."));
    }
    sheet.note(format!(
        "ms: median of one call or pass. Noise is {}: only an interval beyond it counts.",
        units::percent(comparison.noise)
    ));
    sheet.note(format!(
        "The machine itself has drifted by {} in memory and {} in arithmetic speed since then.",
        units::signed_percent(comparison.stream_drift - 1.0),
        units::signed_percent(comparison.matmul_drift - 1.0)
    ));
    comparison.warnings.iter().for_each(|w| sheet.note(format!("warning: {w}")));
    sheet.notes.extend(threshold(comparison));
    sheet
}

fn verdict(row: &ComparisonRow) -> &'static str {
    match row.lower.zip(row.upper) {
        _ if row.beyond_noise && row.ratio > 1.0 => "slower",
        _ if row.beyond_noise => "faster",
        Some(_) => "within noise",
        None => "one sample",
    }
}

/// What the comparison found, for the card.
fn headline(comparison: &ProfileComparison) -> String {
    let count = |word| comparison.rows.iter().filter(|row| verdict(row) == word).count();
    let found = match (count("slower"), count("faster")) {
        (0, 0) => "nothing changed beyond noise".to_owned(),
        (slower, faster) => format!("{slower} slower, {faster} faster beyond noise"),
    };
    let failed = if comparison.failed { " · FAIL" } else { "" };
    format!("against the run of {}: {found}{failed}", comparison.old_time)
}

/// `PASS: …` or `FAIL: …`, where a threshold was asked for.
fn threshold(comparison: &ProfileComparison) -> Option<String> {
    let allowed = comparison.fail_above?;
    let limit = units::percent(allowed);
    if !comparison.failed {
        return Some(format!("PASS: nothing is more than {limit} slower beyond noise."));
    }
    let above = comparison.rows.iter().filter(|r| r.beyond_noise && r.ratio - 1.0 > allowed);
    let worst = above.max_by(|a, b| a.ratio.total_cmp(&b.ratio));
    Some(worst.map_or_else(
        || format!("FAIL: slower than the {limit} that was allowed."),
        |row| {
            let kernel = row.op.map(|op| format!(" {}", kernel_name(op, row.role)));
            format!(
                "FAIL: {}{} is {} slower; {limit} was allowed.",
                row.phase.name(),
                kernel.unwrap_or_default(),
                units::percent(row.ratio - 1.0)
            )
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// Sum of the numbers in a column, and the last of them.
    fn column_and_total(sheet: &Sheet, column: usize) -> (f64, f64) {
        let numbers = sheet.rows.iter().map(|row| row[column].trim_end_matches(" %"));
        let numbers: Vec<f64> = numbers.filter_map(|text| text.parse().ok()).collect();
        let (total, parts) = numbers.split_last().unwrap();
        (parts.iter().sum(), *total)
    }

    fn assert_adds_up(sheet: &Sheet, column: usize) {
        let (sum, total) = column_and_total(sheet, column);
        assert!((sum - total).abs() < 1e-6, "{}: {sum} is not {total}", sheet.title);
    }

    fn scaled(factor: f64) -> ProfileReport {
        let mut report = testing::profile();
        report.wall_ms *= factor;
        report.unaccounted_ms *= factor;
        report.kernels.iter_mut().for_each(|row| row.ms *= factor);
        for row in &mut report.phases {
            let parts = [&mut row.prefill_ms, &mut row.decode_ms].into_iter().flatten();
            parts.chain([&mut row.ms]).for_each(|ms| *ms *= factor);
        }
        report
    }

    #[test]
    fn the_printed_rows_add_up() {
        // Some of these are rounded one way by the nearest number and the other way by the sum.
        (0..50).for_each(|i| assert_printed_rows_add_up(&scaled(1.0 + 0.0137 * f64::from(i))));
    }

    fn assert_printed_rows_add_up(report: &ProfileReport) {
        let phases = phase_sheet(report);
        assert_adds_up(&phases, 5);
        assert_adds_up(&phases, 6);
        for phase in [ProfilePhase::Prefill, ProfilePhase::Decode] {
            let kernels = Pass::new(report, phase).sheet(report);
            assert_adds_up(&kernels, 3);
            assert_adds_up(&kernels, 5);
            let (sum, _) = column_and_total(&kernels, 3);
            let whole = phases.rows.iter().position(|row| row[0] == phase.name()).unwrap();
            assert_eq!(fixed(sum, 2), phases.rows[whole][5]);
            let parts = phases.rows[whole + 1..].iter().take_while(|row| !row[3].is_empty());
            let parts: f64 = parts.map(|row| row[3].parse::<f64>().unwrap()).sum();
            assert_eq!(fixed(parts, 2), phases.rows[whole][5]);
        }
    }

    #[test]
    fn rows_that_do_not_add_up_are_said_to() {
        let mut report = testing::profile();
        report.wall_ms += 7.0;
        let note = phase_sheet(&report).notes.pop().unwrap();
        assert!(note.starts_with("warning: these rows add up to "), "{note}");
        report.kernels.retain(|row| row.op != KernelOp::LmHead);
        let note = Pass::new(&report, ProfilePhase::Decode).sheet(&report).notes.pop().unwrap();
        assert!(note.starts_with("warning: decode took "), "{note}");
    }

    #[test]
    fn long_runs_of_large_models_fit_a_terminal() {
        let mut report = testing::profile();
        for row in &mut report.kernels {
            row.ms *= 300.0;
            row.bound = row.bound.map(|_| Bound::Overhead);
            row.shape = row.shape.map(|_| [16_384, 128_256]);
            row.role = row.role.map(|_| TensorRole::OutputNorm);
            row.tensor_type = row.tensor_type.map(|_| TensorType::IQ4_XS);
        }
        report.phases.iter_mut().for_each(|row| row.ms *= 300.0);
        report.wall_ms *= 300.0;
        report.device = "a-cpu-with-a-name-as-long-as-marketing-makes-them-8c".into();
        let text = crate::render(&Profiled(report), crate::Format::Table).unwrap();
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(WIDTH), "{widest:?} columns:\n{text}");
    }

    #[test]
    fn rounding_keeps_the_sum() {
        assert_eq!(apportioned(&[1.0 / 3.0; 3], 1.0, 1), [0.4, 0.3, 0.3]);
        assert_eq!(apportioned(&[0.04, 0.04, 99.92], 100.0, 1), [0.1, 0.0, 99.9]);
        assert_eq!(apportioned(&[1.26, 1.26], 7.0, 1), [1.3, 1.3]);
        assert_eq!(apportioned(&[], 0.0, 1), [0.0; 0]);
    }

    #[test]
    fn layers_of_one_kernel_are_weighted_by_time() {
        let report = testing::profile();
        let pass = Pass::new(&report, ProfilePhase::Decode);
        let rows = || report.kernels.iter().filter(|row| pass.kernels[1].is(row));
        let rows = || rows().filter(|row| row.phase == ProfilePhase::Decode);
        let ideal: f64 = rows().map(|row| row.ms * row.roofline_share.unwrap()).sum();
        assert!(rows().count() == 2 && pass.kernels[1].calls == 10);
        assert!((pass.kernels[1].ideal_ms.unwrap() - ideal).abs() < 1e-9);
    }

    #[test]
    fn bars_grow_by_eighths() {
        assert_eq!(bar(1.0, 1.0, 8), "████████");
        assert_eq!(bar(0.5, 1.0, 3), "█▌");
        assert_eq!(bar(0.0, 1.0, 8), "");
        assert_eq!(bar(1.0, 0.0, 8), "");
        assert_eq!(bar(f64::NAN, 1.0, 8), "");
    }

    #[test]
    fn text_is_wrapped_and_harmless() {
        assert_eq!(wrapped("one two\nthree", 6), ["one", "two", "three"]);
        assert_eq!(wrapped("abcdefgh i", 4), ["abcd", "efgh", "i"]);
        assert_eq!(wrapped("日本語", 4), ["日本", "語"]);
        assert_eq!(wrapped("\u{1b}[31mred", 20), ["·[31mred"]);
        assert!(text_sheet("  ").is_none());
    }

    #[test]
    fn a_run_that_was_stopped_early_still_reads() {
        let mut report = testing::profile();
        report.phases.clear();
        report.kernels.clear();
        report.tokens.clear();
        report.inter_token_ms = None;
        report.overhead.prefill = None;
        report.overhead.decode = None;
        report.interrupted = true;
        let sheets = Profiled(report).sheets();
        assert!(sheets[0].title.starts_with("INTERRUPTED"));
        assert!(sheets.iter().all(|sheet| !sheet.to_table().contains("NaN")));
    }
}
