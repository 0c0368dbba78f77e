//! `devices`: the catalogue of devices, and files of a user's own.

use std::path::Path;

use foretoken_devices::{DeviceError, FileFormat, catalogue, find, read_device_file};
use foretoken_report::{Devices, DevicesHere};
use foretoken_runner::devices_here;
use foretoken_spec::DeviceSpec;

use crate::Outcome;
use crate::args::DevicesArgs;
use crate::output::{Hinted, Output};

/// Lists the devices that fit all of what is asked for, or shows those of `--show` or `--here`.
pub fn run(args: &DevicesArgs, output: &Output) -> anyhow::Result<Outcome> {
    if args.here {
        output.print(&DevicesHere(devices_here()))?;
        return Ok(Outcome::Good);
    }
    let devices = match &args.show {
        Some(argument) => shown(argument, output)?,
        None => listed(args)?,
    };
    output.print(&Devices(devices))?;
    Ok(Outcome::Good)
}

fn shown(argument: &str, output: &Output) -> anyhow::Result<Vec<DeviceSpec>> {
    let path = Path::new(argument);
    let is_file = FileFormat::of(path).is_some() || path.is_file();
    if !is_file {
        return Ok(vec![find(argument).map_err(hinted)?.clone()]);
    }
    let file = read_device_file(path).map_err(hinted)?;
    for warning in &file.warnings {
        output.warn(warning);
    }
    Ok(file.devices)
}

fn listed(args: &DevicesArgs) -> anyhow::Result<Vec<DeviceSpec>> {
    let words: Vec<String> =
        args.filter.iter().chain(&args.filter_by_name).map(|word| word.to_lowercase()).collect();
    let fits = |device: &&DeviceSpec| {
        let text = searched(device);
        words.iter().all(|word| text.contains(word))
            && args.kind.is_none_or(|kind| kind.holds(device))
            && args.backend.is_none_or(|backend| device.backends.contains(&backend))
    };
    let devices: Vec<DeviceSpec> = catalogue().iter().filter(fits).cloned().collect();
    if !devices.is_empty() {
        return Ok(devices);
    }
    // One word that no device has is likely a misspelt name.
    if let ([word], None, None) = (words.as_slice(), args.kind, args.backend)
        && let Err(error) = find(word)
    {
        let message = format!("no device of the catalogue matches `{}`", word.escape_debug());
        let hint = error.hint().unwrap_or_default();
        return Err(Hinted::new(message, hint).into());
    }
    let hint = "`foretoken devices` lists all of them";
    Err(Hinted::new("no device of the catalogue is all of that", hint).into())
}

/// What a filter looks at, in lower case.
fn searched(device: &DeviceSpec) -> String {
    let words = [&device.cores, &device.isa, &device.mem_type].into_iter().flatten();
    let mut text = format!("{} {}", device.id, device.name);
    for word in device.aliases.iter().chain(words) {
        text.push(' ');
        text.push_str(word);
    }
    text.to_lowercase()
}

/// The error with its remedy.
pub fn hinted(error: DeviceError) -> anyhow::Error {
    match error.hint() {
        Some(hint) => Hinted::new(error.to_string(), hint).into(),
        None => error.into(),
    }
}
