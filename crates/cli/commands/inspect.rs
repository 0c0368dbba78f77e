//! `inspect`: what a model is made of, and what a pass over it costs.

use foretoken_cost::{EngineProfile, approximations, pass_cost};
use foretoken_gguf::mix::fallback_note;
use foretoken_gguf::synth::SyntheticGguf;
use foretoken_runner::processor_info;
use foretoken_spec::{
    FileContents, InspectReport, InspectedModel, InspectedOp, InspectedTensor, ModelSource,
    ModelSpec, Pass, Phase, SCHEMA_VERSION, Workload,
};

use crate::Outcome;
use crate::args::InspectArgs;
use crate::commands::{beyond_context, resolve_model};
use crate::hub::Use;
use crate::output::Output;

/// Tokens of the prompt where none are asked for.
const USUAL_PROMPT: u32 = 512;

/// Shows tensors, bytes and operations of one model.
pub fn run(args: &InspectArgs, output: &Output) -> anyhow::Result<Outcome> {
    let spec = resolve_model(&args.model, args.quant, Use::Describe(output))?;
    // A model of a short context has nothing to be warned of where no length was asked for.
    let room = spec.shape.context_length.saturating_sub(args.depth.saturating_add(1)).max(1);
    let prompt = args.prompt.unwrap_or(USUAL_PROMPT.min(room));
    // One generated token: the decode step after the prompt is shown beside the prompt's pass.
    let workload = Workload::new(prompt, 1, args.depth)?;
    if let Some(warning) = beyond_context(&spec, &workload) {
        output.warn(&warning);
    }
    let report = inspect(&spec, &workload);
    for sentence in &report.approximations {
        output.warn(sentence);
    }
    if let Some(sentence) = fallback_note(&spec) {
        output.note(&sentence);
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
    let engine = EngineProfile::candle(&processor_info());
    let kv_elements = spec.shape.kv_elements_per_token();
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
        file_contents: match (&spec.source, spec.file_bytes) {
            (ModelSource::Gguf { .. }, Some(_)) => FileContents::File,
            (_, Some(_)) => FileContents::WithTokenizer,
            (_, None) => FileContents::WithoutTokenizer,
        },
        kv_elements_per_token: kv_elements,
        kv_bytes_per_token: engine.kv_bytes(kv_elements),
        ops: operations(spec, workload, &engine),
        approximations: approximations(spec, &engine),
    }
}

/// The operations of the prompt's pass and of one decode step after it, as candle executes them
/// on this machine.
fn operations(spec: &ModelSpec, workload: &Workload, engine: &EngineProfile) -> Vec<InspectedOp> {
    let after_prompt = Pass { n_tokens: 1, kv_len: workload.depth + workload.prompt_tokens };
    let prefill = workload.prefill().map(|pass| (Phase::Prefill, pass));
    prefill
        .into_iter()
        .chain([(Phase::Decode, after_prompt)])
        .flat_map(|(phase, pass)| {
            pass_cost(spec, engine, pass).ops.into_iter().map(move |op| InspectedOp {
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
