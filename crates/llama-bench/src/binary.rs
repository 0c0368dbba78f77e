//! The program: where it is, and what its version can do.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::BenchError;

/// A llama-bench program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LlamaBench {
    pub(crate) path: PathBuf,
    /// Name of its output format with raw samples.
    pub(crate) format: &'static str,
    pub(crate) has_depth: bool,
}

/// Options that every version has.
const ALWAYS: [&str; 4] = ["--n-prompt", "--n-gen", "--repetitions", "--output"];

impl LlamaBench {
    /// Asks a program for its options. A name without a folder is looked up in `PATH`.
    ///
    /// # Errors
    /// It cannot be run, or is no llama-bench.
    pub fn open(path: &Path) -> Result<Self, BenchError> {
        let start = |source| BenchError::Start { path: path.to_owned(), source };
        let answer = Command::new(path).arg("--help").stdin(Stdio::null()).output();
        let answer = answer.map_err(start)?;
        let help = String::from_utf8_lossy(&answer.stdout).into_owned()
            + &String::from_utf8_lossy(&answer.stderr);
        Self::of_help(path, &help)
    }

    /// The same of a help text.
    pub(crate) fn of_help(path: &Path, help: &str) -> Result<Self, BenchError> {
        if let Some(missing) = ALWAYS.into_iter().find(|option| !help.contains(option)) {
            return Err(BenchError::NotLlamaBench { path: path.to_owned(), missing });
        }
        Ok(Self {
            path: path.to_owned(),
            format: if help.contains("jsonl") { "jsonl" } else { "json" },
            has_depth: help.contains("--n-depth"),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it can fill the cache before a test (`-d`, since April 2025).
    pub fn has_depth(&self) -> bool {
        self.has_depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "usage: llama-bench [options]
options:
  -p, --n-prompt <n>
  -n, --n-gen <n>
  -r, --repetitions <n>
  -o, --output <csv|json|md|sql>";

    #[test]
    fn the_help_tells_what_a_version_can_do() {
        let old = LlamaBench::of_help(Path::new("b"), OLD).unwrap();
        assert_eq!((old.format, old.has_depth()), ("json", false));
        let new = OLD.replace("csv|json|", "csv|json|jsonl|") + "\n  -d, --n-depth <n>";
        let new = LlamaBench::of_help(Path::new("b"), &new).unwrap();
        assert_eq!((new.format, new.has_depth()), ("jsonl", true));
    }

    #[test]
    fn another_program_is_refused_by_what_it_lacks() {
        let error = LlamaBench::of_help(Path::new("/bin/ls"), "usage: ls [OPTION]").unwrap_err();
        assert_eq!(error.to_string(), "/bin/ls is no llama-bench: its --help names no --n-prompt");
        let error = LlamaBench::open(Path::new("/absent/llama-bench")).unwrap_err();
        assert!(error.to_string().starts_with("cannot run /absent/llama-bench"), "{error}");
    }
}
