//! `validate --hold-out device`: each device from its data sheet, and from a few of its rows.

use foretoken_spec::{HoldOut, ValidationReport};
use foretoken_transfer::{MOST_PER_DEVICE, validate};

use crate::args::ValidateArgs;
use crate::files::{SpeedFiles, cross_device, public_store, transfer_error};
use crate::output::{Hinted, Output};

/// Whether devices are held out.
///
/// # Errors
/// Something else is held out of the same files, or devices are described that are not held out.
pub fn is_asked_for(args: &ValidateArgs) -> anyhow::Result<bool> {
    let is_device = |&&hold_out: &&_| HoldOut::from(hold_out) == HoldOut::Device;
    match (args.hold_out.iter().filter(is_device).count(), args.hold_out.len()) {
        (0, _) if args.devices.is_some() => {
            let message = "--devices is for --hold-out device";
            Err(Hinted::new(message, "leave it out, or hold out devices").into())
        }
        (0, _) => Ok(false),
        (n, all) if n < all && !(args.data.is_empty() && args.devices.is_none()) => {
            let message = "devices are held out of other files than the rest";
            let hint = "ask for --hold-out device alone, or leave out --data and --devices";
            Err(Hinted::new(message, hint).into())
        }
        _ => Ok(true),
    }
}

/// Leaves out each device of public measurements, and predicts it.
///
/// # Errors
/// Names file, line and field of what is wrong; data without a row that can be judged.
pub fn held_out_devices(args: &ValidateArgs, output: &Output) -> anyhow::Result<ValidationReport> {
    let (data, most) = match args.data.is_empty() {
        // Of the committed store as much of each device as the model keeps, so that one that was
        // measured a thousand times does not decide the errors of its kind.
        true => (vec![public_store()], Some(MOST_PER_DEVICE)),
        false => (args.data.clone(), None),
    };
    let files = SpeedFiles { data, devices: args.devices.clone() };
    let store = files.read(output)?;
    validate(&cross_device()?, &store, most, files.names()).map_err(transfer_error)
}

/// One report of both: groups and cases of held-out devices behind the others.
pub fn joined(mut report: ValidationReport, of_devices: ValidationReport) -> ValidationReport {
    report.data.extend(of_devices.data);
    report.device = format!("{}; {}", report.device, of_devices.device);
    report.groups.extend(of_devices.groups);
    report.engines.extend(of_devices.engines);
    report.devices.extend(of_devices.devices);
    report.undated.extend(of_devices.undated);
    report.cases.extend(of_devices.cases);
    report.left_out.extend(of_devices.left_out);
    report.warnings.extend(of_devices.warnings);
    report
}
