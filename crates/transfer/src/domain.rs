//! One mixed model: all measurements of one phase on one kind of processor.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_spec::Phase;
use foretoken_stats::{SplitMix64, quantile};
use ndarray::Array1;

use crate::kernel::Effects;
use crate::linalg::NotPositive;
use crate::machine::{Machine, Processor};
use crate::process::{Conditional, leave_groups_out};
use crate::rows::Observation;
use crate::task::{Point, tag};

/// Nominal coverage of the intervals.
pub const INTERVAL_LEVEL: f64 = 0.9;
/// Standard deviations of a normal distribution on either side that hold 90 %.
pub(crate) const NORMAL_90: f64 = 1.6449;
/// Parts that the devices are split into to choose sizes of effects without some of them.
pub(crate) const N_FOLDS: usize = 4;
/// Rows of a group that its intervals are judged by, at most.
const MOST_MISSES: usize = 8;

/// Points with what was observed there, grouped by device and its twins.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub points: Vec<Point>,
    /// ln(observed seconds ÷ floor).
    pub values: Array1<f64>,
    /// Index of the machine of each point.
    pub machines: Vec<usize>,
    /// Rows by group: a device and its twins.
    pub groups: Vec<Vec<usize>>,
}

impl Sample {
    pub fn new(observations: &[&Observation], machines: &[Machine]) -> Self {
        let points: Vec<Point> = observations.iter().map(|o| o.point(machines)).collect();
        let logarithm = |(o, p): (&&Observation, &Point)| (o.seconds_per_token / p.floor).ln();
        let values = observations.iter().zip(&points).map(logarithm).collect();
        let machine_of: Vec<usize> = observations.iter().map(|o| o.machine).collect();
        let kin = kin(machines);
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let families: BTreeSet<usize> = machine_of.iter().map(|&m| kin[m]).collect();
        for family in families {
            let members = (0..points.len()).filter(|&i| kin[machine_of[i]] == family);
            groups.push(members.collect());
        }
        Self { points, values, machines: machine_of, groups }
    }

    /// All groups, each given the rows of the others.
    pub fn left_out(&self, effects: &Effects) -> Result<Vec<Conditional>, NotPositive> {
        let points: Vec<&Point> = self.points.iter().collect();
        leave_groups_out(effects.matrix(&points), &self.values, &self.groups)
    }

    /// The rows of some groups.
    pub fn only(&self, keep: impl Fn(usize) -> bool) -> Self {
        let kept: Vec<usize> = (0..self.groups.len()).filter(|&g| keep(g)).collect();
        let rows: Vec<usize> = kept.iter().flat_map(|&g| self.groups[g].iter().copied()).collect();
        let mut start = 0;
        let mut groups = Vec::new();
        for &g in &kept {
            groups.push((start..start + self.groups[g].len()).collect());
            start += self.groups[g].len();
        }
        Self {
            points: rows.iter().map(|&i| self.points[i].clone()).collect(),
            values: rows.iter().map(|&i| self.values[i]).collect(),
            machines: rows.iter().map(|&i| self.machines[i]).collect(),
            groups,
        }
    }

    /// Which of the parts each group is in: by the hash of the first device's name, so that a
    /// device that is added later moves no other.
    pub fn folds(&self, machines: &[Machine]) -> Vec<usize> {
        let name = |group: &Vec<usize>| {
            let names = group.iter().map(|&i| machines[self.machines[i]].id.as_str());
            tag(names.min().unwrap_or_default())
        };
        self.groups.iter().map(|g| (name(g) % 1009) as usize % N_FOLDS).collect()
    }
}

/// For each machine the first that is its twin, or the twin of a twin.
pub(crate) fn kin(machines: &[Machine]) -> Vec<usize> {
    let mut first: Vec<usize> = (0..machines.len()).collect();
    for i in 0..machines.len() {
        for j in 0..i {
            let is_kin = machines[i].is_twin(&machines[j]) || machines[i].id == machines[j].id;
            if is_kin && first[i] != first[j] {
                let (low, high) = (first[i].min(first[j]), first[i].max(first[j]));
                first.iter_mut().filter(|f| **f == high).for_each(|f| *f = low);
            }
        }
    }
    first
}

/// Whether an observation belongs to a processor and a phase.
pub(crate) fn belongs(
    o: &Observation,
    machines: &[Machine],
    processor: Processor,
    phase: Phase,
) -> bool {
    machines[o.machine].processor == processor && o.work.phase == phase
}

/// Positions in `rows` of what was measured on one machine with one backend and engine: rows of it
/// say more than those of a twin.
fn by_setup(sample: &Sample, rows: &[usize]) -> Vec<Vec<usize>> {
    let mut setups: BTreeMap<(usize, u64, u64), Vec<usize>> = BTreeMap::new();
    for (i, &row) in rows.iter().enumerate() {
        let tags = &sample.points[row].tags;
        setups.entry((sample.machines[row], tags.backend, tags.engine)).or_default().push(i);
    }
    setups.into_values().collect()
}

/// How much wider than its normal distribution says a prediction has to be for 90 % of the rows to
/// lie inside, each device counting about the same.
///
/// `given` rows of each device, backend and engine are known to it, and none of its twins: 0 judges
/// predictions from the data sheet alone.
pub(crate) fn interval_scale(
    sample: &Sample,
    left_out: &[Conditional],
    given: usize,
) -> Result<f64, NotPositive> {
    let mut misses = Vec::new();
    for (index, group) in left_out.iter().enumerate() {
        let setups = match given {
            0 => vec![(0..group.rows.len()).collect()],
            _ => by_setup(sample, &group.rows),
        };
        for mut order in setups {
            if order.len() <= given {
                continue;
            }
            SplitMix64::new(index as u64).shuffle(&mut order);
            let judged: Vec<usize> = order[given..].iter().map(|&i| group.rows[i]).collect();
            let group = group.given(&order[..given], &sample.values)?;
            let hidden = group.rows.iter().enumerate().filter(|(_, row)| judged.contains(row));
            // A device of many rows is represented by some of them.
            for (i, &row) in hidden.take(MOST_MISSES) {
                let deviation = group.covariance[[i, i]].max(1e-12).sqrt();
                misses.push((sample.values[row] - group.mean[i]).abs() / deviation / NORMAL_90);
            }
        }
    }
    Ok(quantile(&misses, INTERVAL_LEVEL).unwrap_or(1.5).clamp(0.5, 4.0))
}
