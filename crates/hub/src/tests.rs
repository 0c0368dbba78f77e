//! The hub against a server on the loopback interface.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use foretoken_gguf::synth::SyntheticGguf;
use foretoken_gguf::{mix, read_header};
use foretoken_spec::{ModelShape, ModelSource, QuantScheme};

use crate::testing::{COMMIT, Reply, Request, Server, file, model, part};
use crate::{Hub, HubError, HubRef, Listener, Pick};

const ETAG: &str = "6b3c";

/// Bytes that begin like a GGUF file and repeat nowhere.
fn bytes(n: usize) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend((0..).flat_map(|i: u32| i.wrapping_mul(2_654_435_761).to_le_bytes()).take(n - 4));
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn header_error(server: &Server) -> HubError {
    let cache = folder();
    let error = server.hub(cache.path()).header(&model()).unwrap_err();
    assert_one_line(&error);
    error
}

fn assert_one_line(error: &HubError) {
    let text = error.to_string();
    assert!(text.contains("hf:org/repo") && text.lines().count() == 1, "{text}");
}

fn quiet() -> impl FnMut(u64, u64) {
    |_, _| {}
}

fn read_all(hub: &Hub) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    let mut reader = hub.header(&model()).map_err(|error| error.to_string())?;
    reader.read_to_end(&mut all).map_err(|error| error.to_string())?;
    Ok(all)
}

#[test]
fn the_header_of_a_large_file_costs_a_few_megabytes() {
    let shape = ModelShape {
        architecture: "llama".into(),
        n_layers: 24,
        hidden_size: 2048,
        n_heads: 16,
        n_kv_heads: 4,
        head_dim: 128,
        intermediate_size: 5632,
        vocab_size: 32_000,
        context_length: 2048,
        tied_embeddings: false,
        rope_freqs: false,
        rope_freq_base: 10_000.0,
        rms_norm_eps: 1e-5,
        details: foretoken_spec::ShapeDetails::default(),
    };
    let spec = mix::quantized_spec("m", "m", ModelSource::Mini, shape, QuantScheme::Q4_K_M);
    let size = SyntheticGguf::new(&spec).len();
    assert!(size > 500_000_000, "{size}");
    let served = spec.clone();
    let server = Server::new(move |_, request| {
        part(request, size, ETAG, &|first, last| {
            let mut gguf = SyntheticGguf::new(&served);
            gguf.seek(SeekFrom::Start(first)).unwrap();
            let mut bytes = vec![0; (last - first + 1) as usize];
            gguf.read_exact(&mut bytes).unwrap();
            bytes
        })
    });
    let cache = folder();
    let mut reader = server.hub(cache.path()).header(&model()).unwrap();
    let header = read_header(&mut reader).unwrap();
    assert_eq!(header.tensors.len(), spec.tensors.len());
    assert_eq!((header.file_bytes, reader.size()), (size, size));
    assert!(reader.bytes_fetched() < 4 << 20, "{}", reader.bytes_fetched());
    assert_eq!(server.log().len(), 1);
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0, "a header leaves no files");
}

#[test]
fn reading_here_and_there_gives_the_bytes_of_the_file() {
    let all = bytes(9 << 20);
    let served = all.clone();
    let server = Server::new(move |_, request| file(request, &served, ETAG));
    let cache = folder();
    let hub = server.hub(cache.path());
    assert_eq!(read_all(&hub).unwrap(), all);
    // 1, 2, 4 and the rest.
    assert_eq!(server.log().len(), 4);
    let mut reader = hub.header(&model()).unwrap();
    for at in [8 << 20, 5, (9 << 20) - 3, (1 << 20) - 2, 7 << 20, 0] {
        reader.seek(SeekFrom::Start(at)).unwrap();
        let mut some = Vec::new();
        reader.by_ref().take(100).read_to_end(&mut some).unwrap();
        let at = at as usize;
        assert_eq!(some, all[at..all.len().min(at + 100)]);
    }
    assert!(reader.bytes_fetched() <= 9 << 20);
    assert_eq!(reader.seek(SeekFrom::End(10)).unwrap(), (9 << 20) + 10);
    assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
    assert!(reader.seek(SeekFrom::Current(-(1 << 40))).is_err());
}

#[test]
fn the_token_stays_with_the_hub() {
    let all = bytes(3 << 20);
    let linked = sha256(&all);
    let size = all.len();
    let served = all.clone();
    let cdn = Server::new(move |_, request| file(request, &served, "of-the-cdn"));
    let to = format!("{}/blob?signed=1", cdn.url);
    let server = Server::new(move |_, request| {
        let moved = Reply::new(307, "").with("Location", "/new/repo");
        if !request.path.starts_with("/new") {
            return moved;
        }
        Reply::new(302, "")
            .with("Location", &to)
            .with("X-Repo-Commit", COMMIT)
            .with("X-Linked-Etag", format!("\"{linked}\""))
            .with("X-Linked-Size", size)
    });
    let cache = folder();
    let mut settings = server.settings(cache.path());
    settings.token = Some("hf_secret".into());
    let hub = Hub::new(settings).unwrap();
    assert_eq!(read_all(&hub).unwrap(), all);
    let path = hub.download(&model(), &mut quiet()).unwrap();
    assert_eq!(fs::read(path).unwrap(), all);
    let sent = |log: Vec<Request>| log.into_iter().map(|request| request.token).collect::<Vec<_>>();
    assert!(sent(server.log()).iter().all(|token| token.as_deref() == Some("Bearer hf_secret")));
    assert!(cdn.log().len() >= 3);
    assert!(sent(cdn.log()).iter().all(Option::is_none));
    // The second chunk is asked for where the first one was, without the hub.
    assert_eq!(cdn.log()[1].range, Some((1 << 20, Some((3 << 20) - 1))));
    assert_eq!(server.log()[0].path, "/org/repo/resolve/main/q/m-Q4_K_M.gguf");
}

#[test]
fn an_expired_address_is_asked_for_again() {
    let all = bytes(3 << 20);
    let served = all.clone();
    let server = Server::new(move |count, request| {
        if request.path.starts_with("/signed") {
            return match request.path.as_str() {
                "/signed0" if count > 1 => Reply::new(403, "expired"),
                _ => file(request, &served, ETAG),
            };
        }
        let to = if count == 0 { "/signed0" } else { "/signed1" };
        Reply::new(302, "").with("Location", to).with("X-Linked-Etag", "\"linked\"")
    });
    let cache = folder();
    assert_eq!(read_all(&server.hub(cache.path())).unwrap(), all);
}

#[test]
fn redirects_end() {
    let circle = Server::new(|_, request| Reply::new(302, "").with("Location", &request.path));
    assert!(matches!(header_error(&circle), HubError::Redirect { .. }));
    let spiral = Server::new(|n, _| Reply::new(302, "").with("Location", format!("/{n}")));
    assert!(matches!(header_error(&spiral), HubError::Redirect { .. }));
    assert!(spiral.log().len() < 15);
    let nowhere = Server::new(|_, _| Reply::new(302, "").with("Location", "ftp://x/"));
    assert!(matches!(header_error(&nowhere), HubError::Redirect { .. }));
}

#[test]
fn what_statuses_mean() {
    let error = |status: u16, code: &'static str| {
        header_error(&Server::new(move |_, _| Reply::new(status, "").with("X-Error-Code", code)))
    };
    assert!(matches!(error(404, "RepoNotFound"), HubError::NoRepository { token: false, .. }));
    assert!(matches!(error(404, "RevisionNotFound"), HubError::NoRevision { .. }));
    let hidden = error(401, "").to_string();
    assert!(hidden.contains("no such repository") && hidden.contains("HF_TOKEN"), "{hidden}");
    for gated in [error(403, ""), error(401, "GatedRepo"), error(403, "GatedRepo")] {
        assert!(matches!(gated, HubError::Refused { .. }));
        assert!(gated.to_string().contains("HF_TOKEN"), "{gated}");
    }
    assert!(matches!(error(500, ""), HubError::Server { status: 500, .. }));
    assert!(matches!(error(418, ""), HubError::Protocol { .. }));
}

#[test]
fn a_refused_token_is_said_to_be_one() {
    let server = Server::new(|_, _| Reply::new(401, ""));
    let cache = folder();
    let mut settings = server.settings(cache.path());
    settings.token = Some("hf_old".into());
    let error = Hub::new(settings).unwrap().header(&model()).unwrap_err();
    assert!(error.to_string().contains("a token that may read it"), "{error}");
    assert!(!error.to_string().contains("hf_old"));
}

#[test]
fn a_missing_file_names_those_that_exist() {
    let server = Server::new(|_, request| {
        if request.path.starts_with("/api/models/org/repo/revision/main") {
            return Reply::new(
                200,
                r#"{"sha":"x","siblings":[{"rfilename":"a.gguf"},{"rfilename":"README.md"}]}"#,
            );
        }
        Reply::new(404, "").with("X-Error-Code", "EntryNotFound")
    });
    let error = header_error(&server).to_string();
    assert_eq!(error, "hf:org/repo/q/m-Q4_K_M.gguf: no such file in the repository; it has a.gguf");
    let nothing = Server::new(|_, _| Reply::new(404, ""));
    assert!(matches!(header_error(&nothing), HubError::NoRepository { .. }));
}

#[test]
fn requests_wait_as_long_as_asked_and_give_up_in_the_end() {
    let all = bytes(1000);
    let served = all.clone();
    let server = Server::new(move |count, request| match count {
        0 => Reply::new(429, "").with("Retry-After", 0),
        _ => file(request, &served, ETAG),
    });
    let cache = folder();
    let mut settings = server.settings(cache.path());
    // Whoever waits for this instead of what the server says never ends.
    settings.first_wait = Duration::MAX;
    assert_eq!(read_all(&Hub::new(settings).unwrap()).unwrap(), all);
    assert_eq!(server.log().len(), 2);

    let served = all.clone();
    let passing = Server::new(move |count, request| match count {
        0 => Reply::new(503, ""),
        1 => Reply::new(429, ""),
        _ => file(request, &served, ETAG),
    });
    assert_eq!(read_all(&passing.hub(cache.path())).unwrap(), all);
    assert_eq!(passing.log().len(), 3);

    let always = Server::new(|_, _| Reply::new(429, "").with("Retry-After", 0));
    assert!(matches!(header_error(&always), HubError::RateLimited { .. }));
    assert_eq!(always.log().len(), 4);

    let long = Server::new(|_, _| Reply::new(429, "").with("Retry-After", 3600));
    assert!(header_error(&long).to_string().contains("try again in 3600 s"));
    assert_eq!(long.log().len(), 1);
}

#[test]
fn waits_are_told_with_their_reason() {
    let all = bytes(1000);
    let served = all.clone();
    let server = Server::new(move |count, request| match count {
        0 => Reply::new(429, "").with("Retry-After", 0),
        1 => Reply::new(503, ""),
        _ => {
            let mut reply = file(request, &served, ETAG);
            reply.pause = Duration::from_millis(200);
            reply
        }
    });
    let cache = folder();
    let (told, heard) = std::sync::mpsc::channel();
    let mut settings = server.settings(cache.path());
    settings.quiet_wait = Duration::from_millis(20);
    settings.listener = Listener::new(move |line| told.send(line.to_owned()).unwrap());
    assert_eq!(read_all(&Hub::new(settings).unwrap()).unwrap(), all);
    let lines: Vec<String> = heard.iter().collect();
    let expected = [
        "the hub limits the rate of requests; asking again in 0 s (1 of 4 attempts failed)",
        "the server answers 503; asking again in",
        "still waiting for 127.0.0.1:",
    ];
    for words in expected {
        let says = |line: &String| line.starts_with("hf:org/repo/") && line.contains(words);
        assert!(lines.iter().any(says), "{words}: {lines:?}");
    }
}

#[test]
fn a_short_body_is_asked_for_again() {
    let all = bytes(3 << 20);
    let served = all.clone();
    let server = Server::new(move |count, request| match count {
        0 => file(request, &served, ETAG).cut_to(0),
        1 => file(request, &served, ETAG).cut_to(1000),
        _ => file(request, &served, ETAG),
    });
    let cache = folder();
    assert_eq!(read_all(&server.hub(cache.path())).unwrap(), all);

    let never = Server::new(|_, request| file(request, &bytes(5000), ETAG).cut_to(0));
    assert!(matches!(header_error(&never), HubError::Truncated { .. }));
    let trickle = Server::new(|_, request| file(request, &bytes(5000), ETAG).cut_to(3));
    assert!(matches!(header_error(&trickle), HubError::Truncated { .. }));
    assert!(trickle.log().len() < 20);
}

#[test]
fn a_silent_server_is_left() {
    let server = Server::new(|_, request| {
        let mut reply = file(request, &bytes(5000), ETAG);
        reply.pause = Duration::from_secs(5);
        reply
    });
    let cache = folder();
    let mut settings = server.settings(cache.path());
    settings.patience = Duration::from_millis(50);
    let error = Hub::new(settings).unwrap().header(&model()).unwrap_err();
    assert!(matches!(error, HubError::Broken { .. }), "{error}");
    assert_one_line(&error);
}

#[test]
fn a_file_that_changes_is_noticed() {
    let by_etag = Server::new(|count, request| {
        file(request, &bytes(3 << 20), if count == 0 { "one" } else { "two" })
    });
    let by_size = Server::new(|count, request| file(request, &bytes((3 << 20) + count), ETAG));
    let shrunk =
        Server::new(|count, request| file(request, &bytes((3 << 20) >> (4 * count)), ETAG));
    for server in [by_etag, by_size, shrunk] {
        let cache = folder();
        let mut reader = server.hub(cache.path()).header(&model()).unwrap();
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        let reason = HubError::of_io(&error).unwrap();
        assert!(matches!(reason, HubError::Changed { .. }), "{reason}");
        assert!(error.to_string().contains("changed on the server"), "{error}");
    }
}

#[test]
fn sizes_and_ranges_must_agree() {
    let size =
        Server::new(|_, request| file(request, &bytes(5000), ETAG).with("X-Linked-Size", 5001));
    assert!(matches!(header_error(&size), HubError::WrongSize { expected: 5001, found: 5000, .. }));
    let range = |range: &'static str| {
        Server::new(move |_, _| Reply::new(206, bytes(5000)).with("Content-Range", range))
    };
    for wrong in ["bytes 1-5000/9000", "bytes 0-9000/5000", "bytes 0-4999/*", "bytes 9-1/5000", "x"]
    {
        assert!(matches!(header_error(&range(wrong)), HubError::Protocol { .. }), "{wrong}");
    }
    let partial = Server::new(|_, _| Reply::new(206, bytes(5000)));
    assert!(matches!(header_error(&partial), HubError::Protocol { .. }));
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let whole = |n: usize| Server::new(move |_, _| Reply::new(200, bytes(n)).with("ETag", ETAG));
    let server = whole(40 << 20);
    let cache = folder();
    let mut reader = server.hub(cache.path()).header(&model()).unwrap();
    assert_eq!(reader.seek(SeekFrom::End(0)).unwrap(), 40 << 20);
    reader.rewind().unwrap();
    let mut some = vec![0; 1 << 20];
    reader.read_exact(&mut some).unwrap();
    assert_eq!(some, bytes(1 << 20));
    reader.seek(SeekFrom::Start(10)).unwrap();
    reader.read_exact(&mut some[..20]).unwrap();
    assert_eq!(some[..20], bytes(30)[10..]);
    assert!(reader.bytes_fetched() < 2 << 20, "{}", reader.bytes_fetched());
    assert_eq!(server.log().len(), 1);

    let cut = Server::new(|_, _| Reply::new(200, bytes(5000)).cut_to(2));
    assert!(matches!(header_error(&cut), HubError::Truncated { received: 2, expected: 5000, .. }));
    // Downloads do without ranges too.
    let path = whole(5000).hub(cache.path()).download(&model(), &mut quiet()).unwrap_err();
    assert!(
        path.to_string().contains("no listing") || path.to_string().contains("commit"),
        "{path}"
    );
}

#[test]
fn what_is_no_gguf_is_shown() {
    let page = Server::new(|_, request| file(request, b"version https://git-lfs", ETAG));
    let error = header_error(&page);
    assert!(error.to_string().contains("starts with `version https://"), "{error}");
    let empty = Server::new(|_, _| Reply::new(416, "").with("Content-Range", "bytes */0"));
    assert!(matches!(header_error(&empty), HubError::NotGguf { found, .. } if found.is_empty()));
}

#[test]
fn no_connection_is_said_at_once() {
    let cache = folder();
    let server = Server::new(|_, _| Reply::new(200, ""));
    let mut settings = server.settings(cache.path());
    // A port that nothing listens on.
    settings.endpoint = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let error = Hub::new(settings.clone()).unwrap().header(&model()).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    assert_one_line(&error);
    settings.endpoint = "http://no-such-host.invalid".into();
    let error = Hub::new(settings.clone()).unwrap().files(&model()).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    settings.offline = true;
    let error = Hub::new(settings.clone()).unwrap().download(&model(), &mut quiet()).unwrap_err();
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    settings.endpoint = "huggingface.co".into();
    assert!(Hub::new(settings).unwrap_err().to_string().starts_with("HF_ENDPOINT: "));
}

#[test]
fn what_was_downloaded_works_without_a_connection() {
    let all = bytes(5000);
    let served = all.clone();
    let server = Server::new(move |_, request| file(request, &served, ETAG));
    let cache = folder();
    let mut settings = server.settings(cache.path());
    let path = server.hub(cache.path()).download(&model(), &mut quiet()).unwrap();
    settings.offline = true;
    let offline = Hub::new(settings.clone()).unwrap();
    settings.offline = false;
    settings.endpoint = "http://127.0.0.1:1".into();
    let unreachable = Hub::new(settings).unwrap();
    let asked = server.log().len();
    for hub in [offline, unreachable] {
        assert_eq!(hub.cached(&model()), Some(path.clone()));
        assert_eq!(hub.download(&model(), &mut quiet()).unwrap(), path);
        assert_eq!(read_all(&hub).unwrap(), all);
        let whole = HubRef::parse("hf:org/repo").unwrap();
        assert_eq!(hub.files(&whole).unwrap()[0].path, "q/m-Q4_K_M.gguf");
        assert_eq!(hub.pick(&whole, None).unwrap(), Pick::Gguf(vec![model()]));
        let other = HubRef::parse("hf:org/repo/other.gguf").unwrap();
        assert!(hub.header(&other).is_err());
        assert_eq!(hub.cached(&other), None);
    }
    assert_eq!(server.log().len(), asked);
}

#[test]
fn a_download_lies_where_hugging_face_looks() {
    let all = bytes(300_000);
    let etag = sha256(&all);
    let (served, tag) = (all.clone(), etag.clone());
    let server = Server::new(move |_, request| {
        file(request, &served, "other").with("X-Linked-Etag", format!("\"{tag}\""))
    });
    let cache = folder();
    let hub = server.hub(cache.path());
    let mut seen = Vec::new();
    let path = hub.download(&model(), &mut |done, total| seen.push((done, total))).unwrap();
    let repo = cache.path().join("models--org--repo");
    assert_eq!(path, repo.join("snapshots").join(COMMIT).join("q/m-Q4_K_M.gguf"));
    assert_eq!(fs::read(&path).unwrap(), all);
    #[cfg(unix)]
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("../../../blobs").join(&etag));
    assert_eq!(fs::read(repo.join("blobs").join(&etag)).unwrap(), all);
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(fs::read_dir(repo.join("blobs")).unwrap().count(), 1);
    assert!(seen.is_sorted() && seen.first() == Some(&(0, 300_000)));
    assert_eq!(seen.last(), Some(&(300_000, 300_000)));

    // Again: the bytes are there, and a header is read from them.
    let asked = server.log().len();
    assert_eq!(hub.download(&model(), &mut quiet()).unwrap(), path);
    assert_eq!(server.log().len(), asked + 1);
    let mut reader = hub.header(&model()).unwrap();
    reader.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(reader.bytes_fetched(), 0);
    // By its commit it needs no server at all.
    let asked = server.log().len();
    let fixed = HubRef { revision: COMMIT.into(), ..model() };
    assert_eq!(hub.download(&fixed, &mut quiet()).unwrap(), path);
    assert_eq!(hub.header(&fixed).unwrap().size(), 300_000);
    assert_eq!(server.log().len(), asked);
}

#[test]
fn a_download_continues_where_it_stopped() {
    let all = bytes(3 << 20);
    let etag = sha256(&all);
    let (served, tag) = (all.clone(), etag.clone());
    // The probe, then two connections that break: one in this run, one that ends the run.
    let server = Server::new(move |_, request| {
        let reply = file(request, &served, "x").with("X-Linked-Etag", format!("\"{tag}\""));
        match request.range {
            Some((0, Some(0))) => reply,
            None => reply.cut_to(1 << 20),
            Some((first, _)) if first < 2 << 20 => reply.cut_to(1 << 20),
            Some(_) => reply,
        }
    });
    let cache = folder();
    let path = server.hub(cache.path()).download(&model(), &mut quiet()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), all);
    let ranges: Vec<_> = server.log().into_iter().map(|request| request.range).collect();
    assert_eq!(ranges, [Some((0, Some(0))), None, Some((1 << 20, None)), Some((2 << 20, None))]);

    // What an earlier process left is used, whoever wrote it.
    let cache = folder();
    let blobs = cache.path().join("models--org--repo/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let partial = blobs.join(format!("{etag}.incomplete"));
    fs::write(&partial, &all[..2_500_000]).unwrap();
    let mut first = None;
    let hub = server.hub(cache.path());
    let path = hub.download(&model(), &mut |done, _| first = first.or(Some(done))).unwrap();
    assert_eq!((fs::read(&path).unwrap(), first), (all, Some(2_500_000)));
    assert_eq!(server.log().last().unwrap().range, Some((2_500_000, None)));
    assert!(!partial.exists());
}

#[test]
fn wrong_bytes_are_not_kept() {
    let server = Server::new(|_, request| {
        file(request, &bytes(5000), "x").with("X-Linked-Etag", sha256(b"other"))
    });
    let cache = folder();
    let error = server.hub(cache.path()).download(&model(), &mut quiet()).unwrap_err();
    assert!(matches!(error, HubError::Checksum { .. }), "{error}");
    assert_one_line(&error);
    let repo = cache.path().join("models--org--repo");
    assert_eq!(fs::read_dir(repo.join("blobs")).unwrap().count(), 0);
    assert!(!repo.join("snapshots").exists());
}

#[test]
fn a_download_that_never_ends_well_is_given_up() {
    let truncated = Server::new(|_, request| match request.range {
        Some((0, Some(0))) => file(request, &bytes(5000), ETAG),
        _ => file(request, &bytes(5000), ETAG).cut_to(10),
    });
    let cache = folder();
    let error = truncated.hub(cache.path()).download(&model(), &mut quiet()).unwrap_err();
    assert!(matches!(error, HubError::Truncated { received: 40, expected: 5000, .. }), "{error}");

    let longer = Server::new(|_, request| match request.range {
        Some((0, Some(0))) => file(request, &bytes(5000), ETAG),
        _ => file(request, &bytes(6000), ETAG),
    });
    let error = longer.hub(folder().path()).download(&model(), &mut quiet()).unwrap_err();
    assert!(matches!(error, HubError::WrongSize { expected: 5000, found: 6000, .. }), "{error}");

    let changed =
        Server::new(|count, request| file(request, &bytes(5000), ["a", "b"][count.min(1)]));
    let error = changed.hub(folder().path()).download(&model(), &mut quiet()).unwrap_err();
    assert!(matches!(error, HubError::Changed { .. }), "{error}");
}

#[test]
fn a_server_without_ranges_is_downloaded_from_the_start() {
    let all = bytes(400_000);
    let served = all.clone();
    let server = Server::new(move |_, _| {
        Reply::new(200, served.clone()).with("ETag", ETAG).with("X-Repo-Commit", COMMIT)
    });
    let cache = folder();
    let blobs = cache.path().join("models--org--repo/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{ETAG}.incomplete")), "what is left of something").unwrap();
    let path = server.hub(cache.path()).download(&model(), &mut quiet()).unwrap();
    assert_eq!(fs::read(path).unwrap(), all);
}

#[test]
fn names_from_servers_do_not_lead_out_of_the_cache() {
    for (etag, commit) in [("../../x", COMMIT), (ETAG, "../x"), (ETAG, ".."), ("", COMMIT)] {
        let server = Server::new(move |_, _| {
            Reply::new(200, bytes(100))
                .with("ETag", format!("\"{etag}\""))
                .with("X-Repo-Commit", commit)
        });
        let error = server.hub(folder().path()).download(&model(), &mut quiet()).unwrap_err();
        assert!(matches!(error, HubError::Protocol { .. }), "{error}");
    }
}

#[test]
fn configurations_and_listings_are_read() {
    let server = Server::new(|_, request| match request.path.as_str() {
        "/org/repo/resolve/v1/config.json" => file(request, br#"{"model_type":"llama"}"#, ETAG),
        "/org/repo/resolve/v1/long.json" => file(request, &bytes(2 << 20), ETAG),
        "/api/models/org/repo/revision/v1?blobs=true" => Reply::new(
            200,
            r#"{"sha":"x","siblings":[{"rfilename":"config.json","size":22},{"rfilename":"../x"},{"rfilename":"m.safetensors"}]}"#,
        ),
        _ => Reply::new(404, "").with("X-Error-Code", "RevisionNotFound"),
    });
    let cache = folder();
    let hub = server.hub(cache.path());
    let whole = HubRef::parse("hf:org/repo@v1").unwrap();
    assert_eq!(hub.config(&whole).unwrap(), r#"{"model_type":"llama"}"#);
    let files = hub.files(&whole).unwrap();
    assert_eq!(files.len(), 2);
    assert_eq!((files[0].path.as_str(), files[0].size), ("config.json", Some(22)));
    assert_eq!(hub.pick(&whole, None).unwrap(), Pick::Config(whole.with_file("config.json")));
    let long = hub.config(&whole.with_file("long.json")).unwrap_err();
    assert!(matches!(long, HubError::TooLong { .. }), "{long}");
    let other = HubRef::parse("hf:org/repo@v2").unwrap();
    assert!(matches!(hub.files(&other), Err(HubError::NoRevision { .. })));
    assert!(matches!(hub.header(&whole), Err(HubError::NoFileNamed { .. })));

    let page = Server::new(|_, _| Reply::new(200, "<html>"));
    let error = page.hub(cache.path()).files(&whole).unwrap_err();
    assert!(matches!(error, HubError::Protocol { .. }), "{error}");
    assert_one_line(&error);
}

#[test]
fn a_download_waits_for_another_and_takes_its_file() {
    let all = bytes(5000);
    let served = all.clone();
    let server = Server::new(move |_, request| file(request, &served, ETAG));
    let cache = folder();
    let locks = cache.path().join(".locks/models--org--repo");
    let blobs = cache.path().join("models--org--repo/blobs");
    fs::create_dir_all(&locks).unwrap();
    fs::create_dir_all(&blobs).unwrap();
    let lock = fs::File::create(locks.join(format!("{ETAG}.lock"))).unwrap();
    lock.lock().unwrap();
    let hub = server.hub(cache.path());
    let download = std::thread::spawn(move || hub.download(&model(), &mut quiet()));
    std::thread::sleep(Duration::from_millis(100));
    fs::write(blobs.join(ETAG), &all).unwrap();
    drop(lock);
    assert_eq!(fs::read(download.join().unwrap().unwrap()).unwrap(), all);
    assert_eq!(server.log().len(), 1, "only the question what the file is");
}
