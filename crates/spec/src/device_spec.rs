//! A device by its data sheet: what is known of it without running anything on it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Backend, Probed};

/// What the peaks of a [`DeviceSpec`] belong to.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Processor cores with memory modules of their own.
    Cpu,
    /// A graphics processor with memory of its own.
    Gpu,
    /// A graphics processor that shares the memory of a processor.
    Igpu,
    /// A system on a chip: a board, a phone, an Apple computer.
    Soc,
}

impl DeviceKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Gpu, Self::Igpu, Self::Soc];

    /// The word in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Igpu => "igpu",
            Self::Soc => "soc",
        }
    }
}

impl std::fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a device is sold as; finer than its kind.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DeviceClass {
    /// A single-board computer or a module for one.
    Board,
    /// A telephone.
    Phone,
    /// A tablet.
    Tablet,
    /// A laptop.
    Laptop,
    /// A desktop or mini computer, or a part of one.
    Desktop,
    /// A workstation or a part of one.
    Workstation,
    /// A server or a part of one.
    Server,
    /// A part of a server that other guests share.
    VirtualMachine,
}

impl DeviceClass {
    /// Every class.
    pub const ALL: [Self; 8] = [
        Self::Board,
        Self::Phone,
        Self::Tablet,
        Self::Laptop,
        Self::Desktop,
        Self::Workstation,
        Self::Server,
        Self::VirtualMachine,
    ];

    /// The word in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Board => "board",
            Self::Phone => "phone",
            Self::Tablet => "tablet",
            Self::Laptop => "laptop",
            Self::Desktop => "desktop",
            Self::Workstation => "workstation",
            Self::Server => "server",
            Self::VirtualMachine => "virtual_machine",
        }
    }
}

impl std::fmt::Display for DeviceClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What some engine can run on a device with; more than [`Backend`], which is what Foretoken runs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DeviceBackend {
    /// Processor cores.
    Cpu,
    /// NVIDIA's CUDA.
    Cuda,
    /// Apple's Metal.
    Metal,
    /// AMD's ROCm (HIP).
    Rocm,
    /// Vulkan.
    Vulkan,
    /// SYCL, which Intel's GPUs run.
    Sycl,
    /// OpenCL.
    Opencl,
    /// A neural processor behind a vendor's own runtime.
    Npu,
}

impl DeviceBackend {
    /// Every backend.
    pub const ALL: [Self; 8] = [
        Self::Cpu,
        Self::Cuda,
        Self::Metal,
        Self::Rocm,
        Self::Vulkan,
        Self::Sycl,
        Self::Opencl,
        Self::Npu,
    ];

    /// The word in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::Rocm => "rocm",
            Self::Vulkan => "vulkan",
            Self::Sycl => "sycl",
            Self::Opencl => "opencl",
            Self::Npu => "npu",
        }
    }
}

impl std::fmt::Display for DeviceBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Backend> for DeviceBackend {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Cpu => Self::Cpu,
            Backend::Cuda => Self::Cuda,
            Backend::Metal => Self::Metal,
            Backend::Rocm => Self::Rocm,
            Backend::Vulkan => Self::Vulkan,
            Backend::Sycl => Self::Sycl,
            Backend::Opencl => Self::Opencl,
        }
    }
}

/// Cores of one type and clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CoreCluster {
    /// Microarchitecture (`cortex-a76`, `zen4`); one of the table of rates, or any other word with
    /// the rates beside it.
    pub core: String,
    /// Cores.
    pub count: u32,
    /// Clock in GHz: of all these cores together where it is known, else the published maximum.
    pub clock_ghz: f64,
    /// Second-level cache of each core, KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l2_kb: Option<f64>,
    /// f32 operations of a core in a cycle, where the table of rates does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp32_per_cycle: Option<f64>,
    /// f16 operations of a core in a cycle, where the table of rates does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp16_per_cycle: Option<f64>,
    /// int8 operations of a core in a cycle, where the table of rates does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8_per_cycle: Option<f64>,
}

/// The units of a graphics processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuUnits {
    /// Architecture (`ada`, `rdna3`, `apple-gpu`), of the table of rates or any other word.
    pub architecture: String,
    /// Streaming multiprocessors (NVIDIA), compute units (AMD), Xe cores (Intel), cores (Apple).
    pub units: u32,
    /// Boost clock, GHz.
    pub clock_ghz: f64,
}

/// A setting that trades speed for power.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PowerMode {
    /// Its name (`15W`, `MAXN`).
    pub name: String,
    /// Power that the setting allows, W.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_w: Option<f64>,
    /// Power without work, W.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_power_w: Option<f64>,
    /// Power under full load, W.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_power_w: Option<f64>,
    /// Highest clock of the processor, GHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_clock_ghz: Option<f64>,
    /// Highest clock of the graphics processor, GHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_clock_ghz: Option<f64>,
    /// Memory bandwidth, GB/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_bandwidth_gbps: Option<f64>,
}

/// How a figure came to be known.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FigureBasis {
    /// Read in a source that is named.
    Published,
    /// Measured, by whom the source says.
    Measured,
    /// Computed from other figures by a formula that the source states.
    Derived,
    /// Given by the user.
    Stated,
    /// Remembered; no source was read.
    FromMemory,
}

impl std::fmt::Display for FigureBasis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Published => "published",
            Self::Measured => "measured",
            Self::Derived => "derived",
            Self::Stated => "stated",
            Self::FromMemory => "from memory",
        })
    }
}

/// How far a figure is to be trusted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// A guess, or a figure of another setting: expect tens of per cent.
    Low,
    /// Likely right within a tenth.
    Medium,
    /// Right as far as anyone publishes it.
    High,
}

impl std::fmt::Display for Confidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        })
    }
}

/// Where a figure comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FigureSource {
    /// How it came to be known.
    pub basis: FigureBasis,
    /// How far it is to be trusted.
    pub confidence: Confidence,
    /// Address, formula or words.
    pub source: String,
}

/// A device by its data sheet. Every figure may be absent; what is there has a source.
///
/// The names up to `notes` are the columns of the public lists of devices, so that their rows can
/// be read; the peaks are those of the processor that the first of `backends` computes with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceSpec {
    /// Short name for files and keys, lower case with dashes.
    #[serde(alias = "device_id")]
    pub id: String,
    /// Name for people.
    pub name: String,
    /// What the figures belong to.
    pub kind: DeviceKind,
    /// What it is sold as.
    #[serde(default)]
    pub class: Option<DeviceClass>,
    /// Peak of f16 arithmetic with the fastest units that have it, dense, TFLOP/s.
    #[serde(default)]
    pub peak_fp16_tflops: Option<f64>,
    /// Peak of f32 arithmetic, TFLOP/s.
    #[serde(default)]
    pub peak_fp32_tflops: Option<f64>,
    /// Peak of int8 arithmetic, dense, 10¹² operations per second.
    #[serde(default)]
    pub peak_int8_tops: Option<f64>,
    /// Memory bandwidth, 10⁹ bytes per second.
    #[serde(default)]
    pub mem_bandwidth_gbps: Option<f64>,
    /// Memory, GB (GiB where the maker means GiB).
    #[serde(default)]
    pub mem_gb: Option<f64>,
    /// Type and speed of the memory.
    #[serde(default)]
    pub mem_type: Option<String>,
    /// Power that cooling is designed for, or the limit of the board, W.
    #[serde(default)]
    pub tdp_w: Option<f64>,
    /// Cores in words.
    #[serde(default)]
    pub cores: Option<String>,
    /// Instruction set or compute capability.
    #[serde(default)]
    pub isa: Option<String>,
    /// Year of release.
    #[serde(default)]
    pub release_year: Option<u32>,
    /// Where the row was read.
    #[serde(default)]
    pub source_url: Option<String>,
    /// What a reader should know.
    #[serde(default)]
    pub notes: Option<String>,
    /// Other names that find it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Backends that can run on it, the usual one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<DeviceBackend>,
    /// Processor cores by type and clock, fastest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<CoreCluster>,
    /// Units of the graphics processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuUnits>,
    /// Name of the piece of silicon (`AD102`, `M2 Max`), where devices of other names have the same
    /// one with fewer units, other clocks or other memory: they are left out of validation together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub die: Option<String>,
    /// Transfers of one line of the memory bus, 10⁶ per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_rate_mtps: Option<f64>,
    /// Width of the memory bus over all channels, bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_bus_bits: Option<u32>,
    /// Second-level cache over all cores, KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l2_kb: Option<f64>,
    /// Last-level cache beyond the second level, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l3_mb: Option<f64>,
    /// Sequential reading of the usual storage, 10⁶ bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_bandwidth_mbps: Option<f64>,
    /// Power without work, W: of the whole board or computer where `class` is one that has such,
    /// else of the part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_power_w: Option<f64>,
    /// Power under full load, W, of the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_power_w: Option<f64>,
    /// Battery, Wh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub battery_wh: Option<f64>,
    /// Settings that trade speed for power.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modes: Vec<PowerMode>,
    /// Source of each figure, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, FigureSource>,
    /// What `foretoken probe` measured on a device like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probed>,
}

impl DeviceSpec {
    /// A device of which nothing more is known.
    pub fn named(id: impl Into<String>, name: impl Into<String>, kind: DeviceKind) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            kind,
            class: None,
            peak_fp16_tflops: None,
            peak_fp32_tflops: None,
            peak_int8_tops: None,
            mem_bandwidth_gbps: None,
            mem_gb: None,
            mem_type: None,
            tdp_w: None,
            cores: None,
            isa: None,
            release_year: None,
            source_url: None,
            notes: None,
            aliases: Vec::new(),
            backends: Vec::new(),
            clusters: Vec::new(),
            gpu: None,
            die: None,
            mem_rate_mtps: None,
            mem_bus_bits: None,
            l2_kb: None,
            l3_mb: None,
            storage_bandwidth_mbps: None,
            idle_power_w: None,
            load_power_w: None,
            battery_wh: None,
            modes: Vec::new(),
            sources: BTreeMap::new(),
            probe: None,
        }
    }

    /// Processor cores over all clusters; `None` where none are listed.
    pub fn n_cores(&self) -> Option<u32> {
        let counts = self.clusters.iter().map(|cluster| cluster.count);
        (!self.clusters.is_empty()).then(|| counts.fold(0, u32::saturating_add))
    }

    /// The figures that a predictor computes with, by name.
    pub fn figures(&self) -> [(&'static str, Option<f64>); 14] {
        [
            ("peak_fp16_tflops", self.peak_fp16_tflops),
            ("peak_fp32_tflops", self.peak_fp32_tflops),
            ("peak_int8_tops", self.peak_int8_tops),
            ("mem_bandwidth_gbps", self.mem_bandwidth_gbps),
            ("mem_gb", self.mem_gb),
            ("mem_rate_mtps", self.mem_rate_mtps),
            ("mem_bus_bits", self.mem_bus_bits.map(f64::from)),
            ("l2_kb", self.l2_kb),
            ("l3_mb", self.l3_mb),
            ("storage_bandwidth_mbps", self.storage_bandwidth_mbps),
            ("tdp_w", self.tdp_w),
            ("idle_power_w", self.idle_power_w),
            ("load_power_w", self.load_power_w),
            ("battery_wh", self.battery_wh),
        ]
    }
}
