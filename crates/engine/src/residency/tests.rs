//! Whole lives, played from seeds, and the rules one by one.

use super::*;
use std::collections::BTreeMap;

const SEC: fn(u64) -> Time = Time::from_secs;

fn limits(budget: u64) -> Limits {
    Limits { budget, waiting: 8, patience: SEC(1_000_000), keep: KeepAlive::Forever }
}

fn residency(limits: Limits, models: usize) -> Residency {
    let mut residency = Residency::new(limits);
    (0..models).for_each(|_| {
        residency.add();
    });
    residency
}

fn ask(model: ModelId, bytes: u64) -> Ask {
    Ask { model, bytes, keep: None, deadline: None }
}

/// All there is to do now; loads and unloads are done at once and go well.
fn settle(residency: &mut Residency, now: Time) -> Vec<Action> {
    let mut actions = Vec::new();
    while let Some(action) = residency.next(now) {
        match action {
            Action::Load(model) => residency.loaded(model, now),
            Action::Unload(model) => residency.unloaded(model, now),
            _ => {}
        }
        actions.push(action);
    }
    actions
}

use Action::{Admit, Load, Refuse, Unload};

#[test]
fn two_models_take_turns_in_memory_for_one() {
    let mut r = residency(limits(10), 2);
    assert_eq!(r.ask(ask(0, 6), SEC(0)), Ok(Asked::Waits(Ticket(0))));
    assert_eq!(settle(&mut r, SEC(0)), [Load(0), Admit(Ticket(0), 0)]);
    assert_eq!(r.ask(ask(1, 6), SEC(1)), Ok(Asked::Waits(Ticket(1))), "no room");
    assert_eq!(settle(&mut r, SEC(1)), [], "a running request keeps its model");
    assert_eq!(r.ask(ask(0, 6), SEC(2)), Ok(Asked::Waits(Ticket(2))), "nobody passes the line");
    assert_eq!(r.ask(ask(1, 6), SEC(3)), Ok(Asked::Waits(Ticket(3))));
    assert_eq!(settle(&mut r, SEC(3)), []);
    r.released(0, SEC(4));
    let batch = [Unload(0), Load(1), Admit(Ticket(1), 1), Admit(Ticket(3), 1)];
    assert_eq!(settle(&mut r, SEC(4)), batch, "all who stand in line for it go together");
    r.released(1, SEC(5));
    assert_eq!(settle(&mut r, SEC(5)), []);
    r.released(1, SEC(6));
    assert_eq!(settle(&mut r, SEC(6)), [Unload(1), Load(0), Admit(Ticket(2), 0)]);
}

#[test]
fn one_load_serves_all_who_wait_and_its_failure_is_told_and_tried_again() {
    let mut r = residency(limits(10), 1);
    for ticket in 0..3 {
        assert_eq!(r.ask(ask(0, 6), SEC(0)), Ok(Asked::Waits(Ticket(ticket))));
    }
    assert_eq!((r.next(SEC(0)), r.next(SEC(0))), (Some(Load(0)), None));
    r.failed(0, SEC(1));
    let told = [0, 1, 2].map(|ticket| Refuse(Ticket(ticket), 0, Why::Failed));
    assert_eq!(settle(&mut r, SEC(1)), told);
    assert_eq!(r.ask(ask(0, 6), SEC(2)), Ok(Asked::Waits(Ticket(3))));
    assert_eq!(settle(&mut r, SEC(2)), [Load(0), Admit(Ticket(3), 0)]);
}

#[test]
fn idle_models_leave_in_their_order() {
    // keep of models 0, 1, 2, which are asked in this order; who makes room for 3
    let check = |keeps: [Option<KeepAlive>; 3], bytes, gone: &[ModelId]| {
        let keep = KeepAlive::For(SEC(1000));
        let mut r = residency(Limits { keep, ..limits(9) }, 4);
        for (model, keep) in keeps.into_iter().enumerate() {
            let now = SEC(model as u64);
            r.ask(Ask { keep, ..ask(model, 3) }, now).expect("fits");
            settle(&mut r, now);
            r.released(model, now);
        }
        r.ask(ask(3, bytes), SEC(9)).expect("fits");
        let left = settle(&mut r, SEC(9)).into_iter().filter_map(|action| match action {
            Unload(model) => Some(model),
            _ => None,
        });
        let mut left: Vec<ModelId> = left.collect();
        left.sort_unstable();
        assert_eq!(left, gone, "{keeps:?} {bytes}");
    };
    check([None; 3], 3, &[0]);
    check([None; 3], 4, &[0, 1]);
    check([Some(KeepAlive::Forever), None, None], 3, &[1]);
    check([Some(KeepAlive::Forever), None, None], 9, &[0, 1, 2]);
}

#[test]
fn a_kept_model_leaves_when_its_time_is_over() {
    let check = |keep: KeepAlive, until: Option<u64>| {
        let mut r = residency(limits(10), 1);
        r.ask(Ask { keep: Some(keep), ..ask(0, 6) }, SEC(0)).expect("fits");
        settle(&mut r, SEC(0));
        assert_eq!(r.wakes_at(), None, "it is in use");
        r.released(0, SEC(100));
        assert_eq!(r.wakes_at(), until.map(SEC), "{keep}");
        let Some(until) = until else { return assert_eq!(settle(&mut r, SEC(1 << 40)), []) };
        if until > 100 {
            assert_eq!(settle(&mut r, SEC(until - 1)), [], "{keep}");
        }
        assert_eq!(settle(&mut r, SEC(until)), [Unload(0)], "{keep}");
    };
    check(KeepAlive::For(SEC(0)), Some(100));
    check(KeepAlive::For(SEC(300)), Some(400));
    check(KeepAlive::Forever, None);
}

#[test]
fn who_is_told_to_leave_serves_whom_it_has() {
    let mut r = residency(limits(10), 1);
    r.ask(ask(0, 6), SEC(0)).expect("fits");
    assert_eq!(r.next(SEC(0)), Some(Load(0)));
    r.leave(0);
    r.loaded(0, SEC(1));
    assert_eq!(settle(&mut r, SEC(1)), [Admit(Ticket(0), 0)]);
    assert_eq!(r.ask(ask(0, 6), SEC(2)), Ok(Asked::Waits(Ticket(1))));
    assert_eq!(settle(&mut r, SEC(2)), []);
    r.released(0, SEC(3));
    assert_eq!(settle(&mut r, SEC(3)), [Unload(0), Load(0), Admit(Ticket(1), 0)]);
    r.released(0, SEC(4));
    assert_eq!(r.ask(ask(0, 6), SEC(5)), Ok(Asked::Admitted), "it was told once");
}

/// Two models that are asked all the time make room for a third all the same.
#[test]
fn busy_models_do_not_keep_another_out() {
    let mut r = residency(limits(10), 3);
    let mut users = [0, 0, 0];
    let let_in = |r: &mut Residency, users: &mut [usize; 3], now| {
        for action in settle(r, now) {
            if let Admit(_, model) = action {
                users[model] += 1;
            }
        }
    };
    for step in 0..40 {
        let now = SEC(step);
        for model in if step == 10 { 0..3 } else { 0..2 } {
            if r.ask(ask(model, 5), now) == Ok(Asked::Admitted) {
                users[model] += 1;
            }
        }
        let_in(&mut r, &mut users, now);
        // Answers overlap: there is no moment at which both are idle by themselves.
        let model = (step % 2) as usize;
        while users[model] > 0 {
            users[model] -= 1;
            r.released(model, now);
        }
        let_in(&mut r, &mut users, now);
        if users[2] > 0 {
            return assert!((10..14).contains(&step), "{step}");
        }
    }
    panic!("the third waits for ever");
}

/// Who makes room: idle ones before others, then whoever was asked longest ago; the same ones until
/// there is room, all together, and no more than is needed.
#[test]
fn room_is_made_by_as_few_as_can_be() {
    let two = |users: [usize; 2]| {
        let mut r = residency(limits(10), 3);
        for (model, users) in users.into_iter().enumerate() {
            let now = SEC(model as u64);
            r.ask(ask(model, 5), now).expect("fits");
            settle(&mut r, now);
            for _ in 1..users {
                assert_eq!(r.ask(ask(model, 5), now), Ok(Asked::Admitted));
            }
            if users == 0 {
                r.released(model, now);
            }
        }
        r
    };
    let mut r = two([1, 0]);
    r.ask(ask(2, 5), SEC(9)).expect("fits");
    assert_eq!(r.next(SEC(9)), Some(Unload(1)), "the idle one, though it was asked later");
    assert_eq!(r.next(SEC(9)), None, "and no other while it is on its way out");

    let mut r = two([0, 0]);
    r.ask(ask(2, 5), SEC(9)).expect("fits");
    assert_eq!((r.next(SEC(9)), r.next(SEC(9))), (Some(Unload(0)), None), "one is enough");

    let mut r = two([1, 0]);
    r.ask(ask(2, 10), SEC(9)).expect("fits");
    assert_eq!(r.next(SEC(9)), None, "the idle one stays until there is room for all");

    let mut r = two([2, 1]);
    r.ask(ask(2, 5), SEC(8)).expect("fits");
    r.released(0, SEC(9));
    assert_eq!(r.ask(ask(1, 5), SEC(9)), Ok(Asked::Admitted), "it is still the first's turn");
    assert!(matches!(r.ask(ask(0, 5), SEC(9)), Ok(Asked::Waits(_))));
}

#[test]
fn who_stands_before_the_head_is_let_in() {
    let mut r = residency(limits(10), 3);
    r.ask(ask(0, 6), SEC(0)).expect("fits");
    settle(&mut r, SEC(0));
    for model in [1, 0, 2] {
        assert!(matches!(r.ask(ask(model, 6), SEC(1)), Ok(Asked::Waits(_))));
    }
    assert_eq!(settle(&mut r, SEC(1)), []);
    r.withdraw(Ticket(1));
    assert_eq!(settle(&mut r, SEC(2)), [Admit(Ticket(2), 0)]);
}

#[test]
fn a_long_load_tries_nobodys_patience() {
    let mut r = residency(Limits { patience: SEC(60), ..limits(10) }, 1);
    r.ask(ask(0, 6), SEC(0)).expect("fits");
    assert_eq!((r.next(SEC(0)), r.next(SEC(999))), (Some(Load(0)), None));
    r.loaded(0, SEC(1000));
    assert_eq!(r.next(SEC(1000)), Some(Admit(Ticket(0), 0)));
}

#[test]
fn waiting_has_its_bounds() {
    let mut r = residency(Limits { patience: SEC(60), waiting: 2, ..limits(10) }, 2);
    assert_eq!(r.ask(ask(0, 11), SEC(0)), Err(Refused::TooLarge));
    r.ask(ask(0, 6), SEC(0)).expect("fits");
    settle(&mut r, SEC(0));
    let hurried = Ask { deadline: Some(SEC(5)), ..ask(1, 6) };
    assert_eq!(r.ask(hurried, SEC(1)), Ok(Asked::Waits(Ticket(1))));
    assert_eq!(r.ask(ask(1, 6), SEC(2)), Ok(Asked::Waits(Ticket(2))));
    assert_eq!(r.ask(ask(1, 6), SEC(3)), Err(Refused::Full));
    assert_eq!(r.wakes_at(), Some(SEC(5)));
    assert_eq!(settle(&mut r, SEC(5)), [Refuse(Ticket(1), 1, Why::Late)]);
    assert_eq!(r.wakes_at(), Some(SEC(62)));
    assert_eq!(settle(&mut r, SEC(62)), [Refuse(Ticket(2), 1, Why::NoRoom)]);
    assert_eq!(r.ask(ask(0, 6), SEC(63)), Ok(Asked::Admitted), "the line is gone");
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

/// A life: what the world beside the residency knows of it.
struct World {
    chance: Chance,
    r: Residency,
    now: Time,
    sizes: Vec<u64>,
    places: Vec<Place>,
    users: Vec<usize>,
    /// Who waits, oldest first, and for what.
    waiting: BTreeMap<Ticket, ModelId>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let models = 1 + chance.below(5) as usize;
        let budget = 4 + chance.below(12);
        let keeps = [KeepAlive::Forever, KeepAlive::For(SEC(0)), KeepAlive::For(SEC(7))];
        let keep = keeps[chance.below(3) as usize];
        let patience = if chance.below(3) == 0 { SEC(40) } else { SEC(1 << 30) };
        let limits = Limits { budget, waiting: 1 + chance.below(9) as usize, patience, keep };
        Self {
            r: residency(limits, models),
            now: SEC(0),
            sizes: (0..models).map(|_| 1 + chance.below(budget + 1)).collect(),
            places: vec![Place::Out; models],
            users: vec![0; models],
            waiting: BTreeMap::new(),
            chance,
        }
    }

    /// Does all there is to do, and checks each thing.
    fn act(&mut self) {
        let mut steps = 0;
        while let Some(action) = self.r.next(self.now) {
            steps += 1;
            assert!(steps < 1000, "it does not settle");
            match action {
                Load(model) => {
                    assert_eq!(self.places[model], Place::Out);
                    let out =
                        |id: &&ModelId| matches!(self.places[**id], Place::Out | Place::Leaving);
                    let first = self.waiting.values().find(out);
                    assert_eq!(first, Some(&model), "someone was overtaken: {:?}", self.waiting);
                    self.places[model] = Place::Loading;
                }
                Unload(model) => {
                    assert_eq!((self.places[model], self.users[model]), (Place::In, 0));
                    self.places[model] = Place::Leaving;
                }
                Admit(ticket, model) => {
                    let wanted = self.waiting.remove(&ticket).expect("it waited");
                    assert_eq!((wanted, self.places[model]), (model, Place::In));
                    self.users[model] += 1;
                }
                Refuse(ticket, model, _) => {
                    let wanted = self.waiting.remove(&ticket).expect("it waited");
                    assert_eq!(wanted, model);
                }
            }
            self.check();
        }
        assert!(self.r.wakes_at().is_none_or(|at| at > self.now), "it would wake at once");
    }

    fn check(&self) {
        let held =
            |(at, place): (usize, &Place)| if *place == Place::Out { 0 } else { self.sizes[at] };
        let used: u64 = self.places.iter().enumerate().map(held).sum();
        assert!(used <= self.r.limits.budget, "{used} of {}", self.r.limits.budget);
        assert_eq!(used, self.r.used());
        assert_eq!(self.waiting.len(), self.r.waiting());
        for (model, place) in self.places.iter().enumerate() {
            assert_eq!(self.r.place(model), *place);
            assert!(self.users[model] == 0 || *place == Place::In);
        }
    }

    fn ask(&mut self, model: ModelId) {
        let keep = match self.chance.below(6) {
            0 => Some(KeepAlive::Forever),
            1 => Some(KeepAlive::For(SEC(self.chance.below(9)))),
            _ => None,
        };
        let deadline = (self.chance.below(8) == 0).then(|| self.now + SEC(self.chance.below(9)));
        let bytes = self.sizes[model];
        match self.r.ask(Ask { model, bytes, keep, deadline }, self.now) {
            Ok(Asked::Admitted) => {
                assert_eq!(self.places[model], Place::In);
                self.users[model] += 1;
            }
            Ok(Asked::Waits(ticket)) => {
                self.waiting.insert(ticket, model);
            }
            Err(Refused::Full) => assert_eq!(self.waiting.len(), self.r.limits.waiting),
            Err(Refused::TooLarge) => assert!(bytes > self.r.limits.budget),
        }
    }

    /// What somebody else began is done: a load, an unload, an answer.
    fn finish(&mut self, model: ModelId, well: bool) {
        match self.places[model] {
            Place::Loading if well => {
                self.places[model] = Place::In;
                self.r.loaded(model, self.now);
            }
            Place::Loading => {
                self.places[model] = Place::Out;
                self.r.failed(model, self.now);
            }
            Place::Leaving => {
                self.places[model] = Place::Out;
                self.r.unloaded(model, self.now);
            }
            Place::In if self.users[model] > 0 => {
                self.users[model] -= 1;
                self.r.released(model, self.now);
            }
            _ => {}
        }
    }

    fn step(&mut self) {
        let model = self.chance.below(self.sizes.len() as u64) as usize;
        match self.chance.below(16) {
            0..6 => self.ask(model),
            6..12 => {
                let well = self.chance.below(5) > 0;
                self.finish(model, well);
            }
            12 => {
                let at = self.chance.below(self.waiting.len() as u64 + 1) as usize;
                if let Some(ticket) = self.waiting.keys().nth(at).copied() {
                    self.waiting.remove(&ticket);
                    self.r.withdraw(ticket);
                }
            }
            13 => self.r.leave(model),
            _ => self.now += SEC(self.chance.below(12)),
        }
        self.act();
    }

    /// Nobody comes any more: everyone who waits must come to an end.
    fn end(&mut self) {
        for _ in 0..200 {
            (0..self.sizes.len()).for_each(|model| {
                self.finish(model, true);
                self.act();
            });
        }
        assert!(self.waiting.is_empty(), "waiting for ever: {:?}\n{:?}", self.waiting, self.r);
        assert_eq!(self.users.iter().sum::<usize>(), 0);
    }
}

#[test]
fn whole_lives() {
    let (seeds, mut waits) = (0..3000, 0);
    for seed in seeds {
        let life = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..150 {
                world.step();
            }
            world.end();
            world.r.tickets
        });
        waits += life.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(waits > 50_000, "few waited: {waits}");
}
