//! Why a device cannot be named or read.

use std::io;
use std::path::PathBuf;

/// Text with control characters written out, and quotes as they are.
fn one_line(text: &str) -> String {
    text.chars().fold(String::new(), |mut line, c| {
        match c.is_control() {
            true => line.extend(c.escape_debug()),
            false => line.push(c),
        }
        line
    })
}

/// Where in a file something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named.
    pub file: String,
    /// Line from 1, where it is known.
    pub line: Option<usize>,
    /// The device, where the file has several and it has an id.
    pub device: Option<String>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(device) = &self.device {
            write!(f, ", device `{}`", one_line(device))?;
        }
        Ok(())
    }
}

/// What is wrong with a device of a file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// No such field.
    #[error("unknown field `{}`", one_line(field))]
    UnknownField {
        /// The field.
        field: String,
        /// The field that was likely meant.
        nearest: Option<&'static str>,
    },
    /// A field that must be there.
    #[error("field `{field}` is missing")]
    MissingField {
        /// The field.
        field: &'static str,
        /// What to write.
        remedy: String,
    },
    /// A value of another type.
    #[error("field `{field}` must be {expected}, found {}", one_line(found))]
    WrongType {
        /// The field.
        field: String,
        /// What it must be.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A figure that no device has.
    #[error("field `{field}`: {reason}")]
    Impossible {
        /// The field.
        field: String,
        /// Why it cannot be.
        reason: String,
        /// What to write instead.
        remedy: String,
    },
    /// Two devices of one id.
    #[error("a second device with the id `{}`", one_line(id))]
    Duplicate {
        /// The id.
        id: String,
    },
}

/// Why there is no device. Each message is one line; [`DeviceError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not in the catalogue.
    #[error("unknown device `{}`", one_line(name))]
    UnknownDevice {
        /// What was asked for.
        name: String,
        /// The most similar ids, best first.
        nearest: Vec<&'static str>,
    },
    /// The embedded list cannot be read: a mistake in this program.
    #[error("the built-in list of devices is damaged ({0}); this is a mistake in the program")]
    Catalogue(String),
    /// The operating system refused.
    #[error("{}: cannot be read: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// A file of another kind.
    #[error("{}: neither a .toml nor a .json nor a .csv file", .0.display())]
    UnknownFormat(PathBuf),
    /// Not the format that its name promises.
    #[error("{place}: not valid {format}: {reason}")]
    Syntax {
        /// Where.
        place: Place,
        /// Name of the format.
        format: &'static str,
        /// What the parser said, in one line.
        reason: String,
    },
    /// Nothing in it.
    #[error("{0}: holds no device")]
    Empty(String),
    /// Several devices where one is needed.
    #[error("{file}: holds {} devices where one is needed", ids.len())]
    Several {
        /// The file.
        file: String,
        /// Their ids.
        ids: Vec<String>,
    },
    /// A device that a file of several does not hold.
    #[error("{file}: holds no device `{}`", one_line(id))]
    NotInFile {
        /// The file.
        file: String,
        /// What was asked for.
        id: String,
        /// The ids that it has.
        ids: Vec<String>,
    },
    /// The same field twice in one object.
    #[error("{place}: the field `{}` is there twice", one_line(field))]
    Twice {
        /// Where.
        place: Place,
        /// The field.
        field: String,
    },
    /// A device that cannot be.
    #[error("{place}: {problem}")]
    Wrong {
        /// Where.
        place: Place,
        /// What.
        problem: Box<Problem>,
    },
}

impl DeviceError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownDevice { nearest, .. } => unknown_hint(nearest),
            Self::Catalogue(_) => "report it".into(),
            Self::Io { .. } => return None,
            Self::UnknownFormat(_) => {
                "give a file whose name ends in .toml, .json or .csv, or a device of `foretoken \
                 devices`"
                    .into()
            }
            Self::Syntax { .. } => "correct the file; docs/devices.md shows an example".into(),
            Self::Empty(_) => {
                "write at least id, kind and mem_bandwidth_gbps; docs/devices.md shows an example"
                    .into()
            }
            Self::Several { file, ids } | Self::NotInFile { file, ids, .. } => {
                let names: Vec<_> = ids.iter().take(3).map(|id| format!("{file}#{id}")).collect();
                format!("name one of them: {}", names.join(" or "))
            }
            Self::Twice { .. } => "leave one of them out".into(),
            Self::Wrong { problem, .. } => problem.hint(),
        })
    }
}

impl Problem {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::UnknownField { nearest: Some(nearest), .. } => {
                format!("did you mean `{nearest}`?")
            }
            Self::UnknownField { nearest: None, .. } => {
                format!("the fields are {}", crate::fields::names().join(", "))
            }
            Self::MissingField { remedy, .. } | Self::Impossible { remedy, .. } => remedy.clone(),
            Self::WrongType { expected, .. } => format!("write {expected}"),
            Self::Duplicate { .. } => "give every device an id of its own".into(),
        }
    }
}

fn unknown_hint(nearest: &[&str]) -> String {
    match nearest {
        [] => "`foretoken devices` lists the catalogue; a device of your own goes into a .toml, \
               .json or .csv file"
            .into(),
        names => {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("did you mean {}? `foretoken devices` lists all", names.join(" or "))
        }
    }
}
