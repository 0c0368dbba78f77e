//! Models in several files: `name-00001-of-00003.gguf`, as `llama-gguf-split` writes them.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::{GgufError, GgufHeader, read_header};

/// Most parts of a model; the largest in use have some dozens.
const MOST_PARTS: u32 = 4096;

/// The header of a file, or of all parts of a split model as one: metadata of the first part, the
/// tensors and bytes of all.
pub(crate) fn read_all(path: &Path) -> Result<GgufHeader, GgufError> {
    let first = read_one(path)?;
    let count = match first.integer("split.count")? {
        Some(count) if count > 1 => count,
        _ => return Ok(first),
    };
    let Some((stem, _)) = split_name(path).filter(|(_, of)| *of == count && count <= MOST_PARTS)
    else {
        return Err(GgufError::Split { count: count.into() });
    };
    let path_of = |number| path.with_file_name(part_name(&stem, number, count));
    let in_part = |number, reason| GgufError::InFile { path: path_of(number), reason };
    let joined = join_parts(count, |number| {
        read_one(&path_of(number)).map_err(|reason| match reason {
            GgufError::NotFound => GgufError::MissingPart {
                name: part_name(&stem, number, count).display().to_string(),
                number,
                count,
            },
            reason => in_part(number, Box::new(reason)),
        })
    });
    joined.map_err(|error| match error {
        GgufError::InPart { number, reason, .. } => in_part(number, reason),
        error => error,
    })
}

/// The parts of a split model as one header: metadata of the first part, the tensors and bytes of
/// all. `read_part` gives the header of a part, whose numbers begin at 1.
///
/// # Errors
/// What `read_part` says; a part that is another one than its number says; a tensor in two parts;
/// another number of tensors than the first part states.
pub fn join_parts(
    count: u32,
    mut read_part: impl FnMut(u32) -> Result<GgufHeader, GgufError>,
) -> Result<GgufHeader, GgufError> {
    let mut whole: Option<GgufHeader> = None;
    let mut names = HashSet::new();
    for number in 1..=count {
        let part = read_part(number)?;
        let in_part = |reason| GgufError::InPart { number, count, reason: Box::new(reason) };
        check_part(&part, number, count).map_err(in_part)?;
        for tensor in &part.tensors {
            if !names.insert(tensor.name.clone()) {
                let name = tensor.name.clone();
                return Err(in_part(GgufError::DuplicateTensor { name }));
            }
        }
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => {
                whole.file_bytes = whole.file_bytes.saturating_add(part.file_bytes);
                whole.tensors.extend(part.tensors);
            }
        }
    }
    let Some(mut whole) = whole else { return Err(GgufError::Split { count: count.into() }) };
    if let Some(stated) = whole.integer("split.tensors.count")?
        && u64::from(stated) != whole.tensors.len() as u64
    {
        return Err(GgufError::Conflict {
            left: "metadata key `split.tensors.count`".to_owned(),
            left_value: stated.into(),
            right: "the number of tensors in all parts".to_owned(),
            right_value: whole.tensors.len() as u64,
        });
    }
    whole.metadata.remove("split.count");
    Ok(whole)
}

fn read_one(path: &Path) -> Result<GgufHeader, GgufError> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => GgufError::NotFound,
        _ => GgufError::Io(error),
    })?;
    if file.metadata().map_err(GgufError::Io)?.is_dir() {
        return Err(GgufError::Directory);
    }
    read_header(&mut file)
}

/// Refuses a part that says it is another one, or of another model.
fn check_part(part: &GgufHeader, number: u32, count: u32) -> Result<(), GgufError> {
    for (key, expected) in [("split.no", number - 1), ("split.count", count)] {
        let found = part.required_integer(key)?;
        if found != expected {
            return Err(GgufError::Conflict {
                left: format!("metadata key `{key}`"),
                left_value: found.into(),
                right: "the number in the file's name".to_owned(),
                right_value: expected.into(),
            });
        }
    }
    Ok(())
}

/// The stem and the number of parts of `stem-00002-of-00005.gguf`.
fn split_name(path: &Path) -> Option<(String, u32)> {
    let name = path.file_name()?.to_str()?;
    let bare = name.strip_suffix(".gguf")?;
    let (rest, of) = bare.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let _: u32 = number.parse().ok()?;
    Some((stem.to_owned(), of.parse().ok()?))
}

fn part_name(stem: &str, number: u32, count: u32) -> PathBuf {
    PathBuf::from(format!("{stem}-{number:05}-of-{count:05}.gguf"))
}

#[cfg(test)]
mod tests;
