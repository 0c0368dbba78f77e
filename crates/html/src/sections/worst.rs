//! The cases with the largest errors, and what probably lies behind each.

use foretoken_report::{Sheet, units};
use foretoken_spec::{ValidationCase, ValidationReport};

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
            "likely because",
        ],
    );
    for (case, n) in rows {
        let alone = if n > 1 { format!(" (worst of {n})") } else { String::new() };
        sheet.row([
            words::titled(format!("{} {}", case.model, case.quant), case.group.as_deref()),
            format!("{} {}", words::hold_out(case.hold_out), case.held_out),
            format!("{} of {}{alone}", case.phase.name(), words::pass(case.n_tokens, case.kv_len)),
            units::duration_ms(case.predicted_ms),
            units::duration_ms(case.observed_ms),
            units::signed_percent(case.error),
            if words::is_inside(case) { "inside" } else { "missed" }.into(),
            case.reason.clone(),
        ]);
    }
    let intro = "One row per model, quantization and phase of a held-out group, by its largest \
        error. The reason is a guess from the kernels that were observed in the same loads.";
    paragraph(intro) + &table(&format!("Largest of {} errors", report.cases.len()), &sheet)
}

fn is_sibling(a: &ValidationCase, b: &ValidationCase) -> bool {
    a.hold_out == b.hold_out
        && a.group == b.group
        && a.held_out == b.held_out
        && a.model == b.model
        && a.quant == b.quant
        && a.phase == b.phase
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn siblings_share_a_row_of_the_worst_of_them() {
        let mut report = testing::validation();
        report.cases = [0.1, -0.4, 0.2].map(testing::case).to_vec();
        let html = html(&report);
        assert_eq!(html.matches("<th scope=\"row\">").count(), 1, "{html}");
        assert!(html.contains("−40 %") && html.contains("(worst of 3)"), "{html}");
        assert!(html.contains("one kernel is slow"), "{html}");
    }
}
