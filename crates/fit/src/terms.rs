//! The regression of every kernel class.

use std::collections::BTreeMap;

use foretoken_cost::{Feature, KernelClass};
use foretoken_spec::{FeatureCoefficient, MeasuredKernel, TermFit};
use foretoken_stats::median;

use crate::rows::Row;
use crate::solver::{non_negative_least_squares, relative};

/// Coefficients of one kernel class.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Term {
    pub class: KernelClass,
    pub features: Vec<Feature>,
    pub coefficients: Vec<f64>,
    pub collinear: Vec<Feature>,
}

/// Fits every class that occurs in the rows.
pub(crate) fn fit_terms<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<Term> {
    let mut classes: BTreeMap<KernelClass, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        classes.entry(row.cost.class).or_default().push(row);
    }
    classes.into_iter().map(|(class, rows)| fit_class(class, &rows)).collect()
}

fn fit_class(class: KernelClass, rows: &[&Row]) -> Term {
    let features: Vec<Feature> =
        rows.first().map_or(Vec::new(), |row| row.cost.features.iter().map(|(f, _)| *f).collect());
    let matrix: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| row.cost.features.iter().map(|(_, value)| *value).collect())
        .collect();
    let observed: Vec<f64> = rows.iter().map(|row| row.seconds).collect();
    let (scaled, target) = relative(&matrix, &observed);
    let solution = non_negative_least_squares(&scaled, &target);
    let collinear = solution.collinear.iter().map(|j| features[*j]).collect();
    Term { class, features, coefficients: solution.coefficients, collinear }
}

impl Term {
    /// Predicted seconds of a row of this class.
    fn seconds(&self, row: &Row) -> f64 {
        row.cost.features.iter().zip(&self.coefficients).map(|((_, value), c)| value * c).sum()
    }

    /// The form that a calibration stores, without anchors.
    pub fn describe<'a>(
        &self,
        rows: impl IntoIterator<Item = &'a Row>,
        std_errors: Option<&Vec<f64>>,
    ) -> TermFit {
        let rows: Vec<&Row> = rows.into_iter().filter(|row| row.cost.class == self.class).collect();
        let residuals: Vec<f64> =
            rows.iter().map(|row| (self.seconds(row) / row.seconds - 1.0).abs()).collect();
        let features = self
            .features
            .iter()
            .enumerate()
            .map(|(j, feature)| {
                let values = rows
                    .iter()
                    .map(|row| row.cost.features[j].1 / f64::from(row.cost.calls.max(1)));
                FeatureCoefficient {
                    feature: feature.name().to_owned(),
                    unit: feature.coefficient_unit().to_owned(),
                    coefficient: self.coefficients[j],
                    std_error: std_errors.map(|errors| errors[j]),
                    range: values
                        .fold([f64::INFINITY, 0.0], |[low, high], v| [low.min(v), high.max(v)]),
                }
            })
            .collect();
        TermFit {
            class: self.class.key(),
            features,
            n_observations: rows.len() as u32,
            residual_mdape: median(&residuals).unwrap_or(0.0),
            anchors: Vec::new(),
        }
    }
}

/// Rows that a calibration keeps of each class.
const ANCHORS: usize = 12;

/// Rows evenly spaced by their time per call, the shortest and the longest among them.
pub(crate) fn anchors(rows: &[&Row]) -> Vec<MeasuredKernel> {
    let per_call = |row: &Row, value: f64| value / f64::from(row.cost.calls.max(1));
    let mut sorted = rows.to_vec();
    sorted.sort_by(|a, b| per_call(a, a.seconds).total_cmp(&per_call(b, b.seconds)));
    let last = sorted.len().saturating_sub(1);
    let mut kept: Vec<usize> = (0..ANCHORS).map(|i| i * last / (ANCHORS - 1)).collect();
    kept.dedup();
    kept.into_iter()
        .filter_map(|index| sorted.get(index))
        .map(|row| MeasuredKernel {
            model: row.model.clone(),
            op: row.cost.name(),
            pass: row.pass,
            features: row.cost.features.iter().map(|(_, value)| per_call(row, *value)).collect(),
            seconds: per_call(row, row.seconds),
        })
        .collect()
}
