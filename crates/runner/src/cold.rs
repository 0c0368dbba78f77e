//! Loads from storage: the system forgets a file before it is read.
//!
//! `posix_fadvise(…, DONTNEED)` drops the pages of a file from the page cache, where nobody else
//! maps them. Whether it did is not believed but looked at: `/proc/self/io` counts what the load
//! read from storage.

use std::fs::File;
use std::path::Path;

use foretoken_spec::ColdLoad;

use crate::system_files;

/// Share of a file that a cold load must have read from storage.
const COLD: f64 = 0.9;

/// A file that the system was told to forget, before it is loaded.
pub(crate) struct Forgotten {
    file_bytes: u64,
    refusal: Option<String>,
    read_before: Option<u64>,
}

impl Forgotten {
    /// Tells the system to forget the file.
    pub(crate) fn new(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let file_bytes = file.metadata()?.len();
        let refusal = forget(&file).err();
        Ok(Self { file_bytes, refusal, read_before: storage_bytes_read() })
    }

    /// What the load that took `ns` was.
    pub(crate) fn loaded(self, ns: u64) -> ColdLoad {
        let read = storage_bytes_read().zip(self.read_before);
        let storage_bytes = read.map(|(after, before)| after.saturating_sub(before));
        let doubt = self.refusal.or_else(|| doubt(self.file_bytes, storage_bytes));
        ColdLoad { ns, file_bytes: self.file_bytes, storage_bytes, doubt }
    }
}

/// Why a load that read so much of its file from storage may not have been cold.
fn doubt(file_bytes: u64, storage_bytes: Option<u64>) -> Option<String> {
    let Some(read) = storage_bytes else {
        return Some("the system does not tell what is read from storage".to_owned());
    };
    let share = read as f64 / file_bytes.max(1) as f64;
    (share < COLD).then(|| {
        format!(
            "only {:.0} % of the file came from storage: another program holds it, or its file \
             system keeps it",
            100.0 * share
        )
    })
}

/// Bytes that this process has had fetched from storage.
fn storage_bytes_read() -> Option<u64> {
    read_bytes(&system_files::read("/proc/self/io")?)
}

/// The `read_bytes` line of `/proc/self/io`.
fn read_bytes(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("read_bytes:"))?.trim().parse().ok()
}

#[cfg(target_os = "linux")]
fn forget(file: &File) -> Result<(), String> {
    // Pages that were never written cannot be dropped; of a file opened for reading this may fail.
    let _ = file.sync_all();
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)
        .map_err(|error| format!("the system did not forget the file: {error}"))
}

#[cfg(not(target_os = "linux"))]
fn forget(_: &File) -> Result<(), String> {
    Err("this system cannot be told to forget a file".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_cold_where_it_read_its_file() {
        assert_eq!(doubt(1000, Some(950)), None);
        let kept = doubt(1000, Some(120)).unwrap();
        assert!(kept.starts_with("only 12 % of the file came from storage"), "{kept}");
        assert!(doubt(1000, None).unwrap().contains("does not tell"));
    }

    #[test]
    fn proc_self_io() {
        let text = "rchar: 3012\nwchar: 0\nsyscr: 9\nread_bytes: 4096\nwrite_bytes: 0\n";
        assert_eq!(read_bytes(text), Some(4096));
        assert_eq!(read_bytes("rchar: 1\n"), None);
    }

    #[test]
    fn forgetting_a_file_does_not_harm_it() {
        let path = std::env::temp_dir().join(format!("foretoken-cold-{}", std::process::id()));
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        let load = Forgotten::new(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap().len(), 100_000);
        let load = load.loaded(5);
        std::fs::remove_file(&path).unwrap();
        assert_eq!((load.ns, load.file_bytes), (5, 100_000));
    }
}
