//! x86-64: FMA of 256 or 512 bits, int8 by VNNI or by the three instructions before it.

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::*;
use std::hint::black_box;

use super::{Kernel, portable};

/// Instructions that do not wait for each other: latency 4 × 2 units, and some more.
const CHAINS: usize = 12;
const CHAINS_U32: u32 = CHAINS as u32;

/// The best f32 and the best int8 kernel that the processor runs.
pub(super) fn kernels() -> Vec<Kernel> {
    let mut kernels = vec![f32_kernel()];
    kernels.extend(int8_kernel());
    kernels
}

fn f32_kernel() -> Kernel {
    let kernel = |instruction, lanes: u32, run| Kernel {
        number_type: "f32",
        instruction,
        operations: CHAINS_U32 * lanes * 2,
        run,
    };
    if is_x86_feature_detected!("avx512f") {
        kernel("fma, 512 bits", 16, run_fma_512)
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        kernel("fma, 256 bits", 8, run_fma_256)
    } else {
        portable::kernel()
    }
}

fn int8_kernel() -> Option<Kernel> {
    let kernel = |instruction, products: u32, run| Kernel {
        number_type: "int8",
        instruction,
        operations: CHAINS_U32 * products * 2,
        run,
    };
    if is_x86_feature_detected!("avx512vnni") {
        Some(kernel("vpdpbusd, 512 bits", 64, run_vnni_512))
    } else if is_x86_feature_detected!("avxvnni") {
        Some(kernel("vpdpbusd, 256 bits", 32, run_vnni_256))
    } else if is_x86_feature_detected!("avx2") {
        Some(kernel("vpmaddubsw, vpmaddwd, vpaddd, 256 bits", 32, run_maddubs_256))
    } else {
        None
    }
}

/// A kernel for processors with a feature, as a plain function: only [`kernels`] hands it out, and
/// only where the feature was found.
macro_rules! kernel {
    ($name:ident, $inner:ident, $features:literal, $steps:ident, $body:block) => {
        fn $name(steps: u32) {
            #[target_feature(enable = $features)]
            fn $inner($steps: u32) $body
            #[expect(unsafe_code, reason = "a function for processors with these features")]
            // SAFETY: `kernels` names this function only where the processor has the features.
            unsafe {
                $inner(steps);
            }
        }
    };
}

kernel!(run_fma_512, fma_512, "avx512f", steps, {
    let (scale, offset) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
    let mut chains = [_mm512_set1_ps(0.5); CHAINS];
    for _ in 0..steps {
        for chain in &mut chains {
            *chain = _mm512_fmadd_ps(*chain, scale, offset);
        }
    }
    black_box(chains);
});

kernel!(run_fma_256, fma_256, "avx2,fma", steps, {
    let (scale, offset) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
    let mut chains = [_mm256_set1_ps(0.5); CHAINS];
    for _ in 0..steps {
        for chain in &mut chains {
            *chain = _mm256_fmadd_ps(*chain, scale, offset);
        }
    }
    black_box(chains);
});

kernel!(run_vnni_512, vnni_512, "avx512f,avx512vnni", steps, {
    let (a, b) = (_mm512_set1_epi32(black_box(0x0102_0304)), _mm512_set1_epi32(black_box(1)));
    let mut chains = [_mm512_setzero_si512(); CHAINS];
    for _ in 0..steps {
        for chain in &mut chains {
            *chain = _mm512_dpbusd_epi32(*chain, a, b);
        }
    }
    black_box(chains);
});

kernel!(run_vnni_256, vnni_256, "avx2,avxvnni", steps, {
    let (a, b) = (_mm256_set1_epi32(black_box(0x0102_0304)), _mm256_set1_epi32(black_box(1)));
    let mut chains = [_mm256_setzero_si256(); CHAINS];
    for _ in 0..steps {
        for chain in &mut chains {
            *chain = _mm256_dpbusd_avx_epi32(*chain, a, b);
        }
    }
    black_box(chains);
});

kernel!(run_maddubs_256, maddubs_256, "avx2", steps, {
    let ones = _mm256_set1_epi16(1);
    let b = _mm256_set1_epi32(black_box(0x0101_0101));
    let mut chains = [_mm256_setzero_si256(); CHAINS];
    for _ in 0..steps {
        for chain in &mut chains {
            // The sum goes in as a factor, so that no product can be taken out of the loop.
            let pairs = _mm256_maddubs_epi16(*chain, b);
            *chain = _mm256_add_epi32(*chain, _mm256_madd_epi16(pairs, ones));
        }
    }
    black_box(chains);
});
