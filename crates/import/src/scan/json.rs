//! JSON and JSON Lines: objects one after the other, whether an array is around them or not.
//!
//! A run that was killed leaves an array without its end; what stood before is whole.

use serde_json::{Deserializer, Value};

use super::{Found, Lines};
use crate::Problem;
use crate::record::Record;

/// Objects within objects that are looked into for rows (`{"results": [{…}]}`).
const DEEPEST: u32 = 4;

/// Reads the objects that begin on this line. Answers whether the line belongs to JSON.
///
/// An object may end lines later: the reading of lines then goes on behind it.
pub(super) fn read(lines: &mut Lines<'_>, number: u32, line: &str, found: &mut Found) -> bool {
    let mut position = line.as_ptr() as usize - lines.text.as_ptr() as usize;
    let end_of_line = position + line.len();
    let mut is_json = false;
    loop {
        let line = &lines.text[position..end_of_line];
        let start = line.trim_start_matches(['[', ']', ',', ' ', '\t']);
        position += line.len() - start.len();
        if !start.starts_with('{') {
            // `[INFO] …` is a line of a log, `],` the end of an array.
            return is_json || start.is_empty() || start.starts_with('}');
        }
        is_json = true;
        let rest = &lines.text[position..];
        let mut values = Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => collect(number, value, found),
            Some(Err(error)) => {
                found.note_format("json");
                found.problems.push(problem(number, &error));
                return true;
            }
            None => return true,
        }
        let end = position + values.byte_offset();
        if end > end_of_line {
            let crossed = lines.text[position..end].matches('\n').count();
            lines.position = end;
            // The rest of that line is read as one, and counted then.
            lines.number += u32::try_from(crossed).unwrap_or(u32::MAX).saturating_sub(1);
            return true;
        }
        position = end;
    }
}

fn problem(number: u32, error: &serde_json::Error) -> Problem {
    if error.is_eof() {
        return Problem::new(number, "ends within an object: the run or the copy was cut off");
    }
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or_default();
    let below = u32::try_from(error.line().saturating_sub(1)).unwrap_or(u32::MAX);
    Problem::new(number.saturating_add(below), format!("broken JSON: {words}"))
}

/// Takes the rows out of a value.
fn collect(line: u32, value: Value, found: &mut Found) {
    found.note_format("json");
    let before = found.records.len();
    dig(line, value, DEEPEST, found);
    if found.records.len() == before {
        found.problem(line, "an object without a measurement (no avg_ts, samples_ns or time_us)");
    }
}

fn dig(line: u32, value: Value, depth: u32, found: &mut Found) {
    match value {
        Value::Object(fields) if is_row(&fields) => {
            found.records.push(Record::new(line, fields));
        }
        Value::Object(fields) if depth > 0 => {
            fields.into_iter().for_each(|(_, value)| dig(line, value, depth - 1, found));
        }
        Value::Array(values) if depth > 0 => {
            values.into_iter().for_each(|value| dig(line, value, depth - 1, found));
        }
        _ => {}
    }
}

fn is_row(fields: &serde_json::Map<String, Value>) -> bool {
    ["avg_ts", "avg_ns", "samples_ns", "samples_ts", "op_name"]
        .iter()
        .any(|name| fields.contains_key(*name))
}
