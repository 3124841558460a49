//! Fleets of models that are nothing but a name.

use super::*;
use ingle_protocol::{Finish, Input, Receipt, Timings, Usage};
use std::ops::ControlFlow;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};

/// What tests see and do behind the models.
#[derive(Default)]
struct World {
    /// Answers under way: each one's model, and its sink.
    running: Mutex<Vec<(String, Sink)>>,
    loads: AtomicUsize,
    here: AtomicUsize,
    most_here: AtomicUsize,
    /// Who was in memory when it was told that a model is not.
    here_when_told: Mutex<Vec<usize>>,
    /// Loads wait while this is held.
    gate: Mutex<()>,
    fails: AtomicBool,
}

struct Fake {
    name: String,
    world: Arc<World>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.world.here.fetch_sub(1, Ordering::SeqCst);
        let running = self.world.running.lock().expect("no panic while locked");
        assert!(running.iter().all(|(name, _)| *name != self.name), "a running answer was cut off");
    }
}

fn done(model: &str, load: Duration) -> Event {
    Event::Done(Box::new(Receipt {
        model: model.to_owned(),
        route: Vec::new(),
        left_machine: false,
        cost_micros: 0,
        finish: Finish::Stop,
        stop: None,
        notes: Vec::new(),
        usage: Usage::default(),
        timings: Timings { load, ..Timings::default() },
    }))
}

impl Model for Fake {
    fn start(&self, request: &Request, mut sink: Sink, arrival: Arrival) -> Result<(), Fault> {
        match &request.input {
            Input::Text(text) if text == "refuse" => return Err(Fault::caller("no such prompt")),
            Input::Text(text) if text == "hold" => {
                let mut running = self.world.running.lock().expect("no panic while locked");
                running.push((self.name.clone(), sink));
            }
            _ => {
                let _ = sink(done(&self.name, arrival.load));
            }
        }
        Ok(())
    }
}

impl World {
    /// Lets the answers of a model end.
    fn finish(&self, model: &str) {
        let mut running = self.running.lock().expect("no panic while locked");
        let (ended, still): (Vec<_>, Vec<_>) =
            running.drain(..).partition(|(name, _)| name == model);
        *running = still;
        drop(running);
        for (name, mut sink) in ended {
            let _ = sink(done(&name, Duration::ZERO));
        }
    }

    fn runs(&self, model: &str) -> usize {
        let running = self.running.lock().expect("no panic while locked");
        running.iter().filter(|(name, _)| name == model).count()
    }
}

/// A fleet of `a`, `b` and `c`, which take 6 bytes each, in memory for `budget`.
fn fleet(budget: u64, keep_alive: KeepAlive) -> (Fleet<Fake>, Arc<World>) {
    let world = Arc::new(World::default());
    let behind = Arc::clone(&world);
    let load: Load<Fake> = Box::new(move |name, progress| {
        behind.loads.fetch_add(1, Ordering::SeqCst);
        progress(0.5);
        drop(behind.gate.lock());
        assert!(name != "bug", "a bug that the test asked for");
        if behind.fails.load(Ordering::SeqCst) {
            return Err(Fault::ours("the file is broken"));
        }
        let here = behind.here.fetch_add(1, Ordering::SeqCst) + 1;
        behind.most_here.fetch_max(here, Ordering::SeqCst);
        Ok(Fake { name: name.to_owned(), world: Arc::clone(&behind) })
    });
    let bounds = Bounds { memory_bytes: budget, keep_alive, ..Bounds::default() };
    let told = Arc::clone(&world);
    let unloaded: Unloaded = Box::new(move |_| {
        let here = told.here.load(Ordering::SeqCst);
        told.here_when_told.lock().expect("no panic while locked").push(here);
    });
    let fleet = Fleet::new(&bounds, load, unloaded).expect("a thread");
    for name in ["a", "b", "c", "bug"] {
        fleet.add(name, 6).expect("fits");
    }
    (fleet, world)
}

/// A request whose events come over the channel.
struct Asking {
    call: Option<Call>,
    events: Receiver<Event>,
}

fn ask(fleet: &Fleet<Fake>, model: &str, text: &str) -> Asking {
    ask_with(fleet, model, Request { input: Input::Text(text.into()), ..Request::default() })
}

fn ask_with(fleet: &Fleet<Fake>, model: &str, request: Request) -> Asking {
    let (sender, events): (SyncSender<Event>, _) = sync_channel(8);
    let sink: Sink = Box::new(move |event| match sender.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    });
    Asking { call: Some(fleet.send(model, request, sink).expect("is taken")), events }
}

impl Asking {
    fn end(&self) -> Result<Box<Receipt>, Fault> {
        match self.events.recv_timeout(Duration::from_secs(60)).expect("it ends") {
            Event::Done(receipt) => Ok(receipt),
            Event::Failed(fault) => Err(fault),
            _ => panic!("fakes say nothing"),
        }
    }

    fn is_open(&self) -> bool {
        matches!(
            self.events.recv_timeout(Duration::from_millis(20)),
            Err(RecvTimeoutError::Timeout)
        )
    }
}

fn until(so: impl Fn() -> bool) {
    for _ in 0..30_000 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("waited in vain");
}

fn stage(fleet: &Fleet<Fake>, model: &str) -> Stage {
    fleet.status(model).expect("is known").stage
}

#[test]
fn a_swap_waits_for_the_running_answer() {
    let (fleet, world) = fleet(10, KeepAlive::Forever);
    let first = ask(&fleet, "a", "hold");
    until(|| world.runs("a") == 1);
    let second = ask(&fleet, "b", "");
    let third = ask(&fleet, "a", "");
    assert!(first.is_open() && second.is_open() && third.is_open());
    assert_eq!((stage(&fleet, "a"), stage(&fleet, "b")), (Stage::Ready, Stage::Unloaded));
    world.finish("a");
    assert_eq!(first.end().expect("is complete").model, "a");
    let receipt = second.end().expect("is served");
    assert!(receipt.timings.load >= Duration::from_millis(20), "{:?}", receipt.timings);
    assert_eq!(third.end().expect("is served").model, "a");
    assert_eq!(world.most_here.load(Ordering::SeqCst), 1);
    let again = ask(&fleet, "a", "").end().expect("is served");
    assert_eq!(again.timings.load, Duration::ZERO, "it was there");
}

/// It is told before the memory is anybody's.
#[test]
fn the_end_of_one_is_told_before_the_next_begins() {
    let (fleet, world) = fleet(10, KeepAlive::Forever);
    for _ in 0..200 {
        ask(&fleet, "a", "").end().expect("is served");
        ask(&fleet, "b", "").end().expect("is served");
    }
    let told = world.here_when_told.lock().expect("no panic while locked");
    assert_eq!(*told, [0; 399], "each makes room for the next");
}

#[test]
fn requests_share_a_load_whose_progress_is_told() {
    let (fleet, world) = fleet(10, KeepAlive::Forever);
    let gate = world.gate.lock().expect("no panic while locked");
    let asking: Vec<Asking> = (0..4).map(|_| ask(&fleet, "a", "")).collect();
    until(|| stage(&fleet, "a") == Stage::Loading(0.5));
    assert_eq!(fleet.status("a").map(|status| status.requests), Some(4));
    drop(gate);
    for asking in asking {
        asking.end().expect("is served");
    }
    assert_eq!((world.loads.load(Ordering::SeqCst), stage(&fleet, "a")), (1, Stage::Ready));
}

#[test]
fn a_failed_load_is_told_and_tried_again() {
    let (fleet, world) = fleet(10, KeepAlive::Forever);
    world.fails.store(true, Ordering::SeqCst);
    let gate = world.gate.lock().expect("no panic while locked");
    let asking = [ask(&fleet, "a", ""), ask(&fleet, "a", "")];
    drop(gate);
    for asking in asking {
        let fault = asking.end().expect_err("cannot be loaded");
        assert!(fault.message.contains("broken"), "{fault}");
    }
    assert!(matches!(stage(&fleet, "a"), Stage::Failed(_)));
    world.fails.store(false, Ordering::SeqCst);
    ask(&fleet, "a", "").end().expect("is served");
    let fault = ask(&fleet, "bug", "").end().expect_err("cannot be loaded");
    assert!(fault.message.contains("a bug"), "{fault}");
    ask(&fleet, "a", "").end().expect("the others go on");
}

#[test]
fn what_a_model_refuses_after_its_load_is_told() {
    let (fleet, _) = fleet(10, KeepAlive::Forever);
    let fault = ask(&fleet, "a", "refuse").end().expect_err("is refused");
    assert_eq!(fault, Fault::caller("no such prompt"));
    let request = Request { input: Input::Text("refuse".into()), ..Request::default() };
    let fault = fleet.send("a", request, Box::new(|_| ControlFlow::Continue(())));
    assert_eq!(fault.expect_err("at once"), Fault::caller("no such prompt"));
}

#[test]
fn who_goes_away_leaves_the_line() {
    let (fleet, world) = fleet(10, KeepAlive::Forever);
    let first = ask(&fleet, "a", "hold");
    until(|| world.runs("a") == 1);
    let mut second = ask(&fleet, "b", "");
    let third = ask(&fleet, "a", "");
    assert!(third.is_open(), "it stands behind");
    drop(second.call.take());
    second.end().expect_err("was withdrawn");
    third.end().expect("nobody needs room any more");
    assert_eq!(world.loads.load(Ordering::SeqCst), 1);
    world.finish("a");
    first.end().expect("is complete");
}

#[test]
fn models_are_kept_as_long_as_was_said() {
    let zero = Some(KeepAlive::For(Duration::ZERO));
    // (the fleet's, the request's, whether it stays)
    let rows = [
        (KeepAlive::Forever, None, true),
        (KeepAlive::Forever, zero, false),
        (KeepAlive::For(Duration::ZERO), None, false),
        (KeepAlive::For(Duration::ZERO), Some(KeepAlive::Forever), true),
        (KeepAlive::For(Duration::from_millis(30)), None, false),
    ];
    for (keep, own, stays) in rows {
        let (fleet, world) = fleet(10, keep);
        let request = Request { keep_alive: own, ..Request::default() };
        ask_with(&fleet, "a", request).end().expect("is served");
        if stays {
            std::thread::sleep(Duration::from_millis(60));
            assert_eq!(stage(&fleet, "a"), Stage::Ready, "{keep} {own:?}");
        } else {
            until(|| stage(&fleet, "a") == Stage::Unloaded);
            until(|| world.here.load(Ordering::SeqCst) == 0);
        }
    }
}

#[test]
fn models_are_loaded_and_unloaded_by_hand() {
    let (fleet, world) = fleet(12, KeepAlive::Forever);
    fleet.load("a", None).expect("is known");
    until(|| stage(&fleet, "a") == Stage::Ready);
    fleet.load("a", None).expect("is there");
    let held = ask(&fleet, "a", "hold");
    fleet.unload("a").expect("is known");
    let next = ask(&fleet, "a", "");
    assert!(held.is_open() && next.is_open(), "it goes when it is idle");
    world.finish("a");
    next.end().expect("is served by a fresh one");
    assert_eq!(world.loads.load(Ordering::SeqCst), 2);
    assert!(fleet.load("none", None).is_err() && fleet.unload("none").is_err());
    assert_eq!(fleet.with("b", |model| model.name.clone()), Ok("b".to_owned()));
    assert_eq!(fleet.each(|name, _| name.to_owned()), ["a", "b"]);
    assert_eq!(fleet.memory(), (12, 12));
}

#[test]
fn what_can_never_fit_is_refused_with_numbers() {
    let (fleet, _) = fleet(10_000_000, KeepAlive::Forever);
    let fault = fleet.add("large", 25_500_000).expect_err("does not fit");
    for words in ["`large`", "26 MB", "10 MB", "--memory-mb"] {
        assert!(fault.message.contains(words), "{fault}");
    }
}

#[test]
fn the_end_is_told_to_all_who_wait() {
    let (fleet, world) = fleet(10, KeepAlive::Forever);
    let first = ask(&fleet, "a", "hold");
    until(|| world.runs("a") == 1);
    let second = ask(&fleet, "b", "");
    world.finish("a");
    first.end().expect("is complete");
    let waiting = second.end();
    assert!(waiting.is_ok(), "it had its turn");
    let held = ask(&fleet, "b", "hold");
    until(|| world.runs("b") == 1);
    let waiting = ask(&fleet, "c", "");
    assert!(waiting.is_open());
    world.finish("b");
    held.end().expect("is complete");
    let gate = world.gate.lock().expect("no panic while locked");
    let late = ask(&fleet, "a", "");
    drop(fleet);
    drop(gate);
    assert!(waiting.events.recv_timeout(Duration::from_secs(60)).is_ok());
    late.end().expect_err("everything ends");
}

/// Threads that ask whatever they like, in memory for two of three.
#[test]
fn a_crowd_is_served_whole() {
    let (fleet, world) = fleet(12, KeepAlive::Forever);
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let fleet = &fleet;
            scope.spawn(move || {
                for step in 0..200 {
                    let model = ["a", "b", "c"][(thread * 7 + step * step) % 3];
                    let keep =
                        [None, Some(KeepAlive::For(Duration::ZERO))][usize::from(step % 5 == 0)];
                    let request = Request { keep_alive: keep, ..Request::default() };
                    let mut asking = ask_with(fleet, model, request);
                    if step % 7 == 0 {
                        drop(asking.call.take());
                        let _ = asking.end();
                    } else {
                        assert_eq!(asking.end().expect("is served").model, model);
                    }
                }
            });
        }
    });
    assert!(world.most_here.load(Ordering::SeqCst) <= 2, "the budget holds two");
    assert_eq!(fleet.waiting(), 0);
}
