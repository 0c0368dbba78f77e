//! From the events of one pass to what ran when, and to self times by operation.
//!
//! Every nanosecond between the start and the end of the pass belongs to exactly one operation:
//! the innermost open span, or the place between the spans inside it, because the reader's source
//! fixes what runs there ([`PassLayout`]). So the times sum to the pass by construction.

use std::time::Instant;

use foretoken_spec::{KernelOp, OpKind, Slice};

use crate::KernelPass;
use crate::layout::{Node, PassLayout, What};
use crate::probe::{Edge, SpanEvent, SpanKind};

/// What the probes saw of one pass.
#[derive(Debug, Clone)]
pub(crate) struct PassEvents {
    pub(crate) events: Vec<SpanEvent>,
    pub(crate) start: Instant,
    /// Where the copy of the logits begins.
    pub(crate) copy_start: Instant,
    pub(crate) end: Instant,
}

impl PassEvents {
    /// What ran when. Slices follow each other without a gap.
    pub(crate) fn slices(&self, layout: &PassLayout) -> Vec<Slice> {
        let mut slices: Vec<Slice> = Vec::new();
        for Leaf { slice, .. } in leaves(self, layout) {
            match slices.last_mut() {
                Some(last) if is_same(last, &slice) => last.ns += slice.ns,
                _ if slice.ns == 0 => {}
                _ => slices.push(slice),
            }
        }
        slices
    }

    /// Self times by operation, matrices by role and type; none where the spans do not tell the
    /// operations of the cost model apart.
    pub(crate) fn self_times(&self, layout: &PassLayout) -> Vec<KernelPass> {
        let mut totals: Vec<KernelPass> = Vec::new();
        if !layout.is_complete {
            return totals;
        }
        for Leaf { slice, kind, is_call } in leaves(self, layout) {
            let is_matmul = matches!(kind, OpKind::Matmul | OpKind::LmHead);
            let role = slice.role.filter(|_| is_matmul);
            let what = (slice.op, slice.role, slice.layer);
            let tensor_type = if is_matmul { layout.tensor_type(what) } else { None };
            let found = totals
                .iter()
                .position(|t| t.op == kind && t.role == role && t.tensor_type == tensor_type);
            let index = found.unwrap_or_else(|| {
                totals.push(KernelPass { op: kind, role, tensor_type, calls: 0, ns: 0 });
                totals.len() - 1
            });
            totals[index].ns += slice.ns;
            totals[index].calls += u32::from(is_call);
        }
        totals
    }
}

#[cfg(test)]
impl PassEvents {
    /// Spans that the layout does not expect, and those that it expects in vain.
    pub(crate) fn misfits(&self, layout: &PassLayout) -> usize {
        let mut walk = Walk::new(self.start, layout);
        let mut missing = 0;
        for event in self.events.iter().filter(|event| event.kind != SpanKind::Unknown) {
            match event.edge {
                Edge::Enter => walk.enter(event.kind),
                Edge::Exit => {
                    let is_short = |frame: &Frame<'_>| {
                        frame.node.is_none_or(|node| frame.next < node.children.len())
                    };
                    missing += usize::from(walk.stack.last().is_some_and(is_short));
                    walk.exit();
                }
            }
        }
        missing
    }
}

fn is_same(a: &Slice, b: &Slice) -> bool {
    a.op == b.op && a.role == b.role && a.layer == b.layer
}

/// A slice with the coarser operation that the cost model books it under.
struct Leaf {
    slice: Slice,
    kind: OpKind,
    /// Whether it stands for a call of that operation, and is not a rest of one.
    is_call: bool,
}

/// An open span.
struct Frame<'a> {
    /// `None` where the layout has no such span.
    node: Option<&'a Node>,
    /// The child that comes next.
    next: usize,
    /// Whether time inside it was booked already.
    is_begun: bool,
}

fn leaves(pass: &PassEvents, layout: &PassLayout) -> Vec<Leaf> {
    let mut walk = Walk::new(pass.start, layout);
    let mut last = pass.start;
    for event in &pass.events {
        if event.kind == SpanKind::Unknown {
            continue;
        }
        walk.book(last, event.at);
        last = event.at;
        match event.edge {
            Edge::Enter => walk.enter(event.kind),
            Edge::Exit => walk.exit(),
        }
    }
    walk.book(last, pass.copy_start);
    let copy = (KernelOp::LogitsCopy, None, None);
    walk.push(copy, (OpKind::Host, false), (pass.copy_start.max(last), pass.end));
    walk.leaves
}

struct Walk<'a> {
    start: Instant,
    stack: Vec<Frame<'a>>,
    leaves: Vec<Leaf>,
}

impl<'a> Walk<'a> {
    fn new(start: Instant, layout: &'a PassLayout) -> Self {
        let root = Frame { node: Some(&layout.root), next: 0, is_begun: false };
        Self { start, stack: vec![root], leaves: Vec::new() }
    }

    /// Books the time between two events under what ran there.
    fn book(&mut self, from: Instant, to: Instant) {
        const UNKNOWN: What = (KernelOp::Uncovered, None, None);
        let Some(frame) = self.stack.last_mut() else { return };
        let what = frame.node.and_then(|node| node.gaps.get(frame.next)).copied();
        let what = what.unwrap_or(UNKNOWN);
        let span = frame.node.map_or(SpanKind::Unknown, |node| node.kind);
        let kind = kind_of(span, what.0, frame.is_begun);
        frame.is_begun = true;
        self.push(what, kind, (from, to));
    }

    fn push(
        &mut self,
        (op, role, layer): What,
        (kind, is_call): (OpKind, bool),
        (from, to): (Instant, Instant),
    ) {
        let start_ns = nanos(self.start, from);
        let slice = Slice { op, role, layer, start_ns, ns: nanos(from, to) };
        self.leaves.push(Leaf { slice, kind, is_call });
    }

    /// Enters the child that comes next; one that the layout does not expect leaves it where it is.
    fn enter(&mut self, kind: SpanKind) {
        let child = self.stack.last_mut().and_then(|frame| {
            let node = frame.node?;
            if frame.next == node.children.len() {
                frame.next = node.again_from?;
            }
            let child = node.children.get(frame.next).filter(|child| child.kind == kind)?;
            frame.next += 1;
            Some(child)
        });
        self.stack.push(Frame { node: child, next: 0, is_begun: false });
    }

    fn exit(&mut self) {
        // The frame around the model stays.
        if self.stack.len() > 1 {
            self.stack.pop();
        }
    }
}

/// What the cost model books a time under, and whether it stands for a call: what runs between the
/// spans of a block belongs to the block.
fn kind_of(span: SpanKind, op: KernelOp, is_begun: bool) -> (OpKind, bool) {
    match (span, op) {
        (_, KernelOp::Matmul) => (OpKind::Matmul, true),
        // The head is a span around its matmul: one call.
        (_, KernelOp::LmHead) => (OpKind::LmHead, span == SpanKind::Output && !is_begun),
        (_, KernelOp::RmsNorm) => (OpKind::RmsNorm, true),
        (_, KernelOp::Rope) => (OpKind::Rope, true),
        (_, KernelOp::Embedding) => (OpKind::Embedding, true),
        (_, KernelOp::Input) => (OpKind::Host, true),
        (SpanKind::Attn, op) => (OpKind::Attention, op == KernelOp::Attention),
        (SpanKind::AttnMlp, op) => (OpKind::MlpElementwise, op == KernelOp::Activation),
        (SpanKind::Model, op) => (OpKind::Residual, op == KernelOp::Residual),
        _ => (OpKind::Host, false),
    }
}

fn nanos(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
