//! Moments as events in the device's own queue.

use std::cell::RefCell;
use std::time::Instant;

use foretoken_spec::SpanClock;

use super::EventQueue;
use crate::device_clock::{DeviceClock, Moments};

/// Events in the device's queue: they cost a call each and no waiting.
///
/// The first event is put into an empty queue, so that its moment is the host's when the call
/// returns, but for the time that the device takes to see it: a few microseconds, by which every
/// moment of the pass is early or late together. Times between two moments do not have it.
pub(crate) struct EventClock<Q: EventQueue> {
    queue: Q,
    marks: RefCell<Marks<Q::Event>>,
}

struct Marks<E> {
    /// The host's moment of the first event.
    start: Option<Instant>,
    /// `None` in the place of an event that could not be put.
    events: Vec<Option<E>>,
}

impl<Q: EventQueue> EventClock<Q> {
    pub(crate) fn new(queue: Q) -> Self {
        Self { queue, marks: RefCell::new(Marks { start: None, events: Vec::new() }) }
    }
}

impl<Q: EventQueue> DeviceClock for EventClock<Q> {
    fn kind(&self) -> SpanClock {
        SpanClock::Events
    }

    fn start(&self) {
        let mut marks = self.marks.borrow_mut();
        marks.events.clear();
        self.queue.wait();
        let first = self.queue.event();
        marks.start = Some(self.queue.now());
        marks.events.push(first);
    }

    fn mark(&self) {
        let event = self.queue.event();
        self.marks.borrow_mut().events.push(event);
    }

    fn moments(&self) -> Moments {
        self.queue.wait();
        self.marks.borrow().moments(&self.queue).map_or(Moments::Unknown, Moments::Device)
    }
}

impl<E> Marks<E> {
    fn moments(&self, queue: &impl EventQueue<Event = E>) -> Option<Vec<Instant>> {
        let start = self.start?;
        let (first, others) = self.events.split_first()?;
        let first = first.as_ref()?;
        let mut last = start;
        let moments = others.iter().map(|event| {
            let moment = start + queue.between(first, event.as_ref()?)?;
            // The device's clock ticks more coarsely than the host's.
            last = last.max(moment);
            Some(last)
        });
        moments.collect()
    }
}
