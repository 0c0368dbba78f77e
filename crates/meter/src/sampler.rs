//! A meter that is read in the background, and the energy between two moments.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use foretoken_stats::median;

use crate::integral::Integral;
use crate::{Meter, MeterError, Reading, Source, Value};

/// How often power is read: a tenth of a millisecond of one thread each time.
const POWER_INTERVAL: Duration = Duration::from_millis(25);
/// How often a counter is read, so that it never wraps twice unseen: 65 kJ, the smallest range of
/// RAPL, last a minute at a kilowatt.
const COUNTER_INTERVAL: Duration = Duration::from_secs(5);
/// After so many failures in a row the meter is left alone.
const MOST_FAILURES: u32 = 40;
/// A span of which more than this share is not known has no energy.
const MOST_LOST: f64 = 0.1;
/// A span shorter than so many renewals of the meter has no energy.
const FEWEST_RENEWALS: f64 = 20.0;
/// Shortest window of the idle power.
const IDLE_WINDOW: Duration = Duration::from_millis(250);

/// Joules since the sampler began, at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    /// Since the sampler began.
    pub at: Duration,
    /// Known by then.
    pub joules: f64,
    /// Time by then of which the energy is not known.
    pub lost: Duration,
}

/// Energy between two marks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Joules, idle power included.
    pub joules: f64,
    /// Seconds.
    pub seconds: f64,
}

impl Mark {
    /// Energy from this mark to a later one; `None` where too much of it is not known. A little
    /// that is not known is taken to be like the rest.
    pub fn until(&self, later: &Self) -> Option<Span> {
        let seconds = later.at.checked_sub(self.at)?.as_secs_f64();
        let lost = later.lost.saturating_sub(self.lost).as_secs_f64();
        if seconds <= 0.0 || lost > MOST_LOST * seconds {
            return None;
        }
        let joules = (later.joules - self.joules) * seconds / (seconds - lost);
        Some(Span { joules, seconds })
    }
}

/// What a meter is.
#[derive(Debug, Clone, PartialEq)]
pub struct MeterInfo {
    /// The interface.
    pub source: Source,
    /// What is counted.
    pub name: String,
    /// How often its number is renewed.
    pub resolution: Duration,
}

impl MeterInfo {
    /// Shortest time over which its joules mean something.
    pub fn shortest_span(&self) -> Duration {
        self.resolution.mul_f64(FEWEST_RENEWALS)
    }
}

/// A meter that is read in the background for as long as this lives.
#[derive(Debug)]
pub struct Sampler {
    info: MeterInfo,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    begun: Instant,
    idle_w: Option<f64>,
}

struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

struct State {
    meter: Box<dyn Meter>,
    integral: Integral,
    n_failures: u32,
    failure: Option<String>,
    has_ended: bool,
}

impl State {
    /// Reads the meter and adds it up.
    fn sample(&mut self) -> Result<Reading, MeterError> {
        match self.meter.read() {
            Ok(reading) => {
                self.integral.add(reading);
                self.n_failures = 0;
                Ok(reading)
            }
            Err(error) => {
                self.n_failures += 1;
                self.failure.get_or_insert_with(|| error.to_string());
                Err(error)
            }
        }
    }

    fn is_left_alone(&self) -> bool {
        self.has_ended || self.n_failures >= MOST_FAILURES
    }
}

impl Shared {
    /// A panic of the thread would leave the last state, which is as good as before.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sampler {
    /// Begins to read the meter.
    ///
    /// # Errors
    /// A meter that does not answer.
    pub fn start(meter: Box<dyn Meter>) -> Result<Self, MeterError> {
        let info = MeterInfo {
            source: meter.source(),
            name: meter.name().to_owned(),
            resolution: meter.resolution(),
        };
        let mut state = State {
            meter,
            integral: Integral::default(),
            n_failures: 0,
            failure: None,
            has_ended: false,
        };
        let first = state.sample()?;
        let interval = match first.value {
            Value::Watts(_) => POWER_INTERVAL,
            Value::Joules(_) => COUNTER_INTERVAL,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), ended: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        // Without a thread the marks still read the meter: counters lose nothing by that.
        let thread = std::thread::Builder::new()
            .name("energy meter".to_owned())
            .spawn(move || sample_until_ended(&of_thread, interval))
            .ok();
        Ok(Self { info, shared, thread, begun: Instant::now(), idle_w: None })
    }

    /// The meter.
    pub fn info(&self) -> &MeterInfo {
        &self.info
    }

    /// Energy until now; `None` where the meter does not answer. Takes one reading.
    pub fn mark(&self) -> Option<Mark> {
        let mut state = self.shared.lock();
        if state.is_left_alone() {
            return None;
        }
        // One silence is nothing: sysfs answers "try again" while a chip converts.
        if state.sample().is_err() && state.sample().is_err() {
            return None;
        }
        let Integral { joules, lost, .. } = state.integral;
        let at = state.integral.at()?.saturating_duration_since(self.begun);
        Some(Mark { at, joules, lost })
    }

    /// Why the meter first failed to answer, where it did.
    pub fn failure(&self) -> Option<String> {
        self.shared.lock().failure.clone()
    }

    /// Power while nothing ran, where it was measured.
    pub fn idle_w(&self) -> Option<f64> {
        self.idle_w
    }

    /// Measures the power of the machine while nothing runs, for about this time.
    pub fn measure_idle(&mut self, time: Duration) -> Option<f64> {
        self.idle_w = self.median_watts(time);
        self.idle_w
    }

    /// The median over windows, so that a program that wakes up for a moment does not count;
    /// `None` where the meter does not answer.
    fn median_watts(&self, time: Duration) -> Option<f64> {
        let window = IDLE_WINDOW.max(self.info.shortest_span()).min(time);
        let n_windows = (time.as_secs_f64() / window.as_secs_f64()).round().max(1.0) as usize;
        let mut watts = Vec::new();
        let mut before = self.mark()?;
        for _ in 0..n_windows {
            std::thread::sleep(window);
            let now = self.mark()?;
            watts.extend(before.until(&now).map(|span| span.joules / span.seconds));
            before = now;
        }
        median(&watts)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.lock().has_ended = true;
        self.shared.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sample_until_ended(shared: &Shared, interval: Duration) {
    let mut state = shared.lock();
    while !state.is_left_alone() {
        let waited = shared.ended.wait_timeout(state, interval);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if !state.has_ended {
            let _ = state.sample();
        }
    }
}

#[cfg(test)]
mod tests;
