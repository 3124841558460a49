//! Vectors asked of other servers: our own reads what is asked, and its answers are understood.

mod support;

use ingle_protocol::wire::Stamp;
use ingle_protocol::wire::reading::{Format, read_request};
use ingle_protocol::wire::speak::{read_embeddings, write_embeddings};
use ingle_protocol::{
    Blame, Encoded, Encoding, Finish, Long, Output, Passage, Read, Reads, Receipt, Timings, Usage,
    Vectors, Want, Written,
};
use proptest::prelude::*;
use support::faults;

const READS: Reads = Reads {
    dimensions: 3,
    tokens: 99,
    labels: vec![],
    tags: vec![],
    late: false,
    sparse: false,
    prompts: vec![],
};

fn any_encoding() -> impl Strategy<Value = Encoding> {
    let texts = prop::collection::vec(".{1,9}".prop_map(Passage::text), 1..5);
    let tokens = prop::collection::vec(any::<u32>(), 1..5)
        .prop_map(|tokens| Passage { text: Written::Tokens(tokens), pair: None });
    let inputs = prop_oneof![texts, prop::collection::vec(tokens, 1..5)];
    (inputs, prop::option::of(1..3u32)).prop_map(|(inputs, dimensions)| Encoding {
        model: "m".into(),
        inputs,
        // The format's vectors have length 1.
        want: Want::Vector(Vectors { dimensions, normalise: Some(true), prompt: None }),
        ..Encoding::default()
    })
}

fn receipt(prompt_tokens: u32) -> Receipt {
    Receipt {
        model: "m".into(),
        route: vec![],
        left_machine: true,
        cost_micros: 0,
        finish: Finish::Stop,
        stop: None,
        notes: vec![],
        usage: Usage { prompt_tokens, ..Usage::default() },
        timings: Timings::default(),
    }
}

proptest! {
    #[test]
    fn what_is_asked_is_read_and_what_is_answered_heard(
        encoding in any_encoding(),
        numbers in prop::collection::vec(any::<i16>(), 15),
        tokens in 0..999u32,
    ) {
        let body = write_embeddings(&encoding, "m").expect("written");
        let asked = read_request(Format::Embeddings, body.as_bytes()).expect("read");
        let read = asked.encodings("m", &READS).expect("one");
        prop_assert_eq!(&*read, std::slice::from_ref(&encoding), "{}", body);
        let vector = |numbers: &[i16]| numbers.iter().map(|it| f32::from(*it) / 8.0).collect();
        let vectors = numbers.chunks(3).map(vector);
        let read = vectors.take(encoding.inputs.len());
        let read = read.map(|it| Read { output: Output::Vector(it), tokens: 0, cut: false });
        let encoded = Encoded { read: read.collect(), labels: vec![], receipt: receipt(tokens) };
        let stamp = Stamp { id: "1".into(), created_ms: 0, model: "m".into() };
        let answer = asked.write_answer(&stamp, std::slice::from_ref(&encoded)).expect("written");
        let heard = read_embeddings(&answer.body, encoding.inputs.len()).expect("heard");
        prop_assert_eq!(heard, encoded, "{}", answer.body);
    }
}

#[test]
#[rustfmt::skip]
fn what_cannot_be_said_is_refused_by_name() {
    let plain = || Encoding { inputs: vec![Passage::text("x")], ..Encoding::default() };
    let rows: Vec<(Encoding, &str)> = vec![
        (Encoding { want: Want::Sparse, ..plain() }, "task"),
        (Encoding { want: Want::Vector(Vectors { normalise: Some(false), ..Vectors::default() }), ..plain() }, "normalize"),
        (Encoding { want: Want::Vector(Vectors { prompt: Some("query".into()), ..Vectors::default() }), ..plain() }, "prompt_name"),
        (Encoding { long: Long::KeepStart(None), ..plain() }, "truncate_prompt_tokens"),
        (Encoding { adapter: Some("a".into()), ..plain() }, "model"),
        (Encoding { inputs: vec![Passage::pair("a", "b")], ..plain() }, "input"),
        (Encoding { inputs: vec![], ..plain() }, "input"),
        (Encoding { inputs: vec![Passage::text("a"), Passage { text: Written::Tokens(vec![1]), pair: None }], ..plain() }, "input"),
    ];
    for (encoding, param) in rows {
        faults(write_embeddings(&encoding, "m"), &format!("{encoding:?}"), param, "this model's server");
    }
}

#[test]
fn an_answer_that_lies_is_no_answer() {
    let rows = [
        ("", "no JSON"),
        ("{}", "no 2 vectors"),
        (r#"{"data":[{"embedding":[1]}]}"#, "no 2 vectors"),
        (r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#, "one twice"),
        (r#"{"data":[{"index":0,"embedding":[1]},{"index":9,"embedding":[1]}]}"#, "no text"),
        (r#"{"data":[{"embedding":[1]},{"embedding":[1,2]}]}"#, "differ"),
        (r#"{"data":[{"embedding":[1]},{"embedding":[]}]}"#, "numbers"),
        (r#"{"data":[{"embedding":[1]},{"embedding":["1"]}]}"#, "numbers"),
        (r#"{"data":[{"embedding":[1]},{"embedding":[1e300]}]}"#, "numbers"),
        (r#"{"error":{"message":"oops"}}"#, "oops"),
    ];
    for (body, words) in rows {
        let fault = read_embeddings(body, 2).expect_err(body);
        assert_eq!(fault.blame, Blame::Provider, "{body}");
        assert!(fault.message.contains(words), "{body}: {fault}");
    }
}
