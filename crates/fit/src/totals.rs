//! Coefficients from whole passes, for engines that show no kernels: one regression over all
//! classes at once.
//!
//! A pass is the sum of its operations, `seconds = Σ coefficient · feature`, so that passes of models
//! of different shapes and tensor types tell the coefficients apart. What single kernels would tell
//! and sums cannot is shared: what a call costs (in llama.cpp every node of the graph ends in the
//! same barrier) and what an element costs are one coefficient for all operations of a regime. Each
//! tensor type keeps its own rate: seconds per byte for one row, per FLOP for many.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_cost::{Feature, KernelClass, OpCost, Regime};
use foretoken_spec::{FeatureCoefficient, OpKind, TermFit};
use foretoken_stats::{bootstrap_std_error, median};

use crate::rows::Case;
use crate::solver::{non_negative_least_squares, relative};

/// What shares one coefficient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Column {
    /// A feature of one kernel class.
    Own(KernelClass, Feature),
    /// A feature of every operation of a regime.
    Shared(Regime, Feature),
}

impl Column {
    /// `None` of a feature that costs nothing: the elements of one row are a few thousand numbers
    /// that lie in a cache, which is far less than a call.
    fn of(op: &OpCost, feature: Feature) -> Option<Self> {
        let class = op.class;
        let is_rate = match class.regime {
            Regime::OneRow => feature == Feature::WeightBytes,
            Regime::ManyRows => feature == Feature::Flop,
        };
        let of_keys = !matches!(feature, Feature::Calls | Feature::Elements);
        let is_attention = class.op == OpKind::Attention && of_keys;
        if is_attention || (class.matmul.is_some() && is_rate) {
            return Some(Self::Own(class, feature));
        }
        let is_element = matches!(feature, Feature::Elements | Feature::InputElements);
        let is_free = class.regime == Regime::OneRow && is_element;
        (!is_free).then_some(Self::Shared(class.regime, feature))
    }
}

/// Whether the cases are of an engine that shows no kernels.
pub(crate) fn shows_passes_only(cases: &[&Case]) -> bool {
    !cases.is_empty() && cases.iter().all(|case| case.rows.is_empty() && !case.whole.is_empty())
}

/// Fits the passes whose operations are all allowed, and describes every class that occurs in them;
/// `None` where no pass with a matmul is left.
pub(crate) fn fit_totals(cases: &[&Case], keep: &dyn Fn(&OpCost) -> bool) -> Option<Vec<TermFit>> {
    let kept: Vec<&Case> = cases.iter().copied().filter(|case| case.is_all(keep)).collect();
    let coefficients = solve(&kept);
    let mut classes: BTreeMap<KernelClass, Vec<(&Case, &OpCost)>> = BTreeMap::new();
    for case in &kept {
        for op in &case.whole {
            classes.entry(op.class).or_default().push((case, op));
        }
    }
    if !classes.keys().any(|class| class.matmul.is_some()) {
        return None;
    }
    Some(classes.values().map(|seen| describe(seen, &coefficients)).collect())
}

/// The coefficient of every column that occurs.
fn solve(cases: &[&Case]) -> BTreeMap<Column, f64> {
    let features = |case: &'_ Case| -> Vec<(Column, f64)> {
        let of_op = |op: &OpCost| {
            let of = |(f, v): &(Feature, f64)| Some((Column::of(op, *f)?, *v));
            op.features.iter().filter_map(of).collect::<Vec<_>>()
        };
        case.whole.iter().flat_map(of_op).collect()
    };
    let columns: Vec<Column> = {
        let all: BTreeSet<Column> =
            cases.iter().flat_map(|case| features(case)).map(|(column, _)| column).collect();
        all.into_iter().collect()
    };
    let row = |case: &&Case| {
        let mut row = vec![0.0; columns.len()];
        for (column, value) in features(case) {
            if let Ok(index) = columns.binary_search(&column) {
                row[index] += value;
            }
        }
        row
    };
    let matrix: Vec<Vec<f64>> = cases.iter().map(row).collect();
    let observed: Vec<f64> = cases.iter().map(|case| case.observation.seconds).collect();
    let (scaled, target) = relative(&matrix, &observed);
    let solution = non_negative_least_squares(&scaled, &target);
    columns.into_iter().zip(solution.coefficients).collect()
}

/// The form that a calibration stores of a class, from the passes that it occurs in.
fn describe(seen: &[(&Case, &OpCost)], coefficients: &BTreeMap<Column, f64>) -> TermFit {
    let (_, first) = seen[0];
    let features = first
        .features
        .iter()
        .enumerate()
        .map(|(index, (feature, _))| {
            let per_call = |op: &OpCost| op.features[index].1 / f64::from(op.calls.max(1));
            let values = seen.iter().map(|(_, op)| per_call(op));
            FeatureCoefficient {
                feature: feature.name().to_owned(),
                unit: feature.coefficient_unit().to_owned(),
                coefficient: coefficient(first, *feature, coefficients),
                std_error: None,
                range: values
                    .fold([f64::INFINITY, 0.0], |[low, high], v| [low.min(v), high.max(v)]),
            }
        })
        .collect();
    let passes: BTreeMap<*const Case, &Case> =
        seen.iter().map(|(case, _)| (std::ptr::from_ref(*case), *case)).collect();
    let residuals: Vec<f64> = passes
        .values()
        .map(|case| (seconds(case, coefficients) / case.observation.seconds - 1.0).abs())
        .collect();
    TermFit {
        class: first.class.key(),
        features,
        n_observations: passes.len() as u32,
        residual_mdape: median(&residuals).unwrap_or(0.0),
        anchors: Vec::new(),
    }
}

fn coefficient(op: &OpCost, feature: Feature, known: &BTreeMap<Column, f64>) -> f64 {
    Column::of(op, feature).and_then(|column| known.get(&column)).copied().unwrap_or(0.0)
}

/// Predicted seconds of a whole pass.
fn seconds(case: &Case, coefficients: &BTreeMap<Column, f64>) -> f64 {
    let of_op = |op: &OpCost| {
        let time =
            |(feature, value): &(Feature, f64)| value * coefficient(op, *feature, coefficients);
        op.features.iter().map(time).sum::<f64>()
    };
    case.whole.iter().map(of_op).sum()
}

/// Adds standard errors by a bootstrap over models (draws, seed): every draw is a regression of its
/// own.
pub(crate) fn add_std_errors(terms: &mut [TermFit], cases: &[&Case], draws: (usize, u64)) {
    let groups: Vec<Vec<&Case>> = {
        let mut by_group: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
        for case in cases {
            by_group.entry(case.group()).or_default().push(case);
        }
        by_group.into_values().collect()
    };
    let columns: Vec<Column> = solve(cases).into_keys().collect();
    let errors = bootstrap_std_error(groups.len(), draws.0, draws.1, |drawn| {
        let cases: Vec<&Case> = drawn.iter().flat_map(|group| &groups[*group]).copied().collect();
        let solved = solve(&cases);
        Some(columns.iter().map(|c| solved.get(c).copied().unwrap_or(0.0)).collect())
    });
    let Some(errors) = errors else { return };
    let ops: BTreeMap<String, &OpCost> =
        cases.iter().flat_map(|case| &case.whole).map(|op| (op.class.key(), op)).collect();
    for term in terms {
        let Some(op) = ops.get(&term.class) else { continue };
        for (found, (feature, _)) in term.features.iter_mut().zip(&op.features) {
            let column = Column::of(op, *feature);
            let index = column.and_then(|column| columns.binary_search(&column).ok());
            found.std_error = index.map(|index| errors[index]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretoken_cost::{EngineProfile, Isa, pass_cost};
    use foretoken_observe::Observation;
    use foretoken_spec::{ModelShape, ModelSource, ModelSpec, Pass, Sampling, TensorType};

    const ENGINE: EngineProfile = EngineProfile::llama_cpp(Isa::Other);

    fn model(hidden: u32, n_layers: u32, tensor_type: TensorType) -> ModelSpec {
        let shape = ModelShape {
            architecture: "llama".into(),
            n_layers,
            hidden_size: hidden,
            n_heads: hidden / 64,
            // Query heads per key-value head differ, as in the mini-models.
            n_kv_heads: if hidden == 1024 { 16 } else { hidden / 256 },
            head_dim: 64,
            intermediate_size: 3 * hidden,
            vocab_size: 32_000,
            context_length: 4096,
            tied_embeddings: false,
            rope_freqs: false,
            rope_freq_base: 10_000.0,
            rms_norm_eps: 1e-5,
            details: foretoken_spec::ShapeDetails::default(),
        };
        let name = format!("m-{hidden}-{n_layers}-{tensor_type:?}");
        ModelSpec::from_shape(&name, &name, "mixed", ModelSource::Mini, shape, |role, _| {
            if role.is_vector() { TensorType::F32 } else { tensor_type }
        })
    }

    /// Seconds per byte of one row, per FLOP of many rows, per call.
    fn planted(op: &OpCost) -> f64 {
        let rate = match (op.class.matmul, op.class.regime) {
            (Some((TensorType::Q8_0, _)), Regime::OneRow) => (Feature::WeightBytes, 1e-10),
            (Some(_), Regime::OneRow) => (Feature::WeightBytes, 2e-10),
            (Some((TensorType::Q8_0, _)), Regime::ManyRows) => (Feature::Flop, 1e-12),
            (Some(_), Regime::ManyRows) => (Feature::Flop, 3e-12),
            (None, _) if op.class.op == OpKind::Attention => (Feature::KvElements, 5e-10),
            (None, _) => (Feature::Elements, 0.0),
        };
        let features = op.features.iter();
        let of = |(feature, value): &(Feature, f64)| match *feature {
            Feature::Calls => 4e-6 * value,
            feature if feature == rate.0 => rate.1 * value,
            _ => 0.0,
        };
        features.map(of).sum()
    }

    fn case(model: ModelSpec, pass: Pass) -> Case {
        let whole = pass_cost(&model, &ENGINE, pass).ops;
        let seconds = whole.iter().map(planted).sum();
        let observation = Observation {
            model: model.record(),
            phase: pass.phase(),
            pass,
            prompt_tokens: 0,
            generated_tokens: 0,
            depth: 0,
            seconds,
            sampling: Sampling::Greedy,
            softmax_seconds: 0.0,
            sampling_seconds: 0.0,
            load_medians: vec![seconds],
            noise: None,
            n_excluded: 0,
            n_contended_loads: 0,
            kernel_pass: pass,
            kernels: Vec::new(),
        };
        Case { observation, model, rows: Vec::new(), whole }
    }

    fn cases() -> Vec<Case> {
        let models = [
            model(512, 4, TensorType::Q8_0),
            model(1024, 3, TensorType::Q8_0),
            model(1280, 9, TensorType::Q8_0),
            model(512, 9, TensorType::Q4_K),
            model(1024, 5, TensorType::Q4_K),
            model(1280, 3, TensorType::Q4_K),
        ];
        let passes = [(1, 8), (1, 1024), (32, 0), (128, 0), (512, 0), (128, 1024)];
        let of = |model: &ModelSpec| {
            passes.map(|(n_tokens, kv_len)| case(model.clone(), Pass { n_tokens, kv_len }))
        };
        models.iter().flat_map(of).collect()
    }

    #[test]
    fn rates_of_every_type_are_told_apart_by_sums_alone() {
        let cases = cases();
        let all: Vec<&Case> = cases.iter().collect();
        assert!(shows_passes_only(&all));
        let terms = fit_totals(&all, &|_| true).unwrap();
        let coefficient = |class: &str, feature: &str| {
            let term = terms.iter().find(|term| term.class == class).unwrap();
            term.features.iter().find(|f| f.feature == feature).unwrap().coefficient
        };
        for (class, feature, expected) in [
            ("matmul.q8_0.row_dot.one_row", "weight_bytes", 1e-10),
            ("matmul.q4_k.row_dot.one_row", "weight_bytes", 2e-10),
            ("matmul.q8_0.row_dot.many_rows", "flop", 1e-12),
            ("matmul.q4_k.row_dot.many_rows", "flop", 3e-12),
            ("rms_norm.one_row", "calls", 4e-6),
            ("attention.flash.one_row", "kv_elements", 5e-10),
        ] {
            let found = coefficient(class, feature);
            assert!((found / expected - 1.0).abs() < 0.02, "{class} {feature}: {found}");
        }
        assert!(terms.iter().all(|term| term.residual_mdape < 1e-3));
    }

    #[test]
    fn passes_with_an_operation_that_is_refused_are_not_seen() {
        let cases = cases();
        let all: Vec<&Case> = cases.iter().collect();
        let no_q8 = |op: &OpCost| !matches!(op.class.matmul, Some((TensorType::Q8_0, _)));
        let terms = fit_totals(&all, &no_q8).unwrap();
        assert!(terms.iter().all(|term| !term.class.contains("q8_0")));
        assert!(terms.iter().any(|term| term.class.contains("q4_k")));
        assert!(fit_totals(&all, &|op| op.class.matmul.is_none()).is_none());
    }

    #[test]
    fn errors_come_from_drawing_models() {
        let cases = cases();
        let all: Vec<&Case> = cases.iter().collect();
        let mut terms = fit_totals(&all, &|_| true).unwrap();
        add_std_errors(&mut terms, &all, (40, 1));
        let rate = terms.iter().find(|t| t.class == "matmul.q8_0.row_dot.one_row").unwrap();
        let bytes = rate.features.iter().find(|f| f.feature == "weight_bytes").unwrap();
        assert!(bytes.std_error.unwrap() > 0.0);
    }
}
