//! Models by name from the Hugging Face hub: `hf:org/repo[/file.gguf][@revision]`.
//!
//! | question | answer |
//! | --- | --- |
//! | which file of a repository is meant? | [`Hub::pick`] |
//! | what model is it? | [`Hub::header`], a `Read + Seek` that fetches what is read and no more; [`Hub::config`] |
//! | where is it on this disk? | [`Hub::download`], resumed, checked, and kept where the tools of Hugging Face keep it |
//!
//! The cache's layout is that of `hf-hub` (`blobs`, `snapshots`, `refs`), so that Python finds
//! what this crate downloads and this crate finds what Python did. Requests go through `ureq`, the
//! HTTP client of `hf-hub`, in place of its own downloads: those tell neither the entity tag nor
//! the range of an answer, check no checksum and honour no `Retry-After`.
//!
//! `hf-hub` stays on its 0.5 line: 1.0 starts an interrupted download from zero, and requires
//! tokio, reqwest, the Xet client and a second TLS library, some 230 crates and minutes of
//! building, for requests that are made one after the other.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod cache;
mod error;
mod http;
mod hub;
mod name;
mod pick;
mod range;
mod settings;

pub use error::HubError;
pub use hub::{Hub, RepoFile};
pub use name::HubRef;
pub use pick::Pick;
pub use range::RangeReader;
pub use settings::{Listener, Settings};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
