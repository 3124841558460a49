//! What a call counts as in budgets: while its process runs, and for one that comes after it and
//! has its entry alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ingle_gateway::budget::{Account, Amount, Standing, State, Store};
use ingle_gateway::policy::{Table, charged};
use ingle_protocol::{Charge, Entry};

use crate::calls::{POLICY, asks};
use crate::house::House;
use crate::upstream::{Act, React, end, head, part, piece, status};

/// Of money, of all that is bought; and of tokens, of each model, this machine's, too.
const BUDGETS: &str = "[budgets.all]\nscope = \"all\"\nper = \"day\"\nusd = 1\n\
                       [budgets.each]\nscope = \"model\"\nper = \"forever\"\ntokens = 1000000\n\
                       local = true\n";

fn house() -> House {
    House::new(&policy())
}

fn policy() -> String {
    format!("{POLICY}{BUDGETS}")
}

/// Where accounts stand, by name: those of which something was spent, and nothing is held of any.
fn stands(state: &State) -> Vec<(String, Amount)> {
    let row = |(account, standing): (&Account, &Standing)| {
        assert_eq!(standing.reserved, Amount::default(), "{account:?}");
        (account.name.clone(), standing.spent)
    };
    state.accounts().map(row).filter(|row| row.1 != Amount::default()).collect()
}

/// The same for a process that comes after, and has this entry.
fn after(entry: &Entry) -> Vec<(String, Amount)> {
    let table = Table::read("policy.toml", &policy()).expect("a policy");
    let spent = charged(&table, entry, entry.at_ms + 1);
    stands(&State::recover(spent, [], |_| false).0)
}

/// An answer whose provider says that it took so many tokens.
fn says(prompt: u32, completion: u32) -> React {
    let usage = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n\
         data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{prompt},\
         \"completion_tokens\":{completion}}}}}\n\ndata: [DONE]\n\n"
    );
    React::Do(vec![head(), piece("one"), part(usage), end()])
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_claims_beyond_what_was_held_stands_beside_it() {
    let check = async |prompt: u32, completion: u32| {
        let house = house();
        let decision = house.gateway.explain(&asks("far")).expect("it is decided");
        let hold = decision.outcome.expect("it may go")[0].hold();
        house.stage.script("a", [says(prompt, completion)]);
        let said = house.ask(asks("far")).await;
        let told = u64::from(prompt) + u64::from(completion);
        // Each token costs a micro-dollar.
        let (most, beyond) = (told.min(hold.tokens), told.saturating_sub(hold.tokens));
        let charge = Charge {
            provider: "a".into(),
            model: "m".into(),
            at_ms: said.entry.at_ms,
            micros: most,
            tokens: most,
            beyond_micros: beyond,
            beyond_tokens: beyond,
        };
        assert_eq!(said.entry.charges, Some(vec![charge]));
        assert_eq!((said.entry.cost.micros, said.entry.usage.total()), (Some(most), told));
        let charged = Amount { micros: most, tokens: most };
        assert_eq!(house.spent("all"), (charged, Amount::default()));
        let receipt = said.end.expect("it is answered");
        assert_eq!(receipt.cost_micros, most);
        let notes = receipt.notes.iter().filter(|note| note.contains("beyond")).count();
        assert_eq!(notes, usize::from(beyond > 0), "{:?}", receipt.notes);
    };
    check(7, 3).await;
    check(7, 4_000_000).await;
    check(4_000_000, 3).await;
}

/// An answer that is cut before anything of it was told, and may be charged.
fn cut() -> React {
    React::Do(vec![head(), Act::Close])
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_has_spent_what_was_spent() {
    let check = async |model: &str, script: &[(&str, React)], by: &str, of: &[&str]| {
        let house = house();
        for (host, reaction) in script {
            house.stage.script(host, [reaction.clone()]);
        }
        let said = house.ask(asks(model)).await;
        assert_eq!(said.by(), by, "{model} {script:?}");
        let live = stands(&house.store.memory.snapshot());
        assert_eq!(after(&said.entry), live, "{model} {script:?} {:?}", said.entry);
        let names: Vec<&str> = live.iter().map(|row| row.0.as_str()).collect();
        assert_eq!(names, of, "{model} {script:?}");
    };
    let failed = || status(500, "", "{}");
    check("chain", &[], "a/m", &["all", "each:a/m"]).await;
    // Each of those that are asked is charged for itself.
    check("chain", &[("a", cut())], "b/m", &["all", "each:a/m", "each:b/m"]).await;
    check("chain", &[("a", failed())], "b/m", &["all", "each:b/m"]).await;
    // What failed tries took is charged, too, where this machine answers at last, or nobody.
    let both = [("a", cut()), ("b", cut())];
    let all = ["all", "each:a/m", "each:b/m", "each:local/small"];
    check("chain", &both, "local/small", &all).await;
    check("far", &[("a", cut())], "Provider Elsewhere", &["all", "each:a/m"]).await;
    check("near", &[], "local/small", &["each:local/small"]).await;
    // Whatever is claimed.
    check("chain", &[("a", says(4_000_000, 9))], "a/m", &["all", "each:a/m"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_price_that_is_not_known_is_charged_in_tokens_after_all() {
    let policy = policy().replace("usd = 1", "tokens = 1000000");
    let house = House::new(&policy);
    let said = house.ask(asks("a/unpriced")).await;
    assert_eq!((said.by().as_str(), said.entry.cost.micros), ("a/unpriced", None));
    assert_eq!(after(&said.entry), stands(&house.store.memory.snapshot()));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_lost_counts_as_what_was_taken_and_held() {
    let house = house();
    let decision = house.gateway.explain(&asks("chain")).expect("it is decided");
    let hold = decision.outcome.expect("it may go")[0].hold();
    house.stage.script("a", [cut()]);
    let said = house.ask(asks("chain")).await;
    let first = said.entry.charges.iter().flatten().next().expect("it may be charged");
    let took = Amount { micros: first.micros, tokens: first.tokens };
    let both = Amount { micros: took.micros + hold.micros, tokens: took.tokens + hold.tokens };
    let row = |name: &str, amount: Amount| (name.to_owned(), amount);
    let begun = house.notes.begun.lock().expect("no panic")[0].0.clone();
    assert_eq!(after(&begun), [row("all", hold), row("each:a/m", hold)]);
    let amended = house.notes.amended.lock().expect("no panic")[0].0.clone();
    assert_eq!(after(&amended), [row("all", both), row("each:a/m", took), row("each:b/m", hold)]);
}

/// Midnight comes between the decision and the reservation: once the store says so, and once a
/// store whose clock goes ahead of ours does.
#[tokio::test(start_paused = true)]
async fn what_is_decided_before_midnight_is_charged_to_the_day_after() {
    const DAY: u64 = 86_400_000;
    for (forward, by) in [(DAY, "a/m"), (0, "Us WhenReady(1s)")] {
        let house = house();
        let later = Arc::clone(&house.later);
        house.before(move |memory, _, now_ms| {
            memory.reserve("clock", Amount::default(), &[], now_ms + DAY).expect("room");
            memory.release("clock").expect("it is open");
            later.store(forward, Ordering::SeqCst);
        });
        let said = house.ask(asks("far")).await;
        assert_eq!(said.by(), by);
        let Err(fault) = &said.end else {
            let table = Table::read("policy.toml", &policy()).expect("a policy");
            let spent = charged(&table, &said.entry, said.entry.at_ms + DAY + 1);
            let after = stands(&State::recover(spent, [], |_| false).0);
            assert_eq!(after, stands(&house.store.memory.snapshot()), "{:?}", said.entry);
            assert_eq!(after.len(), 2, "of the day, and for ever: {after:?}");
            continue;
        };
        assert!(fault.message.contains("finds why in its log"), "{fault}");
    }
}
