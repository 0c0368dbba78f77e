//! Group-wise validation: every group is predicted by a fit that has not seen it.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_cost::{EngineProfile, OpCost};
use foretoken_observe::observations;
use foretoken_predict::Predictor;
use foretoken_spec::{
    BaselineError, Calibration, GroupError, HoldOut, Measurement, Phase, SCHEMA_VERSION,
    TensorType, ToolInfo, ValidationCase, ValidationReport,
};
use foretoken_stats::{ErrorInput, ErrorSummary, summarise, summarise_each};

use crate::baselines::Baselines;
use crate::calibrate::{FitInput, ceilings, empty, fit_cases, require_known_engine, setup};
use crate::judged::{Judged, kernels, metric_errors, peak_memory, reason, requests};
use crate::rows::{Case, cases};
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
    let mut metrics = Vec::new();
    let mut warnings = Vec::new();
    let ids: BTreeSet<&str> = by_setup.values().map(|lines| lines[0].device.id.as_str()).collect();
    for (name, lines) in &by_setup {
        // The device says enough where no two setups share one.
        let short = || lines[0].device.id.clone();
        let label = || if ids.len() == by_setup.len() { short() } else { name.clone() };
        let group = (by_setup.len() > 1).then(label);
        let bench = Bench::new(lines, tool);
        for &hold_out in hold_outs {
            let held_out = bench.hold_out(hold_out, &mut warnings);
            for phase in [Phase::Prefill, Phase::Decode] {
                groups.extend(group_error(hold_out, group.clone(), phase, &held_out.cases));
            }
            metrics.extend(metric_errors(Some(hold_out), group.as_ref(), &held_out.judged));
            let of_setup = |case| ValidationCase { group: group.clone(), ..case };
            found.extend(held_out.cases.into_iter().map(of_setup));
        }
        let memory = peak_memory(lines, &bench.engine);
        metrics.extend(metric_errors(None, group.as_ref(), &memory));
    }
    for &hold_out in hold_outs {
        if groups.iter().any(|group| group.hold_out == hold_out) {
            continue;
        }
        let nothing = FitError::NothingToHoldOut(hold_out.name());
        if groups.is_empty() {
            return Err(nothing);
        }
        warnings.push(nothing.to_string());
    }
    Ok(ValidationReport {
        schema_version: SCHEMA_VERSION,
        data,
        device: by_setup.keys().cloned().collect::<Vec<_>>().join("; "),
        groups,
        metrics,
        engines: Vec::new(),
        devices: Vec::new(),
        undated: Vec::new(),
        cases: found,
        left_out: Vec::new(),
        warnings,
    })
}

/// What came of holding out one kind of group.
#[derive(Default)]
struct HeldOut {
    cases: Vec<ValidationCase>,
    judged: Vec<Judged>,
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
        let engine = EngineProfile::of(&first.engine, &first.device);
        let cases = cases(observations(lines), &engine);
        let header = empty(first, FitInput::unsaved(tool.clone()), ceilings(lines, &cases));
        Self { cases, engine, header }
    }

    fn hold_out(&self, hold_out: HoldOut, warnings: &mut Vec<String>) -> HeldOut {
        let mut found = HeldOut::default();
        let frontier = self.frontier();
        let groups: BTreeSet<String> = self
            .cases
            .iter()
            .filter(|case| self.is_tested(case))
            .filter_map(|case| group_of(hold_out, case, frontier.as_ref()))
            .collect();
        // Nearly all mini-models are measured at the one depth as well: hardly anything is left.
        if hold_out == HoldOut::Depth && groups.len() < 2 {
            return found;
        }
        for group in groups {
            match self.hold_out_group(hold_out, &group, frontier.as_ref(), warnings) {
                Ok(more) => {
                    found.cases.extend(more.cases);
                    found.judged.extend(more.judged);
                }
                Err(error) => {
                    warnings.push(format!("without {} `{group}`: {error}", hold_out.name()));
                }
            }
        }
        found
    }

    /// Mini-models are fitted, never judged, where there is anything else.
    fn is_tested(&self, case: &Case) -> bool {
        !case.is_mini() || self.cases.iter().all(Case::is_mini)
    }

    /// The largest quarter of the models, at least one, where there are three.
    fn frontier(&self) -> Option<Frontier> {
        let mut sizes: Vec<(u64, &str)> = self
            .cases
            .iter()
            .filter(|case| self.is_tested(case))
            .map(|case| (case.model.n_parameters(), case.group()))
            .collect();
        sizes.sort_unstable();
        sizes.dedup_by_key(|(_, name)| *name);
        if sizes.len() < 3 {
            return None;
        }
        let n_largest = sizes.len().div_ceil(4);
        let models: BTreeSet<String> =
            sizes.iter().rev().take(n_largest).map(|(_, name)| (*name).to_owned()).collect();
        let of_frontier = self.cases.iter().filter(|case| models.contains(case.group()));
        let width = of_frontier.map(|case| case.model.shape.hidden_size).min()?;
        Some(Frontier { models, width })
    }

    fn hold_out_group(
        &self,
        hold_out: HoldOut,
        group: &str,
        frontier: Option<&Frontier>,
        warnings: &mut Vec<String>,
    ) -> Result<HeldOut, FitError> {
        let (test, rest): (Vec<&Case>, Vec<&Case>) = self
            .cases
            .iter()
            .partition(|case| group_of(hold_out, case, frontier).as_deref() == Some(group));
        let types: BTreeSet<TensorType> = match hold_out {
            HoldOut::Quant => unseen_types(&test, &rest),
            _ => BTreeSet::new(),
        };
        let is_seen = |op: &OpCost| !is_of_types(op, &types);
        let mut calibration = self.header.clone();
        fit_cases(&mut calibration, &rest, &is_seen)?;
        let predictor = Predictor::new(&calibration)?;
        // Mini-models would only mislead the naive methods: they learn from whole models.
        let train: Vec<&Case> = rest
            .iter()
            .filter(|case| case.is_all(&is_seen) && self.is_tested(case))
            .copied()
            .collect();
        let baselines = Baselines::new(&self.engine, self.header.ceilings, &train);
        let test: Vec<&Case> = test.into_iter().filter(|case| self.is_tested(case)).collect();
        let mut found = HeldOut { cases: Vec::new(), judged: requests(&test, &predictor) };
        for case in test {
            found.judged.extend(kernels(case, &predictor));
            match predict_case(hold_out, group, case, &predictor, &baselines) {
                Ok(case) => found.cases.push(case),
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

/// Whether an operation belongs to one of the held-out tensor types; all floating-point types share a
/// kernel, and what runs between such kernels goes with them.
fn is_of_types(op: &OpCost, types: &BTreeSet<TensorType>) -> bool {
    let float = types.iter().any(|t| t.is_float());
    match op.class.matmul {
        Some((t, _)) => types.contains(&t) || (float && t.is_float()),
        None => float && op.class.beside_gemm,
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
        group: None,
        held_out: group.to_owned(),
        rows: 0,
        engine: None,
        threads: None,
        model: case.model.name.clone(),
        quant: case.model.quant.clone(),
        phase: observed.phase,
        n_tokens: observed.pass.n_tokens,
        kv_len: observed.pass.kv_len,
        loads: observed.load_medians.len() as u32,
        observed_ms: 1e3 * observed.seconds,
        predicted_ms: 1e3 * predicted.seconds,
        spec_only_ms: None,
        lower_ms: 1e3 * interval.lower,
        upper_ms: 1e3 * interval.upper,
        error: predicted.seconds / observed.seconds - 1.0,
        noise: observed.noise,
        tier: predicted.tier,
        reason: reason(case, &predicted),
        extrapolation: predicted.extrapolation,
        baselines: baselines
            .predict(&case.model, observed.phase, observed.pass)
            .into_iter()
            .map(|(name, seconds)| (name, 1e3 * seconds))
            .collect(),
    })
}

/// The largest models, and the narrowest width among them.
struct Frontier {
    models: BTreeSet<String>,
    width: u32,
}

/// The group that a case belongs to; `None` where it is never held out.
fn group_of(hold_out: HoldOut, case: &Case, frontier: Option<&Frontier>) -> Option<String> {
    match hold_out {
        // Devices are refused before.
        HoldOut::Model | HoldOut::Device => Some(case.group().to_owned()),
        HoldOut::Family => Some(case.model.family.clone()),
        HoldOut::Quant => Some(case.model.quant.clone()),
        HoldOut::Length => Some(case.observation.prompt_tokens.to_string()),
        HoldOut::Depth => Some(case.observation.depth.to_string()),
        HoldOut::AllModels => (!case.is_mini()).then(|| "all models".to_owned()),
        HoldOut::Frontier => {
            let frontier = frontier?;
            let is_wide = case.is_mini() && case.model.shape.hidden_size >= frontier.width;
            (is_wide || frontier.models.contains(case.group())).then(|| "largest".to_owned())
        }
    }
}

/// The tensor types that nobody has measured who has not measured a quantization: the one that it
/// is named after, and those that no other quantization's models have (what it falls back to).
fn unseen_types(test: &[&Case], rest: &[&Case]) -> BTreeSet<TensorType> {
    let matrices = |cases: &[&Case]| -> BTreeSet<TensorType> {
        let real = cases.iter().filter(|case| !case.is_mini());
        let tensors = real.flat_map(|case| &case.model.tensors);
        tensors.filter(|tensor| !tensor.role.is_vector()).map(|t| t.tensor_type).collect()
    };
    let known = matrices(rest);
    let mut types: BTreeSet<TensorType> = &matrices(test) - &known;
    types.extend(test.iter().filter_map(|case| named_after(&case.model.quant)));
    types
}

/// `Q4_K` of `Q4_K_M`.
fn named_after(quant: &str) -> Option<TensorType> {
    let stem = quant.rsplit_once('_').map(|(stem, _)| stem);
    TensorType::from_name(quant).or_else(|| TensorType::from_name(stem?))
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
    let half_widths: Vec<f64> = of_group
        .iter()
        .map(|case| (case.upper_ms - case.lower_ms) / (2.0 * case.predicted_ms))
        .collect();
    Some(GroupError {
        hold_out,
        group,
        kind: None,
        backend: None,
        engine: None,
        rows: 0,
        phase,
        n: summary.n as u32,
        devices: None,
        mdape: summary.mdape,
        mdape_interval: None,
        mdape_spec_only: None,
        mdape_by_device: None,
        mape: summary.mape,
        p90_ape: summary.p90_ape,
        max_ape: summary.max_ape,
        bias: summary.bias,
        within_10pct: summary.within_10pct,
        coverage: covered as f64 / summary.n as f64,
        interval_level: INTERVAL_LEVEL,
        interval_half_width: foretoken_stats::median(&half_widths).unwrap_or(0.0),
        noise_floor: foretoken_stats::median(&noise),
        between_posters: None,
        baselines: baseline_errors(&of_group),
    })
}

/// The naive methods' errors over the cases that they predicted.
fn baseline_errors(cases: &[&ValidationCase]) -> BTreeMap<String, BaselineError> {
    let of_cases: Vec<_> = cases.iter().map(|c| (c.observed_ms, &c.baselines)).collect();
    let error = |s: ErrorSummary| BaselineError {
        n: s.n as u32,
        mdape: s.mdape,
        mape: s.mape,
        p90_ape: s.p90_ape,
        bias: s.bias,
    };
    summarise_each(&of_cases).into_iter().map(|(name, s)| (name, error(s))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantizations_are_named_after_a_type() {
        assert_eq!(named_after("Q4_K_M"), Some(TensorType::Q4_K));
        assert_eq!(named_after("Q8_0"), Some(TensorType::Q8_0));
        assert_eq!(named_after("F16"), Some(TensorType::F16));
        assert_eq!(named_after("mixed"), None);
    }
}
