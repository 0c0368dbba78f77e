//! A validation: errors by hold-out and phase with the baselines beside, then the worst cases.

mod errors;

use foretoken_spec::{FormComparison, HoldOut, LearningCurve, ValidationCase, ValidationReport};

use self::errors::error_sheets;
use crate::{Records, Report, Sheet, units};

/// Cases that the table lists.
const WORST_CASES: usize = 10;

impl Report for ValidationReport {
    fn sheets(&self) -> Vec<Sheet> {
        let mut sheets = error_sheets(self);
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

/// The cases with the largest errors; of held-out devices by the device.
fn worst_sheet(cases: &[ValidationCase]) -> Sheet {
    let mut worst: Vec<&ValidationCase> = cases.iter().collect();
    worst.sort_by(|a, b| b.error.abs().total_cmp(&a.error.abs()));
    worst.truncate(WORST_CASES);
    let mut sheet = Sheet::new(
        format!("worst of {} cases", cases.len()),
        &[">no.", "held out", "model", "quant", "pass", ">predicted", ">observed", ">error"],
    );
    // Reasons are sentences, and often those of several cases: they stand below.
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for (index, case) in worst.into_iter().enumerate() {
        let number = (index + 1).to_string();
        sheet.row([
            number.clone(),
            match case.hold_out {
                HoldOut::Device => case.held_out.clone(),
                other => hold_out_name(other),
            },
            case.model.clone(),
            case.quant.clone(),
            pass(case),
            units::duration_ms(case.predicted_ms),
            units::duration_ms(case.observed_ms),
            units::signed_percent(case.error),
        ]);
        match reasons.iter_mut().find(|(reason, _)| *reason == case.reason) {
            Some((_, numbers)) => numbers.push(number),
            None => reasons.push((&case.reason, vec![number])),
        }
    }
    sheet.cut_to_fit("model");
    for (reason, numbers) in reasons {
        sheet.wrapped_note(&format!("{}: likely because {reason}", numbers.join(", ")));
    }
    sheet
}

/// `prefill 512`, `decode at 128`, `prefill 512 at 128`.
fn pass(case: &ValidationCase) -> String {
    let mut pass = case.phase.name().to_owned();
    if case.n_tokens > 1 {
        pass.push_str(&format!(" {}", case.n_tokens));
    }
    if case.kv_len > 0 {
        pass.push_str(&format!(" at {}", case.kv_len));
    }
    pass
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
    use crate::sheet::WIDEST;
    use crate::testing;

    #[test]
    fn the_worst_case_of_a_device_names_it() {
        let mut report = testing::validation();
        let case = &mut report.cases[0];
        (case.hold_out, case.held_out) = (HoldOut::Device, "raspberry-pi-5-8gb".into());
        case.model = "a-model-of-a-name-that-would-make-the-table-wider-than-any-terminal".into();
        let sheet = worst_sheet(&report.cases);
        assert_eq!(sheet.rows[0][1], "raspberry-pi-5-8gb");
        assert_eq!(sheet.rows[0][4], "decode at 144");
        assert!(sheet.width() <= WIDEST && sheet.rows[0][2].ends_with('…'), "{sheet:?}");
    }
}
