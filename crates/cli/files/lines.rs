//! Measurement files that grow by whole lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;

/// A JSON Lines file that is open for appending: it grows by whole lines, and of a run that is
/// killed while it writes, the unfinished line is all that is lost.
pub struct JsonLines {
    path: PathBuf,
    file: File,
    dropped: bool,
}

impl JsonLines {
    /// Opens or makes the file and checks that it can be written, before anything is measured.
    ///
    /// A last line without its end, which a killed run left, is dropped.
    ///
    /// # Errors
    /// A place that cannot be written; a file of another kind.
    pub fn append(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write {}", path.display());
        if path.is_dir() {
            bail!("cannot write {}: it is a folder; give a file name", path.display());
        }
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            fs::create_dir_all(folder).with_context(cannot)?;
        }
        let is_device = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        let mut file = OpenOptions::new()
            .read(!is_device)
            .append(true)
            .create(true)
            .open(path)
            .with_context(cannot)?;
        let dropped = !is_device && drop_partial_line(&mut file, path)?;
        Ok(Self { path: path.to_owned(), file, dropped })
    }

    /// Where the lines go.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an unfinished last line was dropped on opening.
    pub fn dropped_partial_line(&self) -> bool {
        self.dropped
    }

    /// Appends one value as one line, in one write.
    ///
    /// # Errors
    /// A full disk, a value that JSON cannot hold; the message names the file.
    pub fn push(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.flush());
        written.map_err(|error| {
            let message = format!("cannot write {}: {error}", self.path.display());
            io::Error::new(error.kind(), message)
        })
    }
}

/// Cuts the file after its last line end; answers whether something was cut.
fn drop_partial_line(file: &mut File, path: &Path) -> anyhow::Result<bool> {
    let cannot = || format!("cannot read {}", path.display());
    let length = file.metadata().with_context(cannot)?.len();
    if length == 0 {
        return Ok(false);
    }
    let mut first = [0; 1];
    file.seek(SeekFrom::Start(0)).with_context(cannot)?;
    file.read_exact(&mut first).with_context(cannot)?;
    if first != *b"{" {
        bail!(
            "{} is not a file of measurements (JSON Lines); give another name to --out",
            path.display()
        );
    }
    let end = end_of_last_line(file, length).with_context(cannot)?;
    if end < length {
        file.set_len(end).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(end < length)
}

/// Position after the last `\n`, searched backwards in blocks.
fn end_of_last_line(file: &mut File, length: u64) -> io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; (end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        if let Some(position) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + position as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_last_line_is_dropped_and_whole_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs/data.jsonl");
        let mut lines = JsonLines::append(&path).unwrap();
        lines.push(&serde_json::json!({"a": 1})).unwrap();
        drop(lines);
        fs::write(&path, format!("{}{{\"a\": 2", fs::read_to_string(&path).unwrap())).unwrap();
        let mut lines = JsonLines::append(&path).unwrap();
        assert!(lines.dropped_partial_line());
        lines.push(&serde_json::json!({"a": 3})).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"a\":1}\n{\"a\":3}\n");
    }

    #[test]
    fn another_kind_of_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        fs::write(&path, "GGUF and weights").unwrap();
        assert!(JsonLines::append(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"GGUF and weights");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_names_the_file() {
        let mut lines = JsonLines::append(Path::new("/dev/full")).unwrap();
        let error = lines.push(&1).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot write /dev/full: No space left"));
    }
}
