//! Markdown tables of llama-bench: columns that are not at their default, in short names.

use serde_json::{Value, json};

use super::Found;
use crate::record::Record;

/// Columns by the names of the fields that they are.
const COLUMNS: &[(&str, &str)] = &[
    ("model", "model_type"),
    ("backend", "backends"),
    ("ngl", "n_gpu_layers"),
    ("threads", "n_threads"),
    ("sm", "split_mode"),
    ("mg", "main_gpu"),
    ("nkvo", "no_kv_offload"),
    ("fa", "flash_attn"),
    ("lm", "load_mode"),
    ("mmap", "use_mmap"),
    ("embd", "embeddings"),
    ("nopo", "no_op_offload"),
    ("noh", "no_host"),
    ("dev", "devices"),
    ("ts", "tensor_split"),
    ("ot", "tensor_buft_overrides"),
    ("ncmoe", "n_cpu_moe"),
    ("fitt", "fit_target"),
    ("fitc", "fit_min_ctx"),
    ("mla", "mla_attn"),
    ("amb", "attn_max_batch"),
    ("fmoe", "fused_moe"),
    ("ger", "grouped_er"),
    ("rtr", "repack"),
];

/// The header in force, and the rows that wait for the footer with their build.
#[derive(Debug, Default)]
pub(super) struct Markdown {
    header: Option<Vec<String>>,
    /// First record without a build.
    without_build: usize,
}

impl Markdown {
    /// Reads a line of a table. Answers whether it belongs to one of llama-bench.
    pub fn read(&mut self, number: u32, line: &str, next: &str, found: &mut Found) -> bool {
        let cells = split(line);
        if is_rule(&cells) {
            return self.header.is_some();
        }
        if is_rule(&split(next)) && next.contains('|') || is_header(&cells) {
            return self.start(number, cells, found);
        }
        let Some(header) = &self.header else { return false };
        if cells.len() != header.len() {
            let (n, m) = (cells.len(), header.len());
            found.problem(number, format!("{n} cells where the header has {m}"));
            return true;
        }
        match record(number, header, &cells) {
            Ok(record) => found.records.push(record),
            Err(reason) => found.problem(number, reason),
        }
        true
    }

    fn start(&mut self, number: u32, cells: Vec<String>, found: &mut Found) -> bool {
        if is_header(&cells) {
            found.note_format("markdown");
            self.header = Some(cells);
            return true;
        }
        self.header = None;
        let is_speed = cells.iter().any(|cell| cell.to_lowercase().contains("t/s"));
        if is_speed {
            let reason = "a table of speeds without the columns `model`, `test` and `t/s`: a \
                          comparison, or of another tool";
            found.problem(number, reason);
        }
        is_speed
    }

    /// Reads `build: 4fc4ec554 (9859)`, which holds for the rows above it.
    pub fn read_footer(&mut self, line: &str, found: &mut Found) -> bool {
        let Some(rest) = line.trim().strip_prefix("build:") else { return false };
        let mut words = rest.split_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else { return false };
        let second = second.trim_matches(['(', ')']);
        let is_number = |word: &str| word.bytes().all(|b| b.is_ascii_digit()) && word.len() < 9;
        // llama-cli has the two the other way round.
        let (commit, build) = if is_number(second) { (first, second) } else { (second, first) };
        if !is_number(build) || !commit.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return false;
        }
        for record in &mut found.records[self.without_build..] {
            record.fill("build_commit", json!(commit));
            record.fill("build_number", json!(build.parse::<u64>().unwrap_or_default()));
        }
        self.without_build = found.records.len();
        true
    }
}

fn split(line: &str) -> Vec<String> {
    let line = line.trim();
    let line = line.strip_prefix('|').unwrap_or(line);
    let line = line.strip_suffix('|').unwrap_or(line);
    let bare = |cell: &str| cell.trim().trim_matches(['*', '`']).trim().to_owned();
    line.split('|').map(bare).collect()
}

/// `| --- | ---: |`
fn is_rule(cells: &[String]) -> bool {
    cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| c == '-' || c == ':'))
}

fn is_header(cells: &[String]) -> bool {
    ["model", "test", "t/s"].iter().all(|name| cells.iter().any(|cell| cell == name))
}

fn record(number: u32, header: &[String], cells: &[String]) -> Result<Record, String> {
    let mut fields: Vec<(String, Value)> = Vec::new();
    for (column, cell) in header.iter().zip(cells) {
        match column.as_str() {
            "t/s" => {
                let (mean, deviation) = speed(cell)?;
                fields.push(("avg_ts".to_owned(), json!(mean)));
                fields.extend(deviation.map(|value| ("stddev_ts".to_owned(), json!(value))));
            }
            "size" if !cell.is_empty() => {
                fields.push(("size_gib".to_owned(), json!(scaled(cell, SIZES)?)));
            }
            "params" if !cell.is_empty() => {
                fields.push(("params_b".to_owned(), json!(scaled(cell, COUNTS)?)));
            }
            name => {
                let field = COLUMNS.iter().find(|(short, _)| *short == name);
                let field = field.map_or(name, |(_, field)| field);
                fields.push((field.to_owned(), json!(cell)));
            }
        }
    }
    Ok(Record::new(number, fields))
}

/// `72.79 ± 0.05`, in whatever the `±` became on its way.
fn speed(cell: &str) -> Result<(f64, Option<f64>), String> {
    let bad = || format!("`t/s` is `{}`, no speed", cell.escape_debug());
    let number = |text: &str| text.trim().parse::<f64>().map_err(|_| bad());
    let end = cell.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(cell.len());
    let (mean, rest) = (number(&cell[..end])?, cell[end..].trim());
    if rest.is_empty() {
        return Ok((mean, None));
    }
    // Another number must stand behind a sign: `1,234.56` and `1 234.56` are one to their writers.
    let deviation = rest.trim_start_matches(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    if deviation.len() == rest.len() || rest.starts_with([',', '\'', '-']) {
        return Err(bad());
    }
    Ok((mean, Some(number(deviation.trim_end_matches(')'))?)))
}

/// Units of `size` in 2³⁰ bytes, and of `params` in 10⁹.
const SIZES: &[(&str, f64)] =
    &[("KiB", 1.0 / 1_048_576.0), ("MiB", 1.0 / 1024.0), ("GiB", 1.0), ("TiB", 1024.0)];
const COUNTS: &[(&str, f64)] = &[("K", 1e-6), ("M", 1e-3), ("B", 1.0), ("T", 1e3)];

fn scaled(cell: &str, units: &[(&str, f64)]) -> Result<f64, String> {
    let (number, unit) = cell.split_once(' ').unwrap_or((cell, ""));
    let scale = units.iter().find(|(name, _)| *name == unit.trim()).map(|(_, scale)| *scale);
    match (number.parse::<f64>(), scale) {
        // Thousandths are divided by: 134.52 M is 0.13452, not 0.13452000000000003.
        (Ok(number), Some(scale)) if scale < 1.0 => Ok(number / (1.0 / scale).round()),
        (Ok(number), Some(scale)) => Ok(number * scale),
        _ => Err(format!("`{}` is no size", cell.escape_debug())),
    }
}
