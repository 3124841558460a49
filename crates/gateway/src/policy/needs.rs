//! Whether a candidate can answer a request. What is not known of a candidate does not keep it from
//! being asked, and is said. Absent: finding out what candidates can.

use super::table::{Candidate, Provider, Table};
use super::{Ask, Fact, Needs};

/// Tokens of an answer that leaves, where neither request, policy nor provider bounds them.
const ANSWER_TOKENS: u64 = 4_096;

/// Whether it can; if so, why, and the tokens that each answer has at most.
pub(super) fn can(
    table: &Table,
    ask: &Ask<'_>,
    candidate: &Candidate,
    provider: &Provider,
    fact: Option<&Fact>,
) -> Result<(String, u64), String> {
    if !provider.serves(&candidate.model) {
        let name = &provider.name;
        return Err(format!("the `models` of {name} do not have `{}` among them", candidate.model));
    }
    if candidate.model.is_empty() && !candidate.is_local() {
        return Err("it names no model".into());
    }
    if fact.is_none() && candidate.is_local() {
        return Err("there is no such model on this machine".into());
    }
    let known = table.capabilities(candidate);
    let usual = Fact::default();
    let fact = fact.unwrap_or(&usual);
    let needs = &ask.needs;
    let wanted = [
        (needs.tools, fact.tools.or(known.tools), "tools"),
        (needs.vision, fact.vision.or(known.vision), "pictures"),
        (needs.schema, fact.schema.or(known.schema), "answers by a JSON schema"),
        (needs.grammar, fact.grammar, "answers by a grammar"),
        (needs.logprobs, fact.logprobs, "log-probabilities"),
    ];
    let mut unknown = Vec::new();
    for (wanted, can, what) in wanted {
        match can {
            Some(false) if wanted => return Err(format!("it knows no {what}")),
            None if wanted => unknown.push(what),
            _ => {}
        }
    }
    let most = answer_tokens(table, needs, fact, known.max_output_tokens);
    // The table tells of prompts alone; a measured context has the answer in it.
    let room = match (fact.context_tokens, known.context_tokens) {
        (Some(context), _) => Some(context.saturating_sub(u64::from(!needs.reads))),
        (None, prompts) => prompts,
    };
    let most = match room {
        Some(room) if needs.prompt_tokens > room => {
            let prompt = needs.prompt_tokens;
            return Err(format!("a prompt of about {prompt} tokens is more than its {room}"));
        }
        Some(room) if fact.context_tokens.is_some() => {
            most.min((room - needs.prompt_tokens).saturating_add(1))
        }
        Some(_) => most,
        None => {
            unknown.push("its context");
            most
        }
    };
    let unknown = match unknown.as_slice() {
        [] => String::new(),
        unknown => format!(" (not known: {})", unknown.join(", ")),
    };
    Ok((format!("it can answer this{unknown}"), if needs.reads { 0 } else { most }))
}

/// Tokens of an answer at most, thoughts included.
fn answer_tokens(table: &Table, needs: &Needs, fact: &Fact, known: Option<u64>) -> u64 {
    let longest = fact.max_output_tokens.or(known);
    let wanted = needs.max_tokens.or(table.limits.max_answer_tokens);
    let most = wanted.or(longest).unwrap_or(ANSWER_TOKENS);
    most.min(longest.unwrap_or(u64::MAX)).max(1)
}
