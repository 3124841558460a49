//! What a process that is killed leaves behind: it announces and ends calls in several threads and
//! tells what it was told, until it is killed, again and again, on one ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use ingle_ledger::{Durability, Ledger, Options, Place};
use ingle_protocol::End;

use crate::support::{Folder, Random, all, entry, is_whole, open, reader};

/// Where the child's ledger is, how it is written, and what its calls are named with.
const PLACE: &str = "INGLE_TEST_LEDGER";
const DURABILITY: &str = "INGLE_TEST_DURABILITY";
const ROUND: &str = "INGLE_TEST_ROUND";
const THREADS: u64 = 4;
const WORST: u64 = 1000;
/// Of when a child is killed.
const SEED: u64 = 0x1edc_e11e;

#[test]
#[ignore = "is killed: the tests beside it run it as a process of its own"]
fn child() {
    let value = |name| std::env::var(name).expect("is run by another test");
    let place: Place = value(PLACE).parse().expect("a place");
    let durability = match value(DURABILITY).as_str() {
        "process" => Durability::Process,
        _ => Durability::Power,
    };
    let options = Options { durability, ..Options::default() };
    let ledger = Ledger::open(&place, &options).expect("opens");
    let round = value(ROUND);
    let tell = |text: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).expect("somebody listens");
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (ledger, round, tell) = (&ledger, &round, &tell);
            scope.spawn(move || {
                for n in 0.. {
                    let id = format!("{round}-{thread}-{n}");
                    let begun = ledger.begin(&entry(&id, WORST), &[]).and_then(|it| it.wait());
                    begun.expect("is announced");
                    tell(format!("\nbegun {id}\n"));
                    // Every third call takes longer than the process lives.
                    if n % 3 < 2 {
                        let ended = ledger.end(&entry(&id, n)).and_then(|it| it.wait());
                        ended.expect("is ended");
                        tell(format!("\nended {id}\n"));
                    }
                }
            });
        }
    });
}

/// Runs a child, kills it after this many lines, and tells what it was told.
fn killed(place: &str, durability: &str, round: u64, lines: u64) -> Vec<(bool, String)> {
    let mut child = Command::new(std::env::current_exe().expect("this is a program"))
        .args(["--exact", "kill::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PLACE, place)
        .env(DURABILITY, durability)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let out = BufReader::new(child.stdout.take().expect("is piped"));
    let mut told = Vec::new();
    for line in out.lines().map_while(Result::ok) {
        let begun = line.strip_prefix("begun ").map(|id| (false, id.to_owned()));
        let ended = line.strip_prefix("ended ").map(|id| (true, id.to_owned()));
        told.extend(begun.or(ended));
        if told.len() as u64 == lines {
            child.kill().expect("is killed");
        }
    }
    assert!(!child.wait().expect("is gone").success());
    assert!(told.len() as u64 >= lines, "the child failed by itself");
    told
}

/// Kills again and again, and looks after each time.
pub(crate) fn survives(place: &Place, url: &str, durability: &str, rounds: u64) {
    let mut random = Random(SEED);
    let (mut begun, mut ended) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..rounds {
        let lines = 1 + random.below(120);
        for (end, id) in killed(url, durability, round, lines) {
            if end {
                ended.insert(id)
            } else {
                begun.insert(id)
            };
        }
        let ledger = open(place);
        let recovered = ledger.recovered();
        assert_eq!(recovered.micros, recovered.calls * WORST, "each at its worst");
        assert!(is_whole(place), "seed {SEED:#x}, after {lines} lines of round {round}");
        assert!(reader(place).announced().expect("is read").is_empty());
        let stored = all(place);
        let ends: BTreeMap<String, End> =
            stored.iter().map(|stored| (stored.entry.id.clone(), stored.entry.end)).collect();
        assert_eq!(ends.len(), stored.len(), "a call has two entries");
        for id in &ended {
            assert_eq!(ends.get(id), Some(&End::Stop), "{id} was acknowledged");
        }
        for id in &begun {
            assert!(ends.contains_key(id), "{id} was announced, and is gone");
        }
    }
    assert!(!ended.is_empty() && ended.len() < begun.len());
}

#[test]
fn what_a_file_acknowledged_survives_kills() {
    for (durability, rounds) in [("power", 6), ("process", 6)] {
        let folder = Folder::new(durability);
        let place = folder.place();
        survives(&place, &place.to_string(), durability, rounds);
    }
}
