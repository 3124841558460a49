//! One call from its decision to its entry in the book. Candidates are tried in the decision's
//! order as long as nothing of an answer was told; what is held for a try is held before it and
//! settled after it; the caller's last event comes when the entry is on the disk. Before each
//! candidate that is elsewhere is asked, the book has what the call can have cost by then: what the
//! tries so far took, and the worst of that one.
//!
//! A flight is one value behind a lock, which is never held while a provider is asked.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ingle_protocol::{
    Blame, Call, End, Entry, Event, Fault, Finish, Origin, Receipt, Request, Retry, Sink, Step,
    Timings,
};

use super::{Held, Kept, Said, Way, broken, keep, refusal};
use crate::Standing;
use crate::budget::{Amount, Refusal, hold_of};
use crate::policy::{self, Choice, Over};
use crate::privacy::{Redaction, Restorer};
use crate::remote::{Outcome, Plan, Told, Try};

type Shared = Arc<Mutex<Flight>>;

struct Flight {
    way: Arc<Way>,
    held: Arc<Held>,
    request: Request,
    /// Who was not tried yet.
    left: VecDeque<Choice>,
    /// When it was decided, in milliseconds since 1970: what it is charged to is of then.
    decided_ms: u64,
    /// What the tries so far took is in it.
    entry: Entry,
    announced: bool,
    /// Whether the book has more of it than what the tries so far took.
    amends: bool,
    sink: Option<Sink>,
    restorer: Option<Restorer>,
    /// What the caller was told, where the book wants to know.
    said: Option<Said>,
    /// Whether anything of an answer was told: then nobody else is asked.
    told: bool,
    gone: bool,
    call: Option<Call>,
    fault: Option<Fault>,
    /// When the time that the request gives is over, in milliseconds since 1970.
    until_ms: Option<u64>,
}

/// Decides on a request and begins to carry that out.
pub(super) fn start(way: &Arc<Way>, request: Request, sink: Sink) -> Result<Call, Fault> {
    let held = way.held();
    let origin = origin(way, &request);
    let mut entry = keep::begun(&held, &origin, &request.model);
    let request = Request { origin: Some(Arc::clone(&origin)), ..request };
    let decided_ms = way.now_ms();
    let decision = way.decide(&held, &request, &origin, decided_ms);
    let mut stays = true;
    let choices = decision.and_then(|decision| {
        keep::decided(&mut entry, &decision);
        stays = decision.stays;
        decision.outcome.map_err(|refused| refusal(&refused))
    });
    let choices = match choices {
        Ok(choices) => choices,
        Err(fault) => {
            entry.end = End::Refused;
            way.book.note(&entry, Box::new(drop));
            return Err(fault);
        }
    };
    let until_ms = request.timeout_ms.map(|ms| way.now_ms().saturating_add(ms.into()));
    let flight = Arc::new(Mutex::new(Flight {
        way: Arc::clone(way),
        held,
        request,
        left: choices.into(),
        decided_ms,
        entry,
        announced: false,
        amends: false,
        sink: Some(sink),
        restorer: None,
        said: way.book.wants_content(stays).then(Said::default),
        told: false,
        gone: false,
        call: None,
        fault: None,
        until_ms,
    }));
    let dropped = Arc::clone(&flight);
    let (call, _) = Call::telling(move || abandon(&dropped));
    match step(&flight) {
        Ok(()) => Ok(call),
        Err(fault) => {
            let mut it = lock(&flight);
            it.entry.end = End::Failed;
            it.sink = None;
            let (way, entry, announced) = (Arc::clone(&it.way), it.entry.clone(), it.announced);
            drop(it);
            match announced {
                true => way.book.end(&entry, Box::new(drop)),
                false => way.book.note(&entry, Box::new(drop)),
            }
            Err(fault)
        }
    }
}

/// Where a request comes from; one that does not say gets an id of its own.
fn origin(way: &Way, request: &Request) -> Arc<Origin> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let known = request.origin.clone().filter(|origin| !origin.id.is_empty());
    known.unwrap_or_else(|| {
        let (now_ms, number) = (way.now_ms(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let id = format!("call-{}-{now_ms}-{number}", std::process::id());
        let at_ms = now_ms;
        let given = request.origin.as_deref().cloned().unwrap_or_default();
        Arc::new(Origin { id, at_ms, ..given })
    })
}

fn lock(flight: &Shared) -> MutexGuard<'_, Flight> {
    flight.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The caller went away.
fn abandon(flight: &Shared) {
    let mut it = lock(flight);
    it.gone = true;
    let call = it.call.take();
    drop(it);
    drop(call);
}

/// Whether somebody else may do what this one could not.
fn may_go_on(fault: &Fault) -> bool {
    fault.retry != Retry::Never || matches!(fault.blame, Blame::Provider | Blame::Us)
}

/// Why a candidate did not answer, in words of ours alone: what a fault says itself may repeat a
/// request or an answer, which are in no ledger.
fn plainly(fault: &Fault) -> &'static str {
    match (fault.blame, fault.retry) {
        (Blame::Caller, Retry::Never) => "it cannot answer this request",
        (Blame::Caller, _) => "it cannot answer in the time that the request gives",
        (Blame::Provider, _) => "its provider failed",
        (Blame::Us, Retry::After(_)) => "it is full",
        (Blame::Us, Retry::WhenReady(_)) => "it is not ready yet",
        (Blame::Us, _) => "it failed",
        (Blame::Policy, _) => "what is in the request keeps it from leaving",
        (Blame::Budget, _) => "a budget has no room for it any more",
    }
}

/// Tries who is left until one is under way.
fn step(flight: &Shared) -> Result<(), Fault> {
    loop {
        let mut it = lock(flight);
        if it.gone {
            drop(it);
            conclude(flight, Err(Fault::ours("the caller went away")));
            return Ok(());
        }
        it.time_left()?;
        let Some(choice) = it.left.pop_front() else {
            let none = || Fault::ours("nobody was left to ask; this is a bug");
            return Err(it.fault.take().unwrap_or_else(none));
        };
        drop(it);
        let name = choice.candidate.to_string();
        match attempt(flight, choice) {
            Ok(()) => return Ok(()),
            Err(fault) => {
                let mut it = lock(flight);
                it.judge(&name, false, plainly(&fault));
                if !may_go_on(&fault) {
                    return Err(fault);
                }
                it.fault = Some(fault);
            }
        }
    }
}

impl Flight {
    /// Milliseconds that are left of the time that the request gives, if it gives one.
    fn time_left(&self) -> Result<Option<u64>, Fault> {
        let Some(until_ms) = self.until_ms else { return Ok(None) };
        let left = until_ms.saturating_sub(self.way.now_ms());
        let late = || {
            let message = "the time given was over before anybody answered: allow more of it";
            Fault::late(Duration::from_secs(1), message).at("timeout_ms")
        };
        Some(left).filter(|left| *left > 0).map(Some).ok_or_else(late)
    }

    /// What is to be found of this call were the program to end while this one is asked: what the
    /// tries so far took and the most that this one can, and what is held for it, by account.
    fn worst(&self, choice: &Choice) -> (Entry, Vec<(String, Amount)>) {
        let worst = keep::worst(&self.entry, choice, self.decided_ms);
        let held = choice.claims.iter().map(|claim| (claim.account.name.clone(), choice.hold()));
        (worst, held.collect())
    }

    /// Notes what a candidate took; what is to be settled for it.
    fn charge(&mut self, choice: &Choice, took: (Option<u64>, u64)) -> Amount {
        keep::charge(&mut self.entry, choice, self.decided_ms, took)
    }

    /// Notes what came of a candidate, in words of ours.
    fn judge(&mut self, candidate: &str, taken: bool, why: &str) {
        let short: String = why.chars().take(300).collect();
        match self.entry.route.iter_mut().find(|step| step.candidate == candidate) {
            Some(step) => {
                step.taken = taken;
                if !taken {
                    step.reason = format!("{}; tried: {short}", step.reason);
                }
            }
            None => {
                let step = Step { candidate: candidate.to_owned(), taken, reason: short };
                self.entry.route.push(step);
            }
        }
    }

    /// Hands an event on, restored.
    fn deliver(&mut self, event: Event) -> ControlFlow<()> {
        self.told = true;
        let said = &mut self.said;
        let Some(sink) = &mut self.sink else { return ControlFlow::Break(()) };
        let mut tell = |event: Event| {
            if let Some(said) = said {
                said.hear(&event);
            }
            sink(event)
        };
        match &mut self.restorer {
            Some(restorer) => restorer.event(event).into_iter().try_for_each(tell),
            None => tell(event),
        }
    }
}

/// The id that a try's reservation has.
fn held_as(id: &str, choice: &Choice) -> String {
    hold_of(id, &choice.candidate.to_string())
}

fn attempt(flight: &Shared, mut choice: Choice) -> Result<(), Fault> {
    let (way, id) = {
        let it = lock(flight);
        (Arc::clone(&it.way), held_as(&it.entry.id, &choice))
    };
    if !choice.claims.is_empty() {
        let mut tries = choice.tries;
        let mut held = reserve(&way, &id, &mut choice);
        if let Err(Refusal::Stale(_)) = &held {
            choice = renew(flight, &way, &choice)?;
            tries = choice.tries;
            held = reserve(&way, &id, &mut choice);
        }
        if let Err(refusal) = held {
            let over = matches!(refusal, Refusal::Over { .. });
            if !(over && std::mem::take(&mut lock(flight).amends)) {
                return Err(no_room(flight, &refusal));
            }
            lower(flight, &way, Choice { tries, ..choice });
            return Ok(());
        }
    }
    let begun = match choice.leaves {
        true => leave(flight, &way, choice.clone()),
        false => stay(flight, &way, choice.clone()),
    };
    if begun.is_err() && !choice.claims.is_empty() {
        drop(way.store.release(&id));
    }
    begun
}

/// Holds what a candidate may take; where others were quicker, what one try of it may.
fn reserve(way: &Way, id: &str, choice: &mut Choice) -> Result<(), Refusal> {
    let now_ms = way.now_ms();
    loop {
        match way.store.reserve(id, choice.hold(), &choice.claims, now_ms) {
            Err(Refusal::Over { .. }) if choice.tries > 1 => choice.tries = 1,
            held => return held,
        }
    }
}

/// Another day has begun since it was decided: who is left to be asked is decided on again, with
/// the budgets of now. Returns the one that is asked next, as it is decided then.
fn renew(flight: &Shared, way: &Way, choice: &Choice) -> Result<Choice, Fault> {
    let (held, request, decided_ms) = {
        let it = lock(flight);
        (Arc::clone(&it.held), it.request.clone(), way.now_ms())
    };
    let origin = request.origin.clone().unwrap_or_default();
    let decision = way.decide(&held, &request, &origin, decided_ms)?;
    let choices = decision.outcome.map_err(|refused| refusal(&refused))?;
    let anew = |old: &Choice| choices.iter().find(|it| it.candidate == old.candidate).cloned();
    let next = anew(choice).ok_or_else(|| {
        let message = "the day ended while this was decided, and who was to be asked may not be \
                       any more: try again";
        Fault::not_ready(Duration::from_secs(1), message)
    });
    let mut it = lock(flight);
    let left = it.left.iter().filter_map(anew).collect();
    (it.left, it.decided_ms) = (left, decided_ms);
    next
}

/// There is no room for a candidate beside all that failed ones could have taken: the book is told
/// what they took, so that budgets give up the rest, and room is asked for once more.
fn lower(flight: &Shared, way: &Way, choice: Choice) {
    let worst = Entry { instead_micros: None, ..lock(flight).entry.clone() };
    let (then, handle) = (Arc::clone(flight), way.handle.clone());
    // Where it cannot be told, there is no more room than there was.
    let again: Kept = Box::new(move |_: Result<(), Fault>| {
        drop(handle.spawn_blocking(move || resume(&then, choice)));
    });
    way.book.amend(&worst, &[], again);
}

/// Tries a candidate for which there was no room.
fn resume(flight: &Shared, choice: Choice) {
    let gone = lock(flight).gone;
    if gone {
        return conclude(flight, Err(Fault::ours("the caller went away")));
    }
    let name = choice.candidate.to_string();
    if let Err(fault) = attempt(flight, choice) {
        lock(flight).judge(&name, false, plainly(&fault));
        go_on(flight, fault);
    }
}

/// Others took what there was since it was decided. Where the budget refuses, nothing computed here
/// stands in, as in the decision.
fn no_room(flight: &Shared, refusal: &Refusal) -> Fault {
    let Refusal::Over { account, .. } = refusal else { return broken(refusal) };
    let mut it = lock(flight);
    if policy::over(&it.held.table, account) == Over::Refuse {
        it.left.retain(|next| next.leaves);
    }
    let retry = if it.left.is_empty() { Retry::Never } else { Retry::Elsewhere };
    Fault { blame: Blame::Budget, retry, ..Fault::caller(refusal.to_string()) }
}

/// Takes the one try that a model of this machine has which could not be loaded, unless somebody
/// else did since it was decided.
fn wake(way: &Way, model: &str) -> Result<(), Fault> {
    if !way.rests.any() {
        return Ok(());
    }
    let now_ms = way.now_ms();
    let card = way.local.find(model)?.filter(|card| card.standing == Standing::Failed);
    card.map_or(Ok(()), |card| way.rests.ask(&card.name, now_ms)).map_err(|until_ms| {
        let message = "this model could not be loaded a moment ago: try again soon";
        Fault::not_ready(Duration::from_millis(until_ms.saturating_sub(now_ms)), message)
    })
}

/// Has this machine answer.
fn stay(flight: &Shared, way: &Way, choice: Choice) -> Result<(), Fault> {
    wake(way, &choice.candidate.model)?;
    let (request, others) = {
        let mut it = lock(flight);
        it.restorer = None;
        let most = choice.max_tokens.and_then(|most| u32::try_from(most).ok());
        let max_tokens = match (it.request.max_tokens, most) {
            (Some(wanted), Some(most)) => Some(wanted.min(most)),
            (wanted, most) => wanted.or(most),
        };
        let model = choice.candidate.model.clone();
        let left = it.time_left()?.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX));
        let request = Request { model, max_tokens, timeout_ms: left, ..it.request.clone() };
        (request, it.left.len())
    };
    let told = Arc::clone(flight);
    let sink: Sink = Box::new(move |event| match event {
        Event::Done(receipt) => {
            aside(&told, &choice, move |told, choice| computed(told, choice, Ok(*receipt)));
            ControlFlow::Continue(())
        }
        Event::Failed(fault) => {
            aside(&told, &choice, move |told, choice| computed(told, choice, Err(fault)));
            ControlFlow::Continue(())
        }
        event => lock(&told).deliver(event),
    });
    let call = way.local.send(request, sink)?;
    take(flight, others, call);
    Ok(())
}

/// The call that a flight is now, unless its caller went away meanwhile.
///
/// It may have failed already, and the next one be under way on another thread, whose call is not
/// to be given up for this one's: `left` are those who were left to ask when this one was asked.
fn take(flight: &Shared, left: usize, call: Call) {
    let mut it = lock(flight);
    let over = it.gone || it.sink.is_none() || it.left.len() != left;
    let call = if over { Some(call) } else { it.call.replace(call) };
    drop(it);
    drop(call);
}

/// This machine's answer has ended.
fn computed(flight: &Shared, choice: &Choice, outcome: Result<Receipt, Fault>) {
    let mut it = lock(flight);
    let name = choice.candidate.to_string();
    match outcome {
        Ok(receipt) => {
            let held = Arc::clone(&it.held);
            keep::local(&held, &mut it.entry, &choice.candidate.model, &receipt);
            it.judge(&name, true, "");
            // Its cost is known at the end alone, and is no budget's.
            let took = it.charge(choice, (Some(0), receipt.usage.total()));
            drop(it);
            settle(flight, choice, took);
            conclude(flight, Ok(receipt));
        }
        Err(fault) => {
            it.judge(&name, false, plainly(&fault));
            it.entry.tries += 1;
            drop(it);
            settle(flight, choice, Amount::default());
            go_on(flight, fault);
        }
    }
}

/// Does what asks the store of budgets for a candidate on a thread that may wait for it: who tells
/// of an answer's end, or of what is kept, may not.
fn aside(flight: &Shared, choice: &Choice, work: impl FnOnce(&Shared, &Choice) + Send + 'static) {
    let way = Arc::clone(&lock(flight).way);
    if choice.claims.is_empty() || !way.store.waits() {
        return work(flight, choice);
    }
    let (flight, choice) = (Arc::clone(flight), choice.clone());
    drop(way.handle.spawn_blocking(move || work(&flight, &choice)));
}

/// Settles what is held for a candidate. May wait; nobody holds the flight meanwhile.
fn settle(flight: &Shared, choice: &Choice, took: Amount) {
    if choice.claims.is_empty() {
        return;
    }
    let it = lock(flight);
    let (way, id) = (Arc::clone(&it.way), held_as(&it.entry.id, choice));
    drop(it);
    // What is not open any more has expired, at its worst.
    drop(way.store.settle(&id, Some(took)));
}

/// Asks the next one where that is still possible, or ends the call.
fn go_on(flight: &Shared, fault: Fault) {
    let mut it = lock(flight);
    let on = !it.told && !it.gone && may_go_on(&fault) && !it.left.is_empty();
    if !on {
        drop(it);
        conclude(flight, Err(fault));
        return;
    }
    it.fault = Some(fault);
    let (handle, next) = (it.way.handle.clone(), Arc::clone(flight));
    drop(it);
    handle.spawn_blocking(move || {
        if let Err(fault) = step(&next) {
            conclude(&next, Err(fault));
        }
    });
}

/// Has a provider elsewhere answer, once the book knows of it.
fn leave(flight: &Shared, way: &Arc<Way>, choice: Choice) -> Result<(), Fault> {
    let mut it = lock(flight);
    let mut request = it.request.clone();
    let mut redaction = None;
    if choice.redact {
        let redacted = way.looker.get().redact(&request, |_| true);
        let (safe, behind) = redacted.map_err(|unsure| Fault {
            blame: Blame::Policy,
            retry: Retry::Elsewhere,
            ..Fault::caller(format!("nothing leaves: {unsure}"))
        })?;
        it.entry.redacted = it.entry.redacted.max(behind.replaced());
        if !behind.is_empty() {
            request = safe;
            // Values are put back into events, not into another server's own bytes.
            if let Some(origin) = &mut request.origin {
                Arc::make_mut(origin).verbatim = None;
            }
            redaction = Some(behind);
        }
    }
    it.restorer = redaction.as_ref().map(Redaction::restorer);
    let (worst, held) = it.worst(&choice);
    let known = std::mem::replace(&mut it.announced, true);
    it.amends = true;
    drop(it);
    let then = Arc::clone(flight);
    let kept: Kept = Box::new(move |kept: Result<(), Fault>| {
        aside(&then, &choice, move |then, choice| {
            let Err(fault) = kept.and_then(|()| send(then, request, choice)) else { return };
            let mut it = lock(then);
            if !it.gone {
                it.judge(&choice.candidate.to_string(), false, plainly(&fault));
            }
            drop(it);
            settle(then, choice, Amount::default());
            go_on(then, fault);
        });
    });
    match known {
        // What could not be announced is in no book, so that this fails, too, and nothing leaves.
        true => way.book.amend(&worst, &held, kept),
        false => way.book.begin(&worst, &held, kept),
    }
    Ok(())
}

fn send(flight: &Shared, request: Request, choice: &Choice) -> Result<(), Fault> {
    let it = lock(flight);
    if it.gone {
        drop(it);
        return Err(Fault::ours("the caller went away"));
    }
    let (way, held) = (Arc::clone(&it.way), Arc::clone(&it.held));
    let (left, others) = (it.time_left()?, it.left.len());
    let id = held_as(&it.entry.id, choice);
    drop(it);
    if !choice.claims.is_empty() {
        way.store.sent(&id).map_err(|refusal| broken(&refusal))?;
    }
    let most = choice.max_tokens.and_then(|most| u32::try_from(most).ok());
    let provider = held.table.provider(&choice.candidate.provider);
    let total = provider.map(|it| it.total_timeout_ms).filter(|ms| *ms < u64::MAX);
    let total = total.into_iter().chain(left).min();
    let plan = Plan {
        tries: vec![Try {
            provider: choice.candidate.provider.clone(),
            model: choice.candidate.model.clone(),
            max_tokens: most,
        }],
        total: total.map(Duration::from_millis),
        most_tries: Some(choice.tries.max(1)),
        prompt_tokens: u32::try_from(super::ask::needs(&request).prompt_tokens).unwrap_or(u32::MAX),
    };
    let (told, choice) = (Arc::clone(flight), choice.clone());
    let call = held.remote.send(
        request,
        plan,
        Box::new(move |what| match what {
            Told::Event(event) => lock(&told).deliver(event),
            Told::End(outcome) => {
                aside(&told, &choice, move |told, choice| answered(told, choice, &outcome));
                ControlFlow::Continue(())
            }
        }),
    );
    take(flight, others, call);
    Ok(())
}

/// A provider's answer has ended.
fn answered(flight: &Shared, choice: &Choice, outcome: &Outcome) {
    let mut it = lock(flight);
    let held = Arc::clone(&it.held);
    let told = keep::remote(&held, &mut it.entry, &choice.candidate, outcome);
    let took = it.charge(choice, told);
    let name = choice.candidate.to_string();
    let fault = outcome.fault.clone();
    let told = outcome.route.iter().find(|step| step.candidate == name);
    let why = told.map(|step| step.reason.as_str());
    let why = fault.as_ref().map_or("", |fault| why.unwrap_or_else(|| plainly(fault)));
    it.judge(&name, fault.is_none(), why);
    drop(it);
    settle(flight, choice, took);
    match fault {
        None => conclude(flight, Ok(outcome.receipt())),
        Some(fault) => go_on(flight, fault),
    }
}

/// Keeps the call, and then tells its caller that it has ended.
fn conclude(flight: &Shared, outcome: Result<Receipt, Fault>) {
    let mut it = lock(flight);
    let Some(mut sink) = it.sink.take() else { return };
    if outcome.is_err() {
        it.entry.end = if it.gone { End::Cancelled } else { End::Failed };
    }
    let entry = it.entry.clone();
    let (way, announced) = (Arc::clone(&it.way), it.announced);
    let mut last = Vec::new();
    let gone = it.gone.then(|| cancelled(&entry));
    let end = match (outcome, gone) {
        (Ok(receipt), _) => Event::Done(Box::new(keep::receipt(&entry, receipt))),
        (Err(_), Some(receipt)) => Event::Done(Box::new(receipt)),
        (Err(fault), None) => Event::Failed(fault),
    };
    match &mut it.restorer {
        Some(restorer) => last.extend(restorer.event(end)),
        None => last.push(end),
    }
    let call = it.call.take();
    let said = it.said.take().map(|mut said| {
        last.iter().for_each(|event| said.hear(event));
        (it.request.clone(), said)
    });
    drop(it);
    if let Some((request, said)) = said {
        way.book.content(&entry, &request, &said);
    }
    let kept = Box::new(move |kept: Result<(), Fault>| {
        if let Err(fault) = kept {
            match last.last_mut() {
                // What never left can be answered all the same; its caller is told.
                Some(Event::Done(receipt)) if !announced => {
                    receipt.notes.push(format!("no receipt of this could be kept: {fault}"));
                }
                // What may have cost something and cannot be accounted for was not answered.
                _ => last = vec![Event::Failed(fault)],
            }
        }
        let _ = last.into_iter().try_for_each(&mut sink);
        // Dropped here, where its provider has told its end.
        drop(call);
    });
    match announced {
        true => way.book.end(&entry, kept),
        false => way.book.note(&entry, kept),
    }
}

/// The receipt of a call whose caller went away before anybody answered.
fn cancelled(entry: &Entry) -> Receipt {
    let receipt = Receipt {
        model: entry.model.clone(),
        route: Vec::new(),
        left_machine: false,
        cost_micros: 0,
        finish: Finish::Cancelled,
        stop: None,
        notes: Vec::new(),
        usage: entry.usage,
        timings: Timings::default(),
    };
    keep::receipt(entry, receipt)
}
