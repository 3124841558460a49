//! Decisions: a policy, a request and facts, and who is tried or why nobody is.

use std::collections::BTreeMap;

use ingle_protocol::Origin;
use proptest::prelude::*;

use super::{Candidate, Table, accounts, candidates, decide};
use crate::budget::{Amount, Standing};
use crate::policy::{Ask, Check, Choice, Decision, Fact, Facts, Found, Health, Needs};

/// Two providers elsewhere and this machine; dear costs 10 and 20 µ$ a token, cheap a tenth.
const HEAD: &str = r#"
default_class = "public"
[providers.dear]
kind = "openai"
region = "us-east"
trust = ["public", "internal"]
[providers.cheap]
kind = "compatible"
url = "https://cheap.example"
region = "eu-west-1"
max_concurrent = 4
trust = ["public", "pii"]
[models.auto]
candidates = ["dear/big", "cheap/mid", "local/small"]
[models.chain]
candidates = ["dear/big", "cheap/mid", "local/small"]
[models.far]
candidates = ["dear/big", "cheap/mid"]
[classes.public]
[classes.internal]
providers = ["dear"]
[classes.secret]
local_only = true
[classes.pii]
redact = true
[classes.european]
regions = ["eu"]
providers = ["dear", "cheap"]
[classes.never]
block = true
[prices."dear/big"]
input_per_million = 10
output_per_million = 20
[prices."cheap/mid"]
input_per_million = 1
output_per_million = 2
[local]
stand_in = "small"
"#;

fn table(more: &str) -> Table {
    let text = format!("{HEAD}{more}");
    Table::read("p.toml", &text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"))
}

fn at(text: &str) -> Candidate {
    let (provider, model) = text.split_once('/').expect("provider/model");
    Candidate { provider: provider.into(), model: model.into() }
}

/// A request, and the world that it meets.
struct Case {
    origin: Origin,
    model: &'static str,
    needs: Needs,
    found: Found,
    facts: Facts,
}

impl Case {
    /// 100 tokens of a prompt, 50 of an answer; all are well.
    fn new(model: &'static str) -> Self {
        let fact = |ttft_ms, token_us| Fact {
            context_tokens: Some(8_000),
            ttft_ms: Some(ttft_ms),
            token_us: Some(token_us),
            ..Fact::default()
        };
        let candidates = BTreeMap::from([
            (at("dear/big"), fact(200, 10_000)),
            (at("cheap/mid"), fact(400, 20_000)),
            (at("local/small"), fact(50, 100_000)),
        ]);
        let needs = Needs {
            prompt_tokens: 100,
            prompt_most: 400,
            max_tokens: Some(50),
            ..Needs::default()
        };
        let facts = Facts { now_ms: 1_000, candidates, ..Facts::default() };
        let found = Found::Kinds(Vec::new());
        Self { origin: Origin::default(), model, needs, found, facts }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn fact(self, of: &str, change: impl FnOnce(&mut Fact)) -> Self {
        self.with(|case| change(case.facts.candidates.entry(at(of)).or_default()))
    }

    fn ask(&self) -> Ask<'_> {
        Ask {
            origin: &self.origin,
            model: self.model,
            needs: self.needs.clone(),
            found: self.found.clone(),
        }
    }

    fn decide(&self, table: &Table) -> Decision {
        let decision = decide(table, &self.ask(), &self.facts);
        assert_eq!(decision, decide(table, &self.ask(), &self.facts), "the same each time");
        assert_whole(&decision);
        decision
    }
}

/// Everybody was asked in order, up to the first "no", and has a step with a reason.
fn assert_whole(decision: &Decision) {
    let choices: &[Choice] = decision.outcome.as_deref().unwrap_or_default();
    let tried: Vec<&Candidate> = choices.iter().map(|it| &it.candidate).collect();
    let passed = decision.considered.iter().filter(|it| it.passed()).map(|it| &it.candidate);
    assert_eq!(tried, passed.collect::<Vec<_>>());
    assert_eq!(decision.steps.len(), decision.considered.len());
    for (it, step) in decision.considered.iter().zip(&decision.steps) {
        let asked: Vec<Check> = it.verdicts.iter().map(|verdict| verdict.check).collect();
        assert_eq!(asked, Check::ALL[..asked.len()], "{it:?}");
        let (last, before) = it.verdicts.split_last().expect("something was asked");
        assert!(before.iter().all(|verdict| verdict.passed), "{it:?}");
        assert_eq!(last.passed, it.passed(), "{it:?}");
        assert!(it.verdicts.iter().all(|verdict| !verdict.reason.is_empty()), "{it:?}");
        assert!(!step.reason.is_empty() && step.candidate == it.candidate.to_string());
        assert_eq!(step.taken, tried.first() == Some(&&it.candidate));
    }
    let no = |line: &&str| line.starts_with("  ") && line.get(20..23) == Some("no ");
    let failed = decision.considered.iter().filter(|it| !it.passed()).count();
    assert_eq!(decision.explain().lines().filter(no).count(), failed);
}

/// Who is tried, in order: `dear/big cheap/mid`; or why nobody is: `privacy: a part of it`.
fn check(table: &Table, case: &Case, expect: &str) -> Decision {
    let decision = case.decide(table);
    let got = match &decision.outcome {
        Ok(choices) => {
            choices.iter().map(|it| it.candidate.to_string()).collect::<Vec<_>>().join(" ")
        }
        Err(refused) => format!("{}: {}", refused.check.name(), refused.message),
    };
    let same = match expect.split_once(": ") {
        Some((check, why)) => got.starts_with(&format!("{check}: ")) && got.contains(why),
        None => got == expect,
    };
    assert!(same, "{got}, not {expect}\n{}", decision.explain());
    decision
}

/// What it says of one candidate.
fn reason(decision: &Decision, of: &str) -> String {
    let step = decision.steps.iter().find(|step| step.candidate == of);
    step.map(|step| step.reason.clone()).unwrap_or_default()
}

fn found(kinds: &[(&str, u32)]) -> Found {
    Found::Kinds(kinds.iter().map(|(kind, count)| ((*kind).into(), *count)).collect())
}

#[test]
fn a_name_is_an_alias_a_candidate_or_a_model_of_this_machine() {
    let table =
        table("[providers.lists]\nkind = \"mistral\"\nmodels = [\"both\"]\ntrust = [\"public\"]");
    let check = |model, expect: &[&str]| {
        let got: Vec<String> = candidates(&table, model).iter().map(|it| it.to_string()).collect();
        assert_eq!(got, expect, "{model}");
    };
    check("far", &["dear/big", "cheap/mid", "local/small"]);
    check("chain", &["dear/big", "cheap/mid", "local/small"]);
    check("dear/any", &["dear/any", "local/small"]);
    check("local/x", &["local/x", "local/small"]);
    check("both", &["local/both", "lists/both", "local/small"]);
    check("Qwen/Qwen3", &["local/Qwen/Qwen3", "local/small"]);
    check("", &["local/", "local/small"]);
    let long: &'static str = Box::leak(format!("dear/{}", "x".repeat(1_000)).into_boxed_str());
    check(long, &[&format!("local/dear/{}…", "x".repeat(27)), "local/small"]);
    check("dear/a\nb", &["local/dear/a\u{fffd}b…", "local/small"]);
    let decision = Case::new(long).decide(&table);
    assert!(decision.steps.iter().all(|step| step.candidate.len() < 64));
    assert!(decision.outcome.expect_err("nobody has it").message.len() < 512);
    let none = Table::default();
    let all: Vec<String> = candidates(&none, "auto").iter().map(|it| it.to_string()).collect();
    assert_eq!(all, ["local/"], "without a policy `auto` is this machine's default model");
}

#[test]
fn a_key_with_a_list_uses_what_is_on_it() {
    let budget = "[budgets.b]\nscope = \"all\"\nper = \"day\"\nusd = 1\nover = \"local\"";
    let table = table(budget);
    let check = |model, list: &[&str], over: bool, expect: &str| {
        let case = Case::new(model).with(|case| {
            case.origin.key = "k".into();
            case.origin.models = Some(list.iter().map(|it| (*it).to_owned()).collect());
        });
        let case = if over { spent(case, &table, "b", 1_000_000, 0) } else { case };
        check(&table, &case, expect)
    };
    // A name stands for all of its candidates, or for those that are listed.
    check("chain", &["chain"], false, "dear/big cheap/mid local/small");
    check("chain", &["chain", "cheap/mid"], false, "cheap/mid");
    check("chain", &["chain", "small", "dear/big"], false, "dear/big local/small");
    check("auto", &["auto", "local/small"], false, "local/small");
    // Whoever is named is on the list, be it by another's name.
    check("dear/big", &["other"], false, "dear/big");
    check("local/small", &["other"], false, "local/small");
    // Who stands in has to be.
    check("far", &["far"], true, "budget: over budget `b`");
    check("far", &["far", "small"], true, "local/small");
    let decision = check("far", &["far"], true, "budget: over budget `b`");
    assert_eq!(reason(&decision, "local/small"), "privacy: the key `k` may not use it");
    let none = Case::new("chain").with(|case| case.origin.models = Some([].into()));
    self::check(&table, &none, "dear/big cheap/mid local/small");
}

#[test]
fn without_a_policy_nothing_leaves() {
    let case = Case::new("dear/big");
    check(&Table::default(), &case, "capability: there is no such model on this machine");
    let case = Case::new("local/small");
    check(&Table::default(), &case, "local/small");
    // A provider alone, without a word of what may go there, gets nothing.
    let only = "[providers.dear]\nkind = \"openai\"\n";
    let check = |more: &str, model, expect: &str| {
        let table = Table::read("p", &format!("{more}{only}")).expect("it is whole");
        let decision = check(&table, &Case::new(model), expect);
        assert!(decision.outcome.is_err() || !expect.contains("privacy"));
    };
    check("", "dear/big", "privacy: no rule gives it a class, and there is no `default_class`");
    let class = "default_class = \"a\"\n[classes.a]\n";
    check(class, "dear/big", "privacy: neither the `providers` of the one nor the `trust`");
}

#[test]
fn each_privacy_rule_holds() {
    let plain = table("");
    let check = |table: &Table, classes: &[&str], expect: &str| {
        let classes = classes.iter().map(|it| (*it).to_owned()).collect();
        let case = Case::new("chain").with(|case| case.origin.classes = classes);
        check(table, &case, expect)
    };
    check(&plain, &[], "dear/big cheap/mid local/small");
    check(&plain, &["public"], "dear/big cheap/mid local/small");
    check(&plain, &["internal"], "dear/big local/small");
    check(&plain, &["secret"], "local/small");
    check(&plain, &["pii"], "cheap/mid local/small");
    check(&plain, &["never"], "privacy: class `never` is blocked");
    check(&plain, &["unheard-of"], "local/small");
    // dear is trusted with public and internal alone, and stands elsewhere.
    check(&plain, &["european"], "local/small");
    // The strictest wins: what one class forbids, no other allows.
    check(&plain, &["public", "internal"], "dear/big local/small");
    check(&plain, &["public", "pii"], "cheap/mid local/small");
    check(&plain, &["internal", "pii"], "local/small");
    check(&plain, &["public", "secret"], "local/small");
    check(&plain, &["public", "unheard-of"], "local/small");
    check(&plain, &["public", "never"], "privacy: blocked");
    let decision = check(&plain, &["public", "secret"], "local/small");
    assert_eq!(decision.classes, ["public", "secret"]);
    assert_eq!(reason(&decision, "dear/big"), "privacy: class `secret` stays on this machine");
    let decision = check(&plain, &["unheard-of"], "local/small");
    assert!(reason(&decision, "dear/big").contains("has no class `unheard-of`"));
}

#[test]
fn regions_hold() {
    let check = |region: &str, regions: &str, allowed: bool| {
        let text = format!(
            "default_class = \"c\"\n[classes.c]\nproviders = [\"p\"]\nregions = {regions}\n\
             [providers.p]\nkind = \"openai\"\n{region}"
        );
        let table = Table::read("p", &text).expect("it is whole");
        let decision = Case::new("p/m").decide(&table);
        assert_eq!(decision.outcome.is_ok(), allowed, "{text}\n{}", decision.explain());
    };
    check("region = \"eu\"", "[\"eu\"]", true);
    check("region = \"eu-west-1\"", "[\"eu\"]", true);
    check("region = \"eu/west\"", "[\"us\", \"eu\"]", true);
    check("region = \"europe\"", "[\"eu\"]", false);
    check("region = \"us-east\"", "[\"eu\"]", false);
    check("", "[\"eu\"]", false);
}

#[test]
fn rules_give_classes() {
    let rule = |conditions: &str| table(&format!("[[rules]]\nclass = \"secret\"\n{conditions}"));
    let stays = |conditions: &str, change: fn(&mut Case), expect: bool| {
        let case = Case::new("chain").with(change);
        let all = "dear/big cheap/mid local/small";
        check(&rule(conditions), &case, if expect { "local/small" } else { all });
    };
    stays("key = [\"k\"]", |case| case.origin.key = "k".into(), true);
    stays("key = [\"k\"]", |case| case.origin.key = "kk".into(), false);
    stays("key = [\"k*\"]", |case| case.origin.key = "kk".into(), true);
    stays("key = [\"k\"]", |_| {}, false);
    stays("team = [\"a\", \"b\"]", |case| case.origin.team = "b".into(), true);
    stays("path = [\"/v1/embed*\"]", |case| case.origin.path = "/v1/embeddings".into(), true);
    stays("workspace = [\"w\"]", |case| case.origin.workspaces = vec!["w".into()], true);
    let two: fn(&mut Case) = |case| case.origin.workspaces = vec!["x".into(), "w".into()];
    stays("workspace = [\"w\"]", two, true);
    stays("workspace = [\"v\", \"y*\"]", two, false);
    // Of what nobody knows where it comes from, no rule can say what it is.
    stays("workspace = [\"w\"]", |case| case.origin.unknown = true, true);
    let both = "key = [\"k\"]\nteam = [\"t\"]";
    stays(both, |case| case.origin.key = "k".into(), false);
    let set: fn(&mut Case) = |case| {
        case.origin.key = "k".into();
        case.origin.team = "t".into();
    };
    stays(both, set, true);
    let header = "header = { X-Data = [\"secret\", \"top*\"] }";
    let say = |value: &'static str| {
        let case = Case::new("chain")
            .with(|case| case.origin.headers = vec![("x-data".into(), value.into())]);
        case.decide(&rule(header)).outcome.expect("somebody answers").len() == 1
    };
    let two: fn(&mut Case) = |case| {
        let header = |value: &str| ("x-data".to_owned(), value.to_owned());
        case.origin.headers = vec![header("x"), header("secret")];
    };
    stays(header, two, true);
    assert!(say("secret") && say(" Secret ") && say("TOP-level") && !say("secrets") && !say(""));
    stays(header, |_| {}, false);
    // A rule gives a class in the place of the usual one.
    let lifted = table("[[rules]]\nclass = \"internal\"\nkey = [\"k\"]");
    let case = Case::new("chain").with(|case| case.origin.key = "k".into());
    assert_eq!(check(&lifted, &case, "dear/big local/small").classes, ["internal"]);
}

/// What a request builds on keeps the classes that it has by itself, whoever asks for more.
#[test]
fn classes_of_what_came_before_hold_too() {
    let table = table(
        "[[rules]]\nclass = \"secret\"\nworkspace = [\"vault\"]\n\
         [[rules]]\nclass = \"internal\"\nkey = [\"k\"]",
    );
    let check = |key: &str, before: &[Origin], expect: &str, classes: &[&str]| {
        let case = Case::new("chain").with(|case| {
            case.origin.key = key.into();
            case.origin.before = before.to_vec();
        });
        assert_eq!(check(&table, &case, expect).classes, classes, "{key} {before:?}");
    };
    let vault = Origin { workspaces: vec!["vault".into()], ..Origin::default() };
    let secret = Origin { classes: vec!["secret".into()], ..Origin::default() };
    let unknown = Origin { unknown: true, ..Origin::default() };
    let plain = Origin::default();
    check("", &[], "dear/big cheap/mid local/small", &["public"]);
    check("", std::slice::from_ref(&plain), "dear/big cheap/mid local/small", &["public"]);
    check("", std::slice::from_ref(&vault), "local/small", &["public", "secret"]);
    check("", &[plain.clone(), secret], "local/small", &["public", "secret"]);
    check("", &[unknown], "local/small", &["public"]);
    // A class of this request does not stand for what was usual before.
    check("k", &[], "dear/big local/small", &["internal"]);
    check("k", &[plain], "dear/big local/small", &["internal", "public"]);
    check("k", &[vault], "local/small", &["internal", "secret"]);
}

#[test]
fn what_is_found_makes_stricter_and_never_looser() {
    let text = "[[rules]]\nclass = \"secret\"\ndetected = [\"iban\", \"car*\"]\nat_least = 2";
    let rule = table(text);
    let all = "dear/big cheap/mid local/small";
    let stays = |found: Found, expect: &str| {
        check(&rule, &Case::new("chain").with(|case| case.found = found), expect)
    };
    stays(found(&[]), all);
    stays(found(&[("iban", 1)]), all);
    stays(found(&[("iban", 2)]), "local/small");
    stays(found(&[("card", 1), ("iban", 1)]), "local/small");
    stays(found(&[("card", u32::MAX), ("iban", u32::MAX)]), "local/small");
    stays(found(&[("email", 9)]), all);
    // A group is all of its kinds.
    let group = table("[[rules]]\nclass = \"secret\"\ndetected = [\"secret\"]");
    let case = Case::new("chain").with(|case| case.found = found(&[("openai_key", 1)]));
    check(&group, &case, "local/small");
    let decision = stays(Found::Failed("out of memory".into()), "local/small");
    assert!(reason(&decision, "dear/big").contains("the detector failed: out of memory"));
    stays(Found::NotLooked, "local/small");
    // Where no rule asks, nobody need look.
    let case = |found| Case::new("chain").with(|case: &mut Case| case.found = found);
    check(&table(""), &case(Found::NotLooked), all);
    check(&table(""), &case(Found::Failed("x".into())), all);
    // What nobody knows of may be what is blocked, on this machine too.
    let never = table("[[rules]]\nclass = \"never\"\ndetected = [\"iban\"]\nat_least = 9");
    check(&never, &case(Found::Failed("x".into())), "privacy: blocked");
    check(&never, &case(found(&[("iban", 8)])), all);
    // Where what is found is to be replaced, somebody has to look.
    let pii = |found| case(found).with(|case| case.origin.classes = vec!["pii".into()]);
    check(&table(""), &pii(Found::NotLooked), "local/small");
    check(&table(""), &pii(Found::Failed("x".into())), "local/small");
    // A class by what was found does not take the usual one away.
    let text = "[[rules]]\nclass = \"pii\"\ndetected = [\"email\"]";
    let mail = case(found(&[("email", 1)]));
    let decision = check(&table(text), &mail, "cheap/mid local/small");
    assert_eq!(decision.classes, ["pii", "public"]);
    assert_eq!(decision.found, [("email".into(), 1)]);
    let text = HEAD.replace("default_class = \"public\"\n", "") + text;
    let none = Table::read("p", &text).expect("it is whole");
    check(&none, &mail, "local/small");
}

#[test]
fn what_leaves_is_redacted_where_its_class_says_so() {
    let case = Case::new("chain").with(|case| case.origin.classes = vec!["pii".into()]);
    let choices = case.decide(&table("")).outcome.expect("somebody answers");
    let told: Vec<_> = choices.iter().map(|it| (it.leaves, it.redact)).collect();
    assert_eq!(told, [(true, true), (false, false)]);
    let choices = Case::new("chain").decide(&table("")).outcome.expect("somebody answers");
    assert!(choices.iter().all(|it| !it.redact));
}

#[test]
fn who_cannot_answer_is_not_asked() {
    let cannot = |change: fn(&mut Needs), fact: fn(&mut Fact), expect: &str| {
        let case = Case::new("far").with(|case| change(&mut case.needs)).fact("dear/big", fact);
        check(&table(""), &case, expect)
    };
    let both = "dear/big cheap/mid";
    type Row = (fn(&mut Needs), fn(&mut Fact), &'static str);
    let cases: [Row; 5] = [
        (|it| it.tools = true, |it| it.tools = Some(false), "tools"),
        (|it| it.vision = true, |it| it.vision = Some(false), "pictures"),
        (|it| it.schema = true, |it| it.schema = Some(false), "a JSON schema"),
        (|it| it.grammar = true, |it| it.grammar = Some(false), "a grammar"),
        (|it| it.logprobs = true, |it| it.logprobs = Some(false), "log-probabilities"),
    ];
    for (need, unable, what) in cases {
        let decision = cannot(need, unable, "cheap/mid");
        assert!(reason(&decision, "dear/big").contains(what), "{what}");
        cannot(|_| {}, unable, both);
        // What is not known keeps nobody from being asked, and is said.
        let decision = cannot(need, |_| {}, both);
        assert!(reason(&decision, "dear/big").contains("not known: "), "{what}");
    }
    let decision = cannot(|it| it.prompt_tokens = 8_000, |it| it.context_tokens = None, "dear/big");
    assert!(reason(&decision, "cheap/mid").contains("about 8000 tokens is more than its 7999"));
    assert!(reason(&decision, "dear/big").contains("not known: its context"));
    cannot(|it| it.prompt_tokens = 7_999, |_| {}, both);
    cannot(|it| it.prompt_tokens = 9_000, |_| {}, "capability: a prompt of about 9000 tokens");
    check(&table(""), &Case::new("dear/"), "capability: names no model");
    check(&table(""), &Case::new("local/other"), "capability: no such model on this machine");
}

#[test]
fn an_answer_that_leaves_is_bounded() {
    let most = |table: &Table, asked, fact: fn(&mut Fact)| {
        let case = Case::new("dear/big").with(|case| case.needs.max_tokens = asked);
        let decision = case.fact("dear/big", fact).decide(table);
        decision.outcome.expect("it answers")[0].max_tokens
    };
    let plain = table("");
    assert_eq!(most(&plain, Some(50), |_| {}), Some(50));
    assert_eq!(most(&plain, Some(50), |it| it.max_output_tokens = Some(20)), Some(20));
    assert_eq!(most(&plain, None, |it| it.max_output_tokens = Some(600)), Some(600));
    assert_eq!(most(&plain, None, |_| {}), Some(4_096));
    assert_eq!(most(&plain, Some(9_000), |_| {}), Some(7_900), "what its context leaves");
    let bounded = table("[limits]\nmax_answer_tokens = 300");
    assert_eq!(most(&bounded, None, |it| it.max_output_tokens = Some(600)), Some(300));
    assert_eq!(most(&bounded, Some(500), |_| {}), Some(500), "the request says so");
    // What is read generates nothing; what stays here needs no bound, unless it is counted.
    let reads = Case::new("chain").with(|case| case.needs.reads = true).decide(&plain);
    assert!(reads.outcome.expect("it answers").iter().all(|it| it.max_tokens.is_none()));
    let here = Case::new("local/small").decide(&plain).outcome.expect("it answers");
    assert_eq!((here[0].max_tokens, here[0].claims.len()), (None, 0));
    let counted = table("[budgets.t]\nscope = \"all\"\nper = \"day\"\ntokens = 450\nlocal = true");
    let here = Case::new("local/small").decide(&counted).outcome.expect("it answers");
    assert_eq!((here[0].max_tokens, here[0].amount), (Some(50), Amount { micros: 0, tokens: 450 }));
}

/// A budget that has so much spent.
fn spent(case: Case, table: &Table, name: &str, micros: u64, tokens: u64) -> Case {
    let all = accounts(table, &case.ask(), case.facts.now_ms);
    let account = all.into_iter().find(|it| it.name == name).expect("a budget of that name");
    let amount = Amount { micros, tokens };
    let standing = Standing { spent: amount, ..Standing::default() };
    case.with(|case| {
        case.facts.accounts.insert(account, standing);
    })
}

#[test]
fn the_worst_case_is_reserved() {
    let table = table(
        "[budgets.k]\nscope = \"key\"\nper = \"day\"\nusd = 1\n\
         [budgets.m]\nscope = \"model\"\nper = \"month\"\ntokens = 5000\n\
         [budgets.others]\nscope = \"team\"\nof = [\"b*\"]\nper = \"day\"\nusd = 0",
    );
    let case = Case::new("chain").with(|case| {
        case.origin.key = "me".into();
        case.needs.answers = 2;
    });
    let choices = case.decide(&table).outcome.expect("somebody answers");
    // 400 tokens of a prompt at most and 2 × 50 of answers: 10 × 400 + 20 × 100 µ$.
    assert_eq!(choices[0].amount, Amount { micros: 6_000, tokens: 500 });
    assert_eq!(choices[1].amount, Amount { micros: 600, tokens: 500 });
    // Each of three tries may be charged; here there is one.
    assert_eq!(choices[0].hold(), Amount { micros: 18_000, tokens: 1_500 });
    assert_eq!((choices[0].tries, choices[2].tries), (3, 1));
    let names = |at: usize| -> Vec<&str> {
        choices[at].claims.iter().map(|it| it.account.name.as_str()).collect()
    };
    assert_eq!(names(0), ["k:me", "m:dear/big"]);
    assert_eq!(names(1), ["k:me", "m:cheap/mid"]);
    assert_eq!(names(2), [""; 0], "nothing is bought here");
    assert_eq!(choices[0].claims[0].limit.micros, Some(1_000_000));
    // As expected: 100 × 10 + 2 × 50 × 20 µ$, and 200 ms + 50 × 10 ms.
    assert_eq!((choices[0].expected_micros, choices[0].expected_ms), (Some(3_000), Some(700)));
    let all = accounts(&table, &case.ask(), 1_000);
    let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["k:me", "m:cheap/mid", "m:dear/big"]);
    // 5,000 µ$ is the worst case of one try, of which there may be three.
    let at_most = |spent_micros, expect: &str| {
        let case = Case::new("dear/big").with(|case| case.origin.key = "me".into());
        check(&table, &spent(case, &table, "k:me", spent_micros, 0), expect);
    };
    at_most(985_000, "dear/big");
    at_most(995_000, "dear/big");
    at_most(995_001, "budget: over budget `k:me`: $0.995001 of $1.00 are spent or held");
    // It is tried as often as there is room for.
    let tries = |spent_micros, expect: u32, why: &str| {
        let case = Case::new("dear/big").with(|case| case.origin.key = "me".into());
        let decision = spent(case, &table, "k:me", spent_micros, 0).decide(&table);
        assert!(reason(&decision, "dear/big").contains(why), "{}", decision.explain());
        let choice = &decision.outcome.expect("it answers")[0];
        assert_eq!((choice.tries, choice.hold().micros), (expect, 5_000 * u64::from(expect)));
    };
    tries(985_000, 3, "up to $0.015 and 1350 tokens, in 3 tries, are within");
    tries(985_001, 2, "up to $0.01 and 900 tokens, in 2 of 3 tries, are within");
    tries(995_000, 1, "up to $0.005 and 450 tokens, in 1 of 3 tries, are within");
}

#[test]
fn over_a_budget_this_machine_answers_or_nobody() {
    let budget = |over: &str| {
        table(&format!("[budgets.b]\nscope = \"all\"\nper = \"day\"\nusd = 1\nover = \"{over}\""))
    };
    let (local, refuse) = (budget("local"), budget("refuse"));
    let over = |table: &Table, model, expect: &str| {
        check(table, &spent(Case::new(model), table, "b", 1_000_000, 0), expect)
    };
    let decision = over(&local, "chain", "local/small");
    assert!(reason(&decision, "dear/big").starts_with("budget: over budget `b`: $1.00 of $1.00"));
    over(&local, "far", "local/small"); // it stands in
    over(&local, "dear/big", "local/small");
    over(&local, "auto", "local/small");
    over(&refuse, "far", "budget: over budget `b`");
    over(&refuse, "dear/big", "budget: over budget `b`");
    over(&refuse, "chain", "budget: dear/big is over a budget that refuses");
    check(&refuse, &Case::new("local/small"), "local/small");
    // Who would have answered here anyway does.
    let first = table(
        "[models.near]\ncandidates = [\"local/small\", \"dear/big\"]\n\
                       [budgets.b]\nscope = \"all\"\nper = \"day\"\nusd = 1\nover = \"refuse\"",
    );
    over(&first, "near", "local/small");
    // Who stands in has to be there, and able, and well.
    let gone = |case: Case| {
        case.with(|it| it.facts.candidates.retain(|candidate, _| !candidate.is_local()))
    };
    let case = gone(spent(Case::new("far"), &local, "b", 1_000_000, 0));
    check(&local, &case, "budget: over budget `b`");
    let case = spent(Case::new("chain"), &refuse, "b", 1_000_000, 0)
        .fact("local/small", |it| it.health = Health::OnTrial);
    check(&refuse, &case, "budget: over budget `b`");
    // And data that is blocked is, whoever pays.
    let case = spent(Case::new("far"), &local, "b", 1_000_000, 0)
        .with(|case| case.origin.classes = vec!["never".into()]);
    check(&local, &case, "privacy: blocked");
}

#[test]
fn budgets_are_of_whom_they_say() {
    let over = |budget: &str, set: fn(&mut Case), name: &str, expect: &str| {
        let table = table(&format!("[budgets.b]\nper = \"day\"\n{budget}"));
        check(&table, &spent(Case::new("far").with(set), &table, name, 999, 990), expect);
    };
    let both = "dear/big cheap/mid";
    over("scope = \"key\"\ntokens = 1400", |it| it.origin.key = "k".into(), "b:k", "budget: b:k");
    over("scope = \"key\"\ntokens = 9999", |it| it.origin.key = "k".into(), "b:k", both);
    over("scope = \"key\"\ntokens = 1400", |_| {}, "b:", "budget: over budget `b:`");
    over("scope = \"team\"\ntokens = 1400", |it| it.origin.team = "t".into(), "b:t", "budget: b:t");
    over("scope = \"all\"\ntokens = 1400", |_| {}, "b", "budget: 990 of 1400 tokens");
    // One model's budget leaves the next to be asked.
    over("scope = \"model\"\ntokens = 1400", |_| {}, "b:dear/big", "cheap/mid");
    let of = "scope = \"model\"\nof = [\"cheap/*\"]\ntokens = 1400";
    over(of, |_| {}, "b:cheap/mid", "dear/big");
}

#[test]
fn a_price_that_is_not_known_is_not_nothing() {
    let money = "[budgets.b]\nscope = \"all\"\nper = \"day\"\nusd = 1000000\n";
    let case = Case::new("cheap/other");
    let decision = check(&table(""), &case, "cheap/other");
    assert!(reason(&decision, "cheap/other").contains("a price that is not known"));
    let choice = &decision.outcome.expect("it answers")[0];
    assert_eq!((choice.expected_micros, choice.claims.len()), (None, 0));
    check(&table(money), &case, "budget: its price is not known");
    check(&table(&money.replace("usd", "tokens")), &case, "cheap/other");
    let limit = "[limits]\nmax_cost_micros = 1000000";
    check(&table(limit), &case, "cost and latency: its price is not known");
    let free =
        format!("{money}[prices.\"cheap/other\"]\ninput_per_million = 0\noutput_per_million = 0");
    check(&table(&free), &case, "cheap/other");
}

#[test]
fn auto_ranks_by_weights() {
    let rank = |weights: &str, case: Case, expect: &str| {
        check(&table(&format!("[weights]\n{weights}")), &case, expect)
    };
    let auto = || Case::new("auto");
    // Expected: dear 2,000 µ$ in 700 ms, cheap 200 µ$ in 1,400 ms, here nothing in 5,050 ms.
    rank("cost = 1\nlatency = 0", auto(), "local/small cheap/mid dear/big");
    rank("cost = 0\nlatency = 1", auto(), "dear/big cheap/mid local/small");
    rank("cost = 1\nlatency = 1", auto(), "cheap/mid dear/big local/small");
    rank("cost = 0\nlatency = 0", auto(), "dear/big cheap/mid local/small"); // ties, as listed
    rank("cost = 1\nlatency = 1", Case::new("chain"), "dear/big cheap/mid local/small");
    // A latency that nobody measured is as good as the best.
    let fresh = auto().fact("cheap/mid", |it| it.ttft_ms = None);
    rank("cost = 1\nlatency = 9", fresh, "cheap/mid dear/big local/small");
    // Here, too, computing has a price where the user says so: 5.05 s at 1 $/s is much.
    let priced = "cost = 1\nlatency = 0\n[limits]\n";
    let text = HEAD.replace("[local]\n", "[local]\nkwh_usd = 3600\nwatts = 1000\n");
    let dear_here = Table::read("p", &format!("{text}[weights]\n{priced}")).expect("it is whole");
    let decision = check(&dear_here, &auto(), "cheap/mid dear/big local/small");
    let choices = decision.outcome.expect("somebody answers");
    assert_eq!(choices[2].expected_micros, Some(5_050_000));
    // A price that is not known may be anything, and goes last.
    let text =
        HEAD.replace("[prices.\"cheap/mid\"]\ninput_per_million = 1\noutput_per_million = 2", "");
    let unknown = Table::read("p", &text).expect("it is whole");
    check(&unknown, &auto(), "dear/big local/small cheap/mid");
    // Who may not or cannot is told of last.
    let vision = auto().with(|case| case.needs.vision = true);
    let blind = vision.fact("cheap/mid", |it| it.vision = Some(false));
    let decision = rank("cost = 1\nlatency = 1", blind, "dear/big local/small");
    assert_eq!(decision.steps[2].candidate, "cheap/mid");
}

#[test]
fn limits_hold_for_each_call() {
    let limit = |text: &str, expect: &str| {
        check(&table(&format!("[limits]\n{text}")), &Case::new("far"), expect)
    };
    limit("max_cost_micros = 5000", "dear/big cheap/mid");
    let decision = limit("max_cost_micros = 4999", "cheap/mid");
    assert!(
        reason(&decision, "dear/big").contains("may cost $0.005, and a call may cost $0.004999")
    );
    limit("max_cost_micros = 10", "cost and latency: a call may cost $0.00001");
    limit("max_ttft_ms = 399", "dear/big");
    limit("max_ttft_ms = 400", "dear/big cheap/mid");
    limit("max_ttft_ms = 1", "cost and latency: its first token comes after 200 ms");
    let fresh = Case::new("far").fact("dear/big", |it| it.ttft_ms = None);
    check(&table("[limits]\nmax_ttft_ms = 1"), &fresh, "dear/big");
}

#[test]
fn who_is_unwell_rests() {
    let plain = table("");
    let far = || Case::new("far");
    let rest = |case: Case, of: &str, until_ms| {
        case.fact(of, |it| it.health = Health::Resting { until_ms })
    };
    check(&plain, &rest(far(), "dear/big", 1_001), "cheap/mid");
    check(&plain, &rest(far(), "dear/big", 1_000), "dear/big cheap/mid");
    check(&plain, &far().fact("dear/big", |it| it.health = Health::OnTrial), "cheap/mid");
    check(&plain, &far().fact("cheap/mid", |it| it.in_flight = 4), "dear/big");
    check(&plain, &far().fact("cheap/mid", |it| it.in_flight = 3), "dear/big cheap/mid");
    let both = rest(rest(far(), "dear/big", 1_500), "cheap/mid", 3_000);
    let decision = check(&plain, &both, "health: it failed, and rests for 500 ms more");
    let refused = decision.outcome.expect_err("nobody is well");
    assert_eq!(refused.retry_after_ms, Some(500));
    // Where data may not leave, others being well is no help.
    let down = Case::new("chain")
        .with(|case| case.origin.classes = vec!["secret".into()])
        .fact("local/small", |it| it.health = Health::Resting { until_ms: 2_000 });
    check(&plain, &down, "health: local/small: it failed");
    // Who came furthest tells why: privacy would have failed anyway.
    let case = Case::new("chain")
        .with(|case| case.origin.classes = vec!["secret".into()])
        .with(|case| case.facts.candidates.retain(|candidate, _| !candidate.is_local()));
    let decision = check(&plain, &case, "capability: no such model on this machine");
    assert_eq!(decision.outcome.expect_err("nobody").retry_after_ms, None);
}

#[test]
fn a_decision_reads_well() {
    let table = table("[budgets.b]\nscope = \"key\"\nper = \"day\"\nusd = 1");
    let case = Case::new("chain").with(|case| {
        case.origin.key = "me".into();
        case.origin.classes = vec!["pii".into()];
        case.found = found(&[("email", 2)]);
    });
    let expect = "\
classes: pii
found: email × 2
dear/big
  privacy           no   dear is not trusted with class `pii`
  capability        -    not asked
  budget            -    not asked
  cost and latency  -    not asked
  health            -    not asked
cheap/mid
  privacy           yes  `pii` may go to cheap, once what was found is replaced
  capability        yes  it can answer this
  budget            yes  up to $0.0015 and 1350 tokens, in 3 tries, are within `b:me`
  cost and latency  yes  about $0.0002, about 1400 ms
  health            yes  it is well, with 0 calls under way
local/small
  privacy           yes  nothing leaves this machine
  capability        yes  it can answer this
  budget            yes  nothing is bought
  cost and latency  yes  a cost that nobody stated, about 5050 ms
  health            yes  it is well, with 0 calls under way
tried in this order:
  1. cheap/mid: it leaves, redacted, $0.0015 is held for it
  2. local/small: nothing leaves, no budget holds anything
";
    assert_eq!(case.decide(&table).explain(), expect);
    let refused = Case::new("dear/big").with(|case| case.origin.classes = vec!["secret".into()]);
    let text = refused.decide(&table).explain();
    let last = "refused: nobody may answer for \"dear/big\" (privacy): dear/big: class `secret` stays \
                on this machine\n";
    assert!(text.ends_with(last), "{text}");
}

/// Who a request may leave for, and whether it is redacted first.
fn leaving(table: &Table, classes: &[&str], found: &Found) -> (Vec<Candidate>, bool) {
    let case = Case::new("chain").with(|case| {
        case.origin.classes = classes.iter().map(|it| (*it).to_owned()).collect();
        case.found = found.clone();
    });
    let decision = case.decide(table);
    let choices = decision.outcome.unwrap_or_default();
    let redact = choices.iter().any(|it| it.redact);
    let out: Vec<_> = choices.into_iter().filter(|it| it.leaves).collect();
    assert!(out.iter().all(|it| !it.candidate.is_local() && it.redact == redact));
    (out.into_iter().map(|it| it.candidate).collect(), redact)
}

const CLASSES: [&str; 7] =
    ["public", "internal", "secret", "pii", "european", "never", "unheard-of"];

proptest! {
    #[test]
    fn one_more_class_or_finding_never_lets_more_go(
        some in prop::collection::vec(0..CLASSES.len(), 1..4),
        more in 0..CLASSES.len(),
        count in 0_u32..4,
    ) {
        let table = table(
            "[[rules]]\nclass = \"secret\"\ndetected = [\"iban\"]\nat_least = 3\n\
             [[rules]]\nclass = \"pii\"\ndetected = [\"iban\"]",
        );
        let mut classes: Vec<&str> = some.iter().map(|at| CLASSES[*at]).collect();
        let none = found(&[]);
        let (before, redacted) = leaving(&table, &classes, &none);
        let found = found(&[("iban", count)]);
        for found in [&found, &Found::NotLooked, &Found::Failed("it".into())] {
            let (out, _) = leaving(&table, &classes, found);
            prop_assert!(out.iter().all(|it| before.contains(it)), "{classes:?} {found:?}");
            prop_assert!(matches!(found, Found::Kinds(_)) || out.is_empty(), "nobody knows");
        }
        classes.push(CLASSES[more]);
        let (out, redact) = leaving(&table, &classes, &none);
        prop_assert!(out.iter().all(|it| before.contains(it)), "{classes:?}: {out:?}");
        prop_assert!(out.is_empty() || redact || !redacted, "{classes:?}");
        let stays = ["secret", "never", "unheard-of"].iter().any(|it| classes.contains(it));
        prop_assert!(!stays || out.is_empty(), "{classes:?}: {out:?}");
    }
}
