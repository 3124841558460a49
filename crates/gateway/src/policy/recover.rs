//! What a ledger's entries have spent of a policy's budgets, for a process that comes after
//! another. Absent: reading a ledger.

use ingle_protocol::{Entry, Origin};

use super::budgets::counting;
use super::table::{Candidate, Table};
use super::{Ask, Found, Needs};
use crate::budget::{Account, Amount};

/// A policy's version: a digest of its text, in hexadecimal digits.
pub fn version(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl Table {
    /// From when on entries count for a budget whose time is not over, in milliseconds since 1970;
    /// `None` where there is no budget.
    pub fn counted_since(&self, now_ms: u64) -> Option<u64> {
        self.budgets.iter().map(|budget| budget.per.window(now_ms).start_ms).min()
    }
}

/// What an entry has spent, and the accounts of this policy that it is charged to, of those whose
/// time is not over.
pub fn charged(table: &Table, entry: &Entry, now_ms: u64) -> (Amount, Vec<Account>) {
    let usage = &entry.usage;
    let tokens = u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens);
    let candidate = Candidate { provider: entry.provider.clone(), model: entry.model.clone() };
    // What this machine computes costs its user's power, which no budget holds back.
    let micros = if candidate.is_local() { 0 } else { entry.cost.micros.unwrap_or(0) };
    if entry.provider.is_empty() {
        return (Amount::default(), Vec::new());
    }
    let origin = Origin { key: entry.key.clone(), team: entry.team.clone(), ..Origin::default() };
    let (needs, found) = (Needs::default(), Found::NotLooked);
    let ask = Ask { origin: &origin, model: &entry.asked, needs, found };
    let all = counting(table, &ask, &candidate, entry.at_ms);
    let accounts = all.into_iter().map(|(_, claim)| claim.account);
    let holds = |account: &Account| account.window.holds(now_ms);
    (Amount { micros, tokens }, accounts.filter(holds).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingle_protocol::{Cost, Usage};

    #[test]
    fn entries_are_charged_where_their_calls_were() {
        let text = "[providers.far]\nkind = \"openai\"\n\
                    [budgets.all]\nscope = \"all\"\nper = \"forever\"\nusd = 10\n\
                    [budgets.team]\nscope = \"team\"\nper = \"day\"\ntokens = 100\n";
        let table = Table::read("policy.toml", text).expect("a policy");
        let entry = |provider: &str, at_ms| Entry {
            provider: provider.into(),
            model: "m".into(),
            team: "blue".into(),
            at_ms,
            usage: Usage { prompt_tokens: 3, completion_tokens: 4, ..Usage::default() },
            cost: Cost { micros: Some(5), ..Cost::default() },
            ..Entry::default()
        };
        const DAY: u64 = 86_400_000;
        let check = |entry: &Entry, expect: (u64, u64, &[&str])| {
            let (amount, accounts) = charged(&table, entry, DAY + 5);
            let names: Vec<&str> = accounts.iter().map(|it| it.name.as_str()).collect();
            assert_eq!((amount.micros, amount.tokens, names.as_slice()), expect, "{entry:?}");
        };
        check(&entry("far", DAY + 1), (5, 7, &["all", "team:blue"]));
        check(&entry("far", DAY - 1), (5, 7, &["all"]));
        check(&entry("local", DAY + 1), (0, 7, &[]));
        check(&entry("", DAY + 1), (0, 0, &[]));
        assert_eq!(table.counted_since(DAY + 5), Some(0));
        assert_eq!(Table::default().counted_since(DAY), None);
        assert_ne!(version("a"), version("b"));
    }
}
