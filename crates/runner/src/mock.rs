//! An engine on a fake clock, whose times come from a planted cost model.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use foretoken_meter::{Mark, MeterInfo, Source};
use foretoken_spec::{
    Backend, DeviceInfo, EngineInfo, ModelSpec, Pass, PassSample, ReferenceSample, Slice, SpanClock,
};

use crate::{EnergyMeter, Engine, KernelPass, LoadedModel, MachineState, Recording, RunError};

/// The moment at which every fake clock starts: 2026-01-01T00:00:00Z.
const EPOCH_SECONDS: u64 = 1_767_225_600;

/// What a planted cost model says of one pass. No time passes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MockPass {
    /// See [`PassSample::forward_ns`].
    pub forward_ns: u64,
    /// See [`PassSample::logits_copy_ns`].
    pub logits_copy_ns: u64,
    /// See [`PassSample::softmax_ns`].
    pub softmax_ns: u64,
    /// See [`PassSample::sampling_ns`].
    pub sampling_ns: u64,
    /// See [`PassSample::preempted`].
    pub preempted: bool,
    /// Energy of the pass above idle, in nanojoules, for an engine with a meter.
    pub nanojoules: u64,
    /// Self times that a probed pass reports.
    pub kernels: Vec<KernelPass>,
    /// What a probed pass records.
    pub slices: Vec<Slice>,
}

type CostModel = dyn FnMut(&ModelSpec, Pass) -> MockPass;

/// An engine that runs nothing and says what it was told to say.
pub struct MockEngine {
    cost: Rc<RefCell<CostModel>>,
    /// Nanoseconds since the engine was made.
    clock: Rc<Cell<u64>>,
    device: DeviceInfo,
    threads: u32,
    load_ns: u64,
    reference: ReferenceSample,
    reference_ns: u64,
    ns_per_event: f64,
    meter: Option<Rc<MockMeter>>,
}

/// A meter on the fake clock: idle power, and what passes add to it.
struct MockMeter {
    info: MeterInfo,
    idle_w: f64,
    clock: Rc<Cell<u64>>,
    nanojoules: Cell<u64>,
}

impl EnergyMeter for MockMeter {
    fn info(&self) -> &MeterInfo {
        &self.info
    }

    fn idle_w(&self) -> Option<f64> {
        Some(self.idle_w)
    }

    fn mark(&self) -> Option<Mark> {
        let at = Duration::from_nanos(self.clock.get());
        let joules = self.idle_w * at.as_secs_f64() + self.nanojoules.get() as f64 * 1e-9;
        Some(Mark { at, joules, lost: Duration::ZERO })
    }

    fn failure(&self) -> Option<String> {
        None
    }
}

impl MockEngine {
    /// An engine on a made-up device with 2 threads.
    pub fn new(cost: impl FnMut(&ModelSpec, Pass) -> MockPass + 'static) -> Self {
        Self {
            cost: Rc::new(RefCell::new(cost)),
            clock: Rc::new(Cell::new(0)),
            device: mock_device(),
            threads: 2,
            load_ns: 1_000_000,
            reference: ReferenceSample {
                stream_bytes_per_second: 40e9,
                matmul_flop_per_second: 200e9,
            },
            reference_ns: 40_000_000,
            ns_per_event: 0.0,
            meter: None,
        }
    }

    /// The same engine with another speed of the reference workload.
    pub fn with_reference(mut self, reference: ReferenceSample) -> Self {
        self.reference = reference;
        self
    }

    /// The same engine with probes that cost so much for each edge of a span.
    pub fn with_ns_per_event(mut self, ns: f64) -> Self {
        self.ns_per_event = ns;
        self
    }

    /// The same engine on a made-up graphics device, whose spans are timed by events.
    pub fn on_gpu(mut self) -> Self {
        let host = Some(self.device.id);
        let isa = vec!["sm_90".to_owned()];
        let id = "mock-gpu".to_owned();
        self.device = DeviceInfo { id, backend: Backend::Cuda, isa, host, ..self.device };
        self
    }

    /// The same engine with a meter, on a machine that idles at this power.
    pub fn with_idle_power(mut self, idle_w: f64) -> Self {
        let resolution = Duration::from_nanos(1);
        self.meter = Some(Rc::new(MockMeter {
            info: MeterInfo { source: Source::Rapl, name: "mock".to_owned(), resolution },
            idle_w,
            clock: Rc::clone(&self.clock),
            nanojoules: Cell::new(0),
        }));
        self
    }

    fn advance(&self, ns: u64) {
        self.clock.set(self.clock.get() + ns);
    }
}

fn mock_device() -> DeviceInfo {
    DeviceInfo {
        id: "mock-2c".to_owned(),
        backend: Backend::Cpu,
        name: "mock".to_owned(),
        arch: "x86_64".to_owned(),
        isa: ["avx2", "fma", "avx512f", "avx512vnni"].map(str::to_owned).to_vec(),
        physical_cores: 2,
        logical_cores: 2,
        l3_bytes: Some(32 << 20),
        memory_bytes: 16 << 30,
        os: "mock".to_owned(),
        hypervisor: Some(false),
        host: None,
    }
}

impl Engine for MockEngine {
    fn info(&self) -> EngineInfo {
        EngineInfo { name: "mock".to_owned(), version: "1".to_owned() }
    }

    fn device(&self) -> &DeviceInfo {
        &self.device
    }

    fn threads(&self) -> u32 {
        self.threads
    }

    fn load(&mut self, model: &ModelSpec) -> Result<Box<dyn LoadedModel>, RunError> {
        self.advance(self.load_ns);
        Ok(Box::new(LoadedMock {
            model: model.clone(),
            cost: Rc::clone(&self.cost),
            clock: Rc::clone(&self.clock),
            meter: self.meter.clone(),
            load_ns: self.load_ns,
            kernels: Vec::new(),
            recording: None,
            token: 0,
        }))
    }

    fn energy(&self) -> Option<&dyn EnergyMeter> {
        self.meter.as_deref().map(|meter| meter as &dyn EnergyMeter)
    }

    fn reference(&mut self) -> ReferenceSample {
        self.advance(self.reference_ns);
        self.reference
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.clock.get())
    }

    fn ns_per_event(&self) -> f64 {
        self.ns_per_event
    }

    fn span_clock(&self) -> SpanClock {
        match self.device.backend {
            Backend::Cpu => SpanClock::Host,
            _ => SpanClock::Events,
        }
    }

    fn machine_state(&self) -> MachineState {
        MachineState {
            unix_seconds: EPOCH_SECONDS + self.elapsed().as_secs(),
            available_bytes: Some(self.device.memory_bytes),
            ..MachineState::default()
        }
    }
}

struct LoadedMock {
    model: ModelSpec,
    cost: Rc<RefCell<CostModel>>,
    clock: Rc<Cell<u64>>,
    meter: Option<Rc<MockMeter>>,
    load_ns: u64,
    kernels: Vec<KernelPass>,
    recording: Option<Recording>,
    token: u32,
}

impl LoadedModel for LoadedMock {
    fn load_ns(&self) -> u64 {
        self.load_ns
    }

    fn reset(&mut self) {}

    fn snapshot(&mut self) {}

    fn restore(&mut self) -> Result<(), RunError> {
        Ok(())
    }

    fn forget_snapshot(&mut self) {}

    fn snapshot_bytes(&self) -> u64 {
        0
    }

    fn forward(
        &mut self,
        tokens: &[u32],
        kv_len: u32,
        probe: bool,
    ) -> Result<PassSample, RunError> {
        let n_tokens = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        let pass = (self.cost.borrow_mut())(&self.model, Pass { n_tokens, kv_len });
        let sample = PassSample {
            n_tokens,
            kv_len,
            forward_ns: pass.forward_ns,
            logits_copy_ns: pass.logits_copy_ns,
            softmax_ns: pass.softmax_ns,
            sampling_ns: pass.sampling_ns,
            probed: probe,
            preempted: pass.preempted,
        };
        self.kernels = if probe { pass.kernels } else { Vec::new() };
        self.recording = probe.then(|| Recording::of_slices(pass.slices));
        self.clock.set(self.clock.get() + sample.total_ns());
        if let Some(meter) = &self.meter {
            meter.nanojoules.set(meter.nanojoules.get() + pass.nanojoules);
        }
        self.token = (self.token + 1) % self.model.shape.vocab_size.max(1);
        Ok(sample)
    }

    fn last_token(&self) -> u32 {
        self.token
    }

    fn last_kernels(&self) -> Vec<KernelPass> {
        self.kernels.clone()
    }

    fn take_recording(&mut self) -> Option<Recording> {
        self.recording.take()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use foretoken_spec::{ModelShape, ModelSource, TensorType};

    use super::*;

    /// A llama of two layers that loads in candle in milliseconds.
    pub(crate) fn tiny_shape() -> ModelShape {
        ModelShape {
            architecture: "llama".into(),
            n_layers: 2,
            hidden_size: 256,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 64,
            intermediate_size: 512,
            vocab_size: 512,
            context_length: 4096,
            tied_embeddings: false,
            rope_freqs: false,
            rope_freq_base: 10_000.0,
            rms_norm_eps: 1e-5,
            details: foretoken_spec::ShapeDetails::default(),
        }
    }

    pub(crate) fn tiny(name: &str) -> ModelSpec {
        tiny_of(name, TensorType::Q8_0, tiny_shape())
    }

    pub(crate) fn tiny_of(name: &str, tensor_type: TensorType, shape: ModelShape) -> ModelSpec {
        let quant = tensor_type.name();
        ModelSpec::from_shape(name, "tiny", quant, ModelSource::Mini, shape, |role, _| {
            if role.is_vector() { TensorType::F32 } else { tensor_type }
        })
    }

    #[test]
    fn time_passes_on_the_fake_clock_only() {
        let mut engine = MockEngine::new(|_, pass| MockPass {
            forward_ns: u64::from(pass.n_tokens) * 1_000_000_000,
            ..MockPass::default()
        });
        let mut model = engine.load(&tiny("m")).unwrap();
        model.forward(&[1, 2, 3], 0, false).unwrap();
        assert_eq!(engine.elapsed(), Duration::from_millis(3001));
        assert_eq!(engine.machine_state().unix_seconds, EPOCH_SECONDS + 3);
    }
}
