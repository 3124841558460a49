//! Models that read: what `transformers` computes of tiny checkpoints of each kind, and what must
//! hold whatever the model is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingle_backend::KvType;
use ingle_backend::cpu::kernels::Kernels;
use ingle_engine::{Arrival, Encoder, Options};
use ingle_protocol::{
    Encoded, Encoding, Fault, Long, Output, Passage, Read, Vectors, Want, Written,
};
use serde_json::Value as Json;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden/directories")
}

fn opened(name: &str, kernels: Option<&str>) -> Encoder {
    let kernels = kernels.map(|name| Kernels::named(name).expect("runs everywhere"));
    let kv_type = Some(KvType::F32);
    let options = Options { threads: Some(2), kernels, kv_type, ..Options::default() };
    let opened = Encoder::open(name, &golden().join(name), &options, &mut |_| {});
    opened.unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

fn ask(encoder: &Encoder, encoding: &Encoding) -> Result<Encoded, Fault> {
    let arrival = Arrival { at: Instant::now(), load: Duration::ZERO, cancelled: Arc::default() };
    encoder.encode(encoding, &arrival)
}

/// Without the instruction that a file names as usual.
fn vectors() -> Vectors {
    Vectors { prompt: Some("document".into()), ..Vectors::default() }
}

fn late() -> Want {
    Want::TokenVectors(Vectors::default())
}

fn plain(encoder: &Encoder, inputs: Vec<Passage>) -> Encoding {
    let reads = encoder.reads();
    let want = if !reads.labels.is_empty() {
        Want::Scores { probabilities: false }
    } else if !reads.tags.is_empty() {
        Want::Tags
    } else if reads.sparse {
        Want::Sparse
    } else if reads.late {
        late()
    } else if reads.prompts.iter().any(|name| name == "document") {
        Want::Vector(vectors())
    } else {
        Want::default()
    };
    Encoding { inputs, want, ..Encoding::default() }
}

struct Gold {
    text: String,
    tokens: usize,
    /// What the network computes of each token, or of the text.
    rows: Vec<Vec<f64>>,
}

fn told(name: &str) -> Json {
    let path = golden().join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(path).expect("is there")).expect("is JSON")
}

fn gold(name: &str) -> Gold {
    let json = told(name);
    let row = |row: &Json| {
        row.as_array().expect("a row").iter().map(|v| v.as_f64().expect("a number")).collect()
    };
    let case = &json["texts"][0];
    Gold {
        text: case["text"].as_str().expect("a text").to_owned(),
        tokens: case["ids"].as_array().expect("a list").len(),
        rows: json["output"].as_array().expect("rows").iter().map(row).collect(),
    }
}

/// Directories of models that read.
fn readers() -> Vec<String> {
    let entries = std::fs::read_dir(golden()).expect("is there").flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let names = folders.map(|entry| entry.file_name().into_string().expect("plain"));
    let reads = |name: &String| {
        let gguf = ingle_model::gguf::Gguf::open(&golden().join(name)).expect("sound");
        ingle_model::reading::Reading::of(&gguf).expect("sound").is_some()
    };
    let mut names: Vec<String> = names.filter(reads).collect();
    names.sort();
    names
}

fn normalised(vector: &[f64]) -> Vec<f64> {
    let length = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
    vector.iter().map(|v| v / length).collect()
}

fn near(what: &str, found: &[f32], expect: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expect.len(), "{what}");
    let most = expect.iter().fold(1e-9f64, |most, v| most.max(v.abs()));
    for (at, (found, expect)) in found.iter().zip(expect).enumerate() {
        let apart = (f64::from(*found) - expect).abs() / most;
        assert!(apart <= tolerance, "{what}: {found} is not {expect} at {at}");
    }
}

/// What the pass gives, made of the rows that `transformers` computed.
fn expected(name: &str, encoder: &Encoder, gold: &Gold, found: &Read, tolerance: f64) {
    let columns = gold.rows[0].len();
    match &found.output {
        Output::Vector(vector) => {
            let last = encoder.architecture() == "qwen3";
            let rows = if last { &gold.rows[gold.rows.len() - 1..] } else { &gold.rows[..] };
            let mean = |d: usize| rows.iter().map(|row| row[d]).sum::<f64>();
            let mean: Vec<f64> = (0..columns).map(mean).collect();
            near(name, vector, &normalised(&mean), tolerance);
        }
        Output::Scores(scores) => near(name, scores, &gold.rows[0], tolerance),
        Output::Sparse(words) => {
            let most = |d: usize| gold.rows.iter().fold(0.0f64, |most, row| most.max(row[d]));
            let expect: Vec<f64> = (0..columns).map(|d| most(d).ln_1p()).collect();
            let mut weights = vec![0.0f32; columns];
            words.iter().for_each(|(token, weight)| weights[*token as usize] = *weight);
            near(name, &weights, &expect, tolerance);
        }
        Output::Tags(tags) => {
            assert_eq!(tags.len(), gold.rows.len() - 2, "{name}: the marks have no labels");
            for (tag, row) in tags.iter().zip(&gold.rows[1..]) {
                let total: f64 = row.iter().map(|v| v.exp()).sum();
                let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
                let (label, score) = best.expect("labels");
                assert_eq!(tag.label as usize, label, "{name}");
                near(name, &[tag.score], &[score.exp() / total], tolerance);
            }
        }
        Output::TokenVectors(vectors) => {
            for (vector, row) in vectors.iter().zip(&gold.rows) {
                near(name, vector, &normalised(row), tolerance);
            }
        }
    }
}

#[test]
fn readers_compute_what_transformers_does() {
    let names = readers();
    for expect in ["bert", "bert-labels", "bert-masked", "bert-tags"] {
        assert!(names.iter().any(|name| name == expect), "{expect} is gone");
    }
    // Vectors of whole texts are held elsewhere (`directories.rs`).
    for name in names.iter().filter(|name| told(name).get("read").is_none()) {
        for (kernels, tolerance) in
            [(Some("reference"), 2e-5), (Some("portable"), 1e-4), (None, 1e-4)]
        {
            let (encoder, gold) = (opened(name, kernels), gold(name));
            let read = ask(&encoder, &plain(&encoder, vec![Passage::text(&*gold.text)]));
            let read = read.unwrap_or_else(|fault| panic!("{name}: {fault}"));
            assert_eq!(read.receipt.usage.prompt_tokens as usize, gold.tokens, "{name}");
            expected(name, &encoder, &gold, &read.read[0], tolerance);
        }
    }
}

const TEXTS: [&str; 5] = [
    "the rain",
    "In the beginning there was a header, and the header was without form.",
    "",
    "a lazy dog jumps over the quick brown fox, again and again; isn't it the fox?",
    "it's raining",
];

/// Bit for bit, in any company.
#[test]
fn what_else_is_read_changes_nothing() {
    for name in readers() {
        let encoder = opened(&name, None);
        let passages = || TEXTS.iter().map(|text| Passage::text(*text));
        let long = Long::KeepStart(None);
        let plain = |inputs| Encoding { long, ..plain(&encoder, inputs) };
        let together = ask(&encoder, &plain(passages().collect())).expect("sound");
        for (passage, together) in passages().zip(&together.read) {
            let alone = ask(&encoder, &plain(vec![passage])).expect("sound");
            assert_eq!(alone.read[0], *together, "{name}");
        }
    }
}

#[test]
fn many_callers_are_served_at_once() {
    let encoder = opened("bert", None);
    let alone = ask(&encoder, &plain(&encoder, vec![Passage::text("the dog")])).expect("sound");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let inputs = vec![Passage::text("the dog"); 40];
                let many = ask(&encoder, &plain(&encoder, inputs)).expect("sound");
                assert!(many.read.iter().all(|read| *read == alone.read[0]));
            });
        }
    });
    let totals = encoder.totals();
    assert_eq!(
        (totals.texts, totals.tokens),
        (321, 321 * alone.receipt.usage.prompt_tokens as u64)
    );
}

fn tokens_of(encoder: &Encoder, text: &str, long: Long) -> Result<Read, Fault> {
    let encoding = Encoding { long, ..plain(encoder, vec![Passage::text(text)]) };
    Ok(ask(encoder, &encoding)?.read.remove(0))
}

#[test]
fn long_texts_are_refused_cut_or_read_in_pieces() {
    let encoder = opened("bert", None);
    assert_eq!(encoder.reads().tokens, 32);
    let long = "the rain in Spain stays mainly in the plain ".repeat(20);
    let fault = tokens_of(&encoder, &long, Long::Refuse).expect_err("too long");
    assert!(fault.message.contains("the model reads 32"), "{fault}");
    let cut = tokens_of(&encoder, &long, Long::KeepStart(None)).expect("cut");
    assert_eq!((cut.tokens, cut.cut), (32, true));
    let short = tokens_of(&encoder, &long, Long::KeepStart(Some(9))).expect("cut");
    assert_eq!((short.tokens, short.cut), (9, true));
    let end = tokens_of(&encoder, &long, Long::KeepEnd(Some(9))).expect("cut");
    assert_ne!(end.output, short.output);
    let whole = tokens_of(&encoder, "the rain", Long::KeepEnd(Some(9))).expect("fits");
    assert_eq!(whole, tokens_of(&encoder, "the rain", Long::Refuse).expect("fits"));
    let chunked = tokens_of(&encoder, &long, Long::Chunk { tokens: None, overlap: 4 });
    let chunked = chunked.expect("in pieces");
    assert!(chunked.tokens > 200 && !chunked.cut, "{}", chunked.tokens);
    let Output::Vector(vector) = chunked.output else { panic!("a vector") };
    let length: f32 = vector.iter().map(|v| v * v).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    let fault = tokens_of(&encoder, &long, Long::Chunk { tokens: Some(9), overlap: 5 });
    assert!(fault.expect_err("too much").message.contains("overlap"));
    assert!(tokens_of(&encoder, &long, Long::KeepStart(Some(2))).is_err(), "no room");
}

/// Words stand in any order, none of them has the vector of zeros, and pieces are as good as a
/// whole.
#[test]
fn static_embeddings_are_means_of_tokens() {
    let short = opened("model2vec", None);
    let vector = |encoder: &Encoder, text: &str, long: Long| {
        let read = tokens_of(encoder, text, long)?;
        let Output::Vector(vector) = read.output else { panic!("a vector") };
        Ok::<_, Fault>((vector.into_iter().map(f64::from).collect::<Vec<f64>>(), read.tokens))
    };
    for text in ["", " ", "∑ ∏∏"] {
        let nothing = vector(&short, text, Long::Refuse).expect("is read");
        assert_eq!(nothing, (vec![0.0; 16], 0), "{text:?}");
    }
    let same = |found: &[f64], expect: &[f64]| {
        let found: Vec<f32> = found.iter().map(|v| *v as f32).collect();
        near("static", &found, expect, 1e-5);
    };
    let (forth, tokens) = vector(&short, "the dog", Long::Refuse).expect("is read");
    let (back, _) = vector(&short, "dog ∑ the", Long::Refuse).expect("is read");
    same(&forth, &back);
    assert!(tokens > 0 && forth.iter().any(|v| *v != 0.0));

    let long = "the rain in Spain stays mainly in the plain ".repeat(20);
    assert_eq!(short.reads().tokens, 12);
    assert!(vector(&short, &long, Long::Refuse).is_err(), "longer than its configuration says");
    let cut = tokens_of(&short, &long, Long::KeepStart(None)).expect("is cut");
    assert!(cut.cut && cut.tokens <= 12, "{cut:?}");
    let free = opened("model2vec-clusters", None);
    let (whole, tokens) = vector(&free, &long, Long::Refuse).expect("of any length");
    let pieces = Long::Chunk { tokens: Some(50), overlap: 0 };
    let (pieces, same_tokens) = vector(&free, &long, pieces).expect("in pieces");
    assert_eq!(tokens, same_tokens);
    same(&whole, &pieces);
}

#[test]
fn vectors_are_cut_and_left_as_long_as_they_are() {
    let encoder = opened("bert", None);
    let vector = |vectors: Vectors| {
        let inputs = vec![Passage::text("the dog")];
        let encoding = Encoding { inputs, want: Want::Vector(vectors), ..Encoding::default() };
        match ask(&encoder, &encoding)?.read.remove(0).output {
            Output::Vector(vector) => Ok::<_, Fault>(vector),
            other => panic!("{other:?}"),
        }
    };
    let length = |v: &[f32]| v.iter().map(|v| v * v).sum::<f32>().sqrt();
    let whole = vector(vectors()).expect("sound");
    let raw = vector(Vectors { normalise: Some(false), ..vectors() }).expect("sound");
    assert!((length(&whole) - 1.0).abs() < 1e-5 && (length(&raw) - 1.0).abs() > 0.1);
    let half = vector(Vectors { dimensions: Some(8), ..vectors() }).expect("sound");
    let expect: Vec<f64> =
        normalised(&whole[..8].iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
    near("half", &half, &expect, 1e-5);
    let query = vector(Vectors { prompt: Some("query".into()), ..vectors() }).expect("sound");
    assert_eq!(query, vector(Vectors::default()).expect("sound"), "it is the usual one");
    assert_ne!(query, whole);
    for wrong in [Some(0), Some(17)] {
        assert!(vector(Vectors { dimensions: wrong, ..vectors() }).is_err(), "{wrong:?}");
    }
    let fault = vector(Vectors { prompt: Some("poem".into()), ..vectors() });
    assert!(fault.expect_err("unknown").message.contains("query, document"));
}

#[test]
fn what_a_model_does_not_make_is_refused() {
    let check = |name: &str, want: Want, words: &str| {
        let encoder = opened(name, None);
        let encoding = Encoding { inputs: vec![Passage::text("x")], want, ..Encoding::default() };
        let fault = ask(&encoder, &encoding).expect_err(words);
        assert!(fault.message.contains(words), "{fault}");
    };
    check("bert", Want::Sparse, "weights of words");
    check("bert", Want::Scores { probabilities: true }, "labels of texts");
    check("bert-labels", Want::default(), "vectors");
    check("bert-masked", Want::Tags, "labels of tokens");
    check("bert", Want::TokenVectors(Vectors::default()), "a vector a token");
}

#[test]
fn token_ids_are_read_as_they_stand() {
    let encoder = opened("bert", None);
    let text = ask(&encoder, &plain(&encoder, vec![Passage::text("the dog")])).expect("sound");
    let ids = encoder.tokenizer().encode_prompt("the dog", ingle_model::tokenizer::Special::Plain);
    let passage = |ids| Passage { text: Written::Tokens(ids), pair: None };
    let read = ask(&encoder, &plain(&encoder, vec![passage(ids)])).expect("sound");
    assert_eq!(read.read[0].output, text.read[0].output);
    assert!(ask(&encoder, &plain(&encoder, vec![passage(vec![1 << 20])])).is_err());
    assert!(ask(&encoder, &plain(&encoder, vec![passage(vec![])])).is_err(), "nothing to read");
}

#[test]
fn a_request_that_is_late_or_gone_ends() {
    let encoder = opened("bert", None);
    let encoding = |timeout_ms| Encoding {
        timeout_ms,
        ..plain(&encoder, vec![Passage::text("the dog"); 2000])
    };
    let fault = ask(&encoder, &encoding(Some(0))).expect_err("late");
    assert!(fault.message.contains("time"), "{fault}");
    let arrival =
        Arrival { at: Instant::now(), load: Duration::ZERO, cancelled: Arc::new(true.into()) };
    assert!(encoder.encode(&encoding(None), &arrival).is_err());
    assert!(ask(&encoder, &encoding(None)).is_ok());
}
