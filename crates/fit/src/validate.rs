//! Group-wise validation: every group is predicted by a fit that has not seen it.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_cost::EngineProfile;
use foretoken_observe::observations;
use foretoken_predict::Predictor;
use foretoken_spec::{
    BaselineError, Calibration, GroupError, HoldOut, Measurement, ModelSpec, Phase, SCHEMA_VERSION,
    TensorRole, TensorType, ToolInfo, ValidationCase, ValidationReport,
};
use foretoken_stats::{ErrorInput, summarise};

use crate::baselines::Baselines;
use crate::calibrate::{FitInput, ceilings, empty, fit_cases, require_known_engine, setup};
use crate::rows::{Case, Row, cases};
use crate::{FitError, INTERVAL_LEVEL};

/// Holds out each group of each kind in turn, refits without it, and predicts it.
///
/// Lines of different devices, engines or thread counts are validated apart and reported
/// together. Catalogue and file models are the ones held out by model and family; the synthetic
/// mini-models of a calibration stay in the fit, where there is any other model.
///
/// # Errors
/// No measurements, no kernel times, or nothing to hold out.
pub fn validate(
    measurements: &[Measurement],
    hold_outs: &[HoldOut],
    data: Vec<String>,
    tool: &ToolInfo,
) -> Result<ValidationReport, FitError> {
    if measurements.is_empty() {
        return Err(FitError::Empty);
    }
    if hold_outs.contains(&HoldOut::Device) {
        return Err(FitError::HoldOutDevice);
    }
    let mut by_setup: BTreeMap<String, Vec<Measurement>> = BTreeMap::new();
    for m in measurements {
        require_known_engine(m)?;
        by_setup.entry(setup(m)).or_default().push(m.clone());
    }
    let mut found = Vec::new();
    let mut groups = Vec::new();
    let mut warnings = Vec::new();
    for (name, lines) in &by_setup {
        let group = (by_setup.len() > 1).then(|| name.clone());
        let bench = Bench::new(lines, tool);
        for &hold_out in hold_outs {
            let cases = bench.hold_out(hold_out, &mut warnings);
            for phase in [Phase::Prefill, Phase::Decode] {
                groups.extend(group_error(hold_out, group.clone(), phase, &cases));
            }
            found.extend(cases);
        }
    }
    for &hold_out in hold_outs {
        if !groups.iter().any(|group| group.hold_out == hold_out) {
            return Err(FitError::NothingToHoldOut(hold_out.name()));
        }
    }
    Ok(ValidationReport {
        schema_version: SCHEMA_VERSION,
        data,
        device: by_setup.keys().cloned().collect::<Vec<_>>().join(", "),
        groups,
        cases: found,
        warnings,
    })
}

/// The cases of one device, engine and thread count.
struct Bench {
    cases: Vec<Case>,
    engine: EngineProfile,
    header: Calibration,
}

impl Bench {
    fn new(lines: &[Measurement], tool: &ToolInfo) -> Self {
        let first = &lines[0];
        let engine = EngineProfile::candle(&first.device);
        let cases = cases(observations(lines), &engine);
        let header = empty(first, FitInput::unsaved(tool.clone()), ceilings(lines, &cases));
        Self { cases, engine, header }
    }

    fn hold_out(&self, hold_out: HoldOut, warnings: &mut Vec<String>) -> Vec<ValidationCase> {
        let has_others = self.cases.iter().any(|case| !case.is_mini());
        let is_tested = |case: &Case| !has_others || !case.is_mini();
        let groups: BTreeSet<String> = self
            .cases
            .iter()
            .filter(|case| is_tested(case))
            .map(|case| group_of(hold_out, case))
            .collect();
        let mut found = Vec::new();
        for group in groups {
            match self.hold_out_group(hold_out, &group, &is_tested, warnings) {
                Ok(cases) => found.extend(cases),
                Err(error) => {
                    warnings.push(format!("without {} `{group}`: {error}", hold_out.name()));
                }
            }
        }
        found
    }

    fn hold_out_group(
        &self,
        hold_out: HoldOut,
        group: &str,
        is_tested: &dyn Fn(&Case) -> bool,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<ValidationCase>, FitError> {
        let (test, rest): (Vec<&Case>, Vec<&Case>) =
            self.cases.iter().partition(|case| group_of(hold_out, case) == group);
        let types: BTreeSet<TensorType> = match hold_out {
            HoldOut::Quant => test.iter().filter_map(|case| dominant_type(&case.model)).collect(),
            _ => BTreeSet::new(),
        };
        let is_seen = |row: &Row| !is_of_types(row, &types);
        let mut calibration = self.header.clone();
        fit_cases(&mut calibration, &rest, &is_seen)?;
        let predictor = Predictor::new(&calibration)?;
        // Mini-models would only mislead the naive methods: they learn from whole models.
        let train: Vec<&Case> = rest
            .iter()
            .filter(|case| case.rows.iter().all(is_seen) && is_tested(case))
            .copied()
            .collect();
        let baselines = Baselines::new(&self.engine, self.header.ceilings, &train);
        let mut found = Vec::new();
        for case in test.into_iter().filter(|case| is_tested(case)) {
            match predict_case(hold_out, group, case, &predictor, &baselines) {
                Ok(case) => found.push(case),
                Err(error) => warnings.push(format!(
                    "{} {}, held out by {}, could not be predicted: {error}",
                    case.model.name,
                    case.model.quant,
                    hold_out.name()
                )),
            }
        }
        Ok(found)
    }
}

/// Whether a row belongs to one of the held-out tensor types; all floating-point types share a
/// kernel, and what runs between such kernels goes with them.
fn is_of_types(row: &Row, types: &BTreeSet<TensorType>) -> bool {
    let float = types.iter().any(|t| t.is_float());
    match row.class.matmul {
        Some((t, _)) => types.contains(&t) || (float && t.is_float()),
        None => float && row.class.beside_gemm,
    }
}

fn predict_case(
    hold_out: HoldOut,
    group: &str,
    case: &Case,
    predictor: &Predictor<'_>,
    baselines: &Baselines<'_>,
) -> Result<ValidationCase, FitError> {
    let observed = &case.observation;
    let predicted = predictor.pass(&case.model, observed.pass)?;
    let interval = predicted.estimate;
    Ok(ValidationCase {
        hold_out,
        held_out: group.to_owned(),
        model: case.model.name.clone(),
        quant: case.model.quant.clone(),
        phase: observed.phase,
        n_tokens: observed.pass.n_tokens,
        kv_len: observed.pass.kv_len,
        loads: observed.load_medians.len() as u32,
        observed_ms: 1e3 * observed.seconds,
        predicted_ms: 1e3 * predicted.seconds,
        lower_ms: 1e3 * interval.lower,
        upper_ms: 1e3 * interval.upper,
        error: predicted.seconds / observed.seconds - 1.0,
        noise: observed.noise,
        baselines: baselines
            .predict(&case.model, observed.phase, observed.pass)
            .into_iter()
            .map(|(name, seconds)| (name, 1e3 * seconds))
            .collect(),
    })
}

fn group_of(hold_out: HoldOut, case: &Case) -> String {
    match hold_out {
        // Devices are refused before.
        HoldOut::Model | HoldOut::Device => case.group().to_owned(),
        HoldOut::Family => case.model.family.clone(),
        HoldOut::Quant => case.model.quant.clone(),
        HoldOut::Length => case.observation.prompt_tokens.to_string(),
        HoldOut::Depth => case.observation.depth.to_string(),
    }
}

/// The type of most of the bytes in the layers' matrices.
fn dominant_type(model: &ModelSpec) -> Option<TensorType> {
    let mut bytes: BTreeMap<TensorType, u64> = BTreeMap::new();
    for tensor in &model.tensors {
        if tensor.layer.is_some() && !tensor.role.is_vector() && tensor.role != TensorRole::Other {
            *bytes.entry(tensor.tensor_type).or_default() += tensor.bytes();
        }
    }
    bytes.into_iter().max_by_key(|(_, n)| *n).map(|(tensor_type, _)| tensor_type)
}

fn group_error(
    hold_out: HoldOut,
    group: Option<String>,
    phase: Phase,
    cases: &[ValidationCase],
) -> Option<GroupError> {
    let of_group: Vec<&ValidationCase> = cases.iter().filter(|case| case.phase == phase).collect();
    let pairs: Vec<ErrorInput> = of_group
        .iter()
        .map(|case| ErrorInput { observed: case.observed_ms, predicted: case.predicted_ms })
        .collect();
    let summary = summarise(&pairs)?;
    let covered = of_group
        .iter()
        .filter(|case| (case.lower_ms..=case.upper_ms).contains(&case.observed_ms))
        .count();
    let noise: Vec<f64> = of_group.iter().filter_map(|case| case.noise).collect();
    Some(GroupError {
        hold_out,
        group,
        rows: 0,
        phase,
        n: summary.n as u32,
        mdape: summary.mdape,
        mape: summary.mape,
        p90_ape: summary.p90_ape,
        max_ape: summary.max_ape,
        bias: summary.bias,
        within_10pct: summary.within_10pct,
        coverage: covered as f64 / summary.n as f64,
        interval_level: INTERVAL_LEVEL,
        noise_floor: foretoken_stats::median(&noise),
        baselines: baseline_errors(&of_group),
    })
}

fn baseline_errors(cases: &[&ValidationCase]) -> BTreeMap<String, BaselineError> {
    let names: BTreeSet<&String> = cases.iter().flat_map(|case| case.baselines.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let pairs: Vec<ErrorInput> = cases
                .iter()
                .filter_map(|case| {
                    let predicted = *case.baselines.get(name)?;
                    Some(ErrorInput { observed: case.observed_ms, predicted })
                })
                .collect();
            let summary = summarise(&pairs)?;
            let error = BaselineError {
                n: summary.n as u32,
                mdape: summary.mdape,
                mape: summary.mape,
                p90_ape: summary.p90_ape,
                bias: summary.bias,
            };
            Some((name.clone(), error))
        })
        .collect()
}
