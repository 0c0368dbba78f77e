//! `inspect`: what a model is made of, and what a pass over it costs.

use foretoken_cost::{EngineProfile, approximations, pass_cost};
use foretoken_gguf::synth::SyntheticGguf;
use foretoken_runner::device_info;
use foretoken_spec::{
    InspectReport, InspectedModel, InspectedOp, InspectedTensor, ModelSpec, Pass, Phase,
    SCHEMA_VERSION, Workload,
};

use crate::Outcome;
use crate::args::InspectArgs;
use crate::commands::{beyond_context, resolve_model};
use crate::hub::Use;
use crate::output::Output;

/// Shows tensors, bytes and operations of one model.
pub fn run(args: &InspectArgs, output: &Output) -> anyhow::Result<Outcome> {
    // One generated token: the decode step after the prompt is shown beside the prompt's pass.
    let workload = Workload::new(args.prompt, 1, args.depth)?;
    let spec = resolve_model(&args.model, args.quant, Use::Describe)?;
    if let Some(warning) = beyond_context(&spec, &workload) {
        output.warn(&warning);
    }
    let report = inspect(&spec, &workload);
    for sentence in &report.approximations {
        output.warn(sentence);
    }
    output.print(&report)?;
    Ok(Outcome::Good)
}

fn inspect(spec: &ModelSpec, workload: &Workload) -> InspectReport {
    let tensors = spec
        .tensors
        .iter()
        .map(|tensor| InspectedTensor { tensor: tensor.clone(), bytes: tensor.bytes() })
        .collect();
    InspectReport {
        schema_version: SCHEMA_VERSION,
        model: InspectedModel {
            name: spec.name.clone(),
            family: spec.family.clone(),
            quant: spec.quant.clone(),
            shape: spec.shape.clone(),
        },
        tensors,
        parameters: spec.n_parameters(),
        weight_bytes: spec.weight_bytes(),
        file_bytes: spec.file_bytes.unwrap_or_else(|| SyntheticGguf::new(spec).len()),
        ops: operations(spec, workload),
        approximations: approximations(spec, &EngineProfile::candle(&device_info())),
    }
}

/// The operations of the prompt's pass and of one decode step after it, as candle executes them
/// on this machine.
fn operations(spec: &ModelSpec, workload: &Workload) -> Vec<InspectedOp> {
    let engine = EngineProfile::candle(&device_info());
    let after_prompt = Pass { n_tokens: 1, kv_len: workload.depth + workload.prompt_tokens };
    let prefill = workload.prefill().map(|pass| (Phase::Prefill, pass));
    prefill
        .into_iter()
        .chain([(Phase::Decode, after_prompt)])
        .flat_map(|(phase, pass)| {
            pass_cost(spec, &engine, pass).ops.into_iter().map(move |op| InspectedOp {
                op: op.name(),
                kind: op.op,
                role: op.role,
                phase,
                calls: op.calls,
                flop: op.flop,
                bytes: op.bytes,
            })
        })
        .collect()
}
