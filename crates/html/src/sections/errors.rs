//! The matrix: error by hold-out and phase beside the noise floor and the naive methods.

use std::collections::BTreeSet;

use foretoken_report::{Sheet, units};
use foretoken_spec::{GroupError, Phase, ValidationReport};

use crate::markup::{Key, figures, legend, paragraph, table};
use crate::plot::{Axis, Mark, Plot, PlotError, Shape, Stroke, row};
use crate::theme::Ink;
use crate::words;

/// The matrix as plots, one per phase, and as tables.
///
/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn html(report: &ValidationReport) -> Result<String, PlotError> {
    let phases = words::phases(report.groups.iter().map(|group| group.phase));
    let mut plots = Vec::new();
    for setup in words::setups(&report.groups) {
        for phase in &phases {
            let of_plot =
                |group: &&GroupError| group.phase == *phase && group.group.as_deref() == setup;
            let rows: Vec<(String, &GroupError)> = report
                .groups
                .iter()
                .filter(of_plot)
                .map(|group| (words::hold_out(group.hold_out), group))
                .collect();
            let title = format!("Median error by hold-out: {}", phase.name());
            plots.push(plot(words::titled(title, setup), &rows));
        }
    }
    let intro = "A whole group is absent from every step of the fit, then predicted. The naive \
        methods predict the same cases from the same data.";
    let groups: Vec<&GroupError> = report.groups.iter().collect();
    let beside = baseline_sheet(&groups, words::held_out);
    Ok(paragraph(intro)
        + &legend(&keys(&phases))
        + &figures("errors", &plots)?
        + &table("Error on held-out groups", &error_sheet(&report.groups))
        + &table("Median error beside the naive methods", &beside))
}

/// What the marks mean.
pub(crate) fn keys(phases: &[Phase]) -> Vec<(Key, String)> {
    let mut keys: Vec<(Key, String)> =
        phases.iter().map(|phase| words::phase_key(*phase)).collect();
    keys.push((Key::Line(Ink::Limit), "noise floor".into()));
    keys.push((
        Key::Point(Shape::Ring, Ink::Naive),
        "naive methods (beyond 200 %: drawn there)".into(),
    ));
    keys
}

/// A naive method that errs by more stands here, or the others would be in a corner.
const FARTHEST: f64 = 2.0;

/// The median error of each named group beside its noise floor and the naive methods.
pub(crate) fn plot(title: String, groups: &[(String, &GroupError)]) -> Plot {
    let names: Vec<String> = groups.iter().map(|(name, _)| name.clone()).collect();
    let values = groups.iter().flat_map(|(_, group)| {
        let naive = group.baselines.values().map(|baseline| baseline.mdape);
        naive.chain([group.mdape]).chain(group.noise_floor)
    });
    let values = values.map(|value| value.min(FARTHEST));
    let x = Axis::log("median absolute error (log scale)", values, words::tick_percent);
    let mut marks = Vec::new();
    for (index, (_, group)) in groups.iter().enumerate() {
        let at = row(index, groups.len());
        if let Some(noise) = group.noise_floor.filter(|noise| *noise > 0.0) {
            let line = vec![(noise, at - 0.32), (noise, at + 0.32)];
            marks.push(Mark::Line(line, Ink::Limit, Stroke::Thick));
        }
        for (name, baseline) in &group.baselines {
            marks.push(Mark::Point {
                at: (baseline.mdape.min(FARTHEST), at),
                shape: Shape::Ring,
                ink: Ink::Naive,
                tip: format!("{}: {}", words::baseline(name), units::percent(baseline.mdape)),
            });
        }
        marks.push(Mark::Point {
            at: (group.mdape, at),
            shape: words::phase_shape(group.phase),
            ink: words::phase_ink(group.phase),
            tip: format!("Foretoken: {}, {} cases", units::percent(group.mdape), group.n),
        });
    }
    let said: Vec<String> = groups
        .iter()
        .map(|(name, group)| format!("{name} {}", units::percent(group.mdape)))
        .collect();
    Plot {
        title,
        description: format!("Median absolute error: {}.", words::list(&said)),
        height: 90 + 34 * groups.len() as u32,
        x,
        y: Axis::rows(&names),
        marks,
    }
}

fn error_sheet(groups: &[GroupError]) -> Sheet {
    let mut sheet = Sheet::new(
        "",
        &[
            "held out",
            "phase",
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
    for group in groups {
        sheet.row([
            words::held_out(group),
            group.phase.name().into(),
            group.n.to_string(),
            units::percent(group.mdape),
            units::percent(group.mape),
            units::percent(group.p90_ape),
            units::percent(group.max_ape),
            units::signed_percent(group.bias),
            units::percent(group.within_10pct),
            units::or_none(group.noise_floor, units::percent),
        ]);
    }
    sheet
}

/// The median error of groups beside that of the naive methods, one group a row under its name.
pub(crate) fn baseline_sheet(groups: &[&GroupError], name: fn(&GroupError) -> String) -> Sheet {
    let names: BTreeSet<&String> = groups.iter().flat_map(|g| g.baselines.keys()).collect();
    let columns: Vec<String> = names.iter().map(|n| format!(">{}", words::baseline(n))).collect();
    let mut headers = vec!["held out", "phase", ">Foretoken"];
    headers.extend(columns.iter().map(String::as_str));
    headers.push(">best naive ÷ ours");
    let mut sheet = Sheet::new("", &headers);
    for group in groups {
        let own = [name(group), group.phase.name().into(), units::percent(group.mdape)];
        let naive = names.iter().map(|name| {
            units::or_none(group.baselines.get(*name), |baseline| {
                let partial = if baseline.n < group.n { " *" } else { "" };
                format!("{}{partial}", units::percent(baseline.mdape))
            })
        });
        let ratio = units::or_none(words::best_baseline(group), |(_, error)| {
            format!("{}×", units::significant(error / group.mdape, 2))
        });
        sheet.row(own.into_iter().chain(naive).chain([ratio]));
    }
    if groups.iter().any(|group| group.baselines.values().any(|b| b.n < group.n)) {
        sheet.note("* answered only a part of the cases.");
    }
    sheet
}
