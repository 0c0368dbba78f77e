//! Files that appear whole or not at all.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use foretoken_report::units::bytes;
use tempfile::NamedTempFile;

use crate::output::Output;

/// A file under a temporary name beside its place, renamed when it is complete.
///
/// Dropped before [`AtomicFile::commit`], it leaves nothing behind. Devices such as `/dev/null`
/// are written directly: they cannot be renamed onto.
pub struct AtomicFile {
    path: PathBuf,
    target: Target,
}

enum Target {
    Temporary(BufWriter<NamedTempFile>),
    Direct(BufWriter<fs::File>),
}

const BUFFER_BYTES: usize = 1 << 20;

impl AtomicFile {
    /// Opens the temporary file; missing folders are made.
    ///
    /// # Errors
    /// A place that cannot be written, before anything has been done.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write {}", path.display());
        if path.is_dir() {
            bail!("cannot write {}: it is a folder; give a file name", path.display());
        }
        let target = match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => {
                let file = fs::OpenOptions::new().write(true).open(path).with_context(cannot)?;
                Target::Direct(BufWriter::with_capacity(BUFFER_BYTES, file))
            }
            Ok(metadata) if metadata.permissions().readonly() => {
                bail!("cannot write {}: it is read-only", path.display());
            }
            _ => {
                let folder = folder_of(path);
                fs::create_dir_all(folder).with_context(cannot)?;
                let file = tempfile::Builder::new()
                    .prefix(".foretoken-")
                    .suffix(".tmp")
                    .tempfile_in(folder)
                    .with_context(cannot)?;
                Target::Temporary(BufWriter::with_capacity(BUFFER_BYTES, file))
            }
        };
        Ok(Self { path: path.to_owned(), target })
    }

    /// Gives the complete file its name.
    ///
    /// # Errors
    /// A full disk, or a place that cannot be renamed onto.
    pub fn commit(self) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", self.path.display());
        match self.target {
            Target::Direct(mut file) => file.flush().with_context(cannot)?,
            Target::Temporary(file) => {
                let file = file.into_inner().map_err(|e| e.into_error()).with_context(cannot)?;
                readable_by_all(&file).with_context(cannot)?;
                file.as_file().sync_all().with_context(cannot)?;
                file.persist(&self.path).map_err(|e| e.error).with_context(cannot)?;
            }
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.target {
            Target::Temporary(file) => file.write(bytes),
            Target::Direct(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Temporary(file) => file.flush(),
            Target::Direct(file) => file.flush(),
        }
    }
}

/// Temporary files are private; results are not secrets.
#[cfg(unix)]
fn readable_by_all(file: &NamedTempFile) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable_by_all(_: &NamedTempFile) -> io::Result<()> {
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Refuses a disk that has less room than the file needs, before anything is written.
///
/// # Errors
/// Names both sizes. A disk that does not tell is trusted; it complains when it is full.
pub fn require_space(path: &Path, needed: u64) -> anyhow::Result<()> {
    let folder = folder_of(path).ancestors().find(|folder| folder.is_dir());
    let free = fs4::available_space(folder.unwrap_or(Path::new("."))).ok();
    match free {
        Some(free) if free < needed => bail!(
            "cannot write {}: it needs {}, the disk has {} left",
            path.display(),
            bytes(needed),
            bytes(free)
        ),
        _ => Ok(()),
    }
}

/// Makes the folder that a file asked for by name goes into, and says so: of a mistyped path
/// nobody would look for it.
///
/// # Errors
/// A place where no folder can be made.
pub fn make_folder(path: &Path, output: &Output) -> anyhow::Result<()> {
    let folder = folder_of(path);
    if !folder.exists() {
        fs::create_dir_all(folder).with_context(|| format!("cannot write {}", path.display()))?;
        output.note(&format!("made the folder {}", folder.display()));
    }
    Ok(())
}

/// Checks that a file can be made at this place and written to, without leaving a trace of it.
///
/// # Errors
/// A place that cannot be written, a full disk.
pub fn check_writable(path: &Path) -> anyhow::Result<()> {
    let mut file = AtomicFile::create(path)?;
    let written = file.write_all(b"\n").and_then(|()| file.flush());
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a small file whole.
///
/// # Errors
/// A place that cannot be written, a full disk.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file.json");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert!(!path.exists());
        write_atomic(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let full = Path::new("/dev/full");
        for error in [write_atomic(full, b"x"), check_writable(full)].map(Result::unwrap_err) {
            assert!(format!("{error:#}").starts_with("cannot write /dev/full: No space left"));
        }
    }

    #[test]
    fn checking_a_place_leaves_it_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept.json");
        fs::write(&path, "mine").unwrap();
        check_writable(&path).unwrap();
        check_writable(&folder.path().join("new.json")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_larger_than_the_disk_is_refused_with_both_sizes() {
        let error = require_space(Path::new("x.gguf"), 1 << 60).unwrap_err().to_string();
        assert!(error.contains("it needs 1048576 TiB"), "{error}");
    }

    #[test]
    fn a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_atomic(folder.path(), b"x").is_err());
    }
}
