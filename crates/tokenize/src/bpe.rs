//! Byte-level BPE: the `tokenizers` crate behind checks of what a file may hold.

use std::collections::HashSet;

use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

use crate::TokenizeError;
use crate::bytes::{byte_chars, is_in_utf8};
use crate::metadata::TokenType;
use crate::pre::{Pre, Words};

/// A byte-level vocabulary with its merges.
pub(crate) struct Bpe {
    model: BPE,
    words: Words,
    chars: [char; 256],
    types: Vec<TokenType>,
    whole_words: bool,
    knows_all_bytes: bool,
}

impl Bpe {
    pub(crate) fn new(
        tokens: Vec<String>,
        types: Vec<TokenType>,
        merges: Vec<String>,
        pre: &Pre,
    ) -> Result<Self, TokenizeError> {
        let vocab: Vocab = tokens.into_iter().zip(0..).filter(|(t, _)| !t.is_empty()).collect();
        let merges = checked(merges, &vocab)?;
        let chars = byte_chars();
        let knows_all_bytes = (0..=255u8)
            .zip(&chars)
            .filter(|(byte, _)| is_in_utf8(*byte))
            .all(|(_, char)| vocab.contains_key(&*char.encode_utf8(&mut [0; 4])));
        let model = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .build()
            .map_err(|error| TokenizeError::Build(error.to_string()))?;
        let words = Words::new(pre)?;
        Ok(Self { model, words, chars, types, whole_words: pre.whole_words, knows_all_bytes })
    }

    /// Whether any text has tokens of its own.
    pub(crate) fn knows_all_bytes(&self) -> bool {
        self.knows_all_bytes
    }

    /// Appends the tokens of a text.
    pub(crate) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let mut word_chars = String::new();
        for word in self.words.cut(text) {
            word_chars.clear();
            word_chars.extend(word.bytes().map(|byte| self.chars[usize::from(byte)]));
            if let Some(token) = self.whole(&word_chars) {
                out.push(token);
                continue;
            }
            // The model can only fail over an unknown token, and is given none.
            let tokens = self.model.tokenize(&word_chars).unwrap_or_default();
            out.extend(tokens.into_iter().map(|token| token.id));
        }
    }

    /// The token that is this word, where the vocabulary is used so.
    fn whole(&self, word: &str) -> Option<u32> {
        let token = if self.whole_words { self.model.token_to_id(word)? } else { return None };
        let kind = self.types.get(token as usize)?;
        (!kind.is_silent()).then_some(token)
    }
}

/// The two pieces of every merge; the `tokenizers` crate trusts that they and what they make are
/// tokens. Of equal merges the first counts.
fn checked(merges: Vec<String>, vocab: &Vocab) -> Result<Vec<(String, String)>, TokenizeError> {
    let mut pairs = Vec::with_capacity(merges.len());
    let mut seen = HashSet::with_capacity(merges.len());
    let mut joined = String::new();
    for (entry, merge) in merges.into_iter().enumerate() {
        // A piece may begin with a space, none holds one elsewhere.
        let at = merge.char_indices().skip(1).find(|(_, char)| *char == ' ').map(|(at, _)| at);
        let Some((left, right)) = at.and_then(|at| Some((merge.get(..at)?, merge.get(at + 1..)?)))
        else {
            return Err(TokenizeError::MergeForm { entry, merge });
        };
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let token = |piece: &str| {
            let absent = || TokenizeError::MergePiece { entry, piece: piece.to_owned() };
            vocab.get(piece).copied().ok_or_else(absent)
        };
        token(&joined)?;
        if seen.insert((token(left)?, token(right)?)) {
            pairs.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(pairs)
}
