//! A timeline as a Chrome trace, which Perfetto and chrome://tracing open.
//!
//! The format: "Trace Event Format" of the Chromium project, JSON object form. Times are in µs
//! with three decimals, so no nanosecond is lost.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::{self, BufWriter, Write};

use foretoken_spec::{
    BlockSplit, CounterSample, KernelOp, Pass, Phase, SCHEMA_VERSION, Slice, TensorRole, TimedPass,
    Timeline,
};

use crate::division::{self, Share};

const PID: u32 = 1;
const MEASURED: u32 = 1;
const PREDICTED: u32 = 2;
/// Counters belong to the process; a thread of their own keeps every thread's times in order.
const COUNTERS: u32 = 3;

/// Forward time of a pass in ms, where the prediction knows it.
pub type PredictForwardMs<'a> = &'a dyn Fn(Pass) -> Option<f64>;

/// Writes the trace of a run, event by event.
///
/// Thread 1 is the run: its phases, and in each probed pass its layers, blocks and kernels.
/// Thread 2, where there is a prediction, has each pass from its measured start for as long as
/// was predicted. Slices without length are left out, and a slice that would reach out of the
/// one around it is cut, so nesting holds whatever the timeline says.
pub fn write_trace(
    timeline: &Timeline,
    predicted: Option<PredictForwardMs<'_>>,
    out: impl Write,
) -> io::Result<()> {
    let mut events = Events { out: BufWriter::new(out), any: false };
    write_head(&mut events, timeline)?;
    write_metadata(&mut events, timeline, predicted.is_some())?;
    write_run(&mut Track::new(&mut events, MEASURED), timeline)?;
    if let Some(predicted) = predicted {
        write_predicted(&mut Track::new(&mut events, PREDICTED), timeline, predicted)?;
    }
    write_counters(&mut events, timeline)?;
    events.out.write_all(b"\n]}\n")?;
    events.out.flush()
}

fn write_head<W: Write>(events: &mut Events<W>, timeline: &Timeline) -> io::Result<()> {
    let engine = format!("{} {}", timeline.engine.name, timeline.engine.version);
    let other = serde_json::json!({
        "schema_version": SCHEMA_VERSION,
        "time": timeline.time,
        "model": timeline.model.name,
        "quant": timeline.model.quant,
        "device": timeline.device.id,
        "device_name": timeline.device.name,
        "engine": engine,
        "threads": timeline.threads,
        "allocator": timeline.allocator,
        "sampling": timeline.sampling,
        "sampled_every": timeline.sampled_every,
        "interrupted": timeline.interrupted,
        "tool": timeline.tool,
        "warnings": timeline.warnings,
    });
    writeln!(events.out, r#"{{"displayTimeUnit":"ms","otherData":{other},"traceEvents":["#)
}

fn write_metadata<W: Write>(
    events: &mut Events<W>,
    timeline: &Timeline,
    predicted: bool,
) -> io::Result<()> {
    let process = format!(
        "foretoken profile: {} {} on {}",
        timeline.model.name, timeline.model.quant, timeline.device.id
    );
    let mut name = |kind: &str, tid: u32, name: &str| {
        let name = serde_json::Value::from(name);
        events.event(format_args!(
            r#""ph":"M","pid":{PID},"tid":{tid},"ts":0,"name":"{kind}","args":{{"name":{name}}}"#
        ))
    };
    name("process_name", MEASURED, &process)?;
    name("thread_name", MEASURED, "measured")?;
    if predicted {
        name("thread_name", PREDICTED, "predicted")?;
    }
    name("thread_name", COUNTERS, "counters")
}

fn write_run<W: Write>(track: &mut Track<'_, W>, timeline: &Timeline) -> io::Result<()> {
    let ends = timeline.stretches.iter().map(|s| s.start_ns.saturating_add(s.ns));
    let end_ns = ends
        .chain(timeline.passes.iter().map(|p| p.start_ns.saturating_add(p.total_ns())))
        .fold(timeline.end_ns, u64::max);
    if !track.open("run", "run", 0, end_ns, format_args!(""))? {
        return Ok(());
    }
    for stretch in &timeline.stretches {
        let end_ns = stretch.start_ns.saturating_add(stretch.ns);
        track.leaf(stretch.op.name(), "phase", stretch.start_ns, end_ns, format_args!(""))?;
    }
    for (index, pass) in timeline.passes.iter().enumerate() {
        write_pass(track, index, pass, &timeline.splits)?;
    }
    track.close()
}

fn write_pass<W: Write>(
    track: &mut Track<'_, W>,
    index: usize,
    pass: &TimedPass,
    splits: &[BlockSplit],
) -> io::Result<()> {
    let sample = &pass.sample;
    if sample.preempted {
        track.instant("preempted", pass.start_ns, format_args!(r#""index":{index}"#))?;
    }
    let forward_end = pass.start_ns.saturating_add(sample.forward_ns);
    let args = format_args!(
        r#""index":{index},"n_tokens":{},"kv_len":{},"token":{},"probed":{},"preempted":{}"#,
        sample.n_tokens, sample.kv_len, pass.token, sample.probed, sample.preempted
    );
    if track.open(pass.phase.name(), "phase", pass.start_ns, forward_end, args)? {
        if pass.slices.is_empty() {
            // Of a pass without probes the copy is known, and it comes last.
            let start_ns = forward_end.saturating_sub(sample.logits_copy_ns);
            let name = KernelOp::LogitsCopy.name();
            track.leaf(name, "kernel", start_ns, forward_end, format_args!(""))?;
        } else {
            write_slices(track, pass, splits)?;
        }
        track.close()?;
    }
    let mut start_ns = forward_end;
    for (op, ns) in [
        (KernelOp::Softmax, sample.softmax_ns),
        (KernelOp::Sampling, sample.sampling_ns),
        (KernelOp::Detokenize, pass.detokenize_ns),
    ] {
        let end_ns = start_ns.saturating_add(ns);
        track.leaf(op.name(), "phase", start_ns, end_ns, format_args!(r#""index":{index}"#))?;
        start_ns = end_ns;
    }
    Ok(())
}

fn write_slices<W: Write>(
    track: &mut Track<'_, W>,
    pass: &TimedPass,
    splits: &[BlockSplit],
) -> io::Result<()> {
    let shape = Pass { n_tokens: pass.sample.n_tokens, kv_len: pass.sample.kv_len };
    let kernels = Kernels { pass_ns: pass.start_ns, shape, splits };
    let mut rest = pass.slices.as_slice();
    while let Some(first) = rest.first() {
        let Some(layer) = first.layer else {
            kernels.write(track, first)?;
            rest = &rest[1..];
            continue;
        };
        let (slices, after) = rest.split_at(layer_len(rest, layer));
        rest = after;
        let (start_ns, end_ns) = kernels.extent(slices);
        let args = format_args!(r#""layer":{layer}"#);
        if !track.open(format!("layer {layer}"), "layer", start_ns, end_ns, args)? {
            continue;
        }
        let last = slices.iter().rposition(ends_attention);
        match last {
            // Without the output projection nothing says where attention ends.
            None => {
                for slice in slices {
                    kernels.write(track, slice)?;
                }
            }
            Some(last) => {
                let (attn, ffn) = slices.split_at(last + 1);
                kernels.write_block(track, "attn", layer, attn)?;
                kernels.write_block(track, "ffn", layer, ffn)?;
            }
        }
        track.close()?;
    }
    Ok(())
}

/// The output projection, or an undivided block that holds it.
fn ends_attention(slice: &Slice) -> bool {
    slice.role == Some(TensorRole::AttnOutput)
        || matches!(slice.op, KernelOp::AttentionBlock | KernelOp::ShortConvolution)
}

/// Slices at the front that belong to `layer`, with those of no layer between them.
fn layer_len(slices: &[Slice], layer: u32) -> usize {
    let other = slices.iter().position(|s| s.layer.is_some_and(|l| l != layer));
    let until = other.unwrap_or(slices.len());
    let last = slices[..until].iter().rposition(|s| s.layer == Some(layer));
    last.map_or(1, |last| last + 1)
}

/// What the kernels of one pass have in common.
struct Kernels<'a> {
    pass_ns: u64,
    shape: Pass,
    splits: &'a [BlockSplit],
}

impl Kernels<'_> {
    /// Start and end of slices that follow each other.
    fn extent(&self, slices: &[Slice]) -> (u64, u64) {
        let start = slices.first().map_or(0, |s| s.start_ns);
        let end = slices.last().map_or(0, |s| s.start_ns.saturating_add(s.ns));
        (self.pass_ns.saturating_add(start), self.pass_ns.saturating_add(end))
    }

    fn write_block<W: Write>(
        &self,
        track: &mut Track<'_, W>,
        name: &'static str,
        layer: u32,
        slices: &[Slice],
    ) -> io::Result<()> {
        let (start_ns, end_ns) = self.extent(slices);
        if !track.open(name, "block", start_ns, end_ns, format_args!(r#""layer":{layer}"#))? {
            return Ok(());
        }
        for slice in slices {
            self.write(track, slice)?;
        }
        track.close()
    }

    fn write<W: Write>(&self, track: &mut Track<'_, W>, slice: &Slice) -> io::Result<()> {
        let (start_ns, end_ns) = self.extent(std::slice::from_ref(slice));
        let name = kernel_name(slice.op, slice.role);
        let role = match slice.role {
            // As in the JSON of a profile.
            Some(role) => format!(r#""role":{}"#, serde_json::to_string(&role)?),
            None => String::new(),
        };
        let layer = slice.layer.map_or(String::new(), |layer| format!(r#""layer":{layer}"#));
        let comma = if role.is_empty() || layer.is_empty() { "" } else { "," };
        let args = format_args!("{role}{comma}{layer}");
        let opened = track.open(name, "kernel", start_ns, end_ns, args)?;
        if !opened {
            return Ok(());
        }
        if let Some(shares) = division::shares(self.splits, slice, self.shape) {
            let mut sum = 0.0;
            let mut part_ns = start_ns;
            for Share { op, role, share } in shares {
                sum += share;
                let part_end = start_ns.saturating_add((slice.ns as f64 * sum).round() as u64);
                let args = format_args!(r#""source":"microbenchmark""#);
                track.leaf(kernel_name(op, role), "kernel", part_ns, part_end, args)?;
                part_ns = part_end;
            }
        }
        track.close()
    }
}

fn kernel_name(op: KernelOp, role: Option<TensorRole>) -> Cow<'static, str> {
    match (op, role) {
        (KernelOp::Matmul, Some(role)) => format!("{}.{}", op.name(), role.gguf_stem()).into(),
        _ => op.name().into(),
    }
}

fn write_predicted<W: Write>(
    track: &mut Track<'_, W>,
    timeline: &Timeline,
    predicted: PredictForwardMs<'_>,
) -> io::Result<()> {
    for (index, pass) in timeline.passes.iter().enumerate() {
        let sample = &pass.sample;
        let key = Pass { n_tokens: sample.n_tokens, kv_len: sample.kv_len };
        let Some(predicted_ms) = predicted(key).filter(|ms| ms.is_finite() && *ms > 0.0) else {
            continue;
        };
        let next_ns = timeline.passes.get(index + 1).map_or(u64::MAX, |next| next.start_ns);
        let end_ns = pass.start_ns.saturating_add((predicted_ms * 1e6).round() as u64).min(next_ns);
        let measured_ms = sample.forward_ns as f64 / 1e6;
        let error = predicted_ms / measured_ms - 1.0;
        let name = pass.phase.name();
        if error.is_finite() {
            let args = format_args!(
                r#""index":{index},"measured_ms":{measured_ms:.6},"predicted_ms":{predicted_ms:.6},"error":{error:.6}"#
            );
            track.leaf(name, "prediction", pass.start_ns, end_ns, args)?;
        } else {
            let args = format_args!(r#""index":{index},"predicted_ms":{predicted_ms:.6}"#);
            track.leaf(name, "prediction", pass.start_ns, end_ns, args)?;
        }
    }
    Ok(())
}

fn write_counters<W: Write>(events: &mut Events<W>, timeline: &Timeline) -> io::Result<()> {
    let steps = timeline.passes.iter().filter(|p| p.phase == Phase::Decode).map(|step| {
        (step.start_ns, "tokens/s", (step.total_ns() > 0).then(|| 1e9 / step.total_ns() as f64))
    });
    let states = timeline.counters.iter().flat_map(|state: &CounterSample| {
        let memory_mib = state.rss_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20));
        [
            (state.at_ns, "resident memory MiB", memory_mib),
            (state.at_ns, "frequency MHz", state.frequency_mhz),
            (state.at_ns, "temperature °C", state.temperature_c),
        ]
    });
    let mut values: Vec<_> = steps.chain(states).collect();
    values.sort_by_key(|(at_ns, _, _)| *at_ns);
    for (at_ns, name, value) in values {
        let Some(value) = value.filter(|v| v.is_finite()) else { continue };
        let ts = Micros(at_ns);
        events.event(format_args!(
            r#""ph":"C","pid":{PID},"tid":{COUNTERS},"ts":{ts},"name":"{name}","args":{{"value":{value:.3}}}"#
        ))?;
    }
    Ok(())
}

/// A moment in µs with three decimals.
struct Micros(u64);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// The array of events.
struct Events<W: Write> {
    out: BufWriter<W>,
    any: bool,
}

impl<W: Write> Events<W> {
    /// Writes an event from the members of its object.
    fn event(&mut self, members: Arguments<'_>) -> io::Result<()> {
        if self.any {
            self.out.write_all(b",\n")?;
        }
        self.any = true;
        write!(self.out, "{{{members}}}")
    }
}

/// One thread of the trace. It holds what is open, so that every beginning gets its end and
/// nothing lies outside of what is around it. Names need no escaping: they are ours.
struct Track<'a, W: Write> {
    events: &'a mut Events<W>,
    tid: u32,
    now_ns: u64,
    open: Vec<(Cow<'static, str>, u64)>,
}

impl<'a, W: Write> Track<'a, W> {
    fn new(events: &'a mut Events<W>, tid: u32) -> Self {
        Self { events, tid, now_ns: 0, open: Vec::new() }
    }

    /// Begins a slice; false, and nothing written, where no time is left for it.
    fn open(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        category: &str,
        start_ns: u64,
        end_ns: u64,
        args: Arguments<'_>,
    ) -> io::Result<bool> {
        let start_ns = start_ns.max(self.now_ns);
        let end_ns = end_ns.min(self.open.last().map_or(u64::MAX, |(_, end_ns)| *end_ns));
        if end_ns <= start_ns {
            return Ok(false);
        }
        let (tid, ts, name) = (self.tid, Micros(start_ns), name.into());
        self.events.event(format_args!(
            r#""ph":"B","pid":{PID},"tid":{tid},"ts":{ts},"name":"{name}","cat":"{category}","args":{{{args}}}"#
        ))?;
        self.now_ns = start_ns;
        self.open.push((name, end_ns));
        Ok(true)
    }

    /// Ends the slice that began last.
    fn close(&mut self) -> io::Result<()> {
        let Some((name, end_ns)) = self.open.pop() else { return Ok(()) };
        self.now_ns = end_ns;
        let (tid, ts) = (self.tid, Micros(end_ns));
        self.events
            .event(format_args!(r#""ph":"E","pid":{PID},"tid":{tid},"ts":{ts},"name":"{name}""#))
    }

    /// A slice with nothing inside.
    fn leaf(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        category: &str,
        start_ns: u64,
        end_ns: u64,
        args: Arguments<'_>,
    ) -> io::Result<()> {
        if self.open(name, category, start_ns, end_ns, args)? { self.close() } else { Ok(()) }
    }

    /// A mark on the thread.
    fn instant(&mut self, name: &str, at_ns: u64, args: Arguments<'_>) -> io::Result<()> {
        self.now_ns = at_ns.max(self.now_ns);
        let (tid, ts) = (self.tid, Micros(self.now_ns));
        self.events.event(format_args!(
            r#""ph":"i","pid":{PID},"tid":{tid},"ts":{ts},"name":"{name}","s":"t","args":{{{args}}}"#
        ))
    }
}

#[cfg(test)]
mod tests;
