//! Other people's clients against the program and its default models: OpenAI's, Anthropic's,
//! Ollama's and Cohere's own Python packages, and OpenAI's for Node, each with a script of checks.
//! Where one cannot be had, its part is skipped and says so.
#![cfg(unix)]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::certificate::Certificate;
use support::packages::{python, run};
use support::server::Server;

const KEY: &str = "a-key-for-this-test";

/// A folder under `target/` that has OpenAI's Node package.
fn node() -> Result<PathBuf, String> {
    let node = Path::new("node");
    run(node, &["--version"])?;
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openai-node");
    let folder = home.to_string_lossy();
    let find = format!("require('module').createRequire({folder:?} + '/').resolve('openai')");
    if run(node, &["-e", &find]).is_err() {
        let quiet = ["--no-audit", "--no-fund", "--silent", "--ignore-scripts"];
        let install = ["install", "--prefix", &folder, "openai"];
        run(Path::new("npm"), &[&install[..], &quiet[..]].concat())?;
    }
    Ok(home)
}

/// Runs a script of checks against a server of its own; `least` checks or more have to be in it.
fn check(program: &Path, script: &str, rest: &[&str], least: usize) {
    check_with(&["--api-key", KEY], program, script, rest, least);
}

/// The same, against a server with these flags.
fn check_with(flags: &[&str], program: &Path, script: &str, rest: &[&str], least: usize) {
    let server = Server::start(flags);
    let script = format!("{}/tests/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(program);
    command.args([&script, &server.url, KEY]).args(rest).env("PYTHONDONTWRITEBYTECODE", "1");
    passed(&mut command, least);
}

/// Runs checks, all of which have to pass, so many or more.
fn passed(command: &mut Command, least: usize) {
    let output = command.output().expect("runs");
    let (said, wrong) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{wrong}");
    let checks = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(checks >= least, "all checks ran: {said}");
}

/// Runs a script that needs a package.
fn check_python(package: &str, script: &str, least: usize) {
    match python(package) {
        Ok(python) => check(&python, script, &[], least),
        Err(error) => eprintln!("SKIPPED, there is no Python with `{package}`: {error}"),
    }
}

#[test]
fn openais_own_node_client() {
    match node() {
        Ok(home) => {
            check(Path::new("node"), "openai_client.mjs", &[&home.to_string_lossy()], 8);
        }
        Err(error) => eprintln!("SKIPPED, there is no Node with `openai`: {error}"),
    }
}

#[test]
fn openais_own_client() {
    check_python("openai", "openai_client.py", 20);
}

#[test]
fn openais_own_client_with_responses() {
    check_python("openai", "openai_responses.py", 14);
}

/// A few checks over TLS, with a certificate that this test made and its client is told of.
#[test]
fn openais_own_client_over_tls() {
    let python = match python("openai") {
        Ok(python) => python,
        Err(error) => return eprintln!("SKIPPED, there is no Python with `openai`: {error}"),
    };
    let certificate = Certificate::new("clients");
    let server = Server::start(&[&["--api-key", KEY], &certificate.flags()[..]].concat());
    let url = server.url.replace("127.0.0.1", "localhost");
    let script = format!("{}/tests/tls_client.py", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python);
    command.args([&script, &url, KEY]).env("SSL_CERT_FILE", &certificate.cert);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    passed(&mut command, 4);
}

#[test]
fn anthropics_own_client() {
    check_python("anthropic", "anthropic_client.py", 15);
}

#[test]
fn ollamas_own_client() {
    check_python("ollama", "ollama_client.py", 12);
}

/// A client of models that read, and MiniLM.
fn check_reading(package: &str, least: usize) {
    let flags = ["minilm", "--api-key", KEY];
    match python(package) {
        Ok(python) => check_with(&flags, &python, "reading_client.py", &[package], least),
        Err(error) => eprintln!("SKIPPED, there is no Python with `{package}`: {error}"),
    }
}

#[test]
fn openais_own_client_with_embeddings() {
    check_reading("openai", 7);
}

#[test]
fn coheres_own_client() {
    check_reading("cohere", 5);
}

#[test]
fn ollamas_own_client_with_embeddings() {
    check_reading("ollama", 5);
}
