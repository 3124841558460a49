//! Models that read, asked in every protocol that has them, over a real socket in front of a
//! scripted provider.

mod support;

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;

use ingle_protocol::{Encoding, Long, Want};
use ingle_server::{AccessLog, Config, Key, KeyHash, Stop};
use serde_json::{Value, json};
use support::{CHAT, Server, chat, config, start, until};

/// Of a vector that has two numbers alike and is of length 1.
const HALF: f64 = 0.70710677;

/// A path, a body, and values of the answer by their places.
type Row<'a> = (&'a str, Value, &'a [(&'a str, Value)]);

/// What is read at last.
fn last(server: &Server) -> Encoding {
    let all = server.world.encodings.lock().expect("no panic while locked");
    all.last().expect("something was read").clone()
}

/// The answer to a body has these values at these places.
async fn check(server: &Server, path: &str, body: Value, expect: &[(&str, Value)]) {
    let reply = server.post(path, &body.to_string()).await;
    assert_eq!(reply.status, 200, "{path} {body}: {}", reply.body);
    let answer = reply.json();
    for (place, value) in expect {
        let found = answer.pointer(place).unwrap_or(&Value::Null);
        assert_eq!(found, value, "{path} {body}: {place} in {answer}");
    }
    // Every answer has its receipt, in its body or beside it.
    let beside = reply.header("x-ingle-receipt").map(str::to_owned);
    let receipt = beside.map_or(answer["ingle"].clone(), |text| {
        serde_json::from_str(&text).expect("a receipt is JSON")
    });
    assert_eq!(receipt["left_machine"], false, "{path}: {answer}");
}

#[tokio::test]
async fn openai_embeds() {
    let server = start(config()).await;
    let body = |more: Value| {
        let mut body = json!({ "model": "reader", "input": "abba c", "normalize": false });
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        body
    };
    let vector = |numbers: Value| [("/data/0/embedding", numbers)];
    check(&server, "/v1/embeddings", body(json!({})), &vector(json!([2.0, 2.0, 1.0, 1.0]))).await;
    assert_eq!(last(&server).long, Long::Refuse);
    let rows = [
        (json!({ "dimensions": 2, "user": "me" }), json!([2.0, 2.0])),
        (json!({ "input": [97, 98, 97] }), json!([2.0, 1.0, 0.0, 1.0])),
        (json!({ "encoding_format": "base64", "dimensions": 1 }), json!("AAAAQA==")),
        (json!({ "input": "a b c", "truncate_prompt_tokens": 2 }), json!([1.0, 1.0, 0.0, 1.0])),
        (
            json!({ "input": "a b c", "truncate_prompt_tokens": 2, "truncation_side": "left" }),
            json!([0.0, 1.0, 1.0, 1.0]),
        ),
        (json!({ "input": "a", "normalize": true, "dimensions": 1 }), json!([1.0])),
    ];
    for (more, expect) in rows {
        check(&server, "/v1/embeddings", body(more), &vector(expect)).await;
    }
    let expect = [
        ("/object", json!("list")),
        ("/model", json!("reader")),
        ("/data/1/object", json!("embedding")),
        ("/data/1/index", json!(1)),
        ("/data/1/embedding", json!([0.0, 1.0, 0.0, 1.0])),
        ("/usage/prompt_tokens", json!(3)),
        ("/usage/total_tokens", json!(3)),
        ("/ingle/model", json!("reader")),
        ("/ingle/notes", Value::Null),
    ];
    check(&server, "/v1/embeddings", body(json!({ "input": ["a a", "b"] })), &expect).await;
    let nine = json!({ "input": "a b c a b c a b c", "truncate": "END" });
    let cut = json!(["1 of 1 texts were cut, as was asked"]);
    check(&server, "/v1/embeddings", body(nine), &[("/ingle/notes", cut)]).await;
    check(&server, "/v1/embeddings", body(json!({ "truncate": "CHUNK" })), &[]).await;
    assert_eq!(last(&server).long, Long::Chunk { tokens: None, overlap: 0 });
    // Where no model is named, the first that reads is asked, not the server's default.
    check(&server, "/v1/embeddings", json!({ "input": "a" }), &[("/model", json!("reader"))]).await;
    let named = body(json!({ "prompt_name": "query" }));
    check(&server, "/v1/embeddings", named, &[]).await;
    let Want::Vector(vectors) = last(&server).want else { panic!("a vector was asked for") };
    assert_eq!(vectors.prompt.as_deref(), Some("query"));
}

#[tokio::test]
async fn ollama_and_llama_cpp_embed() {
    let server = start(config()).await;
    let model = "reader:latest";
    let body = json!({ "model": model, "input": ["a", "b"], "options": { "num_ctx": 8 } });
    let expect = [
        ("/embeddings", json!([[HALF, 0.0, 0.0, HALF], [0.0, HALF, 0.0, HALF]])),
        ("/prompt_eval_count", json!(2)),
        ("/total_duration", json!(7_000_000)),
        ("/model", json!("reader")),
    ];
    check(&server, "/api/embed", body, &expect).await;
    let body = json!({ "model": model, "input": "a b c a b c a b c", "truncate": true });
    check(&server, "/api/embed", body, &[("/embeddings/0/3", json!(0.2085144))]).await;
    let body = json!({ "model": model, "prompt": "c", "keep_alive": "5m" });
    check(&server, "/api/embeddings", body, &[("/embedding", json!([0.0, 0.0, 1.0, 1.0]))]).await;
    assert!(last(&server).keep_alive.is_some());
    let rows = [
        (json!({ "content": "aaa", "embd_normalize": -1 }), json!([3.0, 0.0, 0.0, 1.0])),
        (json!({ "input": "aaa", "embd_normalize": 1 }), json!([0.75, 0.0, 0.0, 0.25])),
        (json!({ "content": "aaa", "embd_normalize": 0 }), json!([32760.0, 0.0, 0.0, 10920.0])),
    ];
    for (body, expect) in rows {
        let expect = [("/0/embedding/0", expect), ("/0/index", json!(0))];
        check(&server, "/embedding", body.clone(), &expect).await;
        check(&server, "/embeddings", body, &expect).await;
    }
    let shown = server.post("/api/show", r#"{"model":"reader"}"#).await.json();
    assert_eq!(shown["capabilities"][0], "embedding");
    let told = server.get("/v1/models/reader").await.json();
    assert_eq!(told["reads"]["dimensions"], 4);
    assert_eq!(server.get("/v1/models/script").await.json()["reads"], Value::Null);
}

#[tokio::test]
async fn cohere_embeds_and_ranks() {
    let server = start(config()).await;
    let body = json!({
        "model": "reader",
        "texts": ["a", "c"],
        "input_type": "search_query",
        "embedding_types": ["float", "int8", "ubinary", "base64"],
        "output_dimension": 3,
    });
    let expect = [
        ("/embeddings/float/0", json!([1.0, 0.0, 0.0])),
        ("/embeddings/int8/1", json!([0, 0, 127])),
        ("/embeddings/ubinary", json!([[128], [32]])),
        ("/embeddings/base64/0", json!("AACAPwAAAAAAAAAA")),
        ("/texts", json!(["a", "c"])),
        ("/response_type", json!("embeddings_by_type")),
        ("/meta/billed_units/input_tokens", json!(2)),
    ];
    check(&server, "/v2/embed", body, &expect).await;
    let Want::Vector(vectors) = last(&server).want else { panic!("a vector was asked for") };
    assert_eq!(vectors.prompt.as_deref(), Some("query"), "the model's name for it");
    let part = json!({ "type": "text", "text": "a b c" });
    let body = json!({
        "model": "reader", "inputs": [{ "content": [part] }], "input_type": "clustering",
        "truncate": "START", "max_tokens": 1,
    });
    check(&server, "/v2/embed", body, &[("/embeddings/float/0", json!([0.0, 0.0, HALF, HALF]))])
        .await;
    let documents = json!(["none", "one two", { "text": "two two one" }]);
    let body = json!({ "model": "judge", "query": "one two", "documents": documents, "top_n": 2 });
    let expect = [
        ("/results/0/index", json!(2)),
        ("/results/0/relevance_score", json!(0.95257413)),
        ("/results/0/document", Value::Null),
        ("/results/1/index", json!(1)),
        ("/results/2", Value::Null),
        ("/usage/total_tokens", json!(6)),
    ];
    check(&server, "/v2/rerank", body.clone(), &expect).await;
    // Jina's gives the documents back.
    let document = [("/results/0/document/text", json!("two two one"))];
    check(&server, "/v1/rerank", body, &document).await;
}

#[tokio::test]
async fn a_model_of_vectors_ranks_by_them_and_says_so() {
    let server = start(config()).await;
    let body = json!({ "model": "reader", "query": "aaa", "documents": ["bbb", "aaa", "abc"] });
    let note = "scores are how near vectors are: `reader` is no reranker";
    let expect = [
        ("/results/0/index", json!(1)),
        ("/results/0/relevance_score", json!(0.99999994)),
        ("/results/2/index", json!(0)),
        ("/results/2/relevance_score", json!(0.1)),
        ("/ingle/notes", json!([note])),
    ];
    for path in ["/rerank", "/v1/rerank", "/reranking"] {
        check(&server, path, body.clone(), &expect).await;
    }
    let read = server.world.encodings.lock().expect("no panic while locked").clone();
    let prompts: Vec<Option<String>> = read[..2]
        .iter()
        .map(|encoding| match &encoding.want {
            Want::Vector(vectors) => vectors.prompt.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(prompts, [Some("query".to_owned()), Some("document".to_owned())]);
}

#[tokio::test]
async fn text_embeddings_inference() {
    let server = start(config()).await;
    let rows: [Row<'_>; 9] = [
        ("/embed", json!({ "inputs": "a" }), &[("/0", json!([HALF, 0.0, 0.0, HALF]))]),
        (
            "/embed",
            json!({ "inputs": ["a", "b"], "normalize": false, "dimensions": 1 }),
            &[("", json!([[1.0], [0.0]]))],
        ),
        (
            "/embed_all",
            json!({ "model": "sorter", "inputs": "a b" }),
            &[("/0", json!([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]]))],
        ),
        (
            "/embed_sparse",
            json!({ "model": "sorter", "inputs": ["ab a"] }),
            &[("/0", json!([{ "index": 0, "value": 1.0 }, { "index": 1, "value": 0.5 }]))],
        ),
        (
            "/rerank",
            json!({ "model": "judge", "query": "q", "texts": ["x", "q q"], "raw_scores": true,
                    "return_text": true }),
            &[(
                "",
                json!([
                    { "index": 1, "text": "q q", "score": 2.0 },
                    { "index": 0, "text": "x", "score": 0.0 },
                ]),
            )],
        ),
        (
            "/predict",
            json!({ "model": "sorter", "inputs": "ham ham spam", "raw_scores": true }),
            &[(
                "",
                json!([
                    { "label": "ham", "score": 2.0 },
                    { "label": "spam", "score": 1.0 },
                    { "label": "eggs", "score": 0.0 },
                ]),
            )],
        ),
        (
            "/predict",
            json!({ "model": "judge", "inputs": [["a", "a a"], ["b", "c"]], "raw_scores": true }),
            &[("/0/0/score", json!(2.0)), ("/1/0/score", json!(0.0))],
        ),
        (
            "/similarity",
            json!({ "inputs": { "source_sentence": "aaa", "sentences": ["aaa", "bbb"] } }),
            &[("", json!([0.99999994, 0.1]))],
        ),
        (
            "/similarity",
            json!({ "inputs": { "source_sentence": "a b", "sentences": ["b"] },
                    "parameters": { "truncate": true, "truncation_direction": "Left",
                                    "prompt_name": "query" } }),
            &[("/0", json!(0.81649655))],
        ),
    ];
    for (path, body, expect) in rows {
        check(&server, path, body, expect).await;
    }
    let info = server.get("/info").await.json();
    assert_eq!((&info["model_id"], &info["max_input_length"]), (&json!("reader"), &json!(8)));
    assert!(info["model_type"]["embedding"].is_object(), "{info}");
}

#[tokio::test]
async fn vllm_scores_classifies_and_pools() {
    let server = start(config()).await;
    let tags = json!([
        { "label": "PER", "score": 0.75, "start": 0, "end": 3 },
        { "label": "O", "score": 0.75, "start": 4, "end": 8 },
    ]);
    let rows: [Row<'_>; 7] = [
        (
            "/score",
            json!({ "model": "judge", "text_1": "x", "text_2": ["x", "y"], "use_activation": false }),
            &[("/data/0/score", json!(1.0)), ("/data/1/score", json!(0.0))],
        ),
        (
            "/v1/score",
            json!({ "model": "judge", "queries": ["x", "y"], "documents": ["y y", "y"] }),
            &[("/data/0/score", json!(0.5)), ("/data/1/score", json!(0.7310586))],
        ),
        (
            "/classify",
            json!({ "model": "sorter", "input": ["eggs", "ham"] }),
            &[("/data/0/label", json!("eggs")), ("/data/1/num_classes", json!(3))],
        ),
        (
            "/pooling",
            json!({ "model": "reader", "input": "a" }),
            &[("/data/0/data", json!([1.0, 0.0, 0.0, 1.0])), ("/data/0/object", json!("pooling"))],
        ),
        (
            "/pooling",
            json!({ "model": "sorter", "input": "a b", "encoding_format": "base64", "dimensions": 1 }),
            &[("/data/0/data", json!(["AACAPw==", "AAAAAA=="]))],
        ),
        // Places are characters, not bytes.
        (
            "/pooling",
            json!({ "model": "sorter", "input": "Åsa läst", "task": "token_classify" }),
            &[("/data/0/data", tags)],
        ),
        ("/pooling", json!({ "model": "judge", "input": "a" }), &[("/data/0/data", json!([0.5]))]),
    ];
    for (path, body, expect) in rows {
        check(&server, path, body, expect).await;
    }
    // A model of late interaction: each of the query's tokens finds its nearest.
    let body =
        json!({ "model": "sorter", "text_1": "a b", "text_2": "a a", "truncation_side": "left" });
    let reply = server.post("/score", &body.to_string()).await;
    assert_eq!(reply.status, 400, "it has labels: {}", reply.body);
}

/// Status and the words of a refusal, and where its protocol has them.
#[tokio::test]
async fn what_cannot_be_read_is_refused_in_each_protocols_words() {
    let server = start(config()).await;
    let long = "a b c a b c a b c";
    let many = vec!["a"; 2049];
    let rows = [
        ("/v1/embeddings", json!({ "model": "script", "input": "a" }), "writes texts", 400),
        ("/v1/embeddings", json!({ "model": "judge", "input": "a" }), "does not make vectors", 400),
        ("/v1/embeddings", json!({ "model": "none", "input": "a" }), "no model", 404),
        ("/v1/embeddings", json!({ "input": long }), "9 tokens", 400),
        ("/v1/embeddings", json!({ "input": many }), "at most 2048", 400),
        ("/v1/embeddings", json!({ "input": [] }), "at least one", 400),
        ("/v1/embeddings", json!({ "input": "a", "dimensions": 5 }), "vectors have 4", 400),
        ("/v1/embeddings", json!({ "input": "a", "prompt_name": "x" }), "query, document", 400),
        ("/v1/embeddings", json!({ "input": "a", "dimension": 5 }), "did you mean", 400),
        ("/v1/embeddings", json!({ "input": "busy" }), "queue is full", 429),
        ("/v1/embeddings", json!({ "input": "bug" }), "a bug", 500),
        ("/classify", json!({ "model": "reader", "input": "a" }), "scores or labels", 400),
        (
            "/rerank",
            json!({ "model": "sorter", "query": "a", "documents": ["a"] }),
            "3 labels",
            400,
        ),
        (
            CHAT,
            json!({ "model": "reader", "messages": [{ "role": "user", "content": "a" }] }),
            "writes none",
            400,
        ),
        (
            "/v1/decisions",
            json!({ "model": "judge", "input": "a",
            "questions": [{ "kind": "predicate", "question": "?" }] }),
            "writes none",
            400,
        ),
    ];
    for (path, body, words, status) in rows {
        let reply = server.post(path, &body.to_string()).await;
        let message = reply.json()["error"].clone();
        let message = message.get("message").cloned().unwrap_or(message);
        let told = message.as_str().is_some_and(|message| message.contains(words));
        assert_eq!((reply.status, told), (status, true), "{path} {body}: {}", reply.body);
    }
    let shapes = [
        ("/v2/embed", "/message", json!({ "model": "reader", "texts": [] })),
        ("/embed", "/error", json!({ "inputs": [] })),
        ("/api/embed", "/error", json!({ "model": "reader", "input": [] })),
        ("/embedding", "/error/message", json!({ "content": [] })),
    ];
    for (path, place, body) in shapes {
        let reply = server.post(path, &body.to_string()).await;
        let message = reply.json().pointer(place).cloned().unwrap_or_default();
        let told = message.as_str().is_some_and(|message| message.contains("at least one"));
        assert_eq!((reply.status, told), (400, true), "{path}: {}", reply.body);
    }
    assert_eq!(server.post("/embed", r#"{"inputs":[]}"#).await.json()["error_type"], "Validation");
    // Nothing of it is still under way.
    assert_eq!(server.world.running.load(Ordering::SeqCst), 0);
    let metrics = server.get("/metrics").await.body;
    assert!(metrics.contains("ingle_server_answers_in_flight 0\n"), "{metrics}");
}

#[tokio::test]
async fn who_goes_away_or_stops_the_server_ends_the_reading() {
    let server = start(config()).await;
    let json = "content-type: application/json\r\n";
    let body = r#"{"input":"hold"}"#;
    let running = || server.world.running.load(Ordering::SeqCst);
    let held = server.send("POST", "/v1/embeddings", json, body).await;
    until(async || running() == 1).await;
    drop(held);
    until(async || server.world.cancelled.load(Ordering::SeqCst) == 1).await;
    let abandoned = "ingle_server_abandoned_total 1\n";
    until(async || server.get("/metrics").await.body.contains(abandoned)).await;
    let (reply, ()) = tokio::join!(server.post("/v1/embeddings", body), async {
        until(async || running() == 1).await;
        server.stop.send_replace(Stop::Now);
    });
    assert!(reply.status == 503 && reply.body.contains("stopping"), "{}", reply.body);
    until(async || running() == 0).await;
}

#[tokio::test]
async fn texts_count_against_a_keys_tokens_and_stand_in_the_log() {
    let folder = std::env::temp_dir().join(format!("ingle-reading-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("may be");
    let log = folder.join("log");
    let key = Key {
        tokens_per_minute: NonZeroU32::new(1000),
        ..Key::new("k", KeyHash::of(b"a salt", b"k"))
    };
    let access_log = Some(AccessLog::File(log.clone()));
    let server = start(Config { keys: vec![key], access_log, ..config() }).await;
    let headers = "content-type: application/json\r\nauthorization: Bearer k\r\n";
    let post = |body: Value| {
        let (server, body) = (&server, body.to_string());
        async move { server.ask("POST", "/v1/embeddings", headers, &body).await }
    };
    // 4000 bytes are guessed as all 1000 tokens, and are one.
    let reply = post(json!({ "input": "a".repeat(4000) })).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let left = |name: &str| reply.header(name).and_then(|left| left.parse::<u64>().ok());
    assert!(left("x-ratelimit-remaining-tokens").is_some_and(|left| left >= 999));
    // What the engine refuses takes nothing; what is held takes its guess.
    assert_eq!(post(json!({ "input": ["busy", "a".repeat(3000)] })).await.status, 429);
    let (held, ()) = tokio::join!(post(json!({ "input": ["hold", "a".repeat(3900)] })), async {
        until(async || server.world.running.load(Ordering::SeqCst) == 1).await;
        let refused = post(json!({ "input": "a".repeat(3000) })).await;
        assert_eq!(refused.status, 429, "{}", refused.body);
        assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
        server.world.released.store(true, Ordering::SeqCst);
    });
    assert_eq!(held.status, 200, "{}", held.body);
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    until(async || lines().lines().count() >= 4).await;
    let first: Value = serde_json::from_str(lines().lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["model"], &first["prompt_tokens"]), (&json!("reader"), &json!(1)));
    std::fs::remove_dir_all(folder).expect("is there");
    let metrics = server.ask("GET", "/metrics", headers, "").await.body;
    let line = "ingle_server_owner_tokens_total{owner=\"k\",kind=\"prompt\"} 3\n";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_priority_that_passes_others_is_refused() {
    let keys = support::keys(&["first-key", "second-key"]);
    let server = start(Config { keys, ..config() }).await;
    let headers = "content-type: application/json\r\nauthorization: Bearer second-key\r\n";
    for (priority, status) in [(-1, 400), (5, 200)] {
        let body = json!({ "input": "a", "priority": priority, "timeout_ms": 60000 }).to_string();
        let reply = server.ask("POST", "/v1/embeddings", headers, &body).await;
        assert_eq!(reply.status, status, "{}", reply.body);
    }
    let read = last(&server);
    assert_eq!((read.owner, read.priority), (1, 5));
    assert!(read.timeout_ms.is_some_and(|left| (1..=60000).contains(&left)));
    let plain = server.ask("POST", CHAT, headers, &chat("one", "")).await;
    assert_eq!(plain.status, 200, "{}", plain.body);
}
