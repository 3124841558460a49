//! A running `ingle serve`, and a client made of a socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// A running server; ended when dropped.
pub(crate) struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
    pub(crate) url: String,
    /// What clients leave with it; gone with it.
    records: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.records);
    }
}

/// A folder of its own for each server of a test.
fn fresh_records() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("records-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The program about to serve.
pub(crate) fn serve(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingle"));
    command.arg("serve").args(arguments).stdin(Stdio::null()).env_remove("INGLE_API_KEYS");
    command
}

/// What was answered.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
    head: String,
}

impl Reply {
    /// A header's value; of any letters' case, as its name is.
    pub(crate) fn header(&self, name: &str) -> String {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.unwrap_or_else(|| panic!("no {name}: {}", self.head)).1.to_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Server {
    /// Starts one on a free port and waits until it has its first model.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// The same, with these variables of the environment.
    pub(crate) fn start_with(arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let records = fresh_records();
        let mut command = serve(&["--port", "0", "--json", "--quiet", "--records"]);
        let mut child = command
            .arg(&records)
            .envs(env.iter().copied())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("is piped"));
        let mut server = Self { child, lines, url: String::new(), records };
        assert_eq!(server.event()["event"], "listening");
        let ready = server.event();
        assert_eq!(ready["event"], "ready");
        server.url = ready["url"].as_str().expect("a text").to_owned();
        server
    }

    /// The next thing that it tells.
    pub(crate) fn event(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("UTF-8");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").expect("a URL").1
    }

    /// Sends a request and leaves its answer on the socket.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        self.send_as("", method, path, body)
    }

    /// The same, with a key.
    pub(crate) fn send_as(&self, key: &str, method: &str, path: &str, body: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.address()).expect("listens");
        let length = body.len();
        let key = match key {
            "" => String::new(),
            key => format!("authorization: Bearer {key}\r\n"),
        };
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n{key}\r\n{body}"
        )
        .expect("reads");
        socket
    }

    /// Sends a request and reads all of its answer.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        rest(&mut BufReader::new(self.send(method, path, body)))
    }

    /// A number of `/metrics`: the server's own, or that of the one model.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.ask("GET", "/metrics", "").body;
        let of = |line: &&str| {
            line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{"))
        };
        let line = text.lines().find(of).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    }

    /// The same, with a key.
    pub(crate) fn ask_as(&self, key: &str, method: &str, path: &str, body: &str) -> Reply {
        rest(&mut BufReader::new(self.send_as(key, method, path, body)))
    }

    /// All of a streamed answer, as it came.
    pub(crate) fn stream_all(&self, path: &str, body: &str) -> String {
        let mut text = String::new();
        let mut socket = BufReader::new(self.send("POST", path, body));
        socket.read_to_string(&mut text).expect("UTF-8");
        // Without the marks of chunked transfer, which stand on lines of their own.
        text.lines().filter(|line| line.starts_with('{')).map(|line| format!("{line}\n")).collect()
    }

    /// A streamed answer, begun.
    pub(crate) fn stream(&self, path: &str, body: &str) -> BufReader<TcpStream> {
        let mut reader = BufReader::new(self.send("POST", path, body));
        let mut line = String::new();
        while !line.contains("data: ") {
            line.clear();
            assert!(reader.read_line(&mut line).expect("UTF-8") > 0, "the stream ended");
        }
        reader
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().expect("runs");
        assert!(status.success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("is ours")
    }
}

/// An answer that is whole, up to its end.
fn rest(reader: &mut BufReader<TcpStream>) -> Reply {
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.expect("a status");
    Reply { status, body: body.to_owned(), head: head.to_owned() }
}
