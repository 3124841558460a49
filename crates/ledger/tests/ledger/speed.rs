//! How fast rows are written: for people to read, since tests assert no times.

use std::time::Instant;

use ingle_ledger::{Durability, Ledger, Options};

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
                    last = Some(ledger.note(&entry).expect("is sent"));
                }
            }
            last.map(|ticket| ticket.wait().expect("is written"));
            let rate = f64::from(count) / began.elapsed().as_secs_f64();
            println!("{durability:?}, announced {announced}: {rate:.0} calls a second");
        }
    }
}
