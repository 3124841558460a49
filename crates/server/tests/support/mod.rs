//! A provider that does what its prompt says, and a client made of a socket.
#![allow(dead_code, reason = "each test uses some of it")]

mod reader;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ingle_gateway::{Metric, ModelCard, Provider, Sheet, Tell, Wanted};
use ingle_protocol::{
    Call, Chat, Encoded, Encoding, Event, Fault, Finish, Input, KeepAlive, Origin, Piece, Receipt,
    Request, Sink, Step, Timings, Token, Usage, Weighed, Weighing,
};
use ingle_server::{Config, Control, Error, Key, Slot, Stop, bind};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// What a test can see and do behind the provider.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) cancelled: AtomicUsize,
    pub(crate) running: AtomicUsize,
    pub(crate) released: AtomicBool,
    pub(crate) seeds: Mutex<Vec<Option<u64>>>,
    /// What was loaded and unloaded.
    pub(crate) managed: Mutex<Vec<String>>,
    /// Owner, priority and time of each request.
    pub(crate) terms: Mutex<Vec<(u32, i32, Option<u32>)>>,
    pub(crate) salts: Mutex<Vec<String>>,
    /// Where each request came from.
    pub(crate) origins: Mutex<Vec<Arc<Origin>>>,
    /// What was read.
    pub(crate) encodings: Mutex<Vec<Encoding>>,
}

/// Does what the last message, or the prompt, says: `hold` gives one word and waits until it is
/// cancelled or released, `silent` waits without a word, `late`, `busy`, `long`, `bug`, `fail`,
/// `break` and `vanish` fail in their ways, `tiny` is very many pieces, all told before anybody can
/// read one; anything else is said back word by word. The model `far` is found and not listed: it
/// is one elsewhere, whose events its tokens do not bound, and begins at once, on the caller's
/// thread.
pub(crate) struct Script(pub(crate) Arc<World>);

impl Provider for Script {
    fn wanted(&self) -> Wanted {
        Wanted { headers: vec!["x-data".to_owned()], verbatim: false }
    }

    fn models(&self) -> Vec<ModelCard> {
        let card = |name: &str| ModelCard {
            name: name.to_owned(),
            architecture: "script".to_owned(),
            context_tokens: 200_000,
            created_s: 7,
            chat: true,
            ..ModelCard::default()
        };
        [card("script"), card("owner/other")].into_iter().chain(reader::cards()).collect()
    }

    fn known(&self, name: &str) -> Option<Option<ModelCard>> {
        (name == "far").then(|| {
            let card = self.models().into_iter().next().expect("there are some");
            Some(ModelCard { name: name.to_owned(), events: 1 << 20, ..card })
        })
    }

    fn lingers(&self, model: &str, _: &Request) -> bool {
        model != "far"
    }

    fn load(&self, model: &str, _: Option<KeepAlive>) -> Result<(), Fault> {
        self.0.managed.lock().expect("no panic while locked").push(format!("load {model}"));
        Ok(())
    }

    fn unload(&self, model: &str) -> Result<(), Fault> {
        self.0.managed.lock().expect("no panic while locked").push(format!("unload {model}"));
        Ok(())
    }

    fn sheet(&self, _: &str) -> Result<Sheet, Fault> {
        let metadata = vec![("general.name".to_owned(), "\"Script\"".to_owned())];
        let template = "{{ messages }}{{ tools }}".to_owned();
        Ok(Sheet { template, metadata, tools: true, thinking: false })
    }

    fn fetch(&self, reference: &str, tell: Tell<'_>) -> Result<(), Fault> {
        if reference == "endless" {
            self.0.running.fetch_add(1, Ordering::SeqCst);
            while tell("fetching", None, None).is_continue() {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.0.cancelled.fetch_add(1, Ordering::SeqCst);
            return Err(Fault::caller("the fetch was ended"));
        }
        if reference != "other" {
            return Err(Fault::caller("there is no such model anywhere").at("model"));
        }
        for done in [0, 5, 10] {
            let _ = tell("fetching", Some(done), Some(10));
        }
        self.0.managed.lock().expect("no panic while locked").push(format!("fetch {reference}"));
        Ok(())
    }

    fn remove(&self, model: &str) -> Result<(), Fault> {
        self.0.managed.lock().expect("no panic while locked").push(format!("remove {model}"));
        Ok(())
    }

    /// A label weighs as much as it has letters, after no matter what.
    fn weigh(&self, weighing: &Weighing, _: Arc<AtomicBool>) -> Result<Weighed, Fault> {
        let weight = |label: &String| -(label.trim().len() as f64);
        let logprobs = weighing.labels.iter().map(weight).collect();
        Ok(Weighed { logprobs, ended: false, receipt: receipt(&weighing.request.model, 0) })
    }

    fn encode(&self, encoding: &Encoding, cancelled: Arc<AtomicBool>) -> Result<Encoded, Fault> {
        reader::encode(&self.0, encoding, &cancelled)
    }

    fn send(&self, request: Request, mut sink: Sink) -> Result<Call, Fault> {
        let text = match &request.input {
            Input::Chat(chat) => chat.messages.last().expect("checked").content.clone(),
            Input::Text(text) => text.clone(),
            Input::Tokens(tokens) => self.detokenize("", tokens)?,
            // One of the two models can fill gaps.
            Input::Gap(_) if request.model == "script" => {
                return Err(Fault::caller("this model has no tokens for filling in the middle"));
            }
            Input::Gap(gap) => format!("<{}>{}|{}", gap.prefix, gap.suffix, gap.begun),
        };
        self.0.seeds.lock().expect("no panic while locked").push(request.sampling.seed);
        let terms = (request.owner, request.priority, request.timeout_ms);
        self.0.terms.lock().expect("no panic while locked").push(terms);
        self.0.salts.lock().expect("no panic while locked").push(request.prefix_salt());
        let origin = request.origin.clone().unwrap_or_default();
        self.0.origins.lock().expect("no panic while locked").push(origin);
        match text.as_str() {
            "late" => {
                return Err(Fault::late(Duration::from_millis(2500), "too late").at("timeout_ms"));
            }
            "busy" => return Err(Fault::busy(Duration::from_millis(2500), "the queue is full")),
            "long" => return Err(Fault::caller("the prompt is too long").at("messages")),
            "bug" => panic!("a bug that the test asked for"),
            _ => {}
        }
        let (call, cancelled) = Call::new();
        if text == "tiny" {
            let piece = || Event::Text(Piece { text: ".".to_owned(), ..Piece::default() });
            let pieces = std::iter::repeat_with(piece).take(TINY);
            let _ = pieces.chain([done(&request.model, 10)]).try_for_each(&mut sink);
            return Ok(call);
        }
        let world = Arc::clone(&self.0);
        world.running.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            play(&world, &request.model, &text, sink, &cancelled);
            world.running.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(call)
    }

    fn render(&self, _: &str, chat: &Chat) -> Result<String, Fault> {
        let turns = chat.messages.iter().map(|turn| format!("{}:{}\n", turn.role, turn.content));
        Ok(turns.collect())
    }

    fn tokenize(&self, _: &str, text: &str, special: bool) -> Result<Vec<Token>, Fault> {
        Ok(text.bytes().map(|byte| u32::from(byte) + u32::from(special) * 1000).collect())
    }

    fn detokenize(&self, _: &str, tokens: &[Token]) -> Result<String, Fault> {
        let text: Option<String> = tokens.iter().map(|token| char::from_u32(*token)).collect();
        text.ok_or_else(|| Fault::caller("there is no such token").at("tokens"))
    }

    fn metrics(&self) -> Vec<Metric> {
        let name = "script_lines";
        vec![Metric { name, help: "Lines.", counter: false, model: None, value: 2.0 }]
    }
}

/// Pieces of `tiny`.
pub(crate) const TINY: usize = 100_000;

fn play(world: &World, model: &str, text: &str, mut sink: Sink, cancelled: &AtomicBool) {
    let mut say = |event| sink(event) == ControlFlow::Continue(());
    let word = |text: &str| Event::Text(Piece { text: text.to_owned(), ..Piece::default() });
    let wait = |say: &mut dyn FnMut(Event) -> bool| {
        while !world.released.load(Ordering::SeqCst) {
            if cancelled.load(Ordering::Acquire) {
                world.cancelled.fetch_add(1, Ordering::SeqCst);
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        say(word(" released"));
        say(done(model, 2));
    };
    match text {
        "fail" => {
            say(Event::Failed(Fault::ours("it broke")));
        }
        "break" => {
            say(word("some"));
            say(Event::Failed(Fault::ours("it broke later")));
        }
        "vanish" => {
            say(word("some"));
        }
        "silent" => wait(&mut say),
        "hold" => {
            say(word("held"));
            wait(&mut say);
        }
        text => {
            let words = text.split_inclusive(' ');
            let count = words.clone().count();
            let said = words.map(word).all(&mut say);
            assert!(said || cancelled.load(Ordering::Acquire), "the channel outlives the call");
            say(done(model, count as u32));
        }
    }
}

fn done(model: &str, completion_tokens: u32) -> Event {
    Event::Done(Box::new(receipt(model, completion_tokens)))
}

fn receipt(model: &str, completion_tokens: u32) -> Receipt {
    let step = Step { candidate: model.to_owned(), taken: true, reason: "local".to_owned() };
    Receipt {
        model: model.to_owned(),
        route: vec![step],
        left_machine: false,
        cost_micros: 0,
        finish: Finish::Stop,
        stop: None,
        notes: Vec::new(),
        usage: Usage { prompt_tokens: 5, cached_tokens: 1, completion_tokens, ..Usage::default() },
        timings: Timings {
            load: Duration::ZERO,
            queued: Duration::from_millis(1),
            first_token: Duration::from_millis(3),
            total: Duration::from_millis(7),
        },
    }
}

/// A server on a port of its own.
pub(crate) struct Server {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) world: Arc<World>,
    pub(crate) stop: watch::Sender<Stop>,
    pub(crate) ended: JoinHandle<Result<(), Error>>,
}

pub(crate) fn config() -> Config {
    Config { listen: "127.0.0.1:0".parse().expect("an address"), ..Config::default() }
}

/// Keys that open everything.
pub(crate) fn keys(keys: &[&str]) -> Vec<Key> {
    keys.iter().map(|key| Key::chosen(key).expect("long enough")).collect()
}

pub(crate) async fn start(config: Config) -> Server {
    start_with(config).await.0
}

/// The same, with a hold on its configuration.
pub(crate) async fn start_with(config: Config) -> (Server, Control) {
    let bound = bind(config).await.expect("a free port");
    let control = bound.control();
    let (address, world) = (bound.address(), Arc::new(World::default()));
    let (stop, stopped) = watch::channel(Stop::Run);
    let script = Arc::new(Script(Arc::clone(&world)));
    let (loaded, is_loaded) = oneshot::channel();
    let load = |slot: &Slot| {
        slot.fill(script);
        let _ = loaded.send(());
        Ok::<_, Fault>(())
    };
    let ended = tokio::spawn(bound.serve(load, stopped));
    let server = Server { address, world, stop, ended };
    is_loaded.await.expect("it is loaded");
    (server, control)
}

/// Waits until something is so; a test that waits in vain fails.
pub(crate) async fn until(mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..5000 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("waited in vain");
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|line| line.0.eq_ignore_ascii_case(name)).map(|line| line.1)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    /// The data of an event stream's events.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
    }
}

/// A chat request's body.
pub(crate) fn chat(text: &str, extra: &str) -> String {
    format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]{extra}}}"#)
}

pub(crate) const CHAT: &str = "/v1/chat/completions";

impl Server {
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "", "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Reply {
        self.ask("POST", path, "content-type: application/json\r\n", body).await
    }

    /// Sends a request and reads all of its answer.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        let mut socket = self.send(method, path, headers, body).await;
        let mut bytes = Vec::new();
        // An answer given before the whole body was read may end in a reset.
        let _ = socket.read_to_end(&mut bytes).await;
        parse(&bytes)
    }

    /// Sends a request and leaves its answer on the socket.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.expect("it listens");
        let host =
            if headers.contains("host:") { String::new() } else { "host: localhost\r\n".into() };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{host}{headers}content-length: {length}\r\n\
             connection: close\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.expect("it reads");
        let _ = socket.write_all(body.as_bytes()).await;
        socket
    }
}

/// Reads until `words` have come.
pub(crate) async fn read_until(socket: &mut (impl AsyncRead + Unpin), words: &str) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains(words) {
        let count = socket.read(&mut buffer).await.expect("open");
        assert!(count > 0, "ended before {words:?}: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

pub(crate) fn parse(bytes: &[u8]) -> Reply {
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body) } else { body.to_owned() };
    Reply { status: status.expect("a status"), head: head.to_owned(), body }
}

fn unchunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        out.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    out
}
