//! One module per command: resolve the arguments, call a library, hand the answer to the output.
//!
//! What several commands need stands here.

pub mod calibrate;
pub mod device_figures;
pub mod devices;
pub mod fit_devices;
pub mod import;
pub mod inspect;
pub mod measure;
pub mod models;
pub mod predict;
pub mod probe;
pub mod profile;
pub mod schema;
pub mod synth;
pub mod validate;
pub mod validate_devices;

use anyhow::Context;
use foretoken_catalog::{check_scheme, is_gguf, resolve};
use foretoken_cost::{EngineProfile, memory_parts};
use foretoken_gguf::mix::quantized_spec;
use foretoken_hub::HubRef;
use foretoken_runner::{NoDevice, OpenDevice, RunDevice, check_memory, rerun_with_threads};
use foretoken_spec::{ModelSpec, QuantScheme, Workload};

use crate::args::RunArgs;
use crate::hub::{Use, is_hub_name, resolve_hub};
use crate::output::Hinted;

/// Resident size of the process before any model is loaded: the binary, its stacks and pools.
pub const PROCESS_BYTES: u64 = 24 << 20;

/// The memory that a model is to run in, and by what.
pub struct Room<'a> {
    /// What runs the model.
    pub engine: EngineProfile,
    /// Name of the device.
    pub device: &'a str,
    /// Memory that is free; `None` where nothing tells.
    pub available_bytes: Option<u64>,
    /// What measuring takes beside the model.
    pub own_bytes: u64,
}

/// Refuses a model that candle cannot hold in the device's free memory, with what measuring takes
/// beside it.
pub fn check_fits<'a>(
    model: &ModelSpec,
    workloads: impl IntoIterator<Item = &'a Workload>,
    device: &OpenDevice,
) -> anyhow::Result<()> {
    let room = Room {
        engine: EngineProfile::candle(device.info()),
        device: &device.info().name,
        available_bytes: device.available_memory(),
        own_bytes: PROCESS_BYTES.saturating_add(device.reference_bytes()),
    };
    check_room(model, workloads, &room)
}

/// Refuses a model that the memory cannot hold; says in which quantizations the same model would fit.
pub fn check_room<'a>(
    model: &ModelSpec,
    workloads: impl IntoIterator<Item = &'a Workload>,
    room: &Room<'_>,
) -> anyhow::Result<()> {
    let Some(available) = room.available_bytes else { return Ok(()) };
    let workloads: Vec<&Workload> = workloads.into_iter().collect();
    let needed = |model: &ModelSpec| {
        let of = |workload: &&Workload| memory_parts(model, &room.engine, workload).total();
        workloads.iter().map(of).max().unwrap_or(0).saturating_add(room.own_bytes)
    };
    let Err(error) = check_memory(needed(model), available) else { return Ok(()) };
    let smaller = smaller_quants(model, |other| needed(other) <= available);
    let message = format!("{} {} on {}", model.name, model.quant, room.device);
    let hint = match smaller.as_slice() {
        [] => return Err(error).context(message),
        quants => format!("it would fit as {}", quants.join(", ")),
    };
    Err(Hinted::new(format!("{message}: {error}"), hint).into())
}

/// Quantizations that are looked at where the one asked for does not fit, largest first.
const SMALLER: [QuantScheme; 6] = [
    QuantScheme::Q8_0,
    QuantScheme::Q6_K,
    QuantScheme::Q5_K_M,
    QuantScheme::Q4_K_M,
    QuantScheme::Q3_K_M,
    QuantScheme::Q2_K,
];

/// The quantizations in which the same model would fit.
pub fn smaller_quants(model: &ModelSpec, fits: impl Fn(&ModelSpec) -> bool) -> Vec<String> {
    let fits = |scheme: &QuantScheme| {
        let (name, family) = (&model.name, &model.family);
        let (source, shape) = (model.source.clone(), model.shape.clone());
        fits(&quantized_spec(name, family, source, shape, *scheme))
    };
    let allowed = |scheme: &QuantScheme| check_scheme(&model.shape, &model.name, *scheme).is_ok();
    SMALLER.into_iter().filter(allowed).filter(fits).map(|scheme| scheme.to_string()).collect()
}

/// Every model in every quantization asked for; a GGUF file brings its own, which must be one of
/// those where any are named. A file of the hub is one too, a repository picks a file by
/// quantization.
pub fn resolve_models(
    models: &[String],
    quants: &[QuantScheme],
    wanted: Use<'_>,
) -> anyhow::Result<Vec<ModelSpec>> {
    let mut specs: Vec<ModelSpec> = Vec::new();
    for argument in models {
        let one = |quant| resolve_model(argument, quant, wanted);
        let is_file = is_gguf(argument);
        let found: Vec<ModelSpec> = if quants.is_empty() {
            vec![one(None)?]
        } else if is_file {
            vec![of_file(one, quants)?]
        } else {
            quants.iter().map(|q| one(Some(*q))).collect::<Result<_, _>>()?
        };
        for spec in found {
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
    }
    Ok(specs)
}

/// The model of one argument: of the hub, or of this disk and the catalogue.
pub fn resolve_model(
    argument: &str,
    quant: Option<QuantScheme>,
    wanted: Use<'_>,
) -> anyhow::Result<ModelSpec> {
    if let Some(name) = HubRef::of_url(argument) {
        let message = format!("`{}` is the address of a page", argument.trim().escape_debug());
        return Err(Hinted::new(message, format!("write {name}")).into());
    }
    if argument.contains("://") && !is_hub_name(argument) {
        let message = format!("`{}` is an address, no file", argument.trim().escape_debug());
        let hint = "download the file and give its path; models of the Hugging Face hub are \
                    fetched by hf:org/repo/file.gguf";
        return Err(Hinted::new(message, hint).into());
    }
    if is_hub_name(argument) {
        return resolve_hub(argument, quant, wanted);
    }
    Ok(resolve(argument, quant)?)
}

fn of_file(
    one: impl Fn(Option<QuantScheme>) -> anyhow::Result<ModelSpec>,
    quants: &[QuantScheme],
) -> anyhow::Result<ModelSpec> {
    let spec = one(None)?;
    if quants.iter().any(|q| q.name().eq_ignore_ascii_case(&spec.quant)) {
        return Ok(spec);
    }
    // The words for a quantization that the file does not have.
    one(quants.first().copied())
}

/// The warning about a workload that is longer than the model's context.
pub fn beyond_context(spec: &ModelSpec, workload: &Workload) -> Option<String> {
    let limit = spec.shape.context_length;
    (workload.total_tokens() > limit).then(|| {
        format!(
            "depth {} + prompt {} + gen {} is beyond the context of {} ({limit} tokens)",
            workload.depth, workload.prompt_tokens, workload.generated_tokens, spec.name,
        )
    })
}

/// Settles where the engine runs: starts the program again where another number of threads is asked
/// for (candle reads it once per process), and opens the device.
///
/// # Errors
/// A device that this build does not have, or that its driver does not give.
pub fn run_here(run: &RunArgs) -> anyhow::Result<OpenDevice> {
    let device = RunDevice::parse(&run.device).map_err(refused)?;
    if let Some(threads) = run.threads {
        let status = rerun_with_threads(threads)
            .with_context(|| format!("cannot start again with {threads} threads"))?;
        if let Some(status) = status {
            // Only where the system cannot replace a process: the other one did the work.
            std::process::exit(status.code().unwrap_or(2));
        }
    }
    device.open().map_err(refused)
}

/// The refusal with its remedy.
pub fn refused(error: NoDevice) -> anyhow::Error {
    let hint = error.hint();
    Hinted::new(error.to_string(), hint).into()
}
