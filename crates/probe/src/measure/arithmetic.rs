//! Multiply-adds that stay in registers, enough of them at once to fill every unit.
//!
//! Each step runs [`CHAINS`] instructions that do not wait for each other; operations are chains ×
//! lanes × 2 (int8: × the products that an instruction adds). What comes out is achieved, at the
//! clock that all these threads get: a peak of a data sheet may assume another.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use foretoken_spec::ProbedArithmetic;

use super::{MeasurePlan, rounded};

/// Steps between two looks at the clock.
const STEPS: u32 = 10_000;

/// A loop over one instruction.
#[derive(Clone, Copy)]
struct Kernel {
    number_type: &'static str,
    instruction: &'static str,
    /// Operations of one step.
    operations: u32,
    /// Runs so many steps.
    run: fn(u32),
}

/// Every type that the processor has an instruction for, by one thread, the physical cores and all.
pub(super) fn measure(plan: &MeasurePlan, counts: &[u32]) -> Vec<ProbedArithmetic> {
    // The numbers between say little that the clock does not.
    let most = [counts.first(), counts.iter().rev().nth(1), counts.last()];
    let mut counts: Vec<u32> = most.into_iter().flatten().copied().collect();
    counts.dedup();
    let mut measured = Vec::new();
    for kernel in kernels() {
        for &threads in &counts {
            let rate = rate(kernel, threads, plan.point);
            measured.push(ProbedArithmetic {
                number_type: kernel.number_type.into(),
                instruction: kernel.instruction.into(),
                threads,
                giga_operations_per_second: rounded(rate / 1e9),
            });
        }
    }
    measured
}

/// Operations per second of all threads: the faster of two rounds of each.
fn rate(kernel: Kernel, threads: u32, time: Duration) -> f64 {
    let barrier = Barrier::new(threads.max(1) as usize);
    let one = || {
        let mut best: f64 = 0.0;
        for _ in 0..2 {
            barrier.wait();
            let start = Instant::now();
            let mut steps = 0u64;
            while start.elapsed() < time {
                (kernel.run)(STEPS);
                steps += u64::from(STEPS);
            }
            let operations = steps as f64 * f64::from(kernel.operations);
            best = best.max(operations / start.elapsed().as_secs_f64().max(1e-9));
        }
        best
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(one)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).sum()
    })
}

#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
use x86::kernels;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
use aarch64::kernels;

/// What every processor can: a loop that the compiler makes of it what it can.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn kernels() -> Vec<Kernel> {
    vec![portable::kernel()]
}

/// Multiplications and additions as the compiler arranges them.
#[cfg_attr(target_arch = "aarch64", expect(dead_code, reason = "NEON is there always"))]
mod portable {
    use std::hint::black_box;

    use super::Kernel;

    const LANES: usize = 32;

    pub(super) fn kernel() -> Kernel {
        let operations = 2 * LANES as u32;
        Kernel { number_type: "f32", instruction: "multiply, add", operations, run }
    }

    fn run(steps: u32) {
        let (scale, offset) = (black_box(0.999f32), black_box(0.001f32));
        let mut lanes = [0.5f32; LANES];
        for _ in 0..steps {
            for lane in &mut lanes {
                *lane = *lane * scale + offset;
            }
        }
        black_box(lanes);
    }
}
