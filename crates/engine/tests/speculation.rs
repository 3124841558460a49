//! Speculation changes nothing but the time that an answer takes: text, tokens, log-probabilities
//! to the last bit, the reason to end and every count are those of plain decoding, greedy or drawn,
//! wherever in a draft the answer is cut, and whatever else goes on.

mod support;

use ingle_engine::{Local, Options, Speculation, Stats};
use ingle_protocol::{Chat, Finish, Input, Message, Receipt, Request, Sampling, Token, Usage};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use support::{Asked, Told, answer, ask, fetched, open, request, text, tiny, until};

const LIST: &str = "The colours of the flags, once more and exactly as before.\n\
    Italy: green, white, red\nFrance: blue, white, red\nIreland: green, white, orange\n\
    Italy: green, white, red\nFrance: blue, white, red\nIreland: green, white, orange\n\
    Italy: green, white,";
const CODE: &str = "struct Point { x: f32, y: f32 }\n\nimpl Point {\n    fn add_x(&mut self, dx: \
    f32) {\n        self.x += dx;\n    }\n\n    fn add_y(&mut self, dy: f32) {\n        self.y";
const PROSE: &str = "Marie Curie was born in Warsaw, in what was then the Kingdom of Poland. She";

/// The same model, without speculation and with it.
struct Pair {
    plain: Local,
    drafting: Local,
}

impl Pair {
    fn open(path: &Path, options: &Options) -> Self {
        let with = |speculation| open(path, &Options { speculation, ..options.clone() });
        Self { plain: with(Speculation::None), drafting: with(Speculation::Lookup) }
    }

    /// Answers alike, and says how many drafted tokens came true and how many did not.
    fn same(&self, request: &Request) -> (u32, u32) {
        let told = [&self.plain, &self.drafting].map(|model| answer(model, request));
        alike(&told[0], &told[1])
    }
}

/// The chosen token, then the likeliest ones, each with the bits of its log-probability.
fn bits(told: &Told) -> Vec<Vec<(Token, u32)>> {
    let scored = |score: &ingle_protocol::TokenScore| {
        let all = [&score.chosen].into_iter().chain(&score.top);
        all.map(|one| (one.token, one.logprob.to_bits())).collect()
    };
    told.scores().map(scored).collect()
}

/// Compares all that a caller can see but the times.
fn alike(plain: &Told, drafting: &Told) -> (u32, u32) {
    assert_eq!(plain.text(), drafting.text());
    assert!(bits(plain) == bits(drafting), "other log-probabilities: {:?}", plain.text());
    let pieces = |told: &Told| told.pieces.iter().map(|piece| piece.text.clone()).collect();
    let [left, right]: [Vec<String>; 2] = [pieces(plain), pieces(drafting)];
    assert_eq!(left, right, "in other pieces");
    let (plain, drafting): (&Receipt, &Receipt) = (plain.receipt(), drafting.receipt());
    assert_eq!(plain.finish, drafting.finish);
    let Usage { accepted_tokens, rejected_tokens, .. } = drafting.usage;
    assert_eq!(Usage { accepted_tokens: 0, rejected_tokens: 0, ..drafting.usage }, plain.usage);
    assert!(accepted_tokens <= drafting.usage.completion_tokens);
    (accepted_tokens, rejected_tokens)
}

/// The totals, once the last step is among them.
fn settled(model: &Local) -> Stats {
    until("nothing runs", || model.stats().counts.running == 0);
    model.stats()
}

fn options(kv_bytes: usize) -> Options {
    Options { threads: Some(2), kv_bytes: Some(kv_bytes), ..Options::default() }
}

fn greedy(prompt: &str, tokens: u32) -> Request {
    Request { logprobs: Some(3), ..request(text(prompt), tokens) }
}

fn drawn(prompt: &str, tokens: u32, temperature: f32, seed: u64) -> Request {
    let request = greedy(prompt, tokens);
    let sampling = Sampling { temperature, seed: Some(seed), ..request.sampling };
    Request { sampling, ..request }
}

fn penalized(prompt: &str, tokens: u32) -> Request {
    let request = drawn(prompt, tokens, 0.6, 3);
    let sampling = Sampling {
        repetition_penalty: 1.05,
        frequency_penalty: 0.1,
        top_p: 0.9,
        top_k: 40,
        ..request.sampling
    };
    Request { sampling, ..request }
}

#[test]
fn answers_are_the_same_to_the_last_bit() {
    let Some(path) = fetched("smollm2") else { return };
    let pair = Pair::open(&path, &options(64 << 20));
    let (mut accepted, mut rejected) = (0, 0);
    for prompt in [LIST, CODE, PROSE] {
        let requests = [
            greedy(prompt, 40),
            drawn(prompt, 40, 0.7, 11),
            drawn(prompt, 24, 1.2, 5),
            penalized(prompt, 24),
        ];
        for request in requests {
            let (right, wrong) = pair.same(&request);
            accepted += right;
            rejected += wrong;
        }
    }
    assert!(accepted > 40 && rejected > 10, "{accepted} accepted, {rejected} rejected");
    let stats = [&pair.plain, &pair.drafting].map(settled);
    assert_eq!((stats[0].drafted_tokens, stats[0].accepted_tokens), (0, 0));
    assert_eq!(stats[1].drafted_tokens, u64::from(accepted + rejected));
    assert_eq!(stats[1].accepted_tokens, u64::from(accepted));
    assert_eq!(stats[0].generated_tokens, stats[1].generated_tokens);
    assert_eq!(
        stats[0].steps,
        stats[1].steps + u64::from(accepted),
        "a step for each that came true"
    );
}

/// Every length, so that some end within a draft: the random model soon says the same again.
#[test]
fn an_answer_is_cut_where_it_has_all_its_tokens() {
    let pair = Pair::open(&tiny("qwen3"), &options(1 << 20));
    let accepted: u32 = (1..48).map(|tokens| pair.same(&greedy("abcabcabcabc", tokens)).0).sum();
    assert!(accepted > 100, "{accepted}");
}

/// A stop text for every place of an answer that repeats itself, one and several tokens long.
#[test]
fn a_stop_text_ends_an_answer_within_a_draft() {
    let Some(path) = fetched("smollm2") else { return };
    let pair = Pair::open(&path, &options(64 << 20));
    let whole = answer(&pair.plain, &greedy(LIST, 36)).text();
    // So that both find the prefix.
    answer(&pair.drafting, &greedy(LIST, 1));
    let mut accepted = 0;
    for stop in ["France", "te, or", ", red\nIreland", "orange\nItaly"] {
        assert!(whole.contains(stop), "{stop:?} is not in {whole:?}");
        let request = Request { stop: vec![stop.into()], ..greedy(LIST, 36) };
        accepted += pair.same(&request).0;
        assert_eq!(answer(&pair.drafting, &request).receipt().finish, Finish::Stop);
    }
    assert!(accepted > 8, "{accepted}");
}

/// The end of the turn is drafted, too: it stood after the same answer before.
#[test]
fn the_end_of_a_turn_ends_an_answer_within_a_draft() {
    let Some(path) = fetched("smollm2") else { return };
    let pair = Pair::open(&path, &options(64 << 20));
    let say = |role: &str, text: &str| Message {
        role: role.into(),
        content: text.into(),
        ..Message::default()
    };
    let (ask, reply) =
        ("Name the primary colours.", "The primary colours are red, yellow and blue.");
    let turns = [say("user", ask), say("assistant", reply)];
    let messages = [&turns[..], &turns, &turns, &turns[..1]].concat();
    let mut request = Request {
        logprobs: Some(3),
        ..request(Input::Chat(Chat { messages, ..Chat::default() }), 40)
    };
    request.sampling.ignore_eos = false;
    let (accepted, _) = pair.same(&request);
    let told = answer(&pair.drafting, &request);
    assert_eq!((told.receipt().finish, accepted > 3), (Finish::Stop, true), "{:?}", told.text());
}

/// A caller that goes away after so many pieces hears no more, though more came true in that step.
#[test]
fn a_caller_that_goes_away_within_a_draft_is_told_no_more() {
    let pair = Pair::open(&tiny("qwen3"), &options(1 << 20));
    let tell = |model: &Local, most: usize| {
        let (sender, events) = sync_channel(1 << 10);
        let mut left = most;
        let sink = Box::new(move |event| {
            let _ = sender.send(event);
            left = left.saturating_sub(1);
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let call = model.send(&greedy("abcabcabcabc", 60), sink).expect("is taken in");
        let told = Asked { call, events }.wait();
        (told.tokens(), told.receipt().finish, told.receipt().usage.completion_tokens)
    };
    for most in 1..30 {
        let told = tell(&pair.drafting, most);
        assert_eq!((told.0.len(), told.1), (most, Finish::Cancelled));
        assert_eq!(told, tell(&pair.plain, most));
    }
    assert!(settled(&pair.drafting).accepted_tokens > 100);
}

#[test]
fn a_found_prefix_changes_nothing() {
    let pair = Pair::open(&tiny("qwen3"), &options(1 << 20));
    for prompt in
        ["abcabcabcabc", "abcabcabcabc", "abcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabc"]
    {
        pair.same(&greedy(prompt, 40));
        pair.same(&drawn(prompt, 40, 0.3, 8));
    }
    let stats = settled(&pair.drafting);
    assert!(stats.cached_tokens > 16 && stats.accepted_tokens > 50, "{stats:?}");
}

/// Several at a time, in memory that holds only some of them.
#[test]
fn the_crowd_and_making_room_change_nothing() {
    let path = tiny("qwen3");
    let crowd: Vec<Request> = (0..12)
        .map(|at| {
            let prompt = format!("{at}{at}{at} and so on ").repeat(1 + at % 4);
            if at % 2 == 0 { greedy(&prompt, 50) } else { drawn(&prompt, 50, 0.2, at as u64) }
        })
        .collect();
    let plain = open(&path, &Options { speculation: Speculation::None, ..options(1 << 20) });
    let alone: Vec<Told> = crowd.iter().map(|request| answer(&plain, request)).collect();
    for (kv_bytes, running) in [(1 << 20, 4), (SMALL, 8)] {
        let drafting = open(&path, &Options { running, ..options(kv_bytes) });
        let asked = crowd.iter().map(|request| ask(&drafting, request).expect("is taken in"));
        let asked: Vec<Asked> = asked.collect();
        for (asked, alone) in asked.into_iter().zip(&alone) {
            let mut told = asked.wait();
            // Which of them found a prefix depends on who came first.
            told.end.as_mut().expect("is answered").usage.cached_tokens =
                alone.receipt().usage.cached_tokens;
            alike(alone, &told);
        }
        let stats = settled(&drafting);
        assert!(stats.accepted_tokens > 20, "{stats:?}");
        assert_eq!(stats.counts.preemptions > 0, kv_bytes == SMALL, "{stats:?}");
    }
}

/// Bytes of a KV cache that holds two or three of the crowd.
const SMALL: usize = 16 * 16 * 2 * 2 * 32 * 2;

/// What is tried where nothing repeats is little.
#[test]
fn where_nothing_repeats_hardly_anything_is_tried() {
    let Some(path) = fetched("smollm2") else { return };
    let model = open(&path, &options(64 << 20));
    let told = answer(&model, &drawn(PROSE, 60, 1.0, 2));
    let Usage { accepted_tokens, rejected_tokens, .. } = told.receipt().usage;
    assert!(rejected_tokens <= 6 + 3 * accepted_tokens, "{:?}", told.receipt().usage);
}
