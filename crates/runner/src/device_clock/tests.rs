use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::*;

/// A device on a fake clock: a launch takes the host some time and returns, the work is done
/// later, after the work before it.
#[derive(Clone)]
pub(crate) struct MockQueue {
    zero: Instant,
    /// Nanoseconds of the host.
    host: Rc<Cell<u64>>,
    /// When the device will have done all of its work.
    device: Rc<Cell<u64>>,
    has_events: bool,
    /// What the call for an event takes of the host.
    event_ns: u64,
}

impl MockQueue {
    pub(crate) fn new() -> Self {
        let zero = Instant::now();
        Self { zero, host: Rc::default(), device: Rc::default(), has_events: true, event_ns: 0 }
    }

    /// Gives the device work.
    pub(crate) fn launch(&self, host_ns: u64, device_ns: u64) {
        self.host.set(self.host.get() + host_ns);
        self.device.set(self.device.get().max(self.host.get()) + device_ns);
    }

    fn ns(&self, moment: Instant) -> u64 {
        moment.duration_since(self.zero).as_nanos() as u64
    }
}

impl Queue for MockQueue {
    fn now(&self) -> Instant {
        self.zero + Duration::from_nanos(self.host.get())
    }

    fn wait(&self) {
        self.host.set(self.host.get().max(self.device.get()));
    }
}

impl EventQueue for MockQueue {
    type Event = u64;

    fn event(&self) -> Option<u64> {
        self.host.set(self.host.get() + self.event_ns);
        self.has_events.then(|| self.device.get().max(self.host.get()))
    }

    fn between(&self, first: &u64, second: &u64) -> Option<Duration> {
        Some(Duration::from_nanos(second.checked_sub(*first)?))
    }
}

fn of_device(queue: &MockQueue, clock: &dyn DeviceClock) -> Vec<u64> {
    match clock.moments() {
        Moments::Device(moments) => moments.into_iter().map(|m| queue.ns(m)).collect(),
        other => panic!("{other:?}"),
    }
}

/// Three kernels of 100, 10 and 50 µs that take the host 5 µs each to launch; the moments
/// after each, by the clock and by the host, in µs.
fn three_kernels(queue: &MockQueue, clock: &dyn DeviceClock) -> (Vec<u64>, Vec<u64>) {
    clock.start();
    let mut host = Vec::new();
    for work in [100_000, 10_000, 50_000] {
        queue.launch(5_000, work);
        clock.mark();
        host.push(queue.ns(queue.now()) / 1000);
    }
    (of_device(queue, clock).into_iter().map(|ns| ns / 1000).collect(), host)
}

#[test]
fn host_moments_lie_where_a_device_works_behind_them() {
    let queue = MockQueue::new();
    let clock = EventClock::new(queue.clone());
    let (device, host) = three_kernels(&queue, &clock);
    // The host sees three equal launches, the device what they were.
    assert_eq!(host, [5, 10, 15]);
    assert_eq!(device, [105, 115, 165]);
    assert_eq!(clock.kind(), SpanClock::Events);
}

#[test]
fn a_launch_that_is_longer_than_its_work_is_what_takes_the_time() {
    let queue = MockQueue::new();
    let clock = EventClock::new(queue.clone());
    clock.start();
    for _ in 0..3 {
        queue.launch(8_000, 2_000);
        clock.mark();
    }
    // 8 µs from end to end, of which the device works 2.
    assert_eq!(of_device(&queue, &clock), [10_000, 18_000, 26_000]);
}

#[test]
fn waiting_sees_the_same_work_and_every_launch_beside_it() {
    let queue = MockQueue::new();
    let clock = WaitingClock::new(queue.clone());
    let (device, _) = three_kernels(&queue, &clock);
    // Launches no longer hide behind the work before them: 105, 15 and 55.
    assert_eq!(device, [105, 120, 175]);
    assert_eq!(clock.kind(), SpanClock::Synchronised);
}

#[test]
fn what_was_given_before_is_not_in_the_first_moment() {
    let queue = MockQueue::new();
    queue.launch(1_000, 900_000);
    for clock in [
        Box::new(EventClock::new(queue.clone())) as Box<dyn DeviceClock>,
        Box::new(WaitingClock::new(queue.clone())),
    ] {
        clock.start();
        let start = queue.ns(queue.now());
        queue.launch(5_000, 20_000);
        clock.mark();
        assert_eq!(of_device(&queue, clock.as_ref())[0] - start, 25_000);
    }
}

#[test]
fn the_call_for_the_first_event_is_not_in_the_first_moment() {
    let queue = MockQueue { event_ns: 3_000, ..MockQueue::new() };
    let clock = EventClock::new(queue.clone());
    clock.start();
    let start = queue.ns(queue.now());
    queue.launch(5_000, 20_000);
    clock.mark();
    assert_eq!(of_device(&queue, &clock), [start + 25_000]);
}

#[test]
fn a_driver_that_fails_gives_no_moments() {
    let queue = MockQueue { has_events: false, ..MockQueue::new() };
    let clock = EventClock::new(queue.clone());
    clock.start();
    clock.mark();
    assert_eq!(clock.moments(), Moments::Unknown);
    assert_eq!(HostClock.moments(), Moments::Host);
}
