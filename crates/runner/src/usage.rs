//! Calls to the system that the standard library does not have: counters of this process, and
//! the return of free memory.

/// What `getrusage` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Times that the scheduler took the processor away.
    pub(crate) involuntary_switches: u64,
    /// Page faults served from memory.
    pub(crate) minor_faults: u64,
    /// Page faults served from a disk.
    pub(crate) major_faults: u64,
    /// Highest resident size since the process began.
    pub(crate) max_rss_bytes: u64,
}

/// The counters of this process, all threads; `None` where the system has none.
#[cfg(unix)]
pub(crate) fn process_usage() -> Option<Usage> {
    let mut raw = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    #[expect(unsafe_code, reason = "the standard library has no getrusage")]
    // SAFETY: `raw` is valid for writes of one `rusage`, which is plain old data for which all
    // zeros are a valid value, so it is initialised whether or not the call succeeds.
    let (status, raw) =
        unsafe { (libc::getrusage(libc::RUSAGE_SELF, raw.as_mut_ptr()), raw.assume_init()) };
    if status != 0 {
        return None;
    }
    let count = |n: libc::c_long| u64::try_from(n).unwrap_or(0);
    // Linux counts in KiB, macOS in bytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    Some(Usage {
        involuntary_switches: count(raw.ru_nivcsw),
        minor_faults: count(raw.ru_minflt),
        major_faults: count(raw.ru_majflt),
        max_rss_bytes: count(raw.ru_maxrss) * unit,
    })
}

/// The counters of this process, all threads; `None` where the system has none.
#[cfg(not(unix))]
pub(crate) fn process_usage() -> Option<Usage> {
    None
}

/// Tells the allocator to keep freed memory for the next pass; `false` where it cannot be told
/// (anything but glibc).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep_freed_memory() -> bool {
    #[expect(unsafe_code, reason = "the standard library has no mallopt")]
    // SAFETY: `mallopt` takes two numbers and only changes parameters of later allocations.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0) == 1 && libc::mallopt(libc::M_TRIM_THRESHOLD, -1) == 1
    }
}

/// Tells the allocator to keep freed memory for the next pass; `false` where it cannot be told
/// (anything but glibc).
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_freed_memory() -> bool {
    false
}

/// Gives the memory that the allocator holds back to the system (glibc; elsewhere without
/// effect).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn return_free_memory() {
    #[expect(unsafe_code, reason = "the standard library has no malloc_trim")]
    // SAFETY: `malloc_trim` takes no pointer and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives the memory that the allocator holds back to the system (glibc; elsewhere without
/// effect).
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn return_free_memory() {}
