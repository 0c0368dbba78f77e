//! Reading of caches and memory: every thread sums a buffer of its own, over and over.
//!
//! Rate = bytes that all threads read ÷ their common time ([`best_rate`]). It is what loads of a
//! compiled loop achieve: near the peak of a memory, below that of a first cache.

use std::hint::black_box;
use std::time::Duration;

use foretoken_spec::{DetectedCache, DetectedMachine, ProbedBandwidth};

use super::rounds::best_rate;
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
        let each = (own_kib(machine, cache, threads) * 1024.0) as u64;
        // Half of it, so that the stack and the other threads of the core have room.
        let share = if cache.level <= 2 { each / 2 } else { (total / n).min(each) / 2 };
        let bytes_each = share.max(2 * below);
        // What all threads read must fit, and be more than what the level below holds.
        if bytes_each > below && bytes_each <= each && bytes_each * n <= total.max(each) {
            points.push(Point { level: format!("L{}", cache.level), threads, bytes_each });
        }
        below = ((cache.kib * 1024.0) as u64).min(total);
    }
    let bytes_each = wanted_memory(machine).min(plan.memory_bytes) / n;
    points.push(Point { level: "DRAM".into(), threads, bytes_each });
    points
}

/// What a cache gives each of so many threads, KiB. Threads that compute are put on the fastest cores
/// first; of more threads than these the smallest cache that one may meet counts.
fn own_kib(machine: &DetectedMachine, cache: &DetectedCache, threads: u32) -> f64 {
    if cache.level == 2 && machine.clusters.iter().all(|cluster| cluster.l2_kb.is_some()) {
        let mut cores = 0;
        let used = machine.clusters.iter().take_while(|cluster| {
            let is_used = cores < threads;
            cores += cluster.count;
            is_used
        });
        let shares = used.filter_map(|cluster| cluster.l2_kb);
        if let Some(least) = shares.reduce(f64::min) {
            return least;
        }
    }
    cache.smallest_kib.unwrap_or(cache.kib)
}

/// Bytes of all buffers of main memory: so many that the last caches hold little of them.
fn wanted_memory(machine: &DetectedMachine) -> u64 {
    let last = machine.caches.iter().map(|cache| (cache.total_kib * 1024.0) as u64).max();
    last.unwrap_or(0).saturating_mul(DRAM_PER_CACHE).max(DRAM_BYTES)
}

/// The warning about buffers of main memory that the last caches hold a good part of.
pub(super) fn warning(machine: &DetectedMachine, plan: &MeasurePlan) -> Option<String> {
    let wanted = wanted_memory(machine);
    let mib = |bytes: u64| bytes >> 20;
    (plan.memory_bytes < wanted).then(|| {
        format!(
            "main memory was read through {} MiB, for {} MiB were not free: the caches may have \
             answered for a part of it",
            mib(plan.memory_bytes),
            mib(wanted)
        )
    })
}

fn read_gbps(point: &Point, time: Duration) -> f64 {
    let words = usize::try_from(point.bytes_each).unwrap_or(0) / size_of::<u64>();
    let words = words.max(LANES);
    let passes = (CHUNK_BYTES / (words * size_of::<u64>())).max(1);
    let prepare = || {
        // Not zero: untouched zero pages would all be the same page.
        let buffer = vec![1u64; words];
        black_box(sum(&buffer));
        buffer
    };
    let step = |buffer: &mut Vec<u64>| {
        let mut total = 0u64;
        for _ in 0..passes {
            total ^= sum(black_box(buffer));
        }
        black_box(total);
        (passes * words * size_of::<u64>()) as f64
    };
    best_rate(point.threads, time, prepare, step) / 1e9
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
    use foretoken_spec::CoreCluster;

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
            smallest_kib: None,
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
        assert_eq!(warning(&machine, &plan), None);
        // Four threads' shares of L3 would fit into their L2.
        let expected = [("L1", 32), ("L2", 256), ("DRAM", 64 << 10)];
        assert_eq!(of(4), expected.map(|(level, kib)| (level.to_owned(), kib)));
    }

    #[test]
    fn each_cluster_has_caches_of_its_own() {
        // RK3588: four Cortex-A76 with 512 KiB, four Cortex-A55 with 128 KiB.
        let cluster = |core: &str, clock_ghz, l2_kb| CoreCluster {
            core: core.into(),
            count: 4,
            clock_ghz,
            l2_kb: Some(l2_kb),
            fp32_per_cycle: None,
            fp16_per_cycle: None,
            int8_per_cycle: None,
        };
        let cache = |level, kib, smallest_kib, total_kib| DetectedCache {
            level,
            kib,
            smallest_kib,
            count: if level == 3 { 1 } else { 8 },
            total_kib,
        };
        let machine = DetectedMachine {
            clusters: vec![cluster("cortex-a76", 2.4, 512.0), cluster("cortex-a55", 1.8, 128.0)],
            caches: vec![
                cache(1, 64.0, Some(32.0), 384.0),
                cache(2, 512.0, Some(128.0), 2560.0),
                cache(3, 3072.0, None, 3072.0),
            ],
            ..DetectedMachine::default()
        };
        let plan = MeasurePlan { memory_bytes: 1 << 30, ..MeasurePlan::usual(&machine) };
        let of = |threads| {
            let points = points(&machine, &plan, threads);
            points.iter().map(|p| (p.level.clone(), p.bytes_each >> 10)).collect::<Vec<_>>()
        };
        let level = |name: &str, kib: u64| (name.to_owned(), kib);
        // Four threads are on the large cores: half of their 512 KiB.
        assert_eq!(of(4)[..2], [level("L1", 16), level("L2", 256)]);
        // Eight meet the small ones, and 256 KiB would not fit there; 128 KiB, twice what the large
        // cores' first level holds, do.
        assert_eq!(of(8)[..2], [level("L1", 16), level("L2", 128)]);
        assert_eq!(of(1)[2], level("L3", 1536));
    }

    #[test]
    fn main_memory_is_read_through_four_times_the_last_caches() {
        // EPYC 9654: 384 MiB of third level.
        let last = DetectedCache {
            level: 3,
            kib: 32768.0,
            smallest_kib: None,
            count: 12,
            total_kib: 393_216.0,
        };
        let machine = DetectedMachine {
            caches: vec![last],
            memory_bytes: Some(64 << 30),
            ..DetectedMachine::default()
        };
        let plan = MeasurePlan::usual(&machine);
        let dram = points(&machine, &plan, 1).pop().unwrap();
        assert_eq!(dram.bytes_each, 1536 << 20);
        assert_eq!(warning(&machine, &plan), None);
        let small = MeasurePlan { memory_bytes: 1 << 30, ..plan };
        assert!(warning(&machine, &small).unwrap().contains("1024 MiB, for 1536 MiB"));
    }
}
