//! ggml tensor types (how one tensor is stored) and quantization schemes (how a file mixes them).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! tensor_types {
    ($($variant:ident = $id:literal, $name:literal, $block_len:literal, $block_bytes:literal;)*) => {
        /// How one tensor is stored, by ggml's type names (`ggml.h`, `enum ggml_type`).
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            JsonSchema,
        )]
        #[allow(missing_docs, non_camel_case_types, reason = "the variants are ggml's own names")]
        pub enum TensorType {
            $(#[serde(rename = $name)] $variant,)*
        }

        impl TensorType {
            /// Every type that can occur in a file.
            pub const ALL: &'static [TensorType] = &[$(TensorType::$variant,)*];

            /// The type's number in a GGUF file.
            pub fn id(self) -> u32 {
                match self { $(TensorType::$variant => $id,)* }
            }

            /// ggml's name, e.g. `Q4_K`.
            pub fn name(self) -> &'static str {
                match self { $(TensorType::$variant => $name,)* }
            }

            /// Weights in one block.
            pub fn block_len(self) -> u64 {
                match self { $(TensorType::$variant => $block_len,)* }
            }

            /// Bytes of one block.
            pub fn block_bytes(self) -> u64 {
                match self { $(TensorType::$variant => $block_bytes,)* }
            }
        }
    };
}

// Source of ids, block lengths and block bytes: ggml.h and ggml-common.h of llama.cpp.
tensor_types! {
    F32 = 0, "F32", 1, 4;
    F16 = 1, "F16", 1, 2;
    Q4_0 = 2, "Q4_0", 32, 18;
    Q4_1 = 3, "Q4_1", 32, 20;
    Q5_0 = 6, "Q5_0", 32, 22;
    Q5_1 = 7, "Q5_1", 32, 24;
    Q8_0 = 8, "Q8_0", 32, 34;
    Q8_1 = 9, "Q8_1", 32, 36;
    Q2_K = 10, "Q2_K", 256, 84;
    Q3_K = 11, "Q3_K", 256, 110;
    Q4_K = 12, "Q4_K", 256, 144;
    Q5_K = 13, "Q5_K", 256, 176;
    Q6_K = 14, "Q6_K", 256, 210;
    Q8_K = 15, "Q8_K", 256, 292;
    IQ2_XXS = 16, "IQ2_XXS", 256, 66;
    IQ2_XS = 17, "IQ2_XS", 256, 74;
    IQ3_XXS = 18, "IQ3_XXS", 256, 98;
    IQ1_S = 19, "IQ1_S", 256, 50;
    IQ4_NL = 20, "IQ4_NL", 32, 18;
    IQ3_S = 21, "IQ3_S", 256, 110;
    IQ2_S = 22, "IQ2_S", 256, 82;
    IQ4_XS = 23, "IQ4_XS", 256, 136;
    I8 = 24, "I8", 1, 1;
    I16 = 25, "I16", 1, 2;
    I32 = 26, "I32", 1, 4;
    I64 = 27, "I64", 1, 8;
    F64 = 28, "F64", 1, 8;
    IQ1_M = 29, "IQ1_M", 256, 56;
    BF16 = 30, "BF16", 1, 2;
    TQ1_0 = 34, "TQ1_0", 256, 54;
    TQ2_0 = 35, "TQ2_0", 256, 66;
    MXFP4 = 39, "MXFP4", 32, 17;
    NVFP4 = 40, "NVFP4", 64, 36;
    Q1_0 = 41, "Q1_0", 128, 18;
    Q2_0 = 42, "Q2_0", 64, 18;
}

/// Ids that ggml once used and no longer reads.
const RETIRED: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

/// A tensor type number that has no layout today.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorTypeError {
    /// ggml removed it; no current reader knows its layout.
    #[error("retired tensor type {id} ({name})")]
    Retired {
        /// The number in the file.
        id: u32,
        /// What ggml called it.
        name: &'static str,
    },
    /// Not a number that ggml ever gave out.
    #[error("unknown tensor type {0}")]
    Unknown(u32),
}

impl TensorType {
    /// The type with this number.
    ///
    /// # Errors
    /// Retired and unknown numbers, apart.
    pub fn from_id(id: u32) -> Result<Self, TensorTypeError> {
        if let Some(found) = Self::ALL.iter().find(|t| t.id() == id) {
            return Ok(*found);
        }
        match RETIRED.iter().find(|(retired, _)| *retired == id) {
            Some((_, name)) => Err(TensorTypeError::Retired { id, name }),
            None => Err(TensorTypeError::Unknown(id)),
        }
    }

    /// The type of this name, in any case (`q4_k`, `Q4_K`).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of `n` weights; `n` is rounded up to whole blocks.
    pub fn bytes(self, n: u64) -> u64 {
        n.div_ceil(self.block_len()).saturating_mul(self.block_bytes())
    }

    /// Mean bits of storage per weight.
    pub fn bits_per_weight(self) -> f64 {
        8.0 * self.block_bytes() as f64 / self.block_len() as f64
    }

    /// Whether weights are stored as plain floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F64)
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How a whole file is quantized: llama.cpp's file types, which mix tensor types by rule.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[allow(missing_docs, non_camel_case_types, reason = "the variants are llama.cpp's own names")]
pub enum QuantScheme {
    F32,
    F16,
    BF16,
    Q8_0,
    Q6_K,
    Q5_K_M,
    Q5_K_S,
    Q5_1,
    Q5_0,
    Q4_K_M,
    Q4_K_S,
    Q4_1,
    Q4_0,
    IQ4_NL,
    IQ4_XS,
    Q3_K_L,
    Q3_K_M,
    Q3_K_S,
    Q2_K,
    Q2_K_S,
    IQ3_M,
    IQ3_S,
    IQ3_XS,
    IQ3_XXS,
    IQ2_M,
    IQ2_S,
    IQ2_XS,
    IQ2_XXS,
    IQ1_M,
    IQ1_S,
    TQ2_0,
    TQ1_0,
    MXFP4_MOE,
}

impl QuantScheme {
    /// Every scheme that can be asked for with `--quant`.
    pub const ALL: &'static [QuantScheme] = &[
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q6_K,
        Self::Q5_K_M,
        Self::Q5_K_S,
        Self::Q5_1,
        Self::Q5_0,
        Self::Q4_K_M,
        Self::Q4_K_S,
        Self::Q4_1,
        Self::Q4_0,
        Self::IQ4_NL,
        Self::IQ4_XS,
        Self::Q3_K_L,
        Self::Q3_K_M,
        Self::Q3_K_S,
        Self::Q2_K,
        Self::Q2_K_S,
        Self::IQ3_M,
        Self::IQ3_S,
        Self::IQ3_XS,
        Self::IQ3_XXS,
        Self::IQ2_M,
        Self::IQ2_S,
        Self::IQ2_XS,
        Self::IQ2_XXS,
        Self::IQ1_M,
        Self::IQ1_S,
        Self::TQ2_0,
        Self::TQ1_0,
        Self::MXFP4_MOE,
    ];

    /// llama.cpp's name, e.g. `Q4_K_M`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q6_K => "Q6_K",
            Self::Q5_K_M => "Q5_K_M",
            Self::Q5_K_S => "Q5_K_S",
            Self::Q4_K_M => "Q4_K_M",
            Self::Q4_K_S => "Q4_K_S",
            Self::Q4_0 => "Q4_0",
            Self::Q5_1 => "Q5_1",
            Self::Q5_0 => "Q5_0",
            Self::Q4_1 => "Q4_1",
            Self::IQ4_NL => "IQ4_NL",
            Self::IQ4_XS => "IQ4_XS",
            Self::Q3_K_L => "Q3_K_L",
            Self::Q3_K_M => "Q3_K_M",
            Self::Q3_K_S => "Q3_K_S",
            Self::Q2_K => "Q2_K",
            Self::Q2_K_S => "Q2_K_S",
            Self::IQ3_M => "IQ3_M",
            Self::IQ3_S => "IQ3_S",
            Self::IQ3_XS => "IQ3_XS",
            Self::IQ3_XXS => "IQ3_XXS",
            Self::IQ2_M => "IQ2_M",
            Self::IQ2_S => "IQ2_S",
            Self::IQ2_XS => "IQ2_XS",
            Self::IQ2_XXS => "IQ2_XXS",
            Self::IQ1_M => "IQ1_M",
            Self::IQ1_S => "IQ1_S",
            Self::TQ2_0 => "TQ2_0",
            Self::TQ1_0 => "TQ1_0",
            Self::MXFP4_MOE => "MXFP4_MOE",
        }
    }

    /// `general.file_type` of a file of this scheme (llama.cpp, `enum llama_ftype`).
    pub fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4_K_S => 14,
            Self::Q4_K_M => 15,
            Self::Q5_K_S => 16,
            Self::Q5_K_M => 17,
            Self::Q6_K => 18,
            Self::BF16 => 32,
            Self::Q4_1 => 3,
            Self::Q5_0 => 8,
            Self::Q5_1 => 9,
            Self::Q2_K => 10,
            Self::Q3_K_S => 11,
            Self::Q3_K_M => 12,
            Self::Q3_K_L => 13,
            Self::Q2_K_S => 21,
            Self::IQ4_NL => 25,
            Self::IQ4_XS => 30,
            Self::IQ3_M => 27,
            Self::IQ3_S => 26,
            Self::IQ3_XS => 22,
            Self::IQ3_XXS => 23,
            Self::IQ2_M => 29,
            Self::IQ2_S => 28,
            Self::IQ2_XS => 20,
            Self::IQ2_XXS => 19,
            Self::IQ1_M => 31,
            Self::IQ1_S => 24,
            Self::TQ2_0 => 37,
            Self::TQ1_0 => 36,
            Self::MXFP4_MOE => 38,
        }
    }

    /// The scheme with this `general.file_type`, where it is one of ours.
    pub fn from_file_type(file_type: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|q| q.file_type() == file_type)
    }
}

impl std::fmt::Display for QuantScheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A quantization name that is not one of [`QuantScheme::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; known: {}", problem(.0), known_schemes())]
pub struct UnknownQuant(pub String);

fn problem(name: &str) -> String {
    match name.trim() {
        "" => "no quantization between two commas, or behind the last".to_owned(),
        list if list.contains(',') => {
            format!("`{}` is a list where one quantization is asked for", list.escape_debug())
        }
        name => {
            let meant =
                likely(name).map_or_else(String::new, |it| format!(" (did you mean {it}?)"));
            format!("unknown quantization `{}`{meant}", name.escape_debug())
        }
    }
}

/// `Q4_K`, as tensor types are called, or `fp16`, as Python says.
fn likely(name: &str) -> Option<QuantScheme> {
    let name = name.to_uppercase().replacen("FP", "F", 1);
    QuantScheme::ALL.iter().copied().find(|scheme| {
        *scheme.name() == name || (name.len() > 2 && scheme.name().starts_with(&format!("{name}_")))
    })
}

fn known_schemes() -> String {
    QuantScheme::ALL.iter().map(|q| q.name()).collect::<Vec<_>>().join(", ")
}

impl std::str::FromStr for QuantScheme {
    type Err = UnknownQuant;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Publishers leave the `_MOE` of llama.cpp's name out.
        let wanted = if text.trim().eq_ignore_ascii_case("mxfp4") { "MXFP4_MOE" } else { text };
        Self::ALL
            .iter()
            .copied()
            .find(|q| q.name().eq_ignore_ascii_case(wanted.trim()))
            .ok_or_else(|| UnknownQuant(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_per_weight_of_common_types() {
        assert_eq!(TensorType::Q4_K.bits_per_weight(), 4.5);
        assert_eq!(TensorType::Q6_K.bits_per_weight(), 6.5625);
        assert_eq!(TensorType::Q8_0.bits_per_weight(), 8.5);
    }

    #[test]
    fn ids_and_names_are_unique_and_read_back() {
        for &t in TensorType::ALL {
            assert_eq!(TensorType::from_id(t.id()), Ok(t));
            assert_eq!(TensorType::from_name(&t.name().to_lowercase()), Some(t));
        }
    }

    #[test]
    fn retired_and_unknown_types_are_told_apart() {
        assert!(matches!(TensorType::from_id(4), Err(TensorTypeError::Retired { id: 4, .. })));
        assert_eq!(TensorType::from_id(999), Err(TensorTypeError::Unknown(999)));
    }

    #[test]
    fn bytes_round_up_to_whole_blocks() {
        assert_eq!(TensorType::Q4_K.bytes(256), 144);
        assert_eq!(TensorType::Q4_K.bytes(257), 288);
        assert_eq!(TensorType::F32.bytes(3), 12);
    }

    #[test]
    fn schemes_parse_in_any_case_and_name_the_known_ones() {
        assert_eq!("q4_k_m".parse(), Ok(QuantScheme::Q4_K_M));
        let error = "Q9_Z".parse::<QuantScheme>().unwrap_err().to_string();
        assert!(error.contains("Q9_Z") && error.contains("Q4_K_M"), "{error}");
        let meant = |name: &str| name.parse::<QuantScheme>().unwrap_err().to_string();
        assert!(meant("q4_k").contains("`q4_k` (did you mean Q4_K_M?)"));
        assert!(meant("fp16").contains("did you mean F16?") && !meant("x").contains("did you"));
        assert!(meant("Q4_K_M,Q8_0").contains("one quantization"));
        let error = "".parse::<QuantScheme>().unwrap_err().to_string();
        assert!(error.contains("behind the last"), "{error}");
    }
}
