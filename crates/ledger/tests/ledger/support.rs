//! What the tests share: a folder that is gone after its test, entries, and numbers from a seed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ingle_ledger::{Ledger, Options, Place, Reader, Stored, Verdict};
use ingle_protocol::{Charge, Cost, End, Entry, Step, Timings, Usage};

/// A folder of its own, with this in its name, in the system's folder for such.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ingle-ledger-{name}-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the system's folder for such can be written to");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn place(&self) -> Place {
        Place::within(&self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Numbers that look like chance and follow from a seed (SplitMix64: Steele, Lea and Flood, "Fast
/// Splittable Pseudorandom Number Generators", 2014).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Less than `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Midnight of a day in 2026.
pub(crate) const DAY: u64 = 1_793_664_000_000;

/// An entry of about 1 KB as text, of a call that left the machine.
pub(crate) fn entry(id: impl Into<String>, cost: u64) -> Entry {
    let step = |candidate: &str, taken, reason: &str| Step {
        candidate: candidate.into(),
        taken,
        reason: reason.into(),
    };
    let charge = Charge {
        provider: "near".into(),
        model: "medium".into(),
        at_ms: DAY,
        micros: cost,
        tokens: 1000,
        ..Charge::default()
    };
    Entry {
        id: id.into(),
        at_ms: DAY,
        key: "alice".into(),
        team: "red".into(),
        path: "/v1/chat/completions".into(),
        asked: "auto".into(),
        classes: vec!["internal".into(), "public".into()],
        found: vec![("email".into(), 2)],
        redacted: 2,
        policy: "sha256:0f343b0931126a20f133d67c2b018a3b".into(),
        route: vec![
            step("local/small", false, "capability: its context holds 8192 tokens, 9000 needed"),
            step("far/large", false, "health: its breaker is open for 12 s more"),
            step("near/medium", true, "the cheapest of those allowed: 1500 micro-dollars at most"),
        ],
        provider: "near".into(),
        model: "medium-2026-10-01".into(),
        hosts: vec!["api.near.example".into()],
        bytes_out: 4096,
        tries: 1,
        usage: Usage { prompt_tokens: 900, completion_tokens: 100, ..Usage::default() },
        cost: Cost { micros: Some(cost), price: "2026-11-22".into(), estimated: false },
        charges: Some(vec![charge]),
        instead_micros: Some(cost * 10),
        timings: Timings { total: Duration::from_millis(1200), ..Timings::default() },
        end: End::Stop,
    }
}

pub(crate) fn open(place: &Place) -> Ledger {
    Ledger::open(place, &Options::default()).expect("opens")
}

pub(crate) fn reader(place: &Place) -> Reader {
    Reader::open(place, &Options::default()).expect("is read")
}

pub(crate) fn all(place: &Place) -> Vec<Stored> {
    let mut reader = reader(place);
    reader.entries(0, u64::MAX).map(|stored| stored.expect("is read")).collect()
}

pub(crate) fn is_whole(place: &Place) -> bool {
    matches!(reader(place).verify(None).expect("is read"), Verdict::Whole(_))
}
