//! The fitted terms: coefficients with their standard errors, and how well each class is met.

use foretoken_report::{Sheet, units};
use foretoken_spec::{Calibration, FeatureCoefficient, TermFit};

use crate::markup::{Key, figures, folded, legend, paragraph, table};
use crate::plot::{Axis, Mark, Plot, PlotError, row};
use crate::theme::Ink;
use crate::words;

/// Terms in one plot: more would not be read.
const MOST_DRAWN: usize = 24;

/// Residuals by class as plots; terms, corrections and intervals as tables.
///
/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn html(calibration: &Calibration) -> Result<String, PlotError> {
    let intro = "The time of a pass is the sum of its kernels, and the time of a kernel is linear \
        in what it does: calls, bytes, arithmetic. Coefficients cannot be negative; one at 0 was \
        not needed. The standard error is a bootstrap over models. The residual is the median \
        error of the term on the very rows that it was fitted to, and no measure of its error \
        elsewhere.";
    let (one, many): (Vec<&TermFit>, Vec<&TermFit>) =
        calibration.terms.iter().partition(|term| term.class.ends_with(".one_row"));
    let plots: Vec<Plot> = [("one row (decode)", one, 1), ("many rows (prefill)", many, 0)]
        .into_iter()
        .filter(|(_, terms, _)| !terms.is_empty())
        .map(|(name, terms, series)| plot(name, terms, series))
        .collect();
    let keys = [(
        Key::Point(crate::plot::Shape::Disc, Ink::Muted),
        "median residual; a tip gives the rows".into(),
    )];
    Ok(paragraph(intro)
        + &legend(&keys)
        + &figures("terms", &plots)?
        + &folded(
            "All terms with their coefficients",
            &table("Fitted terms", &term_sheet(&calibration.terms)),
        )
        + &table("Whole passes", &phase_sheet(calibration)))
}

fn plot(name: &str, mut terms: Vec<&TermFit>, series: usize) -> Plot {
    let left_out = terms.len().saturating_sub(MOST_DRAWN);
    terms.sort_by(|a, b| b.residual_mdape.total_cmp(&a.residual_mdape));
    terms.truncate(MOST_DRAWN);
    let n = terms.len();
    let class = |term: &TermFit| term.class.replace(".one_row", "").replace(".many_rows", "");
    let names: Vec<String> = terms.iter().map(|term| class(term)).collect();
    let far = terms.iter().map(|term| term.residual_mdape).fold(0.02, f64::max) * 1.1;
    let mut marks = Vec::new();
    for (index, term) in terms.iter().enumerate() {
        let at = row(index, n);
        let ink = Ink::Series(series);
        marks.push(Mark::Line(
            vec![(0.0, at), (term.residual_mdape, at)],
            ink,
            crate::plot::Stroke::Medium,
        ));
        marks.push(Mark::Point {
            at: (term.residual_mdape, at),
            shape: crate::plot::Shape::series(series),
            ink,
            tip: format!(
                "{}: {} over {} rows",
                term.class,
                units::percent(term.residual_mdape),
                term.n_observations
            ),
        });
    }
    let worst = terms.first().map_or_else(String::new, |term| {
        format!(" The largest is {} of {}.", units::percent(term.residual_mdape), term.class)
    });
    let more = if left_out > 0 {
        format!(" {left_out} smaller ones are not drawn.")
    } else {
        String::new()
    };
    Plot {
        title: format!("Residual of the terms: {name}"),
        description: format!(
            "Median residual of {n} kernel classes on their own rows.{worst}{more}"
        ),
        height: 80 + 22 * n as u32,
        x: Axis::linear("median absolute residual", (0.0, far), words::tick_percent),
        y: Axis::rows(&names),
        marks,
    }
}

fn term_sheet(terms: &[TermFit]) -> Sheet {
    let mut sheet = Sheet::new(
        "",
        &[
            "kernel class",
            "feature",
            ">coefficient",
            ">in words",
            ">± std. error",
            ">measured from",
            ">to",
            ">rows",
            ">residual",
        ],
    );
    for term in terms {
        for feature in &term.features {
            let error = match feature.std_error {
                Some(error) if feature.coefficient > 0.0 => {
                    units::percent(error / feature.coefficient)
                }
                _ => units::NONE.into(),
            };
            sheet.row([
                term.class.clone(),
                feature.feature.clone(),
                format!("{:.3e} {}", feature.coefficient, feature.unit),
                in_words(feature),
                error,
                units::significant(feature.range[0], 3),
                units::significant(feature.range[1], 3),
                term.n_observations.to_string(),
                units::percent(term.residual_mdape),
            ]);
        }
    }
    sheet
}

/// The coefficient as people know it: a rate of bytes and FLOP, a time of anything else.
fn in_words(feature: &FeatureCoefficient) -> String {
    let value = feature.coefficient;
    if value == 0.0 {
        return "not needed".into();
    }
    match feature.unit.as_str() {
        "s/byte" => units::bytes_per_second(1.0 / value),
        "s/flop" => units::flop_per_second(1.0 / value),
        unit => {
            format!("{} per {}", units::seconds(value), unit.strip_prefix("s/").unwrap_or(unit))
        }
    }
}

fn phase_sheet(calibration: &Calibration) -> Sheet {
    let mut sheet = Sheet::new(
        "",
        &[
            "phase",
            ">factor on the sum",
            ">half-width of the interval",
            ">level",
            ">groups behind it",
        ],
    );
    for interval in &calibration.intervals {
        let correction = calibration.corrections.iter().find(|c| c.phase == interval.phase);
        sheet.row([
            interval.phase.name().into(),
            units::or_none(correction, |c| format!("{:.4}", c.scale)),
            format!("±{}", units::percent(interval.half_width.exp() - 1.0)),
            units::percent(interval.level),
            interval.n_groups.to_string(),
        ]);
    }
    sheet
}
