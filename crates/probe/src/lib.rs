//! The running device: what the system says of it, and what plain loops achieve on it in seconds.
//!
//! [`detect`] reads `/proc`, `/sys` and kin under a root, so that recorded trees of other machines
//! are read as if they were this one. [`measure`] runs the loops: reading by cache level and number
//! of threads, arithmetic by type, the cost of threads, reading of a file. [`describe`] makes a
//! device of both and holds it against the catalogue.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod describe;
mod detect;
mod measure;
mod recognise;

pub use describe::{Description, describe};
pub use detect::{Tree, detect, detect_here};
pub use measure::{MeasurePlan, Stage, measure};
pub use recognise::{recognise, recognise_gpu};
