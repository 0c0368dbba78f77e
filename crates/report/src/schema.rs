//! JSON Schemas of everything that is written for other programs.

use foretoken_spec::{
    CalibrateReport, Calibration, CatalogueModel, DeviceHere, DeviceSpec, FitDevicesReport,
    FormComparison, ImportReport, InspectReport, KernelAnchor, LearningCurve, MeasureReport,
    Measurement, Prediction, ProbeReport, ProfileReport, SpeedRow, ValidationReport,
};
use schemars::{JsonSchema, schema_for};
use serde_json::Value;

/// What `predict` prints: one object, or an array where several were asked for.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum PredictAnswer {
    One(Box<Prediction>),
    Several(Vec<Prediction>),
}

/// File name and schema of each output and file kind.
pub fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("calibrate.json", schema_for!(CalibrateReport).to_value()),
        ("calibration.json", schema_for!(Calibration).to_value()),
        ("devices.json", schema_for!(Vec<DeviceSpec>).to_value()),
        ("devices-here.json", schema_for!(Vec<DeviceHere>).to_value()),
        ("fit-devices.json", schema_for!(FitDevicesReport).to_value()),
        ("import.json", schema_for!(ImportReport).to_value()),
        ("inspect.json", schema_for!(InspectReport).to_value()),
        ("kernel-anchor.json", schema_for!(KernelAnchor).to_value()),
        ("measure.json", schema_for!(Vec<MeasureReport>).to_value()),
        ("measurement.json", schema_for!(Measurement).to_value()),
        ("models.json", schema_for!(Vec<CatalogueModel>).to_value()),
        ("predict.json", schema_for!(PredictAnswer).to_value()),
        ("probe.json", schema_for!(ProbeReport).to_value()),
        ("profile.json", schema_for!(ProfileReport).to_value()),
        ("validate-forms.json", schema_for!(FormComparison).to_value()),
        ("validate-learning-curve.json", schema_for!(LearningCurve).to_value()),
        ("speed.json", schema_for!(SpeedRow).to_value()),
        ("validate.json", schema_for!(ValidationReport).to_value()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promised_names_are_in_the_schemas() {
        let promised = [
            ("fit-devices.json", "configurations"),
            ("import.json", "problems"),
            ("speed.json", "tokens_per_second"),
            ("kernel-anchor.json", "op_params"),
            ("measure.json", "kv_len"),
            ("predict.json", "decode_tokens_per_second"),
            ("predict.json", "activation_bytes"),
            ("calibrate.json", "prefill_mdape"),
            ("inspect.json", "file_bytes"),
            ("profile.json", "wall_ms"),
            ("profile.json", "unaccounted_ms"),
            ("profile.json", "kernels"),
            ("profile.json", "overhead"),
            ("profile.json", "tokens"),
            ("validate.json", "within_10pct"),
        ];
        let schemas = schemas();
        for (file, name) in promised {
            let (_, schema) = schemas.iter().find(|(f, _)| *f == file).unwrap();
            assert!(schema.to_string().contains(&format!("\"{name}\"")), "{file} lacks {name}");
        }
    }
}
