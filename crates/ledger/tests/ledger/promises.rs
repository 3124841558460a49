//! Promises that every place keeps: each is a row of [`PROMISES`], run against a ledger of its own.

use std::sync::Arc;

use ingle_ledger::{By, Error, Identities, Kept, Ledger, Place, Reserved, Spend, Verdict};
use ingle_protocol::{Cost, End, Entry};

use crate::support::{DAY, all, entry, is_whole, open, reader};

/// A name, and what is to hold of a new ledger in a place.
type Promise = (&'static str, fn(&Place));

pub(crate) const PROMISES: &[Promise] = &[
    ("calls", a_call_has_one_entry),
    ("ids", ids_are_ones_own),
    ("amended", what_was_announced_last_is_what_is_lost),
    ("dead", calls_of_the_dead_are_lost_at_their_worst),
    ("living", calls_of_the_living_are_theirs),
    ("many", several_write_one_chain),
    ("sums", sums_are_exact),
    ("old", old_rows_go_and_the_chain_stays),
    ("strange", strange_names_are_kept),
    ("content", content_goes_and_the_chain_stays),
    ("absent", what_is_not_there_is_not_made_by_reading),
];

fn end(ledger: &Ledger, entry: &Entry) -> ingle_ledger::Result<()> {
    ledger.end(entry).expect("is sent").wait()
}

fn begin(ledger: &Ledger, entry: &Entry) -> ingle_ledger::Result<()> {
    let reserved = Reserved { budget: "team red".into(), micros: 99, tokens: 5000 };
    ledger.begin(entry, &[reserved])?.wait()
}

fn note(ledger: &Ledger, entry: &Entry) {
    ledger.note(entry).expect("is sent").wait().expect("is written");
}

fn a_call_has_one_entry(place: &Place) {
    let ledger = open(place);
    begin(&ledger, &entry("a", 99)).expect("is announced");
    let announced = reader(place).announced().expect("is read");
    assert_eq!(announced.len(), 1);
    assert_eq!((announced[0].worst.id.as_str(), announced[0].worst.end), ("a", End::Lost));
    assert_eq!(
        announced[0].reserved,
        [Reserved { budget: "team red".into(), micros: 99, tokens: 5000 }]
    );
    assert!(all(place).is_empty(), "an announcement is no entry");
    end(&ledger, &entry("a", 7)).expect("is ended");
    note(&ledger, &entry("b", 0));
    let stored = all(place);
    let ids: Vec<&str> = stored.iter().map(|stored| stored.entry.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(stored[0].entry, entry("a", 7));
    assert!(reader(place).announced().expect("is read").is_empty());
    let found = reader(place).find("a").expect("is read").expect("is there");
    assert_eq!(found, stored[0]);
    assert_eq!(reader(place).find("c"), Ok(None));
    let Verdict::Whole(whole) = reader(place).verify(None).expect("is read") else {
        panic!("nobody changed it");
    };
    assert_eq!((whole.rows, whole.anchor.count, whole.anchor.head), (2, 2, stored[1].hash));
}

fn ids_are_ones_own(place: &Place) {
    let ledger = open(place);
    begin(&ledger, &entry("a", 1)).expect("is announced");
    assert!(matches!(begin(&ledger, &entry("a", 1)), Err(Error::Twice { .. })));
    assert!(matches!(end(&ledger, &entry("b", 1)), Err(Error::Closed { .. })));
    end(&ledger, &entry("a", 1)).expect("is ended");
    assert!(matches!(end(&ledger, &entry("a", 1)), Err(Error::Closed { .. })));
    assert_eq!(all(place).len(), 1, "what has failed is in no row");
    begin(&ledger, &entry("c", 1)).expect("one that failed takes no other with it");
    assert!(ledger.healthy().is_ok());
}

fn calls_of_the_dead_are_lost_at_their_worst(place: &Place) {
    let ledger = open(place);
    begin(&ledger, &entry("a", 500)).expect("is announced");
    let mut unknown = entry("b", 0);
    unknown.cost.micros = None;
    begin(&ledger, &unknown).expect("is announced");
    drop(ledger);
    let ledger = open(place);
    let recovered = ledger.recovered();
    assert_eq!((recovered.calls, recovered.micros, recovered.unknown), (2, 500, 1));
    let stored = all(place);
    let lost = Entry {
        end: End::Lost,
        cost: Cost { estimated: true, ..entry("a", 500).cost },
        ..entry("a", 500)
    };
    assert_eq!(stored[0].entry, lost);
    assert_eq!(stored.len(), 2);
    assert!(reader(place).announced().expect("is read").is_empty());
    assert!(matches!(end(&ledger, &entry("a", 7)), Err(Error::Closed { .. })));
    assert_eq!(open(place).recovered().calls, 0, "once is enough");
    assert!(is_whole(place));
}

fn what_was_announced_last_is_what_is_lost(place: &Place) {
    let ledger = open(place);
    let amend = |ledger: &Ledger, entry: &Entry, micros: u64| {
        let reserved = Reserved { budget: "team red".into(), micros, tokens: 7 };
        ledger.amend(entry, &[reserved]).expect("is sent").wait()
    };
    assert!(matches!(amend(&ledger, &entry("a", 5), 5), Err(Error::Closed { .. })));
    begin(&ledger, &entry("a", 500)).expect("is announced");
    amend(&ledger, &entry("a", 700), 650).expect("is announced anew");
    amend(&ledger, &entry("a", 40), 30).expect("and for less");
    let announced = reader(place).announced().expect("is read");
    assert_eq!((announced.len(), announced[0].worst.cost.micros), (1, Some(40)));
    let reserved = Reserved { budget: "team red".into(), micros: 30, tokens: 7 };
    assert_eq!((announced[0].worst.end, &announced[0].reserved[..]), (End::Lost, &[reserved][..]));
    begin(&ledger, &entry("b", 9)).expect("is announced");
    amend(&ledger, &entry("b", 10), 10).expect("is announced anew");
    end(&ledger, &entry("b", 3)).expect("is ended");
    assert!(matches!(amend(&ledger, &entry("b", 11), 11), Err(Error::Closed { .. })));
    let other = open(place);
    assert!(matches!(amend(&other, &entry("a", 1), 1), Err(Error::Closed { .. })), "not its own");
    drop(ledger);
    let recovered = other.recover().expect("is written");
    assert_eq!((recovered.calls, recovered.micros, recovered.unknown), (1, 40, 0));
    assert!(matches!(amend(&other, &entry("a", 2), 2), Err(Error::Closed { .. })));
    let costs: Vec<_> = all(place).iter().map(|it| it.entry.cost.micros).collect();
    assert_eq!(costs, [Some(3), Some(40)]);
    assert!(other.healthy().is_ok() && is_whole(place));
}

fn calls_of_the_living_are_theirs(place: &Place) {
    let one = open(place);
    begin(&one, &entry("a", 500)).expect("is announced");
    let other = open(place);
    assert_eq!(other.recovered().calls, 0);
    assert!(matches!(end(&other, &entry("a", 7)), Err(Error::Closed { .. })));
    end(&one, &entry("a", 7)).expect("is ended by its own");
    begin(&one, &entry("b", 300)).expect("is announced");
    assert_eq!(other.recover().expect("is read").calls, 0);
    drop(one);
    assert_eq!(other.recover().expect("is written").micros, 300);
    assert!(is_whole(place));
}

fn several_write_one_chain(place: &Place) {
    const EACH: u64 = 40;
    let ledgers: Vec<Arc<Ledger>> = (0..3).map(|_| Arc::new(open(place))).collect();
    let write = |(at, ledger): (usize, &Arc<Ledger>)| {
        let ledger = Arc::clone(ledger);
        std::thread::spawn(move || {
            let call = |n: u64| {
                let entry = entry(format!("{at}-{n}"), n);
                begin(&ledger, &entry).expect("is announced");
                end(&ledger, &entry).expect("is ended");
            };
            (0..EACH).for_each(call);
        })
    };
    let twice = ledgers.iter().chain(&ledgers).enumerate();
    let threads: Vec<_> = twice.map(write).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let mut ids: Vec<String> = all(place).into_iter().map(|stored| stored.entry.id).collect();
    assert_eq!(ids.len() as u64, 6 * EACH);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len() as u64, 6 * EACH);
    assert!(is_whole(place));
    let spend = reader(place).spend(By::All, 0, u64::MAX).expect("is read");
    assert_eq!(spend[0].cost_micros, 6 * (0..EACH).sum::<u64>());
}

fn rows_of_sums() -> Vec<Entry> {
    let one = |id: &str, model: &str, cost: Option<u64>, hosts: &[&str]| Entry {
        model: model.into(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        cost: Cost { micros: cost, ..Cost::default() },
        bytes_out: hosts.len() as u64 * 100,
        ..entry(id, 0)
    };
    let mut refused = one("e", "", Some(0), &[]);
    refused.end = End::Refused;
    refused.tries = 0;
    refused.instead_micros = None;
    let mut rows = vec![
        one("a", "large", Some(100), &["far"]),
        one("b", "small", Some(3), &[]),
        one("c", "large", Some(250), &["far"]),
        one("d", "other", None, &["far"]),
        refused,
    ];
    rows[0].instead_micros = Some(100);
    rows[1].instead_micros = Some(90);
    rows[2].instead_micros = None;
    rows[3].instead_micros = Some(80);
    rows[2].cost.estimated = true;
    rows[2].at_ms = DAY + 86_400_000;
    rows[1].key = "bob".into();
    // A server on this machine was asked: it has no host, and nothing left.
    rows[1].bytes_out = 70;
    rows
}

fn sums_are_exact(place: &Place) {
    let ledger = open(place);
    rows_of_sums().iter().for_each(|entry| note(&ledger, entry));
    let spend = |by| reader(place).spend(by, 0, u64::MAX).expect("is read");
    let expect = Spend {
        name: "all".into(),
        calls: 5,
        prompt_tokens: 4500,
        completion_tokens: 500,
        cost_micros: 353,
        unknown: 1,
        estimated: 1,
        left: 3,
        left_micros: 350,
        left_unknown: 1,
        bytes_out: 300,
        refused: 1,
        compared: 2,
        compared_micros: 103,
        instead_micros: 190,
        ..Spend::default()
    };
    assert_eq!(spend(By::All), std::slice::from_ref(&expect));
    assert_eq!((expect.saved_micros(), expect.left_share()), (Some(87), Some(0.75)));
    let names = |by| {
        let rows = spend(by).into_iter();
        rows.map(|row| (row.name, row.calls, row.cost_micros)).collect::<Vec<_>>()
    };
    let row = |name: &str, calls, cost| (name.to_owned(), calls, cost);
    let models = [row("large", 2, 350), row("small", 1, 3), row("", 1, 0), row("other", 1, 0)];
    assert_eq!(names(By::Model), models);
    assert_eq!(names(By::Key), [row("alice", 4, 350), row("bob", 1, 3)]);
    assert_eq!(names(By::Day), [row("2026-11-03", 4, 103), row("2026-11-04", 1, 250)]);
    assert_eq!(names(By::Team), [row("red", 5, 353)]);
    assert_eq!(names(By::Provider), [row("near", 5, 353)]);
    assert_eq!(names(By::Path), [row("/v1/chat/completions", 5, 353)]);
    let day = reader(place).spend(By::All, DAY, DAY + 1).expect("is read");
    assert_eq!(day[0].calls, 4, "the end is not part of a time");
    assert!(reader(place).spend(By::All, 0, DAY).expect("is read").is_empty());
    let priced = reader(place).reprice(0, u64::MAX, &|usage: &ingle_protocol::Usage| {
        Some(u64::from(usage.prompt_tokens))
    });
    let priced = priced.expect("is read");
    assert_eq!((priced.calls, priced.micros, priced.unknown), (3, 2700, 0));
}

fn old_rows_go_and_the_chain_stays(place: &Place) {
    let ledger = open(place);
    for n in 0..10 {
        let mut entry = entry(format!("{n}"), n);
        // The fifth came late to its end.
        entry.at_ms = if n == 5 { DAY } else { DAY + n };
        note(&ledger, &entry);
    }
    let before = reader(place).anchor().expect("is read");
    let early = all(place)[1].hash;
    assert_eq!(ledger.prune(DAY, 77).expect("is written").rows, 0);
    let pruned = ledger.prune(DAY + 4, 77).expect("is written");
    assert_eq!((pruned.rows, pruned.base.count), (4, 4), "what is old, as far as all is old");
    let ids = |place| all(place).into_iter().map(|stored| stored.entry.id).collect::<Vec<_>>();
    assert_eq!(ids(place), ["4", "5", "6", "7", "8", "9"]);
    assert!(is_whole(place));
    let verdict = |anchor| reader(place).verify(Some(anchor)).expect("is read");
    assert!(matches!(verdict(before), Verdict::Whole(_)), "what was true stays so");
    assert!(matches!(verdict(pruned.base), Verdict::Whole(_)));
    let gone = ingle_ledger::Anchor { count: 2, head: early };
    assert!(matches!(verdict(gone), Verdict::Broken(_)), "that can no longer be told");
    assert_eq!(ledger.prune(DAY + 4, 78).expect("is written").rows, 0, "nothing is left to do");
    let all_gone = ledger.prune(u64::MAX, 79).expect("is written");
    assert_eq!(all_gone.rows, 7, "six entries, and the row that told of the first removal");
    assert!(ids(place).is_empty() && is_whole(place));
    assert_eq!(ledger.prune(u64::MAX, 80).expect("is written").rows, 0);
    note(&ledger, &entry("new", 1));
    assert!(is_whole(place));
    drop(ledger);
    note(&open(place), &entry("newer", 1));
    assert!(is_whole(place) && ids(place) == ["new", "newer"]);
}

fn strange_names_are_kept(place: &Place) {
    let ledger = open(place);
    let strange = ["", "a'b\"c", "nul\u{0}", "\u{1f980}\n", &"long".repeat(999)];
    for (at, name) in strange.iter().enumerate() {
        let mut entry = entry(format!("{name}{at}"), 1);
        entry.key = (*name).to_owned();
        entry.at_ms = u64::MAX;
        entry.bytes_out = u64::MAX;
        entry.cost.micros = Some(u64::MAX);
        entry.instead_micros = Some(u64::MAX);
        begin(&ledger, &entry).expect("is announced");
        end(&ledger, &entry).expect("is ended");
        assert_eq!(reader(place).find(&entry.id).expect("is read").map(|it| it.entry), Some(entry));
    }
    assert!(is_whole(place));
    let spend = reader(place).spend(By::Key, 0, u64::MAX).expect("sums of huge numbers are sums");
    assert_eq!(spend.len(), strange.len());
}

fn content_goes_and_the_chain_stays(place: &Place) {
    let keys = Identities::read("a key", &Identities::make()).expect("is a key");
    let ledger = open(place);
    for (id, at_ms) in [("a", DAY), ("b", DAY + 1), ("c", DAY + 2)] {
        begin(&ledger, &entry(id, 9)).expect("is announced");
        let sealed = keys.recipients().seal(format!("words of {id}").as_bytes());
        let kept = ledger.content(id, at_ms, sealed.expect("is encrypted"));
        end(&ledger, &entry(id, 7)).expect("is ended");
        kept.expect("is sent").wait().expect("is kept");
    }
    let words = |id: Option<&str>| {
        let mut reader = reader(place);
        let open = |kept: ingle_ledger::Result<Kept>| {
            let kept = kept.expect("is read");
            let words = String::from_utf8(keys.open(&kept.sealed).expect("is opened"));
            (kept.id, words.expect("is text"))
        };
        reader.contents(id).map(open).collect::<Vec<_>>()
    };
    let row = |id: &str| (id.to_owned(), format!("words of {id}"));
    assert_eq!(words(None), [row("a"), row("b"), row("c")]);
    assert_eq!(words(Some("b")), [row("b")]);
    assert_eq!(all(place).len(), 3, "content is no call");
    assert!(is_whole(place));
    assert_eq!(ledger.forget(DAY + 1), Ok(1));
    assert_eq!(words(None), [row("b"), row("c")]);
    assert!(is_whole(place) && all(place).len() == 3, "only the words are gone");
    ledger.prune(u64::MAX, 5).expect("is written");
    assert_eq!(words(None), []);
    assert!(is_whole(place));
}

fn what_is_not_there_is_not_made_by_reading(place: &Place) {
    let read = || ingle_ledger::Reader::open(place, &Default::default()).map(drop);
    assert!(matches!(read(), Err(Error::Absent { .. })));
    assert!(matches!(read(), Err(Error::Absent { .. })));
    drop(open(place));
    assert_eq!(read(), Ok(()));
    assert!(is_whole(place), "nothing is a chain, too");
}
