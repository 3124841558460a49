//! The OpenAPI document that is served, against the server: Schemathesis makes requests from it,
//! right and wrong ones, and finds every answer as the document says, none a failure of the
//! server's. `INGLE_SCHEMATHESIS_EXAMPLES` sets how many it makes of each operation beyond the
//! document's own edges. Where Schemathesis cannot be had, this is skipped and says so.
#![cfg(unix)]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod support;

use std::process::Command;

use support::packages::python;
use support::server::Server;

const KEY: &str = "a-key-for-this-test";

#[test]
fn whatever_is_sent_the_answers_are_as_the_document_says() {
    let python = match python("schemathesis") {
        Ok(python) => python,
        Err(error) => return eprintln!("SKIPPED, there is no Python with Schemathesis: {error}"),
    };
    let examples = std::env::var("INGLE_SCHEMATHESIS_EXAMPLES").unwrap_or_else(|_| "5".to_owned());
    let server = Server::start(&["tinycoder", "--api-key", KEY, "--context", "256"]);
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis.toml");
    let home = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    std::fs::create_dir_all(&home).expect("a folder");
    let mut command = Command::new(&python);
    command
        .args(["-m", "schemathesis.cli", "--config-file", settings, "--no-color"])
        .args(["run", &format!("{}/openapi.json", server.url), "--seed", "1"])
        .args(["--header", &format!("Authorization: Bearer {KEY}")])
        .args(["--max-examples", &examples])
        .current_dir(&home)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    let count = |line: &str| line.trim().split_once(" generated")?.0.parse::<usize>().ok();
    let cases = said.lines().find_map(count).unwrap_or(0);
    assert!(cases >= 1000, "few cases: {said}");
    eprintln!("{cases} cases");
}
