//! What can be wrong with a GGUF file.

use std::io;
use std::path::PathBuf;

use foretoken_spec::{TensorType, TensorTypeError};

use crate::ValueType;

/// Why a GGUF file cannot be used. Each message is one line and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The reason, with the file that it concerns.
    #[error("{}: {reason}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Box<GgufError>,
    },
    /// There is no such file.
    #[error("no such file; check the path")]
    NotFound,
    /// The path is a folder.
    #[error("is a directory; give the path of a .gguf file")]
    Directory,
    /// The operating system refused.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// No bytes at all.
    #[error("the file is empty; download it again")]
    Empty,
    /// Another kind of file.
    #[error("not a gguf file (it starts with {}); give the path of a .gguf file", hex(found))]
    NotGguf {
        /// The first bytes.
        found: Vec<u8>,
    },
    /// A version that this reader does not know.
    #[error("gguf version {version} is not supported (2 and 3 are); {}", version_remedy(*version))]
    Version {
        /// The version in the file.
        version: u32,
    },
    /// A file for a big-endian machine.
    #[error(
        "the file is big-endian (version {version}); convert it to little-endian with gguf_convert_endian.py"
    )]
    BigEndian {
        /// The version in the file.
        version: u32,
    },
    /// The file ends inside the header.
    #[error(
        "the header ends inside {what} at byte {file_bytes}; the file is truncated: download it again"
    )]
    TruncatedHeader {
        /// What was being read.
        what: &'static str,
        /// Size of the file.
        file_bytes: u64,
    },
    /// A count or length that the rest of the file cannot hold.
    #[error(
        "{what} at byte {at} declares {declared} entries or bytes, more than the rest of the file can hold ({remaining} bytes); the file is truncated or damaged: download it again"
    )]
    DeclaredTooLong {
        /// Whose length.
        what: &'static str,
        /// Where.
        at: u64,
        /// The declared number.
        declared: u64,
        /// What is left of the file.
        remaining: u64,
    },
    /// A count or length beyond any real model's.
    #[error(
        "{what} at byte {at} declares {declared} entries or bytes, above the limit of {limit}; the file is damaged: download it again"
    )]
    OverLimit {
        /// Whose length.
        what: &'static str,
        /// Where.
        at: u64,
        /// The declared number.
        declared: u64,
        /// The limit.
        limit: u64,
    },
    /// A name or text that is not UTF-8.
    #[error("{what} at byte {at} is not valid utf-8; the file is damaged: download it again")]
    NotUtf8 {
        /// Which text.
        what: &'static str,
        /// Where.
        at: u64,
    },
    /// A metadata type number that does not exist.
    #[error(
        "metadata key `{}` has the unknown value type {id}; the file is damaged: download it again",
        shown(key)
    )]
    UnknownValueType {
        /// The key.
        key: String,
        /// The number.
        id: u32,
    },
    /// Arrays inside arrays inside arrays.
    #[error(
        "metadata key `{}` nests arrays more than {limit} deep; the file is damaged: download it again",
        shown(key)
    )]
    NestedTooDeep {
        /// The key.
        key: String,
        /// The deepest that is read.
        limit: u32,
    },
    /// A key occurs twice.
    #[error("metadata key `{}` occurs twice; the file is damaged: convert it again", shown(key))]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A key that must be there is not.
    #[error("metadata key `{key}` is missing; convert the model again with a current llama.cpp")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// Neither a known form nor what would describe another.
    #[error(
        "architecture `{}` is not known, and without metadata key `{}` it cannot be described from its tensor table either; give the file of a language model",
        shown(architecture),
        shown(key)
    )]
    UnknownArchitecture {
        /// `general.architecture`.
        architecture: String,
        /// The key that is missing.
        key: String,
    },
    /// A value of another type than its meaning needs.
    #[error(
        "metadata key `{key}` must be {expected}, found {found}; convert the model again with a current llama.cpp"
    )]
    WrongType {
        /// The key.
        key: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: ValueType,
    },
    /// A number outside of what its meaning allows.
    #[error(
        "metadata key `{key}` is {value}, must be {expected}; convert the model again with a current llama.cpp"
    )]
    BadValue {
        /// The key.
        key: String,
        /// Its value, as text.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// Layers that differ from each other.
    #[error(
        "metadata key `{key}` differs between layers, which is not supported yet; use a model whose layers are alike"
    )]
    PerLayer {
        /// The key.
        key: String,
    },
    /// Two statements of the file that exclude each other.
    #[error(
        "{left} is {left_value}, but {right} is {right_value}; the file contradicts itself: convert it again"
    )]
    Conflict {
        /// One statement.
        left: String,
        /// Its value.
        left_value: u64,
        /// The other.
        right: String,
        /// Its value.
        right_value: u64,
    },
    /// A tensor whose dimensions do not follow from the metadata.
    #[error(
        "tensor `{}` has the shape {found:?}, but the metadata ask for {expected:?}; convert the model again",
        shown(name)
    )]
    WrongShape {
        /// The tensor.
        name: String,
        /// In the file.
        found: Vec<u64>,
        /// From the metadata.
        expected: Vec<u64>,
    },
    /// A tensor that the architecture needs is absent.
    #[error("tensor `{name}` is missing; the file is incomplete: convert the model again")]
    MissingTensor {
        /// The tensor.
        name: String,
    },
    /// An adapter, a projector or another companion of a model.
    #[error(
        "no language model but a file of kind `{}`; give the path of the model itself",
        shown(kind)
    )]
    NotALanguageModel {
        /// `general.type`, or the architecture.
        kind: String,
    },
    /// Metadata and vocabulary, no weights.
    #[error("vocabulary-only file: it holds no tensors; use the file with the weights")]
    VocabularyOnly,
    /// One of several files of a model.
    #[error(
        "one of {count} parts of a split model, and its name does not end in -0000N-of-{count:05}.gguf; rename the parts, or merge them with llama-gguf-split --merge"
    )]
    Split {
        /// Number of parts.
        count: u64,
    },
    /// The reason, with the part of a split model that it concerns.
    #[error("part {number} of {count}: {reason}")]
    InPart {
        /// Which part, from 1.
        number: u32,
        /// Number of parts.
        count: u32,
        /// What is wrong with it.
        reason: Box<GgufError>,
    },
    /// A part of a split model is not beside the others.
    #[error(
        "part {number} of {count}, `{}`, is missing; download it into the same folder",
        shown(name)
    )]
    MissingPart {
        /// Name of its file.
        name: String,
        /// Which part, from 1.
        number: u32,
        /// Number of parts.
        count: u32,
    },
    /// An alignment that is not a power of two of bytes.
    #[error(
        "metadata key `general.alignment` is {alignment}, must be a power of two of at least 8 and at most 65536; convert the model again"
    )]
    Alignment {
        /// The alignment in the file.
        alignment: u64,
    },
    /// A type number without a layout.
    #[error("tensor `{}` has the {error}; {}", shown(name), type_remedy(error))]
    TensorType {
        /// The tensor.
        name: String,
        /// Which number, and whether it was once valid.
        error: TensorTypeError,
    },
    /// Not one to four dimensions, or one of them 0.
    #[error(
        "tensor `{}` has {n_dims} dimensions, or one of them is 0; the file is damaged: download it again",
        shown(name)
    )]
    Dimensions {
        /// The tensor.
        name: String,
        /// Declared number of dimensions.
        n_dims: u32,
    },
    /// More weights than a 64-bit number counts.
    #[error(
        "tensor `{}` has the impossible shape {dims:?}; the file is damaged: download it again",
        shown(name)
    )]
    ShapeOverflow {
        /// The tensor.
        name: String,
        /// Declared dimensions.
        dims: Vec<u64>,
    },
    /// A row that is not a whole number of blocks.
    #[error(
        "tensor `{}` has rows of {row} weights, not a multiple of the {} of a {tensor_type} block; quantize the model again", shown(name), tensor_type.block_len()
    )]
    PartialBlock {
        /// The tensor.
        name: String,
        /// Weights in one row.
        row: u64,
        /// Its type.
        tensor_type: TensorType,
    },
    /// A tensor occurs twice.
    #[error("tensor `{}` occurs twice; the file is damaged: convert it again", shown(name))]
    DuplicateTensor {
        /// The tensor.
        name: String,
    },
    /// An offset that the alignment forbids.
    #[error(
        "tensor `{}` has offset {offset}, not a multiple of the alignment {alignment}; the file is damaged: download it again",
        shown(name)
    )]
    Unaligned {
        /// The tensor.
        name: String,
        /// Its offset from the start of the data.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// Two tensors claim the same bytes.
    #[error(
        "tensor `{}` overlaps tensor `{}`; the file is damaged: download it again",
        shown(second),
        shown(first)
    )]
    Overlap {
        /// The tensor that begins first.
        first: String,
        /// The tensor that begins inside it.
        second: String,
    },
    /// Data that the file does not hold.
    #[error(
        "tensor `{}` ends at byte {end}, past the end of the file ({file_bytes} bytes); the file is truncated: download it again",
        shown(name)
    )]
    PastEnd {
        /// The tensor.
        name: String,
        /// Where its data should end.
        end: u64,
        /// Size of the file.
        file_bytes: u64,
    },
}

/// A name from a file for a one-line message: control characters escaped, not too long.
pub(crate) fn shown(name: &str) -> String {
    const LONGEST: usize = 80;
    let mut text: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push('…');
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

fn version_remedy(version: u32) -> &'static str {
    if version <= 1 {
        "convert the model again with a current llama.cpp"
    } else {
        "update the tool, or the file is damaged: download it again"
    }
}

fn type_remedy(error: &TensorTypeError) -> &'static str {
    match error {
        TensorTypeError::Retired { .. } => "quantize the model again with a current llama.cpp",
        TensorTypeError::Unknown(_) => "update the tool, or download the file again",
    }
}
