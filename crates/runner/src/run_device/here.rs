//! What this build and this machine can run on.

#[cfg(not(feature = "cuda"))]
use foretoken_meter::nvidia_cards;
use foretoken_spec::{Backend, DeviceHere};

use super::{NoDevice, OpenDevice, RunDevice};

/// Every device of this machine, and of each whether this build can run on it.
pub fn devices_here() -> Vec<DeviceHere> {
    let mut found = vec![of(RunDevice::Cpu)];
    found.extend(cuda());
    if cfg!(target_os = "macos") {
        found.push(of(RunDevice::Metal));
    }
    found
}

/// Opens a device to say what it is.
fn of(device: RunDevice) -> DeviceHere {
    match device.open() {
        Ok(open) => usable(device, &open),
        Err(error) => unusable(device, &error),
    }
}

fn usable(device: RunDevice, open: &OpenDevice) -> DeviceHere {
    DeviceHere {
        id: Some(open.info.id.clone()),
        name: Some(open.info.name.clone()),
        memory_bytes: Some(open.info.memory_bytes),
        available_bytes: open.available_memory(),
        is_usable: true,
        ..blank(device)
    }
}

fn unusable(device: RunDevice, error: &NoDevice) -> DeviceHere {
    DeviceHere { reason: Some(error.to_string()), hint: Some(error.hint()), ..blank(device) }
}

fn blank(device: RunDevice) -> DeviceHere {
    DeviceHere {
        device: device.to_string(),
        backend: device.backend(),
        is_built: is_built(device.backend()),
        is_usable: false,
        id: None,
        name: None,
        memory_bytes: None,
        available_bytes: None,
        reason: None,
        hint: None,
    }
}

fn is_built(backend: Backend) -> bool {
    match backend {
        Backend::Cpu => true,
        Backend::Cuda => cfg!(feature = "cuda"),
        Backend::Metal => cfg!(feature = "metal"),
        // llama.cpp has these, candle has not.
        Backend::Rocm | Backend::Vulkan | Backend::Sycl | Backend::Opencl => false,
    }
}

/// The cards by CUDA.
#[cfg(feature = "cuda")]
fn cuda() -> Vec<DeviceHere> {
    match super::cuda::count() {
        Ok(count) if count > 0 => (0..count).map(|index| of(RunDevice::Cuda(index))).collect(),
        Ok(count) => vec![unusable(RunDevice::Cuda(0), &NoDevice::NoSuch { index: 0, count })],
        Err(error) => vec![unusable(RunDevice::Cuda(0), &error)],
    }
}

/// The cards that the driver tells of. They have no numbers here: CUDA's are in another order than
/// the driver's.
#[cfg(not(feature = "cuda"))]
fn cuda() -> Vec<DeviceHere> {
    without_cuda(nvidia_cards())
}

#[cfg(any(not(feature = "cuda"), test))]
fn without_cuda(names: Vec<String>) -> Vec<DeviceHere> {
    let error = NoDevice::NotBuilt { backend: Backend::Cuda };
    let row = |name| DeviceHere {
        device: Backend::Cuda.to_string(),
        name,
        ..unusable(RunDevice::Cuda(0), &error)
    };
    if names.is_empty() {
        return vec![row(None)];
    }
    names.into_iter().map(|name| row(Some(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_comes_first_and_what_is_not_usable_says_why() {
        let found = devices_here();
        assert_eq!((found[0].device.as_str(), found[0].is_usable), ("cpu", true));
        assert!(found[0].memory_bytes > Some(0));
        assert!(found.iter().any(|row| row.backend == Backend::Cuda));
        for row in found.iter().filter(|row| !row.is_usable) {
            assert!(row.reason.is_some() && row.hint.is_some(), "{row:?}");
        }
    }

    #[test]
    fn cards_of_a_build_without_cuda_have_names_and_no_numbers() {
        let rows = without_cuda(vec!["NVIDIA L4".into(), "NVIDIA T4".into()]);
        assert_eq!(rows[1].name.as_deref(), Some("NVIDIA T4"));
        assert!(rows.iter().all(|row| row.device == "cuda" && !row.is_usable));
        assert_eq!(without_cuda(Vec::new()).len(), 1);
    }
}
