//! Planted joules must come back through the fit, and foretell those of a model that was not run.

use foretoken_predict::{Asked, Predictor, predict};

use super::*;

/// Power above idle while busy, in W; joules per FLOP and per byte; idle power.
const POWER: f64 = 15.0;
const JOULES_PER_FLOP: f64 = 12e-12;
const JOULES_PER_BYTE: f64 = 110e-12;
const IDLE_W: f64 = 8.5;

fn joules(seconds: f64, flop: u64, bytes: u64) -> f64 {
    POWER * seconds + JOULES_PER_FLOP * flop as f64 + JOULES_PER_BYTE * bytes as f64
}

fn metered_engine() -> MockEngine {
    let device: DeviceInfo = MockEngine::new(|_, _| MockPass::default()).device().clone();
    let profile = EngineProfile::candle(&device);
    let reference =
        ReferenceSample { stream_bytes_per_second: 33e9, matmul_flop_per_second: 500e9 };
    MockEngine::new(move |model, pass| {
        let planted = planted_pass(model, &profile, pass);
        let ns = planted.forward_ns + planted.softmax_ns + planted.sampling_ns;
        let cost = pass_cost(model, &profile, pass);
        let spent = joules(ns as f64 * 1e-9, cost.flop(), cost.bytes());
        MockPass { nanojoules: (spent * 1e9).round() as u64, ..planted }
    })
    .with_reference(reference)
    .with_idle_power(IDLE_W)
}

fn metered() -> Vec<Measurement> {
    let budget = Duration::from_secs(150);
    let settings = DesignSettings { budget, session: "s".into(), tool: tool(), seed: 1 };
    let mut keeper = Memory::default();
    measure_design(&mut metered_engine(), &design(), &settings, &[], &mut keeper, &|| false)
        .unwrap();
    let mut lines = keeper.0.into_inner();
    lines.iter_mut().for_each(|line| line.engine.name = "candle".into());
    lines
}

#[test]
fn planted_joules_come_back() {
    let fit = calibration(&metered()).energy.unwrap();
    assert!((fit.idle_w - IDLE_W).abs() < 1e-9);
    let planted = [("seconds", POWER), ("flop", JOULES_PER_FLOP), ("bytes", JOULES_PER_BYTE)];
    for (name, value) in planted {
        let found = fit.features.iter().find(|feature| feature.feature == name).unwrap();
        // Decode steps are taken together, at the cache length in their middle.
        assert!((found.coefficient / value - 1.0).abs() < 0.02, "{name}: {found:?}");
    }
    assert!(fit.held_out_mdape.unwrap() < 0.01, "{fit:?}");
}

#[test]
fn the_energy_of_a_model_that_was_not_run_is_foretold() {
    let calibration = calibration(&metered());
    let predictor = Predictor::new(&calibration).unwrap();
    let model = foretoken_catalog::find("smollm2-1.7b").unwrap().spec(QuantScheme::Q4_K_M);
    let workload = Workload { prompt_tokens: 64, generated_tokens: 17, depth: 0 };
    let asked = Asked {
        batch_size: 1,
        available_bytes: None,
        process_bytes: 0,
        model_argument: "smollm2-1.7b".into(),
    };
    let prediction = predict(&predictor, &model, &workload, &asked).unwrap();
    let energy = prediction.energy_j.unwrap();
    let profile = predictor.engine();
    let planted = |pass: Pass| {
        let cost = pass_cost(&model, profile, pass);
        let time = planted_pass(&model, profile, pass);
        let ns = time.forward_ns + time.softmax_ns + time.sampling_ns;
        joules(ns as f64 * 1e-9, cost.flop(), cost.bytes())
    };
    let prefill = planted(workload.prefill().unwrap());
    let step = planted(workload.decode_midpoint().unwrap());
    assert!((energy.prefill.unwrap().point / prefill - 1.0).abs() < 0.02);
    assert!((energy.per_token.unwrap().point / step - 1.0).abs() < 0.02);
    let whole = prefill + 16.0 * step;
    assert!((energy.estimate.point / whole - 1.0).abs() < 0.02);
    assert!(energy.estimate.lower < whole && whole < energy.estimate.upper);
    assert_eq!(energy.source, "measured: rapl");
    assert!(energy.with_idle.unwrap().point > energy.estimate.point);
}

#[test]
fn without_a_meter_there_is_no_energy() {
    let lines = measured(Duration::from_secs(150));
    assert!(lines.iter().all(|line| line.energy.is_none()));
    assert_eq!(calibration(&lines).energy, None);
}

#[test]
fn what_the_meter_could_not_resolve_is_not_fitted() {
    let mut lines = metered();
    for line in &mut lines {
        line.energy.as_mut().unwrap().shortest_span_ns = u64::MAX;
    }
    assert_eq!(calibration(&lines).energy, None);
}

#[test]
fn planted_loads_come_back() {
    // Every load of the mock takes a millisecond.
    let loading = calibration(&measured(Duration::from_secs(150))).loading.unwrap();
    assert!(loading.warm.n_observations > 3);
    assert_eq!(loading.storage_bytes_per_second, None);
}
