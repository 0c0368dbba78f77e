//! GGUF files of true shapes and true bytes with random weights, made while they are read.
//!
//! The time of a forward pass does not depend on the values of the weights, so a synthetic file
//! runs as fast as the real one and needs no download. Version 3, alignment 32; the header carries
//! what candle and llama.cpp need to load the file, and no vocabulary.

mod blocks;
mod layout;
mod metadata;

use std::io::{self, Read, Seek, SeekFrom, Write};

use foretoken_spec::ModelSpec;

use blocks::Pool;
use layout::Layout;

#[cfg(test)]
pub(crate) use metadata::write as write_metadata;

/// Version of the files that are written.
pub const VERSION: u32 = 3;
/// Alignment of the tensors in the files that are written.
pub const ALIGNMENT: u64 = 32;

/// A synthetic GGUF file that exists only while it is read: no disk, a few megabytes of memory.
pub struct SyntheticGguf {
    header: Vec<u8>,
    data: Vec<Data>,
    len: u64,
    at: u64,
}

/// The data of one tensor.
struct Data {
    begin: u64,
    end: u64,
    pool: &'static Pool,
    /// Where in the pool the tensor begins.
    phase: u64,
}

impl SyntheticGguf {
    /// The file of this model, positioned at its start.
    ///
    /// Tensors of types that no scheme of this tool uses (the `IQ` and `TQ` types, …) are zeros.
    pub fn new(spec: &ModelSpec) -> Self {
        let layout = Layout::of(spec);
        let data_offset = layout.data_offset();
        let data = spec
            .tensors
            .iter()
            .zip(&layout.offsets)
            .map(|(tensor, offset)| {
                let pool = blocks::pool(tensor);
                let begin = data_offset + offset;
                Data { begin, end: begin + tensor.bytes(), pool, phase: pool.phase(&tensor.name) }
            })
            .collect();
        Self { len: layout.file_bytes(), header: layout.header, data, at: 0 }
    }

    /// Size of the file.
    #[allow(clippy::len_without_is_empty, reason = "a file with a header is never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Fills a prefix of `buffer` from one region of the file; returns its length, at least 1.
    fn read_region(&self, at: u64, buffer: &mut [u8]) -> usize {
        let header_end = self.header.len() as u64;
        if at < header_end {
            let rest = self.header.get(index(at)..).unwrap_or_default();
            return copy_prefix(buffer, rest);
        }
        let next = self.data.partition_point(|data| data.end <= at);
        let Some(data) = self.data.get(next) else {
            return zeros(buffer, self.len - at);
        };
        if at < data.begin {
            return zeros(buffer, data.begin - at);
        }
        let n = index(data.end - at).min(buffer.len());
        if let Some(buffer) = buffer.get_mut(..n) {
            data.pool.fill(data.phase + (at - data.begin), buffer);
        }
        n
    }
}

impl std::fmt::Debug for SyntheticGguf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyntheticGguf")
            .field("len", &self.len)
            .field("at", &self.at)
            .field("tensors", &self.data.len())
            .finish()
    }
}

impl Read for SyntheticGguf {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = index(self.len.saturating_sub(self.at)).min(buffer.len());
        let mut rest = buffer.get_mut(..n).unwrap_or_default();
        while !rest.is_empty() {
            let done = self.read_region(self.at, rest);
            self.at += done as u64;
            rest = rest.get_mut(done..).unwrap_or_default();
        }
        Ok(n)
    }
}

impl Seek for SyntheticGguf {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let target = match position {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = target.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "seek before the start of the file")
        })?;
        Ok(self.at)
    }
}

/// Writes the file that [`SyntheticGguf`] would read; `on_bytes(written, total)` follows progress.
///
/// # Errors
/// What `out` refuses, a full disk for one.
pub fn write_synthetic(
    spec: &ModelSpec,
    out: &mut impl Write,
    on_bytes: &mut dyn FnMut(u64, u64),
) -> io::Result<()> {
    let mut file = SyntheticGguf::new(spec);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return out.flush();
        }
        out.write_all(buffer.get(..n).unwrap_or_default())?;
        on_bytes(file.at, file.len);
    }
}

/// Size of the synthetic file of a model.
pub fn file_bytes(spec: &ModelSpec) -> u64 {
    Layout::of(spec).file_bytes()
}

fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn copy_prefix(buffer: &mut [u8], from: &[u8]) -> usize {
    let n = from.len().min(buffer.len());
    if let (Some(to), Some(from)) = (buffer.get_mut(..n), from.get(..n)) {
        to.copy_from_slice(from);
    }
    n
}

fn zeros(buffer: &mut [u8], n: u64) -> usize {
    let n = index(n).min(buffer.len());
    if let Some(buffer) = buffer.get_mut(..n) {
        buffer.fill(0);
    }
    n
}

#[cfg(test)]
mod tests;
