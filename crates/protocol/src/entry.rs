//! What a ledger keeps of a call, whatever its end: who asked, what was decided and why, where data
//! went, what it took and cost. No word of a prompt or an answer is in it.

use crate::{Finish, Step, Timings, Usage};

/// One call, as a ledger keeps it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// The request's id; an answer of several choices has `#1` and so on behind it.
    pub id: String,
    /// Milliseconds since 1970 when it came.
    pub at_ms: u64,
    /// The name of its key; empty where there is none.
    pub key: String,
    /// The key's team.
    pub team: String,
    /// The path it came by.
    pub path: String,
    /// The model that was asked for; empty for the default.
    pub asked: String,
    /// The data classes that it was decided by, in order.
    pub classes: Vec<String>,
    /// Kinds of personal data and secrets that were found in it, and how often.
    pub found: Vec<(String, u32)>,
    /// How many of them were replaced before anything left.
    pub redacted: u32,
    /// The version of the policy that decided: a digest of its text.
    pub policy: String,
    /// Candidates with verdicts and reasons, in the order they were considered and tried.
    pub route: Vec<Step>,
    /// The provider that answered, or was tried last; empty where none was.
    pub provider: String,
    /// The model that answered, as its provider calls it.
    pub model: String,
    /// The hosts to which any byte of it left this machine, each once; empty where none did.
    pub hosts: Vec<String>,
    /// Bytes of request bodies that were handed to connections, those to servers on this machine,
    /// which are no hosts, too.
    pub bytes_out: u64,
    /// Tries, those of failed candidates too.
    pub tries: u32,
    /// Tokens by kind.
    pub usage: Usage,
    /// What it cost.
    pub cost: Cost,
    /// What it counts as in budgets, by candidate, in the order in which they were asked: those
    /// that took nothing are not there. `None` in what was written before this was kept.
    pub charges: Option<Vec<Charge>>,
    /// What the policy's model of comparison would have cost, in micro-dollars, where it names one.
    pub instead_micros: Option<u64>,
    /// Where the time went.
    pub timings: Timings,
    /// How it ended.
    pub end: End,
}

/// What the tries of one candidate count as in budgets, whether or not any counts them: never more
/// than was held for them. What its provider told of beyond that is not believed, and stands
/// beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// The candidate's provider.
    pub provider: String,
    /// Its model, as the policy names it.
    pub model: String,
    /// Milliseconds since 1970 when it was decided on: its day and month are these budgets'.
    pub at_ms: u64,
    /// Micro-dollars.
    pub micros: u64,
    /// Tokens, of prompts and answers.
    pub tokens: u64,
    /// Micro-dollars that were told of beyond these.
    pub beyond_micros: u64,
    /// Tokens that were told of beyond these.
    pub beyond_tokens: u64,
}

/// What a call cost. All money is whole millionths of a US dollar, rounded up, so that sums are
/// exact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Micro-dollars, those of tries that failed and were charged too, as far as they are believed
    /// ([`Charge`]); `None` where a price is not known, which is never nothing.
    pub micros: Option<u64>,
    /// The date of the price, `2026-11-22`; `own` for the user's own, `local` for computing here.
    pub price: String,
    /// Whether usage was counted by its provider, or estimated because its answer was cut.
    pub estimated: bool,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The model ended its answer.
    #[default]
    Stop,
    /// A limit on tokens ended it.
    Length,
    /// It called tools.
    ToolCalls,
    /// Its caller went away.
    Cancelled,
    /// It was refused before anybody was asked.
    Refused,
    /// All that were tried failed.
    Failed,
    /// The program ended before the call did; told by who came after.
    Lost,
}

impl From<Finish> for End {
    /// How an answer ended, as a ledger says it.
    fn from(finish: Finish) -> Self {
        match finish {
            Finish::Stop => Self::Stop,
            Finish::Length => Self::Length,
            Finish::ToolCalls => Self::ToolCalls,
            Finish::Cancelled => Self::Cancelled,
        }
    }
}
