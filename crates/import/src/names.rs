//! Names by which rows are told apart: quantizations, model types, backends, models.

use foretoken_spec::QuantScheme;

/// A quantization by our name (`q4_k_m` → `Q4_K_M`); one that is no scheme of llama.cpp keeps the
/// source's name, in lower case.
pub fn quant_name(text: &str) -> String {
    let text = text.trim();
    match text.parse::<QuantScheme>() {
        Ok(scheme) => scheme.name().to_owned(),
        Err(_) => text.to_lowercase(),
    }
}

/// `model_type` of llama-bench, taken apart (`llama-model.cpp`, `llama_model::desc`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelType {
    /// Architecture.
    pub arch: String,
    /// Label of the size (`7B`, `30B.A3B`, `17Bx16E (Scout)`), where the engine knows it.
    pub size: Option<String>,
    /// Quantization by our name.
    pub quant: String,
}

impl ModelType {
    /// Takes `<arch> <size> [mostly] <file type>` apart; `None` where it is not of this form.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.replace("(guessed)", " ");
        let (arch, rest) = text.trim().split_once(char::is_whitespace)?;
        let words: Vec<&str> =
            rest.split_whitespace().filter(|word| !["mostly", "all"].contains(word)).collect();
        // The file type begins at the first word that is one; before it stands the size.
        let at = words.iter().position(|word| is_file_type(word))?;
        let size = words[..at].join(" ");
        let quant = file_type_name(words[at], &words[at + 1..]);
        let size = (!size.is_empty() && size != "?B").then_some(size);
        Some(Self { arch: arch.to_owned(), size, quant })
    }
}

/// `Q4_K`, `IQ2_XXS`, `F16`, `BF16`, `MXFP4`, `TQ1_0`, `IQ4_K_R4`, ….
fn is_file_type(word: &str) -> bool {
    let word = word.to_uppercase();
    if ["F32", "F16", "BF16", "F64", "MXFP4", "NVFP4"].contains(&word.as_str()) {
        return true;
    }
    let digits = ["IQ", "TQ", "Q"].iter().find_map(|prefix| word.strip_prefix(prefix));
    digits.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('_'))
}

/// `Q4_K` and `- Medium` are `Q4_K_M` (`llama-model-loader.cpp`, `llama_model_ftype_name`).
fn file_type_name(word: &str, rest: &[&str]) -> String {
    let suffix = match rest {
        ["-", size, ..] => match size.to_lowercase().as_str() {
            "small" => "_S",
            "medium" => "_M",
            "large" => "_L",
            _ => "",
        },
        ["MoE", ..] => "_MOE",
        // `IQ3_S mix - 3.66 bpw`
        ["mix", ..] if word.eq_ignore_ascii_case("IQ3_S") => return "IQ3_M".to_owned(),
        _ => "",
    };
    // llama.cpp's `Q2_K - Medium` is the scheme that its quantizer calls `Q2_K`.
    let suffix = if word.eq_ignore_ascii_case("Q2_K") && suffix == "_M" { "" } else { suffix };
    quant_name(&format!("{word}{suffix}"))
}

/// Backends by our names; what ggml calls them first.
const BACKENDS: &[(&str, &str)] = &[
    ("cuda", "cuda"),
    ("rocm", "rocm"),
    ("hip", "rocm"),
    ("metal", "metal"),
    ("mtl", "metal"),
    ("vulkan", "vulkan"),
    ("kompute", "vulkan"),
    ("sycl", "sycl"),
    ("opencl", "opencl"),
    ("gpuopencl", "opencl"),
    ("clblast", "opencl"),
    ("musa", "musa"),
    ("cann", "npu"),
    ("htp", "npu"),
    ("hexagon", "npu"),
    ("openvino", "openvino"),
    ("webgpu", "webgpu"),
    ("rpc", "rpc"),
];

/// Names that add arithmetic to the processor's, and no device.
const PROCESSOR: &[&str] =
    &["cpu", "blas", "accelerate", "openblas", "mkl", "zendnn", "zdnn", "amx", "kleidiai", "none"];

/// One backend of ggml by our name: `CUDA0` → `cuda`, `BLAS` → `cpu`.
pub fn backend_name(text: &str) -> Option<&'static str> {
    let bare = text.trim().trim_end_matches(|c: char| c.is_ascii_digit()).to_lowercase();
    if PROCESSOR.contains(&bare.as_str()) {
        return Some("cpu");
    }
    BACKENDS.iter().find(|(ggml, _)| *ggml == bare).map(|(_, ours)| *ours)
}

/// A backend as a person names it (`CUDA`, `hip`, `npu`), by our name.
pub fn known_backend(text: &str) -> Option<&'static str> {
    let told = text.trim().to_lowercase();
    let ours = BACKENDS.iter().map(|(_, ours)| *ours).find(|ours| *ours == told);
    ours.or_else(|| backend_name(&told))
}

/// What a list of backends (`Metal,BLAS`, `CUDA`) makes of a run.
///
/// # Errors
/// Unknown names, and several devices' backends at once: the list does not tell which was used.
pub fn backend_of_list(list: &str) -> Result<&'static str, String> {
    let mut found: Vec<&'static str> = Vec::new();
    for part in list.split([',', '/']).filter(|part| !part.trim().is_empty()) {
        let backend = backend_name(part)
            .ok_or_else(|| format!("unknown backend `{}`", part.trim().escape_debug()))?;
        // A build with RPC lists it even where no server is used.
        if backend != "cpu" && backend != "rpc" && !found.contains(&backend) {
            found.push(backend);
        }
    }
    match found[..] {
        [] => Ok("cpu"),
        [one] => Ok(one),
        _ => Err(format!("built with {}, and nothing tells which was used", found.join(" and "))),
    }
}

/// Quantization that a file's name tells, by our name.
pub(crate) fn quant_of_file(path: &str) -> Option<String> {
    let (_, at, name) = split_file_name(path);
    let rest = name.get(at? + 1..)?;
    let word = rest.split(['.', '-']).next()?;
    let word = match word {
        "fp16" => "f16",
        "fp32" => "f32",
        word => word,
    };
    let front = &name[..at?];
    let is_dynamic = front.ends_with("-ud") || front.ends_with("_ud") || front.ends_with(".ud");
    Some(if is_dynamic { format!("ud_{word}") } else { quant_name(word) })
}

/// Model id of a file: its name without folder, shard, quantization and extension, in lower case.
pub fn model_of_file(path: &str) -> Option<String> {
    let (stem, at, _) = split_file_name(path);
    let mut name = stem;
    if at.is_some() {
        for mark in ["-ud", "_ud", ".ud", ".i1", "-i1"] {
            name = name.strip_suffix(mark).map(str::to_owned).unwrap_or(name);
        }
    }
    let name = name.trim_matches(['.', '-', '_', ' ']);
    (!name.is_empty()).then(|| name.to_owned())
}

/// What stands before the quantization, where that begins (at its separator), and the whole name
/// in lower case without folder, shard and extension.
fn split_file_name(path: &str) -> (String, Option<usize>, String) {
    let file = path.rsplit(['/', '\\']).next().unwrap_or(path).to_lowercase();
    let mut name = file.strip_suffix(".gguf").unwrap_or(&file).to_owned();
    if let Some(at) = shard(&name) {
        name.truncate(at);
    }
    // `.q4_k_m`, `-q4_k_m`, `-ud-q4_k_xl`, `_q8_0`; what follows the quantization goes with it.
    let starts: Vec<usize> = name.match_indices(['.', '-', '_']).map(|(at, _)| at).collect();
    let is_quant = |at: usize| {
        let rest = name[at + 1..].split(['.', '-']).next().unwrap_or_default();
        is_file_type(rest) || ["fp16", "fp32"].contains(&rest)
    };
    let at = starts.into_iter().find(|at| is_quant(*at));
    let stem = at.map_or_else(|| name.clone(), |at| name[..at].to_owned());
    (stem, at, name)
}

/// Where `-00001-of-00003` begins.
fn shard(name: &str) -> Option<usize> {
    let (front, last) = name.rsplit_once("-of-")?;
    let (stem, first) = front.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(first) && is_number(last)).then_some(stem.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_get_our_names_and_others_keep_theirs() {
        for (text, ours) in [
            ("q4_k_m", "Q4_K_M"),
            (" IQ4_xs ", "IQ4_XS"),
            ("bf16", "BF16"),
            ("mxfp4", "MXFP4_MOE"),
            ("UD_Q4_K_XL", "ud_q4_k_xl"),
            ("w8a8", "w8a8"),
            ("q4_k_r4", "q4_k_r4"),
        ] {
            assert_eq!(quant_name(text), ours);
        }
    }

    #[test]
    fn model_types_of_all_generations() {
        for (text, arch, size, quant) in [
            ("llama 7B mostly Q4_0", "llama", Some("7B"), "Q4_0"),
            ("llama 7B mostly Q4_K - Medium", "llama", Some("7B"), "Q4_K_M"),
            ("qwen2 7B Q4_K - Medium", "qwen2", Some("7B"), "Q4_K_M"),
            ("llama 8B Q8_0", "llama", Some("8B"), "Q8_0"),
            ("llama 1B all F32", "llama", Some("1B"), "F32"),
            ("qwen3moe 30B.A3B Q4_K - Small", "qwen3moe", Some("30B.A3B"), "Q4_K_S"),
            ("llama4 17Bx16E (Scout) Q3_K - Large", "llama4", Some("17Bx16E (Scout)"), "Q3_K_L"),
            ("gpt-oss 20B MXFP4 MoE", "gpt-oss", Some("20B"), "MXFP4_MOE"),
            ("qwen3 ?B BF16", "qwen3", None, "BF16"),
            ("llama 8B IQ2_XXS - 2.0625 bpw", "llama", Some("8B"), "IQ2_XXS"),
            ("llama 8B IQ3_S mix - 3.66 bpw", "llama", Some("8B"), "IQ3_M"),
            ("llama 8B Q2_K - Medium", "llama", Some("8B"), "Q2_K"),
            ("bitnet 2B TQ1_0 - 1.69 bpw ternary", "bitnet", Some("2B"), "TQ1_0"),
            ("llama 8B IQ4_K - 4.5 bpw", "llama", Some("8B"), "iq4_k"),
            ("llama 8B Q4_K_R4", "llama", Some("8B"), "q4_k_r4"),
            ("llama 7B (guessed) mostly Q5_1", "llama", Some("7B"), "Q5_1"),
        ] {
            let size = size.map(str::to_owned);
            let wanted = ModelType { arch: arch.to_owned(), size, quant: quant.to_owned() };
            assert_eq!(ModelType::parse(text), Some(wanted), "{text}");
        }
        for text in ["", "llama", "llama 7B", "llama 7B unknown, may not work"] {
            assert_eq!(ModelType::parse(text), None, "{text}");
        }
    }

    #[test]
    fn backends_of_a_build() {
        for (list, ours) in [
            ("CUDA", "cuda"),
            ("Metal,BLAS", "metal"),
            ("MTL,BLAS", "metal"),
            ("BLAS", "cpu"),
            ("CPU", "cpu"),
            ("", "cpu"),
            ("ROCm", "rocm"),
            ("CUDA,RPC", "cuda"),
            ("CUDA0/CUDA1", "cuda"),
            ("Vulkan0", "vulkan"),
        ] {
            assert_eq!(backend_of_list(list), Ok(ours), "{list}");
        }
        assert!(backend_of_list("CUDA,Vulkan").unwrap_err().contains("cuda and vulkan"));
        assert!(backend_of_list("Abacus").unwrap_err().contains("`Abacus`"));
    }

    #[test]
    fn models_of_file_names() {
        for (path, model) in [
            ("models/Llama-2-7B.Q4_0.gguf", "llama-2-7b"),
            ("C:\\m\\Qwen3-30B-A3B-UD-Q4_K_XL.gguf", "qwen3-30b-a3b"),
            ("/m/gemma-4-31B-it-BF16-00001-of-00002.gguf", "gemma-4-31b-it"),
            ("shisa-v2-llama3.1-8b.i1-Q4_K_M.gguf", "shisa-v2-llama3.1-8b"),
            ("tinyllama-1.1b-fp16.gguf", "tinyllama-1.1b"),
            ("models/7B/ggml-model-q4_0.gguf", "ggml-model"),
            ("plain", "plain"),
        ] {
            assert_eq!(model_of_file(path).as_deref(), Some(model), "{path}");
        }
        assert_eq!(model_of_file("q4_0.gguf").as_deref(), Some("q4_0"));
        assert_eq!(model_of_file(""), None);
    }
}
