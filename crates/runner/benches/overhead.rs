//! What measuring costs: decode steps of a plain candle loop, of our loop, and of our loop with
//! the probes recording, in alternation in one process.
//!
//! `cargo bench -p foretoken-runner --bench overhead [-- STEPS [tinyllama]]`
//!
//! The plain model is candle's own type, loaded without any subscriber and driven by nothing
//! else; the file, the threads and the build are the same. Both are loaded afresh several times.
//! Prints medians, ratios with a 95 %
//! bootstrap interval over steps, and the cost per span event.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench prints, and ends at the first failure"
)]

use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use foretoken_gguf::synth::SyntheticGguf;
use foretoken_runner::{CandleEngine, Engine, LoadedModel, SamplingMode};
use foretoken_spec::ModelSpec;
use foretoken_stats::{median, median_interval};

#[path = "shared/models.rs"]
mod models;

/// Tokens in the cache before every step.
const KV_LEN: u32 = 128;

const RESAMPLES: usize = 2000;

/// Fresh loads of both models.
const ROUNDS: usize = 6;

/// Steps of each round that are not counted.
const SETTLING: usize = 3;

fn main() {
    // `cargo bench` passes `--bench` on.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let steps: usize = arguments.first().map_or(200, |text| text.parse().unwrap());
    let is_tinyllama = arguments.get(1).is_some_and(|name| name == "tinyllama");
    let model = if is_tinyllama { models::tinyllama() } else { models::smollm2_135m() };
    let prompt: Vec<u32> = (0..KV_LEN).map(|i| i * 37 % model.shape.vocab_size).collect();

    let mut times: [Vec<f64>; 3] = Default::default();
    let mut n_events = 0.0;
    for round in 0..ROUNDS {
        n_events = run_round(&model, &prompt, round, steps.div_ceil(ROUNDS), &mut times);
    }
    report(&model, &times, n_events);
}

/// Loads both models afresh, since where a model lies in memory moves its time by a percent or
/// two, and runs their steps in alternation. Returns the events of a probed pass.
fn run_round(
    model: &ModelSpec,
    prompt: &[u32],
    round: usize,
    steps: usize,
    times: &mut [Vec<f64>; 3],
) -> f64 {
    let mut engine = CandleEngine::new(SamplingMode::Temperature { seed: 1 });
    let load_ours = |engine: &mut CandleEngine| engine.load(model).unwrap();
    let (mut plain, mut ours) = if round.is_multiple_of(2) {
        (load_plain(model), load_ours(&mut engine))
    } else {
        let ours = load_ours(&mut engine);
        (load_plain(model), ours)
    };
    forward_plain(&mut plain, prompt, 0);
    let plain_start = plain.clone();
    ours.forward(prompt, 0, false).unwrap();
    ours.snapshot();
    let mut n_events = 0.0;
    for step in 0..steps + SETTLING {
        for turn in 0..3 {
            // Each goes first, second and third equally often.
            let which = (turn + step) % 3;
            let ns = if which == 0 {
                plain = plain_start.clone();
                forward_plain(&mut plain, &[1], KV_LEN as usize)
            } else {
                ours.restore().unwrap();
                forward_ours(ours.as_mut(), which == 2)
            };
            if which == 2 {
                n_events = 2.0 * spans(ours.as_ref());
            }
            if step >= SETTLING {
                times[which].push(ns);
            }
        }
    }
    n_events
}

fn report(model: &ModelSpec, times: &[Vec<f64>; 3], n_events: f64) {
    println!(
        "{} {}, decode at kv_len {KV_LEN}, {} steps each",
        model.name,
        model.quant,
        times[0].len()
    );
    for (name, series) in ["plain candle", "unprobed", "probed"].iter().zip(times) {
        println!("{name:>14}: median {:.4} ms", median(series).unwrap() / 1e6);
    }
    for (name, a, b) in [
        ("unprobed / plain", &times[1], &times[0]),
        ("probed / plain", &times[2], &times[0]),
        ("probed / unprobed", &times[2], &times[1]),
    ] {
        let (ratio, lower, upper) = paired_ratio(a, b);
        println!(
            "{name:>18}: {:+.3} %  (95 %: {:+.3} … {:+.3} %)",
            (ratio - 1.0) * 100.0,
            (lower - 1.0) * 100.0,
            (upper - 1.0) * 100.0
        );
    }
    let per_event = ns_per_event();
    println!(
        "{n_events:.0} events × {per_event:.1} ns = {:.4} ms, {:.3} % of a step",
        n_events * per_event / 1e6,
        100.0 * n_events * per_event / median(&times[0]).unwrap()
    );
}

/// Median of the ratios of neighbours, with a percentile bootstrap over the pairs.
fn paired_ratio(a: &[f64], b: &[f64]) -> (f64, f64, f64) {
    let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    let (lower, upper) = median_interval(&ratios, RESAMPLES, 1).unwrap();
    (median(&ratios).unwrap(), lower, upper)
}

fn load_plain(model: &ModelSpec) -> ModelWeights {
    let mut source = SyntheticGguf::new(model);
    let content = Content::read(&mut source).unwrap();
    ModelWeights::from_gguf(content, &mut source, &Device::Cpu).unwrap()
}

fn forward_plain(model: &mut ModelWeights, tokens: &[u32], kv_len: usize) -> f64 {
    let start = Instant::now();
    let input = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let logits = model.forward(&input, kv_len).unwrap().squeeze(0).unwrap();
    let on_host = logits.to_vec1::<f32>().unwrap();
    let ns = start.elapsed().as_nanos() as f64;
    drop(std::hint::black_box(on_host));
    ns
}

fn forward_ours(model: &mut dyn LoadedModel, probe: bool) -> f64 {
    model.forward(&[1], KV_LEN, probe).unwrap().forward_ns as f64
}

/// Spans of the last pass: one per call, the model itself, and the matmul inside the LM head.
fn spans(model: &dyn LoadedModel) -> f64 {
    use foretoken_spec::OpKind::{Embedding, Host, Residual};
    let counted =
        model.last_kernels().into_iter().filter(|k| ![Embedding, Host, Residual].contains(&k.op));
    f64::from(counted.map(|k| k.calls).sum::<u32>() + 2)
}

/// A clock reading and a push, as the subscriber does for each event.
fn ns_per_event() -> f64 {
    const N: usize = 100_000;
    let mut events = Vec::with_capacity(N);
    let start = Instant::now();
    for id in 0..N as u64 {
        events.push((std::hint::black_box(id), true, Instant::now()));
    }
    let ns = start.elapsed().as_nanos() as f64;
    drop(std::hint::black_box(events));
    ns / N as f64
}
