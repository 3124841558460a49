//! What a policy is told: of a request, what it needs; of the world, who is there and how they are.
//! And what a caller is told of models that are elsewhere. Absent: deciding.

use std::collections::BTreeMap;

use ingle_protocol::{Chat, Fault, Grammar, Input, Request};

use super::Held;
use super::rests::Rests;
use crate::budget::{Extent, prompt_bound};
use crate::policy::{self, AUTO, Candidate, Fact, Health, Needs, Table};
use crate::remote::{Bounds, BreakerStanding, Facts as Measured};
use crate::{ModelCard, Provider, Standing};

/// Bytes of a text that make a token, about.
const TOKEN_BYTES: u64 = 4;
/// The context of a model elsewhere of which nothing is known, in tokens: for bounds alone.
const CONTEXT: usize = 1 << 20;
/// The most events of an answer from elsewhere: values that are put back cut some in two.
const EVENTS: usize = 2 * Bounds::USUAL.events() + 8;
/// Bytes of a request that are looked through, or copied, on the thread that it came in on: so many
/// take less than a millisecond. What has more goes to a thread of its own.
const LOOKED_THROUGH: u64 = 8 << 10;
const COPIED: u64 = 256 << 10;

/// What a request needs of who answers it.
pub fn needs(request: &Request) -> Needs {
    let extent = extent(request);
    let chat = match &request.input {
        Input::Chat(chat) => Some(chat),
        _ => None,
    };
    let schema = matches!(request.grammar, Some(Grammar::JsonSchema(_)));
    Needs {
        prompt_tokens: extent.bytes.div_ceil(TOKEN_BYTES),
        prompt_most: prompt_bound(&extent),
        max_tokens: request.max_tokens.map(u64::from),
        answers: 1,
        reads: false,
        batch: false,
        tools: chat.is_some_and(|chat| !chat.offered().is_empty()),
        vision: chat.is_some_and(|chat| chat.texts_only().is_err()),
        schema,
        grammar: request.grammar.is_some() && !schema,
        logprobs: request.logprobs.is_some() || request.prompt_logprobs.is_some(),
    }
}

/// What a prompt is made of. Where a request may be sent on as it came, its own bytes bound it.
fn extent(request: &Request) -> Extent {
    let grammar = match &request.grammar {
        None => 0,
        Some(
            Grammar::JsonSchema(text)
            | Grammar::Regex(text)
            | Grammar::Lark(text)
            | Grammar::Gbnf(text),
        ) => text.len(),
        Some(Grammar::Choice(all)) => all.iter().map(String::len).sum(),
    };
    let mut extent = match &request.input {
        Input::Chat(chat) => of_chat(chat),
        Input::Text(text) => Extent { bytes: text.len() as u64, ..Extent::default() },
        // A token's text is not known here; no vocabulary has longer ones.
        Input::Tokens(tokens) => Extent { bytes: tokens.len() as u64, ..Extent::default() },
        Input::Gap(gap) => {
            Extent { bytes: (gap.prefix.len() + gap.suffix.len()) as u64, ..Extent::default() }
        }
    };
    extent.bytes += grammar as u64;
    extent.tools |= grammar > 0;
    let origin = request.origin.as_ref();
    let verbatim = origin.and_then(|origin| origin.verbatim.as_ref());
    extent.bytes = extent.bytes.max(verbatim.map_or(0, |verbatim| verbatim.body.len() as u64));
    extent
}

fn of_chat(chat: &Chat) -> Extent {
    let turns = chat.messages.iter().map(|turn| {
        let calls = turn.tool_calls.iter();
        let calls = calls.map(|it| it.id.len() + it.name.len() + it.arguments.len()).sum::<usize>();
        let own = turn.role.len() + turn.content.len() + calls;
        let rest = [&turn.reasoning, &turn.name, &turn.tool_call_id];
        own + rest.into_iter().flatten().map(String::len).sum::<usize>()
    });
    let tools = chat.offered().iter().map(|tool| {
        tool.name.len() + tool.description.as_ref().map_or(0, String::len) + tool.parameters.len()
    });
    Extent {
        bytes: (turns.sum::<usize>() + tools.sum::<usize>()) as u64,
        messages: chat.messages.len() as u64,
        pictures: chat.messages.iter().map(|turn| turn.pictures.len() as u64).sum(),
        tools: !chat.offered().is_empty(),
    }
}

/// What is known of all who may be asked.
pub(super) fn facts(
    local: &dyn Provider,
    held: &Held,
    rests: &Rests,
    model: &str,
    now_ms: u64,
) -> Result<BTreeMap<Candidate, Fact>, Fault> {
    let mut facts = BTreeMap::new();
    let all = policy::candidates(&held.table, model);
    let named = held.table.models.iter().find(|alias| alias.name == model);
    let choice = named.is_some_and(|alias| alias.candidates.len() > 1);
    // Where nobody else can be asked, what this machine cannot do it says best itself.
    let alone = !choice && all.iter().all(Candidate::is_local);
    for candidate in all {
        if candidate.is_local() {
            if let Some(card) = local.find(&candidate.model)? {
                let known = of_card(&card, rests, now_ms);
                let Fact { health, in_flight, .. } = known;
                let bare = Fact { health, in_flight, ..Fact::default() };
                facts.insert(candidate, if alone { bare } else { known });
            }
            continue;
        }
        if let Some(measured) = held.remote.fact(&candidate.provider, &candidate.model) {
            facts.insert(candidate, of_measured(&measured, now_ms));
        }
    }
    Ok(facts)
}

/// What a model of this machine can do: it enforces all grammars, and sees nothing.
fn of_card(card: &ModelCard, rests: &Rests, now_ms: u64) -> Fact {
    let health = match rests.until(&card.name, card.standing == Standing::Failed, now_ms) {
        Some(until_ms) => Health::Resting { until_ms },
        None => Health::Well,
    };
    Fact {
        context_tokens: (card.context_tokens > 0).then_some(card.context_tokens as u64),
        tools: card.chat.then_some(true),
        vision: Some(false),
        schema: Some(true),
        grammar: Some(true),
        logprobs: Some(true),
        health,
        in_flight: u32::try_from(card.requests).unwrap_or(u32::MAX),
        ..Fact::default()
    }
}

fn of_measured(measured: &Measured, now_ms: u64) -> Fact {
    let rests = |for_ms: u64| Health::Resting { until_ms: now_ms.saturating_add(for_ms) };
    let health = match measured.breaker {
        BreakerStanding::Open { until_ms } => rests(until_ms.max(measured.limited_ms)),
        BreakerStanding::HalfOpen { probing: true } => Health::OnTrial,
        _ if measured.limited_ms > 0 => rests(measured.limited_ms),
        _ => Health::Well,
    };
    Fact {
        health,
        in_flight: u32::try_from(measured.busy.0).unwrap_or(u32::MAX),
        ttft_ms: measured.ttft_ms.map(|ms| ms.round() as u64),
        token_us: measured.ms_per_token.map(|ms| (ms * 1e3).round() as u64),
        ..Fact::default()
    }
}

/// Whether a policy itself names a model of a provider, so that the name is nobody else's words.
pub(super) fn is_named(table: &Table, provider: &str, model: &str) -> bool {
    let mut candidates = table.models.iter().flat_map(|alias| &alias.candidates);
    let listed = || table.provider(provider).and_then(|it| it.models.as_ref());
    candidates.any(|it| it.provider == provider && it.model == model)
        || listed().is_some_and(|all| all.iter().any(|it| it == model))
}

/// The models that a policy names and this machine need not have.
pub(super) fn elsewhere(table: &Table) -> Vec<ModelCard> {
    let aliases = table.models.iter().map(|alias| card(table, &alias.name, &alias.candidates));
    let listed = table.providers.iter().filter(|it| it.name != policy::LOCAL).flat_map(|it| {
        let models = it.models.iter().flatten().filter(|model| !model.ends_with('*'));
        models.map(|model| {
            let candidate = Candidate { provider: it.name.clone(), model: model.clone() };
            card(table, &candidate.to_string(), std::slice::from_ref(&candidate))
        })
    });
    aliases.chain(listed).collect()
}

fn card(table: &Table, name: &str, candidates: &[Candidate]) -> ModelCard {
    let known = |it: &Candidate| table.capabilities(it).context_tokens;
    let context = candidates.iter().filter_map(known).max();
    let context = context.and_then(|tokens| usize::try_from(tokens).ok()).unwrap_or(CONTEXT);
    ModelCard {
        name: name.to_owned(),
        context_tokens: context,
        chat: true,
        standing: Standing::Ready,
        ..ModelCard::default()
    }
}

/// The model of a name: the policy's own, this machine's, which `local` finds, or one elsewhere.
pub(super) fn find<E>(
    held: &Held,
    name: &str,
    local: impl Fn(&str) -> Result<Option<ModelCard>, E>,
) -> Result<Option<ModelCard>, E> {
    let table = &held.table;
    let found = match alias(table, name, &local)? {
        Some(card) => Some(card),
        None => local(name)?.or_else(|| remote_card(table, name)),
    };
    Ok(found.map(|card| match policy::candidates(table, &card.name) {
        all if all.iter().all(Candidate::is_local) => card,
        _ => ModelCard { events: EVENTS, ..card },
    }))
}

/// Whether carrying a request out begins with more than a thread that has others to serve may do:
/// a model of this machine encodes it, if only as a stand-in, where it has any (`here`); or it is
/// long.
pub(super) fn lingers(table: &Table, here: bool, model: &str, request: &Request) -> bool {
    let most = if table.wants_detection() { LOOKED_THROUGH } else { COPIED };
    matches!(request.input, Input::Tokens(_))
        || extent(request).bytes > most
        || (here && policy::candidates(table, model).iter().any(Candidate::is_local))
}

/// What a name of the policy stands for: one model of this machine is told of as itself.
fn alias<E>(
    table: &Table,
    name: &str,
    local: impl Fn(&str) -> Result<Option<ModelCard>, E>,
) -> Result<Option<ModelCard>, E> {
    let alias = table.models.iter().find(|alias| alias.name == name);
    let candidates = match alias {
        Some(alias) => alias.candidates.clone(),
        None if name == AUTO => policy::candidates(table, name),
        None => return Ok(None),
    };
    let mut told = card(table, name, &candidates);
    for candidate in candidates.iter().filter(|it| it.is_local()) {
        if let Some(known) = local(&candidate.model)? {
            told.context_tokens = match candidates.iter().all(Candidate::is_local) {
                true => known.context_tokens,
                false => told.context_tokens.max(known.context_tokens),
            };
        }
    }
    Ok(Some(told))
}

/// A model that a provider elsewhere has, by its name or as `provider/model`.
pub(super) fn remote_card(table: &Table, name: &str) -> Option<ModelCard> {
    if !policy::is_name(name) {
        return None;
    }
    let all = policy::candidates(table, name).into_iter().filter(|it| !it.is_local());
    let served = |it: &Candidate| {
        table.provider(&it.provider).is_some_and(|provider| provider.serves(&it.model))
    };
    let all: Vec<Candidate> = all.filter(served).collect();
    (!all.is_empty()).then(|| card(table, name, &all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_long_leaves_its_thread() {
        let text = "[providers.far]\nkind = \"compatible\"\nurl = \"http://127.0.0.1:1/v1\"\n\
                    [models.auto]\ncandidates = [\"far/m\"]\n";
        let table = Table::read("policy.toml", text).expect("is read");
        let check = |here: bool, model: &str, bytes: u64, expect: bool| {
            let prompt = "a".repeat(bytes as usize);
            let request = Request { input: Input::Text(prompt), ..Request::default() };
            assert_eq!(lingers(&table, here, model, &request), expect, "{here} {model} {bytes}");
        };
        check(false, "auto", 100, false);
        check(false, "far/m", 100, false);
        check(false, "auto", COPIED + 1, true);
        // A model of this machine may stand in.
        check(true, "auto", 100, true);
        check(true, "local/small", 100, true);
    }

    #[test]
    fn a_policy_names_its_candidates_and_what_it_lists() {
        let table = Table::read("policy.toml", policy::EXAMPLE).expect("a policy");
        let check = |provider, model, expect| {
            assert_eq!(is_named(&table, provider, model), expect, "{provider}/{model}");
        };
        check("zeta", "gpt-4o", true);
        check("zeta", "gpt-5.1", true);
        check("alpha", "fast", true);
        check("zeta", "gpt-5*", true);
        check("zeta", "gpt-5.2", false);
        check("alpha", "gpt-4o", false);
        check("nobody", "gpt-4o", false);
    }
}
