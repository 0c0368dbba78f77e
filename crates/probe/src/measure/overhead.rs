//! What threads cost: starting them, waking one, handing over between two that spin.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use foretoken_spec::ProbedOverhead;
use foretoken_stats::median;

use super::rounded;

/// Times that threads are started.
const SPAWNS: usize = 50;
/// Times that a thread is woken.
const WAKES: usize = 500;
/// Hand-overs between two spinning threads.
const SPINS: u32 = 20_000;
/// A hand-over that takes longer says that the two do not run at once.
const LONGEST: Duration = Duration::from_millis(300);

/// Medians of all three.
pub(super) fn measure(threads: u32) -> ProbedOverhead {
    let threads = threads.max(1);
    ProbedOverhead {
        threads,
        spawn_us: rounded(median(&spawns(threads)).unwrap_or(0.0)),
        wake_us: rounded(median(&wakes()).unwrap_or(0.0)),
        spin_us: (threads > 1).then(spin_us).flatten().map(rounded),
    }
}

/// From the start of so many threads that do nothing to the end of the last, µs.
fn spawns(threads: u32) -> Vec<f64> {
    let once = || {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {});
            }
        });
        microseconds(start)
    };
    (0..SPAWNS).map(|_| once()).collect()
}

/// From a message to a sleeping thread to its answer, µs.
fn wakes() -> Vec<f64> {
    let (ask, asked) = channel::<()>();
    let (answer, answered) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || while asked.recv().is_ok() && answer.send(()).is_ok() {});
        let times = (0..WAKES).map_while(|_| {
            let start = Instant::now();
            ask.send(()).ok()?;
            answered.recv().ok()?;
            Some(microseconds(start))
        });
        let times = times.collect();
        // The thread ends with its channel.
        drop(ask);
        times
    })
}

/// From a write that a spinning thread waits for to the sight of its answer, µs; `None` where the
/// two do not run at once.
fn spin_us() -> Option<f64> {
    const STOP: u32 = u32::MAX;
    let turn = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let turn = &turn;
        scope.spawn(move || {
            loop {
                match turn.load(Ordering::Acquire) {
                    STOP => break,
                    n if n % 2 == 1 => turn.store(n + 1, Ordering::Release),
                    _ => std::hint::spin_loop(),
                }
            }
        });
        let start = Instant::now();
        let mut done = 0;
        while done < SPINS && start.elapsed() < LONGEST {
            turn.store(2 * done + 1, Ordering::Release);
            while turn.load(Ordering::Acquire) != 2 * done + 2 {
                std::hint::spin_loop();
            }
            done += 1;
        }
        let time = microseconds(start);
        turn.store(STOP, Ordering::Release);
        (done == SPINS).then(|| time / f64::from(done))
    })
}

fn microseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}
