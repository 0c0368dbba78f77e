//! Text from tokens, one at a time.

use crate::Tokenizer;

/// Gives the text of tokens as they come.
///
/// A token may end inside a character; its bytes wait for the next. Bytes that no token can
/// complete become U+FFFD.
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    pending: Vec<u8>,
    /// Whether a space at the start of the next text is that of the encoder.
    at_start: bool,
}

impl<'a> DecodeStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, pending: Vec::new(), at_start: tokenizer.has_space_prefix() }
    }

    /// The text that this token completes; empty for control tokens and inside a character.
    pub fn push(&mut self, token: u32) -> String {
        let mut piece = self.tokenizer.piece(token);
        if self.at_start && !piece.is_empty() {
            piece = piece.strip_prefix(b" ").unwrap_or(piece);
            self.at_start = false;
        }
        self.pending.extend_from_slice(piece);
        let mut text = String::new();
        let waiting = {
            let mut rest = self.pending.as_slice();
            loop {
                match std::str::from_utf8(rest) {
                    Ok(valid) => {
                        text.push_str(valid);
                        break 0;
                    }
                    Err(error) => {
                        let (valid, after) = rest.split_at(error.valid_up_to());
                        text.push_str(&String::from_utf8_lossy(valid));
                        let Some(wrong) = error.error_len() else { break after.len() };
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = after.get(wrong..).unwrap_or_default();
                    }
                }
            }
        };
        self.pending.drain(..self.pending.len() - waiting);
        text
    }

    /// What is left: U+FFFD where the last token ended inside a character, nothing otherwise.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}
