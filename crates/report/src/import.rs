//! What an import read, by engine and backend, and what it kept out with the reasons.

use foretoken_spec::{ImportProblem, ImportReport, ReasonCount};

use crate::{Records, Report, Sheet, units};

/// Problems that the table lists; JSON has all.
const MOST_PROBLEMS: usize = 20;

impl Report for ImportReport {
    fn sheets(&self) -> Vec<Sheet> {
        let mut sheets = vec![groups(self)];
        if self.files.len() > 1 || self.files.iter().any(|file| file.problems > 0) {
            sheets.push(files(self));
        }
        sheets.extend(reasons("kept in the file and not used", "because", &self.excluded));
        sheets.extend(reasons("to be weighed", "flag", &self.flags));
        sheets.extend(problems(&self.problems));
        let mut end = Sheet::new("", &[]);
        for warning in &self.warnings {
            end.note(format!("warning: {warning}"));
        }
        match &self.out {
            Some(out) => end.note(format!("wrote {out}")),
            None => end.note("nothing was written: give --out FILE"),
        }
        sheets.push(end);
        sheets
    }

    fn records(&self) -> Records {
        let mut records = Records::new(&[
            "runtime",
            "backend",
            "device_kind",
            "phase",
            "rows",
            "usable",
            "devices",
            "models",
        ]);
        for group in &self.groups {
            records.rows.push(vec![
                group.runtime.clone(),
                group.backend.clone(),
                group.device_kind.clone().unwrap_or_default(),
                group.phase.clone(),
                group.rows.to_string(),
                group.usable.to_string(),
                group.devices.to_string(),
                group.models.to_string(),
            ]);
        }
        records
    }
}

fn groups(report: &ImportReport) -> Sheet {
    let mut title = format!("{}, {} usable", units::plural(report.rows, "row"), report.usable);
    if report.repeated > 0 {
        title += &format!("; {} repeated an earlier one", report.repeated);
    }
    let headers = ["engine", "backend", "kind", "phase", ">rows", ">usable", ">devices", ">models"];
    let mut sheet = Sheet::new(title, &headers);
    for group in &report.groups {
        sheet.row([
            group.runtime.clone(),
            group.backend.clone(),
            group.device_kind.clone().unwrap_or_else(|| units::NONE.into()),
            group.phase.clone(),
            group.rows.to_string(),
            group.usable.to_string(),
            group.devices.to_string(),
            group.models.to_string(),
        ]);
    }
    sheet
}

fn files(report: &ImportReport) -> Sheet {
    let mut sheet = Sheet::new("files", &["file", "format", ">rows", ">problems", ">other lines"]);
    for file in &report.files {
        let formats =
            if file.formats.is_empty() { units::NONE.into() } else { file.formats.join(", ") };
        sheet.row([
            file.file.clone(),
            formats,
            file.rows.to_string(),
            file.problems.to_string(),
            file.other_lines.to_string(),
        ]);
    }
    sheet
}

fn reasons(title: &str, header: &str, counts: &[ReasonCount]) -> Option<Sheet> {
    let mut sheet = Sheet::new(title, &[">rows", header]);
    for count in counts {
        sheet.row([count.rows.to_string(), count.reason.clone()]);
    }
    (!counts.is_empty()).then_some(sheet)
}

fn problems(problems: &[ImportProblem]) -> Option<Sheet> {
    let mut sheet = Sheet::new("not understood and left out", &["place", "reason"]);
    for problem in problems.iter().take(MOST_PROBLEMS) {
        sheet.row([format!("{}:{}", problem.file, problem.line), problem.reason.clone()]);
    }
    if problems.len() > MOST_PROBLEMS {
        let more = problems.len() - MOST_PROBLEMS;
        sheet.note(format!("and {more} more: --format json has all of them"));
    }
    (!problems.is_empty()).then_some(sheet)
}
