//! What every meter answers.

use std::time::{Duration, Instant};

use crate::MeterError;

/// Which interface a number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Running Average Power Limit: energy counters of the processor, by Linux's powercap.
    Rapl,
    /// Power monitors of a Jetson board, by Linux's hwmon or iio.
    Ina3221,
    /// NVIDIA Management Library: energy counter or power of a graphics card.
    Nvml,
    /// `powermetrics` of macOS: processor, graphics and neural engine.
    Powermetrics,
    /// What a battery gives while it discharges: the whole machine.
    Battery,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Rapl, Self::Ina3221, Self::Nvml, Self::Powermetrics, Self::Battery];

    /// The name in data and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rapl => "rapl",
            Self::Ina3221 => "ina3221",
            Self::Nvml => "nvml",
            Self::Powermetrics => "powermetrics",
            Self::Battery => "battery",
        }
    }
}

/// What a meter said, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// When it was read, on the monotonic clock.
    pub at: Instant,
    /// What it said.
    pub value: Value,
    /// Time since the meter began of whose energy it said nothing that could be read.
    pub lost: Duration,
}

impl Reading {
    /// Said now.
    pub(crate) fn now(value: Value) -> Self {
        Self { at: Instant::now(), value, lost: Duration::ZERO }
    }
}

/// What a meter counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Joules since some moment; never falls, except where the counter was reset.
    Joules(f64),
    /// Watts now.
    Watts(f64),
}

/// Something that tells energy or power.
pub trait Meter: Send {
    /// The interface.
    fn source(&self) -> Source;

    /// What is counted, as a person would name it: `package-0 + dram`.
    fn name(&self) -> &str;

    /// How often the number is renewed: over a few of these it means nothing.
    fn resolution(&self) -> Duration;

    /// Reads it.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds no plausible number.
    fn read(&mut self) -> Result<Reading, MeterError>;
}
