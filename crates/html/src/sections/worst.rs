//! The cases with the largest errors, and what probably lies behind each.

use foretoken_report::{Sheet, units};
use foretoken_spec::{ValidationCase, ValidationReport};
use foretoken_stats::median;

use crate::markup::{paragraph, table};
use crate::words;

/// Cases that are listed.
const MOST: usize = 12;

/// The worst cases as a table: one row per model and quantization of a held-out group and phase,
/// lest the lengths of one of them fill it.
pub(crate) fn html(report: &ValidationReport) -> String {
    let mut worst: Vec<&ValidationCase> = report.cases.iter().collect();
    worst.sort_by(|a, b| b.error.abs().total_cmp(&a.error.abs()));
    let mut rows: Vec<(&ValidationCase, usize)> = Vec::new();
    for case in worst {
        match rows.iter_mut().find(|(first, _)| is_sibling(first, case)) {
            Some((_, n)) => *n += 1,
            None => rows.push((case, 1)),
        }
    }
    rows.truncate(MOST);
    let mut sheet = Sheet::new(
        "",
        &[
            "model",
            "held out",
            "pass",
            ">predicted",
            ">observed",
            ">error",
            "interval",
            "likely reason",
        ],
    );
    for (case, n) in rows {
        let alone = if n > 1 { format!(" (worst of {n})") } else { String::new() };
        sheet.row([
            format!("{} {}", case.model, case.quant),
            format!("{} {}", case.hold_out.name(), case.held_out),
            format!("{} of {}{alone}", case.phase.name(), words::pass(case.n_tokens, case.kv_len)),
            units::duration_ms(case.predicted_ms),
            units::duration_ms(case.observed_ms),
            units::signed_percent(case.error),
            if words::is_inside(case) { "inside" } else { "missed" }.into(),
            likely_reason(case, &report.cases),
        ]);
    }
    let intro = "One row per model, quantization and phase of a held-out group, by its largest \
        error. The reason is a guess from the numbers: the noise of the case itself, then the \
        errors of its neighbours.";
    paragraph(intro) + &table(&format!("Largest of {} errors", report.cases.len()), &sheet)
}

fn is_sibling(a: &ValidationCase, b: &ValidationCase) -> bool {
    a.hold_out == b.hold_out
        && a.held_out == b.held_out
        && a.model == b.model
        && a.quant == b.quant
        && a.phase == b.phase
}

/// Share of an error from which the noise of the case explains it.
const NOISY: f64 = 0.5;
/// Median error of a group, relative to the case's, from which the whole group is off.
const SHARED: f64 = 0.5;

/// What probably lies behind an error, from the case's own noise and from its neighbours.
fn likely_reason(case: &ValidationCase, cases: &[ValidationCase]) -> String {
    if let Some(noise) = case.noise.filter(|noise| *noise >= NOISY * case.error.abs()) {
        return format!("noise: two halves of its loads differ by {}", units::percent(noise));
    }
    if case.loads < 2 {
        return "noise is unknown: one load only".into();
    }
    let of_group = |other: &&ValidationCase| {
        other.hold_out == case.hold_out
            && other.held_out == case.held_out
            && other.phase == case.phase
    };
    let shared = |same: &dyn Fn(&ValidationCase) -> bool| {
        let errors: Vec<f64> =
            cases.iter().filter(of_group).filter(|other| same(other)).map(|c| c.error).collect();
        let middle = median(&errors).filter(|_| errors.len() > 2)?;
        let is_shared =
            middle.signum() == case.error.signum() && middle.abs() >= SHARED * case.error.abs();
        is_shared.then(|| format!("{} (median of {})", units::signed_percent(middle), errors.len()))
    };
    if let Some(off) = shared(&|_| true) {
        return format!("all of {} is off in {}: {off}", case.held_out, case.phase.name());
    }
    if let Some(off) =
        shared(&|other| other.n_tokens == case.n_tokens && other.kv_len == case.kv_len)
    {
        return format!("passes of {} are off: {off}", words::pass(case.n_tokens, case.kv_len));
    }
    if let Some(off) = shared(&|other| other.quant == case.quant) {
        return format!("{} is off in this group: {off}", case.quant);
    }
    if let Some(off) = shared(&|other| other.model == case.model) {
        return format!("{} is off in this group: {off}", case.model);
    }
    "this case alone; its neighbours are better".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    #[test]
    fn noise_comes_before_the_neighbours() {
        let mut noisy = case(0.2);
        noisy.noise = Some(0.15);
        let cases = [noisy.clone(), case(0.2), case(0.18)];
        assert!(likely_reason(&noisy, &cases).starts_with("noise: "));
        let shared = likely_reason(&cases[1], &cases);
        assert!(shared.starts_with("all of tinyllama-1.1b is off in decode: +20 %"), "{shared}");
        let cases = [case(0.2), case(-0.01), case(0.01)];
        assert!(likely_reason(&cases[0], &cases).starts_with("this case alone"));
        let mut once = case(0.2);
        once.loads = 1;
        assert!(likely_reason(&once, &cases).contains("one load"));
    }
}
