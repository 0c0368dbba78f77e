//! Rows of the data that no error is about, by reason.

use foretoken_report::Sheet;
use foretoken_spec::ValidationReport;

use crate::markup::{paragraph, table};

/// The rows that were left out as a table, the most frequent reason first.
pub(super) fn html(report: &ValidationReport) -> String {
    let mut rows: Vec<_> = report.left_out.iter().collect();
    rows.sort_by_key(|left_out| std::cmp::Reverse(left_out.rows));
    let total: u32 = rows.iter().map(|left_out| left_out.rows).sum();
    if total == 0 {
        return paragraph("Every row was judged, or belongs to an engine that the warnings name.");
    }
    let mut sheet = Sheet::new("", &["reason", ">rows"]);
    for left_out in rows {
        sheet.row([left_out.reason.clone(), left_out.rows.to_string()]);
    }
    sheet.row(["all".into(), total.to_string()]);
    let intro = "What is not told, what another clock measured, and what is another kind of work. \
        Of the rest, a device with very many rows is judged on an even choice of them where the \
        committed store is read; engines that no other device has are named among the warnings.";
    paragraph(intro) + &table("Rows left out, by reason", &sheet)
}
