//! How a text is cut into words before byte-pair merges, by `tokenizer.ggml.pre`.
//!
//! Each name stands for the expressions of the model's own `tokenizer.json`. They are applied one
//! after the other: what an expression matches and what lies between its matches become words of
//! their own, and the next expression cuts those.

use tokenizers::tokenizer::pattern::Pattern;
use tokenizers::utils::SysRegex;

use crate::TokenizeError;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
/// Letters with case, but for those that DeepSeek's first tokenizers leave out.
const CASED: &str = r"\s?[[\p{Lu}\p{Ll}\p{Lt}]--[\u{560}-\u{588}\u{10C7}-\u{10FF}\u{1C80}-\u{1C88}\u{2D00}-\u{2D2D}\u{A790}-\u{A7CA}\u{A7D0}-\u{A7FA}\u{AB30}-\u{AB68}\u{10570}-\u{105BC}\u{16E40}-\u{16E7F}\u{1D400}-\u{1D7CB}\u{1DF00}-\u{1DF1E}]]+";
const ASIAN: &str = r"[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+";
const HAN_KANA: &str = r"[\u{4E00}-\u{9FA5}\u{3040}-\u{30FF}]+";

/// What a name of `tokenizer.ggml.pre` means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pre {
    names: &'static [&'static str],
    expressions: &'static [&'static str],
    /// Whether a word that is a token as a whole is not merged.
    pub(crate) whole_words: bool,
    /// Whether texts begin with the first token where the file is silent.
    pub(crate) add_bos: bool,
}

const fn pre(names: &'static [&'static str], expressions: &'static [&'static str]) -> Pre {
    Pre { names, expressions, whole_words: false, add_bos: false }
}

const UNKNOWN: Pre = pre(&[], &[GPT2]);

/// What llama.cpp takes where the file names nothing.
const UNNAMED: Pre =
    pre(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]);

const TABLE: [Pre; 27] = [
    UNNAMED,
    pre(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
            "roberta-bpe",
            "modern-bert",
        ],
        &[GPT2],
    ),
    Pre {
        whole_words: true,
        add_bos: true,
        ..pre(
            &[
                "llama-bpe",
                "llama3",
                "llama-v3",
                "falcon3",
                "falcon-h1",
                "pixtral",
                "midm-2.0",
                "lfm2",
                "jina-v5-nano",
            ],
            &[LLAMA3],
        )
    },
    pre(&["dbrx", "smaug-bpe", "chatglm-bpe"], &[LLAMA3]),
    Pre { whole_words: true, ..pre(&["glm4", "glm5"], &[LLAMA3]) },
    Pre {
        whole_words: true,
        ..pre(
            &["minicpm5"],
            &[
                r"\p{N}{1,3}",
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ],
        )
    },
    pre(
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        &[QWEN2],
    ),
    pre(&["qwen35"], &[QWEN35]),
    pre(
        &[
            "starcoder",
            "refact",
            "command-r",
            "smollm",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        &[DIGIT, GPT2],
    ),
    pre(&["falcon"], &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
    pre(
        &["deepseek-llm"],
        &[
            r"[\r\n]",
            CASED,
            r"\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+",
            r"\s+$",
            ASIAN,
            r"\p{N}+",
        ],
    ),
    pre(&["deepseek-coder"], &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", ASIAN, DIGIT]),
    pre(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        &[r"\p{N}{1,3}", HAN_KANA, DEEPSEEK3],
    ),
    pre(
        &["spark2_5"],
        &[
            r"\p{N}{1,3}",
            HAN_KANA,
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##,
            DIGIT,
        ],
    ),
    Pre { whole_words: true, add_bos: true, ..pre(&["tekken"], &[TEKKEN]) },
    pre(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[GPT4O]),
    Pre { whole_words: true, ..pre(&["granite-embed-multi-97m"], &[GPT4O]) },
    pre(&["tiny_aya", "cohere2moe"], &[r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O]),
    pre(&["bloom", "gpt3-finnish", "poro-chat"], &[BLOOM]),
    pre(&["viking"], &[BLOOM, DIGIT]),
    pre(&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILING]),
    pre(&["seed-coder"], &[SEED_CODER]),
    pre(
        &["ufakzeka"],
        &[r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    ),
    pre(&["laguna"], &[r"[^\n]+|[\n]+", QWEN2]),
    pre(
        &["exaone-moe"],
        &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        ],
    ),
    pre(
        &["jais-2"],
        &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}",
        ],
    ),
    pre(&["superbpe"], &[r"\p{N}+", r"(?=(\d{3})+(?!\d))"]),
];

/// What the name in a file means, and a warning where it is not known.
pub(crate) fn of_name(name: Option<&str>) -> (Pre, Option<String>) {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        let warning = "metadata key `tokenizer.ggml.pre` is missing: words are cut as llama.cpp does by default, and tokens may differ from those of the model's training";
        return (UNNAMED, Some(warning.to_owned()));
    };
    if let Some(pre) = TABLE.iter().find(|pre| pre.names.contains(&name)) {
        return (*pre, None);
    }
    let name: String = name.chars().take(40).flat_map(char::escape_debug).collect();
    let warning = format!(
        "metadata key `tokenizer.ggml.pre` is `{name}`, which is not known: words are cut as for gpt-2, and tokens may differ from those of the model's training"
    );
    (UNKNOWN, Some(warning))
}

/// Cuts texts into words.
pub(crate) struct Words {
    expressions: Vec<SysRegex>,
}

impl Words {
    pub(crate) fn new(pre: &Pre) -> Result<Self, TokenizeError> {
        let expressions = pre.expressions.iter().map(|expression| SysRegex::new(expression));
        let expressions = expressions.collect::<Result<_, _>>();
        Ok(Self { expressions: expressions.map_err(|e| TokenizeError::Build(e.to_string()))? })
    }

    /// The words of a text: all of it, in order.
    pub(crate) fn cut<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut words = vec![text];
        for expression in &self.expressions {
            let mut cut = Vec::with_capacity(words.len());
            for word in words {
                // An expression that gives up leaves the rest of the word whole.
                let matches = expression.find_matches(word).unwrap_or_default();
                let parts = matches.iter().filter_map(|&((start, end), _)| word.get(start..end));
                cut.extend(parts.filter(|part| !part.is_empty()));
            }
            words = cut;
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    #[test]
    fn every_expression_compiles_and_no_name_is_twice() {
        let mut names = HashSet::new();
        for pre in &TABLE {
            Words::new(pre).unwrap();
            for name in pre.names {
                assert!(names.insert(name), "{name}");
            }
        }
    }

    #[test]
    fn unknown_names_are_said() {
        let (pre, warning) = of_name(Some("new\nmodel"));
        assert_eq!(pre.expressions, [GPT2]);
        assert!(warning.unwrap().starts_with(r"metadata key `tokenizer.ggml.pre` is `new\nmodel`"));
        assert!(of_name(None).1.unwrap().contains("missing"));
        assert!(of_name(Some("qwen2")).1.is_none());
    }

    /// Against the `tokenizers` package of Hugging Face, whose expressions another engine runs.
    #[test]
    fn words_are_those_of_the_reference() {
        let json = include_str!("../../../tests/fixtures/tokenizers/words.json");
        let expected: BTreeMap<String, BTreeMap<String, Vec<String>>> =
            serde_json::from_str(json).unwrap();
        assert!(expected.len() > 10);
        for (name, texts) in expected {
            let words = Words::new(&of_name(Some(&name)).0).unwrap();
            for (text, expected) in texts {
                assert_eq!(words.cut(&text), expected, "{name}: {text:?}");
            }
        }
    }

    #[test]
    fn long_runs_of_spaces_do_not_panic() {
        for pre in &TABLE {
            let text = format!("a{}b", " ".repeat(20_000));
            assert_eq!(Words::new(pre).unwrap().cut(&text).concat(), text);
        }
    }
}
