//! KV blocks go out and come back as bytes: the same ones, and nobody else's.

use ingle_backend::cpu::Cpu;
use ingle_backend::cpu::kernels::Kernels;
use ingle_backend::{BLOCK_TOKENS, Backend, Graph, Pages};

/// A backend with two layers of their own widths and so many blocks.
fn backend(blocks: usize) -> Cpu {
    let mut cpu = Cpu::new(Kernels::best(), 1);
    cpu.cache(1, 32);
    cpu.cache(3, 64);
    let pages = Pages { block_tokens: BLOCK_TOKENS, blocks };
    cpu.prepare(&Graph::default(), pages, &mut |_| {}).expect("fits");
    cpu
}

fn saved(cpu: &Cpu, block: u32) -> Vec<u8> {
    let mut bytes = vec![1, 2, 3];
    cpu.save(block, &mut bytes);
    assert_eq!(bytes[..3], [1, 2, 3], "appended");
    bytes.split_off(3)
}

#[test]
fn a_block_comes_back_as_it_was_and_no_other_changes() {
    let mut cpu = backend(4);
    let len = Backend::block_bytes(&cpu);
    let content = |block: u32| -> Vec<u8> {
        (0..len).map(|at| (at as u32 * 31 + at as u32 / 251 + block * 97) as u8).collect()
    };
    for block in [2, 0, 3] {
        cpu.restore(block, &content(block));
    }
    for block in [0, 2, 3] {
        assert_eq!(saved(&cpu, block), content(block), "block {block}");
    }
    assert_eq!(saved(&cpu, 1), vec![0; len], "a block that nobody wrote");
    cpu.restore(2, &content(3));
    assert_eq!(saved(&cpu, 2), content(3));
    assert_eq!(saved(&cpu, 3), content(3));
    assert_eq!(saved(&backend(1), 0).len(), len, "whatever the number of blocks");
}

#[test]
#[should_panic(expected = "another model's block")]
fn another_size_is_no_block() {
    let mut cpu = backend(1);
    let short = vec![0; Backend::block_bytes(&cpu) - 1];
    cpu.restore(0, &short);
}
