//! Moments as the host sees them when it waits for the device.

use std::cell::RefCell;
use std::time::Instant;

use foretoken_spec::SpanClock;

use super::Queue;
use crate::device_clock::{DeviceClock, Moments};

/// Waits at every mark until the queue is empty.
///
/// Only Metal is run so, whose command buffers tell their times and no moments inside them.
pub(crate) struct WaitingClock<Q: Queue> {
    queue: Q,
    moments: RefCell<Vec<Instant>>,
}

impl<Q: Queue> WaitingClock<Q> {
    pub(crate) fn new(queue: Q) -> Self {
        Self { queue, moments: RefCell::new(Vec::new()) }
    }
}

impl<Q: Queue> DeviceClock for WaitingClock<Q> {
    fn kind(&self) -> SpanClock {
        SpanClock::Synchronised
    }

    fn start(&self) {
        self.moments.borrow_mut().clear();
        self.queue.wait();
    }

    fn mark(&self) {
        self.queue.wait();
        self.moments.borrow_mut().push(self.queue.now());
    }

    fn moments(&self) -> Moments {
        Moments::Device(self.moments.borrow().clone())
    }
}
