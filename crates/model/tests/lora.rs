//! Adapters from files: which matrices they add to, in which order of rows and how much; what does
//! not fit or is not sound is refused, and says why.

use ingle_backend::cpu::Cpu;
use ingle_backend::cpu::kernels::Kernels;
use ingle_backend::{Delta, Format};
use ingle_model::archs::{Targets, record};
use ingle_model::gguf::{Gguf, Outline, Planned, Value, Writer};
use ingle_model::lora::Lora;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const PLAIN: &str = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 6}"#;

/// A folder of a test's own, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ingle-lora-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }

    /// An adapter as `peft` saves it.
    fn peft(&self, config: &str, tensors: &[Matrix<'_>]) -> &Path {
        self.write("adapter_config.json", config);
        self.write("adapter_model.safetensors", safetensors(tensors));
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A name, rows and columns; its numbers count up from 0.
type Matrix<'a> = (&'a str, usize, usize);

fn numbers(count: usize) -> Vec<u8> {
    (0..count).flat_map(|at| (at as f32).to_le_bytes()).collect()
}

fn safetensors(of: &[Matrix<'_>]) -> Vec<u8> {
    let (mut header, mut data) = (Vec::new(), Vec::new());
    for (name, rows, cols) in of {
        let from = data.len();
        data.extend(numbers(rows * cols));
        header.push(format!(
            r#""{name}":{{"dtype":"F32","shape":[{rows},{cols}],"data_offsets":[{from},{}]}}"#,
            data.len()
        ));
    }
    let header = format!("{{{}}}", header.join(","));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

fn gguf(metadata: &[(&str, Value)], of: &[Matrix<'_>]) -> Vec<u8> {
    let mut outline = Outline::default();
    metadata.iter().for_each(|(key, value)| outline.set(key, value.clone()));
    for (name, rows, cols) in of {
        let shape = vec![*cols as u64, *rows as u64];
        outline.push(Planned { name: (*name).to_owned(), shape, format: Format::F32 });
    }
    let io = |_| unreachable!("memory does not fail");
    let mut writer = Writer::begin(&outline, Vec::new(), io).expect("a sound outline");
    for (_, rows, cols) in of {
        writer.weights(&numbers(rows * cols)).expect("memory");
    }
    writer.finish()
}

/// What adapters may add to in one of the tiny checkpoints.
fn targets(name: &str) -> Arc<Targets> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden/archs");
    let file = Gguf::open(&folder.join(format!("{name}.gguf"))).expect("a sound file");
    let mut cpu = Cpu::new(Kernels::best(), 1);
    record(&file, &mut cpu, None).expect("a known architecture").targets
}

fn module(name: &str, end: &str) -> String {
    format!("base_model.model.model.layers.1.{name}.lora_{end}.weight")
}

/// The deltas of an adapter of one module, of rank 2.
fn deltas(model: &str, name: &str, (rows, cols): (usize, usize)) -> Vec<Delta> {
    let folder = Folder::new();
    let (a, b) = (module(name, "A"), module(name, "B"));
    let lora = Lora::open(folder.peft(PLAIN, &[(&a, 2, cols), (&b, rows, 2)])).expect("sound");
    lora.deltas(&targets(model)).expect("fits")
}

/// The rows of `b`, by the number that the file has first in them: a scale of 3, and two a row.
fn rows(delta: &Delta) -> Vec<usize> {
    delta.b.chunks(2).map(|row| row[0] as usize / 6).collect()
}

#[test]
fn rows_of_heads_that_rotate_as_neighbours_are_brought_into_that_order() {
    // Heads of 16.
    let [q] = &deltas("llama-rope-scaled", "self_attn.q_proj", (64, 64))[..] else { panic!("one") };
    assert_eq!(rows(q)[..6], [0, 8, 1, 9, 2, 10]);
    assert_eq!(rows(q)[62..], [55, 63]);
    assert_eq!((q.rank, q.a.len(), q.a[1], q.b[1]), (2, 128, 1.0, 3.0));
    let [v] = &deltas("llama-rope-scaled", "self_attn.v_proj", (32, 64))[..] else { panic!("one") };
    assert_eq!(rows(v), (0..32).collect::<Vec<_>>());
    let [q] = &deltas("qwen2", "self_attn.q_proj", (64, 64))[..] else { panic!("one") };
    assert_eq!(rows(q), (0..64).collect::<Vec<_>>());
}

#[test]
fn a_matrix_that_the_graph_has_in_parts_is_adapted_in_parts() {
    let parts = deltas("phi3", "self_attn.qkv_proj", (128, 64));
    let expect: [Vec<usize>; 3] = [0..64, 64..96, 96..128].map(Iterator::collect);
    assert_eq!(parts.iter().map(rows).collect::<Vec<_>>(), expect);
    assert!(parts.iter().all(|part| part.a == parts[0].a));
    let parts = deltas("phi3", "mlp.gate_up_proj", (192, 64));
    assert_eq!(parts.iter().map(|part| rows(part).len()).collect::<Vec<_>>(), [96, 96]);
}

#[test]
fn the_output_is_a_matrix_whether_tied_or_not() {
    for model in ["llama-rope-scaled", "qwen3"] {
        let folder = Folder::new();
        let names = ["A", "B"].map(|end| format!("base_model.model.lm_head.lora_{end}.weight"));
        let lora = Lora::open(folder.peft(PLAIN, &[(&names[0], 2, 64), (&names[1], 259, 2)]));
        assert_eq!(lora.expect("sound").deltas(&targets(model)).expect("fits").len(), 1, "{model}");
    }
}

fn about(arch: &str, alpha: f32) -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::Str(text.to_owned());
    vec![
        ("general.architecture", text(arch)),
        ("general.type", text("adapter")),
        ("adapter.type", text("lora")),
        ("adapter.lora.alpha", Value::F32(alpha)),
    ]
}

const OF_Q: [Matrix<'_>; 2] =
    [("blk.0.attn_q.weight.lora_a", 2, 64), ("blk.0.attn_q.weight.lora_b", 64, 2)];

#[test]
fn gguf_adapters_are_taken_as_they_stand() {
    let folder = Folder::new();
    let targets = targets("llama-rope-scaled");
    for (alpha, scale) in [(6.0, 3.0), (0.0, 1.0)] {
        let path = folder.write("a.gguf", gguf(&about("llama", alpha), &OF_Q));
        let deltas = Lora::open(&path).expect("sound").deltas(&targets).expect("fits");
        let expect: Vec<f32> = (0..128).map(|at| at as f32 * scale).collect();
        assert_eq!((deltas.len(), &deltas[0].b), (1, &expect));
    }
}

#[test]
fn a_digest_stands_for_what_is_added() {
    let folder = Folder::new();
    let digest = |alpha, of: &[Matrix<'_>]| {
        let path = folder.write("a.gguf", gguf(&about("llama", alpha), of));
        Lora::open(&path).expect("sound").digest().to_owned()
    };
    let first = digest(6.0, &OF_Q);
    assert_eq!(first, digest(6.0, &[OF_Q[1], OF_Q[0]]));
    assert_ne!(first, digest(5.0, &OF_Q));
    let others = OF_Q.map(|(name, rows, cols)| (name.replace("attn_q", "attn_k"), rows, cols));
    let others = others.each_ref().map(|(name, rows, cols)| (name.as_str(), *rows, *cols));
    assert_ne!(first, digest(6.0, &others));
}

#[test]
fn what_does_not_fit_is_refused() {
    let targets = targets("qwen3");
    let check = |config: &str, of: &[(String, usize, usize)], expect: &str| {
        let folder = Folder::new();
        let of: Vec<Matrix<'_>> = of.iter().map(|(name, r, c)| (name.as_str(), *r, *c)).collect();
        let lora = Lora::open(folder.peft(config, &of));
        let error = lora.and_then(|lora| lora.deltas(&targets)).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}, not {expect}");
    };
    let pair = |name: &str, (rank, cols): (usize, usize), (rows, other): (usize, usize)| {
        vec![(module(name, "A"), rank, cols), (module(name, "B"), rows, other)]
    };
    let q = "self_attn.q_proj"; // [128, 64]
    check(PLAIN, &[], "adds nothing");
    check(PLAIN, &pair(q, (2, 63), (128, 2)), "128 rows of 63, and this model's has 128 of 64");
    check(PLAIN, &pair(q, (2, 64), (64, 2)), "64 rows of 64");
    check(PLAIN, &pair(q, (3, 64), (128, 2)), "rank for model.layers.1.self_attn.q_proj is 3");
    check(PLAIN, &pair(q, (2, 64), (128, 3)), "ranks have to be the same");
    check(PLAIN, &pair("mlp.router", (2, 64), (128, 2)), "no matrix is known by that name");
    check(PLAIN, &pair(q, (2, 64), (128, 2))[..1], "one of two matrices");
    check(r#"{"peft_type": "LORA", "use_dora": true}"#, &pair(q, (2, 64), (128, 2)), "use_dora");
    let dora = [("base_model.model.model.layers.1.x.lora_magnitude_vector".to_owned(), 1, 64)];
    check(PLAIN, &dora, "lora_magnitude_vector is no part of a low-rank pair");
    check("[]", &pair(q, (2, 64), (128, 2)), "adapter_config.json");
    let far = pair(q, (2, 64), (128, 2));
    let far: Vec<_> = far.into_iter().map(|(n, r, c)| (n.replace(".1.", ".7."), r, c)).collect();
    check(PLAIN, &far, "adapts blk.7.attn_q, and this model (qwen3) multiplies by no such matrix");
    let huge = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 1e308}"#;
    check(huge, &pair(q, (2, 64), (128, 2)), "numbers that are none, or too large");
}

#[test]
fn gguf_files_that_are_no_such_adapters_are_refused() {
    let targets = targets("llama-rope-scaled");
    let check = |metadata: &[(&str, Value)], of: &[Matrix<'_>], expect: &str| {
        let folder = Folder::new();
        let path = folder.write("a.gguf", gguf(metadata, of));
        let lora = Lora::open(&path);
        let error = lora.and_then(|lora| lora.deltas(&targets)).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}, not {expect}");
    };
    check(&about("llama", 1.0)[..1], &OF_Q, "general.type is \"\"");
    check(&about("qwen2", 1.0), &OF_Q, "for models of qwen2, and this is one of llama");
    check(&about("llama", 1.0), &[], "adds nothing");
    check(&about("llama", 1.0), &[("blk.0.attn_q.weight", 64, 64)], "no part of such a pair");
    let wakes = ("adapter.alora.invocation_tokens", Value::U32(3));
    let metadata = [about("llama", 1.0), vec![wakes]].concat();
    check(&metadata, &OF_Q, "wakes only after some tokens");
    let table = ["token_embd.weight.lora_a", "token_embd.weight.lora_b"];
    check(&about("llama", 1.0), &[(table[0], 2, 64), (table[1], 259, 2)], "token_embd");
}

/// Cut anywhere, or with any byte of its head another, it is refused or sound, and never a panic.
#[test]
fn broken_weights_are_no_panic() {
    let folder = Folder::new();
    let names = ["A", "B"].map(|end| module("self_attn.v_proj", end));
    folder.peft(PLAIN, &[(&names[0], 2, 64), (&names[1], 64, 2)]);
    let path = folder.0.join("adapter_model.safetensors");
    let whole = std::fs::read(&path).expect("written");
    let targets = targets("qwen3");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        Lora::open(&folder.0).and_then(|lora| lora.deltas(&targets)).is_ok()
    };
    assert!(read(&whole));
    let head = whole.len() - 4 * 2 * (64 + 64);
    for cut in (0..head).step_by(7).chain([head, whole.len() - 1]) {
        assert!(!read(&whole[..cut]), "cut at {cut}");
    }
    for at in 0..head {
        let mut other = whole.clone();
        other[at] ^= 0x11;
        read(&other);
    }
}
