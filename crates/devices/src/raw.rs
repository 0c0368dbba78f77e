//! Files as lists of fields with their lines, whatever their format.

use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use crate::error::{DeviceError, Place, Problem};
use crate::fields::{FieldType, type_of};
use crate::read::FileFormat;

/// A device as a file states it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RawDevice {
    /// Where it begins.
    pub(crate) line: Option<usize>,
    /// Its fields.
    pub(crate) fields: Vec<RawField>,
}

/// A field as a file states it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawField {
    /// As it is written.
    pub(crate) name: String,
    /// Where.
    pub(crate) line: Option<usize>,
    /// What.
    pub(crate) value: Value,
}

impl RawDevice {
    /// The id, where it has one.
    pub(crate) fn id(&self) -> Option<&str> {
        self.fields.iter().find(|f| f.name == "id" || f.name == "device_id")?.value.as_str()
    }
}

/// Names under which a file may hold its list.
const LISTS: [&str; 2] = ["device", "devices"];

/// The devices of a text, unchecked.
pub(crate) fn parse(
    text: &str,
    format: FileFormat,
    file: &str,
) -> Result<Vec<RawDevice>, DeviceError> {
    match format {
        FileFormat::Toml => parse_toml(text, file),
        FileFormat::Json => parse_json(text, file),
        FileFormat::Csv => parse_csv(text, file),
    }
}

fn syntax(file: &str, line: Option<usize>, format: &'static str, reason: &str) -> DeviceError {
    let place = Place { file: file.to_owned(), line, device: None };
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    DeviceError::Syntax { place, format, reason }
}

/// Line of a byte, from 1.
fn line_of(text: &str, byte: usize) -> usize {
    text.as_bytes().iter().take(byte).filter(|b| **b == b'\n').count() + 1
}

fn parse_toml(text: &str, file: &str) -> Result<Vec<RawDevice>, DeviceError> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        syntax(file, line, "TOML", error.message())
    })?;
    let list = table.get_ref().iter().find_map(|(key, value)| match value.get_ref() {
        DeValue::Array(items) if LISTS.contains(&key.get_ref().as_ref()) => Some(items),
        _ => None,
    });
    let Some(items) = list else {
        if table.get_ref().is_empty() {
            return Ok(Vec::new());
        }
        return Ok(vec![toml_device(text, table.get_ref(), None)]);
    };
    let mut devices = Vec::new();
    for item in items.iter() {
        let line = line_of(text, item.span().start);
        let DeValue::Table(fields) = item.get_ref() else {
            return Err(syntax(file, Some(line), "TOML", "a list of devices holds tables only"));
        };
        devices.push(toml_device(text, fields, Some(line)));
    }
    Ok(devices)
}

fn toml_device(text: &str, table: &DeTable<'_>, line: Option<usize>) -> RawDevice {
    let mut fields: Vec<RawField> = table
        .iter()
        .map(|(key, value)| RawField {
            name: key.get_ref().to_string(),
            line: Some(line_of(text, key.span().start)),
            value: toml_value(value.get_ref()),
        })
        .collect();
    // The parser sorts by name; people read from the top.
    fields.sort_by_key(|field| field.line);
    RawDevice { line, fields }
}

fn toml_value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str();
            i64::from_str_radix(digits, number.radix())
                .map_or_else(|_| Value::String(digits.to_owned()), Value::from)
        }
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map_or_else(|| Value::String(number.as_str().to_owned()), Value::Number),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => items.iter().map(|item| toml_value(item.get_ref())).collect(),
        DeValue::Table(table) => {
            let fields =
                table.iter().map(|(k, v)| (k.get_ref().to_string(), toml_value(v.get_ref())));
            Value::Object(fields.collect())
        }
    }
}

fn parse_json(text: &str, file: &str) -> Result<Vec<RawDevice>, DeviceError> {
    let value = match serde_json::from_str::<NoKeyTwice>(text) {
        Ok(NoKeyTwice(value)) => value,
        Err(error) => {
            let said = error.to_string();
            let twice = said.strip_prefix(TWICE).and_then(|rest| rest.split_once('`'));
            let line = Some(error.line()).filter(|line| *line > 0);
            let place = Place { file: file.to_owned(), line, device: None };
            return Err(match twice {
                Some((field, _)) => DeviceError::Twice { place, field: field.to_owned() },
                None => syntax(file, line, "JSON", &said),
            });
        }
    };
    let items = match value {
        Value::Array(items) => items,
        Value::Object(mut object) => {
            let list = LISTS.iter().find_map(|name| match object.get_mut(*name) {
                Some(Value::Array(items)) => Some(std::mem::take(items)),
                _ => None,
            });
            match list {
                Some(items) => items,
                None if object.is_empty() => Vec::new(),
                None => vec![Value::Object(object)],
            }
        }
        _ => return Err(syntax(file, None, "JSON", "neither a device nor a list of devices")),
    };
    let only = items.len() == 1;
    let devices = items.into_iter().map(|item| match item {
        Value::Object(object) => Ok(json_device(text, object, only)),
        _ => Err(syntax(file, None, "JSON", "a list of devices holds objects only")),
    });
    devices.collect()
}

/// Words before the key that stands twice.
const TWICE: &str = "the key `";

/// A JSON value none of whose objects has a key twice; serde_json would keep the last alone.
struct NoKeyTwice(Value);

impl<'de> Deserialize<'de> for NoKeyTwice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NoKeyTwiceVisitor).map(NoKeyTwice)
    }
}

struct NoKeyTwiceVisitor;

impl<'de> Visitor<'de> for NoKeyTwiceVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(NoKeyTwice(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("{TWICE}{key}` is there twice")));
            }
            let NoKeyTwice(value) = entries.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// The line of a field is known where its name stands once in the file, as it does where there is
/// one device.
fn json_device(text: &str, object: Map<String, Value>, only: bool) -> RawDevice {
    let line = |name: &str| {
        let quoted = format!("\"{name}\"");
        let mut places = text.match_indices(&quoted);
        match (only, places.next(), places.next()) {
            (true, Some((byte, _)), None) => Some(line_of(text, byte)),
            _ => None,
        }
    };
    let fields = object
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| RawField { line: line(&name), name, value })
        .collect();
    RawDevice { line: None, fields }
}

fn parse_csv(text: &str, file: &str) -> Result<Vec<RawDevice>, DeviceError> {
    // Spreadsheets write a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let header = text.lines().next().unwrap_or_default();
    // Spreadsheets of countries that write `17,1` put semicolons between the cells.
    let has_semicolons = header.matches(';').count() > header.matches(',').count();
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(if has_semicolons { b';' } else { b',' })
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let wrong = |error: csv::Error| {
        let line = error.position().map(|at| at.line() as usize);
        syntax(file, line, "CSV", &error.to_string())
    };
    let header = reader.headers().map_err(wrong)?.clone();
    let mut devices = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let line = record.position().map(|at| at.line() as usize);
        let cells = header.iter().zip(record.iter()).filter(|(_, cell)| !cell.is_empty());
        let mut fields = Vec::new();
        for (name, cell) in cells {
            let value = csv_value(name, cell).map_err(|problem| DeviceError::Wrong {
                place: Place { file: file.to_owned(), line, device: None },
                problem: Box::new(problem),
            })?;
            fields.push(RawField { name: name.to_owned(), line, value });
        }
        if !fields.is_empty() {
            devices.push(RawDevice { line, fields });
        }
    }
    Ok(devices)
}

fn csv_value(name: &str, cell: &str) -> Result<Value, Problem> {
    let wrong = |expected: &str| Problem::WrongType {
        field: name.to_owned(),
        expected: expected.to_owned(),
        found: format!("`{cell}`"),
    };
    match type_of(name) {
        Some(FieldType::Number) => cell
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Value::Number)
            .ok_or_else(|| wrong("a number, with a point, not a comma, and without a unit")),
        Some(FieldType::Whole) => {
            cell.parse::<i64>().map(Value::from).map_err(|_| wrong("a whole number"))
        }
        Some(FieldType::Structure) => {
            serde_json::from_str(cell).map_err(|_| wrong("JSON within the cell, or nothing"))
        }
        Some(FieldType::Words) => Ok(cell.split_whitespace().map(Value::from).collect()),
        Some(FieldType::Text) | None => Ok(Value::from(cell)),
    }
}
