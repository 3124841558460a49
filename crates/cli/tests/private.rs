//! What is confidential stays on this machine: by key, path, header, workspace or what stands in
//! it, at every surface and in every place that can carry a text, also while the configuration is
//! broken, the detector cannot tell, and this machine's model is down. Public requests go out
//! between the others, so that a test of what arrives can fail. `tools/prove-private` asks more of
//! them, and counts packets.
#![cfg(unix)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use support::place::Place;
use support::server::Server;
use support::upstream::{Upstream, well};
use support::{run, tiny};

/// What is found in a text, spaced so that it hides.
const FOUND: [&str; 7] = [
    "her card is 4111 1111-1111.1111",
    "card: 4\u{200b}111 11\u{200b}11\u{200b}1111 111\u{200b}1",
    "Pay to GB82 WEST 1234 5698 7654 32 today",
    "IBAN: gb82west12345698765432",
    "jane.doe [at] example.com",
    "Write to jane . doe @ example . com",
    "call +49 (30) 901 820",
];

/// Confidential by these, or by what stands in them; or not at all.
const LABELS: [&str; 6] = ["key", "path", "header", "workspace", "detected", "public"];

/// A request: its path, the place of its text, and its body.
type Asked = (&'static str, &'static str, Value);

fn chats(text: &str) -> Vec<Asked> {
    let user = json!({ "role": "user", "content": "Name a colour." });
    let arguments = json!({ "a": { "b": [1, { "c": text }] } }).to_string();
    let call = |arguments: &str| {
        json!({ "role": "assistant", "content": "", "tool_calls": [{
            "id": "call_a", "type": "function",
            "function": { "name": "look", "arguments": arguments } }] })
    };
    let back = |text: &str| json!({ "role": "tool", "tool_call_id": "call_a", "content": text });
    let tool = |told: &str, schema: &str| {
        let parameters = json!({ "type": "object", "properties": {
            "q": { "type": "string", "description": schema } } });
        json!([{ "type": "function", "function": {
            "name": "look", "description": told, "parameters": parameters } }])
    };
    let said = json!({ "role": "user", "content": text });
    let parts = json!({ "role": "user", "content": [{ "type": "text", "text": text }] });
    let system = json!({ "role": "system", "content": text });
    let own = json!({ "role": "assistant", "content": text });
    let rows = [
        ("user", json!({ "messages": [said] })),
        ("parts", json!({ "messages": [parts] })),
        ("system", json!({ "messages": [system, user] })),
        ("assistant", json!({ "messages": [user, own, user] })),
        ("call", json!({ "messages": [user, call(&arguments), back("fine")] })),
        ("result", json!({ "messages": [user, call("{}"), back(text)] })),
        ("tool", json!({ "messages": [user], "tools": tool(text, "what") })),
        ("schema", json!({ "messages": [user], "tools": tool("Looks.", text) })),
        ("stop", json!({ "messages": [user], "stop": [text] })),
    ];
    rows.map(|(place, body)| ("/v1/chat/completions", place, body)).into()
}

fn responses(text: &str) -> Vec<Asked> {
    let call = json!({ "type": "function_call", "call_id": "call_a", "name": "look",
                       "arguments": json!({ "c": [text] }).to_string() });
    let back = json!({ "type": "function_call_output", "call_id": "call_a", "output": "fine" });
    let user = json!({ "role": "user", "content": [{ "type": "input_text", "text": text }] });
    let rows = [
        ("user", json!({ "input": text })),
        ("parts", json!({ "input": [user] })),
        ("system", json!({ "input": "Name a colour.", "instructions": text })),
        ("call", json!({ "input": [{ "role": "user", "content": "Look." }, call, back] })),
    ];
    rows.map(|(place, body)| ("/v1/responses", place, body)).into()
}

fn messages(text: &str) -> Vec<Asked> {
    let user = json!({ "role": "user", "content": "Name a colour." });
    let part = json!({ "type": "text", "text": text });
    let using = |input: Value| {
        json!({ "role": "assistant", "content": [{
            "type": "tool_use", "id": "toolu_a", "name": "look", "input": input }] })
    };
    let back = |content: &Value| {
        json!({ "role": "user", "content": [{
            "type": "tool_result", "tool_use_id": "toolu_a", "content": content }] })
    };
    let tools = json!([{ "name": "look", "description": "Looks.",
                         "input_schema": { "type": "object" } }]);
    let fine = json!("fine");
    let rows = [
        ("user", json!({ "messages": [{ "role": "user", "content": text }] })),
        ("parts", json!({ "messages": [{ "role": "user", "content": [part] }] })),
        ("system", json!({ "messages": [user], "system": text })),
        ("blocks", json!({ "messages": [user], "system": [part] })),
        (
            "call",
            json!({ "tools": tools,
            "messages": [user, using(json!({ "a": [{ "b": text }] })), back(&fine)] }),
        ),
        (
            "result",
            json!({ "tools": tools,
            "messages": [user, using(json!({})), back(&json!([part]))] }),
        ),
        ("stop", json!({ "messages": [user], "stop_sequences": [text] })),
    ];
    rows.map(|(place, body)| ("/v1/messages", place, body)).into()
}

/// All requests with a text in one of their places; those that may leave where nothing forbids it,
/// and those of paths that are confidential by themselves.
fn bodies(text: &str, label: &str) -> Vec<Asked> {
    if label == "path" {
        return vec![
            ("/completion", "prompt", json!({ "prompt": text, "n_predict": 4 })),
            ("/api/generate", "prompt", json!({ "prompt": text })),
            ("/api/generate", "system", json!({ "prompt": "Name a colour.", "system": text })),
        ];
    }
    let picture = json!({ "type": "image_url", "image_url": {
        "url": "data:image/png;base64,iVBORw0KGgo=" } });
    let caption = json!([picture, { "type": "text", "text": text }]);
    let turn = json!([{ "role": "user", "content": text }]);
    let mut all = [chats(text), responses(text), messages(text)].concat();
    all.push(("/api/chat", "user", json!({ "messages": turn })));
    all.push((
        "/api/chat",
        "system",
        json!({ "messages": [
        { "role": "system", "content": text }, { "role": "user", "content": "Name a colour." },
    ] }),
    ));
    if label != "public" {
        let caption = json!({ "messages": [{ "role": "user", "content": caption }] });
        all.push(("/v1/chat/completions", "caption", caption));
        all.push(("/v1/completions", "prompt", json!({ "prompt": text, "max_tokens": 4 })));
        all.push(("/v1/completions", "list", json!({ "prompt": [text], "max_tokens": 4 })));
    }
    all
}

/// A word that stands nowhere else.
fn word(number: usize) -> String {
    let letters = b"bcdfghjklmnpqrst";
    let mixed = (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let letter = |at: u32| char::from(letters[(mixed >> (at * 4)) as usize % letters.len()]);
    (0..16).map(letter).collect()
}

fn policy(url: &str) -> String {
    format!(
        r#"default_class = "open"
        [[rules]]
        class = "secret"
        path = ["/completion", "/api/generate"]
        [[rules]]
        class = "secret"
        workspace = ["vault*"]
        [[rules]]
        class = "secret"
        header = {{ "X-Data-Class" = ["confidential"] }}
        [[rules]]
        class = "secret"
        detected = ["contact", "money", "identity", "network", "secret"]
        [providers.far]
        kind = "compatible"
        url = "{url}/v1"
        [providers.claude]
        kind = "anthropic"
        url = "{url}"
        key = "env:PROOF_KEY"
        [providers.old]
        kind = "ollama"
        url = "{url}"
        [models.auto]
        candidates = ["far/m", "claude/m", "old/m", "local/here"]
        order = "listed"
        [classes.open]
        providers = ["far", "claude", "old"]
        [classes.secret]
        local_only = true
        "#
    )
}

struct World {
    place: Place,
    upstream: Upstream,
    server: Server,
    policy: String,
    keys: [String; 2],
    asked: usize,
    public: Vec<String>,
    closed: Vec<String>,
    answered: usize,
}

impl World {
    fn new() -> Self {
        let (upstream, place) = (Upstream::start(well), Place::new("private"));
        let policy = policy(&upstream.url);
        place.policy(&policy);
        std::fs::copy(tiny(), place.path("here.gguf")).expect("a model");
        let scopes = ["--scopes", "infer,read,models"];
        let key = |name: &str, classes: &[&str]| place.key(name, &[&scopes[..], classes].concat());
        let keys = [key("open", &[]), key("closed", &["--classes", "secret"])];
        let model = format!("here={}", place.path("here.gguf"));
        let (ledger, log) = (place.ledger(), place.path("access"));
        let flags = [model.as_str(), "--ledger", &ledger, "--access-log", &log];
        let server = place.start(&flags, &[("PROOF_KEY", "sk-of-nobody")]);
        let (public, closed) = (Vec::new(), Vec::new());
        Self { place, upstream, server, policy, keys, asked: 0, public, closed, answered: 0 }
    }

    /// Sends a request with these fields of its head, and reads all of its answer.
    fn send(&self, key: usize, fields: &str, path: &str, body: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.server.address()).expect("listens");
        let (length, key) = (body.len(), &self.keys[key]);
        let asked = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{fields}\
             authorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        // What is too long may be refused before all of it was read.
        let _ = socket.write_all(asked.as_bytes());
        let mut text = String::new();
        let _ = socket.read_to_string(&mut text);
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("{path} was not answered: {text}")), text)
    }

    /// One of all kinds of requests, of those labels, in turns streamed and of other models.
    fn ask_all(&mut self, labels: &[&str]) {
        for label in labels {
            for at in 0..bodies("", label).len() {
                self.asked += 1;
                let word = word(self.asked);
                let text = match *label {
                    "detected" => format!("{word}\n{}", FOUND[self.asked % FOUND.len()]),
                    _ => format!("Tell {word} of the sea."),
                };
                let (path, place, mut body) = bodies(&text, label).swap_remove(at);
                let models: &[&str] = match *label {
                    "public" => &["auto", "far/m", "claude/m", "old/m"],
                    // Of these the model here, which has no chat template, can make something.
                    _ if ["prompt", "list"].contains(&place) => &["auto", "here", "far/m"],
                    _ => &["auto", "far/m", "here", "claude/m", "auto", "here", "old/m"],
                };
                body["model"] = models[self.asked % models.len()].into();
                body["stream"] = (self.asked / 3).is_multiple_of(2).into();
                if path == "/v1/messages" {
                    body["max_tokens"] = 4.into();
                }
                let fields = match *label {
                    "header" => "X-Data-Class: Confidential\r\n",
                    "workspace" => "X-Ingle-Workspace: vault-7\r\n",
                    _ => "",
                };
                let key = usize::from(*label == "key");
                let (status, told) = self.send(key, fields, path, &body.to_string());
                self.heard(label, word, status, &format!("{label} {path} {place}: {told}"));
            }
        }
    }

    fn heard(&mut self, label: &str, word: String, status: u16, told: &str) {
        if label == "public" {
            assert_eq!(status, 200, "{told}");
            self.public.push(word);
            return;
        }
        assert!(status == 200 || told.contains("error"), "{told}");
        self.answered += usize::from(status == 200);
        self.closed.push(word);
    }

    /// Has a configuration read, and waits for what is said of it.
    fn reload(&mut self, event: &str) {
        self.server.signal("HUP");
        // The file's change may have been noticed already: then more is told than was asked.
        while self.server.event()["event"] != event {}
    }

    /// What cannot be looked through: too much text, too many findings, token ids.
    fn unsure(&mut self) {
        let long = |word: &str| format!("{word} {}", "the sea is deep. ".repeat(560_000));
        let many = |word: &str| {
            let all: String = (0..66_000).map(|at| format!("a{at}@b.example ")).collect();
            format!("{word} {all}")
        };
        let makers: [&dyn Fn(&str) -> String; 2] = [&long, &many];
        for (make, model) in makers.into_iter().flat_map(|make| [(make, "auto"), (make, "far/m")]) {
            self.asked += 1;
            let word = word(self.asked);
            let body = json!({ "model": model, "messages": [
                { "role": "user", "content": make(&word) }] });
            let (status, told) = self.send(0, "", "/v1/chat/completions", &body.to_string());
            self.heard("unsure", word, status, &told);
        }
        let tokens = json!({ "model": "far/m", "prompt": [1, 2, 3], "max_tokens": 4 });
        let (status, told) = self.send(0, "", "/v1/completions", &tokens.to_string());
        assert!((400..500).contains(&status), "{told}");
    }

    /// The model is unloaded, and its file is none any more.
    fn down(&self) {
        let beside = self.place.write("beside", "no model");
        std::fs::rename(beside, self.place.path("here.gguf")).expect("is exchanged");
        let gone = json!({ "model": "here", "keep_alive": 0 }).to_string();
        let (status, told) = self.send(0, "", "/api/generate", &gone);
        assert_eq!(status, 200, "{told}");
    }
}

#[test]
fn what_is_confidential_stays() {
    let mut world = World::new();
    world.ask_all(&LABELS[..5]);
    assert_eq!(world.upstream.connections(), 0, "while only confidential ones were asked");
    assert!(world.answered > 3, "this machine answers: {}", world.answered);
    world.ask_all(&["public"]);
    let policy = world.policy.clone();
    // No beginning of this policy lets more out than all of it; rules name classes further down.
    let cut = policy.find("[providers.far]").expect("is there");
    let broken = [
        format!("{policy}[[["),
        policy[..cut].to_owned(),
        policy.replace("class = \"secret\"", "class = \"secrets\""),
    ];
    for (text, label) in broken.iter().zip(["detected", "workspace", "key"]) {
        world.place.policy(text);
        world.reload("reload-refused");
        world.ask_all(&[label, "public", "header"]);
        world.place.policy(&policy);
        world.reload("reloaded");
    }
    world.unsure();
    world.down();
    let answered = world.answered;
    world.ask_all(&LABELS);
    assert_eq!(world.answered, answered, "nobody can answer what must stay");
    judge(world);
}

/// What arrived is what was public, and nothing else; what was not is nowhere.
fn judge(world: World) {
    let World { place, upstream, server, public, closed, .. } = world;
    drop(server);
    let arrived = upstream.asked();
    let texts: Vec<String> =
        arrived.iter().map(|asked| format!("{}{}", asked.head, asked.body)).collect();
    let all = texts.join("\n");
    assert!(closed.len() > 200 && public.len() > 100, "{} and {}", closed.len(), public.len());
    for word in &public {
        assert_eq!(all.matches(word.as_str()).count(), 1, "{word} arrives once");
    }
    assert_eq!(arrived.len(), public.len());
    let files: Vec<(String, String)> = std::fs::read_dir(&place.0)
        .expect("is there")
        .flatten()
        .filter(|file| file.path().is_file())
        .map(|file| (file.file_name(), std::fs::read(file.path()).expect("is read")))
        .map(|(name, bytes)| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            (name.to_string_lossy().into_owned(), text)
        })
        .collect();
    let told = |(name, text): &(String, String)| {
        name.starts_with("ledger") && text.contains("/v1/chat/completions")
    };
    assert!(files.iter().any(told), "the ledger was looked at");
    for word in &closed {
        assert!(!all.contains(word.as_str()), "{word} left");
        for (name, text) in &files {
            assert!(!text.contains(word.as_str()), "{word} is in {name}");
        }
    }
    assert_eq!(run(&["audit", "verify", "--ledger", &place.ledger()]).code, Some(0));
    let calls = place.calls();
    let out = calls.iter().filter(|call| call["bytes_out"].is_u64());
    assert_eq!(out.count(), public.len(), "the ledger knows of as many");
}
