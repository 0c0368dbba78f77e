//! `foretoken`: measures, calibrates, predicts and validates the speed of language models.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod commands;
mod files;
mod hub;
mod meter;
mod output;
mod parse;
mod progress;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::output::Output;

/// What a command that did not fail says about a threshold that it was asked to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Good,
    /// A threshold asked for was missed.
    ThresholdMissed,
}

const THRESHOLD_MISSED: u8 = 1;
const FAILURE: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_good = output::print_refusal(&error);
            return if is_good { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) };
        }
    };
    match run(&cli) {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::ThresholdMissed) => ExitCode::from(THRESHOLD_MISSED),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error);
            ExitCode::from(FAILURE)
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<Outcome> {
    let output = Output::new(cli);
    match &cli.command {
        Command::Calibrate(args) => commands::calibrate::run(args, &output),
        Command::Predict(args) => commands::predict::run(args, &output),
        Command::Validate(args) => commands::validate::run(args, &output),
        Command::Measure(args) => commands::measure::run(args, &output),
        Command::Profile(args) => commands::profile::run(args, &output),
        Command::Import(args) => commands::import::run(args, &output),
        Command::Inspect(args) => commands::inspect::run(args, &output),
        Command::Synth(args) => commands::synth::run(args, &output),
        Command::Models(args) => commands::models::run(args, &output),
        Command::Devices(args) => commands::devices::run(args, &output),
        Command::Probe(args) => commands::probe::run(args, &output),
        Command::FitDevices(args) => commands::fit_devices::run(args, &output),
        Command::Schema(args) => commands::schema::run(args, &output),
    }
}
