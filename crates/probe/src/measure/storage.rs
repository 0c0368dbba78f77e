//! Reading of a file that was just written, past the system's cache.
//!
//! The file is written in pieces until it has its size or time is up, so that a slow card takes no
//! longer than a fast drive, and is read from its begin in pieces of [`PIECE`] bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use foretoken_spec::ProbedStorage;

use super::rounded;

/// Bytes of one read or write.
const PIECE: usize = 4 << 20;
/// Buffers of direct reads begin at a multiple of this.
const ALIGNMENT: usize = 4096;
/// Time for writing; a piece that is under way is finished.
const WRITING: Duration = Duration::from_millis(1500);
/// Time for reading.
const READING: Duration = Duration::from_millis(1500);

/// Reads a file of at most `bytes` in a folder; it is gone afterwards.
///
/// # Errors
/// What the system says of writing or reading there.
pub(super) fn measure(folder: &Path, bytes: u64) -> io::Result<ProbedStorage> {
    let mut file = tempfile::Builder::new().prefix(".foretoken-probe-").tempfile_in(folder)?;
    let written = write(file.as_file_mut(), bytes.max(PIECE as u64))?;
    let (mut reader, method, may_be_cached) = open_past_cache(file.path())?;
    let mut buffer = vec![0u8; PIECE + ALIGNMENT];
    let offset = buffer.as_ptr().align_offset(ALIGNMENT);
    let piece = &mut buffer[offset..offset + PIECE];
    let start = Instant::now();
    let mut read = 0u64;
    while read < written && start.elapsed() < READING {
        match reader.read(piece)? {
            0 => break,
            n => read += n as u64,
        }
    }
    let seconds = start.elapsed().as_secs_f64().max(1e-9);
    Ok(ProbedStorage {
        read_mbps: rounded(read as f64 / 1e6 / seconds),
        bytes: written,
        method: method.to_owned(),
        may_be_cached,
    })
}

/// Writes pieces that no drive can compress, each to the drive before the next.
fn write(file: &mut File, bytes: u64) -> io::Result<u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut piece = vec![0u8; PIECE];
    let start = Instant::now();
    let mut written = 0;
    while written < bytes && (written == 0 || start.elapsed() < WRITING) {
        for word in piece.chunks_exact_mut(8) {
            // Marsaglia's xorshift.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&piece)?;
        file.sync_data()?;
        written += PIECE as u64;
    }
    Ok(written)
}

/// The file without the system's cache where that can be had: a reader, how, and whether memory
/// may answer all the same.
#[cfg(target_os = "linux")]
fn open_past_cache(path: &Path) -> io::Result<(File, &'static str, bool)> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
    // A file system in memory has nothing to go past.
    if let Ok(mut file) = direct
        && can_read_directly(&mut file)
    {
        return Ok((file, "O_DIRECT", is_in_memory(path)));
    }
    let file = File::open(path)?;
    #[expect(unsafe_code, reason = "the standard library has no posix_fadvise")]
    // SAFETY: the descriptor is open, and the call changes nothing but the system's cache.
    let status = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    let method = if status == 0 { "posix_fadvise" } else { "none" };
    Ok((file, method, status != 0 || is_in_memory(path)))
}

/// Some file systems open for direct reads and then refuse to read.
#[cfg(target_os = "linux")]
fn can_read_directly(file: &mut File) -> bool {
    use std::io::Seek;
    let mut buffer = vec![0u8; 2 * ALIGNMENT];
    let offset = buffer.as_ptr().align_offset(ALIGNMENT);
    let Some(piece) = buffer.get_mut(offset..offset + ALIGNMENT) else { return false };
    file.read(piece).is_ok() && file.rewind().is_ok()
}

/// Whether a file lies in a file system without storage.
#[cfg(target_os = "linux")]
fn is_in_memory(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let of_path = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (_, point, kind) = (words.next()?, words.next()?, words.next()?);
        path.starts_with(point).then_some((point.len(), kind))
    });
    let nearest = of_path.max_by_key(|(length, _)| *length);
    nearest.is_some_and(|(_, kind)| matches!(kind, "tmpfs" | "ramfs"))
}

/// The file without the system's cache.
#[cfg(target_os = "macos")]
fn open_past_cache(path: &Path) -> io::Result<(File, &'static str, bool)> {
    use std::os::fd::AsRawFd;
    let file = OpenOptions::new().read(true).open(path)?;
    #[expect(unsafe_code, reason = "the standard library has no fcntl")]
    // SAFETY: the descriptor is open, and the call changes nothing but the caching of its reads.
    let status = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_NOCACHE, 1) };
    // What was just written may still be there.
    Ok((file, if status == -1 { "none" } else { "F_NOCACHE" }, true))
}

/// The file as it is.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn open_past_cache(path: &Path) -> io::Result<(File, &'static str, bool)> {
    Ok((OpenOptions::new().read(true).open(path)?, "none", true))
}
