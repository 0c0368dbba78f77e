//! The number of threads, which candle reads from the environment once per process.

use std::env;
use std::io;
use std::process::{Command, ExitStatus};

/// What rayon's pool and candle's own pool read.
const VARIABLES: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Set in a process that was started by [`rerun_with_threads`], so that it does not start another.
const MARKER: &str = "FORETOKEN_THREADS";

/// Threads that candle computes with in this process: its variables, else the physical cores.
pub fn threads_in_effect() -> u32 {
    let from_environment =
        VARIABLES.iter().rev().find_map(|name| env::var(name).ok()?.trim().parse().ok());
    from_environment
        .filter(|n| *n > 0)
        .unwrap_or_else(|| u32::try_from(candle_core::utils::get_num_threads()).unwrap_or(u32::MAX))
}

/// Starts this program again with the same arguments and `n` threads, unless it runs so already.
///
/// `None` says that `n` threads are in effect and the caller goes on. On Unix the new program
/// takes the place of this one and the call does not return; elsewhere its exit status is
/// returned for the caller to pass on.
///
/// # Errors
/// The program cannot be started again.
pub fn rerun_with_threads(n: u32) -> io::Result<Option<ExitStatus>> {
    let wanted = n.max(1).to_string();
    let is_set = |name: &str| env::var(name).is_ok_and(|value| value == wanted);
    if VARIABLES.iter().all(|name| is_set(name)) || is_set(MARKER) {
        return Ok(None);
    }
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1)).env(MARKER, &wanted);
    for name in VARIABLES {
        command.env(name, &wanted);
    }
    start(&mut command)
}

#[cfg(unix)]
fn start(command: &mut Command) -> io::Result<Option<ExitStatus>> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

#[cfg(not(unix))]
fn start(command: &mut Command) -> io::Result<Option<ExitStatus>> {
    command.status().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_at_least_one_thread() {
        assert!(threads_in_effect() >= 1);
    }
}
