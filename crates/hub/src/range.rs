//! A file of the hub as `Read + Seek`: what is read is fetched, in growing chunks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use ureq::BodyReader;

use crate::HubError;
use crate::http::{ATTEMPTS, Answer, Http, cut_off};

/// Size of the first request. Headers of models without a vocabulary are smaller.
const FIRST_CHUNK: u64 = 1 << 20;
/// Requests double up to this size: a vocabulary of 128,000 tokens takes 5 to 8 MB.
const LARGEST_CHUNK: u64 = 4 << 20;
/// Most bytes that are kept for reading again.
const MOST_KEPT: u64 = 64 << 20;
/// How far a server without ranges is read.
const FARTHEST: u64 = 64 << 20;

/// A file that is fetched while it is read.
///
/// The size is known from the first answer, so that seeking costs nothing. Errors of reading hold
/// a [`HubError`] ([`HubError::of_io`]).
pub struct RangeReader {
    what: String,
    size: u64,
    at: u64,
    fetched: u64,
    source: Source,
}

enum Source {
    /// A copy on this disk.
    Local(File),
    /// A server that answers range requests.
    Ranges(Ranges),
    /// A server that sends files from the start.
    Stream { body: BodyReader<'static>, kept: Vec<u8> },
}

struct Ranges {
    http: Arc<Http>,
    /// The address at the hub.
    origin: String,
    /// Where its redirects led; expires.
    url: String,
    /// Entity tag of the bytes, and that of the hub.
    etag: Option<String>,
    linked_etag: Option<String>,
    next_chunk: u64,
    /// Answers in a row that ended too early.
    cuts: u32,
    /// By first byte; they do not overlap.
    chunks: BTreeMap<u64, Vec<u8>>,
}

impl RangeReader {
    /// A file on this disk.
    pub(crate) fn local(what: &str, path: &Path) -> Result<Self, HubError> {
        let io = |error| HubError::Io { path: path.to_owned(), error };
        let file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let source = Source::Local(file);
        Ok(Self { what: what.to_owned(), size, at: 0, fetched: 0, source })
    }

    /// The first request for the file at a URL, and its answer unread.
    pub(crate) fn ask(http: &Http, what: &str, url: &str) -> Result<Answer, HubError> {
        http.get(what, url, Some((0, Some(FIRST_CHUNK - 1))))
    }

    /// The file behind the answer to [`RangeReader::ask`].
    pub(crate) fn open(
        http: Arc<Http>,
        what: &str,
        url: &str,
        answer: Answer,
    ) -> Result<Self, HubError> {
        let problem = "the answer does not tell the size of the file".to_owned();
        let what = what.to_owned();
        let Some(size) = answer.size() else { return Err(HubError::Protocol { what, problem }) };
        check_size(&what, answer.linked.size, size)?;
        if answer.status == 200 {
            let source = Source::Stream { body: answer.body.into_reader(), kept: Vec::new() };
            return Ok(Self { what, size, at: 0, fetched: 0, source });
        }
        let mut ranges = Ranges {
            http,
            origin: url.to_owned(),
            url: answer.url.clone(),
            etag: answer.etag().map(str::to_owned),
            linked_etag: answer.linked.etag.clone(),
            next_chunk: FIRST_CHUNK,
            cuts: 0,
            chunks: BTreeMap::new(),
        };
        let taken = if answer.status == 206 { ranges.take(&what, size, 0, answer) } else { Ok(0) };
        let fetched = match taken {
            // The first read asks again.
            Err(HubError::Truncated { .. } | HubError::Broken { .. }) => 0,
            taken => taken?,
        };
        Ok(Self { what, size, at: 0, fetched, source: Source::Ranges(ranges) })
    }

    /// Size of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the file that came over the network so far.
    pub fn bytes_fetched(&self) -> u64 {
        self.fetched
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, HubError> {
        let Self { what, size, at, fetched, source } = self;
        match source {
            Source::Local(file) => {
                let local = |error| HubError::Io { path: what.clone().into(), error };
                file.seek(SeekFrom::Start(*at)).map_err(local)?;
                file.read(buffer).map_err(local)
            }
            Source::Ranges(ranges) => {
                if ranges.chunk_at(*at).is_none() {
                    *fetched += ranges.fetch(what, *size, *at)?;
                }
                Ok(copy_prefix(buffer, ranges.chunk_at(*at).unwrap_or_default()))
            }
            Source::Stream { body, kept } => {
                let at = usize::try_from(*at).unwrap_or(usize::MAX);
                while kept.len() <= at {
                    *fetched += more(what, *size, body, kept)?;
                }
                Ok(copy_prefix(buffer, kept.get(at..).unwrap_or_default()))
            }
        }
    }
}

impl Ranges {
    /// The bytes from `at` to the end of the chunk that holds it.
    fn chunk_at(&self, at: u64) -> Option<&[u8]> {
        let (first, bytes) = self.chunks.range(..=at).next_back()?;
        let skip = usize::try_from(at - first).ok()?;
        bytes.get(skip..).filter(|rest| !rest.is_empty())
    }

    /// Fetches a chunk that begins at `at`; returns how many bytes came.
    fn fetch(&mut self, what: &str, size: u64, at: u64) -> Result<u64, HubError> {
        let kept: u64 = self.chunks.values().map(|bytes| bytes.len() as u64).sum();
        if kept > MOST_KEPT {
            self.chunks.clear();
        }
        let after = self.chunks.range(at..).next().map_or(size, |(first, _)| *first);
        let end = size.min(after).min(at.saturating_add(self.next_chunk));
        let mut attempt = 1;
        loop {
            let answer = self.ask(what, at, end)?;
            if answer.status != 206 {
                return Err(self.not_partial(what, size, &answer));
            }
            match self.take(what, size, at, answer) {
                Err(error @ (HubError::Truncated { .. } | HubError::Broken { .. }))
                    if attempt < ATTEMPTS =>
                {
                    self.http.pause(attempt, &error);
                    attempt += 1;
                }
                taken => return taken,
            }
        }
    }

    /// Asks where the last redirect led, and at the hub where that address has expired.
    fn ask(&mut self, what: &str, at: u64, end: u64) -> Result<Answer, HubError> {
        let range = Some((at, Some(end - 1)));
        if self.url == self.origin {
            return self.http.get(what, &self.origin, range);
        }
        if let Ok(answer) = self.http.get(what, &self.url, range) {
            return Ok(answer);
        }
        let answer = self.http.get(what, &self.origin, range)?;
        if answer.linked.etag != self.linked_etag {
            return Err(HubError::Changed { what: what.to_owned() });
        }
        answer.url.clone_into(&mut self.url);
        Ok(answer)
    }

    fn not_partial(&self, what: &str, size: u64, answer: &Answer) -> HubError {
        let what = what.to_owned();
        match answer.size() {
            Some(found) if found != size => HubError::Changed { what },
            _ if answer.etag() != self.etag.as_deref() => HubError::Changed { what },
            _ => {
                let problem = "a range request was answered by the whole file".to_owned();
                HubError::Protocol { what, problem }
            }
        }
    }

    /// Checks a partial answer and keeps its bytes; returns how many.
    fn take(&mut self, what: &str, size: u64, at: u64, answer: Answer) -> Result<u64, HubError> {
        let Some((first, last, total)) = answer.range() else {
            let problem = "a partial answer without Content-Range".to_owned();
            return Err(HubError::Protocol { what: what.to_owned(), problem });
        };
        let same_file = total == size && answer.etag() == self.etag.as_deref();
        if !same_file {
            return Err(HubError::Changed { what: what.to_owned() });
        }
        if first != at || last < first || last >= size {
            let problem = format!("bytes {first} to {last} where those from {at} were asked for");
            return Err(HubError::Protocol { what: what.to_owned(), problem });
        }
        // A server may send more than was asked for; no more than the largest chunk is believed.
        let expected = (last - first + 1).min(LARGEST_CHUNK);
        let mut bytes = Vec::new();
        let _watch = self.http.watch(what, &self.url);
        let mut body = answer.body.into_reader().take(expected);
        let outcome = body.read_to_end(&mut bytes);
        let received = bytes.len() as u64;
        // What came before a cut is good; a server that cuts again and again is not.
        self.cuts = if received < expected { self.cuts + 1 } else { 0 };
        if received == 0 || self.cuts >= ATTEMPTS {
            return Err(cut_off(what, received, expected, outcome.err()));
        }
        self.chunks.insert(first, bytes);
        self.next_chunk = (self.next_chunk * 2).min(LARGEST_CHUNK);
        Ok(received)
    }
}

impl Read for RangeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        let n = self.read_some(buffer)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for RangeReader {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let target = match position {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        let before = "a seek to before the start of the file";
        self.at = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, before))?;
        Ok(self.at)
    }
}

impl std::fmt::Debug for RangeReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RangeReader")
            .field("what", &self.what)
            .field("size", &self.size)
            .field("at", &self.at)
            .field("fetched", &self.fetched)
            .finish_non_exhaustive()
    }
}

/// Reads some more of a file that comes from the start; returns how many bytes.
fn more(
    what: &str,
    size: u64,
    body: &mut BodyReader<'static>,
    kept: &mut Vec<u8>,
) -> Result<u64, HubError> {
    if kept.len() as u64 >= FARTHEST {
        return Err(HubError::TooFar { what: what.to_owned(), limit: FARTHEST });
    }
    let mut block = vec![0; 1 << 16];
    let received = kept.len() as u64;
    let n = body.read(&mut block).map_err(|error| cut_off(what, received, size, Some(error)))?;
    if n == 0 {
        return Err(cut_off(what, received, size, None));
    }
    kept.extend_from_slice(block.get(..n).unwrap_or_default());
    Ok(n as u64)
}

/// Two statements about a size must agree.
pub(crate) fn check_size(what: &str, linked: Option<u64>, found: u64) -> Result<(), HubError> {
    match linked {
        Some(expected) if expected != found => {
            Err(HubError::WrongSize { what: what.to_owned(), expected, found })
        }
        _ => Ok(()),
    }
}

fn copy_prefix(buffer: &mut [u8], bytes: &[u8]) -> usize {
    let n = buffer.len().min(bytes.len());
    if let (Some(to), Some(from)) = (buffer.get_mut(..n), bytes.get(..n)) {
        to.copy_from_slice(from);
    }
    n
}
