//! Many at once: what a long prompt does to a running answer, how two owners share a model, and
//! what becomes of those who have little time. Steps and tokens are counted, and time is made up,
//! so that nothing here depends on the machine.

mod support;

use ingle_engine::{Core, Ending, Local, Options, Rank, Speculation};
use ingle_protocol::{Blame, Fault, Request, Retry};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::jobs::{Heard, core, ending, finish, job};
use support::{ask, open, request, text, tiny};

const US: Duration = Duration::from_micros(1);

fn options() -> Options {
    Options {
        step_tokens: 128,
        kv_bytes: Some(4 << 20),
        speculation: Speculation::None,
        ..Options::default()
    }
}

/// A core on a machine of which one knows how long everything takes.
struct Machine {
    core: Core,
    now: Instant,
}

/// What happened in a step.
struct Told {
    /// Tokens of prompts computed in it.
    prompts: u64,
    took: Duration,
}

impl Machine {
    fn new(options: &Options) -> Self {
        let (mut core, now) = (core(options), Instant::now());
        core.set_time(now);
        Self { core, now }
    }

    /// Ten milliseconds for whatever is computed, and half of one more for a prompt's token, at
    /// first: each costs more the more came before it.
    fn step(&mut self) -> Told {
        let before = self.core.stats().prompt_tokens;
        self.core.turn();
        let prompts = self.core.stats().prompt_tokens - before;
        let took = 10_000 * US + (500 + before as u32) * prompts as u32 * US;
        self.now += took;
        self.core.set_time(self.now);
        self.core.turn();
        Told { prompts, took }
    }

    fn submit(&mut self, prompt: usize, new_max: usize, rank: Rank) -> Arc<Mutex<Heard>> {
        let (mut job, heard, _) = job(prompt, new_max);
        job.rank = rank;
        self.core.submit(job);
        heard
    }

    /// The same with so much time.
    fn within(&mut self, time: Duration, prompt: usize, new_max: usize) -> Arc<Mutex<Heard>> {
        let (mut job, heard, _) = job(prompt, new_max);
        job.deadline = Some(self.now + time);
        self.core.submit(job);
        heard
    }
}

fn tokens(heard: &Mutex<Heard>) -> usize {
    heard.lock().expect("whole").tokens.len()
}

/// A running answer gets a token in every step while a long prompt is computed beside it.
fn beside(options: &Options, length: usize) -> Vec<Told> {
    let mut machine = Machine::new(options);
    let chat = machine.submit(16, 200, Rank::default());
    for _ in 0..20 {
        machine.step();
    }
    let prompt = machine.submit(length, 2, Rank::default());
    let mut steps = Vec::new();
    while tokens(&prompt) == 0 {
        let before = tokens(&chat);
        steps.push(machine.step());
        assert_eq!(tokens(&chat), before + 1, "a token in every step");
    }
    assert_eq!(steps.iter().map(|told| told.prompts).sum::<u64>(), length as u64);
    steps
}

#[test]
fn a_long_prompt_is_computed_in_pieces_of_the_size_allowed() {
    for most in [1, 8, 60] {
        let steps = beside(&Options { prefill_tokens: Some(most), ..options() }, 170);
        assert_eq!(steps.len(), 170usize.div_ceil(most));
        assert!(steps.iter().all(|told| told.prompts <= most as u64));
    }
}

/// Left to itself, the engine finds the size by which no gap between two tokens is longer than
/// three times the usual one.
#[test]
fn a_long_prompt_leaves_no_long_gap() {
    let steps = beside(&options(), 240);
    let longest = steps.iter().map(|told| told.took).max().expect("steps");
    assert!(longest <= 3 * 10_000 * US, "{longest:?}");
    let sized = steps.iter().filter(|told| told.took > 17_000 * US).count();
    assert!(sized * 10 > steps.len() * 8, "{sized} of {} pieces are of a good size", steps.len());
}

/// How many steps it takes, and the longest of them, until so many prompts of so many tokens each
/// were computed beside a running answer.
fn arrive(prompts: usize, length: usize) -> (usize, Duration) {
    let mut machine = Machine::new(&options());
    machine.submit(16, 200, Rank::default());
    for _ in 0..20 {
        machine.step();
    }
    let all: Vec<_> = (0..prompts).map(|_| machine.submit(length, 1, Rank::default())).collect();
    let mut steps = Vec::new();
    while all.iter().any(|heard| ending(heard).is_none()) {
        steps.push(machine.step().took);
    }
    (steps.len(), steps.into_iter().max().expect("steps"))
}

/// As many tokens come in sooner where more prompts wait for them, and no gap is longer than what
/// the prompts' parts of a step allow.
#[test]
fn each_waiting_prompt_has_a_part_of_the_steps() {
    let (one, several, many) = (arrive(1, 240), arrive(3, 80), arrive(8, 30));
    assert!(several.0 < one.0 && many.0 <= several.0, "{one:?}, {several:?}, {many:?}");
    assert!(one.1 <= 3 * 10_000 * US && many.1 <= 6 * 10_000 * US, "{one:?}, {many:?}");
}

/// One owner asks for much, long before another asks for little: from then on both get the same.
#[test]
fn two_owners_share_alike() {
    let mut machine = Machine::new(&Options { running: 2, ..options() });
    let rank = |owner| Rank { priority: 0, owner };
    let first: Vec<_> = (0..30).map(|_| machine.submit(20, 20, rank(0))).collect();
    for _ in 0..100 {
        machine.step();
    }
    let sum = |all: &[Arc<Mutex<Heard>>]| all.iter().map(|heard| tokens(heard)).sum::<usize>();
    let before = sum(&first);
    let second: Vec<_> = (0..60).map(|_| machine.submit(10, 10, rank(1))).collect();
    for _ in 0..200 {
        machine.step();
    }
    let had = [sum(&first) - before, sum(&second)];
    assert!(had[0].abs_diff(had[1]) <= 40, "{had:?}");
    assert!(had[0] + had[1] > 300, "{had:?}");
    assert!(second.iter().any(|heard| ending(heard).is_none()), "both still want more");
}

#[test]
fn the_urgent_overtake_those_who_wait_and_stop_nobody() {
    let mut machine = Machine::new(&Options { running: 1, ..options() });
    let rank = |priority| Rank { priority, owner: 0 };
    let running = machine.submit(4, 5, rank(5));
    machine.step();
    let usual = machine.submit(4, 1, rank(0));
    let urgent = machine.submit(4, 1, rank(-7));
    let order = |machine: &mut Machine| {
        machine.step();
        [&running, &usual, &urgent].map(|heard| ending(heard).is_some())
    };
    while !order(&mut machine)[0] {
        assert_eq!(tokens(&usual) + tokens(&urgent), 0, "who runs goes on");
    }
    assert_eq!(order(&mut machine), [true, false, true]);
    assert_eq!(order(&mut machine), [true, true, true]);
}

fn check_late(fault: &Fault, says: &str) {
    assert!(fault.message.contains(says), "{fault}");
    assert_eq!(fault.param.as_deref(), Some("timeout_ms"));
    assert!(matches!((fault.blame, fault.retry), (Blame::Caller, Retry::After(_))), "{fault:?}");
}

/// A prompt's token takes a millisecond and more here. Who has less than what stands before its
/// first token is refused at once; who has a little more is taken in.
#[test]
fn a_deadline_that_cannot_be_met_is_refused_at_once() {
    let mut machine = Machine::new(&options());
    let early = machine.within(US, 100, 5);
    assert_eq!(ending(&early), None, "nothing is known of its pace yet");
    for _ in 0..2 {
        machine.step();
    }
    assert_eq!(ending(&early), Some(Ending::Expired));
    machine.submit(20, 1, Rank::default());
    finish(&mut machine.core);
    let steps = machine.core.stats().steps;
    let refused = machine.within(20_000 * US, 100, 5);
    let Some(Ending::Refused(fault)) = ending(&refused) else { panic!("it was taken in") };
    check_late(&fault, "100 tokens of prompts");
    let taken = machine.within(500_000 * US, 100, 5);
    let behind = machine.within(50_000 * US, 50, 5);
    let Some(Ending::Refused(fault)) = ending(&behind) else { panic!("it was taken in") };
    check_late(&fault, "150 tokens of prompts");
    while !machine.core.idle() {
        machine.step();
    }
    assert_eq!(ending(&taken), Some(Ending::Full));
    assert_eq!(machine.core.stats().late, 3);
    assert!(machine.core.stats().steps <= steps + 6, "the refused were not computed");
}

#[test]
fn what_is_not_complete_at_its_deadline_is_ended() {
    let mut machine = Machine::new(&options());
    let heard = machine.within(100_000 * US, 4, 100);
    while ending(&heard).is_none() {
        machine.step();
    }
    assert_eq!(ending(&heard), Some(Ending::Expired));
    assert!((5..=10).contains(&tokens(&heard)), "{} tokens in time", tokens(&heard));
    assert!(machine.core.idle());
    assert_eq!(machine.core.stats().counts.blocks_used, 0);
}

/// The whole way: an answer cut off by its time is an error that says so, and the next one is fine.
#[test]
fn a_request_that_is_out_of_time_fails_by_name() {
    let options = Options { threads: Some(1), kv_bytes: Some(16 << 20), ..Options::default() };
    let model: Local = open(&tiny("qwen2"), &options);
    let hasty = Request { timeout_ms: Some(1), max_tokens: None, ..request(text("All"), 1) };
    let told = ask(&model, &hasty).expect("is taken in").wait();
    check_late(told.fault(), "allow more");
    let patient = Request { timeout_ms: Some(u32::MAX), ..request(text("All"), 3) };
    let told = ask(&model, &patient).expect("is taken in").wait();
    assert_eq!(told.receipt().usage.completion_tokens, 3);
}
