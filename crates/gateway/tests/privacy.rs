//! What is found is replaced in all of a request, and comes back in the answer, however it is cut
//! in pieces.

use std::sync::Arc;

use ingle_gateway::privacy::{Detector, Finding, Group, Kind, MOST_BYTES, Redaction, Unsure};
use ingle_protocol::{
    Adapter, CallPart, Chat, Dry, Event, Fault, Format, Gap, Grammar, Input, Message, Origin,
    Piece, Request, Sampling, Tool, ToolCall, ToolChoice, Verbatim,
};
use proptest::prelude::*;

const MAIL: &str = "anna.berg@example.org";
const CARD: &str = "4111 1111 1111 1111";
const IBAN: &str = "DE89 3704 0044 0532 0130 00";

fn key() -> String {
    format!("sk-ant-{}", "api03-aB3dE6gH9jK2mN5pQ8sT1vW4yZ7")
}

fn text(content: &str) -> Request {
    Request { input: Input::Text(content.to_owned()), ..Request::default() }
}

fn prompt(request: &Request) -> &str {
    match &request.input {
        Input::Text(text) => text,
        _ => panic!("a text"),
    }
}

fn turn(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned(), ..Message::default() }
}

fn with_body(request: Request, body: &str) -> Request {
    let verbatim = Verbatim { format: Format::Chat, body: body.to_owned() };
    let origin = Origin { verbatim: Some(Arc::new(verbatim)), ..Origin::default() };
    Request { origin: Some(Arc::new(origin)), ..request }
}

fn body(request: &Request) -> &str {
    let origin = request.origin.as_ref().expect("an origin");
    &origin.verbatim.as_ref().expect("its own bytes").body
}

#[test]
fn texts_are_redacted_with_words_that_tell_what_was_there() {
    let detector = Detector::new();
    let check = |content: &str, expect: &str| {
        let (request, redaction) = detector.redact(&text(content), |_| true).expect("redacted");
        assert_eq!(prompt(&request), expect);
        assert_eq!(redaction.restore(expect), content);
    };
    check("nothing here", "nothing here");
    check(&format!("write to {MAIL}."), "write to [EMAIL_1].");
    check(&format!("{MAIL}, b@example.org, {MAIL}"), "[EMAIL_1], [EMAIL_2], [EMAIL_1]");
    check(&format!("{CARD} or {IBAN}"), "[CARD_1] or [IBAN_1]");
    check(&format!("key={}", key()), "key=[ANTHROPICKEY_1]");
    check(&format!("https://a.example/{MAIL}/b"), "https://a.example/[EMAIL_1]/b");
    check(
        "postgres://anna:3TixMyy@db.example.org/a",
        "postgres://[URLPASSWORD_1]@db.example.org/a",
    );
    // Named once, it is known everywhere.
    check("BSN 111222333. x111222333x", "BSN [BSN_1]. x[BSN_1]x");
    // Texts that look like placeholders make others do.
    check(&format!("[EMAIL_1] is {MAIL}"), "[EMAIL_1] is [EMAIL_A1]");
    check(&format!("[email a3], EMAIL_1: {MAIL}"), "[email a3], EMAIL_1: [EMAIL_B1]");
    check(&format!("[CARD_1] is {MAIL}"), "[CARD_1] is [EMAIL_1]");
    check("BSN 111222333 BSN_1111222333", "BSN [BSN_A1] BSN_1[BSN_A1]");
}

#[test]
fn only_what_a_policy_names_is_redacted() {
    let detector = Detector::new();
    let content = format!("{MAIL} {CARD} {}", key());
    let secret = |kind: Kind| kind.group() == Group::Secret;
    let (request, redaction) = detector.redact(&text(&content), secret).expect("redacted");
    assert_eq!(prompt(&request), format!("{MAIL} {CARD} [ANTHROPICKEY_1]"));
    assert_eq!(redaction.replaced(), 1);
    assert_eq!(format!("{redaction:?}"), "Redaction(1 places)");
}

/// A request with a value in each place where one may be.
fn everywhere() -> Request {
    let call = ToolCall {
        id: "call_1".into(),
        name: "send".into(),
        arguments: format!(r#"{{"to": ["{MAIL}"], "card": 4111111111111111, "n": 1.50}}"#),
    };
    let assistant = Message {
        reasoning: Some(format!("they are {MAIL}")),
        tool_calls: vec![call],
        ..turn("assistant", &format!("sent to {MAIL}"))
    };
    let user = Message { name: Some(MAIL.into()), ..turn("user", &format!("I am {MAIL}\n{IBAN}")) };
    let tool = Tool {
        name: "send".into(),
        description: Some(format!("sends, as {MAIL} does")),
        parameters: format!(r#"{{"type":"object","description":"like {MAIL}"}}"#),
        strict: false,
    };
    let chat = Chat {
        messages: vec![turn("system", &format!("Ask {MAIL}.")), user, assistant],
        tools: vec![tool],
        template_kwargs: format!(r#"{{"who":"{MAIL}"}}"#),
        ..Chat::default()
    };
    let sampling = Sampling {
        bad_words: vec!["x".into(), MAIL.into()],
        text_bias: vec![(MAIL.into(), 1.0)],
        dry: Dry { breakers: vec![MAIL.into()], ..Dry::default() },
        ..Sampling::default()
    };
    Request {
        input: Input::Chat(chat),
        sampling,
        stop: vec![MAIL.into()],
        grammar: Some(Grammar::JsonSchema(format!(r#"{{"enum":["{MAIL}","{IBAN}"]}}"#))),
        ..Request::default()
    }
}

#[test]
fn every_place_of_a_request_is_redacted() {
    let detector = Detector::new();
    let (request, redaction) = detector.redact(&everywhere(), |_| true).expect("redacted");
    let said = format!("{request:?}");
    for value in [MAIL, IBAN, "4111111111111111"] {
        assert!(!said.contains(value), "{value} in {said}");
    }
    let Input::Chat(chat) = &request.input else { panic!("a conversation") };
    assert_eq!(chat.messages[0].content, "Ask [EMAIL_1].");
    assert_eq!(chat.messages[1].name.as_deref(), Some("[EMAIL_1]"));
    let arguments = &chat.messages[2].tool_calls[0].arguments;
    assert_eq!(arguments, r#"{"to": ["[EMAIL_1]"], "card": "[CARD_1]", "n": 1.50}"#);
    assert_eq!(request.stop, ["[EMAIL_1]"]);
    assert_eq!(request.sampling.bad_words, ["x", "[EMAIL_1]"]);
    assert_eq!(request.sampling.dry.breakers, ["[EMAIL_1]"]);
    assert_eq!(redaction.replaced(), 17);
    let counts = detector.survey(&everywhere()).counts();
    assert_eq!(counts, [("email".into(), 14), ("card".into(), 1), ("iban".into(), 2)]);
}

#[test]
fn the_requests_own_bytes_are_redacted_alike() {
    let detector = Detector::new();
    let user = turn("user", &format!("I am {MAIL}"));
    let chat = Chat { messages: vec![user], ..Chat::default() };
    let request = Request { input: Input::Chat(chat), ..Request::default() };
    let check = |own: &str, expect: &str, counts: &[(&str, u32)]| {
        let request = with_body(request.clone(), own);
        let (redacted, _) = detector.redact(&request, |_| true).expect("redacted");
        assert_eq!(body(&redacted), expect);
        let counts: Vec<_> = counts.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect();
        assert_eq!(detector.survey(&request).counts(), counts);
        assert_eq!(body(&request), own, "the one that came is as it was");
    };
    check(
        r#"{"messages":[{"role":"user","content":"I am anna.berg@example.org"}], "n" : 1}"#,
        r#"{"messages":[{"role":"user","content":"I am [EMAIL_1]"}], "n" : 1}"#,
        &[("email", 1)],
    );
    // What is known of it is found within other escapes, and in fields that nobody reads.
    check(
        r#"{"content":"I am anna.berg\u0040example.org","metadata":{"u":"b@example.org"}}"#,
        r#"{"content":"I am [EMAIL_1]","metadata":{"u":"[EMAIL_2]"}}"#,
        &[("email", 2)],
    );
    check(
        r#"{"arguments":"{\"to\":\"anna.berg@example.org\",\"card\":4111111111111111}"}"#,
        r#"{"arguments":"{\"to\":\"[EMAIL_1]\",\"card\":\"[CARD_1]\"}"}"#,
        &[("email", 1), ("card", 1)],
    );
    check(
        r#"{"metadata":{"signature":"Anna, b@example.org"}}"#,
        r#"{"metadata":{"signature":"Anna, [EMAIL_2]"}}"#,
        &[("email", 2)],
    );
}

/// What a provider sealed stays as it is, where its protocol has it; the same anywhere else is
/// anybody's, and so are names and ids within what is anybody's.
#[test]
fn keys_mean_what_they_do_in_their_place_alone() {
    let detector = Detector::new();
    let check = |own: &str, expect: &[(&str, u32)]| {
        let counts = detector.survey(&with_body(text("a"), own)).counts();
        let expect: Vec<_> = expect.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect();
        assert_eq!(counts, expect, "{own}");
    };
    let (short, found) = (key(), [("anthropic_key", 1)]);
    let long = format!("{short}{}", "x".repeat(60));
    let block = |sealed: &str| {
        let thought = format!(r#"{{"type":"thinking","thinking":"","signature":"{sealed}"}}"#);
        format!(r#"{{"messages":[{{"role":"assistant","content":[{thought}]}}]}}"#)
    };
    check(&block(&long), &[]);
    check(&block(&short), &found);
    check(&block(&format!("{long} {MAIL}")), &[("email", 1), ("anthropic_key", 1)]);
    let item = format!(r#"{{"type":"reasoning","encrypted_content":"{long}"}}"#);
    check(&format!(r#"{{"input":[{item}]}}"#), &[]);
    check(&format!(r#"{{"metadata":{item}}}"#), &found);
    check(&format!(r#"{{"signature":"{long}"}}"#), &found);
    let call = format!(r#"{{"type":"tool_use","input":{{"signature":"{long}"}}}}"#);
    check(&format!(r#"{{"messages":[{{"content":[{call}]}}]}}"#), &found);
    // Numbers in a protocol's own ids are nobody's; in others they may be.
    let phone = r#"{"id":"+49 30 901820"}"#;
    let found = [("phone", 1)];
    check(phone, &[]);
    check(&format!(r#"{{"messages":[{{"tool_calls":[{phone}]}}]}}"#), &[]);
    check(&format!(r#"{{"input":[{phone}]}}"#), &[]);
    check(&format!(r#"{{"metadata":{phone}}}"#), &found);
    check(&format!(r#"{{"messages":[{{"content":[{{"input":{phone}}}]}}]}}"#), &found);
    check(&format!(r#"{{"messages":[{{"tool_calls":[{{"arguments":{phone}}}]}}]}}"#), &found);
}

#[test]
fn what_cannot_be_read_or_changed_is_unsure() {
    let detector = Detector::new();
    let check = |request: Request, expect: &str| {
        let unsure = detector.redact(&request, |_| true).expect_err(expect);
        assert!(unsure.to_string().contains(expect), "{unsure}");
    };
    let chat = |message: Message| Request {
        input: Input::Chat(Chat { messages: vec![message], ..Chat::default() }),
        ..Request::default()
    };
    check(Request { input: Input::Tokens(vec![1]), ..Request::default() }, "token ids");
    check(text(&"a".repeat(MOST_BYTES + 1)), "bytes of text");
    check(with_body(text("a"), "{"), "the request's body is no JSON");
    let picture = r#"{"url":"data:image/png;base64,aaaa"}"#;
    check(with_body(text("a"), picture), "`url` of the request's body holds a file");
    let sound = format!(r#"{{"input_audio":{{"data":"{}"}}}}"#, "aB3/".repeat(100));
    check(with_body(text("a"), &sound), "`data` of the request's body");
    check(Request { model: MAIL.into(), ..text("a") }, "model holds personal data (email)");
    let adapters = Some(vec![Adapter::named(MAIL)]);
    check(Request { adapters, ..text("a") }, "lora holds personal data (email)");
    let tool_choice = ToolChoice::Named(MAIL.into());
    let named = Chat { tool_choice, ..Chat::default() };
    check(Request { input: Input::Chat(named), ..text("a") }, "tool_choice holds personal data");
    let id = Message { tool_call_id: Some(key()), ..turn("tool", "x") };
    check(chat(id), "messages[0].tool_call_id holds personal data (anthropic_key)");
    let grammar = Some(Grammar::Regex(MAIL.into()));
    check(Request { grammar, ..text("a") }, "the answer's format");
    let letters: String = ('A'..='Z').map(|letter| format!("[EMAIL_{letter}1] ")).collect();
    check(text(&format!("[EMAIL_1] {letters} {MAIL}")), "look like placeholders");
    let survey = detector.survey(&with_body(text(MAIL), picture));
    assert_eq!(survey.counts(), [("email".to_owned(), 1)]);
    assert!(matches!(survey.unsure, Some(Unsure::Opaque { .. })) && !survey.is_clean());
    assert!(detector.survey(&text("nothing")).is_clean());
}

#[test]
fn numbers_of_calls_are_nobodys() {
    let detector = Detector::new();
    let tool = Message { tool_call_id: Some("call_111222333".into()), ..turn("tool", MAIL) };
    let chat = Chat { messages: vec![tool], ..Chat::default() };
    let request = Request { input: Input::Chat(chat), ..Request::default() };
    let (request, _) = detector.redact(&request, |_| true).expect("redacted");
    let Input::Chat(chat) = request.input else { panic!("a conversation") };
    assert_eq!(chat.messages[0].tool_call_id.as_deref(), Some("call_111222333"));
    let gap = Gap { prefix: MAIL.into(), suffix: CARD.into(), begun: String::new() };
    let request = Request { input: Input::Gap(gap), ..Request::default() };
    let (request, _) = detector.redact(&request, |_| true).expect("redacted");
    let Input::Gap(gap) = request.input else { panic!("a gap") };
    assert_eq!((gap.prefix.as_str(), gap.suffix.as_str()), ("[EMAIL_1]", "[CARD_1]"));
}

fn said(content: &str) -> Event {
    Event::Text(Piece { text: content.to_owned(), ..Piece::default() })
}

fn part(content: &str) -> Event {
    Event::ToolCall { index: 0, part: CallPart::Arguments(content.to_owned()) }
}

fn redaction(content: &str) -> Redaction {
    Detector::new().redact(&text(content), |_| true).expect("redacted").1
}

#[test]
fn answers_get_their_values_back_as_soon_as_they_can() {
    let redaction = redaction(&format!("{MAIL} and a\"b {CARD}\\n {}", "c@example.org"));
    let check = |events: &[Event], expect: &[Event]| {
        let mut restorer = redaction.restorer();
        let out: Vec<Event> =
            events.iter().flat_map(|event| restorer.event(event.clone())).collect();
        assert_eq!(out, expect);
    };
    check(&[said("Hello "), said("you")], &[said("Hello "), said("you")]);
    check(&[said("to [EM"), said("AIL_1] now")], &[said("to "), said(&format!("{MAIL} now"))]);
    check(&[said("a [b"), said("] c")], &[said("a [b"), said("] c")]);
    check(&[said("[email 2]")], &[said("c@example.org")]);
    check(&[said("[EMAIL_9]")], &[said("[EMAIL_9]")]);
    // What is held goes out before what follows.
    let end = Event::ToolCall { index: 0, part: CallPart::End };
    check(&[said("see [EMA"), end.clone()], &[said("see "), said("[EMA"), end.clone()]);
    check(&[said("EMAIL_1"), end.clone()], &[said(MAIL), end.clone()]);
    check(
        &[part("{\"to\":\"[EMAIL"), part("_1]\"}"), end.clone()],
        &[part("{\"to\":\""), part(&format!("{MAIL}\"}}")), end],
    );
    let failed = Event::Failed(Fault::ours("no [EMAIL_1]"));
    check(&[failed], &[Event::Failed(Fault::ours(format!("no {MAIL}")))]);
    let tokens = Event::Text(Piece { text: "[".into(), tokens: vec![7], ..Piece::default() });
    let bare = Event::Text(Piece { tokens: vec![7], ..Piece::default() });
    check(&[tokens, said("x")], &[bare, said("[x")]);
}

#[test]
fn values_are_escaped_within_arguments() {
    let pem = format!("-----BEGIN {0}-----\nMIIB\"\n-----END {0}-----", "PRIVATE KEY");
    let redaction = redaction(&pem);
    let mut restorer = redaction.restorer();
    let out = restorer.event(part("{\"key\":\"[PRIVATEKEY_1]\"}"));
    let [Event::ToolCall { part: CallPart::Arguments(arguments), .. }] = &out[..] else {
        panic!("arguments: {out:?}")
    };
    let read: serde_json::Value = serde_json::from_str(arguments).expect("JSON");
    assert_eq!(read["key"], pem);
}

/// What goes out of an answer that is watched, cut in pieces of so many bytes.
fn watched(content: &str, piece: usize) -> (String, Vec<(Kind, u32)>) {
    let mut watch = Arc::new(Detector::new()).watch(|kind| kind != Kind::Ip);
    let mut out = String::new();
    let pieces: Vec<char> = content.chars().collect();
    let events = pieces.chunks(piece).map(|piece| said(&piece.iter().collect::<String>()));
    for event in events.chain([Event::Failed(Fault::ours("the end"))]) {
        for event in watch.event(event) {
            if let Event::Text(piece) = event {
                out.push_str(&piece.text);
            }
        }
    }
    assert_eq!(watch.unsure(), None);
    (out, watch.found())
}

#[test]
fn answers_are_watched_across_their_seams() {
    let check = |content: &str, expect: &str, found: &[(Kind, u32)]| {
        for piece in [1, 3, 7, 64, 300, 100_000] {
            let (out, kinds) = watched(content, piece);
            assert_eq!((out.as_str(), &kinds[..]), (expect, found), "pieces of {piece}");
        }
    };
    let filler = "nothing to see here, é, really. ".repeat(40);
    check(&filler, &filler, &[]);
    check(MAIL, "[EMAIL]", &[(Kind::Email, 1)]);
    check(
        &format!("{filler}{MAIL} {filler}{IBAN}, 192.168.17.23"),
        &format!("{filler}[EMAIL] {filler}[IBAN], 192.168.17.23"),
        &[(Kind::Email, 1), (Kind::Iban, 1)],
    );
    let pem =
        format!("-----BEGIN {0}-----\n{1}-----END {0}-----", "PRIVATE KEY", "aB3/\n".repeat(900));
    check(&format!("{filler}{pem}."), &format!("{filler}[PRIVATEKEY]."), &[(Kind::PrivateKey, 1)]);
}

/// How much text a second is searched, and that nothing makes it slow beyond measure:
/// `cargo test --release -p ingle-gateway --test privacy speed -- --ignored --nocapture`.
#[test]
#[ignore = "measures, and asserts nothing"]
fn speed() {
    let detector = Detector::new();
    let dates = "2026-11-22 10:00:01.123 INFO took 12.5 ms for 1,234 rows of 99 in a/b.rs:12\n";
    for (name, piece) in [
        ("prose", "Call me at the office, or write; the order 12345 comes on Monday.\n"),
        ("logs", dates),
        ("contacts", "Anna Berg, anna.berg@example.org, +49 30 1234567, DE89 3704 0044 0532\n"),
        ("spaced digits", "1 "),
        ("digits", "1"),
        ("ats", "a@"),
        ("colons", "a:"),
        ("tokens", "eyJhbGciOiJIUzI1.eyJ"),
        ("keys", "sk-ant-"),
        ("keys begun", "-----BEGIN PRIVATE KEY-----"),
        ("letters", "D E 8 9 "),
        ("names", "bsn tel "),
        ("escapes", "\\n4"),
        ("wide", "４１"),
    ] {
        let content = piece.repeat((1 << 20) / piece.len());
        let start = std::time::Instant::now();
        let found = detector.detect(&content).map(|found| found.len());
        let taken = start.elapsed().as_secs_f64();
        println!("| {name} | {:.1} MB/s | {found:?} |", content.len() as f64 / 1e6 / taken);
    }
    let request = everywhere();
    let start = std::time::Instant::now();
    (0..1000).for_each(|_| drop(detector.redact(&request, |_| true)));
    println!("a small request: {:.1} us", start.elapsed().as_secs_f64() * 1e3);
}

/// Texts of what is found, of what looks like it and like placeholders, and of anything.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(MAIL.to_owned()),
        Just("b@example.org".to_owned()),
        Just(CARD.to_owned()),
        Just("4\u{200b}111\u{a0}1111 １111 1111".to_owned()),
        Just(IBAN.to_owned()),
        Just("BSN 111222333".to_owned()),
        Just("111222333".to_owned()),
        Just("+49 30 1234567".to_owned()),
        Just("192.168.17.23".to_owned()),
        Just(key()),
        Just("[EMAIL_1]".to_owned()),
        Just("[EMAIL_".to_owned()),
        Just("EMAIL_1".to_owned()),
        Just("[card a1]".to_owned()),
        Just("\\[IBAN\\_1\\]".to_owned()),
        Just("CARD_".to_owned()),
        Just("BSN_1".to_owned()),
        "[\\[\\]\\\\_ 0-9A-E@.\"\\n+-]{0,6}",
        "\\PC{0,8}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn streamed(redaction: &Redaction, content: &str, cuts: &[usize]) -> String {
    let mut restorer = redaction.restorer();
    let mut out = String::new();
    let mut tell = |events: Vec<Event>| {
        for event in events {
            if let Event::Text(piece) = event {
                out.push_str(&piece.text);
            }
        }
    };
    let mut cuts = cuts.iter().cycle();
    let mut rest = content;
    while !rest.is_empty() {
        let wanted = cuts.next().copied().unwrap_or(1).clamp(1, rest.len());
        let end = (wanted..=rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        tell(restorer.event(said(&rest[..end])));
        rest = &rest[end..];
    }
    tell(restorer.event(Event::Failed(Fault::ours("the end"))));
    out
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }
}

thread_local! {
    static DETECTOR: Detector = Detector::new();
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn redacted_texts_come_back_and_hold_nothing(
        content in texts(),
        cuts in prop::collection::vec(1..9_usize, 1..6),
    ) {
        let (found, redacted) = DETECTOR.with(|detector| {
            let found: Vec<Finding> = detector.detect(&content).expect("a short text");
            (found, detector.redact(&text(&content), |_| true))
        });
        // All letters may be taken by what was drawn.
        let Ok((request, redaction)) = redacted else { return Ok(()) };
        for finding in &found {
            let value = &content[finding.bytes.clone()];
            prop_assert!(!prompt(&request).contains(value), "{value:?} in {:?}", prompt(&request));
        }
        prop_assert_eq!(redaction.restore(prompt(&request)), content.clone());
        prop_assert_eq!(streamed(&redaction, prompt(&request), &cuts), content);
    }

    #[test]
    fn arguments_stay_json_and_come_back(value in texts(), name in texts()) {
        let arguments = serde_json::json!({ "a": value, "b": [name, 1, null] }).to_string();
        let call = ToolCall { id: "1".into(), name: "f".into(), arguments: arguments.clone() };
        let message = Message { tool_calls: vec![call], ..turn("assistant", "") };
        let chat = Chat { messages: vec![message], ..Chat::default() };
        let request = Request { input: Input::Chat(chat), ..Request::default() };
        let redacted = DETECTOR.with(|detector| detector.redact(&request, |_| true));
        let Ok((request, redaction)) = redacted else { return Ok(()) };
        let Input::Chat(chat) = &request.input else { panic!("a conversation") };
        let sent = &chat.messages[0].tool_calls[0].arguments;
        prop_assert!(serde_json::from_str::<serde_json::Value>(sent).is_ok(), "{}", sent);
        let mut restorer = redaction.restorer();
        let mut back = String::new();
        let end = Event::ToolCall { index: 0, part: CallPart::End };
        for event in sent.chars().map(|c| part(&c.to_string())).chain([end]) {
            for event in restorer.event(event) {
                if let Event::ToolCall { part: CallPart::Arguments(more), .. } = event {
                    back.push_str(&more);
                }
            }
        }
        let back: serde_json::Value = serde_json::from_str(&back).expect("JSON");
        prop_assert_eq!(back, serde_json::from_str::<serde_json::Value>(&arguments).expect("JSON"));
    }

    #[test]
    fn findings_are_apart_and_in_order(content in texts()) {
        let found = DETECTOR.with(|detector| detector.detect(&content)).expect("a short text");
        let mut end = 0;
        for Finding { bytes, .. } in found {
            prop_assert!(bytes.start >= end && bytes.start < bytes.end);
            prop_assert!(content.get(bytes.clone()).is_some());
            end = bytes.end;
        }
    }
}
