//! Another server, as a script: it keeps every request that it gets, and does with each what a test
//! says. Absent: what good answers look like, which `answers` knows.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::answers::Good;

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) path: String,
    /// Its body, as the bytes were.
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Asked {
    /// What is said last in it.
    pub(crate) fn last(&self) -> &str {
        let turn = self.body["messages"].as_array().and_then(|turns| turns.last());
        turn.map_or(&self.body["input"], |turn| &turn["content"]).as_str().expect("a text")
    }
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// It is answered, whole or streamed as it asks.
    Well(Good),
    /// Its first part, a pause, and the rest.
    Slow(Good, Duration),
    /// Its first part, and the rest once nobody else holds this.
    Held(Good, Arc<Mutex<()>>),
    /// So many parts, and the connection ends as if that were all.
    Short(Good, usize),
    /// So many parts, and nothing more until whoever asked has enough of it.
    Silent(Good, usize),
    /// Half of as many bytes as are promised.
    Cut(Good),
    /// Something in its middle that is nothing.
    Malformed(Good),
    /// A page of another kind.
    Page,
    /// A status with these fields of a head, each with its line's end, and an empty object.
    Status(&'static str, &'static str),
    /// No HTTP at all.
    Garbage,
    /// The connection ends without a word.
    Nothing,
    /// It never ends, until whoever asked has enough of it.
    Endless,
}

/// What is done with the request of this number, in the order in which they came.
type Script = dyn Fn(&Asked, usize) -> Way + Send + Sync;

/// Does well.
pub(crate) fn well(_: &Asked, _: usize) -> Way {
    Way::Well(Good::default())
}

/// One that runs for as long as the test does.
pub(crate) struct Upstream {
    /// Without a path.
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<Mutex<usize>>,
}

impl Upstream {
    pub(crate) fn start(script: impl Fn(&Asked, usize) -> Way + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (asked, connections) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::default());
        let (kept, met) = (Arc::clone(&asked), Arc::<Mutex<usize>>::clone(&connections));
        let script: Arc<Script> = Arc::new(script);
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (kept, script) = (Arc::clone(&kept), Arc::clone(&script));
                *met.lock().expect("not poisoned") += 1;
                thread::spawn(move || meet(socket.expect("a client"), &kept, &*script));
            }
        });
        Self { url, asked, connections }
    }

    /// All requests that came.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }

    /// Their bodies.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.text).collect()
    }

    /// How many connections there were, with requests or without.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().expect("not poisoned")
    }
}

fn meet(mut socket: TcpStream, kept: &Mutex<Vec<Asked>>, script: &Script) {
    let Some(asked) = request(&socket) else { return };
    let number = {
        let mut all = kept.lock().expect("not poisoned");
        all.push(asked.clone());
        all.len() - 1
    };
    // Who asked may be gone.
    let _ = answer(&script(&asked, number), &asked, &mut socket);
}

/// The one request of a connection; `None` where it ends before that.
fn request(socket: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(socket);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let begin = head.len();
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return None;
        }
        if let Some(value) = head[begin..].to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let text = String::from_utf8(body).expect("UTF-8");
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = serde_json::from_str(&text).expect("JSON");
    Some(Asked { head, path, text, body })
}

/// The head of an answer, which ends with its connection.
fn head(status: &str, kind: &str, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}connection: close\r\n\r\n")
}

/// The head of one that says how long it is.
fn sized(kind: &str, text: &str) -> String {
    head("200 OK", kind, &format!("content-length: {}\r\n", text.len()))
}

/// Says so many parts of an answer; gives the others.
fn begin(good: &Good, asked: &Asked, parts: usize, socket: &mut TcpStream) -> Result<String> {
    let (kind, all) = good.told(asked);
    let (said, rest) = all.split_at(parts.min(all.len()));
    socket.write_all(format!("{}{}", head("200 OK", kind, ""), said.concat()).as_bytes())?;
    Ok(rest.concat())
}

fn answer(way: &Way, asked: &Asked, socket: &mut TcpStream) -> Result<()> {
    let whole = |good: &Good| {
        let (kind, parts) = good.told(asked);
        let text = parts.concat();
        let half = text.floor_char_boundary(text.len() / 2);
        (kind, text, half)
    };
    let said = match way {
        Way::Well(good) => {
            let (kind, text, _) = whole(good);
            format!("{}{text}", sized(kind, &text))
        }
        Way::Slow(good, pause) => {
            let rest = begin(good, asked, 1, socket)?;
            thread::sleep(*pause);
            rest
        }
        Way::Held(good, gate) => {
            let rest = begin(good, asked, 1, socket)?;
            drop(gate.lock());
            rest
        }
        Way::Short(good, parts) => return begin(good, asked, *parts, socket).map(drop),
        Way::Silent(good, parts) => {
            begin(good, asked, *parts, socket)?;
            let _ = socket.read(&mut [0]);
            return Ok(());
        }
        Way::Cut(good) => {
            let (kind, text, half) = whole(good);
            format!("{}{}", sized(kind, &text), &text[..half])
        }
        Way::Malformed(good) => {
            let (kind, text, half) = whole(good);
            let text = format!("{}{{\"x\": [{}", &text[..half], &text[half..]);
            format!("{}{text}", sized(kind, &text))
        }
        Way::Page => format!("{}<html>Welcome.</html>", head("200 OK", "text/html", "")),
        Way::Status(status, more) => {
            let more = format!("content-length: 2\r\n{more}");
            format!("{}{{}}", head(status, "application/json", &more))
        }
        Way::Garbage => "GARBAGE\r\n\r\n".to_owned(),
        Way::Nothing => return Ok(()),
        Way::Endless => {
            begin(&Good::default(), asked, 0, socket)?;
            let more = b": still here\n\n".repeat(1000);
            while socket.write_all(&more).is_ok() {}
            return Ok(());
        }
    };
    socket.write_all(said.as_bytes())
}
