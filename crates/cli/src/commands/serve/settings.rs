//! What a server is told, by its command line and by a file together. The flags are the table:
//! each is a setting of the file by the same name, and clap reads both, so that neither can say
//! what the other cannot. What stands on the command line goes before what stands in the file.
//!
//! Absent: what any of it means; and when the file is read again (`reload`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args as _, CommandFactory, FromArgMatches};
use ingle_server::Key;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Args;
use crate::commands::key::{self, FILE_MAX, Ring};
use crate::ui::{Ui, Usage};

/// Flags that say nothing of the server.
const NO_SETTINGS: &[&str] = &["config", "print_config"];
/// Settings that hold as soon as they are read; the others want a restart.
const LIVE: &[&str] = &[
    "access_log",
    "allow_host",
    "api_key",
    "api_key_file",
    "cors_origin",
    "drain",
    "insecure_no_auth",
    "isolate_keys",
    "keep_alive",
    "keys_file",
    "max_answers",
];
/// Settings that are not shown.
const SECRET: &[&str] = &["api_key", "budgets", "ledger", "otlp_headers"];
/// What is no setting and stands in the file, too.
const KEYS: &str = "keys";

/// How a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Switch,
    One,
    Many,
}

/// A flag, as a file says it.
#[derive(Debug)]
struct Setting {
    /// With underscores, and what it is in the file.
    name: String,
    /// None where it is told by position.
    flag: Option<String>,
    kind: Kind,
    arg: Arg,
}

/// All settings, in the order of the help.
fn table() -> Vec<Setting> {
    let command = Args::augment_args(clap::Command::new("serve"));
    let named = |arg: &&Arg| !NO_SETTINGS.contains(&arg.get_id().as_str());
    let setting = |arg: &Arg| {
        let flag = arg.get_long().map(str::to_owned);
        let name = flag.as_ref().map_or(arg.get_id().to_string(), |flag| flag.replace('-', "_"));
        let kind = match arg.get_action() {
            ArgAction::SetTrue => Kind::Switch,
            ArgAction::Append => Kind::Many,
            _ => Kind::One,
        };
        Setting { name, flag, kind, arg: arg.clone() }
    };
    command.get_arguments().filter(named).map(setting).collect()
}

impl Setting {
    /// What the command line would say, or what is wrong and where.
    fn arguments(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<OsString>, At> {
        let wants = match self.kind {
            Kind::Switch => "true or false",
            Kind::One => "one text or number",
            Kind::Many => "a list of texts, such as [\"one\", \"two\"]",
        };
        let wrong = |at: Range<usize>| At(at, format!("`{}` takes {wants}", self.name));
        let many = match (self.kind, value.get_ref()) {
            (Kind::Switch, DeValue::Boolean(on)) => {
                let flag = self.flag.as_ref().filter(|_| *on);
                return Ok(flag.map(|flag| format!("--{flag}").into()).into_iter().collect());
            }
            (Kind::One, _) => std::slice::from_ref(value),
            (Kind::Many, DeValue::Array(values)) => values.as_ref(),
            _ => return Err(wrong(value.span())),
        };
        let one = |value: &Spanned<DeValue<'_>>| {
            let text = scalar(value.get_ref()).ok_or_else(|| wrong(value.span()))?;
            match &self.flag {
                Some(flag) => Ok(format!("--{flag}={text}").into()),
                // On the command line it would be a flag.
                None if text.starts_with('-') => Err(wrong(value.span())),
                None => Ok(text.into()),
            }
        };
        many.iter().map(one).collect()
    }
}

/// A text or a number as its text.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|it| it.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}

/// What is wrong, and where in a file.
struct At(Range<usize>, String);

/// A file of settings.
struct File {
    path: String,
    text: String,
    /// Name, where it stands, and what the command line would say.
    flags: Vec<(String, Range<usize>, Vec<OsString>)>,
    keys: Vec<Key>,
}

impl File {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let path = path.display().to_string();
        let text = super::super::model::read_text(&path, FILE_MAX)?;
        let rows = key::among(&path, &text)?;
        let wrong = |error: &toml::de::Error| key::wrong(&path, &text, error);
        let document = DeTable::parse(&text).map_err(|error| wrong(&error))?;
        let table = table();
        let mut flags = Vec::new();
        for (name, value) in document.get_ref() {
            let span = name.span();
            let name: &str = name.get_ref();
            let found = table.iter().find(|setting| setting.name == name);
            let told = match found {
                None if name == KEYS => continue,
                Some(setting) => setting.arguments(value),
                None => {
                    let all: Vec<&str> = table.iter().map(|it| it.name.as_str()).collect();
                    let all = all.join(", ");
                    let told = format!("there is no setting `{name}`; there are: {all}, [[keys]]");
                    Err(At(span.clone(), told))
                }
            };
            let told = told.map_err(|At(at, told)| {
                Usage(format!("{}: {told}", key::place(&path, &text, at.start)))
            })?;
            flags.push((name.to_owned(), span, told));
        }
        let keys = rows.iter().map(|row| row.key()).collect();
        Ok(Self { flags, keys, path, text })
    }

    /// Tells what clap has against a setting by the place where it stands.
    fn complaint(&self, error: &clap::Error) -> Usage {
        let told = error.to_string();
        let told = told.lines().next().unwrap_or_default();
        let told = told.strip_prefix("error: ").unwrap_or(told);
        let about = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(about)) => about.as_str(),
            _ => "",
        };
        let about = about.split([' ', '=']).next().unwrap_or_default();
        let about = about.trim_start_matches('-').replace('-', "_");
        // By position, where it is told by no flag.
        let about = if told.contains("[NAME=]REF") { "models" } else { about.as_str() };
        let flag = self.flags.iter().find(|flag| flag.0 == about);
        let place = flag.map(|flag| key::place(&self.path, &self.text, flag.1.start));
        Usage(format!("{}: {told}", place.as_deref().unwrap_or(&self.path)))
    }
}

/// Where a setting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    CommandLine,
    Environment,
    File,
    Default,
}

/// What holds.
pub(super) struct Settings {
    pub(super) args: Args,
    /// Those with names, of the file and of the file of keys.
    pub(super) keys: Vec<Key>,
    /// Files to look at for changes.
    pub(super) files: Vec<PathBuf>,
    /// Each setting's values as texts.
    told: BTreeMap<String, (Vec<String>, Source)>,
}

fn serve(argv: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let mut matches = crate::Cli::command().try_get_matches_from(argv)?;
    let none = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
    matches.remove_subcommand().map(|(_, serve)| serve).ok_or_else(none)
}

impl Settings {
    /// Whether there is a file to read again, or a log to open again.
    pub(super) fn are_read_again(&self) -> bool {
        !self.files.is_empty() || self.args.access_log.is_some()
    }

    /// Reads a whole command line, and the files that it names.
    pub(super) fn read(argv: &[OsString]) -> anyhow::Result<Self> {
        let mut matches = serve(argv)?;
        let mut args = Args::from_arg_matches(&matches)?;
        let given = told(&matches, &[]);
        let mut keys = Vec::new();
        let mut in_file: Vec<String> = Vec::new();
        if let Some(path) = args.config.clone() {
            let file = File::read(&path)?;
            let ours = file.flags.iter().filter(|(name, _, _)| {
                given.get(name).is_none_or(|(_, source)| *source == Source::Default)
            });
            let ours: Vec<_> = ours.collect();
            let more = ours.iter().flat_map(|(_, _, flags)| flags.iter().cloned());
            let all = inserted(argv, more);
            matches = serve(&all).map_err(|error| file.complaint(&error))?;
            args = Args::from_arg_matches(&matches).map_err(|error| file.complaint(&error))?;
            args.config = Some(path);
            in_file = ours.iter().map(|(name, _, _)| name.clone()).collect();
            keys = file.keys;
        }
        if let Some(path) = &args.keys_file {
            keys.extend(Ring::read(&path.display().to_string())?.keys.iter().map(|row| row.key()));
        }
        let files = [args.config.clone(), args.keys_file.clone(), args.gateway.policy.clone()];
        let plain = args.api_key_file.as_ref().filter(|path| *path != "-").map(PathBuf::from);
        let files = files.into_iter().chain([plain]).flatten().collect();
        Ok(Self { told: told(&matches, &in_file), args, keys, files })
    }

    /// The names of settings that differ: those that hold at once, and those that want a restart.
    pub(super) fn changed(&self, before: &Self) -> (Vec<String>, Vec<String>) {
        let differs = |name: &&String| {
            let value = |of: &Self| of.told.get(*name).map(|told| told.0.clone());
            value(self) != value(before)
        };
        let mut names: Vec<String> = self.told.keys().filter(differs).cloned().collect();
        if self.keys != before.keys {
            names.push(KEYS.to_owned());
        }
        names.into_iter().partition(|name| name == KEYS || LIVE.contains(&name.as_str()))
    }

    /// Writes what holds as a file of settings, and where each comes from.
    pub(super) fn print(&self, ui: &Ui) -> anyhow::Result<()> {
        for setting in table() {
            let none = (Vec::new(), Source::Default);
            let (values, source) = self.told.get(&setting.name).unwrap_or(&none);
            let from = match source {
                Source::CommandLine => "the command line",
                Source::Environment => "the environment",
                Source::File => "the file",
                Source::Default => "default",
            };
            let name = &setting.name;
            if SECRET.contains(&name.as_str()) || values.is_empty() {
                let count = values.len();
                let what = if count == 0 { "none".to_owned() } else { format!("{count}, hidden") };
                ui.line(format_args!("# {name}: {what} ({from})"))?;
            } else {
                ui.line(format_args!("{name} = {} # {from}", written(setting.kind, values)))?;
            }
        }
        for key in &self.keys {
            let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.name()).collect();
            ui.line(format_args!("# key {}: {}", key.name, scopes.join(", ")))?;
        }
        Ok(())
    }
}

/// A command line with more behind its command's name.
fn inserted(argv: &[OsString], more: impl Iterator<Item = OsString>) -> Vec<OsString> {
    // Flags before it take no values.
    let at = argv.iter().skip(1).position(|word| word == "serve").map_or(argv.len(), |at| at + 2);
    let (before, after) = argv.split_at(at);
    before.iter().cloned().chain(more).chain(after.iter().cloned()).collect()
}

/// The values of all settings, and where they come from; some are known to be in a file.
fn told(matches: &ArgMatches, in_file: &[String]) -> BTreeMap<String, (Vec<String>, Source)> {
    let each = table().into_iter().map(|setting| {
        let id = setting.arg.get_id().as_str();
        let source = match matches.value_source(id) {
            _ if in_file.contains(&setting.name) => Source::File,
            Some(ValueSource::CommandLine) => Source::CommandLine,
            Some(ValueSource::EnvVariable) => Source::Environment,
            _ => Source::Default,
        };
        let values = match setting.kind {
            Kind::Switch => vec![matches.get_flag(id).to_string()],
            _ => {
                let raw = matches.get_raw(id).into_iter().flatten();
                raw.map(|value| value.to_string_lossy().into_owned()).collect()
            }
        };
        (setting.name, (values, source))
    });
    each.collect()
}

/// A setting's values in TOML.
fn written(kind: Kind, values: &[String]) -> String {
    let text = |value: &String| match value.parse::<i64>() {
        Ok(number) if kind == Kind::One => number.to_string(),
        _ => toml::Value::String(value.clone()).to_string(),
    };
    match kind {
        Kind::Switch => values.concat(),
        Kind::One => values.iter().map(text).collect(),
        Kind::Many => format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
