//! Reservations: each step by itself, and whole lives of them with crashes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Account, Amount, Claim, Limit, Lost, Open, Refusal, State};
use crate::budget::{Period, Window};

const DAY_MS: u64 = 86_400_000;

fn amount(micros: u64, tokens: u64) -> Amount {
    Amount { micros, tokens }
}

fn account(name: &str, at_ms: u64) -> Account {
    Account { name: name.into(), window: Period::Day.window(at_ms) }
}

fn claim(name: &str, at_ms: u64, micros: Option<u64>, tokens: Option<u64>) -> Claim {
    Claim { account: account(name, at_ms), limit: Limit { micros, tokens } }
}

#[test]
fn a_reservation_is_within_every_limit_or_is_not() {
    let check = |claims: &[Claim], take: Amount, refused: Option<&str>| {
        let mut state = State::default();
        state.reserve("before", amount(60, 6), &[claim("a", 5, None, None)], 5).expect("no limit");
        let before = state.clone();
        let result = state.reserve("it", take, claims, 5);
        match (result, refused) {
            (Ok(()), None) => assert_eq!(state.open().count(), 2),
            (Err(error), Some(why)) => {
                assert!(error.to_string().contains(why), "{error}");
                assert_eq!(state, before, "a refusal changes nothing");
            }
            (result, _) => panic!("{claims:?} {take:?}: {result:?}, not {refused:?}"),
        }
    };
    let money = |name, most| claim(name, 5, Some(most), None);
    let tokens = |name, most| claim(name, 5, None, Some(most));
    check(&[money("a", 100)], amount(40, 0), None);
    check(&[money("a", 100)], amount(41, 0), Some("over budget a: $0.00006 of $0.0001 are spent"));
    check(&[tokens("a", 10)], amount(0, 4), None);
    check(&[tokens("a", 10)], amount(0, 5), Some("6 of 10 tokens are spent or held"));
    check(&[money("b", 100), money("a", 100)], amount(41, 0), Some("over budget a"));
    check(&[money("b", 100), money("a", 1_000)], amount(100, 99), None);
    check(&[money("b", 100)], amount(u64::MAX, 0), Some("over budget b"));
    check(&[money("b", u64::MAX)], amount(u64::MAX, 0), None);
    // The least limit counts where an account comes twice.
    check(&[money("b", 9), money("b", 3)], amount(4, 0), Some("over budget b"));
    check(&[money("b", 3), money("b", 9)], amount(4, 0), Some("over budget b"));
    check(&[], amount(9, 9), None);
    // Neither yesterday's account nor tomorrow's.
    check(&[claim("a", DAY_MS, None, None)], amount(0, 0), Some("the time of budget a is over"));
}

#[test]
fn what_is_not_open_cannot_end() {
    let mut state = State::default();
    let claims = [claim("a", 5, Some(100), None)];
    let gone = |result: Result<(), Refusal>| {
        assert_eq!(result, Err(Refusal::NotOpen("it".into())));
    };
    gone(state.sent("it"));
    gone(state.release("it"));
    state.reserve("it", amount(10, 1), &claims, 5).expect("room");
    let twice = state.reserve("it", amount(10, 1), &claims, 5);
    assert_eq!(twice, Err(Refusal::Twice("it".into())));
    let settled = state.settle("it", Some(amount(3, 1))).expect("it is open");
    assert_eq!((settled.charged, settled.beyond), (amount(3, 1), amount(0, 0)));
    gone(state.settle("it", None).map(drop));
    gone(state.release("it"));
    let standing = state.standing(&claims[0].account);
    assert_eq!((standing.spent, standing.reserved), (amount(3, 1), amount(0, 0)));
}

#[test]
fn a_settlement_is_at_most_what_was_held() {
    let check = |took, charged, beyond| {
        let mut state = State::default();
        let claims = [claim("a", 5, Some(100), None)];
        state.reserve("it", amount(100, 50), &claims, 5).expect("room");
        let settled = state.settle("it", took).expect("it is open");
        assert_eq!((settled.charged, settled.beyond), (charged, beyond), "{took:?}");
        assert_eq!(state.standing(&claims[0].account).spent, charged);
    };
    check(Some(amount(7, 5)), amount(7, 5), amount(0, 0));
    check(Some(amount(100, 50)), amount(100, 50), amount(0, 0));
    check(Some(amount(101, 50)), amount(100, 50), amount(1, 0));
    check(Some(amount(u64::MAX, u64::MAX)), amount(100, 50), amount(u64::MAX - 100, u64::MAX - 50));
    check(None, amount(100, 50), amount(0, 0));
}

#[test]
fn a_new_day_is_a_new_account() {
    let mut state = State::default();
    let today = [claim("a", 5, Some(10), None)];
    let tomorrow = [claim("a", DAY_MS + 5, Some(10), None)];
    state.reserve("late", amount(10, 0), &today, DAY_MS - 1).expect("room");
    state.reserve("early", amount(10, 0), &tomorrow, DAY_MS).expect("a day of its own");
    // What was begun yesterday is charged to yesterday, which stays for as long.
    assert_eq!(state.accounts().count(), 2);
    state.settle("late", Some(amount(9, 0))).expect("it is open");
    assert_eq!(state.standing(&tomorrow[0].account).spent, amount(0, 0));
    state.reserve("next", amount(0, 0), &tomorrow, DAY_MS + 1).expect("room");
    assert_eq!(state.accounts().count(), 1, "yesterday is gone");
    // A clock that goes back does not bring it back, empty.
    let stale = state.reserve("back", amount(10, 0), &today, DAY_MS - 1);
    assert_eq!(stale, Err(Refusal::Stale("a".into())));
}

#[test]
fn the_dead_are_charged_at_their_worst_where_they_may_have_left() {
    let held = account("a", 5);
    let open = |sent| Open { at_ms: 5, sent, amount: amount(40, 4), accounts: vec![held.clone()] };
    let all = [("unsent", open(false)), ("sent", open(true)), ("in the ledger", open(true))];
    let all = all.map(|(id, open)| (id.to_owned(), open));
    let spent = [(held.clone(), amount(7, 1)), (held.clone(), amount(1, 1))];
    let (state, lost) = State::recover(spent, all, |id| id == "in the ledger");
    let told: Vec<_> = lost.iter().map(|lost| (lost.id.as_str(), lost.charged)).collect();
    assert_eq!(told, [("unsent", amount(0, 0)), ("sent", amount(40, 4))]);
    let standing = state.standing(&held);
    assert_eq!((standing.spent, standing.reserved), (amount(48, 6), amount(0, 0)));

    // While others live: what is older than any call gets.
    let mut state = State::default();
    let claims = [claim("a", 5, Some(100), None)];
    for (id, at_ms) in [("a", 5), ("b", 6), ("c", 7)] {
        state.reserve(id, amount(10, 1), &claims, at_ms).expect("room");
    }
    state.sent("b").expect("it is open");
    let told = state.expire(7);
    let told: Vec<_> = told.iter().map(|lost| (lost.id.as_str(), lost.charged)).collect();
    assert_eq!(told, [("a", amount(0, 0)), ("b", amount(10, 1))]);
    let standing = state.standing(&held);
    assert_eq!((standing.spent, standing.reserved), (amount(10, 1), amount(10, 1)));
    assert_eq!(state.sent("a"), Err(Refusal::NotOpen("a".into())), "nothing may be sent for it");
}

#[test]
fn reservations_and_accounts_are_bounded() {
    let mut state = State::default();
    for call in 0..super::OPEN_MAX {
        state.reserve(&call.to_string(), amount(0, 0), &[], 5).expect("room");
    }
    assert_eq!(state.reserve("one more", amount(0, 0), &[], 5), Err(Refusal::Full));
    let claims: Vec<Claim> =
        (0..=super::ACCOUNTS_MAX).map(|it| claim(&it.to_string(), 5, None, None)).collect();
    let mut state = State::default();
    assert_eq!(state.reserve("it", amount(0, 0), &claims, 5), Err(Refusal::Full));
    state.reserve("it", amount(0, 0), &claims[1..], 5).expect("as many as there may be");
}

/// What happens in a life of budgets. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Act {
    /// A call, or one more try of one, takes up to so much in accounts by this mask.
    Reserve { mask: u8, micros: u64, tokens: u64 },
    /// Its first byte leaves.
    Send(usize),
    /// It ends, having told of so many thousandths of its worst case, or of nothing (a stream that
    /// was cut); its entry is in the ledger before it is settled.
    End { which: usize, thousandths: Option<u64> },
    /// It failed and was charged nothing.
    Fail(usize),
    /// It writes its entry and the process dies before it settles.
    EndAndCrash { which: usize, thousandths: u64 },
    /// The process dies.
    Crash,
    /// Calls that are older than this many milliseconds are given up.
    Expire(u64),
    /// Time goes on.
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (any::<u8>(), 0_u64..4_000, 0_u64..400)
            .prop_map(|(mask, micros, tokens)| Act::Reserve { mask, micros, tokens }),
        6 => any::<usize>().prop_map(Act::Send),
        5 => (any::<usize>(), prop::option::of(0_u64..2_000))
            .prop_map(|(which, thousandths)| Act::End { which, thousandths }),
        2 => any::<usize>().prop_map(Act::Fail),
        1 => (any::<usize>(), 0_u64..2_000)
            .prop_map(|(which, thousandths)| Act::EndAndCrash { which, thousandths }),
        1 => Just(Act::Crash),
        1 => (0_u64..DAY_MS).prop_map(Act::Expire),
        3 => (0_u64..DAY_MS / 3).prop_map(Act::Wait),
    ]
}

/// Names, periods and limits of the accounts of a life.
const BUDGETS: [(&str, Period, Limit); 4] = [
    ("all", Period::Forever, Limit { micros: Some(60_000), tokens: None }),
    ("key", Period::Day, Limit { micros: Some(9_000), tokens: Some(900) }),
    ("team", Period::Month, Limit { micros: None, tokens: Some(2_500) }),
    ("model", Period::Day, Limit { micros: Some(7_000), tokens: None }),
];

/// A life: the state, what a disk has of it, and a ledger.
#[derive(Default)]
struct Life {
    state: State,
    now_ms: u64,
    calls: usize,
    /// Each entry once: id, what it cost, where.
    ledger: BTreeMap<String, (Amount, Vec<Account>)>,
}

impl Life {
    fn pick(&self, which: usize) -> Option<(String, Open)> {
        let open: Vec<_> = self.state.open().collect();
        let (id, open) = *open.get(which.checked_rem(open.len())?)?;
        Some((id.clone(), open.clone()))
    }

    fn write(&mut self, id: String, cost: Amount, accounts: Vec<Account>) {
        let before = self.ledger.insert(id, (cost, accounts));
        assert!(before.is_none(), "each call has one entry");
    }

    fn lost(&mut self, lost: Vec<Lost>) {
        for Lost { id, charged, accounts } in lost {
            self.write(id, charged, accounts);
        }
    }

    /// All that is left is on the disk: the ledger and what is held.
    fn crash(&mut self) {
        let held: Vec<(String, Open)> =
            self.state.open().map(|(id, open)| (id.clone(), open.clone())).collect();
        let spent = self.ledger.values();
        let spent = spent.flat_map(|(cost, all)| all.iter().map(|it| (it.clone(), *cost)));
        let (state, lost) = State::recover(spent, held, |id| self.ledger.contains_key(id));
        self.state = state;
        self.lost(lost);
    }

    fn end(&mut self, which: usize, thousandths: Option<u64>, settle: bool) {
        let Some((id, open)) = self.pick(which) else { return };
        // Whoever writes the entry knows what can be charged.
        let share = |of: u64| thousandths.map_or(of, |share| of * share / 1_000);
        let took = amount(share(open.amount.micros), share(open.amount.tokens));
        let cost = amount(took.micros.min(open.amount.micros), took.tokens.min(open.amount.tokens));
        self.write(id.clone(), cost, open.accounts);
        if settle {
            let settled = self.state.settle(&id, thousandths.map(|_| took)).expect("it is open");
            assert_eq!(settled.charged, cost);
        }
    }

    fn live(&mut self, act: Act) {
        match act {
            Act::Reserve { mask, micros, tokens } => {
                self.calls += 1;
                let some = BUDGETS.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
                let claims: Vec<Claim> = some
                    .map(|(_, (name, period, limit))| Claim {
                        account: Account {
                            name: (*name).into(),
                            window: period.window(self.now_ms),
                        },
                        limit: *limit,
                    })
                    .collect();
                let id = self.calls.to_string();
                let before = self.state.clone();
                let result = self.state.reserve(&id, amount(micros, tokens), &claims, self.now_ms);
                if result.is_err() {
                    assert_eq!(self.state.open, before.open, "a refusal takes nothing");
                }
            }
            Act::Send(which) => {
                let Some((id, _)) = self.pick(which) else { return };
                self.state.sent(&id).expect("it is open");
            }
            Act::End { which, thousandths } => self.end(which, thousandths, true),
            Act::Fail(which) => {
                let Some((id, open)) = self.pick(which) else { return };
                self.write(id.clone(), Amount::default(), open.accounts);
                self.state.release(&id).expect("it is open");
            }
            Act::EndAndCrash { which, thousandths } => {
                self.end(which, Some(thousandths), false);
                self.crash();
            }
            Act::Crash => self.crash(),
            Act::Expire(age_ms) => {
                let lost = self.state.expire(self.now_ms.saturating_sub(age_ms));
                self.lost(lost);
            }
            Act::Wait(ms) => self.now_ms += ms,
        }
    }

    /// Nothing is over a limit, and the accounts are what ledger and reservations add up to.
    fn holds(&self) {
        let mut sums: BTreeMap<Account, (Amount, Amount, u32)> = BTreeMap::new();
        for (cost, accounts) in self.ledger.values() {
            for account in accounts {
                let sum = sums.entry(account.clone()).or_default();
                sum.0 = amount(sum.0.micros + cost.micros, sum.0.tokens + cost.tokens);
            }
        }
        for (_, open) in self.state.open() {
            for account in &open.accounts {
                let sum = sums.entry(account.clone()).or_default();
                let held = open.amount;
                sum.1 = amount(sum.1.micros + held.micros, sum.1.tokens + held.tokens);
                sum.2 += 1;
            }
        }
        for (account, (spent, reserved, calls)) in &sums {
            let (_, _, limit) =
                BUDGETS.iter().find(|row| row.0 == account.name).expect("a budget of this life");
            let within = |most: Option<u64>, sum: u64| most.is_none_or(|most| sum <= most);
            assert!(within(limit.micros, spent.micros + reserved.micros), "{account:?} {sums:?}");
            assert!(within(limit.tokens, spent.tokens + reserved.tokens), "{account:?} {sums:?}");
            let standing = self.state.standing(account);
            let kept = self.state.accounts().any(|(it, _)| it == account);
            let over = |window: Window| window.end_ms <= self.now_ms && *calls == 0;
            assert!(kept || over(account.window), "{account:?} is gone too soon");
            if kept {
                let all = (standing.spent, standing.reserved, standing.calls);
                assert_eq!(all, (*spent, *reserved, *calls), "{account:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_budget_is_exceeded_and_sums_agree(
        acts in prop::collection::vec(act(), 1..120),
    ) {
        let mut life = Life::default();
        for act in acts {
            life.live(act);
            life.holds();
        }
        life.crash();
        life.holds();
        assert_eq!(life.state.open().count(), 0, "after a recovery nothing is held");
    }
}

#[test]
fn lives_are_full_of_refusals_and_of_calls() {
    // That the property above says something: in one such life both happen often.
    let mut life = Life::default();
    for round in 0..200 {
        life.live(Act::Reserve { mask: 0b0011, micros: 700, tokens: 30 });
        life.live(Act::Send(round));
        life.live(Act::End { which: round, thousandths: Some(900) });
        life.live(Act::Wait(3_600_000));
        life.holds();
    }
    let taken = life.ledger.len();
    assert!(taken > 50 && taken < 150, "{taken} of 200");
}
