use foretoken_spec::{DeviceKind, DeviceSpec, Tier};

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

/// Effects that nothing else has, so that whoever uses them shows it.
fn marked(fitted: Fitted, noise: f64) -> Fitted {
    Fitted { effects: Effects { noise, ..fitted.effects }, ..fitted }
}

#[test]
fn a_device_left_out_is_judged_by_what_was_chosen_without_it_and_its_twins() {
    let mut fitted = planted();
    let own = fitted.domains[0].fitted;
    let (first, second) = (marked(own, 0.0123), marked(own, 0.0456));
    let ids = |list: &[&str]| list.iter().map(|id| (*id).to_owned()).collect::<Vec<String>>();
    fitted.domains[0].folds = vec![
        Fold { devices: ids(&["card-1", "card-2"]), fitted: first },
        Fold { devices: ids(&["card-0", "card-5"]), fitted: second },
    ];
    let used = |spec: &DeviceSpec, is_held_out: bool| {
        let machine = Machine::new(spec, DeviceBackend::Cuda).unwrap();
        let out = if is_held_out { fitted.without(machine) } else { fitted.predictor(machine) };
        (out.prepare(Phase::Decode).unwrap().fitted, out.known(Phase::Decode).unwrap())
    };
    let scale = |i: i32| 0.3 * 1.3_f64.powi(i);
    assert_eq!(used(&card("card-1", scale(1)), true).0, first);
    assert_eq!(used(&card("card-5", scale(5)), true).0, second);
    // In no fold: chosen on all devices. Not held out: too.
    assert_eq!(used(&card("card-7", scale(7)), true).0, own);
    assert_eq!(used(&card("card-1", scale(1)), false).0, own);
    // The same card under another name: the fold of its twin, and no row of it.
    let (twin, known) = used(&card("card-5-oc", 1.05 * scale(5)), true);
    assert_eq!(twin, second);
    assert!(!known.is_empty() && known.iter().all(|o| o.machine != 5));
}

#[test]
fn bins_of_one_die_are_left_out_and_put_into_folds_together() {
    // Two cards whose figures differ by half, of one die.
    let of_die = |id: &str, scale| DeviceSpec { die: Some("GP1".into()), ..card(id, scale) };
    let specs =
        [of_die("large", 1.5), of_die("small", 1.0), card("other", 0.5), card("third", 3.0)];
    let mut store = Store::default();
    for (i, spec) in specs.iter().enumerate() {
        store.machines.push(Machine::new(spec, DeviceBackend::Cuda).unwrap());
        for billions in [1.0, 3.0] {
            let (model, work) = (model(billions), Work::decode(64.0));
            store.observations.push(Observation {
                machine: i,
                setup: setup(),
                seconds_per_token: seconds(spec, &model, &work, 1.5),
                model,
                work,
                rounding: 0.0,
                source: "poster".into(),
                rows: 1,
            });
        }
    }
    let fitted = CrossDevice::fit(&store, Vec::new(), "0").unwrap();
    let domain = &fitted.domains[0];
    for fold in &domain.folds {
        let has = |id: &str| fold.devices.iter().any(|device| device == id);
        assert_eq!(has("large"), has("small"), "{:?}", fold.devices);
    }
    let n: usize = domain.folds.iter().map(|fold| fold.devices.len()).sum();
    assert_eq!(n, 4, "each in one fold");
    let out = fitted.without(store.machines[0].clone());
    let known: BTreeSet<usize> =
        out.known(Phase::Decode).unwrap().iter().map(|o| o.machine).collect();
    assert_eq!(known, BTreeSet::from([2, 3]));
    assert_eq!(out.interval_groups(Phase::Decode), 3);
    assert_eq!(out.interval_groups(Phase::Prefill), 0);
}

#[test]
fn intervals_are_scaled_by_how_many_rows_are_known() {
    let mut fitted = planted();
    let own = &mut fitted.domains[0].fitted;
    (own.interval_scale, own.interval_scale_observed) = (1.0, 3.0);
    assert_eq!(
        [0, 1, 4, 9].map(|n| Fitted { interval_scale_one_row: None, ..*own }.scale(n)),
        [1.0, 3.0, 3.0, own.interval_scale_five_rows.unwrap()]
    );
    (own.interval_scale_one_row, own.interval_scale_five_rows) = (Some(2.0), Some(5.0));
    assert_eq!([0, 1, 2, 3, 4, 5, 50].map(|n| own.scale(n)), [1.0, 2.0, 2.0, 3.0, 3.0, 5.0, 5.0]);
    // A file of an earlier version has one factor for all.
    let mut old = serde_json::to_value(&fitted).unwrap();
    for name in ["interval_scale_one_row", "interval_scale_five_rows"] {
        old["domains"][0]["fitted"].as_object_mut().unwrap().remove(name).unwrap();
    }
    let old = CrossDevice::from_json(&old.to_string()).unwrap();
    assert_eq!([0, 1, 3, 5].map(|n| old.domains[0].fitted.scale(n)), [1.0, 3.0, 3.0, 3.0]);
}
