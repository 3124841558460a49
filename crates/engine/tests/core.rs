//! The loop driven by hand, one turn after another: who gets in, what a step does, and when a
//! cancelled sequence's memory is free again.

mod support;

use ingle_engine::{Ending, Options};
use ingle_protocol::Retry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::jobs::{Ear, core, ending, finish, job};

fn options(running: usize, waiting: usize) -> Options {
    Options { running, waiting, step_tokens: 8, kv_bytes: Some(1 << 20), ..Options::default() }
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
