//! Every token of the run, its latency, and why the slowest were slow.

use foretoken_spec::{KernelOp, Percentiles, Phase, SlowToken, TimedPass, TokenRow};
use foretoken_stats::{median, quantile};

use crate::ms;
use crate::rows::{Key, PassTimes};

/// A token is slow from this multiple of the median on.
const SLOW: f64 = 1.1;
/// A kernel explains a slow token where it makes this share of the time beyond the usual.
const TELLING_SHARE: f64 = 0.3;
/// Slow tokens that are listed.
const SLOWEST: usize = 5;

pub(crate) fn token_rows(passes: &[TimedPass]) -> Vec<TokenRow> {
    passes
        .iter()
        .zip(0..)
        .map(|(pass, index)| TokenRow {
            index,
            kv_len: pass.sample.kv_len,
            ms: ms(pass.total_ns()),
            phase: pass.phase,
            forward_ms: ms(pass.sample.forward_ns),
            logits_copy_ms: ms(pass.sample.logits_copy_ns),
            softmax_ms: ms(pass.sample.softmax_ns),
            sampling_ms: ms(pass.sample.sampling_ns),
            detokenize_ms: ms(pass.detokenize_ns),
            token: pass.token,
            probed: pass.sample.probed,
            preempted: pass.sample.preempted,
        })
        .collect()
}

pub(crate) fn inter_token(passes: &[TimedPass]) -> Option<Percentiles> {
    let times: Vec<f64> = decode(passes).map(|pass| ms(pass.total_ns())).collect();
    Some(Percentiles {
        p50: median(&times)?,
        p90: quantile(&times, 0.9)?,
        p99: quantile(&times, 0.99)?,
        max: quantile(&times, 1.0)?,
    })
}

/// The slowest tokens after the first, slowest first.
pub(crate) fn slowest(passes: &[TimedPass], times: &[PassTimes]) -> Vec<SlowToken> {
    let totals: Vec<f64> = decode(passes).map(|pass| ms(pass.total_ns())).collect();
    let Some(usual) = median(&totals) else { return Vec::new() };
    let mut order: Vec<usize> =
        (0..passes.len()).filter(|i| passes[*i].phase == Phase::Decode).collect();
    order.sort_by_key(|i| std::cmp::Reverse(passes[*i].total_ns()));
    order
        .into_iter()
        .take(SLOWEST)
        .filter(|index| ms(passes[*index].total_ns()) >= SLOW * usual)
        .map(|index| {
            let pass = &passes[index];
            SlowToken {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                kv_len: pass.sample.kv_len,
                ms: ms(pass.total_ns()),
                ratio: ms(pass.total_ns()) / usual,
                what: what_ran(index, passes, times),
            }
        })
        .collect()
}

fn decode(passes: &[TimedPass]) -> impl Iterator<Item = &TimedPass> {
    passes.iter().filter(|pass| pass.phase == Phase::Decode)
}

/// The kernel, or where the step was not probed the part, that took most beyond its usual time.
fn what_ran(index: usize, passes: &[TimedPass], times: &[PassTimes]) -> String {
    let pass = &passes[index];
    let mut excesses: Vec<(String, f64)> = around(pass)
        .into_iter()
        .map(|(name, ns, of)| {
            let usual: Vec<f64> = decode(passes).map(|p| of(p) as f64).collect();
            (name.to_owned(), ns as f64 - median(&usual).unwrap_or(0.0))
        })
        .collect();
    let own = times.iter().find(|t| t.index == index);
    match own {
        Some(own) => excesses.extend(own.times.iter().map(|(key, ns)| {
            let usual: Vec<f64> = times
                .iter()
                .filter(|t| t.phase == Phase::Decode)
                .filter_map(|t| t.times.get(key).copied())
                .collect();
            (name(key), ns - median(&usual).unwrap_or(0.0))
        })),
        None => {
            let usual: Vec<f64> = decode(passes).map(|p| p.sample.forward_ns as f64).collect();
            let excess = pass.sample.forward_ns as f64 - median(&usual).unwrap_or(0.0);
            excesses.push(("forward pass, not probed".to_owned(), excess));
        }
    }
    let totals: Vec<f64> = decode(passes).map(|p| p.total_ns() as f64).collect();
    let excess = pass.total_ns() as f64 - median(&totals).unwrap_or(0.0);
    let largest = excesses.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let mut text = match largest {
        Some((name, ns)) if ns > 0.0 && ns >= TELLING_SHARE * excess => {
            format!("{name}: +{:.2} ms", ns / 1e6)
        }
        _ if excess > 0.0 => format!("everything was slower: +{:.2} ms in all", excess / 1e6),
        _ => "nothing took longer than usual".to_owned(),
    };
    if pass.sample.preempted {
        text.push_str("; another program had the processor");
    }
    text
}

type Part = fn(&TimedPass) -> u64;

/// The parts around the forward pass, of a pass and as readers of any pass.
fn around(pass: &TimedPass) -> Vec<(&'static str, u64, Part)> {
    let parts: [(&str, Part); 3] = [
        ("softmax", |p| p.sample.softmax_ns),
        ("sampling", |p| p.sample.sampling_ns),
        ("detokenize", |p| p.detokenize_ns),
    ];
    parts.into_iter().map(|(name, of)| (name, of(pass), of)).collect()
}

fn name(key: &Key) -> String {
    let mut name = match key.role {
        // There is one LM head, whichever matrix it multiplies by.
        Some(role) if key.op != KernelOp::LmHead => {
            format!("{}.{}", key.op.name(), role.gguf_stem())
        }
        _ => key.op.name().to_owned(),
    };
    if let Some(layer) = key.layer {
        name.push_str(&format!(", layer {layer}"));
    }
    name
}
