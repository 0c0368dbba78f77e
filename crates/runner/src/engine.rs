//! What the session needs of an engine: two traits, implemented for candle and for the mock.

use std::time::Duration;

use foretoken_spec::{
    Allocator, BlockSplit, ColdLoad, CounterSample, DeviceInfo, EngineInfo, ModelSpec, OpKind,
    Pass, PassSample, ReferenceSample, Sampling, SpanClock, TensorRole, TensorType, Workload,
};

use crate::{EnergyMeter, MachineState, Recording, RunError};

/// Something that loads models and runs a fixed reference workload.
pub trait Engine {
    /// Name and version, part of every key.
    fn info(&self) -> EngineInfo;

    /// The machine that it runs on.
    fn device(&self) -> &DeviceInfo;

    /// Threads that it computes with.
    fn threads(&self) -> u32;

    /// Refuses what the engine cannot run, before anything is loaded.
    ///
    /// # Errors
    /// A model that the engine does not know, a workload that does not fit it.
    fn check(&self, _model: &ModelSpec, _workload: &Workload) -> Result<(), RunError> {
        Ok(())
    }

    /// Loads the model afresh: from its file where it has one, else with synthetic weights.
    ///
    /// # Errors
    /// A model that the engine refuses or cannot load.
    fn load(&mut self, model: &ModelSpec) -> Result<Box<dyn LoadedModel>, RunError>;

    /// Loads a model from storage and drops it again: its file is forgotten by the system first.
    /// `None` of models that have no file.
    ///
    /// # Errors
    /// As [`Engine::load`].
    fn load_cold(&mut self, _model: &ModelSpec) -> Result<Option<ColdLoad>, RunError> {
        Ok(None)
    }

    /// The meter of its energy, where there is one.
    fn energy(&self) -> Option<&dyn EnergyMeter> {
        None
    }

    /// Runs the fixed reference workload once.
    fn reference(&mut self) -> ReferenceSample;

    /// What the process's allocator does with freed memory.
    fn allocator(&self) -> Allocator {
        Allocator::System
    }

    /// How the next token is drawn.
    fn sampling(&self) -> Sampling {
        Sampling::Temperature
    }

    /// Time on the engine's clock since it was made.
    fn elapsed(&self) -> Duration;

    /// The machine now: counters, memory, clocks. Memory that the engine keeps for measuring
    /// (the reference workload's buffers) is not counted.
    fn machine_state(&self) -> MachineState;

    /// The gauges that a trace shows, at a moment on the caller's clock: cheap enough to be read
    /// between decode steps.
    fn counters(&self, at_ns: u64) -> CounterSample {
        CounterSample { at_ns, rss_bytes: None, frequency_mhz: None, temperature_c: None }
    }

    /// Times the parts of blocks that no span divides, alone, on the shapes of these passes. What
    /// the engine cannot time, and what `stop` came before, is left out.
    fn block_splits(
        &mut self,
        _model: &ModelSpec,
        _passes: &[Pass],
        _stop: &dyn Fn() -> bool,
    ) -> Vec<BlockSplit> {
        Vec::new()
    }

    /// Cost of recording one edge of a span, in ns.
    fn ns_per_event(&self) -> f64 {
        0.0
    }

    /// What the moments inside probed passes are read from.
    fn span_clock(&self) -> SpanClock {
        SpanClock::Host
    }

    /// Gives back memory that earlier loads left behind, and starts a new reading of the highest
    /// resident size.
    fn prepare_load(&self) {}

    /// Gives back memory that earlier workloads left behind, and starts a new reading of the
    /// highest resident size, where the system allows it.
    fn reset_peak_memory(&self) {}
}

/// A model in memory, with a KV cache and at most one saved state of that cache.
pub trait LoadedModel {
    /// Time from opening the source to a usable model.
    fn load_ns(&self) -> u64;

    /// Empties the KV cache; the next pass is that of a fresh prompt.
    fn reset(&mut self);

    /// Saves the KV cache as it is, replacing what was saved.
    fn snapshot(&mut self);

    /// Goes back to the saved KV cache, or to an empty one where none was saved.
    ///
    /// # Errors
    /// The engine's own failures, where going back runs passes again.
    fn restore(&mut self) -> Result<(), RunError>;

    /// Whether going back to a saved KV cache runs its passes again, and so takes as long.
    fn replays(&self) -> bool {
        false
    }

    /// Whether several tokens can go in behind cached ones.
    fn prefills_at_depth(&self) -> bool {
        true
    }

    /// Forgets the saved KV cache.
    fn forget_snapshot(&mut self);

    /// Bytes that the saved KV cache keeps alive.
    fn snapshot_bytes(&self) -> u64;

    /// One forward pass over `tokens` at `kv_len` cached ones, then sampling. `kv_len` is what
    /// the passes since the last reset or restore have left in the cache.
    ///
    /// # Errors
    /// The engine's own failures.
    fn forward(&mut self, tokens: &[u32], kv_len: u32, probe: bool)
    -> Result<PassSample, RunError>;

    /// The token that the last pass sampled.
    fn last_token(&self) -> u32;

    /// Self times of the last pass, where it was probed: they sum to its `forward_ns`.
    fn last_kernels(&self) -> Vec<KernelPass>;

    /// The raw recording of the last pass, where it was probed and not taken before.
    fn take_recording(&mut self) -> Option<Recording>;
}

/// Self time of one kind of operation in one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelPass {
    /// What.
    pub op: OpKind,
    /// Which matrix, for a matmul.
    pub role: Option<TensorRole>,
    /// How it is stored, for a matmul.
    pub tensor_type: Option<TensorType>,
    /// Calls in the pass.
    pub calls: u32,
    /// Total over the calls.
    pub ns: u64,
}
