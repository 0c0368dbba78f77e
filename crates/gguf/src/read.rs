//! From bytes to a [`GgufHeader`]. No byte sequence panics; nothing is allocated on a promise.
//!
//! Every length is compared with what is left of the file before anything is read or reserved.
//! Arrays are skipped, apart from short ones of numbers: a vocabulary of 128,000 tokens costs time
//! but no memory.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufReader, Read, Seek, SeekFrom};

use foretoken_spec::TensorType;

use crate::{GgufError, GgufHeader, TensorInfo, Value, ValueType};

/// Alignment of a file that does not state one (`docs/gguf.md` of ggml).
const DEFAULT_ALIGNMENT: u64 = 32;
/// Longest array of numbers whose values are kept: per-layer lists are far shorter.
const LONGEST_KEPT_ARRAY: u64 = 1024;
/// Deepest nesting of arrays that is followed.
const DEEPEST_ARRAY: u32 = 4;
/// Most elements of an array of strings or arrays: 60 times the largest vocabulary in use.
const MOST_ELEMENTS: u64 = 1 << 24;
/// Longest key or tensor name (`docs/gguf.md` of ggml).
pub(crate) const LONGEST_NAME: u64 = 65_535;
/// Longest text that is kept: chat templates are some 10 KB.
const LONGEST_TEXT: u64 = 1 << 20;
/// Most metadata keys, and most tensors: the largest real files have some thousands.
const MOST_ENTRIES: u64 = 1 << 20;
/// Fewest bytes of a metadata entry: empty key, type, one byte.
const SMALLEST_ENTRY: u64 = 8 + 4 + 1;
/// Fewest bytes of a row of the tensor table: empty name, one dimension, type, offset.
const SMALLEST_TENSOR: u64 = 8 + 4 + 8 + 4 + 8;
/// Most dimensions of a ggml tensor.
const MOST_DIMS: u32 = 4;

/// Reads everything before the data, and checks that the data are all there.
///
/// # Errors
/// Not a little-endian GGUF of version 2 or 3; truncated; a declared length that the file cannot
/// hold; a tensor table that contradicts itself or the file's size.
pub fn read_header(reader: &mut (impl Read + Seek)) -> Result<GgufHeader, GgufError> {
    let (mut source, version, n_tensors, n_entries) = open(reader)?;
    let metadata = read_metadata(&mut source, n_entries)?;
    let mut tensors = Vec::new();
    for _ in 0..n_tensors {
        tensors.push(read_tensor(&mut source)?);
    }
    let file_bytes = source.file_bytes;
    let mut header = GgufHeader {
        version,
        metadata,
        tensors,
        alignment: DEFAULT_ALIGNMENT,
        data_offset: source.at,
        file_bytes,
    };
    header.alignment = alignment(&header)?;
    header.data_offset = source.at.next_multiple_of(header.alignment);
    check_tensors(&header)?;
    Ok(header)
}

/// Reads up to the first metadata entry: the version, the number of tensors and of entries.
pub(crate) fn open<R: Read + Seek>(
    reader: &mut R,
) -> Result<(Source<&mut R>, u32, u64, u64), GgufError> {
    let file_bytes = reader.seek(SeekFrom::End(0)).map_err(GgufError::Io)?;
    reader.seek(SeekFrom::Start(0)).map_err(GgufError::Io)?;
    let mut source =
        Source { reader: BufReader::with_capacity(1 << 16, reader), at: 0, file_bytes };
    let version = read_version(&mut source)?;
    let n_tensors = source.count("the tensor count", SMALLEST_TENSOR)?;
    let n_entries = source.count("the metadata count", SMALLEST_ENTRY)?;
    Ok((source, version, n_tensors, n_entries))
}

/// A reader that knows where it is and how much is left.
pub(crate) struct Source<R: Read + Seek> {
    reader: BufReader<R>,
    pub(crate) at: u64,
    file_bytes: u64,
}

impl<R: Read + Seek> Source<R> {
    fn remaining(&self) -> u64 {
        self.file_bytes.saturating_sub(self.at)
    }

    fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let mut buffer = [0; N];
        if self.remaining() < N as u64 {
            return Err(GgufError::TruncatedHeader { what, file_bytes: self.file_bytes });
        }
        self.reader.read_exact(&mut buffer).map_err(GgufError::Io)?;
        self.at += N as u64;
        Ok(buffer)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    /// A number of things of at least `smallest` bytes each.
    fn count(&mut self, what: &'static str, smallest: u64) -> Result<u64, GgufError> {
        self.count_up_to(what, smallest, MOST_ENTRIES)
    }

    /// As [`Source::count`], with a limit.
    pub(crate) fn count_up_to(
        &mut self,
        what: &'static str,
        smallest: u64,
        limit: u64,
    ) -> Result<u64, GgufError> {
        let at = self.at;
        let declared = self.u64(what)?;
        let remaining = self.remaining();
        if declared > remaining / smallest {
            return Err(GgufError::DeclaredTooLong { what, at, declared, remaining });
        }
        under_limit(what, at, declared, limit)
    }

    /// A length-prefixed text.
    pub(crate) fn text(&mut self, what: &'static str, limit: u64) -> Result<String, GgufError> {
        let at = self.at;
        let declared = self.u64(what)?;
        let remaining = self.remaining();
        if declared > remaining {
            return Err(GgufError::DeclaredTooLong { what, at, declared, remaining });
        }
        let len = under_limit(what, at, declared, limit)?;
        let mut buffer = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        self.reader.read_exact(&mut buffer).map_err(GgufError::Io)?;
        self.at += len;
        String::from_utf8(buffer).map_err(|_| GgufError::NotUtf8 { what, at })
    }

    fn skip(&mut self, what: &'static str, n: u64) -> Result<(), GgufError> {
        let remaining = self.remaining();
        if n > remaining {
            return Err(GgufError::DeclaredTooLong { what, at: self.at, declared: n, remaining });
        }
        let step = i64::try_from(n).unwrap_or(i64::MAX);
        self.reader.seek_relative(step).map_err(GgufError::Io)?;
        self.at += n;
        Ok(())
    }
}

pub(crate) fn under_limit(
    what: &'static str,
    at: u64,
    declared: u64,
    limit: u64,
) -> Result<u64, GgufError> {
    if declared > limit {
        return Err(GgufError::OverLimit { what, at, declared, limit });
    }
    Ok(declared)
}

fn read_version<R: Read + Seek>(source: &mut Source<R>) -> Result<u32, GgufError> {
    if source.file_bytes == 0 {
        return Err(GgufError::Empty);
    }
    if source.file_bytes < 4 {
        let mut found = Vec::new();
        source.reader.read_to_end(&mut found).map_err(GgufError::Io)?;
        return Err(GgufError::NotGguf { found });
    }
    let magic: [u8; 4] = source.bytes("the magic number")?;
    if &magic != b"GGUF" {
        return Err(GgufError::NotGguf { found: magic.to_vec() });
    }
    match source.u32("the version")? {
        version @ (2 | 3) => Ok(version),
        version if (1..=255).contains(&version.swap_bytes()) => {
            Err(GgufError::BigEndian { version: version.swap_bytes() })
        }
        version => Err(GgufError::Version { version }),
    }
}

fn read_metadata<R: Read + Seek>(
    source: &mut Source<R>,
    n: u64,
) -> Result<BTreeMap<String, Value>, GgufError> {
    let mut metadata = BTreeMap::new();
    for _ in 0..n {
        let key = source.text("a metadata key", LONGEST_NAME)?;
        let value_type = read_type(source, &key)?;
        let value = read_value(source, &key, value_type)?;
        if metadata.contains_key(&key) {
            return Err(GgufError::DuplicateKey { key });
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

pub(crate) fn read_type<R: Read + Seek>(
    source: &mut Source<R>,
    key: &str,
) -> Result<ValueType, GgufError> {
    let id = source.u32("a metadata type")?;
    ValueType::from_id(id).ok_or_else(|| GgufError::UnknownValueType { key: key.to_owned(), id })
}

pub(crate) fn read_value<R: Read + Seek>(
    source: &mut Source<R>,
    key: &str,
    value_type: ValueType,
) -> Result<Value, GgufError> {
    const WHAT: &str = "a metadata value";
    Ok(match value_type {
        ValueType::U8 => Value::U8(u8::from_le_bytes(source.bytes(WHAT)?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(source.bytes(WHAT)?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(source.bytes(WHAT)?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(source.bytes(WHAT)?)),
        ValueType::U32 => Value::U32(u32::from_le_bytes(source.bytes(WHAT)?)),
        ValueType::I32 => Value::I32(i32::from_le_bytes(source.bytes(WHAT)?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(source.bytes(WHAT)?)),
        ValueType::Bool => Value::Bool(source.bytes::<1>(WHAT)? != [0]),
        ValueType::String => Value::String(source.text("a metadata text", LONGEST_TEXT)?),
        ValueType::U64 => Value::U64(u64::from_le_bytes(source.bytes(WHAT)?)),
        ValueType::I64 => Value::I64(i64::from_le_bytes(source.bytes(WHAT)?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(source.bytes(WHAT)?)),
        ValueType::Array => read_array(source, key)?,
    })
}

fn read_array<R: Read + Seek>(source: &mut Source<R>, key: &str) -> Result<Value, GgufError> {
    let element = read_type(source, key)?;
    let at = source.at;
    let len = source.u64("an array length")?;
    let Some(width) = element.width() else {
        skip_elements(source, key, element, (at, len), 1)?;
        return Ok(Value::Array { element, len, items: Vec::new() });
    };
    let mut items = Vec::new();
    if len <= LONGEST_KEPT_ARRAY {
        for _ in 0..len {
            items.push(read_value(source, key, element)?);
        }
    } else {
        source.skip("an array", len.saturating_mul(width))?;
    }
    Ok(Value::Array { element, len, items })
}

/// Skips `len` strings or arrays, declared at byte `at`.
fn skip_elements<R: Read + Seek>(
    source: &mut Source<R>,
    key: &str,
    element: ValueType,
    (at, len): (u64, u64),
    depth: u32,
) -> Result<(), GgufError> {
    const WHAT: &str = "an array";
    if depth > DEEPEST_ARRAY {
        return Err(GgufError::NestedTooDeep { key: key.to_owned(), limit: DEEPEST_ARRAY });
    }
    if let Some(width) = element.width() {
        return source.skip(WHAT, len.saturating_mul(width));
    }
    let remaining = source.remaining();
    if len > remaining / 8 {
        return Err(GgufError::DeclaredTooLong { what: WHAT, at, declared: len, remaining });
    }
    for _ in 0..under_limit(WHAT, at, len, MOST_ELEMENTS)? {
        if element == ValueType::String {
            let bytes = source.u64("an array of strings")?;
            source.skip("an array of strings", bytes)?;
        } else {
            let inner = read_type(source, key)?;
            let at = source.at;
            let len = source.u64("an array length")?;
            skip_elements(source, key, inner, (at, len), depth + 1)?;
        }
    }
    Ok(())
}

fn read_tensor<R: Read + Seek>(source: &mut Source<R>) -> Result<TensorInfo, GgufError> {
    const WHAT: &str = "the tensor table";
    let name = source.text("a tensor name", LONGEST_NAME)?;
    let n_dims = source.u32(WHAT)?;
    if n_dims == 0 || n_dims > MOST_DIMS {
        return Err(GgufError::Dimensions { name, n_dims });
    }
    let mut dims = Vec::new();
    for _ in 0..n_dims {
        dims.push(source.u64(WHAT)?);
    }
    if dims.contains(&0) {
        return Err(GgufError::Dimensions { name, n_dims });
    }
    let id = source.u32(WHAT)?;
    let offset = source.u64(WHAT)?;
    match TensorType::from_id(id) {
        Ok(tensor_type) => Ok(TensorInfo { name, dims, tensor_type, offset }),
        Err(error) => Err(GgufError::TensorType { name, error }),
    }
}

fn alignment(header: &GgufHeader) -> Result<u64, GgufError> {
    let alignment = header.integer("general.alignment")?.map_or(DEFAULT_ALIGNMENT, u64::from);
    if !alignment.is_power_of_two() || !(8..=65_536).contains(&alignment) {
        return Err(GgufError::Alignment { alignment });
    }
    Ok(alignment)
}

fn check_tensors(header: &GgufHeader) -> Result<(), GgufError> {
    let mut names = HashSet::new();
    let mut spans = Vec::new();
    for tensor in &header.tensors {
        if !names.insert(tensor.name.as_str()) {
            return Err(GgufError::DuplicateTensor { name: tensor.name.clone() });
        }
        spans.push((tensor.offset, check_tensor(header, tensor)?, &tensor.name));
    }
    spans.sort_unstable();
    for pair in spans.windows(2) {
        if let [(_, end, first), (start, _, second)] = pair
            && start < end
        {
            return Err(GgufError::Overlap { first: (*first).clone(), second: (*second).clone() });
        }
    }
    Ok(())
}

/// Checks one row of the table; returns where its data end, from the start of the data.
fn check_tensor(header: &GgufHeader, tensor: &TensorInfo) -> Result<u64, GgufError> {
    let TensorInfo { name, dims, tensor_type, offset } = tensor;
    let name = || name.clone();
    let n_elements = dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
    let (Some(_), Some(bytes)) = (n_elements, tensor.bytes()) else {
        return Err(GgufError::ShapeOverflow { name: name(), dims: dims.clone() });
    };
    let row = dims.first().copied().unwrap_or(1);
    if row % tensor_type.block_len() != 0 {
        return Err(GgufError::PartialBlock { name: name(), row, tensor_type: *tensor_type });
    }
    if offset % header.alignment != 0 {
        let (offset, alignment) = (*offset, header.alignment);
        return Err(GgufError::Unaligned { name: name(), offset, alignment });
    }
    let end = offset.checked_add(bytes);
    match end.and_then(|end| end.checked_add(header.data_offset)) {
        Some(file_end) if file_end <= header.file_bytes => Ok(offset + bytes),
        file_end => Err(GgufError::PastEnd {
            name: name(),
            end: file_end.unwrap_or(u64::MAX),
            file_bytes: header.file_bytes,
        }),
    }
}

#[cfg(test)]
mod tests;
