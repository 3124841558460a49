//! A server that stands before others: what its policy lets leave does, what it does not stays, and
//! every call has one receipt.

mod support;

use serde_json::{Value, json};
use support::answers::Good;
use support::place::Place;
use support::server::Server;
use support::upstream::{Asked, Upstream, Way};
use support::{run, until};

/// What was said last is said back, for 100 tokens each way.
fn echo(asked: &Asked, _: usize) -> Way {
    Way::Well(Good::new(asked.last(), (100, 100)))
}

/// Everything may go to the other server, redacted; what a key of the class `secret` asks may not,
/// nor what holds an IBAN.
fn policy(url: &str, usd: &str) -> String {
    format!(
        r#"default_class = "open"
        [providers.far]
        kind = "compatible"
        url = "{url}/v1"
        retries = 0
        [models.auto]
        candidates = ["far/m"]
        [classes.open]
        providers = ["far"]
        redact = true
        [classes.secret]
        local_only = true
        [[rules]]
        class = "secret"
        workspace = ["vault"]
        [[rules]]
        class = "secret"
        detected = ["iban"]
        [budgets.all]
        scope = "all"
        per = "forever"
        usd = "{usd}"
        [prices."far/m"]
        input_per_million = "1"
        output_per_million = "10"
        "#
    )
}

fn serve(place: &Place, policy: &str) -> Server {
    place.policy(policy);
    place.serve(&[])
}

fn chat(text: &str, stream: bool) -> String {
    json!({
        "model": "auto",
        "stream": stream,
        "max_tokens": 100,
        "messages": [{ "role": "user", "content": text }],
    })
    .to_string()
}

#[test]
fn what_may_leave_does_without_what_is_nobody_elses_business() {
    let (echo, place) = (Upstream::start(echo), Place::new("gateway-redact"));
    let server = serve(&place, &policy(&echo.url, "1"));
    let text = "Write to jane.doe@example.com, not to +49 30 901820.";
    let said = server.ask("POST", "/v1/chat/completions", &chat(text, false));
    assert_eq!(said.status, 200, "{}", said.body);
    let id = said.header("x-request-id");
    let said = said.json();
    assert_eq!(said["choices"][0]["message"]["content"], text);
    // 100 tokens at 1 and 100 at 10 micro-dollars.
    assert_eq!(said["ingle"]["cost_micros"], 1100, "{said}");
    assert_eq!(said["ingle"]["route"][0]["candidate"], "far/m");
    assert_eq!(said["ingle"]["route"][0]["taken"], true);
    let heard = echo.heard();
    assert_eq!(heard.len(), 1);
    assert!(!heard[0].contains("jane.doe") && !heard[0].contains("901820"), "{heard:?}");

    // Streamed, in another protocol than the other server speaks.
    let body = json!({
        "model": "auto",
        "stream": true,
        "max_tokens": 100,
        "messages": [{ "role": "user", "content": text }],
    });
    let said = server.ask("POST", "/v1/messages", &body.to_string());
    assert_eq!(said.status, 200, "{}", said.body);
    let events = said.body.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> =
        events.map(|event| serde_json::from_str(event).expect("JSON")).collect();
    let pieces = events.iter().filter_map(|event| event["delta"]["text"].as_str());
    assert_eq!(pieces.collect::<String>(), text);
    assert_eq!(events.last().expect("events")["type"], "message_stop");
    assert!(echo.heard().iter().all(|heard| !heard.contains("jane.doe")), "{:?}", echo.heard());
    drop(server);

    let whole = run(&["audit", "verify", "--json", "--ledger", &place.ledger()]);
    assert_eq!(whole.json()["rows"], 2, "{whole:?}");
    // An answer's id is its entry's.
    let shown = run(&["audit", "show", &id, "--ledger", &place.ledger()]);
    assert!(shown.out.contains("far/m"), "{shown:?}");
    let cost = run(&["cost", "--json", "--ledger", &place.ledger()]);
    assert!(cost.out.contains("2200"), "{cost:?}");
}

#[test]
fn what_may_not_leave_stays_whatever_becomes_of_the_policy() {
    let (echo, place) = (Upstream::start(echo), Place::new("gateway-stay"));
    let server = serve(&place, &policy(&echo.url, "1"));
    let refused = |path: &str, body: &str, status: u16, code: &str| {
        let said = server.ask("POST", path, body);
        assert_eq!(said.status, status, "{}", said.body);
        assert!(said.body.contains(code), "{}", said.body);
    };
    let iban = "Pay to GB82 WEST 1234 5698 7654 32 today";
    refused("/v1/chat/completions", &chat(iban, false), 403, "stays on this machine");
    refused("/v1/chat/completions", &chat(iban, true), 403, "stays on this machine");
    let other = json!({ "model": "far/m", "max_tokens": 9, "messages": [
        { "role": "user", "content": [{ "type": "text", "text": iban }] },
    ] });
    refused("/v1/messages", &other.to_string(), 403, "stays on this machine");
    // A policy that cannot be read changes nothing.
    place.policy("default_class = \"open\"\n[providers.far\n");
    let reloads = || server.ask("GET", "/health", "").body;
    until(|| reloads().contains("refused") || reloads().contains("broken"));
    refused("/v1/chat/completions", &chat(iban, false), 403, "stays on this machine");
    assert_eq!(echo.heard(), Vec::<String>::new());
    let said = server.ask("POST", "/v1/chat/completions", &chat("hello", false));
    assert_eq!(said.status, 200, "{}", said.body);
    drop(server);
    let calls = place.calls();
    let ends: Vec<&Value> = calls.iter().map(|call| &call["end"]).collect();
    assert_eq!(ends, ["refused", "refused", "refused", "refused", "stop"], "{calls:?}");
}

/// Settings and policy are exchanged together: where the settings cannot hold, the old policy does,
/// too.
#[test]
fn a_policy_does_not_change_beside_settings_that_are_refused() {
    let (echo, place) = (Upstream::start(echo), Place::new("gateway-together"));
    let text = policy(&echo.url, "1");
    let log =
        |name: &str| place.write("ingle.toml", format!("access_log = {:?}\n", place.path(name)));
    let config = log("access.log");
    place.policy(&text);
    let server = place.serve(&["--config", &config]);
    let status = || server.ask("POST", "/v1/chat/completions", &chat("hi", false)).status;
    let metric = |name: &str| {
        let body = server.ask("GET", "/metrics", "").body;
        let line =
            body.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        line.unwrap_or(0.0)
    };
    assert_eq!(status(), 200);
    log("no such folder/access.log");
    until(|| metric("ingle_server_config_stale") == 1.0);
    let failed = "ingle_server_config_reload_failures_total";
    let before = metric(failed);
    place.policy(&text.replace("providers = [\"far\"]", "local_only = true"));
    until(|| metric(failed) > before);
    assert_eq!(status(), 200, "the old policy holds as the old settings do");
    log("other.log");
    until(|| metric("ingle_server_config_stale") == 0.0);
    assert_eq!(status(), 403);
}

#[test]
fn what_is_spent_is_never_more_than_may_be() {
    let (echo, place) = (Upstream::start(echo), Place::new("gateway-budget"));
    // Room for two calls: each takes 1,100 micro-dollars, and a little more at worst.
    let text = policy(&echo.url, "0.003");
    let server = serve(&place, &text);
    let ask = |server: &Server| server.ask("POST", "/v1/chat/completions", &chat("hi", false));
    assert_eq!(ask(&server).status, 200);
    assert_eq!(ask(&server).status, 200);
    let over = ask(&server);
    assert_eq!(
        (over.status, over.json()["error"]["code"].as_str()),
        (402, Some("insufficient_quota"))
    );
    drop(server);
    // Another process finds what was spent in the ledger.
    let server = serve(&place, &text);
    assert_eq!(ask(&server).status, 402);
    assert_eq!(echo.heard().len(), 2);
}

/// A response that is not to be kept goes to OpenAI's server with its own bytes, and comes back
/// with all that is in it; one that is to be kept here is this server's own.
#[test]
fn a_response_is_passed_on_unless_it_is_kept_here() {
    let (echo, place) = (Upstream::start(echo), Place::new("gateway-responses"));
    let key = place.write("key", "sk-of-a-test");
    let kind = format!("kind = \"openai\"\nkey = \"file:{key}\"");
    let text = policy(&echo.url, "1").replace("kind = \"compatible\"", &kind);
    let server = serve(&place, &text);
    let ask = |store: &str| {
        let body = format!(r#"{{"model":"auto", "input":"hi","max_output_tokens":100{store}}}"#);
        let said = server.ask("POST", "/v1/responses", &body);
        assert_eq!(said.status, 200, "{}", said.body);
        said.json()
    };
    let said = ask(r#","store":false"#);
    assert_eq!((&said["id"], &said["odd"]), (&json!("resp_far"), &json!([1])), "{said}");
    assert_eq!((&said["model"], &said["ingle"]["cost_micros"]), (&json!("auto"), &json!(1100)));
    let sent = r#"{"model":"m", "input":"hi","max_output_tokens":100,"store":false}"#;
    assert_eq!(echo.heard(), [sent]);
    let said = ask("");
    let text = &said["output"][0]["content"][0]["text"];
    assert_eq!((text, &said["odd"]), (&json!("hi"), &Value::Null), "{said}");
    assert!(echo.heard()[1].contains("messages"), "{:?}", echo.heard());
    let id = said["id"].as_str().expect("an id");
    assert_eq!(
        server.ask("GET", &format!("/v1/responses/{id}"), "").json()["output"],
        said["output"]
    );
}
