//! Small multiples: predicted against observed from the data sheet alone, by kind and backend.

use std::collections::BTreeSet;

use foretoken_spec::{Phase, ValidationCase, ValidationReport};

use crate::markup::{figures, legend, paragraph};
use crate::plot::{Plot, PlotError};
use crate::sections::scatter::{Pair, keys, plot};
use crate::words;

/// One plot for each kind, backend and phase.
///
/// # Errors
/// A plot that cannot be drawn.
pub(super) fn html(report: &ValidationReport) -> Result<String, PlotError> {
    let blind: Vec<&ValidationCase> = report.cases.iter().filter(|case| case.rows == 0).collect();
    let panels: BTreeSet<(&str, Phase)> =
        blind.iter().map(|case| (case.group.as_deref().unwrap_or_default(), case.phase)).collect();
    let plots: Vec<Plot> = panels
        .into_iter()
        .map(|(group, phase)| {
            let of_panel = blind.iter().filter(|case| {
                (case.group.as_deref().unwrap_or_default(), case.phase) == (group, phase)
            });
            let pairs: Vec<Pair> = of_panel.map(|case| pair(case)).collect();
            plot(format!("{group} · {}", phase.name()), phase, &pairs)
        })
        .collect();
    let phases = words::phases(blind.iter().map(|case| case.phase));
    let intro = "Each point is one configuration of one left-out device, predicted from its data \
        sheet alone; the vertical line is the interval of the prediction. Both axes are \
        logarithmic: a device that lies to one side as a whole has an efficiency of its own.";
    Ok(paragraph(intro) + &legend(&keys(&phases)) + &figures("device-scatter", &plots)?)
}

fn pair(case: &ValidationCase) -> Pair {
    let engine = case.engine.as_deref().unwrap_or_default();
    Pair {
        observed_ms: case.observed_ms,
        predicted_ms: case.predicted_ms,
        interval_ms: (case.lower_ms, case.upper_ms),
        tip: format!("{} with {engine} · {}", case.held_out, words::case(case)),
    }
}
