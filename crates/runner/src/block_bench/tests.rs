use std::cell::Cell;
use std::fs::File;
use std::rc::Rc;

use foretoken_cost::readers;
use foretoken_spec::{BlockPart, ModelSource, QuantScheme, TensorType};

use super::*;
use crate::device_clock::{DeviceClock, HostClock};
use crate::layout::PassLayout;
use crate::mock::tests::tiny_shape;
use crate::reader::tests::fixtures;
use crate::run_device::{Accelerator, DeviceMemory};

const PROMPT: Pass = Pass { n_tokens: 4, kv_len: 0 };
const FIRST: Pass = Pass { n_tokens: 1, kv_len: 4 };
const LAST: Pass = Pass { n_tokens: 1, kv_len: 40 };

/// The undivided blocks of a fixture, and how they divide at three passes.
fn divided(name: &str, stop: &dyn Fn() -> bool) -> (Vec<(KernelOp, u32)>, Vec<BlockSplit>) {
    let path = fixtures().join(format!("{name}.gguf"));
    let model = foretoken_gguf::read_model(&path).unwrap();
    let info = readers::of_architecture(&model.shape.architecture).unwrap();
    let device = OpenDevice::processor();
    let blocks = PassLayout::new(&model).undivided();
    let mut file = ModelFile::read(Box::new(File::open(path).unwrap())).unwrap();
    let bench = BlockBench { model: &model, info, device: &device };
    let splits = bench.splits(&mut file, &blocks, &[PROMPT, FIRST, LAST], stop);
    (blocks, splits)
}

fn names(parts: &[BlockPart]) -> Vec<String> {
    let of = |part: &BlockPart| match part.role {
        Some(role) => role.gguf_stem().to_owned(),
        None => part.op.name().to_owned(),
    };
    parts.iter().map(of).collect()
}

#[test]
fn every_undivided_block_of_every_reader_is_divided_at_every_pass() {
    for name in ["llama", "qwen2", "qwen3", "gemma3", "phi2", "phi3", "phi3-theta", "glm4", "lfm2"]
    {
        let (blocks, splits) = divided(name, &|| false);
        assert!(!blocks.is_empty(), "{name}");
        for pass in [PROMPT, FIRST, LAST] {
            for (block, layer) in &blocks {
                let of_block = splits.iter().filter(|s| {
                    s.block == *block
                        && s.layers.contains(layer)
                        && (s.n_tokens, s.kv_len) == (pass.n_tokens, pass.kv_len)
                });
                let found: Vec<&BlockSplit> = of_block.collect();
                assert_eq!(found.len(), 1, "{name}: {} at {pass:?}", block.name());
                let parts = &found[0].parts;
                assert!(parts.len() > 1, "{name}: {}", block.name());
                assert!(parts.iter().all(|part| part.ns > 0.0), "{name}: {parts:?}");
            }
        }
    }
}

#[test]
fn the_parts_are_those_of_the_readers_source() {
    use KernelOp::{
        Attention, AttentionBlock, AttentionInputs, FeedForwardBlock, RopeAttention,
        ShortConvolution,
    };
    const CORE: [&str; 3] = ["attention_scores", "attention_softmax", "attention_values"];
    let core = |before: &[&'static str], after: &[&'static str]| -> Vec<&'static str> {
        [before, &CORE, after].concat()
    };
    let feed_forward = vec!["ffn_gate", "ffn_up", "activation", "ffn_down", "residual"];
    let inputs = vec!["attn_q", "attn_k", "attn_v", "attention_layout"];
    let known = [
        ("llama", Attention, PROMPT, core(&[], &[])),
        ("llama", Attention, LAST, core(&["kv_concat"], &[])),
        // Room is set aside before the first token.
        ("phi3", Attention, PROMPT, core(&["kv_concat"], &[])),
        ("qwen2", AttentionInputs, FIRST, inputs.clone()),
        ("qwen2", AttentionBlock, LAST, core(&["kv_concat"], &["attn_output"])),
        ("qwen2", FeedForwardBlock, PROMPT, feed_forward.clone()),
        ("lfm2", AttentionInputs, FIRST, inputs),
        ("lfm2", FeedForwardBlock, LAST, feed_forward),
        (
            "lfm2",
            ShortConvolution,
            PROMPT,
            vec!["shortconv.in_proj", "convolution", "shortconv.out_proj", "residual"],
        ),
        ("qwen3", RopeAttention, PROMPT, vec!["rope", "attention"]),
        ("qwen3", RopeAttention, LAST, vec!["rope", "attention"]),
        ("gemma3", RopeAttention, PROMPT, core(&["rope"], &[])),
        ("gemma3", RopeAttention, LAST, core(&["rope", "kv_concat"], &[])),
        ("glm4", RopeAttention, LAST, core(&["attention_layout", "rope", "kv_concat"], &[])),
    ];
    for name in ["llama", "phi3", "qwen2", "lfm2", "qwen3", "gemma3", "glm4"] {
        let (_, splits) = divided(name, &|| false);
        for (_, block, pass, expected) in known.iter().filter(|(of, ..)| *of == name) {
            let split = splits
                .iter()
                .find(|s| (s.block, s.n_tokens, s.kv_len) == (*block, pass.n_tokens, pass.kv_len));
            assert_eq!(names(&split.unwrap().parts), *expected, "{name} {} {pass:?}", block.name());
        }
    }
}

#[test]
fn joining_a_cache_is_the_first_part_of_attention() {
    let model = tiny(&[TensorType::Q8_0]);
    let pass = Pass { n_tokens: 1, kv_len: 8 };
    let splits = time(&model, &OpenDevice::processor(), &[(KernelOp::Attention, 0)], pass);
    assert_eq!(splits[0].parts[0].op, KernelOp::KvConcat);
}

#[test]
fn layers_of_other_types_are_classes_of_their_own() {
    let model = tiny(&[TensorType::Q8_0, TensorType::Q4_K, TensorType::Q8_0]);
    let all = |block| (0..3).map(|layer| (block, layer)).collect::<Vec<_>>();
    let layers = |block| -> Vec<Vec<u32>> {
        classes(&model, &all(block)).into_iter().map(|class| class.layers).collect()
    };
    assert_eq!(layers(KernelOp::FeedForwardBlock), [vec![0, 2], vec![1]]);
    // Nothing of the weights is in there.
    assert_eq!(layers(KernelOp::Attention), [vec![0, 1, 2]]);
    let both = [all(KernelOp::FeedForwardBlock), all(KernelOp::AttentionBlock)].concat();
    assert_eq!(classes(&model, &both).len(), 4);
}

#[test]
fn all_blocks_of_a_layer_run_before_those_of_the_next() {
    let model = tiny(&[TensorType::Q8_0, TensorType::Q4_K]);
    let info = readers::of_architecture("llama").unwrap();
    let device = OpenDevice::processor();
    let bench = BlockBench { model: &model, info, device: &device };
    let blocks: Vec<(KernelOp, u32)> = (0..2)
        .flat_map(|layer| {
            [KernelOp::Attention, KernelOp::FeedForwardBlock].map(|block| (block, layer))
        })
        .collect();
    let classes = classes(&model, &blocks);
    let source = foretoken_gguf::synth::SyntheticGguf::new(&model);
    let mut file = ModelFile::read(Box::new(source)).unwrap();
    let layers = bench.layers(&classes, &blocks);
    assert_eq!(layers, [0, 1]);
    let tensors: Vec<Vec<LayerTensors>> = classes
        .iter()
        .map(|class| {
            let of = |layer: &u32| class.tensors(&model, *layer);
            class.layers.iter().map(|l| file.tensors(of(l), &device.tensors).unwrap()).collect()
        })
        .collect();
    let benches: Vec<ClassBench<'_>> =
        classes.iter().zip(&tensors).map(|(c, t)| bench.bench(c, t, FIRST).unwrap()).collect();
    // Attention is one class, each feed-forward block its own.
    assert_eq!(bench.turns(&benches, &blocks, &layers), [0, 1, 0, 2]);
    let accelerator: Rc<dyn Accelerator> = Rc::new(Counting::default());
    let device = OpenDevice { accelerator: Some(accelerator), ..OpenDevice::processor() };
    let bench = BlockBench { model: &model, info, device: &device };
    assert_eq!(bench.turns(&benches, &blocks, &layers), [0, 1, 2]);
}

#[test]
fn blocks_whose_parts_have_spans_can_be_timed_too() {
    let model = tiny(&[TensorType::Q8_0, TensorType::Q8_0]);
    let blocks = [(KernelOp::AttentionInputs, 0), (KernelOp::FeedForwardBlock, 1)];
    let splits = time(&model, &OpenDevice::processor(), &blocks, FIRST);
    assert_eq!(splits.len(), 2);
    assert_eq!(splits[0].layers, [0]);
    let down = splits[1].parts.iter().find(|p| p.role == Some(TensorRole::FfnDown)).unwrap();
    assert!(down.ns > 0.0);
}

#[test]
fn once_stopped_nothing_more_is_timed() {
    assert_eq!(divided("qwen2", &|| true).1, []);
    let asked = Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 500
    };
    let (blocks, splits) = divided("qwen2", &stop);
    assert!(splits.len() < 3 * blocks.len(), "{}", splits.len());
}

#[test]
fn a_tensor_that_the_file_lacks_leaves_its_block_undivided() {
    let mut model = tiny(&[TensorType::Q8_0]);
    let lost = model.tensors.iter_mut().find(|t| t.role == TensorRole::FfnUp).unwrap();
    lost.name = "blk.0.nothing.weight".to_owned();
    let source = foretoken_gguf::synth::SyntheticGguf::new(&model);
    let info = readers::of_architecture("llama").unwrap();
    let device = OpenDevice::processor();
    // A file of other names than the description.
    let named = tiny(&[TensorType::Q8_0]);
    let mut file = ModelFile::read(Box::new(source)).unwrap();
    let bench = BlockBench { model: &named, info, device: &device };
    let blocks = [(KernelOp::FeedForwardBlock, 0), (KernelOp::Attention, 0)];
    let splits = bench.splits(&mut file, &blocks, &[FIRST], &|| false);
    assert_eq!(splits.len(), 1);
    assert_eq!(splits[0].block, KernelOp::Attention);
}

/// A device that counts how often it was waited for.
#[derive(Default)]
struct Counting {
    waits: Cell<usize>,
}

impl Accelerator for Counting {
    fn synchronise(&self) -> std::result::Result<(), String> {
        self.waits.set(self.waits.get() + 1);
        Ok(())
    }

    fn clock(&self) -> Rc<dyn DeviceClock> {
        Rc::new(HostClock)
    }

    fn memory(&self) -> Option<DeviceMemory> {
        None
    }

    fn used_bytes(&self) -> Option<u64> {
        None
    }
}

#[test]
fn a_device_is_waited_for_around_many_calls_of_a_part_and_the_processor_is_not() {
    let counting = Rc::new(Counting::default());
    let accelerator: Rc<dyn Accelerator> = counting.clone();
    let device = OpenDevice { accelerator: Some(accelerator), ..OpenDevice::processor() };
    for (device, calls, waits) in [(device, 16, 2), (OpenDevice::processor(), 1, 0)] {
        let mut laps = Laps::new(&device, 3);
        laps.count_from_here(true);
        let mut seen = Vec::new();
        let last = laps.part(KernelOp::Rope, None, |layer| {
            seen.push(layer);
            Ok(layer)
        });
        assert_eq!(seen.len(), calls);
        assert!(seen.iter().zip(0..).all(|(layer, turn)| *layer == turn % 3), "{seen:?}");
        assert_eq!(last.unwrap(), (calls - 1) % 3);
        assert_eq!(counting.waits.replace(0), waits);
        laps.next();
        assert_eq!(laps.parts().len(), 1);
    }
}

#[test]
fn parts_are_medians_of_runs_and_what_is_done_twice_is_summed() {
    let device = OpenDevice::processor();
    let mut laps = Laps::new(&device, 2);
    let pause = |ms| {
        std::thread::sleep(Duration::from_millis(ms));
        Ok(())
    };
    for (run, ms) in [40, 4, 1, 60].into_iter().enumerate() {
        // The first does not count.
        laps.count_from_here(run > 0);
        for _ in 0..2 {
            laps.part(KernelOp::Rope, None, |_| pause(ms)).unwrap();
        }
        laps.part(KernelOp::Residual, None, |_| Ok(())).unwrap();
        laps.next();
    }
    let parts = laps.parts();
    assert_eq!(names(&parts), ["rope", "residual"]);
    // Twice 4, 1 and 60: the median is 8; a sleep is never shorter than it was told.
    assert!(parts[0].ns >= 8e6, "{}", parts[0].ns);
}

/// A tiny llama with a layer of each of these types.
fn tiny(types: &[TensorType]) -> ModelSpec {
    let n_layers = u32::try_from(types.len()).unwrap();
    let shape = foretoken_spec::ModelShape { n_layers, ..tiny_shape() };
    let scheme = QuantScheme::Q8_0.name();
    ModelSpec::from_shape("tiny", "tiny", scheme, ModelSource::Mini, shape, |role, layer| {
        if role.is_vector() {
            return TensorType::F32;
        }
        layer.map_or(TensorType::Q8_0, |layer| types[layer as usize])
    })
}

/// Splits at one pass, on synthetic weights.
fn time(
    model: &ModelSpec,
    device: &OpenDevice,
    blocks: &[(KernelOp, u32)],
    pass: Pass,
) -> Vec<BlockSplit> {
    let info = readers::of_architecture(&model.shape.architecture).unwrap();
    let source = foretoken_gguf::synth::SyntheticGguf::new(model);
    let mut file = ModelFile::read(Box::new(source)).unwrap();
    BlockBench { model, info, device }.splits(&mut file, blocks, &[pass], &|| false)
}
