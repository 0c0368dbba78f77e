//! Energy of a pass: power above idle × time + joules per FLOP × FLOP + joules per byte × bytes.
//!
//! The three costs of an operation that runs long enough for each to matter (Choi et al., *A
//! Roofline Model of Energy*, 2013). Joules are above the idle power that was measured before, so
//! the constant power is what a busy machine takes beyond it.

use foretoken_cost::{EngineProfile, pass_cost};
use foretoken_observe::contended_loads;
use foretoken_spec::{
    EnergyFit, EnergySample, EnergySpan, Measurement, ModelSource, Pass, PassSample,
};
use foretoken_stats::median;

use crate::held_out::{ObservedRow, regress};

/// Fits the energy of passes; `None` where no line has any.
pub(crate) fn fit_energy(
    measurements: &[Measurement],
    engine: &EngineProfile,
    seed: u64,
) -> Option<EnergyFit> {
    let lines: Vec<&Measurement> = measurements.iter().collect();
    let contended = contended_loads(&lines);
    let (meter, _) = metered(&lines).next()?;
    let mut spans = Vec::new();
    let mut idle = Vec::new();
    for (sample, line) in metered(&lines) {
        // Joules of different things are not fitted together.
        let is_same = (&sample.source, &sample.meter) == (&meter.source, &meter.meter);
        if is_same && !contended.contains(&(line.session.as_str(), line.sequence)) {
            idle.extend(sample.idle_w);
            spans.extend(rows_of(line, sample, engine));
        }
    }
    // Errors are relative, which nothing below 0 has. Where noise is as large as the energy, those
    // that remain are too large together: the fit says how many do not.
    let n_spans = spans.len();
    spans.retain(|row| row.observed > 0.0);
    let rows = spans;
    let names = [("seconds", "W"), ("flop", "J/flop"), ("bytes", "J/byte")]
        .map(|(name, unit)| (name.to_owned(), unit.to_owned()));
    let fit = regress(&names, &rows, seed)?;
    Some(EnergyFit {
        source: meter.source.clone(),
        meter: meter.meter.clone(),
        idle_w: median(&idle)?,
        features: fit.features,
        n_observations: fit.n_observations,
        n_not_above_idle: (n_spans - rows.len()) as u32,
        held_out_mdape: fit.held_out_mdape,
        half_width: fit.half_width,
        level: fit.level,
        n_groups: fit.n_groups,
    })
}

fn metered<'a>(
    lines: &[&'a Measurement],
) -> impl Iterator<Item = (&'a EnergySample, &'a Measurement)> {
    lines.iter().copied().filter_map(|line| Some((line.energy.as_ref()?, line)))
}

/// The passes of a line whose energy the meter could resolve, above idle or not.
fn rows_of(line: &Measurement, sample: &EnergySample, engine: &EngineProfile) -> Vec<ObservedRow> {
    let model = line.model.to_spec();
    let is_mini = line.model.source == ModelSource::Mini;
    let group = if is_mini { &line.model.family } else { &line.model.name };
    let row = |span: Option<EnergySpan>, passes: &[PassSample]| {
        let span = sample.resolved(span)?;
        let observed = span.above_idle(sample.idle_w?)?;
        let cost = pass_cost(&model, engine, typical(passes)?);
        let seconds = span.ns as f64 * 1e-9 / f64::from(span.passes);
        let features = vec![seconds, cost.flop() as f64, cost.bytes() as f64];
        Some(ObservedRow { group: group.clone(), features, observed })
    };
    [row(sample.prefill, &line.prefill), row(sample.decode, &line.decode)]
        .into_iter()
        .flatten()
        .collect()
}

/// The pass in the middle.
fn typical(passes: &[PassSample]) -> Option<Pass> {
    let PassSample { n_tokens, kv_len, .. } = *passes.get(passes.len() / 2)?;
    Some(Pass { n_tokens, kv_len })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixture;

    #[test]
    fn spans_not_above_idle_are_counted_beside_the_fit() {
        let mut lines = fixture();
        let engine = EngineProfile::candle(&lines[0].device);
        for (i, line) in lines.iter_mut().enumerate() {
            // 2 s of 10 W idle; every third takes less than that.
            let joules = if i % 3 == 0 { 19.0 } else { 50.0 };
            let span = EnergySpan { joules, ns: 2_000_000_000, passes: 2, spans: 1 };
            line.energy = Some(EnergySample {
                source: "rapl".into(),
                meter: "package-0".into(),
                shortest_span_ns: 20_000_000,
                idle_w: Some(10.0),
                load: None,
                prefill: Some(span),
                decode: None,
            });
        }
        let lines = &lines[..6];
        let fit = fit_energy(lines, &engine, 1).unwrap();
        assert_eq!((fit.n_observations, fit.n_not_above_idle), (4, 2));
    }
}
