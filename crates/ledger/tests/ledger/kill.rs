//! What a process that is killed leaves behind: it announces, ends and notes calls in several
//! threads, as chance has it, and tells the receipt of each that was kept, until it is killed,
//! again and again, on one ledger. Then the ledger's sum is that of the receipts, to the
//! micro-dollar, and of the calls without one at their worst.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use ingle_ledger::{By, Durability, Ledger, Options, Place};
use ingle_protocol::End;

use crate::support::{Folder, Random, all, entry, is_whole, open, reader};

/// Where the child's ledger is, how it is written, and what its calls are named with.
const PLACE: &str = "INGLE_TEST_LEDGER";
const DURABILITY: &str = "INGLE_TEST_DURABILITY";
const ROUND: &str = "INGLE_TEST_ROUND";
const THREADS: u64 = 4;
const WORST: u64 = 1000;
/// Of a place, at most.
const ROUNDS: u64 = 6;
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
                let seed = round.parse::<u64>().expect("a number") * THREADS + thread;
                let mut random = Random(SEED ^ seed);
                let mut open = Vec::new();
                for n in 0.. {
                    let id = format!("{round}-{thread}-{n}");
                    let cost = random.below(WORST);
                    if random.below(5) == 0 {
                        let noted = ledger.note(&entry(&id, cost)).and_then(|it| it.wait());
                        noted.expect("is noted");
                        tell(format!("\nended {id} {cost}\n"));
                        continue;
                    }
                    let begun = ledger.begin(&entry(&id, WORST), &[]).and_then(|it| it.wait());
                    begun.expect("is announced");
                    tell(format!("\nbegun {id} {WORST}\n"));
                    open.push((id, cost));
                    // Some end soon, some late, in another order; many take longer than this lives.
                    while random.below(3) < 2 && !open.is_empty() {
                        let (id, cost) = open.swap_remove(random.below(open.len() as u64) as usize);
                        let ended = ledger.end(&entry(&id, cost)).and_then(|it| it.wait());
                        ended.expect("is ended");
                        tell(format!("\nended {id} {cost}\n"));
                    }
                }
            });
        }
    });
}

/// Runs a child, kills it after this many lines, and tells what it was told.
fn killed(place: &str, durability: &str, round: u64, lines: u64) -> Vec<(bool, String, u64)> {
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
        // The last line may have been cut.
        let read = |ended: bool, rest: &str| {
            let (id, cost) = rest.split_once(' ')?;
            Some((ended, id.to_owned(), cost.parse().ok()?))
        };
        let begun = line.strip_prefix("begun ").and_then(|rest| read(false, rest));
        let ended = line.strip_prefix("ended ").and_then(|rest| read(true, rest));
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
    let (mut begun, mut ended) = (BTreeSet::new(), BTreeMap::new());
    for round in 0..rounds {
        let lines = 1 + random.below(120);
        for (end, id, cost) in killed(url, durability, round, lines) {
            if end {
                ended.insert(id, cost);
            } else {
                begun.insert(id);
            }
        }
        let ledger = open(place);
        let recovered = ledger.recovered();
        assert_eq!(recovered.micros, recovered.calls * WORST, "each at its worst");
        assert!(is_whole(place), "seed {SEED:#x}, after {lines} lines of round {round}");
        assert!(reader(place).announced().expect("is read").is_empty());
        agrees(place, &begun, &ended);
    }
    assert!(!ended.is_empty() && begun.iter().any(|id| !ended.contains_key(id)));
}

/// Holds the ledger against what was told of it: what was announced, and each receipt.
fn agrees(place: &Place, begun: &BTreeSet<String>, receipts: &BTreeMap<String, u64>) {
    let stored = all(place);
    let entries: BTreeMap<&str, (End, u64)> = stored
        .iter()
        .map(|it| (it.entry.id.as_str(), (it.entry.end, it.entry.cost.micros.expect("is known"))))
        .collect();
    assert_eq!(entries.len(), stored.len(), "a call has two entries");
    for (id, cost) in receipts {
        assert_eq!(entries.get(id.as_str()), Some(&(End::Stop, *cost)), "{id} was acknowledged");
    }
    for id in begun {
        assert!(entries.contains_key(id.as_str()), "{id} was announced, and is gone");
    }
    // A call without a receipt was lost, at its worst, or killed between its end and the telling.
    let rest = entries.iter().filter(|(id, _)| !receipts.contains_key(**id));
    let rest: Vec<(End, u64)> = rest.map(|(_, known)| *known).collect();
    assert!(rest.iter().all(|(end, cost)| *end == End::Stop || *cost == WORST));
    let untold = rest.iter().filter(|(end, _)| *end == End::Stop).count() as u64;
    assert!(untold <= THREADS * ROUNDS, "each thread has one call that it could not tell of");
    let expect = receipts.values().sum::<u64>() + rest.iter().map(|(_, cost)| cost).sum::<u64>();
    let spend = reader(place).spend(By::All, 0, u64::MAX).expect("is read");
    assert_eq!(spend.first().map_or(0, |all| all.cost_micros), expect);
}

#[test]
fn what_a_file_acknowledged_survives_kills() {
    for (durability, rounds) in [("power", ROUNDS), ("process", ROUNDS)] {
        let folder = Folder::new(durability);
        let place = folder.place();
        survives(&place, &place.to_string(), durability, rounds);
    }
}
