//! Kernel classes: what shares one set of coefficients.

use foretoken_spec::{OpKind, TensorType};

/// How an engine computes attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttentionForm {
    /// Score matrices in memory, one head after the other; keys and values for every head.
    Materialised,
    /// Scores that are never stored: one pass over keys and values.
    Flash,
}

/// How an engine multiplies by a weight matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelPath {
    /// Repacked tiles of several rows, integer dot products.
    Tiled,
    /// AMX tiles (`Q4_K`, 32 rows and more).
    Amx,
    /// Dot products of stored rows by vector instructions.
    RowDot,
    /// Dot products of stored rows without them: no kernel was written for the type.
    Scalar,
    /// Dense F32 multiplication of dequantized weights.
    Gemm,
    /// Dot products of stored rows on a graphics device, for few rows.
    GpuVector,
    /// Tiles of stored rows on a graphics device, for many.
    GpuTiled,
}

impl KernelPath {
    /// Every kernel.
    pub const ALL: &'static [KernelPath] = &[
        Self::Tiled,
        Self::Amx,
        Self::RowDot,
        Self::Scalar,
        Self::Gemm,
        Self::GpuVector,
        Self::GpuTiled,
    ];

    /// Name in keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiled => "tiled",
            Self::Amx => "amx",
            Self::RowDot => "row_dot",
            Self::Scalar => "scalar",
            Self::Gemm => "gemm",
            Self::GpuVector => "gpu_vector",
            Self::GpuTiled => "gpu_tiled",
        }
    }
}

/// Kernels for one row and for several are different code, in every engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Regime {
    /// One row of activations: decode, and the LM head always.
    OneRow,
    /// Two rows and more: prefill.
    ManyRows,
}

impl Regime {
    /// The regime of this many rows.
    pub fn of(n_rows: u32) -> Self {
        if n_rows <= 1 { Self::OneRow } else { Self::ManyRows }
    }

    /// Name in keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneRow => "one_row",
            Self::ManyRows => "many_rows",
        }
    }
}

/// What shares one set of coefficients: an operation, a regime and, for matmuls, the tensor
/// type and the kernel that executes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelClass {
    /// Operation; [`OpKind::LmHead`] counts as [`OpKind::Matmul`], it is the same kernel.
    pub op: OpKind,
    /// Tensor type and kernel of a matmul.
    pub matmul: Option<(TensorType, KernelPath)>,
    /// Rows.
    pub regime: Regime,
    /// How attention is computed; [`AttentionForm::Materialised`] of any other operation.
    pub attention: AttentionForm,
    /// Whether the operation stands between dense F32 multiplications, whose thread pool is not
    /// that of the integer kernels. Never set for a matmul.
    pub beside_gemm: bool,
}

impl KernelClass {
    /// The class of a multiplication by weights.
    ///
    /// Floating-point weights are dequantized to F32 and share the class of F32.
    pub fn matmul(tensor_type: TensorType, path: KernelPath, n_rows: u32) -> Self {
        let tensor_type = if path == KernelPath::Gemm { TensorType::F32 } else { tensor_type };
        Self {
            op: OpKind::Matmul,
            matmul: Some((tensor_type, path)),
            regime: Regime::of(n_rows),
            attention: AttentionForm::Materialised,
            beside_gemm: false,
        }
    }

    /// The class of any other operation, in a model of floating-point weights or of integer ones.
    pub fn plain(op: OpKind, n_rows: u32, beside_gemm: bool) -> Self {
        Self {
            op,
            matmul: None,
            regime: Regime::of(n_rows),
            attention: AttentionForm::Materialised,
            beside_gemm,
        }
    }

    /// The class of attention of this form.
    pub fn attention(form: AttentionForm, n_rows: u32, beside_gemm: bool) -> Self {
        Self { attention: form, ..Self::plain(OpKind::Attention, n_rows, beside_gemm) }
    }

    /// The key that a calibration stores: `matmul.q4_k.tiled.one_row`, `attention.many_rows`,
    /// `attention.flash.one_row`.
    pub fn key(&self) -> String {
        let regime = self.regime.name();
        match self.matmul {
            Some((tensor_type, path)) => {
                let quant = tensor_type.name().to_lowercase();
                format!("{}.{quant}.{}.{regime}", self.op.name(), path.name())
            }
            None => {
                let flash = if self.attention == AttentionForm::Flash { ".flash" } else { "" };
                let beside = if self.beside_gemm { ".beside_gemm" } else { "" };
                format!("{}{flash}{beside}.{regime}", self.op.name())
            }
        }
    }

    /// The class of a key; `None` of a key that no version ever wrote.
    pub fn from_key(key: &str) -> Option<Self> {
        let parts: Vec<&str> = key.split('.').collect();
        let op = OpKind::ALL.iter().copied().find(|op| Some(&op.name()) == parts.first())?;
        let regime = [Regime::OneRow, Regime::ManyRows]
            .into_iter()
            .find(|regime| Some(&regime.name()) == parts.last())?;
        let materialised = AttentionForm::Materialised;
        let (matmul, attention, beside_gemm) = match parts[..] {
            [_, "flash", "beside_gemm", _] => (None, AttentionForm::Flash, true),
            [_, "flash", _] => (None, AttentionForm::Flash, false),
            [_, "beside_gemm", _] => (None, materialised, true),
            [_, _] => (None, materialised, false),
            [_, quant, path, _] => {
                let path = KernelPath::ALL.iter().copied().find(|p| p.name() == path)?;
                (Some((TensorType::from_name(quant)?, path)), materialised, false)
            }
            _ => return None,
        };
        Some(Self { op, matmul, regime, attention, beside_gemm })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_quantization_kernel_and_regime() {
        let class = KernelClass::matmul(TensorType::Q4_K, KernelPath::Tiled, 1);
        assert_eq!(class.key(), "matmul.q4_k.tiled.one_row");
        assert_eq!(KernelClass::from_key(&class.key()), Some(class));
        assert_eq!(KernelClass::from_key("matmul.q9.tiled.one_row"), None);
        assert_eq!(KernelClass::from_key(""), None);
        let class = KernelClass::plain(OpKind::Attention, 512, false);
        assert_eq!(class.key(), "attention.many_rows");
        let class = KernelClass::plain(OpKind::Rope, 1, true);
        assert_eq!(class.key(), "rope.beside_gemm.one_row");
        assert_eq!(KernelClass::from_key(&class.key()), Some(class));
        for beside_gemm in [false, true] {
            let class = KernelClass::attention(AttentionForm::Flash, 1, beside_gemm);
            assert_eq!(KernelClass::from_key(&class.key()), Some(class));
        }
        let class = KernelClass::attention(AttentionForm::Flash, 1, false);
        assert_eq!(class.key(), "attention.flash.one_row");
    }
}
