//! The design of a calibration: which synthetic models to run, with which workloads, and in which
//! order.
//!
//! A mini-model has the layers of a real model, but few of them, and each layer stores its
//! matrices in another tensor type. The probes time every matmul in place, so that one load
//! serves all types at once. The widths and head shapes are spread over what real models have
//! without repeating any of the catalogue:
//!
//! - widths that are not multiples of 256 fall off the fast kernels (SmolLM2-135M, -360M);
//! - head counts from few to many, with and without grouped queries, for attention and its cache;
//! - score matrices from a fraction of the last-level cache to more than all of it.
//!
//! Types whose kernel has no tiles are many times slower per row: they get mini-models of their
//! own with short prompts, which is enough as their time is linear in the rows.
//!
//! Not all of them fit into a minute and a half. [`Design::choose`] takes the load that promises
//! most per second: the largest drop of the expected error on [`targets`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod choose;
mod information;
mod minis;
mod single;
mod targets;

pub use choose::{Candidate, Choice, Design, State};
pub use minis::{MiniPlan, mini_models};
pub use single::single_type_minis;
pub use targets::{TargetPass, targets};
