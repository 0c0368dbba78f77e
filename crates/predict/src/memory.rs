//! Whether a workload fits into memory, and the longest that would.

use foretoken_cost::{EngineProfile, batch_memory};
use foretoken_spec::{MemoryPrediction, MemoryVerdict, ModelSpec, Workload};

use crate::Asked;

/// Memory that should stay free for everything else: this share of what is there, and at least
/// so many bytes. Below it, systems begin to write pages out.
const ROOM_SHARE: f64 = 0.1;
const ROOM_BYTES: u64 = 512 << 20;

/// Memory of a workload on an engine, and how it compares with what is there.
pub fn memory(
    model: &ModelSpec,
    engine: &EngineProfile,
    workload: &Workload,
    asked: &Asked,
) -> MemoryPrediction {
    let peak = |workload: &Workload| {
        let parts = batch_memory(model, engine, workload, asked.batch_size);
        parts.total().saturating_add(asked.process_bytes)
    };
    let parts = batch_memory(model, engine, workload, asked.batch_size);
    let peak_bytes = peak(workload);
    let available = asked.available_bytes;
    MemoryPrediction {
        weights_bytes: parts.weights,
        kv_cache_bytes: parts.kv_cache,
        activation_bytes: parts.activations,
        peak_bytes,
        available_bytes: available,
        available_is: None,
        fits: available.map(|available| peak_bytes <= available),
        verdict: available.map(|available| verdict(peak_bytes, available)),
        largest_context: available.map(|available| {
            let most = model.shape.context_length;
            largest_context(workload, most, &|workload| peak(workload) <= available)
        }),
        fitting_quants: Vec::new(),
    }
}

fn verdict(peak: u64, available: u64) -> MemoryVerdict {
    let room = ((available as f64 * ROOM_SHARE) as u64).max(ROOM_BYTES);
    match available.checked_sub(peak) {
        None => MemoryVerdict::DoesNotFit,
        Some(left) if left < room => MemoryVerdict::SwapRisk,
        Some(_) => MemoryVerdict::Fits,
    }
}

/// Tokens of the longest workload of at most `most` that fits, of the same prompt and generation
/// behind another depth; memory grows with the depth.
fn largest_context(workload: &Workload, most: u32, fits: &dyn Fn(&Workload) -> bool) -> u32 {
    let own = workload.prompt_tokens.saturating_add(workload.generated_tokens);
    let at = |depth: u32| Workload { depth, ..*workload };
    if own > most || !fits(&at(0)) {
        return 0;
    }
    let (mut good, mut bad) = (0, most - own + 1);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(&at(middle)) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    own + good
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn little_room_is_a_risk() {
        // A tenth of 8 GiB is more than half a GiB, of 2 GiB it is less.
        assert_eq!(verdict(7 * GIB, 8 * GIB), MemoryVerdict::Fits);
        assert_eq!(verdict(15 * GIB / 2, 8 * GIB), MemoryVerdict::SwapRisk);
        assert_eq!(verdict(8 * GIB + 1, 8 * GIB), MemoryVerdict::DoesNotFit);
        assert_eq!(verdict(7 * GIB / 4, 2 * GIB), MemoryVerdict::SwapRisk);
    }

    #[test]
    fn the_longest_context_by_hand() {
        let workload = Workload::new(100, 28, 500).unwrap();
        let up_to = |tokens: u32| {
            move |w: &Workload| w.depth + w.prompt_tokens + w.generated_tokens <= tokens
        };
        assert_eq!(largest_context(&workload, 4096, &up_to(1000)), 1000);
        assert_eq!(largest_context(&workload, 4096, &up_to(128)), 128);
        assert_eq!(largest_context(&workload, 4096, &up_to(127)), 0);
        assert_eq!(largest_context(&workload, 4096, &up_to(u32::MAX)), 4096);
        // The prompt alone is beyond the model.
        assert_eq!(largest_context(&workload, 100, &up_to(u32::MAX)), 0);
    }
}
