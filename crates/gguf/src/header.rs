//! What a GGUF file says before its data, with getters that say what is wrong.

use std::collections::BTreeMap;

use foretoken_spec::TensorType;

use crate::{GgufError, Value};

/// Everything before the data of a GGUF file.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufHeader {
    /// 2 or 3.
    pub version: u32,
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// The tensor table, in file order.
    pub tensors: Vec<TensorInfo>,
    /// Every tensor begins at a multiple of this.
    pub alignment: u64,
    /// Where the data begin.
    pub data_offset: u64,
    /// Size of the file.
    pub file_bytes: u64,
}

/// One row of the tensor table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name.
    pub name: String,
    /// Dimensions, innermost first.
    pub dims: Vec<u64>,
    /// How it is stored.
    pub tensor_type: TensorType,
    /// Start of its data, from [`GgufHeader::data_offset`].
    pub offset: u64,
}

impl TensorInfo {
    /// Bytes of the data, without padding; `None` where the dimensions overflow.
    pub fn bytes(&self) -> Option<u64> {
        let row = self.dims.first().copied().unwrap_or(1);
        let block_bytes = self.tensor_type.block_bytes();
        let row_bytes = row.div_ceil(self.tensor_type.block_len()).checked_mul(block_bytes)?;
        self.dims.iter().skip(1).try_fold(row_bytes, |bytes, &dim| bytes.checked_mul(dim))
    }
}

impl GgufHeader {
    /// The value of a key that must be there.
    ///
    /// # Errors
    /// The key is missing.
    pub fn get(&self, key: &str) -> Result<&Value, GgufError> {
        self.metadata.get(key).ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })
    }

    /// The text of a key, where it is there.
    ///
    /// # Errors
    /// The value is not a string.
    pub fn string(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "a string", Value::as_str)
    }

    /// The number of a key, where it is there: an integer of any width.
    ///
    /// # Errors
    /// The value is not an integer, or does not fit 32 bits.
    pub fn integer(&self, key: &str) -> Result<Option<u32>, GgufError> {
        let Some(value) = self.typed(key, "an integer", Value::as_integer)? else {
            return Ok(None);
        };
        u32_of(key, value).map(Some)
    }

    /// The number of a key that must be there.
    ///
    /// # Errors
    /// As [`GgufHeader::integer`], or the key is missing.
    pub fn required_integer(&self, key: &str) -> Result<u32, GgufError> {
        self.get(key)?;
        self.integer(key)?.ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })
    }

    /// The number of a key that files give once, or once per layer with equal values.
    ///
    /// # Errors
    /// As [`GgufHeader::integer`], or the layers differ.
    pub fn uniform_integer(&self, key: &str) -> Result<Option<u32>, GgufError> {
        let Some(Value::Array { items, .. }) = self.metadata.get(key) else {
            return self.integer(key);
        };
        let first = items.first().and_then(Value::as_integer).ok_or(GgufError::WrongType {
            key: key.to_owned(),
            expected: "an integer or a short array of integers",
            found: crate::ValueType::Array,
        })?;
        if items.iter().any(|item| item.as_integer() != Some(first)) {
            return Err(GgufError::PerLayer { key: key.to_owned() });
        }
        u32_of(key, first).map(Some)
    }

    /// The floating-point number of a key, where it is there.
    ///
    /// # Errors
    /// The value is not a finite positive floating-point number.
    pub fn positive_float(&self, key: &str) -> Result<Option<f32>, GgufError> {
        let Some(value) = self.typed(key, "a floating-point number", Value::as_float)? else {
            return Ok(None);
        };
        let narrow = value as f32;
        if narrow.is_finite() && narrow > 0.0 {
            return Ok(Some(narrow));
        }
        Err(GgufError::BadValue {
            key: key.to_owned(),
            value: value.to_string(),
            expected: "finite and above 0",
        })
    }

    /// The length of an array, where the key is there.
    ///
    /// # Errors
    /// The value is not an array.
    pub fn array_len(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.typed(key, "an array", |value| match value {
            Value::Array { len, .. } => Some(*len),
            _ => None,
        })
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|t| t.name == name)
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        get: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        let found = value.value_type();
        match get(value) {
            Some(typed) => Ok(Some(typed)),
            None => Err(GgufError::WrongType { key: key.to_owned(), expected, found }),
        }
    }
}

fn u32_of(key: &str, value: i128) -> Result<u32, GgufError> {
    u32::try_from(value).map_err(|_| GgufError::BadValue {
        key: key.to_owned(),
        value: value.to_string(),
        expected: "between 0 and 4294967295",
    })
}
