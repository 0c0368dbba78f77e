//! How long this process waited for a processor that others had.
//!
//! Involuntary context switches say too much: candle keeps one pool of spinning threads as large
//! as the machine, and rayon's pool beside it, so the two take turns all the time. Linux keeps
//! the time that each thread was ready and did not run (`/proc/self/task/*/schedstat`, second
//! number, ns). Of the threads of this process, the calling one and candle's own compute;
//! rayon's, which wait as long as the others spin, are left out.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::system_files::{entries, read};
use crate::usage::process_usage;

/// A pass is preempted when a thread waited for more than this share of it.
const PREEMPTED_SHARE: f64 = 0.02;

/// Waiting times of the threads that existed at the last [`RunDelay::refresh`].
///
/// A reading takes microseconds, so there is one between two passes, not two: what a thread waited
/// since the pass before counts as well.
pub(crate) struct RunDelay {
    threads: Vec<(File, u64)>,
    switches: u64,
    /// Whether the last pass left a reading to begin the next with.
    is_fresh: bool,
}

impl RunDelay {
    pub(crate) fn new() -> Self {
        let mut delay = Self { threads: Vec::new(), switches: 0, is_fresh: false };
        delay.refresh();
        delay
    }

    /// Looks for threads anew; the engine's pools begin with the first pass.
    pub(crate) fn refresh(&mut self) {
        let calling = calling_thread();
        self.threads = entries("/proc/self/task")
            .into_iter()
            .filter(|task| Some(task) == calling.as_ref() || is_of_candle(task))
            .filter_map(|task| File::open(task.join("schedstat")).ok())
            .map(|file| (file, 0))
            .collect();
        self.is_fresh = false;
    }

    /// Begins a pass.
    pub(crate) fn start(&mut self) {
        if !std::mem::take(&mut self.is_fresh) {
            self.longest_wait();
        }
        if self.threads.is_empty() {
            self.switches = involuntary_switches();
        }
    }

    /// Whether a thread waited for long since the start of a pass that took `pass`. Where the
    /// system does not tell waiting times, any involuntary context switch says so.
    pub(crate) fn was_preempted(&mut self, pass: Duration) -> bool {
        self.is_fresh = true;
        match self.longest_wait() {
            Some(ns) => ns as f64 > PREEMPTED_SHARE * pass.as_nanos() as f64,
            None => involuntary_switches() > self.switches,
        }
    }

    /// Longest wait of a thread since the last reading.
    fn longest_wait(&mut self) -> Option<u64> {
        let waits = self.threads.iter_mut().filter_map(|(file, before)| {
            let now = read_delay(file)?;
            Some(now.saturating_sub(std::mem::replace(before, now)))
        });
        waits.max()
    }
}

/// `/proc/self/task/<id>` of the thread that asks.
fn calling_thread() -> Option<PathBuf> {
    // The link reads `<process>/task/<thread>`.
    let link = std::fs::read_link("/proc/thread-self").ok()?;
    Some(Path::new("/proc/self/task").join(link.file_name()?))
}

/// Whether a thread is one of candle's (candle-core's `utils.rs` names them `candle-bp-N`).
fn is_of_candle(task: &Path) -> bool {
    read(task.join("comm")).is_some_and(|name| name.starts_with("candle-"))
}

fn involuntary_switches() -> u64 {
    process_usage().map_or(0, |usage| usage.involuntary_switches)
}

/// Reads an open `schedstat` again from its beginning.
#[cfg(unix)]
fn read_delay(file: &File) -> Option<u64> {
    use std::os::unix::fs::FileExt;
    let mut buffer = [0_u8; 96];
    let length = file.read_at(&mut buffer, 0).ok()?;
    delay_of(std::str::from_utf8(&buffer[..length]).ok()?)
}

#[cfg(not(unix))]
fn read_delay(_file: &File) -> Option<u64> {
    None
}

/// `schedstat` is: time on the processor, time waiting for one, number of turns.
#[cfg(any(unix, test))]
fn delay_of(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_is_the_wait() {
        assert_eq!(delay_of("197530347 50775 10\n"), Some(50_775));
        assert_eq!(delay_of(""), None);
    }
}
