//! Which budgets a call is charged to, and whether they have room for its worst case. Absent:
//! keeping accounts (`crate::budget`), which is asked again, all at once, when the call begins.

use super::table::{Budget, Candidate, Over, Provider, Scope, Table, among};
use super::{Ask, Facts, Needs};
use crate::budget::{Account, Amount, Claim, Limit};
use crate::prices::money::dollars;

/// What one try of a call takes at worst at a candidate.
#[derive(Debug)]
pub(super) struct Worst {
    /// `None` where a price is not known; nothing where nothing is bought.
    pub(super) micros: Option<u64>,
    /// Prompt and answers together.
    pub(super) tokens: u64,
    /// Tries at most; each may be charged.
    pub(super) tries: u32,
}

impl Worst {
    /// So many tries; an unknown price counts as nothing here, and is asked for before.
    fn times(&self, tries: u32) -> Amount {
        let times = u64::from(tries);
        Amount {
            micros: self.micros.unwrap_or(0).saturating_mul(times),
            tokens: self.tokens.saturating_mul(times),
        }
    }
}

/// What is reserved, and where.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) amount: Amount,
    /// Tries that there is room for: one at least, and no more than are wanted.
    pub(super) tries: u32,
    pub(super) claims: Vec<Claim>,
    pub(super) reason: String,
}

/// The budgets that count a call at a candidate.
pub(super) fn counting<'a>(
    table: &'a Table,
    ask: &Ask<'_>,
    candidate: &Candidate,
    now_ms: u64,
) -> Vec<(&'a Budget, Claim)> {
    let subject = |budget: &Budget| match budget.scope {
        Scope::Key => ask.origin.key.clone(),
        Scope::Team => ask.origin.team.clone(),
        Scope::Model => candidate.to_string(),
        Scope::All => String::new(),
    };
    let claim = |budget: &'a Budget| {
        let subject = subject(budget);
        let ours = budget.of.as_ref().is_none_or(|of| among(of, &subject));
        let counts = ours && (budget.local || !candidate.is_local());
        counts.then(|| {
            let name = match budget.scope {
                Scope::All => budget.name.clone(),
                _ => format!("{}:{subject}", budget.name),
            };
            let account = Account { name, window: budget.per.window(now_ms) };
            (
                budget,
                Claim { account, limit: Limit { micros: budget.micros, tokens: budget.tokens } },
            )
        })
    };
    table.budgets.iter().filter_map(claim).collect()
}

/// What the budget of an account says to who would go over it.
pub fn over(table: &Table, account: &str) -> Over {
    // Names of budgets have no colon.
    let name = account.split_once(':').map_or(account, |(name, _)| name);
    let budget = table.budgets.iter().find(|budget| budget.name == name);
    budget.map_or(Over::Refuse, |budget| budget.over)
}

/// What a call takes at worst: all of its prompt at the dearest rate, and all answers at their
/// longest.
pub(super) fn worst(table: &Table, needs: &Needs, candidate: &Candidate, answer: u64) -> Worst {
    let answers = answer.saturating_mul(needs.answers.max(1).into());
    let prompt = needs.prompt_most.max(needs.prompt_tokens);
    let micros = match candidate.is_local() {
        true => Some(0),
        false => table.price(candidate).and_then(|price| price.most_micros(prompt, answers)),
    };
    let tries = table.provider(&candidate.provider).map_or(1, Provider::tries);
    Worst { micros, tokens: prompt.saturating_add(answers), tries }
}

/// Whether there is room, and what to hold; or which budget has none, and what it says then.
pub(super) fn room(
    table: &Table,
    ask: &Ask<'_>,
    facts: &Facts,
    candidate: &Candidate,
    worst: &Worst,
) -> Result<Held, (Over, String)> {
    let counting = counting(table, ask, candidate, facts.now_ms);
    let standing = |claim: &Claim| facts.accounts.get(&claim.account).copied().unwrap_or_default();
    let fits = |tries: &u32| {
        let all = worst.times(*tries);
        counting.iter().all(|(_, claim)| standing(claim).over(all, claim.limit).is_none())
    };
    // Where there is no room to try again, there may be for one try.
    let tries = (2..=worst.tries).rev().find(fits).unwrap_or(1);
    let all = worst.times(tries);
    let mut refused: Option<(Over, String)> = None;
    for (budget, claim) in &counting {
        let name = &claim.account.name;
        let standing = standing(claim);
        let why = match (budget.micros, worst.micros) {
            (Some(_), None) => Some(format!(
                "its price is not known, and budget `{name}` is of money: say [prices.\"{candidate}\"]"
            )),
            _ => standing.over(all, claim.limit).map(|why| format!("over budget `{name}`: {why}")),
        };
        // The sternest of them is told.
        let stern = refused.as_ref().is_none_or(|(over, _)| *over == Over::Local);
        if let Some(why) = why.filter(|_| stern)
            && (refused.is_none() || budget.over == Over::Refuse)
        {
            refused = Some((budget.over, why));
        }
    }
    if let Some(refused) = refused {
        return Err(refused);
    }
    let names: Vec<&str> = counting.iter().map(|(_, it)| it.account.name.as_str()).collect();
    let cost = match worst.micros {
        Some(_) => format!("up to {}", dollars(all.micros)),
        None => "a price that is not known".to_owned(),
    };
    let told = match (tries, worst.tries) {
        (_, 1) => String::new(),
        (tries, wanted) if tries == wanted => format!(", in {tries} tries,"),
        (tries, wanted) => format!(", in {tries} of {wanted} tries,"),
    };
    let reason = match (names.as_slice(), candidate.is_local()) {
        ([], true) => "nothing is bought".to_owned(),
        ([], false) => format!("no budget counts it: {cost}"),
        (names, _) => {
            let names = names.join("`, `");
            format!("{cost} and {} tokens{told} are within `{names}`", all.tokens)
        }
    };
    let claims = counting.into_iter().map(|(_, claim)| claim).collect();
    Ok(Held { amount: worst.times(1), tries, claims, reason })
}
