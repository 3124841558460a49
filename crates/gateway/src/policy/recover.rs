//! What a ledger's entries have spent of a policy's budgets, for a process that comes after
//! another. Absent: reading a ledger.

use ingle_protocol::{Charge, Entry, Origin};

use super::budgets::counting;
use super::table::{Candidate, LOCAL, Table};
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

/// What an entry has spent of the accounts of this policy whose time is not over: of each candidate
/// that was asked what that one took, in the order in which they were.
pub fn charged(table: &Table, entry: &Entry, now_ms: u64) -> Vec<(Account, Amount)> {
    let origin = Origin { key: entry.key.clone(), team: entry.team.clone(), ..Origin::default() };
    let (needs, found) = (Needs::default(), Found::NotLooked);
    let ask = Ask { origin: &origin, model: &entry.asked, needs, found };
    let old = if entry.charges.is_none() { unsaid(entry) } else { None };
    let mut spent = Vec::new();
    for charge in entry.charges.iter().flatten().chain(&old) {
        let (provider, model) = (charge.provider.clone(), charge.model.clone());
        let amount = Amount { micros: charge.micros, tokens: charge.tokens };
        let all = counting(table, &ask, &Candidate { provider, model }, charge.at_ms);
        let accounts = all.into_iter().map(|(_, claim)| claim.account);
        let hold = accounts.filter(|account| account.window.holds(now_ms));
        spent.extend(hold.map(|account| (account, amount)));
    }
    spent
}

/// What an entry counts as that was written before charges were: all of it is its last candidate's.
fn unsaid(entry: &Entry) -> Option<Charge> {
    // What this machine computes costs its user's power, which no budget holds back.
    let micros = if entry.provider == LOCAL { 0 } else { entry.cost.micros.unwrap_or(0) };
    (!entry.provider.is_empty()).then(|| Charge {
        provider: entry.provider.clone(),
        model: entry.model.clone(),
        at_ms: entry.at_ms,
        micros,
        tokens: entry.usage.total(),
        ..Charge::default()
    })
}

/// Where an entry's call came from, for a policy that decides on it again. Headers and workspaces
/// are in no ledger, but the classes that held are: they stand for what those gave, and for what
/// its key carried. The usual class of this policy is left to it, since rules may give another.
pub fn again(table: &Table, entry: &Entry) -> Origin {
    let usual = |class: &&String| Some(*class) == table.default_class.as_ref();
    Origin {
        id: entry.id.clone(),
        at_ms: entry.at_ms,
        key: entry.key.clone(),
        team: entry.team.clone(),
        path: entry.path.clone(),
        classes: entry.classes.iter().filter(|class| !usual(class)).cloned().collect(),
        ..Origin::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Facts, decide};
    use ingle_protocol::{Cost, Usage};

    #[test]
    fn classes_that_held_stand_for_headers_and_workspaces() {
        let text = "default_class = \"usual\"\n[providers.far]\nkind = \"openai\"\n\
                    [classes.usual]\nproviders = [\"far\"]\n[classes.free]\nproviders = [\"far\"]\n\
                    [classes.secret]\nlocal_only = true\n\
                    [[rules]]\nclass = \"secret\"\nworkspace = [\"vault\"]\n\
                    [[rules]]\nclass = \"free\"\nkey = [\"k\"]\n";
        let table = Table::read("policy.toml", text).expect("a policy");
        let check = |key: &str, held: &[&str], expect: &[&str], leaves: bool| {
            let classes = held.iter().map(|it| (*it).to_owned()).collect();
            let entry = Entry { key: key.into(), classes, ..Entry::default() };
            let origin = again(&table, &entry);
            let (needs, found) = (Needs::default(), Found::NotLooked);
            let ask = Ask { origin: &origin, model: "far/m", needs, found };
            let decision = decide(&table, &ask, &Facts::default());
            assert_eq!(decision.classes, expect, "{key} {held:?}");
            assert_eq!(decision.outcome.is_ok(), leaves, "{key} {held:?}");
        };
        check("", &[], &["usual"], true);
        check("", &["usual"], &["usual"], true);
        check("", &["secret"], &["secret"], false);
        // A rule of this policy takes the place of the class that was usual then.
        check("k", &["usual"], &["free"], true);
        check("k", &["secret"], &["free", "secret"], false);
        // What this policy does not know it lets nowhere.
        check("", &["old"], &["old"], false);
    }

    #[test]
    fn entries_are_charged_where_their_calls_were() {
        let text = "[providers.far]\nkind = \"openai\"\n\
                    [budgets.all]\nscope = \"all\"\nper = \"forever\"\nusd = 10\n\
                    [budgets.team]\nscope = \"team\"\nper = \"day\"\ntokens = 100\n\
                    [budgets.here]\nscope = \"model\"\nof = [\"local/*\"]\nper = \"forever\"\n\
                    local = true\ntokens = 100\n";
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
        let check = |entry: &Entry, expect: &[(&str, u64, u64)]| {
            let spent = charged(&table, entry, DAY + 5);
            let row = |(account, amount): &(Account, Amount)| {
                (account.name.clone(), amount.micros, amount.tokens)
            };
            let spent: Vec<_> = spent.iter().map(row).collect();
            let expect: Vec<_> =
                expect.iter().map(|row| (row.0.to_owned(), row.1, row.2)).collect();
            assert_eq!(spent, expect, "{entry:?}");
        };
        // As they were written before charges were kept.
        check(&entry("far", DAY + 1), &[("all", 5, 7), ("team:blue", 5, 7)]);
        check(&entry("far", DAY - 1), &[("all", 5, 7)]);
        check(&entry("local", DAY + 1), &[("here:local/m", 0, 7)]);
        check(&entry("", DAY + 1), &[]);
        // What each took is its own, of the day on which it was decided, whoever answered.
        let charge = |provider: &str, at_ms, micros, tokens| Charge {
            provider: provider.into(),
            model: "m".into(),
            at_ms,
            micros,
            tokens,
            beyond_micros: 1_000,
            beyond_tokens: 1_000,
        };
        let far = [charge("far", DAY - 1, 2, 3), charge("far", DAY, 4, 5)];
        let all = far.into_iter().chain([charge("local", DAY, 0, 6)]).collect();
        let new = Entry { charges: Some(all), ..entry("local", DAY - 1) };
        let (all, here) = (("all", 2, 3), ("here:local/m", 0, 6));
        check(&new, &[all, ("all", 4, 5), ("team:blue", 4, 5), here]);
        check(&Entry { charges: Some(Vec::new()), ..entry("far", DAY) }, &[]);
        assert_eq!(table.counted_since(DAY + 5), Some(0));
        assert_eq!(Table::default().counted_since(DAY), None);
        assert_ne!(version("a"), version("b"));
    }
}
