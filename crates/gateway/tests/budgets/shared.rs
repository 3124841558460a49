//! What budgets in a Redis server promise beyond other stores: numbers that stay exact, keys that
//! do not stay for ever, connections that mend, and refusal where the server forgot.

use ingle_gateway::budget::{
    Account, Claim, Limit, Period, Place, Redis, Refusal, SHARED_CLAIMS_MAX, SHARED_MAX, Standing,
    Store, open,
};

use crate::proxy::Wire;
use crate::rates;
use crate::server::{PASSWORD, Server};
use crate::suite::{account, amount, claim, standing};

/// What a server shows while it runs.
type Promise = (&'static str, fn(&Server));

/// What one running server shows. It is empty at the beginning of each.
pub(crate) const PROMISES: &[Promise] = &[
    ("numbers are exact up to where they are refused", exact),
    ("what is long or many is refused", bounds),
    ("accounts go a day after their end", keys_go),
    ("two programs see the same", two_see_the_same),
    ("a connection that was closed is made anew", mends),
    ("what is asked twice is done once", once),
    ("scripts that the server dropped are sent again", scripts),
    ("a server that drops keys is refused", drops),
    ("no error tells a password", passwords),
    ("what others wrote there is noticed", others),
    ("what is forgotten while it runs is noticed", flushed),
    ("a ledger restores what is forgotten", restored),
    ("what is held is told", held),
    ("a minute's worth is as in memory", rates::as_in_memory),
    ("a bucket that is full takes no room", rates::full_is_forgotten),
    ("who cannot know takes nothing", rates::fails_closed),
    ("lost answers let no more through", rates::lost_answers),
];

/// How a server dies, with its settings.
type Death = (&'static str, &'static [&'static str], fn(&mut Server));

pub(crate) const DEATHS: &[Death] = &[
    ("kept on disk", &["--appendonly", "yes", "--appendfsync", "always"], remembers),
    ("kept nowhere", &["--appendonly", "no"], forgets_all),
    ("kept in part", &["--appendonly", "no"], forgets_some),
];

fn forever(name: &str, micros: Option<u64>) -> Claim {
    let account = Account { name: name.into(), window: Period::Forever.window(0) };
    Claim { account, limit: Limit { micros, tokens: None } }
}

fn is_broken(result: Result<(), Refusal>, why: &str) {
    let Err(Refusal::Broken(said)) = result else { panic!("{result:?} is not broken") };
    assert!(said.contains(why), "{said}");
}

fn exact(server: &Server) {
    let store = server.open();
    let claims = [forever("all", None)];
    let all = &claims[0].account;
    let most = amount(SHARED_MAX, SHARED_MAX);
    store.reserve("a", amount(SHARED_MAX - 2, 3), &claims, 5).expect("room");
    store.reserve("b", amount(2, SHARED_MAX - 3), &claims, 5).expect("room");
    let expect = Standing { spent: amount(0, 0), reserved: most, calls: 2 };
    assert_eq!(standing(&store, all), expect);
    for more in [amount(1, 0), amount(0, 1), most, amount(SHARED_MAX + 1, 0)] {
        let refused = store.reserve("c", more, &claims, 5).expect_err("no room").to_string();
        assert!(refused.contains("a shared budget counts 9007199254740991 micro"), "{refused}");
    }
    store.settle("a", Some(amount(SHARED_MAX - 3, u64::MAX))).expect("it is open");
    store.settle("b", None).expect("it is open");
    let spent = amount(SHARED_MAX - 1, SHARED_MAX);
    assert_eq!(standing(&store, all), Standing { spent, ..Standing::default() });
    store.reserve("d", amount(1, 0), &claims, 5).expect("room");
    assert!(store.reserve("e", amount(1, 0), &claims, 5).is_err());
    // A limit beyond that is no more than that.
    let wide = [forever("all", Some(u64::MAX))];
    assert!(store.reserve("e", amount(1, 0), &wide, 5).is_err());
}

fn bounds(server: &Server) {
    let store = server.open();
    let long = "x".repeat(4_097);
    is_broken(store.reserve(&long, amount(1, 1), &[], 5), "has more than 4096 bytes");
    is_broken(store.reserve("a", amount(1, 1), &[forever(&long, None)], 5), "more than 4096");
    let claims: Vec<Claim> =
        (0..=SHARED_CLAIMS_MAX).map(|it| forever(&it.to_string(), None)).collect();
    assert_eq!(store.reserve("a", amount(1, 1), &claims, 5), Err(Refusal::Full));
    store.reserve("a", amount(1, 1), &claims[1..], 5).expect("as many as there may be");
    assert_eq!(store.expire(6).expect("it answers")[0].accounts.len(), SHARED_CLAIMS_MAX);
    let fill = "for i = 1, 65535 do redis.call('ZADD', KEYS[1], 5, 'filled' .. i) end";
    let _: Option<u64> = server.ask(&["EVAL", fill, "1", "{ingle:budgets:1}:open"]);
    store.reserve("b", amount(1, 1), &claims[..1], 5).expect("room for one");
    assert_eq!(store.reserve("c", amount(1, 1), &claims[..1], 5), Err(Refusal::Full));
    assert_eq!(store.expire(6).expect("it answers").len(), 65_536, "in many steps");
    store.reserve("c", amount(1, 1), &claims[..1], 5).expect("room");
}

fn keys_go(server: &Server) {
    const DAY_MS: u64 = 86_400_000;
    let store = server.open();
    let left = |account: &Account| -> i64 {
        let window = account.window;
        let key = format!("account:{}-{}:{}", window.start_ms, window.end_ms, account.name);
        server.ask(&["PTTL", &format!("{{ingle:budgets:1}}:{key}")])
    };
    let claims = [claim("day", 5, None, None), forever("all", None)];
    store.reserve("a", amount(1, 1), &claims, DAY_MS - 1_000).expect("room");
    let about = |expect_ms: i64| {
        let found = left(&claims[0].account);
        assert!((expect_ms - 60_000..=expect_ms).contains(&found), "{found}");
    };
    let day_ms = i64::try_from(DAY_MS).expect("small");
    about(day_ms + 1_000);
    // A clock that goes ahead makes it no less.
    store.reserve("b", amount(1, 1), &claims, DAY_MS - 1).expect("room");
    about(day_ms + 1_000);
    store.reserve("c", amount(1, 1), &claims, DAY_MS / 2).expect("room");
    about(day_ms / 2 * 3);
    assert_eq!(left(&claims[1].account), -1, "all time does not end");
    // What ended is gone soon, and the index of accounts forgets what is past.
    store.settle("a", None).expect("it is open");
    let soon: i64 = server.ask(&["PTTL", "{ingle:budgets:1}:held:a"]);
    assert!((1..=30_000).contains(&soon), "{soon}");
    store.expire(u64::MAX).expect("it answers");
    let later = [claim("day", 9 * DAY_MS, None, None)];
    store.reserve("d", amount(1, 1), &later, 9 * DAY_MS).expect("room");
    let known: u64 = server.ask(&["ZCARD", "{ingle:budgets:1}:accounts"]);
    assert_eq!(known, 2, "all time and the new day");
}

fn two_see_the_same(server: &Server) {
    let (one, other) = (server.open(), server.open());
    let claims = [claim("a", 5, Some(10), None)];
    one.reserve("it", amount(10, 1), &claims, 5).expect("room");
    assert_eq!(other.reserve("it", amount(0, 0), &claims, 5), Err(Refusal::Twice("it".into())));
    let over = other.reserve("more", amount(1, 0), &claims, 5);
    assert!(matches!(over, Err(Refusal::Over { .. })), "{over:?}");
    other.sent("it").expect("it is open");
    other.settle("it", Some(amount(4, 1))).expect("it is open");
    // Another program that asks for the same end gets it told as not open, as it would in memory.
    assert_eq!(one.settle("it", None), Err(Refusal::NotOpen("it".into())));
    assert_eq!(standing(&one, &claims[0].account).spent, amount(4, 1));
    // Clocks that differ by a little refuse nobody at midnight.
    let night = |at_ms| [claim("a", at_ms, Some(10), None)];
    one.reserve("after", amount(1, 0), &night(86_400_001), 86_400_001).expect("a new day");
    other.reserve("before", amount(1, 0), &night(86_399_999), 86_399_999).expect("yesterday");
}

fn mends(server: &Server) {
    let store = server.open();
    let claims = [forever("a", None)];
    for round in 0..3 {
        let id = round.to_string();
        store.reserve(&id, amount(1, 1), &claims, 5).expect("it answers");
        let closed: u64 = server.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert!(closed > 0, "there was a connection to close");
        store.settle(&id, None).expect("it answers");
    }
    assert_eq!(standing(&store, &claims[0].account).spent, amount(3, 3));
}

fn once(server: &Server) {
    let wire = Wire::to(server.port());
    let place: Place = server.tcp(Some(wire.port)).parse().expect("a place");
    let store = Redis::open(&place).expect("it answers");
    let claims = [forever("a", Some(30))];
    let lose = |what: &str, ask: &dyn Fn()| {
        wire.lose_next();
        ask();
        assert!(wire.has_lost(), "the answer to {what} was lost");
    };
    // The script is known to the server, so that what is lost is an answer to a step.
    store.reserve("first", amount(10, 1), &claims, 5).expect("room");
    store.settle("first", Some(amount(9, 1))).expect("it is open");
    lose("reserve", &|| store.reserve("it", amount(20, 2), &claims, 5).expect("room once"));
    let held = Standing { spent: amount(9, 1), reserved: amount(20, 2), calls: 1 };
    assert_eq!(standing(&store, &claims[0].account), held);
    lose("sent", &|| store.sent("it").expect("it is open"));
    lose("settle", &|| {
        let settled = store.settle("it", Some(amount(25, 1))).expect("it is open");
        assert_eq!((settled.charged, settled.beyond), (amount(20, 1), amount(5, 0)));
    });
    let expect = Standing { spent: amount(29, 2), ..Standing::default() };
    assert_eq!(standing(&store, &claims[0].account), expect);
}

fn scripts(server: &Server) {
    let store = server.open();
    store.reserve("a", amount(1, 1), &[forever("a", None)], 5).expect("room");
    let _: String = server.ask(&["SCRIPT", "FLUSH"]);
    store.settle("a", None).expect("it is open");
}

fn drops(server: &Server) {
    let set = |memory: &str, policy: &str| {
        let _: String = server.ask(&["CONFIG", "SET", "maxmemory-policy", policy]);
        let _: String = server.ask(&["CONFIG", "SET", "maxmemory", memory]);
    };
    set("100mb", "allkeys-lru");
    let why = "it drops what it keeps when its memory is full (maxmemory-policy allkeys-lru)";
    is_broken(open(&server.url()).map(drop), why);
    // One that is full refuses new calls, and lets those under way end.
    set("0", "noeviction");
    let store = server.open();
    let claims = [forever("a", None)];
    store.reserve("a", amount(9, 1), &claims, 5).expect("room");
    set("1", "noeviction");
    is_broken(store.reserve("b", amount(1, 1), &claims, 5), "maxmemory");
    store.settle("a", Some(amount(7, 1))).expect("it is open");
    set("0", "noeviction");
    let expect = Standing { spent: amount(7, 1), ..Standing::default() };
    assert_eq!(standing(&store, &claims[0].account), expect);
}

fn passwords(server: &Server) {
    let told = |url: String| {
        let said = open(&url).map(drop).expect_err("it is refused").to_string();
        for secret in [PASSWORD, "pass%3Aword%401", "another"] {
            assert!(!said.contains(secret), "{said}");
        }
        said
    };
    let said = told(server.url().replace("pass%3A", "another"));
    assert!(said.contains("redis+unix://") && said.contains("socket?db=0"), "{said}");
    told(server.tcp(None).replace("pass%3A", "another"));
    assert!(told(server.tcp(Some(1))).contains("redis://127.0.0.1:1/0"), "nobody listens there");
    told("redis://:another".to_owned());
    open(&server.tcp(None)).expect("the right one");
}

fn others(server: &Server) {
    let store = server.open();
    let claims = [forever("a", None)];
    store.reserve("a", amount(1, 1), &claims, 5).expect("room");
    let key = "{ingle:budgets:1}:account:0-18446744073709551615:a";
    for value in ["-5", "many", "1.5", "18446744073709551616"] {
        let _: u64 = server.ask(&["HSET", key, "spent_micros", value]);
        is_broken(store.standings(&[claims[0].account.clone()]).map(drop), "is not what");
    }
}

fn flushed(server: &Server) {
    let store = server.open();
    let claims = [forever("a", Some(10))];
    store.reserve("a", amount(9, 1), &claims, 5).expect("room");
    let _: String = server.ask(&["FLUSHALL"]);
    let why = "it has forgotten what was spent";
    for _ in 0..2 {
        is_broken(store.reserve("b", amount(9, 1), &claims, 5), why);
        is_broken(store.sent("a"), why);
        is_broken(store.settle("a", None).map(drop), why);
        is_broken(store.release("a"), why);
        is_broken(store.expire(9).map(drop), why);
        is_broken(store.standings(&[claims[0].account.clone()]).map(drop), why);
        // Nor when another program has begun anew there.
        server.open();
    }
}

fn restored(server: &Server) {
    let store = server.open();
    let today = [forever("all", Some(100)), claim("a", 5, Some(50), None)];
    let all = [today[0].account.clone(), today[1].account.clone()];
    store.reserve("a", amount(20, 2), &today, 5).expect("room");
    store.settle("a", None).expect("it is open");
    let _: String = server.ask(&["FLUSHALL"]);
    let sums = [
        (all[0].clone(), amount(15, 1)),
        (all[0].clone(), amount(5, 1)),
        (all[1].clone(), amount(20, 2)),
        (account("long ago", 5), amount(3, 3)),
    ];
    store.restore(&sums, 5).expect("it answers");
    let spent = |micros, tokens| Standing { spent: amount(micros, tokens), ..Standing::default() };
    assert_eq!(store.standings(&all), Ok(vec![spent(20, 2), spent(20, 2)]));
    store.reserve("b", amount(30, 1), &today, 5).expect("room");
    store.settle("b", None).expect("it is open");
    assert!(store.reserve("c", amount(1, 1), &today, 5).is_err(), "50 are spent today");
    // What is known there is never made less, and what is past is not brought back.
    server.open().restore(&sums, 3 * 86_400_000).expect("it answers");
    assert_eq!(store.standings(&all), Ok(vec![spent(50, 3), spent(50, 3)]));
    let past = [account("long ago", 86_400_000 * 5)];
    store.restore(&[(past[0].clone(), amount(1, 1))], 7 * 86_400_000).expect("it answers");
    assert_eq!(standing(&store, &past[0]), Standing::default());
    let much = [(all[0].clone(), amount(SHARED_MAX, 0)), (all[0].clone(), amount(1, 0))];
    is_broken(store.restore(&much, 5), "a shared budget counts");
    // The account is there for as long as its like.
    let key = "{ingle:budgets:1}:account:0-86400000:a";
    let left: i64 = server.ask(&["PTTL", key]);
    assert!(left > 86_400_000, "{left}");
}

fn held(server: &Server) {
    let store = server.open();
    assert_eq!(store.open_calls(), Ok(Vec::new()));
    let claims = [forever("a", None)];
    let mut expect = Vec::new();
    for number in 0..1_100 {
        let id = format!("{number:04} far/m");
        store.reserve(&id, amount(1, 1), &claims, number).expect("room");
        expect.push((id, number));
    }
    assert_eq!(server.open().open_calls(), Ok(expect), "whoever asks, in several steps");
    store.expire(u64::MAX).expect("it answers");
    assert_eq!(store.open_calls(), Ok(Vec::new()));
}

fn remembers(server: &mut Server) {
    let store = server.open();
    let claims = [forever("a", Some(10))];
    let account = &claims[0].account;
    store.reserve("a", amount(6, 1), &claims, 5).expect("room");
    server.kill();
    for _ in 0..3 {
        is_broken(store.sent("a"), "socket?db=0");
        is_broken(store.reserve("b", amount(1, 1), &claims, 5), "socket?db=0");
        is_broken(store.standings(&[claims[0].account.clone()]).map(drop), "socket?db=0");
    }
    server.start();
    let held = Standing { spent: amount(0, 0), reserved: amount(6, 1), calls: 1 };
    assert_eq!(standing(&store, account), held);
    assert!(store.reserve("b", amount(5, 1), &claims, 5).is_err(), "6 of 10 are held");
    store.settle("a", Some(amount(4, 1))).expect("it is open");
    assert_eq!(standing(&store, account).spent, amount(4, 1));
}

fn forgets_all(server: &mut Server) {
    let store = server.open();
    let claims = [forever("a", Some(10))];
    store.reserve("a", amount(6, 1), &claims, 5).expect("room");
    server.kill();
    server.start();
    is_broken(store.reserve("b", amount(6, 1), &claims, 5), "it has forgotten what was spent");
    store.restore(&[(claims[0].account.clone(), amount(6, 1))], 5).expect("it answers");
    assert!(store.reserve("b", amount(6, 1), &claims, 5).is_err(), "6 of 10 are spent");
    store.reserve("b", amount(4, 1), &claims, 5).expect("room");
}

fn forgets_some(server: &mut Server) {
    let store = server.open();
    let claims = [forever("a", Some(10))];
    store.reserve("a", amount(5, 1), &claims, 5).expect("room");
    let _: String = server.ask(&["SAVE"]);
    server.kill();
    server.start();
    store.settle("a", None).expect("nothing is forgotten");
    store.reserve("b", amount(5, 1), &claims, 5).expect("room");
    server.kill();
    server.start();
    is_broken(store.reserve("c", amount(5, 1), &claims, 5), "or a part of it");
}
