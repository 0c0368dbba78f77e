//! EdgeProfiler's formula (arXiv 2506.09061), exactly as its published code computes it: a
//! baseline, and the other column of every comparison with that paper.
//!
//! It has no grouped queries, no gate and no tied embedding, and charges every token with reading
//! all weights from storage and sending them to the device. Its code differs from its text in the
//! FLOP of a token; the code's are here, as the paper's figures come from it.

use foretoken_spec::{ModelShape, ModelSpec};

/// Share of a peak that EdgeProfiler expects: arithmetic, memory, storage, host to device, network.
const COMPUTE_UTILISATION: f64 = 0.7;
const MEMORY_UTILISATION: f64 = 0.6;
const STORAGE_UTILISATION: f64 = 0.8;
const TRANSFER_UTILISATION: f64 = 0.7;
const NETWORK_UTILISATION: f64 = 0.8;
/// Energy of an operation and of a byte, J.
const JOULES_PER_FLOP: f64 = 1e-12;
const JOULES_PER_BYTE: f64 = 1e-9;

/// Peaks of a device, per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdgeDevice {
    /// Arithmetic, FLOP.
    pub flop: f64,
    /// Memory, bytes.
    pub memory: f64,
    /// Storage, bytes.
    pub storage: f64,
    /// Host to device, bytes.
    pub transfer: f64,
    /// Network, bytes.
    pub network: f64,
}

/// The devices of the published code, by the ids that Foretoken's catalogue has for them. The real
/// parts have 12.8, 17.1 and 102 GB/s of memory.
pub const EDGE_DEVICES: [(&str, EdgeDevice); 3] = [
    (
        "raspberry-pi-4",
        EdgeDevice { flop: 50e9, memory: 19e9, storage: 0.5e9, transfer: 12e9, network: 0.1e9 },
    ),
    (
        "raspberry-pi-5",
        EdgeDevice { flop: 64e9, memory: 34e9, storage: 0.5e9, transfer: 16e9, network: 0.1e9 },
    ),
    (
        "jetson-orin-nano-super",
        EdgeDevice { flop: 0.5e12, memory: 25.6e9, storage: 2e9, transfer: 30e9, network: 0.5e9 },
    ),
];

/// What the formula knows of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdgeModel {
    /// Layers.
    pub layers: f64,
    /// Hidden size.
    pub hidden: f64,
    /// Intermediate size.
    pub intermediate: f64,
    /// Vocabulary.
    pub vocabulary: f64,
    /// Tokens in the cache.
    pub tokens: f64,
}

impl EdgeModel {
    /// The one shape that the published code has for TinyLlama, Gemma 3 1B and Llama 3.2 1B.
    pub const PUBLISHED_1B: Self = Self {
        layers: 24.0,
        hidden: 2048.0,
        intermediate: 8192.0,
        vocabulary: 50257.0,
        tokens: 1024.0,
    };
    /// The shape that it has for DeepSeek-R1-Distill-Qwen-1.5B.
    pub const PUBLISHED_DEEPSEEK: Self = Self {
        layers: 26.0,
        hidden: 2304.0,
        intermediate: 9216.0,
        vocabulary: 50257.0,
        tokens: 1024.0,
    };

    /// A model's true shape with `tokens` in its cache.
    pub fn of(shape: &ModelShape, tokens: f64) -> Self {
        Self {
            layers: f64::from(shape.n_layers),
            hidden: f64::from(shape.hidden_size),
            intermediate: f64::from(shape.intermediate_size),
            vocabulary: f64::from(shape.vocab_size),
            tokens,
        }
    }

    /// `P = L·4H² + L·2HI + 2VH` (equation 7).
    pub fn parameters(&self) -> f64 {
        let Self { layers: l, hidden: h, intermediate: i, vocabulary: v, .. } = *self;
        l * 4.0 * h * h + l * 2.0 * h * i + 2.0 * v * h
    }

    /// FLOP of a token as the code has them: `L(8H² + 4HS + 4HI + 4H + 5H)`.
    pub fn flop(&self) -> f64 {
        let Self { layers: l, hidden: h, intermediate: i, tokens: s, .. } = *self;
        l * (8.0 * h * h + 4.0 * h * s + 4.0 * h * i + 4.0 * h + 5.0 * h)
    }

    /// Bytes in memory, all of them read for a token: `B(P + SH + 2LSH)` (equation 9).
    pub fn memory_bytes(&self, bytes_per_weight: f64) -> f64 {
        let Self { layers: l, hidden: h, tokens: s, .. } = *self;
        bytes_per_weight * (self.parameters() + s * h + 2.0 * l * s * h)
    }

    /// Seconds of a token by part.
    pub fn token(&self, device: &EdgeDevice, bytes_per_weight: f64) -> EdgeToken {
        let weights = self.parameters() * bytes_per_weight;
        let sent = self.tokens * self.hidden * bytes_per_weight;
        EdgeToken {
            compute: self.flop() / (device.flop * COMPUTE_UTILISATION),
            memory: self.memory_bytes(bytes_per_weight) / (device.memory * MEMORY_UTILISATION),
            storage: weights / (device.storage * STORAGE_UTILISATION),
            transfer: weights / (device.transfer * TRANSFER_UTILISATION),
            network: sent / (device.network * NETWORK_UTILISATION),
        }
    }

    /// Joules of a token: `FLOP·10⁻¹² + bytes·10⁻⁹`.
    pub fn joules(&self, bytes_per_weight: f64) -> f64 {
        self.flop() * JOULES_PER_FLOP + self.memory_bytes(bytes_per_weight) * JOULES_PER_BYTE
    }
}

/// Seconds of a token by part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdgeToken {
    /// Arithmetic.
    pub compute: f64,
    /// Memory.
    pub memory: f64,
    /// Storage.
    pub storage: f64,
    /// Host to device.
    pub transfer: f64,
    /// Network.
    pub network: f64,
}

impl EdgeToken {
    /// `max(compute, memory) + storage + transfer + network`.
    pub fn end_to_end(&self) -> f64 {
        self.compute.max(self.memory) + self.storage + self.transfer + self.network
    }
}

/// Bytes of a weight of a model, as the formula wants them.
pub fn bytes_per_weight(model: &ModelSpec) -> f64 {
    model.weight_bytes() as f64 / model.n_parameters() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// End to end in ms, rounded, at 4, 2 and 1 byte per weight.
    fn row(model: EdgeModel, device: usize) -> [i64; 3] {
        let (_, device) = EDGE_DEVICES[device];
        [4.0, 2.0, 1.0].map(|bytes| (1e3 * model.token(&device, bytes).end_to_end()).round() as i64)
    }

    #[test]
    fn the_published_figures_come_out() {
        // The paper: 15.4 s at FP32 and 3.9 s at INT8 on the Raspberry Pi 4, 1.05 s on the Jetson.
        assert_eq!(row(EdgeModel::PUBLISHED_1B, 0), [15448, 7724, 3862]);
        assert_eq!(row(EdgeModel::PUBLISHED_1B, 1), [15045, 7523, 3761]);
        assert_eq!(row(EdgeModel::PUBLISHED_1B, 2), [4220, 2110, 1055]);
        assert_eq!(row(EdgeModel::PUBLISHED_DEEPSEEK, 0), [20601, 10301, 5150]);
        assert_eq!(row(EdgeModel::PUBLISHED_DEEPSEEK, 1), [20065, 10032, 5016]);
        assert_eq!(row(EdgeModel::PUBLISHED_DEEPSEEK, 2), [5627, 2813, 1407]);
    }

    #[test]
    fn the_parts_by_hand() {
        let token = EdgeModel::PUBLISHED_1B.token(&EDGE_DEVICES[0].1, 1.0);
        // 1516.6 MB at 11.4 GB/s; 1413.8 MB at 0.4 GB/s.
        assert_eq!((1e3 * token.memory).round(), 133.0);
        assert_eq!((1e3 * token.storage).round(), 3535.0);
        assert!((EdgeModel::PUBLISHED_1B.parameters() / 1e6).round() == 1414.0);
    }
}
