//! What no machine can do: the bounds that a measured row of a device has to keep.

use foretoken_spec::Phase;

use crate::facts::ModelFacts;
use crate::machine::{Dots, Machine, Processor};
use crate::task::Work;

/// A limit of the data sheet that a time would break.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// Seconds per token, at least.
    pub seconds: f64,
    /// What sets it.
    pub bound: LimitedBy,
}

/// What limits a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitedBy {
    /// Reading the weights at the data sheet's bandwidth.
    Bandwidth,
    /// Arithmetic at the fastest peak of any number format.
    Arithmetic,
}

impl Machine {
    /// The least time of a token by the data sheet: the weights read once over the bandwidth, or the
    /// matrix products at the fastest peak, whichever takes longer. Overlapping both and caching
    /// nothing, it is the roofline of Williams et al. (2009); small models in a large cache can beat
    /// the first by a little.
    pub fn least_time(&self, model: &ModelFacts, work: &Work) -> Limit {
        let arithmetic = 2.0 * model.active_params / self.most_flop();
        // A prompt reads the weights at least once in all.
        let tokens = if work.phase == Phase::Decode { 1.0 } else { work.n_tokens.max(1.0) };
        let bandwidth =
            self.bandwidth_gbps.map_or(0.0, |gbps| model.step_bytes / (1e9 * gbps * tokens));
        match arithmetic > bandwidth {
            true => Limit { seconds: arithmetic, bound: LimitedBy::Arithmetic },
            false => Limit { seconds: bandwidth, bound: LimitedBy::Bandwidth },
        }
    }

    /// Operations per second in the fastest number format. A graphics processor multiplies 8-bit
    /// integers twice as fast as 16-bit floats; cores by what their instructions add to f32:
    /// dot products of four bytes, `smmla`'s and AMX's small matrices.
    fn most_flop(&self) -> f64 {
        let times = match (self.processor, self.dots) {
            (Processor::Gpu, _) => 2.0,
            (Processor::Cpu, Dots::Scalar) => 1.0,
            (Processor::Cpu, Dots::None | Dots::Avx2) => 2.0,
            (Processor::Cpu, Dots::Dot) => 4.0,
            (Processor::Cpu, Dots::Matrix) => 8.0,
            (Processor::Cpu, Dots::Tiles) => 32.0,
        };
        1e12 * self.matrix_tflops.max(self.fp32_tflops) * times
    }
}

#[cfg(test)]
mod tests {
    use foretoken_devices::find;
    use foretoken_spec::DeviceBackend;

    use super::*;

    #[test]
    fn bounds_of_a_board_by_hand() {
        let pi = Machine::new(find("raspberry-pi-5-8gb").unwrap(), DeviceBackend::Cpu).unwrap();
        let model = ModelFacts {
            name: "m".into(),
            quant: "Q4_0".into(),
            total_bytes: 0.7e9,
            step_bytes: 0.64e9,
            active_params: 1.1e9,
            n_layers: 22.0,
            attention_width: 2048.0,
            kv_bytes_per_token: 2e4,
            widths: None,
        };
        // 0.64 GB at 17.068 GB/s.
        let decode = pi.least_time(&model, &Work::decode(64.0));
        assert_eq!(decode.bound, LimitedBy::Bandwidth);
        assert!((decode.seconds - 0.64 / 17.068).abs() < 1e-4, "{decode:?}");
        // 2.2 GFLOP at 4 cores × 2.4 GHz × 16 × 4 = 614.4 GFLOP/s.
        let prefill = pi.least_time(&model, &Work::prefill(512, 0));
        assert_eq!(prefill.bound, LimitedBy::Arithmetic);
        assert!((prefill.seconds - 2.2 / 614.4).abs() < 1e-6, "{prefill:?}");
    }
}
