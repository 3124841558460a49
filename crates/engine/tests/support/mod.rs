//! What the engine's tests have in common: models, cases, and answers gathered whole.
#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod adapters;
pub(crate) mod clocked;
pub(crate) mod grammars;
pub(crate) mod jobs;

use ingle_backend::cpu::kernels::{KERNELS, Kernels};
use ingle_engine::{Case, Gold, Local, Options};
use ingle_model::{Error, pull};
use ingle_protocol::{
    Beam, Call, Event, Fault, Input, Piece, PromptToken, Receipt, Request, Sampling, Token,
    TokenScore,
};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// How long a test waits for what must come before it gives up.
const PATIENCE: Duration = Duration::from_secs(300);
/// More events than any answer here has.
const EVENTS: usize = 1 << 14;

/// The kernel rows that run on this machine.
pub(crate) fn rows() -> impl Iterator<Item = &'static Kernels> {
    KERNELS.iter().filter(|row| row.runs_here())
}

/// A model's file, fetched if it is not here. `None`, said aloud, where it cannot be had; a CI run
/// must have the default model.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn fetched(name: &str) -> Option<PathBuf> {
    match pull::resolve(name) {
        Ok(path) => Some(path),
        Err(Error::Fetch(why)) if std::env::var_os("CI").is_none() || name != "smollm2" => {
            eprintln!("SKIPPED, `{name}` cannot be fetched: {why}");
            None
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

/// Loads a model file.
pub(crate) fn open(path: &Path, options: &Options) -> Local {
    Local::open("a-model", path, options, &mut |_| {}).expect("loads")
}

/// The random checkpoint of an architecture: two layers, bytes for tokens, no template.
pub(crate) fn tiny(name: &str) -> PathBuf {
    golden(name, "gguf")
}

/// A file of a random checkpoint.
pub(crate) fn golden(name: &str, kind: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/archs");
    Path::new(folder).join(format!("{name}.{kind}"))
}

/// The cases of a file of gold log-probabilities.
pub(crate) fn cases(json: &str) -> Vec<Case> {
    let parsed: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let list = |value: &serde_json::Value| value.as_array().expect("a list").clone();
    let token = |value: &serde_json::Value| value.as_u64().expect("a token") as Token;
    let pair = |pair: &serde_json::Value| (token(&pair[0]), pair[1].as_f64().expect("a number"));
    let gold = |top: &serde_json::Value| Gold { top: list(top).iter().map(pair).collect() };
    let case = |case: &serde_json::Value| Case {
        ids: list(&case["ids"]).iter().map(token).collect(),
        gold: list(&case["top10"]).iter().map(gold).collect(),
    };
    list(&parsed).iter().map(case).collect()
}

/// A greedy request of so many tokens that no token of the model's ends.
pub(crate) fn request(input: Input, tokens: u32) -> Request {
    Request {
        model: String::new(),
        input,
        sampling: Sampling { temperature: 0.0, ignore_eos: true, ..Sampling::default() },
        max_tokens: Some(tokens),
        ..Request::default()
    }
}

/// A prompt as plain text.
pub(crate) fn text(prompt: &str) -> Input {
    Input::Text(prompt.to_owned())
}

/// A request under way.
pub(crate) struct Asked {
    pub(crate) call: Call,
    pub(crate) events: Receiver<Event>,
}

/// An answer, gathered whole.
#[derive(Debug)]
pub(crate) struct Told {
    /// What it was told of its prompt, before all else.
    pub(crate) prompt: Vec<PromptToken>,
    pub(crate) pieces: Vec<Piece>,
    /// What a search found.
    pub(crate) beams: Vec<Beam>,
    pub(crate) end: Result<Receipt, Fault>,
}

/// Sends a request.
pub(crate) fn ask(model: &Local, request: &Request) -> Result<Asked, Fault> {
    let (sender, events) = sync_channel(EVENTS);
    let sink = Box::new(move |event| match sender.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    });
    Ok(Asked { call: model.send(request, sink)?, events })
}

/// Sends a request and waits for all of the answer, which must come to its end.
pub(crate) fn answer(model: &Local, request: &Request) -> Told {
    ask(model, request).expect("is taken in").wait()
}

impl Asked {
    /// Waits for the next event.
    pub(crate) fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }

    /// All that comes. The last event comes exactly once, and after it nothing.
    pub(crate) fn wait(self) -> Told {
        let (mut prompt, mut pieces, mut beams) = (Vec::new(), Vec::new(), Vec::new());
        let end = loop {
            match self.next() {
                Event::Prompt(told) => {
                    assert!(prompt.is_empty() && pieces.is_empty(), "once, and first");
                    prompt = told;
                }
                Event::Beams(found) => beams = found,
                Event::Text(piece) => pieces.push(piece),
                Event::Done(receipt) => break Ok(*receipt),
                Event::Failed(fault) => break Err(fault),
                other => panic!("no model of these tests thinks or calls: {other:?}"),
            }
        };
        let after = self.events.recv_timeout(PATIENCE);
        assert_eq!(after, Err(RecvTimeoutError::Disconnected), "the last event comes last");
        Told { prompt, pieces, beams, end }
    }
}

impl Told {
    pub(crate) fn text(&self) -> String {
        self.pieces.iter().map(|piece| piece.text.as_str()).collect()
    }

    pub(crate) fn scores(&self) -> impl Iterator<Item = &TokenScore> {
        self.pieces.iter().flat_map(|piece| &piece.scores)
    }

    /// The chosen tokens, where log-probabilities were asked for.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        self.scores().map(|score| score.chosen.token).collect()
    }

    pub(crate) fn receipt(&self) -> &Receipt {
        self.end.as_ref().expect("is answered")
    }

    pub(crate) fn fault(&self) -> &Fault {
        self.end.as_ref().expect_err("is refused")
    }
}

/// Waits until something holds, which it must before long.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
