//! What is told of prompts, and what is made of them before they are computed: log-probabilities of
//! their tokens, their ids, prompts that are cut, gaps, and prompts that several requests share.

mod support;

use ingle_engine::{Ending, Local, Options};
use ingle_model::gguf::{Gguf, Outline, Planned, TensorInfo, Value, Writer};
use ingle_protocol::{
    Finish, Gap, Input, PromptToken, Request, Sampling, Token, TokenScore, Truncation,
};
use std::path::PathBuf;
use std::sync::LazyLock;
use support::jobs::{core, ending, finish, job};
use support::{Told, answer, ask, cases, fetched, open, request, text, tiny};

static TINY: LazyLock<Local> = LazyLock::new(|| small(&Options::default()));

fn small(options: &Options) -> Local {
    let (threads, kv_bytes) = (Some(1), options.kv_bytes.or(Some(16 << 20)));
    open(&tiny("qwen3"), &Options { threads, kv_bytes, ..options.clone() })
}

fn scored(input: Input, top: u8, tokens: u32) -> Request {
    Request { prompt_logprobs: Some(top), logprobs: Some(2), ..request(input, tokens) }
}

fn ids(count: Token) -> Input {
    Input::Tokens((0..count).map(|at| at * 7 % 256).collect())
}

/// The bits of a log-probability, the rank, and the likeliest tokens with theirs.
type Bits = (u32, u32, Vec<(Token, u32)>);

/// A prompt's tokens and, of each, the bits of all that is told.
fn bits(told: &Told) -> Vec<(Token, Option<Bits>)> {
    let one = |token: &PromptToken| {
        let score = token.score.as_ref().map(|score| {
            let top = score.top.iter().map(|one| (one.token, one.logprob.to_bits())).collect();
            (score.logprob.to_bits(), score.rank, top)
        });
        (token.token, score)
    };
    told.prompt.iter().map(one).collect()
}

fn said(told: &Told) -> Vec<&TokenScore> {
    told.scores().collect()
}

/// The same as `ingle score` finds, which is held to golden log-probabilities, and near those.
#[test]
fn a_prompts_log_probabilities_are_those_that_scoring_finds() {
    let Some(path) = fetched("smollm2") else { return };
    let model = open(&path, &Options { kv_bytes: Some(64 << 20), ..Options::default() });
    let gold = include_str!("fixtures/smollm2-135m.gold.json");
    for case in cases(gold).into_iter().take(2) {
        let told = answer(&model, &scored(Input::Tokens(case.ids.clone()), 3, 1));
        assert_eq!(told.prompt.len(), case.ids.len());
        assert!(told.prompt[0].score.is_none(), "nothing stands before it");
        let wanted = case.ids[1..].iter().map(|id| vec![*id]).collect();
        let reference = model.score(&case.ids, wanted).expect("scores");
        for (at, (one, expect)) in told.prompt[1..].iter().zip(&reference).enumerate() {
            let score = one.score.as_ref().expect("is scored");
            assert_eq!(one.token, case.ids[at + 1]);
            let apart = (f64::from(score.logprob) - expect.logprobs[0]).abs();
            assert!(apart < 1e-5 * expect.logprobs[0].abs().max(1.0), "{at}: {apart}");
            assert_eq!(score.top.len(), 3);
            assert_eq!(score.top[0].token, expect.best);
            assert_eq!(score.rank == 1, one.token == expect.best, "{score:?}");
            let (best, top) = (case.gold[at].top[0], &score.top[0]);
            let apart = (f64::from(top.logprob) - best.1).abs();
            assert!(top.token != best.0 || apart < 0.05, "{at}: far from gold, {apart}");
        }
    }
}

#[test]
fn to_be_told_of_a_prompt_changes_no_answer() {
    let plain = Request { logprobs: Some(2), ..request(ids(75), 9) };
    let expect = answer(&TINY, &plain);
    assert!(expect.prompt.is_empty());
    for top in [0, 1, 20] {
        let told = answer(&TINY, &Request { prompt_logprobs: Some(top), ..plain.clone() });
        assert_eq!(said(&told), said(&expect));
        assert_eq!(told.receipt().usage.cached_tokens, 0, "what is cached has no logits");
        let tops = told.prompt[1..].iter().map(|one| one.score.as_ref().expect("scored").top.len());
        assert!(tops.collect::<Vec<_>>() == vec![usize::from(top); 74]);
    }
}

/// Alone, among others, in chunks, and after making room for others: the same bits.
#[test]
fn a_prompts_scores_do_not_depend_on_others() {
    let asked = scored(ids(70), 4, 24);
    let alone = answer(&TINY, &asked);
    let block = 8192;
    let models = [
        small(&Options { step_tokens: 7, ..Options::default() }),
        small(&Options { kv_bytes: Some(block * 12), context: Some(128), ..Options::default() }),
    ];
    for (at, model) in models.iter().enumerate() {
        let crowd: Vec<Request> = (1..6).map(|n| scored(ids(9 * n), 2, 40)).collect();
        let mut others: Vec<_> = crowd.iter().map(|one| ask(model, one).expect("in")).collect();
        let own = ask(model, &asked).expect("is taken in");
        others.extend(crowd.iter().map(|one| ask(model, one).expect("in")));
        let told = own.wait();
        assert_eq!((bits(&told), said(&told)), (bits(&alone), said(&alone)), "{at}");
        for (other, request) in others.into_iter().zip(crowd.iter().chain(&crowd)) {
            assert_eq!(bits(&other.wait()), bits(&answer(&TINY, request)), "{at}");
        }
    }
    assert!(models[1].stats().counts.preemptions > 0, "{:?}", models[1].stats());
}

/// As many rows at once as may be answered at once: a step of such a prompt is short.
#[test]
fn few_rows_of_logits_are_there_at_once() {
    let check = |running: usize, prompts: &[usize], steps: u64| {
        let options = Options { running, kv_bytes: Some(1 << 20), ..Options::default() };
        let mut core = core(&options);
        let heard: Vec<_> = prompts
            .iter()
            .map(|&prompt| {
                let (mut scored, heard, _) = job(prompt, 1);
                scored.scores = true;
                core.submit(scored);
                (heard, prompt)
            })
            .collect();
        finish(&mut core);
        for (heard, prompt) in heard {
            assert_eq!(ending(&heard), Some(Ending::Full));
            let heard = heard.lock().expect("whole");
            assert_eq!(heard.positions, (1..prompt).collect::<Vec<_>>());
            assert_eq!(heard.tokens.len(), 1);
        }
        assert_eq!(core.stats().steps, steps, "{running} {prompts:?}");
    };
    check(4, &[33], 3);
    check(20, &[40], 2);
    check(4, &[8, 8], 1);
    check(4, &[16, 8], 2);
}

#[test]
fn a_prompt_can_be_told_of_alone() {
    let told = answer(&TINY, &scored(ids(40), 1, 0));
    let whole = answer(&TINY, &scored(ids(40), 1, 3));
    assert_eq!(bits(&told), bits(&whole));
    assert!(told.text().is_empty() && told.tokens().is_empty());
    let receipt = told.receipt();
    assert_eq!((receipt.finish, receipt.usage.completion_tokens), (Finish::Length, 0));
    let one = answer(&TINY, &scored(ids(1), 1, 0));
    assert_eq!(bits(&one), [(0, None)]);
    let none = TINY.send(&request(ids(3), 0), Box::new(|_| panic!("refused")));
    assert!(none.expect_err("no answer and no prompt").message.contains("max_tokens is 0"));
}

#[test]
fn ids_are_told_of_prompts_and_answers() {
    let asked = Request { token_ids: true, logprobs: Some(0), ..request(text("Ids é"), 30) };
    let told = answer(&TINY, &asked);
    let prompt: Vec<Token> = told.prompt.iter().map(|one| one.token).collect();
    assert_eq!(prompt, TINY.prompt(&asked.input).expect("is encoded"));
    assert!(told.prompt.iter().all(|one| one.score.is_none()));
    let ids: Vec<Token> = told.pieces.iter().flat_map(|piece| piece.tokens.clone()).collect();
    assert_eq!((&ids, ids.len()), (&told.tokens(), 30));
    let bytes: Vec<u8> = told.prompt.iter().flat_map(|one| one.bytes.clone()).collect();
    assert_eq!(String::from_utf8(bytes).expect("the text"), "Ids é");
    let quiet = answer(&TINY, &Request { token_ids: false, ..asked });
    assert!(quiet.prompt.is_empty() && quiet.pieces.iter().all(|piece| piece.tokens.is_empty()));
}

#[test]
fn a_cut_prompt_is_its_end() {
    let whole = Request { logprobs: Some(3), ..request(ids(60), 8) };
    let cut = Request { truncation: Some(Truncation::Last(20)), ..whole.clone() };
    let Input::Tokens(all) = &whole.input else { unreachable!() };
    let end = Request { input: Input::Tokens(all[40..].to_vec()), ..whole.clone() };
    let told = answer(&TINY, &cut);
    assert_eq!(said(&told), said(&answer(&TINY, &end)));
    assert_eq!(told.receipt().usage.prompt_tokens, 20);
    let notes = &told.receipt().notes;
    assert!(notes.len() == 1 && notes[0].contains("last 20 of 60 tokens"), "{notes:?}");
    let fits = Request { truncation: Some(Truncation::Last(60)), ..whole };
    assert!(answer(&TINY, &fits).receipt().notes.is_empty(), "nothing was cut");
    let long = Request { truncation: Some(Truncation::Fitting), ..request(ids(900), 12) };
    assert_eq!(answer(&TINY, &long).receipt().usage.prompt_tokens, 500, "512 less the answer");
}

/// `n` answers to a prompt: but for its last block it is computed once.
#[test]
fn a_prompt_of_several_answers_is_computed_once() {
    let mut core = core(&Options { kv_bytes: Some(1 << 20), ..Options::default() });
    let heard: Vec<_> = (0..4)
        .map(|_| {
            let (mut one, heard, _) = job(40, 3);
            one.salt = Some(String::new());
            core.submit(one);
            heard
        })
        .collect();
    finish(&mut core);
    assert!(heard.iter().all(|heard| ending(heard) == Some(Ending::Full)));
    let stats = core.stats();
    assert_eq!((stats.prompt_tokens, stats.cached_tokens), (40 + 3 * 8, 3 * 32));
}

/// The tiny model, whose file tells of three of its bytes that they mark gaps.
fn gapped() -> (PathBuf, Local) {
    let file = Gguf::open(&tiny("qwen3")).expect("a sound file");
    let mut outline = Outline::like(&file);
    for (name, id) in [("fim_pre", 1), ("fim_suf", 2), ("fim_mid", 3)] {
        outline.set(&format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
    }
    let planned = |info: &TensorInfo| Planned {
        name: info.name.clone(),
        shape: info.shape.clone(),
        format: info.format.expect("one that is known"),
    };
    file.tensors().iter().for_each(|info| outline.push(planned(info)));
    let mut writer = Writer::begin(&outline, Vec::new(), |error| panic!("{error}")).expect("sound");
    for info in file.tensors() {
        let tensor = file.tensor(&info.name).expect("is there");
        writer.weights(&tensor.bytes).expect("memory");
    }
    let path = std::env::temp_dir().join(format!("ingle-gapped-{}.gguf", std::process::id()));
    std::fs::write(&path, writer.finish()).expect("a temporary file");
    let model = open(&path, &Options { kv_bytes: Some(1 << 20), ..Options::default() });
    (path, model)
}

#[test]
fn a_gap_is_asked_for_by_its_marks() {
    let (path, model) = gapped();
    let gap = Gap { prefix: "ab".into(), suffix: "yz".into(), begun: "c".into() };
    let asked = Request { token_ids: true, ..request(Input::Gap(gap.clone()), 5) };
    let told = answer(&model, &asked);
    std::fs::remove_file(path).expect("is there");
    let prompt: Vec<Token> = told.prompt.iter().map(|one| one.token).collect();
    let spelt = |text: &str| model.prompt(&support::text(text)).expect("is encoded");
    assert_eq!(prompt, [vec![1], spelt("ab"), vec![2], spelt("yz"), vec![3], spelt("c")].concat());
    let same = answer(&model, &Request { input: Input::Tokens(prompt), ..asked.clone() });
    assert_eq!(told.text(), same.text());
    let refused = TINY.send(&asked, Box::new(|_| panic!("refused")));
    let message = refused.expect_err("it knows no gaps").message;
    assert!(message.contains("no tokens for filling in the middle"), "{message}");
}

#[test]
fn a_text_is_biased_by_its_tokens() {
    let biased = |bias: f32| {
        let mut asked = Request { logprobs: Some(0), ..request(text("Bias"), 20) };
        asked.sampling = Sampling { seed: Some(3), ignore_eos: true, ..Sampling::default() };
        asked.sampling.text_bias = vec![("M".into(), bias)];
        answer(&TINY, &asked).tokens()
    };
    let m = TINY.prompt(&text("M")).expect("is encoded");
    assert_eq!(biased(100.0), vec![m[0]; 20]);
    let free = biased(0.0);
    assert!(!biased(f32::NEG_INFINITY).contains(&m[0]));
    assert_eq!(free, biased(0.0));
}
