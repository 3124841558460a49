//! Hugging Face directories, run: tiny checkpoints of each architecture that writes, in the format
//! that they are stored in and quantised while they load, held against what `transformers` computes
//! of them in float64 (`tools/golden-directories.py`).

mod support;

use ingle_backend::KvType;
use ingle_backend::cpu::kernels::Kernels;
use ingle_engine::{Case, Footprint, Gold, Options, Report};
use ingle_model::gguf::Gguf;
use ingle_model::quantize::{self, recipe};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
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

/// The first text's tokens, and at each of them the likeliest three that may follow.
fn case(name: &str) -> Case {
    let text = std::fs::read_to_string(directory(&format!("{name}.json"))).expect("is there");
    let gold: Json = serde_json::from_str(&text).expect("is JSON");
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
