//! Whether a device has the figures that a prediction needs: everything that lacks, at once.

use foretoken_devices::{NotEnough, Question, require};
use foretoken_spec::{DeviceBackend, DeviceSpec, Phase};
use foretoken_transfer::{Machine, TransferError};

use crate::output::Hinted;

/// Refuses what a device cannot be predicted for.
///
/// # Errors
/// A neural processor, a backend that the device does not run, or all figures that are missing.
pub fn check_figures(
    device: &DeviceSpec,
    backend: DeviceBackend,
    phases: &[Phase],
) -> Result<(), Hinted> {
    if backend == DeviceBackend::Npu {
        let message = "NPUs cannot be predicted: their makers' runtimes share no kernels with \
                       what was measured on other processors";
        let runs = device.backends.iter().find(|other| **other != DeviceBackend::Npu);
        let hint = match runs {
            Some(other) => format!("ask for --backend {other}, which the device also runs"),
            None => "ask for a backend of its processor or graphics processor".into(),
        };
        return Err(Hinted::new(message, hint));
    }
    let question = |phase: &Phase| match phase {
        Phase::Prefill => Question::Prefill,
        _ => Question::Decode,
    };
    let questions: Vec<Question> = phases.iter().map(question).collect();
    let mut missing = match require(device, backend, &questions) {
        Ok(()) => Vec::new(),
        Err(NotEnough::Missing { missing, .. }) => missing,
        Err(other) => return Err(Hinted::new(other.to_string(), other.hint())),
    };
    match Machine::new(device, backend) {
        Err(TransferError::Missing { what, .. }) if !missing.contains(&what) => missing.push(what),
        Err(TransferError::Missing { .. }) | Ok(_) => {}
        Err(other) => return Err(Hinted::new(other.to_string(), other.hint())),
    }
    if missing.is_empty() {
        return Ok(());
    }
    let error = NotEnough::Missing { device: device.id.clone(), missing };
    Err(Hinted::new(error.to_string(), error.hint()))
}
