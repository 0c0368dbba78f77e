//! A hub on the loopback interface that says what a test wants.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::{Hub, HubRef, Settings};

/// The commit that every answer names.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a client sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) range: Option<(u64, Option<u64>)>,
    pub(crate) token: Option<String>,
}

/// What the server answers.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes of the body that are really sent.
    pub(crate) send: usize,
    /// Silence before the body.
    pub(crate) pause: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), send: body.len(), body, pause: Duration::ZERO }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn cut_to(mut self, bytes: usize) -> Self {
        self.send = self.send.min(bytes);
        self
    }
}

/// A file as a hub serves it, whole or by range.
pub(crate) fn file(request: &Request, bytes: &[u8], etag: &str) -> Reply {
    part(request, bytes.len() as u64, etag, &|first, last| {
        bytes[first as usize..=last as usize].to_vec()
    })
}

/// The same of bytes that are made when they are asked for.
pub(crate) fn part(
    request: &Request,
    size: u64,
    etag: &str,
    bytes: &dyn Fn(u64, u64) -> Vec<u8>,
) -> Reply {
    let reply = match request.range {
        None => Reply::new(200, bytes(0, size - 1)),
        Some((first, _)) if first >= size => {
            Reply::new(416, "").with("Content-Range", format!("bytes */{size}"))
        }
        Some((first, last)) => {
            let last = last.unwrap_or(u64::MAX).min(size - 1);
            Reply::new(206, bytes(first, last))
                .with("Content-Range", format!("bytes {first}-{last}/{size}"))
        }
    };
    reply.with("ETag", format!("\"{etag}\"")).with("X-Repo-Commit", COMMIT)
}

/// A server that runs as long as the test.
pub(crate) struct Server {
    pub(crate) url: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers each request, counted from 0, by the handler.
    pub(crate) fn new(handler: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (handler, seen) = (Arc::new(handler), Arc::clone(&log));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                thread::spawn(move || {
                    let Some(request) = read_request(&stream) else { return };
                    let count = {
                        let mut log = seen.lock().unwrap();
                        log.push(request.clone());
                        log.len() - 1
                    };
                    write_reply(&stream, &handler(count, &request));
                });
            }
        });
        Self { url, log }
    }

    pub(crate) fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// A hub with this endpoint, impatient, its cache in a folder.
    pub(crate) fn hub(&self, cache: &Path) -> Hub {
        Hub::new(self.settings(cache)).unwrap()
    }

    pub(crate) fn settings(&self, cache: &Path) -> Settings {
        Settings {
            endpoint: self.url.clone(),
            token: None,
            cache: cache.to_owned(),
            certificates: None,
            offline: false,
            first_wait: Duration::from_millis(1),
            patience: Duration::from_secs(20),
            quiet_wait: Duration::from_secs(20),
            listener: crate::Listener::default(),
        }
    }
}

pub(crate) fn model() -> HubRef {
    HubRef::parse("hf:org/repo/q/m-Q4_K_M.gguf").unwrap()
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let mut request = Request { path, range: None, token: None };
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            return Some(request);
        }
        let (name, value) = line.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
                request.range = Some((first.parse().ok()?, last.parse().ok()));
            }
            "authorization" => request.token = Some(value.to_owned()),
            _ => {}
        }
    }
    None
}

/// The client may hang up whenever it has read enough.
fn write_reply(mut stream: &TcpStream, reply: &Reply) {
    let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| name == "Content-Length") {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if stream.write_all(format!("{head}\r\n").as_bytes()).is_ok() {
        thread::sleep(reply.pause);
        let _ = stream.write_all(&reply.body[..reply.send]);
    }
}
