//! What can go wrong between a name and a model.

use std::io;
use std::path::PathBuf;

/// Most names that a message lists.
const MOST_LISTED: usize = 12;

/// Why a model of the hub cannot be used. Each message is one line, names the repository or the
/// file, and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Not the name of a model of the hub.
    #[error("`{}` does not name a model of the hub ({problem}); write hf:org/repo, hf:org/repo/file.gguf or hf:org/repo/file.gguf@revision", name.escape_debug())]
    Name {
        /// What was written.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An environment variable that cannot be meant.
    #[error("{variable}: {problem}; correct the variable or unset it")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Nowhere to keep files.
    #[error("no home directory to keep files of the hub in; set HF_HOME to a folder")]
    NoHome,
    /// No such repository, or one that hides from strangers.
    #[error("{what}: no such repository on the hub{}; check the name{}", if *.token { "" } else { ", or a private one" }, if *.token { "" } else { ", or set HF_TOKEN if it is private" })]
    NoRepository {
        /// What was asked for.
        what: String,
        /// Whether the request carried a token.
        token: bool,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{what}: the repository has no such revision; leave `@…` out for its main branch")]
    NoRevision {
        /// What was asked for.
        what: String,
    },
    /// The repository has no such file.
    #[error(
        "{what}: no such file in the repository{}",
        candidates_text("; it has ", candidates, "; check the name")
    )]
    NoFile {
        /// What was asked for.
        what: String,
        /// Files that can be named instead.
        candidates: Vec<String>,
    },
    /// The hub knows the repository and does not give it to this user.
    #[error("{what}: access refused ({status}); {}", if *.token { "accept the model's terms on its page, or set HF_TOKEN to a token that may read it" } else { "the repository is private or gated: set HF_TOKEN to a token that may read it" })]
    Refused {
        /// What was asked for.
        what: String,
        /// The status of the answer.
        status: u16,
        /// Whether the request carried a token.
        token: bool,
    },
    /// Too many requests, also after waiting.
    #[error("{what}: the hub limits the rate of requests; try again {}{}", .seconds.map_or_else(|| "later".to_owned(), |n| format!("in {n} s")), if *.token { "" } else { ", or set HF_TOKEN, which raises the limit" })]
    RateLimited {
        /// What was asked for.
        what: String,
        /// How long the server asked to wait.
        seconds: Option<u64>,
        /// Whether the request carried a token.
        token: bool,
    },
    /// The server failed, also when asked again.
    #[error("{what}: the server answers {status}; try again later")]
    Server {
        /// What was asked for.
        what: String,
        /// The status of the answer.
        status: u16,
    },
    /// No connection.
    #[error(
        "{what}: cannot reach {host} ({reason}) and no downloaded copy exists; check the network, or give the path of a file"
    )]
    Unreachable {
        /// What was asked for.
        what: String,
        /// The server.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// The user works offline.
    #[error(
        "{what}: not downloaded yet, and HF_HUB_OFFLINE forbids asking the hub; unset it, or give the path of a file"
    )]
    Offline {
        /// What was asked for.
        what: String,
    },
    /// The connection broke or stalled, also when made again.
    #[error(
        "{what}: the connection broke ({reason}); try again, a download continues where it stopped"
    )]
    Broken {
        /// What was asked for.
        what: String,
        /// What the system says.
        reason: String,
    },
    /// A body shorter than announced, also when asked again.
    #[error(
        "{what}: the answer ends after {received} of {expected} bytes; try again, a download continues where it stopped"
    )]
    Truncated {
        /// What was asked for.
        what: String,
        /// Bytes that came.
        received: u64,
        /// Bytes that were announced.
        expected: u64,
    },
    /// Two statements about a file's size disagree.
    #[error(
        "{what}: the server sends {found} bytes where the file has {expected}; try again, or check HF_ENDPOINT"
    )]
    WrongSize {
        /// What was asked for.
        what: String,
        /// The size that was announced first.
        expected: u64,
        /// The other size.
        found: u64,
    },
    /// The bytes are not those that the hub names.
    #[error("{what}: the checksum of the download is wrong, and it was deleted; download it again")]
    Checksum {
        /// What was asked for.
        what: String,
    },
    /// Another file took the place of the one being read.
    #[error("{what}: the file changed on the server while it was read; try again")]
    Changed {
        /// What was asked for.
        what: String,
    },
    /// Redirects without an end, or to nowhere.
    #[error("{what}: {problem}; try again later, or check HF_ENDPOINT")]
    Redirect {
        /// What was asked for.
        what: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// An answer that no hub gives.
    #[error("{what}: unexpected answer: {problem}; check HF_ENDPOINT")]
    Protocol {
        /// What was asked for.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// Not a model file.
    #[error("{what}: not a gguf file (it starts with `{}`); name a .gguf file of the repository", found.escape_ascii())]
    NotGguf {
        /// What was asked for.
        what: String,
        /// The first bytes.
        found: Vec<u8>,
    },
    /// The header of a file from a server without range requests does not end.
    #[error(
        "{what}: the server sends files only from the start, and the part that is needed is beyond {limit} bytes; download the file and give its path"
    )]
    TooFar {
        /// What was asked for.
        what: String,
        /// How far is read.
        limit: u64,
    },
    /// A configuration that is far too long.
    #[error("{what}: longer than {limit} bytes, which no config.json is; name another file")]
    TooLong {
        /// What was asked for.
        what: String,
        /// The most that is read.
        limit: u64,
    },
    /// A repository name where a file is needed.
    #[error("{what}: names no file; write hf:org/repo/file.gguf")]
    NoFileNamed {
        /// What was asked for.
        what: String,
    },
    /// Several files, and nothing to choose by.
    #[error("{what}: several files{}", candidates_text("; name one of ", candidates, ""))]
    Ambiguous {
        /// What was asked for.
        what: String,
        /// The files.
        candidates: Vec<String>,
    },
    /// No file of the quantization asked for.
    #[error(
        "{what}: no file of quantization {quant}{}",
        candidates_text("; name one of ", candidates, "")
    )]
    NoQuant {
        /// What was asked for.
        what: String,
        /// The quantization.
        quant: String,
        /// The files there are.
        candidates: Vec<String>,
    },
    /// Nothing in the repository that describes a model.
    #[error(
        "{what}: neither a .gguf file nor a config.json in the repository{}; name another one",
        candidates_text(", only ", candidates, "")
    )]
    NoModel {
        /// What was asked for.
        what: String,
        /// The files there are.
        candidates: Vec<String>,
    },
    /// A set of shards with a hole.
    #[error("{what}: {missing} is missing from the repository; name another file")]
    MissingShard {
        /// What was asked for.
        what: String,
        /// The first shard that is not there.
        missing: String,
    },
    /// Another process holds the file and makes no progress.
    #[error("{what}: another process downloads it and does not get on; end that process, or delete {}", lock.display())]
    Busy {
        /// What was asked for.
        what: String,
        /// The file that the process holds.
        lock: PathBuf,
    },
    /// The disk refused.
    #[error("{}: {error}; check the disk, or set HF_HUB_CACHE to another folder", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl HubError {
    /// The reason inside an error that a [`crate::RangeReader`] returned.
    pub fn of_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// What happened, without the remedy for the end of all attempts.
    pub(crate) fn in_passing(&self) -> String {
        self.to_string().split("; ").next().unwrap_or_default().to_owned()
    }

    /// Whether a copy on this disk may stand in: the server said nothing about the file.
    pub(crate) fn leaves_the_cache(&self) -> bool {
        matches!(
            self,
            Self::Offline { .. }
                | Self::Unreachable { .. }
                | Self::Broken { .. }
                | Self::Server { .. }
                | Self::RateLimited { .. }
        )
    }
}

impl From<HubError> for io::Error {
    fn from(error: HubError) -> Self {
        Self::other(error)
    }
}

fn candidates_text(before: &str, names: &[String], none: &str) -> String {
    if names.is_empty() {
        return none.to_owned();
    }
    let shown: Vec<_> = names.iter().take(MOST_LISTED).map(String::as_str).collect();
    let more = match names.len().saturating_sub(MOST_LISTED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    format!("{before}{}{more}", shown.join(", "))
}
