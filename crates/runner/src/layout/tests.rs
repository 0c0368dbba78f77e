use std::collections::BTreeSet;
use std::fs::File;
use std::rc::Rc;
use std::time::Instant;

use super::*;
use crate::device_clock::{DeviceClock, HostClock};
use crate::kernels::PassEvents;
use crate::probe::{self, Edge};
use crate::reader::CachedModel;
use crate::reader::tests::fixtures;

const FILES: &[&str] =
    &["llama", "llama-moe", "qwen2", "qwen3", "gemma3", "phi2", "phi3", "glm4", "lfm2"];

/// A pass of several tokens and one of a single token, as the probes see them.
fn recorded(name: &str) -> (ModelSpec, Vec<PassEvents>) {
    let path = fixtures().join(format!("{name}.gguf"));
    let spec = foretoken_gguf::read_model(&path).unwrap();
    let info = readers::of_architecture(&spec.shape.architecture).unwrap();
    let mut file = File::open(path).unwrap();
    let clock: Rc<dyn DeviceClock> = Rc::new(HostClock);
    let mut model =
        probe::with_probes(|| CachedModel::load(info, &mut file, &candle_core::Device::Cpu))
            .unwrap();
    let passes = [(&[3, 17, 42, 8][..], 0), (&[50], 4)].map(|(tokens, position)| {
        let number = probe::start_recording(&clock);
        let start = Instant::now();
        model.forward(tokens, position).unwrap();
        let end = Instant::now();
        probe::stop_recording();
        PassEvents { events: probe::events_of(number).unwrap(), start, copy_start: end, end }
    });
    (spec, passes.to_vec())
}

#[test]
fn readers_enter_the_spans_of_their_table() {
    for name in FILES {
        let (spec, passes) = recorded(name);
        let info = readers::of_architecture(&spec.shape.architecture).unwrap();
        for pass in passes {
            let entered = pass.events.iter().filter(|event| event.edge == Edge::Enter);
            let seen: BTreeSet<&str> = entered.map(|event| event.kind.name()).collect();
            assert_eq!(seen, info.spans.iter().copied().collect(), "{name}");
        }
    }
}

#[test]
fn every_pass_has_the_form_of_its_layout() {
    for name in FILES {
        let (spec, passes) = recorded(name);
        let layout = PassLayout::new(&spec);
        for pass in passes {
            assert_eq!(pass.misfits(&layout), 0, "{name}");
            let slices = pass.slices(&layout);
            let mut at = 0;
            for slice in &slices {
                assert_eq!(slice.start_ns, at, "{name}: {slice:?} leaves a gap");
                at += slice.ns;
            }
            let total = pass.end.duration_since(pass.start).as_nanos();
            assert_eq!(u128::from(at), total, "{name}");
            let ops: BTreeSet<KernelOp> = slices.iter().map(|slice| slice.op).collect();
            for op in [KernelOp::Input, KernelOp::Embedding, KernelOp::LmHead, KernelOp::Residual] {
                // Of experts and short layers the sum is within the block.
                assert!(ops.contains(&op) || op == KernelOp::Residual, "{name}: {op:?}");
            }
            let named = slices.iter().filter(|slice| slice.op == KernelOp::Matmul);
            for slice in named {
                assert!(slice.role.is_some() && slice.layer.is_some(), "{name}: {slice:?}");
            }
        }
    }
}

#[test]
fn matrices_are_found_in_the_file() {
    for name in FILES {
        let (spec, passes) = recorded(name);
        let layout = PassLayout::new(&spec);
        for slice in passes[0].slices(&layout) {
            if matches!(slice.op, KernelOp::Matmul | KernelOp::LmHead) {
                let what = (slice.op, slice.role, slice.layer);
                assert!(layout.tensor_type(what).is_some(), "{name}: {slice:?}");
            }
            if slice.op == KernelOp::RmsNorm {
                let found = spec
                    .tensors
                    .iter()
                    .any(|t| Some(t.role) == slice.role && t.layer == slice.layer);
                assert!(found, "{name}: {slice:?}");
            }
        }
    }
}
