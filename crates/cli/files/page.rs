//! Pages for a browser, as `--report` writes them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{check_writable, write_atomic};
use crate::output::{Hinted, Output};

/// How our pages begin.
const BEGINNING: &[u8] = b"<!DOCTYPE html>";

/// Refuses, before any work, a place that cannot be written or that holds something else than a
/// page.
///
/// # Errors
/// Names the place and what to do.
pub fn check_page(path: &Path) -> anyhow::Result<()> {
    if path.is_file() && !begins_as_page(path) {
        let message = format!("{} exists and is no HTML page", path.display());
        return Err(Hinted::new(message, "give --report another name").into());
    }
    check_writable(path)
}

/// An empty file may become a page, an unreadable one is told by [`check_writable`].
fn begins_as_page(path: &Path) -> bool {
    let mut beginning = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(BEGINNING.len() as u64).read_to_end(&mut beginning));
    read.is_err() || beginning.is_empty() || beginning == BEGINNING
}

/// Writes a page whole and says where it is.
///
/// # Errors
/// A place that cannot be written, a full disk.
pub fn write_page(path: &Path, html: &str, output: &Output) -> anyhow::Result<()> {
    write_atomic(path, html.as_bytes())?;
    output.note(&format!("report: {}", path.display()));
    Ok(())
}
