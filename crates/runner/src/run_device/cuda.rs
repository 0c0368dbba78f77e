//! NVIDIA GPUs through candle and its bindings, cudarc. No logic of its own: what there is to
//! decide is decided in [`super`], [`crate::device_clock`] and the callers.

mod driver;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::Device;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUdevice_attribute as Attribute, CUevent_flags, CUmemPool_attribute,
};
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaEvent, CudaStream, DriverError, result,
};
use foretoken_spec::{Backend, DeviceInfo};

use super::{Accelerator, DeviceMemory, NoDevice, OpenDevice, without_panic};
use crate::device::graphics_info;
use crate::device_clock::{DeviceClock, EventClock, EventQueue, Queue};

/// Devices that the driver reports.
pub(super) fn count() -> Result<u32, NoDevice> {
    driver::load().map_err(failed)?;
    let count = without_panic(|| CudaContext::device_count().w()).map_err(failed)?;
    Ok(u32::try_from(count).unwrap_or(0))
}

/// Opens the device of this number.
pub(super) fn open(index: u32) -> Result<OpenDevice, NoDevice> {
    let count = count()?;
    if index >= count {
        return Err(NoDevice::NoSuch { index, count });
    }
    let tensors = without_panic(|| Device::new_cuda(index as usize)).map_err(failed)?;
    let stream = without_panic(|| Ok(tensors.as_cuda_device()?.cuda_stream())).map_err(failed)?;
    let info = info(stream.context()).map_err(|error| failed(error.to_string()))?;
    let accelerator: Rc<dyn Accelerator> = Rc::new(Card { stream });
    Ok(OpenDevice { tensors, info, accelerator: Some(accelerator) })
}

fn failed(reason: String) -> NoDevice {
    NoDevice::Driver { backend: Backend::Cuda, reason }
}

fn info(context: &CudaContext) -> Result<DeviceInfo, DriverError> {
    let (major, minor) = context.compute_capability()?;
    let l2 = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?;
    Ok(DeviceInfo {
        backend: Backend::Cuda,
        isa: vec![format!("sm_{major}{minor}")],
        l3_bytes: u64::try_from(l2).ok().filter(|bytes| *bytes > 0),
        memory_bytes: context.total_mem()? as u64,
        ..graphics_info(&context.name()?)
    })
}

/// A GPU and the stream that candle gives its work to.
struct Card {
    stream: Arc<CudaStream>,
}

impl Accelerator for Card {
    fn synchronise(&self) -> Result<(), String> {
        self.stream.synchronize().map_err(|error| error.to_string())
    }

    fn clock(&self) -> Rc<dyn DeviceClock> {
        Rc::new(EventClock::new(Stream(Arc::clone(&self.stream))))
    }

    fn memory(&self) -> Option<DeviceMemory> {
        let (free, total) = self.stream.context().mem_get_info().ok()?;
        Some(DeviceMemory { free: free as u64, total: total as u64 })
    }

    fn used_bytes(&self) -> Option<u64> {
        self.pool(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)
    }

    fn peak_bytes(&self) -> Option<u64> {
        self.pool(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)
    }

    fn reset_peak(&self) {
        self.reset_pool_peak();
    }

    fn pci_address(&self) -> Option<String> {
        let context = self.stream.context();
        let of = |attribute| context.attribute(attribute).ok();
        let domain = of(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)?;
        let bus = of(Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)?;
        let device = of(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)?;
        Some(format!("{domain:08x}:{bus:02x}:{device:02x}.0"))
    }
}

/// Tensors come from the device's default memory pool (`cuMemAllocAsync`), which counts them and
/// keeps their highest sum.
#[expect(unsafe_code, reason = "cudarc has no safe face of memory pools")]
impl Card {
    fn pool(&self, attribute: CUmemPool_attribute) -> Option<u64> {
        self.stream.context().bind_to_thread().ok()?;
        let mut bytes = 0_u64;
        // SAFETY: the pool is that of a device that is open; these attributes are 64-bit numbers.
        unsafe {
            let pool = result::device::get_mem_pool(self.stream.context().cu_device()).ok()?;
            let place = (&raw mut bytes).cast();
            result::mem_pool::get_attribute(pool, attribute, place).ok()?;
        }
        Some(bytes)
    }

    fn reset_pool_peak(&self) {
        if self.stream.context().bind_to_thread().is_err() {
            return;
        }
        // The documentation asks for 0, which sets it to what is in use.
        let mut zero = 0_u64;
        // SAFETY: as above.
        unsafe {
            let Ok(pool) = result::device::get_mem_pool(self.stream.context().cu_device()) else {
                return;
            };
            let high = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
            // A driver that refuses leaves an upper bound.
            let _ = result::mem_pool::set_attribute(pool, high, (&raw mut zero).cast());
        }
    }
}

/// The stream as a queue of work.
struct Stream(Arc<CudaStream>);

impl Queue for Stream {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wait(&self) {
        // A failure is told by the pass that follows.
        let _ = self.0.synchronize();
    }
}

impl EventQueue for Stream {
    type Event = CudaEvent;

    fn event(&self) -> Option<CudaEvent> {
        self.0.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).ok()
    }

    fn between(&self, first: &CudaEvent, second: &CudaEvent) -> Option<Duration> {
        let milliseconds = first.elapsed_ms(second).ok()?;
        Duration::try_from_secs_f64(f64::from(milliseconds) * 1e-3).ok()
    }
}
