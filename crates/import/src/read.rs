//! Files of speeds that are already in the store's form.

use std::fs;
use std::path::Path;

use foretoken_spec::SpeedRow;

use crate::columns::{is_header, read_csv};
use crate::jsonl::{is_speed_line, read_jsonl};
use crate::text::decode;
use crate::{ImportError, Origin, Speeds};

/// Reads speeds from text: JSON Lines of ours, or CSV with the documented columns; `None` where it
/// is neither.
///
/// # Errors
/// A header that lacks a column.
pub fn read_speeds(text: &str, origin: &Origin) -> Result<Option<Speeds>, ImportError> {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if is_header(first) {
        return read_csv(text, origin).map(Some);
    }
    Ok(is_speed_line(first).then(|| read_jsonl(text)))
}

/// Reads a file of speeds, all rows, those that are excluded too ([`SpeedRow::is_usable`] tells).
///
/// # Errors
/// Names file, line and field of what is wrong: a store is whole or refused.
pub fn read_speed_rows(path: &Path) -> Result<Vec<SpeedRow>, ImportError> {
    let bytes =
        fs::read(path).map_err(|source| ImportError::Io { path: path.to_owned(), source })?;
    let bad = |line, reason| ImportError::BadRow { path: path.to_owned(), line, reason };
    let text = decode(&bytes).map_err(|error| bad(1, error.to_string()))?;
    let speeds = read_speeds(&text, &Origin::default())
        .map_err(|error| bad(1, error.to_string()))?
        .ok_or_else(|| {
            bad(1, "neither speeds as JSON Lines nor a CSV with their columns".into())
        })?;
    if let Some(problem) = speeds.problems.into_iter().next() {
        return Err(bad(problem.line, problem.reason));
    }
    Ok(speeds.rows.into_iter().map(|(_, row)| row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_whole_or_refused_with_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let header = "runtime,device_id,backend,model,quant,phase,tokens_per_second";
        fs::write(&path, format!("{header}\nx,d,cpu,m,q4_0,decode,8\n")).unwrap();
        let rows = read_speed_rows(&path).unwrap();
        assert_eq!(rows[0].ms, Some(125.0));
        let lines = crate::to_jsonl(&rows).unwrap();
        fs::write(&path, format!("{lines}{{}}\n")).unwrap();
        let error = read_speed_rows(&path).unwrap_err().to_string();
        assert!(error.contains("a.csv, line 2: missing field"), "{error}");
        fs::write(&path, lines).unwrap();
        assert_eq!(read_speed_rows(&path).unwrap(), rows);
        fs::write(&path, "# notes\n").unwrap();
        let error = read_speed_rows(&path).unwrap_err().to_string();
        assert!(error.contains("a.csv, line 1: neither"), "{error}");
    }
}
