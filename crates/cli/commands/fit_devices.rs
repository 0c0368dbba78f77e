//! `fit-devices`: the model of all devices, from what was measured on them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use foretoken_report::units;
use foretoken_spec::{FitDevicesReport, FittedDomain, ReasonCount, SCHEMA_VERSION};
use foretoken_transfer::CrossDevice;

use crate::Outcome;
use crate::args::FitDevicesArgs;
use crate::files::{
    CROSS_DEVICE, SpeedFiles, calibration_folder, check_writable, public_store, transfer_error,
    write_atomic,
};
use crate::output::{Hinted, Output};

/// Joins measurements with data sheets, fits, and writes the model.
pub fn run(args: &FitDevicesArgs, output: &Output) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let out = args.out.clone().unwrap_or_else(|| calibration_folder().join(CROSS_DEVICE));
    check_writable(&out)?;
    let data = if args.data.is_empty() { vec![public_store()] } else { args.data.clone() };
    let files = SpeedFiles { data, devices: args.devices.clone() };
    let store = files.read(output)?;
    let n_machines = store.machines.len();
    require_more(&out, n_machines, args.force)?;
    if n_machines < FEW_MACHINES {
        let message =
            "a model of so few devices knows nothing of others, and its intervals are guesses";
        let machines = units::plural(u32::try_from(n_machines).unwrap_or(u32::MAX), "machine");
        output.warn(&format!("the data has {machines} alone: {message}"));
    }
    output.note("fitting: this takes a minute or two");
    let model = CrossDevice::fit(&store, files.names(), env!("CARGO_PKG_VERSION"))
        .map_err(transfer_error)?;
    write_atomic(&out, model.to_json().map_err(transfer_error)?.as_bytes())?;
    output.print(&report(&model, out.display().to_string(), started.elapsed().as_secs_f64()))?;
    Ok(Outcome::Good)
}

/// Fewest machines that a model of many devices should have.
const FEW_MACHINES: usize = 10;

/// Refuses to replace a model of more machines than the data has, which is likely a mistake.
fn require_more(out: &Path, n_machines: usize, force: bool) -> anyhow::Result<()> {
    let Ok(text) = fs::read_to_string(out) else { return Ok(()) };
    let Ok(other) = CrossDevice::from_json(&text) else { return Ok(()) };
    if force || other.machines.len() <= n_machines {
        return Ok(());
    }
    let message = format!(
        "{} is of {} machines, and the data has {n_machines}",
        out.display(),
        other.machines.len()
    );
    let hint = "give the public store too (--data mine.csv datasets/public/measurements.csv), \
                another --out, or --force to replace it";
    Err(Hinted::new(message, hint).into())
}

fn report(model: &CrossDevice, file: String, seconds: f64) -> FitDevicesReport {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let domains = model.domains.iter().map(|domain| {
        let ids: BTreeSet<&str> =
            domain.rows.iter().map(|row| model.machine_of(row).id.as_str()).collect();
        FittedDomain {
            processor: domain.processor.name().to_owned(),
            phase: domain.phase,
            configurations: count(domain.rows.len()),
            devices: count(ids.len()),
        }
    });
    FitDevicesReport {
        schema_version: SCHEMA_VERSION,
        file,
        data: model.data.clone(),
        rows_read: model.rows.read,
        rows_usable: model.rows.usable,
        configurations: model.rows.kept,
        domains: domains.collect(),
        left_out: model
            .rows
            .left_out
            .iter()
            .map(|(reason, rows)| ReasonCount { reason: reason.clone(), rows: *rows })
            .collect(),
        seconds,
    }
}
