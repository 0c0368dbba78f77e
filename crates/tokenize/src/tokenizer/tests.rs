use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use foretoken_gguf::Value;
use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::testing::{
    FIXTURES, array, build, bytes, fixture, fixture_path, set, small_bpe, small_spm, texts, without,
};

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

fn cases(name: &str) -> Vec<Case> {
    let json = std::fs::read_to_string(fixture_path(&format!("{name}.json"))).unwrap();
    serde_json::from_str(&json).unwrap()
}

fn refusal(entries: &[crate::testing::Entry]) -> String {
    let message = build(entries).err().unwrap().to_string();
    assert!(!message.contains('\n') && !message.ends_with('.'), "{message}");
    assert!(!message.starts_with(char::is_uppercase), "{message}");
    message
}

#[test]
fn tokens_and_text_are_those_of_the_reference_libraries() {
    for name in FIXTURES {
        let tokenizer = fixture(name);
        assert_eq!(tokenizer.warnings(), [""; 0], "{name}");
        let cases = cases(name);
        assert!(cases.len() > 150, "{name}");
        for Case { text, ids, decoded } in cases {
            assert_eq!(tokenizer.encode(&text), ids, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&ids), decoded, "{name}: {text:?}");
        }
    }
}

#[test]
fn special_tokens_are_known() {
    let llama = fixture("spm-llama");
    assert_eq!((llama.bos(), llama.eos(), llama.vocab_size()), (Some(1), Some(2), 1200));
    assert!(llama.is_end(2) && !llama.is_end(1) && !llama.is_end(1_000_000));
    let bpe = fixture("bpe-llama3");
    let (bos, eos) = (bpe.bos().unwrap(), bpe.eos().unwrap());
    // The token between them is `<|im_end|>`, which the metadata do not name.
    assert!(bpe.is_end(eos) && bpe.is_end(bos + 1) && !bpe.is_end(bos));
}

#[test]
fn control_tokens_stand_for_no_text_and_no_text_for_them() {
    let tokenizer = fixture("spm-llama");
    assert_eq!(tokenizer.decode(&[1, 2, 0]), "");
    assert!(!tokenizer.encode("<s></s><unk>")[1..].iter().any(|&token| token < 3));
    let whole_words = set(small_bpe(), "tokenizer.ggml.pre", Value::String("llama-bpe".into()));
    let whole_words =
        set(whole_words, "tokenizer.ggml.tokens", texts(&["a", "b", "ab", "Ġ", "bb"]));
    let whole_words = set(whole_words, "tokenizer.ggml.bos_token_id", Value::U32(3));
    assert_eq!(build(&whole_words).unwrap().unwrap().encode("bb"), [3, 1, 1]);
}

#[test]
fn without_a_vocabulary_there_is_no_tokenizer() {
    assert!(build(&[]).unwrap().is_none());
    for model in ["none", "no_vocab"] {
        let entry = ("tokenizer.ggml.model", Value::String(model.into()));
        assert!(build(&[entry]).unwrap().is_none());
    }
}

#[test]
fn other_kinds_are_refused_by_name() {
    for kind in ["bert", "t5", "rwkv", "plamo2", "new\nkind"] {
        let message = refusal(&[("tokenizer.ggml.model", Value::String(kind.into()))]);
        assert!(message.contains(&kind.replace('\n', "\\n")), "{message}");
        assert!(message.ends_with("--prompt N"), "{message}");
    }
}

#[test]
fn files_are_named_in_errors() {
    for (path, reason) in [("no/such.gguf", "no such file"), (".", "is a directory")] {
        let message = Tokenizer::from_gguf(Path::new(path)).err().unwrap().to_string();
        assert!(message.starts_with(&format!("{path}: {reason}")), "{message}");
    }
}

#[test]
fn the_file_says_what_is_added_to_a_text() {
    let flags = |add_bos: Option<bool>, add_eos: Option<bool>, space: Option<bool>| {
        let mut entries = small_spm();
        for (key, flag) in [
            ("tokenizer.ggml.add_bos_token", add_bos),
            ("tokenizer.ggml.add_eos_token", add_eos),
            ("tokenizer.ggml.add_space_prefix", space),
        ] {
            entries.extend(flag.map(|flag| (key, Value::Bool(flag))));
        }
        build(&entries).unwrap().unwrap().encode("a")
    };
    assert_eq!(flags(None, None, None), [1, 5]);
    assert_eq!(flags(Some(false), Some(true), Some(false)), [4, 2]);
    let bpe = |pre: &str| {
        let entries = set(small_bpe(), "tokenizer.ggml.pre", Value::String(pre.into()));
        let entries = set(entries, "tokenizer.ggml.bos_token_id", Value::U32(4));
        build(&entries).unwrap().unwrap().encode("ab")
    };
    assert_eq!((bpe("qwen2"), bpe("llama-bpe"), bpe("tekken")), (vec![2], vec![4, 2], vec![4, 2]));
}

#[test]
fn doubtful_vocabularies_are_warned_of() {
    let entries = set(small_bpe(), "tokenizer.ggml.pre", Value::String("brand-new".into()));
    let tokenizer = build(&entries).unwrap().unwrap();
    assert_eq!(tokenizer.warnings().len(), 2, "{:?}", tokenizer.warnings());
    assert!(tokenizer.warnings()[0].contains("brand-new"));
    assert!(tokenizer.warnings()[1].contains("no token for some bytes"));
    assert_eq!(tokenizer.encode("ab ba"), [2, 3, 1, 0]);
}

#[test]
fn what_contradicts_itself_is_refused_by_key() {
    use Value::{F32, I32, String as Text, U32};
    for (entries, key, value, expected) in [
        (small_bpe(), "model", U32(1), "`tokenizer.ggml.model` must be a string, found u32"),
        (small_bpe(), "pre", U32(1), "`tokenizer.ggml.pre` must be a string, found u32"),
        (small_bpe(), "tokens", U32(1), "`tokenizer.ggml.tokens` must be an array of strings"),
        (small_bpe(), "tokens", array([I32(1)]), "`tokenizer.ggml.tokens` must be an array of str"),
        (small_bpe(), "tokens", texts(&[]), "`tokenizer.ggml.tokens` holds 0 entries"),
        (small_bpe(), "tokens", texts(&["a", "b", "a"]), "gives tokens 0 and 2 the same text `a`"),
        (small_bpe(), "token_type", array([I32(1)]), "`tokenizer.ggml.token_type` holds 1 entries"),
        (small_bpe(), "token_type", array([F32(1.)]), "`tokenizer.ggml.token_type` must be an arr"),
        (small_bpe(), "merges", array([I32(1)]), "`tokenizer.ggml.merges` must be an array of str"),
        (small_bpe(), "merges", texts(&["ab"]), "has no two pieces in entry 0, `ab`"),
        (small_bpe(), "merges", texts(&["a b", "a x"]), "names `ax` in entry 1, which is no token"),
        (small_bpe(), "merges", texts(&["a bab"]), "names `abab` in entry 0, which is no token"),
        (small_bpe(), "eos_token_id", U32(5), "eos_token_id` is 5, but the vocabulary has 5 tok"),
        (small_bpe(), "eos_token_id", Text("x".into()), "eos_token_id` must be an integer"),
        (small_bpe(), "add_bos_token", U32(1), "`tokenizer.ggml.add_bos_token` must be a bool"),
        (small_bpe(), "add_bos_token", Value::Bool(true), "`tokenizer.ggml.bos_token_id` does not"),
        (small_spm(), "scores", array([F32(1.)]), "`tokenizer.ggml.scores` holds 1 entries for 6"),
        (small_spm(), "scores", array([F32(f32::NAN)]), "scores` is not a number for token 0"),
        (small_spm(), "scores", texts(&["1"]), "`tokenizer.ggml.scores` must be an array of numb"),
    ] {
        let key: &'static str = format!("tokenizer.ggml.{key}").leak();
        let message = refusal(&set(entries, key, value));
        assert!(message.contains(expected), "{key}: {message}");
    }
    for (entries, key) in [
        (small_bpe(), "tokenizer.ggml.tokens"),
        (small_bpe(), "tokenizer.ggml.merges"),
        (small_spm(), "tokenizer.ggml.scores"),
    ] {
        let message = refusal(&without(entries, key));
        assert!(message.contains(&format!("`{key}` is missing")), "{message}");
    }
}

#[test]
fn what_converters_leave_out_is_no_error() {
    for value in [Value::U32(u32::MAX), Value::I32(-1)] {
        let tokenizer = build(&set(small_bpe(), "tokenizer.ggml.eos_token_id", value)).unwrap();
        assert_eq!(tokenizer.unwrap().eos(), None);
    }
    let untyped = without(small_spm(), "tokenizer.ggml.token_type");
    assert_eq!(build(&untyped).unwrap().unwrap().encode("a"), [1, 5]);
    let empty = set(small_bpe(), "tokenizer.ggml.tokens", texts(&["a", "b", "ab", "", ""]));
    assert_eq!(build(&empty).unwrap().unwrap().encode("ab"), [2]);
}

#[test]
fn a_stream_waits_inside_a_character() {
    let tokenizer = fixture("spm-llama");
    let ids = tokenizer.encode("a🤖b");
    let mut stream = tokenizer.decode_stream();
    let parts: Vec<_> = ids.iter().map(|&id| stream.push(id)).collect();
    assert_eq!(parts, ["", "a", "", "", "", "🤖", "b"]);
    assert_eq!(stream.finish(), "");
    let mut stream = tokenizer.decode_stream();
    let cut: String = ids[..4].iter().map(|&id| stream.push(id)).collect();
    assert_eq!((cut.as_str(), stream.finish().as_str()), ("a", "\u{FFFD}"));
}

#[test]
fn behind_a_prompt_spaces_are_kept_and_characters_completed() {
    let tokenizer = fixture("spm-llama");
    let ids = tokenizer.encode("a🤖 the");
    for cut in 2..ids.len() {
        let (prompt, rest) = ids.split_at(cut);
        let mut stream = tokenizer.decode_stream_after(prompt);
        let text: String = rest.iter().map(|&id| stream.push(id)).collect();
        let expected = if cut < 6 { "🤖 the" } else { " the" };
        assert_eq!(text, expected, "{cut}");
    }
}

/// What the encoder cannot keep: SentencePiece writes spaces as another character.
fn kept(name: &str, text: &str) -> String {
    if name.starts_with("spm") { text.replace('▁', " ") } else { text.to_owned() }
}

proptest! {
    #[test]
    fn every_text_comes_back(text in "(\\PC|[ \n\t\r'1-9a-f🙂▁]|<\\|tool\\|>| the| Mühle){0,40}") {
        for name in FIXTURES {
            let tokenizer = fixture(name);
            prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), kept(name, &text), "{}", name);
        }
    }

    #[test]
    fn a_stream_gives_the_text_of_all_tokens(ids in prop::collection::vec(0u32..1300, 0..60)) {
        for name in FIXTURES {
            let tokenizer = fixture(name);
            let bytes: Vec<u8> =
                ids.iter().flat_map(|&id| tokenizer.piece(id)).copied().collect();
            let whole = String::from_utf8_lossy(&bytes);
            let whole = match whole.strip_prefix(' ') {
                Some(rest) if tokenizer.has_space_prefix() => rest,
                _ => &whole,
            };
            prop_assert_eq!(tokenizer.decode(&ids), whole);
        }
    }

    #[test]
    fn no_damage_panics(
        which in 0..FIXTURES.len(),
        damage in prop::collection::vec((0usize..30_000, any::<u8>()), 1..4),
    ) {
        let path = fixture_path(&format!("{}.gguf", FIXTURES[which]));
        let mut bytes = std::fs::read(path).unwrap();
        let len = bytes.len();
        for (at, byte) in damage {
            bytes[at % len] = byte;
        }
        if let Ok(Some(tokenizer)) = Tokenizer::from_reader(&mut std::io::Cursor::new(bytes)) {
            let ids = tokenizer.encode("The river's bridge\n🙂 <|tool|> 1234");
            let _ = tokenizer.decode(&ids);
        }
    }

    #[test]
    fn no_metadata_panic(
        spm: bool,
        tokens in prop::collection::vec("[ab▁Ġ ]{0,3}", 0..6),
        types in prop::collection::vec(-1i32..8, 0..8),
        scores in prop::collection::vec(any::<f32>(), 0..8),
        merges in prop::collection::vec("[ab▁Ġ ]{0,4}", 0..4),
        ids in prop::collection::vec(0u32..7, 4),
        text in "[ab▁ 🙂]{0,9}",
    ) {
        let mut entries = if spm { small_spm() } else { small_bpe() };
        for (key, value) in [
            ("tokenizer.ggml.tokens", array(tokens.into_iter().map(Value::String))),
            ("tokenizer.ggml.token_type", array(types.into_iter().map(Value::I32))),
            ("tokenizer.ggml.scores", array(scores.into_iter().map(Value::F32))),
            ("tokenizer.ggml.merges", array(merges.into_iter().map(Value::String))),
            ("tokenizer.ggml.bos_token_id", Value::U32(ids[0])),
            ("tokenizer.ggml.eos_token_id", Value::U32(ids[1])),
            ("tokenizer.ggml.eot_token_id", Value::U32(ids[2])),
            ("tokenizer.ggml.unknown_token_id", Value::U32(ids[3])),
        ] {
            entries = set(entries, key, value);
        }
        if let Ok(Some(tokenizer)) = build(&entries) {
            let ids = tokenizer.encode(&text);
            let _ = tokenizer.decode(&ids);
        }
        prop_assert!(!bytes(&entries).is_empty());
    }
}

#[derive(Deserialize)]
struct External {
    vocabulary: PathBuf,
    ends: BTreeSet<u32>,
    cases: Vec<ExternalCase>,
}

#[derive(Deserialize)]
struct ExternalCase {
    text: String,
    ids: Vec<u32>,
    pieces: String,
}

/// Against llama.cpp on real vocabularies: see `tests/make_tokenizers.py`.
#[test]
#[ignore = "needs real vocabularies and what llama.cpp says of them"]
#[allow(clippy::print_stdout, reason = "run by hand")]
fn tokens_are_those_of_llama_cpp() {
    let folder = std::env::var("FORETOKEN_TOKENIZER_CASES").unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let json = std::fs::read_to_string(&path).unwrap();
        let external: External = serde_json::from_str(&json).unwrap();
        let start = std::time::Instant::now();
        let tokenizer = Tokenizer::from_gguf(&external.vocabulary).unwrap().unwrap();
        println!("{}: {:?}, {:?}", path.display(), start.elapsed(), tokenizer.warnings());
        assert_eq!(tokenizer.ends, external.ends, "{}", path.display());
        for ExternalCase { text, ids, pieces } in external.cases {
            assert_eq!(tokenizer.encode(&text), ids, "{}: {text:?}", path.display());
            let raw: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.piece(id)).copied().collect();
            assert_eq!(String::from_utf8_lossy(&raw), pieces, "{}: {text:?}", path.display());
        }
    }
}
