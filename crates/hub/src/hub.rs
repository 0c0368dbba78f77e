//! The hub: listing, headers, configurations, downloads.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{Context, SHA256};
use serde::Deserialize;

use crate::cache::{CachedRepo, io_error, repo_of};
use crate::http::{ATTEMPTS, Answer, Http, Linked, cut_off};
use crate::name::is_file;
use crate::pick::{named, pick};
use crate::range::check_size;
use crate::{HubError, HubRef, Pick, RangeReader, Settings};

/// Longest listing that is read: some 100,000 files.
const LONGEST_LISTING: u64 = 32 << 20;
/// Longest configuration that is read; real ones are a few kilobytes.
const LONGEST_CONFIG: u64 = 1 << 20;
/// Bytes between two reports of progress.
const BLOCK: usize = 1 << 18;
/// Progress that makes up for a broken connection.
const GOOD_PROGRESS: u64 = 1 << 20;

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoFile {
    /// Path inside the repository, with `/`.
    pub path: String,
    /// Size, where the server tells it.
    pub size: Option<u64>,
}

/// The hub of Hugging Face, or another that speaks like it, and the cache on this disk.
#[derive(Debug, Clone)]
pub struct Hub {
    http: Arc<Http>,
}

/// What a repository says about itself.
#[derive(Deserialize)]
struct Listing {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
}

/// A file as the hub describes it: what a download needs to know.
struct Description {
    commit: String,
    etag: String,
    is_sha256: bool,
    size: u64,
}

impl Hub {
    /// The hub and the cache that the environment names.
    ///
    /// # Errors
    /// As [`Settings::from_env`].
    pub fn from_env() -> Result<Self, HubError> {
        Self::new(Settings::from_env()?)
    }

    /// The hub and the cache of these settings.
    ///
    /// # Errors
    /// An endpoint that is no URL.
    pub fn new(settings: Settings) -> Result<Self, HubError> {
        Ok(Self { http: Arc::new(Http::new(settings)?) })
    }

    /// All files of a repository; without a connection, those on this disk.
    ///
    /// # Errors
    /// No such repository or revision, no access, no connection and nothing on the disk.
    pub fn files(&self, model: &HubRef) -> Result<Vec<RepoFile>, HubError> {
        let whole = HubRef { file: None, ..model.clone() };
        match self.listing(&whole) {
            Ok(listing) => {
                let inside = listing.siblings.into_iter().filter(|file| is_file(&file.rfilename));
                Ok(inside.map(|file| RepoFile { path: file.rfilename, size: file.size }).collect())
            }
            Err(error) if error.leaves_the_cache() => {
                let files = self.cached_repo(&whole).list();
                if files.is_empty() {
                    return Err(error);
                }
                let file = |(path, size)| RepoFile { path, size: Some(size) };
                Ok(files.into_iter().map(file).collect())
            }
            Err(error) => Err(error),
        }
    }

    /// The file that a name stands for. A name with a file stands for that file, or for the set of
    /// shards that it belongs to, and needs no request. A name without one stands for the only
    /// GGUF file of the repository, for the only one of quantization `quant`, or, where there is
    /// none, for its `config.json`.
    ///
    /// # Errors
    /// As [`Hub::files`]; nothing to pick, or several files and nothing to choose by.
    pub fn pick(&self, model: &HubRef, quant: Option<&str>) -> Result<Pick, HubError> {
        match &model.file {
            Some(file) => Ok(named(model, file)),
            None => pick(model, &self.files(model)?, quant),
        }
    }

    /// A GGUF file to read the header of: what is read is fetched, a copy on this disk is used.
    ///
    /// # Errors
    /// No such file, no access, no connection and no copy; not a GGUF file; a server that breaks
    /// its own word about the file.
    pub fn header(&self, model: &HubRef) -> Result<RangeReader, HubError> {
        let file = model.named_file()?;
        let what = model.to_string();
        let cached = self.cached_repo(model);
        if let Some(path) = cached.fixed_file(file) {
            return RangeReader::local(&what, &path).and_then(|reader| checked(&what, reader));
        }
        let url = self.url(model, file);
        let reader = match RangeReader::ask(&self.http, &what, &url) {
            Ok(answer) => match blob_of(&cached, &answer) {
                Some(path) => RangeReader::local(&what, &path)?,
                None => RangeReader::open(Arc::clone(&self.http), &what, &url, answer)?,
            },
            Err(error) => match cached.file(file) {
                Some(path) if error.leaves_the_cache() => RangeReader::local(&what, &path)?,
                _ => return Err(self.with_candidates(model, error)),
            },
        };
        checked(&what, reader)
    }

    /// The text of a repository's `config.json`, or of the named file. Kept in the cache.
    ///
    /// # Errors
    /// As [`Hub::download`]; a file that is far too long or not text.
    pub fn config(&self, model: &HubRef) -> Result<String, HubError> {
        let model =
            if model.file.is_some() { model.clone() } else { model.with_file("config.json") };
        let too_long = || HubError::TooLong { what: model.to_string(), limit: LONGEST_CONFIG };
        let path = self.download_at_most(&model, LONGEST_CONFIG, &mut |_, _| {})?;
        let file = File::open(&path).map_err(|error| io_error(&path, error))?;
        let mut text = String::new();
        file.take(LONGEST_CONFIG + 1)
            .read_to_string(&mut text)
            .map_err(|error| io_error(&path, error))?;
        if text.len() as u64 > LONGEST_CONFIG { Err(too_long()) } else { Ok(text) }
    }

    /// Downloads a file into the cache, from where an earlier download stopped, and returns its
    /// path; a file that is there already is not downloaded again. `progress` is told the bytes
    /// that are there and the size.
    ///
    /// # Errors
    /// No such file, no access, no connection and no copy; a size or a checksum other than the
    /// hub's; a full disk.
    pub fn download(
        &self,
        model: &HubRef,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf, HubError> {
        self.download_at_most(model, u64::MAX, progress)
    }

    /// The file on this disk, as far as it was downloaded before. Asks no server.
    pub fn cached(&self, model: &HubRef) -> Option<PathBuf> {
        self.cached_repo(model).file(model.file.as_deref()?)
    }

    fn download_at_most(
        &self,
        model: &HubRef,
        limit: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf, HubError> {
        let file = model.named_file()?;
        let what = model.to_string();
        let cached = self.cached_repo(model);
        if let Some(path) = cached.fixed_file(file) {
            return Ok(path);
        }
        let described = match self.describe(model, file) {
            Ok(described) => described,
            Err(error) => {
                return match cached.file(file) {
                    Some(path) if error.leaves_the_cache() => Ok(path),
                    _ => Err(self.with_candidates(model, error)),
                };
            }
        };
        let Description { commit, etag, size, .. } = &described;
        if *size > limit {
            return Err(HubError::TooLong { what, limit });
        }
        let blob = cached.blob(etag);
        if !has_size(&blob, *size) {
            let _lock = cached.lock(&what, etag, &mut |done| progress(done, *size))?;
            // Another process may have finished it.
            if !has_size(&blob, *size) {
                let partial = cached.partial(etag);
                let url = self.url(model, file);
                self.fetch(&what, &url, &described, &partial, progress)?;
                fs::rename(&partial, &blob).map_err(|error| io_error(&blob, error))?;
            }
        }
        progress(*size, *size);
        cached.link(commit, file, etag)
    }

    /// Asks for the first byte, and for what the hub says beside it.
    fn describe(&self, model: &HubRef, file: &str) -> Result<Description, HubError> {
        let what = model.to_string();
        let protocol =
            |problem: &str| HubError::Protocol { what: what.clone(), problem: problem.to_owned() };
        let answer = self.http.get(&what, &self.url(model, file), Some((0, Some(0))))?;
        let size = answer.size().ok_or_else(|| protocol("no size of the file"))?;
        check_size(&what, answer.linked.size, size)?;
        let Linked { commit, etag, is_stored_object, .. } = answer.linked;
        let commit = match commit {
            Some(commit) => Some(commit),
            None => self.listing(&HubRef { file: None, ..model.clone() })?.sha,
        };
        let commit = commit.ok_or_else(|| protocol("no commit of the repository"))?;
        let etag = etag.ok_or_else(|| protocol("no entity tag of the file"))?;
        // Both become names of files.
        if !is_plain(&commit) || !is_plain(&etag) {
            return Err(protocol("a commit or an entity tag with impossible characters"));
        }
        let is_sha256 = is_stored_object && is_hex(&etag, 64);
        Ok(Description { commit, etag, is_sha256, size })
    }

    /// Fills `partial` up to the size of the file, from where it ends.
    fn fetch(
        &self,
        what: &str,
        url: &str,
        described: &Description,
        partial: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), HubError> {
        let size = described.size;
        let mut target = Partial::open(partial, described)?;
        let mut attempt = 1;
        progress(target.done, size);
        while target.done < size {
            let before = target.done;
            let range = if before == 0 { None } else { Some((before, None)) };
            let answer = self.http.get(what, url, range)?;
            if answer.linked.etag.as_ref() != Some(&described.etag) {
                return Err(HubError::Changed { what: what.to_owned() });
            }
            check_size(what, Some(size), answer.size().unwrap_or(size))?;
            match answer.status {
                206 if answer.range().is_some_and(|(first, ..)| first == before) => {}
                200 => target.restart()?,
                _ => {
                    let problem = format!("another part of the file than that from byte {before}");
                    return Err(HubError::Protocol { what: what.to_owned(), problem });
                }
            }
            let from = target.done;
            let error = target.receive(what, answer, progress)?;
            if target.done >= size {
                break;
            }
            if from == before && target.done - before >= GOOD_PROGRESS {
                attempt = 0;
            }
            let cut = cut_off(what, target.done, size, error);
            if attempt == ATTEMPTS {
                return Err(cut);
            }
            attempt += 1;
            self.http.pause(attempt, &cut);
        }
        target.finish(what)
    }

    /// The missing file's error, with the names of those that are there.
    fn with_candidates(&self, model: &HubRef, error: HubError) -> HubError {
        match error {
            HubError::NoFile { what, .. } => match self
                .listing(&HubRef { file: None, ..model.clone() })
            {
                Ok(listing) => {
                    let paths = listing.siblings.into_iter().map(|file| file.rfilename);
                    let like = |path: &String| path.ends_with(".gguf") || path == "config.json";
                    HubError::NoFile { what, candidates: paths.filter(like).collect() }
                }
                Err(error @ (HubError::NoRepository { .. } | HubError::NoRevision { .. })) => error,
                Err(_) => HubError::NoFile { what, candidates: Vec::new() },
            },
            error => error,
        }
    }

    fn listing(&self, whole: &HubRef) -> Result<Listing, HubError> {
        let what = whole.to_string();
        let path = repo_of(whole).api_url();
        let url = format!("{}/api/{path}?blobs=true", self.http.settings().endpoint);
        let answer = self.http.get(&what, &url, None).map_err(|error| match error {
            HubError::NoFile { what, .. } => {
                HubError::NoRepository { what, token: self.http.has_token() }
            }
            error => error,
        })?;
        let body = answer.body.into_reader().take(LONGEST_LISTING);
        serde_json::from_reader(io::BufReader::new(body)).map_err(|error| {
            let problem = format!("no listing of a repository ({error})");
            HubError::Protocol { what, problem }
        })
    }

    fn url(&self, model: &HubRef, file: &str) -> String {
        let repo = repo_of(model);
        let mut url = format!(
            "{}/{}/resolve/{}",
            self.http.settings().endpoint,
            repo.url(),
            repo.url_revision()
        );
        for part in file.split('/') {
            url.push('/');
            for byte in part.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    url.push(char::from(byte));
                } else {
                    let _ = write!(url, "%{byte:02X}");
                }
            }
        }
        url
    }

    fn cached_repo(&self, model: &HubRef) -> CachedRepo {
        CachedRepo::new(&self.http.settings().cache, model)
    }
}

/// A download that is not complete yet.
struct Partial<'a> {
    path: &'a Path,
    file: File,
    done: u64,
    size: u64,
    wanted: &'a str,
    sum: Option<Context>,
}

impl<'a> Partial<'a> {
    /// Opens what an earlier download left.
    fn open(path: &'a Path, described: &'a Description) -> Result<Self, HubError> {
        let io = |error| io_error(path, error);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| io_error(folder, error))?;
        }
        let file = File::options().create(true).read(true).append(true).open(path).map_err(io)?;
        let done = file.metadata().map_err(io)?.len();
        let sum = described.is_sha256.then(|| Context::new(&SHA256));
        let (size, wanted) = (described.size, described.etag.as_str());
        let mut partial = Self { path, file, done, size, wanted, sum };
        if done > size {
            partial.restart()?;
        } else {
            partial.add_what_is_there()?;
        }
        Ok(partial)
    }

    fn io(&self, error: io::Error) -> HubError {
        io_error(self.path, error)
    }

    fn add_what_is_there(&mut self) -> Result<(), HubError> {
        let Some(sum) = &mut self.sum else { return Ok(()) };
        let mut block = vec![0; BLOCK];
        loop {
            let n = self.file.read(&mut block).map_err(|error| io_error(self.path, error))?;
            if n == 0 {
                return Ok(());
            }
            sum.update(block.get(..n).unwrap_or_default());
        }
    }

    fn restart(&mut self) -> Result<(), HubError> {
        self.file.set_len(0).map_err(|error| self.io(error))?;
        self.file.seek(SeekFrom::Start(0)).map_err(|error| self.io(error))?;
        self.done = 0;
        self.sum = self.sum.as_ref().map(|_| Context::new(&SHA256));
        Ok(())
    }

    /// Writes a body to the file; returns why it ended too early, where it did.
    fn receive(
        &mut self,
        what: &str,
        answer: Answer,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<io::Error>, HubError> {
        let mut body = answer.body.into_reader();
        let mut block = vec![0; BLOCK];
        loop {
            let n = match body.read(&mut block) {
                Ok(0) => return Ok(None),
                Ok(n) => n,
                Err(error) => return Ok(Some(error)),
            };
            let bytes = block.get(..n).unwrap_or_default();
            if self.done + n as u64 > self.size {
                let (expected, found) = (self.size, self.done + n as u64);
                return Err(HubError::WrongSize { what: what.to_owned(), expected, found });
            }
            self.file.write_all(bytes).map_err(|error| self.io(error))?;
            if let Some(sum) = &mut self.sum {
                sum.update(bytes);
            }
            self.done += n as u64;
            progress(self.done, self.size);
        }
    }

    fn finish(self, what: &str) -> Result<(), HubError> {
        self.file.sync_all().map_err(|error| self.io(error))?;
        let Some(sum) = self.sum else { return Ok(()) };
        let found = sum.finish();
        let hex = found.as_ref().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        if hex.eq_ignore_ascii_case(self.wanted) {
            return Ok(());
        }
        fs::remove_file(self.path).map_err(|error| io_error(self.path, error))?;
        Err(HubError::Checksum { what: what.to_owned() })
    }
}

/// A reader whose file begins like a GGUF file, at its start.
fn checked(what: &str, mut reader: RangeReader) -> Result<RangeReader, HubError> {
    let mut found = Vec::new();
    let read = reader.by_ref().take(16).read_to_end(&mut found);
    let read = read.and_then(|_| reader.rewind());
    read.map_err(|error| match error.downcast::<HubError>() {
        Ok(error) => error,
        Err(error) => HubError::Broken { what: what.to_owned(), reason: error.to_string() },
    })?;
    if found.starts_with(b"GGUF") {
        return Ok(reader);
    }
    Err(HubError::NotGguf { what: what.to_owned(), found })
}

/// The complete copy of the bytes that an answer is about.
fn blob_of(cached: &CachedRepo, answer: &Answer) -> Option<PathBuf> {
    let etag = answer.linked.etag.as_deref().filter(|etag| is_plain(etag))?;
    let blob = cached.blob(etag);
    has_size(&blob, answer.size()?).then_some(blob)
}

fn has_size(path: &Path, size: u64) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() == size)
}

fn is_plain(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
