//! The device that a run is asked to use: its name on the command line, whether this build and this
//! machine have it, and the device itself, opened.
//!
//! What depends on a backend stands in one small file each ([`cuda`], [`metal`]) behind
//! [`Accelerator`]; everything above that trait is built and tested without a graphics card.

#[cfg(feature = "cuda")]
mod cuda;
mod error;
mod here;
#[cfg(feature = "metal")]
mod metal;

use std::rc::Rc;

use candle_core::Device;
use foretoken_spec::{Backend, DeviceInfo};

pub use error::NoDevice;
pub use here::devices_here;

use crate::device_clock::{DeviceClock, HostClock};
use crate::processor_info;
use crate::{memory, reference};

/// The argument of `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunDevice {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU, by its number in the order of CUDA.
    Cuda(u32),
    /// The Apple GPU.
    Metal,
}

impl RunDevice {
    /// Reads `cpu`, `cuda`, `cuda:N` or `metal`.
    ///
    /// # Errors
    /// Another word, several devices at once, a number that is none.
    pub fn parse(text: &str) -> Result<Self, NoDevice> {
        let asked = text.trim().to_lowercase();
        if asked.contains([',', '+']) {
            return Err(NoDevice::Several { asked });
        }
        let (name, number) = match asked.split_once(':') {
            Some((name, number)) => (name, Some(number)),
            None => (asked.as_str(), None),
        };
        match (name, number) {
            ("cpu", None) => Ok(Self::Cpu),
            ("metal", None | Some("0")) => Ok(Self::Metal),
            ("cuda", None) => Ok(Self::Cuda(0)),
            ("cuda", Some(number)) if number.bytes().all(|b| b.is_ascii_digit()) => {
                number.parse().map(Self::Cuda).map_err(|_| NoDevice::Unknown { asked })
            }
            _ => Err(NoDevice::Unknown { asked }),
        }
    }

    /// What it computes with.
    pub fn backend(self) -> Backend {
        match self {
            Self::Cpu => Backend::Cpu,
            Self::Cuda(_) => Backend::Cuda,
            Self::Metal => Backend::Metal,
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// A backend that this build does not have, a driver or device that cannot be used.
    pub fn open(self) -> Result<OpenDevice, NoDevice> {
        match self {
            Self::Cpu => Ok(OpenDevice::processor()),
            Self::Cuda(index) => open_cuda(index),
            Self::Metal => open_metal(),
        }
    }
}

impl std::fmt::Display for RunDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

#[cfg(feature = "cuda")]
fn open_cuda(index: u32) -> Result<OpenDevice, NoDevice> {
    cuda::open(index)
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_index: u32) -> Result<OpenDevice, NoDevice> {
    Err(NoDevice::NotBuilt { backend: Backend::Cuda })
}

#[cfg(feature = "metal")]
fn open_metal() -> Result<OpenDevice, NoDevice> {
    metal::open()
}

#[cfg(not(feature = "metal"))]
fn open_metal() -> Result<OpenDevice, NoDevice> {
    Err(NoDevice::NotBuilt { backend: Backend::Metal })
}

/// Memory of a device at a moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceMemory {
    /// What programs can still take.
    pub(crate) free: u64,
    /// All of it.
    pub(crate) total: u64,
}

/// What a graphics device tells and does beside running tensors.
pub(crate) trait Accelerator {
    /// Waits until the device has done everything that was given to it.
    ///
    /// # Errors
    /// What the driver reports: work that was given before may have failed.
    fn synchronise(&self) -> Result<(), String>;

    /// A clock for the moments inside a pass.
    fn clock(&self) -> Rc<dyn DeviceClock>;

    /// Memory now; `None` where the driver does not tell.
    fn memory(&self) -> Option<DeviceMemory>;

    /// Bytes of tensors that this process has on the device.
    fn used_bytes(&self) -> Option<u64>;

    /// The most of [`Accelerator::used_bytes`] since the last reset, where the driver keeps it.
    fn peak_bytes(&self) -> Option<u64> {
        None
    }

    /// Starts a new peak.
    fn reset_peak(&self) {}

    /// `domain:bus:device.function`, by which other libraries know the same card.
    fn pci_address(&self) -> Option<String> {
        None
    }
}

/// A device that can be run on.
#[derive(Clone)]
pub struct OpenDevice {
    /// As candle knows it.
    pub(crate) tensors: Device,
    pub(crate) info: DeviceInfo,
    /// `None` of the processor.
    pub(crate) accelerator: Option<Rc<dyn Accelerator>>,
}

impl OpenDevice {
    /// The processor of this machine.
    pub fn processor() -> Self {
        Self { tensors: Device::Cpu, info: processor_info(), accelerator: None }
    }

    /// As measurements name it.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Memory that a model can still take on it, in bytes.
    pub fn available_memory(&self) -> Option<u64> {
        match &self.accelerator {
            None => memory::available_memory(),
            Some(accelerator) => accelerator.memory().map(|memory| memory.free),
        }
    }

    /// Memory that the reference workload takes beside a model, where the model is, in bytes.
    pub fn reference_bytes(&self) -> u64 {
        match self.accelerator {
            None => reference::processor_bytes(self.info.l3_bytes),
            Some(_) => reference::DEVICE_BYTES,
        }
    }

    /// The card's PCI address (`0000:65:00.0`), where it has one: what NVML finds it by.
    pub fn pci_address(&self) -> Option<String> {
        self.accelerator.as_ref()?.pci_address()
    }

    /// Waits until the device has done everything that was given to it. The processor always has.
    ///
    /// # Errors
    /// What the driver reports.
    pub(crate) fn synchronise(&self) -> Result<(), String> {
        self.accelerator.as_ref().map_or(Ok(()), |accelerator| accelerator.synchronise())
    }

    /// The clock for the moments inside a pass.
    pub(crate) fn clock(&self) -> Rc<dyn DeviceClock> {
        match &self.accelerator {
            None => Rc::new(HostClock),
            Some(accelerator) => accelerator.clock(),
        }
    }
}

impl std::fmt::Debug for OpenDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenDevice").field("info", &self.info).finish_non_exhaustive()
    }
}

/// What a driver says of itself: candle and its bindings panic where a library is missing or too
/// old, which is an answer like any other.
#[cfg(any(feature = "cuda", feature = "metal"))]
pub(crate) fn without_panic<T>(work: impl FnOnce() -> candle_core::Result<T>) -> Result<T, String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    match outcome {
        Ok(result) => result.map_err(|error| crate::error::one_line(&error)),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(crate::error::one_line(&words.unwrap_or("its library failed without a reason")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_by_their_names() {
        for (text, device) in [
            ("cpu", RunDevice::Cpu),
            ("cuda", RunDevice::Cuda(0)),
            ("cuda:3", RunDevice::Cuda(3)),
            (" CUDA:0 ", RunDevice::Cuda(0)),
            ("metal", RunDevice::Metal),
        ] {
            assert_eq!(RunDevice::parse(text), Ok(device), "{text}");
        }
        assert_eq!(RunDevice::Cuda(3).to_string(), "cuda:3");
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        for text in
            ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:99999999999", "cpu:1", "metal:1"]
        {
            let error = RunDevice::parse(text).unwrap_err();
            assert!(matches!(error, NoDevice::Unknown { .. }), "{text}");
        }
        for text in ["cuda:0,1", "cuda:0,cuda:1", "cuda+cpu"] {
            let error = RunDevice::parse(text).unwrap_err();
            assert!(matches!(error, NoDevice::Several { .. }), "{text}");
            assert!(error.hint().contains("one device"), "{error}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_a_backend_says_how_to_get_it() {
        let error = RunDevice::Cuda(0).open().unwrap_err();
        assert!(error.to_string().contains("built without `cuda`"), "{error}");
        assert!(error.hint().contains("--features cuda"), "{}", error.hint());
    }

    #[test]
    fn the_processor_is_always_there_and_always_done() {
        let device = RunDevice::Cpu.open().unwrap();
        assert_eq!(device.info().backend, Backend::Cpu);
        assert_eq!(device.synchronise(), Ok(()));
        assert_eq!(device.pci_address(), None);
    }
}
