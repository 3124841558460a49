//! A scripted upstream behind [`Dial`]: what each request to each host is answered with, in order,
//! and a log of what was seen of them. Connections are pairs of pipes in memory.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ingle_gateway::remote::net::{Dial, Dialling, Link, Target};
use ingle_gateway::remote::{
    Backoff, Listener, Outcome, Plan, Remote, Secret, Told, Try, Upstream, World, kind,
};
use ingle_protocol::{CallPart, Chat, Event, Input, Message, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// The key of all providers here, which must be seen nowhere but in requests.
pub(crate) const KEY: &str = "sk-test-0123456789abcdef";

/// What happens to a connection, or to a request on it.
#[derive(Clone, Debug)]
pub(crate) enum React {
    /// There is no connection.
    Refuse,
    /// There is none for a long time.
    Hang,
    /// A request is read, and these are done.
    Do(Vec<Act>),
}

/// A step of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// These bytes.
    Write(Vec<u8>),
    /// Nothing, for so many milliseconds.
    Wait(u64),
    /// These bytes, again and again.
    Forever(Vec<u8>),
    /// The connection is closed.
    Close,
    /// Nothing more ever, with the connection open.
    Silence,
}

/// A reaction that writes one text.
pub(crate) fn raw(text: impl Into<Vec<u8>>) -> React {
    React::Do(vec![Act::Write(text.into())])
}

/// A whole answer with a status and fields.
pub(crate) fn status(code: u16, fields: &str, body: &str) -> React {
    let length = body.len();
    raw(format!(
        "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\n{fields}content-length: {length}\
         \r\n\r\n{body}"
    ))
}

/// The head of a stream of events.
pub(crate) fn head() -> Act {
    let text = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                transfer-encoding: chunked\r\n\r\n";
    Act::Write(text.into())
}

/// A part of a body in parts.
pub(crate) fn part(text: impl AsRef<[u8]>) -> Act {
    let text = text.as_ref();
    let mut bytes = format!("{:x}\r\n", text.len()).into_bytes();
    bytes.extend_from_slice(text);
    bytes.extend_from_slice(b"\r\n");
    Act::Write(bytes)
}

/// A piece of a chat's answer.
pub(crate) fn piece(text: &str) -> Act {
    part(format!(
        "data: {{\"model\":\"m-1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
    ))
}

/// A chat's end: why, and what it took.
pub(crate) fn finish() -> Act {
    part(
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
         data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n\
         data: [DONE]\n\n",
    )
}

/// The end of a body in parts.
pub(crate) fn end() -> Act {
    Act::Write(b"0\r\n\r\n".to_vec())
}

/// A good answer in three pieces.
pub(crate) fn good() -> React {
    React::Do(vec![head(), piece("one "), piece("two "), piece("three"), finish(), end()])
}

/// What a script plays with.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    scripts: Mutex<HashMap<String, VecDeque<React>>>,
    log: Mutex<Vec<String>>,
    /// The last request to each host, head and body.
    pub(crate) seen: Mutex<HashMap<String, (String, Vec<u8>)>>,
}

impl Stage {
    pub(crate) fn script(&self, host: &str, reactions: impl IntoIterator<Item = React>) {
        self.scripts.lock().expect("no panic").entry(host.into()).or_default().extend(reactions);
    }

    /// What was seen since it was last asked: `a dial`, `a ask`, `a gone`.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic").drain(..).collect::<Vec<_>>().join(", ")
    }

    fn note(&self, host: &str, what: &str) {
        self.log.lock().expect("no panic").push(format!("{host} {what}"));
    }

    /// What comes next, if `wanted`; what has no script is good.
    fn next(&self, host: &str, wanted: fn(&React) -> bool) -> Option<React> {
        let mut scripts = self.scripts.lock().expect("no panic");
        let script = scripts.entry(host.to_owned()).or_default();
        match script.front() {
            Some(next) if !wanted(next) => None,
            Some(_) => script.pop_front(),
            None => wanted(&good()).then(good),
        }
    }
}

/// Dials a stage. What was seen there is not shown, since requests hold keys.
#[derive(Clone)]
pub(crate) struct Wings(pub(crate) Arc<Stage>);

impl std::fmt::Debug for Wings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wings")
    }
}

impl Dial for Wings {
    fn dial(&self, target: &Target) -> Dialling {
        let (stage, host) = (Arc::clone(&self.0), target.host.clone());
        Box::pin(async move {
            stage.note(&host, "dial");
            match stage.next(&host, |next| !matches!(next, React::Do(_))) {
                Some(React::Refuse) => Err(io::ErrorKind::ConnectionRefused.into()),
                Some(_) => std::future::pending().await,
                None => {
                    let (near, far) = duplex(64 << 10);
                    tokio::spawn(play(stage, host.clone(), far));
                    Ok(Link { stream: Box::new(near), local: host == "localhost" })
                }
            }
        })
    }
}

/// Plays the other end of a connection.
async fn play(stage: Arc<Stage>, host: String, mut pipe: DuplexStream) {
    while let Some(request) = read_request(&mut pipe).await {
        stage.note(&host, "ask");
        stage.seen.lock().expect("no panic").insert(host.clone(), request);
        let Some(React::Do(acts)) = stage.next(&host, |next| matches!(next, React::Do(_))) else {
            return; // a refusal is next: this connection is closed
        };
        for act in acts {
            if !perform(&mut pipe, act).await {
                stage.note(&host, "gone");
                return;
            }
        }
    }
    stage.note(&host, "gone");
}

/// Does one step; false where the connection is over.
async fn perform(pipe: &mut DuplexStream, act: Act) -> bool {
    match act {
        Act::Write(bytes) => pipe.write_all(&bytes).await.is_ok(),
        Act::Wait(ms) => {
            // Whether the other end closes meanwhile is noticed.
            tokio::select! {
                () = sleep(Duration::from_millis(ms)) => true,
                read = pipe.read_u8() => read.is_ok(),
            }
        }
        Act::Forever(bytes) => {
            while pipe.write_all(&bytes).await.is_ok() {
                tokio::task::yield_now().await;
            }
            false
        }
        Act::Close => false,
        Act::Silence => pipe.read_u8().await.is_ok(),
    }
}

async fn read_request(pipe: &mut DuplexStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(pipe.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    pipe.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

/// A provider called as its host, of OpenAI's kind, with short times.
pub(crate) fn provider(name: &str) -> Upstream {
    Upstream {
        url: format!("https://{name}/v1"),
        key: Some(Secret::new(KEY)),
        backoff: Backoff { first: Duration::from_millis(200), most: Duration::from_secs(10) },
        ..Upstream::new(name, kind("openai").expect("a row"))
    }
}

/// A world whose chance is always the least and whose time stands.
pub(crate) fn world(stage: &Arc<Stage>) -> World {
    World {
        now_ms: Arc::new(|| 1_440_938_160_000),
        random: Arc::new(|| 0),
        dial: Arc::new(Wings(Arc::clone(stage))),
    }
}

pub(crate) fn remote(stage: &Arc<Stage>, upstreams: Vec<Upstream>) -> Remote {
    Remote::new(Handle::current(), upstreams, world(stage)).expect("the settings are right")
}

pub(crate) fn plan(names: &[&str]) -> Plan {
    let one = |name: &&str| {
        let (provider, model) = name.split_once('/').unwrap_or((name, "m"));
        Try { provider: provider.into(), model: model.into(), max_tokens: None }
    };
    Plan { tries: names.iter().map(one).collect(), prompt_tokens: 11, ..Plan::default() }
}

pub(crate) fn request() -> Request {
    let turn = Message { role: "user".into(), content: "say".into(), ..Message::default() };
    let chat = Chat { messages: vec![turn], ..Chat::default() };
    Request { input: Input::Chat(chat), ..Request::default() }
}

/// What a listener heard.
#[derive(Debug)]
pub(crate) struct Heard {
    /// All events, written short.
    pub(crate) told: String,
    pub(crate) outcome: Outcome,
    /// How long it took.
    pub(crate) ms: u128,
}

/// A listener, and where what it hears comes out. After `breaks` events it says that it is gone.
pub(crate) fn listener(breaks: usize) -> (Listener, mpsc::Receiver<Told>) {
    let (sender, receiver) = mpsc::channel(4096);
    let mut heard = 0;
    let listener = Box::new(move |told: Told| {
        heard += 1;
        sender.try_send(told).expect("there is room, and somebody listens");
        if heard >= breaks { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    (listener, receiver)
}

/// Everything that is told, to its one end.
pub(crate) async fn heard(mut receiver: mpsc::Receiver<Told>, since: Instant) -> Heard {
    let (mut told, mut outcome) = (String::new(), None);
    while let Some(next) = receiver.recv().await {
        assert!(outcome.is_none(), "something was told behind the end: {next:?}");
        match next {
            Told::Event(event) => told += &short(&event),
            Told::End(end) => outcome = Some(*end),
        }
    }
    let ms = since.elapsed().as_millis();
    Heard { told, outcome: outcome.expect("the end is told"), ms }
}

fn short(event: &Event) -> String {
    match event {
        Event::Text(piece) => piece.text.clone(),
        Event::Reasoning(piece) => format!("<{}>", piece.text),
        Event::ToolCall { part: CallPart::Begin { name, .. }, .. } => format!("{name}("),
        Event::ToolCall { part: CallPart::Arguments(text), .. } => text.clone(),
        Event::ToolCall { part: CallPart::End, .. } => ")".to_owned(),
        Event::Passed(data) => format!("[{data}]"),
        other => panic!("{other:?} is not told on the way"),
    }
}

/// Makes a call and hears all of it.
pub(crate) async fn call(remote: &Remote, request: Request, plan: Plan) -> Heard {
    let (listener, receiver) = listener(usize::MAX);
    let since = Instant::now();
    let call = remote.send(request, plan, listener);
    let heard = heard(receiver, since).await;
    drop(call);
    heard
}
