//! `validate`: the error on held-out groups, beside naive baselines and the noise floor.

use std::collections::HashSet;

use foretoken_fit::{FitError, compare_forms, learning_curve, validate};
use foretoken_html::validation_page;
use foretoken_runner::tool_info;
use foretoken_spec::{HoldOut, Measurement, ValidationReport, Workload};

use crate::Outcome;
use crate::args::ValidateArgs;
use crate::commands::validate_devices;
use crate::files::{check_page, dataset_files, datasets_folder, read_measurements, write_page};
use crate::output::{Hinted, Output};

/// Held out unless asked otherwise.
const DEFAULT_HOLD_OUTS: [HoldOut; 2] = [HoldOut::Model, HoldOut::Quant];

/// Reads the data, holds out each group in turn, and reports the errors.
pub fn run(args: &ValidateArgs, output: &Output) -> anyhow::Result<Outcome> {
    if let Some(path) = &args.report {
        check_page(path)?;
    }
    let has_devices = validate_devices::is_asked_for(args)?;
    let mut hold_outs: Vec<HoldOut> = args.hold_out.iter().map(|&h| h.into()).collect();
    hold_outs.retain(|hold_out| *hold_out != HoldOut::Device);
    if has_devices && hold_outs.is_empty() {
        let report = validate_devices::held_out_devices(args, output)?;
        return answer(&report, &[], args, output);
    }
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
    let n_read = measurements.len();
    let mut seen = HashSet::new();
    measurements.retain(|m| seen.insert(identity(m)));
    if measurements.len() < n_read {
        output.warn(&format!(
            "{} repeated lines were left out: the same load stands in several places",
            n_read - measurements.len()
        ));
    }
    let names = files.iter().map(|file| file.display().to_string()).collect();
    if args.compare_forms {
        output.print(&compare_forms(&measurements, names).map_err(one_machine)?)?;
        return Ok(Outcome::Good);
    }
    if args.learning_curve {
        output.print(&learning_curve(&measurements, names).map_err(one_machine)?)?;
        return Ok(Outcome::Good);
    }
    if hold_outs.is_empty() {
        hold_outs = DEFAULT_HOLD_OUTS.to_vec();
    }
    let tool = tool_info(env!("CARGO_PKG_VERSION"));
    let mut report = validate(&measurements, &hold_outs, names, &tool)?;
    if has_devices {
        let of_devices = validate_devices::held_out_devices(args, output)?;
        report = validate_devices::joined(report, of_devices);
    }
    answer(&report, &measurements, args, output)
}

/// Writes the page, prints the report, and says whether it is good enough.
fn answer(
    report: &ValidationReport,
    measurements: &[Measurement],
    args: &ValidateArgs,
    output: &Output,
) -> anyhow::Result<Outcome> {
    if let Some(path) = &args.report {
        let page = validation_page(report, measurements, env!("CARGO_PKG_VERSION"))?;
        write_page(path, &page, output)?;
    }
    output.print(report)?;
    Ok(judge(report, args, output))
}

/// Whether all medians are within the limit, if there is one.
fn judge(report: &ValidationReport, args: &ValidateArgs, output: &Output) -> Outcome {
    let Some(limit) = args.fail_above else { return Outcome::Good };
    let missed: Vec<String> = report
        .groups
        .iter()
        .filter(|group| group.mdape > limit)
        .map(|group| {
            let error = 100.0 * group.mdape;
            format!("{} {} {error:.1} %", group.hold_out.name(), group.phase.name())
        })
        .collect();
    if missed.is_empty() {
        return Outcome::Good;
    }
    output.warn(&format!("above {} %: {}", 100.0 * limit, missed.join(", ")));
    Outcome::ThresholdMissed
}

/// Says what to do where data of several setups cannot be used together.
fn one_machine(error: FitError) -> anyhow::Error {
    match error {
        FitError::Mixed { .. } => {
            let message = "this takes the data of one machine, engine and thread count";
            Hinted::new(message.to_owned(), "choose its files with --data").into()
        }
        other => other.into(),
    }
}

/// What makes a line the only one of its kind.
fn identity(m: &Measurement) -> (String, u32, Workload, String, String, String) {
    let model = (m.model.name.clone(), m.model.quant.clone());
    (m.session.clone(), m.sequence, m.workload, model.0, model.1, m.time.clone())
}
