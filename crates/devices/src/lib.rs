//! Devices by their data sheets: the catalogue, users' own files, and what follows from the figures.
//!
//! The catalogue is data (`data/*.toml`), not code, and is read by the same functions as a user's
//! file: [`read_devices`] names what is unknown, impossible or in the wrong unit, and fills what
//! follows from clocks, units and bus width by the formulas of [`mod@derive`]. [`find`] answers one
//! device by id; [`require`] refuses a question that a device has no figures for.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod catalogue;
mod check;
pub mod derive;
mod enough;
mod error;
mod fields;
mod raw;
mod read;
mod words;

pub use catalogue::{catalogue, find, resolve};
pub use check::check_spec;
pub use enough::{NEEDS_CORES, NEEDS_PEAK, NotEnough, Question, missing, peaks, require};
pub use error::{DeviceError, Place, Problem};
pub use read::{DeviceFile, FileFormat, read_device_file, read_devices, write_toml};
