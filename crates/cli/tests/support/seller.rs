//! Another server whose answers have prices that tell them apart: what it does with a request
//! stands in the request. What it is made of is within it, since the program's own tests take this
//! file alone.
#![allow(dead_code, reason = "each test uses a part of it")]

#[path = "answers.rs"]
pub(crate) mod answers;
#[path = "upstream.rs"]
pub(crate) mod upstream;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use answers::Good;
use upstream::{Asked, Way};

/// What it does with a request stands in its last message: a word and a number. The number says
/// what it reports as used, so that no two calls cost the same.
pub(crate) struct Upstream {
    /// With the path of its protocol.
    pub(crate) url: String,
}

/// What a call of this number takes: prompt and completion, in tokens.
fn used(number: u64) -> (u64, u64) {
    (1 + number % 10, 1 + number / 10)
}

/// Its price: one for each token of its prompt, ten for each of its answer.
pub(crate) fn price(number: u64) -> u64 {
    let (prompt, completion) = used(number);
    prompt + 10 * completion
}

impl Upstream {
    /// One that runs for as long as the test does.
    pub(crate) fn start() -> Self {
        Self::gated(Arc::default())
    }

    /// The same; who says `long` gets the rest once nobody else holds the gate.
    pub(crate) fn gated(gate: Arc<Mutex<()>>) -> Self {
        let seen = Mutex::<BTreeMap<u64, u32>>::default();
        let script = move |asked: &Asked, _: usize| sell(asked, &seen, &gate);
        Self { url: format!("{}/v1", upstream::Upstream::start(script).url) }
    }
}

/// How often a request of that word is begun to be answered and dropped, so that it may be charged.
const DROPS: [(&str, u32); 3] = [("drop", 1), ("drops", 2), ("never", u32::MAX)];

/// What becomes of a request; how often each number came is in `seen`.
fn sell(asked: &Asked, seen: &Mutex<BTreeMap<u64, u32>>, gate: &Arc<Mutex<()>>) -> Way {
    let (what, number) = asked.last().split_once(' ').expect("a word and a number");
    let number: u64 = number.parse().expect("a number");
    let before = {
        let mut seen = seen.lock().expect("no panic");
        let times = seen.entry(number).or_default();
        *times += 1;
        *times - 1
    };
    let drops = DROPS.iter().any(|(word, times)| *word == what && before < *times);
    let good = Good::new("we", used(number));
    match what {
        "fail" => Way::Status("500 No", ""),
        "flaky" if before == 0 => Way::Status("500 No", ""),
        _ if asked.body["stream"] != true => Way::Well(good),
        _ if drops => Way::Short(good, 0),
        "cut" => Way::Short(good, 1),
        "endless" => Way::Silent(good, 1),
        "long" => Way::Held(good, Arc::clone(gate)),
        // Who asked has time to leave.
        _ => Way::Slow(good, Duration::from_millis(20)),
    }
}
