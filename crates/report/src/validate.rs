//! A validation: errors by hold-out and phase with the baselines beside, then the worst cases.

use std::collections::BTreeSet;

use foretoken_spec::{
    FormComparison, GroupError, HoldOut, LearningCurve, MetricError, ValidationCase,
    ValidationReport,
};

use crate::{Records, Report, Sheet, units};

/// Cases that the table lists.
const WORST_CASES: usize = 10;

impl Report for ValidationReport {
    fn sheets(&self) -> Vec<Sheet> {
        let mut sheets = vec![
            error_sheet(self),
            certainty_sheet(self),
            metric_sheet(self),
            undated_sheet(self),
            baseline_sheet(self),
        ];
        sheets.retain(|sheet| !sheet.rows.is_empty());
        if !self.cases.is_empty() {
            sheets.push(worst_sheet(&self.cases));
        }
        let mut end = Sheet::new("", &[]);
        for warning in &self.warnings {
            end.note(format!("warning: {warning}"));
        }
        for setup in self.device.split("; ").filter(|_| self.device.contains("; ")) {
            end.note(format!("measured on: {setup}"));
        }
        end.note(format!("data: {}", self.data.join(", ")));
        sheets.push(end);
        sheets
    }

    fn records(&self) -> Records {
        let mut records = Records::new(&[
            "hold_out",
            "held_out",
            "model",
            "quant",
            "phase",
            "n_tokens",
            "kv_len",
            "loads",
            "observed_ms",
            "predicted_ms",
            "lower_ms",
            "upper_ms",
            "error",
            "noise",
            "tier",
            "extrapolation",
            "reason",
            "group",
            "rows",
            "spec_only_ms",
        ]);
        for case in &self.cases {
            records.rows.push(vec![
                case.hold_out.name().into(),
                case.held_out.clone(),
                case.model.clone(),
                case.quant.clone(),
                case.phase.name().into(),
                case.n_tokens.to_string(),
                case.kv_len.to_string(),
                case.loads.to_string(),
                case.observed_ms.to_string(),
                case.predicted_ms.to_string(),
                case.lower_ms.to_string(),
                case.upper_ms.to_string(),
                case.error.to_string(),
                crate::sheet::cell(case.noise),
                case.tier.name().into(),
                case.extrapolation.join("; "),
                case.reason.clone(),
                case.group.clone().unwrap_or_default(),
                case.rows.to_string(),
                crate::sheet::cell(case.spec_only_ms),
            ]);
        }
        records
    }
}

/// What stands in the first column of tables of errors.
fn hold_out_name(hold_out: HoldOut) -> String {
    hold_out.name().replace('_', " ")
}

fn held_out(group: &GroupError) -> String {
    let given = match group.rows {
        0 => String::new(),
        1 => ", 1 row".into(),
        n => format!(", {n} rows"),
    };
    match &group.group {
        Some(name) => format!("{} ({name}{given})", hold_out_name(group.hold_out)),
        None => format!("{}{given}", hold_out_name(group.hold_out)),
    }
}

fn error_sheet(report: &ValidationReport) -> Sheet {
    let mut sheet = Sheet::new(
        match report.device.matches("; ").count() {
            0 => format!("error on held-out groups · {}", report.device),
            n => format!("error on held-out groups · {} devices or setups", n + 1),
        },
        &[
            "held out",
            "phase",
            ">n",
            ">MdAPE",
            ">MAPE",
            ">p90",
            ">max",
            ">bias",
            ">±10 %",
            ">coverage",
            ">interval",
            ">noise floor",
        ],
    );
    for group in &report.groups {
        sheet.row([
            held_out(group),
            group.phase.name().into(),
            group.n.to_string(),
            units::percent(group.mdape),
            units::percent(group.mape),
            units::percent(group.p90_ape),
            units::percent(group.max_ape),
            units::signed_percent(group.bias),
            units::percent(group.within_10pct),
            format!(
                "{} of {}",
                units::percent(group.coverage),
                units::percent(group.interval_level)
            ),
            format!("±{}", units::percent(group.interval_half_width)),
            units::or_none(group.noise_floor, units::percent),
        ]);
    }
    sheet
}

/// What the median errors of held-out devices stand on.
fn certainty_sheet(report: &ValidationReport) -> Sheet {
    let mut sheet = Sheet::new(
        "what these medians stand on",
        &[
            "held out",
            "phase",
            ">n",
            ">devices",
            ">MdAPE",
            ">90 % of it",
            ">sheet alone",
            ">repeats",
            ">posters",
        ],
    );
    for group in report.groups.iter().filter(|group| group.devices.is_some()) {
        let interval = |[lower, upper]: [f64; 2]| {
            format!("{} – {}", units::percent(lower), units::percent(upper))
        };
        sheet.row([
            held_out(group),
            group.phase.name().into(),
            group.n.to_string(),
            group.devices.unwrap_or_default().to_string(),
            units::percent(group.mdape),
            units::or_none(group.mdape_interval, interval),
            units::or_none(group.mdape_spec_only, units::percent),
            units::or_none(group.noise_floor, units::percent),
            units::or_none(group.between_posters, units::percent),
        ]);
    }
    if !sheet.rows.is_empty() {
        sheet.note("90 % of it: where the median lies with other devices of the kind (bootstrap).");
        sheet.note("Sheet alone: the same cases without the given rows.");
        sheet.note("Repeats: what one source's measurements of one configuration differ by.");
        sheet.note(
            "Posters: what two sources' differ by, of the same device, engine, threads, model and \
             length.",
        );
    }
    sheet
}

/// Requests, kernels and memory, beside the phases.
fn metric_sheet(report: &ValidationReport) -> Sheet {
    let mut sheet = Sheet::new(
        "the same of requests, kernels and memory",
        &[
            "held out",
            "quantity",
            ">n",
            ">MdAPE",
            ">MAPE",
            ">p90",
            ">max",
            ">bias",
            ">±10 %",
            ">noise floor",
        ],
    );
    for error in &report.metrics {
        sheet.row([
            held_out_of_metric(error),
            error.metric.name().replace('_', " "),
            error.n.to_string(),
            units::percent(error.mdape),
            units::percent(error.mape),
            units::percent(error.p90_ape),
            units::percent(error.max_ape),
            units::signed_percent(error.bias),
            units::percent(error.within_10pct),
            units::or_none(error.noise_floor, units::percent),
        ]);
    }
    if !report.metrics.is_empty() {
        sheet.note("Kernels: those that take at least 1 % of their pass.");
    }
    sheet
}

fn held_out_of_metric(error: &MetricError) -> String {
    let name = error.hold_out.map_or("nothing is fitted".to_owned(), hold_out_name);
    match &error.group {
        Some(group) => format!("{name} ({group})"),
        None => name,
    }
}

fn baseline_sheet(report: &ValidationReport) -> Sheet {
    let names: BTreeSet<&str> =
        report.groups.iter().flat_map(|g| g.baselines.keys().map(String::as_str)).collect();
    if names.is_empty() {
        return Sheet::new("", &[]);
    }
    let numbers: Vec<String> = names.iter().map(|name| format!(">{}", short(name))).collect();
    let mut headers = vec!["held out", "phase", ">foretoken"];
    headers.extend(numbers.iter().map(String::as_str));
    let mut sheet = Sheet::new("median absolute error beside the baselines", &headers);
    for group in &report.groups {
        let baselines = names.iter().map(|name| {
            units::or_none(group.baselines.get(*name), |baseline| {
                let partial = if baseline.n < group.n { "*" } else { "" };
                format!("{}{partial}", units::percent(baseline.mdape))
            })
        });
        let own = [held_out(group), group.phase.name().into(), units::percent(group.mdape)];
        sheet.row(own.into_iter().chain(baselines));
    }
    let partial = |group: &GroupError| group.baselines.values().any(|b| b.n < group.n);
    if report.groups.iter().any(partial) {
        sheet.note("* this baseline could not answer every case.");
    }
    sheet
}

/// What a user gets who does not tell how old the engine's build is.
fn undated_sheet(report: &ValidationReport) -> Sheet {
    let headers =
        ["held out", "phase", ">n", ">MdAPE", ">bias", ">coverage", ">date told: MdAPE", ">bias"];
    let mut sheet =
        Sheet::new("from the data sheet alone, the date of the build not told", &headers);
    for e in &report.undated {
        sheet.row([
            e.group.as_ref().map_or_else(|| "device".into(), |group| format!("device ({group})")),
            e.phase.name().into(),
            e.n.to_string(),
            units::percent(e.mdape),
            units::signed_percent(e.bias),
            units::percent(e.coverage),
            units::percent(e.mdape_dated),
            units::signed_percent(e.bias_dated),
        ]);
    }
    sheet
}

/// What a baseline's column is called; JSON keeps the whole name.
fn short(baseline: &str) -> &str {
    match baseline {
        "bytes_over_bandwidth" => "bytes/bw",
        "edgeprofiler" => "EdgeProfiler",
        "nearest_model_scaled" => "nearest",
        "roofline_fixed_efficiency" | "fixed_efficiency_per_backend" => "fixed eff.",
        "log_linear_regression" => "linear",
        "nearest_device_scaled" => "nearest",
        other => other,
    }
}

fn worst_sheet(cases: &[ValidationCase]) -> Sheet {
    let mut worst: Vec<&ValidationCase> = cases.iter().collect();
    worst.sort_by(|a, b| b.error.abs().total_cmp(&a.error.abs()));
    worst.truncate(WORST_CASES);
    let mut sheet = Sheet::new(
        format!("worst of {} cases", cases.len()),
        &[
            ">no.",
            "held out",
            "model",
            "quant",
            "phase",
            ">tokens",
            ">depth",
            ">predicted ms",
            ">observed ms",
            ">error",
        ],
    );
    // Reasons are sentences, and often those of several cases: they stand below.
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for (index, case) in worst.into_iter().enumerate() {
        let number = (index + 1).to_string();
        sheet.row([
            number.clone(),
            hold_out_name(case.hold_out),
            case.model.clone(),
            case.quant.clone(),
            case.phase.name().into(),
            case.n_tokens.to_string(),
            case.kv_len.to_string(),
            units::ms(case.predicted_ms),
            units::ms(case.observed_ms),
            units::signed_percent(case.error),
        ]);
        match reasons.iter_mut().find(|(reason, _)| *reason == case.reason) {
            Some((_, numbers)) => numbers.push(number),
            None => reasons.push((&case.reason, vec![number])),
        }
    }
    for (reason, numbers) in reasons {
        sheet.note(format!("{}: likely because {reason}", numbers.join(", ")));
    }
    sheet
}

impl Report for FormComparison {
    fn sheets(&self) -> Vec<Sheet> {
        let mut sheet = Sheet::new(
            format!("forms of the cost model on held-out models · {}", self.device),
            &["form", "phase", ">n", ">MdAPE", ">MAPE", ">p90", ">bias", "what it is"],
        );
        for error in &self.forms {
            let used = if error.form == self.used { " (used)" } else { "" };
            sheet.row([
                format!("{}{used}", error.form.replace('_', " ")),
                error.phase.name().into(),
                error.n.to_string(),
                units::percent(error.mdape),
                units::percent(error.mape),
                units::percent(error.p90_ape),
                units::signed_percent(error.bias),
                error.description.clone(),
            ]);
        }
        sheet.note("Simplest first: among equals the first is kept.");
        sheet.note(format!("data: {}", self.data.join(", ")));
        vec![sheet]
    }

    fn records(&self) -> Records {
        let mut records = Records::new(&[
            "form",
            "phase",
            "n",
            "mdape",
            "mape",
            "p90_ape",
            "bias",
            "description",
        ]);
        for error in &self.forms {
            records.rows.push(vec![
                error.form.clone(),
                error.phase.name().into(),
                error.n.to_string(),
                error.mdape.to_string(),
                error.mape.to_string(),
                error.p90_ape.to_string(),
                error.bias.to_string(),
                error.description.clone(),
            ]);
        }
        records
    }
}

/// The tables of [`LearningCurve`].
trait CurveSheets {
    fn session_sheet(&self, session: &str, n_sessions: usize) -> Sheet;
    fn loads_sheet(&self) -> Sheet;
}

impl CurveSheets for LearningCurve {
    fn session_sheet(&self, session: &str, n_sessions: usize) -> Sheet {
        let of = if n_sessions > 1 { session } else { &self.device };
        let mut sheet = Sheet::new(
            format!("error on models that were not fitted, by time measured · {of}"),
            &[
                ">measured",
                ">loads",
                "phase",
                ">n",
                ">MdAPE",
                ">p90",
                ">bias",
                ">coverage",
                ">interval",
            ],
        );
        for row in self.budgets.iter().filter(|row| row.session == session) {
            let all = row.n == row.judged;
            let of_judged = if all { String::new() } else { format!(" of {}", row.judged) };
            sheet.row([
                units::seconds(row.seconds),
                row.loads.to_string(),
                row.phase.name().into(),
                format!("{}{of_judged}", row.n),
                units::percent(row.mdape),
                units::percent(row.p90_ape),
                units::signed_percent(row.bias),
                units::percent(row.coverage),
                format!("±{}", units::percent(row.interval_half_width)),
            ]);
        }
        sheet.note("measured: loads and timed passes, without what lies between them");
        sheet
    }

    fn loads_sheet(&self) -> Sheet {
        let mut sheet = Sheet::new(
            "error beside the noise floor, by loads of each configuration",
            &[">loads", "phase", ">n", ">MdAPE", ">bias", ">noise floor"],
        );
        for row in &self.loads {
            sheet.row([
                row.loads.to_string(),
                row.phase.name().into(),
                row.n.to_string(),
                units::percent(row.mdape),
                units::signed_percent(row.bias),
                units::percent(row.noise_floor),
            ]);
        }
        sheet.note("the same configurations in every row, predicted by the largest calibration");
        sheet
    }
}

impl Report for LearningCurve {
    fn sheets(&self) -> Vec<Sheet> {
        let mut sessions: Vec<&str> = self.budgets.iter().map(|row| &*row.session).collect();
        sessions.dedup();
        let mut sheets: Vec<Sheet> =
            sessions.iter().map(|session| self.session_sheet(session, sessions.len())).collect();
        if !self.loads.is_empty() {
            sheets.push(self.loads_sheet());
        }
        if let Some(last) = sheets.last_mut() {
            last.note(format!("data: {}", self.data.join(", ")));
        }
        sheets
    }

    fn records(&self) -> Records {
        let mut records = Records::new(&[
            "session",
            "seconds",
            "loads",
            "phase",
            "n",
            "judged",
            "mdape",
            "p90_ape",
            "bias",
            "coverage",
            "interval_half_width",
            "noise_floor",
        ]);
        for row in &self.budgets {
            records.rows.push(vec![
                row.session.clone(),
                row.seconds.to_string(),
                row.loads.to_string(),
                row.phase.name().into(),
                row.n.to_string(),
                row.judged.to_string(),
                row.mdape.to_string(),
                row.p90_ape.to_string(),
                row.bias.to_string(),
                row.coverage.to_string(),
                row.interval_half_width.to_string(),
                String::new(),
            ]);
        }
        for row in &self.loads {
            let mut record = vec![String::new(); records.header.len()];
            record[2] = row.loads.to_string();
            record[3] = row.phase.name().into();
            record[4] = row.n.to_string();
            record[6] = row.mdape.to_string();
            record[8] = row.bias.to_string();
            record[11] = row.noise_floor.to_string();
            records.rows.push(record);
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn medians_of_devices_say_what_they_stand_on() {
        let mut report = testing::validation();
        let tables = |report: &ValidationReport| -> String {
            report.sheets().iter().map(Sheet::to_table).collect()
        };
        assert!(!tables(&report).contains("stand on"), "other hold-outs have no devices");
        let group = &mut report.groups[0];
        (group.hold_out, group.rows, group.devices) = (HoldOut::Device, 3, Some(17));
        (group.mdape, group.mdape_interval) = (0.08, Some([0.06, 0.13]));
        (group.mdape_spec_only, group.between_posters) = (Some(0.19), Some(0.22));
        let tables = tables(&report);
        let row = tables.lines().find(|line| line.contains("6.0 % – 13 %")).unwrap();
        for part in ["device, 3 rows", " 17 ", "8.0 %", "19 %", "2.0 %", "22 %"] {
            assert!(row.contains(part), "{part}: {row}");
        }
    }
}
