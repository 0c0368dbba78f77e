//! A builder of small GGUF files for the tests: valid unless told otherwise.

use std::io::Cursor;
use std::path::Path;

use foretoken_spec::{ModelShape, ModelSource, ModelSpec, QuantScheme};

use crate::synth::{SyntheticGguf, write_metadata};
use crate::{GgufError, GgufHeader, Value, ValueType, mix, model_of_header, read_header};

/// A shape of a few kilobytes with all the features of the large ones.
pub(crate) fn tiny_shape() -> ModelShape {
    ModelShape {
        architecture: "llama".into(),
        n_layers: 2,
        hidden_size: 256,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 64,
        intermediate_size: 512,
        vocab_size: 320,
        context_length: 2048,
        tied_embeddings: false,
        rope_freqs: true,
        rope_freq_base: 10_000.0,
        rms_norm_eps: 1e-5,
        details: foretoken_spec::ShapeDetails::default(),
    }
}

pub(crate) fn spec(shape: ModelShape, scheme: QuantScheme) -> ModelSpec {
    mix::quantized_spec("tiny", "tiny", ModelSource::Mini, shape, scheme)
}

/// All bytes of the synthetic file of a model.
pub(crate) fn bytes_of(spec: &ModelSpec) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut SyntheticGguf::new(spec), &mut bytes).unwrap();
    bytes
}

pub(crate) fn header_of(bytes: &[u8]) -> Result<GgufHeader, GgufError> {
    read_header(&mut Cursor::new(bytes))
}

pub(crate) fn model_of(bytes: &[u8]) -> Result<ModelSpec, GgufError> {
    model_of_header(&header_of(bytes)?, Path::new("some/file.gguf"))
}

/// One row of a tensor table, as raw numbers.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) dims: Vec<u64>,
    pub(crate) type_id: u32,
    pub(crate) offset: u64,
}

/// A file in parts that a test can change before it is assembled.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) version: u32,
    pub(crate) metadata: Vec<(String, Value)>,
    pub(crate) rows: Vec<Row>,
    pub(crate) data_bytes: u64,
}

impl Parts {
    /// The parts of the synthetic file of a model.
    pub(crate) fn of(spec: &ModelSpec) -> Self {
        let header = header_of(&bytes_of(spec)).unwrap();
        let rows = header.tensors.iter().map(|t| Row {
            name: t.name.clone(),
            dims: t.dims.clone(),
            type_id: t.tensor_type.id(),
            offset: t.offset,
        });
        Self {
            version: 3,
            rows: rows.collect(),
            data_bytes: header.file_bytes - header.data_offset,
            metadata: header.metadata.into_iter().collect(),
        }
    }

    pub(crate) fn tiny() -> Self {
        Self::of(&spec(tiny_shape(), QuantScheme::Q4_K_M))
    }

    pub(crate) fn set(mut self, key: &str, value: Value) -> Self {
        self = self.without(key);
        self.metadata.push((key.to_owned(), value));
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.metadata.retain(|(k, _)| k != key);
        self
    }

    pub(crate) fn without_tensor(mut self, name: &str) -> Self {
        self.rows.retain(|row| row.name != name);
        self
    }

    pub(crate) fn change(mut self, name: &str, change: impl Fn(&mut Row)) -> Self {
        change(self.rows.iter_mut().find(|row| row.name == name).unwrap());
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.rows.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            write_metadata(&mut out, key, value);
        }
        for row in &self.rows {
            out.extend((row.name.len() as u64).to_le_bytes());
            out.extend(row.name.as_bytes());
            out.extend((row.dims.len() as u32).to_le_bytes());
            row.dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
            out.extend(row.type_id.to_le_bytes());
            out.extend(row.offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32) + self.data_bytes as usize, 0);
        out
    }

    /// The one-line message with which the file is refused.
    pub(crate) fn refusal(&self) -> String {
        refusal(&self.bytes())
    }
}

/// The message with which a file is refused; checks its form.
pub(crate) fn refusal(bytes: &[u8]) -> String {
    let message = model_of(bytes).unwrap_err().to_string();
    assert!(!message.contains('\n') && !message.ends_with('.'), "{message}");
    assert!(!message.starts_with(char::is_uppercase), "{message}");
    message
}

pub(crate) fn numbers(values: &[u32]) -> Value {
    let items: Vec<_> = values.iter().map(|&v| Value::U32(v)).collect();
    Value::Array { element: ValueType::U32, len: items.len() as u64, items }
}

pub(crate) fn texts(n: usize) -> Value {
    let items: Vec<_> = (0..n).map(|i| Value::String(format!("token{i}"))).collect();
    Value::Array { element: ValueType::String, len: n as u64, items }
}
