//! What the tests of the commands that run a model have in common: the program, and what it said.
#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod certificate;
pub(crate) mod packages;
pub(crate) mod place;
pub(crate) mod seller;
pub(crate) mod server;

#[allow(unused_imports, reason = "each test uses a part of it")]
pub(crate) use seller::{answers, upstream};

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a test waits for the program to end.
const PATIENCE: Duration = Duration::from_secs(300);

/// The program, with nothing piped in.
pub(crate) fn ingle(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingle"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a run said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let (out, err) = (text(output.stdout), text(output.stderr));
        assert!(!err.contains('\u{1b}'), "colour where nobody looks: {err:?}");
        Self { code: output.status.code(), out, err }
    }
}

impl Said {
    /// The one JSON object of a run that went well.
    pub(crate) fn json(&self) -> Value {
        assert_eq!((self.code, self.out.lines().count()), (Some(0), 1), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The answer of a run that went well.
    pub(crate) fn answer(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.out
    }

    /// The run must have failed like this.
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in {self:?}");
        }
    }
}

pub(crate) fn run(arguments: &[&str]) -> Said {
    ingle(arguments).output().expect("runs").into()
}

/// Runs with this piped in.
pub(crate) fn piped(arguments: &[&str], input: &[u8]) -> Said {
    let mut child = ingle(arguments).stdin(Stdio::piped()).spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("is piped");
    let input = input.to_vec();
    // The program may refuse before it has read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("runs");
    writer.join().expect("writes");
    output.into()
}

/// How a run ends, which it must before long.
pub(crate) fn end(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("is ours") {
            return status;
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("the program does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until something is so, which it must be before long.
pub(crate) fn until(mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A file of another crate's tests.
pub(crate) fn of(room: &str, path: &str) -> String {
    let crates = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    crates.join(room).join("tests").join(path).to_str().expect("UTF-8").to_owned()
}

/// A random base model: two layers, bytes for tokens, no template, loaded at once.
pub(crate) fn tiny() -> String {
    of("engine", "golden/archs/qwen2.gguf")
}
