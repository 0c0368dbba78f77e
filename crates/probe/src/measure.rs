//! Plain loops that show what the machine achieves, in seconds.

mod arithmetic;
mod bandwidth;
mod contention;
mod overhead;
mod rounds;
mod storage;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use foretoken_spec::{DetectedMachine, Probed};

use self::contention::{Ticks, contention};
use crate::detect::Tree;

/// What to measure, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasurePlan {
    /// Most threads; the numbers below it are powers of two and the physical cores.
    pub threads: u32,
    /// Time of one point of a loop; each is run twice and the faster counts.
    pub point: Duration,
    /// Folder whose storage is read; `None` leaves storage out.
    pub storage: Option<PathBuf>,
    /// Most bytes of the file that is written and read there.
    pub storage_bytes: u64,
    /// Most bytes of the buffers that are read to measure main memory.
    pub memory_bytes: u64,
}

impl MeasurePlan {
    /// The plan of the command: below 15 s on machines of up to some hundred cores.
    pub fn usual(machine: &DetectedMachine) -> Self {
        Self {
            threads: machine.logical_cores.max(1),
            point: Duration::from_millis(60),
            storage: Some(PathBuf::from(".")),
            storage_bytes: 256 << 20,
            // The caller knows what of it is free.
            memory_bytes: machine.memory_bytes.map_or(1 << 30, |bytes| bytes / 4),
        }
    }

    /// One, the powers of two, the physical cores, and the most.
    pub(crate) fn thread_counts(&self, physical_cores: u32) -> Vec<u32> {
        let mut counts: Vec<u32> =
            (0..16).map(|power| 1u32 << power).take_while(|n| *n < self.threads).collect();
        counts.push(self.threads.max(1));
        if (1..self.threads).contains(&physical_cores) {
            counts.push(physical_cores);
        }
        counts.sort_unstable();
        counts.dedup();
        counts
    }
}

/// What runs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading by cache level.
    Bandwidth,
    /// Multiply-adds.
    Arithmetic,
    /// Starting and waking threads.
    Overhead,
    /// Reading of a file.
    Storage,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bandwidth => "reading caches and memory",
            Self::Arithmetic => "arithmetic",
            Self::Overhead => "threads",
            Self::Storage => "storage",
        })
    }
}

/// Runs all loops; `begin` is told each stage. Answers what was measured, and what was not, with
/// the reason.
pub fn measure(
    machine: &DetectedMachine,
    plan: &MeasurePlan,
    mut begin: impl FnMut(Stage),
) -> (Probed, Vec<String>) {
    let start = Instant::now();
    let mut warnings = Vec::new();
    let counts = plan.thread_counts(machine.physical_cores);
    let root = Tree::at(Path::new("/"));
    let before = Ticks::now(&root);
    begin(Stage::Bandwidth);
    let bandwidth = bandwidth::measure(machine, plan, &counts);
    begin(Stage::Arithmetic);
    let arithmetic = arithmetic::measure(plan, machine.physical_cores);
    let contention = contention(machine, before, Ticks::now(&root), &arithmetic);
    warnings.extend(contention::warning(&contention));
    warnings.extend(bandwidth::warning(machine, plan));
    begin(Stage::Overhead);
    let overhead = overhead::measure(plan.threads);
    let storage = plan.storage.as_ref().and_then(|folder| {
        begin(Stage::Storage);
        match storage::measure(folder, plan.storage_bytes) {
            Ok(storage) => Some(storage),
            Err(error) => {
                let folder = folder.display();
                warnings.push(format!("storage was not measured: a file in {folder}: {error}"));
                None
            }
        }
    });
    if storage.as_ref().is_some_and(|storage| storage.may_be_cached) {
        warnings.push(
            "the storage's speed may be that of memory: the file could not be kept out of the \
             system's cache"
                .into(),
        );
    }
    let seconds = start.elapsed().as_secs_f64();
    let contention = Some(contention);
    (Probed { seconds, bandwidth, arithmetic, overhead, storage, contention }, warnings)
}

/// A rate as it is written: 4 significant digits.
fn rounded(value: f64) -> f64 {
    foretoken_devices::derive::rounded(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> (DetectedMachine, MeasurePlan) {
        let machine =
            DetectedMachine { physical_cores: 2, logical_cores: 2, ..DetectedMachine::default() };
        let plan = MeasurePlan {
            point: Duration::from_millis(1),
            storage_bytes: 1 << 20,
            memory_bytes: 8 << 20,
            storage: None,
            ..MeasurePlan::usual(&machine)
        };
        (machine, plan)
    }

    #[test]
    fn every_part_answers_without_knowing_the_machine() {
        let (machine, mut plan) = tiny();
        let folder = tempfile::tempdir().unwrap();
        plan.storage = Some(folder.path().into());
        let mut stages = Vec::new();
        let (probed, _) = measure(&machine, &plan, |stage| stages.push(stage));
        let all = [Stage::Bandwidth, Stage::Arithmetic, Stage::Overhead, Stage::Storage];
        assert_eq!(stages, all);
        assert!(probed.bandwidth.iter().any(|point| point.level == "DRAM"));
        assert!(probed.bandwidth.iter().all(|point| point.read_gbps > 0.0));
        let f32_points = probed.arithmetic.iter().filter(|point| point.number_type == "f32");
        assert!(f32_points.clone().count() == 2);
        assert!(probed.arithmetic.iter().all(|point| point.giga_operations_per_second > 0.0));
        assert!(probed.overhead.spawn_us > 0.0 && probed.overhead.wake_us > 0.0);
        assert!(probed.storage.is_some_and(|storage| storage.read_mbps > 0.0));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_warning() {
        let (machine, mut plan) = tiny();
        plan.storage = Some("/absent/folder".into());
        let (probed, warnings) = measure(&machine, &plan, |_| {});
        assert_eq!(probed.storage, None);
        // Others may be busy, and little memory is read here.
        let of_storage = warnings.iter().find(|warning| warning.contains("storage"));
        assert!(of_storage.unwrap().contains("/absent/folder"), "{warnings:?}");
        assert!(probed.contention.is_some());
    }

    #[test]
    fn numbers_of_threads_are_powers_of_two_the_cores_and_the_most() {
        let plan = |threads| MeasurePlan { threads, ..tiny().1 };
        assert_eq!(plan(1).thread_counts(1), [1]);
        assert_eq!(plan(12).thread_counts(6), [1, 2, 4, 6, 8, 12]);
        assert_eq!(plan(8).thread_counts(0), [1, 2, 4, 8]);
    }
}
