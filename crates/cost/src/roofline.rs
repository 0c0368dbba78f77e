//! The roofline bound: an operation is no faster than its arithmetic or its memory traffic allows.
//!
//! `t = max(F / P, B / W)`, with F \[FLOP\], B \[byte\], P \[FLOP/s\], W \[byte/s\]
//! (Williams, Waterman and Patterson, 2009). Launch overhead and imperfect overlap are
//! deliberately absent: calibration learns them.

use foretoken_spec::{Bound, Ceilings};

/// A time and the resource that limits it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounded {
    /// Shortest time, in seconds.
    pub seconds: f64,
    /// What limits it.
    pub bound: Bound,
}

/// Shortest time for `flop` and `bytes` under `ceilings`, and the resource that limits it.
///
/// Ties, and operations without arithmetic (a copy), are memory-bound.
pub fn roofline(flop: u64, bytes: u64, ceilings: &Ceilings) -> Bounded {
    let compute = flop as f64 / ceilings.matmul_flop_per_second;
    let memory = bytes as f64 / ceilings.stream_bytes_per_second;
    if compute <= memory {
        Bounded { seconds: memory, bound: Bound::Memory }
    } else {
        Bounded { seconds: compute, bound: Bound::Compute }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_resource_limits() {
        let ceilings = Ceilings { stream_bytes_per_second: 10.0, matmul_flop_per_second: 100.0 };
        assert_eq!(roofline(1000, 10, &ceilings), Bounded { seconds: 10.0, bound: Bound::Compute });
        assert_eq!(roofline(10, 100, &ceilings), Bounded { seconds: 10.0, bound: Bound::Memory });
        assert_eq!(roofline(0, 0, &ceilings).bound, Bound::Memory);
    }
}
