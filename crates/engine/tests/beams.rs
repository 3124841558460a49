//! Beam search on models, against a plain search that computes every sequence from its beginning.

mod support;

use ingle_engine::{Local, Options};
use ingle_protocol::{Beams, Finish, Grammar, Input, Request, Sampling, Token};
use std::sync::LazyLock;
use support::{answer, ask, fetched, open, request, text, tiny, until};

static TINY: LazyLock<Local> = LazyLock::new(|| small(&Options::default()));

fn small(options: &Options) -> Local {
    let (threads, kv_bytes) = (Some(1), options.kv_bytes.or(Some(16 << 20)));
    open(&tiny("qwen3"), &Options { threads, kv_bytes, ..options.clone() })
}

fn search(input: Input, tokens: u32, width: u8, length_penalty: f32) -> Request {
    let beams = Some(Beams { width, length_penalty, early_stopping: false });
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    Request { beams, sampling, ..request(input, tokens) }
}

/// The log-probabilities after a sequence, of all tokens, likeliest first.
fn after(model: &Local, ids: &[Token]) -> Vec<(Token, f64)> {
    let all: Vec<Token> = (0..model.info().vocabulary as Token).collect();
    let mut wanted = vec![Vec::new(); ids.len()];
    wanted[ids.len() - 1].clone_from(&all);
    let scored = model.score(ids, wanted).expect("is scored");
    let mut next: Vec<(Token, f64)> =
        all.into_iter().zip(scored[ids.len() - 1].logprobs.iter().copied()).collect();
    next.sort_by(|a, b| b.1.total_cmp(&a.1));
    next
}

/// Every sequence from its beginning, to the last token.
fn plain(model: &Local, request: &Request) -> Vec<(Vec<Token>, f64, Finish)> {
    let Beams { width, length_penalty, .. } = request.beams.expect("a search");
    let prompt = model.prompt(&request.input).expect("is encoded");
    let width = usize::from(width);
    let score = |one: &(Vec<Token>, f64, Finish)| {
        one.1 / ((prompt.len() + one.0.len()) as f64).powf(f64::from(length_penalty))
    };
    let best = |mut all: Vec<(Vec<Token>, f64, Finish)>| {
        all.sort_by(|a, b| score(b).total_cmp(&score(a)));
        all.truncate(width);
        all
    };
    let (mut live, mut ended) = (vec![(Vec::new(), 0.0, Finish::Length)], Vec::new());
    for _ in 0..request.max_tokens.expect("a limit") {
        let mut grown = Vec::new();
        for (tokens, sum, _) in &live {
            let ids = [&prompt[..], tokens].concat();
            for (token, logprob) in after(model, &ids).into_iter().take(2 * width) {
                if model.tokenizer().is_end(token) && !request.sampling.ignore_eos {
                    ended.push((tokens.clone(), sum + logprob, Finish::Stop));
                } else {
                    let tokens = [&tokens[..], &[token]].concat();
                    grown.push((tokens, sum + logprob, Finish::Length));
                }
            }
        }
        live = best(grown);
    }
    best(ended.into_iter().chain(live).collect())
}

fn check(model: &Local, request: &Request) {
    let told = answer(model, request);
    let expect = plain(model, request);
    assert_eq!(told.beams.len(), expect.len());
    for (beam, (tokens, logprob, finish)) in told.beams.iter().zip(&expect) {
        assert_eq!((&beam.tokens, beam.finish), (tokens, *finish), "{request:?}");
        assert!((beam.logprob - logprob).abs() < 1e-3, "{beam:?}: {logprob}");
        assert_eq!(beam.text, model.tokenizer().decode(tokens));
    }
    let receipt = told.receipt();
    let tokens: usize = told.beams.iter().map(|beam| beam.tokens.len()).sum();
    assert_eq!(receipt.usage.completion_tokens as usize, tokens);
    assert_eq!(receipt.finish, told.beams[0].finish);
}

#[test]
fn a_search_finds_what_a_plain_one_finds() {
    for (width, penalty) in [(1, 1.0), (2, 1.0), (4, 0.0), (3, -1.5)] {
        check(&TINY, &search(text("Search for it"), 6, width, penalty));
    }
    // Across the edges of blocks of the cache.
    let long = Input::Tokens((0..29).map(|at| at * 5 % 256).collect());
    check(&TINY, &search(long, 8, 3, 1.0));
}

#[test]
fn a_real_model_is_searched() {
    let Some(path) = fetched("smollm2") else { return };
    let model = open(&path, &Options { kv_bytes: Some(64 << 20), ..Options::default() });
    check(&model, &search(text("The capital of France is"), 4, 3, 1.0));
    let greedy = answer(&model, &request(text("The sky is"), 8)).text();
    let narrow = Request {
        sampling: request(text(""), 1).sampling,
        ..search(text("The sky is"), 8, 1, 1.0)
    };
    assert_eq!(answer(&model, &narrow).beams[0].text, greedy, "one beam is the greedy answer");
}

/// Two searches among answers, without a cache of prefixes, and with little memory.
#[test]
fn a_search_does_not_depend_on_others() {
    let asked = search(text("Not alone"), 10, 4, 1.0);
    let expect = answer(&TINY, &asked).beams;
    let tight = Some(12 * 8192); // twelve blocks
    let models = [
        Options { step_tokens: 5, ..Options::default() },
        Options { prefix_cache: false, ..Options::default() },
        Options { kv_bytes: tight, context: Some(128), ..Options::default() },
    ];
    for (at, options) in models.iter().enumerate() {
        let model = small(options);
        let others = [request(text("Another"), 60), asked.clone(), request(text("One more"), 60)];
        let others = others.map(|other| ask(&model, &other).expect("is taken in"));
        assert_eq!(answer(&model, &asked).beams, expect, "{at}");
        others.into_iter().for_each(|other| drop(other.wait().end.expect("is answered")));
        until("the blocks are free", || model.stats().counts.blocks_used == 0);
    }
}

#[test]
fn a_search_can_be_cancelled_and_refused() {
    let asked = ask(&TINY, &search(text("Forever"), 400, 4, 1.0)).expect("is taken in");
    let call = asked.call;
    drop(call);
    let mut last = None;
    while let Ok(event) = asked.events.recv() {
        last = Some(event);
    }
    let Some(ingle_protocol::Event::Done(receipt)) = last else { panic!("{last:?}") };
    assert_eq!(receipt.finish, Finish::Cancelled);
    until("the blocks are free", || TINY.stats().counts.blocks_used == 0);
    let few = small(&Options { running: 1, waiting: 2, ..Options::default() });
    let refuse = |request: &Request, words: &str| {
        let fault = few.send(request, Box::new(|_| panic!("refused"))).expect_err(words);
        assert!(fault.message.contains(words), "{fault}");
    };
    refuse(&search(text("Wide"), 4, 4, 1.0), "3 requests are under way already");
    refuse(&search(text("Wider"), 4, 17, 1.0), "more than 16");
    let plain = search(text("Plain"), 4, 2, 1.0);
    let grammar = Some(Grammar::Regex("a".into()));
    refuse(&Request { grammar, ..plain.clone() }, "'response_format' cannot be had");
    refuse(&Request { stop: vec!["x".into()], ..plain.clone() }, "'stop' cannot be had");
    let sampling = Sampling { top_k: 3, ..Sampling::default() };
    refuse(&Request { sampling, ..plain }, "rules of sampling");
}
