//! Non-negative least squares by an active set around linfa-linear's ordinary least squares.
//!
//! Lawson and Hanson, *Solving Least Squares Problems*, 1974, chapter 23; the unconstrained
//! sub-problems go to [`LinearRegression`]. Columns are scaled to unit length first: features
//! differ by twelve orders of magnitude. linfa's OLS ignores sample weights, so callers scale
//! rows themselves (see [`relative`]).

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2};

/// A solved regression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Solution {
    /// Coefficients, none negative, in the order of the columns.
    pub coefficients: Vec<f64>,
    /// Columns that could not be told apart from the others and were left at zero.
    pub collinear: Vec<usize>,
}

/// Gradient below which a column does not improve the fit any more, relative to the target.
const TOLERANCE: f64 = 1e-10;
/// Share of a column that must be independent of the columns already chosen.
const INDEPENDENCE: f64 = 1e-6;

/// Scales rows by 1/observed, so that squares of relative errors are minimised.
pub(crate) fn relative(features: &[Vec<f64>], observed: &[f64]) -> (Vec<Vec<f64>>, Vec<f64>) {
    let rows = features
        .iter()
        .zip(observed)
        .map(|(row, y)| row.iter().map(|value| value / y).collect())
        .collect();
    (rows, vec![1.0; observed.len()])
}

/// `min ‖A x − b‖²` with `x ≥ 0`; `rows` are the rows of A.
pub(crate) fn non_negative_least_squares(rows: &[Vec<f64>], target: &[f64]) -> Solution {
    let n_columns = rows.first().map_or(0, Vec::len);
    let norms: Vec<f64> = (0..n_columns)
        .map(|j| rows.iter().map(|row| row[j] * row[j]).sum::<f64>().sqrt())
        .collect();
    let columns: Vec<Vec<f64>> = (0..n_columns)
        .map(|j| {
            let norm = if norms[j] > 0.0 { norms[j] } else { 1.0 };
            rows.iter().map(|row| row[j] / norm).collect()
        })
        .collect();
    let collinear = dependent_columns(&columns, &norms);
    let scaled = active_set(&columns, &norms, &collinear, target);
    let coefficients = scaled
        .iter()
        .zip(&norms)
        .map(|(x, norm)| if *norm > 0.0 { x / norm } else { 0.0 })
        .collect();
    Solution { coefficients, collinear }
}

/// Columns that the ones before them span: rank deficiency, by name.
fn dependent_columns(columns: &[Vec<f64>], norms: &[f64]) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    let mut dependent = Vec::new();
    for j in (0..columns.len()).filter(|j| norms[*j] > 0.0) {
        if kept.len() < columns[j].len() && independent(columns, &kept, j) {
            kept.push(j);
        } else {
            dependent.push(j);
        }
    }
    dependent
}

fn active_set(
    columns: &[Vec<f64>],
    norms: &[f64],
    dependent: &[usize],
    target: &[f64],
) -> Vec<f64> {
    let n = columns.len();
    let mut x = vec![0.0; n];
    let mut passive: Vec<usize> = Vec::new();
    let mut barred: Vec<bool> = (0..n).map(|j| dependent.contains(&j)).collect();
    let target_norm = dot(target, target).sqrt();
    // Each round adds a column for good or bars it; Lawson and Hanson's bound is 3n in practice.
    for _ in 0..3 * n.max(1) {
        let residual = residual(columns, &x, target);
        let entering = (0..n)
            .filter(|j| !passive.contains(j) && !barred[*j] && norms[*j] > 0.0)
            .map(|j| (j, dot(&columns[j], &residual)))
            .filter(|(_, gradient)| *gradient > TOLERANCE * target_norm)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        let Some((entering, _)) = entering else { break };
        passive.push(entering);
        passive.sort_unstable();
        if !settle(columns, target, &mut passive, &mut x) {
            passive.retain(|j| *j != entering);
            x[entering] = 0.0;
            barred[entering] = true;
        }
    }
    x
}

/// Solves on the passive set, moving back to the boundary and dropping columns that would turn
/// negative, until none does. `false` where the sub-problem could not be solved.
fn settle(columns: &[Vec<f64>], target: &[f64], passive: &mut Vec<usize>, x: &mut [f64]) -> bool {
    while !passive.is_empty() {
        let Some(solution) = ordinary_least_squares(columns, passive, target) else {
            return false;
        };
        if solution.iter().all(|value| *value > 0.0) {
            x.iter_mut().for_each(|value| *value = 0.0);
            for (j, value) in passive.iter().zip(solution) {
                x[*j] = value;
            }
            return true;
        }
        let step = passive
            .iter()
            .zip(&solution)
            .filter(|(_, value)| **value <= 0.0)
            .map(|(j, value)| x[*j] / (x[*j] - value))
            .fold(1.0, f64::min);
        for (j, value) in passive.iter().zip(&solution) {
            x[*j] += step * (value - x[*j]);
        }
        let before = passive.len();
        passive.retain(|j| x[*j] > TOLERANCE);
        if passive.len() == before {
            return false;
        }
        (0..x.len()).filter(|j| !passive.contains(j)).for_each(|j| x[j] = 0.0);
    }
    true
}

/// linfa's OLS on some of the columns, without intercept.
fn ordinary_least_squares(
    columns: &[Vec<f64>],
    chosen: &[usize],
    target: &[f64],
) -> Option<Vec<f64>> {
    let records =
        Array2::from_shape_fn((target.len(), chosen.len()), |(i, j)| columns[chosen[j]][i]);
    let dataset = Dataset::new(records, Array1::from(target.to_vec()));
    let model = LinearRegression::new().with_intercept(false).fit(&dataset).ok()?;
    let params = model.params().to_vec();
    params.iter().all(|value| value.is_finite()).then_some(params)
}

/// Whether a unit column has a part that the chosen ones do not span.
fn independent(columns: &[Vec<f64>], chosen: &[usize], candidate: usize) -> bool {
    if chosen.is_empty() {
        return true;
    }
    let column = &columns[candidate];
    let Some(weights) = ordinary_least_squares(columns, chosen, column) else { return false };
    let mut rest = column.clone();
    for (j, weight) in chosen.iter().zip(weights) {
        rest.iter_mut().zip(&columns[*j]).for_each(|(r, c)| *r -= weight * c);
    }
    dot(&rest, &rest).sqrt() > INDEPENDENCE
}

fn residual(columns: &[Vec<f64>], x: &[f64], target: &[f64]) -> Vec<f64> {
    let mut rest = target.to_vec();
    for (column, weight) in columns.iter().zip(x) {
        rest.iter_mut().zip(column).for_each(|(r, c)| *r -= weight * c);
    }
    rest
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn positive_coefficients_are_recovered_exactly() {
        let rows: Vec<Vec<f64>> =
            (1..20).map(|i| vec![1.0, f64::from(i) * 1e9, f64::from(i * i) * 1e6]).collect();
        let target: Vec<f64> = rows.iter().map(|r| 5e-6 + 2e-11 * r[1] + 3e-12 * r[2]).collect();
        let solution = non_negative_least_squares(&rows, &target);
        for (found, planted) in solution.coefficients.iter().zip([5e-6, 2e-11, 3e-12]) {
            assert!((found / planted - 1.0).abs() < 1e-6, "{found} for {planted}");
        }
    }

    #[test]
    fn a_column_that_wants_to_be_negative_stays_at_zero() {
        // y = 10 − x has its best non-negative fit with slope 0.
        let rows: Vec<Vec<f64>> = (0..9).map(|i| vec![1.0, f64::from(i)]).collect();
        let target: Vec<f64> = (0..9).map(|i| 10.0 - f64::from(i)).collect();
        let solution = non_negative_least_squares(&rows, &target);
        assert!((solution.coefficients[0] - 6.0).abs() < 1e-9);
        assert_eq!(solution.coefficients[1], 0.0);
    }

    #[test]
    fn a_column_that_repeats_another_is_named() {
        let rows: Vec<Vec<f64>> =
            (1..9).map(|i| vec![f64::from(i), 2.0 * f64::from(i), 1.0]).collect();
        let target: Vec<f64> = (1..9).map(|i| 3.0 * f64::from(i) + 1.0).collect();
        let solution = non_negative_least_squares(&rows, &target);
        let fitted: Vec<f64> = rows
            .iter()
            .map(|r| r.iter().zip(&solution.coefficients).map(|(a, b)| a * b).sum())
            .collect();
        for (f, t) in fitted.iter().zip(&target) {
            assert!((f - t).abs() < 1e-9);
        }
        assert_eq!(solution.collinear, [1]);
        assert_eq!(solution.coefficients[1], 0.0);
    }

    #[test]
    fn no_rows_have_no_coefficients() {
        assert!(non_negative_least_squares(&[], &[]).coefficients.is_empty());
    }

    #[test]
    fn fewer_rows_than_columns_still_give_an_answer() {
        let rows = vec![vec![1.0, 5.0, 7.0]];
        let solution = non_negative_least_squares(&rows, &[2.0]);
        let fitted: f64 = rows[0].iter().zip(&solution.coefficients).map(|(a, b)| a * b).sum();
        assert!((fitted - 2.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn the_answer_satisfies_the_optimality_conditions(
            values in proptest::collection::vec(-1.0f64..1.0, 8 * 4),
        ) {
            let rows: Vec<Vec<f64>> = values.chunks(4).map(|c| c[..3].to_vec()).collect();
            let target: Vec<f64> = values.chunks(4).map(|c| c[3]).collect();
            let solution = non_negative_least_squares(&rows, &target);
            // Karush-Kuhn-Tucker: x ≥ 0, gradient ≤ 0 where x = 0, gradient = 0 where x > 0.
            let rest: Vec<f64> = rows.iter().zip(&target)
                .map(|(r, t)| t - dot(r, &solution.coefficients)).collect();
            for j in 0..3 {
                let column: Vec<f64> = rows.iter().map(|r| r[j]).collect();
                let gradient = dot(&column, &rest);
                prop_assert!(solution.coefficients[j] >= 0.0);
                if solution.coefficients[j] > 1e-7 {
                    prop_assert!(gradient.abs() < 1e-6);
                } else if !solution.collinear.contains(&j) {
                    prop_assert!(gradient < 1e-6);
                }
            }
        }
    }
}
