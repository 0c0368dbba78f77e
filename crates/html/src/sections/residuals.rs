//! Errors by what the cases are: model, quantization, length, regime.

use std::collections::BTreeMap;

use foretoken_cost::Regime;
use foretoken_report::{Sheet, units};
use foretoken_spec::{HoldOut, Phase, ValidationCase, ValidationReport};
use foretoken_stats::median;

use super::headline::main_hold_out;
use crate::markup::{Key, figures, folded, legend, paragraph, table};
use crate::plot::{Axis, Mark, Plot, PlotError, Stroke, row};
use crate::theme::Ink;
use crate::words;

/// A way to sort cases: what it is called, and the place and name of a case in it.
type Factor = (&'static str, fn(&ValidationCase) -> (u32, String));

const FACTORS: [Factor; 5] = [
    ("device", |case| (0, case.group.as_deref().map_or("", words::setup).to_owned())),
    ("model", |case| (0, case.model.clone())),
    ("quantization", |case| (0, case.quant.clone())),
    ("length of the pass", length),
    ("regime", regime),
];

/// Tokens of a prefill; of a decode step, the power of two below its cache.
fn length(case: &ValidationCase) -> (u32, String) {
    match case.phase {
        Phase::Decode => {
            let from = 1 << case.kv_len.max(1).ilog2();
            (1 << 30 | from, format!("1 token at {from} – {}", 2 * from - 1))
        }
        _ => (case.n_tokens, words::pass(case.n_tokens, 0)),
    }
}

/// Which kernels run, and whether there is a past to attend to.
fn regime(case: &ValidationCase) -> (u32, String) {
    match (Regime::of(case.n_tokens), case.kv_len) {
        (Regime::ManyRows, 0) => (0, "prompt, nothing cached".into()),
        (Regime::ManyRows, _) => (1, "prompt at a depth".into()),
        (Regime::OneRow, n) if n < 256 => (2, "one token, below 256".into()),
        (Regime::OneRow, _) => (3, "one token, from 256".into()),
    }
}

/// The cases that share a name.
#[derive(Debug, Clone, PartialEq)]
struct Group<'a> {
    name: String,
    cases: Vec<&'a ValidationCase>,
}

/// One plot per factor over the main hold-out, and one per other hold-out by its groups.
///
/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn html(report: &ValidationReport) -> Result<String, PlotError> {
    let Some(main) = main_hold_out(report) else { return Ok(String::new()) };
    let of = |hold_out: HoldOut| -> Vec<&ValidationCase> {
        report.cases.iter().filter(|case| case.hold_out == hold_out).collect()
    };
    let mut grouped: Vec<(String, Vec<Group<'_>>)> = FACTORS
        .iter()
        .map(|(name, key)| (format!("Error by {name}"), groups(&of(main), *key)))
        .collect();
    let mut others: Vec<HoldOut> = report.groups.iter().map(|g| g.hold_out).collect();
    others.sort();
    others.dedup();
    for hold_out in others.into_iter().filter(|hold_out| *hold_out != main) {
        let by_group = groups(&of(hold_out), |case| {
            (case.held_out.parse().unwrap_or(0), case.held_out.clone())
        });
        grouped
            .push((format!("Held out by {}: error by group", words::hold_out(hold_out)), by_group));
    }
    // One device alone has no name, and nothing to compare.
    grouped.retain(|(_, groups)| groups.first().is_some_and(|group| !group.name.is_empty()));
    let plots: Vec<Plot> = grouped.iter().map(|(title, groups)| plot(title, groups)).collect();
    let mut keys: Vec<(Key, String)> = words::phases(report.cases.iter().map(|case| case.phase))
        .into_iter()
        .map(words::phase_key)
        .collect();
    keys.push((Key::Line(Ink::Text), "median".into()));
    keys.push((Key::Area(Ink::Band), "within ±10 %".into()));
    let intro = format!(
        "Signed errors of the cases held out by {}; to the right, the prediction is too slow. A \
         row that lies to one side shows what the model does not know.",
        words::hold_out(main)
    );
    let tables: String =
        grouped.iter().map(|(title, groups)| table(title, &sheet(groups))).collect();
    Ok(paragraph(&intro)
        + &legend(&keys)
        + &figures("residuals", &plots)?
        + &folded("The same as tables", &tables))
}

fn groups<'a>(
    cases: &[&'a ValidationCase],
    key: fn(&ValidationCase) -> (u32, String),
) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<(u32, String), Vec<&'a ValidationCase>> = BTreeMap::new();
    for case in cases {
        groups.entry(key(case)).or_default().push(case);
    }
    groups.into_iter().map(|((_, name), cases)| Group { name, cases }).collect()
}

fn plot(title: &str, groups: &[Group<'_>]) -> Plot {
    let n = groups.len();
    let errors = groups.iter().flat_map(|group| &group.cases).map(|case| case.error);
    let far = errors.fold(0.12_f64, |far, error| far.max(error.abs())) * 1.08;
    let (bottom, top) = (-0.6, n as f64 - 0.4);
    let mut marks = vec![
        Mark::Area(vec![(-0.1, bottom), (0.1, bottom), (0.1, top), (-0.1, top)], Ink::Band),
        Mark::Line(vec![(0.0, bottom), (0.0, top)], Ink::Ideal, Stroke::Medium),
    ];
    for (index, group) in groups.iter().enumerate() {
        let phases = words::phases(group.cases.iter().map(|case| case.phase));
        for (lane, phase) in phases.iter().enumerate() {
            // Phases lie in lanes of the row, the first one above.
            let lanes = phases.len() as f64;
            let middle = row(index, n) + 0.7 * ((lanes - 1.0) / 2.0 - lane as f64) / lanes;
            let of_phase: Vec<&&ValidationCase> =
                group.cases.iter().filter(|case| case.phase == *phase).collect();
            for (i, case) in of_phase.iter().enumerate() {
                // A fixed zigzag keeps equal errors apart.
                let jitter = 0.16 / lanes * ((i * 5 % 7) as f64 / 3.0 - 1.0);
                marks.push(Mark::Point {
                    at: (case.error, middle + jitter),
                    shape: words::phase_shape(*phase),
                    ink: words::phase_ink(*phase),
                    tip: words::case(case),
                });
            }
            let errors: Vec<f64> = of_phase.iter().map(|case| case.error).collect();
            if let Some(error) = median(&errors) {
                let half = 0.3 / lanes;
                let line = vec![(error, middle - half), (error, middle + half)];
                marks.push(Mark::Line(line, Ink::Text, Stroke::Thick));
            }
        }
    }
    let said: Vec<String> = groups
        .iter()
        .filter_map(|group| {
            let errors: Vec<f64> = group.cases.iter().map(|case| case.error).collect();
            Some(format!("{} {}", group.name, units::signed_percent(median(&errors)?)))
        })
        .collect();
    let names: Vec<String> = groups.iter().map(|group| group.name.clone()).collect();
    Plot {
        title: title.into(),
        description: format!("Median signed error: {}.", words::list(&said)),
        height: 80 + 44 * n as u32,
        x: Axis::linear("predicted ÷ observed − 1", (-far, far), words::tick_percent),
        y: Axis::rows(&names),
        marks,
    }
}

fn sheet(groups: &[Group<'_>]) -> Sheet {
    let headers = ["group", "phase", ">cases", ">bias", ">median", ">largest"];
    let mut sheet = Sheet::new("", &headers);
    for group in groups {
        for phase in words::phases(group.cases.iter().map(|case| case.phase)) {
            let signed: Vec<f64> = group
                .cases
                .iter()
                .filter(|case| case.phase == phase)
                .map(|case| case.error)
                .collect();
            let absolute: Vec<f64> = signed.iter().map(|error| error.abs()).collect();
            let largest = absolute.iter().copied().fold(0.0, f64::max);
            sheet.row([
                group.name.clone(),
                phase.name().into(),
                signed.len().to_string(),
                units::or_none(median(&signed), units::signed_percent),
                units::or_none(median(&absolute), units::percent),
                units::percent(largest),
            ]);
        }
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn lengths_are_in_order_of_size_and_decode_behind() {
        let mut cases: Vec<ValidationCase> = Vec::new();
        for (n_tokens, kv_len) in [(256, 0), (32, 0), (1, 40), (1, 300)] {
            let mut case = testing::case(0.0);
            (case.n_tokens, case.kv_len) = (n_tokens, kv_len);
            case.phase = if n_tokens == 1 { Phase::Decode } else { Phase::Prefill };
            cases.push(case);
        }
        let cases: Vec<&ValidationCase> = cases.iter().collect();
        let names: Vec<String> = groups(&cases, length).into_iter().map(|g| g.name).collect();
        assert_eq!(
            names,
            ["32 tokens", "256 tokens", "1 token at 32 – 63", "1 token at 256 – 511"]
        );
    }
}
