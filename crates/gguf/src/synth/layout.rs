//! The header of a synthetic file and the place of each tensor behind it.

use foretoken_spec::ModelSpec;

use super::{ALIGNMENT, VERSION, metadata};

/// Where everything is in a synthetic file.
pub(super) struct Layout {
    /// The bytes before the data, padded to the alignment.
    pub(super) header: Vec<u8>,
    /// Offset of each tensor from the start of the data.
    pub(super) offsets: Vec<u64>,
    data_bytes: u64,
}

impl Layout {
    pub(super) fn of(spec: &ModelSpec) -> Self {
        let mut offsets = Vec::with_capacity(spec.tensors.len());
        let mut data_bytes = 0;
        for tensor in &spec.tensors {
            offsets.push(data_bytes);
            data_bytes += tensor.bytes().next_multiple_of(ALIGNMENT);
        }
        let header = header(spec, &offsets);
        Self { header, offsets, data_bytes }
    }

    pub(super) fn data_offset(&self) -> u64 {
        self.header.len() as u64
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.data_offset() + self.data_bytes
    }
}

fn header(spec: &ModelSpec, offsets: &[u64]) -> Vec<u8> {
    let metadata = metadata::of(spec);
    let mut out = Vec::new();
    out.extend(b"GGUF");
    out.extend(VERSION.to_le_bytes());
    out.extend((spec.tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in &metadata {
        metadata::write(&mut out, key, value);
    }
    for (tensor, offset) in spec.tensors.iter().zip(offsets) {
        metadata::write_text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        for dim in &tensor.shape {
            out.extend(dim.to_le_bytes());
        }
        out.extend(tensor.tensor_type.id().to_le_bytes());
        out.extend(offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    out
}
