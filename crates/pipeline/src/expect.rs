//! How long a load will take, before anything like it was measured.

use std::time::Duration;

use foretoken_cost::{EngineProfile, KernelPath, OpCost, memory_parts, pass_cost};
use foretoken_runner::LoadPlan;
use foretoken_spec::{Pass, ReferenceSample, Workload};

/// A rough guess from one reference sample; only the budget depends on it.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedTimes {
    engine: EngineProfile,
    reference: ReferenceSample,
}

/// Kernels without tiles are about this much slower per FLOP.
const ROW_DOT_SLOWDOWN: f64 = 10.0;
/// Kernels without vector instructions are about this much slower per FLOP.
const SCALAR_SLOWDOWN: f64 = 100.0;
/// No call is faster than this.
const SECONDS_PER_CALL: f64 = 1e-6;
/// Rate of making, copying and repacking weights.
pub(crate) const LOAD_BYTES_PER_SECOND: f64 = 0.7e9;
/// Passes of a prompt beside the timed ones: warm-up, and once more to fill the cache.
const EXTRA_PASSES: f64 = 1.5;

impl ExpectedTimes {
    /// From one sample of the reference workload.
    pub fn new(engine: EngineProfile, reference: ReferenceSample) -> Self {
        Self { engine, reference }
    }

    /// Wall time of a whole load block.
    pub fn load(&self, plan: &LoadPlan) -> Duration {
        let largest = plan.workloads.iter().map(|w| w.workload).max_by_key(Workload::total_tokens);
        let Some(largest) = largest else { return Duration::ZERO };
        let resident = memory_parts(&plan.model, &self.engine, &largest).total();
        let mut seconds = resident as f64 / LOAD_BYTES_PER_SECOND;
        for planned in &plan.workloads {
            let w = planned.workload;
            if let Some(pass) = w.prefill() {
                let passes = f64::from(planned.prefill_repeats) + EXTRA_PASSES;
                seconds += passes * self.pass(plan, pass);
            }
            if w.depth > 0 {
                seconds += self.pass(plan, Pass { n_tokens: w.depth, kv_len: 0 });
            }
            let step = Pass { n_tokens: 1, kv_len: w.total_tokens() };
            seconds += f64::from(planned.decode_steps) * self.pass(plan, step);
        }
        Duration::from_secs_f64(seconds)
    }

    fn pass(&self, plan: &LoadPlan, pass: Pass) -> f64 {
        let cost = pass_cost(&plan.model, &self.engine, pass);
        cost.ops.iter().map(|op| self.operation(op)).sum()
    }

    /// Seconds of an operation, all its calls together.
    pub fn operation(&self, op: &OpCost) -> f64 {
        let slowdown = match op.class.matmul {
            Some((_, KernelPath::RowDot)) => ROW_DOT_SLOWDOWN,
            Some((_, KernelPath::Scalar)) => SCALAR_SLOWDOWN,
            _ => 1.0,
        };
        let compute = slowdown * op.flop as f64 / self.reference.matmul_flop_per_second;
        let memory = op.bytes as f64 / self.reference.stream_bytes_per_second;
        compute.max(memory).max(SECONDS_PER_CALL * f64::from(op.calls))
    }
}
