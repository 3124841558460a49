//! Which classes a request's data is of, and where data of all of them may go. What gives no answer
//! gives a "no": a class that the policy does not know, a detector that failed, a request that
//! nothing speaks of. Absent: detecting.

use std::collections::BTreeSet;

use ingle_protocol::Origin;

use super::table::{Class, Provider, Rule, Table, among};
use super::{Ask, Found};
use crate::privacy::Kind;

/// What holds for a request's data.
#[derive(Debug)]
pub(super) struct Holds<'a> {
    /// The classes, each once, in the order of their names.
    pub(super) names: Vec<String>,
    /// Those of them that the policy has.
    classes: Vec<&'a Class>,
    /// Why it stays here, whatever the classes say.
    stays: Option<String>,
    /// Whether the policy has classes at all.
    classed: bool,
}

/// The classes of a request, and of all that it builds on.
pub(super) fn holds<'a>(table: &'a Table, ask: &Ask<'_>) -> Holds<'a> {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut stays = None;
    for origin in std::iter::once(ask.origin).chain(&ask.origin.before) {
        if !give(table, origin, &ask.found, &mut names) {
            stays = Some("no rule gives it a class, and there is no `default_class`".into());
        }
        if origin.unknown {
            stays = Some("nobody knows any more where all of it comes from".into());
        }
    }
    let class = |name: &str| table.classes.iter().find(|class| class.name == name);
    if let Some(name) = names.iter().find(|name| class(name).is_none()) {
        stays = Some(format!("the policy has no class `{name}`"));
    }
    let classes: Vec<&Class> = names.iter().filter_map(|name| class(name)).collect();
    let wanted = classes.iter().any(|class| class.redact)
        || table.rules.iter().any(|rule| rule.detected.is_some());
    match &ask.found {
        Found::Failed(why) if wanted => {
            stays = Some(format!("nobody knows what is in it, since the detector failed: {why}"));
        }
        Found::NotLooked if wanted => {
            stays = Some("nobody looked at what is in it, and the policy asks that".into());
        }
        _ => {}
    }
    let names = names.into_iter().map(str::to_owned).collect();
    Holds { names, classes, stays, classed: !table.classes.is_empty() }
}

/// Adds the classes of what comes from somewhere: those that its key carries, that rules give, and
/// where there are none of these, the usual one. What was found in a request makes its class
/// stricter, and never takes the usual one away. False where nothing gives it a class.
fn give<'a>(
    table: &'a Table,
    origin: &'a Origin,
    found: &Found,
    names: &mut BTreeSet<&'a str>,
) -> bool {
    let matching =
        |rule: &&Rule| told(rule, origin) && (seen(rule, found) || feared(table, rule, found));
    let rules: Vec<&Rule> = table.rules.iter().filter(matching).collect();
    let (detected, plain): (Vec<_>, Vec<_>) =
        rules.into_iter().partition(|rule| rule.detected.is_some());
    let before = origin.classes.iter().map(String::as_str);
    let mut given: BTreeSet<&str> =
        before.chain(plain.iter().map(|it| it.class.as_str())).collect();
    if given.is_empty() {
        given.extend(table.default_class.as_deref());
    }
    let classed = !given.is_empty();
    names.extend(given);
    names.extend(detected.iter().map(|it| it.class.as_str()));
    classed
}

/// Whether a rule's conditions hold of where a request comes from.
fn told(rule: &Rule, origin: &Origin) -> bool {
    let each = [(&rule.key, &origin.key), (&rule.team, &origin.team), (&rule.path, &origin.path)];
    // Of several values one is enough: what is said beside it must not hide it.
    let workspace = |list: &Vec<String>| match origin.workspaces.as_slice() {
        [] => among(list, ""),
        all => all.iter().any(|it| among(list, it)),
    };
    let header = |(name, values): &(String, Vec<String>)| {
        origin.headers.iter().any(|(it, value)| {
            let value = value.trim().to_lowercase();
            let lower: Vec<String> = values.iter().map(|it| it.to_lowercase()).collect();
            it.eq_ignore_ascii_case(name) && among(&lower, &value)
        })
    };
    each.iter().all(|(list, it)| list.as_ref().is_none_or(|list| among(list, it)))
        && rule.workspace.as_ref().is_none_or(workspace)
        && rule.header.iter().all(header)
}

/// Whether enough was found of what a rule is about.
fn seen(rule: &Rule, found: &Found) -> bool {
    let Some(kinds) = &rule.detected else { return true };
    let Found::Kinds(all) = found else { return false };
    let counts = all.iter().filter(|(kind, _)| covers(kinds, kind)).map(|(_, count)| *count);
    counts.fold(0_u32, u32::saturating_add) >= rule.at_least
}

/// Whether what a rule is about may be there for all that anybody knows, where its class is
/// blocked: staying on this machine does not help that.
fn feared(table: &Table, rule: &Rule, found: &Found) -> bool {
    let blocked = |class: &Class| class.block && class.name == rule.class;
    !matches!(found, Found::Kinds(_)) && table.classes.iter().any(blocked)
}

/// Whether these name a kind of what is found: itself, or its group.
pub(super) fn covers(patterns: &[String], kind: &str) -> bool {
    let group = Kind::named(kind).map(|kind| kind.group().name());
    among(patterns, kind) || group.is_some_and(|group| among(patterns, group))
}

impl Holds<'_> {
    /// Whether what was found is replaced before it leaves.
    pub(super) fn redact(&self) -> bool {
        self.classes.iter().any(|class| class.redact)
    }

    /// Whether a policy that has classes lets the data go nowhere.
    pub(super) fn stay(&self) -> bool {
        let local = self.classes.iter().any(|class| class.local_only);
        self.classed && (self.stays.is_some() || local)
    }

    /// Whether the data may go to a provider, and why or why not. Each class is asked; to its
    /// provider a class has to be named, by the class itself or by the provider's trust.
    pub(super) fn may_go(&self, provider: &Provider, local: bool) -> Result<String, String> {
        if let Some(class) = self.classes.iter().find(|class| class.block) {
            return Err(format!("class `{}` is blocked: nobody answers it", class.name));
        }
        if local {
            return Ok("nothing leaves this machine".into());
        }
        if let Some(why) = &self.stays {
            return Err(format!("it stays on this machine: {why}"));
        }
        for class in &self.classes {
            goes(class, provider)?;
        }
        let names = self.names.join("`, `");
        let redacted = if self.redact() { ", once what was found is replaced" } else { "" };
        Ok(format!("`{names}` may go to {}{redacted}", provider.name))
    }
}

fn goes(class: &Class, provider: &Provider) -> Result<(), String> {
    let (class_name, name) = (&class.name, &provider.name);
    if class.local_only {
        return Err(format!("class `{class_name}` stays on this machine"));
    }
    let named = class.providers.as_ref().map(|all| all.contains(name));
    let trusted = provider.trust.as_ref().map(|all| all.contains(class_name));
    match (named, trusted) {
        (Some(false), _) => {
            return Err(format!("class `{class_name}` does not name {name} among its providers"));
        }
        (_, Some(false)) => {
            return Err(format!("{name} is not trusted with class `{class_name}`"));
        }
        (None, None) => {
            return Err(format!(
                "nothing says that class `{class_name}` may go to {name}: neither the `providers` \
                 of the one nor the `trust` of the other"
            ));
        }
        _ => {}
    }
    let Some(regions) = &class.regions else { return Ok(()) };
    let within = |region: &String| {
        let rest = provider.region.as_ref().and_then(|it| it.strip_prefix(region.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '/']))
    };
    if regions.iter().any(within) {
        return Ok(());
    }
    let place = provider.region.as_deref().unwrap_or("somewhere that is not told");
    let regions = regions.join(", ");
    Err(format!("class `{class_name}` stays in {regions}, and {name} is in {place}"))
}
