//! What an import answers: counts, reasons, and what could not be understood.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_spec::{
    ImportProblem, ImportReport, ImportedFile, ImportedGroup, KernelAnchor, ReasonCount,
    SCHEMA_VERSION, SpeedRow,
};

use crate::{Anchors, Problem, Speeds};

/// What a row tells a summary.
pub trait Summary {
    /// Engine, backend, kind of device, phase or operation.
    fn group(&self) -> (String, String, Option<String>, String);
    /// Device.
    fn device(&self) -> &str;
    /// Model, or shape of an operation.
    fn model(&self) -> &str;
    /// Why the row is not used.
    fn excluded(&self) -> Option<&str>;
    /// What is to be weighed.
    fn flags(&self) -> &[String];
}

impl Summary for SpeedRow {
    fn group(&self) -> (String, String, Option<String>, String) {
        let phase = self.phase.name().to_owned();
        (self.runtime.clone(), self.backend.clone(), self.device_kind.clone(), phase)
    }

    fn device(&self) -> &str {
        &self.device_id
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn excluded(&self) -> Option<&str> {
        self.excluded.as_deref()
    }

    fn flags(&self) -> &[String] {
        &self.flags
    }
}

impl Summary for KernelAnchor {
    fn group(&self) -> (String, String, Option<String>, String) {
        (self.runtime.clone(), self.backend.clone(), None, self.op_name.clone())
    }

    fn device(&self) -> &str {
        &self.device_id
    }

    fn model(&self) -> &str {
        &self.op_params
    }

    fn excluded(&self) -> Option<&str> {
        None
    }

    fn flags(&self) -> &[String] {
        &[]
    }
}

/// The rows of several files, and what was met on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Read<T> {
    /// The rows, in the order of reading; none is there twice.
    pub rows: Vec<T>,
    files: Vec<ImportedFile>,
    problems: Vec<ImportProblem>,
    warnings: Vec<String>,
    repeated: u32,
}

impl<T> Default for Read<T> {
    fn default() -> Self {
        Self { rows: vec![], files: vec![], problems: vec![], warnings: vec![], repeated: 0 }
    }
}

impl Read<SpeedRow> {
    /// Adds the speeds of a file.
    pub fn add_speeds(&mut self, file: &str, speeds: Speeds) {
        self.note(file, &speeds.formats, speeds.rows.len(), speeds.other_lines);
        self.doubt(file, speeds.problems, speeds.warnings);
        self.rows.extend(speeds.rows.into_iter().map(|(_, row)| row));
    }
}

impl Read<KernelAnchor> {
    /// Adds the kernels of a file.
    pub fn add_anchors(&mut self, file: &str, anchors: Anchors) {
        self.note(file, &anchors.formats, anchors.rows.len(), anchors.other_lines);
        self.doubt(file, anchors.problems, anchors.warnings);
        self.rows.extend(anchors.rows.into_iter().map(|(_, row)| row));
    }
}

impl<T> Read<T> {
    fn note(&mut self, file: &str, formats: &[String], n_rows: usize, other_lines: u32) {
        self.files.push(ImportedFile {
            file: file.to_owned(),
            formats: formats.to_vec(),
            rows: count(n_rows),
            problems: 0,
            other_lines,
        });
    }

    fn doubt(&mut self, file: &str, problems: Vec<Problem>, warnings: Vec<String>) {
        if let Some(last) = self.files.last_mut() {
            last.problems = count(problems.len());
        }
        let named =
            |p: Problem| ImportProblem { file: file.to_owned(), line: p.line, reason: p.reason };
        self.problems.extend(problems.into_iter().map(named));
        self.warnings.extend(warnings.into_iter().map(|warning| format!("{file}: {warning}")));
    }

    /// What could not be understood so far.
    pub fn problems(&self) -> &[ImportProblem] {
        &self.problems
    }

    /// Adds a warning.
    pub fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }
}

impl<T: Summary + serde::Serialize> Read<T> {
    /// Drops rows that repeat an earlier one in every field: a file given twice, a table pasted
    /// twice. A repeated measurement differs in its samples or its time.
    pub fn drop_repeated(&mut self) {
        let mut seen = BTreeSet::new();
        let before = self.rows.len();
        self.rows.retain(|row| match serde_json::to_string(row) {
            Ok(text) => seen.insert(text),
            Err(_) => true,
        });
        self.repeated = count(before - self.rows.len());
    }

    /// The answer; `out` is the file that was written.
    pub fn report(self, out: Option<String>) -> ImportReport {
        let usable = self.rows.iter().filter(|row| row.excluded().is_none()).count();
        let excluded = tally(self.rows.iter().filter_map(Summary::excluded));
        let flags = tally(self.rows.iter().flat_map(Summary::flags).map(String::as_str));
        ImportReport {
            schema_version: SCHEMA_VERSION,
            out,
            rows: count(self.rows.len()),
            usable: count(usable),
            repeated: self.repeated,
            groups: groups(&self.rows),
            excluded,
            flags,
            files: self.files,
            problems: self.problems,
            warnings: self.warnings,
        }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// How often each reason stands, most often first.
fn tally<'a>(reasons: impl Iterator<Item = &'a str>) -> Vec<ReasonCount> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    reasons.for_each(|reason| *counts.entry(reason).or_default() += 1);
    let mut counts: Vec<ReasonCount> = counts
        .into_iter()
        .map(|(reason, rows)| ReasonCount { reason: reason.to_owned(), rows })
        .collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.rows));
    counts
}

fn groups<T: Summary>(rows: &[T]) -> Vec<ImportedGroup> {
    let mut groups: BTreeMap<_, Vec<&T>> = BTreeMap::new();
    for row in rows {
        groups.entry(row.group()).or_default().push(row);
    }
    let summed = groups.into_iter().map(|((runtime, backend, device_kind, phase), rows)| {
        let usable: Vec<&&T> = rows.iter().filter(|row| row.excluded().is_none()).collect();
        let distinct = |of: fn(&T) -> &str| {
            count(usable.iter().map(|row| of(row)).collect::<BTreeSet<_>>().len())
        };
        ImportedGroup {
            runtime,
            backend,
            device_kind,
            phase,
            rows: count(rows.len()),
            usable: count(usable.len()),
            devices: distinct(T::device),
            models: distinct(T::model),
        }
    });
    summed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, read_csv};

    #[test]
    fn rows_are_counted_by_group_and_repeats_dropped() {
        let text = "runtime,device_id,backend,model,quant,phase,tokens_per_second,excluded,flags\n\
                    x,a,cpu,m,q4_0,decode,8,,f;g\nx,b,cpu,n,q4_0,decode,8,no,f\n\
                    x,a,cpu,m,q4_0,decode,8,,f;g\nx,a,cpu,m,q4_0,prefill,oops,,\n";
        let mut read = Read::default();
        read.add_speeds("f.csv", read_csv(text, &Origin::default()).unwrap());
        read.drop_repeated();
        let report = read.report(None);
        assert_eq!((report.rows, report.usable, report.repeated), (2, 1, 1));
        assert_eq!(report.problems[0].line, 5);
        assert_eq!((report.files[0].rows, report.files[0].problems), (3, 1));
        let group = &report.groups[0];
        assert_eq!((group.rows, group.usable, group.devices, group.models), (2, 1, 1, 1));
        assert_eq!(report.excluded, [ReasonCount { reason: "no".into(), rows: 1 }]);
        assert_eq!((report.flags[0].reason.as_str(), report.flags[0].rows), ("f", 2));
    }
}
