//! Where a request may go: [`decide()`] takes a policy, a request and facts to a decision with its
//! reasons. It is a function and no more: time, health and what is spent are arguments, so that a
//! decision can be explained without sending anything, and replayed years later. Absent: sending,
//! detecting, keeping accounts; clocks, files, randomness.
//!
//! Each candidate is asked in this order, and the first "no" is its answer: privacy, capability,
//! budget, cost and latency, health. What no rule speaks of stays on this machine.

mod budgets;
mod classes;
mod decide;
mod explain;
mod needs;
mod place;
mod rank;
mod read;
mod recover;
mod rows;
mod table;

pub use budgets::over;
pub use decide::{accounts, candidates, decide, is_name, may_use, named, shown};
pub use place::Wrong;
pub use read::{EXAMPLE, POLICY_MAX};
pub use recover::{again, charged, version};
pub use table::{
    AUTO, Alias, Budget, Candidate, Class, KeyFrom, Kind, LOCAL, Limits, Over, Provider, Rule,
    Scope, Table, Weights,
};

use std::collections::BTreeMap;

use ingle_protocol::{Origin, Step};

use crate::budget::{Account, Amount, Claim, Standing};

/// What is asked, as far as a policy wants to know.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// Where it comes from.
    pub origin: &'a Origin,
    /// The model that it names; empty for the default.
    pub model: &'a str,
    /// What it needs.
    pub needs: Needs,
    /// What was found in it.
    pub found: Found,
}

/// What a request needs of who answers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Tokens of its prompt, as estimated: what is expected of it.
    pub prompt_tokens: u64,
    /// Tokens that its prompt has at most ([`crate::budget::prompt_bound`]): what is reserved.
    pub prompt_most: u64,
    /// Tokens of an answer, thoughts included, where the request says so.
    pub max_tokens: Option<u64>,
    /// Answers that it wants; 0 is 1.
    pub answers: u32,
    /// It generates nothing: it is read.
    pub reads: bool,
    /// It is one of a batch that is answered within a day, at the price for those.
    pub batch: bool,
    /// Tools.
    pub tools: bool,
    /// Pictures.
    pub vision: bool,
    /// An answer by a JSON schema.
    pub schema: bool,
    /// An answer by another grammar.
    pub grammar: bool,
    /// Log-probabilities.
    pub logprobs: bool,
}

/// What a detector found in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Found {
    /// Nobody looked. Right where [`Table::wants_detection`] says that nobody need.
    #[default]
    NotLooked,
    /// It failed, or did not look at everything: why.
    Failed(String),
    /// Kinds and how often, in order; empty where there is nothing.
    Kinds(Vec<(String, u32)>),
}

/// How a candidate's provider has been lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It is asked.
    #[default]
    Well,
    /// It is not asked before this moment, and then once to see.
    Resting {
        /// Milliseconds since 1970.
        until_ms: u64,
    },
    /// It is being asked once to see; nobody else is to ask it meanwhile.
    OnTrial,
}

/// What is known of a candidate now. `None` is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fact {
    /// The longest prompt and answer together, in tokens.
    pub context_tokens: Option<u64>,
    /// The longest answer, in tokens.
    pub max_output_tokens: Option<u64>,
    /// Whether it calls tools.
    pub tools: Option<bool>,
    /// Whether it sees pictures.
    pub vision: Option<bool>,
    /// Whether it answers by JSON schemas.
    pub schema: Option<bool>,
    /// Whether it answers by other grammars.
    pub grammar: Option<bool>,
    /// Whether it tells log-probabilities.
    pub logprobs: Option<bool>,
    /// How its provider is.
    pub health: Health,
    /// Calls of its provider under way.
    pub in_flight: u32,
    /// Milliseconds until the first token, as measured lately.
    pub ttft_ms: Option<u64>,
    /// Microseconds for each token after it.
    pub token_us: Option<u64>,
}

/// What is known of the world now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// By candidate. A local one that is not here does not exist; a remote one that is not here is
    /// one of which nothing is known.
    pub candidates: BTreeMap<Candidate, Fact>,
    /// Where accounts stand; one that is not here is empty.
    pub accounts: BTreeMap<Account, Standing>,
}

/// What a candidate is asked, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// May the data go there?
    Privacy,
    /// Can it answer this?
    Capability,
    /// Is there money, and are there tokens?
    Budget,
    /// Is it cheap and quick enough?
    CostAndLatency,
    /// Is it well?
    Health,
}

impl Check {
    /// All of them, in their order.
    pub const ALL: [Self; 5] =
        [Self::Privacy, Self::Capability, Self::Budget, Self::CostAndLatency, Self::Health];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Privacy => "privacy",
            Self::Capability => "capability",
            Self::Budget => "budget",
            Self::CostAndLatency => "cost and latency",
            Self::Health => "health",
        }
    }
}

/// What came of one check of one candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What was asked.
    pub check: Check,
    /// Whether it passed.
    pub passed: bool,
    /// Why.
    pub reason: String,
}

/// A candidate and all that was asked of it, up to the first "no".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// Who.
    pub candidate: Candidate,
    /// In the order of [`Check::ALL`].
    pub verdicts: Vec<Verdict>,
}

/// A candidate that may be tried, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Who.
    pub candidate: Candidate,
    /// Whether any byte leaves this machine for it.
    pub leaves: bool,
    /// Whether what was found has to be replaced before it does.
    pub redact: bool,
    /// The `max_tokens` that has to be sent along, for each answer: the reservation counts on it.
    /// `None` where the request goes as it is, to this machine.
    pub max_tokens: Option<u64>,
    /// What one try takes at worst.
    pub amount: Amount,
    /// Tries at most, where it is retried and hedged: each may be charged. Fewer than its provider
    /// is given where budgets have no room for these.
    pub tries: u32,
    /// In which accounts; empty where no budget counts it, and nothing need be reserved.
    pub claims: Vec<Claim>,
    /// Micro-dollars as expected; `None` where a price is not known.
    pub expected_micros: Option<u64>,
    /// Milliseconds until the answer is complete, as expected.
    pub expected_ms: Option<u64>,
}

impl Choice {
    /// What to reserve before it is tried: the worst case of all its tries. Each choice of a plan
    /// is reserved under an id of its own; one that has no room any more is left out of the plan.
    pub fn hold(&self) -> Amount {
        let times = u64::from(self.tries.max(1));
        Amount {
            micros: self.amount.micros.saturating_mul(times),
            tokens: self.amount.tokens.saturating_mul(times),
        }
    }
}

/// Why nobody may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The check that the candidate which came furthest did not pass.
    pub check: Check,
    /// What happened and what to do, for the caller. Names no prompt's content.
    pub message: String,
    /// After so many milliseconds it may be otherwise.
    pub retry_after_ms: Option<u64>,
}

/// What was decided, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Who is tried, in this order; or why nobody is.
    pub outcome: Result<Vec<Choice>, Refused>,
    /// The classes it was decided by, each once, in the order of their names.
    pub classes: Vec<String>,
    /// Whether the policy has classes and, by them, the data may be nowhere but on this machine,
    /// whoever could answer it.
    pub stays: bool,
    /// Kinds that were found, and how often.
    pub found: Vec<(String, u32)>,
    /// Everybody who was considered, in the order in which they would be tried.
    pub considered: Vec<Considered>,
    /// The same for a receipt: a verdict and a reason for each; the first that is tried is taken.
    pub steps: Vec<Step>,
}
