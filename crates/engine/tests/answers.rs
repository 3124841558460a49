//! Requests in, events out: what a caller is told, in which order, and what is left behind. Most
//! of it is shown on a tiny random model whose tokens are bytes, so that every character beyond
//! ASCII and every stop text spans tokens.

mod support;

use ingle_engine::{Local, Options};
use ingle_protocol::{
    Blame, Call, Chat, Event, Fault, Finish, Input, Message, Request, Retry, Sampling, Token,
};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use support::{Told, answer, ask, fetched, open, request, text, tiny, until};

static TINY: LazyLock<Local> = LazyLock::new(|| small(Options::default()));
static SMOLLM2_FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| fetched("smollm2"));
static SMOLLM2: LazyLock<Option<Local>> = LazyLock::new(|| {
    let options = Options { kv_bytes: Some(128 << 20), ..Options::default() };
    SMOLLM2_FILE.as_deref().map(|path| open(path, &options))
});

/// The tiny model, for as many requests as given.
fn small(options: Options) -> Local {
    let (threads, kv_bytes) = (Some(1), Some(16 << 20));
    open(&tiny("qwen2"), &Options { threads, kv_bytes, ..options })
}

fn chat(content: &str) -> Input {
    let (role, content) = ("user".to_owned(), content.to_owned());
    let messages = vec![Message { role, content, ..Message::default() }];
    Input::Chat(Chat { messages, ..Chat::default() })
}

fn drawn(input: Input, tokens: u32, seed: Option<u64>) -> Request {
    let sampling = Sampling { seed, ignore_eos: true, ..Sampling::default() };
    Request { sampling, logprobs: Some(0), ..request(input, tokens) }
}

fn usage(told: &Told) -> (Finish, u32) {
    (told.receipt().finish, told.receipt().usage.completion_tokens)
}

#[test]
fn a_greedy_answer_is_always_the_same() {
    let Some(model) = &*SMOLLM2 else { return };
    let ask = Request { logprobs: Some(3), ..request(chat("Name three colours."), 24) };
    let told = [answer(model, &ask), answer(model, &ask)];
    assert_eq!(told[0].pieces, told[1].pieces);
    for score in told[0].scores() {
        assert_eq!(score.top.len(), 3);
        assert_eq!(score.chosen, score.top[0], "greedy is the likeliest");
        assert!(score.top.is_sorted_by(|a, b| a.logprob >= b.logprob), "{score:?}");
        assert!(score.top.iter().map(|one| one.logprob.exp()).sum::<f32>() <= 1.0 + 1e-5);
    }
    let receipt = told[0].receipt();
    assert_eq!((receipt.left_machine, receipt.cost_micros), (false, 0));
    assert!(receipt.timings.first_token <= receipt.timings.total);
}

#[test]
fn a_model_ends_its_own_answer() {
    let Some(model) = &*SMOLLM2 else { return };
    let mut ask = request(chat("What is 2+2? Answer with one number."), 100);
    ask.logprobs = Some(0);
    ask.sampling.ignore_eos = false;
    let ended = answer(model, &ask);
    let (finish, count) = usage(&ended);
    assert_eq!(finish, Finish::Stop, "{:?}", ended.text());
    assert_eq!(count as usize, ended.tokens().len());
    assert!(!ended.tokens().iter().any(|&token| model.tokenizer().is_end(token)));
    ask.sampling.ignore_eos = true;
    ask.max_tokens = Some(count + 5);
    let longer = answer(model, &ask);
    assert_eq!(usage(&longer), (Finish::Length, count + 5));
    assert!(longer.tokens().starts_with(&ended.tokens()));
    assert!(model.tokenizer().is_end(longer.tokens()[count as usize]));
    assert!(!longer.text().contains("<|im_end|>"), "markup is no text: {:?}", longer.text());
}

#[test]
fn a_seed_says_what_is_drawn() {
    let tokens = |seed| answer(&TINY, &drawn(text("Draw"), 40, seed)).tokens();
    assert_eq!(tokens(Some(1)), tokens(Some(1)));
    assert_ne!(tokens(Some(1)), tokens(Some(2)));
    assert_ne!(tokens(None), tokens(None), "a fresh one each time");
}

/// Wherever a stop text begins, the answer ends right before it, with the token that completed it
/// counted and none after.
#[test]
fn stop_texts_span_tokens() {
    let whole = answer(&TINY, &drawn(text("Stop"), 60, Some(5)));
    let (all, tokens) = (whole.text(), whole.tokens());
    let starts: Vec<usize> = all.char_indices().map(|(at, _)| at).collect();
    for edges in starts.windows(4).step_by(5) {
        let stop = &all[edges[0]..edges[3]];
        let first = all.find(stop).expect("is in there");
        let ask = Request {
            stop: vec!["never in there".to_owned(), stop.to_owned()],
            ..drawn(text("Stop"), 60, Some(5))
        };
        let told = answer(&TINY, &ask);
        assert_eq!(told.text(), all[..first], "stop at {stop:?}");
        let (finish, count) = usage(&told);
        let shown = |n: usize| {
            let mut decoder = TINY.tokenizer().decoder();
            tokens[..n].iter().map(|&token| decoder.push(token)).collect::<String>()
        };
        assert_eq!(finish, Finish::Stop);
        assert!(shown(count as usize).contains(stop), "{count} tokens complete {stop:?}");
        assert!(
            !shown(count as usize - 1).contains(stop),
            "{count} tokens are too many for {stop:?}"
        );
        assert_eq!(told.tokens(), tokens[..count as usize]);
    }
}

/// The limit ends the answer while its last characters may still become a stop text.
#[test]
fn what_was_held_back_is_told_at_the_end() {
    let plain = drawn(text("Held"), 30, Some(6));
    let all = answer(&TINY, &plain).text();
    let stop = format!("{}, and more", all.chars().next_back().expect("has text"));
    let told = answer(&TINY, &Request { stop: vec![stop], ..plain });
    assert_eq!((told.text(), usage(&told)), (all, (Finish::Length, 30)));
}

#[test]
fn a_stop_text_of_words_ends_a_real_answer() {
    let Some(model) = &*SMOLLM2 else { return };
    let plain = request(chat("Count from one to ten, in words."), 40);
    let all = answer(model, &plain).text();
    let middle = all.char_indices().nth(all.chars().count() / 2).expect("has a middle").0;
    let stop: String = all[middle..].chars().take(9).collect();
    let told = answer(model, &Request { stop: vec![stop.clone()], ..plain });
    assert_eq!(told.text(), all[..all.find(&stop).expect("is in there")]);
    assert_eq!(told.receipt().finish, Finish::Stop);
}

/// Random bytes: characters begin and break everywhere. Pieces are `String`s, so whole characters;
/// together they have to be what the tokens decode to.
#[test]
fn characters_are_never_split() {
    let mut beyond_ascii = 0;
    for seed in 0..20 {
        let told = answer(&TINY, &drawn(text("é日🦀"), 100, Some(seed)));
        assert_eq!(told.text(), TINY.tokenizer().decode(&told.tokens()), "seed {seed}");
        let real = |c: &char| !c.is_ascii() && *c != char::REPLACEMENT_CHARACTER;
        beyond_ascii += told.text().chars().filter(real).count();
    }
    assert!(beyond_ascii > 10, "nothing could be split: {beyond_ascii}");
}

#[test]
fn characters_of_several_tokens_come_whole() {
    let Some(model) = &*SMOLLM2 else { return };
    let crabs = "🦀🦞🐙🦑🦀🦞🐙🦑🦀🦞🐙🦑🦀🦞";
    let told = answer(model, &Request { logprobs: Some(0), ..request(text(crabs), 40) });
    assert_eq!(told.text(), model.tokenizer().decode(&told.tokens()));
    assert!(told.pieces.iter().any(|piece| piece.text.is_empty()), "{:?}", told.text());
    assert!(told.text().chars().any(|c| c.len_utf8() == 4), "{:?}", told.text());
}

#[test]
fn a_bias_forces_and_bans() {
    let biased = |logit_bias| {
        let mut ask = drawn(text("Bias"), 30, Some(9));
        ask.sampling.logit_bias = logit_bias;
        answer(&TINY, &ask).tokens()
    };
    let free = biased(Vec::new());
    let seen: BTreeSet<Token> = free.iter().copied().collect();
    assert!(seen.len() > 5, "{seen:?}");
    let banned = biased(seen.iter().map(|&token| (token, -100.0)).collect());
    assert!(banned.iter().all(|token| !seen.contains(token)), "{banned:?}");
    assert_eq!(biased(vec![(77, 100.0)]), [77; 30]);
}

/// The penalties of presence and frequency look at the answer alone, that of repetition at the
/// prompt, too.
#[test]
fn penalties_know_the_prompt_from_the_answer() {
    let first = |prompt: &[Token], change: fn(&mut Sampling)| {
        let input = Input::Tokens(prompt.to_vec());
        let mut ask = Request { logprobs: Some(0), ..request(input, 1) };
        change(&mut ask.sampling);
        answer(&TINY, &ask).tokens()[0]
    };
    let mut prompts = (1..40).map(|step| (0..60).map(|at| at * step % 256).collect::<Vec<_>>());
    let repeats = |prompt: &Vec<Token>| prompt.contains(&first(prompt, |_| ()));
    let prompt = prompts.find(repeats).expect("a prompt whose likeliest next token is in it");
    let free = first(&prompt, |_| ());
    assert_eq!(first(&prompt, |rules| rules.presence_penalty = 2.0), free);
    assert_eq!(first(&prompt, |rules| rules.frequency_penalty = 2.0), free);
    assert_ne!(first(&prompt, |rules| rules.repetition_penalty = 100.0), free);
}

#[test]
fn everyone_is_answered() {
    let asked: Vec<_> = (0..60)
        .map(|at| ask(&TINY, &drawn(text(&"x".repeat(1 + at)), 1 + at as u32 % 7, None)))
        .collect();
    for (at, asked) in asked.into_iter().enumerate() {
        let told = asked.expect("there is room").wait();
        assert_eq!(usage(&told), (Finish::Length, 1 + at as u32 % 7));
        assert_eq!(told.receipt().usage.prompt_tokens as usize, 1 + at);
    }
}

#[test]
fn an_answer_without_a_limit_fills_the_context() {
    let told = answer(&TINY, &Request { max_tokens: None, ..request(text(&"y".repeat(500)), 1) });
    assert_eq!(usage(&told), (Finish::Length, 512 - 500));
}

/// A request whose engine stands still in its sink, at its first piece, until it is let go.
struct Held {
    call: Call,
    go: SyncSender<()>,
    events: std::sync::mpsc::Receiver<Event>,
}

fn hold(model: &Local, request: &Request) -> Held {
    let (go, gate) = sync_channel::<()>(1);
    let (sender, events) = sync_channel(1024);
    let (told, first) = sync_channel(1);
    let sink = Box::new(move |event| {
        let _ = told.try_send(());
        let _ = gate.recv(); // at once, when the other end is gone
        let _ = sender.send(event);
        ControlFlow::Continue(())
    });
    let call = model.send(request, sink).expect("is taken in");
    first.recv().expect("has a first piece");
    Held { call, go, events }
}

/// The last event, and how many came.
fn last(events: std::sync::mpsc::Receiver<Event>) -> (Event, usize) {
    let all: Vec<Event> = events.into_iter().collect();
    let count = all.len();
    (all.into_iter().next_back().expect("an event"), count)
}

#[test]
fn a_dropped_call_is_over_at_the_next_step() {
    let model = small(Options { prefix_cache: false, ..Options::default() });
    let Held { call, go, events } = hold(&model, &drawn(text("Forever"), 400, Some(1)));
    drop(call);
    drop(go);
    let (end, count) = last(events);
    let Event::Done(receipt) = end else { panic!("{end:?}") };
    assert_eq!((receipt.finish, receipt.usage.completion_tokens), (Finish::Cancelled, 1));
    assert_eq!(count, 2, "the piece that was on its way, and the receipt");
    until("the blocks are free", || model.stats().counts.blocks_used == 0);
    assert_eq!((model.stats().steps, model.stats().generated_tokens), (1, 1));
}

#[test]
fn who_waits_can_be_cancelled_too() {
    let model = small(Options { running: 1, ..Options::default() });
    let Held { call, go, events } = hold(&model, &drawn(text("First"), 5, Some(1)));
    let waiting = ask(&model, &drawn(text("Second"), 5, Some(1))).expect("is taken in");
    let third = ask(&model, &drawn(text("Third"), 5, Some(1))).expect("is taken in");
    let (cancelled, waiting) = (waiting.call, waiting.events);
    drop(cancelled);
    drop(go);
    let (end, count) = last(waiting);
    let Event::Done(receipt) = end else { panic!("{end:?}") };
    assert_eq!((receipt.finish, count), (Finish::Cancelled, 1));
    assert_eq!(receipt.usage.completion_tokens, 0);
    assert!(matches!(last(events).0, Event::Done(receipt) if receipt.finish == Finish::Length));
    assert_eq!(usage(&third.wait()), (Finish::Length, 5));
    drop(call);
}

#[test]
fn a_sink_that_breaks_cancels() {
    let (sender, events) = sync_channel(1024);
    let sink = Box::new(move |event| {
        let _ = sender.send(event);
        ControlFlow::Break(())
    });
    let _call = TINY.send(&drawn(text("Break"), 400, Some(1)), sink).expect("is taken in");
    let (end, _) = last(events);
    let Event::Done(receipt) = end else { panic!("{end:?}") };
    assert_eq!((receipt.finish, receipt.usage.completion_tokens), (Finish::Cancelled, 1));
}

#[test]
fn who_is_there_when_the_model_goes_is_told() {
    let model = small(Options { running: 1, ..Options::default() });
    let Held { call, go, events } = hold(&model, &drawn(text("First"), 400, Some(1)));
    let waiting = ask(&model, &drawn(text("Second"), 400, Some(1))).expect("is taken in");
    let gone = std::thread::spawn(move || drop(model));
    drop(go);
    gone.join().expect("its thread ends");
    assert!(matches!(last(events).0, Event::Done(_)));
    assert!(matches!(waiting.wait().end, Ok(receipt) if receipt.finish == Finish::Cancelled));
    drop(call);
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let model = small(Options { running: 1, waiting: 2, ..Options::default() });
    let held = hold(&model, &drawn(text("First"), 5, Some(1)));
    let more = || ask(&model, &drawn(text("More"), 5, Some(1)));
    let waiting = [more().expect("one waits"), more().expect("two wait")];
    let fault = more().err().expect("there is no third place");
    assert!(matches!(fault.retry, Retry::After(wait) if !wait.is_zero()), "{fault:?}");
    assert_eq!(fault.blame, Blame::Us);
    drop(held.go);
    for asked in waiting {
        assert_eq!(usage(&asked.wait()), (Finish::Length, 5), "whoever has a place is served");
    }
    assert!(matches!(last(held.events).0, Event::Done(_)));
    until("places are given back", || more().is_ok_and(|asked| asked.wait().end.is_ok()));
}

/// What a request is refused with, at the door or later.
fn refusal(model: &Local, request: &Request) -> Fault {
    match ask(model, request) {
        Err(fault) => fault,
        Ok(asked) => {
            let told = asked.wait();
            assert!(told.pieces.is_empty(), "{told:?}");
            told.fault().clone()
        }
    }
}

#[test]
fn wrong_requests_are_refused() {
    let check = |request: Request, param: Option<&str>, words: &[&str]| {
        let fault = refusal(&TINY, &request);
        let callers = (Blame::Caller, Retry::Never, param.map(str::to_owned));
        assert_eq!((fault.blame, fault.retry, fault.param.clone()), callers, "{fault:?}");
        for word in words {
            assert!(fault.message.contains(word), "{word:?} is not in {fault:?}");
        }
    };
    let good = || request(text("Hello"), 4);
    let sampled = |change: fn(&mut Sampling)| {
        let mut request = good();
        change(&mut request.sampling);
        request
    };
    check(request(text(""), 4), None, &["the prompt is empty"]);
    check(request(Input::Tokens(Vec::new()), 4), None, &["the prompt is empty"]);
    check(request(text(&"a".repeat(600)), 4), None, &["600 tokens", "512"]);
    check(request(text(&"a".repeat(512)), 4), None, &["512 tokens"]);
    check(request(text(&"a".repeat(1 << 20)), 4), None, &["1048576 bytes", "512 tokens"]);
    check(request(Input::Tokens(vec![5, 259, 5]), 4), None, &["token 259", "vocabulary"]);
    check(request(Input::Tokens(vec![Token::MAX]), 4), None, &["4294967295"]);
    check(
        request(chat("Hello"), 4),
        None,
        &["without a chat template", "--raw", "/v1/completions"],
    );
    check(request(text("Hello"), 0), Some("max_tokens"), &["max_tokens is 0"]);
    check(sampled(|s| s.temperature = -1.0), Some("temperature"), &["-1", "0 to 5"]);
    check(sampled(|s| s.temperature = f32::NAN), Some("temperature"), &["NaN"]);
    check(sampled(|s| s.top_p = 1.5), Some("top_p"), &["1.5"]);
    check(sampled(|s| s.min_p = -0.1), Some("min_p"), &["-0.1"]);
    check(sampled(|s| s.typical_p = 2.0), Some("typical_p"), &["2"]);
    check(sampled(|s| s.repetition_penalty = 0.0), Some("repetition_penalty"), &["0.01"]);
    check(sampled(|s| s.frequency_penalty = 3.0), Some("frequency_penalty"), &["3"]);
    check(sampled(|s| s.presence_penalty = -3.0), Some("presence_penalty"), &["-3"]);
    check(sampled(|s| s.logit_bias = vec![(259, 1.0)]), Some("logit_bias"), &["259", "258"]);
    check(sampled(|s| s.logit_bias = vec![(1, 101.0)]), Some("logit_bias"), &["101"]);
}

#[test]
fn the_most_log_probabilities_are_the_vocabulary() {
    let told = answer(&TINY, &Request { logprobs: Some(255), ..request(text("All"), 2) });
    assert_eq!(told.scores().map(|score| score.top.len()).collect::<Vec<_>>(), [255, 255]);
    assert_eq!(answer(&TINY, &request(text("None"), 2)).scores().count(), 0);
}

#[test]
fn a_base_model_says_how_to_ask_it() {
    let Some(path) = fetched("gemma3") else { return };
    let model = open(&path, &Options { kv_bytes: Some(16 << 20), ..Options::default() });
    assert!(!model.chats());
    let fault = refusal(&model, &request(chat("Hello"), 4));
    assert!(fault.message.contains("without a chat template"), "{fault:?}");
    assert!(fault.message.contains("ingle run --raw"), "{fault:?}");
    let told = answer(&model, &request(text("one two three four five six"), 4));
    assert_eq!(told.text(), " seven eight nine ten");
}
