//! The downloader against a server that does as a script says: it cuts, lies, stalls, redirects.
//! All goes through the store, so that what is checked is what a user gets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::Error;
use crate::pull::sink::hash_text;
use crate::pull::tests::{Scratch, Watch, scratch};
use crate::pull::{Options, Pulled, Quiet, Settings, Store};

const LEN: usize = 100_000;
const REFERENCE: &str = "hf:o/r/m.gguf";

/// The file that is served.
fn model() -> String {
    let mut text = String::from("GGUF");
    while text.len() < LEN {
        text.push_str(&format!("{:07} ", text.len()));
    }
    text.truncate(LEN);
    text
}

/// One answer: its head's lines, its body, and what comes then.
#[derive(Clone, Debug)]
struct Reply {
    head: String,
    body: String,
    then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Close,
    /// The connection stays open and brings nothing more.
    Stall,
    /// The body comes in small pieces.
    Drip,
    /// The body is repeated until the other side hangs up.
    Repeat,
}

fn reply(status: &str, headers: &[&str], body: &str) -> Reply {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{lines}\r\n");
    Reply { head, body: body.into(), then: Then::Close }
}

/// The file from `from` to `to` of the version `etag`, announced up to its end.
fn part(from: usize, to: usize, etag: &str) -> Reply {
    let length = format!("Content-Length: {}", LEN - from);
    let etag = format!("ETag: \"{etag}\"");
    let range = format!("Content-Range: bytes {from}-{}/{LEN}", LEN - 1);
    let body = &model()[from..to];
    match from {
        0 => reply("200 OK", &[&length, &etag], body),
        _ => reply("206 Partial Content", &[&length, &etag, &range], body),
    }
}

fn then(reply: Reply, then: Then) -> Reply {
    Reply { then, ..reply }
}

/// A server that answers its connections by the script, one after another, and then is gone.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for reply in script {
                let (mut stream, _) = listener.accept().expect("accepted");
                log.lock().expect("sound").push(read_head(&mut stream).to_ascii_lowercase());
                answer(&mut stream, &reply);
                if reply.then == Then::Stall {
                    open.push(stream);
                }
            }
            if !open.is_empty() {
                std::thread::sleep(Duration::from_secs(60)); // ends with the test's process
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("sound").clone()
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|got| got == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("a head is text")
}

/// Writes an answer; the other side may hang up at any moment.
fn answer(stream: &mut TcpStream, reply: &Reply) {
    let _ = stream.write_all(reply.head.as_bytes());
    match reply.then {
        Then::Close | Then::Stall => {
            let _ = stream.write_all(reply.body.as_bytes());
        }
        Then::Drip => {
            for piece in reply.body.as_bytes().chunks(20_000) {
                let _ = stream.write_all(piece).and_then(|()| stream.flush());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Then::Repeat => while stream.write_all(reply.body.as_bytes()).is_ok() {},
    }
}

fn settings(server: &Server) -> Settings {
    Settings {
        endpoint: server.url.clone(),
        token: Some("hf_secret".into()),
        use_proxy: false,
        pauses: vec![Duration::from_millis(1); 3],
        ..Settings::default()
    }
}

/// A store whose hub is the server.
fn store(server: &Server) -> (Scratch, Store) {
    let folder = scratch("http");
    let store = Store::with_settings(folder.to_path_buf(), settings(server));
    (folder, store)
}

fn pull(store: &Store) -> Result<Pulled, Error> {
    store.pull(&REFERENCE.parse()?, &Options::default(), &mut Quiet)
}

/// Runs a script that must end with the right file; returns what was asked.
fn check(script: Vec<Reply>) -> Vec<String> {
    let count = script.len();
    let server = Server::start(script);
    let (_folder, store) = store(&server);
    let pulled = pull(&store).expect("pulled");
    assert_eq!(pulled.entry.manifest.sha256, hash_text(&model()));
    assert_eq!(std::fs::read_to_string(&pulled.entry.path).expect("read"), model());
    let asked = server.asked();
    assert_eq!(asked.len(), count, "{asked:#?}");
    asked
}

/// Runs a script that must fail with this in its message, and leave no model.
fn check_fails(script: Vec<Reply>, expect: &str) {
    let count = script.len();
    let server = Server::start(script);
    let (_folder, store) = store(&server);
    let error = pull(&store).expect_err("fails").to_string();
    assert!(error.contains(expect), "{error}");
    assert!(error.contains(REFERENCE) && error.contains("hint:"), "{error}");
    assert!(store.list().expect("listed").models.is_empty());
    assert_eq!(server.asked().len(), count, "{:#?}", server.asked());
}

#[test]
fn a_whole_file_is_fetched() {
    let asked = check(vec![part(0, LEN, "v1")]);
    assert!(asked[0].starts_with("get /o/r/resolve/main/m.gguf http/1.1\r\n"), "{asked:?}");
    assert!(asked[0].contains("\r\nauthorization: bearer hf_secret\r\n"), "{asked:?}");
    assert!(!asked[0].contains("\r\nrange:"), "{asked:?}");
    check(vec![then(part(0, LEN, "v1"), Then::Drip)]);
}

#[test]
fn what_was_cut_is_resumed() {
    let script = vec![part(0, 40_000, "v1"), part(40_000, 70_000, "v1"), part(70_000, LEN, "v1")];
    let asked = check(script);
    for (ask, from) in asked[1..].iter().zip([40_000, 70_000]) {
        assert!(ask.contains(&format!("\r\nrange: bytes={from}-\r\n")), "{ask}");
        assert!(ask.contains("\r\nif-range: \"v1\"\r\n"), "{ask}");
    }
}

#[test]
fn what_cannot_be_resumed_begins_again() {
    // The server sends the whole file, of the same version or another, instead of the rest.
    check(vec![part(0, 40_000, "v1"), part(0, LEN, "v1")]);
    check(vec![part(0, 40_000, "v0"), part(0, LEN, "v1")]);
    // It sends a rest of another version, another range, no range, or none at all.
    let other = part(40_000, LEN, "v2");
    let shifted = part(50_000, LEN, "v1");
    let bare = reply("206 Partial Content", &["Content-Length: 60000"], &model()[40_000..]);
    let gone = reply("416 Range Not Satisfiable", &["Content-Length: 0"], "");
    for odd in [other, shifted, bare, gone] {
        let asked = check(vec![part(0, 40_000, "v1"), odd, part(0, LEN, "v2")]);
        assert!(!asked[2].contains("\r\nrange:"), "{asked:?}");
    }
    // Without a version nothing ties the rest to what is here.
    let length = format!("Content-Length: {LEN}");
    let nameless = reply("200 OK", &[&length], &model()[..40_000]);
    let asked = check(vec![nameless, part(0, LEN, "v1")]);
    assert!(!asked[1].contains("\r\nrange:"), "{asked:?}");
}

#[test]
fn passing_failures_are_tried_again() {
    let busy = reply("503 Service Unavailable", &["Retry-After: 0", "Content-Length: 0"], "");
    let many = reply("429 Too Many Requests", &["Retry-After: 0", "Content-Length: 0"], "");
    check(vec![busy.clone(), many, part(0, LEN, "v1")]);
    check_fails(vec![busy; 3], "503");
    // It announces more than it sends, each time: what came is kept, but there is an end.
    let lie = part(0, 40_000, "v1");
    let none = part(40_000, 40_000, "v1");
    check_fails(vec![lie, none.clone(), none.clone(), none], "after 40000 of 100000 bytes");
}

#[test]
fn lasting_failures_are_told_at_once() {
    let empty = |status: &str| vec![reply(status, &["Content-Length: 0"], "")];
    check_fails(empty("404 Not Found"), "not found (404)");
    check_fails(empty("401 Unauthorized"), "HF_TOKEN");
    check_fails(empty("403 Forbidden"), "terms accepted");
    check_fails(empty("418 I'm a teapot"), "unexpected answer");
    check_fails(vec![reply("200 OK", &[], &model())], "does not say how large");
    let endless = then(reply("200 OK", &["X-Linked-Size: 100000"], &model()), Then::Repeat);
    check_fails(vec![endless], "more bytes than it announced");
    let two = reply("200 OK", &["X-Linked-Size: 5", "Content-Length: 6"], "GGUF12");
    check_fails(vec![two], "two sizes");
    let page = reply("200 OK", &["Content-Length: 6"], "<html>");
    check_fails(vec![page], "not a GGUF file");
}

#[test]
fn a_wrong_checksum_is_never_kept() {
    let hash = format!("X-Linked-Etag: \"{}\"", hash_text("another file"));
    let length = format!("Content-Length: {LEN}");
    let wrong = reply("200 OK", &[&length, &hash], &model());
    let server = Server::start(vec![wrong.clone(), wrong]);
    let (folder, store) = store(&server);
    let error = pull(&store).expect_err("wrong").to_string();
    assert!(error.contains("instead of") && error.contains("not kept"), "{error}");
    let left = std::fs::read_dir(folder.join("models")).expect("read").count();
    assert_eq!(left, 0, "bytes that are wrong are worth nothing");
    // A hash that the user names is checked before a byte is fetched.
    let options = Options { name: None, sha256: Some(hash_text(&model())) };
    let error = store.pull(&REFERENCE.parse().expect("sound"), &options, &mut Quiet);
    assert!(error.expect_err("another").to_string().contains("is another file"));
}

#[test]
fn redirects_are_followed_but_the_token_stays_home() {
    let cdn = Server::start(vec![part(0, LEN, "cdn")]);
    let away = format!("Location: {}/blob?x=1", cdn.url);
    let hash = format!("X-Linked-Etag: \"{}\"", hash_text(&model()));
    let script = vec![
        reply("307 Temporary Redirect", &["Location: /cache/m", "Content-Length: 0"], ""),
        reply("302 Found", &[&away, &hash, "X-Linked-Size: 100000", "Content-Length: 0"], ""),
    ];
    let asked = check(script);
    assert!(asked[1].starts_with("get /cache/m "), "{asked:?}");
    assert!(asked.iter().all(|ask| ask.contains("hf_secret")), "{asked:?}");
    let asked = cdn.asked();
    assert!(asked[0].starts_with("get /blob?x=1 "), "{asked:?}");
    assert!(!asked[0].contains("authorization"), "the token left its host: {asked:?}");
}

#[test]
fn only_the_hub_is_believed_about_its_files() {
    let length = format!("Content-Length: {LEN}");
    let hash = format!("X-Linked-Etag: \"{}\"", hash_text("another file"));
    let cdn = Server::start(vec![reply("200 OK", &[&length, &hash, "X-Linked-Size: 5"], &model())]);
    let away = format!("Location: {}/blob", cdn.url);
    check(vec![reply("302 Found", &[&away, "Content-Length: 0"], "")]);
}

#[test]
fn bad_redirects_are_refused() {
    let to =
        |place: &str| reply("302 Found", &[&format!("Location: {place}"), "Content-Length: 0"], "");
    check_fails(vec![to("/again"); 6], "too many redirects");
    check_fails(vec![to("file:///etc/passwd")], "leads nowhere");
    check_fails(vec![to("//other/x")], "leads nowhere");
    check_fails(vec![reply("302 Found", &["Content-Length: 0"], "")], "leads nowhere");
}

#[test]
fn no_redirect_leads_from_https_to_http() {
    let check = |from: &str, to: &str, expect: Option<&str>| {
        let mut headers = super::HeaderMap::new();
        headers.insert("location", to.parse().expect("sound"));
        let next = super::next_url(&from.parse().expect("sound"), &headers);
        assert_eq!(next.ok().map(|url| url.to_string()).as_deref(), expect);
    };
    check("https://a/x", "https://b/y", Some("https://b/y"));
    check("https://a:8/x", "/y?z", Some("https://a:8/y?z"));
    check("http://a/x", "https://b/y", Some("https://b/y"));
    check("https://a/x", "http://a/x", None);
    check("https://a/x", "ftp://a/x", None);
}

#[test]
fn an_interrupted_download_goes_on_next_time() {
    let stalled = then(part(0, 40_000, "v1"), Then::Stall);
    let server = Server::start(vec![stalled, part(40_000, LEN, "v1")]);
    let (_folder, store) = store(&server);
    let mut watch = Watch { stop_at: Some(40_000), ..Watch::default() };
    let reference = REFERENCE.parse().expect("sound");
    let stopped = store.pull(&reference, &Options::default(), &mut watch);
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    assert_eq!(store.list().expect("listed").partial[0].1, 40_000);
    let pulled = pull(&store).expect("pulled");
    assert_eq!(pulled.entry.manifest.sha256, hash_text(&model()));
    assert!(server.asked()[1].contains("\r\nrange: bytes=40000-\r\n"), "{:?}", server.asked());
}

#[test]
fn a_connection_that_brings_nothing_is_given_up() {
    let stalled = then(part(0, 40_000, "v1"), Then::Stall);
    let server = Server::start(vec![stalled, part(40_000, LEN, "v1")]);
    let folder = scratch("stall");
    let idle = Duration::from_millis(500);
    let store = Store::with_settings(folder.to_path_buf(), Settings { idle, ..settings(&server) });
    let pulled = pull(&store).expect("pulled");
    assert_eq!(pulled.entry.manifest.sha256, hash_text(&model()));
}

#[test]
fn two_that_want_the_same_fetch_it_once() {
    let server = Server::start(vec![then(part(0, LEN, "v1"), Then::Drip)]);
    let (_folder, store) = store(&server);
    let results: Vec<Pulled> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| pull(&store))).collect();
        threads.into_iter().map(|it| it.join().expect("no panic").expect("pulled")).collect()
    });
    assert_eq!(results.iter().filter(|pulled| pulled.fetched).count(), 1);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let server = Server::start(Vec::new());
    let (_folder, store) = store(&server);
    let error = pull(&store).expect_err("nobody").to_string();
    assert!(error.contains("cannot reach 127.0.0.1"), "{error}");
}

#[test]
fn ranges_are_read_strictly() {
    let cases = [
        ("bytes 5-9/10", Some((5, 9, 10))),
        ("bytes 0-0/1", Some((0, 0, 1))),
        ("bytes 5-10/10", None),
        ("bytes 9-5/10", None),
        ("bytes 5-9/*", None),
        ("bytes */10", None),
        ("5-9/10", None),
        ("bytes 5-99999999999999999999/10", None),
    ];
    for (text, expect) in cases {
        assert_eq!(super::parse_range(text), expect, "{text}");
    }
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &str = "as far as the store looks";

/// An answer of this text.
fn text(body: &str) -> Reply {
    reply("200 OK", &[&format!("Content-Length: {}", body.len())], body)
}

/// What the hub tells of a repository that has these files.
fn told(files: &[(&str, usize)]) -> Reply {
    let siblings = files.iter().map(|(path, size)| match path.ends_with(".safetensors") {
        true => {
            let sha256 = hash_text(WEIGHTS);
            serde_json::json!({"rfilename": path, "size": size, "lfs": {"sha256": sha256}})
        }
        false => serde_json::json!({"rfilename": path, "size": size}),
    });
    let siblings: Vec<serde_json::Value> = siblings.collect();
    text(&serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string())
}

const FILES: &[(&str, usize)] = &[
    ("README.md", 7),
    ("config.json", 2),
    ("pytorch_model.bin", 9),
    ("model.safetensors", WEIGHTS.len()),
    ("1_Pooling/config.json", 3),
    ("onnx/model.onnx", 5),
];

fn pull_repository(store: &Store) -> Result<Pulled, Error> {
    store.pull(&"hf:o/r".parse()?, &Options::default(), &mut Quiet)
}

/// Of a repository the files that are needed are fetched, all of one commit.
#[test]
fn a_repository_is_fetched_as_a_directory() {
    let server = Server::start(vec![told(FILES), text("[1]"), text("{}"), text(WEIGHTS)]);
    let (_folder, store) = store(&server);
    let pulled = pull_repository(&store).expect("pulled");
    let manifest = &pulled.entry.manifest;
    let kept: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(kept, ["1_Pooling/config.json", "config.json", "model.safetensors"]);
    assert_eq!(manifest.reference, "hf:o/r");
    let read = |path: &str| std::fs::read_to_string(pulled.entry.path.join(path)).expect("there");
    assert_eq!(read("model.safetensors"), WEIGHTS);
    assert_eq!(std::fs::read_dir(&pulled.entry.path).expect("there").count(), 3);
    let asked = server.asked();
    assert!(asked[0].starts_with("get /api/models/o/r/revision/main?blobs=true http/1.1"));
    for (ask, path) in asked[1..].iter().zip(kept) {
        let expect = format!("get /o/r/resolve/{COMMIT}/{path} http/1.1");
        assert!(ask.starts_with(&expect), "{ask}");
    }
    assert!(!pull_repository(&store).expect("here").fetched);
    assert_eq!(server.asked().len(), 4);
}

/// What came before a failure stays, unless the repository has changed meanwhile.
#[test]
fn a_repository_that_was_cut_is_resumed() {
    let gone = || reply("404 Not Found", &["Content-Length: 0"], "");
    let server = Server::start(vec![
        told(FILES),
        text("[1]"),
        gone(),
        told(FILES),
        text("{}"),
        text(WEIGHTS),
    ]);
    let (_folder, store) = store(&server);
    let error = pull_repository(&store).expect_err("gone").to_string();
    assert!(error.contains("not found (404)"), "{error}");
    assert!(store.list().expect("listed").models.is_empty());
    pull_repository(&store).expect("pulled");
    assert_eq!(server.asked().len(), 6, "{:#?}", server.asked());
}

#[test]
fn a_repository_that_is_no_model_is_not_kept() {
    let check = |script: Vec<Reply>, expect: &str| {
        let server = Server::start(script);
        let (_folder, store) = store(&server);
        let error = pull_repository(&store).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
        let listing = store.list().expect("listed");
        assert!(listing.models.is_empty());
    };
    check(vec![told(&[("config.json", 2), ("pytorch_model.bin", 9)])], "pickled");
    check(vec![told(&[("a/b.Q8_0.gguf", 2)])], "name one, as hf:o/r/a/b.Q8_0.gguf");
    check(vec![told(&[])], "look for a repository");
    check(vec![text("<html>")], "no list of files");
    check(vec![text(r#"{"sha":"../x","siblings":[]}"#)], "names no commit");
    // Another size, or another content, than the list says.
    let files = [("config.json", 2), ("model.safetensors", WEIGHTS.len())];
    check(vec![told(&files), text("[12]")], "was expected");
    let other = WEIGHTS.replace('l', "L");
    check(vec![told(&files), text("{}"), text(&other)], "SHA-256");
}
