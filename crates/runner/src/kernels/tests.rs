use std::time::Duration;

use foretoken_spec::{ModelShape, ModelSource, ModelSpec, TensorRole, TensorType};

use super::*;
use crate::mock::tests::tiny_shape;

/// Builds a pass: each step is so many nanoseconds, then an edge.
struct Pass {
    start: Instant,
    now: Instant,
    events: Vec<SpanEvent>,
}

impl Pass {
    fn new() -> Self {
        let start = Instant::now();
        Self { start, now: start, events: Vec::new() }
    }

    fn after(&mut self, ns: u64, kind: SpanKind, edge: Edge) {
        self.now += Duration::from_nanos(ns);
        self.events.push(SpanEvent { kind, edge, at: self.now });
    }

    fn enter(&mut self, ns: u64, kind: SpanKind) {
        self.after(ns, kind, Edge::Enter);
    }

    fn exit(&mut self, ns: u64, kind: SpanKind) {
        self.after(ns, kind, Edge::Exit);
    }

    fn span(&mut self, before: u64, inside: u64, kind: SpanKind) {
        self.enter(before, kind);
        self.exit(inside, kind);
    }

    fn end(self, ns: u64, layout: &PassLayout) -> (u64, Vec<KernelPass>) {
        let (total, pass) = self.finish(0, ns);
        (total, pass.self_times(layout))
    }

    /// Ends the pass: so many nanoseconds until the logits are copied, and for the copy.
    fn finish(self, before_copy: u64, copy: u64) -> (u64, PassEvents) {
        let copy_start = self.now + Duration::from_nanos(before_copy);
        let end = copy_start + Duration::from_nanos(copy);
        let total = u64::try_from(end.duration_since(self.start).as_nanos()).unwrap();
        (total, PassEvents { events: self.events, start: self.start, copy_start, end })
    }
}

/// Two layers; the second one's `v` and `down` are Q6_K, as in a Q4_K_M file.
fn mixed_types() -> PassLayout {
    let model = ModelSpec::from_shape(
        "m",
        "f",
        "mix",
        ModelSource::Mini,
        tiny_shape(),
        |role, layer| match (role, layer) {
            (TensorRole::AttnV | TensorRole::FfnDown, Some(1)) | (TensorRole::Output, _) => {
                TensorType::Q6_K
            }
            (role, _) if role.is_vector() => TensorType::F32,
            _ => TensorType::Q4_K,
        },
    );
    PassLayout::new(&model)
}

/// One layer as candle's reader runs it: every self time has a value of its own.
fn layer(pass: &mut Pass) {
    use SpanKind::{Attn, AttnMlp, AttnRot, QMatMul, RmsNorm};
    pass.span(1, 10, RmsNorm);
    pass.enter(2, Attn);
    for matmul in [100, 200, 300] {
        pass.span(3, matmul, QMatMul);
    }
    pass.span(4, 20, AttnRot);
    pass.span(5, 30, AttnRot);
    pass.span(50, 400, QMatMul);
    pass.exit(6, Attn);
    pass.enter(7, AttnMlp);
    pass.span(8, 11, RmsNorm);
    pass.span(9, 500, QMatMul);
    pass.span(1, 600, QMatMul);
    pass.span(40, 700, QMatMul);
    pass.exit(12, AttnMlp);
}

fn find(
    kernels: &[KernelPass],
    op: OpKind,
    role: Option<TensorRole>,
    t: Option<TensorType>,
) -> (u32, u64) {
    let found: Vec<_> = kernels
        .iter()
        .filter(|k| k.op == op && k.role == role && k.tensor_type == t)
        .map(|k| (k.calls, k.ns))
        .collect();
    assert_eq!(found.len(), 1, "{op:?} {role:?} {t:?}");
    found[0]
}

#[test]
fn self_times_of_two_layers_add_up_to_the_pass() {
    use SpanKind::{Model, Output, QMatMul, RmsNorm};
    let mut pass = Pass::new();
    pass.enter(1000, Model); // host before
    layer(&mut pass);
    layer(&mut pass);
    pass.span(2, 13, RmsNorm);
    pass.enter(14, Output);
    pass.span(1, 5000, QMatMul);
    pass.exit(2, Output);
    pass.exit(3, Model);
    let (total, kernels) = pass.end(2000, &mixed_types());

    let plain = |op| find(&kernels, op, None, None);
    assert_eq!(plain(OpKind::Host), (1, 1000 + 2000));
    // The first layer's norm comes 1 ns after.
    assert_eq!(plain(OpKind::Embedding), (1, 1));
    assert_eq!(plain(OpKind::RmsNorm), (5, 2 * (10 + 11) + 13));
    assert_eq!(plain(OpKind::Rope), (4, 2 * (20 + 30)));
    // attn self: 3·3 before q, k, v; 4 and 5 before the ropes; 50 before and 6 after the output.
    assert_eq!(plain(OpKind::Attention), (2, 2 * (9 + 4 + 5 + 50 + 6)));
    assert_eq!(plain(OpKind::MlpElementwise), (2, 2 * (8 + 9 + 1 + 40 + 12)));
    // model self: 2 and 7 per layer, 1 before the second, 2 and 14 before the last norm and the
    // output, 3 after.
    assert_eq!(plain(OpKind::Residual), (2, 2 * (2 + 7) + 1 + 2 + 14 + 3));

    let matmul = |role, t| find(&kernels, OpKind::Matmul, Some(role), Some(t));
    assert_eq!(matmul(TensorRole::AttnQ, TensorType::Q4_K), (2, 200));
    assert_eq!(matmul(TensorRole::AttnK, TensorType::Q4_K), (2, 400));
    assert_eq!(matmul(TensorRole::AttnV, TensorType::Q4_K), (1, 300));
    assert_eq!(matmul(TensorRole::AttnV, TensorType::Q6_K), (1, 300));
    assert_eq!(matmul(TensorRole::AttnOutput, TensorType::Q4_K), (2, 800));
    assert_eq!(matmul(TensorRole::FfnGate, TensorType::Q4_K), (2, 1000));
    assert_eq!(matmul(TensorRole::FfnUp, TensorType::Q4_K), (2, 1200));
    assert_eq!(matmul(TensorRole::FfnDown, TensorType::Q4_K), (1, 700));
    assert_eq!(matmul(TensorRole::FfnDown, TensorType::Q6_K), (1, 700));
    // The LM head is the whole span, its matmul included.
    let head = find(&kernels, OpKind::LmHead, Some(TensorRole::Output), Some(TensorType::Q6_K));
    assert_eq!(head, (1, 1 + 5000 + 2));

    assert_eq!(kernels.iter().map(|k| k.ns).sum::<u64>(), total);
}

#[test]
fn slices_name_what_runs_between_the_spans() {
    use SpanKind::{Model, Output, QMatMul, RmsNorm};
    let mut pass = Pass::new();
    pass.enter(1000, Model);
    // The layer's first norm comes 1 ns after: that is the embedding's time here.
    layer(&mut pass);
    layer(&mut pass);
    pass.span(2, 13, RmsNorm);
    pass.enter(14, Output);
    pass.span(1, 5000, QMatMul);
    pass.exit(2, Output);
    pass.exit(3, Model);
    let (total, events) = pass.finish(17, 900);
    let slices = events.slices(&mixed_types());

    let mut at = 0;
    for slice in &slices {
        assert_eq!(slice.start_ns, at, "{slice:?} leaves a gap");
        at += slice.ns;
    }
    assert_eq!(at, total);

    let of = |op, layer| -> Vec<u64> {
        slices.iter().filter(|s| s.op == op && s.layer == layer).map(|s| s.ns).collect()
    };
    assert_eq!(of(KernelOp::Input, None), [1000]);
    assert_eq!(of(KernelOp::Embedding, None), [1]);
    assert_eq!(of(KernelOp::LogitsCopy, None), [900]);
    assert_eq!(of(KernelOp::LmHead, None), [1 + 5000 + 2]);
    for layer in [Some(0), Some(1)] {
        assert_eq!(of(KernelOp::AttentionLayout, layer), [4]);
        assert_eq!(of(KernelOp::Rope, layer), [20, 30]);
        assert_eq!(of(KernelOp::Attention, layer), [50]);
        assert_eq!(of(KernelOp::Activation, layer), [40]);
        // After attention (7) and after the feed-forward block (12).
        assert_eq!(of(KernelOp::Residual, layer), [7, 12]);
        assert_eq!(of(KernelOp::RmsNorm, layer), [10, 11]);
    }
    // Before q, k, v; between the ropes; after the output.
    assert_eq!(of(KernelOp::Uncovered, Some(0)), [3, 3, 3, 5, 6, 8, 9, 1]);
    let norms: Vec<_> =
        slices.iter().filter(|s| s.op == KernelOp::RmsNorm).map(|s| (s.role, s.layer)).collect();
    assert_eq!(
        norms,
        [
            (Some(TensorRole::AttnNorm), Some(0)),
            (Some(TensorRole::FfnNorm), Some(0)),
            (Some(TensorRole::AttnNorm), Some(1)),
            (Some(TensorRole::FfnNorm), Some(1)),
            (Some(TensorRole::OutputNorm), None),
        ]
    );
}

#[test]
fn a_pass_without_events_is_all_host() {
    let (total, kernels) = Pass::new().end(123, &mixed_types());
    assert_eq!(total, 123);
    assert_eq!(kernels.len(), 1);
    assert_eq!(find(&kernels, OpKind::Host, None, None), (1, 123));
}

#[test]
fn unknown_spans_leave_their_time_to_the_one_around() {
    let mut pass = Pass::new();
    pass.enter(1, SpanKind::Model);
    pass.span(10, 20, SpanKind::Unknown);
    pass.exit(30, SpanKind::Model);
    let (_, kernels) = pass.end(2, &mixed_types());
    assert_eq!(find(&kernels, OpKind::Embedding, None, None), (1, 60));
}

#[test]
fn a_tied_head_is_the_embedding_matrix() {
    use SpanKind::{Model, Output, RmsNorm};
    let mut shape = tiny_shape();
    (shape.tied_embeddings, shape.n_layers) = (true, 0);
    let model =
        ModelSpec::from_shape("m", "f", "Q8_0", ModelSource::Mini, shape, |_, _| TensorType::Q8_0);
    let mut pass = Pass::new();
    pass.enter(1, Model);
    pass.span(1, 2, RmsNorm);
    pass.span(1, 9, Output);
    pass.exit(1, Model);
    let (_, kernels) = pass.end(1, &PassLayout::new(&model));
    let role = Some(TensorRole::TokenEmbedding);
    assert_eq!(find(&kernels, OpKind::LmHead, role, Some(TensorType::Q8_0)), (1, 9));
}

#[test]
fn spans_that_a_reader_should_not_have_are_not_covered() {
    use SpanKind::{Attn, Model, QMatMul};
    let mut pass = Pass::new();
    pass.enter(1, Model);
    pass.enter(2, Attn);
    pass.span(3, 40, QMatMul);
    pass.exit(5, Attn);
    pass.exit(6, Model);
    let (total, events) = pass.finish(7, 8);
    let slices = events.slices(&mixed_types());
    assert_eq!(slices.iter().map(|slice| slice.ns).sum::<u64>(), total);
    let uncovered = slices.iter().find(|slice| slice.op == KernelOp::Uncovered).unwrap();
    assert_eq!(uncovered.ns, 3 + 40 + 5);
    // The time in the model stays what it was before the span: its embedding.
    let embedding = slices.iter().filter(|slice| slice.op == KernelOp::Embedding);
    assert_eq!(embedding.map(|slice| slice.ns).sum::<u64>(), 2 + 6);
}

#[test]
fn experts_come_again_for_every_one_that_was_chosen() {
    use SpanKind::{AttnMlp, QMatMul, RmsNorm};
    let mut shape = tiny_shape();
    let experts =
        foretoken_spec::Experts { count: 4, used: 2, intermediate_size: 64, ..Default::default() };
    shape.details.experts = Some(experts);
    let model =
        ModelSpec::from_shape("m", "f", "Q8_0", ModelSource::Mini, shape, |_, _| TensorType::Q8_0);
    let layout = PassLayout::new(&model);
    assert!(!layout.is_complete);
    let mut pass = Pass::new();
    pass.enter(1, SpanKind::Model);
    pass.span(1, 1, RmsNorm);
    pass.span(1, 1, SpanKind::Attn);
    pass.enter(1, AttnMlp);
    pass.span(1, 1, RmsNorm);
    pass.span(1, 10, QMatMul);
    for _ in 0..2 {
        pass.span(1, 100, QMatMul);
        pass.span(1, 200, QMatMul);
        pass.span(7, 300, QMatMul);
    }
    pass.exit(1, AttnMlp);
    pass.exit(1, SpanKind::Model);
    let (_, events) = pass.finish(1, 1);
    let slices = events.slices(&layout);
    let of = |role| {
        let slices = slices.iter().filter(|slice| slice.role == Some(role));
        slices.map(|slice| slice.ns).collect::<Vec<_>>()
    };
    assert_eq!(of(TensorRole::FfnGateInp), [10]);
    assert_eq!(of(TensorRole::FfnGateExps), [100, 100]);
    assert_eq!(of(TensorRole::FfnUpExps), [200, 200]);
    assert_eq!(of(TensorRole::FfnDownExps), [300, 300]);
    let activation = slices.iter().filter(|slice| slice.op == KernelOp::Activation);
    assert_eq!(activation.map(|slice| slice.ns).sum::<u64>(), 14);
}

#[test]
fn every_reader_has_as_many_gaps_as_places() {
    fn check(node: &Node) {
        assert_eq!(node.gaps.len(), node.children.len() + 1);
        node.children.iter().for_each(check);
    }
    for reader in foretoken_cost::readers::READERS {
        let shape = ModelShape { architecture: reader.architectures[0].into(), ..tiny_shape() };
        let model = ModelSpec::from_shape("m", "f", "Q8_0", ModelSource::Mini, shape, |_, _| {
            TensorType::Q8_0
        });
        let layout = PassLayout::new(&model);
        check(&layout.root);
        assert_eq!(layout.is_complete, reader.architectures[0] == "llama");
    }
}
