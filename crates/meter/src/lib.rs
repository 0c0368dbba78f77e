//! Energy meters of this machine, and joules between two moments.
//!
//! A [`Meter`] is read: a counter of joules, or watts of the moment. [`find`] looks for those that
//! there are and says why one that exists cannot be used. A [`Sampler`] turns either kind into one
//! thing, a [`Mark`] of joules since it began; the energy of a phase is the difference of two.
//! [`NvidiaCard`] tells what else a graphics card's driver knows of it.
//!
//! Everything that Linux tells is read through a [`Tree`], so that recorded trees stand in for
//! devices. Where there is no meter nothing is started and nothing is read.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod battery;
mod error;
mod find;
mod graphics;
mod ina3221;
mod integral;
mod nvml;
mod powercap;
mod powermetrics;
mod reading;
mod sampler;
#[cfg(test)]
mod testing;
mod tree;

pub use error::MeterError;
pub use find::{Found, System, Unusable, Wanted, find};
pub use graphics::{NvidiaCard, nvidia_cards};
pub use reading::{Meter, Reading, Source, Value};
pub use sampler::{Mark, MeterInfo, Sampler, Span};
pub use tree::{Folder, Tree};
