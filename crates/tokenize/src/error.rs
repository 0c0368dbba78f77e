//! What can be wrong with a vocabulary.

use std::path::PathBuf;

use foretoken_gguf::GgufError;

/// Why a file gives no tokenizer. Each message is one line and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizeError {
    /// The reason, with the file that it concerns.
    #[error("{}: {reason}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Box<TokenizeError>,
    },
    /// The file is not readable as GGUF, or a metadata key is missing or of the wrong type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A vocabulary of another kind.
    #[error(
        "metadata key `tokenizer.ggml.model` is `{}`, which is not supported (gpt2 and llama are); give a number of tokens instead of text: --prompt N",
        shown(kind)
    )]
    Kind {
        /// The kind in the file.
        kind: String,
    },
    /// No tokens at all, or more than their numbers can count.
    #[error("metadata key `{key}` holds {len} entries; convert the model again")]
    Length {
        /// The key.
        key: &'static str,
        /// Number of entries.
        len: usize,
    },
    /// An array that must have an entry for every token has fewer.
    #[error(
        "metadata key `{key}` holds {len} entries for {tokens} tokens; convert the model again"
    )]
    TooShort {
        /// The key.
        key: &'static str,
        /// Number of entries.
        len: usize,
        /// Number of tokens.
        tokens: usize,
    },
    /// One text for two tokens.
    #[error(
        "metadata key `tokenizer.ggml.tokens` gives tokens {first} and {second} the same text `{}`; convert the model again",
        shown(text)
    )]
    DuplicateToken {
        /// One token.
        first: usize,
        /// The other.
        second: usize,
        /// Their text.
        text: String,
    },
    /// A score that cannot be compared with others.
    #[error(
        "metadata key `tokenizer.ggml.scores` is not a number for token {token}; convert the model again"
    )]
    Score {
        /// The token.
        token: usize,
    },
    /// A merge that is not two pieces.
    #[error(
        "metadata key `tokenizer.ggml.merges` has no two pieces in entry {entry}, `{}`; convert the model again",
        shown(merge)
    )]
    MergeForm {
        /// Which entry.
        entry: usize,
        /// Its text.
        merge: String,
    },
    /// A merge of or into pieces that are no tokens.
    #[error(
        "metadata key `tokenizer.ggml.merges` names `{}` in entry {entry}, which is no token; convert the model again",
        shown(piece)
    )]
    MergePiece {
        /// Which entry.
        entry: usize,
        /// The piece.
        piece: String,
    },
    /// A special token that is not in the vocabulary.
    #[error(
        "metadata key `{key}` is {token}, but the vocabulary has {tokens} tokens; convert the model again"
    )]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// Its value.
        token: u32,
        /// Number of tokens.
        tokens: usize,
    },
    /// A token is to be added to every text, and none is named.
    #[error(
        "metadata key `{flag}` asks for a token that `{key}` does not name; convert the model again"
    )]
    NoSuchToken {
        /// The key that asks.
        flag: &'static str,
        /// The key that is absent.
        key: &'static str,
    },
    /// The byte-pair model could not be built.
    #[error("the vocabulary gives no tokenizer: {0}; convert the model again")]
    Build(String),
}

/// A text from a file for a one-line message: control characters escaped, not too long.
fn shown(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
