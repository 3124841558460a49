//! What a ledger gets of a call, made of what was decided and of what came of it. Absent: where it
//! is kept.

use ingle_protocol::{Charge, Cost, End, Entry, Fault, Origin, Receipt, Timings, Usage};

use super::Held;
use crate::budget::Amount;
use crate::policy::{Candidate, Choice, Decision, shown};
use crate::prices::Tokens;
use crate::remote::Outcome;

/// What a caller is told where a provider tells of more than it was let take.
const BEYOND: &str = "more was told of than this call can have taken: what is beyond that is not \
                      charged";

/// What is known of a call before anybody is asked.
pub(super) fn begun(held: &Held, origin: &Origin, asked: &str) -> Entry {
    Entry {
        id: origin.id.clone(),
        at_ms: origin.at_ms,
        key: origin.key.clone(),
        team: origin.team.clone(),
        path: origin.path.clone(),
        asked: shown(asked),
        policy: held.version.clone(),
        cost: free(),
        charges: Some(Vec::new()),
        ..Entry::default()
    }
}

/// Of what nothing was computed.
fn free() -> Cost {
    Cost { micros: Some(0), ..Cost::default() }
}

/// The same, with what was decided.
pub(super) fn decided(entry: &mut Entry, decision: &Decision) {
    entry.classes.clone_from(&decision.classes);
    entry.found.clone_from(&decision.found);
    entry.route.clone_from(&decision.steps);
}

/// What this machine computed.
pub(super) fn local(held: &Held, entry: &mut Entry, model: &str, receipt: &Receipt) {
    entry.provider = crate::policy::LOCAL.to_owned();
    entry.model = if receipt.model.is_empty() { model } else { &receipt.model }.to_owned();
    entry.tries += 1;
    entry.end = receipt.finish.into();
    computed_here(held, entry, &receipt.usage, receipt.timings);
}

fn computed_here(held: &Held, entry: &mut Entry, usage: &Usage, timings: Timings) {
    entry.usage = *usage;
    entry.timings = timings;
    // Waiting costs nothing; what was computed beside others counts as if it had been alone.
    let computed = timings.total.saturating_sub(timings.queued);
    let ms = u64::try_from(computed.as_millis()).unwrap_or(u64::MAX);
    // Where nobody says what this machine costs, it costs nothing more than it does anyway.
    let micros = held.table.local_cost(ms).unwrap_or(0);
    let before = entry.cost.micros;
    entry.cost.micros = before.and_then(|before| before.checked_add(micros));
    if entry.cost.price.is_empty() {
        entry.cost.price = "local".to_owned();
    }
    entry.instead_micros = held.table.instead(&Tokens::from(usage));
}

/// What a provider elsewhere did: its tries and what each has to be reckoned with. Returns what it
/// says that these took: micro-dollars, where that is known, and tokens.
pub(super) fn remote(
    held: &Held,
    entry: &mut Entry,
    candidate: &Candidate,
    outcome: &Outcome,
) -> (Option<u64>, u64) {
    // Where there was no room for any try, nobody was asked since who is named already.
    if !outcome.provider.is_empty() {
        entry.provider.clone_from(&outcome.provider);
        entry.model.clone_from(&outcome.model);
    }
    for host in &outcome.hosts {
        if !entry.hosts.contains(host) {
            entry.hosts.push(host.clone());
        }
    }
    entry.bytes_out = entry.bytes_out.saturating_add(outcome.bytes_out);
    entry.tries = entry.tries.saturating_add(outcome.tries);
    entry.usage = outcome.usage;
    entry.end = outcome.end;
    entry.timings = outcome.receipt().timings;
    entry.cost.estimated |= outcome.attempts.iter().any(|it| it.estimated);
    let (mut micros, mut tokens) = (Some(0u64), 0u64);
    for attempt in outcome.attempts.iter().filter(|it| it.bytes_out > 0) {
        let used = Tokens::from(&attempt.usage);
        tokens = tokens.saturating_add(used.total());
        if used.total() == 0 {
            continue;
        }
        let cost = held.table.cost(candidate, &used, false);
        if let Some((_, date)) = &cost {
            entry.cost.price.clone_from(date);
        }
        micros = micros.zip(cost).and_then(|(sum, (micros, _))| sum.checked_add(micros));
    }
    entry.instead_micros = held.table.instead(&Tokens::from(&outcome.usage));
    (micros, tokens)
}

/// Notes what the tries of a candidate took, in micro-dollars, where that is known, and tokens, as
/// budgets charge it: never more than is held for them, where anything is. Returns all that was
/// told, for who settles it.
pub(super) fn charge(
    entry: &mut Entry,
    choice: &Choice,
    decided_ms: u64,
    (micros, tokens): (Option<u64>, u64),
) -> Amount {
    // A cost that is not known is what was held of money; tokens are known all the same.
    let told = Amount { micros: micros.unwrap_or(choice.hold().micros), tokens };
    let charged = if choice.claims.is_empty() { told } else { told.least(choice.hold()) };
    let known = entry.cost.micros.zip(micros);
    entry.cost.micros = known.and_then(|(before, _)| before.checked_add(charged.micros));
    push(entry, &choice.candidate, decided_ms, (charged, told.less(charged)));
    told
}

/// What is known of a call while a candidate is asked, and the most that this one can take: what is
/// held for it, where anything is.
pub(super) fn worst(entry: &Entry, choice: &Choice, decided_ms: u64) -> Entry {
    let (mut worst, hold) = (entry.clone(), choice.hold());
    worst.provider.clone_from(&choice.candidate.provider);
    worst.model.clone_from(&choice.candidate.model);
    let known = worst.cost.micros.zip(choice.expected_micros);
    worst.cost.micros = known.map(|(took, _)| took.saturating_add(hold.micros));
    worst.instead_micros = None;
    push(&mut worst, &choice.candidate, decided_ms, (hold, Amount::default()));
    worst
}

/// Notes what is charged to a candidate, and what was told beyond that.
fn push(entry: &mut Entry, of: &Candidate, at_ms: u64, (charged, beyond): (Amount, Amount)) {
    if charged == Amount::default() && beyond == Amount::default() {
        return;
    }
    entry.charges.get_or_insert_default().push(Charge {
        provider: of.provider.clone(),
        model: of.model.clone(),
        at_ms,
        micros: charged.micros,
        tokens: charged.tokens,
        beyond_micros: beyond.micros,
        beyond_tokens: beyond.tokens,
    });
}

/// Something that this machine did outside of a conversation: texts read or weighed.
pub(super) fn computed<T>(
    held: &Held,
    origin: &Origin,
    model: &str,
    outcome: &Result<T, Fault>,
    receipt: impl FnOnce(&T) -> Option<Receipt>,
) -> Entry {
    let mut entry = begun(held, origin, model);
    match outcome.as_ref().map(receipt) {
        Ok(Some(receipt)) => local(held, &mut entry, model, &receipt),
        Ok(None) => {}
        Err(_) => {
            entry.provider = crate::policy::LOCAL.to_owned();
            entry.model = model.to_owned();
            entry.end = End::Failed;
        }
    }
    entry
}

/// A receipt with what only a gateway knows.
pub(super) fn receipt(entry: &Entry, mut receipt: Receipt) -> Receipt {
    receipt.route.clone_from(&entry.route);
    receipt.left_machine = !entry.hosts.is_empty();
    receipt.cost_micros = entry.cost.micros.unwrap_or(0);
    if entry.cost.micros.is_none() {
        receipt.notes.push("what this cost is not known: its model has no price".to_owned());
    } else if entry.cost.estimated {
        receipt.notes.push("the cost is an estimate: an answer was cut".to_owned());
    }
    let beyond = |it: &Charge| it.beyond_micros > 0 || it.beyond_tokens > 0;
    if entry.charges.iter().flatten().any(beyond) {
        receipt.notes.push(BEYOND.to_owned());
    }
    if entry.redacted > 0 {
        let count = entry.redacted;
        receipt.notes.push(format!("personal data was replaced before it left, in {count} places"));
    }
    receipt
}
