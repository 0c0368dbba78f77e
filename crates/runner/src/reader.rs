//! The readers of candle behind one face: load, pass, empty cache, saved cache.

use std::io::{Read, Seek};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{DType, Device, Result, Tensor};
use candle_transformers::models::{
    quantized_gemma3, quantized_glm4, quantized_lfm2, quantized_llama, quantized_phi,
    quantized_phi3, quantized_qwen2, quantized_qwen3,
};
use foretoken_cost::readers::{LongestPosition, Reader, ReaderInfo};

/// A model in the reader of its architecture.
enum Model {
    Llama(quantized_llama::ModelWeights),
    Qwen2(quantized_qwen2::ModelWeights),
    Qwen3(quantized_qwen3::ModelWeights),
    Gemma3(quantized_gemma3::ModelWeights),
    Phi2(quantized_phi::ModelWeights),
    Phi3(quantized_phi3::ModelWeights),
    Glm4(quantized_glm4::ModelWeights),
    Lfm2(quantized_lfm2::ModelWeights),
}

impl Model {
    fn load(info: &ReaderInfo, source: &mut (impl Read + Seek), device: &Device) -> Result<Self> {
        let mut content = Content::read(source)?;
        adapt(info, &mut content);
        Ok(match info.reader {
            Reader::Llama => {
                Self::Llama(quantized_llama::ModelWeights::from_gguf(content, source, device)?)
            }
            Reader::Qwen2 => {
                Self::Qwen2(quantized_qwen2::ModelWeights::from_gguf(content, source, device)?)
            }
            Reader::Qwen3 => {
                Self::Qwen3(quantized_qwen3::ModelWeights::from_gguf(content, source, device)?)
            }
            Reader::Gemma3 => {
                Self::Gemma3(quantized_gemma3::ModelWeights::from_gguf(content, source, device)?)
            }
            Reader::Phi2 => {
                Self::Phi2(quantized_phi::ModelWeights::from_gguf(content, source, device)?)
            }
            Reader::Phi3 => {
                Self::Phi3(quantized_phi3::ModelWeights::from_gguf(false, content, source, device)?)
            }
            Reader::Glm4 => Self::Glm4(quantized_glm4::ModelWeights::from_gguf(
                content,
                source,
                device,
                DType::F32,
            )?),
            Reader::Lfm2 => {
                Self::Lfm2(quantized_lfm2::ModelWeights::from_gguf(content, source, device)?)
            }
            Reader::Qwen3Moe => candle_core::bail!("{} needs CUDA", info.module),
        })
    }

    fn forward(&mut self, tokens: &Tensor, position: usize) -> Result<Tensor> {
        match self {
            Self::Llama(model) => model.forward(tokens, position),
            Self::Qwen2(model) => model.forward(tokens, position),
            Self::Qwen3(model) => model.forward(tokens, position),
            Self::Gemma3(model) => model.forward(tokens, position),
            Self::Phi2(model) => model.forward(tokens, position),
            Self::Phi3(model) => model.forward(tokens, position),
            Self::Glm4(model) => model.forward(tokens, position),
            Self::Lfm2(model) => model.forward(tokens, position),
        }
    }

    /// A copy that shares the weights and goes on from the same cache; `None` where the reader
    /// offers none, or a dear one.
    ///
    /// `phi3` and `glm4` share the buffers of the cache too: a copy writes behind what was cached
    /// when it was made, and reads no further.
    fn duplicate(&self) -> Option<Self> {
        match self {
            Self::Llama(model) => Some(Self::Llama(model.clone())),
            Self::Gemma3(model) => Some(Self::Gemma3(model.clone())),
            Self::Phi2(model) => Some(Self::Phi2(model.clone())),
            Self::Phi3(model) => Some(Self::Phi3(model.clone())),
            Self::Glm4(model) => Some(Self::Glm4(model.clone())),
            // A clone would copy room for 4,096 tokens in every layer.
            Self::Qwen3(_) => None,
            Self::Qwen2(_) | Self::Lfm2(_) => None,
        }
    }

    /// Empties the cache where the reader can. `quantized_lfm2` cannot: its next pass at position
    /// 0 starts anew if it has several tokens.
    fn clear(&mut self) {
        match self {
            Self::Llama(model) => model.clear_kv_cache(),
            Self::Qwen2(model) => model.clear_kv_cache(),
            Self::Qwen3(model) => model.clear_kv_cache(),
            // Position 0 starts anew.
            Self::Gemma3(_) | Self::Phi2(_) | Self::Phi3(_) | Self::Glm4(_) | Self::Lfm2(_) => {}
        }
    }
}

/// Tells the reader what files do not.
fn adapt(info: &ReaderInfo, content: &mut Content) {
    if info.reader == Reader::Qwen3 {
        // Else the rotary tables are of half precision, and useless beyond a few thousand tokens.
        content.metadata.insert("general.dtype".to_owned(), Value::U32(0));
    }
    if let LongestPosition::ContextLengthUpTo(most) = info.longest {
        for architecture in info.architectures {
            let context = content.metadata.get_mut(&format!("{architecture}.context_length"));
            if let Some(Value::U32(length)) = context {
                *length = (*length).min(most);
            }
        }
    }
}

/// A model with its cache, which can be emptied, saved and gone back to.
pub(crate) struct CachedModel {
    model: Model,
    device: Device,
    /// A copy with an empty cache and no masks, where the reader can be copied.
    fresh: Option<Model>,
    /// Tokens and position of each pass since the cache was empty, where going back means running
    /// them again.
    passes: Vec<(Vec<u32>, usize)>,
    saved: Option<Saved>,
}

/// A cache to go back to.
enum Saved {
    Copy(Box<Model>),
    Passes(Vec<(Vec<u32>, usize)>),
}

impl CachedModel {
    pub(crate) fn load(
        info: &ReaderInfo,
        source: &mut (impl Read + Seek),
        device: &Device,
    ) -> Result<Self> {
        let model = Model::load(info, source, device)?;
        let fresh = model.duplicate();
        Ok(Self { model, device: device.clone(), fresh, passes: Vec::new(), saved: None })
    }

    /// Logits of the last of these tokens, in one dimension.
    pub(crate) fn forward(&mut self, tokens: &[u32], position: usize) -> Result<Tensor> {
        let input = Tensor::new(tokens, &self.device)?.unsqueeze(0)?;
        self.model.forward(&input, position)?.squeeze(0)
    }

    /// Keeps in mind that a pass was run. Not a part of it: its time is not the engine's.
    pub(crate) fn remember(&mut self, tokens: &[u32], position: usize) {
        if self.fresh.is_none() {
            self.passes.push((tokens.to_vec(), position));
        }
    }

    /// Empties the cache.
    pub(crate) fn reset(&mut self) {
        match self.fresh.as_ref().and_then(Model::duplicate) {
            Some(fresh) => self.model = fresh,
            None => self.model.clear(),
        }
        self.passes.clear();
    }

    /// Saves the cache, replacing what was saved.
    pub(crate) fn snapshot(&mut self) {
        self.saved = Some(match self.model.duplicate() {
            Some(model) => Saved::Copy(Box::new(model)),
            None => Saved::Passes(self.passes.clone()),
        });
    }

    /// Goes back to the saved cache, or to an empty one.
    pub(crate) fn restore(&mut self) -> Result<()> {
        let passes = match &self.saved {
            Some(Saved::Copy(model)) => {
                if let Some(model) = model.duplicate() {
                    self.model = model;
                }
                return Ok(());
            }
            Some(Saved::Passes(passes)) => passes.clone(),
            None => Vec::new(),
        };
        self.reset();
        for (tokens, position) in &passes {
            self.forward(tokens, *position)?;
        }
        self.passes = passes;
        Ok(())
    }

    /// Whether going back to a saved cache runs its passes again.
    pub(crate) fn replays(&self) -> bool {
        self.fresh.is_none()
    }

    /// Forgets the saved cache.
    pub(crate) fn forget_snapshot(&mut self) {
        self.saved = None;
    }
}

#[cfg(test)]
pub(crate) mod tests;
