use foretoken_spec::TensorRole;

use super::*;

/// The number in two bytes of f16; normal numbers only.
fn of_f16(bytes: &[u8]) -> f64 {
    let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
    let exponent = i32::from(bits >> 10 & 31);
    assert!((1..31).contains(&exponent), "{bits:#06x} is not a normal f16");
    let size = (1.0 + f64::from(bits & 1023) / 1024.0) * 2f64.powi(exponent - 15);
    if bits >> 15 == 1 { -size } else { size }
}

fn nibbles(bytes: &[u8]) -> Vec<f64> {
    let low = bytes.iter().map(|b| f64::from(b & 15));
    low.chain(bytes.iter().map(|b| f64::from(b >> 4))).collect()
}

/// The k-th bit of a 32-bit mask, as the fifth bit of a quant.
fn fifth(mask: &[u8], k: usize) -> f64 {
    16.0 * f64::from(mask[k / 8] >> (k % 8) & 1)
}

/// Scale and min of group j, as ggml unpacks them.
fn k_scale(packed: &[u8], j: usize) -> (f64, f64) {
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (
            (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4,
            (packed[j + 4] >> 4) | (packed[j] >> 6) << 4,
        )
    };
    (f64::from(scale), f64::from(min))
}

/// A dequantizer written from the layouts alone: slow, and independent of the writer.
fn weights(tensor_type: TensorType, block: &[u8]) -> Vec<f64> {
    match tensor_type {
        TensorType::F32 => vec![f64::from(f32::from_le_bytes(block.try_into().unwrap()))],
        TensorType::F16 => vec![of_f16(block)],
        TensorType::BF16 => {
            vec![f32::from_bits(u32::from(u16::from_le_bytes([block[0], block[1]])) << 16).into()]
        }
        TensorType::Q4_0 => {
            nibbles(&block[2..]).iter().map(|q| of_f16(block) * (q - 8.0)).collect()
        }
        TensorType::Q5_0 => nibbles(&block[6..])
            .iter()
            .enumerate()
            .map(|(k, q)| of_f16(block) * (q + fifth(&block[2..6], k) - 16.0))
            .collect(),
        TensorType::Q5_1 => nibbles(&block[8..])
            .iter()
            .enumerate()
            .map(|(k, q)| of_f16(block) * (q + fifth(&block[4..8], k)) + of_f16(&block[2..]))
            .collect(),
        TensorType::Q8_0 => {
            block[2..].iter().map(|&q| of_f16(block) * f64::from(q as i8)).collect()
        }
        TensorType::Q4_K | TensorType::Q5_K => {
            let (d, dmin) = (of_f16(block), of_f16(&block[2..]));
            let (high, quants) = block[16..].split_at(block.len() - 16 - 128);
            let weight = |i: usize| {
                let (group, k) = (i / 32, i % 32);
                let byte = quants[group / 2 * 32 + k];
                let low = if group % 2 == 0 { byte & 15 } else { byte >> 4 };
                let bit = high.get(k).map_or(0, |byte| byte >> group & 1);
                let (scale, min) = k_scale(&block[4..16], group);
                d * scale * f64::from(low + 16 * bit) - dmin * min
            };
            (0..256).map(weight).collect()
        }
        TensorType::Q6_K => {
            let d = of_f16(&block[208..]);
            let weight = |i: usize| {
                let (half, part, k) = (i / 128, i % 128 / 32, i % 32);
                let low = block[half * 64 + part % 2 * 32 + k];
                let low = if part < 2 { low & 15 } else { low >> 4 };
                let high = block[128 + half * 32 + k] >> (2 * part) & 3;
                let scale = block[192 + i / 16] as i8;
                d * f64::from(scale) * (f64::from(low | high << 4) - 32.0)
            };
            (0..256).map(weight).collect()
        }
        other => panic!("{other}"),
    }
}

#[test]
fn weights_are_finite_with_mean_0_and_deviation_of_a_fiftieth() {
    for tensor_type in [
        TensorType::F32,
        TensorType::F16,
        TensorType::BF16,
        TensorType::Q4_0,
        TensorType::Q5_0,
        TensorType::Q5_1,
        TensorType::Q8_0,
        TensorType::Q4_K,
        TensorType::Q5_K,
        TensorType::Q6_K,
    ] {
        let pool = random_pool(tensor_type);
        let blocks = pool.bytes.chunks(pool.block_bytes);
        let all: Vec<f64> = blocks.flat_map(|block| weights(tensor_type, block)).collect();
        let n = all.len() as f64;
        let mean = all.iter().sum::<f64>() / n;
        let deviation = (all.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / n).sqrt();
        // The pool is fixed: these tolerances state what it is, not what chance allows.
        assert!(mean.abs() < 2e-4, "{tensor_type}: mean {mean}");
        assert!((deviation - 0.02).abs() < 5e-4, "{tensor_type}: deviation {deviation}");
        assert!(all.iter().all(|w| w.abs() < 0.2), "{tensor_type}");
    }
}

#[test]
fn scales_survive_packing() {
    let scales = [1, 63, 32, 17, 48, 15, 16, 62];
    let mins = [63, 0, 5, 33, 31, 47, 60, 1];
    let packed = pack_k_scales(scales, mins);
    for j in 0..8 {
        assert_eq!(k_scale(&packed, j), (f64::from(scales[j]), f64::from(mins[j])), "{j}");
    }
}

#[test]
fn half_precision_rounds_to_the_nearest() {
    assert_eq!(f16(1.0), 0x3c00u16.to_le_bytes());
    assert_eq!(f16(-2.0), 0xc000u16.to_le_bytes());
    assert_eq!(f16(65_504.0), 0x7bffu16.to_le_bytes());
    assert_eq!(f16(0.02), 0x251fu16.to_le_bytes());
    assert_eq!(bf16(1.0), 0x3f80u16.to_le_bytes());
}

#[test]
fn a_pool_repeats_without_end() {
    let tensor = TensorSpec {
        name: "x".into(),
        role: TensorRole::AttnQ,
        layer: Some(0),
        shape: vec![32, 1],
        tensor_type: TensorType::Q4_0,
    };
    let pool = pool(&tensor);
    let mut out = vec![0; 3 * pool.bytes.len()];
    pool.fill(5, &mut out);
    assert!(out.iter().enumerate().all(|(i, &b)| b == pool.bytes[(i + 5) % pool.bytes.len()]));
    assert_eq!(pool.phase("x") % 18, 0);
}
