//! A policy as data: what its file says, checked and in the file's order. Absent: how it is read
//! (`read`), and what follows from it for a request (`decide`).

use std::collections::BTreeMap;

use crate::Names;
use crate::prices::{Capabilities, LocalCost, Price, Tokens, book};

/// The provider that is this machine's own engine. Always there.
pub const LOCAL: &str = "local";
/// The model that asks for the policy's choice.
pub const AUTO: &str = "auto";

/// A policy. `Table::default()` lets nothing leave: it is what holds where there is no policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// In the file's order; this machine is among them, first where the file does not name it.
    pub providers: Vec<Provider>,
    /// Names that stand for lists of candidates.
    pub models: Vec<Alias>,
    /// Classes of data.
    pub classes: Vec<Class>,
    /// The class of requests to which nothing gives one; without it they stay on this machine.
    pub default_class: Option<String>,
    /// What gives requests classes.
    pub rules: Vec<Rule>,
    /// What may be spent.
    pub budgets: Vec<Budget>,
    /// What candidates are ranked by.
    pub weights: Weights,
    /// What an answer may cost and how long its first token may take.
    pub limits: Limits,
    /// The model of this machine that stands in for those over a budget; empty for the default.
    pub stand_in: Option<String>,
    /// What computing here costs, where the user says it.
    pub compute: Option<LocalCost>,
    /// The candidate that savings are reckoned against.
    pub compare: Option<Candidate>,
    /// The user's own prices, by `provider/model`.
    pub prices: BTreeMap<String, Price>,
}

/// A model of a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Candidate {
    /// The provider's name in the policy.
    pub provider: String,
    /// The model, as its provider calls it; of this machine, empty for the default.
    pub model: String,
}

impl Candidate {
    /// A model of this machine.
    pub fn local(model: impl Into<String>) -> Self {
        Self { provider: LOCAL.into(), model: model.into() }
    }

    /// Whether it is of this machine, so that no data leaves for it.
    pub fn is_local(&self) -> bool {
        self.provider == LOCAL
    }
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

/// What a provider speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// OpenAI.
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// Gemini, by Google's API for developers.
    Gemini,
    /// OpenAI's models at Azure.
    Azure,
    /// Amazon's Bedrock.
    Bedrock,
    /// Google's Vertex.
    Vertex,
    /// Anthropic's models at Google's Vertex.
    VertexAnthropic,
    /// Mistral.
    Mistral,
    /// OpenRouter.
    OpenRouter,
    /// Ollama.
    Ollama,
    /// Any server that speaks OpenAI's protocol: vLLM, SGLang, llama.cpp, another Ingle.
    Compatible,
    /// This machine's own engine.
    #[default]
    Local,
}

impl Kind {
    /// All of them, with their names in a policy and those in the price table (empty for none).
    pub const ALL: [(Self, &'static str, &'static str); 12] = [
        (Self::OpenAi, "openai", "openai"),
        (Self::Anthropic, "anthropic", "anthropic"),
        (Self::Gemini, "gemini", "gemini"),
        (Self::Azure, "azure", "azure"),
        (Self::Bedrock, "bedrock", "bedrock"),
        (Self::Vertex, "vertex", "vertex"),
        (Self::VertexAnthropic, "vertex-anthropic", "vertex"),
        (Self::Mistral, "mistral", "mistral"),
        (Self::OpenRouter, "openrouter", "openrouter"),
        (Self::Ollama, "ollama", ""),
        (Self::Compatible, "compatible", ""),
        (Self::Local, LOCAL, ""),
    ];

    /// Its name in a policy.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }
}

/// Where a provider's key comes from. The key itself is in no table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFrom {
    /// A variable of the environment: `env:NAME`.
    Env(String),
    /// A file's first line: `file:PATH`.
    File(String),
    /// The system's keyring, under this name: `keyring:NAME`.
    Keyring(String),
}

/// Who answers. What its headers say is shown to nobody.
#[derive(Clone, Default, PartialEq)]
pub struct Provider {
    /// Its name in the policy.
    pub name: String,
    /// What it speaks.
    pub kind: Kind,
    /// Where it is; `None` for the usual place of its kind.
    pub url: Option<String>,
    /// Where its key comes from.
    pub key: Option<KeyFrom>,
    /// Where its machines are, as the policy's classes name regions and as it names them itself.
    pub region: Option<String>,
    /// The project that is charged, for kinds that want one.
    pub project: Option<String>,
    /// The version of its interface, for kinds that want one.
    pub api_version: Option<String>,
    /// The models that may be asked, `*` at an end for all that begin so; `None` for all.
    pub models: Option<Vec<String>>,
    /// Calls under way at once, at most.
    pub max_concurrent: u32,
    /// From a try's start to its answer's first byte.
    pub try_timeout_ms: u64,
    /// From each of an answer's bytes to the next.
    pub idle_timeout_ms: u64,
    /// From a call's start to its end, all tries together.
    pub total_timeout_ms: u64,
    /// Tries after the first, where trying again is safe.
    pub retries: u32,
    /// After so long without an answer's first byte the next candidate is asked too.
    pub hedge_after_ms: Option<u64>,
    /// The classes of data that may go there; `None` leaves it to the classes.
    pub trust: Option<Vec<String>>,
    /// Headers that are sent along, names in lower case, in the order of their names.
    pub headers: Vec<(String, String)>,
    /// Its name in the price table; empty for none.
    pub prices: String,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("url", &self.url)
            .field("key", &self.key)
            .field("region", &self.region)
            .field("project", &self.project)
            .field("models", &self.models)
            .field("trust", &self.trust)
            .field("headers", &Names(&self.headers))
            .finish_non_exhaustive()
    }
}

/// A name that stands for candidates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alias {
    /// What is asked for.
    pub name: String,
    /// Who may answer.
    pub candidates: Vec<Candidate>,
    /// Whether they are ordered by weights, and not as they stand.
    pub ranked: bool,
}

/// What holds for data of a class. Where a request has several, each of these holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// It stays on this machine.
    pub local_only: bool,
    /// The providers that may see it; `None` leaves it to those whose `trust` names the class.
    pub providers: Option<Vec<String>>,
    /// The regions that may see it, `eu` for all that begin with `eu-` too; `None` for all.
    pub regions: Option<Vec<String>>,
    /// What is found in it is replaced before it leaves.
    pub redact: bool,
    /// Nobody answers it.
    pub block: bool,
}

/// What gives requests a class: all of its conditions hold, and of each one of its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The class that it gives.
    pub class: String,
    /// Names of keys, `*` at an end for all that begin so.
    pub key: Option<Vec<String>>,
    /// Names of teams, likewise.
    pub team: Option<Vec<String>>,
    /// Paths, likewise.
    pub path: Option<Vec<String>>,
    /// Names of workspaces, likewise.
    pub workspace: Option<Vec<String>>,
    /// Headers, names in lower case, and their values likewise, in any case. Who sends a request
    /// writes them: a rule by them should not give a class that lets more go than the usual one.
    pub header: Vec<(String, Vec<String>)>,
    /// Kinds of personal data and secrets that are found in it, likewise.
    pub detected: Option<Vec<String>>,
    /// Found so often, all of those kinds together.
    pub at_least: u32,
    /// The line of the file that it begins in, from 1.
    pub line: usize,
}

/// Whose calls a budget counts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Each key's.
    Key,
    /// Each team's.
    Team,
    /// Each candidate's.
    Model,
    /// All of them.
    #[default]
    All,
}

impl Scope {
    /// All of them, with their names in a policy.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Key, "key"), (Self::Team, "team"), (Self::Model, "model"), (Self::All, "all")];
}

/// What happens to a call that a budget has no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// This machine answers.
    Local,
    /// Nobody does.
    #[default]
    Refuse,
}

/// What may be spent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Its name.
    pub name: String,
    /// Whose calls are counted together.
    pub scope: Scope,
    /// Of whom, `*` at an end for all that begin so; `None` for everybody. Each has one of its own.
    pub of: Option<Vec<String>>,
    /// How long it is for.
    pub per: crate::budget::Period,
    /// Micro-dollars.
    pub micros: Option<u64>,
    /// Tokens, of prompts and answers together.
    pub tokens: Option<u64>,
    /// What happens to who would go over.
    pub over: Over,
    /// Whether what this machine computes counts too.
    pub local: bool,
}

/// What candidates are ranked by: `cost` × expected micro-dollars + `latency` × expected
/// milliseconds, less first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Of a micro-dollar.
    pub cost: u64,
    /// Of a millisecond until the answer is complete.
    pub latency: u64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { cost: 1, latency: 1 }
    }
}

/// What is asked of every candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Micro-dollars of one try of a call at worst.
    pub max_cost_micros: Option<u64>,
    /// Milliseconds until its first token, as expected.
    pub max_ttft_ms: Option<u64>,
    /// Tokens of an answer that leaves, where its request does not say.
    pub max_answer_tokens: Option<u64>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            providers: vec![Provider::this_machine()],
            models: Vec::new(),
            classes: Vec::new(),
            default_class: None,
            rules: Vec::new(),
            budgets: Vec::new(),
            weights: Weights::default(),
            limits: Limits::default(),
            stand_in: None,
            compute: None,
            compare: None,
            prices: BTreeMap::new(),
        }
    }
}

impl Provider {
    /// This machine's own engine, which bounds its own queue.
    pub fn this_machine() -> Self {
        Self {
            name: LOCAL.into(),
            max_concurrent: u32::MAX,
            try_timeout_ms: u64::MAX,
            idle_timeout_ms: u64::MAX,
            total_timeout_ms: u64::MAX,
            ..Self::default()
        }
    }

    /// Tries of a call at most, hedges included: each may be charged.
    pub fn tries(&self) -> u32 {
        1 + self.retries + u32::from(self.hedge_after_ms.is_some())
    }

    /// Whether this model of it may be asked.
    pub fn serves(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| among(models, model))
    }
}

impl Rule {
    /// Whether it asks where a request comes from.
    pub fn asks_origin(&self) -> bool {
        let lists = [&self.key, &self.team, &self.path, &self.workspace];
        lists.into_iter().any(Option::is_some) || !self.header.is_empty()
    }
}

impl Table {
    /// A provider by its name.
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.providers.iter().find(|it| it.name == name)
    }

    /// What a candidate costs: the user's own price, or the table's; `None` where neither knows.
    pub fn price(&self, at: &Candidate) -> Option<Price> {
        let own = self.prices.get(&at.to_string()).cloned();
        own.or_else(|| {
            let provider = self.provider(&at.provider).filter(|it| !it.prices.is_empty())?;
            book().price(&provider.prices, &at.model, provider.region.as_deref())
        })
    }

    /// What a candidate can do, as far as the price table knows.
    pub fn capabilities(&self, at: &Candidate) -> Capabilities {
        let provider = self.provider(&at.provider).filter(|it| !it.prices.is_empty());
        let row =
            provider.and_then(|it| book().find_in(&it.prices, &at.model, it.region.as_deref()));
        row.map(|row| row.can).unwrap_or_default()
    }

    /// Micro-dollars of a call that a remote candidate answered, and the day of the price;
    /// `None` where a price is not known.
    pub fn cost(&self, at: &Candidate, tokens: &Tokens, batch: bool) -> Option<(u64, String)> {
        let price = self.price(at)?;
        Some((price.micros(tokens, batch)?, price.date))
    }

    /// Micro-dollars of a call that this machine answered, by how long it computed; `None` where
    /// the policy does not say what that costs.
    pub fn local_cost(&self, compute_ms: u64) -> Option<u64> {
        self.compute.as_ref().map(|cost| cost.micros(compute_ms))
    }

    /// Micro-dollars of the same tokens at the candidate that is compared with.
    pub fn instead(&self, tokens: &Tokens) -> Option<u64> {
        // Caches are each provider's own: there, all of the prompt would have been computed.
        let tokens = Tokens { input: tokens.prompt(), cached: 0, written: 0, ..*tokens };
        self.cost(self.compare.as_ref()?, &tokens, false).map(|(micros, _)| micros)
    }

    /// Headers that rules ask of, in lower case, each once: those that an origin has to carry.
    pub fn headers(&self) -> Vec<&str> {
        let all = self.rules.iter().flat_map(|rule| &rule.header);
        let mut names: Vec<&str> = all.map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether requests have to be looked at for personal data and secrets before it is decided
    /// about them.
    pub fn wants_detection(&self) -> bool {
        self.rules.iter().any(|rule| rule.detected.is_some())
            || self.classes.iter().any(|class| class.redact)
    }
}

/// Whether a text is one of these, of which `*` at an end stands for any rest.
pub(super) fn among(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(begin) => text.starts_with(begin),
        None => pattern == text,
    })
}
