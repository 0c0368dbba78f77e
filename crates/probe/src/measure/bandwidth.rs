//! Reading of caches and memory: every thread sums a buffer of its own, over and over.
//!
//! Rate = bytes that a thread read ÷ its time, summed over the threads, which start together. It is
//! what loads of a compiled loop achieve: near the peak of a memory, below that of a first cache.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use foretoken_spec::{DetectedMachine, ProbedBandwidth};

use super::{MeasurePlan, rounded};

/// Bytes that are read between two looks at the clock, at least.
const CHUNK_BYTES: usize = 1 << 20;
/// Smallest buffers of main memory over all threads, bytes.
const DRAM_BYTES: u64 = 256 << 20;
/// Main memory is read through buffers of so many last-level caches.
const DRAM_PER_CACHE: u64 = 4;

/// A level, and how many bytes of it each of so many threads reads.
struct Point {
    level: String,
    threads: u32,
    bytes_each: u64,
}

/// Every level by every number of threads.
pub(super) fn measure(
    machine: &DetectedMachine,
    plan: &MeasurePlan,
    counts: &[u32],
) -> Vec<ProbedBandwidth> {
    let points = counts.iter().flat_map(|threads| points(machine, plan, *threads));
    let mut measured: Vec<ProbedBandwidth> = points
        .map(|point| ProbedBandwidth {
            read_gbps: rounded(read_gbps(&point, plan.point)),
            buffer_bytes: point.bytes_each * u64::from(point.threads),
            threads: point.threads,
            level: point.level,
        })
        .collect();
    measured.sort_by(|a, b| (&a.level, a.threads).cmp(&(&b.level, b.threads)));
    // `DRAM` sorts before `L1`; people read from the core outwards.
    let dram = measured.iter().take_while(|point| point.level == "DRAM").count();
    measured.rotate_left(dram);
    measured
}

/// The levels that so many threads can tell apart.
fn points(machine: &DetectedMachine, plan: &MeasurePlan, threads: u32) -> Vec<Point> {
    let n = u64::from(threads.max(1));
    let mut points = Vec::new();
    let mut below = 0;
    for cache in &machine.caches {
        let total = (cache.total_kib * 1024.0) as u64;
        let each = (cache.kib * 1024.0) as u64;
        // Half of it, so that the stack and the other threads of the core have room.
        let share = if cache.level <= 2 { each / 2 } else { (total / n).min(each) / 2 };
        let bytes_each = share.max(2 * below);
        // What all threads read must fit, and be more than what the level below holds.
        if bytes_each > below && bytes_each * n <= total.max(each) {
            points.push(Point { level: format!("L{}", cache.level), threads, bytes_each });
        }
        below = each.min(total);
    }
    let last = machine.caches.iter().map(|cache| (cache.total_kib * 1024.0) as u64).max();
    let wanted = last.unwrap_or(0).saturating_mul(DRAM_PER_CACHE).max(DRAM_BYTES);
    let bytes_each = wanted.min(plan.memory_bytes) / n;
    points.push(Point { level: "DRAM".into(), threads, bytes_each });
    points
}

fn read_gbps(point: &Point, time: Duration) -> f64 {
    let words = usize::try_from(point.bytes_each).unwrap_or(0) / size_of::<u64>();
    let barrier = Barrier::new(point.threads.max(1) as usize);
    let rates = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..point.threads.max(1))
            .map(|_| scope.spawn(|| read_buffer(words.max(LANES), &barrier, time)))
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<f64>>()
    });
    rates.iter().sum::<f64>() / 1e9
}

/// Bytes per second of one thread: the faster of two rounds.
fn read_buffer(words: usize, barrier: &Barrier, time: Duration) -> f64 {
    // Not zero: untouched zero pages would all be the same page.
    let buffer = vec![1u64; words];
    let passes = (CHUNK_BYTES / (words * size_of::<u64>())).max(1);
    let mut best: f64 = 0.0;
    black_box(sum(&buffer));
    for _ in 0..2 {
        barrier.wait();
        let start = Instant::now();
        let mut total = 0u64;
        let mut read = 0u64;
        while start.elapsed() < time {
            for _ in 0..passes {
                total ^= sum(black_box(&buffer));
            }
            read += (passes * words * size_of::<u64>()) as u64;
        }
        black_box(total);
        best = best.max(read as f64 / start.elapsed().as_secs_f64().max(1e-9));
    }
    best
}

/// Sums that do not wait for each other: eight registers of 256 bits.
const LANES: usize = 32;

#[inline(always)]
fn sum_lanes(words: &[u64]) -> u64 {
    let mut lanes = [0u64; LANES];
    let mut chunks = words.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().chain(chunks.remainder()).fold(0, |a, b| a.wrapping_add(*b))
}

/// The sum with the widest loads that the processor has.
#[cfg(target_arch = "x86_64")]
fn sum(words: &[u64]) -> u64 {
    #[target_feature(enable = "avx512f")]
    fn wide(words: &[u64]) -> u64 {
        sum_lanes(words)
    }
    #[target_feature(enable = "avx2")]
    fn middle(words: &[u64]) -> u64 {
        sum_lanes(words)
    }
    if std::arch::is_x86_feature_detected!("avx512f") {
        #[expect(unsafe_code, reason = "a function for processors with AVX-512")]
        // SAFETY: the processor has AVX-512F, all that the function needs.
        return unsafe { wide(words) };
    }
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "a function for processors with AVX2")]
        // SAFETY: the processor has AVX2, all that the function needs.
        return unsafe { middle(words) };
    }
    sum_lanes(words)
}

/// The sum with the loads of the architecture's baseline (128 bits on aarch64).
#[cfg(not(target_arch = "x86_64"))]
fn sum(words: &[u64]) -> u64 {
    sum_lanes(words)
}

#[cfg(test)]
mod tests {
    use foretoken_spec::DetectedCache;

    use super::*;

    #[test]
    fn every_word_is_summed() {
        let words: Vec<u64> = (0..1003).collect();
        assert_eq!(sum(&words), 1002 * 1003 / 2);
        assert_eq!(sum_lanes(&words[..7]), 21);
    }

    #[test]
    fn buffers_fit_their_level_and_not_the_one_below() {
        // A Pi 5: 64 KiB and 512 KiB for each core, 2 MiB for all.
        let cache = |level, kib: f64, count: u32| DetectedCache {
            level,
            kib,
            count,
            total_kib: kib * f64::from(count),
        };
        let machine = DetectedMachine {
            caches: vec![cache(1, 64.0, 4), cache(2, 512.0, 4), cache(3, 2048.0, 1)],
            ..DetectedMachine::default()
        };
        let plan = MeasurePlan::usual(&machine);
        let of = |threads| {
            let points = points(&machine, &plan, threads);
            points.iter().map(|p| (p.level.clone(), p.bytes_each >> 10)).collect::<Vec<_>>()
        };
        let expected = [("L1", 32), ("L2", 256), ("L3", 1024), ("DRAM", 256 << 10)];
        assert_eq!(of(1), expected.map(|(level, kib)| (level.to_owned(), kib)));
        // Four threads' shares of L3 would fit into their L2.
        let expected = [("L1", 32), ("L2", 256), ("DRAM", 64 << 10)];
        assert_eq!(of(4), expected.map(|(level, kib)| (level.to_owned(), kib)));
    }
}
