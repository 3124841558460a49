//! What is recorded of each architecture, held against the costs of its ops.

use ingle_backend::cpu::Cpu;
use ingle_backend::cpu::kernels::Kernels;
use ingle_backend::{Batch, Op, Role, Sample, Span};
use ingle_model::archs::record;
use ingle_model::gguf::Gguf;
use std::path::Path;

/// A step of so many tokens, in their places.
fn step(tokens: u32) -> Batch {
    let span = Span {
        tokens: (0..tokens).collect(),
        blocks: (0..tokens.div_ceil(16)).collect(),
        sample: Sample::Last,
        ..Span::default()
    };
    Batch { spans: vec![span] }
}

/// One token reads the matrices that are told, and of experts only its own; many read them all.
#[test]
fn a_token_reads_what_is_told() {
    let check = |name: &str, experts: Option<(u64, u64)>| {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden/archs");
        let file = Gguf::open(&golden.join(format!("{name}.gguf"))).expect("a sound file");
        let mut cpu = Cpu::new(Kernels::best(), 1);
        let network = record(&file, &mut cpu, None).expect("a known architecture");
        let shapes = cpu.shapes();
        let read = |tokens| {
            let cost = |op: &Op| op.cost(&shapes, &step(tokens)).matrix_bytes;
            network.graph.ops.iter().map(cost).sum::<u64>()
        };
        assert_eq!(read(1), network.weight_bytes as u64, "{name}");
        let of_experts = |name: &str| name.contains("_exps.weight");
        let stored = file.tensors().iter().filter(|tensor| of_experts(&tensor.name));
        let stored: u64 = stored.map(|tensor| tensor.bytes).sum();
        let (used, all) = experts.unwrap_or((1, 1));
        assert_eq!(read(500) - read(1), stored - stored * used / all, "{name}");
        let roles = network.graph.roles();
        let count = |role| roles.iter().filter(|r| **r == role).count();
        let layers = if experts.is_some() { 2 } else { 0 };
        let mixtures = [Role::Router, Role::Route, Role::Experts].map(count);
        assert_eq!(mixtures, [layers; 3], "{name}");
        assert_eq!(count(Role::Product), 0, "{name}");
    };
    check("qwen3moe", Some((2, 6)));
    check("gpt-oss", Some((3, 5)));
    for name in ["gemma2", "gemma3", "llama-rope-scaled", "phi3", "qwen2", "qwen3"] {
        check(name, None);
    }
}
