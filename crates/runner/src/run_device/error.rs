//! Why a device cannot be run on.

use foretoken_spec::Backend;

/// Why a device cannot be run on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoDevice {
    /// No such word.
    #[error("unknown device `{}`; known: cpu, cuda[:N], metal", .asked.escape_debug())]
    Unknown {
        /// What was asked for.
        asked: String,
    },
    /// More than one device at once.
    #[error("--device {}: candle's quantized readers keep a model on one device", .asked.escape_debug())]
    Several {
        /// What was asked for.
        asked: String,
    },
    /// The build has no such backend.
    #[error("--device {backend}: this program was built without `{backend}`")]
    NotBuilt {
        /// The backend.
        backend: Backend,
    },
    /// The driver is absent, or reports a failure.
    #[error("--device {backend}: no device can be used: {reason}")]
    Driver {
        /// The backend.
        backend: Backend,
        /// What the driver or its loader says, in one line.
        reason: String,
    },
    /// A number beyond the last device.
    #[error("--device cuda:{index}: the driver reports {count} device{}", if *.count == 1 { "" } else { "s" })]
    NoSuch {
        /// The number asked for.
        index: u32,
        /// Devices there are.
        count: u32,
    },
}

impl NoDevice {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { .. } => "`foretoken devices --here` lists what can be run on".into(),
            Self::Several { .. } => {
                "name one device; splitting a model over devices is not built in".into()
            }
            Self::NotBuilt { backend: Backend::Metal } if !cfg!(target_os = "macos") => {
                "Metal is there on macOS only; use --device cpu".into()
            }
            Self::NotBuilt { backend } => format!(
                "build it with `cargo build --release --features {backend}` (docs/gpu.md), or use \
                 --device cpu"
            ),
            Self::Driver { backend: Backend::Cuda, .. } => {
                "check with `nvidia-smi` that the driver runs and sees the card (docs/gpu.md), or \
                 use --device cpu"
                    .into()
            }
            Self::Driver { .. } => "use --device cpu".into(),
            Self::NoSuch { count: 0, .. } => "use --device cpu".into(),
            Self::NoSuch { count, .. } => {
                format!("numbers go from 0 to {}; see `foretoken devices --here`", count - 1)
            }
        }
    }
}
