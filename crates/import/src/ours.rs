//! Foretoken's own measurements as rows of the store, beside everyone else's.

use foretoken_spec::{
    Backend, Measurement, ModelSource, PassSample, SpeedKey, SpeedPhase, SpeedRow,
};
use foretoken_stats::median;

use crate::names::quant_name;

/// The speeds of one load: prefill and decode, each the median of its passes that the scheduler
/// left alone. Loads stay apart; mini-models are listed and not used.
pub fn speeds_of(measurement: &Measurement) -> Vec<SpeedRow> {
    let workload = measurement.workload;
    let mut rows = Vec::new();
    if let Some(seconds) = typical_seconds(&measurement.prefill) {
        let speed = f64::from(workload.prompt_tokens) / seconds;
        let mut row = row(measurement, SpeedPhase::Prefill, speed);
        row.n_prompt = Some(workload.prompt_tokens);
        row.n_gen = Some(0);
        row.n_depth = Some(workload.depth);
        rows.push(row);
    }
    if let Some(seconds) = typical_seconds(&measurement.decode) {
        let mut row = row(measurement, SpeedPhase::Decode, 1.0 / seconds);
        row.n_prompt = Some(0);
        row.n_gen = u32::try_from(measurement.decode.len()).ok();
        // The prompt is in the cache when the first token is generated.
        row.n_depth = Some(workload.depth.saturating_add(workload.prompt_tokens));
        rows.push(row);
    }
    rows.iter_mut().for_each(SpeedRow::derive);
    rows
}

fn typical_seconds(samples: &[PassSample]) -> Option<f64> {
    let seconds = |sample: &PassSample| sample.forward_ns as f64 / 1e9;
    let calm: Vec<f64> = samples.iter().filter(|s| !s.preempted).map(seconds).collect();
    let all = || samples.iter().map(seconds).collect::<Vec<f64>>();
    let times = if calm.is_empty() { all() } else { calm };
    median(&times).filter(|seconds| *seconds > 0.0)
}

fn row(measurement: &Measurement, phase: SpeedPhase, speed: f64) -> SpeedRow {
    let model = &measurement.model;
    let backend = measurement.device.backend;
    let key = SpeedKey {
        runtime: &measurement.engine.name,
        device_id: &measurement.device.id,
        backend: &backend.to_string(),
        model: &model.name,
        quant: &quant_name(&model.quant),
    };
    let mut row = SpeedRow::new(key, phase, speed);
    row.source_date = measurement.time.get(..10).map(str::to_owned);
    row.runtime_version = Some(measurement.engine.version.clone());
    row.device_kind = (backend == Backend::Cpu).then(|| "cpu".to_owned());
    row.threads = Some(measurement.threads);
    row.arch = Some(model.shape.architecture.clone());
    row.model_params = Some(model.parameters);
    row.model_bytes = Some(model.weight_bytes);
    row.params_b = Some(model.parameters as f64 / 1e9);
    row.model_file_gib = Some(model.weight_bytes as f64 / f64::from(1 << 30));
    row.notes = Some(format!("{}, load {}", measurement.session, measurement.load));
    if matches!(model.source, ModelSource::Mini) {
        row.excluded = Some("a mini-model of a calibration, of mixed types".to_owned());
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of the committed measurements of a real run.
    fn measurement() -> Measurement {
        let text = include_str!("../../../tests/fixtures/measurements.jsonl");
        serde_json::from_str(text.lines().next().unwrap()).unwrap()
    }

    #[test]
    fn a_load_becomes_a_row_per_phase_at_its_median() {
        let mut measurement = measurement();
        let sample = measurement.decode[0];
        let ms =
            |ms: u64, preempted| PassSample { forward_ns: ms * 1_000_000, preempted, ..sample };
        measurement.decode = vec![ms(20, false), ms(10, false), ms(40, false), ms(900, true)];
        measurement.workload.depth = 100;
        measurement.workload.prompt_tokens = 28;
        let rows = speeds_of(&measurement);
        let decode = rows.iter().find(|row| row.phase == SpeedPhase::Decode).unwrap();
        // The median of 10, 20 and 40 ms; 4 steps behind 128 tokens.
        assert_eq!((decode.ms, decode.kv_len), (Some(20.0), Some(130.0)));
        assert_eq!((decode.runtime.as_str(), decode.backend.as_str()), ("candle", "cpu"));
        let prefill = rows.iter().find(|row| row.phase == SpeedPhase::Prefill).unwrap();
        assert_eq!(prefill.n_prompt, Some(28));
        measurement.model.source = ModelSource::Mini;
        assert!(speeds_of(&measurement).iter().all(|row| !row.is_usable()));
        measurement.decode.clear();
        assert_eq!(speeds_of(&measurement).len(), 1);
    }
}
