//! Files that Linux tells things in, on this machine or recorded from another.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

use crate::MeterError;

/// A file system as far as meters need one. Paths begin with `/`.
pub trait Tree: Debug + Send + Sync {
    /// Text of a file.
    ///
    /// # Errors
    /// As [`std::fs::read_to_string`].
    fn read(&self, path: &str) -> io::Result<String>;

    /// Names in a folder, sorted; empty where it cannot be read.
    fn list(&self, path: &str) -> Vec<String>;
}

/// The files below a folder: `/` for those of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(pub PathBuf);

impl Folder {
    fn resolve(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }
}

impl Tree for Folder {
    fn read(&self, path: &str) -> io::Result<String> {
        std::fs::read_to_string(self.resolve(path))
    }

    fn list(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.resolve(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// Text of a file without surrounding white space, with an error that says what to do.
pub(crate) fn text(tree: &dyn Tree, path: &str) -> Result<String, MeterError> {
    match tree.read(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(MeterError::RootOnly { path: path.to_owned() })
        }
        Err(source) => Err(MeterError::Unreadable { path: path.to_owned(), source }),
    }
}

/// A whole number that is not negative: counters, millivolts, microwatts.
pub(crate) fn count(tree: &dyn Tree, path: &str) -> Result<u64, MeterError> {
    let text = text(tree, path)?;
    text.parse().map_err(|_| MeterError::Unexpected {
        path: path.to_owned(),
        text: text.chars().take(40).collect(),
        expected: "a whole number from 0",
    })
}

/// A whole number of either sign, without it: currents of some batteries are negative while they
/// discharge.
pub(crate) fn magnitude(tree: &dyn Tree, path: &str) -> Result<u64, MeterError> {
    let text = text(tree, path)?;
    let parsed = text.parse::<i64>().map(i64::unsigned_abs);
    parsed.map_err(|_| MeterError::Unexpected {
        path: path.to_owned(),
        text: text.chars().take(40).collect(),
        expected: "a whole number",
    })
}
