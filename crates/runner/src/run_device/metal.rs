//! The Apple GPU through candle. No logic of its own: what there is to decide is decided in
//! [`super`], [`crate::device_clock`] and the callers.
//!
//! candle collects work in command buffers and commits them when they are full or when a result is
//! read; a span inside one has no moment of its own, so the clock commits and waits at each mark.

use std::rc::Rc;
use std::time::Instant;

use candle_core::backend::BackendDevice;
use candle_core::{Device, MetalDevice};
use foretoken_spec::{Backend, DeviceInfo};

use super::{Accelerator, DeviceMemory, NoDevice, OpenDevice, without_panic};
use crate::device::graphics_info;
use crate::device_clock::{DeviceClock, Queue, WaitingClock};

/// Opens the first device.
pub(super) fn open() -> Result<OpenDevice, NoDevice> {
    let failed = |reason| NoDevice::Driver { backend: Backend::Metal, reason };
    let tensors = without_panic(|| Device::new_metal(0)).map_err(failed)?;
    let device = without_panic(|| tensors.as_metal_device().cloned()).map_err(failed)?;
    let gpu = Gpu { device };
    let info = DeviceInfo {
        backend: Backend::Metal,
        isa: vec![gpu.device.architecture_name()],
        l3_bytes: None,
        memory_bytes: gpu.device.recommended_max_working_set_size() as u64,
        // Metal's own name is that of the chip, as the processor's is.
        ..graphics_info(&crate::processor_info().name)
    };
    Ok(OpenDevice { tensors, info, accelerator: Some(Rc::new(gpu)) })
}

#[derive(Clone)]
struct Gpu {
    device: MetalDevice,
}

impl Accelerator for Gpu {
    fn synchronise(&self) -> Result<(), String> {
        self.device.synchronize().map_err(|error| error.to_string())
    }

    fn clock(&self) -> Rc<dyn DeviceClock> {
        Rc::new(WaitingClock::new(self.clone()))
    }

    fn memory(&self) -> Option<DeviceMemory> {
        let total = self.device.recommended_max_working_set_size() as u64;
        Some(DeviceMemory { free: total.saturating_sub(self.used_bytes()?), total })
    }

    fn used_bytes(&self) -> Option<u64> {
        Some(self.device.current_allocated_size() as u64)
    }
}

impl Queue for Gpu {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wait(&self) {
        // A failure is told by the pass that follows.
        let _ = self.device.synchronize();
    }
}
