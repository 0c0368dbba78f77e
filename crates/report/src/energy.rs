//! Energy of a configuration, from raw lines, and the tables of it.

use foretoken_spec::{
    EnergyFit, EnergySample, EnergySpan, EnergyWithIdle, LoadFit, MeasureReport, MeasuredEnergy,
    Measurement,
};
use foretoken_stats::median;

use crate::{Sheet, units};

/// Energy of lines that share one configuration, the median over fresh loads; `None` without a
/// meter, without idle power, and where it could resolve nothing.
pub(crate) fn energy(lines: &[&Measurement]) -> Option<MeasuredEnergy> {
    let first = lines.iter().find_map(|line| line.energy.as_ref())?;
    // Joules of different things have no median.
    let is_same =
        |sample: &&EnergySample| (&sample.source, &sample.meter) == (&first.source, &first.meter);
    let samples: Vec<&EnergySample> =
        lines.iter().filter_map(|line| line.energy.as_ref()).filter(is_same).collect();
    let idle: Vec<f64> = samples.iter().filter_map(|sample| sample.idle_w).collect();
    let idle_w = median(&idle)?;
    let of = |span: Span| typical(&samples, span, |s, sample| s.above_idle(sample.idle_w?));
    let all = |span: Span| typical(&samples, span, |s, _| s.with_idle());
    let with_idle = EnergyWithIdle {
        load: all(|s| s.load),
        prefill: all(|s| s.prefill),
        per_token: all(|s| s.decode),
    };
    (with_idle != EnergyWithIdle::default()).then(|| MeasuredEnergy {
        load: of(|s| s.load),
        prefill: of(|s| s.prefill),
        per_token: of(|s| s.decode),
        with_idle,
        source: first.source.clone(),
        meter: first.meter.clone(),
        idle_w,
    })
}

/// Which span of a line.
type Span = fn(&EnergySample) -> Option<EnergySpan>;

/// Joules of one pass: the median over the lines whose span the meter could resolve. What is less
/// than idle says that idle was not.
fn typical(
    samples: &[&EnergySample],
    span: Span,
    joules: impl Fn(&EnergySpan, &EnergySample) -> Option<f64>,
) -> Option<f64> {
    let values: Vec<f64> = samples
        .iter()
        .filter_map(|sample| joules(&sample.resolved(span(sample))?, sample))
        .collect();
    median(&values).filter(|joules| *joules > 0.0)
}

/// Why a meter that there is says nothing of a phase, or of all.
pub(crate) fn energy_warning(lines: &[&Measurement]) -> Option<String> {
    let sample = lines.iter().find_map(|line| line.energy.as_ref())?;
    if sample.idle_w.is_none() {
        return Some("the idle power could not be measured, so energy is not reported".to_owned());
    }
    let spans = [sample.prefill, sample.decode].into_iter().flatten();
    let (long, short): (Vec<_>, Vec<_>) = spans.partition(|s| sample.resolved(Some(*s)).is_some());
    let idle_w = sample.idle_w.unwrap_or_default();
    if long.iter().any(|span| span.above_idle(idle_w).is_some_and(|joules| joules <= 0.0)) {
        return Some(
            "the machine took no more power than before, when it should have been idle; close \
             other programs and measure again"
                .to_owned(),
        );
    }
    (!short.is_empty()).then(|| {
        format!(
            "prompts, or steps together, shorter than {} are too short for the meter `{}`: ask for \
             longer prompts, more --gen",
            units::duration_ms(sample.shortest_span_ns as f64 * 1e-6),
            sample.source
        )
    })
}

/// The table of energies; `None` where nothing has any.
pub(crate) fn energy_sheet(
    reports: &[MeasureReport],
    key_columns: &[&str],
    key: impl Fn(&MeasureReport) -> [String; 5],
) -> Option<Sheet> {
    let first = reports.iter().find_map(|report| report.energy_j.as_ref())?;
    let mut columns = vec!["model", "quant", ">prompt", ">gen", ">depth"];
    columns.extend([">load", ">prefill", ">per token", ">with idle", ">tokens/J"]);
    let mut sheet = Sheet::new("energy in J, above idle", &columns);
    for report in reports {
        let Some(energy) = &report.energy_j else { continue };
        let joules = |value: Option<f64>| units::or_none(value, |j| units::significant(j, 3));
        sheet.row(key(report).into_iter().chain([
            joules(energy.load),
            joules(energy.prefill),
            joules(energy.per_token),
            joules(energy.with_idle.per_token),
            joules(energy.per_token.map(|joules| 1.0 / joules)),
        ]));
    }
    sheet.fold_constant(key_columns);
    sheet.note(format!(
        "meter: {} ({}); idle {} W, subtracted but from `with idle` (per token).",
        first.source,
        first.meter,
        units::significant(first.idle_w, 3)
    ));
    Some(sheet)
}

/// What a calibration learned of energy, as a sentence.
pub(crate) fn energy_note(fit: &EnergyFit) -> String {
    let coefficient = |name: &str, scale: f64| {
        let found = fit.features.iter().find(|feature| feature.feature == name);
        units::or_none(found, |f| units::significant(f.coefficient * scale, 3))
    };
    let dropped = match fit.n_not_above_idle {
        0 => String::new(),
        n => format!(
            "; left out, so that it may be too much: {} not above idle",
            units::plural(n, "span")
        ),
    };
    format!(
        "energy ({}: {}): idle {} W; above it {} W, {} pJ/flop, {} pJ/byte; {}{dropped}.",
        fit.source,
        fit.meter,
        units::significant(fit.idle_w, 3),
        coefficient("seconds", 1.0),
        coefficient("flop", 1e12),
        coefficient("bytes", 1e12),
        held_out(fit.held_out_mdape, fit.n_groups)
    )
}

/// What a calibration learned of loading, as a sentence.
pub(crate) fn loading_note(fit: &LoadFit) -> String {
    let mut note = format!("loading: {}", held_out(fit.warm.held_out_mdape, fit.warm.n_groups));
    if let Some(first) = &fit.first_pass {
        let error = held_out(first.held_out_mdape, first.n_groups);
        note.push_str(&format!("; what the first pass adds: {error}"));
        if first.n_not_above_zero > 0 {
            let dropped = units::plural(first.n_not_above_zero, "load");
            note.push_str(&format!(" (without {dropped} where it added nothing)"));
        }
    }
    if let Some(rate) = fit.storage_bytes_per_second {
        note.push_str(&format!("; storage {}", units::bytes_per_second(rate)));
    }
    note + "."
}

fn held_out(mdape: Option<f64>, n_groups: u32) -> String {
    match mdape {
        Some(error) => format!(
            "error on held-out models {} (median, {})",
            units::percent(error),
            units::plural(n_groups, "group")
        ),
        None => "not checked on held-out models".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::measurement;

    /// A load of 1 s with 12 J, 2 prompts in 2 s with 40 J, 10 steps in 0.5 s with 9 J, 4 W idle.
    fn line() -> Measurement {
        let span = |joules, ms: u64, passes| {
            Some(EnergySpan { joules, ns: ms * 1_000_000, passes, spans: 1 })
        };
        let mut line = measurement(0, &[10.0]);
        line.energy = Some(EnergySample {
            source: "rapl".into(),
            meter: "package-0".into(),
            shortest_span_ns: 20_000_000,
            idle_w: Some(4.0),
            load: span(12.0, 1000, 1),
            prefill: span(40.0, 2000, 2),
            decode: span(9.0, 500, 10),
        });
        line
    }

    fn change(change: fn(&mut EnergySample)) -> Measurement {
        let mut line = line();
        change(line.energy.as_mut().unwrap());
        line
    }

    #[test]
    fn joules_are_per_pass_and_above_idle() {
        let energy = energy(&[&line()]).unwrap();
        assert_eq!(energy.load, Some(8.0));
        assert_eq!(energy.prefill, Some(16.0));
        assert!((energy.per_token.unwrap() - 0.7).abs() < 1e-12);
        assert_eq!(energy.with_idle.prefill, Some(20.0));
        assert_eq!((energy.idle_w, energy.source.as_str()), (4.0, "rapl"));
        assert_eq!(energy_warning(&[&line()]), None);
    }

    #[test]
    fn what_the_meter_cannot_resolve_is_not_reported() {
        let line = change(|energy| energy.shortest_span_ns = 600_000_000);
        let energy = energy(&[&line]).unwrap();
        assert_eq!((energy.prefill, energy.per_token), (Some(16.0), None));
        assert!(energy_warning(&[&line]).unwrap().contains("too short for the meter `rapl`"));
    }

    #[test]
    fn less_than_idle_is_no_energy() {
        let line = change(|energy| energy.idle_w = Some(30.0));
        let energy = energy(&[&line]).unwrap();
        assert_eq!(energy.prefill, None);
        assert_eq!(energy.with_idle.prefill, Some(20.0));
        assert!(energy_warning(&[&line]).unwrap().contains("close other programs"));
    }

    #[test]
    fn without_idle_power_nothing_is_said() {
        let line = change(|energy| energy.idle_w = None);
        assert_eq!(energy(&[&line]), None);
        assert!(energy_warning(&[&line]).unwrap().contains("idle power"));
        let without = measurement(0, &[10.0]);
        assert_eq!((energy(&[&without]), energy_warning(&[&without])), (None, None));
    }

    #[test]
    fn a_table_only_where_something_has_energy() {
        let reports = crate::summarise(&[line()]);
        let key = |_: &MeasureReport| ["m", "q", "1", "2", "3"].map(str::to_owned);
        let sheet = energy_sheet(&reports, &[], key).unwrap();
        let text = sheet.to_table();
        assert!(
            text.contains("meter: rapl (package-0); idle 4 W") || text.contains("idle 4.00 W"),
            "{text}"
        );
        let without = crate::summarise(&[measurement(0, &[10.0])]);
        assert!(energy_sheet(&without, &[], key).is_none());
    }
}
