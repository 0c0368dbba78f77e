//! Other forms of the cost model, held out like the one in use, so that the choice can be checked.
//!
//! Every form predicts each operation from its features by what it learned from the kernels of
//! other models; a pass is the sum. The last row is nested: inside each held-out model's training
//! set the forms are compared by holding out again, and the winner predicts, so that the choice
//! itself has been judged on models that it has not seen.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_cost::{EngineProfile, Feature, KernelClass, OpCost, pass_cost};
use foretoken_observe::observations;
use foretoken_spec::{Ceilings, FormComparison, FormError, Measurement, Phase, SCHEMA_VERSION};
use foretoken_stats::{ErrorInput, median, summarise};

use crate::FitError;
use crate::calibrate::{ceilings, one_setup, setup};
use crate::rows::{Case, Row, cases};
use crate::solver::{non_negative_least_squares, relative};
use crate::terms::fit_terms;

/// A form of the cost model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// Time = roofline bound ÷ the median efficiency of the class.
    Efficiency,
    /// Time = calls and roofline bound, non-negative.
    Bound,
    /// Time = all features, non-negative: the form in use.
    Linear,
    /// The same, times a factor for each phase fitted on whole passes.
    LinearCorrected,
    /// The same, times the residuals of the nearest kernels.
    LinearNeighbours,
    /// The same, fitted to times scaled to the session's median reference.
    LinearDrift,
}

impl Form {
    /// Simplest first: among equals the first is kept.
    const ALL: [Form; 6] = [
        Self::Efficiency,
        Self::Bound,
        Self::Linear,
        Self::LinearCorrected,
        Self::LinearNeighbours,
        Self::LinearDrift,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Efficiency => "efficiency",
            Self::Bound => "calls_and_bound",
            Self::Linear => "linear",
            Self::LinearCorrected => "linear_phase_corrected",
            Self::LinearNeighbours => "linear_neighbours",
            Self::LinearDrift => "linear_drift_corrected",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Efficiency => "roofline bound ÷ median efficiency of the kernel class",
            Self::Bound => "calls + roofline bound, non-negative",
            Self::Linear => "all features of the class, non-negative",
            Self::LinearCorrected => "linear × a factor per phase fitted on whole passes",
            Self::LinearNeighbours => "linear × residual of the nearest measured kernels",
            Self::LinearDrift => "linear, fitted to times scaled by the reference workload",
        }
    }
}

/// Compares the forms on held-out models.
///
/// # Errors
/// As [`crate::validate`]; lines of several setups are refused.
pub fn compare_forms(
    measurements: &[Measurement],
    data: Vec<String>,
) -> Result<FormComparison, FitError> {
    let first = one_setup(measurements)?;
    let engine = EngineProfile::of(&first.engine, &first.device);
    let plain = cases(observations(measurements), &engine);
    let steady = cases(observations(&without_drift(measurements)), &engine);
    let ceilings = ceilings(measurements, &plain);
    let op_lists: Vec<Vec<OpCost>> =
        plain.iter().map(|c| pass_cost(&c.model, &engine, c.observation.pass).ops).collect();
    let bench = Bench { plain: &plain, steady: &steady, ops: &op_lists, ceilings };
    let all: Vec<usize> = (0..plain.len()).collect();
    let mut forms = Vec::new();
    for form in Form::ALL {
        let predicted = bench.hold_out(form, &all);
        forms.extend(bench.errors(form.name(), form.description(), &predicted));
    }
    let predicted = bench.nested(&all);
    forms.extend(bench.errors("nested", "the best form of each training set", &predicted));
    if forms.is_empty() {
        return Err(FitError::NothingToHoldOut("model"));
    }
    Ok(FormComparison {
        schema_version: SCHEMA_VERSION,
        data,
        device: setup(first),
        forms,
        used: Form::Linear.name().into(),
    })
}

/// Lines whose times are scaled to their session's median reference: prefill by the rate of
/// arithmetic, decode by that of memory.
fn without_drift(measurements: &[Measurement]) -> Vec<Measurement> {
    let rates = |m: &Measurement, of: fn(&foretoken_spec::ReferenceSample) -> f64| {
        median(&m.reference.iter().map(of).collect::<Vec<_>>())
    };
    let memory = |m: &Measurement| rates(m, |r| r.stream_bytes_per_second);
    let compute = |m: &Measurement| rates(m, |r| r.matmul_flop_per_second);
    let typical = |session: &str, of: &dyn Fn(&Measurement) -> Option<f64>| {
        let lines = measurements.iter().filter(|m| m.session == session);
        median(&lines.filter_map(of).collect::<Vec<_>>())
    };
    let sessions: BTreeSet<&str> = measurements.iter().map(|m| m.session.as_str()).collect();
    let of_session: BTreeMap<&str, (Option<f64>, Option<f64>)> = sessions
        .into_iter()
        .map(|session| (session, (typical(session, &memory), typical(session, &compute))))
        .collect();
    let mut corrected = measurements.to_vec();
    for line in &mut corrected {
        let (stream, matmul) = of_session[line.session.as_str()];
        let factor = |now: Option<f64>, usual: Option<f64>| match (now, usual) {
            (Some(now), Some(usual)) if usual > 0.0 => now / usual,
            _ => 1.0,
        };
        let prefill = factor(compute(line), matmul);
        let decode = factor(memory(line), stream);
        let scale = |ns: &mut u64, factor: f64| *ns = (*ns as f64 * factor).round() as u64;
        line.prefill.iter_mut().for_each(|s| scale(&mut s.forward_ns, prefill));
        line.decode.iter_mut().for_each(|s| scale(&mut s.forward_ns, decode));
        for kernel in &mut line.kernels {
            let factor = if kernel.phase == Phase::Prefill { prefill } else { decode };
            kernel.ns.iter_mut().for_each(|ns| scale(ns, factor));
        }
    }
    corrected
}

/// A fitted form.
struct Fitted<'a> {
    form: Form,
    ceilings: Ceilings,
    /// Features and coefficients by class; of the bound forms, calls and bound.
    coefficients: BTreeMap<KernelClass, Vec<f64>>,
    rows: BTreeMap<KernelClass, Vec<&'a Row>>,
    scale: BTreeMap<Phase, f64>,
}

/// Kernels whose residuals are averaged.
const NEIGHBOURS: usize = 4;
/// How much of the neighbours' residual is believed.
const NEIGHBOUR_TRUST: f64 = 0.5;

impl<'a> Fitted<'a> {
    fn new(form: Form, rows: &[&'a Row], ceilings: Ceilings) -> Self {
        let mut by_class: BTreeMap<KernelClass, Vec<&'a Row>> = BTreeMap::new();
        for row in rows {
            by_class.entry(row.cost.class).or_default().push(row);
        }
        let coefficients = match form {
            Form::Efficiency => by_class
                .iter()
                .filter_map(|(class, rows)| {
                    let ratio = |row: &&Row| row.seconds / bound(&row.cost, ceilings);
                    Some((*class, vec![0.0, median(&rows.iter().map(ratio).collect::<Vec<_>>())?]))
                })
                .collect(),
            Form::Bound => by_class
                .iter()
                .map(|(class, rows)| {
                    let features: Vec<Vec<f64>> = rows
                        .iter()
                        .map(|row| vec![f64::from(row.cost.calls), bound(&row.cost, ceilings)])
                        .collect();
                    let observed: Vec<f64> = rows.iter().map(|row| row.seconds).collect();
                    let (scaled, target) = relative(&features, &observed);
                    (*class, non_negative_least_squares(&scaled, &target).coefficients)
                })
                .collect(),
            _ => fit_terms(rows.iter().copied())
                .into_iter()
                .map(|term| (term.class, term.coefficients))
                .collect(),
        };
        Self { form, ceilings, coefficients, rows: by_class, scale: BTreeMap::new() }
    }

    fn seconds(&self, op: &OpCost) -> Option<f64> {
        let coefficients = self.coefficients.get(&op.class)?;
        match self.form {
            Form::Efficiency | Form::Bound => Some(
                coefficients[0] * f64::from(op.calls) + coefficients[1] * bound(op, self.ceilings),
            ),
            Form::LinearNeighbours => {
                Some(linear(coefficients, op) * self.neighbours(op, coefficients))
            }
            _ => Some(linear(coefficients, op)),
        }
    }

    /// Weighted mean residual of the nearest kernels of the class, in log features per call.
    fn neighbours(&self, op: &OpCost, coefficients: &[f64]) -> f64 {
        let place = |op: &OpCost| -> Vec<f64> {
            let calls = f64::from(op.calls.max(1));
            op.features.iter().map(|(_, value)| (value / calls).max(1.0).ln()).collect()
        };
        let here = place(op);
        let mut near: Vec<(f64, f64)> = self.rows[&op.class]
            .iter()
            .map(|row| {
                let squares = place(&row.cost).into_iter().zip(&here).map(|(a, b)| (a - b).powi(2));
                let residual = (row.seconds / linear(coefficients, &row.cost)).ln();
                (squares.sum::<f64>().sqrt() + 0.05, residual)
            })
            .filter(|(_, residual)| residual.is_finite())
            .collect();
        near.sort_by(|a, b| a.0.total_cmp(&b.0));
        near.truncate(NEIGHBOURS);
        let weight: f64 = near.iter().map(|(d, _)| d.powi(-2)).sum();
        let mean: f64 = near.iter().map(|(d, r)| r * d.powi(-2)).sum::<f64>() / weight.max(1e-300);
        (NEIGHBOUR_TRUST * mean).exp()
    }
}

fn linear(coefficients: &[f64], op: &OpCost) -> f64 {
    op.features.iter().zip(coefficients).map(|((_, value), c)| value * c).sum()
}

/// Roofline bound of an operation at the measured ceilings; weights at their executed size.
fn bound(op: &OpCost, ceilings: Ceilings) -> f64 {
    let weights = op.features.iter().find(|(f, _)| *f == Feature::WeightBytes).map(|(_, v)| *v);
    let bytes = weights.unwrap_or(0.0).max(op.bytes as f64);
    (op.flop as f64 / ceilings.matmul_flop_per_second)
        .max(bytes / ceilings.stream_bytes_per_second)
        .max(1e-9)
}

/// The cases, with times as observed and with times scaled by the reference.
struct Bench<'a> {
    plain: &'a [Case],
    steady: &'a [Case],
    ops: &'a [Vec<OpCost>],
    ceilings: Ceilings,
}

impl<'a> Bench<'a> {
    /// Predictions of the tested cases among these, each by a fit without its model.
    fn hold_out(&self, form: Form, among: &[usize]) -> Vec<(usize, f64)> {
        let mut predicted = Vec::new();
        for group in self.groups(among) {
            let (test, train) = self.split(among, group);
            predicted.extend(self.predict(form, &train, &test));
        }
        predicted
    }

    /// The same with the form chosen inside each training set.
    fn nested(&self, among: &[usize]) -> Vec<(usize, f64)> {
        let mut predicted = Vec::new();
        for group in self.groups(among) {
            let (test, train) = self.split(among, group);
            let error = |form: Form| {
                let inner = self.hold_out(form, &train);
                let of = |phase| {
                    let of_phase: Vec<f64> = inner
                        .iter()
                        .filter(|(i, _)| self.plain[*i].observation.phase == phase)
                        .map(|(i, s)| (s / self.plain[*i].observation.seconds - 1.0).abs())
                        .collect();
                    median(&of_phase).unwrap_or(f64::INFINITY)
                };
                of(Phase::Prefill) + of(Phase::Decode)
            };
            let errors: Vec<(f64, Form)> = Form::ALL.map(|form| (error(form), form)).to_vec();
            let best = errors.iter().min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, form)| *form);
            predicted.extend(self.predict(best.unwrap_or(Form::Linear), &train, &test));
        }
        predicted
    }

    fn predict(&self, form: Form, train: &[usize], test: &[usize]) -> Vec<(usize, f64)> {
        let source = if form == Form::LinearDrift { self.steady } else { self.plain };
        let rows: Vec<&Row> = train.iter().flat_map(|i| &source[*i].rows).collect();
        let mut fitted = Fitted::new(form, &rows, self.ceilings);
        if form == Form::LinearCorrected {
            for phase in [Phase::Prefill, Phase::Decode] {
                let ratios: Vec<f64> = train
                    .iter()
                    .filter(|i| self.plain[**i].observation.phase == phase)
                    .filter_map(|i| {
                        Some(self.plain[*i].observation.seconds / self.seconds(&fitted, *i)?)
                    })
                    .collect();
                fitted.scale.extend(median(&ratios).map(|ratio| (phase, ratio)));
            }
        }
        test.iter()
            .filter_map(|i| {
                let phase = self.plain[*i].observation.phase;
                let scale = fitted.scale.get(&phase).copied().unwrap_or(1.0);
                Some((*i, scale * self.seconds(&fitted, *i)?))
            })
            .collect()
    }

    /// A whole pass; `None` where a class was never seen: forms are compared where all can answer.
    fn seconds(&self, fitted: &Fitted<'_>, index: usize) -> Option<f64> {
        self.ops[index].iter().map(|op| fitted.seconds(op)).sum()
    }

    fn is_tested(&self, index: usize) -> bool {
        !self.plain[index].is_mini() || self.plain.iter().all(Case::is_mini)
    }

    fn groups(&self, among: &[usize]) -> BTreeSet<&'a str> {
        let tested = among.iter().filter(|i| self.is_tested(**i));
        tested.map(|i| self.plain[*i].group()).collect()
    }

    fn split(&self, among: &[usize], group: &str) -> (Vec<usize>, Vec<usize>) {
        among.iter().copied().partition(|i| self.plain[*i].group() == group)
    }

    fn errors(&self, name: &str, description: &str, predicted: &[(usize, f64)]) -> Vec<FormError> {
        let of_phase = |phase| {
            let pairs: Vec<ErrorInput> = predicted
                .iter()
                .filter(|(i, _)| self.plain[*i].observation.phase == phase)
                .map(|(i, predicted)| ErrorInput {
                    observed: self.plain[*i].observation.seconds,
                    predicted: *predicted,
                })
                .collect();
            let summary = summarise(&pairs)?;
            Some(FormError {
                form: name.to_owned(),
                description: description.to_owned(),
                phase,
                n: summary.n as u32,
                mdape: summary.mdape,
                mape: summary.mape,
                p90_ape: summary.p90_ape,
                bias: summary.bias,
            })
        };
        [Phase::Prefill, Phase::Decode].into_iter().filter_map(of_phase).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretoken_cost::Features;
    use foretoken_spec::{OpKind, Pass};

    const CEILINGS: Ceilings =
        Ceilings { stream_bytes_per_second: 1e9, matmul_flop_per_second: 1e12 };

    /// An elementwise operation: 4 bytes an element, moved twice.
    fn row(calls: u32, elements: f64, seconds: f64) -> Row {
        let cost = OpCost {
            op: OpKind::Rope,
            role: None,
            tensor_type: None,
            class: KernelClass::plain(OpKind::Rope, 1, false),
            calls,
            flop: elements as u64,
            bytes: 8 * elements as u64,
            features: Features::from([
                (Feature::Calls, f64::from(calls)),
                (Feature::Elements, elements),
            ]),
        };
        let pass = Pass { n_tokens: 1, kv_len: 1 };
        Row { model: "m".into(), pass, cost, seconds }
    }

    /// Two microseconds a call and 1 ns an element.
    fn planted() -> Vec<Row> {
        let seconds = |calls: u32, elements: f64| 2e-6 * f64::from(calls) + 1e-9 * elements;
        [(1, 1e3), (2, 5e4), (4, 1e5), (8, 4e6)]
            .map(|(calls, elements)| row(calls, elements, seconds(calls, elements)))
            .to_vec()
    }

    #[test]
    fn linear_forms_find_a_planted_line_and_an_efficiency_does_not() {
        let rows = planted();
        let rows: Vec<&Row> = rows.iter().collect();
        let asked = row(16, 1e4, 0.0).cost;
        let truth = 16.0 * 2e-6 + 1e-5;
        for form in [Form::Bound, Form::Linear, Form::LinearNeighbours] {
            let seconds = Fitted::new(form, &rows, CEILINGS).seconds(&asked).unwrap();
            assert!((seconds / truth - 1.0).abs() < 1e-6, "{form:?}: {seconds}");
        }
        let seconds = Fitted::new(Form::Efficiency, &rows, CEILINGS).seconds(&asked).unwrap();
        assert!(seconds < 0.9 * truth, "{seconds}");
    }

    #[test]
    fn a_class_that_was_never_seen_has_no_answer() {
        let rows = planted();
        let rows: Vec<&Row> = rows.iter().collect();
        let mut asked = rows[0].cost;
        asked.class = KernelClass::plain(OpKind::Host, 1, false);
        assert!(Fitted::new(Form::Linear, &rows, CEILINGS).seconds(&asked).is_none());
    }
}
