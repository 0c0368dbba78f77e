//! `validate`: the error on held-out groups, beside naive baselines and the noise floor.

use foretoken_fit::validate;
use foretoken_runner::tool_info;
use foretoken_spec::HoldOut;

use crate::Outcome;
use crate::args::ValidateArgs;
use crate::files::{dataset_files, datasets_folder, read_measurements};
use crate::output::{Hinted, Output};

/// Held out unless asked otherwise.
const DEFAULT_HOLD_OUTS: [HoldOut; 2] = [HoldOut::Model, HoldOut::Quant];

/// Reads the data, holds out each group in turn, and reports the errors.
pub fn run(args: &ValidateArgs, output: &Output) -> anyhow::Result<Outcome> {
    let files = if args.data.is_empty() { dataset_files() } else { args.data.clone() };
    if files.is_empty() {
        let message = format!("no measurements in {}", datasets_folder().display());
        return Err(Hinted::new(message, "run `foretoken calibrate`, or give --data FILE").into());
    }
    let mut measurements = Vec::new();
    for file in &files {
        let dataset = read_measurements(file)?;
        for warning in &dataset.warnings {
            output.warn(warning);
        }
        measurements.extend(dataset.measurements);
    }
    let mut hold_outs: Vec<HoldOut> = args.hold_out.iter().map(|&h| h.into()).collect();
    if hold_outs.is_empty() {
        hold_outs = DEFAULT_HOLD_OUTS.to_vec();
    }
    let names = files.iter().map(|file| file.display().to_string()).collect();
    let tool = tool_info(env!("CARGO_PKG_VERSION"));
    let report = validate(&measurements, &hold_outs, names, &tool)?;
    output.print(&report)?;
    let missed =
        args.fail_above.is_some_and(|limit| report.groups.iter().any(|group| group.mdape > limit));
    Ok(if missed { Outcome::ThresholdMissed } else { Outcome::Good })
}
