//! What every store of budgets does. Each row gets a way to make empty stores.

use ingle_gateway::budget::{Account, Amount, Claim, Limit, Period, Refusal, Standing, Store};

use crate::life;

/// Makes an empty store.
pub(crate) type Make<'a> = &'a dyn Fn() -> Box<dyn Store>;

/// What a store does, and how that is looked at.
type Row = (&'static str, fn(Make<'_>));

pub(crate) const SUITE: &[Row] = &[
    ("within every limit or not at all", within_limits),
    ("what is not open cannot end", not_open),
    ("an end is at most what was held", ends),
    ("names are any text", names),
    ("a new day is a new account", days),
    ("what is old is lost", lost),
    ("threads do not spend the same money", threads),
    ("whole lives are as the state machine has them", life::agrees),
];

const DAY_MS: u64 = 86_400_000;

pub(crate) fn amount(micros: u64, tokens: u64) -> Amount {
    Amount { micros, tokens }
}

pub(crate) fn account(name: &str, at_ms: u64) -> Account {
    Account { name: name.into(), window: Period::Day.window(at_ms) }
}

pub(crate) fn claim(name: &str, at_ms: u64, micros: Option<u64>, tokens: Option<u64>) -> Claim {
    Claim { account: account(name, at_ms), limit: Limit { micros, tokens } }
}

pub(crate) fn standing(store: &dyn Store, account: &Account) -> Standing {
    store.standings(std::slice::from_ref(account)).expect("it answers")[0]
}

fn within_limits(make: Make<'_>) {
    let check = |claims: &[Claim], take: Amount, refused: Option<&str>| {
        let store = make();
        store.reserve("before", amount(60, 6), &[claim("a", 5, None, None)], 5).expect("no limit");
        let all = [account("a", 5), account("b", 5)];
        let before = store.standings(&all).expect("it answers");
        match (store.reserve("it", take, claims, 5), refused) {
            (Ok(()), None) => store.release("it").expect("it is open"),
            (Err(error), Some(why)) => {
                assert!(error.to_string().contains(why), "{error}");
                assert_eq!(store.sent("it"), Err(Refusal::NotOpen("it".into())));
            }
            (result, _) => panic!("{claims:?} {take:?}: {result:?}, not {refused:?}"),
        }
        assert_eq!(store.standings(&all).expect("it answers"), before);
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
    check(&[money("b", 9), money("b", 3)], amount(4, 0), Some("over budget b"));
    check(&[money("b", 3), money("b", 9)], amount(4, 0), Some("over budget b"));
    check(&[money("b", 0)], amount(0, 9), None);
    check(&[], amount(9, 9), None);
    check(&[claim("a", DAY_MS, None, None)], amount(0, 0), Some("the time of budget a is over"));
}

fn not_open(make: Make<'_>) {
    let store = make();
    let claims = [claim("a", 5, Some(100), None)];
    let gone = |result: Result<(), Refusal>| {
        assert_eq!(result, Err(Refusal::NotOpen("it".into())));
    };
    let none_is_open = || {
        gone(store.sent("it"));
        gone(store.settle("it", None).map(drop));
        gone(store.release("it"));
    };
    none_is_open();
    store.reserve("it", amount(10, 1), &claims, 5).expect("room");
    let twice = store.reserve("it", amount(10, 1), &claims, 5);
    assert_eq!(twice, Err(Refusal::Twice("it".into())));
    let settled = store.settle("it", Some(amount(3, 1))).expect("it is open");
    assert_eq!((settled.charged, settled.beyond), (amount(3, 1), amount(0, 0)));
    none_is_open();
    let expect = |spent, reserved, calls| {
        let expect = Standing { spent, reserved, calls };
        assert_eq!(standing(&*store, &claims[0].account), expect);
    };
    expect(amount(3, 1), amount(0, 0), 0);
    // An id that ended may come again.
    store.reserve("it", amount(20, 2), &claims, 6).expect("room");
    expect(amount(3, 1), amount(20, 2), 1);
    store.sent("it").expect("it is open");
    store.sent("it").expect("and may be said twice");
    store.release("it").expect("it is open");
    none_is_open();
    expect(amount(3, 1), amount(0, 0), 0);
}

fn ends(make: Make<'_>) {
    let check = |took, charged, beyond| {
        let store = make();
        let claims = [claim("a", 5, Some(100), None)];
        store.reserve("it", amount(100, 50), &claims, 5).expect("room");
        let settled = store.settle("it", took).expect("it is open");
        assert_eq!((settled.charged, settled.beyond), (charged, beyond), "{took:?}");
        assert_eq!(standing(&*store, &claims[0].account).spent, charged);
    };
    check(Some(amount(7, 5)), amount(7, 5), amount(0, 0));
    check(Some(amount(0, 0)), amount(0, 0), amount(0, 0));
    check(Some(amount(100, 50)), amount(100, 50), amount(0, 0));
    check(Some(amount(101, 5)), amount(100, 5), amount(1, 0));
    check(Some(amount(u64::MAX, u64::MAX)), amount(100, 50), amount(u64::MAX - 100, u64::MAX - 50));
    check(None, amount(100, 50), amount(0, 0));
}

fn names(make: Make<'_>) {
    let store = make();
    for name in ["", "a b", "key: x-1:y", "Ünï\n\r\n", "'\"\\ %s {}", "1", "begun", "\0"] {
        let claims = [claim(name, 5, Some(9), None), claim("all", 5, None, None)];
        store.reserve(name, amount(9, 1), &claims, 5).expect("room");
        assert!(store.reserve("more", amount(1, 1), &claims, 5).is_err(), "{name:?}");
        assert_eq!(standing(&*store, &claims[0].account).reserved, amount(9, 1), "{name:?}");
        let lost = store.expire(6).expect("it answers");
        let told: Vec<_> = lost.iter().map(|it| (it.id.as_str(), it.accounts.len())).collect();
        assert_eq!(told, [(name, 2)]);
        assert!(lost[0].accounts.contains(&claims[0].account), "{name:?}");
    }
}

fn days(make: Make<'_>) {
    let store = make();
    let today = [claim("a", 5, Some(10), None)];
    let tomorrow = [claim("a", DAY_MS + 5, Some(10), None)];
    store.reserve("late", amount(10, 0), &today, DAY_MS - 1).expect("room");
    store.reserve("early", amount(10, 0), &tomorrow, DAY_MS).expect("a day of its own");
    // What was begun yesterday is charged to yesterday.
    store.settle("late", Some(amount(9, 0))).expect("it is open");
    assert_eq!(standing(&*store, &tomorrow[0].account).spent, amount(0, 0));
    store.reserve("next", amount(0, 0), &tomorrow, DAY_MS + 1).expect("room");
    // A clock that goes back does not find yesterday empty.
    assert!(store.reserve("back", amount(10, 0), &today, DAY_MS - 1).is_err());
}

fn lost(make: Make<'_>) {
    let store = make();
    let claims = [claim("a", 5, Some(100), None)];
    for (id, at_ms) in [("c", 5), ("b", 6), ("a", 6), ("d", 7)] {
        store.reserve(id, amount(10, 1), &claims, at_ms).expect("room");
    }
    store.sent("b").expect("it is open");
    store.settle("a", None).expect("it is open");
    let told = store.expire(7).expect("it answers");
    let told: Vec<_> = told.iter().map(|it| (it.id.as_str(), it.charged)).collect();
    assert_eq!(told, [("b", amount(10, 1)), ("c", amount(0, 0))]);
    let expect = Standing { spent: amount(20, 2), reserved: amount(10, 1), calls: 1 };
    assert_eq!(standing(&*store, &claims[0].account), expect);
    for id in ["b", "c"] {
        assert_eq!(store.sent(id), Err(Refusal::NotOpen(id.into())), "nothing may be sent for it");
    }
    assert_eq!(store.expire(7), Ok(Vec::new()));
}

fn threads(make: Make<'_>) {
    let store = make();
    let account = Account { name: "all".into(), window: Period::Forever.window(0) };
    let limit = Limit { micros: Some(1_000), tokens: None };
    let claims = [Claim { account: account.clone(), limit }];
    let run = |thread: u32| {
        let mut charged = 0;
        for call in 0..500 {
            let id = format!("{thread}.{call}");
            match store.reserve(&id, amount(7, 1), &claims, 1) {
                Ok(()) => (),
                Err(Refusal::Over { .. }) => continue,
                Err(other) => panic!("{other}"),
            }
            store.sent(&id).expect("it is open");
            if call % 3 == 0 {
                store.release(&id).expect("it is open");
            } else {
                let settled = store.settle(&id, Some(amount(call % 7, 1))).expect("it is open");
                charged += settled.charged.micros;
            }
        }
        charged
    };
    // More threads than a store has connections.
    let run = &run;
    let charged: u64 = std::thread::scope(|scope| {
        let all: Vec<_> = (0..24).map(|thread| scope.spawn(move || run(thread))).collect();
        all.into_iter().map(|it| it.join().expect("no panic")).sum()
    });
    let at_end = standing(&*store, &account);
    assert_eq!(at_end.spent.micros, charged);
    assert!(charged > 900 && charged <= 1_000, "{charged}");
    assert_eq!((at_end.reserved, at_end.calls), (amount(0, 0), 0));
}
