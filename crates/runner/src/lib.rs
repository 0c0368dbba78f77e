//! Runs models with candle and times them. The only crate that knows candle.
//!
//! An [`Engine`] loads models and a [`LoadedModel`] runs single passes; [`run_load`] measures the
//! workloads of one fresh load, [`run_session`] a shuffled list of loads with a fixed reference
//! workload around each. [`MockEngine`] stands in for a real engine on a fake clock.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod block_bench;
mod build_info;
mod candle_engine;
mod clock;
mod cold;
mod device;
mod device_clock;
mod energy;
mod engine;
mod environment;
mod error;
mod kernels;
mod layout;
mod load;
mod machine;
mod memory;
mod mock;
mod probe;
mod profile_run;
mod reader;
mod recording;
mod reference;
mod refuse;
mod run_delay;
mod run_device;
mod schedule;
mod session;
mod system_files;
mod threads;
mod usage;
mod workload_run;

pub use build_info::tool_info;
pub use candle_engine::{CandleEngine, Probing, SamplingMode};
pub use clock::rfc3339_utc;
pub use device::processor_info;
pub use energy::EnergyMeter;
pub use engine::{Engine, KernelPass, LoadedModel};
pub use environment::{environment_between, warnings_of as environment_warnings};
pub use error::RunError;
pub use load::{LoadPlan, SessionIds, WorkloadPlan, run_load};
pub use machine::MachineState;
pub use memory::{available_memory, check_memory};
pub use mock::{MockEngine, MockPass};
pub use profile_run::{
    ProfilePlan, ProfileProgress, ProfilePrompt, ProfileStage, TextCodec, run_profile,
};
pub use recording::Recording;
pub use refuse::{check_model, check_workload};
pub use run_device::{NoDevice, OpenDevice, RunDevice, devices_here};
pub use schedule::interleave;
pub use session::{Progress, SessionObserver, SessionPlan, SessionSummary, run_session};
pub use threads::{rerun_with_threads, threads_in_effect};
