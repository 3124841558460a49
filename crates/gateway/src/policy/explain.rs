//! A decision in words: for a receipt, a line for each candidate; for a reader, all of it. Absent:
//! colours and terminals.

use ingle_protocol::Step;

use super::table::Candidate;
use super::{Check, Considered, Decision};
use crate::prices::money::dollars;

impl Decision {
    /// Who is tried first.
    pub fn first(&self) -> Option<&Candidate> {
        self.outcome.as_ref().ok()?.first().map(|choice| &choice.candidate)
    }

    /// A verdict and a reason for each candidate, in the order in which they would be tried, where
    /// this one was taken in the end.
    pub fn steps_of(&self, taken: Option<&Candidate>) -> Vec<Step> {
        let step = |it: &Considered| Step {
            candidate: it.candidate.to_string(),
            taken: taken == Some(&it.candidate) && it.passed(),
            reason: it.reason(),
        };
        self.considered.iter().map(step).collect()
    }

    /// All of it, a line for each thing that was asked, ending with the outcome.
    pub fn explain(&self) -> String {
        let mut lines = vec![format!("classes: {}", listed(&self.classes))];
        let found: Vec<String> =
            self.found.iter().map(|(kind, count)| format!("{kind} × {count}")).collect();
        lines.push(format!("found: {}", listed(&found)));
        for it in &self.considered {
            lines.push(format!("{}", it.candidate));
            for verdict in &it.verdicts {
                let mark = if verdict.passed { "yes" } else { "no" };
                let name = verdict.check.name();
                lines.push(format!("  {name:<16}  {mark:<3}  {}", verdict.reason));
            }
            let asked = it.verdicts.len();
            for check in Check::ALL.iter().skip(asked) {
                lines.push(format!("  {:<16}  -    not asked", check.name()));
            }
        }
        match &self.outcome {
            Ok(choices) => {
                lines.push("tried in this order:".to_owned());
                for (at, choice) in choices.iter().enumerate() {
                    let leaves = match (choice.leaves, choice.redact) {
                        (false, _) => "nothing leaves",
                        (true, false) => "it leaves",
                        (true, true) => "it leaves, redacted",
                    };
                    let held = match choice.claims.len() {
                        0 => "no budget holds anything".to_owned(),
                        _ => format!("{} is held for it", dollars(choice.hold().micros)),
                    };
                    let number = at + 1;
                    lines.push(format!("  {number}. {}: {leaves}, {held}", choice.candidate));
                }
            }
            Err(refused) => lines.push(format!("refused: {}", refused.message)),
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

impl Considered {
    /// Whether it may be tried.
    pub fn passed(&self) -> bool {
        let all = self.verdicts.len() == Check::ALL.len();
        all && self.verdicts.iter().all(|verdict| verdict.passed)
    }

    /// Why, or why not: of a "no" that alone.
    pub fn reason(&self) -> String {
        let told = |it: &super::Verdict| format!("{}: {}", it.check.name(), it.reason);
        match self.verdicts.iter().find(|verdict| !verdict.passed) {
            Some(no) => told(no),
            None => self.verdicts.iter().map(told).collect::<Vec<_>>().join("; "),
        }
    }
}

fn listed(all: &[String]) -> String {
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}
