//! 64-bit Arm: FMLA of 128 bits in f32 and f16, int8 by SDOT or SMMLA.
//!
//! In assembly, because the intrinsics of f16 and of the dot products are not stable. The registers
//! hold whatever they held: no instruction here is slower for any value.

use std::arch::{asm, is_aarch64_feature_detected};

use super::Kernel;

/// Instructions of one step, each with a register of its own to add to.
const CHAINS: u32 = 24;

/// The kernels of the types that the processor has instructions for.
pub(super) fn kernels() -> Vec<Kernel> {
    let kernel = |number_type, instruction, products: u32, run| Kernel {
        number_type,
        instruction,
        operations: CHAINS * products * 2,
        run,
    };
    let mut kernels = vec![kernel("f32", "fmla, 128 bits", 4, run_fmla_f32)];
    if is_aarch64_feature_detected!("fp16") {
        kernels.push(kernel("f16", "fmla, 128 bits", 8, run_fmla_f16));
    }
    if is_aarch64_feature_detected!("i8mm") {
        kernels.push(kernel("int8", "smmla, 128 bits", 32, run_smmla));
    } else if is_aarch64_feature_detected!("dotprod") {
        kernels.push(kernel("int8", "sdot, 128 bits", 16, run_sdot));
    }
    kernels
}

/// A loop over 24 times one instruction, as a plain function: only [`kernels`] hands it out, and
/// only where the feature was found.
macro_rules! kernel {
    ($name:ident, $feature:literal, $instruction:literal, $sum:literal, $factor:literal) => {
        fn $name(steps: u32) {
            #[target_feature(enable = $feature)]
            fn inner(steps: u32) {
                for _ in 0..steps {
                    #[expect(unsafe_code, reason = "instructions without stable intrinsics")]
                    // SAFETY: the instructions read and write vector registers alone, all of which
                    // are named as clobbered.
                    unsafe {
                        asm!(
                            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23",
                            concat!($instruction, " v\\n\\()", $sum, ", v30", $factor, ", v31", $factor),
                            ".endr",
                            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _,
                            out("v5") _, out("v6") _, out("v7") _, out("v8") _, out("v9") _,
                            out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
                            out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                            out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v30") _,
                            out("v31") _,
                            options(nomem, nostack, preserves_flags)
                        );
                    }
                }
            }
            #[expect(unsafe_code, reason = "a function for processors with a feature")]
            // SAFETY: `kernels` names this function only where the processor has the feature.
            unsafe {
                inner(steps);
            }
        }
    };
}

kernel!(run_fmla_f32, "neon", "fmla", ".4s", ".4s");
kernel!(run_fmla_f16, "fp16", "fmla", ".8h", ".8h");
kernel!(run_sdot, "dotprod", "sdot", ".4s", ".16b");
kernel!(run_smmla, "i8mm", "smmla", ".4s", ".16b");
