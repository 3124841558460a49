//! What calls share: connections, room, breakers, limits and measurements.

use std::sync::Arc;
use std::time::Duration;

use ingle_gateway::remote::{
    Bounds, BreakerSettings, BreakerStanding, Plan, Remote, Secret, Upstream,
};
use ingle_protocol::{Blame, End, Retry};
use tokio::time::{Instant, sleep};

use super::upstream::*;

fn failing() -> React {
    status(500, "", "{}")
}

#[tokio::test(start_paused = true)]
async fn candidates_are_asked_in_order() {
    let stage = Arc::new(Stage::default());
    let once = |name| Upstream { retries: 0, ..provider(name) };
    let remote = remote(&stage, vec![once("a"), once("b"), once("c")]);
    stage.script("a", [failing()]);
    stage.script("b", [React::Refuse]);
    let heard = call(&remote, request(), plan(&["a/x", "b/y", "c/z"])).await;
    assert_eq!((heard.told.as_str(), heard.ms), ("one two three", 0));
    let outcome = heard.outcome;
    let route: Vec<(&str, bool, &str)> = outcome
        .route
        .iter()
        .map(|step| (step.candidate.as_str(), step.taken, step.reason.as_str()))
        .collect();
    let expect = [
        ("a/x", false, "it answered 500"),
        ("b/y", false, "it refuses connections"),
        ("c/z", true, "it answered"),
    ];
    assert_eq!(route, expect);
    assert_eq!((outcome.provider.as_str(), outcome.model.as_str()), ("c", "z"));
    assert_eq!((outcome.tries, outcome.end, outcome.estimated), (3, End::Stop, false));
    assert_eq!((outcome.usage.prompt_tokens, outcome.usage.completion_tokens), (7, 3));
    // Nothing was sent to who refused.
    assert_eq!(outcome.hosts, ["a", "c"]);
    let body = stage.seen.lock().expect("no panic")["a"].1.len() as u64;
    assert_eq!(outcome.bytes_out, 2 * body);
    assert_eq!(stage.log(), "a dial, a ask, b dial, c dial, c ask");
    assert!(outcome.left_machine());
}

#[tokio::test(start_paused = true)]
async fn a_loopback_server_is_no_way_out() {
    let stage = Arc::new(Stage::default());
    let here = Upstream { url: "http://localhost:8080/v1".into(), ..provider("here") };
    let remote = remote(&stage, vec![here]);
    let outcome = call(&remote, request(), plan(&["here"])).await.outcome;
    assert_eq!((outcome.hosts.len(), outcome.left_machine()), (0, false));
    assert!(outcome.bytes_out > 0 && !outcome.receipt().left_machine);
}

#[tokio::test(start_paused = true)]
async fn who_fails_too_often_is_left_alone() {
    let stage = Arc::new(Stage::default());
    let breaker = BreakerSettings { consecutive: 3, cooldown_ms: 10_000, ..Default::default() };
    let a = Upstream { retries: 0, breaker, ..provider("a") };
    let remote = remote(&stage, vec![a, provider("b")]);
    stage.script("a", [failing(), failing(), failing()]);
    for _ in 0..3 {
        assert_eq!(call(&remote, request(), plan(&["a"])).await.outcome.end, End::Failed);
    }
    assert_eq!(remote.facts()[0].breaker, BreakerStanding::Open { until_ms: 10_000 });
    stage.log();

    // Nothing is sent to it: the next is asked, or the call fails at once and says for how long.
    sleep(Duration::from_secs(4)).await;
    let outcome = call(&remote, request(), plan(&["a", "b"])).await.outcome;
    assert_eq!((outcome.provider.as_str(), outcome.tries), ("b", 1));
    let alone = "it failed too often, and is left alone for 6000 ms";
    assert_eq!(outcome.route[0].reason, alone);
    let fault = call(&remote, request(), plan(&["a"])).await.outcome.fault.expect("it failed");
    assert_eq!(fault.retry, Retry::After(Duration::from_secs(6)));
    assert_eq!(stage.log(), "b dial, b ask");
    // Its other models are others.
    let outcome = call(&remote, request(), plan(&["a/other"])).await.outcome;
    assert_eq!(outcome.end, End::Stop);

    // One probe fails: twice as long. Then one answers.
    sleep(Duration::from_secs(6)).await;
    stage.script("a", [failing()]);
    assert_eq!(call(&remote, request(), plan(&["a"])).await.outcome.tries, 1);
    assert_eq!(remote.facts()[0].breaker, BreakerStanding::Open { until_ms: 20_000 });
    sleep(Duration::from_secs(20)).await;
    assert_eq!(remote.facts()[0].breaker, BreakerStanding::HalfOpen { probing: false });
    assert_eq!(call(&remote, request(), plan(&["a"])).await.outcome.end, End::Stop);
    assert_eq!(remote.facts()[0].breaker, BreakerStanding::Closed);
    let facts = &remote.facts()[0];
    assert_eq!((facts.tries, facts.answers, facts.failures), (5, 1, 4));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_cancelled_lets_the_next_one_probe() {
    let stage = Arc::new(Stage::default());
    let breaker = BreakerSettings { consecutive: 1, cooldown_ms: 1_000, ..Default::default() };
    let a = Upstream { retries: 0, breaker, ..provider("a") };
    let remote = remote(&stage, vec![a]);
    stage.script("a", [failing(), React::Do(vec![Act::Silence])]);
    call(&remote, request(), plan(&["a"])).await;
    sleep(Duration::from_secs(1)).await;
    let (sink, receiver) = listener(usize::MAX);
    let probe = remote.send(request(), plan(&["a"]), sink);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(remote.facts()[0].breaker, BreakerStanding::HalfOpen { probing: true });
    let outcome = call(&remote, request(), plan(&["a"])).await.outcome;
    assert_eq!(outcome.route[0].reason, "it failed too often, and another request tries it now");
    drop(probe);
    assert_eq!(heard(receiver, Instant::now()).await.outcome.end, End::Cancelled);
    assert_eq!(call(&remote, request(), plan(&["a"])).await.outcome.end, End::Stop);
    assert_eq!(remote.facts()[0].breaker, BreakerStanding::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_wrong_opens_no_breaker() {
    let stage = Arc::new(Stage::default());
    let breaker = BreakerSettings { consecutive: 1, ..Default::default() };
    let remote = remote(&stage, vec![Upstream { breaker, ..provider("a") }]);
    stage.script("a", [status(400, "", "{}"), status(413, "", "{}"), status(422, "", "{}")]);
    for _ in 0..3 {
        call(&remote, request(), plan(&["a"])).await;
    }
    assert_eq!(remote.facts()[0].breaker, BreakerStanding::Closed);
}

#[tokio::test(start_paused = true)]
async fn who_wants_to_be_left_alone_is() {
    let stage = Arc::new(Stage::default());
    let remote = remote(&stage, vec![provider("a"), provider("b")]);
    stage.script("a", [status(429, "retry-after: 60\r\n", "{}")]);
    call(&remote, request(), plan(&["a"])).await;
    assert_eq!(remote.facts()[0].limited_ms, 60_000);
    stage.log();
    let outcome = call(&remote, request(), plan(&["a", "b"])).await.outcome;
    assert_eq!((outcome.provider.as_str(), outcome.tries), ("b", 1));
    let wait = "it wants to be left alone for another 60000 ms";
    assert_eq!(outcome.route[0].reason, wait);
    // Where there is no other, a short while is waited.
    sleep(Duration::from_secs(55)).await;
    let heard = call(&remote, request(), plan(&["a"])).await;
    assert_eq!((heard.outcome.end, heard.ms), (End::Stop, 5_000));
}

/// What a provider says of itself is believed for an hour at most, and stops nothing of ours.
#[tokio::test(start_paused = true)]
async fn nobody_is_left_alone_for_ever() {
    for field in [
        "retry-after: 18446744073709551615",
        "retry-after-ms: 18446744073709551615",
        "retry-after: Fri, 31 Dec 9999 23:59:59 GMT",
    ] {
        let stage = Arc::new(Stage::default());
        let remote = remote(&stage, vec![provider("a")]);
        stage.script("a", [status(429, &format!("{field}\r\n"), "{}")]);
        let plan_within = Plan { total: Some(Duration::from_secs(600)), ..plan(&["a"]) };
        let fault = call(&remote, request(), plan_within).await.outcome.fault.expect("it failed");
        assert_eq!(fault.retry, Retry::After(Duration::from_secs(3600)), "{field}: {fault}");
        assert_eq!(remote.facts()[0].limited_ms, 3_600_000, "{field}");
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(call(&remote, request(), plan(&["a"])).await.outcome.end, End::Stop, "{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_has_so_much_room() {
    let stage = Arc::new(Stage::default());
    let small = |waiting| Upstream { max_concurrent: 1, max_waiting: waiting, ..provider("a") };
    let slow = || React::Do(vec![Act::Wait(1_000), head(), piece("hi"), finish(), end()]);
    stage.script("a", [slow(), slow(), slow()]);
    let both = remote(&stage, vec![small(1), provider("b")]);
    let (first, second) =
        tokio::join!(call(&both, request(), plan(&["a"])), call(&both, request(), plan(&["a"])),);
    assert_eq!((first.ms, second.ms), (1_000, 2_000));
    // Where there is another, nobody waits; where too many wait, no more do.
    let plans = [plan(&["a"]), plan(&["a", "b"]), plan(&["a"]), plan(&["a"])];
    let [one, two, three, four] = plans.map(|plan| call(&both, request(), plan));
    let (one, two, three, four) = tokio::join!(one, two, three, four);
    assert_eq!((one.outcome.provider.as_str(), two.outcome.provider.as_str()), ("a", "b"));
    assert_eq!(two.outcome.route[0].reason, "it has 1 requests already");
    assert_eq!((one.ms, two.ms, three.ms), (1_000, 0, 1_000));
    assert_eq!((three.outcome.end, four.outcome.end), (End::Stop, End::Failed));
    let fault = four.outcome.fault.expect("it failed");
    assert_eq!(fault.retry, Retry::After(Duration::from_secs(1)));
}

/// All answers under way have so much room together, beside the first MiB of each.
#[tokio::test(start_paused = true)]
async fn long_answers_share_their_room() {
    let stage = Arc::new(Stage::default());
    let bounds = Bounds { all_bytes: (1 << 20) + (16 << 10), ..Bounds::USUAL };
    let remote = remote(&stage, vec![Upstream { bounds, ..provider("a") }]);
    let half = "a".repeat(512 << 10);
    let long = |last: Vec<Act>| {
        let acts = [head(), piece(&half), piece(&half), piece(&half)];
        React::Do(acts.into_iter().chain(last).collect())
    };
    stage.script("a", [long(vec![Act::Silence]), long(vec![Act::Silence])]);
    let [one, two] = [(); 2].map(|()| {
        let (sink, receiver) = listener(usize::MAX);
        (remote.send(request(), plan(&["a"]), sink), receiver)
    });
    sleep(Duration::from_millis(1)).await;

    stage.script("a", [long(vec![finish(), end()])]);
    let Heard { told, outcome, .. } = call(&remote, request(), plan(&["a"])).await;
    assert_eq!((told.len(), outcome.end), (2 * half.len(), End::Failed));
    let fault = outcome.fault.expect("it failed");
    assert_eq!((fault.blame, fault.retry), (Blame::Us, Retry::WhenReady(Duration::from_secs(1))));
    assert_eq!(remote.facts()[0].failures, 0, "its provider is not to blame");
    // A short one has room at all times, and a long one as soon as another has ended.
    assert_eq!(call(&remote, request(), plan(&["a"])).await.outcome.end, End::Stop);
    drop(one.0);
    let heard_of_one = heard(one.1, Instant::now()).await;
    assert_eq!(
        (heard_of_one.told.len(), heard_of_one.outcome.end),
        (3 * half.len(), End::Cancelled)
    );
    stage.script("a", [long(vec![finish(), end()])]);
    let heard_of_last = call(&remote, request(), plan(&["a"])).await;
    assert_eq!((heard_of_last.told.len(), heard_of_last.outcome.end), (3 * half.len(), End::Stop));
    drop(two);
}

#[tokio::test(start_paused = true)]
async fn connections_are_kept_and_renewed() {
    let stage = Arc::new(Stage::default());
    let remote = remote(&stage, vec![provider("a")]);
    for _ in 0..3 {
        assert_eq!(call(&remote, request(), plan(&["a"])).await.outcome.tries, 1);
    }
    assert_eq!(stage.log(), "a dial, a ask, a ask, a ask");
    // An error's is kept, too.
    stage.script("a", [failing()]);
    assert_eq!(call(&remote, request(), plan(&["a"])).await.outcome.tries, 2);
    assert_eq!(stage.log(), "a ask, a ask");
    // It is not used for ever.
    sleep(Duration::from_secs(60)).await;
    call(&remote, request(), plan(&["a"])).await;
    assert_eq!(stage.log(), "a dial, a gone, a ask");
    // One that was closed while it was kept is no failure.
    let React::Do(mut closing) = good() else { unreachable!("it writes") };
    closing.push(Act::Close);
    stage.script("a", [React::Do(closing)]);
    call(&remote, request(), plan(&["a"])).await;
    sleep(Duration::from_millis(10)).await;
    let outcome = call(&remote, request(), plan(&["a"])).await.outcome;
    assert_eq!((outcome.tries, outcome.end), (1, End::Stop));
    assert_eq!(stage.log(), "a ask, a gone, a dial, a ask");
    // Who closes it only once asked is asked again, and is not blamed.
    stage.script("a", [React::Do(vec![Act::Close])]);
    let outcome = call(&remote, request(), plan(&["a"])).await.outcome;
    assert_eq!((outcome.tries, outcome.end), (2, End::Stop));
    assert_eq!(remote.facts()[0].failures, 1);
}

#[tokio::test(start_paused = true)]
async fn times_are_measured() {
    let stage = Arc::new(Stage::default());
    let remote = remote(&stage, vec![provider("a")]);
    let slow = [Act::Wait(100), head(), Act::Wait(100), piece("a"), Act::Wait(50), piece("b")];
    let slow = slow.into_iter().chain([Act::Wait(50), finish(), Act::Wait(300), end()]);
    stage.script("a", [React::Do(slow.collect())]);
    let heard = call(&remote, request(), plan(&["a"])).await;
    let times = heard.outcome.times;
    let ms = |time: Duration| time.as_millis();
    assert_eq!((ms(times.connected), ms(times.first_byte)), (0, 100));
    assert_eq!((ms(times.first_token), ms(times.total)), (200, 300));
    let facts = &remote.facts()[0];
    assert_eq!((facts.ttft_ms, facts.ms_per_token), (Some(200.0), Some(50.0)));
    // The connection is kept once the body's own end has come.
    sleep(Duration::from_millis(500)).await;
    call(&remote, request(), plan(&["a"])).await;
    assert_eq!(stage.log(), "a dial, a ask, a ask");
    let metrics = remote.metrics(|_, _| false);
    let names: Vec<&str> = metrics.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), 7);
    assert_eq!(metrics[0].model.as_deref(), Some("a/m"));
}

/// Names of models that callers thought up, each a cheap 404, take nothing from those that are.
#[tokio::test(start_paused = true)]
async fn names_that_callers_think_up_crowd_nobody_out() {
    let stage = Arc::new(Stage::default());
    let breaker = BreakerSettings { consecutive: 2, cooldown_ms: 10_000, ..Default::default() };
    let remote = remote(&stage, vec![Upstream { retries: 0, breaker, ..provider("a") }]);
    let flood = async |from: usize, to: usize| {
        for n in from..to {
            stage.script("a", [status(404, "", "{}")]);
            let name = format!("a/made-up-{n}");
            assert_eq!(
                call(&remote, request(), plan(&[name.as_str()])).await.outcome.end,
                End::Failed
            );
        }
    };
    let known = |name: &str| remote.fact("a", name).map(|facts| (facts.answers, facts.breaker));
    assert_eq!(call(&remote, request(), plan(&["a/good"])).await.outcome.end, End::Stop);
    sleep(Duration::from_millis(1)).await;
    flood(0, 1024).await;
    sleep(Duration::from_millis(1)).await;

    // Who comes after them is known, and left alone where it fails.
    for _ in 0..2 {
        stage.script("a", [failing()]);
        call(&remote, request(), plan(&["a/ill"])).await;
    }
    let open = BreakerStanding::Open { until_ms: 10_000 };
    assert_eq!(known("ill"), Some((0, open)));
    // One that is asked just now, who answered, and who is left alone stay, however many come.
    stage.script("a", [React::Do(vec![Act::Silence])]);
    let (sink, receiver) = listener(usize::MAX);
    let under_way = remote.send(request(), plan(&["a/slow"]), sink);
    sleep(Duration::from_millis(1)).await;
    flood(1024, 2100).await;
    assert_eq!(known("slow"), Some((0, BreakerStanding::Closed)));
    assert_eq!(known("good"), Some((1, BreakerStanding::Closed)));
    assert_eq!(known("ill"), Some((0, BreakerStanding::Open { until_ms: 9_999 })));
    assert_eq!((known("made-up-0"), remote.facts().len()), (None, 1024));
    assert_eq!(remote.fact("nobody", "m"), None);
    drop(under_way);
    assert_eq!(heard(receiver, Instant::now()).await.outcome.end, End::Cancelled);

    // What they wrote is no label.
    let metrics = remote.metrics(|provider, model| (provider, model) == ("a", "ill"));
    let mut labels: Vec<&str> = metrics.iter().filter_map(|it| it.model.as_deref()).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels, ["a/good", "a/ill"]);
}

/// Other providers come, and who is among them as before keeps what was learnt, and connections.
#[tokio::test(start_paused = true)]
async fn who_did_not_change_goes_on_after_a_change() {
    let stage = Arc::new(Stage::default());
    let breaker = BreakerSettings { consecutive: 1, cooldown_ms: 10_000, ..Default::default() };
    let ill = Upstream { retries: 0, breaker, ..provider("b") };
    let before = remote(&stage, vec![provider("a"), ill.clone(), provider("c")]);
    stage.script("b", [failing()]);
    for name in ["a", "b", "c"] {
        call(&before, request(), plan(&[name])).await;
    }
    sleep(Duration::from_secs(2)).await;
    stage.log();
    let known = |remote: &Remote, name: &str| {
        let facts = remote.facts().into_iter().find(|facts| facts.provider == name);
        facts.map(|facts| (facts.tries, facts.breaker))
    };
    let changed = Upstream { retries: 7, ..provider("c") };
    let after = before.after(vec![provider("a"), ill, changed]).expect("the settings are right");
    let open = BreakerStanding::Open { until_ms: 8_000 };
    assert_eq!(known(&after, "a"), Some((1, BreakerStanding::Closed)));
    assert_eq!(known(&after, "b"), Some((1, open)), "on the clock that it was opened by");
    assert_eq!(known(&after, "c"), None, "another one is not known");
    call(&after, request(), plan(&["a"])).await;
    assert_eq!(stage.log(), "a ask", "over the connection that was there");
    assert_eq!(known(&before, "a"), known(&after, "a"), "it is one provider");

    // Another key is another provider: what it may do is not known.
    let other = Upstream { key: Some(Secret::new("sk-another")), ..provider("a") };
    let other = after.after(vec![other]).expect("the settings are right");
    assert_eq!((known(&other, "a"), known(&other, "b")), (None, None));
}

/// Who is gone has no connections any more, as soon as nobody talks to it.
#[tokio::test(start_paused = true)]
async fn who_is_gone_is_let_go() {
    let stage = Arc::new(Stage::default());
    let before = remote(&stage, vec![provider("a"), provider("b"), provider("c")]);
    for name in ["a", "b", "c"] {
        call(&before, request(), plan(&[name])).await;
    }
    stage.script("c", [React::Do(vec![Act::Wait(1_000), head(), piece("hi"), finish(), end()])]);
    let (sink, receiver) = listener(usize::MAX);
    let since = Instant::now();
    let under_way = before.send(request(), plan(&["c"]), sink);
    sleep(Duration::from_millis(1)).await;
    stage.log();
    // Another policy that was read and is not held changes nothing.
    drop(before.after(vec![provider("a")]).expect("the settings are right"));
    call(&before, request(), plan(&["b"])).await;
    assert_eq!(stage.log(), "b ask");

    let after = before.after(vec![provider("a")]).expect("the settings are right");
    drop(before);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(stage.log(), "", "who was told of them still talks to one of them");
    assert_eq!(heard(receiver, since).await.outcome.end, End::Stop);
    drop(under_way);
    sleep(Duration::from_millis(10)).await;
    let mut gone: Vec<String> = stage.log().split(", ").map(str::to_owned).collect();
    gone.sort();
    assert_eq!(gone, ["b gone", "c gone"]);
    call(&after, request(), plan(&["a"])).await;
    assert_eq!(stage.log(), "a ask", "over the connection that was there");
}
