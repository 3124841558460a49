//! Batch invariance, the promise that a request's answer does not depend on what else is going on:
//! every log-probability is the same to the last bit, alone and among fifteen others, chunked and
//! whole, from a cached prefix, on any number of threads, and after making room for others.

mod support;

use ingle_backend::KvType;
use ingle_engine::{Local, Options};
use ingle_protocol::{Input, Request, Sampling, Token, Usage};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;
use support::{Asked, Told, answer, ask, fetched, open, request, text};

const OPENING: &str = "Marie Curie was born in Warsaw, in what was then the Kingdom of Poland. She \
    studied in secret before she left for Paris, where she met the man who became her husband and with whom she";

/// The chosen token, then the likeliest ones, each with the bits of its log-probability.
type Bits = Vec<Vec<(Token, u32)>>;

fn bits(told: &Told) -> Bits {
    let scored = |score: &ingle_protocol::TokenScore| {
        let all = [&score.chosen].into_iter().chain(&score.top);
        all.map(|one| (one.token, one.logprob.to_bits())).collect()
    };
    told.scores().map(scored).collect()
}

/// The two requests that are watched: a greedy one, and one that draws.
fn watched() -> [Request; 2] {
    let greedy = Request { logprobs: Some(5), ..request(text(OPENING), 12) };
    let sampling = Sampling { temperature: 1.1, top_p: 0.95, seed: Some(41), ..greedy.sampling };
    let drawn = Request { sampling, ..request(text("def fibonacci(n):\n    "), 12) };
    let drawn = Request { logprobs: Some(5), ..drawn };
    [Request { sampling: request(text(""), 1).sampling, ..greedy }, drawn]
}

/// Fourteen others, of lengths of their own; some begin as the first of the watched ones does.
fn others() -> Vec<Request> {
    let prompt = |at: usize| match at % 3 {
        0 => OPENING[..20 + 7 * at].to_owned(),
        1 => format!("{at} ").repeat(1 + 2 * at),
        _ => format!("Chapter {at}. In which"),
    };
    (0..14).map(|at| request(text(&prompt(at)), 2 + 2 * (at as u32 % 4))).collect()
}

fn model(path: &Path, threads: usize, step_tokens: usize, kv_tokens: usize) -> Local {
    keeping(KvType::F16, path, threads, step_tokens, kv_tokens)
}

fn keeping(
    kv_type: KvType,
    path: &Path,
    threads: usize,
    step_tokens: usize,
    kv_tokens: usize,
) -> Local {
    let bytes_per_token = 30 * 2 * 3 * kv_type.head_bytes(64);
    let options = Options {
        threads: Some(threads),
        step_tokens,
        kv_type: Some(kv_type),
        kv_bytes: Some(kv_tokens * bytes_per_token),
        ..Options::default()
    };
    open(path, &options)
}

/// Sends half of the others, the watched ones, and the rest; gives what the watched ones were told.
fn crowded(model: &Local, step_tokens: u64) -> [Told; 2] {
    let send = |request: &Request| ask(model, request).expect("is taken in");
    let crowd = others();
    let (before, after) = crowd.split_at(crowd.len() / 2);
    let mut asked: Vec<Asked> = before.iter().map(send).collect();
    let own = watched().each_ref().map(send);
    asked.extend(after.iter().map(send));
    let told = own.map(Asked::wait);
    for other in asked {
        other.wait().end.expect("is answered");
    }
    let stats = model.stats();
    let one_by_one = stats.generated_tokens + stats.prompt_tokens / step_tokens;
    assert!(stats.steps < one_by_one, "there was no crowd: {stats:?}");
    told
}

/// What the watched requests are told one by one, each in one step and on one thread.
fn alone(path: &Path) -> &'static [Bits; 2] {
    static ALONE: OnceLock<[Bits; 2]> = OnceLock::new();
    ALONE.get_or_init(|| {
        let model = model(path, 1, 512, 1024);
        watched().map(|request| bits(&answer(&model, &request)))
    })
}

fn same(expect: &[Bits; 2], told: &[Told; 2], what: &str) {
    for (expect, told) in expect.iter().zip(told) {
        assert_eq!(expect.len(), 12, "every token has its score");
        assert!(*expect == bits(told), "{what}: another answer: {:?}", told.text());
    }
}

#[test]
fn the_crowd_the_chunks_and_the_threads_change_nothing() {
    let Some(path) = fetched("smollm2") else { return };
    let expect = alone(&path);
    for (threads, step_tokens) in [(1, 33), (2, 512), (2, 16), (3, 7)] {
        let model = model(&path, threads, step_tokens, 4096);
        let told = crowded(&model, step_tokens as u64);
        same(expect, &told, &format!("{threads} threads, steps of {step_tokens}"));
        assert_eq!(model.stats().counts.preemptions, 0);
    }
}

#[test]
fn however_the_past_is_kept_it_is_read_back_the_same() {
    let Some(path) = fetched("smollm2") else { return };
    let mut answers = vec![alone(&path).clone()];
    for kv in [KvType::Q8_0, KvType::F32] {
        let model = |threads, step| keeping(kv, &path, threads, step, 4096);
        let lone = model(1, 512);
        let expect = watched().map(|request| bits(&answer(&lone, &request)));
        same(&expect, &crowded(&model(2, 16), 16), kv.name());
        answers.push(expect);
    }
    assert!(answers[0] != answers[1] && answers[1] != answers[2], "types round");
}

#[test]
fn a_cached_prefix_changes_nothing() {
    let Some(path) = fetched("smollm2") else { return };
    let expect = alone(&path);
    let model = model(&path, 2, 512, 1024);
    for found in [0, 32] {
        let told = watched().map(|request| answer(&model, &request));
        same(expect, &told, &format!("{found} tokens found"));
        let usage: Usage = told[0].receipt().usage;
        assert_eq!((usage.cached_tokens, usage.completion_tokens), (found, 12), "{usage:?}");
    }
}

/// Six blocks: two for the elder ones, who need more with every sixteenth token, three for the
/// first of those watched and one for the second. Both are younger, so both make room.
#[test]
fn making_room_changes_nothing() {
    let Some(path) = fetched("smollm2") else { return };
    let model = model(&path, 2, 512, 16 * 6);
    let elder = |tokens: u32| {
        let request = request(Input::Tokens((1000..1000 + tokens).collect()), 24);
        Request { logprobs: Some(0), ..request }
    };
    let (go, gate) = sync_channel::<()>(1);
    let sink = Box::new(move |_| {
        let _ = gate.recv(); // stands still at its first token, until everybody is there
        ControlFlow::Continue(())
    });
    let _call = model.send(&elder(13), sink).expect("is taken in");
    let second = ask(&model, &elder(12)).expect("is taken in");
    let own = watched().each_ref().map(|request| ask(&model, request).expect("is taken in"));
    drop(go);
    same(alone(&path), &own.map(Asked::wait), "little memory");
    second.wait().end.expect("is answered");
    let counts = model.stats().counts;
    assert!(counts.preemptions >= 2, "{counts:?}");
}
