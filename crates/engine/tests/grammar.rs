//! Constrained answers: what is finished matches its grammar, what is cut is the beginning of
//! something that does, and neither speculation, nor forced tokens taken at once, nor the crowd
//! changes a bit of it.

mod support;

use ingle_engine::grammar::Grammars;
use ingle_engine::{Ending, Job, Local, Options, Speculation, Stats};
use ingle_protocol::{Finish, Grammar, Input, Receipt, Request, Sampling, Token, Usage};
use std::path::Path;
use std::sync::LazyLock;
use support::grammars::{Case, cases};
use support::jobs::{core, ending, finish as finish_all, job};
use support::{Asked, Told, answer, ask, fetched, open, request, text, tiny, until};

static SMOLLM2: LazyLock<Option<Local>> = LazyLock::new(|| {
    let options = Options { kv_bytes: Some(128 << 20), ..Options::default() };
    fetched("smollm2").map(|path| open(&path, &options))
});
static TINY: LazyLock<Local> = LazyLock::new(|| open(&tiny("qwen2"), &small(16 << 20)));

fn small(kv_bytes: usize) -> Options {
    Options { threads: Some(1), kv_bytes: Some(kv_bytes), ..Options::default() }
}

/// Sends all at once and waits for all.
fn crowd(model: &Local, requests: &[Request]) -> Vec<Told> {
    let asked: Vec<Asked> =
        requests.iter().map(|request| ask(model, request).expect("is taken in")).collect();
    asked.into_iter().map(Asked::wait).collect()
}

fn finish(told: &Told) -> Finish {
    told.receipt().finish
}

fn settled(model: &Local) -> Stats {
    until("nothing runs", || model.stats().counts.running == 0);
    model.stats()
}

/// Every answer to these is sound; so many of them came to their end.
fn sound(model: &Local, asked: &[(&Case, Request)]) -> usize {
    let requests: Vec<Request> = asked.iter().map(|(_, request)| request.clone()).collect();
    let told = crowd(model, &requests);
    let complaints = asked.iter().zip(&told).filter_map(|((case, request), told)| {
        let complaint = case.complaint(&told.text(), finish(told))?;
        Some(format!("{complaint} (seed {:?})", request.sampling.seed))
    });
    assert_eq!(complaints.collect::<Vec<_>>(), [""; 0]);
    told.iter().filter(|told| finish(told) == Finish::Stop).count()
}

#[test]
fn what_the_default_model_finishes_is_valid() {
    let Some(model) = &*SMOLLM2 else { return };
    let cases = cases();
    let mut asked = Vec::new();
    for case in &cases {
        asked.push((case, case.chat(120, 0.0, 0)));
        asked.extend((1..4).map(|seed| (case, case.chat(120, 1.0, seed))));
    }
    let finished = sound(model, &asked);
    assert!(finished >= 8, "{finished} of {}", asked.len());
    let stats = settled(model);
    assert!(stats.masks > 100 && stats.masks_ns > 0 && stats.forced_tokens > 50, "{stats:?}");
}

/// A random model whose tokens are bytes says whatever it may.
#[test]
fn what_a_random_model_finishes_is_valid() {
    let cases = cases();
    let mut asked = Vec::new();
    for case in &cases {
        asked.push((case, case.plain(300, 0.0, 0)));
        asked.extend((1..30).map(|seed| (case, case.plain(300, 1.0 + seed as f32 / 40.0, seed))));
    }
    let finished = sound(&TINY, &asked);
    assert!(finished >= 15, "{finished} of {}", asked.len());
}

/// Nobody believes an oracle that never complains.
#[test]
fn the_oracle_finds_what_is_not_valid() {
    let Some(model) = &*SMOLLM2 else { return };
    let cases = cases();
    let free = |case: &Case| Request { grammar: None, ..case.chat(60, 1.0, 1) };
    let requests: Vec<Request> = cases.iter().map(free).collect();
    let told = crowd(model, &requests);
    for (case, told) in cases.iter().zip(&told) {
        assert!(case.complaint(&told.text(), finish(told)).is_some(), "{:?}", told.text());
        assert_eq!(case.complaint(&case.instance, Finish::Stop), None);
        assert!(case.complaint("{\"name\": 5}", Finish::Stop).is_some() || case.name == "free");
        assert!(case.complaint(&case.instance[..9], Finish::Stop).is_some());
        assert_eq!(case.complaint(&case.instance[..9], Finish::Length), None);
    }
}

fn constrained(grammar: Grammar, tokens: u32, temperature: f32, seed: u64) -> Request {
    let sampling = Sampling { temperature, seed: Some(seed), ..Sampling::default() };
    Request { grammar: Some(grammar), sampling, ..request(text("Go: "), tokens) }
}

#[test]
fn expressions_match_the_whole_answer() {
    let check = |model: &Local, pattern: &str| {
        let whole = regex::Regex::new(&format!("^(?:{pattern})$")).expect("an expression");
        let asked = |seed: u64| {
            let temperature = if seed == 0 { 0.0 } else { 1.0 };
            constrained(Grammar::Regex(pattern.into()), 60, temperature, seed)
        };
        for told in crowd(model, &(0..8).map(asked).collect::<Vec<_>>()) {
            assert_eq!(finish(&told), Finish::Stop, "{pattern}: {:?}", told.text());
            assert!(whole.is_match(&told.text()), "{pattern}: {:?}", told.text());
        }
    };
    let patterns = [
        "[a-z]{3,9}",
        "(yes|no)( indeed){0,2}",
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}",
        r"#[0-9a-f]{6}/\\?",
        "(日本|語){1,3}é",
        "",
    ];
    for pattern in patterns {
        check(&TINY, pattern);
        if let Some(model) = &*SMOLLM2 {
            check(model, pattern);
        }
    }
}

#[test]
fn a_choice_is_one_of_its_texts() {
    let lists: [&[&str]; 4] = [
        &["red", "green", "blue"],
        &["a", "ab", "abc", "abc \"quoted\" \\ and\nmore"],
        &["only"],
        &["", "日本"],
    ];
    let models = [Some(&*TINY), SMOLLM2.as_ref()];
    for (model, list) in models.into_iter().flatten().flat_map(|m| lists.map(|list| (m, list))) {
        let texts: Vec<String> = list.iter().map(|&text| text.to_owned()).collect();
        let asked = |seed| constrained(Grammar::Choice(texts.clone()), 60, 1.5, seed);
        let told = crowd(model, &(0..12).map(asked).collect::<Vec<_>>());
        for told in &told {
            assert!(texts.contains(&told.text()) && finish(told) == Finish::Stop, "{told:?}");
        }
        let first = told[0].text();
        let alike = told.iter().all(|told| told.text() == first);
        assert!(!alike || list.len() == 1 || list.contains(&""), "always {first:?}");
    }
}

#[test]
fn a_lark_grammar_is_followed() {
    let lark = "start: sum\nsum: term (\"+\" term)~1..3\nterm: NUMBER | \"(\" sum \")\"\n\
        NUMBER: /[1-9][0-9]?/\n";
    for seed in 0..12 {
        let told = answer(&TINY, &constrained(Grammar::Lark(lark.into()), 200, 1.0, seed));
        let text = told.text();
        assert!(text.chars().all(|c| c.is_ascii_digit() || "+()".contains(c)), "{text:?}");
        let depth = |c| text.matches(c).count();
        assert!(finish(&told) == Finish::Length || depth('(') == depth(')'), "{text:?}");
    }
}

/// Compares all that a caller can see but the times, and what was guessed.
fn alike(left: &Told, right: &Told) {
    assert_eq!(left.text(), right.text());
    let bits = |told: &Told| -> Vec<(u32, u32)> {
        told.scores().map(|one| (one.chosen.token, one.chosen.logprob.to_bits())).collect()
    };
    assert!(bits(left) == bits(right), "other log-probabilities: {:?}", left.text());
    let usage = |told: &Told| {
        let (accepted_tokens, rejected_tokens, cached_tokens) = (0, 0, 0);
        let usage = told.receipt().usage;
        (finish(told), Usage { accepted_tokens, rejected_tokens, cached_tokens, ..usage })
    };
    assert_eq!(usage(left), usage(right));
}

/// Every way of computing the same answers, one after another and all at once.
fn the_same(path: &Path, kv_bytes: usize, requests: &[Request]) -> [Stats; 4] {
    let with = |speculation, fast_forward, running| {
        let options = Options { speculation, fast_forward, running, ..small(kv_bytes) };
        open(path, &options)
    };
    let plain = with(Speculation::None, false, 1);
    let expect: Vec<Told> = requests.iter().map(|request| answer(&plain, request)).collect();
    let ways = [
        plain,
        with(Speculation::Lookup, false, 1),
        with(Speculation::None, true, 1),
        with(Speculation::Lookup, true, 8),
    ];
    for model in &ways[1..] {
        let told = crowd(model, requests);
        expect.iter().zip(&told).for_each(|(expect, told)| alike(expect, told));
    }
    ways.each_ref().map(settled)
}

#[test]
fn no_way_of_computing_it_changes_an_answer() {
    let Some(path) = fetched("smollm2") else { return };
    let cases = cases();
    let asked = |case: &Case| {
        let greedy = Request { logprobs: Some(0), ..case.chat(40, 0.0, 0) };
        let drawn = Request { logprobs: Some(0), ..case.chat(40, 0.8, 7) };
        [greedy, drawn]
    };
    let requests: Vec<Request> = cases[..3].iter().flat_map(asked).collect();
    let [plain, guessing, forcing, both] = the_same(&path, 64 << 20, &requests);
    assert_eq!((plain.forced_tokens, plain.drafted_tokens, guessing.forced_tokens), (0, 0, 0));
    assert!(guessing.accepted_tokens > 0, "{guessing:?}");
    assert_eq!(forcing.drafted_tokens, 0);
    assert!(forcing.forced_tokens > 10, "{forcing:?}");
    assert!(plain.steps >= forcing.steps + forcing.forced_tokens, "{plain:?} {forcing:?}");
    assert_eq!(plain.generated_tokens, both.generated_tokens);
}

/// Memory for two or three of them: who makes room keeps the state of its grammar.
#[test]
fn making_room_changes_no_constrained_answer() {
    const SMALL: usize = 16 * 16 * 2 * 2 * 32 * 4;
    let cases = cases();
    let asked = |case: &Case| {
        [1, 2].map(|seed| Request { logprobs: Some(0), ..case.plain(160, 0.9, seed) })
    };
    let requests: Vec<Request> = cases.iter().flat_map(asked).collect();
    let stats = the_same(&tiny("qwen3"), SMALL, &requests);
    assert!(stats[3].counts.preemptions > 0, "{stats:?}");
}

#[test]
fn equal_requests_go_their_own_ways() {
    let cases = cases();
    let requests: Vec<Request> = (0..8).map(|seed| cases[0].plain(200, 1.2, seed)).collect();
    let told = crowd(&TINY, &requests);
    for (told, request) in told.iter().zip(&requests) {
        alike(told, &answer(&TINY, request));
    }
    assert!(told.iter().any(|one| one.text() != told[0].text()));
}

/// Cut at every length; with `ignore_eos` the answer ends where its grammar does.
#[test]
fn the_bounds_of_an_answer_keep_their_meaning() {
    let pattern = Grammar::Regex("[ab]{4}(cd)*".into());
    for tokens in 1..9 {
        let told = answer(&TINY, &constrained(pattern.clone(), tokens, 1.0, 5));
        let Receipt { usage, .. } = told.receipt();
        assert_eq!(usage.completion_tokens as usize, told.text().len());
        match finish(&told) {
            Finish::Length => assert_eq!(usage.completion_tokens, tokens),
            Finish::Stop => assert!(told.text().len() >= 4, "{told:?}"),
            Finish::Cancelled | Finish::ToolCalls => panic!("{told:?}"),
        }
    }
    let eager = |pattern: &str, ignore_eos| {
        let mut request = constrained(Grammar::Regex(pattern.into()), 40, 1.0, 3);
        request.sampling.ignore_eos = ignore_eos;
        // So likely that it comes as soon as it may.
        let end = TINY.tokenizer().ends()[0];
        request.sampling.logit_bias = vec![(end, 100.0)];
        let told = answer(&TINY, &request);
        (told.text(), finish(&told))
    };
    let ended = |text: &str| (text.to_owned(), Finish::Stop);
    assert_eq!(eager("x{3,9}", false), ended("xxx"));
    assert_eq!(eager("x{3,9}", true), ended("xxxxxxxxx"));
    assert_eq!(eager("x+", true), ("x".repeat(40), Finish::Length));
    assert_eq!(eager("(x{3})?", false), ended(""));
    let mut stopped = constrained(Grammar::Regex("x{3}yz{3}".into()), 40, 1.0, 3);
    stopped.stop = vec!["yz".into()];
    assert_eq!(answer(&TINY, &stopped).text(), "xxx");
}

/// Words in a refusal.
#[test]
fn hostile_grammars_are_refused_in_words() {
    let check = |grammar: Grammar, words: &[&str]| {
        let shown = format!("{grammar:?}").chars().take(120).collect::<String>();
        let asked = ask(&TINY, &constrained(grammar, 4, 0.0, 0));
        let fault = match asked {
            Err(fault) => fault,
            Ok(asked) => panic!("{shown} was taken in: {:?}", asked.wait()),
        };
        assert_eq!(fault.param.as_deref(), Some("grammar"), "{shown}: {fault:?}");
        assert!(fault.message.len() < 1000, "{shown}: {fault:?}");
        for word in words {
            assert!(fault.message.contains(word), "{word:?} is not in {fault:?} for {shown}");
        }
    };
    let schema = |text: &str| Grammar::JsonSchema(text.to_owned());
    for (keyword, value) in UNENFORCED {
        let kind = if *keyword == "uniqueItems" { "array" } else { "object" };
        let text = format!("{{\"type\": \"{kind}\", \"{keyword}\": {value}}}");
        check(schema(&text), &["JSON schema", keyword]);
        let nested = format!("{{\"properties\": {{\"a\": {text}}}}}");
        check(schema(&nested), &["JSON schema", keyword]);
    }
    check(schema(""), &["JSON schema"]);
    check(schema("{"), &["JSON schema", "EOF"]);
    check(schema("[1]"), &["JSON schema", "object"]);
    check(schema("false"), &["JSON schema"]);
    check(schema(r#"{"type": "text"}"#), &["text"]);
    check(schema(r#"{"format": "no-such", "type": "string"}"#), &["no-such"]);
    check(schema(r##"{"$ref": "#/nowhere"}"##), &["nowhere"]);
    check(schema(r#"{"$ref": "https://example.com/schema.json"}"#), &["example.com"]);
    check(schema(r#"{"x-guidance": {"lenient": true}, "not": {}}"#), &["x-guidance"]);
    check(schema(r#"{"oneOf": [{"minimum": 1}, {"maximum": 5}]}"#), &["oneOf"]);
    check(schema(&"[".repeat(100_000)), &["JSON schema"]);
    check(schema(&" ".repeat(200_000)), &["200000 bytes", "131072"]);
    let regex = |text: &str| Grammar::Regex(text.to_owned());
    check(regex("("), &["regular expression"]);
    check(regex("a\\"), &["backslash"]);
    check(regex("(?=a)b"), &["regular expression"]);
    check(regex(r"(a)\1"), &["regular expression"]);
    check(regex(&"(".repeat(5_000)), &["regular expression"]);
    let lark = |text: &str| Grammar::Lark(text.to_owned());
    check(lark(""), &["grammar"]);
    check(lark("start: missing"), &["missing"]);
    check(lark("start: \"a"), &["grammar"]);
    check(lark(&format!("start: {}\"a\"{}", "(".repeat(500), ")".repeat(500))), &["nested"]);
    check(lark("start: <|no_such_token|>"), &["no_such_token"]);
    let end = TINY.tokenizer().ends()[0];
    check(lark(&format!("start: \"a\" <[{end}]>")), &["ends answers"]);
    check(Grammar::Choice(Vec::new()), &["no texts"]);
    check(Grammar::Choice(vec![String::from("x"); 5000]), &["5000 texts", "4096"]);
    assert_eq!(answer(&TINY, &constrained(regex("ok"), 9, 1.0, 1)).text(), "ok");
}

/// Keywords that a mask cannot enforce.
static UNENFORCED: &[(&str, &str)] = &[
    ("not", "{}"),
    ("if", "{}"),
    ("dependentRequired", "{\"a\": [\"b\"]}"),
    ("dependentSchemas", "{\"a\": {}}"),
    ("propertyNames", "{\"maxLength\": 3}"),
    ("uniqueItems", "true"),
    ("contains", "{}"),
    ("unevaluatedProperties", "false"),
    ("unevaluatedItems", "false"),
];

/// Grammars that are much work: an answer, or a refusal, but soon and with little memory.
#[test]
fn grammars_that_are_much_work_do_no_harm() {
    let deep: String = (0..4000).map(|at| format!("r{at}: \"a\" r{}\n", at + 1)).collect();
    let nested = (0..100)
        .fold("{}".to_owned(), |inner, _| format!("{{\"type\":\"array\",\"items\":{inner}}}"));
    let tests = [
        Grammar::Regex("a{1000000}".into()),
        Grammar::Regex("((a{1,100}){1,100}){1,100}".into()),
        Grammar::Regex("(a|b)*a(a|b){2000}".into()),
        Grammar::Regex("x".repeat(100_000)),
        Grammar::Regex("a?".repeat(20_000)),
        Grammar::Lark(format!("start: r0\n{deep}r4000: \"a\"\n")),
        Grammar::Lark("start: a\na: a a | \"x\" | \"\"\n".into()),
        Grammar::Lark("start: \"a\"{1000000}\n".into()),
        Grammar::JsonSchema(nested),
        Grammar::JsonSchema(format!("{{\"const\": \"{}\"}}", "y".repeat(100_000))),
        Grammar::JsonSchema(r#"{"type": "string", "maxLength": 1000000000}"#.into()),
        Grammar::JsonSchema(r##"{"$ref": "#"}"##.into()),
        Grammar::JsonSchema(r##"{"items": {"$ref": "#"}, "type": "array"}"##.into()),
        Grammar::Choice((0..4000).map(|at| format!("choice {at}")).collect()),
    ];
    for grammar in tests {
        let shown = format!("{grammar:?}").chars().take(60).collect::<String>();
        match ask(&TINY, &constrained(grammar, 12, 1.0, 1)) {
            Ok(asked) => drop(asked.wait()),
            Err(fault) => assert_eq!(fault.param.as_deref(), Some("grammar"), "{shown}: {fault:?}"),
        }
    }
    assert_eq!(answer(&TINY, &constrained(Grammar::Regex("ok".into()), 9, 1.0, 1)).text(), "ok");
}

/// A guide that is of no use fails the answer: not a token comes without it.
#[test]
fn an_answer_fails_with_its_grammar() {
    let grammars = Grammars::new(TINY.tokenizer().clone());
    let mut core = core(&small(1 << 20));
    let grammar = Grammar::Regex("[ab]+".into());
    let mut guide = grammars.guide(&grammar).expect("a grammar");
    assert!(guide.accept(Token::from(b'x')).is_err());
    let (broken, heard, _) = job(3, 8);
    core.submit(Job { guide: Some(guide), ..broken });
    finish_all(&mut core);
    let Some(Ending::Failed(fault)) = ending(&heard) else { panic!("{:?}", ending(&heard)) };
    assert_eq!(fault.param.as_deref(), Some("grammar"), "{fault:?}");
    assert!(heard.lock().expect("whole").tokens.is_empty());
    let (sound, heard, _) = job(3, 8);
    core.submit(Job { guide: grammars.guide(&grammar).ok(), ..sound });
    finish_all(&mut core);
    assert_eq!(ending(&heard), Some(Ending::Full));
    assert!(
        heard.lock().expect("whole").tokens.iter().all(|token| b"ab".contains(&(*token as u8)))
    );
}

/// What is gone leaves nothing behind that others would wait for.
#[test]
fn a_cancelled_answer_is_forgotten() {
    let endless = constrained(Grammar::Regex("[a-z ]*".into()), 400, 1.0, 1);
    let endless =
        Request { sampling: Sampling { ignore_eos: true, ..endless.sampling.clone() }, ..endless };
    for _ in 0..20 {
        let asked = ask(&TINY, &endless).expect("is taken in");
        asked.next();
        drop(asked.call);
    }
    let told = answer(&TINY, &constrained(Grammar::Regex("a(bc)+d".into()), 50, 1.0, 1));
    assert!(told.text().starts_with("abc"), "{told:?}");
    until("all are gone", || TINY.stats().counts.blocks_used == 0);
}

/// A prompt in tokens, and no tokens of text: the grammar is about the answer alone.
#[test]
fn the_prompt_is_none_of_the_grammars_business() {
    let grammar = Grammar::Regex("z{5}".into());
    let request =
        Request { input: Input::Tokens(vec![1, 2, 3]), ..constrained(grammar, 9, 1.0, 1) };
    assert_eq!(answer(&TINY, &request).text(), "zzzzz");
}
