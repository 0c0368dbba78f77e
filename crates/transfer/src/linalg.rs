//! Cholesky factors of dense symmetric matrices, by blocks, so that nearly all of the work is in
//! ndarray's matrix product.
//!
//! Formulas: Golub and Van Loan, *Matrix Computations*, 4th edition, sections 3.1 and 4.2.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, s};

/// Rows and columns that are worked on at once.
const BLOCK: usize = 48;

/// The matrix is not positive definite; the row where that showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotPositive(pub usize);

/// The lower triangular L with `L·Lᵀ = a`; only the lower triangle of `a` (n × n) is read.
pub(crate) fn cholesky(mut a: Array2<f64>) -> Result<Array2<f64>, NotPositive> {
    let n = a.nrows();
    let mut start = 0;
    while start < n {
        let end = (start + BLOCK).min(n);
        for i in start..n {
            for j in start..end.min(i + 1) {
                let mut sum = a[[i, j]];
                for k in start..j {
                    sum -= a[[i, k]] * a[[j, k]];
                }
                a[[i, j]] = if i > j {
                    sum / a[[j, j]]
                } else if sum > 0.0 && sum.is_finite() {
                    sum.sqrt()
                } else {
                    return Err(NotPositive(i));
                };
            }
        }
        let panel = a.slice(s![end.., start..end]).to_owned();
        let mut rest = a.slice_mut(s![end.., end..]);
        general_mat_mul(-1.0, &panel, &panel.t(), 1.0, &mut rest);
        start = end;
    }
    for i in 0..n {
        a.slice_mut(s![i, i + 1..]).fill(0.0);
    }
    Ok(a)
}

/// `L⁻¹` of a lower triangular `L` (n × n).
pub(crate) fn inverse_lower(lower: &Array2<f64>) -> Array2<f64> {
    let n = lower.nrows();
    let mut inverse = Array2::<f64>::eye(n);
    let mut start = 0;
    while start < n {
        let end = (start + BLOCK).min(n);
        let (done, mut block) = inverse.multi_slice_mut((s![..start, ..], s![start..end, ..]));
        general_mat_mul(-1.0, &lower.slice(s![start..end, ..start]), &done, 1.0, &mut block);
        for i in start..end {
            for k in start..i {
                let factor = lower[[i, k]];
                let (above, mut row) = inverse.multi_slice_mut((s![k, ..], s![i, ..]));
                row.scaled_add(-factor, &above);
            }
            let diagonal = lower[[i, i]];
            inverse.row_mut(i).mapv_inplace(|x| x / diagonal);
        }
        start = end;
    }
    inverse
}

/// `x` with `L·x = b`.
pub(crate) fn solve_lower(lower: &Array2<f64>, b: &Array1<f64>) -> Array1<f64> {
    let mut x = b.clone();
    for i in 0..x.len() {
        let known = lower.slice(s![i, ..i]).dot(&x.slice(s![..i]));
        x[i] = (x[i] - known) / lower[[i, i]];
    }
    x
}

/// `x` with `Lᵀ·x = b`.
pub(crate) fn solve_upper(lower: &Array2<f64>, b: &Array1<f64>) -> Array1<f64> {
    let mut x = b.clone();
    for i in (0..x.len()).rev() {
        x[i] /= lower[[i, i]];
        let (factor, row) = (x[i], lower.slice(s![i, ..i]));
        x.slice_mut(s![..i]).scaled_add(-factor, &row);
    }
    x
}

#[cfg(test)]
mod tests {
    use foretoken_stats::SplitMix64;
    use ndarray::array;

    use super::*;

    #[test]
    fn factor_of_a_hand_computed_matrix() {
        // [[4, 2], [2, 10]] = L·Lᵀ with L = [[2, 0], [1, 3]].
        let lower = cholesky(array![[4.0, 99.0], [2.0, 10.0]]).unwrap();
        assert_eq!(lower, array![[2.0, 0.0], [1.0, 3.0]]);
        assert_eq!(solve_lower(&lower, &array![2.0, 7.0]), array![1.0, 2.0]);
        assert_eq!(solve_upper(&lower, &array![4.0, 6.0]), array![1.0, 2.0]);
        assert_eq!(inverse_lower(&lower), array![[0.5, 0.0], [-1.0 / 6.0, 1.0 / 3.0]]);
    }

    #[test]
    fn a_matrix_that_is_not_positive_is_refused_with_its_row() {
        assert_eq!(cholesky(array![[1.0, 2.0], [2.0, 1.0]]), Err(NotPositive(1)));
        assert_eq!(cholesky(array![[f64::NAN]]), Err(NotPositive(0)));
    }

    #[test]
    fn blocks_agree_with_the_definition() {
        // More rows than a block, from a fixed seed: A = B·Bᵀ + n·I is positive definite.
        let n = 2 * BLOCK + 7;
        let mut random = SplitMix64::new(7);
        let b = Array2::from_shape_fn((n, n), |_| random.below(1000) as f64 / 1000.0 - 0.5);
        let a = b.dot(&b.t()) + Array2::<f64>::eye(n) * n as f64;
        let lower = cholesky(a.clone()).unwrap();
        let inverse = inverse_lower(&lower);
        let product = lower.dot(&lower.t()) - &a;
        assert!(product.iter().all(|x| x.abs() < 1e-9));
        let identity = inverse.dot(&lower) - Array2::<f64>::eye(n);
        assert!(identity.iter().all(|x| x.abs() < 1e-9));
        let x = Array1::from_shape_fn(n, |i| i as f64);
        let solved = solve_upper(&lower, &solve_lower(&lower, &a.dot(&x)));
        assert!((solved - x).iter().all(|d| d.abs() < 1e-8));
    }
}
