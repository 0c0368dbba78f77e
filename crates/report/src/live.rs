//! One line that says where a running profile is, and sparklines.

/// Columns that the sparkline of the live line gets before further shares do.
const LIVE_SPARKLINE: usize = 8;
/// Most columns of it.
const LIVE_SPARKLINE_MOST: usize = 40;
const SEPARATOR: &str = " · ";

/// What a profile knows while it runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LiveState {
    /// What runs now: `load`, `prefill`, `decode`, …
    pub phase: &'static str,
    /// Passes or tokens done.
    pub done: u32,
    /// Of how many; 0 where that is not known.
    pub total: u32,
    /// Speed of the last tokens.
    pub tokens_per_second_now: Option<f64>,
    /// Times between the last tokens, oldest first.
    pub recent_ms: Vec<f64>,
    /// Share of each part in the time of the last pass, largest first.
    pub shares: Vec<(&'static str, f64)>,
}

/// `decode 37/128 · 62.1 tok/s · ffn 61 % attn 22 % · ▂▁▁▁▂█▁▁`, in at most `width` columns.
///
/// Where room is short, the shares go first, smallest first, then the sparkline, then the speed.
pub fn live_line(state: &LiveState, width: usize) -> String {
    let mut line: String = position(state).chars().take(width).collect();
    if let Some(speed) = state.tokens_per_second_now.filter(|speed| speed.is_finite()) {
        push(&mut line, &format!("{SEPARATOR}{speed:.1} tok/s"), width);
    }
    let room = width.saturating_sub(columns(&line));
    let wanted = match state.recent_ms.len().min(LIVE_SPARKLINE) {
        0 => 0,
        n => n + columns(SEPARATOR),
    };
    let reserved = if wanted <= room { wanted } else { 0 };

    let mut separator = SEPARATOR;
    for (name, share) in state.shares.iter().filter(|(_, share)| share.is_finite()) {
        let part = format!("{separator}{name} {:.0} %", share * 100.0);
        if !push(&mut line, &part, width - reserved) {
            break;
        }
        separator = " ";
    }
    if reserved > 0 {
        let room = width - columns(&line) - columns(SEPARATOR);
        let spark = sparkline(&state.recent_ms, room.min(LIVE_SPARKLINE_MOST));
        push(&mut line, &format!("{SEPARATOR}{spark}"), width);
    }
    line
}

/// `decode 37/128`.
fn position(state: &LiveState) -> String {
    match (state.done, state.total) {
        (0, 0) => state.phase.to_owned(),
        (done, 0) => format!("{} {done}", state.phase),
        (done, total) => format!("{} {done}/{total}", state.phase),
    }
}

/// Adds `part` where it fits.
fn push(line: &mut String, part: &str, width: usize) -> bool {
    let fits = columns(line) + columns(part) <= width;
    if fits {
        line.push_str(part);
    }
    fits
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// `values` in order as blocks of growing height, in at most `width` columns.
///
/// A column that stands for several values shows the largest, so that a spike is never hidden.
/// The lowest block is the smallest value, the full one the largest, or half as much again as the
/// smallest where all are below that: noise of a few percent stays flat. What is not a finite
/// number is a space.
pub fn sparkline(values: &[f64], width: usize) -> String {
    let n = values.len().min(width);
    let column = |i: usize| &values[i * values.len() / n..(i + 1) * values.len() / n];
    let heights: Vec<Option<f64>> = (0..n)
        .map(|i| column(i).iter().copied().filter(|v| v.is_finite()).reduce(f64::max))
        .collect();
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let low = finite().fold(f64::INFINITY, f64::min);
    let high = finite().fold(f64::NEG_INFINITY, f64::max);
    let span = (high - low).max(low.abs() / 2.0);
    let block = |value: f64| {
        let level = if span > 0.0 { (value - low) / span * (LEVELS.len() - 1) as f64 } else { 0.0 };
        LEVELS[(level.round() as usize).min(LEVELS.len() - 1)]
    };
    heights.into_iter().map(|height| height.map_or(' ', block)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> LiveState {
        LiveState {
            phase: "decode",
            done: 37,
            total: 128,
            tokens_per_second_now: Some(62.14),
            recent_ms: vec![16.0, 16.1, 17.4, 16.0, 16.2, 31.0, 16.1, 16.0, 16.0, 16.3],
            shares: vec![("ffn", 0.612), ("attn", 0.221), ("head", 0.09)],
        }
    }

    #[test]
    fn the_line_says_less_where_room_is_short() {
        for (width, line) in [
            (120, "decode 37/128 · 62.1 tok/s · ffn 61 % attn 22 % head 9 % · ▁▁▂▁▁█▁▁▁▁"),
            (67, "decode 37/128 · 62.1 tok/s · ffn 61 % attn 22 % head 9 % · ▁▁▂▁█▁▁▁"),
            (60, "decode 37/128 · 62.1 tok/s · ffn 61 % attn 22 % · ▁▁▂▁▁█▁▁▁▁"),
            (40, "decode 37/128 · 62.1 tok/s · ▁▁▂▁▁█▁▁▁▁"),
            (36, "decode 37/128 · 62.1 tok/s"),
            (20, "decode 37/128"),
            (4, "deco"),
            (0, ""),
        ] {
            assert_eq!(live_line(&running(), width), line, "{width} columns");
        }
    }

    #[test]
    fn the_line_never_exceeds_its_width() {
        let mut broken = running();
        broken.tokens_per_second_now = Some(f64::INFINITY);
        broken.shares.push(("rest", f64::NAN));
        broken.recent_ms = vec![f64::NAN; 3];
        for state in [running(), broken, LiveState { phase: "load", ..LiveState::default() }] {
            for width in 0..130 {
                let line = live_line(&state, width);
                assert!(line.chars().count() <= width, "{line:?} in {width} columns");
            }
        }
    }

    #[test]
    fn the_line_without_data_names_the_phase() {
        let state = LiveState { phase: "load", ..LiveState::default() };
        assert_eq!(live_line(&state, 80), "load");
        assert_eq!(live_line(&LiveState { done: 3, ..state.clone() }, 80), "load 3");
        assert_eq!(live_line(&LiveState { total: 128, ..state }, 80), "load 0/128");
    }

    #[test]
    fn a_spike_among_many_values_is_seen() {
        let mut values = vec![10.0; 1000];
        values[777] = 20.0;
        let line = sparkline(&values, 20);
        assert_eq!(line.chars().count(), 20);
        assert_eq!(line.chars().filter(|c| *c == '█').count(), 1);
    }

    #[test]
    fn noise_of_a_few_percent_is_flat() {
        assert_eq!(sparkline(&[10.0, 10.2, 10.1, 10.3], 80), "▁▁▁▁");
        assert_eq!(sparkline(&[10.0, 15.0, 12.5], 80), "▁█▅");
    }

    #[test]
    fn odd_values_draw_something() {
        assert_eq!(sparkline(&[], 10), "");
        assert_eq!(sparkline(&[1.0], 0), "");
        assert_eq!(sparkline(&[0.0, 0.0], 10), "▁▁");
        assert_eq!(sparkline(&[f64::NAN; 3], 10), "   ");
        assert_eq!(sparkline(&[1.0, f64::NAN, f64::INFINITY, 2.0], 10), "▁  █");
        assert_eq!(sparkline(&[-2.0, -1.0], 10), "▁█");
    }
}
