//! Gaussian processes over a finite set of rows: conditioning on some, and leaving some out.
//!
//! A mixed model with normal random effects is such a process: its covariance is the sum of the
//! covariances of the effects. Conditioning is exact, so a prediction, a new row of a device and
//! a device left out are one formula. Source: Rasmussen and Williams, *Gaussian Processes for
//! Machine Learning* (2006), equations 2.25, 2.26 and 5.12.

use ndarray::{Array1, Array2, Axis, s};

use crate::linalg::{NotPositive, cholesky, inverse_lower, solve_lower, solve_upper};

/// Mean and covariance of some rows given the others.
#[derive(Debug, Clone)]
pub(crate) struct Conditional {
    /// The rows, as indices.
    pub rows: Vec<usize>,
    /// Their means (n).
    pub mean: Array1<f64>,
    /// Their covariance (n × n).
    pub covariance: Array2<f64>,
}

/// A process conditioned on rows.
#[derive(Debug, Clone)]
pub(crate) struct Posterior {
    /// L of the rows' covariance.
    lower: Array2<f64>,
    /// Covariance⁻¹ · y.
    weights: Array1<f64>,
}

impl Posterior {
    /// From the covariance of the rows (n × n, noise included) and their values (n).
    pub fn new(covariance: Array2<f64>, y: &Array1<f64>) -> Result<Self, NotPositive> {
        let lower = cholesky(covariance)?;
        let weights = solve_upper(&lower, &solve_lower(&lower, y));
        Ok(Self { lower, weights })
    }

    /// Mean and variance at a point with covariance `cross` (n) to the rows and `prior` to itself.
    pub fn at(&self, cross: &Array1<f64>, prior: f64) -> (f64, f64) {
        let half = solve_lower(&self.lower, cross);
        (cross.dot(&self.weights), (prior - half.dot(&half)).max(0.0))
    }
}

/// Every group given all rows of the other groups, from one factorisation: with `K⁻¹` the inverse
/// of the covariance of all rows, the covariance of group g is `(K⁻¹[g, g])⁻¹` and its mean
/// `y[g] − (K⁻¹[g, g])⁻¹ (K⁻¹ y)[g]`. `groups` lists the rows of each.
pub(crate) fn leave_groups_out(
    covariance: Array2<f64>,
    y: &Array1<f64>,
    groups: &[Vec<usize>],
) -> Result<Vec<Conditional>, NotPositive> {
    let half = inverse_lower(&cholesky(covariance)?);
    let weights = half.t().dot(&half.dot(y));
    groups.iter().map(|rows| leave_out(&half, &weights, y, rows)).collect()
}

fn leave_out(
    half: &Array2<f64>,
    weights: &Array1<f64>,
    y: &Array1<f64>,
    rows: &[usize],
) -> Result<Conditional, NotPositive> {
    // L⁻¹ is lower triangular: its columns are zero above the first row of the group.
    let first = rows.iter().copied().min().unwrap_or(0);
    let columns = half.slice(s![first.., ..]).select(Axis(1), rows);
    let covariance = inverse(columns.t().dot(&columns))?;
    let mean = y.select(Axis(0), rows) - covariance.dot(&weights.select(Axis(0), rows));
    Ok(Conditional { rows: rows.to_vec(), mean, covariance })
}

fn inverse(a: Array2<f64>) -> Result<Array2<f64>, NotPositive> {
    let half = inverse_lower(&cholesky(a)?);
    Ok(half.t().dot(&half))
}

impl Conditional {
    /// The rows that are not `given`, once these are known too; `given` are positions in `rows`
    /// and `y` the values of all rows of the process.
    pub fn given(&self, given: &[usize], y: &Array1<f64>) -> Result<Self, NotPositive> {
        let rest: Vec<usize> = (0..self.rows.len()).filter(|i| !given.contains(i)).collect();
        let block =
            |a: &[usize], b: &[usize]| self.covariance.select(Axis(0), a).select(Axis(1), b);
        let known: Vec<usize> = given.iter().map(|&i| self.rows[i]).collect();
        let surprise = y.select(Axis(0), &known) - self.mean.select(Axis(0), given);
        let cross = block(&rest, given);
        let gain = cross.dot(&inverse(block(given, given))?);
        Ok(Self {
            rows: rest.iter().map(|&i| self.rows[i]).collect(),
            mean: self.mean.select(Axis(0), &rest) + gain.dot(&surprise),
            covariance: block(&rest, &rest) - gain.dot(&cross.t()),
        })
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    /// Three rows: a shared effect of variance 1 and noise of variance 0.5 each.
    fn covariance() -> Array2<f64> {
        Array2::from_shape_fn((3, 3), |(i, j)| if i == j { 1.5 } else { 1.0 })
    }

    #[test]
    fn one_row_pulls_a_prediction_by_its_share_of_the_variance() {
        // One row of value 3 with covariance 1 to the point and variance 1.5: mean 2, variance 1/3.
        let posterior = Posterior::new(array![[1.5]], &array![3.0]).unwrap();
        let (mean, variance) = posterior.at(&array![1.0], 1.0);
        assert!((mean - 2.0).abs() < 1e-12 && (variance - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_group_left_out_is_what_conditioning_on_the_others_gives() {
        let y = array![1.0, 2.0, 6.0];
        let out = leave_groups_out(covariance(), &y, &[vec![0, 1], vec![2]]).unwrap();
        // Row 2 given rows 0 and 1 (mean of two, variance of the mean 0.25): 1.25⁻¹ · 1.5 = 1.2.
        assert!((out[1].mean[0] - 1.2).abs() < 1e-12);
        assert!((out[1].covariance[[0, 0]] - (1.5 - 1.0 / 1.25)).abs() < 1e-12);
        // Rows 0 and 1 given row 2 alone: 6 / 1.5 = 4 each.
        assert!((out[0].mean[0] - 4.0).abs() < 1e-12 && (out[0].mean[1] - 4.0).abs() < 1e-12);
    }

    #[test]
    fn a_row_given_back_makes_the_group_what_it_is_with_it() {
        let y = array![1.0, 2.0, 6.0];
        let out = leave_groups_out(covariance(), &y, &[vec![0, 1]]).unwrap();
        let with_first = out[0].given(&[0], &y).unwrap();
        let alone = leave_groups_out(covariance(), &y, &[vec![1]]).unwrap();
        assert_eq!(with_first.rows, [1]);
        assert!((with_first.mean[0] - alone[0].mean[0]).abs() < 1e-12);
        let both = (with_first.covariance[[0, 0]], alone[0].covariance[[0, 0]]);
        assert!((both.0 - both.1).abs() < 1e-12);
    }
}
