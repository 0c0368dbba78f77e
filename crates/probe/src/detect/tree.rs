//! Reading of `/proc`, `/sys` and kin under a root, so that recorded trees can be read as machines.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of a machine: `/` of the running one, or a folder with copies.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The files below `root`.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Text of a file (`proc/cpuinfo`) without surrounding white space; the zeros with which the
    /// device tree ends its strings become line ends. `None` where it cannot be read or is empty.
    pub(crate) fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = fs::read(self.root.join(path)).ok()?;
        let text = String::from_utf8_lossy(&bytes).replace('\0', "\n").trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// A file that holds a number.
    pub(crate) fn number(&self, path: impl AsRef<Path>) -> Option<f64> {
        self.read(path)?.parse().ok()
    }

    /// Names of the entries of a folder, sorted; empty where it cannot be read.
    pub(crate) fn names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// The number of `cpu12`, of a name that begins with `stem` and goes on with digits alone.
pub(crate) fn numbered(name: &str, stem: &str) -> Option<u32> {
    name.strip_prefix(stem)?.parse().ok()
}

/// The numbers of a list as the kernel writes it: `0-3,8`.
pub(crate) fn cpu_list(text: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>())
        else {
            continue;
        };
        // A damaged list must not fill the memory.
        numbers.extend(first..=last.min(first.saturating_add(4096)));
    }
    numbers
}

/// A cache size as the kernel writes it (`512K`, `32M`), in KiB.
pub(crate) fn cache_kib(size: &str) -> Option<f64> {
    let size = size.trim();
    let (digits, factor) = match size.as_bytes().last()? {
        b'K' => (&size[..size.len() - 1], 1.0),
        b'M' => (&size[..size.len() - 1], 1024.0),
        _ => (size, 1.0 / 1024.0),
    };
    digits.parse::<f64>().ok().filter(|n| *n > 0.0).map(|n| n * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_sizes() {
        assert_eq!(cpu_list("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(cpu_list(""), Vec::<u32>::new());
        assert_eq!(cpu_list("x,2"), [2]);
        assert_eq!(cache_kib("512K"), Some(512.0));
        assert_eq!(cache_kib("32M"), Some(32_768.0));
        assert_eq!(cache_kib("2048"), Some(2.0));
        assert_eq!(cache_kib("K"), None);
        assert_eq!(numbered("cpu12", "cpu"), Some(12));
        assert_eq!(numbered("cpufreq", "cpu"), None);
    }

    #[test]
    fn zeros_end_lines() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("compatible"), b"radxa,rock-5b\0rockchip,rk3588\0")
            .unwrap();
        let tree = Tree::at(folder.path());
        assert_eq!(tree.read("compatible").as_deref(), Some("radxa,rock-5b\nrockchip,rk3588"));
        assert_eq!(tree.read("absent"), None);
        assert_eq!(tree.names("."), ["compatible"]);
    }
}
