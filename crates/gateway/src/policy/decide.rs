//! The decision itself: candidates, each asked in the order of the checks, put in order, with what
//! to reserve for each; or a refusal.

use ingle_protocol::Origin;

use super::budgets::{self, Held};
use super::classes::{self, Holds};
use super::rank::{self, Expected};
use super::table::{AUTO, Candidate, LOCAL, Over, Table};
use super::{
    Ask, Check, Choice, Considered, Decision, Fact, Facts, Found, Health, Refused, Verdict, needs,
};
use crate::budget::Account;

/// How long to wait for one of a full provider's calls to end.
const FULL_MS: u64 = 1_000;
/// Bytes of a model's name, at most.
const MODEL_MAX: usize = 256;

/// Who might answer a request for this model, in the table's order: those of whom facts are wanted,
/// the one that stands in when budgets are used up among them (last, where it is not there anyway).
pub fn candidates(table: &Table, model: &str) -> Vec<Candidate> {
    let (mut all, _) = asked(table, model);
    let stand_in = stand_in(table);
    if !all.contains(&stand_in) {
        all.push(stand_in);
    }
    all
}

/// Who is asked for by a name, in the table's order, and nobody who would stand in for them.
pub fn named(table: &Table, model: &str) -> Vec<Candidate> {
    asked(table, model).0
}

/// Whether a model can have this name: it is no longer than names are, and has no control
/// characters, since it stands in receipts and addresses.
pub fn is_name(model: &str) -> bool {
    model.len() <= MODEL_MAX && !model.contains(char::is_control)
}

/// A model's name as a receipt keeps it: of one that nobody can have, its plain beginning.
pub fn shown(model: &str) -> String {
    if is_name(model) {
        return model.to_owned();
    }
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let begin: String = model.chars().take(32).map(plain).collect();
    format!("{begin}…")
}

/// Whether the key that a request comes with may use this candidate for it. Whoever names a model
/// may use it, or the server would not have let the request come; so what is asked here is who is
/// chosen for it. A name of the policy stands for all of its candidates where the key lists none of
/// them, and else for those that it lists; who stands in has to be listed.
///
/// # Errors
/// That it may not, for a receipt.
pub fn may_use(
    table: &Table,
    origin: &Origin,
    model: &str,
    candidate: &Candidate,
) -> Result<(), String> {
    let Some(list) = &origin.models else { return Ok(()) };
    let listed = |it: &Candidate| {
        let (whole, alone) = (it.to_string(), if it.model.is_empty() { LOCAL } else { &it.model });
        list.iter().any(|name| *name == whole || (it.is_local() && name == alone))
    };
    let (all, _) = asked(table, model);
    let chosen = model == AUTO || table.models.iter().any(|alias| alias.name == model);
    let free = all.contains(candidate) && !(chosen && all.iter().any(listed));
    if free || listed(candidate) {
        return Ok(());
    }
    Err(format!("the key `{}` may not use it", origin.key))
}

/// The accounts that a request may be charged to, whoever answers: those whose standing is wanted.
/// Each once.
pub fn accounts(table: &Table, ask: &Ask<'_>, now_ms: u64) -> Vec<Account> {
    let counting = |it: Candidate| budgets::counting(table, ask, &it, now_ms);
    let all = candidates(table, ask.model).into_iter().flat_map(counting);
    let mut all: Vec<Account> = all.map(|(_, claim)| claim.account).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Who is tried, in which order and how, or why nobody is.
pub fn decide(table: &Table, ask: &Ask<'_>, facts: &Facts) -> Decision {
    let holds = classes::holds(table, ask);
    let (all, ranked) = asked(table, ask.model);
    let consider = |candidate| consider(table, ask, facts, &holds, candidate);
    let mut drafts: Vec<Draft> = all.into_iter().map(consider).collect();
    if ranked {
        let keys: Vec<_> =
            drafts.iter().map(|it| (it.candidate().is_local(), it.expected)).collect();
        let mut slots: Vec<Option<Draft>> = drafts.into_iter().map(Some).collect();
        let order = rank::order(table.weights, &keys);
        drafts = order.into_iter().filter_map(|at| slots.get_mut(at)?.take()).collect();
    }
    stop_at_refusal(&mut drafts);
    let over = |draft: &Draft| draft.over == Some(Over::Local);
    let here = |draft: &Draft| draft.candidate().is_local();
    let other = stand_in(table);
    let refuses = drafts.iter().any(|draft| draft.over == Some(Over::Refuse));
    if drafts.iter().any(over) && !refuses && !drafts.iter().any(here) {
        drafts.push(consider(other));
    }
    finish(ask, holds, drafts)
}

/// A candidate under consideration.
struct Draft {
    considered: Considered,
    /// What is expected of it, where it may and can answer.
    expected: Option<Expected>,
    /// What the budget that has no room says.
    over: Option<Over>,
    retry_after_ms: Option<u64>,
    choice: Option<Choice>,
}

impl Draft {
    fn candidate(&self) -> &Candidate {
        &self.considered.candidate
    }

    /// Notes what came of a check; a "no" is an error.
    fn note<T>(
        &mut self,
        check: Check,
        result: Result<T, String>,
        reason: impl Fn(&T) -> String,
    ) -> Option<T> {
        let (passed, reason, value) = match result {
            Ok(value) => (true, reason(&value), Some(value)),
            Err(reason) => (false, reason, None),
        };
        self.considered.verdicts.push(Verdict { check, passed, reason });
        value
    }
}

/// The model of this machine that stands in for those over a budget.
fn stand_in(table: &Table) -> Candidate {
    Candidate::local(table.stand_in.clone().unwrap_or_default())
}

/// Who is asked for by a name, and whether they are to be ranked. A name of the policy is what it
/// stands for; `provider/model` is that one; any other is a model of this machine, or of those
/// providers that list it.
fn asked(table: &Table, model: &str) -> (Vec<Candidate>, bool) {
    if let Some(alias) = table.models.iter().find(|alias| alias.name == model) {
        return (alias.candidates.clone(), alias.ranked);
    }
    if !is_name(model) {
        // Nobody has such a name.
        return (vec![Candidate::local(shown(model))], false);
    }
    if model == AUTO {
        return (vec![stand_in(table)], false);
    }
    if let Some((provider, rest)) = model.split_once('/')
        && table.provider(provider).is_some()
    {
        let candidate = Candidate { provider: provider.into(), model: rest.into() };
        return (vec![candidate], false);
    }
    let lists = |models: &Vec<String>| models.iter().any(|it| it == model);
    let remote = table.providers.iter().filter(|it| it.models.as_ref().is_some_and(lists));
    let remote = remote.map(|it| Candidate { provider: it.name.clone(), model: model.into() });
    let remote = remote.filter(|it| !it.is_local());
    (std::iter::once(Candidate::local(model)).chain(remote).collect(), false)
}

/// Asks a candidate all there is to ask, up to the first "no".
fn consider(
    table: &Table,
    ask: &Ask<'_>,
    facts: &Facts,
    holds: &Holds<'_>,
    candidate: Candidate,
) -> Draft {
    let fact = facts.candidates.get(&candidate);
    let considered = Considered { candidate: candidate.clone(), verdicts: Vec::new() };
    let mut draft =
        Draft { considered, expected: None, over: None, retry_after_ms: None, choice: None };
    // Candidates are made of providers that are there; without one, nothing goes anywhere.
    let Some(provider) = table.provider(&candidate.provider) else {
        draft
            .note(Check::Privacy, Err::<(), _>("there is no such provider".into()), |()| "".into());
        return draft;
    };
    let local = candidate.is_local();
    let uses = may_use(table, ask.origin, ask.model, &candidate);
    let go = uses.and_then(|()| holds.may_go(provider, local));
    if draft.note(Check::Privacy, go, Clone::clone).is_none() {
        return draft;
    }
    let can = needs::can(table, ask, &candidate, provider, fact);
    let Some((_, answer)) = draft.note(Check::Capability, can, |it| it.0.clone()) else {
        return draft;
    };
    let expected = rank::expected(table, ask, &candidate, fact, answer);
    draft.expected = Some(expected);
    let worst = budgets::worst(table, &ask.needs, &candidate, answer);
    let room = budgets::room(table, ask, facts, &candidate, &worst).map_err(|(over, why)| {
        draft.over = Some(over);
        why
    });
    let Some(held) = draft.note(Check::Budget, room, |held: &Held| held.reason.clone()) else {
        return draft;
    };
    let within = rank::within(table, &candidate, &expected, worst.micros);
    if draft.note(Check::CostAndLatency, within, Clone::clone).is_none() {
        return draft;
    }
    let (well, retry_after_ms) = health(fact, facts.now_ms, provider.max_concurrent);
    draft.retry_after_ms = retry_after_ms;
    if draft.note(Check::Health, well, Clone::clone).is_some() {
        // What is reserved counts on it.
        let bounded = !local || !held.claims.is_empty();
        draft.choice = Some(Choice {
            leaves: !local,
            redact: !local && holds.redact(),
            max_tokens: (bounded && !ask.needs.reads).then_some(answer),
            amount: held.amount,
            tries: held.tries,
            claims: held.claims,
            expected_micros: expected.micros,
            expected_ms: expected.total_ms,
            candidate,
        });
    }
    draft
}

/// Whether it is well, and if not, after how long it may be.
fn health(fact: Option<&Fact>, now_ms: u64, most: u32) -> (Result<String, String>, Option<u64>) {
    let Some(fact) = fact else { return (Ok("nobody asked it yet".into()), None) };
    match fact.health {
        Health::Resting { until_ms } if until_ms > now_ms => {
            let rest_ms = until_ms - now_ms;
            return (Err(format!("it failed, and rests for {rest_ms} ms more")), Some(rest_ms));
        }
        Health::OnTrial => {
            return (Err("it failed, and one call tries it now".into()), Some(FULL_MS));
        }
        _ if fact.in_flight >= most => {
            let told = format!("it has {} calls under way, of {most} at most", fact.in_flight);
            return (Err(told), Some(FULL_MS));
        }
        Health::Resting { .. } => return (Ok("it failed, and is tried again".into()), None),
        Health::Well => {}
    }
    (Ok(format!("it is well, with {} calls under way", fact.in_flight)), None)
}

/// Where a budget refuses who goes over it, nothing computed here stands in for who came before.
fn stop_at_refusal(drafts: &mut [Draft]) {
    let refused = drafts.iter().position(|draft| draft.over == Some(Over::Refuse));
    let Some(at) = refused else { return };
    let before = drafts.get(at).map(|draft| draft.candidate().to_string()).unwrap_or_default();
    for draft in drafts.iter_mut().skip(at + 1).filter(|it| it.candidate().is_local()) {
        draft.choice = None;
        if draft.considered.verdicts.iter().any(|verdict| verdict.check == Check::Budget) {
            let kept = |verdict: &Verdict| verdict.check < Check::Budget;
            draft.considered.verdicts.retain(kept);
            let reason = format!(
                "{before} is over a budget that refuses, so that nothing here stands in for it"
            );
            let verdict = Verdict { check: Check::Budget, passed: false, reason };
            draft.considered.verdicts.push(verdict);
        }
    }
}

/// Puts a decision together.
fn finish(ask: &Ask<'_>, holds: Holds<'_>, drafts: Vec<Draft>) -> Decision {
    let found = match &ask.found {
        Found::Kinds(kinds) => kinds.clone(),
        _ => Vec::new(),
    };
    let retry = drafts.iter().filter_map(|draft| draft.retry_after_ms).min();
    let mut choices = Vec::new();
    let mut considered = Vec::new();
    for draft in drafts {
        choices.extend(draft.choice);
        considered.push(draft.considered);
    }
    let outcome = match choices.is_empty() {
        true => Err(refused(ask.model, &considered, retry)),
        false => Ok(choices),
    };
    let (stays, classes) = (holds.stay(), holds.names);
    let mut decision = Decision { outcome, classes, stays, found, considered, steps: Vec::new() };
    decision.steps = decision.steps_of(decision.first());
    decision
}

/// Told by who came furthest: whoever failed earlier would have failed anyway.
fn refused(model: &str, considered: &[Considered], retry_after_ms: Option<u64>) -> Refused {
    const SHOWN: usize = 3;
    let failed = |it: &Considered| it.verdicts.last().map_or(Check::Privacy, |last| last.check);
    let check = considered.iter().map(failed).max().unwrap_or(Check::Capability);
    let furthest: Vec<_> = considered.iter().filter(|it| failed(it) == check).collect();
    let told = furthest.iter().take(SHOWN).map(|it| {
        let why = it.verdicts.last().map_or("", |last| last.reason.as_str());
        format!("{}: {why}", it.candidate)
    });
    let mut told: Vec<String> = told.collect();
    if furthest.len() > SHOWN {
        told.push(format!("{} more", furthest.len() - SHOWN));
    }
    let model: String = model.chars().take(128).collect();
    let asked = if model.is_empty() { "the default model".into() } else { format!("{model:?}") };
    let message = format!("nobody may answer for {asked} ({}): {}", check.name(), told.join("; "));
    let health = check == Check::Health;
    Refused { check, message, retry_after_ms: retry_after_ms.filter(|_| health) }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
