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
