//! A model on this machine, with a thread of its own. Requests are rendered and tokenized on the
//! caller's thread; the engine's thread only computes, samples and detokenizes.

mod adapters;
mod weigh;

pub use adapters::AdapterFile;
pub(crate) use adapters::unusable;

use crate::Options;
use crate::beams;
use crate::core::{Core, Ending, Job, Reply, Stats, Watch};
use crate::draft::pair;
use crate::grammar::{Grammars, Guide};
use crate::hear::{Hearing, Plan};
use crate::prefix;
use crate::prompts;
use crate::resident::reads_only;
use crate::sampling::{self, Sampler, Terms};
use crate::told::Telling;
use ingle_backend::Backend;
use ingle_backend::cpu::Cpu;
use ingle_backend::cpu::pool;
use ingle_model::archs::Targets;
use ingle_model::dialect::{Dialect, Frame};
use ingle_model::gguf::Gguf;
use ingle_model::reading::Reading;
use ingle_model::template::Template;
use ingle_model::tokenizer::{Special, Tokenizer};
use ingle_protocol::{
    Blame, Call, Chat, Event, Fault, Finish, Grammar, Input, Piece, Receipt, Request, Sampling,
    Scored, Sink, Step, Timings, Token, TokenScore, Usage,
};
use ingle_scheduler::Rank;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// What is known of a loaded model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The name it was opened under.
    pub name: String,
    /// Its architecture, as its file names it.
    pub architecture: String,
    /// The longest prompt and answer together, in tokens.
    pub context: usize,
    /// Tokens in its vocabulary.
    pub vocabulary: usize,
    /// Threads that compute.
    pub threads: usize,
    /// The kernel row in use.
    pub kernels: &'static str,
    /// How keys and values are kept.
    pub kv_type: &'static str,
    /// Bytes of weights that a step reads, as the file stores them.
    pub weight_bytes: usize,
}

/// How a request came.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When; its times count from here.
    pub at: Instant,
    /// What it then waited for the model to be in memory.
    pub load: Duration,
    /// Raised when nobody wants the answer any more.
    pub cancelled: Arc<AtomicBool>,
}

/// A tokenizer may shorten a text before it cuts it into tokens ("e" and an accent become "é"), but
/// not to less than a quarter.
const SHORTENED: usize = 4;

/// The longest salt. What a caller may give is shorter, so that a server can put more before it.
const SALT_BYTES: usize = 2048;

enum Command {
    Run(Box<Job>),
    Adapt(Box<adapters::Coming>),
    /// Adapters may not be wanted any more.
    Sweep,
    Quit,
}

/// A prompt's tokens, what its answer is listened to for, and the grammar around the answer's own.
type Prepared = (Vec<Token>, Option<Plan>, Option<Frame>);

/// A loaded model. Dropping it ends its thread; what still runs is cancelled.
#[expect(missing_debug_implementations, reason = "holds a template and a thread")]
pub struct Local {
    info: Info,
    tokenizer: Tokenizer,
    template: Option<Template>,
    grammars: Grammars,
    targets: Arc<Targets>,
    adapters: Mutex<Vec<adapters::Named>>,
    /// Bytes of a text that can no more fit the context than be worth encoding.
    prompt_bytes: usize,
    commands: SyncSender<Command>,
    relay: SyncSender<Job>,
    /// Requests under way, and the most there may be.
    under_way: Arc<AtomicUsize>,
    most: usize,
    stats: Arc<Mutex<Stats>>,
    seeds: AtomicUsize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

pub(crate) fn broken(error: &ingle_model::Error) -> Fault {
    match error {
        ingle_model::Error::Refused(_) => Fault::caller(error.to_string()),
        _ => Fault::ours(error.to_string()),
    }
}

impl Local {
    /// Loads a model file. `progress` hears the share done, 0 to 1.
    pub fn open(
        name: &str,
        path: &Path,
        options: &Options,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Self, Fault> {
        let gguf = options.open(path).map_err(|error| broken(&error))?;
        if Reading::of(&gguf).map_err(|error| broken(&error))?.is_some() {
            return Err(reads_only(name));
        }
        let tokenizer = Tokenizer::from_gguf(&gguf).map_err(|error| broken(&error))?;
        let template = Template::from_gguf(&gguf, &tokenizer).map_err(|error| broken(&error))?;
        let second = pair::open(options, &tokenizer)?;
        let (mut core, threads, kernels) = load(&gguf, second.as_ref(), options, progress)?;
        gguf.fault().map_err(|error| broken(&error))?;
        if let Some(disk) = &options.prefix_disk {
            let model = prefix::model_identity(&gguf, path);
            core.keep(disk, options.warn, |block| prefix::with_arithmetic(model, block));
        }
        if tokenizer.vocab_len() > core.vocabulary() {
            return Err(Fault::ours(format!(
                "the model file has {} tokens and embeddings for {}",
                tokenizer.vocab_len(),
                core.vocabulary()
            )));
        }
        let info = Info {
            name: name.to_owned(),
            architecture: gguf.arch().to_owned(),
            context: core.context(),
            vocabulary: tokenizer.vocab_len(),
            threads,
            kernels,
            kv_type: options.kv_type().name(),
            weight_bytes: core.weight_bytes(),
        };
        let longest = (0..tokenizer.vocab_len() as Token)
            .filter_map(|token| tokenizer.bytes_with_markup(token))
            .fold(1, |longest, bytes| longest.max(bytes.len()));
        let prompt_bytes = core.context().saturating_mul(longest).saturating_mul(SHORTENED);
        // A request holds its place while it is in here, so whoever brings one never waits.
        let most = options.running.max(1) + options.waiting.max(1);
        let (commands, inbox) = sync_channel(most);
        let stats = Arc::new(Mutex::new(core.stats()));
        let (seen, relay, targets) = (Arc::clone(&stats), core.relay(), core.targets());
        let thread = std::thread::Builder::new()
            .name("ingle-engine".into())
            .spawn(move || drive(core, &inbox, &seen))
            .map_err(|error| Fault::ours(format!("no thread for the engine: {error}")))?;
        let local = Self {
            info,
            grammars: Grammars::new(tokenizer.clone()),
            tokenizer,
            template,
            targets,
            adapters: Mutex::default(),
            prompt_bytes,
            commands,
            relay,
            under_way: Arc::default(),
            most,
            stats,
            seeds: AtomicUsize::new(0),
            thread: Mutex::new(Some(thread)),
        };
        options.adapters.iter().try_for_each(|it| local.adapt(&it.name, &it.path))?;
        Ok(local)
    }

    /// What is known of the model.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether it has a chat template.
    pub fn chats(&self) -> bool {
        self.template.is_some()
    }

    /// Totals since the start.
    pub fn stats(&self) -> Stats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A conversation as the model's template writes it, up to where the assistant begins, and the
    /// dialect that it answers in.
    pub fn render(&self, chat: &Chat) -> Result<(String, Dialect), Fault> {
        let Some(template) = &self.template else {
            return Err(Fault::caller(format!(
                "`{}` is a base model without a chat template: ask for a plain completion instead \
                 (`/v1/completions`, or `ingle run --raw`)",
                self.info.name
            )));
        };
        chat.validate()?;
        chat.texts_only()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        template.prompt(chat, now).map_err(|error| broken(&error))
    }

    /// The tokens of a request's input.
    pub fn prompt(&self, input: &Input) -> Result<Vec<Token>, Fault> {
        match input {
            Input::Chat(chat) => self.encode(&self.render(chat)?.0),
            Input::Text(text) => {
                self.may_fit(text)?;
                Ok(self.tokenizer.encode_prompt(text, Special::Parse))
            }
            Input::Tokens(tokens) => Ok(tokens.clone()),
            Input::Gap(gap) => {
                self.may_fit(&[&*gap.prefix, &gap.suffix, &gap.begun].concat())?;
                prompts::gap(&self.tokenizer, gap)
            }
        }
    }

    /// The tokens of a rendered conversation. A template writes BOS itself where its model wants
    /// one.
    fn encode(&self, text: &str) -> Result<Vec<Token>, Fault> {
        self.may_fit(text)?;
        Ok(self.tokenizer.encode(text, Special::Parse))
    }

    /// A request's prompt, what is listened for in its answer, and what stands around the answer's
    /// own grammar.
    fn prepare(&self, request: &Request, ids: u64) -> Result<Prepared, Fault> {
        let Input::Chat(chat) = &request.input else {
            return Ok((self.prompt(&request.input)?, None, None));
        };
        let (text, dialect) = self.render(chat)?;
        let frame = dialect.frame(chat, &self.tokenizer, &text, request.grammar.is_some());
        Ok((self.encode(&text)?, Plan::of(dialect, chat, &text, ids), frame))
    }

    fn guide(
        &self,
        frame: Option<&Frame>,
        grammar: Option<&Grammar>,
    ) -> Result<Option<Guide>, Fault> {
        match (frame, grammar) {
            (Some(frame), _) => match self.grammars.guide_within(frame, grammar) {
                // Then calls are read as they come.
                Err(fault) if !frame.needed && fault.blame == Blame::Caller => Ok(None),
                guide => guide.map(Some),
            },
            (None, Some(grammar)) => self.grammars.guide(grammar).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Refuses a text before it is encoded where no tokens of this model could fit the context:
    /// encoding takes seconds for some texts of megabytes.
    fn may_fit(&self, text: &str) -> Result<(), Fault> {
        if text.len() <= self.prompt_bytes {
            return Ok(());
        }
        Err(Fault::caller(format!(
            "the prompt has {} bytes, far more than the {} tokens of the context hold: shorten the \
             prompt, or load the model with a larger --context",
            text.len(),
            self.info.context
        )))
    }

    /// Starts answering. Events come through `sink`, on the engine's thread. A grammar is compiled
    /// here, on the caller's.
    pub fn send(&self, request: &Request, sink: Sink) -> Result<Call, Fault> {
        let (call, cancelled) = Call::new();
        self.start(request, sink, Arrival { at: Instant::now(), load: Duration::ZERO, cancelled })?;
        Ok(call)
    }

    /// Starts answering a request that came before now.
    pub fn start(&self, request: &Request, sink: Sink, arrival: Arrival) -> Result<(), Fault> {
        let Arrival { at: arrived, load, cancelled } = arrival;
        sampling::validate(&request.sampling, self.info.vocabulary)?;
        let seed = request.sampling.seed.unwrap_or_else(|| self.fresh_seed());
        let (mut prompt, plan, frame) = self.prepare(request, self.fresh_seed())?;
        let context = self.info.context;
        let cut = prompts::truncate(&mut prompt, request.truncation, context, request.max_tokens)?;
        let used = self.used(&prompt)?;
        salt_fits(&request.prefix_salt())?;
        let (adapters, model) = self.adapted(request.adapters.as_deref().unwrap_or_default())?;
        let telling = Telling::of(request, &prompt, &self.tokenizer)?;
        let scores = telling.as_ref().is_some_and(Telling::scores);
        let asked = request.max_tokens.map_or(usize::MAX, |n| n as usize);
        if asked == 0 && !scores {
            return Err(Fault::caller("max_tokens is 0").at("max_tokens"));
        }
        if let Some(rules) = request.beams {
            let timings = Timings { load, ..Timings::default() };
            let new_max = asked.min(context - used);
            let asked = beams::Asked {
                request,
                prompt,
                adapters,
                model,
                new_max,
                cut,
                arrived,
                timings,
                cancelled,
            };
            return self.search(rules, asked, sink);
        }
        let place = self.place()?;
        let mut guide = self.guide(frame.as_ref(), request.grammar.as_ref())?;
        guide.iter_mut().for_each(|guide| guide.ignore_ends(request.sampling.ignore_eos));
        let answer = Answer {
            sink,
            tokenizer: self.tokenizer.clone(),
            hearing: Hearing::new(&self.tokenizer, &request.stop, plan),
            constrained: guide.is_some() && frame.is_none_or(|frame| frame.needed),
            logprobs: request.logprobs,
            token_ids: request.token_ids,
            telling,
            cut,
            silent: asked == 0,
            ignore_eos: request.sampling.ignore_eos,
            stop_tokens: request.sampling.stop_tokens.clone(),
            model,
            usage: Usage { prompt_tokens: used as u32, ..Usage::default() },
            timings: Timings { load, ..Timings::default() },
            arrived,
            cancelled: Arc::clone(&cancelled),
            _place: place,
        };
        let sampler = || self.sampler(&request.sampling, seed);
        let job = Job {
            prompt,
            new_max: asked.clamp(1, context - used),
            sampler: (asked > 0).then(sampler),
            scores,
            guide,
            salt: (!scores).then(|| request.prefix_salt()),
            adapters,
            rank: Rank { priority: request.priority, owner: request.owner },
            deadline: deadline(request, arrived),
            cancelled,
            watch: Box::new(answer),
        };
        self.submit(job)
    }

    fn sampler(&self, sampling: &Sampling, seed: u64) -> Sampler {
        Sampler::new(sampling, seed).with(Terms::of(sampling, &self.tokenizer))
    }

    /// Tokens of a prompt that leaves room for an answer.
    fn used(&self, prompt: &[Token]) -> Result<usize, Fault> {
        let (used, context) = (prompt.len(), self.info.context);
        if used == 0 {
            return Err(Fault::caller("the prompt is empty"));
        }
        if used >= context {
            return Err(Fault::caller(format!(
                "the prompt has {used} tokens and the context holds {context}, the answer included: \
                 shorten the prompt, or load the model with a larger --context"
            )));
        }
        Ok(used)
    }

    /// A place for one sequence under way.
    pub(crate) fn place(&self) -> Result<Place, Fault> {
        Place::take(&self.under_way, self.most)
    }

    /// Where jobs go that follow upon others.
    pub(crate) fn relay(&self) -> SyncSender<Job> {
        self.relay.clone()
    }

    /// Hands a job to the engine's thread.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Fault> {
        self.command(Command::Run(Box::new(job)))
    }

    fn command(&self, command: Command) -> Result<(), Fault> {
        self.commands.send(command).map_err(|_| ended())
    }

    /// A seed that no earlier request had: time and a count, mixed.
    fn fresh_seed(&self) -> u64 {
        let count = self.seeds.fetch_add(1, Ordering::Relaxed) as u64;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let nanos = now.map_or(0, |since| since.as_nanos() as u64);
        nanos.rotate_left(32) ^ count.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

impl Local {
    /// Ends the engine: what still runs is cancelled, what is kept on disk is written. Requests
    /// that come after it are refused.
    pub fn finish(&self) {
        let _ = self.commands.send(Command::Quit);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What is told where the engine's thread is gone.
fn ended() -> Fault {
    Fault::ours("the engine's thread has ended: restart Ingle")
}

/// The core of a model file, and of one that guesses for it, and the threads and kernels they run
/// on.
pub(crate) fn load(
    gguf: &Gguf,
    second: Option<&Gguf>,
    options: &Options,
    progress: &mut dyn FnMut(f32),
) -> Result<(Core, usize, &'static str), Fault> {
    let kernels = options.kernels();
    let mut cpu =
        Cpu::new(kernels, options.threads.unwrap_or_else(pool::cores)).with_kv(options.kv_type());
    let threads = cpu.threads();
    let network = ingle_model::archs::record(gguf, &mut cpu, options.context)
        .map_err(|error| broken(&error))?;
    let Some(second) = second else {
        return Ok((Core::new(Box::new(cpu), network, options, progress)?, threads, kernels.name));
    };
    let mut beside = cpu.beside();
    let guessing = pair::record(second, &mut beside, options.context)?;
    let (options, bytes) = pair::shares(options, &guessing, beside.block_bytes())?;
    let mut core = Core::new(Box::new(cpu), network, &options, progress)?;
    core.guess_with(Box::new(beside), guessing, bytes, progress)?;
    Ok((core, threads, kernels.name))
}

/// The engine's thread: takes what came in, turns, sleeps when idle.
fn drive(mut core: Core, inbox: &Receiver<Command>, stats: &Mutex<Stats>) {
    loop {
        let command = if !core.idle() {
            core.rest();
            inbox.try_recv()
        } else {
            *stats.lock().unwrap_or_else(PoisonError::into_inner) = core.stats();
            next(&mut core, inbox)
        };
        match command {
            Ok(Command::Run(job)) => {
                core.set_time(Instant::now());
                core.submit(*job);
                continue;
            }
            Ok(Command::Adapt(coming)) => {
                coming.take_in(&mut core);
                continue;
            }
            Ok(Command::Sweep) => {
                core.sweep();
                continue;
            }
            Ok(Command::Quit) | Err(TryRecvError::Disconnected) => return core.close(),
            Err(TryRecvError::Empty) => {}
        }
        core.set_time(Instant::now());
        core.turn();
        *stats.lock().unwrap_or_else(PoisonError::into_inner) = core.stats();
    }
}

/// What comes in while there is nothing to compute; meanwhile blocks may be written.
fn next(core: &mut Core, inbox: &Receiver<Command>) -> Result<Command, TryRecvError> {
    while core.save() {
        match inbox.recv_timeout(Duration::from_millis(1)) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(TryRecvError::Disconnected),
            Ok(command) => return Ok(command),
        }
    }
    inbox.recv().map_err(|_| TryRecvError::Disconnected)
}

/// One of the places for requests under way; given back when dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(under_way: &Arc<AtomicUsize>, most: usize) -> Result<Self, Fault> {
        let place = Self(Arc::clone(under_way));
        if under_way.fetch_add(1, Ordering::AcqRel) < most {
            return Ok(place);
        }
        let message = format!("{most} requests are under way already: try again later");
        Err(Fault::busy(Duration::from_secs(1), message))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What turns a sequence's tokens into a request's events.
struct Answer {
    sink: Sink,
    tokenizer: Tokenizer,
    hearing: Hearing,
    /// Whether it has a grammar.
    constrained: bool,
    logprobs: Option<u8>,
    token_ids: bool,
    /// Until its prompt has been told of.
    telling: Option<Telling>,
    /// What was cut of its prompt, in words.
    cut: Option<String>,
    /// It has a prompt alone.
    silent: bool,
    ignore_eos: bool,
    stop_tokens: Vec<Token>,
    model: String,
    usage: Usage,
    timings: Timings,
    arrived: Instant,
    cancelled: Arc<AtomicBool>,
    _place: Place,
}

impl Answer {
    /// Sends what was heard. A caller that went away is no error.
    fn tell(&mut self, events: Vec<Event>) {
        for event in events {
            if (self.sink)(event) == ControlFlow::Break(()) {
                self.cancelled.store(true, Ordering::Release);
            }
        }
    }

    fn score(&self, token: Token, logits: &[f32]) -> Vec<TokenScore> {
        let Some(top) = self.logprobs else { return Vec::new() };
        let scored = |token: Token, logprob: f32| Scored {
            token,
            bytes: self.tokenizer.bytes_with_markup(token).unwrap_or_default().to_vec(),
            logprob,
        };
        let (logprob, top) = sampling::top_logprobs(logits, token, usize::from(top));
        let top = top.into_iter().map(|(token, logprob)| scored(token, logprob)).collect();
        vec![TokenScore { chosen: scored(token, logprob), top }]
    }

    fn receipt(&self, finish: Finish) -> Receipt {
        let usage = Usage { reasoning_tokens: self.hearing.thought(), ..self.usage };
        let timings = Timings { total: self.arrived.elapsed(), ..self.timings };
        Receipt {
            stop: self.hearing.met().map(str::to_owned),
            notes: self.notes(finish),
            ..receipt(&self.model, finish, usage, timings)
        }
    }
}

fn salt_fits(salt: &str) -> Result<(), Fault> {
    if salt.len() <= SALT_BYTES {
        return Ok(());
    }
    let message = format!("cache_salt is longer than {SALT_BYTES} bytes: hash it");
    Err(Fault::caller(message).at("cache_salt"))
}

/// When a request that came at `arrived` is ended, complete or not.
pub(crate) fn deadline(request: &Request, arrived: Instant) -> Option<Instant> {
    request.timeout_ms.map(|ms| arrived + Duration::from_millis(ms.into()))
}

/// The receipt of what this machine computed.
pub(crate) fn receipt(model: &str, finish: Finish, usage: Usage, timings: Timings) -> Receipt {
    let (taken, reason) = (true, "runs on this machine".to_owned());
    Receipt {
        model: model.to_owned(),
        route: vec![Step { candidate: model.to_owned(), taken, reason }],
        left_machine: false,
        cost_micros: 0,
        finish,
        stop: None,
        notes: Vec::new(),
        usage,
        timings,
    }
}

impl Answer {
    fn notes(&self, finish: Finish) -> Vec<String> {
        const CUT: &str = "it was cut short by the limit on its tokens, and may not match its \
                           grammar yet: allow more of them";
        let cut = (self.constrained && finish == Finish::Length).then(|| CUT.to_owned());
        self.cut.iter().cloned().chain(self.hearing.notes()).chain(cut).collect()
    }
}

impl Watch for Answer {
    fn started(&mut self, cached: usize) {
        self.usage.cached_tokens = cached as u32;
        self.timings.queued = self.arrived.elapsed();
        let told = self.telling.as_mut().and_then(Telling::started);
        self.tell(told.into_iter().collect());
    }

    fn logits(&mut self, position: usize, logits: &[f32]) {
        let told = self.telling.as_mut().and_then(|telling| telling.logits(position, logits));
        self.tell(told.into_iter().collect());
    }

    fn token(&mut self, token: Token, logits: &[f32]) -> Reply {
        if self.timings.first_token.is_zero() {
            self.timings.first_token = self.arrived.elapsed();
        }
        let ends = self.tokenizer.is_end(token) && !self.ignore_eos;
        if ends || self.stop_tokens.contains(&token) {
            return Reply::Stop;
        }
        self.usage.completion_tokens += 1;
        let tokens = if self.token_ids { vec![token] } else { Vec::new() };
        let beside = Piece { scores: self.score(token, logits), tokens, ..Piece::default() };
        let (events, reply) = self.hearing.token(token, beside);
        self.tell(events);
        reply
    }

    fn forced(&self) -> Option<Token> {
        self.hearing.forced()
    }

    fn speculated(&mut self, accepted: usize, rejected: usize) {
        self.usage.accepted_tokens += accepted as u32;
        self.usage.rejected_tokens += rejected as u32;
    }

    fn ended(mut self: Box<Self>, how: Ending) {
        let mut finish = match how {
            Ending::Stopped if self.silent => Finish::Length,
            Ending::Stopped => Finish::Stop,
            Ending::Full => Finish::Length,
            Ending::Cancelled => Finish::Cancelled,
            Ending::Refused(fault) | Ending::Failed(fault) => {
                let _ = (self.sink)(Event::Failed(fault));
                return;
            }
            Ending::Expired => {
                let _ = (self.sink)(Event::Failed(expired()));
                return;
            }
        };
        if finish != Finish::Cancelled {
            let events = self.hearing.finish(finish == Finish::Stop);
            self.tell(events);
        }
        if let Some(why) = self.hearing.malformed() {
            let _ = (self.sink)(Event::Failed(malformed(why)));
            return;
        }
        if finish == Finish::Stop && self.hearing.called() && self.hearing.met().is_none() {
            finish = Finish::ToolCalls;
        }
        let receipt = Box::new(self.receipt(finish));
        let _ = (self.sink)(Event::Done(receipt));
    }
}

/// No text is made of such a call: whoever reads it would take it for an answer.
fn malformed(why: &str) -> Fault {
    Fault::ours(format!(
        "the model wrote a tool call that is none: {why}: ask again, or have the form of calls \
         enforced by tool_choice \"required\" or by tools that are strict"
    ))
}

pub(crate) fn expired() -> Fault {
    let message = "the time given passed before the answer was complete: allow more of it, or ask \
                   for fewer tokens";
    Fault::late(Duration::from_secs(1), message).at("timeout_ms")
}
