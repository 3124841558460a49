//! A policy's text becomes a [`Table`], or what is wrong with it and where. With one error all of
//! it is refused: half a policy may let out what the other half holds. Absent: files, and what
//! holds meanwhile (the last good one; where there is none, [`Table::default`]).

use std::collections::BTreeMap;

use toml::Spanned;

use super::classes::covers;
use super::place::{At, Wrong, line};
use super::rows::{self, Decimal, Many, Named};
use super::table::{
    AUTO, Alias, Budget, Candidate, Class, KeyFrom, Kind, LOCAL, Limits, Over, Provider, Rule,
    Scope, Table, Weights,
};
use crate::budget::Period;
use crate::prices::{LocalCost, Price, Rates, Tier, money};
use crate::privacy;

/// A policy with all that one may say, and what each is for.
pub const EXAMPLE: &str = include_str!("example.toml");
/// Bytes of a policy, at most.
pub const POLICY_MAX: usize = 1 << 20;
/// Bytes of a name, at most.
const NAME_MAX: usize = 128;
/// A weight is no more than this, so that sums of products fit.
const WEIGHT_MAX: u64 = 1_000_000;
/// A year.
const TIMEOUT_MAX_MS: u64 = 366 * 86_400_000;

type Read<T> = Result<T, At>;

impl Table {
    /// Reads a policy; `file` is its name, for errors.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn read(file: &str, text: &str) -> Result<Self, Wrong> {
        if text.len() > POLICY_MAX {
            let message = format!("a policy has at most {POLICY_MAX} bytes, not {}", text.len());
            return Err(At(0..0, message).wrong(file, ""));
        }
        let rows = toml::from_str::<rows::File>(text).map_err(|error| {
            let message = error.message().trim().replace('\n', ", ");
            At(error.span().unwrap_or(0..0), message)
        });
        rows.and_then(|rows| table(rows, text)).map_err(|at| at.wrong(file, text))
    }
}

/// A file's entries in the order in which they stand there.
fn in_order<T>(named: Named<T>) -> Vec<(Spanned<String>, T)> {
    let mut all: Vec<_> = named.into_iter().collect();
    all.sort_by_key(|(name, _)| name.span().start);
    all
}

fn table(rows: rows::File, text: &str) -> Read<Table> {
    let (mut providers, mut classes) = (in_order(rows.providers), in_order(rows.classes));
    for (name, _) in &providers {
        named(name, "provider")?;
    }
    for (name, _) in &classes {
        named(name, "class")?;
    }
    let known = Known {
        providers: providers.iter().map(|(name, _)| name.get_ref().clone()).collect(),
        classes: classes.iter().map(|(name, _)| name.get_ref().clone()).collect(),
    };
    let providers: Read<Vec<_>> =
        providers.drain(..).map(|(name, row)| provider(name, row, &known)).collect();
    let mut providers = providers?;
    if !known.providers.iter().any(|name| name == LOCAL) {
        providers.insert(0, Provider::this_machine());
    }
    let classes: Read<Vec<_>> =
        classes.drain(..).map(|(name, row)| class(name, row, &known)).collect();
    let models = in_order(rows.models).into_iter();
    let models: Read<Vec<_>> = models.map(|(name, row)| alias(name, row, &providers)).collect();
    let rules: Read<Vec<_>> = rows.rules.into_iter().map(|row| rule(row, text, &known)).collect();
    let budgets = in_order(rows.budgets).into_iter();
    let budgets: Read<Vec<_>> = budgets.map(|(name, row)| budget(name, row)).collect();
    let prices = in_order(rows.prices).into_iter();
    let prices: Read<BTreeMap<_, _>> = prices
        .map(|(name, row)| Ok((candidate(&name, &providers)?.to_string(), price(row)?)))
        .collect();
    let compare = rows.compare.map(|row| candidate(&row.model, &providers)).transpose()?;
    Ok(Table {
        models: models?,
        classes: classes?,
        default_class: rows.default_class.map(|name| known.class(name)).transpose()?,
        rules: rules?,
        budgets: budgets?,
        weights: weights(&rows.weights)?,
        limits: limits(&rows.limits)?,
        compute: local_cost(&rows.local)?,
        stand_in: rows.local.stand_in,
        compare,
        prices: prices?,
        providers,
    })
}

/// What other entries may name.
struct Known {
    providers: Vec<String>,
    classes: Vec<String>,
}

impl Known {
    fn class(&self, name: Spanned<String>) -> Read<String> {
        one_of(name, &self.classes, "class", "[classes.NAME]")
    }

    fn classes(&self, many: Many) -> Read<Vec<String>> {
        many.0.into_iter().map(|name| self.class(name)).collect()
    }

    fn providers(&self, many: Many) -> Read<Vec<String>> {
        let find = |name| one_of(name, &self.providers, "provider", "[providers.NAME]");
        many.0.into_iter().map(find).collect()
    }
}

fn one_of(name: Spanned<String>, all: &[String], what: &str, how: &str) -> Read<String> {
    if all.contains(name.get_ref()) {
        return Ok(name.into_inner());
    }
    let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
    Err(At::new(
        &name,
        format!("there is no {what} {:?} ({how}); there are: {all}", name.get_ref()),
    ))
}

/// The row of a table of names that this one names.
fn row<T: Copy>(name: &Spanned<String>, all: impl Iterator<Item = (T, &'static str)>) -> Read<T> {
    let all: Vec<_> = all.collect();
    let found = all.iter().find(|(_, it)| it == name.get_ref()).map(|(it, _)| *it);
    let names: Vec<&str> = all.iter().map(|(_, name)| *name).collect();
    found.ok_or_else(|| {
        At::new(name, format!("{:?} is none of: {}", name.get_ref(), names.join(", ")))
    })
}

/// What names things is short and has none of the marks that names are put together with.
fn named(name: &Spanned<String>, what: &str) -> Read<()> {
    let letter = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let text = name.get_ref();
    if text.is_empty() || text.len() > NAME_MAX || !text.chars().all(letter) {
        let allowed = "letters, digits, `-`, `_` and `.`";
        return Err(At::new(name, format!("a {what}'s name is 1 to {NAME_MAX} of {allowed}")));
    }
    Ok(())
}

/// Texts, of which there is one at least and none is empty.
fn texts(many: Many, at: &Spanned<String>) -> Read<Vec<String>> {
    if many.0.is_empty() {
        return Err(At::new(at, "an empty list holds for nobody: leave it out, or name somebody"));
    }
    let text = |text: Spanned<String>| match text.get_ref().trim() {
        "" => Err(At::new(&text, "an empty text names nobody")),
        _ => Ok(text.into_inner()),
    };
    many.0.into_iter().map(text).collect()
}

/// A number within bounds, or what is usual.
fn bounded<T>(value: Option<Spanned<T>>, usual: T, from: T, to: T) -> Read<T>
where
    T: Copy + PartialOrd + std::fmt::Display,
{
    match value {
        None => Ok(usual),
        Some(it) if *it.get_ref() >= from && *it.get_ref() <= to => Ok(*it.get_ref()),
        Some(it) => Err(At::new(&it, format!("{} is not from {from} to {to}", it.get_ref()))),
    }
}

fn provider(name: Spanned<String>, row: Spanned<rows::Provider>, known: &Known) -> Read<Provider> {
    let place = row.span();
    let row = row.into_inner();
    let kind = self::row(&row.kind, Kind::ALL.iter().map(|it| (it.0, it.1)))?;
    let local = kind == Kind::Local;
    if local != (name.get_ref() == LOCAL) {
        let told = "`local` is this machine's own engine: a provider of this kind has this name, \
                    and no other has it";
        return Err(At::new(&row.kind, told));
    }
    if let Some(it) = row.url.as_ref().or(row.key.as_ref()).filter(|_| local) {
        return Err(At::new(it, "this machine's own engine has no address and no key"));
    }
    if row.url.is_none() && kind == Kind::Compatible {
        return Err(At(place, "a server of kind \"compatible\" needs its `url`".into()));
    }
    let usual = Provider::this_machine();
    let ms = |value, remote, local_one| {
        bounded(value, if local { local_one } else { remote }, 1, TIMEOUT_MAX_MS)
    };
    let table_name = Kind::ALL.iter().find(|it| it.0 == kind).map_or("", |it| it.2);
    Ok(Provider {
        kind,
        url: row.url.map(url).transpose()?,
        key: row.key.as_ref().map(key_from).transpose()?,
        region: row.region.map(Spanned::into_inner),
        project: row.project,
        api_version: row.api_version,
        models: row.models.map(|many| texts(many, &name)).transpose()?,
        max_concurrent: match local {
            true => bounded(row.max_concurrent, usual.max_concurrent, 1, u32::MAX)?,
            false => bounded(row.max_concurrent, 64, 1, 65_536)?,
        },
        try_timeout_ms: ms(row.try_timeout_ms, 120_000, usual.try_timeout_ms)?,
        idle_timeout_ms: ms(row.idle_timeout_ms, 60_000, usual.idle_timeout_ms)?,
        total_timeout_ms: ms(row.total_timeout_ms, 600_000, usual.total_timeout_ms)?,
        retries: bounded(row.retries, if local { 0 } else { 2 }, 0, 10)?,
        hedge_after_ms: match row.hedge_after_ms {
            Some(it) => Some(bounded(Some(it), 0, 1, TIMEOUT_MAX_MS)?),
            None => None,
        },
        trust: row.trust.map(|many| known.classes(many)).transpose()?,
        headers: headers(row.headers)?,
        prices: row.prices.map_or(table_name.to_owned(), Spanned::into_inner),
        name: name.into_inner(),
    })
}

fn url(url: Spanned<String>) -> Read<String> {
    let text = url.get_ref();
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let odd = |c: char| c.is_whitespace() || c.is_control();
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !rest.contains(odd) => {
            Ok(url.into_inner())
        }
        _ => Err(At::new(&url, "an address begins with `https://` or `http://` and names a host")),
    }
}

fn key_from(key: &Spanned<String>) -> Read<KeyFrom> {
    let from = match key.get_ref().split_once(':') {
        Some(("env", name)) => Some((KeyFrom::Env(name.into()), name)),
        Some(("file", path)) => Some((KeyFrom::File(path.into()), path)),
        Some(("keyring", name)) => Some((KeyFrom::Keyring(name.into()), name)),
        _ => None,
    };
    let from = from.filter(|(_, place)| !place.is_empty()).map(|(from, _)| from);
    // What stands there may be a key, and is not repeated.
    let told = "says where a key is, and is none: \"env:NAME\", \"file:PATH\" or \
                \"keyring:SERVICE/USER\"";
    from.ok_or_else(|| At::new(key, told))
}

fn headers(named: Named<Spanned<String>>) -> Read<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (name, value) in named {
        let lower = header_name(&name)?;
        if value.get_ref().chars().any(char::is_control) {
            return Err(At::new(&value, "a header's value is one line without control characters"));
        }
        all.push((lower, value.into_inner()));
    }
    all.sort();
    Ok(all)
}

fn header_name(name: &Spanned<String>) -> Read<String> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    match name.get_ref() {
        text if !text.is_empty() && text.chars().all(letter) => Ok(text.to_ascii_lowercase()),
        _ => Err(At::new(name, "this is no name of a header")),
    }
}

/// `provider/model`; `local` alone is this machine's default model.
fn candidate(name: &Spanned<String>, providers: &[Provider]) -> Read<Candidate> {
    let text = name.get_ref();
    let (provider, model) = match text.split_once('/') {
        Some((provider, model)) if !model.is_empty() || provider == LOCAL => (provider, model),
        None if text == LOCAL => (LOCAL, ""),
        _ => return Err(At::new(name, "a candidate is \"provider/model\", or \"local\"")),
    };
    let found = providers.iter().find(|it| it.name == provider).ok_or_else(|| {
        let all: Vec<&str> = providers.iter().map(|it| it.name.as_str()).collect();
        At::new(name, format!("there is no provider {provider:?}; there are: {}", all.join(", ")))
    })?;
    if !found.serves(model) {
        let told =
            format!("the `models` of provider {provider:?} do not have {model:?} among them");
        return Err(At::new(name, told));
    }
    Ok(Candidate { provider: provider.to_owned(), model: model.to_owned() })
}

fn alias(name: Spanned<String>, row: Spanned<rows::Model>, known: &[Provider]) -> Read<Alias> {
    if name.get_ref().is_empty() || name.get_ref().len() > NAME_MAX {
        return Err(At::new(&name, format!("a model's name is 1 to {NAME_MAX} bytes long")));
    }
    let place = row.span();
    let row = row.into_inner();
    let mut candidates: Vec<Candidate> = Vec::new();
    for text in &row.candidates {
        let candidate = candidate(text, known)?;
        if candidates.contains(&candidate) {
            return Err(At::new(text, format!("{candidate} is there twice")));
        }
        candidates.push(candidate);
    }
    if candidates.is_empty() {
        return Err(At(place, "without candidates nobody answers: name one".into()));
    }
    let usual = name.get_ref() == AUTO;
    let orders = [(false, "listed"), (true, "ranked")];
    let order = row.order.map(|order| self::row(&order, orders.into_iter())).transpose()?;
    Ok(Alias { ranked: order.unwrap_or(usual), candidates, name: name.into_inner() })
}

fn class(name: Spanned<String>, row: rows::Class, known: &Known) -> Read<Class> {
    Ok(Class {
        local_only: row.local_only,
        providers: row.providers.map(|many| known.providers(many)).transpose()?,
        regions: row.regions.map(|many| texts(many, &name)).transpose()?,
        redact: row.redact,
        block: row.block,
        name: name.into_inner(),
    })
}

fn rule(row: Spanned<rows::Rule>, text: &str, known: &Known) -> Read<Rule> {
    let place = row.span();
    let row = row.into_inner();
    let at = row.class.clone();
    let list = |many: Option<Many>| many.map(|many| texts(many, &at)).transpose();
    let mut header = Vec::new();
    for (name, values) in row.header {
        header.push((header_name(&name)?, texts(values, &name)?));
    }
    header.sort();
    if let Some(it) = row.at_least.as_ref().filter(|_| row.detected.is_none()) {
        return Err(At::new(it, "`at_least` counts what is `detected`: name kinds there"));
    }
    let detected = list(row.detected)?;
    for name in detected.iter().flatten() {
        let one = std::slice::from_ref(name);
        if !privacy::Kind::all().any(|kind| covers(one, kind.name())) {
            let told = format!("nothing is found under the name {name:?}: docs/PRIVACY.md has all");
            return Err(At(place, told));
        }
    }
    let rule = Rule {
        class: known.class(row.class)?,
        key: list(row.key)?,
        team: list(row.team)?,
        path: list(row.path)?,
        workspace: list(row.workspace)?,
        header,
        detected,
        at_least: bounded(row.at_least, 1, 1, u32::MAX)?,
        line: line(text, place.start),
    };
    if !rule.asks_origin() && rule.detected.is_none() {
        let told = "a rule without conditions holds for all: say `default_class` for that";
        return Err(At(place, told.into()));
    }
    Ok(rule)
}

fn budget(name: Spanned<String>, row: Spanned<rows::Budget>) -> Read<Budget> {
    named(&name, "budget")?;
    let place = row.span();
    let row = row.into_inner();
    let scope = self::row(&row.scope, Scope::ALL.into_iter())?;
    if row.of.is_some() && scope == Scope::All {
        return Err(At::new(&row.scope, "a budget for all is `of` nobody in particular"));
    }
    let overs = [(Over::Local, "local"), (Over::Refuse, "refuse")];
    let over = row.over.as_ref().map(|over| self::row(over, overs.into_iter())).transpose()?;
    if let Some(it) = row.over.as_ref().filter(|_| row.local && over == Some(Over::Local)) {
        let told = "this budget counts what is computed here (`local`), so that nothing here can \
                    stand in when it is used up";
        return Err(At::new(it, told));
    }
    if let Some(it) = row.usd.as_ref().filter(|_| row.local) {
        let told = "money is of what is bought: a budget that counts what is computed here too \
                    (`local`) is of `tokens`";
        return Err(At::new(it, told));
    }
    let budget = Budget {
        scope,
        of: row.of.map(|many| texts(many, &name)).transpose()?,
        per: self::row(&row.per, Period::ALL.into_iter())?,
        micros: row.usd.map(|usd| decimal(&usd)).transpose()?,
        tokens: row.tokens.map(Spanned::into_inner),
        over: over.unwrap_or_default(),
        local: row.local,
        name: name.into_inner(),
    };
    if budget.micros.is_none() && budget.tokens.is_none() {
        return Err(At(place, "a budget has a limit: `usd` or `tokens`, or both".into()));
    }
    Ok(budget)
}

/// Millionths, exactly.
fn decimal(value: &Spanned<Decimal>) -> Read<u64> {
    money::exact(&value.get_ref().0, 6).map_err(|why| At::new(value, why))
}

fn weights(row: &rows::Weights) -> Read<Weights> {
    let usual = Weights::default();
    let weight = |value: &Option<Spanned<u64>>, usual| bounded(value.clone(), usual, 0, WEIGHT_MAX);
    Ok(Weights {
        cost: weight(&row.cost, usual.cost)?,
        latency: weight(&row.latency, usual.latency)?,
    })
}

fn limits(row: &rows::Limits) -> Read<Limits> {
    let most = row.max_answer_tokens.clone();
    let most = most.map(|it| bounded(Some(it), 1, 1, u32::MAX.into())).transpose()?;
    Ok(Limits {
        max_cost_micros: row.max_cost_micros,
        max_ttft_ms: row.max_ttft_ms,
        max_answer_tokens: most,
    })
}

/// What computing here costs, where anything of it is said.
fn local_cost(row: &rows::Local) -> Read<Option<LocalCost>> {
    let both = |a: bool, b: bool| a == b;
    let place = [
        row.kwh_usd.as_ref().map(Spanned::span),
        row.watts.as_ref().map(Spanned::span),
        row.hardware_usd.as_ref().map(Spanned::span),
        row.years.as_ref().map(Spanned::span),
        row.busy_percent.as_ref().map(Spanned::span),
    ];
    let Some(place) = place.into_iter().flatten().next() else { return Ok(None) };
    if !both(row.kwh_usd.is_some(), row.watts.is_some()) {
        return Err(At(place, "electricity wants `kwh_usd` and `watts`, both of them".into()));
    }
    if !both(row.hardware_usd.is_some(), row.years.is_some()) {
        return Err(At(place, "the machine's price wants `hardware_usd` and `years`".into()));
    }
    if row.busy_percent.is_some() && row.years.is_none() {
        return Err(At(
            place,
            "`busy_percent` is of the `years` that `hardware_usd` is for".into(),
        ));
    }
    let usd = |value: &Option<Spanned<Decimal>>| value.as_ref().map_or(Ok(0), decimal);
    Ok(Some(LocalCost {
        kwh_micros: usd(&row.kwh_usd)?,
        watts: bounded(row.watts.clone(), 0, 1, 1_000_000)?,
        hardware_micros: usd(&row.hardware_usd)?,
        years: bounded(row.years.clone(), 0, 1, 100)?,
        busy_percent: bounded(row.busy_percent.clone(), 100, 1, 100)?,
    }))
}

/// The user's own price: dollars a million tokens are micro-dollars a token.
fn price(row: rows::Price) -> Read<Price> {
    let pico = |value: Option<Spanned<Decimal>>| value.as_ref().map(decimal).transpose();
    let rates = Rates {
        input: Some(decimal(&row.input_per_million)?),
        cached: pico(row.cached_per_million)?,
        written: pico(row.written_per_million)?,
        output: pico(row.output_per_million)?,
        reasoning: pico(row.reasoning_per_million)?,
    };
    let batch = Rates {
        input: pico(row.batch_input_per_million)?,
        output: pico(row.batch_output_per_million)?,
        ..Rates::default()
    };
    Ok(Price { tiers: vec![Tier { above: 0, rates, batch }], date: "own".into() })
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
