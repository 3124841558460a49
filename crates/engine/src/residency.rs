//! Which models are in memory: a budget, who uses what, who waits. Decides and does nothing else:
//! no clock, no thread, no model; time is an argument, so that a simulation can play whole lives
//! of it. Whoever drives it does each [`Action`] and tells what came of it.
//!
//! Requests that cannot be served at once stand in one line, and the first of them whose model is
//! out decides what is loaded next: nobody overtakes it. The models that have to make room for it
//! take nobody new in and leave once they are idle, so no request is ever cut off, and none waits
//! for ever. When a model comes in, all who stand in line for it by then are served together;
//! whoever comes later and finds others waiting for its memory stands behind them. So models that
//! take turns serve a batch each.

use ingle_protocol::KeepAlive;
use std::time::Duration;

/// Time since whatever moment the caller counts from.
pub(crate) type Time = Duration;

/// A model, by its place in the list.
pub(crate) type ModelId = usize;

/// A request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of all models in memory, those on their way in or out included.
    pub(crate) budget: u64,
    /// Requests in line.
    pub(crate) waiting: usize,
    /// The longest wait for others to make room.
    pub(crate) patience: Time,
    /// How long an idle model stays where its last request does not say.
    pub(crate) keep: KeepAlive,
}

/// Where a model is. It has its bytes in every place but `Out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Out,
    Loading,
    In,
    Leaving,
}

/// What a request wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) model: ModelId,
    /// What the model takes when it is in.
    pub(crate) bytes: u64,
    pub(crate) keep: Option<KeepAlive>,
    /// It is refused then, if it still waits.
    pub(crate) deadline: Option<Time>,
}

/// A request's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It is served; [`Residency::released`] has to follow.
    Admitted,
    /// It waits; an action with this ticket will follow, unless it is withdrawn.
    Waits(Ticket),
}

/// Why a request is not even let into the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The line is full.
    Full,
    /// The model is larger than the budget.
    TooLarge,
}

/// Why a request does not wait any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its model could not be loaded.
    Failed,
    /// Its own time is over.
    Late,
    /// Nobody made room for too long.
    NoRoom,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Load it; [`Residency::loaded`] or [`Residency::failed`] has to follow.
    Load(ModelId),
    /// Drop it; [`Residency::unloaded`] has to follow.
    Unload(ModelId),
    /// Serve it; [`Residency::released`] has to follow.
    Admit(Ticket, ModelId),
    /// Tell it that it will not be served.
    Refuse(Ticket, ModelId, Why),
}

#[derive(Clone, Copy, Debug)]
struct Model {
    place: Place,
    bytes: u64,
    users: usize,
    keep: KeepAlive,
    /// When its last user was let in.
    asked: Time,
    /// When it came in, or its last user left.
    idle: Time,
    /// It was told to leave.
    leave: bool,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    ticket: Ticket,
    ask: Ask,
    since: Time,
    /// It was in line when its model came in.
    boards: bool,
    failed: bool,
}

/// Who is in, who waits. All of it is small: a few models, a bounded line.
#[derive(Debug)]
pub(crate) struct Residency {
    limits: Limits,
    models: Vec<Model>,
    /// Oldest first.
    line: Vec<Waiter>,
    tickets: u64,
}

impl Residency {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, models: Vec::new(), line: Vec::new(), tickets: 0 }
    }

    /// Takes one more model in, which is out.
    pub(crate) fn add(&mut self) -> ModelId {
        self.models.push(Model {
            place: Place::Out,
            bytes: 0,
            users: 0,
            keep: self.limits.keep,
            asked: Time::ZERO,
            idle: Time::ZERO,
            leave: false,
        });
        self.models.len() - 1
    }

    pub(crate) fn place(&self, model: ModelId) -> Place {
        self.models[model].place
    }

    /// Requests that a model serves or that wait for it.
    pub(crate) fn requests(&self, model: ModelId) -> usize {
        self.models[model].users + self.line.iter().filter(|w| w.ask.model == model).count()
    }

    /// Requests in line.
    pub(crate) fn waiting(&self) -> usize {
        self.line.len()
    }

    /// Bytes of all that are not out.
    pub(crate) fn used(&self) -> u64 {
        self.models.iter().filter(|model| model.place != Place::Out).map(|model| model.bytes).sum()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// From now on idle models stay for so long, where requests do not say.
    pub(crate) fn keep(&mut self, keep: KeepAlive) {
        self.limits.keep = keep;
    }

    /// A request comes.
    pub(crate) fn ask(&mut self, ask: Ask, now: Time) -> Result<Asked, Refused> {
        if ask.bytes > self.limits.budget {
            return Err(Refused::TooLarge);
        }
        if self.place(ask.model) == Place::In && !self.closed(ask.model) {
            self.admit(&ask, now);
            return Ok(Asked::Admitted);
        }
        if self.line.len() >= self.limits.waiting {
            return Err(Refused::Full);
        }
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        self.line.push(Waiter { ticket, ask, since: now, boards: false, failed: false });
        Ok(Asked::Waits(ticket))
    }

    /// Someone in line went away. Nothing where it is in line no more.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) {
        self.line.retain(|waiter| waiter.ticket != ticket);
    }

    /// A user of a model is done.
    pub(crate) fn released(&mut self, model: ModelId, now: Time) {
        let model = &mut self.models[model];
        debug_assert!(model.users > 0 && model.place == Place::In, "released twice: {model:?}");
        model.users = model.users.saturating_sub(1);
        model.idle = now;
    }

    /// A model came in; whoever stands in line for it goes with it.
    pub(crate) fn loaded(&mut self, model: ModelId, now: Time) {
        self.arrive(model, Place::In, now);
        self.waiters_of(model).for_each(|waiter| waiter.boards = true);
    }

    /// A model could not be loaded; whoever stands in line for it hears of it.
    pub(crate) fn failed(&mut self, model: ModelId, now: Time) {
        self.arrive(model, Place::Out, now);
        self.waiters_of(model).for_each(|waiter| waiter.failed = true);
    }

    /// A model is gone.
    pub(crate) fn unloaded(&mut self, model: ModelId, now: Time) {
        self.arrive(model, Place::Out, now);
    }

    /// A model takes so many bytes from now on, where it is not out. False, and nothing is changed,
    /// where there is no room for more of them.
    pub(crate) fn resize(&mut self, model: ModelId, bytes: u64) -> bool {
        let Model { place, bytes: before, .. } = self.models[model];
        if place == Place::Out {
            return bytes <= self.limits.budget;
        }
        let fits = bytes <= before || self.used() - before + bytes <= self.limits.budget;
        if fits {
            self.models[model].bytes = bytes;
        }
        fits
    }

    /// A model is to go as soon as it is idle.
    pub(crate) fn leave(&mut self, model: ModelId) {
        let model = &mut self.models[model];
        model.leave = matches!(model.place, Place::In | Place::Loading);
    }

    fn arrive(&mut self, model: ModelId, place: Place, now: Time) {
        let model = &mut self.models[model];
        let leave = model.leave && place == Place::In;
        *model = Model { place, idle: now, asked: now, leave, ..*model };
    }

    fn waiters_of(&mut self, model: ModelId) -> impl Iterator<Item = &mut Waiter> {
        self.line.iter_mut().filter(move |waiter| waiter.ask.model == model)
    }

    fn admit(&mut self, ask: &Ask, now: Time) {
        let keep = ask.keep.unwrap_or(self.limits.keep);
        let model = &mut self.models[ask.model];
        model.users += 1;
        (model.keep, model.asked) = (keep, now);
    }

    /// The place in line of the first whose model is out, or on its way there.
    fn head(&self) -> Option<usize> {
        let out = |w: &Waiter| matches!(self.place(w.ask.model), Place::Out | Place::Leaving);
        self.line.iter().position(out)
    }

    /// Which models have to leave so that the head's has room: idle ones first, those that no time
    /// unloads last, then whoever was asked longest ago. An order that no release changes, so that
    /// who makes room stays who does.
    fn victims(&self) -> Vec<ModelId> {
        let Some(head) = self.head() else { return Vec::new() };
        let leaving = self.models.iter().filter(|model| model.place == Place::Leaving);
        let staying = self.used() - leaving.map(|model| model.bytes).sum::<u64>();
        let mut short = (staying + self.line[head].ask.bytes).saturating_sub(self.limits.budget);
        let mut order: Vec<ModelId> =
            (0..self.models.len()).filter(|&id| self.place(id) == Place::In).collect();
        order.sort_by_key(|&id| {
            let model = &self.models[id];
            (model.users > 0, model.keep == KeepAlive::Forever, model.asked, id)
        });
        let needed = order.into_iter().take_while(|&id| {
            let more = short > 0;
            short = short.saturating_sub(self.models[id].bytes);
            more
        });
        needed.collect()
    }

    /// Whether a model that is in takes nobody new.
    fn closed(&self, model: ModelId) -> bool {
        self.models[model].leave || self.victims().contains(&model)
    }

    /// What is to be done now, one thing at a time; it counts as begun.
    pub(crate) fn next(&mut self, now: Time) -> Option<Action> {
        self.refuse(now)
            .or_else(|| self.board(now))
            .or_else(|| self.unload(now))
            .or_else(|| self.load())
    }

    fn refuse(&mut self, now: Time) -> Option<Action> {
        let why = |waiter: &Waiter| match waiter {
            waiter if waiter.failed => Some(Why::Failed),
            waiter if waiter.ask.deadline.is_some_and(|at| at <= now) => Some(Why::Late),
            waiter if self.impatient_at(waiter).is_some_and(|at| at <= now) => Some(Why::NoRoom),
            _ => None,
        };
        let found = self.line.iter().position(|waiter| why(waiter).is_some())?;
        let why = why(&self.line[found])?;
        let waiter = self.line.remove(found);
        Some(Action::Refuse(waiter.ticket, waiter.ask.model, why))
    }

    /// When a waiter's patience ends: never while its model is loaded.
    fn impatient_at(&self, waiter: &Waiter) -> Option<Time> {
        let coming = self.place(waiter.ask.model) == Place::Loading || waiter.boards;
        (!coming).then(|| waiter.since.saturating_add(self.limits.patience))
    }

    /// Lets in who need not wait any more: who boards, who stands before the head, and everyone
    /// whose model has not to make room.
    fn board(&mut self, now: Time) -> Option<Action> {
        let (head, victims) = (self.head().unwrap_or(usize::MAX), self.victims());
        let found = self.line.iter().enumerate().position(|(at, waiter)| {
            let id = waiter.ask.model;
            let open = !self.models[id].leave && (at < head || !victims.contains(&id));
            self.place(id) == Place::In && (waiter.boards || open)
        })?;
        let waiter = self.line.remove(found);
        self.admit(&waiter.ask, now);
        Some(Action::Admit(waiter.ticket, waiter.ask.model))
    }

    /// An idle model leaves when its time is over, when it was told to, or, all together, when
    /// those that have to make room are idle.
    fn unload(&mut self, now: Time) -> Option<Action> {
        let mut victims = self.victims();
        if victims.iter().any(|&id| self.models[id].users > 0) {
            victims.clear();
        }
        let leaves = |(id, model): &(ModelId, &Model)| {
            let over = self.expires_at(model).is_some_and(|at| at <= now);
            let idle = model.place == Place::In && model.users == 0;
            idle && (model.leave || over || victims.contains(id))
        };
        let (id, _) = self.models.iter().enumerate().find(leaves)?;
        self.models[id].place = Place::Leaving;
        Some(Action::Unload(id))
    }

    fn expires_at(&self, model: &Model) -> Option<Time> {
        match model.keep {
            KeepAlive::For(time) if model.place == Place::In && model.users == 0 => {
                Some(model.idle.saturating_add(time))
            }
            _ => None,
        }
    }

    fn load(&mut self) -> Option<Action> {
        let ask = self.line[self.head()?].ask;
        let out = self.place(ask.model) == Place::Out;
        if !out || self.used() + ask.bytes > self.limits.budget {
            return None;
        }
        let model = &mut self.models[ask.model];
        (model.place, model.bytes) = (Place::Loading, ask.bytes);
        model.keep = ask.keep.unwrap_or(self.limits.keep);
        Some(Action::Load(ask.model))
    }

    /// When something will be to be done though nobody comes, goes or tells anything.
    pub(crate) fn wakes_at(&self) -> Option<Time> {
        let models = self.models.iter().filter_map(|model| self.expires_at(model));
        let late = self.line.iter().filter_map(|waiter| waiter.ask.deadline);
        let impatient = self.line.iter().filter_map(|waiter| self.impatient_at(waiter));
        models.chain(late).chain(impatient).min()
    }
}

#[cfg(test)]
mod tests;
