//! Sizes of published GGUF files, to the byte, against those of the presets.
//!
//! Files are of Hugging Face; their sizes were read where other public code pins them.

use QuantScheme::{MXFP4_MOE, Q2_K, Q3_K_M, Q4_K_M, Q5_K_M, Q6_K, Q8_0};

use super::*;

/// (preset, scheme, bytes of the file, repository or name of the file)
type Published = (&'static str, QuantScheme, u64, &'static str);

/// Each fixes the bytes of one tokenizer of `presets.toml`, so that it is met exactly.
const FIXES: [Published; 27] = [
    ("tinyllama-1.1b", Q4_K_M, 668_788_096, "TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF"),
    ("llama-2-7b", Q4_K_M, 4_081_004_224, "TheBloke/Llama-2-7B-Chat-GGUF"),
    ("codellama-7b", Q4_K_M, 4_081_095_360, "TheBloke/CodeLlama-7B-Instruct-GGUF"),
    ("llama-3.2-1b", Q4_K_M, 807_694_464, "bartowski/Llama-3.2-1B-Instruct-GGUF"),
    ("mistral-7b", Q4_K_M, 4_368_438_944, "TheBloke/Mistral-7B-Instruct-v0.1-GGUF"),
    ("mistral-7b-v0.3", Q4_K_M, 4_372_812_000, "bartowski/Mistral-7B-Instruct-v0.3-GGUF"),
    ("mistral-nemo-12b", Q4_K_M, 7_477_208_192, "bartowski/Mistral-Nemo-Instruct-2407-GGUF"),
    ("mistral-small-24b", Q4_K_M, 14_333_908_672, "Mistral-Small-24B-Instruct-2501-Q4_K_M.gguf"),
    ("smollm2-135m", Q4_K_M, 105_454_432, "bartowski/SmolLM2-135M-Instruct-GGUF"),
    ("smollm3-3b", Q4_K_M, 1_915_305_312, "ggml-org/SmolLM3-3B-GGUF"),
    ("qwen2-7b", Q4_K_M, 4_683_071_264, "Qwen/Qwen2-7B-Instruct-GGUF"),
    ("qwen2.5-7b", Q4_K_M, 4_683_074_240, "bartowski/Qwen2.5-7B-Instruct-GGUF"),
    (
        "deepseek-r1-distill-qwen-7b",
        Q4_K_M,
        4_683_073_504,
        "DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf",
    ),
    ("qwen3-4b", Q4_K_M, 2_497_281_312, "unsloth/Qwen3-4B-GGUF"),
    ("gemma-2-2b", Q4_K_M, 1_708_582_752, "bartowski/gemma-2-2b-it-GGUF"),
    ("gemma-3-4b", Q4_K_M, 2_489_758_112, "bartowski/google_gemma-3-4b-it-GGUF"),
    ("phi-2", Q4_K_M, 1_789_239_136, "TheBloke/phi-2-GGUF"),
    ("phi-3-mini-4k", Q4_K_M, 2_393_231_360, "bartowski/Phi-3-mini-4k-instruct-GGUF"),
    ("phi-3.5-mini", Q4_K_M, 2_393_232_672, "bartowski/Phi-3.5-mini-instruct-GGUF"),
    ("phi-4-mini", Q4_K_M, 2_491_874_688, "bartowski/microsoft_Phi-4-mini-instruct-GGUF"),
    ("phi-4", Q4_K_M, 9_053_114_816, "bartowski/phi-4-GGUF"),
    ("glm-4-9b", Q4_K_M, 6_166_574_944, "unsloth/GLM-4-9B-0414-GGUF"),
    ("lfm2-1.2b", Q4_K_M, 730_893_248, "LiquidAI/LFM2-1.2B-GGUF"),
    ("gpt-oss-20b", Q4_K_M, 11_624_759_488, "unsloth/gpt-oss-20b-GGUF"),
    ("olmo-2-1b", Q4_K_M, 935_515_296, "allenai/OLMo-2-0425-1B-Instruct-GGUF"),
    ("granite-3.3-2b", Q4_K_M, 1_545_303_328, "ibm-granite/granite-3.3-2b-instruct-GGUF"),
    ("stablelm-2-1.6b", Q4_K_M, 1_031_442_496, "mradermacher/stablelm-2-1_6b-GGUF"),
];

/// Nothing was taken from these.
const CHECKS: [Published; 43] = [
    ("llama-2-7b", Q5_K_M, 4_783_156_928, "TheBloke/Llama-2-7B-Chat-GGUF"),
    ("llama-2-7b", Q8_0, 7_161_089_728, "TheBloke/Llama-2-7B-Chat-GGUF"),
    ("codellama-7b", Q5_K_M, 4_783_256_256, "TheBloke/CodeLlama-7B-Instruct-GGUF"),
    ("mistral-7b", Q5_K_M, 5_131_409_056, "TheBloke/Mistral-7B-Instruct-v0.1-GGUF"),
    ("llama-3.2-3b", Q4_K_M, 2_019_377_696, "bartowski/Llama-3.2-3B-Instruct-GGUF"),
    ("llama-3-8b", Q4_K_M, 4_920_734_272, "bartowski/Meta-Llama-3-8B-Instruct-GGUF"),
    ("llama-3.1-8b", Q4_K_M, 4_920_739_232, "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"),
    ("llama-3.1-70b", Q4_K_M, 42_520_398_816, "bartowski/Llama-3.3-70B-Instruct-GGUF"),
    ("mistral-nemo-12b", Q3_K_M, 6_083_093_632, "bartowski/Mistral-Nemo-Instruct-2407-GGUF"),
    ("mistral-nemo-12b", Q5_K_M, 8_727_635_072, "bartowski/Mistral-Nemo-Instruct-2407-GGUF"),
    ("smollm2-360m", Q4_K_M, 270_590_880, "bartowski/SmolLM2-360M-Instruct-GGUF"),
    ("smollm2-360m", Q8_0, 386_404_992, "smollm2-360m-instruct, Q8_0"),
    ("smollm2-1.7b", Q4_K_M, 1_055_609_536, "SmolLM2-1.7B-Instruct.Q4_K_M.gguf"),
    ("smollm3-3b", Q4_K_M, 1_915_306_528, "unsloth/SmolLM3-3B-GGUF"),
    ("qwen2.5-14b", Q4_K_M, 8_988_110_976, "bartowski/Qwen2.5-14B-Instruct-GGUF"),
    (
        "deepseek-r1-distill-qwen-1.5b",
        Q4_K_M,
        1_117_320_800,
        "DeepSeek-R1-Distill-Qwen-1.5B-Q4_K_M.gguf",
    ),
    (
        "deepseek-r1-distill-qwen-14b",
        Q4_K_M,
        8_988_110_240,
        "DeepSeek-R1-Distill-Qwen-14B-Q4_K_M.gguf",
    ),
    ("qwen3-0.6b", Q8_0, 639_446_688, "Qwen/Qwen3-0.6B-GGUF"),
    ("qwen3-1.7b", Q8_0, 1_834_426_016, "Qwen/Qwen3-1.7B-GGUF"),
    ("qwen3-4b", Q4_K_M, 2_497_280_256, "Qwen/Qwen3-4B-GGUF"),
    ("qwen3-8b", Q4_K_M, 5_027_783_488, "Qwen/Qwen3-8B-GGUF"),
    ("qwen3-8b", Q4_K_M, 5_027_784_512, "unsloth/Qwen3-8B-GGUF"),
    ("qwen3-14b", Q4_K_M, 9_001_752_960, "Qwen/Qwen3-14B-GGUF"),
    ("qwen3-14b", Q4_K_M, 9_001_753_984, "unsloth/Qwen3-14B-GGUF"),
    ("qwen3-32b", Q4_K_M, 19_762_149_024, "Qwen/Qwen3-32B-GGUF"),
    ("qwen3-30b-a3b", Q4_K_M, 18_556_685_824, "Qwen/Qwen3-30B-A3B-GGUF"),
    ("qwen3-coder-30b-a3b", Q4_K_M, 18_556_689_568, "Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf"),
    ("gemma-2-9b", Q4_K_M, 5_761_057_728, "bartowski/gemma-2-9b-it-GGUF"),
    ("gemma-2-9b", Q2_K, 3_805_397_952, "gemma-2-9b-it, Q2_K"),
    ("gemma-3-270m", Q8_0, 291_545_600, "ggml-org/gemma-3-270m-it-GGUF"),
    ("gemma-3-1b", Q4_K_M, 806_058_496, "bartowski/google_gemma-3-1b-it-GGUF"),
    ("gemma-3-12b", Q4_K_M, 7_300_575_264, "bartowski/google_gemma-3-12b-it-GGUF"),
    ("phi-3.5-mini", Q5_K_M, 2_815_276_320, "bartowski/Phi-3.5-mini-instruct-GGUF"),
    ("phi-4", Q3_K_M, 7_363_269_056, "bartowski/phi-4-GGUF"),
    ("phi-4-mini", Q8_0, 4_084_611_456, "bartowski/microsoft_Phi-4-mini-instruct-GGUF"),
    ("glm-4-32b", Q4_K_M, 19_680_022_112, "GLM-4-32B-0414-Q4_K_M.gguf"),
    ("lfm2-350m", Q4_K_M, 229_309_376, "LiquidAI/LFM2-350M-GGUF"),
    ("lfm2-700m", Q4_K_M, 468_624_320, "LiquidAI/LFM2-700M-GGUF"),
    ("lfm2-1.2b", Q6_K, 962_841_536, "LiquidAI/LFM2-1.2B-GGUF"),
    ("olmo-2-7b", Q4_K_M, 4_472_020_256, "allenai/OLMo-2-1124-7B-Instruct-GGUF"),
    ("granite-3.3-8b", Q4_K_M, 4_942_873_344, "ibm-granite/granite-3.3-8b-instruct-GGUF"),
    ("gpt-oss-20b", MXFP4_MOE, 12_109_566_624, "ggml-org/gpt-oss-20b-GGUF"),
    ("gpt-oss-120b", MXFP4_MOE, 63_387_346_208, "ggml-org/gpt-oss-120b-GGUF"),
];

/// Most bytes by which publishers differ: chat templates, importance matrices, names.
const PUBLISHERS_DIFFER: u64 = 5_000;

/// Ours less theirs.
fn difference((id, scheme, published, _): &Published) -> i64 {
    let ours = find(id).unwrap().spec(*scheme).file_bytes.unwrap();
    ours as i64 - *published as i64
}

#[test]
#[expect(clippy::print_stdout, reason = "with --nocapture the differences are seen")]
fn files_have_their_published_sizes() {
    for published in &FIXES {
        assert_eq!(difference(published), 0, "{published:?}");
    }
    let differences = CHECKS.iter().map(|published| {
        let bytes = difference(published);
        assert!(bytes.unsigned_abs() <= PUBLISHERS_DIFFER, "{published:?}: {bytes:+}");
        bytes.unsigned_abs()
    });
    let mut differences: Vec<u64> = differences.collect();
    differences.sort_unstable();
    println!(
        "{} files fix the tokenizers, {} others differ by {} bytes at the median and {} at most",
        FIXES.len(),
        CHECKS.len(),
        differences[CHECKS.len() / 2],
        differences[CHECKS.len() - 1],
    );
}

#[test]
fn a_publisher_whose_metadata_is_larger_is_met_all_the_same() {
    // unsloth's files of Gemma 3 have 136 and 203 kB more than those of bartowski and ggml-org.
    let published = [
        ("gemma-3-4b", Q4_K_M, 2_489_894_016, "unsloth/gemma-3-4b-it-GGUF"),
        ("gemma-3-12b", Q4_K_M, 7_300_778_336, "unsloth/gemma-3-12b-it-GGUF"),
    ];
    for published in &published {
        let bytes = difference(published);
        assert!((-210_000..-130_000).contains(&bytes), "{published:?}: {bytes:+}");
    }
}

#[test]
fn tokenizers_are_as_large_as_the_vocabulary_files_of_llama_cpp() {
    // Bytes of the tokenizer's keys in models/ggml-vocab-*.gguf of github.com/ggml-org/llama.cpp,
    // the way in which two tokenizers are known that no published file was found for.
    for (vocabulary, id) in [
        (723_363, "llama-2-7b"),
        (7_817_598, "llama-3.2-1b"),
        (725_423, "phi-3-mini-4k"),
        (5_928_217, "qwen2-7b"),
        (5_928_217, "qwen3-8b"),
        (3_969_622, "deepseek-llm-7b"),
    ] {
        let ours = find(id).unwrap().tokenizer_bytes.unwrap();
        assert!(ours.abs_diff(vocabulary) <= 6_100, "{id}: {ours}, not {vocabulary}");
    }
}

#[test]
fn what_is_not_known_is_not_added() {
    let short: Vec<&str> = presets()
        .iter()
        .filter(|preset| preset.tokenizer_bytes.is_none())
        .map(|preset| preset.id.as_str())
        .collect();
    // docs/models.md names them.
    assert_eq!(short, ["openllama-3b", "yi-6b", "yi-34b"]);
    for id in short {
        assert_eq!(find(id).unwrap().spec(Q4_K_M).file_bytes, None, "{id}");
    }
}
