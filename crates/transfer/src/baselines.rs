//! The naive methods that every error is printed beside.

use std::collections::BTreeMap;

use foretoken_cost::edgeprofiler::{EDGE_DEVICES, EdgeDevice, EdgeModel};
use foretoken_spec::Phase;
use foretoken_stats::median;
use linfa::Dataset;
use linfa::traits::{Fit, Predict};
use linfa_linear::{FittedLinearRegression, LinearRegression};
use ndarray::{Array1, Array2};

use crate::machine::Machine;
use crate::rows::Observation;
use crate::task::Point;

/// Restraint of the linear regression's slopes, as that many rows of value 0.
const RIDGE: f64 = 1.0;

/// What the naive methods learn from the devices that may be known.
pub(crate) struct Baselines<'a> {
    known: Vec<(&'a Observation, Point)>,
    machines: &'a [Machine],
    efficiency: BTreeMap<u64, f64>,
    levels: Vec<u64>,
    linear: Option<FittedLinearRegression<f64>>,
}

impl<'a> Baselines<'a> {
    /// From the measurements of one phase on one kind of processor.
    pub fn new(known: Vec<&'a Observation>, machines: &'a [Machine]) -> Self {
        let known: Vec<(&Observation, Point)> =
            known.into_iter().map(|o| (o, o.point(machines))).collect();
        let mut ratios: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (o, point) in &known {
            let share = roofline(&machines[o.machine], o) / o.seconds_per_token;
            ratios.entry(point.tags.backend).or_default().push(share);
        }
        let mut levels: Vec<u64> = known
            .iter()
            .flat_map(|(_, p)| [p.tags.backend, p.tags.engine, p.tags.family])
            .collect();
        levels.sort_unstable();
        levels.dedup();
        let efficiency = ratios.into_iter().filter_map(|(b, r)| Some((b, median(&r)?))).collect();
        let mut this = Self { known, machines, efficiency, levels, linear: None };
        this.linear = this.fit_linear();
        this
    }

    /// Seconds per token that each method predicts; `None` of a method that cannot.
    pub fn predict(
        &self,
        machine: &Machine,
        o: &Observation,
        point: &Point,
    ) -> BTreeMap<String, f64> {
        let roof = roofline(machine, o);
        let answers = [
            ("roofline", Some(roof)),
            (
                "fixed_efficiency_per_backend",
                self.efficiency.get(&point.tags.backend).map(|share| roof / share),
            ),
            ("nearest_device_scaled", self.nearest(point, roof)),
            ("log_linear_regression", self.linear(point)),
            ("bytes_over_bandwidth", bytes_over_bandwidth(machine, o)),
            ("edgeprofiler", edgeprofiler(machine, o)),
        ];
        answers
            .into_iter()
            .filter_map(|(name, seconds)| Some((name.to_owned(), seconds.filter(|s| *s > 0.0)?)))
            .collect()
    }

    /// The nearest work of the nearest device of the backend, scaled by the roofline.
    fn nearest(&self, point: &Point, roof: f64) -> Option<f64> {
        let far = |a: &[f64], b: &[f64]| -> f64 {
            a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt()
        };
        let distance = |other: &Point| {
            let unlike = |same: bool| if same { 0.0 } else { 1.0 };
            3.0 * far(&point.machine, &other.machine)
                + far(&point.work, &other.work)
                + unlike(point.tags.engine == other.tags.engine)
                + unlike(point.tags.family == other.tags.family)
        };
        let (o, _) = self
            .known
            .iter()
            .filter(|(_, other)| other.tags.backend == point.tags.backend)
            .min_by(|(_, a), (_, b)| distance(a).total_cmp(&distance(b)))?;
        Some(o.seconds_per_token * roof / roofline(&self.machines[o.machine], o))
    }

    /// Coordinates and levels of a point as a row.
    fn features(&self, point: &Point) -> Vec<f64> {
        let tags = [point.tags.backend, point.tags.engine, point.tags.family];
        let levels = self.levels.iter().map(|l| if tags.contains(l) { 1.0 } else { 0.0 });
        let coordinates = point.machine.iter().chain(&point.work).copied();
        [1.0].into_iter().chain(coordinates).chain(levels).collect()
    }

    /// linfa's least squares of ln(seconds ÷ floor) on coordinates and levels; further rows of
    /// value 0 restrain every slope, which is ridge regression.
    fn fit_linear(&self) -> Option<FittedLinearRegression<f64>> {
        let rows: Vec<Vec<f64>> = self.known.iter().map(|(_, p)| self.features(p)).collect();
        let (n, width) = (rows.len(), rows.first()?.len());
        let records = Array2::from_shape_fn((n + width, width), |(i, j)| match rows.get(i) {
            Some(row) => row[j],
            None if i - n == j => RIDGE.sqrt(),
            None => 0.0,
        });
        let targets = Array1::from_shape_fn(n + width, |i| match self.known.get(i) {
            Some((o, point)) => (o.seconds_per_token / point.floor).ln(),
            None => 0.0,
        });
        LinearRegression::new().with_intercept(false).fit(&Dataset::new(records, targets)).ok()
    }

    fn linear(&self, point: &Point) -> Option<f64> {
        let features = self.features(point);
        let record = Array2::from_shape_vec((1, features.len()), features).ok()?;
        let answer = self.linear.as_ref()?.predict(&record);
        Some(point.floor * answer.first()?.exp())
    }
}

/// Seconds per token where the slower of memory and f32 arithmetic sets the pace.
fn roofline(machine: &Machine, o: &Observation) -> f64 {
    let arithmetic = 2.0 * o.model.active_params / (machine.fp32_tflops * 1e12);
    let tokens = if o.work.phase == Phase::Decode { 1.0 } else { o.work.n_tokens };
    let bytes = o.model.step_bytes / (bandwidth(machine) * tokens);
    arithmetic.max(bytes)
}

/// Bytes per second of the data sheet; of a rented part 20 GB/s for each core.
fn bandwidth(machine: &Machine) -> f64 {
    1e9 * machine.bandwidth_gbps.unwrap_or(20.0 * machine.cores.max(1.0))
}

fn bytes_over_bandwidth(machine: &Machine, o: &Observation) -> Option<f64> {
    (o.work.phase == Phase::Decode).then(|| o.model.step_bytes / bandwidth(machine))
}

/// EdgeProfiler's own formula on the model's true shape, with the data sheet's figures for compute
/// and memory and the published ones of the Raspberry Pi 5 for storage, PCIe and network.
fn edgeprofiler(machine: &Machine, o: &Observation) -> Option<f64> {
    let widths = o.model.widths.filter(|_| o.work.phase == Phase::Decode)?;
    let (_, raspberry_pi_5) = EDGE_DEVICES[1];
    let device = EdgeDevice {
        flop: machine.fp32_tflops * 1e12,
        memory: bandwidth(machine),
        ..raspberry_pi_5
    };
    let model = EdgeModel {
        layers: o.model.n_layers,
        hidden: widths.hidden,
        intermediate: widths.feed_forward,
        vocabulary: widths.vocabulary,
        tokens: o.work.depth.max(1.0),
    };
    Some(model.token(&device, o.model.bits_per_weight() / 8.0).end_to_end())
}

#[cfg(test)]
mod tests {
    use foretoken_devices::find;
    use foretoken_spec::DeviceBackend;

    use super::*;
    use crate::facts::{ModelFacts, Widths};
    use crate::task::{Setup, Work};

    fn observation(seconds_per_token: f64) -> Observation {
        Observation {
            machine: 0,
            setup: Setup::new("llama.cpp", DeviceBackend::Cpu),
            model: ModelFacts {
                name: "m".into(),
                quant: "Q8_0".into(),
                total_bytes: 1.1e9,
                step_bytes: 1.0e9,
                active_params: 1.0e9,
                n_layers: 22.0,
                attention_width: 2048.0,
                kv_bytes_per_token: 0.0,
                widths: Some(Widths { hidden: 2048.0, feed_forward: 5632.0, vocabulary: 32e3 }),
            },
            work: Work::decode(100.0),
            seconds_per_token,
            rounding: 0.0,
            source: String::new(),
            rows: 1,
        }
    }

    #[test]
    fn hand_computed_answers() {
        let pi = Machine::new(find("raspberry-pi-5-8gb").unwrap(), DeviceBackend::Cpu).unwrap();
        let known = observation(0.1);
        let machines = [pi.clone()];
        let baselines = Baselines::new(vec![&known], &machines);
        let asked = Observation { seconds_per_token: 1.0, ..known.clone() };
        let answers = baselines.predict(&pi, &asked, &asked.point(&machines));
        let of_bytes = 1.0 / pi.bandwidth_gbps.unwrap();
        assert!((answers["bytes_over_bandwidth"] - of_bytes).abs() < 1e-12);
        // 2e9 FLOP at 153.6e9 take 13 ms, less than the 58 ms of the bytes.
        assert!((answers["roofline"] - of_bytes).abs() < 1e-12);
        assert!((answers["fixed_efficiency_per_backend"] - 0.1).abs() < 1e-12);
        assert!((answers["nearest_device_scaled"] - 0.1).abs() < 1e-12);
        // Weights 22·(4·2048² + 2·2048·5632) + 2·32000·2048 = 1 007 681 536 bytes at 8 bits over
        // storage at 0.4e9 bytes per second alone: 2.5 s, more than twenty times the truth.
        assert!((2.5..3.0).contains(&answers["edgeprofiler"]), "{answers:?}");
    }
}
