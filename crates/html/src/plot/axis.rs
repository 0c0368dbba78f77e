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
    /// What may be written along it, the densest first: see [`Axis::ticks`].
    choices: Vec<Ticks>,
}

/// Values with what is written there.
type Ticks = Vec<(f64, String)>;

/// Most ticks of an axis.
const MOST_TICKS: usize = 8;
/// Fewer, where the labels of more would stand over each other.
const FEWER_TICKS: [usize; 3] = [5, 3, 2];

impl Axis {
    /// A linear axis over `range` with round ticks.
    pub(crate) fn linear(label: &str, range: (f64, f64), write: impl Fn(f64) -> String) -> Self {
        let range = widened(range);
        let most = std::iter::once(MOST_TICKS).chain(FEWER_TICKS);
        let choices = most.map(|most| written(linear_ticks(range, most), &write)).collect();
        Self { label: label.into(), scale: Scale::Linear, range, choices }
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
        let choices = log_ticks(range).into_iter().map(|ticks| written(ticks, &write)).collect();
        Self { label: label.into(), scale: Scale::Log, range, choices }
    }

    /// One row per name, the first at the top.
    pub(crate) fn rows(names: &[String]) -> Self {
        let n = names.len();
        let ticks = names.iter().enumerate().map(|(i, name)| (row(i, n), short(name))).collect();
        Self {
            label: String::new(),
            scale: Scale::Linear,
            range: (-0.6, n.max(1) as f64 - 0.4),
            choices: vec![ticks],
        }
    }

    /// What is written along an axis of this length: as much as stands apart, where a text takes
    /// `extent` of the length with the space around it. Names of rows are always written.
    pub(crate) fn ticks(&self, length: f64, extent: impl Fn(&str) -> f64) -> &[(f64, String)] {
        let fits = |ticks: &&Ticks| self.stand_apart(ticks, length, &extent);
        self.choices.iter().find(fits).or(self.choices.last()).map_or(&[], Vec::as_slice)
    }

    fn stand_apart(&self, ticks: &Ticks, length: f64, extent: impl Fn(&str) -> f64) -> bool {
        let (first, last) = (self.place(self.range.0), self.place(self.range.1));
        let mut spans: Vec<(f64, f64)> = ticks
            .iter()
            .map(|(value, text)| {
                let centre = (self.place(*value) - first) / (last - first) * length;
                (centre - extent(text) / 2.0, centre + extent(text) / 2.0)
            })
            .collect();
        spans.sort_by(|a, b| a.0.total_cmp(&b.0));
        spans.windows(2).all(|pair| pair[0].1 <= pair[1].0)
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

fn written(ticks: Vec<f64>, write: impl Fn(f64) -> String) -> Ticks {
    ticks.into_iter().map(|at| (at, write(at))).collect()
}

/// Multiples of the smallest round step that needs no more than `most`, at least 2.
fn linear_ticks((low, high): (f64, f64), most: usize) -> Vec<f64> {
    let rough = (high - low) / (most - 1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Round numbers, no more than [`MOST_TICKS`], the densest first: 1-2-5 of each decade and more, or
/// 1-3, or every decade, or fewer.
fn log_ticks((low, high): (f64, f64)) -> Vec<Vec<f64>> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let inside = |v: &f64| (low..=high).contains(v);
    let of_leads = |leads: &[f64]| -> Vec<f64> {
        let of_decade = |d: i32| leads.iter().map(move |lead| lead * 10f64.powi(d));
        decades.clone().flat_map(of_decade).filter(inside).collect()
    };
    let by_leads = [&[1.0, 2.0, 3.0, 5.0, 7.0][..], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
    let every = |n: usize| decades.clone().step_by(n).map(|d| 10f64.powi(d)).filter(inside);
    let by_decades = (2..=decades.clone().count().max(2)).map(|n| every(n).collect());
    let all = by_leads.into_iter().map(of_leads).chain(by_decades);
    all.filter(|ticks: &Vec<f64>| ticks.len() <= MOST_TICKS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let written: Vec<String> =
            linear_ticks((-0.31, 0.29), 8).iter().map(|v| format!("{v:.1}")).collect();
        assert_eq!(written, ["-0.3", "-0.2", "-0.1", "0.0", "0.1", "0.2"]);
        assert_eq!(linear_ticks((0.0, 7.0), 8), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(linear_ticks((0.0, 7.0), 2), [0.0]);
        assert_eq!(log_ticks((8.0, 220.0))[0], [10.0, 20.0, 30.0, 50.0, 70.0, 100.0, 200.0]);
        assert_eq!(log_ticks((8.0, 220.0))[1], [10.0, 20.0, 50.0, 100.0, 200.0]);
        assert_eq!(log_ticks((0.9, 250.0))[0], [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]);
        assert!(log_ticks((1e-9, 1e12)).iter().all(|ticks| ticks.len() <= MOST_TICKS));
    }

    #[test]
    fn labels_that_would_touch_make_room() {
        let axis = Axis::log("error", [0.01, 1.0], |v| format!("{v}"));
        let at_length = |length: f64| -> Vec<f64> {
            axis.ticks(length, |_| 30.0).iter().map(|(at, _)| *at).collect()
        };
        let near = |found: Vec<f64>, expected: &[f64]| {
            let close = found.iter().zip(expected).all(|(a, b)| (a / b - 1.0).abs() < 1e-9);
            assert!(found.len() == expected.len() && close, "{found:?} {expected:?}");
        };
        // The range is 0.008 to 1.25, 2.19 decades: in 400 pixels a decade takes 182, so that 1 and 2
        // are 55 apart and 5 and 10 too; in 200 they are 27 apart, and 1 and 3 are 44.
        near(at_length(400.0), &[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]);
        near(at_length(200.0), &[0.01, 0.03, 0.1, 0.3, 1.0]);
        near(at_length(100.0), &[0.01, 0.1, 1.0]);
        near(at_length(10.0), &[0.1]);
    }

    #[test]
    fn an_axis_without_values_or_without_width_is_still_one() {
        assert_eq!(Axis::log("x", [], |v| v.to_string()).range, (1.0, 10.0));
        let flat = Axis::linear("x", (2.0, 2.0), |v| v.to_string());
        assert_eq!(flat.range, (1.5, 2.5));
        assert!(!flat.ticks(400.0, |_| 30.0).is_empty());
        assert_eq!(Axis::linear("x", (f64::NAN, 1.0), |v| v.to_string()).range, (0.0, 1.0));
    }

    #[test]
    fn the_first_name_is_at_the_top_and_a_long_one_is_cut() {
        let axis = Axis::rows(&["a".into(), "x".repeat(40)]);
        let ticks = axis.ticks(1.0, |_| 30.0);
        assert_eq!(ticks[0], (1.0, "a".into()));
        assert_eq!(ticks[1].1.chars().count(), LONGEST_NAME);
    }
}
