//! Which load to measure next.

use std::collections::BTreeMap;

use foretoken_cost::{EngineProfile, KernelClass, OpCost, pass_cost};
use foretoken_spec::{ModelSpec, Pass, QuantScheme, Workload};
use foretoken_stats::SplitMix64;

use crate::information::{Gradient, Information, gradient, relative, variance};
use crate::{MiniPlan, TargetPass, mini_models, targets};

/// Scatter of one kernel between fresh loads, relative.
const SCATTER: f64 = 0.06;
/// What a linear form misses at least, relative, whatever its residuals say.
const LEAST_LACK_OF_FIT: f64 = 0.02;
/// Assumed until residuals are known.
const UNKNOWN_LACK_OF_FIT: f64 = 0.04;
/// Candidates that promise this share of the best are drawn by chance, so that what is measured
/// late is not always of one kind.
const NEARLY_AS_GOOD: f64 = 0.7;

/// What one load may measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// A mini-model with some of its workloads.
    pub mini: MiniPlan,
    /// The operations of each of its passes, with the workload that they belong to.
    passes: Vec<(Workload, Vec<OpCost>)>,
}

/// What is known while a calibration runs.
pub struct State<'a> {
    /// Loads done of each model and workload.
    pub loads: &'a BTreeMap<(String, Workload), u32>,
    /// Expected seconds of an operation, all its calls together.
    pub seconds: &'a dyn Fn(&OpCost) -> f64,
    /// Relative residual of each fitted class.
    pub residuals: &'a BTreeMap<KernelClass, f64>,
    /// Expected wall seconds of measuring a candidate.
    pub cost: &'a dyn Fn(&Candidate) -> f64,
    /// Seconds that are left.
    pub left: f64,
}

/// The load to measure next, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// What to measure.
    pub candidate: Candidate,
    /// Expected relative error of the targets before, from the covariance of the coefficients.
    pub error_before: f64,
    /// And after.
    pub error_after: f64,
    /// The class whose uncertainty falls most.
    pub class: KernelClass,
}

/// Everything that a calibration may measure, and what it aims at.
#[derive(Debug, Clone)]
pub struct Design {
    candidates: Vec<Candidate>,
    targets: Vec<TargetPass>,
}

impl Design {
    /// The mini-models for these schemes on this engine and last-level cache that `fits` accepts.
    pub fn new(
        schemes: &[QuantScheme],
        engine: &EngineProfile,
        cache_bytes: Option<u64>,
        fits: &dyn Fn(&MiniPlan) -> bool,
    ) -> Self {
        let candidates = mini_models(schemes, engine, cache_bytes)
            .into_iter()
            .filter(fits)
            .flat_map(|mini| parts(&mini))
            .map(|mini| Candidate { passes: passes(&mini, engine), mini })
            .collect();
        Self { candidates, targets: targets(schemes, engine) }
    }

    /// Everything that may be measured.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The classes that the targets need and some candidate has.
    pub fn classes(&self) -> Vec<KernelClass> {
        let mut classes: Vec<KernelClass> =
            self.targets.iter().flat_map(|t| &t.ops).map(|op| op.class).collect();
        classes.sort_unstable();
        classes.dedup();
        classes.retain(|class| self.rows().any(|op| op.class == *class));
        classes
    }

    /// The affordable candidate that lowers the expected variance of the targets most per second,
    /// or one nearly as good by chance.
    pub fn choose(&self, state: &State<'_>, draw: &mut SplitMix64) -> Option<Choice> {
        let information = self.known(state);
        let (before, by_class) = information.expected_variance();
        let mut scored: Vec<(f64, &Candidate, f64, KernelClass)> = self
            .candidates
            .iter()
            .filter_map(|candidate| {
                let cost = (state.cost)(candidate);
                if cost > state.left || cost <= 0.0 {
                    return None;
                }
                let mut then = information.clone();
                add(&mut then, candidate, state, |loads| (loads, loads + 1));
                let (after, after_by_class) = then.expected_variance();
                let drop = |class: &KernelClass| by_class[class] - after_by_class[class];
                let most = by_class.keys().max_by(|a, b| drop(a).total_cmp(&drop(b)))?;
                Some(((before - after) / cost, candidate, after, *most))
            })
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        let best = scored.first()?.0;
        let n_good = scored.iter().take_while(|s| s.0 >= NEARLY_AS_GOOD * best).count();
        let (_, candidate, after, class) = scored.swap_remove(draw.below(n_good));
        Some(Choice {
            candidate: candidate.clone(),
            error_before: before.sqrt(),
            error_after: after.max(0.0).sqrt(),
            class,
        })
    }

    /// What the loads done so far say.
    fn known(&self, state: &State<'_>) -> Information {
        let gradients: Vec<(Gradient, f64)> =
            self.targets.iter().map(|t| (gradient(&t.ops, state.seconds), t.weight)).collect();
        let mut information = Information::new(&gradients, &self.typical(state));
        let mut seen: Vec<(&str, Workload)> = Vec::new();
        for candidate in &self.candidates {
            for (workload, ops) in &candidate.passes {
                let key = (candidate.mini.model.name.as_str(), *workload);
                // Parts of one model share workloads: each counts once.
                let first_pass = !seen.contains(&key);
                let loads = loads_of(state, candidate, workload);
                if loads > 0 && first_pass {
                    add_rows(&mut information, ops, state, (0, loads));
                }
            }
            seen.extend(
                candidate.passes.iter().map(|(w, _)| (candidate.mini.model.name.as_str(), *w)),
            );
        }
        information
    }

    /// Root mean square of the relative rows of each class.
    fn typical(&self, state: &State<'_>) -> BTreeMap<KernelClass, Vec<f64>> {
        let mut sums: BTreeMap<KernelClass, (Vec<f64>, f64)> = BTreeMap::new();
        for op in self.rows() {
            let row = relative(op, (state.seconds)(op));
            let (sum, n) = sums.entry(op.class).or_insert_with(|| (vec![0.0; row.len()], 0.0));
            sum.iter_mut().zip(&row).for_each(|(s, x)| *s += x * x);
            *n += 1.0;
        }
        let root = |(sum, n): (Vec<f64>, f64)| sum.iter().map(|s| (s / n).sqrt()).collect();
        sums.into_iter().map(|(class, sum)| (class, root(sum))).collect()
    }

    fn rows(&self) -> impl Iterator<Item = &OpCost> {
        self.candidates.iter().flat_map(|c| &c.passes).flat_map(|(_, ops)| ops)
    }
}

/// The ways to measure a mini-model: everything, or its cheaper and its dearer workloads alone.
fn parts(mini: &MiniPlan) -> Vec<MiniPlan> {
    let of = |keep: &dyn Fn(&Workload) -> bool| MiniPlan {
        workloads: mini.workloads.iter().copied().filter(|w| keep(w)).collect(),
        ..mini.clone()
    };
    let mut parts = vec![mini.clone()];
    let short = of(&|w| w.total_tokens() <= 256);
    if short.workloads.len() < mini.workloads.len() && !short.workloads.is_empty() {
        parts.push(short);
        let long = mini.workloads.iter().filter(|w| w.total_tokens() > 256);
        parts.extend(long.map(|w| MiniPlan { workloads: vec![*w], ..mini.clone() }));
    }
    parts
}

fn passes(mini: &MiniPlan, engine: &EngineProfile) -> Vec<(Workload, Vec<OpCost>)> {
    let of = |workload: &Workload| {
        [workload.prefill(), workload.decode_midpoint()]
            .into_iter()
            .flatten()
            .map(|pass| (*workload, ops(&mini.model, engine, pass)))
            .collect::<Vec<_>>()
    };
    mini.workloads.iter().flat_map(of).collect()
}

fn ops(model: &ModelSpec, engine: &EngineProfile, pass: Pass) -> Vec<OpCost> {
    pass_cost(model, engine, pass).ops
}

fn loads_of(state: &State<'_>, candidate: &Candidate, workload: &Workload) -> u32 {
    let key = (candidate.mini.model.name.clone(), *workload);
    state.loads.get(&key).copied().unwrap_or(0)
}

/// Adds the rows of a candidate as its loads go from one number to another.
fn add(
    information: &mut Information,
    candidate: &Candidate,
    state: &State<'_>,
    loads: impl Fn(u32) -> (u32, u32),
) {
    for (workload, ops) in &candidate.passes {
        add_rows(information, ops, state, loads(loads_of(state, candidate, workload)));
    }
}

fn add_rows(
    information: &mut Information,
    ops: &[OpCost],
    state: &State<'_>,
    (from, to): (u32, u32),
) {
    for op in ops {
        let lack = state.residuals.get(&op.class).copied().unwrap_or(UNKNOWN_LACK_OF_FIT);
        let lack = lack.max(LEAST_LACK_OF_FIT);
        let weight = |loads: u32| match loads {
            0 => 0.0,
            _ => 1.0 / variance(lack, SCATTER, loads),
        };
        let seconds = (state.seconds)(op);
        information.add(&op.class, &relative(op, seconds), weight(to) - weight(from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretoken_cost::{Isa, X86Level};

    const ENGINE: EngineProfile =
        EngineProfile::candle_on(Isa::X86 { level: X86Level::Avx512Vnni, amx: false });

    fn roofline(op: &OpCost) -> f64 {
        (op.flop as f64 / 1e12).max(op.bytes as f64 / 5e10).max(1e-6 * f64::from(op.calls))
    }

    /// Chooses until nothing is affordable; seconds are the roofline's, times 20.
    fn run(budget: f64) -> Vec<Choice> {
        let schemes = [QuantScheme::Q4_K_M, QuantScheme::Q8_0, QuantScheme::F16];
        let design = Design::new(&schemes, &ENGINE, Some(32 << 20), &|_| true);
        let cost = |c: &Candidate| {
            1.0 + 20.0 * c.passes.iter().flat_map(|(_, ops)| ops).map(roofline).sum::<f64>()
        };
        let mut loads = BTreeMap::new();
        let mut left = budget;
        let mut draw = SplitMix64::new(1);
        let mut choices = Vec::new();
        let residuals = BTreeMap::new();
        loop {
            let state = State {
                loads: &loads,
                seconds: &roofline,
                residuals: &residuals,
                cost: &cost,
                left,
            };
            let Some(choice) = design.choose(&state, &mut draw) else { return choices };
            left -= cost(&choice.candidate);
            for workload in &choice.candidate.mini.workloads {
                *loads.entry((choice.candidate.mini.model.name.clone(), *workload)).or_default() +=
                    1;
            }
            choices.push(choice);
        }
    }

    #[test]
    fn every_load_lowers_the_expected_error() {
        let choices = run(60.0);
        assert!(choices.len() > 8);
        for pair in choices.windows(2) {
            assert!(pair[0].error_after < pair[0].error_before, "{:?}", pair[0].class);
            assert!((pair[1].error_before / pair[0].error_after - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn a_longer_budget_buys_other_shapes_and_less_error() {
        let short = run(30.0);
        let long = run(240.0);
        let (after_long, after_short) =
            (long.last().unwrap().error_after, short.last().unwrap().error_after);
        assert!(after_long < 0.8 * after_short, "{after_long} {after_short}");
        let mut shapes: Vec<&str> =
            long.iter().map(|c| c.candidate.mini.model.family.as_str()).collect();
        shapes.sort_unstable();
        shapes.dedup();
        assert!(shapes.len() >= 6, "{shapes:?}");
    }

    #[test]
    fn every_class_that_is_aimed_at_is_bought() {
        let design = Design::new(&[QuantScheme::Q4_K_M], &ENGINE, Some(32 << 20), &|_| true);
        assert!(design.classes().iter().any(|c| c.key() == "matmul.q4_k.tiled.many_rows"));
        let bought: Vec<KernelClass> = run(240.0)
            .iter()
            .flat_map(|c| c.candidate.passes.clone())
            .flat_map(|(_, ops)| ops)
            .map(|op| op.class)
            .collect();
        for class in design.classes() {
            assert!(bought.contains(&class), "{}", class.key());
        }
    }

    #[test]
    fn nothing_is_chosen_that_does_not_fit() {
        let none = Design::new(&[QuantScheme::Q4_K_M], &ENGINE, None, &|_| false);
        assert!(none.candidates().is_empty());
        assert!(run(0.5).is_empty());
    }
}
