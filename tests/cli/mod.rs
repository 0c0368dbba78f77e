//! One module per area.

mod bad_calibrations;
mod bad_files;
mod bad_requests;
mod calibrate;
mod device_spec;
mod devices;
mod energy;
mod gpu;
mod help;
mod hub;
mod import;
mod inspect;
mod llama_bench;
mod measure;
mod predict;
mod probe;
mod profile;
mod report;
mod schema;
mod synth;
mod unseen;
mod validate;
