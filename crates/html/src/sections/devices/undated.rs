//! What a user gets who does not tell how old the engine's build is.

use foretoken_report::{Sheet, units};
use foretoken_spec::ValidationReport;

use super::group_label;
use crate::markup::{paragraph, table};

/// Errors from the data sheet alone with the date of the build assumed, beside those with the rows'
/// dates; nothing where the report has none.
pub(super) fn html(report: &ValidationReport) -> String {
    if report.undated.is_empty() {
        return String::new();
    }
    let mut sheet = Sheet::new(
        "",
        &[
            "held out",
            "phase",
            ">cases",
            ">median",
            ">bias",
            ">coverage",
            ">median, date told",
            ">bias, date told",
        ],
    );
    for error in &report.undated {
        sheet.row([
            group_label(error.group.as_deref()),
            error.phase.name().into(),
            error.n.to_string(),
            units::percent(error.mdape),
            units::signed_percent(error.bias),
            units::percent(error.coverage),
            units::percent(error.mdape_dated),
            units::signed_percent(error.bias_dated),
        ]);
    }
    let intro = "Engines grow faster from build to build. The errors above are of predictions that \
        know when the build of each row was made; who does not tell the date gets these.";
    paragraph(intro) + &table("Error where the date of the build is not told", &sheet)
}
