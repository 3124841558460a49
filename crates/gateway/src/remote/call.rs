//! One call: a plan's candidates in their order, each tried as often as is safe, perhaps another
//! beside it; the first answer that begins is told, and its end is the call's. However it ends, its
//! end is told exactly once. Absent: how one try is made (`attempt.rs`).

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;

use ingle_protocol::{Blame, Call, End, Event, Fault, Receipt, Request, Retry, Step};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::attempt::{Answer, Asking, Record, begin};
use super::backoff::wait;
use super::ear::wrong;
use super::failure::Failure;
use super::outcome::Outcome;
use super::state::{Admission, Place, Shared, Shut};
use super::wires::{Spoken, speak};
use super::{Listener, Plan, Told, Try};

/// Starts a call on the runtime.
pub(super) fn start(
    shared: &Arc<Shared>,
    request: Request,
    plan: Plan,
    listener: Listener,
) -> Call {
    let (dropped, gone) = oneshot::channel::<()>();
    let (call, _) = Call::telling(move || drop(dropped));
    let since = {
        let _entered = shared.handle.enter();
        Instant::now()
    };
    let live = Live::new(listener, since, plan.prompt_tokens);
    let work = Work { shared: Arc::clone(shared), request, plan, since };
    shared.handle.spawn(run(work, live, gone));
    call
}

/// Carries a call out, and ends it.
async fn run(work: Work, mut live: Live, gone: oneshot::Receiver<()>) {
    let total = work.plan.total;
    let late = async {
        match total {
            Some(total) => {
                sleep_until(work.since + total).await;
                total
            }
            None => std::future::pending().await,
        }
    };
    let close = tokio::select! {
        biased;
        _ = gone => Close::Cancelled,
        close = work.go(&mut live) => close,
        total = late => {
            let ms = total.as_millis();
            Close::Failed(wrong(format!("the call's {ms} ms were over before its answer was")))
        }
    };
    live.end(close);
}

/// How a call ends.
enum Close {
    Answered(Box<Receipt>),
    Cancelled,
    Failed(Fault),
}

/// A call's listener, and what is to be told at its end.
struct Live {
    listener: Option<Listener>,
    since: Instant,
    prompt_tokens: u32,
    records: Vec<Arc<Record>>,
    /// By a candidate's place in the plan: its name, whether it was taken, and why.
    verdicts: BTreeMap<usize, Step>,
    /// Whose answer is told.
    chosen: Option<Arc<Record>>,
}

impl Live {
    fn new(listener: Listener, since: Instant, prompt_tokens: u32) -> Self {
        Self {
            listener: Some(listener),
            since,
            prompt_tokens,
            records: Vec::new(),
            verdicts: BTreeMap::new(),
            chosen: None,
        }
    }

    /// Tells events. Breaks where the caller went away.
    fn tell(&mut self, events: Vec<Event>) -> ControlFlow<()> {
        let Some(listener) = &mut self.listener else { return ControlFlow::Break(()) };
        events.into_iter().try_for_each(|event| listener(Told::Event(event)))
    }

    fn judge(&mut self, at: usize, one: &Try, taken: bool, reason: String) {
        let candidate = format!("{}/{}", one.provider, one.model);
        self.verdicts.insert(at, Step { candidate, taken, reason });
    }

    /// Tells the end, once.
    fn end(&mut self, close: Close) {
        let Some(mut listener) = self.listener.take() else { return };
        let outcome = Box::new(self.outcome(close));
        // That the caller is gone changes nothing any more.
        let _ = listener(Told::End(outcome));
    }

    fn outcome(&mut self, close: Close) -> Outcome {
        let attempts: Vec<_> =
            self.records.iter().map(|record| record.attempt(self.prompt_tokens)).collect();
        let is_chosen = |record: &Arc<Record>| {
            self.chosen.as_ref().is_some_and(|chosen| Arc::ptr_eq(record, chosen))
        };
        let told = self.records.iter().position(is_chosen);
        let last = told.or_else(|| attempts.len().checked_sub(1)).map(|at| &attempts[at]);
        let mut outcome = Outcome {
            provider: last.map_or_else(String::new, |attempt| attempt.provider.clone()),
            model: last.map_or_else(String::new, |attempt| attempt.model.clone()),
            bytes_out: attempts.iter().map(|attempt| attempt.bytes_out).sum(),
            tries: attempts.len() as u32,
            ..Outcome::default()
        };
        for attempt in attempts.iter().filter(|attempt| attempt.left_machine) {
            if !outcome.hosts.contains(&attempt.host) {
                outcome.hosts.push(attempt.host.clone());
            }
        }
        if let Some(attempt) = told.map(|at| &attempts[at]) {
            (outcome.usage, outcome.estimated) = (attempt.usage, attempt.estimated);
            outcome.times = attempt.times;
            outcome.times.first_token += attempt.times.queued;
        }
        outcome.times.total = self.since.elapsed();
        (outcome.end, outcome.fault) = match close {
            Close::Cancelled => (End::Cancelled, None),
            Close::Failed(fault) => (End::Failed, Some(fault)),
            Close::Answered(receipt) => {
                let Receipt { finish, stop, notes, .. } = *receipt;
                (outcome.stop, outcome.notes) = (stop, notes);
                (finish.into(), None)
            }
        };
        let verdicts = std::mem::take(&mut self.verdicts).into_values();
        let (taken, passed): (Vec<Step>, Vec<Step>) = verdicts.partition(|step| step.taken);
        outcome.route = passed.into_iter().chain(taken).collect();
        outcome.attempts = attempts;
        outcome
    }
}

impl Drop for Live {
    /// The task ended before the call did: the runtime ends, or there is a bug.
    fn drop(&mut self) {
        if self.listener.is_some() {
            let fault = Fault::ours("the call was given up: the program ends, or has a bug");
            // A listener that panics must not do so again while that unwinds.
            drop(catch_unwind(AssertUnwindSafe(|| self.end(Close::Failed(fault)))));
        }
    }
}

/// What a call is.
struct Work {
    shared: Arc<Shared>,
    request: Request,
    plan: Plan,
    since: Instant,
}

/// Why a candidate did not answer.
struct Missed {
    /// Without a word of anybody's, for a ledger.
    reason: String,
    /// For the caller.
    fault: Fault,
    /// Whether nobody else is to be asked.
    stop: bool,
}

impl Work {
    async fn go(&self, live: &mut Live) -> Close {
        let mut missed: Vec<(String, Fault)> = Vec::new();
        for (at, one) in self.plan.tries.iter().enumerate() {
            match self.candidate(at, one, live).await {
                Ok((won, answer)) => {
                    if won != at {
                        let reason = "it had not answered yet when the next one did".to_owned();
                        live.judge(at, one, false, reason);
                    }
                    return self.listen(won, answer, live).await;
                }
                Err(Missed { reason, fault, stop }) => {
                    live.judge(at, one, false, reason.clone());
                    if stop {
                        return Close::Failed(fault);
                    }
                    missed.push((format!("{}/{}: {reason}", one.provider, one.model), fault));
                }
            }
        }
        Close::Failed(sum(missed))
    }

    /// An answer of one candidate, or of the one that was asked beside it, which the number tells.
    async fn candidate(
        &self,
        at: usize,
        one: &Try,
        live: &mut Live,
    ) -> Result<(usize, Answer), Missed> {
        let (place, spoken) = self.ready(one)?;
        let last = at + 1 == self.plan.tries.len();
        let upstream = &place.upstream;
        let mut tried = 0;
        let mut failed: Option<Failure> = None;
        loop {
            let admitted = self.shared.admit(&place, &one.model, last).await;
            let admission = match (admitted, failed.take()) {
                (Ok(admission), _) => admission,
                (Err(_), Some(failure)) => return Err(given_up(one, tried, failure)),
                (Err(shut), None) => return Err(shut_out(one, shut)),
            };
            let asked = Asked { at, one, place: &place, spoken: &spoken };
            let failure = match self.race(&asked, admission, live).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let waits = failure
                .after
                .unwrap_or_else(|| wait(&upstream.backoff, tried, (self.shared.world.random)()));
            tried += 1;
            let until = self.since.elapsed().saturating_add(waits);
            let over = self.plan.total.is_some_and(|total| until >= total);
            let patient = waits <= upstream.backoff.most && !over && self.may_try(live);
            if failure.final_for_all() || !failure.again || tried > upstream.retries || !patient {
                return Err(given_up(one, tried, failure));
            }
            sleep(waits).await;
            failed = Some(failure);
        }
    }

    /// What a candidate is asked, if it can be.
    fn ready(&self, one: &Try) -> Result<(Arc<Place>, Arc<Spoken>), Missed> {
        let Some(place) = self.shared.place(&one.provider) else {
            let reason = "there is no such provider".to_owned();
            let fault = Fault::ours(format!("there is no provider `{}`", one.provider));
            return Err(Missed { reason, fault, stop: false });
        };
        match speak(place.upstream.kind, &self.request, &one.model, one.max_tokens) {
            Ok(spoken) => Ok((Arc::clone(place), Arc::new(spoken))),
            Err(fault) => {
                let param = fault.param.as_deref().map(|param| format!(" (`{param}`)"));
                let reason = "its format has no words for the request".to_owned();
                Err(Missed { reason: reason + &param.unwrap_or_default(), fault, stop: false })
            }
        }
    }

    /// Makes one try, and another beside it where that takes too long. The first answer wins; the
    /// other try is dropped, and its connection closed.
    async fn race(
        &self,
        asked: &Asked<'_>,
        admission: Admission,
        live: &mut Live,
    ) -> Result<(usize, Answer), Failure> {
        let mut first = pin!(self.attempt(asked, admission, false, live));
        let hedge_after = asked.place.upstream.hedge_after.filter(|_| self.may_try(live));
        let Some(after) = hedge_after else {
            return first.await.map(|answer| (asked.at, answer));
        };
        tokio::select! {
            biased;
            answer = &mut first => return answer.map(|answer| (asked.at, answer)),
            () = sleep(after) => {}
        }
        let Some((at, second)) = self.beside(asked, live).await else {
            return first.await.map(|answer| (asked.at, answer));
        };
        let mut second = pin!(second);
        tokio::select! {
            biased;
            answer = &mut first => match answer {
                Ok(answer) => Ok((asked.at, answer)),
                Err(failure) => match second.await {
                    Ok(answer) => Ok((at, answer)),
                    Err(_) => Err(failure),
                },
            },
            answer = &mut second => match answer {
                Ok(answer) => Ok((at, answer)),
                Err(_) => first.await.map(|answer| (asked.at, answer)),
            },
        }
    }

    /// Whether one more try is within the plan.
    fn may_try(&self, live: &Live) -> bool {
        let most = self.plan.most_tries.map_or(usize::MAX, |most| most as usize);
        live.records.len() < most
    }

    /// A try beside another: of the next candidate that can be asked at once, or of the same.
    async fn beside(
        &self,
        asked: &Asked<'_>,
        live: &mut Live,
    ) -> Option<(usize, impl Future<Output = Result<Answer, Failure>> + use<>)> {
        let others = self.plan.tries.iter().enumerate().skip(asked.at + 1);
        for (at, one) in others.chain([(asked.at, asked.one)]) {
            let Ok((place, spoken)) = self.ready(one) else { continue };
            let Ok(admission) = self.shared.admit(&place, &one.model, false).await else {
                continue;
            };
            let asked = Asked { at, one, place: &place, spoken: &spoken };
            return Some((at, self.attempt(&asked, admission, true, live)));
        }
        None
    }

    /// A try, which is on record from now on.
    fn attempt(
        &self,
        asked: &Asked<'_>,
        admission: Admission,
        hedge: bool,
        live: &mut Live,
    ) -> impl Future<Output = Result<Answer, Failure>> + use<> {
        let Asked { one, place, spoken, .. } = asked;
        let record = Arc::new(Record::new(place, &one.model, hedge, self.since.elapsed()));
        live.records.push(Arc::clone(&record));
        begin(Asking {
            shared: Arc::clone(&self.shared),
            place: Arc::clone(place),
            model: one.model.clone(),
            spoken: Arc::clone(spoken),
            record,
            admission,
        })
    }

    /// Tells an answer, to its end. From its first event on nothing is tried again.
    async fn listen(&self, at: usize, mut answer: Answer, live: &mut Live) -> Close {
        let one = &self.plan.tries[at];
        live.chosen = Some(Arc::clone(answer.record()));
        live.judge(at, one, true, "it answered".to_owned());
        loop {
            match answer.next().await {
                Ok((events, done)) => {
                    let gone = live.tell(events).is_break();
                    if done {
                        // It is complete, whether or not anybody still listens.
                        return match answer.finish() {
                            Some(receipt) => Close::Answered(Box::new(receipt)),
                            None => Close::Cancelled,
                        };
                    }
                    if gone {
                        return Close::Cancelled;
                    }
                }
                Err(failure) => {
                    if live.tell(answer.rest()).is_break() {
                        return Close::Cancelled;
                    }
                    live.judge(at, one, true, format!("it answered in part: {}", failure.why));
                    return Close::Failed(named(one, failure.fault));
                }
            }
        }
    }
}

/// A candidate, ready to be asked.
struct Asked<'a> {
    at: usize,
    one: &'a Try,
    place: &'a Arc<Place>,
    spoken: &'a Arc<Spoken>,
}

fn given_up(one: &Try, tried: u32, failure: Failure) -> Missed {
    let times = if tried > 1 { format!(", {tried} times") } else { String::new() };
    let stop = failure.final_for_all();
    let fault = if stop { failure.fault } else { named(one, failure.fault) };
    Missed { reason: format!("{}{times}", failure.why), fault, stop }
}

fn shut_out(one: &Try, shut: Shut) -> Missed {
    let retry = shut.after.map_or(Retry::Elsewhere, Retry::After);
    let fault = named(one, Fault { retry, ..wrong(shut.why.clone()) });
    Missed { reason: shut.why, fault, stop: false }
}

/// A fault that says whose it is.
fn named(one: &Try, fault: Fault) -> Fault {
    Fault { message: format!("`{}`: {}", one.provider, fault.message), ..fault }
}

/// The fault of a call that nobody answered: one candidate's own, or all of them in one, to be
/// tried again as soon as any of them may be.
fn sum(mut missed: Vec<(String, Fault)>) -> Fault {
    if missed.len() == 1 {
        let (_, fault) = missed.remove(0);
        return fault;
    }
    if missed.is_empty() {
        return Fault::ours("nobody may be asked: the plan has no candidates");
    }
    // Where none has words for the request, it is the request that has to change.
    let theirs = |fault: &Fault| fault.blame != Blame::Caller;
    if !missed.iter().any(|(_, fault)| theirs(fault)) {
        return missed.remove(0).1;
    }
    let after = missed.iter().filter_map(|(_, fault)| match fault.retry {
        Retry::After(after) => Some(after),
        _ => None,
    });
    let retry = after.min().map_or(Retry::Elsewhere, Retry::After);
    let reasons: Vec<String> = missed.into_iter().map(|(reason, _)| reason).collect();
    Fault { retry, ..wrong(format!("no provider answered: {}", reasons.join("; "))) }
}
