//! Predicted against observed, with intervals and the ±10 % band.

use foretoken_report::{Sheet, units};
use foretoken_spec::{HoldOut, Phase, ValidationCase, ValidationReport};

use super::headline::main_hold_out;
use crate::markup::{Key, figures, folded, legend, paragraph, table};
use crate::plot::{Axis, Mark, Plot, PlotError, Shape, Stroke};
use crate::theme::Ink;
use crate::words;

/// A pair of times with its interval, whatever it was that was predicted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pair {
    /// Observed.
    pub observed_ms: f64,
    /// Predicted.
    pub predicted_ms: f64,
    /// The prediction's interval.
    pub interval_ms: (f64, f64),
    /// Which case it is.
    pub tip: String,
}

/// One plot per hold-out and phase, and all cases as a table; only the main hold-out is open.
///
/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn html(report: &ValidationReport) -> Result<String, PlotError> {
    let main = main_hold_out(report);
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for (hold_out, setup, phase) in panels(report) {
        let of_panel = |case: &&ValidationCase| {
            (case.hold_out, case.group.as_deref(), case.phase) == (hold_out, setup, phase)
        };
        let pairs: Vec<Pair> = report.cases.iter().filter(of_panel).map(pair).collect();
        let title = format!("{} · held out by {}", phase.name(), words::hold_out(hold_out));
        let title = words::titled(title, setup);
        let plots = if Some(hold_out) == main { &mut first } else { &mut others };
        plots.push(plot(title, phase, &pairs));
    }
    let phases = words::phases(report.cases.iter().map(|case| case.phase));
    let intro = "Each point is one configuration, predicted by a fit that has not seen its group; \
        the vertical line is the interval of the prediction. On the diagonal, prediction and \
        observation agree.";
    let all = table("All cases", &case_sheet(&report.cases));
    let summary = format!("All {}", words::count(report.cases.len(), "case"));
    let more = match others.as_slice() {
        [] => String::new(),
        plots => folded("The other hold-outs", &figures("scatter-more", plots)?),
    };
    Ok(paragraph(intro)
        + &legend(&keys(&phases))
        + &figures("scatter", &first)?
        + &more
        + &folded(&summary, &all))
}

/// What the marks mean.
pub(crate) fn keys(phases: &[Phase]) -> Vec<(Key, String)> {
    let mut keys: Vec<(Key, String)> =
        phases.iter().map(|phase| words::phase_key(*phase)).collect();
    keys.push((Key::Point(Shape::Ring, Ink::Missed), "observed outside the interval".into()));
    keys.push((Key::Area(Ink::Band), "within ±10 %".into()));
    keys.push((Key::Line(Ink::Ideal), "predicted = observed".into()));
    keys
}

/// Hold-outs in their order, setups and phases within.
fn panels(report: &ValidationReport) -> Vec<(HoldOut, Option<&str>, Phase)> {
    let mut panels: Vec<(HoldOut, Option<&str>, Phase)> = Vec::new();
    for case in &report.cases {
        let panel = (case.hold_out, case.group.as_deref(), case.phase);
        if !panels.contains(&panel) {
            panels.push(panel);
        }
    }
    let order = |hold_out| report.cases.iter().position(|case| case.hold_out == hold_out);
    panels.sort_by_key(|(hold_out, setup, phase)| (order(*hold_out), *setup, *phase));
    panels
}

fn pair(case: &ValidationCase) -> Pair {
    Pair {
        observed_ms: case.observed_ms,
        predicted_ms: case.predicted_ms,
        interval_ms: (case.lower_ms, case.upper_ms),
        tip: words::case(case),
    }
}

/// A log-log scatter plot of pairs of one phase.
pub(crate) fn plot(title: String, phase: Phase, pairs: &[Pair]) -> Plot {
    let values = || {
        pairs.iter().flat_map(|p| [p.observed_ms, p.predicted_ms, p.interval_ms.0, p.interval_ms.1])
    };
    let observed = || pairs.iter().flat_map(|p| [p.observed_ms, p.predicted_ms]);
    let x = Axis::log("observed, ms", observed(), ticks);
    let y = Axis::log("predicted, ms", values(), ticks);
    let (low, high) = x.range;
    let mut marks = vec![
        Mark::Area(
            vec![
                (low, clamp(low * 0.9, y.range)),
                (high, high * 0.9),
                (high, clamp(high * 1.1, y.range)),
                (low, low * 1.1),
            ],
            Ink::Band,
        ),
        Mark::Line(vec![(low, low), (high, high)], Ink::Ideal, Stroke::Medium),
    ];
    let inside = |p: &Pair| (p.interval_ms.0..=p.interval_ms.1).contains(&p.observed_ms);
    let ink = |p: &Pair| if inside(p) { words::phase_ink(phase) } else { Ink::Missed };
    marks.extend(pairs.iter().map(|p| {
        let ends = [p.interval_ms.0, p.interval_ms.1].map(|end| (p.observed_ms, end));
        Mark::Line(ends.to_vec(), ink(p), Stroke::Thin)
    }));
    marks.extend(pairs.iter().map(|p| Mark::Point {
        at: (p.observed_ms, p.predicted_ms),
        shape: if inside(p) { words::phase_shape(phase) } else { Shape::Ring },
        ink: ink(p),
        tip: p.tip.clone(),
    }));
    let close =
        pairs.iter().filter(|p| (p.predicted_ms / p.observed_ms - 1.0).abs() <= 0.1).count();
    let n_inside = pairs.iter().filter(|p| inside(p)).count();
    let n = pairs.len();
    Plot {
        description: format!(
            "{close} of {n} predictions lie within ±10 % of the observation; {n_inside} of {n} \
             observations lie inside the interval."
        ),
        title,
        height: 380,
        x,
        y,
        marks,
    }
}

fn clamp(value: f64, (low, high): (f64, f64)) -> f64 {
    value.clamp(low, high)
}

/// Thousands from five digits on: longer numbers would meet each other.
fn ticks(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{}k", value / 1000.0)
    } else if value >= 1.0 {
        value.to_string()
    } else {
        format!("{:.3}", value).trim_end_matches('0').into()
    }
}

fn case_sheet(cases: &[ValidationCase]) -> Sheet {
    let mut sheet = Sheet::new(
        "",
        &[
            "model",
            "quant",
            "held out",
            "phase",
            ">tokens",
            ">depth",
            ">observed ms",
            ">predicted ms",
            ">interval",
            ">error",
            ">noise",
            ">loads",
        ],
    );
    for case in cases {
        sheet.row([
            words::titled(case.model.clone(), case.group.as_deref()),
            case.quant.clone(),
            format!("{} {}", words::hold_out(case.hold_out), case.held_out),
            case.phase.name().into(),
            case.n_tokens.to_string(),
            case.kv_len.to_string(),
            units::ms(case.observed_ms),
            units::ms(case.predicted_ms),
            format!("{} – {}", units::ms(case.lower_ms), units::ms(case.upper_ms)),
            units::signed_percent(case.error),
            units::or_none(case.noise, units::percent),
            case.loads.to_string(),
        ]);
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(observed_ms: f64, predicted_ms: f64) -> Pair {
        let interval_ms = (predicted_ms * 0.9, predicted_ms * 1.1);
        Pair { observed_ms, predicted_ms, interval_ms, tip: format!("{observed_ms}") }
    }

    #[test]
    fn an_observation_outside_its_interval_is_drawn_as_missed() {
        let plot = plot("t".into(), Phase::Decode, &[pair(10.0, 10.5), pair(10.0, 20.0)]);
        let inks: Vec<(Shape, Ink)> = plot
            .marks
            .iter()
            .filter_map(|mark| match mark {
                Mark::Point { shape, ink, .. } => Some((*shape, *ink)),
                _ => None,
            })
            .collect();
        assert_eq!(inks[1], (Shape::Ring, Ink::Missed));
        assert_eq!(inks[0].1, words::phase_ink(Phase::Decode));
        assert!(plot.description.starts_with("1 of 2 predictions"));
    }

    #[test]
    fn ticks_are_short() {
        let written = [0.02, 5.0, 3000.0, 300_000.0].map(ticks);
        assert_eq!(written, ["0.02", "5", "3000", "300k"]);
    }

    #[test]
    fn the_axes_hold_every_interval() {
        let plot = plot("t".into(), Phase::Prefill, &[pair(1.0, 2.0), pair(300.0, 290.0)]);
        assert!(plot.y.range.1 > 290.0 * 1.1 && plot.x.range.0 < 1.0);
    }
}
