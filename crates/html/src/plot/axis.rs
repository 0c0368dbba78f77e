//! Axes: a range, a scale, and ticks at round numbers.

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Equal differences are equally far.
    Linear,
    /// Equal ratios are equally far.
    Log,
}

/// One axis of a plot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    /// What it measures, with its unit.
    pub label: String,
    /// Its scale.
    pub scale: Scale,
    /// Least and greatest value.
    pub range: (f64, f64),
    /// Values with what is written there.
    pub ticks: Vec<(f64, String)>,
}

/// Most ticks of an axis.
const MOST_TICKS: usize = 8;

impl Axis {
    /// A linear axis over `range` with round ticks.
    pub(crate) fn linear(label: &str, range: (f64, f64), write: impl Fn(f64) -> String) -> Self {
        let range = widened(range);
        let ticks = linear_ticks(range).into_iter().map(|at| (at, write(at))).collect();
        Self { label: label.into(), scale: Scale::Linear, range, ticks }
    }

    /// A logarithmic axis that holds all positive `values`, with room at both ends.
    pub(crate) fn log(
        label: &str,
        values: impl IntoIterator<Item = f64>,
        write: impl Fn(f64) -> String,
    ) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.into_iter().filter(|v| v.is_finite() && *v > 0.0) {
            (low, high) = (low.min(value), high.max(value));
        }
        let range = if low <= high { (low / 1.25, high * 1.25) } else { (1.0, 10.0) };
        let ticks = log_ticks(range).into_iter().map(|at| (at, write(at))).collect();
        Self { label: label.into(), scale: Scale::Log, range, ticks }
    }

    /// One row per name, the first at the top.
    pub(crate) fn rows(names: &[String]) -> Self {
        let n = names.len();
        let ticks = names.iter().enumerate().map(|(i, name)| (row(i, n), short(name))).collect();
        Self {
            label: String::new(),
            scale: Scale::Linear,
            range: (-0.6, n.max(1) as f64 - 0.4),
            ticks,
        }
    }

    /// The place of a value on the scale.
    pub(crate) fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).ln(),
        }
    }
}

/// Where the row `index` of `n` lies on [`Axis::rows`].
pub(crate) fn row(index: usize, n: usize) -> f64 {
    n.saturating_sub(1 + index) as f64
}

/// Longest name beside an axis; the data table has the whole one.
const LONGEST_NAME: usize = 24;

fn short(name: &str) -> String {
    if name.chars().count() <= LONGEST_NAME {
        return name.to_owned();
    }
    let head: String = name.chars().take(LONGEST_NAME - 1).collect();
    format!("{head}…")
}

fn widened((low, high): (f64, f64)) -> (f64, f64) {
    if !(low.is_finite() && high.is_finite()) {
        return (0.0, 1.0);
    }
    if low < high { (low, high) } else { (low - 0.5, low + 0.5) }
}

/// Multiples of the smallest round step that needs no more than [`MOST_TICKS`].
fn linear_ticks((low, high): (f64, f64)) -> Vec<f64> {
    let rough = (high - low) / (MOST_TICKS - 1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Round numbers: 1-2-5 of each decade, or 1-3, or every decade, or fewer, as there is room.
fn log_ticks((low, high): (f64, f64)) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let inside = |v: &f64| (low..=high).contains(v);
    for leads in [&[1.0, 2.0, 3.0, 5.0, 7.0][..], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]] {
        let ticks: Vec<f64> = decades
            .clone()
            .flat_map(|d| leads.iter().map(move |lead| lead * 10f64.powi(d)))
            .filter(inside)
            .collect();
        // Five to a decade stand too close where there is more than one, three where there are more
        // than two.
        let decades_with_room = match leads.len() {
            5 => 1.0,
            3 => 2.0,
            _ => f64::INFINITY,
        };
        if ticks.len() <= MOST_TICKS && (high / low).log10() <= decades_with_room {
            return ticks;
        }
    }
    let every = decades.clone().count() / MOST_TICKS + 1;
    decades.step_by(every).map(|d| 10f64.powi(d)).filter(inside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let written: Vec<String> =
            linear_ticks((-0.31, 0.29)).iter().map(|v| format!("{v:.1}")).collect();
        assert_eq!(written, ["-0.3", "-0.2", "-0.1", "0.0", "0.1", "0.2"]);
        assert_eq!(linear_ticks((0.0, 7.0)), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(log_ticks((8.0, 220.0)), [10.0, 20.0, 50.0, 100.0, 200.0]);
        assert_eq!(log_ticks((1.0, 9.0)), [1.0, 2.0, 3.0, 5.0, 7.0]);
        assert_eq!(log_ticks((0.9, 250.0)), [1.0, 3.0, 10.0, 30.0, 100.0]);
        assert!(log_ticks((1e-9, 1e12)).len() <= MOST_TICKS);
    }

    #[test]
    fn an_axis_without_values_or_without_width_is_still_one() {
        assert_eq!(Axis::log("x", [], |v| v.to_string()).range, (1.0, 10.0));
        let flat = Axis::linear("x", (2.0, 2.0), |v| v.to_string());
        assert_eq!(flat.range, (1.5, 2.5));
        assert!(!flat.ticks.is_empty());
        assert_eq!(Axis::linear("x", (f64::NAN, 1.0), |v| v.to_string()).range, (0.0, 1.0));
    }

    #[test]
    fn the_first_name_is_at_the_top_and_a_long_one_is_cut() {
        let axis = Axis::rows(&["a".into(), "x".repeat(40)]);
        assert_eq!(axis.ticks[0], (1.0, "a".into()));
        assert_eq!(axis.ticks[1].1.chars().count(), LONGEST_NAME);
    }
}
