//! Prepared models answer what the predictor answers, over the whole catalogue.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test ends at the first failure")]

use std::path::Path;
use std::sync::OnceLock;

use foretoken_catalog::presets;
use foretoken_predict::{Asked, PredictError, Predictor, PreparedModel, predict};
use foretoken_spec::{
    Calibration, Estimate, FeatureCoefficient, ModelSpec, Pass, QuantScheme, TensorType, TermFit,
    Workload,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};

fn committed() -> &'static Calibration {
    static READ: OnceLock<Calibration> = OnceLock::new();
    READ.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let path = root.join("calibration/amd-epyc-zen5-2c-candle-2t.json");
        #[allow(clippy::disallowed_methods, reason = "the calibration is a file")]
        let text = std::fs::read_to_string(path).unwrap();
        serde_json::from_str(&text).unwrap()
    })
}

/// What the committed calibration is turned into, so that every branch is met.
#[derive(Debug, Clone)]
struct Variant {
    engine: &'static str,
    /// Instructions of AMX, whose kernel starts at 32 rows.
    amx: bool,
    /// Whether attention without score matrices was measured.
    flash: bool,
    /// Factor on the ends of the measured ranges.
    range_scale: f64,
    /// One term in this many is missing; 0 for none.
    gap: usize,
    offset: usize,
}

fn variants() -> impl Strategy<Value = Variant> {
    (
        select(vec!["candle", "llama.cpp"]),
        any::<bool>(),
        any::<bool>(),
        select(vec![1e-6, 1e-2, 1.0, 1.0, 1e2]),
        select(vec![0, 0, 3, 6]),
        0..6usize,
    )
        .prop_map(|(engine, amx, flash, range_scale, gap, offset)| Variant {
            engine,
            amx,
            flash,
            range_scale,
            gap,
            offset,
        })
}

impl Variant {
    fn calibration(&self) -> Calibration {
        let mut calibration = committed().clone();
        calibration.engine.name = self.engine.into();
        if self.amx {
            calibration.device.isa.push("amx-int8".into());
        }
        let plant = |feature: &str, coefficient: f64, most: f64| FeatureCoefficient {
            feature: feature.into(),
            unit: String::new(),
            coefficient,
            std_error: None,
            range: [most / 1e3, most],
        };
        if self.flash {
            for key in ["attention.flash.one_row", "attention.flash.many_rows"] {
                calibration.terms.push(TermFit {
                    class: key.into(),
                    features: vec![
                        plant("calls", 2e-6, 1.0),
                        plant("elements", 3e-10, 1e7),
                        plant("flop", 4e-11, 1e9),
                        plant("kv_elements", 1e-10, 1e7),
                    ],
                    n_observations: 9,
                    residual_mdape: 0.0,
                    anchors: vec![],
                });
            }
        }
        for feature in calibration.terms.iter_mut().flat_map(|term| &mut term.features) {
            feature.range = feature.range.map(|end| end * self.range_scale);
        }
        let mut index = self.offset;
        calibration.terms.retain(|_| {
            index += 1;
            self.gap == 0 || !index.is_multiple_of(self.gap)
        });
        calibration
    }
}

/// A model of the catalogue as a scheme stores it, or with every matrix in a type of its own.
fn models() -> impl Strategy<Value = ModelSpec> {
    let mixed = proptest::option::weighted(0.3, any::<[Index; 7]>());
    (any::<Index>(), select(QuantScheme::ALL), mixed).prop_map(|(preset, scheme, mixed)| {
        let mut model = preset.get(presets()).spec(scheme);
        if let Some(types) = mixed {
            let matrices = model.tensors.iter_mut().filter(|t| !t.role.is_kept_f32());
            for (tensor, index) in matrices.zip(types.iter().cycle()) {
                tensor.tensor_type = *index.get(TensorType::ALL);
            }
        }
        model
    })
}

fn lengths() -> impl Strategy<Value = u32> {
    prop_oneof![Just(1), 2..40u32, 40..3000u32, 3000..200_000u32]
}

fn depths() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 1..600u32, 600..9000u32, 9000..1_000_000u32]
}

fn batches() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(1), 1 => 2..40u32]
}

fn assert_equal(name: &str, ours: Estimate, theirs: Estimate) {
    assert_eq!(ours.level, theirs.level);
    for (ours, theirs) in
        [(ours.point, theirs.point), (ours.lower, theirs.lower), (ours.upper, theirs.upper)]
    {
        let error = (ours - theirs).abs();
        assert!(error <= 1e-12 * theirs.abs(), "{name}: {ours} instead of {theirs}");
    }
}

fn assert_equal_options(name: &str, ours: Option<Estimate>, theirs: Option<Estimate>) {
    assert_eq!(ours.is_some(), theirs.is_some(), "{name}");
    if let (Some(ours), Some(theirs)) = (ours, theirs) {
        assert_equal(name, ours, theirs);
    }
}

fn check_pass(predictor: &Predictor<'_>, model: &ModelSpec, pass: Pass, batch: u32) {
    let theirs = predictor.batch_pass(model, pass, batch);
    let Ok(prepared) = PreparedModel::new(predictor, model, batch) else {
        assert!(predictor.sampling(model).is_err());
        return;
    };
    match (prepared.pass(pass), theirs) {
        (Ok(ours), Ok(theirs)) => {
            assert_equal("pass", ours.estimate, theirs.estimate);
            assert_eq!(ours.tier, theirs.tier);
            assert_eq!(ours.extrapolates, !theirs.extrapolation.is_empty());
        }
        (Err(PredictError::NoAnchor { .. }), Err(PredictError::NoAnchor { .. })) => {}
        (ours, theirs) => panic!("{ours:?} instead of {theirs:?}"),
    }
}

fn check_request(predictor: &Predictor<'_>, model: &ModelSpec, workload: &Workload, batch: u32) {
    let asked = Asked {
        batch_size: batch,
        available_bytes: None,
        process_bytes: 0,
        model_argument: String::new(),
    };
    let ours = PreparedModel::new(predictor, model, batch).and_then(|it| it.request(workload));
    match (ours, predict(predictor, model, workload, &asked)) {
        (Ok(ours), Ok(theirs)) => {
            assert_equal_options("prefill", ours.prefill_ms, theirs.prefill_ms);
            assert_equal_options("decode", ours.decode_ms, theirs.decode_ms);
            assert_equal_options("ttft", ours.ttft_ms, theirs.ttft_ms);
            assert_equal_options("tpot", ours.tpot_ms, theirs.tpot_ms);
            assert_equal_options("e2e", ours.e2e_ms, theirs.e2e_ms);
            assert_eq!(ours.tier, theirs.basis.tier);
            assert_eq!(ours.extrapolates, !theirs.basis.extrapolation.is_empty());
        }
        (Err(PredictError::NoAnchor { .. }), Err(PredictError::NoAnchor { .. })) => {}
        (ours, theirs) => panic!("{ours:?} instead of {theirs:?}"),
    }
}

#[test]
fn every_model_and_scheme_of_the_catalogue_is_as_predicted_one_by_one() {
    let predictor = Predictor::new(committed()).unwrap();
    let passes = [(1, 0), (1, 700), (2, 0), (33, 64), (512, 0), (4096, 100_000)]
        .map(|(n_tokens, kv_len)| Pass { n_tokens, kv_len });
    for preset in presets() {
        for (index, &scheme) in QuantScheme::ALL.iter().enumerate() {
            let model = preset.spec(scheme);
            check_pass(&predictor, &model, passes[index % passes.len()], 1);
            let workload = Workload::new(100 + index as u32, 64, 10 * index as u32).unwrap();
            check_request(&predictor, &model, &workload, 1);
        }
    }
}

#[test]
fn tokens_first_and_depths_later_are_the_same_passes() {
    let predictor = Predictor::new(committed()).unwrap();
    let model = foretoken_catalog::find("qwen3-0.6b").unwrap().spec(QuantScheme::Q4_K_M);
    let prepared = PreparedModel::new(&predictor, &model, 1).unwrap();
    for n_tokens in [1, 128] {
        let tokens = prepared.tokens(n_tokens).unwrap();
        for kv_len in [0, 1, 4096] {
            assert_eq!(tokens.at(kv_len), prepared.pass(Pass { n_tokens, kv_len }));
        }
        let workload = Workload::new(n_tokens, 32, 256).unwrap();
        assert_eq!(tokens.request(32, 256), prepared.request(&workload));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_prepared_pass_is_the_pass(
        variant in variants(),
        model in models(),
        (n_tokens, kv_len, batch) in (lengths(), depths(), batches()),
    ) {
        let calibration = variant.calibration();
        let predictor = Predictor::new(&calibration).unwrap();
        check_pass(&predictor, &model, Pass { n_tokens, kv_len }, batch);
    }

    #[test]
    fn a_prepared_request_is_the_request(
        variant in variants(),
        model in models(),
        (prompt, generated, depth, batch) in (0..3000u32, 0..400u32, depths(), batches()),
    ) {
        let calibration = variant.calibration();
        let predictor = Predictor::new(&calibration).unwrap();
        if let Ok(workload) = Workload::new(prompt, generated, depth) {
            check_request(&predictor, &model, &workload, batch);
        }
    }
}
