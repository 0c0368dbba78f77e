use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A meter of known power that fails from some reading on, or at some only.
struct Planted {
    watts: f64,
    is_counter: bool,
    fails: fn(u32) -> bool,
    n_read: Arc<AtomicU32>,
    begun: Instant,
}

impl Planted {
    fn counted(is_counter: bool, fails: fn(u32) -> bool) -> (Box<dyn Meter>, Arc<AtomicU32>) {
        let n_read = Arc::new(AtomicU32::new(0));
        let begun = Instant::now();
        let meter = Self { watts: 12.0, is_counter, fails, n_read: Arc::clone(&n_read), begun };
        (Box::new(meter), n_read)
    }
}

impl Meter for Planted {
    fn source(&self) -> Source {
        Source::Rapl
    }

    fn name(&self) -> &str {
        "planted"
    }

    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn read(&mut self) -> Result<Reading, MeterError> {
        let n = self.n_read.fetch_add(1, Ordering::SeqCst);
        if (self.fails)(n) {
            return Err(MeterError::Nvml("gone".to_owned()));
        }
        let at = Instant::now();
        let value = if self.is_counter {
            Value::Joules(self.watts * at.duration_since(self.begun).as_secs_f64())
        } else {
            Value::Watts(self.watts)
        };
        Ok(Reading { at, value, lost: Duration::ZERO })
    }
}

fn mark(at_ms: u64, joules: f64, lost_ms: u64) -> Mark {
    Mark { at: Duration::from_millis(at_ms), joules, lost: Duration::from_millis(lost_ms) }
}

#[test]
fn a_span_is_the_difference_of_its_marks() {
    let span = mark(1000, 5.0, 0).until(&mark(3000, 35.0, 0)).unwrap();
    assert_eq!(span, Span { joules: 30.0, seconds: 2.0 });
}

#[test]
fn a_little_that_is_not_known_is_like_the_rest() {
    // 0.2 of 2 s are lost: 27 J in 1.8 s are 30 J in 2 s.
    let span = mark(1000, 5.0, 100).until(&mark(3000, 32.0, 300)).unwrap();
    assert!((span.joules - 30.0).abs() < 1e-9);
    assert_eq!(mark(1000, 5.0, 0).until(&mark(3000, 32.0, 300)), None);
}

#[test]
fn marks_in_the_wrong_order_have_no_energy() {
    assert_eq!(mark(3000, 5.0, 0).until(&mark(1000, 3.0, 0)), None);
    assert_eq!(mark(3000, 5.0, 0).until(&mark(3000, 5.0, 0)), None);
}

/// Power that does not change is integrated exactly, however late the thread is served: silences
/// longer than half a second are lost, and the rest stands for them.
#[test]
fn both_kinds_of_meter_give_the_same_energy() {
    for is_counter in [true, false] {
        let sampler = Sampler::start(Planted::counted(is_counter, |_| false).0).unwrap();
        let before = sampler.mark().unwrap();
        std::thread::sleep(Duration::from_millis(60));
        let after = sampler.mark().unwrap();
        if let Some(span) = before.until(&after) {
            assert!((span.joules / span.seconds - 12.0).abs() < 1e-6, "{span:?}");
        }
        assert_eq!(sampler.failure(), None);
    }
}

#[test]
fn idle_power_is_the_median_over_windows() {
    let mut sampler = Sampler::start(Planted::counted(true, |_| false).0).unwrap();
    assert_eq!(sampler.idle_w(), None);
    let watts = sampler.measure_idle(Duration::from_millis(50)).unwrap();
    assert!((watts - 12.0).abs() < 1e-6);
    assert_eq!(sampler.idle_w(), Some(watts));
}

#[test]
fn a_single_silence_is_asked_again() {
    // The first reading is that of the start.
    let sampler = Sampler::start(Planted::counted(true, |n| n == 1).0).unwrap();
    assert!(sampler.mark().is_some());
    assert_eq!(sampler.failure().unwrap(), "NVML: gone");
}

#[test]
fn a_meter_that_stops_answering_is_left_alone_and_says_why() {
    let (meter, n_read) = Planted::counted(true, |n| n > 0);
    let mut sampler = Sampler::start(meter).unwrap();
    for _ in 0..100 {
        assert_eq!(sampler.mark(), None);
    }
    assert!(n_read.load(Ordering::SeqCst) <= 2 + MOST_FAILURES);
    assert_eq!(sampler.measure_idle(Duration::ZERO), None);
    assert_eq!(sampler.failure().unwrap(), "NVML: gone");
}

#[test]
fn a_meter_that_never_answers_is_refused() {
    assert!(Sampler::start(Planted::counted(true, |_| true).0).is_err());
}

#[test]
fn the_thread_ends_with_the_sampler() {
    let (meter, n_read) = Planted::counted(false, |_| false);
    drop(Sampler::start(meter).unwrap());
    let after = n_read.load(Ordering::SeqCst);
    std::thread::sleep(3 * POWER_INTERVAL);
    assert_eq!(n_read.load(Ordering::SeqCst), after);
}
