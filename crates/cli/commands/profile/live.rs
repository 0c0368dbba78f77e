//! The live view of a running profile: one line on a terminal, redrawn a few times a second.

use std::time::{Duration, Instant};

use foretoken_report::{LiveState, live_line};
use foretoken_runner::{ProfileProgress, ProfileStage};
use foretoken_spec::{KernelOp, Phase, Slice, TensorRole};

use crate::output::Output;
use crate::progress::Line;

/// Least time between two drawings: each takes time between two tokens.
const INTERVAL: Duration = Duration::from_millis(200);
/// Tokens that the speed is the mean of.
const RECENT: usize = 8;
/// Tokens in the sparkline.
const SPARKLINE: usize = 40;

/// The line.
pub struct Live {
    line: Line,
    drawn: Option<(Instant, ProfileStage)>,
}

impl Live {
    /// An empty line; invisible where nobody looks.
    pub fn new(output: &Output) -> Self {
        Self { line: Line::new(output), drawn: None }
    }

    /// Shows where the run is, unless it was shown just now.
    pub fn show(&mut self, now: &ProfileProgress<'_>) {
        let is_early =
            self.drawn.is_some_and(|(at, stage)| stage == now.stage && at.elapsed() < INTERVAL);
        if is_early || self.line.is_hidden() {
            return;
        }
        self.drawn = Some((Instant::now(), now.stage));
        self.line.set(&live_line(&state_of(now), self.line.width()));
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.line.finish();
    }
}

fn state_of(now: &ProfileProgress<'_>) -> LiveState {
    let steps: Vec<f64> = now
        .passes
        .iter()
        .filter(|pass| pass.phase == Phase::Decode)
        .map(|pass| pass.total_ns() as f64 / 1e6)
        .collect();
    let recent = &steps[steps.len().saturating_sub(RECENT)..];
    let mean = recent.iter().sum::<f64>() / recent.len() as f64;
    LiveState {
        phase: match now.stage {
            ProfileStage::Machine => "speed of the machine",
            ProfileStage::Load => "load",
            ProfileStage::Warmup => "warm-up",
            ProfileStage::Prefill => "prefill",
            ProfileStage::Decode => "decode",
            ProfileStage::Pairs => "after the run: cost of the probes, pair",
            ProfileStage::Parts => "after the run: parts of undivided blocks",
        },
        done: now.done,
        total: now.total,
        tokens_per_second_now: (!recent.is_empty()).then(|| 1e3 / mean),
        recent_ms: steps[steps.len().saturating_sub(SPARKLINE)..].to_vec(),
        shares: now.recording.map(|recording| shares(&recording.slices())).unwrap_or_default(),
    }
}

/// Shares of feed-forward, attention and the rest in a pass, largest first.
fn shares(slices: &[Slice]) -> Vec<(&'static str, f64)> {
    let mut sums = [("ffn", 0), ("attention", 0), ("head", 0), ("other", 0)];
    for slice in slices {
        let index = match (slice.op, slice.role) {
            (KernelOp::Matmul, Some(role)) if is_feed_forward(role) => 0,
            (KernelOp::Activation | KernelOp::FeedForwardBlock, _) => 0,
            (KernelOp::Matmul | KernelOp::Rope | KernelOp::Attention, _)
            | (KernelOp::AttentionLayout | KernelOp::RopeAttention, _)
            | (KernelOp::AttentionInputs | KernelOp::AttentionBlock, _)
            | (KernelOp::ShortConvolution, _) => 1,
            (KernelOp::LmHead, _) => 2,
            _ => 3,
        };
        sums[index].1 += slice.ns;
    }
    let total: u64 = sums.iter().map(|(_, ns)| ns).sum();
    let mut shares: Vec<_> =
        sums.into_iter().map(|(name, ns)| (name, ns as f64 / total.max(1) as f64)).collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares
}

fn is_feed_forward(role: TensorRole) -> bool {
    matches!(role, TensorRole::FfnGate | TensorRole::FfnUp | TensorRole::FfnDown)
}
