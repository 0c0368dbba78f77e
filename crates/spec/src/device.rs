//! Where a model runs: device, engine, backend, and how the binary was built.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What executes the arithmetic.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
    /// An AMD GPU through ROCm (HIP).
    Rocm,
    /// Any GPU through Vulkan.
    Vulkan,
    /// An Intel GPU through SYCL.
    Sycl,
    /// A GPU through OpenCL.
    Opencl,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::Rocm => "rocm",
            Self::Vulkan => "vulkan",
            Self::Sycl => "sycl",
            Self::Opencl => "opencl",
        })
    }
}

/// The machine as the operating system describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceInfo {
    /// Short name for files and keys: the name in lower case with dashes; of a CPU, its cores too.
    pub id: String,
    /// Backend.
    pub backend: Backend,
    /// Name of the processor or GPU.
    pub name: String,
    /// Instruction set (`x86_64`, `aarch64`), of a GPU its host's.
    pub arch: String,
    /// Vector extensions that candle's kernels choose by (`avx512vnni`, `avx2`, `dotprod`); of a
    /// GPU its generation (`sm_90`).
    pub isa: Vec<String>,
    /// Physical cores, of a GPU its host's.
    pub physical_cores: u32,
    /// Logical processors, of a GPU its host's.
    pub logical_cores: u32,
    /// Last-level cache, where known; of a GPU its own.
    pub l3_bytes: Option<u64>,
    /// Main memory; of a GPU its own.
    pub memory_bytes: u64,
    /// Operating system and version.
    pub os: String,
    /// Whether the machine is virtual, where known.
    pub hypervisor: Option<bool>,
    /// Id of the processor that gives the device its work; `None` where it is the device itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// An engine that the cost model knows; others are names in imported rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// candle and the readers of candle-transformers.
    Candle,
    /// llama.cpp.
    LlamaCpp,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Candle, Self::LlamaCpp];

    /// Name in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Candle => "candle",
            Self::LlamaCpp => "llama.cpp",
        }
    }

    /// The engine of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }
}

/// What runs the model. Name and version are part of every key.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct EngineInfo {
    /// `candle`, `llama.cpp`.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl EngineInfo {
    /// The engine, where the cost model knows it.
    pub fn known(&self) -> Option<Engine> {
        Engine::from_name(&self.name)
    }

    /// Whether it is candle, which runs in this program: others are seen from outside.
    pub fn is_candle(&self) -> bool {
        self.known() == Some(Engine::Candle)
    }
}

/// The tool that wrote a file, and how it was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolInfo {
    /// Version of Foretoken.
    pub version: String,
    /// `release` or `debug`.
    pub profile: String,
    /// Target triple.
    pub target: String,
    /// CPU features that the compiler was allowed to use (`target-cpu=native` shows here).
    pub target_features: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_known_by_their_whole_name() {
        for engine in Engine::ALL {
            assert_eq!(Engine::from_name(engine.name()), Some(engine));
        }
        for other in ["ik_llama.cpp", "Candle", ""] {
            assert_eq!(Engine::from_name(other), None, "{other}");
        }
        let info = |name: &str| EngineInfo { name: name.into(), version: "1".into() };
        assert!(info("candle").is_candle() && !info("llama.cpp").is_candle());
        assert!(!info("abacus").is_candle() && info("abacus").known().is_none());
    }
}
