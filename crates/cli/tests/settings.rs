//! A server's settings and keys while it runs, and the program that makes keys.
#![cfg(unix)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::server::{Server, serve};
use support::{run, tiny};

/// A folder of the test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ingle-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("may be");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// In one piece, as an editor or a deployment would.
    fn write(&self, name: &str, text: &str) -> String {
        let fresh = self.path("fresh");
        std::fs::write(&fresh, text).expect("may be");
        std::fs::rename(&fresh, self.path(name)).expect("may be");
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Makes a key in a file, and gives it.
fn create(file: &str, name: &str, more: &[&str]) -> String {
    let made = run(&[&["key", "create", name, "--file", file, "--quiet"], more].concat());
    let key = made.answer().trim().to_owned();
    assert!(key.len() == 70 && key.starts_with("ingle-"), "{key}");
    key
}

const PROMPT: &str = r#"{"prompt":"Once","max_tokens":2,"ignore_eos":true}"#;
const COMPLETIONS: &str = "/v1/completions";

fn status(server: &Server, key: &str, method: &str, path: &str, body: &str) -> u16 {
    server.ask_as(key, method, path, body).status
}

#[test]
fn keys_are_made_listed_and_revoked() {
    let folder = Folder::new("keys");
    let file = folder.path("keys.toml");
    let alice = create(&file, "alice", &["--requests-per-minute", "60"]);
    let bob = create(&file, "bob", &["--scopes", "metrics", "--models", "a,b", "--owner", "team"]);
    assert_ne!(alice, bob);
    let text = std::fs::read_to_string(&file).expect("is there");
    assert!(!text.contains(&alice) && text.contains("hash = \"sha256:"), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&file).expect("is there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    run(&["key", "create", "bob", "--file", &file]).refused(2, &["has a key bob", "revoke"]);
    run(&["key", "create", "a b"]).refused(2, &["is no name"]);
    run(&["key", "create", "c", "--scopes", "all"]).refused(2, &["there is no scope"]);
    let listed = run(&["key", "list", "--file", &file, "--json"]);
    let rows: Vec<Value> =
        listed.answer().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows[0]["requests_per_minute"], 60);
    assert_eq!(rows[0]["scopes"], json!(["infer", "read"]));
    assert_eq!((&rows[1]["models"], &rows[1]["owner"]), (&json!(["a", "b"]), &json!("team")));
    assert!(run(&["key", "list", "--file", &file]).answer().contains("alice"));
    run(&["key", "revoke", "carol", "--file", &file]).refused(2, &["no key carol", "alice, bob"]);
    assert_eq!(run(&["key", "revoke", "alice", "--file", &file]).code, Some(0));
    assert_eq!(run(&["key", "list", "--file", &file, "--json"]).answer().lines().count(), 1);
    assert!(!Path::new(&format!("{file}.new")).exists());
    // Without a file the row is printed, and it is one that a server takes.
    let made = run(&["key", "create", "dave", "--quiet"]);
    let (key, row) = made.answer().split_once("\n\n").expect("a key and a row");
    assert!(key.starts_with("ingle-") && row.starts_with("[[keys]]\nname = \"dave\"\n"), "{row}");
    let config = folder.write("ingle.toml", row);
    let shown = run(&["serve", "--config", &config, "--print-config"]);
    assert!(shown.answer().contains("# key dave: infer, read\n"), "{shown:?}");
}

/// What changed, at once and not until a restart. A signal and a look at the file may come to the
/// same twice, and the second finds nothing.
fn reloaded(server: &mut Server) -> (Value, Value) {
    loop {
        let told = server.event();
        assert_eq!(told["event"], "reloaded", "{told}");
        if (&told["changed"], &told["restart"]) != (&json!([]), &json!([])) {
            return (told["changed"].clone(), told["restart"].clone());
        }
    }
}

/// A change of a file holds within moments, and on SIGHUP; what is wrong changes nothing and is
/// told; what wants a restart is named; a running answer goes on.
#[test]
fn settings_change_while_it_serves() {
    let folder = Folder::new("reload");
    let keys = folder.path("keys.toml");
    let all = ["--scopes", "infer,read,metrics"];
    let (alice, bob) = (create(&keys, "alice", &all), create(&keys, "bob", &all));
    let log = folder.path("access.log");
    let text = |more: &str| {
        format!("# The default model.\nkeys_file = \"{keys}\"\naccess_log = \"{log}\"\n{more}")
    };
    let config = folder.write("ingle.toml", &text(""));
    let mut server = Server::start(&["--config", &config]);
    assert_eq!(status(&server, &alice, "POST", COMPLETIONS, PROMPT), 200);
    assert_eq!(status(&server, "", "POST", COMPLETIONS, PROMPT), 401);
    let endless = r#"{"prompt":"Once","max_tokens":8000,"stream":true,"ignore_eos":true}"#;
    let mut stream = BufReader::new(server.send_as(&alice, "POST", COMPLETIONS, endless));
    let line = |stream: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        stream.read_line(&mut line).expect("UTF-8")
    };
    assert!(line(&mut stream) > 0);

    // By a change of the file of keys: a revoked key's next request is refused.
    assert_eq!(run(&["key", "revoke", "alice", "--file", &keys]).code, Some(0));
    assert_eq!(reloaded(&mut server), (json!(["keys"]), json!([])));
    assert_eq!(status(&server, &alice, "POST", COMPLETIONS, PROMPT), 401);
    assert_eq!(status(&server, &bob, "POST", COMPLETIONS, PROMPT), 200);

    // A broken file: the old settings hold, and everyone can see that.
    folder.write("ingle.toml", &text("max_answer = 1\n"));
    let refused = server.event();
    assert_eq!(refused["event"], "reload-refused");
    let error = refused["error"].as_str().expect("a text");
    assert!(error.contains("ingle.toml:4:1: there is no setting `max_answer`"), "{error}");
    assert_eq!(status(&server, &bob, "POST", COMPLETIONS, PROMPT), 200);
    assert!(server.ask("GET", "/health", "").json()["configuration"].is_string());
    let metrics = server.ask_as(&bob, "GET", "/metrics", "").body;
    assert!(metrics.contains("ingle_server_config_stale 1\n"), "{metrics}");

    // A right one, on SIGHUP at the latest, with something that wants a restart; and the log is
    // opened anew.
    let moved = folder.path("access.log.1");
    std::fs::rename(&log, &moved).expect("is there");
    folder.write("ingle.toml", &text("max_answers = 1\nport = 1\n"));
    server.signal("HUP");
    // The port was given by a flag, which goes before the file.
    assert_eq!(reloaded(&mut server), (json!(["max_answers"]), json!([])));
    assert!(server.ask("GET", "/health", "").json().get("configuration").is_none());
    assert_eq!(status(&server, &bob, "POST", COMPLETIONS, PROMPT), 429, "one runs");
    assert!(line(&mut stream) > 0, "and goes on");
    drop(stream);
    folder.write("ingle.toml", &text("context = 64\n"));
    assert_eq!(reloaded(&mut server), (json!(["max_answers"]), json!(["context"])));
    assert_eq!(status(&server, &bob, "POST", COMPLETIONS, PROMPT), 200);
    server.signal("TERM");
    let ended = server.wait();
    assert!(ended.success(), "{ended}");
    let lines = |path: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(path).expect("is there");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let (old, new) = (lines(&moved), lines(&log));
    assert!(old.iter().any(|line| line["key"] == "alice" && line["completion_tokens"] == 2));
    assert!(old.iter().chain(&new).any(|line| line["status"] == 429 && line["key"] == "bob"));
    assert!(!new.is_empty(), "what came after is in the new file");
}

#[test]
fn a_key_has_limits() {
    let folder = Folder::new("limits");
    let keys = folder.path("keys.toml");
    let slow = create(&keys, "slow", &["--requests-per-minute", "1"]);
    let reader = create(&keys, "reader", &["--scopes", "read"]);
    let server = Server::start(&[&tiny(), "--keys-file", &keys]);
    assert_eq!(status(&server, &slow, "POST", COMPLETIONS, PROMPT), 200);
    let mut text = String::new();
    let mut socket = server.send_as(&slow, "POST", COMPLETIONS, PROMPT);
    socket.read_to_string(&mut text).expect("UTF-8");
    assert!(text.starts_with("HTTP/1.1 429 "), "{text}");
    for header in ["retry-after: ", "x-ratelimit-limit-requests: 1", "x-ratelimit-reset-requests: "]
    {
        assert!(text.contains(header), "{header} {text}");
    }
    let reply = server.ask_as(&reader, "POST", COMPLETIONS, PROMPT);
    assert_eq!(reply.status, 403);
    assert!(reply.body.contains("scope `infer`"), "{}", reply.body);
    assert_eq!(status(&server, &reader, "GET", "/v1/models", ""), 200);
}

#[test]
fn what_a_file_of_settings_may_not_say() {
    let folder = Folder::new("wrong");
    let rows = [
        ("prot = 1\n", "ingle.toml:1:1: there is no setting `prot`"),
        ("port = 0\nkeep_alive = \"soon\"\n", "ingle.toml:2:1: invalid value 'soon'"),
        ("host = \"0.0.0.0\"\n", "no API key is set"),
        ("keys_file = \"/no/such/file\"\n", "/no/such/file"),
        ("access_log = \"/no/such/folder/log\"\n", "access log cannot be written"),
    ];
    for (text, words) in rows {
        let config = folder.write("ingle.toml", text);
        let output = serve(&["--config", &config, "--port", "0"]).output().expect("runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}: {told}");
        assert!(told.contains(words), "{text}: {told}");
    }
}
