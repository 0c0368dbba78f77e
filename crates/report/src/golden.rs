//! Golden tests: every answer in every format, on hand-made values.

use crate::testing;
use crate::{Devices, Format, Measured, Models, Predictions, Profiled, Report, render, summarise};

const FORMATS: [(&str, Format); 4] = [
    ("table", Format::Table),
    ("json", Format::Json),
    ("csv", Format::Csv),
    ("markdown", Format::Markdown),
];

fn check(name: &str, report: &impl Report) {
    check_formats(name, report, &FORMATS);
}

fn check_formats(name: &str, report: &impl Report, formats: &[(&str, Format)]) {
    for &(suffix, format) in formats {
        let text = render(report, format).unwrap();
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("{name}-{suffix}"), text);
        });
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(format != Format::Table || widest <= 110, "{name} is {widest} columns wide");
    }
}

#[test]
fn measure() {
    let lines = [
        testing::measurement(0, &[40.1, 40.3, 40.2]),
        testing::measurement(1, &[41.0, 41.2, 41.1]),
    ];
    check("measure", &Measured(summarise(&lines)));
}

#[test]
fn one_prediction_is_a_card() {
    check("predict", &Predictions { predictions: vec![testing::prediction()], explain: false });
}

#[test]
fn several_predictions_are_a_comparison() {
    let mut second = testing::prediction();
    second.quant = "Q8_0".into();
    second.memory.fits = Some(false);
    let predictions = vec![testing::prediction(), second];
    check("predict-several", &Predictions { predictions, explain: false });
}

#[test]
fn calibrate() {
    check("calibrate", &testing::calibrate());
}

#[test]
fn import() {
    check("import", &testing::import());
}

#[test]
fn validate() {
    check("validate", &testing::validation());
}

#[test]
fn inspect() {
    let mut report = testing::inspection();
    // The tensors of two layers say as much as all of them.
    report.tensors.retain(|t| t.tensor.layer.is_none_or(|layer| layer < 2));
    check("inspect", &report);
}

#[test]
fn models() {
    check("models", &Models(testing::models()));
}

#[test]
fn devices() {
    check("devices", &Devices(testing::devices()));
}

#[test]
fn one_device_is_a_card() {
    let device = testing::devices().remove(0);
    let read = [("table", Format::Table), ("markdown", Format::Markdown)];
    check_formats("device", &Devices(vec![device]), &read);
}

#[test]
fn probe() {
    check("probe", &testing::probe());
}

#[test]
fn profile() {
    check("profile", &Profiled(testing::profile()));
}

#[test]
fn a_profile_against_an_older_one() {
    let mut report = testing::profile();
    report.comparison = Some(testing::profile_comparison());
    report.interrupted = true;
    // JSON and CSV are those of the type.
    let read = [("table", Format::Table), ("markdown", Format::Markdown)];
    check_formats("profile-against", &Profiled(report), &read);
}
