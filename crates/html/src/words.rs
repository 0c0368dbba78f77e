//! The same words for the same things in every section.

use foretoken_report::units;
use foretoken_spec::{GroupError, HoldOut, Phase, ValidationCase};

use crate::markup::Key;
use crate::plot::Shape;
use crate::theme::Ink;

/// Colour of a phase in every plot.
pub(crate) fn phase_ink(phase: Phase) -> Ink {
    Ink::Series(phase as usize)
}

/// Shape of a phase in every plot.
pub(crate) fn phase_shape(phase: Phase) -> Shape {
    Shape::series(phase as usize)
}

/// The legend's entry of a phase.
pub(crate) fn phase_key(phase: Phase) -> (Key, String) {
    (Key::Point(phase_shape(phase), phase_ink(phase)), phase.name().into())
}

/// The phases of some values, each once, in their order.
pub(crate) fn phases(of: impl IntoIterator<Item = Phase>) -> Vec<Phase> {
    let set: std::collections::BTreeSet<Phase> = of.into_iter().collect();
    set.into_iter().collect()
}

/// What kind of group was held out.
pub(crate) fn hold_out(hold_out: HoldOut) -> String {
    hold_out.name().replace('_', " ")
}

/// A setup (device, engine, threads, build) by its device alone.
pub(crate) fn setup(setup: &str) -> &str {
    setup.split(' ').next().unwrap_or(setup)
}

/// A title with the setup behind it, where several are reported.
pub(crate) fn titled(title: String, of: Option<&str>) -> String {
    of.map_or_else(|| title.clone(), |name| format!("{title} · {}", setup(name)))
}

/// The setups of some groups in their order; one without a name where there is only one.
pub(crate) fn setups(groups: &[GroupError]) -> Vec<Option<&str>> {
    let mut setups: Vec<Option<&str>> = Vec::new();
    for group in groups {
        let name = group.group.as_deref();
        if !setups.contains(&name) {
            setups.push(name);
        }
    }
    setups
}

/// What was held out, with the setup where several are reported.
pub(crate) fn held_out(group: &GroupError) -> String {
    match &group.group {
        Some(name) => format!("{} · {}", hold_out(group.hold_out), setup(name)),
        None => hold_out(group.hold_out),
    }
}

/// What a hold-out leaves out, in the plural.
pub(crate) fn held_out_things(hold_out: HoldOut) -> String {
    match hold_out.name() {
        "family" => "families of models".into(),
        "quant" => "quantizations".into(),
        "length" => "prompt lengths".into(),
        "all_models" => "models, all at once,".into(),
        "frontier" => "the largest models".into(),
        other => format!("{other}s"),
    }
}

/// A naive method in words; a new one by its own name.
pub(crate) fn baseline(name: &str) -> String {
    match name {
        "bytes_over_bandwidth" => "bytes ÷ bandwidth".into(),
        "edgeprofiler" => "EdgeProfiler's formula".into(),
        "nearest_model_scaled" => "nearest model, scaled by bytes".into(),
        "roofline" => "roofline at measured peaks".into(),
        "roofline_fixed_efficiency" => "roofline, fixed efficiency".into(),
        other => other.replace('_', " "),
    }
}

/// The naive method with the smallest median error, among those that answered the most cases.
pub(crate) fn best_baseline(group: &GroupError) -> Option<(&str, f64)> {
    let most = group.baselines.values().map(|b| b.n).max()?;
    group
        .baselines
        .iter()
        .filter(|(_, b)| b.n == most)
        .min_by(|a, b| a.1.mdape.total_cmp(&b.1.mdape))
        .map(|(name, b)| (name.as_str(), b.mdape))
}

/// The pass of a case: `128 tokens`, `1 token at 512`.
pub(crate) fn pass(n_tokens: u32, kv_len: u32) -> String {
    let tokens = if n_tokens == 1 { "1 token".into() } else { format!("{n_tokens} tokens") };
    if kv_len == 0 { tokens } else { format!("{tokens} at {kv_len}") }
}

/// A case in one line.
pub(crate) fn case(case: &ValidationCase) -> String {
    let device = case.group.as_deref().map_or_else(String::new, |s| format!("{}: ", setup(s)));
    format!(
        "{device}{} {} · {} of {}: predicted {} ({} – {}), observed {}, {}",
        case.model,
        case.quant,
        case.phase.name(),
        pass(case.n_tokens, case.kv_len),
        units::duration_ms(case.predicted_ms),
        units::ms(case.lower_ms),
        units::ms(case.upper_ms),
        units::duration_ms(case.observed_ms),
        units::signed_percent(case.error),
    )
}

/// Whether the observation lies in the interval of the prediction.
pub(crate) fn is_inside(case: &ValidationCase) -> bool {
    (case.lower_ms..=case.upper_ms).contains(&case.observed_ms)
}

/// `a, b and c`.
pub(crate) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

/// `1 model`, `3 models`.
pub(crate) fn count(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// A time of RFC 3339 in UTC, to the minute: `2026-11-20 14:53 UTC`; another as it is.
pub(crate) fn time(time: &str) -> String {
    match (time.get(..10), time.get(10..11), time.get(11..16), time.ends_with('Z')) {
        (Some(day), Some("T"), Some(minute), true) => format!("{day} {minute} UTC"),
        _ => time.into(),
    }
}

/// A percentage for the tick of an axis: no more digits than it needs.
pub(crate) fn tick_percent(fraction: f64) -> String {
    let value = 100.0 * fraction;
    let text = if value.abs() < 0.05 {
        "0".into()
    } else {
        format!("{}", (value * 100.0).round() / 100.0)
    };
    format!("{} %", text.replace('-', "−"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_counts_read_as_sentences() {
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
        assert_eq!(list(&[]), "");
        assert_eq!((count(1, "load"), count(2, "load")), ("1 load".into(), "2 loads".into()));
        assert_eq!(pass(1, 512), "1 token at 512");
        assert_eq!(time("2026-11-20T14:53:25Z"), "2026-11-20 14:53 UTC");
        assert_eq!(time("yesterday"), "yesterday");
        assert_eq!(tick_percent(-0.1), "−10 %");
        assert_eq!(tick_percent(0.025), "2.5 %");
    }
}
