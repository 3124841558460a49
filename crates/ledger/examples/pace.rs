//! What a call waits for its ledger at a steady pace, and what memory many calls take: for people
//! to measure on their machine, since tests assert no times. Absent: HTTP, and calls that do
//! anything.
//!
//! `pace FOLDER [SECONDS] [RATE] [power]` begins and ends so many calls a second, each ended while
//! others are open, and tells how long it took until each announcement and each end was kept.
//! `pace FOLDER fill COUNT` writes so many as fast as it can, and tells the memory that it takes.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ingle_ledger::{Durability, Ledger, Options, Place, Ticket};
use ingle_protocol::{Cost, Entry, Step, Usage};

/// Calls under way at the same time.
const OPEN: usize = 32;

type Times = Arc<Mutex<Vec<Duration>>>;
type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let folder = words.first().ok_or("pace FOLDER [SECONDS] [RATE] [power], or FOLDER fill N")?;
    let place = Place::within(Path::new(folder));
    let number = |at: usize, usual: u64| words.get(at).map_or(Ok(usual), |text| text.parse());
    if words.get(1).is_some_and(|word| word == "fill") {
        return fill(&place, number(2, 1_000_000)?);
    }
    let power = words.iter().any(|word| word == "power");
    let durability = if power { Durability::Power } else { Durability::Process };
    let ledger = Ledger::open(&place, &Options { durability, ..Options::default() })?;
    pace(&ledger, number(1, 30)?, number(2, 1000)?)
}

/// An entry of about 1 KB as text.
fn entry(number: u64) -> Entry {
    let step = |candidate: &str, taken, reason: &str| Step {
        candidate: candidate.into(),
        taken,
        reason: reason.into(),
    };
    // Ids are in no order.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Entry {
        id: format!("req-{mixed:016x}{number:016x}"),
        at_ms: 1_793_664_000_000 + number,
        key: "alice".into(),
        team: "red".into(),
        path: "/v1/chat/completions".into(),
        asked: "auto".into(),
        classes: vec!["internal".into()],
        policy: "sha256:0f343b0931126a20f133d67c2b018a3b".into(),
        route: vec![
            step("local/small", false, "capability: its context holds 8192 tokens, 9000 needed"),
            step("near/medium", true, "the cheapest of those allowed: 1500 micro-dollars at most"),
        ],
        provider: "near".into(),
        model: "medium-2026-10-01".into(),
        hosts: vec!["api.near.example".into()],
        bytes_out: 4096,
        tries: 1,
        usage: Usage { prompt_tokens: 900, completion_tokens: 100, ..Usage::default() },
        cost: Cost { micros: Some(1500), price: "2026-11-22".into(), estimated: false },
        ..Entry::default()
    }
}

/// Notes when a ticket was settled.
fn clock(ticket: ingle_ledger::Result<Ticket>, began: Instant, times: &Times) {
    let times = Arc::clone(times);
    let note = move |outcome: ingle_ledger::Result<()>| {
        let took = began.elapsed();
        outcome.expect("is kept; see the disk");
        times.lock().unwrap_or_else(PoisonError::into_inner).push(took);
    };
    ticket.expect("is taken; see the disk").then(note);
}

fn pace(ledger: &Ledger, seconds: u64, rate: u64) -> Result<(), Failure> {
    let count = seconds * rate;
    let room = || Times::new(Mutex::new(Vec::with_capacity(count as usize)));
    let (begun, ended) = (room(), room());
    let mut open = VecDeque::new();
    let start = Instant::now();
    for number in 0..count {
        let due = Duration::from_nanos(number * 1_000_000_000 / rate);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        let one = entry(number);
        let now = Instant::now();
        clock(ledger.begin(&one, &[]), now, &begun);
        open.push_back(one);
        if open.len() > OPEN {
            let Some(one) = open.pop_front() else { continue };
            let now = Instant::now();
            clock(ledger.end(&one), now, &ended);
        }
    }
    let mut last = None;
    for one in &open {
        last = Some(ledger.end(one)?);
    }
    last.map(Ticket::wait).transpose()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{count} calls in {:.1} s", start.elapsed().as_secs_f64())?;
    for (name, times) in [("begin", begun), ("end", ended)] {
        let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
        times.sort();
        let part = |share: usize| times.get(times.len() * share / 1000).copied();
        let most = times.last().copied().unwrap_or_default();
        let [half, p99, p999] = [500, 990, 999].map(|share| part(share).unwrap_or_default());
        writeln!(out, "{name}: p50 {half:?}, p99 {p99:?}, p99.9 {p999:?}, most {most:?}")?;
    }
    Ok(())
}

/// Memory of this process that is in use, in KiB, and the ledger's log, in KiB.
fn sizes(place: &Place) -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    let log = std::fs::metadata(format!("{place}-wal")).map_or(0, |file| file.len() / 1024);
    (memory, log)
}

fn fill(place: &Place, count: u64) -> Result<(), Failure> {
    let ledger =
        Ledger::open(place, &Options { durability: Durability::Process, ..Options::default() })?;
    let mut out = io::stdout().lock();
    let mut last = None;
    for number in 1..=count {
        let one = entry(number);
        drop(ledger.begin(&one, &[])?);
        last = Some(ledger.end(&one)?);
        if number % 100_000 == 0 {
            last.take().map(Ticket::wait).transpose()?;
            let (memory, log) = sizes(place);
            writeln!(out, "{number} calls: {memory} KiB of memory, {log} KiB of log")?;
        }
    }
    last.map(Ticket::wait).transpose()?;
    Ok(())
}
