//! `validate --hold-out device`: each device from its data sheet, and from a few of its rows.

use foretoken_spec::HoldOut;
use foretoken_transfer::{MOST_PER_DEVICE, validate};

use crate::Outcome;
use crate::args::ValidateArgs;
use crate::commands::validate::judge;
use crate::files::{SpeedFiles, cross_device, public_store, transfer_error};
use crate::output::{Hinted, Output};

/// Whether devices are held out.
///
/// # Errors
/// Something else is held out at once, or devices are described that are not.
pub fn is_asked_for(args: &ValidateArgs) -> anyhow::Result<bool> {
    let is_device = |&&hold_out: &&_| HoldOut::from(hold_out) == HoldOut::Device;
    match (args.hold_out.iter().filter(is_device).count(), args.hold_out.len()) {
        (0, _) if args.devices.is_some() => {
            let message = "--devices is for --hold-out device";
            Err(Hinted::new(message, "leave it out, or hold out devices").into())
        }
        (0, _) => Ok(false),
        (1, 1) => Ok(true),
        _ => {
            let message = "devices are held out of other data than the rest";
            Err(Hinted::new(message, "ask for --hold-out device alone").into())
        }
    }
}

/// Leaves out each device of public measurements, and predicts it.
pub fn run(args: &ValidateArgs, output: &Output) -> anyhow::Result<Outcome> {
    if args.report.is_some() {
        let message = "held-out devices have no page yet";
        return Err(Hinted::new(message, "take --format json, csv or markdown").into());
    }
    let (data, most) = match args.data.is_empty() {
        // Of the committed store as much of each device as the model keeps, so that one that was
        // measured a thousand times does not decide the errors of its kind.
        true => (vec![public_store()], Some(MOST_PER_DEVICE)),
        false => (args.data.clone(), None),
    };
    let files = SpeedFiles { data, devices: args.devices.clone() };
    let store = files.read(output)?;
    let report = validate(&cross_device()?, &store, most, files.names()).map_err(transfer_error)?;
    output.print(&report)?;
    Ok(judge(&report, args, output))
}
