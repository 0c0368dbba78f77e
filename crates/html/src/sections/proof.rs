//! The proof of a calibration: a model predicted before it was run.

use foretoken_report::{Sheet, units};
use foretoken_spec::{Proof, ProofCase};

use super::scatter::{Pair, keys, plot};
use crate::markup::{figures, legend, paragraph, table};
use crate::plot::{Plot, PlotError};
use crate::words;

/// One plot per phase and all cases as a table.
///
/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn html(proof: Option<&Proof>) -> Result<String, PlotError> {
    let Some(proof) = proof else {
        return Ok(paragraph("No model was run to prove this calibration."));
    };
    let phases = words::phases(proof.cases.iter().map(|case| case.phase));
    let plots: Vec<Plot> = phases
        .iter()
        .map(|phase| {
            let cases = proof.cases.iter().filter(|case| case.phase == *phase);
            let pairs: Vec<Pair> = cases.map(pair).collect();
            plot(format!("{} of {} {}", phase.name(), proof.model, proof.quant), *phase, &pairs)
        })
        .collect();
    let intro = format!(
        "{} {} is no part of the fit. It was predicted, then run with {}.",
        proof.model,
        proof.quant,
        words::count(proof.loads as usize, "fresh load")
    );
    Ok(paragraph(&intro)
        + &legend(&keys(&phases))
        + &figures("proof", &plots)?
        + &table("Proof", &sheet(proof)))
}

fn pair(case: &ProofCase) -> Pair {
    Pair {
        observed_ms: case.observed_ms,
        predicted_ms: case.predicted_ms,
        interval_ms: (case.lower_ms, case.upper_ms),
        tip: format!(
            "{}, prompt {}, depth {}: predicted {} ({} – {}), observed {}, {}",
            case.phase.name(),
            case.prompt_tokens,
            case.kv_len,
            units::duration_ms(case.predicted_ms),
            units::ms(case.lower_ms),
            units::ms(case.upper_ms),
            units::duration_ms(case.observed_ms),
            units::signed_percent(case.error)
        ),
    }
}

fn sheet(proof: &Proof) -> Sheet {
    let mut sheet = Sheet::new(
        "",
        &[
            "phase",
            ">prompt",
            ">depth",
            ">predicted ms",
            ">interval",
            ">observed ms",
            ">error",
            "inside",
        ],
    );
    for case in &proof.cases {
        let inside = (case.lower_ms..=case.upper_ms).contains(&case.observed_ms);
        sheet.row([
            case.phase.name().into(),
            case.prompt_tokens.to_string(),
            case.kv_len.to_string(),
            units::ms(case.predicted_ms),
            format!("{} – {}", units::ms(case.lower_ms), units::ms(case.upper_ms)),
            units::ms(case.observed_ms),
            units::signed_percent(case.error),
            if inside { "yes" } else { "no" }.into(),
        ]);
    }
    sheet
}
