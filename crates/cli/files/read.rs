//! Datasets and calibrations, checked field by field.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use foretoken_spec::{
    Backend, Calibration, DeviceBackend, Engine, Measurement, ProfileReport, SCHEMA_VERSION,
    Workload,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::output::Hinted;

/// The lines of a measurement file.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The measurements, in the order of the file.
    pub measurements: Vec<Measurement>,
    /// What was odd but harmless.
    pub warnings: Vec<String>,
    /// FNV-1a hash of the file's bytes, hexadecimal.
    pub hash: String,
}

/// Reads measurements, JSON Lines, of which there must be some.
///
/// # Errors
/// Names file, line and field of what is wrong.
pub fn read_measurements(path: &Path) -> anyhow::Result<Dataset> {
    let dataset = read_lines(path)?;
    if dataset.measurements.is_empty() {
        bail!("{} holds no measurement", path.display());
    }
    Ok(dataset)
}

/// Reads measurements, JSON Lines; there may be none. A last line without its end is what a
/// killed run leaves: it is dropped with a warning.
///
/// # Errors
/// Names file, line and field of what is wrong.
pub fn read_lines(path: &Path) -> anyhow::Result<Dataset> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        anyhow!("{}: not a text file; give a .jsonl of measurements", path.display())
    })?;
    if let Some(other) = other_file(text) {
        let message = format!("{} is no file of measurements: it is {other}", path.display());
        let hint = "give a .jsonl that `foretoken measure --out` or `foretoken calibrate` wrote";
        return Err(Hinted::new(message, hint).into());
    }
    let mut measurements = Vec::new();
    let mut warnings = Vec::new();
    let n_lines = text.lines().count();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let place = || format!("{}, line {}", path.display(), index + 1);
        match parse(line).and_then(|m: Measurement| check_measurement(&m).map(|()| m)) {
            Ok(measurement) => measurements.push(measurement),
            Err(_) if index + 1 == n_lines && !text.ends_with('\n') => {
                warnings.push(format!("{}: unfinished, left out", place()));
            }
            Err(error) => return Err(error.context(place())),
        }
    }
    Ok(Dataset { measurements, warnings, hash: fnv1a(&bytes) })
}

/// What a text is that has no JSON object in its first line; a broken line is another error.
fn other_file(text: &str) -> Option<&'static str> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    if !first.starts_with('{') {
        return Some("not JSON Lines");
    }
    // A measurement is one line of many fields: only other files end theirs after the bracket.
    let whole: serde_json::Value =
        if first == "{" { serde_json::from_str(text).ok()? } else { return None };
    Some(match whole.get("terms") {
        Some(_) => "a calibration",
        None => "one JSON object over several lines",
    })
}

/// Reads a calibration.
///
/// # Errors
/// Names file and field of what is wrong.
pub fn read_calibration(path: &Path) -> anyhow::Result<Calibration> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let is_calibration = matches!(
        serde_json::from_str::<serde_json::Value>(&text),
        Ok(json) if json.get("schema_version").is_some() && json.get("terms").is_some()
    );
    let named = || path.display().to_string();
    let read =
        parse(&text).and_then(|calibration| check_calibration(&calibration).map(|()| calibration));
    match read {
        // Another file altogether: a field of it that is missing says little.
        Err(error) if !is_calibration && error.downcast_ref::<Hinted>().is_none() => {
            let message = format!("{} is no calibration: {error:#}", path.display());
            Err(Hinted::new(message, "give a file that `foretoken calibrate` wrote").into())
        }
        read => read.with_context(named),
    }
}

/// Reads a profile.
///
/// # Errors
/// Names file and field of what is wrong.
pub fn read_profile(path: &Path) -> anyhow::Result<ProfileReport> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).map_err(|error| {
        if error.downcast_ref::<Hinted>().is_some() {
            return error.context(path.display().to_string());
        }
        let message = format!("{} is no profile: {error:#}", path.display());
        Hinted::new(message, "write one with `foretoken profile MODEL --out FILE`").into()
    })
}

/// Refuses what was measured on another backend.
///
/// # Errors
/// Names the file and both backends.
pub fn require_backend(
    path: &Path,
    found: Backend,
    wanted: Option<DeviceBackend>,
) -> anyhow::Result<()> {
    let Some(wanted) = wanted.filter(|wanted| *wanted != found.into()) else { return Ok(()) };
    Err(Hinted::new(
        format!("{}: field `device.backend` is {found}, but {wanted} is asked for", path.display()),
        format!("ask for --backend {found}, or calibrate on {wanted}"),
    )
    .into())
}

/// The version alone, so that it is judged before everything else.
#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}

fn parse<T: DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    let version = fields::<Version>(text)?.schema_version;
    if version != SCHEMA_VERSION {
        return Err(Hinted::new(
            format!("field `schema_version` is {version}; this version reads {SCHEMA_VERSION}"),
            "measure again, or use the version of foretoken that wrote the file",
        )
        .into());
    }
    fields(text)
}

fn fields<T: DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let problem = error.into_inner();
        if path == "." { anyhow!("{problem}") } else { anyhow!("field `{path}`: {problem}") }
    })?;
    json.end().context("more than one JSON value")?;
    Ok(value)
}

/// What nothing here can read, and times or rates that would poison every median after them.
fn check_measurement(measurement: &Measurement) -> anyhow::Result<()> {
    check_origin(measurement)?;
    measurement.model.shape.check().map_err(|e| anyhow!("field `model.shape.{}`: {e}", e.field))?;
    let Workload { prompt_tokens, generated_tokens, depth } = measurement.workload;
    Workload::new(prompt_tokens, generated_tokens, depth).context("field `workload`")?;
    for (name, samples) in [("prefill", &measurement.prefill), ("decode", &measurement.decode)] {
        if let Some(index) = samples.iter().position(|s| s.forward_ns == 0 || s.n_tokens == 0) {
            bail!("field `{name}[{index}]`: a pass needs tokens and a time above 0");
        }
    }
    if measurement.threads == 0 {
        bail!("field `threads`: must be above 0");
    }
    for (index, sample) in measurement.reference.iter().enumerate() {
        let rates = [
            ("stream_bytes_per_second", sample.stream_bytes_per_second),
            ("matmul_flop_per_second", sample.matmul_flop_per_second),
        ];
        for (name, rate) in rates {
            positive(&format!("reference[{index}].{name}"), rate)?;
        }
    }
    Ok(())
}

/// The cost model knows how some engines run.
fn check_origin(measurement: &Measurement) -> anyhow::Result<()> {
    if measurement.engine.known().is_some() {
        return Ok(());
    }
    bail!(
        "field `engine.name` is {:?}; only measurements of {} can be read",
        measurement.engine.name,
        Engine::ALL.map(Engine::name).join(" and ")
    )
}

fn check_calibration(calibration: &Calibration) -> anyhow::Result<()> {
    if calibration.threads == 0 {
        bail!("field `threads`: must be above 0");
    }
    for (i, term) in calibration.terms.iter().enumerate() {
        for (j, feature) in term.features.iter().enumerate() {
            let at = |name| format!("terms[{i}].features[{j}].{name}");
            not_negative(&at("coefficient"), feature.coefficient)?;
            if let Some(error) = feature.std_error {
                not_negative(&at("std_error"), error)?;
            }
        }
    }
    for (i, correction) in calibration.corrections.iter().enumerate() {
        positive(&format!("corrections[{i}].scale"), correction.scale)?;
    }
    for (i, interval) in calibration.intervals.iter().enumerate() {
        share(&format!("intervals[{i}].level"), interval.level)?;
        not_negative(&format!("intervals[{i}].half_width"), interval.half_width)?;
    }
    let ceilings = &calibration.ceilings;
    positive("ceilings.stream_bytes_per_second", ceilings.stream_bytes_per_second)?;
    positive("ceilings.matmul_flop_per_second", ceilings.matmul_flop_per_second)
}

fn finite(field: &str, value: f64) -> anyhow::Result<()> {
    if value.is_finite() { Ok(()) } else { bail!("field `{field}`: {value} is not a number") }
}

fn share(field: &str, value: f64) -> anyhow::Result<()> {
    if value > 0.0 && value < 1.0 {
        return Ok(());
    }
    bail!("field `{field}` is {value}, expected a share between 0 and 1")
}

fn not_negative(field: &str, value: f64) -> anyhow::Result<()> {
    finite(field, value)?;
    if value < 0.0 { bail!("field `{field}`: {value} is negative") } else { Ok(()) }
}

fn positive(field: &str, value: f64) -> anyhow::Result<()> {
    finite(field, value)?;
    if value <= 0.0 { bail!("field `{field}`: {value} must be above 0") } else { Ok(()) }
}

/// Fowler–Noll–Vo hash 1a, 64 bits: enough to tell whether a file changed.
fn fnv1a(bytes: &[u8]) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash =
        bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests;
