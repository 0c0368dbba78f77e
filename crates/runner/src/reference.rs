//! The fixed reference workload: how fast the machine is just now, apart from any model.
//!
//! One part streams memory, one computes. They are the same on every machine and in every
//! version, so that their change is the machine's change.

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{DType, Device, Module, Tensor};
use foretoken_spec::ReferenceSample;

use crate::OpenDevice;

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

/// The same on a graphics device: tensors that it sums, and a matmul that fills it.
const DEVICE_MATMUL: (usize, usize, usize) = (512, 4096, 4096);

/// Size of the streamed tensor on a graphics device, bytes: many times any cache.
const DEVICE_STREAM_BYTES: u64 = 512 << 20;

/// Memory that it takes there, with the matmul's operands and result.
pub(crate) const DEVICE_BYTES: u64 = DEVICE_STREAM_BYTES + (64 << 20);

/// The workload where the models run.
pub(crate) enum Reference {
    Processor(ProcessorReference),
    Device(DeviceReference),
}

impl Reference {
    pub(crate) fn on(device: &OpenDevice, threads: u32) -> Self {
        match device.accelerator {
            None => Self::Processor(ProcessorReference::new(threads, device.info().l3_bytes)),
            Some(_) => Self::Device(DeviceReference { device: device.clone(), made: None }),
        }
    }

    /// Memory that the workload keeps between runs, where the models run.
    pub(crate) fn buffer_bytes(&self) -> u64 {
        match self {
            Self::Processor(reference) => reference.buffer_bytes(),
            Self::Device(reference) => reference.buffer_bytes(),
        }
    }

    /// Runs both parts. What candle refuses reads 0, which no reader of measurements accepts.
    pub(crate) fn run(&mut self) -> ReferenceSample {
        match self {
            Self::Processor(reference) => reference.run(),
            Self::Device(reference) => reference.run(),
        }
    }
}

/// The workload on a graphics device. Each part ends when the device has done it.
pub(crate) struct DeviceReference {
    device: OpenDevice,
    made: Option<(Tensor, QMatMul, Tensor)>,
}

impl DeviceReference {
    fn buffer_bytes(&self) -> u64 {
        let bytes = |tensor: &Tensor| (tensor.elem_count() * size_of::<f32>()) as u64;
        self.made.as_ref().map_or(0, |(stream, _, rows)| bytes(stream) + bytes(rows))
    }

    fn run(&mut self) -> ReferenceSample {
        if self.made.is_none() {
            self.made = self.make().ok();
            // The first of each loads its kernels.
            let _ = (self.stream(), self.multiply());
        }
        let best = |times: [Option<Duration>; MATMUL_PASSES]| times.into_iter().flatten().min();
        let stream = best(std::array::from_fn(|_| self.stream()));
        let matmul = best(std::array::from_fn(|_| self.multiply()));
        let (m, k, n) = DEVICE_MATMUL;
        ReferenceSample {
            stream_bytes_per_second: rate(DEVICE_STREAM_BYTES as f64, stream),
            matmul_flop_per_second: rate((2 * m * k * n) as f64, matmul),
        }
    }

    fn make(&self) -> candle_core::Result<(Tensor, QMatMul, Tensor)> {
        let device = &self.device.tensors;
        let len = usize::try_from(DEVICE_STREAM_BYTES).unwrap_or(0) / size_of::<f32>();
        let stream = Tensor::ones(len, DType::F32, device)?;
        let (weight, rows) = matmul_operands(DEVICE_MATMUL, device)?;
        Ok((stream, weight, rows))
    }

    fn stream(&self) -> Option<Duration> {
        let (stream, _, _) = self.made.as_ref()?;
        self.timed(|| stream.sum_all())
    }

    fn multiply(&self) -> Option<Duration> {
        let (_, weight, rows) = self.made.as_ref()?;
        self.timed(|| weight.forward(rows))
    }

    fn timed(&self, work: impl Fn() -> candle_core::Result<Tensor>) -> Option<Duration> {
        self.device.synchronise().ok()?;
        let start = Instant::now();
        black_box(work().ok()?);
        self.device.synchronise().ok()?;
        Some(start.elapsed())
    }
}

/// The workload on a processor, with its memory, which is made at the first run and kept: between two runs
/// nothing is allocated, and [`Reference::buffer_bytes`] is what readings of resident memory
/// have to leave out.
pub(crate) struct ProcessorReference {
    threads: usize,
    buffer_bytes: u64,
    buffer: Vec<u64>,
    matmul: Option<(QMatMul, Tensor)>,
}

/// Memory that the reference workload takes beside a model, on a machine with this last-level
/// cache.
pub(crate) fn processor_bytes(last_level_cache: Option<u64>) -> u64 {
    last_level_cache.unwrap_or(0).saturating_mul(4).clamp(STREAM_BYTES, STREAM_BYTES_MAX)
}

impl ProcessorReference {
    pub(crate) fn new(threads: u32, last_level_cache: Option<u64>) -> Self {
        Self {
            threads: threads.max(1) as usize,
            buffer_bytes: processor_bytes(last_level_cache),
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
            self.matmul = matmul_operands(MATMUL, &Device::Cpu).ok();
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
fn matmul_operands(
    (m, k, n): (usize, usize, usize),
    device: &Device,
) -> candle_core::Result<(QMatMul, Tensor)> {
    let wave = |len: usize| (0..len).map(|i| ((i % 251) as f32 / 125.0) - 1.0).collect::<Vec<_>>();
    let weight = Tensor::from_vec(wave(n * k), (n, k), device)?;
    let weight = QMatMul::from_qtensor(QTensor::quantize(&weight, GgmlDType::Q4K)?)?;
    Ok((weight, Tensor::from_vec(wave(m * k), (m, k), device)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_run_and_keep_their_buffer() {
        let mut reference = ProcessorReference::new(2, None);
        assert_eq!(reference.buffer_bytes(), 0);
        let sample = reference.run();
        assert!(sample.stream_bytes_per_second > 0.0);
        assert!(sample.matmul_flop_per_second > 0.0);
        assert_eq!(reference.buffer_bytes(), STREAM_BYTES);
    }

    #[test]
    fn the_device_workload_runs_where_candle_does() {
        let mut reference = DeviceReference { device: OpenDevice::processor(), made: None };
        let (stream, weight, rows) = {
            let (weight, rows) = matmul_operands((2, 256, 256), &Device::Cpu).unwrap();
            (Tensor::ones(1024, DType::F32, &Device::Cpu).unwrap(), weight, rows)
        };
        reference.made = Some((stream, weight, rows));
        let sample = reference.run();
        assert!(sample.stream_bytes_per_second > 0.0 && sample.matmul_flop_per_second > 0.0);
        assert_eq!(reference.buffer_bytes(), 4 * (1024 + 2 * 256));
    }

    #[test]
    fn the_buffer_grows_with_the_cache_up_to_a_limit() {
        assert_eq!(ProcessorReference::new(1, Some(96 << 20)).buffer_bytes, 384 << 20);
        assert_eq!(ProcessorReference::new(1, Some(1 << 30)).buffer_bytes, STREAM_BYTES_MAX);
    }

    #[test]
    fn every_word_is_summed() {
        let words: Vec<u64> = (0..1003).collect();
        assert_eq!(sum(&words), 1002 * 1003 / 2);
    }
}
