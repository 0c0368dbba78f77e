//! What a load costs an engine: bytes copied, weights dequantized, tables computed, tiles packed.
//!
//! `load = a · tensors + b · stored bytes + c · dense weights + d · table bytes`, all of them in one
//! thread; a cold load adds `file bytes / storage bandwidth`. candle repacks a matrix into tiles at
//! its first use, so the first pass takes `Σ e(type) · repacked bytes` more than a later one.
//! `docs/energy.md` has what is known of the coefficients.

use foretoken_spec::{ModelSpec, RoleKind, TensorRole, TensorSpec, TensorType};

use crate::{Engine, EngineProfile, readers};

/// What the time of a load grows with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoadFeature {
    /// Tensors of the file.
    Tensors,
    /// Bytes of all tensors as stored: each is read into memory of its own.
    StoredBytes,
    /// Weights that become F32: the embedding, and matrices in floating point.
    DenseWeights,
    /// Bytes of the tables of rotary embeddings, computed at each load.
    TableBytes,
    /// Bytes of the copies that the first pass packs into tiles, of this type.
    RepackedBytes(TensorType),
}

impl LoadFeature {
    /// The name in a calibration.
    pub fn name(self) -> String {
        match self {
            Self::Tensors => "tensors".to_owned(),
            Self::StoredBytes => "stored_bytes".to_owned(),
            Self::DenseWeights => "dense_weights".to_owned(),
            Self::TableBytes => "table_bytes".to_owned(),
            Self::RepackedBytes(of) => format!("repacked_{}_bytes", of.name().to_lowercase()),
        }
    }

    /// Unit of its coefficient.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Tensors => "s/tensor",
            Self::DenseWeights => "s/weight",
            Self::StoredBytes | Self::TableBytes | Self::RepackedBytes(_) => "s/byte",
        }
    }
}

/// Features of one load, from open to usable; of a file in memory.
pub fn load_cost(model: &ModelSpec, engine: &EngineProfile) -> Vec<(LoadFeature, f64)> {
    let reader =
        readers::of_architecture(&model.shape.architecture).unwrap_or(&readers::READERS[0]);
    let is_candle = engine.engine == Engine::Candle;
    let dense: u64 =
        model.tensors.iter().filter(|t| is_made_dense(t)).map(TensorSpec::n_elements).sum();
    let tables = reader.rope_table_bytes(&model.shape);
    vec![
        (LoadFeature::Tensors, model.tensors.len() as f64),
        (LoadFeature::StoredBytes, model.weight_bytes() as f64),
        (LoadFeature::DenseWeights, if is_candle { dense as f64 } else { 0.0 }),
        (LoadFeature::TableBytes, if is_candle { tables as f64 } else { 0.0 }),
    ]
}

/// Features of what the first pass after a load takes beyond a later one, one for each tensor type
/// that the engine repacks; empty where it repacks nothing.
pub fn first_pass_cost(model: &ModelSpec, engine: &EngineProfile) -> Vec<(LoadFeature, f64)> {
    let mut features: Vec<(LoadFeature, f64)> = Vec::new();
    if engine.engine != Engine::Candle {
        return features;
    }
    for tensor in &model.tensors {
        let bytes = repacked_bytes(tensor, engine);
        if bytes > 0 {
            let feature = LoadFeature::RepackedBytes(tensor.tensor_type);
            match features.iter_mut().find(|(known, _)| *known == feature) {
                Some((_, sum)) => *sum += bytes as f64,
                None => features.push((feature, bytes as f64)),
            }
        }
    }
    features.sort_by_key(|(feature, _)| *feature);
    features
}

/// Whether candle turns a tensor into F32 when it loads it.
fn is_made_dense(tensor: &TensorSpec) -> bool {
    tensor.role == TensorRole::TokenEmbedding || tensor.tensor_type.is_float()
}

/// Bytes of the second copy of a matrix, in tiles.
fn repacked_bytes(tensor: &TensorSpec, engine: &EngineProfile) -> u64 {
    let unused = matches!(tensor.role.kind(), RoleKind::Unknown | RoleKind::Factors);
    let is_gathered = tensor.role == TensorRole::TokenEmbedding;
    if unused || is_gathered || tensor.role.is_kept_f32() || tensor.tensor_type.is_float() {
        return 0;
    }
    let (k, n) = match tensor.shape[..] {
        [k, n] => (k, n),
        [k, n, stacked] => (k, n.saturating_mul(stacked)),
        _ => return 0,
    };
    let one_row = tensor.role == TensorRole::Output;
    let resident = engine.resident_bytes(tensor.tensor_type, k, n, one_row);
    resident.saturating_sub(tensor.bytes())
}

#[cfg(test)]
mod tests {
    use foretoken_spec::{Backend, DeviceInfo, ModelShape, ModelSource, ShapeDetails};

    use super::*;

    fn device(isa: &[&str]) -> DeviceInfo {
        DeviceInfo {
            id: "d".into(),
            backend: Backend::Cpu,
            name: "d".into(),
            arch: "x86_64".into(),
            isa: isa.iter().map(|&flag| flag.to_owned()).collect(),
            physical_cores: 2,
            logical_cores: 2,
            l3_bytes: None,
            memory_bytes: 1 << 34,
            os: "linux".into(),
            hypervisor: None,
            host: None,
        }
    }

    /// A llama of one layer, 512 wide, with an LM head of its own.
    fn model(of: TensorType) -> ModelSpec {
        let shape = ModelShape {
            architecture: "llama".into(),
            n_layers: 1,
            hidden_size: 512,
            n_heads: 8,
            n_kv_heads: 8,
            head_dim: 64,
            intermediate_size: 1024,
            vocab_size: 1000,
            context_length: 4096,
            tied_embeddings: false,
            rope_freqs: false,
            rope_freq_base: 10_000.0,
            rms_norm_eps: 1e-5,
            details: ShapeDetails::default(),
        };
        ModelSpec::from_shape("m", "m", "q", ModelSource::Mini, shape, |role, _| {
            if role.is_vector() { TensorType::F32 } else { of }
        })
    }

    #[test]
    fn the_embedding_is_made_dense_and_all_is_read() {
        let engine = EngineProfile::candle(&device(&["avx2", "fma", "avx512f", "avx512vnni"]));
        let model = model(TensorType::Q8_0);
        let features = load_cost(&model, &engine);
        let of = |wanted| features.iter().find(|(f, _)| *f == wanted).map(|(_, value)| *value);
        assert_eq!(of(LoadFeature::Tensors), Some(model.tensors.len() as f64));
        assert_eq!(of(LoadFeature::StoredBytes), Some(model.weight_bytes() as f64));
        // 1000 rows of 512, and the 3 norms of 512.
        assert_eq!(of(LoadFeature::DenseWeights), Some((1000 * 512 + 3 * 512) as f64));
        // llama's tables: cosine and sine of 4096 positions × 32 frequencies in F32, each layer.
        assert!(of(LoadFeature::TableBytes).unwrap() > 0.0);
    }

    #[test]
    fn only_what_the_kernels_want_in_tiles_is_repacked() {
        let vnni = EngineProfile::candle(&device(&["avx2", "fma", "avx512f", "avx512vnni"]));
        let plain = EngineProfile::candle(&device(&["avx2", "fma"]));
        let names = |model: &ModelSpec, engine: &EngineProfile| -> Vec<String> {
            first_pass_cost(model, engine).iter().map(|(f, _)| f.name()).collect()
        };
        assert_eq!(names(&model(TensorType::Q8_0), &vnni), ["repacked_q8_0_bytes"]);
        assert_eq!(names(&model(TensorType::Q8_0), &plain), [""; 0]);
        assert_eq!(names(&model(TensorType::Q4_K), &plain), ["repacked_q4_k_bytes"]);
        assert_eq!(names(&model(TensorType::F16), &vnni), [""; 0]);
    }
}
