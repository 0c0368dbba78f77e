//! The candle engine: the readers of candle-transformers, unmodified.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use candle_transformers::generation::{LogitsProcessor, Sampling};
use foretoken_cost::{KvLayout, ReaderInfo};
use foretoken_gguf::synth::SyntheticGguf;
use foretoken_meter::{NvidiaCard, Sampler};
use foretoken_spec::{
    Allocator, BlockSplit, ColdLoad, CounterSample, DeviceInfo, EngineInfo, KernelOp, ModelSource,
    ModelSpec, Pass, PassSample, ReferenceSample, SpanClock, Workload,
};

use crate::block_bench::{BlockBench, ModelFile, ReadSeek};
use crate::cold::Forgotten;
use crate::device_clock::DeviceClock;
use crate::error::one_line;
use crate::kernels::PassEvents;
use crate::layout::PassLayout;
use crate::machine::{DeviceMemoryState, gauges};
use crate::probe;
use crate::reader::CachedModel;
use crate::reference::Reference;
use crate::refuse::reader_of;
use crate::run_delay::RunDelay;
use crate::usage::keep_freed_memory;
use crate::{
    EnergyMeter, Engine, KernelPass, LoadedModel, MachineState, OpenDevice, Recording, RunError,
    check_model, check_workload, memory, threads_in_effect,
};

/// Version of candle, as Cargo.toml asks for it, and the library that multiplies dense matrices in
/// its place: other kernels, so another version.
const CANDLE_VERSION: &str = if cfg!(feature = "mkl") {
    "0.11.1+mkl"
} else if cfg!(feature = "accelerate") {
    "0.11.1+accelerate"
} else {
    "0.11.1"
};

/// Size of the read buffer over a model file, bytes: candle reads tensor by tensor.
const READ_BUFFER_BYTES: usize = 1 << 20;

/// How the next token is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplingMode {
    /// Softmax at temperature 1.0 and a draw.
    Temperature {
        /// Seed of the draw.
        seed: u64,
    },
    /// The largest logit; there is no softmax.
    Greedy,
}

/// Whether loaded models carry probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probing {
    /// Passes can be probed.
    Installed,
    /// The plain model, for a baseline.
    Absent,
}

/// Runs models with candle.
pub struct CandleEngine {
    device: OpenDevice,
    /// What tells the state of a graphics card, where one runs the models.
    card: Option<NvidiaCard>,
    threads: u32,
    sampling: SamplingMode,
    probing: Probing,
    allocator: Allocator,
    reference: Reference,
    meter: Option<Sampler>,
    created: Instant,
}

impl CandleEngine {
    /// The version of candle in this program.
    pub fn version() -> &'static str {
        CANDLE_VERSION
    }

    /// The engine of this process on its processor, with probes.
    pub fn new(sampling: SamplingMode) -> Self {
        Self::on(OpenDevice::processor(), sampling)
    }

    /// The engine of this process on a device, with probes.
    pub fn on(device: OpenDevice, sampling: SamplingMode) -> Self {
        let threads = threads_in_effect();
        Self {
            reference: Reference::on(&device, threads),
            card: device.pci_address().and_then(|address| NvidiaCard::open(&address)),
            device,
            threads,
            sampling,
            probing: Probing::Installed,
            allocator: Allocator::System,
            meter: None,
            created: Instant::now(),
        }
    }

    /// The same engine with an allocator that keeps freed memory, where it can be told so: the
    /// whole process is changed, and stays so.
    ///
    /// By default glibc maps large temporaries afresh in each layer, or gives the top of its heap
    /// back and takes it again, depending on what was allocated before. The page faults add
    /// nothing or most of the time again to a prompt of 512 tokens. Kept memory is what other
    /// allocators do, and what `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=10000000000` does for any program.
    pub fn keeping_memory(mut self) -> Self {
        if keep_freed_memory() {
            self.allocator = Allocator::Kept;
        }
        self
    }

    /// The same engine with or without probes in the models that it loads.
    pub fn with_probing(mut self, probing: Probing) -> Self {
        self.probing = probing;
        self
    }

    /// The same engine with a meter of its energy.
    pub fn with_meter(mut self, meter: Option<Sampler>) -> Self {
        self.meter = meter;
        self
    }

    fn start_new_peak(&self) {
        memory::release_unused();
        memory::reset_peak();
        if let Some(accelerator) = &self.device.accelerator {
            accelerator.reset_peak();
        }
    }

    /// Times the parts of blocks (operation, layer) alone, on the shapes of these passes, also of
    /// blocks whose parts the reader's spans tell apart: a bench holds the two against each other.
    /// What candle refuses, and what `stop` came before, is left out.
    ///
    /// # Errors
    /// A model that no reader is for, or that cannot be read.
    pub fn time_parts(
        &self,
        model: &ModelSpec,
        blocks: &[(KernelOp, u32)],
        passes: &[Pass],
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<BlockSplit>, RunError> {
        let info = reader_of(model)?;
        let mut file = ModelFile::read(source_of(model)?).map_err(|error| RunError::Load {
            model: model.name.clone(),
            reason: one_line(&error),
        })?;
        let bench = BlockBench { model, info, device: &self.device };
        Ok(bench.splits(&mut file, blocks, passes, stop))
    }

    fn read(&self, model: &ModelSpec, info: &ReaderInfo) -> Result<CachedModel, RunError> {
        let mut source = source_of(model)?;
        let mut read = || CachedModel::load(info, &mut source, &self.device.tensors);
        let loaded = match self.probing {
            Probing::Installed => probe::with_probes(read),
            Probing::Absent => read(),
        };
        loaded
            .map_err(|error| RunError::Load { model: model.name.clone(), reason: one_line(&error) })
    }
}

/// Opens the file of a model, or synthetic weights in the form of one.
fn source_of<'a>(model: &'a ModelSpec) -> Result<Box<dyn ReadSeek + 'a>, RunError> {
    Ok(match &model.source {
        ModelSource::Gguf { path } => {
            let path = Path::new(path);
            let file = File::open(path)
                .map_err(|source| RunError::Open { path: path.to_owned(), source })?;
            Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, file))
        }
        ModelSource::Preset { .. } | ModelSource::Config { .. } | ModelSource::Mini => {
            Box::new(SyntheticGguf::new(model))
        }
    })
}

impl Engine for CandleEngine {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            name: foretoken_spec::Engine::Candle.name().to_owned(),
            version: CANDLE_VERSION.to_owned(),
        }
    }

    fn device(&self) -> &DeviceInfo {
        self.device.info()
    }

    fn threads(&self) -> u32 {
        self.threads
    }

    fn check(&self, model: &ModelSpec, workload: &Workload) -> Result<(), RunError> {
        check_model(model)?;
        check_workload(model, workload)
    }

    fn load(&mut self, model: &ModelSpec) -> Result<Box<dyn LoadedModel>, RunError> {
        let info = reader_of(model)?;
        let failed = |reason| RunError::Load { model: model.name.clone(), reason };
        self.device.synchronise().map_err(failed)?;
        let start = Instant::now();
        let weights = self.read(model, info)?;
        // Copies to a graphics device may be under way still.
        self.device.synchronise().map_err(failed)?;
        let load_ns = nanos(start.elapsed());
        let sampling = match self.sampling {
            SamplingMode::Temperature { seed } => {
                LogitsProcessor::from_sampling(seed, Sampling::All { temperature: 1.0 })
            }
            SamplingMode::Greedy => LogitsProcessor::from_sampling(0, Sampling::ArgMax),
        };
        Ok(Box::new(LoadedCandle {
            weights,
            info,
            saved_tokens: 0,
            sampling,
            probing: self.probing,
            layout: Rc::new(PassLayout::new(model)),
            kv_bytes_per_token: model.shape.kv_bytes_per_token(size_of::<f32>() as u64),
            load_ns,
            kv_len: 0,
            token: 0,
            recorded: None,
            delay: RunDelay::new(),
            clock: self.device.clock(),
            device: self.device.clone(),
        }))
    }

    fn load_cold(&mut self, model: &ModelSpec) -> Result<Option<ColdLoad>, RunError> {
        let ModelSource::Gguf { path } = &model.source else { return Ok(None) };
        let path = Path::new(path);
        let forgotten = Forgotten::new(path)
            .map_err(|source| RunError::Open { path: path.to_owned(), source })?;
        let ns = self.load(model)?.load_ns();
        Ok(Some(forgotten.loaded(ns)))
    }

    fn energy(&self) -> Option<&dyn EnergyMeter> {
        self.meter.as_ref().map(|meter| meter as &dyn EnergyMeter)
    }

    fn reference(&mut self) -> ReferenceSample {
        self.reference.run()
    }

    fn allocator(&self) -> Allocator {
        self.allocator
    }

    fn sampling(&self) -> foretoken_spec::Sampling {
        match self.sampling {
            SamplingMode::Temperature { .. } => foretoken_spec::Sampling::Temperature,
            SamplingMode::Greedy => foretoken_spec::Sampling::Greedy,
        }
    }

    fn elapsed(&self) -> Duration {
        self.created.elapsed()
    }

    fn machine_state(&self) -> MachineState {
        let own_bytes = self.reference.buffer_bytes();
        let Some(accelerator) = &self.device.accelerator else {
            return MachineState::now(own_bytes);
        };
        // Off the processor the reference workload's memory is the device's.
        let without_own = |bytes: u64| bytes.saturating_sub(own_bytes);
        let used_bytes = accelerator.used_bytes().map(without_own);
        MachineState {
            gpu: self.card.as_ref().map(NvidiaCard::state),
            device_memory: Some(DeviceMemoryState {
                used_bytes,
                peak_bytes: accelerator.peak_bytes().map(without_own).or(used_bytes),
                free_bytes: accelerator.memory().map(|memory| memory.free),
            }),
            ..MachineState::now(0)
        }
    }

    fn counters(&self, at_ns: u64) -> CounterSample {
        let is_host = self.device.accelerator.is_none();
        gauges(at_ns, if is_host { self.reference.buffer_bytes() } else { 0 })
    }

    fn block_splits(
        &mut self,
        model: &ModelSpec,
        passes: &[Pass],
        stop: &dyn Fn() -> bool,
    ) -> Vec<BlockSplit> {
        let blocks = PassLayout::new(model).undivided();
        self.time_parts(model, &blocks, passes, stop).unwrap_or_default()
    }

    fn ns_per_event(&self) -> f64 {
        probe::ns_per_event(&self.device.clock())
    }

    fn span_clock(&self) -> SpanClock {
        self.device.clock().kind()
    }

    fn prepare_load(&self) {
        self.start_new_peak();
    }

    fn reset_peak_memory(&self) {
        // Freed memory of an earlier workload would count into this one's peak.
        self.start_new_peak();
    }
}

/// A model in candle, with its KV cache.
struct LoadedCandle {
    weights: CachedModel,
    info: &'static ReaderInfo,
    /// Tokens in the saved cache.
    saved_tokens: u32,
    sampling: LogitsProcessor,
    probing: Probing,
    layout: Rc<PassLayout>,
    kv_bytes_per_token: u64,
    load_ns: u64,
    kv_len: u32,
    token: u32,
    recorded: Option<Recorded>,
    delay: RunDelay,
    device: OpenDevice,
    /// For the moments inside a pass.
    clock: Rc<dyn DeviceClock>,
}

/// A recording that is still where the probes left it, and the moments of its pass.
struct Recorded {
    number: u64,
    start: Instant,
    copy_start: Instant,
    end: Instant,
}

impl Recorded {
    /// `None` where another model's pass was recorded since.
    fn read(&self) -> Option<PassEvents> {
        let mut events = probe::events_of(self.number)?;
        let Self { start, copy_start, end, .. } = *self;
        // A device's clock is laid beside the host's to within the time of a call.
        for event in &mut events {
            event.at = event.at.clamp(start, copy_start);
        }
        Some(PassEvents { events, start, copy_start, end })
    }
}

/// The moments of one forward pass, and its logits.
struct ForwardPass {
    logits: Tensor,
    start: Instant,
    copy_start: Instant,
    end: Instant,
}

impl LoadedCandle {
    /// One pass, from token ids on the host to logits on the host. On a device that works behind
    /// the host's back it begins when that has nothing to do, and its logits are computed before
    /// their copy begins.
    fn run_forward(&mut self, tokens: &[u32], kv_len: u32) -> candle_core::Result<ForwardPass> {
        self.synchronise()?;
        let start = Instant::now();
        let logits = self.weights.forward(tokens, kv_len as usize)?;
        self.synchronise()?;
        let copy_start = Instant::now();
        let on_host = logits.to_vec1::<f32>()?;
        let end = Instant::now();
        drop(std::hint::black_box(on_host));
        Ok(ForwardPass { logits, start, copy_start, end })
    }

    fn synchronise(&self) -> candle_core::Result<()> {
        self.device.synchronise().map_err(candle_core::Error::msg)
    }

    /// Draws a token; returns it with the times of softmax and draw.
    fn sample(&mut self, logits: &Tensor) -> candle_core::Result<(u32, Duration, Duration)> {
        let start = Instant::now();
        let mut after_softmax = None;
        let token = self.sampling.sample_f(logits, |_| after_softmax = Some(Instant::now()))?;
        let end = Instant::now();
        let drawn_from = after_softmax.unwrap_or(start);
        Ok((token, drawn_from.duration_since(start), end.duration_since(drawn_from)))
    }
}

impl LoadedModel for LoadedCandle {
    fn load_ns(&self) -> u64 {
        self.load_ns
    }

    fn reset(&mut self) {
        self.weights.reset();
        self.kv_len = 0;
        self.delay.refresh();
    }

    fn snapshot(&mut self) {
        self.weights.snapshot();
        self.saved_tokens = self.kv_len;
    }

    fn restore(&mut self) -> Result<(), RunError> {
        let saved = self.saved_tokens;
        self.weights.restore().map_err(|error| RunError::Pass {
            n_tokens: saved,
            kv_len: 0,
            reason: one_line(&error),
        })?;
        self.kv_len = saved;
        if self.replays() {
            // Passes that were run again waited too.
            self.delay.refresh();
        }
        Ok(())
    }

    fn forget_snapshot(&mut self) {
        self.weights.forget_snapshot();
        self.saved_tokens = 0;
    }

    fn replays(&self) -> bool {
        self.weights.replays()
    }

    fn prefills_at_depth(&self) -> bool {
        self.info.prefill_at_depth
    }

    fn snapshot_bytes(&self) -> u64 {
        // Only where the cache is copied whenever tokens are added does a saved one live beside it.
        let is_beside = self.info.kv_layout == KvLayout::Concatenated && !self.replays();
        if is_beside { u64::from(self.saved_tokens) * self.kv_bytes_per_token } else { 0 }
    }

    fn forward(
        &mut self,
        tokens: &[u32],
        kv_len: u32,
        probe: bool,
    ) -> Result<PassSample, RunError> {
        let n_tokens = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        let failed = |error: candle_core::Error| RunError::Pass {
            n_tokens,
            kv_len,
            reason: one_line(&error),
        };
        let probed = probe && self.probing == Probing::Installed;
        self.recorded = None;
        self.delay.start();
        let number = if probed { Some(probe::start_recording(&self.clock)) } else { None };
        let pass = self.run_forward(tokens, kv_len);
        probe::stop_recording();
        let pass = pass.map_err(failed)?;
        self.weights.remember(tokens, kv_len as usize);
        let (token, softmax, sampling) = self.sample(&pass.logits).map_err(failed)?;
        let taken = pass.end.duration_since(pass.start) + softmax + sampling;
        self.token = token;
        self.kv_len = kv_len.saturating_add(n_tokens);
        let ForwardPass { start, copy_start, end, .. } = pass;
        self.recorded = number.map(|number| Recorded { number, start, copy_start, end });
        Ok(PassSample {
            n_tokens,
            kv_len,
            forward_ns: nanos(pass.end.duration_since(pass.start)),
            logits_copy_ns: nanos(pass.end.duration_since(pass.copy_start)),
            softmax_ns: nanos(softmax),
            sampling_ns: nanos(sampling),
            probed,
            preempted: self.delay.was_preempted(taken),
        })
    }

    fn last_token(&self) -> u32 {
        self.token
    }

    fn last_kernels(&self) -> Vec<KernelPass> {
        let pass = self.recorded.as_ref().and_then(Recorded::read);
        pass.map_or_else(Vec::new, |pass| pass.self_times(&self.layout))
    }

    fn take_recording(&mut self) -> Option<Recording> {
        let pass = self.recorded.take()?.read()?;
        Some(Recording::of_events(pass, Rc::clone(&self.layout)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
