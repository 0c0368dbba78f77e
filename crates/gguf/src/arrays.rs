//! Arrays of the metadata in full: what [`read_header`](crate::read_header) skips.
//!
//! A vocabulary is some 10 MB in memory, and only who turns text into tokens needs it.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use crate::read::{LONGEST_NAME, Source, open, read_type, read_value, under_limit};
use crate::{GgufError, Value, ValueType};

/// Most elements of an array that is kept: 15 times the largest vocabulary in use.
const MOST_KEPT: u64 = 1 << 22;
/// Most bytes of text in an array that is kept: 30 times the largest vocabulary in use.
const MOST_TEXT: u64 = 1 << 28;

/// All elements of an array.
#[derive(Debug, Clone, PartialEq)]
pub enum FullArray {
    /// Of strings.
    Texts(Vec<String>),
    /// Of integers of any width.
    Integers(Vec<i128>),
    /// Of floating-point numbers of any width.
    Floats(Vec<f64>),
}

/// Reads the arrays of the named keys in full; absent keys are absent from the result.
///
/// # Errors
/// As [`read_header`](crate::read_header), up to the last metadata entry; a named key that is no
/// array of strings or numbers, or is longer than any real one.
pub fn read_arrays(
    reader: &mut (impl Read + Seek),
    keys: &[&'static str],
) -> Result<BTreeMap<&'static str, FullArray>, GgufError> {
    let (mut source, _, _, n_entries) = open(reader)?;
    let mut arrays = BTreeMap::new();
    for _ in 0..n_entries {
        let key = source.text("a metadata key", LONGEST_NAME)?;
        let value_type = read_type(&mut source, &key)?;
        let Some(&wanted) = keys.iter().find(|wanted| **wanted == key) else {
            read_value(&mut source, &key, value_type)?;
            continue;
        };
        if value_type != ValueType::Array {
            return Err(wrong_type(key, value_type));
        }
        if arrays.insert(wanted, read_full(&mut source, wanted)?).is_some() {
            return Err(GgufError::DuplicateKey { key });
        }
    }
    Ok(arrays)
}

fn wrong_type(key: String, found: ValueType) -> GgufError {
    GgufError::WrongType { key, expected: "an array of strings or numbers", found }
}

fn read_full<R: Read + Seek>(
    source: &mut Source<R>,
    key: &'static str,
) -> Result<FullArray, GgufError> {
    let element = read_type(source, key)?;
    let at = source.at;
    // A string is at least its length; nothing is reserved before this comparison.
    let len = source.count_up_to(key, element.width().unwrap_or(8), MOST_KEPT)?;
    let mut texts = Vec::new();
    let mut integers = Vec::new();
    let mut floats = Vec::new();
    let mut text_bytes = 0;
    for _ in 0..len {
        match read_element(source, key, element)? {
            Value::String(text) => {
                text_bytes += text.len() as u64;
                under_limit(key, at, text_bytes, MOST_TEXT)?;
                texts.push(text);
            }
            value => match (value.as_integer(), value.as_float()) {
                (Some(integer), _) => integers.push(integer),
                (_, Some(float)) => floats.push(float),
                _ => return Err(wrong_type(key.to_owned(), element)),
            },
        }
    }
    Ok(match element {
        ValueType::String => FullArray::Texts(texts),
        ValueType::F32 | ValueType::F64 => FullArray::Floats(floats),
        ValueType::Bool | ValueType::Array => return Err(wrong_type(key.to_owned(), element)),
        _ => FullArray::Integers(integers),
    })
}

/// As `read_value`, but what is wrong with a text names the key.
fn read_element<R: Read + Seek>(
    source: &mut Source<R>,
    key: &'static str,
    element: ValueType,
) -> Result<Value, GgufError> {
    match element {
        ValueType::String => source.text(key, LONGEST_NAME).map(Value::String),
        ValueType::Bool | ValueType::Array => Err(wrong_type(key.to_owned(), element)),
        number => read_value(source, key, number),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Parts, numbers, texts};

    fn arrays_of(bytes: &[u8]) -> Result<BTreeMap<&'static str, FullArray>, GgufError> {
        read_arrays(&mut Cursor::new(bytes), &["words", "numbers", "scores"])
    }

    fn floats(values: &[f32]) -> Value {
        let items: Vec<_> = values.iter().map(|&v| Value::F32(v)).collect();
        Value::Array { element: ValueType::F32, len: items.len() as u64, items }
    }

    fn parts() -> Parts {
        let many: Vec<u32> = (0..5000).collect();
        Parts::tiny()
            .set("words", texts(2000))
            .set("others", texts(7))
            .set("numbers", numbers(&many))
            .set("scores", floats(&[0.5, -2.0]))
    }

    #[test]
    fn named_arrays_are_read_in_full() {
        let arrays = arrays_of(&parts().bytes()).unwrap();
        assert_eq!(arrays.len(), 3);
        let FullArray::Texts(words) = &arrays["words"] else { panic!("{arrays:?}") };
        assert_eq!((words.len(), words[1999].as_str()), (2000, "token1999"));
        let FullArray::Integers(numbers) = &arrays["numbers"] else { panic!("{arrays:?}") };
        assert_eq!((numbers.len(), numbers[4999]), (5000, 4999));
        assert_eq!(arrays["scores"], FullArray::Floats(vec![0.5, -2.0]));
    }

    #[test]
    fn absent_arrays_are_absent() {
        assert!(arrays_of(&Parts::tiny().bytes()).unwrap().is_empty());
    }

    #[test]
    fn other_types_are_refused_by_name() {
        for value in [
            Value::Bool(true),
            Value::Array { element: ValueType::Bool, len: 1, items: vec![Value::Bool(true)] },
        ] {
            let message = arrays_of(&parts().set("words", value).bytes()).unwrap_err().to_string();
            assert!(message.starts_with("metadata key `words` must be an array"), "{message}");
        }
    }

    #[test]
    fn impossible_lengths_are_refused_before_anything_is_kept() {
        let mut bytes = parts().bytes();
        let key = bytes.windows(5).position(|w| w == b"words").unwrap();
        let len = key + 5 + 4 + 4;
        bytes[len..len + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
        let message = arrays_of(&bytes).unwrap_err().to_string();
        assert!(message.starts_with("words at byte"), "{message}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(at in 0usize..4000, value: u8) {
            let mut bytes = parts().bytes();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = arrays_of(&bytes);
        }
    }
}
