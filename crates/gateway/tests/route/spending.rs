//! What is held, what is spent, and what happens where others were quicker.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use ingle_gateway::Provider;
use ingle_gateway::budget::{Amount, Claim, Memory, Refusal};
use ingle_protocol::{Blame, End, Event, Fault, Finish, Retry, Sink};
use tokio::sync::mpsc;

use crate::calls::{POLICY, asks};
use crate::house::{House, Say};
use crate::upstream::{Act, React, head, status};

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
        // Where there is no room for the next, the book is told what the first took, and it is
        // looked once more.
        let (asked, told) = match expect {
            "b/m" => ("a b", (Some(spent.micros - GOOD.micros + worst), 1)),
            _ => ("a", (Some(spent.micros), 0)),
        };
        assert_eq!(house.asked(), asked);
        let amended = house.notes.amended.lock().expect("no panic").clone();
        let costs: Vec<_> = amended.iter().map(|(it, held)| (it.cost.micros, held.len())).collect();
        assert_eq!(costs, [told]);
    }
}

/// The policy with a third provider, and these candidates.
fn chain(candidates: &str) -> String {
    let policy = budget("scope = \"all\"\nusd = 1\n")
        .replace("[\"a/m\", \"b/m\", \"local/small\"]", candidates)
        .replace("providers = [\"a\", \"b\"]", "providers = [\"a\", \"b\", \"c\"]");
    format!(
        "{policy}[providers.c]\nkind = \"compatible\"\nurl = \"https://c/v1\"\nretries = 0\n\
         [prices.\"c/m\"]\ninput_per_million = 1\noutput_per_million = 1\n"
    )
}

/// What a try takes whose answer is cut.
async fn cut_micros() -> u64 {
    let house = House::new(&chain("[\"a/m\"]"));
    house.stage.script("a", [cut()]);
    let said = house.ask(asks("chain")).await;
    assert_eq!(said.by(), "Provider Elsewhere");
    said.entry.cost.micros.filter(|micros| *micros > 0).expect("it has a price")
}

/// This machine does not answer.
fn not_here() -> Say {
    Say::Fail(Fault { blame: Blame::Provider, retry: Retry::Elsewhere, ..Fault::caller("no") })
}

#[tokio::test(start_paused = true)]
async fn what_is_announced_is_exact_for_who_is_asked() {
    let (worst, cut_micros) = (worst(), cut_micros().await);
    let failed = || status(500, "", "{}");
    // Who was announced, and how many tries were cut before.
    let check = async |candidates: &str, script: &[(&str, React)], expect: &[(&str, u64)]| {
        let house = House::new(&chain(candidates));
        for (host, reaction) in script {
            house.stage.script(host, [reaction.clone()]);
        }
        house.here.script.lock().expect("no panic").push_back(not_here());
        let said = house.ask(asks("chain")).await;
        let begun = house.notes.begun.lock().expect("no panic").clone();
        assert_eq!(begun.len(), 1, "a call is announced once: {begun:?}");
        let amended = house.notes.amended.lock().expect("no panic").clone();
        let told: Vec<_> = begun.into_iter().chain(amended).collect();
        let costs: Vec<_> = told.iter().map(|(it, _)| (&*it.provider, it.cost.micros)).collect();
        let rows = expect.iter().map(|row| (row.0, Some(row.1 * cut_micros + worst)));
        let rows: Vec<_> = rows.collect();
        assert_eq!(costs, rows, "{candidates} {script:?}");
        for (entry, held) in &told {
            let all = ("all".to_owned(), Amount { micros: worst, ..held[0].1 });
            assert_eq!((held.as_slice(), entry.instead_micros), (&[all][..], None));
        }
        let (spent, held) = house.spent("all");
        assert_eq!((Some(spent.micros), held), (said.entry.cost.micros, NOTHING));
        assert!(told.last().is_some_and(|(last, _)| last.cost.micros >= said.entry.cost.micros));
    };
    let three = "[\"a/m\", \"b/m\", \"c/m\"]";
    check(three, &[], &[("a", 0)]).await;
    check(three, &[("a", cut())], &[("a", 0), ("b", 1)]).await;
    check(three, &[("a", failed())], &[("a", 0), ("b", 0)]).await;
    check(three, &[("a", cut()), ("b", cut())], &[("a", 0), ("b", 1), ("c", 2)]).await;
    check(three, &[("a", failed()), ("b", cut())], &[("a", 0), ("b", 0), ("c", 1)]).await;
    let all = [("a", cut()), ("b", cut()), ("c", cut())];
    check(three, &all, &[("a", 0), ("b", 1), ("c", 2)]).await;
    // What is computed here is not announced, and changes nothing that was.
    check("[\"local/small\", \"a/m\"]", &[], &[("a", 0)]).await;
    let between = "[\"a/m\", \"local/small\", \"b/m\"]";
    check(between, &[("a", cut())], &[("a", 0), ("b", 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_cost_that_is_not_known_is_announced_as_that() {
    let check = async |candidates: &str, expect: &[(&str, bool)]| {
        let policy = chain(candidates).replace("usd = 1", "tokens = 100000");
        let house = House::new(&policy);
        house.stage.script("a", [cut()]);
        house.ask(asks("chain")).await;
        let begun = house.notes.begun.lock().expect("no panic").clone();
        let amended = house.notes.amended.lock().expect("no panic").clone();
        let told = begun.iter().chain(&amended);
        let told: Vec<_> =
            told.map(|(it, _)| (it.provider.as_str(), it.cost.micros.is_some())).collect();
        assert_eq!(told, expect, "{candidates}");
        assert_eq!(house.spent("all").1, NOTHING);
    };
    check("[\"a/m\", \"b/unpriced\"]", &[("a", true), ("b", false)]).await;
    check("[\"a/unpriced\", \"b/m\"]", &[("a", false), ("b", false)]).await;
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_announced_is_not_asked() {
    let cut_micros = cut_micros().await;
    let check = async |candidates: &str, refuses: (usize, usize), by: &str, log: &str| {
        let house = House::new(&chain(candidates));
        house.stage.script("a", [cut()]);
        *house.notes.refuses.lock().expect("no panic") = refuses;
        let said = house.ask(asks("chain")).await;
        assert_eq!((said.by().as_str(), house.asked().as_str()), (by, log), "{candidates}");
        let (spent, held) = house.spent("all");
        assert_eq!((Some(spent.micros), held), (said.entry.cost.micros, NOTHING), "{candidates}");
        let least = if log.starts_with('a') { cut_micros } else { 0 };
        assert!(spent.micros >= least, "what it took so far is in its end: {spent:?}");
        let ended = house.notes.ended.lock().expect("no panic").len();
        assert_eq!(ended, 1, "its end is told of, whatever was not");
    };
    let three = "[\"a/m\", \"b/m\", \"c/m\"]";
    check(three, (0, 1), "c/m", "a c").await;
    check(three, (0, 2), "Us Elsewhere", "a").await;
    check("[\"a/m\", \"b/m\", \"local/small\"]", (0, 1), "local/small", "a").await;
    // What was never announced cannot be announced anew: nobody is asked.
    check(three, (1, 0), "Us Elsewhere", "").await;
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_meanwhile_has_nobody_else_asked() {
    let (worst, cut_micros) = (worst(), cut_micros().await);
    let house = House::new(&chain("[\"a/m\", \"b/m\"]"));
    house.stage.script("a", [cut()]);
    *house.notes.waiting.lock().expect("no panic") = Some(Vec::new());
    let (tell, mut told) = mpsc::channel(16);
    let sink: Sink = Box::new(move |event| {
        tell.try_send(event).expect("there is room, and somebody listens");
        ControlFlow::Continue(())
    });
    let call = house.gateway.send(asks("chain"), sink).expect("it is begun");
    let next = || house.notes.waiting.lock().expect("no panic").as_mut().and_then(Vec::pop);
    let kept = loop {
        match next() {
            Some(kept) => break kept,
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    let (spent, held) = house.spent("all");
    assert_eq!((spent.micros, held.micros), (cut_micros, worst), "it is held for before");
    drop(call);
    kept(Ok(()));
    let end = told.recv().await.expect("the end is told");
    let Event::Done(receipt) = end else { panic!("nothing failed: {end:?}") };
    assert_eq!((receipt.finish, receipt.cost_micros), (Finish::Cancelled, cut_micros));
    assert_eq!(house.asked(), "a");
    let (spent, held) = house.spent("all");
    assert_eq!((spent.micros, held), (cut_micros, NOTHING));
    let ended = house.notes.ended.lock().expect("no panic").clone();
    assert_eq!((ended.len(), ended[0].end), (1, End::Cancelled));
    assert_eq!(ended[0].cost.micros, Some(cut_micros));
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

/// Neither what tells of an answer's end nor what tells of the book may wait for a database.
#[tokio::test(start_paused = true)]
async fn a_store_that_waits_is_told_on_threads_that_may() {
    let check = async |model: &str, script: &[(&str, React)], by: &str, count: usize| {
        let house = House::new(&budget("scope = \"all\"\ntokens = 1000000\nlocal = true"));
        house.store.waits.store(true, Ordering::SeqCst);
        for (host, reaction) in script {
            house.stage.script(host, [reaction.clone()]);
        }
        let said = house.ask(asks(model)).await;
        assert_eq!(said.by(), by, "{model}");
        assert_eq!(house.spent("all").1, NOTHING, "{model}");
        let threads = house.store.threads.lock().expect("no panic").clone();
        assert_eq!(threads.len(), count, "{model}: each try is sent and settled");
        let here = thread::current().id();
        assert!(threads.iter().all(|it| *it != here), "{model}: the runtime's thread waited");
    };
    check("far", &[], "a/m", 2).await;
    check("chain", &[("a", cut())], "b/m", 4).await;
    check("near", &[], "local/small", 1).await;
    check("chain", &[("a", cut()), ("b", cut())], "local/small", 5).await;
}

/// Nothing of where budgets are kept is a caller's to know.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_told_of_as_that() {
    let broken = || Refusal::Broken("redis://inner.example:6379/0 does not answer".to_owned());
    let rows = [
        ("standings", broken()),
        ("reserve", broken()),
        ("reserve", Refusal::Full),
        ("sent", broken()),
    ];
    for (what, how) in rows {
        let house = House::new(&budget("scope = \"all\"\nusd = 1"));
        *house.store.fails.lock().expect("no panic") = Some((what, how));
        let said = house.ask(asks("far")).await;
        assert_eq!(
            (said.by().as_str(), house.asked().as_str()),
            ("Us WhenReady(1s)", ""),
            "{what}"
        );
        let fault = said.end.expect_err("nobody answered");
        assert!(fault.message.contains("finds why in its log"), "{what}: {fault}");
        assert!(!fault.message.contains("inner"), "{what}: {fault}");
        assert_eq!(house.spent("all"), (NOTHING, NOTHING), "{what}");
    }
}
