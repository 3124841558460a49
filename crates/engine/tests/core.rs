//! The loop driven by hand, one turn after another: who gets in, what a step does, and when a
//! cancelled sequence's memory is free again.

mod support;

use ingle_backend::cpu::Cpu;
use ingle_backend::cpu::kernels::Kernels;
use ingle_engine::sampling::Sampler;
use ingle_engine::{Core, Ending, Job, Options, Rank, Reply, Watch};
use ingle_model::{archs, gguf::Gguf};
use ingle_protocol::{Retry, Sampling, Token};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use support::tiny;

fn core(options: &Options) -> Core {
    let file = Gguf::open(&tiny("qwen3")).expect("a sound file");
    let mut cpu = Cpu::new(Kernels::best(), 1);
    let network = archs::record(&file, &mut cpu).expect("a known architecture");
    Core::new(Box::new(cpu), network, options, &mut |_| {}).expect("fits")
}

fn options(running: usize, waiting: usize) -> Options {
    Options { running, waiting, step_tokens: 8, kv_bytes: Some(1 << 20), ..Options::default() }
}

/// What a job heard.
#[derive(Default)]
struct Heard {
    tokens: Vec<Token>,
    positions: Vec<usize>,
    ending: Option<Ending>,
}

/// Writes down what it hears; stops at a token, if one is given.
struct Ear {
    heard: Arc<Mutex<Heard>>,
    stop_after: usize,
}

impl Watch for Ear {
    fn logits(&mut self, position: usize, logits: &[f32]) {
        assert!(logits.iter().all(|logit| logit.is_finite()));
        self.heard.lock().expect("whole").positions.push(position);
    }

    fn token(&mut self, token: Token, _: &[f32]) -> Reply {
        let mut heard = self.heard.lock().expect("whole");
        heard.tokens.push(token);
        if heard.tokens.len() > self.stop_after { Reply::Stop } else { Reply::Continue }
    }

    fn ended(self: Box<Self>, how: Ending) {
        let before = self.heard.lock().expect("whole").ending.replace(how);
        assert_eq!(before, None, "it ends once");
    }
}

/// A job with so many prompt tokens, what will be heard of it, and how to cancel it.
fn job(prompt: usize, new_max: usize) -> (Job, Arc<Mutex<Heard>>, Arc<AtomicBool>) {
    let (heard, cancelled) = (Arc::<Mutex<Heard>>::default(), Arc::<AtomicBool>::default());
    let rules = Sampling { temperature: 0.0, ..Sampling::default() };
    let job = Job {
        prompt: (0..prompt as Token).map(|at| at % 256).collect(),
        new_max,
        sampler: Some(Sampler::new(&rules, 0)),
        share: false,
        rank: Rank::default(),
        deadline: None,
        cancelled: Arc::clone(&cancelled),
        watch: Box::new(Ear { heard: Arc::clone(&heard), stop_after: usize::MAX }),
    };
    (job, heard, cancelled)
}

fn ending(heard: &Mutex<Heard>) -> Option<Ending> {
    heard.lock().expect("whole").ending.clone()
}

fn finish(core: &mut Core) {
    let most = 10_000;
    assert!(
        (0..most).any(|_| core.idle() || {
            core.turn();
            false
        }),
        "it never ends"
    );
}

#[test]
fn as_many_get_in_as_run_and_wait() {
    let mut core = core(&options(2, 3));
    let heard: Vec<_> = (0..6)
        .map(|at| {
            let (job, heard, _) = job(1 + at, 3);
            core.submit(job);
            heard
        })
        .collect();
    let Some(Ending::Refused(fault)) = ending(&heard[5]) else { panic!("a sixth place") };
    assert!(matches!(fault.retry, Retry::After(_)), "{fault:?}");
    finish(&mut core);
    for heard in &heard[..5] {
        assert_eq!(ending(heard), Some(Ending::Full));
        assert_eq!(heard.lock().expect("whole").tokens.len(), 3);
    }
    assert_eq!(core.stats().generated_tokens, 15);
    assert_eq!(core.stats().prompt_tokens, 1 + 2 + 3 + 4 + 5);
}

#[test]
fn a_cancelled_sequence_is_gone_after_one_step() {
    let mut core = core(&options(4, 4));
    let (first, heard, cancelled) = job(40, 100);
    core.submit(first);
    while heard.lock().expect("whole").tokens.len() < 3 {
        core.turn();
    }
    let steps = core.stats().steps;
    assert!(core.stats().counts.blocks_used > 0);
    cancelled.store(true, Ordering::Release);
    finish(&mut core);
    assert_eq!(ending(&heard), Some(Ending::Cancelled));
    assert_eq!(core.stats().counts.blocks_used, 0);
    assert!(core.stats().steps <= steps + 1, "at most the step that was under way");
    assert!(heard.lock().expect("whole").tokens.len() <= 4);
}

#[test]
fn a_sequence_stops_where_it_is_told_to() {
    let mut core = core(&options(4, 4));
    let (mut stopped, heard, _) = job(5, 100);
    stopped.watch = Box::new(Ear { heard: Arc::clone(&heard), stop_after: 6 });
    core.submit(stopped);
    finish(&mut core);
    assert_eq!(ending(&heard), Some(Ending::Stopped));
    assert_eq!(heard.lock().expect("whole").tokens.len(), 7);
}

/// Without a sampler every position's logits are reported, in order, whatever the chunks.
#[test]
fn a_prompt_can_be_scored() {
    let mut core = core(&options(4, 4));
    let (mut scored, heard, _) = job(21, 1);
    scored.sampler = None;
    core.submit(scored);
    finish(&mut core);
    let heard = heard.lock().expect("whole");
    assert_eq!(heard.positions, (1..=21).collect::<Vec<_>>());
    assert_eq!((heard.tokens.len(), heard.ending.clone()), (0, Some(Ending::Stopped)));
    assert_eq!(core.stats().steps, 3, "twenty-one tokens, eight a step");
}

#[test]
fn closing_tells_everyone() {
    let mut core = core(&options(1, 4));
    let jobs = [job(5, 50), job(5, 50)];
    let heard = jobs.map(|(job, heard, _)| {
        core.submit(job);
        heard
    });
    core.turn();
    core.close();
    assert!(heard.iter().all(|heard| ending(heard) == Some(Ending::Cancelled)));
}
