//! What no speed can be, whatever file it stands in.

use foretoken_spec::{SCHEMA_VERSION, SpeedPhase, SpeedRow};

/// Tokens that one test can have: more than any context, and far below what overflows.
const MOST_TOKENS: u32 = 1 << 28;

/// Weights of the largest models are some 10¹² (1000 × 10⁹).
const MOST_PARAMS_B: f64 = 1e5;

/// Checks the values of a row against each other.
///
/// # Errors
/// Names the field and what is wrong with it.
pub(crate) fn check_row(row: &SpeedRow) -> Result<(), String> {
    if row.schema_version != SCHEMA_VERSION {
        let version = row.schema_version;
        return Err(format!("`schema_version` is {version}; this version reads {SCHEMA_VERSION}"));
    }
    for (name, text) in [
        ("runtime", &row.runtime),
        ("device_id", &row.device_id),
        ("backend", &row.backend),
        ("model", &row.model),
        ("quant", &row.quant),
    ] {
        if text.trim().is_empty() {
            return Err(format!("`{name}` is empty"));
        }
    }
    above_zero("tokens_per_second", Some(row.tokens_per_second))?;
    above_zero("params_b", row.params_b)?;
    if let Some(params) = row.params_b.filter(|params| *params > MOST_PARAMS_B) {
        let in_units = params / 1e9;
        return Err(format!(
            "`params_b` is {params}, more weights than any model has; it is in 10⁹: write {in_units}"
        ));
    }
    above_zero("model_file_gib", row.model_file_gib)?;
    above_zero("resolution", row.resolution)?;
    if let Some(stddev) = row.stddev.filter(|v| !v.is_finite() || *v < 0.0) {
        return Err(format!("`stddev` is {stddev}, no spread"));
    }
    if row.threads == Some(0) {
        return Err("`threads` is 0".to_owned());
    }
    if let Some(flash) = row.flash_attn.filter(|v| !(-1..=1).contains(v)) {
        return Err(format!("`flash_attn` is {flash}; 1 is on, 0 off, -1 automatic"));
    }
    check_tokens(row)
}

fn above_zero(name: &str, value: Option<f64>) -> Result<(), String> {
    match value {
        Some(value) if !value.is_finite() || value <= 0.0 => {
            Err(format!("`{name}` is {value}, expected a number above 0"))
        }
        _ => Ok(()),
    }
}

fn check_tokens(row: &SpeedRow) -> Result<(), String> {
    let counts = [("n_prompt", row.n_prompt), ("n_gen", row.n_gen), ("n_depth", row.n_depth)];
    for (name, count) in counts {
        if let Some(count) = count.filter(|n| *n > MOST_TOKENS) {
            return Err(format!("`{name}` is {count}, more tokens than any context holds"));
        }
    }
    match row.phase {
        SpeedPhase::Prefill if row.n_prompt == Some(0) => {
            Err("`n_prompt` is 0 in a prefill row".to_owned())
        }
        SpeedPhase::Prefill if row.n_gen.is_some_and(|n| n > 0) => {
            Err("`n_gen` is above 0 in a prefill row; call the phase mixed".to_owned())
        }
        SpeedPhase::Decode if row.n_gen == Some(0) => {
            Err("`n_gen` is 0 in a decode row".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use foretoken_spec::SpeedKey;

    use super::*;

    #[test]
    fn weights_that_are_not_in_billions_are_named() {
        let key = SpeedKey {
            runtime: "llama.cpp",
            device_id: "d",
            backend: "cpu",
            model: "m",
            quant: "Q4_0",
        };
        let row = |params| SpeedRow {
            params_b: Some(params),
            ..SpeedRow::new(key, SpeedPhase::Decode, 9.0)
        };
        assert_eq!(check_row(&row(1.24)), Ok(()));
        let error = check_row(&row(1_240_000_000.0)).unwrap_err();
        assert!(error.contains("10⁹: write 1.24"), "{error}");
    }
}
