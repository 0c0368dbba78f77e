//! Speeds as JSON Lines: one [`SpeedRow`] a line.

use foretoken_spec::SpeedRow;
use serde::Serialize;

use crate::check::check_row;
use crate::{ImportError, Problem, Speeds};

/// One line per value.
///
/// # Errors
/// Values that JSON cannot hold (a speed that is no number).
pub fn to_jsonl<T: Serialize>(rows: &[T]) -> Result<String, ImportError> {
    let mut text = String::new();
    for row in rows {
        let line = serde_json::to_string(row).map_err(|error| ImportError::Unwritable {
            model: String::new(),
            format: "JSON",
            reason: error.to_string(),
        })?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

/// Reads what [`to_jsonl`] wrote; wrong lines are problems.
pub fn read_jsonl(text: &str) -> Speeds {
    let mut speeds = Speeds { formats: vec!["speeds".to_owned()], ..Speeds::default() };
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let row = serde_json::from_str::<SpeedRow>(line)
            .map_err(|error| error.to_string())
            .and_then(|row| check_row(&row).map(|()| row));
        match row {
            Ok(mut row) => {
                row.derive();
                speeds.rows.push((number, row));
            }
            Err(reason) => speeds.problems.push(Problem::new(number, reason)),
        }
    }
    speeds
}

/// Whether a line is one of ours: it names what no other format has together.
pub(crate) fn is_speed_line(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with('{')
        && ["\"schema_version\"", "\"device_id\"", "\"tokens_per_second\""]
            .iter()
            .all(|name| line.contains(name))
}
