//! Policies that are read, and what is told of those that are not.

use super::super::table::{Candidate, KeyFrom, Kind, Over, Scope, Table};
use crate::budget::Period;
use crate::prices::Tokens;

/// A policy with all that one may say.
const ALL: &str = super::EXAMPLE;

fn read(text: &str) -> Table {
    Table::read("gateway.toml", text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"))
}

#[test]
fn a_policy_says_what_it_says() {
    let table = read(ALL);
    let names: Vec<&str> = table.providers.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["local", "zeta", "alpha"], "in the file's order, this machine first");
    let zeta = table.provider("zeta").expect("it is there");
    assert_eq!(
        (zeta.kind, zeta.key.clone()),
        (Kind::OpenAi, Some(KeyFrom::Env("OPENAI_KEY".into())))
    );
    assert_eq!((zeta.max_concurrent, zeta.retries, zeta.hedge_after_ms), (8, 1, Some(800)));
    let times = (zeta.try_timeout_ms, zeta.idle_timeout_ms, zeta.total_timeout_ms);
    assert_eq!(times, (30_000, 5_000, 90_000));
    let headers = [("accept", "application/json"), ("x-team", "search")];
    assert_eq!(zeta.headers, headers.map(|(name, value)| (name.into(), value.into())));
    assert!(zeta.serves("gpt-5.1-mini") && zeta.serves("gpt-4o") && !zeta.serves("gpt-4o-mini"));
    let alpha = table.provider("alpha").expect("it is there");
    assert_eq!((alpha.retries, alpha.max_concurrent, alpha.prices.as_str()), (2, 64, "groq"));
    assert!(table.models[0].ranked && table.models[1].ranked);
    assert_eq!(table.models[1].candidates[1], Candidate::local(""));
    assert_eq!(table.default_class.as_deref(), Some("internal"));
    let lines = ALL.lines().enumerate().filter(|(_, line)| *line == "[[rules]]");
    let lines: Vec<usize> = lines.map(|(at, _)| at + 1).collect();
    assert_eq!(table.rules.iter().map(|rule| rule.line).collect::<Vec<_>>(), lines);
    assert_eq!(table.headers(), ["x-data-class"]);
    assert!(table.wants_detection());
    let each = &table.budgets[0];
    assert_eq!((each.scope, each.per, each.over), (Scope::Key, Period::Day, Over::Local));
    assert_eq!((each.micros, each.tokens), (Some(1_500_000), Some(100_000)));
    assert_eq!((table.budgets[1].micros, table.budgets[1].over), (Some(250_000_000), Over::Refuse));
    assert_eq!((table.weights.cost, table.weights.latency), (3, 2));
    let limits = &table.limits;
    assert_eq!((limits.max_cost_micros, limits.max_ttft_ms), (Some(500_000), Some(4_000)));
    assert_eq!(limits.max_answer_tokens, Some(2_048));
    // 0.12 $ of electricity and 3,000 $ / (3 × 8,766 h × 25 %) = 0.456 $ an hour.
    assert_eq!(table.local_cost(3_600_000), Some(120_000 + 456_309));
}

#[test]
fn prices_are_the_users_own_or_the_tables() {
    let table = read(ALL);
    let at =
        |provider: &str, model: &str| Candidate { provider: provider.into(), model: model.into() };
    let million = Tokens { input: 1_000_000, output: 1_000_000, ..Tokens::default() };
    let cost = |at: &Candidate, batch| table.cost(at, &million, batch);
    assert_eq!(cost(&at("alpha", "fast"), false), Some((350_000, "own".into())));
    assert_eq!(cost(&at("alpha", "fast"), true), Some((175_000, "own".into())));
    // gpt-4o is 2.50 $ and 10 $.
    let (micros, date) = cost(&at("zeta", "gpt-4o"), false).expect("the table has it");
    assert_eq!((micros, date.as_str()), (12_500_000, crate::prices::book().date));
    assert_eq!(cost(&at("alpha", "no-such-model"), false), None);
    assert_eq!(cost(&at("local", "qwen"), false), None, "what is computed here has no price");
    let cached = Tokens { cached: 1_000_000, ..Tokens::default() };
    assert_eq!(table.cost(&at("alpha", "fast"), &cached, false), Some((50_000, "own".into())));
    let instead = table.instead(&million).expect("it is named");
    let there = table.cost(&at("zeta", "gpt-5.1"), &million, false).expect("the table has it");
    assert_eq!(instead, there.0);
    assert!(table.instead(&cached).is_some_and(|it| it > 50_000));
}

#[test]
fn an_empty_policy_is_that_nothing_leaves() {
    assert_eq!(read(""), Table::default());
    assert_eq!(read("# a comment\n"), Table::default());
}

#[test]
fn this_machine_is_named_once_and_where_the_file_has_it() {
    let table = read(
        "[providers.a]\nkind = \"openai\"\n[providers.local]\nkind = \"local\"\n\
                      max_concurrent = 4",
    );
    let names: Vec<&str> = table.providers.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["a", "local"]);
    assert_eq!(table.providers[1].max_concurrent, 4);
    assert_eq!(table.providers[1].total_timeout_ms, u64::MAX);
}

/// A provider and a class that others name.
const HEAD: &str = "[providers.a]\nkind = \"openai\"\nmodels = [\"m*\"]\n[classes.c]\n";

/// What is wrong, and where, with lines behind `HEAD`'s four.
fn refused(text: &str, place: &str, why: &str) {
    let text = format!("{HEAD}{text}");
    let wrong = Table::read("p.toml", &text).expect_err(&text).to_string();
    assert!(wrong.starts_with(&format!("p.toml:{place}")), "{text}\n{wrong}, not {place}");
    assert!(wrong.contains(why), "{text}\n{wrong}, not {why}");
}

#[test]
fn what_is_unknown_or_no_toml_is_refused_where_it_stands() {
    refused("x = ", "5:5: ", "");
    refused("[weights", "5:9: ", "");
    refused("[wieghts]\ncost = 1", "5:2: `wieghts`: ", "unknown field `wieghts`, expected one of");
    refused(
        "[weights]\ncots = 1",
        "6:1: `weights.cots`: ",
        "unknown field `cots`, expected `cost`",
    );
    refused("[weights]\ncost = \"1\"", "6:8: `weights.cost`: ", "invalid type: string");
    refused("[weights]\ncost = -1", "6:8: `weights.cost`: ", "");
    refused("[weights]\ncost = 1000001", "6:8: `weights.cost`: ", "not from 0 to 1000000");
    refused("[classes.d]\nlocal = true", "6:1: `classes.d.local`: ", "unknown field `local`");
    refused("[classes.c]\n", "5:", "duplicate");
    refused("[providers.b]\nurl = \"https://x\"", "5:", "missing field `kind`");
    refused("[[rules]]\nclass = \"c\"\nkey = \"k\"", "7:7: `rules.1.key`: ", "a list of texts");
}

#[test]
fn providers_are_whole() {
    let check = |text: &str, place: &str, why: &str| {
        refused(&format!("[providers.b]\n{text}"), place, why);
    };
    check("kind = \"opnai\"", "6:8: `providers.b.kind`: ", "none of: openai, anthropic, gemini");
    check("kind = \"compatible\"", "5:", "needs its `url`");
    check("kind = \"local\"", "6:8: `providers.b.kind`: ", "has this name");
    check("kind = \"openai\"\nkey = \"sk-abcdef\"", "7:7: `providers.b.key`: ", "\"env:NAME\"");
    check("kind = \"openai\"\nkey = \"env:\"", "7:7: ", "says where a key is");
    check("kind = \"openai\"\nurl = \"ftp://x\"", "7:7: `providers.b.url`: ", "`https://`");
    check("kind = \"openai\"\nurl = \"https:///x\"", "7:7: ", "names a host");
    check("kind = \"openai\"\nurl = \"https://x y\"", "7:7: ", "names a host");
    check("kind = \"openai\"\nmax_concurrent = 0", "7:18: ", "0 is not from 1 to");
    check("kind = \"openai\"\nretries = 11", "7:11: ", "11 is not from 0 to 10");
    check("kind = \"openai\"\ntry_timeout_ms = 0", "7:18: ", "not from 1 to");
    check("kind = \"openai\"\nhedge_after_ms = 0", "7:18: ", "not from 1 to");
    check(
        "kind = \"openai\"\ntrust = [\"d\"]",
        "7:10: ",
        "no class \"d\" ([classes.NAME]); there are: c",
    );
    check("kind = \"openai\"\nmodels = []", "5:12: `providers.b`: ", "an empty list");
    check("kind = \"openai\"\nmodels = [\" \"]", "7:11: ", "names nobody");
    check("kind = \"openai\"\nheaders = { \"a b\" = \"x\" }", "7:13: ", "no name of a header");
    check("kind = \"openai\"\nheaders = { a = \"x\\r\\ny\" }", "7:17: ", "one line");
    refused("[providers.\"b/c\"]\nkind = \"openai\"", "5:12: ", "a provider's name is");
    refused("[providers.local]\nkind = \"openai\"", "6:8: ", "this machine's own engine");
    refused("[providers.local]\nkind = \"local\"\nurl = \"http://x\"", "7:7: ", "no address");
    // A key that was written down is not repeated.
    let text = "[providers.b]\nkind = \"openai\"\nkey = \"sk-abcdef\"";
    let wrong = Table::read("p", text).expect_err("it is a key").to_string();
    assert!(!wrong.contains("abcdef"), "{wrong}");
}

#[test]
fn names_lead_somewhere() {
    refused("[models.x]\ncandidates = []", "5:", "name one");
    refused(
        "[models.x]\ncandidates = [\"b/m\"]",
        "6:15: ",
        "no provider \"b\"; there are: local, a",
    );
    refused("[models.x]\ncandidates = [\"a/x\"]", "6:15: ", "do not have \"x\" among them");
    refused("[models.x]\ncandidates = [\"a\"]", "6:15: ", "\"provider/model\"");
    refused("[models.x]\ncandidates = [\"a/\"]", "6:15: ", "\"provider/model\"");
    refused("[models.x]\ncandidates = [\"a/m\", \"a/m\"]", "6:22: ", "a/m is there twice");
    refused("[models.x]\ncandidates = [\"a/m\"]\norder = \"best\"", "7:9: ", "listed, ranked");
    refused("[classes.d]\nproviders = [\"b\"]", "6:14: ", "no provider \"b\"");
    refused("[classes.d]\nregions = []", "5:", "an empty list");
    refused("[compare]\nmodel = \"b/m\"", "6:9: `compare.model`: ", "no provider");
    refused("[prices.\"b/m\"]\ninput_per_million = 1", "5:9: ", "no provider");
    let text = "default_class = \"d\"\n";
    let wrong = Table::read("p", text).expect_err("no such class").to_string();
    assert!(wrong.starts_with("p:1:17: `default_class`: ") && wrong.contains("there are: none"));
}

#[test]
fn rules_and_budgets_say_something() {
    refused("[[rules]]\nclass = \"d\"\nkey = [\"k\"]", "6:9: `rules.1.class`: ", "no class \"d\"");
    refused("[[rules]]\nclass = \"c\"", "5:", "`default_class`");
    refused("[[rules]]\nclass = \"c\"\nkey = []", "6:9: ", "an empty list");
    refused("[[rules]]\nclass = \"c\"\nkey = [\"k\"]\nat_least = 2", "8:12: ", "name kinds");
    refused("[[rules]]\nclass = \"c\"\ndetected = [\"ibam\"]", "5:1: ", "under the name");
    refused(
        "[[rules]]\nclass = \"c\"\ndetected = [\"iban\"]\nat_least = 0",
        "8:12: ",
        "not from 1",
    );
    let budget = |text: &str, place: &str, why: &str| {
        refused(&format!("[budgets.x]\n{text}"), place, why);
    };
    budget("scope = \"all\"\nper = \"day\"", "5:", "`usd` or `tokens`");
    budget("scope = \"user\"\nper = \"day\"\nusd = 1", "6:9: ", "key, team, model, all");
    budget("scope = \"all\"\nper = \"week\"\nusd = 1", "7:7: ", "day, month, forever");
    budget("scope = \"all\"\nper = \"day\"\nusd = \"1.0000001\"", "8:7: ", "finer than 6");
    budget("scope = \"all\"\nper = \"day\"\nusd = -1", "8:7: ", "no decimal number");
    budget("scope = \"all\"\nper = \"day\"\nusd = nan", "8:7: ", "no decimal number");
    budget("scope = \"all\"\nper = \"day\"\nusd = 0.12345678901234567", "8:7: ", "in quotes");
    budget("scope = \"all\"\nper = \"day\"\nusd = true", "8:7: ", "a decimal number");
    budget(
        "scope = \"all\"\nper = \"day\"\nusd = 1\nof = [\"a\"]",
        "6:9: ",
        "nobody in particular",
    );
    budget("scope = \"key\"\nper = \"day\"\nusd = 1\nover = \"stop\"", "9:8: ", "local, refuse");
    budget("scope = \"key\"\nper = \"day\"\nusd = 1\nlocal = true", "8:7: ", "of `tokens`");
    let local = "scope = \"key\"\nper = \"day\"\ntokens = 1\nlocal = true\nover = \"local\"";
    budget(local, "10:8: ", "nothing here can stand in");
    refused(
        "[budgets.\"a:b\"]\nscope = \"all\"\nper = \"day\"\nusd = 1",
        "5:10: ",
        "a budget's name",
    );
    refused("[local]\nwatts = 5", "6:9: ", "both of them");
    refused("[local]\nyears = 5", "6:9: ", "`hardware_usd` and `years`");
    refused("[local]\nbusy_percent = 5", "6:16: ", "`busy_percent`");
    refused("[prices.\"a/m\"]\noutput_per_million = 1", "5:", "missing field `input_per_million`");
    refused("[limits]\nmax_answer_tokens = 0", "6:21: ", "not from 1");
}

#[test]
fn what_is_hostile_is_refused_and_no_more() {
    let long = "#".repeat(super::POLICY_MAX + 1);
    let wrong = Table::read("p", &long).expect_err("it is too long").to_string();
    assert!(wrong.contains("at most 1048576 bytes"), "{wrong}");
    for text in ["\u{feff}", "\0", "[[[[", "a.a.a = 1", "[a]\n[a.b]\n[a]", "\"", "x = 1\n\u{1F600}"]
    {
        if let Ok(table) = Table::read("p", text) {
            assert_eq!(table, Table::default());
        }
    }
    let deep = format!("x = {}", "[".repeat(10_000));
    Table::read("p", &deep).expect_err("no such key");
    // Each beginning of a good policy is read or refused.
    for end in (0..ALL.len()).filter(|end| ALL.is_char_boundary(*end)) {
        let _ = Table::read("p", &ALL[..end]);
    }
}

#[test]
fn what_headers_say_is_shown_to_nobody() {
    let table = read(
        "[providers.far]\nkind = \"compatible\"\nurl = \"http://127.0.0.1:8000/v1\"\n\
         headers = { X-Token = \"of-theirs\" }\n",
    );
    assert_eq!(table.provider("far").map(|it| it.headers[0].1.as_str()), Some("of-theirs"));
    let shown = format!("{table:?}");
    assert!(shown.contains("x-token") && !shown.contains("of-theirs"), "{shown}");
}
