//! What candle's readers cannot honour, found before anything is loaded.

use foretoken_cost::readers::{self, ReaderInfo, Unsupported};
use foretoken_spec::{ModelSpec, Workload};

use crate::RunError;

/// The reader of a model.
pub(crate) fn reader_of(model: &ModelSpec) -> Result<&'static ReaderInfo, RunError> {
    readers::candle_reader(model).map_err(|reason| unsupported(model, reason))
}

fn unsupported(model: &ModelSpec, reason: Unsupported) -> RunError {
    RunError::Unsupported { model: model.name.clone(), reason: Box::new(reason) }
}

/// Refuses a model that candle would not load, or would load and compute wrongly.
///
/// # Errors
/// Architecture, shape, absent tensors, and tensor types.
pub fn check_model(model: &ModelSpec) -> Result<(), RunError> {
    reader_of(model).map(|_| ())
}

/// Refuses a workload that the model's reader cannot run.
///
/// # Errors
/// More tokens in all than the reader's tables hold, or a prompt where it takes none.
pub fn check_workload(model: &ModelSpec, workload: &Workload) -> Result<(), RunError> {
    let Some(info) = readers::of_architecture(&model.shape.architecture) else {
        return check_model(model);
    };
    readers::check_workload(info, &model.shape, workload)
        .map_err(|reason| unsupported(model, reason))
}
