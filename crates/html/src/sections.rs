//! The parts of the pages, each from data to HTML.

pub(crate) mod coverage;
pub(crate) mod data;
pub(crate) mod design;
pub(crate) mod devices;
pub(crate) mod drift;
pub(crate) mod errors;
pub(crate) mod headline;
pub(crate) mod machine;
pub(crate) mod made_of;
pub(crate) mod metrics;
pub(crate) mod proof;
pub(crate) mod residuals;
pub(crate) mod roofline;
pub(crate) mod scatter;
pub(crate) mod terms;
pub(crate) mod worst;
