//! Whether the intervals of left-out devices keep their promise, with and without rows given.

use foretoken_report::{Sheet, units};
use foretoken_spec::{GroupError, ValidationReport};

use super::{SOME_ROWS, group_name, groups, rows_given};
use crate::markup::{figures, folded, legend, paragraph, table};
use crate::plot::{Plot, PlotError};
use crate::sections::coverage::{Coverage, INTRO, keys, plot};
use crate::words;

/// A plot for each phase from the data sheet alone and with some rows; the table has all.
///
/// # Errors
/// A plot that cannot be drawn.
pub(super) fn html(report: &ValidationReport) -> Result<String, PlotError> {
    let phases = words::phases(report.groups.iter().map(|group| group.phase));
    let mut plots: Vec<Plot> = Vec::new();
    for rows in [0, SOME_ROWS] {
        for phase in &phases {
            let of_plot: Vec<Coverage<'_>> = groups(&report.groups, rows, *phase)
                .into_iter()
                .map(|group| Coverage::new(group_name(group), group))
                .collect();
            if !of_plot.is_empty() {
                let title = format!("Coverage, {}: {}", rows_given(rows), phase.name());
                plots.push(plot(title, &of_plot.iter().collect::<Vec<_>>()));
            }
        }
    }
    let all = table("Coverage and width by rows given", &sheet(&report.groups));
    Ok(paragraph(INTRO)
        + &legend(&keys(&phases))
        + &figures("device-coverage", &plots)?
        + &folded("All coverages, as a table", &all))
}

fn sheet(groups: &[GroupError]) -> Sheet {
    let headers =
        ["held out", "phase", ">rows given", ">cases", ">inside", ">nominal", ">median half-width"];
    let mut sheet = Sheet::new("", &headers);
    for group in groups {
        sheet.row([
            group_name(group),
            group.phase.name().into(),
            group.rows.to_string(),
            group.n.to_string(),
            units::percent(group.coverage),
            units::percent(group.interval_level),
            format!("±{}", units::percent(group.interval_half_width)),
        ]);
    }
    sheet
}
