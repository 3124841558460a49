//! Hyperparameters and tensors that no sound model has: each is refused by name, or harmless and
//! then run. The sound files are the tiny checkpoints that the engine's tests have gold of.

mod writer;

use std::collections::BTreeMap;
use std::path::Path;

use ingle_backend::cpu::Cpu;
use ingle_backend::cpu::kernels::{KERNELS, Kernels};
use ingle_backend::{BLOCK_TOKENS, Backend, Batch, Bytes, Pages, Sample, Span};
use ingle_model::archs::record;
use ingle_model::gguf::{Gguf, Value};
use writer::Writer;

const ARCHS: [&str; 8] =
    ["gemma2", "gemma3", "gpt-oss", "llama-rope-scaled", "phi3", "qwen2", "qwen3", "qwen3moe"];
/// Those with a mixture of experts, and how many of them there are.
const MIXTURES: [(&str, u32); 2] = [("gpt-oss", 5), ("qwen3moe", 6)];

/// A tensor: GGUF's shape, type and bytes.
type Stored = (Vec<u64>, u32, Vec<u8>);

/// A model file taken apart, to be put together again with something wrong in it.
#[derive(Clone)]
struct Parts {
    arch: String,
    /// The architecture's own scalars.
    keys: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Stored>,
}

impl Parts {
    fn of(name: &str) -> Self {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden/archs");
        let file = Gguf::open(&golden.join(format!("{name}.gguf"))).expect("a sound file");
        let own = |key: &str| key.strip_prefix(file.arch()).is_some_and(|k| k.starts_with('.'));
        let keys = file.metadata().filter(|(key, _)| own(key));
        let tensor = |name: &str| file.tensor(name).expect("a sound tensor").bytes.to_vec();
        let tensors = file.tensors().iter().map(|info| {
            (info.name.clone(), (info.shape.clone(), info.ggml_type, tensor(&info.name)))
        });
        Self {
            arch: file.arch().to_owned(),
            keys: keys.map(|(key, value)| (key.to_owned(), value.clone())).collect(),
            tensors: tensors.collect(),
        }
    }

    /// The key of that suffix set to a value; to nothing, without one.
    fn set(&self, suffix: &str, value: Option<Value>) -> Self {
        let (mut parts, key) = (self.clone(), format!("{}.{suffix}", self.arch));
        match value {
            Some(value) => parts.keys.insert(key, value),
            None => parts.keys.remove(&key),
        };
        parts
    }

    fn tensor(&self, name: &str, change: impl FnOnce(&mut Stored)) -> Self {
        let mut parts = self.clone();
        change(parts.tensors.get_mut(name).expect("a tensor of the checkpoint"));
        parts
    }

    /// Without the tensors that divide rope's frequencies.
    fn plainly_rotated(mut self) -> Self {
        self.tensors.retain(|name, _| !name.starts_with("rope_"));
        self
    }

    fn bytes(&self) -> Bytes {
        let mut writer = Writer::bare().string("general.architecture", &self.arch);
        for (key, value) in &self.keys {
            writer = match value {
                Value::U32(n) => writer.u32(key, *n),
                Value::I32(n) => writer.entry(key, 5, &n.to_le_bytes()),
                Value::U64(n) => writer.entry(key, 10, &n.to_le_bytes()),
                Value::F32(x) => writer.f32(key, *x),
                Value::F64(x) => writer.entry(key, 12, &x.to_le_bytes()),
                Value::Str(text) => writer.string(key, text),
                Value::Bool(yes) => writer.entry(key, 7, &[u8::from(*yes)]),
                other => panic!("{key} is {other:?}"),
            };
        }
        for (name, (shape, kind, bytes)) in &self.tensors {
            writer = writer.tensor(name, shape, *kind, bytes);
        }
        Bytes::from(writer.bytes())
    }
}

fn load(parts: &Parts, kernels: &'static Kernels) -> Result<(), String> {
    logits(parts, kernels).map(drop)
}

/// Loads and computes a step of two sequences; tells why not, if it may not be.
fn logits(parts: &Parts, kernels: &'static Kernels) -> Result<Vec<f32>, String> {
    let file = Gguf::from_bytes(parts.bytes()).map_err(|error| error.to_string())?;
    let mut cpu = Cpu::new(kernels, 1);
    let network = record(&file, &mut cpu, None).map_err(|error| error.to_string())?;
    let pages = Pages { block_tokens: BLOCK_TOKENS, blocks: 4 };
    cpu.prepare(&network.graph, pages, &mut |_| {}).map_err(|refusal| refusal.to_string())?;
    let last = network.vocabulary as u32 - 1;
    let spans = vec![
        Span {
            start: 0,
            tokens: vec![last; 19],
            blocks: vec![2, 0],
            sample: Sample::Last,
            ..Span::default()
        },
        Span {
            start: 0,
            tokens: vec![0, 1],
            blocks: vec![3],
            sample: Sample::All,
            ..Span::default()
        },
    ];
    let ticket = cpu.submit(&network.graph, &Batch { spans });
    let logits = cpu.poll(ticket).expect("the step is over when it was submitted");
    assert_eq!(logits.len(), 3 * network.vocabulary);
    Ok(logits.to_vec())
}

fn best() -> &'static Kernels {
    Kernels::best()
}

#[track_caller]
fn refused(parts: &Parts, words: &str) {
    match load(parts, best()) {
        Ok(()) => panic!("accepted, where `{words}` was expected"),
        Err(message) => assert!(message.contains(words), "`{message}` without `{words}`"),
    }
}

#[test]
fn the_checkpoints_themselves_run() {
    for arch in ARCHS {
        for kernels in KERNELS.iter().filter(|row| row.runs_here()) {
            assert_eq!(load(&Parts::of(arch), kernels), Ok(()), "{arch} on {}", kernels.name);
        }
    }
}

#[test]
fn absurd_sizes_are_refused_by_name() {
    let huge = [Value::U32(0), Value::U32((1 << 24) + 1), Value::U64(u64::MAX), Value::I32(-1)];
    for arch in ARCHS {
        let parts = Parts::of(arch);
        for suffix in [
            "block_count",
            "context_length",
            "embedding_length",
            "feed_forward_length",
            "attention.head_count",
            "attention.head_count_kv",
            "attention.key_length",
            "attention.value_length",
        ] {
            for value in &huge {
                refused(&parts.set(suffix, Some(value.clone())), suffix);
            }
            refused(&parts.set(suffix, Some(Value::Str("8".into()))), suffix);
        }
        for suffix in ["block_count", "context_length", "embedding_length", "feed_forward_length"] {
            refused(&parts.set(suffix, None), suffix);
        }
    }
}

#[test]
fn sizes_that_contradict_each_other_are_refused() {
    for arch in ARCHS {
        let parts = Parts::of(arch);
        let with = |suffix: &str, n: u32| parts.set(suffix, Some(Value::U32(n)));
        refused(&with("block_count", 1 << 24), "the model file lacks tensor blk.");
        refused(&with("embedding_length", 1 << 24), "at most 262144");
        refused(&with("feed_forward_length", 1 << 24), "at most 262144");
        refused(&with("attention.head_count", 1 << 24), "head");
        refused(&with("attention.head_count_kv", 3), "over 3 KV heads");
        refused(&with("attention.key_length", 5), "floats");
        refused(&with("attention.value_length", 2), "values of 2 floats");
        refused(&with("rope.dimension_count", 0), "rope.dimension_count is 0");
        refused(&with("rope.dimension_count", 3), "rope.dimension_count is 3");
        refused(&with("rope.dimension_count", 1 << 20), "rope.dimension_count is 1048576");
        let more_heads = with("attention.head_count", 1 << 16);
        let more_heads = more_heads.set("attention.key_length", None);
        refused(&more_heads.set("attention.value_length", None), "of 0 floats");
    }
}

#[test]
fn numbers_that_are_none_are_refused() {
    let eps = "attention.layer_norm_rms_epsilon";
    for arch in ARCHS {
        let parts = Parts::of(arch).plainly_rotated();
        let with = |suffix: &str, x: f64| parts.set(suffix, Some(Value::F64(x)));
        for x in [f64::NAN, f64::INFINITY, -1e-6, 1e300] {
            refused(&with(eps, x), eps);
        }
        for x in [f64::NAN, f64::NEG_INFINITY, 0.0, -10_000.0, 1.0] {
            refused(&with("rope.freq_base", x), "rope.freq_base");
        }
        let scaled = |kind: &str, factor: f64, trained: f64| {
            with("rope.scaling.factor", factor)
                .set("rope.scaling.type", Some(Value::Str(kind.into())))
                .set("rope.scaling.original_context_length", Some(Value::F64(trained)))
        };
        refused(&scaled("linear", 0.0, 1.0), "scaling factor of 0");
        refused(&scaled("linear", 1e-320, 1.0), "infinite angles");
        refused(&scaled("yarn", f64::NAN, 1.0), "rope.scaling.factor");
        for trained in [-1.0, 0.0] {
            refused(&scaled("yarn", 2.0, trained), "original_context_length is");
        }
        refused(&scaled("a-new-one", 2.0, 1.0), "a-new-one");
        let trained = "rope.scaling.original_context_length";
        refused(&scaled("yarn", 2.0, 64.0).set(trained, None), trained);
        assert_eq!(load(&with(eps, 0.0), best()), Ok(()), "nothing is divided by it");
        assert_eq!(load(&scaled("yarn", 2.0, 64.0), best()), Ok(()));
    }
}

#[test]
fn tensors_of_another_shape_are_refused_by_name() {
    for arch in ARCHS {
        let parts = Parts::of(arch);
        for name in parts.tensors.keys().filter(|name| !name.starts_with("blk.1")) {
            let transposed = |stored: &mut Stored| stored.0.reverse();
            let longer = |stored: &mut Stored| {
                stored.0[0] *= 2;
                stored.2.extend_from_within(..);
            };
            let (rows, cols) = (parts.tensors[name].0.get(1), parts.tensors[name].0[0]);
            if rows.is_some_and(|rows| *rows != cols) && name != "token_embd.weight" {
                refused(&parts.tensor(name, transposed), name);
            }
            let all = if name == "token_embd.weight" { "rows of" } else { name };
            refused(&parts.tensor(name, longer), all);
            let mut without = parts.clone();
            without.tensors.remove(name);
            let outcome = load(&without, best());
            let spare = ["output.weight", "rope_freqs.weight"].contains(&&**name)
                || (["qwen2", "gpt-oss"].contains(&arch) && name.ends_with(".bias"));
            match outcome {
                Ok(()) => assert!(spare, "{arch} runs without {name}"),
                Err(message) => assert!(message.contains(name), "`{message}` without `{name}`"),
            }
        }
    }
}

/// A file may hold any bits. Answers from them mean nothing, but nothing else may happen.
#[test]
fn weights_that_are_no_numbers_only_spoil_the_answer() {
    for arch in ARCHS {
        for bits in [0xff, 0x7f, 0x00] {
            let mut parts = Parts::of(arch).plainly_rotated();
            for stored in parts.tensors.values_mut() {
                stored.2.fill(bits);
            }
            for kernels in KERNELS.iter().filter(|row| row.runs_here()) {
                assert_eq!(load(&parts, kernels), Ok(()), "{arch} of {bits:x} on {}", kernels.name);
            }
        }
    }
    let scaled = Parts::of("llama-rope-scaled");
    let listed = Parts::of("phi3");
    for bits in [0x00, 0xff] {
        refused(&scaled.tensor("rope_freqs.weight", |s| s.2.fill(bits)), "infinite angles");
        refused(&listed.tensor("rope_factors_long.weight", |s| s.2.fill(bits)), "infinite angles");
    }
}

#[test]
fn experts_that_cannot_be_are_refused() {
    let keys = ["expert_count", "expert_used_count", "expert_feed_forward_length"];
    let absurd = [Value::U32(0), Value::U32((1 << 24) + 1), Value::U64(u64::MAX), Value::I32(-1)];
    for (arch, experts) in MIXTURES {
        let parts = Parts::of(arch);
        for suffix in keys {
            for value in &absurd {
                refused(&parts.set(suffix, Some(value.clone())), suffix);
            }
            refused(&parts.set(suffix, None), suffix);
        }
        let with = |suffix: &str, n: u32| parts.set(suffix, Some(Value::U32(n)));
        let one_more = experts + 1;
        refused(&with("expert_used_count", one_more), &format!("{one_more}, of {experts} experts"));
        refused(&with("expert_count", one_more), "blk.0.ffn_gate_inp.weight has");
        refused(&with("expert_count", 1 << 24), "at most 262144");
        refused(&with("expert_feed_forward_length", 1 << 24), "at most 262144");
        refused(&with("expert_feed_forward_length", 64), "blk.0.ffn_gate_exps.weight has");
        refused(&parts.set("expert_weights_scale", Some(Value::F32(2.5))), "only 1 is supported");
        assert_eq!(load(&with("expert_used_count", experts), best()), Ok(()), "all of them");
        assert_eq!(load(&with("expert_used_count", 1), best()), Ok(()));
    }
}

/// Gates and ups of experts may be stored as one matrix, an expert's after its gate.
#[test]
fn gates_and_ups_may_be_stored_as_one() {
    for (arch, experts) in MIXTURES {
        let apart = Parts::of(arch);
        let mut fused = apart.clone();
        let mut join = |layer: usize, kind: &str| {
            let name = |part: &str| format!("blk.{layer}.ffn_{part}_exps.{kind}");
            let Some(gate) = fused.tensors.remove(&name("gate")) else { return };
            let up = fused.tensors.remove(&name("up")).expect("beside the gate");
            let each = gate.2.len() / experts as usize;
            let both = gate.2.chunks(each).zip(up.2.chunks(each));
            let bytes = both.flat_map(|(gate, up)| [gate, up].concat()).collect();
            let mut shape = gate.0;
            let rows = shape.len() - 2;
            shape[rows] *= 2;
            fused.tensors.insert(name("gate_up"), (shape, gate.1, bytes));
        };
        for layer in 0..2 {
            join(layer, "weight");
            join(layer, "bias");
        }
        assert_ne!(fused.tensors.len(), apart.tensors.len());
        for kernels in KERNELS.iter().filter(|row| row.runs_here()) {
            let [fused, apart] = [&fused, &apart].map(|parts| logits(parts, kernels));
            assert!(fused.is_ok() && fused == apart, "{arch} on {}: {fused:?}", kernels.name);
        }
        let wide = |stored: &mut Stored| {
            stored.0[1] += 1;
            stored.2.extend_from_within(..stored.2.len() / 2);
        };
        refused(&fused.tensor("blk.1.ffn_gate_up_exps.weight", wide), "ffn_gate_up_exps.weight");
    }
}

#[test]
fn lists_of_divisors_must_be_whole() {
    let parts = Parts::of("phi3");
    for x in [f64::NAN, 0.0, -1.0, 1e30] {
        refused(&parts.set("rope.scaling.attn_factor", Some(Value::F64(x))), "attn_factor");
    }
    let trained = "rope.scaling.original_context_length";
    refused(&parts.set(trained, None), trained);
    let kind = |kind: &str| parts.set("rope.scaling.type", Some(Value::Str(kind.into())));
    refused(&kind("yarn"), "`yarn` beside");
    assert_eq!(load(&kind("longrope"), best()), Ok(()));
    let window = |n: u32| parts.set("attention.sliding_window", Some(Value::U32(n)));
    assert_eq!(load(&window(0), best()), Ok(()), "so some files say that there is none");
    assert_eq!(logits(&window(0), best()), logits(&window(1 << 20), best()));
}

#[test]
fn caps_that_cap_nothing_are_refused() {
    for (arch, suffix) in [
        ("gemma2", "attn_logit_softcapping"),
        ("gemma2", "final_logit_softcapping"),
        ("gemma3", "final_logit_softcapping"),
    ] {
        let parts = Parts::of(arch);
        let with = |x: f64| parts.set(suffix, Some(Value::F64(x)));
        for x in [f64::NAN, f64::INFINITY, -30.0, 1e-320, 1e300] {
            refused(&with(x), suffix);
        }
        assert_eq!(load(&with(0.0), best()), Ok(()), "so some files say that there is none");
        assert_ne!(logits(&with(0.5), best()), logits(&with(0.0), best()));
    }
}

/// Every key, to every value that has something about it: refused in words or run, never a panic.
#[test]
fn any_scalar_is_refused_or_run() {
    for arch in ARCHS {
        let parts = Parts::of(arch);
        let (mut run, mut refused) = (0, 0);
        for key in parts.keys.keys() {
            let suffix = &key[parts.arch.len() + 1..];
            let whole = [0, 1, 2, 3, 4, 6, 8, 16, 17, 62, 64, 1 << 18, 1 << 24, u32::MAX];
            let whole = whole.map(Value::U32);
            let real = [-1.0, 0.0, 1e-30, 0.5, 1.5, 1e30, f32::NAN, f32::INFINITY].map(Value::F32);
            for value in whole.into_iter().chain(real) {
                match load(&parts.set(suffix, Some(value)), best()) {
                    Ok(()) => run += 1,
                    Err(message) => refused += usize::from(!message.is_empty()),
                }
            }
        }
        assert!(run > 10 && refused > 100, "{arch}: {run} run, {refused} refused");
    }
}
