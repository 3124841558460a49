//! Random lives of a ledger beside a model of it that is a few maps: calls begin, are amended, end,
//! are noted, processes die, old rows are removed, and sums agree to the micro-dollar all the time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use ingle_ledger::{By, Durability, Error, Ledger, Options, Place};
use proptest::prelude::*;

use crate::support::{DAY, Folder, entry, is_whole, reader};

#[derive(Clone, Debug)]
enum Step {
    Begin { who: usize, id: u8, worst: u32 },
    Amend { who: usize, id: u8, worst: u32 },
    End { who: usize, id: u8, cost: u32 },
    Note { who: usize, cost: u32 },
    Die { who: usize },
    Prune { after: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..2_usize;
    prop_oneof![
        4 => (who.clone(), 0..6_u8, any::<u32>())
            .prop_map(|(who, id, worst)| Step::Begin { who, id, worst }),
        2 => (who.clone(), 0..6_u8, any::<u32>())
            .prop_map(|(who, id, worst)| Step::Amend { who, id, worst }),
        4 => (who.clone(), 0..6_u8, any::<u32>())
            .prop_map(|(who, id, cost)| Step::End { who, id, cost }),
        2 => (who.clone(), any::<u32>()).prop_map(|(who, cost)| Step::Note { who, cost }),
        1 => who.prop_map(|who| Step::Die { who }),
        1 => (0..60_u16).prop_map(|after| Step::Prune { after }),
    ]
}

/// What the ledger should be.
#[derive(Debug, Default)]
struct Model {
    /// Calls under way: whose they are, when they began, and their worst.
    open: BTreeMap<u8, (usize, u64, u32)>,
    /// Entries, by time and cost.
    entries: Vec<(u64, u64)>,
    now: u64,
}

struct World<'a> {
    place: &'a Place,
    durability: Durability,
    processes: [Option<Ledger>; 2],
    model: Model,
}

impl World<'_> {
    fn ledger(&mut self, who: usize) -> &Ledger {
        let (place, durability) = (self.place, self.durability);
        let options = Options { durability, ..Options::default() };
        let open = || Ledger::open(place, &options).expect("opens");
        self.processes[who].get_or_insert_with(open)
    }

    /// A call's id. Processes whose journals are their own each have ids of their own.
    fn id(&self, who: usize, id: u8) -> u8 {
        if self.durability == Durability::Process { id + 100 * who as u8 } else { id }
    }

    fn entry(&self, id: &str, cost: u32) -> ingle_protocol::Entry {
        ingle_protocol::Entry { at_ms: self.model.now, ..entry(id, cost.into()) }
    }

    fn step(&mut self, step: &Step) {
        self.model.now += 1;
        match *step {
            Step::Begin { who, id, worst } => {
                let id = self.id(who, id);
                let entry = self.entry(&id.to_string(), worst);
                let begun = self.ledger(who).begin(&entry, &[]).and_then(|it| it.wait());
                match self.model.open.entry(id) {
                    Slot::Occupied(_) => {
                        assert!(matches!(begun, Err(Error::Twice { .. })), "{begun:?}");
                    }
                    Slot::Vacant(slot) => {
                        assert_eq!(begun, Ok(()));
                        slot.insert((who, entry.at_ms, worst));
                    }
                }
            }
            Step::Amend { who, id, worst } => {
                let id = self.id(who, id);
                let entry = self.entry(&id.to_string(), worst);
                let amended = self.ledger(who).amend(&entry, &[]).and_then(|it| it.wait());
                match self.model.open.get_mut(&id).filter(|call| call.0 == who) {
                    Some(call) => {
                        assert_eq!(amended, Ok(()));
                        *call = (who, entry.at_ms, worst);
                    }
                    None => assert!(matches!(amended, Err(Error::Closed { .. })), "{amended:?}"),
                }
            }
            Step::End { who, id, cost } => {
                let id = self.id(who, id);
                let entry = self.entry(&id.to_string(), cost);
                let ended = self.ledger(who).end(&entry).and_then(|it| it.wait());
                if self.model.open.get(&id).is_some_and(|call| call.0 == who) {
                    assert_eq!(ended, Ok(()));
                    self.model.open.remove(&id);
                    self.model.entries.push((entry.at_ms, cost.into()));
                } else {
                    assert!(matches!(ended, Err(Error::Closed { .. })), "{ended:?}");
                }
            }
            Step::Note { who, cost } => {
                let entry = self.entry("noted", cost);
                assert_eq!(self.ledger(who).note(&entry).and_then(|it| it.wait()), Ok(()));
                self.model.entries.push((entry.at_ms, cost.into()));
            }
            Step::Die { who } => self.die(who),
            Step::Prune { after } => {
                let before = DAY + u64::from(after);
                let old = |entry: &&(u64, u64)| entry.0 < before;
                let gone = self.model.entries.iter().take_while(old).count();
                let now = self.model.now;
                self.ledger(0).prune(before, now).expect("is written");
                self.model.entries.drain(..gone);
            }
        }
    }

    /// A process ends with calls under way, and another makes their entries.
    fn die(&mut self, who: usize) {
        self.processes[who] = None;
        let calls = self.model.open.extract_if(.., |_, call| call.0 == who);
        let lost: Vec<(u64, u64)> = calls.map(|(_, (_, at, worst))| (at, worst.into())).collect();
        let other = 1 - who;
        // Opening it recovers; one that was open is asked to.
        let found = match &self.processes[other] {
            Some(ledger) => ledger.recover().expect("is written"),
            None => self.ledger(other).recovered(),
        };
        let worst: u64 = lost.iter().map(|call| call.1).sum();
        assert_eq!((found.calls, found.micros), (lost.len() as u64, worst));
        self.model.entries.extend(lost);
    }

    fn agrees(&self) {
        let mut reader = reader(self.place);
        let spend = reader.spend(By::All, 0, u64::MAX).expect("is read");
        let (calls, micros) = spend.first().map_or((0, 0), |all| (all.calls, all.cost_micros));
        let model: u64 = self.model.entries.iter().map(|entry| entry.1).sum();
        assert_eq!((calls, micros), (self.model.entries.len() as u64, model));
        let open = reader.announced().expect("is read");
        assert_eq!(open.len(), self.model.open.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_ledger_is_what_happened(power: bool, steps in prop::collection::vec(step(), 1..60)) {
        let durability = if power { Durability::Power } else { Durability::Process };
        let folder = Folder::new("random");
        let place = folder.place();
        let model = Model { now: DAY, ..Model::default() };
        let mut world = World { place: &place, durability, processes: [None, None], model };
        for step in &steps {
            world.step(step);
            world.agrees();
        }
        prop_assert!(is_whole(&place));
    }
}
