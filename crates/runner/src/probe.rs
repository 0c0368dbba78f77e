//! The probes: a `tracing` subscriber that writes (span, enter or exit, clock) into a buffer.
//!
//! candle's models create their spans when they are loaded, and a span keeps the dispatcher of
//! that moment. So [`with_probes`] wraps the load, and [`start_recording`] and [`stop_recording`]
//! stand around a single pass. While it is off, a span costs one read of a thread-local flag.
//! The forward pass enters its spans on the calling thread, so the buffer is thread-local and
//! needs no lock.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Metadata, Subscriber};

/// Room for a pass of an 80-layer model (up to 21 spans per layer, enter and exit) without growing.
const EVENTS_CAPACITY: usize = 4096;

/// The spans of candle's readers (`quantized_*.rs`, `with_tracing.rs`, `quantized_nn.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SpanKind {
    /// The whole forward pass but the mask.
    Model = 1,
    /// Attention with its projections.
    Attn,
    /// Rotary embedding of queries or keys.
    AttnRot,
    /// Feed-forward block with its norm and residual.
    AttnMlp,
    /// Feed-forward block alone.
    Mlp,
    /// Feed-forward block with its residual.
    Ffn,
    /// Multiplication by one weight matrix.
    QMatMul,
    /// Root-mean-square norm.
    RmsNorm,
    /// LM head.
    Output,
    /// A span that has no meaning here.
    Unknown,
}

const SPAN_KINDS: [(SpanKind, &str); 9] = [
    (SpanKind::Model, "model"),
    (SpanKind::Attn, "attn"),
    (SpanKind::AttnRot, "attn-rot"),
    (SpanKind::AttnMlp, "attn-mlp"),
    (SpanKind::Mlp, "mlp"),
    (SpanKind::Ffn, "ffn"),
    (SpanKind::QMatMul, "qmatmul"),
    (SpanKind::RmsNorm, "rms-norm"),
    (SpanKind::Output, "output"),
];

impl SpanKind {
    fn from_name(name: &str) -> Self {
        SPAN_KINDS.iter().find(|(_, n)| *n == name).map_or(Self::Unknown, |(kind, _)| *kind)
    }

    #[cfg(test)]
    pub(crate) fn name(self) -> &'static str {
        SPAN_KINDS.iter().find(|(kind, _)| *kind == self).map_or("unknown", |(_, name)| *name)
    }

    fn from_id(id: &Id) -> Self {
        let raw = id.into_u64();
        SPAN_KINDS.iter().find(|(k, _)| *k as u64 == raw).map_or(Self::Unknown, |(kind, _)| *kind)
    }
}

/// Entry into a span or exit from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    Enter,
    Exit,
}

/// One edge of a span at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanEvent {
    pub(crate) kind: SpanKind,
    pub(crate) edge: Edge,
    pub(crate) at: Instant,
}

#[derive(Clone, Copy)]
struct RawEvent {
    id: u64,
    edge: Edge,
    at: Instant,
}

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(false) };
    /// Recordings begun so far.
    static NUMBER: Cell<u64> = const { Cell::new(0) };
    static EVENTS: RefCell<Vec<RawEvent>> = const { RefCell::new(Vec::new()) };
}

/// Runs `load` so that the spans made in it are probes.
pub(crate) fn with_probes<T>(load: impl FnOnce() -> T) -> T {
    tracing::dispatcher::with_default(&Dispatch::new(Probes), load)
}

/// Starts recording on this thread; the number names the recording.
pub(crate) fn start_recording() -> u64 {
    EVENTS.with_borrow_mut(|events| {
        events.clear();
        events.reserve(EVENTS_CAPACITY);
    });
    let number = NUMBER.get() + 1;
    NUMBER.set(number);
    RECORDING.set(true);
    number
}

/// Stops recording. What was recorded stays until the next recording begins: reading it takes
/// time that the softmax after the pass should not wait for.
pub(crate) fn stop_recording() {
    RECORDING.set(false);
}

/// The events of a recording; `None` once another has begun.
pub(crate) fn events_of(number: u64) -> Option<Vec<SpanEvent>> {
    if NUMBER.get() != number {
        return None;
    }
    Some(EVENTS.with_borrow(|events| {
        events
            .iter()
            .map(|e| SpanEvent {
                kind: SpanKind::from_id(&Id::from_u64(e.id)),
                edge: e.edge,
                at: e.at,
            })
            .collect()
    }))
}

/// Cost of recording one edge of a span, in ns: what `tracing` and the clock take, on this thread.
pub(crate) fn ns_per_event() -> f64 {
    const SPANS: usize = EVENTS_CAPACITY / 2;
    const ROUNDS: usize = 5;
    let span = with_probes(
        || tracing::span!(target: "candle_transformers::cost", tracing::Level::TRACE, "attn"),
    );
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        start_recording();
        let start = Instant::now();
        for _ in 0..SPANS {
            let entered = span.enter();
            drop(entered);
        }
        let ns = start.elapsed().as_nanos() as f64;
        stop_recording();
        best = best.min(ns / (2 * SPANS) as f64);
    }
    best
}

/// Keeps an edge of a span where recording is on, on this thread.
#[inline]
fn push(id: &Id, edge: Edge) {
    if RECORDING.get() {
        let event = RawEvent { id: id.into_u64(), edge, at: Instant::now() };
        EVENTS.with_borrow_mut(|events| events.push(event));
    }
}

/// Only what a span is matters, not which one: ids are kinds, and there is no table to look up.
struct Probes;

impl Subscriber for Probes {
    /// Never `always`: then models loaded without probes would get live spans too.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("candle_transformers")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        Id::from_u64(SpanKind::from_name(span.metadata().name()) as u64)
    }

    fn enter(&self, span: &Id) {
        push(span, Edge::Enter);
    }

    fn exit(&self, span: &Id) {
        push(span, Edge::Exit);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_read_back() {
        for (kind, name) in SPAN_KINDS {
            assert_eq!(SpanKind::from_name(name), kind);
            assert_eq!(SpanKind::from_id(&Id::from_u64(kind as u64)), kind);
        }
        assert_eq!(SpanKind::from_name("embedding"), SpanKind::Unknown);
        assert_eq!(SpanKind::from_id(&Id::from_u64(999)), SpanKind::Unknown);
    }

    #[test]
    fn recording_an_event_takes_time_and_leaves_nothing_recording() {
        assert!(ns_per_event() > 0.0);
        assert!(!RECORDING.get());
    }

    #[test]
    fn only_spans_made_under_the_probes_and_while_recording_are_seen() {
        let plain =
            tracing::span!(target: "candle_transformers::test", tracing::Level::TRACE, "model");
        let (probed, foreign) = with_probes(|| {
            (
                tracing::span!(target: "candle_transformers::test", tracing::Level::TRACE, "attn"),
                tracing::span!(target: "elsewhere", tracing::Level::TRACE, "attn"),
            )
        });
        drop(probed.enter());
        let number = start_recording();
        drop(plain.enter());
        drop(foreign.enter());
        drop(probed.enter());
        stop_recording();
        drop(probed.enter());
        let events = events_of(number).unwrap();
        let seen: Vec<_> = events.iter().map(|e| (e.kind, e.edge)).collect();
        assert_eq!(seen, [(SpanKind::Attn, Edge::Enter), (SpanKind::Attn, Edge::Exit)]);
        start_recording();
        stop_recording();
        assert!(events_of(number).is_none(), "another recording has taken its place");
    }
}
