//! A million predictions, with intervals, on one core: the whole catalogue in every quantization,
//! at many lengths and depths, on the committed calibration.
//!
//! `cargo bench -p foretoken-predict --bench million [-- ROUNDS]`
//!
//! Each prediction is a whole request: prefill, decode, TTFT, TPOT and end to end, each with its
//! interval, worst tier and extrapolation flag. Prints the time to describe the models, to prepare
//! them and to predict, then single passes in an order that shares nothing between them, then the
//! predictor that explains itself. Medians of the rounds; beside the time on the wall that on the
//! core, where Linux tells it: the core may be shared.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench prints, and ends at the first failure"
)]

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use foretoken_catalog::presets;
use foretoken_predict::{Predictor, PreparedModel};
use foretoken_spec::{Calibration, ModelSpec, Pass, QuantScheme};

/// Predictions that are asked for at least.
const WANTED: usize = 1_000_000;
/// Prompt lengths: from 16 to some 10,000 tokens in equal ratios.
const LENGTHS: usize = 25;
const GENERATED_TOKENS: u32 = 128;
/// Every so many models one that the predictor answers without preparation.
const SPARSELY: usize = 16;

fn main() {
    // `cargo bench` passes `--bench` on.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let rounds: usize = arguments.next().map_or(5, |text| text.parse().unwrap());

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("calibration/amd-epyc-zen5-2c-candle-2t.json");
    let calibration: Calibration =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let predictor = Predictor::new(&calibration).unwrap();
    presets();

    let mut times: [Vec<Elapsed>; 5] = Default::default();
    let mut counts = [0; 5];
    for _ in 0..rounds {
        let watch = Stopwatch::start();
        let models = describe();
        times[0].push(watch.read());
        counts[0] = models.len();

        let watch = Stopwatch::start();
        let prepared: Vec<_> =
            models.iter().map(|model| PreparedModel::new(&predictor, model, 1).unwrap()).collect();
        times[1].push(watch.read());
        counts[1] = prepared.len();

        let lengths: Vec<u32> = geometric(16.0, 10_000.0, LENGTHS).collect();
        let n_depths = WANTED.div_ceil(prepared.len() * LENGTHS);
        let depths: Vec<u32> = geometric(1.0, 100_000.0, n_depths).map(|depth| depth - 1).collect();
        let watch = Stopwatch::start();
        counts[2] = requests(&prepared, &lengths, &depths);
        times[2].push(watch.read());

        let watch = Stopwatch::start();
        counts[3] = passes(&prepared, &lengths, &depths);
        times[3].push(watch.read());

        let watch = Stopwatch::start();
        counts[4] = explained(&predictor, &models, &lengths);
        times[4].push(watch.read());
    }
    let names = [
        "models described",
        "models prepared",
        "requests predicted",
        "passes predicted, nothing shared",
        "passes predicted and explained",
    ];
    println!("{:32} {:>8} {:>7} {:>7} {:>12}", "", "count", "wall s", "core s", "per core s");
    for ((name, count), times) in names.iter().zip(counts).zip(&mut times) {
        times.sort_by(|a, b| a.core().total_cmp(&b.core()));
        let median = times[times.len() / 2];
        let rate = count as f64 / median.core();
        println!("{name:32} {count:8} {:7.3} {:7.3} {rate:12.0}", median.wall_s, median.core());
    }
}

/// A time on the wall and on the core, in seconds.
#[derive(Clone, Copy)]
struct Elapsed {
    wall_s: f64,
    core_s: Option<f64>,
}

impl Elapsed {
    fn core(&self) -> f64 {
        self.core_s.unwrap_or(self.wall_s)
    }
}

struct Stopwatch(Instant, Option<f64>);

impl Stopwatch {
    fn start() -> Self {
        Self(Instant::now(), core_seconds())
    }

    fn read(&self) -> Elapsed {
        let core_s = core_seconds().zip(self.1).map(|(end, start)| end - start);
        Elapsed { wall_s: self.0.elapsed().as_secs_f64(), core_s }
    }
}

/// Seconds that this thread has had a core.
fn core_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse::<f64>().ok().map(|ns| 1e-9 * ns)
}

/// Every model of the catalogue in every quantization.
fn describe() -> Vec<ModelSpec> {
    let of_preset = |preset: &'static foretoken_catalog::Preset| {
        QuantScheme::ALL.iter().map(move |&scheme| preset.spec(scheme))
    };
    presets().iter().flat_map(of_preset).collect()
}

fn geometric(first: f64, last: f64, count: usize) -> impl Iterator<Item = u32> {
    let step = (last / first).ln() / (count - 1) as f64;
    (0..count).map(move |i| (first * (step * i as f64).exp()).round() as u32)
}

fn requests(prepared: &[PreparedModel<'_>], lengths: &[u32], depths: &[u32]) -> usize {
    let mut count = 0;
    for model in prepared {
        for &length in lengths {
            let prompt = model.tokens(length).unwrap();
            for &depth in depths {
                black_box(prompt.request(GENERATED_TOKENS, depth).unwrap());
                count += 1;
            }
        }
    }
    count
}

/// Prefill passes, the models in the innermost loop.
fn passes(prepared: &[PreparedModel<'_>], lengths: &[u32], depths: &[u32]) -> usize {
    let mut count = 0;
    for &kv_len in depths {
        for &n_tokens in lengths {
            for model in prepared {
                black_box(model.pass(Pass { n_tokens, kv_len }).unwrap());
                count += 1;
            }
        }
    }
    count
}

fn explained(predictor: &Predictor<'_>, models: &[ModelSpec], lengths: &[u32]) -> usize {
    let mut count = 0;
    for model in models.iter().step_by(SPARSELY) {
        for &n_tokens in lengths {
            black_box(predictor.pass(model, Pass { n_tokens, kv_len: 64 }).unwrap());
            count += 1;
        }
    }
    count
}
