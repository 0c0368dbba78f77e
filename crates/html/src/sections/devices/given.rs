//! What a few measured rows of the device are worth.

use std::collections::BTreeSet;

use foretoken_report::units;
use foretoken_spec::{GroupError, Phase, ValidationReport};

use super::errors::{engine_name, error_sheet};
use super::{group_name, groups, rows_given};
use crate::markup::{Key, figures, folded, legend, paragraph, table};
use crate::plot::{Axis, Mark, Plot, PlotError, Shape, Stroke, row};
use crate::theme::Ink;
use crate::words;

/// One plot per phase: a row for each kind and backend, a mark for each number of rows given.
///
/// # Errors
/// A plot that cannot be drawn.
pub(super) fn html(report: &ValidationReport) -> Result<String, PlotError> {
    let phases = words::phases(report.groups.iter().map(|group| group.phase));
    let given: BTreeSet<u32> = report.groups.iter().map(|group| group.rows).collect();
    let given: Vec<u32> = given.into_iter().collect();
    let plots: Vec<Plot> = phases.iter().map(|phase| plot(report, &given, *phase)).collect();
    let keys: Vec<(Key, String)> = given
        .iter()
        .enumerate()
        .map(|(i, rows)| (Key::Point(Shape::series(i), Ink::Series(i)), rows_given(*rows)))
        .collect();
    let all: Vec<&GroupError> = report.groups.iter().collect();
    let engines: Vec<&GroupError> = report.engines.iter().collect();
    let intro = "Median error as more measured rows of the device are given. Rows that were given \
        are not judged, and devices with too few rows drop out, so the cases are not the same from \
        mark to mark: the table counts them.";
    Ok(paragraph(intro)
        + &legend(&keys)
        + &figures("by-rows", &plots)?
        + &folded(
            "All errors by rows given, as tables",
            &(table("Error by kind, backend and rows given", &error_sheet(&all, group_name))
                + &table("Error by engine and rows given", &error_sheet(&engines, engine_name))),
        ))
}

fn plot(report: &ValidationReport, given: &[u32], phase: Phase) -> Plot {
    let rows = groups(&report.groups, 0, phase);
    let names: Vec<String> = rows.iter().map(|group| group_name(group)).collect();
    let mut marks = Vec::new();
    let mut values = Vec::new();
    let mut said = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let at = row(index, names.len());
        let of_rows = given.iter().enumerate().filter_map(|(i, rows)| {
            let of_name = groups(&report.groups, *rows, phase);
            of_name.into_iter().find(|group| group_name(group) == *name).map(|group| (i, group))
        });
        let of_rows: Vec<(usize, &GroupError)> = of_rows.collect();
        let ends = of_rows.iter().map(|(_, group)| group.mdape);
        let (least, most) = ends.fold((f64::INFINITY, 0.0_f64), |(a, b), e| (a.min(e), b.max(e)));
        if of_rows.len() > 1 && least > 0.0 {
            marks.push(Mark::Line(vec![(least, at), (most, at)], Ink::Grid, Stroke::Thick));
        }
        for (i, group) in &of_rows {
            values.push(group.mdape);
            marks.push(Mark::Point {
                at: (group.mdape, at),
                shape: Shape::series(*i),
                ink: Ink::Series(*i),
                tip: format!(
                    "{name}, {}: {}, {}",
                    rows_given(group.rows),
                    units::percent(group.mdape),
                    words::count(group.n as usize, "case")
                ),
            });
        }
        let numbers: Vec<String> =
            of_rows.iter().map(|(_, group)| units::percent(group.mdape)).collect();
        said.push(format!("{name} {}", numbers.join(" → ")));
    }
    let rows: Vec<String> = given.iter().map(u32::to_string).collect();
    Plot {
        title: format!("Median error by rows given: {}", phase.name()),
        description: format!(
            "Median absolute error with {} rows given: {}.",
            words::list(&rows),
            said.join("; ")
        ),
        height: 90 + 34 * names.len() as u32,
        x: Axis::log("median absolute error (log scale)", values, words::tick_percent),
        y: Axis::rows(&names),
        marks,
    }
}
