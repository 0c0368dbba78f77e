//! The cache that all tools of Hugging Face share.
//!
//! `models--org--repo/blobs/<etag>` holds the bytes, `snapshots/<commit>/<path>` links to them,
//! `refs/<revision>` names the commit. Where these lie is `hf-hub`'s to say.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use crate::name::is_file;
use crate::{HubError, HubRef};

/// How often a file that another process downloads is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long that process may do nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// One repository at one revision in the cache.
pub(crate) struct CachedRepo {
    files: CacheRepo,
    revision: String,
    refs: PathBuf,
    locks: PathBuf,
}

impl CachedRepo {
    pub(crate) fn new(cache: &Path, model: &HubRef) -> Self {
        let repo = repo_of(model);
        let folder = repo.folder_name();
        Self {
            refs: cache.join(&folder).join("refs"),
            locks: cache.join(".locks").join(&folder),
            revision: model.revision.clone(),
            files: Cache::new(cache.to_owned()).repo(repo),
        }
    }

    /// A file of this revision as far as this disk knows.
    pub(crate) fn file(&self, path: &str) -> Option<PathBuf> {
        let file = self.snapshot()?.join(path);
        file.is_file().then_some(file)
    }

    /// A file of a revision that can never change.
    pub(crate) fn fixed_file(&self, path: &str) -> Option<PathBuf> {
        if is_commit(&self.revision) { self.file(path) } else { None }
    }

    /// All files of this revision on this disk, with their sizes.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        let Some(root) = self.snapshot() else { return found };
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let (Ok(data), Ok(inside)) =
                    (fs::metadata(&path), path.strip_prefix(&root))
                {
                    let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
                    found.push((parts.join("/"), data.len()));
                }
            }
        }
        found.sort();
        found
    }

    fn snapshot(&self) -> Option<PathBuf> {
        let named = self.files.pointer_path(&self.revision);
        if named.is_dir() {
            return Some(named);
        }
        let commit = fs::read_to_string(self.refs.join(&self.revision)).ok()?;
        let commit = commit.trim();
        is_file(commit).then(|| self.files.pointer_path(commit)).filter(|folder| folder.is_dir())
    }

    /// Where the bytes of an entity tag are kept.
    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.files.blob_path(etag)
    }

    /// Where they are kept while they are not all there; the name that Python uses.
    pub(crate) fn partial(&self, etag: &str) -> PathBuf {
        self.files.blob_path(&format!("{etag}.incomplete"))
    }

    /// Holds a blob against other processes, as Python does, until the lock is dropped. Waits for
    /// a process that gets on with it; `waiting` is told how many bytes there are.
    pub(crate) fn lock(
        &self,
        what: &str,
        etag: &str,
        waiting: &mut dyn FnMut(u64),
    ) -> Result<File, HubError> {
        fs::create_dir_all(&self.locks).map_err(|error| io_error(&self.locks, error))?;
        let path = self.locks.join(format!("{etag}.lock"));
        let lock = File::options().create(true).append(true).open(&path);
        let lock = lock.map_err(|error| io_error(&path, error))?;
        let (mut bytes, mut since) = (0, Instant::now());
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                // Some network disks have no locks; better none than no model.
                Err(TryLockError::Error(_)) => return Ok(lock),
                Err(TryLockError::WouldBlock) => {}
            }
            let now = fs::metadata(self.partial(etag)).map_or(0, |data| data.len());
            if now != bytes {
                (bytes, since) = (now, Instant::now());
                waiting(bytes);
            }
            if since.elapsed() > PATIENCE {
                return Err(HubError::Busy { what: what.to_owned(), lock: path });
            }
            sleep(LOOK_EVERY);
        }
    }

    /// Makes a blob the file of a commit, and the commit that of the revision; returns the path.
    pub(crate) fn link(&self, commit: &str, path: &str, etag: &str) -> Result<PathBuf, HubError> {
        let pointer = self.files.pointer_path(commit).join(path);
        let folder = pointer.parent().unwrap_or(&pointer);
        fs::create_dir_all(folder).map_err(|error| io_error(folder, error))?;
        let up = "../".repeat(path.split('/').count() + 1);
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        if fs::read_link(&pointer).ok().as_ref() != Some(&target) {
            match fs::remove_file(&pointer) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error(&pointer, error));
                }
                _ => {}
            }
            point(&target, &self.blob(etag), &pointer)
                .map_err(|error| io_error(&pointer, error))?;
        }
        if self.revision != commit {
            self.files.create_ref(commit).map_err(|error| io_error(&self.refs, error))?;
        }
        Ok(pointer)
    }
}

/// The repository in the terms of `hf-hub`.
pub(crate) fn repo_of(model: &HubRef) -> Repo {
    Repo::with_revision(model.repo.clone(), RepoType::Model, model.revision.clone())
}

pub(crate) fn io_error(path: &Path, error: io::Error) -> HubError {
    HubError::Io { path: path.to_owned(), error }
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(unix)]
fn point(target: &Path, _blob: &Path, pointer: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(target, pointer) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

/// Without symbolic links the file itself stands in the snapshot, as Python does it.
#[cfg(not(unix))]
fn point(_target: &Path, blob: &Path, pointer: &Path) -> io::Result<()> {
    fs::hard_link(blob, pointer).or_else(|_| fs::copy(blob, pointer).map(|_| ()))
}
