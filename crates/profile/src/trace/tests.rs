use std::collections::BTreeMap;

use foretoken_spec::{
    Allocator, Backend, Ceilings, DeviceInfo, EngineInfo, ModelShape, ModelSource, ModelSpec,
    OverheadPairs, PassSample, Sampling, Stretch, TensorType, ToolInfo,
};
use serde_json::Value;

use super::*;
use crate::testing::attention_split;

fn timeline(stretches: Vec<Stretch>, passes: Vec<TimedPass>) -> Timeline {
    let last = passes.last().map_or(1000, |p| p.start_ns + p.total_ns());
    let shape = ModelShape {
        architecture: "llama".into(),
        n_layers: 32,
        hidden_size: 64,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 16,
        intermediate_size: 128,
        vocab_size: 1000,
        context_length: 2048,
        tied_embeddings: false,
        rope_freqs: false,
        rms_norm_eps: 1e-5,
        rope_freq_base: 10_000.0,
        details: foretoken_spec::ShapeDetails::default(),
    };
    Timeline {
        tool: ToolInfo {
            version: "0.1.0".into(),
            profile: "release".into(),
            target: "x86_64-unknown-linux-gnu".into(),
            target_features: String::new(),
        },
        time: "2026-01-01T00:00:00Z".into(),
        model: ModelSpec::from_shape(
            "a \"quoted\" name",
            "llama",
            "Q4_K_M",
            ModelSource::Mini,
            shape,
            |_, _| TensorType::Q4_K,
        ),
        device: DeviceInfo {
            id: "test-4".into(),
            backend: Backend::Cpu,
            name: "Test".into(),
            arch: "x86_64".into(),
            isa: vec![],
            physical_cores: 4,
            logical_cores: 4,
            l3_bytes: None,
            memory_bytes: 1 << 30,
            os: "Linux".into(),
            hypervisor: None,
            host: None,
        },
        engine: EngineInfo { name: "candle".into(), version: "0.11.1".into() },
        threads: 4,
        allocator: Allocator::Kept,
        sampling: Sampling::Temperature,
        ceilings: Ceilings { stream_bytes_per_second: 1e10, matmul_flop_per_second: 1e11 },
        stretches,
        passes,
        end_ns: last + 500,
        counters: vec![],
        splits: vec![],
        pairs: OverheadPairs::default(),
        prompt_repeats_ns: vec![],
        span_clock: foretoken_spec::SpanClock::Host,
        ns_per_event: 40.0,
        sampled_every: 2,
        prompt_text: None,
        generated_text: None,
        interrupted: false,
        warnings: vec!["one\nwarning".into()],
    }
}

fn pass(n_tokens: u32, kv_len: u32, start_ns: u64, slices: Vec<Slice>) -> TimedPass {
    let probed = !slices.is_empty();
    let forward_ns = if probed { slices.iter().map(|s| s.ns).sum() } else { 9000 };
    let sample = PassSample {
        n_tokens,
        kv_len,
        forward_ns,
        logits_copy_ns: 200,
        softmax_ns: 300,
        sampling_ns: 100,
        probed,
        preempted: false,
    };
    let phase = Pass { n_tokens, kv_len }.phase();
    TimedPass { phase, start_ns, sample, detokenize_ns: 50, token: 7, slices }
}

/// Slices that follow each other, as `(op, role, layer, ns)`.
fn flat(parts: &[(KernelOp, Option<TensorRole>, Option<u32>, u64)]) -> Vec<Slice> {
    let mut start_ns = 0;
    let mut slices = Vec::new();
    for &(op, role, layer, ns) in parts {
        slices.push(Slice { op, role, layer, start_ns, ns });
        start_ns += ns;
    }
    slices
}

/// A pass over a model of `n_layers`, with gaps between its kernels, times around `ns`.
fn model_slices(n_layers: u32, ns: u64) -> Vec<Slice> {
    use KernelOp::{
        Activation, Attention, Embedding, Input, LmHead, LogitsCopy, Matmul, Residual, RmsNorm,
        Rope, Uncovered,
    };
    use TensorRole::{
        AttnK, AttnNorm, AttnOutput, AttnQ, AttnV, FfnDown, FfnGate, FfnNorm, FfnUp, Output,
        OutputNorm, TokenEmbedding,
    };
    let mut parts = vec![
        (Input, None, None, ns),
        (Embedding, Some(TokenEmbedding), None, ns + 1),
        // Too short for the clock.
        (Uncovered, None, None, 0),
    ];
    for layer in 0..n_layers {
        for (op, role) in [
            (RmsNorm, Some(AttnNorm)),
            (Matmul, Some(AttnQ)),
            (Matmul, Some(AttnK)),
            (Matmul, Some(AttnV)),
            (Rope, Some(AttnQ)),
            (Rope, Some(AttnK)),
            (Attention, None),
            (Matmul, Some(AttnOutput)),
            (Residual, None),
            (RmsNorm, Some(FfnNorm)),
            (Matmul, Some(FfnGate)),
            (Matmul, Some(FfnUp)),
            (Activation, None),
            (Matmul, Some(FfnDown)),
            (Residual, None),
        ] {
            parts.push((op, role, Some(layer), ns + u64::from(layer % 7)));
            parts.push((Uncovered, None, Some(layer), u64::from(layer % 2) * 31));
        }
    }
    parts.push((RmsNorm, Some(OutputNorm), None, ns));
    parts.push((LmHead, Some(Output), None, 10 * ns));
    parts.push((LogitsCopy, None, None, 200));
    flat(&parts)
}

fn written(timeline: &Timeline, predicted: Option<PredictForwardMs<'_>>) -> (usize, Value) {
    let mut out = Vec::new();
    write_trace(timeline, predicted, &mut out).unwrap();
    (out.len(), serde_json::from_slice(&out).unwrap())
}

fn events(trace: &Value) -> &[Value] {
    trace["traceEvents"].as_array().unwrap()
}

/// A slice as the checker rebuilds it from the events: path of names, start and end in µs.
struct Rebuilt {
    tid: u64,
    path: String,
    start_us: f64,
    end_us: f64,
    args: Value,
    /// Timed in the run, and so no part of another kernel.
    is_kernel: bool,
}

/// Pairs beginnings and ends by thread. Asserts order, nesting, and that nothing stays open.
fn rebuild(trace: &Value) -> Vec<Rebuilt> {
    let mut stacks: BTreeMap<u64, Vec<(&Value, f64)>> = BTreeMap::new();
    let mut latest: BTreeMap<u64, f64> = BTreeMap::new();
    let mut slices = Vec::new();
    for event in events(trace) {
        let (tid, ts) = (event["tid"].as_u64().unwrap(), event["ts"].as_f64().unwrap());
        assert_eq!(event["pid"], 1);
        let before = latest.insert(tid, ts).unwrap_or(0.0);
        assert!(ts >= before, "thread {tid} goes back from {before} to {ts}");
        let stack = stacks.entry(tid).or_default();
        match event["ph"].as_str().unwrap() {
            "B" => stack.push((event, ts)),
            "E" => {
                let names: Vec<&str> =
                    stack.iter().map(|(begun, _)| begun["name"].as_str().unwrap()).collect();
                let path = names.join("/");
                let (begun, start_us) = stack.pop().unwrap();
                assert_eq!(begun["name"], event["name"]);
                assert!(ts > start_us, "{path} has no length");
                let args = begun["args"].clone();
                let is_kernel = begun["cat"] == "kernel" && args["source"].is_null();
                slices.push(Rebuilt { tid, path, start_us, end_us: ts, args, is_kernel });
            }
            "C" => assert!(event["args"]["value"].is_number()),
            "M" | "i" => {}
            other => panic!("event of kind {other}"),
        }
    }
    assert!(stacks.values().all(Vec::is_empty));
    slices
}

fn paths_of(slices: &[Rebuilt], tid: u64) -> Vec<(&str, f64, f64)> {
    let mut found: Vec<_> = slices
        .iter()
        .filter(|s| s.tid == tid)
        .map(|s| (s.path.as_str(), s.start_us, s.end_us))
        .collect();
    // Outer slices first.
    let depth = |path: &str| path.split('/').count();
    found.sort_by(|a, b| a.1.total_cmp(&b.1).then(depth(a.0).cmp(&depth(b.0))));
    found
}

#[test]
fn slices_nest_as_the_model_does() {
    use KernelOp::{Attention, Embedding, Matmul, RmsNorm, Uncovered};
    use TensorRole::{AttnNorm, AttnOutput, FfnDown, OutputNorm};
    let slices = flat(&[
        (Embedding, None, None, 1000),
        (RmsNorm, Some(AttnNorm), Some(0), 500),
        (Attention, None, Some(0), 100),
        // A gap of no layer inside a layer belongs to it.
        (Uncovered, None, None, 11),
        (Matmul, Some(AttnOutput), Some(0), 1000),
        (Matmul, Some(FfnDown), Some(0), 2000),
        (RmsNorm, Some(AttnNorm), Some(1), 300),
        (RmsNorm, Some(OutputNorm), None, 89),
    ]);
    let load = Stretch { op: KernelOp::Load, start_ns: 0, ns: 4000 };
    let mut timeline = timeline(vec![load], vec![pass(1, 5, 10_000, slices)]);
    timeline.splits = vec![attention_split(1, 0, [4.0, 3.0, 0.0, 1.0])];
    let (_, trace) = written(&timeline, None);
    let slices = rebuild(&trace);
    assert_eq!(
        paths_of(&slices, 1),
        [
            ("run", 0.0, 15.95),
            ("run/load", 0.0, 4.0),
            ("run/decode", 10.0, 15.0),
            ("run/decode/embedding", 10.0, 11.0),
            ("run/decode/layer 0", 11.0, 14.611),
            ("run/decode/layer 0/attn", 11.0, 12.611),
            ("run/decode/layer 0/attn/rms_norm", 11.0, 11.5),
            ("run/decode/layer 0/attn/attention", 11.5, 11.6),
            // 4/8, 3/8, 0 and 1/8 of 100 ns: edges at 50 and 88 (87.5), and none of no length.
            ("run/decode/layer 0/attn/attention/kv_concat", 11.5, 11.55),
            ("run/decode/layer 0/attn/attention/attention_scores", 11.55, 11.588),
            ("run/decode/layer 0/attn/attention/attention_values", 11.588, 11.6),
            ("run/decode/layer 0/attn/uncovered", 11.6, 11.611),
            ("run/decode/layer 0/attn/matmul.attn_output", 11.611, 12.611),
            ("run/decode/layer 0/ffn", 12.611, 14.611),
            ("run/decode/layer 0/ffn/matmul.ffn_down", 12.611, 14.611),
            ("run/decode/layer 1", 14.611, 14.911),
            ("run/decode/layer 1/rms_norm", 14.611, 14.911),
            ("run/decode/rms_norm", 14.911, 15.0),
            ("run/softmax", 15.0, 15.3),
            ("run/sampling", 15.3, 15.4),
            ("run/detokenize", 15.4, 15.45),
        ]
    );
    let args = |path: &str| {
        slices.iter().find(|s| s.path.ends_with(path)).map(|s| s.args.to_string()).unwrap()
    };
    assert_eq!(args("matmul.ffn_down"), r#"{"layer":0,"role":"ffn_down"}"#);
    assert_eq!(args("kv_concat"), r#"{"source":"microbenchmark"}"#);
    assert_eq!(args("attention"), r#"{"layer":0}"#);
    assert_eq!(
        args("run/decode"),
        r#"{"index":0,"kv_len":5,"n_tokens":1,"preempted":false,"probed":true,"token":7}"#
    );
    let other = &trace["otherData"];
    assert_eq!(other["model"], "a \"quoted\" name");
    assert_eq!(other["engine"], "candle 0.11.1");
    assert_eq!(other["threads"], 4);
    assert_eq!(other["tool"]["version"], "0.1.0");
    assert_eq!(trace["displayTimeUnit"], "ms");
}

#[test]
fn a_pass_without_probes_shows_what_is_known() {
    let mut step = pass(1, 5, 1000, vec![]);
    step.sample.preempted = true;
    step.sample.softmax_ns = 0;
    let (_, trace) = written(&timeline(vec![], vec![step]), None);
    let slices = rebuild(&trace);
    let found: Vec<_> = paths_of(&slices, 1).iter().map(|(path, _, _)| *path).collect();
    let expected =
        ["run", "run/decode", "run/decode/logits_copy", "run/sampling", "run/detokenize"];
    assert_eq!(found, expected);
    let marks: Vec<_> = events(&trace).iter().filter(|e| e["ph"] == "i").collect();
    assert_eq!(marks.len(), 1);
    assert_eq!(
        (marks[0]["name"].as_str(), marks[0]["ts"].as_f64()),
        (Some("preempted"), Some(1.0))
    );
}

#[test]
fn predictions_stand_beside_their_passes_and_end_at_the_next() {
    let prompt = pass(64, 0, 1000, vec![]);
    let step = pass(1, 64, 11_000, vec![]);
    let unknown = pass(1, 65, 21_000, vec![]);
    let timeline = timeline(vec![], vec![prompt, step, unknown]);
    // 0.0045 ms is half of the 9 µs that were measured; 0.0180 ms reaches into the next pass.
    let predicted = |pass: Pass| match (pass.n_tokens, pass.kv_len) {
        (64, 0) => Some(0.0045),
        (1, 64) => Some(0.018),
        _ => None,
    };
    let (_, trace) = written(&timeline, Some(&predicted));
    let slices = rebuild(&trace);
    assert_eq!(paths_of(&slices, 2), [("prefill", 1.0, 5.5), ("decode", 11.0, 21.0)]);
    let args: Vec<_> = slices.iter().filter(|s| s.tid == 2).map(|s| &s.args).collect();
    assert_eq!(
        (args[0]["predicted_ms"].as_f64(), args[0]["error"].as_f64()),
        (Some(0.0045), Some(-0.5))
    );
    assert_eq!(
        (args[1]["predicted_ms"].as_f64(), args[1]["error"].as_f64()),
        (Some(0.018), Some(1.0))
    );
    assert_eq!(args[1]["measured_ms"].as_f64(), Some(0.009));
    assert!(rebuild(&written(&timeline, None).1).iter().all(|s| s.tid != 2));
}

#[test]
fn predictions_that_are_no_times_are_left_out() {
    let timeline = timeline(vec![], vec![pass(64, 0, 0, vec![]), pass(1, 64, 10_000, vec![])]);
    for wrong in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
        let predicted = |_: Pass| Some(wrong);
        assert!(rebuild(&written(&timeline, Some(&predicted)).1).iter().all(|s| s.tid != 2));
    }
}

#[test]
fn counters_are_numbers_in_the_order_of_time() {
    let steps = vec![pass(64, 0, 0, vec![]), pass(1, 64, 10_000, vec![])];
    let mut timeline = timeline(vec![], steps);
    let state = |at_ns, rss_bytes, temperature_c| CounterSample {
        at_ns,
        rss_bytes,
        frequency_mhz: Some(f64::NAN),
        temperature_c,
    };
    timeline.counters = vec![state(20_000, Some(3 << 20), None), state(5000, None, Some(51.5))];
    let (_, trace) = written(&timeline, None);
    rebuild(&trace);
    let found: Vec<_> = events(&trace)
        .iter()
        .filter(|e| e["ph"] == "C")
        .map(|e| (e["name"].as_str().unwrap(), e["args"]["value"].as_f64().unwrap()))
        .collect();
    // 9000 + 300 + 100 + 50 ns per token.
    let expected =
        [("temperature °C", 51.5), ("tokens/s", 105_820.106), ("resident memory MiB", 3.0)];
    assert_eq!(found, expected);
}

#[test]
fn a_broken_timeline_still_nests() {
    let mut early = pass(64, 0, 0, model_slices(2, 40));
    early.sample.forward_ns /= 2;
    early.slices[5].start_ns += 70;
    early.slices[9].start_ns = 3;
    let overlapping = pass(1, 64, 500, model_slices(2, 40));
    let mut far = pass(1, 65, 1 << 40, vec![]);
    far.sample.softmax_ns = 1 << 40;
    let long = Stretch { op: KernelOp::Load, start_ns: 0, ns: 900 };
    let mut timeline = timeline(vec![long], vec![early, overlapping]);
    timeline.passes.push(far);
    timeline.end_ns = 10;
    for predicted in [None, Some(&(|_| Some(1.0)) as PredictForwardMs<'_>)] {
        assert!(!rebuild(&written(&timeline, predicted).1).is_empty());
    }
    timeline.stretches.clear();
    timeline.passes.clear();
    timeline.end_ns = 0;
    assert!(rebuild(&written(&timeline, None).1).is_empty());
}

#[test]
fn a_long_run_stays_below_fifty_megabytes() {
    // 512 + 128 tokens of 32 layers, every other step probed, all of it far into a long run.
    let mut start_ns = 90_000_000_000;
    let mut passes = Vec::new();
    for index in 0..128_u32 {
        let slices = if index % 2 == 0 { model_slices(32, 123_456) } else { vec![] };
        let (n_tokens, kv_len) = if index == 0 { (512, 0) } else { (1, 511 + index) };
        let pass = pass(n_tokens, kv_len, start_ns, slices);
        start_ns += pass.total_ns() + 1000;
        passes.push(pass);
    }
    let load = Stretch { op: KernelOp::Load, start_ns: 0, ns: 80_000_000_000 };
    let mut timeline = timeline(vec![load], passes);
    timeline.splits = [1, 512].map(|n| attention_split(n, 100, [1.0, 2.0, 3.0, 4.0])).to_vec();
    timeline.counters = (0..128)
        .map(|i| CounterSample {
            at_ns: 90_000_000_000 + i * 60_000_000,
            rss_bytes: Some(1 << 33),
            frequency_mhz: Some(3000.0),
            temperature_c: Some(60.0),
        })
        .collect();
    let predicted = |pass: Pass| Some(f64::from(pass.n_tokens) * 50.0);
    let (bytes, trace) = written(&timeline, Some(&predicted));
    assert!(bytes < 50_000_000, "{bytes} bytes");
    let slices = rebuild(&trace);
    // The times of the kernels of a probed pass sum to the pass.
    let pass = &timeline.passes[2];
    let (start_us, end_us) =
        (pass.start_ns as f64 / 1e3, (pass.start_ns + pass.sample.forward_ns) as f64 / 1e3);
    let kernels_us: f64 = slices
        .iter()
        .filter(|s| s.is_kernel && s.start_us >= start_us && s.end_us <= end_us)
        .map(|s| s.end_us - s.start_us)
        .sum();
    assert!((kernels_us - (end_us - start_us)).abs() < 0.01, "{kernels_us}");
    // Of 64 probed passes, each of 32 layers.
    assert_eq!(slices.iter().filter(|s| s.path.ends_with("/ffn")).count(), 64 * 32);
    assert_eq!(slices.iter().filter(|s| s.path.ends_with("/attention_values")).count(), 64 * 32);
}
