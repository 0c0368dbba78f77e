//! A clock around each part of a block.
//!
//! On the processor every run of the block is on the next layer, and each part is timed as it
//! comes. A device that works behind the host's back is waited for at both ends of a part, and the
//! part is given to it for all layers in one go: a wait around a single call would time the wait.

use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

use candle_core::{Result, Tensor};
use foretoken_spec::{BlockPart, KernelOp, TensorRole};
use foretoken_stats::median;

use super::weights::LayerTensors;
use crate::OpenDevice;

/// Fewest calls between two waits for a device.
const FEWEST_CALLS: usize = 16;

/// The times of the parts of a block, of which each run is a sample.
pub(super) struct Laps<'a> {
    device: &'a OpenDevice,
    copies: usize,
    /// Copies that a part runs on, one after the other; beyond the last it begins again.
    batch: Range<usize>,
    is_counted: bool,
    /// In the order in which they ended last.
    parts: Vec<Part>,
}

struct Part {
    op: KernelOp,
    role: Option<TensorRole>,
    /// Of one call each, in ns; what a block does at two places is one sample.
    samples: Vec<f64>,
    /// Of the run that goes on.
    ns: f64,
}

impl<'a> Laps<'a> {
    /// `copies`: layers to go round, at least one.
    pub(super) fn new(device: &'a OpenDevice, copies: usize) -> Self {
        let copies = copies.max(1);
        let calls = match device.accelerator {
            None => 1,
            Some(_) => copies.max(FEWEST_CALLS),
        };
        Self { device, copies, batch: 0..calls, is_counted: false, parts: Vec::new() }
    }

    /// Whether the runs from here on are samples.
    pub(super) fn count_from_here(&mut self, is_counted: bool) {
        self.is_counted = is_counted;
    }

    /// Runs a part on the layers whose turn it is, by their index, and returns what it gave last.
    pub(super) fn part<T>(
        &mut self,
        op: KernelOp,
        role: Option<TensorRole>,
        mut work: impl FnMut(usize) -> Result<T>,
    ) -> Result<T> {
        self.device.synchronise().map_err(candle_core::Error::msg)?;
        let start = Instant::now();
        let mut out = work(self.batch.start % self.copies)?;
        for turn in self.batch.clone().skip(1) {
            out = black_box(work(turn % self.copies)?);
        }
        self.device.synchronise().map_err(candle_core::Error::msg)?;
        let ns = start.elapsed().as_nanos() as f64 / self.batch.len() as f64;
        let is_it = |part: &Part| (part.op, part.role) == (op, role);
        let known = self.parts.iter().position(is_it).map(|index| self.parts.remove(index));
        let mut part = known.unwrap_or(Part { op, role, samples: Vec::new(), ns: 0.0 });
        part.ns += ns;
        self.parts.push(part);
        Ok(out)
    }

    /// The product with a matrix of these layers.
    pub(super) fn matmul(
        &mut self,
        layers: &[LayerTensors],
        role: TensorRole,
        x: &Tensor,
    ) -> Result<Tensor> {
        self.part(KernelOp::Matmul, Some(role), |layer| layers[layer].multiply(role, x))
    }

    /// Ends a run of the block, and turns to the next layer.
    pub(super) fn next(&mut self) {
        for part in &mut self.parts {
            let ns = std::mem::take(&mut part.ns);
            if self.is_counted {
                part.samples.push(ns);
            }
        }
        let calls = self.batch.len();
        let start = self.batch.end % self.copies;
        self.batch = start..start + calls;
    }

    /// Turns to the first layer again.
    pub(super) fn rewind(&mut self) {
        self.batch = 0..self.batch.len();
    }

    /// Medians of the samples, in the order in which the parts end.
    pub(super) fn parts(self) -> Vec<BlockPart> {
        let of = |part: Part| BlockPart {
            op: part.op,
            role: part.role,
            ns: median(&part.samples).unwrap_or(0.0),
        };
        self.parts.into_iter().map(of).collect()
    }
}
