//! What each kind of provider is sent, and how its answers are heard: a table. Then what settings
//! are refused, and bodies that go out as they came.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ingle_gateway::remote::{Plan, Remote, Secret, Try, Upstream, kind};
use ingle_protocol::{End, Format, Origin, Request, Verbatim};
use tokio::runtime::Handle;

use super::upstream::*;

fn of(name: &str, url: &str) -> Upstream {
    Upstream {
        url: url.into(),
        key: Some(Secret::new(KEY)),
        ..Upstream::new("a", kind(name).expect("a row"))
    }
}

/// A service account's JSON file.
fn account() -> Secret {
    let key = include_str!("../data/throwaway-rsa.pem").replace('\n', "\\n");
    Secret::new(format!(
        "{{\"client_email\":\"a@b.example\",\"private_key\":\"{key}\",\"project_id\":\"mine\",\
         \"token_uri\":\"https://oauth2.example/token\"}}"
    ))
}

/// A stream of one media type, in parts.
fn streamed(media: &str, parts: &[&[u8]]) -> React {
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {media}\r\ntransfer-encoding: chunked\r\n\r\n");
    let parts = parts.iter().map(part);
    React::Do([Act::Write(head.into())].into_iter().chain(parts).chain([end()]).collect())
}

const SSE: &str = "text/event-stream";

const CLAUDE: [&str; 6] = [
    r#"{"type":"message_start","message":{"model":"c","usage":{"input_tokens":7,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}"#,
    r#"{"type":"message_stop"}"#,
];

const RESPONSE_END: &str = r#""id":"resp_1","object":"response","status":"completed","model":"o","output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"hi"}]}],"usage":{"input_tokens":7,"output_tokens":3}"#;

const RESPONSE: [&str; 3] = [
    r#"{"type":"response.created","response":{"id":"resp_1","model":"o","status":"in_progress"}}"#,
    r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"hi"}"#,
    r#"{"type":"response.completed","response":{"id":"resp_1","model":"o","status":"completed","output":[],"usage":{"input_tokens":7,"output_tokens":3}}}"#,
];

fn claude() -> React {
    let name = |data: &str| data.split('"').nth(3).unwrap_or_default().to_owned();
    let event = |data: &str| format!("event: {}\ndata: {data}\n\n", name(data)).into_bytes();
    let events = CLAUDE.map(event);
    streamed(SSE, &events.each_ref().map(Vec::as_slice))
}

fn crc32(bytes: &[u8]) -> u32 {
    let shift = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shift(crc)))
}

/// A frame of Amazon's event stream.
fn frame(kind: &str, data: &str) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in [(":message-type", kind), (":event-type", "chunk")] {
        head.push(name.len() as u8);
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(&[7, 0, value.len() as u8]);
        head.extend_from_slice(value.as_bytes());
    }
    let payload = format!("{{\"bytes\":\"{}\"}}", STANDARD.encode(data));
    let mut frame = ((16 + head.len() + payload.len()) as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&(head.len() as u32).to_be_bytes());
    frame.extend_from_slice(&crc32(&frame).to_be_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(payload.as_bytes());
    frame.extend_from_slice(&crc32(&frame).to_be_bytes());
    frame
}

fn bedrock() -> React {
    let frames = CLAUDE.map(|data| frame("event", data));
    streamed("application/vnd.amazon.eventstream", &frames.each_ref().map(Vec::as_slice))
}

fn gemini() -> React {
    let data = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hi\"}]},\
                \"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":7,\
                \"candidatesTokenCount\":3}}\r\n\r\n";
    streamed(SSE, &[data.as_bytes()])
}

fn ollama() -> React {
    let lines = "{\"message\":{\"role\":\"assistant\",\"content\":\"hi\"},\"done\":false}\n\
                 {\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\
                 \"done_reason\":\"stop\",\"prompt_eval_count\":7,\"eval_count\":3}\n";
    streamed("application/x-ndjson", &[lines.as_bytes()])
}

fn chat() -> React {
    React::Do(vec![head(), piece("hi"), finish(), end()])
}

/// Asks for an answer, and holds what was sent to what is expected: the path, parts of the head,
/// and parts of the body, which with a `!` before them are not to be in it.
async fn check(upstream: Upstream, model: &str, reaction: React, expect: (&str, &[&str], &[&str])) {
    let (path, fields, parts) = expect;
    let name = upstream.kind.name;
    let stage = Arc::new(Stage::default());
    stage.script("host", [reaction]);
    let token = "{\"access_token\":\"ya29.token\",\"expires_in\":3600}";
    stage.script("oauth2.example", [status(200, "", token)]);
    let remote = remote(&stage, vec![upstream]);
    let plan = Plan {
        tries: vec![Try { provider: "a".into(), model: model.into(), max_tokens: Some(32) }],
        ..Plan::default()
    };
    let request = Request { max_tokens: Some(64), ..request() };
    let Heard { told, outcome, .. } = call(&remote, request, plan).await;
    assert_eq!(told, "hi", "{name}: {:?}", outcome.fault);
    assert_eq!((outcome.end, outcome.estimated), (End::Stop, false), "{name}");
    assert_eq!((outcome.usage.prompt_tokens, outcome.usage.completion_tokens), (7, 3), "{name}");
    assert_eq!(outcome.hosts, ["host"], "{name}");
    let (head, body) = stage.seen.lock().expect("no panic").remove("host").expect("it was asked");
    let body = String::from_utf8(body).expect("UTF-8");
    assert!(head.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{name}: {head}");
    for field in fields.iter().chain(&["host: host", "content-type: application/json"]) {
        assert!(head.contains(&format!("\r\n{field}")), "{name}: {field}: {head}");
    }
    for part in parts.iter().chain(&["32", "say", "!64"]) {
        let absent = part.strip_prefix('!');
        let found = body.contains(absent.unwrap_or(part));
        assert_eq!(found, absent.is_none(), "{name}: {part}: {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_kind_is_asked_and_heard() {
    let bearer = format!("authorization: Bearer {KEY}");
    let bearer = [bearer.as_str(), "accept: text/event-stream"];
    let base = "https://host/v1";
    let path = "/v1/chat/completions";
    let model = "\"model\":\"m\"";
    let hosted = [model, "\"max_completion_tokens\":32", "\"stream\":true"];
    check(of("openai", base), "m", chat(), (path, &bearer, &hosted)).await;
    let plain = [model, "\"max_tokens\":32", "\"include_usage\":true"];
    check(of("mistral", base), "m", chat(), (path, &bearer, &plain)).await;
    check(of("openrouter", base), "m", chat(), (path, &bearer, &plain)).await;
    check(of("compatible", base), "m", chat(), (path, &bearer, &plain)).await;
    let key = format!("api-key: {KEY}");
    let path = "/openai/v1/chat/completions";
    check(of("azure", "https://host"), "m", chat(), (path, &[&key], &hosted)).await;
    let key = format!("x-api-key: {KEY}");
    let fields = [key.as_str(), "anthropic-version: 2023-06-01"];
    let parts = [model, "\"max_tokens\":32", "\"stream\":true"];
    check(of("anthropic", "https://host"), "m", claude(), ("/v1/messages", &fields, &parts)).await;
    let key = format!("x-goog-api-key: {KEY}");
    let path = "/v1beta/models/m%2F1:streamGenerateContent?alt=sse";
    let parts = ["\"maxOutputTokens\":32", "!\"model\":\"m"];
    check(of("gemini", "https://host"), "m/1", gemini(), (path, &[&key], &parts)).await;
    let parts = [model, "\"num_predict\":32", "\"stream\":true"];
    let fields = ["accept: application/x-ndjson"];
    check(of("ollama", "https://host"), "m", ollama(), ("/api/chat", &fields, &parts)).await;
}

#[tokio::test(start_paused = true)]
async fn clouds_are_asked_and_heard() {
    let path = "/model/anthropic.claude-x-v1%3A0/invoke-with-response-stream";
    let amazon = |key: &str| Upstream {
        region: "eu-west-1".into(),
        key: Some(Secret::new(key)),
        ..of("bedrock", "https://host")
    };
    let parts = ["\"anthropic_version\":\"bedrock-2023-05-31\"", "!\"model\"", "!\"stream\""];
    let fields = [
        "authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-west-1/bedrock/\
         aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=",
        "x-amz-date: 20150830T123600Z",
        "accept: application/vnd.amazon.eventstream",
    ];
    let model = "anthropic.claude-x-v1:0";
    check(amazon("AKIDEXAMPLE:secret"), model, bedrock(), (path, &fields, &parts)).await;
    let fields = ["authorization: Bearer ABSKtoken"];
    check(amazon("ABSKtoken"), model, bedrock(), (path, &fields, &parts)).await;

    let google = |name: &str| Upstream {
        region: "europe-west4".into(),
        key: Some(account()),
        ..of(name, "https://host")
    };
    let fields = ["authorization: Bearer ya29.token"];
    let base = "/v1/projects/mine/locations/europe-west4/publishers";
    let path = format!("{base}/google/models/m:streamGenerateContent?alt=sse");
    check(google("vertex"), "m", gemini(), (&path, &fields, &[])).await;
    let path = format!("{base}/anthropic/models/m:streamRawPredict");
    let parts = ["\"anthropic_version\":\"vertex-2023-10-16\"", "!\"model\"", "\"stream\":true"];
    check(google("vertex-anthropic"), "m", claude(), (&path, &fields, &parts)).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_is_asked_for_once() {
    let stage = Arc::new(Stage::default());
    let token = "{\"access_token\":\"ya29.token\",\"expires_in\":3600}";
    stage.script("oauth2.example", [status(200, "", token)]);
    stage.script("host", [gemini(), gemini(), gemini()]);
    let google =
        Upstream { region: "global".into(), key: Some(account()), ..of("vertex", "https://host") };
    let remote = remote(&stage, vec![google]);
    let both = tokio::join!(
        call(&remote, request(), plan(&["a"])),
        call(&remote, request(), plan(&["a"])),
    );
    assert_eq!((both.0.outcome.end, both.1.outcome.end), (End::Stop, End::Stop));
    assert_eq!(call(&remote, request(), plan(&["a"])).await.outcome.end, End::Stop);
    let log = stage.log();
    assert_eq!(log.matches("oauth2.example ask").count(), 1, "{log}");
    assert_eq!(log.matches("host ask").count(), 3, "{log}");

    // One that is refused one says so, and nothing of the call is sent.
    let stage = Arc::new(Stage::default());
    stage.script("oauth2.example", [status(400, "", "{\"error\":\"invalid_grant\"}")]);
    let google =
        Upstream { region: "global".into(), key: Some(account()), ..of("vertex", "https://host") };
    let outcome =
        call(&super::upstream::remote(&stage, vec![google]), request(), plan(&["a"])).await.outcome;
    assert_eq!((outcome.end, outcome.bytes_out, outcome.hosts.len()), (End::Failed, 0, 0));
    assert_eq!(outcome.route[0].reason, "Google gives its service account no token: 400");
}

/// A request with the bytes that its caller sent, in a format.
fn own(format: Format, body: &str) -> Request {
    Request {
        origin: Some(Arc::new(Origin {
            verbatim: Some(Arc::new(Verbatim { format, body: body.into() })),
            ..Origin::default()
        })),
        ..request()
    }
}

/// What a provider is sent of a request, by which path, and what is told of its answer.
async fn passed(
    provider: Upstream,
    (request, most): (Request, Option<u32>),
    reaction: React,
    (path, body): (&str, &str),
    told: &str,
) {
    let stage = Arc::new(Stage::default());
    stage.script("host", [reaction]);
    let remote = remote(&stage, vec![provider]);
    let one = Try { provider: "a".into(), model: "m".into(), max_tokens: most };
    let plan = Plan { tries: vec![one], ..Plan::default() };
    let heard = call(&remote, request, plan).await;
    let seen = stage.seen.lock().expect("no panic").remove("host").expect("it was asked");
    assert!(seen.0.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{}", seen.0);
    assert_eq!(String::from_utf8_lossy(&seen.1), body);
    assert_eq!(heard.told, told, "{:?}", heard.outcome.fault);
    assert_eq!((heard.outcome.end, heard.outcome.usage.completion_tokens), (End::Stop, 3));
}

#[tokio::test(start_paused = true)]
async fn a_body_in_the_providers_own_format_goes_out_as_it_came() {
    let messages = r#"{"model":"auto","max_tokens":64,"metadata":{"x":1.0},"stream":true}"#;
    let told: String = CLAUDE.iter().map(|data| format!("[{data}]")).collect();
    let anthropic = || of("anthropic", "https://host");
    let sent = messages.replace("auto", "m");
    let request = || own(Format::Messages, messages);
    let path = "/v1/messages";
    passed(anthropic(), (request(), None), claude(), (path, &sent), &told).await;
    passed(anthropic(), (request(), Some(99)), claude(), (path, &sent), &told).await;
    let less = sent.replace("64", "9");
    passed(anthropic(), (request(), Some(9)), claude(), (path, &less), &told).await;

    // A whole answer is handed on whole.
    let whole = r#"{"type":"message","role":"assistant","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","usage":{"input_tokens":7,"output_tokens":3},"new":1}"#;
    let asked = r#"{"model":"m","max_tokens":64}"#;
    let told = format!("[{whole}]");
    let request = own(Format::Messages, asked);
    passed(anthropic(), (request, None), status(200, "", whole), (path, asked), &told).await;

    // In another format it is written anew.
    let stage = Arc::new(Stage::default());
    let remote = remote(&stage, vec![of("compatible", "https://host/v1")]);
    let heard = call(&remote, own(Format::Messages, messages), plan(&["a"])).await;
    assert_eq!(heard.told, "one two three");
    let body = stage.seen.lock().expect("no panic").remove("host").expect("it was asked").1;
    assert!(!String::from_utf8_lossy(&body).contains("metadata"));
}

/// What parts keys' prefixes here is made of their digests, and no provider's to know.
#[tokio::test(start_paused = true)]
async fn whose_a_request_is_does_not_leave() {
    let request = || Request { cache_salt: "mine".into(), home: "0123abcd".into(), ..request() };
    for kind in ["compatible", "openai"] {
        let stage = Arc::new(Stage::default());
        let remote = remote(&stage, vec![of(kind, "https://host/v1")]);
        let heard = call(&remote, request(), plan(&["a"])).await;
        assert_eq!(heard.told, "one two three", "{kind}");
        let asked = stage.seen.lock().expect("no panic").remove("host").expect("it was asked");
        let (head, body) = (asked.0, String::from_utf8_lossy(&asked.1).into_owned());
        assert!(!head.contains("0123abcd") && !body.contains("0123abcd"), "{kind}: {body}");
        assert_eq!(body.contains("\"cache_salt\":\"mine\""), kind == "compatible", "{body}");
    }
}

/// OpenAI's server speaks two formats, by two paths.
#[tokio::test(start_paused = true)]
async fn a_response_goes_to_openai_as_it_came() {
    let asked = r#"{"model":"auto","input":"say","stream":true,"reasoning":{"new":1}}"#;
    let sent = r#"{"model":"m","input":"say","stream":true,"reasoning":{"new":1},"store":false}"#;
    let events: Vec<String> = RESPONSE.iter().map(|data| format!("data: {data}\n\n")).collect();
    let parts: Vec<&[u8]> = events.iter().map(String::as_bytes).collect();
    let told: String = RESPONSE.iter().map(|data| format!("[{data}]")).collect();
    let (path, openai) = ("/v1/responses", || of("openai", "https://host/v1"));
    let request = own(Format::Responses, asked);
    passed(openai(), (request, None), streamed(SSE, &parts), (path, sent), &told).await;
    let asked = r#"{"model":"auto","input":"say","store":false}"#;
    let sent = r#"{"model":"m","input":"say","store":false,"max_output_tokens":9}"#;
    let whole = format!("{{{RESPONSE_END}}}");
    let (request, told) = (own(Format::Responses, asked), format!("[{whole}]"));
    passed(openai(), (request, Some(9)), status(200, "", &whole), (path, sent), &told).await;

    // Who speaks OpenAI's chat need not speak this.
    let chat = own(Format::Responses, asked);
    let stage = Arc::new(Stage::default());
    let remote = remote(&stage, vec![of("compatible", "https://host/v1")]);
    assert_eq!(call(&remote, chat, plan(&["a"])).await.told, "one two three");
    let head = stage.seen.lock().expect("no panic").remove("host").expect("it was asked").0;
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
}

#[tokio::test(start_paused = true)]
async fn what_a_format_has_no_words_for_goes_elsewhere() {
    let stage = Arc::new(Stage::default());
    let other = Upstream { name: "b".into(), ..of("compatible", "https://b/v1") };
    let remote = remote(&stage, vec![of("anthropic", "https://a"), other]);
    let seeded = || {
        let mut request = Request { max_tokens: Some(9), ..request() };
        request.sampling.seed = Some(1);
        request
    };
    let outcome = call(&remote, seeded(), plan(&["a", "b"])).await.outcome;
    assert_eq!((outcome.provider.as_str(), outcome.tries), ("b", 1));
    let reason = &outcome.route[0].reason;
    assert_eq!(reason, "its format has no words for the request (`seed`)");
    let fault = call(&remote, seeded(), plan(&["a"])).await.outcome.fault.expect("it failed");
    assert_eq!(fault.param.as_deref(), Some("seed"));
    assert_eq!(stage.log(), "b dial, b ask");
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_be_are_refused() {
    let check = |upstreams: Vec<Upstream>, expect: &str| {
        let stage = Arc::new(Stage::default());
        let refused = Remote::new(Handle::current(), upstreams, world(&stage));
        let message = refused.expect_err(expect).message;
        assert!(message.contains(expect) && !message.contains("sk-"), "{expect}: {message}");
    };
    let one = |change: fn(&mut Upstream)| {
        let mut upstream = of("openai", "");
        change(&mut upstream);
        vec![upstream]
    };
    check(one(|it| it.key = None), "the provider `a`: the kind `openai` is asked with a key");
    check(one(|it| it.key = Some(Secret::new("sk-a b"))), "characters that no key has");
    check(one(|it| it.url = "api.openai.com".into()), "its `url`: it has to begin with https://");
    check(
        one(|it| it.headers = vec![("Host".into(), "b".into())]),
        "it is not one that can be set",
    );
    check(one(|it| it.headers = vec![("x y".into(), "b".into())]), "it is no header's name");
    check(one(|it| it.headers = vec![("x".into(), "a\nb".into())]), "its value is no text");
    check(vec![of("compatible", "")], "has no address of its own: set `url`");
    check(vec![of("bedrock", "")], "`region` has to be set");
    let evil = Upstream { region: "a.evil.example/".into(), ..of("bedrock", "") };
    check(vec![evil], "`region` has to be set");
    let google = Upstream { region: "global".into(), ..of("vertex", "") };
    check(vec![google], "its key is no service account's JSON file");
    check(vec![of("openai", ""), of("mistral", "")], "two providers are called `a`");
}

#[tokio::test]
async fn what_headers_say_is_shown_to_nobody() {
    let headers = vec![("x-api-token".to_owned(), "a-token-of-theirs".to_owned())];
    let one = Upstream { headers, ..provider("a") };
    let shown = format!("{one:?} {:?}", remote(&Arc::new(Stage::default()), vec![one.clone()]));
    assert!(shown.contains("x-api-token") && !shown.contains("a-token-of-theirs"), "{shown}");
}
