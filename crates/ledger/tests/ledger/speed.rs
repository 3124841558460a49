//! How fast rows are written: for people to read, since tests assert no times.

use std::time::Instant;

use ingle_ledger::{Durability, Ledger, Options, Ticket};

use crate::support::{Folder, entry};

#[test]
#[ignore = "measures: cargo test --release -p ingle-ledger speed -- --ignored --nocapture"]
fn speed() {
    let count = 200_000_u32;
    for durability in [Durability::Process, Durability::Power] {
        for announced in [false, true] {
            let folder = Folder::new("speed");
            let options = Options { durability, ..Options::default() };
            let ledger = Ledger::open(&folder.place(), &options).expect("opens");
            let began = Instant::now();
            let mut last = None;
            for n in 0..count {
                let entry = entry(format!("req-{n:032x}"), n.into());
                if announced {
                    drop(ledger.begin(&entry, &[]).expect("is sent"));
                    last = Some(ledger.end(&entry).expect("is sent"));
                } else {
                    let ticket = ledger.note(&entry).expect("is sent");
                    if n % 1000 == 0 {
                        // Whoever never waits for room has to leave some.
                        ticket.wait().expect("is written");
                        continue;
                    }
                    last = Some(ticket);
                }
            }
            last.map(Ticket::wait).transpose().expect("is written");
            let rate = f64::from(count) / began.elapsed().as_secs_f64();
            println!("{durability:?}, announced {announced}: {rate:.0} calls a second");
        }
    }
}

/// What a call waits for its announcement and its end where it comes alone, behind the one before.
#[test]
#[ignore = "measures: cargo test --release -p ingle-ledger speed -- --ignored --nocapture"]
fn speed_of_waiting() {
    for durability in [Durability::Process, Durability::Power] {
        let folder = Folder::new("speed");
        let options = Options { durability, ..Options::default() };
        let ledger = Ledger::open(&folder.place(), &options).expect("opens");
        let wait = |n: u32| {
            let entry = entry(format!("req-{n:032x}"), n.into());
            let began = Instant::now();
            ledger.begin(&entry, &[]).and_then(Ticket::wait).expect("is announced");
            let begun = began.elapsed();
            ledger.end(&entry).and_then(Ticket::wait).expect("is ended");
            (begun, began.elapsed() - begun)
        };
        let (mut begun, mut ended): (Vec<_>, Vec<_>) = (0..20_000).map(wait).unzip();
        for (name, times) in [("begin", &mut begun), ("end", &mut ended)] {
            times.sort();
            let part = |share: usize| times[times.len() * share / 1000];
            let (half, most, all) = (part(500), part(990), part(999));
            println!("{durability:?}, {name}: p50 {half:?}, p99 {most:?}, p99.9 {all:?}");
        }
    }
}
