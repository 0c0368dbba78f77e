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

use anyhow::{Context, bail};
use foretoken_catalog::{is_gguf, resolve};
use foretoken_cost::{EngineProfile, memory_parts};
use foretoken_hub::HubRef;
use foretoken_runner::{available_memory, check_memory, reference_bytes, rerun_with_threads};
use foretoken_spec::{DeviceInfo, ModelSpec, QuantScheme, Workload};

use crate::args::RunArgs;
use crate::hub::{Use, is_hub_name, resolve_hub};
use crate::output::Hinted;

/// Resident size of the process before any model is loaded: the binary, its stacks and pools.
pub const PROCESS_BYTES: u64 = 24 << 20;

/// Refuses a model that free memory cannot hold, with what measuring takes beside it.
pub fn check_fits<'a>(
    model: &ModelSpec,
    workloads: impl IntoIterator<Item = &'a Workload>,
    device: &DeviceInfo,
) -> anyhow::Result<()> {
    let engine = EngineProfile::candle(device);
    let of = |workload| memory_parts(model, &engine, workload).total();
    let most = workloads.into_iter().map(of).max().unwrap_or(0);
    let needed = most + PROCESS_BYTES + reference_bytes(device.l3_bytes);
    let Some(available) = available_memory() else { return Ok(()) };
    check_memory(needed, available).with_context(|| format!("{} {}", model.name, model.quant))
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

/// Settles where the engine runs: refuses devices that are not built in, and starts the program
/// again where another number of threads is asked for (candle reads it once per process).
pub fn run_here(run: &RunArgs) -> anyhow::Result<()> {
    let (device, _) = run.device.split_once(':').unwrap_or((&run.device, ""));
    match device {
        "cpu" => {}
        "cuda" | "metal" => {
            let message = format!("--device {}: this build runs on the CPU only", run.device);
            return Err(Hinted::new(message, "use --device cpu").into());
        }
        other => bail!("unknown device `{other}`; known: cpu, cuda[:N], metal"),
    }
    let Some(threads) = run.threads else { return Ok(()) };
    let status = rerun_with_threads(threads)
        .with_context(|| format!("cannot start again with {threads} threads"))?;
    match status {
        None => Ok(()),
        // Only where the system cannot replace a process: the other one did the work.
        Some(status) => std::process::exit(status.code().unwrap_or(2)),
    }
}
