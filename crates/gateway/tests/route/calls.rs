//! Who is asked, and what is kept of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ingle_gateway::Provider;
use ingle_protocol::{
    Blame, Chat, Encoding, End, Fault, Format, Input, Message, Origin, Passage, Request, Retry,
    ToolCall, Verbatim, Weighing, Written,
};

use crate::house::{House, Say};
use crate::upstream::{Act, React, end, finish, good, head, part, piece, raw, request, status};

/// Two providers that may see everything, and this machine.
pub(crate) const POLICY: &str = r#"
default_class = "open"
[providers.a]
kind = "compatible"
url = "https://a/v1"
retries = 0
[providers.b]
kind = "compatible"
url = "https://b/v1"
retries = 0
[classes.open]
providers = ["a", "b"]
[models.chain]
candidates = ["a/m", "b/m", "local/small"]
[models.near]
candidates = ["local/small", "a/m"]
[models.one]
candidates = ["a/m", "local/small"]
[models.far]
candidates = ["a/m"]
[prices."a/m"]
input_per_million = 1
output_per_million = 1
[prices."b/m"]
input_per_million = 1
output_per_million = 1
"#;

/// A conversation with the model of that name.
pub(crate) fn asks(model: &str) -> Request {
    Request { model: model.into(), max_tokens: Some(50), ..request() }
}

#[tokio::test(start_paused = true)]
async fn what_is_of_this_machine_alone_is_not_done_by_another_of_its_models() {
    let check = |model: &str, models: Option<&[&str]>, expect: Result<&str, &str>| {
        let house = House::new(POLICY);
        let list = models.map(|all| all.iter().map(|it| (*it).to_owned()).collect());
        let origin = Origin { key: "k".into(), models: list, ..Origin::default() };
        let encoding = Encoding {
            model: model.into(),
            inputs: vec![Passage::text("a text")],
            origin: Some(Arc::new(origin)),
            ..Encoding::default()
        };
        let read = house.gateway.encode(&encoding, Arc::new(AtomicBool::new(false)));
        let seen = house.here.read.lock().expect("no panic").clone();
        match (read, expect) {
            (Ok(_), Ok(expect)) => assert_eq!(seen, [expect], "{model}"),
            (Err(fault), Err(expect)) => {
                assert!(fault.message.contains(expect), "{model}: {fault}");
                assert!(fault.param.as_deref() == Some("model") && seen.is_empty(), "{model}");
            }
            (read, _) => panic!("{model}: {read:?}, not {expect:?}"),
        }
    };
    let elsewhere = Err("is not on this machine");
    check("small", None, Ok("small"));
    check("", None, Ok(""));
    check("near", None, Ok("small"));
    check("one", None, Ok("small"));
    check("far", None, elsewhere);
    check("a/m", None, elsewhere);
    check("one", Some(&["one"]), Ok("small"));
    check("one", Some(&["one", "a/m"]), Err("the key `k` may not use it"));
    let house = House::new(POLICY);
    let gateway = &house.gateway;
    assert!(gateway.render("far", &Chat::default()).is_err());
    assert!(gateway.tokenize("a/m", "text", false).is_err());
    assert!(gateway.detokenize("far", &[1]).is_err());
    assert!(gateway.tokenize("near", "text", false).is_ok());
}

/// A name for a model that is elsewhere lands in receipts and addresses.
#[tokio::test(start_paused = true)]
async fn names_of_models_elsewhere_are_bounded_and_plain() {
    let check = |name: &str, expect: bool| {
        let house = House::new(POLICY);
        let found = house.gateway.find(name).expect("it is looked for");
        assert_eq!(found.is_some(), expect, "{name:?}");
    };
    check("a/m", true);
    check("a/org/m:free", true);
    check("far", true);
    check(&format!("a/{}", "x".repeat(254)), true);
    check(&format!("a/{}", "x".repeat(255)), false);
    for odd in ["a/m\n", "a/\u{1b}[31m", "a/m\u{7f}", "a/\u{85}m", "a/\0"] {
        check(odd, false);
        let house = House::new(POLICY);
        let said = house.ask(asks(&format!("{odd}{}", "y".repeat(10_000)))).await;
        assert_eq!(said.by(), "Caller Never");
        assert!(said.entry.asked.len() < 128, "{:?}", said.entry.asked);
        let kept = format!("{:?}", said.entry);
        assert!(!said.entry.asked.contains(char::is_control), "{kept}");
        assert!(said.entry.route.iter().all(|it| !it.candidate.contains(char::is_control)));
        assert_eq!(house.asked(), "");
    }
}

/// What a provider says itself, and what its caller wrote.
const THEIRS: &str = "PROVIDERS-WORDS";
const CALLERS: &str = "CALLERS-TEXT";

/// Nothing of either is in any entry of this house.
fn assert_silent(house: &House) {
    let notes = &house.notes;
    let begun = notes.begun.lock().expect("no panic").clone();
    let amended = notes.amended.lock().expect("no panic").clone();
    let ended = notes.ended.lock().expect("no panic").clone();
    let noted = notes.noted.lock().expect("no panic").clone();
    let kept = format!("{begun:?} {amended:?} {ended:?} {noted:?}");
    assert!(!kept.contains(THEIRS) && !kept.contains(CALLERS), "{kept}");
}

#[tokio::test(start_paused = true)]
async fn no_word_of_anybody_is_in_an_entry() {
    let body =
        format!("{{\"error\":{{\"message\":\"{THEIRS} {CALLERS}\",\"param\":\"{THEIRS}\"}}}}");
    let event = format!("data: {body}\n\n");
    let broken = React::Do(vec![head(), part(&event), Act::Close]);
    let cut = React::Do(vec![head(), piece("one "), part(&event), Act::Close]);
    let page = format!("<html>{THEIRS}");
    let page = raw(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n{page}",
        page.len()
    ));
    let rows = [
        (status(400, "", &body), "it answered 400"),
        (status(401, "", &body), "it answered 401"),
        (status(429, "retry-after: 60\r\n", &body), "it answered 429"),
        (status(500, "", &body), "it answered 500"),
        (broken, "its answer told of an error, or could not be read"),
        (cut, "it answered in part: its answer told of an error, or could not be read"),
        (page, "its answer is of the type \"text/html\", which is not its format's"),
        (React::Refuse, "it refuses connections"),
    ];
    for (reaction, expect) in rows {
        let house = House::new(POLICY);
        house.stage.script("a", [reaction]);
        let mut asks = asks("far");
        if let ingle_protocol::Input::Chat(chat) = &mut asks.input {
            chat.messages[0].content = CALLERS.into();
        }
        let said = house.ask(asks).await;
        assert!(said.end.is_err() && said.entry.end == End::Failed, "{expect}");
        let reason = said.reason("a/m");
        assert!(reason.ends_with(&format!("; tried: {expect}")), "{reason}");
        assert_silent(&house);
    }
}

#[tokio::test(start_paused = true)]
async fn what_this_machine_says_is_kept_in_fixed_words() {
    let second = Duration::from_secs(1);
    let fault = |blame, retry| Fault { blame, retry, ..Fault::caller(CALLERS).at(CALLERS) };
    let rows = [
        (fault(Blame::Caller, Retry::Never), "it cannot answer this request"),
        (Fault::late(second, CALLERS), "it cannot answer in the time that the request gives"),
        (fault(Blame::Provider, Retry::Elsewhere), "its provider failed"),
        (Fault::busy(second, CALLERS), "it is full"),
        (Fault::not_ready(second, CALLERS), "it is not ready yet"),
        (Fault::ours(CALLERS), "it failed"),
    ];
    for (fault, expect) in rows {
        for say in [Say::Refuse(fault.clone()), Say::Fail(fault.clone())] {
            let house = House::new(POLICY);
            house.here.script.lock().expect("no panic").push_back(say);
            let said = house.ask(asks("small")).await;
            assert_eq!(said.end.as_ref().expect_err("it fails"), &fault, "its caller is told all");
            assert!(said.reason("local/small").ends_with(&format!("; tried: {expect}")));
            assert_silent(&house);
        }
    }
    // Where a request cannot be looked at, in which place that is may be the caller's words.
    let house = House::new(&POLICY.replace("[\"a\", \"b\"]", "[\"a\", \"b\"]\nredact = true"));
    let body = format!("{{\"{CALLERS}\":\"data:image/png;base64,AAAA\"}}");
    let verbatim = Some(Arc::new(Verbatim { format: Format::Chat, body }));
    let origin = Some(Arc::new(Origin { verbatim, ..Origin::default() }));
    let said = house.ask(Request { origin, ..asks("far") }).await;
    assert_eq!(said.by(), "Policy Never");
    assert!(said.reason("a/m").contains("the detector failed: it holds a picture"));
    assert_silent(&house);
}

/// A book on another machine gets no words of what may not leave, whoever answered.
#[tokio::test(start_paused = true)]
async fn words_that_stay_are_in_no_book_elsewhere() {
    let check = async |policy: &str, classes: &[&str], expect: bool| {
        let house = House::new(policy);
        let classes = classes.iter().map(|it| (*it).to_owned()).collect();
        let origin = Some(Arc::new(Origin { classes, ..Origin::default() }));
        let said = house.ask(Request { origin, ..asks("small") }).await;
        assert_eq!(said.by(), "local/small");
        let kept = house.notes.contents.lock().expect("no panic").len();
        assert_eq!(kept, usize::from(expect), "{policy}: {:?}", said.entry.classes);
    };
    let policy = format!("{POLICY}[classes.secret]\nlocal_only = true\n");
    check(&policy, &[], true).await;
    check(&policy, &["open"], true).await;
    check(&policy, &["secret"], false).await;
    check(&policy, &["open", "secret"], false).await;
    check(&policy, &["unheard-of"], false).await;
    let unclassed = policy.replace("default_class = \"open\"", "");
    check(&unclassed, &[], false).await;
    // Who has no classes has said nothing of where words may be.
    check("", &[], true).await;
}

/// Where a class is blocked by what is found, what nobody can look through is blocked, whoever is
/// asked and in whatever way.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_looked_at_may_be_what_is_blocked() {
    const MAIL: &str = "anna@example.org";
    let rule = "[[rules]]\nclass = \"never\"\ndetected = [\"email\"]\n";
    let policy = format!("{POLICY}[classes.never]\nblock = true\n{rule}");
    let flag = || Arc::new(AtomicBool::new(false));
    let read = |text: Written| {
        let inputs = vec![Passage { text, pair: None }];
        let encoding = Encoding { model: "small".into(), inputs, ..Encoding::default() };
        House::new(&policy).gateway.encode(&encoding, flag()).err().map(|fault| fault.blame)
    };
    assert_eq!(read(Written::Text("a text".into())), None);
    assert_eq!(read(Written::Text(MAIL.into())), Some(Blame::Policy));
    assert_eq!(read(Written::Tokens(vec![1])), Some(Blame::Policy));
    // The machine of these tests weighs nothing, and says that it is the caller's fault.
    let weigh = |input: Input, label: &str| {
        let request = Request { model: "small".into(), input, ..Request::default() };
        let weighing = Weighing { request, labels: vec![label.into()] };
        House::new(&policy).gateway.weigh(&weighing, flag()).map_err(|fault| fault.blame).err()
    };
    let call = ToolCall { arguments: format!("{{\"to\":\"{MAIL}\"}}"), ..ToolCall::default() };
    let turn = Message { role: "assistant".into(), tool_calls: vec![call], ..Message::default() };
    let chat = Chat { messages: vec![turn], ..Chat::default() };
    assert_eq!(weigh(Input::Text("a text".into()), "yes"), Some(Blame::Caller));
    assert_eq!(weigh(Input::Text("a text".into()), MAIL), Some(Blame::Policy));
    assert_eq!(weigh(Input::Tokens(vec![1]), "yes"), Some(Blame::Policy));
    assert_eq!(weigh(Input::Chat(chat), "yes"), Some(Blame::Policy));
    let ask = async |input: Input| {
        let house = House::new(&policy);
        house.ask(Request { input, ..asks("small") }).await.by()
    };
    assert_eq!(ask(Input::Text("a text".into())).await, "local/small");
    assert_eq!(ask(Input::Text(MAIL.into())).await, "Policy Never");
    assert_eq!(ask(Input::Tokens(vec![1])).await, "Policy Never");
}

/// Who is asked after this machine could not, by whose fault that was.
#[tokio::test(start_paused = true)]
async fn what_would_fail_anywhere_is_not_asked_of_others() {
    use Blame::{Budget, Caller, Policy, Provider, Us};
    let check = async |blame: Blame, retry: Retry, goes_on: bool| {
        let fault = Fault { blame, retry, ..Fault::caller("no") };
        for say in [Say::Refuse(fault.clone()), Say::Fail(fault.clone())] {
            let house = House::new(POLICY);
            house.here.script.lock().expect("no panic").push_back(say.clone());
            let said = house.ask(asks("near")).await;
            assert_eq!(said.end.is_ok(), goes_on, "{say:?}");
            let (text, log) = if goes_on { ("one two three", "a") } else { ("", "") };
            assert_eq!((said.text.as_str(), house.asked().as_str()), (text, log), "{say:?}");
        }
    };
    for blame in [Caller, Policy, Budget] {
        check(blame, Retry::Never, false).await;
        check(blame, Retry::Elsewhere, true).await;
    }
    for blame in [Provider, Us] {
        check(blame, Retry::Never, true).await;
        check(blame, Retry::After(Duration::from_secs(1)), true).await;
    }
}

/// A provider that fails with a status after so long.
fn slow(ms: u64) -> React {
    let React::Do(mut acts) = status(500, "", "{}") else { unreachable!("it writes") };
    acts.insert(0, Act::Wait(ms));
    React::Do(acts)
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_when_the_time_that_its_request_gives_is_over() {
    let silence = || React::Do(vec![Act::Silence]);
    let timed = |model, ms| Request { timeout_ms: Some(ms), ..asks(model) };
    // Whatever its provider may take, nobody is asked when the time is over.
    let house = House::new(POLICY);
    house.stage.script("a", [silence()]);
    let said = house.ask(timed("chain", 50)).await;
    let fault = said.end.expect_err("it is too late");
    assert_eq!((said.ms, fault.param.as_deref()), (50, Some("timeout_ms")), "{fault}");
    assert_eq!(house.asked(), "a");
    assert_eq!(house.here.seen.lock().expect("no panic").len(), 0);
    // The provider's own time holds where it is the smaller one, and the next has the rest.
    let policy =
        POLICY.replace("retries = 0\n[classes", "retries = 0\ntotal_timeout_ms = 7\n[classes");
    let policy =
        policy.replace("[\"a/m\", \"b/m\", \"local/small\"]", "[\"b/m\", \"local/small\"]");
    let house = House::new(&policy);
    house.stage.script("b", [silence()]);
    let said = house.ask(timed("chain", 50)).await;
    assert_eq!((said.ms, said.by().as_str()), (7, "local/small"));
    let seen = house.here.seen.lock().expect("no panic").clone();
    assert_eq!(seen[0].timeout_ms, Some(43));
    // Who answers in time does, and who gives no time has as much as there is.
    let house = House::new(POLICY);
    house.stage.script("a", [slow(20)]);
    house.stage.script("b", [React::Do(vec![head(), Act::Wait(20), piece("b"), finish(), end()])]);
    let said = house.ask(timed("chain", 50)).await;
    assert_eq!((said.ms, said.text.as_str()), (40, "b"));
    let house = House::new(POLICY);
    house.stage.script("a", [slow(90_000), good()]);
    let said = house.ask(asks("chain")).await;
    assert_eq!((said.ms, said.by().as_str()), (90_000, "b/m"));
}

#[tokio::test(start_paused = true)]
async fn a_key_is_answered_by_models_that_it_may_use() {
    let check = async |model: &str, list: &[&str], expect: &str| {
        let house = House::new(POLICY);
        let models = Some(list.iter().map(|it| (*it).to_owned()).collect());
        let origin = Origin { key: "k".into(), models, ..Origin::default() };
        // All but the last of a chain fail.
        house.stage.script("a", [status(500, "", "{}")]);
        house.stage.script("b", [status(500, "", "{}")]);
        let request = Request { origin: Some(Arc::new(origin)), ..asks(model) };
        let said = house.ask(request).await;
        assert_eq!(said.by(), expect, "{model} {list:?}");
        house.asked()
    };
    let both = check("chain", &["chain"], "local/small").await;
    assert_eq!(both, "a b");
    let one = check("chain", &["chain", "b/m", "small"], "local/small").await;
    assert_eq!(one, "b");
    check("chain", &["chain", "b/m"], "Provider Elsewhere").await;
    assert_eq!(check("chain", &["chain", "local/small"], "local/small").await, "");
}

/// A model of this machine that could not be loaded is asked once when it has rested; who only
/// looks takes nothing of that.
#[tokio::test(start_paused = true)]
async fn who_only_decides_takes_no_try_of_a_rested_model() {
    let house = House::new(POLICY);
    let first = || {
        let decision = house.gateway.explain(&asks("near")).expect("it is decided");
        decision.outcome.expect("somebody may answer")[0].candidate.to_string()
    };
    house.here.failed.store(true, Ordering::SeqCst);
    assert_eq!(first(), "a/m", "it rests");
    house.later.store(5_000, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(first(), "local/small", "it may be asked");
    }
    let said = house.ask(asks("near")).await;
    assert_eq!(said.by(), "local/small");
    assert_eq!(first(), "a/m", "it was asked, and has not come");
}
