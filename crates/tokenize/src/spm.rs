//! Tokens of a text by the scores of a SentencePiece vocabulary.
//!
//! The text begins as single characters. Of all neighbours whose joined text is a token, those with
//! the highest score are joined, the leftmost where scores are equal, until none are left. What is
//! no token then is written byte by byte.
//!
//! A list of merges, as the `tokenizers` crate wants it, cannot say the same: it ranks the ways to
//! form one token among each other, where only the place in the text may decide.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use crate::bytes::{is_in_utf8, spelled};
use crate::metadata::TokenType;

/// How SentencePiece writes a space.
pub(crate) const SPACE: &str = "\u{2581}";

/// A vocabulary with scores.
pub(crate) struct Spm {
    tokens: HashMap<String, Scored>,
    /// The token of each byte.
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
}

#[derive(Clone, Copy)]
struct Scored {
    token: u32,
    score: f32,
}

impl Spm {
    pub(crate) fn new(
        tokens: Vec<String>,
        types: &[TokenType],
        scores: &[f32],
        unknown: Option<u32>,
    ) -> Self {
        let mut bytes = vec![None; 256];
        let mut scored = HashMap::with_capacity(tokens.len());
        for (((token, text), kind), &score) in (0..).zip(tokens).zip(types).zip(scores) {
            match (kind, spelled(&text)) {
                (TokenType::Unknown | TokenType::Control, _) => {}
                (TokenType::Byte, Some(byte)) => {
                    if let Some(slot) = bytes.get_mut(usize::from(byte)) {
                        *slot = Some(token);
                    }
                }
                // Adding 0 makes one of the two zeros, which `total_cmp` would tell apart.
                _ => drop(scored.insert(text, Scored { token, score: score + 0.0 })),
            }
        }
        Self { tokens: scored, bytes, unknown }
    }

    /// Whether any text has tokens of its own.
    pub(crate) fn knows_all_bytes(&self) -> bool {
        (0..=255u8).zip(&self.bytes).all(|(byte, token)| token.is_some() || !is_in_utf8(byte))
    }

    /// Appends the tokens of a text whose spaces are written as [`SPACE`].
    pub(crate) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let mut after_unknown = false;
        for part in self.merged(text) {
            if let Some(known) = self.tokens.get(part) {
                out.push(known.token);
                after_unknown = false;
                continue;
            }
            let bytes: Option<Vec<u32>> =
                part.bytes().map(|b| self.bytes.get(usize::from(b)).copied().flatten()).collect();
            match (bytes, self.unknown) {
                (Some(bytes), _) => {
                    out.extend(bytes);
                    after_unknown = false;
                }
                // Neighbours that nothing is known of are unknown together.
                (None, Some(unknown)) if !after_unknown => {
                    out.push(unknown);
                    after_unknown = true;
                }
                (None, _) => {}
            }
        }
    }

    fn merged<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut merger = Merger { spm: self, text, parts: Vec::new(), queue: BinaryHeap::new() };
        for (start, char) in text.char_indices() {
            let here = merger.parts.len();
            let end = start + char.len_utf8();
            merger.parts.push(Part { start, end, before: here.checked_sub(1), after: None });
            if let Some(before) = here.checked_sub(1) {
                merger.parts[before].after = Some(here);
                merger.propose(before, here);
            }
        }
        while let Some(candidate) = merger.queue.pop() {
            merger.join(&candidate);
        }
        let parts = merger.parts.iter().filter(|part| part.start < part.end);
        parts.filter_map(|part| text.get(part.start..part.end)).collect()
    }
}

/// A part of the text, linked to its neighbours; empty once it is part of the one before.
struct Part {
    start: usize,
    end: usize,
    before: Option<usize>,
    after: Option<usize>,
}

struct Merger<'a, 't> {
    spm: &'a Spm,
    text: &'t str,
    parts: Vec<Part>,
    queue: BinaryHeap<Candidate>,
}

/// Two neighbours whose joined text is a token.
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both: another number later says that one of them has changed.
    len: usize,
}

impl Merger<'_, '_> {
    fn propose(&mut self, left: usize, right: usize) {
        let (start, end) = (self.parts[left].start, self.parts[right].end);
        let known = self.text.get(start..end).and_then(|text| self.spm.tokens.get(text));
        if let Some(&Scored { score, .. }) = known {
            self.queue.push(Candidate { score, left, right, len: end - start });
        }
    }

    fn join(&mut self, &Candidate { left, right, len, .. }: &Candidate) {
        let (first, second) = (&self.parts[left], &self.parts[right]);
        if first.start == first.end || second.start == second.end || second.end - first.start != len
        {
            return;
        }
        let after = second.after;
        self.parts[left].end = second.end;
        self.parts[left].after = after;
        self.parts[right].start = self.parts[right].end;
        if let Some(after) = after {
            self.parts[after].before = Some(left);
            self.propose(left, after);
        }
        if let Some(before) = self.parts[left].before {
            self.propose(before, left);
        }
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

#[cfg(test)]
mod tests {
    use super::*;

    fn spm(scores: &[(&str, f32)], unknown: Option<u32>) -> Spm {
        let tokens: Vec<_> = scores.iter().map(|(text, _)| (*text).to_owned()).collect();
        let types = vec![TokenType::Normal; tokens.len()];
        let scores: Vec<_> = scores.iter().map(|(_, score)| *score).collect();
        Spm::new(tokens, &types, &scores, unknown)
    }

    fn tokens(spm: &Spm, text: &str) -> Vec<u32> {
        let mut out = Vec::new();
        spm.encode(text, &mut out);
        out
    }

    #[test]
    fn the_highest_score_is_joined_first() {
        let spm = spm(
            &[("a", 0.0), ("b", 0.0), ("c", 0.0), ("ab", -2.0), ("bc", -1.0), ("abc", -3.0)],
            None,
        );
        assert_eq!(tokens(&spm, "abc"), [5]);
        assert_eq!(tokens(&spm, "abcc"), [5, 2]);
        assert_eq!(tokens(&spm, "ab"), [3]);
    }

    #[test]
    fn equal_scores_go_from_the_left() {
        let spm = spm(&[("a", 0.0), ("aa", -1.0), ("b", 0.0), ("ab", -1.0)], None);
        assert_eq!(tokens(&spm, "aaa"), [1, 0]);
        assert_eq!(tokens(&spm, "aab"), [1, 2]);
        // Both zeros are one score.
        let spm = self::spm(&[("a", 0.0), ("b", 0.0), ("ab", -0.0), ("ba", 0.0)], None);
        assert_eq!(tokens(&spm, "aba"), [2, 0]);
    }

    #[test]
    fn unknown_neighbours_are_one_token() {
        assert_eq!(tokens(&spm(&[("a", 0.0)], Some(7)), "xyaz"), [7, 0, 7]);
        assert_eq!(tokens(&spm(&[("a", 0.0)], None), "xyaz"), [0]);
    }
}
