//! Whose coefficients a kernel is predicted with: its own, or those of the measured kernel that is
//! most like it.

use foretoken_cost::{Feature, KernelClass, KernelPath, OpCost, Regime};
use foretoken_spec::TensorType;

use crate::Predictor;
use crate::predictor::Coefficient;
use crate::tally::Borrowing;

/// What a kernel class stands on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Anchor {
    /// Class whose coefficients are used.
    pub class: KernelClass,
    /// Whose they are.
    pub borrowing: Borrowing,
    /// Bytes of the class for one byte of the kernel: a kernel that computes more than it reads
    /// takes as long for each weight, however small it is stored.
    pub weight_bytes_factor: f64,
}

impl Anchor {
    fn own(class: KernelClass) -> Self {
        Self { class, borrowing: Borrowing::Own, weight_bytes_factor: 1.0 }
    }

    /// The operation as the class would see it.
    pub fn stand_in(&self, op: &OpCost) -> OpCost {
        if self.weight_bytes_factor == 1.0 {
            return *op;
        }
        let features = op.features.scaled(Feature::WeightBytes, self.weight_bytes_factor);
        OpCost { features, ..*op }
    }
}

impl Predictor<'_> {
    /// The class itself, or the measured relative that stands in for it: the same operation and
    /// regime, and the nearest kernel and number of bits.
    pub(crate) fn anchor(&self, class: &KernelClass) -> Option<Anchor> {
        if self.terms.contains_key(class) {
            return Some(Anchor::own(*class));
        }
        let Some(wanted) = class.matmul else {
            let other = KernelClass { beside_gemm: !class.beside_gemm, ..*class };
            let near = Anchor { borrowing: Borrowing::Near, ..Anchor::own(other) };
            return self.terms.contains_key(&other).then_some(near);
        };
        let (_, class, known) = self
            .terms
            .keys()
            .filter(|known| known.op == class.op && known.regime == class.regime)
            .filter_map(|known| {
                let matmul = known.matmul?;
                Some((unlikeness(wanted, matmul, class.regime), *known, matmul))
            })
            .min_by(|a, b| a.0.total_cmp(&b.0))?;
        let is_near = is_alike(wanted, known);
        Some(Anchor {
            class,
            borrowing: if is_near { Borrowing::Near } else { Borrowing::Far },
            weight_bytes_factor: self.weight_bytes_factor(wanted, known, &class),
        })
    }

    /// Bytes of `known` that take as long as one byte of `wanted`, in one-row kernels: where the
    /// known kernel is held up by memory, one; where it is held up by arithmetic, as many as hold
    /// the same weights, but never faster than memory.
    fn weight_bytes_factor(
        &self,
        wanted: (TensorType, KernelPath),
        known: (TensorType, KernelPath),
        class: &KernelClass,
    ) -> f64 {
        let of = |c: &&Coefficient| c.feature == Feature::WeightBytes && c.seconds_per_unit > 0.0;
        let coefficient = self.coefficients(class).iter().find(of);
        let Some(rate) = coefficient.map(|c| 1.0 / c.seconds_per_unit) else { return 1.0 };
        let peak = self.calibration().ceilings.stream_bytes_per_second;
        if class.regime == Regime::ManyRows || rate >= MEMORY_BOUND * peak {
            return 1.0;
        }
        let bytes = |(tensor_type, path)| {
            self.engine().executed_bytes(tensor_type, path, WEIGHTS_COMPARED) as f64
        };
        (bytes(known) / bytes(wanted)).max(rate / peak)
    }
}

/// Share of the highest streaming rate from which a kernel is held up by memory.
const MEMORY_BOUND: f64 = 0.7;
/// Whole blocks of every tensor type, to compare how many bytes they take.
const WEIGHTS_COMPARED: u64 = 1 << 16;

/// How little one matmul kernel says about another: the log-ratio of their bits, plus a penalty
/// for other blocks, where stored rows are read one by one, and for another kernel. With one row
/// both stream weights, so that tiles and stored rows are close; with many rows they are not, and
/// scalar code never is.
fn unlikeness(
    (wanted_type, wanted_path): (TensorType, KernelPath),
    (known_type, known_path): (TensorType, KernelPath),
    regime: Regime,
) -> f64 {
    let bits = (known_type.bits_per_weight() / wanted_type.bits_per_weight()).ln().abs();
    let is_row_dot = wanted_path == KernelPath::RowDot || known_path == KernelPath::RowDot;
    let same_blocks = wanted_type.block_len() == known_type.block_len();
    let blocks = match (same_blocks, is_row_dot) {
        (true, _) => 0.0,
        (false, true) => 2.0,
        (false, false) => 0.3,
    };
    let is_vector = |p| matches!(p, KernelPath::Tiled | KernelPath::Amx | KernelPath::RowDot);
    let kernel = match regime {
        _ if wanted_path == known_path => 0.0,
        Regime::OneRow if is_vector(wanted_path) && is_vector(known_path) => 0.5,
        Regime::ManyRows if is_vector(wanted_path) && is_vector(known_path) => 3.0,
        _ => 20.0,
    };
    bits + blocks + kernel
}

/// Whether two types are multiplied by the same kind of code: the same kernel and, where stored
/// rows are read one by one, the same blocks.
fn is_alike(
    (wanted_type, wanted_path): (TensorType, KernelPath),
    (known_type, known_path): (TensorType, KernelPath),
) -> bool {
    let same_blocks = wanted_type.block_len() == known_type.block_len();
    // Codebooks and ternary weights are unpacked by code of their own.
    let is_plain =
        |t: TensorType| !["IQ", "TQ", "MXFP", "NVFP"].iter().any(|p| t.name().starts_with(p));
    wanted_path == known_path
        && is_plain(wanted_type) == is_plain(known_type)
        && (same_blocks || wanted_path == KernelPath::Tiled)
}
