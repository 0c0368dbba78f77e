//! `predict`: time and memory of models that were not run.

use anyhow::bail;
use foretoken_predict::{Asked, Predictor, predict};
use foretoken_report::Predictions;
use foretoken_runner::{available_memory, device_info};
use foretoken_spec::{Backend, Prediction, Workload};

use crate::Outcome;
use crate::args::PredictArgs;
use crate::commands::calibrate::require_candle;
use crate::commands::resolve_models;
use crate::files::{Stored, find_calibration, newest_calibration, require_backend};
use crate::output::{Hinted, Output};

/// Resident size of the process before any model is loaded: the binary, its stacks and pools.
const PROCESS_BYTES: u64 = 24 << 20;

/// Predicts every model in every quantization asked for.
pub fn run(args: &PredictArgs, output: &Output) -> anyhow::Result<Outcome> {
    let workload = Workload::new(args.prompt, args.generate, args.depth)?;
    require_candle(&args.engine)?;
    check_batch_and_cache(args)?;
    let models = resolve_models(&args.models, &args.quant)?;
    let stored = calibration(args, output)?;
    let here = stored.calibration.device.id == device_info().id;
    let predictor = Predictor::new(&stored.calibration)?;
    let mut predictions: Vec<Prediction> = Vec::new();
    for model in &models {
        let asked = Asked {
            batch_size: args.batch,
            available_bytes: if here {
                available_memory()
            } else {
                Some(stored.calibration.device.memory_bytes)
            },
            process_bytes: PROCESS_BYTES,
            model_argument: argument_of(args, &model.name),
        };
        predictions.push(predict(&predictor, model, &workload, &asked)?);
    }
    output.print(&Predictions { predictions, explain: args.explain })?;
    Ok(Outcome::Good)
}

/// The calibration asked for, or the newest of this machine.
fn calibration(args: &PredictArgs, output: &Output) -> anyhow::Result<Stored> {
    let backend = Backend::from(args.backend);
    let stored = match &args.calibration {
        Some(argument) => find_calibration(argument)?,
        None => {
            let device = device_info();
            let Some(stored) = newest_calibration(&device.id, &args.engine, backend) else {
                let message = format!("no calibration of this machine ({}) yet", device.id);
                return Err(Hinted::new(message, "run `foretoken calibrate`").into());
            };
            output.note(&format!("calibration: {}", stored.path.display()));
            stored
        }
    };
    require_backend(&stored.path, stored.calibration.device.backend, backend)?;
    if let Some(threads) = args.threads.filter(|n| *n != stored.calibration.threads) {
        let message = format!(
            "calibration `{}` is for {} threads, not {threads}",
            stored.calibration.id, stored.calibration.threads
        );
        let hint = format!("run `foretoken calibrate --threads {threads}`");
        return Err(Hinted::new(message, hint).into());
    }
    Ok(stored)
}

fn check_batch_and_cache(args: &PredictArgs) -> anyhow::Result<()> {
    if args.batch != 1 {
        bail!("--batch {}: candle's quantized readers run one sequence; use --batch 1", args.batch);
    }
    if let Some(kv_type) = args.kv_type.as_deref().filter(|t| !t.eq_ignore_ascii_case("f32")) {
        bail!("--kv-type {kv_type}: candle's llama reader keeps its KV cache in f32");
    }
    Ok(())
}

/// The MODEL argument that gave the model of this name, for the command that verifies.
fn argument_of(args: &PredictArgs, name: &str) -> String {
    match &args.models[..] {
        [only] => only.clone(),
        many => many
            .iter()
            .find(|argument| argument.as_str() == name || argument.contains(name))
            .cloned()
            .unwrap_or_else(|| name.to_owned()),
    }
}
