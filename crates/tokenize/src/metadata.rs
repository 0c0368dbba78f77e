//! The metadata that describe a vocabulary, checked against each other.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek};

use foretoken_gguf::{
    FullArray, GgufError, GgufHeader, Value, ValueType, read_arrays, read_header,
};

use crate::TokenizeError;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
/// Further tokens that end a turn.
const ENDS: [&str; 2] = ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";

/// How the tokens of a text are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Byte-pair merges in the order of a list: `gpt2`.
    Bpe,
    /// Merges by the scores of the tokens: `llama`.
    Spm,
}

/// What a token is for; the numbers are llama.cpp's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenType {
    fn from_id(id: i128) -> Self {
        match id {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }

    /// Whether a token of this type never stands for text.
    pub(crate) fn is_silent(self) -> bool {
        matches!(self, Self::Unknown | Self::Control)
    }
}

/// The vocabulary of a file. Every array that is not empty has an entry for every token.
pub(crate) struct Metadata {
    pub(crate) kind: Kind,
    pub(crate) pre: Option<String>,
    pub(crate) tokens: Vec<String>,
    pub(crate) types: Vec<TokenType>,
    /// Of [`Kind::Spm`].
    pub(crate) scores: Vec<f32>,
    /// Of [`Kind::Bpe`].
    pub(crate) merges: Vec<String>,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) unknown: Option<u32>,
    pub(crate) ends: Vec<u32>,
    pub(crate) add_bos: Option<bool>,
    pub(crate) add_eos: Option<bool>,
    pub(crate) add_space_prefix: Option<bool>,
}

impl Metadata {
    /// `None` where the file has no vocabulary.
    pub(crate) fn read(reader: &mut (impl Read + Seek)) -> Result<Option<Self>, TokenizeError> {
        let header = read_header(reader)?;
        let kind = match header.string(MODEL)? {
            None | Some("none" | "no_vocab") => return Ok(None),
            Some("gpt2") => Kind::Bpe,
            Some("llama") => Kind::Spm,
            Some(other) => return Err(TokenizeError::Kind { kind: other.to_owned() }),
        };
        let mut arrays = read_arrays(reader, &[TOKENS, SCORES, TYPES, MERGES])?;
        let tokens = texts(TOKENS, arrays.remove(TOKENS))?;
        let n = tokens.len();
        if n == 0 || u32::try_from(n).is_err() {
            return Err(TokenizeError::Length { key: TOKENS, len: n });
        }
        check_unique(&tokens)?;
        let types = types(&mut arrays, kind, &tokens)?;
        // llama.cpp's defaults for `llama`; those for `gpt2` belong to one model only.
        let default = |token: u32| (kind == Kind::Spm && (token as usize) < n).then_some(token);
        Ok(Some(Self {
            kind,
            pre: header.string(PRE)?.map(str::to_owned),
            scores: if kind == Kind::Spm { scores(&mut arrays, n)? } else { Vec::new() },
            merges: match kind {
                Kind::Bpe => texts(MERGES, arrays.remove(MERGES))?,
                Kind::Spm => Vec::new(),
            },
            bos: token(&header, BOS, n)?.or(default(1)),
            eos: token(&header, EOS, n)?.or(default(2)),
            unknown: token(&header, UNKNOWN, n)?.or(default(0)),
            ends: ENDS
                .into_iter()
                .filter_map(|key| token(&header, key, n).transpose())
                .collect::<Result<_, _>>()?,
            add_bos: flag(&header, ADD_BOS)?,
            add_eos: flag(&header, ADD_EOS)?,
            add_space_prefix: flag(&header, ADD_SPACE_PREFIX)?,
            tokens,
            types,
        }))
    }

    /// The token before every text; `default` where the file does not say whether there is one.
    pub(crate) fn bos_to_add(&self, default: bool) -> Result<Option<u32>, TokenizeError> {
        to_add(self.add_bos.unwrap_or(default), self.bos, (ADD_BOS, BOS))
    }

    /// The token after every text.
    pub(crate) fn eos_to_add(&self) -> Result<Option<u32>, TokenizeError> {
        to_add(self.add_eos.unwrap_or(false), self.eos, (ADD_EOS, EOS))
    }
}

fn to_add(
    add: bool,
    token: Option<u32>,
    (flag, key): (&'static str, &'static str),
) -> Result<Option<u32>, TokenizeError> {
    match (add, token) {
        (false, _) => Ok(None),
        (true, Some(token)) => Ok(Some(token)),
        (true, None) => Err(TokenizeError::NoSuchToken { flag, key }),
    }
}

fn wrong_type(key: &str, expected: &'static str, found: ValueType) -> TokenizeError {
    GgufError::WrongType { key: key.to_owned(), expected, found }.into()
}

fn missing(key: &str) -> TokenizeError {
    GgufError::MissingKey { key: key.to_owned() }.into()
}

fn texts(key: &str, array: Option<FullArray>) -> Result<Vec<String>, TokenizeError> {
    match array {
        Some(FullArray::Texts(texts)) => Ok(texts),
        Some(FullArray::Integers(_) | FullArray::Floats(_)) => {
            Err(wrong_type(key, "an array of strings", ValueType::Array))
        }
        None => Err(missing(key)),
    }
}

/// An entry for each of `n` tokens.
fn per_token<T>(key: &'static str, array: Vec<T>, n: usize) -> Result<Vec<T>, TokenizeError> {
    if array.len() < n {
        return Err(TokenizeError::TooShort { key, len: array.len(), tokens: n });
    }
    Ok(array)
}

fn scores(
    arrays: &mut BTreeMap<&'static str, FullArray>,
    n: usize,
) -> Result<Vec<f32>, TokenizeError> {
    let scores: Vec<f32> = match arrays.remove(SCORES) {
        Some(FullArray::Floats(floats)) => floats.into_iter().map(|float| float as f32).collect(),
        Some(FullArray::Integers(numbers)) => numbers.into_iter().map(|n| n as f32).collect(),
        Some(FullArray::Texts(_)) => {
            return Err(wrong_type(SCORES, "an array of numbers", ValueType::Array));
        }
        None => return Err(missing(SCORES)),
    };
    if let Some(token) = scores.iter().position(|score| score.is_nan()) {
        return Err(TokenizeError::Score { token });
    }
    per_token(SCORES, scores, n)
}

fn types(
    arrays: &mut BTreeMap<&'static str, FullArray>,
    kind: Kind,
    tokens: &[String],
) -> Result<Vec<TokenType>, TokenizeError> {
    match arrays.remove(TYPES) {
        Some(FullArray::Integers(ids)) => {
            per_token(TYPES, ids.into_iter().map(TokenType::from_id).collect(), tokens.len())
        }
        Some(FullArray::Texts(_) | FullArray::Floats(_)) => {
            Err(wrong_type(TYPES, "an array of integers", ValueType::Array))
        }
        None => Ok(tokens
            .iter()
            .map(|text| match kind {
                Kind::Spm if crate::bytes::spelled(text).is_some() => TokenType::Byte,
                _ => TokenType::Normal,
            })
            .collect()),
    }
}

/// Empty texts may occur more than once: they stand for nothing.
fn check_unique(tokens: &[String]) -> Result<(), TokenizeError> {
    let mut seen = HashMap::with_capacity(tokens.len());
    for (second, text) in tokens.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
        if let Some(first) = seen.insert(text.as_str(), second) {
            return Err(TokenizeError::DuplicateToken { first, second, text: text.clone() });
        }
    }
    Ok(())
}

/// The token that a key names; converters write the largest number for none.
fn token(header: &GgufHeader, key: &'static str, n: usize) -> Result<Option<u32>, TokenizeError> {
    if let Some(Value::I32(-1) | Value::I64(-1)) = header.metadata.get(key) {
        return Ok(None);
    }
    match header.integer(key)? {
        None | Some(u32::MAX) => Ok(None),
        Some(token) if (token as usize) < n => Ok(Some(token)),
        Some(token) => Err(TokenizeError::OutOfRange { key, token, tokens: n }),
    }
}

fn flag(header: &GgufHeader, key: &'static str) -> Result<Option<bool>, TokenizeError> {
    match header.metadata.get(key) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(wrong_type(key, "a bool", other.value_type())),
    }
}
