//! Buckets of a minute's worth in a Redis server: each step is what the bucket in memory does at
//! that server's time, processes never get more than flows in, and where the server forgot or does
//! not answer, nothing is taken.

use std::io::{Read, Write};
use std::num::NonZeroU32;
use std::process::{Child, Command, Stdio};

use ingle_gateway::budget::{Bucket, Place, Rates, Redis, Refusal};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::server::Server;

const URL: &str = "INGLE_TEST_RATES";
const KEYS: &str = "{ingle:budgets:1}:rate:";
const PER_MINUTE: u32 = 3_000;
const THREADS: u64 = 4;
const TAKES: u64 = 400;

fn rate(per_minute: u32) -> NonZeroU32 {
    NonZeroU32::new(per_minute).expect("not 0")
}

#[derive(Clone, Debug)]
enum Act {
    Take { bucket: usize, count: u64 },
    Settle { bucket: usize, taken: u64, used: u64 },
}

/// Some take a little, some all that there can ever be, some more.
fn act() -> impl Strategy<Value = Act> {
    let count = || prop_oneof![3 => 0_u64..50, 2 => 0_u64..5_000_000_000, 1 => any::<u64>()];
    prop_oneof![
        5 => (0_usize..3, count()).prop_map(|(bucket, count)| Act::Take { bucket, count }),
        3 => (0_usize..3, count(), count())
            .prop_map(|(bucket, taken, used)| Act::Settle { bucket, taken, used }),
    ]
}

/// A bucket there and the one in memory, which is told the time that the server went by.
struct Pair<'a> {
    server: &'a Server,
    store: &'a Redis,
    rate: NonZeroU32,
    name: String,
    model: Bucket,
}

impl Pair<'_> {
    /// What a step at this time did to the model is what it did there; tells whether that could be
    /// seen, which it cannot once the bucket is full and forgotten.
    fn step(&mut self, act: &Act) -> bool {
        let (wait, full_in) = match *act {
            Act::Take { count, .. } => {
                let taken = self.store.take(&self.name, count, self.rate).expect("it answers");
                (taken.wait, taken.full_in)
            }
            Act::Settle { taken, used, .. } => {
                let full_in = self.store.settle(&self.name, taken, used, self.rate);
                (None, full_in.expect("it answers"))
            }
        };
        let full_at: Option<u64> = self.server.ask(&["GET", &format!("{KEYS}{}", self.name)]);
        let Some(full_at) = full_at else {
            self.model = Bucket::default();
            return false;
        };
        let full_in_us = u64::try_from(full_in.as_micros()).expect("small");
        let now = full_at - full_in_us;
        let expect = match *act {
            Act::Take { count, .. } => self.model.take(now, count, self.rate).err(),
            Act::Settle { taken, used, .. } => {
                self.model.settle(now, taken, used, self.rate);
                None
            }
        };
        assert_eq!((wait, full_in), (expect, self.model.full_in(now)), "{act:?}");
        true
    }
}

/// Any sequence, at rates from one in a minute to some in each microsecond.
pub(crate) fn as_in_memory(server: &Server) {
    let store = server.open();
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() };
    let chance = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, chance);
    let lives = (prop::collection::vec(act(), 1..60), [1_u32..90, 90..90_000, 90_000..u32::MAX]);
    let (mut number, mut seen) = (0, 0);
    let counted = std::cell::RefCell::new((&mut number, &mut seen));
    let lived = runner.run(&lives, |(acts, rates)| {
        let mut counted = counted.borrow_mut();
        *counted.0 += 1;
        let mut pairs: Vec<Pair<'_>> = rates
            .iter()
            .enumerate()
            .map(|(at, per_minute)| {
                let (rate, name) = (rate(*per_minute), format!("life {} {at}", counted.0));
                Pair { server, store: &store, rate, name, model: Bucket::default() }
            })
            .collect();
        for act in acts {
            let (Act::Take { bucket, .. } | Act::Settle { bucket, .. }) = act;
            *counted.1 += usize::from(pairs[bucket].step(&act));
        }
        Ok(())
    });
    lived.unwrap_or_else(|error| panic!("{error}"));
    assert!(seen > 500, "most steps were looked at: {seen}");
}

/// A bucket takes no room once it is full.
pub(crate) fn full_is_forgotten(server: &Server) {
    let store = server.open();
    let taken = store.take("a", 30, rate(60)).expect("it answers");
    assert_eq!((taken.wait, taken.full_in.as_secs()), (None, 30));
    let left: i64 = server.ask(&["PTTL", &format!("{KEYS}a")]);
    assert!((1..=30_002).contains(&left), "{left}");
    store.settle("a", 30, 0, rate(60)).expect("it answers");
    assert_eq!(server.ask::<u64>(&["EXISTS", &format!("{KEYS}a")]), 0);
    // Names are any text up to a bound.
    store.take("Ünï\n{}", 1, rate(1)).expect("it answers");
    assert!(store.take("Ünï\n{}", 1, rate(1)).expect("it answers").wait.is_some());
    assert!(store.take(&"x".repeat(4_097), 1, rate(1)).is_err());
}

/// Who cannot know what was taken takes nothing.
pub(crate) fn fails_closed(server: &Server) {
    let store = server.open();
    store.take("a", 1, rate(60)).expect("it answers");
    let _: String = server.ask(&["FLUSHALL"]);
    let broken = |result: Result<(), Refusal>| {
        let Err(Refusal::Broken(said)) = result else { panic!("{result:?}") };
        assert!(said.contains("it has forgotten"), "{said}");
    };
    broken(store.take("a", 1, rate(60)).map(drop));
    broken(store.settle("a", 1, 0, rate(60)).map(drop));
    let nowhere: Place = server.tcp(Some(1)).parse().expect("a place");
    assert!(Redis::open(&nowhere).is_err());
}

/// What a connection loses lets no more through: what was taken is, and may be twice; what was
/// given back may not be, and is not twice.
pub(crate) fn lost_answers(server: &Server) {
    let wire = crate::proxy::Wire::to(server.port());
    let place: Place = server.tcp(Some(wire.port)).parse().expect("a place");
    let store = Redis::open(&place).expect("it answers");
    let full_in = |at_most: u64, result: u64| assert!(result <= at_most, "{result} {at_most}");
    store.take("a", 100, rate(600)).expect("it answers");
    store.settle("a", 0, 0, rate(600)).expect("it answers");
    wire.lose_next();
    let taken = store.take("a", 100, rate(600)).expect("it answers");
    assert!(wire.has_lost());
    // 300 of 600 in a minute, less what flowed in meanwhile.
    full_in(30_000, u64::try_from(taken.full_in.as_millis()).expect("small"));
    assert!(taken.wait.is_none());
    wire.lose_next();
    let lost = store.settle("a", 100, 0, rate(600));
    assert!(wire.has_lost() && matches!(lost, Err(Refusal::Broken(_))), "{lost:?}");
    let now = store.settle("a", 0, 0, rate(600)).expect("it mends");
    full_in(20_000, u64::try_from(now.as_millis()).expect("small"));
}

#[test]
#[ignore = "takes: the test beside it runs it as a process of its own"]
fn taker() {
    let url = std::env::var(URL).expect("is run by another test");
    let place: Place = url.parse().expect("a place");
    let store = Redis::open(&place).expect("it answers");
    let run = |thread: u64| {
        let (mut used, mut refused) = (0, 0);
        for number in 0..TAKES {
            let count = 1 + (number * 7 + thread) % 9;
            let taken = store.take("all", count, rate(PER_MINUTE)).expect("it answers");
            match taken.wait {
                Some(_) => refused += 1,
                // A part is given back by some.
                None if number % 3 == 0 => {
                    let settled = store.settle("all", count, count / 2, rate(PER_MINUTE));
                    settled.expect("it answers");
                    used += count / 2;
                }
                None => used += count,
            }
        }
        (used, refused)
    };
    let run = &run;
    let all: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || run(thread))).collect();
        all.into_iter().map(|it| it.join().expect("no panic")).collect()
    });
    let sum = |of: fn(&(u64, u64)) -> u64| all.iter().map(of).sum::<u64>();
    let mut out = std::io::stdout().lock();
    let told = format!("\ntook {} {}\n", sum(|it| it.0), sum(|it| it.1));
    out.write_all(told.as_bytes()).and_then(|()| out.flush()).expect("somebody listens");
}

fn start(server: &Server) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "rates::taker", "--ignored", "--nocapture"]);
    command.env(URL, server.url()).stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().expect("starts")
}

/// What a process took, and how often it was refused.
fn took(mut child: Child) -> (u64, u64) {
    let mut text = String::new();
    child.stdout.take().expect("it is piped").read_to_string(&mut text).expect("it is text");
    assert!(child.wait().expect("it was started").success(), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("took ")).expect("it says");
    let (used, refused) = line.split_once(' ').expect("two numbers");
    (used.parse().expect("a number"), refused.parse().expect("a number"))
}

/// The server's time, in microseconds.
fn clock(server: &Server) -> u64 {
    let (seconds, micros): (u64, u64) = server.ask(&["TIME"]);
    seconds * 1_000_000 + micros
}

/// Two processes get what one bucket held and what flowed in by the server's clock, and no more.
pub(crate) fn processes(server: &Server) {
    server.empty();
    let began = clock(server);
    let children = [start(server), start(server)];
    let all = children.map(took);
    let passed = u128::from(clock(server) - began);
    let used: u64 = all.iter().map(|it| it.0).sum();
    let flowed = passed * u128::from(PER_MINUTE) / 60_000_000;
    assert!(u128::from(used) <= u128::from(PER_MINUTE) + flowed, "{used} {flowed}");
    assert!(used > u64::from(PER_MINUTE) - 10, "all of it was had: {used}");
    assert!(all.iter().all(|(used, refused)| *used > 0 && *refused > 0), "{all:?}");
}
