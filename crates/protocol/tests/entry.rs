//! Entries of a ledger as JSON: read as they were written, whatever is in them.

use std::time::Duration;

use ingle_protocol::wire::entry::{ENTRY_BYTES, end_name, end_named, read, write};
use ingle_protocol::{Charge, Cost, End, Entry, Finish, Step, Timings, Usage};
use proptest::collection::vec;
use proptest::prelude::*;

const ENDS: [End; 7] =
    [End::Stop, End::Length, End::ToolCalls, End::Cancelled, End::Refused, End::Failed, End::Lost];

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(any::<String>(), 0..4)
}

fn usage() -> impl Strategy<Value = Usage> {
    any::<[u32; 7]>().prop_map(|all| Usage {
        prompt_tokens: all[0],
        cached_tokens: all[1],
        written_tokens: all[2],
        completion_tokens: all[3],
        reasoning_tokens: all[4],
        accepted_tokens: all[5],
        rejected_tokens: all[6],
    })
}

fn timings() -> impl Strategy<Value = Timings> {
    any::<[u64; 4]>().prop_map(|times| {
        let [load, queued, first_token, total] = times.map(Duration::from_nanos);
        Timings { load, queued, first_token, total }
    })
}

fn step() -> impl Strategy<Value = Step> {
    any::<(String, bool, String)>().prop_map(|(candidate, taken, reason)| Step {
        candidate,
        taken,
        reason,
    })
}

fn charge() -> impl Strategy<Value = Charge> {
    any::<([String; 2], [u64; 5])>().prop_map(|([provider, model], all)| Charge {
        provider,
        model,
        at_ms: all[0],
        micros: all[1],
        tokens: all[2],
        beyond_micros: all[3],
        beyond_tokens: all[4],
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let names = any::<[String; 5]>();
    let asked = (names, any::<u64>(), any::<String>(), texts(), any::<Vec<(String, u32)>>());
    let sent = (vec(step(), 0..4), any::<[String; 2]>(), texts(), any::<(u32, u64, u32)>());
    let cost = any::<(Option<u64>, String, bool, Option<u64>)>();
    let charges = proptest::option::of(vec(charge(), 0..3));
    let rest = (usage(), timings(), cost, charges, 0..ENDS.len());
    (asked, sent, rest).prop_map(|(asked, sent, rest)| {
        let ([id, key, team, path, asked], at_ms, policy, classes, found) = asked;
        let (route, [provider, model], hosts, (redacted, bytes_out, tries)) = sent;
        let (usage, timings, (micros, price, estimated, instead_micros), charges, end) = rest;
        let cost = Cost { micros, price, estimated };
        Entry {
            id,
            at_ms,
            key,
            team,
            path,
            asked,
            classes,
            found,
            redacted,
            policy,
            route,
            provider,
            model,
            hosts,
            bytes_out,
            tries,
            usage,
            cost,
            charges,
            instead_micros,
            timings,
            end: ENDS[end],
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(entry in entry()) {
        let text = write(&entry);
        prop_assert!(!text.contains('\n'));
        prop_assert_eq!(read(&text).expect("is read"), entry);
    }

    #[test]
    fn nothing_is_read_in_panic(text in any::<String>()) {
        let _ = read(&text);
    }
}

#[test]
fn what_is_empty_is_left_out() {
    let entry = Entry { id: "a".into(), at_ms: 5, ..Entry::default() };
    assert_eq!(write(&entry), r#"{"id":"a","at_ms":5,"end":"stop"}"#);
}

#[test]
fn the_text_is_what_it_was_in_the_first_release() {
    let step = |candidate: &str, taken, reason: &str| Step {
        candidate: candidate.into(),
        taken,
        reason: reason.into(),
    };
    let entry = Entry {
        id: "r1".into(),
        at_ms: 1_700_000_000_000,
        key: "alice".into(),
        team: "red".into(),
        path: "/v1/chat/completions".into(),
        asked: "auto".into(),
        classes: vec!["internal".into()],
        found: vec![("email".into(), 2)],
        redacted: 2,
        policy: "ab12".into(),
        route: vec![step("near/small", false, "full"), step("far/large", true, "cheapest")],
        provider: "far".into(),
        model: "large".into(),
        hosts: vec!["far.example".into()],
        bytes_out: 512,
        tries: 1,
        usage: Usage { prompt_tokens: 100, completion_tokens: 20, ..Usage::default() },
        cost: Cost { micros: Some(1500), price: "2026-11-22".into(), estimated: true },
        charges: None,
        instead_micros: Some(0),
        timings: Timings { total: Duration::from_micros(1), ..Timings::default() },
        end: End::Length,
    };
    let expect = concat!(
        r#"{"id":"r1","at_ms":1700000000000,"key":"alice","team":"red","#,
        r#""path":"/v1/chat/completions","asked":"auto","classes":["internal"],"#,
        r#""found":[["email",2]],"redacted":2,"policy":"ab12","#,
        r#""route":[{"candidate":"near/small","reason":"full"},"#,
        r#"{"candidate":"far/large","taken":true,"reason":"cheapest"}],"#,
        r#""provider":"far","model":"large","hosts":["far.example"],"bytes_out":512,"tries":1,"#,
        r#""usage":{"prompt_tokens":100,"completion_tokens":20},"#,
        r#""cost":{"micros":1500,"price":"2026-11-22","estimated":true},"instead_micros":0,"#,
        r#""timings":{"total_ns":1000},"end":"length"}"#,
    );
    assert_eq!(write(&entry), expect);
    assert_eq!(read(expect).expect("is read"), entry);
}

#[test]
fn charges_are_told_from_none_that_were_kept() {
    let check = |charges: Option<Vec<Charge>>, expect: &str| {
        let entry = Entry { id: "a".into(), at_ms: 5, charges, ..Entry::default() };
        let text = format!(r#"{{"id":"a","at_ms":5,{expect}"end":"stop"}}"#);
        assert_eq!(write(&entry), text);
        assert_eq!(read(&text).expect("is read"), entry);
    };
    check(None, "");
    check(Some(Vec::new()), r#""charges":[],"#);
    let charge = Charge {
        provider: "far".into(),
        model: "m".into(),
        at_ms: 6,
        micros: 7,
        tokens: 8,
        ..Charge::default()
    };
    let lied = Charge { beyond_micros: 9, beyond_tokens: 10, ..charge.clone() };
    let row = r#"{"provider":"far","model":"m","at_ms":6,"micros":7,"tokens":8"#;
    let beyond = r#","beyond_micros":9,"beyond_tokens":10}"#;
    check(Some(vec![charge, lied]), &format!(r#""charges":[{row}}},{row}{beyond}],"#));
}

#[test]
fn ends_have_names() {
    for end in ENDS {
        assert_eq!(end_named(end_name(end)), Some(end));
    }
    assert_eq!(end_named("over"), None);
}

#[test]
fn ends_of_answers_are_those_of_entries() {
    let check = |finish: Finish, expect: End| assert_eq!(End::from(finish), expect);
    check(Finish::Stop, End::Stop);
    check(Finish::Length, End::Length);
    check(Finish::ToolCalls, End::ToolCalls);
    check(Finish::Cancelled, End::Cancelled);
    let most = Usage {
        prompt_tokens: u32::MAX,
        cached_tokens: 7,
        completion_tokens: u32::MAX,
        reasoning_tokens: 7,
        ..Usage::default()
    };
    assert_eq!(most.total(), 2 * u64::from(u32::MAX), "no token is counted twice, or lost");
}

#[test]
fn other_texts_are_no_entries() {
    let check = |text: &str, expect: &str| {
        let said = read(text).expect_err(text).message;
        assert!(said.contains(expect), "{text}: {said}");
    };
    check("", "EOF");
    check("{}", "missing field `id`");
    check(r#"{"id":"a","at_ms":5}"#, "missing field `end`");
    check(r#"{"id":"a","at_ms":-5,"end":"stop"}"#, "-5");
    check(r#"{"id":"a","at_ms":5.0,"end":"stop"}"#, "5.0");
    check(r#"{"id":"a","at_ms":5,"end":"over"}"#, "\"over\"");
    check(r#"{"id":"a","id":"b","at_ms":5,"end":"stop"}"#, "duplicate field `id`");
    check(r#"{"id":"a","at_ms":5,"end":"stop"} x"#, "trailing");
    check(&" ".repeat(ENTRY_BYTES + 1), "longer than");
}

#[test]
fn names_of_later_releases_are_passed_over() {
    let read = read(r#"{"id":"a","at_ms":5,"later":[1],"end":"lost"}"#).expect("is read");
    assert_eq!((read.id.as_str(), read.end), ("a", End::Lost));
}
