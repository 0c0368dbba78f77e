//! Why a meter says nothing.

use std::io;

/// Why a meter cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeterError {
    /// The file exists and this user may not read it.
    #[error("{path}: readable by root only")]
    RootOnly {
        /// The file.
        path: String,
    },
    /// The file cannot be read for another reason.
    #[error("cannot read {path}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path}: `{text}` is not {expected}")]
    Unexpected {
        /// The file.
        path: String,
        /// Its text.
        text: String,
        /// What should be there.
        expected: &'static str,
    },
    /// There is nothing of this kind.
    #[error("{0}")]
    Absent(&'static str),
    /// The battery does not discharge, so its power is not the machine's.
    #[error("battery {battery} is {status}, not discharging")]
    NotDischarging {
        /// Name of the battery.
        battery: String,
        /// What it does.
        status: String,
    },
    /// The library of the graphics card.
    #[error("NVML: {0}")]
    Nvml(String),
    /// The program behind the meter.
    #[error("powermetrics: {0}")]
    Powermetrics(String),
}

impl MeterError {
    /// What to do about it, where anything can be done.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::RootOnly { path } if path.contains("powercap") => Some(
                "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj, until the next start \
                 of the machine; or run as root",
            ),
            Self::RootOnly { .. } => Some("run as root"),
            Self::NotDischarging { .. } => Some("unplug the machine to measure by its battery"),
            Self::Powermetrics(_) => Some("powermetrics needs root: run with sudo"),
            _ => None,
        }
    }

    /// Whether there is no such meter, rather than one that cannot be used.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent(_))
    }
}
