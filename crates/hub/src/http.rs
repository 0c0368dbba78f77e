//! One request: redirects, the token, repetitions, and what a status means.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{sleep, spawn};
use std::time::Duration;

use ureq::http::{HeaderMap, Uri};
use ureq::tls::{PemItem, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use crate::cache::io_error;
use crate::{HubError, Settings};

/// Most requests for one thing; hubs repeat what fails in passing.
pub(crate) const ATTEMPTS: u32 = 4;
/// Most redirects that are followed.
const MOST_REDIRECTS: usize = 10;
/// Longest `Retry-After` that is waited for; a longer one is told to the user.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// The connection to a hub and to the hosts that it redirects to.
#[derive(Debug)]
pub(crate) struct Http {
    agent: Agent,
    settings: Settings,
    origin: String,
}

/// A successful answer, its body not read yet.
pub(crate) struct Answer {
    /// 200, 206 or 416.
    pub(crate) status: u16,
    /// Where the last redirect led.
    pub(crate) url: String,
    /// What the hub itself said, before it redirected to another host.
    pub(crate) linked: Linked,
    pub(crate) body: Body,
    headers: HeaderMap,
}

/// What a hub says about a file beside its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Linked {
    pub(crate) commit: Option<String>,
    /// Entity tag without quotes.
    pub(crate) etag: Option<String>,
    /// Whether the tag is that of the stored object: then one of 64 digits is its SHA-256.
    pub(crate) is_stored_object: bool,
    pub(crate) size: Option<u64>,
}

/// A wait for an answer; its end is the end of the wait.
pub(crate) struct Watch {
    /// Dropped with the watch, which the thread that would speak notices.
    _done: Sender<()>,
}

/// Why a request failed, and whether another may not.
enum Failure {
    Final(HubError),
    Passing { error: HubError, wait: Option<Duration> },
}

impl Http {
    pub(crate) fn new(settings: Settings) -> Result<Self, HubError> {
        let Some(origin) = origin(&settings.endpoint) else {
            let problem = format!("`{}` is not the URL of a hub", settings.endpoint.escape_debug());
            return Err(HubError::Setting { variable: "HF_ENDPOINT", problem });
        };
        let builder = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("foretoken/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(RESOLVE_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(settings.patience))
            .timeout_per_read(Some(settings.patience));
        let builder = match &settings.certificates {
            Some(path) => builder.tls_config(trusting(path)?),
            None => builder,
        };
        let builder = if is_loopback(&origin) { builder.proxy(None) } else { builder };
        Ok(Self { agent: builder.build().into(), settings, origin })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether requests carry a token.
    pub(crate) fn has_token(&self) -> bool {
        self.settings.token.is_some()
    }

    /// Waits before the `n`th repetition, counted from 1, and says why.
    pub(crate) fn pause(&self, n: u32, reason: &HubError) {
        let wait = self.settings.first_wait.saturating_mul(1 << n.clamp(1, 8).saturating_sub(1));
        self.wait(wait, n, reason);
    }

    fn wait(&self, wait: Duration, n: u32, reason: &HubError) {
        let seconds = wait.as_secs_f64();
        let reason = reason.in_passing();
        self.settings.listener.tell(&format!(
            "{reason}; asking again in {seconds} s ({} of {ATTEMPTS} attempts failed)",
            n.min(ATTEMPTS)
        ));
        sleep(wait);
    }

    /// Says whom the program waits for, should the answer stay away until the guard is dropped.
    pub(crate) fn watch(&self, what: &str, url: &str) -> Watch {
        let (done, ended) = channel::<()>();
        let Settings { quiet_wait, listener, .. } = self.settings.clone();
        let host = origin(url).unwrap_or_default();
        let host = host.split("://").nth(1).unwrap_or_default().to_owned();
        let what = what.to_owned();
        spawn(move || {
            if ended.recv_timeout(quiet_wait) == Err(RecvTimeoutError::Timeout) {
                listener
                    .tell(&format!("{what}: still waiting for {host}, which is slow to answer"));
            }
        });
        Watch { _done: done }
    }

    /// Asks for a URL, or for a range of it; `what` is what errors name.
    pub(crate) fn get(
        &self,
        what: &str,
        url: &str,
        range: Option<(u64, Option<u64>)>,
    ) -> Result<Answer, HubError> {
        if self.settings.offline {
            return Err(HubError::Offline { what: what.to_owned() });
        }
        let mut attempt = 1;
        loop {
            let watch = self.watch(what, url);
            let answer = self.follow(what, url, range);
            drop(watch);
            match answer {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing { error, .. }) if attempt == ATTEMPTS => return Err(error),
                Err(Failure::Passing { error, wait: Some(wait) }) => {
                    self.wait(wait, attempt, &error);
                }
                Err(Failure::Passing { error, wait: None }) => self.pause(attempt, &error),
            }
            attempt += 1;
        }
    }

    fn follow(
        &self,
        what: &str,
        url: &str,
        range: Option<(u64, Option<u64>)>,
    ) -> Result<Answer, Failure> {
        let redirect =
            |problem| Failure::Final(HubError::Redirect { what: what.to_owned(), problem });
        let mut linked = Linked::default();
        let mut url = url.to_owned();
        let mut seen = Vec::new();
        while seen.len() <= MOST_REDIRECTS {
            if seen.contains(&url) {
                return Err(redirect("the redirects lead in a circle"));
            }
            seen.push(url.clone());
            let response = self.send(what, &url, range)?;
            let status = response.status().as_u16();
            let (parts, body) = response.into_parts();
            linked.learn(&parts.headers);
            match status {
                200 | 206 | 416 => {
                    linked.learn_last(&parts.headers);
                    return Ok(Answer { status, url, linked, body, headers: parts.headers });
                }
                301 | 302 | 303 | 307 | 308 => {
                    let target = text(&parts.headers, "location").and_then(|to| join(&url, to));
                    url = target.ok_or_else(|| redirect("a redirect leads to no URL"))?;
                }
                _ => return Err(self.failure(what, status, &parts.headers)),
            }
        }
        Err(redirect("too many redirects"))
    }

    fn send(
        &self,
        what: &str,
        url: &str,
        range: Option<(u64, Option<u64>)>,
    ) -> Result<ureq::http::Response<Body>, Failure> {
        let mut request = self.agent.get(url);
        if let Some((start, end)) = range {
            let end = end.map_or_else(String::new, |end| end.to_string());
            request = request.header("Range", format!("bytes={start}-{end}"));
        }
        // The token is the hub's: whoever it redirects to must not see it.
        if let Some(token) = &self.settings.token
            && origin(url).as_ref() == Some(&self.origin)
        {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|error| transport_failure(what, url, &error))
    }

    fn failure(&self, what: &str, status: u16, headers: &HeaderMap) -> Failure {
        let what = what.to_owned();
        let token = self.has_token();
        let code = text(headers, "x-error-code").unwrap_or_default();
        let error = match (status, code) {
            (_, "RepoNotFound") => HubError::NoRepository { what, token },
            (_, "RevisionNotFound") => HubError::NoRevision { what },
            (_, "EntryNotFound") => HubError::NoFile { what, candidates: Vec::new() },
            (_, "GatedRepo") | (403, _) => HubError::Refused { what, status, token },
            // The hub says 401, not 404, to strangers who ask for what does not exist.
            (401, _) if !token => HubError::NoRepository { what, token },
            (401, _) => HubError::Refused { what, status, token },
            (404 | 410, _) => HubError::NoFile { what, candidates: Vec::new() },
            (429, _) => {
                let seconds = text(headers, "retry-after").and_then(|text| text.parse().ok());
                let wait = seconds.map(Duration::from_secs);
                let error = HubError::RateLimited { what, seconds, token };
                return if wait.is_some_and(|wait| wait > LONGEST_WAIT) {
                    Failure::Final(error)
                } else {
                    Failure::Passing { error, wait }
                };
            }
            (408 | 500..=599, _) => {
                let error = HubError::Server { what, status };
                return Failure::Passing { error, wait: None };
            }
            _ => HubError::Protocol { what, problem: format!("status {status}") },
        };
        Failure::Final(error)
    }
}

impl Linked {
    /// What any answer on the way says.
    fn learn(&mut self, headers: &HeaderMap) {
        let own = |name| text(headers, name).map(str::to_owned);
        if self.commit.is_none() {
            self.commit = own("x-repo-commit");
        }
        if let (None, Some(etag)) = (&self.etag, text(headers, "x-linked-etag")) {
            self.etag = Some(bare_etag(etag).to_owned());
            self.is_stored_object = true;
        }
        if self.size.is_none() {
            self.size = text(headers, "x-linked-size").and_then(|text| text.parse().ok());
        }
    }

    /// What only the answer with the bytes says.
    fn learn_last(&mut self, headers: &HeaderMap) {
        if self.etag.is_none() {
            self.etag = text(headers, "etag").map(|etag| bare_etag(etag).to_owned());
        }
    }
}

impl Answer {
    /// Entity tag of the bytes themselves.
    pub(crate) fn etag(&self) -> Option<&str> {
        text(&self.headers, "etag").map(bare_etag)
    }

    /// First byte, last byte and size of a partial answer.
    pub(crate) fn range(&self) -> Option<(u64, u64, u64)> {
        let (range, size) =
            text(&self.headers, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?, size.trim().parse().ok()?))
    }

    /// Size of the whole file, by whatever this answer says.
    pub(crate) fn size(&self) -> Option<u64> {
        match self.status {
            200 => text(&self.headers, "content-length").and_then(|text| text.parse().ok()),
            206 => self.range().map(|(_, _, size)| size),
            _ => text(&self.headers, "content-range")?.strip_prefix("bytes */")?.parse().ok(),
        }
        .or(self.linked.size)
    }
}

/// What a body that ends too early is called.
pub(crate) fn cut_off(
    what: &str,
    received: u64,
    expected: u64,
    error: Option<std::io::Error>,
) -> HubError {
    let what = what.to_owned();
    match error {
        Some(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            HubError::Broken { what, reason: one_line(&error) }
        }
        _ => HubError::Truncated { what, received, expected },
    }
}

fn transport_failure(what: &str, url: &str, error: &ureq::Error) -> Failure {
    use std::io::ErrorKind as Kind;
    let passing = match error {
        ureq::Error::Timeout(timeout) => {
            !matches!(timeout, ureq::Timeout::Resolve | ureq::Timeout::Connect)
        }
        ureq::Error::Io(error) => matches!(
            error.kind(),
            Kind::ConnectionReset
                | Kind::ConnectionAborted
                | Kind::BrokenPipe
                | Kind::UnexpectedEof
                | Kind::TimedOut
                | Kind::WouldBlock
                | Kind::Interrupted
        ),
        ureq::Error::Protocol(_) | ureq::Error::BodyStalled => true,
        _ => false,
    };
    let what = what.to_owned();
    if passing {
        let reason = one_line(error);
        return Failure::Passing { error: HubError::Broken { what, reason }, wait: None };
    }
    let host = origin(url).unwrap_or_else(|| url.to_owned());
    Failure::Final(HubError::Unreachable { what, host, reason: one_line(error) })
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim().trim_start_matches("io: ").to_owned()
}

/// Trust in the certificates of a file.
fn trusting(path: &Path) -> Result<TlsConfig, HubError> {
    let pem = std::fs::read(path).map_err(|error| io_error(path, error))?;
    let roots = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let roots: Vec<_> = roots.collect();
    if roots.is_empty() {
        let problem = format!("{} holds no certificate", path.display());
        return Err(HubError::Setting { variable: "SSL_CERT_FILE", problem });
    }
    Ok(TlsConfig::builder().root_certs(roots.into()).build())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// An entity tag without the mark of weakness and the quotes.
fn bare_etag(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}

/// `scheme://host:port` of a URL, in lower case and with the port that is meant.
fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let port = match (uri.scheme_str()?, uri.port_u16()) {
        ("http" | "https", Some(port)) => port,
        ("http", None) => 80,
        ("https", None) => 443,
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?;
    Some(format!("{}://{}:{port}", uri.scheme_str()?, host.to_ascii_lowercase()))
}

fn is_loopback(origin: &str) -> bool {
    ["://127.", "://localhost:", "://[::1]:"].iter().any(|local| origin.contains(local))
}

/// Where a `Location` leads from a URL.
fn join(from: &str, to: &str) -> Option<String> {
    if to.starts_with("http://") || to.starts_with("https://") {
        return origin(to).map(|_| to.to_owned());
    }
    let (scheme, rest) = from.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    if let Some(path) = to.strip_prefix("//") {
        return Some(format!("{scheme}://{path}"));
    }
    if to.starts_with('/') {
        return Some(format!("{scheme}://{host}{to}"));
    }
    if to.is_empty() || to.contains("://") {
        return None;
    }
    let path = from.split(['?', '#']).next()?;
    let folder = path.rsplit_once('/').filter(|(folder, _)| folder.len() > scheme.len() + 2);
    let folder =
        folder.map_or_else(|| format!("{scheme}://{host}"), |(folder, _)| folder.to_owned());
    Some(format!("{folder}/{to}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_come_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        assert!(matches!(trusting(&path), Err(HubError::Io { .. })));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(trusting(&path).unwrap_err().to_string().contains("holds no certificate"));
        // The shape of a certificate is not looked at before a connection needs it.
        let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, pem).unwrap();
        assert!(trusting(&path).is_ok());
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        assert_eq!(origin("https://Hub.co/a?b").as_deref(), Some("https://hub.co:443"));
        assert_eq!(origin("http://hub.co:8080").as_deref(), Some("http://hub.co:8080"));
        for url in ["", "hub.co", "ftp://hub.co", "https://", "/a"] {
            assert_eq!(origin(url), None, "{url}");
        }
    }

    #[test]
    fn locations_are_joined() {
        for (to, wanted) in [
            ("https://cdn.co/x", Some("https://cdn.co/x")),
            ("/api/x?y=1", Some("https://hub.co/api/x?y=1")),
            ("//cdn.co/x", Some("https://cdn.co/x")),
            ("x", Some("https://hub.co/a/x")),
            ("ftp://cdn.co/x", None),
            ("", None),
        ] {
            assert_eq!(join("https://hub.co/a/b?q=/c", to).as_deref(), wanted, "{to}");
        }
    }

    #[test]
    fn etags_lose_their_dress() {
        assert_eq!(bare_etag("W/\"a-b\""), "a-b");
        assert_eq!(bare_etag("\"a\""), "a");
        assert_eq!(bare_etag("a"), "a");
    }
}
