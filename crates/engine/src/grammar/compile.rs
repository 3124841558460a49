//! From a grammar's text to a guide, on the caller's thread and under limits. The texts are
//! hostile: what is too long, too deep or too slow is refused, and so is every keyword that would
//! be ignored. What was compiled is kept for whoever sends the same text again.
//!
//! Absent here: reading JSON and Lark, which the library does, and any going on without a grammar.

use super::{Guide, gbnf, words};
use ingle_model::dialect::Frame;
use ingle_model::schema;
use ingle_model::tokenizer::Tokenizer;
use ingle_protocol::{Blame, Fault, Grammar, Token};
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Matcher, ParserFactory};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Everything that a grammar may take.
pub(super) struct Bounds {
    /// Bytes of its text.
    text_bytes: usize,
    /// Texts of a choice.
    choices: usize,
    /// Compilations at once, and how long one is waited for, and before it a free place.
    compiling: usize,
    patience: Duration,
    /// Bytes of stack to compile on: the library goes as deep as the rules do.
    stack_bytes: usize,
    /// Compiled grammars that are kept.
    kept: usize,
    /// Tokens that are settled at once.
    pub(super) forced_tokens: usize,
    /// Bytes of a message of the library's that are passed on.
    message_bytes: usize,
}

pub(super) static BOUNDS: Bounds = Bounds {
    text_bytes: 128 << 10,
    choices: 4096,
    compiling: 2,
    patience: Duration::from_secs(10),
    stack_bytes: 256 << 20,
    kept: 16,
    forced_tokens: 4096,
    message_bytes: 600,
};

/// The library's own limits. A mask takes up to about 10 ms under these (its authors name 14 fuel
/// and 20 items a microsecond), states up to about 40 MB a grammar.
fn limits() -> ParserLimits {
    ParserLimits {
        step_lexer_fuel: 100_000,
        step_max_items: 50_000,
        max_lexer_states: 20_000,
        max_grammar_size: 250_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// What is compiled: an answer's own grammar, or one around it in Lark, which calls it `@answer`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    frame: Option<String>,
    grammar: Option<Grammar>,
}

/// A grammar that is ready: guides start as copies of its matcher.
pub(super) struct Compiled {
    source: Source,
    /// Not used itself. Copies share the lexer's states.
    matcher: Mutex<Matcher>,
    pub(super) ends: Vec<Token>,
    given_up: AtomicBool,
}

impl Compiled {
    pub(super) fn matcher(&self) -> Matcher {
        self.matcher.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What its copies share may be damaged: no new ones.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }
}

/// Makes guides for the answers of one model. The trie of its tokens is built for the first one.
#[expect(missing_debug_implementations, reason = "holds the library's tables")]
pub struct Grammars {
    workshop: Arc<Workshop>,
    /// The last used ones, latest last.
    kept: Mutex<VecDeque<Arc<Compiled>>>,
}

struct Workshop {
    tokenizer: Tokenizer,
    factory: OnceLock<Result<ParserFactory, String>>,
    busy: Mutex<usize>,
    freed: Condvar,
}

/// A place in the workshop; given back when dropped.
struct Place(Arc<Workshop>);

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.busy.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

impl Grammars {
    /// For answers in this vocabulary. Costs nothing yet.
    pub fn new(tokenizer: Tokenizer) -> Self {
        let (factory, busy, freed) = (OnceLock::new(), Mutex::new(0), Condvar::new());
        let workshop = Arc::new(Workshop { tokenizer, factory, busy, freed });
        Self { workshop, kept: Mutex::default() }
    }

    /// A guide at the start of an answer.
    ///
    /// # Errors
    /// A fault of the caller's that says what in the grammar cannot be followed, or is too much;
    /// one of ours where too many others are compiling.
    pub fn guide(&self, grammar: &Grammar) -> Result<Guide, Fault> {
        within_bounds(grammar)?;
        self.guide_of(&Source { frame: None, grammar: Some(grammar.clone()) })
    }

    /// A guide at the start of an answer with thoughts or calls around what its own grammar says.
    /// Schemas of tools that need not be followed are not, where they cannot be.
    ///
    /// # Errors
    /// As [`Self::guide`].
    pub fn guide_within(&self, frame: &Frame, answer: Option<&Grammar>) -> Result<Guide, Fault> {
        answer.map_or(Ok(()), within_bounds)?;
        // Where a call is forced nothing else is answered.
        let answer = answer.filter(|_| frame.lark.contains("@answer"));
        let source = |lark: &str| Source { frame: Some(lark.to_owned()), grammar: answer.cloned() };
        let exact =
            frame_within_bounds(&frame.lark).and_then(|()| self.guide_of(&source(&frame.lark)));
        match exact {
            Err(fault) if frame.lax != frame.lark && fault.blame == Blame::Caller => {
                frame_within_bounds(&frame.lax)?;
                self.guide_of(&source(&frame.lax))
            }
            other => other,
        }
    }

    fn guide_of(&self, source: &Source) -> Result<Guide, Fault> {
        if let Some(compiled) = self.find(source) {
            return Guide::new(compiled);
        }
        let compiled = Arc::new(self.workshop.compile(source)?);
        let guide = Guide::new(Arc::clone(&compiled))?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == BOUNDS.kept {
            kept.pop_front();
        }
        kept.push_back(compiled);
        Ok(guide)
    }

    fn find(&self, source: &Source) -> Option<Arc<Compiled>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|one| !one.given_up.load(Ordering::Acquire));
        let at = kept.iter().position(|one| one.source == *source)?;
        let found = kept.remove(at)?;
        kept.push_back(Arc::clone(&found));
        Some(found)
    }
}

impl Workshop {
    /// Compiles on a thread with a stack of its own, and waits for it. What the vocabulary needs
    /// comes first and takes what it takes: it is no grammar's fault.
    fn compile(self: &Arc<Self>, wanted: &Source) -> Result<Compiled, Fault> {
        self.ready().map_err(|error| {
            Fault::ours(format!("grammars cannot be had in this model's vocabulary: {error}"))
        })?;
        let place = self.place()?;
        let (done, outcome) = sync_channel(1);
        let (workshop, source) = (Arc::clone(self), wanted.clone());
        let work = move || {
            let made = catch_unwind(AssertUnwindSafe(|| workshop.matcher(&source)));
            let made = made.unwrap_or_else(|_| Err("the library panicked".to_owned()));
            drop(place);
            let _ = done.send(made); // whoever asked may have given up
        };
        std::thread::Builder::new()
            .name("ingle-grammar".into())
            .stack_size(BOUNDS.stack_bytes)
            .spawn(work)
            .map_err(|error| Fault::ours(format!("no thread to compile a grammar: {error}")))?;
        let matcher = match outcome.recv_timeout(BOUNDS.patience) {
            Ok(made) => made.map_err(|error| wanted.refused(&error))?,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = BOUNDS.patience.as_secs();
                return Err(wanted.too_much(&format!("it takes longer than {seconds} s")));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(wanted.refused("the library failed"));
            }
        };
        Ok(Compiled {
            source: wanted.clone(),
            matcher: Mutex::new(matcher),
            ends: self.tokenizer.ends().to_vec(),
            given_up: AtomicBool::new(false),
        })
    }

    /// Waits until fewer compile than may.
    fn place(self: &Arc<Self>) -> Result<Place, Fault> {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |busy: &mut usize| *busy >= BOUNDS.compiling;
        let waited = self.freed.wait_timeout_while(busy, BOUNDS.patience, full);
        let (mut busy, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            let message = "other grammars are being compiled: try again later";
            return Err(Fault::busy(Duration::from_secs(1), message));
        }
        *busy += 1;
        Ok(Place(Arc::clone(self)))
    }

    fn matcher(&self, source: &Source) -> Result<Matcher, String> {
        let parser = self.ready()?.create_parser(source.top_level()?);
        let mut matcher = Matcher::new(parser);
        if let Some(error) = matcher.get_error() {
            return Err(error);
        }
        match matcher.grammar_warnings().as_slice() {
            [] => Ok(matcher),
            // Each says what would be ignored.
            warnings => Err(warnings.join("; ")),
        }
    }

    /// The library's tables for the vocabulary. Whoever comes first makes them, on its own thread.
    fn ready(&self) -> Result<&ParserFactory, String> {
        let make = || {
            let made = catch_unwind(AssertUnwindSafe(|| self.factory()));
            made.unwrap_or_else(|_| Err("the library panicked".to_owned()))
        };
        self.factory.get_or_init(make).as_ref().map_err(|error| said(error))
    }

    fn factory(&self) -> Result<ParserFactory, String> {
        let words = words::words(&self.tokenizer);
        let able = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let slices = SlicedBiasComputer::general_slices();
        let mut factory =
            ParserFactory::new(&words, able, &slices).map_err(|error| format!("{error:#}"))?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(factory)
    }
}

fn within_bounds(grammar: &Grammar) -> Result<(), Fault> {
    let bytes = match grammar {
        Grammar::JsonSchema(text)
        | Grammar::Regex(text)
        | Grammar::Lark(text)
        | Grammar::Gbnf(text) => text.len(),
        Grammar::Choice(texts) => texts.iter().map(String::len).sum(),
    };
    let most = BOUNDS.text_bytes;
    if bytes > most {
        return Err(too_much(grammar, &format!("it has {bytes} bytes, and the most is {most}")));
    }
    match grammar {
        Grammar::Choice(texts) if texts.is_empty() => Err(refused(grammar, "it has no texts")),
        Grammar::Choice(texts) if texts.len() > BOUNDS.choices => {
            let (count, most) = (texts.len(), BOUNDS.choices);
            Err(too_much(grammar, &format!("it has {count} texts, and the most is {most}")))
        }
        // The library would take it as if it were not there.
        Grammar::Regex(text) if (text.len() - text.trim_end_matches('\\').len()) & 1 == 1 => {
            Err(refused(grammar, "it ends in a backslash that escapes nothing"))
        }
        // The library's own switches, some of which let keywords be ignored.
        Grammar::JsonSchema(text) if text.contains("x-guidance") => {
            Err(refused(grammar, "`x-guidance` is not taken: leave it out"))
        }
        _ => Ok(()),
    }
}

/// The name of an answer's own grammar in the one around it.
const ANSWER: &str = "answer";

impl Source {
    fn top_level(&self) -> Result<TopLevelGrammar, String> {
        let own = self.grammar.as_ref().map(top_level).transpose()?;
        let Some(frame) = &self.frame else {
            return own.ok_or_else(|| "there is no grammar".to_owned());
        };
        let mut whole = TopLevelGrammar::from_lark(frame.clone());
        for mut grammar in own.into_iter().flat_map(|own| own.grammars) {
            grammar.name = Some(ANSWER.to_owned());
            whole.grammars.push(grammar);
        }
        Ok(whole)
    }

    fn refused(&self, error: &str) -> Fault {
        match (&self.frame, &self.grammar) {
            (_, Some(grammar)) => refused(grammar, error),
            _ => {
                let why = said(error);
                let hint = "leave out what is named, or say it otherwise";
                Fault::caller(format!("a tool's schema cannot be followed: {why}: {hint}"))
                    .at("tools")
            }
        }
    }

    fn too_much(&self, why: &str) -> Fault {
        match &self.grammar {
            Some(grammar) => too_much(grammar, why),
            None => tools_too_much(why),
        }
    }
}

fn tools_too_much(why: &str) -> Fault {
    let message = format!("the tools' schemas are too much: {why}: give smaller or fewer ones");
    Fault::caller(message).at("tools")
}

fn frame_within_bounds(frame: &str) -> Result<(), Fault> {
    let (bytes, most) = (frame.len(), BOUNDS.text_bytes);
    if bytes > most {
        return Err(tools_too_much(&format!("they have {bytes} bytes, and the most is {most}")));
    }
    if frame.replace(schema::OPTIONS, "").contains("x-guidance") {
        let message = "`x-guidance` is not taken in a tool's schema: leave it out";
        return Err(Fault::caller(message).at("tools"));
    }
    Ok(())
}

fn top_level(grammar: &Grammar) -> Result<TopLevelGrammar, String> {
    match grammar {
        Grammar::JsonSchema(text) => {
            TopLevelGrammar::from_tagged_str("json_schema", &schema::prepared(text))
                .map_err(|error| format!("{error:#}"))
        }
        Grammar::Regex(text) => Ok(TopLevelGrammar::from_regex(text)),
        Grammar::Lark(text) => Ok(TopLevelGrammar::from_lark(text.clone())),
        Grammar::Gbnf(text) => gbnf::to_lark(text).map(TopLevelGrammar::from_lark),
        Grammar::Choice(texts) => Ok(TopLevelGrammar::from_lark(choice(texts))),
    }
}

/// One of these texts, as one Lark terminal.
fn choice(texts: &[String]) -> String {
    let all: Vec<String> = texts.iter().map(|text| literal(text)).collect();
    format!("start: CHOICE\nCHOICE: {}\n", all.join(" | "))
}

/// A text as a Lark string, which is written as JSON's are.
pub(super) fn literal(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => c.encode_utf16(&mut [0; 2]).iter().map(hex).collect(),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

fn hex(unit: &u16) -> String {
    format!("\\u{unit:04x}")
}

fn name(grammar: &Grammar) -> &'static str {
    match grammar {
        Grammar::JsonSchema(_) => "JSON schema",
        Grammar::Regex(_) => "regular expression",
        Grammar::Lark(_) | Grammar::Gbnf(_) => "grammar",
        Grammar::Choice(_) => "choice",
    }
}

fn too_much(grammar: &Grammar, why: &str) -> Fault {
    let what = name(grammar);
    Fault::caller(format!("the {what} is too much: {why}: give a smaller one")).at("grammar")
}

fn refused(grammar: &Grammar, error: &str) -> Fault {
    let hint = match grammar {
        Grammar::JsonSchema(_) => "leave out what it names, or say it otherwise",
        Grammar::Regex(_) => {
            "it always matches the whole answer; anchors, look-around and back-references are not \
             supported"
        }
        Grammar::Lark(_) => "it has to be Lark in llguidance's dialect",
        Grammar::Gbnf(_) => "it has to be llama.cpp's notation, from a rule called root",
        Grammar::Choice(_) => "give some texts to choose from",
    };
    let (what, why) = (name(grammar), said(error));
    Fault::caller(format!("the {what} cannot be followed: {why}: {hint}")).at("grammar")
}

/// What the library says, without the state it adds, and not at any length.
pub(super) fn said(error: &str) -> String {
    let end = error.find("\n<").unwrap_or(error.len()).min(BOUNDS.message_bytes);
    let end = (0..=end).rev().find(|at| error.is_char_boundary(*at)).unwrap_or(0);
    error[..end].trim().to_owned()
}
