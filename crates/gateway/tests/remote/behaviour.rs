//! What becomes of a call when its upstream misbehaves, one way after another: a table. Then
//! cancelling, hedging, and what is accounted for.

use std::sync::Arc;
use std::time::Duration;

use ingle_gateway::remote::{Bounds, Ended, Timeouts, Upstream};
use ingle_protocol::{Blame, End, Retry};
use tokio::time::{Instant, sleep};

use super::upstream::*;

/// Patient for ten seconds, until an answer begins and between its parts.
fn patient(name: &str) -> Upstream {
    Upstream {
        timeouts: Timeouts {
            connection: Duration::from_secs(2),
            per_try: Duration::from_secs(10),
            idle: Duration::from_secs(5),
        },
        bounds: Bounds {
            answer_bytes: 256 << 10,
            event_bytes: 32 << 10,
            error_bytes: 4 << 10,
            ..Bounds::USUAL
        },
        ..provider(name)
    }
}

/// What a script makes of one provider that is retried twice: what is told, how it ends, how many
/// tries it took, how long (in ms), and what its verdict says.
type Row<'a> = (Vec<React>, (&'a str, End, u32, u128, &'a str));

async fn check(rows: Vec<Row<'_>>) {
    let mut wrong = String::new();
    for (reactions, expect) in rows {
        let script = format!("{reactions:?}").chars().take(300).collect::<String>();
        let stage = Arc::new(Stage::default());
        stage.script("a", reactions);
        let remote = remote(&stage, vec![patient("a")]);
        let Heard { told, outcome, ms } = call(&remote, request(), plan(&["a"])).await;
        let reason = outcome.route.first().map_or("", |step| step.reason.as_str());
        let seen = (told.as_str(), outcome.end, outcome.tries, ms, reason);
        if seen != expect {
            let fault = &outcome.fault;
            wrong += &format!("{script}\n  seen   {seen:?} {fault:?}\n  expect {expect:?}\n");
        }
        assert_eq!(outcome.fault.is_some(), outcome.end == End::Failed);
        let shown = format!("{outcome:?} {remote:?}");
        assert!(!shown.contains(KEY), "a key is shown: {shown}");
        let facts = remote.facts();
        assert!(facts.iter().all(|facts| facts.in_flight == 0 && facts.busy.0 == 0), "{facts:?}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn stream(acts: impl IntoIterator<Item = Act>) -> React {
    React::Do(std::iter::once(head()).chain(acts).collect())
}

const SAID: &str = "it answered";
const ALL: &str = "one two three";
const BROKEN: &str = "its answer told of an error, or could not be read";
const CUT: &str = "it closed the connection before its answer was complete";

#[tokio::test(start_paused = true)]
async fn before_an_answer_begins_it_is_asked_for_again() {
    let mut rows: Vec<Row<'_>> = Vec::new();
    let busy = |fields: &str| status(429, fields, "{\"error\":{\"message\":\"slow down\"}}");
    let failing = || status(500, "", "{\"error\":{\"message\":\"oops\"}}");
    let close = || React::Do(vec![Act::Close]);
    let silence = || React::Do(vec![Act::Silence]);
    use React::{Hang, Refuse};

    rows.push((vec![good()], (ALL, End::Stop, 1, 0, SAID)));
    rows.push((vec![Refuse, Refuse, good()], (ALL, End::Stop, 3, 300, SAID)));
    let refused = "it refuses connections, 3 times";
    rows.push((vec![Refuse, Refuse, Refuse], ("", End::Failed, 3, 300, refused)));
    rows.push((vec![Hang, good()], (ALL, End::Stop, 2, 2_100, SAID)));
    rows.push((vec![failing(), good()], (ALL, End::Stop, 2, 100, SAID)));
    let failed = "it answered 500, 3 times";
    rows.push((vec![failing(), failing(), failing()], ("", End::Failed, 3, 300, failed)));
    rows.push((vec![busy("retry-after: 3\r\n"), good()], (ALL, End::Stop, 2, 3_000, SAID)));
    rows.push((vec![busy("retry-after-ms: 70\r\n"), good()], (ALL, End::Stop, 2, 70, SAID)));
    rows.push((vec![busy(""), good()], (ALL, End::Stop, 2, 100, SAID)));
    // Who wants to be left alone for long is.
    let limited = "it answered 429";
    rows.push((vec![busy("retry-after: 60\r\n")], ("", End::Failed, 1, 0, limited)));
    rows.push((vec![close(), good()], (ALL, End::Stop, 2, 100, SAID)));
    rows.push((vec![silence(), good()], (ALL, End::Stop, 2, 10_100, SAID)));
    rows.push((vec![stream([Act::Close]), good()], (ALL, End::Stop, 2, 100, SAID)));
    rows.push((vec![stream([Act::Silence]), good()], (ALL, End::Stop, 2, 10_100, SAID)));
    let late = "its answer did not begin within 10000 ms, 3 times";
    rows.push((vec![silence(), silence(), silence()], ("", End::Failed, 3, 30_300, late)));
    // Comments are no answer.
    let alive = |n| (0..n).flat_map(|_| [part(": wait\n\n"), Act::Wait(1_000)]);
    let slowly = stream(alive(8).chain([piece("hi"), finish(), end()]));
    rows.push((vec![slowly], ("hi", End::Stop, 1, 8_000, SAID)));
    rows.push((vec![stream(alive(40)), good()], (ALL, End::Stop, 2, 10_100, SAID)));
    let short =
        raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{");
    let React::Do(mut short) = short else { unreachable!("it writes") };
    short.push(Act::Close);
    rows.push((vec![React::Do(short), good()], (ALL, End::Stop, 2, 100, SAID)));
    check(rows).await;
}

#[tokio::test(start_paused = true)]
async fn what_would_fail_again_is_not_asked_for_again() {
    let mut rows: Vec<Row<'_>> = Vec::new();
    let mut once = |reaction, reason| rows.push((vec![reaction], ("", End::Failed, 1, 0, reason)));
    let redirect =
        "it answered 302, a redirect, which is not followed: set its `url` to where it is";
    once(status(302, "location: https://b/\r\n", ""), redirect);
    once(status(400, "", "{\"error\":{\"message\":\"no\"}}"), "it answered 400");
    once(status(401, "", KEY), "it answered 401");
    once(status(404, "", "<html>"), "it answered 404");
    let page = raw("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>");
    let media = "its answer is of the type \"text/html\", which is not its format's";
    once(page, media);
    let packed =
        raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\
                      content-length: 2\r\n\r\n{}");
    let media = "its answer is of the type \"gzip\", which is not its format's";
    once(packed, media);
    let http = "its answer is no HTTP, or has too long a head";
    once(raw("SSH-2.0-OpenSSH_9.2\r\n\r\n"), http);
    once(raw("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"), http);
    let endless = Act::Forever(b"x-a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".to_vec());
    let head = Act::Write(b"HTTP/1.1 200 OK\r\n".to_vec());
    once(React::Do(vec![head, endless]), http);
    once(status(200, "", "[]"), BROKEN);
    once(status(200, "", "{\"choices\":"), BROKEN);
    once(stream([part("data: {\"choices\":[{\n\n")]), BROKEN);
    once(stream([part("data: {\"error\":{\"message\":\"x\"}}\n\n")]), BROKEN);
    once(stream([end()]), BROKEN);
    let line = Act::Forever(b"10\r\naaaaaaaaaaaaaaaa\r\n".to_vec());
    once(stream([line]), BROKEN);
    let comments = Act::Forever(b"8\r\n: aaaa\n\n\r\n".to_vec());
    once(stream([comments]), BROKEN);
    check(rows).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_told_is_never_told_again() {
    let part_of = |why: &str| format!("it answered in part: {why}");
    let [cut_off, broken_off, late] =
        [CUT, BROKEN, "nothing more came within 5000 ms"].map(part_of);
    let mut rows: Vec<Row<'_>> = Vec::new();
    let cut = stream([piece("one "), Act::Close]);
    rows.push((vec![cut], ("one ", End::Failed, 1, 0, &cut_off)));
    let silent = stream([piece("one "), piece("two "), Act::Silence]);
    rows.push((vec![silent], ("one two ", End::Failed, 1, 5_000, &late)));
    let broken = stream([piece("one "), part("data: }\n\n")]);
    rows.push((vec![broken], ("one ", End::Failed, 1, 0, &broken_off)));
    // What came with what is broken is told still.
    let both =
        part("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"two\"}}]}\n\ndata: }\n\n");
    rows.push((vec![stream([piece("one "), both])], ("one two", End::Failed, 1, 0, &broken_off)));
    let unfinished = stream([piece("one "), end()]);
    rows.push((vec![unfinished], ("one ", End::Failed, 1, 0, &broken_off)));
    let told = stream([piece("one "), part("data: {\"error\":{\"message\":\"x\"}}\n\n")]);
    rows.push((vec![told], ("one ", End::Failed, 1, 0, &broken_off)));
    let slow = [piece("one "), Act::Wait(4_000), piece("two "), Act::Wait(4_000), finish(), end()];
    rows.push((vec![stream(slow)], ("one two ", End::Stop, 1, 8_000, SAID)));
    let endless = part("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"}}]}\n\n");
    let Act::Write(endless) = endless else { unreachable!("it writes") };
    let endless = stream([piece("one "), Act::Forever(endless)]);
    rows.push((vec![endless], ("one ", End::Failed, 1, 0, &broken_off)));
    // Behind its last event an answer says nothing more, whatever it says.
    let more = stream([piece("one "), finish(), piece("two"), Act::Close]);
    rows.push((vec![more], ("one ", End::Stop, 1, 0, SAID)));
    check(rows).await;
}

/// Each event counts for what it takes in memory, however few bytes it comes in.
#[tokio::test(start_paused = true)]
async fn many_small_events_are_much() {
    let one = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let bounds = patient("a").bounds;
    for (events, end_of) in [(1_500, End::Stop), (3_000, End::Failed)] {
        assert!(one.len() * events < bounds.answer_bytes, "by its bytes alone it would fit");
        let stage = Arc::new(Stage::default());
        stage.script("a", [stream([part(one.repeat(events)), finish(), end()])]);
        let remote = remote(&stage, vec![patient("a")]);
        let Heard { told, outcome, .. } = call(&remote, request(), plan(&["a"])).await;
        assert_eq!(outcome.end, end_of, "{:?}", outcome.fault);
        match end_of {
            End::Stop => assert_eq!(told.len(), events),
            _ => assert!(told.len() <= bounds.events(), "{} events", told.len()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_drops_a_call_closes_its_connection() {
    for (acts, told) in [
        (vec![Act::Silence], ""),
        (vec![head(), Act::Silence], ""),
        (vec![head(), piece("one "), piece("two "), Act::Silence], "one two "),
    ] {
        let stage = Arc::new(Stage::default());
        stage.script("a", [React::Do(acts)]);
        let remote = remote(&stage, vec![provider("a")]);
        let (listener, receiver) = listener(usize::MAX);
        let since = Instant::now();
        let call = remote.send(request(), plan(&["a", "a"]), listener);
        sleep(Duration::from_millis(50)).await;
        drop(call);
        let heard = heard(receiver, since).await;
        assert_eq!((heard.told.as_str(), heard.ms), (told, 50));
        let outcome = heard.outcome;
        assert_eq!((outcome.end, outcome.tries), (End::Cancelled, 1));
        assert_eq!(outcome.attempts[0].ended, Ended::Cancelled);
        // What was asked may be charged for: the plan's prompt, and what came.
        let usage = outcome.attempts[0].usage;
        assert!(outcome.attempts[0].estimated);
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (11, told.len() as u32 / 4));
        sleep(Duration::from_millis(1)).await;
        assert_eq!(stage.log(), "a dial, a ask, a gone");
        assert!(remote.facts().iter().all(|facts| facts.in_flight == 0 && facts.busy.0 == 0));
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_listening_closes_its_connection() {
    let stage = Arc::new(Stage::default());
    stage.script("a", [stream([piece("one "), piece("two "), Act::Silence])]);
    let remote = remote(&stage, vec![provider("a")]);
    let (listener, receiver) = listener(1);
    let call = remote.send(request(), plan(&["a"]), listener);
    let heard = heard(receiver, Instant::now()).await;
    assert_eq!((heard.told.as_str(), heard.outcome.end), ("one ", End::Cancelled));
    assert!(heard.outcome.estimated && heard.outcome.usage.prompt_tokens == 11);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(stage.log(), "a dial, a ask, a gone");
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn a_call_has_a_time_of_its_own() {
    let stage = Arc::new(Stage::default());
    stage.script("a", [status(500, "", ""), React::Do(vec![Act::Silence])]);
    stage.script("b", [React::Do(vec![Act::Silence])]);
    let remote = remote(&stage, vec![provider("a"), provider("b")]);
    let total = Some(Duration::from_millis(1_500));
    let plan = ingle_gateway::remote::Plan { total, ..plan(&["a", "b"]) };
    let heard = call(&remote, request(), plan).await;
    assert_eq!((heard.ms, heard.outcome.end, heard.outcome.tries), (1_500, End::Failed, 2));
    let fault = heard.outcome.fault.expect("it failed");
    assert!(fault.message.contains("1500 ms were over"), "{fault}");
}

#[tokio::test(start_paused = true)]
async fn another_is_asked_beside_one_that_is_slow() {
    let hedging =
        |name: &str| Upstream { hedge_after: Some(Duration::from_millis(500)), ..provider(name) };
    let slow = |ms| React::Do(vec![Act::Wait(ms), head(), piece("slow"), finish(), end()]);
    let stage = Arc::new(Stage::default());
    let remote = remote(&stage, vec![hedging("a"), provider("b")]);

    // The second answers first; the first is dropped, and accounted for.
    stage.script("a", [slow(5_000)]);
    let heard = call(&remote, request(), plan(&["a", "b"])).await;
    assert_eq!((heard.told.as_str(), heard.ms), (ALL, 500));
    let outcome = heard.outcome;
    assert_eq!((outcome.provider.as_str(), outcome.tries), ("b", 2));
    let ended: Vec<_> = outcome.attempts.iter().map(|one| (&*one.provider, &one.ended)).collect();
    assert_eq!(ended, [("a", &Ended::Cancelled), ("b", &Ended::Answered)]);
    assert!(outcome.attempts[0].estimated && outcome.attempts[0].usage.prompt_tokens == 11);
    assert!(outcome.attempts[1].hedge && !outcome.attempts[1].estimated);
    assert_eq!(outcome.hosts, ["a", "b"]);
    let route = outcome.route.iter().map(|step| (&*step.candidate, step.taken));
    assert_eq!(route.collect::<Vec<_>>(), [("a/m", false), ("b/m", true)]);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(stage.log(), "a dial, a ask, b dial, b ask, a gone");

    // The first answers first after all.
    stage.script("a", [slow(600)]);
    stage.script("b", [slow(5_000)]);
    let heard = call(&remote, request(), plan(&["a", "b"])).await;
    assert_eq!((heard.told.as_str(), heard.ms, heard.outcome.tries), ("slow", 600, 2));
    assert_eq!(heard.outcome.provider, "a");

    // Where there is no other, it is asked once more.
    stage.script("a", [slow(5_000), good()]);
    let heard = call(&remote, request(), plan(&["a"])).await;
    assert_eq!((heard.told.as_str(), heard.ms, heard.outcome.tries), (ALL, 500, 2));

    // Who answers in time is alone.
    stage.script("a", [slow(400)]);
    let heard = call(&remote, request(), plan(&["a", "b"])).await;
    assert_eq!((heard.told.as_str(), heard.ms, heard.outcome.tries), ("slow", 400, 1));

    // One of both fails: the other is waited for.
    stage.script("a", [slow(900)]);
    stage.script("b", [React::Refuse]);
    sleep(Duration::from_secs(60)).await; // kept connections are closed by then
    let heard = call(&remote, request(), plan(&["a", "b"])).await;
    assert_eq!((heard.told.as_str(), heard.ms, heard.outcome.tries), ("slow", 900, 2));
}

#[tokio::test(start_paused = true)]
async fn faults_say_who_and_what_next() {
    let stage = Arc::new(Stage::default());
    let remote = remote(&stage, vec![provider("a"), provider("b")]);
    let said = "{\"error\":{\"message\":\"too long\",\"type\":\"invalid_request_error\"}}";
    stage.script("a", [status(400, "", said)]);
    let fault = call(&remote, request(), plan(&["a", "b"])).await.outcome.fault.expect("failed");
    assert_eq!((fault.blame, fault.retry), (Blame::Caller, Retry::Never));
    assert!(fault.message.contains("too long"), "{fault}");

    stage.script("a", [status(401, "", &format!("{{\"error\":{{\"message\":\"key {KEY}\"}}}}"))]);
    let outcome = call(&remote, request(), plan(&["a"])).await.outcome;
    let fault = outcome.fault.expect("it failed");
    assert_eq!(fault.blame, Blame::Provider);
    assert!(!fault.message.contains(KEY) && fault.message.starts_with("`a`: "), "{fault}");

    stage.script("a", [status(429, "retry-after: 60\r\n", "")]);
    stage.script("b", [status(429, "retry-after: 30\r\n", "")]);
    let fault = call(&remote, request(), plan(&["a", "b"])).await.outcome.fault.expect("failed");
    assert_eq!(fault.retry, Retry::After(Duration::from_secs(30)));
    assert!(fault.message.contains("a/m: it answered 429; b/m: it answered 429"), "{fault}");

    let outcome = call(&remote, request(), plan(&["nobody"])).await.outcome;
    let fault = outcome.fault.expect("it failed");
    assert_eq!((fault.message.as_str(), outcome.tries), ("there is no provider `nobody`", 0));
    let outcome = call(&remote, request(), plan(&[])).await.outcome;
    assert_eq!((outcome.end, outcome.tries, outcome.route.len()), (End::Failed, 0, 0));
}
