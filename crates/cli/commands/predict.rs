//! `predict`: time and memory of models that were not run.

mod observe;
mod sheet;

use anyhow::Context;
use foretoken_predict::{Asked, Predictor, memory, predict};
use foretoken_report::{Predictions, units};
use foretoken_runner::{
    CandleEngine, OpenDevice, RunDevice, RunError, check_model, check_workload, processor_info,
    threads_in_effect,
};
use foretoken_spec::{
    AvailableMemory, Backend, Calibration, DeviceBackend, DeviceInfo, Engine, Estimate,
    ModelSource, ModelSpec, Prediction, Workload,
};

use crate::Outcome;
use crate::args::PredictArgs;
use crate::commands::{PROCESS_BYTES, resolve_models, smaller_quants};
use crate::files::{
    Stored, find_calibration, is_same_machine, newest_calibration, require_backend,
};
use crate::hub::Use;
use crate::output::{Hinted, Output};

/// The engine of calibrations, unless asked otherwise.
const ENGINE: &str = Engine::Candle.name();

/// Predicts every model in every quantization asked for.
pub fn run(args: &PredictArgs, output: &Output) -> anyhow::Result<Outcome> {
    if !args.device_spec.is_empty() {
        return sheet::run(args, output);
    }
    let workload = Workload::new(args.prompt, args.generate, args.depth)?;
    require_known(args.engine.as_deref().unwrap_or(ENGINE))?;
    let models = resolve_models(&args.models, &args.quant, Use::Describe(output))?;
    let stored = calibration(args, output)?;
    for doubt in doubts(&stored.calibration) {
        output.warn(&doubt);
    }
    let here = here(&stored.calibration.device);
    let mut predictor = Predictor::new(&stored.calibration)
        .with_context(|| format!("cannot use {}", stored.path.display()))?
        .hosted_by(&host_here(&stored.calibration.device));
    if let Some(kv_type) = &args.kv_type {
        predictor =
            predictor.with_kv_type(kv_type).with_context(|| format!("--kv-type {kv_type}"))?;
    }
    let mut predictions: Vec<Prediction> = Vec::new();
    for model in &models {
        let asked = Asked {
            batch_size: args.batch,
            available_bytes: match &here {
                Some(device) => device.available_memory(),
                None => Some(stored.calibration.device.memory_bytes),
            },
            process_bytes: PROCESS_BYTES,
            model_argument: argument_of(model),
        };
        let mut prediction = predict(&predictor, model, &workload, &asked)?;
        require_finite(&prediction, &stored)?;
        prediction.memory.available_is =
            Some(if here.is_some() { AvailableMemory::Free } else { AvailableMemory::Installed });
        if prediction.memory.fits == Some(false) {
            prediction.memory.fitting_quants = smaller_quants(model, |other| {
                memory(other, predictor.engine(), &workload, &asked).fits == Some(true)
            });
        }
        let engine = stored.calibration.engine.name.as_str();
        prediction.cannot_run = cannot_run(model, engine, &workload, args.batch);
        // Where readers of earlier versions looked for it.
        let said = prediction.cannot_run.as_ref().map(|reason| format!("it cannot run: {reason}"));
        prediction.warnings.extend(said);
        predictions.push(prediction);
    }
    output.print(&Predictions { predictions, explain: args.explain })?;
    Ok(Outcome::Good)
}

/// Refuses engines that nothing can be calibrated for.
fn require_known(engine: &str) -> anyhow::Result<()> {
    if Engine::from_name(engine).is_some() {
        return Ok(());
    }
    let message = format!("no calibrations of engine `{}`", engine.escape_debug());
    let known = Engine::ALL.map(|engine| format!("--engine {}", engine.name()));
    Err(Hinted::new(message, format!("use {}", known.join(" or "))).into())
}

/// Refuses numbers that no machine has: the coefficients behind them are broken.
fn require_finite(prediction: &Prediction, stored: &Stored) -> anyhow::Result<()> {
    let p = prediction;
    let is_sane = |e: &Estimate| {
        e.lower > 0.0 && e.lower <= e.point && e.point <= e.upper && e.upper.is_finite()
    };
    let estimates = [p.prefill_ms, p.decode_ms, p.ttft_ms, p.tpot_ms, p.e2e_ms];
    if estimates.iter().flatten().all(is_sane) {
        return Ok(());
    }
    let message = format!("{} gives no finite time for {}", stored.path.display(), p.model.name);
    Err(Hinted::new(message, "its coefficients are broken; run `foretoken calibrate` again").into())
}

/// What the reader of a prediction should know of the calibration behind it.
fn doubts(calibration: &Calibration) -> Vec<String> {
    let mut doubts = Vec::new();
    if calibration.held_out.n_groups == 0 {
        doubts.push(format!(
            "calibration `{}` was not checked on held-out models; calibrate with a longer --budget",
            calibration.id
        ));
    }
    let here = CandleEngine::version();
    if calibration.engine.is_candle() && calibration.engine.version != here {
        doubts.push(format!(
            "calibration `{}` is of candle {}, this program has {here}",
            calibration.id, calibration.engine.version
        ));
    }
    let of_samples = calibration.warnings.iter().filter(|w| w.contains("disturbed"));
    doubts.extend(of_samples.cloned());
    doubts
}

/// Why candle would not run what is predicted.
fn cannot_run(model: &ModelSpec, engine: &str, workload: &Workload, batch: u32) -> Option<String> {
    if engine != ENGINE {
        return None;
    }
    match check_model(model).and_then(|()| check_workload(model, workload)).err() {
        Some(RunError::Unsupported { reason, .. }) => Some(reason.to_string()),
        Some(other) => Some(other.to_string()),
        None if batch > 1 => Some(format!(
            "candle's quantized readers run one sequence at a time, not {batch}; FLOP, bytes and \
             memory are those of {batch}, times assume its kernels"
        )),
        None => None,
    }
}

/// The device of a calibration, where it is this machine's and this build can open it.
fn here(calibrated: &DeviceInfo) -> Option<OpenDevice> {
    let device = device_of(calibrated.backend)?.open().ok()?;
    is_same_machine(calibrated, device.info()).then_some(device)
}

/// The processor that gives the calibrated GPU its work: this machine's where it has such a GPU, else
/// the calibrated one, as the calibrated machine is then what is asked about.
fn host_here(calibrated: &DeviceInfo) -> String {
    let here = processor_info().id;
    let calibrated_host = calibrated.host.clone().unwrap_or_else(|| here.clone());
    let open = device_of(calibrated.backend).and_then(|device| device.open().ok());
    match open {
        Some(device) if device.info().id == calibrated.id => here,
        _ => calibrated_host,
    }
}

/// The first device of a backend; `None` of those that candle has not.
fn device_of(backend: Backend) -> Option<RunDevice> {
    match backend {
        Backend::Cpu => Some(RunDevice::Cpu),
        Backend::Cuda => Some(RunDevice::Cuda(0)),
        Backend::Metal => Some(RunDevice::Metal),
        Backend::Rocm | Backend::Vulkan | Backend::Sycl | Backend::Opencl => None,
    }
}

/// The backend asked for, of those that can be calibrated.
fn wanted_backend(args: &PredictArgs) -> anyhow::Result<Option<Backend>> {
    Ok(match args.backend {
        None => None,
        Some(DeviceBackend::Cpu) => Some(Backend::Cpu),
        Some(DeviceBackend::Cuda) => Some(Backend::Cuda),
        Some(DeviceBackend::Metal) => Some(Backend::Metal),
        Some(DeviceBackend::Rocm) => Some(Backend::Rocm),
        Some(DeviceBackend::Vulkan) => Some(Backend::Vulkan),
        Some(DeviceBackend::Sycl) => Some(Backend::Sycl),
        Some(DeviceBackend::Opencl) => Some(Backend::Opencl),
        Some(other) => {
            let message = format!("--backend {other}: nothing can be calibrated on it");
            let hint = "use --backend cpu, cuda or metal, of llama.cpp also rocm, vulkan, sycl or \
                        opencl; or --device-spec for a device that nothing was run on";
            return Err(Hinted::new(message, hint).into());
        }
    })
}

/// The calibration asked for, or the newest of this machine.
fn calibration(args: &PredictArgs, output: &Output) -> anyhow::Result<Stored> {
    let wanted = wanted_backend(args)?;
    let Some(argument) = &args.calibration else {
        return newest(args, wanted.unwrap_or(Backend::Cpu), output);
    };
    let stored = find_calibration(argument)?;
    let found = &stored.calibration;
    require_backend(&stored.path, found.device.backend, args.backend)?;
    if let Some(engine) = args.engine.as_deref().filter(|engine| *engine != found.engine.name) {
        let message = format!(
            "{} is a calibration of {}, not {engine}",
            stored.path.display(),
            found.engine.name
        );
        return Err(Hinted::new(message, "leave --engine out, or give another calibration").into());
    }
    match args.threads {
        Some(threads) if threads != stored.calibration.threads => {
            Err(other_threads(&stored, threads).into())
        }
        _ => Ok(stored),
    }
}

/// The newest calibration of this machine for the threads asked for, or for those that candle
/// takes by itself.
fn newest(args: &PredictArgs, backend: Backend, output: &Output) -> anyhow::Result<Stored> {
    let Some(device) = device_of(backend) else {
        let message = format!("--backend {backend}: which calibration of it is not told");
        let hint = "name one with --calibration: `calibrate --engine llama.cpp` writes them";
        return Err(Hinted::new(message, hint).into());
    };
    let device = device.open().map_err(|error| {
        let hint = format!("{}, or name a calibration with --calibration", error.hint());
        Hinted::new(error.to_string(), hint)
    })?;
    let device = device.info();
    let threads = args.threads.unwrap_or_else(threads_in_effect);
    let found = newest_calibration(device, args.engine.as_deref().unwrap_or(ENGINE), threads);
    for warning in &found.warnings {
        output.warn(warning);
    }
    match (found.exact, found.other_threads) {
        (Some(stored), _) => {
            output.note(&format!("calibration: {}", stored.path.display()));
            Ok(stored)
        }
        (None, Some(other)) => Err(other_threads(&other, threads).into()),
        (None, None) => {
            let message = format!("no calibration of this machine ({}, {backend}) yet", device.id);
            let more = match args.engine.as_deref().filter(|engine| *engine != ENGINE) {
                Some(engine) => format!(" --engine {engine}"),
                None if backend != Backend::Cpu => format!(" --device {backend}"),
                None => String::new(),
            };
            Err(Hinted::new(message, format!("run `foretoken calibrate{more}`")).into())
        }
    }
}

fn other_threads(stored: &Stored, threads: u32) -> Hinted {
    let Stored { calibration, .. } = stored;
    Hinted::new(
        format!(
            "calibration `{}` is for {}, not {threads}",
            calibration.id,
            units::plural(calibration.threads, "thread")
        ),
        match calibration.device.backend {
            Backend::Cpu => format!("run `foretoken calibrate --threads {threads}`"),
            backend => format!("run `foretoken calibrate --device {backend} --threads {threads}`"),
        },
    )
}

/// The MODEL argument that gives this model again, as a shell reads it.
fn argument_of(model: &ModelSpec) -> String {
    match &model.source {
        ModelSource::Preset { id } => id.clone(),
        ModelSource::Config { path } | ModelSource::Gguf { path } => quoted(path),
        ModelSource::Mini => model.name.clone(),
    }
}

/// In single quotes where a shell would not take it as one word.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./\\:+,@%=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted("models/a-b_1.gguf"), "models/a-b_1.gguf");
        assert_eq!(quoted("my models/a.gguf"), "'my models/a.gguf'");
        assert_eq!(quoted("it's.gguf"), "'it'\\''s.gguf'");
        assert_eq!(quoted("$(x).gguf"), "'$(x).gguf'");
    }
}
