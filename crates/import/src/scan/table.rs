//! CSV as llama-bench prints it: a bare header line, then rows of quoted values.

use serde_json::Value;

use super::Found;
use crate::record::Record;

/// The header in force.
#[derive(Debug, Default)]
pub(super) struct Table {
    header: Vec<String>,
}

impl Table {
    /// Reads a line of CSV. Answers whether it is one.
    pub fn read(&mut self, number: u32, line: &str, found: &mut Found) -> bool {
        let Some(cells) = split(line) else { return false };
        if is_header(&cells) {
            self.header = cells;
            found.note_format("csv");
            return true;
        }
        if self.header.is_empty() {
            return false;
        }
        if is_cut(line) {
            found.problem(number, "ends within a row: the run or the copy was cut off");
            return true;
        }
        if cells.len() == self.header.len() {
            let fields = self.header.iter().cloned().zip(cells.into_iter().map(Value::String));
            found.records.push(Record::new(number, fields));
            return true;
        }
        // A row that was cut off still begins as one.
        if line.trim_start().starts_with('"') || cells.len() > self.header.len() / 2 {
            let (n, m) = (cells.len(), self.header.len());
            found.problem(number, format!("{n} cells where the header has {m}"));
            return true;
        }
        false
    }
}

/// Whether a row of quoted values lacks the last quote: its last value may not be whole.
fn is_cut(line: &str) -> bool {
    let line = line.trim();
    let n_quotes = line.matches('"').count();
    line.starts_with('"') && (n_quotes % 2 == 1 || !line.ends_with('"'))
}

fn is_header(cells: &[String]) -> bool {
    let has = |name: &str| cells.iter().any(|cell| cell.trim().eq_ignore_ascii_case(name));
    let is_speed = has("avg_ts") || has("avg_ns") || has("t/s");
    is_speed && (has("n_prompt") || has("n_gen") || has("test"))
        || has("op_name") && has("op_params")
}

fn split(line: &str) -> Option<Vec<String>> {
    if !line.contains(',') {
        return None;
    }
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(line.as_bytes());
    let record = reader.records().next()?.ok()?;
    Some(record.iter().map(str::to_owned).collect())
}
