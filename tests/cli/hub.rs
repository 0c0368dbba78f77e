//! Models of the hub, through the binary and a small hub on the loopback interface.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::util::{Run, Sandbox, fixture};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with `org/tiny`, which has one GGUF file, and `org/config`, which has a `config.json`.
struct Hub {
    url: String,
    sent: Arc<AtomicUsize>,
}

impl Hub {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let model = std::fs::read(fixture("models/text.gguf")).unwrap();
        let config = std::fs::read(fixture("config.json")).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(&stream, &model, &config, &counter);
            }
        });
        Self { url, sent }
    }

    fn command(&self, sandbox: &Sandbox) -> Command {
        let mut command = sandbox.command();
        command
            .env("HF_ENDPOINT", &self.url)
            .env("HF_HOME", sandbox.path("hf"))
            .env_remove("HF_TOKEN")
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("HF_HUB_CACHE");
        command
    }

    fn run(&self, sandbox: &Sandbox, args: &[&str]) -> Run {
        Run::of(self.command(sandbox).args(args).output().unwrap(), args)
    }
}

fn answer(mut stream: &TcpStream, model: &[u8], config: &[u8], sent: &AtomicUsize) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut range = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(value) = line.to_lowercase().strip_prefix("range: bytes=") {
            let (first, last) = value.split_once('-').unwrap();
            range = Some((first.parse::<usize>().unwrap(), last.parse::<usize>().ok()));
        }
    }
    let file = |bytes: &[u8]| match range {
        None => (200, String::new(), bytes.to_vec()),
        Some((first, last)) => {
            let last = last.unwrap_or(usize::MAX).min(bytes.len() - 1);
            let range = format!("Content-Range: bytes {first}-{last}/{}\r\n", bytes.len());
            (206, range, bytes[first..=last].to_vec())
        }
    };
    let listing = |name: &str, size: usize| {
        let json =
            format!(r#"{{"sha":"{COMMIT}","siblings":[{{"rfilename":"{name}","size":{size}}}]}}"#);
        (200, String::new(), json.into_bytes())
    };
    let (status, more, body) = match path.split('?').next().unwrap_or_default() {
        p if p.starts_with("/api/models/org/tiny") => listing("text.gguf", model.len()),
        p if p.starts_with("/api/models/org/config") => listing("config.json", config.len()),
        p if p.ends_with("/text.gguf") => file(model),
        p if p.ends_with("/config.json") => file(config),
        _ => (404, String::new(), b"Repository not found".to_vec()),
    };
    sent.fetch_add(body.len(), Ordering::SeqCst);
    let head = format!(
        "HTTP/1.1 {status} Said\r\nConnection: close\r\nETag: \"one\"\r\nX-Repo-Commit: {COMMIT}\r\n\
         {more}Content-Length: {}\r\n\r\n",
        body.len()
    );
    // The client may hang up when it has read enough.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

#[test]
fn a_file_of_the_hub_is_described_like_the_same_file_here() {
    let (hub, sandbox) = (Hub::new(), Sandbox::new());
    let path = fixture("models/text.gguf");
    let here = sandbox.good(&["inspect", path.as_str(), "--format", "json"]);
    for name in ["hf:org/tiny", "hf:org/tiny/text.gguf", "hf:org/tiny/text.gguf@main"] {
        let there = hub.run(&sandbox, &["inspect", name, "--format", "json"]);
        assert_eq!(there.code, 0, "{name}: {}", there.stderr);
        assert_eq!(there.stdout, here.stdout, "{name}");
    }
    assert!(!sandbox.path("hf").join("hub/models--org--tiny/snapshots").join(COMMIT).exists());
}

#[test]
fn a_repository_without_a_model_file_is_its_configuration() {
    let (hub, sandbox) = (Hub::new(), Sandbox::new());
    let run =
        hub.run(&sandbox, &["inspect", "hf:org/config", "--quant", "Q8_0", "--format", "json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.json()["model"]["quant"], "Q8_0");
}

#[test]
fn the_shape_of_the_hub_is_written_in_any_quantization() {
    let (hub, sandbox) = (Hub::new(), Sandbox::new());
    for name in ["hf:org/config", "hf:org/tiny", "HF:org/tiny/text.gguf"] {
        let args = ["synth", name, "--quant", "Q8_0", "--out", "m.gguf", "--force"];
        let run = hub.run(&sandbox, &args);
        assert_eq!(run.code, 0, "{name}: {}", run.stderr);
        let report = sandbox.good(&["inspect", "m.gguf", "--format", "json"]).json();
        assert_eq!(report["model"]["quant"], "Q8_0", "{name}");
    }
}

#[test]
fn to_be_run_a_file_is_downloaded_once() {
    let (hub, sandbox) = (Hub::new(), Sandbox::new());
    let args = ["measure", "hf:org/tiny", "--prompt", "4", "--gen", "2", "--repeat", "1"];
    let args = [&args[..], &["--threads", "1", "--format", "json"]].concat();
    let first = hub.run(&sandbox, &args);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(first.json()[0]["prompt_tokens"], 4);
    let downloaded = hub.sent.load(Ordering::SeqCst);
    let second = hub.run(&sandbox, &args);
    assert_eq!(second.code, 0, "{}", second.stderr);
    let size = std::fs::metadata(fixture("models/text.gguf")).unwrap().len() as usize;
    let again = hub.sent.load(Ordering::SeqCst) - downloaded;
    // The second time the header is read again, and nothing is downloaded.
    assert!(downloaded >= size, "{downloaded} of {size}");
    assert!(again <= downloaded - size, "{again} after {downloaded} of {size}");
}

#[test]
fn what_the_hub_does_not_have_is_said_in_one_line() {
    let (hub, sandbox) = (Hub::new(), Sandbox::new());
    for (name, expected) in [
        ("hf:org/none", "org/none"),
        ("hf:org/tiny/other.gguf", "other.gguf"),
        ("hf:org", "hf:org/repo"),
        ("hf:", "hf:org/repo"),
    ] {
        let run = hub.run(&sandbox, &["inspect", name]);
        assert_eq!(run.code, 2, "{name}");
        assert!(run.stderr.contains(expected), "{name}: {}", run.stderr);
        let errors = run.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{}", run.stderr);
    }
}

#[test]
fn offline_is_said_at_once() {
    let (hub, sandbox) = (Hub::new(), Sandbox::new());
    let args = ["inspect", "hf:org/tiny"];
    let output = hub.command(&sandbox).env("HF_HUB_OFFLINE", "1").args(args).output().unwrap();
    let run = Run::of(output, &args);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("HF_HUB_OFFLINE"), "{}", run.stderr);
    assert_eq!(hub.sent.load(Ordering::SeqCst), 0);
}
