//! The vocabulary of Foretoken: plain data that every other crate shares.
//!
//! Everything here is pure: no file is opened, no clock is read, nothing is printed.
//! Units are part of the field names (`_ns`, `_ms`, `_bytes`, `_bytes_per_second`); one
//! multiply-accumulate counts as 2 FLOP; errors are fractions (0.05 is 5 %).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod architecture;
pub mod calibration;
pub mod details;
pub mod device;
pub mod device_spec;
pub mod energy;
pub mod fit_devices;
pub mod here;
pub mod import;
pub mod loading;
pub mod measurement;
pub mod model;
pub mod op;
pub mod prediction;
pub mod probed;
pub mod profile;
pub mod quant;
pub mod report;
pub mod role;
pub mod speed;
pub mod timeline;
pub mod validation;
pub mod workload;

pub use architecture::*;
pub use calibration::*;
pub use details::*;
pub use device::*;
pub use device_spec::*;
pub use energy::*;
pub use fit_devices::*;
pub use here::*;
pub use import::*;
pub use loading::*;
pub use measurement::*;
pub use model::*;
pub use op::*;
pub use prediction::*;
pub use probed::*;
pub use profile::*;
pub use quant::*;
pub use report::*;
pub use role::*;
pub use speed::*;
pub use timeline::*;
pub use validation::*;
pub use workload::*;

/// Version of every file and JSON document that Foretoken writes; readers accept this one only
/// until a second version exists.
pub const SCHEMA_VERSION: u32 = 1;
