//! Measures a few small synthetic models with candle and prints one JSON line per workload:
//! `cargo run --release -p foretoken-runner --example measure_once [-- LOADS] > lines.jsonl`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example prints")]

use std::io;

use foretoken_gguf::mix::quantized_spec;
use foretoken_runner::{
    CandleEngine, LoadPlan, Progress, SamplingMode, SessionObserver, SessionPlan, WorkloadPlan,
    interleave, run_session, tool_info,
};
use foretoken_spec::{Measurement, ModelShape, ModelSource, QuantScheme, Workload};

struct Printer;

impl SessionObserver for Printer {
    fn on_measurement(&mut self, measurement: &Measurement) -> io::Result<()> {
        println!("{}", serde_json::to_string(measurement)?);
        Ok(())
    }

    fn on_progress(&mut self, progress: &Progress<'_>) {
        eprintln!(
            "{:6.1} s  {}/{}  {} {}  {:?}",
            progress.elapsed.as_secs_f64(),
            progress.load_index + 1,
            progress.n_loads,
            progress.plan.model.name,
            progress.plan.model.quant,
            progress.workload,
        );
    }
}

/// (layers, hidden, heads, kv heads, feed-forward)
const SHAPES: [(u32, u32, u32, u32, u32); 6] = [
    (2, 512, 8, 8, 2048),
    (4, 1024, 16, 4, 3072),
    (2, 2048, 32, 8, 5632),
    (2, 2048, 32, 4, 8192),
    (4, 576, 9, 3, 1536),
    (2, 4096, 32, 8, 11008),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let n_loads = std::env::args().nth(1).map_or(Ok(1), |text| text.parse::<u32>())?;
    let mut plans = Vec::new();
    for load in 0..n_loads {
        for scheme in [QuantScheme::Q8_0, QuantScheme::Q4_K_M, QuantScheme::F16] {
            for shape in SHAPES {
                plans.push(plan(shape, scheme, load));
            }
        }
    }
    let plan = SessionPlan {
        session: "example".to_owned(),
        first_sequence: 0,
        tool: tool_info(env!("CARGO_PKG_VERSION")),
        loads: interleave(plans, 1),
        budget: None,
    };
    let mut engine = CandleEngine::new(SamplingMode::Temperature { seed: 1 });
    let summary = run_session(&mut engine, &plan, &mut Printer, &|| false)?;
    eprintln!("{summary:?}");
    Ok(())
}

fn plan(
    (n_layers, hidden_size, n_heads, n_kv_heads, intermediate_size): (u32, u32, u32, u32, u32),
    scheme: QuantScheme,
    load: u32,
) -> LoadPlan {
    let shape = ModelShape {
        architecture: "llama".into(),
        n_layers,
        hidden_size,
        n_heads,
        n_kv_heads,
        head_dim: hidden_size / n_heads,
        intermediate_size,
        vocab_size: 8192,
        context_length: 4096,
        tied_embeddings: false,
        rope_freqs: false,
        rope_freq_base: 10_000.0,
        rms_norm_eps: 1e-5,
        details: foretoken_spec::ShapeDetails::default(),
    };
    let name = format!("mini-{n_layers}x{hidden_size}-{n_heads}-{n_kv_heads}-{intermediate_size}");
    let workload =
        |prompt_tokens, generated_tokens, depth, prefill_repeats, decode_steps| WorkloadPlan {
            workload: Workload { prompt_tokens, generated_tokens, depth },
            prefill_repeats,
            decode_steps,
        };
    LoadPlan {
        model: quantized_spec(&name, "mini", ModelSource::Mini, shape, scheme),
        load,
        workloads: vec![
            workload(16, 32, 0, 3, 12),
            workload(128, 32, 0, 3, 12),
            workload(512, 32, 0, 2, 12),
            workload(0, 32, 1024, 0, 12),
        ],
    }
}
