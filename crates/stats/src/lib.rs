//! Order statistics, the bootstrap, and error metrics. No dependencies, no panics: an empty
//! sample gives `None`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bootstrap;
mod error;
mod order;

pub use bootstrap::{SplitMix64, bootstrap_interval, bootstrap_std_error, median_interval};
pub use error::{
    ErrorInput, ErrorSummary, absolute_errors, signed_errors, summarise, summarise_each,
};
pub use order::{half_split_difference, mad, median, quantile};
