//! Pools of random blocks: each tensor repeats its type's pool from a place of its own.
//!
//! A pool is made once, from a fixed seed. Its number of blocks is prime, so the rows of a matrix
//! do not repeat. Scales are such that the weights have a standard deviation of about 0.02, as
//! transformers are initialised: activations stay finite and normal through all layers, and no
//! scale is an f16 subnormal. The layouts are those of ggml (`ggml-common.h`).

use std::sync::OnceLock;

use foretoken_spec::{TensorSpec, TensorType};

use super::index;

/// Standard deviation of the weights.
const SIGMA: f64 = 0.02;
/// Blocks of a pool of quantized blocks; prime.
const N_BLOCKS: usize = 4093;
/// Numbers of a pool of floating-point weights; prime.
const N_FLOATS: usize = 65_521;
/// Numbers of a pool of equal values.
const N_EQUAL: usize = 4096;

/// Standard deviation of n consecutive integers, each as likely: sqrt((n² − 1) / 12).
fn spread(n: f64) -> f64 {
    ((n * n - 1.0) / 12.0).sqrt()
}

/// Blocks of one type, repeated without end.
pub(super) struct Pool {
    bytes: Vec<u8>,
    block_bytes: usize,
}

impl Pool {
    /// Where a tensor of this name begins: at a block that depends on the name (FNV-1a).
    pub(super) fn phase(&self, name: &str) -> u64 {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let n_blocks = (self.bytes.len() / self.block_bytes).max(1) as u64;
        hash % n_blocks * self.block_bytes as u64
    }

    /// Copies from the endless repetition, beginning at byte `from`.
    pub(super) fn fill(&self, from: u64, mut out: &mut [u8]) {
        let mut at = index(from % self.bytes.len() as u64);
        while !out.is_empty() {
            let source = self.bytes.get(at..).unwrap_or_default();
            let n = super::copy_prefix(out, source);
            out = out.get_mut(n..).unwrap_or_default();
            at = 0;
        }
    }
}

/// The pool of a tensor: ones for vectors, random blocks of its type for matrices.
pub(super) fn pool(tensor: &TensorSpec) -> &'static Pool {
    static ONES: OnceLock<Pool> = OnceLock::new();
    static POOLS: OnceLock<Vec<(TensorType, OnceLock<Pool>)>> = OnceLock::new();
    static ZEROS: OnceLock<Pool> = OnceLock::new();
    if tensor.tensor_type == TensorType::F32 && tensor.role.is_vector() {
        return ONES
            .get_or_init(|| Pool { bytes: 1f32.to_le_bytes().repeat(N_EQUAL), block_bytes: 4 });
    }
    let pools = POOLS.get_or_init(|| {
        TensorType::ALL.iter().map(|&tensor_type| (tensor_type, OnceLock::new())).collect()
    });
    match pools.iter().find(|(tensor_type, _)| *tensor_type == tensor.tensor_type) {
        Some((tensor_type, pool)) => pool.get_or_init(|| random_pool(*tensor_type)),
        None => ZEROS.get_or_init(|| Pool { bytes: vec![0; N_EQUAL], block_bytes: 1 }),
    }
}

fn random_pool(tensor_type: TensorType) -> Pool {
    let block_bytes = index(tensor_type.block_bytes());
    let n = if tensor_type.is_float() { N_FLOATS } else { N_BLOCKS };
    let mut random = Random(0x466f_7265_746f_6b65 ^ u64::from(tensor_type.id()));
    let mut bytes = Vec::with_capacity(n * block_bytes);
    for _ in 0..n {
        push_block(&mut bytes, tensor_type, &mut random);
    }
    debug_assert_eq!(bytes.len(), n * block_bytes, "{tensor_type}");
    Pool { bytes, block_bytes }
}

fn push_block(out: &mut Vec<u8>, tensor_type: TensorType, random: &mut Random) {
    match tensor_type {
        TensorType::F32 => out.extend((random.weight() as f32).to_le_bytes()),
        TensorType::F64 => out.extend(random.weight().to_le_bytes()),
        TensorType::F16 => out.extend(f16(random.weight())),
        TensorType::BF16 => out.extend(bf16(random.weight())),
        TensorType::Q4_0 => {
            out.extend(f16(random.signed_jitter(SIGMA / spread(16.0))));
            random.push_bytes(out, 16);
        }
        TensorType::Q4_1 => push_with_minimum(out, random, 16.0, 16),
        TensorType::Q5_0 => {
            out.extend(f16(random.signed_jitter(SIGMA / spread(32.0))));
            random.push_bytes(out, 4 + 16);
        }
        TensorType::Q5_1 => push_with_minimum(out, random, 32.0, 4 + 16),
        TensorType::Q8_0 => {
            out.extend(f16(random.signed_jitter(SIGMA / spread(255.0))));
            for _ in 0..32 {
                let quant = random.below(255) as i16 - 127;
                out.extend((quant as i8).to_le_bytes());
            }
        }
        TensorType::Q4_K => push_k_block(out, random, 16.0, (32, 63), 128),
        TensorType::Q5_K => push_k_block(out, random, 32.0, (16, 31), 32 + 128),
        TensorType::Q6_K => push_q6_k(out, random),
        TensorType::Q2_K => push_q2_k(out, random),
        TensorType::Q3_K => push_q3_k(out, random),
        other => out.resize(out.len() + index(other.block_bytes()), 0),
    }
}

/// `d`, `m`, quants: weight = d·q + m with q of `levels` levels and a mean weight of 0.
fn push_with_minimum(out: &mut Vec<u8>, random: &mut Random, levels: f64, quant_bytes: usize) {
    let d = random.jitter(SIGMA / spread(levels));
    out.extend(f16(d));
    out.extend(f16(-d * (levels - 1.0) / 2.0));
    random.push_bytes(out, quant_bytes);
}

/// Q4_K and Q5_K: weight = d·scale·q − dmin·min with 6-bit scales and mins for 8 groups of 32.
///
/// Each group's min equals its scale, and dmin = d · (mean of q), so that the mean weight is 0.
fn push_k_block(
    out: &mut Vec<u8>,
    random: &mut Random,
    levels: f64,
    (least, most): (u64, u64),
    quant_bytes: usize,
) {
    let scales: [u8; 8] = std::array::from_fn(|_| (least + random.below(most - least + 1)) as u8);
    let typical = root_mean_square(least, most);
    let d = random.jitter(SIGMA / (spread(levels) * typical));
    out.extend(f16(d));
    out.extend(f16(d * (levels - 1.0) / 2.0));
    out.extend(pack_k_scales(scales, scales));
    random.push_bytes(out, quant_bytes);
}

/// The 12 bytes of eight 6-bit scales and eight 6-bit mins.
fn pack_k_scales(scales: [u8; 8], mins: [u8; 8]) -> [u8; 12] {
    let [s0, s1, s2, s3, high_s @ ..] = scales;
    let [m0, m1, m2, m3, high_m @ ..] = mins;
    let mut packed = [s0, s1, s2, s3, m0, m1, m2, m3, 0, 0, 0, 0];
    for (i, (scale, min)) in high_s.into_iter().zip(high_m).enumerate() {
        // The low four bits go to the last bytes, the high two above the first groups' six.
        if let Some(byte) = packed.get_mut(i + 8) {
            *byte = (scale & 0x0f) | (min & 0x0f) << 4;
        }
        if let Some(byte) = packed.get_mut(i) {
            *byte |= scale >> 4 << 6;
        }
        if let Some(byte) = packed.get_mut(i + 4) {
            *byte |= min >> 4 << 6;
        }
    }
    packed
}

/// Q6_K: low bits, high bits, 16 signed scales, d: weight = d·scale·(q − 32).
fn push_q6_k(out: &mut Vec<u8>, random: &mut Random) {
    let (least, most) = (8, 16);
    random.push_bytes(out, 128 + 64);
    for _ in 0..16 {
        let size = (least + random.below(most - least + 1)) as i8;
        let scale = if random.below(2) == 0 { size } else { -size };
        out.extend(scale.to_le_bytes());
    }
    let d = SIGMA / (spread(64.0) * root_mean_square(least, most));
    out.extend(f16(random.jitter(d)));
}

/// Q2_K: 16 scales and mins of 4 bits, quants, d, dmin: weight = d·scale·q − dmin·min.
///
/// Each group's min equals its scale, and dmin = d · (mean of q), so that the mean weight is 0.
fn push_q2_k(out: &mut Vec<u8>, random: &mut Random) {
    let (least, most) = (8, 15);
    for _ in 0..16 {
        let scale = (least + random.below(most - least + 1)) as u8;
        out.push(scale | scale << 4);
    }
    random.push_bytes(out, 64);
    let d = random.jitter(SIGMA / (spread(4.0) * root_mean_square(least, most)));
    out.extend(f16(d));
    out.extend(f16(d * 1.5));
}

/// Q3_K: high bits, low bits, 16 scales of 6 bits in 12 bytes, d: weight = d·(scale − 32)·(q − 4).
///
/// The scales are random bytes: all 64 values are as likely.
fn push_q3_k(out: &mut Vec<u8>, random: &mut Random) {
    random.push_bytes(out, 32 + 64 + 12);
    out.extend(f16(random.jitter(SIGMA / (spread(8.0) * spread(64.0)))));
}

fn root_mean_square(least: u64, most: u64) -> f64 {
    let squares: u64 = (least..=most).map(|n| n * n).sum();
    (squares as f64 / (most - least + 1) as f64).sqrt()
}

/// The two bytes of a number in f16, whose magnitude must be in the normal range.
fn f16(value: f64) -> [u8; 2] {
    let bits = (value as f32).to_bits();
    let sign = (bits >> 16) & 0x8000;
    let exponent = ((bits >> 23) & 0xff).saturating_sub(127 - 15);
    debug_assert!((1..31).contains(&exponent), "{value} is not normal in f16");
    // Rounding may carry into the exponent, which is what it should do.
    let magnitude = ((exponent << 23 | (bits & 0x007f_ffff)) + (1 << 12)) >> 13;
    ((sign | magnitude) as u16).to_le_bytes()
}

/// The two bytes of a number in bf16.
fn bf16(value: f64) -> [u8; 2] {
    let bits = (value as f32).to_bits();
    (((bits + (1 << 15)) >> 16) as u16).to_le_bytes()
}

/// SplitMix64 (Steele, Lea and Flood, 2014): small, fast, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..n.
    fn below(&mut self, n: u64) -> u64 {
        ((self.next() >> 32) * n) >> 32
    }

    /// Within 10 % of a scale.
    fn jitter(&mut self, scale: f64) -> f64 {
        scale * (0.9 + 0.2 * self.unit())
    }

    /// Within 10 % of a scale, with either sign.
    fn signed_jitter(&mut self, scale: f64) -> f64 {
        let size = self.jitter(scale);
        if self.below(2) == 0 { size } else { -size }
    }

    /// Nearly normal with [`SIGMA`] (the sum of four uniform numbers), never so near 0 that f16
    /// could not store it as a normal number.
    fn weight(&mut self) -> f64 {
        const SMALLEST: f64 = 1e-4;
        let sum: f64 = (0..4).map(|_| self.unit()).sum();
        let weight = (sum - 2.0) * SIGMA * 3f64.sqrt();
        if weight < 0.0 { weight.min(-SMALLEST) } else { weight.max(SMALLEST) }
    }

    fn push_bytes(&mut self, out: &mut Vec<u8>, n: usize) {
        let words = (0..n.div_ceil(8)).flat_map(|_| self.next().to_le_bytes());
        out.extend(words.take(n));
    }
}

#[cfg(test)]
mod tests;
