//! Which file of a repository is meant.

use crate::{HubError, HubRef, RepoFile};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// A GGUF file, or all shards of one in their order.
    Gguf(Vec<HubRef>),
    /// A `config.json`.
    Config(HubRef),
}

/// The file that a name without one stands for: the only GGUF file, the only one of the
/// quantization, or else the configuration.
pub(crate) fn pick(
    model: &HubRef,
    files: &[RepoFile],
    quant: Option<&str>,
) -> Result<Pick, HubError> {
    let what = || model.to_string();
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let models: Vec<&str> = paths.iter().copied().filter(|path| is_model(path)).collect();
    let wanted = match (models.as_slice(), quant) {
        ([], _) if paths.contains(&"config.json") => {
            return Ok(Pick::Config(model.with_file("config.json")));
        }
        ([], _) => return Err(HubError::NoModel { what: what(), candidates: names(&paths) }),
        ([only], _) => *only,
        (_, None) => return Err(HubError::Ambiguous { what: what(), candidates: names(&models) }),
        (_, Some(quant)) => {
            let of_quant: Vec<&str> =
                models.iter().copied().filter(|path| has_word(path, quant)).collect();
            match of_quant.as_slice() {
                [only] => *only,
                [] => {
                    let quant = quant.to_owned();
                    return Err(HubError::NoQuant {
                        what: what(),
                        quant,
                        candidates: names(&models),
                    });
                }
                _ => {
                    let candidates = names(&of_quant);
                    return Err(HubError::Ambiguous { what: what(), candidates });
                }
            }
        }
    };
    let shards = shards(wanted);
    if let Some(missing) = shards.iter().find(|shard| !paths.contains(&shard.as_str())) {
        return Err(HubError::MissingShard { what: what(), missing: missing.clone() });
    }
    Ok(gguf(model, shards))
}

fn names(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// The named file, with the other shards of its set.
pub(crate) fn named(model: &HubRef, file: &str) -> Pick {
    if ends_with(file, ".json") { Pick::Config(model.clone()) } else { gguf(model, shards(file)) }
}

fn gguf(model: &HubRef, files: Vec<String>) -> Pick {
    Pick::Gguf(files.into_iter().map(|file| model.with_file(file)).collect())
}

/// Whether a file stands for a language model: a GGUF file that is neither a later shard nor
/// the vision part of a model nor an importance matrix.
fn is_model(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    name.ends_with(".gguf")
        && !name.contains("mmproj")
        && !name.contains("imatrix")
        && shard_of(path).is_none_or(|shard| shard.index == 1)
}

/// The place of a file in a set, from a name such as `q8-00002-of-00003.gguf`.
struct Shard<'a> {
    stem: &'a str,
    index: u32,
    count: u32,
}

fn shard_of(path: &str) -> Option<Shard<'_>> {
    let (stem, extension) = path.split_at_checked(path.len().checked_sub(5)?)?;
    let (stem, count) = stem.rsplit_once("-of-")?;
    let (stem, index) = stem.rsplit_once('-')?;
    let number = |text: &str| {
        let digits = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse::<u32>().ok() } else { None }
    };
    let (index, count) = (number(index)?, number(count)?);
    let is_gguf = extension.eq_ignore_ascii_case(".gguf");
    (is_gguf && (1..=count).contains(&index)).then_some(Shard { stem, index, count })
}

/// All files of the set that a file belongs to; the file alone where there is no set.
fn shards(path: &str) -> Vec<String> {
    let Some(shard) = shard_of(path) else { return vec![path.to_owned()] };
    let Shard { stem, count, .. } = shard;
    let extension = path.get(path.len() - 5..).unwrap_or(".gguf");
    (1..=count).map(|index| format!("{stem}-{index:05}-of-{count:05}{extension}")).collect()
}

fn ends_with(path: &str, end: &str) -> bool {
    path.len() >= end.len()
        && path
            .as_bytes()
            .iter()
            .rev()
            .zip(end.as_bytes().iter().rev())
            .all(|(a, b)| a.eq_ignore_ascii_case(b))
}

/// Whether a path has a word, in any case: `Q4_K` is a word of `a-Q4_K.gguf`, not of
/// `a-Q4_K_M.gguf` nor of `a-IQ4_K.gguf`.
fn has_word(path: &str, word: &str) -> bool {
    let (path, word) = (path.to_ascii_lowercase(), word.to_ascii_lowercase());
    let in_word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    !word.is_empty()
        && path.match_indices(&word).any(|(at, _)| {
            let bytes = path.as_bytes();
            let before = at.checked_sub(1).and_then(|before| bytes.get(before));
            !in_word(before) && !in_word(bytes.get(at + word.len()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(paths: &[&str], quant: Option<&str>) -> Result<Vec<String>, HubError> {
        let file = |path: &&str| RepoFile { path: (*path).to_owned(), size: Some(1) };
        let files: Vec<_> = paths.iter().map(file).collect();
        let model = HubRef::parse("hf:org/repo").unwrap();
        pick(&model, &files, quant).map(|pick| match pick {
            Pick::Gguf(files) => files.into_iter().filter_map(|file| file.file).collect(),
            Pick::Config(file) => vec![file.file.unwrap()],
        })
    }

    #[test]
    fn the_only_model_is_meant() {
        let files = ["README.md", "config.json", "m.gguf", "mmproj-m.gguf", "m.imatrix.gguf"];
        assert_eq!(picked(&files, None).unwrap(), ["m.gguf"]);
        assert_eq!(picked(&files, Some("Q8_0")).unwrap(), ["m.gguf"]);
        assert_eq!(picked(&["config.json", "m.safetensors"], None).unwrap(), ["config.json"]);
    }

    #[test]
    fn the_quantization_chooses_whole_words() {
        let files =
            ["m-IQ4_K.gguf", "m-Q4_K_M.gguf", "m-q4_k.gguf", "Q8_0/m.gguf", "m.Q2_K_L.gguf"];
        assert_eq!(picked(&files, Some("Q4_K_M")).unwrap(), ["m-Q4_K_M.gguf"]);
        assert_eq!(picked(&files, Some("Q4_K")).unwrap(), ["m-q4_k.gguf"]);
        assert_eq!(picked(&files, Some("q8_0")).unwrap(), ["Q8_0/m.gguf"]);
        assert!(
            matches!(picked(&files, None), Err(HubError::Ambiguous { candidates, .. }) if candidates.len() == 5)
        );
        let error = picked(&files, Some("Q2_K")).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "hf:org/repo: no file of quantization Q2_K; name one of m-IQ4_K.gguf, "
            ),
            "{error}"
        );
    }

    #[test]
    fn shards_are_one_model() {
        let files = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "s-Q4_0.gguf"];
        let whole = &files[..2];
        assert_eq!(picked(whole, None).unwrap(), whole);
        assert!(
            matches!(picked(&files, None), Err(HubError::Ambiguous { candidates, .. }) if candidates.len() == 2)
        );
        let error = picked(&["m-00001-of-00002.gguf"], None).unwrap_err();
        assert!(error.to_string().contains("m-00002-of-00002.gguf is missing"), "{error}");
        let model = HubRef::parse("hf:o/r/m-00002-of-00002.gguf").unwrap();
        assert!(
            matches!(named(&model, model.file.as_deref().unwrap()), Pick::Gguf(files) if files.len() == 2)
        );
    }

    #[test]
    fn nothing_to_pick_lists_what_is_there() {
        let error = picked(&["README.md", "a.bin"], None).unwrap_err().to_string();
        assert_eq!(
            error,
            "hf:org/repo: neither a .gguf file nor a config.json in the repository, only README.md, a.bin; name another one"
        );
        assert!(!picked(&[], None).unwrap_err().to_string().contains("only"));
    }

    #[test]
    fn odd_names_are_no_shards() {
        for path in [
            "",
            "é.gguf",
            "a-00000-of-00002.gguf",
            "a-00003-of-00002.gguf",
            "a-1-of-2.gguf",
            "-of-.gguf",
        ] {
            assert_eq!(shards(path), [path]);
        }
    }
}
