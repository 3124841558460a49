//! Random misbehaviour, by a seed: many calls at a time, cut, slow, lying and cancelled. Each ends
//! exactly once, and nothing is left over.

use std::sync::Arc;
use std::time::Duration;

use ingle_gateway::remote::{Bounds, Plan, Timeouts, Upstream};
use ingle_protocol::End;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::upstream::*;

/// A small generator (splitmix64), so that a seed tells everything.
#[derive(Clone, Copy, Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }
}

fn misbehaviour(chance: &mut Chance) -> React {
    let wait = Act::Wait(chance.below(3_000));
    match chance.below(16) {
        0 => React::Refuse,
        1 => React::Hang,
        2 => status(500, "", "{}"),
        3 => status(429, "retry-after: 1\r\n", "{}"),
        4 => status(400, "", "{}"),
        5 => React::Do(vec![wait, Act::Close]),
        6 => React::Do(vec![head(), piece("one "), wait, Act::Close]),
        7 => React::Do(vec![head(), piece("one "), part("data: {\n\n")]),
        8 => React::Do(vec![Act::Silence]),
        9 => React::Do(vec![head(), piece("one "), Act::Silence]),
        10 => raw("GARBAGE\r\n\r\n"),
        11 => React::Do(vec![head(), Act::Forever(b"5\r\n: a\n\n\r\n".to_vec())]),
        _ => React::Do(vec![wait, head(), piece("one "), finish(), end()]),
    }
}

/// How a call ended: answered, cancelled or failed; and that all that is told of it agrees.
fn end_of(seed: u64, heard: Heard) -> usize {
    let Heard { told, outcome, .. } = heard;
    let end = match outcome.end {
        End::Stop => 0,
        End::Cancelled => 1,
        End::Failed => 2,
        other => panic!("seed {seed}: {other:?}"),
    };
    assert_eq!(outcome.fault.is_some(), end == 2, "seed {seed}");
    assert_eq!(outcome.tries as usize, outcome.attempts.len(), "seed {seed}");
    assert!(end != 0 || told == "one " || told == "one two three", "seed {seed}: {told}");
    let bytes: u64 = outcome.attempts.iter().map(|one| one.bytes_out).sum();
    assert_eq!(outcome.bytes_out, bytes, "seed {seed}");
    end
}

async fn play(seed: u64) {
    let mut chance = Chance(seed);
    let stage = Arc::new(Stage::default());
    let names = ["a", "b", "c"];
    for name in names {
        stage.script(name, (0..300).map(|_| misbehaviour(&mut chance)));
    }
    let upstream = |name: &&str| Upstream {
        max_concurrent: 8,
        max_waiting: 4,
        bounds: Bounds {
            answer_bytes: 64 << 10,
            event_bytes: 16 << 10,
            error_bytes: 1 << 10,
            ..Bounds::USUAL
        },
        timeouts: Timeouts {
            connection: Duration::from_secs(1),
            per_try: Duration::from_secs(4),
            idle: Duration::from_secs(2),
        },
        hedge_after: (*name == "a").then(|| Duration::from_millis(700)),
        ..provider(name)
    };
    let remote = remote(&stage, names.iter().map(upstream).collect());
    let room = Arc::new(Semaphore::new(32));
    let mut calls = Vec::new();
    for _ in 0..200 {
        let first = chance.below(3) as usize;
        let order: Vec<&str> = (0..3).map(|at| names[(first + at) % 3]).collect();
        let order = &order[..1 + chance.below(3) as usize];
        let total = (chance.below(4) == 0).then(|| Duration::from_millis(chance.below(9_000)));
        let plan = Plan { total, ..plan(order) };
        let leaves = (chance.below(5) == 0).then(|| Duration::from_millis(chance.below(5_000)));
        let stops = if chance.below(8) == 0 { 1 } else { usize::MAX };
        let pause = Duration::from_millis(chance.below(200));
        let (remote, room) = (remote.clone(), Arc::clone(&room));
        sleep(pause).await;
        calls.push(tokio::spawn(async move {
            let _room = room.acquire_owned().await.expect("nobody closes it");
            let (listener, receiver) = listener(stops);
            let call = remote.send(request(), plan, listener);
            if let Some(after) = leaves {
                tokio::spawn(async move {
                    sleep(after).await;
                    drop(call);
                });
                return heard(receiver, Instant::now()).await;
            }
            let heard = heard(receiver, Instant::now()).await; // asserts that it ends once
            drop(call);
            heard
        }));
    }
    let mut ends = [0_u32; 3];
    for call in calls {
        ends[end_of(seed, call.await.expect("no call panics"))] += 1;
    }
    assert_eq!(ends.iter().sum::<u32>(), 200, "seed {seed}");
    assert!(ends.iter().all(|count| *count > 0), "seed {seed}: {ends:?}");
    sleep(Duration::from_secs(10)).await;
    for facts in remote.facts() {
        let left = (facts.in_flight, facts.busy.0, facts.waiting);
        assert_eq!(left, (0, 0, 0), "seed {seed}: {facts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_ends_exactly_once() {
    for seed in 0..8 {
        play(seed).await;
    }
}
