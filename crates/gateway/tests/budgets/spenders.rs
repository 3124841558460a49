//! Processes that spend one budget at once, each this test's own program: what they were charged is
//! what is spent, and it is never more than the budget, also where one of them is killed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use ingle_gateway::budget::{
    Account, Amount, Claim, Limit, Period, Place, Redis, Refusal, Standing, Store,
};

use crate::server::Server;
use crate::suite::amount;

/// Where a child spends, and what its calls are named with.
const URL: &str = "INGLE_TEST_BUDGETS";
const NAME: &str = "INGLE_TEST_NAME";
const THREADS: u64 = 4;
const CALLS: u64 = 400;
const LIMIT: Limit = Limit { micros: Some(20_000), tokens: Some(9_000) };

/// The budget of all, and one for each of two keys.
fn claims(call: u64) -> Vec<Claim> {
    let window = Period::Day.window(5);
    let key = format!("key:{}", call % 2);
    ["all".to_owned(), key]
        .map(|name| Claim { account: Account { name, window }, limit: LIMIT })
        .into()
}

/// Numbers that are the same each time, and look like chance (splitmix64).
fn chance(of: u64) -> u64 {
    let mut it = of.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    it ^ (it >> 31)
}

/// One call, and what it was charged; `None` where there was no room.
fn call(store: &Redis, id: &str, number: u64) -> Option<Amount> {
    let chance = chance(number);
    let worst = amount(1 + chance % 40, 1 + chance / 64 % 9);
    match store.reserve(id, worst, &claims(number), 5) {
        Ok(()) => (),
        Err(Refusal::Over { .. }) => return None,
        Err(other) => panic!("{other}"),
    }
    store.sent(id).expect("it is open");
    let took = amount(worst.micros * (chance / 1_024 % 9) / 7, worst.tokens);
    match chance / 16_384 % 8 {
        0 => store.release(id).map(|()| amount(0, 0)),
        1 => store.settle(id, None).map(|it| it.charged),
        _ => store.settle(id, Some(took)).map(|it| it.charged),
    }
    .map(Some)
    .expect("it is open")
}

#[test]
#[ignore = "spends: the tests beside it run it as a process of its own"]
fn spender() {
    let value = |name| std::env::var(name).expect("is run by another test");
    let place: Place = value(URL).parse().expect("a place");
    let (store, name) = (Redis::open(&place).expect("it answers"), value(NAME));
    let tell = |text: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).expect("somebody listens");
    };
    let run = |thread: u64| {
        let (mut sum, mut refused) = (amount(0, 0), 0);
        for number in thread * CALLS..(thread + 1) * CALLS {
            let id = format!("{name}.{number}");
            match call(&store, &id, number) {
                Some(charged) => {
                    sum = amount(sum.micros + charged.micros, sum.tokens + charged.tokens);
                }
                None => refused += 1,
            }
            if number % 16 == 0 {
                tell("\nspending\n".to_owned());
            }
        }
        tell(format!("\ncharged {} {} {refused}\n", sum.micros, sum.tokens));
    };
    let run = &run;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || run(thread));
        }
    });
}

fn start(server: &Server, name: &str) -> Child {
    let mut command = command(&server.url(), name);
    command.spawn().expect("starts")
}

fn command(url: &str, name: &str) -> Command {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["--exact", "spenders::spender", "--ignored", "--nocapture"]);
    command.env(URL, url).env(NAME, name);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// What a child says that it was charged, and how many calls it was refused; it is killed after so
/// many lines.
fn listen(mut child: Child, most: usize) -> (Amount, u64) {
    let out = child.stdout.take().expect("it is piped");
    let (mut sum, mut refused, mut told) = (amount(0, 0), 0, 0);
    let lines = BufReader::new(out).lines().map(|line| line.expect("it is text"));
    for (number, line) in lines.filter(|line| !line.is_empty()).enumerate() {
        if number == most {
            child.kill().expect("it runs");
        }
        let words: Vec<&str> = line.split(' ').collect();
        if let ["charged", micros, tokens, no] = words[..] {
            let number = |text: &str| text.parse::<u64>().expect("a number");
            sum = amount(sum.micros + number(micros), sum.tokens + number(tokens));
            refused += number(no);
            told += 1;
        }
    }
    let ended = child.wait().expect("it was started");
    assert_eq!(ended.success(), most == usize::MAX, "{ended}");
    assert!(told == THREADS || !ended.success(), "each thread says what it was charged");
    (sum, refused)
}

/// Looks at the budgets for as long as others spend; they never have more than there is.
fn watch(server: &Server, ended: &std::sync::atomic::AtomicBool) -> u64 {
    let (store, mut looks) = (server.open(), 0);
    while !ended.load(std::sync::atomic::Ordering::SeqCst) {
        within(&at_once(&store));
        looks += 1;
    }
    looks
}

fn at_once(store: &Redis) -> Vec<Standing> {
    let mut accounts: Vec<Account> = claims(0).into_iter().map(|it| it.account).collect();
    accounts.push(claims(1)[1].account.clone());
    store.standings(&accounts).expect("it answers")
}

fn within(standings: &[Standing]) {
    for it in standings {
        assert!(it.spent.micros + it.reserved.micros <= LIMIT.micros.unwrap_or(0), "{it:?}");
        assert!(it.spent.tokens + it.reserved.tokens <= LIMIT.tokens.unwrap_or(0), "{it:?}");
    }
    let [all, one, other] = standings else { panic!("three were asked for") };
    assert_eq!(all.spent.micros, one.spent.micros + other.spent.micros, "all of one moment");
    assert_eq!(all.calls, one.calls + other.calls, "all of one moment");
}

/// Runs children, each killed after so many lines, and tells what each was charged.
fn spend(server: &Server, most: &[usize]) -> Vec<(Amount, u64)> {
    let store = server.empty();
    let ended = std::sync::atomic::AtomicBool::new(false);
    let sums = std::thread::scope(|scope| {
        let watch = scope.spawn(|| watch(server, &ended));
        let names = ["a", "b", "c"];
        let started = names.iter().zip(most).map(|(name, most)| (start(server, name), *most));
        let children: Vec<_> = started.collect();
        let all =
            children.into_iter().map(|(child, most)| scope.spawn(move || listen(child, most)));
        let all: Vec<_> = all.collect();
        let sums = all.into_iter().map(|it| it.join().expect("no panic")).collect();
        ended.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(watch.join().expect("no panic") > 10, "it looked while they spent");
        sums
    });
    within(&at_once(&store));
    sums
}

pub(crate) fn all_live(server: &Server) {
    let sums = spend(server, &[usize::MAX; 2]);
    let all = at_once(&server.open())[0];
    let micros: u64 = sums.iter().map(|it| it.0.micros).sum();
    let tokens: u64 = sums.iter().map(|it| it.0.tokens).sum();
    assert_eq!(all, Standing { spent: amount(micros, tokens), ..Standing::default() });
    for (charged, refused) in sums {
        assert!(charged.micros > 0 && refused > 0, "each had a share, and both wanted more");
    }
    assert!(tokens > 8_990 || micros > 19_960, "all of it is spent: {micros} {tokens}");
}

pub(crate) fn one_is_killed(server: &Server) {
    // Its last calls stay open until they are too old.
    let sums = spend(server, &[usize::MAX, usize::MAX, 20]);
    let store = server.open();
    let before = at_once(&store)[0];
    let lost = store.expire(6).expect("it answers");
    assert_eq!(lost.len(), before.calls as usize);
    assert!(lost.iter().all(|it| it.id.starts_with("c.")), "{lost:?}");
    let after = at_once(&store);
    within(&after);
    let charged: u64 = lost.iter().map(|it| it.charged.micros).sum();
    assert_eq!(after[0].spent.micros, before.spent.micros + charged);
    assert_eq!((after[0].reserved, after[0].calls), (amount(0, 0), 0));
    let known: u64 = sums[..2].iter().map(|it| it.0.micros).sum();
    assert!(after[0].spent.micros >= known + charged, "{after:?} {sums:?}");
}

/// A child that is told whom to believe spends over TLS; who is not believes nobody.
pub(crate) fn over_tls(server: &Server, url: &str) {
    let refused = ingle_gateway::budget::open(url).map(drop);
    let Err(Refusal::Broken(said)) = refused else { panic!("{refused:?}") };
    assert!(said.contains("rediss://localhost") && said.contains("certificate"), "{said}");
    let mut child = command(url, "a");
    let child = child.env("SSL_CERT_FILE", server.authority()).spawn().expect("starts");
    let (charged, _) = listen(child, usize::MAX);
    assert!(charged.micros > 0, "it spent");
    assert_eq!(at_once(&server.open())[0].spent, charged);
}
