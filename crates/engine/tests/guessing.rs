//! A second model changes nothing but the time that answers take. The clock is made up: each step
//! of a model moves it on by what that model is said to cost, so that what is guessed, and what it
//! saves, is the same on every machine.

mod support;

use ingle_engine::{Local, Options, Speculation, Stats};
use ingle_protocol::{Fault, Sampling, Token};
use std::path::Path;
use std::sync::atomic::Ordering;
use support::clocked::{Asked, FIRST, Heard, Machine, SECOND, Second};
use support::{fetched, tiny};

/// Tokens of which no two in a row occur twice, so that prompt lookup finds nothing in them.
fn prompt(len: usize, salt: u32) -> Vec<Token> {
    (0..len as u32).map(|at| (at * at * 7 + at * (salt % 5 + 3) + salt) % 251).collect()
}

fn greedy(len: usize, salt: u32, new_max: usize) -> Asked {
    let rules = Sampling { temperature: 0.0, ..Sampling::default() };
    Asked { prompt: prompt(len, salt), new_max, rules, seed: 0, stop: None }
}

fn drawn(len: usize, salt: u32, new_max: usize) -> Asked {
    let rules = Sampling { temperature: 0.8, top_p: 0.95, top_k: 60, ..Sampling::default() };
    Asked { rules, seed: u64::from(salt), ..greedy(len, salt, new_max) }
}

fn penalized(len: usize, salt: u32, new_max: usize) -> Asked {
    let mut asked = drawn(len, salt, new_max);
    asked.rules.repetition_penalty = 1.1;
    asked.rules.frequency_penalty = 0.2;
    asked
}

fn options(kv_bytes: usize) -> Options {
    let speculation = Speculation::Draft;
    Options { kv_bytes: Some(kv_bytes), speculation, running: 8, ..Options::default() }
}

const PLENTY: usize = 1 << 20;

/// Answers one after another and all at once, with guesses and without: the same bits. Returns the
/// totals and how much of the time was taken.
fn check(path: &Path, second: Second<'_>, options: &Options, asked: &[Asked]) -> (Stats, f64) {
    let plain = |asked| Machine::new(path, None, options).answer(asked);
    let alone: Vec<Heard> = asked.iter().flat_map(|one| plain(std::slice::from_ref(one))).collect();
    let (mut with, mut without) =
        (Machine::new(path, Some(second), options), Machine::new(path, None, options));
    for (one, alone) in asked.iter().zip(&alone) {
        let told = with.answer(std::slice::from_ref(one));
        assert!(told[0] == *alone, "another answer: {:?} and {:?}", told[0].said(), alone.said());
        without.answer(std::slice::from_ref(one));
    }
    let time = with.micros() as f64 / without.micros() as f64;
    let crowd = with.answer(asked);
    assert!(crowd == alone, "another answer in a crowd");
    (with.core.stats(), time)
}

fn second(path: &Path) -> Second<'_> {
    Second { path, cost: SECOND, kv_bytes: PLENTY }
}

#[test]
fn a_model_that_guesses_for_itself_is_always_right() {
    let path = tiny("qwen3");
    let asked: Vec<Asked> =
        (0..4).flat_map(|at| [greedy(20 + at as usize, at, 60), drawn(9, at, 60)]).collect();
    let (stats, time) = check(&path, second(&path), &options(PLENTY), &asked);
    assert!(stats.drafted_by_model > 300, "{stats:?}");
    // At first it may have read only a few tokens.
    let wrong = stats.drafted_by_model - stats.accepted_by_model;
    assert!(wrong * 20 < stats.drafted_by_model, "greedy or drawn, {stats:?}");
    assert!(time < 0.6, "{time}");
}

#[test]
fn answers_are_the_same_to_the_last_bit_whoever_guesses() {
    for name in ["qwen2", "gemma3", "llama-rope-scaled"] {
        let asked = [greedy(20, 1, 80), drawn(30, 2, 80), penalized(25, 3, 80), drawn(1, 4, 40)];
        let guesses = tiny(name);
        let (stats, _) = check(&tiny("qwen3"), second(&guesses), &options(PLENTY), &asked);
        assert!(stats.draft_steps > 0, "{name}: {stats:?}");
    }
}

#[test]
fn penalties_and_stops_are_those_of_plain_decoding() {
    let path = tiny("qwen3");
    let whole = Machine::new(&path, None, &options(PLENTY)).answer(&[drawn(12, 9, 60)]);
    let said = whole[0].said();
    let mut asked: Vec<Asked> =
        (5..40).step_by(5).map(|at| Asked { stop: Some(said[at]), ..drawn(12, 9, 60) }).collect();
    asked.extend((1..9).map(|salt| penalized(10, salt, 3 + 7 * salt as usize)));
    let (stats, _) = check(&path, second(&path), &options(PLENTY), &asked);
    assert!(stats.accepted_by_model > 100, "{stats:?}");
}

/// Windows that end again and again, in a memory that does not hold one for everyone.
#[test]
fn little_memory_changes_nothing() {
    let path = tiny("qwen3");
    let kv_token_bytes = 2 * 2 * 2 * 32 * 2; // layers, heads, keys and values, dims, halves
    let asked: Vec<Asked> = (0..6).map(|at| drawn(30, at, 150)).collect();
    for (blocks, least) in [(2, 0), (6, 0), (14, 20)] {
        let kv_bytes = blocks * 16 * kv_token_bytes;
        let (stats, _) =
            check(&path, Second { kv_bytes, ..second(&path) }, &options(PLENTY), &asked);
        assert!(stats.draft_blocks.1 <= blocks, "{stats:?}");
        assert!(stats.draft_steps > 0 && stats.accepted_by_model >= least, "{stats:?}");
        // The first model's memory holds two of them.
        let tight = Options { prefix_cache: false, ..options(24 * 16 * kv_token_bytes) };
        let (stats, _) = check(&path, Second { kv_bytes, ..second(&path) }, &tight, &asked);
        assert!(stats.counts.preemptions > 0, "{stats:?}");
        assert!(stats.draft_steps > 0 && stats.accepted_by_model >= least, "{stats:?}");
    }
}

#[test]
fn who_is_cancelled_is_forgotten() {
    let path = tiny("qwen3");
    let mut machine = Machine::new(&path, Some(second(&path)), &options(PLENTY));
    for turns in 5..60 {
        let asked = drawn(20, turns, 500);
        let submitted = [&asked, &asked].map(|asked| asked.submit(&mut machine.core));
        for _ in 0..turns {
            machine.turn();
        }
        for (heard, cancelled) in submitted {
            let others = machine.core.stats().counts.running;
            cancelled.store(true, Ordering::Release);
            assert!(others > 0);
            machine.turn();
            drop(heard);
        }
        machine.finish();
        assert_eq!(machine.core.stats().counts.blocks_used, 0);
    }
    assert!(machine.core.stats().accepted_by_model > 100, "{:?}", machine.core.stats());
}

/// What is never right, or costs as much as it saves, is left after a few tries.
#[test]
fn where_guesses_do_not_pay_hardly_any_time_is_lost() {
    let (path, other) = (tiny("qwen3"), tiny("gemma3"));
    let useless = Second { path: &other, ..second(&path) };
    let dear = Second { cost: FIRST, ..second(&path) };
    for second in [useless, dear] {
        for (count, new_max) in [(4, 220), (30, 25)] {
            let asked: Vec<Asked> = (0..count).map(|at| drawn(20, at, new_max)).collect();
            let (stats, time) = check(&path, second, &options(PLENTY), &asked);
            assert!(time < 1.03, "{time}, {stats:?}");
        }
    }
}

#[test]
fn where_nobody_tells_the_time_nothing_is_guessed() {
    let path = tiny("qwen3");
    let mut machine = Machine::new(&path, Some(second(&path)), &options(PLENTY));
    let (heard, _) = greedy(20, 1, 30).submit(&mut machine.core);
    while !machine.core.idle() {
        machine.core.turn();
    }
    assert_eq!(heard.lock().expect("whole").tokens.len(), 30);
    assert_eq!(machine.core.stats().draft_steps, 0);
}

/// A prompt that stands beside an answer is not held up by guesses for it.
#[test]
fn nothing_is_guessed_while_a_prompt_is_read() {
    let path = tiny("qwen3");
    let options = Options { prefill_tokens: Some(4), ..options(PLENTY) };
    let mut machine = Machine::new(&path, Some(second(&path)), &options);
    let (_, answer) = drawn(20, 1, 200).submit(&mut machine.core);
    for _ in 0..60 {
        machine.turn();
    }
    assert!(machine.core.stats().draft_steps > 5);
    while machine.core.stats().prompt_tokens == 20 {
        let _ = drawn(80, 2, 2).submit(&mut machine.core);
        machine.turn();
    }
    let before = machine.core.stats();
    while machine.core.stats().prompt_tokens < 90 {
        machine.turn();
    }
    assert_eq!(machine.core.stats().draft_steps, before.draft_steps);
    answer.store(true, Ordering::Release);
    machine.finish();
}

#[test]
fn a_real_model_guesses_for_itself() {
    let Some(path) = fetched("smollm2") else { return };
    let options = options(64 << 20);
    let second = Second { kv_bytes: 16 << 20, ..second(&path) };
    let text: Vec<Token> = (0..24).map(|at| 700 + at * 37).collect();
    let mut warm = greedy(1, 1, 40);
    warm.prompt = text.clone();
    let mut cool = drawn(1, 2, 40);
    cool.prompt = text;
    let (stats, time) = check(&path, second, &options, &[warm, cool]);
    assert!(stats.accepted_by_model > 40, "{stats:?}");
    assert!(stats.accepted_by_model * 10 > stats.drafted_by_model * 9, "{stats:?}");
    assert!(time < 0.8, "{time}");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let refused = |path: &Path, options: Options| -> Fault {
        match Local::open("a-model", path, &options, &mut |_| {}) {
            Ok(_) => panic!("opened with {options:?}"),
            Err(fault) => fault,
        }
    };
    let check = |options: Options, words: &[&str]| {
        let fault = refused(&tiny("qwen3"), options);
        assert!(words.iter().all(|word| fault.message.contains(word)), "{fault:?}");
    };
    let with = |draft: Option<&Path>, speculation| Options {
        draft: draft.map(Into::into),
        speculation,
        ..options(PLENTY)
    };
    let other = tiny("qwen2");
    check(with(None, Speculation::Draft), &["--draft-model"]);
    check(with(Some(&other), Speculation::Lookup), &["no use", "--speculation draft"]);
    check(with(Some(Path::new("nowhere.gguf")), Speculation::Draft), &["draft model", "nowhere"]);
    let little = Options { kv_bytes: Some(64 << 10), ..with(Some(&other), Speculation::Draft) };
    check(little, &["an eighth", "--kv-mb"]);
    if let Some(path) = fetched("smollm2") {
        let words = ["another vocabulary", "token 0 is \"<|endoftext|>\" to it"];
        check(with(Some(&path), Speculation::Draft), &words);
    }
    let local =
        Local::open("a", &tiny("qwen3"), &with(Some(&other), Speculation::Draft), &mut |_| {});
    assert!(local.is_ok(), "both have bytes for tokens");
}
