//! The parts of a reader's blocks, timed alone on the shapes of a run.
//!
//! Where candle's readers have no span between two operations, the time between is one block. The
//! calls of the block, in the reader's order and on its layers' own weights, say how that time
//! divides: products by what candle-core offers, the rest as the reader's source writes it
//! (`candle-transformers/src/models/quantized_*.rs`).
//!
//! Weights and cached keys come from memory as they do in the run: the bench goes round as many
//! layers as fit into [`COPY_BYTES`], through all of a layer's blocks before the next layer.

mod attention;
mod classes;
mod feed_forward;
mod laps;
mod short_convolution;
#[cfg(test)]
mod tests;
mod weights;

use std::time::{Duration, Instant};

use candle_core::{Result, Tensor};
use foretoken_cost::readers::ReaderInfo;
use foretoken_spec::{BlockSplit, KernelOp, ModelSpec, Pass, TensorRole};

use crate::OpenDevice;
use attention::Attending;
use classes::{Class, classes};
use laps::Laps;
use weights::LayerTensors;
pub(crate) use weights::{ModelFile, ReadSeek};

/// Time for each kind of block at a pass, spent on all together. Each class of layers has one run
/// that counts, after two that do not.
const BUDGET: Duration = Duration::from_millis(400);
/// Most counted rounds over the layers.
const MOST_ROUNDS: usize = 8;
/// Most memory for the layers that the bench goes round, in bytes: weights as the file has them,
/// and as much for keys and values. One layer of each class always fits.
const COPY_BYTES: u64 = 256 << 20;

/// A model whose blocks are divided.
pub(crate) struct BlockBench<'a> {
    pub(crate) model: &'a ModelSpec,
    pub(crate) info: &'static ReaderInfo,
    pub(crate) device: &'a OpenDevice,
}

impl BlockBench<'_> {
    /// Times the parts of these blocks for each of the passes. What candle refuses, and what `stop`
    /// came before, is left out.
    pub(crate) fn splits(
        &self,
        file: &mut ModelFile<'_>,
        blocks: &[(KernelOp, u32)],
        passes: &[Pass],
        stop: &dyn Fn() -> bool,
    ) -> Vec<BlockSplit> {
        let classes = classes(self.model, blocks);
        let layers = self.layers(&classes, blocks);
        let read = |class: &Class| -> Result<Vec<LayerTensors>> {
            let its = layers.iter().filter(|layer| class.layers.contains(layer));
            let of_layer = |layer: &u32| class.tensors(self.model, *layer);
            its.map(|layer| file.tensors(of_layer(layer), &self.device.tensors)).collect()
        };
        let tensors: Vec<_> = classes.iter().map(read).collect();
        let mut splits = Vec::new();
        for pass in passes {
            let read = classes.iter().zip(&tensors);
            let read = read.filter_map(|(class, tensors)| Some((class, tensors.as_ref().ok()?)));
            let mut benches: Vec<ClassBench<'_>> = read
                .take_while(|_| !stop())
                .filter_map(|(class, tensors)| self.bench(class, tensors, *pass).ok())
                .collect();
            let turns = self.turns(&benches, blocks, &layers);
            if !matches!(run(&mut benches, &turns, stop), Ok(true)) {
                continue;
            }
            let Pass { n_tokens, kv_len } = *pass;
            splits.extend(benches.into_iter().map(|ClassBench { class, laps, .. }| {
                let (block, layers) = (class.block, class.layers.clone());
                BlockSplit { block, layers, n_tokens, kv_len, parts: laps.parts() }
            }));
        }
        splits
    }

    /// The layers to go round: as many as fit, and the first of each class.
    fn layers(&self, classes: &[Class], blocks: &[(KernelOp, u32)]) -> Vec<u32> {
        let mut layers: Vec<u32> = blocks.iter().map(|(_, layer)| *layer).collect();
        layers.sort_unstable();
        layers.dedup();
        let mut bytes = 0_u64;
        layers.retain(|layer| {
            let its = || classes.iter().filter(|class| class.layers.contains(layer));
            let own: u64 =
                its().flat_map(|class| class.tensors(self.model, *layer)).map(|t| t.bytes()).sum();
            let is_taken =
                bytes + own <= COPY_BYTES || its().any(|class| class.layers[0] == *layer);
            bytes += if is_taken { own } else { 0 };
            is_taken
        });
        layers
    }

    /// A class with what it needs at a pass, after a run that shows that candle can.
    fn bench<'b>(
        &'b self,
        class: &'b Class,
        tensors: &'b [LayerTensors],
        pass: Pass,
    ) -> Result<ClassBench<'b>> {
        let block = Block::new(self, class, tensors, pass)?;
        let mut laps = Laps::new(self.device, block.n_copies(class));
        block.run(&mut laps)?;
        laps.next();
        laps.rewind();
        Ok(ClassBench { class, block, laps })
    }

    /// Whose turn it is in a round, by index: every block of a layer and then those of the next. A
    /// device that works behind the host's back takes all layers of a class in one turn.
    fn turns(
        &self,
        benches: &[ClassBench<'_>],
        blocks: &[(KernelOp, u32)],
        layers: &[u32],
    ) -> Vec<usize> {
        if self.device.accelerator.is_some() {
            return (0..benches.len()).collect();
        }
        let of = |(block, layer): &(KernelOp, u32)| {
            benches.iter().position(|b| b.class.block == *block && b.class.layers.contains(layer))
        };
        blocks.iter().filter(|(_, layer)| layers.contains(layer)).filter_map(of).collect()
    }
}

/// One class of blocks as it is timed.
struct ClassBench<'a> {
    class: &'a Class,
    block: Block<'a>,
    laps: Laps<'a>,
}

/// Runs the blocks in turns until the time is up; `false` where the stop came first.
fn run(benches: &mut [ClassBench<'_>], turns: &[usize], stop: &dyn Fn() -> bool) -> Result<bool> {
    let mut kinds: Vec<KernelOp> = benches.iter().map(|bench| bench.class.block).collect();
    kinds.sort();
    kinds.dedup();
    let budget = BUDGET * u32::try_from(kinds.len()).unwrap_or(1);
    let started = Instant::now();
    for round in 0..=MOST_ROUNDS {
        let mut had_turn = vec![false; benches.len()];
        // The first round repacks weights, and warms caches and allocator.
        benches.iter_mut().for_each(|bench| bench.laps.count_from_here(round > 0));
        for turn in turns {
            if stop() {
                return Ok(false);
            }
            let is_late = started.elapsed() > budget;
            if is_late && had_turn.iter().all(|had| *had) {
                break;
            }
            // Late, one run of each is left to do.
            if is_late && had_turn[*turn] {
                continue;
            }
            let ClassBench { block, laps, .. } = &mut benches[*turn];
            block.run(laps)?;
            laps.next();
            had_turn[*turn] = true;
        }
        if round > 0 && started.elapsed() > budget {
            break;
        }
        benches.iter_mut().for_each(|bench| bench.laps.rewind());
    }
    Ok(true)
}

/// A block with everything that it needs at one pass.
struct Block<'a> {
    which: KernelOp,
    layers: &'a [LayerTensors],
    /// `[1, n_tokens, hidden_size]`
    x: Tensor,
    needs: Needs<'a>,
}

/// What a block needs beside its weights.
enum Needs<'a> {
    Nothing,
    Attending(Box<Attending<'a>>),
    Convolution(short_convolution::State),
}

impl<'a> Block<'a> {
    fn new(
        bench: &BlockBench<'a>,
        class: &Class,
        layers: &'a [LayerTensors],
        pass: Pass,
    ) -> Result<Self> {
        let shape = &bench.model.shape;
        let device = &bench.device.tensors;
        let hidden = (1, pass.n_tokens as usize, shape.hidden_size as usize);
        let x = Tensor::randn(0_f32, 1., hidden, device)?;
        let needs = match class.block {
            KernelOp::FeedForwardBlock => Needs::Nothing,
            KernelOp::ShortConvolution => {
                Needs::Convolution(short_convolution::State::new(layers, &x)?)
            }
            _ => {
                let view = shape.layer(class.layers[0]);
                let attending = Attending::new(bench.info, shape, view, pass, device)?;
                Needs::Attending(Box::new(attending))
            }
        };
        Ok(Self { which: class.block, layers, x, needs })
    }

    /// Copies to go round: layers, or caches where the block has no weights.
    fn n_copies(&self, class: &Class) -> usize {
        match (&self.needs, self.which) {
            (Needs::Attending(attending), KernelOp::Attention | KernelOp::RopeAttention) => {
                attending.n_caches().min(class.layers.len())
            }
            _ => self.layers.len(),
        }
    }

    fn run(&self, laps: &mut Laps<'_>) -> Result<()> {
        let Self { which, layers, x, needs } = self;
        match (needs, which) {
            (Needs::Nothing, _) => feed_forward::run(layers, x, laps),
            (Needs::Convolution(state), _) => state.run(layers, x, laps),
            (Needs::Attending(attending), KernelOp::AttentionInputs) => {
                attending.inputs(layers, x, laps)
            }
            (Needs::Attending(attending), KernelOp::AttentionBlock) => {
                let out = attending.attention(laps)?;
                laps.matmul(layers, TensorRole::AttnOutput, &out).map(drop)
            }
            (Needs::Attending(attending), KernelOp::RopeAttention) => {
                attending.rope_attention(layers, laps).map(drop)
            }
            (Needs::Attending(attending), _) => attending.attention(laps).map(drop),
        }
    }
}
