//! Held-out devices: what the model of many devices is worth on one that it has never seen.

mod coverage;
mod errors;
mod given;
mod left_out;
mod scatter;
mod undated;
mod worst;

use std::collections::BTreeSet;

use foretoken_report::units;
use foretoken_spec::{GroupError, HoldOut, Phase, ValidationReport};

use super::headline::{Headline, Tile};
use crate::document::Section;
use crate::markup::paragraph;
use crate::plot::PlotError;
use crate::words;

/// Rows of a held-out device that the headline names beside the data sheet alone.
const SOME_ROWS: u32 = 3;

/// The parts of a validation that are about held-out devices, and the rest.
pub(crate) fn split(report: &ValidationReport) -> (ValidationReport, ValidationReport) {
    let is_device = |hold_out: HoldOut| hold_out == HoldOut::Device;
    let (mut of_devices, mut rest) = (report.clone(), report.clone());
    of_devices.groups.retain(|group| is_device(group.hold_out));
    of_devices.cases.retain(|case| is_device(case.hold_out));
    of_devices.metrics.clear();
    rest.groups.retain(|group| !is_device(group.hold_out));
    rest.cases.retain(|case| !is_device(case.hold_out));
    rest.devices.clear();
    rest.engines.clear();
    rest.undated.clear();
    (of_devices, rest)
}

/// The sections about held-out devices; none where none was held out.
///
/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn sections(report: &ValidationReport) -> Result<Vec<Section>, PlotError> {
    if report.groups.is_empty() {
        return Ok(Vec::new());
    }
    let section = |id, title, body| Section { id, title, body };
    Ok(vec![
        section("held-out", "How devices were held out", protocol()),
        section(
            "by-kind",
            "Error by kind, backend and engine",
            errors::html(report)? + &undated::html(report),
        ),
        section("by-rows", "Error by rows given", given::html(report)?),
        section("device-scatter", "Devices: predicted against observed", scatter::html(report)?),
        section("device-coverage", "Devices: do the intervals hold?", coverage::html(report)?),
        section("worst-devices", "Devices with the largest errors", worst::html(report)?),
        section("left-out", "Rows that were not judged", left_out::html(report)),
    ])
}

fn protocol() -> String {
    paragraph(
        "Each device is left out of the model together with its twins: the same generation, \
         bandwidth and arithmetic nearly the same. It is then predicted from its data sheet \
         alone, and once more after 1, 3 and 5 of its measured rows were given, drawn once and \
         never judged. Sizes of the model's effects are those that were chosen without it.",
    ) + &paragraph(
        "What no such run can undo: the form of the model, the strength of its restraint and the \
         limit of rows of one device were chosen while errors of left-out devices were in sight. \
         Devices that are in no public data are the fair test.",
    )
}

/// Name of a group: kind and backend, or all of them.
fn group_name(group: &GroupError) -> String {
    group_label(group.group.as_deref())
}

/// Kind and backend in words; `None` is all of them.
fn group_label(group: Option<&str>) -> String {
    group.unwrap_or("all devices").to_owned()
}

/// Groups of some rows given and one phase, in their order.
fn groups(groups: &[GroupError], rows: u32, phase: Phase) -> Vec<&GroupError> {
    groups.iter().filter(|group| group.rows == rows && group.phase == phase).collect()
}

/// `data sheet alone`, `3 rows given`.
fn rows_given(rows: u32) -> String {
    match rows {
        0 => "data sheet alone".into(),
        1 => "1 row given".into(),
        n => format!("{n} rows given"),
    }
}

/// The finding, in a sentence and a few numbers.
pub(crate) fn headline(report: &ValidationReport) -> Headline {
    let of = |rows: u32| -> Vec<&GroupError> {
        let all = report.groups.iter().filter(|group| group.group.is_none());
        all.filter(|group| group.rows == rows).collect()
    };
    let said = |groups: &[&GroupError]| -> Vec<String> {
        let one = |g: &&GroupError| format!("{} in {}", units::percent(g.mdape), g.phase.name());
        groups.iter().map(one).collect()
    };
    let (blind, some) = (of(0), of(SOME_ROWS));
    let cases = report.cases.iter().filter(|case| case.rows == 0);
    let n = cases.map(|case| &case.held_out).collect::<BTreeSet<_>>().len();
    let mut sentence = format!(
        "On {} that the model had never seen, the median error from the data sheet alone is {}",
        words::count(n, "device"),
        words::list(&said(&blind)),
    );
    if !some.is_empty() {
        let errors = words::list(&said(&some));
        sentence
            .push_str(&format!("; with {SOME_ROWS} measured rows of the device it is {errors}"));
    }
    sentence.push('.');
    Headline { sentence, tiles: blind.into_iter().chain(some).map(tile).collect() }
}

fn tile(group: &GroupError) -> Tile {
    let mut beside = Vec::new();
    beside.extend(group.noise_floor.map(|n| format!("noise floor {}", units::percent(n))));
    if let Some((name, error)) = words::best_baseline(group) {
        beside.push(format!("best baseline {} ({})", units::percent(error), words::baseline(name)));
    }
    beside.push(format!("90th percentile {}", units::percent(group.p90_ape)));
    beside.push(format!("intervals cover {}", units::percent(group.coverage)));
    Tile {
        name: format!("{} · {}", group.phase.name(), rows_given(group.rows)),
        value: units::percent(group.mdape),
        beside,
    }
}
