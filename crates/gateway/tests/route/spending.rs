//! What is held, what is spent, and what happens where others were quicker.

use ingle_gateway::budget::{Amount, Claim, Memory};

use crate::calls::{POLICY, asks};
use crate::house::House;
use crate::upstream::{Act, React, end, finish, head, piece, status};

/// What a good answer takes: 7 tokens of a prompt and 3 of an answer, at a micro-dollar each.
const GOOD: Amount = Amount { micros: 10, tokens: 10 };
const NOTHING: Amount = Amount { micros: 0, tokens: 0 };

/// Somebody else takes so much of each account, for good.
fn takes(micros: u64) -> impl FnOnce(&Memory, &[Claim], u64) + Send + 'static {
    use ingle_gateway::budget::Store;
    move |memory, claims, now_ms| {
        let amount = Amount { micros, tokens: 0 };
        memory.reserve("thief", amount, claims, now_ms).expect("there is room");
        memory.settle("thief", None).expect("it is open");
    }
}

fn budget(rest: &str) -> String {
    format!("{POLICY}[budgets.all]\nper = \"forever\"\n{rest}")
}

/// An answer that is cut before anything of it was told, and may be charged.
fn cut() -> React {
    React::Do(vec![head(), Act::Close])
}

/// What `asks` takes at worst at either provider, as the decision has it.
fn worst() -> u64 {
    let house = House::new(&budget("scope = \"all\"\nusd = 1"));
    let decision = house.gateway.explain(&asks("far")).expect("it is decided");
    decision.outcome.expect("it may go")[0].hold().micros
}

#[tokio::test(start_paused = true)]
async fn a_cost_that_is_not_known_charges_the_tokens_that_it_took() {
    let house = House::new(&budget("scope = \"all\"\ntokens = 100000"));
    let said = house.ask(asks("a/unpriced")).await;
    assert_eq!((said.text.as_str(), said.entry.cost.micros), ("one two three", None));
    assert_eq!(house.spent("all"), (Amount { micros: 0, tokens: 10 }, NOTHING));
}

#[tokio::test(start_paused = true)]
async fn who_comes_too_late_for_a_budget_gets_what_the_decision_would_say() {
    let check = async |model: &str, rest: &str, name: &str, expect: &str, log: &str| {
        let house = House::new(&budget(rest));
        house.before(takes(1_000_000));
        let said = house.ask(asks(model)).await;
        assert_eq!((said.by().as_str(), house.asked().as_str()), (expect, log), "{rest}");
        let here = house.here.seen.lock().expect("no panic").len();
        assert_eq!(here, usize::from(expect.starts_with("local/")), "{rest}");
        let (spent, held) = house.spent(name);
        assert_eq!((spent.micros, held), (1_000_000, NOTHING), "{rest}");
    };
    let refuse = "scope = \"all\"\nusd = 1";
    check("one", refuse, "all", "Budget Never", "").await;
    check("chain", refuse, "all", "Budget Never", "").await;
    check("far", refuse, "all", "Budget Never", "").await;
    check("chain", &format!("{refuse}\nover = \"local\""), "all", "local/small", "").await;
    check("one", &format!("{refuse}\nover = \"local\""), "all", "local/small", "").await;
    // One model's budget leaves the next to be asked, and nothing here.
    let of = "scope = \"model\"\nof = [\"a/*\"]\nusd = 1";
    check("chain", of, "all:a/m", "b/m", "b").await;
    check("one", of, "all:a/m", "Budget Never", "").await;
}

#[tokio::test(start_paused = true)]
async fn one_candidate_is_held_for_at_a_time() {
    let worst = worst();
    let most = |micros: u64| format!("scope = \"all\"\nusd = \"{}\"", micros as f64 / 1e6);
    // Room for one of them is room for any number, one after another, where who fails is free.
    let house = House::new(&budget(&most(worst)));
    house.stage.script("a", [status(500, "", "{}")]);
    let said = house.ask(asks("chain")).await;
    assert_eq!((said.by().as_str(), said.entry.cost.micros), ("b/m", Some(10)));
    assert_eq!(house.spent("all"), (GOOD, NOTHING));
    // What a failed one may be charged for is spent, and the next has to fit beside it.
    for (more, expect) in [(1_000, "b/m"), (0, "Budget Never")] {
        let house = House::new(&budget(&most(worst + more)));
        house.stage.script("a", [cut()]);
        let said = house.ask(asks("chain")).await;
        assert_eq!(said.by(), expect);
        let (spent, held) = house.spent("all");
        assert_eq!((Some(spent.micros), held), (said.entry.cost.micros, NOTHING));
        assert!(spent.micros > 0 && spent.micros <= worst + more, "{spent:?}");
        let asked = if expect == "b/m" { "a b" } else { "a" };
        assert_eq!(house.asked(), asked);
    }
    // What was announced is never less than what it came to.
    let house = House::new(&budget(&most(10 * worst)));
    house.stage.script("a", [cut()]);
    house.stage.script("b", [React::Do(vec![head(), piece("b"), finish(), end()])]);
    let said = house.ask(asks("chain")).await;
    let begun = house.notes.begun.lock().expect("no panic").clone();
    assert_eq!(begun.len(), 1, "a call is announced once");
    assert!(begun[0].0.cost.micros >= said.entry.cost.micros, "{begun:?}");
    assert_eq!(begun[0].1, [("all".to_owned(), Amount { micros: 2 * worst, ..begun[0].1[0].1 })]);
}

/// Each try may be charged, so that there are as many as were held for, hedges among them.
#[tokio::test(start_paused = true)]
async fn it_is_tried_as_often_as_there_is_room_for() {
    let worst = worst();
    let check = async |policy: &str, room: u64, taken: u64, expect: (&str, u32)| {
        let rest = format!("scope = \"all\"\nusd = \"{}\"", room as f64 / 1e6);
        let house = House::new(&budget(&rest).replacen("retries = 0", policy, 1));
        if taken > 0 {
            house.before(takes(taken));
        }
        // The first two tries are cut, and may be charged.
        house.stage.script("a", [cut(), cut()]);
        let said = house.ask(asks("far")).await;
        let (by, tries) = expect;
        assert_eq!((said.by().as_str(), said.entry.tries), (by, tries), "{policy} {room} {taken}");
        let (spent, held) = house.spent("all");
        assert_eq!(Some(spent.micros), said.entry.cost.micros.map(|micros| micros + taken));
        assert!(spent.micros <= room && held == NOTHING, "{policy} {room}: {spent:?} {held:?}");
    };
    let failed = "Provider Elsewhere";
    check("retries = 2", 3 * worst, 0, ("a/m", 3)).await;
    check("retries = 2", 3 * worst - 1, 0, (failed, 2)).await;
    check("retries = 2", worst, 0, (failed, 1)).await;
    check("retries = 2", worst - 1, 0, ("Budget Never", 0)).await;
    // Somebody took so much that one is left.
    check("retries = 2", 4 * worst, 2 * worst + 1, (failed, 1)).await;
    // Each of its retries may have another beside it: two tries more than one, and a hedge.
    let hedged = "retries = 2\nhedge_after_ms = 1";
    check(hedged, 9 * worst, 0, ("a/m", 3)).await;
}

#[tokio::test(start_paused = true)]
async fn hedges_are_among_the_tries_that_are_held_for() {
    let policy = budget("scope = \"all\"\nusd = 1");
    let policy = policy.replacen("retries = 0", "retries = 2\nhedge_after_ms = 10", 1);
    let house = House::new(&policy);
    // Each try is cut after so long that another is asked beside it, as long as there may be one.
    let slow = || React::Do(vec![Act::Wait(30), head(), Act::Close]);
    house.stage.script("a", (0..9).map(|_| slow()));
    let said = house.ask(asks("far")).await;
    assert_eq!((said.by().as_str(), said.entry.tries), ("Provider Elsewhere", 4));
    let (spent, held) = house.spent("all");
    assert_eq!((Some(spent.micros), held), (said.entry.cost.micros, NOTHING));
}
