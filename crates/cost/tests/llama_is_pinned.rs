//! The features of `llama` models are what calibrations were fitted to: they must not move.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use foretoken_cost::{EngineProfile, memory_parts, pass_cost, sampling_cost};
use foretoken_spec::{
    Backend, DeviceInfo, ModelShape, ModelSource, ModelSpec, Pass, TensorRole, TensorType, Workload,
};

fn device() -> DeviceInfo {
    DeviceInfo {
        id: "pinned".into(),
        backend: Backend::Cpu,
        name: "pinned".into(),
        arch: "x86_64".into(),
        isa: ["avx2", "fma", "avx512f", "avx512vnni"].map(str::to_owned).to_vec(),
        physical_cores: 2,
        logical_cores: 4,
        l3_bytes: None,
        memory_bytes: 1 << 34,
        os: "linux".into(),
        hypervisor: None,
        host: None,
    }
}

/// TinyLlama-1.1B, its tensor types mixed like those of a Q4_K_M file; or all F16.
fn tinyllama(float: bool) -> ModelSpec {
    let shape: ModelShape = serde_json::from_str(
        r#"{"architecture":"llama","n_layers":22,"hidden_size":2048,"n_heads":32,"n_kv_heads":4,
        "head_dim":64,"intermediate_size":5632,"vocab_size":32000,"context_length":2048,
        "tied_embeddings":false,"rope_freqs":false,"rope_freq_base":10000.0,"rms_norm_eps":1e-5}"#,
    )
    .unwrap();
    let source = ModelSource::Mini;
    ModelSpec::from_shape("tinyllama", "tinyllama", "Q4_K_M", source, shape, |role, layer| {
        match (role, layer) {
            (role, _) if role.is_vector() => TensorType::F32,
            _ if float => TensorType::F16,
            (TensorRole::AttnV | TensorRole::FfnDown, Some(l)) if l % 3 == 2 => TensorType::Q6_K,
            (TensorRole::Output, _) => TensorType::Q6_K,
            _ => TensorType::Q4_K,
        }
    })
}

#[test]
fn features_of_tinyllama_are_pinned() {
    let engine = EngineProfile::candle(&device());
    let mut text = String::new();
    for float in [false, true] {
        let model = tinyllama(float);
        for (n_tokens, kv_len) in [(512, 0), (1, 600), (32, 1024), (1, 0)] {
            let cost = pass_cost(&model, &engine, Pass { n_tokens, kv_len });
            writeln!(text, "float {float}, n {n_tokens}, kv {kv_len}").unwrap();
            for op in cost.ops.into_iter().chain(sampling_cost(&model)) {
                writeln!(
                    text,
                    "  {} {} calls {} flop {} bytes {} {:?}",
                    op.name(),
                    op.class.key(),
                    op.calls,
                    op.flop,
                    op.bytes,
                    op.features
                )
                .unwrap();
            }
        }
        let parts = memory_parts(&model, &engine, &Workload::new(512, 128, 64).unwrap());
        writeln!(text, "  {parts:?}").unwrap();
    }
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tinyllama.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    let expected = std::fs::read_to_string(golden).unwrap();
    assert!(text == expected, "the features of llama moved:\n{text}");
}

#[test]
fn the_shape_of_a_llama_serialises_as_before() {
    let text = serde_json::to_string(&tinyllama(false).shape).unwrap();
    assert_eq!(
        text,
        r#"{"architecture":"llama","n_layers":22,"hidden_size":2048,"n_heads":32,"n_kv_heads":4,"head_dim":64,"intermediate_size":5632,"vocab_size":32000,"context_length":2048,"tied_embeddings":false,"rope_freqs":false,"rope_freq_base":10000.0,"rms_norm_eps":0.00001}"#
    );
}
