//! Whether something else had the processors while the loops ran.
//!
//! Linux counts what all processors did (`/proc/stat`) and what this process took of it
//! (`/proc/self/stat`), both in ticks. The rest is of other programs, and stolen time of other
//! guests. Where neither is told, threads that do not scale are all that shows it.

use foretoken_spec::{DetectedMachine, ProbedArithmetic, ProbedContention};

use crate::detect::Tree;

/// A larger share of the processors' time in other programs shows in what is measured.
const MOST_OF_OTHERS: f64 = 0.05;
/// The same of other guests.
const MOST_STOLEN: f64 = 0.02;
/// Arithmetic of all cores over that of one, as a share of what so many equal cores could do: clocks
/// fall under load by some tens of per cent, not by half.
const LEAST_SCALING: f64 = 0.65;

/// Ticks since the machine or the process began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ticks {
    /// All processors, all kinds of time.
    total: f64,
    /// At work, whoever had it; stolen time is not in it.
    busy: f64,
    stolen: f64,
    /// This process at work.
    own: f64,
}

impl Ticks {
    /// Now; `None` where the system does not tell.
    pub(super) fn now(tree: &Tree) -> Option<Self> {
        let all = tree.read("proc/stat")?;
        let own = tree.read("proc/self/stat")?;
        Self::parse(&all, &own)
    }

    fn parse(all: &str, own: &str) -> Option<Self> {
        // `cpu  user nice system idle iowait irq softirq steal guest guest_nice`, guests within
        // user and nice (proc(5)).
        let line = all.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<f64> = line.split_whitespace().map_while(|n| n.parse().ok()).collect();
        let [user, nice, system, idle, iowait, irq, softirq, stolen] = *ticks.first_chunk::<8>()?;
        let busy = user + nice + system + irq + softirq;
        // Fields behind the name, which may hold anything: 14 and 15 of the line are the times.
        let (_, fields) = own.rsplit_once(')')?;
        let field = |n: usize| fields.split_whitespace().nth(n)?.parse::<f64>().ok();
        Some(Self {
            total: busy + idle + iowait + stolen,
            busy,
            stolen,
            own: field(11)? + field(12)?,
        })
    }
}

/// What disturbed the loops between two moments, and whether it shows.
pub(super) fn contention(
    machine: &DetectedMachine,
    before: Option<Ticks>,
    after: Option<Ticks>,
    arithmetic: &[ProbedArithmetic],
) -> ProbedContention {
    let shares = before.zip(after).and_then(|(before, after)| {
        let total = after.total - before.total;
        let others = (after.busy - before.busy) - (after.own - before.own);
        let stolen = after.stolen - before.stolen;
        (total > 0.0).then(|| [others, stolen].map(|ticks| (ticks / total).clamp(0.0, 1.0)))
    });
    let [others_share, stolen_share] = match shares {
        Some(shares) => shares.map(Some),
        None => [None, None],
    };
    let scaling = scaling(machine, arithmetic);
    let is_busy = others_share.is_some_and(|share| share > MOST_OF_OTHERS)
        || stolen_share.is_some_and(|share| share > MOST_STOLEN)
        || scaling.is_some_and(|scaling| scaling < LEAST_SCALING);
    ProbedContention { others_share, stolen_share, scaling, is_busy }
}

/// f32 arithmetic of all physical cores over that of one, per core; `None` where cores differ.
fn scaling(machine: &DetectedMachine, arithmetic: &[ProbedArithmetic]) -> Option<f64> {
    let cores = machine.physical_cores;
    if machine.clusters.len() > 1 || cores < 2 {
        return None;
    }
    let of = |threads| {
        let points = arithmetic.iter().filter(|point| point.number_type == "f32");
        let point = points.clone().find(|point| point.threads == threads)?;
        Some(point.giga_operations_per_second).filter(|rate| *rate > 0.0)
    };
    Some(of(cores)? / of(1)? / f64::from(cores))
}

/// What a reader should know of it.
pub(super) fn warning(contention: &ProbedContention) -> Option<String> {
    if !contention.is_busy {
        return None;
    }
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let mut signs = Vec::new();
    if let Some(share) = contention.others_share.filter(|share| *share > MOST_OF_OTHERS) {
        signs.push(format!("other programs had {} of the processors' time", percent(share)));
    }
    if let Some(share) = contention.stolen_share.filter(|share| *share > MOST_STOLEN) {
        signs.push(format!("other guests had {}", percent(share)));
    }
    if let Some(scaling) = contention.scaling.filter(|scaling| *scaling < LEAST_SCALING) {
        let percent = percent(scaling);
        signs.push(format!("with all cores each did {percent} of what one did alone"));
    }
    Some(format!(
        "the machine was busy or its cores are shared: {}; what was measured is too little: close \
         other programs and probe again",
        signs.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(all: &str, utime: u32) -> Option<Ticks> {
        let own = format!("77 (a ) b) R 1 2 3 4 5 6 7 8 9 10 {utime} 5 0 0 20 0");
        Ticks::parse(all, &own)
    }

    fn point(threads: u32, rate: f64) -> ProbedArithmetic {
        ProbedArithmetic {
            number_type: "f32".into(),
            instruction: "fma".into(),
            threads,
            giga_operations_per_second: rate,
        }
    }

    fn cores(physical_cores: u32) -> DetectedMachine {
        DetectedMachine { physical_cores, ..DetectedMachine::default() }
    }

    #[test]
    fn what_others_had_is_the_rest() {
        let before = ticks("cpu  100 0 10 500 0 0 0 0 0 0\ncpu0 1 2\n", 50);
        // 400 ticks: 300 busy, of which 60 are ours, 20 stolen, 80 idle.
        let after = ticks("cpu  380 0 25 570 10 3 2 20 0 0\n", 110);
        let found = contention(&cores(2), before, after, &[point(1, 36.6), point(2, 70.0)]);
        assert!((found.others_share.unwrap() - 0.6).abs() < 1e-12, "{found:?}");
        assert!((found.stolen_share.unwrap() - 0.05).abs() < 1e-12);
        assert!(found.is_busy);
        let warning = warning(&found).unwrap();
        assert!(warning.contains("other programs had 60 %") && warning.contains("guests had 5 %"));
        assert!(!warning.contains("each did"), "{warning}");
    }

    #[test]
    fn a_quiet_machine_is_not_doubted() {
        let before = ticks("cpu  100 0 10 500 0 0 0 0 0 0\n", 50);
        let after = ticks("cpu  290 0 20 700 0 0 0 0 0 0\n", 245);
        let found = contention(&cores(2), before, after, &[point(1, 36.6), point(2, 70.0)]);
        assert!(!found.is_busy && warning(&found).is_none(), "{found:?}");
    }

    #[test]
    fn cores_that_do_not_scale_are_doubted() {
        // 36.6 to 39.3 GFLOP/s from one to two threads at a load of 8.9.
        let found = contention(&cores(2), None, None, &[point(1, 36.6), point(2, 39.3)]);
        assert_eq!((found.others_share, found.is_busy), (None, true));
        assert!((found.scaling.unwrap() - 39.3 / 73.2).abs() < 1e-12);
        assert!(warning(&found).unwrap().contains("each did 54 %"));
        // One core, or cores of two sizes, say nothing.
        assert_eq!(contention(&cores(1), None, None, &[point(1, 9.0)]).scaling, None);
        let mut hybrid = crate::detect::tests::machine("i7-1260p");
        hybrid.physical_cores = 2;
        assert_eq!(contention(&hybrid, None, None, &[point(1, 9.0), point(2, 9.0)]).scaling, None);
    }

    #[test]
    fn what_is_no_account_of_time_is_none() {
        assert_eq!(ticks("intr 1 2 3", 5), None);
        assert_eq!(ticks("cpu  1 2 3", 5), None);
        assert_eq!(Ticks::parse("cpu  1 2 3 4 5 6 7 8", "77 (name"), None);
    }
}
