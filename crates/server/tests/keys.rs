//! What a key opens: scopes, models, priorities, over a real socket in front of a scripted
//! provider.

mod support;

use ingle_server::{Config, Key, KeyHash, Scope};
use serde_json::json;
use support::{CHAT, Server, chat, config, start};

const JSON: &str = "content-type: application/json\r\n";

/// A key called like its text, with these scopes.
fn key(name: &str, scopes: &[Scope]) -> Key {
    let hash = KeyHash::of(b"a salt", name.as_bytes());
    Key { scopes: scopes.iter().copied().collect(), ..Key::new(name, hash) }
}

/// A policy is told all that a header says, however often it is sent.
#[tokio::test]
async fn a_header_that_is_sent_twice_hides_nothing() {
    let server = start(config()).await;
    let vault = "x-ingle-workspace: x\r\nX-Ingle-Workspace: vault\r\n";
    let headers = format!("{JSON}{vault}x-data: x\r\nx-data: y, secret\r\n");
    let reply = server.ask("POST", CHAT, &headers, &chat("hello", "")).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let all = server.world.origins.lock().expect("no panic").clone();
    assert_eq!(all[0].workspaces, ["x", "vault"]);
    let values: Vec<&str> = all[0].headers.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["x", "y, secret", "y", "secret"]);
    let many: String = (0..40).map(|number| format!("x-ingle-workspace: {number}\r\n")).collect();
    let reply = server.ask("POST", CHAT, &format!("{JSON}{many}"), &chat("hello", "")).await;
    assert_eq!(reply.status, 400, "{}", reply.body);
    assert_eq!(server.world.origins.lock().expect("no panic").len(), 1, "nobody was asked");
}

async fn ask(server: &Server, key: &str, method: &str, path: &str, body: &str) -> support::Reply {
    let headers = format!("{JSON}authorization: Bearer {key}\r\n");
    server.ask(method, path, &headers, body).await
}

/// Each key does what its scopes say, and is told in its protocol's words what it lacks.
#[tokio::test]
async fn scopes_say_what_a_key_opens() {
    let keys = Scope::ALL.iter().map(|(scope, name, _)| key(name, &[*scope])).collect();
    let server = start(Config { keys, ..config() }).await;
    let hello = chat("hello", "");
    let message = r#"{"model":"script","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;
    let idle = r#"{"model":"script","keep_alive":0}"#;
    // method, path, body, the scope that opens it, status, where the error is
    let rows = [
        ("POST", CHAT, hello.as_str(), "infer", 200, "/error/message"),
        ("POST", "/v1/messages", message, "infer", 200, "/error/message"),
        ("POST", "/completion", r#"{"prompt":"x"}"#, "infer", 200, "/error/message"),
        ("POST", "/api/generate", r#"{"model":"script","prompt":"x"}"#, "infer", 200, "/error"),
        ("POST", "/v1/tokenize", r#"{"prompt":"x"}"#, "infer", 200, "/error/message"),
        ("GET", "/v1/models", "", "read", 200, "/error/message"),
        ("HEAD", "/v1/models", "", "read", 200, ""),
        ("GET", "/api/tags", "", "read", 200, "/error"),
        ("GET", "/props", "", "read", 200, "/error/message"),
        ("POST", "/v1/models/script/load", "", "models", 202, "/error/message"),
        ("DELETE", "/api/delete", r#"{"model":"script"}"#, "models", 403, "/error"),
        ("GET", "/metrics", "", "metrics", 200, "/error/message"),
    ];
    for (method, path, body, opens, status, place) in rows {
        for (_, name, _) in Scope::ALL {
            let reply = ask(&server, name, method, path, body).await;
            if *name == opens {
                assert_eq!(reply.status, status, "{name} {path} {}", reply.body);
                continue;
            }
            assert_eq!(reply.status, 403, "{name} {path} {}", reply.body);
            if !place.is_empty() {
                let told = reply.json().pointer(place).cloned().unwrap_or_default();
                let told = told.as_str().unwrap_or_default().to_owned();
                assert!(told.contains(&format!("scope `{opens}`")), "{name} {path} {told}");
            }
        }
    }
    // An idle request unloads, which is more than asking.
    assert_eq!(ask(&server, "infer", "POST", "/api/generate", idle).await.status, 403);
    // Whoever holds a key hears of no scope where there is no path, or no method.
    assert_eq!(ask(&server, "read", "GET", "/nothing", "").await.status, 404);
    assert_eq!(ask(&server, "read", "GET", CHAT, "").await.status, 405);
}

/// Of the two models, `script` and `owner/other`, a key may know the second alone.
#[tokio::test]
async fn a_key_knows_no_models_but_its_own() {
    let models = Some([String::from("owner/other")].into());
    let all: Vec<Scope> = Scope::ALL.iter().map(|row| row.0).collect();
    let some = Key { models, ..key("some", &all) };
    let keys = vec![some, key("every", &all)];
    let server = start(Config { keys, manage_models: true, ..config() }).await;
    let named = |model: &str| chat("x", &format!(r#","model":"{model}""#));
    let (script, other) = (named("script"), named("owner/other"));
    let pull = r#"{"model":"other"}"#;
    // method, path, body, status for the one key and for the other
    let rows = [
        ("POST", CHAT, script.as_str(), 404, 200),
        ("POST", CHAT, &other, 200, 200),
        ("POST", "/tokenize", r#"{"model":"script","prompt":"x"}"#, 404, 200),
        ("POST", "/v1/detokenize", r#"{"model":"script","tokens":[65]}"#, 404, 200),
        ("POST", "/apply-template", &script, 404, 200),
        ("GET", "/v1/models/script", "", 404, 200),
        ("POST", "/v1/models/script/load", "", 404, 202),
        ("POST", "/api/show", r#"{"model":"script"}"#, 404, 200),
        ("POST", "/api/pull", pull, 403, 200),
        ("DELETE", "/api/delete", r#"{"model":"script"}"#, 404, 200),
    ];
    for (method, path, body, some, every) in rows {
        let reply = ask(&server, "some", method, path, body).await;
        assert_eq!(reply.status, some, "{path} {}", reply.body);
        assert!(!reply.body.contains("there is: script"), "{}", reply.body);
        assert_eq!(ask(&server, "every", method, path, body).await.status, every, "{path}");
    }
    // The default is the first that it may ask.
    let answer = ask(&server, "some", "POST", CHAT, &chat("x", "")).await.json();
    assert_eq!(answer["model"], "owner/other");
    let models = ask(&server, "some", "GET", "/v1/models", "").await.json();
    assert_eq!((models["data"].as_array().map(Vec::len)), Some(1), "{models}");
    let tags = ask(&server, "some", "GET", "/api/tags", "").await.json();
    assert_eq!(tags["models"][0]["name"], "owner/other");
    let slots = ask(&server, "some", "GET", "/slots", "").await.json();
    assert_eq!(slots.as_array().map(Vec::len), Some(1), "{slots}");
}

#[tokio::test]
async fn a_key_may_pass_others_if_it_says_so() {
    let mut first = key("the-first", &[Scope::Infer]);
    first.min_priority = Some(-5);
    let keys = vec![first, key("the-second", &[Scope::Infer])];
    let server = start(Config { keys, ..config() }).await;
    let rows = [("the-first", -5, 200), ("the-first", -6, 400), ("the-second", -1, 400)];
    for (name, priority, status) in rows {
        let body = chat("x", &format!(r#","priority":{priority}"#));
        let reply = ask(&server, name, "POST", CHAT, &body).await;
        assert_eq!(reply.status, status, "{name} {priority} {}", reply.body);
    }
    let reply = ask(&server, "the-second", "POST", CHAT, &chat("x", r#","priority":-1"#)).await;
    assert_eq!(reply.json()["error"]["param"], json!("priority"));
}
