//! The rows of the regressions: one per observed kernel, features beside seconds.

use foretoken_cost::{Engine, EngineProfile, OpCost, pass_cost, sampling_cost};
use foretoken_observe::Observation;
use foretoken_spec::{ModelSource, ModelSpec, OpKind, Pass, Sampling};

/// One observed kernel of one configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// Name of the model.
    pub model: String,
    /// The pass.
    pub pass: Pass,
    /// The operation, all its calls in a pass.
    pub cost: OpCost,
    /// Observed seconds of all calls of a pass.
    pub seconds: f64,
}

/// One observed configuration with its rows.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// What was observed.
    pub observation: Observation,
    /// The model's tensor table.
    pub model: ModelSpec,
    /// Its kernels; none where the engine shows whole passes only.
    pub rows: Vec<Row>,
    /// The operations of the observed pass, of an engine that shows whole passes only.
    pub whole: Vec<OpCost>,
}

impl Case {
    /// What is held out together in cross-validation: a model, or all mini-models of one shape.
    pub fn group(&self) -> &str {
        if self.is_mini() { &self.model.family } else { &self.model.name }
    }

    /// Whether every operation that a fit would learn from is allowed.
    pub fn is_all(&self, keep: &dyn Fn(&OpCost) -> bool) -> bool {
        self.rows.iter().map(|row| &row.cost).chain(&self.whole).all(keep)
    }

    /// Whether the model is a synthetic one of a calibration's design.
    pub fn is_mini(&self) -> bool {
        self.model.source == ModelSource::Mini
    }
}

/// Pairs every observed kernel with the features of the operation that it is.
pub(crate) fn cases(observations: Vec<Observation>, engine: &EngineProfile) -> Vec<Case> {
    observations
        .into_iter()
        .map(|observation| {
            let model = observation.model.to_spec();
            let pass = observation.kernel_pass;
            let cost = pass_cost(&model, engine, pass);
            let row = |op: &OpCost, seconds: f64| {
                let name = || model.name.clone();
                (seconds > 0.0).then(|| Row { model: name(), pass, cost: *op, seconds })
            };
            let mut rows: Vec<Row> = cost
                .ops
                .iter()
                .filter_map(|op| row(op, kernel_seconds(&observation, op)?))
                .collect();
            // The largest logit is found without a softmax: another draw.
            if observation.sampling == Sampling::Temperature {
                for op in sampling_cost(&model) {
                    let seconds = match op.op {
                        OpKind::Softmax => observation.softmax_seconds,
                        _ => observation.sampling_seconds,
                    };
                    rows.extend(row(&op, seconds));
                }
            }
            let whole = match engine.engine {
                Engine::Candle => Vec::new(),
                Engine::LlamaCpp => pass_cost(&model, engine, observation.pass).ops,
            };
            Case { observation, model, rows, whole }
        })
        .collect()
}

fn kernel_seconds(observation: &Observation, op: &OpCost) -> Option<f64> {
    let matching = observation.kernels.iter().filter(|kernel| {
        kernel.op == op.op && kernel.role == op.role && kernel.tensor_type == op.tensor_type
    });
    let seconds: f64 = matching.map(|kernel| kernel.seconds).sum();
    (seconds > 0.0).then_some(seconds)
}
