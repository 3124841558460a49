//! What is told of a model before it is loaded is what loading then takes.

use ingle_backend::cpu::Cpu;
use ingle_backend::cpu::kernels::KERNELS;
use ingle_backend::{BLOCK_TOKENS, Backend, Pages};
use ingle_engine::{Footprint, Local, Options};
use ingle_model::gguf::Gguf;
use std::path::PathBuf;

fn golden() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/archs");
    let files = std::fs::read_dir(folder).expect("is there").flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|end| end == "gguf")).collect()
}

#[test]
fn the_forecast_comes_true() {
    const BLOCKS: usize = 7;
    for path in golden() {
        for kernels in KERNELS.iter().filter(|row| row.runs_here()) {
            let gguf = Gguf::open(&path).expect("is a model");
            let mut cpu = Cpu::new(kernels, 1);
            let network = ingle_model::archs::record(&gguf, &mut cpu, None).expect("is known");
            let forecast = cpu.forecast(&network.graph, BLOCKS, 32, 4);
            let pages = Pages { block_tokens: BLOCK_TOKENS, blocks: BLOCKS };
            cpu.prepare(&network.graph, pages, &mut |_| {}).expect("fits");
            let shapes = cpu.shapes();
            let held = |weight: &ingle_backend::WeightShape| {
                let floats = if weight.rows == 1 { weight.cols * size_of::<f32>() } else { 0 };
                weight.held + floats
            };
            let weights: usize = shapes.weights.iter().map(held).sum();
            let cache = cpu.block_bytes() * BLOCKS;
            let mut block = Vec::new();
            cpu.save(0, &mut block);
            assert_eq!(block.len(), cpu.block_bytes(), "{}", path.display());
            let name = (path.display(), kernels.name);
            assert_eq!(forecast.weights, weights as u64, "{name:?}");
            assert_eq!(forecast.cache, cache as u64, "{name:?}");
            assert!(forecast.activations > 0, "{name:?}");
        }
    }
}

#[test]
fn a_footprint_is_what_is_loaded() {
    let options = Options { kv_bytes: Some(1 << 20), threads: Some(1), ..Options::default() };
    for path in golden() {
        let footprint = Footprint::of(&path, &options).expect("is a model");
        let local = Local::open("x", &path, &options, &mut |_| {}).expect("loads");
        let info = local.info();
        assert_eq!(
            (&footprint.architecture, footprint.context, footprint.chat),
            (&info.architecture, info.context, local.chats())
        );
        assert!(footprint.memory.total() > info.weight_bytes as u64);
    }
    let nothing = Footprint::of(&PathBuf::from("/nowhere.gguf"), &options);
    assert!(nothing.expect_err("is not there").message.contains("nowhere"));
}
