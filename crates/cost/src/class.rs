//! Kernel classes: what shares one set of coefficients.

use foretoken_spec::{OpKind, Phase, TensorType};

/// How an engine multiplies by a weight matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelPath {
    /// Repacked tiles of several rows, integer dot products.
    Tiled,
    /// AMX tiles (`Q4_K`, 32 rows and more).
    Amx,
    /// Dot products of stored rows.
    RowDot,
    /// Dense F32 multiplication of dequantized weights.
    Gemm,
}

impl KernelPath {
    /// Every kernel.
    pub const ALL: &'static [KernelPath] = &[Self::Tiled, Self::Amx, Self::RowDot, Self::Gemm];

    /// Name in keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiled => "tiled",
            Self::Amx => "amx",
            Self::RowDot => "row_dot",
            Self::Gemm => "gemm",
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
}

impl KernelClass {
    /// The class of a multiplication by weights.
    ///
    /// Floating-point weights are dequantized to F32 and share the class of F32.
    pub fn matmul(tensor_type: TensorType, path: KernelPath, n_rows: u32) -> Self {
        let tensor_type = if path == KernelPath::Gemm { TensorType::F32 } else { tensor_type };
        Self { op: OpKind::Matmul, matmul: Some((tensor_type, path)), regime: Regime::of(n_rows) }
    }

    /// The class of any other operation.
    pub fn plain(op: OpKind, n_rows: u32) -> Self {
        Self { op, matmul: None, regime: Regime::of(n_rows) }
    }

    /// The key that a calibration stores: `matmul.q4_k.tiled.one_row`, `attention.many_rows`.
    pub fn key(&self) -> String {
        let regime = self.regime.name();
        match self.matmul {
            Some((tensor_type, path)) => {
                let quant = tensor_type.name().to_lowercase();
                format!("{}.{quant}.{}.{regime}", self.op.name(), path.name())
            }
            None => format!("{}.{regime}", self.op.name()),
        }
    }

    /// The class of a key; `None` of a key that no version ever wrote.
    pub fn from_key(key: &str) -> Option<Self> {
        let parts: Vec<&str> = key.split('.').collect();
        let op = OpKind::ALL.iter().copied().find(|op| Some(&op.name()) == parts.first())?;
        let regime = [Regime::OneRow, Regime::ManyRows]
            .into_iter()
            .find(|regime| Some(&regime.name()) == parts.last())?;
        let matmul = match parts[..] {
            [_, quant, path, _] => {
                let path = KernelPath::ALL.iter().copied().find(|p| p.name() == path)?;
                Some((TensorType::from_name(quant)?, path))
            }
            [_, _] => None,
            _ => return None,
        };
        Some(Self { op, matmul, regime })
    }

    /// The phase whose passes this regime dominates.
    pub fn phase(&self) -> Phase {
        match self.regime {
            Regime::OneRow => Phase::Decode,
            Regime::ManyRows => Phase::Prefill,
        }
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
        assert_eq!(KernelClass::plain(OpKind::Attention, 512).key(), "attention.many_rows");
    }
}
