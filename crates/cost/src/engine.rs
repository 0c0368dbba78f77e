//! Engine profiles: how an engine stores, executes and keeps weights.
//!
//! The facts are read in candle-core 0.11.1, `quantized/{mod,repack,repack_x86}.rs`; of graphics
//! devices in `quantized/{cuda,fast_mmvq,fast_mmq,metal}.rs`.

use foretoken_spec::{Backend, DeviceInfo, Engine, EngineInfo, ModelShape, TensorType};

use crate::{AttentionForm, KernelPath, KvLayout, readers};

/// Levels of candle's x86 kernels, chosen at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum X86Level {
    /// Neither AVX2 nor FMA: scalar dot products.
    None,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-VNNI.
    AvxVnni,
    /// AVX-512-VNNI.
    Avx512Vnni,
}

/// What decides which kernel an engine takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// x86-64.
    X86 {
        /// Level of the vector kernels.
        level: X86Level,
        /// Whether AMX with 8-bit integers is there.
        amx: bool,
    },
    /// 64-bit Arm.
    Arm {
        /// Whether the `dotprod` or `i8mm` instructions are there.
        dotprod: bool,
    },
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
    /// Anything else: stored rows only.
    Other,
}

/// How an engine stores, executes and keeps weights on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineProfile {
    /// What runs the model.
    pub engine: Engine,
    /// What decides which kernel is taken.
    pub isa: Isa,
    /// How keys and values are stored.
    pub kv_type: TensorType,
}

/// A type of the KV cache that an engine does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{engine} keeps its KV cache in {known}, not in `{asked}`; use --kv-type {first}")]
pub struct UnknownKvType {
    /// Name of the engine.
    pub engine: &'static str,
    /// What was asked for.
    pub asked: String,
    /// What it has.
    pub known: String,
    /// The first of them.
    pub first: String,
}

/// Most rows that candle's CUDA kernels multiply without tiles (`fast_mmvq.rs: MMVQ_MAX_BATCH`).
const CUDA_VECTOR_ROWS: u32 = 8;

/// Rows of one repacked x86 tile.
const X86_TILE_ROWS: u64 = 16;

impl EngineProfile {
    /// candle 0.11 on this device.
    pub fn candle(device: &DeviceInfo) -> Self {
        let has = |name: &str| device.isa.iter().any(|flag| flag == name);
        let isa = match (device.backend, device.arch.as_str()) {
            (Backend::Cuda, _) => Isa::Cuda,
            (Backend::Metal, _) => Isa::Metal,
            (Backend::Cpu, "x86_64") => {
                let level = if has("avx512f") && has("avx512vnni") {
                    X86Level::Avx512Vnni
                } else if has("avxvnni") && has("avx2") {
                    X86Level::AvxVnni
                } else if has("avx2") && has("fma") {
                    X86Level::Avx2
                } else {
                    X86Level::None
                };
                Isa::X86 { level, amx: has("amx-int8") }
            }
            (Backend::Cpu, "aarch64") => Isa::Arm { dotprod: has("dotprod") || has("i8mm") },
            // Of the other backends candle has none.
            _ => Isa::Other,
        };
        Self::candle_on(isa)
    }

    /// candle 0.11 with these instructions.
    pub const fn candle_on(isa: Isa) -> Self {
        Self { engine: Engine::Candle, isa, kv_type: TensorType::F32 }
    }

    /// llama.cpp: executes and keeps weights as they are stored, keys and values in F16.
    pub const fn llama_cpp(isa: Isa) -> Self {
        Self { engine: Engine::LlamaCpp, isa, kv_type: TensorType::F16 }
    }

    /// The engine of this name on this device; `None` of one that is not known.
    pub fn named(name: &str, device: &DeviceInfo) -> Option<Self> {
        let candle = Self::candle(device);
        Some(match Engine::from_name(name)? {
            Engine::Candle => candle,
            Engine::LlamaCpp => Self::llama_cpp(candle.isa),
        })
    }

    /// The engine behind measurements or a calibration; one that is not known, which readers of
    /// files refuse, is taken as candle.
    pub fn of(engine: &EngineInfo, device: &DeviceInfo) -> Self {
        Self::named(&engine.name, device).unwrap_or_else(|| Self::candle(device))
    }

    /// The types that the engine can keep keys and values in, its own choice first.
    ///
    /// llama.cpp: `-ctk`, `-ctv` of `tools/llama-bench/README.md`.
    pub fn kv_types(&self) -> &'static [TensorType] {
        use TensorType as T;
        match self.engine {
            Engine::Candle => &[T::F32],
            Engine::LlamaCpp => {
                &[T::F16, T::F32, T::BF16, T::Q8_0, T::Q4_0, T::Q4_1, T::Q5_0, T::Q5_1, T::IQ4_NL]
            }
        }
    }

    /// The same engine with keys and values in the type of this name.
    ///
    /// # Errors
    /// The engine has no such cache.
    pub fn with_kv_type(self, name: &str) -> Result<Self, UnknownKvType> {
        let known = self.kv_types();
        match known.iter().find(|t| t.name().eq_ignore_ascii_case(name.trim())) {
            Some(&kv_type) => Ok(Self { kv_type, ..self }),
            None => {
                let names: Vec<_> = known.iter().map(|t| t.name().to_lowercase()).collect();
                Err(UnknownKvType {
                    engine: self.engine.name(),
                    asked: name.escape_debug().to_string(),
                    first: names.first().cloned().unwrap_or_default(),
                    known: names.join(", "),
                })
            }
        }
    }

    /// Whether a layer with a window keeps no more tokens than the window asks for. candle's
    /// readers keep all of them.
    pub fn caps_windows(&self) -> bool {
        self.engine == Engine::LlamaCpp
    }

    /// Whether candle gives its work to a graphics device.
    pub fn is_candle_on_gpu(&self) -> bool {
        self.engine == Engine::Candle && matches!(self.isa, Isa::Cuda | Isa::Metal)
    }

    /// How attention is computed for this architecture. The readers that keep no scores do so on a
    /// processor only; Metal's fused kernel for one row is counted as if it kept them.
    pub fn attention(&self, shape: &ModelShape) -> AttentionForm {
        match self.engine {
            Engine::LlamaCpp => AttentionForm::Flash,
            Engine::Candle if self.is_candle_on_gpu() => AttentionForm::Materialised,
            Engine::Candle => readers::of_architecture(&shape.architecture)
                .map_or(AttentionForm::Materialised, |reader| reader.attention),
        }
    }

    /// How keys and values are kept for this architecture.
    pub fn kv_layout(&self, shape: &ModelShape) -> KvLayout {
        match self.engine {
            Engine::LlamaCpp => KvLayout::Preallocated,
            Engine::Candle => match readers::of_architecture(&shape.architecture) {
                // Only a processor's attention reads keys and values side by side.
                Some(reader) if reader.kv_layout == KvLayout::Interleaved => {
                    if self.is_candle_on_gpu() {
                        KvLayout::Concatenated
                    } else {
                        KvLayout::Interleaved
                    }
                }
                reader => reader.map_or(KvLayout::Concatenated, |reader| reader.kv_layout),
            },
        }
    }

    /// The kernel for `n_rows` rows times a `[k, n]` matrix of this type.
    pub fn kernel(&self, tensor_type: TensorType, n_rows: u32, k: u64, n: u64) -> KernelPath {
        use TensorType as T;
        if tensor_type.is_float() {
            return KernelPath::Gemm;
        }
        if self.engine == Engine::LlamaCpp {
            return KernelPath::RowDot;
        }
        let vector_rows = match self.isa {
            Isa::Cuda => Some(CUDA_VECTOR_ROWS),
            Isa::Metal => Some(1),
            Isa::X86 { .. } | Isa::Arm { .. } | Isa::Other => None,
        };
        if let Some(most) = vector_rows {
            return if n_rows <= most { KernelPath::GpuVector } else { KernelPath::GpuTiled };
        }
        let tiled = match self.isa {
            Isa::X86 { level: X86Level::None, .. } | Isa::Cuda | Isa::Metal | Isa::Other => false,
            Isa::X86 { level, .. } => {
                let fits = k > 0 && k.is_multiple_of(256) && n.is_multiple_of(X86_TILE_ROWS);
                fits && match tensor_type {
                    T::Q4_K => true,
                    T::Q6_K => n_rows > 1,
                    T::Q8_0 => level != X86Level::Avx2,
                    _ => false,
                }
            }
            Isa::Arm { dotprod } => {
                dotprod
                    && match tensor_type {
                        T::Q4_0 | T::Q8_0 => n.is_multiple_of(4),
                        T::Q4_K | T::Q5_K | T::Q6_K => n.is_multiple_of(8),
                        _ => false,
                    }
            }
        };
        match self.isa {
            Isa::X86 { amx: true, .. } if tiled && tensor_type == T::Q4_K && n_rows >= 32 => {
                KernelPath::Amx
            }
            _ if tiled => KernelPath::Tiled,
            // candle has vector dot products for all types but these.
            _ if matches!(tensor_type, T::Q4_1 | T::Q5_0 | T::Q5_1 | T::Q8_1) => KernelPath::Scalar,
            _ => KernelPath::RowDot,
        }
    }

    /// Bytes that a pass reads of `n_weights` weights of this type through this kernel.
    ///
    /// x86 tiles hold 16 rows of one super-block: `Q4_K` 3,072 bytes per 4,096 weights (scales
    /// and minima unpacked to F32; 5,120 for AMX), `Q6_K` 5,120, `Q8_0` 544 per 512. Arm tiles keep
    /// the stored size. Floating-point weights are dequantized to F32: 4 bytes each.
    pub fn executed_bytes(&self, tensor_type: TensorType, path: KernelPath, n_weights: u64) -> u64 {
        let x86 = matches!(self.isa, Isa::X86 { .. });
        if self.engine == Engine::LlamaCpp {
            return tensor_type.bytes(n_weights);
        }
        match (path, tensor_type) {
            (KernelPath::Gemm, _) => 4 * n_weights,
            (KernelPath::Tiled, TensorType::Q4_K) if x86 => n_weights * 3072 / 4096,
            (KernelPath::Amx, TensorType::Q4_K) if x86 => n_weights * 5120 / 4096,
            (KernelPath::Tiled, TensorType::Q6_K) if x86 => n_weights * 5120 / 4096,
            (KernelPath::Tiled, TensorType::Q8_0) if x86 => n_weights * 544 / 512,
            _ => tensor_type.bytes(n_weights),
        }
    }

    /// Bytes that a `[k, n]` matrix takes in memory once it has been multiplied by one row and,
    /// unless `one_row_only`, by several: the stored copy and every repacked one.
    pub fn resident_bytes(
        &self,
        tensor_type: TensorType,
        k: u64,
        n: u64,
        one_row_only: bool,
    ) -> u64 {
        let n_weights = k * n;
        if self.engine == Engine::LlamaCpp {
            return tensor_type.bytes(k) * n;
        }
        if tensor_type.is_float() {
            return 4 * n_weights;
        }
        let mut bytes = tensor_type.bytes(k) * n;
        let rows: &[u32] = if one_row_only { &[1] } else { &[1, 4, 512] };
        let mut packed = Vec::new();
        for &n_rows in rows {
            let path = self.kernel(tensor_type, n_rows, k, n);
            if matches!(path, KernelPath::Tiled | KernelPath::Amx) && !packed.contains(&path) {
                packed.push(path);
                bytes += self.executed_bytes(tensor_type, path, n_weights);
            }
        }
        bytes
    }

    /// Bytes of this many numbers of the KV cache.
    pub fn kv_bytes(&self, n_elements: u64) -> u64 {
        self.kv_type.bytes(n_elements)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const ZEN5: EngineProfile =
        EngineProfile::candle_on(Isa::X86 { level: X86Level::Avx512Vnni, amx: false });

    pub(crate) const CUDA: EngineProfile = EngineProfile::candle_on(Isa::Cuda);

    #[test]
    fn gpus_multiply_what_is_stored_and_keep_one_copy() {
        let n = 2048 * 2048;
        for tensor_type in [TensorType::Q4_K, TensorType::Q6_K, TensorType::Q8_0, TensorType::Q5_0]
        {
            let stored = tensor_type.bytes(n);
            assert_eq!(CUDA.kernel(tensor_type, 8, 2048, 2048), KernelPath::GpuVector);
            assert_eq!(CUDA.kernel(tensor_type, 9, 2048, 2048), KernelPath::GpuTiled);
            assert_eq!(CUDA.resident_bytes(tensor_type, 2048, 2048, false), stored);
            assert_eq!(CUDA.executed_bytes(tensor_type, KernelPath::GpuTiled, n), stored);
            let metal = EngineProfile::candle_on(Isa::Metal);
            assert_eq!(metal.kernel(tensor_type, 1, 2048, 2048), KernelPath::GpuVector);
            assert_eq!(metal.kernel(tensor_type, 2, 2048, 2048), KernelPath::GpuTiled);
        }
        // Floating-point weights become F32 there too.
        assert_eq!(CUDA.kernel(TensorType::F16, 1, 2048, 2048), KernelPath::Gemm);
        assert_eq!(CUDA.resident_bytes(TensorType::F16, 2048, 2048, false), 4 * n);
    }

    #[test]
    fn f16_weights_take_four_bytes_in_candle() {
        assert_eq!(ZEN5.resident_bytes(TensorType::F16, 2048, 2048, false), 4 * 2048 * 2048);
        let path = ZEN5.kernel(TensorType::F16, 1, 2048, 2048);
        assert_eq!(ZEN5.executed_bytes(TensorType::F16, path, 100), 400);
    }

    #[test]
    fn q4_k_keeps_two_copies_and_reads_the_larger() {
        let n = 2048 * 2048;
        assert_eq!(
            ZEN5.resident_bytes(TensorType::Q4_K, 2048, 2048, false),
            n * 144 / 256 + n * 3 / 4
        );
        assert_eq!(ZEN5.executed_bytes(TensorType::Q4_K, KernelPath::Tiled, n), n * 3 / 4);
    }

    #[test]
    fn q6_k_is_tiled_for_many_rows_only() {
        assert_eq!(ZEN5.kernel(TensorType::Q6_K, 1, 2048, 2048), KernelPath::RowDot);
        assert_eq!(ZEN5.kernel(TensorType::Q6_K, 2, 2048, 2048), KernelPath::Tiled);
        let n = 2048 * 2048;
        assert_eq!(ZEN5.resident_bytes(TensorType::Q6_K, 2048, 2048, true), n * 210 / 256);
        assert_eq!(
            ZEN5.resident_bytes(TensorType::Q6_K, 2048, 2048, false),
            n * 210 / 256 + n * 5 / 4
        );
    }

    #[test]
    fn odd_widths_fall_off_the_tiles() {
        assert_eq!(ZEN5.kernel(TensorType::Q8_0, 1, 576, 576), KernelPath::RowDot);
        assert_eq!(ZEN5.kernel(TensorType::Q8_0, 1, 1536, 576), KernelPath::Tiled);
        assert_eq!(ZEN5.kernel(TensorType::Q8_0, 1, 1536, 570), KernelPath::RowDot);
        assert_eq!(ZEN5.kernel(TensorType::Q5_0, 1, 576, 576), KernelPath::Scalar);
    }

    #[test]
    fn plain_avx2_has_no_q8_0_tiles() {
        let avx2 = EngineProfile::candle_on(Isa::X86 { level: X86Level::Avx2, amx: false });
        assert_eq!(avx2.kernel(TensorType::Q8_0, 1, 2048, 2048), KernelPath::RowDot);
        assert_eq!(avx2.kernel(TensorType::Q4_K, 1, 2048, 2048), KernelPath::Tiled);
    }

    #[test]
    fn arm_tiles_keep_the_stored_size() {
        let arm = EngineProfile::candle_on(Isa::Arm { dotprod: true });
        assert_eq!(arm.kernel(TensorType::Q4_0, 1, 2048, 2048), KernelPath::Tiled);
        assert_eq!(arm.executed_bytes(TensorType::Q4_K, KernelPath::Tiled, 4096), 2304);
    }

    #[test]
    fn amx_takes_large_q4_k_prefills() {
        let amx = EngineProfile::candle_on(Isa::X86 { level: X86Level::Avx512Vnni, amx: true });
        assert_eq!(amx.kernel(TensorType::Q4_K, 64, 2048, 2048), KernelPath::Amx);
        assert_eq!(amx.kernel(TensorType::Q4_K, 16, 2048, 2048), KernelPath::Tiled);
        // Stored, tiles for one row, tiles for AMX: 2304 + 3072 + 5120 bytes per 4096 weights.
        let n = 2048 * 2048;
        assert_eq!(amx.resident_bytes(TensorType::Q4_K, 2048, 2048, false), n / 4096 * 10496);
    }

    #[test]
    fn types_of_the_cache_belong_to_the_engine() {
        let error = ZEN5.with_kv_type("q8_0").unwrap_err().to_string();
        assert_eq!(error, "candle keeps its KV cache in f32, not in `q8_0`; use --kv-type f32");
        let llama_cpp = EngineProfile::llama_cpp(ZEN5.isa);
        assert_eq!(llama_cpp.kv_bytes(64), 128);
        assert_eq!(llama_cpp.with_kv_type("Q8_0").unwrap().kv_bytes(64), 68);
        assert!(llama_cpp.with_kv_type("q9").unwrap_err().to_string().contains("f16, f32"));
    }

    #[test]
    fn llama_cpp_executes_what_is_stored() {
        let engine = EngineProfile::llama_cpp(ZEN5.isa);
        let path = engine.kernel(TensorType::Q4_K, 1, 2048, 2048);
        assert_eq!(engine.executed_bytes(TensorType::Q4_K, path, 256), 144);
        assert_eq!(engine.resident_bytes(TensorType::F16, 256, 2, false), 1024);
    }
}
