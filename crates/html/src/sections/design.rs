//! What each load of a calibration's design bought.

use foretoken_report::{Sheet, units};
use foretoken_spec::DesignStep;

use crate::markup::{figures, folded, paragraph, table};
use crate::plot::{Axis, Mark, Plot, PlotError, Shape, Stroke};
use crate::theme::Ink;
use crate::words;

/// The expected error as the seconds go by, and the loads as a table; nothing without a design.
///
/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn html(steps: &[DesignStep]) -> Result<String, PlotError> {
    let Some(plot) = plot(steps) else { return Ok(String::new()) };
    let intro = "Each load is the one that promises most per second. The expected error is that of \
        typical models from the covariance of the coefficients alone: it compares loads; the error \
        to trust is that on held-out models.";
    let all = table("Loads of the design", &sheet(steps));
    Ok(paragraph(intro) + &figures("design", &[plot])? + &folded("What each load bought", &all))
}

fn plot(steps: &[DesignStep]) -> Option<Plot> {
    let first = steps.first()?;
    let mut seconds = 0.0;
    let mut points = Vec::new();
    let ends: Vec<(f64, f64)> = steps
        .iter()
        .map(|step| {
            seconds += step.seconds;
            points.push(Mark::Point {
                at: (seconds, step.expected_error_after),
                shape: Shape::Disc,
                ink: Ink::Series(0),
                tip: format!(
                    "{} {}: {} → {} in {}, mostly for {}",
                    step.model,
                    step.workloads.join(" "),
                    units::percent(step.expected_error_before),
                    units::percent(step.expected_error_after),
                    units::seconds(step.seconds),
                    step.class
                ),
            });
            (seconds, step.expected_error_after)
        })
        .collect();
    let errors = steps.iter().flat_map(|s| [s.expected_error_before, s.expected_error_after]);
    let y = Axis::log("expected error", errors, words::tick_percent);
    let path = std::iter::once((0.0, first.expected_error_before)).chain(ends).collect();
    let mut marks = vec![Mark::Line(path, Ink::Series(0), Stroke::Medium)];
    marks.extend(points);
    let last = steps.last().map_or(0.0, |step| step.expected_error_after);
    Some(Plot {
        title: "Expected error as the design was measured".into(),
        description: format!(
            "{} took {} and brought the expected error from {} to {}.",
            words::count(steps.len(), "load"),
            units::seconds(seconds),
            units::percent(first.expected_error_before),
            units::percent(last)
        ),
        height: 300,
        x: Axis::linear("seconds of measuring", (0.0, seconds), |v| v.to_string()),
        y,
        marks,
    })
}

fn sheet(steps: &[DesignStep]) -> Sheet {
    let mut sheet = Sheet::new(
        "",
        &["load", "mini-model", "prompt@depth", ">time", ">error before", ">after", "mostly for"],
    );
    for step in steps {
        sheet.row([
            step.sequence.to_string(),
            step.model.clone(),
            step.workloads.join(" "),
            units::seconds(step.seconds),
            units::percent(step.expected_error_before),
            units::percent(step.expected_error_after),
            step.class.clone(),
        ]);
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_adds_up_from_the_first_load() {
        let step = |sequence, before, after| DesignStep {
            sequence,
            model: "mini".into(),
            workloads: vec!["32@0".into()],
            seconds: 2.0,
            expected_error_before: before,
            expected_error_after: after,
            class: "matmul".into(),
        };
        let plot = plot(&[step(0, 0.8, 0.4), step(1, 0.4, 0.1)]).unwrap();
        let path = vec![(0.0, 0.8), (2.0, 0.4), (4.0, 0.1)];
        assert_eq!(plot.marks[0], Mark::Line(path, Ink::Series(0), Stroke::Medium));
        let said = "2 loads took 4.00 s and brought the expected error from 80 % to 10 %.";
        assert_eq!(plot.description, said);
        assert_eq!(html(&[]).unwrap(), "");
    }
}
