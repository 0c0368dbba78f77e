use std::io::Cursor;

use foretoken_spec::QuantScheme;
use proptest::prelude::*;

use super::*;
use crate::testing::{Parts, bytes_of, header_of, refusal, spec, texts, tiny_shape};

fn check(bytes: &[u8], parts: &[&str]) {
    let message = refusal(bytes);
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

/// Magic, version 3, the two counts, then whatever follows.
fn start(n_tensors: u64, n_entries: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(n_tensors.to_le_bytes());
    bytes.extend(n_entries.to_le_bytes());
    bytes.extend(rest);
    bytes
}

#[test]
fn the_header_of_a_synthetic_file_reads_back() {
    let bytes = Parts::tiny().bytes();
    let header = header_of(&bytes).unwrap();
    assert_eq!((header.version, header.alignment), (3, 32));
    assert_eq!(header.file_bytes, bytes.len() as u64);
    assert_eq!(header.tensors.len(), 1 + 1 + 2 * 9 + 1 + 1);
    assert_eq!(header.string("general.architecture").unwrap(), Some("llama"));
}

#[test]
fn version_2_is_read_and_others_are_refused() {
    let with_version = |version| Parts { version, ..Parts::tiny() }.bytes();
    assert_eq!(header_of(&with_version(2)).unwrap().version, 2);
    check(&with_version(1), &["version 1", "2 and 3", "convert"]);
    check(&with_version(4), &["version 4", "update"]);
    check(&with_version(3u32.swap_bytes()), &["big-endian", "version 3"]);
}

#[test]
fn files_that_are_not_gguf_are_refused() {
    check(b"", &["empty"]);
    check(b"GG", &["not a gguf file", "47 47"]);
    check(b"PK\x03\x04 a zip archive", &["not a gguf file", "50 4b 03 04"]);
    check(b"GGUF\x03", &["the version", "truncated", "download it again"]);
}

#[test]
fn every_truncation_is_an_error_that_says_so() {
    let bytes = Parts::tiny().bytes();
    let header_end = header_of(&bytes).unwrap().data_offset as usize;
    for len in (0..header_end).chain([bytes.len() - 32, bytes.len() / 2]) {
        let message = refusal(&bytes[..len]);
        let said = ["truncated", "empty", "not a gguf file", "past the end"];
        assert!(said.iter().any(|word| message.contains(word)), "{len}: {message}");
    }
    check(&bytes[..bytes.len() - 1000], &["output.weight", "ends at byte", "truncated"]);
}

#[test]
fn huge_declared_counts_and_lengths_are_refused_at_once() {
    check(&start(u64::MAX, 0, &[]), &["tensor count", "18446744073709551615"]);
    check(&start(0, u64::MAX / 2, &[]), &["metadata count"]);
    check(&start(0, 1, &[0xff; 40]), &["metadata key", "declares"]);
    let array = |element: u32, len: u64| {
        let mut rest = 1u64.to_le_bytes().to_vec();
        rest.push(b'k');
        rest.extend(9u32.to_le_bytes());
        rest.extend(element.to_le_bytes());
        rest.extend(len.to_le_bytes());
        rest.extend([0; 64]);
        start(0, 1, &rest)
    };
    check(&array(8, 1 << 60), &["an array", "declares"]);
    check(&array(12, u64::MAX), &["an array", "declares"]);
    check(&array(9, 1 << 40), &["an array", "declares"]);
    check(&array(99, 1), &["`k`", "unknown value type 99"]);
}

#[test]
fn arrays_nested_too_deep_are_refused() {
    let mut rest = 1u64.to_le_bytes().to_vec();
    rest.push(b'k');
    rest.extend(9u32.to_le_bytes());
    for _ in 0..10 {
        rest.extend(9u32.to_le_bytes());
        rest.extend(1u64.to_le_bytes());
    }
    rest.extend([0; 64]);
    check(&start(0, 1, &rest), &["`k`", "nests arrays"]);
}

#[test]
fn names_that_are_not_text_are_refused_and_never_break_the_line() {
    let mut rest = 2u64.to_le_bytes().to_vec();
    rest.extend([0xff, 0xfe]);
    rest.extend([0; 64]);
    check(&start(0, 1, &rest), &["not valid utf-8"]);
    let odd = Parts::tiny().change("output.weight", |row| {
        row.name = "a\nb\u{1b}[31m".to_owned();
        row.type_id = 4;
    });
    check(&odd.bytes(), &["a\\nb", "retired tensor type 4"]);
}

#[test]
fn a_bad_row_of_the_tensor_table_is_refused_by_name() {
    type Change = fn(&mut crate::testing::Row);
    let cases: &[(Change, &[&str])] = &[
        (|row| row.type_id = 31, &["retired tensor type 31 (Q4_0_4_4)", "quantize"]),
        (|row| row.type_id = 999, &["unknown tensor type 999"]),
        (|row| row.dims = vec![256, 0], &["one of them is 0"]),
        (|row| row.dims = vec![], &["0 dimensions"]),
        (|row| row.dims = vec![1; 5], &["5 dimensions"]),
        (|row| row.dims = vec![256, u64::MAX], &["impossible shape"]),
        (|row| row.dims = vec![u64::MAX, 2], &["impossible shape"]),
        (|row| row.dims = vec![250, 320], &["250", "256", "Q6_K"]),
        (|row| row.offset += 1, &["not a multiple of the alignment 32"]),
        (|row| row.offset += 1 << 40, &["ends at byte", "past the end of the file"]),
        (|row| row.offset = u64::MAX - 31, &["past the end of the file"]),
        (|row| row.offset = 0, &["overlaps"]),
        (|row| row.name = "output_norm.weight".into(), &["`output_norm.weight` occurs twice"]),
    ];
    for (change, parts) in cases {
        check(&Parts::tiny().change("output.weight", change).bytes(), parts);
    }
}

#[test]
fn a_key_that_occurs_twice_is_refused() {
    let mut parts = Parts::tiny();
    let first = parts.metadata[0].clone();
    parts.metadata.push(first);
    check(&parts.bytes(), &["occurs twice"]);
}

#[test]
fn an_alignment_that_is_no_power_of_two_is_refused() {
    for alignment in [0, 1, 33, u32::MAX] {
        let parts = Parts::tiny().set("general.alignment", Value::U32(alignment));
        check(&parts.bytes(), &["general.alignment", "power of two"]);
    }
    let parts = Parts::tiny().set("general.alignment", Value::F32(32.0));
    check(&parts.bytes(), &["general.alignment", "an integer", "found f32"]);
}

#[test]
fn vocabularies_are_counted_and_not_kept() {
    let parts = Parts::tiny().set("tokenizer.ggml.tokens", texts(320));
    let header = header_of(&parts.bytes()).unwrap();
    let kept = header.get("tokenizer.ggml.tokens").unwrap();
    let skipped = Value::Array { element: ValueType::String, len: 320, items: vec![] };
    assert_eq!(kept, &skipped);
}

#[test]
fn all_value_types_read_back() {
    let values = [
        Value::U8(1),
        Value::I8(-1),
        Value::U16(2),
        Value::I16(-2),
        Value::U32(3),
        Value::I32(-3),
        Value::F32(0.5),
        Value::Bool(true),
        Value::String("text".into()),
        Value::U64(u64::MAX),
        Value::I64(i64::MIN),
        Value::F64(-0.25),
        crate::testing::numbers(&[1, 2, 3]),
    ];
    for value in values {
        let bytes = Parts::tiny().set("some.key", value.clone()).bytes();
        assert_eq!(header_of(&bytes).unwrap().get("some.key").unwrap(), &value);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = read_header(&mut Cursor::new(&bytes));
        let mut with_magic = b"GGUF\x03\0\0\0".to_vec();
        with_magic.extend(&bytes);
        let _ = crate::testing::model_of(&with_magic);
    }

    #[test]
    fn small_counts_before_arbitrary_bytes_never_panic(
        n_tensors in 0u64..4,
        n_entries in 0u64..4,
        bytes in prop::collection::vec(prop_oneof![Just(0u8), 0u8..16, any::<u8>()], 0..512),
    ) {
        let _ = crate::testing::model_of(&start(n_tensors, n_entries, &bytes));
    }

    #[test]
    fn a_damaged_header_never_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let parts = Parts::tiny().set("tokenizer.ggml.tokens", texts(320));
        let mut bytes = parts.bytes();
        let header_end = header_of(&bytes).unwrap().data_offset as usize;
        for (at, byte) in damage {
            bytes[at.index(header_end)] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = crate::testing::model_of(&bytes);
    }

    #[test]
    fn the_data_of_a_file_are_the_padded_bytes_of_its_tensors(
        n_layers in 1u32..4,
        heads in prop::sample::select(vec![(1, 1), (4, 2), (3, 1), (8, 8)]),
        head_dim in prop::sample::select(vec![32u32, 64, 100]),
        intermediate_size in 32u32..700,
        vocab_size in 1u32..500,
        tied_embeddings: bool,
        scheme in prop::sample::select(QuantScheme::ALL),
    ) {
        let mut shape = tiny_shape();
        shape.n_layers = n_layers;
        (shape.n_heads, shape.n_kv_heads) = heads;
        shape.head_dim = head_dim;
        shape.hidden_size = heads.0 * head_dim;
        shape.intermediate_size = intermediate_size;
        shape.vocab_size = vocab_size;
        shape.tied_embeddings = tied_embeddings;
        let spec = spec(shape, scheme);
        let bytes = bytes_of(&spec);
        let header = header_of(&bytes).unwrap();
        let padded: u64 = spec.tensors.iter().map(|t| t.bytes().next_multiple_of(32)).sum();
        prop_assert_eq!(header.file_bytes - header.data_offset, padded);
        prop_assert_eq!(crate::synth::file_bytes(&spec), bytes.len() as u64);
        let read = crate::testing::model_of(&bytes).unwrap();
        prop_assert_eq!(&read.tensors, &spec.tensors);
        prop_assert_eq!(&read.shape, &spec.shape);
    }
}
