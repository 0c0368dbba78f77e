//! The fixed reference workload: how fast the machine is just now, apart from any model.
//!
//! One part streams memory, one computes. They are the same on every machine and in every
//! version, so that their change is the machine's change.

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use foretoken_spec::ReferenceSample;

/// Size of the streamed buffer, bytes, unless the last-level cache asks for more.
const STREAM_BYTES: u64 = 256 << 20;

/// The most that the buffer takes, bytes.
const STREAM_BYTES_MAX: u64 = 512 << 20;

/// Passes over the buffer; the best one counts.
const STREAM_PASSES: u32 = 2;

/// Rows, inner width and columns of the matmul: the size of a small model's layer.
const MATMUL: (usize, usize, usize) = (64, 2048, 2048);

/// Matmuls; the median counts.
const MATMUL_PASSES: usize = 5;

/// The workload with its memory, which is made at the first run and kept: between two runs
/// nothing is allocated, and [`Reference::buffer_bytes`] is what readings of resident memory
/// have to leave out.
pub(crate) struct Reference {
    threads: usize,
    buffer_bytes: u64,
    buffer: Vec<u64>,
    matmul: Option<(QMatMul, Tensor)>,
}

/// Memory that the reference workload takes beside a model, on a machine with this last-level
/// cache.
pub fn reference_bytes(last_level_cache: Option<u64>) -> u64 {
    last_level_cache.unwrap_or(0).saturating_mul(4).clamp(STREAM_BYTES, STREAM_BYTES_MAX)
}

impl Reference {
    pub(crate) fn new(threads: u32, last_level_cache: Option<u64>) -> Self {
        Self {
            threads: threads.max(1) as usize,
            buffer_bytes: reference_bytes(last_level_cache),
            buffer: Vec::new(),
            matmul: None,
        }
    }

    /// Resident memory that the workload keeps between runs.
    pub(crate) fn buffer_bytes(&self) -> u64 {
        (self.buffer.len() * size_of::<u64>()) as u64
    }

    /// Runs both parts. A multiplication that candle refuses reads 0, which no reader of
    /// measurements accepts.
    pub(crate) fn run(&mut self) -> ReferenceSample {
        self.prepare();
        ReferenceSample {
            stream_bytes_per_second: self.stream_rate(),
            matmul_flop_per_second: self.matmul_rate().unwrap_or(0.0),
        }
    }

    /// Makes buffer and matrix, once; the first matmul repacks the matrix.
    fn prepare(&mut self) {
        if self.buffer.is_empty() {
            let len = usize::try_from(self.buffer_bytes).unwrap_or(0) / size_of::<u64>();
            // Not zero: untouched zero pages would all be the same page.
            self.buffer = vec![1; len];
        }
        if self.matmul.is_none() {
            self.matmul = matmul_operands().ok();
            if let Some((weight, rows)) = &self.matmul {
                let _ = black_box(weight.forward(rows));
            }
        }
    }

    fn stream_rate(&self) -> f64 {
        let best = (0..STREAM_PASSES).map(|_| self.stream_once()).min();
        rate(self.buffer_bytes() as f64, best)
    }

    fn stream_once(&self) -> Duration {
        let chunk = self.buffer.len().div_ceil(self.threads).max(1);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for part in self.buffer.chunks(chunk) {
                scope.spawn(move || black_box(sum(part)));
            }
        });
        start.elapsed()
    }

    fn matmul_rate(&self) -> Option<f64> {
        let (weight, rows) = self.matmul.as_ref()?;
        let mut times = Vec::with_capacity(MATMUL_PASSES);
        for _ in 0..MATMUL_PASSES {
            let start = Instant::now();
            black_box(weight.forward(rows).ok()?);
            times.push(start.elapsed());
        }
        times.sort();
        let (m, k, n) = MATMUL;
        Some(rate((2 * m * k * n) as f64, times.get(MATMUL_PASSES / 2).copied()))
    }
}

/// Sum in eight lanes, so that the loads and not the additions take the time.
fn sum(words: &[u64]) -> u64 {
    let mut lanes = [0_u64; 8];
    let mut chunks = words.chunks_exact(8);
    for chunk in &mut chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().chain(chunks.remainder()).fold(0, |a, b| a.wrapping_add(*b))
}

fn rate(amount: f64, time: Option<Duration>) -> f64 {
    match time {
        Some(time) if !time.is_zero() => amount / time.as_secs_f64(),
        _ => 0.0,
    }
}

/// A Q4_K matrix and rows to multiply, with values that are the same every time.
fn matmul_operands() -> candle_core::Result<(QMatMul, Tensor)> {
    let (m, k, n) = MATMUL;
    let wave = |len: usize| (0..len).map(|i| ((i % 251) as f32 / 125.0) - 1.0).collect::<Vec<_>>();
    let weight = Tensor::from_vec(wave(n * k), (n, k), &Device::Cpu)?;
    let weight = QMatMul::from_qtensor(QTensor::quantize(&weight, GgmlDType::Q4K)?)?;
    Ok((weight, Tensor::from_vec(wave(m * k), (m, k), &Device::Cpu)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_run_and_keep_their_buffer() {
        let mut reference = Reference::new(2, None);
        assert_eq!(reference.buffer_bytes(), 0);
        let sample = reference.run();
        assert!(sample.stream_bytes_per_second > 0.0);
        assert!(sample.matmul_flop_per_second > 0.0);
        assert_eq!(reference.buffer_bytes(), STREAM_BYTES);
    }

    #[test]
    fn the_buffer_grows_with_the_cache_up_to_a_limit() {
        assert_eq!(Reference::new(1, Some(96 << 20)).buffer_bytes, 384 << 20);
        assert_eq!(Reference::new(1, Some(1 << 30)).buffer_bytes, STREAM_BYTES_MAX);
    }

    #[test]
    fn every_word_is_summed() {
        let words: Vec<u64> = (0..1003).collect();
        assert_eq!(sum(&words), 1002 * 1003 / 2);
    }
}
