//! Whole files made smaller: which tensor gets which format, held against llama.cpp's own choices
//! (`tools/golden-recipes.py`); what is carried over; what is refused, leaving nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ingle_backend::{Bytes, Format};
use ingle_model::Error;
use ingle_model::gguf::{Array, Gguf, Outline, Planned, Value, Writer};
use ingle_model::pull::{Progress, Quiet};
use ingle_model::quantize::{Options, RECIPES, plan, quantize, recipe};

/// A folder of a test's own, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ingle-quantize-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("is there");
        entries.map(|entry| entry.expect("readable").file_name().display().to_string()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Weights of about 0.02, by SplitMix64.
fn weights(count: usize, seed: u64) -> Vec<f32> {
    let mix = |i: usize| {
        let z = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) >> 40) as f32 / (1 << 24) as f32 * 0.08 - 0.04
    };
    (0..count).map(mix).collect()
}

/// A file of these tensors, all random.
fn file(entries: &[(&str, Value)], tensors: &[(&str, &[u64], Format)]) -> Gguf {
    let mut outline = Outline::default();
    outline.set("general.architecture", Value::Str("llama".to_owned()));
    entries.iter().for_each(|(key, value)| outline.set(key, value.clone()));
    for (name, shape, format) in tensors {
        let (name, shape) = ((*name).to_owned(), shape.to_vec());
        outline.push(Planned { name, shape, format: *format });
    }
    let io = |source| Error::Io { path: "memory".into(), source };
    let mut writer = Writer::begin(&outline, Vec::new(), io).expect("a sound outline");
    for (at, planned) in outline.tensors().iter().enumerate() {
        let mut bytes = vec![0; planned.bytes().expect("small")];
        let weights = weights(planned.weights().expect("small"), at as u64);
        planned.format.quantise(&weights, &mut bytes).expect("finite");
        writer.weights(&bytes).expect("room");
    }
    Gguf::from_bytes(Bytes::from(writer.finish())).expect("a sound file")
}

fn options(name: &str) -> Options {
    Options { recipe: recipe(name).expect("a recipe"), requantize: false, threads: 2 }
}

/// The shapes of the golden file: layers, heads, KV heads, experts.
fn sizes(shape: &str) -> Vec<(&'static str, Value)> {
    let (layers, heads, kv_heads, experts) = match shape {
        "grouped" => (20, 8, 2, 0),
        "untied" => (20, 8, 8, 0),
        "odd" => (9, 9, 3, 0),
        "big" => (80, 8, 1, 0),
        "eight" => (16, 8, 2, 8),
        other => panic!("the shape {other} is not known here"),
    };
    [
        ("llama.block_count", layers),
        ("llama.attention.head_count", heads),
        ("llama.attention.head_count_kv", kv_heads),
        ("llama.expert_count", experts),
    ]
    .map(|(key, count)| (key, Value::U32(count)))
    .to_vec()
}

/// `Q6_Kx2 Q4_Kx18`, spelled out.
fn spelled<'a>(runs: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let run = |run: &'a str| {
        let (format, count) = run.rsplit_once('x').expect("FORMATxCOUNT");
        std::iter::repeat_n(format, count.parse().expect("a count"))
    };
    runs.flat_map(run).collect()
}

#[test]
fn tensors_get_the_formats_that_llama_cpp_gives_them() {
    let golden = include_str!("golden/recipes.txt");
    let mut checked = 0;
    for line in golden.lines() {
        let mut words = line.split(' ');
        let mut word = || words.next().expect("four words and the runs");
        let (shape, name, tensor, cols) = (word(), word(), word(), word());
        let expect = spelled(words);
        let cols: u64 = cols.parse().expect("a length");
        let names: Vec<String> =
            (0..expect.len()).map(|layer| tensor.replace('*', &layer.to_string())).collect();
        let dims: &[u64] = if tensor.contains("_exps") { &[cols, 2, 8] } else { &[cols, 2] };
        let mut tensors: Vec<(&str, &[u64], Format)> =
            names.iter().map(|name| (name.as_str(), dims, Format::F16)).collect();
        if shape == "untied" && tensor == "token_embd.weight" {
            tensors.push(("output.weight", dims, Format::F16));
        }
        if shape == "eight" && tensor == "token_embd.weight" {
            tensors.push(("output.weight", dims, Format::F16));
        }
        let (outline, _) = plan(&file(&sizes(shape), &tensors), &options(name)).expect("sound");
        let found = outline.tensors().iter().take(expect.len());
        let found: Vec<&str> = found.map(|planned| planned.format.name()).collect();
        assert_eq!(found, expect, "{line}");
        checked += 1;
    }
    assert!(checked > 500, "{checked} lines");
}

#[test]
fn every_recipe_has_a_name_and_a_number_of_its_own() {
    for (at, one) in RECIPES.iter().enumerate() {
        assert!(std::ptr::eq(recipe(&one.name.to_uppercase()).expect("is named"), one));
        for other in &RECIPES[at + 1..] {
            assert_ne!(one.name, other.name);
            assert_ne!(one.file_type, other.file_type, "{} and {}", one.name, other.name);
        }
    }
    assert_eq!(recipe("q4_k").map(|recipe| recipe.name), Some("q4_k_m"));
    assert!(recipe("").is_none() && recipe("q9").is_none());
}

/// A small model's tensors: matrices of more than one piece, a norm, a router, a bias.
const MODEL: &[(&str, &[u64], Format)] = &[
    ("token_embd.weight", &[256, 300], Format::F16),
    ("blk.0.attn_norm.weight", &[256], Format::F32),
    ("blk.0.attn_q.weight", &[256, 256], Format::BF16),
    ("blk.0.attn_q.bias", &[256], Format::F32),
    ("blk.0.ffn_gate_inp.weight", &[256, 4], Format::F32),
    ("blk.0.ffn_up.weight", &[256, 320], Format::F32),
    ("blk.0.ffn_down.weight", &[320, 256], Format::F32),
];

fn unpacked(file: &Gguf, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).expect("is there");
    let mut weights = vec![0.0; tensor.rows * tensor.cols];
    tensor.format.unpack(&tensor.bytes, &mut weights);
    weights
}

#[test]
fn a_smaller_copy_says_and_holds_the_same() {
    let scratch = Scratch::new();
    let tokens = Value::Array(Array::Strs(["a", "b"].into_iter().collect()));
    let entries = [("tokenizer.ggml.tokens", tokens.clone()), ("general.file_type", Value::U32(1))];
    let source = file(&entries, MODEL);
    for recipe in RECIPES {
        let path = scratch.0.join(recipe.name);
        // However the pieces are shared, the file is the same.
        let one = Options { threads: 1, ..options(recipe.name) };
        let report = quantize(&source, &one, &path, &mut Quiet).expect("sound");
        let bytes = fs::read(&path).expect("is there");
        let five = Options { threads: 5, ..one };
        assert_eq!(quantize(&source, &five, &path, &mut Quiet).expect("sound"), report);
        assert_eq!(fs::read(&path).expect("is there"), bytes, "{}", recipe.name);

        let copy = Gguf::open(&path).expect("a sound file");
        assert_eq!(copy.uint("general.file_type").expect("set"), u64::from(recipe.file_type));
        assert_eq!(copy.uint("general.quantization_version").expect("set"), 2);
        assert_eq!(copy.get("tokenizer.ggml.tokens"), Some(&tokens));
        assert_eq!((report.bytes, report.requantized), (bytes.len() as u64, 0));
        let stored: u64 = copy.tensors().iter().map(|tensor| tensor.bytes).sum();
        assert_eq!(report.formats.iter().map(|(_, bytes)| bytes).sum::<u64>(), stored);
        for ((name, shape, format), copied) in MODEL.iter().zip(copy.tensors()) {
            assert_eq!((*name, *shape), (copied.name.as_str(), &copied.shape[..]));
            let kept = shape.len() == 1 || name.contains("ffn_gate_inp");
            let expect = if kept { Some(*format) } else { copied.format };
            assert_eq!(copied.format, expect, "{name}");
            let (old, new) = (unpacked(&source, name), unpacked(&copy, name));
            let worst = old.iter().zip(&new).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
            let bound = if kept { 0.0 } else { 0.03 };
            assert!(worst <= bound, "{name} as {}: {worst}", recipe.name);
        }
    }
    assert_eq!(scratch.files().len(), RECIPES.len(), "nothing else is left behind");
}

/// The run fails with these words, and there is no file.
#[track_caller]
fn refused(source: &Gguf, options: &Options, progress: &mut dyn Progress, expect: &str) {
    let scratch = Scratch::new();
    let error = quantize(source, options, &scratch.0.join("out.gguf"), progress);
    let error = error.expect_err("refused").to_string();
    assert!(error.contains(expect), "{error:?} does not say {expect:?}");
    assert_eq!(scratch.files(), Vec::<String>::new());
}

#[test]
fn what_is_quantized_already_is_asked_about() {
    let tensors: &[(&str, &[u64], Format)] = &[("blk.0.attn_q.weight", &[256, 4], Format::Q8_0)];
    let source = file(&[], tensors);
    refused(
        &source,
        &options("q4_0"),
        &mut Quiet,
        "blk.0.attn_q.weight is quantized already (Q8_0)",
    );
    let scratch = Scratch::new();
    let made = |name: &str, requantize: bool| {
        let options = Options { requantize, ..options(name) };
        quantize(&source, &options, &scratch.0.join(name), &mut Quiet).expect("sound")
    };
    assert_eq!(made("q4_0", true).requantized, 1);
    // A copy loses nothing, nor do floats.
    assert_eq!((made("q8_0", false).requantized, made("f32", false).requantized), (0, 0));
    let copy = Gguf::open(&scratch.0.join("q8_0")).expect("sound");
    let name = "blk.0.attn_q.weight";
    assert_eq!(
        *copy.tensor(name).expect("there").bytes,
        *source.tensor(name).expect("there").bytes
    );
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let mut weights = weights(2048, 1);
    weights[1027] = f32::NAN;
    let mut outline = Outline::default();
    outline.set("general.architecture", Value::Str("llama".to_owned()));
    let (name, shape) = ("blk.0.attn_q.weight".to_owned(), vec![256, 8]);
    outline.push(Planned { name, shape, format: Format::F32 });
    let io = |source| Error::Io { path: "memory".into(), source };
    let mut writer = Writer::begin(&outline, Vec::new(), io).expect("sound");
    let bytes: Vec<u8> = weights.iter().flat_map(|x| x.to_le_bytes()).collect();
    writer.weights(&bytes).expect("room");
    let source = Gguf::from_bytes(Bytes::from(writer.finish())).expect("sound");
    for name in ["q4_k_m", "f16", "f32"] {
        let expect = "tensor blk.0.attn_q.weight: weight 1027 is NaN";
        refused(&source, &options(name), &mut Quiet, expect);
    }
}

#[test]
fn parts_of_a_model_are_refused() {
    let source = file(&[("split.count", Value::U16(3))], MODEL);
    refused(&source, &options("q8_0"), &mut Quiet, "one of 3 parts");
}

/// Ctrl-C, from the start on.
struct Stopped;

impl Progress for Stopped {
    fn begin(&mut self, _label: &str, _total: Option<u64>) {}
    fn advance(&mut self, _bytes_done: u64) {}
    fn done(&mut self) {}
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn whoever_stops_it_finds_nothing_left_behind() {
    refused(&file(&[], MODEL), &options("q8_0"), &mut Stopped, "interrupted");
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let path = Path::new("/nowhere/at/all/out.gguf");
    let error = quantize(&file(&[], MODEL), &options("q8_0"), path, &mut Quiet);
    assert!(error.expect_err("refused").to_string().contains("/nowhere/at/all/out.gguf"));
}
