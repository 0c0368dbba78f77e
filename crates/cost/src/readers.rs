//! The readers of GGUF files in candle-transformers 0.11.1: what each of them loads, how it
//! attends, and where it ends. Plain data, read in `candle-transformers/src/models/quantized_*.rs`.

use foretoken_spec::{
    LayerKind, ModelShape, ModelSpec, RoleKind, TensorRole, TensorSpec, TensorType, Workload,
};

use crate::AttentionForm;

/// One reader of candle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reader {
    /// `quantized_llama`
    Llama,
    /// `quantized_qwen2`
    Qwen2,
    /// `quantized_qwen3`
    Qwen3,
    /// `quantized_qwen3_moe`
    Qwen3Moe,
    /// `quantized_gemma3`
    Gemma3,
    /// `quantized_phi`
    Phi2,
    /// `quantized_phi3`
    Phi3,
    /// `quantized_glm4`
    Glm4,
    /// `quantized_lfm2`
    Lfm2,
}

/// How keys and values are kept between passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvLayout {
    /// One tensor, copied as a whole whenever tokens are added.
    Concatenated,
    /// Room is set aside; tokens are written behind the others.
    Preallocated,
    /// Keys and values side by side, kept twice: as a tensor of the prompt and as a flat buffer.
    Interleaved,
}

/// Where the rotary tables of a reader end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongestPosition {
    /// At a constant of the reader.
    Tokens(u32),
    /// At the context length that the file states.
    ContextLength,
    /// At the context length that the file states, or here if that comes first: the reader sets
    /// aside room for the whole context in every layer, and is told no more.
    ContextLengthUpTo(u32),
}

/// What there is to know of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderInfo {
    /// Which one.
    pub reader: Reader,
    /// Its module in candle-transformers.
    pub module: &'static str,
    /// The architectures that it is for.
    pub architectures: &'static [&'static str],
    /// The `tracing` spans that it enters.
    pub spans: &'static [&'static str],
    /// The keys that it asks for, after `{architecture}.`; in all others it has defaults.
    pub keys: &'static [&'static str],
    /// How it attends on a CPU.
    pub attention: AttentionForm,
    /// How it keeps keys and values on a CPU.
    pub kv_layout: KvLayout,
    /// Where its rotary tables end.
    pub longest: LongestPosition,
    /// Copies of the rotary tables: one, or one per layer.
    pub rope_tables_per_layer: bool,
    /// Whether several tokens can go in at once behind cached ones.
    pub prefill_at_depth: bool,
    /// Whether position 0 begins anew; else the cache must be cleared between prompts.
    pub resets_at_zero: bool,
    /// Whether a missing `output.weight` is replaced by the embedding.
    pub loads_tied: bool,
    /// What is special, as a sentence.
    pub special: &'static str,
}

const LLAMA_KEYS: &[&str] = &[
    "attention.head_count",
    "attention.head_count_kv",
    "block_count",
    "embedding_length",
    "rope.dimension_count",
    "attention.layer_norm_rms_epsilon",
];
const LLAMA_SPANS: &[&str] =
    &["model", "attn", "attn-rot", "attn-mlp", "qmatmul", "rms-norm", "output"];

/// Every reader.
pub const READERS: &[ReaderInfo] = &[
    ReaderInfo {
        reader: Reader::Llama,
        module: "quantized_llama",
        architectures: &["llama"],
        spans: LLAMA_SPANS,
        keys: LLAMA_KEYS,
        attention: AttentionForm::Materialised,
        kv_layout: KvLayout::Concatenated,
        longest: LongestPosition::Tokens(4096),
        rope_tables_per_layer: false,
        prefill_at_depth: true,
        resets_at_zero: true,
        loads_tied: true,
        special: "heads are hidden_size / n_heads wide; experts are tensors of their own \
                  (`ffn_gate.0`), never `_exps`",
    },
    ReaderInfo {
        reader: Reader::Qwen2,
        module: "quantized_qwen2",
        architectures: &["qwen2"],
        spans: &["model", "attn", "attn-rot", "attn-mlp", "rms-norm", "output"],
        keys: &[
            "attention.head_count",
            "attention.head_count_kv",
            "embedding_length",
            "context_length",
            "block_count",
            "attention.layer_norm_rms_epsilon",
        ],
        attention: AttentionForm::Materialised,
        kv_layout: KvLayout::Concatenated,
        longest: LongestPosition::ContextLength,
        rope_tables_per_layer: false,
        prefill_at_depth: true,
        resets_at_zero: true,
        loads_tied: true,
        special: "heads are hidden_size / n_heads wide; biases are needed",
    },
    ReaderInfo {
        reader: Reader::Qwen3,
        module: "quantized_qwen3",
        architectures: &["qwen3"],
        spans: &["model", "attn", "mlp", "qmatmul", "rms-norm", "output"],
        keys: &[
            "attention.head_count",
            "attention.head_count_kv",
            "attention.key_length",
            "block_count",
            "embedding_length",
            "context_length",
            "attention.layer_norm_rms_epsilon",
            "rope.freq_base",
        ],
        attention: AttentionForm::Flash,
        kv_layout: KvLayout::Interleaved,
        longest: LongestPosition::ContextLength,
        rope_tables_per_layer: false,
        prefill_at_depth: true,
        resets_at_zero: false,
        loads_tied: true,
        special: "`clear_kv_cache` between prompts; tokens that were decoded are not in the cache \
                  that a later prompt sees; rotary tables of half precision unless told otherwise",
    },
    ReaderInfo {
        reader: Reader::Qwen3Moe,
        module: "quantized_qwen3_moe",
        architectures: &["qwen3moe"],
        spans: &["rms-norm"],
        keys: &[
            "attention.head_count",
            "attention.head_count_kv",
            "embedding_length",
            "context_length",
            "block_count",
            "attention.layer_norm_rms_epsilon",
            "expert_feed_forward_length",
            "expert_count",
            "expert_used_count",
        ],
        attention: AttentionForm::Materialised,
        kv_layout: KvLayout::Concatenated,
        longest: LongestPosition::ContextLength,
        rope_tables_per_layer: false,
        prefill_at_depth: true,
        resets_at_zero: false,
        loads_tied: true,
        special: "the experts are multiplied on CUDA only (`moe_gemm_gguf`); nothing empties the cache",
    },
    ReaderInfo {
        reader: Reader::Gemma3,
        module: "quantized_gemma3",
        architectures: &["gemma3"],
        spans: &["model", "attn", "attn-mlp", "qmatmul", "rms-norm", "output"],
        keys: &[
            "attention.head_count",
            "attention.head_count_kv",
            "block_count",
            "embedding_length",
            "attention.key_length",
            "attention.value_length",
            "attention.layer_norm_rms_epsilon",
            "attention.sliding_window",
        ],
        attention: AttentionForm::Materialised,
        kv_layout: KvLayout::Concatenated,
        longest: LongestPosition::Tokens(131_072),
        rope_tables_per_layer: true,
        prefill_at_depth: false,
        resets_at_zero: true,
        loads_tied: true,
        special: "rotary tables of 131,072 positions in every layer; the window masks in prompts \
                  only, it does not shorten the cache; the gate is SiLU",
    },
    ReaderInfo {
        reader: Reader::Phi2,
        module: "quantized_phi",
        architectures: &["phi2"],
        spans: &["model", "attn", "attn-rot", "qmatmul", "output"],
        keys: &[
            "attention.head_count",
            "attention.head_count_kv",
            "block_count",
            "embedding_length",
            "rope.dimension_count",
            "attention.layer_norm_epsilon",
        ],
        attention: AttentionForm::Materialised,
        kv_layout: KvLayout::Concatenated,
        longest: LongestPosition::Tokens(4096),
        rope_tables_per_layer: false,
        prefill_at_depth: true,
        resets_at_zero: true,
        loads_tied: false,
        special: "queries, keys and values have as many heads; every projection has a bias",
    },
    ReaderInfo {
        reader: Reader::Phi3,
        module: "quantized_phi3",
        architectures: &["phi3"],
        spans: &["model", "attn", "attn-rot", "qmatmul", "output"],
        keys: &[
            "attention.head_count",
            "attention.head_count_kv",
            "block_count",
            "embedding_length",
            "context_length",
            "feed_forward_length",
            "rope.dimension_count",
            "attention.layer_norm_rms_epsilon",
        ],
        attention: AttentionForm::Materialised,
        kv_layout: KvLayout::Preallocated,
        longest: LongestPosition::ContextLengthUpTo(4096),
        rope_tables_per_layer: false,
        prefill_at_depth: true,
        resets_at_zero: true,
        loads_tied: false,
        special: "room for the whole context is set aside at the first token of each prompt; a \
                  whole head is rotated, with the base 10,000 whatever the file states",
    },
    ReaderInfo {
        reader: Reader::Glm4,
        module: "quantized_glm4",
        architectures: &["glm4"],
        spans: &["model", "attn", "qmatmul", "rms-norm", "output"],
        keys: &[
            "attention.head_count",
            "attention.head_count_kv",
            "attention.key_length",
            "block_count",
            "embedding_length",
            "context_length",
            "attention.layer_norm_rms_epsilon",
            "rope.freq_base",
        ],
        attention: AttentionForm::Materialised,
        kv_layout: KvLayout::Preallocated,
        longest: LongestPosition::ContextLength,
        rope_tables_per_layer: false,
        prefill_at_depth: true,
        resets_at_zero: true,
        loads_tied: true,
        special: "half of a head is rotated; the cache grows by 512 tokens",
    },
    ReaderInfo {
        reader: Reader::Lfm2,
        module: "quantized_lfm2",
        architectures: &["lfm2"],
        spans: &["model", "attn", "attn-rot", "ffn", "rms-norm", "output"],
        keys: &[
            "attention.head_count",
            "attention.head_count_kv",
            "embedding_length",
            "context_length",
            "block_count",
            "attention.layer_norm_rms_epsilon",
            "shortconv.l_cache",
        ],
        attention: AttentionForm::Materialised,
        kv_layout: KvLayout::Concatenated,
        longest: LongestPosition::ContextLength,
        rope_tables_per_layer: false,
        prefill_at_depth: true,
        resets_at_zero: true,
        loads_tied: true,
        special: "most layers are short convolutions with a cache of a few positions, which \
                  several tokens start anew; nothing clears it",
    },
];

impl ReaderInfo {
    /// The longest position of a model in this reader, in tokens.
    pub fn longest_position(&self, shape: &ModelShape) -> u32 {
        match self.longest {
            LongestPosition::Tokens(tokens) => tokens,
            LongestPosition::ContextLength => shape.context_length,
            LongestPosition::ContextLengthUpTo(most) => shape.context_length.min(most),
        }
    }

    /// Bytes of the rotary tables: sine and cosine of half a head, in F32, for every position.
    pub fn rope_table_bytes(&self, shape: &ModelShape) -> u64 {
        let rotated = match self.reader {
            Reader::Phi2 | Reader::Phi3 | Reader::Glm4 => shape.details.rope_dim,
            _ => None,
        };
        let width = u64::from(rotated.unwrap_or(shape.head_dim));
        let copies = match self.reader {
            // The tables and a flat copy of each.
            Reader::Qwen3 | Reader::Qwen3Moe => 2,
            _ if self.rope_tables_per_layer => u64::from(shape.n_layers),
            _ => 1,
        };
        copies * u64::from(self.longest_position(shape)) * width * 4
    }

    /// Whether the span of a single matmul is there.
    pub fn times_matmuls(&self) -> bool {
        self.spans.contains(&"qmatmul")
    }
}

/// The reader that candle has for an architecture, whether or not it can load a given model.
pub fn of_architecture(architecture: &str) -> Option<&'static ReaderInfo> {
    READERS.iter().find(|info| info.architectures.contains(&architecture))
}

/// The tensor types that candle can load (`qtensor_from_ggml`).
pub const LOADABLE: &[TensorType] = &[
    TensorType::F32,
    TensorType::F16,
    TensorType::BF16,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::Q2_K,
    TensorType::Q3_K,
    TensorType::Q4_K,
    TensorType::Q5_K,
    TensorType::Q6_K,
];

/// Why candle cannot run a model. Each message is a clause: a subject and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// No reader for the architecture.
    #[error("candle has no GGUF reader for architecture `{found}`; it has: {}", known())]
    Architecture {
        /// `general.architecture`.
        found: String,
    },
    /// A reader whose cache cannot be emptied.
    #[error(
        "candle's {module} multiplies experts on CUDA only, and never empties its cache: a load \
         runs one prompt, too little to measure"
    )]
    OnePrompt {
        /// The reader.
        module: &'static str,
    },
    /// A number that the reader cannot honour.
    #[error("candle's {module} needs {field} to be {needed}, the model has {found}")]
    Shape {
        /// The reader.
        module: &'static str,
        /// Field of the shape.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What the reader needs.
        needed: String,
    },
    /// A tensor that the reader needs is not in the file, or in another form.
    #[error("candle's {module} {problem} (`{tensor}`)")]
    Tensor {
        /// The reader.
        module: &'static str,
        /// Name of the tensor.
        tensor: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A tensor type that candle does not know.
    #[error(
        "candle cannot load {found} (tensor `{tensor}`); take another quantization (Q8_0, Q4_K_M, …)"
    )]
    TensorType {
        /// Name of the tensor.
        tensor: String,
        /// Its type.
        found: &'static str,
    },
    /// Several tokens behind cached ones, where the reader has none.
    #[error(
        "candle's {module} takes several tokens into an empty cache only, the workload has a \
         prompt of {prompt} at depth {depth}; use --depth 0 or --prompt 0"
    )]
    PromptAtDepth {
        /// The reader.
        module: &'static str,
        /// Tokens of the prompt.
        prompt: u32,
        /// Tokens cached before.
        depth: u32,
    },
    /// More tokens than the reader's tables have.
    #[error(
        "depth {} + prompt {} + gen {} is {total} tokens, but candle's {module} ends at {longest}; shorten --depth, --prompt or --gen",
        workload.depth, workload.prompt_tokens, workload.generated_tokens
    )]
    TooLong {
        /// The reader.
        module: &'static str,
        /// Its longest position.
        longest: u32,
        /// What was asked for.
        workload: Workload,
        /// Its tokens in all.
        total: u64,
    },
}

fn known() -> String {
    let names: Vec<_> = READERS.iter().flat_map(|r| r.architectures).copied().collect();
    names.join(", ")
}

/// The reader that candle takes for a model, once it is known that it can load and run it.
///
/// # Errors
/// What the reader cannot honour: found here, before anything is loaded.
pub fn candle_reader(model: &ModelSpec) -> Result<&'static ReaderInfo, Unsupported> {
    let shape = &model.shape;
    let info = of_architecture(&shape.architecture)
        .ok_or_else(|| Unsupported::Architecture { found: shape.architecture.clone() })?;
    if info.reader == Reader::Qwen3Moe {
        return Err(Unsupported::OnePrompt { module: info.module });
    }
    check_shape(info, shape)?;
    check_tensors(info, model)?;
    Ok(info)
}

/// Refuses a workload that the reader cannot run.
///
/// # Errors
/// More tokens in all than the rotary tables have positions, or a prompt behind cached tokens where
/// the reader takes none.
pub fn check_workload(
    info: &ReaderInfo,
    shape: &ModelShape,
    workload: &Workload,
) -> Result<(), Unsupported> {
    let Workload { prompt_tokens, generated_tokens, depth } = *workload;
    let module = info.module;
    let longest = info.longest_position(shape);
    let total = u64::from(depth) + u64::from(prompt_tokens) + u64::from(generated_tokens);
    if total > u64::from(longest) {
        return Err(Unsupported::TooLong { module, longest, workload: *workload, total });
    }
    if depth > 0 && prompt_tokens > 1 && !info.prefill_at_depth {
        return Err(Unsupported::PromptAtDepth { module, prompt: prompt_tokens, depth });
    }
    Ok(())
}

fn check_shape(info: &ReaderInfo, shape: &ModelShape) -> Result<(), Unsupported> {
    let module = info.module;
    let wrong = |field, found: u32, needed: String| {
        Err(Unsupported::Shape { module, field, found: found.into(), needed })
    };
    if matches!(
        info.reader,
        Reader::Llama | Reader::Qwen2 | Reader::Phi2 | Reader::Phi3 | Reader::Lfm2
    ) {
        // These take the width of a head from the two others.
        if shape.n_heads == 0 || !shape.hidden_size.is_multiple_of(shape.n_heads) {
            return wrong("n_heads", shape.n_heads, format!("a divisor of {}", shape.hidden_size));
        }
        let width = shape.hidden_size / shape.n_heads;
        if shape.head_dim != width {
            let needed = format!("hidden_size / n_heads = {width}");
            return wrong("head_dim", shape.head_dim, needed);
        }
    }
    if !shape.head_dim.is_multiple_of(2) {
        return wrong("head_dim", shape.head_dim, "even".to_owned());
    }
    if let Some(value_dim) = shape.details.value_dim.filter(|&v| v != shape.head_dim) {
        return wrong("value_dim", value_dim, format!("head_dim = {}", shape.head_dim));
    }
    for layer in shape.layers().filter(|l| l.kind == LayerKind::Attention) {
        let (heads, kv_heads) = (layer.n_heads, layer.n_kv_heads);
        let per_layer = info.reader == Reader::Lfm2;
        if !per_layer && (heads, kv_heads) != (shape.n_heads, shape.n_kv_heads) {
            return wrong("n_kv_heads", kv_heads, format!("{} in every layer", shape.n_kv_heads));
        }
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return wrong("n_kv_heads", kv_heads, format!("a divisor of {heads}"));
        }
    }
    let rotated = shape.details.rope_dim.unwrap_or(shape.head_dim);
    match info.reader {
        Reader::Phi2 if shape.n_kv_heads != shape.n_heads => {
            wrong("n_kv_heads", shape.n_kv_heads, format!("n_heads = {}", shape.n_heads))
        }
        Reader::Glm4 if rotated != shape.head_dim / 2 => {
            wrong("rope_dim", rotated, format!("half a head = {}", shape.head_dim / 2))
        }
        Reader::Glm4 | Reader::Phi2 => Ok(()),
        _ if rotated != shape.head_dim => {
            wrong("rope_dim", rotated, format!("head_dim = {}", shape.head_dim))
        }
        _ => Ok(()),
    }
}

fn check_tensors(info: &ReaderInfo, model: &ModelSpec) -> Result<(), Unsupported> {
    let module = info.module;
    let problem = |tensor: String, problem| Err(Unsupported::Tensor { module, tensor, problem });
    if !info.loads_tied && model.tensors.iter().all(|t| t.role != TensorRole::Output) {
        return problem("output.weight".to_owned(), "needs an LM head of its own");
    }
    let is_stacked = |t: &&TensorSpec| t.role.kind() == RoleKind::Experts && t.shape.len() > 2;
    if info.reader == Reader::Llama
        && let Some(tensor) = model.tensors.iter().find(is_stacked)
    {
        let name = tensor.name.clone();
        return problem(name, "reads experts as tensors of their own, not stacked ones");
    }
    let present: std::collections::HashSet<_> =
        model.tensors.iter().map(|t| (t.role, t.layer)).collect();
    for (role, layer) in model.shape.tensor_slots() {
        let optional = role == TensorRole::Output || role.kind() == RoleKind::Factors;
        if !optional && !present.contains(&(role, layer)) {
            return problem(role.gguf_name(layer), "needs a tensor that is missing");
        }
    }
    // candle reads only the tensors of known roles, and ignores the factors of the rotary
    // embedding; the types of others do not matter.
    let is_read = |t: &&TensorSpec| {
        !matches!(t.role.kind(), RoleKind::Factors | RoleKind::Unknown)
            && t.role != TensorRole::OtherMatrix
    };
    match model.tensors.iter().filter(is_read).find(|t| !LOADABLE.contains(&t.tensor_type)) {
        Some(tensor) => Err(Unsupported::TensorType {
            tensor: tensor.name.clone(),
            found: tensor.tensor_type.name(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
