//! Clocks of devices with a queue of work.

#[cfg(any(feature = "cuda", test))]
mod events;
#[cfg(any(feature = "metal", test))]
mod waiting;

#[cfg(any(feature = "cuda", test))]
use std::time::Duration;
use std::time::Instant;

#[cfg(any(feature = "cuda", test))]
pub(crate) use events::EventClock;
#[cfg(any(feature = "metal", test))]
pub(crate) use waiting::WaitingClock;

/// A queue of work that a device goes through in order.
pub(crate) trait Queue {
    /// The host's clock.
    fn now(&self) -> Instant;

    /// Waits until the queue is empty.
    fn wait(&self);
}

/// A queue that takes marks among the work.
#[cfg(any(feature = "cuda", test))]
pub(crate) trait EventQueue: Queue {
    /// A place in the queue, whose moment the device notes when it gets there.
    type Event;

    /// Puts an event behind everything that is in the queue; `None` where the driver fails.
    fn event(&self) -> Option<Self::Event>;

    /// Time of the device from one event to a later one, both reached; `None` where the driver
    /// fails.
    fn between(&self, first: &Self::Event, second: &Self::Event) -> Option<Duration>;
}
