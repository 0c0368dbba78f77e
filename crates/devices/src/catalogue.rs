//! The devices that are known by name.

mod dies;

use std::path::Path;
use std::sync::OnceLock;

use foretoken_spec::DeviceSpec;
use serde_json::Value;

use dies::name_dies;

use crate::check::check_spec;
use crate::derive::fill;
use crate::error::DeviceError;
use crate::raw::{RawDevice, parse};
use crate::read::{FileFormat, read_device_file, to_spec};

mod sources;

use sources::Sources;

/// The catalogue, a file for each family.
const FAMILIES: [(&str, &str); 7] = [
    ("boards.toml", include_str!("../data/boards.toml")),
    ("phones.toml", include_str!("../data/phones.toml")),
    ("cpus.toml", include_str!("../data/cpus.toml")),
    ("apple.toml", include_str!("../data/apple.toml")),
    ("nvidia.toml", include_str!("../data/nvidia.toml")),
    ("amd.toml", include_str!("../data/amd.toml")),
    ("intel.toml", include_str!("../data/intel.toml")),
];
/// Sources that several figures share, by the key that rows name them with.
const SOURCES: &str = include_str!("../data/sources.toml");

/// Devices that are one die.
const DIES: &str = include_str!("../data/dies.toml");

/// Least share of a name that must stay as it is written for another to be worth suggesting.
const LEAST_SIMILARITY: f64 = 0.7;
/// Fewest characters that a longer name is suggested by.
const SHORTEST_PART: usize = 3;
/// Most suggestions.
const MOST_SUGGESTIONS: usize = 3;

/// All devices, by family.
pub fn catalogue() -> &'static [DeviceSpec] {
    loaded().as_deref().unwrap_or_default()
}

/// The device of this id or alias, in any case.
///
/// # Errors
/// No device has this name; the error names the nearest ones.
pub fn find(id: &str) -> Result<&'static DeviceSpec, DeviceError> {
    let devices = match loaded() {
        Ok(devices) => devices,
        Err(reason) => return Err(DeviceError::Catalogue(reason.clone())),
    };
    let wanted = id.trim();
    devices
        .iter()
        .find(|device| names(device).any(|name| name.eq_ignore_ascii_case(wanted)))
        .ok_or_else(|| DeviceError::UnknownDevice {
            name: wanted.to_owned(),
            nearest: nearest(devices, wanted),
        })
}

/// The device of an argument: a file of one device, `FILE#ID` of a file of several, or one of the
/// catalogue.
///
/// # Errors
/// A file that cannot be read or holds several, or an unknown name.
pub fn resolve(argument: &str) -> Result<DeviceSpec, DeviceError> {
    let is_file = |name: &str| {
        let path = Path::new(name);
        path.is_file() || FileFormat::of(path).is_some() || path.components().count() > 1
    };
    let (file, id) = match argument.rsplit_once('#') {
        Some((file, id)) if !Path::new(argument).is_file() && is_file(file) => (file, Some(id)),
        _ => (argument, None),
    };
    if !is_file(file) {
        return find(argument).cloned();
    }
    let mut devices = read_device_file(Path::new(file))?.devices;
    let ids = || devices.iter().map(|device| device.id.clone()).collect();
    match id {
        Some(id) => match devices.iter().position(|device| device.id == id) {
            Some(at) => Ok(devices.swap_remove(at)),
            None => Err(DeviceError::NotInFile { file: file.into(), id: id.into(), ids: ids() }),
        },
        None if devices.len() > 1 => Err(DeviceError::Several { file: file.into(), ids: ids() }),
        None => devices.pop().ok_or_else(|| DeviceError::Empty(file.into())),
    }
}

fn names(device: &DeviceSpec) -> impl Iterator<Item = &str> {
    [device.id.as_str(), device.name.as_str()]
        .into_iter()
        .chain(device.aliases.iter().map(String::as_str))
}

fn nearest(devices: &'static [DeviceSpec], wanted: &str) -> Vec<&'static str> {
    let wanted = wanted.to_lowercase();
    let mut scored: Vec<(f64, &str)> = devices
        .iter()
        .map(|device| {
            let similarity = |name: &str| similarity(&name.to_lowercase(), &wanted);
            (names(device).map(similarity).fold(0.0, f64::max), device.id.as_str())
        })
        .filter(|&(similarity, _)| similarity >= LEAST_SIMILARITY)
        .collect();
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    scored.into_iter().take(MOST_SUGGESTIONS).map(|(_, id)| id).collect()
}

/// How likely a name was meant: the share that needs no correction, or a part of the other.
fn similarity(name: &str, wanted: &str) -> f64 {
    let edited = strsim::normalized_damerau_levenshtein(name, wanted);
    let is_part = wanted.len() >= SHORTEST_PART && name.contains(wanted);
    if is_part { edited.max(LEAST_SIMILARITY) } else { edited }
}

fn loaded() -> &'static Result<Vec<DeviceSpec>, String> {
    static LOADED: OnceLock<Result<Vec<DeviceSpec>, String>> = OnceLock::new();
    LOADED.get_or_init(load)
}

fn load() -> Result<Vec<DeviceSpec>, String> {
    let sources = Sources::parse(SOURCES).map_err(|error| format!("sources.toml: {error}"))?;
    let mut devices: Vec<DeviceSpec> = Vec::new();
    for (file, text) in FAMILIES {
        let rows = parse(text, FileFormat::Toml, file).map_err(|error| error.to_string())?;
        for row in rows {
            let line = row.line.unwrap_or_default();
            let device = load_row(row, &sources)
                .map_err(|reason| format!("{file}, line {line}: {reason}"))?;
            devices.push(device);
        }
    }
    name_dies(&mut devices, DIES).map_err(|reason| format!("dies.toml: {reason}"))?;
    Ok(devices)
}

/// A row of the catalogue: a device with `from`, its usual source, and `from_of`, those of single
/// figures.
fn load_row(mut row: RawDevice, sources: &Sources) -> Result<DeviceSpec, String> {
    let mut take = |name: &str| {
        let index = row.fields.iter().position(|field| field.name == name)?;
        Some(row.fields.remove(index).value)
    };
    let usual = sources.find(&take("from").unwrap_or_default())?;
    let of_figures = match take("from_of") {
        Some(Value::Object(keys)) => keys,
        Some(_) => return Err("`from_of` must be a table".into()),
        None => serde_json::Map::new(),
    };
    let mut spec = to_spec(&row).map_err(|(_, problem)| problem.to_string())?;
    for (figure, names) in &of_figures {
        spec.sources.insert(figure.clone(), sources.find(names)?);
    }
    check_spec(&spec).map_err(|problem| problem.to_string())?;
    fill(&mut spec, &usual);
    check_spec(&spec).map_err(|problem| problem.to_string())?;
    Ok(spec)
}

#[cfg(test)]
mod tests;
