//! What is judged beside whole passes: requests, kernels, memory; and where an error comes from.

use std::collections::BTreeMap;

use foretoken_cost::{EngineProfile, memory_parts};
use foretoken_predict::{PassPrediction, Predictor};
use foretoken_spec::{HoldOut, Measurement, Metric, MetricError, ModelSource, Phase, Tier};
use foretoken_stats::{ErrorInput, half_split_difference, median, summarise};

use crate::rows::{Case, Row};

/// Kernels below this share of their pass are not judged: their times are those of the clock.
const LEAST_SHARE: f64 = 0.01;
/// A kernel class explains an error where it makes this share of it.
const EXPLAINING_SHARE: f64 = 0.4;

/// Kernels that leave more than this share of an error open do not explain it.
const UNEXPLAINED_SHARE: f64 = 0.5;

/// Predicted and observed, with the difference between the halves of the run where there are two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Judged {
    pub metric: Metric,
    pub predicted: f64,
    pub observed: f64,
    pub noise: Option<f64>,
}

/// Requests of the held-out configurations: what follows from their prefill and their steps.
pub(crate) fn requests(test: &[&Case], predictor: &Predictor<'_>) -> Vec<Judged> {
    let mut configurations: BTreeMap<String, [Option<&Case>; 2]> = BTreeMap::new();
    for case in test {
        let o = &case.observation;
        let key = format!("{:?} {} {}", o.model, o.prompt_tokens, o.depth);
        let slot = match o.phase {
            Phase::Prefill => 0,
            Phase::Decode => 1,
        };
        configurations.entry(key).or_default()[slot] = Some(case);
    }
    configurations.values().flat_map(|&phases| request(phases, predictor)).flatten().collect()
}

fn request(phases: [Option<&Case>; 2], predictor: &Predictor<'_>) -> [Option<Judged>; 3] {
    let [prefill, decode] = phases.map(|case| token(case?, predictor));
    let generated = decode.as_ref().map_or(0, |(case, _)| case.observation.generated_tokens);
    let judged = |metric, predicted, loads: Vec<f64>| {
        let observed = median(&loads)?;
        Some(Judged { metric, predicted, observed, noise: half_split_difference(&loads) })
    };
    let ttft = prefill
        .as_ref()
        .and_then(|(case, predicted)| judged(Metric::Ttft, *predicted, loads(case)));
    let tpot =
        decode.as_ref().and_then(|(case, predicted)| judged(Metric::Tpot, *predicted, loads(case)));
    let e2e = prefill.zip(decode).and_then(|((prefill, first), (decode, next))| {
        let later = f64::from(generated.saturating_sub(1));
        let of_load = |(a, b): (f64, f64)| a + later * b;
        let each = loads(prefill).into_iter().zip(loads(decode)).map(of_load).collect();
        judged(Metric::E2e, first + later * next, each)
    });
    [ttft, tpot, e2e]
}

/// A pass with softmax and draw of its token, predicted.
fn token<'a>(case: &'a Case, predictor: &Predictor<'_>) -> Option<(&'a Case, f64)> {
    let pass = predictor.pass(&case.model, case.observation.pass).ok()?;
    let after: f64 = predictor.sampling(&case.model).ok()?.iter().map(|op| op.seconds).sum();
    Some((case, pass.seconds + after))
}

/// The same as observed, by load.
fn loads(case: &Case) -> Vec<f64> {
    let o = &case.observation;
    o.load_medians.iter().map(|s| s + o.softmax_seconds + o.sampling_seconds).collect()
}

/// The kernels of a held-out case.
pub(crate) fn kernels(case: &Case, predictor: &Predictor<'_>) -> Vec<Judged> {
    let rows = case.rows.iter().filter(|row| row.seconds >= LEAST_SHARE * case.observation.seconds);
    rows.filter_map(|row| {
        let (predicted, _) = predictor.operation_or_relative(&row.cost)?;
        let observed = row.seconds;
        Some(Judged { metric: Metric::Kernel, predicted, observed, noise: None })
    })
    .collect()
}

/// Peak memory of each model and quantization: the largest workload of a load, median over loads.
/// Nothing is fitted.
pub(crate) fn peak_memory(lines: &[Measurement], engine: &EngineProfile) -> Vec<Judged> {
    let mut loads: BTreeMap<String, BTreeMap<(&str, u32), Vec<&Measurement>>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.model.source != ModelSource::Mini) {
        let model = format!("{:?}", line.model);
        let load = (line.session.as_str(), line.sequence);
        loads.entry(model).or_default().entry(load).or_default().push(line);
    }
    let judged = |loads: &BTreeMap<(&str, u32), Vec<&Measurement>>| {
        let grown = |line: &&Measurement| {
            let (before, peak) = match line.memory.device {
                // A model on a graphics device is in its memory, not in the process's.
                Some(device) => (device.before_bytes?, device.peak_bytes?),
                None => (line.memory.rss_before_bytes?, line.memory.peak_rss_bytes?),
            };
            Some(peak.saturating_sub(before) as f64)
        };
        let of_load = |lines: &Vec<&Measurement>| {
            lines
                .iter()
                .filter_map(grown)
                .fold(None, |most: Option<f64>, b| Some(most.map_or(b, |most| most.max(b))))
        };
        let observed = median(&loads.values().filter_map(of_load).collect::<Vec<_>>())?;
        let model = loads.values().flatten().next()?.model.to_spec();
        let workloads = loads.values().flatten().map(|line| &line.workload);
        let bytes = workloads.map(|w| memory_parts(&model, engine, w).total()).max()?;
        let predicted = bytes as f64;
        Some(Judged { metric: Metric::PeakMemory, predicted, observed, noise: None })
    };
    loads.values().filter_map(judged).collect()
}

/// The errors of each metric.
pub(crate) fn metric_errors(
    hold_out: Option<HoldOut>,
    group: Option<&String>,
    judged: &[Judged],
) -> Vec<MetricError> {
    let mut by_metric: BTreeMap<Metric, Vec<&Judged>> = BTreeMap::new();
    for one in judged {
        by_metric.entry(one.metric).or_default().push(one);
    }
    let error = |(metric, judged): (Metric, Vec<&Judged>)| {
        let pairs: Vec<ErrorInput> = judged
            .iter()
            .map(|j| ErrorInput { observed: j.observed, predicted: j.predicted })
            .collect();
        let summary = summarise(&pairs)?;
        Some(MetricError {
            hold_out,
            group: group.cloned(),
            metric,
            n: summary.n as u32,
            mdape: summary.mdape,
            mape: summary.mape,
            p90_ape: summary.p90_ape,
            max_ape: summary.max_ape,
            bias: summary.bias,
            within_10pct: summary.within_10pct,
            noise_floor: median(&judged.iter().filter_map(|j| j.noise).collect::<Vec<_>>()),
        })
    };
    by_metric.into_iter().filter_map(error).collect()
}

/// Where the error of a case likely comes from.
pub(crate) fn reason(case: &Case, predicted: &PassPrediction) -> String {
    let observed = case.observation.seconds;
    let error = predicted.seconds - observed;
    if let Some(noise) = case.observation.noise.filter(|noise| *noise >= error.abs() / observed) {
        return format!("its own loads differ by {}", percent(noise));
    }
    if case.observation.load_medians.len() < 2 {
        return "its one load may have been disturbed".into();
    }
    // Expected and seen seconds of each kernel class, and whose coefficients it borrows.
    let mut classes: BTreeMap<String, (f64, f64, Option<String>)> = BTreeMap::new();
    for op in &predicted.ops {
        let matching = |row: &&Row| {
            (row.cost.op, row.cost.role, row.cost.tensor_type)
                == (op.cost.op, op.cost.role, op.cost.tensor_type)
        };
        let Some(row) = case.rows.iter().find(matching) else { continue };
        let borrowed = (op.tier >= Tier::SiblingQuantization).then(|| op.class.key());
        let sum = classes.entry(op.cost.class.key()).or_insert((0.0, 0.0, borrowed));
        sum.0 += op.seconds;
        sum.1 += row.seconds;
    }
    if classes.is_empty() {
        return "its reader shows no kernels".into();
    }
    let explained: f64 = classes.values().map(|(expected, seen, _)| expected - seen).sum();
    if (explained - error).abs() > UNEXPLAINED_SHARE * error.abs() {
        return "its kernels add up to another time than the whole pass".into();
    }
    let off = |(expected, seen, _): &(f64, f64, Option<String>)| (expected - seen) / error;
    let worst = classes.iter().max_by(|a, b| off(a.1).total_cmp(&off(b.1)));
    match worst {
        Some((class, sum)) if off(sum) >= EXPLAINING_SHARE => {
            let (expected, seen, borrowed) = sum;
            let from = borrowed.as_ref().map_or(String::new(), |k| format!(", borrowed from {k}"));
            let (expected, seen) = (short(1e3 * expected), short(1e3 * seen));
            format!("{class} took {seen} ms, {expected} expected{from}")
        }
        _ => "many kernels are a little off".into(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Three digits.
fn short(ms: f64) -> String {
    let digits = (2 - ms.abs().max(1e-9).log10().floor() as i32).clamp(0, 4) as usize;
    format!("{ms:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(short(1234.5), "1234");
        assert_eq!(short(12.345), "12.3");
        assert_eq!(short(0.012_345), "0.0123");
    }

    #[test]
    fn metrics_are_summed_up_apart() {
        let one = |metric, predicted, noise| Judged { metric, predicted, observed: 1.0, noise };
        let judged = [
            one(Metric::Ttft, 1.1, Some(0.02)),
            one(Metric::Ttft, 1.1, Some(0.04)),
            one(Metric::Kernel, 0.8, None),
        ];
        let errors = metric_errors(Some(HoldOut::Model), None, &judged);
        assert_eq!(errors.len(), 2);
        assert_eq!((errors[0].metric, errors[0].n), (Metric::Ttft, 2));
        assert!((errors[0].mdape - 0.1).abs() < 1e-12);
        assert!((errors[0].noise_floor.unwrap() - 0.03).abs() < 1e-12);
        assert!((errors[1].bias + 0.2).abs() < 1e-12);
    }
}
