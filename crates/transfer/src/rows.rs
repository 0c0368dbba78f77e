//! From rows of a store to what the model is fitted to.

use std::collections::BTreeMap;

use foretoken_spec::{DeviceBackend, DeviceSpec, Phase, SpeedPhase, SpeedRow};
use foretoken_stats::median;
use serde::{Deserialize, Serialize};

use crate::facts::{ModelFacts, ModelShapes};
use crate::machine::Machine;
use crate::task::{Point, Setup, Work};

/// Passes of fewer tokens are neither prompts nor steps: kernels change from one to the next.
const FEWEST_PROMPT_TOKENS: u32 = 16;
/// Tokens of a prompt and of an answer where the source does not tell.
const USUAL_PROMPT: u32 = 512;
const USUAL_ANSWER: f64 = 128.0;
/// Flags that mark another regime, an engine that is not told, or more than one processor: those of
/// the store, and those that an import sets.
const LEFT_OUT_FLAGS: [(&str, &str); 7] = [
    ("small_batch", "passes of a few tokens: another regime"),
    ("runtime_unknown", "the engine is not told"),
    ("end_to_end", "timed by a server from request to answer: more than the passes"),
    ("egpu_pcie_x1", "a graphics card behind one PCIe lane of a board"),
    ("gpu_layers_limited", "some layers are on the processor, the others on the graphics card"),
    ("several_gpus", "several graphics cards share the work"),
    ("kv_on_cpu", "the cache is in the processor's memory, not the graphics card's"),
];

/// One measured configuration of one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Index of its machine.
    pub machine: usize,
    /// How it was run.
    pub setup: Setup,
    /// What was run.
    pub model: ModelFacts,
    /// What was timed.
    pub work: Work,
    /// Seconds per token: the median of the rows behind it.
    pub seconds_per_token: f64,
    /// Variance of its logarithm from rounding.
    pub rounding: f64,
    /// Who measured it.
    pub source: String,
    /// Rows behind it.
    pub rows: u32,
}

/// Measurements with their machines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Store {
    /// The machines; a device appears once for each of its processors.
    pub machines: Vec<Machine>,
    /// The measurements.
    pub observations: Vec<Observation>,
    /// Of each, what else its source tells of how it was made: build, date, notes. The model knows
    /// none of it, and measurements that differ in it are no repeats.
    pub makings: Vec<String>,
    /// Rows that were left out, by reason.
    pub left_out: BTreeMap<String, u32>,
}

impl Observation {
    /// Its point in the covariance.
    pub(crate) fn point(&self, machines: &[Machine]) -> Point {
        self.point_on(&machines[self.machine])
    }

    /// The same, on a machine that is in no list.
    pub(crate) fn point_on(&self, machine: &Machine) -> Point {
        let mut point = Point::new(machine, &self.setup, &self.model, &self.work, &self.source);
        point.rounding = self.rounding;
        point
    }

    /// Time of the pass over the prompt, or of a step, in ms.
    pub fn ms(&self) -> f64 {
        1e3 * self.seconds_per_token * self.work.n_tokens
    }
}

impl Store {
    /// Joins rows with the devices that `find` knows and the shapes of their models. What cannot
    /// be used is counted by its reason.
    pub fn join(
        rows: &[SpeedRow],
        find: &dyn Fn(&str) -> Option<DeviceSpec>,
        shapes: &ModelShapes,
    ) -> Self {
        let mut store = Self::default();
        let mut index: BTreeMap<(String, bool), usize> = BTreeMap::new();
        for row in rows {
            match store.observation(row, find, shapes, &mut index) {
                Ok(observation) => {
                    store.observations.push(observation);
                    store.makings.push(making(row));
                }
                Err(reason) => *store.left_out.entry(reason).or_default() += 1,
            }
        }
        store
    }

    fn observation(
        &mut self,
        row: &SpeedRow,
        find: &dyn Fn(&str) -> Option<DeviceSpec>,
        shapes: &ModelShapes,
        index: &mut BTreeMap<(String, bool), usize>,
    ) -> Result<Observation, String> {
        if !row.is_usable() {
            return Err("marked in the store as not to be used".into());
        }
        for (flag, reason) in LEFT_OUT_FLAGS {
            if row.flags.iter().any(|f| f == flag) {
                return Err(reason.into());
            }
        }
        let known = DeviceBackend::ALL.into_iter().find(|b| b.name() == row.backend);
        let backend = known.ok_or_else(|| format!("backend `{}` is not modelled", row.backend))?;
        let micro_batch = row
            .batch
            .as_deref()
            .and_then(|batch| batch.strip_prefix("ub")?.parse::<u32>().ok())
            .or(row.llama_bench.as_deref().and_then(|details| details.n_ubatch));
        let depth = f64::from(row.n_depth.unwrap_or(0));
        let work = match row.phase {
            SpeedPhase::Prefill => {
                let n = row.n_prompt.filter(|n| *n > 0).unwrap_or(USUAL_PROMPT);
                if n.min(micro_batch.unwrap_or(n)) < FEWEST_PROMPT_TOKENS {
                    return Err(LEFT_OUT_FLAGS[0].1.into());
                }
                Work { phase: Phase::Prefill, n_tokens: f64::from(n), depth }
            }
            SpeedPhase::Decode => {
                let before = depth + f64::from(row.n_prompt.unwrap_or(0));
                let answer = row.n_gen.filter(|n| *n > 0).map_or(USUAL_ANSWER, f64::from);
                Work::decode(row.kv_midpoint().unwrap_or(before + answer / 2.0))
            }
            SpeedPhase::Mixed => return Err("prompt and answer under one clock".into()),
        };
        let model = shapes.facts(row)?;
        let key = (row.device_id.clone(), backend == DeviceBackend::Cpu);
        let machine = match index.get(&key) {
            Some(&machine) => machine,
            None => {
                let spec = find(&row.device_id)
                    .ok_or_else(|| format!("device `{}` has no data sheet", row.device_id))?;
                let machine = Machine::new(&spec, backend).map_err(|error| error.to_string())?;
                self.machines.push(machine);
                *index.entry(key).or_insert(self.machines.len() - 1)
            }
        };
        let rounding = row.resolution.map_or(0.0, |step| {
            // A uniform error of one step has the variance step² / 12.
            (step / row.tokens_per_second).powi(2) / 12.0
        });
        Ok(Observation {
            machine,
            setup: Setup {
                engine: row.runtime.clone(),
                backend,
                threads: row.threads,
                flash_attention: row.flash_attn.and_then(|fa| match fa {
                    0 => Some(false),
                    1 => Some(true),
                    _ => None,
                }),
                year: row.source_date.as_deref().and_then(year_of),
                micro_batch,
            },
            model,
            work,
            seconds_per_token: seconds_per_token(row),
            rounding,
            // Guests of one host type are one source: each row is another guest.
            source: if self.machines[machine].is_rented {
                "guests".into()
            } else {
                row.source_url.clone().unwrap_or_default()
            },
            rows: 1,
        })
    }

    /// One observation for each configuration: the median of its rows.
    pub fn medians(&self) -> Vec<Observation> {
        let mut groups: BTreeMap<String, Vec<&Observation>> = BTreeMap::new();
        for observation in &self.observations {
            groups.entry(configuration(observation)).or_default().push(observation);
        }
        let merged = groups.into_values().filter_map(|group| {
            let seconds: Vec<f64> = group.iter().map(|o| o.seconds_per_token).collect();
            let rows = u32::try_from(group.len()).unwrap_or(u32::MAX);
            Some(Observation { seconds_per_token: median(&seconds)?, rows, ..group[0].clone() })
        });
        merged.collect()
    }
}

/// Seconds per token; the engine's own times go before the mean of its speeds.
fn seconds_per_token(row: &SpeedRow) -> f64 {
    let tokens = match row.phase {
        SpeedPhase::Prefill => f64::from(row.n_prompt.unwrap_or(0)),
        _ => 1.0,
    };
    match row.pass_ms() {
        Some(ms) if tokens > 0.0 => ms / 1e3 / tokens,
        _ => 1.0 / row.tokens_per_second,
    }
}

/// What a source tells of a measurement and the model does not know.
fn making(row: &SpeedRow) -> String {
    let options = row.llama_bench.as_deref().map(|details| {
        (&details.type_k, &details.type_v, details.n_batch, &details.split_mode, &details.devices)
    });
    let texts = (&row.runtime_version, &row.source_date, &row.notes, &row.batch);
    format!("{texts:?}|{options:?}")
}

/// All that the model knows of how a measurement was made, and who made it.
pub(crate) fn configuration(o: &Observation) -> String {
    format!(
        "{}|{}|{}|{:?}|{}|{}|{:.0}|{}|{}|{:.1}|{:?}|{:?}|{:?}|{}",
        o.machine,
        o.setup.backend,
        o.setup.engine,
        o.setup.threads,
        o.model.name,
        o.model.quant,
        o.model.step_bytes / 1e6,
        o.work.phase.name(),
        o.work.n_tokens,
        o.work.depth,
        o.setup.flash_attention,
        o.setup.year.map(|year| (year * 12.0).round()),
        o.setup.micro_batch,
        o.source,
    )
}

/// At most `most` observations of each device, backend, engine and phase, spread evenly over their
/// order: one device measured a thousand times must not outweigh a hundred devices.
pub(crate) fn thin(observations: Vec<Observation>, most: usize) -> Vec<Observation> {
    let mut groups: BTreeMap<(usize, DeviceBackend, String, &str), Vec<Observation>> =
        BTreeMap::new();
    for o in observations {
        let key = (o.machine, o.setup.backend, o.setup.engine.clone(), o.work.phase.name());
        groups.entry(key).or_default().push(o);
    }
    let mut kept = Vec::new();
    for group in groups.into_values() {
        let n = group.len();
        let chosen = |i: usize| n <= most || i * most / n != (i + 1) * most / n;
        kept.extend(group.into_iter().enumerate().filter(|(i, _)| chosen(*i)).map(|(_, o)| o));
    }
    kept
}

/// A date such as `2024-05`, `2026`, `2025-11-02` or `2023-11..2025` as a year with its fraction:
/// the middle of what it tells.
pub(crate) fn year_of(text: &str) -> Option<f64> {
    let of_one = |part: &str| {
        let mut numbers = part.trim().split(['-', 'T', ' ']);
        let year: f64 = numbers.next()?.parse().ok()?;
        let month = numbers.next().and_then(|m| m.parse::<f64>().ok());
        let month = month.filter(|m| (1.0..=12.0).contains(m));
        (2000.0..2100.0).contains(&year).then(|| year + month.map_or(0.5, |m| (m - 0.5) / 12.0))
    };
    let years: Vec<f64> = text.split("..").filter_map(of_one).collect();
    (!years.is_empty()).then(|| years.iter().sum::<f64>() / years.len() as f64)
}

#[cfg(test)]
mod tests {
    use foretoken_spec::SpeedKey;

    use super::*;

    fn row(device_id: &str, phase: SpeedPhase, speed: f64) -> SpeedRow {
        let key = SpeedKey {
            runtime: "llama.cpp",
            device_id,
            backend: "cpu",
            model: "m-7b",
            quant: "Q4_0",
        };
        SpeedRow { params_b: Some(7.0), n_depth: Some(0), ..SpeedRow::new(key, phase, speed) }
    }

    fn join(rows: &[SpeedRow]) -> Store {
        let find = |id: &str| foretoken_devices::find(id).ok().cloned();
        Store::join(rows, &find, &ModelShapes::default())
    }

    #[test]
    fn rows_become_times_and_repeats_their_median() {
        let pi = |speed| SpeedRow {
            n_gen: Some(128),
            ..row("raspberry-pi-5-8gb", SpeedPhase::Decode, speed)
        };
        let store = join(&[pi(2.0), pi(4.0), pi(5.0)]);
        assert_eq!((store.machines.len(), store.observations.len()), (1, 3));
        assert_eq!(store.makings.len(), 3);
        let medians = store.medians();
        assert_eq!((medians.len(), medians[0].rows), (1, 3));
        assert!((medians[0].ms() - 250.0).abs() < 1e-9);
        assert_eq!(medians[0].work.depth, 64.0);
    }

    #[test]
    fn what_cannot_be_used_is_counted_by_reason() {
        let good = row("raspberry-pi-5-8gb", SpeedPhase::Prefill, 9.0);
        let small = SpeedRow { n_prompt: Some(4), ..good.clone() };
        let marked = SpeedRow { excluded: Some("broken".into()), ..good.clone() };
        let stranger = SpeedRow { device_id: "nobody-knows".into(), ..good.clone() };
        let nameless = SpeedRow { flags: vec!["runtime_unknown".into()], ..good.clone() };
        let npu = SpeedRow { backend: "npu".into(), ..good.clone() };
        let flagged = |flag: &str| SpeedRow { flags: vec![flag.into()], ..good.clone() };
        let split = ["gpu_layers_limited", "several_gpus", "kv_on_cpu"].map(flagged);
        let mut rows = vec![good, small, marked, stranger, nameless, npu];
        rows.extend(split);
        let store = join(&rows);
        assert_eq!(store.observations.len(), 1);
        assert_eq!(store.left_out.values().sum::<u32>(), 8);
        assert_eq!(store.left_out["several graphics cards share the work"], 1);
        assert!(store.left_out.contains_key("device `nobody-knows` has no data sheet"));
    }

    #[test]
    fn a_crowd_is_thinned_evenly() {
        let many: Vec<SpeedRow> = (1..=10)
            .map(|n| SpeedRow {
                n_prompt: Some(100 * n),
                ..row("raspberry-pi-5-8gb", SpeedPhase::Prefill, 9.0)
            })
            .collect();
        let kept = thin(join(&many).medians(), 5);
        assert_eq!(kept.len(), 5);
    }

    #[test]
    fn dates_are_years() {
        assert_eq!(year_of("2024-07-30"), Some(2024.0 + 6.5 / 12.0));
        assert_eq!(year_of("2025..2026"), Some(2026.0));
        assert_eq!(year_of("2026"), Some(2026.5));
        assert_eq!(year_of("soon"), None);
    }
}
