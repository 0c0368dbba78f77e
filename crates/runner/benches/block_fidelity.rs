//! How true the division of a block by microbenchmarks is: in a reader whose spans tell the parts
//! of a block apart, the block is divided as if they did not, and held against its spans.
//!
//! `cargo bench -p foretoken-runner --bench block_fidelity [-- smollm2 | tinyllama] [ROUNDS]`
//!
//! Each round is a process of its own, because where weights lie in memory moves a kernel by a
//! percent or two: passes of the whole model under the probes, then the bench of its blocks.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench prints, and ends at the first failure"
)]

use std::collections::BTreeMap;
use std::process::Command;

use foretoken_runner::{CandleEngine, Engine, LoadedModel, SamplingMode};
use foretoken_spec::{BlockSplit, KernelOp, ModelSpec, Pass, Slice, TensorRole};
use foretoken_stats::median;

#[path = "shared/models.rs"]
mod models;

const PROMPT: u32 = 128;
/// Passes over the prompt, and decode steps, in each round.
const PROMPTS: usize = 10;
const STEPS: usize = 30;
/// Tells a process that it is to run a round.
const ROUND: &str = "FORETOKEN_BLOCK_FIDELITY_ROUND";
const BLOCKS: [KernelOp; 3] =
    [KernelOp::AttentionInputs, KernelOp::AttentionBlock, KernelOp::FeedForwardBlock];

/// A part of a block, and of which matrix.
type Part = (KernelOp, KernelOp, Option<TensorRole>);
/// Phase, part, and its time in ns over all layers: in place, divided, alone.
type Row = (usize, Part, [f64; 3]);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let rounds: usize = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(6);
    let named = |name: &str| arguments.iter().any(|a| a == name);
    let all = !named("smollm2") && !named("tinyllama");
    for (name, model) in [("smollm2", models::smollm2_135m()), ("tinyllama", models::tinyllama())] {
        if !all && !named(name) {
            continue;
        }
        if std::env::var(ROUND).is_ok() {
            println!("{}", serde_json::to_string(&round(&model)).unwrap());
            continue;
        }
        println!("### {} {}\n", model.name, model.quant);
        let mut found: BTreeMap<(usize, Part), Vec<[f64; 3]>> = BTreeMap::new();
        for _ in 0..rounds {
            let exe = std::env::current_exe().unwrap();
            let output = Command::new(exe).arg(name).env(ROUND, "1").output().unwrap();
            assert!(output.status.success(), "a round failed");
            let rows: Vec<Row> = serde_json::from_slice(&output.stdout).unwrap();
            for (phase, part, times) in rows {
                found.entry((phase, part)).or_default().push(times);
            }
        }
        let layers = f64::from(model.shape.n_layers);
        table("prefill", &found, 0, layers);
        table("decode", &found, 1, layers);
    }
}

/// Times of the parts of a pass in one layer, by where they belong.
type Times = BTreeMap<(u32, Part), f64>;

fn round(model: &ModelSpec) -> Vec<Row> {
    let mut engine = CandleEngine::new(SamplingMode::Temperature { seed: 1 }).keeping_memory();
    let mut loaded = engine.load(model).unwrap();
    let prompt: Vec<u32> = (0..PROMPT).map(|i| i * 37 % model.shape.vocab_size).collect();
    for _ in 0..2 {
        loaded.reset();
        loaded.forward(&prompt, 0, false).unwrap();
    }
    let prompts: Vec<Times> = (0..PROMPTS)
        .map(|_| {
            loaded.reset();
            timed(loaded.as_mut(), &prompt, 0)
        })
        .collect();
    loaded.snapshot();
    let steps: Vec<Times> = (0..STEPS)
        .map(|_| {
            loaded.restore().unwrap();
            timed(loaded.as_mut(), &[1], PROMPT)
        })
        .collect();
    drop(loaded);
    let blocks: Vec<(KernelOp, u32)> =
        (0..model.shape.n_layers).flat_map(|layer| BLOCKS.map(|block| (block, layer))).collect();
    let passes = [Pass { n_tokens: PROMPT, kv_len: 0 }, Pass { n_tokens: 1, kv_len: PROMPT }];
    let splits = engine.time_parts(model, &blocks, &passes, &|| false).unwrap();
    let mut rows = Vec::new();
    for (phase, (pass, samples)) in passes.into_iter().zip([prompts, steps]).enumerate() {
        rows.extend(
            compared(pass, &samples, &splits).into_iter().map(|(part, t)| (phase, part, t)),
        );
    }
    rows
}

/// One probed pass.
fn timed(model: &mut dyn LoadedModel, tokens: &[u32], kv_len: u32) -> Times {
    model.forward(tokens, kv_len, true).unwrap();
    let mut times = Times::new();
    let mut last = None;
    for slice in model.take_recording().unwrap().slices() {
        if let (Some(layer), Some(block)) = (slice.layer, block_of(&slice, last)) {
            *times.entry((layer, (block, slice.op, slice.role))).or_insert(0.0) += slice.ns as f64;
        }
        if slice.op != KernelOp::Uncovered {
            last = slice.role;
        }
    }
    times
}

/// The block that a slice would belong to in a reader without spans inside it; `last`: the role of
/// the slice before.
fn block_of(slice: &Slice, last: Option<TensorRole>) -> Option<KernelOp> {
    use TensorRole as R;
    Some(match (slice.op, slice.role) {
        (KernelOp::Matmul, Some(R::AttnQ | R::AttnK | R::AttnV)) => KernelOp::AttentionInputs,
        (KernelOp::AttentionLayout, _) => KernelOp::AttentionInputs,
        (KernelOp::Attention, _) | (KernelOp::Matmul, Some(R::AttnOutput)) => {
            KernelOp::AttentionBlock
        }
        (KernelOp::Matmul, Some(R::FfnGate | R::FfnUp | R::FfnDown)) => KernelOp::FeedForwardBlock,
        (KernelOp::Activation, _) => KernelOp::FeedForwardBlock,
        (KernelOp::Residual, _) if last == Some(R::FfnDown) => KernelOp::FeedForwardBlock,
        _ => return None,
    })
}

/// Each part over all layers: medians of its spans, what the bench makes of the same blocks, and
/// the bench's own times.
fn compared(pass: Pass, samples: &[Times], splits: &[BlockSplit]) -> Vec<(Part, [f64; 3])> {
    let mut rows: BTreeMap<Part, [f64; 3]> = BTreeMap::new();
    let mut in_place: BTreeMap<(u32, Part), f64> = BTreeMap::new();
    for key in samples[0].keys() {
        let of: Vec<f64> = samples.iter().filter_map(|s| s.get(key).copied()).collect();
        in_place.insert(*key, median(&of).unwrap());
    }
    for ((_, part), ns) in &in_place {
        rows.entry(*part).or_default()[0] += ns;
    }
    let of_pass = |s: &&BlockSplit| (s.n_tokens, s.kv_len) == (pass.n_tokens, pass.kv_len);
    for split in splits.iter().filter(of_pass) {
        let alone: f64 = split.parts.iter().map(|part| part.ns).sum();
        for layer in &split.layers {
            let whole: f64 = in_place
                .iter()
                .filter(|((of, (block, ..)), _)| of == layer && *block == split.block)
                .map(|(_, ns)| ns)
                .sum();
            for part in &split.parts {
                let row = rows.entry((split.block, merged(part.op), part.role)).or_default();
                row[1] += whole * part.ns / alone;
                row[2] += part.ns;
            }
        }
    }
    rows.into_iter().collect()
}

/// The spans tell attention as one.
fn merged(op: KernelOp) -> KernelOp {
    match op {
        KernelOp::KvConcat
        | KernelOp::AttentionScores
        | KernelOp::AttentionSoftmax
        | KernelOp::AttentionValues => KernelOp::Attention,
        op => op,
    }
}

fn table(name: &str, found: &BTreeMap<(usize, Part), Vec<[f64; 3]>>, phase: usize, layers: f64) {
    println!(
        "| {name}: block | part | in place µs per layer | divided µs | difference % | of the block % | alone µs | rounds, % |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---|");
    let rows = || found.iter().filter(|((of, _), _)| *of == phase).map(|((_, part), t)| (part, t));
    for ((block, op, role), times) in rows() {
        let mid = |of: &dyn Fn(&[f64; 3]) -> f64| {
            median(&times.iter().map(of).collect::<Vec<_>>()).unwrap()
        };
        let whole: f64 = rows()
            .filter(|((other, ..), _)| other == block)
            .map(|(_, times)| median(&times.iter().map(|t| t[0]).collect::<Vec<_>>()).unwrap())
            .sum();
        let [in_place, divided, alone] = [0, 1, 2].map(|i| mid(&|t: &[f64; 3]| t[i]));
        let name = match role {
            Some(role) => format!("{}.{}", op.name(), role.gguf_stem()),
            None => op.name().to_owned(),
        };
        let spread: Vec<String> =
            times.iter().map(|t| format!("{:+.1}", (t[1] / t[0] - 1.0) * 100.0)).collect();
        println!(
            "| {} | {name} | {:.2} | {:.2} | {:+.1} | {:.1} | {:.2} | {} |",
            block.name(),
            in_place / layers / 1e3,
            divided / layers / 1e3,
            mid(&|t: &[f64; 3]| (t[1] / t[0] - 1.0) * 100.0),
            in_place / whole * 100.0,
            alone / layers / 1e3,
            spread.join(" ")
        );
    }
    println!();
}
