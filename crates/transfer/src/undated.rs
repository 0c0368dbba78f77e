//! The error that a user gets who does not tell how old the engine's build is: the rows are dated,
//! so that judging them with their dates would be too kind.

use std::collections::BTreeSet;

use foretoken_spec::{Phase, UndatedError};
use foretoken_stats::median;

use crate::TransferError;
use crate::machine::Machine;
use crate::predictor::{DevicePredictor, Transfer};
use crate::rows::Observation;
use crate::task::Setup;

/// One row of a left-out device, predicted from its data sheet with its date and without.
pub(crate) struct Asked {
    group: String,
    phase: Phase,
    observed_ms: f64,
    dated: Transfer,
    undated: Transfer,
}

/// Predicts the rows of a left-out machine with their dates and without.
pub(crate) fn ask_undated(
    out: &DevicePredictor<'_>,
    machine: &Machine,
    phase: Phase,
    rows: &[&Observation],
) -> Result<Vec<Asked>, TransferError> {
    let prepared = out.prepare(phase)?;
    let answer = |o: &Observation, setup: &Setup| out.answer(&prepared, setup, &o.model, &o.work);
    let asked = rows.iter().map(|o| Asked {
        group: format!("{}/{}", machine.kind, o.setup.backend),
        phase,
        observed_ms: o.ms(),
        dated: answer(o, &o.setup),
        undated: answer(o, &Setup { year: None, ..o.setup.clone() }),
    });
    Ok(asked.collect())
}

/// Errors by phase, and by kind and backend of the device; all of them first.
pub(crate) fn undated_errors(asked: &[Asked]) -> Vec<UndatedError> {
    let names: BTreeSet<Option<&str>> =
        std::iter::once(None).chain(asked.iter().map(|a| Some(a.group.as_str()))).collect();
    let mut errors = Vec::new();
    for name in names {
        for phase in [Phase::Prefill, Phase::Decode] {
            let of = asked.iter().filter(|a| a.phase == phase);
            let of: Vec<&Asked> = of.filter(|a| name.is_none_or(|n| n == a.group)).collect();
            errors.extend(error(name, phase, &of));
        }
    }
    errors
}

fn error(name: Option<&str>, phase: Phase, asked: &[&Asked]) -> Option<UndatedError> {
    let signed = |of: fn(&Asked) -> &Transfer| -> Vec<f64> {
        asked.iter().map(|a| of(a).ms.point / a.observed_ms - 1.0).collect()
    };
    let absolute = |errors: &[f64]| -> Vec<f64> { errors.iter().map(|e| e.abs()).collect() };
    let (dated, undated) = (signed(|a| &a.dated), signed(|a| &a.undated));
    let inside = asked
        .iter()
        .filter(|a| (a.undated.ms.lower..=a.undated.ms.upper).contains(&a.observed_ms))
        .count();
    Some(UndatedError {
        group: name.map(str::to_owned),
        phase,
        n: u32::try_from(asked.len()).unwrap_or(u32::MAX),
        mdape: median(&absolute(&undated))?,
        bias: median(&undated)?,
        coverage: inside as f64 / asked.len() as f64,
        mdape_dated: median(&absolute(&dated))?,
        bias_dated: median(&dated)?,
    })
}

#[cfg(test)]
mod tests {
    use foretoken_spec::{Estimate, Tier};

    use super::*;

    fn transfer(point: f64) -> Transfer {
        let estimate = Estimate { point, lower: 0.9 * point, upper: 1.1 * point, level: 0.9 };
        Transfer {
            ms: estimate,
            tokens_per_second: estimate,
            tier: Tier::SpecSheet,
            nearest: Vec::new(),
            observed: 0,
            efficiency: 1.0,
            build: None,
        }
    }

    #[test]
    fn both_errors_stand_side_by_side() {
        let asked = |group: &str, dated: f64, undated: f64| Asked {
            group: group.into(),
            phase: Phase::Prefill,
            observed_ms: 100.0,
            dated: transfer(dated),
            undated: transfer(undated),
        };
        let all = [
            asked("soc/metal", 105.0, 60.0),
            asked("soc/metal", 95.0, 70.0),
            asked("soc/metal", 95.0, 80.0),
            asked("gpu/cuda", 100.0, 100.0),
        ];
        let errors = undated_errors(&all);
        assert_eq!(errors.len(), 3, "all, gpu/cuda, soc/metal");
        assert_eq!((errors[0].group.as_deref(), errors[0].n), (None, 4));
        let metal = &errors[2];
        assert!((metal.mdape - 0.3).abs() < 1e-12 && (metal.bias + 0.3).abs() < 1e-12);
        assert!(
            (metal.mdape_dated - 0.05).abs() < 1e-12 && (metal.bias_dated + 0.05).abs() < 1e-12
        );
        assert_eq!(metal.coverage, 0.0, "100 ms lies above 88");
    }
}
