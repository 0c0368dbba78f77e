//! Multiply-adds that stay in registers, enough of them at once to fill every unit.
//!
//! Each step runs [`CHAINS`] instructions that do not wait for each other; operations are chains ×
//! lanes × 2 (int8: × the products that an instruction adds). What comes out is achieved, at the
//! clock that all these threads get: a peak of a data sheet may assume another.

use std::time::Duration;

use foretoken_spec::ProbedArithmetic;

use super::rounds::best_rate;
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
pub(super) fn measure(plan: &MeasurePlan, physical_cores: u32) -> Vec<ProbedArithmetic> {
    let counts = counts(plan.threads.max(1), physical_cores);
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

/// One, the physical cores and all: the numbers between say little that the clock does not.
fn counts(threads: u32, physical_cores: u32) -> Vec<u32> {
    let mut counts = vec![1, physical_cores.clamp(1, threads), threads];
    counts.dedup();
    counts
}

/// Operations per second of all threads.
fn rate(kernel: Kernel, threads: u32, time: Duration) -> f64 {
    let step = |(): &mut ()| {
        (kernel.run)(STEPS);
        f64::from(STEPS) * f64::from(kernel.operations)
    };
    best_rate(threads, time, || (), step)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_the_physical_cores_and_all() {
        assert_eq!(counts(12, 6), [1, 6, 12]);
        assert_eq!(counts(8, 8), [1, 8]);
        assert_eq!(counts(2, 0), [1, 2]);
        assert_eq!(counts(4, 64), [1, 4], "fewer were asked for");
        assert_eq!(counts(1, 1), [1]);
    }
}
