//! A calibration: what was fitted, how well, and the proof.

use foretoken_spec::{CalibrateReport, DesignStep, FeatureCoefficient, Proof, TermFit};
use serde::Serialize;

use crate::energy::{energy_note, loading_note};
use crate::sheet::cell;
use crate::{Records, Report, Sheet, units};

/// Answer of `calibrate`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Calibrated {
    /// What was measured and fitted.
    pub report: CalibrateReport,
    /// Whether to show what each load bought.
    #[serde(skip)]
    pub explain: bool,
}

impl Report for Calibrated {
    fn sheets(&self) -> Vec<Sheet> {
        let mut sheets = self.report.sheets();
        if self.explain {
            sheets.insert(0, design_sheet(&self.report.design));
        }
        sheets
    }

    fn records(&self) -> Records {
        self.report.records()
    }
}

/// What each load of the design bought.
fn design_sheet(steps: &[DesignStep]) -> Sheet {
    let mut sheet = Sheet::new(
        "design: each load is the one that promises most per second".to_owned(),
        &["mini-model", "prompt@depth", ">seconds", ">expected error", "mostly for"],
    );
    for step in steps {
        sheet.row([
            step.model.clone(),
            step.workloads.join(" "),
            format!("{:.1}", step.seconds),
            format!(
                "{} → {}",
                units::percent(step.expected_error_before),
                units::percent(step.expected_error_after)
            ),
            step.class.clone(),
        ]);
    }
    sheet.note(
        "Expected error: of typical models, from the covariance of the coefficients alone. It \
         compares loads; the error to trust is that on held-out models below."
            .to_owned(),
    );
    sheet
}

impl Report for CalibrateReport {
    fn sheets(&self) -> Vec<Sheet> {
        let mut sheets = vec![fit_sheet(self)];
        if let Some(proof) = &self.proof {
            sheets.push(proof_sheet(proof, self.noise_floor));
        }
        sheets.push(end_sheet(self));
        sheets
    }

    fn records(&self) -> Records {
        let mut records = Records::new(&[
            "class",
            "feature",
            "coefficient",
            "unit",
            "std_error",
            "range_min",
            "range_max",
            "n_observations",
            "residual_mdape",
        ]);
        for form in &self.fit.forms {
            for feature in &form.features {
                records.rows.push(vec![
                    form.class.clone(),
                    feature.feature.clone(),
                    feature.coefficient.to_string(),
                    feature.unit.clone(),
                    cell(feature.std_error),
                    feature.range[0].to_string(),
                    feature.range[1].to_string(),
                    form.n_observations.to_string(),
                    form.residual_mdape.to_string(),
                ]);
            }
        }
        records
    }
}

fn fit_sheet(report: &CalibrateReport) -> Sheet {
    let calibration = &report.calibration;
    let title = format!(
        "calibration {} · {}, {}, {}",
        calibration.id,
        calibration.device,
        units::plural(calibration.threads, "thread"),
        calibration.engine
    );
    let mut sheet = Sheet::new(
        title,
        &["kernel class", "feature", ">coefficient", ">± std. error", ">n", ">residual"],
    );
    let shared = shared(&report.fit.forms);
    for (regime, feature, n) in &shared {
        let class = format!("{n} classes of {regime}");
        let (value, error) = (natural(feature), std_error(feature));
        sheet.row([class, feature.feature.clone(), value, error, String::new(), String::new()]);
    }
    for form in &report.fit.forms {
        let is_shared = |f: &&FeatureCoefficient| {
            shared.iter().any(|(regime, g, _)| *regime == regime_of(form) && is_same(f, g))
        };
        for (index, feature) in form.features.iter().filter(|f| !is_shared(f)).enumerate() {
            sheet.row(coefficient_row(form, feature, index == 0));
        }
    }
    let held_out = &report.fit.held_out;
    let error = |value: Option<f64>| units::or_none(value, units::percent);
    let checked = match held_out.n_groups {
        0 => "not checked on held-out models: too few were measured".to_owned(),
        n => format!(
            "error on held-out models (median, {n} groups): prefill {}, decode {}",
            error(held_out.prefill_mdape),
            error(held_out.decode_mdape),
        ),
    };
    sheet.note(format!(
        "{} rows; {checked}; noise floor {}.",
        report.fit.observations,
        error(report.noise_floor),
    ));
    if let Some(energy) = &report.fit.energy {
        sheet.note(energy_note(energy));
    }
    if let Some(loading) = &report.fit.loading {
        sheet.note(loading_note(loading));
    }
    sheet
}

fn std_error(feature: &FeatureCoefficient) -> String {
    match feature.std_error {
        Some(error) if feature.coefficient > 0.0 => units::percent(error / feature.coefficient),
        _ => units::NONE.into(),
    }
}

/// Classes from which on a coefficient that they share is shown once.
const MANY_CLASSES: usize = 4;

/// Coefficients that many classes of a regime have in common, with how many: an engine that shows
/// whole passes only.
fn shared(forms: &[TermFit]) -> Vec<(&str, &FeatureCoefficient, usize)> {
    let mut found: Vec<(&str, &FeatureCoefficient, usize)> = Vec::new();
    // Classes of an engine that shows its kernels have anchors, and nothing in common but zeros.
    for form in forms.iter().filter(|form| form.anchors.is_empty()) {
        for feature in &form.features {
            let regime = regime_of(form);
            match found.iter_mut().find(|(r, f, _)| *r == regime && is_same(f, feature)) {
                Some((_, _, n)) => *n += 1,
                None => found.push((regime, feature, 1)),
            }
        }
    }
    found.retain(|(_, _, n)| *n >= MANY_CLASSES);
    found
}

fn regime_of(form: &TermFit) -> &str {
    form.class.rsplit('.').next().unwrap_or_default()
}

fn is_same(a: &FeatureCoefficient, b: &FeatureCoefficient) -> bool {
    (&a.feature, a.coefficient, a.std_error) == (&b.feature, b.coefficient, b.std_error)
}

/// One coefficient; the class and its residual stand on its first row only.
fn coefficient_row(form: &TermFit, feature: &FeatureCoefficient, first: bool) -> [String; 6] {
    let once = |text: String| if first { text } else { String::new() };
    [
        once(form.class.clone()),
        feature.feature.clone(),
        natural(feature),
        std_error(feature),
        once(form.n_observations.to_string()),
        once(units::percent(form.residual_mdape)),
    ]
}

/// The coefficient in the unit that people know: a rate for bytes and FLOP, a time for calls.
fn natural(feature: &FeatureCoefficient) -> String {
    let value = feature.coefficient;
    if value == 0.0 {
        return "0 (not needed)".into();
    }
    match feature.unit.as_str() {
        "s/byte" => units::bytes_per_second(1.0 / value),
        "s/flop" => units::flop_per_second(1.0 / value),
        unit => {
            let per = unit.strip_prefix("s/").unwrap_or(unit);
            format!("{}/{per}", units::seconds(value))
        }
    }
}

fn proof_sheet(proof: &Proof, noise_floor: Option<f64>) -> Sheet {
    let title = format!(
        "proof: {} · {}, predicted before it was run ({})",
        proof.model,
        proof.quant,
        units::plural(proof.loads, "fresh load")
    );
    let mut sheet = Sheet::new(
        title,
        &[
            "phase",
            ">prompt",
            ">depth",
            ">predicted ms",
            ">interval",
            ">measured ms",
            ">error",
            "inside",
        ],
    );
    for case in &proof.cases {
        let inside = case.lower_ms <= case.observed_ms && case.observed_ms <= case.upper_ms;
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
    if let Some(noise_floor) = noise_floor {
        sheet.note(format!(
            "Two halves of the same run differ by {}: measuring again would, too.",
            units::percent(noise_floor)
        ));
    }
    sheet
}

fn end_sheet(report: &CalibrateReport) -> Sheet {
    let mut sheet = Sheet::new("", &[]);
    sheet.note(format!("calibration: {}", report.calibration.file));
    sheet.note(format!("measurements: {}", report.dataset));
    for warning in &report.warnings {
        sheet.note(format!("warning: {warning}"));
    }
    sheet.note(format!("took {} s", units::significant(report.seconds, 3)));
    sheet
}
