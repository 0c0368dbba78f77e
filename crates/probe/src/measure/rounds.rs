//! Rounds of threads that work at once.
//!
//! A rate is all that the threads did over the time from the start of the first to the end of the
//! last, as STREAM has it (McCalpin, *Memory bandwidth and machine balance*, 1995); the best whole
//! round counts. The best rounds of single threads would be of different moments: their sum is a
//! rate that the machine never had.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Rounds of each point; the first warms up.
const N_ROUNDS: usize = 2;

/// What one thread did in a round.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    /// Since a common moment.
    begun: Duration,
    ended: Duration,
    /// Bytes, operations.
    work: f64,
}

/// Work per second of so many threads, each of which makes itself a state with `prepare` and then
/// repeats `step`, which answers the work that it did, for about `time`.
pub(super) fn best_rate<S>(
    threads: u32,
    time: Duration,
    prepare: impl Fn() -> S + Sync,
    step: impl Fn(&mut S) -> f64 + Sync,
) -> f64 {
    let n = threads.max(1);
    let barrier = Barrier::new(n as usize);
    let origin = Instant::now();
    let one = || {
        let mut state = prepare();
        let round = |_| {
            barrier.wait();
            let start = Instant::now();
            let mut work = 0.0;
            while start.elapsed() < time {
                work += step(&mut state);
            }
            Part { begun: start - origin, ended: origin.elapsed(), work }
        };
        (0..N_ROUNDS).map(round).collect::<Vec<Part>>()
    };
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n).map(|_| scope.spawn(one)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<_>>()
    });
    let of_round =
        |round| rate(&parts.iter().map(|of_thread| of_thread[round]).collect::<Vec<_>>());
    (0..N_ROUNDS).map(of_round).fold(0.0, f64::max)
}

/// Work of a round over its common time; 0 without threads.
fn rate(parts: &[Part]) -> f64 {
    let begun = parts.iter().map(|part| part.begun).min().unwrap_or_default();
    let ended = parts.iter().map(|part| part.ended).max().unwrap_or_default();
    let seconds = ended.saturating_sub(begun).as_secs_f64().max(1e-9);
    parts.iter().map(|part| part.work).sum::<f64>() / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(begun_ms: u64, ended_ms: u64, work: f64) -> Part {
        let [begun, ended] = [begun_ms, ended_ms].map(Duration::from_millis);
        Part { begun, ended, work }
    }

    #[test]
    fn a_rate_is_all_work_over_the_common_time() {
        // Two threads that had one processor in turn: 10 each in 100 ms, 20 in 200 ms. The sum of
        // their own rates would be twice as much.
        let rate = rate(&[part(0, 100, 10.0), part(100, 200, 10.0)]);
        assert!((rate - 100.0).abs() < 1e-9);
        assert_eq!(super::rate(&[]), 0.0);
    }

    #[test]
    fn every_thread_takes_part_in_every_round() {
        let time = Duration::from_millis(2);
        let rate = best_rate(
            3,
            time,
            || 0u32,
            |n| {
                *n += 1;
                std::thread::sleep(Duration::from_millis(1));
                1.0
            },
        );
        // At most three steps in a millisecond.
        assert!(rate > 0.0 && rate <= 3000.0, "{rate}");
    }
}
