//! The probes: a `tracing` subscriber that writes (span, enter or exit, clock) into a buffer.
//!
//! candle's models create their spans when they are loaded, and a span keeps the dispatcher of
//! that moment. So [`with_probes`] wraps the load, and [`start_recording`] and [`stop_recording`]
//! stand around a single pass. While it is off, a span costs one read of a thread-local flag.
//! The forward pass enters its spans on the calling thread, so the buffer is thread-local and
//! needs no lock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use foretoken_spec::SpanClock;

use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Metadata, Subscriber};

use crate::device_clock::{DeviceClock, Moments};

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
    /// What marks the moments of the recording on a device that works behind the host's back.
    static CLOCK: RefCell<Option<Rc<dyn DeviceClock>>> = const { RefCell::new(None) };
}

/// Runs `load` so that the spans made in it are probes.
pub(crate) fn with_probes<T>(load: impl FnOnce() -> T) -> T {
    tracing::dispatcher::with_default(&Dispatch::new(Probes), load)
}

/// Starts recording on this thread, by this clock; the number names the recording.
pub(crate) fn start_recording(clock: &Rc<dyn DeviceClock>) -> u64 {
    let is_host = clock.kind() == SpanClock::Host;
    CLOCK.set(if is_host { None } else { Some(Rc::clone(clock)) });
    EVENTS.with_borrow_mut(|events| {
        events.clear();
        events.reserve(EVENTS_CAPACITY);
    });
    let number = NUMBER.get() + 1;
    NUMBER.set(number);
    clock.start();
    RECORDING.set(true);
    number
}

/// Stops recording. What was recorded stays until the next recording begins: reading it takes
/// time that the softmax after the pass should not wait for.
pub(crate) fn stop_recording() {
    RECORDING.set(false);
}

/// The events of a recording; `None` once another has begun, and where the device's moments are
/// not to be had.
pub(crate) fn events_of(number: u64) -> Option<Vec<SpanEvent>> {
    if NUMBER.get() != number {
        return None;
    }
    let event = |raw: &RawEvent, at| SpanEvent {
        kind: SpanKind::from_id(&Id::from_u64(raw.id)),
        edge: raw.edge,
        at,
    };
    let moments = CLOCK.with_borrow(|clock| clock.as_ref().map_or(Moments::Host, |c| c.moments()));
    EVENTS.with_borrow(|events| match moments {
        Moments::Host => Some(events.iter().map(|raw| event(raw, raw.at)).collect()),
        Moments::Device(at) if at.len() == events.len() => {
            Some(events.iter().zip(at).map(|(raw, at)| event(raw, at)).collect())
        }
        Moments::Device(_) | Moments::Unknown => None,
    })
}

/// Cost of recording one edge of a span, in ns: what `tracing` and the clock take, on this thread
/// and of a device without work.
pub(crate) fn ns_per_event(clock: &Rc<dyn DeviceClock>) -> f64 {
    const SPANS: usize = EVENTS_CAPACITY / 2;
    const ROUNDS: usize = 5;
    let span = with_probes(
        || tracing::span!(target: "candle_transformers::cost", tracing::Level::TRACE, "attn"),
    );
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        start_recording(clock);
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
        CLOCK.with_borrow(|clock| clock.iter().for_each(|clock| clock.mark()));
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
    use crate::device_clock::tests::MockQueue;
    use crate::device_clock::{EventClock, HostClock};

    fn host() -> Rc<dyn DeviceClock> {
        Rc::new(HostClock)
    }

    /// A layer of two kernels, on a device that works behind the host's back.
    fn a_layer(queue: &MockQueue, clock: &Rc<dyn DeviceClock>) -> Vec<u64> {
        let span = |name: &'static str| match name {
            "attn" => {
                tracing::span!(target: "candle_transformers::t", tracing::Level::TRACE, "attn")
            }
            _ => tracing::span!(target: "candle_transformers::t", tracing::Level::TRACE, "mlp"),
        };
        let (attn, mlp) = with_probes(|| (span("attn"), span("mlp")));
        let number = start_recording(clock);
        for (span, work) in [(attn, 70_000), (mlp, 30_000)] {
            let entered = span.enter();
            queue.launch(4_000, work);
            drop(entered);
        }
        stop_recording();
        let events = events_of(number).unwrap();
        let spans = events.chunks(2).map(|e| e[1].at.duration_since(e[0].at).as_nanos() as u64);
        spans.collect()
    }

    #[test]
    fn spans_of_a_device_take_as_long_as_its_work() {
        let queue = MockQueue::new();
        let clock: Rc<dyn DeviceClock> = Rc::new(EventClock::new(queue.clone()));
        // The first kernel waits for its launch; the second was launched before it began.
        assert_eq!(a_layer(&queue, &clock), [74_000, 30_000]);
        // By the host's clock the spans are as long as it takes to launch, and all of the work is
        // missing; here the fake host does not move the real one at all.
        assert!(a_layer(&queue, &host()).iter().all(|ns| *ns < 30_000));
    }

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
        assert!(ns_per_event(&host()) > 0.0);
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
        let number = start_recording(&host());
        drop(plain.enter());
        drop(foreign.enter());
        drop(probed.enter());
        stop_recording();
        drop(probed.enter());
        let events = events_of(number).unwrap();
        let seen: Vec<_> = events.iter().map(|e| (e.kind, e.edge)).collect();
        assert_eq!(seen, [(SpanKind::Attn, Edge::Enter), (SpanKind::Attn, Edge::Exit)]);
        start_recording(&host());
        stop_recording();
        assert!(events_of(number).is_none(), "another recording has taken its place");
    }
}
