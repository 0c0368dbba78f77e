//! What a forward pass costs an engine: FLOP, bytes and calls of every operation.
//!
//! [`pass_cost`] is the single function that turns (model, engine, pass) into named features;
//! the fit and the prediction both call it, so they cannot drift apart. Everything is pure:
//! on a valid [`ModelSpec`](foretoken_spec::ModelSpec) nothing here can fail.
//! `docs/cost-model.md` has every formula with its symbols and sources.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod approximate;
mod attention;
mod class;
pub mod edgeprofiler;
mod engine;
mod features;
mod launches;
mod loading;
mod memory;
mod ops;
mod prepared;
pub mod readers;
mod roofline;

pub use approximate::approximations;
pub use class::{AttentionForm, KernelClass, KernelPath, Regime};
pub use engine::{EngineProfile, Isa, UnknownKvType, X86Level};
pub use features::Features;
pub use foretoken_spec::Engine;
pub use loading::{LoadFeature, first_pass_cost, load_cost};
pub use memory::{MemoryParts, batch_memory, kv_cache_bytes, memory_notes, memory_parts};
pub use ops::{Feature, OpCost, PassCost, attention_cost, batch_cost, pass_cost, sampling_cost};
pub use prepared::PreparedCost;
pub use readers::{KvLayout, LongestPosition, Reader, ReaderInfo, Unsupported, candle_reader};
pub use roofline::{Bounded, roofline};
