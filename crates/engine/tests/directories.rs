//! Hugging Face directories, run: tiny checkpoints of each architecture that writes, in the format
//! that they are stored in and quantised while they load, held against what `transformers` computes
//! of them in float64 (`tools/golden-directories.py`); and models that make vectors, held against
//! those of `sentence-transformers` and `model2vec` (`tools/golden-vectors.py`).

mod support;

use ingle_backend::KvType;
use ingle_backend::cpu::kernels::Kernels;
use ingle_engine::{Arrival, Case, Encoder, Footprint, Gold, Options, Report};
use ingle_model::gguf::Gguf;
use ingle_model::quantize::{self, recipe};
use ingle_protocol::{Encoding, Fault, Long, Output, Passage, Read, Vectors, Want};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::open;

/// Directories of models that write, and the longest sequence that is asked of them, where what
/// rotates depends on it.
const NAMES: &[(&str, Option<usize>)] = &[
    ("llama", None),
    ("llama-pieces", None),
    ("mistral", None),
    ("qwen2", None),
    ("qwen3", None),
    ("qwen3moe", None),
    ("gemma2", None),
    ("gemma3", None),
    ("phi3", Some(32)),
    ("gpt-oss", None),
];

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden/directories").join(name)
}

fn options(context: Option<usize>) -> Options {
    Options {
        kernels: Some(Kernels::named("reference").expect("is in the table")),
        threads: Some(2),
        kv_type: Some(KvType::F32),
        kv_bytes: Some(4 << 20),
        context,
        ..Options::default()
    }
}

/// Directories of models that make vectors, and how far those may be from the golden ones in a
/// component. The last is of a model whose own code rounds its vectors to 16 bits.
const READERS: &[(&str, f64)] = &[
    ("bert-dense", 1e-5),
    ("nomic", 1e-5),
    ("nomic-own", 1e-5),
    ("embedding-gemma", 1e-5),
    ("qwen3-embedding", 1e-5),
    ("colbert", 1e-5),
    ("late-modules", 1e-5),
    ("xlm-roberta-map", 1e-5),
    ("static", 1e-5),
    ("model2vec", 1e-5),
    ("model2vec-words", 1e-5),
    ("model2vec-clusters", 1e-5),
    ("model2vec-pieces", 1e-5),
    ("model2vec-behind", 1e-5),
    ("model2vec-half", 2e-3),
];

/// What is said of a directory beside it.
fn told(name: &str) -> Json {
    let text = std::fs::read_to_string(directory(&format!("{name}.json"))).expect("is there");
    serde_json::from_str(&text).expect("is JSON")
}

fn list(json: &Json) -> &[Json] {
    json.as_array().expect("a list")
}

fn encoder(name: &str) -> Encoder {
    let opened = Encoder::open(name, &directory(name), &options(None), &mut |_| {});
    opened.unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

fn read(encoder: &Encoder, texts: &[&str], long: Long, want: Want) -> Result<Vec<Read>, Fault> {
    let inputs = texts.iter().map(|text| Passage::text(*text)).collect();
    let encoding = Encoding { inputs, long, want, ..Encoding::default() };
    let arrival = Arrival { at: Instant::now(), load: Duration::ZERO, cancelled: Arc::default() };
    Ok(encoder.encode(&encoding, &arrival)?.read)
}

/// The first text's tokens, and at each of them the likeliest three that may follow.
fn case(name: &str) -> Case {
    let gold = told(name);
    let id = |id: &Json| id.as_u64().expect("an id") as u32;
    let ids = gold["texts"][0]["ids"].as_array().expect("a list").iter().map(id).collect();
    let positions = gold["output"].as_array().expect("a list").iter().map(|likeliest| {
        let likeliest = likeliest.as_array().expect("a list").iter();
        Gold { top: likeliest.map(|it| (id(&it[0]), it[1].as_f64().expect("a number"))).collect() }
    });
    Case { ids, gold: positions.collect() }
}

#[test]
fn directories_compute_what_transformers_does() {
    for &(name, context) in NAMES {
        let model = open(&directory(name), &options(context));
        let report = Report::of(&model, &[case(name)]).expect("scores");
        assert!(report.positions > 5, "{name}: {report:?}");
        assert_eq!(report.top1_agreement, 1.0, "{name}: {report:?}");
        assert!(report.mean_abs_delta <= 2e-5, "{name}: {report:?}");
    }
}

/// A model that is quantised while it loads computes the same, bit for bit, as the file that
/// `ingle quantize` writes, and its footprint is told without reading weights.
#[test]
fn quantising_while_loading_is_quantising_before() {
    let folder = std::env::temp_dir().join(format!("ingle-loading-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let path = folder.join("copy.gguf");
    for (name, format) in [("llama", "q8_0"), ("gpt-oss", "q4_0"), ("gemma3", "q4_k_m")] {
        let recipe = recipe(format).expect("is in the table");
        let how = quantize::Options { recipe, requantize: false, threads: 2 };
        let file = Gguf::open(&directory(name)).expect("a sound directory");
        quantize::quantize(&file, &how, &path, &mut ingle_model::pull::Quiet).expect("written");
        let kernels = Kernels::best();
        let best = Options { kernels: Some(kernels), ..options(None) };
        let quantised = Options { quantize: Some(recipe), ..best.clone() };
        let tokens = case(name).ids;
        let scored = |path: &Path, options: &Options| {
            let wanted = vec![vec![1, 2, 3]; tokens.len()];
            open(path, options).score(&tokens, wanted).expect("scores")
        };
        assert_eq!(scored(&directory(name), &quantised), scored(&path, &best), "{name}");
        let told = |path: &Path, options: &Options| Footprint::of(path, options).expect("told");
        assert_eq!(told(&directory(name), &quantised), told(&path, &best), "{name}");
    }
    std::fs::remove_dir_all(&folder).expect("our own folder");
}

/// The largest distance of a component, and the largest cosine distance of a row.
fn apart(name: &str, found: &[f32], expect: &Json) -> (f64, f64) {
    let expect: Vec<f64> = list(expect).iter().map(|v| v.as_f64().expect("a number")).collect();
    assert_eq!(found.len(), expect.len(), "{name}");
    let found: Vec<f64> = found.iter().copied().map(f64::from).collect();
    let most = found.iter().zip(&expect).fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let lengths = (dot(&found, &found) * dot(&expect, &expect)).sqrt();
    (most, if lengths > 0.0 { 1.0 - dot(&found, &expect) / lengths } else { 0.0 })
}

/// Of each text, with the instruction that the golden vectors were made with; what is too long
/// loses its end, as there. Where vectors have not length 1 there, they keep theirs; directories of
/// static embeddings say that themselves.
#[test]
fn directories_make_the_vectors_of_their_own_programs() {
    for &(name, tolerance) in READERS {
        let (encoder, gold) = (encoder(name), told(name));
        let texts: Vec<&str> = list(&gold["read"]).iter().filter_map(Json::as_str).collect();
        let says_so = encoder.architecture() == "model2vec";
        let vectors = Vectors {
            prompt: gold["prompt"].as_str().map(str::to_owned),
            normalise: gold["normalised"].as_bool().filter(|_| !says_so),
            ..Vectors::default()
        };
        let late = encoder.reads().late;
        let want = if late { Want::TokenVectors(vectors) } else { Want::Vector(vectors) };
        let read = read(&encoder, &texts, Long::KeepStart(None), want);
        let read = read.unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let (mut most, mut angle) = (0.0f64, 0.0f64);
        for (at, read) in read.iter().enumerate() {
            let rows: Vec<(&[f32], &Json)> = match &read.output {
                Output::Vector(vector) => vec![(vector, &gold["vectors"][at])],
                Output::TokenVectors(vectors) => {
                    let expect = list(&gold["late"][at]);
                    assert_eq!(vectors.len(), expect.len(), "{name}: {:?}", texts[at]);
                    vectors.iter().map(Vec::as_slice).zip(expect).collect()
                }
                other => panic!("{name}: {other:?}"),
            };
            for (found, expect) in rows {
                let (apart, turned) = apart(name, found, expect);
                assert!(apart <= tolerance, "{name}: {:?} is {apart} away", texts[at]);
                (most, angle) = (most.max(apart), angle.max(turned));
            }
        }
        println!("{name}: a component {most:.1e} away, cosine distances up to {angle:.1e}");
    }
}
