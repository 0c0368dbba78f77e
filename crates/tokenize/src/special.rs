//! Tokens that are more than text: those that end a text, and those found in it as a whole.

use std::collections::HashSet;

use crate::metadata::TokenType;

/// Texts of tokens that end a turn or a text, whatever the metadata say: files are often silent or
/// wrong about them, and llama.cpp goes by their text as well.
const ENDS: [&str; 30] = [
    "</s>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    // Padding and file names: a model that completes code writes them when it is done.
    "<PAD>",
    "[PAD]",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<REPO>",
    "<reponame>",
    "<|repo_name|>",
    "<|fim_repo|>",
    "<fim-repo>",
    "<|file_sep|>",
];

/// Texts of tokens around the gap that a model completes.
const FILL_IN: [&str; 24] = [
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<fim-prefix>",
    "<fim-suffix>",
    "<fim-middle>",
    "<fim_prefix>",
    "<fim_suffix>",
    "<fim_middle>",
    "<｜fim▁begin｜>",
    "<｜fim▁hole｜>",
    "<｜fim▁end｜>",
    "<PRE>",
    "<SUF>",
    "<MID>",
    "▁<PRE>",
    "▁<SUF>",
    "▁<MID>",
    "<|code_prefix|>",
    "<|code_suffix|>",
    "<|code_middle|>",
    "<|prefix|>",
    "<|suffix|>",
    "<|middle|>",
];

/// Whether a token of this text ends a text.
pub(crate) fn is_end(text: &str) -> bool {
    ENDS.contains(&text)
}

/// Whether a token of this text ends only a part of a turn, by the others that the vocabulary has.
pub(crate) fn is_only_a_mark(text: &str, others: &HashSet<&str>) -> bool {
    let all = |texts: &[&str]| texts.iter().all(|text| others.contains(text));
    text == "<|end|>" && (all(&["<|return|>", "<|call|>"]) || all(&["<|calls|>", "<|flush|>"]))
}

/// Whether a token of this text surrounds a gap.
pub(crate) fn is_fill_in(text: &str) -> bool {
    FILL_IN.contains(&text)
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

/// The user-defined tokens of a vocabulary.
pub(crate) struct UserDefined {
    /// Longest first.
    tokens: Vec<(String, u32)>,
}

impl UserDefined {
    pub(crate) fn new(tokens: &[String], types: &[TokenType]) -> Self {
        let mut tokens: Vec<_> = (0..)
            .zip(tokens)
            .zip(types)
            .filter(|((_, text), kind)| **kind == TokenType::UserDefined && !text.is_empty())
            .map(|((id, text), _)| (text.clone(), id))
            .collect();
        tokens.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Self { tokens }
    }

    /// Cuts a text at the user-defined tokens in it. The longest token takes all its places before
    /// the next is looked for, as in llama.cpp.
    pub(crate) fn cut<'t>(&self, text: &'t str) -> Vec<Fragment<'t>> {
        let mut fragments = Vec::new();
        if !text.is_empty() {
            fragments.push(Fragment::Text(text));
        }
        for (token, id) in &self.tokens {
            if !text.contains(token.as_str()) {
                continue;
            }
            let mut cut = Vec::with_capacity(fragments.len());
            for fragment in fragments {
                match fragment {
                    Fragment::Text(text) => cut_at(text, token, *id, &mut cut),
                    token => cut.push(token),
                }
            }
            fragments = cut;
        }
        fragments
    }
}

fn cut_at<'t>(text: &'t str, token: &str, id: u32, out: &mut Vec<Fragment<'t>>) {
    for (i, part) in text.split(token).enumerate() {
        if i > 0 {
            out.push(Fragment::Token(id));
        }
        if !part.is_empty() {
            out.push(Fragment::Text(part));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut<'t>(tokens: &[&str], text: &'t str) -> Vec<Fragment<'t>> {
        let tokens: Vec<_> = tokens.iter().map(|&text| text.to_owned()).collect();
        UserDefined::new(&tokens, &vec![TokenType::UserDefined; tokens.len()]).cut(text)
    }

    #[test]
    fn the_longest_token_goes_first() {
        use Fragment::{Text, Token};
        assert_eq!(cut(&["ab", "bcd"], "abcd"), [Text("a"), Token(1)]);
        assert_eq!(cut(&["a", "aa"], "aaa"), [Token(1), Token(0)]);
        assert_eq!(cut(&["", "x"], "axbx"), [Text("a"), Token(1), Text("b"), Token(1)]);
        assert_eq!(cut(&["x"], ""), []);
    }
}
