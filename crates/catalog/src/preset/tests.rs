use std::collections::HashSet;

use foretoken_gguf::synth;
use foretoken_spec::Architecture;

use super::*;

mod file_sizes;

#[test]
fn every_preset_has_the_published_number_of_parameters() {
    assert!(presets().len() >= 60, "{}", presets().len());
    for preset in presets() {
        let spec = preset.spec(QuantScheme::F16);
        assert_eq!(spec.n_parameters(), preset.parameters, "{}", preset.id);
    }
}

#[test]
fn names_are_unique_and_shapes_consistent() {
    let mut seen = HashSet::new();
    for preset in presets() {
        let names: HashSet<String> = preset.names().map(str::to_lowercase).collect();
        for name in names {
            assert!(seen.insert(name.clone()), "{name} names two presets");
        }
        let shape = &preset.shape;
        assert_eq!(shape.check(), Ok(()), "{}", preset.id);
        assert!(Architecture::find(&shape.architecture).is_some(), "{}", preset.id);
        assert!(preset.source.starts_with("https://huggingface.co/"), "{}", preset.id);
        let checked = preset.checked.as_deref().unwrap_or("https://github.com/");
        assert!(checked.starts_with("https://github.com/"), "{}: {checked}", preset.id);
        assert_eq!(preset.id, preset.id.to_lowercase());
    }
}

#[test]
fn every_shape_was_compared_with_a_copy_or_says_that_it_was_not() {
    let from_memory: Vec<&str> = presets()
        .iter()
        .filter(|preset| preset.checked.is_none())
        .map(|preset| preset.id.as_str())
        .collect();
    // docs/models.md names them.
    assert_eq!(from_memory, ["deepseek-llm-7b", "granite-3.1-2b"]);
}

#[test]
fn copies_and_tokenizers_are_named_and_exist() {
    let file: PresetFile = toml::from_str(PRESETS).unwrap();
    for key in file.copies.keys() {
        assert!(file.preset.iter().any(|row| row.checked == *key), "nothing names {key}");
    }
    for key in file.tokenizers.keys() {
        let named = file.preset.iter().any(|row| row.tokenizer.as_ref() == Some(key));
        assert!(named, "nothing names {key}");
    }
    let mut unknown: PresetFile = toml::from_str(PRESETS).unwrap();
    unknown.preset[0].checked = "nowhere".into();
    let error = unknown.into_presets().unwrap_err().to_string();
    assert!(error.contains("preset `tinyllama-1.1b`: no copy `nowhere`"), "{error}");
    let mut unknown: PresetFile = toml::from_str(PRESETS).unwrap();
    unknown.preset[0].tokenizer = Some("none".into());
    let error = unknown.into_presets().unwrap_err().to_string();
    assert!(error.contains("preset `tinyllama-1.1b`: no tokenizer `none`"), "{error}");
}

#[test]
fn presets_are_found_by_id_alias_and_hugging_face_name_in_any_case() {
    for name in ["tinyllama-1.1b", " TinyLlama ", "tinyllama/TINYLLAMA-1.1B-chat-v1.0"] {
        assert_eq!(find(name).unwrap().id, "tinyllama-1.1b");
    }
    assert_eq!(find("Llama-2-7b-hf").unwrap().id, "llama-2-7b");
    assert_eq!(find("deepseek-r1-distill-llama-8b").unwrap().id, "llama-3.1-8b");
}

#[test]
fn an_unknown_name_suggests_the_nearest() {
    let error = find("lama-3.2-1b").unwrap_err().to_string();
    assert!(error.contains("unknown model `lama-3.2-1b`"), "{error}");
    assert!(error.contains("`llama-3.2-1b`"), "{error}");
    assert_eq!(nearest(loaded().as_ref().unwrap(), "smolm2-360").first(), Some(&"smollm2-360m"));
    let nothing = find("###").unwrap_err().to_string();
    assert!(nothing.contains("foretoken models"), "{nothing}");
}

#[test]
fn tensor_bytes_are_those_that_llama_bench_prints() {
    // `model_size` of llama-bench's JSON: all tensors, exactly.
    for (id, scheme, model_size) in [
        ("llama-3.2-1b", QuantScheme::Q4_K_M, 799_862_912),
        ("llama-2-7b", QuantScheme::Q4_0, 3_825_065_984),
    ] {
        assert_eq!(find(id).unwrap().spec(scheme).weight_bytes(), model_size, "{id} {scheme}");
    }
}

#[test]
fn the_models_that_were_promised_are_there() {
    for id in [
        "tinyllama-1.1b",
        "gemma-3-1b",
        "llama-3.2-1b",
        "deepseek-r1-distill-qwen-1.5b",
        "llama-3.2-3b",
        "gemma-2-2b",
        "qwen2.5-0.5b",
        "qwen2.5-72b",
        "qwen3-0.6b",
        "qwen3-32b",
        "qwen3-30b-a3b",
        "gemma-3-270m",
        "gemma-3-27b",
        "phi-3.5-mini",
        "phi-4-mini",
        "smollm3-3b",
        "mistral-7b",
        "mixtral-8x7b",
        "glm-4-9b",
        "lfm2-1.2b",
        "gpt-oss-20b",
        "olmo-2-7b",
        "granite-3.3-2b",
        "stablelm-2-1.6b",
    ] {
        assert!(find(id).is_ok_and(|preset| preset.id == id), "{id}");
    }
}

fn file_bytes(spec: &ModelSpec) -> u64 {
    spec.file_bytes.unwrap_or_else(|| synth::file_bytes(spec))
}

#[test]
fn files_of_gpt_oss_differ_by_little() {
    use QuantScheme::{F16, MXFP4_MOE, Q2_K, Q4_0, Q4_K_M, Q6_K, Q8_0};
    // huggingface.co/bartowski/openai_gpt-oss-20b-GGUF
    let sizes = [("gpt-oss-20b", MXFP4_MOE, 12.1), ("gpt-oss-20b", Q6_K, 12.04)];
    check_sizes(1e9, &sizes, file_bytes);
    // huggingface.co/unsloth/gpt-oss-120b-GGUF, in GiB
    let sizes = [
        ("gpt-oss-120b", Q2_K, 58.27),
        ("gpt-oss-120b", Q4_0, 58.32),
        ("gpt-oss-120b", Q4_K_M, 58.46),
        ("gpt-oss-120b", Q8_0, 59.03),
        ("gpt-oss-120b", F16, 60.88),
    ];
    check_sizes(f64::from(1 << 30), &sizes, file_bytes);
}

#[test]
fn files_of_few_bits_have_their_published_sizes() {
    use QuantScheme::{
        IQ1_M, IQ1_S, IQ2_M, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_M, IQ3_S, IQ3_XS, IQ3_XXS, IQ4_XS, Q3_K_M,
        Q3_K_S, Q4_K_S, Q5_K_M,
    };
    let sizes: &[(&str, QuantScheme, f64)] = &[
        // huggingface.co/bartowski/Meta-Llama-3-8B-Instruct-GGUF
        ("llama-3-8b", IQ1_S, 2.01),
        ("llama-3-8b", IQ1_M, 2.16),
        ("llama-3-8b", IQ2_XXS, 2.39),
        ("llama-3-8b", IQ2_XS, 2.60),
        ("llama-3-8b", IQ2_S, 2.75),
        ("llama-3-8b", IQ2_M, 2.94),
        ("llama-3-8b", IQ3_XXS, 3.27),
        ("llama-3-8b", IQ3_XS, 3.51),
        ("llama-3-8b", IQ3_S, 3.68),
        ("llama-3-8b", IQ3_M, 3.78),
        // huggingface.co/bartowski/Meta-Llama-3.1-70B-Instruct-GGUF, also ozeki.chat/p_8590
        ("llama-3.1-70b", Q3_K_S, 30.91),
        ("llama-3.1-70b", IQ3_M, 31.94),
        ("llama-3.1-70b", Q3_K_M, 34.27),
        ("llama-3.1-70b", IQ4_XS, 37.90),
        ("llama-3.1-70b", Q4_K_S, 40.35),
        ("llama-3.1-70b", Q5_K_M, 49.95),
    ];
    check_sizes(1e9, sizes, file_bytes);
    // github.com/ggml-org/llama.cpp/pull/8836, the sizes before that change, in GiB
    let sizes = [("gemma-2-9b", IQ1_S, 2.21), ("gemma-2-9b", IQ1_M, 2.37)];
    check_sizes(f64::from(1 << 30), &sizes, ModelSpec::weight_bytes);
}

/// Checks sizes that were published with three digits.
fn check_sizes(unit: f64, sizes: &[(&str, QuantScheme, f64)], of: impl Fn(&ModelSpec) -> u64) {
    for (id, scheme, published) in sizes {
        let ours = of(&find(id).unwrap().spec(*scheme)) as f64 / unit;
        let error = ours / published - 1.0;
        // Published numbers are rounded to their last digit.
        let rounding = 0.005 / published;
        assert!(error.abs() < 0.01 + rounding, "{id} {scheme}: {ours:.3} for {published}");
    }
}

#[expect(clippy::approx_constant, reason = "a file of 3.14 GB, no circle")]
#[test]
fn files_of_other_architectures_have_their_published_sizes() {
    use QuantScheme::{
        F16, IQ4_XS, Q2_K, Q3_K_L, Q3_K_M, Q3_K_S, Q4_0, Q4_K_M, Q4_K_S, Q5_K_M, Q6_K, Q8_0,
    };
    // "Size of remote file", in 10⁹ bytes, as Hugging Face shows it.
    let sizes: &[(&str, QuantScheme, f64)] = &[
        // huggingface.co/bartowski/Phi-3.5-mini-instruct-GGUF
        ("phi-3.5-mini", Q2_K, 1.42),
        ("phi-3.5-mini", Q3_K_M, 1.96),
        ("phi-3.5-mini", IQ4_XS, 2.06),
        ("phi-3.5-mini", Q4_K_S, 2.19),
        ("phi-3.5-mini", Q4_K_M, 2.39),
        ("phi-3.5-mini", Q5_K_M, 2.82),
        ("phi-3.5-mini", Q6_K, 3.14),
        // huggingface.co/bartowski/gemma-2-2b-it-GGUF, lmstudio-community/gemma-2-2b-it-GGUF
        ("gemma-2-2b", Q3_K_L, 1.55),
        ("gemma-2-2b", Q4_K_S, 1.64),
        ("gemma-2-2b", Q4_K_M, 1.71),
        ("gemma-2-2b", Q6_K, 2.15),
        // huggingface.co/bartowski/gemma-2-27b-it-GGUF
        ("gemma-2-27b", Q2_K, 10.4),
        ("gemma-2-27b", Q3_K_S, 12.2),
        ("gemma-2-27b", Q3_K_M, 13.4),
        ("gemma-2-27b", Q4_K_M, 16.6),
        ("gemma-2-27b", Q5_K_M, 19.4),
        ("gemma-2-27b", Q6_K, 22.3),
        // huggingface.co/bartowski/DeepSeek-R1-Distill-Qwen-1.5B-GGUF and QuantFactory's
        ("deepseek-r1-distill-qwen-1.5b", Q2_K, 0.753),
        ("deepseek-r1-distill-qwen-1.5b", Q3_K_S, 0.861),
        ("deepseek-r1-distill-qwen-1.5b", Q4_K_S, 1.07),
        ("deepseek-r1-distill-qwen-1.5b", Q4_K_M, 1.12),
        ("deepseek-r1-distill-qwen-1.5b", Q5_K_M, 1.29),
        ("deepseek-r1-distill-qwen-1.5b", Q6_K, 1.46),
        // huggingface.co/bartowski/DeepSeek-R1-Distill-Qwen-14B-GGUF
        ("deepseek-r1-distill-qwen-14b", Q5_K_M, 10.5),
        // huggingface.co/codebasic/Qwen3-8B-GGUF/tree/main
        ("qwen3-8b", Q2_K, 3.28),
        ("qwen3-8b", Q4_0, 4.77),
        ("qwen3-8b", Q6_K, 6.73),
        ("qwen3-8b", Q8_0, 8.71),
        ("qwen3-8b", F16, 16.4),
    ];
    check_sizes(1e9, sizes, file_bytes);
}

#[test]
fn tensor_bytes_are_those_of_published_benchmarks() {
    use QuantScheme::{
        F16, IQ4_NL, IQ4_XS, MXFP4_MOE, Q2_K, Q2_K_S, Q3_K_S, Q4_0, Q4_K_M, Q4_K_S, Q5_0, Q5_K_S,
        Q6_K, Q8_0,
    };
    // The `size` column of llama-bench: bytes of all tensors, in GiB.
    let sizes: &[(&str, QuantScheme, f64)] = &[
        // github.com/ikawrakow/ik_llama.cpp/discussions/164
        ("llama-3.1-8b", Q2_K_S, 2.78),
        ("llama-3.1-8b", Q3_K_S, 3.41),
        ("llama-3.1-8b", IQ4_XS, 4.13),
        ("llama-3.1-8b", IQ4_NL, 4.35),
        ("llama-3.1-8b", Q4_0, 4.35),
        ("llama-3.1-8b", Q4_K_S, 4.36),
        ("llama-3.1-8b", Q5_0, 5.22),
        ("llama-3.1-8b", Q5_K_S, 5.21),
        ("llama-3.1-8b", Q6_K, 6.14),
        ("llama-3.1-8b", Q8_0, 7.95),
        // github.com/XiongjieDai/GPU-Benchmarks-on-LLM-Inference
        ("llama-3-8b", Q4_K_M, 4.58),
        ("llama-3-8b", F16, 14.96),
        ("llama-3.1-70b", Q4_K_M, 39.59),
        // github.com/kyuz0/amd-strix-halo-toolboxes, benchmark/results
        ("gpt-oss-20b", MXFP4_MOE, 11.27),
        ("gpt-oss-120b", MXFP4_MOE, 59.02),
        // github.com/vhpctnyd5x-lab/localai-16gb
        ("qwen3-30b-a3b", Q2_K, 10.48),
        // github.com/ggml-org/llama.cpp, benches/dgx-spark/dgx-spark.md
        ("qwen3-coder-30b-a3b", Q8_0, 30.25),
        // github.com/lhl/strix-halo-testing, llm-bench/Qwen3-32B-Q8_0
        ("qwen3-32b", Q8_0, 32.42),
        // github.com/ikawrakow/ik_llama.cpp/issues/308, the rows of llama.cpp
        ("qwen2.5-3b", Q4_K_M, 1.79),
        ("qwen2.5-3b", Q6_K, 2.36),
        ("qwen2.5-3b", Q8_0, 3.05),
        // github.com/geerlingguy/ai-benchmarks/issues/23
        ("qwen2.5-14b", Q4_K_M, 8.37),
        // github.com/mozilla-ai/llamafile, pull/655 and issues/569
        ("mistral-nemo-12b", F16, 22.81),
        ("mixtral-8x22b", Q6_K, 107.61),
        // github.com/ggml-org/llama.cpp/pull/16634
        ("mistral-7b", Q4_0, 3.83),
        ("phi-2", Q4_0, 1.49),
    ];
    check_sizes(f64::from(1 << 30), sizes, ModelSpec::weight_bytes);
}
