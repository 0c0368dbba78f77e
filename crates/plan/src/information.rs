//! How well the coefficients would be known after some rows: Bayesian linear regression, whose
//! covariance does not depend on what is observed.
//!
//! Rows are relative, as in the fit: features divided by the row's time. A row measured in `k`
//! fresh loads has the variance `b² + s²/k`: `b` is what the linear form misses of that shape and
//! does not go away, `s` is the scatter of loads. The prior gives each feature a share of a row's
//! time of 0 ± 100 %. Adding a row of weight `w` to the covariance `P` of a class is one step of
//! Sherman and Morrison: `P −= w (P x)(P x)ᵀ / (1 + w xᵀ P x)`.
//!
//! The expected error of a pass is the square root of the sum over classes of `gᵀ P g`, with `g`
//! the class's features in that pass divided by the time of the pass (I-optimality: Atkinson,
//! Donev and Tobias, *Optimum Experimental Designs*, 2007, chapter 10).

use std::collections::BTreeMap;

use foretoken_cost::{KernelClass, OpCost};

/// Variance of one row's time, relative, after `k` loads.
pub(crate) fn variance(lack_of_fit: f64, scatter: f64, loads: u32) -> f64 {
    lack_of_fit * lack_of_fit + scatter * scatter / f64::from(loads.max(1))
}

/// Relative features of one operation: what a regression row holds.
pub(crate) fn relative(op: &OpCost, seconds: f64) -> Vec<f64> {
    op.features.iter().map(|(_, value)| value / seconds).collect()
}

/// Features of each class in one pass, divided by the time of the pass.
pub(crate) type Gradient = BTreeMap<KernelClass, Vec<f64>>;

/// The gradient of a pass whose operations take these times.
pub(crate) fn gradient(ops: &[OpCost], seconds: &dyn Fn(&OpCost) -> f64) -> Gradient {
    let total: f64 = ops.iter().map(seconds).sum();
    let mut sum = Gradient::new();
    for op in ops {
        let entry = sum.entry(op.class).or_insert_with(|| vec![0.0; op.features.len()]);
        for (to, (_, value)) in entry.iter_mut().zip(&op.features) {
            *to += value / total;
        }
    }
    sum
}

type Matrix = Vec<Vec<f64>>;

/// What is known of the coefficients of every class that is aimed at.
#[derive(Debug, Clone)]
pub(crate) struct Information {
    classes: BTreeMap<KernelClass, Known>,
}

/// One class.
#[derive(Debug, Clone)]
struct Known {
    /// Covariance `P` of the coefficients.
    covariance: Matrix,
    /// Weighted mean of `g gᵀ` over the targets: the mean of `gᵀ P g` is the sum of its elements
    /// times those of `P`.
    moment: Matrix,
}

impl Information {
    /// Nothing is known but the prior, which is scaled by typical rows of each class.
    pub fn new(targets: &[(Gradient, f64)], typical: &BTreeMap<KernelClass, Vec<f64>>) -> Self {
        let total: f64 = targets.iter().map(|(_, weight)| weight).sum();
        let moment = |class: &KernelClass, n: usize| {
            let mut moment: Option<Matrix> = None;
            for (target, weight) in targets {
                let Some(g) = target.get(class).filter(|g| g.len() == n) else { continue };
                let sum = moment.get_or_insert_with(|| vec![vec![0.0; n]; n]);
                add_product(sum, g, weight / total);
            }
            moment
        };
        let known = |(class, scale): (&KernelClass, &Vec<f64>)| {
            let moment = moment(class, scale.len())?;
            Some((*class, Known { covariance: prior(scale), moment }))
        };
        Self { classes: typical.iter().filter_map(known).collect() }
    }

    /// Adds a row of a class with this weight (one over its variance; negative takes one away).
    pub fn add(&mut self, class: &KernelClass, row: &[f64], weight: f64) {
        let Some(Known { covariance, .. }) = self.classes.get_mut(class) else { return };
        if row.len() != covariance.len() || !row.iter().all(|x| x.is_finite()) {
            return;
        }
        let product: Vec<f64> = covariance.iter().map(|line| dot(line, row)).collect();
        let scale = weight / (1.0 + weight * dot(&product, row));
        add_product(covariance, &product, -scale);
    }

    /// Mean over the targets of the expected variance of their time, and by class.
    pub fn expected_variance(&self) -> (f64, BTreeMap<KernelClass, f64>) {
        let variance = |known: &Known| -> f64 {
            known.covariance.iter().zip(&known.moment).map(|(p, g)| dot(p, g)).sum()
        };
        let by_class: BTreeMap<KernelClass, f64> =
            self.classes.iter().map(|(class, known)| (*class, variance(known))).collect();
        (by_class.values().sum(), by_class)
    }
}

/// Each feature makes up a typical row by 0 ± 100 %.
fn prior(scale: &[f64]) -> Matrix {
    let variance = |j: usize| if scale[j] > 0.0 { scale[j].powi(-2) } else { 0.0 };
    let element = |i: usize, j: usize| if i == j { variance(j) } else { 0.0 };
    (0..scale.len()).map(|i| (0..scale.len()).map(|j| element(i, j)).collect()).collect()
}

/// `matrix += weight · v vᵀ`.
fn add_product(matrix: &mut Matrix, v: &[f64], weight: f64) {
    for (line, left) in matrix.iter_mut().zip(v) {
        for (value, right) in line.iter_mut().zip(v) {
            *value += weight * left * right;
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretoken_spec::OpKind;

    const CLASS: fn() -> KernelClass = || KernelClass::plain(OpKind::Rope, 1, false);

    fn information() -> Information {
        let targets = vec![(Gradient::from([(CLASS(), vec![0.5, 0.5])]), 2.0)];
        Information::new(&targets, &BTreeMap::from([(CLASS(), vec![1.0, 1.0])]))
    }

    #[test]
    fn the_prior_is_a_share_of_one_for_each_feature() {
        // 0.5² · 1 + 0.5² · 1
        assert_eq!(information().expected_variance().0, 0.5);
    }

    #[test]
    fn one_row_by_hand() {
        // P = I − w x xᵀ / (1 + w), x = (1, 0), w = 3: the first variance falls to 1/4.
        let mut information = information();
        information.add(&CLASS(), &[1.0, 0.0], 3.0);
        assert!((information.expected_variance().0 - 0.25 * (0.25 + 1.0)).abs() < 1e-12);
        // What was added can be taken away.
        information.add(&CLASS(), &[1.0, 0.0], -3.0);
        assert!((information.expected_variance().0 - 0.5).abs() < 1e-12);
    }

    #[test]
    fn repeats_help_less_than_other_shapes() {
        let weight = |k| 1.0 / variance(0.03, 0.06, k);
        let (mut again, mut other) = (information(), information());
        again.add(&CLASS(), &[1.0, 0.1], weight(2));
        other.add(&CLASS(), &[1.0, 0.1], weight(1));
        other.add(&CLASS(), &[0.1, 1.0], weight(1));
        assert!(other.expected_variance().0 < 0.1 * again.expected_variance().0);
    }

    #[test]
    fn rows_that_no_target_has_change_nothing() {
        let mut information = information();
        information.add(&KernelClass::plain(OpKind::Host, 1, false), &[1.0, 1.0], 9.0);
        information.add(&CLASS(), &[1.0], 9.0);
        information.add(&CLASS(), &[f64::NAN, 1.0], 9.0);
        assert_eq!(information.expected_variance().0, 0.5);
    }
}
