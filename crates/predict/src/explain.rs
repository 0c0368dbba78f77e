//! How the time of an operation comes about: its summands, and what was measured near it.

use foretoken_spec::{MeasuredKernel, NearestKernel, OpKind, OpTerm, Phase};

use crate::predictor::coefficient;
use crate::tally::distance;
use crate::{OpSeconds, Predictor};

impl Predictor<'_> {
    /// The sum that the time of an operation is.
    pub(crate) fn summands(&self, phase: Phase, op: &OpSeconds) -> Vec<OpTerm> {
        // Softmax and draw are outside the forward pass that a correction is of.
        let is_forward = !matches!(op.cost.op, OpKind::Softmax | OpKind::Sampling);
        let scale = if is_forward { self.correction(phase) } else { 1.0 };
        let stand_in = op.anchor.stand_in(&op.cost);
        let coefficients = self.coefficients(&op.class);
        stand_in
            .features
            .iter()
            .enumerate()
            .map(|(index, (feature, value))| {
                let known = coefficient(coefficients, index, *feature);
                let coefficient = scale * known.map_or(0.0, |c| c.seconds_per_unit);
                OpTerm {
                    feature: feature.name().into(),
                    value: *value,
                    coefficient,
                    unit: feature.coefficient_unit().into(),
                    ms: 1e3 * coefficient * value,
                }
            })
            .collect()
    }

    /// The kernel that was measured nearest to an operation: the one whose features per call
    /// differ least, by the largest of their ratios.
    pub(crate) fn nearest(&self, op: &OpSeconds) -> Option<NearestKernel> {
        let key = op.class.key();
        let term = self.calibration().terms.iter().find(|term| term.class == key)?;
        let stand_in = op.anchor.stand_in(&op.cost);
        let calls = f64::from(stand_in.calls.max(1));
        let ratio = |kernel: &MeasuredKernel| {
            let pairs = stand_in.features.iter().zip(&kernel.features);
            pairs
                .filter(|((_, asked), known)| *asked > 0.0 && **known > 0.0)
                .map(|((_, asked), known)| distance(asked / calls / known))
                .fold(1.0, f64::max)
        };
        let nearest = term.anchors.iter().min_by(|a, b| ratio(a).total_cmp(&ratio(b)))?;
        let fitted: f64 = term
            .features
            .iter()
            .zip(&nearest.features)
            .map(|(f, value)| f.coefficient * value)
            .sum();
        Some(NearestKernel {
            model: nearest.model.clone(),
            op: nearest.op.clone(),
            pass: nearest.pass,
            ratio: ratio(nearest),
            residual: fitted / nearest.seconds - 1.0,
        })
    }
}
