//! One module per area.

mod bad_files;
mod bad_requests;
mod help;
mod inspect;
mod measure;
mod schema;
mod synth;
