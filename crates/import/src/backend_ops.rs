//! `test-backend-ops perf` of llama.cpp: single kernels timed on any backend.
//!
//! Its SQL has all fields; its CSV of 2025 leaves out the times, which is told.

use std::collections::BTreeMap;

use foretoken_spec::{KernelAnchor, SCHEMA_VERSION};

use crate::names::backend_name;
use crate::record::Record;
use crate::scan::scan;
use crate::{ImportError, Origin, Problem};

/// What was read from one text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Anchors {
    /// Kernels with their lines.
    pub rows: Vec<(u32, KernelAnchor)>,
    /// What could not be understood.
    pub problems: Vec<Problem>,
    /// Formats that were found.
    pub formats: Vec<String>,
    /// Lines around the data that are none.
    pub other_lines: u32,
    /// What is odd but harmless.
    pub warnings: Vec<String>,
}

/// Reads the kernels of `test-backend-ops perf --output sql` in a text. `origin` must name the
/// device.
pub fn read_backend_ops(text: &str, origin: &Origin) -> Anchors {
    let found = scan(text);
    let mut anchors = Anchors {
        problems: found.problems,
        formats: found.formats,
        other_lines: found.other_lines,
        ..Anchors::default()
    };
    let mut n_untimed = 0u32;
    for record in found.records {
        let line = record.line;
        if is_untimed(&record) {
            n_untimed += 1;
            continue;
        }
        match anchor(record, origin) {
            Ok(row) => anchors.rows.push((line, row)),
            Err(reason) => anchors.problems.push(Problem::new(line, reason)),
        }
    }
    anchors.problems.sort_by_key(|problem| problem.line);
    if n_untimed > 0 {
        anchors.warnings.push(format!(
            "{n_untimed} operations were left out: tests of correctness, or not supported there"
        ));
    }
    anchors
}

/// Rows that rightly have no time: other modes, and operations that a backend lacks.
fn is_untimed(record: &Record) -> bool {
    let text = |name: &str| record.peek(name).map(ToString::to_string).unwrap_or_default();
    record.has("op_name")
        && (["\"test\"", "\"grad\"", "\"support\""].contains(&text("test_mode").as_str())
            || text("supported") == "0")
}

/// One kernel.
///
/// # Errors
/// Names the field that is missing or wrong.
fn anchor(mut record: Record, origin: &Origin) -> Result<KernelAnchor, String> {
    let device_id = origin.device_id.clone().ok_or("no device is named")?;
    if !record.has("op_name") {
        return Err("no row of test-backend-ops: no `op_name`".to_owned());
    }
    if !record.has("time_us") {
        return Err("no `time_us`: print with `--output sql`, the CSV leaves times out".to_owned());
    }
    let needed =
        |record: &mut Record, name: &str| record.text(name).ok_or_else(|| format!("no `{name}`"));
    let op_name = needed(&mut record, "op_name")?;
    let op_params = record.text("op_params").unwrap_or_default();
    let backend_label = needed(&mut record, "backend_name")?;
    let backend = match origin.backend.clone() {
        Some(told) => told.to_lowercase(),
        None => backend_name(&backend_label).map(str::to_owned).ok_or_else(|| {
            format!("unknown backend `{}`; say it with --backend", backend_label.escape_debug())
        })?,
    };
    let time_us = record.number("time_us")?.unwrap_or_default();
    if time_us <= 0.0 {
        return Err(format!("`time_us` is {time_us}, expected a time above 0"));
    }
    // ggml writes 0 for what it does not count.
    let counted = |value: Option<f64>| value.filter(|value| *value > 0.0);
    let flop_per_second = counted(record.number("flops")?);
    let bandwidth_gib_per_second = counted(record.number("bandwidth_gb_s")?);
    Ok(KernelAnchor {
        schema_version: SCHEMA_VERSION,
        runtime: origin.runtime.clone().unwrap_or_else(|| "llama.cpp".to_owned()),
        device_id,
        backend,
        backend_name: backend_label,
        params: params(&op_params),
        op_name,
        op_params,
        time_us,
        flop_per_second,
        bandwidth_gib_per_second,
        memory_kib: record.whole("memory_kb")?,
        n_runs: record.whole("n_runs")?,
        build_commit: record.text("build_commit"),
        test_time: record.text("test_time"),
        other: record.rest().into_iter().collect(),
    })
}

/// `type_a=q4_0,m=4096,bs=[1,1]` at its commas, those in brackets left alone.
fn params(text: &str) -> BTreeMap<String, String> {
    let mut depth = 0u32;
    let parts = text.split(|c: char| {
        match c {
            '[' | '(' | '{' => depth += 1,
            ']' | ')' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// Writes kernels as `test-backend-ops perf --output sql` does. Reading them again with the same
/// [`Origin`] answers the same rows.
///
/// # Errors
/// None today; the signature is that of the other writers.
pub fn to_backend_ops_sql(rows: &[KernelAnchor]) -> Result<String, ImportError> {
    let mut text = String::new();
    for row in rows {
        let number = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
        let whole = |value: Option<u64>| value.map(|v| v.to_string()).unwrap_or_default();
        let mut fields = vec![
            ("test_time", row.test_time.clone().unwrap_or_default()),
            ("build_commit", row.build_commit.clone().unwrap_or_default()),
            ("backend_name", row.backend_name.clone()),
            ("op_name", row.op_name.clone()),
            ("op_params", row.op_params.clone()),
            ("time_us", row.time_us.to_string()),
            ("flops", number(row.flop_per_second)),
            ("bandwidth_gb_s", number(row.bandwidth_gib_per_second)),
            ("memory_kb", whole(row.memory_kib)),
            ("n_runs", whole(row.n_runs)),
        ];
        let other = row.other.iter().map(|(name, value)| match value {
            serde_json::Value::String(text) => (name.as_str(), text.clone()),
            other => (name.as_str(), other.to_string()),
        });
        fields.extend(other);
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        let values: Vec<String> =
            fields.iter().map(|(_, value)| format!("'{}'", value.replace('\'', "''"))).collect();
        text += &format!(
            "INSERT INTO test_backend_ops ({}) VALUES ({});\n",
            names.join(", "),
            values.join(", ")
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "test_time, build_commit, backend_name, op_name, op_params, test_mode, \
                         supported, passed, error_message, time_us, flops, bandwidth_gb_s, \
                         memory_kb, n_runs, device_description, backend_reg_name";

    fn line(mode: &str, supported: u8, time: &str) -> String {
        format!(
            "INSERT INTO test_backend_ops ({NAMES}) VALUES ('2026-09-24T10:56:13Z', 'd006858', \
             'MTL0', 'MUL_MAT', 'type_a=q4_K,m=768,n=1,k=2048,bs=[1,1]', '{mode}', '{supported}', \
             '1', '', '{time}', '245572483397.108215', '0.000000', '110680', '11922', '', '');\n"
        )
    }

    fn origin() -> Origin {
        Origin { device_id: Some("m4".into()), ..Origin::default() }
    }

    #[test]
    fn kernels_with_their_shapes() {
        let header = "CREATE TABLE IF NOT EXISTS test_backend_ops (\n  test_time TEXT\n);\n\n";
        let anchors =
            read_backend_ops(&format!("{header}{}", line("perf", 1, "102.478192")), &origin());
        assert_eq!(anchors.problems, []);
        let (at, row) = &anchors.rows[0];
        assert_eq!((*at, row.backend.as_str(), row.op_name.as_str()), (5, "metal", "MUL_MAT"));
        assert_eq!((row.time_us, row.n_runs), (102.478192, Some(11922)));
        assert_eq!(row.flop_per_second, Some(245_572_483_397.108_22));
        assert_eq!((row.bandwidth_gib_per_second, row.memory_kib), (None, Some(110_680)));
        assert_eq!((row.params["m"].as_str(), row.params["bs"].as_str()), ("768", "[1,1]"));
        let again =
            read_backend_ops(&to_backend_ops_sql(std::slice::from_ref(row)).unwrap(), &origin());
        assert_eq!(again.rows[0].1, *row);
    }

    #[test]
    fn tests_and_unsupported_operations_are_counted_not_problems() {
        let text = line("test", 1, "0.0") + &line("perf", 0, "0.0");
        let anchors = read_backend_ops(&text, &origin());
        assert_eq!((anchors.rows.len(), anchors.problems.len()), (0, 0));
        assert!(anchors.warnings[0].starts_with("2 operations"), "{:?}", anchors.warnings);
    }

    #[test]
    fn what_has_no_time_or_no_operation_is_told() {
        let reason = |text: &str| read_backend_ops(text, &origin()).problems[0].reason.clone();
        assert!(reason(&line("perf", 1, "0.0")).contains("`time_us` is 0"));
        let csv = "test_time,op_name,op_params,test_mode\n\"a\",\"MUL_MAT\",\"m=1\",\"perf\"\n";
        assert!(reason(csv).contains("the CSV leaves times out"));
        assert!(reason("{\"avg_ts\": 1}").contains("no `op_name`"));
        let unknown = line("perf", 1, "1.5").replace("MTL0", "ABACUS1");
        assert!(reason(&unknown).contains("`ABACUS1`"));
    }
}
