//! Any text, as a prompt and as a request's own bytes: what is found lies within it, in order and
//! apart; what is replaced is gone, and comes back whole, in one piece and character by character.
//! A watched answer goes out as bytes that are characters.

#![no_main]

use std::sync::{Arc, OnceLock};

use ingle_gateway::privacy::Detector;
use ingle_protocol::{Event, Fault, Input, Origin, Piece, Request, Verbatim};
use libfuzzer_sys::fuzz_target;

fn said(event: &Event) -> &str {
    match event {
        Event::Text(piece) => &piece.text,
        _ => "",
    }
}

fuzz_target!(|bytes: &[u8]| {
    static DETECTOR: OnceLock<Arc<Detector>> = OnceLock::new();
    let detector = DETECTOR.get_or_init(|| Arc::new(Detector::new()));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(found) = detector.detect(text) else { return };
    let mut end = 0;
    for finding in &found {
        assert!(finding.bytes.start >= end && finding.bytes.start < finding.bytes.end);
        assert!(text.get(finding.bytes.clone()).is_some());
        end = finding.bytes.end;
    }
    let ends = text.char_indices().map(|(at, char)| text[at..at + char.len_utf8()].to_owned());
    let pieces = ends.map(|text| Event::Text(Piece { text, ..Piece::default() }));
    let mut watch = detector.watch(|_| true);
    let last = || [Event::Failed(Fault::ours("the end"))];
    pieces.chain(last()).for_each(|event| drop(watch.event(event)));

    let request = Request { input: Input::Text(text.to_owned()), ..Request::default() };
    let verbatim = Some(Arc::new(Verbatim { body: text.to_owned(), ..Verbatim::default() }));
    let origin = Some(Arc::new(Origin { verbatim, ..Origin::default() }));
    drop(detector.redact(&Request { origin, ..request.clone() }, |_| true));
    let Ok((redacted, redaction)) = detector.redact(&request, |_| true) else { return };
    let Input::Text(sent) = &redacted.input else { panic!("a text stays one") };
    for finding in &found {
        assert!(!sent.contains(&text[finding.bytes.clone()]));
    }
    assert_eq!(redaction.restore(sent), text);
    let mut restorer = redaction.restorer();
    let ends = sent.char_indices().map(|(at, char)| sent[at..at + char.len_utf8()].to_owned());
    let pieces = ends.map(|text| Event::Text(Piece { text, ..Piece::default() }));
    let back: String = pieces
        .chain(last())
        .flat_map(|event| restorer.event(event))
        .map(|event| said(&event).to_owned())
        .collect();
    assert_eq!(back, text);
});
