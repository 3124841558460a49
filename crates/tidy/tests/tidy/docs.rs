//! The documents and the program say the same: commands that a reader is told to type are those
//! that CI runs, links lead somewhere, and a rule that names a test has one.

use std::collections::BTreeSet;

use ingle_tidy::{File, root, tokens};

/// The lines of a document's fenced blocks of shell.
fn shell_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside {
            lines.push(line.trim());
        }
    }
    lines
}

fn find<'a>(files: &'a [File], path: &str) -> &'a str {
    files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str())
}

fn untested_commands(files: &[File]) -> Vec<String> {
    let ci = find(files, ".ci/run");
    let commands = shell_lines(find(files, "README.md")).into_iter();
    let ours: Vec<&str> = commands.filter(|line| line.starts_with("cargo ")).collect();
    let untested = ours.iter().filter(|command| !ci.contains(*command));
    let mut complaints: Vec<String> =
        untested.map(|command| format!(".ci/run lacks `{command}`")).collect();
    for purpose in ["cargo run", "cargo test"] {
        if !ours.iter().any(|command| command.starts_with(purpose)) {
            complaints.push(format!("README.md tells no `{purpose}`"));
        }
    }
    complaints
}

/// The targets of `[text](target)` outside code.
fn links(text: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let prose = line.split('`').step_by(2).filter(|_| !fenced);
        for part in prose {
            let starts = part.split("](").skip(1);
            targets.extend(starts.filter_map(|rest| rest.split(')').next()));
        }
    }
    targets
}

fn dead_links(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md") && !file.is_fixture()) {
        for link in links(&file.text) {
            let target = link.split('#').next().unwrap_or_default();
            let away = link.contains("://") || link.starts_with("mailto:");
            let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            if !(away || target.is_empty() || root().join(folder).join(target).exists()) {
                complaints.push(format!("{}: no such file: {target}", file.path));
            }
        }
    }
    complaints
}

/// The tests of this crate that hold a rule; the others plant a breach and are called so.
fn rules(files: &[File]) -> BTreeSet<String> {
    let tests = files.iter().filter(|file| file.path.starts_with("crates/tidy/tests/"));
    let mut rules = BTreeSet::new();
    for atoms in tests.flat_map(|file| tokens(&file.text)) {
        let texts: Vec<&str> = atoms.iter().map(|atom| atom.text.as_str()).collect();
        let marked = texts.windows(6).filter(|run| run.starts_with(&["#", "[", "test", "]", "fn"]));
        rules.extend(marked.map(|run| run[5].to_owned()));
    }
    rules.retain(|name| !name.ends_with("_found") && !name.ends_with("_read"));
    rules
}

/// Where STYLE.md and the tests differ about what the rules are; it names them `tidy::name`.
fn wishes(files: &[File]) -> Vec<String> {
    let rules = rules(files);
    let code = find(files, "STYLE.md").split('`');
    let named: BTreeSet<&str> = code.filter_map(|code| code.strip_prefix("tidy::")).collect();
    let wishes = named.iter().filter(|name| !rules.contains(**name));
    let unsaid = rules.iter().filter(|name| !named.contains(name.as_str()));
    let wishes = wishes.map(|name| format!("STYLE.md: no test `{name}`"));
    wishes.chain(unsaid.map(|name| format!("STYLE.md lacks `tidy::{name}`"))).collect()
}

#[test]
fn readme_commands_are_what_ci_runs() {
    super::hold("a command of README.md that CI does not run", untested_commands);
}

#[test]
fn links_lead_somewhere() {
    super::hold("a link to a file that is not there", dead_links);
}

#[test]
fn rules_have_tests() {
    super::hold("a rule that is not a test is a wish", wishes);
}

#[test]
fn breaches_are_found() {
    let readme = File::new("README.md", "```sh\ncargo run -- a\ncargo test\n```\ncargo bench\n");
    let with = |ci: &str| untested_commands(&[readme.clone(), File::new(".ci/run", ci)]).len();
    assert_eq!(with("cargo run -- a\ncargo test\n"), 0);
    assert_eq!(with("cargo run -- b\ncargo test\n"), 1);
    super::expect(untested_commands, ".ci/run", "cargo test\n", 2);

    super::expect(dead_links, "docs/A.md", "[a](../Cargo.toml) [b](../NONE.md#c)\n", 1);
    super::expect(dead_links, "A.md", "[a](#b) [c](https://example.org/d) `[e](f)`\n", 0);

    super::expect(wishes, "STYLE.md", "`tidy::no_such_rule` `cargo test`\n", 1);
    let test = "#[test]\nfn a_rule() {}\n#[test]\nfn a_breach_is_found() {}\nfn help() {}\n";
    super::expect(wishes, "crates/tidy/tests/tidy/a.rs", test, 1);
}
