//! `ingle serve` as its users meet it: OpenAI's own client against the default model, signals, and
//! what the command line refuses. Where Python or its packages cannot be had, the client's part is
//! skipped and says so.
#![cfg(unix)]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};

use serde_json::Value;

const KEY: &str = "a-key-for-this-test";

/// A running server; ended when dropped.
struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ingle(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingle"));
    command.arg("serve").args(arguments).stdin(Stdio::null()).env_remove("INGLE_API_KEYS");
    command
}

impl Server {
    /// Starts one on a free port and waits until it has its model.
    fn start(arguments: &[&str]) -> Self {
        let mut command = ingle(&["--port", "0", "--json", "--quiet"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("is piped"));
        let mut server = Self { child, lines, url: String::new() };
        assert_eq!(server.event()["event"], "listening");
        let ready = server.event();
        assert_eq!(ready["event"], "ready");
        server.url = ready["url"].as_str().expect("a text").to_owned();
        server
    }

    fn event(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("UTF-8");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// A streamed answer that does not end by itself, begun.
    fn endless(&self) -> BufReader<TcpStream> {
        let body = r#"{"messages":[{"role":"user","content":"Hello"}],
            "stream":true,"ignore_eos":true}"#;
        let address = self.url.strip_prefix("http://").expect("a URL");
        let mut socket = TcpStream::connect(address).expect("listens");
        let length = body.len();
        write!(
            socket,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .expect("reads");
        let mut reader = BufReader::new(socket);
        let mut line = String::new();
        while !line.contains("data: ") {
            line.clear();
            assert!(reader.read_line(&mut line).expect("UTF-8") > 0, "the stream ended");
        }
        reader
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().expect("runs");
        assert!(status.success());
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("is ours")
    }
}

/// A Python that has OpenAI's client: the one on the path, or one with a home under `target/`.
fn python() -> Result<PathBuf, String> {
    let on_path = PathBuf::from("python3");
    if run(&on_path, &["-c", "import openai"]).is_ok() {
        return Ok(on_path);
    }
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openai-client");
    let own = home.join("bin/python");
    if run(&own, &["-c", "import openai"]).is_ok() {
        return Ok(own);
    }
    run(&on_path, &["-m", "venv", &home.to_string_lossy()])?;
    run(&own, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "openai"])?;
    Ok(own)
}

fn run(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn openais_own_client() {
    let python = match python() {
        Ok(python) => python,
        Err(error) => return eprintln!("SKIPPED, there is no Python with `openai`: {error}"),
    };
    let server = Server::start(&["--api-key", KEY]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openai_client.py");
    let output = Command::new(python).args([script, &server.url, KEY]).output().expect("runs");
    let (said, wrong) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{wrong}");
    let checks = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(checks >= 14, "all checks ran: {said}");
}

#[test]
fn a_signal_ends_the_server_in_order() {
    let mut server = Server::start(&["--drain", "0"]);
    let mut stream = server.endless();
    server.signal("TERM");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("UTF-8");
    assert!(rest.contains("the server is stopping"), "{rest}");
    assert!(server.wait().success());
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut server = Server::start(&["--drain", "3600"]);
    let mut stream = server.endless();
    server.signal("INT");
    let mut line = String::new();
    let address = server.url.strip_prefix("http://").expect("a URL").to_owned();
    while TcpStream::connect(&address).is_ok() {
        assert!(stream.read_line(&mut line).expect("UTF-8") > 0, "what runs goes on: {line}");
    }
    server.signal("INT");
    // Whether it says a last word depends on who is quicker; that it ends does not.
    server.wait();
}

fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = ingle(arguments).output().expect("runs");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn what_the_command_line_refuses() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let rows: &[(&[&str], i32, &str)] = &[
        (&["--host", "0.0.0.0", "--port", "0"], 2, "no API key is set"),
        (&["--api-key", "short", "--port", "0"], 2, "at least 8 characters"),
        (&["--isolate-keys", "--port", "0"], 2, "no API keys to isolate"),
        (&["--cors-origin", "*", "--port", "0"], 2, "is no origin"),
        (&["--api-key-file", "/nowhere", "--port", "0"], 2, "/nowhere"),
        (&["--port", &port], 1, "cannot listen"),
        (&["./no-such-model.gguf", "--port", "0"], 1, "no-such-model.gguf"),
    ];
    for (arguments, code, words) in rows {
        let (status, said) = refused(arguments);
        assert_eq!(status, Some(*code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}
