//! The answer to `foretoken predict`: every quantity of the contract for one workload.

use std::collections::BTreeMap;

use foretoken_cost::{approximations, memory_notes, roofline};
use foretoken_spec::{
    Backend, Basis, Bound, Calibration, Estimate, FlopCount, ModelSpec, OpPrediction, Phase,
    PredictedDevice, PredictedModel, PredictedWorkload, Prediction, SCHEMA_VERSION, Tier, Workload,
};

use crate::energy::{PassWork, RequestWork, request_energy};
use crate::loading::load_times;
use crate::memory::memory;
use crate::{OpSeconds, PassPrediction, PredictError, Predictor};

/// What is asked beside model and workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Sequences at once; candle's quantized readers run one.
    pub batch_size: u32,
    /// Free memory of the device, where it is this machine; else all of it.
    pub available_bytes: Option<u64>,
    /// Resident size of the process before any model is loaded.
    pub process_bytes: u64,
    /// The MODEL argument as it was given, for the command that verifies.
    pub model_argument: String,
}

/// Predicts one workload of one model.
///
/// # Errors
/// Refuses where nothing anchors an operation ([`PredictError::NoAnchor`]).
pub fn predict(
    predictor: &Predictor<'_>,
    model: &ModelSpec,
    workload: &Workload,
    asked: &Asked,
) -> Result<Prediction, PredictError> {
    let calibration = predictor.calibration();
    let batch = asked.batch_size.max(1);
    let time = |pass| predictor.batch_pass(model, pass, batch);
    let prefill = workload.prefill().map(time).transpose()?;
    let decode = workload.decode_midpoint().map(time).transpose()?;
    let sampling = predictor.sampling(model)?;
    let sampling_s: f64 = sampling.iter().map(|op| op.seconds).sum();

    let estimate = |pass: &PassPrediction, extra_s| with_extra_ms(&pass.estimate, extra_s);
    let extrapolation = [(Phase::Prefill, &prefill), (Phase::Decode, &decode)]
        .into_iter()
        .filter_map(|(phase, pass)| Some((phase, pass.as_ref()?)))
        .flat_map(|(phase, pass)| {
            pass.extrapolation.iter().map(move |sentence| format!("{}: {sentence}", phase.name()))
        })
        .collect();
    let prefill_ms = prefill.as_ref().map(|pass| estimate(pass, 0.0));
    let ttft_ms = prefill.as_ref().map(|pass| estimate(pass, sampling_s));
    let decode_ms = decode.as_ref().map(|pass| estimate(pass, 0.0));
    let tpot_ms = decode.as_ref().map(|pass| estimate(pass, sampling_s));

    let work = |pass: &PassPrediction, tokens| PassWork {
        seconds: scaled(&with_extra_ms(&pass.estimate, sampling_s), 1e-3),
        flop: flop(pass) as f64,
        bytes: pass.ops.iter().map(|op| op.cost.bytes as f64).sum(),
        tokens,
    };
    // The first token comes with the prompt, where there is one.
    let first = u32::from(prefill.is_some());
    let request = RequestWork {
        prefill: prefill.as_ref().map(|pass| work(pass, 1.0)),
        decode: decode.as_ref().map(|pass| work(pass, f64::from(batch))),
        steps: f64::from(workload.generated_tokens.saturating_sub(first)),
    };
    let energy_j = calibration.energy.as_ref().and_then(|fit| request_energy(fit, &request));
    let loading =
        calibration.loading.as_ref().map(|fit| load_times(fit, model, predictor.engine()));

    let tier = [&prefill, &decode].into_iter().flatten().map(|pass| pass.tier).max();
    let per_second = |tokens: u32, ms: Option<Estimate>| {
        let tokens = f64::from(tokens) * f64::from(batch);
        ms.map(|estimate| tokens / (estimate.point * 1e-3))
    };
    Ok(Prediction {
        schema_version: SCHEMA_VERSION,
        model: PredictedModel {
            name: model.name.clone(),
            architecture: model.shape.architecture.clone(),
            parameters: model.n_parameters(),
            weight_bytes: model.weight_bytes(),
        },
        quant: model.quant.clone(),
        device: PredictedDevice {
            id: calibration.device.id.clone(),
            backend: calibration.device.backend.into(),
            threads: calibration.threads,
            engine: format!("{} {}", calibration.engine.name, calibration.engine.version),
        },
        workload: PredictedWorkload {
            prompt_tokens: workload.prompt_tokens,
            generated_tokens: workload.generated_tokens,
            kv_len: workload.depth,
            batch_size: asked.batch_size,
        },
        prefill_tokens_per_second: per_second(workload.prompt_tokens, prefill_ms),
        decode_tokens_per_second: per_second(1, decode_ms),
        e2e_ms: end_to_end(ttft_ms, tpot_ms, workload.generated_tokens),
        prefill_ms,
        decode_ms,
        ttft_ms,
        tpot_ms,
        memory: memory(model, predictor.engine(), workload, asked),
        flop: FlopCount {
            prefill: prefill.as_ref().map_or(0, flop),
            decode_per_token: decode.as_ref().map_or(0, flop) / u64::from(batch),
        },
        load_ms: loading.and_then(|it| it.warm),
        load_cold_ms: loading.and_then(|it| it.cold),
        first_pass_extra_ms: loading.and_then(|it| it.first_pass_extra),
        energy_j,
        ops: ops(predictor, prefill.as_ref(), decode.as_ref(), &sampling),
        basis: Basis {
            tier: tier.unwrap_or(Tier::SameQuantization),
            calibration: Some(calibration.id.clone()),
            interval_groups: interval_groups(predictor, workload),
            extrapolation,
            nearest_devices: Vec::new(),
            data_sheet: None,
        },
        baselines: BTreeMap::new(),
        verify: verify(model, workload, asked, calibration),
        cannot_run: None,
        memory_notes: memory_notes(model, predictor.engine()),
        warnings: warnings(predictor, model, workload),
    })
}

/// A pass and what follows it, in milliseconds: the interval is that of the pass, stretched to the
/// sum.
pub(crate) fn with_extra_ms(pass: &Estimate, extra_s: f64) -> Estimate {
    milliseconds(pass, (pass.point + extra_s) / pass.point)
}

/// `ttft + (generated − 1) · tpot`; interval ends add up, as the errors of one model go together.
pub(crate) fn end_to_end(
    ttft: Option<Estimate>,
    tpot: Option<Estimate>,
    generated_tokens: u32,
) -> Option<Estimate> {
    let (ttft, tpot) = (ttft?, tpot?);
    let steps = f64::from(generated_tokens.saturating_sub(1));
    Some(Estimate {
        point: ttft.point + steps * tpot.point,
        lower: ttft.lower + steps * tpot.lower,
        upper: ttft.upper + steps * tpot.upper,
        level: ttft.level,
    })
}

/// Fewest held-out models behind the interval of a phase that was asked for.
fn interval_groups(predictor: &Predictor<'_>, workload: &Workload) -> u32 {
    let intervals = &predictor.calibration().intervals;
    [workload.prefill(), workload.decode_midpoint()]
        .into_iter()
        .flatten()
        .map(|pass| intervals.iter().find(|i| i.phase == pass.phase()).map_or(0, |i| i.n_groups))
        .min()
        .unwrap_or(0)
}

pub(crate) fn milliseconds(seconds: &Estimate, factor: f64) -> Estimate {
    scaled(seconds, 1e3 * factor)
}

/// All of an estimate, times a factor.
pub(crate) fn scaled(estimate: &Estimate, factor: f64) -> Estimate {
    Estimate {
        point: factor * estimate.point,
        lower: factor * estimate.lower,
        upper: factor * estimate.upper,
        level: estimate.level,
    }
}

fn flop(pass: &PassPrediction) -> u64 {
    pass.ops.iter().map(|op| op.cost.flop).sum()
}

fn ops(
    predictor: &Predictor<'_>,
    prefill: Option<&PassPrediction>,
    decode: Option<&PassPrediction>,
    sampling: &[OpSeconds],
) -> Vec<OpPrediction> {
    let ceilings = &predictor.calibration().ceilings;
    let on_gpu = predictor.engine().is_candle_on_gpu();
    let row = |phase: Phase, op: &OpSeconds| {
        let bound = if op.overhead_seconds > 0.5 * op.seconds {
            // On a graphics device what is fixed per call is the host's part.
            if on_gpu { Bound::Launch } else { Bound::Overhead }
        } else {
            roofline(op.cost.flop, op.cost.bytes, ceilings).bound
        };
        OpPrediction {
            op: op.cost.name(),
            kind: op.cost.op,
            phase,
            ms: 1e3 * op.seconds,
            bound,
            arithmetic_intensity: op.cost.arithmetic_intensity(),
            flop: op.cost.flop,
            bytes: op.cost.bytes,
            class: op.class.key(),
            tier: op.tier,
            terms: predictor.summands(phase, op),
            nearest: predictor.nearest(op),
        }
    };
    let mut rows = Vec::new();
    for (phase, pass) in [(Phase::Prefill, prefill), (Phase::Decode, decode)] {
        if let Some(pass) = pass {
            rows.extend(pass.ops.iter().chain(sampling).map(|op| row(phase, op)));
        }
    }
    rows
}

fn verify(
    model: &ModelSpec,
    workload: &Workload,
    asked: &Asked,
    calibration: &Calibration,
) -> String {
    let mut command = format!("foretoken measure {}", asked.model_argument);
    if !matches!(model.source, foretoken_spec::ModelSource::Gguf { .. }) {
        command.push_str(&format!(" --quant {}", model.quant));
    }
    command.push_str(&format!(
        " --prompt {} --gen {} --depth {}",
        workload.prompt_tokens, workload.generated_tokens, workload.depth
    ));
    match calibration.device.backend {
        Backend::Cpu => command.push_str(&format!(" --threads {}", calibration.threads)),
        _ if !calibration.engine.is_candle() => {}
        backend => command.push_str(&format!(" --device {backend}")),
    }
    if !calibration.engine.is_candle() {
        command.push_str(&format!(" --engine {}", calibration.engine.name));
    }
    command
}

fn warnings(predictor: &Predictor<'_>, model: &ModelSpec, workload: &Workload) -> Vec<String> {
    let mut warnings = approximations(model, predictor.engine());
    if workload.total_tokens() > model.shape.context_length {
        warnings.push(format!(
            "{} tokens are beyond the model's context of {}: the text would be poor, the speed is \
             as predicted",
            workload.total_tokens(),
            model.shape.context_length
        ));
    }
    warnings
}
