//! Moments inside a pass, on devices that work behind the host's back.
//!
//! A processor has done a call when it returns; a graphics device has only been told. The time
//! between two moments on the host is then that of the telling. So moments are marks in the
//! device's own queue of work ([`EventClock`]) or, where a device has no such marks, the host waits
//! at each of them ([`WaitingClock`]), which disturbs what it measures: what it costs is measured
//! by the pairs of probed and unprobed passes, as for every probe.

#[cfg(any(feature = "cuda", feature = "metal", test))]
mod queue;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Instant;

use foretoken_spec::SpanClock;

#[cfg(any(feature = "cuda", feature = "metal", test))]
pub(crate) use queue::Queue;
#[cfg(any(feature = "metal", test))]
pub(crate) use queue::WaitingClock;
#[cfg(any(feature = "cuda", test))]
pub(crate) use queue::{EventClock, EventQueue};

/// A clock that says when a device reached the moments that were marked.
pub(crate) trait DeviceClock {
    /// How it knows.
    fn kind(&self) -> SpanClock;

    /// Begins anew, once everything that was given to the device before is done.
    fn start(&self);

    /// Marks the moment at which the device will have done what was given to it so far.
    fn mark(&self);

    /// The marked moments since the start, in order, none before the one before it. Waits for the
    /// device.
    fn moments(&self) -> Moments;
}

/// When a device reached the moments that were marked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    not(any(feature = "cuda", test)),
    expect(dead_code, reason = "a processor's moments are the host's, and waiting does not fail")
)]
pub(crate) enum Moments {
    /// When the host marked them.
    Host,
    /// Then.
    Device(Vec<Instant>),
    /// The driver failed; the host's own moments say nothing.
    Unknown,
}

/// The processor: a call that has returned is done.
pub(crate) struct HostClock;

impl DeviceClock for HostClock {
    fn kind(&self) -> SpanClock {
        SpanClock::Host
    }

    fn start(&self) {}

    fn mark(&self) {}

    fn moments(&self) -> Moments {
        Moments::Host
    }
}
