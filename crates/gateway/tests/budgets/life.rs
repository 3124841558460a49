//! Whole lives of reservations, by chance: a store answers each step as the state machine does, and
//! its accounts stand as there.

use ingle_gateway::budget::{Account, Claim, Limit, Period, State, Store};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::suite::{Make, amount};

const HOUR_MS: u64 = 3_600_000;

/// Names, periods and limits of the accounts of a life.
const BUDGETS: [(&str, Period, Limit); 4] = [
    ("all", Period::Forever, Limit { micros: Some(60_000), tokens: None }),
    ("key", Period::Day, Limit { micros: Some(9_000), tokens: Some(900) }),
    ("team", Period::Month, Limit { micros: None, tokens: Some(2_500) }),
    ("model", Period::Day, Limit { micros: Some(7_000), tokens: None }),
];

/// What happens. Numbers choose among what is open; where nothing is, what ended.
#[derive(Clone, Debug)]
enum Act {
    Reserve { mask: u8, micros: u64, tokens: u64 },
    Again(usize),
    Send(usize),
    Settle { which: usize, thousandths: Option<u64> },
    Release(usize),
    Expire(u64),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (any::<u8>(), 0_u64..4_000, 0_u64..400)
            .prop_map(|(mask, micros, tokens)| Act::Reserve { mask, micros, tokens }),
        1 => any::<usize>().prop_map(Act::Again),
        6 => any::<usize>().prop_map(Act::Send),
        5 => (any::<usize>(), prop::option::of(0_u64..2_000))
            .prop_map(|(which, thousandths)| Act::Settle { which, thousandths }),
        2 => any::<usize>().prop_map(Act::Release),
        1 => (0_u64..24 * HOUR_MS).prop_map(Act::Expire),
        3 => (0_u64..8 * HOUR_MS).prop_map(Act::Wait),
    ]
}

struct Life<'a> {
    store: &'a dyn Store,
    state: State,
    now_ms: u64,
    calls: usize,
}

impl Life<'_> {
    fn pick(&self, which: usize) -> String {
        let open: Vec<&String> = self.state.open().map(|it| it.0).collect();
        let chosen = which.checked_rem(open.len()).map(|at| open[at].clone());
        chosen.unwrap_or_else(|| self.calls.to_string())
    }

    fn claims(&self, mask: u8) -> Vec<Claim> {
        let some = BUDGETS.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
        let claim = |(_, (name, period, limit)): (usize, &(&str, Period, Limit))| Claim {
            account: Account { name: (*name).into(), window: period.window(self.now_ms) },
            limit: *limit,
        };
        some.map(claim).collect()
    }

    /// Does it here and there.
    fn live(&mut self, act: Act) {
        let now_ms = self.now_ms;
        match act {
            Act::Reserve { mask, micros, tokens } => {
                self.calls += 1;
                let (id, claims) = (self.calls.to_string(), self.claims(mask));
                let expect = self.state.reserve(&id, amount(micros, tokens), &claims, now_ms);
                let found = self.store.reserve(&id, amount(micros, tokens), &claims, now_ms);
                assert_eq!(found, expect);
            }
            Act::Again(which) => {
                let (id, claims) = (self.pick(which), self.claims(0b1111));
                let expect = self.state.reserve(&id, amount(1, 1), &claims, now_ms);
                assert_eq!(self.store.reserve(&id, amount(1, 1), &claims, now_ms), expect);
            }
            Act::Send(which) => {
                let id = self.pick(which);
                assert_eq!(self.store.sent(&id), self.state.sent(&id));
            }
            Act::Settle { which, thousandths } => {
                let id = self.pick(which);
                let took = thousandths.map(|share| amount(4 * share, share / 3));
                assert_eq!(self.store.settle(&id, took), self.state.settle(&id, took));
            }
            Act::Release(which) => {
                let id = self.pick(which);
                assert_eq!(self.store.release(&id), self.state.release(&id));
            }
            Act::Expire(age_ms) => {
                let before_ms = now_ms.saturating_sub(age_ms);
                assert_eq!(self.store.expire(before_ms), Ok(self.state.expire(before_ms)));
            }
            Act::Wait(ms) => self.now_ms += ms,
        }
    }

    fn stands_alike(&self) {
        let (accounts, expect): (Vec<_>, Vec<_>) =
            self.state.accounts().map(|(account, standing)| (account.clone(), *standing)).unzip();
        assert_eq!(self.store.standings(&accounts), Ok(expect), "{accounts:?}");
    }
}

/// Lives of a store and of the state machine, step by step.
pub(crate) fn agrees(make: Make<'_>) {
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() };
    let chance = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let lives = prop::collection::vec(act(), 1..120);
    let mut runner = TestRunner::new_with_rng(config, chance);
    let lived = runner.run(&lives, |acts| {
        let store = make();
        let mut life = Life { store: &*store, state: State::default(), now_ms: 0, calls: 0 };
        for act in acts {
            life.live(act);
            life.stands_alike();
        }
        Ok(())
    });
    lived.unwrap_or_else(|error| panic!("{error}"));
}
