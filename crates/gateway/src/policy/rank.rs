//! What is expected of candidates, and who is asked first. Who has no known price goes last, since
//! it may be anything; a latency that nobody measured counts as the least of the others, so that it
//! gets measured. Absent: measuring.

use super::table::{Candidate, Table, Weights};
use super::{Ask, Fact};
use crate::prices::Tokens;
use crate::prices::money::dollars;

/// Tokens that an answer is expected to have, at most what it may.
const ANSWER_TOKENS: u64 = 512;

/// What is expected of a candidate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expected {
    pub(super) micros: Option<u64>,
    pub(super) total_ms: Option<u64>,
    pub(super) ttft_ms: Option<u64>,
}

/// What a call costs and takes there, as prices and measurements have it.
pub(super) fn expected(
    table: &Table,
    ask: &Ask<'_>,
    candidate: &Candidate,
    fact: Option<&Fact>,
    answer: u64,
) -> Expected {
    let needs = &ask.needs;
    let output = answer.min(ANSWER_TOKENS);
    let ttft_ms = fact.and_then(|fact| fact.ttft_ms);
    let token_us = fact.and_then(|fact| fact.token_us);
    let after = token_us.map(|us| us.saturating_mul(output) / 1_000);
    let total_ms = match (ttft_ms, after) {
        (Some(first), Some(after)) => Some(first.saturating_add(after)),
        (first, _) => first,
    };
    let output = output.saturating_mul(needs.answers.max(1).into());
    let tokens = Tokens { input: needs.prompt_tokens, output, ..Tokens::default() };
    let micros = match candidate.is_local() {
        true => total_ms.and_then(|ms| table.local_cost(ms)),
        false => table.cost(candidate, &tokens, needs.batch).map(|(micros, _)| micros),
    };
    Expected { micros, total_ms, ttft_ms }
}

/// Whether it is cheap and quick enough, and why.
pub(super) fn within(
    table: &Table,
    candidate: &Candidate,
    expected: &Expected,
    worst_micros: Option<u64>,
) -> Result<String, String> {
    let limits = &table.limits;
    match (limits.max_cost_micros, worst_micros) {
        (Some(most), Some(worst)) if worst > most => {
            let (worst, most) = (dollars(worst), dollars(most));
            return Err(format!("it may cost {worst}, and a call may cost {most}"));
        }
        (Some(most), None) => {
            let most = dollars(most);
            return Err(format!("its price is not known, and a call may cost {most} at most"));
        }
        _ => {}
    }
    match (limits.max_ttft_ms, expected.ttft_ms) {
        (Some(most), Some(ttft)) if ttft > most => {
            return Err(format!("its first token comes after {ttft} ms, and {most} is the most"));
        }
        _ => {}
    }
    let cost = match expected.micros {
        Some(micros) => format!("about {}", dollars(micros)),
        None if candidate.is_local() => "a cost that nobody stated".to_owned(),
        None => "a price that is not known".to_owned(),
    };
    let time = match expected.total_ms {
        Some(ms) => format!("about {ms} ms"),
        None => "a time that nobody measured".to_owned(),
    };
    Ok(format!("{cost}, {time}"))
}

/// The order of candidates by weights, ties as they stand: their numbers, the best first. `None` is
/// one that is out, and goes last.
pub(super) fn order(weights: Weights, all: &[(bool, Option<Expected>)]) -> Vec<usize> {
    let times = all.iter().filter_map(|(_, it)| it.and_then(|it| it.total_ms));
    let least = times.min().unwrap_or(0);
    let key = |(local, expected): &(bool, Option<Expected>)| {
        let Some(expected) = expected else { return (2, 0) };
        let (tier, micros) = match (expected.micros, local) {
            (Some(micros), _) => (0, micros),
            // Nobody stated what computing here costs: nothing is bought.
            (None, true) => (0, 0),
            (None, false) => (1, 0),
        };
        let cost = u128::from(weights.cost) * u128::from(micros);
        let ms = expected.total_ms.unwrap_or(least);
        (tier, cost.saturating_add(u128::from(weights.latency) * u128::from(ms)))
    };
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|at| all.get(*at).map(key));
    order
}
