//! Resident and available memory.

use sysinfo::System;

use crate::RunError;
use crate::system_files::{kib_field, read};
use crate::usage::{process_usage, return_free_memory};

/// Refuses what would not fit.
///
/// # Errors
/// `needed_bytes` above `available_bytes`.
pub fn check_memory(needed_bytes: u64, available_bytes: u64) -> Result<(), RunError> {
    if needed_bytes <= available_bytes {
        Ok(())
    } else {
        Err(RunError::Memory { needed_bytes, available_bytes })
    }
}

/// Memory that programs can still take: `MemAvailable` on Linux, the system's own word elsewhere,
/// and no more than a control group leaves.
pub fn available_memory() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let free_in_group = system.cgroup_limits().map(|limits| limits.free_memory);
    let available = read("/proc/meminfo")
        .and_then(|text| kib_field(&text, "MemAvailable"))
        .unwrap_or_else(|| system.available_memory());
    Some(free_in_group.map_or(available, |free| free.min(available)))
}

/// Resident size of this process now.
pub(crate) fn resident_bytes() -> Option<u64> {
    kib_field(&read("/proc/self/status")?, "VmRSS")
}

/// Highest resident size: since the last [`reset_peak`] on Linux, of the whole life of the
/// process elsewhere.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    read("/proc/self/status")
        .and_then(|text| kib_field(&text, "VmHWM"))
        .or_else(|| process_usage().map(|usage| usage.max_rss_bytes))
}

/// Starts a new peak at the present resident size (Linux; without effect elsewhere).
pub(crate) fn reset_peak() {
    // A kernel without this file only makes the reading an upper bound.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Gives back what freed models have left in the allocator, so that the next model's memory is
/// its own.
pub(crate) fn release_unused() {
    return_free_memory();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_the_numbers() {
        assert!(check_memory(5, 5).is_ok());
        let error = check_memory(6, 5).unwrap_err();
        assert!(matches!(error, RunError::Memory { needed_bytes: 6, available_bytes: 5 }));
    }
}
