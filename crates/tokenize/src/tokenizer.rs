//! The tokenizer of a file.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use foretoken_gguf::GgufError;

use crate::bpe::Bpe;
use crate::bytes::{self, Pieces};
use crate::metadata::{Kind, Metadata, TokenType};
use crate::special::{self, Fragment, UserDefined};
use crate::spm::{SPACE, Spm};
use crate::{DecodeStream, TokenizeError, pre};

/// Turns text into the tokens of a model, and back.
pub struct Tokenizer {
    model: Model,
    user_defined: UserDefined,
    /// What every token stands for; control tokens for nothing.
    pieces: Pieces,
    bos: Option<u32>,
    eos: Option<u32>,
    ends: BTreeSet<u32>,
    /// Tokens before and after every text.
    around: (Option<u32>, Option<u32>),
    /// Whether texts get a space in front.
    space_prefix: bool,
    warnings: Vec<String>,
}

enum Model {
    Bpe(Box<Bpe>),
    Spm(Spm),
}

impl Tokenizer {
    /// The tokenizer in a GGUF file; `None` where the file has no vocabulary, as synthetic ones.
    ///
    /// # Errors
    /// The file cannot be read, its vocabulary contradicts itself, or is of another kind than
    /// `gpt2` and `llama`.
    pub fn from_gguf(path: &Path) -> Result<Option<Self>, TokenizeError> {
        let in_file = |reason: TokenizeError| TokenizeError::InFile {
            path: path.to_owned(),
            reason: Box::new(reason),
        };
        let mut file = open(path).map_err(|error| in_file(error.into()))?;
        Self::from_reader(&mut file).map_err(in_file)
    }

    /// As [`Tokenizer::from_gguf`], from bytes that are open already.
    ///
    /// # Errors
    /// As [`Tokenizer::from_gguf`].
    pub fn from_reader(reader: &mut (impl Read + Seek)) -> Result<Option<Self>, TokenizeError> {
        Metadata::read(reader)?.map(Self::new).transpose()
    }

    fn new(mut metadata: Metadata) -> Result<Self, TokenizeError> {
        let ends = ends(&mut metadata);
        let pieces = pieces(&metadata);
        let user_defined = UserDefined::new(&metadata.tokens, &metadata.types);
        let (bos, eos) = (metadata.bos, metadata.eos);
        let after = metadata.eos_to_add()?;
        let mut warnings = Vec::new();
        let (model, before, space_prefix) = match metadata.kind {
            Kind::Bpe => {
                let (pre, warning) = pre::of_name(metadata.pre.as_deref());
                warnings.extend(warning);
                let before = metadata.bos_to_add(pre.add_bos)?;
                let Metadata { tokens, types, merges, .. } = metadata;
                (Model::Bpe(Box::new(Bpe::new(tokens, types, merges, &pre)?)), before, false)
            }
            Kind::Spm => {
                let before = metadata.bos_to_add(true)?;
                let Metadata { tokens, types, scores, unknown, add_space_prefix, .. } = metadata;
                let spm = Spm::new(tokens, &types, &scores, unknown);
                (Model::Spm(spm), before, add_space_prefix.unwrap_or(true))
            }
        };
        let knows_all_bytes = match &model {
            Model::Bpe(bpe) => bpe.knows_all_bytes(),
            Model::Spm(spm) => spm.knows_all_bytes(),
        };
        if !knows_all_bytes {
            warnings.push(
                "metadata key `tokenizer.ggml.tokens` has no token for some bytes: texts may lose characters".to_owned(),
            );
        }
        let around = (before, after);
        Ok(Self { model, user_defined, pieces, bos, eos, ends, around, space_prefix, warnings })
    }

    /// The tokens of a text, with those that the model expects around it.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let (before, after) = self.around;
        let mut tokens = Vec::from_iter(before);
        let mut after_token = true;
        for fragment in self.user_defined.cut(text) {
            match (fragment, &self.model) {
                (Fragment::Token(token), _) => tokens.push(token),
                (Fragment::Text(text), Model::Bpe(bpe)) => bpe.encode(text, &mut tokens),
                (Fragment::Text(text), Model::Spm(spm)) => {
                    let prefix = if self.space_prefix && after_token { SPACE } else { "" };
                    spm.encode(&format!("{prefix}{}", text.replace(' ', SPACE)), &mut tokens);
                }
            }
            after_token = matches!(fragment, Fragment::Token(_));
        }
        tokens.extend(after);
        tokens
    }

    /// The text of tokens, without control tokens and without the space that
    /// [`Tokenizer::encode`] puts in front. Bytes that are no character become U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut stream = self.decode_stream();
        let mut text: String = tokens.iter().map(|&token| stream.push(token)).collect();
        text.push_str(&stream.finish());
        text
    }

    /// Gives the text of tokens as they come, from the start of a text.
    pub fn decode_stream(&self) -> DecodeStream<'_> {
        DecodeStream::new(self)
    }

    /// Gives the text of tokens as they come, behind a prompt: a space at the start is kept, and
    /// a character that the prompt begins is completed.
    pub fn decode_stream_after(&self, prompt: &[u32]) -> DecodeStream<'_> {
        let mut stream = self.decode_stream();
        for &token in prompt {
            stream.push(token);
        }
        stream
    }

    /// Number of tokens in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The token that begins a text, where the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text, where the model has one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whether the model ends its text or its turn with this token.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// What may make tokens differ from those of the model's training: one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The bytes that a token stands for; nothing for control tokens and numbers without a token.
    pub(crate) fn piece(&self, token: u32) -> &[u8] {
        self.pieces.get(token)
    }

    pub(crate) fn has_space_prefix(&self) -> bool {
        self.space_prefix
    }
}

fn open(path: &Path) -> Result<File, GgufError> {
    if path.is_dir() {
        return Err(GgufError::Directory);
    }
    File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => GgufError::NotFound,
        _ => GgufError::Io(error),
    })
}

/// The tokens that end a text. Those that do by their text alone become control tokens, and so do
/// the marks of fill-in-the-middle: files often take them for ordinary ones.
fn ends(metadata: &mut Metadata) -> BTreeSet<u32> {
    let Metadata { tokens, types, .. } = metadata;
    let mut ends: BTreeSet<u32> = metadata.ends.iter().copied().chain(metadata.eos).collect();
    let known: HashSet<&str> =
        tokens.iter().map(String::as_str).filter(|text| special::is_end(text)).collect();
    for ((id, text), kind) in (0..).zip(&*tokens).zip(types) {
        let end = known.contains(text.as_str()) && !special::is_only_a_mark(text, &known);
        if end {
            ends.insert(id);
        }
        if end || special::is_fill_in(text) {
            *kind = TokenType::Control;
        }
    }
    ends
}

fn pieces(metadata: &Metadata) -> Pieces {
    let mut pieces = Pieces::new();
    for (text, kind) in metadata.tokens.iter().zip(&metadata.types) {
        pieces.push(|out| match (kind, metadata.kind) {
            (TokenType::Unknown | TokenType::Control, _) => {}
            (TokenType::UserDefined, _) => out.extend(text.bytes()),
            (TokenType::Byte, _) if let Some(byte) = bytes::spelled(text) => out.push(byte),
            (_, Kind::Bpe) => bytes::of_byte_chars(text, out),
            (_, Kind::Spm) => out.extend(text.replace(SPACE, " ").bytes()),
        });
    }
    pieces
}

#[cfg(test)]
mod tests;
