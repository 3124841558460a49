//! Requests to models that read: what of them is honoured, what is refused under which name, what
//! they ask of models of each sort, and what is written of what comes back.

mod support;

use ingle_protocol::wire::Stamp;
use ingle_protocol::wire::reading::{Asked, Format, fields, read_request, read_rerank};
use ingle_protocol::{Encoded, Encoding, Event, Fault, Finish, Long, Output, Read, Reads, Receipt};
use ingle_protocol::{Vectors, Want};
use serde_json::{Value, json};
use support::{faults, means_what_it_says};

/// What a right request has, and the names of what it needs.
const FORMATS: &[(Format, &str, &[&str])] = &[
    (Format::Embeddings, r#""input":"a""#, &["input"]),
    (Format::OllamaEmbed, r#""model":"m","input":"a""#, &["model", "input"]),
    (Format::OllamaEmbeddings, r#""model":"m","prompt":"a""#, &["model", "prompt"]),
    (Format::CohereEmbed, r#""model":"m","texts":["a"]"#, &["model", "texts", "inputs"]),
    (
        Format::CohereRerank,
        r#""model":"m","query":"q","documents":["a"]"#,
        &["model", "query", "documents"],
    ),
    (Format::Rerank, r#""query":"q","documents":["a"]"#, &["query", "documents"]),
    (Format::TeiEmbed, r#""inputs":"a""#, &["inputs"]),
    (Format::TeiEmbedAll, r#""inputs":"a""#, &["inputs"]),
    (Format::TeiEmbedSparse, r#""inputs":"a""#, &["inputs"]),
    (Format::TeiRerank, r#""query":"q","texts":["a"]"#, &["query", "texts"]),
    (Format::TeiPredict, r#""inputs":"a""#, &["inputs"]),
    (Format::TeiSimilarity, r#""inputs":{"source_sentence":"a","sentences":["b"]}"#, &["inputs"]),
    (Format::Score, r#""text_1":"a","text_2":"b""#, &["text_1", "text_2", "queries", "documents"]),
    (Format::Classify, r#""input":"a""#, &["input"]),
    (Format::Pooling, r#""input":"a""#, &["input"]),
    (Format::LlamaEmbedding, r#""content":"a""#, &["content", "input"]),
];

fn needs(format: Format) -> &'static str {
    FORMATS.iter().find(|row| row.0 == format).expect("every format is a row").1
}

fn try_with(format: Format, more: &str) -> Result<Asked, Fault> {
    let comma = if more.is_empty() { "" } else { "," };
    read_request(format, format!("{{{}{comma}{more}}}", needs(format)).as_bytes())
}

fn with(format: Format, more: &str) -> Asked {
    try_with(format, more).unwrap_or_else(|fault| panic!("{format:?} {more}: {fault}"))
}

#[test]
fn every_row_of_the_tables_means_what_it_says() {
    for (format, _, needed) in FORMATS {
        means_what_it_says(fields(*format), needed, "", |more| try_with(*format, more));
    }
    let of = |more: &str| try_with(Format::TeiSimilarity, &format!(r#""parameters":{{{more}}}"#));
    means_what_it_says(fields(Format::TeiParameters), &[], "parameters.", of);
}

fn object(fields: &str) -> serde_json::Map<String, Value> {
    serde_json::from_str(&format!("{{{fields}}}")).expect("JSON")
}

#[test]
fn what_is_wrong_is_told_by_name() {
    let rows = [
        (Format::Embeddings, r#""input":5"#, "input", "string"),
        (Format::Embeddings, r#""input":["a",5]"#, "input[1]", "string"),
        (Format::Embeddings, r#""input":[1,-2]"#, "input[1]", "token"),
        (Format::Embeddings, r#""input":[[]]"#, "input[0]", "at least one token"),
        (Format::Embeddings, r#""input":[]"#, "input", "at least one"),
        (Format::Embeddings, r#""encoding_format":"int8""#, "encoding_format", "float, base64"),
        (Format::Embeddings, r#""dimensions":0"#, "dimensions", "from 1"),
        (Format::Embeddings, r#""truncate_prompt_tokens":0"#, "truncate_prompt_tokens", "-1"),
        (Format::Embeddings, r#""truncate":"END ""#, "truncate", "CHUNK"),
        (
            Format::Embeddings,
            r#""truncate":"NONE","truncate_prompt_tokens":5"#,
            "truncate_prompt_tokens",
            "refused",
        ),
        (Format::Embeddings, r#""messages":[]"#, "messages", "template"),
        (Format::CohereEmbed, r#""images":["x"]"#, "images", "text alone"),
        (Format::CohereEmbed, r#""input_type":"image""#, "input_type", "text alone"),
        (
            Format::CohereEmbed,
            r#""inputs":[{"content":[{"type":"text","text":"b"}]}]"#,
            "inputs",
            "give one",
        ),
        (Format::CohereEmbed, r#""embedding_types":["float","x"]"#, "embedding_types[1]", "int8"),
        (Format::CohereEmbed, r#""max_tokens":5,"truncate":"NONE""#, "max_tokens", "refused"),
        (Format::Rerank, r#""top_n":0"#, "top_n", "from 1"),
        (Format::Rerank, r#""documents":[{"title":"x"}]"#, "documents[0].title", "unknown"),
        (Format::Rerank, r#""documents":[{}]"#, "documents[0].text", "missing"),
        (Format::Score, r#""queries":"x""#, "queries", "give one"),
        (Format::Score, r#""text_1":["a","b"],"text_2":["a"]"#, "text_2", "one first"),
        (Format::TeiPredict, r#""inputs":["a","b","c"]"#, "inputs", "two that are read together"),
        (Format::TeiEmbed, r#""truncation_direction":"left""#, "truncation_direction", "Left"),
        (Format::Pooling, r#""task":"plugin""#, "task", "token_classify"),
        (Format::LlamaEmbedding, r#""embd_normalize":-2"#, "embd_normalize", "from -1"),
        (Format::OllamaEmbed, r#""options":{"num_ctxx":5}"#, "options.num_ctxx", "num_ctx"),
        (Format::OllamaEmbed, r#""options":{"num_ctx":0}"#, "options.num_ctx", "from 1"),
    ];
    for (format, more, param, words) in rows {
        // What is given twice is no JSON here, so it takes the place of what the format needs.
        let mut all = object(needs(format));
        all.extend(object(more));
        let body = Value::Object(all).to_string();
        faults(read_request(format, body.as_bytes()), &body, param, words);
    }
    let missing = [
        (Format::Embeddings, "{}", "input"),
        (Format::OllamaEmbed, r#"{"input":"a"}"#, "model"),
        (Format::CohereEmbed, r#"{"model":"m"}"#, "texts"),
        (Format::CohereRerank, r#"{"query":"q","documents":["a"]}"#, "model"),
        (Format::Rerank, r#"{"documents":["a"]}"#, "query"),
        (Format::Rerank, r#"{"query":"a"}"#, "documents"),
        (Format::Score, r#"{"text_2":"a"}"#, "text_1"),
        (Format::Score, r#"{"text_1":"a"}"#, "text_2"),
        (Format::TeiSimilarity, "{}", "inputs"),
        (Format::TeiSimilarity, r#"{"inputs":{"sentences":[]}}"#, "inputs.source_sentence"),
        (Format::LlamaEmbedding, "{}", "content"),
    ];
    for (format, body, param) in missing {
        faults(read_request(format, body.as_bytes()), body, param, "is missing");
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn embedder() -> Reads {
    let prompts = names(&["search_query", "document"]);
    Reads { dimensions: 4, tokens: 512, prompts, ..Reads::default() }
}

fn asks(format: Format, more: &str, reads: &Reads) -> Vec<Encoding> {
    with(format, more).encodings("m", reads).unwrap_or_else(|fault| panic!("{more}: {fault}"))
}

#[test]
fn what_becomes_of_long_texts() {
    use Long::{Chunk, KeepEnd, KeepStart, Refuse};
    let rows = [
        (Format::Embeddings, "", Refuse),
        (Format::Embeddings, r#""truncate":"NONE""#, Refuse),
        (Format::Embeddings, r#""truncate":"END""#, KeepStart(None)),
        (Format::Embeddings, r#""truncate":"START""#, KeepEnd(None)),
        (Format::Embeddings, r#""truncate":"CHUNK""#, Chunk { tokens: None, overlap: 0 }),
        (Format::Embeddings, r#""truncate_prompt_tokens":-1"#, KeepStart(None)),
        (
            Format::Embeddings,
            r#""truncate_prompt_tokens":9,"truncation_side":"left""#,
            KeepEnd(Some(9)),
        ),
        (Format::Embeddings, r#""truncation_side":"left""#, Refuse),
        (Format::CohereEmbed, r#""max_tokens":7"#, KeepStart(Some(7))),
        (Format::CohereEmbed, r#""max_tokens":7,"truncate":"START""#, KeepEnd(Some(7))),
        (Format::OllamaEmbed, r#""truncate":false"#, Refuse),
        (Format::OllamaEmbed, r#""truncate":true"#, KeepStart(None)),
        (Format::Rerank, r#""truncation":true"#, KeepStart(None)),
        (Format::CohereRerank, r#""max_tokens_per_doc":64"#, KeepStart(Some(64))),
        (Format::TeiEmbed, r#""truncate":true,"truncation_direction":"Left""#, KeepEnd(None)),
        (Format::TeiSimilarity, r#""parameters":{"truncate":true}"#, KeepStart(None)),
    ];
    for (format, more, expect) in rows {
        assert_eq!(asks(format, more, &embedder())[0].long, expect, "{format:?} {more}");
    }
}

#[test]
fn a_models_own_instructions_are_found_by_what_texts_are_for() {
    let rows = [
        (Format::Embeddings, "", None),
        (Format::Embeddings, r#""prompt_name":"document""#, Some("document")),
        (Format::CohereEmbed, r#""input_type":"search_query""#, Some("search_query")),
        (Format::CohereEmbed, r#""input_type":"search_document""#, Some("document")),
        (Format::CohereEmbed, r#""input_type":"clustering""#, None),
    ];
    for (format, more, expect) in rows {
        let Want::Vector(Vectors { prompt, .. }) = &asks(format, more, &embedder())[0].want else {
            panic!("{more}: no vector")
        };
        assert_eq!(prompt.as_deref(), expect, "{more}");
    }
    let asked = with(Format::Embeddings, r#""prompt_name":"passage""#);
    faults(asked.encodings("m", &embedder()), "", "prompt_name", "search_query, document");
}

#[test]
fn a_query_is_read_with_each_text_or_beside_them() {
    let of = |labels: &[&str], late| Reads { labels: names(labels), late, ..embedder() };
    let more = r#""text_1":"q","text_2":["a","b"]"#;
    let body = format!("{{{more}}}");
    let asked = read_request(Format::Score, body.as_bytes()).expect("right");
    let count = |reads: &Reads| {
        let all = asked.encodings("m", reads).expect("it can");
        let one = |encoding: &Encoding| {
            let pairs = encoding.inputs.iter().filter(|input| input.pair.is_some()).count();
            (encoding.inputs.len(), pairs, encoding.want.clone())
        };
        all.iter().map(one).collect::<Vec<_>>()
    };
    let pairs = count(&of(&["LABEL_0"], false));
    assert_eq!(pairs, [(2, 2, Want::Scores { probabilities: true })]);
    let beside = count(&of(&[], false));
    let vectors = |prompt: &str| Vectors {
        normalise: Some(true),
        prompt: Some(prompt.to_owned()),
        ..Vectors::default()
    };
    let expect =
        [(1, 0, Want::Vector(vectors("search_query"))), (2, 0, Want::Vector(vectors("document")))];
    assert_eq!(beside, expect);
    let late = count(&of(&[], true));
    assert!(matches!(late[0].2, Want::TokenVectors(_)), "{late:?}");
    faults(asked.encodings("m", &of(&["a", "b"], false)), more, "model", "2 labels");
    faults(asked.encodings("m", &Reads::default()), more, "model", "does not make vectors");
}

#[test]
fn answers_and_texts_in_pairs_have_bounds() {
    let long = "x".repeat(1 << 20);
    let texts = vec!["a"; 2048];
    let body = json!({ "query": long, "documents": texts }).to_string();
    let asked = read_rerank(body.as_bytes()).expect("each is short enough");
    let judge = Reads { labels: names(&["LABEL_0"]), tokens: 512, ..Reads::default() };
    faults(asked.encodings("m", &judge), "pairs", "documents", "shorter query");
    let body = json!({ "inputs": vec!["x".repeat(1000); 2000] }).to_string();
    let asked = read_request(Format::TeiEmbedAll, body.as_bytes()).expect("right");
    let late = Reads { late: true, dimensions: 384, ..embedder() };
    faults(asked.encodings("m", &late), "token vectors", "inputs", "at most 16777216");
    let body = json!({ "input": vec!["x"; 2048] }).to_string();
    let asked = read_request(Format::Embeddings, body.as_bytes()).expect("right");
    assert!(asked.encodings("m", &Reads { dimensions: 4096, ..embedder() }).is_ok());
}

fn receipt() -> Receipt {
    match support::done(Finish::Stop, 0, None) {
        Event::Done(receipt) => *receipt,
        other => panic!("{other:?}"),
    }
}

fn encoded(outputs: Vec<Output>) -> Encoded {
    let read = |output| Read { output, tokens: 2, cut: false };
    Encoded {
        read: outputs.into_iter().map(read).collect(),
        labels: names(&["no", "yes"]),
        receipt: receipt(),
    }
}

fn write(asked: &Asked, read: &[Encoded]) -> Result<Value, Fault> {
    let stamp = Stamp { id: "1".into(), created_ms: 5000, model: "m".into() };
    let answer = asked.write_answer(&stamp, read)?;
    let value: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(answer.receipt.is_some(), value.is_array(), "a receipt has one place: {value}");
    Ok(value)
}

#[test]
fn answers_of_each_sort() {
    let vector = || encoded(vec![Output::Vector(vec![0.1, -0.2])]);
    let scores = |scores: &[f32]| encoded(vec![Output::Scores(scores.to_vec())]);
    let rows: Vec<(Asked, Encoded, &str, Value)> = vec![
        // Floats are told in their own shortest digits.
        (with(Format::Embeddings, ""), vector(), "/data/0/embedding", json!([0.1, -0.2])),
        (with(Format::TeiEmbed, ""), vector(), "", json!([[0.1, -0.2]])),
        (with(Format::OllamaEmbeddings, ""), vector(), "/embedding", json!([0.1, -0.2])),
        (
            with(Format::CohereEmbed, r#""embedding_types":["binary"]"#),
            vector(),
            "/embeddings",
            json!({ "binary": [[0]] }),
        ),
        (with(Format::Classify, ""), scores(&[0.25, 0.75]), "/data/0/label", json!("yes")),
        (with(Format::TeiPredict, ""), scores(&[0.25, 0.75]), "/0/label", json!("yes")),
        (with(Format::Score, ""), scores(&[0.5]), "/data/0/score", json!(0.5)),
        (with(Format::Score, ""), scores(&[0.5]), "/created", json!(5)),
    ];
    for (asked, read, place, expect) in rows {
        let answer = write(&asked, &[read]).expect("as it was asked");
        assert_eq!(answer.pointer(place), Some(&expect), "{:?}: {answer}", asked.format);
    }
}

#[test]
fn what_was_not_asked_for_or_is_no_number_is_our_fault() {
    let asked = with(Format::Classify, "");
    let vector = |x| encoded(vec![Output::Vector(vec![x])]);
    faults(write(&asked, &[vector(1.0)]), "classify", "", "this is a bug");
    faults(write(&asked, &[]), "nothing", "", "this is a bug");
    let asked = with(Format::Embeddings, "");
    faults(write(&asked, &[vector(f32::NAN)]), "embed", "", "no number");
    faults(write(&asked, &[vector(1.0), vector(1.0)]), "twice", "", "this is a bug");
}

#[test]
fn late_interaction_sums_the_nearest() {
    let asked = with(Format::Score, "");
    let of = |vectors: &[[f32; 2]]| {
        let vectors = vectors.iter().map(|vector| vector.to_vec()).collect();
        encoded(vec![Output::TokenVectors(vectors)])
    };
    let query = of(&[[1.0, 0.0], [0.0, 1.0]]);
    let rows: [(&[[f32; 2]], f64); 3] =
        [(&[[0.6, 0.8], [1.0, 0.0]], 1.8), (&[[0.0, 1.0]], 1.0), (&[], 0.0)];
    for (document, expect) in rows {
        let answer = write(&asked, &[query.clone(), of(document)]).expect("vectors");
        assert_eq!(answer["data"][0]["score"], json!(expect));
        assert_eq!(answer["ingle"].get("notes"), None, "it is what such models are for");
    }
}
