//! Measurements for tests.

use foretoken_spec::Measurement;

/// The first lines of a real calibration.
pub(crate) fn fixture() -> Vec<Measurement> {
    let text = include_str!("../../../tests/fixtures/measurements.jsonl");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
