//! Errors from the data sheet alone, by kind and backend, and by engine.

use foretoken_report::{Sheet, units};
use foretoken_spec::{GroupError, ValidationReport};

use super::{group_name, groups};
use crate::markup::{figures, folded, legend, paragraph, table};
use crate::plot::{Plot, PlotError};
use crate::sections::errors::{baseline_sheet, keys, plot};
use crate::words;

/// A plot for each phase by kind and backend, another by engine, and both as tables.
///
/// # Errors
/// A plot that cannot be drawn.
pub(super) fn html(report: &ValidationReport) -> Result<String, PlotError> {
    let phases = words::phases(report.groups.iter().map(|group| group.phase));
    let plots_of = |all: &[GroupError], what: &str, name: fn(&GroupError) -> String| {
        let of_phase = |phase| {
            let rows: Vec<(String, &GroupError)> =
                groups(all, 0, phase).into_iter().map(|group| (name(group), group)).collect();
            (!rows.is_empty())
                .then(|| plot(format!("Median error by {what}: {}", phase.name()), &rows))
        };
        phases.iter().copied().filter_map(of_phase).collect::<Vec<Plot>>()
    };
    let by_kind = plots_of(&report.groups, "kind and backend", group_name);
    let by_engine = plots_of(&report.engines, "engine", engine_name);
    let blind: Vec<&GroupError> = report.groups.iter().filter(|g| g.rows == 0).collect();
    let of_engines: Vec<&GroupError> = report.engines.iter().filter(|g| g.rows == 0).collect();
    let mut of_kinds = error_sheet(&blind, group_name);
    let mut by_engines = error_sheet(&of_engines, engine_name);
    of_kinds.fold_constant(&["rows given"]);
    by_engines.fold_constant(&["rows given"]);
    let intro = "From the data sheet alone. The naive methods predict the same cases from the same \
        figures; those that learn (fixed efficiency, nearest device, linear regression) know the \
        same other devices.";
    Ok(paragraph(intro)
        + &legend(&keys(&phases))
        + &figures("by-kind", &by_kind)?
        + &table("Error from the data sheet alone", &of_kinds)
        + &table("Median error beside the naive methods", &baseline_sheet(&blind, group_name))
        + &figures("by-engine", &by_engine)?
        + &folded(
            "The same by engine, as tables",
            &(table("Error by engine", &by_engines)
                + &table(
                    "Median error by engine beside the naive methods",
                    &baseline_sheet(&of_engines, engine_name),
                )),
        ))
}

/// Kind and backend with the engine.
pub(super) fn engine_name(group: &GroupError) -> String {
    let name = group_name(group);
    group.engine.as_ref().map_or_else(|| name.clone(), |engine| format!("{name} {engine}"))
}

/// Errors of groups, one a row.
pub(super) fn error_sheet(groups: &[&GroupError], name: fn(&GroupError) -> String) -> Sheet {
    let mut sheet = Sheet::new(
        "",
        &[
            "held out",
            "phase",
            ">rows given",
            ">devices",
            ">cases",
            ">median",
            ">median of devices",
            ">90th pct.",
            ">largest",
            ">bias",
            ">within ±10 %",
            ">noise floor",
        ],
    );
    for group in groups {
        sheet.row([
            name(group),
            group.phase.name().into(),
            group.rows.to_string(),
            units::or_none(group.devices, |n| n.to_string()),
            group.n.to_string(),
            units::percent(group.mdape),
            units::or_none(group.mdape_by_device, units::percent),
            units::percent(group.p90_ape),
            units::percent(group.max_ape),
            units::signed_percent(group.bias),
            units::percent(group.within_10pct),
            units::or_none(group.noise_floor, units::percent),
        ]);
    }
    sheet
}
