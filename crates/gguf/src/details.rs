//! What sets a model apart from the llama form, from metadata and tensor table.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_spec::{
    Architecture, Experts, LatentAttention, LayerKind, LayerShape, ModelShape, Recurrent, RoleKind,
    SlidingWindow, TensorRole, TensorSpec, Window,
};

use crate::model::positive;
use crate::{GgufError, GgufHeader, Value};

/// Heads of the model, and of each layer where the file lists them.
pub(crate) struct HeadCounts {
    /// Query heads of the widest layer.
    pub(crate) query: u32,
    /// Key and value heads of that layer.
    pub(crate) kv: u32,
    per_layer: Option<Vec<(u32, u32)>>,
}

/// A number that may be there, and be 0 where it means nothing.
pub(crate) fn optional(
    header: &GgufHeader,
    architecture: &str,
    suffix: &str,
) -> Result<Option<u32>, GgufError> {
    let key = format!("{architecture}.{suffix}");
    match header.uniform_integer(&key)? {
        None | Some(0) => Ok(None),
        Some(value) => positive(&key, value).map(Some),
    }
}

/// The heads of the layers: once for all, or one number per layer.
pub(crate) fn heads(
    header: &GgufHeader,
    architecture: &str,
    n_layers: u32,
) -> Result<HeadCounts, GgufError> {
    let query_key = format!("{architecture}.attention.head_count");
    let kv_key = format!("{architecture}.attention.head_count_kv");
    let query = header.per_layer(&query_key, n_layers)?;
    let kv = header.per_layer(&kv_key, n_layers)?;
    let known = Architecture::find(architecture).is_some();
    let Some(query) = query else {
        if known {
            return Err(GgufError::MissingKey { key: query_key });
        }
        // Without attention: one head that no layer uses.
        return Ok(HeadCounts { query: 1, kv: 1, per_layer: None });
    };
    let pair = |layer: usize| {
        let heads = query.at(layer);
        (heads, kv.as_ref().map_or(heads, |kv| kv.at(layer)))
    };
    let pairs: Vec<(u32, u32)> = (0..n_layers as usize).map(pair).collect();
    let lists = query.is_list() || kv.as_ref().is_some_and(PerLayer::is_list);
    let widest = pairs.iter().copied().filter(|(_, kv)| *kv > 0).max();
    let (most, most_kv) = match widest {
        Some(widest) => widest,
        // A single 0 says that the model has no attention at all.
        None if !known => (1, 1),
        None => {
            let first = pairs.first().copied().unwrap_or_default();
            let (key, value) = if first.0 == 0 { (&query_key, first.0) } else { (&kv_key, 0) };
            positive(key, value)?;
            first
        }
    };
    positive(&query_key, most)?;
    for (heads, kv) in &pairs {
        if *kv > 0 && !heads.is_multiple_of(*kv) {
            return Err(GgufError::BadValue {
                key: kv_key,
                value: kv.to_string(),
                expected: "a divisor of the head count",
            });
        }
    }
    let differ = pairs.iter().any(|pair| *pair != (most, most_kv));
    Ok(HeadCounts { query: most, kv: most_kv, per_layer: (lists && differ).then_some(pairs) })
}

/// A number of every layer.
pub(crate) enum PerLayer {
    Same(u32),
    List(Vec<u32>),
}

impl PerLayer {
    fn at(&self, layer: usize) -> u32 {
        match self {
            Self::Same(value) => *value,
            Self::List(values) => values.get(layer).copied().unwrap_or(0),
        }
    }

    fn is_list(&self) -> bool {
        matches!(self, Self::List(_))
    }
}

impl GgufHeader {
    /// The number of a key that files give once, or once per layer.
    pub(crate) fn per_layer(
        &self,
        key: &str,
        n_layers: u32,
    ) -> Result<Option<PerLayer>, GgufError> {
        let Some(Value::Array { items, len, .. }) = self.metadata.get(key) else {
            return Ok(self.integer(key)?.map(PerLayer::Same));
        };
        let wrong = || GgufError::WrongType {
            key: key.to_owned(),
            expected: "an integer or an array of one integer per layer",
            found: crate::ValueType::Array,
        };
        let values: Option<Vec<u32>> = items
            .iter()
            .map(|item| item.as_integer().and_then(|value| u32::try_from(value).ok()))
            .collect();
        let values = values.filter(|values| !values.is_empty()).ok_or_else(wrong)?;
        // Layers that predict further tokens may have entries behind the others.
        if *len < u64::from(n_layers) {
            return Err(GgufError::Conflict {
                left: format!("the length of metadata key `{key}`"),
                left_value: *len,
                right: "the number of layers".to_owned(),
                right_value: n_layers.into(),
            });
        }
        Ok(Some(PerLayer::List(values)))
    }
}

/// Rotated elements of a head, where not all are.
pub(crate) fn rope_dim(
    header: &GgufHeader,
    architecture: &str,
    head_dim: u32,
) -> Result<Option<u32>, GgufError> {
    // What a file of another architecture means by it is not known.
    if Architecture::find(architecture).is_some() {
        check_rope_dim(header, architecture, head_dim)?;
    }
    // Readers of `llama` rotate whole heads; half of a head is what GLM-4 rotates unless stated.
    let stated = optional(header, architecture, "rope.dimension_count")?;
    let native = if architecture == "glm4" { head_dim / 2 } else { head_dim };
    Ok(Some(stated.unwrap_or(native)).filter(|&dim| dim != head_dim && architecture != "llama"))
}

/// Pairs of elements are rotated, at most a whole head.
fn check_rope_dim(header: &GgufHeader, architecture: &str, head_dim: u32) -> Result<(), GgufError> {
    let key = format!("{architecture}.rope.dimension_count");
    match header.uniform_integer(&key)? {
        Some(dim) if dim == 0 || dim % 2 == 1 || dim > head_dim => Err(GgufError::BadValue {
            key,
            value: dim.to_string(),
            expected: "even, above 0 and at most the width of a head",
        }),
        _ => Ok(()),
    }
}

/// The mixture of experts, where the table has one.
pub(crate) fn experts(
    header: &GgufHeader,
    architecture: &str,
    tensors: &[TensorSpec],
    n_layers: u32,
) -> Result<Option<Experts>, GgufError> {
    let stated = optional(header, architecture, "expert_count")?;
    let find = |roles: &[TensorRole]| tensors.iter().find(|t| roles.contains(&t.role));
    let expert = find(&[TensorRole::FfnUpExps, TensorRole::FfnDownExps, TensorRole::FfnGateUpExps]);
    let count = match (stated, expert) {
        (Some(count), Some(_)) => count,
        (None, Some(tensor)) => match tensor.shape.get(2) {
            Some(&stacked) => u32::try_from(stacked).unwrap_or(u32::MAX),
            None => {
                let key = format!("{architecture}.expert_count");
                return Err(GgufError::MissingKey { key });
            }
        },
        (Some(count), None) => {
            return Err(GgufError::Conflict {
                left: format!("metadata key `{architecture}.expert_count`"),
                left_value: count.into(),
                right: "the number of experts in the tensor table".to_owned(),
                right_value: 0,
            });
        }
        (None, None) => return Ok(None),
    };
    if let Some(&stacked) = expert.and_then(|t| t.shape.get(2))
        && stacked != u64::from(count)
    {
        return Err(GgufError::Conflict {
            left: format!("metadata key `{architecture}.expert_count`"),
            left_value: count.into(),
            right: "the number of experts in the tensor table".to_owned(),
            right_value: stacked,
        });
    }
    let used_key = format!("{architecture}.expert_used_count");
    let used = match optional(header, architecture, "expert_used_count")? {
        Some(used) => used,
        None => return Err(GgufError::MissingKey { key: used_key }),
    };
    if used > count {
        let expected = "at most the number of experts";
        return Err(GgufError::BadValue { key: used_key, value: used.to_string(), expected });
    }
    let width = |tensor: Option<&TensorSpec>, dim: usize| {
        let width = tensor.and_then(|t| t.shape.get(dim)).copied().unwrap_or(0);
        u32::try_from(width).unwrap_or(u32::MAX)
    };
    let with_experts: BTreeSet<u32> = tensors
        .iter()
        .filter(|t| t.role.kind() == RoleKind::Experts)
        .filter_map(|t| t.layer)
        .collect();
    let first = with_experts.first().copied().unwrap_or(0);
    let second = with_experts.iter().nth(1).copied().unwrap_or(first + 1);
    let every = second - first;
    let mut experts = Experts {
        count,
        used,
        intermediate_size: width(find(&[TensorRole::FfnDownExps]), 0),
        shared_intermediate_size: width(find(&[TensorRole::FfnDownShexp]), 0),
        leading_dense: first,
        every: if every > 1 { every } else { 0 },
    };
    if every > 1 && first + 1 == every {
        experts.leading_dense = 0;
    }
    for layer in 0..n_layers {
        if experts.has(layer) != with_experts.contains(&layer) {
            return Err(GgufError::MissingTensor {
                name: TensorRole::FfnUpExps.gguf_name(Some(layer)),
            });
        }
    }
    Ok(Some(experts))
}

/// The window of an architecture whose engines apply it.
pub(crate) fn window(
    header: &GgufHeader,
    form: &Architecture,
) -> Result<Option<SlidingWindow>, GgufError> {
    let Window::AllButEvery(native) = form.window else { return Ok(None) };
    let window = stated_window(header, form.name)?;
    Ok(window.or_else(|| {
        let tokens = optional(header, form.name, "attention.sliding_window").ok().flatten()?;
        Some(SlidingWindow { tokens, full_every: native, layers: Vec::new() })
    }))
}

/// The window that a file states together with its pattern.
pub(crate) fn stated_window(
    header: &GgufHeader,
    architecture: &str,
) -> Result<Option<SlidingWindow>, GgufError> {
    let Some(tokens) = optional(header, architecture, "attention.sliding_window")? else {
        return Ok(None);
    };
    let key = format!("{architecture}.attention.sliding_window_pattern");
    match header.metadata.get(&key) {
        None => Ok(None),
        Some(Value::Array { items, .. }) => {
            let layers: Option<Vec<bool>> = items
                .iter()
                .map(|item| match item {
                    Value::Bool(windowed) => Some(*windowed),
                    other => other.as_integer().map(|value| value != 0),
                })
                .collect();
            let layers = layers.filter(|layers| !layers.is_empty()).ok_or_else(|| {
                let expected = "an integer or an array of one truth value per layer";
                GgufError::WrongType { key, expected, found: crate::ValueType::Array }
            })?;
            Ok(Some(SlidingWindow { tokens, full_every: 0, layers }))
        }
        Some(_) => {
            let full_every = header.integer(&key)?.unwrap_or(0);
            Ok(Some(SlidingWindow { tokens, full_every, layers: Vec::new() }))
        }
    }
}

/// Latent attention, where the file states it.
pub(crate) fn latent(
    header: &GgufHeader,
    architecture: &str,
    tensors: &[TensorSpec],
) -> Result<Option<LatentAttention>, GgufError> {
    let Some(kv_rank) = optional(header, architecture, "attention.kv_lora_rank")? else {
        return Ok(None);
    };
    Ok(Some(LatentAttention {
        kv_rank,
        q_rank: optional(header, architecture, "attention.q_lora_rank")?.unwrap_or(0),
        rope_dim: optional(header, architecture, "rope.dimension_count")?.unwrap_or(0),
        absorbed: tensors.iter().any(|t| t.role == TensorRole::AttnKB),
    }))
}

/// State-space layers, where the file states them.
pub(crate) fn recurrent(
    header: &GgufHeader,
    architecture: &str,
) -> Result<Option<Recurrent>, GgufError> {
    let inner_size = optional(header, architecture, "ssm.inner_size")?;
    let head_size = optional(header, architecture, "wkv.head_size")?;
    let hidden_size = optional(header, architecture, "embedding_length")?.unwrap_or(0);
    Ok(match (inner_size, head_size) {
        (Some(inner_size), _) => Some(Recurrent {
            inner_size,
            state_size: optional(header, architecture, "ssm.state_size")?.unwrap_or(1),
            conv_length: optional(header, architecture, "ssm.conv_kernel")?.unwrap_or(1),
        }),
        // RWKV: a matrix of head by head for each channel of a head.
        (None, Some(state_size)) => {
            Some(Recurrent { inner_size: hidden_size, state_size, conv_length: 2 })
        }
        (None, None) => None,
    })
}

/// Widths of the feed-forward layers, and a list of the layers where they differ.
pub(crate) fn fill_layers(
    header: &GgufHeader,
    shape: &mut ModelShape,
    heads: &HeadCounts,
    tensors: &[TensorSpec],
) -> Result<(), GgufError> {
    let architecture = shape.architecture.clone();
    let key = format!("{architecture}.feed_forward_length");
    let widths = header.per_layer(&key, shape.n_layers)?;
    let dense = widths.as_ref().map(|w| (0..shape.n_layers as usize).map(|l| w.at(l)).max());
    shape.intermediate_size = dense.flatten().unwrap_or(0);
    let known = Architecture::find(&architecture).is_some();
    if known && shape.details.experts.is_none() {
        header.get(&key)?;
        positive(&key, shape.intermediate_size)?;
    }
    let kinds = kinds(tensors);
    let layers: Vec<LayerShape> = (0..shape.n_layers)
        .map(|layer| {
            let kind = kinds.get(&layer).copied().unwrap_or(LayerKind::FeedForwardOnly);
            let stated = heads.per_layer.as_ref().and_then(|p| p.get(layer as usize)).copied();
            let (n_heads, n_kv_heads) = match kind {
                LayerKind::Attention => stated.unwrap_or((shape.n_heads, shape.n_kv_heads)),
                _ => (0, 0),
            };
            let width = widths.as_ref().map_or(0, |w| w.at(layer as usize));
            LayerShape { kind, n_heads, n_kv_heads, intermediate_size: width }
        })
        .collect();
    let same = |layer: &LayerShape| {
        layer.kind == LayerKind::Attention
            && (layer.n_heads, layer.n_kv_heads) == (shape.n_heads, shape.n_kv_heads)
            && layer.intermediate_size == shape.intermediate_size
    };
    // In a known architecture that has attention everywhere, a layer without it is damage that
    // the check of the table names.
    let may_differ = !known || architecture == "lfm2";
    if may_differ && !layers.iter().all(same) {
        shape.details.layers = layers;
    } else if heads.per_layer.is_some() || widths.as_ref().is_some_and(PerLayer::is_list) {
        let attends = |l: LayerShape| LayerShape { kind: LayerKind::Attention, ..l };
        if !layers.iter().copied().map(attends).all(|l| same(&l)) {
            shape.details.layers = layers;
        }
    }
    Ok(())
}

/// What each layer is, by its tensors. A layer with attention and a state beside it counts as
/// attention.
fn kinds(tensors: &[TensorSpec]) -> BTreeMap<u32, LayerKind> {
    use TensorRole as R;
    let mut kinds = BTreeMap::new();
    for tensor in tensors {
        let Some(layer) = tensor.layer else { continue };
        let kind = match tensor.role {
            R::AttnQ | R::AttnQkv | R::AttnQA | R::AttnQB | R::AttnKvA => LayerKind::Attention,
            R::ShortconvConv | R::ShortconvIn => LayerKind::ShortConvolution,
            R::SsmIn | R::SsmConv1d | R::SsmOut => LayerKind::Recurrent,
            R::OtherMatrix if tensor.name.contains("time_mix") => LayerKind::Recurrent,
            _ => continue,
        };
        let known = kinds.entry(layer).or_insert(kind);
        *known = (*known).min(kind);
    }
    kinds
}

/// Where the description of a file is approximate, as sentences.
pub(crate) fn notes(
    header: &GgufHeader,
    shape: &ModelShape,
    tensors: &[TensorSpec],
) -> Vec<String> {
    let mut notes = Vec::new();
    let architecture = &shape.architecture;
    let stated = optional(header, architecture, "attention.sliding_window").ok().flatten();
    if let Some(tokens) = stated.filter(|_| shape.details.window.is_none()) {
        notes.push(format!(
            "the window of {tokens} tokens is not applied: its pattern is not known, or no engine \
             of `{architecture}` files applies it"
        ));
    }
    let unknown: BTreeSet<&str> = tensors
        .iter()
        .filter(|t| t.role == TensorRole::OtherMatrix)
        .filter_map(|t| t.name.splitn(3, '.').nth(2))
        .collect();
    if !unknown.is_empty() {
        let names: Vec<_> = unknown.iter().take(4).map(|n| n.trim_end_matches(".weight")).collect();
        let more = if unknown.len() > names.len() { ", …" } else { "" };
        notes.push(format!(
            "matrices of unknown roles are taken as multiplied once per token: {}{more}",
            crate::error::shown(&names.join(", "))
        ));
    }
    if header.metadata.contains_key(&format!("{architecture}.attention.shared_kv_layers")) {
        notes.push("layers that share keys and values are counted as if each had its own".into());
    }
    notes
}
