//! Adapters made up for a model: random ones, written as GGUF files, and models into whose weights
//! they are merged by hand, in double precision.

use ingle_backend::Format;
use ingle_model::Error;
use ingle_model::gguf::{Gguf, Outline, Planned, Tensor, Value, Writer};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory of its own, gone when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ingle-adapters-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is added to one matrix: its name without `.weight`, `[rank, cols]` and `[rows, rank]`.
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) rank: usize,
    pub(crate) a: Vec<f32>,
    pub(crate) b: Vec<f32>,
}

/// Numbers of about 1, by SplitMix64.
fn random(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A random adapter of these matrices of a model, of about `size` of their weights.
pub(crate) fn made_up(
    model: &Gguf,
    names: &[String],
    rank: usize,
    size: f32,
    seed: u64,
) -> Vec<Pair> {
    let mut random = random(seed);
    let pair = |name: &String| {
        let Tensor { rows, cols, .. } = model.tensor(&format!("{name}.weight")).expect("has it");
        let by = size / (cols as f32).sqrt() / (rank as f32).sqrt();
        let a = (0..rank * cols).map(|_| random()).collect();
        let b = (0..rows * rank).map(|_| random() * by).collect();
        Pair { name: name.clone(), rank, a, b }
    };
    names.iter().map(pair).collect()
}

fn write(path: &Path, outline: &Outline, weights: impl Iterator<Item = Vec<u8>>) {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = Writer::begin(outline, file, io).expect("a sound outline");
    weights.for_each(|bytes| writer.weights(&bytes).expect("is written"));
    writer.finish();
}

fn bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Writes an adapter as llama.cpp's converter does, with an alpha of twice the rank.
pub(crate) fn write_adapter(path: &Path, arch: &str, pairs: &[Pair]) {
    let mut outline = Outline::default();
    let texts =
        [("general.architecture", arch), ("general.type", "adapter"), ("adapter.type", "lora")];
    texts.iter().for_each(|(key, text)| outline.set(key, Value::Str((*text).to_owned())));
    outline.set("adapter.lora.alpha", Value::F32(2.0 * pairs[0].rank as f32));
    for Pair { name, rank, a, b } in pairs {
        for (end, floats, cols) in [("a", a, a.len() / rank), ("b", b, *rank)] {
            let (cols, rows) = (cols as u64, (floats.len() / cols) as u64);
            let name = format!("{name}.weight.lora_{end}");
            outline.push(Planned { name, shape: vec![cols, rows], format: Format::F32 });
        }
    }
    write(path, &outline, pairs.iter().flat_map(|pair| [bytes(&pair.a), bytes(&pair.b)]));
}

/// Writes a model with an adapter of that alpha merged into it, `scale` times: what it adapts
/// becomes floats, all else stays.
pub(crate) fn write_merged(path: &Path, model: &Gguf, pairs: &[Pair], scale: f64) {
    let mut outline = Outline::like(model);
    let of = |name: &str| {
        let name = name.strip_suffix(".weight")?;
        pairs.iter().find(|pair| pair.name == name)
    };
    for info in model.tensors() {
        let format = match of(&info.name) {
            Some(_) => Format::F32,
            None => info.format.expect("is known"),
        };
        outline.push(Planned { name: info.name.clone(), shape: info.shape.clone(), format });
    }
    let weights = model.tensors().iter().map(|info| {
        let tensor = model.tensor(&info.name).expect("is there");
        match of(&info.name) {
            Some(pair) => bytes(&merged(&tensor, pair, scale)),
            None => tensor.bytes.to_vec(),
        }
    });
    write(path, &outline, weights);
}

fn merged(tensor: &Tensor, pair: &Pair, scale: f64) -> Vec<f32> {
    let Tensor { format, rows, cols, bytes } = tensor;
    let mut weights = vec![0.0; rows * cols];
    format.unpack(bytes, &mut weights);
    for (row, weights) in weights.chunks_exact_mut(*cols).enumerate() {
        let mut added = vec![0.0f64; *cols];
        for k in 0..pair.rank {
            let b = f64::from(pair.b[row * pair.rank + k]);
            let a = &pair.a[k * cols..(k + 1) * cols];
            added.iter_mut().zip(a).for_each(|(sum, a)| *sum += b * f64::from(*a));
        }
        for (weight, added) in weights.iter_mut().zip(added) {
            *weight = (f64::from(*weight) + 2.0 * scale * added) as f32;
        }
    }
    weights
}
