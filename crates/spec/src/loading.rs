//! Loading: what was measured of it, and what a calibration makes of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::FeatureCoefficient;

/// A load of a file that the system did not have in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ColdLoad {
    /// From open to usable.
    pub ns: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// What the load read from storage; `None` where the system does not tell.
    pub storage_bytes: Option<u64>,
    /// Why the load was not cold, or not known to be; `None` where it was.
    pub doubt: Option<String>,
}

/// What is known of the times of loading, by regression over loads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadFit {
    /// From open to usable, of a file in memory or of synthetic weights.
    pub warm: LoadTerm,
    /// What the first pass takes beyond a later one: weights are repacked in it.
    pub first_pass: Option<LoadTerm>,
    /// Rate at which cold loads read their files.
    pub storage_bytes_per_second: Option<f64>,
}

/// One regression of loading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadTerm {
    /// Coefficients, in seconds per unit; none negative.
    pub features: Vec<FeatureCoefficient>,
    /// Loads behind it.
    pub n_observations: u32,
    /// Loads that are no rows, as their difference of two times was not above 0: noise left the
    /// other ones in.
    #[serde(default)]
    pub n_not_above_zero: u32,
    /// Median absolute error of held-out models; a fraction.
    pub held_out_mdape: Option<f64>,
    /// Half-width of the interval in log space.
    pub half_width: f64,
    /// Its nominal coverage.
    pub level: f64,
    /// Held-out groups behind both.
    pub n_groups: u32,
}
