//! What users wait for, and what is judged beside the phases: requests, kernels, memory.

use foretoken_report::{Sheet, units};
use foretoken_spec::{MetricError, ValidationReport};

use super::headline::main_hold_out;
use crate::markup::{Key, figures, legend, paragraph, table};
use crate::plot::{Axis, Mark, Plot, PlotError, Shape, Stroke, row};
use crate::theme::Ink;
use crate::words;

/// The quantities of the main hold-out as a plot, all of them as a table; nothing without any.
///
/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn html(report: &ValidationReport) -> Result<String, PlotError> {
    if report.metrics.is_empty() {
        return Ok(String::new());
    }
    let main = main_hold_out(report);
    // What is not fitted belongs to every hold-out.
    let of_main = |error: &&MetricError| error.hold_out.is_none() || error.hold_out == main;
    let plots: Vec<Plot> = words::setups(&report.groups)
        .into_iter()
        .map(|setup| {
            let of_plot = |error: &&MetricError| error.group.as_deref() == setup && of_main(error);
            let title = "Error of requests, kernels and memory".to_owned();
            plot(
                words::titled(title, setup),
                &report.metrics.iter().filter(of_plot).collect::<Vec<_>>(),
            )
        })
        .collect();
    let intro = "The same hold-outs, judged by what a request takes (time to first token, time per \
        token, end to end), by single kernels that take at least 1 % of their pass, and by the peak \
        memory of a load, of which nothing is fitted.";
    let keys = [
        (Key::Point(Shape::Disc, INK), "median".to_owned()),
        (Key::Point(Shape::Diamond, INK), "90th percentile".to_owned()),
        (Key::Line(Ink::Limit), "noise floor".to_owned()),
    ];
    Ok("<h3>Requests, kernels and memory</h3>\n".to_owned()
        + &paragraph(intro)
        + &legend(&keys)
        + &figures("metrics", &plots)?
        + &table("Error of requests, kernels and memory", &sheet(&report.metrics)))
}

const INK: Ink = Ink::Series(2);

fn name(error: &MetricError) -> String {
    match error.metric.name() {
        "ttft" => "time to first token".into(),
        "tpot" => "time per token".into(),
        "e2e" => "end to end".into(),
        other => other.replace('_', " "),
    }
}

fn held_out(error: &MetricError) -> String {
    let what = error.hold_out.map_or_else(|| "nothing is fitted".into(), words::hold_out);
    match &error.group {
        Some(name) => format!("{what} · {}", words::setup(name)),
        None => what,
    }
}

fn plot(title: String, errors: &[&MetricError]) -> Plot {
    let n = errors.len();
    let values = errors.iter().flat_map(|e| [e.mdape, e.p90_ape].into_iter().chain(e.noise_floor));
    let mut marks = Vec::new();
    for (index, error) in errors.iter().enumerate() {
        let at = row(index, n);
        let median = (error.mdape, at);
        marks.push(Mark::Line(vec![median, (error.p90_ape, at)], INK, Stroke::Thin));
        if let Some(noise) = error.noise_floor.filter(|noise| *noise > 0.0) {
            let line = vec![(noise, at - 0.32), (noise, at + 0.32)];
            marks.push(Mark::Line(line, Ink::Limit, Stroke::Thick));
        }
        for (at, shape, what) in [
            (median, Shape::Disc, "median"),
            ((error.p90_ape, at), Shape::Diamond, "90th percentile"),
        ] {
            let tip =
                format!("{}, {what}: {}, {} cases", name(error), units::percent(at.0), error.n);
            marks.push(Mark::Point { at, shape, ink: INK, tip });
        }
    }
    let said: Vec<String> =
        errors.iter().map(|e| format!("{} {}", name(e), units::percent(e.mdape))).collect();
    let names: Vec<String> = errors.iter().map(|error| name(error)).collect();
    Plot {
        title,
        description: format!("Median absolute error: {}.", words::list(&said)),
        height: 90 + 34 * n as u32,
        x: Axis::log("absolute error (log scale)", values, words::tick_percent),
        y: Axis::rows(&names),
        marks,
    }
}

fn sheet(errors: &[MetricError]) -> Sheet {
    let mut sheet = Sheet::new(
        "",
        &[
            "held out",
            "quantity",
            ">cases",
            ">median",
            ">mean",
            ">90th pct.",
            ">largest",
            ">bias",
            ">within ±10 %",
            ">noise floor",
        ],
    );
    for error in errors {
        sheet.row([
            held_out(error),
            name(error),
            error.n.to_string(),
            units::percent(error.mdape),
            units::percent(error.mape),
            units::percent(error.p90_ape),
            units::percent(error.max_ape),
            units::signed_percent(error.bias),
            units::percent(error.within_10pct),
            units::or_none(error.noise_floor, units::percent),
        ]);
    }
    sheet
}
