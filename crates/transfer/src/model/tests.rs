use foretoken_spec::{DeviceKind, DeviceSpec};

use super::*;
use crate::task::Point;

/// A card like an RTX 4090, `scale` times as fast.
fn card(id: &str, scale: f64) -> DeviceSpec {
    DeviceSpec {
        mem_bandwidth_gbps: Some(1000.0 * scale),
        peak_fp32_tflops: Some(80.0 * scale),
        peak_fp16_tflops: Some(320.0 * scale),
        isa: Some("sm_89".into()),
        release_year: Some(2023),
        ..DeviceSpec::named(id, id, DeviceKind::Gpu)
    }
}

fn model(billions: f64) -> ModelFacts {
    ModelFacts {
        name: format!("{billions}b"),
        quant: "Q4_0".into(),
        total_bytes: billions * 0.56e9,
        step_bytes: billions * 0.56e9,
        active_params: billions * 1e9,
        n_layers: 32.0,
        attention_width: 4096.0,
        kv_bytes_per_token: 1.3e5,
        widths: None,
    }
}

fn setup() -> Setup {
    Setup { year: Some(2026.0), ..Setup::new("llama.cpp", DeviceBackend::Cuda) }
}

/// Seconds per token of a device that takes `factor` times what physics allows.
fn seconds(spec: &DeviceSpec, model: &ModelFacts, work: &Work, factor: f64) -> f64 {
    let machine = Machine::new(spec, DeviceBackend::Cuda).unwrap();
    factor * Point::new(&machine, &setup(), model, work, "").floor
}

/// Eight cards whose decode takes 1.5 times the floor, some of them 10 % more or less.
fn planted() -> CrossDevice {
    let mut store = Store::default();
    for i in 0..8_u32 {
        let spec = card(&format!("card-{i}"), 0.3 * 1.3_f64.powi(i as i32));
        store.machines.push(Machine::new(&spec, DeviceBackend::Cuda).unwrap());
        for billions in [1.0, 3.0, 8.0, 14.0] {
            let own = [1.0, 0.9, 1.1, 1.0][i as usize % 4];
            let (model, work) = (model(billions), Work::decode(64.0));
            store.observations.push(Observation {
                machine: i as usize,
                setup: setup(),
                seconds_per_token: seconds(&spec, &model, &work, 1.5 * own),
                model,
                work,
                rounding: 0.0,
                source: "poster".into(),
                rows: 1,
            });
        }
    }
    CrossDevice::fit(&store, vec!["planted".into()], "0").unwrap()
}

#[test]
fn an_unknown_device_gets_the_efficiency_of_the_known_ones() {
    let fitted = planted();
    let spec = card("new", 1.1);
    let answer = fitted.predict(&spec, &setup(), &model(7.0), &Work::decode(64.0)).unwrap();
    let truth = 1e3 * seconds(&spec, &model(7.0), &Work::decode(64.0), 1.5);
    assert!((answer.ms.point / truth - 1.0).abs() < 0.08, "{answer:?} {truth}");
    assert!(answer.ms.lower < truth && truth < answer.ms.upper);
    assert_eq!((answer.tier, answer.observed), (Tier::SpecSheet, 0));
    assert!(answer.nearest[0].id.starts_with("card-"));
    let product = answer.ms.point * answer.tokens_per_second.point;
    assert!((product - 1e3).abs() < 1e-6);
}

#[test]
fn rows_of_the_device_pull_and_narrow() {
    let fitted = planted();
    let spec = card("slow", 1.1);
    let work = Work::decode(64.0);
    let truth = |billions| seconds(&spec, &model(billions), &work, 2.2);
    let mut device = fitted.device(&spec, DeviceBackend::Cuda).unwrap();
    let error = |device: &DevicePredictor<'_>| {
        let answer = device.predict(&setup(), &model(7.0), &work).unwrap();
        (answer.ms.point / (1e3 * truth(7.0)) - 1.0, answer)
    };
    let (blind, before) = error(&device);
    for billions in [1.0, 3.0, 14.0] {
        device.observe(&setup(), &model(billions), &work, truth(billions));
    }
    let (seen, after) = error(&device);
    assert!(blind < -0.2 && seen.abs() < 0.1, "{blind} {seen}");
    let width = |t: &Transfer| (t.ms.upper - t.ms.lower) / t.ms.point;
    assert!(width(&after) < width(&before), "{} {}", width(&after), width(&before));
    assert_eq!((after.tier, after.observed), (Tier::MeasuredRows, 3));
}

#[test]
fn intervals_widen_with_the_distance() {
    let fitted = planted();
    let width = |spec: &DeviceSpec| {
        let answer = fitted.predict(spec, &setup(), &model(7.0), &Work::decode(64.0)).unwrap();
        (answer.ms.upper / answer.ms.lower, answer.nearest[0].distance)
    };
    let (near, near_distance) = width(&card("near", 1.0));
    let far = DeviceSpec { isa: Some("gfx906".into()), ..card("far", 40.0) };
    let (far, far_distance) = width(&far);
    assert!(far > 1.1 * near && far_distance > near_distance, "{near} {far}");
}

#[test]
fn a_device_left_out_is_predicted_without_itself() {
    let fitted = planted();
    let spec = card("card-1", 0.39);
    let machine = Machine::new(&spec, DeviceBackend::Cuda).unwrap();
    assert!(fitted.knows("card-1") && !fitted.knows("card-9"));
    let out = fitted.without(machine);
    assert!(out.known(Phase::Decode).unwrap().iter().all(|o| o.machine != 1));
    let prepared = out.prepare(Phase::Decode).unwrap();
    let answer = out.answer(&prepared, &setup(), &model(8.0), &Work::decode(64.0));
    assert_eq!(answer.observed, 0);
    assert!(answer.nearest.iter().all(|n| n.id != "card-1"));
}

#[test]
fn what_nobody_measured_is_refused() {
    let fitted = planted();
    let other = Setup { engine: "candle".into(), ..setup() };
    let error = fitted.predict(&card("new", 1.0), &other, &model(7.0), &Work::decode(1.0));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("candle") && error.contains("llama.cpp"), "{error}");
    let error = fitted.predict(&card("new", 1.0), &setup(), &model(7.0), &Work::prefill(512, 0));
    assert!(matches!(error, Err(TransferError::Empty(_))));
}

#[test]
fn a_file_gives_back_what_was_written_and_refuses_what_is_damaged() {
    let fitted = planted();
    let text = fitted.to_json().unwrap();
    assert_eq!(CrossDevice::from_json(&text).unwrap(), fitted);
    let older = text.replacen("\"version\": 1", "\"version\": 0", 1);
    assert!(matches!(CrossDevice::from_json(&older), Err(TransferError::Version { found: 0, .. })));
    let damaged = text.replacen("\"seconds_per_token\": ", "\"seconds_per_token\": -", 1);
    assert!(matches!(CrossDevice::from_json(&damaged), Err(TransferError::Damaged(_))));
    assert!(CrossDevice::from_json("{").is_err());
}

#[test]
fn fitting_is_deterministic() {
    assert_eq!(planted().to_json().unwrap(), planted().to_json().unwrap());
}

/// Ten cards measured in 2024 and 2025, a third faster every year; nothing is known of 2026.
fn ageing() -> CrossDevice {
    let mut store = Store::default();
    for i in 0..10_u32 {
        let spec = card(&format!("card-{i}"), 0.3 * 1.25_f64.powi(i as i32));
        store.machines.push(Machine::new(&spec, DeviceBackend::Cuda).unwrap());
        for billions in [1.0, 8.0, 14.0] {
            let year = 2024.0 + f64::from(i % 5) / 4.0;
            let (model, work) = (model(billions), Work::decode(64.0));
            let factor = 2.0 * (-0.33 * (year - 2024.0)).exp();
            store.observations.push(Observation {
                machine: i as usize,
                setup: Setup { year: Some(year), ..setup() },
                seconds_per_token: seconds(&spec, &model, &work, factor),
                model,
                work,
                rounding: 0.0,
                source: "poster".into(),
                rows: 1,
            });
        }
    }
    CrossDevice::fit(&store, vec!["planted".into()], "0").unwrap()
}

#[test]
fn nothing_is_extrapolated_in_time() {
    let fitted = ageing();
    let spec = card("new", 1.1);
    let work = Work::decode(64.0);
    let ask = |year| {
        let setup = Setup { year, ..setup() };
        fitted.predict(&spec, &setup, &model(7.0), &work).unwrap()
    };
    // Newest rows of the devices: 2024, 2024.25 … 2025, two each; three quarters up lies 2024.75.
    let assumed = ask(None);
    let build = assumed.build.unwrap();
    assert!((build.year - 2024.75).abs() < 0.05 && !build.is_told, "{build:?}");
    let truth = 1e3 * seconds(&spec, &model(7.0), &work, 2.0 * (-0.33_f64 * 0.75).exp());
    assert!((assumed.ms.point / truth - 1.0).abs() < 0.08, "{} {truth}", assumed.ms.point);
    let (newest, beyond) = (ask(Some(2025.0)), ask(Some(2026.5)));
    assert_eq!(newest.ms, beyond.ms);
    assert_eq!(beyond.build.unwrap().outside, Some(2026.5));
    assert!(ask(Some(2024.0)).ms.point > 1.1 * newest.ms.point, "older builds are slower");
}
