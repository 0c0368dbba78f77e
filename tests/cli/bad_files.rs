//! Model files that cannot be used: each a clear error that names the file, exit code 2.

use crate::util::{Sandbox, read_fixture};

const U32: u32 = 4;
const F32: u32 = 6;
const STRING: u32 = 8;

/// A GGUF file written byte by byte, so that it can be wrong in one place.
struct Gguf {
    n_tensors: u64,
    n_keys: u64,
    keys: Vec<u8>,
    tensors: Vec<u8>,
    data: usize,
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Gguf {
    fn empty() -> Self {
        Self { n_tensors: 0, n_keys: 0, keys: vec![], tensors: vec![], data: 0 }
    }

    /// All keys of a small llama model, without tensors.
    fn llama() -> Self {
        Self::llama_without("")
    }

    fn llama_without(absent: &str) -> Self {
        let epsilon = 1e-5f32.to_le_bytes();
        let mut file = Self::empty().text("general.architecture", "llama").key(
            "llama.attention.layer_norm_rms_epsilon",
            F32,
            &epsilon,
        );
        for (key, value) in [
            ("block_count", 1),
            ("embedding_length", 64),
            ("feed_forward_length", 64),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 2),
            ("context_length", 64),
            ("vocab_size", 64),
        ] {
            if key != absent {
                file = file.number(&format!("llama.{key}"), value);
            }
        }
        file
    }

    fn key(mut self, name: &str, kind: u32, value: &[u8]) -> Self {
        self.keys.extend([string(name), kind.to_le_bytes().to_vec(), value.to_vec()].concat());
        self.n_keys += 1;
        self
    }

    fn text(self, name: &str, value: &str) -> Self {
        self.key(name, STRING, &string(value))
    }

    fn number(self, name: &str, value: u32) -> Self {
        self.key(name, U32, &value.to_le_bytes())
    }

    fn tensor(mut self, name: &str, kind: u32, offset: u64) -> Self {
        self.tensors.extend(string(name));
        self.tensors.extend(1u32.to_le_bytes());
        self.tensors.extend(64u64.to_le_bytes());
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.n_tensors += 1;
        self.data += 64 * 4;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(self.n_tensors.to_le_bytes());
        bytes.extend(self.n_keys.to_le_bytes());
        bytes.extend(&self.keys);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32) + self.data, 0);
        bytes
    }
}

/// Every command that opens a model says the same.
fn check(bytes: &[u8], words: &[&str]) {
    let sandbox = Sandbox::new();
    let name = sandbox.file("bad.gguf", bytes);
    for command in [vec!["inspect", &name], vec!["measure", &name, "--prompt", "8"]] {
        sandbox.error_says(&command, &[&["bad.gguf"], words].concat());
    }
}

#[test]
fn missing() {
    let sandbox = Sandbox::new();
    for name in ["absent.gguf", "absent/config.json"] {
        sandbox.error_says(&["inspect", name], &[name, "no such file"]);
    }
}

#[test]
fn empty() {
    check(b"", &["empty"]);
}

#[test]
fn not_gguf() {
    check(b"PK\x03\x04 a zip archive, say", &["not a gguf file"]);
}

#[test]
fn truncated() {
    let whole = Gguf::llama().tensor("output_norm.weight", 0, 0).bytes();
    check(&whole[..100], &["truncated"]);
    check(b"GGUF", &["truncated"]);
}

#[test]
fn a_file_without_tensors() {
    check(&Gguf::empty().text("general.architecture", "mamba").bytes(), &["no tensors"]);
}

#[test]
fn retired_tensor_type() {
    check(&Gguf::llama().tensor("output_norm.weight", 4, 0).bytes(), &["Q4_2", "output_norm"]);
}

#[test]
fn vocabulary_only() {
    check(&Gguf::llama().bytes(), &["vocab"]);
}

#[test]
fn metadata_missing() {
    let file = Gguf::empty().text("general.architecture", "llama");
    check(&file.tensor("output_norm.weight", 0, 0).bytes(), &["llama.", "missing"]);
}

#[test]
fn metadata_of_the_wrong_type() {
    let file = Gguf::llama_without("block_count").text("llama.block_count", "many").tensor(
        "output_norm.weight",
        0,
        0,
    );
    check(&file.bytes(), &["llama.block_count"]);
}

#[test]
fn offset_past_the_end() {
    let file = Gguf::llama().tensor("output_norm.weight", 0, 1 << 40);
    check(&file.bytes(), &["output_norm.weight"]);
}

#[test]
fn huge_declared_counts_are_not_allocated() {
    for (n_tensors, n_keys) in [(u64::MAX, 0), (0, u64::MAX), (1 << 40, 1 << 40)] {
        let file = Gguf { n_tensors, n_keys, ..Gguf::empty() };
        check(&file.bytes(), &["declares"]);
    }
}

#[test]
fn configuration_that_is_not_one() {
    let sandbox = Sandbox::new();
    let deep = read_fixture("config.json").replace("_layers\": 2", "_layers\": 16777216");
    for (text, word) in [
        ("", "json"),
        ("[1, 2", "json"),
        ("{}", "architectures"),
        (r#"{"architectures": ["MambaForCausalLM"]}"#, "MambaForCausalLM"),
        (r#"{"architectures": ["LlamaForCausalLM"]}"#, "missing"),
        (r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": "wide"}"#, "hidden_size"),
        (deep.as_str(), "num_hidden_layers"),
    ] {
        let name = sandbox.file("config.json", text);
        sandbox.error_says(&["inspect", &name], &["config.json", word]);
    }
}
