//! Speeds as CSV: the columns of the public store, by name, in any order.
//!
//! The 22 documented columns always stand; [`EXTRA`] ones follow where a row has them. An empty
//! cell says that the source does not tell.

use std::collections::BTreeMap;

use foretoken_spec::{BenchDetails, SpeedKey, SpeedPhase, SpeedRow};

use crate::check::check_row;
use crate::names::quant_name;
use crate::{ImportError, Origin, Problem, Speeds};

/// The documented columns, in the order of writing.
pub const COLUMNS: [&str; 22] = [
    "source_url",
    "source_date",
    "runtime",
    "runtime_version",
    "device_id",
    "device_kind",
    "backend",
    "threads",
    "model",
    "arch",
    "params_b",
    "quant",
    "model_file_gib",
    "phase",
    "n_prompt",
    "n_gen",
    "n_depth",
    "batch",
    "flash_attn",
    "tokens_per_second",
    "stddev",
    "notes",
];

/// Columns that are written only where some row has a value.
pub const EXTRA: [&str; 6] =
    ["resolution", "flags", "excluded", "model_bytes", "model_params", "llama_bench"];

/// Columns without which a row says nothing. Those of the origin may come from the caller.
const NEEDED: [&str; 7] =
    ["runtime", "device_id", "backend", "model", "quant", "phase", "tokens_per_second"];

/// Between flags of one cell.
const SEPARATOR: char = ';';

/// Reads speeds from CSV with a header of [`COLUMNS`]; columns of other names are left out with a
/// warning. What `origin` tells fills cells that are empty.
///
/// # Errors
/// A header that lacks a column that every row needs, or has one twice.
pub fn read_csv(text: &str, origin: &Origin) -> Result<Speeds, ImportError> {
    let header = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(header) as u8)
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut records = reader.records();
    let mut speeds = Speeds { formats: vec!["csv".to_owned()], ..Speeds::default() };
    let Some(header) = records.next().and_then(Result::ok) else { return Ok(speeds) };
    let header = Header::new(&header, origin)?;
    if !header.unknown.is_empty() {
        let names = header.unknown.join(", ");
        speeds.warnings.push(format!("columns without a meaning here were left out: {names}"));
    }
    for record in records {
        let Ok(record) = record else { continue };
        let line = line_of(&record);
        if record.iter().all(str::is_empty) {
            continue;
        }
        match header.row(&record, origin) {
            Ok(row) => speeds.rows.push((line, row)),
            Err(reason) => speeds.problems.push(Problem::new(line, reason)),
        }
    }
    Ok(speeds)
}

/// Whether this line is a header of [`read_csv`].
pub(crate) fn is_header(line: &str) -> bool {
    let cells = || line.trim_start_matches('\u{feff}').split(delimiter(line));
    let has = |name: &str| cells().any(|cell| cell.trim().trim_matches('"') == name);
    has("tokens_per_second") && has("phase")
}

/// What stands between the cells: spreadsheets of countries that write `17,1` take semicolons.
fn delimiter(header: &str) -> char {
    if header.matches(';').count() > header.matches(',').count() { ';' } else { ',' }
}

fn line_of(record: &csv::StringRecord) -> u32 {
    record.position().map_or(0, |p| u32::try_from(p.line()).unwrap_or(u32::MAX))
}

struct Header {
    /// Place of each known column.
    places: BTreeMap<&'static str, usize>,
    unknown: Vec<String>,
    len: usize,
}

impl Header {
    fn new(record: &csv::StringRecord, origin: &Origin) -> Result<Self, ImportError> {
        let line = line_of(record);
        let mut header = Self { places: BTreeMap::new(), unknown: vec![], len: record.len() };
        for (at, name) in record.iter().enumerate() {
            let name = name.trim_start_matches('\u{feff}').to_lowercase();
            match COLUMNS.iter().chain(&EXTRA).find(|column| **column == name) {
                Some(column) if header.places.insert(column, at).is_some() => {
                    return Err(ImportError::DoubleColumn { line, column: name });
                }
                Some(_) => {}
                None => header.unknown.push(name.escape_debug().to_string()),
            }
        }
        let is_told = |column: &str| origin.cell(column).is_some();
        match NEEDED.iter().find(|c| !header.places.contains_key(*c) && !is_told(c)) {
            Some(column) => {
                Err(ImportError::MissingColumn { line, column, needed: NEEDED.join(", ") })
            }
            None => Ok(header),
        }
    }

    fn row(&self, record: &csv::StringRecord, origin: &Origin) -> Result<SpeedRow, String> {
        if record.len() != self.len {
            return Err(format!("{} cells where the header has {}", record.len(), self.len));
        }
        let cells = Cells { header: self, record, origin };
        let needed = |column| cells.get(column).ok_or_else(|| format!("`{column}` is empty"));
        let quant = quant_name(needed("quant")?);
        let backend = needed("backend")?.to_lowercase();
        let key = SpeedKey {
            runtime: needed("runtime")?,
            device_id: needed("device_id")?,
            backend: &backend,
            model: needed("model")?,
            quant: &quant,
        };
        let mut row =
            SpeedRow::new(key, phase(needed("phase")?)?, cells.number("tokens_per_second")?);
        row.source_url = cells.text("source_url");
        row.source_date = cells.text("source_date");
        row.runtime_version = cells.text("runtime_version");
        row.device_kind = cells.text("device_kind");
        row.threads = cells.parsed("threads")?;
        row.arch = cells.text("arch");
        row.params_b = cells.parsed("params_b")?;
        row.model_file_gib = cells.parsed("model_file_gib")?;
        row.n_prompt = cells.parsed("n_prompt")?;
        row.n_gen = cells.parsed("n_gen")?;
        row.n_depth = cells.parsed("n_depth")?;
        row.batch = cells.text("batch");
        row.flash_attn = cells.parsed("flash_attn")?;
        row.stddev = cells.parsed("stddev")?;
        row.notes = cells.text("notes");
        row.resolution = cells.parsed("resolution")?;
        row.flags = cells.get("flags").map(flags).unwrap_or_default();
        row.excluded = cells.text("excluded");
        row.model_bytes = cells.parsed("model_bytes")?;
        row.model_params = cells.parsed("model_params")?;
        if let Some(text) = cells.get("llama_bench") {
            let details: BenchDetails =
                serde_json::from_str(text).map_err(|error| format!("`llama_bench`: {error}"))?;
            row.llama_bench = Some(Box::new(details));
        }
        check_row(&row)?;
        row.derive();
        Ok(row)
    }
}

fn phase(text: &str) -> Result<SpeedPhase, String> {
    match text.to_lowercase().as_str() {
        "prefill" | "pp" => Ok(SpeedPhase::Prefill),
        "decode" | "tg" => Ok(SpeedPhase::Decode),
        "mixed" | "pg" => Ok(SpeedPhase::Mixed),
        _ => Err(format!("`phase` is `{}`, neither prefill nor decode", text.escape_debug())),
    }
}

fn flags(text: &str) -> Vec<String> {
    text.split(SEPARATOR)
        .map(str::trim)
        .filter(|flag| !flag.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The cells of one row by column.
struct Cells<'a> {
    header: &'a Header,
    record: &'a csv::StringRecord,
    origin: &'a Origin,
}

impl<'a> Cells<'a> {
    fn get(&self, column: &str) -> Option<&'a str> {
        let place = self.header.places.get(column);
        place
            .and_then(|at| self.record.get(*at))
            .filter(|cell| !cell.is_empty())
            .or_else(|| self.origin.cell(column))
    }

    fn text(&self, column: &str) -> Option<String> {
        self.get(column).map(str::to_owned)
    }

    fn parsed<T: std::str::FromStr>(&self, column: &str) -> Result<Option<T>, String> {
        let Some(text) = self.get(column) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(format!(
                "`{column}` is `{}`, no number that fits{}",
                text.escape_debug(),
                if text.contains(',') { "; write it with a point" } else { "" }
            )),
        }
    }

    fn number(&self, column: &str) -> Result<f64, String> {
        self.parsed(column)?.ok_or_else(|| format!("`{column}` is empty"))
    }
}

/// The cells of a row, by column, as [`to_csv`] writes them.
pub(crate) fn cells(row: &SpeedRow) -> [String; COLUMNS.len()] {
    fn some<T: ToString>(value: Option<&T>) -> String {
        value.map(T::to_string).unwrap_or_default()
    }
    [
        some(row.source_url.as_ref()),
        some(row.source_date.as_ref()),
        row.runtime.clone(),
        some(row.runtime_version.as_ref()),
        row.device_id.clone(),
        some(row.device_kind.as_ref()),
        row.backend.clone(),
        some(row.threads.as_ref()),
        row.model.clone(),
        some(row.arch.as_ref()),
        some(row.params_b.as_ref()),
        row.quant.clone(),
        some(row.model_file_gib.as_ref()),
        row.phase.name().to_owned(),
        some(row.n_prompt.as_ref()),
        some(row.n_gen.as_ref()),
        some(row.n_depth.as_ref()),
        some(row.batch.as_ref()),
        some(row.flash_attn.as_ref()),
        row.tokens_per_second.to_string(),
        some(row.stddev.as_ref()),
        some(row.notes.as_ref()),
    ]
}

fn extra_cells(row: &SpeedRow) -> Result<[String; EXTRA.len()], ImportError> {
    let details = row.llama_bench.as_ref().map(serde_json::to_string).transpose();
    let details = details.map_err(|error| unwritable(row, error.to_string()))?;
    Ok([
        row.resolution.map(|v| v.to_string()).unwrap_or_default(),
        row.flags.join(&SEPARATOR.to_string()),
        row.excluded.clone().unwrap_or_default(),
        row.model_bytes.map(|v| v.to_string()).unwrap_or_default(),
        row.model_params.map(|v| v.to_string()).unwrap_or_default(),
        details.unwrap_or_default(),
    ])
}

/// Writes rows as CSV: [`COLUMNS`], and those of [`EXTRA`] that some row needs.
///
/// # Errors
/// Values that JSON cannot hold, in the details of llama-bench.
pub fn to_csv(rows: &[SpeedRow]) -> Result<String, ImportError> {
    let extra = rows.iter().map(extra_cells).collect::<Result<Vec<_>, _>>()?;
    let wanted: Vec<usize> =
        (0..EXTRA.len()).filter(|&at| extra.iter().any(|cells| !cells[at].is_empty())).collect();
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = COLUMNS.iter().copied().chain(wanted.iter().map(|&at| EXTRA[at]));
    let bad = |error: csv::Error| ImportError::Unwritable {
        model: String::new(),
        format: "CSV",
        reason: error.to_string(),
    };
    writer.write_record(header).map_err(bad)?;
    for (row, more) in rows.iter().zip(&extra) {
        let known = cells(row);
        let line = known.iter().chain(wanted.iter().map(|&at| &more[at]));
        writer.write_record(line).map_err(|error| unwritable(row, error.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|error| bad(error.into_error().into()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unwritable(row: &SpeedRow, reason: String) -> ImportError {
    ImportError::Unwritable { model: row.model.clone(), format: "CSV", reason }
}

#[cfg(test)]
mod tests;
