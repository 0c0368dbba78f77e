//! Reading of devices from files, field by field.

use std::fs;
use std::path::Path;

use foretoken_spec::{
    Confidence, DeviceBackend, DeviceClass, DeviceKind, DeviceSpec, FigureBasis, FigureSource,
};
use serde_json::{Map, Value};

use crate::check::check_spec;
use crate::derive::fill;
use crate::error::{DeviceError, Place, Problem};
use crate::fields::{FieldType, nearest, type_of};
use crate::raw::{RawDevice, RawField, parse};
use crate::words::fill_clusters;

/// How a file of devices is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// One device at the top, or several as `[[device]]`.
    Toml,
    /// One object, a list of objects, or `{"devices": […]}`.
    Json,
    /// A row for each device under a header; the columns of the public lists.
    Csv,
}

impl FileFormat {
    /// By the end of the file's name.
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// The devices of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceFile {
    /// In the order of the file.
    pub devices: Vec<DeviceSpec>,
    /// What was left out.
    pub warnings: Vec<String>,
}

/// Reads the devices of a file, checked, and filled with what follows from their figures.
///
/// # Errors
/// Names file, line and field of what is wrong; see [`DeviceError::hint`].
pub fn read_device_file(path: &Path) -> Result<DeviceFile, DeviceError> {
    let format = FileFormat::of(path).ok_or_else(|| DeviceError::UnknownFormat(path.into()))?;
    let bytes = fs::read(path).map_err(|error| DeviceError::Io { path: path.into(), error })?;
    let file = path.display().to_string();
    let text = String::from_utf8(bytes).map_err(|_| DeviceError::Syntax {
        place: Place { file: file.clone(), line: None, device: None },
        format: "text",
        reason: "not UTF-8".into(),
    })?;
    read_devices(&text, format, &file)
}

/// Reads the devices of a text; `file` is its name in messages.
///
/// Figures without a source get `stated`, with the file as the source.
///
/// # Errors
/// Names file, line and field of what is wrong; see [`DeviceError::hint`].
pub fn read_devices(text: &str, format: FileFormat, file: &str) -> Result<DeviceFile, DeviceError> {
    let raw = parse(text, format, file)?;
    if raw.is_empty() {
        return Err(DeviceError::Empty(file.to_owned()));
    }
    let several = raw.len() > 1;
    let stated = FigureSource {
        basis: FigureBasis::Stated,
        confidence: Confidence::Medium,
        source: file.to_owned(),
    };
    let mut warnings = Vec::new();
    let mut devices: Vec<DeviceSpec> = Vec::new();
    for device in raw {
        let place = |line: Option<usize>| Place {
            file: file.to_owned(),
            line: line.or(device.line),
            device: device.id().filter(|_| several).map(str::to_owned),
        };
        let wrong =
            |(line, problem)| DeviceError::Wrong { place: place(line), problem: Box::new(problem) };
        let is_table = format == FileFormat::Csv;
        let mut device = device.clone();
        if is_table {
            // Tables come from other tools: columns that resemble nothing of ours are theirs.
            device.fields.retain(|field| {
                let is_ours = type_of(&field.name).is_some() || nearest(&field.name).is_some();
                let warning = format!("{file}: column `{}` is not read", field.name);
                if !is_ours && !warnings.contains(&warning) {
                    warnings.push(warning);
                }
                is_ours
            });
        }
        let mut spec = to_spec(&device).map_err(wrong)?;
        let line_of = |field: &str| {
            device.fields.iter().find(|f| field.starts_with(&f.name)).and_then(|f| f.line)
        };
        check_spec(&spec).map_err(|problem| {
            let line = match &problem {
                Problem::Impossible { field, .. } => line_of(field),
                _ => None,
            };
            wrong((line, problem))
        })?;
        if devices.iter().any(|known| known.id == spec.id) {
            return Err(wrong((device.line, Problem::Duplicate { id: spec.id })));
        }
        fill_clusters(&mut spec);
        fill(&mut spec, &stated);
        devices.push(spec);
    }
    Ok(DeviceFile { devices, warnings })
}

/// The text of a device file, TOML, that [`read_devices`] reads back.
///
/// # Errors
/// Values that TOML cannot hold, such as text of control characters in a key.
pub fn write_toml(spec: &DeviceSpec) -> Result<String, toml::ser::Error> {
    toml::to_string(spec)
}

/// A wrong field with its line.
pub(crate) type Located = (Option<usize>, Problem);

/// A device of raw fields, unchecked and unfilled.
pub(crate) fn to_spec(device: &RawDevice) -> Result<DeviceSpec, Located> {
    let mut object = Map::new();
    for field in &device.fields {
        let (name, value) = field_value(field).map_err(|problem| (field.line, problem))?;
        if name != "schema_version" {
            object.insert(name.to_owned(), value);
        }
    }
    require_id(&object).map_err(|problem| (device.line, problem))?;
    let id = object.get("id").cloned().unwrap_or_default();
    object.entry("name").or_insert(id);
    read_kind(&mut object).map_err(|problem| (line(device, "kind"), problem))?;
    read_word(&mut object, "class", &DeviceClass::ALL.map(DeviceClass::name))
        .map_err(|problem| (line(device, "class"), problem))?;
    read_backends(&mut object).map_err(|problem| (line(device, "backends"), problem))?;
    // What is left to go wrong is within a list or a table.
    ["clusters", "gpu", "modes", "sources", "probe"]
        .iter()
        .find_map(|name| Some((*name, wrong_structure(name, object.get(*name)?)?)))
        .map_or(Ok(()), |(name, problem)| Err((line(device, name), problem)))?;
    serde_json::from_value(Value::Object(object)).map_err(|error| {
        let expected = "what docs/devices.md says".to_owned();
        let problem =
            Problem::WrongType { field: "device".into(), expected, found: error.to_string() };
        (device.line, problem)
    })
}

fn line(device: &RawDevice, name: &str) -> Option<usize> {
    device.fields.iter().find(|field| field.name == name).and_then(|field| field.line)
}

/// Name and value of a field, of the right type.
fn field_value(field: &RawField) -> Result<(&'static str, Value), Problem> {
    let unknown =
        || Problem::UnknownField { field: field.name.clone(), nearest: nearest(&field.name) };
    let known = crate::fields::FIELDS.iter().find(|(name, _)| *name == field.name);
    let (name, kind) = known.copied().ok_or_else(unknown)?;
    let name = if name == "device_id" { "id" } else { name };
    let wrong = |expected: &str| Problem::WrongType {
        field: field.name.clone(),
        expected: expected.to_owned(),
        found: shown(&field.value),
    };
    let value = match (kind, &field.value) {
        (FieldType::Text, Value::String(text)) => Value::from(text.trim()),
        (FieldType::Text, Value::Number(number)) => Value::from(number.to_string()),
        (FieldType::Text, _) => return Err(wrong("text")),
        (FieldType::Number, Value::Number(_)) => field.value.clone(),
        (FieldType::Number, _) => {
            return Err(wrong("a number, with a point, without quotes and unit"));
        }
        (FieldType::Whole, Value::Number(number)) => {
            let whole = number.as_f64().filter(|n| n.fract() == 0.0 && (0.0..1e9).contains(n));
            whole.map(|n| Value::from(n as u64)).ok_or_else(|| wrong("a whole number"))?
        }
        (FieldType::Whole, _) => return Err(wrong("a whole number")),
        (FieldType::Words, Value::String(word)) => {
            word.split_whitespace().map(Value::from).collect()
        }
        (FieldType::Words, Value::Array(words)) if words.iter().all(Value::is_string) => {
            field.value.clone()
        }
        (FieldType::Words, _) => return Err(wrong("a list of words in quotes")),
        (FieldType::Structure, _) => field.value.clone(),
    };
    Ok((name, value))
}

/// What ids are made of: they stand in lists between commas, in tables and in names of files.
fn is_of_id(c: char) -> bool {
    c.is_alphanumeric() || "-_.+:()@".contains(c)
}

fn require_id(object: &Map<String, Value>) -> Result<(), Problem> {
    match object.get("id").and_then(Value::as_str) {
        Some(id) if !id.is_empty() && id.chars().all(is_of_id) => Ok(()),
        Some(id) => Err(Problem::WrongType {
            field: "id".into(),
            expected: "a short name without spaces and slashes, such as `my-board-8gb`".into(),
            found: format!("`{id}`"),
        }),
        None => Err(Problem::MissingField {
            field: "id",
            remedy: "write id = \"my-board-8gb\", a short name of your own".into(),
        }),
    }
}

/// The kind, of which people write finer words.
fn read_kind(object: &mut Map<String, Value>) -> Result<(), Problem> {
    let Some(written) = object.get("kind").and_then(Value::as_str).map(str::to_lowercase) else {
        return Err(Problem::MissingField {
            field: "kind",
            remedy:
                "write kind = \"cpu\", \"gpu\", \"igpu\" or \"soc\" (a board, a phone, an Apple \
                     computer)"
                    .into(),
        });
    };
    let (kind, class) = match written.as_str() {
        "cpu" | "processor" => (DeviceKind::Cpu, None),
        "gpu" | "dgpu" => (DeviceKind::Gpu, None),
        "igpu" | "apu" => (DeviceKind::Igpu, None),
        "soc" => (DeviceKind::Soc, None),
        "sbc" | "board" | "module" => (DeviceKind::Soc, Some(DeviceClass::Board)),
        "phone" | "smartphone" | "mobile" => (DeviceKind::Soc, Some(DeviceClass::Phone)),
        "tablet" => (DeviceKind::Soc, Some(DeviceClass::Tablet)),
        "laptop" | "notebook" => (DeviceKind::Cpu, Some(DeviceClass::Laptop)),
        "desktop" => (DeviceKind::Cpu, Some(DeviceClass::Desktop)),
        "server" => (DeviceKind::Cpu, Some(DeviceClass::Server)),
        _ => {
            return Err(Problem::WrongType {
                field: "kind".into(),
                expected: "\"cpu\", \"gpu\", \"igpu\" or \"soc\"".into(),
                found: format!("`{written}`"),
            });
        }
    };
    object.insert("kind".into(), kind.name().into());
    if let Some(class) = class {
        object.entry("class").or_insert_with(|| class.name().into());
    }
    Ok(())
}

fn read_word(object: &mut Map<String, Value>, field: &str, known: &[&str]) -> Result<(), Problem> {
    let Some(written) = object.get(field).and_then(Value::as_str) else { return Ok(()) };
    let word = written.to_lowercase().replace(['-', ' '], "_");
    if !known.contains(&word.as_str()) {
        return Err(Problem::WrongType {
            field: field.to_owned(),
            expected: format!("one of {}", known.join(", ")),
            found: format!("`{written}`"),
        });
    }
    object.insert(field.to_owned(), word.into());
    Ok(())
}

fn read_backends(object: &mut Map<String, Value>) -> Result<(), Problem> {
    let known = DeviceBackend::ALL.map(DeviceBackend::name);
    let Some(Value::Array(words)) = object.get_mut("backends") else { return Ok(()) };
    for word in words {
        let written = word.as_str().unwrap_or_default().to_lowercase();
        let name = if written == "hip" { "rocm" } else { &written };
        if !known.contains(&name) {
            return Err(Problem::WrongType {
                field: "backends".into(),
                expected: format!("words of {}", known.join(", ")),
                found: format!("`{written}`"),
            });
        }
        *word = name.into();
    }
    Ok(())
}

/// What serde says of a list or a table that is not of our form.
fn wrong_structure(name: &str, value: &Value) -> Option<Problem> {
    use foretoken_spec::{CoreCluster, GpuUnits, PowerMode, Probed};
    use std::collections::BTreeMap;
    let (error, expected) = match name {
        "clusters" => (
            serde_json::from_value::<Vec<CoreCluster>>(value.clone()).err(),
            "a list such as [{ core = \"cortex-a76\", count = 4, clock_ghz = 2.4 }]",
        ),
        "gpu" => (
            serde_json::from_value::<GpuUnits>(value.clone()).err(),
            "a table such as { architecture = \"ada\", units = 46, clock_ghz = 2.48 }",
        ),
        "modes" => (
            serde_json::from_value::<Vec<PowerMode>>(value.clone()).err(),
            "a list such as [{ name = \"15W\", limit_w = 15 }]",
        ),
        "probe" => {
            (serde_json::from_value::<Probed>(value.clone()).err(), "what `foretoken probe` wrote")
        }
        _ => (
            serde_json::from_value::<BTreeMap<String, FigureSource>>(value.clone()).err(),
            "a table such as { mem_gb = { basis = \"published\", confidence = \"high\", source = \
             \"…\" } }",
        ),
    };
    error.map(|error| Problem::WrongType {
        field: name.to_owned(),
        expected: expected.to_owned(),
        found: error.to_string(),
    })
}

fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests;
