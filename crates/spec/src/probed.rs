//! What a probe of the running device found and measured.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CoreCluster, DeviceSpec, FigureBasis, ToolInfo};

/// What a probe measured. All of it was achieved by plain loops: less than the peaks of data
/// sheets, and what an engine can hope for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Probed {
    /// Time that the probe took, s.
    pub seconds: f64,
    /// Reading by level of the memory and number of threads.
    pub bandwidth: Vec<ProbedBandwidth>,
    /// Arithmetic by type and number of threads.
    pub arithmetic: Vec<ProbedArithmetic>,
    /// What starting and waking threads takes.
    pub overhead: ProbedOverhead,
    /// Reading of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<ProbedStorage>,
    /// Whether something else had the processors meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contention: Option<ProbedContention>,
}

/// What else had the processors while the loops ran.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbedContention {
    /// Share of the time of all processors that other programs had; absent where it is not told.
    pub others_share: Option<f64>,
    /// The same of other guests of the host.
    pub stolen_share: Option<f64>,
    /// f32 arithmetic of all physical cores over that of one, per core: 1 where none disturbs
    /// another; absent where cores differ.
    pub scaling: Option<f64>,
    /// Whether so much was had by others that what was measured is too little.
    pub is_busy: bool,
}

/// Reading of a buffer over and over, every thread its own part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbedBandwidth {
    /// `L1`, `L2`, `L3` or `DRAM`: what the buffer fits into.
    pub level: String,
    /// Bytes of all threads' parts.
    pub buffer_bytes: u64,
    /// Threads.
    pub threads: u32,
    /// 10⁹ bytes per second, all threads together.
    pub read_gbps: f64,
}

/// Independent multiply-adds that stay in registers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbedArithmetic {
    /// `f32`, `f16` or `int8`.
    #[serde(rename = "type")]
    pub number_type: String,
    /// The instruction (`fma, 256 bits`).
    pub instruction: String,
    /// Threads.
    pub threads: u32,
    /// 10⁹ operations per second, all threads together; one multiply-add counts as 2.
    pub giga_operations_per_second: f64,
}

/// What starting and waking threads takes: medians.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbedOverhead {
    /// Threads that were started at once.
    pub threads: u32,
    /// Starting them and waiting for their end, µs.
    pub spawn_us: f64,
    /// From waking a sleeping thread to its answer that wakes the caller, µs.
    pub wake_us: f64,
    /// The same with both threads spinning, µs; absent where there is one processor.
    pub spin_us: Option<f64>,
}

/// Reading of a file from its begin to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbedStorage {
    /// 10⁶ bytes per second.
    pub read_mbps: f64,
    /// Size of the file.
    pub bytes: u64,
    /// How the system's cache was kept out (`O_DIRECT`, `posix_fadvise`, `F_NOCACHE`, `none`).
    pub method: String,
    /// Whether memory may have answered in the place of the storage.
    pub may_be_cached: bool,
}

/// A machine as its files describe it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DetectedMachine {
    /// What the maker calls the board, the computer or the phone.
    pub model: Option<String>,
    /// Names of the chip: of the device tree, of Android's properties.
    pub chip: Vec<String>,
    /// Name of the processor.
    pub processor: Option<String>,
    /// Instruction set (`x86_64`, `aarch64`).
    pub arch: String,
    /// Vector extensions by which kernels choose.
    pub isa: Vec<String>,
    /// Cores by type and clock, fastest first.
    pub clusters: Vec<CoreCluster>,
    /// Cores whose clock the system does not tell: in place of the clusters' where it is 0.
    pub physical_cores: u32,
    /// Logical processors.
    pub logical_cores: u32,
    /// Caches for data.
    pub caches: Vec<DetectedCache>,
    /// Main memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Graphics processors.
    pub gpus: Vec<DetectedGpu>,
    /// Whether the machine is virtual, where known.
    pub hypervisor: Option<bool>,
}

/// A level of the caches for data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DetectedCache {
    /// 1, 2, 3.
    pub level: u32,
    /// Size of one, KiB; of the largest, where they differ.
    pub kib: f64,
    /// Size of the smallest, KiB, where they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest_kib: Option<f64>,
    /// How many there are.
    pub count: u32,
    /// Size of all together, KiB.
    pub total_kib: f64,
}

/// A graphics processor that the system tells of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DetectedGpu {
    /// Its name.
    pub name: String,
    /// Its own memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Its highest clock, GHz.
    pub clock_ghz: Option<f64>,
    /// The device of the catalogue that it is.
    pub device: Option<String>,
}

/// Answer of `probe`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeReport {
    /// Version of the schema.
    pub schema_version: u32,
    /// The tool.
    pub tool: ToolInfo,
    /// When, RFC 3339.
    pub time: String,
    /// File that was written.
    pub file: Option<String>,
    /// What the system says.
    pub machine: DetectedMachine,
    /// The device that was written: the catalogue's figures where it is known, what was detected
    /// and measured else.
    pub device: DeviceSpec,
    /// The device of the catalogue that this one is.
    pub catalogue: Option<CatalogueMatch>,
    /// What a reader should know.
    pub warnings: Vec<String>,
}

/// A device of the catalogue beside what was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CatalogueMatch {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Every figure that both have.
    pub differences: Vec<FigureDifference>,
}

/// A figure of the catalogue beside the found one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FigureDifference {
    /// Its name in the files, or `clusters[].clock_ghz` and `cores`.
    pub figure: String,
    /// In the catalogue.
    pub catalogue: f64,
    /// Here.
    pub found: f64,
    /// `measured`, or `stated` by the system.
    pub basis: FigureBasis,
    /// Found ÷ catalogue.
    pub ratio: f64,
}
