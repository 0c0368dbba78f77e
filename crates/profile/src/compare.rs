//! A profile over an older one: what became slower, and whether that is more than noise.

use std::collections::BTreeMap;

use foretoken_spec::{
    ComparisonRow, KernelOp, KernelRow, KernelSource, Phase, PhaseRow, ProfileComparison,
    ProfilePhase, ProfileReport, TensorRole,
};
use foretoken_stats::{SplitMix64, median, quantile};

/// What fresh loads of the same model differ by (`docs/measurement-protocol.md`): the noise is
/// never taken as smaller.
const LOAD_NOISE: f64 = 0.02;
/// What times of two runs differ by that a microbenchmark divided: each has its own shares, whose
/// error is the same in all samples of a run, so that no interval shows it.
const DIVISION_NOISE: f64 = 0.10;
/// Phases and kernels below this share of the wall time in both runs are left out: their ratios
/// say more of the clock than of the program, and no build should fail by them.
const SMALLEST_SHARE: f64 = 0.001;
/// Kernels below this share of their pass are shown, and fail nothing.
const SMALLEST_OF_PASS: f64 = 0.01;
/// Passes that are enough to leave those out in which other programs had the processor.
const ENOUGH_QUIET: usize = 5;
const RESAMPLES: usize = 2000;
const SEED: u64 = 0x666F_7265_746F_6B65;
/// Names in a warning of what could not be compared.
const MOST_NAMES: usize = 4;

/// Why two profiles cannot be compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// No phase and no kernel has times in both.
    #[error(
        "the profiles of {old_time} and of {new_time} have no times of the same phase or kernel; \
         profile again to have an older run to compare with"
    )]
    NothingShared {
        /// Time of the older run.
        old_time: String,
        /// Time of the newer run.
        new_time: String,
    },
    /// A limit that no slowdown can be held against.
    #[error("cannot fail above {0}: give a fraction of 0 or more, such as 0.05")]
    InvalidThreshold(f64),
}

/// Compares two runs row by row: phases, then kernels summed over the layers.
///
/// A row has the medians of one call of the phase, or of one probed pass of the kernel, and the
/// 95 % interval of their ratio by the percentile bootstrap. Kernels that are a phase by
/// themselves are not repeated, and what takes less than a thousandth of both runs is left out.
///
/// `fail_above` is a fraction: at 0.1 a row fails that is beyond noise and more than 10 % slower.
pub fn compare(
    old: &ProfileReport,
    new: &ProfileReport,
    fail_above: Option<f64>,
) -> Result<ProfileComparison, CompareError> {
    if let Some(limit) = fail_above.filter(|limit| !(limit.is_finite() && *limit >= 0.0)) {
        return Err(CompareError::InvalidThreshold(limit));
    }
    let mut warnings = differences(old, new);
    // With other threads the reference workload has other speeds: that is no drift.
    let comparable = old.threads == new.threads;
    let drift = |old, new, part, warnings: &mut Vec<String>| {
        if comparable { drift(old, new, part, warnings) } else { 1.0 }
    };
    let stream_drift = drift(
        old.ceilings.stream_bytes_per_second,
        new.ceilings.stream_bytes_per_second,
        "memory",
        &mut warnings,
    );
    let matmul_drift = drift(
        old.ceilings.matmul_flop_per_second,
        new.ceilings.matmul_flop_per_second,
        "arithmetic",
        &mut warnings,
    );
    let noise = change(stream_drift).max(change(matmul_drift)).max(LOAD_NOISE);

    let (old_items, new_items) = (items(old), items(new));
    let mut rows = Vec::new();
    let mut missing = [Vec::new(), Vec::new()];
    for (key, item) in &new_items {
        let before = old_items.get(key);
        let share = before.map_or(0.0, |b| b.share).max(item.share);
        if share < SMALLEST_SHARE {
            continue;
        }
        match before.and_then(|before| row(*key, before, item, noise)) {
            Some(row) => rows.push((item.ms, row)),
            None => missing[usize::from(typical(item).is_none())].push(name(*key)),
        }
    }
    for (key, item) in &old_items {
        if item.share >= SMALLEST_SHARE && !new_items.contains_key(key) {
            missing[1].push(name(*key));
        }
    }
    // A run that was stopped before its prompt was done shares its loading at most.
    let ran = |report: &ProfileReport| report.prompt_tokens > 0 || !report.tokens.is_empty();
    if rows.is_empty() || ran(old) != ran(new) {
        return Err(CompareError::NothingShared {
            old_time: old.time.clone(),
            new_time: new.time.clone(),
        });
    }
    for (names, which) in missing.iter().zip(["older", "newer"]) {
        warnings.extend(absent(names, which));
    }
    // Stable: phases keep the order of the enum, kernels of equal time that of their names.
    rows.sort_by(|(a_ms, a), (b_ms, b)| match (a.op, b.op) {
        (None, None) => a.phase.cmp(&b.phase),
        (Some(_), Some(_)) => b_ms.total_cmp(a_ms),
        (a, b) => a.is_some().cmp(&b.is_some()),
    });
    let rows: Vec<ComparisonRow> = rows.into_iter().map(|(_, row)| row).collect();
    let failed = fail_above.is_some_and(|limit| {
        rows.iter().any(|r| r.beyond_noise && r.ratio - 1.0 > limit && weighs(r, &new_items))
    });
    Ok(ProfileComparison {
        old_time: old.time.clone(),
        new_time: new.time.clone(),
        stream_drift,
        matmul_drift,
        noise,
        rows,
        fail_above,
        failed,
        warnings,
    })
}

/// Whether a row weighs enough to fail a build: a phase always, a kernel from a hundredth of its
/// pass on.
fn weighs(row: &ComparisonRow, items: &BTreeMap<Key, Item>) -> bool {
    let pass = items.get(&(row.phase, None, None)).and_then(typical);
    row.op.is_none() || pass.is_none_or(|pass| row.new_ms >= SMALLEST_OF_PASS * pass)
}

type Key = (ProfilePhase, Option<KernelOp>, Option<TensorRole>);

/// A phase, or a kernel over all layers.
struct Item {
    ms: f64,
    share: f64,
    samples_ms: Vec<f64>,
    /// Whether a microbenchmark divided it.
    divided: bool,
}

fn items(report: &ProfileReport) -> BTreeMap<Key, Item> {
    let share = |ms: f64| if report.wall_ms > 0.0 { ms / report.wall_ms } else { 1.0 };
    let mut items = BTreeMap::new();
    for PhaseRow { phase, ms, samples_ms, .. } in &report.phases {
        // A run has one pass over the prompt; more of them came after it.
        let more: &[f64] =
            if *phase == ProfilePhase::Prefill { &report.prompt_repeats_ms } else { &[] };
        let samples_ms: Vec<f64> = quiet(report, *phase, samples_ms)
            .into_iter()
            .chain(more.iter().copied())
            .filter(|ms| ms.is_finite())
            .collect();
        items.insert(
            (*phase, None, None),
            Item { ms: *ms, share: share(*ms), samples_ms, divided: false },
        );
    }
    for KernelRow { phase, op, role, ms, samples_ms, source, .. } in &report.kernels {
        let divided = *source == KernelSource::Microbenchmark;
        // `load`, `softmax` and their like are phases already.
        if !phase.is_sum() {
            continue;
        }
        items
            .entry((*phase, Some(*op), *role))
            .and_modify(|item: &mut Item| {
                item.ms += ms;
                item.share = share(item.ms);
                item.divided |= divided;
                // Only a broken file has layers with unequal numbers of passes.
                item.samples_ms.truncate(samples_ms.len());
                for (sum, ms) in item.samples_ms.iter_mut().zip(samples_ms) {
                    *sum += ms;
                }
            })
            .or_insert_with(|| Item {
                ms: *ms,
                share: share(*ms),
                samples_ms: samples_ms.clone(),
                divided,
            });
    }
    for ((phase, op, _), item) in &mut items {
        if op.is_some() {
            item.samples_ms = quiet(report, *phase, &item.samples_ms);
        }
        item.samples_ms.retain(|ms| ms.is_finite());
    }
    items
}

/// The samples of decode steps without those in which other programs had the processor, where
/// enough others remain.
fn quiet(report: &ProfileReport, phase: ProfilePhase, samples_ms: &[f64]) -> Vec<f64> {
    if phase != ProfilePhase::Decode {
        return samples_ms.to_vec();
    }
    let steps = || report.tokens.iter().filter(|token| token.phase == Phase::Decode);
    // A phase has a sample of each step, a kernel of each probed one.
    let all: Vec<bool> = steps().map(|token| token.preempted).collect();
    let probed: Vec<bool> = steps().filter(|t| t.probed).map(|token| token.preempted).collect();
    let flags = [all, probed].into_iter().find(|flags| flags.len() == samples_ms.len());
    let Some(flags) = flags else { return samples_ms.to_vec() };
    let kept: Vec<f64> =
        samples_ms.iter().zip(&flags).filter(|(_, taken)| !**taken).map(|(ms, _)| *ms).collect();
    if kept.len() >= ENOUGH_QUIET { kept } else { samples_ms.to_vec() }
}

/// The median, where a ratio to it has a meaning.
fn typical(item: &Item) -> Option<f64> {
    median(&item.samples_ms).filter(|ms| *ms > 0.0)
}

fn row((phase, op, role): Key, old: &Item, new: &Item, noise: f64) -> Option<ComparisonRow> {
    let (old_ms, new_ms) = (typical(old)?, typical(new)?);
    let interval = ratio_interval(&old.samples_ms, &new.samples_ms);
    let noise = if old.divided || new.divided { noise.max(DIVISION_NOISE) } else { noise };
    Some(ComparisonRow {
        phase,
        op,
        role,
        old_ms,
        new_ms,
        ratio: new_ms / old_ms,
        lower: interval.map(|(lower, _)| lower),
        upper: interval.map(|(_, upper)| upper),
        beyond_noise: interval
            .is_some_and(|(lower, upper)| lower > 1.0 + noise || upper < 1.0 - noise),
    })
}

/// 95 % percentile interval of the ratio of medians; both sides are drawn anew, each by itself.
/// The seed is the same for every row, so that no row depends on the others.
fn ratio_interval(old: &[f64], new: &[f64]) -> Option<(f64, f64)> {
    if old.len() < 2 || new.len() < 2 {
        return None;
    }
    let mut random = SplitMix64::new(SEED);
    let (mut old, mut new) = (Resampler::new(old), Resampler::new(new));
    let ratios: Vec<f64> =
        (0..RESAMPLES).map(|_| new.median(&mut random) / old.median(&mut random)).collect();
    // A draw over a median of 0 has no ratio; then the interval has no honest end.
    if ratios.iter().any(|r| !r.is_finite()) {
        return None;
    }
    Some((quantile(&ratios, 0.025)?, quantile(&ratios, 0.975)?))
}

/// Draws with replacement from sorted samples: counting the draws spares sorting each.
struct Resampler {
    sorted: Vec<f64>,
    counts: Vec<u32>,
}

impl Resampler {
    fn new(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let counts = vec![0; sorted.len()];
        Self { sorted, counts }
    }

    /// Median of one draw of as many samples as there are.
    fn median(&mut self, random: &mut SplitMix64) -> f64 {
        let n = self.sorted.len();
        self.counts.fill(0);
        for _ in 0..n {
            self.counts[random.below(n)] += 1;
        }
        let (low_rank, high_rank) = ((n - 1) / 2, n / 2);
        let mut low = None;
        let mut seen = 0;
        for (value, count) in self.sorted.iter().zip(&self.counts) {
            seen += *count as usize;
            if seen > low_rank {
                let low = *low.get_or_insert(*value);
                if seen > high_rank {
                    return (low + value) / 2.0;
                }
            }
        }
        f64::NAN
    }
}

/// How far times may differ by a drift of speed in either direction: half the speed is twice the
/// time.
fn change(drift: f64) -> f64 {
    drift.max(drift.recip()) - 1.0
}

/// New over old rate; 1 and a warning where one of them is not known.
fn drift(old: f64, new: f64, part: &str, warnings: &mut Vec<String>) -> f64 {
    let ratio = new / old;
    if !(ratio.is_finite() && ratio > 0.0) {
        warnings.push(format!("the machine's own drift ({part}) is not known"));
        return 1.0;
    }
    if (ratio - 1.0).abs() > LOAD_NOISE {
        warnings.push(format!(
            "the machine itself changed between the runs ({part}: {:+.1} %); smaller differences \
             do not count",
            (ratio - 1.0) * 100.0
        ));
    }
    ratio
}

/// What differs between the runs beside their times.
fn differences(old: &ProfileReport, new: &ProfileReport) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.model != new.model {
        warnings.push(format!(
            "these are different models: {} and now {}; ratios say how they differ, not what \
             changed",
            old.model, new.model
        ));
    }
    if old.quant != new.quant {
        warnings.push(format!(
            "these are different quantizations: {} and now {}; ratios say how they differ, not \
             what changed",
            old.quant, new.quant
        ));
    }
    for (what, old, new) in [
        ("device", &old.device, &new.device),
        ("engine", &old.engine, &new.engine),
        ("build", &old.tool.profile, &new.tool.profile),
        ("CPU features of the build", &old.tool.target_features, &new.tool.target_features),
    ] {
        if old != new {
            warnings.push(format!("different {what}: `{old}` and now `{new}`"));
        }
    }
    for (what, old, new) in [
        ("threads", old.threads, new.threads),
        ("prompt tokens", old.prompt_tokens, new.prompt_tokens),
        ("generated tokens", old.generated_tokens, new.generated_tokens),
    ] {
        if old != new {
            warnings.push(format!("different {what}: {old} and now {new}"));
        }
    }
    if old.sampling != new.sampling {
        warnings.push("tokens were drawn differently: softmax and sampling differ".to_owned());
    }
    if old.allocator != new.allocator {
        warnings.push("freed memory was treated differently: large temporaries differ".to_owned());
    }
    for (which, report) in [("older", old), ("newer", new)] {
        if report.interrupted {
            warnings.push(format!("the {which} run was interrupted"));
        }
    }
    warnings
}

fn name((phase, op, role): Key) -> String {
    let op = op.map_or(String::new(), |op| format!(" {}", op.name()));
    let role = role.map_or(String::new(), |role| format!(".{}", role.gguf_stem()));
    format!("{}{op}{role}", phase.name())
}

fn absent(names: &[String], which: &str) -> Option<String> {
    let shown = names.get(..MOST_NAMES).unwrap_or(names).join(", ");
    let more = match names.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!names.is_empty())
        .then(|| format!("not compared, for want of times in the {which} profile: {shown}{more}"))
}

#[cfg(test)]
mod tests;
