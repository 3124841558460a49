//! Budgets and ledgers in step: each step of one call. Lives by chance in which programs die have a
//! file of their own.

use ingle_gateway::budget::{Limit, Memory, Period};
use ingle_protocol::{Cost, Fault, Usage};

use super::*;

#[path = "../../../tests/support/seller.rs"]
mod seller;

fn amount(micros: u64) -> Amount {
    Amount { micros, tokens: micros / 10 }
}

fn claims() -> [Claim; 1] {
    let account = Account { name: "all".into(), window: Period::Forever.window(0) };
    [Claim { account, limit: Limit { micros: Some(100), tokens: None } }]
}

/// What is known of a call while it is tried under that id.
fn entry(id: &str) -> Entry {
    let (call, candidate) = id.split_once(' ').unwrap_or((id, ""));
    let (provider, model) = candidate.split_once('/').unwrap_or((candidate, ""));
    let [id, provider, model] = [call, provider, model].map(str::to_owned);
    Entry { id, provider, model, ..Entry::default() }
}

/// Spent and held.
fn stands(store: &dyn Store) -> (u64, u64) {
    let [claim] = claims();
    let standing = store.standings(&[claim.account]).expect("it answers")[0];
    (standing.spent.micros, standing.reserved.micros)
}

/// A ledger that keeps nothing before it is told to.
struct Scene {
    step: Arc<Step>,
    line: Mutex<Vec<Kept>>,
    told: Arc<Mutex<Vec<bool>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (store, handle) = (Arc::new(Memory::default()), runtime.handle().clone());
        let step = Arc::new(Step::before(store, handle));
        Self { step, line: Mutex::default(), told: Arc::default(), _runtime: runtime }
    }

    fn kept(&self) -> Kept {
        let told = Arc::clone(&self.told);
        Box::new(move |kept| told.lock().expect("no panic").push(kept.is_ok()))
    }

    fn begin(&self, id: &str, micros: u64) {
        let reserved = self.step.reserve(id, amount(micros), &claims(), 5);
        reserved.expect("room");
        let kept = self.step.begins(&entry(id), self.kept());
        self.line.lock().expect("no panic").push(kept);
    }

    fn amend(&self, id: &str, micros: u64) {
        let reserved = self.step.reserve(id, amount(micros), &claims(), 5);
        reserved.expect("room");
        let kept = self.step.amends(&entry(id), self.kept());
        self.line.lock().expect("no panic").push(kept);
    }

    /// Nothing is left behind.
    fn is_empty(&self) -> bool {
        let known = self.step.known();
        known.held.is_empty() && known.announced.is_empty()
    }

    fn end(&self, id: &str) {
        let kept = self.step.ends(id, self.kept());
        self.line.lock().expect("no panic").push(kept);
    }

    /// Says of the one that has waited for longest whether it was kept.
    fn next(&self, kept: bool) {
        let next = self.line.lock().expect("no panic").remove(0);
        next(if kept { Ok(()) } else { Err(Fault::ours("the disk is full")) });
    }
}

#[test]
fn what_a_call_holds_is_given_up_once_the_ledger_has_its_end() {
    for (written, spent) in [(true, 30), (false, 90)] {
        let scene = Scene::new();
        let step = &scene.step;
        scene.begin("a far/m", 90);
        scene.next(true);
        step.sent("a far/m").expect("it is open");
        let settled = step.settle("a far/m", Some(amount(30))).expect("it is open");
        assert_eq!((settled.charged, settled.beyond), (amount(30), amount(0)));
        assert!(step.settle("a far/m", None).is_err(), "it has ended");
        assert_eq!(stands(&**step), (0, 90), "were it to die now");
        assert!(step.reserve("b", amount(20), &claims(), 5).is_err());
        scene.end("a");
        assert_eq!(stands(&**step), (0, 90), "or now");
        scene.next(written);
        assert_eq!(stands(&**step), (spent, 0));
        assert_eq!(*scene.told.lock().expect("no panic"), [true, written]);
    }
}

#[test]
fn what_the_ledger_does_not_know_is_given_up_at_once() {
    let scene = Scene::new();
    let step = &scene.step;
    step.reserve("near", amount(50), &claims(), 5).expect("room");
    assert!(step.settle("near", Some(amount(70))).expect("it is open").beyond == amount(20));
    assert_eq!(stands(&**step), (50, 0));
    step.reserve("none", amount(50), &claims(), 5).expect("room");
    step.release("none").expect("it is open");
    assert_eq!(stands(&**step), (50, 0));
    // One that could not be announced.
    scene.begin("a far/m", 50);
    scene.next(false);
    step.settle("a far/m", Some(amount(0))).expect("it is open");
    assert_eq!(stands(&**step), (50, 0));
    assert_eq!(*scene.told.lock().expect("no panic"), [false]);
}

#[test]
fn what_a_try_took_is_settled_once_the_next_is_announced() {
    for (written, spent) in [(true, 40), (false, 85)] {
        let scene = Scene::new();
        let step = &scene.step;
        scene.begin("a far/m", 30);
        scene.next(true);
        step.settle("a far/m", Some(amount(10))).expect("it is open");
        scene.amend("a other/m", 40);
        assert_eq!(stands(&**step), (0, 70), "the ledger has it at 30 as yet");
        scene.next(true);
        assert_eq!(stands(&**step), (10, 40), "and now at 50");
        step.sent("a other/m").expect("it is open");
        step.settle("a other/m", Some(amount(25))).expect("it is open");
        scene.amend("a last/m", 50);
        assert_eq!(stands(&**step), (10, 90));
        scene.next(true);
        assert_eq!(stands(&**step), (35, 50));
        step.settle("a last/m", Some(amount(5))).expect("it is open");
        scene.end("a");
        assert_eq!(stands(&**step), (35, 50));
        scene.next(written);
        assert_eq!(stands(&**step), (spent, 0), "{written}");
        assert_eq!(*scene.told.lock().expect("no panic"), [true, true, true, written]);
        assert!(scene.is_empty());
    }
}

/// Then the ledger may have it as it was, or at the worst of the one that was not asked.
#[test]
fn where_a_try_cannot_be_announced_both_are_held() {
    let begun = || {
        let scene = Scene::new();
        scene.begin("a far/m", 30);
        scene.next(true);
        scene.step.settle("a far/m", Some(amount(10))).expect("it is open");
        scene.amend("a other/m", 40);
        scene.next(false);
        scene.step.settle("a other/m", Some(amount(0))).expect("it is open");
        assert_eq!(stands(&*scene.step), (0, 70));
        scene
    };
    for (written, spent) in [(true, 10), (false, 70)] {
        let scene = begun();
        scene.end("a");
        scene.next(written);
        assert_eq!(stands(&*scene.step), (spent, 0), "{written}");
        assert!(scene.is_empty());
    }
    // The next that can be announced says what those before it took.
    for (written, spent) in [(true, 15), (false, 30)] {
        let scene = begun();
        scene.amend("a last/m", 20);
        scene.next(true);
        assert_eq!(stands(&*scene.step), (10, 20));
        scene.step.settle("a last/m", Some(amount(5))).expect("it is open");
        scene.end("a");
        scene.next(written);
        assert_eq!(stands(&*scene.step), (spent, 0), "{written}");
    }
}

#[test]
fn where_there_is_no_room_for_the_next_what_failed_ones_took_makes_it() {
    for (written, spent) in [(true, 15), (false, 95)] {
        let scene = Scene::new();
        let step = &scene.step;
        scene.begin("a far/m", 30);
        scene.next(true);
        step.settle("a far/m", Some(amount(10))).expect("it is open");
        let refused = step.reserve("a other/m", amount(85), &claims(), 5);
        assert!(matches!(refused, Err(Refusal::Over { .. })), "{refused:?}");
        let kept = step.amends(&entry("a far/m"), scene.kept());
        scene.line.lock().expect("no panic").push(kept);
        assert_eq!(stands(&**step), (0, 30));
        scene.next(true);
        assert_eq!(stands(&**step), (10, 0), "the ledger has it at 10");
        scene.amend("a other/m", 85);
        scene.next(true);
        step.settle("a other/m", Some(amount(5))).expect("it is open");
        scene.end("a");
        scene.next(written);
        assert_eq!(stands(&**step), (spent, 0), "{written}");
        assert!(scene.is_empty());
    }
}

/// One that is tried here, or could not be sent, is in no announcement.
#[test]
fn what_was_not_announced_of_a_call_is_given_up_at_its_end() {
    for (written, spent) in [(true, 10), (false, 30)] {
        let scene = Scene::new();
        let step = &scene.step;
        scene.begin("a far/m", 30);
        scene.next(true);
        step.settle("a far/m", Some(amount(10))).expect("it is open");
        step.reserve("a other/m", amount(40), &claims(), 5).expect("room");
        let twice = step.reserve("a other/m", amount(1), &claims(), 5);
        assert!(matches!(twice, Err(Refusal::Twice(_))), "{twice:?}");
        step.release("a other/m").expect("it is open");
        // The same candidate again is another try.
        step.reserve("a far/m", amount(5), &claims(), 5).expect("room");
        step.settle("a far/m", Some(amount(0))).expect("it is open");
        assert_eq!(stands(&**step), (0, 75));
        scene.end("a");
        scene.next(written);
        assert_eq!(stands(&**step), (spent, 0), "{written}");
        assert!(scene.is_empty());
    }
}

#[test]
fn an_id_says_which_try_it_is_and_what_was_before() {
    for of in ["a far/m", "a far/a model 7", "near", ""] {
        let it = Try { of, number: 3, before: u64::MAX };
        assert_eq!(Try::read(&it.id()), it);
    }
    for odd in ["", "near", "a far/m", "a far/m 1 x", "a far/m -1 0", "a far/m 1"] {
        assert_eq!(Try::read(odd), Try { of: odd, number: 0, before: 0 });
    }
}

/// What the dead of a call holds, how the ledger has that call, and what is charged then.
#[test]
fn what_the_dead_hold_is_charged_as_the_ledger_has_it() {
    const FAR: (&str, u64) = ("a far/m 0 0", 30);
    const OTHER: (&str, u64) = ("a other/m 1 10", 40);
    const LAST: (&str, u64) = ("a last/m 2 35", 20);
    let check = |of: &str, end: End, micros: Option<u64>, held: &[(&str, u64)], spent: u64| {
        let store = Memory::default();
        for (id, held) in held {
            store.reserve(id, amount(*held), &claims(), 5).expect("room");
        }
        let ids = ["a gone 0 0"].into_iter().chain(held.iter().rev().map(|row| row.0));
        let usage = Usage { prompt_tokens: 2, completion_tokens: 1, ..Usage::default() };
        let cost = Cost { micros, ..Cost::default() };
        let entry = Entry { end, cost, usage, ..entry(of) };
        charge(&store, &entry, &ids.collect::<Vec<_>>()).expect("it answers");
        assert_eq!(stands(&store), (spent, 0), "{of} {end:?} {micros:?} {held:?}");
    };
    let (far, other, last) = ("a far/m", "a other/m", "a last/m");
    check(far, End::Stop, Some(25), &[FAR], 25);
    check(far, End::Stop, Some(35), &[FAR], 30);
    check(far, End::Stop, None, &[FAR], 30);
    check(far, End::Lost, Some(30), &[FAR], 30);
    // The next one was held for, and not announced.
    check(far, End::Lost, Some(30), &[FAR, OTHER], 30);
    check(far, End::Failed, Some(10), &[FAR, OTHER], 10);
    // It was announced, and the first not settled yet; it was settled; it has ended.
    check(other, End::Lost, Some(50), &[FAR, OTHER], 50);
    check(other, End::Lost, Some(50), &[OTHER], 40);
    check(other, End::Stop, Some(35), &[FAR, OTHER], 35);
    check(other, End::Stop, Some(35), &[OTHER], 25);
    check(other, End::Failed, None, &[OTHER], 40);
    check(last, End::Lost, Some(55), &[FAR, OTHER, LAST], 55);
    check(last, End::Lost, Some(55), &[OTHER, LAST], 45);
    check(last, End::Lost, Some(55), &[LAST], 20);
    check(last, End::Stop, Some(40), &[OTHER, LAST], 30);
    check(last, End::Stop, Some(40), &[LAST], 5);
    // One that was never asked, and one who holds nothing.
    check(far, End::Failed, Some(10), &[OTHER], 0);
    check("a local/small", End::Stop, Some(10), &[FAR], 10);
    // Numbers that cannot be are charged within what is held.
    check(last, End::Lost, Some(u64::MAX), &[OTHER, LAST], 45);
    check(last, End::Stop, Some(0), &[FAR, LAST], 30);
}

/// The same where the entry says what is charged to whom: (candidate, micro-dollars, tokens).
#[test]
fn what_the_dead_hold_is_charged_as_the_entry_says() {
    type Row<'a> = (&'a str, u64, u64);
    let check = |charges: &[Row<'_>], held: &[&str], expect: (u64, u64)| {
        let store = Memory::default();
        for id in held {
            store.reserve(id, amount(30), &claims(), 5).expect("room");
        }
        let ids = ["a gone 0 0"].into_iter().chain(held.iter().rev().copied());
        let charge = |row: &Row<'_>| Charge {
            provider: row.0.into(),
            model: "m".into(),
            micros: row.1,
            tokens: row.2,
            ..Charge::default()
        };
        let charges = Some(charges.iter().map(charge).collect());
        // What else it says is not asked.
        let entry = Entry { charges, end: End::Lost, ..entry("a far/m") };
        super::charge(&store, &entry, &ids.collect::<Vec<_>>()).expect("it answers");
        let [claim] = claims();
        let Standing { spent, reserved, .. } =
            store.standings(&[claim.account]).expect("it answers")[0];
        let told = ((spent.micros, spent.tokens), reserved);
        assert_eq!(told, (expect, Amount::default()), "{entry:?} {held:?}");
    };
    const FAR: &str = "a far/m 0 0";
    const OTHER: &str = "a other/m 1 10";
    check(&[("far", 25, 2)], &[FAR], (25, 2));
    check(&[], &[FAR, OTHER], (0, 0));
    check(&[("far", 30, 3)], &[FAR, OTHER], (30, 3));
    check(&[("far", 10, 1), ("other", 30, 3)], &[FAR, OTHER], (40, 4));
    // The first was settled already; one that failed is charged in tokens alone.
    check(&[("far", 10, 1), ("other", 30, 3)], &[OTHER], (30, 3));
    check(&[("far", 0, 2), ("local", 0, 3)], &[FAR], (0, 2));
    check(&[("far", 0, 2), ("local", 0, 3)], &["a local/m 0 0"], (0, 3));
    // Who was asked twice: of two tries the last is held still, or both are.
    check(&[("far", 10, 1), ("far", 20, 2)], &["a far/m 1 10"], (20, 2));
    check(&[("far", 10, 1), ("far", 20, 2)], &[FAR, "a far/m 1 10"], (30, 3));
    // No more than is held, whatever it says.
    check(&[("far", u64::MAX, u64::MAX)], &[FAR], (30, 3));
}

#[path = "spending_lives.rs"]
mod lives;
