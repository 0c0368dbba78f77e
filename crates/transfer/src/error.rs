//! What can go wrong.

/// Why a device's speeds cannot be modelled or predicted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// A device lacks a figure.
    #[error("`{device}` has too few figures to answer: {what} missing")]
    Missing {
        /// Id of the device.
        device: String,
        /// What is missing.
        what: &'static str,
    },
    /// A backend of which the model knows nothing.
    #[error("backend `{0}` is not modelled")]
    Backend(String),
    /// An engine of which the model knows nothing on this kind of processor.
    #[error("no measurements of {engine} on {backend}: known there are {known}")]
    Engine {
        /// What was asked for.
        engine: String,
        /// Where.
        backend: String,
        /// Engines that are known there.
        known: String,
    },
    /// A table cannot be read.
    #[error("{file}, line {line}: {reason}")]
    Table {
        /// File.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The model file is of another version.
    #[error("the cross-device model has version {found}, this program reads {expected}")]
    Version {
        /// In the file.
        found: u32,
        /// Of the program.
        expected: u32,
    },
    /// The model file is damaged.
    #[error("the cross-device model is damaged: {0}")]
    Damaged(String),
    /// Nothing to fit or to validate.
    #[error("no usable measurements: {0}")]
    Empty(String),
}

impl TransferError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { device, .. } => format!(
                "put it into a device file of your own beside what `foretoken devices --show \
                 {device} --format json` prints"
            ),
            Self::Backend(_) => "ask for cpu, cuda, metal, rocm, vulkan, sycl or opencl".into(),
            Self::Engine { .. } => {
                "ask for one of these, or add measurements and run `foretoken fit-devices`".into()
            }
            Self::Table { .. } => "see datasets/public/README.md for the columns".into(),
            Self::Version { .. } | Self::Damaged(_) => {
                "make it again with `foretoken fit-devices`".into()
            }
            Self::Empty(_) => "give --data FILE with rows that are not excluded".into(),
        }
    }
}
