use foretoken_spec::QuantScheme;

use super::*;
use crate::testing::{Parts, spec, tiny_shape};
use crate::{Value, read_model};

/// The parts of a tiny model: metadata and half of the tensors, then the other half.
fn two_parts() -> [Parts; 2] {
    let whole = Parts::of(&spec(tiny_shape(), QuantScheme::Q8_0));
    let n_tensors = whole.rows.len() as i32;
    let middle = whole.rows.len() / 2;
    let split = |parts: Parts, number: u16| {
        parts.set("split.no", Value::U16(number)).set("split.count", Value::U16(2))
    };
    let mut first = split(whole.clone(), 0).set("split.tensors.count", Value::I32(n_tensors));
    let mut second = split(whole.clone(), 1);
    let start = whole.rows[middle].offset;
    first.rows.truncate(middle);
    first.data_bytes = start;
    second.rows.drain(..middle);
    second.rows.iter_mut().for_each(|row| row.offset -= start);
    second.data_bytes -= start;
    second.metadata.retain(|(key, _)| key.starts_with("split.") || key.starts_with("general.al"));
    [first, second]
}

fn write(folder: &Path, name: &str, parts: &Parts) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, parts.bytes()).unwrap();
    path
}

#[test]
fn any_part_gives_the_whole_model() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = two_parts();
    let paths = [
        write(folder.path(), "m-00001-of-00002.gguf", &first),
        write(folder.path(), "m-00002-of-00002.gguf", &second),
    ];
    let whole = spec(tiny_shape(), QuantScheme::Q8_0);
    for path in &paths {
        let model = read_model(path).unwrap();
        assert_eq!(model.tensors, whole.tensors);
        assert_eq!(model.shape, whole.shape);
        let bytes: u64 = paths.iter().map(|p| std::fs::metadata(p).unwrap().len()).sum();
        assert_eq!(model.file_bytes, Some(bytes));
    }
}

#[test]
fn a_missing_part_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let [first, _] = two_parts();
    let path = write(folder.path(), "m-00001-of-00002.gguf", &first);
    let message = read_model(&path).unwrap_err().to_string();
    assert!(message.contains("part 2 of 2, `m-00002-of-00002.gguf`, is missing"), "{message}");
    let renamed = write(folder.path(), "m.gguf", &first);
    let message = read_model(&renamed).unwrap_err().to_string();
    assert!(message.contains("one of 2 parts") && message.contains("rename"), "{message}");
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = two_parts();
    let path = write(folder.path(), "m-00001-of-00002.gguf", &first);
    let refusal = |second: &Parts| {
        write(folder.path(), "m-00002-of-00002.gguf", second);
        read_model(&path).unwrap_err().to_string()
    };
    let message = refusal(&first);
    assert!(message.contains("m-00002") && message.contains("`split.no` is 0"), "{message}");
    let alone = second.clone().without("split.no");
    assert!(refusal(&alone).contains("`split.no` is missing"));
    let mut fewer = second.clone();
    fewer.rows.pop();
    assert!(refusal(&fewer).contains("split.tensors.count"));
    let doubled = second.change("blk.1.attn_q.weight", |row| row.name = "token_embd.weight".into());
    let message = refusal(&doubled);
    assert!(message.contains("m-00002") && message.contains("occurs twice"), "{message}");
}

#[test]
fn names_of_parts() {
    let of = |name: &str| split_name(Path::new(name));
    assert_eq!(of("a-b-00002-of-00005.gguf"), Some(("a-b".into(), 5)));
    assert_eq!(of("a.gguf"), None);
    assert_eq!(of("-of-.gguf"), None);
    assert_eq!(part_name("a", 2, 12).to_str(), Some("a-00002-of-00012.gguf"));
}
