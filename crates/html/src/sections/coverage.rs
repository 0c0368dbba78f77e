//! Whether the intervals keep their promise, and how wide they are.

use foretoken_report::{Sheet, units};
use foretoken_spec::{GroupError, Phase, ValidationReport};

use crate::markup::{Key, figures, legend, paragraph, table};
use crate::plot::{Axis, Mark, Plot, PlotError, Stroke, row};
use crate::theme::Ink;
use crate::words;

/// Coverage of one named group in one phase.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Coverage<'a> {
    name: String,
    group: &'a GroupError,
    /// 95 % interval of the share, by Wilson's score.
    share: (f64, f64),
}

/// Coverage by hold-out and phase as a plot and a table.
///
/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn html(report: &ValidationReport) -> Result<String, PlotError> {
    let coverages: Vec<Coverage<'_>> = report
        .groups
        .iter()
        .map(|group| Coverage::new(words::hold_out(group.hold_out), group))
        .collect();
    let phases = words::phases(report.groups.iter().map(|group| group.phase));
    let mut plots = Vec::new();
    for setup in words::setups(&report.groups) {
        for phase in &phases {
            let of_plot =
                |c: &&Coverage<'_>| c.group.phase == *phase && c.group.group.as_deref() == setup;
            let of_plot: Vec<&Coverage<'_>> = coverages.iter().filter(of_plot).collect();
            let title = format!("Coverage of the intervals: {}", phase.name());
            plots.push(plot(words::titled(title, setup), &of_plot));
        }
    }
    Ok(paragraph(INTRO)
        + &legend(&keys(&phases))
        + &figures("coverage", &plots)?
        + &table("Coverage and width of the intervals", &sheet(&coverages)))
}

/// How to read it.
pub(crate) const INTRO: &str = "The share of observations inside their interval; an honest 90 % interval covers about nine in \
     ten, a cautious one more. The line through a point is the 95 % interval of the share itself, \
     which few cases leave wide. Width matters as much: an interval that covers everything says \
     nothing.";

/// What the marks mean.
pub(crate) fn keys(phases: &[Phase]) -> Vec<(Key, String)> {
    let mut keys: Vec<(Key, String)> =
        phases.iter().map(|phase| words::phase_key(*phase)).collect();
    keys.push((Key::Line(Ink::Limit), "nominal level".into()));
    keys.push((Key::Area(Ink::Band), "within 5 points of it".into()));
    keys
}

impl<'a> Coverage<'a> {
    /// The coverage of a group.
    pub(crate) fn new(name: String, group: &'a GroupError) -> Self {
        Self { name, group, share: wilson(group.coverage, group.n) }
    }
}

/// Wilson's score interval of a share at 95 %.
fn wilson(share: f64, n: u32) -> (f64, f64) {
    const Z: f64 = 1.96;
    let n = f64::from(n.max(1));
    let centre = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt() / (1.0 + Z * Z / n);
    ((centre - spread).max(0.0), (centre + spread).min(1.0))
}

/// The share inside of each group, with its own interval.
pub(crate) fn plot(title: String, coverages: &[&Coverage<'_>]) -> Plot {
    let n = coverages.len();
    let level = coverages.first().map_or(0.9, |c| c.group.interval_level);
    let least = coverages.iter().map(|c| c.share.0).fold(level - 0.15, f64::min).max(0.0);
    let x = Axis::linear(
        "share inside the interval",
        ((least - 0.02).max(0.0), 1.005),
        words::tick_percent,
    );
    let (bottom, top) = (-0.6, n as f64 - 0.4);
    let (low, high) = (level - 0.05, level + 0.05);
    let mut marks = vec![
        Mark::Area(vec![(low, bottom), (high, bottom), (high, top), (low, top)], Ink::Band),
        Mark::Line(vec![(level, bottom), (level, top)], Ink::Limit, Stroke::Medium),
    ];
    for (index, coverage) in coverages.iter().enumerate() {
        let at = row(index, n);
        let ink = words::phase_ink(coverage.group.phase);
        let (low, high) = coverage.share;
        marks.push(Mark::Line(vec![(low, at), (high, at)], ink, Stroke::Medium));
        marks.push(Mark::Point {
            at: (coverage.group.coverage, at),
            shape: words::phase_shape(coverage.group.phase),
            ink,
            tip: format!(
                "{} of {} cases inside",
                units::percent(coverage.group.coverage),
                coverage.group.n
            ),
        });
    }
    let said: Vec<String> = coverages
        .iter()
        .map(|c| format!("{} {}", c.name, units::percent(c.group.coverage)))
        .collect();
    let names: Vec<String> = coverages.iter().map(|c| c.name.clone()).collect();
    Plot {
        title,
        description: format!(
            "Share of observations inside their {} interval: {}.",
            units::percent(level),
            words::list(&said)
        ),
        height: 90 + 34 * n as u32,
        x,
        y: Axis::rows(&names),
        marks,
    }
}

fn sheet(coverages: &[Coverage<'_>]) -> Sheet {
    let mut sheet = Sheet::new(
        "",
        &[
            "held out",
            "phase",
            ">cases",
            ">inside",
            ">95 % interval",
            ">nominal",
            ">median half-width",
        ],
    );
    for coverage in coverages {
        let group = coverage.group;
        sheet.row([
            words::held_out(group),
            group.phase.name().into(),
            group.n.to_string(),
            units::percent(group.coverage),
            format!("{} – {}", units::percent(coverage.share.0), units::percent(coverage.share.1)),
            units::percent(group.interval_level),
            format!("±{}", units::percent(group.interval_half_width)),
        ]);
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_share_by_hand() {
        // 9 of 10: Wilson's 95 % interval is 0.596 – 0.982 (Brown, Cai and DasGupta, 2001).
        let (low, high) = wilson(0.9, 10);
        assert!((low - 0.596).abs() < 1e-3 && (high - 0.982).abs() < 1e-3, "{low} {high}");
        assert_eq!(wilson(1.0, 0).1, 1.0);
    }
}
